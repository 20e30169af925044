"""OutlierMapDisplay: regions of the rows, cutoffs, axes and a limited number of markers."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.stats import chi2, norm
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from artists import scatter_of, sorted_rows
from skrobust import MMRegressor
from skrobust.displays import OutlierMapDisplay

KINDS = ["regular", "good leverage", "vertical outlier", "bad leverage"]


def outlier_map(distances, residuals, **kwargs):
    return OutlierMapDisplay(
        robust_distances=distances,
        standardized_residuals=residuals,
        distance_cutoff=3.0,
        residual_cutoff=2.5,
    ).plot(**kwargs)


@pytest.fixture(scope="module")
def spread(data):
    """Return data with rows in all four regions of the map."""
    X, y = data[0].copy(), data[1].copy()
    X.iloc[20:30] += np.array([5, 50, 5e6])
    y.iloc[20:30] += 5 + 10 + 15
    X.iloc[30:38] -= np.array([3, 30, 3e6])
    return X, y


@pytest.fixture(scope="module")
def fitted(spread):
    return MMRegressor().fit(*spread)


def test_residuals_over_the_scale_are_drawn_against_robust_distances(spread, fitted):
    X, y = spread
    display = OutlierMapDisplay.from_estimator(fitted, X, y)
    points = np.column_stack(
        [fitted.robust_distances(X), (y - fitted.predict(X)) / fitted.scale_]
    )
    assert_allclose(sorted_rows(scatter_of(display)), sorted_rows(points), rtol=1e-12)
    assert display.ax_.get_xlabel() == "Robust distance"
    assert display.ax_.get_ylabel() == "Residuals of price / scale"


def test_cutoffs_are_quantiles_and_are_drawn(spread, fitted):
    display = OutlierMapDisplay.from_estimator(fitted, *spread)
    assert_allclose(display.distance_cutoff, np.sqrt(chi2.ppf(0.975, 3)))
    assert_allclose(display.residual_cutoff, norm.ppf(0.995))
    heights = [line.get_ydata()[0] for line in display.residual_lines_]
    assert heights == [-display.residual_cutoff, display.residual_cutoff]
    assert display.distance_line_.get_xdata()[0] == display.distance_cutoff


def test_quadrants_are_the_masks_of_the_fit(spread, fitted):
    quadrants = OutlierMapDisplay.from_estimator(fitted, *spread).quadrants
    is_outlier, is_leverage = fitted.outliers_, fitted.leverage_
    for kind, mask in zip(
        KINDS,
        [
            ~is_outlier & ~is_leverage,
            ~is_outlier & is_leverage,
            is_outlier & ~is_leverage,
            is_outlier & is_leverage,
        ],
        strict=True,
    ):
        assert mask.any()
        assert_array_equal(quadrants == kind, mask)
    assert set(quadrants[:12]) == {"vertical outlier"}
    assert set(quadrants[20:30]) == {"good leverage"}
    assert set(quadrants[30:38]) == {"bad leverage"}


def test_a_row_at_a_cutoff_is_within_it():
    display = outlier_map([3.0, 3.1, 3.0, 3.1], [2.5, -2.5, -2.6, 2.6])
    assert display.quadrants.tolist() == KINDS
    assert_allclose(display.scatter_.get_offsets(), [[3.0, 2.5], [3.1, -2.5]])
    assert_allclose(display.outlier_scatter_.get_offsets(), [[3.0, -2.6], [3.1, 2.6]])


def test_regions_have_the_names_and_numbers_of_their_rows(spread, fitted):
    display = OutlierMapDisplay.from_estimator(fitted, *spread)
    display.figure_.canvas.draw()
    ax = display.ax_
    names = {
        "regular rows": "regular",
        "good leverage points": "good leverage",
        "vertical outliers": "vertical outlier",
        "bad leverage points": "bad leverage",
    }
    residuals = np.asarray(display.standardized_residuals)
    named = []
    for label in display.region_labels_:
        box = label.get_window_extent()
        corners = ax.transData.inverted().transform(box.get_points())
        at = outlier_map(corners[:, 0], corners[:, 1])
        at.distance_cutoff, at.residual_cutoff = (
            display.distance_cutoff,
            display.residual_cutoff,
        )
        count, name = label.get_text().split(" ", 1)
        kind = names[name.replace("\n", " ")]
        assert set(at.quadrants) == {kind}
        in_region = display.quadrants == kind
        if "outlier" in kind or "bad" in kind:
            in_region &= (residuals > 0) == (corners[0, 1] > 0)
        assert int(count) == in_region.sum()
        named.append(kind)
    assert sorted(named) == sorted([*KINDS, "vertical outlier", "bad leverage"])


@pytest.mark.parametrize("i", range(3))
def test_meta_estimators_are_unwrapped(i, spread, fitted):
    X, y = spread
    pipeline = make_pipeline(StandardScaler(), MMRegressor())
    estimator = [
        pipeline,
        GridSearchCV(pipeline, {"mmregressor__efficiency": [0.95]}, cv=2),
        TransformedTargetRegressor(pipeline, func=np.negative, inverse_func=np.negative),
    ][i].fit(X, y)
    expected = OutlierMapDisplay.from_estimator(fitted, X, y)
    display = OutlierMapDisplay.from_estimator(estimator, X, y)
    assert_array_equal(display.quadrants, expected.quadrants)
    sign = -1 if i == 2 else 1
    assert_allclose(
        np.multiply(sign, display.standardized_residuals),
        expected.standardized_residuals,
        atol=1e-6,
    )
    name = "negative(price)" if i == 2 else "price"
    assert display.ax_.get_ylabel() == f"Residuals of {name} / scale"


def test_other_rows_and_sparse_features_are_drawn(spread, fitted):
    X, y = spread
    display = OutlierMapDisplay.from_estimator(fitted, X[:7], y[:7], target_name="cost")
    assert len(scatter_of(display)) == 7
    assert display.ax_.get_ylabel() == "Residuals of cost / scale"
    compressed = sparse.csr_array(X.to_numpy())
    display = OutlierMapDisplay.from_estimator(MMRegressor().fit(compressed, y), compressed, y)
    assert_array_equal(display.quadrants == "bad leverage", fitted.outliers_ & fitted.leverage_)


@pytest.mark.parametrize("axis", ["x", "y"])
@pytest.mark.parametrize(
    ("cutoffs", "scale"), [(9, "linear"), (11, "symlog"), (1e12, "symlog")]
)
def test_an_axis_is_logarithmic_where_a_point_would_hide_the_rest(axis, cutoffs, scale):
    distances, residuals = np.linspace(0, 3, 50), np.linspace(-2, 2, 50)
    if axis == "x":
        distances[0] = 3.0 * cutoffs
    else:
        residuals[0] = -2.5 * cutoffs
    display = outlier_map(distances, residuals)
    ax = display.ax_
    drawn, other = (ax.xaxis, ax.yaxis) if axis == "x" else (ax.yaxis, ax.xaxis)
    assert drawn.get_scale() == scale
    assert other.get_scale() == "linear"
    assert ("logarithmic beyond" in drawn.get_label_text()) == (scale == "symlog")
    assert ax.get_xlim()[0] == 0
    position = ax.transAxes.inverted().transform(ax.transData.transform(scatter_of(display)))
    assert ((position >= 0) & (position <= 1)).all()
    if scale == "symlog":
        # All rows except the two outermost ones extend over at least a sixth of the axis.
        assert np.ptp(np.sort(position[:, "xy".index(axis)])[1:-1]) > 1 / 6


def test_axes_extend_beyond_the_cutoffs_if_no_row_does():
    ax = outlier_map(np.zeros(10), np.zeros(10)).ax_
    assert ax.get_xlim()[1] > 4
    assert ax.get_ylim()[0] < -3
    assert ax.get_ylim()[1] > 3


@pytest.mark.parametrize(("max_markers", "n_regular"), [(2000, 1400), (400, 100), (1, 0)])
def test_all_rows_are_drawn_but_some_regular_ones(max_markers, n_regular):
    rng = np.random.default_rng(0)
    distances, residuals = rng.uniform(0, 3, 100_000), rng.uniform(-2.5, 2.5, 100_000)
    distances[:300] += 3.01
    residuals[200:600] += 5.01
    kwargs = {"max_markers": max_markers, "labelled": 0}
    display = outlier_map(distances, residuals, **kwargs)
    drawn = sorted_rows(scatter_of(display))
    other = np.column_stack([distances, residuals])[:600]
    assert len(drawn) == n_regular + 600
    assert_array_equal(drawn[(drawn[:, 0] > 3) | (drawn[:, 1] > 2.5)], sorted_rows(other))
    assert [label.get_text() for label in display.region_labels_] == [
        f"99,400 regular\nrows\n({n_regular:,} drawn)",
        "200 good\nleverage points",
        "300 vertical\noutliers",
        "0 vertical\noutliers",
        "100 bad\nleverage points",
        "0 bad\nleverage points",
    ]
    again = outlier_map(distances, residuals, **kwargs)
    assert_array_equal(scatter_of(again), scatter_of(display))


def test_a_single_row_of_a_kind_is_in_the_singular():
    display = outlier_map([1, 4, 1, 4], [0, 0, 5, -5])
    assert [label.get_text() for label in display.region_labels_] == [
        "1 regular\nrow",
        "1 good\nleverage point",
        "1 vertical\noutlier",
        "0 vertical\noutliers",
        "0 bad\nleverage points",
        "1 bad\nleverage point",
    ]


def test_a_scale_of_zero_is_an_error(exact):
    with pytest.raises(ValueError, match="scale of the MMRegressor is 0"):
        OutlierMapDisplay.from_estimator(*exact)
