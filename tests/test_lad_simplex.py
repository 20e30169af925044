"""At tiny thresholds, the minimiser is near a vertex, which a simplex method finds quickly.

At a vertex, at least as many residuals are zero as there are variables. With an L1 penalty,
coefficients that are zero also count.
"""

from functools import partial
from importlib import import_module

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import linprog
from sklearn.linear_model import QuantileRegressor

from skrobust._solvers.lad_simplex import l1_vertex, lad_vertex
from skrobust._solvers.newton import newton

# The module is imported by name, because the package attribute `newton` is the function.
NEWTON_MODULE = import_module("skrobust._solvers.newton")
SHAPES = [(60, 2), (150, 7), (90, 30), (600, 12)]


def least_deviation(X, y, weight=None):
    """Return min Σ s|y − Xw − b| / Σ s, by linear programming."""
    model = QuantileRegressor(quantile=0.5, alpha=0.0).fit(X, y, weight)
    return np.average(np.abs(y - model.predict(X)), weights=weight)


class Case:
    """Normal features and errors, and positive outliers in a third of the rows."""

    def __init__(self, make_objective, n, p, weighted=False, kind="dense", alpha=0.0, seed=0):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(n, p))
        if kind == "csr":
            X = sparse.csr_array(X * (rng.random((n, p)) < 0.3))
        self.X, self.y = X, X @ rng.normal(size=p) + rng.normal(size=n)
        self.y[: n // 3] += 10 * rng.exponential(size=n // 3)
        self.weight = rng.uniform(0.1, 2, size=n) if weighted else None
        self.objective = make_objective(self.X, self.y, self.weight, alpha=alpha)
        self.zero = np.zeros(self.objective.n_variables)

    def solve(self, beta, tol=1e-8):
        return newton(self.objective.at_threshold(beta), self.zero, tol, 1000)


@pytest.fixture
def make_case(make_objective):
    return partial(Case, make_objective)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_from_a_near_point_the_vertex_is_the_minimiser(make_case, shape, weighted, kind):
    case, beta = make_case(*shape, weighted, kind), 1e-7
    size = np.abs(case.solve(1.0).point.residual)
    threshold = np.sort(size)[min(2 * case.zero.size, size.size - 1)]
    near = case.solve(threshold).point
    theta = lad_vertex(case.objective.at_threshold(threshold), near, beta)
    vertex = case.objective.at_threshold(beta).evaluate(theta)
    assert vertex.relative_gradient < 1e-6
    assert np.count_nonzero(np.abs(vertex.residual) <= beta) == theta.size
    value = np.average(np.abs(vertex.residual), weights=case.weight)
    least = least_deviation(case.X, case.y, case.weight)
    assert value == pytest.approx(least, rel=1e-6)


@pytest.mark.parametrize("beta", [0.1, 1e-2, 1e-3, 1e-5, 1e-8])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_minimum_is_the_same_without_the_vertex(
    monkeypatch, make_case, beta, shape, weighted
):
    case = make_case(*shape, weighted)
    with_vertex = case.solve(beta)
    monkeypatch.setattr(NEWTON_MODULE, "lad_vertex", lambda *arguments: None)
    without = case.solve(beta)
    assert with_vertex.converged
    assert without.converged
    assert "lad_simplex" not in without.passes
    assert with_vertex.point.value == pytest.approx(without.point.value, rel=1e-12)


@pytest.mark.parametrize("error", [1e-3, 1.0, 1e6])
def test_a_wrong_vertex_does_not_change_the_result(monkeypatch, make_case, error):
    case = make_case(150, 7)
    expected = case.solve(1e-4).point.value
    rng = np.random.default_rng(0)

    def wrong_vertex(objective, point, beta):
        return point.theta + error * rng.normal(size=point.theta.size)

    monkeypatch.setattr(NEWTON_MODULE, "lad_vertex", wrong_vertex)
    solution = case.solve(1e-4)
    assert solution.converged
    assert solution.passes["lad_simplex"] > 0
    assert solution.point.value == pytest.approx(expected, rel=1e-12)


def test_with_a_penalty_no_vertex_is_searched_for(monkeypatch, make_case):
    def refuse(*arguments):
        raise AssertionError("a vertex was looked for")

    monkeypatch.setattr(NEWTON_MODULE, "lad_vertex", refuse)
    assert make_case(150, 7, alpha=0.1).solve(1e-6).converged


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("beta", [1e-2, 1e-6])
def test_data_with_ties_and_dependent_rows_reach_the_least_deviation(
    make_objective, seed, beta
):
    # Most vertices are degenerate: more rows than variables have zero residuals.
    rng = np.random.default_rng(seed)
    X = rng.integers(-1, 2, size=(120, 5)).astype(float)
    y = np.round(X @ rng.normal(size=5) + rng.normal(size=120))
    solution = newton(make_objective(X, y, threshold=beta), np.zeros(6), 1e-8, 1000)
    assert solution.converged
    least = least_deviation(X, y)
    deviation = np.abs(solution.point.residual).mean()
    assert least * (1 - 1e-8) <= deviation <= least + beta / 2 + 1e-12


def test_there_is_no_vertex_where_the_near_rows_are_dependent(make_objective):
    X = np.zeros((50, 1))
    X[-1] = 1.0
    y = np.append(np.linspace(-0.1, 0.1, 49), 100.0)
    objective = make_objective(X, y, threshold=0.01)
    point = objective.evaluate(np.zeros(2))
    assert lad_vertex(objective, point, 1e-9) is None


@pytest.mark.parametrize("n", [1_000, 5_000])
@pytest.mark.parametrize("beta", [1e-2, 1e-4, 1e-6])
def test_a_small_threshold_takes_few_passes(make_case, n, beta):
    # Newton's method would need at least 130 passes to find the rows of the vertex by itself.
    case = make_case(n, 20)
    before = case.objective.n_passes
    assert case.solve(beta).converged
    assert case.objective.n_passes - before < 50


def test_rows_without_weight_are_no_rows_of_a_vertex(make_objective):
    # Validation rows of a fold, for example, have zero weight. In the first group, the rows
    # above and below the zero-weight row have equal total weights, so the multiplier of this
    # row is zero.
    rng, beta = np.random.default_rng(0), 1e-7
    X = np.repeat(np.eye(3), [5, 15, 15], axis=0)
    y = np.concatenate([[0.3, 0.3, -0.3, -0.3, 0.0], rng.normal(size=30)])
    weight = np.ones(35)
    weight[4] = 0.0
    passing = make_objective(X, y, weight, threshold=0.2, fit_intercept=False)
    near = newton(passing, np.zeros(3), 1e-8, 1000).point
    vertex = passing.at_threshold(beta).evaluate(lad_vertex(passing, near, beta))
    value = np.average(np.abs(vertex.residual), weights=weight)
    assert value == pytest.approx(least_deviation(X, y, weight), rel=1e-6)


# With an L1 penalty ----------------------------------------------------------------------


def least_sum(Z, y, weight, slope, lower):
    """Return the minimum of Σ weight |y − Zx| + Σ slope |x| over x ≥ lower."""
    n, unbounded = len(y), np.isneginf(lower)
    costs = np.concatenate([slope, np.where(unbounded, slope, 1e9), weight, weight])
    return linprog(costs, A_eq=np.hstack([Z, -Z, np.eye(n), -np.eye(n)]), b_eq=y).fun


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("shape", [(60, 3), (40, 12), (15, 30)])
@pytest.mark.parametrize("seed", range(5))
def test_the_vertex_of_an_l1_penalty_is_the_minimiser(seed, shape, bounded):
    rng = np.random.default_rng(seed)
    n, k = shape
    Z, weight = rng.normal(size=shape), rng.uniform(0.5, 1.5, size=n)
    Z[:, 0] = 1.0
    y = Z[:, 1] - Z[:, 2] + rng.standard_t(2, size=n)
    slope = rng.uniform(0.5, 4.0, size=k)
    slope[0] = 0.0
    lower = np.full(k, -np.inf)
    lower[1:] = 0.0 if bounded else -np.inf
    x, beta = np.zeros(k), 1e-9
    x[0] = np.median(y)
    # No absolute residual exceeds this threshold, so any row may become a row of the vertex.
    threshold = float(np.abs(y - Z @ x).max())
    vertex = l1_vertex(Z, y - Z @ x, weight, x, slope, lower, threshold, beta)
    residual = y - Z @ vertex.coef
    value = weight @ np.abs(residual) + slope @ np.abs(vertex.coef)
    assert (vertex.coef >= lower).all()
    assert value == pytest.approx(least_sum(Z, y, weight, slope, lower), rel=1e-7)
    # The rows of the vertex have residuals βψ, where ψ satisfies the optimality conditions.
    assert np.count_nonzero(np.abs(residual) <= beta) == vertex.rows.size
    assert vertex.rows.size == 1 + np.count_nonzero(vertex.coef[1:])
    np.testing.assert_allclose(residual[vertex.rows], beta * vertex.psi, atol=1e-13)
    psi = np.sign(residual)
    psi[vertex.rows] = vertex.psi
    v = Z.T @ (weight * psi)
    nonzero = vertex.coef != 0
    expected = (slope * np.sign(vertex.coef))[nonzero]
    np.testing.assert_allclose(v[nonzero], expected, atol=1e-10)
    limited = v if bounded else np.abs(v)
    assert (limited[~nonzero] <= slope[~nonzero] + 1e-8).all()
