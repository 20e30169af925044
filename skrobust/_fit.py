"""Fit one target: find a starting point, minimise the objective at each threshold of the
schedule, and return the results.

This module carries out the plan that `_solvers.choose` returns. For tall X, the model is first
fitted to a sample, which gives a starting point near the minimiser and a whitening computed at
this point. Each stage of a schedule, and each fit along a parameter grid, starts from the
previous solution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular

from ._engines.base import Engine, FloatArray
from ._model.duality import duality_gap
from ._model.linear_loss import LinearLoss, RegressionData
from ._model.loss import HUBER
from ._model.penalty import ElasticNet, Penalty, Ridge
from ._model.scale import (
    MIN_THRESHOLD,
    Concomitant,
    is_at_rounding_floor,
    null_scale,
    rounding_floor,
    rounding_floor_bound,
)
from ._model.whitening import Whitened, Whitening, rewhiten
from ._reductions import RowVector, gather, kth
from ._sampling import Problem, RowSampler, uniform_sample, whiten
from ._solvers import Plan
from ._solvers.anderson import anderson
from ._solvers.lbfgs import lbfgs_then_newton
from ._solvers.newton import newton, suboptimality
from ._solvers.path_newton import LEAST_SQUARES_THRESHOLD, PathNewton, WarmStarts
from ._solvers.result import Solution, Status, add_passes
from ._solvers.scale_fixed_point import Minimiser, Sensitivity, scale_fixed_point
from ._solvers.working_set import ROUNDING_RTOL
from ._spec import FitSpec, Schedule
from ._units import TargetUnits

# Tolerance and maximum number of iterations of a fit to a sample. A smaller tolerance would not
# improve the starting point: at the minimiser for the sample, the relative gradient of the
# objective for all rows is about 0.1.
SAMPLE_TOL, SAMPLE_MAX_ITER = 1e-2, 100
# Maximum contraction factor of the fixed-point iteration for the scale on a sample
# (`_solvers.scale_fixed_point`). With a larger factor the scale converges slowly, and another
# fixed point may be near.
SAMPLE_MAX_CONTRACTION = 0.7
# Tolerance of the least-squares fit whose residuals give the first estimate of the scale.
LEAST_SQUARES_TOL = 1e-3
# Numbers of passes over X within which Anderson acceleration must halve its error: after a fit
# to a uniform sample, and in all other cases. Fewer passes are allowed after a uniform sample,
# because the fit can restart from another sample if progress is slow. MAX_RESTARTS is the
# maximum number of calls of `_restart`.
UNIFORM_PATIENCE_PASSES, PATIENCE_PASSES = 2, 3
MAX_RESTARTS = 8
# A warm start is ignored if any of its whitened coordinates, in units of the target, exceeds
# this value in absolute value.
MAX_WARM_START = 1e8
# With a concomitant scale and an L1 penalty, the fit is repeated, each time with the tolerance
# multiplied by TIGHTER_TOL_FACTOR, until the joint duality gap for the coefficients and the
# scale is small enough. If the gap is still too large after MAX_TIGHTER_FITS repetitions, the
# fit has not converged.
TIGHTER_TOL_FACTOR, MAX_TIGHTER_FITS = 1e-2, 3
# A named schedule starts at a threshold that exceeds this fraction of the absolute residuals.
SCHEDULE_SHARE_INSIDE = 0.99


class StageResult(NamedTuple):
    """The result of a stage, in the units of the data.

    `value` is the smooth L1 objective at `beta`, including the penalty but not the term σ/(2ε)
    of the concomitant objective. `suboptimality` is an estimate of the amount by which the
    objective exceeds its minimum. `weights` contains ψ(r)/r for each row, or is None for a fit
    along a grid. `algorithms` contains the number of passes over X taken by each algorithm, and
    `n_eval` is the sum of these numbers. `n_rounds` is the number of rounds over the blocks of
    rows since the engine was created.
    """

    coef: FloatArray
    intercept: float
    beta: float
    scale: float
    value: float
    weights: RowVector
    n_iter: int
    n_eval: int
    n_rounds: int
    algorithms: dict[str, int]
    relative_gradient: float
    suboptimality: float
    converged: bool
    message: str
    n_variables: int
    is_last: bool


class InitialPoint(NamedTuple):
    """A starting point: an objective, coordinates θ, a scale σ, and the sensitivity of θ to σ.

    The scale is NaN if β is fixed. The sensitivity is None if θ is not near the minimiser.
    """

    objective: Whitened
    theta: FloatArray
    scale: float
    sensitivity: Sensitivity | None


class Target:
    """A column of y in its own units, and the objective that is minimised for this column."""

    def __init__(self, y: RowVector, fit_intercept: bool, spec: FitSpec, plan: Plan) -> None:
        self.units = TargetUnits(y, fit_intercept)
        self.plan = plan
        # Each target has its own copy of the minimiser, which may store sums over the rows
        # between calls.
        self.minimiser = copy(plan.minimiser)
        self.set_spec(spec)

    def set_spec(self, spec: FitSpec) -> None:
        """Set the threshold, the scale estimator and the penalty to those of `spec`."""
        self.spec = spec
        self.estimator = spec.scale
        self.beta = max(spec.beta / self.units.unit, MIN_THRESHOLD)

    def threshold(self, scale: float) -> float:
        """Return the threshold for a given scale, both in units of the target."""
        return self.beta if self.estimator is None else self.estimator.threshold(scale)

    @property
    def penalty_moves_with_scale(self) -> bool:
        """Whether the penalty is multiplied by a threshold that depends on the scale."""
        spec = self.spec
        return self.estimator is not None and spec.alpha_per_threshold and spec.alpha > 0

    def linear_loss(self, problem: Problem, threshold: float) -> LinearLoss:
        engine, units, spec = problem.engine, self.units, self.spec
        assert engine is not None
        y = units.y_for(problem)
        shift = units.shift / units.unit
        data = RegressionData.of(
            engine, y, problem.weight, problem.fit_intercept, problem.gram, shift
        )
        penalty: Penalty | None = None
        alpha = 0.0
        if spec.alpha:
            # The Huber loss is β times the smooth L1 loss. A penalty added to the smooth
            # L1 loss is therefore multiplied by β, which has the unit of y.
            alpha = spec.alpha * units.unit if spec.alpha_per_threshold else spec.alpha
            penalty = Ridge.of_strength(alpha, engine, spec.penalty_weights)
        if spec.is_composite:
            # The terms |w| and w² of the penalty have the units of y and y².
            l1, l2 = spec.l1_ratio * alpha / units.unit, (1.0 - spec.l1_ratio) * alpha
            penalty = ElasticNet.of_strength(
                l1, l2, spec.penalty_weights, spec.positive, engine
            )
        return LinearLoss(data, HUBER, penalty, threshold, spec.alpha_per_threshold)

    def whitened(self, problem: Problem, threshold: float) -> Whitened:
        """Return the objective in the coordinates that whiten the least-squares objective."""
        linear = self.linear_loss(problem, threshold)
        diagonal = _penalty_diagonal(linear)
        if self.spec.is_composite:
            diagonal = np.zeros_like(diagonal)
        return Whitened(linear, whiten(problem, diagonal))


def _penalty_diagonal(linear: LinearLoss) -> FloatArray:
    """Return the diagonal of the penalty's Hessian, of shape (p,), without the intercept."""
    zero = np.zeros(linear.data.engine.p + 1)
    return (zero if linear.penalty is None else linear.penalty.hessian_diagonal(zero))[1:]


