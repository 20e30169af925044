"""The scales of the residuals: the MAD, the concomitant σ̂, and the rounding floor."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import norm

from skrobust import SmoothL1Regressor
from skrobust._model.scale import (
    AUTO_CONCOMITANT,
    AUTO_MAD,
    MIN_THRESHOLD,
    NORMAL_MAD,
    Concomitant,
    Mad,
    WarmScale,
    centre_and_size,
    mad,
    null_scale,
    rounding_floor,
    rounding_floor_bound,
)

EPS = np.finfo(float).eps
EPSILONS = [1.01, 1.35, AUTO_CONCOMITANT, 5.0]
ESTIMATORS = [Mad(AUTO_MAD), *map(Concomitant, EPSILONS)]


def concomitant(epsilon, residual, weight=None, warm=None):
    return Concomitant(epsilon).estimate(residual, weight, warm)


# MAD -------------------------------------------------------------------------------------


def test_the_mad_of_normal_residuals_is_their_deviation():
    residual = 3.0 * np.random.default_rng(0).normal(size=200_000)
    assert mad(residual) == pytest.approx(3.0, rel=0.01)  # within four standard errors
    assert pytest.approx(norm.ppf(0.75)) == NORMAL_MAD


def test_the_mad_is_centred_at_zero_and_does_not_depend_on_signs():
    residual = np.random.default_rng(0).normal(size=101)
    assert mad(np.abs(residual)) == mad(residual)
    assert mad(residual + 10.0) == pytest.approx(10.0 / NORMAL_MAD, rel=0.1)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_scales_are_equivariant_and_integer_weights_are_repeats(estimator):
    def estimate(residual, weight=None):
        return estimator.estimate(residual, weight)

    rng = np.random.default_rng(1)
    residual, weight = rng.standard_t(2, size=60), rng.integers(0, 4, size=60)
    weight[0] = 1
    expected = estimate(np.repeat(residual, weight))
    for factor in (1.0, 0.1, 1e9):
        assert estimate(residual, factor * weight) == pytest.approx(expected, rel=1e-13)
    for unit in (1e-9, 1e9, 1e-300, 1e300):
        assert estimate(residual * unit) == pytest.approx(unit * estimate(residual), rel=1e-12)
    assert estimate(residual, np.full(60, 0.1)) == pytest.approx(estimate(residual), rel=1e-13)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("weight", [None, np.ones(10), np.arange(10.0)])
def test_the_scale_of_zeros_is_zero(estimator, weight):
    assert estimator.estimate(np.zeros(10), weight) == 0.0


@pytest.mark.parametrize("n", [101, 100_000])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_near_scale_does_not_change_the_mad(n, weighted):
    rng = np.random.default_rng(0)
    residual = rng.standard_t(2, size=n)
    weight = rng.uniform(size=n) if weighted else None
    expected = mad(residual, weight)
    assert Mad(AUTO_MAD).estimate(residual, weight) == expected
    for factor in (1.0, 0.995, 1.01, 0.5, 3.0, 1e-9):
        assert mad(residual, weight, factor * expected) == expected
        warm = WarmScale(factor * expected, 1.0)
        assert Mad(AUTO_MAD).estimate(residual, weight, warm) == expected


def test_the_mad_is_zero_exactly_where_more_than_half_are_zero():
    assert mad(np.array([0.0, 0.0, 0.0, 5.0, 7.0])) == 0.0
    assert mad(np.array([0.0, 0.0, 6.0, 7.0])) == pytest.approx(3.0 / NORMAL_MAD)
    assert mad(np.array([0.0, 6.0]), np.array([2.0, 1.0])) == 0.0


# Concomitant -----------------------------------------------------------------------------


def objective(sigma, residual, weight, epsilon):
    """Return Σ s [σ + H_ε(r/σ) σ], the documented formula."""
    z = residual / sigma
    H = np.where(np.abs(z) <= epsilon, z**2, 2 * epsilon * np.abs(z) - epsilon**2)
    return np.sum(weight * (sigma + H * sigma))


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 10, 500])
@pytest.mark.parametrize("df", [1, 50])
def test_the_concomitant_scale_solves_its_equation_and_minimises(epsilon, weighted, n, df):
    rng = np.random.default_rng(n)
    residual = rng.standard_t(df, size=n)
    weight = rng.uniform(0.1, 1, size=n) if weighted else np.ones(n)
    sigma = concomitant(epsilon, residual, weight if weighted else None)
    inside = np.minimum((residual / sigma) ** 2, epsilon**2)
    assert weight @ inside == pytest.approx(weight.sum(), rel=1e-12)

    def value(log_sigma):
        return objective(np.exp(log_sigma), residual, weight, epsilon)

    found = minimize_scalar(value, bracket=(np.log(sigma) - 1, np.log(sigma) + 2), tol=1e-12)
    assert value(np.log(sigma)) <= found.fun * (1 + 1e-13)
    assert sigma == pytest.approx(np.exp(found.x), rel=1e-6)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_the_concomitant_scale_with_ties_and_zeros(epsilon):
    rng = np.random.default_rng(0)
    for seed in range(50):
        rng = np.random.default_rng(seed)
        residual = rng.integers(-2, 3, size=12).astype(float)
        outside = np.mean(residual != 0)
        sigma = concomitant(epsilon, residual)
        if outside * epsilon**2 <= 1:  # too few residuals are nonzero
            assert sigma == 0.0
        else:
            assert np.mean(np.minimum((residual / sigma) ** 2, epsilon**2)) == pytest.approx(1)


@pytest.mark.parametrize("epsilon", [1e2, 1e5, 1e8])
def test_with_a_large_epsilon_the_concomitant_scale_is_the_root_mean_square(epsilon):
    rng = np.random.default_rng(0)
    residual, weight = rng.normal(size=50), rng.uniform(size=50)
    expected = np.sqrt(np.average(residual**2, weights=weight))
    assert concomitant(epsilon, residual, weight) == pytest.approx(expected, rel=1e-12)


@pytest.mark.slow
def test_the_concomitant_scale_of_a_million_constant_weights():
    residual = np.random.default_rng(0).standard_t(2, size=10**6)
    expected = concomitant(1.35, residual)
    assert concomitant(1.35, residual, np.full(10**6, 0.1)) == pytest.approx(expected, rel=1e-9)


def warm_scale(scale, residual, weight, epsilon):
    clipped = residual.clip(-epsilon * scale, epsilon * scale)
    return WarmScale(scale, float(np.sqrt(np.average(clipped**2, weights=weight))))


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("law", ["none", "small where outside", "a few rows have most"])
@pytest.mark.parametrize("n", [100, 300_000])
def test_one_step_from_a_near_scale_leads_to_the_concomitant_scale(epsilon, law, n):
    rng = np.random.default_rng(0)
    residual = rng.standard_t(3, size=n)
    # Rows 3, 13, and so on. A sample of every k-th row contains none of these rows if k is a
    # multiple of 2 or 5.
    outside = np.arange(n) % 10 == 3
    residual[outside] *= 100
    few = np.where(rng.random(n) < 0.01, 1.0, 1e-4)
    laws = {"none": None, "small where outside": np.where(outside, 0.05, 1.0)}
    weight = laws.get(law, few)
    sigma = concomitant(epsilon, residual, weight)
    at_root = warm_scale(sigma, residual, weight, epsilon)
    assert concomitant(epsilon, residual, weight, at_root) == pytest.approx(sigma, rel=1e-12)
    for factor in (0.999, 1.001):
        warm = warm_scale(factor * sigma, residual, weight, epsilon)
        estimate = concomitant(epsilon, residual, weight, warm)
        assert estimate == pytest.approx(sigma, rel=0.2 * abs(factor - 1))


@pytest.mark.parametrize("n", [10, 5_000])
def test_the_concomitant_scale_of_nan_is_nan(n):
    assert np.isnan(concomitant(1.35, np.full(n, np.nan)))


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_a_concomitant_scale_of_zero_is_found_from_a_positive_one(epsilon):
    residual = np.zeros(1_000)
    residual[: int(900 / epsilon**2)] = 1.0
    assert concomitant(epsilon, residual, None, warm_scale(0.1, residual, None, epsilon)) == 0.0


# What "auto" means -----------------------------------------------------------------------


def huber_efficiency(k):
    """Return the asymptotic efficiency of Huber's estimator with threshold kσ."""
    inside = 2 * norm.cdf(k) - 1
    square = inside - 2 * k * norm.pdf(k) + 2 * k**2 * norm.sf(k)
    return inside**2 / square


