"""Minimise at one threshold after another, in about one pass over X each.

When the threshold β and the minimiser move a little, few rows change sides. With whitened
rows ζ = Mᵀ(1, z), S = Σ s and

    H = (1/S) Σ_inside s ζζᵀ    u = (1/S) Σ_inside s ζ r    v = (1/S) Σ_outside s ζ sign(r)

the gradient of the mean Huber loss is −(u + βv). A step δ of θ takes Hδ from u, and a row
that changes sides moves from one sum to the other: so Newton's method looks only at the
rows near the threshold. Then one pass over X checks the gradient, and which other rows have
changed sides after all.
"""

import numpy as np
from scipy import sparse
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from ._agreement import settle
from ._objective import LinearObjective
from ._problem import whiten
from ._scale import ScaleRule
from ._solver import Solution, Step, solve
from ._stages import _stage, _Target, stages
from ._whitening import Whitening

# With more variables than this their matrices cost more than the passes that they save.
_WIDEST = 2_000
# Above every residual in the units of a target, and its square is still a number.
_LEAST_SQUARES = 1e100
# Rows are near the threshold up to this many lengths of the first Newton step: four standard
# deviations of what it moves the residuals by.
_REACH = 4.0
# Rows near the threshold are copied if they have at most this many elements or are at most
# this part of X. Those that change sides are copied in blocks that stay in cache.
_MANY = 500_000
_PART = 0.25
_BLOCK = 100_000
# Most steps on the rows near the threshold, and most passes before `solve` is asked instead.
_MAX_STEPS = 20
_MAX_PASSES = 8


def along(problem, y, tasks, instead):
    """Minimise for one target at each of the tasks, whose schedules are None.

    Yields (index of the task, Stage), for each penalty the largest thresholds first. Rows
    of weight zero take no part. Where the minimiser cannot be followed it is found as on its
    own, for the problem and y of the other rows, which `instead()` returns.
    """
    target = _Target(problem, y, tasks[0])
    for alpha in sorted({task.alpha for task in tasks}):
        group = [index for index, task in enumerate(tasks) if task.alpha == alpha]
        group.sort(key=lambda index: _height(tasks[index]))
        target.assign(tasks[group[-1]])
        follow, scale = _follower(target, problem), None
        for index in group:
            target.assign(tasks[index])
            stage = None
            if follow is not None:
                stage, scale = _followed(target, problem, follow, scale)
            if stage is None:
                others, y_others = instead()
                stage = next(stages(others, y_others, tasks[index]))
            yield index, stage


def _height(task):
    """Sorts estimated thresholds first, as they are come down to, then large before small."""
    rule = isinstance(task.threshold, ScaleRule)
    return not rule, -(task.threshold.factor if rule else task.threshold)


def _follower(target, problem):
    """For the target and all larger thresholds; None where X is too wide."""
    # The coordinates must know of a penalty, which may decide in some directions.
    a, slope = target.alpha
    if slope:
        scale = target.unfitted_scale(problem) if target.rule else None
        a += slope * float(target.threshold(scale))
    whitening = whiten(problem, a)
    if sparse.issparse(whitening.transform) or whitening.transform.shape[1] > _WIDEST:
        return None
    start = problem.design, target.y, problem.weight, whitening, (a, 0.0)
    return _Follower(LinearObjective(*start))


def _followed(target, problem, follow, scale):
    """The Stage of a target, None if it did not converge, and the scale it came from or to."""
    task, swept = target.task, problem.design.n_sweeps
    objective = target.objective(problem, follow.whitening)
    if target.rule is None:
        found, solution = scale, follow(objective, None, target.beta, task.tol, task.max_iter)
    else:
        if scale is None and target.alpha[1]:
            scale = target.unfitted_scale(problem)
        elif scale is None:
            scale = target.scale(objective, follow.point)
        solution, found, _ = settle(
            target, objective, None, scale, task.tol, task.max_iter, solve=follow
        )
    if not solution.converged:
        return None, scale
    beta = target.threshold(found)
    return _stage(target, objective, solution, 1.0, beta, found, swept, True), found


