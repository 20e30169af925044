"""The objective agrees with its formula, and its derivatives agree with finite differences.

The objective is a function of standardised coefficients (b, v) or whitened coordinates θ.
"""

import itertools
from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from skrobust import losses
from skrobust._model.linear_loss import Evaluation, LinearLoss
from skrobust._model.whitening import Whitened, Whitening

N, P, BETA = 60, 4, 0.8
# Pairs: α, and whether the penalty is multiplied by the threshold.
PENALTIES = [(0.0, False), (0.3, False), (0.5, True)]
# Every combination of engine, intercept and weights.
FORMS = itertools.product(["dense", "csr"], [True, False], [True, False])
# Each of these combinations, with the penalties assigned in rotation.
MODES = [(*form, PENALTIES[i % len(PENALTIES)]) for i, form in enumerate(FORMS)]
# The combinations for least squares, that is, for an infinite threshold. Those with a penalty
# that is multiplied by the threshold are left out, because the penalty would be infinite.
LEAST_SQUARES = [(mode, np.inf) for mode in MODES if not mode[3][1]]


def with_least_squares(*betas):
    pairs = [*itertools.product(MODES, betas), *LEAST_SQUARES]
    return pytest.mark.parametrize(("mode", "beta"), pairs)


class Case:
    """An objective and its data, with features in very different units and heavy-tailed y."""

    def __init__(
        self,
        make_objective,
        kind="dense",
        fit_intercept=True,
        weighted=True,
        penalty=(0.0, False),
        seed=0,
    ):
        rng = np.random.default_rng(seed)
        self.X = rng.normal([0, 3, 0, -1], size=(N, P)) * [1.0, 0.01, 30.0, 1.0]
        self.y = self.X @ [1.0, 30.0, 0.05, -1.0] + rng.standard_t(2, size=N)
        self.weight = rng.uniform(0.1, 1, size=N) if weighted else None
        self.s = self.weight if weighted else np.ones(N)
        self.fit_intercept = fit_intercept
        self.alpha, self.per_threshold = penalty
        X = sparse.csr_array(self.X) if kind == "csr" else self.X
        self.objective = make_objective(
            X,
            self.y,
            self.weight,
            alpha=self.alpha,
            per_threshold=self.per_threshold,
            threshold=BETA,
            fit_intercept=fit_intercept,
        )
        self.linear = self.objective.linear
        self.engine = self.linear.data.engine
        self.theta = rng.normal(size=self.objective.n_variables)
        self.coef = self.objective.coef(self.theta)
        self.rng = rng

    def with_data(self, **data):
        """Return the objective with the given data replaced."""
        linear = self.linear
        per_threshold = self.per_threshold
        penalty = linear.penalty.scaled(1 / BETA) if per_threshold else linear.penalty
        data = linear.data._replace(**data)
        other = LinearLoss(data, linear.loss, penalty, BETA, per_threshold)
        return Whitened(other, self.objective.whitening)

    def curvature(self, beta):
        """Return a, where the penalty is a/2 ‖w‖²."""
        return self.alpha * (beta if self.per_threshold else 1.0) if self.alpha else 0.0

    def parameters(self):
        """Return (b, w) in the units of the data."""
        w = self.coef[1:] / self.engine.scale
        return self.coef[0] - w @ self.engine.centre, w

    def in_coordinates(self, coordinates):
        """Return the objective as a function of θ or (b, v), a point, and unit vectors.

        There is one unit vector per variable. Without an intercept, b is not a variable.
        """
        if coordinates == "theta":
            return self.objective, self.theta, np.eye(self.theta.size)
        return self.linear, self.coef, np.eye(P + 1)[0 if self.fit_intercept else 1 :]


@pytest.fixture
def make_case(make_objective):
    return partial(Case, make_objective)


def derivative(f, step):
    """Return the fourth-order central difference of f at 0."""
    return (8 * (f(step) - f(-step)) - (f(2 * step) - f(-2 * step))) / (12 * step)


in_both_coordinates = pytest.mark.parametrize("coordinates", ["theta", "coefficients"])

# Value -----------------------------------------------------------------------------------


