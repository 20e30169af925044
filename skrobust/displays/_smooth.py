"""A robust smooth curve through points: locally weighted regression."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Fraction of the points in the neighbourhood of a point of the curve, and number of additional
# iterations in which points far from the curve are down-weighted, as in R's `lowess`.
FRACTION, N_ITERATIONS = 2 / 3, 3
# Maximum number of points of the curve, which is linear between these points.
N_CURVE_POINTS = 100
# Absolute residuals of at least this multiple of their median have weight zero.
MAX_MEDIANS = 6


def lowess(
    x: NDArray[np.floating], y: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return abscissae and ordinates of Cleveland's lowess curve through the points (x, y).

    Each point of the curve lies on a straight line that is fitted to the nearest two thirds of
    the data, with tricube weights of the distances and bisquare weights of the residuals (W. S.
    Cleveland, "Robust locally weighted regression and smoothing scatterplots", Journal of the
    American Statistical Association 74, 1979). The curve is computed at the different values of
    x, or at 100 of them if there are more.
    """
    grid = np.unique(x)
    if len(grid) > N_CURVE_POINTS:
        grid = grid[np.linspace(0, len(grid) - 1, N_CURVE_POINTS).round().astype(int)]
    nearest = max(1, int(FRACTION * len(x) + 1e-10)) - 1
    offsets = x - grid[:, np.newaxis]
    distances = np.abs(offsets)
    width = np.partition(distances, nearest, axis=1)[:, [nearest]]
    # A neighbourhood of equal abscissae has the width 0.
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
        # A neighbourhood whose points all have the weight zero keeps its previous line.
        curve = np.where(np.isnan(refined), curve, refined)
    return grid, curve


def _local_lines(
    weight: NDArray[np.float64], offsets: NDArray[np.floating], y: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the values at offset 0 of weighted least-squares lines, one for each row."""
    total = weight.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (weight * offsets).sum(axis=1) / total
        mean_y = weight @ y / total
        centred = offsets - mean[:, np.newaxis]
        squares = (weight * centred**2).sum(axis=1)
        slope = (weight * centred) @ y / squares
    # Without a spread of the abscissae the line is horizontal.
    slope[~(squares > 1e-6 * total * np.ptp(offsets, axis=1) ** 2)] = 0.0
    curve: NDArray[np.float64] = mean_y - slope * mean
    return curve
