"""The solver finds the minimiser that independent solvers find, and knows how near it is."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import least_squares, linprog

from skrobust import _solver
from skrobust._design import as_design
from skrobust._objective import LinearObjective
from skrobust._problem import Survey, whiten
from skrobust._solver import excess, solve
from skrobust._threads import Team

BETAS = [1e-3, 0.1, 1.0, 20.0]


class Case:
    """Correlated features in awkward units, errors with heavy tails."""

    def __init__(self, n=150, p=4, weighted=False, alpha=(0.0, 0.0), beta=1.0, seed=0, y=None):
        rng = np.random.default_rng(seed)
        self.X = rng.normal(size=(n, p)) @ rng.normal(size=(p, p)) * np.logspace(-3, 3, p)
        self.X += rng.normal(size=p) * np.logspace(-3, 3, p)
        signal = self.X @ (rng.normal(size=p) / np.logspace(-3, 3, p))
        self.y = signal + rng.standard_t(2, size=n) if y is None else y
        self.weight = rng.uniform(0.1, 2, size=n) if weighted else None
        self.alpha = alpha
        problem = Survey(as_design(self.X, Team()), self.weight, True).problem
        whitening = whiten(problem, alpha[0] + alpha[1] * beta)
        self.objective = LinearObjective(problem.design, self.y, self.weight, whitening, alpha)
        self.zero = np.zeros(self.objective.transform.shape[1])

    def solve(self, beta, tol=1e-10, max_iter=2000, start=None):
        return solve(self.objective, self.zero if start is None else start, beta, tol, max_iter)

    def scipy_value(self, beta):
        """The least value that SciPy's trust region finds, in standardised features."""
        Z = self.objective.design.rows(slice(None))
        s = np.ones(len(self.y)) if self.weight is None else self.weight
        a = self.objective.ridge(beta)
        scale = np.sqrt(s / s.sum())

        def value(coef):
            r = self.y - Z @ coef
            c = np.clip(r, -beta, beta)
            penalty = 0.5 * a * np.sum((coef[1:] / self.objective.design.scale) ** 2)
            return np.average(c * (r - c / 2), weights=s) + penalty

        if a == 0 and self.weight is None:
            options = {"loss": "huber", "f_scale": beta}

            def residual(coef):
                return self.y - Z @ coef

            def jacobian(coef):
                return -Z
        else:  # as least squares of √(2 s h(r)), whose derivative is √s c/√(2h)
            ridge = np.sqrt(a) / self.objective.design.scale
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