# Stages ----------------------------------------------------------------------------------


def fit_stages(
    sampler: RowSampler, y: RowVector, spec: FitSpec, warm: FloatArray | None = None
) -> Iterator[StageResult]:
    """Minimise the objective of one target; yield a StageResult at the end of each stage.

    `warm` contains the starting intercept and coefficients, in units of the data.
    """
    plan = sampler.plan
    target = Target(y, sampler.problem.fit_intercept, spec, plan)
    n_passes = _engine_of(sampler.problem).n_passes
    initial = _initial_point(target, sampler)
    objective, theta, first_scale, _ = initial
    scale, used = first_scale, 0
    if warm is not None:
        engine = objective.engine
        given = objective.whitening.coordinates(target.units.from_data(warm, engine))
        if np.abs(given).max(initial=0.0) < MAX_WARM_START:
            theta = given
    beta = target.threshold(scale)
    multipliers = _multipliers(spec.schedule, objective, theta, beta)
    earlier = []
    for multiplier in multipliers:
        earlier.append(target.units.to_data(objective.coef(theta), objective.engine))
        is_last = multiplier == multipliers[-1]
        budget = max(0, spec.max_iter - used)
        if is_last:
            # The search for the scale always starts from the scale of the initial point,
            # because the scale of an earlier stage might lead to another fixed point.
            sensitivity = None
            if plan.accelerate:
                sensitivity = initial.sensitivity or Sensitivity()
            start = InitialPoint(objective, theta, first_scale, sensitivity)
            objective, solution, scale = _solve_final(target, sampler, start, budget)
            at_stage = objective.at_threshold(target.threshold(scale))
            solution = _with_small_joint_gap(
                target, sampler.problem, target.minimiser, at_stage, solution, scale, budget
            )
            if not solution.converged:
                solution, scale = _lowest(target, objective, solution, scale, earlier)
            beta = target.threshold(scale)
        else:
            at_stage = objective.at_threshold(multiplier * beta)
            solution = target.minimiser(at_stage, theta, spec.tol, budget)
        at_stage = objective.at_threshold(multiplier * beta)
        theta = solution.point.theta
        used += solution.n_iter
        above = np.nan
        if not np.isfinite(solution.point.value):
            # If the fit started from a sample, X has not yet been checked for NaN and infinity.
            objective.engine.check_finite()
        if is_last:
            above = _suboptimality(target, sampler.problem, at_stage, solution, scale)
        result = _to_data_units(
            target, at_stage, solution, multiplier, scale, n_passes, above, is_last
        )
        weights = _weights(target, at_stage, solution, scale, overwrite=is_last)
        # `n_rounds` is updated, because computing the weights may take further rounds.
        yield result._replace(weights=weights, n_rounds=objective.engine.n_rounds)
        n_passes = objective.n_passes
        if target.estimator is not None and not is_last:
            scale = target.estimator.scale(objective, solution.point)
            beta = target.threshold(scale)