@with_least_squares(BETA)
@in_both_coordinates
def test_value_is_the_formula_in_the_units_of_the_data(make_case, mode, beta, coordinates):
    case = make_case(*mode)
    b, w = case.parameters()
    if not case.fit_intercept:
        assert b == 0
    r = case.y - b - case.X @ w
    loss = np.average(losses.huber(r, beta), weights=case.s)
    expected = loss + 0.5 * case.curvature(beta) * (w @ w)
    objective, x, _ = case.in_coordinates(coordinates)
    point = objective.at_threshold(beta).evaluate(x)
    assert point.theta is x
    assert point.value == pytest.approx(expected, rel=1e-13)
    assert_allclose(point.residual, r, rtol=1e-11, atol=1e-12)
    clipped = np.average(np.clip(r, -beta, beta) ** 2, weights=case.s)
    assert point.psi_rms == pytest.approx(np.sqrt(clipped), rel=1e-13)
    expected = np.linalg.norm(point.gradient) / np.sqrt(clipped)
    assert point.relative_gradient == pytest.approx(expected)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_residuals_are_written_to_out(make_case, fit_intercept):
    case, out = make_case(fit_intercept=fit_intercept), np.full(N, np.nan)
    point = case.objective.evaluate(case.theta, out)
    assert point.residual is out
    assert_array_equal(out, case.objective.evaluate(case.theta).residual)


@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize("penalty", [(0.2, False), (0.1, True)])
def test_a_common_factor_of_the_weights_changes_nothing(make_case, kind, penalty):
    case = make_case(kind, penalty=penalty)
    one = case.objective.evaluate(case.theta)
    data = {"weight": 8 * case.weight, "total": 8 * case.linear.data.total}
    two = case.with_data(**data).evaluate(case.theta)
    assert one.value == pytest.approx(two.value, rel=1e-14)
    assert_allclose(one.gradient, two.gradient, rtol=1e-12)


def test_the_total_is_the_sum_of_the_weights(make_case):
    case = make_case()
    assert case.linear.data.total == pytest.approx(case.weight.sum(), rel=1e-15)
    assert make_case(weighted=False).linear.data.total == N
    assert case.linear.data.y_abs_max == np.abs(case.y).max()


def test_a_pass_is_counted_once(make_case):
    case = make_case()
    before = case.objective.n_passes
    case.objective.evaluate(case.theta)
    case.linear.evaluate(case.coef)
    case.objective.at_threshold(2.0).evaluate(case.theta)
    assert case.objective.n_passes == before + 3


# Threshold and penalty -------------------------------------------------------------------


@pytest.mark.parametrize("per_threshold", [False, True])
def test_the_penalty_is_multiplied_by_the_threshold_iff_it_is_per_threshold(
    make_case, per_threshold
):
    case, plain = make_case(penalty=(0.3, per_threshold)), make_case()
    _, w = case.parameters()
    for beta in (0.1, 1.0, 20.0):
        a = 0.3 * (beta if per_threshold else 1.0)
        with_penalty = case.linear.at_threshold(beta).evaluate(case.coef)
        without = plain.linear.at_threshold(beta).evaluate(case.coef)
        assert with_penalty.value - without.value == pytest.approx(0.5 * a * w @ w, rel=1e-10)
        difference = with_penalty.gradient - without.gradient
        expected = np.append(0.0, a * w / case.engine.scale)
        assert_allclose(difference, expected, rtol=1e-9, atol=1e-12)
        diagonal = case.linear.at_threshold(beta).penalty.hessian_diagonal(case.coef)
        assert_allclose(diagonal, np.append(0.0, a / case.engine.scale**2), rtol=1e-14)
    assert plain.linear.penalty is None
    assert plain.linear.at_threshold(np.inf).penalty is None


