"""Linearisation of a fitted estimator at its training data, and checks of these data."""

from __future__ import annotations

import sys
import warnings
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import _check_sample_weight, validate_data

from ._array_api import as_numpy
from ._cv import SmoothL1RegressorCV
from ._engines import as_engine
from ._engines.base import Engine, FloatArray
from ._engines.threads import ThreadTeam
from ._linearised import FittedLoss, LinearisedFit
from ._linearised_mm import LinearisedMM, SEstimate
from ._mm import OUTLIER_END, MMRegressor
from ._model.normal_constants import constant_of_breakdown, constant_of_efficiency
from ._model.scale import Concomitant
from ._regressor import SmoothL1Regressor
from ._solvers.result import Status
from ._unwrap import inner_estimator, innermost_estimator, unwrap
from ._validation import drop_zero_weight

# The data are regarded as the training data if the relative gradient is at most the largest of
# GRADIENT_TOL, GRADIENT_PER_TOL · `tol` and GRADIENT_PER_FINAL · (the relative gradient at the
# end of the fit). The bound is larger for float32 coefficients, which are rounded.
GRADIENT_TOL, GRADIENT_PER_TOL, GRADIENT_PER_FINAL = 1e-5, 100.0, 10.0
FLOAT32_GRADIENT_TOL = 1e-4
# Messages in `history_` of fits that ended because of rounding errors.
WITHIN_ROUNDING = {status.value for status in Status if status.within_rounding}
# A value of ψ of at most this size, in units of y, is regarded as rounding error.
EXACT_PSI = 1e-13
EXACT_MM_FIT = (
    "scale_ is 0 or rounding error, since a majority of the rows is fitted exactly. Standard "
    "errors and leverages are not defined for such a fit, but the attributes weights_ and "
    "outliers_ of the estimator are valid."
)


class FitDescription(NamedTuple):
    """Description of a fit for titles and messages.

    `outliers_` is True for the rows whose absolute residual exceeds `outlier_end`, in units of
    y; `beyond` is the expression for this threshold in titles, such as "β". `scale_name` is
    None if the threshold was given in units of y. `gradient` is the relative gradient that the
    fit reached, and `within_rounding` is True if the fit ended because of rounding errors.
    """

    name: str
    beyond: str
    outlier_end: float
    scale_name: str | None
    gradient: float
    within_rounding: bool = False


class FittedData(NamedTuple):
    """A linearised fit and its data, for standard errors and diagnostics.

    `labels` contains the labels of the rows of positive weight, and `positive` their positions
    among all `n_rows` rows, or None if all weights are positive. `transformers` convert the X
    passed to the estimator to the X that the regressor receives, and `is_wrapped` is True if
    the regressor is part of another estimator.
    """

    fit: LinearisedFit
    description: FitDescription
    regressor: Any
    names: list[str]
    transformers: list[Any]
    positive: NDArray[np.intp] | None
    labels: Any
    n_rows: int
    is_wrapped: bool
    target_name: str | None
    target: int

    def title(self) -> str:
        """Return a description of the fit for use as the title of a table."""
        fit, description = self.fit, self.description
        beyond = np.abs(fit.residual) > description.outlier_end / fit.units.unit
        share = float(fit.times_weight(beyond.astype(float)).sum()) / fit.total
        n_coefficients = len(self.names) + int(fit.fit_intercept)
        title = (
            f"{description.name}: n = {fit.n:.0f}, p = {n_coefficients}, "
            f"{100 * share:.0f} % of the rows beyond {description.beyond} = "
            f"{description.outlier_end:.4g}"
        )
        if self.is_wrapped:
            title += "\nUnits are those of the transformed features and target."
        return title


