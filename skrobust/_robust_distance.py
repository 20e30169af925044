"""Robust distances of rows from the centre of the features.

These are Mahalanobis distances with a robust centre and covariance. The initial estimates are
the mean and covariance of the half of the rows whose covariance has the smallest determinant
(the minimum covariance determinant of Rousseeuw and Van Driessen, Technometrics 41, 1999). The
final estimates use all rows whose initial distance is at most the 97.5 % quantile under
normality.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from ._engines.base import FloatArray
from ._half_sets import Ellipsoid, ellipsoid, half_sets
from ._reductions import median

# Probability that the distance of a normally distributed row is below the cutoff.
CUTOFF_PROBABILITY = 0.975
MAX_FEATURES = 500
# A column is linearly dependent on earlier columns if its component orthogonal to them is at
# most the fraction max(DEPENDENCE_RTOL, DEPENDENCE_ROUNDING · relative rounding error) of its
# length.
DEPENDENCE_RTOL, DEPENDENCE_ROUNDING = 1e-8, 10.0


class RobustDistance(NamedTuple):
    """The distance √((x − m)ᵀC⁻¹(x − m)) in d columns, or the reason why it is not defined.

    `shape` contains m and C; it is None if the distance is not defined.
    """

    columns: NDArray[np.intp]
    shape: Ellipsoid | None
    reason: str = ""

    @property
    def cutoff(self) -> float:
        """The square root of the 97.5 % quantile of χ² with d degrees of freedom."""
        return chi_quantile(CUTOFF_PROBABILITY, self.columns.size)

    def of(self, features: FloatArray) -> FloatArray:
        """Return the distance of each row, given the standardised values of the columns."""
        assert self.shape is not None
        distances: FloatArray = np.sqrt(self.shape.squared_distances(features))
        return distances


def chi_quantile(probability: float, d: int) -> float:
    """Return the square root of a quantile of χ² with d degrees of freedom."""
    return float(np.sqrt(chdtri(d, 1.0 - probability)))


def robust_distance(
    features: FloatArray, weight: FloatArray, rounding: FloatArray
) -> RobustDistance:
    """Return the robust distance with centre and covariance estimated from `features`.

    The features are standardised. `rounding` contains a bound on the rounding error of each
    feature.
    """
    columns = _columns_with_spread(features, weight, rounding)
    used, d = features[:, columns], columns.size
    if not d:
        return RobustDistance(
            columns, None, "more than half of the values of each feature are equal"
        )
    if d > MAX_FEATURES:
        return RobustDistance(columns, None, f"there are more than {MAX_FEATURES} features")
    # Usually, the first 8(d + 1) rows include at least 2d + 2 distinct rows. Only otherwise are
    # the distinct rows of the whole array counted.
    n_distinct = 0
    for n in (8 * (d + 1), len(used)):
        n_distinct = n_distinct if n_distinct > 2 * d + 1 else len(np.unique(used[:n], axis=0))
    if n_distinct < 2 * d + 2:
        reason = f"there are only {n_distinct} distinct rows for {d} features"
        return RobustDistance(columns, None, reason)
    halves = half_sets(used, weight, ridge=0.0)
    if not halves:
        return RobustDistance(columns, None, "half of the rows lie on a hyperplane")
    shape = _shape(used, weight, halves[0], d)
    if shape is not None:
        near = shape.squared_distances(used) <= chdtri(d, 1.0 - CUTOFF_PROBABILITY)
        shape = _shape(used, weight, np.flatnonzero(near), d)
    if shape is None:
        return RobustDistance(columns, None, "half of the rows lie on a hyperplane")
    return RobustDistance(columns, shape)


def _shape(
    features: FloatArray, weight: FloatArray, rows: NDArray[np.intp], d: int
) -> Ellipsoid | None:
    """Return the ellipsoid of the given rows, scaled to be consistent under normality.

    After scaling, the median of the squared distances of all rows equals the median of χ² with
    d degrees of freedom.
    """
    shape = ellipsoid(features[rows], weight[rows], ridge=0.0)
    if shape is None:
        return None
    factor = median(shape.squared_distances(features), weight) / chdtri(d, 0.5)
    if not factor > 0:
        return None
    return shape._replace(root=np.sqrt(factor) * shape.root)


def _columns_with_spread(
    features: FloatArray, weight: FloatArray, rounding: FloatArray
) -> NDArray[np.intp]:
    """Return the indices of independent columns, each with at most half of its values equal."""
    half = 0.5 * weight.sum()
    centre = np.array([median(column, weight) for column in features.T])
    varying = np.flatnonzero(weight @ (features == centre) <= half)
    A = features[:, varying] - centre[varying]
    # A constant column is appended, and each row is divided by its largest absolute value,
    # because a high-leverage row could otherwise make independent columns appear dependent. The
    # columns must also be independent of the constant column, which is projected out.
    constant = 1.0 / np.maximum(A.max(axis=1, initial=1.0), -A.min(axis=1, initial=-1.0))
    A *= constant[:, None]
    A -= np.outer(constant, constant @ A / (constant @ constant))
    rtol = np.maximum(DEPENDENCE_RTOL, DEPENDENCE_ROUNDING * rounding[varying].max(initial=0.0))
    return varying[_independent_columns(A, float(rtol))]


def _independent_columns(A: FloatArray, rtol: float) -> list[int]:
    """Return the indices of the columns that are linearly independent of earlier columns.

    The columns are orthogonalised by the Gram–Schmidt process.
    """
    kept: list[int] = []
    Q = np.empty((A.shape[0], A.shape[1]))
    for j, column in enumerate(A.T):
        basis, part = Q[:, : len(kept)], column
        # The second projection removes the rounding errors of the first.
        for _ in range(2):
            part = part - basis @ (basis.T @ part)
        length = float(np.linalg.norm(part))
        if length > rtol * float(np.linalg.norm(column)):
            Q[:, len(kept)] = part / length
            kept.append(j)
    return kept
