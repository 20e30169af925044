"""Display of the coefficients as functions of the threshold or the penalty."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.preprocessing import StandardScaler

from .._lazy_data import require_in_memory
from .._path import smooth_l1_path
from .._unwrap import MatrixLike, unwrap, value_of_target
from ._drawing import (
    GREY,
    Kwargs,
    axes,
    check_matplotlib,
    check_positive,
    legend,
    line,
    line_style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

# Parameters of the estimator that determine the path, besides `alpha` and `l1_ratio`.
PENALTY_PARAMETERS = ("positive", "penalty_weights")
SHARED_PARAMETERS = ("loss", "scale", *PENALTY_PARAMETERS, "fit_intercept", "max_iter", "tol")
# Labels of the threshold axis, with the units for each value of the parameter `scale`.
BETA_LABELS = {
    None: "β",
    "mad": "β, in normalised MADs of the residuals",
    "concomitant": "β, in concomitant scales of the residuals",
}
# Spacing of the markers on a curve, in points of the path.
MARKER_SPACING = 3
ALPHA_LABEL = "α"
# Maximum number of ticks on the axis that shows the number of nonzero coefficients.
N_COUNTS = 7


class PathDisplay:
    """Coefficients against the threshold β or the penalty α.

    For small β, the coefficients approach the least absolute deviations estimate; for large β,
    they approach the least-squares estimate. A nearly constant coefficient hardly depends on
    how outliers are treated. A coefficient that varies with β indicates that the rows with
    large residuals disagree with the others. If some coefficients are zero, as with an L1
    penalty, the number of nonzero coefficients is shown above the axes.

    Parameters
    ----------
    betas : array-like of shape (n_betas,)
        Thresholds or penalties in any order.

    coefs : array-like of shape (n_features, n_betas)
        Coefficients at each threshold or penalty.

    feature_names : array-like of shape (n_features,), default=None
        Names of the features in the legend. By default, x0, x1, … are used.

    feature_scales : array-like of shape (n_features,), default=None
        Factors by which the coefficients are multiplied to make them comparable, such as the
        standard deviations of the features. By default, the coefficients are drawn unscaled.

    beta : float, default=None
        Threshold or penalty to mark with a vertical line.

    beta_name : str, default="β"
        Label of the horizontal axis. The part before the first comma also serves as the symbol
        of the marked value in the legend.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
        Curves of the features, in the order of `coefs`.

    beta_line_ : matplotlib Line2D or None
        Vertical line at `beta`.

    count_axis_ : matplotlib SecondaryAxis or None
        Axis that shows the number of nonzero coefficients; None if no coefficient is zero.

    legend_ : matplotlib Legend
        Legend, sorted by coefficient at the largest threshold or penalty.

    ax_ : matplotlib Axes
        Axes of the display.

    figure_ : matplotlib Figure
        Figure that contains the axes.

    See Also
    --------
    skrobust.smooth_l1_path : Coefficients at a sequence of thresholds or penalties.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skrobust import SmoothL1Regressor
    >>> from skrobust.displays import PathDisplay
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    >>> model = SmoothL1Regressor().fit(X, y)
    >>> display = PathDisplay.from_estimator(model, X, y, betas=[1, 10, 100])
    >>> [text.get_text() for text in display.legend_.get_texts()][:3]
    ['s5', 'bmi', 's2']
    """

    def __init__(
        self,
        *,
        betas: ArrayLike,
        coefs: ArrayLike,
        feature_names: Sequence[str] | NDArray[Any] | None = None,
        feature_scales: ArrayLike | None = None,
        beta: float | None = None,
        beta_name: str = "β",
    ) -> None:
        self.betas = betas
        self.coefs = coefs
        self.feature_names = feature_names
        self.feature_scales = feature_scales
        self.beta = beta
        self.beta_name = beta_name

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: MatrixLike,
        y: ArrayLike,
        *,
        betas: int | ArrayLike = 30,
        alphas: int | ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        target: int | None = None,
        standardize: bool = True,
        feature_names: Sequence[str] | NDArray[Any] | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Compute and draw the path with the parameters of a fitted estimator.

        Parameters
        ----------
        estimator : fitted estimator
            A :class:`~skrobust.SmoothL1Regressor`, or a pipeline, a hyperparameter search or a
            :class:`~sklearn.compose.TransformedTargetRegressor` that contains one. The fitted
            transformers of a pipeline or TransformedTargetRegressor are applied to the data.
            The estimator is not changed. A vertical line marks its threshold or, if `alphas` is
            given, its penalty.

        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Features to which the path is fitted.

        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets to which the path is fitted.

        betas : int or array-like of shape (n_betas,), default=30
            Thresholds in the same units as the `beta` parameter of the estimator: multiples of
            the estimated scale or, with ``scale=None``, units of y. If an integer, it gives the
            number of thresholds, which are chosen around the threshold of ``beta="auto"`` as in
            :func:`~skrobust.smooth_l1_path`.

        alphas : int or array-like of shape (n_alphas,), default=None
            Penalties. If given, the coefficients are drawn against the penalty, at the
            threshold of the estimator, and `betas` has no effect. If an integer, it gives the
            number of penalties, and the estimator must have ``l1_ratio > 0``.

        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights, non-negative and not all zero. By default, all rows have the same
            weight.

        target : int, default=None
            Index of the target to show; required if there are several targets.

        standardize : bool, default=True
            Whether to multiply each coefficient by the standard deviation of its feature. All
            coefficients are then in units of y and can be compared.

        feature_names : array-like of shape (n_features,), default=None
            Names of the features in the legend. By default, the column names of the data passed
            to the regressor are used if there are any.

        ax : matplotlib Axes, default=None
            Axes to draw on. If None, a new figure is created.

        **kwargs : dict
            Additional keyword arguments passed to `plot`.

        Returns
        -------
        display : PathDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        NotFittedError
            If the estimator is not fitted.

        ValueError
            If the estimator does not contain a SmoothL1Regressor, a threshold is out of range,
            `target` is missing or out of range, or the data have inconsistent shapes.

        Warns
        -----
        ConvergenceWarning
            If any fit along the path does not converge.
        """
        caller = "PathDisplay.from_estimator"
        check_matplotlib(caller)
        require_in_memory(caller, "display", X=X, y=y, sample_weight=sample_weight)
        data = unwrap(estimator, X, y, target)
        regressor = data.regressor
        parameters = _path_parameters(regressor)
        along: dict[str, Any] = {
            "betas": betas if isinstance(betas, Integral) else _check_grid(betas)
        }
        if alphas is not None:
            grid = alphas if isinstance(alphas, Integral) else _check_grid(alphas, "alphas")
            along = {"alphas": grid, "beta": _selected(regressor, "beta")}
            mark = parameters.pop("alpha")
        path = smooth_l1_path(
            data.X, data.y, sample_weight=sample_weight, **along, **parameters
        )
        feature_scales = None
        if standardize:
            scaler = StandardScaler(with_mean=False)
            feature_scales = scaler.fit(data.X, sample_weight=sample_weight).scale_
        beta = value_of_target(regressor.beta_, target)
        if regressor.scale is not None:
            # `beta_` is in units of y, but the thresholds of the path are multiples of the
            # scale.
            beta /= value_of_target(regressor.scale_, target)
        display = cls(
            betas=path.grid,
            coefs=path.coefs,
            feature_names=data.feature_names if feature_names is None else feature_names,
            feature_scales=feature_scales,
            beta=beta if alphas is None else mark or None,
            beta_name=BETA_LABELS[regressor.scale] if alphas is None else ALPHA_LABEL,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        n_labelled: int = 10,
        line_kwargs: Kwargs | None = None,
    ) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. If None, a new figure is created.

        n_labelled : int, default=10
            Maximum number of features with individual styles and legend entries. The features
            whose coefficients reach the largest absolute values along the path are selected,
            and the other curves are grey.

        line_kwargs : dict, default=None
            Keyword arguments passed to matplotlib's ``plot`` for each curve.

        Returns
        -------
        self : PathDisplay
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
        check_matplotlib("PathDisplay.plot")
        betas, coefs, names = self._sorted_arrays()
        if not isinstance(n_labelled, Integral) or n_labelled < 0:
            raise ValueError(
                f"n_labelled must be an integer of at least 0, got {n_labelled!r}."
            )
        self.ax_ = ax = axes(ax)
        self.figure_ = ax.figure
        by_magnitude = np.argsort(-np.abs(coefs).max(axis=1), kind="stable")
        labelled: list[int] = by_magnitude[:n_labelled].tolist()
        self.lines_: list[Line2D] = []
        for j, path in enumerate(coefs):
            if j in labelled:
                i = labelled.index(j)
                # The markers of successive curves are shifted so that they do not coincide.
                markevery = (i % MARKER_SPACING, MARKER_SPACING)
                style = line_style(i) | {"ms": 5, "zorder": 2.5, "markevery": markevery}
            else:
                style = {"color": GREY, "lw": 0.8, "alpha": 0.6}
            self.lines_.append(line(ax, betas, path, line_kwargs, label=names[j], **style))
        ax.axhline(0, color=GREY, lw=0.8, zorder=0.5)
        # The legend lists the curves in their vertical order at the right edge of the axes.
        handles = [self.lines_[j] for j in sorted(labelled, key=lambda j: -coefs[j, -1])]
        unlabelled = [self.lines_[j] for j in range(len(coefs)) if j not in labelled]
        if unlabelled:
            plural = "s" if len(unlabelled) > 1 else ""
            unlabelled[0].set_label(f"{len(unlabelled)} other{plural}")
            handles.append(unlabelled[0])
        self.beta_line_: Line2D | None = None
        if self.beta is not None:
            beta, symbol = check_positive(self.beta, "beta"), self.beta_name.split(",")[0]
            label = f"{symbol} = {self.beta:.4g}"
            self.beta_line_ = ax.axvline(beta, color=GREY, ls="--", lw=1, label=label)
            handles.append(self.beta_line_)
        ylabel = "Coefficient"
        if self.feature_scales is not None:
            ylabel += " × standard deviation of feature"
        ax.set(xscale="log", xlabel=self.beta_name, ylabel=ylabel)
        self.count_axis_ = self._draw_counts(ax, betas, coefs)
        self.legend_ = legend(ax, handles)
        return self

    def _draw_counts(
        self, ax: Axes, betas: NDArray[np.float64], coefs: NDArray[np.float64]
    ) -> Any:
        """Draw the number of nonzero coefficients above the axes.

        Return the axis that shows this number, or None if all coefficients are nonzero.
        """
        counts = np.count_nonzero(coefs, axis=0)
        if counts.min() == len(coefs):
            return None
        axis = ax.secondary_xaxis("top")
        shown = np.unique(np.linspace(0, len(betas) - 1, N_COUNTS).round().astype(int))
        axis.set_xticks(betas[shown], [str(counts[i]) for i in shown], minor=False)
        axis.set_xticks([], minor=True)
        axis.set_xlabel("nonzero coefficients")
        return axis

    def _sorted_arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
        """Validate the parameters of the display and sort the arrays.

        Return the thresholds or penalties in increasing order, the scaled coefficients in the
        same order, and the names of the features.
        """
        betas, coefs = _check_grid(self.betas), np.asarray(self.coefs, dtype=float)
        if coefs.ndim != 2 or coefs.shape[1] != len(betas):
            raise ValueError(
                f"coefs must have shape (n_features, {len(betas)}), with one column for each "
                f"of the betas, got {coefs.shape}."
            )
        n_features = len(coefs)
        if self.feature_names is None:
            names = [f"x{j}" for j in range(n_features)]
        else:
            names = [str(name) for name in self.feature_names]
        if self.feature_scales is None:
            scales = np.ones(n_features)
        else:
            scales = np.asarray(self.feature_scales, dtype=float)
        shapes = {"feature_names": (len(names),), "feature_scales": scales.shape}
        for parameter, shape in shapes.items():
            if shape != (n_features,):
                raise ValueError(
                    f"{parameter} must have one entry for each of the {n_features} rows of "
                    f"coefs, got shape {shape}."
                )
        order = np.argsort(betas)
        return betas[order], (coefs * scales[:, None])[:, order], names


