"""A loss, a penalty and an engine that exist only in the tests, each as a single class."""

from importlib import import_module

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize

import skrobust._solvers
import skrobust._training_data
from block_engine import BlockEngine
from skrobust import SmoothL1Regressor
from skrobust._engines import as_engine
from skrobust._engines.threads import ThreadTeam
from skrobust._model.linear_loss import LinearLoss, RegressionData
from skrobust._model.loss import HUBER, Loss
from skrobust._model.penalty import Penalty, Ridge
from skrobust._model.whitening import Whitened
from skrobust._sampling import whiten, whole_problem
from skrobust._solvers import choose
from skrobust._solvers.lbfgs import lbfgs, lbfgs_then_newton
from skrobust._solvers.newton import newton

newton_module = import_module("skrobust._solvers.newton")


class LogCosh(Loss):
    """β² log cosh(r/β), a smooth convex loss."""

    is_convex = True
    is_piecewise_quadratic = False

    @staticmethod
    def rho_psi(r, threshold):
        z = abs(r) / threshold
        # log cosh z without overflow.
        value = z + np.log1p(np.exp(-2.0 * z)) - np.log(2.0)
        return threshold**2 * value, threshold * np.tanh(r / threshold)

    def rho(self, r, threshold):
        return threshold**2 * (np.logaddexp(r / threshold, -r / threshold) - np.log(2.0))

    def psi(self, r, threshold):
        return threshold * np.tanh(r / threshold)

    def psi_deriv(self, r, threshold):
        return 1.0 - np.tanh(r / threshold) ** 2

    def weights(self, r, threshold, out=None):
        return np.divide(np.tanh(r / threshold), r / threshold, out=out)


class PseudoHuberPenalty(Penalty):
    """λ Σ_j (√(1 + v_j²) − 1), which is smooth and not quadratic."""

    is_quadratic = False

    def __init__(self, strength):
        self.strength = strength

    def value(self, coef):
        return self.strength * float((np.sqrt(1 + coef[1:] ** 2) - 1).sum())

    def gradient(self, coef):
        slopes = coef[1:] / np.sqrt(1 + coef[1:] ** 2)
        return self.strength * np.concatenate([[0.0], slopes])

    def hessian_diagonal(self, coef):
        return self.strength * np.concatenate([[0.0], (1 + coef[1:] ** 2) ** -1.5])

    def scaled(self, factor):
        return PseudoHuberPenalty(factor * self.strength)


def data(n=200, p=4, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) @ rng.normal(size=(p, p)) + 3.0
    return X, X.sum(axis=1) + rng.standard_t(2, size=n)


def objective(X, y, loss, penalty, fit_intercept, threshold=1.0, penalty_per_threshold=False):
    engine = as_engine(X, ThreadTeam())
    problem = whole_problem(engine, None, fit_intercept, choose(engine, "auto"))
    shared = RegressionData.of(problem.engine, y, None, fit_intercept, problem.gram)
    linear = LinearLoss(shared, loss, penalty, threshold, penalty_per_threshold)
    return Whitened(linear, whiten(problem, np.zeros(X.shape[1])))


def minimum_of_scipy(objective):
    """Return the minimum that SciPy finds for the documented objective."""
    linear = objective.linear
    engine, y = linear.data.engine, linear.data.y
    Z = engine.rows(slice(None))
    if not linear.data.fit_intercept:
        Z[:, 0] = 0.0

    def value(coef):
        penalty = 0.0 if linear.penalty is None else linear.penalty.value(coef)
        return linear.loss.rho(y - Z @ coef, linear.threshold).mean() + penalty

    start = np.linalg.lstsq(Z, y)[0]
    return minimize(value, start, method="BFGS", options={"gtol": 1e-9}).fun


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("solver", [newton, lbfgs])
@pytest.mark.parametrize(
    ("loss", "penalty"),
    [
        (LogCosh(), None),
        (LogCosh(), PseudoHuberPenalty(0.3)),
        (HUBER, PseudoHuberPenalty(0.3)),
        (HUBER, PseudoHuberPenalty(30.0)),
    ],
)
def test_another_loss_or_penalty_is_minimised_by_every_solver(
    loss, penalty, solver, fit_intercept
):
    X, y = data()
    whitened = objective(X, y, loss, penalty, fit_intercept)
    solution = solver(whitened, np.zeros(whitened.n_variables), 1e-9, 500)
    assert solution.converged
    assert solution.point.relative_gradient <= 1e-9
    expected = minimum_of_scipy(whitened)
    assert solution.point.value <= expected * (1 + 1e-12)
    assert_allclose(solution.point.value, expected, rtol=1e-6)
    if not fit_intercept:
        assert whitened.coef(solution.point.theta)[0] == 0.0


@pytest.mark.parametrize("threshold", [0.1, 1.0, 1e3])
def test_another_loss_converges_at_every_threshold_from_afar(threshold):
    X, y = data()
    whitened = objective(X, y, LogCosh(), None, True, threshold)
    values = []
    for size in (0.0, 10.0, 1e4):
        start = np.full(whitened.n_variables, size)
        solution = newton(whitened, start, 1e-9, 500)
        assert solution.converged
        values.append(solution.point.value)
    assert_allclose(values, values[0], rtol=1e-10)


def test_a_penalty_beside_a_loss_that_is_divided_by_the_threshold_grows_with_it():
    X, y = data()
    for penalty in (PseudoHuberPenalty(0.2), Ridge(np.array([0.0, 1.0, 2.0, 3.0, 4.0]))):
        of_huber = objective(X, y, HUBER, penalty.scaled(0.5), True, threshold=0.5)
        of_smooth_l1 = objective(X, y, HUBER, penalty, True, 2.0, penalty_per_threshold=True)
        theta = np.linspace(-1, 1, of_huber.n_variables)
        point = of_smooth_l1.at_threshold(0.5).evaluate(theta)
        expected = of_huber.evaluate(theta)
        assert_allclose(point.value, expected.value, rtol=1e-14)
        assert_allclose(point.gradient, expected.gradient, rtol=1e-12)


