"""Operations that solvers and scale estimates apply to row vectors (one number per row of X).

The class of row vectors depends on the engine. In-memory engines use plain float64 ndarrays.
The solvers apply two kinds of operations to row vectors: NumPy's elementwise functions and
reductions (abs, + − × ÷, comparisons, & | ~, clip, astype, zeros_like, empty_like,
count_nonzero, any, all, sum, min, max, mean, @, average), and the functions of this module. Any
other class of row vectors must support these NumPy functions through NumPy's protocols and
register an implementation of each function of this module.
"""

from bisect import bisect_left
from collections.abc import Iterator
from functools import singledispatch
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

# The type of row vectors: ndarray for an in-memory engine, and otherwise a class that
# implements NumPy's protocols.
RowVector: TypeAlias = Any
FloatArray: TypeAlias = NDArray[np.float64]

# Number of values from which a first approximation of the median is computed if a vector has
# at least twenty times as many.
MEDIAN_PROBE_ROWS = 2_000
# Half-width of the window around an approximate median passed by the caller, as a fraction of
# that approximation.
MEDIAN_WINDOW_RTOL = 0.02
# Number of random values from which a location is estimated.
LOCATION_PROBE_ROWS = 1_000
# Number of random rows from which the share of rows beyond a threshold is estimated.
SHARE_PROBE_ROWS = 2_000
# Number of rows per block, small enough for the temporary arrays of a block to stay in the
# cache.
BLOCK_ROWS = 2**14
# Approximate number of rows whose breakpoints bracket the minimum along a line before the
# breakpoints of all rows are used.
LINE_SEARCH_PROBE_ROWS = 5_000
# Maximum step length of a line search, as a multiple of the search direction.
MAX_STEP_LENGTH = 1e12


class RowLoss(Protocol):
    """The interface of a loss, reduced to the method that this module uses."""

    def rho_and_psi(self, r: RowVector, threshold: float) -> tuple[RowVector, RowVector]: ...


@singledispatch
def median(
    rows: RowVector,
    weight: RowVector | None = None,
    near: float | None = None,
    absolute: bool = False,
) -> float:
    """Return the weighted median of the values, or of their absolute values.

    An integer weight is equivalent to repeating the value. If the values up to and including
    one of them have half of the total weight, to within rounding error, the result is the
    mean of that value and the next, as in ``np.median``. `near` is an approximation to
    the median; passing it saves time and does not change the result.
    """
    raise _not_implemented("median", rows)


@singledispatch
def location(rows: RowVector) -> float:
    """Return the median of the values, or an approximation if there are many values."""
    raise _not_implemented("location", rows)


@singledispatch
def kth(rows: RowVector, k: int) -> float:
    """Return the value at index k of the sorted values."""
    raise _not_implemented("kth", rows)


@singledispatch
def gather(rows: RowVector, index: slice | NDArray[Any]) -> NDArray[Any]:
    """Return the values at an index (a slice, positions or a mask) as an array in memory."""
    raise _not_implemented("gather", rows)


@singledispatch
def smallest(rows: RowVector, m: int) -> NDArray[np.intp]:
    """Return the positions of the m smallest values, in no particular order."""
    raise _not_implemented("smallest", rows)


@singledispatch
def clipped_sums(rows: RowVector, weight: RowVector | None, end: float) -> tuple[float, float]:
    """Return Σ s over the rows with |r| > end, and Σ s r² over the other rows."""
    raise _not_implemented("clipped_sums", rows)


@singledispatch
def share_outside(rows: RowVector, weight: RowVector | None, end: float) -> tuple[float, float]:
    """Return the share of the total weight in rows with |r| > end, and its standard error.

    For data in memory, both are estimated from a random sample of the rows.
    """
    raise _not_implemented("share_outside", rows)


@singledispatch
def rho_sums(
    rows: RowVector, weight: RowVector | None, loss: RowLoss, threshold: float
) -> tuple[float, float]:
    """Return Σ s ρ(r) and Σ s ψ(r) r, where ρ is the loss at the threshold and ψ = ρ′."""
    raise _not_implemented("rho_sums", rows)


@singledispatch
def line_minimum(
    residual: RowVector,
    change: RowVector,
    weight: RowVector | None,
    threshold: float,
    total: float,
    penalty_slope: tuple[float, float],
) -> float:
    """Return the step length t ≥ 0 that minimises the penalised mean Huber loss along a line.

    The residuals at t are r + t·change. The derivative of the penalised loss with respect to t
    is Σ s change·clip(r + t·change, ±β) / S + a + b·t, where S is `total`, (a, b) is
    `penalty_slope`, and a + b·t is the slope of a quadratic penalty. The derivative is
    piecewise linear in t, with breakpoints where the absolute residual of a row equals the
    threshold.
    """
    raise _not_implemented("line_minimum", residual)


