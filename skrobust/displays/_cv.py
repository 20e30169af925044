"""Display of the cross-validation scores of a search over the threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from .._unwrap import find_estimator_with
from ._drawing import Kwargs, axes, check_matplotlib, check_positive, legend, line, line_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection
    from matplotlib.lines import Line2D

# Number of curves that a reader can distinguish; those with the best scores are drawn.
MAX_CURVES = 6


class CVDisplay:
    """Mean cross-validation score against β, with its spread over the folds and the best β.

    Parameters
    ----------
    betas : array-like of shape (n_candidates,)
        Thresholds of the candidates in any order, in the units of the parameter `beta` of
        the estimator. The score of a threshold that is not a number, such as "auto", is drawn
        as a horizontal line.

    mean_scores : array-like of shape (n_candidates,)
        Mean score of each candidate over the folds, in the units of the scorer.

    std_scores : array-like of shape (n_candidates,), default=None
        Standard deviation of the scores of each candidate over the folds.

    best_index : int, default=None
        Index of the selected candidate. By default the candidate with the best mean score.

    groups : array-like of shape (n_candidates,) of str, default=None
        Other parameters of each candidate, such as "alpha = 0.1". A curve is drawn for each
        distinct value.

    score_name : str, default="Score"
        Label of the vertical axis.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
        Curves of the mean scores, one for each group.

    fill_between_ : matplotlib FillBetweenPolyCollection or None
        Band of ± one standard deviation around the curve of the selected candidate.

    auto_lines_ : list of matplotlib Line2D
        Mean scores of the candidates whose thresholds are not numbers.

    best_ : matplotlib Line2D
        Marker of the selected candidate.

    legend_ : matplotlib Legend
        Legend to the right of the axes.

    ax_ : matplotlib Axes
        Axes of the display.

    figure_ : matplotlib Figure
        Figure that contains the axes.

    See Also
    --------
    skrobust.SmoothL1RegressorCV : Cross-validation over thresholds and penalties.
    sklearn.model_selection.ValidationCurveDisplay : Scores against any parameter, computed by
        fitting the estimator.

    Notes
    -----
    If there are more than six groups, the six with the best scores are drawn. Candidates whose
    score is NaN, because their fits failed, are gaps in the curves.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skrobust import SmoothL1Regressor
    >>> from skrobust.displays import CVDisplay
    >>> X, y = load_diabetes(return_X_y=True)
    >>> grid = {"beta": [1, 10, 100, 1000]}
    >>> scoring = "neg_mean_absolute_error"
    >>> search = GridSearchCV(SmoothL1Regressor(), grid, scoring=scoring).fit(X, y)
    >>> display = CVDisplay.from_estimator(search)
    >>> display.best_.get_label(), display.ax_.get_ylabel()
    ('chosen: β = 100', 'Negative mean absolute error')
    """

    def __init__(
        self,
        *,
        betas: Sequence[float | str] | NDArray[Any],
        mean_scores: ArrayLike,
        std_scores: ArrayLike | None = None,
        best_index: int | None = None,
        groups: ArrayLike | None = None,
        score_name: str = "Score",
    ) -> None:
        self.betas = betas
        self.mean_scores = mean_scores
        self.std_scores = std_scores
        self.best_index = best_index
        self.groups = groups
        self.score_name = score_name

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        *,
        metric: str | None = None,
        score_name: str | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the scores of a fitted search.

        Parameters
        ----------
        estimator : fitted estimator
            A :class:`~skrobust.SmoothL1RegressorCV`, a
            :class:`~sklearn.model_selection.GridSearchCV` over the parameter `beta` of a
            regressor or of a pipeline, or a pipeline that contains one of these. Other
            estimators are accepted if their `cv_results_` have a single parameter "beta" and
            the keys "mean_test_score" and "std_test_score". The selected candidate is that of
            the attribute `best_index_`, or the one with the best score if there is no such
            attribute.

        metric : str, default=None
            Name of the score to show, if there are several; by default that of `refit`.

        score_name : str, default=None
            Label of the vertical axis; by default the name of the scoring.

        ax : matplotlib Axes, default=None
            Axes to draw on; by default those of a new figure.

        **kwargs : dict
            Additional keyword arguments, passed to `plot`.

        Returns
        -------
        display : CVDisplay
            The display, which has been drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        NotFittedError
            If the estimator is not fitted.

        ValueError
            If the estimator has no attribute `cv_results_`, or the results do not have exactly
            one parameter "beta", or there is no score with the given name.
        """
        check_matplotlib("CVDisplay.from_estimator")
        advice = "pass a fitted search over beta, such as GridSearchCV."
        search = find_estimator_with(estimator, "cv_results_", advice=advice)
        results: Mapping[str, Any] = search.cv_results_
        parameters = [key for key in results if key.startswith("param_")]
        beta_keys = [key for key in parameters if key == "param_beta" or key.endswith("__beta")]
        if len(beta_keys) != 1:
            raise ValueError(
                "cv_results_ must have exactly one parameter beta, with the key 'param_beta' "
                f"or 'param_…__beta', got {beta_keys or parameters}."
            )
        group_labels = [
            [
                f"{key.removeprefix('param_').rpartition('__')[2]} = {value}"
                for value in results[key]
            ]
            for key in parameters
            if key != beta_keys[0] and len(set(map(str, results[key]))) > 1
        ]
        groups = [", ".join(labels) for labels in zip(*group_labels, strict=True)]
        metric = _metric_name(results, metric, getattr(search, "refit", None))
        display = cls(
            betas=list(results[beta_keys[0]]),
            mean_scores=results[f"mean_test_{metric}"],
            std_scores=results[f"std_test_{metric}"],
            best_index=getattr(search, "best_index_", None),
            groups=groups or None,
            score_name=_score_name(search, metric) if score_name is None else score_name,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        negate_score: bool = False,
        show_std: bool = True,
        line_kwargs: Kwargs | None = None,
    ) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; by default those of a new figure.

        negate_score : bool, default=False
            Whether to draw the negated scores. A score such as "neg_mean_absolute_error" is
            then shown as an error.

        show_std : bool, default=True
            Whether to draw a band of ± one standard deviation around the curve of the selected
            candidate. The band is also wide if the scores differ between the folds for all
            thresholds alike; the curve is then easier to see without it.

        line_kwargs : dict, default=None
            Keyword arguments for matplotlib's ``plot``, used for each curve.

        Returns
        -------
        self : CVDisplay
            The display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        ValueError
            If the shapes of the arrays do not match, a threshold is not positive and finite, or
            all scores are NaN.

        TypeError
            If `ax` is not matplotlib Axes.
        """
        check_matplotlib("CVDisplay.plot")
        candidates = self._candidates()
        betas, groups, best = candidates.betas, candidates.groups, candidates.best_index
        is_number = ~np.isnan(betas)
        means = -candidates.means if negate_score else candidates.means
        self.ax_ = ax = axes(ax)
        self.figure_ = ax.figure
        self.lines_: list[Line2D] = []
        self.auto_lines_: list[Line2D] = []
        self.fill_between_: PolyCollection | None = None
        for i, group in enumerate(_best_groups(groups, candidates.means, best)):
            style = line_style(i)
            rows = np.flatnonzero((groups == group) & is_number)
            rows = rows[np.argsort(betas[rows], kind="stable")]
            x, y, label = betas[rows], means[rows], group or "mean over folds"
            self.lines_.append(line(ax, x, y, line_kwargs, label=label, **style))
            if candidates.stds is not None and show_std and group == groups[best]:
                std = candidates.stds[rows]
                band_style = {"color": style["color"], "alpha": 0.15, "lw": 0}
                self.fill_between_ = ax.fill_between(
                    x, y - std, y + std, label="± 1 std. over folds", **band_style
                )
            for row in map(int, np.flatnonzero((groups == group) & ~is_number)):
                label = _candidate_label("β", self.betas[row], group)
                dotted = {"color": style["color"], "linestyle": (0, (1, 3)), "label": label}
                self.auto_lines_.append(ax.axhline(means[row], **dotted))
        self.best_ = _draw_best(
            ax,
            betas[best],
            means[best],
            label=_candidate_label("chosen: β", self.betas[best], groups[best]),
        )
        score_name = _negated_name(self.score_name) if negate_score else self.score_name
        ax.set(xlabel="β", ylabel=score_name)
        ax.set_xscale("log")
        self.legend_ = legend(ax)
        return self

    def _candidates(self) -> _Candidates:
        """Validate the parameters of the display and return them as arrays."""
        n_candidates = len(self.betas)
        means = np.asarray(self.mean_scores, dtype=float)
        stds = None if self.std_scores is None else np.asarray(self.std_scores, dtype=float)
        groups = np.full(n_candidates, "") if self.groups is None else np.asarray(self.groups)
        arrays = {"mean_scores": means, "std_scores": stds, "groups": groups}
        for name, array in arrays.items():
            if array is not None and array.shape != (n_candidates,):
                raise ValueError(
                    f"{name} must have one entry for each of the {n_candidates} betas, got "
                    f"shape {array.shape}."
                )
        betas = np.full(n_candidates, np.nan)
        for i, beta in enumerate(self.betas):
            if isinstance(beta, Real):
                betas[i] = check_positive(float(beta), "Each of betas")
        if np.isnan(means).all():
            raise ValueError(
                f"mean_scores must contain a value that is not NaN, got {self.mean_scores!r}."
            )
        best = int(np.nanargmax(means)) if self.best_index is None else self.best_index
        if not 0 <= best < n_candidates:
            raise ValueError(
                f"best_index must be in the range [0, {n_candidates - 1}], got {best!r}."
            )
        return _Candidates(betas, means, stds, groups, best)


class _Candidates(NamedTuple):
    """Candidates of a search, as arrays of shape (n_candidates,)."""

    betas: NDArray[np.float64]  # NaN for a threshold that is not a number
    means: NDArray[np.float64]
    stds: NDArray[np.float64] | None
    groups: NDArray[np.str_]
    best_index: int


def _candidate_label(prefix: str, beta: float | str, group: str) -> str:
    """Return a legend label such as "β = auto, alpha = 0.1"."""
    value = f"{beta:.4g}" if isinstance(beta, Real) else beta
    label = f"{prefix} = {value}"
    return f"{label}, {group}" if group else label


def _draw_best(ax: Axes, beta: float, score: float, label: str) -> Line2D:
    """Draw a star at the selected candidate.

    The star is at the right edge of the axes if the threshold is not a number.
    """
    if np.isnan(beta):
        x, transform = 0.98, ax.get_yaxis_transform()
    else:
        x, transform = beta, ax.transData
    return ax.plot(
        [x],
        [score],
        label=label,
        transform=transform,
        marker="*",
        ms=16,
        ls="",
        mec="white",
        color="black",
        zorder=3,
    )[0]


def _best_groups(
    groups: NDArray[np.str_], scores: NDArray[np.float64], best_index: int
) -> list[str]:
    """Return the groups to draw in order of appearance.

    They are the group of the selected candidate and those with the best scores.
    """
    scores = np.where(np.isnan(scores), -np.inf, scores)
    best_scores = {
        group: scores[groups == group].max() for group in dict.fromkeys(groups.tolist())
    }
    ranked = sorted(best_scores, key=lambda g: (g != groups[best_index], -best_scores[g]))
    return [group for group in best_scores if group in ranked[:MAX_CURVES]]


def _metric_name(results: Mapping[str, Any], metric: str | None, refit: object) -> str:
    """Return the name of a score in the keys of `cv_results_`, such as "score" or "r2"."""
    prefix = "mean_test_"
    metrics = [key.removeprefix(prefix) for key in results if key.startswith(prefix)]
    default = metrics[0] if len(metrics) == 1 else refit
    selected = default if metric is None else metric
    if selected not in metrics:
        raise ValueError(f"metric must be one of {metrics}, got {metric!r}.")
    return str(selected)


def _score_name(search: BaseEstimator, metric: str) -> str:
    """Return the name of a score as an axis label."""
    scoring = metric if metric != "score" else getattr(search, "scoring", None)
    if not isinstance(scoring, str):
        return "Score"
    return scoring.replace("neg_", "negative ", 1).replace("_", " ").capitalize()


def _negated_name(score_name: str) -> str:
    """Return the name of the negated score; negating a negated error gives the error."""
    error_name = score_name.removeprefix("Negative ")
    if error_name != score_name:
        return error_name.capitalize()
    return f"Negative {score_name.lower()}"
