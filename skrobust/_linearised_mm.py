"""A fitted MM-estimate and its data, linearised at the fit.

The scale of an MM-estimate is computed from the residuals r of the S-estimate. Let u = r/σ_S,
and let ρ_S be the bisquare of the S-estimate, ε its breakdown point, k the rank and S the sum
of the weights s. The influence of an observation on σ_S is

    δσ_S = (ρ_S(u) − ε(1 − k/S)) / e,        e = Σ s ρ_S′(u) u / σ_S

This formula has no term in the coefficients of the S-estimate, because they minimise σ_S
(Croux, Dhaene and Hoorelbeke, "Robust standard errors for robust estimators", 2003). With K and
κ as in `trimmed_scale`, the trimmed scale solves

    Σ s g = 0,    g = (r² − κ²σ²) 1[|r| ≤ Kσ] + κ²σ²k/S,    δσ = (g − bᵀδθ_S) / e

where b and e are now the weighted sums of −∂g/∂θ and −∂g/∂σ. The influence δθ_S on the
coefficients of the S-estimate equals the influence on an M-estimate with the scale σ_S. A
trimmed scale that is at one of its bounds is a multiple of σ_S.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._engines.base import Engine, FloatArray
from ._linearised import FittedLoss, LinearisedFit
from ._model.loss import BISQUARE
from ._model.scale import MScale, trimmed_scores
from ._reductions import RowVector

# Tolerance, relative to sup ρ_S, within which the S-scale must solve its equation on the given
# data. It is larger for float32 data, because their coefficients are rounded to float32.
S_SCALE_RTOL, FLOAT32_S_SCALE_RTOL = 1e-7, 1e-4
# The trimmed scale is at a bound if its relative distance from the bound is less than this.
BOUND_RTOL = 1e-9
# For the trimmed scale, e is the difference between a sum of squares and a term for the density
# of the residuals at ±Kσ. The scale is treated as fixed if e is less than this fraction of the
# sum of squares.
MIN_TRIMMED_SHARE = 0.1


class SEstimate(NamedTuple):
    """The S-estimate of a fit, in the units of the data.

    `constant` is the tuning constant of the bisquare, and `total` is the sum S of the weights,
    which the fit uses as the number of rows.
    """

    intercept_and_coef: FloatArray
    scale: float
    constant: float
    breakdown: float
    total: float


class LinearisedMM(LinearisedFit):
    """An MM-estimate, linearised at its coefficients.

    Parameters
    ----------
    scale, constant : float
        The scale of the M-estimate, in the units of y, and the tuning constant of its bisquare.
    robustness : row vector
        The robustness weights ψ(r)/r of the rows.
    """

    def __init__(
        self,
        engine: Engine,
        y: RowVector,
        weight: RowVector | None,
        frequency: bool,
        intercept_and_coef: FloatArray,
        fit_intercept: bool,
        robustness: RowVector,
        scale: float,
        constant: float,
        s_estimate: SEstimate,
    ) -> None:
        self._data = engine, y, weight, frequency
        self._robustness, self._s = robustness, s_estimate
        estimator = MScale(s_estimate.constant, np.nan)
        loss = FittedLoss(constant * scale, scale, estimator, 0.0, False, BISQUARE)
        super().__init__(
            *self._data, loss, intercept_and_coef, fit_intercept, robustness=robustness
        )
        share = s_estimate.breakdown * (1.0 - self.rank / s_estimate.total)
        estimator.target = share * self.n

    def s_scale_agrees(self) -> bool:
        """Return whether the scale of the S-estimate solves its equation on these data."""
        assert self.loss.estimator is not None
        scale = self._s.scale / self.units.unit
        g, _, _ = self.loss.estimator.scores(self._s_residual(), scale, self.n)
        rtol = FLOAT32_S_SCALE_RTOL if self.engine.dtype == np.float32 else S_SCALE_RTOL
        return abs(float(self.times_weight(g).sum())) <= rtol * self.total

    def _s_residual(self) -> RowVector:
        change = self.coef - self.units.from_data(self._s.intercept_and_coef, self.engine)
        residual = self.linear_predictor(change)
        residual += self.residual
        return residual

    def scale_equation(self) -> tuple[RowVector, FloatArray, float] | None:
        """Return (g, b, e), where g is the influence of each observation on the scale.

        b is 0 and e is 1. The result is None if the trimmed scale is treated as fixed or if the
        S-estimate has directions without curvature.
        """
        s, scale = self._s, self._s.scale / self.units.unit
        bounds = scale * s.constant / (self.beta / self.scale), scale
        if any(abs(self.scale / bound - 1.0) < BOUND_RTOL for bound in bounds):
            on_scale = self._on_s_scale(self._s_residual(), scale)
            on_scale *= self.scale / scale
        else:
            on_scale = self._on_trimmed_scale(scale)
        return None if on_scale is None else (on_scale, np.zeros(self.coef.size), 1.0)

    def _on_s_scale(self, residual: RowVector, scale: float) -> RowVector:
        assert self.loss.estimator is not None
        on_scale, _, deriv = self.loss.estimator.scores(residual, scale, self.n)
        on_scale /= float(self.times_weight(deriv).sum())
        return on_scale

    def _on_trimmed_scale(self, s_scale: float) -> RowVector | None:
        s = self._s
        loss = FittedLoss(
            s.constant * s.scale, s.scale, self.loss.estimator, 0.0, False, BISQUARE
        )
        fit = LinearisedFit(
            *self._data, loss, s.intercept_and_coef, self.fit_intercept, self._robustness
        )
        if fit.without_curvature.shape[1]:
            return None
        residual, psi, a, root = fit.residual, fit.psi, fit.scale_slope(), fit.root
        del fit
        on_scale = self._on_s_scale(residual, s_scale)
        g, slope, squares, density = trimmed_scores(
            residual, self.weight, self.scale, s.total, round(self.rank), s.constant, self.n
        )
        if not squares - density >= MIN_TRIMMED_SHARE * squares:
            return None
        direction = root @ (root.T @ self.sum_features(self.times_weight(slope)))
        # g − bᵀδθ_S; the term of δθ_S that depends on δσ_S is included in `on_scale`.
        psi *= self.linear_predictor(direction)
        g -= psi
        on_scale *= float(direction @ a)
        g += on_scale
        g /= squares - density
        return g
