"""The vertex of least absolute deviations that is near a point, found along edges.

Where β is tiny, the minimiser has as many rows inside the threshold as there are variables: a
vertex of the least absolute deviations. Newton's method, which lets many rows in and out at a
time, approaches it quickly, and is slow to find which rows these are. From near, few edges lead
there (Barrodale and Roberts, "An improved algorithm for discrete l1 linear approximation", SIAM
J. Numer. Anal. 10, 1973), and only rows near the threshold matter: the others keep their signs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, lapack

from .._engines.base import FloatArray
from .._model.linear_loss import Evaluation
from .._model.whitening import Whitened
from .._reductions import gather, smallest

# So many rows for each variable, and at least so many times those inside, are looked at; and at
# most so many edges for each variable are followed.
NEAR_ROWS_PER_VARIABLE, NEAR_ROWS_PER_INSIDE = 3, 2
MAX_EDGES_PER_VARIABLE = 3


def lad_vertex(objective: Whitened, point: Evaluation, beta: float) -> FloatArray | None:
    """Return the coordinates of the minimiser at `beta`, if that is at a vertex.

    The point is about the minimiser of the objective, at a larger threshold. None where no
    vertex is found. Rows that are not looked at, or ties, may make the vertex wrong, which the
    caller must check.
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
    # A row without weight, as those of a fold have, holds no direction.
    basis, inverse = _basis(A, (weight > 0) / (np.abs(r) + 0.25 * threshold))
    if basis is None or inverse is None:
        return None
    start = r - A @ (inverse @ r[basis])
    inverse, multipliers = _simplex(A, start, weight, far_gradient, basis, inverse)
    if multipliers is None:
        return None
    # A row of the vertex is inside the threshold in proportion to its multiplier. The product
    # is corrected once, since the inverse was updated.
    inside = r[basis] + beta * multipliers / weight[basis]
    step = inverse @ inside
    step += inverse @ (inside - A[basis] @ step)
    theta: FloatArray = point.theta + step
    return theta


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
    """Exchange rows of the basis (in place) until no edge descends.

    `far_gradient` is the sum over all rows that are not in A. Returns the inverse of the rows
    of the basis and their multipliers, which are None where no end is found.
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
