"""Row vectors in blocks, which hold one number per row of X.

A `BlockVector` is an expression in vectors that are stored block by block. Applying NumPy's
elementwise functions to it builds a larger expression, which is evaluated block by block when
it is reduced to a number. Only the results of reductions are sent to this process. A reduction
is one *round*: a task runs for each block, and the results are combined in the order of the
blocks. The combined result therefore does not depend on where the tasks ran.
"""

from __future__ import annotations

import itertools
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray
from scipy import sparse

from .threads import single_threaded_blas

# A stored vector, a number, or a tuple of a ufunc and its arguments, which are expressions.
Expression: TypeAlias = Any
# A task on a block: task(block, vectors, *arguments).
Task = Callable[..., Any]
# Maximum number of reductions whose results are cached.
MEMO_SIZE = 64


class Figures(NamedTuple):
    """Statistics of a vector: minimum, maximum, sum, and values at equally spaced rows.

    `shares` holds the number of rows that each of these values represents.
    """

    lowest: float
    highest: float
    total: float
    values: NDArray[Any]
    shares: NDArray[Any]


class StoredVector:
    """The values of a vector in each block, and the computation that produced them.

    `parts` is a handle to the values, which only the owner of the blocks reads. `recipe` is the
    computation, or None for a vector passed by the caller. `known` contains the statistics of
    the vector, or None. `around` contains sums and values of |r| that the pass over X returned
    with the residuals r (see `order_statistics.Around`), or None.
    """

    _numbers = itertools.count()

    def __init__(self, parts: Any, recipe: Any = None, known: Figures | None = None) -> None:
        self.parts, self.recipe, self.known = parts, recipe, known
        self.around: Any = None
        self.number = next(self._numbers)


class Slot(NamedTuple):
    """The position of a stored vector in the list that a task receives."""

    place: int


class Block(NamedTuple):
    """The block that a task receives. `X` is None if the task does not use the features."""

    X: Any
    number: int
    n: int


class Blocks(ABC):
    """Blocks of rows of X; the subclass determines where tasks run.

    Attributes
    ----------
    shape : tuple of int
        Number of rows with positive weight, and number of features.
    dtype : numpy.dtype
        The dtype of X.
    is_sparse : bool
        Whether X is sparse.
    n_elements : int
        Number of stored elements of X.
    sizes : list of int
        Number of rows in each block; no block is empty.
    targets : list of BlockVector
        The columns of y.
    weight : BlockVector or None
        Sample weights divided by the largest weight, or None if all weights are equal.
    n_rounds : int
        Number of times that results from all blocks were awaited.
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    is_sparse: bool
    n_elements: int
    sizes: list[int]
    targets: list[BlockVector]
    weight: BlockVector | None

    def __init__(self) -> None:
        self.n_rounds = 0
        # Intervals; the next pass over X returns the values of |r| that lie in them. None
        # before the first pass.
        self.intervals: list[tuple[float, float]] | None = None
        # The rows gathered last: their indices, features, and values in stored vectors.
        self.gathered: tuple[NDArray[np.intp], Any, dict[int, NDArray[Any]]] | None = None
        # Stored vectors in use.
        self.live: weakref.WeakSet[StoredVector] = weakref.WeakSet()
        self._memo: dict[Any, Any] = {}

    @abstractmethod
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
        """Run `run_task` on each block.

        Returns the results in the order of the blocks and, if `keep` is True, a handle to the
        vectors that the tasks also returned; otherwise None.
        """

    @abstractmethod
    def describe(self, number: int) -> str:
        """Return text that identifies a block by its number and rows in the caller's data."""

    @property
    def n(self) -> int:
        return self.shape[0]

    def starts(self) -> NDArray[np.intp]:
        """Return the index of the first row of each block, followed by the number of rows."""
        return np.concatenate([[0], np.cumsum(self.sizes)])

    def positions(self, index: slice | NDArray[Any]) -> NDArray[np.intp]:
        """Return the row numbers that an index selects.

        The index is a slice, an array of nonnegative row numbers, or a mask.
        """
        if isinstance(index, slice):
            return np.arange(*index.indices(self.n))
        if index.dtype == bool:
            return np.flatnonzero(index)
        if index.size and not 0 <= index.min() <= index.max() < self.n:
            raise IndexError(f"positions must be between 0 and {self.n - 1}")
        return index

    def run(
        self,
        task: Task,
        vectors: Sequence[BlockVector | None] = (),
        *arguments: Any,
        with_X: bool = False,
    ) -> list[Any]:
        """Run a task for each block in one round, and return the results."""
        stored, expressions = _compiled(vectors)
        self.n_rounds += 1
        results, _ = self.execute(
            task, stored, expressions, arguments, with_X=with_X, keep=False
        )
        return results

    def run_and_keep(
        self, task: Task, vectors: Sequence[BlockVector | None], *arguments: Any
    ) -> tuple[list[Any], StoredVector]:
        """Run a task that reads X and returns a vector; return its results and the vector."""
        stored, expressions = _compiled(vectors)
        self.n_rounds += 1
        results, parts = self.execute(
            task, stored, expressions, arguments, with_X=True, keep=True
        )
        kept = StoredVector(parts, (task, stored, expressions, arguments))
        self.live.add(kept)
        return results, kept

    def gathered_values(
        self, rows: BlockVector, index: NDArray[np.intp]
    ) -> NDArray[Any] | None:
        """Return the values of a vector at the rows gathered last.

        The result is None if `index` selects other rows or the values were not gathered.
        """
        if self.gathered is None or not np.array_equal(self.gathered[0], index):
            return None
        known = self.gathered[2]
        stored, (expression,) = _compiled([rows])
        if any(vector.number not in known for vector in stored):
            return None
        values = [known[vector.number] for vector in stored]
        return _evaluated(expression, values, index.size)

    def reduce(self, task: Task, vectors: Sequence[BlockVector | None], *arguments: Any) -> Any:
        """Return the results of a task on vectors, and cache them for later calls."""
        key = task, tuple(None if v is None else _key(v.expression) for v in vectors), arguments
        if key not in self._memo:
            while len(self._memo) >= MEMO_SIZE:
                del self._memo[next(iter(self._memo))]
            self._memo[key] = self.run(task, vectors, *arguments)
        return self._memo[key]


