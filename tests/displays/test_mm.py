"""Displays of an MMRegressor: what is shown, and the advice in error messages."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from artists import legend_of, scatter_of, sorted_rows
from skrobust import MMRegressor
from skrobust.displays import (
    ConvergenceDisplay,
    CVDisplay,
    FitDisplay,
    InfluenceDisplay,
    PathDisplay,
    QQDisplay,
    ResidualsDisplay,
    WeightsDisplay,
)

ROWS = [ResidualsDisplay, WeightsDisplay, QQDisplay]


def wrapped(regressor):
    """Return the regressor alone, in a pipeline, in a search, and with a transformed target."""
    pipeline = make_pipeline(StandardScaler(), regressor)
    return [
        regressor,
        pipeline,
        GridSearchCV(pipeline, {"mmregressor__efficiency": [0.95]}, cv=2),
        TransformedTargetRegressor(pipeline, func=np.negative, inverse_func=np.negative),
    ]


@pytest.mark.parametrize("display", ROWS)
def test_outliers_are_those_of_the_fit(display, data, mm):
    X, y = data
    drawn = display.from_estimator(mm, X, y)
    assert 0 < mm.outliers_.sum() < len(y)
    assert len(drawn.outlier_scatter_.get_offsets()) == mm.outliers_.sum()
    assert_allclose(drawn.beta, 2.5758293 * mm.scale_, rtol=1e-8)
    other = display.from_estimator(mm, X, y, beta=3.0)
    assert other.beta == 3.0


@pytest.mark.parametrize("display", ROWS)
@pytest.mark.parametrize("i", range(4))
def test_meta_estimators_are_unwrapped(display, i, data, mm):
    X, y = data
    estimator = wrapped(MMRegressor())[i].fit(X, y)
    drawn = display.from_estimator(estimator, X, y)
    assert_allclose(drawn.beta, 2.5758293 * mm.scale_, rtol=1e-6)
    assert len(drawn.outlier_scatter_.get_offsets()) == mm.outliers_.sum()


@pytest.mark.parametrize("efficiency", [0.85, 0.95])
def test_weights_are_those_of_the_fit(efficiency, data):
    X, y = data
    model = MMRegressor(efficiency=efficiency).fit(X, y)
    display = WeightsDisplay.from_estimator(model, X, y)
    points = np.column_stack([y - model.predict(X), model.weights_])
    assert_allclose(sorted_rows(scatter_of(display)), sorted_rows(points), atol=1e-12)
    x, curve = display.line_.get_data()
    c = display.rejection_point
    assert_allclose(curve, np.maximum(0, 1 - (x / c) ** 2) ** 2, atol=1e-12)
    assert legend_of(display)[0] == f"(1 − (r/c)²)², c = {c:.4g}"
    low, high = display.ax_.get_ylim()
    assert low < 0
    assert high > 1


def test_integer_residuals_have_bisquare_weights():
    display = WeightsDisplay(y_true=[0, 1, 5], y_pred=[0, 0, 0], beta=1.5, rejection_point=2)
    expected = [[5, 0], [1, 0.75**2], [0, 1]]
    assert_allclose(sorted_rows(scatter_of(display.plot())), expected)


def test_fits_are_drawn_beside_others(data, mm):
    X, y = data
    models = {"MM": mm, "least squares": LinearRegression().fit(X, y)}
    display = FitDisplay.from_estimator(models, X, y, feature="bmi")
    assert list(display.curves) == ["MM", "least squares"]
    slope = np.diff(display.curves["MM"]) / np.diff(display.grid)
    assert_allclose(slope, mm.coef_[1])


def test_the_scores_of_a_search_over_another_parameter_have_no_axis(data):
    search = GridSearchCV(MMRegressor(), {"efficiency": [0.85, 0.95]}, cv=2).fit(*data)
    with pytest.raises(ValueError, match=r"exactly one parameter beta, .*'param_efficiency'"):
        CVDisplay.from_estimator(search)


@pytest.mark.parametrize(
    ("display", "error", "message"),
    [
        (PathDisplay, ValueError, "estimator must be a SmoothL1Regressor .*got MMRegressor"),
        (
            InfluenceDisplay,
            ValueError,
            "InfluenceDisplay draws the contours of Cook's distance for the Huber loss",
        ),
    ],
)
def test_displays_of_other_fits_name_the_estimators_that_they_show(
    display, error, message, data, mm
):
    with pytest.raises(error, match=message):
        display.from_estimator(mm, *data)


def test_an_mm_fit_has_no_stages(mm):
    with pytest.raises(ValueError, match="no attribute 'history_'; pass a SmoothL1Regressor"):
        ConvergenceDisplay.from_estimator(mm)


@pytest.mark.parametrize("display", ROWS)
def test_a_scale_of_zero_gives_no_threshold(display, exact):
    model, X, y = exact
    with pytest.raises(ValueError, match=r"scale of the MMRegressor is 0.* ResidualsDisplay"):
        display.from_estimator(model, X, y)


def test_residuals_of_an_exact_fit_are_drawn_with_a_threshold(exact):
    model, X, y = exact
    display = ResidualsDisplay.from_estimator(model, X, y, beta=1.0)
    outliers = display.outlier_scatter_.get_offsets().data
    assert_array_equal(outliers[:, 1], (y - model.predict(X))[model.outliers_])
