"""The losses of the model: ρ, ψ, ψ′ and the weights agree with each other and with `losses`."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skrobust import losses
from skrobust._model.loss import BISQUARE, HUBER, Huber, Loss

THRESHOLDS = [1e-100, 1e-9, 0.5, 1.345, 1e6]


def residuals(threshold):
    """Return residuals on both sides of the threshold, at it and next to it."""
    inside = np.linspace(-1, 1, 21) * threshold
    at = threshold * np.array([1.0, 1 - 1e-15, 1 + 1e-15])
    outside = np.array([1.5, 1e3, 1e9]) * threshold
    return np.concatenate([inside, at, -at, outside, -outside])


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_rho_and_psi_are_the_public_huber_loss(threshold):
    r = residuals(threshold)
    rho = losses.huber(r, threshold)
    assert_allclose(HUBER.rho(r, threshold), rho, rtol=1e-14)
    assert_array_equal(HUBER.psi(r, threshold), losses.huber_gradient(r, threshold))
    # Smooth L1 is the Huber loss divided by the threshold.
    smooth_l1 = losses.smooth_l1(r, threshold)
    assert_allclose(HUBER.rho(r, threshold) / threshold, smooth_l1, rtol=1e-13)
    gradient = losses.smooth_l1_gradient(r, threshold)
    assert_allclose(HUBER.psi(r, threshold) / threshold, gradient, rtol=1e-14)


@pytest.mark.parametrize("threshold", [*THRESHOLDS, np.inf])
def test_the_function_of_numbers_is_that_of_arrays(threshold):
    r = residuals(min(threshold, 1.0))
    pairs = [HUBER.rho_psi(float(number), threshold) for number in r]
    assert_array_equal(np.array(pairs)[:, 0], HUBER.rho(r, threshold))
    assert_array_equal(np.array(pairs)[:, 1], HUBER.psi(r, threshold))
    # An engine compiles the function, which must therefore not be a bound method.
    assert Huber.rho_psi is HUBER.rho_psi


@pytest.mark.parametrize("threshold", [0.5, 1.345, 1e6])
def test_psi_is_the_derivative_of_rho_and_psi_deriv_that_of_psi(threshold):
    step = 1e-6 * threshold
    r = np.array([-7.0, -2.0, -0.9, -0.3, 0.0, 0.3, 0.9, 2.0, 7.0]) * threshold
    rho = [HUBER.rho(r + sign * step, threshold) for sign in (-1, 1)]
    psi = [HUBER.psi(r + sign * step, threshold) for sign in (-1, 1)]
    derivative = (rho[1] - rho[0]) / (2 * step)
    assert_allclose(derivative, HUBER.psi(r, threshold), atol=1e-8 * threshold)
    derivative = (psi[1] - psi[0]) / (2 * step)
    assert_allclose(derivative, HUBER.psi_deriv(r, threshold), atol=1e-8)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_psi_deriv_is_a_mask_of_the_rows_inside(threshold):
    r = residuals(threshold)
    inside = HUBER.psi_deriv(r, threshold)
    assert inside.dtype == bool
    assert_array_equal(inside, np.abs(r) <= threshold)
    assert inside.any()
    assert not inside.all()


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_the_weights_are_psi_over_the_residual(threshold):
    r = residuals(threshold)
    weights = HUBER.weights(r, threshold)
    assert_allclose(weights * r, HUBER.psi(r, threshold), rtol=1e-14)
    assert np.all((weights > 0) & (weights <= 1))
    assert_array_equal(weights[np.abs(r) <= threshold], 1.0)
    assert HUBER.weights(np.zeros(1), threshold) == 1.0
    # The weights decrease with |r|, so the weighted squares majorise the loss.
    order = np.argsort(np.abs(r))
    assert np.all(np.diff(weights[order]) <= 0)


def test_an_infinite_threshold_is_least_squares():
    r = np.array([-1e9, -1.0, 0.0, 2.0])
    assert_array_equal(HUBER.rho(r, np.inf), 0.5 * r * r)
    assert_array_equal(HUBER.psi(r, np.inf), r)
    assert_array_equal(HUBER.psi_deriv(r, np.inf), True)
    assert_array_equal(HUBER.weights(r, np.inf), 1.0)


@pytest.mark.parametrize("threshold", [0.5, np.inf])
def test_the_loss_is_even_zero_at_zero_and_does_not_write_to_the_residuals(threshold):
    r = np.linspace(-3, 3, 13)
    kept = r.copy()
    assert_array_equal(HUBER.rho(-r, threshold), HUBER.rho(r, threshold))
    assert_array_equal(HUBER.psi(-r, threshold), -HUBER.psi(r, threshold))
    assert HUBER.rho(np.zeros(1), threshold) == 0.0
    HUBER.psi_deriv(r, threshold)
    HUBER.weights(r, threshold)
    assert_array_equal(r, kept)


def test_huber_is_convex_and_piecewise_quadratic():
    assert isinstance(HUBER, Loss)
    assert HUBER.is_convex
    assert HUBER.is_piecewise_quadratic
    r = np.linspace(-3, 3, 601)
    assert np.all(np.diff(HUBER.psi(r, 0.7)) >= 0)


# Bisquare --------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.5, 4.685, 1e6])
def test_the_bisquare_is_that_of_the_textbook(threshold):
    r = residuals(threshold)
    z = np.minimum(np.abs(r) / threshold, 1)
    expected = threshold**2 / 6 * (1 - (1 - z**2) ** 3)
    assert_allclose(BISQUARE.rho(r, threshold), expected, rtol=1e-14)
    assert_allclose(BISQUARE.psi(r, threshold), r * (1 - z**2) ** 2, rtol=1e-13, atol=1e-14)
    expected = (1 - z**2) * (1 - 5 * z**2)
    assert_allclose(BISQUARE.psi_deriv(r, threshold), expected, atol=1e-14)
    weights = BISQUARE.weights(r, threshold)
    assert_allclose(weights, (1 - z**2) ** 2, rtol=1e-14)
    pairs = np.array([BISQUARE.rho_psi(float(number), threshold) for number in r])
    assert_allclose(pairs[:, 0], BISQUARE.rho(r, threshold), rtol=1e-13)
    assert_allclose(pairs[:, 1], BISQUARE.psi(r, threshold), rtol=1e-13, atol=1e-14)
    assert_array_equal(weights[np.abs(r) >= threshold], 0.0)
    assert_array_equal(BISQUARE.psi_deriv(r, threshold)[np.abs(r) >= threshold], 0.0)
    assert not BISQUARE.is_convex


@pytest.mark.parametrize("loss", [HUBER, BISQUARE])
def test_weights_may_be_written_over_the_residuals(loss):
    r = residuals(1.345)
    expected = loss.weights(r, 1.345)
    assert loss.weights(r, 1.345, out=r) is r
    assert_array_equal(r, expected)


def test_the_bisquare_of_tiny_residuals_is_accurate():
    r = np.array([1e-9, 1e-12])
    assert_allclose(BISQUARE.rho(r, 4.685), 0.5 * r * r, rtol=1e-14)
