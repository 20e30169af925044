"""SmoothL1Regressor: warm starts."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone

from problems import SCALES, TARGETS, X, Y
from skrobust import SmoothL1Regressor


@pytest.mark.parametrize("beta", [0.1, 1.7])
def test_warm_start_from_the_solution_needs_fewer_iterations(beta):
    # The thresholds are fixed, because a fit with an estimated scale always starts from least
    # squares.
    est = SmoothL1Regressor(beta, warm_start=True).fit(X, Y)
    cold = est.n_iter_
    est.fit(X, Y)
    assert est.n_iter_ < cold
    # Without warm_start, a refit takes as many iterations as the first fit.
    est.set_params(warm_start=False).fit(X, Y)
    assert est.n_iter_ == cold


CHANGES = {
    "no intercept": ({"fit_intercept": False}, X, Y),
    "more features": ({}, np.hstack([X, X**2]), Y),
    "fewer features": ({}, X[:, :1], Y),
    "more targets": ({}, X, TARGETS),
    "one target, two-dimensional": ({}, X, Y[:, None]),
    "other rows": ({}, X[:50], Y[:50]),
    "other threshold": ({"beta": 0.2}, X, Y),
    "float32": ({}, X.astype(np.float32), Y),
    "sparse": ({}, sparse.csr_array(X), Y),
    "penalty": ({"alpha": 10.0}, X, Y),
    "duplicated column": ({}, X[:, [0, 1, 1]], Y),
}


@pytest.mark.parametrize("first_y", [Y, TARGETS], ids=["1 target", "3 targets"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("mode", SCALES[:4:2])
def test_warm_start_after_a_change_is_a_cold_fit(mode, change, first, first_y):
    params, X_new, y_new = CHANGES[change]
    est = SmoothL1Regressor(warm_start=True, fit_intercept=first, **mode).fit(X, first_y)
    est.set_params(**params).fit(X_new, y_new)
    cold = clone(est).fit(X_new, y_new)
    assert est.coef_.shape == cold.coef_.shape
    assert np.shape(est.intercept_) == np.shape(cold.intercept_)
    rtol = 1e-6 if change == "float32" else 1e-7
    assert_allclose(est.coef_, cold.coef_, rtol=rtol)
    assert_allclose(est.intercept_, cold.intercept_, rtol=1e-7)
    assert_allclose(est.scale_, cold.scale_, rtol=1e-7)
    assert est.fit_intercept or not np.any(est.intercept_)


@pytest.mark.parametrize("factor", [1e200, np.nan, np.inf])
def test_a_warm_start_from_useless_coefficients_is_a_cold_start(factor):
    est = SmoothL1Regressor(beta=1.0, warm_start=True).fit(X, Y)
    coef = est.coef_.copy()
    est.coef_ = est.coef_ * factor
    assert_allclose(est.fit(X, Y).coef_, coef, rtol=1e-7)


def test_a_warm_start_with_features_that_are_all_zero():
    est = SmoothL1Regressor(beta=1.0, fit_intercept=False, warm_start=True)
    for _ in range(2):
        assert_array_equal(est.fit(np.zeros((5, 3)), np.arange(5.0)).coef_, 0)
