"""Display of the coefficients along the threshold."""

from numbers import Integral

import numpy as np
from sklearn.preprocessing import StandardScaler

from .._path import smooth_l1_path
from .._scale import mad
from .._unwrap import column, of_target, seen
from ._drawing import GREY, axes, check_matplotlib, check_positive, legend, line, line_style

_PARAMETERS = ("loss", "scale", "fit_intercept", "max_iter", "tol")
_BETA_NAMES = {
    None: "β",
    "mad": "β, in normalised MADs of the residuals",
    "concomitant": "β, in concomitant scales of the residuals",
}


class PathDisplay:
    """Coefficients along the threshold β, from least absolute deviations to least squares.

    Where a coefficient is level the choice of β does not matter to it; where it moves,
    rows with large residuals and the others disagree about it.

    Parameters
    ----------
    betas : array-like of shape (n_betas,)
        Thresholds, in any order, such as those of a path of coefficients.

    coefs : array-like of shape (n_features, n_betas)
        Coefficients at each threshold.

    feature_names : array-like of shape (n_features,), default=None
        Names for the legend; by default x0, x1, ….

    feature_scales : array-like of shape (n_features,), default=None
        What to multiply coefficients by to make them comparable, such as the standard
        deviations of the features; by default they are drawn as they are.

    beta : float, default=None
        A threshold to mark.

    beta_name : str, default="β"
        Label of the axis of thresholds.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
        The line of each feature, in the order of `coefs`.

    beta_line_ : matplotlib Line2D or None
        The mark at `beta`.

    legend_ : matplotlib Legend
        The legend, right of the axes, in the order of the lines at the largest threshold.

    ax_ : matplotlib Axes
        The axes.

    figure_ : matplotlib Figure
        The figure of the axes.

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
        betas,
        coefs,
        feature_names=None,
        feature_scales=None,
        beta=None,
        beta_name="β",
    ):
        self.betas = betas
        self.coefs = coefs
        self.feature_names = feature_names
        self.feature_scales = feature_scales
        self.beta = beta
        self.beta_name = beta_name

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y,
        *,
        betas=30,
        sample_weight=None,
        target=None,
        standardize=True,
        ax=None,
        **kwargs,
    ):
        """Fit along β with the other parameters of a fitted estimator, and draw.

        Parameters
        ----------
        estimator : fitted estimator
            A :class:`~skrobust.SmoothL1Regressor`, also inside a pipeline, a search or a
            :class:`~sklearn.compose.TransformedTargetRegressor`, whose transformers are used
            as they are fitted. It is not changed, and its own threshold is marked.

        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Features.

        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets.

        betas : int or array-like, default=30
            The thresholds, as the parameter `beta`: in units of y, or of the scale where
            that is estimated. A number asks for as many, in a constant ratio, from 1/20 of a
            normalised MAD of the residuals (from 1.01 with ``scale="concomitant"``, which
            needs ``beta > 1``) to 20 of them, or to where the fit is least squares.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        target : int, default=None
            Which target to show, where there are several.

        standardize : bool, default=True
            Whether coefficients are multiplied by the standard deviation of their feature,
            so that they are all in units of y and can be compared.

        ax : matplotlib Axes, default=None
            Where to draw; by default on a new figure.

        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : PathDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        NotFittedError
            If the estimator is not fitted.

        ValueError
            If the estimator is not a SmoothL1Regressor, a threshold is not positive, `target`
            is missing or out of range, or the data do not match.
        """
        check_matplotlib("PathDisplay.from_estimator")
        inner = seen(estimator, X, y, target)
        model = inner.regressor
        parameters = _parameters(model)
        own, scale = of_target(model.beta_, target), of_target(model.scale_, target)
        # What the parameter beta is in units of.
        unit = 1.0 if model.scale is None else scale
        if isinstance(betas, Integral):
            residuals = inner.y - column(model.predict(inner.X), target, "The prediction")
            betas = _grid(betas, model.scale, residuals / unit)
        betas, coefs, *_ = smooth_l1_path(
            inner.X,
            inner.y,
            betas=_check_betas(betas),
            sample_weight=sample_weight,
            **parameters,
        )
        scales = None
        if standardize:
            scaler = StandardScaler(with_mean=False)
            scales = scaler.fit(inner.X, sample_weight=sample_weight).scale_
        display = cls(
            betas=betas,
            coefs=coefs,
            feature_names=inner.feature_names,
            feature_scales=scales,
            beta=own / unit,
            beta_name=_BETA_NAMES[model.scale],
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, n_labelled=10, line_kwargs=None):
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; by default on a new figure.

        n_labelled : int, default=10
            Most features to tell apart, those whose coefficients are largest anywhere; the
            others are grey.

        line_kwargs : dict, default=None
            Passed to matplotlib's ``plot`` for each line.

        Returns
        -------
        self : PathDisplay
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
        check_matplotlib("PathDisplay.plot")
        betas, coefs, names = self._checked()
        if not isinstance(n_labelled, Integral) or n_labelled < 0:
            raise ValueError(
                f"n_labelled must be an integer of at least 0, got {n_labelled!r}."
            )
        self.ax_ = ax = axes(ax)
        self.figure_ = ax.figure
        largest = np.argsort(-np.abs(coefs).max(axis=1), kind="stable")[:n_labelled]
        others = len(coefs) - len(largest)
        self.lines_ = []
        for j, path in enumerate(coefs):
            if j in largest:
                i = list(largest).index(j)
                # A marker now and then, not where the next line has its own.
                look = line_style(i) | {"ms": 5, "zorder": 2.5, "markevery": (i % 3, 3)}
            else:
                look = {"color": GREY, "lw": 0.8, "alpha": 0.6}
            self.lines_.append(line(ax, betas, path, line_kwargs, label=names[j], **look))
        ax.axhline(0, color=GREY, lw=0.8, zorder=0.5)
        self.beta_line_ = None
        if self.beta is not None:
            beta, label = check_positive(self.beta, "beta"), f"β = {self.beta:.4g}"
            self.beta_line_ = ax.axvline(beta, color=GREY, ls="--", lw=1, label=label)
        comparable = "" if self.feature_scales is None else " × standard deviation of feature"
        ax.set(xscale="log", xlabel=self.beta_name, ylabel="Coefficient" + comparable)
        # From top to bottom as the lines end.
        shown = [self.lines_[j] for j in sorted(largest, key=lambda j: -coefs[j, -1])]
        if others:
            grey = next(artist for j, artist in enumerate(self.lines_) if j not in largest)
            grey.set_label(f"{others} other{'s' * (others > 1)}")
            shown.append(grey)
        if self.beta_line_ is not None:
            shown.append(self.beta_line_)
        self.legend_ = legend(ax, shown)
        return self

    def _checked(self):
        """(thresholds in increasing order, coefficients to draw, names of the features)."""
        betas, coefs = _check_betas(self.betas), np.asarray(self.coefs, dtype=float)
        if coefs.ndim != 2 or coefs.shape[1] != len(betas):
            raise ValueError(
                f"coefs must have shape (n_features, {len(betas)}), with a column for each of "
                f"betas, got {coefs.shape}."
            )
        names, scales = self.feature_names, self.feature_scales
        names = [f"x{j}" for j in range(len(coefs))] if names is None else list(map(str, names))
        scales = np.ones(len(coefs)) if scales is None else np.asarray(scales, dtype=float)
        for name, value in {"feature_names": names, "feature_scales": scales}.items():
            if np.shape(value) != (len(coefs),):
                raise ValueError(
                    f"{name} must have one entry for each of the {len(coefs)} rows of coefs, "
                    f"got shape {np.shape(value)}."
                )
        order = np.argsort(betas)
        return betas[order], (coefs * scales[:, None])[:, order], names


def _check_betas(betas):
    values = np.asarray(betas)
    if (
        values.ndim != 1
        or values.size == 0
        or values.dtype.kind not in "iuf"
        or not ((values > 0) & (values < np.inf)).all()
    ):
        raise ValueError(f"betas must be one or more positive finite numbers, got {betas!r}.")
    return values.astype(float)


def _parameters(model):
    """The parameters of a fitted regressor, or of one that chose its penalty, but for β."""
    if not all(hasattr(model, name) for name in (*_PARAMETERS, "beta_", "scale_")):
        raise ValueError(
            "estimator must be a SmoothL1Regressor or one around it, got a "
            f"{type(model).__name__}."
        )
    alpha = model.alpha_ if hasattr(model, "alpha_") else model.alpha
    return {"alpha": alpha} | {name: getattr(model, name) for name in _PARAMETERS}


def _grid(n_betas, scale, residuals):
    """So many thresholds in a constant ratio, in the units of the residuals."""
    if n_betas < 1:
        raise ValueError(f"betas must be at least one threshold, got {n_betas}.")
    deviation = mad(residuals)
    if deviation == 0:
        raise ValueError(
            f"betas={n_betas} asks for thresholds about the size of the residuals, but more "
            "than half of them are 0; pass an array of betas."
        )
    low = 1.01 if scale == "concomitant" else deviation / 20
    # Above all residuals the fit is least squares, and the lines are level.
    high = min(20 * deviation, 1.5 * np.abs(residuals).max())
    return np.geomspace(low, max(high, 2 * low), n_betas)
