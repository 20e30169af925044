"""Display of coefficients with their confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from .._coefficient_table import intercept_name
from .._lazy_data import require_in_memory
from .._unwrap import MatrixLike, unwrap
from ..inference import CoefficientTable, coefficient_table
from ._drawing import COLOURS, GREY, Kwargs, axes, check_matplotlib, legend
from ._statsmodels import StatsmodelsRegressor, as_estimator

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D
    from matplotlib.text import Text

# Height in inches of one row, height of the horizontal axis with its label, and minimum height
# of the figure.
ROW_HEIGHT, AXIS_HEIGHT, MIN_HEIGHT = 0.28, 1.2, 2.4


class CoefficientsDisplay:
    """Coefficients with their confidence intervals, one coefficient per row.

    Each coefficient is drawn as a marker and its interval as a horizontal line. The marker is
    filled if the interval excludes the reference value, which is 0 by default, and hollow
    otherwise.

    Parameters
    ----------
    names : array-like of shape (p,)
        Names of the coefficients.

    coef, lower, upper : array-like of shape (p,)
        Coefficients and the lower and upper ends of their intervals. Missing values are NaN.

    level : float, default=0.95
        Confidence level of the intervals.

    standardized : bool, default=False
        Whether `coef` has been multiplied by the standard deviations of the features. If so,
        the axis label says so.

    target_name : str, default=None
        Name of the target in the axis labels.

    description : str, default=None
        Kind of covariance matrix from which the intervals were computed, such as "HC3". It is
        shown in the axis label.

    Attributes
    ----------
    errorbar_ : matplotlib ErrorbarContainer
        Markers and intervals.

    filled_ : matplotlib Line2D
        Filled markers of the coefficients whose intervals exclude the reference value.

    reference_line_ : matplotlib Line2D or None
        Vertical line at the reference value.

    note_ : matplotlib Text
        Right-aligned title. It gives the number of coefficients shown if some are omitted, and
        is empty otherwise.

    legend_ : matplotlib Legend or None
        Legend with the numbers of intervals that exclude and include the reference value; None
        if there is no reference value.

    ax_ : matplotlib Axes
        Axes of the display.

    figure_ : matplotlib Figure
        Figure that contains the axes.

    See Also
    --------
    skrobust.inference.coefficient_table : Table of the coefficients and their intervals.
    PathDisplay : Coefficients as functions of the threshold or the penalty.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skrobust import SmoothL1Regressor
    >>> from skrobust.displays import CoefficientsDisplay
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    >>> model = SmoothL1Regressor().fit(X, y)
    >>> display = CoefficientsDisplay.from_estimator(model, X, y)
    >>> [label.get_text() for label in display.ax_.get_yticklabels()][:3]
    ['s1', 's5', 'bmi']
    """

    ax_: Axes

    def __init__(
        self,
        *,
        names: Sequence[str] | NDArray[Any],
        coef: ArrayLike,
        lower: ArrayLike,
        upper: ArrayLike,
        level: float = 0.95,
        standardized: bool = False,
        target_name: str | None = None,
        description: str | None = None,
    ) -> None:
        self.names = names
        self.coef = coef
        self.lower = lower
        self.upper = upper
        self.level = level
        self.standardized = standardized
        self.target_name = target_name
        self.description = description

    @classmethod
    def from_table(
        cls,
        table: CoefficientTable,
        *,
        level: float = 0.95,
        standardize: bool = True,
        target_name: str | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the coefficients in a coefficient table.

        Parameters
        ----------
        table : CoefficientTable
            Result of :func:`~skrobust.inference.coefficient_table`.

        level : float, default=0.95
            Confidence level of the intervals.

        standardize : bool, default=True
            Whether to multiply each coefficient by the standard deviation of its feature. All
            coefficients are then in units of y and can be compared. The intercept is not
            multiplied.

        target_name : str, default=None
            Name of the target in the axis labels.

        ax : matplotlib Axes, default=None
            Axes to draw on. If None, a new figure is created.

        **kwargs : dict
            Additional keyword arguments passed to `plot`.

        Returns
        -------
        display : CoefficientsDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        ValueError
            If a parameter is out of range.
        """
        check_matplotlib("CoefficientsDisplay.from_table")
        factor = np.ones(len(table.names))
        if standardize:
            factor = np.array(table.feature_scale, dtype=float)
            factor[: _has_intercept(table.names)] = 1.0
        lower, upper = table.conf_int(level).T
        display = cls(
            names=table.names,
            coef=factor * table.coef,
            lower=factor * lower,
            upper=factor * upper,
            level=level,
            standardized=standardize,
            target_name=target_name,
            description=table.kind,
        )
        return display.plot(ax=ax, **kwargs)

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: MatrixLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        covariance: str = "auto",
        groups: ArrayLike | None = None,
        weights: str = "importance",
        scale: str = "joint",
        target: int | None = None,
        level: float = 0.95,
        standardize: bool = True,
        target_name: str | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the coefficients of a fitted estimator.

        Parameters
        ----------
        estimator : fitted estimator
            A :class:`~skrobust.SmoothL1Regressor`, :class:`~skrobust.SmoothL1RegressorCV` or
            :class:`~skrobust.MMRegressor`, or a pipeline, a hyperparameter search or a
            :class:`~sklearn.compose.TransformedTargetRegressor` that contains one. statsmodels
            results, such as those of ``RLM``, are also accepted. The display then shows their
            own confidence intervals, and `sample_weight`, `covariance`, `groups`, `weights`,
            `scale` and `target` must keep their default values.

        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training features.

        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Training targets.

        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights used in the fit.

        covariance : str, default="auto"
            Kind of covariance matrix, as in :func:`~skrobust.inference.coefficient_table`.

        groups : array-like of shape (n_samples,), default=None
            Cluster label of each row.

        weights : {"importance", "frequency"}, default="importance"
            Meaning of `sample_weight`: the importance of each row ("importance"), or the number
            of identical rows that it represents ("frequency").

        scale : {"joint", "fixed"}, default="joint"
            Whether the intervals account for the uncertainty of an estimated scale ("joint") or
            treat the scale as known ("fixed").

        target : int, default=None
            Index of the target to show; required if there are several targets.

        level : float, default=0.95
            Confidence level of the intervals.

        standardize : bool, default=True
            Whether to multiply each coefficient by the standard deviation of its feature. All
            coefficients are then in units of y and can be compared. The intercept is not
            multiplied.

        target_name : str, default=None
            Name of the target in the axis labels. By default, the name of y is used if it has
            one.

        ax : matplotlib Axes, default=None
            Axes to draw on. If None, a new figure is created.

        **kwargs : dict
            Additional keyword arguments passed to `plot`.

        Returns
        -------
        display : CoefficientsDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        NotFittedError
            If the estimator is not fitted.

        TypeError
            If the estimator is not a SmoothL1Regressor, SmoothL1RegressorCV or MMRegressor and
            does not contain one.

        ValueError
            If a parameter is out of range, or the data differ from the training data.
        """
        caller = "CoefficientsDisplay.from_estimator"
        check_matplotlib(caller)
        require_in_memory(
            caller, "display", X=X, y=y, sample_weight=sample_weight, groups=groups
        )
        estimator = as_estimator(estimator)
        if isinstance(estimator, StatsmodelsRegressor):
            is_default = (covariance, weights, scale) == ("auto", "importance", "joint")
            if not is_default or any(
                each is not None for each in (sample_weight, groups, target)
            ):
                raise ValueError(
                    "sample_weight, covariance, groups, weights, scale and target must have "
                    "their default values for statsmodels results, whose own confidence "
                    "intervals are drawn; choose the covariance in the call to statsmodels' "
                    "fit."
                )
            return cls._of_results(estimator.results, level, standardize, target_name).plot(
                ax=ax, **kwargs
            )
        table = coefficient_table(
            estimator,
            X,
            y,
            sample_weight=sample_weight,
            covariance=covariance,
            groups=groups,
            weights=weights,
            scale=scale,
            target=target,
        )
        if target_name is None:
            target_name = unwrap(estimator, X, y, target).target_name
        return cls.from_table(
            table,
            level=level,
            standardize=standardize,
            target_name=target_name,
            ax=ax,
            **kwargs,
        )

    @classmethod
    def _of_results(
        cls, results: Any, level: float, standardize: bool, target_name: str | None
    ) -> Self:
        """Return a display of statsmodels results, with the intercept first."""
        exog = np.asarray(results.model.exog)
        is_constant = np.ptp(exog, axis=0) == 0
        order = np.argsort(~is_constant, kind="stable")
        factor = np.where(is_constant | (not standardize), 1.0, exog.std(axis=0))[order]
        names = [results.model.exog_names[j] for j in order if not is_constant[j]]
        intervals = np.asarray(results.conf_int(1 - level))[order]
        # RLM results store the kind of covariance matrix in `fit_options`.
        cov_type = getattr(results, "cov_type", None) or results.fit_options["cov"]
        return cls(
            names=[intercept_name(names)] * int(is_constant.sum()) + names,
            coef=factor * np.asarray(results.params)[order],
            lower=factor * intervals[:, 0],
            upper=factor * intervals[:, 1],
            level=level,
            standardized=standardize,
            target_name=results.model.endog_names if target_name is None else target_name,
            description=cov_type,
        )

    def plot(
        self,
        ax: Axes | None = None,
        *,
        max_features: int = 20,
        intercept: bool = False,
        order: Literal["magnitude", "given"] = "magnitude",
        reference: float | None = 0.0,
        errorbar_kwargs: Kwargs | None = None,
    ) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. If None, a new figure is created.

        max_features : int, default=20
            Maximum number of coefficients to show, including the intercept. If there are more,
            those with the largest absolute values relative to the widths of their intervals are
            shown.

        intercept : bool, default=False
            Whether to show the intercept.

        order : {"magnitude", "given"}, default="magnitude"
            Order of the coefficients from top to bottom: by decreasing absolute value
            ("magnitude"), or as in `names` ("given").

        reference : float, default=0.0
            Reference value, marked with a vertical line; None for no reference value.

        errorbar_kwargs : dict, default=None
            Keyword arguments passed to matplotlib's ``errorbar``.

        Returns
        -------
        self : CoefficientsDisplay
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
        check_matplotlib("CoefficientsDisplay.plot")
        names, coef, lower, upper = self._arrays()
        _check_plot(max_features, order, reference)
        candidates = np.arange(0 if intercept else _has_intercept(names), len(names))
        rows = _selected(candidates, coef, upper - lower, max_features, order)
        height = max(MIN_HEIGHT, AXIS_HEIGHT + ROW_HEIGHT * len(rows))
        self.ax_ = ax = axes(ax, height)
        self.figure_ = ax.figure
        self._draw(coef[rows], lower[rows], upper[rows], reference, errorbar_kwargs)
        ax.set_yticks(np.arange(len(rows)), [names[row] for row in rows])
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.set_xlabel(self._label())
        hidden = len(rows) < len(candidates)
        note = f"{len(rows)} of {len(candidates)} shown" if hidden else ""
        self.note_: Text = ax.set_title(note, loc="right", fontsize="medium")
        self.legend_: Legend | None = None
        if reference is not None:
            # The legend is drawn last because its position depends on axis limits and labels.
            self.legend_ = legend(ax, [self.filled_, self.errorbar_.lines[0]])
        return self

    def _draw(
        self,
        coef: NDArray[np.float64],
        lower: NDArray[np.float64],
        upper: NDArray[np.float64],
        reference: float | None,
        errorbar_kwargs: Kwargs | None,
    ) -> None:
        ax, rows = self.ax_, np.arange(len(coef))
        style: dict[str, Any] = {
            "fmt": "o",
            "color": COLOURS[0],
            "markersize": 6,
            "elinewidth": 1.5,
            "markerfacecolor": ax.get_facecolor(),
        }
        reach = np.abs(np.stack([coef - lower, upper - coef]))
        self.errorbar_ = ax.errorbar(
            coef, rows, xerr=reach, **(style | dict(errorbar_kwargs or {}))
        )
        # `xerr` misplaces the ends of an interval that does not contain its coefficient, as a
        # bootstrap percentile interval may not, so the ends are set here.
        ends = np.stack(
            [np.stack([lower, rows], axis=1), np.stack([upper, rows], axis=1)], axis=1
        )
        self.errorbar_.lines[2][0].set_segments(list(ends))
        marker = self.errorbar_.lines[0]
        excludes = np.isfinite(lower + upper)
        if reference is not None:
            excludes &= (lower > reference) | (upper < reference)
        self.filled_: Line2D = ax.plot(
            coef[excludes],
            rows[excludes],
            linestyle="none",
            marker=marker.get_marker(),
            markersize=marker.get_markersize(),
            color=marker.get_color(),
            zorder=marker.get_zorder() + 0.1,
        )[0]
        self.reference_line_: Line2D | None = None
        if reference is not None:
            self.reference_line_ = ax.axvline(reference, color=GREY, lw=1, zorder=0.5)
            n_excluding, n_intervals = excludes.sum(), np.isfinite(lower + upper).sum()
            self.filled_.set_label(f"excludes {reference:g} ({n_excluding})")
            marker.set_label(f"includes {reference:g} ({n_intervals - n_excluding})")

    def _label(self) -> str:
        label = "Coefficient"
        if self.standardized:
            label += " × standard deviation of the feature"
        if self.target_name:
            label += f", in units of {self.target_name}"
            if not self.standardized:
                label += " per unit of the feature"
        kind = f" ({self.description})" if self.description else ""
        return f"{label}\n{100 * self.level:g} % intervals{kind}"

    def _arrays(
        self,
    ) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Validate the parameters of the display and return them as arrays.

        Return the names, the coefficients, and the lower and upper ends of the intervals.
        """
        names = [str(name) for name in self.names]
        arrays = [
            np.asarray(value, dtype=float) for value in (self.coef, self.lower, self.upper)
        ]
        for name, array in zip(("coef", "lower", "upper"), arrays, strict=True):
            if array.shape != (len(names),):
                raise ValueError(
                    f"{name} must have one entry for each of the {len(names)} names, got shape "
                    f"{array.shape}."
                )
        if not isinstance(self.level, Real) or not 0 < float(self.level) < 1:
            raise ValueError(f"level must be in the range (0, 1), got {self.level!r}.")
        coef, lower, upper = arrays
        return names, coef, lower, upper