@pytest.mark.parametrize("mode", MODES)
def test_another_threshold_shares_the_data_and_leaves_the_objective_as_it_is(make_case, mode):
    case = make_case(*mode)
    before = case.objective.evaluate(case.theta)
    other = case.objective.at_threshold(20.0)
    assert (case.objective.threshold, other.threshold) == (BETA, 20.0)
    assert other.whitening is case.objective.whitening
    assert other.linear.data is case.linear.data
    assert other.linear.loss is case.linear.loss
    assert other.evaluate(case.theta).value > before.value
    # Returning to the first threshold gives the same values.
    back = other.at_threshold(1e-3).at_threshold(BETA).evaluate(case.theta)
    assert back.value == pytest.approx(before.value, rel=1e-14)
    assert_allclose(back.gradient, before.gradient, rtol=1e-12)
    assert case.objective.evaluate(case.theta).value == before.value


def test_the_objective_of_the_residuals_is_that_of_what_is_added(make_case):
    case = make_case()
    point = case.linear.evaluate(case.coef)
    for_residuals = case.linear.for_residuals(point.residual)
    change = case.rng.normal(size=P + 1)
    expected = case.linear.evaluate(case.coef + change)
    other = for_residuals.evaluate(change)
    assert other.value == pytest.approx(expected.value, rel=1e-13)
    assert_allclose(other.gradient, expected.gradient, rtol=1e-12, atol=1e-14)
    assert for_residuals.threshold == BETA
    assert for_residuals.data.y_abs_max == np.abs(point.residual).max()
    assert make_case(penalty=(0.3, False)).linear.for_residuals(case.y).penalty is None


def test_it_is_piecewise_quadratic_if_loss_and_penalty_are(make_case):
    linear = make_case(penalty=(0.3, False)).linear
    assert linear.is_piecewise_quadratic
    assert make_case().linear.is_piecewise_quadratic

    class SmoothLoss(type(linear.loss)):
        is_piecewise_quadratic = False

    class OtherPenalty(type(linear.penalty)):
        is_quadratic = False

    smooth = LinearLoss(linear.data, SmoothLoss(), linear.penalty, BETA)
    other = LinearLoss(linear.data, linear.loss, OtherPenalty(np.ones(P + 1)), BETA)
    assert not smooth.is_piecewise_quadratic
    assert not other.is_piecewise_quadratic


# Gradient --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("beta", [1e-3, BETA, 1e3])
@in_both_coordinates
def test_gradient_is_the_derivative_of_the_value(make_case, mode, beta, coordinates):
    case, step = make_case(*mode), 1e-6
    objective, x, directions = case.in_coordinates(coordinates)
    objective = objective.at_threshold(beta)
    point = objective.evaluate(x)
    # The curvature is at most that of the squared loss, which is 1 in θ and in (b, v). A kink
    # within the finite difference therefore causes an error of at most twice the step.
    curvature = 1.0
    if case.alpha and coordinates == "coefficients":
        curvature += objective.penalty.hessian_diagonal(x).max()
    for direction in directions:
        slope = derivative(lambda t, d=direction: objective.evaluate(x + t * d).value, step)
        expected = direction @ point.gradient
        tolerance = 2 * step * curvature + 1e-9 * point.value
        assert slope == pytest.approx(expected, rel=1e-8, abs=tolerance)


@pytest.mark.parametrize("mode", MODES)
@in_both_coordinates
def test_gradient_is_exact_where_no_residual_crosses_the_threshold(
    make_case, mode, coordinates
):
    case = make_case(*mode)
    objective, x, directions = case.in_coordinates(coordinates)
    point = objective.evaluate(x)
    direction = case.rng.normal(size=len(directions)) @ directions
    change = objective.evaluate(x + direction).residual - point.residual
    distance = np.abs(np.abs(point.residual) - BETA) / np.abs(change)
    step = 0.4 * distance.min()
    slope = derivative(lambda t: objective.evaluate(x + t * direction).value, step)
    assert slope == pytest.approx(direction @ point.gradient, abs=1e-14 * point.value / step)


