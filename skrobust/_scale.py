"""The scale of the residuals: MAD and concomitant.

Both are functions of the residuals alone. A threshold β σ̂ and the fit agree where
σ̂(r(β σ̂)) = σ̂; `_agreement` finds that point.
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
# Residuals that tell where to look, if there are far more.
_PROBE = 2_000
_NEAR = 0.02
# A scale by such a factor from another is not near; and an error of a step that is left to the
# next one.
_FARTHEST, _TOLD = 2.0, 0.1
_BLOCK = 2**14
# Residuals that take less time to sort than steps would.
_FEW = 4_000
# Relative to the largest residual; its square is a number.
_VANISHING = 1e-150


class ScaleRule(NamedTuple):
    """A threshold `factor` times the scale that `estimate(residual, weight, near)` finds.

    `near` makes it quick; what is found may then be one step from it, which is the scale itself
    where that is the one of `near`.
    """

    factor: float
    estimate: Callable


class Near(NamedTuple):
    """A scale that is near, and the root mean square of the residuals clipped at its
    threshold.
    """

    scale: float
    clipped: float


def weighted_median(values, weight=None, near=None, absolute=False):
    """The median, of |values| if absolute, in which integer weights mean repeated values.

    Where the smaller values have exactly half of the weight (to the rounding of the sum) it
    is the mean of the two values in the middle, as np.median's. A value that is probably
    `near` saves time.
    """
    n = values.size
    if weight is None and n < 20 * _PROBE:
        # Much faster than a partition at both values in the middle.
        part = np.partition(np.abs(values) if absolute else values, n // 2)
        return 0.5 * float(part[n // 2]) + 0.5 * float(part[: n // 2 + n % 2].max())
    total = float(n) if weight is None else float(weight.sum())
    half, slack = 0.5 * total, np.finfo(float).eps * n * total
    window = _probable_median(values, weight, near, absolute)
    under, inside, cumulated = _sorted_inside(values, weight, window, absolute)
    if not inside.size or not under < half - slack <= half + slack < cumulated[-1]:
        # It is not between these, or too near to the end to tell.
        if near is not None:
            return weighted_median(values, weight, None, absolute)
        _, inside, cumulated = _sorted_inside(values, weight, (-np.inf, np.inf), absolute)
        if not inside.size:
            return np.nan
    first = np.searchsorted(cumulated, half - slack)
    second = np.searchsorted(cumulated, half + slack, side="right")
    return 0.5 * float(inside[first]) + 0.5 * float(inside[min(second, inside.size - 1)])


def _probable_median(values, weight, near, absolute):
    """Two values with the median between them, very probably: only a few need sorting."""
    if values.size < 20 * _PROBE:
        return -np.inf, np.inf
    if near is not None:
        return near - _NEAR * abs(near), near + _NEAR * abs(near)
    step = values.size // _PROBE
    part = np.abs(values[::step]) if absolute else values[::step]
    order = np.argsort(part)
    cumulated = np.cumsum(np.ones(part.size) if weight is None else weight[::step][order])
    ends = np.searchsorted(cumulated, cumulated[-1] * np.array([0.45, 0.55]))
    return part[order[ends[0]]], part[order[ends[1]]]


def _sorted_inside(values, weight, window, absolute):
    """The weight below a window, the values in it in order, and the weight up to each."""
    low, high = window
    under, inside, shares = 0.0, [], []
    for part in _blocks(values.size):
        v = np.abs(values[part]) if absolute else values[part]
        below = v < low
        index = np.flatnonzero((v <= high) ^ below)
        under += float(np.count_nonzero(below) if weight is None else weight[part] @ below)
        inside.append(v[index])
        shares.append(np.ones(index.size) if weight is None else weight[part][index])
    found = np.concatenate(inside)
    order = np.argsort(found)
    return under, found[order], under + np.cumsum(np.concatenate(shares)[order])


def _blocks(n):
    """Parts of so many rows that temporaries stay in the cache, and beside X are nothing."""
    return (slice(i, i + _BLOCK) for i in range(0, n, _BLOCK))


def mad(residual, weight=None, near=None):
    """Median of |r| over Φ⁻¹(3/4): σ for normal residuals, centred at zero."""
    probable = None if near is None else near.scale * NORMAL_MAD
    return weighted_median(residual, weight, probable, absolute=True) / NORMAL_MAD


def concomitant(epsilon):
    """The σ̂ that minimises Σ s [σ + H_ε(r/σ) σ], where Σ s min(r²/σ², ε²) = Σ s.

    In u = 1/σ² the left side is concave and piecewise linear. Newton's method comes to the
    root from below, without a sort, and is exact once the right rows are beyond ε.
    """

    def estimate(residual, weight=None, near=None):
        if near is not None:
            return _corrected(near, residual, weight, epsilon) or estimate(residual, weight)
        size = np.abs(residual)
        top = float(size.max())
        if not top:
            return 0.0
        size /= top
        if size.size <= _FEW:
            return top * _sorted_root(size, weight, epsilon)
        step = size.size // _PROBE
        guess = estimate(size[::step], None if weight is None else weight[::step])
        # From any guess one step leads below the root.
        u = _next_root(guess**-2.0, size, weight, epsilon) if guess > _VANISHING else 0.0
        while True:
            following = _next_root(u, size, weight, epsilon)
            if not u < following < np.inf:
                u = max(u, following)
                return top * u**-0.5 if u else np.nan
            u = following

    return estimate


def _sorted_root(size, weight, epsilon):
    """σ̂ of a few residuals |r|, from the sums of those up to each in their order."""
    if weight is None:
        size, share = np.sort(size), np.ones(size.size)
    else:
        order = size.argsort()
        size, share = size[order], weight[order]
    squares = size * size
    inner = np.cumsum(share * squares)
    beyond = np.cumsum(share[::-1])[::-1] - share
    total = float(beyond[0] + share[0])
    # Σ s min(r²/σ², ε²) / ε² where a row comes to ε; a residual of zero adds nothing.
    reached = np.divide(inner, squares, out=np.zeros_like(inner), where=squares > 0)
    reached += beyond
    k = int(np.count_nonzero(reached >= total / epsilon / epsilon)) - 1
    room = total - epsilon * (epsilon * float(beyond[k])) if k >= 0 else 0.0
    return float(np.sqrt(inner[k] / room)) if room > 0 else 0.0


def _corrected(near, residual, weight, epsilon):
    """The next root from one that is near, None where that is not near.

    Its sums are known but for the part of the rows beyond ε. Where some of these tell it well
    enough, others are not looked at: the step is zero at the root whatever they say.
    """
    # Not every so many, since data may be periodic.
    some = np.random.default_rng(0).integers(residual.size, size=_PROBE)
    share = np.ones(_PROBE) if weight is None else weight[some]
    share = share / share.sum()
    beyond = float(share @ (np.abs(residual[some]) > epsilon * near.scale))
    # Of so many rows of equal weight the mean is as exact (Kish, 1965).
    n_equal = 1.0 / float(share @ share)
    error = float(np.sqrt((beyond * (1.0 - beyond) + 1.0 / n_equal) / n_equal))
    room = 1.0 - epsilon * (epsilon * beyond)
    if epsilon * (epsilon * error) < _TOLD * room:
        square = 1.0 + ((near.clipped / near.scale) ** 2 - 1.0) / room
        factor = float(np.sqrt(max(square, 0.0)))
        return near.scale * factor if 1 / _FARTHEST < factor < _FARTHEST else None
    u = _next_root(near.scale**-2.0, residual, weight, epsilon)
    return u**-0.5 if 0 < u < np.inf else None


def _next_root(u, residual, weight, epsilon):
    """Where the piece of Σ s min(u r², ε²) − Σ s at u is zero; 0 where it does not rise."""
    end = epsilon / np.sqrt(u) if u else np.inf
    total = float(residual.size) if weight is None else float(weight.sum())
    beyond = squares = 0.0
    for part in _blocks(residual.size):
        size = np.abs(residual[part])
        inside = size <= end
        inner = size * inside
        if weight is None:
            beyond += size.size - np.count_nonzero(inside)
            squares += inner @ inner
        else:
            beyond += float(weight[part] @ ~inside)
            squares += (weight[part] * inner) @ inner
    room = total - epsilon * (epsilon * beyond)
    if room <= 0:
        return 0.0
    return float(room / squares) if squares else np.inf
