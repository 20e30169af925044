"""Display that compares fits of one feature."""

from numbers import Integral

import numpy as np
from scipy import sparse
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted

from .._unwrap import column, columns_of, innermost, target_name_of
from ._drawing import (
    GREY,
    axes,
    check_matplotlib,
    check_max_markers,
    count,
    legend,
    line,
    line_style,
    marker_area,
    sample,
    scatter,
)

# Rows over whose other features a curve is averaged.
_N_AVERAGED = 100


class FitDisplay:
    """Several fits over the same scatter, along one feature.

    Parameters
    ----------
    x : ndarray of shape (n_samples,)
        The feature.

    y : ndarray of shape (n_samples,)
        Targets.

    grid : ndarray of shape (n_grid,)
        Increasing values of the feature.

    curves : dict of str to ndarray of shape (n_grid,)
        What each estimator predicts at the grid, in units of y, under its name.

    feature_name : str, default=None
        Name of the feature in the labels.

    target_name : str, default=None
        Name of the target in the labels.

    Attributes
    ----------
    scatter_ : matplotlib PathCollection
        Markers of the rows.

    lines_ : list of matplotlib Line2D
        The curves.

    beyond_ : list of matplotlib PathCollection
        Triangles at the edge, above and below, for rows that are further out; only where
        there are such rows.

    legend_ : matplotlib Legend
        The legend, right of the axes.

    ax_ : matplotlib Axes
        The axes.

    figure_ : matplotlib Figure
        The figure of the axes.

    See Also
    --------
    sklearn.inspection.PartialDependenceDisplay : One estimator, many features.

    Notes
    -----
    The axis of y shows the curves and the bulk of the rows, up to three interquartile ranges
    beyond the quartiles, so that far outliers do not make the fits look the same. Rows
    further out are triangles at the edge, and counted in the legend.

    Of many rows `max_markers` are drawn, a random sample that is the same each time; the
    triangles take at most half of them.

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

    def __init__(self, *, x, y, grid, curves, feature_name=None, target_name=None):
        self.x = x
        self.y = y
        self.grid = grid
        self.curves = curves
        self.feature_name = feature_name
        self.target_name = target_name

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y,
        *,
        feature=None,
        target=None,
        grid_resolution=100,
        feature_name=None,
        target_name=None,
        ax=None,
        **kwargs,
    ):
        """Draw what fitted estimators predict along one feature.

        Parameters
        ----------
        estimator : fitted estimator, or list or dict of them
            Any regressors, also pipelines. Those of a list are named after their class or, if
            a class comes twice, as they are written with their parameters; a dict names
            them as you wish.

        X : {array-like, dataframe} of shape (n_samples, n_features)
            Features, dense.

        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets.

        feature : int or str, default=None
            Which feature to show, where there are several: its index, or its name in a
            dataframe. Predictions are then averaged over the others in 100 of the rows,
            which makes a line's level comparable to the rows but not its distance to each.

        target : int, default=None
            Which target to show, where there are several.

        grid_resolution : int, default=100
            Number of points of each curve, at least 2.

        feature_name, target_name : str, default=None
            Names in the labels; by default those of X and y, if they have any.

        ax : matplotlib Axes, default=None
            Where to draw; by default on a new figure.

        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : FitDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        NotFittedError
            If an estimator is not fitted.

        TypeError
            If X is sparse.

        ValueError
            If `feature` or `target` is missing or does not exist, two estimators are
            written alike, or the data do not match.
        """
        check_matplotlib("FitDisplay.from_estimator")
        estimators = _named(estimator)
        if sparse.issparse(X):
            raise TypeError("X is a sparse matrix; pass a dense one, such as X.toarray().")
        X = X if columns_of(X) is not None else np.asarray(X)
        j = _feature_index(X, feature)
        names = columns_of(X)
        if feature_name is None:
            feature_name = f"Feature {j}" if names is None else names[j]
        if target_name is None:
            target_name = target_name_of(y, target)
        try:
            x = column(X[X.columns[j]] if names else X[:, j], None, "X")
        except ValueError as error:
            raise ValueError(f"{feature_name!r} must be finite numbers: {error}") from error
        y = column(y, target, "y")
        check_consistent_length(x, y)
        if not isinstance(grid_resolution, Integral) or grid_resolution < 2:
            raise ValueError(
                f"grid_resolution must be an integer of at least 2, got {grid_resolution!r}."
            )
        grid = np.linspace(x.min(), x.max(), grid_resolution)
        X_grid = _along(X, j, grid)
        curves: dict = {}
        for name, fitted in estimators.items():
            y_grid = column(fitted.predict(X_grid), target, f"The prediction of {name}")
            curves[name] = y_grid.reshape(len(grid), -1).mean(axis=1)
        display = cls(
            x=x,
            y=y,
            grid=grid,
            curves=curves,
            feature_name=feature_name,
            target_name=target_name,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(
        self, ax=None, *, clip=True, max_markers=2_000, scatter_kwargs=None, line_kwargs=None
    ):
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; by default on a new figure.

        clip : bool, default=True
            Whether rows far from the bulk are triangles at the edge (see Notes above) or
            the axis of y shows all.

        max_markers : int, default=2000
            Most rows to draw.

        scatter_kwargs : dict, default=None
            Passed to matplotlib's ``scatter`` for the rows.

        line_kwargs : dict of str to dict, default=None
            Under the name of an estimator what is passed to matplotlib's ``plot`` for its
            curve.

        Returns
        -------
        self : FitDisplay
            The display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        ValueError
            If the arrays do not match, or a parameter is out of its range.

        TypeError
            If `ax` is not matplotlib Axes.
        """
        check_matplotlib("FitDisplay.plot")
        max_markers = check_max_markers(max_markers)
        x, y, grid = np.asarray(self.x), np.asarray(self.y), np.asarray(self.grid)
        curves = {name: np.asarray(curve) for name, curve in self.curves.items()}
        _check(x, y, grid, curves, line_kwargs)
        self.ax_ = ax = axes(ax)
        self.figure_ = ax.figure
        low, high = _bulk(y, curves) if clip else (y.min(), y.max())
        above, below = y > high, y < low
        within = ~above & ~below
        most = max(1, max_markers // 4)  # triangles of each kind
        n_beyond = min(most, int(above.sum())) + min(most, int(below.sum()))

        def draw(rows, heights, size, where="", **look):
            shown = sample(np.flatnonzero(rows), size)
            label = count(int(rows.sum()), "rows", len(shown), where)
            return scatter(
                ax, x[shown], heights[shown], scatter_kwargs, label=label, color=GREY, **look
            )

        area = marker_area(min(max_markers, len(y)))
        self.scatter_ = draw(
            within, y, max_markers - n_beyond, s=area, alpha=0.5, linewidth=0.5
        )
        margin = 0.05 * (high - low)
        self.beyond_ = [
            draw(rows, np.full(len(y), edge), most, where, marker=marker, s=30, linewidth=0.5)
            for rows, edge, where, marker in [
                (above, high + margin, " above", "^"),
                (below, low - margin, " below", "v"),
            ]
            if rows.any()
        ]
        self.lines_ = []
        for i, (name, curve) in enumerate(curves.items()):
            # A marker now and then, at another place on each line.
            every = (3 * i % 15, 15)
            given = (line_kwargs or {}).get(name)
            look = line_style(i) | {"lw": 2, "markevery": every, "label": name}
            self.lines_.append(line(ax, grid, curve, given, **look))
        if clip and high > low:
            ax.set_ylim(low - 2 * margin, high + 2 * margin)
        ax.set(xlabel=self.feature_name or "Feature", ylabel=self.target_name or "y")
        self.legend_ = legend(ax)
        return self


def _named(estimators):
    """The estimators, all fitted, under names of their own."""
    if not isinstance(estimators, dict):
        listed = list(estimators) if isinstance(estimators, (list, tuple)) else [estimators]
        hearts = [innermost(fitted) for fitted in listed]
        names = [type(heart).__name__ for heart in hearts]
        if len(set(names)) < len(names):
            names = [" ".join(repr(heart).split()) for heart in hearts]
        if len(set(names)) < len(names):
            raise ValueError(
                f"Two estimators are both written {max(names, key=names.count)}; pass a dict "
                "that names them."
            )
        estimators = dict(zip(names, listed, strict=True))
    if not estimators:
        raise ValueError(f"estimator must be at least one estimator, got {estimators!r}.")
    for fitted in estimators.values():
        check_is_fitted(fitted)
    return estimators


def _feature_index(X, feature):
    """The index of the feature to show."""
    if len(X.shape) != 2:
        raise ValueError(
            f"X must have two dimensions, got {len(X.shape)}; for one feature X.reshape(-1, 1)."
        )
    n_features, names = X.shape[1], columns_of(X)
    if feature is None and n_features == 1:
        return 0
    if isinstance(feature, str) and names is not None and feature in names:
        return names.index(feature)
    if isinstance(feature, Integral) and 0 <= int(feature) < n_features:
        return int(feature)
    choice = f"an index from 0 to {n_features - 1}" + (
        " or a name of a column" if names else ""
    )
    raise ValueError(
        f"feature must say which of the {n_features} features to show, {choice}, got "
        f"{feature!r}."
    )


def _along(X, j, grid):
    """Some rows of X (one, if there is no other feature) for each grid value of feature j."""
    n_rows = 1 if X.shape[1] == 1 else min(len(X), _N_AVERAGED)
    rows = np.random.default_rng(0).choice(len(X), n_rows, replace=False)
    rows, values = np.tile(rows, len(grid)), np.repeat(grid, n_rows)
    if columns_of(X) is not None:
        return type(X)(
            {
                name: values if i == j else np.asarray(X[name])[rows]
                for i, name in enumerate(X.columns)
            }
        )
    X = X[rows].astype(np.result_type(X, np.float64))
    X[:, j] = values
    return X


def _bulk(y, curves):
    """Where the curves and the bulk of y are."""
    first, third = np.quantile(y, [0.25, 0.75])
    reach = 3 * (third - first) if third > first else np.inf  # most of y is one value
    bulk = y[(y >= first - reach) & (y <= third + reach)]
    shown = np.concatenate([bulk, *curves.values()])
    return shown.min(), shown.max()


def _check(x, y, grid, curves, line_kwargs):
    if x.ndim != 1 or x.shape != y.shape or x.size == 0:
        raise ValueError(
            "x and y must be vectors of the same length, at least 1, got the shapes "
            f"{x.shape} and {y.shape}."
        )
    if grid.ndim != 1 or not (np.diff(grid) >= 0).all():
        raise ValueError(f"grid must be an increasing vector, got {grid!r}.")
    for name, curve in curves.items():
        if curve.shape != grid.shape:
            raise ValueError(
                f"curves[{name!r}] must have grid's shape {grid.shape}, got {curve.shape}."
            )
    unknown = set(line_kwargs or {}) - set(curves)
    if unknown:
        raise ValueError(
            f"line_kwargs must be dicts under the names {list(curves)}, got the name "
            f"{unknown.pop()!r}."
        )
