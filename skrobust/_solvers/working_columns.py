"""The columns of a working set of features, and their Hessian over the rows inside β.

With the standardised columns Z and the weights s, whose sum is one, H = Σ s zzᵀ over the rows
inside the threshold. Features are added, and rows that cross the threshold move in and out of
the sum. A row of `Z` here is a feature, so that each column of X is contiguous in memory.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._engines.base import FloatArray
from .._model.linear_loss import RegressionData

# Elements and rows of a block of Z: the products of a block must take longer than the addition
# of its result to H.
BLOCK_ELEMENTS, BLOCK_MIN_ROWS = 2**19, 2**10


class LastPoint(NamedTuple):
    """Coefficients (b, v) and a threshold, with the residuals and the gradient of the loss."""

    coef: FloatArray
    threshold: float
    residual: FloatArray
    gradient: FloatArray


class WorkingColumns:
    """Columns and Hessian, which the fits along a grid share.

    Attributes
    ----------
    s : ndarray of shape (n,)
        The weights, whose sum is one.
    index : ndarray of shape (k,)
        The positions of the features in (b, v); that of the intercept is 0 and comes first.
    Z : ndarray of shape (k, n)
    H : ndarray of shape (k, k)
        The Hessian, after `update`.
    inside : ndarray of shape (n,)
        The rows that H is the sum over.
    last : LastPoint or None
        The point at which the last fit ended.
    """

    def __init__(self, data: RegressionData) -> None:
        self._engine = data.engine
        n = data.engine.n
        self.s = np.full(n, 1.0 / n) if data.weight is None else data.weight / data.total
        self.index = np.arange(1 if data.fit_intercept else 0)
        self.H = np.zeros((self.index.size, self.index.size))
        self.last: LastPoint | None = None
        self.inside = np.zeros(n, dtype=bool)
        self.Z = np.ones((self.index.size, n))

    def add(self, new: NDArray[np.intp]) -> None:
        """Add features; `update` adds their products."""
        new = new[~np.isin(new, self.index)]
        if not new.size:
            return
        k = self.index.size
        # The memory is extended in place, without a copy. No view of it exists here.
        self.Z.resize((k + new.size, self.inside.size), refcheck=False)
        self._engine.columns(new - 1, out=self.Z[k:].T)
        self.index = np.concatenate([self.index, new])

    def update(self, inside: NDArray[np.bool_]) -> None:
        """Update the Hessian for new features and for rows that crossed the threshold."""
        crossing = inside ^ self.inside
        n_inside, n_crossing = np.count_nonzero(inside), np.count_nonzero(crossing)
        k, n_new = self.index.size, self.index.size - len(self.H)
        if n_crossing * k + 2 * n_inside * n_new > n_inside * k:
            # Computing all products together takes less time.
            self.H = np.zeros((k, k))
            self._add_products(inside, 1)
        else:
            if n_new:
                self._extend_hessian()
            if n_crossing:
                self._add_products(crossing & inside, 1)
                self._add_products(crossing & ~inside, -1)
        self.inside = inside

    def _extend_hessian(self) -> None:
        """Add the products of new features over the rows that were inside."""
        k, Z, weight = len(self.H), self.Z, np.where(self.inside, self.s, 0.0)
        products = np.zeros((len(Z) - k, len(Z)))
        for rows in self._blocks(weight.size):
            products += (Z[k:, rows] * weight[rows]) @ Z[:, rows].T
        H = np.empty((len(Z), len(Z)))
        H[:k, :k], H[k:], H[:k, k:] = self.H, products, products[:, :k].T
        self.H = H

    def _add_products(self, mask: NDArray[np.bool_], sign: int) -> None:
        """Add Σ s zzᵀ over the rows of a mask to H, or subtract it."""
        rows = np.flatnonzero(mask)
        root = np.sqrt(self.s[rows])
        for block in self._blocks(rows.size):
            A = self.Z.take(rows[block], axis=1)
            A *= root[block]
            if sign > 0:
                self.H += A @ A.T
            else:
                self.H -= A @ A.T

    def _blocks(self, n: int) -> list[slice]:
        size = max(BLOCK_MIN_ROWS, BLOCK_ELEMENTS // max(1, self.index.size))
        return [slice(i, min(i + size, n)) for i in range(0, n, size)]
