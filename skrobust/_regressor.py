"""SmoothL1Regressor: validate → pose the problem → stages → attributes."""

import warnings
from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import assert_all_finite
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from ._callbacks import N_WRAPPERS, CallbackSupportMixin, with_callbacks
from ._design import as_design
from ._doc_link import DocLinkMixin
from ._problem import Survey
from ._scale import AUTO_CONCOMITANT, AUTO_MAD, ScaleRule, concomitant, mad
from ._stages import Task, stages
from ._threads import Team, single_threaded_blas
from .losses import as_float
from .schedules import N_STAGES, check_schedule

# Attributes that validate_data sets on the estimator.
_FEATURES = ("n_features_in_", "feature_names_in_")


class SmoothL1Regressor(
    DocLinkMixin, CallbackSupportMixin, MultiOutputMixin, RegressorMixin, BaseEstimator
):
    r"""Linear regression that minimises the Smooth L1 or Huber loss.

    Small residuals count squared, large ones with their absolute value, so that outliers in
    y pull little. Features need no scaling: the fit is the same in any units. With the
    default ``beta="auto"`` the threshold between small and large follows the data.

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
        The threshold. With ``scale=None`` it is in units of y, as the `beta` of PyTorch's
        ``SmoothL1Loss`` and the `delta` of ``HuberLoss``; otherwise in units of the
        estimated scale. "auto" is the value with 95 % of the efficiency of least squares
        when the errors are normal: 1.345 normalised MADs, also with ``scale=None``, or
        1.5960 concomitant scales.

    loss : {"smooth_l1", "huber"}, default="smooth_l1"
        They differ by the factor beta, which matters only to the penalty. The data term of
        "smooth_l1" vanishes like 1/beta, so that a penalty of the same `alpha` takes over as
        beta grows: to search over beta with ``alpha > 0`` use "huber", which tends to ridge
        regression. Only "huber" with ``scale=None`` or "mad" is equivariant when y and beta
        are scaled together and ``alpha > 0``.

    scale : {"mad", "concomitant"} or None, default=None
        How the scale of the residuals is estimated.

        - None: not at all, unless beta is "auto", which uses the MAD.
        - "mad": the median of :math:`|r_i|` over :math:`\Phi^{-1}(3/4)`, estimated anew
          until it and the fit agree, starting from least squares; as R's ``MASS::rlm`` and
          statsmodels' ``RLM``.
        - "concomitant": minimised together with the coefficients, as in
          :class:`~sklearn.linear_model.HuberRegressor`, whose ``epsilon`` is `beta` here;
          needs ``beta > 1``. The objective for loss="huber" is

          .. math:: \frac{1}{2S} \sum_i s_i \bigl[\sigma + H_\beta(r_i/\sigma)\,\sigma\bigr]
                    + \frac{\alpha}{2} \lVert w \rVert^2, \qquad
                    H_\beta(z) = \begin{cases} z^2 & |z| \le \beta \\ 2\beta|z| - \beta^2 &
                    \text{otherwise} \end{cases}

          and for loss="smooth_l1" the first term is divided by beta.

    alpha : float, default=0.0
        Strength of the penalty on the coefficients, not the intercept. With loss="huber" it
        does not depend on beta, and tends to ``Ridge(alpha=alpha * S)`` as beta grows; see
        `loss` for "smooth_l1". ``HuberRegressor(epsilon, alpha)`` is
        ``SmoothL1Regressor(epsilon, loss="huber", scale="concomitant", alpha=alpha / S)``.

    fit_intercept : bool, default=True
        Whether to fit an intercept.

    beta_schedule : {"geometric", "linear", "cosine"}, array-like or None, default=None
        Stages of the threshold, each started from the solution of the last: decreasing
        multipliers that end in 1, such as ``[50, 10, 2, 1]``, or the name of a schedule from
        :mod:`skrobust.schedules` that starts where nearly all residuals are small. The
        answer is the same as without one; `history_` shows the way. It costs more passes
        over X than None, which lowers a small threshold by itself.

    max_iter : int, default=1000
        Most iterations on the full data, of all stages together.

    tol : float, default=1e-8
        Where to stop: the length of the gradient in coordinates in which the features are
        uncorrelated and of variance one, relative to the root mean square of the residuals
        clipped at the threshold. It has no unit; 0 means down to rounding.

    warm_start : bool, default=False
        Whether to start from the coefficients of the last fit, if it had as many features.
        With an estimated scale the answer does not depend on where it starts.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
        Coefficients, of the dtype of X.

    intercept_ : float or ndarray of shape (n_targets,)
        Intercept, float64; 0.0 without one.

    beta_ : float or ndarray of shape (n_targets,)
        The threshold that was used, in units of y.

    scale_ : float or ndarray of shape (n_targets,)
        The estimated scale of the residuals, 1.0 with a fixed threshold.

    n_iter_ : int or ndarray of shape (n_targets,)
        Iterations on the full data, at least 1.

    objective_ : float or ndarray of shape (n_targets,)
        The value of the objective above, penalty included.

    optimality_ : float or ndarray of shape (n_targets,)
        Estimate of how far `objective_` is above the minimum, relative to its value, from
        the Newton decrement.

    outliers_ : ndarray of bool, of the shape of y
        Where the residual is above `beta_` in absolute value, and so counts linearly.

    history_ : list of dict
        One for each stage of each target: target, beta, scale, n_iter, n_eval (passes over
        X for gradients and products with the Hessian), objective, gradient_norm and message.

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
    Outliers in y lose their pull; rows that are far out in X (leverage points) do not.

    Without a penalty, and where features are linearly dependent, the coefficients have no
    component along the dependence, in features divided by their weighted standard deviation
    (without an intercept, by their root mean square).

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
        "beta": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "loss": [StrOptions({"smooth_l1", "huber"})],
        "scale": [StrOptions({"mad", "concomitant"}), None],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "fit_intercept": ["boolean"],
        "beta_schedule": [
            StrOptions({"geometric", "linear", "cosine"}),
            "array-like",
            None,
        ],
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
        self.max_iter = max_iter
        self.tol = tol
        self.warm_start = warm_start

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Features; float64 and float32 are used as they are, without a copy unless rows
            have weight zero.

        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets; each column is fitted on its own.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights. An integer weight is that many equal rows; a common
            factor changes nothing.

        Returns
        -------
        self : SmoothL1Regressor
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is out of its range, among them ``beta <= 1`` with
            scale="concomitant"; the data are not finite; a weight is negative or none is
            positive; or the coefficients are too large for the dtype of X.

        TypeError
            If y is sparse.

        Warns
        -----
        ConvergenceWarning
            If `tol` was not reached; the best coefficients found are kept.
        """
        task = self._task()
        if sparse.issparse(y):
            raise TypeError("y is a sparse matrix; pass a dense array, such as y.toarray().")
        before = {name: vars(self)[name] for name in _FEATURES if name in vars(self)}
        try:
            fitted = self._fit(X, y, sample_weight, task)
        except BaseException:
            # Validation has set these; an interrupted refit leaves the old model whole.
            for name in _FEATURES:
                self.__dict__.pop(name, None)
            self.__dict__.update(before)
            raise
        self.__dict__.update(fitted)
        return self

    def _fit(self, X, y, sample_weight, task):
        """The fitted attributes but those of the features, and a warning if need be."""
        given = X
        # X is searched for NaN by the first pass of the fit, whose sums would show one.
        with np.errstate(invalid="ignore"):
            X, y = validate_data(
                self,
                X,
                y,
                accept_sparse="csr",
                dtype=[np.float64, np.float32],
                ensure_all_finite=False,
                multi_output=True,
                y_numeric=True,
            )
        weight = _check_weight(sample_weight, X)
        callbacks = _Callbacks(self, given, y, sample_weight, task)
        fits, outliers = self._fit_targets(X, y, weight, task, callbacks)
        fitted = self._attributes(fits, outliers, X, y, task)
        callbacks.end(fitted)
        self._warn_unless_converged([found[-1] for found in fits], task)
        return fitted

    def predict(self, X):
        """Predict with the linear model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Features.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
            Predictions, in units of y; float32 if X and the coefficients are.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.

        ValueError
            If X is not finite, or its features are not those of `fit`.
        """
        check_is_fitted(self)
        X = validate_data(
            self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False
        )
        return predicted(self, X)

    def _task(self):
        """The parameters, checked together, in the form that the stages take."""
        beta, scale = self.beta, self.scale
        if beta != "auto":
            as_float("beta", beta)
        strength, tol = as_float("alpha", self.alpha), as_float("tol", self.tol)
        if scale == "concomitant" and beta != "auto" and beta <= 1:
            raise ValueError(
                f"beta must be above 1 with scale='concomitant', got {beta!r}: the estimated "
                "scale would be 0. Use scale='mad' for a smaller threshold."
            )
        alpha = (0.0, strength) if self.loss == "smooth_l1" else (strength, 0.0)
        if scale == "concomitant":
            factor = AUTO_CONCOMITANT if beta == "auto" else float(beta)
            threshold: float | ScaleRule = ScaleRule(factor, concomitant(factor))
            # The huber form of this objective is εβ-fold the smooth L1 form: a = αβ/ε.
            alpha = 0.0, alpha[1] + alpha[0] / factor
        elif scale == "mad" or beta == "auto":
            threshold = ScaleRule(AUTO_MAD if beta == "auto" else float(beta), mad)
        else:
            threshold = float(beta)
        schedule = check_schedule(self.beta_schedule)
        return Task(threshold, alpha, schedule, tol, int(self.max_iter))

    def _fit_targets(self, X, y, weight, task, callbacks):
        """The stages of each target, and which rows are outliers."""
        whole = weight is None or weight.all()
        rows = slice(None) if whole else np.flatnonzero(weight)
        if not whole:
            rest = np.flatnonzero(weight == 0)
            assert_all_finite(X[rest], input_name="X", estimator_name="SmoothL1Regressor")
        used = X if whole else X[rows]
        targets = y if y.dtype.kind in "fiu" else y.astype(np.float64)
        targets = targets.reshape(y.shape[0], -1)
        warm = self._warm_start(X.shape[1], targets.shape[1])
        fits: list = []
        outliers: list = []
        with single_threaded_blas(), Team() as team:
            weight = None if weight is None or np.ptp(weight[rows]) == 0 else weight[rows]
            survey = Survey(as_design(used, team), weight, self.fit_intercept)
            for j, target in enumerate(targets.T):
                found = callbacks.watch(stages(survey, target[rows], task, warm[j]), fits)
                fits.append(found)
                outlier = found[-1].outlier
                if not whole:
                    outlier = np.empty(y.shape[0], dtype=bool)
                    outlier[rows] = found[-1].outlier
                    # They may be so far out that their fitted values are no numbers.
                    with np.errstate(over="ignore", invalid="ignore"):
                        fitted = safe_sparse_dot(X[rest], found[-1].coef) + found[-1].intercept
                        outlier[rest] = ~(np.abs(target[rest] - fitted) <= found[-1].beta)
                outliers.append(outlier)
        return fits, outliers[0] if y.ndim == 1 else np.column_stack(outliers)

    def _warm_start(self, n_features, n_targets):
        """(intercept, coefficients) of each target to start from, or None."""
        coef = np.atleast_2d(getattr(self, "coef_", np.empty((0, 0))))
        usable = coef.shape == (n_targets, n_features) and np.isfinite(coef).all()
        if not self.warm_start or not usable:
            return [None] * n_targets
        intercept = np.broadcast_to(self.intercept_, n_targets) * self.fit_intercept
        return np.column_stack([intercept, coef]).astype(np.float64)

    def _attributes(self, fits, outliers, X, y, task):
        """The fitted attributes, in the shapes of y."""
        last = [stages_of_target[-1] for stages_of_target in fits]
        values = [self._value(stage, task) for stage in last]
        attributes: dict = {
            "intercept_": [stage.intercept for stage in last],
            "beta_": [stage.beta for stage in last],
            "scale_": [stage.scale for stage in last],
            "n_iter_": [max(1, sum(s.n_iter for s in f)) for f in fits],
            "objective_": [value for value, _ in values],
            "optimality_": [above / value if value else 0.0 for value, above in values],
        }
        if y.ndim == 1:
            attributes = {name: value[0] for name, value in attributes.items()}
        else:
            attributes = {name: np.array(value) for name, value in attributes.items()}
        with np.errstate(over="ignore"):
            coef = np.array([stage.coef for stage in last]).astype(X.dtype)
        if not np.isfinite(coef).all():
            raise ValueError(
                f"coef_ has values too large for {X.dtype}; rescale X or y, or pass float64."
            )
        attributes["coef_"] = coef[0] if y.ndim == 1 else coef
        attributes["outliers_"] = outliers
        attributes["history_"] = [
            {
                "target": j,
                "beta": stage.beta,
                "scale": stage.scale,
                "n_iter": stage.n_iter,
                "n_eval": stage.n_eval,
                "objective": self._value(stage, task)[0],
                "gradient_norm": stage.norm,
                "message": stage.message,
            }
            for j, stages_of_target in enumerate(fits)
            for stage in stages_of_target
        ]
        return attributes

    def _value(self, stage, task):
        """The documented objective at a stage, and the estimate of its excess."""
        if self.scale == "concomitant":
            epsilon = task.threshold.factor
            factor = epsilon if self.loss == "huber" else 1.0
            value = stage.value + 0.5 * stage.scale / epsilon
        else:
            factor = stage.beta if self.loss == "huber" else 1.0
            value = stage.value
        return factor * value, factor * stage.excess

    def _warn_unless_converged(self, stages_reached, task):
        worst = max(stages_reached, key=lambda stage: (not stage.converged, stage.norm))
        if worst.converged:
            return
        missed = sum(not stage.converged for stage in stages_reached)
        which = f" for {missed} of {len(stages_reached)} targets" * (len(stages_reached) > 1)
        warnings.warn(
            f"SmoothL1Regressor did not converge{which} ({worst.message}): the whitened "
            f"gradient norm is {worst.norm:.2g}, tol={task.tol:.2g}. The best coefficients "
            f"found are kept. Increase max_iter (now {task.max_iter}) or tol, or try a larger "
            "beta or some alpha.",
            ConvergenceWarning,
            # The levels are this method, _fit, fit and its wrappers.
            stacklevel=4 + N_WRAPPERS,
        )


