"""The objective of a linear model at a threshold β, as a function of whitened coordinates.

    F(θ) = (1/S) Σ s_i h_β(r_i) + (a/2) Σ_j (v_j / scale_j)²,    (b, v) = Mθ
    ∇F(θ) = Mᵀ [ −(1/S) Σ s_i c_i (1, z_i) + a (0, v / scale²) ]
    ∇²F(θ) = Mᵀ [ (1/S) Σ_{|r_i| ≤ β} s_i (1, z_i)(1, z_i)ᵀ + a diag(0, 1 / scale²) ] M

with h_β the Huber loss, c_i = clip(r_i, −β, β) its derivative, S = Σ s_i. Smooth L1 is h_β/β:
the same minimiser with a = αβ in the place of a = α.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.linalg import lapack, qr, solve_triangular
from scipy.linalg.blas import dnrm2

# A whitening that amplifies rounding by more than this is not applied to a Gram matrix.
_MANY_DIGITS = 100.0
# Where rows of leverage are outside, little may be left of the Gram matrix of all: no less.
_CANCELLED = 1e-3


class Point(NamedTuple):
    """The objective at one θ; `clipped` is the root mean square of the clipped residuals."""

    theta: np.ndarray
    value: float
    gradient: np.ndarray
    residual: np.ndarray
    clipped: float

    @property
    def norm(self):
        """The length of the whitened gradient over `clipped`: 0 … 1, whatever the units."""
        # Unlike a scalar product this does not overflow.
        length = float(dnrm2(self.gradient)) if self.gradient.size else 0.0
        if not length:
            return 0.0
        return length / self.clipped if self.clipped else np.inf


class LinearObjective:
    """Mean Huber loss of y − Zw, Z = [1, z], with a ridge term.

    Parameters
    ----------
    design : DenseDesign or SparseDesign of n rows and p features
    y : ndarray (n,)
    weight : ndarray (n,) of numbers ≥ 0, or None
    whitening : Whitening, whose transform M is (p + 1, k); its first row is zero where
        there is no intercept
    alpha : (constant, slope), a = constant + slope·β
    gram : the weighted mean of ZᵀZ where it is known
    """

    def __init__(self, design, y, weight, whitening, alpha, gram=None):
        self.design = design
        self.y = y
        self.weight = weight
        self.total = float(design.n) if weight is None else float(weight.sum())
        self.transform, self.condition = whitening
        self.alpha = alpha
        self._gram = gram

    def ridge(self, beta):
        """The a of the formulas above."""
        constant, slope = self.alpha
        return constant + (slope * beta if slope else 0.0)

    def _metric(self, beta):
        """a (0, 1 / scale²), (p + 1,), or None where a is zero."""
        a = self.ridge(beta)
        return np.concatenate([[0.0], self.design.ridge(a)]) if a else None

    def coef(self, theta):
        return self.transform @ theta

    def theta(self, coef):
        """Coordinates of the coefficients nearest to coef that M can express."""
        if sparse.issparse(self.transform):
            squares = self.transform.power(2).sum(axis=0)
            return (self.transform.T @ coef) / np.asarray(squares).ravel()
        if not self.transform.size:
            return np.zeros(self.transform.shape[1])
        size = np.abs(self.transform).max(axis=1)
        unit = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)
        Q, R = qr(unit[:, None] * self.transform, mode="economic", check_finite=False)
        return solve_triangular(R, Q.T @ (unit * coef), check_finite=False)

    def at(self, theta, beta, residual=None):
        """Value, gradient and residuals from one pass over X."""
        coef = self.transform @ theta
        residual, sums = self.design.sweep(coef, self.y, self.weight, beta, residual)
        sums /= self.total
        gradient = -sums[:-2]
        value = sums[-2]
        ridge = self._metric(beta)
        if ridge is not None:
            penalty = ridge * coef
            gradient += penalty
            value += 0.5 * float(penalty @ coef)
        with np.errstate(invalid="ignore"):
            # X is searched for what is no number when this shows one.
            gradient = self.transform.T @ gradient
        return Point(theta, float(value), gradient, residual, float(np.sqrt(sums[-1])))

    def foreseen(self, point, beta, lower, scratch):
        """∇F at a lower threshold and the same θ if the same rows were inside; one pass.

        Rows outside then pull less, by the factor lower/β. Writes over scratch (n,).
        """
        coef = self.coef(point.theta)
        inside = np.abs(point.residual) <= beta
        weight = self._weighted(inside)
        _, sums = self.design.sweep(coef, self.y, weight, beta, scratch)
        within = self.transform.T @ (-sums[:-2] / self.total)
        before, after = self._ridge_gradient(coef, beta), self._ridge_gradient(coef, lower)
        return within + lower / beta * (point.gradient - within - before) + after

    def _ridge_gradient(self, coef, beta):
        """The gradient of the ridge term."""
        ridge = self._metric(beta)
        return 0.0 if ridge is None else self.transform.T @ (ridge * coef)

    def hessian(self, share, beta):
        """∇²F, a k × k matrix, from the share (0 … 1) of each row: 1 inside the threshold."""
        M = self.transform.toarray() if sparse.issparse(self.transform) else self.transform
        ridge = self._metric(beta)
        penalty = 0.0 if ridge is None else M.T @ (ridge[:, None] * M)
        n = np.count_nonzero(share)
        if self.rows_in_hessian(share) < n:
            rest = self.design.gram(self._weighted(1.0 - share)) / self.total
            H = M.T @ (self._gram - rest) @ M + penalty
            L, info = lapack.dpotrf(H, lower=1)
            if not info and L.diagonal().min(initial=1.0) ** 2 > _CANCELLED:
                return H
        weight = self._weighted(share)
        if self.condition > _MANY_DIGITS or n < self.design.p:
            return self.design.transformed_gram(weight, M) / self.total + penalty
        return M.T @ (self.design.gram(weight) / self.total) @ M + penalty

    def rows_in_hessian(self, share):
        """The number of rows that a Hessian is made from: the other ones if these are fewer,
        since those of all are known.
        """
        n = np.count_nonzero(share)
        known = self._gram is not None and self.condition <= _MANY_DIGITS
        return min(n, np.count_nonzero(share != 1)) if known else n

    def _weighted(self, share):
        share = share.astype(float)
        return share if self.weight is None else share * self.weight

    def hessian_product(self, share, beta, scratch):
        """The map d ↦ ∇²F d, one pass over X each time; writes over scratch (n,)."""
        weight = self._weighted(share)
        zero = np.zeros(self.design.n)
        ridge = self._metric(beta)

        def product(direction):
            coef = self.transform @ direction
            _, sums = self.design.sweep(coef, zero, weight, np.inf, scratch)
            out = -sums[:-2] / self.total
            if ridge is not None:
                out += ridge * coef
            return self.transform.T @ out

        return product

    def fitted_size(self, theta):
        """|b| + Σ_j |z_ij v_j| for each row: what the rounding of r_i is relative to."""
        return self.design.absolute(np.abs(self.coef(theta)))

    def along(self, point, step, change, beta):
        """F(θ + t·step), where residuals move by t·change, without a pass over X.

        Returns two functions: the slope d/dt at t, and the lengths between two, in order, at
        which a row of every so many comes to the threshold.
        """
        moving = change if self.weight is None else self.weight * change
        coef, direction = self.transform @ point.theta, self.transform @ step
        ridge = self._metric(beta)
        metric = direction * (0.0 if ridge is None else ridge)
        start, rate = float(metric @ coef), float(metric @ direction)
        spare = np.empty_like(change)

        def slope(t):
            np.multiply(change, t, out=spare)
            np.add(spare, point.residual, out=spare)
            spare.clip(-beta, beta, out=spare)
            return float(spare @ moving) / self.total + start + t * rate

        def bends(low, high, stride):
            found = []
            for end in (-beta, beta):
                t = np.subtract(end, point.residual[::stride], out=spare[::stride])
                with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                    t /= change[::stride]
                found.append(t[(t > low) & (t < high)])
            return np.sort(np.concatenate(found))

        return slope, bends
