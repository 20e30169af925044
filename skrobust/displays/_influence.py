"""Display of the influence of the rows on a fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from .._lazy_data import require_in_memory
from .._observation_table import ObservationTable, observation_table
from .._unwrap import MatrixLike
from ._drawing import (
    COLOURS,
    DASHES,
    GREY,
    N_LABELLED,
    Kwargs,
    axes,
    check_matplotlib,
    check_max_markers,
    check_positive,
    count_label,
    draw_rows,
    label_rows,
    labelled_rows,
    row_labels,
    thin,
)
from ._drawing import legend as draw_legend
from ._rows import LABEL_SUFFIXES, axis_scale, set_symlog_scale

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D

# Number of positive residuals at which a contour is computed, and number of leverages searched
# for the contour at each residual.
N_CONTOUR_POINTS, N_LEVERAGE_STEPS = 600, 1000
# Margin of the axes around the data, as a fraction of the range of the data.
MARGIN = 0.08


class InfluenceDisplay:
    r"""Leave-one-out residuals against leverages, with contours of Cook's distance.

    A row strongly influences the coefficients if it is both far to the right, where the
    features are unusual, and far from zero vertically. Rows beyond a contour should be
    inspected: if Cook's distance exceeds 1, a fit without the row has coefficients outside an
    approximate 50 % confidence region.

    Parameters
    ----------
    leverage : array-like of shape (n_samples,)
        Leverage of each row. A row whose absolute residual exceeds the threshold has leverage 0
        in the fit; its entry is the leverage that it would have with a residual of zero.

    residual : array-like of shape (n_samples,)
        Leave-one-out residual of each row, divided by the scale.

    cooks_distance : array-like of shape (n_samples,)
        Cook's distance of each row.

    outlier : array-like of bool of shape (n_samples,)
        Whether the absolute residual of each row exceeds the threshold.

    beta : float
        Threshold in units of the scale.

    cook_factor : float
        Factor k in Cook's distance k r² h, where r is the entry of `residual` and h the entry
        of `leverage`, for a row that has the mean sample weight and whose absolute residual is
        at most the threshold.

    psi_deriv : float, default=1.0
        Second derivative ψ′ of the loss at absolute residuals up to the threshold β. If β is
        small, the mean of ψ′ over a window wider than [−β, β] is used instead and is less than
        1.

    names : sequence of shape (n_samples,), default=None
        Row labels. By default, the row numbers are used.

    target_name : str, default=None
        Name of the target in the axis labels.

    Attributes
    ----------
    scatter_ : matplotlib PathCollection
        Markers of the rows whose absolute residuals are at most the threshold.

    outlier_scatter_ : matplotlib PathCollection
        Markers of the rows whose absolute residuals exceed the threshold.

    contours_ : list of matplotlib Line2D
        Contours of Cook's distance, one per level.

    labels_ : list of matplotlib Annotation
        Labels of the rows selected by `labelled`.

    legend_ : matplotlib Legend or None
        Legend; None if ``legend=False``.

    ax_ : matplotlib Axes
        Axes of the display.

    figure_ : matplotlib Figure
        Figure that contains the axes.

    See Also
    --------
    skrobust.inference.observation_table : Table of the displayed values, with their formulas.
    ResidualsDisplay : Residuals against fitted values.

    Notes
    -----
    For a large threshold, the display is equivalent to R's ``plot(lm, which=5)``. The influence
    of a row whose absolute residual exceeds the threshold β is bounded in y. A row of leverage
    h has an absolute residual above β if its absolute leave-one-out residual exceeds β/(1 − h),
    so the contours bend to the right along the curve β/(1 − h) and end in vertical lines. With
    sample weights, the contours are valid for a row of mean weight. A row with leverage 1,
    which alone determines a coefficient, is not drawn, but the legend gives the number of such
    rows.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skrobust import SmoothL1Regressor
    >>> from skrobust.displays import InfluenceDisplay
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> model = SmoothL1Regressor().fit(X, y)
    >>> display = InfluenceDisplay.from_estimator(model, X, y, labelled=2)
    >>> [label.get_text() for label in display.labels_]
    ['169', '123']
    """

    ax_: Axes

    def __init__(
        self,
        *,
        leverage: ArrayLike,
        residual: ArrayLike,
        cooks_distance: ArrayLike,
        outlier: ArrayLike,
        beta: float,
        cook_factor: float,
        psi_deriv: float = 1.0,
        names: Sequence[Any] | None = None,
        target_name: str | None = None,
    ) -> None:
        self.leverage = leverage
        self.residual = residual
        self.cooks_distance = cooks_distance
        self.outlier = outlier
        self.beta = beta
        self.cook_factor = cook_factor
        self.psi_deriv = psi_deriv
        self.names = names
        self.target_name = target_name

    @classmethod
    def from_table(
        cls,
        table: ObservationTable,
        *,
        target_name: str | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the influence of the rows in an observation table.

        Parameters
        ----------
        table : ObservationTable
            Result of :func:`~skrobust.inference.observation_table`.

        target_name : str, default=None
            Name of the target in the axis labels. By default, the name stored in the table is
            used if there is one.

        ax : matplotlib Axes, default=None
            Axes to draw on. If None, a new figure is created.

        **kwargs : dict
            Additional keyword arguments passed to `plot`.

        Returns
        -------
        display : InfluenceDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        ValueError
            If a parameter is out of range, or the table describes an MMRegressor.
        """
        check_matplotlib("InfluenceDisplay.from_table")
        return cls._undrawn(table, target_name).plot(ax=ax, **kwargs)

    @classmethod
    def _undrawn(cls, table: ObservationTable, target_name: str | None) -> Self:
        """Return a display of the rows of an observation table, without drawing it."""
        if not table._rho.is_convex:
            raise ValueError(
                "InfluenceDisplay draws the contours of Cook's distance for the Huber loss, "
                "not for the bisquare of an MMRegressor. The columns leverage and "
                "cooks_distance of the table are valid for both; OutlierMapDisplay shows the "
                "leverage points of an MMRegressor."
            )
        return cls(
            leverage=table._potential,
            residual=table.leave_one_out_residual / table.scale,
            cooks_distance=table.cooks_distance,
            outlier=table.outlier,
            beta=table.beta / table.scale,
            cook_factor=table._cook_factor * table.scale**2,
            psi_deriv=table._psi_deriv,
            names=table.index,
            target_name=table._target_name if target_name is None else target_name,
        )

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: MatrixLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        target: int | None = None,
        target_name: str | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the influence of the rows on a fitted estimator.

        Parameters
        ----------
        estimator : fitted estimator
            A :class:`~skrobust.SmoothL1Regressor` or :class:`~skrobust.SmoothL1RegressorCV`, or
            a pipeline, a hyperparameter search or a
            :class:`~sklearn.compose.TransformedTargetRegressor` that contains one.

        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training features. If X is a pandas DataFrame, its index supplies the row labels.

        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Training targets.

        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights used in the fit.

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
        display : InfluenceDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        NotFittedError
            If the estimator is not fitted.

        TypeError
            If the estimator is not a SmoothL1Regressor or SmoothL1RegressorCV and does not
            contain one.

        ValueError
            If the data differ from the training data, a parameter is out of range, or the
            estimator is an MMRegressor, for which the contours are not valid.
        """
        caller = "InfluenceDisplay.from_estimator"
        check_matplotlib(caller)
        require_in_memory(caller, "display", X=X, y=y, sample_weight=sample_weight)
        table = observation_table(estimator, X, y, sample_weight=sample_weight, target=target)
        return cls.from_table(table, target_name=target_name, ax=ax, **kwargs)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        levels: Sequence[float] = (0.5, 1.0),
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

        levels : sequence of float, default=(0.5, 1.0)
            Values of Cook's distance at which contours are drawn.

        residual_axis : {"auto", "linear", "symlog"}, default="auto"
            Scale of the residual axis, as in :class:`ResidualsDisplay`.

        labelled : int or array-like of int, default=5
            Rows to label. If an integer k, the k rows with the largest Cook's distances are
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
        self : InfluenceDisplay
            The display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        ValueError
            If the arrays have inconsistent shapes, or a parameter is out of range.

        TypeError
            If `ax` is not a matplotlib Axes.
        """
        check_matplotlib("InfluenceDisplay.plot")
        max_markers = check_max_markers(max_markers)
        levels = [check_positive(level, "Each entry of levels") for level in levels]
        leverage, residual, cook, outlier = self._arrays()
        beta = check_positive(self.beta, "beta")
        drawn = np.flatnonzero(np.isfinite(residual))
        size = np.abs(residual[drawn])
        scale = axis_scale(residual_axis, size, beta)
        rows = labelled_rows(labelled, np.where(np.isfinite(residual), cook, -np.inf))
        rows = rows[np.isfinite(residual[rows])]
        positions = np.full(len(residual), -1)
        positions[drawn] = np.arange(len(drawn))
        within, beyond = (
            drawn[part] for part in thin(size, outlier[drawn], max_markers, positions[rows])
        )
        self.ax_ = ax = axes(ax)
        self.figure_ = ax.figure
        n_beyond = int(outlier[drawn].sum())
        ax.axhline(0, color=GREY, lw=1, zorder=0.5)
        self.scatter_, self.outlier_scatter_ = draw_rows(
            ax,
            leverage,
            residual,
            (within, beyond),
            (
                count_label(len(drawn) - n_beyond, "within β", len(within)),
                count_label(n_beyond, "beyond β", len(beyond)),
            ),
            (scatter_kwargs, outlier_kwargs),
        )
        self._set_limits(leverage[drawn], residual[drawn], scale)
        self.contours_ = [
            self._contour(level, int((cook > level).sum()), dashes)
            for level, dashes in zip(levels, _contour_dashes(len(levels)), strict=True)
        ]
        points = np.column_stack([leverage, residual])[rows]
        self.labels_ = label_rows(ax, points, row_labels(self.names, rows))
        self.legend_: Legend | None = None
        if legend:
            self.legend_ = draw_legend(ax, self._legend_handles(len(residual) - len(drawn)))
        return self

    def _legend_handles(self, n_alone: int) -> list[Artist]:
        handles = [self.scatter_, self.outlier_scatter_, *self.contours_]
        if n_alone:
            label = count_label(n_alone, "rows", n_alone, " of leverage 1")
            handles += self.ax_.plot([], [], " ", label=label)
        return handles

    def _set_limits(
        self,
        leverage: NDArray[np.float64],
        residual: NDArray[np.float64],
        scale: Literal["linear", "symlog"],
    ) -> None:
        ax = self.ax_
        name = f" of {self.target_name}" if self.target_name else ""
        suffix = LABEL_SUFFIXES[scale].replace(" (", "\n(")
        ax.set(
            xlabel="Leverage",
            ylabel=f"Leave-one-out residuals{name} / scale" + suffix,
        )
        ax.set_xlim(0, min(1.0, (1 + MARGIN) * max(leverage.max(initial=0.0), 1e-6)))
        if scale == "symlog":
            set_symlog_scale(ax, "y", float(self.beta), residual)
            return
        low, high = residual.min(initial=-1.0), residual.max(initial=1.0)
        ax.set_ylim(low - MARGIN * (high - low), high + MARGIN * (high - low))

    def _contour(self, level: float, n_beyond: int, dashes: Any) -> Line2D:
        """Draw and return the contour at one level of Cook's distance.

        At each residual, the contour is at the smallest leverage for which Cook's distance is
        at least `level`. The label of the contour gives `n_beyond`, the number of rows beyond
        it.
        """
        ax, rows = self.ax_, count_label(n_beyond, "rows", n_beyond)
        largest = max(np.abs(ax.get_ylim()))
        y = np.geomspace(1e-2 * min(largest, float(self.beta)), largest, N_CONTOUR_POINTS)
        h = np.linspace(0, ax.get_xlim()[1], N_LEVERAGE_STEPS + 2)[1:-1]
        beyond = self._cooks_distances(h[:, None], y) >= level
        x = np.where(beyond.any(axis=0), h[np.argmax(beyond, axis=0)], np.nan)
        line: Line2D = ax.plot(
            np.concatenate([x, [np.nan], x]),
            np.concatenate([y, [np.nan], -y]),
            color=COLOURS[2],
            lw=1.2,
            ls=dashes,
            label=f"Cook's distance {level:g}:\n{rows} beyond",
        )[0]
        return line

    def _cooks_distances(
        self, leverage: NDArray[np.float64], residual: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return Cook's distances of rows that have the mean sample weight.

        `residual` contains leave-one-out residuals, which must be positive. A row with residual
        r and leverage h has the leave-one-out residual r + ψ(r) t with t = h/(ψ′(1 − h)), where
        ψ is the derivative of the loss and ψ′ is `psi_deriv`.
        """
        beta, slope = float(self.beta), float(self.psi_deriv)
        t = leverage / (slope * (1 - leverage))
        c = np.minimum(residual / (1 + t), beta)
        # The second derivative of the loss is `slope` at residuals below β/`slope` and 0 at
        # larger residuals.
        is_inside = (residual - c * t) * slope < beta
        distances: NDArray[np.float64] = (
            self.cook_factor * c**2 * t * (1 + slope * t * is_inside)
        )
        return distances

    def _arrays(
        self,
    ) -> tuple[
        NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]
    ]:
        """Validate the array parameters and return them as vectors.

        Return the leverages, the residuals, Cook's distances and the mask of the rows whose
        absolute residuals exceed the threshold.
        """
        leverage = np.asarray(self.leverage, dtype=float)
        arrays = {
            "residual": np.asarray(self.residual, dtype=float),
            "cooks_distance": np.asarray(self.cooks_distance, dtype=float),
            "outlier": np.asarray(self.outlier, dtype=bool),
            "names": np.empty(len(leverage) if self.names is None else len(self.names)),
        }
        for name, array in arrays.items():
            if leverage.ndim != 1 or array.shape != leverage.shape:
                raise ValueError(
                    f"leverage and {name} must be vectors of the same length, got the shapes "
                    f"{leverage.shape} and {array.shape}."
                )
        return leverage, arrays["residual"], arrays["cooks_distance"], arrays["outlier"]


def _contour_dashes(n: int) -> list[Any]:
    """Return the dash patterns of n contours, none of which is solid."""
    return [DASHES[1 + i % (len(DASHES) - 1)] for i in range(n)]
