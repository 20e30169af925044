"""Display of the cross-validation scores of a hyperparameter search over the threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, is_regressor

from .._cv import SmoothL1RegressorCV, one_standard_error_index, paired_standard_errors
from .._model.scale import AUTO_CONCOMITANT, AUTO_MAD
from .._unwrap import find_estimator_with
from ._drawing import (
    DASHES,
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
    from matplotlib.collections import PolyCollection
    from matplotlib.lines import Line2D

# Maximum number of curves, few enough for a reader to distinguish them.
MAX_CURVES = 6


class CVDisplay:
    """Mean cross-validation score against β or α, with standard errors and the selected value.

    For each candidate, the band shows the standard error of the difference between its mean
    score and the best mean score, computed from the differences between the two scores in each
    fold. If the band reaches the line at the best mean score, the candidate is within one
    standard error of the best and the difference may be due to chance. The standard deviation
    of the scores over the folds is not shown because it mostly reflects that some folds are
    difficult for all candidates.

    Parameters
    ----------
    betas : array-like of shape (n_candidates,)
        Thresholds of the candidates in any order, in the same units as the `beta` parameter of
        the estimator. The score of a non-numeric threshold, such as "auto", is drawn as a
        horizontal line.

    mean_scores : array-like of shape (n_candidates,)
        Mean score of each candidate over the folds, in the units of the scorer.

    standard_errors : array-like of shape (n_candidates,), default=None
        Standard error of the difference between the mean score of each candidate and the best
        mean score, such as "se_test_difference" in the `cv_results_` of
        :class:`~skrobust.SmoothL1RegressorCV`.

    best_index : int, default=None
        Index of the selected candidate. By default, the candidate with the best mean score is
        selected.

    one_standard_error_index : int, default=None
        Index of the candidate to mark as the choice of the one-standard-error rule.

    auto_beta : float, default=None
        Numerical value of the threshold "auto". It is marked by a vertical line unless `alphas`
        is given.

    alphas : array-like of shape (n_candidates,), default=None
        Positive penalties of the candidates. If given, the scores are drawn against the
        penalties instead of the thresholds.

    groups : array-like of shape (n_candidates,) of str, default=None
        Parameters of each candidate other than the one on the horizontal axis, as text such as
        "alpha = 0.1". Candidates with the same entry form a group, drawn as one curve.

    score_name : str, default="Score"
        Label of the vertical axis.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
        Curves of the mean scores, one for each group.

    fill_between_ : matplotlib FillBetweenPolyCollection or None
        Band of ± one standard error around the curve that contains the selected candidate.

    best_score_line_ : matplotlib Line2D or None
        Horizontal line at the best mean score, if there is a band.

    auto_lines_ : list of matplotlib Line2D
        Horizontal lines at the mean scores of the candidates with non-numeric thresholds.

    auto_beta_line_ : matplotlib Line2D or None
        Vertical line at `auto_beta`.

    best_ : matplotlib Line2D
        Marker of the selected candidate.

    one_standard_error_ : matplotlib Line2D or None
        Marker of the candidate selected by the one-standard-error rule.

    legend_ : matplotlib Legend
        Legend, placed within the axes if there is space.

    ax_ : matplotlib Axes
        Axes of the display.

    figure_ : matplotlib Figure
        Figure that contains the axes.

    See Also
    --------
    skrobust.SmoothL1RegressorCV : Cross-validation over thresholds and penalties.
    sklearn.model_selection.ValidationCurveDisplay : Scores as a function of any
        parameter, computed by fitting the estimator.

    Notes
    -----
    If there are more than six groups, only the group of the selected candidate and the five
    other groups with the best scores are drawn. Candidates whose scores are NaN because their
    fits failed leave gaps in the curves.

    `from_estimator` draws the scores against α if all penalties are positive, each threshold
    has several penalties, and no two thresholds share a penalty. This is the case, for example,
    for several penalties at a single threshold, and with an integer `alphas` in
    :class:`~skrobust.SmoothL1RegressorCV`.

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
        standard_errors: ArrayLike | None = None,
        best_index: int | None = None,
        one_standard_error_index: int | None = None,
        auto_beta: float | None = None,
        alphas: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        score_name: str = "Score",
    ) -> None:
        self.betas = betas
        self.mean_scores = mean_scores
        self.standard_errors = standard_errors
        self.best_index = best_index
        self.one_standard_error_index = one_standard_error_index
        self.auto_beta = auto_beta
        self.alphas = alphas
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
        """Draw the scores of a fitted hyperparameter search.

        Parameters
        ----------
        estimator : fitted estimator
            A :class:`~skrobust.SmoothL1RegressorCV`, a
            :class:`~sklearn.model_selection.GridSearchCV` over the `beta` parameter of a
            regressor or of a pipeline, or a pipeline that contains one of these. Other
            estimators are accepted if their `cv_results_` has a single parameter "beta" and the
            key "mean_test_score". Standard errors require the scores of at least two splits,
            under the keys "split0_test_score" and so on. The selected candidate is the one at
            `best_index_` or, if the estimator lacks this attribute, the one with the best mean
            score. For a SmoothL1RegressorCV, the candidate selected by the one-standard-error
            rule and the numerical value of the threshold "auto" are also marked. With
            ``scale=None``, that value is known only if `betas` is an integer.

        metric : str, default=None
            Name of the score to show if the search has several. By default, the score named by
            the `refit` parameter of the search is shown.

        score_name : str, default=None
            Label of the vertical axis. By default, the name of the scorer is used.

        ax : matplotlib Axes, default=None
            Axes to draw on. If None, a new figure is created.

        **kwargs : dict
            Additional keyword arguments passed to `plot`.

        Returns
        -------
        display : CVDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        NotFittedError
            If the estimator is not fitted.

        ValueError
            If the estimator has no `cv_results_` attribute, the results do not have exactly one
            parameter "beta", or there is no score named `metric`.
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
        on_axis = _axis_key(results, parameters, beta_keys[0])
        group_labels = [
            [f"{_parameter_name(key)} = {label}" for label in _distinct_labels(results[key])]
            for key in parameters
            if key != on_axis and len(set(map(str, results[key]))) > 1
        ]
        groups = [", ".join(labels) for labels in zip(*group_labels, strict=True)]
        metric = _metric_name(results, metric, getattr(search, "refit", None))
        auto_beta, one_standard_error = _automatic_choices(search)
        display = cls(
            betas=list(results[beta_keys[0]]),
            mean_scores=results[f"mean_test_{metric}"],
            standard_errors=_standard_errors(results, metric),
            best_index=getattr(search, "best_index_", None),
            one_standard_error_index=one_standard_error,
            auto_beta=auto_beta,
            alphas=None if on_axis == beta_keys[0] else list(results[on_axis]),
            groups=groups or None,
            score_name=_score_name(search, metric) if score_name is None else score_name,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        negate_score: bool = False,
        show_band: bool = True,
        line_kwargs: Kwargs | None = None,
    ) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. If None, a new figure is created.

        negate_score : bool, default=False
            Whether to negate the scores. A score such as "neg_mean_absolute_error" is then
            shown as an error.

        show_band : bool, default=True
            Whether to draw the band of ± one standard error and the line at the best mean
            score.

        line_kwargs : dict, default=None
            Keyword arguments passed to matplotlib's ``plot`` for each curve.

        Returns
        -------
        self : CVDisplay
            The display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        ValueError
            If the arrays have inconsistent shapes, a threshold or penalty is not positive and
            finite, an index is out of range, or all scores are NaN.

        TypeError
            If `ax` is not a matplotlib Axes.
        """
        check_matplotlib("CVDisplay.plot")
        candidates = self._candidates()
        values, groups, best = candidates.values, candidates.groups, candidates.best_index
        is_number = ~np.isnan(values)
        means = -candidates.means if negate_score else candidates.means
        self.ax_ = ax = axes(ax)
        self.figure_ = ax.figure
        self.lines_: list[Line2D] = []
        self.auto_lines_: list[Line2D] = []
        self.fill_between_: PolyCollection | None = None
        self.best_score_line_: Line2D | None = None
        for i, group in enumerate(_best_groups(groups, candidates.means, best)):
            style = line_style(i)
            rows = np.flatnonzero((groups == group) & is_number)
            rows = rows[np.argsort(values[rows], kind="stable")]
            x, y, label = values[rows], means[rows], group or "mean over folds"
            self.lines_.append(line(ax, x, y, line_kwargs, label=label, **style))
            if candidates.standard_errors is not None and show_band and group == groups[best]:
                error = candidates.standard_errors[rows]
                band_style = {"color": style["color"], "alpha": 0.25, "lw": 0}
                label = "± 1 std. error of the\ndifference from the best"
                self.fill_between_ = ax.fill_between(
                    x, y - error, y + error, label=label, **band_style
                )
            for row in map(int, np.flatnonzero((groups == group) & ~is_number)):
                label = _candidate_label("β", self.betas[row], group)
                dotted = {"color": style["color"], "linestyle": (0, (1, 3)), "label": label}
                self.auto_lines_.append(ax.axhline(means[row], **dotted))
        if self.fill_between_ is not None:
            best_mean = means[np.nanargmax(candidates.means)]
            style = {"color": GREY, "lw": 1, "zorder": 0.5}
            self.best_score_line_ = ax.axhline(best_mean, label="best mean score", **style)
        self._draw_choices(candidates, means)
        score_name = _negated_name(self.score_name) if negate_score else self.score_name
        ax.set(xlabel=self._axis_name, ylabel=score_name)
        if is_number.any() or self.auto_beta is not None:
            ax.set_xscale("log")
        else:
            ax.set_xticks([])  # no threshold is numeric
        self.legend_ = legend(ax)
        return self

    def _draw_choices(self, candidates: _Candidates, scores: NDArray[np.float64]) -> None:
        """Mark the threshold of "auto" and up to two candidates.

        The candidates are the selected one and, if known, the choice of the one-standard-error
        rule.
        """
        self.auto_beta_line_: Line2D | None = None
        if self.auto_beta is not None and self.alphas is None:
            auto_beta = check_positive(self.auto_beta, "auto_beta")
            style: dict[str, Any]
            style = {"color": GREY, "linestyle": DASHES[3], "lw": 1.5, "zorder": 0.5}
            label = f'"auto": β = {auto_beta:.4g}'
            self.auto_beta_line_ = self.ax_.axvline(auto_beta, label=label, **style)

        def mark(i: int, prefix: str, **style: Any) -> Line2D:
            value = self.betas[i] if self.alphas is None else candidates.values[i]
            label = f"{prefix}: {self._axis_name}"
            label = _candidate_label(label, value, candidates.groups[i])
            return _draw_mark(self.ax_, candidates.values[i], scores[i], label=label, **style)

        star = {"marker": "*", "ms": 14, "mec": "white", "color": "black"}
        self.best_ = mark(candidates.best_index, "chosen", **star)
        self.one_standard_error_: Line2D | None = None
        if self.one_standard_error_index is not None:
            # A ring does not hide the star if both markers are at the same candidate.
            ring = {"marker": "o", "ms": 16, "mew": 1.5, "mfc": "none", "mec": GREY}
            index = self.one_standard_error_index
            self.one_standard_error_ = mark(index, "one std. error", **ring)

    @property
    def _axis_name(self) -> str:
        return "β" if self.alphas is None else "α"

    def _candidates(self) -> _Candidates:
        """Validate the parameters of the display and return the candidates as arrays."""
        n_candidates = len(self.betas)
        means = np.asarray(self.mean_scores, dtype=float)
        errors = self.standard_errors
        errors = None if errors is None else np.asarray(errors, dtype=float)
        groups = np.full(n_candidates, "") if self.groups is None else np.asarray(self.groups)
        alphas = None if self.alphas is None else np.asarray(self.alphas, dtype=float)
        arrays = {"mean_scores": means, "standard_errors": errors, "groups": groups}
        arrays["alphas"] = alphas
        for name, array in arrays.items():
            if array is not None and array.shape != (n_candidates,):
                raise ValueError(
                    f"{name} must have one entry for each of the {n_candidates} betas, got "
                    f"shape {array.shape}."
                )
        values, name = np.full(n_candidates, np.nan), "betas" if alphas is None else "alphas"
        for i, value in enumerate(self.betas if alphas is None else alphas):
            if isinstance(value, Real):
                values[i] = check_positive(float(value), f"Each of {name}")
        if np.isnan(means).all():
            raise ValueError(
                f"mean_scores must contain a value that is not NaN, got {self.mean_scores!r}."
            )
        best = int(np.nanargmax(means)) if self.best_index is None else self.best_index
        indices = {"best_index": best}
        if self.one_standard_error_index is not None:
            indices["one_standard_error_index"] = self.one_standard_error_index
        for name, index in indices.items():
            if not 0 <= index < n_candidates:
                raise ValueError(
                    f"{name} must be in the range [0, {n_candidates - 1}], got {index!r}."
                )
        return _Candidates(values, means, errors, groups, best)


