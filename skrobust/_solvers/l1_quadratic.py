"""Minimisation of a quadratic function with an L1 penalty, subject to lower bounds.

    min ½ xᵀHx − gᵀx + Σ_j λ_j |x_j|,   x_j ≥ l_j,   l_j = 0 or −∞

Coordinate descent identifies the signs of the coordinates. A Cholesky factor of H, restricted
to the free coordinates, then gives the step to the minimum for these signs. The free
coordinates are those that neither the penalty nor a bound holds at zero. A coordinate that
reaches zero along the step remains at zero. The numbers of cycles and steps are limited.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack

from .._engines.base import FloatArray
from .._engines.compile import kernels

# Maximum numbers of rounds, of coordinate-descent cycles per round, and of exact steps at the
# end of a round.
ROUNDS, CYCLES, EXACT_STEPS = 3, 20, 10
# Factor by which a step that increases the function is shortened, and largest relative increase
# of the function that is attributed to rounding errors.
STEP_FACTOR, VALUE_RTOL = 0.3, 1e-12
# The exact steps end if more than this fraction of the free coordinates has reached zero.
MAX_AT_ZERO = 0.5


def violation(q: FloatArray, x: FloatArray, slope: FloatArray, lower: FloatArray) -> FloatArray:
    """Return, for each coordinate of x, the violation of its optimality condition.

    `q` is g − Hx, `slope` contains the λ_j, and `lower` contains the bounds l_j.
    """
    at_zero = np.maximum(np.abs(q) - slope, 0.0)
    total = np.where(x == 0, at_zero, np.abs(q - slope * np.sign(x)))
    result: FloatArray = np.where(x <= lower, np.maximum(q - slope, 0.0), total)
    return result


def minimise_l1_quadratic(
    H: FloatArray,
    g: FloatArray,
    start: FloatArray,
    slope: FloatArray,
    lower: FloatArray,
    tol: float,
) -> FloatArray:
    """Minimise the penalised quadratic function, subject to the bounds.

    The optimality conditions are violated by at most `tol`, or by more if the maximum number of
    rounds is reached.
    """
    x, q = start.copy(), g - H @ start
    descend = kernels().coordinate_descent()
    for _ in range(ROUNDS):
        descend(H, q, x, slope, lower, CYCLES, tol)
        q = g - H @ x
        if violation(q, x, slope, lower).max(initial=0.0) <= tol:
            break
        x = _exact_steps(H, g, x, q, slope, lower)
        q = g - H @ x
        if violation(q, x, slope, lower).max(initial=0.0) <= tol:
            break
    return x


def _exact_steps(
    H: FloatArray,
    g: FloatArray,
    x: FloatArray,
    q: FloatArray,
    slope: FloatArray,
    lower: FloatArray,
) -> FloatArray:
    """Return the point to which exact steps lead from x, given q = g − Hx.

    An exact step leads to the minimum for the current signs of the free coordinates.
    """
    free = np.flatnonzero(((x != 0) | (slope == 0)) & (x > lower))
    B = H[np.ix_(free, free)]
    # The transpose of the symmetric matrix B has the column-major order that LAPACK requires.
    L, info = lapack.dpotrf(B.T, lower=1, clean=0)
    if not free.size or info:
        return x
    g, slope, y, q = g[free], slope[free], x[free], q[free]
    ends_at_zero = (slope > 0) | (lower[free] == 0)

    def value(y: FloatArray, q: FloatArray) -> float:
        return float(slope @ np.abs(y) - 0.5 * y @ (q + g))

    lowest = value(y, q)
    # The coordinates that have reached zero, and the columns of B⁻¹ for these coordinates. The
    # columns are used to correct each step so that the coordinates remain at zero.
    at_zero, E = np.zeros(0, dtype=int), np.zeros((free.size, 0))
    for _ in range(EXACT_STEPS):
        sign = np.sign(y)
        step = lapack.dpotrs(L, q - slope * sign, lower=1)[0]
        if at_zero.size:
            step -= E @ np.linalg.solve(E[at_zero], step[at_zero])
            step[at_zero] = 0.0
        crosses = ends_at_zero & (np.sign(y + step) != sign) & (sign != 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            hit = np.where(crosses, -y / step, np.inf)
        first, t = min(float(hit.min(initial=np.inf)), 1.0), 1.0
        while True:
            t = max(t, first)
            trial = np.where(hit <= t, 0.0, y + t * step)
            trial_q = q - B @ (trial - y)
            found = value(trial, trial_q)
            if found <= lowest or t == first:
                break
            t *= STEP_FACTOR
        if found > lowest + VALUE_RTOL * abs(lowest):
            break
        y, q, lowest = trial, trial_q, found
        if not crosses.any():
            break
        new = np.flatnonzero(crosses & (y == 0))
        at_zero = np.concatenate([at_zero, new])
        if at_zero.size > MAX_AT_ZERO * free.size:
            break
        unit = np.zeros((free.size, new.size), order="F")
        unit[new, np.arange(new.size)] = 1.0
        E = np.hstack([E, lapack.dpotrs(L, unit, lower=1, overwrite_b=1)[0]])
    x = x.copy()
    x[free] = y
    return x
