"""Properties that all displays share: axes, styles, and artists that do not overlap."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.lines import Line2D
from numpy.testing import assert_allclose

from skrobust import MMRegressor, SmoothL1Regressor
from skrobust.displays import (
    CoefficientsDisplay,
    ConvergenceDisplay,
    CVDisplay,
    FitDisplay,
    InfluenceDisplay,
    OutlierMapDisplay,
    PathDisplay,
    QQDisplay,
    ResidualsDisplay,
    ScaleLocationDisplay,
    WeightsDisplay,
)
from skrobust.displays._drawing import line_style


def draw(name, data, model, search, **kwargs):
    """Draw the display of the given name."""
    X, y = data
    far = y.copy()
    far.iloc[:12] += 1e5
    fitted = SmoothL1Regressor().fit(X, far)
    spread = X.mul(np.where(X.index % 10, 1, 1e6), axis=0)
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
        "coefficients": lambda: CoefficientsDisplay.from_estimator(model, X, y, **kwargs),
        "influence": lambda: InfluenceDisplay.from_estimator(model, X, y, **kwargs),
        "far influence": lambda: InfluenceDisplay.from_estimator(fitted, X, far, **kwargs),
        "outlier map": lambda: OutlierMapDisplay.from_estimator(
            MMRegressor().fit(X, y), X, y, **kwargs
        ),
        "far outlier map": lambda: OutlierMapDisplay.from_estimator(
            MMRegressor().fit(spread, far), spread, far, **kwargs
        ),
        "sizes": lambda: ScaleLocationDisplay.from_estimator(model, X, y, **kwargs),
        "far sizes": lambda: ScaleLocationDisplay.from_estimator(fitted, X, far, **kwargs),
        "quantiles": lambda: QQDisplay.from_estimator(model, X, y, **kwargs),
        "far quantiles": lambda: QQDisplay.from_estimator(fitted, X, far, **kwargs),
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
    "coefficients",
    "influence",
    "far influence",
    "outlier map",
    "far outlier map",
    "quantiles",
    "far quantiles",
    "sizes",
    "far sizes",
    "stages",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_nothing_overlaps(name, data, model, search):
    display = draw(name, data, model, search)
    display.figure_.canvas.draw()
    whole = display.figure_.bbox.padded(1)
    box = display.legend_.get_window_extent()
    assert whole.contains(*box.p0)
    assert whole.contains(*box.p1)
    for ax in np.atleast_1d(display.ax_):
        markers = [each for each in ax.collections if isinstance(each, PathCollection)]
        for each in markers:
            assert not box.count_contains(ax.transData.transform(each.get_offsets()))
        assert not any(box.overlaps(text.get_window_extent()) for text in ax.texts)
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


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ALL if name != "path"])
def test_a_legend_leaves_the_axes_their_width_in_a_row_of_two(name, data, model, search):
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    figure.draw_without_rendering()
    width = right.bbox.width
    display = draw(name, data, model, search, ax=right)
    figure.draw_without_rendering()
    panels = np.atleast_1d(display.ax_)
    assert panels[-1].bbox.x1 - panels[0].bbox.x0 > 0.85 * width
    assert left.bbox.width > 0.85 * width


def test_a_legend_has_a_smaller_font_before_it_leaves_the_axes(model):
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    right.plot([0, 1])
    figure.draw_without_rendering()
    width = right.bbox.width
    display = ConvergenceDisplay.from_estimator(model, ax=left)
    figure.draw_without_rendering()  # warns if the axes have no room
    box = display.legend_.get_window_extent()
    assert box.x1 <= display.ax_[0].bbox.x1
    assert display.legend_.get_texts()[0].get_fontsize() < plt.rcParams["font.size"]
    assert right.bbox.width > 0.95 * width


def test_a_legend_without_room_is_to_the_right_of_the_axes():
    rng = np.random.default_rng(0)
    coefs = rng.uniform(-1, 1, size=(12, 80))
    ax = plt.subplots(figsize=(5, 2), layout="constrained")[1]
    display = PathDisplay(betas=np.arange(1.0, 81), coefs=coefs).plot(ax, n_labelled=12)
    display.figure_.canvas.draw()
    assert display.legend_.get_window_extent().x0 > display.ax_.bbox.x1


@pytest.mark.parametrize("scale", ["linear", "symlog"])
def test_a_legend_extends_axes_that_are_full(scale):
    rng = np.random.default_rng(0)
    y, x = rng.uniform(-1, 1, 2000), rng.uniform(0, 9, 2000)
    display = ResidualsDisplay.from_predictions(
        x + y, x, beta=0.5, residual_axis=scale, labelled=0
    )
    display.figure_.canvas.draw()
    box, ax = display.legend_.get_window_extent(), display.ax_
    assert ax.bbox.contains(*box.p0)
    assert ax.bbox.contains(*box.p1)
    assert box.y0 > ax.transData.transform((0, y.max()))[1]


@pytest.mark.slow
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


@pytest.mark.parametrize("name", [name for name in ALL if name != "coefficients"])
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


@pytest.mark.parametrize(
    "name", ["residuals", "weights", "influence", "outlier map", "quantiles", "sizes"]
)
def test_styles_may_be_given_under_any_alias(name, data, model, search):
    given = {"scatter_kwargs": {"c": "green"}, "outlier_kwargs": {"lw": 3, "marker": "+"}}
    display = draw(name, data, model, search, **given)
    assert_allclose(display.scatter_.get_facecolor()[0, :3], [0, 128 / 255, 0])
    assert display.outlier_scatter_.get_linewidths()[0] == 3
