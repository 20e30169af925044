"""Least absolute deviations from a point that is near: descent from vertex to vertex.

Where β is tiny the minimiser has as many rows inside as there are variables: a vertex of the
least absolute deviations. Newton's method, which lets many rows in and out at a time, is quick
to come near it, and slow to find which rows these are. From near, few edges lead there
(Barrodale and Roberts, "An improved algorithm for discrete l1 linear approximation", SIAM J.
Numer. Anal. 10, 1973), and only rows near the threshold matter: the others keep their signs.
"""

import numpy as np
from scipy.linalg import blas, lapack

# At least so many rows a variable, and times those inside, are looked at; and so many edges.
_ROWS, _TIMES = 3, 2
_EDGES = 3


def from_vertex(objective, point, threshold, beta):
    """Coordinates of the minimiser at beta if the rows inside are those of a vertex.

    Starts from about the minimiser at a threshold. None where no vertex is found. Rows that are
    not looked at, or ties, may make it wrong: that is for the caller to see.
    """
    size = np.abs(point.residual)
    k = point.theta.size
    few = max(_ROWS * k, _TIMES * np.count_nonzero(size <= threshold))
    near = np.argpartition(size, few)[:few].copy() if few < size.size else np.arange(size.size)
    A = objective.design.rows(near) @ objective.transform
    r, weight = point.residual[near], objective.weight
    weight = np.ones(near.size) if weight is None else weight[near]
    far = objective.total / -threshold * point.gradient
    far -= A.T @ (weight * np.clip(r / threshold, -1.0, 1.0))
    basis, inverse = _independent(A, 1.0 / (size[near] + 0.25 * threshold))
    if basis is None:
        return None
    inverse, held = _descend(A, r - A @ (inverse @ r[basis]), weight, far, basis, inverse)
    if held is None:
        return None
    # A row of the vertex is inside as far as it is held. Twice, since the inverse was updated.
    inside = r[basis] + beta * held / weight[basis]
    step = inverse @ inside
    step += inverse @ (inside - A[basis] @ step)
    return point.theta + step


def _independent(A, preference):
    """As many independent rows as columns, the preferred if possible, and their inverse."""
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


def _descend(A, r, weight, far, basis, inverse):
    """Exchange rows of the basis (in place) until no edge descends.

    `far` is the pull of all other rows. Returns the inverse of the rows of the basis and what
    each holds, None where no end is found.
    """
    r[basis] = 0.0
    pulling = weight * np.sign(r)
    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(_EDGES * basis.size):
            held = (far + pulling @ A) @ inverse
            surplus = np.abs(held) - weight[basis]
            j = int(surplus.argmax())
            if surplus[j] <= 1e-9 * weight[basis[j]]:
                return inverse, held
            # Let go of row j. Where others come to zero on the way the slope jumps.
            side = 1.0 if held[j] > 0 else -1.0
            change = A @ (side * inverse[:, j])
            length = r / change
            met = (length > 0).nonzero()[0]
            met = met[length[met].argsort()]
            slope = (weight[met] * np.abs(change[met])).cumsum()
            last = int(slope.searchsorted(0.5 * surplus[j]))
            if last == met.size:
                break
            old, new = basis[j], met[last]
            r -= length[new] * change
            pulling[met[:last]] *= -1.0
            pulling[old], pulling[new] = -side * weight[old], 0.0
            basis[j] = new
            r[basis] = 0.0
            row = A[new] @ inverse
            pivot = row[j]
            row[j] -= 1.0
            inverse = blas.dger(
                -1.0 / pivot, inverse[:, j].copy(), row, a=inverse, overwrite_a=1
            )
    return inverse, None