def concomitant_limit(epsilon):
    """Return σ̂/σ for normal residuals, where E min(z²/σ̂², ε²) = 1."""

    def excess(s):
        k = epsilon * s
        square = 2 * norm.cdf(k) - 1 - 2 * k * norm.pdf(k)
        return square / s**2 + 2 * epsilon**2 * norm.sf(k) - 1

    return brentq(excess, 0.05, 5)


def test_auto_has_95_percent_efficiency_under_normal_errors():
    assert huber_efficiency(AUTO_MAD) == pytest.approx(0.95, abs=2e-5)
    scale = concomitant_limit(AUTO_CONCOMITANT)
    assert scale == pytest.approx(0.843, abs=5e-4)
    assert huber_efficiency(AUTO_CONCOMITANT * scale) == pytest.approx(0.95, abs=2e-5)
    # The limiting scale and the efficiency of HuberRegressor with its default epsilon.
    assert concomitant_limit(1.35) == pytest.approx(0.681, abs=5e-4)
    assert huber_efficiency(1.35 * concomitant_limit(1.35)) == pytest.approx(0.889, abs=5e-4)


@pytest.mark.parametrize("epsilon", [1.35, AUTO_CONCOMITANT])
def test_the_concomitant_scale_of_normal_residuals_is_its_limit(epsilon):
    residual = np.random.default_rng(0).normal(size=200_000)
    assert concomitant(epsilon, residual) == pytest.approx(concomitant_limit(epsilon), rel=0.01)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("options", "estimator"),
    [
        ({}, Mad(AUTO_MAD)),
        ({"beta": 0.5, "scale": "mad"}, Mad(0.5)),
        ({"scale": "concomitant"}, Concomitant(AUTO_CONCOMITANT)),
        ({"beta": 1.35, "scale": "concomitant"}, Concomitant(1.35)),
    ],
)
@pytest.mark.parametrize("n", [40, 2000])
def test_scale_threshold_and_fit_agree(options, estimator, weighted, n):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3))
    y = X @ [1.0, 2.0, 3.0] + rng.standard_t(2, size=n)
    weight = rng.uniform(0.1, 1, size=n) if weighted else None
    est = SmoothL1Regressor(**options).fit(X, y, weight)
    scale = estimator.estimate(y - est.predict(X), weight)
    assert est.scale_ == pytest.approx(scale, rel=1e-7)
    assert est.beta_ == pytest.approx(estimator.factor * est.scale_, rel=1e-14)


