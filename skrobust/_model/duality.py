"""The duality gap of the Huber objective F: an upper bound on F − min F.

For a fixed threshold β, the penalty ½ Σ_j d_j v_j² and weights s with Σ s = S, the dual
function of F is

    D(u) = (1/S) Σ s (u r − u²/2) + u_v·v − Σ_j u_v,j² / (2 d_j),    u_v = (1/S) Σ s u z,

where z contains the standardised features of a row and r is its residual at any intercept b and
coefficients v. u is feasible if |u_i| ≤ β for each row and, with an intercept, Σ s u = 0.
Without a penalty, u_v must be zero. The gap F − D(u) at (b, v) is

    (1/S) Σ s (c − u) (r − (c + u)/2) + Σ_j (d_j v_j − u_v,j)² / (2 d_j),    c = clip(r, ±β),

a sum of non-negative terms, which can be evaluated without cancellation. With a concomitant
scale σ and β = εσ, a feasible u must also satisfy (1/S) Σ s u² ≤ σ², and the gap also contains
the term (σ² − (1/S) Σ s u²)/2 (Owen, 2007).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._engines.base import FloatArray
from .._reductions import RowVector
from .linear_loss import Evaluation, LinearLoss
from .penalty import ElasticNet
from .scale import rounding_floor_bound
from .whitening import Whitened

# If rounding errors of the residuals exceed this fraction of the threshold, the gap is also
# computed with a corrected ψ(r).
ROUNDING_OF_PSI = 1e-9
# If the value of the penalty is below this fraction of the objective, the gap is also computed
# with the dual of the unpenalised objective.
NEGLIGIBLE_PENALTY = 1e-9


def elastic_net_gap(
    objective: Whitened,
    point: Evaluation,
    scale: float | None = None,
    gradient: FloatArray | None = None,
) -> float:
    """Return the duality gap for a penalty with an L1 part, bounds or unpenalised features.

    The objective need not be whitened. The dual variable u is the component of ψ(r) orthogonal
    to the intercept and to the unpenalised features, scaled down until it is feasible. The
    function takes at least one pass over X, or none if every feature is penalised and
    `gradient`, the gradient of the loss, is given.

    If rounding errors of the residuals are not negligible compared with the threshold β, ψ(r)
    is inaccurate for rows with |r| ≤ β. In this case, if X is in memory, u is also computed
    from a corrected ψ(r), and the smaller of the two gaps is returned. If the gradient of the
    penalty is below the rounding errors of u_v, the result may be the gap of the objective
    without the penalty plus the value of the penalty.
    """
    linear = objective.linear
    penalty = linear.penalty
    assert penalty is not None
    if not isinstance(penalty, ElasticNet):
        penalty = ElasticNet.of_ridge(penalty)
    dual = _ElasticNetDual(objective, penalty, point, scale)
    gap = dual.gap(dual.psi, gradient)
    rounding = rounding_floor_bound(objective, point.theta)
    if rounding > ROUNDING_OF_PSI * objective.threshold and linear.data.engine.in_memory:
        gap = min(gap, dual.gap(dual.corrected(rounding)))
    value = point.value if scale is None else point.value + 0.5 * scale * scale
    above = penalty.value(dual.coef)
    negligible = (penalty.slope + penalty.diagonal).max() <= NEGLIGIBLE_PENALTY * point.psi_rms
    if negligible and 0.0 < above <= NEGLIGIBLE_PENALTY * value:
        # The minimum of the objective without the penalty is at most the minimum with the
        # penalty.
        unpenalised = _ElasticNetDual(objective, penalty.scaled(0.0), point, scale)
        gap = min(gap, unpenalised.gap(dual.psi) + above)
    return min(max(gap, 0.0), value)


class _ElasticNetDual:
    """The dual of an objective with an elastic-net penalty, evaluated at a point."""

    def __init__(
        self,
        objective: Whitened,
        penalty: ElasticNet,
        point: Evaluation,
        scale: float | None,
    ) -> None:
        self.linear, self.penalty, self.scale = objective.linear, penalty, scale
        self.residual, self.beta = point.residual, objective.threshold
        self.coef = objective.coef(point.theta)
        self.psi = self.linear.loss.psi(self.residual, self.beta)

    def gap(self, near: RowVector, gradient: FloatArray | None = None) -> float:
        """Return the duality gap for the u that results from projecting and scaling `near`.

        The row vector `near` is projected onto the complement of the unpenalised features and
        then scaled down until u is feasible. A feature with a lower bound but no penalty is
        included in the projection only if its coefficient is nonzero or its dual constraint
        would otherwise be violated. `gradient` is −(1/S) Σ s near (1, z), or None if it is
        unknown.
        """
        penalty, coef, data = self.penalty, self.coef, self.linear.data
        c, r, scale = self.psi, self.residual, self.scale
        weight, total = data.weight, data.total
        bounded, free = penalty.unpenalised(np.isfinite(data.engine.scale))
        free |= bounded & (coef > 0)
        while True:
            u = self._orthogonal_part(near, np.flatnonzero(free[1:]))
            shrink = max(1.0, float(u.max()) / self.beta, -float(u.min()) / self.beta)
            if scale is not None:
                size = float(np.sqrt(_mean_product(u, u, weight, total)))
                shrink = max(shrink, size / scale)
            u /= shrink
            # u is `near` minus its mean, divided by `shrink`. Since the standardised features
            # have mean zero, the mean does not contribute to the slopes, and the given gradient
            # can be used.
            slope = self._slope(u) if gradient is None or free.any() else -gradient / shrink
            slope[0] = 0.0
            slope[free] = 0.0
            # The slope of a feature with a lower bound but no penalty must not be positive.
            infeasible = bounded & (slope > 0)
            if not infeasible.any():
                break
            free |= infeasible
        t = penalty.dual_scale(slope)
        u *= t
        gap = penalty.fenchel_gap(coef, t * slope)
        gap += _mean_product(c - u, r - 0.5 * (c + u), weight, total)
        if scale is not None:
            gap += 0.5 * (scale * scale - _mean_product(u, u, weight, total))
        return gap

    def corrected(self, rounding: float) -> RowVector:
        """Return ψ(r), corrected so that (1/S) Σ s ψ z_j = ∂P/∂v_j.

        There is one such equation for each nonzero coefficient v_j and, with an intercept, the
        equation Σ s ψ = 0. The correction δ is the one with the smallest Σ s δ², and it is zero
        for rows with |r| > β.
        """
        data, coef = self.linear.data, self.coef
        inside = np.abs(self.residual) <= self.beta + rounding
        s = np.ones(inside.size) if data.weight is None else data.weight
        inside &= s > 0
        nonzero = coef != 0
        nonzero[0] = data.fit_intercept
        missing = data.total * (self.penalty.gradient(coef) - self._slope(self.psi))[nonzero]
        root = np.sqrt(s[inside])
        A = data.engine.columns(np.flatnonzero(nonzero[1:]))[inside]
        if data.fit_intercept:
            A = np.column_stack([np.ones(len(A)), A])
        corrected: RowVector = self.psi.copy()
        corrected[inside] += np.linalg.lstsq((root[:, None] * A).T, missing)[0] / root
        return corrected

    def _orthogonal_part(self, near: RowVector, features: NDArray[np.intp]) -> RowVector:
        """Return the component of `near` orthogonal to the intercept and the given features."""
        data, loss = self.linear.data, self.linear.loss
        if not features.size:
            return near - (_mean(near, data.weight, data.total) if data.fit_intercept else 0.0)
        return data.engine.orthogonal_part(
            near, data.weight, features, data.fit_intercept, loss
        )

    def _slope(self, u: RowVector) -> FloatArray:
        """Return (1/S) Σ s u (1, z), an array of shape (p + 1,)."""
        data = self.linear.data
        weighted = u if data.weight is None else data.weight * u
        slope: FloatArray = data.engine.row_combination(weighted, self.linear.loss) / data.total
        return slope


def _leaves_features_out(linear: LinearLoss) -> bool:
    """Return whether the penalty is quadratic and some nonconstant feature is unpenalised."""
    penalty, engine = linear.penalty, linear.data.engine
    if penalty is None or not penalty.is_quadratic:
        return False
    diagonal = penalty.hessian_diagonal(np.zeros(engine.p + 1))[1:]
    return bool((diagonal[np.isfinite(engine.scale)] == 0).any())


def duality_gap(objective: Whitened, point: Evaluation, scale: float | None) -> float:
    """Return the duality gap at a point, an upper bound on F − min F.

    Without a penalty, the weighted Gram matrix of all rows must be the identity in the whitened
    coordinates. `scale` is the concomitant scale, or None if the threshold is fixed. The
    function takes one pass over X, or more if the penalty leaves some features unpenalised.
    """
    linear, r, beta = objective.linear, point.residual, objective.threshold
    weight, total = linear.data.weight, linear.data.total
    if isinstance(linear.penalty, ElasticNet) or _leaves_features_out(linear):
        return elastic_net_gap(objective, point, scale)
    c = linear.loss.psi(r, beta)
    if linear.penalty is None:
        # u = c − Z(ZᵀSZ)⁻¹ZᵀSc with S = diag(s). The projection of c is computed from the
        # gradient, since the weighted Gram matrix is the identity in whitened coordinates.
        engine, coef = objective.engine, objective.coef(point.gradient)
        u, _ = engine.loss_gradient(coef, engine.zeros(), None, linear.loss, np.inf)
        np.subtract(c, u, out=u)
    else:
        u = c - (_mean(c, weight, total) if linear.data.fit_intercept else 0.0)
    shrink = max(1.0, float(u.max()) / beta, -float(u.min()) / beta)
    if scale is not None:
        shrink = max(shrink, float(np.sqrt(_mean_product(u, u, weight, total))) / scale)
    if shrink > 1.0:
        u /= shrink
    # The terms (c − u) (r − (c + u)/2) are computed in place, since allocating temporary arrays
    # takes longer than the arithmetic.
    c -= u
    gap = 0.0
    if scale is not None:
        gap = 0.5 * (scale * scale - _mean_product(u, u, weight, total))
    np.subtract(r, u, out=u)
    gap += _mean_product(c, u, weight, total) - 0.5 * _mean_product(c, c, weight, total)
    if linear.penalty is not None:
        coef = objective.coef(point.theta)
        d, slope = linear.penalty.hessian_diagonal(coef), linear.penalty.gradient(coef)
        # u is c minus its mean, divided by `shrink`. The mean does not contribute to u_v, since
        # the standardised features have mean zero.
        u_v = (slope - linear.evaluate(coef).gradient) / shrink
        positive = d > 0
        gap += float(((slope - u_v)[positive] ** 2 / (2.0 * d[positive])).sum())
    # u = 0 is feasible, and its gap is F for a fixed threshold and F + σ²/2 for a concomitant
    # scale. The smaller of the two gaps is returned.
    value = point.value if scale is None else point.value + 0.5 * scale * scale
    return min(max(gap, 0.0), value)


def _mean(rows: RowVector, weight: RowVector | None, total: float) -> float:
    return float((rows.sum() if weight is None else weight @ rows) / total)


def _mean_product(a: RowVector, b: RowVector, weight: RowVector | None, total: float) -> float:
    return float((a @ b if weight is None else (weight * a) @ b) / total)
