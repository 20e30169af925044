"""Newton's method finds the same minimum as other programs and estimates its suboptimality."""

from functools import partial
from importlib import import_module

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import least_squares, linprog

from skrobust._model.linear_loss import LinearLoss
from skrobust._solvers.lbfgs import lbfgs_then_newton
from skrobust._solvers.newton import newton, suboptimality

# The module is imported by name, because the package attribute `newton` is the function.
NEWTON_MODULE = import_module("skrobust._solvers.newton")
BETAS = [1e-3, 0.1, 1.0, 20.0]


class Case:
    """Correlated features in very different units, and heavy-tailed errors."""

    def __init__(self, make_objective, n=150, p=4, weighted=False, seed=0, y=None, **penalty):
        rng = np.random.default_rng(seed)
        self.X = rng.normal(size=(n, p)) @ rng.normal(size=(p, p)) * np.logspace(-3, 3, p)
        self.X += rng.normal(size=p) * np.logspace(-3, 3, p)
        signal = self.X @ (rng.normal(size=p) / np.logspace(-3, 3, p))
        self.y = signal + rng.standard_t(2, size=n) if y is None else y
        self.weight = rng.uniform(0.1, 2, size=n) if weighted else None
        self.objective = make_objective(self.X, self.y, self.weight, **penalty)
        self.penalty = penalty
        self.zero = np.zeros(self.objective.n_variables)

    def solve(self, beta, tol=1e-10, max_iter=2000, start=None, minimiser=newton):
        start = self.zero if start is None else start
        return minimiser(self.objective.at_threshold(beta), start, tol, max_iter)

    def suboptimality(self, solution, beta):
        return suboptimality(self.objective.at_threshold(beta), solution)

    def rows(self):
        return self.objective.linear.rows(slice(None))

    def scipy_value(self, beta):
        """Return the minimum found by SciPy's trust-region method."""
        Z, engine = self.rows(), self.objective.linear.data.engine
        s = np.ones(len(self.y)) if self.weight is None else self.weight
        a = self.penalty.get("alpha", 0.0)
        a *= beta if self.penalty.get("per_threshold") else 1.0
        scale = np.sqrt(s / s.sum())

        def value(coef):
            r = self.y - Z @ coef
            c = np.clip(r, -beta, beta)
            penalty = 0.5 * a * np.sum((coef[1:] / engine.scale) ** 2)
            return np.average(c * (r - c / 2), weights=s) + penalty

        if a == 0 and self.weight is None:
            options = {"loss": "huber", "f_scale": beta}

            def residual(coef):
                return self.y - Z @ coef

            def jacobian(coef):
                return -Z
        else:  # least squares of √(2 s h(r)), with derivative √s c/√(2h)
            ridge = np.sqrt(a) / engine.scale
            options = {}

            def parts(coef):
                r = self.y - Z @ coef
                c = np.clip(r, -beta, beta)
                return c, np.sqrt(np.maximum(2 * c * (r - c / 2), 1e-300))

            def residual(coef):
                return np.concatenate([scale * parts(coef)[1], ridge * coef[1:]])

            def jacobian(coef):
                c, root = parts(coef)
                top = (scale * -c / root)[:, None] * Z
                return np.vstack([top, np.diag(np.append(0.0, ridge))[1:]])

        start = np.linalg.lstsq(Z, self.y)[0]
        tolerances = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15}
        return value(least_squares(residual, start, jacobian, **tolerances, **options).x)


@pytest.fixture
def make_case(make_objective):
    return partial(Case, make_objective)


# The minimiser ---------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.05, 0.3, 1.0, 20.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("alpha", "per_threshold"), [(0.0, False), (0.2, False), (0.3, True)])
def test_the_value_is_that_of_scipys_least_squares(
    make_case, beta, weighted, alpha, per_threshold
):
    case = make_case(
        weighted=weighted, alpha=alpha, per_threshold=per_threshold, threshold=beta
    )
    solution = case.solve(beta)
    assert solution.converged
    reference = case.scipy_value(beta)
    assert solution.point.value <= reference * (1 + 1e-10)
    assert solution.point.value == pytest.approx(reference, rel=1e-6)


