"""Minimise the objective at a fixed threshold: L-BFGS, then Newton's method as a polish.

L-BFGS comes near in a few passes over X, since the variables are whitened. It cannot come
all the way: its line search compares values of F, which drown in rounding when the gradient
is still 1e-7. F is piecewise quadratic, so Newton's method lands on the minimiser once the
right rows are inside the threshold; it also measures how far from it a point is.

Far below the residuals' scale few rows are inside and neither works from afar. There the
threshold is lowered in steps, each started where the last minimiser points (Madsen and Nielsen,
"A finite smoothing algorithm for linear l1 estimation", SIAM J. Optim. 3, 1993), until the rest
of the way is one along the edges of least absolute deviations (`_vertex`).
"""

from bisect import bisect_left
from collections.abc import Callable
from copy import copy
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigvalsh_tridiagonal, lapack
from scipy.optimize import minimize

from ._objective import Point
from ._vertex import from_vertex

# L-BFGS hands over to Newton's method at this whitened gradient norm, or after this many
# evaluations: in whitened variables it has then met curvature that it does not learn.
_HANDOVER = 1e-4
_MAX_LBFGS = 20
# The first threshold has this many rows a variable inside. None is less than this part of the
# one before.
_ROWS_INSIDE = 5
_LOWER = 0.1
# A passing threshold is left where a step is about this part of it.
_ROUGHLY = 0.3
# A vertex is looked for from where this many rows a variable are inside, if no more than this
# many will be beside those of the vertex; not with more variables, since edges are taken one by
# one. It is near if Newton's method comes to this whitened gradient norm in so many steps.
_NEAR_VERTEX, _BESIDE = 3, 0.25
_MAX_VERTEX = 1_000
_FOUND, _MAX_AT_VERTEX = 1e-6, 20
# The Hessian is formed where it costs less than some overhead and this many operations an
# element of X, about as much as four passes, or where conjugate gradients need too many.
_SMALL = 3_000_000
_DIRECT = 4
_MAX_CG = 30
# With more variables it is never formed.
_MAX_DIRECT = 5_000
# About so many rows tell a line search where to look.
_SOME = 5_000
# If this many Newton steps at beta itself do not arrive, the threshold is lowered to it from
# where this share of the residuals is inside.
_MAX_NEWTON = 50
_ALMOST_ALL = 0.95
_EPS = np.finfo(float).eps
# A gain relative to F that rounding hides, where no step descends any more; and a rise that it
# may make, where X is ill-conditioned.
_NEGLIGIBLE, _RISE = 500 * _EPS, 1e-6


class Solution(NamedTuple):
    """Where a minimisation ended.

    `negligible` says that the gradient is within rounding, `step` is the last Newton step if
    there was one, `message` says in words how it ended.
    """

    point: Point
    n_iter: int
    converged: bool
    message: str
    step: "Step | None"
    negligible: bool = False


def solve(objective, start, beta, tol, max_iter):
    """Minimise F at the threshold beta from the coordinates start.

    Stops at a whitened gradient norm (`Point.norm`) of tol, at what rounding allows, or
    after max_iter iterations. Never warns.
    """
    point, used, stalled, step = objective.at(start, beta), 0, False, None
    exact = point.norm > tol and _may_be_exact(objective, point)
    if not (exact and _within_rounding(objective, point, beta, 4)):
        point, used, stalled, step = _minimise(objective, point, beta, tol, max_iter)
    if point.norm <= tol:
        return Solution(point, used, True, "gradient within tol", step)
    # There the rounding of an exact fit is that of its coefficients, and can be less.
    exact = _may_be_exact(objective, point)
    if not exact and _within_rounding(objective, point, beta, 32):
        return Solution(point, used, True, "gradient within rounding", step, True)
    if (exact or stalled) and not objective.ridge(beta):
        solution = _refined(objective, point, beta, tol, max_iter - used)
        if solution.converged:
            return solution._replace(n_iter=used + solution.n_iter)
    if exact and _within_rounding(objective, point, beta, 32):
        return Solution(point, used, True, "gradient within rounding", step, True)
    if stalled and _gain(objective, point, beta) <= _NEGLIGIBLE * point.value:
        return Solution(point, used, True, "objective within rounding", step, True)
    message = "no further descent" if stalled else "max_iter reached"
    # The last step may have been damped, which makes the minimum seem near: no step.
    return Solution(point, used, False, message, None)