class _Candidates(NamedTuple):
    """Candidates of a search as arrays, and the index of the selected candidate."""

    # Thresholds or penalties; NaN for a non-numeric threshold.
    values: NDArray[np.float64]
    means: NDArray[np.float64]
    standard_errors: NDArray[np.float64] | None
    groups: NDArray[np.str_]
    best_index: int


def _candidate_label(prefix: str, value: float | str, group: str) -> str:
    """Return a legend label such as "β = auto, alpha = 0.1"."""
    value = f"{value:.4g}" if isinstance(value, Real) else value
    label = f"{prefix} = {value}"
    return f"{label}, {group}" if group else label


def _distinct_labels(values: Sequence[Any]) -> list[str]:
    """Return the values as text, with four significant digits if they remain distinct."""
    full = [str(value) for value in values]
    short = [
        f"{value:.4g}" if isinstance(value, Real) and not isinstance(value, Integral) else text
        for value, text in zip(values, full, strict=True)
    ]
    return short if len(set(short)) == len(set(full)) else full


def _parameter_name(key: str) -> str:
    """Return the parameter name in a key of `cv_results_`, with beta replaced by β."""
    name = key.removeprefix("param_").rpartition("__")[2]
    return "β" if name == "beta" else name


def _axis_key(results: Mapping[str, Any], parameters: list[str], beta_key: str) -> str:
    """Return the key of the parameter on the horizontal axis, which is beta or alpha.

    The parameter is alpha if all penalties are positive, each threshold has several penalties,
    and no two thresholds share a penalty.
    """
    alpha_key = f"{beta_key.removesuffix('beta')}alpha"
    if alpha_key not in parameters:
        return beta_key
    alphas, betas = list(results[alpha_key]), list(map(str, results[beta_key]))
    # In a search over several grids, the parameter is masked for candidates of a grid without
    # it.
    if not all(isinstance(alpha, Real) and float(alpha) > 0 for alpha in alphas):
        return beta_key
    of_beta: dict[str, set[float]] = {beta: set() for beta in betas}
    for alpha, beta in zip(alphas, betas, strict=True):
        of_beta[beta].add(float(alpha))
    sizes = [len(found) for found in of_beta.values()]
    is_own_grid = sum(sizes) == len(set(alphas))
    return alpha_key if is_own_grid and min(sizes) > 1 else beta_key


