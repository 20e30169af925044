"""SmoothL1Regressor: shapes and types of fitted attributes and predictions."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.linear_model import LinearRegression

from problems import SCALES, TARGETS, X, Y, one_and_three_targets
from skrobust import SmoothL1Regressor


@pytest.mark.parametrize("mode", SCALES)
def test_attributes_have_the_shape_of_y(mode):
    k = {"n_iter_": "i", "beta_": "f", "scale_": "f", "objective_": "f", "optimality_": "f"}
    for y in [Y, Y[:, None], TARGETS]:
        est = SmoothL1Regressor(**mode).fit(X, y)
        assert est.coef_.shape == (*y.shape[1:], 3)
        assert est.outliers_.shape == y.shape
        assert est.outliers_.dtype == bool
        assert est.weights_.shape == y.shape
        assert est.weights_.dtype == np.float64
        assert est.predict(X).shape == y.shape
        assert est.predict(X[:1]).shape == (1, *y.shape[1:])
        for name, kind in {**k, "intercept_": "f"}.items():
            value = np.asarray(getattr(est, name))
            assert value.shape == y.shape[1:], name
            assert value.dtype.kind == kind, name
            assert y.ndim == 2 or np.isscalar(getattr(est, name)), name
        without = SmoothL1Regressor(fit_intercept=False, **mode).fit(X, y)
        assert_array_equal(without.intercept_, np.zeros(y.shape[1:]))


def test_one_column_of_y_is_the_fit_of_the_vector():
    flat, column = SmoothL1Regressor().fit(X, Y), SmoothL1Regressor().fit(X, Y[:, None])
    assert_array_equal(column.coef_[0], flat.coef_)
    assert_array_equal(column.predict(X)[:, 0], flat.predict(X))
    assert_array_equal(column.outliers_[:, 0], flat.outliers_)


@pytest.mark.parametrize("mode", SCALES)
@pytest.mark.parametrize("y", [Y, TARGETS], ids=["one", "three"])
def test_weights_are_those_of_a_least_squares_fit_with_the_same_coefficients(mode, y):
    s = np.random.default_rng(0).integers(0, 3, Y.size).astype(float)
    assert (s == 0).any()
    for weight in [None, s]:
        est = SmoothL1Regressor(**mode).fit(X, y, weight)
        residual = np.abs(y - est.predict(X))
        # `weights_` depends only on the residuals, even in rows of zero sample weight.
        assert_allclose(est.weights_, np.minimum(1, est.beta_ / residual), rtol=1e-7)
        assert_array_equal(est.outliers_, est.weights_ < 1)
        total = est.weights_ if weight is None else (est.weights_.T * weight).T
        for j in range(y.reshape(Y.size, -1).shape[1]):
            w = total.reshape(Y.size, -1)[:, j]
            squares = LinearRegression().fit(X, y.reshape(Y.size, -1)[:, j], w)
            assert_allclose(squares.coef_, np.atleast_2d(est.coef_)[j], rtol=1e-6)


def test_a_row_of_zero_weight_that_overflows_has_weight_zero():
    far, y = X.copy(), Y.copy()
    far[:2], y[1] = [[1e308, -1e308, 1e308], [1e308, 1e308, 1e308]], -1e308
    s = np.ones(Y.size)
    s[:2] = 0
    est = SmoothL1Regressor().fit(far, y, s)
    assert_array_equal(est.weights_[:2], 0)
    assert est.outliers_[:2].all()
    assert (est.weights_[2:] > 0).all()


@one_and_three_targets
@pytest.mark.parametrize("to_format", [np.asarray, sparse.csr_array], ids=["dense", "csr"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.float16])
def test_dtypes_follow_X(dtype, to_format, y):
    if (dtype, to_format) == (np.float16, sparse.csr_array):
        pytest.skip("SciPy has no sparse float16")
    X_typed = to_format(X.astype(dtype))
    expected = np.float32 if dtype == np.float32 else np.float64
    est = SmoothL1Regressor().fit(X_typed, y.astype(np.float32))
    assert est.coef_.dtype == expected
    assert np.asarray(est.intercept_).dtype == np.float64
    assert est.predict(X_typed).dtype == expected
    assert est.predict(X).dtype == np.float64
    assert np.asarray(est.scale_).dtype == np.float64


@pytest.mark.parametrize("to_format", [np.asarray, sparse.csr_array], ids=["dense", "csr"])
def test_the_intercept_is_that_of_the_rounded_coefficients(to_format):
    rng = np.random.default_rng(0)
    far = (1e6 + rng.normal(size=(500, 2))).astype(np.float32)
    exact = far.astype(np.float64)
    target = (exact - 1e6) @ [1.1, -0.7] + 0.1 * rng.normal(size=500)
    est = SmoothL1Regressor().fit(to_format(far), target)
    assert est.coef_.dtype == np.float32
    expected = SmoothL1Regressor().fit(exact, target).predict(exact)
    # The coefficients have rounding errors of 3e-8, for which the intercept must compensate at
    # the mean of X, which is 1e6.
    assert_allclose(exact @ est.coef_ + est.intercept_, expected, rtol=0, atol=1e-6)


def test_prediction_is_the_linear_model():
    est = SmoothL1Regressor().fit(X, TARGETS)
    expected = X @ est.coef_.T + est.intercept_
    assert_allclose(est.predict(X), expected, rtol=1e-13)
    assert_allclose(est.predict(sparse.csr_array(X)), expected, rtol=1e-13)
