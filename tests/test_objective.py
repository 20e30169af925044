"""The value is the formula, and the derivatives are the derivatives of the value."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import sparse

from skrobust import losses
from skrobust._design import as_design
from skrobust._objective import LinearObjective
from skrobust._problem import Survey, whiten
from skrobust._threads import Team
from skrobust._whitening import Whitening

N, P, BETA = 60, 4, 0.8
ALPHAS = [(0.0, 0.0), (0.3, 0.0), (0.0, 0.5), (0.2, 0.1)]
MODES = list(itertools.product(["dense", "csr"], [True, False], [True, False], ALPHAS))
# Every combination of engine, intercept and weights, and every penalty.
MODES = [mode for i, mode in enumerate(MODES) if i % 3 == 0 or mode[3] == (0.2, 0.1)]
# A ridge term that grows with the threshold is infinite without one.
LEAST_SQUARES = [(mode, np.inf) for mode in MODES if not mode[3][1]]


def with_least_squares(*betas):
    pairs = [*itertools.product(MODES, betas), *LEAST_SQUARES]
    return pytest.mark.parametrize(("mode", "beta"), pairs)


class Case:
    """An objective with its data: X in awkward units, heavy tails in y."""

    def __init__(
        self, kind="dense", fit_intercept=True, weighted=True, alpha=(0.0, 0.0), seed=0
    ):
        rng = np.random.default_rng(seed)
        self.X = rng.normal([0, 3, 0, -1], size=(N, P)) * [1.0, 0.01, 30.0, 1.0]
        self.y = self.X @ [1.0, 30.0, 0.05, -1.0] + rng.standard_t(2, size=N)
        self.weight = rng.uniform(0.1, 1, size=N) if weighted else None
        self.s = self.weight if weighted else np.ones(N)
        self.alpha, self.fit_intercept = alpha, fit_intercept
        X = sparse.csr_array(self.X) if kind == "csr" else self.X
        self.design = as_design(X, Team())
        problem = Survey(self.design, self.weight, fit_intercept).problem
        a = alpha[0] + alpha[1] * BETA
        self.objective = LinearObjective(
            problem.design, self.y, self.weight, whiten(problem, a), alpha
        )
        self.theta = rng.normal(size=self.objective.transform.shape[1])
        self.rng = rng

    def with_options(self, transform=None, weight=None, alpha=None, y=None):
        """The same objective but for what is given."""
        own = self.objective
        M = own.transform if transform is None else transform
        return LinearObjective(
            own.design,
            self.y if y is None else y,
            self.weight if weight is None else weight,
            Whitening(M, 1.0),
            self.alpha if alpha is None else alpha,
        )

    def value(self, theta, beta=BETA):
        return self.objective.at(theta, beta).value

    def gradient(self, theta, beta=BETA):
        return self.objective.at(theta, beta).gradient

    def parameters(self, theta):
        """(b, w) in the units of the data."""
        design = self.objective.design
        coef = self.objective.coef(theta)
        w = coef[1:] / design.scale
        return coef[0] - w @ design.centre, w


def derivative(f, step):
    """Fourth-order central difference of f at 0."""
    return (8 * (f(step) - f(-step)) - (f(2 * step) - f(-2 * step))) / (12 * step)


@with_least_squares(BETA)
def test_value_is_the_formula_in_the_units_of_the_data(mode, beta):
    case = Case(*mode)
    b, w = case.parameters(case.theta)
    if not case.fit_intercept:
        assert b == 0
    r = case.y - b - case.X @ w
    a = case.alpha[0] + (case.alpha[1] * beta if case.alpha[1] else 0)
    expected = np.average(losses.huber(r, beta), weights=case.s) + 0.5 * a * (w @ w)
    point = case.objective.at(case.theta, beta)
    assert point.value == pytest.approx(expected, rel=1e-13)
    assert_allclose(point.residual, r, rtol=1e-11, atol=1e-12)
    clipped = np.average(np.clip(r, -beta, beta) ** 2, weights=case.s)
    assert point.clipped == pytest.approx(np.sqrt(clipped), rel=1e-13)
    assert point.norm == pytest.approx(np.linalg.norm(point.gradient) / np.sqrt(clipped))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("beta", [1e-3, BETA, 1e3])
def test_gradient_is_the_derivative_of_the_value(mode, beta):
    case, step = Case(*mode), 1e-6
    point = case.objective.at(case.theta, beta)
    for direction, expected in zip(np.eye(case.theta.size), point.gradient, strict=True):
        slope = derivative(lambda t, d=direction: case.value(case.theta + t * d, beta), step)
        # Whitened curvature is at most 1, so a kink within the steps costs at most 2 steps.
        assert slope == pytest.approx(expected, rel=1e-8, abs=2 * step + 1e-9 * point.value)


@pytest.mark.parametrize("mode", MODES)
def test_gradient_is_exact_where_no_residual_crosses_the_threshold(mode):
    case = Case(*mode)
    point = case.objective.at(case.theta, BETA)
    direction = case.rng.normal(size=case.theta.size)
    moved = case.objective.at(case.theta + direction, BETA).residual - point.residual
    room = np.abs(np.abs(point.residual) - BETA) / np.abs(moved)
    step = 0.4 * room.min()
    slope = derivative(lambda t: case.value(case.theta + t * direction), step)
    assert slope == pytest.approx(direction @ point.gradient, abs=1e-14 * point.value / step)


def at_the_kink(case, where):
    """The case with residuals of exactly ±β at theta in some rows."""
    r = case.objective.at(case.theta, BETA).residual
    case.y[where] += np.sign(r[where]) * BETA - r[where]
    return case


@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_gradient_is_continuous_at_the_kinks(kind):
    case = at_the_kink(Case(kind), slice(0, N, 2))
    assert np.isclose(np.abs(case.objective.at(case.theta, BETA).residual), BETA).mean() >= 0.5
    direction = case.rng.normal(size=case.theta.size)
    expected = direction @ case.gradient(case.theta)
    for step in (1e-3, 1e-5):  # half of the rows change sides: the error is of first order
        slope = derivative(lambda t: case.value(case.theta + t * direction), step)
        assert slope == pytest.approx(expected, abs=step * (direction @ direction))


@pytest.mark.parametrize("mode", MODES)
def test_hessian_is_the_derivative_of_the_gradient(mode):
    case = Case(*mode)
    point = case.objective.at(case.theta, BETA)
    H = case.objective.hessian(np.abs(point.residual) <= BETA, BETA)
    assert_allclose(H, H.T, rtol=1e-13, atol=1e-13)
    direction = case.rng.normal(size=case.theta.size)
    moved = case.objective.at(case.theta + direction, BETA).residual - point.residual
    room = np.abs(np.abs(point.residual) - BETA) / np.abs(moved)
    step = 0.9 * room.min()  # the gradient is linear as far as this
    difference = case.gradient(case.theta + step * direction) - point.gradient
    assert_allclose(difference / step, H @ direction, rtol=0, atol=1e-13 / step)


@with_least_squares(BETA, 1e-6)
def test_hessian_product_is_the_product_with_the_hessian(mode, beta):
    case = Case(*mode)
    residual = case.objective.at(case.theta, beta).residual
    H = case.objective.hessian(np.abs(residual) <= beta, beta)
    product = case.objective.hessian_product(
        np.abs(residual) <= beta, beta, np.empty_like(residual)
    )
    kept = residual.copy()
    for _ in range(3):
        d = case.rng.normal(size=case.theta.size)
        assert_allclose(product(d), H @ d, rtol=1e-11, atol=1e-12)
    assert_allclose(residual, kept, rtol=0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.9, 1.0, None])
def test_hessian_from_the_rows_outside_is_that_from_those_inside(mode, share):
    case = Case(*mode)
    own, gram = (
        case.objective,
        Survey(case.design, case.weight, case.fit_intercept).problem.gram,
    )
    inside = case.rng.uniform(size=N) if share is None else case.rng.uniform(size=N) < share
    inside = np.minimum(2.0 * inside, 1.0) if share is None else inside
    whitening = Whitening(own.transform, own.condition)
    other = LinearObjective(own.design, case.y, case.weight, whitening, case.alpha, gram)
    assert_allclose(other.hessian(inside, BETA), own.hessian(inside, BETA), atol=1e-13)
    fewer = min(np.count_nonzero(inside), np.count_nonzero(inside != 1))
    assert other.rows_in_hessian(inside) == fewer
    assert own.rows_in_hessian(inside) == np.count_nonzero(inside)


def test_hessian_keeps_its_digits_where_rows_of_leverage_are_outside():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, P))
    X[:4] *= 1e7
    problem = Survey(as_design(X, Team()), None, True).problem
    given = problem.design, X[:, 0], None, whiten(problem, 0.0), (0.0, 0.0)
    inside = np.arange(200) >= 4
    H = LinearObjective(*given).hessian(inside, BETA)
    assert_allclose(LinearObjective(*given, problem.gram).hessian(inside, BETA), H, rtol=1e-10)


@pytest.mark.parametrize("mode", MODES)
def test_the_whitened_hessian_of_least_squares_is_the_identity(mode):
    case = Case(*mode)
    a = case.alpha[0] + case.alpha[1] * BETA
    case.objective.alpha = (a, 0.0)
    H = case.objective.hessian(np.ones(N, dtype=bool), np.inf)
    assert_allclose(H, np.eye(case.theta.size), atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_slope_is_the_derivative_along_a_line(mode):
    case = Case(*mode)
    point = case.objective.at(case.theta, BETA)
    step = case.rng.normal(size=case.theta.size)
    change = case.objective.at(case.theta + step, BETA).residual - point.residual
    sweeps = case.objective.design.n_sweeps
    slope, _ = case.objective.along(point, step, change, BETA)
    values = [slope(t) for t in (0.0, 0.3, 1.0, 4.0, -2.0)]
    assert case.objective.design.n_sweeps == sweeps
    for t, value in zip((0.0, 0.3, 1.0, 4.0, -2.0), values, strict=True):
        assert value == pytest.approx(step @ case.gradient(case.theta + t * step), abs=1e-12)
    assert np.all(np.diff([slope(t) for t in np.linspace(-3, 3, 50)]) >= -1e-13)  # convex


@pytest.mark.parametrize("mode", MODES)
def test_the_slope_bends_where_a_row_comes_to_the_threshold(mode):
    case = Case(*mode)
    point = case.objective.at(case.theta, BETA)
    step = case.rng.normal(size=case.theta.size)
    change = case.objective.at(case.theta + step, BETA).residual - point.residual
    change[0] = 0.0
    slope, bends = case.objective.along(point, step, change, BETA)
    lengths = bends(0.2, 5.0, 1)
    ends = [(end - point.residual[1:]) / change[1:] for end in (-BETA, BETA)]
    expected = np.sort(np.concatenate(ends))
    expected = expected[(expected > 0.2) & (expected < 5.0)]
    assert expected.size
    assert_allclose(lengths, expected)
    for low, high in itertools.pairwise(lengths):
        middle = 0.5 * (slope(low) + slope(high))
        assert slope(0.5 * (low + high)) == pytest.approx(middle, abs=1e-12)
    assert np.isin(bends(0.2, 5.0, 3), lengths).all()


def test_the_ridge_term_is_constant_plus_slope_times_the_threshold():
    case, plain = Case(alpha=(0.3, 0.5)), Case()
    plain.objective = case.with_options(alpha=(0.0, 0.0))
    _, w = case.parameters(case.theta)
    for beta in (0.1, 1.0, 20.0):
        a = 0.3 + 0.5 * beta
        assert case.objective.ridge(beta) == pytest.approx(a)
        penalty = case.value(case.theta, beta) - plain.value(case.theta, beta)
        assert penalty == pytest.approx(0.5 * a * (w @ w), rel=1e-10)
    assert case.objective.alpha == (0.3, 0.5)
    assert plain.objective.ridge(np.inf) == 0.0


@pytest.mark.parametrize("mode", MODES)
def test_coordinates_of_coefficients_are_found_again(mode):
    case = Case(*mode)
    coef = case.objective.coef(case.theta)
    assert_allclose(case.objective.theta(coef), case.theta, rtol=1e-9, atol=1e-9)


def test_coordinates_through_a_sparse_transform_are_found_again():
    case = Case(alpha=(0.1, 0.0))
    M = sparse.diags_array([1.0, 2.0, 0.5, 1.0, 3.0]).tocsr()
    objective, dense = case.with_options(M), case.with_options(M.toarray())
    theta = case.rng.normal(size=5)
    assert_allclose(objective.theta(objective.coef(theta)), theta, rtol=1e-13)
    one, other = objective.at(theta, BETA), dense.at(theta, BETA)
    assert one.value == pytest.approx(other.value, rel=1e-14)
    assert_allclose(one.gradient, other.gradient, rtol=1e-12)
    product, H = (
        objective.hessian_product(
            np.abs(one.residual) <= BETA, BETA, np.empty_like(one.residual)
        ),
        dense.hessian(np.abs(one.residual) <= BETA, BETA),
    )
    assert_allclose(product(theta), H @ theta, rtol=1e-11)
    assert_allclose(
        objective.hessian(np.abs(one.residual) <= BETA, BETA), H, rtol=1e-11, atol=1e-12
    )


@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_a_common_factor_of_the_weights_changes_nothing(kind):
    case = Case(kind, alpha=(0.2, 0.1))
    one = case.objective.at(case.theta, BETA)
    two = case.with_options(weight=8 * case.weight).at(case.theta, BETA)
    assert one.value == pytest.approx(two.value, rel=1e-14)
    assert_allclose(one.gradient, two.gradient, rtol=1e-12)


@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_the_fitted_size_bounds_the_terms_of_each_prediction(kind):
    case = Case(kind)
    Z = case.objective.design.rows(slice(None))
    expected = np.abs(Z) @ np.abs(case.objective.coef(case.theta))
    assert_allclose(case.objective.fitted_size(case.theta), expected, rtol=1e-13)


def test_the_norm_of_a_gradient_is_between_zero_and_one_in_any_units_of_y():
    case = Case()
    norms = []
    for unit in (1.0, 1e9, 1e-9):
        objective = case.with_options(y=case.y * unit)
        norms.append(objective.at(case.theta * unit, BETA * unit).norm)
    assert 0 < norms[0] <= 1
    assert_allclose(norms, norms[0], rtol=1e-12)


def test_the_norm_is_zero_at_an_exact_fit():
    case = Case()
    case.y[:] = 0.0
    assert case.objective.at(np.zeros(P + 1), BETA).norm == 0.0
