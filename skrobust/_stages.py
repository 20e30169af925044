"""One target, from data to minimiser: start, stages of the threshold, agreement with the scale.

The order of things: units for y; the least-squares fit, from which every estimated scale
starts; for tall X the whole fit on a sample of rows, for a near start and a whitening that
knows which rows are inside; then the stages, each a warm restart of the last.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular

from ._agreement import Motion, accelerate, settle
from ._objective import LinearObjective
from ._problem import whiten
from ._scale import Near, ScaleRule, weighted_median
from ._solver import excess, solve
from ._whitening import Whitening, inverse_cholesky

_EPS = np.finfo(float).eps
# The whitened gradient norm that is small enough on a sample: its minimiser is about a tenth
# from that of all rows.
_CLOSE_ENOUGH = 1e-2
# A sample on which the scale contracts more slowly may lead to another fixed point.
_SLOW = 0.7
# Passes in which an accelerated fit must halve its error (fewer where the sample was drawn at
# random, for there is another), and how often it may go on otherwise.
_IMPATIENT, _PATIENT = 2, 3
_ROUNDS = 8
# A warm start further away than this, in units of y, is not one.
_FARTHEST = 1e8
# A smaller threshold, in units of y, changes nothing but that its square is no number.
_LEAST_THRESHOLD = 1e-100
# So many values of y tell where it is.
_SOME = 1_000
# A named schedule starts where this share of the residuals is inside.
_NEARLY_ALL = 0.99


class Task(NamedTuple):
    """What is to be minimised: a fixed threshold or a rule for it, the ridge term as
    (constant, slope) with a = constant + slope·β, and the multipliers of the stages.
    """

    threshold: float | ScaleRule
    alpha: tuple[float, float]
    schedule: Callable | np.ndarray | None
    tol: float
    max_iter: int


class Stage(NamedTuple):
    """Where a stage ended, in the units of the data.

    `value` is the smooth L1 objective at beta, penalty included, without the σ/(2ε) of the
    concomitant one; `excess` estimates how far above the minimum it is.
    """

    coef: np.ndarray
    intercept: float
    beta: float
    scale: float
    value: float
    outlier: np.ndarray
    n_iter: int
    n_eval: int
    norm: float
    excess: float
    converged: bool
    message: str
    last: bool


class Start(NamedTuple):
    """An objective, coordinates to start from, the scale there (None if β is fixed) and, only
    where this is near the minimiser, a motion.
    """

    objective: LinearObjective
    theta: np.ndarray
    scale: float | None
    motion: Motion | None


class _Target:
    """A target in units in which nothing overflows: y = shift + unit · (what is fitted)."""

    def __init__(self, problem, y, task):
        # Powers of two: no digit changes. The first keeps y − shift from overflowing.
        ends = float(y.min()), float(y.max())
        first = _power_of_two(max(ends[1], -ends[0]))
        shift = _place(y) / first if problem.fit_intercept else 0.0
        largest = max(ends[1] / first - shift, shift - ends[0] / first)
        second = min(_power_of_two(largest), 2.0**1023 / first)
        self._given, self._steps = y, (first, shift, second)
        self._y: np.ndarray | None = None
        self.shift, self.unit = shift * first, first * second
        self.assign(task)

    def assign(self, task):
        """Go over to another task."""
        self.alpha = (task.alpha[0], task.alpha[1] * self.unit)
        self.task = task
        self.rule: ScaleRule | None = None
        self.beta: float = np.nan
        if isinstance(task.threshold, ScaleRule):
            self.rule = task.threshold
        else:
            self.beta = max(task.threshold / self.unit, _LEAST_THRESHOLD)

    @property
    def y(self):
        # Not before a sample is done with: both at once take memory. No cached_property: in
        # Python 3.11 all instances share its lock, which a fork beside a fit leaves locked.
        if self._y is None:
            self._y = self._in_units(self._given)
        return self._y

    def of(self, problem):
        rows = problem.rows
        return self.y if rows is None else self._in_units(self._given[rows])

    def _in_units(self, y):
        first, shift, second = self._steps
        y = np.array(y, dtype=np.float64)
        y /= first
        y -= shift
        y /= second
        return y

    def objective(self, problem, whitening):
        y = self.of(problem)
        given = problem.design, y, problem.weight, whitening, self.alpha, problem.gram
        return LinearObjective(*given)

    def floor(self, objective, theta):
        """Rounding error of each residual, and the least scale that can be told from it."""
        y, weight = objective.y, objective.weight
        size = np.abs(y - np.average(y, weights=weight)) + objective.fitted_size(theta)
        rounding = _EPS * (32 * size + np.abs(y + self.shift / self.unit))
        return rounding, weighted_median(rounding, weight) or _EPS**2

    def floor_bound(self, objective, theta):
        """Above the floor, without a pass over X: most features are below 30 deviations."""
        size = 1.0 + abs(self.shift / self.unit) + 30 * np.abs(objective.coef(theta)).sum()
        return 32 * _EPS * float(size)

    def threshold(self, scale):
        """β in these units."""
        if self.rule is None:
            return self.beta
        return max(self.rule.factor * scale, _LEAST_THRESHOLD)

    def unfitted_scale(self, problem):
        """The scale for w = 0, never zero."""
        left, weight = self.of(problem), problem.weight
        if problem.fit_intercept:
            left = left - np.average(left, weights=weight)
        return self.rule.estimate(left, weight) or float(np.abs(left).mean()) or _EPS

    def scale(self, objective, point, near=None):
        """The scale of the residuals, held at the floor; `near` is that of the threshold of
        the point, if near.
        """
        near = None if near is None else Near(near, point.clipped)
        scale = self.rule.estimate(point.residual, objective.weight, near)
        if scale < self.floor_bound(objective, point.theta):
            scale = max(scale, self.floor(objective, point.theta)[1])
        return scale


def _place(y):
    """The median, or that of some values drawn at random: any place among most of them does."""
    if y.size > _SOME:
        y = y[np.random.default_rng(0).integers(y.size, size=_SOME)]
    return weighted_median(y)


def _power_of_two(size):
    return float(2.0 ** np.floor(np.log2(size))) if size > 0 else 1.0


def stages(survey, y, task, warm=None):
    """Minimise for one target; yields a Stage at the end of each stage."""
    if survey.at_random and (warm is not None or task.schedule is not None):
        # The start is then far from the minimiser, where a sample at random says too little.
        survey.refine()
    target = _Target(survey.problem, y, task)
    swept = survey.problem.design.n_sweeps
    start = _start(target, survey)
    objective, theta, first_scale, motion = start
    scale, used = first_scale, 0
    if warm is not None:
        given = objective.theta(_standardised(warm, target, objective.design))
        if np.abs(given).max(initial=0.0) < _FARTHEST:
            theta = given
    beta = target.threshold(scale)
    multipliers = _multipliers(task.schedule, objective, theta, beta)
    if warm is not None or len(multipliers) > 1:
        motion = None
    for multiplier in multipliers:
        last = multiplier == multipliers[-1]
        budget = max(0, task.max_iter - used)
        if last:
            # From the first scale also after other stages: they might lead elsewhere.
            start = Start(objective, theta, first_scale, motion)
            objective, solution, scale = _last_stage(target, survey, start, budget)
            beta = target.threshold(scale)
        else:
            solution = solve(objective, theta, multiplier * beta, task.tol, budget)
        theta = solution.point.theta
        used += solution.n_iter
        yield _stage(
            target, objective, solution, multiplier, multiplier * beta, scale, swept, last
        )
        swept = objective.design.n_sweeps
        if target.rule is not None and not last:
            scale = target.scale(objective, solution.point)
            beta = target.threshold(scale)


def _last_stage(target, survey, start, max_iter):
    """The objective, the solution at the final threshold, and its scale; quickly if near."""
    objective, theta, scale, motion = start
    tol, spent, best = target.task.tol, 0, _Best(target)
    for _ in range(_ROUNDS):
        if motion is None:
            break
        patience = _IMPATIENT if survey.at_random else _PATIENT
        solution, found, nearer, lowest = accelerate(
            target, objective, theta, scale, tol, max_iter - spent, motion, patience
        )
        spent += solution.n_iter
        if solution.converged:
            return objective, solution._replace(n_iter=spent), found
        best.see(objective, *lowest)
        if spent >= max_iter or not (nearer or survey.at_random):
            if nearer:
                theta, scale = solution.point.theta, found
            break
        near = Start(objective, solution.point.theta, found, motion)
        residual = solution.point.residual[survey.problem.sample.rows]
        del solution
        objective, theta, scale, motion = _closer(target, survey, near, residual)
        # A new sample may know less than the passes so far have found.
        compared = nearer and target.rule is None
        if compared and best.value < objective.at(theta, target.beta).value:
            theta = best.theta(objective)
    if target.rule is None:
        solution = solve(objective, theta, target.beta, tol, max_iter - spent)
        if not solution.converged and best.value < solution.point.value:
            residual = solution.point.residual
            point = objective.at(best.theta(objective), target.beta, residual)
            solution = solution._replace(point=point, step=None)
    else:
        solution, scale, _ = settle(
            target, objective, theta, scale, tol, max_iter - spent, motion
        )
    return objective, solution._replace(n_iter=spent + solution.n_iter), scale


class _Best:
    """The lowest objective so far at a fixed threshold, and where, in the units of the data."""

    def __init__(self, target):
        self._target, self.value = target, np.inf

    def see(self, objective, value, theta):
        if value < self.value:
            self.value = value
            self._coef = _in_units_of_data(self._target, objective, theta)

    def theta(self, objective):
        return objective.theta(_standardised(self._coef, self._target, objective.design))


def _in_units_of_data(target, objective, theta):
    """Intercept and coefficients; the caller refuses what is not finite."""
    design, coef = objective.design, objective.coef(theta) * target.unit
    with np.errstate(over="ignore", invalid="ignore"):
        slopes = coef[1:] / design.scale
        intercept = target.shift + coef[0] - slopes @ design.centre
    return np.concatenate([[intercept], slopes / design.unit])


def _standardised(warm, target, design):
    """(intercept, coef) in the units of the data as (b, v) of the design."""
    intercept, coef = warm[0], warm[1:]
    varying = np.isfinite(design.scale)
    v = np.where(varying, coef, 0.0) * np.where(varying, design.scale, 0.0) * design.unit
    b = intercept + (coef * design.unit) @ design.centre - target.shift
    return np.concatenate([[b], v]) / target.unit


def _stage(target, objective, solution, multiplier, beta, scale, swept, last):
    unit, point = target.unit, solution.point
    found = _in_units_of_data(target, objective, point.theta)
    above = excess(objective, solution, beta)
    reported = 0.0 if target.rule is None else target.rule.factor * float(scale * unit)
    outlier = point.residual > beta
    outlier |= point.residual < -beta
    if target.rule is not None and scale < target.floor_bound(objective, point.theta):
        outlier &= np.abs(point.residual) > target.floor(objective, point.theta)[0]
    return Stage(
        found[1:],
        float(found[0]),
        multiplier * (target.task.threshold if target.rule is None else reported),
        1.0 if target.rule is None else float(scale * unit),
        float(point.value / beta * unit),
        outlier,
        solution.n_iter,
        objective.design.n_sweeps - swept,
        point.norm,
        float(above / beta * unit),
        solution.converged,
        solution.message,
        last,
    )


def _multipliers(schedule, objective, theta, beta):
    if schedule is None:
        return [1.0]
    if callable(schedule):
        size = np.abs(objective.at(theta, beta).residual)
        schedule = schedule(float(np.quantile(size, _NEARLY_ALL)) / beta)
    return [float(multiplier) for multiplier in schedule]


def _start(target, survey):
    """Where to start, from a sample if there is one that says enough."""
    while survey.problem.sample is not None:
        found = _start_from_sample(target, survey)
        if found is not None:
            return found
        survey.refine()
    return _start_far(target, survey.problem)


def _start_far(target, problem):
    """Where to start without a sample: the least-squares fit, or on the way there."""
    beta, scale = target.beta, None
    if target.rule is not None and target.alpha[1]:
        # The ridge term grows with β, so that β = ∞ means w = 0.
        scale = target.unfitted_scale(problem)
        beta = target.rule.factor * scale
    a = target.alpha[0] + (float(target.alpha[1] * beta) if target.alpha[1] else 0.0)
    objective = target.objective(problem, whiten(problem, a))
    zero = np.zeros(objective.transform.shape[1])
    theta = -objective.at(zero, np.inf if not target.alpha[1] else beta).gradient
    if target.rule is not None and scale is None:
        point = solve(objective, theta, np.inf, 1e-3, 100).point
        theta, scale = point.theta, target.scale(objective, point)
    return Start(objective, theta, scale, None)


def _start_from_sample(target, survey):
    """The start found on the sample, and the whitening from the sample rows inside there.

    None where the sample does not say enough: it has not full rank, or the scale settles so
    slowly that another fixed point may be near.
    """
    problem = survey.problem
    design = problem.design
    objective, theta, scale, _ = _start_far(target, survey.sample())
    n_varying = np.count_nonzero(np.isfinite(design.scale))
    if theta.size < max(1, n_varying + problem.fit_intercept):
        return None
    motion = Motion()
    if target.rule is None:
        point = solve(objective, theta, target.beta, _CLOSE_ENOUGH, 100).point
    else:
        solution, scale, motion = settle(target, objective, theta, scale, _CLOSE_ENOUGH, 100)
        if not solution.converged or motion.contraction > _SLOW:
            return None
        point = solution.point
    start = Start(objective, point.theta, scale, motion)
    near = _whitened(target, start, objective, point.residual)
    # The sample is done with before all of y is taken, which saves its memory.
    del objective, start
    return _start_near(target, problem, near, scale)


def _start_near(target, problem, near, scale):
    whitening, theta, motion = near
    return Start(target.objective(problem, whitening), theta, scale, motion)


def _huber_weights(residual, threshold):
    """Huber's weights min(1, β/|r|)."""
    size = np.abs(residual)
    return np.divide(threshold, size, out=np.ones_like(size), where=size > threshold)


