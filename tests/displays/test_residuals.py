"""ResidualsDisplay and WeightsDisplay: residuals and weights of the rows."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from artists import legend_of, scatter_of, sorted_rows
from skrobust import SmoothL1Regressor
from skrobust.displays import (
    ResidualsDisplay,
    WeightsDisplay,
)
from skrobust.displays._drawing import sample, thin

ROWS = [ResidualsDisplay, WeightsDisplay]


def test_residuals_are_drawn_against_fitted_values_and_outliers_apart(data, model):
    X, y = data
    display = ResidualsDisplay.from_estimator(model, X, y)
    fitted = model.predict(X)
    points = np.column_stack([fitted, y - fitted])
    far = model.outliers_
    assert 0 < far.sum() < len(y)
    assert_array_equal(display.scatter_.get_offsets(), points[~far])
    assert_array_equal(display.outlier_scatter_.get_offsets(), points[far])
    assert_allclose(display.line_.get_ydata(), 0)
    assert legend_of(display) == [
        f"|residual| ≤ β = {model.beta_:.4g}",
        f"{(~far).sum()} within β",
        f"{far.sum()} beyond β",
        "smooth curve",
    ]


def test_the_band_is_the_threshold(data, model):
    display = ResidualsDisplay.from_estimator(model, *data)
    bottom, height = display.band_.get_y(), display.band_.get_height()
    assert_allclose([bottom, bottom + height], [-model.beta_, model.beta_])
    display = ResidualsDisplay.from_estimator(model, *data, beta=2.5)
    assert display.band_.get_y() == -2.5


def test_weights_are_those_of_the_loss(data, model):
    X, y = data
    display = WeightsDisplay.from_estimator(model, X, y)
    residual = y - model.predict(X)
    weight = np.minimum(1, model.beta_ / np.abs(residual))
    points = sorted_rows(np.column_stack([residual, weight]))
    assert_allclose(sorted_rows(scatter_of(display)), points)
    x, curve = display.line_.get_data()
    assert_allclose(curve, np.minimum(1, model.beta_ / np.abs(x)))
    assert x.min() <= residual.min()
    assert x.max() >= residual.max()
    sides = [line.get_xdata()[0] for line in display.threshold_lines_]
    assert sides == [-model.beta_, model.beta_]
    assert display.ax_.get_ylabel() == "Weight"


@pytest.mark.parametrize("display", ROWS)
def test_predictions_are_drawn_as_the_estimator_is(display, data, model):
    X, y = data
    one = display.from_estimator(model, X, y)
    other = display.from_predictions(y, model.predict(X), beta=model.beta_)
    assert_array_equal(scatter_of(one), scatter_of(other))
    assert legend_of(one) == legend_of(other)
    assert one.ax_.get_xlabel() == other.ax_.get_xlabel()


@pytest.mark.parametrize("display", ROWS)
def test_an_estimator_in_a_pipeline_or_a_search_is_drawn_as_alone(display, data):
    X, y = data
    pipeline = make_pipeline(None, StandardScaler(), "passthrough", SmoothL1Regressor(2.0))
    search = GridSearchCV(pipeline, {"smoothl1regressor__beta": [2.0]}, cv=2)
    expected = display.from_estimator(SmoothL1Regressor(2.0).fit(X, y), X, y)
    for estimator in (pipeline, search):
        drawn = display.from_estimator(estimator.fit(X, y), X, y)
        assert_allclose(scatter_of(drawn), scatter_of(expected), atol=1e-6)


@pytest.mark.parametrize("wrap", [lambda e: e, lambda e: make_pipeline(StandardScaler(), e)])
def test_a_transformed_target_is_shown_where_its_threshold_is(data, wrap):
    X, y = data
    inner = SmoothL1Regressor()
    wrapped = wrap(TransformedTargetRegressor(inner, func=np.log, inverse_func=np.exp))
    display = ResidualsDisplay.from_estimator(wrapped.fit(X, y), X, y)
    direct = clone(inner).fit(X, np.log(y))
    points = np.column_stack([direct.predict(X), np.log(y) - direct.predict(X)])
    assert_allclose(sorted_rows(scatter_of(display)), sorted_rows(points), atol=1e-9)
    assert_allclose(display.beta, direct.beta_)
    assert display.ax_.get_ylabel() == "Residuals of log(price)"


@pytest.mark.parametrize(
    ("transform", "name"),
    [
        ({"func": lambda y: 2 * y, "inverse_func": lambda y: y / 2}, "transformed price"),
        ({"transformer": StandardScaler()}, "transformed price"),
    ],
)
def test_a_transformed_target_without_a_name_is_called_that(data, transform, name):
    wrapped = TransformedTargetRegressor(SmoothL1Regressor(), **transform).fit(*data)
    display = WeightsDisplay.from_estimator(wrapped, *data)
    assert display.ax_.get_xlabel() == f"Residuals of {name}"


@pytest.mark.parametrize(
    ("convert", "name"),
    [
        (lambda y: y, " of price"),
        (lambda y: y.to_frame(), " of price"),
        (lambda y: pl.Series("price", y.to_numpy()), " of price"),
        (lambda y: pl.DataFrame({"price": y.to_numpy()}), " of price"),
        (lambda y: y.to_numpy(), ""),
        (lambda y: y.tolist(), ""),
        (lambda y: y.rename(None), ""),
    ],
)
def test_the_target_is_named_if_it_has_a_name(data, model, convert, name):
    X, y = data
    display = ResidualsDisplay.from_estimator(model, X, convert(y))
    assert display.ax_.get_xlabel() == f"Fitted values{name}"
    assert display.ax_.get_ylabel() == f"Residuals{name}"
    display = ResidualsDisplay.from_estimator(model, X, convert(y), target_name="cost")
    assert display.ax_.get_ylabel() == "Residuals of cost"


@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize("as_frame", [False, True])
def test_one_of_several_targets(two_targets, target, as_frame):
    X, Y, both = two_targets
    named = pd.DataFrame(Y, columns=["first", "second"]) if as_frame else Y
    display = ResidualsDisplay.from_estimator(both, X, named, target=target)
    alone = SmoothL1Regressor().fit(X, Y[:, target])
    expected = ResidualsDisplay.from_estimator(alone, X, Y[:, target])
    assert_allclose(scatter_of(display), scatter_of(expected), rtol=1e-6, atol=1e-6)
    assert_allclose(display.beta, alone.beta_)
    if as_frame:
        assert display.ax_.get_ylabel() == f"Residuals of {named.columns[target]}"


def test_a_single_column_needs_no_target(data):
    X, y = data
    column = y.to_numpy()[:, None]
    fitted = SmoothL1Regressor().fit(X, column)
    display = ResidualsDisplay.from_estimator(fitted, X, column)
    assert len(scatter_of(display)) == len(y)


def test_another_regressor_is_drawn_with_a_threshold(data):
    display = ResidualsDisplay.from_estimator(LinearRegression().fit(*data), *data, beta=3)
    assert "≤ β = 3" in legend_of(display)[0]


def test_sparse_features(data):
    X, y = sparse.csr_matrix(data[0].to_numpy()), data[1]
    display = ResidualsDisplay.from_estimator(SmoothL1Regressor().fit(X, y), X, y)
    assert len(scatter_of(display)) == len(y)


@pytest.mark.parametrize("display", ROWS)
@pytest.mark.parametrize(
    ("largest", "given", "scale"),
    [
        (19, "auto", "linear"),
        (21, "auto", "symlog"),
        (5, "symlog", "symlog"),
        (0.5, "symlog", "symlog"),
        (1e9, "linear", "linear"),
    ],
)
def test_the_axis_of_residuals_is_logarithmic_where_some_are_far(
    display, largest, given, scale
):
    residual = np.linspace(-0.5, 0.5, 50)
    residual[0] = largest
    drawn = display.from_predictions(residual, 0 * residual, beta=1.0, residual_axis=given)
    axis = drawn.ax_.yaxis if display is ResidualsDisplay else drawn.ax_.xaxis
    assert axis.get_scale() == scale
    assert ("logarithmic beyond" in axis.get_label_text()) == (scale == "symlog")
    if scale == "symlog":
        labels = [label.get_text() for label in axis.get_ticklabels()]
        assert {"−β", "0", "β"} <= set(labels)
        low, high = axis.get_view_interval()
        assert low < residual.min()
        assert high > largest


def test_a_logarithmic_axis_of_few_decades_has_a_tick_beyond_the_threshold():
    residual = np.append(np.linspace(-2, 2, 50), 60)
    display = ResidualsDisplay.from_predictions(residual, 0 * residual, beta=2.6)
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert "$10^{1}$" in labels


@pytest.mark.parametrize("largest", [30, 1e3, 1e13])
def test_the_band_is_at_least_a_sixth_of_a_logarithmic_axis(largest):
    residual = np.append(np.linspace(-2, 2, 50), [-largest, largest])
    display = ResidualsDisplay.from_predictions(residual, 0 * residual, beta=1.0)
    band = display.ax_.transData.transform([[0, -1], [0, 1]])[:, 1]
    assert np.diff(band)[0] > display.ax_.bbox.height / 6


@pytest.mark.parametrize("display", ROWS)
def test_a_million_rows_are_some_markers_and_all_are_counted(display):
    rng = np.random.default_rng(0)
    y = rng.normal(size=1_000_000)
    drawn = display.from_predictions(y, np.zeros_like(y), beta=1.345)
    n_far = (np.abs(y) > 1.345).sum()
    assert len(scatter_of(drawn)) == 2000
    assert f"{n_far:,} beyond β\n(500 drawn)" in legend_of(drawn)
    assert f"{1_000_000 - n_far:,} within β\n(1,500 drawn)" in legend_of(drawn)
    coordinate = 1 if display is ResidualsDisplay else 0
    residual = drawn.outlier_scatter_.get_offsets()[:, coordinate]
    five = np.sort(np.abs(y))[-5:]
    assert_array_equal(np.sort(np.abs(residual))[-5:], five)
    again = display.from_predictions(y, np.zeros_like(y), beta=1.345)
    assert_array_equal(scatter_of(again), scatter_of(drawn))


def test_few_outliers_are_all_drawn_and_many_in_proportion():
    for n_far, n_drawn in [(0, 0), (3, 3), (25, 25), (26, 25), (300, 30), (1000, 100)]:
        outlier = np.arange(1000) < n_far
        near, far = thin(np.arange(1000.0), outlier, 100, np.array([], dtype=int))
        assert (len(near), len(far)) == (100 - n_drawn, n_drawn)
        assert outlier[far].all()
        assert not outlier[near].any()
        assert len(np.unique(far)) == len(far)


@pytest.mark.parametrize("max_markers", [1, 2, 7, 99, 100, 101])
def test_no_more_markers_than_asked_for(max_markers):
    none = np.array([], dtype=int)
    near, far = thin(np.arange(100.0), np.arange(100) % 3 == 0, max_markers, none)
    assert len(near) + len(far) == min(100, max_markers)


def test_a_sample_is_the_same_each_time_and_leaves_numpys_state_alone():
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    assert_array_equal(sample(np.arange(1000), 10), sample(np.arange(1000), 10))
    assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002
