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


class ScaleRule(NamedTuple):
    """A threshold `factor` times the scale that `estimate(residual, weight)` finds."""

    factor: float
    estimate: Callable


def weighted_median(values, weight=None):
    """The median in which integer weights mean repeated values.

    Where the smaller values have exactly half of the weight (to the rounding of the sum) it
    is the mean of the two values in the middle, as np.median's.
    """
    if weight is None:
        return float(np.median(values))
    order = np.argsort(values)
    values, cumulated = values[order], np.cumsum(weight[order])
    half = 0.5 * cumulated[-1]
    slack = np.finfo(float).eps * values.size * cumulated[-1]
    low = values[np.searchsorted(cumulated, half - slack)]
    high = values[min(np.searchsorted(cumulated, half + slack, side="right"), values.size - 1)]
    return float(0.5 * (low + high))


def mad(residual, weight=None):
    """Median of |r| over Φ⁻¹(3/4): σ for normal residuals, centred at zero."""
    return weighted_median(np.abs(residual), weight) / NORMAL_MAD


def concomitant(epsilon):
    """The σ̂ that minimises Σ s [σ + H_ε(r/σ) σ], where Σ s min(r²/σ², ε²) = Σ s."""

    def estimate(residual, weight=None):
        size = np.sort(np.abs(residual)) if weight is None else np.abs(residual)
        if weight is None:
            weight = np.ones(size.size)
        else:
            order = np.argsort(size)
            size, weight = size[order], weight[order]
        top = size[-1]
        if not top:
            return 0.0
        size = size / top
        # With the m smallest inside, σ² (W − ε² Σ_outside s) = Σ_inside s r²; the right m is
        # the one for which εσ falls between the neighbours.
        total = weight.sum()
        squares = np.cumsum(weight * size**2)
        outside = np.append(np.cumsum(weight[:0:-1])[::-1], 0.0)
        room = total - epsilon**2 * outside
        with np.errstate(divide="ignore", invalid="ignore"):
            sigma = np.sqrt(np.where(room > 0, squares / room, np.inf))
        following = np.append(size[1:], np.inf)
        fits = np.flatnonzero(epsilon * sigma <= following)
        return float(top * sigma[fits[0]])

    return estimate
