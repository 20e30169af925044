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

from ._compat import CallbackSupportMixin, with_callbacks
from ._design import as_design
from ._scale import AUTO_CONCOMITANT, AUTO_MAD, ScaleRule, concomitant, mad
from ._stages import Task, pose, stages
from ._threads import Team, single_threaded_blas
from .schedules import check_schedule


class SmoothL1Regressor(CallbackSupportMixin, MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Linear regression."""

    _parameter_constraints: dict = {
        "beta": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "loss": [StrOptions({"smooth_l1", "huber"})],
        "scale": [StrOptions({"mad", "concomitant"}), None],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "fit_intercept": ["boolean"],
        "beta_schedule": [StrOptions({"geometric", "linear", "cosine"}), "array-like", None],
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
        """Fit the model."""
        task = self._task()
        if sparse.issparse(y):
            raise TypeError("y is a sparse matrix; pass it as a dense array (y.toarray()).")
        # X is searched for NaN by the first pass of the fit, whose sums would show one.
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
        weight = _weight(sample_weight, X)
        targets = np.asarray(y, dtype=np.float64).reshape(y.shape[0], -1)
        context = self._init_callback_context(max_subtasks=None)
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        results, histories = self._fit_targets(X, targets, weight, task, context)
        fitted = _attributes(results, histories, X, y, task)
        # All at once: an interrupted refit leaves the old model whole.
        self.__dict__.update(fitted)
        context.call_on_fit_task_end(
            estimator=self, X=X, y=y, reconstruction_attributes={}
        )
        for target, result in enumerate(results):
            if not result.converged:
                warnings.warn(_advice(result, task, target, y.ndim), ConvergenceWarning)
        return self

    def predict(self, X):
        """Predict."""
        check_is_fitted(self)
        X = validate_data(
            self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False
        )
        prediction = safe_sparse_dot(X, self.coef_.T, dense_output=True) + self.intercept_
        return prediction.astype(np.result_type(X.dtype, self.coef_.dtype), copy=False)

    def _task(self):
        """The parameters, checked together, as the stages want them."""
        beta, scale = self.beta, self.scale
        if not isinstance(beta, str) and not np.isfinite(beta):
            raise ValueError(f"beta must be finite, got {beta!r}; for least squares use Ridge.")
        if scale == "concomitant" and not isinstance(beta, str) and beta <= 1:
            raise ValueError(
                f"beta must be above 1 with scale='concomitant', got {beta!r}: the estimated "
                "scale would be 0. Use scale='mad' for a smaller threshold."
            )
        slope = 0.0 if self.loss == "huber" else float(self.alpha)
        constant = float(self.alpha) - slope
        if scale == "concomitant":
            factor = AUTO_CONCOMITANT if beta == "auto" else float(beta)
            threshold = ScaleRule(factor, concomitant(factor))
            slope, constant = slope + constant / factor, 0.0
        elif scale == "mad" or beta == "auto":
            threshold = ScaleRule(AUTO_MAD if beta == "auto" else float(beta), mad)
        else:
            threshold = float(beta)
        schedule = check_schedule(self.beta_schedule)
        return Task(threshold, (constant, slope), schedule, float(self.tol), self.max_iter)

    def _fit_targets(self, X, targets, weight, task, context):
        """Fit each column of targets; returns the last stage of each, and the histories."""
        warm = self._warm(X.shape[1], targets.shape[1])
        results, histories = [], []
        kept = None if weight is None or weight.all() else np.flatnonzero(weight)
        used, used_weight = (X, weight) if kept is None else (X[kept], weight[kept])
        if used_weight is not None and (used_weight == used_weight[0]).all():
            used_weight = None
        n_elements = used.nnz if sparse.issparse(used) else used.size
        with single_threaded_blas(), Team(n_elements) as team:
            if kept is not None:
                assert_all_finite(X[weight == 0], input_name="X", estimator_name=self)
            design = as_design(used, team)
            problem = pose(design, used_weight, self.fit_intercept)
            for j, y in enumerate(targets.T):
                y = np.ascontiguousarray(y if kept is None else y[kept])
                history = []
                for stage in stages(problem, y, task, None if warm is None else warm[j]):
                    history.append(stage)
                results.append(history[-1])
                histories.append(history)
        return results, histories

    def _warm(self, n_features, n_targets):
        """(intercept, coef) rows to start from, if there are such for these shapes."""
        coef = np.atleast_2d(getattr(self, "coef_", np.empty((0, 0))))
        if not self.warm_start or coef.shape != (n_targets, n_features):
            return None
        intercept = np.broadcast_to(self.intercept_, n_targets) * self.fit_intercept
        return np.column_stack([intercept, coef]).astype(float)


def _weight(sample_weight, X):
    """Checked weights with maximum one, or None where there are none."""
    if sample_weight is None:
        return None
    weight = _check_sample_weight(
        sample_weight, X, dtype=np.float64, ensure_non_negative=True
    )
    if not weight.max() > 0:
        raise ValueError("sample_weight is zero everywhere; at least one must be positive.")
    return weight / weight.max()


def _attributes(results, histories, X, y, task):
    """The fitted attributes, in the shapes of y."""
    many = y.ndim == 2
    pick = (lambda name: np.array([getattr(r, name) for r in results])) if many else (
        lambda name: getattr(results[0], name)
    )
    coef = np.array([r.coef for r in results]).astype(X.dtype)
    return {"coef_": coef if many else coef[0], "intercept_": pick("intercept"),
      "beta_": pick("beta"), "scale_": pick("scale"),
      "n_iter_": np.array([max(1,sum(s.n_iter for s in h)) for h in histories]) if many else max(1,sum(s.n_iter for s in histories[0])),
      "history_": [dict(target=j, beta=s.beta, scale=s.scale, n_iter=s.n_iter, n_eval=s.n_eval, objective=s.value, gradient_norm=s.norm, message=s.message) for j,h in enumerate(histories) for s in h],
      "objective_": pick("value"), "optimality_": pick("decrement"),
    }


def _advice(result, task, target, ndim):
    return f"not converged: {result.message} norm {result.norm:.3g}"