def fitted_data(
    estimator: Any,
    X: Any,
    y: Any,
    sample_weight: Any,
    *,
    frequency: bool,
    target: int | None,
    team: ThreadTeam,
) -> FittedData:
    """Return the linearised fit of an estimator, together with its data.

    Raise a ValueError if the estimator was not fitted to the given data.
    """
    regressor = innermost_estimator(estimator)
    if not isinstance(regressor, SmoothL1Regressor | SmoothL1RegressorCV | MMRegressor):
        raise TypeError(
            "estimator must be a SmoothL1Regressor, SmoothL1RegressorCV or MMRegressor, or a "
            "pipeline, hyperparameter search or TransformedTargetRegressor that contains one, "
            "got "
            f"{type(regressor).__name__}."
        )
    if getattr(regressor, "positive", False) or _has_l1_part(regressor):
        raise ValueError(
            "Tables are not available for fits with an L1 penalty or positive=True, because "
            "the selection of features is random as well. Select features on one part of the "
            "rows, and fit and test without a penalty on the other part."
        )
    labels = getattr(X, "index", None) if hasattr(X, "columns") else None
    given = unwrap(estimator, X, y, target)
    is_wrapped, regressor = regressor is not estimator, given.regressor
    X, y = _validated(regressor, given.X), given.y
    (sample_weight,), _ = as_numpy(sample_weight=sample_weight)
    weight = _weights(sample_weight, X, frequency)
    rows = drop_zero_weight(X, weight, "coefficient_table")
    if rows.positive is not None:
        y = y[rows.positive]
        labels = rows.positive if labels is None else labels[rows.positive]
    number = 0 if target is None else int(target)
    # `drop_zero_weight` replaces equal weights by None. Equal frequencies are restored, because
    # they count rows.
    weight = rows.weight
    if frequency and sample_weight is not None and weight is None:
        weight = np.full(y.size, float(np.max(sample_weight)))
    data = as_engine(rows.X, team), y, weight, frequency
    if isinstance(regressor, MMRegressor):
        given_weight = 1.0 if sample_weight is None else sample_weight
        total = float(np.broadcast_to(given_weight, X.shape[0]).sum())
        fit, description = _mm_fit(regressor, data, rows.positive, total, X.shape[0])
    else:
        fit, description = _huber_fit(regressor, data, number)
    names = given.feature_names
    if names is None:
        default = [f"x{j}" for j in range(X.shape[1])]
        names = [str(name) for name in getattr(regressor, "feature_names_in_", default)]
    _check_enough_rows(fit)
    _check_gradient(fit, regressor, description)
    _check_curvature(fit, names)
    return FittedData(
        fit,
        description,
        regressor,
        names,
        _transformers(estimator),
        rows.positive,
        labels,
        X.shape[0],
        is_wrapped,
        given.target_name,
        number,
    )


_Data = tuple[Engine, FloatArray, FloatArray | None, bool]


def _huber_fit(
    regressor: Any, data: _Data, target: int
) -> tuple[LinearisedFit, FitDescription]:
    """Return the linearised fit of a target, and the description of the fit."""
    loss = FittedLoss.of(regressor, target)
    coef = _intercept_and_coef(regressor.intercept_, regressor.coef_, target)
    fit = LinearisedFit(*data, loss, coef, regressor.fit_intercept)
    final = [stage for stage in regressor.history_ if stage["target"] == target][-1]
    threshold, scale_name = "fixed threshold", None
    if loss.estimator is not None:
        is_concomitant = isinstance(loss.estimator, Concomitant)
        scale_name = "concomitant scale" if is_concomitant else "MAD"
        unit = "concomitant scales" if is_concomitant else "MAD"
        threshold = f"{loss.estimator.factor:.4g} {unit}"
    return fit, FitDescription(
        f"Huber fit, {threshold}",
        "β",
        loss.beta,
        scale_name,
        float(final["gradient_norm"]),
        final["message"] in WITHIN_ROUNDING,
    )


def _mm_fit(
    regressor: MMRegressor, data: _Data, positive: NDArray[np.intp] | None, total: float, n: int
) -> tuple[LinearisedFit, FitDescription]:
    """Return the linearised fit, and the description of the fit.

    `total` is the sum of the sample weights of all n rows.
    """
    n_fitted = regressor.weights_.size
    if n_fitted != n:
        raise ValueError(
            f"X, y and sample_weight are not those of the fit: it has {n_fitted} rows, got {n}."
        )
    scale = regressor.scale_
    if not scale > 0:
        raise ValueError(EXACT_MM_FIT)
    robustness = regressor.weights_ if positive is None else regressor.weights_[positive]
    fit = LinearisedMM(
        *data,
        _intercept_and_coef(regressor.intercept_, regressor.coef_),
        regressor.fit_intercept,
        robustness,
        scale,
        constant_of_efficiency(float(regressor.efficiency)),
        SEstimate(
            _intercept_and_coef(regressor.s_intercept_, regressor.s_coef_),
            regressor.s_scale_,
            constant_of_breakdown(float(regressor.breakdown)),
            float(regressor.breakdown),
            max(total, float(robustness.size)),
        ),
    )
    if fit.scale_is_rounding():
        raise ValueError(EXACT_MM_FIT)
    # The gradient that an MM fit reached is not stored. If the scale of the S-estimate shows
    # that the data are the training data, the gradient on these data is used instead.
    gradient = fit.relative_gradient()
    rounding = _rounding_gradient(fit, regressor)
    if gradient <= max(GRADIENT_TOL, rounding) or not fit.s_scale_agrees():
        gradient = 0.0
    return fit, FitDescription(
        f"MM fit, {100 * regressor.efficiency:.4g} % efficiency",
        f"{OUTLIER_END:.4g} scales",
        OUTLIER_END * scale,
        "trimmed scale" if regressor.scale == "trimmed" else "S-scale",
        gradient,
    )


def _intercept_and_coef(intercept: Any, coef: Any, target: int = 0) -> FloatArray:
    return np.concatenate(
        [np.ravel(intercept)[[target]], np.atleast_2d(coef)[target]], dtype=np.float64
    )