def _not_implemented(name: str, rows: object) -> TypeError:
    return TypeError(f"no implementation of {name} found for {type(rows).__name__}")


# In memory -------------------------------------------------------------------------------


@median.register(np.ndarray)
def _median(
    rows: FloatArray,
    weight: FloatArray | None = None,
    near: float | None = None,
    absolute: bool = False,
) -> float:
    n = rows.size
    if weight is None and n < 20 * MEDIAN_PROBE_ROWS:
        return _middle(np.abs(rows) if absolute else rows, n)
    window = _median_window(rows, weight, near, absolute)
    if weight is None:
        below, inside, _ = _inside(rows, None, window, absolute)
        if 2 * below < n < 2 * (below + inside.size):
            return _middle(inside, n, int(below))
        # The median is outside the window.
        if near is not None:
            return _median(rows, None, None, absolute)
        every = _inside(rows, None, (-np.inf, np.inf), absolute)[1]
        return _middle(every, n) if 2 * every.size > n else np.nan
    total = float(weight.sum())
    half, slack = 0.5 * total, np.finfo(float).eps * n * total
    below, values, cumulated = _sorted_window(rows, weight, window, absolute)
    if not values.size or not below < half - slack <= half + slack < cumulated[-1]:
        # The median is, or may be, outside the window.
        if near is not None:
            return _median(rows, weight, None, absolute)
        _, values, cumulated = _sorted_window(rows, weight, (-np.inf, np.inf), absolute)
        if not values.size:
            return np.nan
    first = np.searchsorted(cumulated, half - slack)
    second = int(np.searchsorted(cumulated, half + slack, side="right"))
    return 0.5 * float(values[first]) + 0.5 * float(values[min(second, values.size - 1)])


def _median_window(
    rows: FloatArray, weight: FloatArray | None, near: float | None, absolute: bool
) -> tuple[float, float]:
    """Return the ends of a window that very probably contains the median.

    Only the values in this window then need to be sorted.
    """
    if rows.size < 20 * MEDIAN_PROBE_ROWS:
        return -np.inf, np.inf
    if near is not None:
        return near - MEDIAN_WINDOW_RTOL * abs(near), near + MEDIAN_WINDOW_RTOL * abs(near)
    step = rows.size // MEDIAN_PROBE_ROWS
    part = np.abs(rows[::step]) if absolute else rows[::step]
    order = np.argsort(part)
    cumulated = np.cumsum(np.ones(part.size) if weight is None else weight[::step][order])
    ends = np.searchsorted(cumulated, cumulated[-1] * np.array([0.45, 0.55]))
    return float(part[order[ends[0]]]), float(part[order[ends[1]]])


def _middle(values: FloatArray, n: int, below: int = 0) -> float:
    """Return the median of n values, given a subset that contains the one or two middle values.

    `values` is the subset. `below` of the n values are less than all values in it.
    """
    # Partitioning at one index is much faster than at both middle indices.
    k = n // 2 - below
    part = np.partition(values, k)
    return 0.5 * float(part[k]) + 0.5 * float(part[: k + n % 2].max())


def _sorted_window(
    rows: FloatArray, weight: FloatArray, window: tuple[float, float], absolute: bool
) -> tuple[float, FloatArray, FloatArray]:
    """Return the weight below a window, and the sorted values in it with cumulative weights.

    The cumulative weights include the weight below the window.
    """
    below, values, weights = _inside(rows, weight, window, absolute)
    order = np.argsort(values)
    return below, values[order], below + np.cumsum(weights[order])


def _inside(
    rows: FloatArray, weight: FloatArray | None, window: tuple[float, float], absolute: bool
) -> tuple[float, FloatArray, FloatArray]:
    """Return the weight of the values below a window, the values inside it and their weights.

    Without weights, the number of values below the window is returned in place of their weight,
    and the array of weights is empty.
    """
    low, high = window
    below_window, values, weights = 0.0, [], []
    for part in blocks(rows.size):
        v = np.abs(rows[part]) if absolute else rows[part]
        below = v < low
        index = np.flatnonzero((v <= high) ^ below)
        below_window += float(
            np.count_nonzero(below) if weight is None else weight[part] @ below
        )
        values.append(v[index])
        if weight is not None:
            weights.append(weight[part][index])
    return below_window, np.concatenate(values), np.concatenate(weights or [np.empty(0)])


def blocks(n: int) -> Iterator[slice]:
    """Yield slices of BLOCK_ROWS rows."""
    return (slice(i, i + BLOCK_ROWS) for i in range(0, n, BLOCK_ROWS))


