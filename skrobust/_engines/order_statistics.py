"""The functions of `_reductions` for row vectors in blocks: medians, other ranks, sums.

A rank is located by values inside an interval: each block returns the weight below it, and the
values inside or, if these are many, a histogram from which a smaller interval follows. A pass
over X returns the same for an interval around the last median, so that the median of its
residuals needs no round of its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _reductions
from .base import FloatArray
from .vectors import Block, BlockVector, StoredVector

# Values that a block returns from an interval, and otherwise the bins of a histogram.
MAX_VALUES_PER_BLOCK, BINS = 2_000, 512
# The expected number of values of a block in the interval around the last median, and its
# largest half-width relative to the median.
VALUES_PER_BLOCK, WINDOW_RTOL = 1_500, 0.02
# Values that locate a rank approximately, and the ranks around it that they enclose.
PROBE_VALUES, PROBE_RANKS = 2_000, 0.05
# Rows that locate the minimum along a line approximately, the lengths that are tried around it
# relative to it, and afterwards the lengths in the interval that is left.
LINE_PROBE_ROWS = 5_000
LINE_DISTANCES = np.array([1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3])
LINE_LENGTHS, LINE_ROUNDS, MAX_LINE_ROWS_PER_BLOCK = 16, 40, 500
EPS = float(np.finfo(float).eps)


class Inside(NamedTuple):
    """The values of a block in an interval, or a histogram of them, and the weight below."""

    below: float
    values: FloatArray | None
    weights: FloatArray | None
    heights: FloatArray | None = None
    lowest: FloatArray | None = None
    highest: FloatArray | None = None


class Around(NamedTuple):
    """What a pass returned of |r|: Σ s beyond the threshold, Σ s r² inside, and a window."""

    threshold: float
    weight: Any
    outside: float
    squares: float
    window: tuple[float, float] | None
    inside: list[Inside]


# In a block ------------------------------------------------------------------------------


def values_inside(
    block: Block, vectors: list[FloatArray | None], low: float, high: float
) -> Inside:
    v, s = vectors
    assert v is not None
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
    """Return the weight, the smallest and the largest value of each bin."""
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    position = np.minimum((scaled * BINS).astype(np.intp), BINS - 1)
    heights = np.bincount(position, weights, minlength=BINS).astype(float)
    lowest, highest = np.full(BINS, np.inf), np.full(BINS, -np.inf)
    np.minimum.at(lowest, position, values)
    np.maximum.at(highest, position, values)
    return heights, lowest, highest


def _probe(
    block: Block, vectors: list[FloatArray], n: int
) -> tuple[float, float, FloatArray]:
    """Return the ends of the values and about n of them for all blocks, in equal steps."""
    v = vectors[0]
    return float(v.min()), float(v.max()), v[:: max(1, n)]


def _positions(
    block: Block, vectors: list[FloatArray], end: float, m: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the positions of values below the end, and of at most m equal to it."""
    v = vectors[0]
    return np.flatnonzero(v < end), np.flatnonzero(v == end)[:m]


def _clipped_sums(
    block: Block, vectors: list[FloatArray | None], end: float
) -> tuple[float, float]:
    v, s = vectors
    return _reductions.clipped_sums(v, s, end)


def _rho_sums(
    block: Block, vectors: list[FloatArray | None], loss: Any, threshold: float
) -> tuple[float, float]:
    r, s = vectors
    return _reductions.rho_sums(r, s, loss, threshold)


def take_values(
    block: Block, vectors: list[FloatArray], index: NDArray[np.intp], starts: NDArray[np.intp]
) -> list[FloatArray]:
    """Return the values of vectors at those sorted rows that are in this block."""
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
    """Sorted values, and the weight of all values up to each of them."""

    values: FloatArray
    cumulated: FloatArray

    def at(self, rank: float, side: Any = "left") -> float:
        index = int(np.searchsorted(self.cumulated, rank, side=side))
        return float(self.values[min(index, self.values.size - 1)])