def _engine_of(problem: Problem) -> Engine:
    assert problem.engine is not None
    return problem.engine


def _multipliers(
    schedule: Schedule,
    objective: Whitened,
    theta: FloatArray,
    beta: float,
) -> list[float]:
    if schedule is None:
        return [1.0]
    if callable(schedule):
        size = np.abs(objective.at_threshold(beta).evaluate(theta).residual)
        covering = kth(size, int(SCHEDULE_SHARE_INSIDE * (size.size - 1)))
        schedule = schedule(covering / beta)
    return [float(multiplier) for multiplier in schedule]


def _solve_final(
    target: Target, sampler: RowSampler, start: InitialPoint, max_iter: int
) -> tuple[Whitened, Solution, float]:
    """Return the whitened objective, the solution at the final threshold, and the scale.

    If `start` contains a sensitivity, Anderson acceleration runs before the minimiser.
    """
    objective, theta, scale, sensitivity = start
    spec, estimator, minimiser = target.spec, target.estimator, target.minimiser
    used, lowest = 0, _LowestPoint(target)
    passes: dict[str, int] = {}
    for _ in range(MAX_RESTARTS if sensitivity is not None else 0):
        assert sensitivity is not None
        patience = UNIFORM_PATIENCE_PASSES if sampler.is_uniform else PATIENCE_PASSES
        at_start = objective.at_threshold(target.threshold(scale))
        solution, new_scale, improved, value, lowest_theta = anderson(
            estimator, at_start, theta, scale, spec.tol, max_iter - used, sensitivity, patience
        )
        used += solution.n_iter
        add_passes(passes, solution.passes)
        if solution.converged:
            return objective, solution._replace(n_iter=used, passes=passes), new_scale
        lowest.update(objective, value, lowest_theta)
        no_sample = sampler.problem.sample is None
        if used >= max_iter or no_sample or not (improved or sampler.is_uniform):
            if improved:
                theta, scale = solution.point.theta, new_scale
            # Release the memory of the residuals, a vector of length n.
            del solution
            break
        near = InitialPoint(objective, solution.point.theta, new_scale, sensitivity)
        assert sampler.problem.sample is not None
        assert sampler.problem.sample.rows is not None
        residual = None
        if not sampler.is_uniform:
            residual = gather(solution.point.residual, sampler.problem.sample.rows)
        del solution
        objective, theta, scale, sensitivity = _restart(target, sampler, near, residual)
        # The objective may be larger at the starting point from a new sample than at the best
        # point so far.
        if improved and estimator is None:
            value = objective.at_threshold(target.beta).evaluate(theta).value
            if lowest.value < value:
                theta = lowest.theta(objective)
        if sensitivity is None:
            break
    if estimator is None:
        bound = objective.at_threshold(target.beta)
        solution = minimiser(bound, theta, spec.tol, max_iter - used)
        if not solution.converged and lowest.value < solution.point.value:
            point = bound.evaluate(lowest.theta(objective), solution.point.residual)
            solution = solution._replace(point=point, newton_step=None)
    else:
        solution, scale, _ = scale_fixed_point(
            estimator,
            objective,
            minimiser,
            theta,
            scale,
            spec.tol,
            max_iter - used,
            sensitivity,
        )
    add_passes(passes, solution.passes)
    return objective, solution._replace(n_iter=used + solution.n_iter, passes=passes), scale


