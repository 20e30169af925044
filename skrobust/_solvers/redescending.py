"""Descent for a redescending loss, at a fixed scale (M) or at the M-scale of the residuals (S).

With weights w(r) = ψ(r)/r, a step of iteratively reweighted least squares,

    d = (Σ s w ζζᵀ)⁻¹ Σ s w r ζ,

never raises the objective, because the quadratic with these weights touches it from above. It
converges linearly; near the minimum Newton's method, with ψ′ instead of w, converges
quadratically. Each iteration takes the Newton step if its Hessian is positive definite and the
step does not raise the objective, otherwise the step of a mixture of both matrices, and the
reweighted step if that fails as well.

An S-estimate minimises the M-scale s(θ) with Σ s ρ(r/s) constant. Since ds/dθ is zero at the
minimum, both steps are those of the M-objective at the current scale: a point that does not
raise that objective has a scale that is not larger (Yohai, "High breakdown-point and high
efficiency robust estimates for regression", Annals of Statistics 15, 1987).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import eigh, lapack

from .._engines.base import FloatArray
from .._model.linear_loss import Evaluation
from .._model.scale import MScale, WarmScale, rounding_floor, rounding_floor_bound
from .._model.whitening import Whitened, Whitening, inverse_cholesky
from .result import Solution, Status

# A Newton step is taken if the relative gradient is below NEWTON_MAX_GRADIENT. The step of an
# M-estimate must also be at most NEWTON_MAX_STEP times the threshold: a longer one may lead to
# another local minimum.
NEWTON_MAX_GRADIENT, NEWTON_MAX_STEP = 0.3, 0.1
# Fractions of the Hessian that are mixed with the matrix of the reweighted step if the step of
# the Hessian alone is not taken.
NEWTON_SHARES = (0.75, 0.5)
# Curvatures below this fraction of the largest are rounding errors.
MIN_RELATIVE_CURVATURE = 1e-14
TARGET_RTOL = 1e-12
# If the scale is at most this many times the rounding of a typical residual, the rows that are
# fitted exactly are counted.
NEAR_EXACT = 1e8
# A relative rise of the objective that rounding may cause, and the largest relative gradient at
# which a point from which no step descends is taken as the minimum.
VALUE_RISE_RTOL, ROUNDING_GRADIENT = 1e-13, 1e-6


def redescending(objective: Whitened, start: FloatArray, tol: float, max_iter: int) -> Solution:
    """Descend to a local minimum of the objective at its threshold."""
    return _descend(None, objective, start, tol, max_iter)[0]


def minimise_m_scale(
    estimator: MScale, objective: Whitened, start: FloatArray, tol: float, max_iter: int
) -> tuple[Solution, float]:
    """Descend to a local minimum of the M-scale of the residuals; return also the scale.

    A scale of zero means that it is within the rounding of the residuals.
    """
    return _descend(estimator, objective, start, tol, max_iter)


def _descend(
    estimator: MScale | None,
    objective: Whitened,
    start: FloatArray,
    tol: float,
    max_iter: int,
) -> tuple[Solution, float]:
    n_passes = objective.n_passes
    point, scale = objective.evaluate(start), 0.0
    if estimator is not None:
        objective, point, scale = _at_m_scale(estimator, objective, point, None)
    objective, point, T = _rewhitened(objective, point)
    n_iter, status = 0, None
    while status is None:
        if estimator is not None and not scale > 0:
            status = Status.OBJECTIVE_WITHIN_ROUNDING
        elif point.relative_gradient <= tol:
            status = Status.GRADIENT_WITHIN_TOL
        elif n_iter >= max_iter:
            status = Status.MAX_ITER
        else:
            # Any descent leads to a better S-estimate; that of an M-estimate must not leave the
            # basin of the S-estimate.
            longest = NEWTON_MAX_STEP * objective.threshold if estimator is None else np.inf
            following = _step(objective, point, longest)
            if following is None:
                small = point.relative_gradient <= ROUNDING_GRADIENT
                status = Status.GRADIENT_WITHIN_ROUNDING if small else Status.STALLED
            else:
                point, n_iter = following, n_iter + 1
                if estimator is not None:
                    objective, point, scale = _at_m_scale(estimator, objective, point, scale)
    passes = {"redescending": objective.n_passes - n_passes}
    if T is not None:
        point = point._replace(theta=T @ point.theta)
    return Solution(point, n_iter, status, None, passes), scale


def _rewhitened(objective: Whitened, point: Evaluation) -> tuple[Whitened, Evaluation, Any]:
    """Return the objective whitened by the weights at a point, this point, and T.

    High-leverage rows that are not outliers determine directions in which the gradient is large
    and sensitive to rounding, unless it is measured in the metric of these weights. The
    previous coordinates are T times the new ones; T is None if they are the same.
    """
    weights = objective.linear.loss.weights(point.residual, objective.threshold)
    H = objective.hessian(point.theta, weights)
    if not H.size or not np.diagonal(H).max() > 0:
        return objective, point, None
    T, condition = inverse_cholesky(H), objective.whitening.condition
    if T is None:
        size, directions = eigh(H)
        size = np.sqrt(np.maximum(size, MIN_RELATIVE_CURVATURE * size[-1]))
        T, condition = directions / size, max(condition, float(size[-1] / size[0]))
    theta = np.linalg.solve(T, point.theta)
    point = point._replace(theta=theta, gradient=T.T @ point.gradient)
    whitening = Whitening(objective.whitening.dense_transform() @ T, condition)
    return Whitened(objective.linear, whitening), point, T


def _at_m_scale(
    estimator: MScale, objective: Whitened, point: Evaluation, near: float | None
) -> tuple[Whitened, Evaluation, float]:
    """Return the objective at the threshold of the M-scale, evaluated there, and the scale."""
    warm = None if near is None else WarmScale(near, point.psi_rms)
    scale = estimator.estimate(point.residual, objective.linear.data.weight, warm)
    if scale < NEAR_EXACT * rounding_floor_bound(objective, point.theta):
        rounding, floor = rounding_floor(objective, point.theta)
        off = (np.abs(point.residual) > rounding).astype(float)
        weight = objective.linear.data.weight
        n_off = float(off.sum() if weight is None else off @ weight)
        # The rounding errors of the exact rows make the scale positive if n_off is the target.
        if scale <= floor or n_off <= estimator.target * (1.0 + TARGET_RTOL):
            return objective, point, 0.0
    objective = objective.at_threshold(estimator.threshold(scale))
    return objective, objective.evaluate(point.theta, point.residual), scale


def _step(objective: Whitened, point: Evaluation, longest: float) -> Evaluation | None:
    """Return the point after a Newton step, a mixed or a reweighted one; None if none descends.

    All but the reweighted step are at most as long as `longest`.
    """
    linear = objective.linear

    def descends(trial: Evaluation) -> bool:
        # If the objective does not decrease, the gradient must. Only rounding may raise it.
        if trial.value >= point.value and not trial.relative_gradient < point.relative_gradient:
            return False
        return trial.value <= point.value * (1.0 + VALUE_RISE_RTOL)

    def trial(H: FloatArray, longest: float) -> Evaluation | None:
        _, direction, info = lapack.dposv(H, -point.gradient)
        if info or float(np.linalg.norm(direction)) > longest:
            return None
        at = objective.evaluate(point.theta + direction)
        return at if descends(at) else None

    curvature = _hessian(objective, point)
    if point.relative_gradient < NEWTON_MAX_GRADIENT:
        found = trial(curvature, longest)
        if found is not None:
            return found
    H = objective.hessian(point.theta, linear.loss.weights(point.residual, linear.threshold))
    for share in NEWTON_SHARES:
        found = trial(share * curvature + (1.0 - share) * H, longest)
        if found is not None:
            return found
    found = trial(H, np.inf)
    if found is None and inverse_cholesky(H) is None:
        at = objective.evaluate(point.theta + np.linalg.lstsq(H, -point.gradient)[0])
        found = at if descends(at) else None
    return found


def _hessian(objective: Whitened, point: Evaluation) -> FloatArray:
    """Return the Hessian, in which rows beyond the inflection of the loss count negatively."""
    # Gram matrices have non-negative weights. Each vector of n numbers is released at once.
    parts = []
    for sign in (1.0, -1.0):
        curvature = objective.psi_deriv(point)
        curvature *= sign
        parts.append(objective.hessian(point.theta, np.maximum(curvature, 0.0, out=curvature)))
    return parts[0] - parts[1]
