"""Blocks of Dask collections that the workers of a cluster hold."""

from __future__ import annotations

import operator
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
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
    run_unit,
    without_X,
)
from .rounds import Guard, LostWorkersError
from .vectors import Expression, StoredVector, Task

# Share of the memory of a cluster that X, y and the weights may take during a fit.
MAX_MEMORY_SHARE = 0.5
# Settings of dask.config, and their defaults: seconds, and a number of losses.
ROUND_TIMEOUT, MAX_RECOVERIES = ("skrobust.round-timeout", 60.0), ("skrobust.max-recoveries", 3)


class ClusterBlocks(DaskBlocks):
    """Blocks whose vectors, and X if it fits, are held by the workers of a cluster.

    After workers are lost the blocks are loaded again, and the vectors in use are computed
    again from their recipes, so that the solver does not notice.
    """

    def __init__(
        self, arrays: dict[str, Any], n_features: int, dtype: Any, client: Any
    ) -> None:
        settings = (dask.config.get(*setting) for setting in (ROUND_TIMEOUT, MAX_RECOVERIES))
        losses = distributed.CancelledError, distributed.KilledWorker, CommClosedError
        self._client, self._guard = client, Guard(client, losses, *settings)
        # Handles to X in each unit, or None if it is loaded in each round.
        self._X: list[Any] | None = None
        self._holds_X: bool | None = None
        super().__init__(arrays, n_features, dtype)

    def _load(self) -> None:
        try:
            self._guarded(self._load_once)
        except BaseException:
            self.close()
            raise

    def _guarded(self, action: Callable[[], Any]) -> Any:
        """Return the result of an action, which is repeated after workers are lost."""
        while True:
            try:
                return action()
            except LostWorkersError as error:
                self._guard.count_loss(error, self._is_scattered())

    def _is_scattered(self) -> bool:
        """Tell whether data of the caller were lost that have no recipe."""
        futures = [f for array in self._arrays.values() for f in distributed.futures_of(array)]
        return any(future.cancelled() for future in futures)

    def _load_once(self) -> None:
        client, present = self._client, self._guard.workers()
        if self._holds_X is None:
            self._holds_X = self._fits_into_memory(present)
        blocks = self._prepared()
        if not self._holds_X:
            blocks = [delayed(without_X, pure=False)(block) for block in blocks]
        self.n_rounds += 1
        # One call, so that what X and y share is loaded once.
        held = [distributed.futures_of(block)[0] for block in client.persist(blocks)]
        summaries = self._results(client.map(operator.itemgetter(0), held, pure=False), present)
        self._adopt_all(summaries)
        held = [held[number] for number in self.numbers]
        if self._holds_X:
            self._units = [Opaque(unit) for unit in self._by_worker(held)]
        unit_blocks = [[held[k] for k in unit.value.numbers] for unit in self._units]
        self._blocks = [client.submit(blocks_of_unit, part, pure=False) for part in unit_blocks]
        self._X = self._column("X") if self._holds_X else None
        self._set_given(self._column)

    def _column(self, field: str, j: int | None = None) -> list[Any]:
        submit = self._client.submit
        return [submit(column_of, blocks, field, j, pure=False) for blocks in self._blocks]

    def _by_worker(self, held: list[Any]) -> list[Unit]:
        """Return units of blocks that the same worker has, one for each of its threads."""
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
        """Tell whether the data take at most half of the memory of the workers."""
        limits = memory_limits(self._client)
        if not all(limits):
            return True
        n_bytes = float(sum(array.nbytes for array in self._arrays.values()))
        if np.isnan(n_bytes):
            self.n_rounds += 1
            length = delayed(len, pure=False)
            futures = self._client.compute([length(block) for block in self._delayed[0]])
            n_columns = self._n_features + 2.0
            n_bytes = sum(self._results(futures, present)) * n_columns * self._X_dtype.itemsize
        return n_bytes <= MAX_MEMORY_SHARE * sum(limits)

    def _results(self, futures: list[Any], present: set[str]) -> list[Any]:
        try:
            return self._guard.results(futures, present)
        except BaseException:
            for future in futures:
                future.release()
            raise

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
        try:
            return self._round(call, stored, with_X)
        except LostWorkersError as error:
            self._guard.count_loss(error, self._is_scattered())
        again: tuple[list[Any], Any] = self._guarded(
            lambda: self._round_after_loss(call, stored, with_X)
        )
        return again

    def _round_after_loss(
        self, call: Opaque, stored: Sequence[StoredVector], with_X: bool
    ) -> tuple[list[Any], Any]:
        self._load_once()
        for vector in sorted(self.live, key=lambda vector: vector.number):
            if vector.recipe is not None:
                task, parents, expressions, arguments = vector.recipe
                again = Opaque(Call(task, expressions, arguments, True))
                vector.parts = self._round(again, parents, True)[1]
        return self._round(call, stored, with_X)

    def _round(
        self, call: Opaque, stored: Sequence[StoredVector], with_X: bool
    ) -> tuple[list[Any], Any]:
        client, present = self._client, self._guard.workers()
        if with_X and self._X is None:
            found = client.compute(self._tasks(call, stored, with_X))
        else:
            name = f"skrobust-{call.value.task.__name__.strip('_')}-{uuid.uuid4().hex}"
            found = [
                client.submit(
                    run_unit,
                    call,
                    unit,
                    self._X[u] if with_X and self._X is not None else None,
                    *(vector.parts[u] for vector in stored),
                    pure=False,
                    key=f"{name}-{u}",
                )
                for u, unit in enumerate(self._units)
            ]
        kept = None
        if call.value.keep:
            kept = client.map(operator.itemgetter(1), found, pure=False)
        found = self._results(client.map(operator.itemgetter(0), found, pure=False), present)
        results: list[Any] = [None] * len(self.sizes)
        for unit, part in zip(self._units, found, strict=True):
            for number, result in zip(unit.value.numbers, part, strict=True):
                results[number] = result
        return results, kept

    def close(self) -> None:
        handles = [*self._blocks, *(self._X or [])]
        for vector in self.live:
            handles += vector.parts
        for future in handles:
            future.release()
        self.live.clear()


def memory_limits(client: Any) -> list[int]:
    """Return the memory limits of the workers in bytes, 0 where there is none."""
    try:
        info = client.scheduler_info(n_workers=-1)
    except TypeError:
        # Older versions return all workers.
        info = client.scheduler_info()
    return [worker["memory_limit"] or 0 for worker in info["workers"].values()]