def _lowest(
    target: Target,
    objective: Whitened,
    solution: Solution,
    scale: float,
    earlier: list[FloatArray],
) -> tuple[Solution, float]:
    """Return the candidate with the lowest final objective, and the scale at this candidate.

    The candidates are the given solution, which has not converged, and the starting
    coefficients of the stages, given by `earlier` in units of the data. A concomitant
    scale is a variable of the objective and is therefore computed for each candidate.
    """
    coef = [target.units.from_data(start, objective.engine) for start in earlier]
    starts = [objective.whitening.coordinates(given) for given in coef]
    estimator, lowest, lowest_value = target.estimator, None, np.inf
    for theta in [solution.point.theta, *starts]:
        s, sigma_term = scale, 0.0
        if isinstance(estimator, Concomitant):
            s = estimator.scale(objective, objective.evaluate(theta))
            sigma_term = 0.5 * s / estimator.factor
        bound = objective.at_threshold(target.threshold(s))
        point = bound.evaluate(theta)
        value = point.value / bound.threshold + sigma_term
        if lowest is None or value < lowest_value:
            lowest, lowest_value, scale = point, value, s
    assert lowest is not None
    return solution._replace(point=lowest, newton_step=None), scale


class _LowestPoint:
    """The lowest objective found at a fixed threshold, and the coefficients that attain it.

    The coefficients are stored in units of the data.
    """

    def __init__(self, target: Target) -> None:
        self._units, self.value, self._coef = target.units, np.inf, np.zeros(0)

    def update(self, objective: Whitened, value: float, theta: FloatArray) -> None:
        if value < self.value:
            self.value = value
            engine = objective.engine
            self._coef = self._units.to_data(objective.coef(theta), engine)

    def theta(self, objective: Whitened) -> FloatArray:
        coef = self._units.from_data(self._coef, objective.engine)
        return objective.whitening.coordinates(coef)


def _to_data_units(
    target: Target,
    objective: Whitened,
    solution: Solution,
    multiplier: float,
    scale: float,
    n_passes: int,
    above: float,
    is_last: bool,
) -> StageResult:
    unit, point, beta = target.units.unit, solution.point, objective.threshold
    estimator = target.estimator
    # Passes not counted in `solution.passes` were needed for the starting point and the bound
    # on the suboptimality.
    n_eval = objective.n_passes - n_passes
    others = n_eval - sum(solution.passes.values())
    passes = {"start and optimality": others, **solution.passes}
    engine = objective.engine
    coef = target.units.to_data(objective.coef(point.theta), engine, engine.dtype)
    if estimator is None:
        reported_beta, reported_scale = target.spec.beta, 1.0
    else:
        reported_scale = float(scale * unit)
        reported_beta = estimator.factor * reported_scale
    return StageResult(
        coef=coef[1:],
        intercept=float(coef[0]),
        beta=multiplier * reported_beta,
        scale=reported_scale,
        value=float(point.value / beta * unit),
        weights=None,
        n_iter=solution.n_iter,
        n_eval=n_eval,
        n_rounds=engine.n_rounds,
        algorithms={name: n for name, n in passes.items() if n},
        relative_gradient=point.relative_gradient,
        suboptimality=float(above / beta * unit),
        converged=solution.converged,
        message=solution.status.value,
        n_variables=objective.n_variables,
        is_last=is_last,
    )


