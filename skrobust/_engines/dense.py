"""The engine for a float64 or float32 array X in any memory layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from .base import (
    MAX_SQUARABLE,
    TASK_BYTES,
    CompiledLoss,
    Engine,
    FloatArray,
    RowIndex,
    RowVector,
    centred_gram,
    has_finite_squares,
    standardised_sums,
    weighted_moments,
)
from .compile import kernels

if TYPE_CHECKING:
    from .threads import ThreadTeam

# Number of elements of X in a block of a pass, chosen so that the block fits in the L2 cache,
# and minimum number of bytes per column in a block if X is stored column by column. With 5,000
# columns, a pass over shorter pieces of columns takes 2.5 times as long.
BLOCK_ELEMENTS, MIN_COLUMN_BYTES = 65_536, 512
# Number of features at which computing a Gram matrix takes as long as a pass over X.
GRAM_FEATURES_PER_PASS = 20
# Number of partial sums that are added to form a Gram matrix. It is fixed so that the matrix
# does not depend on the number of threads.
GRAM_LANES = 4
# To save time, a pass does not subtract the centre if X has at least CENTRE_FREE_MIN_ELEMENTS
# elements and the centre of each column is at most CENTRE_FREE_MAX_SHIFT standard deviations
# from zero. Then x has as many accurate digits as x − centre, except for most values of a
# column with high-leverage rows.
CENTRE_FREE_MAX_SHIFT, CENTRE_FREE_MIN_ELEMENTS = 1.0, 50_000
# The standardised rows are stored if X has fewer elements than this.
STORE_STANDARDISED_MAX_ELEMENTS = 4_000
_UNIT_WEIGHT = np.ones(1)


class DenseEngine(Engine):
    """X as an ndarray of any layout, which is neither copied nor modified."""

    gram_max_features = 5_000
    can_sample = True

    def __init__(self, X: NDArray[Any], team: ThreadTeam) -> None:
        self._layout, self._with_gaps = _contiguous(X)
        min_rows = MIN_COLUMN_BYTES // X.itemsize if self._layout == "F" else 16
        super().__init__(X, team, max(min_rows, BLOCK_ELEMENTS // max(1, X.shape[1])))
        # The centre that the kernels subtract from each row, or None.
        self._kernel_centre: FloatArray | None = None
        # Whether Gram matrices are computed from unscaled features and scaled afterwards.
        self._gram_by_products = True
        # The standardised rows, if they are stored.
        self._standardised: FloatArray | None = None

    @property
    def n_elements(self) -> int:
        return int(self._X.size)

    def with_standardisation(self, centre: FloatArray, scale: FloatArray) -> Self:
        engine = super().with_standardisation(centre, scale)
        varies = np.isfinite(scale)
        max_shift = np.where(varies, CENTRE_FREE_MAX_SHIFT * scale, MAX_SQUARABLE)
        near_zero = bool((np.abs(centre) <= max_shift).all())
        long = self.n_elements >= CENTRE_FREE_MIN_ELEMENTS
        engine._kernel_centre = None if long and near_zero else centre
        engine._gram_by_products = bool(has_finite_squares(scale[varies]).all())
        few = self.n_elements < STORE_STANDARDISED_MAX_ELEMENTS
        engine._standardised = engine.rows(slice(None)) if few else None
        return engine

    def loss_gradient(
        self,
        coef: FloatArray,
        y: RowVector,
        weight: RowVector | None,
        loss: CompiledLoss,
        threshold: float,
        out: RowVector | None = None,
    ) -> tuple[RowVector, FloatArray]:
        self._passes[0] += 1
        centre = self._kernel_centre
        residual = np.empty(self.n) if out is None else out
        weight = _UNIT_WEIGHT if weight is None else weight
        sums = np.empty((self.n_blocks, self.p + 3))
        w = coef[1:] / self.scale
        b = float(coef[0]) - (float(self.centre @ w) if centre is None else 0.0)
        run = kernels().dense_pass(loss.rho_psi, self._X, self._layout, centre is not None)
        fixed = (self._with_gaps, centre, w, b, y, weight, float(threshold), residual, sums)
        self._team.run(lambda first, step: run(*fixed, first, step, self.block), self._X.size)
        raw = sums.sum(axis=0) if self.n_blocks > 1 else sums[0]
        return residual, standardised_sums(raw, self.centre, self.scale, centre is not None)

    def rows(self, index: RowIndex) -> FloatArray:
        part = self._X[index]
        Z = np.empty((part.shape[0], self.p + 1))
        Z[:, 0] = 1.0
        np.subtract(part, self.centre, out=Z[:, 1:])
        Z[:, 1:] *= 1.0 / self.scale
        return Z

    def columns(self, index: NDArray[np.intp], out: FloatArray | None = None) -> FloatArray:
        Z = np.empty((index.size, self.n)).T if out is None else out
        if self._standardised is not None:
            Z[:] = self._standardised[:, 1 + index]
            return Z
        centre, unit = self.centre[index], 1.0 / self.scale[index]
        for part in self.blocks():
            block = np.subtract(self._X[part][:, index], centre, dtype=np.float64)
            np.multiply(block, unit, out=Z[part])
        return Z

    def row_combination(self, c: RowVector, loss: CompiledLoss) -> FloatArray:
        products = self._X.dtype == np.float64 and self._layout != "A"
        if not products or self._kernel_centre is not None:
            return super().row_combination(c, loss)
        # The product cᵀX takes a third as long as a compiled pass.
        self._passes[0] += 1
        sums = np.empty((GRAM_LANES, self.p))
        ends = np.linspace(0, self.n, GRAM_LANES + 1).astype(int)

        def task(lane: int, step: int) -> None:
            for k in range(lane, GRAM_LANES, step):
                part = slice(ends[k], ends[k + 1])
                np.matmul(c[part], self._X[part], out=sums[k])

        self._team.run(task, self.n_elements)
        total = float(c.sum())
        return np.concatenate([[total], (sums.sum(axis=0) - total * self.centre) / self.scale])

    def gram(self, weight: RowVector | None = None) -> FloatArray:
        if self._standardised is not None:
            Z = self._standardised
            Z = Z if weight is None else np.sqrt(weight)[:, None] * Z
            return Z.T @ Z
        if not self._gram_by_products:
            return self._sums(self.rows, weight)[1]
        sums, products = self._sums(self._deviations, weight)
        total = float(self.n) if weight is None else float(weight.sum())
        unit = 1.0 / self.scale
        products *= unit
        products *= unit[:, None]
        shift = self.centre if self._kernel_centre is None else np.zeros(self.p)
        return centred_gram(shift * unit, total, sums * unit, products)

    def transformed_gram(self, weight: RowVector | None, transform: FloatArray) -> FloatArray:
        return self._sums(lambda index: self.rows(index) @ transform, weight)[1]

    def _deviations(self, index: RowIndex) -> FloatArray:
        """Return rows of X in float64, centred if the kernels subtract the centre."""
        x = self._raw(index).astype(np.float64, copy=False)
        return x if self._kernel_centre is None else x - self._kernel_centre

    def _raw(self, index: RowIndex) -> NDArray[Any]:
        # `take` is much faster than indexing but copies all of X unless X is C-contiguous.
        if self._X.flags.c_contiguous and not isinstance(index, slice):
            part: NDArray[Any] = self._X.take(index, axis=0)
            return part
        part = self._X[index]
        return part

    def _sums(
        self, features: Callable[[RowIndex], FloatArray], weight: RowVector | None
    ) -> tuple[FloatArray, FloatArray]:
        """Return Σ s f and Σ s ffᵀ over the rows with positive weight s.

        Each f is a row of the matrix features(index).
        """
        kept = None if weight is None or weight.all() else np.flatnonzero(weight)
        n = self.n if kept is None else kept.size
        unweighted = weight is None or np.count_nonzero(weight == 1.0) == n
        size = max(256, self.p, TASK_BYTES // (8 * (self.p + 1)))
        n_lanes = max(1, min(GRAM_LANES, -(-n // size)))
        lanes: dict[int, tuple[FloatArray, FloatArray]] = {}

        def block(start: int) -> tuple[FloatArray, FloatArray]:
            part = slice(start, start + size)
            index: RowIndex = part if kept is None else kept[part]
            f = features(index)
            if unweighted:
                return np.ones(f.shape[0]) @ f, f.T @ f
            assert weight is not None
            root = np.sqrt(weight[index])
            # Rows selected by number are a copy and may be overwritten; a slice may be a view.
            f = np.multiply(f, root[:, None], out=None if kept is None else f)
            return root @ f, f.T @ f

        def task(lane: int, step: int) -> None:
            for k in range(lane, n_lanes, step):
                sums, products = block(k * size)
                for start in range((k + n_lanes) * size, n, n_lanes * size):
                    more_sums, more_products = block(start)
                    sums += more_sums
                    products += more_products
                lanes[k] = sums, products

        self._team.run(task, n * self.p**2 // GRAM_FEATURES_PER_PASS)
        first, products = lanes[0]
        for k in range(1, n_lanes):
            first, products = first + lanes[k][0], products + lanes[k][1]
        return first, products

    def moments(
        self, weight: RowVector | None, index: RowIndex
    ) -> tuple[FloatArray, FloatArray]:
        # Sums of deviations from an approximate mean are more accurate than sums of values. The
        # approximate mean is computed from rows with positive weight, so all deviations are
        # zero in a column that is constant on these rows.
        if weight is not None:
            rows = np.arange(self.n)[index]
            rows = rows[weight[rows] > 0]
            index = rows if rows.size else np.flatnonzero(weight)[:1]
        centre = self._X[index].mean(axis=0, dtype=float)
        parts = self.blocks()
        sums = np.empty((len(parts), 2, self.p))

        def task(k: int) -> None:
            z = self._X[parts[k]] - centre
            s = np.ones(len(z)) if weight is None else weight[parts[k]]
            sums[k, 0] = s @ z
            z *= z
            sums[k, 1] = s @ z

        self._for_each(task, len(parts))
        total = float(self.n) if weight is None else weight.sum()
        first, second = sums.sum(axis=0) / total
        return centre + first, np.sqrt(np.maximum(second - first**2, 0.0))

    def row_norms_squared(self) -> FloatArray:
        parts, inverse, ones = self.blocks(), 1.0 / self.scale, np.ones(self.p)
        norms = np.empty(self.n)

        def task(k: int) -> None:
            z = self._X[parts[k]] - self.centre
            z *= inverse
            z *= z
            norms[parts[k]] = z @ ones

        self._for_each(task, len(parts))
        return norms

    def _for_each(self, task: Callable[[int], None], n: int) -> None:
        """Run task(k) for k = 0 … n − 1, in several threads if X is large."""

        def some(first: int, step: int) -> None:
            # Threads do not inherit the floating-point error handling of their caller.
            with np.errstate(invalid="ignore", over="ignore"):
                for k in range(first, n, step):
                    task(k)

        self._team.run(some, self.n_elements // 4)

    def extreme_moments(
        self, weight: RowVector | None, columns: NDArray[np.intp]
    ) -> tuple[FloatArray, FloatArray]:
        X = self._X[:, columns].astype(np.float64)
        unit = np.abs(X).max(axis=0, initial=0.0)
        unit[unit == 0] = 1.0
        mean, std = weighted_moments(X / unit, weight)
        return mean * unit, std * unit

    def take(self, index: RowIndex) -> DenseEngine:
        engine = DenseEngine(np.asarray(self._raw(index), order=self._layout), self._team)
        engine.unit = self.unit
        engine = engine.with_standardisation(self.centre, self.scale)
        # The engine for the taken rows uses the same kernel as this engine, so no kernel is
        # compiled.
        engine._layout, engine._kernel_centre = self._layout, self._kernel_centre
        return engine


def _contiguous(X: NDArray[Any]) -> tuple[Literal["C", "F", "A"], NDArray[Any]]:
    """Return the layout of X, and X with any gaps between its rows or columns included.

    The layout is "C", "F", or "A" for any other strides. A slice of a contiguous array may have
    gaps in memory between its rows or columns. With the gaps included, the slice is contiguous
    and needs no kernel of its own. No pass reads the gaps.
    """
    if X.flags.forc:
        return "C" if X.flags.c_contiguous else "F", X
    n, p = X.shape
    row, column = (stride / X.itemsize for stride in X.strides)
    if column == 1 and row >= p and row.is_integer():
        return "C", as_strided(X, (n, int(row)), X.strides, writeable=False)
    if row == 1 and column >= n and column.is_integer():
        return "F", as_strided(X, (int(column), p), X.strides, writeable=False)
    return "A", X
