"""Fit one target: S-estimate (from several starts), residual scale and M-estimate."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr

from ._engines.base import MAX_SQUARABLE, Engine, FloatArray
from ._engines.small import SmallEngine
from ._engines.threads import ThreadTeam
from ._model.linear_loss import LinearLoss, RegressionData
from ._model.loss import BISQUARE, HUBER
from ._model.scale import (
    MIN_THRESHOLD,
    MScale,
    centre_and_size,
    rounding_floor,
    trimmed_scale,
)
from ._model.whitening import Whitened, Whitening, inverse_cholesky, whiten_gram, whiten_rows
from ._reductions import RowVector, gather, median
from ._robust_distance import RobustDistance, robust_distance
from ._sampling import STORED_ROUNDING, Problem, standardised_problem, whiten
from ._solvers import choose
from ._solvers.redescending import minimise_m_scale
from ._starts import Start, StartProblem, best_starts
from ._units import TargetUnits

_EPS = float(np.finfo(float).eps)
# The starts use a sample of m = max(SAMPLE_MIN_ROWS, SAMPLE_ROWS_PER_FEATURE · p) rows for p
# features, or all rows if there are at most ALL_ROWS_FACTOR · m of them.
SAMPLE_MIN_ROWS, SAMPLE_ROWS_PER_FEATURE, ALL_ROWS_FACTOR = 2_000, 20, 1.5
# Number of rows added to the sample for each direction outside its row space. The component of
# a row outside this space is regarded as rounding error if its length is at most OUTSIDE_RTOL
# times that of the component inside (more if stored features have larger rounding errors).
ROWS_PER_DIRECTION, OUTSIDE_RTOL = 10, 1e-8
# Number of starts that are refined on the sample, and the tolerance and the maximum number of
# iterations of the refinement.
N_REFINED, REFINE_TOL, REFINE_MAX_ITER = 5, 1e-4, 30
# Maximum number of iterations of the S-estimate, as a fraction of `max_iter`.
S_BUDGET = 0.75
# For the whitening, rows whose largest standardised feature exceeds WHITENING_MAX_LENGTH in
# absolute value are scaled down to this maximum. Then, in WHITENING_ROUNDS rounds, rows whose
# leverage exceeds WHITENING_MAX_LEVERAGE times the median leverage are scaled down to this
# bound.
WHITENING_MAX_LENGTH, WHITENING_MAX_LEVERAGE, WHITENING_ROUNDS = 3.0, 3.0, 2
# Deviations of y from the median are clipped at MAX_DEVIATION times the median of their nonzero
# absolute values (`centre_and_size`).
MAX_DEVIATION = 1e90
# Number of times that a least-squares problem is solved. The second solution is fitted to the
# residuals of the first and corrects its rounding errors.
LEAST_SQUARES_ROUNDS = 2


class MMSpec(NamedTuple):
    """The parameters of an MM-estimate.

    `s_constant` and `m_constant` are the bisquare constants of the S-estimate and the
    M-estimate. `is_trimmed` is True if the M-estimate uses the trimmed scale.
    """

    s_constant: float
    m_constant: float
    breakdown: float
    is_trimmed: bool
    n_subsamples: int
    fit_intercept: bool
    max_iter: int
    tol: float


class MMResult(NamedTuple):
    """An MM-estimate in units of the data, with a residual and a weight per row of `engine`.

    `weights` are ψ(r)/r. `is_exact` is a mask of the rows that are fitted exactly, or None if
    the scale is positive. `rank` is the number k of coefficients that the rows determine, and
    `interpolates` is True if the number of rows is at most k.
    """

    coef: FloatArray
    intercept: float
    s_coef: FloatArray
    s_intercept: float
    scale: float
    s_scale: float
    residual: RowVector
    weights: RowVector
    is_exact: NDArray[np.bool_] | None
    start: str
    n_iter: int
    converged: bool
    relative_gradient: float
    rank: int
    interpolates: bool
    engine: Engine
    distance: RobustDistance


def sample_size(p: int) -> int:
    return max(SAMPLE_MIN_ROWS, SAMPLE_ROWS_PER_FEATURE * p)


def uses_all_rows(n: int, p: int) -> bool:
    """Return whether the starts use all rows of data with n rows and p features."""
    return n <= ALL_ROWS_FACTOR * sample_size(p)


def fit_mm(
    engine: Engine,
    y: RowVector,
    weight: RowVector | None,
    spec: MMSpec,
    rng: np.random.Generator,
    team: ThreadTeam,
    after_s: Callable[[FloatArray, float], bool],
) -> MMResult:
    """Compute the MM-estimate.

    `after_s` is called with the slopes and the intercept of the S-estimate. If it returns True,
    the fit ends with the coefficients of the S-estimate.
    """
    if engine.n <= engine.p + 1:
        interpolation = _interpolation(engine, y, weight, spec)
        if interpolation is not None:
            return interpolation
    fit = _Fit(engine, y, weight, spec, rng, team)
    start = fit.best_start(rng)
    estimator = fit.estimator(fit.total)
    s_budget = max(1, int(S_BUDGET * spec.max_iter))
    solution, s_scale = minimise_m_scale(
        estimator, fit.objective, start.theta, spec.tol, s_budget
    )
    s_theta, n_iter = solution.point.theta, solution.n_iter
    if not s_scale > 0:
        return fit.exact_result(s_theta, start, n_iter)
    s_residual = fit.rounded_residual(s_theta, solution.point.residual)
    if engine.dtype != np.float64:
        s_scale = estimator.estimate(s_residual, weight)
    stop = after_s(*fit.to_data(s_theta))
    scale = s_scale
    if spec.is_trimmed:
        scale = trimmed_scale(
            s_residual,
            weight,
            s_scale,
            s_scale * spec.s_constant / spec.m_constant,
            fit.total,
            fit.rank,
            spec.s_constant,
        )
    threshold = max(spec.m_constant * scale, MIN_THRESHOLD)
    s_converged, s_gradient = solution.converged, solution.point.relative_gradient
    del solution, s_residual
    minimiser = choose(engine, "auto", loss=BISQUARE).minimiser
    budget = 0 if stop else spec.max_iter - n_iter
    final = minimiser(fit.objective.at_threshold(threshold), s_theta, spec.tol, budget)
    residual = fit.rounded_residual(final.point.theta, final.point.residual)
    return fit.result(
        final.point.theta,
        s_theta,
        scale,
        s_scale,
        residual,
        BISQUARE.weights(residual, threshold),
        None,
        start,
        n_iter + final.n_iter,
        stop or (s_converged and final.converged),
        max(final.point.relative_gradient, 0.0 if s_converged else s_gradient),
    )


class _Fit:
    """The data of a fit, with robustly standardised features, a whitening and a unit of y."""

    def __init__(
        self,
        engine: Engine,
        y: RowVector,
        weight: RowVector | None,
        spec: MMSpec,
        rng: np.random.Generator,
        team: ThreadTeam,
    ) -> None:
        self.spec, self.weight = spec, weight
        self.total = float(engine.n if weight is None else weight.sum())
        self.rows: slice | NDArray[np.intp] = slice(None)
        if not uses_all_rows(engine.n, engine.p):
            m = sample_size(engine.p)
            self.rows = np.sort(rng.choice(engine.n, m, replace=False))
        self._standardise(engine)
        if isinstance(self.rows, np.ndarray):
            missing = self._rows_in_other_directions(rng)
            if missing.size:
                self.rows = np.union1d(self.rows, missing)
                self._standardise(engine)
        y = _without_extremes(y)
        self.units = TargetUnits(y, spec.fit_intercept)
        problem = Problem(self.engine, weight, spec.fit_intercept, "root")
        self.y = self.units.y_for(problem)
        self.team = team
        self.objective = self._objective(self.engine, self.y, weight)

    def _standardise(self, engine: Engine) -> None:
        """Compute the standardised rows of the sample, their whitening and their rank."""
        raw = engine.rows(self.rows)[:, 1:]
        self.sample_weight = self._sample_weight(len(raw))
        fit_intercept = self.spec.fit_intercept
        centre, scale = _robust_standardisation(raw, self.sample_weight, engine, fit_intercept)
        if isinstance(self.rows, np.ndarray) and np.isinf(scale).any():
            # A feature that is constant in the sample may vary in other rows.
            with np.errstate(divide="ignore"):
                _, std = engine.moments(self.weight, self.rows)
            varies = std > np.finfo(engine.dtype).eps * np.abs(centre)
            scale = np.where(np.isinf(scale) & varies, std, scale)
        self.engine = engine.with_standardisation(centre, scale)
        self.features = (raw - centre) / scale
        del raw
        largest = float(np.abs(self.features).max(initial=0.0))
        if largest > MAX_SQUARABLE:
            raise ValueError(
                f"X contains a value that is {largest:.1g} times the spread of its column away "
                "from the median, so its square overflows; remove or clip such values."
            )
        self.whitening = _robust_whitening(
            self.features, self.sample_weight, self.engine, self.spec
        )
        self.rank = int(self.whitening.transform.shape[1])

    def _sample_weight(self, m: int) -> FloatArray:
        return np.ones(m) if self.weight is None else gather(self.weight, self.rows)

    def _rows_in_other_directions(self, rng: np.random.Generator) -> NDArray[np.intp]:
        """Return the indices of some rows that lie outside the row space of the sample.

        Rows outside this space may have, for example, a rare level of a factor. Without them,
        the sample does not determine all coefficients.
        """
        first = 0 if self.spec.fit_intercept else 1
        transform = self.whitening.dense_transform()[first:]
        n_missing = transform.shape[0] - transform.shape[1]
        n_missing -= int(np.isinf(self.engine.scale).sum())
        if not n_missing:
            return np.arange(0)
        Q = np.zeros((self.engine.p + 1, transform.shape[0]))
        Q[first:] = qr(transform)[0]
        size = self.engine.squared_norms(Q[:, transform.shape[1] :])
        inside = self.engine.squared_norms(Q[:, : transform.shape[1]])
        rounding = OUTSIDE_RTOL + 10.0 * float(_stored_rounding(self.engine).max(initial=0.0))
        size[size <= rounding**2 * inside] = 0.0
        n = min(ROWS_PER_DIRECTION * n_missing, int(np.count_nonzero(size)))
        if not n:
            return np.arange(0)
        rows: NDArray[np.intp] = rng.choice(
            self.engine.n, n, replace=False, p=size / size.sum()
        )
        return rows

    def _objective(self, engine: Engine, y: RowVector, weight: RowVector | None) -> Whitened:
        shift = self.units.shift / self.units.unit
        data = RegressionData.of(engine, y, weight, self.spec.fit_intercept, None, shift)
        return Whitened(LinearLoss(data, BISQUARE, None, 1.0), self.whitening)

    def estimator(self, total: float) -> MScale:
        target = self.spec.breakdown * (total - self.rank)
        return MScale(self.spec.s_constant, target)

    def best_start(self, rng: np.random.Generator) -> Start:
        """Refine the best starts on the sample; return the one with the smallest M-scale."""
        if not self.rank:
            return Start(np.zeros(0), np.nan, "least_squares")
        transform = self.whitening.dense_transform()
        first = 0 if self.spec.fit_intercept else 1
        Z = self.features @ transform[1:]
        intercept = None
        if not first:
            Z += transform[0]
            # Whitened rows longer than 1 are scaled to length 1, because their rounding errors
            # are large.
            share = 1.0 / np.maximum(1.0, np.linalg.norm(Z, axis=1))
            intercept = np.linalg.lstsq(share[:, None] * Z, share)[0]
        estimator = self.estimator(float(self.sample_weight.sum()))
        y = gather(self.y, self.rows)
        problem = StartProblem(
            Z, y, self.sample_weight, intercept, estimator.factor, estimator.target
        )
        starts = best_starts(problem, self.spec.n_subsamples, N_REFINED, rng)
        objective = self.objective
        if isinstance(self.rows, np.ndarray):
            p = self.features.shape[1]
            sample = SmallEngine(self.features, self.team)
            sample = sample.with_standardisation(np.zeros(p), np.ones(p))
            objective = self._objective(sample, y, self.sample_weight)
        refined = []
        for start in starts:
            solution, scale = minimise_m_scale(
                estimator, objective, start.theta, REFINE_TOL, REFINE_MAX_ITER
            )
            refined.append(Start(solution.point.theta, scale, start.kind))
        return min(refined, key=lambda start: start.scale)

    def to_data(self, theta: FloatArray) -> tuple[FloatArray, float]:
        """Return the slopes and the intercept in units of the data.

        The slopes are rounded to the dtype of X.
        """
        coef = self.objective.coef(theta)
        coef = self.units.to_data(coef, self.engine, self.engine.dtype)
        return coef[1:], float(coef[0])

    def rounded_residual(self, theta: FloatArray, residual: RowVector) -> RowVector:
        """Return the residuals of the fit with coefficients rounded to the dtype of X."""
        if self.engine.dtype == np.float64:
            return residual
        slopes, intercept = self.to_data(theta)
        coef = self.units.from_data(np.concatenate([[intercept], slopes]), self.engine)
        return self.objective.linear.evaluate(coef).residual

    def exact_result(self, theta: FloatArray, start: Start, n_iter: int) -> MMResult:
        """Return the least-squares fit to the rows that are fitted exactly, with scale 0."""
        objective = self.objective
        residual = objective.evaluate(theta).residual
        for _ in range(LEAST_SQUARES_ROUNDS):
            exact = np.abs(residual) <= rounding_floor(objective, theta)[0]
            theta = _least_squares(objective, theta, exact)
            residual = objective.evaluate(theta).residual
        exact = np.abs(residual) <= rounding_floor(objective, theta)[0]
        return self.result(
            theta,
            theta,
            0.0,
            0.0,
            residual,
            exact.astype(float),
            exact,
            start,
            n_iter,
            True,
            0.0,
        )

    def result(
        self,
        theta: FloatArray,
        s_theta: FloatArray,
        scale: float,
        s_scale: float,
        residual: RowVector,
        weights: RowVector,
        is_exact: NDArray[np.bool_] | None,
        start: Start,
        n_iter: int,
        converged: bool,
        relative_gradient: float,
    ) -> MMResult:
        unit = self.units.unit
        estimates = *self.to_data(theta), *self.to_data(s_theta)
        # To save memory, release the target and the objective, which contains it, first.
        self.units.release()
        del self.y, self.objective
        inside = gather(weights, self.rows) > 0
        distance = robust_distance(
            self.features[inside], self.sample_weight[inside], _stored_rounding(self.engine)
        )
        residual *= unit
        return MMResult(
            *estimates,
            scale=scale * unit,
            s_scale=s_scale * unit,
            residual=residual,
            weights=weights,
            is_exact=is_exact,
            start=start.kind,
            n_iter=max(1, n_iter),
            converged=converged,
            relative_gradient=relative_gradient,
            rank=self.rank,
            interpolates=False,
            engine=self.engine,
            distance=distance,
        )


def _interpolation(
    engine: Engine, y: RowVector, weight: RowVector | None, spec: MMSpec
) -> MMResult | None:
    """Return the minimum-norm interpolating fit, or None if n exceeds the design matrix's rank.

    The norm that is minimised is that of the coefficients for standardised features.
    """
    plan = choose(engine, "auto", loss=BISQUARE)._replace(whiten_by="root")
    problem = standardised_problem(engine, weight, spec.fit_intercept, plan)
    assert problem.engine is not None
    engine = problem.engine
    whitening = whiten(problem, np.zeros(engine.p))
    if engine.n > whitening.transform.shape[1]:
        return None
    units = TargetUnits(y, spec.fit_intercept)
    data = RegressionData.of(engine, units.y_for(problem), weight, spec.fit_intercept)
    objective = Whitened(LinearLoss(data, HUBER, None, np.inf), whitening)
    theta = np.zeros(objective.n_variables)
    theta = _least_squares(objective, theta, np.ones(engine.n, dtype=bool))
    coef = units.to_data(objective.coef(theta), engine, engine.dtype)
    no_distance = RobustDistance(
        np.arange(0), None, "the number of rows does not exceed the number of coefficients"
    )
    slopes, intercept = coef[1:], float(coef[0])
    return MMResult(
        slopes,
        intercept,
        slopes,
        intercept,
        0.0,
        0.0,
        engine.zeros(),
        np.ones(engine.n),
        np.ones(engine.n, dtype=bool),
        "least_squares",
        1,
        True,
        0.0,
        objective.n_variables,
        True,
        engine,
        no_distance,
    )


def _least_squares(
    objective: Whitened, theta: FloatArray, rows: NDArray[np.bool_]
) -> FloatArray:
    """Return the least-squares fit to the rows where `rows` is True, whatever the loss."""
    for _ in range(LEAST_SQUARES_ROUNDS):
        residual = objective.evaluate(theta).residual
        Z = objective.rows(np.flatnonzero(rows))
        theta = theta + np.linalg.lstsq(Z, residual[rows])[0]
    return theta


def _without_extremes(y: RowVector) -> RowVector:
    """Return y with extreme outliers clipped.

    If the unit of y were as large as an extreme outlier, the squares of the other residuals
    would underflow.
    """
    centre, size = centre_and_size(y)
    end = MAX_DEVIATION * (size or max(1.0, abs(centre)))
    if y.max() <= centre + end and y.min() >= centre - end:
        return y
    return np.clip(y, centre - end, centre + end)


# Standardisation and whitening ---------------------------------------------------------


def _robust_standardisation(
    raw: FloatArray, weight: FloatArray, engine: Engine, fit_intercept: bool
) -> tuple[FloatArray, FloatArray]:
    """Return the median and the MAD of each column.

    A MAD of zero is replaced by the root mean square deviation from the median, or by inf if
    the column is constant. Without an intercept, the median is replaced by zero.
    """
    p, total = raw.shape[1], weight.sum()
    centre = np.zeros(p)
    if fit_intercept:
        centre = np.array([median(column, weight) for column in raw.T])
    size = np.abs(raw - centre)
    mad = np.array([median(column, weight) for column in size.T])
    largest = np.maximum(size.max(axis=0), np.finfo(float).tiny)
    rms = largest * np.sqrt(weight @ (size / largest) ** 2 / total)
    rounding = STORED_ROUNDING * float(np.finfo(engine.dtype).eps) * np.abs(centre)
    scale = np.where(mad > rounding, mad, rms)
    return centre, np.where(scale > rounding, scale, np.inf)


def _stored_rounding(engine: Engine) -> FloatArray:
    """Return the rounding error of each stored feature, relative to the feature's scale."""
    varies = np.isfinite(engine.scale)
    shift = np.abs(np.where(varies, engine.centre, 0.0)) / engine.scale
    return STORED_ROUNDING * float(np.finfo(engine.dtype).eps) * shift


