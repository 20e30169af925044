"""Display of the stages of a fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from .._unwrap import check_target, find_estimator_with
from ._drawing import COLOURS, GREY, MARKERS, Kwargs, axes, check_matplotlib, legend, line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

    # One Axes, or three of them from top to bottom.
    PanelAxes: TypeAlias = Axes | list[Axes] | tuple[Axes, ...] | NDArray[np.object_]

# The quantities shown and the labels of their axes, from top to bottom.
PANEL_LABELS = {"beta": "β", "objective": "Objective", "gradient_norm": "Gradient norm"}


class ConvergenceDisplay:
    """Threshold, objective and gradient norm at the end of each stage of a fit.

    Parameters
    ----------
    history : list of dict
        The stages of one target, as in the attribute `history_` of
        :class:`~skrobust.SmoothL1Regressor`. The keys "beta", "objective", "gradient_norm" and
        "message" are required.

    tol : float, default=None
        Tolerance of the fit, drawn as a horizontal line in the panel of the gradient norm.

    Attributes
    ----------
    lines_ : dict of str to matplotlib Line2D
        Lines of "beta", "objective" and "gradient_norm".

    tol_line_ : matplotlib Line2D or None
        Line at `tol`.

    legend_ : matplotlib Legend
        Legend of the gradient norm, with the message of the last stage.

    ax_ : ndarray of shape (3,) of matplotlib Axes
        Axes of the three panels, from top to bottom.

    figure_ : matplotlib Figure
        Figure that contains the axes.

    See Also
    --------
    skrobust.SmoothL1Regressor : Its attribute `history_` contains the stages.

    Notes
    -----
    The objective of each stage is evaluated at the threshold of that stage, so that it need
    not decrease from stage to stage. The gradient norm is the quantity that `tol` limits and is
    dimensionless. A norm of exactly 0, which a logarithmic axis cannot show, is drawn at the
    machine epsilon of float64.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skrobust import SmoothL1Regressor
    >>> from skrobust.displays import ConvergenceDisplay
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = SmoothL1Regressor(beta_schedule=[50, 10, 2, 1]).fit(X, y)
    >>> display = ConvergenceDisplay.from_estimator(model)
    >>> display.lines_["beta"].get_xdata()
    array([1, 2, 3, 4])
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
            A :class:`~skrobust.SmoothL1Regressor`, or a pipeline, a search or a
            :class:`~sklearn.compose.TransformedTargetRegressor` that contains one.

        target : int, default=None
            Index of the target to show; required if there are several targets.

        ax : matplotlib Axes or array of shape (3,) of them, default=None
            Axes to draw on, as described in `plot`.

        **kwargs : dict
            Additional keyword arguments, passed to `plot`.

        Returns
        -------
        display : ConvergenceDisplay
            The display, which has been drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        NotFittedError
            If the estimator is not fitted.

        ValueError
            If the estimator has no attribute `history_`, or `target` is missing or out of
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
        ax : matplotlib Axes or array of shape (3,) of them, default=None
            Three axes to draw on, or a single one that is replaced by three axes in its
            position. By default a new figure is created.

        line_kwargs : dict, default=None
            Keyword arguments for matplotlib's ``plot``, used for each line.

        Returns
        -------
        self : ConvergenceDisplay
            The display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        ValueError
            If the history is empty or lacks a key, or `ax` has the wrong shape or is not part
            of a grid of subplots.

        TypeError
            If `ax` does not consist of matplotlib Axes.
        """
        check_matplotlib("ConvergenceDisplay.plot")
        keys = [*PANEL_LABELS, "message"]
        missing = [key for key in keys if any(key not in stage for stage in self.history)]
        if missing or not self.history:
            problem = f"stages without the keys {missing}" if missing else "no stages"
            raise ValueError(
                "history must be a list of dicts, one for each stage, with the keys "
                f"{keys}, got {problem}."
            )
        self.ax_ = _panel_axes(ax)
        self.figure_ = self.ax_[0].figure
        stages = np.arange(1, len(self.history) + 1)
        self.lines_: dict[str, Line2D] = {}
        for i, (panel, key) in enumerate(zip(self.ax_, PANEL_LABELS, strict=True)):
            values = np.array([stage[key] for stage in self.history])
            if key == "gradient_norm":
                values = np.where(values > 0, values, np.finfo(float).eps)
            style = {"color": COLOURS[i], "marker": MARKERS[i]}
            self.lines_[key] = line(panel, stages, values, line_kwargs, **style)
            panel.set(ylabel=PANEL_LABELS[key], xlim=(0.5, len(stages) + 0.5))
            panel.label_outer()
        top, _, bottom = self.ax_
        top.set_yscale("log")
        bottom.set_yscale("log")
        bottom.set_xlabel("Stage")
        bottom.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        self.lines_["gradient_norm"].set_label(f"last stage:\n{self.history[-1]['message']}")
        self.tol_line_: Line2D | None = None
        if self.tol:  # a logarithmic axis cannot show tol=0
            label = f"tol = {self.tol:.2g}"
            self.tol_line_ = bottom.axhline(self.tol, color=GREY, linestyle="--", label=label)
        self.figure_.align_ylabels(self.ax_)
        self.legend_ = legend(bottom)
        return self


def _panel_axes(ax: PanelAxes | None) -> NDArray[np.object_]:
    """Return three axes, one above the other; new ones share the horizontal axis."""
    if isinstance(ax, (list, tuple, np.ndarray)):
        panels = np.array(ax, dtype=object)
        if panels.shape != (3,):
            raise ValueError(
                f"ax must be one Axes or an array of 3 Axes, got shape {panels.shape}."
            )
        return np.array([axes(panel) for panel in panels])
    single_ax = axes(ax)
    subplot_spec = single_ax.get_subplotspec()
    if subplot_spec is None:
        raise ValueError(
            "ax must be part of a grid of subplots, such as the axes that plt.subplots "
            "returns, or an array of 3 Axes."
        )
    single_ax.set_axis_off()
    grid = subplot_spec.subgridspec(3, 1)
    column: NDArray[np.object_] = grid.subplots(sharex=True, squeeze=False)[:, 0]
    return column
