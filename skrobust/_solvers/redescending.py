"""Minimisation with a redescending loss: M-estimates at a fixed scale, and S-estimates.

From a point with residuals r, iteratively reweighted least squares takes the step

    d = (Σ s w ζζᵀ)⁻¹ Σ s w r ζ,      w = ψ(r)/r,

with sample weights s and whitened rows ζ. This step never increases the objective, because the
quadratic function with the weights w majorises the objective and is tangent to it at the
current point. Reweighting converges linearly. Near the minimum, Newton's method, with ψ′ in
place of w in the matrix, converges quadratically. Each iteration takes the Newton step if the
Hessian is positive definite and the step does not increase the objective. Otherwise, the
iteration takes a step with a weighted mean of the Hessian and the matrix Σ s w ζζᵀ or, if that
step increases the objective, the reweighted step d.

An S-estimate minimises the M-scale σ(θ), which is defined implicitly by Σ s ρ(r/σ) = constant.
Since dσ/dθ is zero at the minimum, both steps can be computed as for an M-estimate with the
threshold for the current scale. A step that does not increase the objective of this M-estimate
does not increase the M-scale (Yohai, "High breakdown-point and high efficiency robust estimates
for regression", Annals of Statistics 15, 1987).
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

# A Newton step is tried if the relative gradient is below NEWTON_MAX_GRADIENT. For an
# M-estimate, the length of the step must also be at most NEWTON_MAX_STEP times the threshold,
# since a longer step may lead to another local minimum.
NEWTON_MAX_GRADIENT, NEWTON_MAX_STEP = 0.3, 0.1
# Weights of the Hessian in the weighted means of the Hessian and the matrix of the reweighted
# step. The means are tried, in this order, if the Newton step is not taken.
NEWTON_SHARES = (0.75, 0.5)
# Eigenvalues below this fraction of the largest eigenvalue are attributed to rounding errors.
MIN_RELATIVE_CURVATURE = 1e-14
# Relative tolerance for rounding errors of a sum of weights.
TARGET_RTOL = 1e-12
# If the scale is below this multiple of the rounding error of a typical residual, the rows that
# are not fitted exactly are counted.
NEAR_EXACT = 1e8
# Largest relative increase of the objective that rounding errors may cause. If no step reduces
# the objective, a point with a relative gradient of at most ROUNDING_GRADIENT is regarded as
# the minimum.
VALUE_RISE_RTOL, ROUNDING_GRADIENT = 1e-13, 1e-6


def redescending(objective: Whitened, start: FloatArray, tol: float, max_iter: int) -> Solution:
    """Return a Solution at a local minimum of the objective, found by descent from `start`."""
    return _descend(None, objective, start, tol, max_iter)[0]


def minimise_m_scale(
    estimator: MScale, objective: Whitened, start: FloatArray, tol: float, max_iter: int
) -> tuple[Solution, float]:
    """Return a Solution at a local minimum of the M-scale of the residuals, and the M-scale.

    The returned M-scale is 0 if it does not exceed the rounding errors of the residuals.
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
            # For an S-estimate, any decrease is an improvement. The descent for an M-estimate
            # must not leave the basin of attraction of the local minimum next to the
            # S-estimate.
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
    """Return the objective and the point in new coordinates, and the transform T.

    The new coordinates are whitened with the weights ψ(r)/r, and T maps them to the previous
    coordinates. T is None if the coordinates are unchanged. In the previous coordinates,
    high-leverage rows that are not outliers make the gradient large and sensitive to rounding
    errors in some directions.
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
    """Return the objective with the threshold for the M-scale, its Evaluation, and the M-scale.

    The objective is evaluated at `point.theta`. `near` is an approximate M-scale, or None. If
    the M-scale does not exceed the rounding errors of the residuals, the result is the given
    objective, the given point and 0.
    """
    warm = None if near is None else WarmScale(near, point.psi_rms)
    scale = estimator.estimate(point.residual, objective.linear.data.weight, warm)
    if scale < NEAR_EXACT * rounding_floor_bound(objective, point.theta):
        rounding, floor = rounding_floor(objective, point.theta)
        off = (np.abs(point.residual) > rounding).astype(float)
        weight = objective.linear.data.weight
        n_off = float(off.sum() if weight is None else off @ weight)
        # If the weight n_off of the rows that are not fitted exactly does not exceed the
        # target, the M-scale is positive only because of rounding errors in the other rows.
        if scale <= floor or n_off <= estimator.target * (1.0 + TARGET_RTOL):
            return objective, point, 0.0
    objective = objective.at_threshold(estimator.threshold(scale))
    return objective, objective.evaluate(point.theta, point.residual), scale


def _step(objective: Whitened, point: Evaluation, longest: float) -> Evaluation | None:
    """Return the point after the first step that `descends` accepts, or None if there is none.

    The steps are tried in the order of the module docstring: the Newton step, the steps with
    weighted means of the two matrices (see NEWTON_SHARES), and the reweighted step. Except for
    the reweighted step, a step longer than `longest` is rejected.
    """
    linear = objective.linear

    def descends(trial: Evaluation) -> bool:
        # If the objective does not decrease, the gradient must decrease, and the objective may
        # increase only by rounding errors.
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
    """Return the Hessian of the objective.

    ψ′, the weight of a row in the Hessian, is negative beyond the inflection point of the loss.
    """
    # The Hessian is the difference of two Gram matrices, which require non-negative weights.
    # The memory of each vector of length n is released before the next vector is computed.
    parts = []
    for sign in (1.0, -1.0):
        curvature = objective.psi_deriv(point)
        curvature *= sign
        parts.append(objective.hessian(point.theta, np.maximum(curvature, 0.0, out=curvature)))
    return parts[0] - parts[1]
