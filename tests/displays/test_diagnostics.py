"""DiagnosticsDisplay and ScaleLocationDisplay: panels, and labels of the extreme rows."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import HuberRegressor, LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from artists import legend_of, scatter_of, sorted_rows
from skrobust import MMRegressor, SmoothL1Regressor
from skrobust.displays import (
    DiagnosticsDisplay,
    InfluenceDisplay,
    OutlierMapDisplay,
    QQDisplay,
    ResidualsDisplay,
    ScaleLocationDisplay,
    WeightsDisplay,
)
from skrobust.inference import observation_table

ROWS = [ResidualsDisplay, WeightsDisplay, QQDisplay, ScaleLocationDisplay]


def names_in(display):
    return {label.get_text() for label in display.labels_}


@pytest.fixture(scope="module")
def swapped():
    """Return data with a row whose weight and height are swapped, as in R's carData::Davis."""
    rng = np.random.default_rng(0)
    names = [f"woman {i}" for i in range(100)]
    X = pd.DataFrame({"height": rng.normal(165, 6, 100)}, index=names)
    y = (0.7 * X["height"] - 60 + rng.normal(0, 6, 100)).rename("weight")
    X.loc["woman 12"], y.loc["woman 12"] = 57.0, 166.0
    return X, y


@pytest.mark.parametrize(
    ("model", "fourth"),
    [
        (SmoothL1Regressor(), InfluenceDisplay),
        (MMRegressor(), OutlierMapDisplay),
        (HuberRegressor(alpha=0.0, max_iter=10_000), WeightsDisplay),
    ],
)
def test_a_swapped_row_has_its_name_in_every_panel(model, fourth, swapped):
    X, y = swapped
    scaled = make_pipeline(StandardScaler(), model).fit(X, y)
    display = DiagnosticsDisplay.from_estimator(scaled, X, y)
    panels = [display.residuals, display.quantiles, display.scale_location, display.influence]
    kinds = [ResidualsDisplay, QQDisplay, ScaleLocationDisplay, fourth]
    assert [type(panel) for panel in panels] == kinds
    for panel, ax in zip(panels, display.ax_.flat, strict=True):
        assert panel.ax_ is ax
        assert "woman 12" in names_in(panel)
        assert names_in(panel) == names_in(panels[0])


def test_a_leverage_point_with_a_small_residual_has_a_label_in_every_panel(data):
    X, y = data[0].copy(), data[1].copy()
    X.loc[50, "age"] += 100
    model = SmoothL1Regressor(1e6).fit(X, y)
    table = observation_table(model, X, y)
    residual_rank = np.argsort(np.argsort(-np.abs(table.residual)))[50]
    assert residual_rank > 12
    assert np.argmax(table.cooks_distance) == 50
    display = DiagnosticsDisplay.from_estimator(model, X, y, labelled=2)
    largest = np.argsort(-np.abs(table.residual))[:2]
    influential = np.argsort(-table.cooks_distance)[:2]
    assert_array_equal(display.labelled_, np.union1d(largest, influential))
    assert "50" in names_in(display.residuals)


def test_panels_are_the_displays_alone(data, model):
    X, y = data
    display = DiagnosticsDisplay.from_estimator(model, X, y, smooth=False)
    for panel, kind in [
        (display.residuals, ResidualsDisplay),
        (display.quantiles, QQDisplay),
        (display.scale_location, ScaleLocationDisplay),
        (display.influence, InfluenceDisplay),
    ]:
        alone = kind.from_estimator(model, X, y)
        assert_array_equal(sorted_rows(scatter_of(panel)), sorted_rows(scatter_of(alone)))
    assert display.residuals.smooth_ is None
    assert display.quantiles.legend_ is None


def test_weights_a_target_and_its_transformation_reach_all_panels(data):
    X, y = data
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y))
    model = TransformedTargetRegressor(SmoothL1Regressor(), func=np.log, inverse_func=np.exp)
    model.fit(X, y, sample_weight=weight)
    display = DiagnosticsDisplay.from_estimator(model, X, y, sample_weight=weight)
    table = observation_table(model, X, y, sample_weight=weight)
    assert_allclose(display.influence.cooks_distance, table.cooks_distance)
    assert display.residuals.ax_.get_ylabel() == "Residuals of log(price)"
    both = SmoothL1Regressor().fit(X, np.column_stack([y, -2 * y]))
    display = DiagnosticsDisplay.from_estimator(
        both, X, np.column_stack([y, -2 * y]), target=1, target_name="loss"
    )
    assert_allclose(display.residuals.y_true, -2 * y)
    assert "of loss" in display.influence.ax_.get_ylabel()


def test_panels_take_the_place_of_the_axes_given(data, model):
    figure, (left, right) = plt.subplots(1, 2, figsize=(16, 8))
    display = DiagnosticsDisplay.from_estimator(model, *data, ax=right)
    assert display.figure_ is figure
    assert not right.axison
    assert not left.has_data()
    four = plt.figure().subplots(2, 2)
    assert_array_equal(DiagnosticsDisplay.from_estimator(model, *data, ax=four).ax_, four)
    again = display.plot(labelled=[3])
    assert again is display
    assert names_in(display.influence) == {"3"}


def test_another_regressor_is_drawn_with_a_threshold(data):
    model = LinearRegression().fit(*data)
    display = DiagnosticsDisplay.from_estimator(model, *data, beta=2.0)
    assert isinstance(display.influence, WeightsDisplay)
    assert display.quantiles.beta == 2.0


