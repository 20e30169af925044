"""One target, from data to minimiser: start, stages of the threshold, agreement with the scale.

The order of things: units for y; the least-squares fit, from which every estimated scale
starts; for tall X the whole fit on a sample of rows, for a near start and a whitening that
knows which rows are inside; then the stages, each a warm restart of the last.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn.utils import assert_all_finite

from ._design import DenseDesign, Design
from ._objective import LinearObjective
from ._scale import ScaleRule, weighted_median
from ._solver import excess, solve
from ._whitening import (
    Whitening,
    inverse_cholesky,
    square_root,
    whiten_columns,
    whiten_gram,
    whiten_rows,
)

_EPS = np.finfo(float).eps
# Tall X is sampled: this many rows a feature, from this many rows a feature and elements on.
_SAMPLE = 200
_TALL = 400
_MANY_ELEMENTS = 2_000_000
# Beyond this many features or rows, whichever are fewer, a k × k matrix costs too much.
_MAX_WHITENED = 5_000
# Beyond this many elements singular values are those of the Gram matrix, of half the digits.
_MANY_ROWS = 20_000_000
# Rounds in which threshold and scale must come to agree; the slowest contraction that is
# extrapolated; and how far: a longer stride could pass the fixed point that the plain
# iteration from above comes to first.
_MAX_ROUNDS = 60
_MAX_CONTRACTION = 0.98
_STRIDE = 4.0
_SHORT = 0.1
# A sample on which the scale contracts more slowly may lead to another fixed point.
_SLOW = 0.7
# A fit is this much nearer to its minimiser than its scale is to agreement.
_AHEAD = 0.03
_FEW = 100_000
# A named schedule starts where this share of the residuals is inside.
_NEARLY_ALL = 0.99


class Problem(NamedTuple):
    """The design and weights that all targets share; `gram` is the weighted mean of ZᵀZ.

    A `sample` is a smaller problem of the same kind, made of some `rows`. Its design is
    taken when a target starts, and not kept.
    """

    design: Design | None
    weight: np.ndarray | None
    fit_intercept: bool
    gram: np.ndarray | None = None
    sample: "Problem | None" = None
    rows: np.ndarray | None = None


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
    concomitant one; `decrement` estimates how far above the minimum it is.
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
    decrement: float
    converged: bool
    message: str
    last: bool


class _Motion(NamedTuple):
    """How φ and the minimiser move with the scale: dφ/ds, whether it was the same the last
    two times, and dθ/ds.
    """

    contraction: float = 0.0
    straight: bool = False
    direction: np.ndarray | None = None


def pose(design, weight, fit_intercept):
    """Choose the units of the features and the regime; one or two passes over X."""
    rng = np.random.default_rng(0)
    n, p = design.n, design.p
    dense = isinstance(design, DenseDesign)
    tall = dense and n >= _TALL * p and design.n_elements >= _MANY_ELEMENTS
    probe = np.sort(rng.choice(n, min(n, 1000), replace=False, shuffle=False))
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        mean, std, score = design.moments(weight, probe)
    if not np.isfinite(mean).all():
        with np.errstate(invalid="ignore", over="ignore"):
            assert_all_finite(design.X, input_name="X", estimator_name="SmoothL1Regressor")
        if np.isfinite(abs(design.X).max()):
            return pose(design.shrunk(), weight, fit_intercept)
    # Squares overflow from 1e154 on and vanish below 1e-154.
    extreme = np.flatnonzero(~((std > 1e-140) & (std < 1e140)))
    if extreme.size:
        mean[extreme], std[extreme] = design.extreme_moments(weight, extreme)
    if not fit_intercept:
        mean, std = np.zeros(p), np.hypot(mean, std)
    # The reciprocals of what is smaller overflow.
    constant = (std <= 8 * _EPS * np.abs(mean)) | (std < np.finfo(float).tiny)
    design.standardise(mean, np.where(constant, np.inf, std))
    whole = Problem(design, weight, fit_intercept)
    if not tall:
        return _with_gram(whole)
    rows, share = _sample_rows(score, weight, _SAMPLE * p, rng)
    del score
    sample = _with_gram(Problem(design.take(rows), share, fit_intercept, rows=rows))
    return whole._replace(sample=sample._replace(design=None))


def _with_gram(problem):
    """With the Gram matrix where it is smaller than X and affordable, and no sample."""
    design, weight = problem.design, problem.weight
    if not design.p < min(design.n, _MAX_WHITENED):
        return problem
    total = design.n if weight is None else weight.sum()
    return problem._replace(gram=design.gram(weight) / total, sample=None)


def _sample_rows(score, weight, m, rng):
    """Rows and weights: a quarter those of most leverage, the others at random.

    At random alone, a few rows far out would be missed and their directions stay unwhitened.
    """
    n = score.size
    leverage = score if weight is None else weight**2 * np.maximum(score, 1.0)
    drawn = rng.choice(n, m - m // 4, replace=False, shuffle=False)
    # About twice as many as wanted are above this quantile of the random rows.
    cut = np.quantile(leverage[drawn], 1.0 - 2.0 * (m // 4) / n)
    top = np.flatnonzero(leverage >= cut)
    if top.size > m // 4:
        top = top[np.argpartition(leverage[top], -(m // 4))[-(m // 4) :]]
    is_top = np.zeros(n, dtype=bool)
    is_top[top] = True
    drawn = drawn[~is_top[drawn]]
    rows = np.concatenate([top, drawn])
    share = np.ones(rows.size) if weight is None else weight[rows]
    rest = n - top.size if weight is None else weight.sum() - share[: top.size].sum()
    share[top.size :] *= rest / share[top.size :].sum()
    order = np.argsort(rows)
    return rows[order], share[order]


def whiten(problem, a):
    """The whitening for ridge a, by Cholesky where that is safe, else by singular values."""
    design, weight = problem.design, problem.weight
    ridge = a * design.penalty
    varying = np.isfinite(design.scale)
    rounding = np.abs(design.centre[varying]) / design.scale[varying]
    rounding = 4 * np.finfo(design.X.dtype).eps * rounding.max(initial=0.0)
    if problem.gram is not None:
        found = whiten_gram(problem.gram, ridge, problem.fit_intercept)
        if found is not None:
            return found
        if design.n * design.p > _MANY_ROWS:
            return whiten_rows(
                square_root(problem.gram), ridge, problem.fit_intercept, rounding
            )
    elif min(design.n, design.p) > _MAX_WHITENED:
        return whiten_columns(ridge, problem.fit_intercept)
    Z = design.rows(slice(None))
    if weight is not None:
        Z *= np.sqrt(weight)[:, None]
    Z /= np.sqrt(design.n if weight is None else weight.sum())
    return whiten_rows(Z, ridge, problem.fit_intercept, rounding)


class _Target:
    """A target in units in which nothing overflows: y = shift + unit · (what is fitted)."""

    def __init__(self, problem, y, task):
        # Powers of two: no digit changes. The first keeps y − shift from overflowing.
        first = _power_of_two(np.abs(y).max())
        shift = float(np.median(y / first)) if problem.fit_intercept else 0.0
        self.y = y / first - shift
        second = _power_of_two(np.abs(self.y).max())
        self.y /= second
        self.shift, self.unit = shift * first, first * second
        self.problem = problem
        self.alpha = (task.alpha[0], task.alpha[1] * self.unit)
        self.task = task
        self.rule: ScaleRule | None = None
        self.beta: float = np.nan
        if isinstance(task.threshold, ScaleRule):
            self.rule = task.threshold
        else:
            self.beta = task.threshold / self.unit

    def objective(self, problem, whitening):
        y = self.y if problem.rows is None else self.y[problem.rows]
        return LinearObjective(problem.design, y, problem.weight, whitening, self.alpha)

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

    def scale(self, objective, point):
        """The scale of the residuals, held at the floor."""
        scale = self.rule.estimate(point.residual, objective.weight)
        if scale < self.floor_bound(objective, point.theta):
            scale = max(scale, self.floor(objective, point.theta)[1])
        return scale


def _power_of_two(size):
    return float(2.0 ** np.floor(np.log2(size))) if size > 0 else 1.0


def stages(problem, y, task, warm=None):
    """Minimise for one target; yields a Stage at the end of each stage."""
    target = _Target(problem, y, task)
    swept = problem.design.n_sweeps
    objective, theta, first_scale, motion = _start(target, problem)
    scale = first_scale
    if warm is not None:
        theta = objective.theta(_standardised(warm, target, problem.design))
    used = 0
    beta = target.beta if target.rule is None else target.rule.factor * scale
    multipliers = _multipliers(task.schedule, objective, theta, beta)
    for multiplier in multipliers:
        last = multiplier == multipliers[-1]
        budget = max(0, task.max_iter - used)
        if target.rule is None or not last:
            solution = solve(objective, theta, multiplier * beta, task.tol, budget)
        else:
            # From the first scale also after other stages, or they might lead elsewhere.
            solution, scale, _ = _settle(
                target, objective, theta, first_scale, task.tol, budget, motion
            )
            beta = target.rule.factor * scale
        theta = solution.point.theta
        used += solution.n_iter
        threshold = multiplier * beta
        yield _in_units_of_y(target, objective, solution, threshold, scale, swept, last)
        swept = problem.design.n_sweeps
        if target.rule is not None and not last:
            scale = target.scale(objective, solution.point)
            beta = target.rule.factor * scale


def _standardised(warm, target, design):
    """(intercept, coef) in the units of the data as (b, v) of the design."""
    intercept, coef = warm[0], warm[1:]
    varying = np.isfinite(design.scale)
    v = np.where(varying, coef, 0.0) * np.where(varying, design.scale, 0.0) * design.unit
    b = intercept + (coef * design.unit) @ design.centre - target.shift
    return np.concatenate([[b], v]) / target.unit


def _in_units_of_y(target, objective, solution, beta, scale, swept, last):
    unit, point = target.unit, solution.point
    design = objective.design
    coef = objective.coef(point.theta) * unit
    slopes = coef[1:] / design.scale
    size = np.abs(point.residual)
    outlier = size > beta
    if target.rule is not None and scale < target.floor_bound(objective, point.theta):
        outlier &= size > target.floor(objective, point.theta)[0]
    return Stage(
        slopes / design.unit,
        float(target.shift + coef[0] - slopes @ design.centre),
        float(beta * unit),
        1.0 if target.rule is None else float(scale * unit),
        float(point.value / beta * unit),
        outlier,
        solution.n_iter,
        objective.design.n_sweeps - swept,
        point.norm,
        float(excess(objective, solution, beta) / beta * unit),
        solution.converged,
        solution.message,
        last,
    )


def _multipliers(schedule, objective, theta, beta):
    if schedule is None:
        return np.ones(1)
    if not callable(schedule):
        return schedule
    size = np.abs(objective.at(theta, beta).residual)
    return schedule(float(np.quantile(size, _NEARLY_ALL)) / beta)


def _start(target, problem):
    """Objective, coordinates to start from, the scale there (None if β is fixed), motion."""
    if problem.sample is not None:
        found = _start_from_sample(target, problem)
        if found is not None:
            return found
        problem = _with_gram(problem)
    beta, scale = target.beta, None
    if target.rule is not None and target.alpha[1]:
        # The ridge term grows with β, so that β = ∞ means w = 0.
        mean = np.average(target.y, weights=problem.weight) if problem.fit_intercept else 0.0
        left = target.y - mean
        scale = target.rule.estimate(left, problem.weight) or float(np.abs(left).mean()) or _EPS
        beta = target.rule.factor * scale
    a = target.alpha[0] + (float(target.alpha[1] * beta) if target.alpha[1] else 0.0)
    objective = target.objective(problem, whiten(problem, a))
    zero = np.zeros(objective.transform.shape[1])
    theta = -objective.at(zero, np.inf if not target.alpha[1] else beta).gradient
    if target.rule is not None and scale is None:
        point = solve(objective, theta, np.inf, 1e-6, 100).point
        theta, scale = point.theta, target.scale(objective, point)
    return objective, theta, scale, _Motion()


def _start_from_sample(target, problem):
    """The start found on the sample, and the whitening from the sample rows inside there.

    None where the sample does not say enough: it has not full rank, or the scale settles so
    slowly that another fixed point may be near.
    """
    design = problem.design
    sample = problem.sample._replace(design=design.take(problem.sample.rows))
    objective, theta, scale, motion = _start(target, sample)
    if theta.size < np.count_nonzero(np.isfinite(design.scale)) + problem.fit_intercept:
        return None
    beta = target.beta
    if target.rule is None:
        point = solve(objective, theta, beta, 1e-3, 100).point
    else:
        solution, scale, motion = _settle(target, objective, theta, scale, 1e-5, 100, motion)
        if not solution.converged or motion.contraction > _SLOW:
            return None
        point = solution.point
        beta = target.rule.factor * scale
    window = max(beta, _widest(point.residual, 10 * theta.size))
    M = inverse_cholesky(objective.hessian(np.abs(point.residual) <= window, window))
    transform = objective.transform if M is None else objective.transform @ M
    whole = target.objective(problem, Whitening(transform, objective.condition))
    if motion.direction is not None:
        motion = motion._replace(direction=whole.theta(objective.coef(motion.direction)))
    return whole, whole.theta(objective.coef(point.theta)), scale, motion


def _widest(residual, m):
    size = np.abs(residual)
    return float(np.partition(size, min(m, size.size - 1))[min(m, size.size - 1)])


def _settle(target, objective, theta, scale, tol, max_iter, motion):
    """Find the scale s with s = φ(s), φ(s) = scale of the residuals of the fit at factor·s.

    Starts above, at the least-squares scale, and takes secant steps for φ(s) − s, kept inside
    the bracket once there is one: φ contracts by .1 a round on usual data but by .6 and more
    where most rows are fitted exactly. The fit at the next s starts where the motion so far
    points to, since minimisers move along straight pieces.
    """
    used, before, lower, upper = 0, None, 0.0, np.inf
    accuracy = max(0.1 * tol, 1e-14)
    # Few rows need no care: Newton's last step is exact, and its price overhead.
    inner = accuracy if objective.design.n_elements < _FEW else max(accuracy, 1e-3)
    proposed = scale
    for _ in range(_MAX_ROUNDS):
        s = proposed
        solution = solve(objective, theta, target.rule.factor * s, inner, max_iter - used)
        used += solution.n_iter
        theta = solution.point.theta
        found = target.scale(objective, solution.point)
        gap = found / s - 1.0
        settled = abs(gap) <= accuracy
        if not settled and target.floor_bound(objective, theta) > accuracy * s:
            # Rounding moves the scale by a part of the floor.
            least = target.floor(objective, theta)[1]
            settled = abs(found - s) <= least / 16 <= s
        if (settled and min(inner, solution.point.norm) <= accuracy) or used >= max_iter:
            break
        # A gap no larger than the error of the fit tells nothing of φ.
        if abs(gap) > 10 * inner or inner <= accuracy:
            lower, upper = (s, upper) if gap > 0 else (lower, s)
            motion = _observed(motion, before, (s, found, theta), 30 * inner)
            before = s, found, theta
            inner = max(accuracy, min(inner, _AHEAD * abs(gap)))
        else:
            inner = accuracy if settled else max(accuracy, _AHEAD * min(inner, abs(gap)))
        if motion.straight and motion.contraction >= 1.0:
            proposed = 0.0 if gap < 0 else 2.0 * s
        elif motion.straight:
            proposed = s + (found - s) / (1.0 - motion.contraction)
        else:
            proposed = s + (found - s) / (1.0 - min(motion.contraction, _MAX_CONTRACTION))
            far = 1.0 + max(_STRIDE * abs(gap), _SHORT)
            proposed = min(max(proposed, s / far), s * far)
        if not lower < proposed < upper:
            proposed = float(np.sqrt(lower * upper)) if lower else max(proposed, 0.0)
            if upper < lower * (1 + accuracy):
                lower, upper = 0.0, np.inf
        if proposed < target.floor_bound(objective, theta):
            proposed = max(proposed, target.floor(objective, theta)[1])
        if motion.direction is not None:
            theta = theta + (proposed - s) * motion.direction
    if solution.converged and not settled:
        solution = solution._replace(converged=False, message="the scale did not settle")
    return solution._replace(n_iter=used), s, motion


def _observed(motion, before, now, least):
    """The motion between two (s, φ(s), θ), if they are further apart than `least`."""
    if before is None or abs(now[0] - before[0]) <= least * now[0]:
        return motion
    moved = now[0] - before[0]
    contraction = (now[1] - before[1]) / moved
    straight = abs(contraction - motion.contraction) < 1e-3
    return _Motion(contraction, straight, (now[2] - before[2]) / moved)
