"""SmoothL1RegressorCV: threshold and penalty chosen by cross-validation."""

from copy import copy
from functools import partial
from numbers import Integral, Real

import numpy as np
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval
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

from ._callbacks import N_WRAPPERS, CallbackSupportMixin, with_callbacks
from ._doc_link import DocLinkMixin
from ._grid import check_data, check_grid, default_betas, fits, warn_unless_converged
from ._regressor import SmoothL1Regressor, predicted
from ._threads import Team, single_threaded_blas

# What this estimator shares with those of its grid.
_SHARED = ("loss", "scale", "fit_intercept", "max_iter", "tol")


class SmoothL1RegressorCV(
    DocLinkMixin, CallbackSupportMixin, MultiOutputMixin, RegressorMixin, BaseEstimator
):
    r"""Smooth L1 or Huber regression with the threshold chosen by cross-validation.

    It fits :class:`SmoothL1Regressor` for each threshold in `betas`, each penalty in `alphas`
    and each fold of `cv`, and then for the pair with the best mean score on all rows. The
    fits are as exact as on their own, but share their work: each starts from that at the
    next larger threshold and costs about one pass over X, of which the folds need no copies.

    Read more in the :doc:`user guide </user_guide/choosing_beta>`.

    Parameters
    ----------
    betas : int or array-like, default=20
        Thresholds to choose from, in any order: numbers in the unit that `scale` says, and
        "auto". An integer is a number of thresholds that are spread geometrically from a
        tenth of that of "auto", which is among them, upwards (20 to eight times that); with
        ``scale="concomitant"`` what they exceed 1 by is spread so, and with ``scale=None``
        they follow the residuals of the fit to all rows. The unit is the same for all targets:
        where theirs differ, use ``scale="mad"``.

    alphas : array-like, default=(0.0,)
        Penalties to choose from, in any order. The data term of loss="smooth_l1" shrinks
        as beta grows, so that a penalty of the same alpha takes over: with penalties use
        loss="huber".

    loss : {"smooth_l1", "huber"}, default="smooth_l1"
        As in :class:`SmoothL1Regressor`.

    scale : {"mad", "concomitant"} or None, default=None
        As in :class:`SmoothL1Regressor`. The scale is estimated in each fit anew.

    fit_intercept : bool, default=True
        Whether to fit an intercept.

    cv : int, cross-validation generator or iterable, default=None
        How rows are split: None for 5 folds, an integer for that many, both without
        shuffling, or anything else that scikit-learn takes.

    scoring : str, callable or None, default=None
        A scorer of scikit-learn; the larger its score the better. It gets the weights of its
        rows where `fit` gets weights. None is the mean absolute error, negated: an outlier
        in a validation fold does not choose the threshold, as it would by squared errors
        (:file:`benchmarks/cv_score.py`).

    n_jobs : int or None, default=None
        Folds that are fitted at the same time, as everywhere in scikit-learn. The default
        of one at a time lets each pass over X use several threads.

    max_iter : int, default=1000
        Most iterations of each fit.

    tol : float, default=1e-8
        Where each fit stops, as in :class:`SmoothL1Regressor`.

    Attributes
    ----------
    alpha_ : float
        The penalty chosen.

    beta_ : float or ndarray of shape (n_targets,)
        The threshold chosen, in units of y: for "auto" and with a `scale` the one that the
        fit to all rows has found, as in :class:`SmoothL1Regressor`.

    best_params_ : dict
        "beta" and "alpha" as they stand in the grid.

    best_index_ : int
        Their place in `cv_results_`, the first of equals.

    best_score_ : float
        Their mean score.

    cv_results_ : dict of ndarray
        Reads well as a ``pandas.DataFrame``, with a row for each pair in the order of
        `alphas` and `betas`: param_beta, param_alpha, params, split0_test_score …,
        mean_test_score, std_test_score and rank_test_score.

    n_splits_ : int
        Number of folds.

    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
        Coefficients of the fit to all rows, to which the others belong as well; of the
        dtype of X.

    intercept_ : float or ndarray of shape (n_targets,)
        Intercept, float64.

    scale_ : float or ndarray of shape (n_targets,)
        The estimated scale of the residuals, 1.0 with a fixed threshold.

    n_iter_ : int or ndarray of shape (n_targets,)
        Iterations, at least 1.

    objective_ : float or ndarray of shape (n_targets,)
        The value of the objective.

    optimality_ : float or ndarray of shape (n_targets,)
        Estimate of how far that is above the minimum, relative to its value.

    outliers_ : ndarray of bool, of the shape of y
        Where the residual is above `beta_` in absolute value.

    history_ : list of dict
        As in :class:`SmoothL1Regressor`.

    n_features_in_ : int
        Number of features.

    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, when X has names that are all strings.

    See Also
    --------
    SmoothL1Regressor : At one threshold; its default needs no search.
    smooth_l1_path : The coefficients along thresholds or penalties.
    sklearn.model_selection.GridSearchCV : The same search, point by point.

    Notes
    -----
    The objective is that of :class:`SmoothL1Regressor`. The pair chosen is

    .. math:: \arg\max_{\beta, \alpha} \frac{1}{K} \sum_{k=1}^{K}
              \operatorname{score}(w_k(\beta, \alpha),\ \text{rows of fold } k)

    where :math:`w_k` is the fit to the rows outside fold k. A robust score matters as much as
    a robust fit [1]_.

    References
    ----------
    .. [1] E. Ronchetti, C. Field and W. Blanchard, "Robust Linear Model Selection by
           Cross-Validation", Journal of the American Statistical Association 92, 1997.

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
    """

    _parameter_constraints: dict = {
        "betas": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "alphas": ["array-like"],
        "cv": ["cv_object"],
        "scoring": [str, callable, None],
        "n_jobs": [Integral, None],
        **{name: SmoothL1Regressor._parameter_constraints[name] for name in _SHARED},
    }

    def __init__(
        self,
        betas=20,
        *,
        alphas=(0.0,),
        loss="smooth_l1",
        scale=None,
        fit_intercept=True,
        cv=None,
        scoring=None,
        n_jobs=None,
        max_iter=1000,
        tol=1e-8,
    ):
        self.betas = betas
        self.alphas = alphas
        self.loss = loss
        self.scale = scale
        self.fit_intercept = fit_intercept
        self.cv = cv
        self.scoring = scoring
        self.n_jobs = n_jobs
        self.max_iter = max_iter
        self.tol = tol

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, **params):
        """Choose threshold and penalty, and fit the model to all rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Features; float64, float32 and CSR are used as they are.

        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets; the threshold and the penalty are the same for all.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights, for the fits and for the scores.

        **params : dict
            Passed on to the splitter and the scorer, such as `groups`; needs
            ``sklearn.set_config(enable_metadata_routing=True)``.

        Returns
        -------
        self : SmoothL1RegressorCV
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is out of its range, there are more folds than rows, a score is
            not a number, or the data are not finite. An error of the scorer says in which
            fold and at which point it was raised.

        TypeError
            If y is sparse.

        Warns
        -----
        ConvergenceWarning
            If fits did not reach `tol`.
        """
        _raise_for_params(params, self, "fit")
        alphas = check_grid("alphas", self.alphas)
        shared = {name: getattr(self, name) for name in _SHARED}
        first = SmoothL1Regressor(alpha=sorted(alphas)[len(alphas) // 2], **shared)
        # Gets the names of the features, which are not to be set before all is done.
        checked = copy(self)
        X_used, y_used, weight = check_data(
            partial(validate_data, checked), X, y, sample_weight
        )
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X_used)
        betas = self.betas
        if isinstance(betas, Integral):
            betas = default_betas(betas, first, X_used, y_used, weight)
        betas = check_grid("betas", betas, zero=False, word="auto")
        points = [{"beta": beta, "alpha": alpha} for alpha in alphas for beta in betas]
        models = [SmoothL1Regressor(**point, **shared) for point in points]

        scorer, routed = self._scorer(), self._routed(sample_weight, params)
        folds = self._folds(X, y, X_used.shape[0], routed.splitter.split)
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        data = {"estimator": self, "X": X, "y": y_used, "metadata": metadata}
        context = self._init_callback_context(
            max_subtasks=len(folds) + 1, sequential_subtasks=False
        )
        context.call_on_fit_task_begin(**data)
        # All of them before any is sent to a process.
        tasks = [
            context.subcontext(task_name="fold", task_id=k, max_subtasks=len(points))
            for k in range(len(folds))
        ]
        common = self, models, X_used, y_used, weight, scorer, routed.scorer.score
        jobs = zip(range(len(folds)), folds, tasks, strict=True)
        done = Parallel(n_jobs=self.n_jobs, prefer="threads")(
            delayed(_fold)(*common, *job) for job in jobs
        )
        stages = [stage for _, found in done for stage in found]
        name = type(self).__name__
        warn_unless_converged(name, stages, self.tol, self.max_iter, 3 + N_WRAPPERS)

        results = _results(points, np.array([scores for scores, _ in done]))
        best = int(np.argmax(results["mean_test_score"]))
        model = models[best]
        refit = context.subcontext(task_name="refit", task_id=len(folds))
        with refit.propagate_callback_context(model):
            refit.call_on_fit_task_begin(**data)
            model.fit(X_used, y_used, sample_weight)
        refit.call_on_fit_task_end(**data)

        fitted = {name: value for name, value in vars(model).items() if name.endswith("_")}
        fitted |= {
            "alpha_": points[best]["alpha"],
            "best_params_": points[best],
            "best_index_": best,
            "best_score_": float(results["mean_test_score"][best]),
            "cv_results_": results,
            "n_splits_": len(folds),
        }
        if hasattr(checked, "feature_names_in_"):
            fitted["feature_names_in_"] = checked.feature_names_in_
        context.call_on_fit_task_end(reconstruction_attributes=fitted, **data)
        # All at once: an interrupted refit leaves the old model whole.
        self.__dict__.pop("feature_names_in_", None)
        self.__dict__.update(fitted)
        return self

    predict = SmoothL1Regressor.predict

    def get_metadata_routing(self):
        """Where the metadata of `fit` goes: here, to the splitter and to the scorer.

        Returns
        -------
        routing : MetadataRouter
        """
        from sklearn.model_selection import check_cv

        router = MetadataRouter(owner=type(self).__name__).add_self_request(self)
        split = MethodMapping().add(caller="fit", callee="split")
        # An iterable of splits asks for nothing, and might be used up.
        cv = self.cv if hasattr(self.cv, "split") else check_cv()
        router.add(splitter=cv, method_mapping=split)
        if self.scoring is not None:
            score = MethodMapping().add(caller="fit", callee="score")
            router.add(scorer=self._scorer(), method_mapping=score)
        return router

    def _scorer(self):
        # Not at the top: it would make the import slow.
        from sklearn.metrics import check_scoring

        if self.scoring is None:
            return _negative_mean_absolute_error
        return check_scoring(self, scoring=self.scoring)

    def _routed(self, sample_weight, params):
        """What goes to the splitter and what to the scorer."""
        weight = {} if sample_weight is None else {"sample_weight": sample_weight}
        if not _routing_enabled() or not (weight or params):
            return Bunch(splitter=Bunch(split={}), scorer=Bunch(score=weight))
        routed = process_routing(self, "fit", **weight, **params)
        if self.scoring is None:
            routed["scorer"] = Bunch(score=weight)
        return routed

    def _folds(self, X, y, n, params):
        """Rows to fit and rows to score, of each fold."""
        from sklearn.model_selection import check_cv

        cv = check_cv(self.cv)
        if (self.cv is None or isinstance(self.cv, Integral)) and cv.n_splits > n:
            raise ValueError(
                f"cv={self.cv!r} asks for {cv.n_splits} folds, more than there are rows: "
                f"n_samples={n}. Pass a smaller cv."
            )
        folds = list(cv.split(X, y, **params))
        if not folds:
            raise ValueError(f"cv={self.cv!r} gives no splits; give at least one.")
        return folds


def _negative_mean_absolute_error(model, X, y, sample_weight=None):
    """The default score: as neg_mean_absolute_error, without checking the data once more."""
    errors = np.abs(y - predicted(model, X))
    if errors.ndim == 2:
        errors = errors.mean(axis=1)
    return -float(np.average(errors, weights=sample_weight))


def _fold(owner, models, X, y, weight, scorer, score_params, k, fold, context):
    """The score of each model in fold k, and the stages without what is long."""
    train, test = fold
    # Rows of weight zero take no part, so that X needs no copy.
    inside = np.zeros(X.shape[0])
    # A row may be there more than once.
    train_rows = np.arange(X.shape[0])[train]
    np.add.at(inside, train_rows, 1.0 if weight is None else weight[train_rows])
    X_test, y_test = X[test], y[test]
    score_params = _check_method_params(X, params=score_params, indices=test)
    scored = score_params.get("sample_weight")
    if not inside.any() or not len(y_test) or (scored is not None and not np.any(scored)):
        raise ValueError(
            f"Split {k} of cv={owner.cv!r} has no rows "
            + ("to score" if inside.any() else "to fit")
            + ", or none of positive weight."
        )
    data = {"estimator": owner, "X": lambda: X[train], "y": lambda: y[train]}
    tasks = [model._task() for model in models]
    scores, reached = np.empty(len(models)), []
    context.call_on_fit_task_begin(**data)
    with single_threaded_blas(), Team() as team:
        walk = fits(team, X, y, inside, owner.fit_intercept, tasks)
        for _ in models:
            task = context.subcontext(task_name="grid point")
            task.call_on_fit_task_begin(**data)
            i, stages = next(walk)
            attributes = models[i]._attributes([[s] for s in stages], None, X, y, tasks[i])
            model = copy(models[i])
            model.__dict__.update(attributes, n_features_in_=X.shape[1])
            scores[i] = _score(owner, scorer, model, X_test, y_test, score_params, k)
            task.call_on_fit_task_end(reconstruction_attributes=attributes, **data)
            reached += [stage._replace(coef=None, outlier=None) for stage in stages]
    context.call_on_fit_task_end(**data)
    return scores, reached


def _score(owner, scorer, model, X, y, params, k):
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


def _results(points, scores):
    """cv_results_, from the scores (n_splits, n_points)."""
    with np.errstate(invalid="ignore", over="ignore"):
        # A score may be infinite, or its square.
        mean, std = scores.mean(axis=0), scores.std(axis=0)
    columns = {f"param_{name}": [point[name] for point in points] for name in points[0]}
    # "auto" must not make strings of the others.
    words = any(isinstance(beta, str) for beta in columns["param_beta"])
    return {
        "param_beta": np.array(columns["param_beta"], dtype=object if words else float),
        "param_alpha": np.array(columns["param_alpha"]),
        "params": points,
        **{f"split{k}_test_score": row for k, row in enumerate(scores)},
        "mean_test_score": mean,
        "std_test_score": std,
        "rank_test_score": rankdata(-mean, method="min").astype(np.int32),
    }
