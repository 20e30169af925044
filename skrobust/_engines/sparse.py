"""The engine for X as a CSR matrix.

The centre is subtracted from sums over the rows, not from X, since a centred X is not sparse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from .base import (
    CompiledLoss,
    Engine,
    FloatArray,
    RowIndex,
    RowVector,
    centred_gram,
    standardised_sums,
)
from .compile import kernels

if TYPE_CHECKING:
    from .threads import ThreadTeam

# A column without implicit zeros is centred in a copy of X if its mean is more than this many
# standard deviations from zero, since subtracting the centre from sums cancels twice as many
# digits as subtracting it from the values. The mean of a column with implicit zeros is at most
# √n standard deviations from zero.
MAX_SHIFT = 100.0
# Number of stored elements in a block of a pass, and maximum number of blocks, which is limited
# because each block has a vector of p sums.
BLOCK_ELEMENTS, MAX_BLOCKS = 65_536, 16
_UNIT_WEIGHT = np.ones(1)


class SparseEngine(Engine):
    """X as a CSR matrix."""

    gram_max_features = 200

    def __init__(self, X: Any, team: ThreadTeam) -> None:
        if not X.has_canonical_format:
            X = X.copy()
            X.sum_duplicates()
        n_blocks = max(1, min(MAX_BLOCKS, X.nnz // BLOCK_ELEMENTS))
        super().__init__(X, team, -(-X.shape[0] // n_blocks))
        # SciPy accepts index arrays with different dtypes. They are converted to a common dtype
        # and viewed as unsigned integers, because Numba tests whether a signed index is
        # negative, and these tests take longer than the arithmetic.
        dtype = np.result_type(X.indices, X.indptr)
        self._index = tuple(
            index.astype(dtype, copy=False).view(f"u{dtype.itemsize}")
            for index in (X.indices, X.indptr)
        )
        # The centre that is subtracted from sums; zero for columns stored in centred form.
        self._shift = self.centre
        self._by_columns: Any = None

    @property
    def n_elements(self) -> int:
        return int(self._X.nnz)

    def with_standardisation(self, centre: FloatArray, scale: FloatArray) -> Self:
        engine = super().with_standardisation(centre, scale)
        engine._shift = centre
        far = np.abs(centre) > MAX_SHIFT * scale
        if far.any():
            far &= np.bincount(self._X.indices, minlength=self.p) == self.n
        if far.any():
            X = self._X.astype(np.float64)
            X.data -= np.where(far, centre, 0.0)[X.indices]
            engine._X, engine._shift = X, np.where(far, 0.0, centre)
            engine._by_columns = None
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
        X = self._X
        residual = np.empty(self.n) if out is None else out
        weight = _UNIT_WEIGHT if weight is None else weight
        sums = np.empty((self.n_blocks, self.p + 3))
        w = coef[1:] / self.scale
        b = float(coef[0]) - float(self._shift @ w)
        run = kernels().sparse_pass(loss.rho_psi, X.data.dtype, self._index[0].dtype)
        fixed = (X.data, *self._index, w, b, y, weight, float(threshold), residual, sums)
        self._team.run(lambda first, step: run(*fixed, first, step, self.block), X.nnz)
        raw = sums.sum(axis=0) if self.n_blocks > 1 else sums[0]
        return residual, standardised_sums(raw, self._shift, self.scale, subtracted=False)

    def abs_dot(self, coef: FloatArray) -> RowVector:
        """Return |Z| coef, the value for a row of zeros plus a term for the stored elements."""
        X, shift, unit = self._X, self._shift, coef[1:] / self.scale
        change = np.abs(X.data - shift[X.indices]) - np.abs(shift[X.indices])
        stored = type(X)((change, X.indices, X.indptr), shape=X.shape) @ unit
        return np.maximum(coef[0] + np.abs(shift) @ unit + stored, 0.0)

    def rows(self, index: RowIndex) -> FloatArray:
        part = self._X[index].toarray()
        Z = np.empty((part.shape[0], self.p + 1))
        Z[:, 0] = 1.0
        Z[:, 1:] = (part - self._shift) / self.scale
        return Z

    def columns(self, index: NDArray[np.intp], out: FloatArray | None = None) -> FloatArray:
        Z = np.empty((index.size, self.n)).T if out is None else out
        np.subtract(self._columns[:, index].toarray(), self._shift[index], out=Z)
        Z *= 1.0 / self.scale[index]
        return Z

    @property
    def _columns(self) -> Any:
        """X as a CSC matrix, created on first use."""
        if self._by_columns is None:
            self._by_columns = self._X.tocsc()
        return self._by_columns

    def gram(self, weight: RowVector | None = None) -> FloatArray:
        weight = np.ones(self.n) if weight is None else weight
        kept = np.flatnonzero(weight)
        X = self._X[kept].astype(np.float64)
        root = np.sqrt(weight[kept])
        X.data *= np.repeat(root, np.diff(X.indptr)) / self.scale[X.indices]
        sums, products = np.asarray(X.T @ root).ravel(), (X.T @ X).toarray()
        return centred_gram(self._shift / self.scale, weight.sum(), sums, products)

    def moments(
        self, weight: RowVector | None, index: RowIndex
    ) -> tuple[FloatArray, FloatArray]:
        return self._moments(self._X, weight)

    def extreme_moments(
        self, weight: RowVector | None, columns: NDArray[np.intp]
    ) -> tuple[FloatArray, FloatArray]:
        X = self._X[:, columns].astype(np.float64)
        unit = abs(X).max(axis=0).toarray().ravel()
        unit[unit == 0] = 1.0
        X.data /= unit[X.indices]
        mean, std = self._moments(X, weight)
        return mean * unit, std * unit

    def _moments(self, X: Any, weight: RowVector | None) -> tuple[FloatArray, FloatArray]:
        """Return the weighted mean and standard deviation of each column of X.

        Implicit zeros are included.
        """
        s = np.ones(self.n) if weight is None else weight
        total = s.sum()

        def column_sums(data: FloatArray) -> FloatArray:
            sums: FloatArray = type(X)((data, X.indices, X.indptr), shape=X.shape).T @ s
            return sums

        count = np.bincount(X.indices, minlength=X.shape[1])
        zeros = total - (count if weight is None else column_sums(np.ones(X.data.size)))
        zeros[count == self.n] = 0.0
        mean = column_sums(X.data) / total
        # One correction of the mean prevents the rounding error of a long sum from making a
        # constant column appear to vary.
        deviation = X.data - mean[X.indices]
        mean += (column_sums(deviation) - zeros * mean) / total
        deviation = X.data - mean[X.indices]
        deviation *= deviation
        squares = column_sums(deviation)
        return mean, np.sqrt((squares + np.maximum(zeros, 0.0) * mean**2) / total)
