"""Minimisation of the objective. The algorithms for a fit are selected only in `choose`."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from .._model.loss import HUBER, Loss
from .lbfgs import lbfgs as lbfgs_solver
from .lbfgs import lbfgs_then_newton
from .newton import newton as newton_solver
from .path_newton import PATH_MAX_VARIABLES
from .redescending import redescending
from .scale_fixed_point import Minimiser
from .working_set import WorkingSet

if TYPE_CHECKING:
    from .._engines.base import Engine

__all__ = ["Plan", "Rows", "choose"]

# A fit starts from a sample of the rows if X has at least TALL_MIN_ROWS_PER_FEATURE rows per
# feature and at least TALL_MIN_ELEMENTS elements.
TALL_MIN_ROWS_PER_FEATURE = 400
TALL_MIN_ELEMENTS = 2_000_000
# If X consists of blocks of rows, TALL_MIN_ELEMENTS is multiplied by this fraction, because a
# sample saves passes over the blocks, which take longer than passes over X in memory.
TALL_MIN_FRACTION_OF_BLOCKS = 0.25
# If X has at least as many features as rows, whitening requires an n × n matrix and, if X is
# sparse, a dense copy of X. The features are therefore scaled, not whitened, if X has more than
# ROOT_MAX_ROWS rows or the copy has more than ROOT_MAX_CELLS elements and more than
# ROOT_MAX_CELLS_PER_ELEMENT elements per stored element of X.
ROOT_MAX_ROWS = 5_000
ROOT_MAX_CELLS, ROOT_MAX_CELLS_PER_ELEMENT = 100_000, 3

MINIMISERS: dict[str, Minimiser] = {
    "auto": lbfgs_then_newton,
    "lbfgs": lbfgs_solver,
    "newton": newton_solver,
}


class Rows(Enum):
    """The rows from which the first starting point and the first whitening are computed."""

    UNIFORM_SAMPLE = "a uniform sample of rows"
    ROW_NORM_SAMPLE = "a sample of rows by their norms"
    ALL = "all rows"


class Plan(NamedTuple):
    """The algorithms of a fit, which the module `_fit` runs."""

    rows: Rows
    whiten_by: str
    accelerate: bool
    minimiser: Minimiser
    follow_path: bool
    # Whether a fit with an L1 penalty or bounds starts from a fit to a sample of rows.
    start_from_sample: bool = False


def choose(
    engine: Engine,
    solver: str,
    *,
    loss: Loss = HUBER,
    composite: bool = False,
    staged: bool = False,
    along_grid: bool = False,
) -> Plan:
    """Return the Plan of a fit to X with the given value of the parameter `solver`.

    `composite` is True if the penalty has an L1 part or bounds, `staged` if the fit starts from
    given coefficients or has a schedule, and `along_grid` if the model is fitted at each point
    of a grid of parameters.

    ============================= ==========================================================
    data                          algorithms
    ============================= ==========================================================
    tall dense X                  fit to a uniform sample of rows → whitening computed from
                                  the sample → Anderson acceleration of coefficients and
                                  scale over all rows. With "lbfgs" and "newton", and in
                                  staged fits, the minimiser replaces Anderson acceleration.
                                  Staged fits sample rows with probabilities that increase
                                  with the norms of the rows
    sparse X with at least 200    least squares → Anderson acceleration, in scaled features
    features, n > p
    sparse X, p ≥ n, with a       least squares by conjugate gradients → the minimiser,
    large dense copy              matrix-free and in scaled features
    other X                       least squares → the minimiser, within the fixed-point
                                  iteration for the scale if the scale is estimated
    along a grid                  least squares → `PathNewton`: Newton's method on the rows
                                  near the threshold. With "lbfgs" and "newton", the
                                  minimiser starts each fit from the previous solution
    a penalty with an L1 part or  `WorkingSet`: proximal Newton steps on a working set of
    bounds                        scaled features, within the fixed-point iteration for the
                                  scale if the scale is estimated. If X is tall and dense and
                                  the threshold is fixed, the fit starts from a fit to a
                                  uniform sample
    a nonconvex loss              starting points (`_starts`) → `redescending`: Newton's
                                  method and iteratively reweighted least squares, for any X
    ============================= ==========================================================

    The minimiser is `lbfgs`, `newton` or, for "auto", `lbfgs_then_newton`. Decisions that
    depend on intermediate results are made within the algorithms:

    ============================= ==========================================================
    if                            then
    ============================= ==========================================================
    few rows have |r| ≤ β         the threshold is lowered in steps (`newton`, step 4, and
                                  `working_set`), until the minimiser is near a vertex
                                  (`lad_simplex`)
    X has more than 20,000        "auto" starts with L-BFGS and continues with Newton's
    elements                      method near the minimiser (`lbfgs`), since a pass over X
                                  takes less time than a Newton step
    forming the Hessian takes     Newton steps are computed by conjugate gradients, without
    longer than a few passes      forming the Hessian (`newton.is_matrix_free`)
    the Gram matrix is nearly     the whitening is computed from a singular value
    singular                      decomposition of the rows (`_sampling.whiten`)
    Anderson acceleration is      the fit restarts from a norm-weighted sample of the rows,
    slow                          and then continues with the minimiser and the fixed-point
                                  iteration for the scale (`_fit`)
    PathNewton does not converge  the minimiser continues from the best point. If it does not
                                  converge either, the fit is repeated without the grid
    ============================= ==========================================================
    """
    n, p = engine.n, engine.p
    tall = engine.can_sample and n >= TALL_MIN_ROWS_PER_FEATURE * p
    fraction = 1.0 if engine.in_memory else TALL_MIN_FRACTION_OF_BLOCKS
    tall = tall and engine.n_elements >= fraction * TALL_MIN_ELEMENTS and not along_grid
    start_from_sample = tall and composite and not staged
    tall = tall and not composite
    max_cells = max(ROOT_MAX_CELLS, ROOT_MAX_CELLS_PER_ELEMENT * engine.n_elements)
    if composite:
        whiten_by = "scaling"
    elif p < min(n, engine.gram_max_features):
        whiten_by = "gram"
    elif p >= n and n <= ROOT_MAX_ROWS and n * p <= max_cells:
        whiten_by = "root"
    else:
        whiten_by = "scaling"
    # Anderson acceleration can be used for scaled sparse features, since their Gram matrix is
    # close to the identity matrix.
    scaled = whiten_by == "scaling" and n > p and not engine.can_sample and not composite
    accelerated = tall or (scaled and not along_grid)
    rows = Rows.ALL if not tall else Rows.ROW_NORM_SAMPLE if staged else Rows.UNIFORM_SAMPLE
    minimiser = MINIMISERS[solver] if loss.is_convex else redescending
    if composite:
        minimiser = WorkingSet()
    return Plan(
        rows=rows,
        whiten_by=whiten_by,
        accelerate=accelerated and solver == "auto" and not staged,
        minimiser=minimiser,
        follow_path=along_grid
        and solver == "auto"
        and engine.in_memory
        and whiten_by != "scaling"
        and min(n, p) <= PATH_MAX_VARIABLES,
        start_from_sample=start_from_sample,
    )
