"""A fitted model and its data, linearised at the fit, as the basis of standard errors.

Let z = (1, x), and let r be the residual, s the weight and S = Σ s. The standard errors depend
on the loss only through two functions of the residual, c = ψ(r) and d = ψ′(r):

    A = Σ s d zzᵀ + S α̃ D        u_i = s_i c_i z_i        h_i = s_i d_i z_iᵀA⁻¹z_i

A is the curvature of the objective. The u_i are the scores, which sum to S α̃ Dθ at the fit,
and the h_i are the leverages. A⁻¹u_i is the influence of row i on the coefficients. α̃ is the
factor of the ridge penalty in the objective with the Huber loss, and D = diag(0, 1, …, 1).

For the Huber loss, d = 1[|r| < β]. If |r| < β for only a few rows, d is replaced by
(β/w) 1[|r| < w], whose mean estimates the same quantity as the mean of d, but from more rows.
The half-width w is the maximum of β and the Hall–Sheather bandwidth ("On the distribution of a
studentized quantile", JRSS B 50, 1988). For β → 0 the replacement gives Powell's covariance for
median regression (1991). For the bisquare, d is negative if β/√5 < |r| < β. Rows with such
residuals therefore have negative leverages, and other rows may have leverages above 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, qr
from scipy.special import ndtri

from ._engines.base import Engine, FloatArray
from ._model.loss import HUBER, Loss
from ._model.penalty import Ridge
from ._model.scale import (
    RESIDUAL_ROUNDING,
    TYPICAL_MAX_Z,
    Concomitant,
    Mad,
    ScaleEstimator,
    mad,
)
from ._model.whitening import whiten_gram
from ._reductions import RowVector, gather
from ._sampling import Problem, standardised_problem, whiten
from ._solvers import choose
from ._units import TargetUnits

# On either side of zero, the window |r| < w contains the fraction
# WINDOW_SHARE_FACTOR · n^(−1/3), but at most WINDOW_MAX_SHARE, of normal residuals.
WINDOW_SHARE_FACTOR, WINDOW_MAX_SHARE = 0.971, 0.45
# A direction is undetermined if the objective's curvature along it is less than this fraction
# of the curvature of the least-squares objective.
MIN_CURVATURE = 1e-8
# A coefficient is estimable if the component of its unit vector orthogonal to the row space is
# shorter than this.
ESTIMABLE_TOL = 1e-7
# A coefficient depends on a direction if its component along the direction exceeds this
# fraction of its norm in the row space.
COMPONENT_RTOL = 1e-8


# A row or cluster alone determines some direction if 1 − h of the row, or the curvature that
# remains without the cluster, is less than this.
MIN_REMAINING = 1e-8
# Maximum leverage of a row if the loss is not convex. Without this bound, rows with negative
# curvature could raise the leverages of other rows above 1.
MAX_LEVERAGE = 0.99


class FittedLoss(NamedTuple):
    """The objective of a fitted estimator for one target, in the units of y.

    `estimator` is the scale estimator, or None if the threshold is fixed. `penalty` is the
    factor α̃ of the penalty in the objective with the Huber loss; the factor is proportional to
    the scale if `penalty_moves_with_scale` is True. `rho` is the loss.
    """

    beta: float
    scale: float
    estimator: ScaleEstimator | None
    penalty: float
    penalty_moves_with_scale: bool
    rho: Loss = HUBER

    @classmethod
    def of(cls, regressor: Any, target: int) -> FittedLoss:
        beta = float(np.ravel(regressor.beta_)[target])
        scale = float(np.ravel(regressor.scale_)[target])
        chosen = getattr(regressor, "best_params_", {}).get(
            "beta", getattr(regressor, "beta", None)
        )
        estimator: ScaleEstimator | None = None
        if regressor.scale == "concomitant":
            estimator = Concomitant(beta / scale)
        elif regressor.scale == "mad" or isinstance(chosen, str):
            estimator = Mad(beta / scale)
        alpha = float(getattr(regressor, "alpha_", getattr(regressor, "alpha", 0.0)))
        if regressor.loss == "smooth_l1":
            penalty = alpha * beta
        else:
            penalty = alpha * scale if regressor.scale == "concomitant" else alpha
        moves = estimator is not None and (
            regressor.loss == "smooth_l1" or regressor.scale == "concomitant"
        )
        return cls(beta, scale, estimator, penalty, moves)


class LinearisedFit:
    """The fit of a regressor to one target, linearised at the fitted coefficients.

    The data must not contain rows of weight zero. The features are standardised, and y is in
    the units of `TargetUnits`; `to_data` converts coefficients to the units of the data. If the
    robustness weights ψ(r)/r are given as `robustness`, rows whose robustness weight is zero
    affect neither the units nor the standardisation, except for features that vary only in such
    rows.

    Attributes
    ----------
    n, total : float
        The number of observations (the number of rows or, with frequency weights, their sum)
        and the sum S of the weights.
    residual, psi, psi_deriv : row vectors
        The residuals r, c = ψ(r) and d = ψ′(r). `slope` is d for a residual of zero.
    copies, weight_of_copy : row vector or None
        Each row represents `copies` identical rows, each of weight `weight_of_copy`. None means
        that all entries are one.
    root : ndarray of shape (p + 1, k)
        L with LLᵀ = A⁻¹, restricted to the directions that have curvature.
    rank : float
        The rank of the matrix with rows zᵀ; with a penalty, tr(A⁻¹ Σ s d zzᵀ).
    to_data : ndarray of shape (p + 1, p + 1)
        The matrix that maps (b, v) to (intercept, coefficients), apart from the shift of y. The
        rows of constant features are zero.
    inestimable, undetermined : boolean ndarrays of shape (p + 1,)
        Masks of the coefficients that the features do not determine, and of those with a
        component in a direction without curvature.
    """

    def __init__(
        self,
        engine: Engine,
        y: RowVector,
        weight: RowVector | None,
        frequency: bool,
        loss: FittedLoss,
        intercept_and_coef: FloatArray,
        fit_intercept: bool,
        robustness: RowVector | None = None,
    ) -> None:
        self.loss, self.fit_intercept = loss, fit_intercept
        problem = _standardised(engine, weight, fit_intercept, robustness)
        assert problem.engine is not None
        self.engine = engine = problem.engine
        self.weight = weight
        self.copies: RowVector | None = weight if frequency else None
        self.weight_of_copy: RowVector | None = None if frequency else weight
        self.total = float(engine.n if weight is None else weight.sum())
        self.n = self.total if frequency else float(engine.n)
        typical = None if robustness is None else gather(y, robustness > 0)
        self.units = TargetUnits(y, fit_intercept, typical)
        self.beta, self.scale = loss.beta / self.units.unit, loss.scale / self.units.unit
        self.coef = self.units.from_data(intercept_and_coef, engine)
        y_in_units = self.units.y_for(problem)
        self.residual, self._sums = engine.loss_gradient(
            self.coef, y_in_units, weight, loss.rho, self.beta
        )
        self.units.release()
        del y_in_units
        self.psi = loss.rho.psi(self.residual, self.beta)
        window = self._window()
        self.psi_deriv = loss.rho.windowed_psi_deriv(self.residual, self.beta, window)
        self.slope = float(loss.rho.windowed_psi_deriv(np.zeros(1), self.beta, window)[0])
        ridge = Ridge.of_strength(loss.penalty, engine) if loss.penalty else None
        zero = np.zeros(engine.p + 1)
        self.penalty = zero if ridge is None else ridge.hessian_diagonal(zero)
        self.to_data = self._to_data()
        self._whiten(problem, robustness)

    # Sums over rows ----------------------------------------------------------------------

    def times_weight(self, rows: RowVector) -> RowVector:
        """Return a row vector multiplied by the weight of each row."""
        return rows if self.weight is None else rows * self.weight

    def times_copy(self, rows: RowVector) -> RowVector:
        """Return a row vector multiplied by the weight of one copy of each row."""
        return rows if self.weight_of_copy is None else rows * self.weight_of_copy

    def times_copies(self, rows: RowVector) -> RowVector:
        """Return a row vector multiplied by the number of copies of each row."""
        return rows if self.copies is None else rows * self.copies

    def sum_features(self, rows: RowVector) -> FloatArray:
        """Return Σ rows_i z_i, of shape (p + 1,)."""
        zeros = np.zeros(self.engine.p + 1)
        _, sums = self.engine.loss_gradient(zeros, rows, None, HUBER, np.inf)
        return self._without_intercept(sums[:-2])

    def gram(self, weight: RowVector) -> FloatArray:
        """Return Lᵀ (Σ weight zzᵀ) L, where L is `root`."""
        if self._ill_conditioned:
            return self._transformed_gram(weight, self.root)
        gram: FloatArray = self.root.T @ self._gram(weight) @ self.root
        return gram

    def _gram(self, weight: RowVector) -> FloatArray:
        return _signed_gram(self.engine.gram, weight)

    def _transformed_gram(self, weight: RowVector, M: FloatArray) -> FloatArray:
        return _signed_gram(lambda part: self.engine.transformed_gram(part, M), weight)

    def linear_predictor(self, coef: FloatArray) -> RowVector:
        """Return z·coef for each row."""
        zeros = np.zeros(self.engine.n)
        negative, _ = self.engine.loss_gradient(coef, zeros, None, HUBER, np.inf, zeros)
        return np.negative(negative, out=negative)

    def _without_intercept(self, vector: FloatArray) -> FloatArray:
        if not self.fit_intercept:
            vector[0] = 0.0
        return vector

    # At the fit --------------------------------------------------------------------------

    def _window(self) -> float:
        """Return w, the maximum of β and the Hall–Sheather bandwidth for the median."""
        share = min(WINDOW_MAX_SHARE, WINDOW_SHARE_FACTOR * self.n ** (-1.0 / 3.0))
        spread = mad(self.residual, self.weight) * float(ndtri(0.5 + share))
        return max(self.beta, spread)

    def _to_data(self) -> FloatArray:
        engine = self.engine
        back = np.diag(np.concatenate([[1.0], 1.0 / engine.scale / engine.unit]))
        back[0, 1:] = -engine.centre / engine.scale
        if not self.fit_intercept:
            back[0] = 0.0
        return self.units.unit * back

    def _whiten(self, problem: Problem, robustness: RowVector | None) -> None:
        """Compute L with LLᵀ = A⁻¹, by Cholesky decomposition if its pivots prove full rank.

        Otherwise the row space is computed from a singular value decomposition of the rows, and
        the directions with curvature from an eigendecomposition of A restricted to this space.
        """
        engine = self.engine
        varies = np.concatenate([[self.fit_intercept], np.isfinite(engine.scale)])
        weight = self.times_weight(self.psi_deriv)
        whitening = whiten_gram(
            self._gram(weight) / self.total, self.penalty[1:], self.fit_intercept
        )
        self.inestimable, self.undetermined = ~varies, np.zeros(varies.size, dtype=bool)
        self.without_curvature = np.zeros((varies.size, 0))
        self._ill_conditioned = whitening is None or whitening.transform.shape[1] < varies.sum()
        if whitening is not None and not self._ill_conditioned:
            root = whitening.transform
            self.row_space = root
        else:
            if robustness is not None:
                # Robustness weights less than 1/‖z‖² are raised to this value, so that outliers
                # do not determine which directions are treated as rounding error, and features
                # that vary only in outliers are not treated as constant.
                least = 1.0 / engine.squared_norms(np.eye(varies.size))
                rows = self.times_weight(np.maximum(robustness, least))
                problem = problem._replace(weight=rows)
            M = whiten(problem, self.penalty[1:]).dense_transform()
            A = self._transformed_gram(weight, M) / self.total
            share, V = eigh(A + M.T @ (self.penalty[:, None] * M))
            kept = share > MIN_CURVATURE
            root, self.row_space = M @ (V[:, kept] / np.sqrt(share[kept])), M
            if not self.penalty.any():
                self.inestimable |= ~self.is_estimable(self.to_data / self.units.unit)
            self.without_curvature = M @ V[:, ~kept]
            self.undetermined = self.depends_on(self.without_curvature)
        self.n_variables = root.shape[1]
        # tr(A⁻¹ Σ s d zzᵀ) plus the number of directions without curvature, which are part of
        # the row space.
        self.rank = self.row_space.shape[1] - float(self.penalty @ (root**2).sum(axis=1))
        self.root = root / np.sqrt(self.total)

    def is_estimable(self, combinations: FloatArray) -> NDArray[np.bool_]:
        """Return a mask of the linear combinations of (b, v) that are in the row space.

        `combinations` has one linear combination per row.
        """
        norm = np.linalg.norm(combinations, axis=1, keepdims=True)
        row = np.divide(combinations, norm, out=np.zeros_like(combinations), where=norm > 0)
        Q = qr(self.row_space, mode="economic")[0]
        outside: FloatArray = np.linalg.norm(row - (row @ Q) @ Q.T, axis=1)
        return outside < ESTIMABLE_TOL

    def depends_on(self, directions: FloatArray) -> NDArray[np.bool_]:
        """Return a mask of the coefficients with a component along any of the `directions`."""
        back = self.to_data / self.units.unit
        along = np.linalg.norm(back @ directions, axis=1)
        size = np.linalg.norm(back @ self.row_space, axis=1)
        length = np.linalg.norm(directions, axis=0).max(initial=0.0)
        depends: NDArray[np.bool_] = along > COMPONENT_RTOL * size * max(length, 1.0)
        return depends

    def relative_gradient(self) -> float:
        """Return the norm of the whitened gradient divided by the root mean square of ψ."""
        gradient = self._without_intercept(self._sums[:-2].copy()) - self.total * (
            self.penalty * self.coef
        )
        size = float(np.sqrt(self._sums[-1]))
        # A is approximately the Gram matrix times the mean of |d|, which includes the factor
        # β/w of a window. The square root of this mean converts the norm to the metric of the
        # Gram matrix.
        curvature = float(np.abs(self.times_weight(self.psi_deriv)).sum()) / self.total
        gradient *= np.sqrt(curvature)
        return float(np.linalg.norm(self.root.T @ gradient)) / size if size else 0.0

    def rounding_gradient(self, dtype: Any) -> float:
        """Return a bound on the relative gradient caused by rounding of the coefficients."""
        engine = self.engine
        size = np.abs(self.coef[1:]) @ np.hypot(1.0, engine.centre / engine.scale)
        rms = float(np.sqrt(self._sums[-1] / self.total))
        return float(np.finfo(dtype).eps * size / rms) if rms else np.inf

    def scale_is_rounding(self) -> bool:
        """Return whether the estimated scale is only rounding error of the residuals."""
        size = 1.0 + abs(self.units.shift / self.units.unit)
        size += TYPICAL_MAX_Z * float(np.abs(self.coef).sum())
        return self.loss.estimator is not None and self.scale <= 2 * RESIDUAL_ROUNDING * size

    def feature_scale(self) -> FloatArray:
        """Return the weighted standard deviations of the features, in their units."""
        engine = self.engine
        varies = np.isfinite(engine.scale)
        # Without an intercept, `engine.scale` contains root mean squares, not standard
        # deviations.
        mean = np.zeros(engine.p)
        if not self.fit_intercept:
            ones = np.ones(engine.n)
            _, sums = engine.loss_gradient(
                np.zeros(engine.p + 1), ones, self.weight, HUBER, np.inf
            )
            mean = sums[1 : engine.p + 1] / self.total
        std = np.sqrt(np.maximum(1.0 - mean**2, 0.0))
        scale: FloatArray = np.where(varies, engine.scale, 0.0) * engine.unit * std
        return scale

    def quadratic_form(self) -> RowVector:
        """Return z_iᵀA⁻¹z_i for each row, times the weight of one copy of the row."""
        return self.times_copy(self.engine.squared_norms(self.root))

    def remaining_curvature(self, q: RowVector) -> tuple[RowVector, NDArray[np.intp]]:
        """Return 1 − h for each row, and the indices of rows that alone determine a direction.

        `q` is h/d. If the loss is not convex, the leverages of all other rows are limited to
        MAX_LEVERAGE.
        """
        remaining = 1.0 - self.psi_deriv * q
        if not self.loss.rho.is_convex:
            is_less = (remaining < 1.0 - MAX_LEVERAGE) & (np.abs(remaining) >= MIN_REMAINING)
            remaining[is_less] = 1.0 - MAX_LEVERAGE
        return remaining, np.flatnonzero(remaining < MIN_REMAINING)

    def scale_slope(self) -> FloatArray:
        """Return the vector a = −∂(Σ u − S α̃ Dθ)/∂σ, where σ is the scale."""
        # ∂ψ/∂σ is (ψ − r ψ′)/σ, where ψ′ is computed from the threshold, not from the window.
        change = self.residual * self.loss.rho.psi_deriv(self.residual, self.beta)
        np.subtract(self.psi, change, out=change)
        a: FloatArray = -self.sum_features(self.times_weight(change)) / self.scale
        if self.loss.penalty_moves_with_scale:
            a += self.total * self.penalty * self.coef / self.scale
        return a

    def scale_equation(self) -> tuple[RowVector, FloatArray, float] | None:
        """Return the terms (g, b, e) of the scale equation, as defined in `_covariance`.

        g contains the score of one copy of each row. The result is None if the scale is not
        estimated.
        """
        if self.loss.estimator is None:
            return None
        g, slope, deriv = self.loss.estimator.scores(self.residual, self.scale, self.n)
        e = float(self.times_weight(deriv).sum())
        del deriv
        return g, self.sum_features(self.times_weight(slope)), e


def _standardised(
    engine: Engine, weight: RowVector | None, fit_intercept: bool, robustness: RowVector | None
) -> Problem:
    """Return the problem with standardised features.

    If given, `robustness` also weights the means and standard deviations of the features.
    """
    plan = choose(engine, "auto")._replace(whiten_by="root")
    if robustness is None:
        return standardised_problem(engine, weight, fit_intercept, plan)
    rows = robustness if weight is None else weight * robustness
    problem = standardised_problem(engine, rows, fit_intercept, plan)
    assert problem.engine is not None
    centre, scale = problem.engine.centre, problem.engine.scale
    if np.isinf(scale).any():
        # Features that are constant in the rows of nonzero weight may vary in the other rows.
        every = standardised_problem(problem.engine, weight, fit_intercept, plan).engine
        assert every is not None
        scale = np.where(np.isinf(scale), every.scale, scale)
    return problem._replace(
        engine=problem.engine.with_standardisation(centre, scale), weight=weight
    )


def _signed_gram(gram: Callable[[RowVector], FloatArray], weight: RowVector) -> FloatArray:
    """Return Σ weight zzᵀ for weights of any sign.

    `gram` is a function that computes the sum for non-negative weights.
    """
    if not (weight < 0).any():
        return gram(weight)
    return gram(np.maximum(weight, 0.0)) - gram(np.maximum(-weight, 0.0))
