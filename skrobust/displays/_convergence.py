"""Display of the stages of a fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator

from .._unwrap import check_target, find_estimator_with
from ._drawing import (
    COLOURS,
    GREY,
    HATCHES,
    Kwargs,
    PanelAxes,
    check_matplotlib,
    legend,
    line,
    panel_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import BarContainer
    from matplotlib.lines import Line2D

# Keys that the dict of each stage must have.
KEYS = ["beta", "algorithms", "gradient_norm", "message"]
# The height of a new figure in inches is AXES_HEIGHT plus STAGE_HEIGHT for each stage.
STAGE_HEIGHT, AXES_HEIGHT = 0.35, 2.4
# Maximum number of stages whose thresholds are shown as tick labels.
MAX_TICKS = 20


class ConvergenceDisplay:
    """Passes over X and gradient norm in each stage of a fit.

    Each stage minimises the objective at one threshold, and a fit without a schedule has one
    stage. The bars show the number of passes over X that each algorithm made. The markers show
    the gradient norm at the end of each stage, and a vertical line marks the tolerance.
    Objective values are not drawn because they are not comparable between thresholds.

    Parameters
    ----------
    history : list of dict
        Stages of the fit to one target, as in the `history_` attribute of
        :class:`~skrobust.SmoothL1Regressor`. Each stage must have the keys "beta",
        "algorithms", "gradient_norm" and "message".

    tol : float, default=None
        Tolerance of the fit, drawn as a vertical line in the gradient-norm panel.

    Attributes
    ----------
    bars_ : dict of str to matplotlib BarContainer
        Bars with the number of passes over X that each algorithm made, one bar per stage.

    line_ : matplotlib Line2D
        Gradient norm at the end of each stage.

    tol_line_ : matplotlib Line2D or None
        Vertical line at `tol`; None if `tol` is None or 0.

    legend_ : matplotlib Legend
        Legend of the algorithms, with the total number of passes of each.

    ax_ : ndarray of shape (2,) of matplotlib Axes
        Axes of the two panels, from left to right.

    figure_ : matplotlib Figure
        Figure that contains the axes.

    See Also
    --------
    skrobust.SmoothL1Regressor : Estimator that records the stages in `history_`.

    Notes
    -----
    The gradient norm is the dimensionless quantity that the fit compares with `tol`. A norm of
    exactly 0, which a logarithmic axis cannot show, is drawn at the float64 machine epsilon.
    The title of the right panel states why the last stage ended.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skrobust import SmoothL1Regressor
    >>> from skrobust.displays import ConvergenceDisplay
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = SmoothL1Regressor(beta_schedule=[50, 10, 2, 1]).fit(X, y)
    >>> display = ConvergenceDisplay.from_estimator(model)
    >>> len(display.bars_["newton"])
    4
    """

    def __init__(
        self, *, history: Sequence[Mapping[str, Any]], tol: float | None = None
    ) -> None:
        self.history = history
        self.tol = tol

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        *,
        target: int | None = None,
        ax: PanelAxes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the stages of a fitted estimator.

        Parameters
        ----------
        estimator : fitted estimator
            A :class:`~skrobust.SmoothL1Regressor`, or a pipeline, a hyperparameter search or a
            :class:`~sklearn.compose.TransformedTargetRegressor` that contains one.

        target : int, default=None
            Index of the target to show; required if there are several targets.

        ax : matplotlib Axes or array of Axes of shape (2,), default=None
            Axes to draw on, as described in `plot`.

        **kwargs : dict
            Additional keyword arguments passed to `plot`.

        Returns
        -------
        display : ConvergenceDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        NotFittedError
            If the estimator is not fitted.

        ValueError
            If the estimator has no `history_` attribute, or `target` is missing or out of
            range.
        """
        check_matplotlib("ConvergenceDisplay.from_estimator")
        advice = "pass a SmoothL1Regressor, or a meta-estimator that wraps one."
        regressor = find_estimator_with(estimator, "history_", advice=advice)
        n_targets = 1 + max(stage["target"] for stage in regressor.history_)
        if target is None and n_targets > 1:
            raise ValueError(
                f"{type(regressor).__name__} was fitted to {n_targets} targets; select one "
                f"with target=0 to target={n_targets - 1}."
            )
        check_target(target, n_targets)
        history = [stage for stage in regressor.history_ if stage["target"] == (target or 0)]
        display = cls(history=history, tol=getattr(regressor, "tol", None))
        return display.plot(ax=ax, **kwargs)

    def plot(
        self,
        ax: PanelAxes | None = None,
        *,
        line_kwargs: Kwargs | None = None,
    ) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes of shape (2,), default=None
            Two Axes to draw on, or a single Axes to be replaced by two Axes in the same
            position. If None, a new figure is created.

        line_kwargs : dict, default=None
            Keyword arguments passed to matplotlib's ``plot`` for the line of gradient norms.

        Returns
        -------
        self : ConvergenceDisplay
            The display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        ValueError
            If the history is empty, a stage lacks a required key, or `ax` has the wrong shape
            or is not part of a grid of subplots.

        TypeError
            If `ax` is neither a matplotlib Axes nor an array of matplotlib Axes.
        """
        check_matplotlib("ConvergenceDisplay.plot")
        missing = [key for key in KEYS if any(key not in stage for stage in self.history)]
        if missing or not self.history:
            problem = f"stages without the keys {missing}" if missing else "no stages"
            raise ValueError(
                "history must be a list of dicts, one for each stage, with the keys "
                f"{KEYS}, got {problem}."
            )
        n_stages = len(self.history)
        size = (8, AXES_HEIGHT + STAGE_HEIGHT * n_stages)
        self.ax_ = panel_axes(ax, (1, 2), size)[0]
        self.figure_ = self.ax_[0].figure
        stages = np.arange(n_stages)
        shown = np.unique(np.linspace(0, n_stages - 1, MAX_TICKS).round().astype(int))
        for panel in self.ax_:
            panel.set_yticks(shown, [f"{self.history[i]['beta']:.4g}" for i in shown])
            panel.set_ylim(n_stages - 0.4, -0.6)
        left, right = self.ax_
        right.tick_params(labelleft=False)
        left.set(xlabel="Passes over X", ylabel="β of the stage" + "s" * (n_stages > 1))
        left.xaxis.get_major_locator().set_params(integer=True)
        norms = np.array([stage["gradient_norm"] for stage in self.history])
        norms = np.where(norms > 0, norms, np.finfo(float).eps)
        style = {"color": COLOURS[0], "marker": "o", "ls": "-" if n_stages > 1 else "none"}
        self.line_: Line2D = line(right, norms, stages, line_kwargs, **style)
        right.set(xscale="log", xlabel="Gradient norm")
        right.set_title(str(self.history[-1]["message"]), fontsize="medium")
        self.tol_line_: Line2D | None = None
        if self.tol:  # a logarithmic axis cannot show tol=0
            label = f"tol = {self.tol:.2g}"
            self.tol_line_ = right.axvline(self.tol, color=GREY, ls="--", label=label)
            legend(right, [self.tol_line_])
        self.bars_ = self._draw_passes(left)
        self.legend_ = legend(left, list(self.bars_.values()))
        # Set the same vertical limits in both panels, because a legend may have extended the
        # vertical axis of one panel.
        top = min(panel.get_ylim()[1] for panel in self.ax_)
        for panel in self.ax_:
            panel.set_ylim(top=top)
        return self

    def _draw_passes(self, ax: Axes) -> dict[str, BarContainer]:
        """Draw one stacked bar per stage, with a segment for the passes of each algorithm.

        Return a dict that maps the name of each algorithm to its segments.
        """
        names = dict.fromkeys(name for stage in self.history for name in stage["algorithms"])
        ends, bars = np.zeros(len(self.history)), {}
        for i, name in enumerate(names):
            passes = np.array([stage["algorithms"].get(name, 0) for stage in self.history])
            bars[name] = ax.barh(
                np.arange(len(ends)),
                passes,
                left=ends,
                height=0.6,
                color=COLOURS[i % len(COLOURS)],
                hatch=HATCHES[i % len(HATCHES)],
                edgecolor=ax.get_facecolor(),
                label=f"{name}: {passes.sum()}",
            )
            ends = ends + passes
        return bars
