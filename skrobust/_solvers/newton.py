"""Semismooth Newton method with an exact line search and continuation in the threshold.

The objective F is piecewise quadratic. If the same rows have |r| ≤ β at the current point and
at the minimiser, where β is the threshold, a full Newton step leads to the minimiser. The steps
of `minimise` are:

1. A Newton step is computed by a Cholesky factorisation of the Hessian or, if forming the
   Hessian would take longer than a few passes over X, by conjugate gradients.
2. If the full step reduces neither the objective nor the gradient sufficiently, a line search
   uses the residuals at both ends of the step to find the exact minimum along it, without a
   pass over X (Clark and Osborne, SIAM J. Sci. Stat. Comput. 7, 1986; Madsen and Nielsen, BIT
   30, 1990).
3. The iteration stops if the gradient is within the tolerance, if rounding errors alone can
   account for it, or after the maximum number of iterations.
4. If the threshold β is much smaller than the scale of the residuals, few rows have |r| ≤ β,
   and Newton's method converges only from a starting point near the minimiser. A larger
   threshold is then lowered to β in steps, and each minimisation starts from the previous
   minimiser (Madsen and Nielsen, "A finite smoothing algorithm for linear l1 estimation", SIAM
   J. Optim. 3, 1993), until the minimiser is near a least-absolute-deviations vertex
   (`lad_simplex`).

If the loss or the penalty is not piecewise quadratic, step 4 is omitted, and step 2 uses
backtracking.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import eigvalsh_tridiagonal, lapack

from .._engines.base import FloatArray
from .._model.linear_loss import MAX_GRAM_CONDITION, Evaluation
from .._model.scale import (
    MAX_DEVIATION_FROM_CENTRE,
    RESIDUAL_ROUNDING,
    TYPICAL_MAX_Z,
    centre_and_size,
)
from .._model.whitening import Whitened
from .._reductions import RowVector, kth
from .lad_simplex import lad_vertex
from .result import NewtonStep, Solution, Status

_EPS = float(np.finfo(float).eps)
# The continuation (step 4) starts at a threshold that |r| does not exceed for
# MIN_INSIDE_PER_VARIABLE rows per variable. If it fails, it is restarted at a threshold that
# |r| does not exceed for the fraction RESTART_SHARE_INSIDE of all rows. Each threshold is at
# least THRESHOLD_FACTOR times the previous threshold. The minimisation at a threshold ends when
# a Newton step changes the residuals by about CONTINUATION_RTOL times the threshold.
MIN_INSIDE_PER_VARIABLE = 5
RESTART_SHARE_INSIDE = 0.95
THRESHOLD_FACTOR = 0.1
CONTINUATION_RTOL = 0.3
# A vertex is sought if at most VERTEX_MAX_INSIDE_PER_VARIABLE rows per variable have |r| at
# most the current threshold and the number of rows expected to have |r| at most the final
# threshold, minus the number of variables, is at most VERTEX_MAX_EXTRA_FRACTION times the
# number of variables. With more than VERTEX_MAX_VARIABLES variables, no vertex is sought, since
# edges are followed one by one. A vertex is accepted if Newton's method, started there, reaches
# the relative gradient VERTEX_GTOL in at most VERTEX_MAX_ITER iterations.
VERTEX_MAX_INSIDE_PER_VARIABLE, VERTEX_MAX_EXTRA_FRACTION = 3, 0.25
VERTEX_MAX_VARIABLES = 1_000
VERTEX_GTOL, VERTEX_MAX_ITER = 1e-6, 20
# The Hessian is formed if this takes at most HESSIAN_OVERHEAD operations plus
# HESSIAN_OPERATIONS_PER_ELEMENT operations per element of X, which take about as long as four
# passes over X. It is also formed if conjugate gradients need more than CG_MAX_PRODUCTS
# Hessian-vector products. It is never formed for more than HESSIAN_MAX_VARIABLES variables, or
# SMALL_HESSIAN_MAX_VARIABLES if it would be larger than X.
HESSIAN_OVERHEAD, HESSIAN_OPERATIONS_PER_ELEMENT = 3_000_000, 4
CG_MAX_PRODUCTS = 30
HESSIAN_MAX_VARIABLES, SMALL_HESSIAN_MAX_VARIABLES = 5_000, 2_000
# Maximum number of Newton steps at the final threshold before the continuation is started.
MAX_STEPS_BEFORE_CONTINUATION = 50
# Largest ratio of gᵀH⁻¹g / 2 to F that is attributed to rounding errors, and largest relative
# increase of F that rounding errors may cause if X is ill-conditioned.
DECREMENT_RTOL, VALUE_RISE_RTOL = 500 * _EPS, 1e-6
# Largest relative amount by which ψ may exceed the threshold after a step that tests whether
# the gradient is due to rounding errors.
PSI_RTOL = 1e-6
# A backtracking line search ends when the step length, as a fraction of the Newton step, is at
# most this value.
MIN_STEP_LENGTH = 1e-10


class _Descent(NamedTuple):
    """The last point and step of a sequence of Newton steps, and the number of iterations.

    `stalled` is True if the sequence ended because no step reduced the objective.
    """

    point: Evaluation
    n_iter: int
    stalled: bool = False
    step: NewtonStep | None = None


def newton(objective: Whitened, start: FloatArray, tol: float, max_iter: int) -> Solution:
    """Minimise F from the coordinates `start` by steps 1 to 4 of the module docstring."""
    n_passes = objective.n_passes
    return minimise(objective, objective.evaluate(start), tol, max_iter, n_passes)


def minimise(
    objective: Whitened, start: Evaluation, tol: float, max_iter: int, n_passes: int
) -> Solution:
    """Minimise F from an evaluated point; return the solution, converged or not.

    `n_passes` is the value of `objective.n_passes` before the first pass over X that counts
    towards Newton's method.
    """
    descent, n_vertices = _Descent(start, 0), 0
    exact = start.relative_gradient > tol and _near_exact_fit(objective, start)
    at_minimum = exact and _within_rounding(objective, start, 4 * _EPS)
    if max_iter > 0 and start.relative_gradient > tol and not at_minimum:
        descent, n_vertices = _descend(objective, start, tol, max_iter)
    status = _status(objective, descent, tol)
    if status is not Status.GRADIENT_WITHIN_TOL and _needs_refinement(objective, descent.point):
        refined = _iterative_refinement(objective, descent, tol, max_iter)
        refined_status = _status(objective, refined, tol)
        if refined_status.converged or not status.converged:
            descent, status = refined, refined_status
    # The last step of a failed descent is not returned, since it may be damped and its
    # decrement too small.
    step = descent.step if status.converged else None
    passes = {"newton": objective.n_passes - n_passes - n_vertices}
    if n_vertices:
        passes["lad_simplex"] = n_vertices
    return Solution(descent.point, descent.n_iter, status, step, passes)


def _status(objective: Whitened, descent: _Descent, tol: float) -> Status:
    point = descent.point
    if point.relative_gradient <= tol:
        return Status.GRADIENT_WITHIN_TOL
    if _within_rounding(objective, point, RESIDUAL_ROUNDING):
        return Status.GRADIENT_WITHIN_ROUNDING
    if descent.stalled and _decrement_is_negligible(objective, point):
        return Status.OBJECTIVE_WITHIN_ROUNDING
    return Status.STALLED if descent.stalled else Status.MAX_ITER


def _descend(
    objective: Whitened, start: Evaluation, tol: float, max_iter: int
) -> tuple[_Descent, int]:
    """Return the result of steps 1 to 4 (module docstring) and the number of vertices tried."""
    threshold = _continuation_threshold(objective, start, None)
    point, used, n_vertices = start, 0, 0
    max_steps = MAX_STEPS_BEFORE_CONTINUATION
    if threshold is not None:
        point, used, n_vertices = _continuation(objective, start, threshold, max_iter)
        max_steps = max_iter
    first = _newton_steps(objective, point, tol, max_iter - used, max_steps)
    used += first.n_iter
    ended = first.point.relative_gradient <= tol or used >= max_iter
    if ended or _decrement_is_negligible(objective, first.point):
        return first._replace(n_iter=used), n_vertices
    # If some rows are fitted exactly, Newton's method may fail to reduce the objective. The
    # continuation is then restarted from a threshold that |r| does not exceed for nearly all
    # rows.
    threshold = _continuation_threshold(objective, first.point, RESTART_SHARE_INSIDE)
    point, n_iter, more = _continuation(
        objective, first.point, threshold or objective.threshold, max_iter - used
    )
    used += n_iter
    second = _newton_steps(objective, point, tol, max_iter - used)
    used += second.n_iter
    best = second
    if second.point.relative_gradient > tol and second.point.value > first.point.value:
        best = _Descent(first.point, 0, second.stalled)
    return best._replace(n_iter=used), n_vertices + more


def suboptimality(objective: Whitened, solution: Solution) -> float:
    """Return the estimate gᵀH⁻¹g / 2 of F − min F (half the squared Newton decrement).

    The estimate is 0 if the solution converged to within rounding errors.
    """
    point, step = solution.point, solution.newton_step
    if solution.status.within_rounding or not point.gradient.any():
        return 0.0
    decrement = (
        _newton_decrement(objective, point) if step is None else step.decrement(point.gradient)
    )
    # Since F is never negative, F − min F is at most F.
    return min(decrement, point.value)


def _needs_refinement(objective: Whitened, point: Evaluation) -> bool:
    """Return whether the rounding errors of the coefficients Mθ require iterative refinement.

    Refinement is required if the whitening M is ill-conditioned, there is no penalty, and the
    fit is nearly exact.
    """
    ill_conditioned = objective.whitening.condition > MAX_GRAM_CONDITION
    no_penalty = objective.linear.penalty is None
    return ill_conditioned and no_penalty and _near_exact_fit(objective, point)


def _iterative_refinement(
    objective: Whitened, descent: _Descent, tol: float, max_iter: int
) -> _Descent:
    """Return `descent` with its coordinates corrected by fitting the model to its residuals.

    The coefficients of the fit to the residuals are small, and so are their rounding errors.
    The rounding errors of the residuals are not reduced.
    """
    point, used = descent.point, descent.n_iter
    residual_fit = Whitened(objective.linear.for_residuals(point.residual), objective.whitening)
    start = residual_fit.evaluate(np.zeros_like(point.theta))
    if used >= max_iter:
        return descent
    correction, _ = _descend(residual_fit, start, tol, max_iter - used)
    refined = correction.point._replace(theta=point.theta + correction.point.theta)
    return correction._replace(point=refined, n_iter=used + correction.n_iter)


# 1. Step ---------------------------------------------------------------------------------


def is_matrix_free(objective: Whitened, point: Evaluation) -> bool:
    """Return whether the Hessian is too large or takes too long to form (HESSIAN_OVERHEAD)."""
    k = objective.n_variables
    if not can_form_hessian(objective):
        return True
    limit = HESSIAN_OVERHEAD + HESSIAN_OPERATIONS_PER_ELEMENT * objective.engine.n_elements
    if objective.engine.n * k**2 <= limit:
        return False
    return objective.n_hessian_rows(objective.psi_deriv(point)) * k**2 > limit


def can_form_hessian(objective: Whitened) -> bool:
    """Return whether the number of variables is small enough to form the Hessian.

    With more than n + 1 variables for n rows, no Hessian is formed, since the contribution of
    the data to the Hessian is singular.
    """
    k, engine = objective.n_variables, objective.engine
    larger_than_X = k * k > engine.n_elements + engine.n
    limit = SMALL_HESSIAN_MAX_VARIABLES if larger_than_X else HESSIAN_MAX_VARIABLES
    return k <= min(engine.n + 1, limit)


def _newton_step(
    objective: Whitened,
    point: Evaluation,
    damping: float,
    tol: float,
    max_iter: int,
    out: RowVector,
    try_cg: bool = True,
) -> NewtonStep:
    """Return the Newton step −H⁻¹g, computed by Cholesky factorisation or conjugate gradients.

    Conjugate gradients are used if `is_matrix_free` returns True. If they converge slowly, the
    Hessian is formed afterwards, and the Hessian-vector products count as iterations of the
    step.
    """
    row_weight = objective.psi_deriv(point)
    can_form = can_form_hessian(objective)
    if not is_matrix_free(objective, point) or (can_form and not try_cg):
        return _direct_step(objective, point, row_weight, damping)
    limit = min(max_iter, CG_MAX_PRODUCTS) if can_form else max_iter
    step, arrived = _cg_step(objective, point, row_weight, damping, tol, limit, out)
    if arrived or not can_form or limit < CG_MAX_PRODUCTS:
        return step
    return _direct_step(objective, point, row_weight, damping)._replace(n_iter=limit)


def _direct_step(
    objective: Whitened, point: Evaluation, row_weight: RowVector, damping: float
) -> NewtonStep:
    H = objective.hessian(point.theta, row_weight)
    k = H.shape[0]
    if k == 0:
        return NewtonStep(np.zeros(0), 1, lambda gradient: 0.0)
    # If no row has |r| at most the threshold, the curvature of a single row is used.
    curvature = max(float(np.trace(H)) / k, 1.0 / objective.linear.data.total)
    if not np.isfinite(curvature):
        return NewtonStep(np.zeros(k), 1, lambda gradient: np.inf)
    while True:
        damped = H + damping * curvature * np.eye(k) if damping else H
        L, info = lapack.dpotrf(damped, lower=1)
        if not info and L.diagonal().min() ** 2 >= 1e-13 * curvature:
            break
        damping = max(1e-10, 100 * damping)

    def decrement(gradient: FloatArray) -> float:
        return 0.5 * float(gradient @ lapack.dpotrs(L, gradient, lower=1)[0])

    direction = -lapack.dpotrs(L, point.gradient, lower=1)[0]
    return NewtonStep(direction, 1, decrement, damping > 0)


def _cg_step(
    objective: Whitened,
    point: Evaluation,
    row_weight: RowVector,
    damping: float,
    tol: float,
    max_iter: int,
    out: RowVector,
) -> tuple[NewtonStep, bool]:
    """Return the conjugate-gradient step, and whether it satisfies the forcing condition.

    The forcing condition bounds the residual of the Newton equations. A more accurate step
    would not reduce the number of Newton steps.
    """
    product = objective.hessian_product(point.theta, row_weight, out)
    norm = point.relative_gradient
    forcing = 0.5 * tol / max(norm, tol)
    if np.isfinite(objective.threshold):
        forcing = max(forcing, min(0.1, norm))
    x = np.zeros_like(point.gradient)
    r = -point.gradient
    d, rr = r, float(r @ r)
    target = forcing**2 * rr
    alphas: list[float] = []
    betas: list[float] = []
    while rr > target and len(alphas) < max_iter:
        Hd = product(d) + damping * d
        curvature = d @ Hd
        if curvature <= 1e-14 * (d @ d):
            x, rr = (x + d if not alphas else x), 0.0
            break
        alphas.append(float(rr / curvature))
        x = x + alphas[-1] * d
        r = r - alphas[-1] * Hd
        rr, previous = float(r @ r), rr
        betas.append(float(rr / previous))
        d = r + betas[-1] * d
    smallest = _smallest_ritz_value(np.array(alphas), np.array(betas))

    def decrement(gradient: FloatArray) -> float:
        return 0.5 * float(gradient @ gradient) / smallest

    return NewtonStep(x, max(1, len(alphas)), decrement), rr <= target


def _smallest_ritz_value(alphas: FloatArray, betas: FloatArray) -> float:
    """Return the smallest Ritz value, the Lanczos estimate of the smallest eigenvalue of H.

    `alphas` contains the step lengths of the conjugate gradient method, and `betas` the factors
    by which previous directions are multiplied.
    """
    if not alphas.size:
        return float(np.finfo(float).tiny)
    diagonal = 1.0 / alphas
    diagonal[1:] += betas[:-1] / alphas[:-1]
    off_diagonal = np.sqrt(betas[:-1]) / alphas[:-1]
    smallest = eigvalsh_tridiagonal(diagonal, off_diagonal, select="i", select_range=(0, 0))
    return float(smallest[0])


def _newton_decrement(objective: Whitened, point: Evaluation) -> float:
    """Return gᵀH⁻¹g / 2, the decrease of the objective that a Newton step predicts."""
    out = np.empty_like(point.residual)
    step = _newton_step(objective, point, 0.0, 0.1, CG_MAX_PRODUCTS, out)
    return step.decrement(point.gradient)


# 2. Line search --------------------------------------------------------------------------


def _newton_steps(
    objective: Whitened,
    point: Evaluation,
    tol: float,
    max_iter: int,
    max_steps: float = np.inf,
) -> _Descent:
    """Return the result of steps 1 to 3 of the module docstring, at a fixed threshold.

    Each Hessian-vector product of conjugate gradients counts as an iteration.
    """
    damping, used, step, out = 0.0, 0, None, np.empty_like(point.residual)
    norm, n_steps, try_cg = point.relative_gradient, 0, True
    lowest_norm = norm
    while used < max_iter and n_steps < max_steps and norm > tol:
        n_steps += 1
        step = _newton_step(objective, point, damping, tol, max_iter - used, out, try_cg)
        # If conjugate gradients were slow once, they are not used again.
        try_cg = try_cg and step.n_iter < CG_MAX_PRODUCTS
        used += step.n_iter
        trial = objective.evaluate(point.theta + step.direction, out)
        trial_norm, rise = trial.relative_gradient, trial.value - point.value
        slope = float(step.direction @ point.gradient)
        # The gradient is a more reliable criterion than the value, which rounding errors may
        # increase. If the value increases by more than rounding errors can explain, the steps
        # may cycle.
        nearer = trial_norm <= 0.5 * norm and rise <= VALUE_RISE_RTOL * point.value
        # A damped step always requires a line search, since it may be much shorter than the
        # step to the minimum along its direction.
        if step.damped or (rise > 1e-4 * slope and not nearer):
            trial = _line_search(objective, point, step, trial)
            trial_norm = trial.relative_gradient
        # The norm of the gradient is compared with the smallest norm so far. A comparison with
        # the last norm would allow the iterates to alternate between two points.
        smaller = trial_norm < 0.9 * lowest_norm
        if point.value - trial.value > 4 * _EPS * point.value or smaller:
            lowest_norm = min(lowest_norm, trial_norm)
            out, point, norm, damping = point.residual, trial, trial_norm, 0.01 * damping
        elif damping < 1e-2:
            damping = max(1e-6, 100 * damping)
        else:
            return _Descent(point, used, True, step)
    return _Descent(point, used, False, step)


def _line_search(
    objective: Whitened, point: Evaluation, step: NewtonStep, trial: Evaluation
) -> Evaluation:
    """Return the point at the minimum along a step; `trial` is the point after the full step.

    The residuals of `trial` are overwritten. If the objective is not piecewise quadratic,
    backtracking finds a point that decreases the objective sufficiently but is not exactly at
    the minimum.
    """
    out = trial.residual
    if objective.linear.is_piecewise_quadratic:
        change = np.subtract(out, point.residual, out=out)
        length = objective.line_minimum(point, step.direction, change)
        return objective.evaluate(point.theta + length * step.direction, out)
    slope, length = float(step.direction @ point.gradient), 1.0
    while trial.value > point.value + 1e-4 * length * slope and length > MIN_STEP_LENGTH:
        length *= 0.5
        trial = objective.evaluate(point.theta + length * step.direction, out)
    return trial


# 3. Stop ---------------------------------------------------------------------------------


def _near_exact_fit(objective: Whitened, point: Evaluation) -> bool:
    """Return whether rounding errors may make up a considerable part of the residuals.

    The result is computed from bounds, without a pass over X.
    """
    size = objective.linear.data.y_abs_max
    size += TYPICAL_MAX_Z * float(np.abs(objective.coef(point.theta)).sum())
    return 4e3 * _EPS * size >= point.psi_rms


def _within_rounding(objective: Whitened, point: Evaluation, rounding: float) -> bool:
    """Return whether rounding errors alone can account for the gradient.

    `rounding` is the rounding error of a residual, relative to the sum of |y| and the absolute
    values of the terms of the linear predictor. Only rows whose |r| is at most the threshold
    plus this rounding error are considered. Rounding errors can account for the gradient if the
    Newton step for these rows changes no residual by more than its rounding error. If there are
    at most as many such rows as variables, ψ must also remain within the threshold after the
    step. Rounding errors of the whitened features can account for a small gradient as well.
    """
    if point.relative_gradient <= 4 * _EPS * objective.whitening.condition:
        return True
    linear = objective.linear
    if not linear.is_piecewise_quadratic:
        return False
    engine, y = linear.data.engine, linear.data.y
    error = rounding * (np.abs(y) + objective.abs_linear_predictor(point.theta))
    if linear.penalty is None and (np.abs(point.residual) <= error).all():
        return True
    near = np.abs(point.residual) <= objective.threshold + error
    if not can_form_hessian(objective) or not near.any():
        return False
    step = _direct_step(objective, point, near, 0.0)
    if step.damped:
        # The rows considered do not determine the step in all directions.
        return False
    coef = objective.coef(step.direction)
    moved, _ = engine.loss_gradient(coef, engine.zeros(), None, linear.loss, np.inf)
    if not (np.abs(moved) <= error).all():
        return False
    if np.count_nonzero(near) > point.theta.size:
        return True
    psi = np.clip(point.residual, -objective.threshold, objective.threshold) + moved
    beyond = np.abs(psi) > (1.0 + PSI_RTOL) * objective.threshold
    return not (beyond & near).any()


def _decrement_is_negligible(objective: Whitened, point: Evaluation) -> bool:
    value, data = point.value, objective.linear.data
    limit = MAX_DEVIATION_FROM_CENTRE * centre_and_size(data.y, data.weight)[1]
    if 0 < limit < data.y_abs_max:
        # Extreme values of y, such as sentinel values, make up nearly all of F. Every decrement
        # would be negligible compared with F.
        size = np.minimum(np.abs(point.residual), limit)
        rho = objective.linear.loss.rho(size, objective.threshold)
        value = float(np.average(rho, weights=data.weight))
    return _newton_decrement(objective, point) <= DECREMENT_RTOL * value


# 4. Threshold ----------------------------------------------------------------------------


def few_rows_inside(objective: Whitened, point: Evaluation) -> bool:
    """Return whether so few rows have |r| ≤ β that the threshold β must be lowered in steps."""
    return _continuation_threshold(objective, point, None) is not None


def _continuation_threshold(
    objective: Whitened, point: Evaluation, share: float | None
) -> float | None:
    """Return the first threshold of the continuation, or None if enough rows have |r| ≤ β.

    If `share` is None, MIN_INSIDE_PER_VARIABLE rows per variable are enough, or half of all
    rows if that is fewer. Otherwise the fraction `share` of all rows is enough.
    """
    if not np.isfinite(objective.threshold) or not objective.linear.is_piecewise_quadratic:
        return None
    size = np.abs(point.residual)
    if share is None:
        enough = min(MIN_INSIDE_PER_VARIABLE * objective.n_variables, size.size // 2)
    else:
        enough = int(share * size.size)
    if enough < 1 or np.count_nonzero(size <= objective.threshold) > enough:
        return None
    return kth(size, enough)


def _continuation(
    objective: Whitened, start: Evaluation, threshold: float, max_iter: int
) -> tuple[Evaluation, int, int]:
    """Lower the threshold in steps; each minimisation starts from the previous minimiser.

    Returns the point at which the final minimisation starts, the number of iterations, and the
    number of vertices tried.
    """
    beta, k, theta, point = objective.threshold, objective.n_variables, start.theta, start
    used = n_vertices = 0
    while threshold > beta:
        passing = objective.at_threshold(threshold)
        point = passing.evaluate(theta)
        # A Newton step changes the residuals by about |g|·threshold divided by the fraction of
        # the rows with |r| at most the threshold.
        tol = CONTINUATION_RTOL * max(_n_inside(point, threshold), k) / point.residual.size
        descent = _newton_steps(passing, point, tol, max_iter - used)
        used, point = used + descent.n_iter, descent.point
        n_inside = _n_inside(point, threshold)
        few = n_inside <= VERTEX_MAX_INSIDE_PER_VARIABLE * k
        if few:
            if (n_inside - k) * beta <= VERTEX_MAX_EXTRA_FRACTION * k * threshold:
                vertex, n_iter, evaluated = _at_vertex(
                    objective, passing, point, max_iter - used
                )
                used, n_vertices = used + n_iter, n_vertices + evaluated
                if vertex is not None:
                    return vertex, used, n_vertices
            # With a smaller gradient, the predictor may reach the minimiser at the final
            # threshold.
            descent = _newton_steps(passing, point, VERTEX_GTOL, max_iter - used)
            used, point = used + descent.n_iter, descent.point
        theta = point.theta
        if used >= max_iter:
            break
        step = _predictor(objective, passing, point, max_iter - used)
        used += step.n_iter
        if used >= max_iter:
            break
        if _n_inside(point, threshold) <= k:
            point = objective.evaluate(theta + step.direction)
            if point.relative_gradient <= VERTEX_GTOL:
                return point, used, n_vertices
        # The number of rows with |r| at most the threshold, minus the number of variables, is
        # roughly proportional to the threshold. At the next threshold, this difference should
        # be at least the number of variables.
        factor = THRESHOLD_FACTOR if few else max(THRESHOLD_FACTOR, k / (n_inside - k))
        lower = max(factor * threshold, beta)
        theta = theta + (threshold - lower) / (threshold - beta) * step.direction
        threshold = lower
    point = objective.evaluate(theta)
    return (point if point.value < start.value else start), used, n_vertices


def _predictor(
    objective: Whitened, passing: Whitened, point: Evaluation, max_iter: int
) -> NewtonStep:
    """Return the predicted step to the minimiser of `objective`, whose threshold is smaller.

    The prediction assumes that the set of rows with |r| at most the threshold does not change.
    If the penalty does not depend on the threshold either, the minimiser is then an affine
    function of the threshold (Allgower and Georg, "Introduction to numerical continuation
    methods", 2003).
    """
    out = np.empty_like(point.residual)
    gradient = passing.predicted_gradient(point, objective, out)
    ahead = point._replace(gradient=gradient)
    return _newton_step(passing, ahead, 0.0, CONTINUATION_RTOL, max_iter, out)


def _n_inside(point: Evaluation, threshold: float) -> int:
    return int(np.count_nonzero(np.abs(point.residual) <= threshold))


def _at_vertex(
    objective: Whitened, passing: Whitened, point: Evaluation, max_iter: int
) -> tuple[Evaluation | None, int, int]:
    """Return a point near the minimiser, and the numbers of iterations and of vertices tried.

    The point is None unless the minimiser is at or near a vertex.
    """
    k, n = objective.n_variables, objective.engine.n
    if objective.linear.penalty is not None or k > min(VERTEX_MAX_VARIABLES, n):
        return None, 0, 0
    theta = lad_vertex(passing, point, objective.threshold)
    if theta is None:
        return None, 0, 0
    vertex = objective.evaluate(theta)
    limit = min(VERTEX_MAX_ITER, max_iter)
    descent = _newton_steps(objective, vertex, VERTEX_GTOL, limit)
    vertex = descent.point
    arrived = vertex.relative_gradient <= VERTEX_GTOL or (
        _near_exact_fit(objective, vertex) and _within_rounding(objective, vertex, 4 * _EPS)
    )
    return (vertex if arrived else None), descent.n_iter, 1