def _draw_mark(ax: Axes, value: float, score: float, **style: Any) -> Line2D:
    """Draw and return a marker at a candidate's threshold or penalty (`value`) and score.

    If `value` is NaN, as for a non-numeric threshold, the marker is at the right edge.
    """
    if np.isnan(value):
        x, transform = 0.97, ax.get_yaxis_transform()
    else:
        x, transform = value, ax.transData
    return ax.plot([x], [score], transform=transform, linestyle="", zorder=3, **style)[0]


def _best_groups(
    groups: NDArray[np.str_], scores: NDArray[np.float64], best_index: int
) -> list[str]:
    """Return at most MAX_CURVES groups to draw, in the order of their first candidates.

    They are the group of the selected candidate and the other groups with the best scores.
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


def _standard_errors(results: Mapping[str, Any], metric: str) -> NDArray[np.float64] | None:
    """Return the standard error of the difference between each mean score and the best one.

    The result is None if there are fewer than two splits.
    """
    keys = [f"split{k}_test_{metric}" for k in range(len(results))]
    scores = np.array([results[key] for key in keys if key in results], dtype=float)
    if len(scores) < 2:
        return None
    means = np.asarray(results[f"mean_test_{metric}"], dtype=float)
    return paired_standard_errors(scores, int(np.nan_to_num(means, nan=-np.inf).argmax()))


def _automatic_choices(search: BaseEstimator) -> tuple[float | None, int | None]:
    """Return the numerical value of "auto" and the choice of the one-standard-error rule.

    The choice is the index of a candidate. Either value is None if it is unknown.
    """
    if not isinstance(search, SmoothL1RegressorCV):
        return None, None
    betas = search.cv_results_["param_beta"]
    auto_beta = {"mad": AUTO_MAD, "concomitant": AUTO_CONCOMITANT}.get(search.scale)
    if auto_beta is None and isinstance(search.betas, Integral):
        auto_beta = float(betas[int(search.betas) // 2])
    if search.refit == "one_standard_error":
        return auto_beta, search.best_index_
    if search.n_splits_ == 1:
        return auto_beta, None
    reference = np.nan if auto_beta is None else auto_beta
    index = one_standard_error_index(search.cv_results_, reference, search.scale)
    # Among candidates within one standard error of the best, the rule prefers thresholds close
    # to that of "auto". If the latter is unknown, so are the distances from it, and the index
    # is valid only if "auto" itself is selected.
    is_known = auto_beta is not None or betas[index] == "auto"
    return auto_beta, index if is_known else None


def _score_name(search: BaseEstimator, metric: str) -> str:
    """Return the name of a score as an axis label."""
    scoring = metric if metric != "score" else getattr(search, "scoring", None)
    if scoring is None and isinstance(search, SmoothL1RegressorCV):
        scoring = "neg_mean_absolute_error"
    elif scoring is None and is_regressor(search):
        scoring = "r2"
    # A scorer from make_scorer stores the score function and the sign of the score. For another
    # callable, its own name is used.
    function = getattr(scoring, "_score_func", scoring)
    name = scoring if isinstance(scoring, str) else getattr(function, "__name__", "")
    if not name.isidentifier():  # a lambda expression
        return "Score"
    sign = "neg_" if getattr(scoring, "_sign", 1) < 0 else ""
    return (sign + name).replace("neg_", "negative ", 1).replace("_", " ").capitalize()


def _negated_name(score_name: str) -> str:
    """Return the name of the negated score, such as "Mean error" for "Negative mean error"."""
    error_name = score_name.removeprefix("Negative ")
    if error_name != score_name:
        return error_name.capitalize()
    return f"Negative {score_name.lower()}"
