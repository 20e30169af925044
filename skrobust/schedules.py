"""β schedules: from a threshold that covers nearly all residuals to the final one.

A schedule is an array of multipliers of the final threshold, one for each stage of a fit.
It strictly decreases and ends in exactly 1, so that the last stage solves the problem that
was asked for, started from the solution of the easier one before.
"""

import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real

import numpy as np
from numpy.typing import NDArray

from .losses import as_float

__all__ = ["check_schedule", "cosine", "geometric", "linear"]

Schedule = Callable[..., NDArray[np.float64]]

# Each stage costs passes over X and none saves any (`benchmarks/schedules.py`): the fewest with
# which the three differ, since with three stages linear and cosine are the same.
N_STAGES = 4


def geometric(start: float, n_stages: int = N_STAGES) -> NDArray[np.float64]:
    r"""Multipliers with a constant ratio between stages.

    Parameters
    ----------
    start : float
        First multiplier, without a unit. One that is not above 1 gives a single stage.

    n_stages : int, default=4
        Number of stages n, at least 1.

    Returns
    -------
    multipliers : ndarray of shape (n_stages,), float64
        Strictly decreasing from `start` to exactly 1. There are fewer than `n_stages`
        only where neighbours are equal to rounding, and ``[1.0]`` alone for one stage.

    Raises
    ------
    ValueError
        If `start` is not a finite number or `n_stages` not a positive integer.

    See Also
    --------
    linear : Equal differences.
    cosine : Small steps at both ends.

    Notes
    -----
    .. math:: m_k = \text{start}^{\,1 - k/(n - 1)}, \qquad k = 0, \dots, n - 1

    Examples
    --------
    >>> from skrobust.schedules import geometric
    >>> geometric(8)
    array([8., 4., 2., 1.])
    >>> geometric(0.5)
    array([1.])
    """
    progress = _progress(start, n_stages)
    return _distinct(float(start) ** (1.0 - progress))


def linear(start: float, n_stages: int = N_STAGES) -> NDArray[np.float64]:
    r"""Multipliers with a constant difference between stages.

    Parameters
    ----------
    start : float
        First multiplier, without a unit. One that is not above 1 gives a single stage.

    n_stages : int, default=4
        Number of stages n, at least 1.

    Returns
    -------
    multipliers : ndarray of shape (n_stages,), float64
        Strictly decreasing from `start` to exactly 1. There are fewer than `n_stages`
        only where neighbours are equal to rounding, and ``[1.0]`` alone for one stage.

    Raises
    ------
    ValueError
        If `start` is not a finite number or `n_stages` not a positive integer.

    See Also
    --------
    geometric : Equal ratios.
    cosine : Small steps at both ends.

    Notes
    -----
    .. math:: m_k = 1 + (\text{start} - 1)(1 - k/(n - 1)), \qquad k = 0, \dots, n - 1

    Examples
    --------
    >>> from skrobust.schedules import linear
    >>> linear(9, n_stages=3)
    array([9., 5., 1.])
    """
    progress = _progress(start, n_stages)
    return _distinct(1.0 + (float(start) - 1.0) * (1.0 - progress))


def cosine(start: float, n_stages: int = N_STAGES) -> NDArray[np.float64]:
    r"""Multipliers along half a cosine wave: small steps at both ends.

    Parameters
    ----------
    start : float
        First multiplier, without a unit. One that is not above 1 gives a single stage.

    n_stages : int, default=4
        Number of stages n, at least 1.

    Returns
    -------
    multipliers : ndarray of shape (n_stages,), float64
        Strictly decreasing from `start` to exactly 1. There are fewer than `n_stages`
        only where neighbours are equal to rounding, and ``[1.0]`` alone for one stage.

    Raises
    ------
    ValueError
        If `start` is not a finite number or `n_stages` not a positive integer.

    See Also
    --------
    geometric : Equal ratios.
    linear : Equal differences.

    Notes
    -----
    .. math::
        m_k = 1 + \frac{\text{start} - 1}{2}
              \left(1 + \cos\frac{\pi k}{n - 1}\right), \qquad k = 0, \dots, n - 1

    This is the annealing of [1]_ without restarts.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "SGDR: Stochastic Gradient Descent with Warm
           Restarts", ICLR 2017, eq. (5). :arxiv:`1608.03983`

    Examples
    --------
    >>> from skrobust.schedules import cosine
    >>> cosine(9)
    array([9., 7., 3., 1.])
    """
    progress = _progress(start, n_stages)
    return _distinct(1.0 + (float(start) - 1.0) * ((1.0 + np.cos(np.pi * progress)) / 2))


