"""Rounds on a cluster: waiting for tasks, and what happens when workers are lost.

A cluster makes lost results again from their recipes, but it waits for ever where no worker is
left, and it cancels results that have no recipe. `Guard` tells such a loss from a round that is
slow. The caller then loads its data again and repeats the round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol

# Seconds of one wait, after which the set of workers is looked at.
WAIT_SECONDS = 1.0


class Future(Protocol):
    """The result of a task on a cluster; that of `distributed`."""

    status: str

    def result(self, timeout: float) -> Any: ...


class Client(Protocol):
    """The connection to a cluster; that of `distributed`."""

    status: str

    def nthreads(self) -> dict[str, int]: ...


class LostWorkersError(Exception):
    """A round cannot end, because a worker or what only that worker had is lost."""


class Guard:
    """Waits for rounds, and counts losses.

    Parameters
    ----------
    client : Client
    losses : tuple of exception types
        Exceptions of a future that mean that a worker was lost.
    timeout : float
        Seconds that a round may take after a worker has left, or without any worker.
    max_recoveries : int
        Number of losses after which a fit ends.
    """

    def __init__(
        self,
        client: Client,
        losses: tuple[type[BaseException], ...],
        timeout: float,
        max_recoveries: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._losses, self._clock = client, losses, clock
        self._timeout, self._max_recoveries = timeout, max_recoveries
        self._n_losses = self._n_left = 0

    def workers(self) -> set[str]:
        """Return the addresses of the workers."""
        self._check_connection()
        return set(self._client.nthreads())

    def results(self, futures: Sequence[Future], present: set[str]) -> list[Any]:
        """Return the results of futures that were submitted when some workers were present.

        A LostWorkersError is raised if they cannot be had. Any exception of a task is raised
        unchanged.
        """
        left_since = None if present else self._clock()
        left: set[str] = set()
        found = []
        for future in futures:
            while True:
                try:
                    # The transfer of a result may take longer than a look at the workers.
                    done = future.status == "finished"
                    seconds = max(WAIT_SECONDS, self._timeout) if done else WAIT_SECONDS
                    found.append(future.result(timeout=seconds))
                    break
                except self._losses as error:
                    self._check_connection()
                    raise LostWorkersError(str(error) or type(error).__name__) from error
                except TimeoutError:
                    if future.status == "error":
                        raise
                now = self.workers()
                left |= present - now
                present |= now
                if (left or not now) and left_since is None:
                    left_since = self._clock()
                elif now and not left:
                    left_since = None
                if left_since is not None and self._clock() - left_since > self._timeout:
                    self._n_left += len(left)
                    raise LostWorkersError(f"{len(left)} of {len(present)} workers left")
        return found

    def count_loss(self, error: LostWorkersError, scattered: bool) -> None:
        """Allow another attempt, or raise a RuntimeError after too many losses."""
        self._n_losses += 1
        n_workers = len(self.workers())
        if self._n_losses <= self._max_recoveries and n_workers:
            return
        advice = "Start more workers or workers with more memory, and fit again."
        if scattered:
            advice = (
                "The data were only scattered: they have no recipe and cannot be made again. "
                "Load them in tasks, for example with dask.array.from_delayed or from files."
            )
        raise RuntimeError(
            f"The fit ended because workers were lost {self._n_losses} time(s) (the last time: "
            f"{error}); {n_workers} worker(s) are left. {advice} The settings are "
            f"skrobust.max-recoveries={self._max_recoveries} and "
            f"skrobust.round-timeout={self._timeout:g} seconds of dask.config."
        ) from error

    def _check_connection(self) -> None:
        if self._client.status != "running":
            self._scheduler_lost()

    def _scheduler_lost(self) -> NoReturn:
        raise RuntimeError(
            "The fit ended because the connection to the Dask scheduler was lost. Connect to a "
            "running scheduler and fit again."
        )
