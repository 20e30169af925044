"""Display of how a fit went from stage to stage."""

import numpy as np

from .._unwrap import check_target, holder
from ._drawing import COLOURS, GREY, MARKERS, axes, check_matplotlib, legend, line

_PANELS = {"beta": "β", "objective": "Objective", "gradient_norm": "Gradient norm"}


class ConvergenceDisplay:
    """Threshold, objective and gradient norm at the end of each stage of a fit.

    Parameters
    ----------
    history : list of dict
        The stages of one target, with the keys "beta", "objective", "gradient_norm" and
        "message" of the attribute `history_` of :class:`~skrobust.SmoothL1Regressor`.

    tol : float, default=None
        Bound on the gradient norm, drawn as a line.

    Attributes
    ----------
    lines_ : dict of str to matplotlib Line2D
        The line of each of "beta", "objective" and "gradient_norm".

    tol_line_ : matplotlib Line2D or None
        The line of `tol`.

    legend_ : matplotlib Legend
        The legend of the gradient norm, with the message of the last stage.

    ax_ : ndarray of shape (3,) of matplotlib Axes
        The axes, from top to bottom.

    figure_ : matplotlib Figure
        The figure of the axes.

    Notes
    -----
    The objective of each stage is that of its own β, so that it need not decrease. The
    gradient norm is in whitened coordinates, without a unit, as `tol`. A norm of exactly 0
    is drawn at the rounding error of 1.

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

    def __init__(self, *, history, tol=None):
        self.history = history
        self.tol = tol

    @classmethod
    def from_estimator(cls, estimator, *, target=None, ax=None, **kwargs):
        """Draw the stages of a fitted estimator.

        Parameters
        ----------
        estimator : fitted estimator
            A :class:`~skrobust.SmoothL1Regressor`, also inside a pipeline, a search or a
            :class:`~sklearn.compose.TransformedTargetRegressor`.

        target : int, default=None
            Which target to show, where there are several.

        ax : matplotlib Axes or array of 3 of them, default=None
            Where to draw, see `plot`.

        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : ConvergenceDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        NotFittedError
            If the estimator is not fitted.

        ValueError
            If it has no `history_`, or `target` is missing or out of range.
        """
        check_matplotlib("ConvergenceDisplay.from_estimator")
        advice = "show a SmoothL1Regressor, or an estimator around one."
        fitted = holder(estimator, "history_", advice)
        n_targets = 1 + max(stage["target"] for stage in fitted.history_)
        if target is None and n_targets > 1:
            raise ValueError(
                f"{type(fitted).__name__} was fitted to {n_targets} targets; say which one to "
                f"show with target=0 to target={n_targets - 1}."
            )
        check_target(target, n_targets)
        history = [stage for stage in fitted.history_ if stage["target"] == (target or 0)]
        return cls(history=history, tol=getattr(fitted, "tol", None)).plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, line_kwargs=None):
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes or array of 3 of them, default=None
            Three axes to draw on, or one whose place in its figure the three take; by
            default a new figure.

        line_kwargs : dict, default=None
            Passed to matplotlib's ``plot`` for each line.

        Returns
        -------
        self : ConvergenceDisplay
            The display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        ValueError
            If the history is empty or lacks a key, or `ax` is not one of what is asked for.

        TypeError
            If `ax` is not matplotlib Axes.
        """
        check_matplotlib("ConvergenceDisplay.plot")
        keys = [*_PANELS, "message"]
        missing = [key for key in keys if any(key not in stage for stage in self.history)]
        if missing or not self.history:
            found = f"misses {missing}" if missing else "is empty"
            raise ValueError(
                f"history must be a list of dicts, one for each stage, with the keys {keys}; "
                f"it {found}."
            )
        self.ax_ = _three_axes(ax)
        self.figure_ = self.ax_[0].figure
        stages, self.lines_ = np.arange(1, len(self.history) + 1), {}
        for i, (panel, (key, label)) in enumerate(zip(self.ax_, _PANELS.items(), strict=True)):
            values = np.array([stage[key] for stage in self.history])
            if key == "gradient_norm":
                values = np.where(values > 0, values, np.finfo(float).eps)
            look = {"color": COLOURS[i], "marker": MARKERS[i]}
            self.lines_[key] = line(panel, stages, values, line_kwargs, **look)
            panel.set(ylabel=label, xlim=(0.5, len(stages) + 0.5))
            panel.label_outer()
        top, _, bottom = self.ax_
        top.set_yscale("log")
        bottom.set_yscale("log")
        bottom.set_xlabel("Stage")
        bottom.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        self.lines_["gradient_norm"].set_label(f"last stage:\n{self.history[-1]['message']}")
        self.tol_line_ = None
        if self.tol:  # there is no 0 on a logarithmic axis
            label = f"tol = {self.tol:.2g}"
            self.tol_line_ = bottom.axhline(self.tol, color=GREY, linestyle="--", label=label)
        self.figure_.align_ylabels(self.ax_)
        self.legend_ = legend(bottom)
        return self


def _three_axes(ax):
    """Three axes one above the other that share the stages."""
    if isinstance(ax, (list, tuple, np.ndarray)):
        if np.shape(ax) != (3,):
            raise ValueError(f"ax must be one Axes or 3 of them, got shape {np.shape(ax)}.")
        return np.array([axes(each) for each in ax])
    ax = axes(ax)
    if ax.get_subplotspec() is None:
        raise ValueError(
            "ax must be part of a grid, as from plt.subplots, or else an array of 3 Axes."
        )
    ax.set_axis_off()
    grid = ax.get_subplotspec().subgridspec(3, 1)
    return grid.subplots(sharex=True)