def _weights(
    target: Target, objective: Whitened, solution: Solution, scale: float, *, overwrite: bool
) -> RowVector:
    """Return the weight of each row: ψ(r)/r, or 1 if the residual is only rounding error.

    If `overwrite` is True, the array of the residuals is overwritten with the weights.
    """
    theta, residual = solution.point.theta, solution.point.residual
    is_rounding = None
    if target.estimator is not None and scale < rounding_floor_bound(objective, theta):
        is_rounding = np.abs(residual) <= rounding_floor(objective, theta)[0]
    out = residual if overwrite else None
    weights = objective.linear.loss.weights(residual, objective.threshold, out)
    return weights if is_rounding is None else np.maximum(weights, is_rounding)


def _suboptimality(
    target: Target, problem: Problem, objective: Whitened, solution: Solution, scale: float
) -> float:
    """Return an upper bound on, or an estimate of, F − min F, where F is the objective.

    The bound is the duality gap, which is available for a composite penalty and for an
    objective whose whitening is computed from all rows. Otherwise the difference is estimated
    from the Newton decrement, and the result is NaN if the fit did not converge.
    """
    composite = target.spec.is_composite
    if problem.sample is not None or (problem.whiten_by == "scaling" and not composite):
        return suboptimality(objective, solution) if solution.converged else np.nan
    point = solution.point
    # A scale that is only rounding error is not a variable of the objective, so the gap is
    # computed for a fixed threshold.
    joint = isinstance(target.estimator, Concomitant) and not is_at_rounding_floor(
        objective, point.theta, scale
    )
    return duality_gap(objective, point, scale if joint else None)


def _with_small_joint_gap(
    target: Target,
    problem: Problem,
    minimiser: Minimiser,
    objective: Whitened,
    solution: Solution,
    scale: float,
    max_iter: int,
) -> Solution:
    """Return the solution, refined if its joint duality gap exceeds the tolerance.

    With a concomitant scale and a small L1 penalty, the joint gap for the coefficients and the
    scale may be much larger than the gap for the coefficients alone, on which the stopping
    criterion of the minimiser is based.
    """
    spec, tol = target.spec, target.spec.tol
    if not spec.is_composite or not isinstance(target.estimator, Concomitant):
        return solution
    rtol = max(spec.tol, ROUNDING_RTOL)
    for n_fits in range(MAX_TIGHTER_FITS + 1):
        gap = _suboptimality(target, problem, objective, solution, scale)
        if not solution.converged or gap <= rtol * solution.point.value:
            return solution
        if n_fits == MAX_TIGHTER_FITS:
            break
        tol *= TIGHTER_TOL_FACTOR
        budget = max_iter - solution.n_iter
        if budget <= 0:
            return solution._replace(status=Status.MAX_ITER)
        again = minimiser(objective, solution.point.theta, tol, budget)
        passes = dict(solution.passes)
        add_passes(passes, again.passes)
        solution = again._replace(n_iter=solution.n_iter + again.n_iter, passes=passes)
    return solution._replace(status=Status.STALLED)


# Start -----------------------------------------------------------------------------------


def _initial_point(target: Target, sampler: RowSampler) -> InitialPoint:
    """Return the starting point, computed from a sample if the sample is sufficient."""
    while sampler.problem.sample is not None:
        point = _sample_start(target, sampler)
        if point is not None:
            return point
        sampler.next_level()
    return _least_squares_start(target, sampler.problem)