_BY_NAME: dict[str, Schedule] = {"geometric": geometric, "linear": linear, "cosine": cosine}


def check_schedule(
    beta_schedule: str | Sequence[float] | NDArray | None,
) -> Schedule | NDArray[np.float64] | None:
    """Check the parameter `beta_schedule` of an estimator and resolve a name.

    Parameters
    ----------
    beta_schedule : {"geometric", "linear", "cosine"}, array-like or None
        A named schedule, or the multipliers themselves, of shape (n_stages,): finite,
        strictly decreasing and ending in exactly 1.

    Returns
    -------
    schedule : callable, ndarray of shape (n_stages,) or None
        The function of this module with that name, a float64 copy of the multipliers,
        or None for None.

    Raises
    ------
    ValueError
        If `beta_schedule` is anything else. The message names its value and says what
        is wrong with it.

    Examples
    --------
    >>> from skrobust.schedules import check_schedule
    >>> check_schedule([50, 10, 2, 1])
    array([50., 10.,  2.,  1.])
    >>> check_schedule("linear")(3.0, n_stages=3)
    array([3., 2., 1.])
    """
    if beta_schedule is None:
        return None
    if isinstance(beta_schedule, str):
        if beta_schedule in _BY_NAME:
            return _BY_NAME[beta_schedule]
        fault = "there is no schedule of that name"
    else:
        try:
            multipliers = np.asarray(beta_schedule)
        except ValueError:  # a ragged sequence
            multipliers = np.empty(())
        fault = _fault(multipliers)
    if fault:
        names = ", ".join(map(repr, _BY_NAME))
        raise ValueError(
            f"beta_schedule={beta_schedule!r} cannot be used: {fault}. Give None, one of "
            f"{names}, or strictly decreasing multipliers of the threshold that end in "
            "exactly 1, such as [50, 10, 2, 1]."
        )
    return multipliers.astype(np.float64)


def _fault(multipliers: np.ndarray) -> str:
    """Say what keeps `multipliers` from being a schedule; empty if nothing does."""
    if multipliers.ndim != 1 or multipliers.dtype.kind not in "fiu":
        return "it is not a flat sequence of numbers"
    if len(multipliers) == 0:
        return "it is empty"
    if not np.all(np.isfinite(multipliers)):
        return "it is not finite"
    if np.any(multipliers[1:] >= multipliers[:-1]):
        return "it does not strictly decrease"
    if multipliers[-1] != 1:
        return f"it ends in {multipliers[-1]}"
    return ""


def _progress(start: float, n_stages: int) -> NDArray[np.float64]:
    """Return k/(n − 1) for each stage k, which is 1 at the last stage and the only one."""
    if not isinstance(start, Real) or not math.isfinite(as_float("start", start)):
        raise ValueError(f"start must be a finite number, got start={start!r}")
    if not isinstance(n_stages, Integral) or n_stages < 1:
        raise ValueError(f"n_stages must be an integer ≥ 1, got n_stages={n_stages!r}")
    if start <= 1 or n_stages == 1:
        return np.ones(1)
    return np.linspace(0.0, 1.0, n_stages)


def _distinct(multipliers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Drop stages that rounding made equal, as it does from a start just above 1."""
    return np.unique(multipliers)[::-1].copy()
