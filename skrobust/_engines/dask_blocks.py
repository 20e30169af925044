"""Blocks of Dask arrays computed by a scheduler in this process.

In each round of tasks that uses X, one task per block loads the block of X and discards it
afterwards. On a cluster, the `cluster` module is used instead: if the workers have enough
memory, they hold X during a fit, and a round has at most one task per worker thread, which
processes blocks held by that worker.
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
    """A task argument that Dask does not search for collections."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Unit(NamedTuple):
    """The index and number of rows of each block that a task processes."""

    numbers: list[int]
    sizes: list[int]


class Call(NamedTuple):
    """A task on blocks, with its arguments other than X and the vectors.

    If `keep` is True, the task also returns a vector, which is stored.
    """

    task: Task
    expressions: Sequence[Expression]
    arguments: tuple[Any, ...]
    keep: bool


def run_unit(call: Opaque, unit: Opaque, X: list[Any] | None, *stored: Any) -> Any:
    """Run the task of a call on each block of a unit.

    Returns the results for the blocks and, if the `keep` of the call is True, the vectors that
    the task returned for them; otherwise None.
    """
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
    """Return a block of X without its rows of zero weight, in a list, as `run_unit` requires.

    `prepared` contains the vectors of the block and the mask of the rows with positive weight.
    """
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
        # X is treated as dense because its first block, or the metadata of the Dask array, is
        # dense.
        X = X.toarray()
    return [X if held.kept is None else X[held.kept]]


def rows_and_elements(X: Any) -> tuple[int, int]:
    """Return the numbers of rows and of stored values of a block of X.

    For a sparse block, the column indices count as values.
    """
    return X.shape[0], 2 * X.nnz if issparse(X) else X.size


def without_X(prepared: tuple[Any, PreparedBlock | None]) -> tuple[Any, PreparedBlock | None]:
    summary, block = prepared
    return summary, None if block is None else block._replace(X=None)


def blocks_of_unit(prepared: list[tuple[Any, PreparedBlock]]) -> list[PreparedBlock]:
    return [block for _, block in prepared]


def column_of(blocks: list[PreparedBlock], field: str, j: int | None = None) -> list[Any]:
    """Return the given field of every block or, if j is given, element j of that field."""
    values = [getattr(block, field) for block in blocks]
    return values if j is None else [value[j] for value in values]


# Blocks ----------------------------------------------------------------------------------


def current_client() -> Any:
    """Return the `distributed` client that Dask would use to compute, or None."""
    client = getattr(get_scheduler(), "__self__", None)
    return client if hasattr(client, "scheduler_info") else None


class DaskBlocks(CheckedBlocks):
    """Blocks of Dask arrays; this process holds their vectors.

    Each round of tasks that uses X loads X again.
    """

    def __init__(self, arrays: dict[str, Any], n_features: int, dtype: Any) -> None:
        super().__init__()
        self._arrays, self._n_features, self._X_dtype = arrays, n_features, np.dtype(dtype)
        # Graph optimisation would duplicate the tasks that X and y share.
        self._delayed = [
            array.to_delayed(optimize_graph=False).ravel() for array in arrays.values()
        ]
        self._blocks: list[Any] = []
        self._load()

    def _prepared(self, X: list[Any] | None = None) -> list[Any]:
        """Return a delayed result of `prepare` for each block.

        `X` contains placeholders for the blocks of X; by default, the blocks themselves are
        used.
        """
        make = delayed(prepare, pure=False)
        X = self._delayed[0] if X is None else X
        return [
            make(self._X_dtype, *block) for block in zip(X, *self._delayed[1:], strict=True)
        ]

    def _load(self) -> None:
        unread = self._unread()
        prepared = self._prepare_vectors(unread)
        if unread and any(summary.n_rows < summary.lengths[0] for summary, _ in prepared):
            # Some rows have zero weight. X is read as well, in order to check their features.
            prepared = self._prepare_vectors(None)
        self._adopt_all([summary for summary, _ in prepared])
        self._blocks = [Opaque([prepared[k][1]]) for k in self.numbers]
        self._set_given()

    def _prepare_vectors(self, X: list[Any] | None) -> Any:
        self.n_rounds += 1
        short = delayed(without_X, pure=False)
        return dask.compute(*(short(block) for block in self._prepared(X)))

    def _unread(self) -> list[Any] | None:
        """Return placeholders with the shapes of the blocks of X, or None.

        The placeholders allow y and the weights to be checked without reading X. The result is
        None if the shapes of the blocks are unknown or the blocks are sparse.
        """
        X = self._arrays["X"]
        if np.isnan(X.chunks[0]).any() or issparse(X._meta):
            return None
        rows = delayed(UnreadRows, pure=False)
        return [rows(n, self._n_features) for n in X.chunks[0]]

    def _column(self, field: str, j: int | None = None) -> list[Any]:
        """Return a handle to the result of `column_of` for each unit."""
        return [Opaque(column_of(block.value, field, j)) for block in self._blocks]

    def _set_given(self) -> None:
        targets = [self._column("targets", j) for j in range(len(self.target_figures))]
        weight = self._column("weight") if "sample_weight" in self._arrays else None
        self.set_vectors(targets, weight)

    def _adopt_all(self, summaries: list[Any]) -> None:
        self.adopt(summaries, self._n_features, self._X_dtype)
        self._units = [Opaque(Unit([k], [n])) for k, n in enumerate(self.sizes)]

    def close(self) -> None:
        """Release the data.

        Without this method, only the garbage collector would free the memory of the blocks and
        the vectors, since they refer to each other.
        """
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
        """Return a delayed task for each block; the task loads the block of X if needed."""
        read, run = delayed(load, pure=False), delayed(run_unit, pure=False)
        tasks = []
        for k, (unit, number) in enumerate(zip(self._units, self.numbers, strict=True)):
            X = None
            if with_X:
                given = number, self._delayed[0][number], self._blocks[k]
                X = read(*given, self._n_features, self._X_dtype, self.is_sparse)
            tasks.append(run(call, unit, X, *(vector.parts[k] for vector in stored)))
        return tasks
