"""The fixed point s = φ(s) of the scale.

φ(s) is the scale of the residuals of the fit with the threshold β·s. `scale_fixed_point`
alternates between a fit at a scale s and a safeguarded secant step for s. The search descends
from the scale of the least-squares residuals and ends at the first fixed point that it finds.
For nearly all datasets, there is only one fixed point. If there are several, a step may skip
the largest one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .._engines.base import FloatArray
from .._model.scale import ScaleEstimator, rounding_floor, rounding_floor_bound
from .._model.whitening import Whitened
from .result import Solution, Status, add_passes

Minimiser = Callable[[Whitened, FloatArray, float, int], Solution]

# Maximum number of rounds; in each round the model is fitted at one scale.
MAX_ROUNDS = 60
# Maximum contraction used in a secant step. A secant step divides or multiplies s by at most
# 1 + max(SECANT_MAX_STRIDE |φ(s)/s − 1|, SECANT_MIN_REACH). A longer step could skip the fixed
# point to which the iteration s ← φ(s) would converge.
MAX_CONTRACTION = 0.98
SECANT_MAX_STRIDE, SECANT_MIN_REACH = 4.0, 0.1
# The rounding floor, the smallest scale that is not due to rounding errors, is a fixed point of
# φ. A secant step to this floor may skip a larger fixed point. Therefore, φ is evaluated at
# PROBE_FRACTION times φ(s) before a step to the floor, and at FLOOR_CLEARANCE times the new
# scale after the step.
PROBE_FRACTION, FLOOR_CLEARANCE = 1e-3, 1e4
# The fit in a round takes at most max(ROUND_MIN_ITER, max_iter / MIN_ROUNDS) iterations. If it
# reaches this limit, the next scale is the scale of its residuals, because the fixed point may
# be at a much smaller scale.
ROUND_MIN_ITER, MIN_ROUNDS = 100, 4
# Tolerance of the next fit, as a fraction of the relative gap |φ(s)/s − 1|.
FIT_PER_SCALE_ACCURACY = 0.03
# If X has fewer than EXACT_INNER_MAX_ELEMENTS elements, every fit uses the final tolerance,
# since a rough fit would save only the last Newton step. Otherwise the tolerance of the first
# fit is ROUGH_INNER_TOL.
EXACT_INNER_MAX_ELEMENTS = 100_000
ROUGH_INNER_TOL = 1e-3
# If the contraction changes by less than this value between two steps, φ is regarded as affine.
AFFINE_CONTRACTION_ATOL = 1e-3


class Sensitivity(NamedTuple):
    """Derivatives of φ and of the minimiser with respect to the scale s.

    `contraction` is dφ/ds, `is_affine` is True if the last two values of dφ/ds are nearly
    equal, and `dtheta_ds` is the derivative of the minimiser, or None if it is unknown.
    """

    contraction: float = 0.0
    is_affine: bool = False
    dtheta_ds: FloatArray | None = None

    def transformed(self, to_coordinates: Callable[[FloatArray], FloatArray]) -> Sensitivity:
        """Return the sensitivity with `dtheta_ds` expressed in other coordinates."""
        if self.dtheta_ds is None:
            return self
        return self._replace(dtheta_ds=to_coordinates(self.dtheta_ds))


def scale_fixed_point(
    estimator: ScaleEstimator,
    objective: Whitened,
    minimiser: Minimiser,
    theta: FloatArray,
    scale: float,
    tol: float,
    max_iter: int,
    sensitivity: Sensitivity | None = None,
) -> tuple[Solution, float, Sensitivity]:
    """Return the solution at the fixed point of the scale, the scale, and the sensitivity.

    The search starts from `theta` and from a scale above the fixed point, such as the scale of
    the least-squares residuals.

    For typical data, each round (a fit at one scale) multiplies the distance between the scale
    and the fixed point by 0.1. If most rows are fitted exactly, the factor is 0.6 or more. The
    fit at the next scale starts from a linear extrapolation of the minimiser, which is a
    piecewise linear function of the scale.
    """
    used, search = 0, _SafeguardedSecant(sensitivity or Sensitivity())
    accuracy = max(0.1 * tol, 1e-14)
    exact = objective.engine.n_elements < EXACT_INNER_MAX_ELEMENTS
    inner = accuracy if exact else max(accuracy, ROUGH_INNER_TOL)
    proposed, probed_below, checked_above = scale, False, False
    passes: dict[str, int] = {}

    def evaluate(s: float, theta: FloatArray) -> tuple[Solution, float]:
        nonlocal used
        at_scale = objective.at_threshold(estimator.threshold(s))
        limit = max(ROUND_MIN_ITER, max_iter // MIN_ROUNDS)
        solution = minimiser(at_scale, theta, inner, min(limit, max_iter - used))
        used += solution.n_iter
        add_passes(passes, solution.passes)
        return solution, estimator.scale(objective, solution.point)

    for _ in range(MAX_ROUNDS):
        s = proposed
        solution, phi = evaluate(s, theta)
        theta = solution.point.theta
        agrees = _is_fixed_point(objective, theta, s, phi, accuracy)
        done = agrees and min(inner, solution.point.relative_gradient) <= accuracy
        if done and not checked_above and used < max_iter:
            floor_bound = rounding_floor_bound(objective, theta)
            checked_above = s <= floor_bound < search.upper / FLOOR_CLEARANCE
            if checked_above:
                above, phi_above = evaluate(FLOOR_CLEARANCE * s, theta)
                if phi_above > FLOOR_CLEARANCE * s:
                    proposed, theta = FLOOR_CLEARANCE * s, above.point.theta
                    continue
        if done or used >= max_iter:
            break
        gap = abs(phi / s - 1.0)
        finished = solution.status is not Status.MAX_ITER
        # If the gap is as small as the error of the fit, it does not determine the contraction,
        # and the next fit uses a smaller tolerance.
        if not finished:
            proposed = phi
        elif gap > 10 * inner or inner <= accuracy:
            search.update(s, phi, theta, 30 * inner)
            inner = max(accuracy, min(inner, FIT_PER_SCALE_ACCURACY * gap))
        else:
            finer = FIT_PER_SCALE_ACCURACY * min(inner, gap)
            inner = accuracy if agrees else max(accuracy, finer)
        if finished:
            proposed = search.propose(s, phi, accuracy)
        if proposed < rounding_floor_bound(objective, theta):
            proposed = max(proposed, rounding_floor(objective, theta)[1])
        extrapolates = finished and objective.linear.is_piecewise_quadratic
        if extrapolates and search.sensitivity.dtheta_ds is not None:
            theta = theta + (proposed - s) * search.sensitivity.dtheta_ds
        if proposed < PROBE_FRACTION * phi and not probed_below and used < max_iter:
            probed_below = True
            above, phi_above = evaluate(PROBE_FRACTION * phi, theta)
            if phi_above > PROBE_FRACTION * phi:
                proposed, theta = PROBE_FRACTION * phi, above.point.theta
    if solution.converged and not agrees:
        solution = solution._replace(status=Status.SCALE_NOT_CONVERGED)
    return solution._replace(n_iter=used, passes=passes), s, search.sensitivity


def _is_fixed_point(
    objective: Whitened, theta: FloatArray, s: float, phi: float, accuracy: float
) -> bool:
    """Return whether φ(s) = s to within the relative error `accuracy` or rounding errors."""
    if abs(phi / s - 1.0) <= accuracy:
        return True
    if rounding_floor_bound(objective, theta) <= accuracy * s:
        return False
    floor = rounding_floor(objective, theta)[1]
    return bool(abs(phi - s) <= floor / 16 <= s)


class _SafeguardedSecant:
    """Secant steps for φ(s) − s = 0, within a bracket of the root if one is known."""

    def __init__(self, sensitivity: Sensitivity) -> None:
        self.sensitivity, self.lower, self.upper = sensitivity, 0.0, np.inf
        self._last: tuple[float, float, FloatArray] | None = None

    def update(self, s: float, phi: float, theta: FloatArray, min_distance: float) -> None:
        """Update the bracket and the sensitivity from φ and the minimiser θ at the scale s.

        The sensitivity is updated only if s differs from the previous scale by more than
        `min_distance`, relative to s.
        """
        self.lower, self.upper = (s, self.upper) if phi > s else (self.lower, s)
        if self._last is not None and abs(s - self._last[0]) > min_distance * s:
            last_s, last_phi, last_theta = self._last
            ds = s - last_s
            contraction = (phi - last_phi) / ds
            change = abs(contraction - self.sensitivity.contraction)
            affine = change < AFFINE_CONTRACTION_ATOL
            self.sensitivity = Sensitivity(contraction, affine, (theta - last_theta) / ds)
        self._last = s, phi, theta

    def propose(self, s: float, phi: float, accuracy: float) -> float:
        """Return the next scale at which φ is evaluated."""
        contraction = self.sensitivity.contraction
        if self.sensitivity.is_affine and contraction >= 1.0:
            proposed = 0.0 if phi < s else 2.0 * s
        elif self.sensitivity.is_affine:
            proposed = s + (phi - s) / (1.0 - contraction)
        else:
            proposed = s + (phi - s) / (1.0 - min(contraction, MAX_CONTRACTION))
            reach = 1.0 + max(SECANT_MAX_STRIDE * abs(phi / s - 1.0), SECANT_MIN_REACH)
            proposed = min(max(proposed, s / reach), s * reach)
        if not self.lower < proposed < self.upper:
            proposed = float(np.sqrt(self.lower * self.upper)) if self.lower else proposed
            if self.upper < self.lower * (1 + accuracy):
                self.lower, self.upper = 0.0, np.inf
        return max(proposed, 0.0)
