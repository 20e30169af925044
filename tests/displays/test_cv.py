"""CVDisplay: the scores of a search over the threshold."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import sem
from sklearn.datasets import load_diabetes
from sklearn.metrics import make_scorer, mean_absolute_error, r2_score
from sklearn.model_selection import GridSearchCV

from artists import Searched, legend_of
from skrobust import SmoothL1Regressor, SmoothL1RegressorCV
from skrobust.displays import CVDisplay


def test_scores_of_a_search_and_its_choice(search):
    display = CVDisplay.from_estimator(search)
    results = search.cv_results_
    order = [1, 3, 4, 0]
    mean = results["mean_test_score"]
    scores = np.array([results[f"split{k}_test_score"] for k in range(5)])
    error = sem(scores[:, [search.best_index_]] - scores)
    (line,) = display.lines_
    assert_array_equal(line.get_xdata(), [0.1, 1, 10, 100])
    assert_array_equal(line.get_ydata(), mean[order])
    assert [line.get_ydata()[0] for line in display.auto_lines_] == [mean[2]]
    band = display.fill_between_.get_paths()[0].vertices[:, 1]
    assert_allclose(
        [band.min(), band.max()], [(mean - error)[order].min(), (mean + error)[order].max()]
    )
    assert_array_equal(display.best_score_line_.get_ydata(), mean.max())
    assert_array_equal(display.best_.get_ydata(), mean[[search.best_index_]])
    assert display.ax_.get_ylabel() == "Negative mean absolute error"
    assert display.ax_.get_xscale() == "log"
    chosen = search.best_params_["smoothl1regressor__beta"]
    assert legend_of(display) == [
        "mean over folds",
        "± 1 std. error of the\ndifference from the best",
        "β = auto",
        "best mean score",
        f"chosen: β = {chosen:.4g}" if chosen != "auto" else "chosen: β = auto",
    ]


def test_scores_negated_are_errors(search):
    display = CVDisplay.from_estimator(search, negate_score=True, show_band=False)
    assert display.ax_.get_ylabel() == "Mean absolute error"
    assert (display.lines_[0].get_ydata() > 0).all()
    assert display.best_.get_ydata()[0] > 0
    assert display.fill_between_ is None
    assert display.best_score_line_ is None
    with_band = CVDisplay.from_estimator(search, negate_score=True)
    assert (
        with_band.best_score_line_.get_ydata()[0]
        == -search.cv_results_["mean_test_score"].max()
    )


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
    assert labels == ["alpha = 0", "alpha = 0.1", "alpha = 1"]
    for line, alpha in zip(display.lines_, grid["alpha"], strict=True):
        rows = found.cv_results_["param_alpha"] == alpha
        assert_array_equal(line.get_ydata(), found.cv_results_["mean_test_score"][rows])
    best = found.best_params_
    chosen = f"chosen: β = {best['beta']:.4g}, alpha = {best['alpha']:.4g}"
    assert display.best_.get_label() == chosen
    assert display.ax_.get_ylabel() == "R2"


def test_the_best_of_many_curves_are_drawn():
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
    }
    fitted = Searched(results, **attributes)
    display = CVDisplay.from_estimator(fitted, score_name="Loss")
    assert display.best_.get_xdata()[0] == chosen
    assert display.ax_.get_ylabel() == "Loss"
    assert display.fill_between_ is None
    assert CVDisplay.from_estimator(fitted).ax_.get_ylabel() == "Score"


def with_outliers(n_outliers):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2))
    y = X @ [1.0, 2.0] + rng.normal(size=200)
    y[:: 200 // n_outliers] += 30
    return X, y


@pytest.mark.parametrize("scale", [None, "mad", "concomitant"])
@pytest.mark.parametrize("refit", ["best", "one_standard_error"])
def test_auto_and_the_choice_by_one_standard_error_are_marked(refit, scale):
    X, y = with_outliers(40)
    rows = np.random.default_rng(1).permutation(200)
    model = SmoothL1RegressorCV(8, scale=scale, refit=refit).fit(X[rows], y[rows])
    rule = SmoothL1RegressorCV(8, scale=scale, refit="one_standard_error").fit(X[rows], y[rows])
    display = CVDisplay.from_estimator(model)
    betas, scores = (model.cv_results_[name] for name in ("param_beta", "mean_test_score"))
    assert_array_equal(display.auto_beta_line_.get_xdata(), betas[4])
    assert display.auto_beta_line_.get_label() == f'"auto": β = {betas[4]:.4g}'
    ring = display.one_standard_error_
    assert_array_equal(ring.get_xydata(), [[rule.best_params_["beta"], rule.best_score_]])
    assert ring.get_label() == f"one std. error: β = {rule.best_params_['beta']:.4g}"
    chosen = [[model.best_params_["beta"], scores[model.best_index_]]]
    assert_array_equal(display.best_.get_xydata(), chosen)
    assert_array_equal(display.standard_errors, model.cv_results_["se_test_difference"])


def test_the_rule_is_only_marked_where_the_threshold_of_auto_is_known():
    X, y = with_outliers(20)
    clean = X @ [1.0, 2.0] + np.random.default_rng(3).normal(size=200)
    close = CVDisplay.from_estimator(SmoothL1RegressorCV([1.0, "auto", 500.0]).fit(X, clean))
    assert close.one_standard_error_.get_label() == "one std. error: β = auto"
    for betas in ([1.0, 2.0], [0.5, 1.0]):
        display = CVDisplay.from_estimator(SmoothL1RegressorCV(betas).fit(X, y))
        assert display.one_standard_error_ is None
        assert display.auto_beta_line_ is None
    model = SmoothL1RegressorCV([0.5, 1.0], scale="mad").fit(X, y)
    assert CVDisplay.from_estimator(model).auto_beta_line_.get_xdata()[0] == 1.345
    model = SmoothL1RegressorCV([0.5, 1.0], refit="one_standard_error").fit(X, y)
    assert CVDisplay.from_estimator(model).one_standard_error_ is not None


def test_a_single_fold_has_no_standard_errors():
    X, y = with_outliers(20)
    cv = [(np.arange(100), np.arange(100, 200))]
    display = CVDisplay.from_estimator(SmoothL1RegressorCV(5, cv=cv).fit(X, y))
    assert display.standard_errors is None
    assert display.fill_between_ is None
    assert display.one_standard_error_ is None
    assert display.auto_beta_line_ is not None


def named_error(model, X, y):
    return -np.abs(y - model.predict(X)).max()


@pytest.mark.parametrize(
    ("scoring", "name", "negated"),
    [
        (None, "Negative mean absolute error", "Mean absolute error"),
        (
            "neg_median_absolute_error",
            "Negative median absolute error",
            "Median absolute error",
        ),
        (
            make_scorer(mean_absolute_error, greater_is_better=False),
            "Negative mean absolute error",
            "Mean absolute error",
        ),
        (make_scorer(r2_score), "R2 score", "Negative r2 score"),
        (named_error, "Named error", "Negative named error"),
        (lambda model, X, y: named_error(model, X, y), "Score", "Negative score"),
    ],
)
def test_the_axis_has_the_name_of_the_scorer(scoring, name, negated):
    model = SmoothL1RegressorCV([1.0, 2.0], cv=2, scoring=scoring).fit(*with_outliers(20))
    assert CVDisplay.from_estimator(model).ax_.get_ylabel() == name
    errors = CVDisplay.from_estimator(model, negate_score=True)
    assert errors.ax_.get_ylabel() == negated


def test_thresholds_without_a_number_are_drawn_as_horizontal_lines():
    groups = ["alpha = 0", "alpha = 1"]
    scores = [-2.0, -1.0]
    display = CVDisplay(betas=["auto", "auto"], mean_scores=scores, groups=groups).plot()
    assert [line.get_ydata()[0] for line in display.auto_lines_] == scores
    assert display.best_.get_ydata() == [-1.0]
    assert len(display.ax_.get_xticks()) == 0


def test_scores_are_drawn_against_penalties_if_each_threshold_has_its_own():
    X, y = load_diabetes(return_X_y=True)
    options = {"loss": "huber", "l1_ratio": 1.0, "cv": 2}
    search = SmoothL1RegressorCV(betas=[50.0, 100.0], alphas=4, **options).fit(X, y)
    display = CVDisplay.from_estimator(search)
    results = search.cv_results_
    assert display.ax_.get_xlabel() == "α"
    assert [curve.get_label() for curve in display.lines_] == ["β = 50", "β = 100"]
    for curve, beta in zip(display.lines_, [50.0, 100.0], strict=True):
        rows = np.flatnonzero(results["param_beta"] == beta)[::-1]
        assert_allclose(curve.get_xdata(), np.array(results["param_alpha"][rows], dtype=float))
        assert_allclose(curve.get_ydata(), results["mean_test_score"][rows])
    best = search.best_params_
    assert display.best_.get_label() == (
        f"chosen: α = {best['alpha']:.4g}, β = {best['beta']:.4g}"
    )
    assert display.auto_beta_line_ is None


@pytest.mark.parametrize("alphas", [[0.01, 0.1], [0.0, 0.1]])
def test_scores_of_one_threshold_are_drawn_against_positive_penalties(alphas):
    X, y = load_diabetes(return_X_y=True)
    search = SmoothL1RegressorCV(betas=["auto"], alphas=alphas, loss="huber", cv=2).fit(X, y)
    display = CVDisplay.from_estimator(search)
    if min(alphas) > 0:
        assert display.ax_.get_xlabel() == "α"
        assert [curve.get_label() for curve in display.lines_] == ["mean over folds"]
        assert not display.auto_lines_
    else:
        assert display.ax_.get_xlabel() == "β"
        assert len(display.auto_lines_) == 2


@pytest.mark.parametrize(
    ("grid", "labels"),
    [
        # A parameter that is missing from some of the grids.
        (
            [{"beta": [1, 2]}, {"beta": [3], "alpha": [0.1, 1.0]}],
            ["alpha = --", "alpha = 0.1", "alpha = 1"],
        ),
        ([{"beta": [1, 2]}, {"alpha": [0.1]}], ["alpha = --", "alpha = 0.1"]),
        # Values that differ in the fifth digit.
        (
            {"beta": [1, 2], "max_iter": [10_000, 10_001]},
            ["max_iter = 10000", "max_iter = 10001"],
        ),
        (
            {"beta": [1, 2], "alpha": [1.00001, 1.00002]},
            ["alpha = 1.00001", "alpha = 1.00002"],
        ),
    ],
)
def test_each_value_of_another_parameter_has_a_curve(grid, labels):
    X, y = load_diabetes(return_X_y=True)
    search = GridSearchCV(SmoothL1Regressor(loss="huber"), grid, cv=2).fit(X[:60], y[:60])
    display = CVDisplay.from_estimator(search)
    assert display.ax_.get_xlabel() == "β"
    assert [curve.get_label() for curve in display.lines_] == labels
