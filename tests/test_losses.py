"""Tests of the losses: their mathematical properties, limits, and published values."""

from fractions import Fraction

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special

from skrobust.losses import huber, huber_gradient, smooth_l1, smooth_l1_gradient

FUNCTIONS = [smooth_l1, smooth_l1_gradient, huber, huber_gradient]
LOSS_AND_GRADIENT = [(smooth_l1, smooth_l1_gradient), (huber, huber_gradient)]
BETAS = [1e-3, 0.5, 1.0, 7.0]
RESIDUALS = np.r_[np.linspace(-10, 10, 401), -7.0, -0.5, 0.5, 1e-3]
EXTREMES = [0.0, 5e-324, 1e-300, 1e-160, 1e-8, 1.0, 3.0, 1e8, 1e160, 1e300, 1.7e308]


@pytest.mark.parametrize("beta", [0.0, *BETAS, np.inf])
def test_huber_equals_scipy(beta):
    assert_allclose(huber(RESIDUALS, beta), special.huber(beta, RESIDUALS), rtol=1e-15)


@pytest.mark.parametrize(
    ("residual", "beta", "expected"),
    [(0.5, 1, 0.125), (2, 1, 1.5), (-3, 0.5, 2.75), (0.25, 2, 0.015625), (-2, 2, 1.0)],
)
def test_smooth_l1_has_pytorch_values(residual, beta, expected):
    # Computed by hand from the formula in the documentation of torch.nn.SmoothL1Loss:
    # 0.5 (x − y)² / beta if |x − y| < beta, |x − y| − 0.5 beta otherwise.
    assert smooth_l1(residual, beta) == expected


@pytest.mark.parametrize(
    ("residual", "delta", "expected"),
    [(0.5, 1, 0.125), (2, 1, 1.5), (-3, 0.5, 1.375), (0.25, 2, 0.03125), (3, 2, 4.0)],
)
def test_huber_has_pytorch_values(residual, delta, expected):
    # Computed by hand from the formula in the documentation of torch.nn.HuberLoss:
    # 0.5 (x − y)² if |x − y| < delta, delta (|x − y| − 0.5 delta) otherwise.
    assert huber(residual, delta) == expected


def test_huber_has_the_values_in_the_documentation_of_keras():
    # The section "Standalone usage" of tf.keras.losses.Huber, with delta = 1, gives 0.18 and
    # 0.13 for reduction "none" (the mean over the last axis), and 0.155 by default.
    y_true = np.array([[0.0, 1.0], [0.0, 0.0]])
    y_pred = np.array([[0.6, 0.4], [0.4, 0.6]])
    losses = huber(y_true - y_pred, 1.0)
    assert_allclose(losses.mean(axis=1), [0.18, 0.13], rtol=1e-14)
    assert_allclose(losses.mean(), 0.155, rtol=1e-14)


