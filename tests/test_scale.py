"""The scales of the residuals: the weighted median, the MAD and the concomitant σ̂."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import norm

from skrobust import SmoothL1Regressor
from skrobust._scale import (
    AUTO_CONCOMITANT,
    AUTO_MAD,
    NORMAL_MAD,
    Near,
    ScaleRule,
    concomitant,
    mad,
    weighted_median,
)

EPSILONS = [1.01, 1.35, AUTO_CONCOMITANT, 5.0]

# Weighted median -------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.0, 0.1, 1 / 3, 1e-200, 7e200])
def test_integer_weights_mean_repeated_values(factor):
    # Small integers, so that half of the weight is often met exactly.
    rng = np.random.default_rng(0)
    tied = 0
    for _ in range(500):
        n = rng.integers(1, 12)
        values, weight = rng.integers(-4, 5, size=n) * 0.7, rng.integers(0, 4, size=n)
        if weight.sum() == 0:
            continue
        expected = np.median(np.repeat(values, weight))
        assert weighted_median(values, factor * weight) == expected
        tied += expected not in values
    assert tied > 20


@pytest.mark.parametrize(
    ("values", "weight", "expected"),
    [
        ([3.0], [2.0], 3.0),
        ([1.0, 2.0], [1.0, 1.0], 1.5),
        ([1.0, 2.0], [1.0, 1.0 + 1e-6], 2.0),
        ([3.0, 1.0, 2.0], [2.0, 1.0, 1.0], 2.5),
        ([1.0, 2.0, 9.0], [1.0, 0.0, 1.0], 5.0),
        ([1.0, 2.0, 9.0], [0.0, 1.0, 0.0], 2.0),
        ([0.0, 1.0, 9.0], [0.0, 1.0, 1.0], 5.0),
        ([1.0, 9.0, 10.0], [1.0, 1.0, 0.0], 5.0),
        ([1.0, 2.0, 3.0], [0.3, 0.1, 0.2], 1.5),  # .3 + .1 + .2 = .6 only up to rounding
    ],
)
def test_half_of_the_weight_is_shared_by_the_neighbours(values, weight, expected):
    assert weighted_median(np.array(values), np.array(weight)) == expected


@pytest.mark.parametrize("n", [10**6, 10**6 + 1])
@pytest.mark.parametrize("constant", [0.1, 1 / 3])
def test_a_million_constant_weights_are_no_weights(n, constant):
    # Half-sums of a million tenths are wrong by 2e-11, which must not decide a tie.
    values = np.random.default_rng(0).normal(size=n)
    assert weighted_median(values, np.full(n, constant)) == np.median(values)


@pytest.mark.parametrize("pattern", [[0.1, 0.3], [1 / 3, 1.0]])
def test_a_million_unequal_weights_of_which_half_is_met_exactly(pattern):
    # As many weights of each kind on both sides of zero.
    size = np.random.default_rng(0).uniform(0.5, 1, size=500_000)
    values, weight = np.concatenate([-size, size]), np.tile(pattern, 500_000)
    expected = 0.5 * (size.min() - size.min())
    assert weighted_median(values, weight) == expected


def test_a_tie_is_not_seen_where_a_small_weight_decides():
    values, weight = np.arange(10_000.0), np.ones(10_000)
    weight[0] += 1e-6
    assert weighted_median(values, weight) == 4999.0
    weight[0], weight[-1] = 1.0, 1.0 + 1e-6
    assert weighted_median(values, weight) == 5000.0


def test_the_order_of_the_values_does_not_matter():
    rng = np.random.default_rng(0)
    values, weight = rng.normal(size=101), rng.uniform(size=101)
    expected = weighted_median(values, weight)
    kept = values.copy()
    for _ in range(10):
        order = rng.permutation(101)
        assert weighted_median(values[order], weight[order]) == expected
    assert_allclose(values, kept, rtol=0)


# MAD -------------------------------------------------------------------------------------


def test_the_mad_of_normal_residuals_is_their_deviation():
    residual = 3.0 * np.random.default_rng(0).normal(size=200_000)
    assert mad(residual) == pytest.approx(3.0, rel=0.01)  # four standard errors
    assert pytest.approx(norm.ppf(0.75)) == NORMAL_MAD


def test_the_mad_is_centred_at_zero_and_blind_to_signs():
    residual = np.random.default_rng(0).normal(size=101)
    assert mad(np.abs(residual)) == mad(residual)
    assert mad(residual + 10.0) == pytest.approx(10.0 / NORMAL_MAD, rel=0.1)


@pytest.mark.parametrize("estimate", [mad, *map(concomitant, EPSILONS)])
def test_scales_are_equivariant_and_integer_weights_are_repeats(estimate):
    rng = np.random.default_rng(1)
    residual, weight = rng.standard_t(2, size=60), rng.integers(0, 4, size=60)
    weight[0] = 1
    expected = estimate(np.repeat(residual, weight))
    for factor in (1.0, 0.1, 1e9):
        assert estimate(residual, factor * weight) == pytest.approx(expected, rel=1e-13)
    for unit in (1e-9, 1e9, 1e-300, 1e300):
        assert estimate(residual * unit) == pytest.approx(unit * estimate(residual), rel=1e-12)
    assert estimate(residual, np.full(60, 0.1)) == pytest.approx(estimate(residual), rel=1e-13)


@pytest.mark.parametrize("estimate", [mad, *map(concomitant, EPSILONS)])
@pytest.mark.parametrize("weight", [None, np.ones(10), np.arange(10.0)])
def test_the_scale_of_zeros_is_zero(estimate, weight):
    assert estimate(np.zeros(10), weight) == 0.0


def test_the_mad_is_zero_exactly_where_more_than_half_are_zero():
    assert mad(np.array([0.0, 0.0, 0.0, 5.0, 7.0])) == 0.0
    assert mad(np.array([0.0, 0.0, 6.0, 7.0])) == pytest.approx(3.0 / NORMAL_MAD)
    assert mad(np.array([0.0, 6.0]), np.array([2.0, 1.0])) == 0.0


# Concomitant -----------------------------------------------------------------------------


def objective(sigma, residual, weight, epsilon):
    """Σ s [σ + H_ε(r/σ) σ], as the documentation writes it."""
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
    sigma = concomitant(epsilon)(residual, weight if weighted else None)
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
        sigma = concomitant(epsilon)(residual)
        if outside * epsilon**2 <= 1:  # even with all of them outside there is too little
            assert sigma == 0.0
        else:
            assert np.mean(np.minimum((residual / sigma) ** 2, epsilon**2)) == pytest.approx(1)


@pytest.mark.parametrize("epsilon", [1e2, 1e5, 1e8])
def test_with_a_large_epsilon_the_concomitant_scale_is_the_root_mean_square(epsilon):
    rng = np.random.default_rng(0)
    residual, weight = rng.normal(size=50), rng.uniform(size=50)
    expected = np.sqrt(np.average(residual**2, weights=weight))
    assert concomitant(epsilon)(residual, weight) == pytest.approx(expected, rel=1e-12)


def test_the_concomitant_scale_of_a_million_constant_weights():
    residual = np.random.default_rng(0).standard_t(2, size=10**6)
    expected = concomitant(1.35)(residual)
    assert concomitant(1.35)(residual, np.full(10**6, 0.1)) == pytest.approx(expected, rel=1e-9)


def near(scale, residual, weight, epsilon):
    clipped = residual.clip(-epsilon * scale, epsilon * scale)
    return Near(scale, float(np.sqrt(np.average(clipped**2, weights=weight))))


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("law", ["none", "small where outside", "a few rows have most"])
@pytest.mark.parametrize("n", [100, 300_000])
def test_from_nearby_a_step_leads_to_the_concomitant_scale(epsilon, law, n):
    rng = np.random.default_rng(0)
    residual = rng.standard_t(3, size=n)
    # One of ten, at a place that many strides never meet.
    outside = np.arange(n) % 10 == 3
    residual[outside] *= 100
    few = np.where(rng.random(n) < 0.01, 1.0, 1e-4)
    laws = {"none": None, "small where outside": np.where(outside, 0.05, 1.0)}
    weight = laws.get(law, few)
    estimate = concomitant(epsilon)
    sigma = estimate(residual, weight)
    at_root = near(sigma, residual, weight, epsilon)
    assert estimate(residual, weight, at_root) == pytest.approx(sigma, rel=1e-12)
    for part in (0.999, 1.001):
        found = estimate(residual, weight, near(part * sigma, residual, weight, epsilon))
        assert found == pytest.approx(sigma, rel=0.2 * abs(part - 1))


@pytest.mark.parametrize("n", [10, 5_000])
def test_the_concomitant_scale_of_what_is_no_number_is_none(n):
    assert np.isnan(concomitant(1.35)(np.full(n, np.nan)))


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_nearby_a_concomitant_scale_may_be_zero(epsilon):
    residual = np.zeros(1_000)
    residual[: int(900 / epsilon**2)] = 1.0
    assert concomitant(epsilon)(residual, None, near(0.1, residual, None, epsilon)) == 0.0


# What "auto" means -----------------------------------------------------------------------


def huber_efficiency(k):
    """Asymptotic efficiency of Huber's estimator with threshold kσ at the normal."""
    inside = 2 * norm.cdf(k) - 1
    square = inside - 2 * k * norm.pdf(k) + 2 * k**2 * norm.sf(k)
    return inside**2 / square


