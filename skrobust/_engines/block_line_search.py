"""The exact line search of `_reductions` for row vectors in blocks.

The slope of the objective along a line is a piecewise linear function of the step length, and
its root is first approximated from a subset of the rows. The slopes at a few step lengths
around this approximation bracket the root in an interval where the residuals of only a few rows
reach the threshold. These rows are gathered; the contribution of all other rows to the slope is
linear in the interval.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import _reductions
from .base import FloatArray
from .vectors import Block, BlockVector

# Approximate number of rows from which the minimum is first located, and relative distances
# from it of the first step lengths at which the slope over all rows is computed.
PROBE_ROWS = 5_000
DISTANCES = np.array([1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3])
# Number of step lengths at which each later round of tasks computes the slope, maximum number
# of these rounds, and maximum number of rows gathered from a block.
LENGTHS, MAX_ROUNDS, MAX_ROWS_PER_BLOCK = 16, 40, 500


def _line_probe(
    block: Block, vectors: list[Any], step: int, threshold: float
) -> tuple[FloatArray, list[Any]]:
    """Return the slopes over a block at step lengths 0 and 1, and every `step`-th row of it."""
    some = [None if v is None else v[::step] for v in vectors]
    return _line_slopes(vectors, np.array([0.0, 1.0]), threshold), some


def _line_step(
    block: Block,
    vectors: list[Any],
    lengths: FloatArray,
    threshold: float,
    low: float,
    high: float,
) -> tuple[FloatArray, list[Any] | None]:
    """Return the slopes over a block at the given step lengths, and the rows with breakpoints.

    A row has a breakpoint if its absolute residual equals the threshold at a step length
    between `low` and `high`. If more than MAX_ROWS_PER_BLOCK rows have one, None is returned
    instead of the rows.
    """
    r, change, _ = vectors
    crosses = np.zeros(r.size, dtype=bool)
    for end in (-threshold, threshold):
        t = (end - r) / change
        crosses |= (t > low) & (t < high)
    index = np.flatnonzero(crosses)
    few = index.size <= MAX_ROWS_PER_BLOCK
    rows = [None if v is None else v[index] for v in vectors] if few else None
    return _line_slopes(vectors, lengths, threshold), rows


def _line_slopes(vectors: list[Any], lengths: FloatArray, threshold: float) -> FloatArray:
    r, change, s = vectors
    weighted = change if s is None else s * change
    return np.array(
        [np.clip(r + t * change, -threshold, threshold) @ weighted for t in lengths]
    )


def _stacked(parts: list[list[Any]]) -> list[Any]:
    columns = zip(*parts, strict=True)
    return [None if column[0] is None else np.concatenate(column) for column in columns]


@_reductions.line_minimum.register
def _block_line_minimum(
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
        mean: FloatArray = sum(part[0] for part in found) / total
        return mean + constant + lengths * rate

    step = max(1, n // PROBE_ROWS)
    found = blocks.run(_line_probe, vectors, step, threshold)
    some = _stacked([part[1] for part in found])
    sampled = threshold, total * some[0].size / n, penalty_slope
    guess = _reductions.line_minimum(some[0], some[1], some[2], *sampled)
    ends = slopes(found, np.array([0.0, 1.0]))
    low, high = 0.0, 1.0 if ends[1] >= 0 else _reductions.MAX_STEP_LENGTH
    at_low, at_high = float(ends[0]), float(ends[1]) if ends[1] >= 0 else np.nan
    lengths = guess * np.concatenate([1.0 - DISTANCES[::-1], 1.0 + DISTANCES])
    for _ in range(MAX_ROUNDS):
        if at_low >= 0:
            return low
        lengths = np.append(lengths[(lengths > low) & (lengths < high)], high)
        found = blocks.run(_line_step, vectors, lengths, threshold, low, high)
        values = slopes(found, lengths)
        rows = [part[1] for part in found]
        if all(part is not None for part in rows):
            few = _Line(low, high, at_low, float(values[-1]), _stacked(rows), threshold)
            return few.root(total)
        above = np.flatnonzero(values >= 0)
        k = int(above[0]) if above.size else lengths.size - 1
        if k:
            low, at_low = float(lengths[k - 1]), float(values[k - 1])
        high, at_high = float(lengths[k]), float(values[k])
        lengths = np.linspace(low, high, LENGTHS + 2)[1:-1]
        if high > 4.0 * max(low, 1.0):
            lengths = np.geomspace(max(low, 1.0), high, LENGTHS + 2)[1:-1]
    if at_high <= at_low:
        return low
    return low - at_low * (high - low) / (at_high - at_low)


class _Line(NamedTuple):
    """The slopes at two step lengths, and the rows with breakpoints between them.

    Between the two step lengths, the contribution of the rows without breakpoints is linear.
    """

    low: float
    high: float
    at_low: float
    at_high: float
    rows: list[Any]
    threshold: float

    def root(self, total: float) -> float:
        low, high, rows = self.low, self.high, self.rows
        r, change, _ = rows
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
