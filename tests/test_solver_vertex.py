"""At tiny thresholds the solver ends at a vertex, and the way there is a short cut only."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import sparse
from sklearn.linear_model import QuantileRegressor

from skrobust import _solver
from skrobust._design import as_design
from skrobust._objective import LinearObjective
from skrobust._problem import Survey, whiten
from skrobust._solver import solve
from skrobust._threads import Team
from skrobust._vertex import from_vertex

SHAPES = [(60, 2), (150, 7), (90, 30), (600, 12)]


def least_deviation(X, y, weight=None):
    """min Σ s|y − Xw − b| / Σ s by linear programming."""
    model = QuantileRegressor(quantile=0.5, alpha=0.0).fit(X, y, weight)
    return np.average(np.abs(y - model.predict(X)), weights=weight)


class Case:
    """Normal features, a third of the errors with heavy tails and on one side."""

    def __init__(self, n, p, weighted=False, kind="dense", alpha=0.0, seed=0):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(n, p))
        if kind == "csr":
            X = sparse.csr_array(X * (rng.random((n, p)) < 0.3))
        self.X, self.y = X, X @ rng.normal(size=p) + rng.normal(size=n)
        self.y[: n // 3] += 10 * rng.exponential(size=n // 3)
        self.weight = rng.uniform(0.1, 2, size=n) if weighted else None
        problem = Survey(as_design(X, Team()), self.weight, True).problem
        whitening = whiten(problem, alpha)
        self.objective = LinearObjective(
            problem.design, self.y, self.weight, whitening, (alpha, 0.0)
        )
        self.zero = np.zeros(self.objective.transform.shape[1])

    def solve(self, beta, tol=1e-8):
        return solve(self.objective, self.zero, beta, tol, 1000)


def no_vertex(*arguments):
    return None


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_from_near_it_is_the_minimiser(shape, weighted, kind):
    case, beta = Case(*shape, weighted, kind), 1e-7
    size = np.abs(case.solve(1.0).point.residual)
    threshold = np.sort(size)[min(2 * case.zero.size, size.size - 1)]
    near = case.solve(threshold).point
    theta = from_vertex(case.objective, near, threshold, beta)
    found = case.objective.at(theta, beta)
    assert found.norm < 1e-6
    assert np.count_nonzero(np.abs(found.residual) <= beta) == theta.size
    value = np.average(np.abs(found.residual), weights=case.weight)
    least = least_deviation(case.X, case.y, case.weight)
    assert value == pytest.approx(least, rel=1e-6)


@pytest.mark.parametrize("beta", [0.1, 1e-2, 1e-3, 1e-5, 1e-8])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_way_over_a_vertex_ends_where_the_other_does(monkeypatch, beta, shape, weighted):
    case = Case(*shape, weighted)
    over = case.solve(beta)
    monkeypatch.setattr(_solver, "from_vertex", no_vertex)
    other = case.solve(beta)
    assert over.converged
    assert other.converged
    assert over.point.value == pytest.approx(other.point.value, rel=1e-12)


@pytest.mark.parametrize("wrong", [1e-3, 1.0, 1e6])
def test_a_wrong_vertex_does_no_harm(monkeypatch, wrong):
    case = Case(150, 7)
    expected = case.solve(1e-4).point.value
    rng = np.random.default_rng(0)

    def somewhere(objective, point, threshold, beta):
        return point.theta + wrong * rng.normal(size=point.theta.size)

    monkeypatch.setattr(_solver, "from_vertex", somewhere)
    solution = case.solve(1e-4)
    assert solution.converged
    assert solution.point.value == pytest.approx(expected, rel=1e-12)


def test_with_a_penalty_no_vertex_is_looked_for(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a vertex was looked for")

    monkeypatch.setattr(_solver, "from_vertex", refuse)
    assert Case(150, 7, alpha=0.1).solve(1e-6).converged


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("beta", [1e-2, 1e-6])
def test_ties_and_dependent_rows_end_at_the_least_deviation(seed, beta):
    # Most vertices are degenerate: more rows than variables have residual zero.
    rng = np.random.default_rng(seed)
    X = rng.integers(-1, 2, size=(120, 5)).astype(float)
    y = np.round(X @ rng.normal(size=5) + rng.normal(size=120))
    problem = Survey(as_design(X, Team()), None, True).problem
    objective = LinearObjective(problem.design, y, None, whiten(problem, 0.0), (0.0, 0.0))
    solution = solve(objective, np.zeros(6), beta, 1e-8, 1000)
    assert solution.converged
    least = least_deviation(X, y)
    deviation = np.abs(solution.point.residual).mean()
    assert least * (1 - 1e-8) <= deviation <= least + beta / 2 + 1e-12


def test_where_the_rows_that_are_looked_at_are_dependent_there_is_none():
    X = np.zeros((50, 1))
    X[-1] = 1.0
    y = np.append(np.linspace(-0.1, 0.1, 49), 100.0)
    problem = Survey(as_design(X, Team()), None, True).problem
    objective = LinearObjective(problem.design, y, None, whiten(problem, 0.0), (0.0, 0.0))
    point = objective.at(np.zeros(2), 0.01)
    assert from_vertex(objective, point, 0.01, 1e-9) is None


@pytest.mark.parametrize("n", [1_000, 5_000])
@pytest.mark.parametrize("beta", [1e-2, 1e-4, 1e-6])
def test_a_small_threshold_takes_few_passes(n, beta):
    # Up to 130 and more where Newton's method has to find the rows of the vertex.
    case = Case(n, 20)
    swept = case.objective.design.n_sweeps
    assert case.solve(beta).converged
    assert case.objective.design.n_sweeps - swept < 50


# The line search -------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [1e-8, 1e-3, 1.0, 100.0])
@pytest.mark.parametrize("alpha", [0.0, 0.2])
@pytest.mark.parametrize("n", [60, 20_000])
@pytest.mark.parametrize("far", [1e-9, 1e-3, 1.0, 1e6])
def test_the_line_search_finds_where_the_slope_is_zero(beta, alpha, n, far):
    case = Case(n, 3, weighted=True, alpha=alpha)
    objective, point = case.objective, case.objective.at(case.zero, beta)
    direction = -point.gradient / np.sqrt(point.gradient @ point.gradient) / far
    end = objective.at(point.theta + direction, beta)
    change = end.residual - point.residual
    slope, _ = objective.along(point, direction, change, beta)
    length = _solver._line_search(objective, point, direction, end.residual, beta)
    assert length > 0
    assert slope(length * (1 - 1e-6)) <= 0 <= slope(length * (1 + 1e-6))


def test_the_line_search_stays_where_nothing_descends():
    case = Case(60, 3)
    point = case.objective.at(case.zero, 0.5)
    end = case.objective.at(point.theta + point.gradient, 0.5)
    args = case.objective, point, point.gradient, end.residual, 0.5
    assert _solver._line_search(*args) == 0.0


def test_the_line_search_goes_as_far_as_the_last_row_where_no_row_moves_inside():
    # Both rows pass the threshold once; beyond, nothing changes the slope, which is zero.
    X, y = np.zeros((2, 1)), np.array([-5.0, 5.0])
    problem = Survey(as_design(X, Team()), None, True).problem
    objective = LinearObjective(problem.design, y, None, whiten(problem, 0.0), (0.0, 0.0))
    point = objective.at(np.array([-20.0]), 1.0)
    end = objective.at(np.array([-19.0]), 1.0)
    length = _solver._line_search(objective, point, np.ones(1), end.residual, 1.0)
    assert_allclose(objective.at(point.theta + length, 1.0).gradient, 0.0, atol=1e-15)
