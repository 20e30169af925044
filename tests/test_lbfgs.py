"""L-BFGS and Newton's method reach the same minimum; "auto" uses L-BFGS if it saves time."""

import itertools
from functools import partial
from importlib import import_module

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skrobust._solvers.lbfgs import (
    LBFGS_GTOL,
    LBFGS_MAX_EVALUATIONS,
    lbfgs,
    lbfgs_descent,
    lbfgs_then_newton,
)
from skrobust._solvers.newton import is_matrix_free, newton

# The modules are imported by name, because the package attributes `newton` and `lbfgs` are
# functions.
NEWTON_MODULE = import_module("skrobust._solvers.newton")
LBFGS_MODULE = import_module("skrobust._solvers.lbfgs")
BETAS = [1e-6, 1e-3, 0.1, 1.0, 20.0]
MINIMISERS = [lbfgs, newton, lbfgs_then_newton]


class Case:
    """Correlated features in very different units, and heavy-tailed errors."""

    def __init__(self, make_objective, n=150, p=6, weighted=False, seed=0, **penalty):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(n, p)) @ rng.normal(size=(p, p)) * np.logspace(-3, 3, p)
        y = X @ (rng.normal(size=p) / np.logspace(-3, 3, p)) + rng.standard_t(2, size=n)
        weight = rng.uniform(0.1, 2, size=n) if weighted else None
        self.objective = make_objective(X, y, weight, **penalty)
        self.start = 3 * rng.normal(size=self.objective.n_variables)

    def solve(self, minimiser, beta, tol=1e-10, max_iter=1000, start=None):
        start = self.start if start is None else start
        return minimiser(self.objective.at_threshold(beta), start, tol, max_iter)


@pytest.fixture
def make_case(make_objective):
    return partial(Case, make_objective)


@pytest.fixture
def never_small(monkeypatch):
    monkeypatch.setattr(LBFGS_MODULE, "NEWTON_FIRST_MAX_ELEMENTS", 0)


@pytest.fixture
def never_matrix_free(monkeypatch):
    monkeypatch.setattr(NEWTON_MODULE, "HESSIAN_OVERHEAD", np.inf)


@pytest.fixture
def always_matrix_free(monkeypatch):
    monkeypatch.setattr(NEWTON_MODULE, "HESSIAN_OVERHEAD", -np.inf)
    monkeypatch.setattr(NEWTON_MODULE, "HESSIAN_MAX_VARIABLES", 0)


FORMS = ["never_matrix_free", "always_matrix_free"]

# The same minimum ------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("beta", "alpha", "per_threshold"),
    [
        *itertools.product([*BETAS, np.inf], [0.0, 0.2], [False]),
        *itertools.product(BETAS, [0.3], [True]),
    ],
)
def test_all_minimisers_reach_the_same_minimum(
    request, make_case, form, weighted, beta, alpha, per_threshold
):
    request.getfixturevalue(form)
    case = make_case(
        weighted=weighted, alpha=alpha, per_threshold=per_threshold, threshold=min(beta, 1.0)
    )
    solutions = [case.solve(minimiser, beta) for minimiser in MINIMISERS]
    for solution in solutions:
        assert solution.converged
        assert solution.point.value == pytest.approx(solutions[0].point.value, rel=1e-12)
        residual = solutions[0].point.residual
        assert_allclose(solution.point.residual, residual, rtol=0, atol=1e-6)