@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_gradient_is_continuous_at_the_kinks(make_case, kind):
    # Half of the rows have residuals of ±β at theta.
    case = make_case(kind)
    r = case.objective.evaluate(case.theta).residual
    case.y[::2] += (np.sign(r) * BETA - r)[::2]
    point = case.objective.evaluate(case.theta)
    assert np.isclose(np.abs(point.residual), BETA).mean() >= 0.5
    direction = case.rng.normal(size=case.theta.size)
    expected = direction @ point.gradient
    for step in (
        1e-3,
        1e-5,
    ):  # half of the rows cross the threshold
        slope = derivative(
            lambda t: case.objective.evaluate(case.theta + t * direction).value, step
        )
        assert slope == pytest.approx(expected, abs=step * (direction @ direction))


@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize("penalty", PENALTIES)
def test_without_an_intercept_no_derivative_changes_b(make_case, kind, penalty):
    # The derivatives with respect to b are zero even if the first row of the whitening M, which
    # corresponds to b, is nonzero.
    case = make_case(kind, fit_intercept=False, penalty=penalty)
    coef = case.rng.normal(size=P + 1)
    coef[0] = 0.0
    point = case.linear.evaluate(coef)
    assert point.gradient[0] == 0.0
    assert point.gradient[1:].all()
    row_weight = case.rng.uniform(size=N)
    product = case.linear.hessian_product(row_weight, coef, np.empty(N))
    assert product(case.rng.normal(size=P + 1))[0] == 0.0
    assert case.linear.inside_gradient(point, coef, np.empty(N))[0] == 0.0
    assert case.linear.penalty_gradient(coef)[0] == 0.0
    assert case.coef[0] == 0.0


@pytest.mark.parametrize("mode", MODES)
def test_the_gradient_of_the_rows_inside_is_the_formula(make_case, mode):
    case = make_case(*mode)
    point = case.linear.evaluate(case.coef)
    inside = np.abs(point.residual) <= BETA
    Z = case.linear.rows(slice(None))
    expected = -(case.s * inside * point.residual) @ Z / case.s.sum()
    if not case.fit_intercept:
        expected[0] = 0.0
    residual = point.residual.copy()
    found = case.linear.inside_gradient(point, case.coef, np.empty(N))
    assert_allclose(found, expected, rtol=1e-11, atol=1e-13)
    assert_array_equal(point.residual, residual)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("outside", [False, True])
