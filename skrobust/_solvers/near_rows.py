"""The rows whose |r| is near the threshold β and may cross it in a Newton step.

The loss of a row whose |r| stays on one side of β is quadratic along a step δ of the
coefficients: if |r| ≤ β, ψ = r changes by −z·δ, and if |r| > β, ψ = ±β is constant. For a row
whose |r| crosses β, the change of s ψ differs from that in the quadratic model by

    e = s (ψ(r_new) − ψ(r) − [|r| ≤ β] (r_new − r)),

where s is the weight of the row, and [|r| ≤ β] is 1 if |r| ≤ β and 0 otherwise. Since e is zero
for all other rows, only rows near the threshold are read (Madsen and Nielsen, 1993).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._engines.base import FloatArray
from .working_columns import WorkingColumns

# A row is near the threshold if | |r| − β | is at most NEAR_CHANGES times the root mean square
# change of the residuals in the first step, taken over the rows with |r| ≤ β. If more than the
# fraction COPY_MAX_FRACTION of the rows is near the threshold, all rows are used, and no
# features are copied.
NEAR_CHANGES, COPY_MAX_FRACTION = 4.0, 0.25
# Maximum number of steps of the line search. The line search ends when the absolute directional
# derivative is at most LINE_SEARCH_FACTOR times its value at the start of the Newton step. A
# secant step stays at least SECANT_MARGIN times the width of the bracket away from both ends of
# the bracket.
LINE_SEARCH_STEPS, LINE_SEARCH_FACTOR, SECANT_MARGIN = 30, 0.1, 0.1


class NearRows:
    """Rows near the threshold, with their residuals and features.

    Parameters
    ----------
    columns : WorkingColumns
        The columns of the working set and the Hessian over the rows with |r| ≤ β. The Hessian
        is updated when rows cross the threshold.
    residual : ndarray of shape (n,)
        The residuals at the start of the first step.
    beta : float
        The threshold.
    step : ndarray of shape (k,)
        The first step of the coefficients.
    every : bool
        Whether all rows are used, not only those near the threshold.
    """

    def __init__(
        self,
        columns: WorkingColumns,
        residual: FloatArray,
        beta: float,
        step: FloatArray,
        every: bool,
    ) -> None:
        self._columns, self._beta = columns, beta
        share = float(columns.s @ columns.inside)
        change = np.sqrt(max(float(step @ columns.H @ step), 0.0) / share) if share else np.inf
        near = np.abs(np.abs(residual) - beta) <= NEAR_CHANGES * change
        self._rows: slice | NDArray[np.intp] = slice(None)
        self._Z, self._s, self._r = columns.Z, columns.s, residual
        if not every and np.count_nonzero(near) <= COPY_MAX_FRACTION * residual.size:
            self._rows = np.flatnonzero(near)
            self._Z = columns.Z.take(self._rows, axis=1)
            self._s, self._r = columns.s[self._rows], residual[self._rows]

    def line_minimum(
        self,
        x: FloatArray,
        step: FloatArray,
        q: FloatArray,
        curvature: FloatArray,
        slope: FloatArray,
    ) -> float:
        """Return a step length t ≤ 1 for which x + t·step is near the minimum along the step.

        −q is the gradient at x without the L1 penalty, `curvature` is the product of the
        Hessian and the step, and `slope` contains the slopes of the L1 penalty.
        """
        self._change = -(step @ self._Z)
        self._psi = np.clip(self._r, -self._beta, self._beta)
        self._moves = np.where(self._psi == self._r, self._change, 0.0)
        second = float(curvature @ step)

        def derivative(t: float) -> float:
            at = x + t * step
            # This is the left derivative, so a coordinate that reaches zero at t keeps its
            # sign.
            sign = np.where(at == 0, -np.sign(step), np.sign(at))
            crossing = float(self._excess(t) @ self._change)
            return float((slope * sign - q) @ step) + t * second + crossing

        sign = np.where(x == 0, np.sign(step), np.sign(x))
        first = float((slope * sign - q) @ step)
        t, last = 1.0, derivative(1.0)
        if last <= LINE_SEARCH_FACTOR * abs(first):
            return t
        # The derivative increases with t. Each new t is the root of the secant through the
        # derivatives at the ends of the bracket.
        low, at_low, high, at_high = 0.0, first, t, last
        for _ in range(LINE_SEARCH_STEPS):
            part = at_low / (at_low - at_high) if at_low < 0 else 0.5
            t = low + (high - low) * min(max(part, SECANT_MARGIN), 1.0 - SECANT_MARGIN)
            last = derivative(t)
            if abs(last) <= LINE_SEARCH_FACTOR * abs(first):
                break
            if last > 0:
                high, at_high = t, last
            else:
                low, at_low = t, last
        return t

    def move(self, t: float) -> FloatArray:
        """Update the residuals after a step of length t, and the Hessian for rows that cross β.

        Returns Σ e z, by which the change of Σ s ψ z differs from that in the quadratic model.
        """
        excess = self._excess(t)
        inside = self._psi == self._r
        self._r = self._r + t * self._change
        now = np.abs(self._r) <= self._beta
        crossing = np.flatnonzero(~(now & inside) & (excess != 0))
        columns = self._columns
        mask = columns.inside.copy()
        mask[self._rows] = now
        columns.update(mask)
        added: FloatArray = self._Z.take(crossing, axis=1) @ excess[crossing]
        return added

    def _excess(self, t: float) -> FloatArray:
        """Return e, as defined in the module docstring, for each row and a step of length t."""
        moved = self._r + t * self._change
        excess = np.clip(moved, -self._beta, self._beta)
        excess -= self._psi
        excess -= t * self._moves
        excess *= self._s
        return excess