def test_a_concomitant_scale_whose_median_vanishes_beside_the_rest():
    # At σ = 0.5, 3 / σ² = 12 and 1 / σ² < 2.5². The square of the median underflows.
    residual = np.r_[np.full(9, 1e-200), np.ones(3)]
    assert_allclose(concomitant(2.5, residual), 0.5, rtol=1e-15)


# Threshold and rounding floor ------------------------------------------------------------


def test_a_threshold_is_a_multiple_of_the_scale_and_positive():
    for estimator in ESTIMATORS:
        assert estimator.threshold(2.0) == 2.0 * estimator.factor
        assert estimator.threshold(0.0) == MIN_THRESHOLD


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_scale_at_a_point_is_that_of_its_residuals(make_objective, estimator, weighted):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 3)), rng.standard_t(2, size=50)
    weight = rng.uniform(0.1, 1, size=50) if weighted else None
    objective = make_objective(X, y, weight)
    point = objective.evaluate(rng.normal(size=4))
    scale = estimator.estimate(point.residual, weight)
    assert estimator.scale(objective, point) == scale
    # If the threshold of the objective corresponds to the scale, a warm start from this scale
    # does not change the result.
    at_scale = objective.at_threshold(estimator.threshold(scale)).evaluate(point.theta)
    assert estimator.scale(objective, at_scale, scale) == pytest.approx(scale, rel=1e-12)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("size", [1.0, 1e-3, 1.0e6])