def concomitant_limit(epsilon):
    """σ̂/σ for normal residuals: E min(z²/σ̂², ε²) = 1."""

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
    # What HuberRegressor's 1.35 gives in truth.
    assert concomitant_limit(1.35) == pytest.approx(0.681, abs=5e-4)
    assert huber_efficiency(1.35 * concomitant_limit(1.35)) == pytest.approx(0.889, abs=5e-4)


@pytest.mark.parametrize("epsilon", [1.35, AUTO_CONCOMITANT])
def test_the_concomitant_scale_of_normal_residuals_is_its_limit(epsilon):
    residual = np.random.default_rng(0).normal(size=200_000)
    assert concomitant(epsilon)(residual) == pytest.approx(concomitant_limit(epsilon), rel=0.01)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({}, ScaleRule(AUTO_MAD, mad)),
        ({"beta": 0.5, "scale": "mad"}, ScaleRule(0.5, mad)),
        ({"scale": "concomitant"}, ScaleRule(AUTO_CONCOMITANT, concomitant(AUTO_CONCOMITANT))),
        ({"beta": 1.35, "scale": "concomitant"}, ScaleRule(1.35, concomitant(1.35))),
    ],
)
@pytest.mark.parametrize("n", [40, 2000])
def test_scale_threshold_and_fit_agree(options, rule, weighted, n):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3))
    y = X @ [1.0, 2.0, 3.0] + rng.standard_t(2, size=n)
    weight = rng.uniform(0.1, 1, size=n) if weighted else None
    est = SmoothL1Regressor(**options).fit(X, y, weight)
    assert est.scale_ == pytest.approx(rule.estimate(y - est.predict(X), weight), rel=1e-7)
    assert est.beta_ == pytest.approx(rule.factor * est.scale_, rel=1e-14)


def test_a_median_of_no_numbers_is_none():
    # As where another thread writes NaN to X during a fit.
    assert np.isnan(weighted_median(np.full(50_000, np.nan)))
    assert np.isnan(weighted_median(np.full(50_000, np.nan), near=1.0))


def test_a_concomitant_scale_whose_median_vanishes_beside_the_rest():
    # 3 / σ² = 12, and 1 / σ² < 2.5²; the square of the median is no number.
    residual = np.r_[np.full(9, 1e-200), np.ones(3)]
    assert_allclose(concomitant(2.5)(residual), 0.5, rtol=1e-15)
