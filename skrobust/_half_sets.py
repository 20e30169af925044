"""Half-sets: halves of the rows whose feature covariance has a small determinant.

A concentration step computes the mean and covariance of the current half-set, and replaces the
half-set by the half of the rows with the smallest Mahalanobis distances. This never increases
the determinant of the covariance (Rousseeuw and Van Driessen, "A fast algorithm for the minimum
covariance determinant estimator", Technometrics 41, 1999). The two initial half-sets are
deterministic, as in Hubert, Rousseeuw and Verdonck ("A deterministic algorithm for robust
location and scatter", JCGS 21, 2012). The first contains the rows with the smallest Euclidean
distances from the spatial median, and the second those with the smallest Mahalanobis distances
based on the spatial sign covariance.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, lapack, solve_triangular

from ._engines.base import FloatArray

SPATIAL_MEDIAN_STEPS = 10
MAX_CONCENTRATION_STEPS = 30
# Concentration ends with a step that lowers the log determinant by less than this value.
LOG_DETERMINANT_ATOL = 1e-9
# Lower bound on the variances along the axes of the spatial sign covariance, as a fraction of
# the largest variance.
MIN_RELATIVE_VARIANCE = 1e-2


class Ellipsoid(NamedTuple):
    """A centre, the lower Cholesky factor of a covariance C, and log det C."""

    centre: FloatArray
    root: FloatArray
    log_determinant: float

    def squared_distances(self, features: FloatArray) -> FloatArray:
        """Return (x − m)ᵀC⁻¹(x − m) for each row x, where m is the centre."""
        deviation = (features - self.centre).T
        white = solve_triangular(
            self.root, deviation, lower=True, overwrite_b=True, check_finite=False
        )
        squares: FloatArray = np.einsum("ij,ij->j", white, white)
        return squares


def ellipsoid(features: FloatArray, weight: FloatArray, ridge: float) -> Ellipsoid | None:
    """Return the ellipsoid of the weighted mean and covariance of the rows.

    `ridge` times the mean variance is added to the variance of each feature. The result is None
    if the covariance is singular.
    """
    total = weight.sum()
    centre = weight @ features / total
    deviation = features - centre
    deviation *= np.sqrt(weight / total)[:, None]
    covariance = deviation.T @ deviation
    diagonal = np.einsum("ii->i", covariance)
    diagonal += ridge * diagonal.mean()
    unit = np.sqrt(diagonal)
    if not unit.all():
        return None
    root, info = lapack.dpotrf(covariance / unit / unit[:, None], lower=1, clean=1)
    pivots = np.diagonal(root)
    if info or pivots.min() ** 2 < features.shape[1] * np.finfo(float).eps:
        return None
    log_determinant = 2.0 * float(np.log(pivots * unit).sum())
    return Ellipsoid(centre, unit[:, None] * root, log_determinant)


def half_sets(features: FloatArray, weight: FloatArray, ridge: float) -> list[NDArray[np.intp]]:
    """Return the row indices of each half-set found, in order of increasing determinant.

    The features should have comparable units. Half-sets whose rows lie on a hyperplane are left
    out unless `ridge` is positive.
    """
    found = []
    for distance in _initial_distances(features, weight):
        half = _concentrated(features, weight, nearest_half(distance, weight), ridge)
        if half is not None:
            found.append(half)
    return [rows for _, rows in sorted(found, key=lambda half: half[0])]


def nearest_half(distance: FloatArray, weight: FloatArray) -> NDArray[np.intp]:
    """Return the indices of the rows with the smallest distances.

    These are the fewest rows that carry at least half of the weight.
    """
    order = np.argsort(distance, kind="stable")
    cumulated = np.cumsum(weight[order])
    n = int(np.searchsorted(cumulated, 0.5 * cumulated[-1])) + 1
    return order[:n]


def _concentrated(
    features: FloatArray, weight: FloatArray, rows: NDArray[np.intp], ridge: float
) -> tuple[float, NDArray[np.intp]] | None:
    """Return the log determinant and row indices of the half-set after all concentration steps.

    The result is None if the covariance of a half-set is singular.
    """
    lowest: tuple[float, NDArray[np.intp]] | None = None
    for _ in range(MAX_CONCENTRATION_STEPS):
        shape = ellipsoid(features[rows], weight[rows], ridge)
        if shape is None:
            return None
        if lowest and shape.log_determinant > lowest[0] - LOG_DETERMINANT_ATOL:
            break
        lowest = shape.log_determinant, rows
        rows = nearest_half(shape.squared_distances(features), weight)
    return lowest


def _initial_distances(features: FloatArray, weight: FloatArray) -> list[FloatArray]:
    """Return the distances of the rows from the spatial median in two metrics.

    The first metric gives Euclidean distances, and the second squared Mahalanobis distances
    based on the axes of the spatial sign covariance and robust variances along these axes. The
    second metric is left out if all of these variances are zero.
    """
    centre = np.median(features, axis=0)
    for _ in range(SPATIAL_MEDIAN_STEPS):
        share = weight / _nonzero(_lengths(features - centre))
        centre = share @ features / share.sum()
    deviation = features - centre
    size = _lengths(deviation)
    # The covariance of the signs, that is, of the deviations divided by their lengths.
    sign = deviation * (np.sqrt(weight) / _nonzero(size))[:, None]
    _, directions = eigh(sign.T @ sign)
    along = np.matmul(deviation, directions, out=sign)
    variance = np.median(np.abs(along, out=deviation), axis=0, overwrite_input=True) ** 2
    variance = np.maximum(variance, MIN_RELATIVE_VARIANCE * variance.max())
    if not variance.all():
        return [size]
    along *= along
    return [size, along @ (1.0 / variance)]


def _lengths(rows: FloatArray) -> FloatArray:
    lengths: FloatArray = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return lengths


def _nonzero(size: FloatArray) -> FloatArray:
    """Return the sizes, bounded below by a small positive number, for use as divisors."""
    return np.maximum(size, 1e-12 * size.max(initial=0.0) or 1.0)