def _refined(objective, point, beta, tol, max_iter):
    """The solution for the residuals in the place of y, added to what they are left from.

    Where M is ill-conditioned the coefficients Mθ of an exact fit are too coarse. Those of the
    rest are small and fine; the residuals are off by their rounding, which stays the same.
    """
    rest = copy(objective)
    rest.y = point.residual
    start = rest.at(np.zeros_like(point.theta), beta)
    left, used, _, step = _minimise(rest, start, beta, tol, max_iter)
    converged = left.norm <= tol or _within_rounding(rest, left, beta, 32)
    point = left._replace(theta=point.theta + left.theta)
    return Solution(point, used, converged, "gradient within tol", step, left.norm > tol)


def _minimise(objective, point, beta, tol, max_iter):
    """The way of the module's docstring; returns point, iterations, stalled, last step."""
    used, start = 0, point
    if max_iter <= 0 or point.norm <= tol:
        return point, used, False, None
    threshold = _first_threshold(point.residual, beta, point.theta.size)
    if threshold is not None:
        point, used = _lower(objective, point, threshold, beta, max_iter)
    elif point.norm > _HANDOVER and _is_matrix_free(objective, point, beta):
        point, used = _lbfgs(objective, point, beta, max(_HANDOVER, tol), max_iter)
    limit = max_iter - used if threshold is not None else min(max_iter - used, _MAX_NEWTON)
    point, n, stalled, step = _newton(objective, point, beta, tol, limit)
    used += n
    if point.norm <= tol or used >= max_iter or (n < limit and not stalled):
        return point, used, stalled, step
    if _gain(objective, point, beta) <= _NEGLIGIBLE * point.value:
        return point, used, stalled, step
    best = point
    if threshold is not None:
        # Among exact rows Newton's steps may lead nowhere.
        point, n = _lbfgs(objective, start, beta, tol, max_iter - used)
    else:
        # Rows that are exact already may hold the others at their places: once more from afar.
        threshold = _first_threshold(point.residual, beta, point.theta.size, _ALMOST_ALL)
        point, n = _lower(objective, point, threshold or beta, beta, max_iter - used)
    used += n
    point, n, stalled, step = _newton(objective, point, beta, tol, max_iter - used)
    if point.norm > tol and point.value > best.value:
        point, step = best, None
    return point, used + n, stalled, step


def _gain(objective, point, beta):
    """What a Newton step promises, gᵀH⁻¹g / 2."""
    spare = np.empty_like(point.residual)
    step = _newton_step(objective, point, beta, 0.0, 0.1, _MAX_CG, spare)
    return step.decrement(point.gradient)


def excess(objective, solution, beta):
    """Estimate of F − min F from the Newton decrement gᵀH⁻¹g / 2, 0 within rounding."""
    point, step = solution.point, solution.step
    if solution.negligible or not point.gradient.any():
        return 0.0
    found = _gain(objective, point, beta) if step is None else step.decrement(point.gradient)
    # F is never negative.
    return min(found, point.value)


