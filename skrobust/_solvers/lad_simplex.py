"""The vertex of least absolute deviations near a point, found along edges.

If β is tiny, the minimiser has as many rows inside the threshold as there are variables: it is
next to a vertex of the least absolute deviations. Newton's method, in which many rows cross the
threshold at a time, approaches the vertex quickly but identifies its rows slowly. From a point
nearby, few edges lead to the vertex (Barrodale and Roberts, "An improved algorithm for discrete
l1 linear approximation", SIAM J. Numer. Anal. 10, 1973). Only rows near the threshold are
considered, since the residuals of the others do not change sign.

With an L1 penalty the minimiser is a vertex as well: each term λ|x| is the loss of a further
row, whose residual is −x.
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

# Number of rows near the threshold that are considered, per variable and per row inside (the
# larger number applies), and the maximum number of edges per variable that are followed.
NEAR_ROWS_PER_VARIABLE, NEAR_ROWS_PER_INSIDE = 3, 2
MAX_EDGES_PER_VARIABLE = 3


def lad_vertex(objective: Whitened, point: Evaluation, beta: float) -> FloatArray | None:
    """Return the coordinates of the minimiser at `beta`, if that is next to a vertex.

    The point approximates the minimiser of the objective at a larger threshold. The result is
    None if no vertex is found. It may be wrong because of ties or of rows that are not
    considered, so that the caller must check it.
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
    # A row of weight zero, such as one of a validation fold, cannot belong to the basis.
    vertex = _vertex(A, r, weight, far_gradient, np.full(near.size, beta), threshold)
    if vertex is None:
        return None
    theta: FloatArray = point.theta + vertex.step
    return theta


class L1Vertex(NamedTuple):
    """The coefficients at a vertex, its rows, and ψ(r)/β of these."""

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
    """Return the vertex next to the minimiser of Σ weight h_β(r)/β + Σ slope |x|, x ≥ lower.

    `lower` is 0 or −∞, and h the Huber loss. The residuals and coefficients x approximate the
    minimiser at `threshold`, which is larger than β. The result is None if no vertex is found,
    and may be wrong for the same reasons as that of `lad_vertex`.
    """
    k, size = x.size, np.abs(residual)
    n_inside = int(np.count_nonzero(size <= threshold))
    n_free = 1 + int(np.count_nonzero(x))
    near = smallest(size, max(NEAR_ROWS_PER_VARIABLE * n_free, NEAR_ROWS_PER_INSIDE * n_inside))
    far_psi = weight * np.clip(residual / threshold, -1.0, 1.0)
    far_psi[near] = 0.0
    far_gradient = far_psi @ Z
    # A bound is a large slope on one side, the sum of a term |x| and a linear one.
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
    """The step to a vertex, the indices of its rows, and ψ(r)/β of these."""

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
    """Return the vertex of Σ weight |r − A step| − far_gradient·step, or None.

    `beta` contains the final threshold of each row, and `threshold` is the current one.
    """
    basis, inverse = _basis(A, (weight > 0) / (np.abs(r) + 0.25 * threshold))
    if basis is None or inverse is None:
        return None
    start = r - A @ (inverse @ r[basis])
    inverse, multipliers = _simplex(A, start, weight, far_gradient, basis, inverse)
    if multipliers is None:
        return None
    # The residual of a row of the vertex is proportional to its multiplier. The product with
    # the inverse is corrected once, because the updates of the inverse have rounding errors.
    inside = r[basis] + beta[basis] * multipliers / weight[basis]
    step = inverse @ inside
    step += inverse @ (inside - A[basis] @ step)
    return _Vertex(step, basis, -multipliers / weight[basis])


def _basis(
    A: FloatArray, preference: FloatArray
) -> tuple[NDArray[np.intp] | None, FloatArray | None]:
    """Return as many independent rows as columns, preferred rows first, and the inverse."""
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
    """Exchange rows of the basis (in place) until no edge is a descent direction.

    `far_gradient` is the sum over all rows that are not in A. Returns the inverse of the rows
    of the basis and their multipliers, which are None if the method does not terminate.
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
            # Row j leaves the basis. The slope jumps where other residuals cross zero.
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
