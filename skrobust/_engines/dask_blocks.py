"""Blocks of Dask arrays, with the schedulers of this process.

A round is a task for each block, which loads the block and discards it. `cluster` is for the
workers of a cluster, which hold X during a fit if it is not too large: a round is then a task
for each thread of a worker, on the blocks that the worker has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import dask
import numpy as np
from dask.base import get_scheduler
from dask.delayed import delayed
from scipy.sparse import issparse

from .block_data import (
    CheckedBlocks,
    PreparedBlock,
    UnreadRows,
    as_matrix,
    prepare,
    unequal_rows,
)
from .vectors import Block, Expression, StoredVector, Task, run_task

# Tasks -----------------------------------------------------------------------------------


class Opaque:
    """An argument of a task that Dask does not search for collections."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Unit(NamedTuple):
    """The blocks of a task: their numbers and rows."""

    numbers: list[int]
    sizes: list[int]


class Call(NamedTuple):
    """A task on blocks, and its arguments besides X and the stored vectors."""

    task: Task
    expressions: Sequence[Expression]
    arguments: tuple[Any, ...]
    keep: bool


def run_unit(call: Opaque, unit: Opaque, X: list[Any] | None, *stored: Any) -> Any:
    """Run a task for the blocks of a unit; return results and, if it keeps them, vectors."""
    task, expressions, arguments, keep = call.value
    vectors = [parts.value if isinstance(parts, Opaque) else parts for parts in stored]
    found = []
    for k, (number, n) in enumerate(zip(*unit.value, strict=True)):
        block = Block(None if X is None else X[k], number, n)
        values = [parts[k] for parts in vectors]
        found.append(run_task(task, block, values, expressions, arguments))
    if not keep:
        return found, None
    return [small for small, _ in found], [kept for _, kept in found]


def load(
    number: int, X: Any, prepared: Any, n_features: int, dtype: Any, is_sparse: bool
) -> list[Any]:
    """Return the used rows of a block whose vectors are held."""
    (held,) = prepared.value if isinstance(prepared, Opaque) else prepared
    X = as_matrix(X, dtype)
    n = held.targets[0].size if held.kept is None else held.kept.size
    if X.shape[0] != n:
        raise unequal_rows(number, X.shape[0], "y", n)
    if X.shape[1] != n_features:
        raise ValueError(
            f"Block {number} of X has {X.shape[1]} columns, but X has {n_features} features."
        )
    if issparse(X) and not is_sparse:
        # Dask has described the blocks as dense.
        X = X.toarray()
    return [X if held.kept is None else X[held.kept]]


def rows_and_elements(X: Any) -> tuple[int, int]:
    """Return the number of rows, and of numbers that are stored."""
    return X.shape[0], 2 * X.nnz if issparse(X) else X.size


def without_X(prepared: tuple[Any, PreparedBlock | None]) -> tuple[Any, PreparedBlock | None]:
    summary, block = prepared
    return summary, None if block is None else block._replace(X=None)


def blocks_of_unit(prepared: list[tuple[Any, PreparedBlock]]) -> list[PreparedBlock]:
    return [block for _, block in prepared]


def column_of(blocks: list[PreparedBlock], field: str, j: int | None = None) -> list[Any]:
    """Return a field of each block, or an element of it."""
    values = [getattr(block, field) for block in blocks]
    return values if j is None else [value[j] for value in values]


# Blocks ----------------------------------------------------------------------------------


def current_client() -> Any:
    """Return the client of `distributed` that Dask would compute with, or None."""
    client = getattr(get_scheduler(), "__self__", None)
    return client if hasattr(client, "scheduler_info") else None


class DaskBlocks(CheckedBlocks):
    """Blocks of Dask arrays, whose vectors are in this process and whose X is not."""

    def __init__(self, arrays: dict[str, Any], n_features: int, dtype: Any) -> None:
        super().__init__()
        self._arrays, self._n_features, self._X_dtype = arrays, n_features, np.dtype(dtype)
        # The optimisation of the graphs would separate the tasks that X and y share.
        self._delayed = [
            array.to_delayed(optimize_graph=False).ravel() for array in arrays.values()
        ]
        self._blocks: list[Any] = []
        self._load()

    def _prepared(self, X: list[Any] | None = None) -> list[Any]:
        """Return delayed results of `prepare` for each block, given the blocks of X."""
        make = delayed(prepare, pure=False)
        X = self._delayed[0] if X is None else X
        return [
            make(self._X_dtype, *block) for block in zip(X, *self._delayed[1:], strict=True)
        ]

    def _load(self) -> None:
        unread = self._unread()
        prepared = self._prepare_vectors(unread)
        if unread and any(summary.n_rows < summary.lengths[0] for summary, _ in prepared):
            # The features of rows of weight zero are checked.
            prepared = self._prepare_vectors(None)
        self._adopt_all([summary for summary, _ in prepared])
        self._blocks = [Opaque([prepared[k][1]]) for k in self.numbers]
        self._set_given()

    def _prepare_vectors(self, X: list[Any] | None) -> Any:
        self.n_rounds += 1
        short = delayed(without_X, pure=False)
        return dask.compute(*(short(block) for block in self._prepared(X)))

    def _unread(self) -> list[Any] | None:
        """Return the shapes of the blocks of X if they are known and dense, otherwise None.

        X is then not read to check y and the weights.
        """
        X = self._arrays["X"]
        if np.isnan(X.chunks[0]).any() or issparse(X._meta):
            return None
        rows = delayed(UnreadRows, pure=False)
        return [rows(n, self._n_features) for n in X.chunks[0]]

    def _column(self, field: str, j: int | None = None) -> list[Any]:
        """Return handles to a vector of y or to the weights, for each unit."""
        return [Opaque(column_of(block.value, field, j)) for block in self._blocks]

    def _set_given(self) -> None:
        targets = [self._column("targets", j) for j in range(len(self.target_figures))]
        weight = self._column("weight") if "sample_weight" in self._arrays else None
        self.set_vectors(targets, weight)

    def _adopt_all(self, summaries: list[Any]) -> None:
        self.adopt(summaries, self._n_features, self._X_dtype)
        self._units = [Opaque(Unit([k], [n])) for k, n in enumerate(self.sizes)]

    def close(self) -> None:
        """Release the data; blocks and vectors refer to each other and live a little longer."""
        self._arrays, self._delayed, self._blocks, self.gathered = {}, [], [], None
        for vector in self.live:
            vector.parts = None

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
        found = dask.compute(*self._tasks(call, stored, with_X))
        kept = [Opaque(parts) for _, parts in found] if keep else None
        return [small for smalls, _ in found for small in smalls], kept

    def _tasks(self, call: Opaque, stored: Sequence[StoredVector], with_X: bool) -> list[Any]:
        """Return a delayed task for each block, which loads the block if it needs X."""
        read, run = delayed(load, pure=False), delayed(run_unit, pure=False)
        tasks = []
        for k, (unit, number) in enumerate(zip(self._units, self.numbers, strict=True)):
            X = None
            if with_X:
                given = number, self._delayed[0][number], self._blocks[k]
                X = read(*given, self._n_features, self._X_dtype, self.is_sparse)
            tasks.append(run(call, unit, X, *(vector.parts[k] for vector in stored)))
        return tasks
