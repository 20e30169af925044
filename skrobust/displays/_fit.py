"""Display of the predictions of one or more estimators as functions of one feature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted

from .._array_api import as_numpy
from .._lazy_data import require_in_memory
from .._unwrap import MatrixLike, column, column_names, innermost_estimator, target_name_of
from ._drawing import (
    GREY,
    Kwargs,
    axes,
    check_matplotlib,
    check_max_markers,
    count_label,
    legend,
    line,
    line_style,
    marker_area,
    sample,
    scatter,
)
from ._rows import draw_smooth
from ._statsmodels import StatsmodelsRegressor, as_estimator

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.lines import Line2D

# Maximum number of rows over which the predictions of a curve are averaged.
N_AVERAGED_ROWS = 100
# The vertical axis covers the rows within this many interquartile ranges of the quartiles of y.
N_INTERQUARTILE_RANGES = 3
# Spacing of the markers on a curve, in grid points.
MARKER_SPACING = 15


class FitDisplay:
    """Fitted curves of one or more estimators over a scatter plot of y against one feature.

    If the estimators use several features, each curve is the average of the predictions over
    the other features (partial dependence), as stated in the title. The vertical distance of a
    row from the curve is then not the residual of the row, unless partial residuals are drawn
    instead of the targets (a component-plus-residual plot [1]_).

    Parameters
    ----------
    x : array-like of shape (n_samples,)
        Values of the feature.

    y : array-like of shape (n_samples,)
        Target values, or partial residuals if `partial_residuals` is True.

    grid : array-like of shape (n_grid,)
        Feature values at which the curves are evaluated, in non-decreasing order.

    curves : dict of str to array-like of shape (n_grid,)
        Predictions on the grid, in units of y, keyed by estimator name.

    feature_name : str, default=None
        Name of the feature in the axis labels.

    target_name : str, default=None
        Name of the target in the axis labels.

    n_averaged : int, default=1
        Number of rows over which the predictions of each curve are averaged. It is stated in
        the title if it exceeds 1.

    partial_residuals : bool, default=False
        Whether `y` contains partial residuals instead of targets. If so, a smooth curve is
        drawn through them.

    Attributes
    ----------
    scatter_ : matplotlib PathCollection
        Markers of the rows within the axes.

    lines_ : list of matplotlib Line2D
        Curves of the estimators, in the order of `curves`.

    beyond_ : list of matplotlib PathCollection
        Triangles at the upper and lower edges of the axes for the rows beyond these edges. An
        edge with no rows beyond it has no entry.

    smooth_ : matplotlib Line2D or None
        Smooth curve through the partial residuals; None if `partial_residuals` is False.

    note_ : matplotlib Text
        Right-aligned title. It gives the number of rows averaged over if there is more than
        one, and is empty otherwise.

    legend_ : matplotlib Legend
        Legend, placed within the axes if there is space.

    ax_ : matplotlib Axes
        Axes of the display.

    figure_ : matplotlib Figure
        Figure that contains the axes.

    See Also
    --------
    ResidualsDisplay : Residuals of a fit against its fitted values.
    sklearn.inspection.PartialDependenceDisplay : One estimator and several features.

    Notes
    -----
    The vertical axis covers the curves and the rows within three interquartile ranges of the
    quartiles of y, because distant outliers would otherwise make the curves indistinguishable.
    Rows beyond this range are drawn as triangles at the edges of the axes and counted in the
    legend.

    If there are more than `max_markers` rows, a random sample with a fixed seed is drawn. At
    most half of the markers are triangles.

    References
    ----------
    .. [1] J. Fox and S. Weisberg, "An R Companion to Applied Regression", Sage, 2019; the
           function ``crPlots`` of the R package ``car``.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import LinearRegression
    >>> from skrobust import SmoothL1Regressor
    >>> from skrobust.displays import FitDisplay
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> X = X[["bmi"]]
    >>> y[X["bmi"] > 0.1] = 3000
    >>> models = [LinearRegression().fit(X, y), SmoothL1Regressor().fit(X, y)]
    >>> display = FitDisplay.from_estimator(models, X, y)
    >>> [text.get_text() for text in display.legend_.get_texts()]
    ['430 rows', '12 rows above', 'LinearRegression', 'SmoothL1Regressor']
    """

    def __init__(
        self,
        *,
        x: ArrayLike,
        y: ArrayLike,
        grid: ArrayLike,
        curves: Mapping[str, ArrayLike],
        feature_name: str | None = None,
        target_name: str | None = None,
        n_averaged: int = 1,
        partial_residuals: bool = False,
    ) -> None:
        self.x = x
        self.y = y
        self.grid = grid
        self.curves = curves
        self.feature_name = feature_name
        self.target_name = target_name
        self.n_averaged = n_averaged
        self.partial_residuals = partial_residuals

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator | Sequence[BaseEstimator] | Mapping[str, BaseEstimator],
        X: MatrixLike,
        y: ArrayLike,
        *,
        feature: int | str | None = None,
        target: int | None = None,
        partial_residuals: bool = False,
        grid_resolution: int = 100,
        feature_name: str | None = None,
        target_name: str | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the predictions of fitted estimators as functions of one feature.

        Parameters
        ----------
        estimator : fitted estimator, or list or dict of fitted estimators
            Regressors, including meta-estimators such as pipelines, and results of statsmodels
            linear models. The estimators in a list are named after their classes or, if the
            class names are not distinct, by their representations with parameters. The keys of
            a dict are used as names.

        X : {array-like, dataframe} of shape (n_samples, n_features)
            Features. Sparse matrices are not supported.

        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Target values.

        feature : int or str, default=None
            Index of the feature to show, or its column name if X is a dataframe; required if
            there are several features. The predictions are then averaged over the values of the
            other features in at most 100 rows (partial dependence).

        target : int, default=None
            Index of the target to show; required if there are several targets.

        partial_residuals : bool, default=False
            Whether to draw each row at its partial residual (the value of the curve plus the
            residual of the row) instead of its target, together with a robust smooth curve
            (lowess) through the partial residuals. If the smooth curve departs from the fitted
            curve, the estimator does not describe the effect of the feature correctly. Requires
            a single estimator.

        grid_resolution : int, default=100
            Number of points on each curve, at least 2.

        feature_name, target_name : str, default=None
            Names of the feature and the target in the axis labels. By default, the column names
            of X and y are used if they have any.

        ax : matplotlib Axes, default=None
            Axes to draw on. If None, a new figure is created.

        **kwargs : dict
            Additional keyword arguments passed to `plot`.

        Returns
        -------
        display : FitDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        NotFittedError
            If an estimator is not fitted.

        TypeError
            If X is sparse.

        ValueError
            If `feature` or `target` is missing or out of range, the feature is not numeric, two
            estimators in a list have the same representation, `partial_residuals` is True for
            several estimators, or the data have inconsistent shapes.
        """
        check_matplotlib("FitDisplay.from_estimator")
        require_in_memory("FitDisplay.from_estimator", "display", X=X, y=y)
        estimators = _named_estimators(estimator)
        (X,), convert = as_numpy(X=X)
        if sparse.issparse(X):
            raise TypeError(
                "X must be dense, got a sparse matrix; pass a dense array, such as X.toarray()."
            )
        names = column_names(X)
        # An array, or a dataframe from any library.
        features: Any = np.asarray(X) if names is None else X
        j = _feature_index(features, feature)
        if feature_name is None:
            feature_name = f"Feature {j}" if names is None else names[j]
        if target_name is None:
            target_name = target_name_of(y, target)
        try:
            values = features[:, j] if names is None else features[features.columns[j]]
            x = column(values, None, "X")
        except ValueError as error:
            raise ValueError(
                f"Feature {feature_name!r} must consist of finite numbers: {error}"
            ) from error
        y = column(y, target, "y")
        check_consistent_length(x, y)
        if not isinstance(grid_resolution, Integral) or grid_resolution < 2:
            raise ValueError(
                f"grid_resolution must be an integer of at least 2, got {grid_resolution!r}."
            )
        grid = np.linspace(x.min(), x.max(), grid_resolution)
        # Without other features, all rows have the same predictions, so one row suffices.
        n_averaged = 1 if features.shape[1] == 1 else min(len(x), N_AVERAGED_ROWS)
        X_grid = _rows_on_grid(features, j, grid, n_averaged)
        curves = {}
        for name, regressor in estimators.items():
            predictions = regressor.predict(convert(X_grid))
            predictions = column(predictions, target, f"prediction of {name}")
            curves[name] = predictions.reshape(len(grid), -1).mean(axis=1)
        if partial_residuals:
            if len(estimators) > 1:
                raise ValueError(
                    f"partial_residuals=True requires one estimator, got {len(estimators)}."
                )
            ((name, regressor),) = estimators.items()
            predictions = column(regressor.predict(convert(X)), target, f"prediction of {name}")
            y = np.interp(x, grid, curves[name]) + y - predictions
        display = cls(
            x=x,
            y=y,
            grid=grid,
            curves=curves,
            feature_name=feature_name,
            target_name=target_name,
            n_averaged=n_averaged,
            partial_residuals=partial_residuals,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        clip: bool = True,
        max_markers: int = 2_000,
        scatter_kwargs: Kwargs | None = None,
        line_kwargs: Mapping[str, Kwargs] | None = None,
        smooth_kwargs: Kwargs | None = None,
    ) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. If None, a new figure is created.

        clip : bool, default=True
            Whether to limit the vertical axis as described in the notes of the class and draw
            triangles for the rows beyond its limits. If False, the axis covers all rows.

        max_markers : int, default=2000
            Maximum number of rows to draw.

        scatter_kwargs : dict, default=None
            Keyword arguments passed to matplotlib's ``scatter`` for the rows.

        line_kwargs : dict of str to dict, default=None
            Keyword arguments passed to matplotlib's ``plot`` for each curve, keyed by estimator
            name.

        smooth_kwargs : dict, default=None
            Keyword arguments passed to matplotlib's ``plot`` for the smooth curve.

        Returns
        -------
        self : FitDisplay
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
        check_matplotlib("FitDisplay.plot")
        max_markers = check_max_markers(max_markers)
        x, y, grid = np.asarray(self.x), np.asarray(self.y), np.asarray(self.grid)
        curves = {name: np.asarray(curve) for name, curve in self.curves.items()}
        line_kwargs = {} if line_kwargs is None else line_kwargs
        _check_arrays(x, y, grid, curves, line_kwargs)
        self.ax_ = ax = axes(ax)
        self.figure_ = ax.figure
        low, high = _vertical_range(y, curves) if clip else (y.min(), y.max())
        above, below = y > high, y < low
        max_triangles = max(1, max_markers // 4)  # at each edge
        n_triangles = sum(min(max_triangles, int(rows.sum())) for rows in (above, below))

        def draw_rows(
            rows: NDArray[np.bool_],
            heights: NDArray[Any],
            max_drawn: int,
            suffix: str = "",
            **style: Any,
        ) -> PathCollection:
            drawn = sample(np.flatnonzero(rows), max_drawn)
            label = count_label(int(rows.sum()), "rows", len(drawn), suffix)
            style |= {"label": label, "color": GREY, "linewidth": 0.5}
            return scatter(ax, x[drawn], heights[drawn], scatter_kwargs, **style)

        area = marker_area(min(max_markers, len(y)))
        self.scatter_ = draw_rows(
            ~above & ~below, y, max_markers - n_triangles, s=area, alpha=0.5
        )
        margin = 0.05 * (high - low)
        edges = [
            (above, high + margin, " above", "^"),
            (below, low - margin, " below", "v"),
        ]
        self.beyond_ = [
            draw_rows(rows, np.full(len(y), edge), max_triangles, suffix, marker=marker, s=30)
            for rows, edge, suffix, marker in edges
            if rows.any()
        ]
        self.lines_: list[Line2D] = []
        for i, (name, curve) in enumerate(curves.items()):
            # The markers of successive curves are shifted so that they do not coincide.
            markevery = (3 * i % MARKER_SPACING, MARKER_SPACING)
            style = line_style(i) | {"lw": 2, "markevery": markevery, "label": name}
            self.lines_.append(line(ax, grid, curve, line_kwargs.get(name), **style))
        if clip and high > low:
            ax.set_ylim(low - 2 * margin, high + 2 * margin)
        self.smooth_ = draw_smooth(ax, x, y, smooth_kwargs) if self.partial_residuals else None
        label = self.target_name or "y"
        if self.partial_residuals:
            label = f"Mean prediction of {label} + residual"
        ax.set(xlabel=self.feature_name or "Feature", ylabel=label)
        note = f"mean over the other features of {self.n_averaged:,} rows"
        note = note if self.n_averaged > 1 else ""
        self.note_ = ax.set_title(note, loc="right", fontsize="medium")
        self.legend_ = legend(ax)
        return self


def _named_estimators(
    estimator: BaseEstimator | Sequence[BaseEstimator] | Mapping[str, BaseEstimator],
) -> Mapping[str, BaseEstimator]:
    """Return a dict of estimators with distinct names after checking that they are fitted."""
    named: Mapping[str, BaseEstimator]
    if isinstance(estimator, dict):
        named = {name: as_estimator(each) for name, each in estimator.items()}
    else:
        given = estimator if isinstance(estimator, (list, tuple)) else [estimator]
        estimators = [as_estimator(each) for each in given]
        regressors = [innermost_estimator(each) for each in estimators]
        names = [
            each.name if isinstance(each, StatsmodelsRegressor) else type(each).__name__
            for each in regressors
        ]
        if len(set(names)) < len(names):
            names = [" ".join(repr(regressor).split()) for regressor in regressors]
        if len(set(names)) < len(names):
            raise ValueError(
                f"Two estimators have the representation {max(names, key=names.count)}; pass a "
                "dict with a name for each estimator."
            )
        named = dict(zip(names, estimators, strict=True))
    if not named:
        raise ValueError(f"estimator must contain at least one estimator, got {estimator!r}.")
    for fitted_estimator in named.values():
        check_is_fitted(fitted_estimator)
    return named


def _feature_index(X: Any, feature: int | str | None) -> int:
    """Return the index of the feature to show."""
    if len(X.shape) != 2:
        raise ValueError(
            f"X must have two dimensions, got {len(X.shape)}; use X.reshape(-1, 1) for a "
            "single feature."
        )
    n_features, names = X.shape[1], column_names(X)
    if feature is None and n_features == 1:
        return 0
    if isinstance(feature, str) and names is not None and feature in names:
        return names.index(feature)
    if isinstance(feature, Integral) and 0 <= int(feature) < n_features:
        return int(feature)
    valid = f"an integer in the range [0, {n_features - 1}]"
    if names is not None:
        valid += " or a column name of X"
    raise ValueError(
        f"feature must select one of the {n_features} features by {valid}, got {feature!r}."
    )


def _rows_on_grid(X: Any, j: int, grid: NDArray[np.float64], n_rows: int) -> Any:
    """Return rows of X, repeated for each grid value, with feature j set to that value.

    The same randomly selected rows are used for all grid values.
    """
    rows = np.random.default_rng(0).choice(len(X), n_rows, replace=False)
    rows, values = np.tile(rows, len(grid)), np.repeat(grid, n_rows)
    if column_names(X) is not None:
        dataframe_type = type(X)
        return dataframe_type(
            {
                name: values if i == j else np.asarray(X[name])[rows]
                for i, name in enumerate(X.columns)
            }
        )
    X_grid = X[rows].astype(np.result_type(X, np.float64))
    X_grid[:, j] = values
    return X_grid


def _vertical_range(y: NDArray[Any], curves: Mapping[str, NDArray[Any]]) -> tuple[float, float]:
    """Return the minimum and maximum of the curves and of y, excluding distant outliers."""
    first, third = np.quantile(y, [0.25, 0.75])
    # If most values of y are equal, the interquartile range is 0 and all rows are included.
    margin = N_INTERQUARTILE_RANGES * (third - first) if third > first else np.inf
    bulk = y[(y >= first - margin) & (y <= third + margin)]
    values = np.concatenate([bulk, *curves.values()])
    return values.min(), values.max()


def _check_arrays(
    x: NDArray[Any],
    y: NDArray[Any],
    grid: NDArray[Any],
    curves: Mapping[str, NDArray[Any]],
    line_kwargs: Mapping[str, Kwargs],
) -> None:
    """Raise a ValueError if shapes differ, or a key of `line_kwargs` names no curve."""
    if x.ndim != 1 or x.shape != y.shape or x.size == 0:
        raise ValueError(
            "x and y must be non-empty vectors of the same length, got the shapes "
            f"{x.shape} and {y.shape}."
        )
    if grid.ndim != 1 or not (np.diff(grid) >= 0).all():
        raise ValueError(f"grid must be a non-decreasing vector, got {grid!r}.")
    for name, curve in curves.items():
        if curve.shape != grid.shape:
            raise ValueError(
                f"curves[{name!r}] must have the same shape as grid, {grid.shape}, got "
                f"{curve.shape}."
            )
    unknown = set(line_kwargs) - set(curves)
    if unknown:
        raise ValueError(
            f"Each key of line_kwargs must be one of the curve names {list(curves)}, got "
            f"{unknown.pop()!r}."
        )
