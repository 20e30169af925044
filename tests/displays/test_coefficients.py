"""CoefficientsDisplay: rows, order, intervals and labels."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.path import Path
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.compose import TransformedTargetRegressor

from artists import legend_of
from skrobust import SmoothL1Regressor
from skrobust.displays import CoefficientsDisplay
from skrobust.inference import coefficient_table

NAMES = ["intercept", "a", "b", "c", "d"]
COEF = np.array([50.0, 1.0, -3.0, 0.5, 2.0])
HALF = np.array([1.0, 2.0, 1.0, 0.1, 1.0])


def display_of(**changes):
    arrays = {"names": NAMES, "coef": COEF, "lower": COEF - HALF, "upper": COEF + HALF}
    return CoefficientsDisplay(**(arrays | changes))


def rows_of(display):
    return [label.get_text() for label in display.ax_.get_yticklabels()]


def intervals_of(display):
    """Return the ends of the intervals, from top to bottom."""
    return np.array([segment[:, 0] for segment in display.errorbar_.lines[2][0].get_segments()])


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_legend_hides_no_interval(sign):
    # The first interval is on the left or right of all others, so that a corner of the axes is
    # free for the legend.
    coef = sign * np.array([-9.0, 5.0, 4.5, 4.0])
    reach = np.array([4.0, 1.0, 1.0, 1.0])
    arrays = {"names": NAMES[1:], "coef": coef, "lower": coef - reach, "upper": coef + reach}
    display = CoefficientsDisplay(**arrays).plot()
    box = display.legend_.get_window_extent()
    for segment in display.errorbar_.lines[2][0].get_segments():
        line = Path(display.ax_.transData.transform(segment))
        assert not line.intersects_bbox(box)


def test_the_largest_coefficient_is_on_top():
    display = display_of().plot()
    assert rows_of(display) == ["b", "d", "a", "c"]
    order = [2, 4, 1, 3]
    x, y = display.errorbar_.lines[0].get_data()
    assert_array_equal(x, COEF[order])
    low, high = display.ax_.get_ylim()
    assert low > y.max() > y.min() > high
    assert_array_equal(y, np.sort(y))
    assert_allclose(intervals_of(display), (COEF + np.array([[-1], [1]]) * HALF).T[order])
    assert rows_of(display.plot(order="given")) == NAMES[1:]
    assert rows_of(display.plot(intercept=True)) == ["intercept", "b", "d", "a", "c"]


def test_a_marker_is_filled_where_the_interval_excludes_the_reference():
    display = display_of().plot()
    assert_array_equal(display.filled_.get_xdata(), [-3, 2, 0.5])
    assert legend_of(display) == ["excludes 0 (3)", "includes 0 (1)"]
    hollow = display.errorbar_.lines[0]
    assert to_rgba(hollow.get_markerfacecolor()) == display.ax_.get_facecolor()
    assert_array_equal(display.reference_line_.get_xdata(), [0, 0])
    moved = display.plot(reference=1.5)
    assert_array_equal(moved.filled_.get_xdata(), [-3, 0.5])
    assert_array_equal(moved.reference_line_.get_xdata(), [1.5, 1.5])
    without = display.plot(reference=None)
    assert without.reference_line_ is None
    assert without.legend_ is None


def test_a_coefficient_without_an_interval_is_a_marker_alone():
    lower = COEF - HALF
    lower[2] = np.nan
    display = display_of(lower=lower).plot()
    assert rows_of(display)[0] == "b"
    assert [len(line) for line in display.errorbar_.lines[2][0].get_segments()] == [1, 2, 2, 2]
    assert display.errorbar_.lines[0].get_xdata()[0] == -3
    assert -3 not in display.filled_.get_xdata()
    assert legend_of(display) == ["excludes 0 (2)", "includes 0 (1)"]
    assert set(rows_of(display.plot(max_features=3))) == {"a", "c", "d"}


def test_an_interval_beside_its_coefficient_is_drawn_where_it_is():
    display = display_of(lower=COEF + 1, upper=COEF + 2).plot(order="given")
    assert_allclose(intervals_of(display), np.column_stack([COEF + 1, COEF + 2])[1:])


def test_the_clearest_of_many_coefficients_are_shown():
    display = display_of().plot(max_features=2)
    # The half widths of the intervals of c and b are 20 % and 33 % of their coefficients.
    assert rows_of(display) == ["b", "c"]
    assert display.note_.get_text() == "2 of 4 shown"
    assert rows_of(display.plot(max_features=2, intercept=True)) == ["intercept", "c"]
    assert display.note_.get_text() == "2 of 5 shown"
    assert display.plot(max_features=4).note_.get_text() == ""


@pytest.mark.parametrize("standardize", [False, True])
def test_a_table_is_drawn_in_its_order(data, model, standardize):
    X, y = data
    table = coefficient_table(model, X, y, covariance="HC1")
    display = CoefficientsDisplay.from_table(table, level=0.9, standardize=standardize)
    factor = np.ones(4)
    if standardize:
        factor[1:] = X.std(ddof=0)
    lower, upper = table.conf_int(0.9).T
    assert display.names == ["intercept", "age", "bmi", "dose"]
    assert_allclose(display.coef, factor * table.coef, rtol=1e-7)
    assert_allclose(display.lower, factor * lower, rtol=1e-7)
    assert_allclose(display.upper, factor * upper, rtol=1e-7)
    label = "Coefficient"
    if standardize:
        label += " × standard deviation of the feature"
    assert display.ax_.get_xlabel() == f"{label}\n90 % intervals (HC1)"


def test_an_estimator_is_drawn_as_its_table(data, model):
    X, y = data
    groups = np.arange(len(y)) // 5
    display = CoefficientsDisplay.from_estimator(model, X, y, groups=groups)
    table = coefficient_table(model, X, y, groups=groups)
    expected = CoefficientsDisplay.from_table(table)
    assert_array_equal(display.lower, expected.lower)
    assert display.description == "CR3"
    assert display.ax_.get_xlabel().splitlines() == [
        "Coefficient × standard deviation of the feature, in units of price",
        "95 % intervals (CR3)",
    ]
    plain = CoefficientsDisplay.from_estimator(
        model, X, y, standardize=False, target_name="cost"
    )
    assert plain.ax_.get_xlabel().startswith(
        "Coefficient, in units of cost per unit of the feature"
    )


def test_warnings_of_the_table_point_at_the_line_of_the_caller(data):
    model = SmoothL1Regressor(alpha=0.5).fit(*data)
    with pytest.warns(UserWarning, match="penalized") as caught:
        CoefficientsDisplay.from_estimator(model, *data)
    assert [warning.filename for warning in caught] == [__file__]


def test_one_of_several_targets_and_a_transformed_target(data, two_targets):
    X, Y, both = two_targets
    display = CoefficientsDisplay.from_estimator(both, X, Y, target=1)
    assert_allclose(np.asarray(display.coef)[0], both.intercept_[1])
    X, y = data
    wrapped = TransformedTargetRegressor(SmoothL1Regressor(), func=np.log, inverse_func=np.exp)
    display = CoefficientsDisplay.from_estimator(wrapped.fit(X, y), X, y)
    assert "in units of log(price)" in display.ax_.get_xlabel()


def test_a_fit_without_an_intercept_has_none_to_leave_out(data):
    X, y = data
    model = SmoothL1Regressor(fit_intercept=False).fit(X, y)
    display = CoefficientsDisplay.from_estimator(model, X, y)
    assert set(rows_of(display)) == set(X.columns)


@pytest.mark.parametrize(
    "features",
    [["intercept", "b", "c"], ["intercept", "(intercept)", "c"], ["(intercept)", *"bc"]],
)
def test_features_named_as_the_intercept_are_shown_without_it(data, features):
    X, y = data
    X = X.set_axis(features, axis=1)
    display = CoefficientsDisplay.from_estimator(SmoothL1Regressor().fit(X, y), X, y)
    assert set(rows_of(display)) == set(features)


def test_styles_of_the_errorbars():
    display = display_of().plot(errorbar_kwargs={"color": "green", "fmt": "s", "capsize": 3})
    assert display.errorbar_.lines[0].get_marker() == display.filled_.get_marker() == "s"
    assert display.filled_.get_color() == "green"
    assert len(display.errorbar_.lines[1]) == 2


def test_a_figure_of_its_own_is_as_high_as_the_rows():
    few = display_of().plot().figure_.get_figheight()
    names = [f"x{j}" for j in range(60)]
    coef = np.arange(60.0)
    many = CoefficientsDisplay(names=names, coef=coef, lower=coef - 1, upper=coef + 1)
    assert many.plot(max_features=60).figure_.get_figheight() > 4 * few
    figure, ax = plt.subplots()
    before = figure.get_figheight()
    assert many.plot(ax=ax).figure_.get_figheight() == before