@pytest.mark.parametrize("minimiser", MINIMISERS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("beta", BETAS)
def test_the_minimum_does_not_depend_on_the_start(request, make_case, minimiser, form, beta):
    request.getfixturevalue(form)
    case, rng = make_case(), np.random.default_rng(1)
    expected = case.solve(newton, beta).point.value
    for size in (0.0, 1e-3, 1e6):
        start = size * rng.normal(size=case.start.size)
        solution = case.solve(minimiser, beta, start=start)
        assert solution.converged
        assert solution.point.value == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("minimiser", MINIMISERS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("beta", BETAS)
def test_a_start_at_the_minimiser_takes_no_iteration(request, make_case, minimiser, form, beta):
    request.getfixturevalue(form)
    case = make_case()
    theta = case.solve(newton, beta).point.theta
    again = case.solve(minimiser, beta, tol=1e-8, start=theta)
    assert again.converged
    assert again.n_iter == 0
    assert_allclose(again.point.theta, theta, rtol=0)


# Which algorithm runs --------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.1, 3.0, 5.0, 20.0, np.inf])
@pytest.mark.parametrize(
    ("overhead", "per_element"), [(3_000_000, 4), (0, 4), (0, 3), (0, 0.05), (-np.inf, 4)]
)
def test_a_newton_step_is_matrix_free_where_a_hessian_would_cost_more_than_passes(
    monkeypatch, make_case, beta, overhead, per_element
):
    monkeypatch.setattr(NEWTON_MODULE, "HESSIAN_OVERHEAD", overhead)
    monkeypatch.setattr(NEWTON_MODULE, "HESSIAN_OPERATIONS_PER_ELEMENT", per_element)
    objective = make_case(n=150, p=6).objective.at_threshold(beta)
    point = objective.evaluate(np.zeros(7))
    n_rows = objective.n_hessian_rows(objective.psi_deriv(point))
    expected = n_rows * 7**2 > overhead + per_element * 150 * 6
    assert is_matrix_free(objective, point) == expected


@pytest.mark.parametrize("beta", [0.1, 3.0, 5.0, 20.0, np.inf])
@pytest.mark.parametrize("max_elements", [0, 899, 900])
def test_auto_runs_lbfgs_first_where_x_has_many_elements(
    monkeypatch, make_case, beta, max_elements
):
    monkeypatch.setattr(LBFGS_MODULE, "NEWTON_FIRST_MAX_ELEMENTS", max_elements)
    case = make_case(n=150, p=6)
    objective, start = case.objective.at_threshold(beta), np.zeros(7)
    point = objective.evaluate(start)
    passes = case.solve(lbfgs_then_newton, beta, start=start).passes
    # If few absolute residuals are at most beta, Newton's method runs at a sequence of
    # decreasing thresholds, without L-BFGS.
    few_inside = np.count_nonzero(np.abs(point.residual) <= beta) <= 5 * 7
    assert ("lbfgs" in passes) == (max_elements < 900 and not few_inside)
    if "lbfgs" in passes:
        assert next(iter(passes)) == "lbfgs"


def test_auto_is_newton_where_x_is_small(make_case):
    case = make_case()
    for beta in BETAS:
        auto = case.solve(lbfgs_then_newton, beta)
        alone = case.solve(newton, beta)
        assert auto.passes == alone.passes
        assert auto.n_iter == alone.n_iter
        assert_allclose(auto.point.theta, alone.point.theta, rtol=0)


def test_auto_lowers_the_threshold_where_few_rows_are_inside(never_small, make_case):
    assert "lbfgs" not in make_case().solve(lbfgs_then_newton, 1e-3).passes


def test_auto_hands_over_to_newton_near_the_minimiser(never_small, make_case):
    case = make_case()
    theta = case.solve(newton, 1.0).point.theta
    near = theta + 0.1 * LBFGS_GTOL / np.sqrt(theta.size)
    solution = case.solve(lbfgs_then_newton, 1.0, start=near)
    assert solution.converged
    assert solution.n_iter > 0
    assert set(solution.passes) == {"newton"}
    passes = case.solve(lbfgs_then_newton, 5.0).passes
    assert passes["newton"] > 0
    # SciPy may exceed its limit on evaluations by those of one line search (at most 20), and
    # the starting point needs one more evaluation.
    assert passes["lbfgs"] <= LBFGS_MAX_EVALUATIONS + 21


@pytest.mark.parametrize("beta", BETAS)
def test_lbfgs_runs_first_whatever_the_newton_step(make_case, beta):
    passes = make_case().solve(lbfgs, beta).passes
    assert next(iter(passes)) == "lbfgs"
    assert passes["lbfgs"] > 1


@pytest.mark.parametrize("minimiser", MINIMISERS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("beta", [*BETAS, np.inf])
@pytest.mark.parametrize("max_iter", [0, 1, 4, 1000])
def test_the_passes_of_a_solution_add_up_to_those_of_the_engine(
    request, make_case, minimiser, form, beta, max_iter
):
    request.getfixturevalue(form)
    case = make_case()
    before = case.objective.n_passes
    solution = case.solve(minimiser, beta, max_iter=max_iter)
    assert sum(solution.passes.values()) == case.objective.n_passes - before
    assert set(solution.passes) <= {"lbfgs", "newton", "lad_simplex"}


# Limits ----------------------------------------------------------------------------------


@pytest.mark.parametrize("minimiser", MINIMISERS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("beta", BETAS)
def test_iterations_are_no_more_than_max_iter(request, make_case, minimiser, form, beta):
    request.getfixturevalue(form)
    case = make_case()
    for max_iter in (1, 2, 3, 5, 8, 13):
        solution = case.solve(minimiser, beta, tol=0.0, max_iter=max_iter)
        assert solution.n_iter <= max_iter
        if not solution.converged:
            assert solution.n_iter == max_iter
            assert "max_iter" in solution.status.value


@pytest.mark.parametrize("minimiser", MINIMISERS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("beta", BETAS)
def test_with_max_iter_zero_the_start_is_returned(request, make_case, minimiser, form, beta):
    request.getfixturevalue(form)
    case = make_case()
    solution = case.solve(minimiser, beta, max_iter=0)
    assert solution.n_iter == 0
    assert not solution.converged
    assert_allclose(solution.point.theta, case.start, rtol=0)
    value = case.objective.at_threshold(beta).evaluate(case.start).value
    assert solution.point.value == value


@pytest.mark.parametrize("minimiser", MINIMISERS)
@pytest.mark.parametrize("beta", [1e-3, 0.1, 1.0, 20.0])
def test_more_iterations_never_increase_the_value(
    never_matrix_free, make_case, minimiser, beta
):
    case = make_case(p=4)
    start = np.zeros(case.start.size)
    values = [
        case.solve(minimiser, beta, 0.0, m, start).point.value
        for m in (*range(20), 30, 50, 1000)
    ]
    assert values[-1] < values[0]
    # While the threshold is lowered, iterates are minimisers at larger thresholds, so the
    # objective at threshold beta may increase slightly from one to the next.
    assert np.all(np.diff(values) <= 1e-12 * np.array(values[1:]) + beta * beta / 2)


# L-BFGS alone ----------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.1, 1.0, 20.0, np.inf])
def test_lbfgs_descends_to_its_tolerance(make_case, beta):
    case = make_case()
    objective = case.objective.at_threshold(beta)
    start = objective.evaluate(case.start)
    point, n_iter = lbfgs_descent(objective, start, 1e-5, 1000, 1000)
    assert 0 < n_iter < 200
    assert point.relative_gradient <= 1e-5
    again = objective.evaluate(point.theta)
    assert again.value == point.value
    assert_allclose(again.residual, point.residual, rtol=0)
    assert_allclose(again.gradient, point.gradient, rtol=0)


def test_lbfgs_does_not_write_over_the_residuals_of_the_start(make_case):
    case = make_case()
    start = case.objective.evaluate(case.start)
    residual = start.residual.copy()
    lbfgs_descent(case.objective, start, 1e-5, 1000, 1000)
    assert_allclose(start.residual, residual, rtol=0)


@pytest.mark.parametrize("size", [0.0, 1e-170])
def test_lbfgs_returns_the_start_where_squares_of_the_gradient_vanish(make_objective, size):
    X = np.random.default_rng(0).normal(size=(30, 2))
    objective = make_objective(X, size * X[:, 0])
    start = objective.evaluate(np.zeros(3))
    point, n_iter = lbfgs_descent(objective, start, 0.0, 100, 100)
    assert point is start
    assert n_iter == 0
