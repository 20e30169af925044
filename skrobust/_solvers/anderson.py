"""Anderson acceleration for tall data: each pass over X updates coefficients and scale.

If the coordinates θ are whitened at the minimiser of the objective F, −∇F is nearly a Newton
step. Anderson acceleration of the iteration θ ← θ − ∇F (type II; Walker and Ni, SIAM J. Numer.
Anal. 49, 2011) converges as fast as conjugate gradients, but requires neither Hessian-vector
products nor differences of values of F, which are dominated by rounding errors near the
minimiser. It requires a starting point near the minimiser, such as the coefficients of a fit to
a sample of rows, and ends early if started elsewhere.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg.blas import dnrm2

from .._engines.base import FloatArray
from .._model.linear_loss import Evaluation
from .._model.scale import ScaleEstimator
from .._model.whitening import Whitened
from .result import NewtonStep, Solution, Status
from .scale_fixed_point import MAX_CONTRACTION, Sensitivity

# Maximum number of stored moves of θ, and maximum length of a gradient step as a multiple of
# −∇F. Longer steps are not useful, since curvatures below 1/2 are due to only a few rows. The
# smallest curvature is estimated only if the component of each move orthogonal to the earlier
# moves is larger than MIN_INDEPENDENT_PART times the largest of these components.
MEMORY_MOVES = 8
MAX_GRADIENT_STEP = 2.0
MIN_INDEPENDENT_PART = 1e-8
# The error is the maximum of the relative gradient and |φ̂/s − 1|, where φ̂ is the scale of the
# residuals. If the error is at most FREE_STEP_TOL, another step changes the objective by less
# than its rounding error.
FREE_STEP_TOL = 1e-7
# A curvature below this value, in whitened coordinates, is attributed to rounding errors or
# inaccurate whitening.
MIN_CURVATURE = 0.05
# If the relative gradient is below this fraction of the error, the coefficients are regarded as
# much more accurate than the scale.
MAX_FIT_ERROR_RATIO = 0.1
# In the first `patience` passes, the acceleration ends if the error is at least half of this
# value.
MAX_ERROR = 1e3


class Acceleration(NamedTuple):
    """The result of Anderson acceleration, converged or not.

    `improved` is True if the last error is less than half the first error. With a fixed
    threshold, `lowest_value` is the smallest value of F at any evaluated point, and
    `lowest_theta` is that point.
    """

    solution: Solution
    scale: float
    improved: bool
    lowest_value: float
    lowest_theta: FloatArray


def anderson(
    estimator: ScaleEstimator | None,
    objective: Whitened,
    theta: FloatArray,
    scale: float,
    tol: float,
    max_iter: int,
    sensitivity: Sensitivity,
    patience: int,
) -> Acceleration:
    """Update coefficients and scale together, in one pass over X per step, until both converge.

    The scale s is updated to s + (φ̂ − s)/(1 − contraction), where φ̂ is the scale of the
    current residuals. The contraction dφ/ds is first taken from `sensitivity` and later
    estimated from two consecutive steps. With a fixed threshold, `estimator` is None, and s
    does not change. The acceleration ends without convergence if the error is not halved within
    `patience` passes.

    After convergence, the coefficients are updated once more if the error is at most
    FREE_STEP_TOL. This update makes them about ten times as accurate, but no further pass
    verifies the accuracy.
    """
    s, out, errors, n_passes = scale, None, [], objective.n_passes
    contraction, last_fit = max(sensitivity.contraction, 0.0), None
    memory = AndersonMemory(sensitivity.dtheta_ds)
    lowest_value, lowest_theta = np.inf, theta
    while True:
        if estimator is not None:
            objective = objective.at_threshold(estimator.threshold(s))
        point = objective.evaluate(theta, out)
        out = point.residual
        phi = estimator.scale(objective, point, s) if estimator is not None else s
        gap = abs(phi / s - 1.0) if estimator is not None else 0.0
        errors.append(max(point.relative_gradient, gap))
        converged = errors[-1] <= tol
        if estimator is None and point.value < lowest_value:
            lowest_value, lowest_theta = point.value, theta
        reference = errors[-1 - patience] if len(errors) > patience else MAX_ERROR
        # The comparison is negated so that an error of NaN also counts as slow convergence.
        slow = not errors[-1] < 0.5 * reference
        if not converged and (slow or len(errors) > max_iter):
            break
        # If the coefficients are much more accurate than the scale, φ̂ is close to φ(s), the
        # scale of the residuals at the minimiser for s.
        near = point.relative_gradient < MAX_FIT_ERROR_RATIO * errors[-1]
        fit = (s, phi) if near and estimator is not None else None
        if fit and last_fit and s != last_fit[0]:
            contraction = max((phi - last_fit[1]) / (s - last_fit[0]), -1.0)
        last_fit = fit
        ds = 0.0
        if estimator is not None:
            ds = (phi - s) / (1.0 - min(contraction, MAX_CONTRACTION))
            ds = min(max(ds, -0.5 * s), s)
        memory.update(theta, point.gradient, s if estimator is not None else 0.0)
        if not converged or errors[-1] <= FREE_STEP_TOL:
            theta = theta + memory.step(0.0 if converged else ds)
        if converged:
            break
        s = s + ds
    n_iter = min(len(errors), max_iter)
    status = Status.GRADIENT_WITHIN_TOL if converged else Status.MAX_ITER
    step = _observed_step(point, memory) if converged and len(errors) > 2 else None
    passes = {"anderson": objective.n_passes - n_passes}
    solution = Solution(point._replace(theta=theta), n_iter, status, step, passes)
    improved = errors[-1] < 0.5 * errors[0]
    return Acceleration(solution, s, improved, lowest_value, lowest_theta)


class AndersonMemory:
    """The last moves of θ, and the change of (∇F, s) along each move.

    `dtheta_ds` is an estimate of the derivative of the minimiser with respect to s.
    """

    def __init__(self, dtheta_ds: FloatArray | None) -> None:
        self._dtheta_ds: FloatArray | float = 0.0 if dtheta_ds is None else dtheta_ds
        self._moves: list[FloatArray] = []
        self._changes: list[FloatArray] = []
        self._theta: FloatArray | None = None
        self._state = np.zeros(0)
        self._gradient_step = 1.0

    def update(self, theta: FloatArray, gradient: FloatArray, s: float) -> None:
        """Store the move from the previous point to `theta`."""
        # The gradient and s can be stacked without rescaling: both are in units of y, and their
        # changes are of the same order of magnitude.
        state = np.append(gradient, s)
        if self._theta is not None:
            move, change = theta - self._theta, state - self._state
            size = dnrm2(change)
            if size and not self._moves:
                length = float((move / size) @ (change[:-1] / size))
                self._gradient_step = min(max(length, 1.0), MAX_GRADIENT_STEP)
            if size:
                self._moves = [*self._moves[1 - MEMORY_MOVES :], move / size]
                self._changes = [*self._changes[1 - MEMORY_MOVES :], change / size]
        self._theta, self._state = theta, state

    def step(self, ds: float) -> FloatArray:
        """Return the step of θ that minimises the norm of ∇F after a change of s by `ds`.

        ∇F is modelled as a linear function on the span of the previous moves. The part of ∇F
        that no combination of these moves can reduce is reduced by a gradient step whose length
        was determined from the first move.
        """
        remaining, step = np.append(self._state[:-1], -ds), np.zeros(self._state.size - 1)
        if self._moves:
            changes = np.array(self._changes).T
            part = np.linalg.lstsq(changes, remaining)[0]
            remaining, step = remaining - changes @ part, -(part @ self._moves)
        step = step - self._gradient_step * remaining[:-1]
        result: FloatArray = step - self._dtheta_ds * remaining[-1]
        return result

    def smallest_curvature(self) -> float:
        """Return a Rayleigh–Ritz estimate of the smallest curvature of F along the moves.

        The result is 0 if the moves do not determine the curvature.
        """
        if not self._moves or self._theta is None:
            return 0.0
        k = self._theta.size
        changes, moves = np.array(self._changes[-k - 1 :]).T, np.array(self._moves[-k - 1 :]).T
        # A multiple of one move is subtracted from each of the others, so that the differences
        # leave s unchanged.
        in_s = changes[-1]
        largest = int(np.abs(in_s).argmax())
        if in_s[largest]:
            part = in_s / in_s[largest]
            moves = np.delete(moves - moves[:, [largest]] * part, largest, axis=1)
            changes = np.delete(changes - changes[:, [largest]] * part, largest, axis=1)
        Q, R = np.linalg.qr(moves[:, -k:])
        diagonal = np.abs(np.diagonal(R))
        if not diagonal.min(initial=1.0) > MIN_INDEPENDENT_PART * diagonal.max(initial=0.0):
            return 0.0
        A = np.linalg.solve(R.T, changes[:-1, -k:].T @ Q)
        return float(np.linalg.eigvalsh(A + A.T)[0]) / 2 if A.size else 0.0


def _observed_step(point: Evaluation, memory: AndersonMemory) -> NewtonStep | None:
    """Return the step −∇F, with a decrement computed from the smallest curvature.

    The result is None if the smallest curvature along the stored moves does not exceed
    MIN_CURVATURE.
    """
    smallest = memory.smallest_curvature()
    if not smallest > MIN_CURVATURE:
        return None

    def decrement(gradient: FloatArray) -> float:
        return 0.5 * float(gradient @ gradient) / smallest

    return NewtonStep(-point.gradient, 0, decrement)