def _closer(target, survey, start, residual):
    """Where the fit goes on if that from `start` is slow: from another sample if there is one,
    else in a whitening from the rows of this one that are inside the threshold by now.
    """
    if survey.at_random:
        survey.refine()
        found = _start(target, survey)
        found.objective.design.n_sweeps += start.objective.design.n_sweeps
        return found
    old, sample = start.objective, survey.sample()
    part = target.objective(sample, Whitening(old.transform, old.condition))
    near = _whitened(target, start, part, residual)
    return _start_near(target, survey.problem, near, start.scale)


def _whitened(target, start, part, residual):
    """With θ and motion, the whitening of the quadratic that touches the objective of a part of
    the rows from above at their residuals (the one of Huber's weights).

    Near the minimiser it is as good as the Hessian, since most rows beyond the threshold are
    far beyond; away from it no step is too long.
    """
    _, theta, scale, motion = start
    threshold = target.threshold(scale)
    M = inverse_cholesky(part.hessian(_huber_weights(residual, threshold), threshold))
    if M is None:
        return Whitening(part.transform, part.condition), theta, motion

    def mapped(vector):
        return solve_triangular(M, vector)

    whitening = Whitening(part.transform @ M, part.condition)
    return whitening, mapped(theta), motion.mapped(mapped)
