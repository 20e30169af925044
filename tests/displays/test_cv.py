"""CVDisplay: the scores of a search over the threshold."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.model_selection import GridSearchCV

from artists import Searched, legend_of
from skrobust import SmoothL1Regressor
from skrobust.displays import (
    CVDisplay,
)


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