def _robust_whitening(
    features: FloatArray, weight: FloatArray, engine: Engine, spec: MMSpec
) -> Whitening:
    """Return a whitening computed from the rows, with high-leverage rows downweighted."""
    p = features.shape[1]
    A = np.column_stack([np.ones(len(features)), features])
    if not spec.fit_intercept:
        A[:, 0] = 0.0
    largest = np.abs(features).max(axis=1, initial=1.0)
    share = np.minimum(1.0, WHITENING_MAX_LENGTH / largest)
    A *= (share * np.sqrt(weight / weight.sum()))[:, None]
    no_penalty = np.zeros(p)
    whitening = whiten_gram(A.T @ A, no_penalty, spec.fit_intercept)
    if whitening is None:
        tol = max(A.shape) * _EPS
        rounding = _stored_rounding(engine)
        whitening = whiten_rows(A, no_penalty, spec.fit_intercept, tol, rounding)
    transform = whitening.dense_transform()
    for _ in range(WHITENING_ROUNDS):
        Z = features @ transform[1:]
        if spec.fit_intercept:
            Z += transform[0]
        length = np.linalg.norm(Z, axis=1)
        end = np.sqrt(WHITENING_MAX_LEVERAGE) * float(np.median(length))
        Z *= (np.minimum(1.0, end / np.maximum(length, end or 1.0)) * np.sqrt(weight))[:, None]
        T = inverse_cholesky(Z.T @ Z / weight.sum())
        if T is None:
            break
        transform = transform @ T
    return Whitening(transform, whitening.condition)
