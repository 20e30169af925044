"""InfluenceDisplay and QQDisplay: markers and labels of the rows, contours and lines."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm

from artists import legend_of, scatter_of, sorted_rows
from skrobust import SmoothL1Regressor
from skrobust._observation_table import observation_table
from skrobust.displays import InfluenceDisplay, QQDisplay


def test_leave_one_out_residuals_are_drawn_against_leverages(data, model):
    X, y = data
    display = InfluenceDisplay.from_estimator(model, X, y)
    table = observation_table(model, X, y)
    scale = np.median(np.abs(y - model.predict(X))) / norm.ppf(0.75)
    residual = table.leave_one_out_residual / scale
    near, far = ~table.outlier, table.outlier
    drawn = display.scatter_.get_offsets().data
    assert_allclose(drawn, np.column_stack([table.leverage, residual])[near], rtol=1e-6)
    outliers = display.outlier_scatter_.get_offsets().data
    assert_allclose(outliers[:, 1], residual[far], rtol=1e-6)
    assert (outliers[:, 0] > 0).all()
    assert legend_of(display) == [
        f"{near.sum()} within β",
        f"{far.sum()} beyond β",
        "Cook's distance 0.5:\n0 rows beyond",
        "Cook's distance 1:\n0 rows beyond",
    ]
    assert display.ax_.get_ylabel() == "Leave-one-out residuals of price / scale"


def test_an_outlier_is_at_the_leverage_that_it_has_within_the_threshold(data):
    X, y = data
    model = SmoothL1Regressor(3.0).fit(X, y)
    display = InfluenceDisplay.from_estimator(model, X, y)
    row = np.flatnonzero(model.outliers_)[0]
    inside = np.append(np.flatnonzero(~model.outliers_), row)
    Z = np.column_stack([np.ones(len(X)), X])[inside]
    h = np.einsum("ij,ji->i", Z, np.linalg.solve(Z.T @ Z, Z.T))
    assert_allclose(np.asarray(display.leverage)[row], h[-1], rtol=1e-6)


@pytest.mark.parametrize("beta", [1e6, 2.0, "auto", 0.01])
def test_contours_are_those_of_the_cooks_distances(data, beta):
    X, y = data
    model = SmoothL1Regressor(beta).fit(X, y)
    display = InfluenceDisplay.from_estimator(model, X, y)
    leverage, residual = np.asarray(display.leverage), np.asarray(display.residual)
    distances = display._cooks_distances(leverage, np.abs(residual))
    assert_allclose(distances, display.cooks_distance, rtol=1e-6, atol=1e-12)


def test_a_row_is_beyond_the_contour_if_its_distance_is(data):
    X, y = data[0].copy(), data[1].copy()
    X.iloc[0] *= 5
    y.iloc[0] += 40
    model = SmoothL1Regressor(1e6).fit(X, y)
    level = 0.3
    display = InfluenceDisplay.from_estimator(model, X, y, levels=[level])
    x, height = display.contours_[0].get_data()
    positive = height > 0
    is_beyond = np.asarray(display.cooks_distance) > level
    assert is_beyond.any()
    for h, r, beyond in zip(display.leverage, display.residual, is_beyond, strict=True):
        at = np.interp(abs(r), height[positive], np.nan_to_num(x[positive], nan=np.inf))
        assert (h > at) == beyond
    # For least squares Cook's distance is k r² h, with the leave-one-out residual r and the
    # leverage h.
    k = display.cook_factor
    inside = positive & np.isfinite(x)
    assert inside.sum() > 100
    assert_allclose(k * height[inside] ** 2 * x[inside], level, rtol=0.1)
    assert legend_of(display)[-1] == f"Cook's distance 0.3:\n{is_beyond.sum()} row beyond"


def test_the_most_influential_rows_have_the_labels_of_the_frame(data, model):
    X, y = data
    X = X.set_axis([f"row {i}" for i in range(len(X))])
    display = InfluenceDisplay.from_estimator(model, X, y, labelled=4)
    largest = observation_table(model, X, y).frame["cooks_distance"].nlargest(4)
    assert [label.get_text() for label in display.labels_] == list(largest.index)
    by_number = InfluenceDisplay.from_estimator(model, X, y, labelled=0)
    assert by_number.labels_ == []


def test_labels_of_close_rows_do_not_overlap():
    residual = np.array([1.0, 1.01, 1.02, 1.03, -1, 0])
    leverage = np.array([0.2, 0.201, 0.199, 0.2, 0.1, 0.3])
    display = InfluenceDisplay(
        leverage=leverage,
        residual=residual,
        cooks_distance=residual**2 * leverage,
        outlier=residual > 2,
        beta=2.0,
        cook_factor=1.0,
        names=[f"a row {i}" for i in range(6)],
    ).plot(labelled=4)
    display.figure_.canvas.draw()
    boxes = [label.get_window_extent() for label in display.labels_]
    assert len(boxes) == 4
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])


def test_labelled_rows_are_drawn_whatever_the_number_of_markers(data, model):
    X, y = data
    display = InfluenceDisplay.from_estimator(model, X, y, max_markers=1, labelled=6)
    points = {tuple(label.xy) for label in display.labels_}
    assert points <= {tuple(point) for point in scatter_of(display)}
    assert len(scatter_of(display)) <= 8


def test_a_row_of_leverage_one_is_counted_and_not_drawn(data):
    X, y = data
    X = X.assign(alone=(np.arange(len(y)) == 50).astype(float))
    display = InfluenceDisplay.from_estimator(SmoothL1Regressor(4.0).fit(X, y), X, y)
    assert len(scatter_of(display)) == len(y) - 1
    assert legend_of(display)[-1] == "1 row of leverage 1"


def test_weights_are_those_of_the_table(data):
    X, y = data
    weight = np.random.default_rng(0).uniform(0, 2, len(y))
    model = SmoothL1Regressor().fit(X, y, weight)
    table = observation_table(model, X, y, sample_weight=weight)
    display = InfluenceDisplay.from_estimator(model, X, y, sample_weight=weight)
    assert_array_equal(display.cooks_distance, table.cooks_distance)
    twice = InfluenceDisplay.from_estimator(model, X, y, sample_weight=2 * weight)
    assert_allclose(twice.cook_factor, display.cook_factor, rtol=1e-9)
    # The contours apply to a row whose sample weight is the mean of all sample weights.
    distances = display._cooks_distances(
        np.asarray(display.leverage), np.abs(np.asarray(display.residual))
    )
    distances *= weight / weight.mean()
    near = ~table.outlier
    assert_allclose(distances[near], table.cooks_distance[near], rtol=1e-6, atol=1e-12)


# Quantiles -------------------------------------------------------------------------------


def test_residuals_are_drawn_against_normal_quantiles(data, model):
    X, y = data
    display = QQDisplay.from_estimator(model, X, y)
    residual = np.sort(y - model.predict(X))
    n = len(y)
    quantile = norm.ppf((np.arange(1, n + 1) - 0.5) / n)
    expected = np.column_stack([quantile, residual])
    assert_allclose(sorted_rows(scatter_of(display)), expected)
    sides = [line.get_ydata()[0] for line in display.threshold_lines_]
    assert sides == [-model.beta_, model.beta_]
    assert display.ax_.get_ylabel() == "Residuals of price"


def test_equal_residuals_have_the_mean_of_their_ranks():
    display = QQDisplay.from_predictions([1.0, 0.0, 0.0, -1.0], np.zeros(4), beta=0.5)
    assert_allclose(display.scatter_.get_offsets().data, [[0, 0], [0, 0]], atol=1e-12)


def test_the_line_is_that_of_normal_errors():
    z = norm.ppf((np.arange(1, 1001) - 0.5) / 1000)
    display = QQDisplay.from_predictions(3 + 2 * z, np.zeros(1000), beta=10.0)
    x, y = display.line_.get_data()
    assert_allclose(y, 3 + 2 * x, rtol=2e-3, atol=1e-2)