def _first_threshold(residual, beta, k, share=None):
    """The threshold to start lowering from, None where enough rows are inside beta.

    Enough are a few rows a variable, or a share of all.
    """
    size = np.abs(residual)
    enough = min(_ROWS_INSIDE * k, size.size // 2) if share is None else int(share * size.size)
    if not np.isfinite(beta) or enough < 1 or np.count_nonzero(size <= beta) > enough:
        return None
    return float(np.partition(size, enough)[enough])


def _lower(objective, start, threshold, beta, max_iter):
    """Newton's method at each threshold in turn, from where the last minimiser points.

    The minimiser moves along a straight piece for as long as the same rows are inside: the
    Newton step at beta for these rows says where to. With no more of them than variables the
    piece may lead all the way.
    """
    point, used, theta, k = start, 0, start.theta, start.theta.size
    while threshold > beta:
        point = objective.at(theta, threshold)
        inside = _n_inside(point, threshold)
        # A step moves residuals by about norm · threshold over the share of the rows inside.
        tol = _ROUGHLY * max(inside, k) / point.residual.size
        point, n, _, last = _newton(objective, point, threshold, tol, max_iter - used)
        used, theta = used + n, point.theta
        inside = _n_inside(point, threshold)
        if inside <= _NEAR_VERTEX * k:
            if (inside - k) * beta <= _BESIDE * k * threshold:
                found, n = _at_vertex(objective, point, threshold, beta, max_iter - used)
                used += n
                if found is not None:
                    return found, used
            # Exactly, since at a beta near rounding no step will do it.
            point, n, *_ = _newton(objective, point, threshold, _FOUND, max_iter - used)
            used, theta, last = used + n, point.theta, None
        if used >= max_iter:
            break
        step = _ahead(objective, point, threshold, beta, max_iter - used, last)
        used += step.n_iter
        if used >= max_iter:
            break
        if _n_inside(point, threshold) <= k:
            point = objective.at(theta + step.direction, beta)
            if point.norm <= _FOUND:
                return point, used
        # Beside the rows of a vertex about as many are inside as the threshold is large. It is
        # not to be lower than where these are as many as those.
        part = max(_LOWER, k / (inside - k)) if inside > _NEAR_VERTEX * k else _LOWER
        lower = max(part * threshold, beta)
        theta = theta + (threshold - lower) / (threshold - beta) * step.direction
        threshold = lower
    point = objective.at(theta, beta)
    return point if point.value < start.value else start, used


def _n_inside(point, threshold):
    return np.count_nonzero(np.abs(point.residual) <= threshold)


def _at_vertex(objective, point, threshold, beta, max_iter):
    """A point next to the minimiser if that is at or near a vertex, and the iterations."""
    if objective.ridge(beta) or point.theta.size > _MAX_VERTEX:
        return None, 0
    theta = from_vertex(objective, point, threshold, beta)
    if theta is None:
        return None, 0
    found = objective.at(theta, beta)
    limit = min(_MAX_AT_VERTEX, max_iter)
    found, n, *_ = _newton(objective, found, beta, _FOUND, limit)
    there = found.norm <= _FOUND or (
        _may_be_exact(objective, found) and _within_rounding(objective, found, beta, 4)
    )
    return (found if there else None), n


def _ahead(objective, point, threshold, beta, max_iter, last):
    """The Newton step at beta for the rows inside a threshold, about those of the last step."""
    spare = np.empty_like(point.residual)
    gradient = objective.foreseen(point, threshold, beta, spare)
    if last is not None and last.solve is not None and not last.damped:
        return Step(-last.solve(gradient), 1, last.decrement)
    ahead = point._replace(gradient=gradient)
    return _newton_step(objective, ahead, threshold, 0.0, _ROUGHLY, max_iter, spare)


def _lbfgs(objective, start, beta, tol, max_iter):
    """SciPy's L-BFGS; returns the best point and the number of iterations.

    Its first step has length one whatever the problem, so the unit of length is the first
    gradient: that makes it the Newton step of a whitened quadratic. ftol is zero because a
    small decrease is no sign of being near.
    """
    unit = float(np.sqrt(start.gradient @ start.gradient))
    best, spare = start, None
    if not unit:
        # Residuals of 1e-170, as an exact fit may leave: their squares vanish.
        return start, 0

    def fun(x):
        nonlocal best, spare
        if not x.any():
            return 0.0, start.gradient / unit
        point = objective.at(start.theta + unit * x, beta, spare)
        if point.value < best.value:
            best, spare = point, best.residual
        else:
            spare = point.residual
        return (point.value - start.value) / unit**2, point.gradient / unit

    def callback(intermediate_result):
        if best.norm <= tol:
            raise StopIteration

    result = minimize(
        fun,
        np.zeros_like(start.theta),
        jac=True,
        method="L-BFGS-B",
        callback=callback,
        options={"maxiter": max_iter, "maxfun": _MAX_LBFGS, "ftol": 0.0, "gtol": 0.0},
    )
    return best, result.nit


def _newton(objective, point, beta, tol, max_iter):
    """Newton steps with an exact line search where the full one fails.

    Returns point, iterations, whether it stalled, and the last step.
    """
    damping, used, step, spare = 0.0, 0, None, np.empty_like(point.residual)
    while used < max_iter and point.norm > tol:
        step = _newton_step(objective, point, beta, damping, tol, max_iter - used, spare)
        used += step.n_iter
        trial = objective.at(point.theta + step.direction, beta, spare)
        slope = float(step.direction @ point.gradient)
        # The gradient tells more than the value, which may rise by its rounding. Where it rises
        # by more, steps may go in circles.
        nearer = trial.norm <= 0.5 * point.norm
        nearer &= trial.value - point.value <= _RISE * point.value
        # A damped step may be far too short.
        if step.damped or (trial.value > point.value + 1e-4 * slope and not nearer):
            length = _line_search(objective, point, step.direction, trial.residual, beta)
            trial = objective.at(point.theta + length * step.direction, beta, trial.residual)
        descent = point.value - trial.value > 4 * _EPS * point.value
        if descent or trial.norm < 0.9 * point.norm:
            spare, point, damping = point.residual, trial, 0.01 * damping
        elif damping < 1e-2:
            damping = max(1e-6, 100 * damping)
        else:
            return point, used, True, step
    return point, used, False, step


class Step(NamedTuple):
    """−H⁻¹g, with `decrement`: g ↦ gᵀH⁻¹g / 2 and, where H was formed, `solve`: g ↦ H⁻¹g."""

    direction: np.ndarray
    n_iter: int
    decrement: Callable
    damped: bool = False
    solve: Callable | None = None


def _newton_step(objective, point, beta, damping, tol, max_iter, scratch):
    """−H⁻¹g, by Cholesky where H is cheap or too ill-conditioned to go without it."""
    inside = np.abs(point.residual) <= beta
    step = None
    if _is_matrix_free(objective, point, beta):
        max_iter = min(max_iter, _MAX_CG)
        step = _cg_step(objective, point, inside, beta, damping, tol, max_iter, scratch)
    return step or _direct_step(objective, point, inside, beta, damping)


def _is_matrix_free(objective, point, beta):
    """Whether a Hessian of the rows inside the threshold costs more than some passes over X."""
    k = point.theta.size
    size = objective.rows_in_hessian(np.abs(point.residual) <= beta) * k**2
    return k > _MAX_DIRECT or size > _SMALL + _DIRECT * objective.design.n_elements


def _direct_step(objective, point, inside, beta, damping):
    H = objective.hessian(inside, beta)
    k = H.shape[0]
    # Where no row is inside, the size of one row's contribution stands in for curvature.
    size = max(float(np.trace(H)) / max(k, 1), 1.0 / objective.total)
    if not np.isfinite(size):
        return Step(np.zeros(k), 1, lambda gradient: np.inf)
    if k == 0:
        return Step(np.zeros(0), 1, lambda gradient: 0.0)
    while True:
        L, info = lapack.dpotrf(H + damping * size * np.eye(k) if damping else H, lower=1)
        if not info and L.diagonal().min() ** 2 >= 1e-13 * size:
            break
        damping = max(1e-10, 100 * damping)

    def solve(gradient):
        return lapack.dpotrs(L, gradient, lower=1)[0]

    def decrement(gradient):
        return 0.5 * float(gradient @ solve(gradient))

    return Step(-solve(point.gradient), 1, decrement, damping > 0, solve)


def _cg_step(objective, point, inside, beta, damping, tol, max_iter, scratch):
    """Conjugate gradients, to the accuracy that the next Newton step can use.

    None where they are slow and the Hessian can be formed instead.
    """
    product = objective.hessian_product(inside, beta, scratch)
    forcing = max(0.5 * tol / max(point.norm, tol), min(0.1, point.norm))
    x = np.zeros_like(point.gradient)
    r = -point.gradient
    d, rr, target = r, r @ r, forcing**2 * (r @ r)
    alphas: list = []
    betas: list = []
    while rr > target:
        if len(alphas) == max_iter:
            if x.size <= _MAX_DIRECT and max_iter == _MAX_CG:
                return None
            break
        Hd = product(d) + damping * d
        curvature = d @ Hd
        if curvature <= 1e-14 * (d @ d):
            x = x + d if not alphas else x
            break
        alphas.append(rr / curvature)
        x = x + alphas[-1] * d
        r = r - alphas[-1] * Hd
        rr, previous = r @ r, rr
        betas.append(rr / previous)
        d = r + betas[-1] * d
    smallest = _smallest_ritz_value(np.array(alphas), np.array(betas))

    def decrement(gradient):
        return 0.5 * float(gradient @ gradient) / smallest

    return Step(x, max(1, len(alphas)), decrement)


def _smallest_ritz_value(alphas, betas):
    """The smallest eigenvalue of H as conjugate gradients have seen it (Lanczos)."""
    if not alphas.size:
        return np.finfo(float).tiny
    diagonal = 1.0 / alphas
    diagonal[1:] += betas[:-1] / alphas[:-1]
    off = np.sqrt(betas[:-1]) / alphas[:-1]
    return float(eigvalsh_tridiagonal(diagonal, off, select="i", select_range=(0, 0))[0])


def _line_search(objective, point, direction, residual, beta):
    """The minimum of F along a direction from the residuals at its end: no pass over X.

    Between the lengths at which a row comes to the threshold the slope is linear. Writes over
    these residuals.
    """
    change = np.subtract(residual, point.residual, out=residual)
    slope, bends = objective.along(point, direction, change, beta)
    low, high = 0.0, 1.0 if slope(1.0) >= 0 else 1e12
    # Where it is between the bends of some rows there are few of the others.
    for stride in (change.size // _SOME, 1) if change.size > _SOME else (1,):
        lengths = bends(low, high, stride)
        index = bisect_left(lengths, 0.0, key=slope)
        low = float(lengths[index - 1]) if index else low
        high = float(lengths[index]) if index < lengths.size else high
    at_low, at_high = slope(low), slope(high)
    if at_low >= 0 or at_high <= at_low:
        return low
    return low - at_low * (high - low) / (at_high - at_low)


def _may_be_exact(objective, point):
    """Whether residuals are so small that rounding may matter; no pass over X."""
    size = np.abs(objective.y).max() + 30 * np.abs(objective.coef(point.theta)).sum()
    return 4e3 * _EPS * float(size) >= point.clipped


def _within_rounding(objective, point, beta, factor):
    """Whether the gradient is what rounding alone can make.

    Rows inside the threshold, or as near to it as their rounding, may have any residual within
    rounding of theirs. The gradient is of that kind if the Newton step on these rows moves no
    row by more. The whitened features have a rounding of their own.
    """
    if point.norm <= 4 * _EPS * objective.condition:
        return True
    error = factor * _EPS * (np.abs(objective.y) + objective.fitted_size(point.theta))
    near = np.abs(point.residual) <= beta + error
    if point.theta.size > _MAX_DIRECT or not near.any():
        return False
    step = _direct_step(objective, point, near, beta, 0.0)
    if step.damped:
        # In some direction these rows hold nothing, whatever the step.
        return False
    moved = objective.design.sweep(objective.coef(step.direction), np.zeros_like(error))[0]
    return bool((np.abs(moved) <= error).all())