# A block engine --------------------------------------------------------------------------


@pytest.fixture
def blocks(monkeypatch):
    """Make fits use the block engine."""
    monkeypatch.setattr(skrobust._training_data, "as_engine", BlockEngine)


def fit(X, y, weight=None, **parameters):
    return SmoothL1Regressor(**parameters).fit(X, y, weight)


def check_passes(model, expected):
    """Assert that the fit in blocks takes about as many passes as the fit in memory.

    L-BFGS is excluded: rounding errors determine when it ends, so the numbers of passes may
    differ.
    """
    if model.solver != "lbfgs":
        n_eval = [sum(stage["n_eval"] for stage in m.history_) for m in (model, expected)]
        assert n_eval[0] <= 1.5 * n_eval[1] + 3


MODES = [
    {},
    {"beta": 1.0},
    {"beta": 1e-6},
    {"loss": "huber", "alpha": 0.1},
    {"scale": "concomitant", "loss": "huber"},
    {"scale": "concomitant", "alpha": 0.1},
    {"beta_schedule": [50, 10, 2, 1]},
    {"beta": 1.0, "beta_schedule": "geometric"},
    {"fit_intercept": False},
    {"solver": "lbfgs", "tol": 1e-10},
    {"solver": "newton", "beta": 0.1},
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["plain", "weights", "dependent", "exact", "wide"])
def test_blocks_of_rows_give_the_fit_of_an_array(request, mode, kind):
    X, y = data(n=30 if kind == "wide" else 200, p=40 if kind == "wide" else 4)
    weight = None
    if kind == "weights":
        weight = np.random.default_rng(1).uniform(0.1, 1.0, size=200)
    elif kind == "dependent":
        X[:, -1] = X[:, 0] + X[:, 1]
    elif kind == "exact":
        y = np.round(y)
        y[:150] = X[:150].sum(axis=1)
    expected = fit(X, y, weight, **mode)
    request.getfixturevalue("blocks")
    model = fit(X, y, weight, **mode)
    size = np.abs(expected.coef_).max()
    unique = kind != "wide" or mode.get("alpha")
    assert_allclose(model.predict(X), expected.predict(X), atol=1e-9 * np.abs(y).max())
    if unique:
        assert_allclose(model.coef_, expected.coef_, rtol=0, atol=1e-9 * size)
        assert_allclose(model.scale_, expected.scale_, rtol=1e-9)
    if kind != "wide":
        assert_array_equal(model.outliers_, expected.outliers_)
    check_passes(model, expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tails", ["normal", "heavy"])
def test_blocks_of_rows_give_the_fit_of_a_tall_array(monkeypatch, mode, tails):
    monkeypatch.setattr(skrobust._solvers, "TALL_MIN_ELEMENTS", 0)
    X, y = data(n=8_000, p=5)
    if tails == "heavy":
        X *= np.random.default_rng(1).standard_cauchy(size=(8_000, 1))
        y = X.sum(axis=1) + np.random.default_rng(2).standard_t(2, size=8_000)
    expected = fit(X, y, **mode)
    monkeypatch.setattr(skrobust._training_data, "as_engine", BlockEngine)
    model = fit(X, y, **mode)
    size = np.abs(expected.coef_).max()
    assert_allclose(model.coef_, expected.coef_, rtol=0, atol=1e-7 * size)
    assert_allclose(model.scale_, expected.scale_, rtol=1e-7)
    check_passes(model, expected)


@pytest.mark.parametrize("solver", [newton, lbfgs, lbfgs_then_newton])
@pytest.mark.parametrize("threshold", [1e-6, 0.1, 2.0, np.inf])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_every_solver_finds_the_minimum_on_blocks_of_rows(
    monkeypatch, solver, threshold, weighted, alpha
):
    # The number of rows is odd, so the median of y, to which the fit tends as the penalty
    # increases, is unique.
    X, y = data(n=201)
    weight = np.random.default_rng(1).uniform(0.1, 1.0, size=201) if weighted else None
    solutions = []
    for make in (as_engine, BlockEngine):
        engine = make(X, ThreadTeam())
        s = None if weight is None else engine.row_vector(weight)
        problem = whole_problem(engine, s, True, choose(engine, "auto"))
        penalty = Ridge.of_strength(alpha, problem.engine) if alpha else None
        rows = engine.row_vector(y)
        shared = RegressionData.of(problem.engine, rows, s, True, problem.gram)
        linear = LinearLoss(shared, HUBER, penalty, threshold)
        diagonal = np.zeros(4) if penalty is None else penalty.hessian_diagonal(rows)[1:]
        whitened = Whitened(linear, whiten(problem, diagonal))
        # In the weighted case no Hessian is formed.
        monkeypatch.setattr(newton_module, "HESSIAN_OVERHEAD", -1e9 if weighted else 3e6)
        start = np.zeros(whitened.n_variables)
        solutions.append(solver(whitened, start, 1e-10, 2_000))
    array, blocks = solutions
    assert array.converged
    assert blocks.converged
    assert_allclose(blocks.point.value, array.point.value, rtol=1e-12)
    assert_allclose(blocks.point.theta, array.point.theta, rtol=0, atol=1e-7)


def test_methods_that_an_engine_does_not_implement_raise_an_error(blocks):
    X, y = data()
    rows = BlockEngine(X, ThreadTeam()).row_vector(y)
    with pytest.raises(TypeError):
        np.median(rows)
    with pytest.raises(TypeError):
        np.asarray(rows)
