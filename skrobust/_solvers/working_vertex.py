"""The vertex next to the minimiser on a working set, for a small threshold.

If the threshold β is small, the number of rows with |r| ≤ β equals the number of nonzero
coefficients, including the intercept. Since rounding errors of the residuals may dominate ψ(r)
for these rows, ψ(r) is computed from the multipliers of the linear program (`lad_simplex`).
"""

from __future__ import annotations

import numpy as np

from .._engines.base import FloatArray
from .._model.penalty import ElasticNet
from .l1_quadratic import violation
from .lad_simplex import L1Vertex, l1_vertex
from .working_columns import WorkingColumns

# A vertex is sought if at most MAX_INSIDE_PER_VARIABLE rows per nonzero coefficient have |r| at
# most the current threshold and the working set has at most MAX_VARIABLES features. In
# addition, the expected number of rows that have |r| at most the final threshold but do not
# belong to the vertex must be at most MAX_EXTRA_FRACTION times the number of nonzero
# coefficients.
MAX_INSIDE_PER_VARIABLE, MAX_EXTRA_FRACTION = 3, 0.25
MAX_VARIABLES = 1_000
# A vertex is accepted if, on the working set, the largest violation of the optimality
# conditions relative to the root mean square of ψ is at most the maximum of this value and the
# given tolerance.
VERTEX_TOL = 1e-10


def psi_at_vertex(residual: FloatArray, beta: float, vertex: L1Vertex | None) -> FloatArray:
    """Return ψ(r) for each row, taken from `vertex` for the rows of the vertex.

    For the rows of the vertex, the multipliers are more accurate than the residuals.
    """
    psi = np.clip(residual, -beta, beta)
    if vertex is not None:
        psi[vertex.rows] = beta * vertex.psi
    return psi


def vertex_near(
    columns: WorkingColumns,
    penalty: ElasticNet,
    coef: FloatArray,
    residual: FloatArray,
    threshold: float,
    beta: float,
    tol: float,
) -> L1Vertex | None:
    """Return the minimiser on the working set at the threshold `beta`, as an L1Vertex.

    The result is None if no vertex is found next to the minimiser. The vectors `coef` = (b, v)
    and `residual` approximate the coefficients and residuals at the minimiser for `threshold`,
    which is at least the final threshold `beta`.
    """
    index = columns.index
    x, slope, lower = coef[index], penalty.slope[index], penalty.lower[index]
    n_inside = int(np.count_nonzero(np.abs(residual) <= threshold))
    n_variables = 1 + int(np.count_nonzero(coef))
    n_extra = n_inside * beta / threshold if threshold > beta else 0.0
    if (
        n_inside > MAX_INSIDE_PER_VARIABLE * n_variables
        or n_extra > MAX_EXTRA_FRACTION * n_variables
        or not 0 < index.size <= MAX_VARIABLES
        or penalty.diagonal[index].any()
    ):
        return None
    Z, s = columns.Z, columns.s
    vertex = l1_vertex(Z.T, residual, s, x, slope / beta, lower, threshold, beta)
    if vertex is None or (vertex.coef < lower).any():
        return None
    psi = psi_at_vertex(residual - (vertex.coef - x) @ Z, beta, vertex)
    weighted = s * psi
    bad = float(violation(Z @ weighted, vertex.coef, slope, lower).max(initial=0.0))
    return vertex if bad <= max(tol, VERTEX_TOL) * np.sqrt(weighted @ psi) else None
