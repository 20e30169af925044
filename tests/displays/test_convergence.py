"""ConvergenceDisplay: the stages of a fit."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from numpy.testing import assert_array_equal
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from artists import legend_of
from skrobust import SmoothL1Regressor
from skrobust.displays import (
    ConvergenceDisplay,
)

STAGE = {"beta": 1.0, "gradient_norm": 0.0, "message": "done", "algorithms": {"newton": 3}}


def betas_of(display):
    return [label.get_text() for label in display.ax_[0].get_yticklabels()]


def test_stages_are_those_of_the_history(data):
    fitted = make_pipeline(StandardScaler(), SmoothL1Regressor(beta_schedule=[50, 5, 1]))
    fitted.fit(*data)
    display = ConvergenceDisplay.from_estimator(fitted)
    history = pd.DataFrame(fitted[-1].history_)
    assert_array_equal(display.line_.get_xdata(), history["gradient_norm"])
    assert_array_equal(display.line_.get_ydata(), [0, 1, 2])
    lengths = np.zeros(3)
    for name, bars in display.bars_.items():
        passes = [algorithms.get(name, 0) for algorithms in history["algorithms"]]
        assert_array_equal([bar.get_width() for bar in bars], passes)
        assert_array_equal([bar.get_x() for bar in bars], lengths)
        assert f"{name}: {sum(passes)}" in legend_of(display)
        lengths += passes
    assert_array_equal(lengths, history["n_eval"])
    assert betas_of(display) == [f"{beta:.4g}" for beta in history["beta"]]
    assert display.tol_line_.get_xdata()[0] == 1e-8
    assert display.ax_[1].get_title() == "gradient within tol"


def test_a_single_stage_shows_its_passes_and_its_threshold(model):
    display = ConvergenceDisplay.from_estimator(model)
    (stage,) = model.history_
    ends = [bars[0].get_x() + bars[0].get_width() for bars in display.bars_.values()]
    assert ends[-1] == stage["n_eval"]
    assert betas_of(display) == [f"{model.beta_:.4g}"]


def test_zero_has_a_place_among_gradient_norms():
    display = ConvergenceDisplay(history=[STAGE]).plot()
    assert display.line_.get_xdata()[0] == np.finfo(float).eps
    assert display.tol_line_ is None


def test_stages_are_at_the_same_height_in_both_panels():
    history = [STAGE | {"beta": float(beta)} for beta in range(40, 0, -1)]
    display = ConvergenceDisplay(history=history, tol=1e-8).plot()
    left, right = display.ax_
    assert left.get_ylim() == right.get_ylim()
    assert len(betas_of(display)) == 20
    assert betas_of(display)[0] == "40"
    assert betas_of(display)[-1] == "1"


def test_stages_of_one_target(two_targets):
    X, Y, _ = two_targets
    both = SmoothL1Regressor(beta_schedule=[9, 1]).fit(X, Y)
    display = ConvergenceDisplay.from_estimator(both, target=1)
    betas = [stage["beta"] for stage in both.history_ if stage["target"] == 1]
    assert betas_of(display) == [f"{beta:.4g}" for beta in betas]


def test_stages_take_the_place_of_the_axes_given(model):
    figure, (left, right) = plt.subplots(1, 2)
    display = ConvergenceDisplay.from_estimator(model, ax=right)
    assert display.figure_ is figure
    figure.canvas.draw()
    for panel in display.ax_:
        assert panel.bbox.x0 >= right.bbox.x0 - 1
        assert panel.bbox.x1 <= right.bbox.x1 + 1
        assert panel.bbox.y0 >= right.bbox.y0 - 1
    assert not right.axison
    assert left.axison
    two = plt.figure().subplots(1, 2)
    assert_array_equal(ConvergenceDisplay.from_estimator(model, ax=two).ax_, two)
