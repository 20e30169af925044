"""SmoothL1RegressorCV: threshold and penalty chosen by cross-validation."""

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
from sklearn.base import _fit_context
from sklearn.exceptions import ConvergenceWarning
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

from ._attributes import fitted_attributes
from ._base import LinearRegressor, linear_prediction
from ._callbacks import N_WRAPPERS, with_callbacks
from ._engines.threads import ThreadTeam, single_threaded_blas
from ._fit import StageResult
from ._grid import Convergence, check_grid, default_betas, fit_grid, warn_unless_converged
from ._regressor import SmoothL1Regressor
from ._spec import fit_spec
from ._validation import check_data

# What this estimator shares with those of its grid.
_SHARED = ("loss", "scale", "fit_intercept", "solver", "max_iter", "tol")


class SmoothL1RegressorCV(LinearRegressor):
    r"""Smooth L1 or Huber regression with the threshold chosen by cross-validation.

    :class:`SmoothL1Regressor` is fitted for each threshold in `betas`, each penalty in
    `alphas` and each fold of `cv`, and then to all rows for the pair with the best mean
    score. Each fit starts from that at the next larger threshold and takes about one pass over
    X; it is as accurate as a single fit. The folds do not copy X.

    Read more in the :doc:`user guide </user_guide/choosing_beta>`.

    Parameters
    ----------
    betas : int or array-like, default=20
        Thresholds to choose from, in any order: numbers in the unit given by `scale`, and
        "auto". An integer is the number of thresholds of the default grid: geometrically
        spaced thresholds from a tenth of that of "auto", which is among them, to about ten
        times that. With ``scale="concomitant"`` their excess over 1 is geometrically spaced;
        with ``scale=None`` they follow from the residuals of a fit to all rows. The unit is
        the same for all targets; use ``scale="mad"`` for targets in different units.

    alphas : array-like, default=(0.0,)
        Penalties to choose from, in any order. The data term of loss="smooth_l1" decreases as
        beta grows, so that a penalty of the same alpha dominates: use loss="huber" with
        penalties.

    loss : {"smooth_l1", "huber"}, default="smooth_l1"
        The loss, as in :class:`SmoothL1Regressor`.

    scale : {"mad", "concomitant"} or None, default=None
        The estimator of the scale, as in :class:`SmoothL1Regressor`. The scale is estimated
        in each fit.

    fit_intercept : bool, default=True
        Whether to fit an intercept. If False, the data are expected to be centred.

    cv : int, cross-validation generator or iterable, default=None
        Cross-validation splitting strategy: None for 5 folds without shuffling, an integer
        for another number of folds, a splitter of scikit-learn, or an iterable of splits.

    scoring : str, callable or None, default=None
        A scorer of scikit-learn, with greater values for better fits. It is given the weights
        of the validation rows if `fit` is given weights. None is the negated mean absolute
        error: outliers in the validation folds do not determine the choice, as they would with
        squared errors (:file:`benchmarks/cv_score.py`).

    n_jobs : int or None, default=None
        Number of folds to fit in parallel. None means 1 unless in a
        ``joblib.parallel_backend`` context; -1 means all processors. With 1, each pass over X
        uses several threads.

    solver : {"auto", "lbfgs", "newton"}, default="auto"
        The algorithm, as in :class:`SmoothL1Regressor`. "auto" shares sums over the rows
        between the points of the grid; with "lbfgs" and "newton" each point is started from
        the previous solution.

    max_iter : int, default=1000
        Maximum number of iterations of each fit.

    tol : float, default=1e-8
        Tolerance of the stopping criterion, as in :class:`SmoothL1Regressor`.

    Attributes
    ----------
    alpha_ : float
        The chosen penalty.

    beta_ : float or ndarray of shape (n_targets,)
        The threshold of the fit to all rows, in units of y, as in
        :class:`SmoothL1Regressor`.

    best_params_ : dict
        The chosen "beta" and "alpha", as given in the grid.

    best_index_ : int
        Index of the chosen pair in `cv_results_`, the first of equally good pairs.

    best_score_ : float
        Mean score of the chosen pair.

    cv_results_ : dict of ndarray
        The scores of each pair, in the order of `alphas` and `betas`: param_beta,
        param_alpha, params, split0_test_score …, mean_test_score, std_test_score and
        rank_test_score. It can be converted to a ``pandas.DataFrame``.

    n_splits_ : int
        Number of folds.

    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
        Coefficients of the fit to all rows, of the dtype of X. The attributes below belong to
        the same fit.

    intercept_ : float or ndarray of shape (n_targets,)
        Intercept, float64; 0.0 if ``fit_intercept=False``.

    scale_ : float or ndarray of shape (n_targets,)
        The estimated scale of the residuals; 1.0 with a fixed threshold.

    n_iter_ : int or ndarray of shape (n_targets,)
        Number of iterations, at least 1.

    objective_ : float or ndarray of shape (n_targets,)
        The value of the objective.

    optimality_ : float or ndarray of shape (n_targets,)
        How far that is at most above the minimum, relative to its value.

    rank_ : int
        Number of directions of the centred features that the fit could tell from zero.

    outliers_ : ndarray of bool, of the shape of y
        Mask of the rows whose absolute residual exceeds `beta_`.

    history_ : list of dict
        As in :class:`SmoothL1Regressor`.

    n_features_in_ : int
        Number of features.

    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, when X has names that are all strings.

    See Also
    --------
    SmoothL1Regressor : The regressor at one threshold, estimated by default.
    smooth_l1_path : Coefficients along thresholds or penalties.
    sklearn.model_selection.GridSearchCV : Search over the parameters of any estimator.

    Notes
    -----
    The objective is that of :class:`SmoothL1Regressor`. The chosen pair is

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
        solver="auto",
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
        self.solver = solver
        self.max_iter = max_iter
        self.tol = tol

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, **params):
        """Choose the threshold and the penalty, and fit the model to all rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data. float64, float32 and CSR are not converted.

        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Target values. The threshold and the penalty are the same for all targets.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative sample weights, for the fits and for the scores.

        **params : dict
            Metadata for the splitter and the scorer, such as `groups`. It requires
            ``sklearn.set_config(enable_metadata_routing=True)``.

        Returns
        -------
        self : SmoothL1RegressorCV
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is out of its range, if there are more folds than rows, if a score
            is not a number, or if the data are not finite. An error of the scorer carries a
            note that names the fold and the pair.

        TypeError
            If y is sparse.

        Warns
        -----
        ConvergenceWarning
            If some fits did not reach `tol`.
        """
        _raise_for_params(params, self, "fit")
        alphas = check_grid("alphas", self.alphas)
        shared = {name: getattr(self, name) for name in _SHARED}
        first = SmoothL1Regressor(alpha=sorted(alphas)[len(alphas) // 2], **shared)
        # Validation sets the names of the features, which `self` gets when all is done.
        checked = copy(self)
        X_used, y_used, weight = check_data(
            partial(validate_data, checked), X, y, sample_weight
        )
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X_used)
        betas = self.betas
        if isinstance(betas, Integral):
            betas = default_betas(int(betas), first, X_used, y_used, weight)
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
        # All tasks are created before any is sent to a process.
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

        results = _results(points, np.array([scores for scores, _ in done]))
        best = int(np.argmax(results["mean_test_score"]))
        model = models[best]
        refit = context.subcontext(task_name="refit", task_id=len(folds))
        with refit.propagate_callback_context(model), warnings.catch_warnings():
            # One warning for all fits follows.
            warnings.simplefilter("ignore", ConvergenceWarning)
            refit.call_on_fit_task_begin(**data)
            model.fit(X_used, y_used, sample_weight)
        refit.call_on_fit_task_end(**data)
        every = [*map(Convergence.of, stages), *map(Convergence.of_history, model.history_)]
        name = type(self).__name__
        warn_unless_converged(name, every, self.tol, self.max_iter, 3 + N_WRAPPERS)

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
        # Attributes are set at once: an interrupted refit leaves the old model whole.
        self.__dict__.pop("feature_names_in_", None)
        self.__dict__.update(fitted)
        return self

    def get_metadata_routing(self):
        """Return the routing of the metadata of `fit` to the splitter and the scorer.

        Returns
        -------
        routing : MetadataRouter
        """
        from sklearn.model_selection import check_cv

        router = MetadataRouter(owner=type(self).__name__).add_self_request(self)
        split = MethodMapping().add(caller="fit", callee="split")
        # An iterable of splits requests no metadata, and might be consumed.
        cv = self.cv if hasattr(self.cv, "split") else check_cv()
        router.add(splitter=cv, method_mapping=split)
        if self.scoring is not None:
            score = MethodMapping().add(caller="fit", callee="score")
            router.add(scorer=self._scorer(), method_mapping=score)
        return router

    def _scorer(self) -> Callable[..., float]:
        # Imported late, since it would make the import of the package slow.
        from sklearn.metrics import check_scoring

        if self.scoring is None:
            return _negative_mean_absolute_error
        scorer: Callable[..., float] = check_scoring(self, scoring=self.scoring)
        return scorer

    def _routed(self, sample_weight: Any, params: dict[str, Any]) -> Bunch:
        """Return the metadata of the splitter and of the scorer."""
        weight = {} if sample_weight is None else {"sample_weight": sample_weight}
        if not _routing_enabled() or not (weight or params):
            return Bunch(splitter=Bunch(split={}), scorer=Bunch(score=weight))
        routed = process_routing(self, "fit", **weight, **params)
        if self.scoring is None:
            routed["scorer"] = Bunch(score=weight)
        return routed

    def _folds(self, X: Any, y: Any, n: int, params: dict[str, Any]) -> list[Any]:
        """Return the rows to fit and the rows to score of each fold."""
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


def _negative_mean_absolute_error(
    model: Any, X: Any, y: NDArray[Any], sample_weight: NDArray[Any] | None = None
) -> float:
    """Return neg_mean_absolute_error without checking the data again."""
    errors = np.abs(y - linear_prediction(model, X))
    if errors.ndim == 2:
        errors = errors.mean(axis=1)
    return -float(np.average(errors, weights=sample_weight))


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
) -> tuple[NDArray[np.float64], list[StageResult]]:
    """Return the score of each model in fold k, and its results without their vectors."""
    train, test = fold
    # Rows outside the fold have weight zero, so that X is not copied.
    inside = np.zeros(X.shape[0])
    # A row may occur more than once.
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
    specs = [fit_spec(model) for model in models]
    scores = np.empty(len(models))
    reached: list[StageResult] = []
    context.call_on_fit_task_begin(**data)
    with single_threaded_blas(), ThreadTeam() as team:
        points = fit_grid(team, X, y, inside, owner.fit_intercept, specs, owner.solver)
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
            # The vectors are left out of what is sent to another process.
            none = np.zeros(0)
            reached += [result._replace(coef=none, outlier=none) for result in results]
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
    """Return `cv_results_`, given the scores of shape (n_splits, n_points)."""
    with np.errstate(invalid="ignore", over="ignore"):
        # A score or its square may be infinite.
        mean, std = scores.mean(axis=0), scores.std(axis=0)
    columns = {f"param_{name}": [point[name] for point in points] for name in points[0]}
    # An array of strings would convert the numbers beside "auto".
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
