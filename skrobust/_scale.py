"""The scale of the residuals: MAD, concomitant, and the floor that rounding sets.

Both scales are functions of the residuals alone. A threshold β σ̂ and the fit agree where
σ̂(r(β σ̂)) = σ̂; `_stages` finds that point.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

# |r| is below this many standard deviations for half of normal residuals.
NORMAL_MAD = float(ndtri(0.75))
# Thresholds at which the estimate has 95 % efficiency under normal errors, in units of the
# MAD (Holland and Welsch, 1977) and of the concomitant σ̂, which estimates .843 σ there.
AUTO_MAD = 1.345
AUTO_CONCOMITANT = 1.5960
# Above twenty times this many residuals, about this many tell where to look.
_PROBE = 2_000
_NEAR = 0.02


class ScaleRule(NamedTuple):
    """A threshold `factor` times the scale that `estimate(residual, weight, near)` finds.

    `near`, a scale that is near, makes it quick; what is found may then be one step from it,
    which is the scale itself where that is `near`.
    """

    factor: float
    estimate: Callable


def weighted_median(values, weight=None, near=None):
    """The median in which integer weights mean repeated values.

    Where the smaller values have exactly half of the weight (to the rounding of the sum) it
    is the mean of the two values in the middle, as np.median's. A value that is probably
    `near` saves time.
    """
    n = values.size
    if weight is None and n < 20 * _PROBE:
        # Much faster than a partition at both values in the middle.
        part = np.partition(values, n // 2)
        return 0.5 * float(part[n // 2]) + 0.5 * float(part[: n // 2 + n % 2].max())
    total = float(n) if weight is None else float(weight.sum())
    half, slack = 0.5 * total, np.finfo(float).eps * n * total
    low, high = _probable_median(values, weight, near)
    below = values < low
    inside = np.flatnonzero((values <= high) ^ below)
    under = float(np.count_nonzero(below) if weight is None else weight @ below)
    order = inside[np.argsort(values[inside])]
    cumulated = under + np.cumsum(np.ones(order.size) if weight is None else weight[order])
    if not order.size or not under < half - slack <= half + slack < cumulated[-1]:
        # It is not between these, or too near to the end to tell.
        if near is not None:
            return weighted_median(values, weight)
        order = np.argsort(values)
        cumulated = np.cumsum(np.ones(n) if weight is None else weight[order])
    first = np.searchsorted(cumulated, half - slack)
    second = np.searchsorted(cumulated, half + slack, side="right")
    return 0.5 * float(values[order[first]]) + 0.5 * float(
        values[order[min(second, order.size - 1)]]
    )


def _probable_median(values, weight, near):
    """Two values with the median between them, very probably: only a few need sorting."""
    if values.size < 20 * _PROBE:
        return -np.inf, np.inf
    if near is not None:
        return near - _NEAR * abs(near), near + _NEAR * abs(near)
    step = values.size // _PROBE
    part = values[::step]
    order = np.argsort(part)
    cumulated = np.cumsum(np.ones(part.size) if weight is None else weight[::step][order])
    ends = np.searchsorted(cumulated, cumulated[-1] * np.array([0.45, 0.55]))
    return part[order[ends[0]]], part[order[ends[1]]]


def mad(residual, weight=None, near=None):
    """Median of |r| over Φ⁻¹(3/4): σ for normal residuals, centred at zero."""
    near = None if near is None else near * NORMAL_MAD
    return weighted_median(np.abs(residual), weight, near) / NORMAL_MAD


def concomitant(epsilon):
    """The σ̂ that minimises Σ s [σ + H_ε(r/σ) σ], where Σ s min(r²/σ², ε²) = Σ s.

    In u = 1/σ² the left side is concave and piecewise linear. Newton's method comes to the
    root from below, without a sort, and is exact once the right rows are beyond ε.
    """

    def estimate(residual, weight=None, near=None):
        size = np.abs(residual)
        if near is not None:
            u = _next_root(near**-2.0, size, weight, epsilon)
            return u**-0.5 if 0 < u < np.inf else estimate(residual, weight)
        top = size.max()
        if not top:
            return 0.0
        size /= top
        u = 0.0
        if size.size > 20 * _PROBE:
            step = size.size // _PROBE
            guess = estimate(size[::step], None if weight is None else weight[::step])
            u = _next_root(guess**-2.0, size, weight, epsilon) if guess else 0.0
        while True:
            following = _next_root(u, size, weight, epsilon)
            if not u < following < np.inf:
                return (
                    float(top / np.sqrt(following)) if following >= u else float(top / u**0.5)
                )
            u = following

    return estimate


def _next_root(u, size, weight, epsilon):
    """Where the piece of Σ s min(u r², ε²) − Σ s at u is zero; 0 where it does not rise."""
    end = epsilon / np.sqrt(u) if u else np.inf
    inside = size <= end
    inner = size * inside
    if weight is None:
        total, beyond = float(size.size), float(size.size - np.count_nonzero(inside))
        squares = inner @ inner
    else:
        total, beyond = float(weight.sum()), float(weight @ ~inside)
        squares = (weight * inner) @ inner
    room = total - epsilon * (epsilon * beyond)
    if room <= 0:
        return 0.0
    return float(room / squares) if squares else np.inf
