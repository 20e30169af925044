"""Units of the target and the coefficients, chosen to prevent overflow."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._engines.base import Engine, FloatArray
from ._reductions import RowVector, gather, location
from ._sampling import Problem


class TargetUnits:
    """The units of a target: y = shift + unit · ỹ, where ỹ is fitted; unit is a power of 2.

    The values `typical`, if given, determine the units; otherwise y does.
    """

    def __init__(
        self, y: RowVector, fit_intercept: bool, typical: RowVector | None = None
    ) -> None:
        # Dividing by a power of two is exact. The first division keeps y − shift from
        # overflowing.
        typical = y if typical is None else typical
        low, high = float(typical.min()), float(typical.max())
        first = _power_of_two(max(high, -low))
        shift = location(typical) / first if fit_intercept else 0.0
        largest = max(high / first - shift, shift - low / first)
        second = min(_power_of_two(largest), 2.0**1023 / first)
        self._y_raw, self._steps = y, (first, shift, second)
        self._y: RowVector | None = None
        self.shift, self.unit = shift * first, first * second

    def y_for(self, problem: Problem) -> RowVector:
        """Return y in the units of the target, for the rows that the problem uses."""
        if problem.rows is not None:
            return self._scaled(gather(self._y_raw, problem.rows))
        # To save memory, y is converted for all rows only after the fit to a sample. A
        # cached_property is not used, because in Python 3.11 its lock is shared by all
        # instances and would stay locked in a process that is forked during a fit.
        if self._y is None:
            self._y = self._scaled(self._y_raw)
        return self._y

    def release(self) -> None:
        """Release the copy of y in the units of the target, to save memory."""
        self._y = None

    def _scaled(self, y: RowVector) -> RowVector:
        first, shift, second = self._steps
        y = y.astype(np.float64)
        y /= first
        y -= shift
        y /= second
        return y

    def to_data(self, coef: FloatArray, engine: Engine, dtype: Any = np.float64) -> FloatArray:
        """Return the intercept and coefficients in units of the data.

        `coef` contains (b, v), the intercept and coefficients for standardised features, in
        units of the target. The coefficients are rounded to `dtype`. The intercept is computed
        for the rounded coefficients, because rounding changes the best intercept considerably
        if features are far from zero. The caller must check whether the coefficients overflow.
        """
        coef = coef * self.unit
        with np.errstate(over="ignore", invalid="ignore"):
            slopes = coef[1:] / engine.scale
            if dtype != np.float64:
                rounded = (slopes / engine.unit).astype(dtype).astype(np.float64)
                slopes = rounded * engine.unit
            intercept = self.shift + coef[0] - slopes @ engine.centre
        return np.concatenate([[intercept], slopes / engine.unit])

    def from_data(self, intercept_and_coef: FloatArray, engine: Engine) -> FloatArray:
        """Return (b, v) in units of the target, for standardised features: invert `to_data`."""
        intercept, coef = intercept_and_coef[0], intercept_and_coef[1:]
        varies = np.isfinite(engine.scale)
        v = np.where(varies, coef, 0.0) * np.where(varies, engine.scale, 0.0) * engine.unit
        b = intercept + (coef * engine.unit) @ engine.centre - self.shift
        standardised: FloatArray = np.concatenate([[b], v]) / self.unit
        return standardised


def _power_of_two(size: float) -> float:
    return float(2.0 ** np.floor(np.log2(size))) if size > 0 else 1.0
