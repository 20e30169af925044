"""Proximal Newton steps on a working set of features, with an L1 penalty and lower bounds.

Each step leads to the minimum of the sum of a quadratic model of the loss and the L1 penalty
(`l1_quadratic`). A line search along the step reads only the rows near the threshold β
(`near_rows`), and the Hessian is updated for the rows whose |r| crosses β.
"""

from __future__ import annotations

import numpy as np

from .._engines.base import FloatArray
from .._model.penalty import ElasticNet
from .l1_quadratic import minimise_l1_quadratic, violation
from .near_rows import NearRows
from .working_columns import WorkingColumns

MAX_STEPS = 60
# The damping is added to the diagonal elements of the Hessian, which are at most 1. Apart from
# the exceptions below, it is at least MIN_DAMPING. After a step shorter than SHORT_STEP times
# the full step, it is at least SHORT_STEP_DAMPING.
MIN_DAMPING, SHORT_STEP_DAMPING, SHORT_STEP = 1e-8, 1e-4, 0.2
# Minimum damping for coefficients that have a bound but no penalty. The minimiser over these
# coefficients may not be unique, but the result must not depend on rounding errors.
BOUNDED_DAMPING = 1e-6
# The minimum damping for a coefficient with a quadratic penalty is the curvature of the
# penalty, clipped to the interval from MIN_DAMPING_WITH_RIDGE to MIN_DAMPING. A damping larger
# than the curvature would shorten the steps.
MIN_DAMPING_WITH_RIDGE = 1e-12


def proximal_newton(
    columns: WorkingColumns,
    penalty: ElasticNet,
    x: FloatArray,
    residual: FloatArray,
    beta: float,
    tol: float,
    max_steps: int,
    gradient: FloatArray | None,
    use_all_rows: bool,
) -> tuple[FloatArray, int]:
    """Return the coefficients of the working set at the minimum, and the number of steps.

    `residual` contains the residuals at the coefficients `x`. `gradient` is the gradient of the
    loss with respect to these coefficients, or None if it is unknown. `tol` is an upper bound
    on the violation of the optimality conditions, relative to the root mean square of ψ.
    """
    index = columns.index
    slope, ridge, lower = penalty.slope[index], penalty.diagonal[index], penalty.lower[index]
    only_bounded = (slope + ridge == 0) & (lower == 0)
    least_damping = np.where(only_bounded, BOUNDED_DAMPING, MIN_DAMPING)
    with_ridge = np.clip(ridge, MIN_DAMPING_WITH_RIDGE, MIN_DAMPING)
    least_damping = np.where(ridge > 0, with_ridge, least_damping)
    clipped = np.clip(residual, -beta, beta)
    weighted = columns.s * clipped
    rms = float(np.sqrt(weighted @ clipped))
    columns.update(clipped == residual)
    q = (columns.Z @ weighted if gradient is None else -gradient) - ridge * x
    n_steps, damping, rows = 0, 0.0, None
    while n_steps < min(MAX_STEPS, max_steps):
        bad = float(violation(q, x, slope, lower).max(initial=0.0))
        if bad <= 0.3 * tol * rms:
            break
        n_steps += 1
        H = columns.H.copy()
        H.flat[:: x.size + 1] += ridge + np.maximum(damping, least_damping)
        inner = max(0.03 * tol * rms, min(0.1, bad / rms if rms else 0.1) * bad)
        step = minimise_l1_quadratic(H, q + H @ x, x, slope, lower, inner) - x
        if rows is None:
            rows = NearRows(columns, residual, beta, step, use_all_rows)
        curvature = columns.H @ step + ridge * step
        t = rows.line_minimum(x, step, q, curvature, slope)
        x = x + t * step
        q = q - t * curvature + rows.move(t)
        if t < SHORT_STEP:
            damping = max(SHORT_STEP_DAMPING, 10 * damping)
        else:
            damping = 0.1 * damping if damping > 0.1 * SHORT_STEP_DAMPING else 0.0
    # Setting these small coefficients to zero keeps the optimality conditions satisfied to
    # within the tolerance, whichever rows have |r| at most the threshold, since Σ s z² over all
    # rows is 1.
    tiny = (slope > 0) & (np.abs(x) * (1.0 + ridge) <= tol * slope)
    return np.where(tiny, 0.0, x), n_steps
