"""The objective of a linear model at a threshold β, as a function of (b, v).

    F(b, v) = (1/S) Σ s_i ρ(r_i) + P(v),                     r_i = y_i − b − z_i·v
    ∇F = −(1/S) Σ s_i ψ(r_i) (1, z_i) + ∇P(v)
    ∇²F = (1/S) Σ s_i ψ′(r_i) (1, z_i)(1, z_i)ᵀ + ∇²P(v)

Here z_i contains the standardised features of a row, s_i is its sample weight, S = Σ s_i, ρ is
a loss, ψ = ρ′, and P is a penalty. The smooth L1 loss is the Huber loss divided by β. The
objective with the smooth L1 loss and the penalty P therefore has the same minimiser as the
objective with the Huber loss and the penalty β·P.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.linalg import lapack
from scipy.linalg.blas import dnrm2

from .._engines.base import Engine, FloatArray, RowIndex
from .._reductions import RowVector, line_minimum
from .loss import HUBER, Loss
from .penalty import Penalty

if TYPE_CHECKING:
    from .whitening import Whitening

# A whitening transform that may amplify rounding errors by more than this factor is applied to
# the rows, not to the Gram matrix.
MAX_GRAM_CONDITION = 100.0
# A Hessian may be computed as the difference between the Gram matrix of all rows and that of
# the rows with |r| > β. If these include high-leverage rows, cancellation may make the
# difference inaccurate. The difference is used only if its smallest squared Cholesky pivot is
# larger than this value.
MIN_DOWNDATED_PIVOT = 1e-3


class Evaluation(NamedTuple):
    """The objective, its gradient and the residuals at one point.

    `theta` contains the variables, and `psi_rms` is the weighted root mean square of ψ(r).
    """

    theta: FloatArray
    value: float
    gradient: FloatArray
    residual: RowVector
    psi_rms: float

    @property
    def relative_gradient(self) -> float:
        """The norm of the gradient divided by `psi_rms`, a dimensionless number.

        In whitened coordinates and without a penalty, this number is between 0 and 1.
        """
        # Unlike an inner product, dnrm2 does not overflow.
        length = float(dnrm2(self.gradient)) if self.gradient.size else 0.0
        if not length:
            return 0.0
        return length / self.psi_rms if self.psi_rms else np.inf


class RegressionData(NamedTuple):
    """The data shared by all objectives for a target.

    `gram` is ZᵀSZ / Σ s, where Z has the rows [1, z] and S = diag(s), or None if it is unknown.
    `total` is Σ s. `y_shift` is the location that was subtracted from y. The rounding errors of
    y are proportional to y before this subtraction.
    """

    engine: Engine
    y: RowVector
    weight: RowVector | None
    fit_intercept: bool
    gram: FloatArray | None
    y_shift: float
    total: float
    y_abs_max: float

    @classmethod
    def of(
        cls,
        engine: Engine,
        y: RowVector,
        weight: RowVector | None,
        fit_intercept: bool = True,
        gram: FloatArray | None = None,
        y_shift: float = 0.0,
    ) -> RegressionData:
        total = float(engine.n) if weight is None else float(weight.sum())
        y_abs_max = max(float(y.max()), -float(y.min()))
        return cls(engine, y, weight, fit_intercept, gram, y_shift, total, y_abs_max)


class LinearLoss:
    """The mean loss of the residuals y − b − z·v, with a fixed threshold, plus a penalty.

    Parameters
    ----------
    data : RegressionData
        The rows, the target and the sample weights.
    loss : Loss
        The loss of a residual.
    penalty : Penalty or None
        The penalty P.
    threshold : float
        The threshold of the loss.
    penalty_per_threshold : bool
        If True, the objective is the mean loss plus the threshold times P, as for the smooth L1
        loss. Otherwise it is the mean loss plus P.
    """

    def __init__(
        self,
        data: RegressionData,
        loss: Loss,
        penalty: Penalty | None,
        threshold: float,
        penalty_per_threshold: bool = False,
    ) -> None:
        self.data = data
        self.loss = loss
        self.threshold = threshold
        self._unit_penalty = penalty
        self._per_threshold = penalty_per_threshold
        scale_up = penalty is not None and penalty_per_threshold
        self.penalty = penalty.scaled(threshold) if penalty and scale_up else penalty

    def at_threshold(self, threshold: float) -> LinearLoss:
        """Return the same objective with the given threshold."""
        return LinearLoss(
            self.data, self.loss, self._unit_penalty, threshold, self._per_threshold
        )

    def for_residuals(self, residual: RowVector) -> LinearLoss:
        """Return the objective without the penalty and with `residual` in place of y."""
        y_abs_max = max(float(residual.max()), -float(residual.min()))
        data = self.data._replace(y=residual, y_abs_max=y_abs_max)
        return LinearLoss(data, self.loss, None, self.threshold)

    @property
    def is_piecewise_quadratic(self) -> bool:
        loss = self.loss
        return (
            loss.is_convex
            and loss.is_piecewise_quadratic
            and (self.penalty is None or self.penalty.is_quadratic)
        )

    def evaluate(self, coef: FloatArray, out: RowVector | None = None) -> Evaluation:
        """Return the Evaluation at coef = (b, v), computed in one pass over X.

        If `out` is given, the residuals are written to `out`.
        """
        engine, y, weight, fit_intercept, _, _, total, *_ = self.data
        residual, sums = engine.loss_gradient(coef, y, weight, self.loss, self.threshold, out)
        sums /= total
        gradient = -sums[:-2]
        value = float(sums[-2])
        if not fit_intercept:
            gradient[0] = 0.0
        if self.penalty is not None:
            gradient = self.penalty.subgradient(coef, gradient)
            value += self.penalty.value(coef)
        return Evaluation(coef, value, gradient, residual, float(np.sqrt(sums[-1])))

    def hessian(self, row_weight: RowVector, coef: FloatArray, basis: Whitening) -> FloatArray:
        """Return Mᵀ∇²F M for the transform M of the whitening `basis`.

        `row_weight` contains, for each row, ψ′(r) or a number in [0, 1] that replaces it.
        """
        engine, _, _, _, gram, _, total, *_ = self.data
        M = basis.dense_transform()
        if not self.data.fit_intercept and M[0].any():
            M = np.vstack([np.zeros_like(M[:1]), M[1:]])
        penalty: FloatArray | float = 0.0
        if self.penalty is not None:
            penalty = M.T @ (self.penalty.hessian_diagonal(coef)[:, None] * M)
        n_rows = np.count_nonzero(row_weight)
        if gram is not None and self.n_hessian_rows(row_weight, basis) < n_rows:
            outside = engine.gram(self._weighted(1.0 - row_weight)) / total
            H: FloatArray = M.T @ (gram - outside) @ M + penalty
            L, info = lapack.dpotrf(H, lower=1)
            if not info and L.diagonal().min(initial=1.0) ** 2 > MIN_DOWNDATED_PIVOT:
                return H
        weight = self._weighted(row_weight)
        if basis.condition > MAX_GRAM_CONDITION or n_rows < engine.p:
            return engine.transformed_gram(weight, M) / total + penalty
        H = M.T @ (engine.gram(weight) / total) @ M + penalty
        return H

    def n_hessian_rows(self, row_weight: RowVector, basis: Whitening) -> int:
        """Return the number of rows from which `hessian` computes the Hessian.

        These are the rows whose row weight is not 0 or, if they are fewer, the rows whose row
        weight is not 1. The latter are used only if the Gram matrix of all rows is known and
        the whitening is well-conditioned.
        """
        n_rows = int(np.count_nonzero(row_weight))
        if self.data.gram is None or basis.condition > MAX_GRAM_CONDITION:
            return n_rows
        if row_weight.dtype == bool:
            return min(n_rows, int(row_weight.size) - n_rows)
        return min(n_rows, int(np.count_nonzero(row_weight != 1)))

    def _weighted(self, row_weight: RowVector) -> RowVector:
        row_weight = row_weight.astype(float, copy=False)
        weight = self.data.weight
        return row_weight if weight is None else row_weight * weight

    def hessian_product(
        self, row_weight: RowVector, coef: FloatArray, out: RowVector
    ) -> Callable[[FloatArray], FloatArray]:
        """Return the map d ↦ ∇²F d.

        Each call of the map takes one pass over X and overwrites `out`.
        """
        engine, total = self.data.engine, self.data.total
        weight = self._weighted(row_weight)
        zeros = engine.zeros()
        diagonal = None if self.penalty is None else self.penalty.hessian_diagonal(coef)

        def product(direction: FloatArray) -> FloatArray:
            # ∇²F d is the gradient at d of a least-squares objective with y = 0 and the weights
            # s ψ′. The Huber loss with an infinite threshold is half the squared error.
            _, sums = engine.loss_gradient(direction, zeros, weight, HUBER, np.inf, out)
            Hd: FloatArray = -sums[:-2] / total
            if not self.data.fit_intercept:
                Hd[0] = 0.0
            return Hd if diagonal is None else Hd + diagonal * direction

        return product

    def inside_gradient(
        self, point: Evaluation, coef: FloatArray, out: RowVector
    ) -> FloatArray:
        """Return −(1/S) Σ s r (1, z), summed over the rows with |r| ≤ β.

        This is the contribution of these rows to ∇F. The method takes one pass over X and
        overwrites `out`.
        """
        engine, y, _, fit_intercept, _, _, total, *_ = self.data
        weight = self._weighted(self.loss.psi_deriv(point.residual, self.threshold))
        _, sums = engine.loss_gradient(coef, y, weight, self.loss, self.threshold, out)
        gradient: FloatArray = -sums[:-2] / total
        if not fit_intercept:
            gradient[0] = 0.0
        return gradient

    def penalty_gradient(self, coef: FloatArray) -> FloatArray:
        return np.zeros_like(coef) if self.penalty is None else self.penalty.gradient(coef)

    def line_minimum(
        self, point: Evaluation, coef: FloatArray, step: FloatArray, change: RowVector
    ) -> float:
        """Return the step length t that minimises F(coef + t·step), without a pass over X.

        `change` is the change of the residuals after the full step, t = 1. The loss must be the
        Huber loss, and the penalty, if any, must be quadratic.
        """
        slope = (0.0, 0.0)
        if self.penalty is not None:
            metric = step * self.penalty.hessian_diagonal(coef)
            slope = float(metric @ coef), float(metric @ step)
        weight, total = self.data.weight, self.data.total
        return line_minimum(point.residual, change, weight, self.threshold, total, slope)

    def abs_linear_predictor(self, coef: FloatArray) -> RowVector:
        """Return |b| + Σ_j |z_ij v_j| for each row i.

        The rounding error of r_i is proportional to the sum of this number and |y_i|.
        """
        return self.data.engine.abs_dot(np.abs(coef))

    def rows(self, index: RowIndex) -> FloatArray:
        """Return the rows [1, z] with the given indices as an array in memory."""
        return self.data.engine.rows(index)
