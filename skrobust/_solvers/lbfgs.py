"""Minimisation by SciPy's L-BFGS with a compiled loss and gradient, in whitened coordinates.

Because the variables are whitened, L-BFGS approaches the minimiser in about ten passes over X.
It does not require a Hessian. It cannot reduce the relative gradient much below 1e-7, because
its line search compares values of the objective F, whose differences near the minimiser are
dominated by rounding errors. Newton's method then continues from the best point that L-BFGS has
found.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize

from .._engines.base import FloatArray
from .._model.linear_loss import Evaluation
from .._model.whitening import Whitened
from .newton import can_form_hessian, few_rows_inside, minimise
from .result import Solution

# With solver="auto", Newton's method alone is used if X has at most this many elements, since a
# Newton step then takes no longer than two passes over X.
NEWTON_FIRST_MAX_ELEMENTS = 20_000
# With solver="auto", L-BFGS ends, and Newton's method follows, when the relative gradient is at
# most LBFGS_GTOL or after LBFGS_MAX_EVALUATIONS evaluations of F. L-BFGS needs more evaluations
# only if it approximates the curvature poorly.
LBFGS_GTOL = 1e-4
LBFGS_MAX_EVALUATIONS = 20
# Maximum number of evaluations of F by L-BFGS at one threshold with solver="lbfgs". With
# solver="auto", the same limit applies if the Hessian would be too large, because a Newton step
# then takes many passes over X.
LBFGS_LONG_MAX_EVALUATIONS = 100
# Largest relative decrease of F in an iteration that is attributed to rounding errors.
VALUE_RTOL = 4 * float(np.finfo(float).eps)


def lbfgs(objective: Whitened, start: FloatArray, tol: float, max_iter: int) -> Solution:
    """Minimise F by L-BFGS until rounding errors dominate, then by Newton's method to `tol`.

    L-BFGS evaluates F at most min(⌈max_iter / 2⌉, LBFGS_LONG_MAX_EVALUATIONS) times. With a
    tiny threshold, L-BFGS alone would need more than `max_iter` iterations.
    """
    n_passes = objective.n_passes
    point = objective.evaluate(start)
    limit = min((max_iter + 1) // 2, LBFGS_LONG_MAX_EVALUATIONS)
    return _with_newton(objective, point, n_passes, tol, tol, max_iter, limit)


def lbfgs_then_newton(
    objective: Whitened, start: FloatArray, tol: float, max_iter: int
) -> Solution:
    """Minimise F approximately by L-BFGS, then to `tol` by Newton's method.

    L-BFGS is used first because a pass over X takes less time than a Newton step. Newton's
    method is used alone if X is small, if `start` is near the minimiser, or if few rows have
    |r| at most the threshold. In the last case, Newton's method lowers the threshold in steps.
    """
    n_passes = objective.n_passes
    point = objective.evaluate(start)
    near = point.relative_gradient <= LBFGS_GTOL
    small = objective.engine.n_elements <= NEWTON_FIRST_MAX_ELEMENTS
    if near or small or few_rows_inside(objective, point):
        return minimise(objective, point, tol, max_iter, n_passes)
    gtol, limit = max(LBFGS_GTOL, tol), LBFGS_MAX_EVALUATIONS
    if not can_form_hessian(objective):
        limit = LBFGS_LONG_MAX_EVALUATIONS
    return _with_newton(objective, point, n_passes, tol, gtol, max_iter, limit)


def _with_newton(
    objective: Whitened,
    start: Evaluation,
    n_passes: int,
    tol: float,
    gtol: float,
    max_iter: int,
    max_evaluations: int,
) -> Solution:
    point, n_iter = lbfgs_descent(objective, start, gtol, max_iter, max_evaluations)
    n_passes_lbfgs = objective.n_passes - n_passes
    solution = minimise(objective, point, tol, max_iter - n_iter, objective.n_passes)
    passes = {"lbfgs": n_passes_lbfgs, **solution.passes}
    return solution._replace(n_iter=n_iter + solution.n_iter, passes=passes)


def lbfgs_descent(
    objective: Whitened, start: Evaluation, gtol: float, max_iter: int, max_evaluations: int
) -> tuple[Evaluation, int]:
    """Return the evaluated point with the smallest value of F, and the number of iterations.

    SciPy's first step always has length one. The coordinates are therefore divided by the norm
    of the first gradient, which makes the first step the Newton step for a quadratic function
    in whitened coordinates. SciPy's option ftol is set to zero, because a small decrease of F
    does not mean that the minimiser is near.
    """
    unit = float(np.sqrt(start.gradient @ start.gradient))
    if max_iter <= 0 or not unit or start.relative_gradient <= gtol:
        # The norm of the gradient is also zero if the residuals are so small (1e-170, for
        # example) that their squares underflow.
        return start, 0
    best, last_value = start, start.value
    spare: Any = None

    def scaled_objective(x: FloatArray) -> tuple[float, FloatArray]:
        nonlocal best, spare
        if not x.any():
            return 0.0, start.gradient / unit
        point = objective.evaluate(start.theta + unit * x, spare)
        if point.value < best.value:
            best, spare = point, best.residual if best is not start else None
        else:
            spare = point.residual
        return (point.value - start.value) / unit**2, point.gradient / unit

    def stop(intermediate_result: object) -> None:
        """Stop if the gradient is small or F has decreased by at most its rounding error."""
        nonlocal last_value
        decrease, last_value = last_value - best.value, best.value
        if best.relative_gradient <= gtol or decrease <= VALUE_RTOL * best.value:
            raise StopIteration

    callback: Callable[..., None] = stop
    limits = {"maxiter": max_iter, "maxfun": max_evaluations}
    result = minimize(
        scaled_objective,
        np.zeros_like(start.theta),
        jac=True,
        method="L-BFGS-B",
        callback=callback,
        options={**limits, "ftol": 0.0, "gtol": 0.0},
    )
    return best, int(result.nit)