def test_an_infinite_threshold_gives_least_squares(make_case):
    case = make_case(weighted=True)
    root = np.sqrt(case.weight)
    expected = np.linalg.lstsq(root[:, None] * case.rows(), root * case.y)[0]
    coef = case.objective.coef(case.solve(np.inf).point.theta)
    assert_allclose(coef, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def least_absolute_deviation(Z, y, s):
    """Return min Σ s|y − Zc| / Σ s, by linear programming."""
    n, k = Z.shape
    cost = np.concatenate([np.zeros(k), s, s]) / s.sum()
    bounds = [(None, None)] * k + [(0, None)] * (2 * n)
    constraints = np.hstack([Z, np.eye(n), -np.eye(n)])
    return linprog(cost, A_eq=constraints, b_eq=y, bounds=bounds, method="highs").fun


@pytest.mark.parametrize("beta", [1e-2, 1e-4, 1e-7, 1e-10])
@pytest.mark.parametrize(
    ("n", "p", "weighted"), [(150, 4, False), (90, 7, True), (12, 5, True)]
)
def test_a_small_threshold_gives_least_absolute_deviations(make_case, beta, n, p, weighted):
    # Since ℓ_β ≤ |r| ≤ ℓ_β + β/2, the two minima differ by at most β/2.
    case = make_case(n, p, weighted, seed=3)
    solution = case.solve(beta)
    assert solution.converged
    s = np.ones(n) if case.weight is None else case.weight
    deviation = np.average(np.abs(solution.point.residual), weights=s)
    least = least_absolute_deviation(case.rows(), case.y, s)
    assert least * (1 - 1e-8) <= deviation <= least + beta / 2 + 1e-12


@pytest.mark.parametrize("beta", BETAS)
def test_a_converged_gradient_is_within_tol_and_the_evaluation_is_that_of_its_theta(
    make_case, beta
):
    case = make_case(weighted=True)
    for tol in (1e-1, 1e-3, 1e-8):
        solution = case.solve(beta, tol)
        assert solution.converged
        again = case.objective.at_threshold(beta).evaluate(solution.point.theta)
        within_rounding = solution.status.within_rounding
        assert solution.point.relative_gradient <= tol or within_rounding
        assert again.value == pytest.approx(solution.point.value, rel=1e-13)
        assert_allclose(again.gradient, solution.point.gradient, rtol=0, atol=1e-13 * beta)
        assert_allclose(again.residual, solution.point.residual, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("beta", BETAS)
def test_a_tolerance_of_zero_converges_to_rounding_and_the_status_says_so(make_case, beta):
    solution = make_case().solve(beta, tol=0.0)
    assert solution.converged
    assert "rounding" in solution.status.value or solution.point.relative_gradient == 0
    assert solution.point.relative_gradient < 1e-10


@pytest.mark.parametrize("beta", BETAS)
def test_the_minimum_does_not_depend_on_the_start(make_case, beta):
    case, rng = make_case(), np.random.default_rng(1)
    expected = case.solve(beta).point.value
    for size in (1e-3, 1.0, 1e3, 1e6):
        solution = case.solve(beta, start=size * rng.normal(size=case.zero.size))
        assert solution.converged
        assert solution.point.value == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("beta", BETAS)
def test_a_start_at_the_minimiser_takes_no_iteration(make_case, beta):
    case = make_case()
    theta = case.solve(beta).point.theta
    again = case.solve(beta, tol=1e-8, start=theta)
    assert again.converged
    assert again.n_iter == 0
    assert_allclose(again.point.theta, theta, rtol=0)


@pytest.mark.parametrize("beta", [1e-8, *BETAS, np.inf])
@pytest.mark.parametrize("max_iter", [0, 3, 2000])
def test_the_passes_of_a_solution_add_up_to_those_of_the_engine(make_case, beta, max_iter):
    case = make_case(p=6)
    before = case.objective.n_passes
    solution = case.solve(beta, max_iter=max_iter)
    assert sum(solution.passes.values()) == case.objective.n_passes - before
    assert set(solution.passes) <= {"newton", "lad_simplex"}
    assert all(n > 0 for n in solution.passes.values())


# Conjugate gradients ---------------------------------------------------------------------


@pytest.fixture
def matrix_free(monkeypatch):
    """Make the solver use conjugate gradients only."""
    monkeypatch.setattr(NEWTON_MODULE, "HESSIAN_OVERHEAD", -np.inf)
    monkeypatch.setattr(NEWTON_MODULE, "HESSIAN_MAX_VARIABLES", 0)

    def refuse(*arguments):
        raise AssertionError("a Hessian was formed")

    monkeypatch.setattr(LinearLoss, "hessian", refuse)


@pytest.mark.parametrize("minimiser", [newton, lbfgs_then_newton])
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize(("alpha", "per_threshold"), [(0.0, False), (0.1, False), (0.2, True)])
@pytest.mark.parametrize("weighted", [False, True])
def test_without_a_hessian_the_minimiser_is_the_same(
    request, make_case, minimiser, beta, alpha, per_threshold, weighted
):
    case = make_case(
        weighted=weighted, alpha=alpha, per_threshold=per_threshold, threshold=beta
    )
    direct = case.solve(beta)
    request.getfixturevalue("matrix_free")
    matrix_free = case.solve(beta, max_iter=10_000, minimiser=minimiser)
    assert direct.converged
    assert matrix_free.converged
    assert matrix_free.point.value == pytest.approx(direct.point.value, rel=1e-12)
    assert_allclose(matrix_free.point.residual, direct.point.residual, rtol=0, atol=1e-6)


@pytest.mark.parametrize("minimiser", [newton, lbfgs_then_newton])
def test_the_hessian_is_formed_where_conjugate_gradients_are_slow(
    monkeypatch, make_case, minimiser
):
    monkeypatch.setattr(NEWTON_MODULE, "HESSIAN_OVERHEAD", -np.inf)
    case = make_case(p=6)
    expected = case.solve(0.1).point.value
    monkeypatch.setattr(NEWTON_MODULE, "CG_MAX_PRODUCTS", 2)
    solution = case.solve(0.1, minimiser=minimiser)
    assert solution.converged
    assert solution.point.value == pytest.approx(expected, rel=1e-12)


# The line search -------------------------------------------------------------------------


def normal_problem(make_objective, n, p, threshold, alpha=0.0, weighted=False):
    """Return the objective for normal data with positive outliers in a third of the rows."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, p))
    y = X @ rng.normal(size=p) + rng.normal(size=n)
    y[: n // 3] += 10 * rng.exponential(size=n // 3)
    weight = rng.uniform(0.1, 2, size=n) if weighted else None
    return make_objective(X, y, weight, alpha=alpha, threshold=threshold)


@pytest.mark.parametrize("beta", [1e-8, 1e-3, 1.0, 100.0])
@pytest.mark.parametrize("alpha", [0.0, 0.2])
@pytest.mark.parametrize("n", [60, 20_000])
@pytest.mark.parametrize("far", [1e-9, 1e-3, 1.0, 1e6])
def test_the_line_search_finds_where_the_slope_is_zero(make_objective, beta, alpha, n, far):
    objective = normal_problem(make_objective, n, 3, beta, alpha, weighted=True)
    point = objective.evaluate(np.zeros(objective.n_variables))
    direction = -point.gradient / np.sqrt(point.gradient @ point.gradient) / far
    change = objective.evaluate(point.theta + direction).residual - point.residual
    weight, scale = objective.linear.data.weight, objective.linear.data.engine.scale
    v, dv = (objective.coef(theta)[1:] / scale for theta in (point.theta, direction))

    def slope(t):
        clipped = np.clip(point.residual + t * change, -beta, beta)
        return np.average(change * clipped, weights=weight) + alpha * (dv @ (v + t * dv))

    before = objective.n_passes
    length = objective.line_minimum(point, direction, change)
    assert objective.n_passes == before
    assert length > 0
    assert slope(length * (1 - 1e-6)) <= 0 <= slope(length * (1 + 1e-6))


def test_the_line_search_returns_zero_where_the_direction_ascends(make_objective):
    objective = normal_problem(make_objective, 60, 3, 0.5)
    point = objective.evaluate(np.zeros(objective.n_variables))
    end = objective.evaluate(point.theta + point.gradient)
    change = end.residual - point.residual
    assert objective.line_minimum(point, point.gradient, change) == 0.0


def test_the_line_search_goes_to_the_last_breakpoint_where_no_row_stays_inside(make_objective):
    # Each residual crosses the threshold once; beyond the last crossing, the slope remains
    # zero.
    objective = make_objective(np.zeros((2, 1)), np.array([-5.0, 5.0]))
    point = objective.evaluate(np.array([-20.0]))
    change = objective.evaluate(np.array([-19.0])).residual - point.residual
    length = objective.line_minimum(point, np.ones(1), change)
    assert_allclose(objective.evaluate(point.theta + length).gradient, 0.0, atol=1e-15)


# Suboptimality ---------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.1, 1.0, 20.0])
@pytest.mark.parametrize("minimiser", [newton, lbfgs_then_newton])
@pytest.mark.parametrize("step", ["direct", "matrix_free"])
@pytest.mark.parametrize("seed", range(3))
def test_the_estimated_suboptimality_is_of_the_size_of_the_true_one(
    request, make_case, beta, minimiser, step, seed
):
    case = make_case(n=300, weighted=True, seed=seed)
    least = case.solve(beta, tol=0.0, max_iter=10_000).point.value
    if step == "matrix_free":
        request.getfixturevalue(step)
    compared, start = 0, 3 * np.random.default_rng(seed).normal(size=case.zero.size)
    for tol, max_iter in [(0, 1), (0, 2), (0, 4), (0.1, 500), (1e-2, 500), (1e-4, 500)]:
        solution = case.solve(beta, tol, max_iter, start, minimiser)
        true, estimate = solution.point.value - least, case.suboptimality(solution, beta)
        if true > 1e-11 * least:
            compared += 1
            # Because residuals cross the threshold along the step, the quadratic model gives
            # the suboptimality only to within a factor. Conjugate gradients overestimate the
            # smallest eigenvalue.
            assert estimate >= true * (0.5 if step == "direct" else 0.2)
            assert estimate <= 20 * true
        else:
            assert estimate <= 1e-9 * least
    # If all absolute residuals are below the threshold, a single Newton step reaches the
    # minimum, and there is nothing to compare.
    assert compared >= 1 or (step == "direct" and beta == 20.0)


@pytest.mark.parametrize("step", ["direct", "matrix_free"])
def test_the_estimated_suboptimality_is_at_most_the_value(request, make_case, step):
    # Since F ≥ 0, F − min F ≤ F whatever the curvature.
    if step == "matrix_free":
        request.getfixturevalue(step)
    case = make_case()
    for beta in BETAS:
        for max_iter in (1, 2, 5):
            solution = case.solve(beta, tol=0.0, max_iter=max_iter)
            assert 0 <= case.suboptimality(solution, beta) <= solution.point.value


@pytest.mark.parametrize("beta", BETAS)
def test_the_estimated_suboptimality_of_the_minimiser_is_negligible(make_case, beta):
    case = make_case()
    solution = case.solve(beta)
    assert 0 <= case.suboptimality(solution, beta) <= 1e-12 * solution.point.value


# Limits ----------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [1e-6, *BETAS])
@pytest.mark.parametrize("step", ["direct", "matrix_free"])
def test_iterations_are_no_more_than_max_iter(request, make_case, beta, step):
    if step == "matrix_free":
        request.getfixturevalue(step)
    case = make_case(p=6)
    for max_iter in (1, 2, 3, 5, 8, 13):
        solution = case.solve(beta, tol=0.0, max_iter=max_iter)
        assert solution.n_iter <= max_iter
        if not solution.converged:
            assert solution.n_iter == max_iter
            assert "max_iter" in solution.status.value


@pytest.mark.parametrize("beta", BETAS)
def test_with_max_iter_zero_the_start_is_returned(make_case, beta):
    # max_iter is 0 in the last stages of a schedule if earlier stages used up all iterations.
    case = make_case()
    start = np.full(case.zero.size, 0.1)
    solution = case.solve(beta, max_iter=0, start=start)
    assert solution.n_iter == 0
    assert not solution.converged
    assert_allclose(solution.point.theta, start, rtol=0)
    assert solution.point.value == case.objective.at_threshold(beta).evaluate(start).value


@pytest.mark.parametrize("beta", BETAS)
def test_more_iterations_never_increase_the_value(make_case, beta):
    case = make_case()
    values = [case.solve(beta, tol=0.0, max_iter=m).point.value for m in range(30)]
    assert values[-1] < values[0]
    # While the threshold is lowered, iterates are minimisers at larger thresholds, so the
    # objective at threshold beta may increase slightly from one to the next.
    assert np.all(np.diff(values) <= 1e-12 * np.array(values[1:]) + beta * beta / 2)


# Unusual data ----------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [1e-9, 1.0, 1e9, np.inf])
@pytest.mark.parametrize(
    "y",
    [
        np.zeros(30),
        np.ones(30),
        np.eye(30)[0],
        np.where(np.arange(30) < 29, 0.0, 1e12),
        np.sign(np.arange(30) - 14.5),
        np.linspace(-1, 1, 30) * 1e-100,
        np.tan(np.arange(30.0)),
    ],
)
def test_awkward_targets_are_solved_without_a_warning(make_case, beta, y):
    solution = make_case(n=30, p=3, y=y).solve(beta)
    assert solution.converged, solution.status
    assert np.isfinite(solution.point.value)


@pytest.mark.parametrize("beta", [1e-9, 1.0, np.inf])
def test_an_exact_fit_is_found(make_case, beta):
    y = make_case(n=30, p=3).rows() @ [1.0, 2.0, -3.0, 4.0]
    solution = make_case(n=30, p=3, y=y).solve(beta)
    assert solution.converged
    assert np.abs(solution.point.residual).max() < 1e-12


def test_without_variables_there_is_nothing_to_minimise(make_objective):
    y = np.arange(20.0)
    objective = make_objective(np.zeros((20, 1)), y, fit_intercept=False)
    solution = newton(objective, np.zeros(0), 1e-8, 100)
    assert solution.converged
    assert_allclose(solution.point.residual, y)
    assert suboptimality(objective, solution) == 0


def test_a_flat_minimum_between_two_clusters_is_found(make_objective):
    # Any intercept between −99 and 99 is optimal. The value at the solution is the minimum for
    # this threshold, not for a larger threshold of the continuation.
    objective = make_objective(np.zeros((20, 1)), np.repeat([-100.0, 100.0], 10))
    for start in (-150.0, -3.0, 0.0, 99.5):
        solution = newton(objective, np.array([start]), 1e-8, 100)
        assert solution.converged
        assert solution.point.value == pytest.approx(99.5)


@pytest.mark.parametrize("beta", [1e-4, 1e-2, 0.5])
def test_on_data_with_ties_the_value_is_that_of_the_given_threshold(make_objective, beta):
    # With repeated rows and integer data, many points are optimal at only one of the decreasing
    # thresholds of the continuation.
    for seed in range(60):
        rng = np.random.default_rng(seed)
        X, y = rng.integers(0, 2, size=(8, 2)).astype(float), 10.0 * rng.integers(-3, 4, 8)
        objective = make_objective(X, y, threshold=beta)
        solution = newton(objective, np.zeros(objective.n_variables), 1e-8, 500)
        again = objective.evaluate(solution.point.theta)
        assert solution.converged
        assert solution.point.value == pytest.approx(again.value, rel=1e-12, abs=1e-30)


def test_a_solution_cannot_be_changed(make_case):
    solution = make_case().solve(1.0)
    with pytest.raises(AttributeError):
        solution.converged = False
    with pytest.raises(AttributeError):
        solution.n_iter = 0


def test_a_vertex_whose_multiplier_is_beyond_the_threshold_is_no_minimum(make_objective):
    # At a vertex, one row has residual 0. The threshold is far below the rounding error of y,
    # so a Newton step at either vertex changes this residual by less than its rounding error.
    # The minimum is at the vertex of the second row, whose absolute residual changes faster
    # with the coefficient.
    X, y = np.array([[1.0], [3.0]]), np.array([1000.0, 3001.0])
    objective = make_objective(X, y, threshold=1e-16, fit_intercept=False)

    def at(w):
        coef = np.array([0.0, w * objective.engine.scale[0]])
        return objective.evaluate(objective.whitening.coordinates(coef))

    rounding = NEWTON_MODULE.RESIDUAL_ROUNDING
    assert not NEWTON_MODULE._within_rounding(objective, at(1000.0), rounding)
    assert NEWTON_MODULE._within_rounding(objective, at(3001.0 / 3.0), rounding)