def _least_squares_start(target: Target, problem: Problem) -> InitialPoint:
    """Return a starting point: the least-squares fit or an approximation to it, and the scale.

    With a composite penalty, the starting point is computed by `_composite_start`.
    """
    beta, scale, estimator = target.beta, np.nan, target.estimator
    moves = target.penalty_moves_with_scale
    if estimator is not None:
        # If the penalty is proportional to β, the coefficients at β = ∞ are zero.
        scale = _null_scale(target, problem) if moves else np.nan
        beta = estimator.threshold(scale) if moves else np.inf
    objective = target.whitened(problem, beta)
    if target.spec.is_composite:
        return _composite_start(target, problem, objective, scale)
    per_threshold = target.spec.alpha > 0 and target.spec.alpha_per_threshold
    start = objective if per_threshold else objective.at_threshold(np.inf)
    theta = -start.evaluate(np.zeros(objective.n_variables)).gradient
    if objective.n_variables > objective.engine.n + 1:
        # The coordinates are not whitened, so a gradient step does not lead to the
        # least-squares fit. This fit, which is the minimiser if all its absolute residuals are
        # below the threshold, is computed by Newton's method instead.
        linear = LinearLoss(start.linear.data, HUBER, start.linear.penalty, np.inf)
        squares = Whitened(linear, objective.whitening)
        theta = newton(squares, theta, LEAST_SQUARES_TOL, SAMPLE_MAX_ITER).point.theta
    if estimator is not None and not moves:
        point = lbfgs_then_newton(start, theta, LEAST_SQUARES_TOL, SAMPLE_MAX_ITER).point
        theta, scale = point.theta, estimator.scale(objective, point)
    return InitialPoint(objective, theta, scale, None)


def _composite_start(
    target: Target, problem: Problem, objective: Whitened, scale: float
) -> InitialPoint:
    """Return the starting point and the scale for a penalty with an L1 part or bounds.

    The starting point is the penalised least-squares fit if the scale is computed from its
    residuals, the fit to a sample if the threshold is fixed and the plan starts from a sample,
    and the null model otherwise.
    """
    theta = np.zeros(objective.n_variables)
    if target.estimator is None and target.plan.start_from_sample:
        linear = target.linear_loss(uniform_sample(problem), target.beta)
        sample = Whitened(linear, objective.whitening)
        minimiser = copy(target.plan.minimiser)
        theta = minimiser(sample, theta, SAMPLE_TOL, SAMPLE_MAX_ITER).point.theta
    if target.estimator is not None and np.isnan(scale):
        squares = objective.at_threshold(np.inf)
        point = target.minimiser(squares, theta, LEAST_SQUARES_TOL, target.spec.max_iter).point
        theta, scale = point.theta, target.estimator.scale(objective, point)
    return InitialPoint(objective, theta, scale, None)


def _null_scale(target: Target, problem: Problem) -> float:
    """Return the residual scale of the null model, in units of the target.

    In the null model, all coefficients are zero and the intercept is the mean of y.
    """
    assert target.estimator is not None
    y, weight = target.units.y_for(problem), problem.weight
    if problem.fit_intercept:
        y = y - np.average(y, weights=weight)
    return null_scale(target.estimator, y, weight)


def _sample_start(target: Target, sampler: RowSampler) -> InitialPoint | None:
    """Return the minimiser for the sample as a starting point, and a whitening computed there.

    The result is None if the sample is insufficient, that is, if it is rank-deficient or if the
    scale converges so slowly that another fixed point may be near.
    """
    problem = sampler.problem
    objective, theta, scale, _ = _least_squares_start(target, sampler.sample())
    n_varying = int(np.count_nonzero(np.isfinite(_engine_of(problem).scale)))
    if theta.size < max(1, n_varying + problem.fit_intercept):
        return None
    sensitivity = Sensitivity()
    if target.estimator is None:
        at_beta = objective.at_threshold(target.beta)
        solution = lbfgs_then_newton(at_beta, theta, SAMPLE_TOL, SAMPLE_MAX_ITER)
        del at_beta
    else:
        solution, scale, sensitivity = scale_fixed_point(
            target.estimator,
            objective,
            lbfgs_then_newton,
            theta,
            scale,
            SAMPLE_TOL,
            SAMPLE_MAX_ITER,
        )
        if not solution.converged or sensitivity.contraction > SAMPLE_MAX_CONTRACTION:
            return None
    point = solution.point
    near = InitialPoint(objective, point.theta, scale, sensitivity)
    whitening, theta, sensitivity = _majorant_whitening(target, near, objective, point.residual)
    # To save memory, release the sample before all of y is converted to units of the target.
    del objective, near, point, solution
    linear = target.linear_loss(problem, target.threshold(scale))
    return InitialPoint(Whitened(linear, whitening), theta, scale, sensitivity)


