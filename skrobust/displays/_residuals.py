"""Displays of the residuals of a fit and of the robustness weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from .._lazy_data import require_in_memory
from .._mm import OUTLIER_END, MMRegressor
from .._model.loss import BISQUARE, HUBER, Loss
from .._model.normal_constants import constant_of_efficiency
from .._unwrap import (
    MatrixLike,
    column,
    find_estimator_with,
    target_name_of,
    unwrap,
    value_of_target,
)
from ._drawing import (
    COLOURS,
    GREY,
    Kwargs,
    axes,
    check_matplotlib,
    check_max_markers,
    check_positive,
    count_label,
    legend,
    marker_area,
    scatter,
    thin,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

# Suffix of the label of the residual axis, for each scale of the axis.
LABEL_SUFFIXES = {"linear": "", "symlog": " (logarithmic beyond ±β)"}
# With residual_axis="auto" the axis is symlog if the largest residual exceeds this many β.
MAX_BETAS_ON_LINEAR_AXIS = 20
# Maximum number of ticks at powers of 10 on either side of a symlog axis.
MAX_POWER_TICKS = 5
# Distance of the first of these ticks from that of the threshold in decades.
MIN_TICK_GAP, TICK_GAP_PER_DECADE, MAX_TICK_GAP = 0.1, 0.15, 0.6
# The linear part of a symlog axis is as long as one decade for this many decades beyond it.
MAX_DECADES_PER_LINEAR_DECADE = 4
# Number of points of the weight curve on either side of the threshold.
N_WEIGHT_CURVE_POINTS = 200
# First point of the curve of bisquare weights, relative to the point where they become zero.
FIRST_BISQUARE_POINT = 0.01


class RowsDisplay:
    """Base class of displays with one marker for each residual.

    A subclass sets `_residual_axis`, the axis that shows the residuals, and implements
    `_draw_background`, which draws everything but the markers and returns their coordinates.
    """

    ax_: Axes
    _residual_axis: Literal["x", "y"]

    def __init__(
        self,
        *,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        beta: float,
        target_name: str | None = None,
    ) -> None:
        self.y_true = y_true
        self.y_pred = y_pred
        self.beta = beta
        self.target_name = target_name

    def _draw_background(
        self, residuals: NDArray[np.floating], beta: float
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        raise NotImplementedError

    @staticmethod
    def _parameters_of(regressor: BaseEstimator) -> dict[str, Any]:
        """Return further parameters of the display that depend on the kind of regressor."""
        return {}

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: MatrixLike,
        y: ArrayLike,
        *,
        beta: float | None = None,
        target: int | None = None,
        target_name: str | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the residuals of a fitted estimator.

        Parameters
        ----------
        estimator : fitted estimator
            A :class:`~skrobust.SmoothL1Regressor`, a :class:`~skrobust.MMRegressor`, or a
            pipeline, a search or a :class:`~sklearn.compose.TransformedTargetRegressor` that
            contains one. The targets and residuals inside a TransformedTargetRegressor are
            shown in transformed units, which are those of the threshold. Other regressors are
            accepted if `beta` is given.

        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Features.

        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets.

        beta : float, default=None
            Threshold in units of y; by default the attribute `beta_` of the estimator, and
            2.5758 `scale_` for a :class:`~skrobust.MMRegressor`.

        target : int, default=None
            Index of the target to show; required if there are several targets.

        target_name : str, default=None
            Name of the target in the labels; by default the name of y, if it has one.

        ax : matplotlib Axes, default=None
            Axes to draw on; by default those of a new figure.

        **kwargs : dict
            Additional keyword arguments, passed to `plot`.

        Returns
        -------
        display
            The display, which has been drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        NotFittedError
            If the estimator is not fitted.

        ValueError
            If there is no threshold, `target` is missing or out of range, or the shapes of the
            data do not match.
        """
        caller = f"{cls.__name__}.from_estimator"
        check_matplotlib(caller)
        require_in_memory(caller, "display", X=X, y=y)
        data = unwrap(estimator, X, y, target)
        if beta is None and isinstance(data.regressor, MMRegressor):
            beta = OUTLIER_END * scale_of(data.regressor)
        elif beta is None:
            advice = "pass beta, the threshold in units of y."
            fitted = find_estimator_with(estimator, "beta_", advice=advice)
            beta = value_of_target(fitted.beta_, target)
        y_pred = column(data.regressor.predict(data.X), target, "predict(X)")
        display = cls(
            y_true=data.y,
            y_pred=y_pred,
            beta=beta,
            target_name=data.target_name if target_name is None else target_name,
            **cls._parameters_of(data.regressor),
        )
        return display.plot(ax=ax, **kwargs)

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        *,
        beta: float,
        target: int | None = None,
        target_name: str | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the residuals of predictions.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets.

        y_pred : array-like of shape (n_samples,) or (n_samples, n_targets)
            Predictions.

        beta : float
            Threshold in units of y.

        target : int, default=None
            Index of the target to show; required if there are several targets.

        target_name : str, default=None
            Name of the target in the labels; by default the name of `y_true`, if it has one.

        ax : matplotlib Axes, default=None
            Axes to draw on; by default those of a new figure.

        **kwargs : dict
            Additional keyword arguments, passed to `plot`.

        Returns
        -------
        display
            The display, which has been drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        ValueError
            If `beta` is not positive and finite, `target` is missing or out of range, or the
            shapes of the data do not match.
        """
        caller = f"{cls.__name__}.from_predictions"
        check_matplotlib(caller)
        require_in_memory(caller, "display", y_true=y_true, y_pred=y_pred)
        if target_name is None:
            target_name = target_name_of(y_true, target)
        display = cls(
            y_true=column(y_true, target, "y_true"),
            y_pred=column(y_pred, target, "y_pred"),
            beta=beta,
            target_name=target_name,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        residual_axis: Literal["auto", "linear", "symlog"] = "auto",
        max_markers: int = 2_000,
        scatter_kwargs: Kwargs | None = None,
        outlier_kwargs: Kwargs | None = None,
    ) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; by default those of a new figure.

        residual_axis : {"auto", "linear", "symlog"}, default="auto"
            Scale of the residual axis. "symlog" is linear within ±β and logarithmic beyond.
            "auto" selects it if the largest absolute residual exceeds 20 β, because a linear
            axis would then compress the other residuals.

        max_markers : int, default=2000
            Maximum number of rows to draw.

        scatter_kwargs, outlier_kwargs : dict, default=None
            Keyword arguments for matplotlib's ``scatter``, used for the rows within the
            threshold and for those beyond it.

        Returns
        -------
        self : display
            The display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        ValueError
            If the shapes of the data do not match, or a parameter is out of range.

        TypeError
            If `ax` is not matplotlib Axes.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        max_markers = check_max_markers(max_markers)
        residuals, beta = self._residuals_and_threshold()
        abs_residuals = np.abs(residuals)
        scale = axis_scale(residual_axis, abs_residuals, beta)
        is_beyond = abs_residuals > beta
        within, beyond = thin(abs_residuals, is_beyond, max_markers)
        self.ax_ = axes(ax)
        self.figure_ = self.ax_.figure
        x, y = self._draw_background(residuals, beta)
        area, n_beyond = marker_area(len(within) + len(beyond)), int(is_beyond.sum())
        self.scatter_ = scatter(
            self.ax_,
            x[within],
            y[within],
            scatter_kwargs,
            color=COLOURS[0],
            s=area,
            alpha=0.6,
            linewidth=0.5,
            label=count_label(len(residuals) - n_beyond, "within β", len(within)),
        )
        self.outlier_scatter_ = scatter(
            self.ax_,
            x[beyond],
            y[beyond],
            outlier_kwargs,
            color=COLOURS[1],
            marker="x",
            s=1.5 * area,
            linewidth=1,
            label=count_label(n_beyond, "beyond β", len(beyond)),
        )
        label = self._label("Residuals") + LABEL_SUFFIXES[scale]
        self.ax_.set(**{f"{self._residual_axis}label": label})
        if scale == "symlog":
            set_symlog_scale(self.ax_, self._residual_axis, beta, residuals)
        self.legend_ = legend(self.ax_)
        return self

    def _label(self, quantity: str) -> str:
        """Return an axis label that contains the name of the target, if there is one."""
        return f"{quantity} of {self.target_name}" if self.target_name else quantity

    def _residuals_and_threshold(self) -> tuple[NDArray[np.floating], float]:
        """Validate the parameters of the display and return residuals and threshold."""
        y_true, y_pred = np.asarray(self.y_true), np.asarray(self.y_pred)
        if y_true.ndim != 1 or y_true.shape != y_pred.shape or y_true.size == 0:
            raise ValueError(
                "y_true and y_pred must be non-empty vectors of the same length, got the "
                f"shapes {y_true.shape} and {y_pred.shape}."
            )
        return y_true - y_pred, check_positive(self.beta, "beta")


class ResidualsDisplay(RowsDisplay):
    """Residuals against fitted values, with the band ±β and the rows beyond it marked.

    For a well-specified model the residuals scatter around zero with the same spread for all
    fitted values, and most of them are within the band. Curvature suggests that the model lacks
    a term, and a funnel shape suggests heteroscedastic errors. Rows beyond the band are
    down-weighted in the fit and not necessarily wrong: with normal errors and the default
    threshold 18 % of the rows of clean data are beyond the band.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Targets.

    y_pred : array-like of shape (n_samples,)
        Fitted values.

    beta : float
        Threshold in units of y. Rows whose absolute residual exceeds it are marked.

    target_name : str, default=None
        Name of the target in the labels.

    Attributes
    ----------
    scatter_ : matplotlib PathCollection
        Markers of the rows within the threshold.

    outlier_scatter_ : matplotlib PathCollection
        Markers of the rows beyond the threshold.

    band_ : matplotlib Rectangle
        Band of absolute residuals up to β.

    line_ : matplotlib Line2D
        Line at residual zero.

    legend_ : matplotlib Legend
        Legend to the right of the axes.

    ax_ : matplotlib Axes
        Axes of the display.

    figure_ : matplotlib Figure
        Figure that contains the axes.

    See Also
    --------
    WeightsDisplay : Robustness weights against residuals.
    sklearn.metrics.PredictionErrorDisplay : Residuals or targets against predictions, without a
        threshold.

    Notes
    -----
    At most `max_markers` rows are drawn, a random sample with a fixed seed; the legend counts
    all rows. A quarter of the markers is reserved for rows beyond the threshold, so that a
    small number of these is drawn completely. If more than a quarter of the rows are beyond the
    threshold, the rows within and beyond it are drawn in proportion. If not all rows beyond it
    can be drawn, one in a hundred of their markers shows the rows with the largest absolute
    residuals, and the others are a random sample. The display uses markers instead of hexagonal
    bins, because a single distant row would put all other rows into one bin.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skrobust import SmoothL1Regressor
    >>> from skrobust.displays import ResidualsDisplay
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> model = SmoothL1Regressor().fit(X, y)
    >>> display = ResidualsDisplay.from_estimator(model, X, y)
    >>> [text.get_text() for text in display.legend_.get_texts()]
    ['|residual| ≤ β = 75.26', '371 within β', '71 beyond β']
    >>> display.figure_.savefig("residuals.png")  # doctest: +SKIP
    """

    _residual_axis = "y"

    def _draw_background(
        self, residuals: NDArray[np.floating], beta: float
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        self.band_: Rectangle = self.ax_.axhspan(
            -beta, beta, color=COLOURS[5], alpha=0.25, lw=0
        )
        self.band_.set_label(f"|residual| ≤ β = {beta:.4g}")
        self.line_: Line2D = self.ax_.axhline(0, color=GREY, lw=1)
        self.ax_.set_xlabel(self._label("Fitted values"))
        return np.asarray(self.y_pred), residuals


class WeightsDisplay(RowsDisplay):
    r"""Robustness weights :math:`\min(1, \beta/|r|)` against the residuals r.

    A fit with the Smooth L1 or Huber loss is a weighted least-squares fit with these weights.
    Rows within the threshold have weight 1; beyond it the weight decreases with the absolute
    residual. The weights of an :class:`~skrobust.MMRegressor` are
    :math:`(1 - (r/c)^2)_+^2`: they decrease from the residual 0 on, and are 0 beyond c.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Targets.

    y_pred : array-like of shape (n_samples,)
        Fitted values.

    beta : float
        Threshold in units of y.

    target_name : str, default=None
        Name of the target in the labels.

    rejection_point : float, default=None
        The residual c in units of y from which on the weight of an
        :class:`~skrobust.MMRegressor` is 0. By default the weights are those of the Smooth L1
        and Huber losses.

    Attributes
    ----------
    scatter_ : matplotlib PathCollection
        Markers of the rows within the threshold. Their weight is 1 for the Smooth L1 and Huber
        losses.

    outlier_scatter_ : matplotlib PathCollection
        Markers of the rows beyond the threshold.

    line_ : matplotlib Line2D
        Curve of the weight as a function of the residual.

    threshold_lines_ : list of matplotlib Line2D
        Vertical lines at −β and β.

    legend_ : matplotlib Legend
        Legend to the right of the axes.

    ax_ : matplotlib Axes
        Axes of the display.

    figure_ : matplotlib Figure
        Figure that contains the axes.

    See Also
    --------
    ResidualsDisplay : Residuals against fitted values.

    Notes
    -----
    The weight of a row with residual r is :math:`\ell'(r)/r` up to a constant factor, with the
    loss :math:`\ell` [1]_. It does not include `sample_weight`, which is a separate factor. At
    most `max_markers` rows are drawn, selected as in :class:`ResidualsDisplay`.

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

    def __init__(
        self,
        *,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        beta: float,
        target_name: str | None = None,
        rejection_point: float | None = None,
    ) -> None:
        super().__init__(y_true=y_true, y_pred=y_pred, beta=beta, target_name=target_name)
        self.rejection_point = rejection_point

    @staticmethod
    def _parameters_of(regressor: BaseEstimator) -> dict[str, Any]:
        if not isinstance(regressor, MMRegressor):
            return {}
        factor = constant_of_efficiency(float(regressor.efficiency))
        return {"rejection_point": factor * scale_of(regressor)}

    def _draw_background(
        self, residuals: NDArray[np.floating], beta: float
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        loss: Loss = HUBER
        label, start, end = "min(1, β/|r|)", beta, beta
        if self.rejection_point is not None:
            end = check_positive(self.rejection_point, "rejection_point")
            loss, label = BISQUARE, f"(1 − (r/c)²)², c = {end:.4g}"
            start = FIRST_BISQUARE_POINT * end
        # The spacing is geometric, because residuals may have any magnitude.
        negative_end = max(2 * end, -residuals.min())
        positive_end = max(2 * end, residuals.max())
        negative = -np.geomspace(start, negative_end, N_WEIGHT_CURVE_POINTS)[::-1]
        positive = np.geomspace(start, positive_end, N_WEIGHT_CURVE_POINTS)
        curve_residuals = np.concatenate([negative, positive])
        self.line_: Line2D = self.ax_.plot(
            curve_residuals, loss.weights(curve_residuals, end), color=GREY, lw=1, label=label
        )[0]
        self.threshold_lines_ = [
            self.ax_.axvline(threshold, color=GREY, ls=":", lw=1) for threshold in (-beta, beta)
        ]
        self.threshold_lines_[1].set_label(f"±β = ±{beta:.4g}")
        self.ax_.set(ylabel="Weight", ylim=(-0.03, 1.05))
        return residuals, loss.weights(residuals.astype(float), end)


def scale_of(regressor: MMRegressor) -> float:
    """Return the scale of a fit; raise a ValueError if it is zero."""
    if not regressor.scale_ > 0:
        raise ValueError(
            "The scale of the MMRegressor is 0, because its fit is exact for a majority of the "
            "rows, so that the residuals have no unit. ResidualsDisplay shows them if you pass "
            "beta, a threshold in units of y."
        )
    return float(regressor.scale_)


def axis_scale(
    residual_axis: str, abs_residuals: NDArray[np.floating], beta: float
) -> Literal["linear", "symlog"]:
    """Validate the parameter `residual_axis` and resolve "auto"."""
    if residual_axis not in ("auto", "linear", "symlog"):
        raise ValueError(
            f"residual_axis must be 'auto', 'linear' or 'symlog', got {residual_axis!r}."
        )
    if residual_axis == "auto":
        is_symlog = bool(abs_residuals.max() > MAX_BETAS_ON_LINEAR_AXIS * beta)
    else:
        is_symlog = residual_axis == "symlog"
    return "symlog" if is_symlog else "linear"


def set_symlog_scale(
    ax: Axes,
    axis: Literal["x", "y"],
    threshold: float,
    values: NDArray[np.floating],
    name: str = "β",
) -> None:
    """Set a symlog scale that is linear within ±threshold.

    The ticks are at 0, at ±threshold with the label `name`, and at powers of 10.
    """
    largest = max(np.abs(values).max(), threshold)
    decades = float(np.log10(largest / threshold))
    # Without a gap the tick label of the first power of 10 could overlap that of the threshold.
    # Labels take a larger part of a decade if there are more decades.
    gap = min(MAX_TICK_GAP, MIN_TICK_GAP + TICK_GAP_PER_DECADE * decades)
    first = int(np.ceil(np.log10(threshold) + gap))
    last = int(np.floor(np.log10(largest)))
    # The first tick is as far from the threshold as from the next tick.
    step = max(1, -(-(last - first + 1) // MAX_POWER_TICKS))
    ticks = {-threshold: f"−{name}", 0.0: "0", threshold: name}
    for exponent in range(first + step - 1, last + 1, step):
        power = 10.0**exponent
        ticks |= {-power: f"$-10^{{{exponent}}}$", power: f"$10^{{{exponent}}}$"}
    linear_decades = max(1.0, decades / MAX_DECADES_PER_LINEAR_DECADE)
    getattr(ax, f"set_{axis}scale")("symlog", linthresh=threshold, linscale=linear_decades)
    getattr(ax, f"set_{axis}ticks")(list(ticks), list(ticks.values()))
    getattr(ax, f"set_{axis}ticks")([], minor=True)
    getattr(ax, f"set_{axis}lim")(
        2 * min(values.min(), -threshold), 2 * max(values.max(), threshold)
    )
