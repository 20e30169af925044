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

from .._engines.base import FloatArray
from .._reductions import RowVector
from .linear_loss import Evaluation, LinearLoss
from .penalty import ElasticNet
from .whitening import Whitened


def elastic_net_gap(
    objective: Whitened,
    point: Evaluation,
    scale: float | None = None,
    gradient: FloatArray | None = None,
) -> float:
    """Return the gap for a penalty that leaves features out or has an L1 part or bounds.

    The objective need not be whitened.
    u is orthogonal to the intercept and to the features without a penalty, and shrunk until it
    is feasible. A feature without a penalty that is bounded below counts only if its
    coefficient is positive, or if u would otherwise violate its dual constraint. The function
    takes a pass over X for each set of features, or none if there are no such features and the
    gradient of the loss is given.
    """
    linear, r, beta = objective.linear, point.residual, objective.threshold
    data, penalty = linear.data, linear.penalty
    assert penalty is not None
    if not isinstance(penalty, ElasticNet):
        penalty = ElasticNet.of_ridge(penalty)
    engine, weight, total = data.engine, data.weight, data.total
    coef = objective.coef(point.theta)
    c = linear.loss.psi(r, beta)
    bounded, free = penalty.unpenalised(np.isfinite(engine.scale))
    free |= bounded & (coef > 0)
    while True:
        features = np.flatnonzero(free[1:])
        if features.size:
            u = engine.orthogonal_part(c, weight, features, data.fit_intercept, linear.loss)
        else:
            u = c - (_mean(c, weight, total) if data.fit_intercept else 0.0)
        shrink = max(1.0, float(u.max()) / beta, -float(u.min()) / beta)
        if scale is not None:
            size = float(np.sqrt(_mean_product(u, u, weight, total)))
            shrink = max(shrink, size / scale)
        u /= shrink
        if gradient is None or free.any():
            weighted = u if weight is None else weight * u
            slope = engine.row_combination(weighted, linear.loss) / total
        else:
            # The mean of c does not contribute, since that of z is zero.
            slope = -gradient / shrink
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
    value = point.value if scale is None else point.value + 0.5 * scale * scale
    return min(max(gap, 0.0), value)


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
