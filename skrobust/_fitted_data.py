"""A fitted estimator with the data of its fit, checked and linearised."""

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

from ._cv import SmoothL1RegressorCV
from ._engines import as_engine
from ._engines.base import FloatArray
from ._engines.threads import ThreadTeam
from ._linearised import FittedLoss, LinearisedFit
from ._model.scale import Concomitant
from ._regressor import SmoothL1Regressor
from ._unwrap import inner_estimator, innermost_estimator, unwrap
from ._validation import drop_zero_weight

# The data are taken as those of the fit if the relative gradient is at most the largest of
# GRADIENT_TOL, GRADIENT_PER_TOL · `tol` and GRADIENT_PER_FINAL · (the gradient at the end of
# the fit). The tolerance is larger for float32, since its coefficients are rounded.
GRADIENT_TOL, GRADIENT_PER_TOL, GRADIENT_PER_FINAL = 1e-5, 100.0, 10.0
FLOAT32_GRADIENT_TOL = 1e-4
# A ψ of at most this size, in units of y, is regarded as a rounding error.
EXACT_PSI = 1e-13


class FittedData(NamedTuple):
    """What inference needs of an estimator and its data.

    `labels` are the labels of the rows of positive weight, and `positive` their positions, or
    None if these are all rows. `transformers` convert the X of the estimator to that of the
    regressor.
    """

    fit: LinearisedFit
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
        """Return a description of the fit, the first line of a table."""
        fit, estimator = self.fit, self.fit.loss.estimator
        beyond = np.abs(fit.residual) > fit.beta
        share = float(fit.times_weight(beyond.astype(float)).sum()) / fit.total
        threshold = "fixed threshold"
        if estimator is not None:
            unit = "concomitant scales" if isinstance(estimator, Concomitant) else "MAD"
            threshold = f"{estimator.factor:.4g} {unit}"
        n_coefficients = len(self.names) + int(fit.fit_intercept)
        title = (
            f"Huber fit, {threshold}: n = {fit.n:.0f}, p = {n_coefficients}, "
            f"{100 * share:.0f} % of the rows beyond β = {fit.loss.beta:.4g}"
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
    """Check that the data are those of the fit, and linearise the fit at its coefficients."""
    regressor = innermost_estimator(estimator)
    if not isinstance(regressor, SmoothL1Regressor | SmoothL1RegressorCV):
        raise TypeError(
            "estimator must be a SmoothL1Regressor or SmoothL1RegressorCV, or a pipeline, "
            "search or TransformedTargetRegressor around one, got "
            f"{type(regressor).__name__}."
        )
    labels = getattr(X, "index", None) if hasattr(X, "columns") else None
    given = unwrap(estimator, X, y, target)
    X, y = _validated(regressor, given.X), given.y
    weight = _weights(sample_weight, X, frequency)
    rows = drop_zero_weight(X, weight, "coefficient_table")
    if rows.positive is not None:
        y = y[rows.positive]
        labels = rows.positive if labels is None else labels[rows.positive]
    number = 0 if target is None else int(target)
    intercept_and_coef = np.concatenate(
        [np.ravel(regressor.intercept_)[[number]], np.atleast_2d(regressor.coef_)[number]]
    )
    # Equal weights are dropped, but equal frequencies are still the numbers of rows.
    weight = rows.weight
    if frequency and sample_weight is not None and weight is None:
        weight = np.full(y.size, float(np.max(sample_weight)))
    fit = LinearisedFit(
        as_engine(rows.X, team),
        y,
        weight,
        frequency,
        FittedLoss.of(regressor, number),
        intercept_and_coef.astype(np.float64),
        regressor.fit_intercept,
    )
    _check_enough_rows(fit)
    _check_gradient(fit, regressor, number)
    names = given.feature_names
    if names is None:
        default = [f"x{j}" for j in range(X.shape[1])]
        names = [str(name) for name in getattr(regressor, "feature_names_in_", default)]
    return FittedData(
        fit,
        regressor,
        names,
        _transformers(estimator),
        rows.positive,
        labels,
        X.shape[0],
        regressor is not estimator,
        given.target_name,
        number,
    )


def _validated(regressor: Any, X: Any) -> Any:
    return validate_data(
        regressor, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False
    )


def _weights(sample_weight: Any, X: Any, frequency: bool) -> FloatArray | None:
    """Return importance weights with maximum 1, or frequencies; None where none are given."""
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
            f"standard errors need more rows: only {inside:.0f} rows are inside the threshold "
            f"or close to it, for {fit.rank:.0f} coefficients."
        )


def _check_gradient(fit: LinearisedFit, regressor: Any, target: int) -> None:
    """Raise a ValueError if the gradient shows that the data are not those of the fit.

    If the residuals are rounding errors, nothing is checked: the gradient then consists of
    rounding errors as well, and may have any size relative to the residuals.
    """
    if fit.scale_is_rounding() or float(np.abs(fit.psi).max()) <= EXACT_PSI:
        return
    final = [stage for stage in regressor.history_ if stage["target"] == target][-1]
    reached = float(final["gradient_norm"])
    stopped = reached > max(GRADIENT_TOL, GRADIENT_PER_TOL * regressor.tol)
    limit = max(GRADIENT_TOL, GRADIENT_PER_TOL * regressor.tol, GRADIENT_PER_FINAL * reached)
    if regressor.coef_.dtype == np.float32:
        limit = max(limit, FLOAT32_GRADIENT_TOL, fit.rounding_gradient(np.float32))
    gradient = fit.relative_gradient()
    if gradient > limit:
        raise ValueError(
            "X, y and sample_weight are not those of the fit: the gradient of its objective "
            f"has the relative norm {gradient:.1e} on these data. Was it fitted with other "
            "rows, or with sample_weight?"
        )
    if stopped:
        warnings.warn(
            f"The fit stopped early, at the relative gradient {reached:.1e}; the table is that "
            "of the coefficients reached. Increase max_iter for the fit.",
            ConvergenceWarning,
            stacklevel=user_stacklevel(),
        )


def user_stacklevel() -> int:
    """Return the level of a warning of the calling function that points at the user's line.

    That is the first line outside of this package and scikit-learn, whose decorators and
    meta-estimators may be in between.
    """
    frame: FrameType | None = sys._getframe(1)
    level = 1
    while frame is not None and _package(frame) in (__package__, "sklearn"):
        frame, level = frame.f_back, level + 1
    return level


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
