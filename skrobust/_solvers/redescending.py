"""Descent for a redescending loss, at a fixed scale (M) or at the M-scale of the residuals (S).

With weights w(r) = ψ(r)/r, a step of iteratively reweighted least squares,

    d = (Σ s w ζζᵀ)⁻¹ Σ s w r ζ,

never raises the objective, because the quadratic with these weights touches it from above. It
converges linearly; near the minimum Newton's method, with ψ′ in the place of w, converges
quadratically. Each iteration takes the Newton step if its Hessian is positive definite and the
step does not raise the objective, and the reweighted step otherwise.

An S-estimate minimises the M-scale s(θ) with Σ s ρ(r/s) constant. Since ds/dθ is zero at the
minimum, both steps are those of the M-objective at the current scale: a point that does not
raise that objective has a scale that is not larger (Yohai, "High breakdown-point and high
efficiency robust estimates for regression", Annals of Statistics 15, 1987).
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack

from .._engines.base import FloatArray
from .._model.linear_loss import Evaluation
from .._model.scale import MScale, WarmScale, rounding_floor, rounding_floor_bound
from .._model.whitening import Whitened
from .result import Solution, Status

# A Newton step is taken if the relative gradient is smaller, and if the step is shorter than
# this fraction of the threshold. A longer one may lead to another local minimum.
NEWTON_MAX_GRADIENT, NEWTON_MAX_STEP = 0.3, 0.1
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
    n_iter, status = 0, None
    while status is None:
        if estimator is not None and not scale > 0:
            status = Status.OBJECTIVE_WITHIN_ROUNDING
        elif point.relative_gradient <= tol:
            status = Status.GRADIENT_WITHIN_TOL
        elif n_iter >= max_iter:
            status = Status.MAX_ITER
        else:
            following = _step(objective, point)
            if following is None:
                small = point.relative_gradient <= ROUNDING_GRADIENT
                status = Status.GRADIENT_WITHIN_ROUNDING if small else Status.STALLED
            else:
                point, n_iter = following, n_iter + 1
                if estimator is not None:
                    objective, point, scale = _at_m_scale(estimator, objective, point, scale)
    passes = {"redescending": objective.n_passes - n_passes}
    return Solution(point, n_iter, status, None, passes), scale


def _at_m_scale(
    estimator: MScale, objective: Whitened, point: Evaluation, near: float | None
) -> tuple[Whitened, Evaluation, float]:
    """Return the objective at the threshold of the M-scale, evaluated there, and the scale."""
    warm = None if near is None else WarmScale(near, point.psi_rms)
    scale = estimator.estimate(point.residual, objective.linear.data.weight, warm)
    is_tiny = scale < rounding_floor_bound(objective, point.theta)
    if is_tiny and scale <= rounding_floor(objective, point.theta)[1]:
        return objective, point, 0.0
    objective = objective.at_threshold(estimator.threshold(scale))
    return objective, objective.evaluate(point.theta, point.residual), scale


def _step(objective: Whitened, point: Evaluation) -> Evaluation | None:
    """Return the point after a Newton or a reweighted step; None if neither descends."""
    linear, bound = objective.linear, point.value * (1.0 + VALUE_RISE_RTOL)
    if point.relative_gradient < NEWTON_MAX_GRADIENT:
        _, direction, info = lapack.dposv(_hessian(objective, point), -point.gradient)
        longest = NEWTON_MAX_STEP * linear.threshold
        if not info and float(np.linalg.norm(direction)) <= longest:
            trial = objective.evaluate(point.theta + direction)
            if trial.value <= bound:
                return trial
            del trial
    H = objective.hessian(point.theta, linear.loss.weights(point.residual, linear.threshold))
    _, direction, info = lapack.dposv(H, -point.gradient)
    if info:
        direction = np.linalg.lstsq(H, -point.gradient)[0]
    trial = objective.evaluate(point.theta + direction)
    return trial if trial.value <= bound else None


def _hessian(objective: Whitened, point: Evaluation) -> FloatArray:
    """Return the Hessian, in which rows beyond the inflection of the loss count negatively."""
    # Gram matrices have non-negative weights. Each vector of n numbers is released at once.
    parts = []
    for sign in (1.0, -1.0):
        curvature = objective.psi_deriv(point)
        curvature *= sign
        parts.append(objective.hessian(point.theta, np.maximum(curvature, 0.0, out=curvature)))
    return parts[0] - parts[1]
