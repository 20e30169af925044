"""Displays of the residuals of a fit: against the fitted values, and the weights they get."""

from typing import Any

import numpy as np

from .._unwrap import column, holder, of_target, seen, target_name_of
from ._drawing import (
    COLOURS,
    GREY,
    axes,
    check_matplotlib,
    check_max_markers,
    check_positive,
    count,
    legend,
    marker_area,
    scatter,
    thin,
)

# What an axis of residuals adds to its label.
_NOTE = {"linear": "", "symlog": " (logarithmic beyond ±β)"}


class _RowsDisplay:
    """What the two displays of residuals share: where rows come from, their look, an axis.

    A display says which axis that is, and draws what is behind the markers in `_draw`, which
    returns their coordinates.
    """

    ax_: Any
    _residual_axis: str

    def _draw(self, residuals, beta):
        raise NotImplementedError

    def _of_target(self, what):
        return f"{what} of {self.target_name}" if self.target_name else what

    def __init__(self, *, y_true, y_pred, beta, target_name=None):
        self.y_true = y_true
        self.y_pred = y_pred
        self.beta = beta
        self.target_name = target_name

    @classmethod
    def from_estimator(
        cls, estimator, X, y, *, beta=None, target=None, target_name=None, ax=None, **kwargs
    ):
        """Draw the residuals of a fitted estimator.

        Parameters
        ----------
        estimator : fitted estimator
            A :class:`~skrobust.SmoothL1Regressor`, also inside a pipeline, a search, or a
            :class:`~sklearn.compose.TransformedTargetRegressor`. With the last, y and the
            residuals are shown as the regressor sees them, transformed, since that is where
            its threshold is. Another regressor needs `beta`.

        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Features.

        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets.

        beta : float, default=None
            The threshold; by default the `beta_` of the estimator.

        target : int, default=None
            Which target to show, where there are several.

        target_name : str, default=None
            Name of the target in the labels; by default that of y, if it has one.

        ax : matplotlib Axes, default=None
            Where to draw; by default on a new figure.

        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        NotFittedError
            If the estimator is not fitted.

        ValueError
            If the estimator has no threshold and none is given, `target` is missing or out
            of range, or the data do not match.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        inner = seen(estimator, X, y, target)
        if beta is None:
            advice = "pass beta=, the threshold in units of y."
            beta = of_target(holder(estimator, "beta_", advice).beta_, target)
        y_pred = column(inner.regressor.predict(inner.X), target, "The prediction")
        name = inner.target_name if target_name is None else target_name
        display = cls(y_true=inner.y, y_pred=y_pred, beta=beta, target_name=name)
        return display.plot(ax=ax, **kwargs)

    @classmethod
    def from_predictions(
        cls, y_true, y_pred, *, beta, target=None, target_name=None, ax=None, **kwargs
    ):
        """Draw the residuals of predictions.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets.

        y_pred : array-like of shape (n_samples,) or (n_samples, n_targets)
            Predictions.

        beta : float
            The threshold, in units of y.

        target : int, default=None
            Which target to show, where there are several.

        target_name : str, default=None
            Name of the target in the labels; by default that of `y_true`, if it has one.

        ax : matplotlib Axes, default=None
            Where to draw; by default on a new figure.

        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        ValueError
            If `beta` is not positive and finite, `target` is missing or out of range, or the
            data do not match.
        """
        check_matplotlib(f"{cls.__name__}.from_predictions")
        name = target_name_of(y_true, target) if target_name is None else target_name
        y_true = column(y_true, target, "y_true")
        y_pred = column(y_pred, target, "y_pred")
        display = cls(y_true=y_true, y_pred=y_pred, beta=beta, target_name=name)
        return display.plot(ax=ax, **kwargs)

    def plot(
        self,
        ax=None,
        *,
        residual_axis="auto",
        max_markers=2_000,
        scatter_kwargs=None,
        outlier_kwargs=None,
    ):
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; by default on a new figure.

        residual_axis : {"auto", "linear", "symlog"}, default="auto"
            Scale of the axis of residuals. "symlog" is linear within ±β and logarithmic
            beyond; "auto" takes it if a residual is over 20 β, since little could be seen of
            the others on a linear axis.

        max_markers : int, default=2000
            Most rows to draw.

        scatter_kwargs, outlier_kwargs : dict, default=None
            Passed to matplotlib's ``scatter`` for the inliers and the outliers.

        Returns
        -------
        self : display
            The display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        ValueError
            If the data do not match, or a parameter is out of its range.

        TypeError
            If `ax` is not matplotlib Axes.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        max_markers = check_max_markers(max_markers)
        residuals, beta = self._checked()
        scale = _check_scale(residual_axis, residuals, beta)
        outlier = np.abs(residuals) > beta
        near, far = thin(np.abs(residuals), outlier, max_markers)
        self.ax_ = axes(ax)
        self.figure_ = self.ax_.figure
        x, y = self._draw(residuals, beta)
        area, n_far = marker_area(len(near) + len(far)), int(outlier.sum())
        self.scatter_ = scatter(
            self.ax_,
            x[near],
            y[near],
            scatter_kwargs,
            color=COLOURS[0],
            s=area,
            alpha=0.6,
            linewidth=0.5,
            label=count(len(outlier) - n_far, "inliers", len(near)),
        )
        self.outlier_scatter_ = scatter(
            self.ax_,
            x[far],
            y[far],
            outlier_kwargs,
            color=COLOURS[1],
            marker="x",
            s=1.5 * area,
            linewidth=1,
            label=count(n_far, "outliers", len(far)),
        )
        label = self._of_target("Residuals") + _NOTE[scale]
        self.ax_.set(**{f"{self._residual_axis}label": label})
        if scale == "symlog":
            _symlog(self.ax_, self._residual_axis, beta, residuals)
        self.legend_ = legend(self.ax_)
        return self

    def _checked(self):
        """The residuals and the threshold."""
        y_true, y_pred = np.asarray(self.y_true), np.asarray(self.y_pred)
        if y_true.ndim != 1 or y_true.shape != y_pred.shape or y_true.size == 0:
            raise ValueError(
                "y_true and y_pred must be vectors of the same length, at least 1, got the "
                f"shapes {y_true.shape} and {y_pred.shape}."
            )
        return y_true - y_pred, check_positive(self.beta, "beta")


class ResidualsDisplay(_RowsDisplay):
    """Residuals against fitted values, with the band ±β and the outliers marked.

    A good fit leaves a level cloud of even width about zero, most of it within the band. A
    bend says that the model lacks a feature, a funnel that the errors grow.

    Parameters
    ----------
    y_true : ndarray of shape (n_samples,)
        Targets.

    y_pred : ndarray of shape (n_samples,)
        Fitted values.

    beta : float
        The threshold, in units of y. Rows with a larger absolute residual are outliers.

    target_name : str, default=None
        Name of the target in the labels.

    Attributes
    ----------
    scatter_ : matplotlib PathCollection
        Markers of the inliers.

    outlier_scatter_ : matplotlib PathCollection
        Markers of the outliers.

    band_ : matplotlib Rectangle
        Where the residual is at most β.

    line_ : matplotlib Line2D
        The line of no residual.

    legend_ : matplotlib Legend
        The legend, right of the axes.

    ax_ : matplotlib Axes
        The axes.

    figure_ : matplotlib Figure
        The figure of the axes.

    See Also
    --------
    WeightsDisplay : What the fit made of each residual.
    sklearn.metrics.PredictionErrorDisplay : Without a threshold.

    Notes
    -----
    Of many rows `max_markers` are drawn, at random but the same ones each time, and the
    legend counts all. A quarter of the markers goes to outliers, so that few outliers are all
    drawn; more only where more of the rows are outliers, so that they do not look like even
    more. Where not all of them can be drawn the furthest are (one for each hundred markers),
    and a sample of the others. They are markers and not hexagons, since one far outlier would
    leave all other rows in one hexagon.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skrobust import SmoothL1Regressor
    >>> from skrobust.displays import ResidualsDisplay
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> model = SmoothL1Regressor().fit(X, y)
    >>> display = ResidualsDisplay.from_estimator(model, X, y)
    >>> [text.get_text() for text in display.legend_.get_texts()]
    ['|residual| ≤ β = 75.26', '371 inliers', '71 outliers']
    >>> display.figure_.savefig("residuals.png")  # doctest: +SKIP
    """

    _residual_axis = "y"

    def _draw(self, residuals, beta):
        self.band_ = self.ax_.axhspan(-beta, beta, color=COLOURS[5], alpha=0.25, lw=0)
        self.band_.set_label(f"|residual| ≤ β = {beta:.4g}")
        self.line_ = self.ax_.axhline(0, color=GREY, lw=1)
        self.ax_.set_xlabel(self._of_target("Fitted values"))
        return np.asarray(self.y_pred), residuals


class WeightsDisplay(_RowsDisplay):
    r"""The weight :math:`\min(1, \beta/|r|)` that each row ended with, against its residual r.

    A fit with the Smooth L1 or Huber loss is a weighted least-squares fit with these weights:
    rows within the threshold count in full, the others the less the further off they are.

    Parameters
    ----------
    y_true : ndarray of shape (n_samples,)
        Targets.

    y_pred : ndarray of shape (n_samples,)
        Fitted values.

    beta : float
        The threshold, in units of y.

    target_name : str, default=None
        Name of the target in the labels.

    Attributes
    ----------
    scatter_ : matplotlib PathCollection
        Markers of the inliers, whose weight is 1.

    outlier_scatter_ : matplotlib PathCollection
        Markers of the outliers, whose weight is below 1.

    line_ : matplotlib Line2D
        The weight as a function of the residual.

    threshold_lines_ : list of matplotlib Line2D
        Vertical lines at −β and β.

    legend_ : matplotlib Legend
        The legend, right of the axes.

    ax_ : matplotlib Axes
        The axes.

    figure_ : matplotlib Figure
        The figure of the axes.

    See Also
    --------
    ResidualsDisplay : The residuals against the fitted values.

    Notes
    -----
    The weights are those of the loss [1]_; `sample_weight` comes on top. Of many rows
    `max_markers` are drawn, chosen as by :class:`ResidualsDisplay`.

    References
    ----------
    .. [1] P. W. Holland and R. E. Welsch, "Robust regression using iteratively reweighted
           least-squares", Communications in Statistics A6, 1977.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skrobust import SmoothL1Regressor
    >>> from skrobust.displays import WeightsDisplay
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> model = SmoothL1Regressor().fit(X, y)
    >>> display = WeightsDisplay.from_estimator(model, X, y)
    >>> round(float(display.outlier_scatter_.get_offsets()[:, 1].min()), 2)
    0.47
    """

    _residual_axis = "x"

    def _draw(self, residuals, beta):
        # Dense where it bends, also where residuals are a thousand times β.
        left = -np.geomspace(beta, max(2 * beta, -residuals.min()), 200)[::-1]
        right = np.geomspace(beta, max(2 * beta, residuals.max()), 200)
        curve = np.concatenate([left, right])
        look = {"color": GREY, "lw": 1, "label": "min(1, β/|r|)"}
        self.line_ = self.ax_.plot(curve, _weight(curve, beta), **look)[0]
        self.threshold_lines_ = [
            self.ax_.axvline(side, color=GREY, ls=":", lw=1) for side in (-beta, beta)
        ]
        self.threshold_lines_[1].set_label(f"±β = ±{beta:.4g}")
        self.ax_.set(ylabel="Weight", ylim=(0, 1.05))
        return residuals, _weight(residuals, beta)


def _weight(residuals, beta):
    return beta / np.maximum(np.abs(residuals), beta)


def _check_scale(residual_axis, residuals, beta):
    """The scale of the axis of residuals: "linear" or "symlog"."""
    if residual_axis not in _NOTE and residual_axis != "auto":
        raise ValueError(
            f"residual_axis must be 'auto', 'linear' or 'symlog', got {residual_axis!r}."
        )
    if residual_axis != "auto":
        return residual_axis
    return "symlog" if np.abs(residuals).max() > 20 * beta else "linear"


def _symlog(ax, axis, beta, residuals):
    """An axis that is linear to ±β, with ticks there and at powers of 10 well beyond."""
    largest = max(np.abs(residuals).max(), beta)
    first, last = int(np.ceil(np.log10(4 * beta))), int(np.floor(np.log10(largest)))
    # No more than five on a side, the first as far from β as from the next.
    step = max(1, -(-(last - first + 1) // 5))
    powers = range(first + step - 1, last + 1, step)
    ticks = {-beta: "−β", 0.0: "0", beta: "β"}
    for power in powers:
        ticks |= {-(10.0**power): f"$-10^{{{power}}}$", 10.0**power: f"$10^{{{power}}}$"}
    getattr(ax, f"set_{axis}scale")("symlog", linthresh=beta)
    getattr(ax, f"set_{axis}ticks")(list(ticks), list(ticks.values()))
    getattr(ax, f"set_{axis}ticks")([], minor=True)
    getattr(ax, f"set_{axis}lim")(
        2 * min(residuals.min(), -beta), 2 * max(residuals.max(), beta)
    )
