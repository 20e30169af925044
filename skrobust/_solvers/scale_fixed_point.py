"""The fixed point s = φ(s) of the scale, where φ(s) is the scale of the residuals at β·s.

`scale_fixed_point` alternates between fit and scale with safeguarded secant steps. It descends
from the scale of the least-squares residuals and ends at the first fixed point that it finds.
Nearly all data have a single fixed point; if there are several, a step may pass one.
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

# Maximum number of rounds, each of which fits at one scale.
MAX_ROUNDS = 60
# The largest contraction that is extrapolated, and the longest secant step relative to the gap
# and to the scale: a longer step could pass the fixed point that the plain iteration from above
# reaches first.
MAX_CONTRACTION = 0.98
SECANT_MAX_STRIDE, SECANT_MIN_REACH = 4.0, 0.1
# A secant step to the rounding floor, which is a fixed point, may pass the first fixed point.
# φ is therefore evaluated at this fraction of φ(s) before such a step, and at this multiple of
# the floor after it.
PROBE_FRACTION, FLOOR_CLEARANCE = 1e-3, 1e4
# A fit ends if its iterations exceed both ROUND_MIN_ITER and max_iter / MIN_ROUNDS. The next
# scale is then that of its residuals, because the fixed point may be at a far smaller scale.
ROUND_MIN_ITER, MIN_ROUNDS = 100, 4
# Error of a fit relative to the error of its scale.
FIT_PER_SCALE_ACCURACY = 0.03
# With fewer elements than this, every fit is exact, since Newton's last step costs as much as a
# rough fit.
EXACT_INNER_MAX_ELEMENTS = 100_000
ROUGH_INNER_TOL = 1e-3
# A contraction that changed by less than this is regarded as constant: φ is affine there.
AFFINE_CONTRACTION_ATOL = 1e-3


class Sensitivity(NamedTuple):
    """Derivatives of φ and of the minimiser with respect to the scale.

    `contraction` is dφ/ds, `is_affine` tells whether its last two values are equal, and
    `dtheta_ds` is the derivative of the minimiser.
    """

    contraction: float = 0.0
    is_affine: bool = False
    dtheta_ds: FloatArray | None = None

    def transformed(self, to_coordinates: Callable[[FloatArray], FloatArray]) -> Sensitivity:
        """Return the same in other coordinates."""
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
    """Return the solution, its scale and the sensitivity there.

    The search starts from θ and a scale above the fixed point, such as that of least squares.

    Each round multiplies the distance from the fixed point by 0.1 on typical data, and by 0.6
    or more if most rows are fitted exactly. The fit at the next scale starts from the minimiser
    that is extrapolated with the sensitivity, since minimisers are piecewise linear in the
    scale.
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
        # A gap within the error of the fit contains no information about φ.
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
    """Tell whether φ(s) = s to the given accuracy, or as nearly as rounding allows."""
    if abs(phi / s - 1.0) <= accuracy:
        return True
    if rounding_floor_bound(objective, theta) <= accuracy * s:
        return False
    floor = rounding_floor(objective, theta)[1]
    return bool(abs(phi - s) <= floor / 16 <= s)


class _SafeguardedSecant:
    """Secant steps for φ(s) − s, which stay inside the bracket if there is one."""

    def __init__(self, sensitivity: Sensitivity) -> None:
        self.sensitivity, self.lower, self.upper = sensitivity, 0.0, np.inf
        self._last: tuple[float, float, FloatArray] | None = None

    def update(self, s: float, phi: float, theta: FloatArray, min_distance: float) -> None:
        """Update the sensitivity from this point and the last, if they are far enough apart."""
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
        """Return the scale to try next."""
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