def test_the_scale_of_an_exact_fit_is_that_of_its_rounding(make_objective, estimator, size):
    X = np.random.default_rng(0).normal(size=(50, 3))
    objective = make_objective(X, size * X[:, 0])
    theta = objective.whitening.coordinates(
        np.append(size * X[:, 0].mean(), size * objective.linear.data.engine.scale * [1, 0, 0])
    )
    point = objective.evaluate(theta)
    assert np.abs(point.residual).max() < 1e-13 * size
    rounding, floor = rounding_floor(objective, theta)
    assert np.all(np.abs(point.residual) <= rounding)
    assert estimator.scale(objective, point) == floor
    assert EPS * size < floor < 1e3 * EPS * size


@pytest.mark.parametrize("weighted", [False, True])
def test_the_bound_of_the_floor_takes_no_pass_and_is_not_below_the_floor(
    make_objective, weighted
):
    # In the internal units of a fit, no |y| is much larger than 2.
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 3)), rng.uniform(-1, 1, size=200)
    weight = rng.uniform(size=200) if weighted else None
    objective = make_objective(X, y, weight)
    for size in (0.0, 1.0, 1e3):
        theta = size * rng.normal(size=4)
        before = objective.n_passes
        bound = rounding_floor_bound(objective, theta)
        assert objective.n_passes == before
        assert rounding_floor(objective, theta)[1] <= bound


def test_the_centre_and_size_of_y():
    y = np.array([3.0, 3.0, 3.0, 3.0, 4.0, 5.0, 1e20])
    assert centre_and_size(y) == (3.0, 2.0)
    assert centre_and_size(y, np.array([1.0, 1.0, 2.0, 1.0, 2.0, 1.0, 1.0])) == (3.0, 1.5)
    assert centre_and_size(np.r_[np.zeros(99), 5.0]) == (0.0, 5.0)
    assert centre_and_size(np.ones(4)) == (1.0, 0.0)
    assert centre_and_size(np.array([0.0, 0.0, 1.0, 7.0]), np.array([2.0, 2.0, 1.0, 0.0])) == (
        0,
        1,
    )
    rare = np.zeros(100_000)
    rare[7] = 3.0
    assert centre_and_size(rare) == (0.0, 3.0)
    # An evenly spaced sample could contain only extreme values.
    y = np.random.default_rng(0).normal(size=30_000)
    y[::3] = 1e20
    centre, size = centre_and_size(y)
    assert 0.6 < centre < 0.8
    assert 1 < size < 2


def test_the_floor_knows_the_rounding_of_the_location_that_was_subtracted(make_objective):
    X, y = np.ones((20, 1)), np.linspace(-1, 1, 20)
    objective = make_objective(X, y)
    _, plain = rounding_floor(objective, np.zeros(1))
    objective.linear.data = objective.linear.data._replace(y_shift=1e9)
    rounding, floor = rounding_floor(objective, np.zeros(1))
    assert_allclose(rounding, EPS * 1e9, rtol=1e-6)
    assert floor > 1e6 * plain
    assert rounding_floor_bound(objective, np.zeros(1)) > floor


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_scale_without_coefficients_is_positive(estimator):
    y = np.random.default_rng(0).normal(size=30)
    assert null_scale(estimator, y, None) == estimator.estimate(y, None)
    # Most elements of `few` are zero, so the MAD is zero and is replaced by the mean of |y|.
    few = np.where(np.arange(30) < 1, 60.0, 0.0)
    assert null_scale(estimator, few, None) == (estimator.estimate(few, None) or 2.0)
    assert null_scale(Mad(AUTO_MAD), few, None) == 2.0
    assert null_scale(estimator, np.zeros(30), None) > 0
