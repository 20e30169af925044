"""Display of standardised residuals against robust distances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_array

from .._lazy_data import require_in_memory
from .._mm import OUTLIER_END, MMRegressor
from .._unwrap import MatrixLike, innermost_estimator, unwrap
from ._drawing import (
    DASHES,
    GREY,
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
    row_labels,
    sample,
)
from ._drawing import legend as draw_legend
from ._rows import row_names, scale_of, set_symlog_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend
    from matplotlib.text import Text

# Kinds of rows and their plurals. The index of a kind is 2 · (is an outlier) + (is a leverage
# point).
KINDS = np.array(["regular", "good leverage", "vertical outlier", "bad leverage"])
NOUNS = ["regular\nrows", "good\nleverage points", "vertical\noutliers", "bad\nleverage points"]
# matplotlib's name of the coordinates in which the lower left corner of the axes is (0, 0) and
# the upper right corner is (1, 1).
AXES = "axes fraction"
# An axis is logarithmic beyond the cutoff if any absolute value on it exceeds this multiple of
# the cutoff.
MAX_CUTOFFS_ON_LINEAR_AXIS = 10
# An axis extends to at least MIN_CUTOFFS times the cutoff, and beyond the extreme rows by
# MARGIN times the length of the axis, to leave space for the names of the regions.
MIN_CUTOFFS, MARGIN = 1.5, 0.18
# Minimum size of the random sample of regular rows, as a fraction of `max_markers`.
MIN_REGULAR_FRACTION = 0.25


class OutlierMapDisplay:
    r"""Outlier map: standardised residuals against robust distances, with cutoffs.

    The cutoffs divide the rows into four kinds [1]_. Rows with large residuals are outliers:
    vertical outliers if their features are typical, and bad leverage points if their features
    are unusual. Good leverage points have unusual features but small residuals and increase the
    precision of the fit. All other rows are regular. With normally distributed data and the
    default cutoffs, 2.5 % of the rows exceed the distance cutoff and 1 % exceed the residual
    cutoff, so a few rows beyond the cutoffs are not evidence of outliers.

    Parameters
    ----------
    robust_distances : array-like of shape (n_samples,)
        Robust distance of each row from the centre of the features.

    standardized_residuals : array-like of shape (n_samples,)
        Residual of each row, divided by the scale.

    distance_cutoff : float
        Distance beyond which a row is a leverage point.

    residual_cutoff : float
        Absolute standardised residual beyond which a row is an outlier.

    names : sequence of shape (n_samples,), default=None
        Row labels. By default, the row numbers are used.

    target_name : str, default=None
        Name of the target in the axis labels.

    Attributes
    ----------
    quadrants : ndarray of shape (n_samples,)
        Kind of each row: "regular", "good leverage", "vertical outlier" or "bad leverage".

    scatter_ : matplotlib PathCollection
        Markers of the regular rows and of the good leverage points.

    outlier_scatter_ : matplotlib PathCollection
        Markers of the vertical outliers and of the bad leverage points.

    residual_lines_ : list of matplotlib Line2D
        Horizontal lines at the residual cutoffs.

    distance_line_ : matplotlib Line2D
        Vertical line at the distance cutoff.

    region_labels_ : list of matplotlib Text
        Names of the regions and the number of rows in each. Each kind of outlier has one region
        for positive residuals and one for negative residuals.

    labels_ : list of matplotlib Annotation
        Labels of the rows selected by `labelled`.

    legend_ : matplotlib Legend or None
        Legend of the cutoffs; None if ``legend=False``.

    ax_ : matplotlib Axes
        Axes of the display.

    figure_ : matplotlib Figure
        Figure that contains the axes.

    See Also
    --------
    skrobust.MMRegressor.robust_distances : Robust distances, with their formula.
    InfluenceDisplay : Leave-one-out residuals against leverages for a Huber fit.

    Notes
    -----
    If any row exceeds ten times a cutoff, the corresponding axis is linear up to the cutoff and
    logarithmic beyond it, because a linear axis would compress the other rows.

    Both the fit and the distances must be robust. With least squares and the sample covariance
    of the features, outliers would attract the fit, inflate the covariance, and therefore have
    small residuals and distances.

    References
    ----------
    .. [1] P. J. Rousseeuw and B. C. van Zomeren, "Unmasking multivariate outliers and leverage
           points", Journal of the American Statistical Association 85, 1990.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust import MMRegressor
    >>> from skrobust.displays import OutlierMapDisplay
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 2))
    >>> y = X @ [1.0, 2.0] + rng.normal(scale=0.1, size=100)
    >>> X[:10] = rng.normal(6.0, 0.5, size=(10, 2))  # bad leverage points
    >>> display = OutlierMapDisplay.from_estimator(MMRegressor().fit(X, y), X, y)
    >>> int((display.quadrants == "bad leverage").sum())
    10
    """

    ax_: Axes

    def __init__(
        self,
        *,
        robust_distances: ArrayLike,
        standardized_residuals: ArrayLike,
        distance_cutoff: float,
        residual_cutoff: float,
        names: Sequence[Any] | None = None,
        target_name: str | None = None,
    ) -> None:
        self.robust_distances = robust_distances
        self.standardized_residuals = standardized_residuals
        self.distance_cutoff = distance_cutoff
        self.residual_cutoff = residual_cutoff
        self.names = names
        self.target_name = target_name

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: MatrixLike,
        y: ArrayLike,
        *,
        target_name: str | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        r"""Draw standardised residuals against robust distances for a fitted estimator.

        The distance cutoff is :math:`\sqrt{\chi^2_{0.975, d}}`, where d is the number of
        features used in the distances. The cutoff for standardised residuals is
        :math:`\Phi^{-1}(0.995) = 2.576`.

        Parameters
        ----------
        estimator : fitted estimator
            A :class:`~skrobust.MMRegressor`, or a pipeline, a hyperparameter search or a
            :class:`~sklearn.compose.TransformedTargetRegressor` that contains one. For a
            TransformedTargetRegressor, the residuals are in the units of the transformed
            target.

        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Features of the training data or of new data. If X is a pandas DataFrame, its index
            supplies the row labels.

        y : array-like of shape (n_samples,)
            Target values.

        target_name : str, default=None
            Name of the target in the axis labels. By default, the name of y is used if it has
            one.

        ax : matplotlib Axes, default=None
            Axes to draw on. If None, a new figure is created.

        **kwargs : dict
            Additional keyword arguments passed to `plot`.

        Returns
        -------
        display : OutlierMapDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        NotFittedError
            If the estimator is not fitted.

        ValueError
            If the estimator is not an MMRegressor and does not contain one, the MMRegressor has
            zero scale or no robust distances, or the data have inconsistent shapes.
        """
        check_matplotlib("OutlierMapDisplay.from_estimator")
        require_in_memory("OutlierMapDisplay.from_estimator", "display", X=X, y=y)
        return cls._undrawn(estimator, X, y, target_name).plot(ax=ax, **kwargs)

    @classmethod
    def _undrawn(
        cls, estimator: BaseEstimator, X: MatrixLike, y: ArrayLike, target_name: str | None
    ) -> Self:
        """Return a display for a fitted estimator, without drawing it."""
        regressor = innermost_estimator(estimator)
        if not isinstance(regressor, MMRegressor):
            raise ValueError(
                f"{type(regressor).__name__} has no robust distances; pass an MMRegressor, or "
                "a pipeline, hyperparameter search or TransformedTargetRegressor that contains "
                "one."
            )
        scale = scale_of(regressor)
        data = unwrap(estimator, X, y)
        return cls(
            robust_distances=data.regressor.robust_distances(data.X),
            standardized_residuals=(data.y - data.regressor.predict(data.X)) / scale,
            distance_cutoff=regressor._distance.distance.cutoff,
            residual_cutoff=OUTLIER_END,
            names=row_names(X, y),
            target_name=data.target_name if target_name is None else target_name,
        )

    def plot(
        self,
        ax: Axes | None = None,
        *,
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

        labelled : int or array-like of int, default=5
            Rows to label. If an integer k, the k rows with the largest absolute residuals are
            labelled. If an array, it gives the positions in y of the rows to label.

        legend : bool, default=True
            Whether to draw a legend.

        max_markers : int, default=2000
            Maximum number of rows to draw without sampling. If there are more rows, a random
            sample of the regular rows is drawn, with a fixed seed and a size of at least a
            quarter of `max_markers`. Leverage points and outliers are always drawn.

        scatter_kwargs, outlier_kwargs : dict, default=None
            Keyword arguments passed to matplotlib's ``scatter`` for the rows within the
            residual cutoff and for the outliers, respectively.

        Returns
        -------
        self : OutlierMapDisplay
            The display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        ValueError
            If the arrays have inconsistent shapes, a value is not finite, or a parameter is out
            of range.

        TypeError
            If `ax` is not a matplotlib Axes.
        """
        check_matplotlib("OutlierMapDisplay.plot")
        max_markers = check_max_markers(max_markers)
        distance, residual, kind = self._rows()
        labelled_positions = labelled_rows(labelled, np.abs(residual))
        rows = [np.flatnonzero(kind == number) for number in range(len(KINDS))]
        counts = [len(of_kind) for of_kind in rows]
        n_regular = max(
            max_markers - sum(counts[1:]), round(MIN_REGULAR_FRACTION * max_markers)
        )
        regular = sample(rows[0], n_regular)
        rows[0] = np.union1d(regular, labelled_positions[kind[labelled_positions] == 0])
        self.ax_ = axes(ax)
        self.figure_ = self.ax_.figure
        self._draw_cutoffs(distance, residual)
        self.scatter_, self.outlier_scatter_ = draw_rows(
            self.ax_,
            distance,
            residual,
            (np.concatenate(rows[:2]), np.concatenate(rows[2:])),
            ("rows within the cutoff of residuals", "outliers"),
            (scatter_kwargs, outlier_kwargs),
        )
        self._name_regions(kind, residual > 0, len(rows[0]))
        self.labels_ = label_rows(
            self.ax_,
            np.column_stack([distance, residual])[labelled_positions],
            row_labels(self.names, labelled_positions),
        )
        self.legend_: Legend | None = None
        if legend:
            self.legend_ = draw_legend(self.ax_, [self.residual_lines_[1], self.distance_line_])
        return self

    def _draw_cutoffs(
        self, distance: NDArray[np.float64], residual: NDArray[np.float64]
    ) -> None:
        """Set the scales and labels of the axes, and draw lines at the cutoffs."""
        ax, x_end, y_end = self.ax_, float(self.distance_cutoff), float(self.residual_cutoff)
        x_suffix = _set_scale(ax, "x", x_end, distance)
        y_suffix = _set_scale(ax, "y", y_end, residual)
        ax.set_xlim(left=0)
        name = f" of {self.target_name}" if self.target_name else ""
        ax.set(xlabel=f"Robust distance{x_suffix}", ylabel=f"Residuals{name} / scale{y_suffix}")
        ax.axhline(0, color=GREY, lw=1, zorder=0.5)
        self.residual_lines_ = [
            ax.axhline(end, color=GREY, ls=DASHES[1], lw=1, zorder=0.5)
            for end in (-y_end, y_end)
        ]
        self.residual_lines_[1].set_label(f"residuals of ±{y_end:.4g} scales")
        self.distance_line_ = ax.axvline(
            x_end,
            color=GREY,
            ls=DASHES[3],
            lw=1.5,
            zorder=0.5,
            label=f"distance {x_end:.4g}",
        )

    def _name_regions(
        self, kind: NDArray[np.intp], is_positive: NDArray[np.bool_], n_regular_drawn: int
    ) -> None:
        """Label each region with its name and its number of rows."""
        ax, y_end = self.ax_, float(self.residual_cutoff)
        box = {"facecolor": ax.get_facecolor(), "edgecolor": "none", "alpha": 0.7, "pad": 1}
        above, below = (
            np.bincount(kind[side], minlength=4) for side in (is_positive, ~is_positive)
        )
        both, top, bottom = (above + below).tolist(), above.tolist(), below.tolist()
        self.region_labels_: list[Text] = [
            ax.annotate(
                count_label(count, NOUNS[number], n_regular_drawn if number == 0 else count),
                (x, y),
                xycoords=(AXES, y_units),
                xytext=(4 if ha == "left" else -4, 4 if va == "bottom" else -4),
                textcoords="offset points",
                ha=ha,
                va=va,
                fontsize="small",
                bbox=box,
            )
            # The regular region is labelled in its upper left corner, where there are few rows.
            for number, count, x, ha, y, y_units, va in (
                (0, both[0], 0, "left", y_end, "data", "top"),
                (1, both[1], 1, "right", y_end, "data", "top"),
                (2, top[2], 0, "left", 1, AXES, "top"),
                (2, bottom[2], 0, "left", 0, AXES, "bottom"),
                (3, top[3], 1, "right", 1, AXES, "top"),
                (3, bottom[3], 1, "right", 0, AXES, "bottom"),
            )
        ]

    @property
    def quadrants(self) -> NDArray[np.str_]:
        # This property has no docstring, so numpydoc shows its description from the class
        # docstring.
        kinds: NDArray[np.str_] = KINDS[self._rows()[2]]
        return kinds

    def _rows(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
        """Validate the parameters; return the distance, residual and kind of each row.

        A kind is an index into KINDS.
        """
        distance, residual = (
            check_array(getattr(self, name), ensure_2d=False, dtype=np.float64, input_name=name)
            for name in ("robust_distances", "standardized_residuals")
        )
        if distance.ndim != 1 or distance.shape != residual.shape:
            raise ValueError(
                "robust_distances and standardized_residuals must be vectors of the same "
                f"length, got the shapes {distance.shape} and {residual.shape}."
            )
        check_names(self.names, len(residual))
        is_leverage = distance > check_positive(self.distance_cutoff, "distance_cutoff")
        is_outlier = np.abs(residual) > check_positive(self.residual_cutoff, "residual_cutoff")
        return distance, residual, 2 * is_outlier + is_leverage


def _set_scale(
    ax: Axes, name: Literal["x", "y"], cutoff: float, values: NDArray[np.float64]
) -> str:
    """Set the scale and limits of an axis; return the suffix to add to the axis label."""
    suffix, axis = "", getattr(ax, f"{name}axis")
    if np.abs(values).max() > MAX_CUTOFFS_ON_LINEAR_AXIS * cutoff:
        set_symlog_scale(ax, name, cutoff, values, f"{cutoff:.3g}")
        suffix = f"\n(logarithmic beyond {'±' if name == 'y' else ''}{cutoff:.3g})"
    low, high = (
        min(values.min(), -MIN_CUTOFFS * cutoff),
        max(values.max(), MIN_CUTOFFS * cutoff),
    )
    # The margin is a fraction of the drawn length of the axis, whether linear or symlog.
    low, high = axis.get_transform().transform([low, high])
    margin = MARGIN * (high - low)
    limits = axis.get_transform().inverted().transform([low - margin, high + margin])
    getattr(ax, f"set_{name}lim")(*limits)
    return suffix
