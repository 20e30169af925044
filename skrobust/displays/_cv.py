"""Display of the scores of a cross-validation along the threshold, with its choice."""

from numbers import Real

import numpy as np

from .._unwrap import holder
from ._drawing import axes, check_matplotlib, check_positive, legend, line, line_style

# Curves that can be told apart; those with the best scores are drawn.
_MOST_CURVES = 6


class CVDisplay:
    """Mean score of a cross-validation along β, the spread over its folds, and the choice.

    Parameters
    ----------
    betas : array-like of shape (n_candidates,)
        The thresholds, in units of y or of the scale, as the estimator takes them, in any
        order. One that is not a number, "auto", has no place on the axis and is drawn as a
        horizontal line.

    mean_scores : array-like of shape (n_candidates,)
        The mean score of each candidate, in the unit of the scorer.

    std_scores : array-like of shape (n_candidates,), default=None
        The standard deviation of its scores over the folds.

    best_index : int, default=None
        Which candidate was chosen; by default the one with the best mean score.

    groups : array-like of shape (n_candidates,) of str, default=None
        The other parameters of each candidate, such as "alpha = 0.1". Each group is a curve.

    score_name : str, default="Score"
        Label of the axis of scores.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
        The mean scores, a line for each group.

    fill_between_ : matplotlib FillBetweenPolyCollection or None
        One standard deviation about the line with the choice.

    auto_lines_ : list of matplotlib Line2D
        The mean scores of candidates that are not numbers.

    best_ : matplotlib Line2D
        The marker of the choice.

    legend_ : matplotlib Legend
        The legend, right of the axes.

    ax_ : matplotlib Axes
        The axes.

    figure_ : matplotlib Figure
        The figure of the axes.

    See Also
    --------
    sklearn.model_selection.ValidationCurveDisplay : Along any parameter; it fits anew.

    Notes
    -----
    Of more than six groups the six with the best scores are drawn. Candidates without a
    score, whose fits failed, are gaps.

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
        betas,
        mean_scores,
        std_scores=None,
        best_index=None,
        groups=None,
        score_name="Score",
    ):
        self.betas = betas
        self.mean_scores = mean_scores
        self.std_scores = std_scores
        self.best_index = best_index
        self.groups = groups
        self.score_name = score_name

    @classmethod
    def from_estimator(cls, estimator, *, metric=None, score_name=None, ax=None, **kwargs):
        """Draw the scores of a fitted search.

        Parameters
        ----------
        estimator : fitted estimator
            A :class:`~sklearn.model_selection.GridSearchCV` over the parameter `beta`, also
            of a regressor inside a pipeline and with other parameters beside it, or any
            other estimator whose `cv_results_` has its "param_beta", "mean_test_score" and
            "std_test_score"; also inside a pipeline. The choice is its `best_index_`, or the
            best score where it has made none.

        metric : str, default=None
            Which score to show, where there are several; by default that of `refit`.

        score_name : str, default=None
            Label of the axis of scores; by default the name of the scoring.

        ax : matplotlib Axes, default=None
            Where to draw; by default on a new figure.

        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : CVDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        NotFittedError
            If the estimator is not fitted.

        ValueError
            If it has no `cv_results_`, or they have no beta or no score of that name.
        """
        check_matplotlib("CVDisplay.from_estimator")
        search = holder(
            estimator, "cv_results_", "show a search over beta, such as GridSearchCV."
        )
        results = search.cv_results_
        parameters = [key for key in results if key.startswith("param_")]
        over = [key for key in parameters if key == "param_beta" or key.endswith("__beta")]
        if len(over) != 1:
            raise ValueError(
                "cv_results_ must have one parameter beta, as 'param_beta' or 'param_…__beta', "
                f"got {over or parameters}."
            )
        labels = [
            [
                f"{key.removeprefix('param_').rpartition('__')[2]} = {value}"
                for value in results[key]
            ]
            for key in parameters
            if key != over[0] and len(set(map(str, results[key]))) > 1
        ]
        metric = _metric(results, metric, getattr(search, "refit", None))
        display = cls(
            betas=list(results[over[0]]),
            mean_scores=results[f"mean_test_{metric}"],
            std_scores=results[f"std_test_{metric}"],
            best_index=getattr(search, "best_index_", None),
            groups=[", ".join(each) for each in zip(*labels, strict=True)] if labels else None,
            score_name=_score_name(search, metric) if score_name is None else score_name,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, negate_score=False, show_std=True, line_kwargs=None):
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; by default on a new figure.

        negate_score : bool, default=False
            Whether to draw the scores negated, which makes an error of a score such as
            "neg_mean_absolute_error".

        show_std : bool, default=True
            Whether to draw one standard deviation about the line with the choice. It is also
            wide where folds differ, but agree about β: then the line is seen better without.

        line_kwargs : dict, default=None
            Passed to matplotlib's ``plot`` for each line of mean scores.

        Returns
        -------
        self : CVDisplay
            The display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        ValueError
            If the arrays do not match, or there is no score.

        TypeError
            If `ax` is not matplotlib Axes.
        """
        check_matplotlib("CVDisplay.plot")
        mean, std, groups, best = self._checked()
        is_number = np.array([isinstance(beta, Real) for beta in self.betas])
        betas = np.array(
            [b if n else np.nan for b, n in zip(self.betas, is_number, strict=True)]
        )
        mean = -mean if negate_score else mean
        self.ax_ = ax = axes(ax)
        self.figure_ = ax.figure
        self.lines_, self.auto_lines_ = [], []
        self.fill_between_ = None
        for i, group in enumerate(_most_promising(groups, self.mean_scores, best)):
            look = line_style(i)
            rows = np.flatnonzero((groups == group) & is_number)
            rows = rows[np.argsort(betas[rows], kind="stable")]
            x, y, label = betas[rows], mean[rows], group or "mean over folds"
            self.lines_.append(line(ax, x, y, line_kwargs, label=label, **look))
            if std is not None and show_std and group == groups[best]:
                low, high = y - std[rows], y + std[rows]
                band = {"color": look["color"], "alpha": 0.15, "lw": 0}
                label = "± 1 std. over folds"
                self.fill_between_ = ax.fill_between(x, low, high, label=label, **band)
            for row in np.flatnonzero((groups == group) & ~is_number):
                label = ", ".join(filter(None, [f"β = {self.betas[row]}", group]))
                given = {"color": look["color"], "linestyle": (0, (1, 3)), "label": label}
                self.auto_lines_.append(ax.axhline(mean[row], **given))
        self.best_ = self._draw_best(betas[best], mean[best], groups[best], self.betas[best])
        ax.set(
            xlabel="β", ylabel=_negated(self.score_name) if negate_score else self.score_name
        )
        ax.set_xscale("log")
        self.legend_ = legend(ax)
        return self

    def _draw_best(self, x, y, group, beta):
        """A star at the choice, at the right edge if its β has no place on the axis."""
        name = f"{beta:.4g}" if isinstance(beta, Real) else beta
        label = ", ".join(filter(None, [f"chosen: β = {name}", group]))
        place = {} if np.isfinite(x) else {"transform": self.ax_.get_yaxis_transform()}
        look = {
            "marker": "*",
            "ms": 16,
            "ls": "",
            "mec": "white",
            "color": "black",
            "zorder": 3,
        }
        x = x if np.isfinite(x) else 0.98
        return self.ax_.plot([x], [y], label=label, **look, **place)[0]

    def _checked(self):
        """(mean scores, their deviations or None, groups, index of the choice)."""
        n = len(self.betas)
        mean = np.asarray(self.mean_scores, dtype=float)
        std = None if self.std_scores is None else np.asarray(self.std_scores, dtype=float)
        groups = np.full(n, "") if self.groups is None else np.asarray(self.groups)
        for name, value in {"mean_scores": mean, "std_scores": std, "groups": groups}.items():
            if value is not None and value.shape != (n,):
                raise ValueError(
                    f"{name} must have an entry for each of the {n} betas, got shape "
                    f"{value.shape}."
                )
        for beta in self.betas:
            if isinstance(beta, Real):
                check_positive(beta, "Each of betas")
        if np.isnan(mean).all():
            raise ValueError(f"mean_scores must have a score, got {self.mean_scores!r}.")
        best = int(np.nanargmax(mean)) if self.best_index is None else self.best_index
        if not 0 <= best < n:
            raise ValueError(f"best_index must be from 0 to {n - 1}, got {best!r}.")
        return mean, std, groups, best


def _most_promising(groups, scores, best):
    """The groups to draw in order of appearance, among them that of the choice."""
    scores = np.where(np.isnan(scores), -np.inf, scores)
    reached = {group: scores[groups == group].max() for group in dict.fromkeys(groups.tolist())}
    ranked = sorted(reached, key=lambda group: (group != groups[best], -reached[group]))
    return [group for group in reached if group in ranked[:_MOST_CURVES]]


def _metric(results, metric, refit):
    """The end of the keys of a score in `cv_results_`."""
    known = [key.removeprefix("mean_test_") for key in results if key.startswith("mean_test_")]
    default = known[0] if len(known) == 1 else refit
    found = default if metric is None else metric
    if found not in known:
        raise ValueError(f"metric must be one of {known}, got {metric!r}.")
    return found


def _score_name(search, metric):
    scoring = metric if metric != "score" else getattr(search, "scoring", None)
    if not isinstance(scoring, str):
        return "Score"
    return scoring.replace("neg_", "negative ", 1).replace("_", " ").capitalize()


def _negated(name):
    """The name of the negated score: of an error, if the score was a negated one."""
    shorter = name.removeprefix("Negative ")
    return shorter.capitalize() if shorter != name else f"Negative {name.lower()}"