def run_task(
    task: Task,
    block: Block,
    stored: Sequence[NDArray[Any]],
    expressions: Sequence[Expression],
    arguments: tuple[Any, ...],
) -> Any:
    """Return task(block, vectors, *arguments); this function runs where the block is held."""
    if block.X is not None:
        block = block._replace(X=aligned(block.X))
    stored = [aligned(part) for part in stored]
    with single_threaded_blas(), np.errstate(all="ignore"):
        vectors = [_evaluated(e, stored, block.n) for e in expressions]
        return task(block, vectors, *arguments)


def aligned(rows: Any) -> Any:
    """Return an array or sparse matrix, copied if its memory is not aligned for its dtype.

    Arrays may become misaligned when they are transferred between processes. The kernels do not
    accept misaligned arrays, and sums over them can differ in the last bit from sums over an
    aligned copy.
    """
    parts = [rows.data, rows.indices, rows.indptr] if sparse.issparse(rows) else [rows]
    if all(part.flags.aligned for part in parts):
        return rows
    return rows.copy() if sparse.issparse(rows) else rows.copy("K")


def _evaluated(e: Expression, stored: Sequence[NDArray[Any]], n: int) -> NDArray[Any] | None:
    if e is None:
        return None
    value = _value(e, stored)
    return value if np.ndim(value) else np.full(n, value)


def _value(e: Expression, stored: Sequence[Any]) -> Any:
    if isinstance(e, Slot):
        return stored[e.place]
    if isinstance(e, tuple):
        return e[0](*(_value(part, stored) for part in e[1:]))
    return e


def _compiled(
    vectors: Sequence[BlockVector | None],
) -> tuple[list[StoredVector], list[Expression]]:
    """Return the stored vectors in expressions, and the expressions with a Slot for each.

    For an entry of `vectors` that is None, the expression is None.
    """
    stored: list[StoredVector] = []

    def compiled(e: Expression) -> Expression:
        if isinstance(e, StoredVector):
            if e not in stored:
                stored.append(e)
            return Slot(stored.index(e))
        if isinstance(e, tuple):
            return (e[0], *(compiled(part) for part in e[1:]))
        return e

    return stored, [None if v is None else compiled(v.expression) for v in vectors]


def _key(e: Expression) -> Any:
    """Return a hashable description of an expression."""
    if isinstance(e, StoredVector):
        return ("stored", e.number)
    if isinstance(e, tuple):
        return (e[0], *(_key(part) for part in e[1:]))
    return (type(e).__name__, e)


