"""Proximal Newton method on a working set of features, for a penalty with an L1 part or bounds.

The working set contains the features with nonzero coefficients and the features that violate
the optimality conditions most. Each outer iteration has three steps:

1. Newton steps minimise the objective over the coefficients of the working set
   (`proximal_newton`). The Hessian is updated for the rows that cross the threshold.
2. A pass over X computes the violation of the optimality conditions for all features, and the
   duality gap.
3. The features that violate the optimality conditions most join the working set.

If the gradient of the loss at the start is much larger than the slopes of the L1 penalty, the
model is first fitted with a larger penalty, to keep the working set small. This penalty is then
halved until it is near the given penalty. If few rows have |r| at most the threshold β, the
minimisation starts with a larger threshold, which is lowered to β in steps (Madsen and Nielsen,
"A finite smoothing algorithm for linear l1 estimation", SIAM J. Optim. 3, 1993) until the
minimiser is next to a vertex (`working_vertex`).

References: Lee, Sun and Saunders, "Proximal Newton-type methods for minimizing composite
functions", SIAM J. Optim. 24, 2014; Massias, Gramfort and Salmon, "Celer: a fast solver for the
lasso with dual extrapolation", ICML 2018.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._engines.base import FloatArray
from .._model.duality import ROUNDING_OF_PSI, elastic_net_gap
from .._model.linear_loss import Evaluation
from .._model.penalty import ElasticNet
from .._model.scale import rounding_floor_bound
from .._model.whitening import Whitened
from .._reductions import kth
from .lad_simplex import L1Vertex
from .proximal_newton import proximal_newton
from .result import Solution, Status
from .working_columns import LastPoint, WorkingColumns
from .working_vertex import psi_at_vertex, vertex_near

# At most max(a, b·k) features join the working set at a time, where k is the number of nonzero
# coefficients, and (a, b) is FIRST in the first outer iteration and LATER in all later ones.
# LATER is smaller because, with more features than rows, Newton steps on a large working set
# take longer than additional passes over X.
FIRST, LATER = (50, 1.0), (10, 0.25)
# Tolerance for preliminary minimisations on the working set.
ROUGH_TOL = 1e-2
# Along a grid, features may join the working set before the first pass over X. If, at the end
# of the previous fit, the gradient for any feature outside the working set exceeded
# NEAR_PENALTY times the slope of its L1 penalty, the features whose gradient exceeded
# JOINING_PENALTY times this slope join.
NEAR_PENALTY, JOINING_PENALTY = 0.9, 0.8
# The penalty is multiplied by PENALTY_FACTOR while it is larger than twice the given penalty
# and larger than MIN_PENALTY_FRACTION times the first penalty.
PENALTY_FACTOR, MIN_PENALTY_FRACTION = 0.5, 1e-6
# The threshold β is lowered in steps if fewer than ROWS_PER_VARIABLE rows per nonzero
# coefficient have |r| ≤ β. Each step multiplies the threshold by THRESHOLD_FACTOR.
ROWS_PER_VARIABLE, THRESHOLD_FACTOR = 5, 0.2
# Smallest tolerance for the optimality conditions on the working set, and largest relative
# violation and duality gap that are attributed to rounding errors.
MIN_ACCURACY, ROUNDING_RTOL = 1e-15, 1e-13
# A small penalty requires a smaller tolerance for the optimality conditions. The tolerance is
# multiplied by the ratio of the smallest slope of the penalty to the root mean square of ψ, but
# by no less than this value.
MIN_PENALTY_SHARE = 1e-3
# Maximum number of Newton steps in a minimisation over the intercept alone.
INTERCEPT_STEPS = 50
# Largest relative increase of the objective in a Newton step that rounding errors may cause.
VALUE_RTOL = 1e-12


class WorkingSet:
    """A minimiser for an `ElasticNet` penalty, in scaled coordinates.

    The columns of the working set and their Hessian are stored for the next call.
    """

    def __init__(self) -> None:
        self._columns: WorkingColumns | None = None

    def __call__(
        self, objective: Whitened, start: FloatArray, tol: float, max_iter: int
    ) -> Solution:
        if self._columns is None:
            self._columns = WorkingColumns(objective.linear.data)
        n_passes = objective.n_passes
        descent = _Descent(objective, start, self._columns)
        status = descent.minimise(tol, max_iter)
        if status.converged:
            descent.shorten_unpenalised()
            descent.save()
        else:
            descent.restore_lowest()
            self._columns.last = None
        passes = {"working_set": objective.n_passes - n_passes}
        # `descent.n_iter` may exceed `max_iter`, since a first pass over X is necessary even if
        # no iteration is left.
        return Solution(descent.point, min(descent.n_iter, max_iter), status, None, passes)


class _Descent:
    """The coefficients, the residuals and the working set of one fit."""

    def __init__(self, objective: Whitened, start: FloatArray, columns: WorkingColumns) -> None:
        self.objective, linear = objective, objective.linear
        penalty = linear.penalty
        assert isinstance(penalty, ElasticNet)
        self.penalty, self.columns, self.beta = penalty, columns, objective.threshold
        data = linear.data
        self.first = 0 if data.fit_intercept else 1
        self.usable = np.concatenate([[False], np.isfinite(data.engine.scale)])
        coef = objective.coef(start)
        self.coef = np.where(self.usable, np.maximum(coef, penalty.lower), 0.0)
        self.coef[0] = coef[0] if data.fit_intercept else 0.0
        self.n_iter, self.use_all_rows = 0, False
        self.vertex: L1Vertex | None = None
        # The evaluated point with the smallest value of the objective.
        self.lowest: Evaluation | None = None
        free = self.usable & (penalty.slope == 0)
        columns.add(np.flatnonzero(free | (self.usable & (self.coef != 0))))
        # Whether `loss_gradient` is the gradient at the current coefficients and threshold.
        self.is_evaluated = False
        last = columns.last
        if last is None or not np.array_equal(self.coef, last.coef):
            self._compute_residual()
            return
        self.residual, self.loss_gradient = last.residual, last.gradient
        self.is_evaluated = last.threshold == self.beta

    def save(self) -> None:
        """Store the point for the next fit, with a copy of the residuals."""
        residual, gradient = self.point.residual.copy(), self.loss_gradient
        last = LastPoint(self.coef, self.beta, residual, gradient)
        # At a vertex, the gradient is computed from the multipliers, not from the residuals, so
        # the next fit cannot use it.
        self.columns.last = last if self.vertex is None else None

    def minimise(self, tol: float, max_iter: int) -> Status:
        accuracy = self._start(tol, max_iter)
        limit = FIRST
        while True:
            scale = self.point.psi_rms
            bad = np.abs(self.full_gradient)
            worst = float(bad.max(initial=0.0))
            # With a small threshold, rounding errors of the residuals may cause a violation of
            # the optimality conditions that exceeds the tolerance.
            rounding = rounding_floor_bound(self.objective, self.point.theta)
            if worst <= max(tol * scale, rounding):
                if self._gap_is_small(tol):
                    if worst <= tol * scale:
                        return Status.GRADIENT_WITHIN_TOL
                    return Status.GRADIENT_WITHIN_ROUNDING
                accuracy = max(0.01 * accuracy, MIN_ACCURACY)
            if self._is_exact_fit():
                return Status.OBJECTIVE_WITHIN_ROUNDING
            if self.n_iter >= max_iter:
                return Status.MAX_ITER
            n_features = self.columns.index.size
            before = self.point.value, worst, n_features
            self._extend(bad, tol * scale, limit)
            self._solve(self.penalty, accuracy, max_iter)
            self._evaluate()
            limit = LATER
            worst = float(np.abs(self.full_gradient).max(initial=0.0))
            stalled = self.point.value >= before[0] and worst >= before[1]
            if stalled and self.columns.index.size == before[2] and accuracy <= MIN_ACCURACY:
                rtol = max(tol, ROUNDING_RTOL)
                within = worst <= rtol * self.point.psi_rms and self._gap_is_small(rtol)
                return Status.GRADIENT_WITHIN_ROUNDING if within else Status.STALLED
            if stalled:
                self.use_all_rows = True
                accuracy = max(0.01 * accuracy, MIN_ACCURACY)

    def _start(self, tol: float, max_iter: int) -> float:
        """Minimise on the first working set; return the tolerance for later minimisations."""
        last, penalty = self.columns.last, self.penalty
        if last is not None and self.coef[1:].any():
            # A feature whose gradient was near the slope of its penalty will probably join the
            # working set. Other features join at the same time, since adding many features at
            # once takes less time than adding them one by one.
            size, outside = penalty.limited_part(-last.gradient), self._outside()
            if (size > NEAR_PENALTY * penalty.slope)[outside].any():
                self._extend(size - JOINING_PENALTY * penalty.slope, 0.0, FIRST)
            accuracy = self._accuracy(tol)
            self._solve(penalty, accuracy, max_iter)
            self._evaluate()
            return accuracy
        if not self.coef[1:].any():
            # The fit starts from the intercept-only model, so that no iterate has a larger
            # objective than this model.
            self._exact_intercept()
        # The intercept and the unpenalised coefficients are fitted first, since the gradients
        # for the other features depend on them.
        self._solve(penalty, ROUGH_TOL, max_iter)
        self._evaluate()
        self._lower_penalty(max_iter)
        return self._accuracy(tol)

    def shorten_unpenalised(self) -> None:
        """Minimise the norm of the unpenalised coefficients without changing the residuals.

        The coefficients are changed only if the unpenalised features are linearly dependent.
        """
        index = self.columns.index
        free = np.flatnonzero(self.penalty.unpenalised(self.usable[1:])[1][index])
        if not free.size:
            return
        Z, features = self.columns.Z[free].T, index[free]
        shortest, _, rank, _ = np.linalg.lstsq(Z, Z @ self.coef[features])
        if rank < free.size:
            self.coef[features] = shortest
            self.point = self.objective.evaluate(self.coef[self.first :])

    def restore_lowest(self) -> None:
        """Set the point to the candidate with the smallest value of the objective.

        The candidates are the evaluated points and the intercept-only model.
        """
        assert self.lowest is not None
        linear = self.objective.linear
        self.coef, self.vertex = np.zeros_like(self.coef), None
        self.residual = linear.data.y
        self._exact_intercept()
        value = float(self.columns.s @ linear.loss.rho(self.residual, self.beta))
        if value < self.lowest.value:
            self.point = self.objective.evaluate(self.coef[self.first :])
        else:
            self.point = self.lowest

    def _lower_penalty(self, max_iter: int) -> None:
        """Minimise with a larger penalty, and halve it until it is near the given penalty."""
        slope = self.penalty.slope
        penalised = self.usable & (slope > 0) & (self.coef == 0)
        size = self.penalty.limited_part(-self.loss_gradient)[penalised] / slope[penalised]
        factor = PENALTY_FACTOR * float(size.max(initial=0.0))
        least = max(1.0 / PENALTY_FACTOR, MIN_PENALTY_FRACTION * factor)
        while factor > least and self.n_iter < max_iter:
            larger = ElasticNet(factor * slope, self.penalty.diagonal, self.penalty.lower)
            bad = np.abs(larger.subgradient(self.coef, self.loss_gradient))
            self._extend(bad, ROUGH_TOL * self.point.psi_rms, FIRST)
            self._solve(larger, ROUGH_TOL, max_iter)
            self._evaluate()
            factor *= PENALTY_FACTOR

    def _compute_residual(self) -> None:
        """Compute the residuals from the coefficients, without accumulated rounding errors."""
        columns = self.columns
        self.residual = self.objective.linear.data.y - self.coef[columns.index] @ columns.Z

    def _evaluate(self) -> None:
        """Minimise over the intercept and evaluate the objective, in one pass over X."""
        self._exact_intercept()
        self.n_iter += 1
        linear = self.objective.linear
        clipped = psi_at_vertex(self.residual, self.beta, self.vertex)
        weighted = self.columns.s * clipped
        self.loss_gradient = -self.objective.engine.row_combination(weighted, linear.loss)
        if self.first:
            self.loss_gradient[0] = 0.0
        self.full_gradient = self.penalty.subgradient(self.coef, self.loss_gradient)
        self.is_evaluated = True
        value = float(weighted @ (self.residual - 0.5 * clipped))
        self.point = Evaluation(
            self.coef[self.first :].copy(),
            value + self.penalty.value(self.coef),
            self.full_gradient[self.first :],
            self.residual,
            float(np.sqrt(weighted @ clipped)),
        )
        if self.lowest is None or self.point.value < self.lowest.value:
            self.lowest = self.point

    def _gap_is_small(self, tol: float) -> bool:
        gradient = self.loss_gradient if self.vertex is None else None
        gap = elastic_net_gap(self.objective, self.point, None, gradient)
        return gap <= tol * self.point.value

    def _is_exact_fit(self) -> bool:
        """Return whether there is no penalty and all residuals are rounding errors."""
        if (self.penalty.slope + self.penalty.diagonal).any():
            return False
        floor = rounding_floor_bound(self.objective, self.point.theta)
        size = float(np.sqrt(self.columns.s @ (self.residual * self.residual)))
        return size <= floor and self.point.value <= floor * floor

    def _extend(self, bad: FloatArray, least: float, limit: tuple[int, float]) -> None:
        """Add the features that violate the optimality conditions most to the working set."""
        new = np.flatnonzero(self._outside() & (bad > least))
        n_nonzero = int(np.count_nonzero(self.coef[1:]))
        size = max(limit[0], int(limit[1] * n_nonzero))
        if new.size > size:
            new = new[np.argsort(-bad[new], kind="stable")[:size]]
        self.columns.add(np.sort(new))

    def _outside(self) -> NDArray[np.bool_]:
        """Return a mask of the features that are neither constant nor in the working set."""
        outside = self.usable.copy()
        outside[self.columns.index] = False
        return outside

    def _accuracy(self, tol: float) -> float:
        """Return the tolerance of the optimality conditions for a duality gap within `tol`.

        For a feature without a quadratic penalty, the duality gap is proportional to the ratio
        of the violation of the optimality conditions to the slope of the L1 penalty.
        """
        penalty, clipped = self.penalty, np.clip(self.residual, -self.beta, self.beta)
        rms = float(np.sqrt(self.columns.s @ (clipped * clipped)))
        slope = penalty.slope[self.usable & (penalty.slope > 0) & (penalty.diagonal == 0)]
        share = float(slope.min(initial=np.inf)) / rms if rms else 1.0
        return tol * min(1.0, max(share, MIN_PENALTY_SHARE))

    def _solve(self, penalty: ElasticNet, tol: float, max_iter: int) -> None:
        """Minimise over the coefficients of the working set.

        If few rows have |r| ≤ β, a larger threshold is lowered to β in steps. One iteration is
        reserved for the pass over X that follows.
        """
        max_iter -= 1
        rounding = rounding_floor_bound(self.objective, self.coef[self.first :])
        # The rounding errors of the residuals may determine which rows have |r| ≤ β.
        is_near = self.vertex is not None or rounding > ROUNDING_OF_PSI * self.beta
        if is_near and self._move_to_vertex(penalty, tol, self.beta, max_iter):
            return
        size = np.abs(self.residual)
        n_variables = 1 + int(np.count_nonzero(self.coef))
        enough = min(ROWS_PER_VARIABLE * n_variables, size.size // 2)
        if np.count_nonzero(size <= self.beta) < enough:
            beta = kth(size, enough)
            while beta > self.beta and self.n_iter < max_iter:
                # As β decreases, the loss divided by β converges to the absolute residual. The
                # penalty is therefore made proportional to β, so that the minimiser converges
                # as well.
                at_beta = penalty.scaled(beta / self.beta)
                self._newton(at_beta, ROUGH_TOL, beta, max_iter)
                if self._move_to_vertex(penalty, tol, beta, max_iter):
                    return
                beta = max(THRESHOLD_FACTOR * beta, self.beta)
        self._newton(penalty, tol, self.beta, max_iter)

    def _move_to_vertex(
        self, penalty: ElasticNet, tol: float, beta: float, max_iter: int
    ) -> bool:
        """Move to the minimiser on the working set if it is next to a vertex.

        The current point approximates the minimiser at the threshold `beta`. Returns whether a
        vertex next to the minimiser was found.
        """
        if self.n_iter >= max_iter:
            return False
        at = self.coef, self.residual, beta
        vertex = vertex_near(self.columns, penalty, *at, self.beta, tol)
        if vertex is None:
            return False
        self.vertex, self.n_iter = vertex, self.n_iter + 1
        self.coef[self.columns.index] = vertex.coef
        self._compute_residual()
        return True

    def _newton(self, penalty: ElasticNet, tol: float, beta: float, max_iter: int) -> None:
        columns, index = self.columns, self.columns.index
        if self.vertex is not None:
            # At a vertex, the gradient is computed from the multipliers, not from the
            # residuals, and is therefore not used here.
            self.vertex, self.is_evaluated = None, False
        is_known = self.is_evaluated and beta == self.beta
        start, residual = self.coef[index], self.residual
        x, n_steps = proximal_newton(
            columns,
            penalty,
            start,
            residual,
            beta,
            tol,
            max_iter - self.n_iter,
            self.loss_gradient[index] if is_known else None,
            self.use_all_rows,
        )
        self.n_iter += n_steps
        if np.array_equal(x, start):
            return
        value = self._value(penalty, beta)
        self.coef[index] = x
        self._compute_residual()
        if self._value(penalty, beta) > (1.0 + VALUE_RTOL) * value and not self.use_all_rows:
            # |r| has crossed the threshold for a row that was not regarded as near it. The
            # steps are repeated with all rows.
            self.coef[index], self.residual, self.use_all_rows = start, residual, True
            self._newton(penalty, tol, beta, max_iter)
        else:
            self.is_evaluated = False

    def _value(self, penalty: ElasticNet, beta: float) -> float:
        """Return the objective with a given penalty and threshold at the current point."""
        rho = self.objective.linear.loss.rho(self.residual, beta)
        return float(self.columns.s @ rho) + penalty.value(self.coef)

    def _exact_intercept(self) -> None:
        """Minimise over the intercept alone, so that Σ s ψ(r) is zero.

        The duality gap can only be computed if Σ s ψ(r) is zero. Newton steps are restricted to
        a bracket, because they may fail if few or no rows have |r| ≤ β.
        """
        if self.first or self.vertex is not None:
            return
        residual, s, shift = self.residual, self.columns.s, 0.0
        low, high = float(residual.min()), float(residual.max())
        for _ in range(INTERCEPT_STEPS):
            clipped = np.clip(residual - shift, -self.beta, self.beta)
            mean, share = float(s @ clipped), float(s @ (np.abs(clipped) < self.beta))
            if abs(mean) <= 1e-16 * np.sqrt(float((s * clipped) @ clipped)):
                break
            low, high = (shift, high) if mean > 0 else (low, shift)
            proposed = shift + mean / share if share else np.inf
            if proposed == shift:
                break
            shift = proposed if low < proposed < high else 0.5 * (low + high)
        if shift:
            self.coef[0] += shift
            self.residual = residual - shift
            self.is_evaluated = False