def _has_intercept(names: Sequence[str]) -> int:
    """Return 1 if the first name is that of the intercept, and 0 otherwise."""
    return int(len(names) > 0 and names[0] == intercept_name(names[1:]))


def _check_plot(max_features: int, order: str, reference: float | None) -> None:
    if not isinstance(max_features, Integral) or max_features < 1:
        raise ValueError(f"max_features must be a positive integer, got {max_features!r}.")
    if order not in ("magnitude", "given"):
        raise ValueError(f"order must be 'magnitude' or 'given', got {order!r}.")
    if reference is not None and not (
        isinstance(reference, Real) and np.isfinite(float(reference))
    ):
        raise ValueError(f"reference must be a finite number or None, got {reference!r}.")


def _selected(
    candidates: NDArray[np.intp],
    coef: NDArray[np.float64],
    width: NDArray[np.float64],
    max_features: int,
    order: str,
) -> NDArray[np.intp]:
    """Return the indices of the coefficients to show, from top to bottom.

    NaN ranks last in the selection and in the order by magnitude.
    """
    size = np.abs(coef)
    if len(candidates) > max_features:
        with np.errstate(divide="ignore", invalid="ignore"):
            precision = (size / width)[candidates]
        candidates = np.sort(candidates[np.argsort(-precision, kind="stable")[:max_features]])
    if order == "magnitude":
        candidates = candidates[np.argsort(-size[candidates], kind="stable")]
    return candidates