def test_the_predicted_gradient_is_that_of_the_lower_threshold_if_the_same_rows_are_inside(
    make_case, mode, outside
):
    case = make_case(*mode)
    point = case.objective.evaluate(case.theta)
    size = np.abs(point.residual)
    # No absolute residual lies between the two thresholds.
    middle = float(np.sort(size)[N // 2]) if outside else 1e3
    upper, lower = case.objective.at_threshold(1.001 * middle), 0.999 * middle
    assert outside == bool(np.any(size > upper.threshold))
    y = case.y + np.where(np.abs(size - middle) < 0.01 * middle, 0.1 * point.residual, 0.0)
    upper = case.with_data(y=y).at_threshold(upper.threshold)
    at_lower = upper.at_threshold(lower)
    point = upper.evaluate(case.theta)
    before = case.objective.n_passes
    found = upper.predicted_gradient(point, at_lower, np.empty(N))
    assert case.objective.n_passes == before + 1
    expected = at_lower.evaluate(case.theta).gradient
    assert_allclose(found, expected, rtol=1e-10, atol=1e-12 * middle)


# Hessian ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_hessian_is_the_derivative_of_the_gradient(make_case, mode):
    case = make_case(*mode)
    point = case.objective.evaluate(case.theta)
    inside = case.objective.psi_deriv(point)
    assert_array_equal(inside, np.abs(point.residual) <= BETA)
    H = case.objective.hessian(case.theta, inside)
    assert_allclose(H, H.T, rtol=1e-13, atol=1e-13)
    direction = case.rng.normal(size=case.theta.size)
    change = case.objective.evaluate(case.theta + direction).residual - point.residual
    distance = np.abs(np.abs(point.residual) - BETA) / np.abs(change)
    step = 0.9 * distance.min()  # the gradient is linear within this distance
    end = case.objective.evaluate(case.theta + step * direction)
    difference = (end.gradient - point.gradient) / step
    assert_allclose(difference, H @ direction, rtol=0, atol=1e-13 / step)


@pytest.mark.parametrize("mode", MODES)
def test_hessian_in_coefficients_is_the_formula(make_case, mode):
    case = make_case(*mode)
    row_weight = case.rng.uniform(size=N)
    Z = case.linear.rows(slice(None))
    basis = Whitening(np.eye(P + 1)[:, 0 if case.fit_intercept else 1 :], 1.0)
    M = basis.transform
    expected = M.T @ (Z.T @ ((case.s * row_weight)[:, None] * Z) / case.s.sum()) @ M
    penalty = np.append(0.0, case.curvature(BETA) / case.engine.scale**2)
    expected += M.T @ np.diag(penalty) @ M
    H = case.linear.hessian(row_weight, case.coef, basis)
    assert_allclose(H, expected, rtol=1e-12, atol=1e-13)
    product = case.linear.hessian_product(row_weight, case.coef, np.empty(N))
    direction = M @ case.rng.normal(size=M.shape[1])
    expected = M @ (expected @ (M.T @ direction))
    assert_allclose(product(direction), expected, rtol=1e-11, atol=1e-12)


@with_least_squares(BETA, 1e-6)
def test_hessian_product_is_the_product_with_the_hessian(make_case, mode, beta):
    case = make_case(*mode)
    objective = case.objective.at_threshold(beta)
    residual = objective.evaluate(case.theta).residual
    inside = np.abs(residual) <= beta
    H = objective.hessian(case.theta, inside)
    product = objective.hessian_product(case.theta, inside, np.empty_like(residual))
    kept = residual.copy()
    before = objective.n_passes
    for _ in range(3):
        d = case.rng.normal(size=case.theta.size)
        assert_allclose(product(d), H @ d, rtol=1e-11, atol=1e-12)
    assert objective.n_passes == before + 3
    assert_allclose(residual, kept, rtol=0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.9, 1.0, None])
def test_hessian_from_the_rows_outside_is_that_from_those_inside(make_case, mode, share):
    case = make_case(*mode)
    with_gram, without = case.objective, case.with_data(gram=None)
    assert with_gram.linear.data.gram is not None
    row_weight = case.rng.uniform(size=N)
    row_weight = np.minimum(2 * row_weight, 1.0) if share is None else row_weight < share
    H = without.hessian(case.theta, row_weight)
    assert_allclose(with_gram.hessian(case.theta, row_weight), H, atol=1e-13)
    fewer = min(np.count_nonzero(row_weight), np.count_nonzero(row_weight != 1))
    assert with_gram.n_hessian_rows(row_weight) == fewer
    assert without.n_hessian_rows(row_weight) == np.count_nonzero(row_weight)


def test_hessian_keeps_its_digits_where_rows_of_leverage_are_outside(make_objective):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, P))
    X[:4] *= 1e7
    objective = make_objective(X, X[:, 0], threshold=BETA)
    linear, theta = objective.linear, np.zeros(P + 1)
    data = linear.data._replace(gram=None)
    without = Whitened(LinearLoss(data, linear.loss, None, BETA), objective.whitening)
    inside = np.arange(200) >= 4
    H = without.hessian(theta, inside)
    assert objective.n_hessian_rows(inside) == 4
    assert_allclose(objective.hessian(theta, inside), H, rtol=1e-10)


@pytest.mark.parametrize("mode", MODES)
def test_the_whitened_hessian_of_least_squares_is_the_identity(make_case, mode):
    case = make_case(*mode)
    H = case.objective.hessian(case.theta, np.ones(N, dtype=bool))
    assert_allclose(H, np.eye(case.theta.size), atol=1e-12)


# Line search -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("beta", [0.05, BETA, 5.0])
def test_the_minimum_along_a_line_is_where_its_derivative_is_zero(make_case, mode, beta):
    case = make_case(*mode)
    objective = case.objective.at_threshold(beta)
    point = objective.evaluate(case.theta)
    step = case.rng.normal(size=case.theta.size)
    step *= -np.sign(step @ point.gradient)
    change = objective.evaluate(case.theta + step).residual - point.residual
    before, kept = objective.n_passes, point.residual.copy()
    length = objective.line_minimum(point, step, change)
    assert objective.n_passes == before
    assert_array_equal(point.residual, kept)
    assert length > 0
    end = objective.evaluate(case.theta + length * step)
    assert step @ end.gradient == pytest.approx(0.0, abs=1e-12)
    for t in np.linspace(0, 3 * length, 50):
        value = objective.evaluate(case.theta + t * step).value
        assert end.value <= value * (1 + 1e-14)
    in_coefficients = objective.linear.line_minimum(
        objective.linear.evaluate(case.coef), case.coef, objective.coef(step), change
    )
    assert in_coefficients == pytest.approx(length, rel=1e-9)