class _Follower:
    """A `solve` with a memory: it starts where it last arrived.

    It begins at least squares, with the penalty of the objective that it is given, which is
    whitened for all rows of positive weight: H is the identity there, less that penalty.
    """

    def __init__(self, objective):
        design, weight, M = objective.design, objective.weight, objective.transform
        self.whitening = Whitening(M, objective.condition)
        self._design, self._transform, self._total = design, M, objective.total
        self._counts = None if weight is None else weight > 0
        self._weight = None if weight is None or np.ptp(weight[self._counts]) == 0 else weight
        penalty = np.concatenate([[0.0], design.ridge(1.0)])
        self._penalty = M.T @ (penalty[:, None] * M)
        k = M.shape[1]
        self._side = np.zeros(design.n, dtype=np.int8)
        self._H = np.eye(k) - objective.ridge(0.0) * self._penalty
        self._u, self._v = np.zeros(k), np.zeros(k)
        start = objective.at(np.zeros(k), _LEAST_SQUARES)
        start = objective.at(-start.gradient, _LEAST_SQUARES)
        self._arrive(objective, start, _LEAST_SQUARES)

    def __call__(self, objective, start, beta, tol, max_iter):
        """As `solve`, but for `start`; the objective may have another penalty."""
        origin, best, used = self.point, None, 0
        while used < min(_MAX_PASSES, max_iter):
            try:
                theta, factor = self._near_minimiser(objective, beta)
            except LinAlgError:
                break
            used += 1
            point = objective.at(theta, beta)
            self._arrive(objective, point, beta)
            if point.norm <= tol:
                return Solution(point, used, True, "gradient within tol", _step(factor))
            if best is not None and not point.value < best.value:
                break
            best = point
        if best is None or not best.value < objective.at(origin.theta, beta).value:
            best = origin
        solution = solve(objective, best.theta, beta, tol, max_iter - used)
        self._arrive(objective, solution.point, beta)
        return solution._replace(n_iter=used + solution.n_iter)

    def _arrive(self, objective, point, beta):
        """Go on from a point that a pass has found."""
        self.point = point
        side = _side(point.residual, beta)
        for rows in self._blocks(self._counted(side != self._side)):
            # Where u goes is known below.
            self._change(rows, self._design.rows(rows), np.zeros(rows.size), side[rows])
        self._side = side
        ridge = objective.ridge(beta) * (self._penalty @ point.theta)
        self._u = ridge - point.gradient - beta * self._v

    def _near_minimiser(self, objective, beta):
        """The minimiser if no row far from the threshold changes sides, and a factor of H."""
        theta, ridge = self.point.theta, objective.ridge(beta)
        step, factor = self._newton(theta, beta, ridge)
        reach = _REACH * float(np.sqrt(step @ step))
        size = np.abs(self.point.residual)
        near = (size < beta + reach) | (self._side == 0)
        rows = self._counted(near & (size > beta - reach))
        if rows.size * (self._design.p + 1) > max(_MANY, _PART * self._design.n_elements):
            return theta + step, factor
        Z, r = self._design.rows(rows), self.point.residual[rows]
        for k in range(_MAX_STEPS):
            side = _side(r, beta)
            changed = np.flatnonzero(side != self._side[rows])
            if changed.size:
                for part in self._blocks(changed):
                    self._change(rows[part], Z[part], r[part], side[part])
                step, factor = self._newton(theta, beta, ridge)
            elif k:
                break
            theta = theta + step
            r -= Z @ (self._transform @ step)
            self._u -= self._H @ step
        return theta, factor

    def _newton(self, theta, beta, ridge):
        """Newton's step with the sides as they are, and a factor of the Hessian."""
        down, H = self._u + beta * self._v, self._H
        if ridge:
            down, H = down - ridge * (self._penalty @ theta), H + ridge * self._penalty
        factor = cho_factor(H, check_finite=False)
        return cho_solve(factor, down, check_finite=False), factor

    def _change(self, rows, Z, r, side):
        """Rows, which are Z and have the residuals r, change sides."""
        before, self._side[rows] = self._side[rows], side
        s = np.ones(rows.size) if self._weight is None else self._weight[rows]
        to_theta = self._transform.T / self._total
        self._v += to_theta @ ((s * (side - before)) @ Z)
        for sign, crossing in (-1.0, before == 0), (1.0, side == 0):
            part, s_part = Z[crossing], s[crossing]
            self._u += sign * (to_theta @ ((s_part * r[crossing]) @ part))
            if self._weight is not None:
                part *= np.sqrt(s_part)[:, None]
            if part.shape[0] < part.shape[1]:
                part = part @ self._transform
                self._H += sign / self._total * (part.T @ part)
            else:
                self._H += sign * (to_theta @ (part.T @ part) @ self._transform)

    def _blocks(self, rows):
        size = max(1, _BLOCK // (self._design.p + 1))
        return (rows[i : i + size] for i in range(0, rows.size, size))

    def _counted(self, mask):
        """The rows of a mask that have a positive weight."""
        return np.flatnonzero(mask if self._counts is None else mask & self._counts)


def _side(r, beta):
    """0 inside the threshold, otherwise the sign."""
    return (r > beta).astype(np.int8) - (r < -beta)


def _step(factor):
    """What `excess` needs to know of the last step: the Newton decrement."""

    def decrement(gradient):
        return 0.5 * float(gradient @ cho_solve(factor, gradient, check_finite=False))

    return Step(np.zeros(factor[0].shape[0]), 1, decrement)