class BlockVector(NDArrayOperatorsMixin):
    """One number per row, in blocks; see the module docstring."""

    ndim = 1

    def __init__(self, blocks: Blocks, expression: Expression, dtype: Any = np.float64) -> None:
        self.blocks, self.expression, self.dtype = blocks, expression, np.dtype(dtype)

    @property
    def size(self) -> int:
        return self.blocks.n

    @property
    def shape(self) -> tuple[int]:
        return (self.blocks.n,)

    def __len__(self) -> int:
        return self.blocks.n

    def __bool__(self) -> bool:
        raise TypeError("The truth value of a vector is ambiguous; use any() or all().")

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        raise TypeError(
            "A vector of all rows must not be gathered in one process; use a function of "
            "_reductions."
        )

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **options: Any
    ) -> Any:
        if method != "__call__" or options:
            return NotImplemented
        arrays = [value for value in (*inputs, *(out or ())) if isinstance(value, np.ndarray)]
        if ufunc.nout > 1 or any(array.ndim for array in arrays):
            return NotImplemented
        if ufunc is np.matmul:
            a, b = inputs
            return sum(self.blocks.reduce(_dot, [a, b]))
        expressions, examples = [], []
        for value in inputs:
            is_vector = isinstance(value, BlockVector)
            expressions.append(value.expression if is_vector else _number(value))
            examples.append(np.ones(1, value.dtype) if is_vector else value)
        with np.errstate(all="ignore"):
            dtype = ufunc(*examples).dtype
        if out is None:
            return BlockVector(self.blocks, (ufunc, *expressions), dtype)
        out[0].expression, out[0].dtype = (ufunc, *expressions), dtype
        return out[0]

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function not in _FUNCTIONS:
            return NotImplemented
        return _FUNCTIONS[function](*args, **kwargs)

    def astype(self, dtype: Any, copy: bool = True) -> BlockVector:
        if np.dtype(dtype) == self.dtype:
            return BlockVector(self.blocks, self.expression, dtype) if copy else self
        if np.dtype(dtype) != np.float64:
            raise TypeError(f"no implementation of a conversion to {np.dtype(dtype)} found")
        return BlockVector(self.blocks, (np.multiply, 1.0, self.expression), dtype)

    def sum(self) -> float:
        known = _known(self.expression)
        # Only a finite known sum is used: it may have overflowed before the values were
        # divided.
        if known is not None and np.isfinite(known[2]):
            return known[2]
        return float(sum(self.blocks.reduce(_sum, [self])))

    def mean(self) -> float:
        return float(self.sum() / self.size)

    def min(self) -> float:
        return self._ends()[0]

    def max(self) -> float:
        return self._ends()[1]

    def _ends(self) -> tuple[float, float]:
        known = _known(self.expression)
        if known is not None:
            return known[:2]
        # NumPy's minimum and maximum propagate NaN, unlike those of Python.
        lowest, highest = zip(*self.blocks.reduce(_ends, [self]), strict=True)
        return float(np.min(lowest)), float(np.max(highest))

    def all(self) -> bool:
        return all(self.blocks.reduce(_all, [self]))

    def any(self) -> bool:
        return any(self.blocks.reduce(_any, [self]))


def _known(e: Expression) -> tuple[float, float, float] | None:
    """Return the minimum, maximum and sum of an expression, or None if they are unknown.

    The three values are known for a stored vector whose statistics are known, and remain known
    after a number is subtracted from the vector or the vector is divided by a positive number.
    Both operations are monotone in floating-point arithmetic. After a subtraction, the sum is
    NaN.
    """
    if isinstance(e, StoredVector):
        return None if e.known is None else e.known[:3]
    if isinstance(e, tuple) and len(e) == 3 and isinstance(e[2], float):
        ufunc, vector, c = e
        known = _known(vector)
        if known is not None and ufunc is np.subtract:
            return known[0] - c, known[1] - c, np.nan
        if known is not None and ufunc is np.true_divide and c > 0:
            return known[0] / c, known[1] / c, known[2] / c
    return None


def _sum(block: Block, vectors: list[Any]) -> float:
    return float(np.sum(vectors[0], dtype=np.float64))


def _dot(block: Block, vectors: list[Any]) -> float:
    return float(vectors[0].astype(float, copy=False) @ vectors[1])


def _ends(block: Block, vectors: list[Any]) -> tuple[float, float]:
    return float(vectors[0].min()), float(vectors[0].max())


def _all(block: Block, vectors: list[Any]) -> bool:
    return bool(vectors[0].all())


def _any(block: Block, vectors: list[Any]) -> bool:
    return bool(vectors[0].any())


def _count_nonzero(block: Block, vectors: list[Any]) -> int:
    return int(np.count_nonzero(vectors[0]))


def _average(rows: BlockVector, weights: BlockVector | None = None) -> float:
    return rows.mean() if weights is None else float((weights @ rows) / weights.sum())


def _number(value: Any) -> bool | float:
    return bool(value) if isinstance(value, bool | np.bool_) else float(value)


def constant(blocks: Blocks, value: float) -> BlockVector:
    """Return a vector whose values are all equal to `value`."""
    return BlockVector(blocks, value)


_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.count_nonzero: lambda rows: sum(rows.blocks.reduce(_count_nonzero, [rows])),
    np.average: _average,
    np.zeros_like: lambda rows: constant(rows.blocks, 0.0),
    np.empty_like: lambda rows: constant(rows.blocks, 0.0),
    np.ones_like: lambda rows: constant(rows.blocks, 1.0),
    np.clip: lambda rows, low, high: np.minimum(np.maximum(rows, low), high),
}
