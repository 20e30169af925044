"""Minimisation of a quadratic function with an L1 penalty and lower bounds.

    min ½ xᵀHx − gᵀx + Σ_j λ_j |x_j|,   x_j ≥ l_j,   l_j = 0 or −∞

Cycles of coordinate descent find the signs, and a Cholesky factor of the free coordinates the
values: a step to the minimum for these signs, along which a coordinate that reaches zero stays
there. The work is bounded by constants.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack

from .._engines.base import FloatArray
from .._engines.compile import kernels

# Rounds of coordinate descent, cycles in a round, and exact steps after each round.
ROUNDS, CYCLES, EXACT_STEPS = 3, 20, 10
STEP_FACTOR, VALUE_RTOL = 0.3, 1e-12


def violation(q: FloatArray, x: FloatArray, slope: FloatArray, lower: FloatArray) -> FloatArray:
    """Return the violation of the optimality conditions, given q = g − Hx."""
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
    """Return the minimiser, with a violation of at most `tol` unless the work is exhausted."""
    x, q = start.copy(), g - H @ start
    descend = kernels().coordinate_descent()
    for _ in range(ROUNDS):
        descend(H, q, x, slope, lower, CYCLES, tol)
        q = g - H @ x
        if violation(q, x, slope, lower).max(initial=0.0) <= tol:
            break
        x, q = _exact_steps(H, g, x, q, slope, lower)
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
) -> tuple[FloatArray, FloatArray]:
    """Return the point after steps to the minimum for the present signs, and q there."""

    def value(x: FloatArray, q: FloatArray) -> float:
        return float(slope @ np.abs(x) - 0.5 * x @ (q + g))

    lowest = value(x, q)
    for _ in range(EXACT_STEPS):
        free = np.flatnonzero(((x != 0) | (slope == 0)) & (x > lower))
        if not free.size:
            break
        # The transposed block, which is the same, is in LAPACK's order and need not be copied.
        L, info = lapack.dpotrf(H[np.ix_(free, free)].T, lower=1, clean=0, overwrite_a=1)
        if info:
            break
        sign = np.sign(x[free])
        step, _ = lapack.dpotrs(L, q[free] - slope[free] * sign, lower=1)
        ends_at_zero = (slope[free] > 0) | (lower[free] == 0)
        crosses = ends_at_zero & (np.sign(x[free] + step) != sign) & (sign != 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            hit = np.where(crosses, -x[free] / step, np.inf)
        first, t = min(float(hit.min(initial=np.inf)), 1.0), 1.0
        while True:
            t = max(t, first)
            trial = x.copy()
            trial[free] = np.where(hit <= t, 0.0, x[free] + t * step)
            trial_q = g - H @ trial
            found = value(trial, trial_q)
            if found <= lowest or t == first:
                break
            t *= STEP_FACTOR
        if found > lowest + VALUE_RTOL * abs(lowest):
            break
        x, q, lowest = trial, trial_q, found
        if not crosses.any():
            break
    return x, q
