"""SmoothL1RegressorCV: selection of the threshold and the penalty by cross-validation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.base import MultiOutputMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    _raise_for_params,
    _routing_enabled,
    process_routing,
)
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import (
    _check_method_params,
    _check_sample_weight,
    validate_data,
)

from ._array_api import as_numpy
from ._attributes import fitted_attributes
from ._base import LinearRegressor
from ._callbacks import N_WRAPPERS, with_callbacks
from ._engines.base import linear_prediction
from ._engines.threads import ThreadTeam, single_threaded_blas
from ._grid import (
    Convergence,
    alpha_grid,
    check_grid,
    default_betas,
    fit_grid,
    warn_unless_converged,
)
from ._lazy_data import require_in_memory
from ._regressor import SmoothL1Regressor
from ._spec import fit_spec
from ._validation import check_data, check_penalty_weights, excluded_features

# Parameters that are passed to the regressors of all candidates.
_PENALTY = ("positive", "penalty_weights")
_SHARED = ("loss", "scale", *_PENALTY, "fit_intercept", "solver", "max_iter", "tol")


class SmoothL1RegressorCV(MultiOutputMixin, LinearRegressor):
    r"""Smooth L1 or Huber regression with the threshold selected by cross-validation.

    In each fold of `cv`, a :class:`SmoothL1Regressor` is fitted for each pair of a threshold in
    `betas` and a penalty in `alphas`. The rule `refit` then selects a pair, by default the pair
    with the best mean score, and the model is fitted to all rows with this pair. Within a fold,
    each fit generally starts from the solution for the previous candidate and takes about one
    pass over X. It reaches the same tolerance as a fit of :class:`SmoothL1Regressor`. Rows
    outside the training fold are given weight zero, which usually avoids copying the training
    rows.

    Read more in the :doc:`user guide </user_guide/choosing_beta>`.

    Parameters
    ----------
    betas : int or array-like, default=20
        Candidate thresholds, in any order, or the number of thresholds in a default grid. All
        targets share the same candidates; use ``scale="mad"`` if the targets have different
        units.

        - If array-like, each threshold is "auto" or a number, as for the parameter `beta` of
          :class:`SmoothL1Regressor`.
        - If an integer, the default grid has this many thresholds. It contains the threshold of
          ``beta="auto"`` and is geometrically spaced from a tenth of this threshold to about
          ten times this threshold. With ``scale="concomitant"``, the excesses of the thresholds
          over 1 are spaced in this way instead. With ``scale=None``, the threshold of "auto" is
          computed from the residuals of a fit to all rows.

    alphas : int or array-like, default=(0.0,)
        Candidate values of the constant `alpha` that multiplies the penalty, in any order, or
        the number of values in a default grid. The default grid requires ``l1_ratio > 0``. It
        is geometrically spaced from the smallest `alpha` for which all penalised coefficients
        are zero down to 0.001 times this value (0.01 times this value if there are more
        features than rows), and is computed for each pair of threshold and `l1_ratio`. Use
        ``loss="huber"`` when searching over penalties: with "smooth_l1", as beta increases, the
        loss decreases and the penalty does not, so the penalty dominates the objective at large
        thresholds.

    l1_ratio : float or array-like, default=0.0
        Elastic-net mixing parameter, between 0 and 1, as in :class:`SmoothL1Regressor`, or an
        array-like of candidates.

    positive : bool, default=False
        Whether to constrain the coefficients to be non-negative.

    penalty_weights : array-like of shape (n_features,), default=None
        Factor that multiplies the penalty of each feature, as in :class:`SmoothL1Regressor`.

    loss : {"smooth_l1", "huber"}, default="smooth_l1"
        Loss function, as in :class:`SmoothL1Regressor`.

    scale : {"mad", "concomitant"} or None, default=None
        Estimator of the residual scale, which is the unit of the thresholds, as in
        :class:`SmoothL1Regressor`. The scale is estimated in each fit.

    fit_intercept : bool, default=True
        Whether to fit an intercept. If False, no intercept is used and the data are expected to
        be centred.

    cv : int, cross-validation generator or iterable, default=None
        Cross-validation splitting strategy. Possible values are:

        - None, for 5-fold cross-validation;
        - an integer, for another number of folds;
        - a scikit-learn cross-validation splitter;
        - an iterable of (train, test) pairs of index arrays.

        With None or an integer, the rows are not shuffled.

    scoring : str, callable or None, default=None
        Score of the predictions on the validation folds: the name of a scikit-learn scorer or a
        callable ``scorer(estimator, X, y)``; greater is better. None means the negated mean
        absolute error. With squared errors, outliers in the validation folds would determine
        the selected threshold (:file:`benchmarks/cv_score.py`). If sample weights are passed to
        `fit`, the weights of the validation rows are passed to the scorer.

    refit : {"best", "one_standard_error"} or callable, default="best"
        Rule that selects the pair of threshold and penalty for the fit to all rows.

        - "best" selects the pair with the best mean score. On data with outliers, this rule
          gives more accurate fits than "one_standard_error" (:file:`benchmarks/cv_score.py`).
        - "one_standard_error" considers the pairs whose mean score is within one standard error
          of the best. From these it selects the threshold closest to that of "auto" and, for
          this threshold, the strongest penalty (see Notes).
        - A callable receives `cv_results_` and returns the index of the selected pair, as in
          :class:`~sklearn.model_selection.GridSearchCV`.

    n_jobs : int or None, default=None
        Number of folds to fit in parallel. ``None`` means 1 unless in a
        ``joblib.parallel_backend`` context, and ``-1`` means using all processors. If the folds
        are fitted one at a time, each pass over a large X uses several threads.

    solver : {"auto", "lbfgs", "newton"}, default="auto"
        Algorithm that minimises the objective, as in :class:`SmoothL1Regressor`. With "auto",
        each fit reuses sums over the rows that were computed for the previous fit. With "lbfgs"
        and "newton", each fit uses only the previous solution, as its starting point.

    max_iter : int, default=1000
        Maximum number of iterations of each fit.

    tol : float, default=1e-8
        Tolerance for the stopping criterion, as in :class:`SmoothL1Regressor`.

    Attributes
    ----------
    alpha_, l1_ratio_ : float
        Selected `alpha` and `l1_ratio`.

    beta_ : float or ndarray of shape (n_targets,)
        Threshold of the final fit to all rows, in units of y.

    best_params_ : dict
        Grid values of the selected pair, with the keys "beta", "alpha" and, if `l1_ratio` is an
        array-like, "l1_ratio".

    best_index_ : int
        Index of the selected pair in `cv_results_`. If several pairs share the best mean score,
        ``refit="best"`` selects the first of them.

    best_score_ : float
        Mean score of the selected pair over the folds, which is the best mean score if
        ``refit="best"``.

    cv_results_ : dict of str to array
        Parameters and scores of the pairs, ordered by their positions in `l1_ratio`, then in
        `alphas`, then in `betas`. The keys are "param_beta", "param_alpha", "param_l1_ratio"
        (if `l1_ratio` is an array-like), "params", "split0_test_score" and so on for each fold,
        "mean_test_score", "std_test_score", "rank_test_score" and "se_test_difference" (the
        standard error of the difference between the best mean score and that of the pair, see
        Notes; NaN if there is a single fold). The dict can be converted to a
        ``pandas.DataFrame``.

    n_splits_ : int
        Number of folds.

    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
        Coefficients of the final fit, in the dtype of X.

    intercept_ : float or ndarray of shape (n_targets,)
        Intercept of the final fit, in float64; 0.0 if ``fit_intercept=False``.

    scale_ : float or ndarray of shape (n_targets,)
        Estimated residual scale of the final fit, in units of y; 1.0 if no scale is estimated.

    n_iter_ : int or ndarray of shape (n_targets,)
        Number of iterations of the final fit, at least 1.

    objective_ : float or ndarray of shape (n_targets,)
        Value of the objective at the solution of the final fit, including the penalty.

    optimality_ : float or ndarray of shape (n_targets,)
        Upper bound on, or estimate of, the relative suboptimality of `objective_`, as in
        :class:`SmoothL1Regressor`.

    rank_ : int
        Numerical rank of the centred features, as in :class:`SmoothL1Regressor`.

    outliers_ : ndarray of bool of shape (n_samples,) or (n_samples, n_targets)
        Boolean mask of the rows with :math:`|r_i| > \beta`, where :math:`\beta` is `beta_`.
        These rows are downweighted but not necessarily wrong: with normal errors and the
        threshold of "auto", 18 % of the rows are beyond the threshold even without outliers.

    weights_ : ndarray of shape (n_samples,) or (n_samples, n_targets)
        Robustness weight :math:`\min(1, \beta/|r_i|)` of each row in the final fit, between 0
        and 1, in float64.

    history_ : list of dict
        Stages of the final fit, as in :class:`SmoothL1Regressor`.

    n_features_in_ : int
        Number of features seen during `fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features seen during `fit`. Defined only if all feature names of X are
        strings.

    See Also
    --------
    SmoothL1Regressor : Regression with a single threshold, estimated from the data by default.
    smooth_l1_path : Coefficients at a sequence of thresholds or penalties.
    sklearn.model_selection.GridSearchCV : Search over the parameters of any estimator.

    Notes
    -----
    The model minimises the objective of :class:`SmoothL1Regressor`. The score of candidate c, a
    pair of threshold and penalty, in fold k of K is

    .. math:: s_k(c) = \operatorname{score}(w_k(c),\ \text{rows of fold } k)

    where :math:`w_k(c)` is the fit to the rows outside fold k. The score should be robust, like
    the fit [1]_. The best candidate :math:`c^*` has the largest mean score
    :math:`\bar s(c) = \frac{1}{K} \sum_k s_k(c)`.

    **One standard error.** Large errors in a fold lower the scores of all candidates.
    Candidates are therefore compared within each fold, by the differences

    .. math:: d_k(c) = s_k(c^*) - s_k(c), \qquad
              \operatorname{SE}(c) = \Big( \frac{1}{K (K - 1)}
              \sum_{k=1}^{K} \big(d_k(c) - \bar d(c)\big)^2 \Big)^{1/2}

    where :math:`\bar d(c) \ge 0` is the mean difference. In contrast, Breiman et al. [2]_ use
    the standard error of :math:`\bar s(c^*)`, which includes the variation between the folds.
    The candidates with :math:`\bar d(c) \le \operatorname{SE}(c)` are within one standard error
    of the best candidate. From these, ``refit="one_standard_error"`` selects by the following
    criteria, in order of priority:

    1. the threshold closest to that of "auto" on a logarithmic scale (applied to the excesses
       of the thresholds over 1 if ``scale="concomitant"``); "auto" itself is selected if it is
       among these candidates;
    2. the largest `l1_ratio`, and then the largest `alpha`;
    3. the best mean score.

    Penalties are thus compared only at the same threshold, because the effect of `alpha`
    depends on the threshold. Because the training sets overlap, the scores of different folds
    are not independent. The comparison with the standard error is therefore a rule of thumb,
    not a test.

    References
    ----------
    .. [1] E. Ronchetti, C. Field and W. Blanchard, "Robust Linear Model Selection by
           Cross-Validation", Journal of the American Statistical Association 92, 1997.
    .. [2] L. Breiman, J. Friedman, R. Olshen and C. Stone, "Classification and Regression
           Trees", Wadsworth, 1984, section 3.4.3.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust import SmoothL1RegressorCV
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2))
    >>> y = X @ [3.0, 2.0] + rng.normal(size=200)
    >>> y[::5] += 100 * X[::5, 0] ** 2
    >>> model = SmoothL1RegressorCV(betas=[0.5, 5, 50, "auto"]).fit(X, y)
    >>> model.best_params_
    {'beta': 0.5, 'alpha': 0.0}
    >>> model.coef_.round(1)
    array([2.9, 2. ])

    On data without outliers, the scores hardly depend on the threshold, and the rule
    "one_standard_error" selects "auto":

    >>> y = X @ [3.0, 2.0] + rng.normal(size=200)
    >>> model.set_params(refit="best").fit(X, y).best_params_["beta"]
    5.0
    >>> model.set_params(refit="one_standard_error").fit(X, y).best_params_["beta"]
    'auto'
    """

    _parameter_constraints: dict = {
        "betas": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "alphas": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "l1_ratio": [Interval(Real, 0, 1, closed="both"), "array-like"],
        "cv": ["cv_object"],
        "scoring": [str, callable, None],
        "refit": [StrOptions({"best", "one_standard_error"}), callable],
        "n_jobs": [Integral, None],
        **{name: SmoothL1Regressor._parameter_constraints[name] for name in _SHARED},
    }

    def __init__(
        self,
        betas=20,
        *,
        alphas=(0.0,),
        l1_ratio=0.0,
        positive=False,
        penalty_weights=None,
        loss="smooth_l1",
        scale=None,
        fit_intercept=True,
        cv=None,
        scoring=None,
        refit="best",
        n_jobs=None,
        solver="auto",
        max_iter=1000,
        tol=1e-8,
    ):
        self.betas = betas
        self.alphas = alphas
        self.l1_ratio = l1_ratio
        self.positive = positive
        self.penalty_weights = penalty_weights
        self.loss = loss
        self.scale = scale
        self.fit_intercept = fit_intercept
        self.cv = cv
        self.scoring = scoring
        self.refit = refit
        self.n_jobs = n_jobs
        self.solver = solver
        self.max_iter = max_iter
        self.tol = tol

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, **params):
        """Select the threshold and the penalty, and fit the model to all rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data. Arrays and CSR matrices of dtype float64 or float32 are not
            converted.

        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Target values. The same threshold and penalty are selected for all targets.

        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row. Weights must be non-negative and not all zero. If None, all rows
            have the same weight. The weights are used in the fits and in the scores.

        **params : dict
            Metadata for the splitter and the scorer, such as `groups`. Passing metadata
            requires ``sklearn.set_config(enable_metadata_routing=True)``.

        Returns
        -------
        self : SmoothL1RegressorCV
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is out of range, if there are more folds than rows, if a score is not
            a number, if ``refit="one_standard_error"`` and there is a single fold, or if the
            data contain NaN or infinity. If the scorer raises an exception, the fold and
            the parameters are added to the exception as a note.

        TypeError
            If y is sparse, or if a callable `refit` does not return an integer.

        IndexError
            If a callable `refit` returns an index that is out of range.

        Warns
        -----
        ConvergenceWarning
            If any fit does not reach `tol`.
        """
        name = type(self).__name__
        require_in_memory(name, "search", X=X, y=y, sample_weight=sample_weight, **params)
        (X, y, sample_weight), convert = as_numpy(X=X, y=y, sample_weight=sample_weight)
        _raise_for_params(params, self, "fit")
        is_default_grid = isinstance(self.alphas, Integral)
        alphas = None if is_default_grid else check_grid("alphas", self.alphas)
        ratios = _check_ratios(self.l1_ratio)
        # Validation sets attributes such as the feature names. It is given a copy of the
        # estimator, because `self` must not change before the fit is complete.
        checked = copy(self)
        X_used, y_used, weight = check_data(
            partial(validate_data, checked), X, y, sample_weight
        )
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X_used)
        check_penalty_weights(self.penalty_weights, X_used.shape[1])
        points, models, auto_beta = self._candidates(ratios, alphas, X_used, y_used, weight)

        scorer, routed = self._scorer(), self._routed(sample_weight, params)
        folds = self._folds(X, y, X_used.shape[0], routed.splitter.split)
        if self.refit == "one_standard_error" and len(folds) == 1:
            raise ValueError(
                "refit='one_standard_error' requires at least two splits, got one from "
                f"cv={self.cv!r}."
            )
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        data = {"estimator": self, "X": X, "y": y_used, "metadata": metadata}
        context = self._init_callback_context(
            max_subtasks=len(folds) + 1, sequential_subtasks=False
        )
        context.call_on_fit_task_begin(**data)
        # All callback contexts are created before the first fold is sent to another process.
        tasks = [
            context.subcontext(task_name="fold", task_id=k, max_subtasks=len(points))
            for k in range(len(folds))
        ]
        common = self, models, X_used, y_used, weight, scorer, routed.scorer.score
        jobs = zip(range(len(folds)), folds, tasks, strict=True)
        done = Parallel(n_jobs=self.n_jobs, prefer="threads")(
            delayed(_fold)(*common, *job) for job in jobs
        )
        reached = [convergence for _, found in done for convergence in found]

        results = _results(points, np.array([scores for scores, _ in done]))
        best = self._selected(results, auto_beta)
        model = models[best]
        refit = context.subcontext(task_name="refit", task_id=len(folds))
        _refit(model, refit, X_used, y_used, sample_weight, data)
        every = [*reached, *Convergence.of_model(model)]
        warn_unless_converged(name, every, self.tol, self.max_iter, 3 + N_WRAPPERS)

        fitted = convert({k: value for k, value in vars(model).items() if k.endswith("_")})
        fitted |= {
            "alpha_": points[best]["alpha"],
            "l1_ratio_": model.l1_ratio,
            "best_params_": points[best],
            "best_index_": best,
            "best_score_": float(results["mean_test_score"][best]),
            "cv_results_": results,
            "n_splits_": len(folds),
        }
        if hasattr(checked, "feature_names_in_"):
            fitted["feature_names_in_"] = checked.feature_names_in_
        context.call_on_fit_task_end(reconstruction_attributes=fitted, **data)
        # All attributes are set together, so a failed refit does not change the model.
        self.__dict__.pop("feature_names_in_", None)
        self.__dict__.update(fitted)
        return self

    def _candidates(
        self,
        ratios: list[float],
        alphas: list[float] | None,
        X: Any,
        y: NDArray[Any],
        weight: NDArray[np.float64] | None,
    ) -> tuple[list[dict[str, Any]], list[SmoothL1Regressor], float]:
        """Return the grid points, a model for each point, and the threshold of "auto".

        `alphas` is None if the penalties form a default grid. The threshold of "auto" is NaN
        unless the grid or `refit` requires it.
        """
        shared = {name: getattr(self, name) for name in _SHARED}

        def grid_of(beta: Any, ratio: float) -> list[float]:
            """Return the candidate alphas for a threshold and an l1_ratio."""
            if alphas is not None:
                return alphas
            model = SmoothL1Regressor(beta, l1_ratio=ratio, **shared)
            return alpha_grid(int(self.alphas), model, X, y, weight)

        def default_grid(n: int) -> NDArray[np.float64]:
            """Return n thresholds, with the threshold of "auto" at index n // 2."""
            at_auto = sorted(grid_of("auto", ratios[0]), reverse=alphas is None)
            alpha = at_auto[len(at_auto) // 2]
            first = SmoothL1Regressor(alpha=alpha, l1_ratio=ratios[0], **shared)
            return default_betas(n, first, X, y, weight)

        betas, auto_beta = self.betas, np.nan
        if isinstance(betas, Integral):
            betas = default_grid(int(betas))
            auto_beta = betas[len(betas) // 2]
        elif self.refit == "one_standard_error":
            auto_beta = default_grid(1)[0]
        betas = check_grid("betas", betas, zero=False, word="auto")
        points = []
        for ratio in ratios:
            # The grid points are ordered by penalty, and for each penalty by threshold.
            columns = [[(beta, alpha) for alpha in grid_of(beta, ratio)] for beta in betas]
            points += [
                {"beta": beta, "alpha": alpha, "l1_ratio": ratio}
                for row in zip(*columns, strict=True)
                for beta, alpha in row
            ]
        models = [SmoothL1Regressor(**point, **shared) for point in points]
        if not _is_list(self.l1_ratio):
            points = [{"beta": p["beta"], "alpha": p["alpha"]} for p in points]
        return points, models, float(auto_beta)

    def get_metadata_routing(self):
        """Return how `fit` routes metadata to the splitter and the scorer.

        Returns
        -------
        routing : MetadataRouter
            Metadata routing of this estimator.
        """
        from sklearn.model_selection import check_cv

        router = MetadataRouter(owner=type(self).__name__).add_self_request(self)
        split = MethodMapping().add(caller="fit", callee="split")
        # An iterable of splits requests no metadata, and check_cv could exhaust the iterable.
        cv = self.cv if hasattr(self.cv, "split") else check_cv()
        router.add(splitter=cv, method_mapping=split)
        if self.scoring is not None:
            score = MethodMapping().add(caller="fit", callee="score")
            router.add(scorer=self._scorer(), method_mapping=score)
        return router

    def _scorer(self) -> Callable[..., float]:
        # Imported here, because sklearn.metrics would slow down the import of skrobust.
        from sklearn.metrics import check_scoring

        if self.scoring is None:
            return _negative_mean_absolute_error
        scorer: Callable[..., float] = check_scoring(self, scoring=self.scoring)
        return scorer

    def _routed(self, sample_weight: Any, params: dict[str, Any]) -> Bunch:
        """Return the metadata to pass to the splitter and to the scorer."""
        weight = {} if sample_weight is None else {"sample_weight": sample_weight}
        if not _routing_enabled() or not (weight or params):
            return Bunch(splitter=Bunch(split={}), scorer=Bunch(score=weight))
        routed = process_routing(self, "fit", **weight, **params)
        if self.scoring is None:
            routed["scorer"] = Bunch(score=weight)
        return routed

    def _selected(self, results: dict[str, Any], auto_beta: float) -> int:
        """Return the index of the parameter pair that `refit` selects."""
        if self.refit == "best":
            return int(np.argmax(results["mean_test_score"]))
        if self.refit == "one_standard_error":
            return one_standard_error_index(results, auto_beta, self.scale)
        index, n_points = self.refit(results), len(results["params"])
        if not isinstance(index, Integral):
            raise TypeError(f"refit must return an integer, got {index!r} from {self.refit!r}.")
        if not 0 <= int(index) < n_points:
            raise IndexError(
                f"refit must return an index in the range [0, {n_points - 1}], got {index!r} "
                f"from {self.refit!r}."
            )
        return int(index)

    def _folds(self, X: Any, y: Any, n: int, params: dict[str, Any]) -> list[Any]:
        """Return the indices of the training and validation rows of each fold."""
        from sklearn.model_selection import check_cv

        cv = check_cv(self.cv)
        if (self.cv is None or isinstance(self.cv, Integral)) and cv.n_splits > n:
            raise ValueError(
                f"The number of folds must be at most n_samples={n}, got {cv.n_splits} from "
                f"cv={self.cv!r}."
            )
        folds = list(cv.split(X, y, **params))
        if not folds:
            raise ValueError(f"cv must yield at least one split, got none from {self.cv!r}.")
        return folds


def _negative_mean_absolute_error(
    model: Any, X: Any, y: NDArray[Any], sample_weight: NDArray[Any] | None = None
) -> float:
    """Return the score "neg_mean_absolute_error" without validating the data again."""
    errors = np.abs(y - linear_prediction(X, model.coef_, model.intercept_))
    if errors.ndim == 2:
        errors = errors.mean(axis=1)
    return -float(np.average(errors, weights=sample_weight))


def _is_list(l1_ratio: Any) -> bool:
    return np.ndim(l1_ratio) > 0


def _check_ratios(l1_ratio: Any) -> list[float]:
    """Validate l1_ratio, and return its values as a list."""
    ratios = list(l1_ratio) if _is_list(l1_ratio) else [l1_ratio]
    if not ratios:
        raise ValueError("l1_ratio must contain at least one value, got none.")
    for i, ratio in enumerate(ratios):
        if not (isinstance(ratio, Real) and 0 <= float(ratio) <= 1):
            raise ValueError(f"l1_ratio[{i}] must be in the range [0, 1], got {ratio!r}.")
    return [float(ratio) for ratio in ratios]


def _refit(
    model: SmoothL1Regressor,
    context: Any,
    X: Any,
    y: NDArray[Any],
    sample_weight: NDArray[np.float64] | None,
    data: dict[str, Any],
) -> None:
    """Fit the selected model to all rows, reporting the fit to the given callback context.

    No ConvergenceWarning is issued here, because the caller issues a single warning for this
    fit and the folds.
    """
    with context.propagate_callback_context(model), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        context.call_on_fit_task_begin(**data)
        model.fit(X, y, sample_weight)
    context.call_on_fit_task_end(**data)


def _fold(
    owner: SmoothL1RegressorCV,
    models: Sequence[SmoothL1Regressor],
    X: Any,
    y: NDArray[Any],
    weight: NDArray[np.float64] | None,
    scorer: Callable[..., float],
    score_params: dict[str, Any],
    k: int,
    fold: tuple[Any, Any],
    context: Any,
) -> tuple[NDArray[np.float64], list[Convergence]]:
    """Fit the models to the training rows of fold k; return their scores and convergence."""
    train, test = fold
    # Rows outside the training fold have weight zero, which in general avoids copying X.
    inside = np.zeros(X.shape[0])
    # `train` contains repeated indices if the splitter samples with replacement.
    train_rows = np.arange(X.shape[0])[train]
    np.add.at(inside, train_rows, 1.0 if weight is None else weight[train_rows])
    X_test, y_test = X[test], y[test]
    score_params = _check_method_params(X, params=score_params, indices=test)
    scored = score_params.get("sample_weight")
    if not inside.any() or not len(y_test) or (scored is not None and not np.any(scored)):
        raise ValueError(
            f"Split {k} of cv={owner.cv!r} must have "
            + ("validation" if inside.any() else "training")
            + " rows of positive weight, got none."
        )
    data = {"estimator": owner, "X": lambda: X[train], "y": lambda: y[train]}
    weights_of_penalty = check_penalty_weights(owner.penalty_weights, X.shape[1])
    specs = [fit_spec(model).with_penalty_weights(weights_of_penalty) for model in models]
    excluded = excluded_features(weights_of_penalty)
    scores = np.empty(len(models))
    reached: list[Convergence] = []
    context.call_on_fit_task_begin(**data)
    with single_threaded_blas(), ThreadTeam() as team:
        fitted = owner.fit_intercept, specs, owner.solver, excluded
        points = fit_grid(team, X, y, inside, *fitted)
        for _ in models:
            task = context.subcontext(task_name="grid point")
            task.call_on_fit_task_begin(**data)
            i, results = next(points)
            per_target = [[result] for result in results]
            attributes = fitted_attributes(per_target, specs[i], y.ndim == 1, X.dtype)
            model = copy(models[i])
            model.__dict__.update(attributes, n_features_in_=X.shape[1])
            scores[i] = _score(owner, scorer, model, X_test, y_test, score_params, k)
            task.call_on_fit_task_end(reconstruction_attributes=attributes, **data)
            reached += [Convergence.of(result, specs[i]) for result in results]
    context.call_on_fit_task_end(**data)
    return scores, reached


def _score(
    owner: SmoothL1RegressorCV,
    scorer: Callable[..., float],
    model: SmoothL1Regressor,
    X: Any,
    y: NDArray[Any],
    params: dict[str, Any],
    k: int,
) -> float:
    where = (
        f"scoring={owner.scoring!r} in split {k}, beta={model.beta!r}, alpha={model.alpha!r}"
    )
    try:
        score = scorer(model, X, y, **params)
    except BaseException as error:
        error.add_note(f"Raised by {where}.")
        raise
    if not isinstance(score, Real) or np.isnan(float(score)):
        raise ValueError(f"A score must be a number, got {score!r} from {where}.")
    return score


def _results(points: list[dict[str, Any]], scores: NDArray[np.float64]) -> dict[str, Any]:
    """Return `cv_results_`, given the grid points and their scores.

    The scores have shape (n_splits, n_points).
    """
    with np.errstate(invalid="ignore", over="ignore"):
        # A score or its square may be infinite.
        mean, std = scores.mean(axis=0), scores.std(axis=0)
    columns = {f"param_{name}": [point[name] for point in points] for name in points[0]}
    # The dtype object keeps NumPy from converting the numbers to strings if "auto" is present.
    words = any(isinstance(beta, str) for beta in columns["param_beta"])
    return {
        "param_beta": np.array(columns["param_beta"], dtype=object if words else float),
        **{name: np.array(columns[name]) for name in columns if name != "param_beta"},
        "params": points,
        **{f"split{k}_test_score": row for k, row in enumerate(scores)},
        "mean_test_score": mean,
        "std_test_score": std,
        "rank_test_score": rankdata(-mean, method="min").astype(np.int32),
        "se_test_difference": paired_standard_errors(scores, int(np.argmax(mean))),
    }


def paired_standard_errors(scores: NDArray[np.float64], best: int) -> NDArray[np.float64]:
    """Return the standard error of each candidate's mean score difference from the best one.

    The scores have shape (n_splits, n_candidates), and `best` is the index of the best
    candidate. With a single split, all standard errors are NaN.
    """
    n_splits = len(scores)
    if n_splits == 1:
        return np.full(scores.shape[1], np.nan)
    with np.errstate(invalid="ignore", over="ignore"):
        # A score or its square may be infinite.
        difference = scores[:, [best]] - scores
        return np.asarray(difference.std(axis=0, ddof=1) / np.sqrt(n_splits))


def one_standard_error_index(
    results: dict[str, Any], auto_beta: float, scale: str | None
) -> int:
    """Return the index of the parameter pair that the one-standard-error rule selects.

    `auto_beta` is the threshold of "auto", in the units of the parameter `beta`.
    """
    mean = results["mean_test_score"]
    best = int(np.argmax(mean))
    with np.errstate(invalid="ignore"):
        # Scores may be infinite.
        is_close = mean[best] - mean <= results["se_test_difference"]
    is_close[best] = True
    origin = 1.0 if scale == "concomitant" else 0.0
    ratio = [
        1.0 if isinstance(beta, str) else (beta - origin) / (auto_beta - origin)
        for beta in results["param_beta"]
    ]
    # The distances of the thresholds from that of "auto" are rounded, because rounding errors
    # may make equal distances on either side differ slightly.
    distance = np.abs(np.log(ratio)).round(9)
    l1_ratio = results.get("param_l1_ratio", np.zeros(len(mean)))
    # The last key of lexsort has the highest priority.
    order = np.lexsort((-mean, -results["param_alpha"], -l1_ratio, distance))
    return int(order[is_close[order]][0])