def _check_grid(values: ArrayLike, name: str = "betas") -> NDArray[np.float64]:
    """Return the thresholds or penalties as a vector; raise a ValueError if one is invalid.

    `name` is the parameter name used in the message.
    """
    array = np.asarray(values)
    if (
        array.ndim != 1
        or array.size == 0
        or array.dtype.kind not in "iuf"
        or not ((array > 0) & (array < np.inf)).all()
    ):
        raise ValueError(
            f"{name} must be a non-empty vector of positive finite numbers, got {values!r}."
        )
    return array.astype(np.float64)


def _path_parameters(regressor: BaseEstimator) -> dict[str, Any]:
    """Return the arguments of `smooth_l1_path` that are parameters of a fitted regressor.

    If `alpha` and `l1_ratio` were selected by cross-validation, the selected values are
    returned.
    """
    required = (*SHARED_PARAMETERS, "beta_", "scale_")
    if not all(hasattr(regressor, name) for name in required):
        raise ValueError(
            "estimator must be a SmoothL1Regressor or a meta-estimator that wraps one, got "
            f"{type(regressor).__name__}."
        )
    chosen = {name: _selected(regressor, name) for name in ("alpha", "l1_ratio")}
    return chosen | {name: getattr(regressor, name) for name in SHARED_PARAMETERS}


def _selected(regressor: BaseEstimator, name: str) -> Any:
    """Return the value of a parameter selected by cross-validation, or else the given value."""
    if hasattr(regressor, f"{name}_") and name != "beta":
        return getattr(regressor, f"{name}_")
    best = getattr(regressor, "best_params_", {})
    return best[name] if name in best else getattr(regressor, name)
