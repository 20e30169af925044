"""Blocks of Dask collections held by the workers of a cluster."""

from __future__ import annotations

import asyncio
import operator
import uuid
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import dask
import distributed
import numpy as np
from dask.delayed import delayed
from distributed.comm import CommClosedError

from .dask_blocks import (
    Call,
    DaskBlocks,
    Opaque,
    Unit,
    blocks_of_unit,
    column_of,
    rows_and_elements,
    run_unit,
    without_X,
)
from .rounds import Guard, LostWorkersError
from .vectors import Expression, StoredVector, Task

# The workers hold X during a fit if X, y and the weights take at most this fraction of the
# workers' memory.
MAX_MEMORY_SHARE = 0.5
# Dask configuration keys and default values for the parameters `timeout` and `max_recoveries`
# of `Guard`.
ROUND_TIMEOUT, MAX_RECOVERIES = ("skrobust.round-timeout", 60.0), ("skrobust.max-recoveries", 3)


class ClusterBlocks(DaskBlocks):
    """Blocks whose vectors are held by the workers of a cluster.

    The workers also hold X if the data fit into their memory. If workers are lost, the blocks
    are loaded again and the vectors in use are recomputed by the tasks that produced them,
    which does not change the results of the fit.
    """

    def __init__(
        self, arrays: dict[str, Any], n_features: int, dtype: Any, client: Any
    ) -> None:
        settings = (dask.config.get(*setting) for setting in (ROUND_TIMEOUT, MAX_RECOVERIES))
        losses = distributed.CancelledError, distributed.KilledWorker, CommClosedError
        self._client, self._guard = client, Guard(client, losses, *settings)
        # The futures of the fit. They are released explicitly at the end of the fit because the
        # traceback of an exception could keep them alive.
        self._futures: weakref.WeakSet[Any] = weakref.WeakSet()
        self._is_loaded = False
        # Futures of the blocks of X in each unit, or None if each round of tasks that uses X
        # loads X again.
        self._X: list[Any] | None = None
        super().__init__(arrays, n_features, dtype)

    def _load(self) -> None:
        try:
            self._guarded(lambda: None)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        _release(self._futures)
        super().close()
        self._X = None

    def execute(
        self,
        task: Task,
        stored: Sequence[StoredVector],
        expressions: Sequence[Expression],
        arguments: tuple[Any, ...],
        *,
        with_X: bool,
        keep: bool,
    ) -> tuple[list[Any], Any]:
        call = Opaque(Call(task, expressions, arguments, keep))
        found: tuple[list[Any], Any] = self._guarded(lambda: self._round(call, stored, with_X))
        return found

    # Lost workers

    def _guarded(self, action: Callable[[], Any]) -> Any:
        """Return action(); if workers are lost, load the data again and repeat the call."""
        while True:
            try:
                if not self._is_loaded:
                    self._load_all()
                    self._is_loaded = True
                return action()
            except LostWorkersError as error:
                self._is_loaded = False
                self._guard.count_loss(error, self._lost_without_recipe())
            except OSError:
                # This call raises a RuntimeError if the scheduler is lost.
                self._guard.workers()
                raise

    def _lost_without_recipe(self) -> bool:
        """Return whether any future in the caller's collections has been cancelled."""
        futures = distributed.futures_of(list(self._arrays.values()))
        return any(future.cancelled() for future in futures)

    def _load_all(self) -> None:
        """Load the blocks, and recompute the vectors in use (see `StoredVector.recipe`)."""
        self._load_blocks()
        for vector in sorted(self.live, key=lambda vector: vector.number):
            if vector.recipe is not None:
                task, parents, expressions, arguments = vector.recipe
                call = Opaque(Call(task, expressions, arguments, True))
                self.n_rounds += 1
                vector.parts = self._round(call, parents, True)[1]

    # Data on the workers

    def _load_blocks(self) -> None:
        client = self._client
        present = self._guard.await_workers()
        holds_X = self._fits_into_memory(present)
        blocks = self._prepared()
        if not holds_X:
            blocks = [delayed(without_X, pure=False)(block) for block in blocks]
        self.n_rounds += 1
        # With a single call of `persist`, data shared by X and y are loaded only once.
        blocks = client.persist(blocks)
        held = self._own(distributed.futures_of(block)[0] for block in blocks)
        summaries = client.map(operator.itemgetter(0), held, pure=False)
        self._adopt_all(self._results(summaries, present))
        held = [held[number] for number in self.numbers]
        if holds_X:
            self._units = [Opaque(unit) for unit in self._by_worker(held)]
        unit_blocks = [[held[k] for k in unit.value.numbers] for unit in self._units]
        self._blocks = self._own(
            client.submit(blocks_of_unit, part, pure=False) for part in unit_blocks
        )
        self._X = self._column("X") if holds_X else None
        self._set_given()
        if holds_X:
            # The futures of the blocks are dropped, since Dask would otherwise count the memory
            # of X twice.
            self._blocks = []

    def _column(self, field: str, j: int | None = None) -> list[Any]:
        submit = self._client.submit
        return self._own(submit(column_of, b, field, j, pure=False) for b in self._blocks)

    def _by_worker(self, held: list[Any]) -> list[Unit]:
        """Group the blocks of each worker into units, at most one per thread of the worker."""
        where, threads = self._client.who_has(held), self._client.nthreads()
        numbers = defaultdict(list)
        for k, future in enumerate(held):
            numbers[min(where.get(future.key) or ("",))].append(k)
        units = []
        for worker, of_worker in sorted(numbers.items(), key=lambda item: item[1]):
            n_units = min(len(of_worker), threads.get(worker, 1))
            units += [part.tolist() for part in np.array_split(of_worker, n_units)]
        return [Unit(part, [self.sizes[k] for k in part]) for part in units]

    def _fits_into_memory(self, present: set[str]) -> bool:
        """Return whether the data take at most MAX_MEMORY_SHARE of the workers' memory."""
        limits = memory_limits(self._client)
        return not all(limits) or self._n_bytes(present) <= MAX_MEMORY_SHARE * sum(limits)

    def _n_bytes(self, present: set[str]) -> float:
        """Return the number of bytes of X, y and the weights in the dtypes used by the fit."""
        X, *vectors = self._arrays.values()
        rows, elements = float(X.shape[0]), float(X.size)
        if np.isnan(rows) or not isinstance(X._meta, np.ndarray):
            self.n_rounds += 1
            count = delayed(rows_and_elements, pure=False)
            found = self._client.compute([count(block) for block in self._delayed[0]])
            counts = self._results(found, present)
            rows, elements = map(float, np.sum(counts, axis=0))
        n_vectors = sum(1 if v.ndim == 1 else v.shape[1] for v in vectors)
        return float(self._X_dtype.itemsize * elements + 8 * n_vectors * rows)

    # Rounds

    def _round(
        self, call: Opaque, stored: Sequence[StoredVector], with_X: bool
    ) -> tuple[list[Any], Any]:
        client, present = self._client, self._guard.workers()
        if with_X and self._X is None:
            found = self._own(client.compute(self._tasks(call, stored, with_X)))
        else:
            found = self._own(self._submitted(call, stored, self._X if with_X else None))
        small, kept = client.map(operator.itemgetter(0), found, pure=False), None
        if call.value.keep:
            # The workers extract the vectors while this process waits for the other results.
            kept = self._own(client.map(operator.itemgetter(1), found, pure=False))
        results: list[Any] = [None] * len(self.sizes)
        parts = self._results(small, present)
        for unit, part in zip(self._units, parts, strict=True):
            for number, result in zip(unit.value.numbers, part, strict=True):
                results[number] = result
        return results, kept

    def _submitted(
        self, call: Opaque, stored: Sequence[StoredVector], X: list[Any] | None
    ) -> list[Any]:
        """Submit the task of a call for each unit of blocks; return the futures."""
        name = f"skrobust-{call.value.task.__name__.strip('_')}-{uuid.uuid4().hex}"
        found = []
        for u, unit in enumerate(self._units):
            data = None if X is None else X[u], *(vector.parts[u] for vector in stored)
            key = f"{name}-{u}"
            found.append(self._client.submit(run_unit, call, unit, *data, key=key, pure=False))
        return found

    def _results(self, futures: list[Any], present: set[str]) -> list[Any]:
        """Return the results of futures and release the futures; see `Guard.result`."""
        try:
            gathering = self._client.gather(futures, asynchronous=True)
            loop = self._client.loop.asyncio_loop
            pending = asyncio.run_coroutine_threadsafe(gathering, loop)
            results: list[Any] = self._guard.result(pending, present)
            return results
        finally:
            _release(futures)

    def _own(self, futures: Iterable[Any]) -> list[Any]:
        """Return futures as a list, and register them for release at the end of the fit."""
        owned = list(futures)
        self._futures.update(owned)
        return owned


def _release(futures: Iterable[Any]) -> None:
    for future in list(futures):
        future.release()


def memory_limits(client: Any) -> list[int]:
    """Return the memory limit of each worker in bytes, or 0 for a worker without a limit."""
    try:
        info = client.scheduler_info(n_workers=-1)
    except TypeError:
        # Older versions of distributed do not have the parameter n_workers and always return
        # all workers.
        info = client.scheduler_info()
    return [worker["memory_limit"] or 0 for worker in info["workers"].values()]