# Coordinates -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_coordinates_of_coefficients_are_found_again(make_case, mode):
    case = make_case(*mode)
    theta = case.objective.whitening.coordinates(case.coef)
    assert_allclose(theta, case.theta, rtol=1e-9, atol=1e-9)


def test_coordinates_through_a_sparse_transform_are_found_again(make_case):
    case = make_case(penalty=(0.1, False))
    M = sparse.diags_array([1.0, 2.0, 0.5, 1.0, 3.0]).tocsr()
    by_sparse = Whitened(case.linear, Whitening(M, 1.0))
    by_dense = Whitened(case.linear, Whitening(M.toarray(), 1.0))
    theta = case.rng.normal(size=5)
    coef = by_sparse.coef(theta)
    assert_allclose(by_sparse.whitening.coordinates(coef), theta, rtol=1e-13)
    one, other = by_sparse.evaluate(theta), by_dense.evaluate(theta)
    assert one.value == pytest.approx(other.value, rel=1e-14)
    assert_allclose(one.gradient, other.gradient, rtol=1e-12)
    inside = by_sparse.psi_deriv(one)
    product = by_sparse.hessian_product(theta, inside, np.empty_like(one.residual))
    H = by_dense.hessian(theta, inside)
    assert_allclose(product(theta), H @ theta, rtol=1e-11)
    assert_allclose(by_sparse.hessian(theta, inside), H, rtol=1e-11, atol=1e-12)


def test_rows_in_whitened_coordinates_are_the_derivatives_of_the_fit(make_case):
    case = make_case()
    residual = case.objective.evaluate(case.theta).residual
    for j, direction in enumerate(np.eye(case.theta.size)):
        change = case.objective.evaluate(case.theta + direction).residual - residual
        assert_allclose(case.objective.rows(slice(None))[:, j], -change, atol=1e-12)
    assert_allclose(
        case.objective.rows(np.array([3, 5])), case.objective.rows(slice(None))[[3, 5]]
    )


# Sizes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_the_absolute_linear_predictor_adds_the_sizes_of_the_terms(make_case, kind):
    case = make_case(kind)
    expected = np.abs(case.linear.rows(slice(None))) @ np.abs(case.coef)
    for size in (
        case.objective.abs_linear_predictor(case.theta),
        case.linear.abs_linear_predictor(case.coef),
    ):
        assert_allclose(size, expected, rtol=1e-13)


def test_the_relative_gradient_is_between_zero_and_one_in_any_units_of_y(make_case):
    case = make_case()
    found = []
    for unit in (1.0, 1e9, 1e-9):
        objective = case.with_data(y=case.y * unit).at_threshold(BETA * unit)
        found.append(objective.evaluate(case.theta * unit).relative_gradient)
    assert 0 < found[0] <= 1
    assert_allclose(found, found[0], rtol=1e-12)


def test_the_relative_gradient_is_zero_at_an_exact_fit(make_case):
    case = make_case()
    case.y[:] = 0.0
    assert case.objective.evaluate(np.zeros(P + 1)).relative_gradient == 0.0


def test_the_relative_gradient_is_infinite_where_only_the_penalty_has_a_gradient():
    assert Evaluation(np.ones(1), 1.0, np.ones(1), np.zeros(3), 0.0).relative_gradient == np.inf


def test_the_relative_gradient_does_not_overflow():
    point = Evaluation(np.ones(2), 1.0, np.full(2, 1e200), np.full(3, 1e200), 1e200)
    assert point.relative_gradient == pytest.approx(np.sqrt(2))