def predicted(model, X):
    """The predictions of a fitted linear model for an X that is checked."""
    prediction = safe_sparse_dot(X, model.coef_.T, dense_output=True) + model.intercept_
    return prediction.astype(np.result_type(X.dtype, model.coef_.dtype), copy=False)


def _check_weight(sample_weight, X):
    """Weights with maximum 1, or None where none are given."""
    if sample_weight is None:
        return None
    weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    largest = weight.max()
    if not np.isfinite(largest):
        # scikit-learn says so of arrays, but not of a number.
        raise ValueError("sample_weight contains NaN or infinity.")
    if not largest > 0:
        raise ValueError("sample_weight is zero everywhere; at least one must be positive.")
    return weight / largest


class _Callbacks:
    """Tells scikit-learn's callbacks about the stages, each a task of the fit."""

    def __init__(self, estimator, X, y, sample_weight, task):
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._estimator, self._data = estimator, {"X": X, "y": y, "metadata": metadata}
        self._shape = y.shape[1:]
        schedule = task.schedule
        n_stages = 1 if schedule is None else N_STAGES if callable(schedule) else len(schedule)
        n_tasks = n_stages * (y.shape[1] if y.ndim == 2 else 1)
        self._context = estimator._init_callback_context(max_subtasks=n_tasks)
        self._context.call_on_fit_task_begin(estimator=estimator, **self._data)

    def watch(self, stages, fits):
        """The stages of a target as a list, up to where a callback says to stop."""
        found: list = []
        stop = False
        while not stop:
            task = self._context.subcontext(task_name="beta stage")
            task.call_on_fit_task_begin(estimator=self._estimator, **self._data)
            found.append(next(stages))
            stop = task.call_on_fit_task_end(
                estimator=self._estimator,
                reconstruction_attributes=lambda: self._coefficients([*fits, found]),
                **self._data,
            )
            stop = stop or found[-1].last
        return found

    def end(self, fitted):
        self._context.call_on_fit_task_end(
            estimator=self._estimator, reconstruction_attributes=fitted, **self._data
        )

    def _coefficients(self, fits):
        """What predicts as if the fit had stopped here; zero for the targets to come."""
        coef = np.zeros((*self._shape, self._estimator.n_features_in_))
        intercept = np.zeros(self._shape)
        for j, found in enumerate(fits):
            where = j if self._shape else ...
            coef[where], intercept[where] = found[-1].coef, found[-1].intercept
        return {"coef_": coef, "intercept_": intercept}
