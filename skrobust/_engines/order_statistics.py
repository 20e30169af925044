"""The functions of `_reductions` for row vectors in blocks: medians, other ranks, sums.

The value of a given rank is sought in an interval. Each block returns the total weight of its
values below the interval, and the values inside it or, if there are many, their histogram,
which yields a smaller interval. A pass over X returns these quantities for intervals around the
last median of |r|, so the new median requires no further round of tasks or, if it is far from
the last one, a single round.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import _reductions
from .base import FloatArray
from .vectors import Block, BlockVector, StoredVector

# Maximum number of values inside an interval that a block returns, and number of bins in the
# histogram that a block with more values returns. A pass returns the values or histograms of
# two intervals, which take at most 32 KiB per block.
MAX_VALUES_PER_BLOCK, BINS = 1_000, 512
# Expected number of values per block in the interval around the last median, maximum half-width
# of this interval relative to the median, and relative half-width of the interval around an
# approximate median passed by the caller.
VALUES_PER_BLOCK, WINDOW_RTOL, NEAR_RTOL = 750, 0.1, 0.1
# The second interval of a pass extends from the last median divided by WIDE_FACTOR to the last
# median times WIDE_FACTOR. Before any median is known, the ends of the only interval are
# FIRST_ENDS times the threshold.
WIDE_FACTOR, FIRST_ENDS = 2.0, (1 / 16, 4.0)
# Approximate number of sampled values from which a rank is first located, and half-width of the
# interval of ranks around that rank, as a fraction of the total weight.
PROBE_VALUES, PROBE_RANKS = 2_000, 0.05
EPS = float(np.finfo(float).eps)


class Inside(NamedTuple):
    """The values of a block that lie in an interval, or their histogram.

    `below` is the total weight of the values below the interval. For each bin of the histogram,
    `heights` contains the weight, `lowest` the smallest value and `highest` the largest.
    """

    below: float
    values: Any
    weights: Any
    heights: FloatArray | None = None
    lowest: Any = None
    highest: Any = None


Interval: TypeAlias = tuple[float, float]


class Around(NamedTuple):
    """Sums and values of |r| that a pass over X returns.

    `outside` is Σ s over the rows with |r| above the threshold, and `squares` is Σ s r² over
    the other rows. `inside` maps each interval to the `Inside` of every block.
    """

    threshold: float
    weight: Any
    outside: float
    squares: float
    inside: dict[Interval, list[Inside]]


# In a block ------------------------------------------------------------------------------


def values_inside(block: Block, vectors: list[Any], low: float, high: float) -> Inside:
    v, s = vectors
    below = v < low
    index = np.flatnonzero((v <= high) & ~below)
    under = float(np.count_nonzero(below) if s is None else s @ below)
    values, weights = v[index], None if s is None else s[index]
    if index.size <= MAX_VALUES_PER_BLOCK:
        return Inside(under, values, weights)
    return Inside(under, None, None, *_histogram(values, weights, low, high))


def _histogram(
    values: FloatArray, weights: FloatArray | None, low: float, high: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the total weight, smallest value and largest value of each bin of a histogram.

    All bins span the same number of floating-point numbers, so a few successive histograms
    locate a rank whatever the range of the values.
    """
    first, last = _keys(np.array([low, high]))
    width = (last - first) // np.uint64(BINS) + np.uint64(1)
    position = ((_keys(values) - first) // width).astype(np.intp)
    heights = np.bincount(position, weights, minlength=BINS).astype(float)
    lowest, highest = np.full(BINS, np.inf), np.full(BINS, -np.inf)
    np.minimum.at(lowest, position, values)
    np.maximum.at(highest, position, values)
    return heights, lowest, highest


def _keys(values: FloatArray) -> NDArray[np.uint64]:
    """Map floats to integers, preserving order; adjacent floats map to consecutive integers."""
    # Adding 0.0 turns −0.0 into 0.0, so that both are mapped to the same integer.
    bits = (values + 0.0).view(np.uint64)
    sign = np.uint64(2**63)
    return np.where(bits & sign, ~bits, bits | sign)


def _probe(
    block: Block, vectors: list[Any], step: int
) -> tuple[float, float, FloatArray, FloatArray]:
    """Return the extreme values in a block, and every `step`-th value with its weight."""
    v, s = vectors
    some = v[::step]
    weights = np.ones(some.size) if s is None else s[::step]
    return float(v.min()), float(v.max()), some, weights


def _positions(
    block: Block, vectors: list[Any], end: float, m: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the positions of the values below `end` and of up to m values equal to `end`."""
    v = vectors[0]
    return np.flatnonzero(v < end), np.flatnonzero(v == end)[:m]


def _clipped_sums(block: Block, vectors: list[Any], end: float) -> tuple[float, float]:
    v, s = vectors
    return _reductions.clipped_sums(v, s, end)


def _rho_sums(
    block: Block, vectors: list[Any], loss: Any, threshold: float
) -> tuple[float, float]:
    r, s = vectors
    return _reductions.rho_sums(r, s, loss, threshold)


def take_values(
    block: Block, vectors: list[Any], index: NDArray[np.intp], starts: NDArray[np.intp]
) -> list[Any]:
    """Return the values of each vector at the rows of a sorted index that lie in a block."""
    rows = rows_of_block(block, index, starts)
    return [v[rows] for v in vectors]


def rows_of_block(
    block: Block, index: NDArray[np.intp], starts: NDArray[np.intp]
) -> NDArray[np.intp]:
    first, last = np.searchsorted(index, starts[block.number : block.number + 2])
    rows: NDArray[np.intp] = index[first:last] - starts[block.number]
    return rows


# Ranks -----------------------------------------------------------------------------------


class Ranks(NamedTuple):
    """Sorted values, and the cumulative weight up to and including each value."""

    values: FloatArray
    cumulated: FloatArray

    def at(self, rank: float, side: Any = "left") -> float:
        index = int(np.searchsorted(self.cumulated, rank, side=side))
        return float(self.values[min(index, self.values.size - 1)])


def _ranks(
    rows: BlockVector,
    weight: BlockVector | None,
    ranks: tuple[float, float],
    interval: Interval,
    parts: list[Inside] | None = None,
) -> Ranks | None:
    """Return the values between two ranks, or None if the interval does not contain them."""
    low, high = interval
    located = False
    while True:
        if parts is None:
            parts = rows.blocks.run(values_inside, [rows, weight], low, high)
        below = sum(part.below for part in parts)
        if all(part.heights is None for part in parts):
            values = np.concatenate([part.values for part in parts])
            order = np.argsort(values, kind="stable")
            weights = np.ones(values.size)
            if weight is not None:
                weights = np.concatenate([part.weights for part in parts])[order]
            found = Ranks(values[order], below + np.cumsum(weights))
            return found if located or _encloses(below, found.cumulated, ranks) else None
        heights, lowest, highest = _sum_of_histograms(parts, low, high)
        cumulated = below + np.cumsum(heights)
        # Later intervals are bins of this histogram. They enclose the ranks even if the sums,
        # because of rounding errors, suggest otherwise.
        if not located and not _encloses(below, cumulated, ranks):
            return None
        located = True
        last_bin = cumulated.size - 1
        first = min(int(np.searchsorted(cumulated, ranks[0])), last_bin)
        last = min(int(np.searchsorted(cumulated, ranks[1], side="right")), last_bin)
        low, high = float(lowest[first]), float(highest[first])
        if first < last or low == high:
            # The two ranks are in different bins, or all values in their bin are equal.
            return Ranks(np.array([high, lowest[last]]), cumulated[[first, last]])
        parts = None


def _sum_of_histograms(
    parts: list[Inside], low: float, high: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the sum of the histograms of all blocks, without empty bins."""
    histograms: list[Any] = [
        (part.heights, part.lowest, part.highest)
        if part.heights is not None
        else _histogram(part.values, part.weights, low, high)
        for part in parts
    ]
    heights = sum(h[0] for h in histograms)
    lowest = np.min([h[1] for h in histograms], axis=0)
    highest = np.max([h[2] for h in histograms], axis=0)
    used = lowest <= highest
    return heights[used], lowest[used], highest[used]


def first_interval(threshold: float) -> list[Interval]:
    """Return a list with the interval in which the first median of |r| is expected.

    The list is empty if the threshold is infinite.
    """
    low, high = FIRST_ENDS
    return [(low * threshold, high * threshold)] if threshold < np.inf else []


def _encloses(below: float, cumulated: FloatArray, ranks: tuple[float, float]) -> bool:
    return bool(cumulated.size and below < ranks[0] and ranks[1] < cumulated[-1])


def _ranks_anywhere(
    rows: BlockVector, weight: BlockVector | None, ranks: tuple[float, float], total: float
) -> Ranks:
    """Return the values between two ranks, after locating the ranks in a subset of the rows."""
    step = max(1, rows.size // PROBE_VALUES)
    probes = rows.blocks.run(_probe, [rows, weight], step)
    ends = np.min([p[0] for p in probes]), np.max([p[1] for p in probes])
    if np.isnan(ends).any():
        return Ranks(np.array([np.nan]), np.array([total]))
    some = np.concatenate([p[2] for p in probes])
    order = np.argsort(some, kind="stable")
    cumulated = np.cumsum(np.concatenate([p[3] for p in probes])[order])
    near = np.array(ranks) / total + [-PROBE_RANKS, PROBE_RANKS]
    places = np.searchsorted(cumulated, near * cumulated[-1]).clip(0, some.size - 1)
    low, high = some[order[places]]
    found = _ranks(rows, weight, ranks, (float(low), float(high)))
    if found is None:
        found = _ranks(rows, weight, ranks, (float(ends[0]), float(ends[1])))
    # The largest value is returned if the second rank is not below the total weight.
    return Ranks(np.array([ends[1]]), np.array([total])) if found is None else found


@_reductions.median.register
def _median(
    rows: BlockVector,
    weight: BlockVector | None = None,
    near: float | None = None,
    absolute: bool = False,
) -> float:
    n, stored = rows.size, rows.expression
    total = float(n) if weight is None else weight.sum()
    half, slack = 0.5 * total, 0.25 if weight is None else EPS * n * total
    ranks = half - slack, half + slack
    values: Any = np.abs(rows) if absolute else rows
    found, moved = None, True
    around = stored.around if isinstance(stored, StoredVector) and absolute else None
    if around is not None and _is(around.weight, weight):
        for interval, parts in around.inside.items():
            if found is None:
                found = _ranks(values, weight, ranks, interval, parts)
                moved = found is None or interval[1] > WIDE_FACTOR * interval[0]
    if found is None and near is not None:
        distance = NEAR_RTOL * abs(near)
        found = _ranks(values, weight, ranks, (near - distance, near + distance))
    if found is None:
        found = _ranks_anywhere(values, weight, ranks, total)
    result = 0.5 * found.at(ranks[0]) + 0.5 * found.at(ranks[1], "right")
    if absolute:
        rows.blocks.intervals = _intervals(found, result, len(rows.blocks.sizes), moved)
    return result


def _intervals(found: Ranks, median: float, n_blocks: int, moved: bool) -> list[Interval]:
    """Return the intervals in which the next pass is to return the values of |r|."""
    spacing = (float(found.values[-1]) - float(found.values[0])) / found.values.size
    distance = min(0.5 * VALUES_PER_BLOCK * n_blocks * spacing, WINDOW_RTOL * median)
    intervals = []
    if 0 < distance < np.inf:
        intervals.append((median - distance, median + distance))
    if moved and 0 < median < np.inf:
        intervals.append((median / WIDE_FACTOR, median * WIDE_FACTOR))
    return intervals


def _is(expression: Any, vector: BlockVector | None) -> bool:
    return expression is None if vector is None else expression is vector.expression


@_reductions.location.register
def _location(rows: BlockVector) -> float:
    stored = rows.expression
    if isinstance(stored, StoredVector) and stored.known is not None:
        return _reductions.median(stored.known.values, stored.known.shares)
    return _median(rows)


@_reductions.kth.register
def _kth(rows: BlockVector, k: int) -> float:
    return _ranks_anywhere(rows, None, (k + 0.5, k + 0.5), float(rows.size)).at(k + 0.5)


@_reductions.smallest.register
def _smallest(rows: BlockVector, m: int) -> NDArray[np.intp]:
    if m >= rows.size:
        return np.arange(rows.size)
    blocks = rows.blocks
    found = blocks.run(_positions, [rows], _kth(rows, m - 1), m)
    starts = blocks.starts()[:-1]
    below = np.concatenate([part[0] + first for part, first in zip(found, starts, strict=True)])
    equal = np.concatenate([part[1] + first for part, first in zip(found, starts, strict=True)])
    return np.concatenate([below, equal[: m - below.size]])


@_reductions.gather.register
def _gather(rows: BlockVector, index: slice | NDArray[Any]) -> NDArray[Any]:
    blocks = rows.blocks
    index = blocks.positions(index)
    known = blocks.gathered_values(rows, index)
    if known is not None:
        return known
    order = np.argsort(index, kind="stable")
    found = blocks.run(take_values, [rows], index[order], blocks.starts())
    values = np.concatenate([part[0] for part in found])
    result = np.empty_like(values)
    result[order] = values
    return result


# Sums ------------------------------------------------------------------------------------


@_reductions.clipped_sums.register
def _block_clipped_sums(
    rows: BlockVector, weight: BlockVector | None, end: float
) -> tuple[float, float]:
    around = rows.expression.around if isinstance(rows.expression, StoredVector) else None
    if around is not None and around.threshold == end and _is(around.weight, weight):
        return around.outside, around.squares
    found = rows.blocks.run(_clipped_sums, [rows, weight], float(end))
    return sum(part[0] for part in found), sum(part[1] for part in found)


@_reductions.share_outside.register
def _share_outside(
    rows: BlockVector, weight: BlockVector | None, end: float
) -> tuple[float, float]:
    outside, _ = _block_clipped_sums(rows, weight, end)
    return outside / (rows.size if weight is None else weight.sum()), 0.0


@_reductions.rho_sums.register
def _block_rho_sums(
    rows: BlockVector, weight: BlockVector | None, loss: Any, threshold: float
) -> tuple[float, float]:
    found = rows.blocks.run(_rho_sums, [rows, weight], loss, float(threshold))
    return sum(part[0] for part in found), sum(part[1] for part in found)
