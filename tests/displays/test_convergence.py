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