@location.register(np.ndarray)
def _location(rows: NDArray[Any]) -> float:
    if rows.size > LOCATION_PROBE_ROWS:
        rows = rows[np.random.default_rng(0).integers(rows.size, size=LOCATION_PROBE_ROWS)]
    return median(rows)


@kth.register(np.ndarray)
def _kth(rows: FloatArray, k: int) -> float:
    return float(np.partition(rows, k)[k])


@gather.register(np.ndarray)
def _gather(rows: NDArray[Any], index: slice | NDArray[Any]) -> NDArray[Any]:
    return rows[index]


@smallest.register(np.ndarray)
def _smallest(rows: FloatArray, m: int) -> NDArray[np.intp]:
    if m >= rows.size:
        return np.arange(rows.size)
    # A view would keep the index array of all rows in memory.
    return np.argpartition(rows, m)[:m].copy()


@clipped_sums.register(np.ndarray)
def _clipped_sums(
    rows: FloatArray, weight: FloatArray | None, end: float
) -> tuple[float, float]:
    outside = squares = 0.0
    for part in blocks(rows.size):
        size = np.abs(rows[part])
        inside = size <= end
        inner = size * inside
        if weight is None:
            outside += size.size - np.count_nonzero(inside)
            squares += float(inner @ inner)
        else:
            outside += float(weight[part] @ ~inside)
            squares += float((weight[part] * inner) @ inner)
    return outside, squares


@share_outside.register(np.ndarray)
def _share_outside(
    rows: FloatArray, weight: FloatArray | None, end: float
) -> tuple[float, float]:
    # The rows are chosen at random because evenly spaced rows of periodic data may not be
    # representative.
    some = np.random.default_rng(0).integers(rows.size, size=SHARE_PROBE_ROWS)
    s = np.ones(SHARE_PROBE_ROWS) if weight is None else weight[some]
    s = s / s.sum()
    outside = float(s @ (np.abs(rows[some]) > end))
    # Effective sample size: the mean of this many equally weighted rows is as precise as the
    # weighted mean (Kish, 1965).
    n_equal = 1.0 / float(s @ s)
    error = float(np.sqrt((outside * (1.0 - outside) + 1.0 / n_equal) / n_equal))
    return outside, error


@rho_sums.register(np.ndarray)
def _rho_sums(
    rows: FloatArray, weight: FloatArray | None, loss: RowLoss, threshold: float
) -> tuple[float, float]:
    total = slope = 0.0
    for part in blocks(rows.size):
        r = rows[part]
        rho, psi = loss.rho_and_psi(r, threshold)
        if weight is None:
            total += float(rho.sum())
            slope += float(psi @ r)
        else:
            total += float(weight[part] @ rho)
            slope += float((weight[part] * psi) @ r)
    return total, slope


@line_minimum.register(np.ndarray)
def _line_minimum(
    residual: FloatArray,
    change: FloatArray,
    weight: FloatArray | None,
    threshold: float,
    total: float,
    penalty_slope: tuple[float, float],
) -> float:
    weighted_change = change if weight is None else weight * change
    constant, rate = penalty_slope
    out = np.empty_like(change)

    def slope(t: float) -> float:
        np.multiply(change, t, out=out)
        np.add(out, residual, out=out)
        out.clip(-threshold, threshold, out=out)
        return float(out @ weighted_change) / total + constant + t * rate

    def breakpoints(low: float, high: float, stride: int) -> FloatArray:
        """Return the sorted step lengths at which |r| = β in rows 0, stride, 2·stride, …"""
        lengths = []
        for end in (-threshold, threshold):
            t = np.subtract(end, residual[::stride], out=out[::stride])
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                t /= change[::stride]
            lengths.append(t[(t > low) & (t < high)])
        return np.sort(np.concatenate(lengths))

    low, high = 0.0, 1.0 if slope(1.0) >= 0 else MAX_STEP_LENGTH
    # The minimum is first bracketed by two breakpoints of a subset of the rows. Of the
    # breakpoints of all rows, only the few inside this bracket must then be sorted.
    stride = change.size // LINE_SEARCH_PROBE_ROWS
    for step in (stride, 1) if stride else (1,):
        lengths = breakpoints(low, high, step)
        index = bisect_left(lengths, 0.0, key=slope)
        low = float(lengths[index - 1]) if index else low
        high = float(lengths[index]) if index < lengths.size else high
    at_low, at_high = slope(low), slope(high)
    if at_low >= 0 or at_high <= at_low:
        return low
    return low - at_low * (high - low) / (at_high - at_low)