def _ranks(
    rows: BlockVector,
    weight: BlockVector | None,
    ranks: tuple[float, float],
    interval: tuple[float, float],
    parts: list[Inside] | None = None,
) -> Ranks | None:
    """Return the values between two ranks; None if they are not inside the interval."""
    low, high = interval
    while True:
        if parts is None:
            parts = rows.blocks.run(values_inside, [rows, weight], low, high)
        below = sum(part.below for part in parts)
        if all(part.values is not None for part in parts):
            values = np.concatenate([part.values for part in parts])
            order = np.argsort(values, kind="stable")
            weights = np.ones(values.size)
            if weight is not None:
                weights = np.concatenate([part.weights for part in parts])[order]
            found = Ranks(values[order], below + np.cumsum(weights))
            return found if _encloses(below, found.cumulated, ranks) else None
        histograms = [
            (part.heights, part.lowest, part.highest)
            if part.values is None
            else _histogram(part.values, part.weights, low, high)
            for part in parts
        ]
        heights = sum(h[0] for h in histograms)
        cumulated = below + np.cumsum(heights)
        if not _encloses(below, cumulated, ranks):
            return None
        first = int(np.searchsorted(cumulated, ranks[0]))
        last = int(np.searchsorted(cumulated, ranks[1], side="right"))
        low = min(float(h[1][first : last + 1].min()) for h in histograms)
        high = max(float(h[2][first : last + 1].max()) for h in histograms)
        if low == high:
            return Ranks(np.array([low]), cumulated[[last]])
        parts = None


def _encloses(below: float, cumulated: FloatArray, ranks: tuple[float, float]) -> bool:
    return bool(cumulated.size and below < ranks[0] and ranks[1] < cumulated[-1])


def _ranks_anywhere(
    rows: BlockVector, weight: BlockVector | None, ranks: tuple[float, float], total: float
) -> Ranks:
    """Return the values between two ranks, which a sample of the values locates first."""
    step = rows.size // PROBE_VALUES
    probes = rows.blocks.run(_probe, [rows], step)
    ends = min(p[0] for p in probes), max(p[1] for p in probes)
    if not np.isfinite(ends).all():
        return Ranks(np.array([np.nan]), np.array([total]))
    some = np.sort(np.concatenate([p[2] for p in probes]))
    near = np.clip(np.array(ranks) / total + [-PROBE_RANKS, PROBE_RANKS], 0.0, 1.0)
    first, last = (near * (some.size - 1)).astype(int) + [0, 1]
    interval = float(some[first]), float(some[min(last, some.size - 1)])
    found = _ranks(rows, weight, ranks, interval)
    if found is None:
        found = _ranks(rows, weight, ranks, ends)
    # The last rank is not below the total weight.
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
    values, found = np.abs(rows) if absolute else rows, None
    around = stored.around if isinstance(stored, StoredVector) and absolute else None
    if around is not None and around.window is not None and _is(around.weight, weight):
        found = _ranks(values, weight, ranks, around.window, around.inside)
    if found is None and near is not None:
        distance = WINDOW_RTOL * abs(near)
        found = _ranks(values, weight, ranks, (near - distance, near + distance))
    if found is None:
        found = _ranks_anywhere(values, weight, ranks, total)
    result = 0.5 * found.at(ranks[0]) + 0.5 * found.at(ranks[1], "right")
    if absolute:
        spacing = float(found.values[-1] - found.values[0]) / found.values.size
        distance = 0.5 * VALUES_PER_BLOCK * len(rows.blocks.sizes) * spacing
        distance = min(distance, WINDOW_RTOL * result)
        rows.blocks.window = (result - distance, result + distance) if distance else None
    return result


def _is(expression: Any, vector: BlockVector | None) -> bool:
    return expression is None if vector is None else expression is vector.expression


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
    if isinstance(index, slice):
        index = np.arange(*index.indices(rows.size))
    elif index.dtype == bool:
        index = np.flatnonzero(index)
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


# Along a line ----------------------------------------------------------------------------


def _line_probe(
    block: Block, vectors: list[FloatArray | None], step: int, threshold: float
) -> tuple[FloatArray, list[FloatArray | None]]:
    """Return the slopes at the lengths 0 and 1, and some rows."""
    some = [None if v is None else v[::step] for v in vectors]
    return _line_slopes(vectors, np.array([0.0, 1.0]), threshold), some


def _line_step(
    block: Block,
    vectors: list[FloatArray | None],
    lengths: FloatArray,
    threshold: float,
    low: float,
    high: float,
) -> tuple[FloatArray, list[FloatArray | None] | None]:
    """Return slopes, and the rows that reach the threshold between low and high if few do."""
    r, change, s = vectors
    assert r is not None
    crosses = np.zeros(r.size, dtype=bool)
    for end in (-threshold, threshold):
        t = (end - r) / change
        crosses |= (t > low) & (t < high)
    index = np.flatnonzero(crosses)
    few = index.size <= MAX_LINE_ROWS_PER_BLOCK
    rows = [None if v is None else v[index] for v in vectors] if few else None
    return _line_slopes(vectors, lengths, threshold), rows