def _has_l1_part(regressor: Any) -> bool:
    """Return whether the objective of a fitted regressor has an L1 penalty."""
    ratio = getattr(regressor, "l1_ratio_", getattr(regressor, "l1_ratio", 0.0))
    alpha = getattr(regressor, "alpha_", getattr(regressor, "alpha", 0.0))
    return bool(ratio > 0 and alpha > 0)


def _validated(regressor: Any, X: Any) -> Any:
    return validate_data(
        regressor, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False
    )


def _weights(sample_weight: Any, X: Any, frequency: bool) -> FloatArray | None:
    """Return importance weights with maximum 1, or frequencies, or None if none are given."""
    if sample_weight is None:
        return None
    weight: FloatArray = _check_sample_weight(
        sample_weight, X, dtype=np.float64, ensure_non_negative=True
    )
    largest = float(weight.max())
    if not 0 < largest < np.inf:
        raise ValueError(
            "sample_weight must be finite and positive for at least one row, got a maximum "
            f"of {largest}."
        )
    if not frequency:
        return weight / largest
    if (weight != np.floor(weight)).any():
        raise ValueError(
            "sample_weight must contain integers for weights='frequency', got "
            f"{weight[weight != np.floor(weight)][0]:g}; use weights='importance' for other "
            "weights."
        )
    return weight


def _transformers(estimator: Any) -> list[Any]:
    transformers: list[Any] = []
    while (inner := inner_estimator(estimator)) is not None:
        if isinstance(estimator, Pipeline):
            steps = [step for _, step in estimator.steps[:-1]]
            transformers += [step for step in steps if step not in (None, "passthrough")]
        estimator = inner
    return transformers


def _check_enough_rows(fit: LinearisedFit) -> None:
    inside = float(fit.times_copies((fit.psi_deriv > 0).astype(float)).sum())
    if fit.n <= fit.rank:
        raise ValueError(
            f"standard errors need more rows: there are {fit.n:.0f} rows for "
            f"{fit.rank:.0f} coefficients."
        )
    if inside <= fit.rank:
        raise ValueError(
            f"standard errors need more rows: only {inside:.0f} rows have absolute residuals "
            f"below the threshold or close to it, for {fit.rank:.0f} coefficients."
        )


def _check_curvature(fit: LinearisedFit, names: list[str]) -> None:
    """Raise a ValueError if a non-convex objective lacks positive curvature at the fit."""
    if fit.loss.rho.is_convex or not fit.without_curvature.shape[1]:
        return
    undetermined = np.flatnonzero(fit.undetermined)
    which = [names[j - 1] if j else "intercept" for j in undetermined]
    raise ValueError(
        "there are no standard errors: the matrix A = Σ s ψ′ zzᵀ is not positive definite in "
        f"directions of {which}, either because the rows in which these columns vary are "
        "outliers of the fit, or because the fit has not converged. Drop these columns or rows."
    )


def _rounding_gradient(fit: LinearisedFit, regressor: Any) -> float:
    """Return a bound on the relative gradient caused by rounding coefficients to float32."""
    if regressor.coef_.dtype != np.float32:
        return 0.0
    return max(FLOAT32_GRADIENT_TOL, fit.rounding_gradient(np.float32))


def _check_gradient(fit: LinearisedFit, regressor: Any, description: FitDescription) -> None:
    """Raise a ValueError if the gradient shows that the data are not the training data.

    Nothing is checked if the residuals are only rounding error, because the gradient then
    consists of rounding errors as well and may have any size relative to the residuals.
    """
    if fit.scale_is_rounding() or float(np.abs(fit.psi).max()) <= EXACT_PSI:
        return
    reached, least = description.gradient, max(GRADIENT_TOL, GRADIENT_PER_TOL * regressor.tol)
    stopped = reached > least and not description.within_rounding
    limit = max(least, GRADIENT_PER_FINAL * reached)
    gradient = fit.relative_gradient()
    if gradient > max(limit, _rounding_gradient(fit, regressor)):
        raise ValueError(
            "X, y and sample_weight are not those of the fit: the gradient of its objective "
            f"has the relative norm {gradient:.1e} on these data. Was the estimator fitted "
            "to other rows, or with other sample weights?"
        )
    if stopped:
        warnings.warn(
            f"The fit stopped early, at the relative gradient {reached:.1e}; the table "
            "describes the coefficients reached. Increase max_iter and fit again.",
            ConvergenceWarning,
            stacklevel=user_stacklevel(),
        )


def user_stacklevel() -> int:
    """Return the `stacklevel` with which the caller's warning is attributed to user code.

    User code starts at the first stack frame outside this package and scikit-learn, whose
    decorators and meta-estimators may call this package.
    """
    frame: FrameType | None = sys._getframe(1)
    level = 1
    while frame is not None and _package(frame) in (__package__, "sklearn"):
        frame, level = frame.f_back, level + 1
    return level


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
