"""The columns of a working set of features, and the Hessian of the loss for these features.

The Hessian is H = Σ s zzᵀ over the rows with |r| ≤ β, where β is the threshold. For each row, z
contains the standardised values of the features in the working set. The weights s add up to
one. H is updated when features are added and when |r| crosses β for some rows. Each row of the
array `Z` holds one feature, so that the values of the feature are contiguous in memory.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._engines.base import FloatArray
from .._model.linear_loss import RegressionData

# Number of elements and minimum number of rows of X in a block of Z. A block is large enough
# for its product with its transpose to take longer than adding this product to H.
BLOCK_ELEMENTS, BLOCK_MIN_ROWS = 2**19, 2**10


class LastPoint(NamedTuple):
    """Coefficients (b, v), a threshold, and the corresponding residuals and loss gradient."""

    coef: FloatArray
    threshold: float
    residual: FloatArray
    gradient: FloatArray


class WorkingColumns:
    """The columns and the Hessian of a working set, shared by the fits along a grid.

    Attributes
    ----------
    s : ndarray of shape (n,)
        The weights, whose sum is one.
    index : ndarray of shape (k,)
        The positions of the features in (b, v). The intercept, if any, has position 0 and comes
        first.
    Z : ndarray of shape (k, n)
        The standardised features; the row of the intercept contains ones.
    H : ndarray of shape (k, k)
        The Hessian, which is valid after a call to `update`.
    inside : ndarray of shape (n,)
        A mask of the rows over which H is summed.
    last : LastPoint or None
        The point at which the last fit ended, or None if the next fit cannot use it.
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
        """Add features to the columns; the next call to `update` adds them to the Hessian."""
        new = new[~np.isin(new, self.index)]
        if not new.size:
            return
        k = self.index.size
        # Z is extended in place, without a copy. This is safe, since no view of Z exists here.
        self.Z.resize((k + new.size, self.inside.size), refcheck=False)
        self._engine.columns(new - 1, out=self.Z[k:].T)
        self.index = np.concatenate([self.index, new])

    def update(self, inside: NDArray[np.bool_]) -> None:
        """Update the Hessian for new features and a new mask of the rows with |r| ≤ β."""
        crossing = inside ^ self.inside
        n_inside, n_crossing = np.count_nonzero(inside), np.count_nonzero(crossing)
        k, n_new = self.index.size, self.index.size - len(self.H)
        if n_crossing * k + 2 * n_inside * n_new > n_inside * k:
            # Recomputing the whole Hessian takes less time than updating it.
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
        """Add the rows and columns of new features to H, summed over the rows in `inside`."""
        k, Z, weight = len(self.H), self.Z, np.where(self.inside, self.s, 0.0)
        products = np.zeros((len(Z) - k, len(Z)))
        for rows in self._blocks(weight.size):
            products += (Z[k:, rows] * weight[rows]) @ Z[:, rows].T
        H = np.empty((len(Z), len(Z)))
        H[:k, :k], H[k:], H[:k, k:] = self.H, products, products[:, :k].T
        self.H = H

    def _add_products(self, mask: NDArray[np.bool_], sign: int) -> None:
        """Add Σ s zzᵀ over the rows in a mask to H, or subtract it if `sign` is negative."""
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
