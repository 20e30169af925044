"""The engine for X in blocks of rows.

Each method runs a task for each block and combines the results in the order of the blocks. The
combined result therefore does not depend on where or in which order the tasks ran. Each task
creates an engine for its block without copying the block.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import qr, svd

from .._reductions import gather
from .base import (
    CompiledLoss,
    Engine,
    FloatArray,
    RowIndex,
    RowVector,
)
from .dense import DenseEngine
from .in_memory import engine_in_memory
from .order_statistics import Around, Interval, first_interval, rows_of_block, values_inside
from .sparse import SparseEngine
from .threads import ThreadTeam
from .vectors import (
    Block,
    Blocks,
    BlockVector,
    StoredVector,
    Task,
    constant,
)

# Number of bins per factor of two, and number of factors of two, in a histogram of
# q = s(|z|² + 1), where s is the weight of a row and z are its standardised features.
BINS_PER_OCTAVE, MAX_OCTAVES = 16, 64
EPS = float(np.finfo(float).eps)


class Standardisation(NamedTuple):
    """The centre, scale and unit of an engine, and its mask of excluded features, or None."""

    centre: FloatArray
    scale: FloatArray
    unit: float
    excluded: NDArray[np.bool_] | None


def standardised(X: Any, standardisation: Standardisation) -> Engine:
    """Return an engine for in-memory rows with the given standardisation."""
    engine = engine_in_memory(X, ThreadTeam())
    centre, scale, unit, excluded = standardisation
    while engine.unit < unit:
        engine = engine.rescaled()
    if excluded is not None:
        engine = engine.without(excluded)
    return engine.with_standardisation(centre, scale)


# Tasks on one block ----------------------------------------------------------------------


def _loss_gradient(
    block: Block,
    vectors: list[Any],
    standardisation: Standardisation,
    coef: FloatArray,
    loss: CompiledLoss,
    threshold: float,
    intervals: list[Interval],
) -> tuple[Any, FloatArray]:
    """Return the results of a pass over a block, and the residuals r.

    The results are the sums of `Engine.loss_gradient`, the total weight of the rows with |r|
    above the threshold, Σ s r² over the other rows, and, for each interval, the values of |r|
    in it or their histogram.
    """
    y, s = vectors
    engine = standardised(block.X, standardisation)
    residual, sums = engine.loss_gradient(coef, y, s, loss, threshold)
    size = np.abs(residual)
    inside = size <= threshold
    inner = size * inside
    if s is None:
        outside, squares = float(size.size - np.count_nonzero(inside)), float(inner @ inner)
    else:
        outside, squares = float(s @ ~inside), float((s * inner) @ inner)
    values = [values_inside(block, [size, s], *interval) for interval in intervals]
    return (sums, outside, squares, values), residual


def _abs_dot(
    block: Block, vectors: list[Any], standardisation: Standardisation, coef: FloatArray
) -> tuple[None, FloatArray]:
    return None, standardised(block.X, standardisation).abs_dot(coef)


def _squared_norms(
    block: Block, vectors: list[Any], standardisation: Standardisation, transform: FloatArray
) -> tuple[None, FloatArray]:
    return None, standardised(block.X, standardisation).squared_norms(transform)


def _gram(
    block: Block, vectors: list[Any], standardisation: Standardisation, transform: Any
) -> FloatArray:
    engine, (s,) = standardised(block.X, standardisation), vectors
    if s is not None and not s.any():
        k = engine.p + 1 if transform is None else transform.shape[1]
        return np.zeros((k, k))
    return engine.gram(s) if transform is None else engine.transformed_gram(s, transform)


def _root(
    block: Block, vectors: list[Any], standardisation: Standardisation
) -> tuple[float, FloatArray]:
    """Return the total weight of a block, and a matrix R with RᵀR = Σ s (1, z)(1, z)ᵀ."""
    (s,) = vectors
    total = float(block.n if s is None else s.sum())
    if not total:
        return total, np.empty((0, block.X.shape[1] + 1))
    return total, standardised(block.X, standardisation).root(s) * np.sqrt(total)


def _moments(block: Block, vectors: list[Any], unit: float) -> tuple[float, Any, Any] | None:
    """Return the total weight of a block, and the mean and standard deviation of each column.

    The result is None if the total weight is zero.
    """
    (s,) = vectors
    if s is not None and not s.any():
        return None
    none = np.zeros(block.X.shape[1])
    engine = standardised(block.X, Standardisation(none, none + 1.0, unit, None))
    total = float(block.n if s is None else s.sum())
    return total, *engine.moments(s, slice(0, 50))


def _largest(block: Block, vectors: list[Any], columns: NDArray[np.intp]) -> FloatArray:
    return np.asarray(abs(_dense(block.X[:, columns])).max(axis=0))


def _unit_moments(
    block: Block, vectors: list[Any], columns: NDArray[np.intp], unit: FloatArray, mean: Any
) -> tuple[float, FloatArray, FloatArray]:
    (s,) = vectors
    s = np.ones(block.n) if s is None else s
    z = _dense(block.X[:, columns]) / unit - mean
    return float(s.sum()), s @ z, s @ (z * z)


def _dense(X: Any) -> FloatArray:
    return np.asarray(X.toarray() if sparse.issparse(X) else X, dtype=np.float64)


def _is_finite(block: Block, vectors: list[Any]) -> bool:
    return bool(np.isfinite(block.X.data if sparse.issparse(block.X) else block.X).all())


def _take(
    block: Block, vectors: list[Any], index: NDArray[np.intp], starts: NDArray[np.intp]
) -> tuple[Any, list[FloatArray]]:
    rows = rows_of_block(block, index, starts)
    return block.X[rows], [v[rows] for v in vectors]


def _norm_histogram(
    block: Block, vectors: list[Any], standardisation: Standardisation
) -> tuple[Any, FloatArray]:
    """Return q = s(|z|² + 1), and the number and sum of its elements in each bin of log q."""
    q = standardised(block.X, standardisation).row_norms_squared() + 1.0
    q = q if vectors[0] is None else q * vectors[0]
    n_bins = BINS_PER_OCTAVE * MAX_OCTAVES
    position = ((np.log2(q) + MAX_OCTAVES / 2) * BINS_PER_OCTAVE).clip(0, n_bins - 1)
    position = np.nan_to_num(position).astype(np.intp)
    counts = np.bincount(position, minlength=n_bins).astype(float)
    return (counts, np.bincount(position, q, minlength=n_bins)), q


def _drawn(
    block: Block, vectors: list[Any], factor: float, seed: int
) -> tuple[Any, list[FloatArray], NDArray[np.intp], FloatArray]:
    """Draw rows of a block with probabilities min(factor · q, 1), where q is vectors[0].

    Returns the features of the drawn rows, their values in the other vectors, their indices in
    the block, and their probabilities.
    """
    probability = np.minimum(factor * vectors[0], 1.0)
    rng = np.random.default_rng([seed, block.number])
    rows = np.flatnonzero(rng.random(block.n) < probability)
    return block.X[rows], [v[rows] for v in vectors[1:]], rows, probability[rows]


# The engine ------------------------------------------------------------------------------


class BlockEngine(Engine):
    """X in blocks of rows."""

    in_memory = False

    def __init__(self, blocks: Blocks, team: ThreadTeam) -> None:
        super().__init__(blocks, team, blocks.n)
        kind = SparseEngine if blocks.is_sparse else DenseEngine
        self.gram_max_features, self.can_sample = kind.gram_max_features, kind.can_sample
        self._blocks = blocks

    @property
    def n_elements(self) -> int:
        return self._blocks.n_elements

    @property
    def n_rounds(self) -> int:  # type: ignore[override]
        return self._blocks.n_rounds

    @property
    def _standardisation(self) -> Standardisation:
        return Standardisation(self.centre, self.scale, self.unit, self._excluded)

    def rescaled(self) -> Self:
        engine = copy.copy(self)
        engine.unit = self.unit * 2.0**64
        return engine

    def zeros(self) -> BlockVector:
        return constant(self._blocks, 0.0)

    def loss_gradient(
        self,
        coef: FloatArray,
        y: RowVector,
        weight: RowVector | None,
        loss: CompiledLoss,
        threshold: float,
        out: RowVector | None = None,
    ) -> tuple[BlockVector, FloatArray]:
        self._passes[0] += 1
        blocks, intervals = self._blocks, self._blocks.intervals
        if intervals is None:
            intervals, blocks.intervals = first_interval(float(threshold)), []
        arguments = (self._standardisation, coef, loss, float(threshold), intervals)
        found, residual = blocks.run_and_keep(_loss_gradient, [y, weight], *arguments)
        outside, squares = sum(part[1] for part in found), sum(part[2] for part in found)
        inside = {of: [part[3][k] for part in found] for k, of in enumerate(intervals)}
        used = None if weight is None else weight.expression
        residual.around = Around(float(threshold), used, outside, squares, inside)
        return BlockVector(blocks, residual), _summed(part[0] for part in found)

    def _kept(self, task: Task, *arguments: Any) -> BlockVector:
        _, stored = self._blocks.run_and_keep(task, [], self._standardisation, *arguments)
        return BlockVector(self._blocks, stored)

    def abs_dot(self, coef: FloatArray) -> BlockVector:
        return self._kept(_abs_dot, coef)

    def squared_norms(self, transform: FloatArray) -> BlockVector:
        return self._kept(_squared_norms, transform)

    def _run(self, task: Task, weight: RowVector | None, *arguments: Any) -> list[Any]:
        return self._blocks.run(task, [weight], *arguments, with_X=True)

    def gram(self, weight: RowVector | None = None) -> FloatArray:
        return _summed(self._run(_gram, weight, self._standardisation, None))

    def transformed_gram(self, weight: RowVector | None, transform: FloatArray) -> FloatArray:
        return _summed(self._run(_gram, weight, self._standardisation, transform))

    def root(self, weight: RowVector | None = None) -> FloatArray:
        found = self._run(_root, weight, self._standardisation)
        total = sum(part[0] for part in found)
        R: FloatArray = np.vstack([part[1] for part in found]) / np.sqrt(total)
        if R.shape[0] > self.p + 1:
            R = qr(R, mode="r", check_finite=False)[0][: self.p + 1]
        return R

    def orthogonal_part(
        self,
        rows: RowVector,
        weight: RowVector | None,
        features: NDArray[np.intp],
        fit_intercept: bool,
        loss: CompiledLoss,
    ) -> BlockVector:
        columns = np.concatenate([[0], features + 1]) if fit_intercept else features + 1
        total = self.n if weight is None else weight.sum()
        _, sigma, Vt = svd(self.root(weight)[:, columns], full_matrices=False)
        kept = sigma > EPS * max(self.n, columns.size) * sigma[0]
        inverse_root = Vt[kept] / sigma[kept][:, None]
        coef = np.zeros(self.p + 1)
        # The second iteration corrects the rounding errors of the first (Björck, "Stability
        # analysis of the method of seminormal equations for linear least squares problems",
        # 1987).
        for _ in range(2):
            _, sums = self.loss_gradient(coef, rows, weight, loss, np.inf)
            coef[columns] += inverse_root.T @ (inverse_root @ sums[columns]) / total
        return self.loss_gradient(coef, rows, weight, loss, np.inf)[0]

    def moments(
        self, weight: RowVector | None, index: RowIndex
    ) -> tuple[FloatArray, FloatArray]:
        # The moments of the blocks are combined (Chan, Golub and LeVeque, "Algorithms for
        # computing the sample variance", Amer. Statist. 37, 1983). Since a constant column has
        # the same mean in all blocks, its computed standard deviation is exactly zero.
        found = [f for f in self._run(_moments, weight, self.unit) if f is not None]
        total, first = sum(part[0] for part in found), found[0][1]
        mean = first + _summed(S * (m - first) for S, m, _ in found) / total
        squares = _summed(S * (std**2 + (m - mean) ** 2) for S, m, std in found) / total
        return mean, np.sqrt(squares)

    def extreme_moments(
        self, weight: RowVector | None, columns: NDArray[np.intp]
    ) -> tuple[FloatArray, FloatArray]:
        unit = np.max(self._run(_largest, None, columns), axis=0)
        unit[unit == 0] = 1.0
        mean = np.zeros(columns.size)
        for _ in range(2):
            found = self._run(_unit_moments, weight, columns, unit, mean)
            total = sum(part[0] for part in found)
            correction = _summed(part[1] for part in found) / total
            square = _summed(part[2] for part in found) / total
            mean = mean + correction
        std = np.sqrt(np.maximum(square - correction**2, 0.0))
        unit = unit / self.unit
        return mean * unit, std * unit

    def _taken(self, index: RowIndex) -> Any:
        """Gather rows of X, y and weights in `self._blocks.gathered`; return the rows of X."""
        blocks = self._blocks
        index = blocks.positions(index)
        if blocks.gathered is None or not np.array_equal(blocks.gathered[0], index):
            order = np.argsort(index, kind="stable")
            given = [BlockVector(blocks, v) for v in self._given_vectors()]
            found = blocks.run(_take, given, index[order], blocks.starts(), with_X=True)
            self._gather(index, found, np.argsort(order, kind="stable"))
        assert blocks.gathered is not None
        return blocks.gathered[1]

    def _given_vectors(self) -> list[StoredVector]:
        """Return the stored vectors that hold y and the weights."""
        blocks = self._blocks
        vectors = [*blocks.targets, *([] if blocks.weight is None else [blocks.weight])]
        return list(dict.fromkeys(map(_stored, vectors)))

    def _gather(self, index: NDArray[np.intp], found: list[Any], order: Any) -> None:
        """Store the rows at `index`, returned by the blocks, in `self._blocks.gathered`.

        `order` permutes the returned rows into the order of `index`.
        """
        blocks, parts = self._blocks, [part[0] for part in found]
        X: Any = sparse.vstack(parts, "csr") if blocks.is_sparse else np.concatenate(parts)
        numbers = [vector.number for vector in self._given_vectors()]
        values = [np.concatenate(v)[order] for v in zip(*(p[1] for p in found), strict=True)]
        blocks.gathered = index, X[order], dict(zip(numbers, values, strict=True))

    def rows(self, index: RowIndex) -> FloatArray:
        return standardised(self._taken(index), self._standardisation).rows(slice(None))

    def take(self, index: RowIndex) -> Engine:
        return standardised(self._taken(index), self._standardisation)

    def row_norm_sample(
        self, weight: RowVector | None, m: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.intp], FloatArray]:
        blocks, given = self._blocks, [weight]
        found, stored = blocks.run_and_keep(_norm_histogram, given, self._standardisation)
        q = BlockVector(blocks, stored)
        counts, sums = _summed(f[0] for f in found), _summed(f[1] for f in found)
        factor = _sampling_factor(counts, sums, m)
        # The features and indices of the drawn rows are returned together, which saves a round
        # of tasks.
        vectors = [q, *(BlockVector(blocks, v) for v in self._given_vectors())]
        drawn = blocks.run(_drawn, vectors, factor, int(rng.integers(2**31)), with_X=True)
        starts = blocks.starts()[:-1]
        rows = np.concatenate([d[2] + first for d, first in zip(drawn, starts, strict=True)])
        self._gather(rows, drawn, slice(None))
        weight_of_rows = 1.0 if weight is None else gather(weight, rows)
        return rows, weight_of_rows / np.concatenate([d[3] for d in drawn])

    def check_finite(self) -> None:
        for number, finite in enumerate(self._run(_is_finite, None)):
            if not finite:
                raise ValueError(
                    f"Input X contains NaN or infinity, in {self._blocks.describe(number)}."
                )


def _stored(vector: BlockVector) -> StoredVector:
    """Return the StoredVector in the expression of a vector, which contains only one."""
    e = vector.expression
    while not isinstance(e, StoredVector):
        e = next(part for part in e[1:] if isinstance(part, (tuple, StoredVector)))
    return e


def _sampling_factor(counts: FloatArray, sums: FloatArray, m: int) -> float:
    """Return the factor c for which Σ min(c q, 1) is m, given a histogram of q.

    Σ min(c q, 1) equals m only to within the resolution of the histogram.
    """
    # Bins k and above contain certain[k] values of q, and the values in lower bins sum to
    # rest[k]. If the former have probability one, the sum is m for c = factor[k].
    certain = np.concatenate([np.cumsum(counts[::-1])[::-1], [0.0]])
    rest = np.concatenate([[0.0], np.cumsum(sums)])
    n_bins = counts.size
    ends = 2.0 ** (np.arange(n_bins + 1) / BINS_PER_OCTAVE - MAX_OCTAVES / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = (m - certain) / rest
    usable = (rest > 0) & (factor > 0)
    # k is the lowest bin such that, in this bin and all higher bins, c q is at least one and
    # the probability is therefore one.
    k = int(np.flatnonzero(usable & (factor * np.append(ends[:-1], np.inf) >= 1.0))[0])
    return float(factor[k])


def _summed(parts: Any) -> FloatArray:
    """Add the results of all blocks in the order of the blocks."""
    parts = iter(parts)
    total = np.array(next(parts), dtype=np.float64)
    for part in parts:
        total += part
    return total
