"""The penalties on standardised coefficients: values, derivatives and units."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skrobust._engines import as_engine
from skrobust._engines.threads import ThreadTeam
from skrobust._model.penalty import MAX_CURVATURE, Penalty, Ridge


def engine_of(centre, scale):
    X = np.random.default_rng(0).normal(size=(9, len(scale)))
    return as_engine(X, ThreadTeam()).with_standardisation(np.array(centre), np.array(scale))


@pytest.fixture
def ridge():
    return Ridge(np.array([0.0, 1.0, 1e-3, 50.0]))


@pytest.fixture
def coef():
    return np.array([7.0, -2.0, 3.0, 0.1])


def test_the_value_is_half_the_weighted_sum_of_squares(ridge, coef):
    assert ridge.value(coef) == pytest.approx(0.5 * (4.0 + 9e-3 + 0.5))
    assert type(ridge.value(coef)) is float
    assert ridge.value(np.zeros(4)) == 0.0


def test_gradient_and_hessian_are_the_derivatives(ridge, coef):
    step = 1e-5
    gradient, diagonal = ridge.gradient(coef), ridge.hessian_diagonal(coef)
    for j, d in enumerate(step * np.eye(4)):
        slope = (ridge.value(coef + d) - ridge.value(coef - d)) / (2 * step)
        assert gradient[j] == pytest.approx(slope, rel=1e-8, abs=1e-9)
        change = ridge.gradient(coef + d) - ridge.gradient(coef - d)
        assert_allclose(change / (2 * step), diagonal[j] * np.eye(4)[j], rtol=1e-8, atol=1e-9)
    assert ridge.is_quadratic
    assert isinstance(ridge, Penalty)


def test_the_intercept_is_not_penalised(ridge, coef):
    other = coef + 100.0 * np.eye(4)[0]
    assert ridge.value(other) == ridge.value(coef)
    assert ridge.gradient(other)[0] == 0.0
    assert ridge.hessian_diagonal(other)[0] == 0.0


def test_a_scaled_penalty_is_a_multiple_and_the_penalty_stays_as_it_is(ridge, coef):
    value, diagonal = ridge.value(coef), ridge.hessian_diagonal(coef).copy()
    scaled = ridge.scaled(3.0)
    assert scaled.value(coef) == pytest.approx(3 * value, rel=1e-15)
    assert_allclose(scaled.gradient(coef), 3 * ridge.gradient(coef), rtol=1e-15)
    assert_allclose(scaled.hessian_diagonal(coef), 3 * diagonal, rtol=1e-15)
    assert scaled.is_quadratic
    assert ridge.value(coef) == value
    assert_array_equal(ridge.hessian_diagonal(coef), diagonal)
    assert ridge.scaled(0.0).value(coef) == 0.0


@pytest.mark.parametrize("factor", [1e10, 1e300, 1e308])
def test_a_scaled_penalty_does_not_overflow(factor):
    # There is no NumPy warning if 1e299 times the factor overflows.
    scaled = Ridge(np.array([0.0, 1e-9, 1e299])).scaled(factor)
    diagonal = scaled.hessian_diagonal(np.zeros(3))
    assert_allclose(diagonal, [0.0, 1e-9 * factor, MAX_CURVATURE], rtol=1e-14)


@pytest.mark.parametrize("alpha", [1e-12, 0.3, 1e9])
@pytest.mark.parametrize("rescaled", [False, True])
def test_the_strength_is_that_of_the_coefficients_in_the_units_of_the_data(alpha, rescaled):
    scale = np.array([1e-3, 1.0, 200.0])
    engine = engine_of([5.0, 0.0, -1.0], scale)
    if rescaled:
        # Both X and the scale are divided by the unit, which leaves the standardised features
        # unchanged.
        unit = engine.rescaled().unit
        engine = engine.rescaled().with_standardisation(engine.centre, scale / unit)
        assert unit == 2.0**64
    ridge = Ridge.of_strength(alpha, engine)
    w = np.array([1.0, -2.0, 3.0])
    coef = np.append(4.0, w * scale)
    assert ridge.value(coef) == pytest.approx(0.5 * alpha * w @ w, rel=1e-14)
    expected = np.append(0.0, alpha * w / scale)
    assert_allclose(ridge.gradient(coef), expected, rtol=1e-14)
    diagonal = np.append(0.0, alpha / scale**2)
    assert_allclose(ridge.hessian_diagonal(coef), diagonal, rtol=1e-14)


def test_a_constant_feature_has_no_penalty():
    ridge = Ridge.of_strength(0.3, engine_of([1.0, 2.0], [np.inf, 0.5]))
    assert_allclose(ridge.hessian_diagonal(np.zeros(3)), [0.0, 0.0, 1.2], rtol=1e-15)


def test_a_strength_is_finite_where_the_square_of_the_scale_vanishes():
    # 1/scale² overflows in the first two columns. α/scale² is finite in the first and limited
    # to `MAX_CURVATURE` in the second.
    engine = engine_of([0.0, 0.0, 0.0], [1e-160, 1e-200, 1e160])
    ridge = Ridge.of_strength(1e-100, engine)
    diagonal = ridge.hessian_diagonal(np.zeros(4))
    assert_allclose(diagonal, [0.0, 1e220, MAX_CURVATURE, 0.0], rtol=1e-14)
    assert Ridge.of_strength(1e300, engine).hessian_diagonal(np.zeros(4))[2] == MAX_CURVATURE


def test_a_weight_of_zero_is_no_penalty_where_the_square_of_the_scale_vanishes():
    engine = engine_of([0.0, 0.0], [1e-160, 1e-200])
    ridge = Ridge.of_strength(1.0, engine, np.zeros(2))
    assert_array_equal(ridge.hessian_diagonal(np.zeros(3)), 0.0)


def test_a_strength_of_zero_is_no_penalty():
    engine = engine_of([0.0, 0.0], [1.0, np.inf])
    assert_array_equal(Ridge.of_strength(0.0, engine).hessian_diagonal(np.zeros(3)), 0.0)
