"""The change of variables in which the problem is well-conditioned.

With Z = [1, z] the standardised design and a ridge term λ_j = α / scale_j², the quadratic
model of the objective is H = Σ s ZᵀZ / Σ s + diag(0, λ). A transform M with MᵀHM = I makes
every direction alike: in θ, where (b, v) = Mθ, L-BFGS needs about ten evaluations whatever
the units and correlations of the features. Without full rank, M spans what can be told from
the data and nothing else.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.linalg import eigh, lapack, qr, svd

# Smallest squared pivot of the unit-diagonal H for which Cholesky is trusted: the Gram
# matrix has lost at most half of the digits then, and Newton's method restores them.
_MIN_PIVOT = 1e-8


class Whitening(NamedTuple):
    """A transform M (p + 1, k) and the largest amplification of rounding in it."""

    transform: np.ndarray
    condition: float


def inverse_cholesky(H):
    """M = L⁻ᵀ with H = LLᵀ, so that MᵀHM = I; None where H is too close to singular."""
    diagonal = np.diagonal(H)
    if H.size == 0:
        return np.zeros(H.shape)
    if not diagonal.min() > 0:
        return None
    unit = 1.0 / np.sqrt(diagonal)
    L, info = lapack.dpotrf(H * unit * unit[:, None], lower=1, clean=1)
    if info or np.diagonal(L).min() ** 2 < _MIN_PIVOT:
        return None
    return unit[:, None] * lapack.dtrtri(L, lower=1)[0].T


def whiten_gram(G, ridge, fit_intercept):
    """Whitening from the weighted mean G of ZᵀZ (p + 1, p + 1); None if ill-conditioned."""
    first = 0 if fit_intercept else 1
    H = G + np.diag(np.concatenate([[0.0], ridge]))
    # A constant feature without a penalty has a row of zeros, and no coordinate.
    kept = first + np.flatnonzero(np.diagonal(H)[first:] > 0)
    M = inverse_cholesky(H[np.ix_(kept, kept)])
    if M is None:
        return None
    transform = np.zeros((G.shape[0], kept.size))
    transform[kept] = M
    amplified = np.sqrt(np.diagonal(H)[kept])[:, None] * M
    return Whitening(transform, float(np.abs(amplified).max(initial=1.0)))


def whiten_rows(Z, ridge, fit_intercept, rounding):
    """Whitening from the rows Z themselves, scaled so that ZᵀZ is their weighted mean.

    Singular values that the rounding of the data (relative to a feature's scale) could have
    made are taken for zero. Without a penalty the coefficients have no component there. With
    one, the minimiser is a combination of rows in the *original* units, because its gradient
    is; so M spans these.
    """
    feature = Z[:, 1:]
    tol = max(max(Z.shape) * np.finfo(float).eps, rounding)
    if not ridge.any():
        first = 0 if fit_intercept else 1
        sigma, V = _row_space(Z[:, first:], tol)
        transform = np.zeros((Z.shape[1], sigma.size))
        transform[first:] = V / sigma
        return Whitening(transform, _condition(sigma))
    basis = np.eye(feature.shape[1])
    sigma, V = _row_space(feature, tol)
    if sigma.size < feature.shape[1]:
        # Rows of X are z·scale in the coefficients w = v/scale: v = scale² times a row of z.
        # Where the ridge is zero the feature is constant, and z = 0 as well.
        unit = np.sqrt(np.divide(ridge.max(), ridge, out=np.ones_like(ridge), where=ridge > 0))
        basis = unit[:, None] * qr(unit[:, None] * V, mode="economic")[0]
    columns = [Z[:, :1]] if fit_intercept else []
    stacked = np.hstack([*columns, feature @ basis])
    penalty = np.zeros((feature.shape[1], stacked.shape[1]))
    penalty[:, len(columns) :] = np.sqrt(ridge)[:, None] * basis
    norm = np.sqrt((stacked**2).sum(axis=0) + (penalty**2).sum(axis=0))
    norm[norm == 0] = 1.0
    sigma, V = _row_space(np.vstack([stacked, penalty]) / norm, np.finfo(float).eps)
    reduced = V / sigma / norm[:, None]
    transform = np.zeros((Z.shape[1], sigma.size))
    if fit_intercept:
        transform[0] = reduced[0]
    transform[1:] = basis @ reduced[len(columns) :]
    return Whitening(transform, _condition(sigma))


def whiten_columns(ridge, fit_intercept):
    """Scaling alone, where a k × k matrix would cost too much."""
    unit = np.concatenate([[1.0], 1.0 / np.sqrt(1.0 + ridge)])
    return Whitening(sparse.diags_array(unit).tocsr()[:, 0 if fit_intercept else 1 :], 1.0)


def square_root(G):
    """A matrix R with RᵀR = G but for eigenvalues that rounding could have made."""
    eigenvalues, V = eigh(G)
    tol = G.shape[0] * np.finfo(float).eps * eigenvalues[-1]
    return np.sqrt(np.where(eigenvalues > tol, eigenvalues, 0.0))[:, None] * V.T


def _row_space(Z, tol):
    """Singular values above tol times the largest, and their right singular vectors."""
    if Z.shape[0] > Z.shape[1]:
        Z = qr(Z, mode="r", check_finite=False)[0][: Z.shape[1]]
    _, sigma, Vt = svd(Z, full_matrices=False, check_finite=False)
    kept = sigma > tol * sigma.max(initial=0.0)
    return sigma[kept], Vt[kept].T


def _condition(sigma):
    return float(sigma[0] / sigma[-1]) if sigma.size else 1.0
