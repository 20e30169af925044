"""`choose` selects the expected algorithms for each kind of data, solver and fit."""

import numpy as np
import pytest
from scipy import sparse

from skrobust import _solvers
from skrobust._engines import as_engine
from skrobust._engines.threads import ThreadTeam
from skrobust._solvers import Plan, Rows, choose
from skrobust._solvers.lbfgs import lbfgs, lbfgs_then_newton
from skrobust._solvers.newton import newton
from skrobust._solvers.working_set import WorkingSet

MINIMISERS = {"auto": lbfgs_then_newton, "lbfgs": lbfgs, "newton": newton}
SOLVERS = list(MINIMISERS)
ALL, UNIFORM, ROW_NORM = Rows.ALL, Rows.UNIFORM_SAMPLE, Rows.ROW_NORM_SAMPLE


def engine_of(kind, n, p):
    """Return the engine for an n × p matrix whose elements take no memory."""
    if kind == "sparse":
        X = sparse.csr_array((n, p))
    else:
        X = np.broadcast_to(np.zeros(1, np.float32 if kind == "float32" else float), (n, p))
    return as_engine(X, ThreadTeam())


# Kind of X, numbers of rows and columns, rows from which the starting point is computed,
# whitening algorithm, and whether fits along a grid apply Newton's method to the rows near the
# threshold.
DATA = {
    "small": ("dense", 200, 5, ALL, "gram", True),
    "one row and one feature": ("dense", 1, 1, ALL, "root", True),
    "no feature": ("dense", 3_000_000, 0, ALL, "gram", True),
    "square": ("dense", 30, 30, ALL, "root", True),
    "wide": ("dense", 50, 500, ALL, "root", True),
    "long, but of few elements": ("dense", 100_000, 19, ALL, "gram", True),
    "of many elements, but not long": ("dense", 39_999, 100, ALL, "gram", True),
    "tall": ("dense", 500_000, 100, UNIFORM, "gram", True),
    "tall float32": ("float32", 500_000, 100, UNIFORM, "gram", True),
    "just tall by its rows": ("dense", 40_000, 100, UNIFORM, "gram", True),
    "just tall by its elements": ("dense", 200_000, 10, UNIFORM, "gram", True),
    "just narrow enough for sums along a grid": ("dense", 9_000, 2_000, ALL, "gram", True),
    "too many features for sums along a grid": ("dense", 9_000, 2_001, ALL, "gram", False),
    "few rows, and sums along a grid": ("dense", 2_000, 9_000, ALL, "root", True),
    "too many rows for sums along a grid": ("dense", 2_001, 9_000, ALL, "root", False),
    "just narrow enough for a Gram matrix": ("dense", 6_000, 4_999, ALL, "gram", False),
    "too many features for a Gram matrix": ("dense", 6_000, 5_000, ALL, "scaling", False),
    "wide, and just few enough rows": ("dense", 5_000, 9_000, ALL, "root", False),
    "wide, and too many rows": ("dense", 5_001, 9_000, ALL, "scaling", False),
    "sparse and narrow": ("sparse", 10_000, 199, ALL, "gram", True),
    "sparse and tall": ("sparse", 1_000_000, 10, ALL, "gram", True),
    "sparse and not narrow": ("sparse", 10_000, 200, ALL, "scaling", False),
    "sparse and wide": ("sparse", 300, 1_000, ALL, "scaling", False),
    "sparse and wide, and just small enough": ("sparse", 100, 1_000, ALL, "root", True),
    "sparse and wide, and too many rows": ("sparse", 5_001, 20_000, ALL, "scaling", False),
}


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_fit_at_one_threshold(data, solver):
    kind, n, p, rows, whiten_by, _ = DATA[data]
    # Only the solver "auto" accelerates the iteration to the fixed point of coefficients and
    # scale. It does so for tall X, and for sparse X with more rows than features if the
    # whitening only scales the features.
    scaled = kind == "sparse" and whiten_by == "scaling" and n > p
    accelerate = (rows is UNIFORM or scaled) and solver == "auto"
    expected = Plan(rows, whiten_by, accelerate, MINIMISERS[solver], follow_path=False)
    assert choose(engine_of(kind, n, p), solver) == expected


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_fit_in_stages_or_from_given_coefficients(data, solver):
    kind, n, p, rows, whiten_by, _ = DATA[data]
    # The starting point may be far from the minimiser, where a uniform sample is not accurate
    # enough.
    rows = ROW_NORM if rows is UNIFORM else ALL
    expected = Plan(rows, whiten_by, False, MINIMISERS[solver], follow_path=False)
    assert choose(engine_of(kind, n, p), solver, staged=True) == expected


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("solver", SOLVERS)
def test_fits_along_a_grid(data, solver):
    kind, n, p, _, whiten_by, follow = DATA[data]
    # Fits along a grid start from the least-squares fit to all rows and need no sample.
    follow_path = follow and solver == "auto"
    expected = Plan(ALL, whiten_by, False, MINIMISERS[solver], follow_path)
    assert choose(engine_of(kind, n, p), solver, along_grid=True) == expected


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("along_grid", [False, True])
@pytest.mark.parametrize("staged", [False, True])
def test_a_penalty_with_an_l1_part(data, along_grid, staged):
    kind, n, p, rows, _, _ = DATA[data]
    plan = choose(
        engine_of(kind, n, p), "auto", composite=True, along_grid=along_grid, staged=staged
    )
    assert isinstance(plan.minimiser, WorkingSet)
    assert plan.start_from_sample == (rows is UNIFORM and not along_grid and not staged)
    assert plan[:3] == (ALL, "scaling", False)


def test_an_engine_that_cannot_sample_rows_is_never_sampled(monkeypatch):
    engine = engine_of("dense", 500_000, 100)
    monkeypatch.setattr(engine, "can_sample", False)
    assert choose(engine, "auto").rows is ALL
    assert not choose(engine, "auto").accelerate


@pytest.mark.parametrize("name", ["TALL_MIN_ELEMENTS", "TALL_MIN_ROWS_PER_FEATURE"])
def test_the_limits_of_tall_data_are_read_when_a_plan_is_chosen(monkeypatch, name):
    engine = engine_of("dense", 500_000, 100)
    monkeypatch.setattr(_solvers, name, np.inf)
    assert choose(engine, "auto").rows is ALL


@pytest.mark.parametrize("data", ["small", "tall", "sparse and wide"])
def test_no_pass_over_the_data_is_made_to_choose(data):
    kind, n, p, *_ = DATA[data]
    engine = engine_of(kind, n, p)
    for along_grid in (False, True):
        choose(engine, "auto", along_grid=along_grid)
    assert engine.n_passes == 0
