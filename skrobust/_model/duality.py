"""The duality gap of the Huber objective F: an upper bound on F − min F.

For a fixed threshold, a penalty ½ Σ_j d_j v_j² and weights with Σ s = S, the dual of F is

    D(u) = (1/S) Σ s (u r − u²/2) + u_v·v − Σ_j u_v,j² / (2 d_j),    u_v = (1/S) Σ s u z,

for every u with |u_i| ≤ β and Σ s u = 0 (with an intercept), where r are the residuals at any
(b, v). Without a penalty u_v must be zero. With c = clip(r, ±β), F − D(u) is

    (1/S) Σ s (c − u) (r − (c + u)/2) + Σ_j (d_j v_j − u_v,j)² / (2 d_j),

a sum of non-negative terms, which is not affected by cancellation. With a concomitant scale σ,
β = εσ, u must satisfy (1/S) Σ s u² ≤ σ² as well, and (σ² − (1/S) Σ s u²)/2 is added (Owen,
2007).
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

# If the rounding of a residual exceeds this fraction of the threshold, ψ(r) is corrected.
ROUNDING_OF_PSI = 1e-9
# A penalty below this fraction of the objective is omitted from the dual.
NEGLIGIBLE_PENALTY = 1e-9


def elastic_net_gap(
    objective: Whitened,
    point: Evaluation,
    scale: float | None = None,
    gradient: FloatArray | None = None,
) -> float:
    """Return the gap for a penalty that leaves features out or has an L1 part or bounds.

    The objective need not be whitened. u is orthogonal to the intercept and to the features
    without a penalty, and shrunk until it is feasible. The function takes a pass over X for
    each set of such features, or none if there are no such features and the gradient of the
    loss is given, which must be that for ψ(r). If rounding errors of the residuals are not
    small compared with the threshold, they determine ψ(r) of the rows inside. With X in memory
    the gap is then the smaller of two, for ψ(r) and for a correction of it. If the penalty is
    so small that rounding errors of u_v exceed its slope, the gap is the sum of the penalty and
    of the gap without it.
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
        # The minimum without the penalty is not larger than that with it.
        unpenalised = _ElasticNetDual(objective, penalty.scaled(0.0), point, scale)
        gap = min(gap, unpenalised.gap(dual.psi) + above)
    return min(max(gap, 0.0), value)


class _ElasticNetDual:
    """The dual of an objective at a point, for an elastic-net penalty."""

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
        """Return the gap for a feasible u near a row vector, whose gradient may be given.

        Among the features without a penalty that are bounded below, u is orthogonal only to
        those with nonzero coefficients, and to those at the bound that would otherwise violate
        the dual constraint.
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
            # The mean of ψ(r) does not contribute to a given gradient, since that of z is zero.
            slope = self._slope(u) if gradient is None or free.any() else -gradient / shrink
            slope[0] = 0.0
            slope[free] = 0.0
            # A feature that is only bounded below must not have a positive slope.
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
        """Return ψ(r) with corrections of the rows inside, for which (1/S) Σ s ψ z = ∇P.

        The equation is that of the nonzero coefficients, and the corrections the smallest ones.
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
        """Return a row vector minus its projection on the intercept and some features."""
        data, loss = self.linear.data, self.linear.loss
        if not features.size:
            return near - (_mean(near, data.weight, data.total) if data.fit_intercept else 0.0)
        return data.engine.orthogonal_part(
            near, data.weight, features, data.fit_intercept, loss
        )

    def _slope(self, u: RowVector) -> FloatArray:
        """Return (1/S) Σ s u (1, z)."""
        data = self.linear.data
        weighted = u if data.weight is None else data.weight * u
        slope: FloatArray = data.engine.row_combination(weighted, self.linear.loss) / data.total
        return slope


def _leaves_features_out(linear: LinearLoss) -> bool:
    """Tell whether a quadratic penalty does not apply to each feature that varies."""
    penalty, engine = linear.penalty, linear.data.engine
    if penalty is None or not penalty.is_quadratic:
        return False
    diagonal = penalty.hessian_diagonal(np.zeros(engine.p + 1))[1:]
    return bool((diagonal[np.isfinite(engine.scale)] == 0).any())


def duality_gap(objective: Whitened, point: Evaluation, scale: float | None) -> float:
    """Return an upper bound on F − min F at a point.

    The objective must be whitened for all rows. `scale` is the concomitant scale, or None if
    the threshold is fixed. The function takes one pass over X.
    """
    linear, r, beta = objective.linear, point.residual, objective.threshold
    weight, total = linear.data.weight, linear.data.total
    if isinstance(linear.penalty, ElasticNet) or _leaves_features_out(linear):
        return elastic_net_gap(objective, point, scale)
    c = linear.loss.psi(r, beta)
    if linear.penalty is None:
        # u = c − Z(ZᵀSZ)⁻¹ZᵀSc, since the whitened Gram matrix is the identity.
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
    # (c − u) (r − (c + u)/2), in place, since temporaries take longer than the arithmetic.
    c -= u
    gap = 0.0
    if scale is not None:
        gap = 0.5 * (scale * scale - _mean_product(u, u, weight, total))
    np.subtract(r, u, out=u)
    gap += _mean_product(c, u, weight, total) - 0.5 * _mean_product(c, c, weight, total)
    if linear.penalty is not None:
        coef = objective.coef(point.theta)
        d, slope = linear.penalty.hessian_diagonal(coef), linear.penalty.gradient(coef)
        # The standardised features have mean zero, so that the mean of c does not
        # contribute to u_v.
        u_v = (slope - linear.evaluate(coef).gradient) / shrink
        positive = d > 0
        gap += float(((slope - u_v)[positive] ** 2 / (2.0 * d[positive])).sum())
    # u = 0 is feasible, with D = 0.
    value = point.value if scale is None else point.value + 0.5 * scale * scale
    return min(max(gap, 0.0), value)


def _mean(rows: RowVector, weight: RowVector | None, total: float) -> float:
    return float((rows.sum() if weight is None else weight @ rows) / total)


def _mean_product(a: RowVector, b: RowVector, weight: RowVector | None, total: float) -> float:
    return float((a @ b if weight is None else (weight * a) @ b) / total)
