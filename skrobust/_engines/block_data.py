"""Conversion and checks of the caller's blocks of rows, and blocks that this process holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .base import FloatArray
from .vectors import (
    Block,
    Blocks,
    BlockVector,
    Expression,
    Figures,
    StoredVector,
    Task,
    aligned,
    run_task,
)

# Maximum number of values of a vector that each block returns for estimating the median of the
# vector.
PROBE_VALUES = 200


class PreparedBlock(NamedTuple):
    """A block without its rows of zero weight.

    `kept` is the mask of the rows with positive weight, or None if all rows are kept.
    """

    X: Any
    targets: list[FloatArray]
    weight: FloatArray | None
    kept: NDArray[np.bool_] | None


class BlockSummary(NamedTuple):
    """Summary of a block, used to check the data.

    `lengths` holds the numbers of rows of X, y and the weights, and `n_rows` is the number of
    rows with positive weight. `targets` and `weights` hold statistics of each target and of the
    weights. `faults` reports NaN, infinity and negative weights.
    """

    lengths: tuple[int, ...]
    n_rows: int
    n_elements: int
    is_sparse: bool
    targets: list[Figures]
    weights: list[Figures]
    faults: list[str]


class UnreadRows:
    """Placeholder with the shape and size of dense rows of X that have not been read."""

    def __init__(self, n: int, p: int) -> None:
        self.shape, self.size = (n, p), n * p

    def __getitem__(self, mask: NDArray[np.bool_]) -> UnreadRows:
        return UnreadRows(int(np.count_nonzero(mask)), self.shape[1])


def as_matrix(X: Any, dtype: Any) -> Any:
    """Convert a block of X to an array or CSR matrix of the given dtype."""
    if isinstance(X, UnreadRows):
        return X
    if hasattr(X, "to_numpy"):
        X = X.to_numpy()
    X = X.tocsr() if sparse.issparse(X) else np.asarray(X)
    check_real("X", X.dtype)
    return aligned(X.astype(dtype, copy=False))


def check_real(name: str, dtype: np.dtype[Any]) -> None:
    """Raise a TypeError unless the dtype of a loaded block is real.

    Before the block is loaded, Dask may not know its dtype.
    """
    if dtype.kind not in "fiub":
        raise TypeError(f"{name} must consist of real numbers, but a block has dtype {dtype}.")


def unequal_rows(number: int, n: int, name: str, m: int) -> ValueError:
    """Return the error for a block with n rows of X but m rows of `name`."""
    return ValueError(
        f"X and {name} need the same rows in each block, but block {number} has {n} rows of X "
        f"and {m} of {name}. Use {name}.rechunk({{0: X.chunks[0]}}) for arrays, after "
        "compute_chunk_sizes() if the sizes are unknown, or take X and y from one frame df "
        "after df = df.persist()."
    )


def as_columns(y: Any) -> list[FloatArray]:
    """Return the columns of a block of y or of the weights as contiguous float64 vectors."""
    if hasattr(y, "to_numpy"):
        y = y.to_numpy()
    y = np.asarray(y)
    check_real("y", y.dtype)
    y = (y[:, None] if y.ndim == 1 else y).astype(np.float64, copy=False)
    return [aligned(np.ascontiguousarray(column)) for column in y.T]


def prepare(
    dtype: Any, X: Any, y: Any, weight: Any = None
) -> tuple[BlockSummary, PreparedBlock | None]:
    """Return the BlockSummary and the PreparedBlock of a block.

    The PreparedBlock is None if the block has a fault or no rows with positive weight.
    """
    X, targets = as_matrix(X, dtype), as_columns(y)
    s = None if weight is None else as_columns(weight)[0]
    vectors = [*targets[:1], *([] if s is None else [s])]
    lengths = (X.shape[0], *(vector.size for vector in vectors))
    if len(set(lengths)) > 1:
        return BlockSummary(lengths, 0, 0, False, [], [], []), None
    faults = (
        [] if all(np.isfinite(t).all() for t in targets) else ["y contains NaN or infinity"]
    )
    kept = None
    if s is not None:
        if not np.isfinite(s).all():
            faults.append("sample_weight contains NaN or infinity")
        elif (s < 0).any():
            faults.append("sample_weight contains negative values")
        elif not s.all():
            kept = s > 0
            if not unused_is_finite(X, kept):
                faults.append("X contains NaN or infinity")
            X, targets, s = X[kept], [t[kept] for t in targets], s[kept]
    n = X.shape[0]
    n_elements = int(X.nnz if sparse.issparse(X) else X.size)
    figures = [_figures(vector) for vector in targets if n]
    of_weight = [] if s is None or not n else [_figures(s)]
    summary = BlockSummary(
        lengths, n, n_elements, sparse.issparse(X), figures, of_weight, faults
    )
    return summary, PreparedBlock(X, targets, s, kept) if n and not faults else None


def unused_is_finite(X: Any, kept: NDArray[np.bool_]) -> bool:
    """Return whether the rows of zero weight are finite or have not been read."""
    unused = X[~kept]
    if isinstance(unused, UnreadRows):
        return True
    return bool(np.isfinite(unused.data if sparse.issparse(unused) else unused).all())


def _figures(vector: FloatArray) -> Figures:
    values = vector[:: -(-vector.size // PROBE_VALUES)].copy()
    shares = np.full(values.size, vector.size / values.size)
    with np.errstate(over="ignore"):
        total = float(vector.sum())
    return Figures(float(vector.min()), float(vector.max()), total, values, shares)


def _combined(figures: Sequence[Figures]) -> Figures:
    """Combine the statistics of a vector in each block into those of the whole vector."""
    lowest, highest, sums, values, shares = zip(*figures, strict=True)
    values, shares = np.concatenate(values), np.concatenate(shares)
    return Figures(min(lowest), max(highest), sum(sums), values, shares)


class CheckedBlocks(Blocks):
    """Blocks whose rows have been counted and checked.

    Attributes
    ----------
    numbers : list of int
        Index of each block among the caller's blocks, which also include blocks without rows of
        positive weight.
    """

    def __init__(self) -> None:
        super().__init__()
        self._given_vectors: list[StoredVector] = []

    def adopt(self, summaries: Sequence[BlockSummary], n_features: int, dtype: Any) -> None:
        """Check the summaries of all blocks, and set the attributes of `self` from them."""
        self._check_lengths(summaries)
        given = [summary.lengths[0] for summary in summaries]
        self._first_rows = np.concatenate([[0], np.cumsum(given)])
        for number, summary in enumerate(summaries):
            for fault in summary.faults:
                raise ValueError(f"Input {fault}, in {self._described(number)}.")
        if not self._first_rows[-1]:
            raise ValueError(
                f"Found array with 0 sample(s) (shape=(0, {n_features})) while a minimum of 1 "
                "is required by SmoothL1Regressor."
            )
        self.numbers = [k for k, summary in enumerate(summaries) if summary.n_rows]
        used = [summaries[k] for k in self.numbers]
        if not used:
            # scikit-learn raises the same error for in-memory weights that are all zero.
            raise ValueError("Sample weights must contain at least one non-zero number.")
        self.sizes = [summary.n_rows for summary in used]
        self.shape = sum(self.sizes), n_features
        self.dtype = np.dtype(dtype)
        self.is_sparse = used[0].is_sparse
        self.n_elements = sum(summary.n_elements for summary in used)
        targets = zip(*(summary.targets for summary in used), strict=True)
        self.target_figures = [_combined(figures) for figures in targets]
        weights = [figures for summary in used for figures in summary.weights]
        self.weight_figures = _combined(weights) if weights else None

    def _check_lengths(self, summaries: Sequence[BlockSummary]) -> None:
        names = ("X", "y", "sample_weight")
        for number, summary in enumerate(summaries):
            n = summary.lengths[0]
            for name, length in zip(names, summary.lengths, strict=False):
                if length != n:
                    raise unequal_rows(number, n, name, length)

    def set_vectors(self, targets: Sequence[Any], weight: Any) -> None:
        """Set the attributes `targets` and `weight`, given handles to the values in the blocks.

        Later calls, after the blocks have been loaded again, replace only the handles.
        """
        if not self._given_vectors:
            figures = [*self.target_figures, self.weight_figures]
            self._given_vectors = [StoredVector(None, known=f) for f in figures if f]
            self.targets = [BlockVector(self, v) for v in self._given_vectors[: len(targets)]]
            self.weight = None
            if self.weight_figures is not None:
                lowest, highest = self.weight_figures[:2]
                if lowest < highest:
                    self.weight = BlockVector(self, self._given_vectors[-1]) / highest
            self.live.update(self._given_vectors)
        for vector, parts in zip(self._given_vectors, [*targets, weight], strict=False):
            vector.parts = parts

    def describe(self, number: int) -> str:
        return self._described(self.numbers[number])

    def _described(self, number: int) -> str:
        first, end = self._first_rows[number : number + 2]
        return f"block {number} (rows {first} to {end - 1})"


class LocalBlocks(CheckedBlocks):
    """Blocks of arrays in this process, used to test the engine."""

    def __init__(
        self, X: Sequence[Any], y: Sequence[Any], weight: Sequence[Any] | None = None
    ) -> None:
        super().__init__()
        dtype = X[0].dtype if X[0].dtype in (np.float32, np.float64) else np.float64
        weights = [None] * len(X) if weight is None else weight
        prepared = [prepare(dtype, *block) for block in zip(X, y, weights, strict=True)]
        self.adopt([summary for summary, _ in prepared], X[0].shape[1], dtype)
        blocks = [block for _, block in prepared if block is not None]
        self._X = [block.X for block in blocks]
        targets = zip(*(block.targets for block in blocks), strict=True)
        given = [block.weight for block in blocks] if weight is not None else None
        self.set_vectors([list(parts) for parts in targets], given)

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
        found = []
        for k, n in enumerate(self.sizes):
            block = Block(self._X[k] if with_X else None, k, n)
            parts = [vector.parts[k] for vector in stored]
            found.append(run_task(task, block, parts, expressions, arguments))
        if keep:
            return [small for small, _ in found], [part for _, part in found]
        return found, None
