"""Displays of fits of scikit-learn's HuberRegressor and of statsmodels' RLM."""

import numpy as np
import pytest
import statsmodels.api as sm
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm
from sklearn.linear_model import HuberRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from artists import legend_of, scatter_of, sorted_rows
from skrobust.displays import (
    CoefficientsDisplay,
    DiagnosticsDisplay,
    FitDisplay,
    ResidualsDisplay,
    WeightsDisplay,
)


@pytest.fixture(scope="module")
def rlm(data):
    X, y = data
    X = sm.add_constant(X.assign(dose=X["dose"] / 1e6))
    return X, y, lambda **kwargs: sm.RLM(y, X, **kwargs).fit()


def test_the_threshold_of_huber_regressor_is_epsilon_times_the_scale(data):
    X, y = data
    model = make_pipeline(StandardScaler(), HuberRegressor(epsilon=1.5)).fit(X, y)
    display = ResidualsDisplay.from_estimator(model, X, y)
    assert_allclose(display.beta, 1.5 * model[-1].scale_)
    assert_array_equal(np.abs(y - model.predict(X)) > display.beta, model[-1].outliers_)


def test_weights_of_rlm_are_its_weights(rlm):
    X, y, fit = rlm
    for kind in (sm.robust.norms.HuberT(1.2), sm.robust.norms.TukeyBiweight()):
        results = fit(M=kind)
        display = WeightsDisplay.from_estimator(results, X, y)
        residual = y - results.predict(X)
        points = np.column_stack([residual, results.weights])
        # statsmodels returns the weights from which the last iteration started.
        assert_allclose(sorted_rows(scatter_of(display)), sorted_rows(points), atol=1e-3)


def test_thresholds_of_rlm(rlm):
    X, y, fit = rlm
    huber, bisquare = fit(), fit(M=sm.robust.norms.TukeyBiweight())
    display = ResidualsDisplay.from_estimator(huber, X, y)
    assert_allclose(display.beta, 1.345 * huber.scale)
    display = ResidualsDisplay.from_estimator(bisquare, X, y)
    assert_allclose(display.beta, norm.ppf(0.995) * bisquare.scale)


def test_another_norm_needs_a_threshold_and_has_no_weights_here(rlm):
    X, y, fit = rlm
    hampel = fit(M=sm.robust.norms.Hampel())
    with pytest.raises(ValueError, match="pass beta, the threshold in units of y"):
        ResidualsDisplay.from_estimator(hampel, X, y)
    assert ResidualsDisplay.from_estimator(hampel, X, y, beta=2.0).beta == 2.0
    with pytest.raises(ValueError, match="not those of Hampel"):
        WeightsDisplay.from_estimator(hampel, X, y, beta=2.0)
    least_squares = sm.OLS(y, X).fit()
    display = WeightsDisplay.from_estimator(least_squares, X, y, beta=2.0)
    assert display.rejection_point is None


def test_fits_of_statsmodels_are_drawn_under_the_names_of_their_models(rlm):
    X, y, fit = rlm
    models = [fit(), sm.OLS(y, X).fit()]
    display = FitDisplay.from_estimator(models, X, y, feature="bmi")
    assert legend_of(display)[-2:] == ["RLM", "OLS"]
    x, curve = display.lines_[0].get_data()
    assert_allclose(np.diff(curve) / np.diff(x), models[0].params["bmi"])
    named = FitDisplay.from_estimator({"robust": models[0]}, X, y, feature="bmi")
    assert legend_of(named)[-1] == "robust"


def test_diagnostics_of_rlm_have_the_weights_in_the_fourth_panel(rlm):
    X, y, fit = rlm
    display = DiagnosticsDisplay.from_estimator(fit(), X, y)
    assert isinstance(display.influence, WeightsDisplay)
    assert display.residuals.target_name == "price"


def test_intervals_of_rlm_are_its_own(rlm):
    X, y, fit = rlm
    results = fit()
    display = CoefficientsDisplay.from_estimator(results, X, y, standardize=False, level=0.9)
    assert display.names == ["intercept", "age", "bmi", "dose"]
    assert_allclose(display.coef, results.params)
    assert_allclose(np.column_stack([display.lower, display.upper]), results.conf_int(0.1))
    assert display.ax_.get_xlabel().endswith("90 % intervals (H1)")
    labels = {label.get_text() for label in display.ax_.get_yticklabels()}
    assert labels == {"age", "bmi", "dose"}
    standardized = CoefficientsDisplay.from_estimator(results, X, y)
    deviations = [1.0, *X.drop(columns="const").std(ddof=0)]
    assert_allclose(standardized.coef, results.params * deviations)
    with pytest.raises(ValueError, match="choose the covariance in the call"):
        CoefficientsDisplay.from_estimator(results, X, y, covariance="HC3")