@pytest.mark.parametrize("beta", [0.05, 0.3, 1.0, 20.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("alpha", [(0.0, 0.0), (0.2, 0.0), (0.0, 0.3)])
def test_the_value_is_that_of_scipys_least_squares(beta, weighted, alpha):
    case = Case(weighted=weighted, alpha=alpha, beta=beta)
    solution = case.solve(beta)
    assert solution.converged
    reference = case.scipy_value(beta)
    assert solution.point.value <= reference * (1 + 1e-10)
    assert solution.point.value == pytest.approx(reference, rel=1e-6)


def test_without_a_threshold_it_is_least_squares():
    case = Case(weighted=True)
    root = np.sqrt(case.weight)
    Z = case.objective.design.rows(slice(None))
    expected = np.linalg.lstsq(root[:, None] * Z, root * case.y)[0]
    found = case.objective.coef(case.solve(np.inf).point.theta)
    assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def least_absolute_deviation(Z, y, s):
    """min Σ s|y − Zc| / Σ s by linear programming."""
    n, k = Z.shape
    cost = np.concatenate([np.zeros(k), s, s]) / s.sum()
    bounds = [(None, None)] * k + [(0, None)] * (2 * n)
    constraints = np.hstack([Z, np.eye(n), -np.eye(n)])
    return linprog(cost, A_eq=constraints, b_eq=y, bounds=bounds, method="highs").fun


@pytest.mark.parametrize("beta", [1e-2, 1e-4, 1e-7, 1e-10])
@pytest.mark.parametrize(
    ("n", "p", "weighted"), [(150, 4, False), (90, 7, True), (12, 5, True)]
)
def test_a_small_threshold_is_least_absolute_deviations(beta, n, p, weighted):
    # ℓ_β ≤ |r| ≤ ℓ_β + β/2, so that the minimiser is within β/2 of the least deviation.
    case = Case(n, p, weighted, seed=3)
    solution = case.solve(beta)
    assert solution.converged
    Z = case.objective.design.rows(slice(None))
    s = np.ones(n) if case.weight is None else case.weight
    deviation = np.average(np.abs(solution.point.residual), weights=s)
    least = least_absolute_deviation(Z, case.y, s)
    assert least * (1 - 1e-8) <= deviation <= least + beta / 2 + 1e-12


@pytest.mark.parametrize("beta", BETAS)
def test_a_converged_gradient_is_within_tol_and_the_point_is_what_it_says(beta):
    case = Case(weighted=True)
    for tol in (1e-1, 1e-3, 1e-8):
        solution = case.solve(beta, tol)
        assert solution.converged
        again = case.objective.at(solution.point.theta, beta)
        assert solution.point.norm <= tol or solution.negligible
        assert again.value == pytest.approx(solution.point.value, rel=1e-13)
        assert_allclose(again.gradient, solution.point.gradient, rtol=0, atol=1e-13 * beta)
        assert_allclose(again.residual, solution.point.residual, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("beta", BETAS)
def test_a_tolerance_of_zero_goes_down_to_rounding_and_says_so(beta):
    solution = Case().solve(beta, tol=0.0)
    assert solution.converged
    assert "rounding" in solution.message or solution.point.norm == 0
    assert solution.point.norm < 1e-10


@pytest.mark.parametrize("beta", BETAS)
def test_the_start_does_not_matter(beta):
    case, rng = Case(), np.random.default_rng(1)
    expected = case.solve(beta).point.value
    for size in (1e-3, 1.0, 1e3, 1e6):
        solution = case.solve(beta, start=size * rng.normal(size=case.zero.size))
        assert solution.converged
        assert solution.point.value == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("beta", BETAS)
def test_the_start_at_the_minimiser_costs_no_iteration(beta):
    case = Case()
    found = case.solve(beta).point.theta
    again = case.solve(beta, tol=1e-8, start=found)
    assert again.converged
    assert again.n_iter == 0
    assert_allclose(again.point.theta, found, rtol=0)


# Conjugate gradients ---------------------------------------------------------------------


@pytest.fixture
def matrix_free(monkeypatch):
    """Never form a Hessian."""
    monkeypatch.setattr(_solver, "_SMALL", -np.inf)
    monkeypatch.setattr(_solver, "_MAX_DIRECT", 0)

    def refuse(*arguments):
        raise AssertionError("a Hessian was formed")

    monkeypatch.setattr(LinearObjective, "hessian", refuse)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("alpha", [(0.0, 0.0), (0.1, 0.2)])
@pytest.mark.parametrize("weighted", [False, True])
def test_without_a_hessian_the_minimiser_is_the_same(request, beta, alpha, weighted):
    case = Case(weighted=weighted, alpha=alpha, beta=beta)
    direct = case.solve(beta)
    request.getfixturevalue("matrix_free")
    free = case.solve(beta, max_iter=10_000)
    assert direct.converged
    assert free.converged
    assert free.point.value == pytest.approx(direct.point.value, rel=1e-12)
    assert_allclose(free.point.residual, direct.point.residual, rtol=0, atol=1e-6)


def test_slow_conjugate_gradients_give_way_to_the_hessian(monkeypatch):
    monkeypatch.setattr(_solver, "_SMALL", -np.inf)
    case = Case(p=6)
    expected = case.solve(0.1).point.value
    monkeypatch.setattr(_solver, "_MAX_CG", 2)
    solution = case.solve(0.1)
    assert solution.converged
    assert solution.point.value == pytest.approx(expected, rel=1e-12)


# How near it is --------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.1, 1.0, 20.0])
@pytest.mark.parametrize("way", ["direct", "matrix_free"])
@pytest.mark.parametrize("seed", range(3))
def test_the_estimated_excess_is_of_the_size_of_the_true_one(request, beta, way, seed):
    case = Case(n=300, weighted=True, seed=seed)
    least = case.solve(beta, tol=0.0, max_iter=10_000).point.value
    if way == "matrix_free":
        request.getfixturevalue(way)
    compared, start = 0, 3 * np.random.default_rng(seed).normal(size=case.zero.size)
    for tol, max_iter in [(0, 1), (0, 2), (0, 4), (0.1, 500), (1e-2, 500), (1e-4, 500)]:
        solution = case.solve(beta, tol, max_iter, start)
        true, estimate = solution.point.value - least, excess(case.objective, solution, beta)
        if true > 1e-11 * least:
            compared += 1
            # A quadratic model where the rows inside change: right to a factor. Conjugate
            # gradients see the smallest eigenvalue from above.
            assert estimate >= true * (0.5 if way == "direct" else 0.2)
            assert estimate <= 20 * true
        else:
            assert estimate <= 1e-9 * least
    # Where all rows are inside, Newton's first step is the last.
    assert compared >= 1 or (way == "direct" and beta == 20.0)


@pytest.mark.parametrize("way", ["direct", "matrix_free"])
def test_the_estimated_excess_is_at_most_the_value(request, way):
    # F ≥ 0, so that F − min F ≤ F however little is known about the curvature.
    if way == "matrix_free":
        request.getfixturevalue(way)
    case = Case()
    for beta in BETAS:
        for max_iter in (1, 2, 5):
            solution = case.solve(beta, tol=0.0, max_iter=max_iter)
            assert 0 <= excess(case.objective, solution, beta) <= solution.point.value


@pytest.mark.parametrize("beta", BETAS)
def test_at_the_minimiser_the_estimated_excess_is_negligible(beta):
    case = Case()
    solution = case.solve(beta)
    assert 0 <= excess(case.objective, solution, beta) <= 1e-12 * solution.point.value


# Limits ----------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [1e-6, *BETAS])
@pytest.mark.parametrize("way", ["direct", "matrix_free"])
def test_iterations_are_no_more_than_allowed(request, beta, way):
    if way == "matrix_free":
        request.getfixturevalue(way)
    case = Case(p=6)
    for max_iter in (1, 2, 3, 5, 8, 13):
        solution = case.solve(beta, tol=0.0, max_iter=max_iter)
        assert solution.n_iter <= max_iter
        if not solution.converged:
            assert solution.n_iter == max_iter
            assert "max_iter" in solution.message


@pytest.mark.parametrize("beta", BETAS)
def test_without_an_iteration_left_the_start_is_returned(beta):
    # As to the last stages of a schedule, when the others have used max_iter up.
    case = Case()
    start = np.full(case.zero.size, 0.1)
    solution = case.solve(beta, max_iter=0, start=start)
    assert solution.n_iter == 0
    assert not solution.converged
    assert_allclose(solution.point.theta, start, rtol=0)
    assert solution.point.value == case.objective.at(start, beta).value


@pytest.mark.parametrize("beta", BETAS)
def test_more_iterations_never_make_it_worse(beta):
    case = Case()
    values = [case.solve(beta, tol=0.0, max_iter=m).point.value for m in range(30)]
    assert values[-1] < values[0]
    # Above a lowered threshold an iterate minimises another function: to within β/2.
    assert np.all(np.diff(values) <= 1e-12 * np.array(values[1:]) + beta * beta / 2)


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
def test_awkward_targets_are_solved_without_a_warning(beta, y):
    solution = Case(n=30, p=3, y=y).solve(beta)
    assert solution.converged, solution.message
    assert np.isfinite(solution.point.value)


@pytest.mark.parametrize("beta", [1e-9, 1.0, np.inf])
def test_an_exact_fit_is_found(beta):
    case = Case(n=30, p=3)
    case.objective.y = case.objective.design.rows(slice(None)) @ [1.0, 2.0, -3.0, 4.0]
    solution = case.solve(beta)
    assert solution.converged
    assert np.abs(solution.point.residual).max() < 1e-12


def test_no_coordinates_leave_nothing_to_do():
    X, y = np.ones((20, 1)), np.arange(20.0)
    problem = Survey(as_design(X * 0, Team()), None, False).problem
    objective = LinearObjective(problem.design, y, None, whiten(problem, 0.0), (0.0, 0.0))
    solution = solve(objective, np.zeros(0), 1.0, 1e-8, 100)
    assert solution.converged
    assert_allclose(solution.point.residual, y)
    assert excess(objective, solution, 1.0) == 0


def test_a_flat_optimum_between_two_clusters_is_an_optimum():
    # Any intercept between −99 and 99 is optimal: the value is what is promised, and it is
    # of this threshold, not of the larger ones that are passed through on the way.
    y = np.repeat([-100.0, 100.0], 10)
    problem = Survey(as_design(np.zeros((20, 1)), Team()), None, True).problem
    objective = LinearObjective(problem.design, y, None, whiten(problem, 0.0), (0.0, 0.0))
    for start in (-150.0, -3.0, 0.0, 99.5):
        solution = solve(objective, np.array([start]), 1.0, 1e-8, 100)
        assert solution.converged
        assert solution.point.value == pytest.approx(99.5)


@pytest.mark.parametrize("beta", [1e-4, 1e-2, 0.5])
def test_on_data_with_ties_the_value_is_that_of_the_threshold_asked_for(beta):
    # Repeated rows and integers: many starts are optimal at one threshold and not at another.
    for seed in range(60):
        rng = np.random.default_rng(seed)
        X, y = rng.integers(0, 2, size=(8, 2)).astype(float), 10.0 * rng.integers(-3, 4, 8)
        problem = Survey(as_design(X, Team()), None, True).problem
        objective = LinearObjective(problem.design, y, None, whiten(problem, 0.0), (0.0, 0.0))
        start = np.zeros(objective.transform.shape[1])
        solution = solve(objective, start, beta, 1e-8, 500)
        again = objective.at(solution.point.theta, beta)
        assert solution.converged
        assert solution.point.value == pytest.approx(again.value, rel=1e-12, abs=1e-30)


def test_a_solution_cannot_be_changed():
    solution = Case().solve(1.0)
    with pytest.raises(AttributeError):
        solution.converged = False