def _restart(
    target: Target, sampler: RowSampler, near: InitialPoint, residual: FloatArray | None
) -> InitialPoint:
    """Return the point from which a slowly converging fit continues.

    If `residual` is None, this is the starting point from the next sample, or from all rows if
    there is no other sample. Otherwise `residual` contains the residuals of the current sample
    at the point `near`, and the result is this point with a whitening computed there.
    """
    if residual is None:
        sampler.next_level()
        return _initial_point(target, sampler)
    sample = sampler.sample()
    old = near.objective
    part = Whitened(target.linear_loss(sample, old.threshold), old.whitening)
    assert near.sensitivity is not None
    whitening, theta, sensitivity = _majorant_whitening(target, near, part, residual)
    return InitialPoint(Whitened(old.linear, whitening), theta, near.scale, sensitivity)


def _majorant_whitening(
    target: Target, near: InitialPoint, sample: Whitened, residual: FloatArray
) -> tuple[Whitening, FloatArray, Sensitivity]:
    """Return the whitening for a quadratic that majorises the objective of a sample.

    θ and the sensitivity are also returned, in the new coordinates. The quadratic with Huber's
    weights ψ(r)/r touches the objective from above (Huber and Ronchetti, 2009, section 7.8).
    Near the minimiser its Hessian is close to that of the objective, because most rows beyond
    the threshold have small weights. Far from the minimiser, its Hessian prevents steps
    that are too long.
    """
    _, theta, scale, sensitivity = near
    assert sensitivity is not None
    bound = sample.at_threshold(target.threshold(scale))
    weights = bound.linear.loss.weights(residual, bound.threshold)
    whitening, T = rewhiten(bound, theta, weights)
    if T is None:
        return whitening, theta, sensitivity

    def to_coordinates(vector: FloatArray) -> FloatArray:
        coordinates: FloatArray = solve_triangular(T, vector)
        return coordinates

    return whitening, to_coordinates(theta), sensitivity.transformed(to_coordinates)


# Along a grid ----------------------------------------------------------------------------


def solution_path(
    problem: Problem,
    y: RowVector,
    specs: Sequence[FitSpec],
    plan: Plan,
    own_fit: Callable[[FitSpec], StageResult],
) -> Iterator[tuple[int, StageResult]]:
    """Minimise the objective of one target for each of the specs, whose schedules are None.

    Yield the index and the StageResult of each spec. The specs are processed in order of
    increasing penalty and, for each penalty, of decreasing threshold, or in the order of
    `_composite_path` if the penalty is composite. Rows of weight zero are ignored. If the fit
    for a spec without a composite penalty does not converge, `own_fit` fits this spec
    separately.
    """
    target = Target(y, problem.fit_intercept, specs[0], plan)
    if specs[0].is_composite:
        yield from _composite_path(target, problem, specs)
        return
    for alpha in sorted({spec.alpha for spec in specs}):
        group = [index for index, spec in enumerate(specs) if spec.alpha == alpha]
        group.sort(key=lambda index: _path_order(specs[index]))
        target.set_spec(specs[group[-1]])
        minimiser = _path_minimiser(target, problem)
        scale = np.nan
        for index in group:
            target.set_spec(specs[index])
            result = None
            if minimiser is not None:
                result, scale = _path_point(target, problem, minimiser, scale)
            yield index, own_fit(specs[index]) if result is None else result


