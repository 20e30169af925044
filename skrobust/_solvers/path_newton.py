"""Newton's method along a grid of thresholds, in about one pass over X per threshold.

When the threshold β and the minimiser change little, |r| crosses β for few rows. With the
whitened rows ζ = Mᵀ(1, z), the weights s, S = Σ s, sums over the rows inside (|r| ≤ β) and
outside (|r| > β), and

    H = (1/S) Σ_inside s ζζᵀ    u = (1/S) Σ_inside s ζ r    v = (1/S) Σ_outside s ζ sign(r)

the gradient of the mean Huber loss is −(u + βv). A step δ of the coordinates θ subtracts Hδ
from u. The term of a row that crosses the threshold is removed from H and u and added to v, or
vice versa. Newton's method therefore reads only the rows near the threshold. One pass over X
then computes the gradient and finds any other rows that have crossed the threshold (Madsen and
Nielsen, 1993; Rosset and Zhu, Annals of Statistics 35, 2007).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from .._engines.base import FloatArray
from .._model.linear_loss import Evaluation
from .._model.whitening import Whitened
from .result import NewtonStep, Solution, Status, add_passes
from .scale_fixed_point import Minimiser

# Maximum number k of variables for `PathNewton`. With more variables, computing the k × k
# matrices takes longer than the passes over X that they save.
PATH_MAX_VARIABLES = 2_000
# Threshold for a least-squares fit. It exceeds every residual in the units in which the target
# is fitted, and its square is finite.
LEAST_SQUARES_THRESHOLD = 1e100
# A row is near the threshold if the distance of |r| from the threshold is at most this multiple
# of the norm of the first Newton step. In whitened coordinates and without a penalty, this norm
# is the root mean square change of the residuals.
NEAR_STEP_LENGTHS = 4.0
# Rows near the threshold are copied if they have, in total, at most COPY_MAX_ELEMENTS elements
# or at most the fraction COPY_MAX_FRACTION of the elements of X. Rows that cross the threshold
# are copied in blocks of BLOCK_ELEMENTS elements, which fit in the cache.
COPY_MAX_ELEMENTS = 500_000
COPY_MAX_FRACTION = 0.25
BLOCK_ELEMENTS = 100_000
# Maximum number of Newton steps on the rows near the threshold after each pass over X, and
# maximum number of passes before another minimiser is used.
MAX_NEAR_STEPS = 20
MAX_PASSES = 8


def least_squares(objective: Whitened) -> Evaluation:
    """Return the minimiser of a least-squares objective whose Hessian is the identity.

    The threshold of the objective must exceed every residual.
    """
    start = objective.evaluate(np.zeros(objective.n_variables))
    return objective.evaluate(-start.gradient)


class WarmStarts:
    """A minimiser that starts each minimisation from the previous solution.

    The first minimisation starts from the minimiser of `objective`, a penalised least-squares
    objective.
    """

    def __init__(self, objective: Whitened, minimiser: Minimiser) -> None:
        self.point = least_squares(objective)
        self._minimiser = minimiser

    def __call__(
        self, objective: Whitened, start: object, tol: float, max_iter: int
    ) -> Solution:
        solution = self._minimiser(objective, self.point.theta, tol, max_iter)
        self.point = solution.point
        return solution


class PathNewton:
    """A minimiser that stores the last solution and the sums H, u and v at this solution.

    The first solution is the minimiser of `objective`, a least-squares objective with a
    quadratic penalty. The coordinates of `objective` are whitened over all rows with positive
    weight, so H and the Hessian of the penalty add up to the identity matrix. Later objectives
    may have other multiples of this penalty.
    """

    def __init__(self, objective: Whitened, minimiser: Minimiser) -> None:
        linear = objective.linear
        engine, weight = linear.data.engine, linear.data.weight
        M = objective.whitening.dense_transform()
        self._minimiser = minimiser
        self._engine, self._transform, self._total = engine, M, linear.data.total
        self._positive = None if weight is None else weight > 0
        equal = weight is None or np.ptp(weight[self._positive]) == 0
        self._weight = None if equal else weight
        k = M.shape[1]
        # The side of each row, which is 0 if |r| ≤ β and the sign of r otherwise.
        self._side = np.zeros(engine.n, dtype=np.int8)
        self._u, self._v = np.zeros(k), np.zeros(k)
        penalty, zero = linear.penalty, np.zeros(M.shape[0])
        self._diagonal = None if penalty is None else penalty.hessian_diagonal(zero)
        self._P: FloatArray = np.zeros((k, k))
        if self._diagonal is not None:
            self._P = M.T @ (self._diagonal[:, None] * M)
        self._H = np.eye(k) - self._P
        self._update(objective, least_squares(objective))

    def __call__(
        self, objective: Whitened, start: object, tol: float, max_iter: int
    ) -> Solution:
        origin, best, used = self.point, None, 0
        n_passes = objective.n_passes
        while used < min(MAX_PASSES, max_iter):
            try:
                theta, factor = self._solve_near_rows(objective)
            except LinAlgError:
                break
            used += 1
            point = objective.evaluate(theta)
            self._update(objective, point)
            if point.relative_gradient <= tol:
                step, status = _newton_step(factor), Status.GRADIENT_WITHIN_TOL
                return Solution(point, used, status, step, {"path_newton": used})
            if best is not None and not point.value < best.value:
                break
            best = point
        if best is None or not best.value < objective.evaluate(origin.theta).value:
            best = origin
        passes = {"path_newton": objective.n_passes - n_passes}
        solution = self._minimiser(objective, best.theta, tol, max_iter - used)
        self._update(objective, solution.point)
        add_passes(passes, solution.passes)
        return solution._replace(n_iter=used + solution.n_iter, passes=passes)

    def _penalty_hessian(self, objective: Whitened) -> FloatArray | None:
        """Return Mᵀ∇²P M for the penalty P of an objective, or None if this matrix is zero.

        P is a multiple of the penalty of the first objective.
        """
        penalty = objective.linear.penalty
        if penalty is None or self._diagonal is None:
            return None
        largest = int(self._diagonal.argmax())
        if not self._diagonal[largest] > 0:
            # All features are constant.
            return None
        factor = penalty.hessian_diagonal(np.zeros(self._transform.shape[0]))[largest]
        hessian: FloatArray = factor / self._diagonal[largest] * self._P
        return hessian

    def _update(self, objective: Whitened, point: Evaluation) -> None:
        """Set the sums H, u and v to their values at an evaluated point."""
        self.point = point
        side = _sign_outside(point.residual, objective.threshold)
        for rows in self._blocks(self._with_weight(side != self._side)):
            # The residuals are replaced by zeros: only u depends on them, and u is computed
            # from the gradient below.
            self._move_rows(rows, self._engine.rows(rows), np.zeros(rows.size), side[rows])
        self._side = side
        self._u = -point.gradient - objective.threshold * self._v
        P = self._penalty_hessian(objective)
        if P is not None:
            self._u += P @ point.theta

    def _solve_near_rows(self, objective: Whitened) -> tuple[FloatArray, Any]:
        """Return the coordinates reached by Newton's method on the rows near the threshold.

        The coordinates are those of the minimiser if only rows near the threshold cross it. A
        Cholesky factor of the last Hessian is also returned.
        """
        beta, theta, P = objective.threshold, self.point.theta, self._penalty_hessian(objective)
        step, factor = self._newton(theta, beta, P)
        reach = NEAR_STEP_LENGTHS * float(np.sqrt(step @ step))
        size = np.abs(self.point.residual)
        near = (size < beta + reach) | (self._side == 0)
        rows = self._with_weight(near & (size > beta - reach))
        limit = max(COPY_MAX_ELEMENTS, COPY_MAX_FRACTION * self._engine.n_elements)
        if rows.size * (self._engine.p + 1) > limit:
            return theta + step, factor
        Z, r = self._engine.rows(rows), self.point.residual[rows]
        for k in range(MAX_NEAR_STEPS):
            side = _sign_outside(r, beta)
            changed = np.flatnonzero(side != self._side[rows])
            if changed.size:
                for part in self._blocks(changed):
                    self._move_rows(rows[part], Z[part], r[part], side[part])
                step, factor = self._newton(theta, beta, P)
            elif k:
                break
            theta = theta + step
            r -= Z @ (self._transform @ step)
            self._u -= self._H @ step
        return theta, factor

    def _newton(
        self, theta: FloatArray, beta: float, P: FloatArray | None
    ) -> tuple[FloatArray, Any]:
        """Return the Newton step for the current H, u and v, and a Cholesky factor of H + P.

        P is the Hessian of the penalty, or None if it is zero.
        """
        descent, H = self._u + beta * self._v, self._H
        if P is not None:
            descent, H = descent - P @ theta, H + P
        factor = cho_factor(H, check_finite=False)
        step: FloatArray = cho_solve(factor, descent, check_finite=False)
        return step, factor

    def _move_rows(
        self, rows: NDArray[np.intp], Z: FloatArray, r: FloatArray, side: NDArray[np.int8]
    ) -> None:
        """Update H, u and v for rows whose side changes to the given one (see `_side`).

        `Z` contains the standardised rows [1, z], and `r` their residuals.
        """
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

    def _blocks(self, rows: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
        size = max(1, BLOCK_ELEMENTS // (self._engine.p + 1))
        return (rows[i : i + size] for i in range(0, rows.size, size))

    def _with_weight(self, mask: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Return the indices of the rows in a mask that have a positive weight."""
        return np.flatnonzero(mask if self._positive is None else mask & self._positive)


def _sign_outside(r: FloatArray, beta: float) -> NDArray[np.int8]:
    """Return, for each row, 0 if |r| ≤ β and the sign of the residual r otherwise."""
    side: NDArray[np.int8] = (r > beta).astype(np.int8) - (r < -beta)
    return side


def _newton_step(factor: Any) -> NewtonStep:
    """Return a NewtonStep of length zero, since `suboptimality` uses only the decrement."""

    def decrement(gradient: FloatArray) -> float:
        return 0.5 * float(gradient @ cho_solve(factor, gradient, check_finite=False))

    return NewtonStep(np.zeros(factor[0].shape[0]), 1, decrement)
