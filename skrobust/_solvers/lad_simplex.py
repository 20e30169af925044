"""The least-absolute-deviations vertex near a point, found by following edges.

A vertex is a point at which as many linearly independent rows as there are variables have
residual zero. These rows are called the rows of the vertex. An edge is a line along which all
but one of the rows of a vertex have residual zero. If the threshold β is tiny, the minimiser is
next to a vertex that minimises the sum of absolute residuals, and the rows of this vertex have
|r| ≤ β. Newton's method approaches the vertex quickly but identifies its rows slowly, because
|r| crosses β for many rows in each step. From a nearby vertex, a few edges lead to the optimal
vertex (Barrodale and Roberts, "An improved algorithm for discrete l1 linear approximation",
SIAM J. Numer. Anal. 10, 1973). Only the rows with the smallest absolute residuals are
considered. The other residuals are assumed not to change sign.

With an L1 penalty, the minimiser is also next to a vertex if each term λ|x| is regarded as the
loss of an additional row with residual −x.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, lapack

from .._engines.base import FloatArray
from .._model.linear_loss import Evaluation
from .._model.whitening import Whitened
from .._reductions import gather, smallest

# The number of rows considered is the maximum of NEAR_ROWS_PER_VARIABLE times the number of
# variables and NEAR_ROWS_PER_INSIDE times the number of rows with |r| at most the current
# threshold. At most MAX_EDGES_PER_VARIABLE edges per variable are followed.
NEAR_ROWS_PER_VARIABLE, NEAR_ROWS_PER_INSIDE = 3, 2
MAX_EDGES_PER_VARIABLE = 3


def lad_vertex(objective: Whitened, point: Evaluation, beta: float) -> FloatArray | None:
    """Return the coordinates θ of the minimiser at the threshold `beta`, or None.

    `point` approximates the minimiser of `objective`, whose threshold is larger than `beta`.
    The result is None if no vertex is found. The caller must check the coordinates, which may
    be wrong because of ties or because some rows are not considered.
    """
    threshold, k = objective.threshold, objective.n_variables
    size = np.abs(point.residual)
    n_inside = int(np.count_nonzero(size <= threshold))
    near = smallest(size, max(NEAR_ROWS_PER_VARIABLE * k, NEAR_ROWS_PER_INSIDE * n_inside))
    A, r = objective.rows(near), gather(point.residual, near)
    data = objective.linear.data
    weight = np.ones(near.size) if data.weight is None else gather(data.weight, near)
    far_gradient = data.total / -threshold * point.gradient
    far_gradient -= A.T @ (weight * np.clip(r / threshold, -1.0, 1.0))
    # A row with zero weight, such as a row of a validation fold, cannot belong to the basis.
    vertex = _vertex(A, r, weight, far_gradient, np.full(near.size, beta), threshold)
    if vertex is None:
        return None
    theta: FloatArray = point.theta + vertex.step
    return theta


class L1Vertex(NamedTuple):
    """The coefficients of the minimiser next to a vertex, and the indices of the vertex's rows.

    `psi` contains ψ(r)/β for the rows of the vertex.
    """

    coef: FloatArray
    rows: NDArray[np.intp]
    psi: FloatArray


def l1_vertex(
    Z: FloatArray,
    residual: FloatArray,
    weight: FloatArray,
    x: FloatArray,
    slope: FloatArray,
    lower: FloatArray,
    threshold: float,
    beta: float,
) -> L1Vertex | None:
    """Return the L1Vertex at the minimiser of Σ weight h_β(r)/β + Σ slope |x| with x ≥ lower.

    h_β is the Huber loss, and the elements of `lower` are 0 or −∞. `x` and `residual`
    approximate the coefficients and residuals at the minimiser for `threshold`, which is at
    least `beta`. The result is None if no vertex is found. As with `lad_vertex`, the vertex may
    be wrong because of ties or because some rows are not considered.
    """
    k, size = x.size, np.abs(residual)
    n_inside = int(np.count_nonzero(size <= threshold))
    n_free = 1 + int(np.count_nonzero(x))
    near = smallest(size, max(NEAR_ROWS_PER_VARIABLE * n_free, NEAR_ROWS_PER_INSIDE * n_inside))
    far_psi = weight * np.clip(residual / threshold, -1.0, 1.0)
    far_psi[near] = 0.0
    far_gradient = far_psi @ Z
    # A lower bound is replaced by a penalty with a large slope for x < 0. This penalty is the
    # sum of a multiple of |x| and a linear term.
    excess = np.where(lower == 0, 0.5 * (weight @ np.abs(Z)), 0.0)
    terms = np.flatnonzero(slope + excess > 0)
    vertex = _vertex(
        np.concatenate([Z[near], np.eye(k)[terms]]),
        np.concatenate([residual[near], -x[terms]]),
        np.concatenate([weight[near], (slope + excess)[terms]]),
        far_gradient + excess,
        np.repeat([beta, 0.0], [near.size, terms.size]),
        threshold,
    )
    if vertex is None:
        return None
    coef, is_row = x + vertex.step, vertex.basis < near.size
    coef[terms[vertex.basis[~is_row] - near.size]] = 0.0
    return L1Vertex(coef, near[vertex.basis[is_row]], vertex.psi[is_row])


class _Vertex(NamedTuple):
    """The step to the minimiser next to a vertex, and the indices of the vertex's rows.

    `basis` contains the indices of the rows of the vertex, and `psi` contains their ψ(r)/β.
    """

    step: FloatArray
    basis: NDArray[np.intp]
    psi: FloatArray


def _vertex(
    A: FloatArray,
    r: FloatArray,
    weight: FloatArray,
    far_gradient: FloatArray,
    beta: FloatArray,
    threshold: float,
) -> _Vertex | None:
    """Return the _Vertex for the minimum of Σ weight |r − A step| − far_gradient·step.

    `beta` contains the final threshold of each row, and `threshold` is the current threshold.
    The result is None if the minimum is not found.
    """
    basis, inverse = _basis(A, (weight > 0) / (np.abs(r) + 0.25 * threshold))
    if basis is None or inverse is None:
        return None
    start = r - A @ (inverse @ r[basis])
    inverse, multipliers = _simplex(A, start, weight, far_gradient, basis, inverse)
    if multipliers is None:
        return None
    # At the minimiser, the residual of each row of the vertex is proportional to its
    # multiplier. One step of iterative refinement corrects for the rounding errors in the
    # updated inverse.
    inside = r[basis] + beta[basis] * multipliers / weight[basis]
    step = inverse @ inside
    step += inverse @ (inside - A[basis] @ step)
    return _Vertex(step, basis, -multipliers / weight[basis])


def _basis(
    A: FloatArray, preference: FloatArray
) -> tuple[NDArray[np.intp] | None, FloatArray | None]:
    """Return the indices of k linearly independent rows of A, and the inverse of A[indices].

    k is the number of columns of A. Rows with a larger `preference` are selected first. Both
    results are None if the rank of A is less than k.
    """
    n, k = A.shape
    LU, pivots, info = lapack.dgetrf(preference[:, None] * A)
    if info or n < k:
        return None, None
    order = np.arange(n)
    for i, j in enumerate(pivots):
        order[i], order[j] = order[j], order[i]
    basis = order[:k]
    inverse, _ = lapack.dgetri(LU[:k], np.arange(k))
    return basis, inverse * preference[basis]


def _simplex(
    A: FloatArray,
    r: FloatArray,
    weight: FloatArray,
    far_gradient: FloatArray,
    basis: NDArray[np.intp],
    inverse: FloatArray,
) -> tuple[FloatArray, FloatArray | None]:
    """Exchange rows of the basis, in place, until no edge is a descent direction.

    `far_gradient` is the contribution to the negative gradient of all rows that are not in A.
    Returns the inverse of the basis matrix and the multipliers of its rows. The multipliers are
    None if the maximum number of edges is reached or the objective decreases along the whole of
    an edge.
    """
    r[basis] = 0.0
    signed_weight = weight * np.sign(r)
    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(MAX_EDGES_PER_VARIABLE * basis.size):
            multipliers = (far_gradient + signed_weight @ A) @ inverse
            violation = np.abs(multipliers) - weight[basis]
            j = int(violation.argmax())
            if violation[j] <= 1e-9 * weight[basis[j]]:
                return inverse, multipliers
            # Row j leaves the basis. Along the edge, the slope of the objective increases
            # wherever another residual crosses zero.
            side = 1.0 if multipliers[j] > 0 else -1.0
            change = A @ (side * inverse[:, j])
            length = r / change
            crossed = (length > 0).nonzero()[0]
            crossed = crossed[length[crossed].argsort()]
            slope = (weight[crossed] * np.abs(change[crossed])).cumsum()
            last = int(slope.searchsorted(0.5 * violation[j]))
            if last == crossed.size:
                break
            leaving, entering = basis[j], crossed[last]
            r -= length[entering] * change
            signed_weight[crossed[:last]] *= -1.0
            signed_weight[leaving], signed_weight[entering] = -side * weight[leaving], 0.0
            basis[j] = entering
            r[basis] = 0.0
            row = A[entering] @ inverse
            pivot = row[j]
            row[j] -= 1.0
            inverse = blas.dger(
                -1.0 / pivot, inverse[:, j].copy(), row, a=inverse, overwrite_a=1
            )
    return inverse, None