def _composite_path(
    target: Target, problem: Problem, specs: Sequence[FitSpec]
) -> Iterator[tuple[int, StageResult]]:
    """Yield the index and the StageResult of each spec; all specs have a composite penalty.

    The specs are processed in order of decreasing threshold and, for each threshold, of
    decreasing penalty. Each fit starts from the previous coefficients, but the search for the
    scale starts from the same scale as in a single fit, because another scale may lead to
    another fixed point.
    """
    theta: FloatArray | None = None
    # `target.minimiser` fits the starting points at an infinite threshold. The fits of the path
    # use a copy, so that the two minimisers do not overwrite each other's stored sums.
    minimiser = copy(target.minimiser)
    for index in sorted(
        range(len(specs)), key=lambda i: (*_path_order(specs[i]), -specs[i].alpha)
    ):
        spec, estimator = specs[index], specs[index].scale
        target.set_spec(spec)
        n_passes = _engine_of(problem).n_passes
        objective, start, scale, _ = _least_squares_start(target, problem)
        theta = start if theta is None else theta
        if estimator is None:
            bound = objective.at_threshold(target.beta)
            solution = minimiser(bound, theta, spec.tol, spec.max_iter)
        else:
            solution, scale, _ = scale_fixed_point(
                estimator,
                objective,
                minimiser,
                theta,
                scale,
                spec.tol,
                spec.max_iter,
            )
        bound = objective.at_threshold(target.threshold(scale))
        solution = _with_small_joint_gap(
            target, problem, minimiser, bound, solution, scale, spec.max_iter
        )
        theta = solution.point.theta
        above = np.nan
        if not solution.converged:
            above = _suboptimality(target, problem, bound, solution, scale)
        yield (
            index,
            _to_data_units(target, bound, solution, 1.0, scale, n_passes, above, True),
        )


def _path_order(spec: FitSpec) -> tuple[bool, float]:
    """Return a sort key: estimated thresholds precede fixed ones, both in decreasing order.

    Estimated thresholds come first, because the search for each of them starts from a threshold
    above its final value.
    """
    estimated = spec.scale is not None
    return not estimated, -(spec.scale.factor if spec.scale is not None else spec.beta)


class _PathMinimiser(NamedTuple):
    solve: PathNewton | WarmStarts
    whitening: Whitening


def _path_minimiser(target: Target, problem: Problem) -> _PathMinimiser | None:
    """Return a minimiser for thresholds that are at least the threshold of the target.

    Return None if X is so wide that each spec is fitted separately.
    """
    plan, spec = target.plan, target.spec
    if plan.whiten_by == "scaling":
        return None
    # The whitening includes the Hessian of the penalty, which may exceed that of the loss in
    # some directions.
    scale = _null_scale(target, problem) if target.penalty_moves_with_scale else np.nan
    per_threshold = spec.alpha > 0 and spec.alpha_per_threshold
    linear = target.linear_loss(problem, target.threshold(scale) if per_threshold else 1.0)
    fixed = LinearLoss(linear.data, HUBER, linear.penalty, LEAST_SQUARES_THRESHOLD)
    whitening = whiten(problem, _penalty_diagonal(linear))
    objective = Whitened(fixed, whitening)
    make: type[PathNewton] | type[WarmStarts] = PathNewton if plan.follow_path else WarmStarts
    return _PathMinimiser(make(objective, plan.minimiser), whitening)


def _path_point(
    target: Target, problem: Problem, minimiser: _PathMinimiser, scale: float
) -> tuple[StageResult | None, float]:
    """Fit the spec of the target; return the StageResult and the scale.

    If the fit did not converge, the StageResult is None and `scale` is returned unchanged.
    """
    spec, estimator = target.spec, target.estimator
    n_passes = _engine_of(problem).n_passes
    solve, whitening = minimiser
    # If the threshold is estimated, the search for the scale replaces the threshold 1.0.
    threshold = target.beta if estimator is None else 1.0
    objective = Whitened(target.linear_loss(problem, threshold), whitening)
    start = np.zeros(0)  # Not used: the minimiser starts from its last solution.
    if estimator is None:
        new_scale = scale
        solution = solve(objective, start, spec.tol, spec.max_iter)
    else:
        if np.isnan(scale):
            moves = target.penalty_moves_with_scale
            first = _null_scale(target, problem) if moves else None
            scale = estimator.scale(objective, solve.point) if first is None else first
        solution, new_scale, _ = scale_fixed_point(
            estimator, objective, solve, start, scale, spec.tol, spec.max_iter
        )
    if not solution.converged:
        return None, scale
    at_scale = objective.at_threshold(target.threshold(new_scale))
    above = np.nan  # Computing the suboptimality would double the number of passes.
    result = _to_data_units(target, at_scale, solution, 1.0, new_scale, n_passes, above, True)
    return result, new_scale