def test_an_mm_estimate_without_robust_distances_is_drawn_with_its_weights():
    rng = np.random.default_rng(0)
    X = (rng.uniform(size=(100, 2)) > 0.8).astype(float)
    y = X @ [1.0, 2.0] + rng.normal(size=100)
    display = DiagnosticsDisplay.from_estimator(MMRegressor().fit(X, y), X, y)
    assert isinstance(display.influence, WeightsDisplay)
    assert display.influence.rejection_point > display.residuals.beta


# Labels of rows --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "label"),
    [
        (pd.MultiIndex.from_arrays([np.arange(5), list("abcde")]), "3, d"),
        (pd.MultiIndex.from_arrays([np.arange(5), np.arange(5) / 2]), "3, 1.5"),
        (pd.date_range("2024-02-27", periods=5), "2024-03-01"),
        (pd.date_range("2024-02-27", periods=5, freq="h"), "2024-02-27 03:00:00"),
        (pd.Index(["$\\frac{$"] * 5), "$\\frac{$"),
    ],
)
def test_labels_of_rows_are_the_text_of_the_index(index, label):
    y = pd.Series([0.0, 1.0, 0.0, 9.0, 0.0], index=index)
    display = QQDisplay.from_predictions(y, np.zeros(5), beta=1.0, labelled=1)
    assert names_in(display) == {label}
    display.figure_.canvas.draw()  # an error if the text were taken as a formula


@pytest.mark.parametrize("convert", [list, np.array, pd.Index, pd.Series])
def test_names_belong_to_rows_by_their_position(convert):
    names = convert(list("abcde"))
    if isinstance(names, pd.Series):
        names = names.set_axis([4, 3, 2, 1, 0])
    values = np.array([0.0, 1.0, 0.0, 9.0, 0.0])
    display = ResidualsDisplay(y_true=values, y_pred=0 * values, beta=1.0, names=names)
    assert names_in(display.plot(labelled=1)) == {"d"}


@pytest.mark.parametrize("kind", ROWS)
def test_the_largest_residuals_have_the_labels_of_the_index(kind, data, model):
    X, y = data
    X = X.set_axis([f"row {i}" for i in range(len(X))])
    largest = np.argsort(-np.abs(y.to_numpy() - model.predict(X)))[:4]
    display = kind.from_estimator(model, X, y, labelled=4)
    assert names_in(display) == set(X.index[largest])
    unnamed = SmoothL1Regressor().fit(X.to_numpy(), y)
    by_number = kind.from_estimator(unnamed, X.to_numpy(), y.to_numpy(), labelled=4)
    assert names_in(by_number) == {str(row) for row in largest}
    of_y = kind.from_predictions(y.set_axis(X.index), model.predict(X), beta=1.0, labelled=4)
    assert names_in(of_y) == set(X.index[largest])
    assert kind.from_estimator(model, X, y, labelled=0).labels_ == []
    assert names_in(kind.from_estimator(model, X, y, labelled=[7, 3])) == {"row 3", "row 7"}


@pytest.mark.parametrize("kind", [*ROWS, OutlierMapDisplay])
def test_labelled_rows_are_drawn_whatever_the_number_of_markers(kind, data, mm):
    X, y = data
    rows = np.arange(20, 30)
    display = kind.from_estimator(mm, X, y, labelled=rows, max_markers=1)
    points = {tuple(label.xy) for label in display.labels_}
    assert len(points) == 10
    assert points <= {tuple(point) for point in scatter_of(display)}


# Scale and location ----------------------------------------------------------------------


def test_square_roots_of_absolute_residuals_are_drawn(data, model):
    X, y = data
    display = ScaleLocationDisplay.from_estimator(model, X, y)
    fitted = model.predict(X)
    points = np.column_stack([fitted, np.sqrt(np.abs(y - fitted))])
    assert_allclose(sorted_rows(scatter_of(display)), sorted_rows(points))
    assert_allclose(display.threshold_line_.get_ydata(), np.sqrt(model.beta_))
    assert display.ax_.get_ylabel() == "√|Residuals| of price"
    assert display.ax_.get_ylim()[0] == 0
    assert legend_of(display)[0] == f"β = {model.beta_:.4g}"


def test_the_smooth_curve_rises_with_the_spread():
    rng = np.random.default_rng(0)
    fitted = rng.uniform(1, 10, 500)
    y = fitted + fitted * rng.normal(size=500)
    display = ScaleLocationDisplay.from_predictions(y, fitted, beta=10.0)
    curve = display.smooth_.get_ydata()
    assert np.all(np.diff(curve) > 0)
    assert curve[-1] > 1.5 * curve[0]


def test_the_smooth_curve_of_residuals_shows_a_missing_term():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, 500)
    y = x**2 + 0.1 * rng.normal(size=500)
    display = ResidualsDisplay.from_predictions(y, x * 0 + y.mean(), beta=1.0, smooth=False)
    assert display.smooth_ is None
    model = SmoothL1Regressor().fit(x[:, None], y - x)
    display = ResidualsDisplay.from_estimator(
        model, x[:, None], y - x, smooth_kwargs={"c": "red"}
    )
    _, curve = display.smooth_.get_data()
    assert min(curve[0], curve[-1]) > 0.2 > 0 > curve.min()
    assert display.smooth_.get_color() == "red"


def test_a_logarithmic_axis_of_sizes_names_the_threshold():
    residual = np.append(np.linspace(-1, 1, 50), 1e6)
    display = ScaleLocationDisplay.from_predictions(residual, 0 * residual, beta=1.0)
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert "√β" in labels
    assert display.ax_.get_ylabel().endswith("(logarithmic beyond √β)")
    assert display.ax_.get_ylim()[0] == 0
