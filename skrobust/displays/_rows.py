"""Base classes and helper functions of the displays with one marker per residual."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.linear_model import HuberRegressor

from .._lazy_data import require_in_memory
from .._mm import OUTLIER_END, MMRegressor
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
    N_LABELLED,
    Kwargs,
    axes,
    check_matplotlib,
    check_max_markers,
    check_names,
    check_positive,
    count_label,
    draw_rows,
    label_rows,
    labelled_rows,
    line,
    row_labels,
    sample,
    thin,
)
from ._drawing import legend as draw_legend
from ._smooth import lowess
from ._statsmodels import as_estimator

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D

# Suffix of the residual-axis label for each axis scale.
LABEL_SUFFIXES = {"linear": "", "symlog": " (logarithmic beyond ±β)"}
# With residual_axis="auto", the axis is symlog if the largest absolute residual exceeds this
# multiple of the threshold.
MAX_BETAS_ON_LINEAR_AXIS = 20
# Maximum number of ticks at powers of 10 on either side of a symlog axis.
MAX_POWER_TICKS = 5
# The first tick at a power of 10 is at least this number of decades above the threshold:
# MIN_TICK_GAP plus TICK_GAP_PER_DECADE times the number of decades from the threshold to the
# largest value, or MAX_TICK_GAP if this is less.
MIN_TICK_GAP, TICK_GAP_PER_DECADE, MAX_TICK_GAP = 0.1, 0.15, 0.6
# The linear part of a symlog axis is at least as long as one decade, and at least as long as
# the logarithmic part divided by this number.
MAX_DECADES_PER_LINEAR_DECADE = 4
# Maximum number of rows used to compute a smooth curve.
N_SMOOTHED_ROWS = 2_000


class RowsDisplay:
    """Base class of displays with one marker per residual.

    A subclass sets `_residual_axis` to the name of the axis that shows the residuals, and
    implements `_draw_background`, which draws everything except the markers and returns the
    abscissae and ordinates of the markers.
    """

    ax_: Axes
    _residual_axis: Literal["x", "y"]

    def __init__(
        self,
        *,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        beta: float,
        names: Sequence[Any] | None = None,
        target_name: str | None = None,
    ) -> None:
        self.y_true = y_true
        self.y_pred = y_pred
        self.beta = beta
        self.names = names
        self.target_name = target_name

    def _draw_background(
        self, residuals: NDArray[np.floating], beta: float
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        raise NotImplementedError

    @staticmethod
    def _parameters_of(regressor: BaseEstimator) -> dict[str, Any]:
        """Return the parameters of the display that only some kinds of regressor determine."""
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
            pipeline, a hyperparameter search or a
            :class:`~sklearn.compose.TransformedTargetRegressor` that contains one. For a
            TransformedTargetRegressor, the targets, the residuals and the threshold are in the
            units of the transformed target. A :class:`~sklearn.linear_model.HuberRegressor`,
            results of statsmodels' ``RLM`` with the norm ``HuberT`` or ``TukeyBiweight`` and,
            if `beta` is given, any other regressor are also accepted.

        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Features, or ``exog`` of a statsmodels model. If X is a pandas DataFrame, its index
            supplies the row labels.

        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Target values.

        beta : float, default=None
            Threshold in units of y. Rows whose absolute residuals exceed it are drawn as
            crosses. The default is the `beta_` attribute of the estimator, ``epsilon * scale_``
            for a :class:`~sklearn.linear_model.HuberRegressor`, ``t * scale`` for the norm
            ``HuberT``, and 2.5758 times the scale for a :class:`~skrobust.MMRegressor` and for
            the norm ``TukeyBiweight``.

        target : int, default=None
            Index of the target to show; required if there are several targets.

        target_name : str, default=None
            Name of the target in the axis labels. By default, the name of y is used if it has
            one.

        ax : matplotlib Axes, default=None
            Axes to draw on. If None, a new figure is created.

        **kwargs : dict
            Additional keyword arguments passed to `plot`.

        Returns
        -------
        display
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        NotFittedError
            If the estimator is not fitted.

        ValueError
            If the estimator has no threshold and `beta` is not given, `target` is missing or
            out of range, or the data have inconsistent shapes.
        """
        caller = f"{cls.__name__}.from_estimator"
        check_matplotlib(caller)
        require_in_memory(caller, "display", X=X, y=y)
        display = cls._undrawn(estimator, X, y, beta, target, target_name)
        return display.plot(ax=ax, **kwargs)

    @classmethod
    def _undrawn(
        cls,
        estimator: BaseEstimator,
        X: MatrixLike,
        y: ArrayLike,
        beta: float | None,
        target: int | None,
        target_name: str | None,
    ) -> Self:
        """Return a display for a fitted estimator, without drawing it."""
        estimator = as_estimator(estimator)
        data = unwrap(estimator, X, y, target)
        if beta is None:
            beta = threshold_of(estimator, data.regressor, target)
        return cls(
            y_true=data.y,
            y_pred=column(data.regressor.predict(data.X), target, "predict(X)"),
            beta=beta,
            names=row_names(X, y),
            target_name=data.target_name if target_name is None else target_name,
            **cls._parameters_of(data.regressor),
        )

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
        """Draw the residuals of given predictions.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,) or (n_samples, n_targets)
            True target values. If `y_true` is a pandas Series or DataFrame, its index supplies
            the row labels.

        y_pred : array-like of shape (n_samples,) or (n_samples, n_targets)
            Predicted target values.

        beta : float
            Threshold in units of y. Rows whose absolute residuals exceed it are drawn as
            crosses.

        target : int, default=None
            Index of the target to show; required if there are several targets.

        target_name : str, default=None
            Name of the target in the axis labels. By default, the name of `y_true` is used if
            it has one.

        ax : matplotlib Axes, default=None
            Axes to draw on. If None, a new figure is created.

        **kwargs : dict
            Additional keyword arguments passed to `plot`.

        Returns
        -------
        display
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        ValueError
            If `beta` is not positive and finite, `target` is missing or out of range, or the
            data have inconsistent shapes.
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
            names=row_names(y_true, y_pred),
            target_name=target_name,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        residual_axis: Literal["auto", "linear", "symlog"] = "auto",
        labelled: int | ArrayLike = N_LABELLED,
        legend: bool = True,
        max_markers: int = 2_000,
        scatter_kwargs: Kwargs | None = None,
        outlier_kwargs: Kwargs | None = None,
    ) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. If None, a new figure is created.

        residual_axis : {"auto", "linear", "symlog"}, default="auto"
            Scale of the residual axis. "symlog" is linear within ±β and logarithmic beyond.
            "auto" selects "symlog" if the largest absolute residual exceeds 20 β, because a
            linear axis would then compress the other residuals.

        labelled : int or array-like of int, default=5
            Rows to label. If an integer k, the k rows with the largest absolute residuals are
            labelled. If an array, it gives the positions in y of the rows to label.

        legend : bool, default=True
            Whether to draw a legend.

        max_markers : int, default=2000
            Maximum number of rows to draw, not counting the labelled rows.

        scatter_kwargs, outlier_kwargs : dict, default=None
            Keyword arguments passed to matplotlib's ``scatter`` for the rows whose absolute
            residuals are at most the threshold and for the other rows, respectively.

        Returns
        -------
        self : display
            The display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        ValueError
            If the data have inconsistent shapes, or a parameter is out of range.

        TypeError
            If `ax` is not a matplotlib Axes.
        """
        styles = scatter_kwargs, outlier_kwargs
        self._draw(ax, residual_axis, labelled, max_markers, styles)
        self.legend_: Legend | None = draw_legend(self.ax_) if legend else None
        return self

    def _draw(
        self,
        ax: Axes | None,
        residual_axis: Literal["auto", "linear", "symlog"],
        labelled: int | ArrayLike,
        max_markers: int,
        styles: tuple[Kwargs | None, Kwargs | None],
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Draw everything but the legend; return the abscissae and ordinates of all rows."""
        check_matplotlib(f"{type(self).__name__}.plot")
        max_markers = check_max_markers(max_markers)
        residuals, beta = self._residuals_and_threshold()
        abs_residuals = np.abs(residuals)
        rows = labelled_rows(labelled, abs_residuals)
        scale = axis_scale(
            residual_axis, self._on_axis(abs_residuals), float(self._on_axis(beta))
        )
        is_beyond = abs_residuals > beta
        within, beyond = thin(abs_residuals, is_beyond, max_markers, rows)
        counts = np.bincount(is_beyond, minlength=2).tolist()
        self.ax_ = axes(ax)
        self.figure_ = self.ax_.figure
        x, y = self._draw_background(residuals, beta)
        self.scatter_, self.outlier_scatter_ = draw_rows(
            self.ax_,
            x,
            y,
            (within, beyond),
            (
                count_label(counts[0], "within β", len(within)),
                count_label(counts[1], "beyond β", len(beyond)),
            ),
            styles,
        )
        self._set_residual_axis(scale, residuals, beta)
        points = np.column_stack([x, y])[rows]
        self.labels_ = label_rows(self.ax_, points, row_labels(self.names, rows))
        return x, y

    def _on_axis(self, abs_residuals: Any) -> Any:
        """Return the values that represent the absolute residuals on the residual axis."""
        return abs_residuals

    def _set_residual_axis(
        self, scale: Literal["linear", "symlog"], residuals: NDArray[np.floating], beta: float
    ) -> None:
        label = self._label("Residuals") + LABEL_SUFFIXES[scale]
        self.ax_.set(**{f"{self._residual_axis}label": label})
        if scale == "symlog":
            set_symlog_scale(self.ax_, self._residual_axis, beta, residuals)

    def _label(self, quantity: str) -> str:
        """Return an axis label, with the name of the target if it is known."""
        return f"{quantity} of {self.target_name}" if self.target_name else quantity

    def _residuals_and_threshold(self) -> tuple[NDArray[np.floating], float]:
        """Validate the parameters of the display; return the residuals and the threshold."""
        y_true, y_pred = np.asarray(self.y_true), np.asarray(self.y_pred)
        if y_true.ndim != 1 or y_true.shape != y_pred.shape or y_true.size == 0:
            raise ValueError(
                "y_true and y_pred must be non-empty vectors of the same length, got the "
                f"shapes {y_true.shape} and {y_pred.shape}."
            )
        check_names(self.names, len(y_true))
        return y_true - y_pred, check_positive(self.beta, "beta")


class TrendDisplay(RowsDisplay):
    """Base class of displays in which the rows show no trend if the model is correct."""

    def plot(
        self,
        ax: Axes | None = None,
        *,
        smooth: bool = True,
        residual_axis: Literal["auto", "linear", "symlog"] = "auto",
        labelled: int | ArrayLike = N_LABELLED,
        legend: bool = True,
        max_markers: int = 2_000,
        scatter_kwargs: Kwargs | None = None,
        outlier_kwargs: Kwargs | None = None,
        smooth_kwargs: Kwargs | None = None,
    ) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. If None, a new figure is created.

        smooth : bool, default=True
            Whether to draw a robust smooth curve (lowess) through the rows.

        residual_axis : {"auto", "linear", "symlog"}, default="auto"
            Scale of the residual axis. "symlog" is linear within ±β and logarithmic beyond.
            "auto" selects "symlog" if the largest absolute residual exceeds 20 β, because a
            linear axis would then compress the other residuals. In a
            :class:`ScaleLocationDisplay`, which shows square roots, √β takes the place of β.

        labelled : int or array-like of int, default=5
            Rows to label. If an integer k, the k rows with the largest absolute residuals are
            labelled. If an array, it gives the positions in y of the rows to label.

        legend : bool, default=True
            Whether to draw a legend.

        max_markers : int, default=2000
            Maximum number of rows to draw, not counting the labelled rows.

        scatter_kwargs, outlier_kwargs : dict, default=None
            Keyword arguments passed to matplotlib's ``scatter`` for the rows whose absolute
            residuals are at most the threshold and for the other rows, respectively.

        smooth_kwargs : dict, default=None
            Keyword arguments passed to matplotlib's ``plot`` for the smooth curve.

        Returns
        -------
        self : display
            The display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        ValueError
            If the data have inconsistent shapes, or a parameter is out of range.

        TypeError
            If `ax` is not a matplotlib Axes.
        """
        styles = scatter_kwargs, outlier_kwargs
        x, y = self._draw(ax, residual_axis, labelled, max_markers, styles)
        self.smooth_: Line2D | None = None
        if smooth:
            self.smooth_ = draw_smooth(self.ax_, x, y, smooth_kwargs)
        self.legend_ = draw_legend(self.ax_) if legend else None
        return self


def draw_smooth(
    ax: Axes, x: NDArray[np.floating], y: NDArray[np.floating], kwargs: Kwargs | None
) -> Line2D:
    """Draw and return a robust smooth curve, computed from at most 2,000 of the points."""
    rows = sample(np.arange(len(x)), N_SMOOTHED_ROWS)
    style: dict[str, Any] = {"color": COLOURS[2], "lw": 2, "label": "smooth curve"}
    return line(ax, *lowess(x[rows], y[rows]), kwargs, **style)


def row_names(*data: Any) -> Sequence[Any] | None:
    """Return the row labels of the first pandas object in `data`, or None if there is none."""
    return next((each.index for each in data if hasattr(each, "iloc")), None)


def threshold_of(
    estimator: BaseEstimator, regressor: BaseEstimator, target: int | None
) -> float:
    """Return the threshold of a fitted estimator, in units of y.

    `regressor` is the regressor inside all meta-estimators of `estimator`.
    """
    if isinstance(regressor, MMRegressor):
        return OUTLIER_END * scale_of(regressor)
    if isinstance(regressor, HuberRegressor):
        return float(regressor.epsilon * regressor.scale_)
    advice = "pass beta, the threshold in units of y."
    return value_of_target(find_estimator_with(estimator, "beta_", advice=advice).beta_, target)


def scale_of(regressor: MMRegressor) -> float:
    """Return the scale of a fitted MMRegressor; raise a ValueError if the scale is zero."""
    if not regressor.scale_ > 0:
        raise ValueError(
            "The scale of the MMRegressor is 0 because its fit is exact for a majority of the "
            "rows. Residuals cannot be divided by this scale, but ResidualsDisplay shows them "
            "if you pass beta, a threshold in units of y."
        )
    return float(regressor.scale_)


def axis_scale(
    residual_axis: str, abs_residuals: NDArray[np.floating], beta: float
) -> Literal["linear", "symlog"]:
    """Validate the parameter `residual_axis` and return the axis scale that it selects."""
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
    # Without a gap, the label of the first power of 10 could overlap that of the threshold. The
    # more decades the axis has, the larger the part of a decade that a label covers.
    gap = min(MAX_TICK_GAP, MIN_TICK_GAP + TICK_GAP_PER_DECADE * decades)
    first = int(np.ceil(np.log10(threshold) + gap))
    last = int(np.floor(np.log10(largest)))
    # Each tick is `step` decades from the previous tick, and the first tick is about `step`
    # decades from the threshold.
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
