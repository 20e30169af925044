"""duality_gap: an upper bound on the suboptimality of a fitted model."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted, check_X_y

from ._array_api import as_numpy, with_numpy_attributes
from ._engines import as_engine
from ._engines.threads import ThreadTeam, single_threaded_blas
from ._fit import Target
from ._lazy_data import require_in_memory
from ._model.duality import duality_gap as huber_duality_gap
from ._model.scale import is_at_rounding_floor
from ._regressor import SmoothL1Regressor
from ._sampling import Problem, whole_problem
from ._solvers import Rows, choose
from ._spec import FitSpec, fit_spec
from ._validation import (
    check_data,
    check_penalty_weights,
    drop_zero_weight,
    excluded_features,
)


def duality_gap(
    estimator: Any, X: Any, y: Any, *, sample_weight: Any = None
) -> float | NDArray[np.float64]:
    r"""Compute the relative duality gap of a fitted model on its training data.

    The gap is an upper bound on the relative suboptimality of the fitted coefficients,

    .. math:: \frac{F - \min F}{F} \le \frac{F - D(u)}{F},

    where F is the objective of :class:`SmoothL1Regressor` at these coefficients and D(u) is the
    dual objective at a feasible point u [1]_. If the threshold was estimated with the MAD, F is
    the objective at the threshold `beta_`.

    The gap equals the attribute `optimality_` if the fit computed the Gram matrix of all rows.
    For tall data, for which `optimality_` is only an estimate, this function computes the
    bound. The gap is of first order in the gradient and the suboptimality is of second order,
    so the gap may be much larger than the suboptimality.

    Parameters
    ----------
    estimator : SmoothL1Regressor or SmoothL1RegressorCV
        A fitted estimator.

    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Training data of the estimator.

    y : array-like of shape (n_samples,) or (n_samples, n_targets)
        Target values of the training data.

    sample_weight : array-like of shape (n_samples,), default=None
        Weight of each row in the fit. If None, all rows have the same weight.

    Returns
    -------
    gap : float or ndarray of shape (n_targets,)
        Relative duality gap, between 0 and 1.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.

    ValueError
        If X has too many features for its Gram matrix to be computed (in general at least
        5,000, or 200 if X is sparse), or if the data do not match the fitted attributes.

    References
    ----------
    .. [1] S. Boyd and L. Vandenberghe, "Convex Optimization", Cambridge University Press, 2004,
           section 5.5.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust import SmoothL1Regressor, duality_gap
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2))
    >>> y = X @ [3.0, 2.0] + rng.standard_t(2, size=200)
    >>> model = SmoothL1Regressor(beta=1.0).fit(X, y)
    >>> bool(duality_gap(model, X, y) < 1e-12)
    True
    """
    require_in_memory("duality_gap", "duality gap", X=X, y=y, sample_weight=sample_weight)
    check_is_fitted(estimator)
    (X, y, sample_weight), _ = as_numpy(X=X, y=y, sample_weight=sample_weight)
    estimator = with_numpy_attributes(estimator)
    check = partial(check_X_y, estimator="duality_gap")
    X, y, weight = check_data(check, X, y, sample_weight)
    if X.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"X has {X.shape[1]} features, but the estimator was fitted with "
            f"{estimator.n_features_in_} features."
        )
    rows = drop_zero_weight(X, weight, "duality_gap")
    used = y if rows.positive is None else y[rows.positive]
    targets = used.reshape(used.shape[0], -1)
    n_targets = np.size(estimator.beta_)
    if targets.shape[1] != n_targets:
        raise ValueError(
            f"y has {targets.shape[1]} targets, but the estimator was fitted to {n_targets}."
        )
    with single_threaded_blas(), ThreadTeam() as team:
        engine = as_engine(rows.X, team)
        excluded = excluded_features(
            check_penalty_weights(estimator.penalty_weights, X.shape[1])
        )
        if excluded is not None:
            engine = engine.without(excluded)
        composite = _spec_of(estimator, 0, X.shape[1]).is_composite
        plan = choose(engine, "auto", composite=composite)._replace(rows=Rows.ALL)
        if plan.whiten_by == "scaling" and not composite:
            raise ValueError(
                "duality_gap requires the Gram matrix of X, which is too large for "
                f"{engine.p} features."
            )
        problem = whole_problem(engine, rows.weight, estimator.fit_intercept, plan)
        gaps = [
            _relative_gap(estimator, problem, target, k) for k, target in enumerate(targets.T)
        ]
    return gaps[0] if y.ndim == 1 else np.array(gaps)


def _spec_of(estimator: Any, k: int, n_features: int) -> FitSpec:
    """Return the FitSpec of target k with its fitted threshold."""
    beta, scale = float(np.ravel(estimator.beta_)[k]), float(np.ravel(estimator.scale_)[k])
    joint = estimator.scale == "concomitant"
    model = SmoothL1Regressor(
        beta / scale if joint else beta,
        loss=estimator.loss,
        scale="concomitant" if joint else None,
        alpha=getattr(estimator, "alpha_", None) or getattr(estimator, "alpha", 0.0),
        l1_ratio=getattr(estimator, "l1_ratio_", getattr(estimator, "l1_ratio", 0.0)),
        positive=estimator.positive,
    )
    weights = check_penalty_weights(estimator.penalty_weights, n_features)
    return fit_spec(model).with_penalty_weights(weights)


def _relative_gap(estimator: Any, problem: Problem, y: NDArray[Any], k: int) -> float:
    """Return the relative duality gap of target k."""
    assert problem.engine is not None
    spec = _spec_of(estimator, k, problem.engine.p)
    beta, scale = float(np.ravel(estimator.beta_)[k]), float(np.ravel(estimator.scale_)[k])
    joint = estimator.scale == "concomitant"
    plan = choose(problem.engine, "auto", composite=spec.is_composite)
    target = Target(y, problem.fit_intercept, spec, plan)
    unit = target.units.unit
    objective = target.whitened(problem, beta / unit)
    coef = np.atleast_2d(estimator.coef_)[k].astype(np.float64)
    fitted = np.concatenate([[np.ravel(estimator.intercept_)[k]], coef])
    standardised = target.units.from_data(fitted, objective.engine)
    point = objective.evaluate(objective.whitening.coordinates(standardised))
    value, scale_in_units = point.value, None
    if joint:
        value += 0.5 * (scale / unit) ** 2
        # A scale that is only rounding error is not a variable of the objective, so the gap is
        # computed for a fixed threshold.
        if not is_at_rounding_floor(objective, point.theta, scale / unit):
            scale_in_units = scale / unit
    gap = huber_duality_gap(objective, point, scale_in_units)
    return min(gap / value, 1.0) if value else 0.0
