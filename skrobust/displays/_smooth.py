"""Robust smooth curve through points by locally weighted regression (lowess)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Fraction of the data points to which each local line is fitted, and number of iterations after
# the first fit, in which data points far from the curve are downweighted, as in R's `lowess`.
FRACTION, N_ITERATIONS = 2 / 3, 3
# Maximum number of points at which the curve is computed, with linear interpolation between
# them.
N_CURVE_POINTS = 100
# A data point has weight zero if its absolute residual is at least this multiple of the median
# absolute residual.
MAX_MEDIANS = 6


def lowess(
    x: NDArray[np.floating], y: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the abscissae and ordinates of Cleveland's lowess curve through the points (x, y).

    Each point of the curve lies on a straight line that is fitted to the nearest two thirds of
    the data, with tricube distance weights and bisquare residual weights (W. S. Cleveland,
    "Robust locally weighted regression and smoothing scatterplots", Journal of the American
    Statistical Association 74, 1979). The curve is computed at each distinct value of x, or at
    100 values of x if x has more than 100 distinct values.
    """
    grid = np.unique(x)
    if len(grid) > N_CURVE_POINTS:
        grid = grid[np.linspace(0, len(grid) - 1, N_CURVE_POINTS).round().astype(int)]
    nearest = max(1, int(FRACTION * len(x) + 1e-10)) - 1
    offsets = x - grid[:, np.newaxis]
    distances = np.abs(offsets)
    width = np.partition(distances, nearest, axis=1)[:, [nearest]]
    # If all abscissae of a neighbourhood are equal, its width is 0 and all its points have
    # relative distance 0.
    relative = np.divide(distances, width, out=(distances > 0).astype(float), where=width > 0)
    tricube = (1 - np.minimum(relative, 1) ** 3) ** 3
    curve = _local_lines(tricube, offsets, y)
    for _ in range(N_ITERATIONS):
        residual = np.abs(y - np.interp(x, grid, curve))
        end = MAX_MEDIANS * np.median(residual)
        if end <= 0:
            break
        weight = (1 - np.minimum(residual / end, 1) ** 2) ** 2
        refined = _local_lines(tricube * weight, offsets, y)
        # Where all points of a neighbourhood have weight zero, the previous value is kept.
        curve = np.where(np.isnan(refined), curve, refined)
    return grid, curve


def _local_lines(
    weight: NDArray[np.float64], offsets: NDArray[np.floating], y: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the values at offset 0 of weighted least-squares lines.

    For each row of `weight` and `offsets`, one line is fitted to the points (offset, y).
    """
    total = weight.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (weight * offsets).sum(axis=1) / total
        mean_y = weight @ y / total
        centred = offsets - mean[:, np.newaxis]
        squares = (weight * centred**2).sum(axis=1)
        slope = (weight * centred) @ y / squares
    # If all points with nonzero weight have the same abscissa, the line is horizontal.
    slope[~(squares > 1e-6 * total * np.ptp(offsets, axis=1) ** 2)] = 0.0
    curve: NDArray[np.float64] = mean_y - slope * mean
    return curve
