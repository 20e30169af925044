"""SmoothL1Regressor: linear regression with the Smooth L1 or Huber loss."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import MultiOutputMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, StrOptions

from ._attributes import fitted_attributes, relative_suboptimality
from ._base import LinearRegressor
from ._callbacks import N_WRAPPERS, with_callbacks
from ._engines.threads import ThreadTeam, single_threaded_blas
from ._fit import StageResult, fit_stages
from ._lazy_data import all_dask, is_dask, require_in_memory
from ._sampling import RowSampler, feature_rank
from ._solvers import choose
from ._spec import FitSpec, fit_spec
from ._training_data import ArrayData, TrainingData
from ._validation import check_penalty_weights, excluded_features
from .schedules import N_STAGES

# Attributes with a value for each row, which are lazy after a fit to Dask collections, and the
# expressions that error messages give for computing them from the data.
_LAZY_FORMULAS = {
    "outliers_": "abs(y - model.predict(X)) > model.beta_",
    "weights_": "numpy.minimum(1, model.beta_ / abs(y - model.predict(X)))",
}


class SmoothL1Regressor(MultiOutputMixin, LinearRegressor):
    r"""Linear regression with the Smooth L1 or Huber loss.

    The loss is quadratic for absolute residuals below a threshold and linear above it, which
    limits the influence of outliers in y. With the default ``beta="auto"``, the threshold is
    estimated from the data. Without a penalty, the predictions do not depend on the units of
    the features, so the features need not be scaled.

    Let :math:`r_i = y_i - x_i^T w - b` be the residuals, :math:`s_i` the sample weights,
    :math:`S` their sum and :math:`\beta` the threshold. The coefficients w and the intercept b
    minimise

    .. math:: \frac{1}{S} \sum_i s_i \, \ell(r_i) + P(w), \qquad
              P(w) = \alpha \sum_j q_j \Bigl[\rho\, |w_j| + \frac{1 - \rho}{2}\, w_j^2\Bigr]

    with :math:`\rho` = `l1_ratio` and :math:`q` = `penalty_weights`, subject to :math:`w \ge 0`
    if `positive` is True. There is no penalty by default. Setting only `alpha` gives the ridge
    penalty :math:`\frac{\alpha}{2} \lVert w \rVert^2`. The loss :math:`\ell` is one of

    .. math::

        \text{smooth L1:}\quad \ell_\beta(r) = \begin{cases} r^2 / (2\beta) & |r| < \beta \\
        |r| - \beta/2 & \text{otherwise} \end{cases}
        \qquad \text{Huber:}\quad h_\beta(r) = \beta\,\ell_\beta(r).

    Read more in the :doc:`user guide </user_guide/index>`.

    Parameters
    ----------
    beta : float or "auto", default="auto"
        Threshold at which the loss changes from quadratic to linear.

        - A number must be positive. With ``scale=None`` it is in units of y, like `beta` in
          PyTorch's ``SmoothL1Loss`` and `delta` in its ``HuberLoss``; otherwise it is a
          multiple of the estimated scale.
        - "auto" is the threshold at which the fit is 95 % as efficient as least squares under
          normal errors: 1.5960 concomitant scales if ``scale="concomitant"``, otherwise 1.345
          normalised MADs of the residuals.

    loss : {"smooth_l1", "huber"}, default="smooth_l1"
        Loss function. The Huber loss is the Smooth L1 loss multiplied by beta, so both give the
        same coefficients without a penalty. With ``alpha > 0`` the coefficients differ:

        - "smooth_l1": as beta increases, the loss decreases like 1/beta and the penalty does
          not, so the penalty dominates the objective at large thresholds.
        - "huber": as beta increases, the fit tends to penalised least squares, that is, to
          :class:`~sklearn.linear_model.Ridge` or :class:`~sklearn.linear_model.ElasticNet`. Use
          this loss when searching over beta with a penalty.

        A fit is scale equivariant if multiplying y, and a `beta` in units of y, by a constant
        multiplies the coefficients by the same constant. With a ridge penalty, only fits with
        ``loss="huber"`` and ``scale=None`` or "mad" are scale equivariant. With ``l1_ratio=1``,
        fits with "smooth_l1" are scale equivariant, and so are fits with "huber" if
        ``scale="concomitant"``.

    scale : {"mad", "concomitant"} or None, default=None
        Estimator of the residual scale, which is the unit of `beta`.

        - None: no scale is estimated, and `beta` is in units of y. With ``beta="auto"``,
          however, None is equivalent to "mad".
        - "mad": the normalised MAD, that is, the median of :math:`|r_i|` divided by
          :math:`\Phi^{-1}(3/4)`. Starting from least squares, the scale and the coefficients
          are updated until the scale is the MAD of the residuals of the fit, as in R's
          ``MASS::rlm`` and in ``RLM`` of statsmodels.
        - "concomitant": the objective is minimised jointly over the coefficients and the scale
          :math:`\sigma`, as in :class:`~sklearn.linear_model.HuberRegressor`, whose parameter
          `epsilon` corresponds to `beta`. Requires ``beta > 1``. The objective for
          ``loss="huber"`` is

          .. math:: \frac{1}{2S} \sum_i s_i \bigl[\sigma + H_\beta(r_i/\sigma)\,\sigma\bigr]
                    + P(w), \qquad
                    H_\beta(z) = \begin{cases} z^2 & |z| \le \beta \\ 2\beta|z| - \beta^2 &
                    \text{otherwise} \end{cases}

          and for ``loss="smooth_l1"`` the first term is divided by beta.

    alpha : float, default=0.0
        Constant that multiplies the penalty on the coefficients. Must be non-negative;
        ``alpha=0`` means no penalty. The intercept is not penalised. As beta increases, the fit
        with ``loss="huber"`` tends to ``Ridge(alpha=alpha * S)``, where S is the sum of the
        sample weights, or to ``ElasticNet(alpha=alpha, l1_ratio=l1_ratio)`` if
        ``l1_ratio > 0``. To minimise the objective of ``HuberRegressor(epsilon=e, alpha=a)``,
        set ``loss="huber"``, ``scale="concomitant"``, ``beta=e`` and ``alpha=a / S``.

    l1_ratio : float, default=0.0
        Elastic-net mixing parameter :math:`\rho`, between 0 and 1: 0 gives the ridge penalty, 1
        the lasso penalty, and values in between combine both. With ``l1_ratio > 0``,
        coefficients can be exactly zero. If ``alpha=0``, the default, `l1_ratio` has no effect
        and even ``l1_ratio=1`` does not give a sparse model.

    positive : bool, default=False
        Whether to constrain the coefficients to be non-negative. The constraint applies even if
        ``alpha=0``. The intercept is not constrained.

    penalty_weights : array-like of shape (n_features,) or None, default=None
        Factor :math:`q_j` that multiplies the penalty of each feature; a non-negative number or
        infinity. None means that all factors are 1. A feature with weight 0 is not penalised; a
        feature with infinite weight has coefficient 0, even if ``alpha=0``. The weights are
        used as given, whereas R's glmnet rescales its penalty factors to sum to `n_features`.
        The effect of a penalty depends on the units of the features; with ``l1_ratio=1``,
        ``penalty_weights=X.std(axis=0)`` has the same effect as standardising the features.

    fit_intercept : bool, default=True
        Whether to fit an intercept. If False, no intercept is used and the data are expected to
        be centred.

    beta_schedule : {"geometric", "linear", "cosine"}, array-like or None, default=None
        Multipliers of the threshold for a fit in several stages, each of which starts from the
        solution of the previous stage.

        - None: a single stage.
        - array-like: strictly decreasing multipliers that end in 1, such as
          ``[50, 10, 2, 1]``.
        - "geometric", "linear" or "cosine": the schedule of this name in
          :mod:`skrobust.schedules`. Its first threshold exceeds nearly all absolute residuals.

        The solution does not depend on the schedule; `history_` records the stages. A schedule
        increases the number of passes over X. Without a schedule, the solvers themselves
        approach a small threshold in steps.

    solver : {"auto", "lbfgs", "newton"}, default="auto"
        Algorithm that minimises the objective. All solvers reach the same minimum, and they
        share the standardisation, the starting point and the scale estimator.

        - "auto": the fastest algorithm for the data. This is Anderson acceleration of the
          coefficients and the scale for tall dense X (at least 400 rows per feature and two
          million elements) and for sparse X with at least 200 features and more rows than
          features. For other X it is Newton's method, preceded by L-BFGS if X has more than
          20,000 elements.
        - "lbfgs": SciPy's L-BFGS until rounding errors in the objective stop its line search,
          then Newton's method until `tol` is reached. This solver is slow if beta is far below
          the residual scale.
        - "newton": the semismooth Newton method with an exact line search. If few absolute
          residuals are below `beta_`, it starts at a larger threshold and lowers the threshold
          in steps.

        With an L1 penalty or ``positive=True``, `solver` has no effect: these fits use a
        proximal Newton method on a working set of features. Fits with a schedule or a warm
        start do not use Anderson acceleration. `history_` records which algorithms were used.

    max_iter : int, default=1000
        Maximum number of iterations on the full data, summed over the stages.

    tol : float, default=1e-8
        Tolerance for the stopping criterion. The solver stops when the norm of the gradient,
        divided by the root mean square of the residuals clipped at the threshold, is at most
        `tol`. The gradient is taken in coordinates in which the features are uncorrelated and
        have unit variance, which makes `tol` dimensionless. With ``tol=0`` the solver stops
        when rounding errors prevent further progress. With an L1 penalty or
        ``positive=True``, the gradient norm is replaced by the largest violation of the
        optimality conditions for features scaled to unit variance, and `optimality_` must also
        be at most `tol`.

    warm_start : bool, default=False
        If True, `fit` starts from the coefficients of the previous call, provided that the
        numbers of features and targets are unchanged. If False, the previous coefficients are
        ignored. The estimated scale does not depend on these coefficients.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
        Coefficients, in the dtype of X. With an L1 penalty or ``positive=True``, some of them
        can be exactly 0.

    intercept_ : float or ndarray of shape (n_targets,)
        Intercept, in float64; 0.0 if ``fit_intercept=False``.

    beta_ : float or ndarray of shape (n_targets,)
        Threshold of the fit, in units of y.

    scale_ : float or ndarray of shape (n_targets,)
        Estimated residual scale, in units of y; 1.0 if no scale is estimated.

    n_iter_ : int or ndarray of shape (n_targets,)
        Number of iterations on the full data, at least 1.

    objective_ : float or ndarray of shape (n_targets,)
        Value of the objective at the solution, including the penalty.

    optimality_ : float or ndarray of shape (n_targets,)
        Relative duality gap, an upper bound on the relative suboptimality
        :math:`(F - \min F) / F` of `objective_`. For tall data, where the fit starts from a
        sample, and for X whose Gram matrix is not computed (see `rank_`), the attribute is
        instead an estimate of the suboptimality from the Newton decrement, or NaN if the fit
        did not converge. For tall data, :func:`duality_gap` computes the upper bound. With an
        L1 penalty, or with ``positive=True`` and a penalty, the attribute is always the upper
        bound, even if the fit did not converge.

    rank_ : int
        Numerical rank of the centred features, not counting the intercept. The rank is less
        than the number of features if some features are constant or linearly dependent, up to
        rounding errors in X, or if there are more features than rows. If X has so many features
        that its Gram matrix is not computed (at least 200 if X is sparse, or 5,000 if it is
        dense), `rank_` is an upper bound.

    outliers_ : ndarray or dask Array of bool of shape (n_samples,) or (n_samples, n_targets)
        Boolean mask of the rows with :math:`|r_i| > \beta`, where :math:`\beta` is `beta_`.
        These rows are downweighted but not necessarily wrong: with normal errors and the
        default threshold, 18 % of the rows are beyond the threshold even without outliers.
        After a fit to Dask collections, `outliers_` and `weights_` are lazy: they are computed
        from the collections passed to `fit`, and are not pickled with the model.

    weights_ : ndarray or dask Array of shape (n_samples,) or (n_samples, n_targets)
        Robustness weight :math:`\min(1, \beta/|r_i|)` of each row, between 0 and 1, in
        float64. The fit is a weighted least-squares fit with these weights multiplied by
        `sample_weight`. The weight of a row is below 1 if and only if `outliers_` is True for
        this row. The corresponding attribute is ``weights`` in statsmodels' ``RLM`` and ``w``
        in R's ``rlm``.

    history_ : list of dict
        One dict for each stage of each target, with the keys "target", "beta", "scale",
        "n_iter", "n_eval" (number of passes over X for gradients and Hessian products),
        "objective", "gradient_norm" (the quantity that `tol` limits), "message" (why the stage
        ended), "algorithms" (numbers of passes taken by the algorithms, which add up to
        "n_eval") and "n_active" (number of nonzero coefficients). After a fit to Dask
        collections, the key "n_rounds" gives the number of times that the stage waited for
        results from all blocks of rows.

    n_features_in_ : int
        Number of features seen during `fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features seen during `fit`. Defined only if all feature names of X are
        strings.

    See Also
    --------
    SmoothL1RegressorCV : Selection of the threshold and the penalty by cross-validation.
    MMRegressor : Regression for data with outliers in X or more than about 30 % outliers.
    sklearn.linear_model.HuberRegressor : Concomitant objective; requires scaled features.
    sklearn.linear_model.QuantileRegressor : Median regression, the limit for small thresholds.
    sklearn.linear_model.Ridge : Limit of ridge-penalised Huber fits for large beta.
    sklearn.linear_model.ElasticNet : Limit of L1-penalised Huber fits for large beta.

    Notes
    -----
    The influence of outliers in y is bounded. The influence of leverage points (rows whose
    features are far from those of the other rows) is not bounded, even with an L1 penalty. Use
    :class:`MMRegressor` for data with leverage points.

    The effect of a penalty, including which features an L1 penalty selects, depends on the
    units of the features. Standardise the features in a pipeline if ``alpha > 0``. With more
    features than rows, use ``scale="concomitant"`` or a fixed threshold, because the MAD grows
    as coefficients are shrunk and tends to zero as the fit approaches interpolation.

    The minimiser may not be unique if columns are duplicated and ``l1_ratio=1``, or if columns
    are linearly dependent and ``positive=True`` is used without a penalty. In these cases, only
    the minimum is unique.

    If features are linearly dependent and there is neither a penalty nor a constraint, the
    minimiser is not unique. `fit` selects the minimiser whose coefficients for standardised
    features have no component in the null space of these features. Features are standardised by
    their weighted standard deviation (by their root mean square without an intercept). If the
    mean of a feature is so large that deviations from it are stored with fewer than six digits,
    the coefficient of this feature is smaller than this rule implies.

    References
    ----------
    .. [1] P. J. Huber and E. M. Ronchetti, "Robust Statistics", 2nd ed., Wiley, 2009,
           sections 7.3 to 7.8.
    .. [2] A. B. Owen, "A robust hybrid of lasso and ridge regression", Contemporary
           Mathematics 443, 2007 (the concomitant objective).

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust import SmoothL1Regressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2)) * [1.0, 1e6]
    >>> y = X @ [3.0, 2e-6] + rng.normal(scale=0.1, size=200)
    >>> y[:20] += 1000
    >>> model = SmoothL1Regressor().fit(X, y)
    >>> (model.coef_ * [1.0, 1e6]).round(2)
    array([2.99, 2.01])
    >>> int(model.outliers_[:20].sum())
    20

    With more features than rows, an L1 penalty selects features:

    >>> X = rng.normal(size=(60, 200))
    >>> y = X[:, :3] @ [3.0, -2.0, 1.0] + rng.normal(scale=0.1, size=60)
    >>> y[:6] += 1000
    >>> model = SmoothL1Regressor(loss="huber", beta=0.2, alpha=0.05, l1_ratio=1).fit(X, y)
    >>> np.flatnonzero(model.coef_)
    array([0, 1, 2])
    >>> model.coef_[:3].round(1)
    array([ 2.9, -2. ,  0.9])
    """

    _parameter_constraints: dict = {
        "beta": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "loss": [StrOptions({"smooth_l1", "huber"})],
        "scale": [StrOptions({"mad", "concomitant"}), None],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "l1_ratio": [Interval(Real, 0, 1, closed="both")],
        "positive": ["boolean"],
        "penalty_weights": ["array-like", None],
        "fit_intercept": ["boolean"],
        "beta_schedule": [
            StrOptions({"geometric", "linear", "cosine"}),
            "array-like",
            None,
        ],
        "solver": [StrOptions({"auto", "lbfgs", "newton"})],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "warm_start": ["boolean"],
    }

    def __init__(
        self,
        beta="auto",
        *,
        loss="smooth_l1",
        scale=None,
        alpha=0.0,
        l1_ratio=0.0,
        positive=False,
        penalty_weights=None,
        fit_intercept=True,
        beta_schedule=None,
        solver="auto",
        max_iter=1000,
        tol=1e-8,
        warm_start=False,
    ):
        self.beta = beta
        self.loss = loss
        self.scale = scale
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.positive = positive
        self.penalty_weights = penalty_weights
        self.fit_intercept = fit_intercept
        self.beta_schedule = beta_schedule
        self.solver = solver
        self.max_iter = max_iter
        self.tol = tol
        self.warm_start = warm_start

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix, dask Array, dask DataFrame} of shape \
                (n_samples, n_features)
            Training data. Data of dtype float64 or float32 are not converted, and are copied
            only if some rows have weight zero. Dask collections are processed in blocks of rows
            by the current Dask client or, if there is no client, by the configured scheduler.
            They are not gathered into one array; see :doc:`/user_guide/out_of_memory`.

        y : {array-like, dask Array, Series or DataFrame} of shape (n_samples,) or \
                (n_samples, n_targets)
            Target values. Each target is fitted independently. If X is a Dask collection, y and
            `sample_weight` must be Dask collections divided into the same blocks of rows.

        sample_weight : {array-like, dask Array or Series} of shape (n_samples,), default=None
            Weight of each row. Weights must be non-negative and not all zero. If None, all rows
            have the same weight. An integer weight k is equivalent to repeating the row k
            times, and multiplying all weights by a constant has no effect.

        Returns
        -------
        self : SmoothL1Regressor
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is out of range, such as ``beta <= 1`` with ``scale="concomitant"``;
            if the data contain NaN or infinity; if a weight is negative or all weights are
            zero; if the coefficients are too large for the dtype of X; or if Dask collections
            are not divided into the same blocks of rows.

        TypeError
            If y is sparse; if only some of the data are Dask collections; if a Dask collection
            has a non-numeric dtype; or if an L1 penalty or ``positive=True`` is used with Dask
            collections.

        RuntimeError
            If the fit cannot continue because workers of a Dask cluster were lost.

        Warns
        -----
        ConvergenceWarning
            If the fit does not reach `tol`. The best coefficients found are kept.
        """
        spec = fit_spec(self)
        return self._set_fitted(partial(self._fit, spec=spec), X, y, sample_weight)

    def _fit(self, X_raw: Any, y_raw: Any, sample_weight: Any, spec: FitSpec) -> dict[str, Any]:
        """Fit all targets, and return the fitted attributes that `validate_data` does not set.

        Issue a ConvergenceWarning if the fit of a target does not converge.
        """
        if spec.is_composite:
            caller = "SmoothL1Regressor.fit with l1_ratio > 0 or positive=True"
            require_in_memory(caller, "L1 or positive", X=X_raw, y=y_raw)
        data = self._training_data(X_raw, y_raw, sample_weight)
        penalty_weights = check_penalty_weights(self.penalty_weights, data.n_features)
        spec = spec.with_penalty_weights(penalty_weights)
        callbacks = _Callbacks(self, X_raw, data.y, sample_weight, spec)
        excluded = excluded_features(penalty_weights)
        results, rank = self._fit_targets(data, spec, excluded, callbacks)
        attributes = fitted_attributes(results, spec, data.y.ndim == 1, data.dtype)
        attributes["rank_"] = rank
        attributes |= data.row_attributes(attributes)
        callbacks.end(attributes)
        self._warn_unless_converged([stages[-1] for stages in results], spec)
        return attributes

    def _training_data(self, X: Any, y: Any, sample_weight: Any) -> TrainingData:
        if all_dask("SmoothL1Regressor.fit", X=X, y=y, sample_weight=sample_weight):
            # Imported here, because Dask is an optional dependency.
            from ._dask_data import DaskData

            return DaskData(self, X, y, sample_weight)
        return ArrayData(self, X, y, sample_weight)

    def _fit_targets(
        self,
        data: TrainingData,
        spec: FitSpec,
        excluded: NDArray[np.bool_] | None,
        callbacks: _Callbacks,
    ) -> tuple[list[list[StageResult]], int]:
        """Return the stage results of each target, and the rank of the features."""
        n_targets = data.y.shape[1] if data.y.ndim == 2 else 1
        warm = self._warm_start_coefficients(data.n_features, n_targets)
        staged = spec.schedule is not None or warm[0] is not None
        results: list[list[StageResult]] = []
        with single_threaded_blas(), ThreadTeam() as team, data.loaded(team) as rows:
            engine = rows.engine
            if excluded is not None:
                engine = engine.without(excluded)
            plan = choose(engine, self.solver, composite=spec.is_composite, staged=staged)
            sampler = RowSampler(engine, rows.weight, self.fit_intercept, plan)
            for j, (target, start) in enumerate(zip(rows.targets, warm, strict=True)):
                stages = fit_stages(sampler, target, spec, start)
                results.append(callbacks.watch(stages, results))
                data.keep_weights(j, results[j][-1])
                results[j][-1] = results[j][-1]._replace(weights=None)
            if spec.alpha or plan.whiten_by == "scaling":
                rank = feature_rank(sampler.problem)
            else:
                rank = results[0][-1].n_variables - int(self.fit_intercept)
        return results, rank

    def _warm_start_coefficients(
        self, n_features: int, n_targets: int
    ) -> list[NDArray[np.float64] | None]:
        """Return the warm-start intercept and coefficients of each target, or None."""
        coef = np.atleast_2d(getattr(self, "coef_", np.empty((0, 0))))
        usable = coef.shape == (n_targets, n_features) and np.isfinite(coef).all()
        if not self.warm_start or not usable:
            return [None] * n_targets
        if self.positive:
            coef = np.where(coef > 0, coef, 0.0)
        intercept = np.broadcast_to(self.intercept_, n_targets) * self.fit_intercept
        return list(np.column_stack([intercept, coef]).astype(np.float64))

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without lazy attributes, so that Dask is not needed to load it."""
        state: dict[str, Any] = dict(super().__getstate__())
        for name in _LAZY_FORMULAS:
            if is_dask(state.get(name)):
                del state[name]
        return state

    def __getattr__(self, name: str) -> Any:
        message = f"{type(self).__name__!r} object has no attribute {name!r}"
        if name in _LAZY_FORMULAS and "coef_" in vars(self):
            message = (
                f"{name} is not stored with a model that was fitted to Dask collections; "
                f"compute it from the data: {_LAZY_FORMULAS[name]}"
            )
        raise AttributeError(message, name=name, obj=self)

    def _warn_unless_converged(self, results: list[StageResult], spec: FitSpec) -> None:
        worst = max(
            results, key=lambda result: (not result.converged, result.relative_gradient)
        )
        if worst.converged:
            return
        missed = sum(not result.converged for result in results)
        which = f" for {missed} of {len(results)} targets" * (len(results) > 1)
        measure = f"gradient norm is {worst.relative_gradient:.2g}"
        if spec.is_composite:
            measure = f"duality gap is {relative_suboptimality(worst, spec):.2g}"
        warnings.warn(
            f"SmoothL1Regressor did not converge{which} ({worst.message}): the relative "
            f"{measure} (tol={spec.tol:.2g}). The best coefficients found are kept. "
            f"Increase max_iter (currently {spec.max_iter}) or tol, use a larger beta, or "
            "add a penalty (alpha > 0).",
            ConvergenceWarning,
            # Attribute the warning to the caller of fit, above the frames of this method, _fit,
            # _set_fitted, fit and its wrappers.
            stacklevel=5 + N_WRAPPERS,
        )


class _Callbacks:
    """Informs scikit-learn's callbacks about the stages, which are the tasks of a fit."""

    def __init__(
        self,
        estimator: SmoothL1Regressor,
        X: Any,
        y: Any,
        sample_weight: Any,
        spec: FitSpec,
    ) -> None:
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._estimator, self._data = estimator, {"X": X, "y": y, "metadata": metadata}
        self._shape = y.shape[1:]
        schedule = spec.schedule
        n_stages = 1 if schedule is None else N_STAGES if callable(schedule) else len(schedule)
        n_tasks = n_stages * (y.shape[1] if y.ndim == 2 else 1)
        self._context = estimator._init_callback_context(max_subtasks=n_tasks)
        self._context.call_on_fit_task_begin(estimator=estimator, **self._data)

    def watch(
        self, stages: Iterator[StageResult], results: list[list[StageResult]]
    ) -> list[StageResult]:
        """Return the stage results of a target.

        A callback can end the fit before the last stage. `results` contains the stage results
        of the previous targets.
        """
        reached: list[StageResult] = []
        stop = False
        while not stop:
            task = self._context.subcontext(task_name="beta stage")
            task.call_on_fit_task_begin(estimator=self._estimator, **self._data)
            reached.append(next(stages))
            stop = task.call_on_fit_task_end(
                estimator=self._estimator,
                reconstruction_attributes=lambda: self._coefficients([*results, reached]),
                **self._data,
            )
            stop = stop or reached[-1].is_last
            if not stop:
                reached[-1] = reached[-1]._replace(weights=None)
        return reached

    def end(self, attributes: dict[str, Any]) -> None:
        self._context.call_on_fit_task_end(
            estimator=self._estimator, reconstruction_attributes=attributes, **self._data
        )

    def _coefficients(self, results: list[list[StageResult]]) -> dict[str, Any]:
        """Return the current coefficients, which are 0 for targets not yet fitted."""
        coef = np.zeros((*self._shape, self._estimator.n_features_in_))
        intercept = np.zeros(self._shape)
        for j, stages in enumerate(results):
            where: Any = j if self._shape else ...
            coef[where], intercept[where] = stages[-1].coef, stages[-1].intercept
        return {"coef_": coef, "intercept_": intercept}
