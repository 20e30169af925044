"""Tuning constants c of the bisquare for a given breakdown point or a given efficiency.

Let u be a standard normal variable with the truncated moments M_2j = E u^2j 1[|u| < c]. Let ρ
be the bisquare loss scaled to have supremum 1, and let ψ be its derivative scaled such that
ψ′(0) = 1. Then

    E ρ  = 3M₂/c² − 3M₄/c⁴ + M₆/c⁶ + P(|u| > c),
    E ψ′ = M₀ − 6M₂/c² + 5M₄/c⁴,
    E ψ² = M₂ − 4M₄/c² + 6M₆/c⁴ − 4M₈/c⁶ + M₁₀/c⁸.

An M-scale with E ρ = b, where b ≤ ½, has breakdown point b. The efficiency of an M-estimator at
the normal distribution is (E ψ′)²/E ψ² (Maronna, Martin, Yohai and Salibián-Barrera, "Robust
Statistics", 2nd ed., 2019, sections 2.5 and 5.4).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import erfc, gammainc

from .._engines.base import FloatArray

# Bracket for the constant with a given efficiency. All admissible efficiencies lie between
# those of the two constants.
EFFICIENCY_BRACKET = 1.2, 20.0
# The moments (2j − 1)!! of order 2j of a standard normal variable, for j = 0, …, 5.
NORMAL_MOMENTS = np.array([1.0, 1.0, 3.0, 15.0, 105.0, 945.0])
_RTOL = 4.0 * float(np.finfo(float).eps)


def _moments(c: float) -> FloatArray:
    """Return M₀, M₂, …, M₁₀ from incomplete gamma functions, without cancellation."""
    moments: FloatArray = NORMAL_MOMENTS * gammainc(np.arange(6) + 0.5, 0.5 * c * c)
    return moments


def mean_rho(c: float) -> float:
    """Return E ρ for the constant c. If E ρ ≤ ½, it is the breakdown point of the M-scale."""
    _, m2, m4, m6, _, _ = _moments(c)
    return float(3 * m2 / c**2 - 3 * m4 / c**4 + m6 / c**6 + erfc(c / np.sqrt(2.0)))


def normal_efficiency(c: float) -> float:
    """Return the efficiency of the M-estimator with the constant c under normal errors."""
    m0, m2, m4, m6, m8, m10 = _moments(c)
    slope = m0 - 6 * m2 / c**2 + 5 * m4 / c**4
    square = m2 - 4 * m4 / c**2 + 6 * m6 / c**4 - 4 * m8 / c**6 + m10 / c**8
    return float(slope**2 / square)


@cache
def constant_of_breakdown(breakdown: float) -> float:
    """Return the constant of the M-scale with the given breakdown point, which is at most ½."""
    # E ρ ≤ 3/c², so the constant is at most √(3/breakdown).
    largest = float(np.sqrt(3.0 / breakdown))
    return _root(lambda c: mean_rho(c) - breakdown, 0.5, largest)


@cache
def constant_of_efficiency(efficiency: float) -> float:
    """Return the constant of the M-estimator with the given efficiency, from 0.5 to 0.99."""
    return _root(lambda c: normal_efficiency(c) - efficiency, *EFFICIENCY_BRACKET)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    return float(brentq(function, low, high, xtol=1e-15, rtol=_RTOL))