def _line_slopes(
    vectors: list[FloatArray | None], lengths: FloatArray, threshold: float
) -> FloatArray:
    r, change, s = vectors
    assert change is not None
    weighted = change if s is None else s * change
    return np.array([np.clip(r + t * change, -threshold, threshold) @ weighted for t in lengths])


def _stacked(parts: list[list[FloatArray | None]]) -> list[FloatArray | None]:
    columns = zip(*parts, strict=True)
    return [None if column[0] is None else np.concatenate(column) for column in columns]


@_reductions.line_minimum.register
def _line_minimum(
    residual: BlockVector,
    change: BlockVector,
    weight: BlockVector | None,
    threshold: float,
    total: float,
    penalty_slope: tuple[float, float],
) -> float:
    blocks, vectors, n = residual.blocks, [residual, change, weight], residual.size
    constant, rate = penalty_slope

    def slopes(found: list[Any], lengths: FloatArray) -> FloatArray:
        return sum(part[0] for part in found) / total + constant + lengths * rate

    step = max(1, n // LINE_PROBE_ROWS)
    found = blocks.run(_line_probe, vectors, step, threshold)
    some = _stacked([part[1] for part in found])
    assert some[0] is not None
    guess = _reductions.line_minimum(
        *some, threshold, total * some[0].size / n, penalty_slope
    )
    ends = slopes(found, np.array([0.0, 1.0]))
    low, high = 0.0, 1.0 if ends[1] >= 0 else _reductions.MAX_STEP_LENGTH
    at_low, at_high = float(ends[0]), float(ends[1]) if ends[1] >= 0 else np.nan
    lengths = guess * np.concatenate([1.0 - LINE_DISTANCES[::-1], 1.0 + LINE_DISTANCES])
    for _ in range(LINE_ROUNDS):
        if at_low >= 0:
            return low
        lengths = np.append(lengths[(lengths > low) & (lengths < high)], high)
        found = blocks.run(_line_step, vectors, lengths, threshold, low, high)
        values = slopes(found, lengths)
        rows = [part[1] for part in found]
        if all(part is not None for part in rows):
            few = _Line(low, high, at_low, float(values[-1]), _stacked(rows), threshold)
            return few.root(total, penalty_slope)
        above = np.flatnonzero(values >= 0)
        k = int(above[0]) if above.size else lengths.size - 1
        if k:
            low, at_low = float(lengths[k - 1]), float(values[k - 1])
        high, at_high = float(lengths[k]), float(values[k])
        lengths = np.linspace(low, high, LINE_LENGTHS + 2)[1:-1]
        if high > 4.0 * max(low, 1.0):
            lengths = np.geomspace(max(low, 1.0), high, LINE_LENGTHS + 2)[1:-1]
    if at_high <= at_low:
        return low
    return low - at_low * (high - low) / (at_high - at_low)


class _Line(NamedTuple):
    """The slope between two lengths, where it is known, and the rows with breakpoints there.

    The contribution of all other rows is linear.
    """

    low: float
    high: float
    at_low: float
    at_high: float
    rows: list[FloatArray | None]
    threshold: float

    def root(self, total: float, penalty_slope: tuple[float, float]) -> float:
        low, high, rows = self.low, self.high, self.rows
        r, change, _ = rows
        assert r is not None
        ends = np.array([low, high])
        known = np.array([self.at_low, self.at_high])
        others = known - _line_slopes(rows, ends, self.threshold) / total

        def slope(t: float) -> float:
            part = float(_line_slopes(rows, np.array([t]), self.threshold)[0]) / total
            share = (t - low) / (high - low)
            return float((1.0 - share) * others[0] + share * others[1]) + part

        with np.errstate(all="ignore"):
            t = np.concatenate([(e - r) / change for e in (-self.threshold, self.threshold)])
        lengths = np.sort(np.append(t[(t > low) & (t < high)], ends))
        first, last = 0, lengths.size - 1
        while last - first > 1:
            middle = (first + last) // 2
            first, last = (first, middle) if slope(lengths[middle]) >= 0 else (middle, last)
        at_first, at_last = slope(lengths[first]), slope(lengths[last])
        if at_first >= 0 or at_last <= at_first:
            return float(lengths[first])
        length = lengths[last] - lengths[first]
        return float(lengths[first] - at_first * length / (at_last - at_first))
