"""SmoothL1Regressor: validate → FitSpec → fit → attributes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import validate_data

from ._attributes import fitted_attributes
from ._base import LinearRegressor
from ._callbacks import N_WRAPPERS, with_callbacks
from ._engines import as_engine
from ._engines.threads import ThreadTeam, single_threaded_blas
from ._fit import StageResult, fit_stages
from ._reductions import RowVector, gather
from ._sampling import RowSampler, feature_rank
from ._solvers import choose
from ._spec import FitSpec, fit_spec
from ._validation import WeightedRows, check_data, drop_zero_weight
from .schedules import N_STAGES

# Attributes that validate_data sets on the estimator.
_FEATURES = ("n_features_in_", "feature_names_in_")


class SmoothL1Regressor(LinearRegressor):
    r"""Linear regression that minimises the Smooth L1 or Huber loss.

    Residuals below a threshold are penalised quadratically and residuals above it linearly,
    so that outliers in y have little influence. Features need no scaling: without a penalty,
    the fit does not depend on their units. With the default ``beta="auto"`` the threshold is
    estimated from the data.

    With residuals :math:`r_i = y_i - x_i^T w - b`, weights :math:`s_i`,
    :math:`S = \sum_i s_i` and threshold :math:`\beta` it minimises over w and b

    .. math:: \frac{1}{S} \sum_i s_i \, \ell(r_i) + \frac{\alpha}{2} \lVert w \rVert^2

    where the loss is one of

    .. math::

        \text{smooth L1:}\quad \ell_\beta(r) = \begin{cases} r^2 / (2\beta) & |r| < \beta \\
        |r| - \beta/2 & \text{otherwise} \end{cases}
        \qquad \text{Huber:}\quad h_\beta(r) = \beta\,\ell_\beta(r).

    Read more in the :doc:`user guide </user_guide/index>`.

    Parameters
    ----------
    beta : float or "auto", default="auto"
        The threshold between the quadratic and the linear part of the loss. With
        ``scale=None`` it is in units of y, like the `beta` of PyTorch's ``SmoothL1Loss`` and
        the `delta` of ``HuberLoss``; otherwise it is in units of the estimated scale. "auto"
        is the value that has 95 % of the efficiency of least squares under normal errors:
        1.345 normalised MADs, also with ``scale=None``, or 1.5960 concomitant scales.

    loss : {"smooth_l1", "huber"}, default="smooth_l1"
        The loss. The two differ by the factor beta, which matters only with a penalty. The
        data term of "smooth_l1" decreases like 1/beta, so that a penalty of the same `alpha`
        dominates as beta grows: use "huber", which tends to ridge regression, to search over
        beta with ``alpha > 0``. With ``alpha > 0``, only "huber" with ``scale=None`` or "mad"
        is equivariant when y and beta are scaled together.

    scale : {"mad", "concomitant"} or None, default=None
        The estimator of the scale of the residuals.

        - None: the scale is not estimated, unless beta is "auto", which uses the MAD.
        - "mad": the median of :math:`|r_i|` divided by :math:`\Phi^{-1}(3/4)`, estimated
          repeatedly, starting from least squares, until it agrees with the fit; as in R's
          ``MASS::rlm`` and statsmodels' ``RLM``.
        - "concomitant": the scale is minimised together with the coefficients, as in
          :class:`~sklearn.linear_model.HuberRegressor`, whose ``epsilon`` is `beta` here. It
          requires ``beta > 1``. The objective for loss="huber" is

          .. math:: \frac{1}{2S} \sum_i s_i \bigl[\sigma + H_\beta(r_i/\sigma)\,\sigma\bigr]
                    + \frac{\alpha}{2} \lVert w \rVert^2, \qquad
                    H_\beta(z) = \begin{cases} z^2 & |z| \le \beta \\ 2\beta|z| - \beta^2 &
                    \text{otherwise} \end{cases}

          and for loss="smooth_l1" the first term is divided by beta.

    alpha : float, default=0.0
        Strength of the penalty on the coefficients; the intercept is not penalised. With
        loss="huber" it does not depend on beta, and the fit tends to ``Ridge(alpha=alpha * S)``
        as beta grows; see `loss` for "smooth_l1". ``HuberRegressor(epsilon, alpha)`` is
        ``SmoothL1Regressor(epsilon, loss="huber", scale="concomitant", alpha=alpha / S)``.

    fit_intercept : bool, default=True
        Whether to fit an intercept. If False, the data are expected to be centred.

    beta_schedule : {"geometric", "linear", "cosine"}, array-like or None, default=None
        Stages of the threshold, each started from the solution of the previous stage:
        decreasing multipliers that end in 1, such as ``[50, 10, 2, 1]``, or the name of a
        schedule from :mod:`skrobust.schedules` that starts where nearly all residuals are
        below the threshold. The solution is the same as with None; `history_` records each
        stage. A schedule takes more passes over X than None, with which a small threshold is
        lowered in steps as well.

    solver : {"auto", "lbfgs", "newton"}, default="auto"
        The algorithm that minimises the objective at a threshold. All solvers reach the same
        optimum. The standardisation, the start and the search for the scale do not depend on
        the solver.

        - "auto": the fastest algorithm for the data. Tall dense X (at least 400 rows for each
          feature and two million elements), and sparse X with 200 features or more and more
          rows than features, are fitted by Anderson's acceleration of coefficients and scale
          together; other X by Newton's method, after L-BFGS if X has
          more than 20,000 elements.
        - "lbfgs": SciPy's L-BFGS in whitened coordinates, until its line search reaches the
          rounding of the objective, then Newton's method to `tol`. It is slow where beta is
          far below the scale of the residuals.
        - "newton": the semismooth Newton method with an exact line search, which lowers the
          threshold in steps where few residuals are below it.

        `history_` shows which algorithms ran.

    max_iter : int, default=1000
        Maximum number of iterations on all rows, of all stages together.

    tol : float, default=1e-8
        Tolerance of the stopping criterion: the norm of the gradient in coordinates in which
        the features are uncorrelated and of variance one, divided by the root mean square of
        the residuals clipped at the threshold. It has no unit; with 0 the fit stops where
        rounding errors prevent further progress.

    warm_start : bool, default=False
        If True, start from the coefficients of the previous fit, provided it had the same
        number of features and targets. With an estimated scale the solution does not depend
        on the start.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
        Coefficients, of the dtype of X.

    intercept_ : float or ndarray of shape (n_targets,)
        Intercept, float64; 0.0 if ``fit_intercept=False``.

    beta_ : float or ndarray of shape (n_targets,)
        The threshold that was used, in units of y.

    scale_ : float or ndarray of shape (n_targets,)
        The estimated scale of the residuals; 1.0 with a fixed threshold.

    n_iter_ : int or ndarray of shape (n_targets,)
        Number of iterations on all rows, at least 1.

    objective_ : float or ndarray of shape (n_targets,)
        The value of the objective above, penalty included.

    optimality_ : float or ndarray of shape (n_targets,)
        How far `objective_` is at most above the minimum, relative to its value: the relative
        duality gap. For tall data of which rows were sampled, and for X that is only scaled, it
        is an estimate from the Newton decrement, and NaN if the fit did not converge;
        :func:`duality_gap` computes the bound for tall data as well.

    rank_ : int
        Number of directions of the centred features that the fit could tell from zero; the
        intercept is not counted. It is less than the number of features if some features are
        constant, linearly dependent up to the rounding of X, or more than the rows. For X that
        is only scaled (sparse with 200 features or more, and wider than 5,000) it is an upper
        bound.

    outliers_ : ndarray of bool, of the shape of y
        Mask of the rows whose absolute residual exceeds `beta_`, so that it is penalised
        linearly. These rows are not necessarily wrong: with the default threshold and normal
        errors they are 18 % of the rows.

    history_ : list of dict
        One dict for each stage of each target: target, beta, scale, n_iter, n_eval (passes
        over X for gradients and products with the Hessian), objective, gradient_norm, message
        and algorithms (a dict of the algorithms that ran and the passes that each took, with
        the sum n_eval).

    n_features_in_ : int
        Number of features.

    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, when X has names that are all strings.

    See Also
    --------
    sklearn.linear_model.HuberRegressor : The concomitant objective, for scaled features.
    sklearn.linear_model.QuantileRegressor : The limit of a small threshold.
    sklearn.linear_model.Ridge : The limit of a large threshold.

    Notes
    -----
    The influence of outliers in y is bounded; that of rows that are far from the others in X
    (leverage points) is not.

    Without a penalty, the coefficients of linearly dependent features have no component along
    the dependence, in features divided by their weighted standard deviation (without an
    intercept, by their root mean square). Features that are stored to less than six digits of
    that, being far from zero, have less of the coefficients.

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
    """

    _parameter_constraints: dict = {
        "beta": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "loss": [StrOptions({"smooth_l1", "huber"})],
        "scale": [StrOptions({"mad", "concomitant"}), None],
        "alpha": [Interval(Real, 0, None, closed="left")],
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
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data. float64 and float32 are not converted, and not copied unless rows
            have weight zero.

        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Target values. Each column is fitted independently.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative sample weights. An integer weight is equivalent to repeating the row;
            multiplying all weights by a constant has no effect.

        Returns
        -------
        self : SmoothL1Regressor
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is out of its range, such as ``beta <= 1`` with
            scale="concomitant"; if the data are not finite; if a weight is negative or all are
            zero; or if the coefficients are too large for the dtype of X.

        TypeError
            If y is sparse.

        Warns
        -----
        ConvergenceWarning
            If `tol` was not reached; the best coefficients found are kept.
        """
        spec = fit_spec(self)
        before = {name: vars(self)[name] for name in _FEATURES if name in vars(self)}
        try:
            attributes = self._fit(X, y, sample_weight, spec)
        except BaseException:
            # validate_data has set these; an interrupted refit leaves the old model whole.
            for name in _FEATURES:
                self.__dict__.pop(name, None)
            self.__dict__.update(before)
            raise
        self.__dict__.update(attributes)
        return self

    def _fit(self, X_raw: Any, y_raw: Any, sample_weight: Any, spec: FitSpec) -> dict[str, Any]:
        """Return the fitted attributes except those of the features; warn if necessary."""
        # The first pass of the fit finds NaN in X, which shows in its sums.
        with np.errstate(invalid="ignore"):
            X, y, weight = check_data(
                partial(validate_data, self),
                X_raw,
                y_raw,
                sample_weight,
                ensure_all_finite=False,
            )
        callbacks = _Callbacks(self, X_raw, y, sample_weight, spec)
        results, outliers, rank = self._fit_targets(X, y, weight, spec, callbacks)
        attributes = fitted_attributes(results, spec, y.ndim == 1, X.dtype)
        attributes["rank_"] = rank
        attributes["outliers_"] = outliers[0] if y.ndim == 1 else np.column_stack(outliers)
        callbacks.end(attributes)
        self._warn_unless_converged([stages[-1] for stages in results], spec)
        return attributes

    def _fit_targets(
        self,
        X: Any,
        y: NDArray[Any],
        weight: NDArray[np.float64] | None,
        spec: FitSpec,
        callbacks: _Callbacks,
    ) -> tuple[list[list[StageResult]], list[RowVector], int]:
        """Return the results of the stages and the outliers of each target, and the rank."""
        rows = drop_zero_weight(X, weight, type(self).__name__)
        targets = y if y.dtype.kind in "fiu" else y.astype(np.float64)
        targets = targets.reshape(y.shape[0], -1)
        warm = self._warm_start_coefficients(X.shape[1], targets.shape[1])
        staged = spec.schedule is not None or warm[0] is not None
        results: list[list[StageResult]] = []
        outliers: list[RowVector] = []
        with single_threaded_blas(), ThreadTeam() as team:
            engine = as_engine(rows.X, team)
            plan = choose(engine, self.solver, staged=staged)
            row_weight = None if rows.weight is None else engine.row_vector(rows.weight)
            sampler = RowSampler(engine, row_weight, self.fit_intercept, plan)
            for target, start in zip(targets.T, warm, strict=True):
                used = target if rows.positive is None else target[rows.positive]
                stages = fit_stages(sampler, engine.row_vector(used), spec, start)
                results.append(callbacks.watch(stages, results))
                outliers.append(_all_outliers(results[-1][-1], X, target, rows))
            if spec.alpha or plan.whiten_by == "scaling":
                rank = feature_rank(sampler.problem)
            else:
                rank = results[0][-1].n_variables - int(self.fit_intercept)
        return results, outliers, rank

    def _warm_start_coefficients(
        self, n_features: int, n_targets: int
    ) -> list[NDArray[np.float64] | None]:
        """Return intercept and coefficients of each target to start from, or None."""
        coef = np.atleast_2d(getattr(self, "coef_", np.empty((0, 0))))
        usable = coef.shape == (n_targets, n_features) and np.isfinite(coef).all()
        if not self.warm_start or not usable:
            return [None] * n_targets
        intercept = np.broadcast_to(self.intercept_, n_targets) * self.fit_intercept
        return list(np.column_stack([intercept, coef]).astype(np.float64))

    def _warn_unless_converged(self, results: list[StageResult], spec: FitSpec) -> None:
        worst = max(
            results, key=lambda result: (not result.converged, result.relative_gradient)
        )
        if worst.converged:
            return
        missed = sum(not result.converged for result in results)
        which = f" for {missed} of {len(results)} targets" * (len(results) > 1)
        warnings.warn(
            f"SmoothL1Regressor did not converge{which} ({worst.message}): the whitened "
            f"gradient norm is {worst.relative_gradient:.2g}, tol={spec.tol:.2g}. The best "
            "coefficients found are kept. Increase max_iter (currently "
            f"{spec.max_iter}) or tol, or try a larger beta or a positive alpha.",
            ConvergenceWarning,
            # The frames are this method, _fit, fit and its wrappers.
            stacklevel=4 + N_WRAPPERS,
        )


