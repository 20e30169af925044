"""Schedules of the threshold β: decreasing multipliers of the final threshold.

A schedule is an array of multipliers of the final threshold, one for each stage of a fit.
The multipliers are strictly decreasing and end at exactly 1, so the last stage minimises the
requested objective. Each stage starts from the solution of the previous one.
"""

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .losses import as_float

__all__ = ["check_schedule", "cosine", "geometric", "linear"]

# A function of `start` and `n_stages` that returns the multipliers.
Schedule: TypeAlias = Callable[..., NDArray[np.float64]]

# Default number of stages: the smallest for which the three schedules differ, because each
# additional stage increases the number of passes over X (`benchmarks/schedules.py`). With three
# stages, the linear and cosine schedules are equal.
N_STAGES = 4


def geometric(start: float, n_stages: int = N_STAGES) -> NDArray[np.float64]:
    r"""Multipliers with a constant ratio between consecutive stages.

    Parameters
    ----------
    start : float
        First multiplier, dimensionless. If it is at most 1, there is a single stage.

    n_stages : int, default=4
        Number of stages n, at least 1.

    Returns
    -------
    multipliers : ndarray of shape (n_stages,), float64
        Strictly decreasing multipliers from `start` to exactly 1, or ``[1.0]`` for a single
        stage. Multipliers that coincide after rounding are merged, so there may be fewer than
        `n_stages` if `start` is barely above 1.

    Raises
    ------
    ValueError
        If `start` is not a finite number or `n_stages` is not a positive integer.

    See Also
    --------
    linear : Multipliers with a constant difference.
    cosine : Multipliers with small steps at both ends.

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
    fractions = _stage_fractions(start, n_stages)
    return _without_duplicates(float(start) ** (1.0 - fractions))


def linear(start: float, n_stages: int = N_STAGES) -> NDArray[np.float64]:
    r"""Multipliers with a constant difference between consecutive stages.

    Parameters
    ----------
    start : float
        First multiplier, dimensionless. If it is at most 1, there is a single stage.

    n_stages : int, default=4
        Number of stages n, at least 1.

    Returns
    -------
    multipliers : ndarray of shape (n_stages,), float64
        Strictly decreasing multipliers from `start` to exactly 1, or ``[1.0]`` for a single
        stage. Multipliers that coincide after rounding are merged, so there may be fewer than
        `n_stages` if `start` is barely above 1.

    Raises
    ------
    ValueError
        If `start` is not a finite number or `n_stages` is not a positive integer.

    See Also
    --------
    geometric : Multipliers with a constant ratio.
    cosine : Multipliers with small steps at both ends.

    Notes
    -----
    .. math:: m_k = 1 + (\text{start} - 1)(1 - k/(n - 1)), \qquad k = 0, \dots, n - 1

    Examples
    --------
    >>> from skrobust.schedules import linear
    >>> linear(9, n_stages=3)
    array([9., 5., 1.])
    """
    fractions = _stage_fractions(start, n_stages)
    return _without_duplicates(1.0 + (float(start) - 1.0) * (1.0 - fractions))


def cosine(start: float, n_stages: int = N_STAGES) -> NDArray[np.float64]:
    r"""Multipliers that follow half a period of a cosine, with small steps at both ends.

    Parameters
    ----------
    start : float
        First multiplier, dimensionless. If it is at most 1, there is a single stage.

    n_stages : int, default=4
        Number of stages n, at least 1.

    Returns
    -------
    multipliers : ndarray of shape (n_stages,), float64
        Strictly decreasing multipliers from `start` to exactly 1, or ``[1.0]`` for a single
        stage. Multipliers that coincide after rounding are merged, so there may be fewer than
        `n_stages` if `start` is barely above 1.

    Raises
    ------
    ValueError
        If `start` is not a finite number or `n_stages` is not a positive integer.

    See Also
    --------
    geometric : Multipliers with a constant ratio.
    linear : Multipliers with a constant difference.

    Notes
    -----
    .. math::
        m_k = 1 + \frac{\text{start} - 1}{2}
              \left(1 + \cos\frac{\pi k}{n - 1}\right), \qquad k = 0, \dots, n - 1

    The schedule is the cosine annealing of [1]_ without restarts.

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
    fractions = _stage_fractions(start, n_stages)
    return _without_duplicates(
        1.0 + (float(start) - 1.0) * ((1.0 + np.cos(np.pi * fractions)) / 2)
    )


_SCHEDULES_BY_NAME: dict[str, Schedule] = {
    "geometric": geometric,
    "linear": linear,
    "cosine": cosine,
}


def check_schedule(
    beta_schedule: str | ArrayLike | None,
) -> Schedule | NDArray[np.float64] | None:
    """Validate `beta_schedule` and convert a schedule name to the corresponding function.

    Parameters
    ----------
    beta_schedule : {"geometric", "linear", "cosine"}, array-like or None
        Name of a schedule, or an array of shape (n_stages,) that contains the multipliers. They
        must be finite and strictly decreasing, and the last one must be exactly 1.

    Returns
    -------
    schedule : callable, ndarray of shape (n_stages,) or None
        The function of this module with the given name, a float64 copy of the given
        multipliers, or None if `beta_schedule` is None.

    Raises
    ------
    ValueError
        If `beta_schedule` is not a valid schedule.

    See Also
    --------
    geometric, linear, cosine : The schedules that can be selected by name.

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
        if beta_schedule in _SCHEDULES_BY_NAME:
            return _SCHEDULES_BY_NAME[beta_schedule]
        violation = "is not the name of a schedule"
    else:
        try:
            multipliers = np.asarray(beta_schedule)
        except ValueError:  # a ragged sequence
            multipliers = np.empty(())
        violation = _schedule_violation(multipliers)
    if violation:
        names = ", ".join(map(repr, _SCHEDULES_BY_NAME))
        raise ValueError(
            f"beta_schedule must be None, one of {names}, or strictly decreasing multipliers "
            "of the threshold that end in exactly 1, such as [50, 10, 2, 1]; got "
            f"{beta_schedule!r}, which {violation}."
        )
    return multipliers.astype(np.float64)


def _schedule_violation(multipliers: NDArray[Any]) -> str:
    """Return what is wrong with the multipliers, such as "is empty"; "" if they are valid."""
    if multipliers.ndim != 1 or multipliers.dtype.kind not in "fiu":
        return "is not a one-dimensional sequence of numbers"
    if len(multipliers) == 0:
        return "is empty"
    if not np.all(np.isfinite(multipliers)):
        return "contains NaN or infinity"
    if np.any(multipliers[1:] >= multipliers[:-1]):
        return "is not strictly decreasing"
    if multipliers[-1] != 1:
        return f"ends in {multipliers[-1]}"
    return ""


def _stage_fractions(start: float, n_stages: int) -> NDArray[np.float64]:
    """Return k/(n − 1) for each stage k = 0, …, n − 1, or [1.0] for a single stage."""
    if not isinstance(start, Real) or not math.isfinite(as_float("start", start)):
        raise ValueError(f"start must be a finite number, got start={start!r}")
    if not isinstance(n_stages, Integral) or n_stages < 1:
        raise ValueError(f"n_stages must be an integer ≥ 1, got n_stages={n_stages!r}")
    if start <= 1 or n_stages == 1:
        return np.ones(1)
    return np.linspace(0.0, 1.0, n_stages)


def _without_duplicates(multipliers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distinct multipliers in decreasing order."""
    return np.unique(multipliers)[::-1].copy()
