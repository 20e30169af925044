"""Fit and scale made to agree: s = φ(s), φ(s) = scale of the residuals of the fit at factor·s.

`settle` alternates between the two with secant steps and finds the fixed point below the
least-squares scale, whatever the data. `accelerate` moves both at every pass over X; it
needs a start as near as a fit of a sample gives, and gives up otherwise.
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg.blas import dnrm2

from ._solver import Solution, Step, solve

# Rounds in which threshold and scale must come to agree; the slowest contraction that is
# extrapolated; and how far: a longer stride could pass the fixed point that the plain
# iteration from above comes to first.
_MAX_ROUNDS = 60
_MAX_CONTRACTION = 0.98
_STRIDE = 4.0
_SHORT = 0.1
# A stride to the floor, where rounding is a fixed point, may pass the first one. So φ is probed
# at this part of φ(s) beforehand, and this far above the floor before that is believed.
_DIVE, _CLEAR = 1e-3, 1e4
# A fit is this much nearer to its minimiser than its scale is to agreement.
_AHEAD = 0.03
# Below this many elements a fit need not be cheaper than exact: Newton's last step is both.
_FEW = 100_000
# Moves that Anderson's acceleration remembers, and the longest step down a gradient: curvatures
# below a half are not those of most rows. Moves of which less is new tell no curvature.
_MEMORY = 8
_LONGEST = 2.0
_DEPENDENT = 1e-8
# Where the gradient is smaller than this, another step changes the objective by less than its
# rounding.
_CONFIRMED = 1e-7
_HUGE = 1e3
# A whitened curvature far below one is due to rounding, or to more than the whitening knows.
_LEAST_CURVATURE = 0.05


class Motion(NamedTuple):
    """How φ and the minimiser move with the scale: dφ/ds, whether it was the same the last
    two times, and dθ/ds.
    """

    contraction: float = 0.0
    straight: bool = False
    direction: np.ndarray | None = None

    def mapped(self, mapping):
        """In other coordinates."""
        known = self.direction is not None
        return self._replace(direction=mapping(self.direction)) if known else self


def settle(target, objective, theta, scale, tol, max_iter, motion=None, solve=solve):
    """The solution, its scale and the motion there.

    Starts from θ and a scale above, such as that of least squares.

    φ contracts by .1 a round on usual data but by .6 and more where most rows are fitted
    exactly. The fit at the next s starts where the motion so far points to, since minimisers
    move along straight pieces.
    """
    used, search = 0, _Search(motion or Motion())
    accuracy = max(0.1 * tol, 1e-14)
    inner = accuracy if objective.design.n_elements < _FEW else max(accuracy, 1e-3)
    proposed, dived, doubted = scale, False, False

    def reach(s, theta):
        nonlocal used
        solution = solve(objective, theta, target.threshold(s), inner, max_iter - used)
        used += solution.n_iter
        return solution, target.scale(objective, solution.point)

    for _ in range(_MAX_ROUNDS):
        s = proposed
        solution, found = reach(s, theta)
        theta = solution.point.theta
        settled = _agree(target, objective, theta, s, found, accuracy)
        done = settled and min(inner, solution.point.norm) <= accuracy
        if done and not doubted and used < max_iter:
            doubted = s <= target.floor_bound(objective, theta) < search.upper / _CLEAR
            if doubted:
                above, scale_above = reach(_CLEAR * s, theta)
                if scale_above > _CLEAR * s:
                    proposed, theta = _CLEAR * s, above.point.theta
                    continue
        if done or used >= max_iter:
            break
        gap = abs(found / s - 1.0)
        # A gap no larger than the error of the fit tells nothing of φ.
        if gap > 10 * inner or inner <= accuracy:
            search.observe(s, found, theta, 30 * inner)
            inner = max(accuracy, min(inner, _AHEAD * gap))
        else:
            inner = accuracy if settled else max(accuracy, _AHEAD * min(inner, gap))
        proposed = search.next(s, found, accuracy)
        if proposed < target.floor_bound(objective, theta):
            proposed = max(proposed, target.floor(objective, theta)[1])
        if search.motion.direction is not None:
            theta = theta + (proposed - s) * search.motion.direction
        if proposed < _DIVE * found and not dived and used < max_iter:
            dived = True
            above, scale_above = reach(_DIVE * found, theta)
            if scale_above > _DIVE * found:
                proposed, theta = _DIVE * found, above.point.theta
    if solution.converged and not settled:
        solution = solution._replace(converged=False, message="the scale did not settle")
    return solution._replace(n_iter=used), s, search.motion


def _agree(target, objective, theta, s, found, accuracy):
    """Whether φ(s) = s, or as near as rounding, which moves it by a part of the floor."""
    if abs(found / s - 1.0) <= accuracy:
        return True
    if target.floor_bound(objective, theta) <= accuracy * s:
        return False
    least = target.floor(objective, theta)[1]
    return bool(abs(found - s) <= least / 16 <= s)


class _Search:
    """Secant steps for φ(s) − s, kept inside the bracket once there is one."""

    def __init__(self, motion):
        self.motion, self.lower, self.upper, self._before = motion, 0.0, np.inf, None

    def observe(self, s, found, theta, least):
        """Learn the motion from this point and the last, if further apart than `least`."""
        self.lower, self.upper = (s, self.upper) if found > s else (self.lower, s)
        if self._before is not None and abs(s - self._before[0]) > least * s:
            moved = s - self._before[0]
            contraction = (found - self._before[1]) / moved
            straight = abs(contraction - self.motion.contraction) < 1e-3
            self.motion = Motion(contraction, straight, (theta - self._before[2]) / moved)
        self._before = s, found, theta

    def next(self, s, found, accuracy):
        contraction = self.motion.contraction
        if self.motion.straight and contraction >= 1.0:
            proposed = 0.0 if found < s else 2.0 * s
        elif self.motion.straight:
            proposed = s + (found - s) / (1.0 - contraction)
        else:
            proposed = s + (found - s) / (1.0 - min(contraction, _MAX_CONTRACTION))
            far = 1.0 + max(_STRIDE * abs(found / s - 1.0), _SHORT)
            proposed = min(max(proposed, s / far), s * far)
        if not self.lower < proposed < self.upper:
            proposed = float(np.sqrt(self.lower * self.upper)) if self.lower else proposed
            if self.upper < self.lower * (1 + accuracy):
                self.lower, self.upper = 0.0, np.inf
        return max(proposed, 0.0)


def accelerate(target, objective, theta, scale, tol, max_iter, motion, patience):
    """The solution, its scale, whether it is nearer than the start, and, at a fixed threshold,
    the lowest value of F with its θ; a pass over X a step.

    Where coordinates are whitened at the minimiser, θ − ∇F is nearly a Newton step. Anderson's
    acceleration of it (type II; Walker and Ni, SIAM J. Numer. Anal. 49, 2011) converges as
    conjugate gradients do, but needs neither products with the Hessian nor values of F,
    which drown in rounding. Meanwhile s goes to s + (φ̂ − s)/(1 − contraction), φ̂ the scale
    of the present residuals, the contraction at first that of the sample. A fixed threshold
    is s that stays. Ends where it is slow: where the error is not halved in `patience` passes.

    The step from the point that is near enough is taken as well, unless that is far: it makes
    the coefficients about ten times as exact, which no pass needs to confirm.
    """
    rule, s, spare, errors = target.rule, scale, None, []
    contraction, known = max(motion.contraction, 0.0), None
    secants, best = _Secants(motion.direction), (np.inf, theta)
    while True:
        point = objective.at(theta, target.threshold(s), spare)
        spare = point.residual
        found = target.scale(objective, point, s) if rule else s
        errors.append(max(point.norm, abs(found / s - 1.0) if rule else 0.0))
        converged = errors[-1] <= tol
        if rule is None and point.value < best[0]:
            best = point.value, theta
        before = errors[-1 - patience] if len(errors) > patience else _HUGE
        # A gradient that is no number, or that rows of leverage make huge, is slow as well.
        slow = not errors[-1] < 0.5 * before
        if not converged and (slow or len(errors) > max_iter):
            break
        # Where the fit is much nearer than the scale, φ̂ is φ.
        at_fit = (s, found) if point.norm < 0.1 * errors[-1] else None
        if at_fit and known and s != known[0]:
            contraction = max((found - known[1]) / (s - known[0]), -1.0)
        known = at_fit
        change = (found - s) / (1.0 - min(contraction, _MAX_CONTRACTION)) if rule else 0.0
        change = min(max(change, -0.5 * s), s) if rule else 0.0
        secants.learn(theta, point.gradient, s if rule else 0.0)
        if not converged or errors[-1] <= _CONFIRMED:
            theta = theta + secants.step(0.0 if converged else change)
        if converged:
            break
        s = s + change if rule else s
    used = min(len(errors), max_iter)
    message = "gradient within tol" if converged else "max_iter reached"
    step = _observed_step(point, secants) if converged and len(errors) > 2 else None
    solution = Solution(point._replace(theta=theta), used, converged, message, step)
    return solution, s, errors[-1] < 0.5 * errors[0], best


class _Secants:
    """Moves of θ and what came with them, the changes of (∇F, s).

    `drift` is dθ/ds as far as it is known beforehand.
    """

    def __init__(self, drift):
        self._drift = 0.0 if drift is None else drift
        self._moves: list = []
        self._changes: list = []
        self._last: tuple = ()
        self._length = 1.0

    def learn(self, theta, gradient, s):
        # Both have the unit of y, in which the gradient is as large as s changes by.
        state = np.append(gradient, s)
        if self._last:
            move, change = theta - self._last[0], state - self._last[1]
            size = dnrm2(change)
            if size and not self._moves:
                length = float((move / size) @ (change[:-1] / size))
                self._length = min(max(length, 1.0), _LONGEST)
            if size:
                self._moves = [*self._moves[1 - _MEMORY :], move / size]
                self._changes = [*self._changes[1 - _MEMORY :], change / size]
        self._last = theta, state

    def step(self, change):
        """The step to where ∇F is least once s has changed, if all is linear in the moves so
        far; from there down what is left of ∇F, as far as the first move says.
        """
        left, step = np.append(self._last[1][:-1], -change), 0.0
        if self._moves:
            changes = np.array(self._changes).T
            part = np.linalg.lstsq(changes, left)[0]
            left, step = left - changes @ part, -(part @ self._moves)
        return step - self._length * left[:-1] - self._drift * left[-1]

    def smallest_curvature(self):
        """Among the moves, as Rayleigh and Ritz would find it; 0 where they do not tell."""
        if not self._moves:
            return 0.0
        k = self._last[0].size
        changes, moves = np.array(self._changes[-k - 1 :]).T, np.array(self._moves[-k - 1 :]).T
        # Differences that leave s where it is.
        in_s = changes[-1]
        most = int(np.abs(in_s).argmax())
        if in_s[most]:
            part = in_s / in_s[most]
            moves = np.delete(moves - moves[:, [most]] * part, most, axis=1)
            changes = np.delete(changes - changes[:, [most]] * part, most, axis=1)
        Q, R = np.linalg.qr(moves[:, -k:])
        diagonal = np.abs(np.diagonal(R))
        if not diagonal.min(initial=1.0) > _DEPENDENT * diagonal.max(initial=0.0):
            return 0.0
        A = np.linalg.solve(R.T, changes[:-1, -k:].T @ Q)
        return float(np.linalg.eigvalsh(A + A.T)[0]) / 2 if A.size else 0.0


def _observed_step(point, secants):
    """The next step, and a decrement from the smallest curvature among those seen so far.

    None where the curvatures are not those of a whitened objective.
    """
    smallest = secants.smallest_curvature()
    if not smallest > _LEAST_CURVATURE:
        return None

    def decrement(gradient):
        return 0.5 * float(gradient @ gradient) / smallest

    return Step(-point.gradient, 0, decrement)