@pytest.mark.parametrize(("loss", "gradient"), LOSS_AND_GRADIENT)
@pytest.mark.parametrize("beta", BETAS)
def test_gradient_equals_central_differences_on_both_sides_of_each_kink(loss, gradient, beta):
    # Central differences of a piecewise quadratic function are exact up to rounding, unless the
    # interval between the two points contains a kink.
    step = beta / 128
    residuals = beta * np.array([-50, -2, -1.01, -0.99, -0.5, 0, 0.5, 0.99, 1.01, 2, 50])
    difference = (loss(residuals + step, beta) - loss(residuals - step, beta)) / (2 * step)
    assert_allclose(gradient(residuals, beta), difference, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize(("loss", "gradient"), LOSS_AND_GRADIENT)
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("sign", [-1, 1])
def test_gradient_is_continuous_at_the_kink(loss, gradient, beta, sign):
    kink, step = sign * beta, 1e-5 * beta
    from_left = (loss(kink, beta) - loss(kink - step, beta)) / step
    from_right = (loss(kink + step, beta) - loss(kink, beta)) / step
    assert_allclose([from_left, from_right], gradient(kink, beta), rtol=1e-5)


@pytest.mark.parametrize("beta", BETAS)
def test_huber_is_beta_times_smooth_l1(beta):
    assert_allclose(huber(RESIDUALS, beta), beta * smooth_l1(RESIDUALS, beta), rtol=1e-15)
    assert_allclose(
        huber_gradient(RESIDUALS, beta),
        beta * smooth_l1_gradient(RESIDUALS, beta),
        rtol=1e-15,
    )


@pytest.mark.parametrize(("loss", "gradient"), LOSS_AND_GRADIENT)
@pytest.mark.parametrize("beta", [0.0, *BETAS])
def test_loss_is_even_and_gradient_odd(loss, gradient, beta):
    assert_array_equal(loss(-RESIDUALS, beta), loss(RESIDUALS, beta))
    assert_array_equal(gradient(-RESIDUALS, beta), -gradient(RESIDUALS, beta))


@pytest.mark.parametrize("beta", BETAS)
def test_smooth_l1_lies_at_most_half_beta_below_the_absolute_value(beta):
    gap = np.abs(RESIDUALS) - smooth_l1(RESIDUALS, beta)
    assert gap.min() >= 0
    assert_allclose(gap.max(), beta / 2, rtol=1e-11)


@pytest.mark.parametrize("beta", [0.0, 5e-324, 1e-300])
def test_beta_zero_is_the_limit_of_a_small_beta(beta):
    assert_array_equal(smooth_l1(RESIDUALS, beta), np.abs(RESIDUALS))
    assert_array_equal(smooth_l1_gradient(RESIDUALS, beta), np.sign(RESIDUALS))
    assert_allclose(huber(RESIDUALS, beta), 0, atol=1e-298)
    assert_allclose(huber_gradient(RESIDUALS, beta), 0, atol=1e-299)


@pytest.mark.parametrize("beta", [1e300, np.inf])
def test_beta_infinite_is_the_limit_of_a_large_beta(beta):
    assert_allclose(smooth_l1(RESIDUALS, beta), 0, atol=1e-297)
    assert_allclose(smooth_l1_gradient(RESIDUALS, beta), 0, atol=1e-298)
    assert_allclose(huber(RESIDUALS, beta), RESIDUALS**2 / 2, rtol=1e-15)
    assert_array_equal(huber_gradient(RESIDUALS, beta), RESIDUALS)


def rounded(exact: Fraction) -> float:
    """Return the float nearest to a fraction, or infinity if the fraction is too large."""
    try:
        return float(exact)
    except OverflowError:
        return np.inf


@pytest.mark.parametrize("beta", EXTREMES[1:])
@pytest.mark.parametrize("residual", EXTREMES)
def test_every_value_is_accurate_to_rounding_over_the_whole_range_of_floats(residual, beta):
    # Overflow in r² or 1/β would give inf or NaN and a warning, which is an error here.
    r, b = Fraction(residual), Fraction(beta)
    exact = r * r / (2 * b) if r < b else r - b / 2
    slope = min(r / b, Fraction(1))
    for value, expected in [
        (smooth_l1(residual, beta), rounded(exact)),
        (smooth_l1_gradient(residual, beta), rounded(slope)),
        (huber(residual, beta), rounded(b * exact)),
        (huber_gradient(residual, beta), rounded(b * slope)),
    ]:
        # Subnormal numbers are multiples of 5e-324; an error of four of these is allowed.
        assert_allclose(value, expected, rtol=1e-15, atol=2e-323)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_warning_even_where_numpy_is_told_to_raise(function):
    with np.errstate(all="raise"):
        for beta in [0.0, 1e-320, 1.0, 1e300, np.inf]:
            function(np.array([*EXTREMES, np.inf, np.nan]), beta)
        function(np.float32(1.0), 1e300)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("beta", [0.0, 1.0, np.inf])
def test_nan_propagates_and_stays_where_it_is(function, beta):
    assert_array_equal(np.isnan(function([0.5, np.nan, -3.0], beta)), [False, True, False])


def test_infinite_residual_has_infinite_loss_and_the_gradient_of_its_side():
    infinite = np.array([-np.inf, np.inf])
    assert_array_equal(smooth_l1(infinite, 2.0), [np.inf, np.inf])
    assert_array_equal(smooth_l1(infinite, 0.0), [np.inf, np.inf])
    assert_array_equal(huber(infinite, 2.0), [np.inf, np.inf])
    assert_array_equal(huber(infinite, np.inf), [np.inf, np.inf])
    assert_array_equal(smooth_l1_gradient(infinite, 2.0), [-1, 1])
    assert_array_equal(huber_gradient(infinite, 2.0), [-2, 2])


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("beta", [0.0, 0.5, 1e300, np.float64(2.0), np.array([0.0, 2.0])])
def test_floating_dtype_of_the_residual_is_kept(function, dtype, beta):
    assert function(np.array([-3.0, 1.0], dtype=dtype), beta).dtype == dtype
    assert function(dtype(1.5), beta).dtype == dtype


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", [np.int8, np.uint64, np.int64, np.bool_])
def test_other_dtypes_become_float64(function, dtype):
    assert function(np.array([0, 1], dtype=dtype), np.float32(0.5)).dtype == np.float64


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("beta", [0, 0.0, 1.5, np.inf])
@pytest.mark.parametrize("residual", [2, 2.0, np.float64(2.0), np.array(2.0)])
def test_scalars_give_a_numpy_scalar(function, beta, residual):
    assert type(function(residual, beta)) is np.float64


@pytest.mark.parametrize("function", FUNCTIONS)
def test_works_element_by_element_with_broadcasting(function):
    residuals, betas = np.array([[-3.0, 0.0, 0.5], [4.0, 1.0, -0.1]]), [0.0, 1.0, 2.0]
    expected = [[function(r, b) for r, b in zip(row, betas, strict=True)] for row in residuals]
    assert_array_equal(function(residuals, betas), expected)
    assert_array_equal(function(residuals.T, 1.0), function(residuals, 1.0).T)
    assert function(np.empty((0, 3)), 1.0).shape == (0, 3)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("beta", [0.0, 1.0, np.inf])
def test_argument_is_neither_changed_nor_returned(function, beta):
    residual = np.array([-2.0, 0.5])
    function(residual, beta)[...] = 99.0
    assert_array_equal(residual, [-2.0, 0.5])


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("beta", "named"),
    [(-1.5, "-1.5"), (np.nan, "nan"), (-np.inf, "-inf"), ([1, -2.0], "-2.0")],
)
def test_negative_or_nan_beta_is_a_value_error(function, beta, named):
    with pytest.raises(ValueError, match=f"beta must be .* got beta={named}"):
        function([1.0, 2.0], beta)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("bad", [None, "1.0", 1j, [1.0, "a"]])
def test_what_is_not_a_real_number_is_a_type_error(function, bad):
    with pytest.raises(TypeError, match="residual must consist of real numbers"):
        function(bad, 1.0)
    with pytest.raises(TypeError, match="beta must consist of real numbers"):
        function([1.0, 2.0], bad)
