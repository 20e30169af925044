"""Whitening: the change of variables that makes the problem well-conditioned.

The Hessian of a quadratic model of the objective is H = ZᵀSZ / Σ s + diag(0, λ), where the rows
of Z are [1, z] with the standardised features z, S is the diagonal matrix of the weights s, and
λ is the diagonal of the penalty's Hessian. The whitened coordinates θ are defined by
(b, v) = Mθ with MᵀHM = I. The curvature of the model is then the same in all directions of θ,
and L-BFGS needs about ten evaluations of the objective, whatever the units and correlations of
the features. If Z is rank-deficient, the columns of M span only the directions that can be
distinguished from rounding errors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from scipy.linalg import lapack, qr, solve_triangular, svd

from .._engines.base import FloatArray, RowIndex
from .._reductions import RowVector
from .linear_loss import Evaluation, LinearLoss

# The Cholesky factor of H, after scaling H to a unit diagonal, is used if its smallest squared
# pivot is at least this value. Rounding errors of the Gram matrix then affect at most half of
# the digits of this factor, and Newton's method corrects the resulting errors.
MIN_SQUARED_PIVOT = 1e-8
# A feature is coarse if its rounding error exceeds this fraction of its standard deviation. A
# coarse feature has a larger weight in the inner product of `_basis_beyond_rounding`.
COARSE_BOUND = 1e-6


class Whitening(NamedTuple):
    """A transform M of shape (p + 1, k), a dense or sparse matrix, and its condition.

    `condition` is the factor by which M may amplify rounding errors.
    """

    transform: Any
    condition: float

    def dense_transform(self) -> FloatArray:
        M = self.transform
        dense: FloatArray = M.toarray() if sparse.issparse(M) else M
        return dense

    def coordinates(self, coef: FloatArray) -> FloatArray:
        """Return the θ for which Mθ is nearest to `coef`."""
        M = self.transform
        if sparse.issparse(M):
            squares = np.asarray(M.power(2).sum(axis=0)).ravel()
            theta: FloatArray = (M.T @ coef) / squares
            return theta
        if not M.size:
            return np.zeros(M.shape[1])
        size = np.abs(M).max(axis=1)
        unit = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)
        Q, R = qr(unit[:, None] * M, mode="economic", check_finite=False)
        theta = solve_triangular(R, Q.T @ (unit * coef), check_finite=False)
        return theta


class Whitened:
    """An objective as a function of the whitened coordinates θ, that is, F(Mθ)."""

    def __init__(self, linear: LinearLoss, whitening: Whitening) -> None:
        self.linear = linear
        self.whitening = whitening
        self.engine = linear.data.engine
        self.threshold = linear.threshold
        self._M = whitening.transform
        self.n_variables: int = self._M.shape[1]

    @property
    def n_passes(self) -> int:
        return self.engine.n_passes

    def at_threshold(self, threshold: float) -> Whitened:
        """Return the same objective with the given threshold, in the same coordinates."""
        return Whitened(self.linear.at_threshold(threshold), self.whitening)

    def coef(self, theta: FloatArray) -> FloatArray:
        coef: FloatArray = self._M @ theta
        return coef

    def evaluate(self, theta: FloatArray, out: RowVector | None = None) -> Evaluation:
        """Return the Evaluation at θ, computed in one pass over X.

        If `out` is given, the residuals are written to `out`.
        """
        _, value, gradient, residual, psi_rms = self.linear.evaluate(self._M @ theta, out)
        with np.errstate(invalid="ignore"):
            # If the gradient is not finite, the caller checks X for NaN and infinity.
            gradient = self._M.T @ gradient
        return Evaluation(theta, value, gradient, residual, psi_rms)

    def psi_deriv(self, point: Evaluation) -> RowVector:
        """Return ψ′(r) of each row."""
        return self.linear.loss.psi_deriv(point.residual, self.linear.threshold)

    def hessian(self, theta: FloatArray, row_weight: RowVector) -> FloatArray:
        return self.linear.hessian(row_weight, self._M @ theta, self.whitening)

    def n_hessian_rows(self, row_weight: RowVector) -> int:
        return self.linear.n_hessian_rows(row_weight, self.whitening)

    def hessian_product(
        self, theta: FloatArray, row_weight: RowVector, out: RowVector
    ) -> Callable[[FloatArray], FloatArray]:
        M = self._M
        product = self.linear.hessian_product(row_weight, M @ theta, out)
        return lambda direction: M.T @ product(M @ direction)

    def predicted_gradient(
        self, point: Evaluation, lower: Whitened, out: RowVector
    ) -> FloatArray:
        """Return the gradient of `lower` at a point, predicted from the present threshold.

        `lower` is the objective with a lower threshold. The prediction is exact if |r| exceeds
        both thresholds in the same rows, whose contribution to the gradient is proportional to
        the threshold. The method takes one pass over X and overwrites `out`.
        """
        M, coef = self._M, self._M @ point.theta
        inside = M.T @ self.linear.inside_gradient(point, coef, out)
        before = M.T @ self.linear.penalty_gradient(coef)
        after = M.T @ lower.linear.penalty_gradient(coef)
        outside = point.gradient - inside - before
        gradient: FloatArray = inside + lower.threshold / self.threshold * outside + after
        return gradient

    def line_minimum(self, point: Evaluation, step: FloatArray, change: RowVector) -> float:
        M = self._M
        return self.linear.line_minimum(point, M @ point.theta, M @ step, change)

    def abs_linear_predictor(self, theta: FloatArray) -> RowVector:
        return self.linear.abs_linear_predictor(self._M @ theta)

    def rows(self, index: RowIndex) -> FloatArray:
        """Return the rows ζ = Mᵀ(1, z) with the given indices as an array in memory."""
        rows: FloatArray = self.linear.rows(index) @ self._M
        return rows


def inverse_cholesky(H: FloatArray) -> FloatArray | None:
    """Return M = L⁻ᵀ, where H = LLᵀ, so that MᵀHM = I.

    The result is None if H is singular or nearly singular.
    """
    diagonal = np.diagonal(H)
    if H.size == 0:
        return np.zeros(H.shape)
    if not diagonal.min() > 0:
        return None
    unit = 1.0 / np.sqrt(diagonal)
    L, info = lapack.dpotrf(H * unit * unit[:, None], lower=1, clean=1)
    if info or np.diagonal(L).min() ** 2 < MIN_SQUARED_PIVOT:
        return None
    M: FloatArray = unit[:, None] * lapack.dtrtri(L, lower=1)[0].T
    return M


def whiten_gram(G: FloatArray, penalty: FloatArray, fit_intercept: bool) -> Whitening | None:
    """Return the whitening for the Gram matrix G = ZᵀSZ / Σ s and a penalty.

    The result is None if G plus the penalty's Hessian is ill-conditioned. `penalty` is the
    diagonal of the penalty's Hessian, without the intercept, of shape (p,).
    """
    first = 0 if fit_intercept else 1
    H = G + np.diag(np.concatenate([[0.0], penalty]))
    # The row of M for an unpenalised constant feature is zero.
    kept = first + np.flatnonzero(np.diagonal(H)[first:] > 0)
    M = inverse_cholesky(H[np.ix_(kept, kept)])
    if M is None:
        return None
    transform = np.zeros((G.shape[0], kept.size))
    transform[kept] = M
    amplified = np.sqrt(np.diagonal(H)[kept])[:, None] * M
    return Whitening(transform, float(np.abs(amplified).max(initial=1.0)))


def whiten_rows(
    R: FloatArray, penalty: FloatArray, fit_intercept: bool, tol: float, rounding: FloatArray
) -> Whitening:
    """Return the whitening, computed from a matrix R with RᵀR = ZᵀSZ / Σ s.

    Without a penalty, the coefficients have no component along directions that rounding errors
    of the features could have produced. `rounding` contains, for each feature, a bound on the
    rounding errors relative to the scale of the feature. With a penalty, the minimiser is
    unique, and no direction is omitted because of rounding errors. The coefficients at the
    minimiser, in the *original* units, are then a linear combination of the rows of X, because
    the gradient of the loss is a linear combination of these rows. The columns of M therefore
    span only such vectors of coefficients. Singular values below `tol` times the largest one
    are treated as rounding errors.
    """
    features = R[:, 1:]
    if not penalty.any():
        first = 0 if fit_intercept else 1
        bounds = np.concatenate([[0.0], rounding])[first:]
        basis = _basis_beyond_rounding(R[:, first:], np.maximum(bounds, tol))
        sigma, V = _row_space(R[:, first:] @ basis, 0.0)
        transform = np.zeros((R.shape[1], sigma.size))
        transform[first:] = basis @ (V / sigma)
        return Whitening(transform, _condition(sigma))
    sigma, V = _row_space(features, tol)
    if sigma.size == features.shape[1]:
        basis = np.eye(sigma.size)
    else:
        # The coefficients w = v/scale, in the original units, are a linear combination of the
        # rows x = z·scale, so v is a linear combination of the rows z·scale². The columns of M
        # must also span the coefficient of each unpenalised feature that is not constant.
        penalised = penalty > 0
        free = np.flatnonzero(~penalised & (features != 0).any(axis=0))
        V = _row_space(features[:, penalised], tol)[1] if free.size else V[penalised]
        unit = np.sqrt(penalty.max() / penalty[penalised])
        basis = np.zeros((penalty.size, free.size + V.shape[1]))
        basis[free, np.arange(free.size)] = 1.0
        rotated = qr(unit[:, None] * V, mode="economic")[0]
        basis[penalised, free.size :] = unit[:, None] * rotated
    intercept = [R[:, :1]] if fit_intercept else []
    stacked = np.hstack([*intercept, features @ basis])
    root_penalty = np.zeros((features.shape[1], stacked.shape[1]))
    root_penalty[:, len(intercept) :] = np.sqrt(penalty)[:, None] * basis
    norm = np.sqrt((stacked**2).sum(axis=0) + (root_penalty**2).sum(axis=0))
    norm[norm == 0] = 1.0
    sigma, V = _row_space(np.vstack([stacked, root_penalty]) / norm, np.finfo(float).eps)
    reduced = V / sigma / norm[:, None]
    transform = np.zeros((R.shape[1], sigma.size))
    if fit_intercept:
        transform[0] = reduced[0]
    transform[1:] = basis @ reduced[len(intercept) :]
    return Whitening(transform, _condition(sigma))


def whiten_columns(penalty: FloatArray, fit_intercept: bool) -> Whitening:
    """Return a whitening that only scales the columns of Z, with a sparse diagonal transform.

    This whitening is used if a k × k matrix for k variables would be too large or take too long
    to compute.
    """
    unit = np.concatenate([[1.0], 1.0 / np.sqrt(1.0 + penalty)])
    scaling = sparse.diags_array(unit).tocsr()
    return Whitening(scaling[:, 0 if fit_intercept else 1 :], 1.0)


def rewhiten(
    objective: Whitened, theta: FloatArray, row_weight: RowVector
) -> tuple[Whitening, FloatArray | None]:
    """Return the whitening for the Hessian with the given row weights, and the matrix T.

    If M is the transform of the objective, the new transform is MT, and the new coordinates are
    T⁻¹θ. If the Hessian is nearly singular, T is None, and the whitening is unchanged.
    """
    T = inverse_cholesky(objective.hessian(theta, row_weight))
    transform, condition = objective.whitening
    return Whitening(transform if T is None else transform @ T, condition), T


def _basis_beyond_rounding(A: FloatArray, bounds: FloatArray) -> FloatArray:
    """Return an orthonormal basis without the directions that rounding errors could produce.

    Column j of A has the rounding error bounds_j. A direction v may be due to rounding errors
    if ‖Av‖ ≤ ‖diag(bounds) v‖. These directions correspond to the singular values of A / bounds
    that are at most 1. The basis is orthogonal to these directions in an inner product that
    gives a larger weight to each column whose rounding error exceeds COARSE_BOUND. Since A is
    not nearly zero along such a column, omitting the column's direction must not remove a
    component of the other columns.
    """
    sigma, V = _row_space(A / bounds, 0.0)
    kept = V[:, sigma > 1.0]
    if kept.shape[1] == A.shape[1]:
        return np.eye(A.shape[1])
    # The factorisation is row-wise stable for bounds of any magnitude, since the rows are
    # sorted and the columns are pivoted (Cox and Higham, "Stability of Householder QR
    # factorization for weighted least squares", 1998).
    unit = bounds / np.maximum(bounds / COARSE_BOUND, 1.0) ** 2
    order = np.argsort(-unit)
    basis = np.empty_like(kept)
    scaled = unit[order, None] * kept[order]
    basis[order] = qr(scaled, mode="economic", pivoting=True, check_finite=False)[0]
    return basis


def _row_space(R: FloatArray, tol: float) -> tuple[FloatArray, FloatArray]:
    """Return the singular values of R above `tol` times the largest one, and the matrix V.

    The columns of V are the corresponding right singular vectors.
    """
    if R.shape[0] > R.shape[1]:
        R = qr(R, mode="r", check_finite=False)[0][: R.shape[1]]
    _, sigma, Vt = svd(R, full_matrices=False, check_finite=False)
    kept = sigma > tol * sigma.max(initial=0.0)
    return sigma[kept], Vt[kept].T


def _condition(sigma: FloatArray) -> float:
    return float(sigma[0] / sigma[-1]) if sigma.size else 1.0
