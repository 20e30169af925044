"""SmoothL1Regressor at the ends of the floating-point range."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LinearRegression, QuantileRegressor

from problems import LOSSES, SCALES, X, Y
from skrobust import SmoothL1Regressor


@pytest.mark.parametrize("scale", [None, "mad"])
@pytest.mark.parametrize("beta", [1e-120, 1e-160, 1e-200, 5e-324])
def test_a_threshold_whose_square_vanishes_gives_least_absolute_deviations(beta, scale):
    lad = QuantileRegressor(quantile=0.5, alpha=0.0).fit(X, Y)
    est = SmoothL1Regressor(beta, scale=scale).fit(X, Y)
    assert_allclose(est.coef_, lad.coef_, rtol=1e-6)
    assert est.beta_ == beta * est.scale_
    assert_allclose(est.objective_, np.abs(Y - lad.predict(X)).mean(), rtol=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("mode", SCALES)
def test_an_enormous_penalty_leaves_only_the_intercept(mode, loss):
    for alpha in (1e150, 1e300, 1e308):
        est = SmoothL1Regressor(**mode | {"loss": loss, "alpha": alpha}).fit(X, Y)
        assert np.abs(est.coef_).max() < 1e-100
        location = SmoothL1Regressor(**mode | {"loss": loss}).fit(np.zeros((Y.size, 1)), Y)
        assert_allclose(est.intercept_, location.intercept_, rtol=1e-6)


def test_an_enormous_epsilon_is_least_squares():
    est = SmoothL1Regressor(1e155, scale="concomitant").fit(X, Y)
    assert_allclose(est.coef_, LinearRegression().fit(X, Y).coef_, rtol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_coefficients_beyond_the_dtype_are_refused(dtype):
    tiny, huge = (1e-30, 1e20) if dtype == np.float32 else (1e-300, 1e300)
    with pytest.raises(ValueError, match=f"coef_ has values too large for {dtype.__name__}"):
        SmoothL1Regressor().fit((X * tiny).astype(dtype), Y * huge)


@pytest.mark.parametrize("unit", [1.0, 1e-151, 1e100])
def test_the_penalty_is_kept_where_the_square_of_a_unit_leaves_the_range(unit):
    # The penalty is rescaled by powers of the units of y and X, and intermediate results must
    # neither underflow nor overflow. This case was found by a random search.
    base = SmoothL1Regressor(1.0, alpha=0.3, loss="huber").fit(X, Y)
    params = {"beta": unit, "alpha": 0.3 * unit**2, "loss": "huber"}
    est = SmoothL1Regressor(**params).fit(X * unit, Y * unit)
    assert_allclose(est.coef_, base.coef_, rtol=1e-7)


def test_the_residual_of_a_row_of_weight_zero_may_overflow():
    # The linear predictor in the first row is infinite, and zero times infinity is NaN. The row
    # must therefore not enter the sums. This case was found by a random search.
    rng = np.random.default_rng(0)
    far = rng.normal(size=(20, 2))
    y, weight = 1e150 * far @ [1.0, -1.0] + 1e149 * rng.normal(size=20), np.ones(20)
    far[0], weight[0] = [1e160, 1e160], 0
    est = SmoothL1Regressor().fit(far, y, weight)
    assert est.outliers_[0]


def test_the_squares_of_the_residuals_of_an_exact_fit_may_underflow():
    # The least-squares residuals are of order 1e-170. Their squares underflow, so their
    # computed root mean square is 0, and a solver must not divide by it. This case was found by
    # a random search.
    group = np.array([0, 0, 3, 1, 2, 2, 2, 0, 1, 0, 1])
    groups = np.column_stack([np.eye(4)[group][:, :3], np.full(11, 7.0)])
    y = np.array([3.0, 0.0, -3.0, 0.0])[group]
    est = SmoothL1Regressor(fit_intercept=False).fit(groups, y)
    assert_allclose(est.coef_, [3, 0, -3, 0], atol=1e-14)
    assert not est.outliers_.any()


@pytest.mark.parametrize("large", [1e300, 1.7e308])
@pytest.mark.parametrize("of", ["X", "y", "both"])
@pytest.mark.parametrize("mode", [{}, {"scale": "concomitant"}])
def test_finite_data_whose_sums_overflow_are_fitted(mode, of, large):
    unit = large / np.abs(X).max() if of in ("X", "both") else 1.0
    y_unit = large / np.abs(Y).max() if of in ("y", "both") else 1.0
    est = SmoothL1Regressor(**mode).fit(X * unit, Y * y_unit)
    base = SmoothL1Regressor(**mode).fit(X, Y)
    assert_allclose(est.coef_ * unit / y_unit, base.coef_, rtol=1e-7)
    assert_allclose(est.scale_ / y_unit, base.scale_, rtol=1e-7)
    assert_array_equal(est.outliers_, base.outliers_)
