"""Displays: what is drawn, where, under which names, and what is said about bad input."""

import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import pytest
from matplotlib.collections import PathCollection
from matplotlib.lines import Line2D
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import BaseEstimator, clone
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

import skrobust
from skrobust import SmoothL1Regressor, smooth_l1_path
from skrobust.displays import (
    ConvergenceDisplay,
    CVDisplay,
    FitDisplay,
    PathDisplay,
    ResidualsDisplay,
    WeightsDisplay,
)
from skrobust.displays._drawing import line_style, sample, thin

matplotlib.use("Agg")
ROWS = [ResidualsDisplay, WeightsDisplay]


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def data():
    """A frame with names, a positive target with a name, and outliers in it."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(120, 3)) * [1, 10, 1e6], columns=["age", "bmi", "dose"])
    y = 50 + X["age"] + X["bmi"] / 5 + X["dose"] / 1e6 * 3 + rng.normal(size=120)
    y.iloc[:12] += 15
    return X, y.rename("price")


@pytest.fixture(scope="module")
def model(data):
    return SmoothL1Regressor().fit(*data)


@pytest.fixture(scope="module")
def two_targets(data):
    X, y = data
    Y = np.column_stack([y, -2 * y])
    return X, Y, SmoothL1Regressor().fit(X, Y)


def scatter_of(display):
    """All markers of a display of rows, inliers and outliers."""
    parts = [display.scatter_, display.outlier_scatter_]
    return np.vstack([part.get_offsets().data for part in parts])


def legend_of(display):
    return [text.get_text() for text in display.legend_.get_texts()]


def sorted_rows(points):
    return points[np.lexsort(np.transpose(points))]


# Residuals and weights -------------------------------------------------------------------


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
        f"{(~far).sum()} inliers",
        f"{far.sum()} outliers",
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


# Many rows -------------------------------------------------------------------------------


@pytest.mark.parametrize("display", ROWS)
def test_a_million_rows_are_some_markers_and_all_are_counted(display):
    rng = np.random.default_rng(0)
    y = rng.normal(size=1_000_000)
    drawn = display.from_predictions(y, np.zeros_like(y), beta=1.345)
    n_far = (np.abs(y) > 1.345).sum()
    assert len(scatter_of(drawn)) == 2000
    assert legend_of(drawn)[-1] == f"{n_far:,} outliers\n(500 drawn)"
    assert legend_of(drawn)[-2] == f"{1_000_000 - n_far:,} inliers\n(1,500 drawn)"
    coordinate = 1 if display is ResidualsDisplay else 0
    residual = drawn.outlier_scatter_.get_offsets()[:, coordinate]
    five = np.sort(np.abs(y))[-5:]
    assert_array_equal(np.sort(np.abs(residual))[-5:], five)
    again = display.from_predictions(y, np.zeros_like(y), beta=1.345)
    assert_array_equal(scatter_of(again), scatter_of(drawn))


def test_few_outliers_are_all_drawn_and_many_in_proportion():
    for n_far, n_drawn in [(0, 0), (3, 3), (25, 25), (26, 25), (300, 30), (1000, 100)]:
        outlier = np.arange(1000) < n_far
        near, far = thin(np.arange(1000.0), outlier, 100)
        assert (len(near), len(far)) == (100 - n_drawn, n_drawn)
        assert outlier[far].all()
        assert not outlier[near].any()
        assert len(np.unique(far)) == len(far)


@pytest.mark.parametrize("max_markers", [1, 2, 7, 99, 100, 101])
def test_no_more_markers_than_asked_for(max_markers):
    near, far = thin(np.arange(100.0), np.arange(100) % 3 == 0, max_markers)
    assert len(near) + len(far) == min(100, max_markers)


def test_a_sample_is_the_same_each_time_and_leaves_numpys_state_alone():
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    assert_array_equal(sample(np.arange(1000), 10), sample(np.arange(1000), 10))
    assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


# Fits of one feature ---------------------------------------------------------------------


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
    # The mean is over 100 of the 120 rows.
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


# Paths -----------------------------------------------------------------------------------


def test_a_path_is_the_coefficients_of_fits_along_beta(data, model):
    X, y = data
    betas = [0.1, 5.0, 1.0]
    display = PathDisplay.from_estimator(model, X, y, betas=betas)
    ordered = np.sort(betas)
    coefs = np.transpose([SmoothL1Regressor(b).fit(X, y).coef_ for b in ordered])
    for j, line in enumerate(display.lines_):
        assert_array_equal(line.get_xdata(), ordered)
        assert_allclose(line.get_ydata(), coefs[j] * X.iloc[:, j].std(ddof=0), rtol=1e-6)
    assert set(legend_of(display)[:-1]) == set(X.columns)
    assert legend_of(display)[-1] == f"β = {model.beta_:.4g}"
    assert display.beta_line_.get_xdata()[0] == model.beta_
    assert display.ax_.get_xscale() == "log"
    raw = PathDisplay.from_estimator(model, X, y, betas=betas, standardize=False)
    assert_allclose(raw.lines_[2].get_ydata(), coefs[2], rtol=1e-6)
    assert raw.ax_.get_ylabel() == "Coefficient"


def test_the_estimator_of_a_path_is_not_changed(data):
    X, y = data
    fitted = SmoothL1Regressor(2.0).fit(X, y)
    before = fitted.coef_.copy(), fitted.get_params()
    PathDisplay.from_estimator(fitted, X, y, betas=3)
    assert_array_equal(fitted.coef_, before[0])
    assert fitted.get_params() == before[1]


@pytest.mark.parametrize(
    ("scale", "label"),
    [
        (None, "β"),
        ("mad", "β, in normalised MADs of the residuals"),
        ("concomitant", "β, in concomitant scales of the residuals"),
    ],
)
def test_a_number_of_betas_is_the_default_grid_of_the_path(data, scale, label):
    X, y = data
    fitted = SmoothL1Regressor(2.0, scale=scale).fit(X, y)
    display = PathDisplay.from_estimator(fitted, X, y, betas=5)
    x = display.lines_[0].get_xdata()
    assert len(x) == 5
    assert x[0] < 2.0 < x[-1]
    assert_allclose(x, smooth_l1_path(X, y, betas=5, scale=scale).grid[::-1])
    assert_allclose(display.beta_line_.get_xdata(), 2.0)
    assert display.ax_.get_xlabel() == label


def test_a_path_of_an_exact_fit_has_a_default_grid(data):
    X, y = data[0], 0 * data[1]
    display = PathDisplay.from_estimator(SmoothL1Regressor().fit(X, y), X, y, betas=3)
    for line in display.lines_:
        assert_array_equal(line.get_ydata(), np.zeros(3))


def test_weights_of_rows_enter_the_path(data, model):
    X, y = data
    weight = np.arange(len(y)) % 3
    display = PathDisplay.from_estimator(
        model, X, y, betas=[1.0], sample_weight=weight, standardize=False
    )
    expected = SmoothL1Regressor(1.0).fit(X, y, weight).coef_
    assert_allclose([line.get_ydata()[0] for line in display.lines_], expected, rtol=1e-6)


def test_a_path_behind_transformers(data):
    X, y = data
    inner = make_pipeline(StandardScaler(), SmoothL1Regressor())
    wrapped = TransformedTargetRegressor(inner, func=np.log, inverse_func=np.exp).fit(X, y)
    display = PathDisplay.from_estimator(wrapped, X, y, betas=[0.1])
    direct = SmoothL1Regressor(0.1).fit(StandardScaler().fit_transform(X), np.log(y))
    assert_allclose([line.get_ydata()[0] for line in display.lines_], direct.coef_, rtol=1e-6)
    assert set(legend_of(display)[:-1]) == set(X.columns)


def test_a_path_over_sparse_features(data):
    X, y = sparse.csr_matrix(data[0].to_numpy()), data[1]
    display = PathDisplay.from_estimator(SmoothL1Regressor().fit(X, y), X, y, betas=[1.0])
    expected = SmoothL1Regressor(1.0).fit(X, y).coef_ * data[0].std(ddof=0).to_numpy()
    assert_allclose([line.get_ydata()[0] for line in display.lines_], expected, rtol=1e-6)


def test_features_without_names_are_numbered(data):
    X, y = data
    nameless = make_pipeline(FunctionTransformer(np.asarray), SmoothL1Regressor()).fit(X, y)
    display = PathDisplay.from_estimator(nameless, X, y, betas=[1.0])
    assert set(legend_of(display)[:-1]) == {"x0", "x1", "x2"}


def test_the_legend_of_a_path_goes_down_as_its_lines_end():
    coefs = [[0, -1.0], [0, 3.0], [0, 2.0]]
    display = PathDisplay(betas=[1, 2], coefs=coefs, feature_names=list("abc")).plot()
    assert legend_of(display) == ["b", "c", "a"]
    assert display.beta_line_ is None


def test_of_many_features_the_largest_are_told_apart():
    coefs = np.outer(np.arange(1.0, 41), [1, 2])
    display = PathDisplay(betas=[1, 2], coefs=coefs).plot(n_labelled=3)
    assert legend_of(display) == ["x39", "x38", "x37", "37 others"]
    assert len(display.lines_) == 40
    assert {line.get_color() for line in display.lines_[:37]} == {"0.5"}
    assert len({line.get_color() for line in display.lines_[37:]}) == 3


# Scores of a search ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def search(data):
    pipeline = make_pipeline(StandardScaler(), SmoothL1Regressor())
    grid = {"smoothl1regressor__beta": [100, 0.1, "auto", 1.0, 10]}
    return GridSearchCV(pipeline, grid, scoring="neg_mean_absolute_error").fit(*data)


def test_scores_of_a_search_and_its_choice(search):
    display = CVDisplay.from_estimator(search)
    results = search.cv_results_
    order = [1, 3, 4, 0]
    mean, std = results["mean_test_score"], results["std_test_score"]
    (line,) = display.lines_
    assert_array_equal(line.get_xdata(), [0.1, 1, 10, 100])
    assert_array_equal(line.get_ydata(), mean[order])
    assert [line.get_ydata()[0] for line in display.auto_lines_] == [mean[2]]
    band = display.fill_between_.get_paths()[0].vertices[:, 1]
    assert_allclose(
        [band.min(), band.max()], [(mean - std)[order].min(), (mean + std)[order].max()]
    )
    assert_array_equal(display.best_.get_ydata(), mean[[search.best_index_]])
    assert display.ax_.get_ylabel() == "Negative mean absolute error"
    assert display.ax_.get_xscale() == "log"
    chosen = search.best_params_["smoothl1regressor__beta"]
    assert legend_of(display) == [
        "mean over folds",
        "± 1 std. over folds",
        "β = auto",
        f"chosen: β = {chosen:.4g}" if chosen != "auto" else "chosen: β = auto",
    ]


def test_scores_negated_are_errors(search):
    display = CVDisplay.from_estimator(search, negate_score=True, show_std=False)
    assert display.ax_.get_ylabel() == "Mean absolute error"
    assert (display.lines_[0].get_ydata() > 0).all()
    assert display.best_.get_ydata()[0] > 0
    assert display.fill_between_ is None


def test_the_choice_may_have_no_place_on_the_axis():
    display = CVDisplay(betas=["auto", 1.0], mean_scores=[2.0, 1.0]).plot()
    assert display.best_.get_label() == "chosen: β = auto"
    display.figure_.canvas.draw()
    tip = display.best_.get_transform().transform(display.best_.get_xydata())[0]
    assert display.ax_.bbox.contains(*tip)


def test_other_parameters_make_curves(data):
    grid = {"beta": [1.0, 10.0], "alpha": [0.0, 0.1, 1.0], "loss": ["huber"]}
    found = GridSearchCV(SmoothL1Regressor(), grid).fit(*data)
    display = CVDisplay.from_estimator(found)
    labels = [line.get_label() for line in display.lines_]
    assert labels == ["alpha = 0.0", "alpha = 0.1", "alpha = 1.0"]
    for line, alpha in zip(display.lines_, grid["alpha"], strict=True):
        rows = found.cv_results_["param_alpha"] == alpha
        assert_array_equal(line.get_ydata(), found.cv_results_["mean_test_score"][rows])
    best = found.best_params_
    chosen = f"chosen: β = {best['beta']:.4g}, alpha = {best['alpha']}"
    assert display.best_.get_label() == chosen
    assert display.ax_.get_ylabel() == "Score"


def test_of_many_curves_the_best_are_drawn():
    betas, groups = np.tile([1.0, 2.0], 9), np.repeat([f"alpha = {a}" for a in range(9)], 2)
    scores = np.repeat(np.arange(9.0), 2)
    display = CVDisplay(betas=betas, mean_scores=scores, groups=groups, best_index=0).plot()
    labels = [line.get_label() for line in display.lines_]
    assert labels == [f"alpha = {a}" for a in (0, 4, 5, 6, 7, 8)]


def test_one_of_several_scores(data):
    scoring = ["r2", "neg_median_absolute_error"]
    found = GridSearchCV(SmoothL1Regressor(), {"beta": [1, 10]}, scoring=scoring, refit="r2")
    display = CVDisplay.from_estimator(found.fit(*data))
    assert display.ax_.get_ylabel() == "R2"
    display = CVDisplay.from_estimator(found, metric="neg_median_absolute_error")
    assert display.ax_.get_ylabel() == "Negative median absolute error"
    assert_array_equal(
        display.mean_scores, found.cv_results_["mean_test_neg_median_absolute_error"]
    )


def test_failed_fits_are_gaps():
    display = CVDisplay(betas=[1, 2, 3], mean_scores=[1.0, np.nan, 0.5]).plot()
    assert_array_equal(display.lines_[0].get_ydata(), [1.0, np.nan, 0.5])
    assert display.best_.get_xdata()[0] == 1


@pytest.mark.parametrize(
    ("attributes", "chosen"),
    [
        ({"best_index_": 1}, 2.0),
        ({}, 4.0),
    ],
)
def test_an_estimator_that_searches_by_itself(attributes, chosen):
    results = {
        "param_beta": [1.0, 2.0, 4.0],
        "param_alpha": [0.5, 0.5, 0.5],
        "mean_test_score": np.array([-3.0, -2.0, -1.0]),
        "std_test_score": np.ones(3),
    }
    fitted = Searched(results, **attributes)
    display = CVDisplay.from_estimator(fitted, score_name="Loss")
    assert display.best_.get_xdata()[0] == chosen
    assert display.ax_.get_ylabel() == "Loss"


# Stages ----------------------------------------------------------------------------------


def test_stages_are_those_of_the_history(data):
    fitted = make_pipeline(StandardScaler(), SmoothL1Regressor(beta_schedule=[50, 5, 1]))
    fitted.fit(*data)
    display = ConvergenceDisplay.from_estimator(fitted)
    history = pd.DataFrame(fitted[-1].history_)
    assert set(display.lines_) == {"beta", "objective", "gradient_norm"}
    for panel, (key, line) in zip(display.ax_, display.lines_.items(), strict=True):
        assert line.axes is panel
        assert_array_equal(line.get_xdata(), [1, 2, 3])
        assert_array_equal(line.get_ydata(), history[key])
    labels = [panel.get_ylabel() for panel in display.ax_]
    assert labels == ["β", "Objective", "Gradient norm"]
    assert display.tol_line_.get_ydata()[0] == 1e-8
    assert legend_of(display) == ["last stage:\ngradient within tol", "tol = 1e-08"]


def test_zero_has_a_place_among_gradient_norms():
    stage = {"beta": 1.0, "objective": 2.0, "gradient_norm": 0.0, "message": "done"}
    display = ConvergenceDisplay(history=[stage]).plot()
    assert display.lines_["gradient_norm"].get_ydata()[0] == np.finfo(float).eps
    assert display.tol_line_ is None
    display.figure_.canvas.draw()
    ticks = display.ax_[2].get_xticks()
    assert [tick for tick in ticks if 0.5 <= tick <= 1.5] == [1]


def test_stages_of_one_target(two_targets):
    X, Y, _ = two_targets
    both = SmoothL1Regressor(beta_schedule=[9, 1]).fit(X, Y)
    display = ConvergenceDisplay.from_estimator(both, target=1)
    betas = [stage["beta"] for stage in both.history_ if stage["target"] == 1]
    assert_array_equal(display.lines_["beta"].get_ydata(), betas)


def test_stages_take_the_place_of_the_axes_given(model):
    figure, (left, right) = plt.subplots(1, 2)
    display = ConvergenceDisplay.from_estimator(model, ax=right)
    assert display.figure_ is figure
    figure.canvas.draw()
    for panel in display.ax_:
        assert panel.bbox.x0 >= right.bbox.x0 - 1
        assert panel.bbox.y0 >= right.bbox.y0 - 1
        assert panel.bbox.y1 <= right.bbox.y1 + 1
    assert not right.axison
    assert left.axison
    three = plt.figure().subplots(3)
    assert_array_equal(ConvergenceDisplay.from_estimator(model, ax=three).ax_, three)


# What all have in common -----------------------------------------------------------------


def draw(name, data, model, search, **kwargs):
    """One of each display, by name."""
    X, y = data
    far = y.copy()
    far.iloc[:12] += 1e5
    fitted = SmoothL1Regressor().fit(X, far)
    return {
        "residuals": lambda: ResidualsDisplay.from_estimator(model, X, y, **kwargs),
        "far residuals": lambda: ResidualsDisplay.from_estimator(fitted, X, far, **kwargs),
        "weights": lambda: WeightsDisplay.from_estimator(model, X, y, **kwargs),
        "far weights": lambda: WeightsDisplay.from_estimator(fitted, X, far, **kwargs),
        "furthest weights": lambda: WeightsDisplay.from_predictions(
            [0, 1, -3e6, 1e13], np.zeros(4), beta=1.3, **kwargs
        ),
        "fit": lambda: FitDisplay.from_estimator(fitted, X, far, feature="bmi", **kwargs),
        "path": lambda: PathDisplay.from_estimator(model, X, y, betas=5, **kwargs),
        "scores": lambda: CVDisplay.from_estimator(search, **kwargs),
        "stages": lambda: ConvergenceDisplay.from_estimator(model, **kwargs),
    }[name]()


ALL = [
    "residuals",
    "far residuals",
    "weights",
    "far weights",
    "furthest weights",
    "fit",
    "path",
    "scores",
    "stages",
]


@pytest.mark.parametrize("name", ALL)
def test_nothing_overlaps(name, data, model, search):
    display = draw(name, data, model, search)
    display.figure_.canvas.draw()
    whole = display.figure_.bbox.padded(1)
    assert whole.contains(*display.legend_.get_window_extent().p0)
    assert whole.contains(*display.legend_.get_window_extent().p1)
    for ax in np.atleast_1d(display.ax_):
        assert display.legend_.get_window_extent().x0 > ax.bbox.x1
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            shown = [
                tick.label1.get_window_extent()
                for tick in axis.get_major_ticks()
                if low <= tick.get_loc() <= high
                and tick.label1.get_text()
                and tick.label1.get_visible()
            ]
            for i, one in enumerate(shown):
                assert not any(one.overlaps(other) for other in shown[i + 1 :])
            assert len(shown) >= 1 or not axis.get_label_text()


@pytest.mark.parametrize("name", [name for name in ALL if name != "stages"])
def test_the_axes_given_are_drawn_on_and_no_figure_is_made(name, data, model, search):
    figure, (left, right) = plt.subplots(1, 2)
    display = draw(name, data, model, search, ax=right)
    assert display.ax_ is right
    assert display.figure_ is figure
    assert plt.get_fignums() == [figure.number]
    assert not left.has_data()
    again = display.plot()
    assert again is display
    assert display.figure_ is not figure


@pytest.mark.parametrize("name", ALL)
def test_marks_that_differ_in_colour_differ_in_shape(name, data, model, search):
    display = draw(name, data, model, search)
    looks = set()
    for ax in np.atleast_1d(display.ax_):
        drawn = [*ax.collections, *ax.lines]
        for artist in drawn:
            if artist.get_label().startswith("_"):
                continue
            if isinstance(artist, PathCollection):
                shape = artist.get_paths()[0].vertices.tobytes()
            elif isinstance(artist, Line2D):
                shape = str((artist.get_marker(), artist.get_linestyle()))
            else:  # a band
                continue
            assert shape not in looks
            looks.add(shape)


def test_many_lines_are_told_apart_without_their_colours():
    looks = [line_style(i) for i in range(36)]
    assert len({str((look["marker"], look["linestyle"])) for look in looks}) == 36


@pytest.mark.parametrize("name", ["residuals", "weights"])
def test_styles_may_be_given_under_any_alias(name, data, model, search):
    given = {"scatter_kwargs": {"c": "green"}, "outlier_kwargs": {"lw": 3, "marker": "+"}}
    display = draw(name, data, model, search, **given)
    assert_allclose(display.scatter_.get_facecolor()[0, :3], [0, 128 / 255, 0])
    assert display.outlier_scatter_.get_linewidths()[0] == 3


# Bad input -------------------------------------------------------------------------------

REGRESSOR = SmoothL1Regressor()
V = np.arange(5.0)
RESULTS = {"param_beta": [1.0], "mean_test_score": [1.0], "std_test_score": [0.0]}


class Searched(BaseEstimator):
    """A fitted estimator with results of a search."""

    def __init__(self, results, **attributes):
        vars(self).update(attributes, cv_results_=results)

    def fit(self):
        pass


def residuals(**changes):
    return ResidualsDisplay(**({"y_true": V, "y_pred": V, "beta": 1.0} | changes))


def fits(**changes):
    arrays = {"x": V, "y": V, "grid": V, "curves": {"a": V}}
    return FitDisplay(**(arrays | changes))


ERRORS = {
    "beta negative": (
        lambda m, X, y, Y: residuals(beta=-1.0).plot(),
        "beta must be .* got -1.0",
    ),
    "beta a word": (lambda m, X, y, Y: residuals(beta="auto").plot(), "beta must be .*'auto'"),
    "lengths": (
        lambda m, X, y, Y: residuals(y_pred=V[:3]).plot(),
        r"y_true and y_pred .* got the shapes \(5,\) and \(3,\)",
    ),
    "matrices": (
        lambda m, X, y, Y: residuals(y_true=Y, y_pred=Y).plot(),
        "non-empty vectors of the same length",
    ),
    "markers": (
        lambda m, X, y, Y: residuals().plot(max_markers=0),
        "max_markers must be a positive integer, got 0",
    ),
    "axis": (
        lambda m, X, y, Y: residuals().plot(residual_axis="log"),
        "residual_axis must be 'auto', 'linear' or 'symlog', got 'log'",
    ),
    "no threshold": (
        lambda m, X, y, Y: ResidualsDisplay.from_estimator(LinearRegression().fit(X, y), X, y),
        "LinearRegression has no attribute 'beta_'; pass beta",
    ),
    "no threshold inside": (
        lambda m, X, y, Y: WeightsDisplay.from_estimator(
            MultiOutputRegressor(REGRESSOR).fit(X, Y), X, Y, target=0
        ),
        "MultiOutputRegressor has no attribute 'beta_'; pass beta",
    ),
    "rows": (
        lambda m, X, y, Y: ResidualsDisplay.from_estimator(m, X, y[:-1]),
        "inconsistent numbers of samples",
    ),
    "nan": (
        lambda m, X, y, Y: ResidualsDisplay.from_predictions([np.nan], [1.0], beta=1),
        "Input y_true contains NaN",
    ),
    "target missing": (
        lambda m, X, y, Y: ResidualsDisplay.from_estimator(clone(m).fit(X, Y), X, Y),
        "y has 2 targets; select one with target=0 to target=1",
    ),
    "target too large": (
        lambda m, X, y, Y: ResidualsDisplay.from_estimator(clone(m).fit(X, Y), X, Y, target=2),
        r"target must be .* in the range \[0, 1\], got 2",
    ),
    "target of one": (
        lambda m, X, y, Y: ResidualsDisplay.from_estimator(m, X, y, target=1),
        r"target must be .* in the range \[0, 0\], got 1",
    ),
    "feature missing": (
        lambda m, X, y, Y: FitDisplay.from_estimator(m, X, y),
        "feature must select one of the 3 features .* or a column name of X, got None",
    ),
    "feature unknown": (
        lambda m, X, y, Y: FitDisplay.from_estimator(m, X, y, feature="weight"),
        "feature must select .* got 'weight'",
    ),
    "words": (
        lambda m, X, y, Y: FitDisplay.from_estimator(m, X.assign(k="a"), y, feature="k"),
        "Feature 'k' must consist of finite numbers: could not convert string to float: 'a'",
    ),
    "one dimension": (
        lambda m, X, y, Y: FitDisplay.from_estimator(m, V, V),
        r"X must have two dimensions, got 1; use X.reshape\(-1, 1\)",
    ),
    "grid": (
        lambda m, X, y, Y: FitDisplay.from_estimator(m, X, y, feature=0, grid_resolution=1),
        "grid_resolution must be an integer of at least 2, got 1",
    ),
    "alike": (
        lambda m, X, y, Y: FitDisplay.from_estimator([m, m], X, y, feature=0),
        r"Two estimators have the representation SmoothL1Regressor\(\); pass a dict",
    ),
    "no estimator": (
        lambda m, X, y, Y: FitDisplay.from_estimator([], X, y, feature=0),
        "estimator must contain at least one",
    ),
    "grid falls": (
        lambda m, X, y, Y: fits(grid=-V).plot(),
        "grid must be a non-decreasing vector",
    ),
    "curve": (lambda m, X, y, Y: fits(curves={"a": V[:2]}).plot(), r"curves\['a'\] must have"),
    "x and y": (lambda m, X, y, Y: fits(y=V[:2]).plot(), r"x and y must .* \(5,\) and \(2,\)"),
    "line": (
        lambda m, X, y, Y: fits().plot(line_kwargs={"b": {}}),
        r"keys of line_kwargs must be names of curves, \['a'\], got 'b'",
    ),
    "path of another": (
        lambda m, X, y, Y: PathDisplay.from_estimator(LinearRegression().fit(X, y), X, y),
        "estimator must be a SmoothL1Regressor or .* wraps one, got LinearRegression",
    ),
    "no betas": (
        lambda m, X, y, Y: PathDisplay.from_estimator(m, X, y, betas=0),
        "The 'betas' parameter of smooth_l1_path must be an int .* Got 0",
    ),
    "betas of a fit": (
        lambda m, X, y, Y: PathDisplay.from_estimator(m, X, y, betas=["auto"]),
        r"betas must be a non-empty vector of positive finite numbers, got \['auto'\]",
    ),
    "betas": (
        lambda m, X, y, Y: PathDisplay(betas=[0, 1], coefs=[[1, 2]]).plot(),
        r"betas must be a non-empty vector of positive finite numbers, got \[0, 1\]",
    ),
    "coefs": (
        lambda m, X, y, Y: PathDisplay(betas=[1, 2, 3], coefs=[[1, 2]]).plot(),
        r"coefs must have shape \(n_features, 3\), .* got \(1, 2\)",
    ),
    "names": (
        lambda m, X, y, Y: PathDisplay(betas=[1], coefs=[[1]], feature_names=["a", "b"]).plot(),
        r"feature_names must have one entry for each of the 1 rows of coefs, got shape \(2,\)",
    ),
    "labelled": (
        lambda m, X, y, Y: PathDisplay(betas=[1], coefs=[[1]]).plot(n_labelled=-1),
        "n_labelled must be an integer of at least 0, got -1",
    ),
    "no search": (
        lambda m, X, y, Y: CVDisplay.from_estimator(m),
        "SmoothL1Regressor has no attribute 'cv_results_'; pass a fitted search over beta",
    ),
    "no beta": (
        lambda m, X, y, Y: CVDisplay.from_estimator(Searched({"param_alpha": [1]})),
        r"cv_results_ must have exactly one parameter beta, .* got \['param_alpha'\]",
    ),
    "metric": (
        lambda m, X, y, Y: CVDisplay.from_estimator(Searched(RESULTS), metric="r2"),
        r"metric must be one of \['score'\], got 'r2'",
    ),
    "refit no metric": (
        lambda m, X, y, Y: CVDisplay.from_estimator(
            Searched(RESULTS | {"mean_test_r2": [1.0]}, refit=False)
        ),
        r"metric must be one of \['score', 'r2'\], got None",
    ),
    "scores": (
        lambda m, X, y, Y: CVDisplay(betas=[1, 2], mean_scores=[1]).plot(),
        r"mean_scores must have one entry for each of the 2 betas, got shape \(1,\)",
    ),
    "beta of a search": (
        lambda m, X, y, Y: CVDisplay(betas=[-1.0], mean_scores=[1]).plot(),
        "Each of betas must be a positive finite number, got -1.0",
    ),
    "all failed": (
        lambda m, X, y, Y: CVDisplay(betas=[1.0], mean_scores=[np.nan]).plot(),
        "mean_scores must contain a value that is not NaN",
    ),
    "best": (
        lambda m, X, y, Y: CVDisplay(betas=[1.0], mean_scores=[1.0], best_index=3).plot(),
        r"best_index must be in the range \[0, 0\], got 3",
    ),
    "no stages": (
        lambda m, X, y, Y: ConvergenceDisplay.from_estimator(LinearRegression().fit(X, y)),
        "LinearRegression has no attribute 'history_'; pass a SmoothL1Regressor",
    ),
    "empty history": (
        lambda m, X, y, Y: ConvergenceDisplay(history=[]).plot(),
        "history must be a list of dicts, .* got no stages",
    ),
    "key": (
        lambda m, X, y, Y: ConvergenceDisplay(history=[{"beta": 1}]).plot(),
        r"got stages without the keys \['objective', 'gradient_norm', 'message'\]",
    ),
    "stages of which": (
        lambda m, X, y, Y: ConvergenceDisplay.from_estimator(clone(m).fit(X, Y)),
        "SmoothL1Regressor was fitted to 2 targets; select one with target=0",
    ),
    "two axes": (
        lambda m, X, y, Y: ConvergenceDisplay.from_estimator(m, ax=plt.subplots(2)[1]),
        r"ax must be one Axes or an array of 3 Axes, got shape \(2,\)",
    ),
    "axes without a grid": (
        lambda m, X, y, Y: ConvergenceDisplay.from_estimator(
            m, ax=plt.figure().add_axes((0, 0, 1, 1))
        ),
        "ax must be part of a grid",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_bad_input_is_a_value_error_that_says_what_to_do(case, data, model):
    X, y = data
    call, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        call(model, X, y, np.column_stack([y, y]))


def test_axes_of_another_kind_and_sparse_fits_are_type_errors(data, model):
    with pytest.raises(TypeError, match="ax must be matplotlib Axes or None, got str"):
        residuals().plot(ax="left")
    X = sparse.csr_matrix(V[:, None])
    with pytest.raises(
        TypeError, match=r"X must be dense, got a sparse matrix; .* X.toarray\(\)"
    ):
        FitDisplay.from_estimator(SmoothL1Regressor().fit(X, V), X, V)


@pytest.mark.parametrize("wrap", [clone, make_pipeline, TransformedTargetRegressor])
def test_an_estimator_that_is_not_fitted(data, wrap):
    X, y = data
    unfitted = wrap(SmoothL1Regressor())
    calls = [
        lambda: ResidualsDisplay.from_estimator(unfitted, X, y),
        lambda: WeightsDisplay.from_estimator(unfitted, X, y),
        lambda: FitDisplay.from_estimator(unfitted, X, y, feature=0),
        lambda: FitDisplay.from_estimator({"a": unfitted}, X, y, feature=0),
        lambda: PathDisplay.from_estimator(unfitted, X, y),
        lambda: CVDisplay.from_estimator(unfitted),
        lambda: ConvergenceDisplay.from_estimator(unfitted),
    ]
    for call in calls:
        with pytest.raises(NotFittedError, match="is not fitted yet"):
            call()
    assert plt.get_fignums() == []


def test_without_matplotlib_each_method_says_what_to_install(data, model, monkeypatch):
    X, y = data
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    stages = ConvergenceDisplay(history=model.history_)
    calls = {
        "ResidualsDisplay.from_estimator": lambda m: m(model, X, y),
        "WeightsDisplay.from_predictions": lambda m: m(y, y, beta=1),
        "FitDisplay.from_estimator": lambda m: m(model, X, y, feature=0),
        "PathDisplay.from_estimator": lambda m: m(model, X, y),
        "CVDisplay.from_estimator": lambda m: m(model),
        "ConvergenceDisplay.from_estimator": lambda m: m(model),
        "ResidualsDisplay.plot": lambda m: m(residuals()),
        "FitDisplay.plot": lambda m: m(fits()),
        "PathDisplay.plot": lambda m: m(PathDisplay(betas=[1], coefs=[[1]])),
        "CVDisplay.plot": lambda m: m(CVDisplay(betas=[1], mean_scores=[1])),
        "ConvergenceDisplay.plot": lambda m: m(stages),
    }
    for name, call in calls.items():
        display, method = name.split(".")
        message = f"{name} requires matplotlib. You can install .*pip install matplotlib"
        with pytest.raises(ImportError, match=message):
            call(getattr(getattr(skrobust.displays, display), method))
