"""FitDisplay: predictions as functions of one feature."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from artists import legend_of
from skrobust import SmoothL1Regressor
from skrobust.displays import (
    FitDisplay,
)


@pytest.fixture(scope="module")
def one_feature():
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 10, 200)
    y = 3 * x + rng.normal(size=200)
    y[:20] = 500
    y[20:25] = -400
    return pd.DataFrame({"dose": x}), pd.Series(y, name="price")


def test_fits_are_the_predictions_over_the_rows(one_feature):
    X, y = one_feature
    models = [LinearRegression().fit(X, y), SmoothL1Regressor().fit(X, y)]
    display = FitDisplay.from_estimator(models, X, y, clip=False)
    assert_array_equal(display.scatter_.get_offsets(), np.column_stack([X["dose"], y]))
    grid = np.linspace(X["dose"].min(), X["dose"].max(), 100)
    for fitted, line in zip(models, display.lines_, strict=True):
        assert_array_equal(line.get_xdata(), grid)
        assert_allclose(line.get_ydata(), fitted.predict(pd.DataFrame({"dose": grid})))
    assert legend_of(display) == ["200 rows", "LinearRegression", "SmoothL1Regressor"]
    assert display.ax_.get_xlabel() == "dose"
    assert display.ax_.get_ylabel() == "price"


def test_rows_far_out_are_triangles_at_the_edge(one_feature):
    X, y = one_feature
    display = FitDisplay.from_estimator(SmoothL1Regressor().fit(X, y), X, y)
    above, below = display.beyond_
    assert_array_equal(above.get_offsets()[:, 0], X["dose"][:20])
    assert_array_equal(below.get_offsets()[:, 0], X["dose"][20:25])
    low, high = display.ax_.get_ylim()
    assert -100 < low < below.get_offsets()[0, 1] < 0
    assert 30 < above.get_offsets()[0, 1] < high < 100
    texts = ["175 rows", "20 rows above", "5 rows below", "SmoothL1Regressor"]
    assert legend_of(display) == texts


def test_a_constant_target_is_drawn_whole():
    X, y = np.arange(10.0)[:, None], np.r_[np.zeros(8), 1.0, 2.0]
    display = FitDisplay.from_estimator(SmoothL1Regressor().fit(X, y), X, y)
    assert display.beyond_ == []
    assert len(display.scatter_.get_offsets()) == 10


def test_many_rows_and_many_far_ones_are_samples():
    x = np.linspace(0, 1, 100_000)
    y = np.sin(999 * x)
    y[::50] = 1000
    display = FitDisplay(x=x, y=y, grid=x[:2], curves={"zero": np.zeros(2)}).plot(
        max_markers=100
    )
    assert len(display.scatter_.get_offsets()) == 75
    assert len(display.beyond_[0].get_offsets()) == 25
    assert legend_of(display)[:2] == ["98,000 rows\n(75 drawn)", "2,000 rows above\n(25 drawn)"]


@pytest.mark.parametrize("make", [lambda X: X, pl.from_pandas, lambda X: X.to_numpy()])
def test_with_other_features_the_mean_prediction_is_drawn(data, make):
    X, y = make(data[0]), data[1]
    fitted = SmoothL1Regressor().fit(X, y)
    display = FitDisplay.from_estimator(fitted, X, y, feature=1)
    x, curve = display.lines_[0].get_data()
    assert_allclose(np.diff(curve) / np.diff(x), fitted.coef_[1])
    at_mean = fitted.intercept_ + np.mean(data[0], axis=0).to_numpy() @ fitted.coef_
    # The display averages the predictions over a sample of 100 of the 120 rows.
    assert abs(np.interp(data[0]["bmi"].mean(), x, curve) - at_mean) < 0.5
    assert display.ax_.get_xlabel() == ("Feature 1" if isinstance(X, np.ndarray) else "bmi")


def test_other_features_may_be_categories():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"size": rng.integers(0, 9, 90), "kind": rng.choice(["a", "b"], 90)})
    y = 2.0 * X["size"] + (X["kind"] == "a") + rng.normal(size=90)
    encode = make_column_transformer((OneHotEncoder(), ["kind"]), remainder="passthrough")
    fitted = make_pipeline(encode, SmoothL1Regressor(1e3)).fit(X, y)
    display = FitDisplay.from_estimator(fitted, X, y, feature="size")
    x, curve = display.lines_[0].get_data()
    assert_allclose(np.diff(curve) / np.diff(x), fitted[-1].coef_[-1])


def test_fits_of_one_class_are_told_apart_by_their_parameters(one_feature):
    X, y = one_feature
    models = [SmoothL1Regressor(beta).fit(X, y) for beta in (1.0, 1e3)]
    display = FitDisplay.from_estimator(models, X, y)
    names = ["SmoothL1Regressor(beta=1.0)", "SmoothL1Regressor(beta=1000.0)"]
    assert legend_of(display)[-2:] == names
    named = dict(zip(["small", "large"], models, strict=True))
    display = FitDisplay.from_estimator(named, X, y, line_kwargs={"large": {"c": "red"}})
    assert legend_of(display)[-2:] == ["small", "large"]
    assert display.lines_[1].get_color() == "red"


def test_fits_of_one_target(two_targets):
    X, Y, both = two_targets
    display = FitDisplay.from_estimator(both, X, Y, feature="bmi", target=1)
    x, curve = display.lines_[0].get_data()
    assert_allclose(np.diff(curve) / np.diff(x), both.coef_[1, 1])


def test_the_title_says_that_curves_are_averages(data, one_feature):
    X, y = data
    fitted = SmoothL1Regressor().fit(X, y)
    display = FitDisplay.from_estimator(fitted, X, y, feature="bmi")
    assert display.note_.get_text() == "mean over the other features of 100 rows"
    display = FitDisplay.from_estimator(SmoothL1Regressor().fit(*one_feature), *one_feature)
    assert display.note_.get_text() == ""


def test_partial_residuals_are_at_the_curve_plus_the_residual(data):
    X, y = data
    fitted = SmoothL1Regressor().fit(X, y)
    display = FitDisplay.from_estimator(
        fitted, X, y, feature="bmi", partial_residuals=True, clip=False
    )
    residual = y - fitted.predict(X)
    expected = residual + fitted.coef_[1] * (X["bmi"] - X["bmi"].mean())
    drawn = display.scatter_.get_offsets().data
    assert_allclose(drawn[:, 0], X["bmi"])
    # The difference is the same for all rows: the mean prediction at the mean of bmi.
    assert_allclose(drawn[:, 1] - expected, drawn[0, 1] - expected[0], rtol=1e-9)
    assert display.ax_.get_ylabel() == "Mean prediction of price + residual"
    assert display.smooth_ is not None


def test_the_smooth_curve_of_partial_residuals_shows_the_form_of_the_effect():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.uniform(-2, 2, 400), "b": rng.normal(size=400)})
    y = X["a"] ** 2 + 10 * X["b"] + 0.1 * rng.normal(size=400)
    fitted = SmoothL1Regressor().fit(X, y)
    display = FitDisplay.from_estimator(fitted, X, y, feature="a", partial_residuals=True)
    x, curve = display.smooth_.get_data()
    middle, ends = np.interp(0, x, curve), curve[[0, -1]]
    assert (ends - middle > 2).all()
    without = FitDisplay.from_estimator(fitted, X, y, feature="a")
    assert without.smooth_ is None
