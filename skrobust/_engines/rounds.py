"""Waiting for the results of a round of tasks on a cluster, and detection of lost workers.

A cluster recomputes a lost result by running its task again, but it cancels a result that no
task produced, such as scattered data, and it waits forever if no worker is left. `Guard`
distinguishes the last two situations from a slow round. After a loss, the caller loads its data
again and repeats the round.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, wait
from typing import Any, Protocol

# Number of seconds between successive checks of the set of workers.
WAIT_SECONDS = 1.0


class Client(Protocol):
    """The part of `distributed.Client`, the connection to a cluster, that this module uses."""

    status: str

    def nthreads(self) -> dict[str, int]: ...


class LostWorkersError(Exception):
    """Raised if a round cannot end because a worker, or data held only by it, has been lost."""


class Guard:
    """Waits for the rounds of tasks of a fit, and counts losses of workers.

    Parameters
    ----------
    client : Client
        Connection to the cluster.
    losses : tuple of exception types
        Exception types that indicate the loss of a worker.
    timeout : float
        Number of seconds that a round may take after a worker has left or while there is no
        worker.
    max_recoveries : int
        Maximum number of losses of workers from which a fit recovers.
    """

    def __init__(
        self,
        client: Client,
        losses: tuple[type[BaseException], ...],
        timeout: float,
        max_recoveries: int,
    ) -> None:
        self._client, self._losses = client, losses
        self._timeout, self._max_recoveries = timeout, max_recoveries
        self._n_losses = 0
        # The addresses of all workers seen during the fit.
        self._seen: set[str] = set()

    def workers(self) -> set[str]:
        """Return the addresses of the workers.

        A RuntimeError is raised if the connection to the scheduler is lost.
        """
        cause = None
        if self._client.status == "running":
            try:
                workers = set(self._client.nthreads())
                self._seen |= workers
                return workers
            except OSError as error:
                cause = error
        raise RuntimeError(
            "The fit ended because the connection to the Dask scheduler was lost. Connect to a "
            "running scheduler and fit again."
        ) from cause

    def await_workers(self) -> set[str]:
        """Wait until there is a worker, and return the addresses of the workers.

        A RuntimeError is raised if no worker appears within the timeout.
        """
        end = time.monotonic() + self._timeout
        while not (workers := self.workers()):
            if time.monotonic() >= end:
                raise self._no_worker()
            time.sleep(WAIT_SECONDS / 10)
        return workers

    def result(self, pending: Future[Any], present: set[str]) -> Any:
        """Wait for the result of a round, and return it.

        `present` contains the addresses of the workers at the start of the round. A
        LostWorkersError is raised if the result is lost; an exception raised by a task is
        propagated unchanged. A slow round is not an error as long as no worker leaves.
        """
        since = None
        while not wait([pending], WAIT_SECONDS).done:
            workers, now = self.workers(), time.monotonic()
            if workers and present <= workers:
                since = None
            elif since is None:
                since = now
            elif now - since >= self._timeout and not workers:
                raise self._no_worker()
            elif now - since >= self._timeout:
                raise LostWorkersError("a round of tasks timed out after a worker had left")
            present = present | workers
        try:
            return pending.result()
        except self._losses as error:
            # The loss of the scheduler causes the same exceptions as the loss of a worker. In
            # this case, the call raises a RuntimeError.
            self.workers()
            raise LostWorkersError(f"{type(error).__name__}: {error}") from error

    def count_loss(self, error: LostWorkersError, without_recipe: bool) -> None:
        """Count a loss of workers, and raise a RuntimeError if the fit cannot continue."""
        self._n_losses += 1
        if without_recipe:
            raise self._ended(
                f"data were lost ({error})",
                "Some of the lost data cannot be made again because they had no recipe: they "
                "were only scattered, or they were cancelled. Load the data in tasks, for "
                "example from files or with dask.array.from_delayed, and fit again.",
            ) from error
        if self._n_losses > self._max_recoveries:
            raise self._ended(
                f"the number of interruptions ({self._n_losses}) exceeded "
                f"skrobust.max-recoveries; the last interruption was: {error}",
                "Use workers with more memory or smaller blocks of rows, and fit again.",
            ) from error

    def _no_worker(self) -> RuntimeError:
        reason = f"the Dask cluster had no worker for {self._timeout:g} seconds"
        return self._ended(reason, "Start workers and fit again.")

    def _ended(self, reason: str, advice: str) -> RuntimeError:
        workers = self.workers()
        return RuntimeError(
            f"The fit ended because {reason}. Workers lost during the fit: "
            f"{len(self._seen - workers)} of {len(self._seen)}; workers left: {len(workers)}. "
            f"{advice} The limits in the Dask configuration are skrobust.max-recoveries="
            f"{self._max_recoveries} and skrobust.round-timeout={self._timeout:g} (seconds)."
        )
