"""Grids of thresholds and penalties: validation, default grids, and fits along a grid."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from numbers import Real
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from ._attributes import relative_suboptimality
from ._engines import as_engine
from ._engines.threads import ThreadTeam, single_threaded_blas
from ._fit import StageResult, fit_stages, solution_path
from ._model.loss import HUBER
from ._model.scale import AUTO_CONCOMITANT, AUTO_MAD, centre_and_size, mad
from ._reductions import median
from ._sampling import Problem, RowSampler, whole_problem
from ._solvers import Plan, choose
from ._solvers.result import Status
from ._spec import FitSpec, fit_spec
from ._validation import check_penalty_weights

FloatArray = NDArray[np.float64]

# A default grid extends from the threshold of "auto" divided by GRID_SPAN to about GRID_SPAN
# times this threshold. The fit is close to least absolute deviations at the smallest threshold,
# and close to least squares at the largest unless there are gross outliers.
GRID_SPAN = 10.0
# Smallest penalty of a default grid, as a fraction of the largest. GRID_ALPHA_MIN_WIDE applies
# if there are more features than rows.
GRID_ALPHA_MIN, GRID_ALPHA_MIN_WIDE = 1e-3, 1e-2
# The largest penalty is computed from the null model, which contains only the intercept and
# the unpenalised features. NULL_MODEL_TOL is an upper bound on the tolerance for fitting this
# model, and NULL_MODEL_MAX_ITER a lower bound on its maximum number of iterations. The largest
# penalty is increased by the fraction NULL_MODEL_MARGIN, so that all penalised coefficients are
# zero despite this tolerance.
NULL_MODEL_TOL, NULL_MODEL_MAX_ITER, NULL_MODEL_MARGIN = 1e-12, 1000, 1e-10
# Upper bound on the tolerance of the fit with the largest penalty. With the default tolerance,
# the relative error in the scale could exceed NULL_MODEL_MARGIN, and a penalised coefficient
# could be nonzero.
LARGEST_PENALTY_TOL = 1e-11
# If the residual scale is at most this fraction of the mean absolute deviation of y, the fit is
# regarded as exact. Such a scale is due to rounding errors, so no threshold is derived from it.
EXACT_FIT_RTOL = 1e-11


def check_grid(
    name: str, values: Iterable[Any], zero: bool = True, word: str | None = None
) -> list[Any]:
    """Validate the values of a grid, and return them as a list of floats.

    `name` identifies the grid in error messages. The values must be positive, or non-negative
    if `zero` is True. If `word` is given, this word is also accepted as a value.
    """
    if isinstance(values, np.ndarray) and values.ndim == 0:
        raise ValueError(f"{name} must be an integer or have one dimension, got {values!r}.")
    numbers: list[Any] = list(values)
    if not numbers:
        raise ValueError(f"{name} must contain at least one value, got none.")
    for i, value in enumerate(numbers):
        if word is not None and isinstance(value, str) and value == word:
            continue
        number = float(value) if isinstance(value, Real) else np.nan
        if not (0 < number < np.inf or (zero and number == 0)):
            allowed = f"a finite number {'≥' if zero else '>'} 0"
            allowed += f" or {word!r}" if word else ""
            raise ValueError(f"{name}[{i}] must be {allowed}, got {value!r}.")
        numbers[i] = number
    return numbers


def default_betas(
    n: int, model: Any, X: Any, y: NDArray[Any], weight: FloatArray | None
) -> FloatArray:
    """Return n increasing thresholds, with the threshold of "auto" at index n // 2.

    The thresholds, or with scale="concomitant" their excesses over 1, are geometrically spaced.
    The thresholds are multiples of the residual scale if `model.scale` is "mad" or
    "concomitant". If it is None, they are in units of y, and the threshold of "auto" is the
    geometric mean over the targets of the thresholds computed from the scales of the fitted
    model.
    """
    steps: FloatArray = GRID_SPAN ** ((np.arange(n) - n // 2) / max(n // 2, 1))
    if model.scale == "concomitant":
        return 1.0 + (AUTO_CONCOMITANT - 1.0) * steps
    if model.scale == "mad":
        return AUTO_MAD * steps
    with warnings.catch_warnings():
        # No warning is issued, because an approximate scale suffices and the user did not
        # request this fit.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted_scales = np.ravel(clone(model).fit(X, y, weight).scale_)
    targets = y.reshape(y.shape[0], -1).T.astype(np.float64)
    columns = zip(targets, fitted_scales, strict=True)
    scales = [_reference_scale(column, scale, weight) for column, scale in columns]
    return AUTO_MAD * float(np.exp(np.mean(np.log(scales)))) * steps


def _reference_scale(y: FloatArray, scale: float, weight: FloatArray | None) -> float:
    """Return the given residual scale, or a scale of y if the fit is exact.

    The scale of y is its MAD or, if the MAD is zero, its mean absolute deviation. If y has
    extreme values, the median of the nonzero deviations takes the place of their mean. The
    result is 1 if y is constant.
    """
    deviation = y - median(y, weight)
    mean = float(np.average(np.abs(deviation), weights=weight))
    typical = min(mean, centre_and_size(y, weight)[1])
    scales = (scale, mad(deviation, weight), typical)
    return next((size for size in scales if size > EXACT_FIT_RTOL * typical > 0), 1.0)


def alpha_grid(
    m: int, model: Any, X: Any, y: NDArray[Any], weight: FloatArray | None
) -> list[float]:
    """Return a geometrically spaced, decreasing grid of m values of alpha.

    The first value is the smallest alpha for which all penalised coefficients are zero.
    """
    _check_alpha_grid(model, X.shape[1])
    largest = (1.0 + NULL_MODEL_MARGIN) * alpha_max(model, X, y, weight)
    if largest <= np.finfo(float).resolution:
        return [float(np.finfo(float).resolution)] * m
    n = X.shape[0] if weight is None else int(np.count_nonzero(weight))
    smallest = GRID_ALPHA_MIN if X.shape[1] <= n else GRID_ALPHA_MIN_WIDE
    return [float(alpha) for alpha in np.geomspace(largest, smallest * largest, m)]


def _check_alpha_grid(model: Any, n_features: int) -> None:
    if not model.l1_ratio > 0:
        raise ValueError(
            f"alphas can be an integer only if l1_ratio > 0, got l1_ratio={model.l1_ratio}: "
            "without an L1 part, no penalty makes all coefficients zero; pass the penalties as "
            "an array in alphas."
        )
    q = check_penalty_weights(model.penalty_weights, n_features)
    if q is not None and not ((q > 0) & np.isfinite(q)).any():
        raise ValueError(
            "alphas can be an integer only if at least one feature is penalised, but all "
            "penalty_weights are 0 or inf. In this case, pass the penalties as an array in "
            "alphas."
        )


def alpha_max(model: Any, X: Any, y: NDArray[Any], weight: FloatArray | None) -> float:
    """Return the smallest alpha for which all penalised coefficients are zero.

    For the Huber loss, this value is max_j |Σ s c x_j| / (S ρ q_j), where c = clip(r, ±β), s
    are the sample weights, S = Σ s, x_j is feature j minus its mean, ρ is `l1_ratio`, and q_j
    is the penalty weight. The residuals r are those of the null model, which contains only the
    intercept and the unpenalised features.
    """
    q = check_penalty_weights(model.penalty_weights, X.shape[1])
    q = np.ones(X.shape[1]) if q is None else q
    penalised = (q > 0) & np.isfinite(q)
    residual, null = _null_model(model, X, y, weight, q)
    beta = np.ravel(null.beta_)
    s = np.ones(len(y)) if weight is None else weight
    c = s[:, None] * np.clip(residual, -beta, beta) / s.sum()
    v = _slopes(model, X, c, weight)
    v = np.maximum(v, 0.0) if model.positive else np.abs(v)
    if model.scale == "concomitant":
        v /= np.ravel(null.scale_)[:, None]
        beta = beta / np.ravel(null.scale_)
    if model.loss == "smooth_l1":
        v /= beta[:, None]
    return float((v[:, penalised] / (model.l1_ratio * q[penalised])).max(initial=0.0))


def _null_model(
    model: Any, X: Any, y: NDArray[Any], weight: FloatArray | None, q: FloatArray
) -> tuple[FloatArray, Any]:
    """Return the residuals of the null model for each target, and the fitted null model."""
    free = np.flatnonzero(q == 0) if (q == 0).any() else np.zeros(1, dtype=int)
    # X is converted to float64, because predictions have the dtype of X, and float32 would be
    # too inaccurate.
    X_free = X[:, free].astype(np.float64)
    null = clone(model).set_params(
        alpha=0.0,
        l1_ratio=0.0,
        penalty_weights=np.where(q[free] == 0, 1.0, np.inf),
        max_iter=max(model.max_iter, NULL_MODEL_MAX_ITER),
        tol=min(model.tol, NULL_MODEL_TOL),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        null.fit(X_free, y, weight)
    residual: FloatArray = y - null.predict(X_free)
    return residual.reshape(len(y), -1), null


def _slopes(model: Any, X: Any, c: FloatArray, weight: FloatArray | None) -> FloatArray:
    """Return Σ c x over the rows, for each column of c and each centred feature x.

    The sum is 0 if x is constant.
    """
    with single_threaded_blas(), ThreadTeam() as team:
        engine = as_engine(X, team)
        plan = choose(engine, model.solver, composite=True)
        standardised = whole_problem(engine, weight, model.fit_intercept, plan).engine
        assert standardised is not None
        columns = np.ascontiguousarray(c.T)
        sums = [standardised.row_combination(column, HUBER)[1:] for column in columns]
    varies = np.isfinite(standardised.scale)
    return np.array(sums) * np.where(varies, standardised.scale, 0.0) * standardised.unit


def fit_grid(
    team: ThreadTeam,
    X: Any,
    y: NDArray[Any],
    weight: FloatArray | None,
    fit_intercept: bool,
    specs: Sequence[FitSpec],
    solver: str,
    excluded: NDArray[np.bool_] | None = None,
) -> Iterator[tuple[int, list[StageResult]]]:
    """Fit the model for each spec; yield the index of the spec and a list of StageResults.

    The list contains one StageResult per target. Rows of weight zero are ignored. X is copied
    only if more than half of the rows have weight zero, or if a spec is fitted separately.
    `excluded` is a mask of the features that are left out.
    """
    if weight is not None and np.count_nonzero(weight) < weight.size / 2:
        X, y, weight = _drop_zero_weight(X, y, weight)
    engine = as_engine(X, team)
    if excluded is not None:
        engine = engine.without(excluded)
    row_weight = None if weight is None else engine.row_vector(weight)

    @cache
    def own_problem() -> tuple[RowSampler, slice | NDArray[np.bool_]]:
        rows: slice | NDArray[np.bool_] = slice(None)
        own_engine, own_weight = as_engine(X, team), weight
        if weight is not None and not weight.all():
            X_used, _, own_weight = _drop_zero_weight(X, y, weight)
            own_engine, rows = as_engine(X_used, team), weight > 0
        if excluded is not None:
            own_engine = own_engine.without(excluded)
        own_plan = choose(own_engine, solver)
        return RowSampler(own_engine, own_weight, fit_intercept, own_plan), rows

    def path(
        target: FloatArray, problem: Problem, plan: Plan, specs: Sequence[FitSpec]
    ) -> Iterator[tuple[int, StageResult]]:
        def own_fit(spec: FitSpec) -> StageResult:
            sampler, rows = own_problem()
            own_engine = sampler.problem.engine
            assert own_engine is not None
            result = next(fit_stages(sampler, own_engine.row_vector(target[rows]), spec))
            return result._replace(weights=None)

        return solution_path(problem, engine.row_vector(target), specs, plan, own_fit)

    targets = np.ascontiguousarray(y.reshape(y.shape[0], -1).T, dtype=np.float64)
    for composite in (False, True):
        index = [i for i, spec in enumerate(specs) if spec.is_composite == composite]
        if not index:
            continue
        part = [specs[i] for i in index]
        plan = choose(engine, solver, composite=composite, along_grid=True)
        problem = whole_problem(engine, row_weight, fit_intercept, plan)
        paths = [path(target, problem, plan, part) for target in targets]
        for point in zip(*paths, strict=True):
            yield index[point[0][0]], [result for _, result in point]


def _drop_zero_weight(
    X: Any, y: NDArray[Any], weight: FloatArray
) -> tuple[Any, NDArray[Any], FloatArray | None]:
    """Return X, y and the weights of the rows with positive weight.

    The weights are None if they are all equal.
    """
    rows = np.flatnonzero(weight)
    weight = weight[rows]
    return X[rows], y[rows], None if np.ptp(weight) == 0 else weight


class Convergence(NamedTuple):
    """Whether a fit converged, measures of its accuracy, and why it ended.

    `relative_gap` is the duality gap relative to the objective, or None unless the penalty has
    an L1 part or bounds.
    """

    converged: bool
    relative_gradient: float
    relative_gap: float | None
    message: str

    @classmethod
    def of(cls, result: StageResult, spec: FitSpec) -> Convergence:
        gap = relative_suboptimality(result, spec) if spec.is_composite else None
        return cls(result.converged, result.relative_gradient, gap, result.message)

    def within(self, tol: float) -> Convergence:
        """Return a copy with `converged` also True if the relative gap is at most `tol`."""
        gap = np.inf if self.relative_gap is None else self.relative_gap
        return self._replace(converged=self.converged or gap <= tol)

    @classmethod
    def of_model(cls, model: Any) -> list[Convergence]:
        """Return the Convergence for each target of a model fitted without a schedule."""
        is_composite = fit_spec(model).is_composite
        return [
            cls(
                Status(stage["message"]).converged,
                stage["gradient_norm"],
                float(gap) if is_composite else None,
                stage["message"],
            )
            for stage, gap in zip(model.history_, np.ravel(model.optimality_), strict=True)
        ]


def warn_unless_converged(
    name: str, results: Sequence[Convergence], tol: float, max_iter: int, stacklevel: int
) -> None:
    """Issue one ConvergenceWarning if any of the fits along a grid did not converge.

    `name` identifies the function or class in the warning.
    """
    missed = [result for result in results if not result.converged]
    if missed:
        worst = max(missed, key=lambda result: result.relative_gradient)
        measure = f"gradient norm is up to {worst.relative_gradient:.2g}"
        gaps = [(r.relative_gap, r) for r in missed if r.relative_gap is not None]
        if gaps:
            gap, worst = max(gaps, key=itemgetter(0))
            measure = f"duality gap is up to {gap:.2g}"
        warnings.warn(
            f"{len(missed)} of {len(results)} fits of {name} did not converge "
            f"({worst.message}): the relative {measure} (tol={tol:.2g}). Increase max_iter "
            f"(currently {max_iter}) or tol, or use larger betas or alphas.",
            ConvergenceWarning,
            stacklevel=stacklevel,
        )