def _all_outliers(
    result: StageResult, X: Any, y: NDArray[Any], rows: WeightedRows
) -> RowVector:
    """Return the outliers among all rows, given those among the rows of positive weight."""
    outlier_used = gather(result.outlier, slice(None))
    if rows.positive is None:
        return outlier_used
    outlier = np.empty(y.shape[0], dtype=bool)
    outlier[rows.positive] = outlier_used
    # The other rows may be so far out that their fitted values overflow.
    with np.errstate(over="ignore", invalid="ignore"):
        fitted = safe_sparse_dot(X[rows.zero], result.coef) + result.intercept
        outlier[rows.zero] = ~(np.abs(y[rows.zero] - fitted) <= result.beta)
    return outlier


class _Callbacks:
    """Informs scikit-learn's callbacks about the stages, each a task of the fit."""

    def __init__(
        self,
        estimator: SmoothL1Regressor,
        X: Any,
        y: NDArray[Any],
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
        """Return the stages of a target as a list, up to where a callback says to stop.

        `results` are those of the targets before.
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
        return reached

    def end(self, attributes: dict[str, Any]) -> None:
        self._context.call_on_fit_task_end(
            estimator=self._estimator, reconstruction_attributes=attributes, **self._data
        )

    def _coefficients(self, results: list[list[StageResult]]) -> dict[str, Any]:
        """Return what predicts as if the fit had stopped here; zero for the targets to come."""
        coef = np.zeros((*self._shape, self._estimator.n_features_in_))
        intercept = np.zeros(self._shape)
        for j, stages in enumerate(results):
            where: Any = j if self._shape else ...
            coef[where], intercept[where] = stages[-1].coef, stages[-1].intercept
        return {"coef_": coef, "intercept_": intercept}
