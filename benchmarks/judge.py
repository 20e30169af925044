"""A check of fits in extended precision, independent of the formulas of the package.

A fit has residuals r and coefficients w. Let π_i = s_i / S, and let a be the penalty parameter
in the objective written with the Huber loss. A change d of the coefficients gives the objective

    F(d) = Σ π_i h_β(r_i − x_iᵀd) + (a/2) ‖w + d‖².

The value F(0) of the fit is compared with a lower bound on F. Each u with |u_i| ≤ β,
Σ π_i u_i = 0 (with an intercept) and Σ π_i u_i x_i = 0 (for a = 0) gives a lower bound:

    F(d) ≥ Σ π_i (u_i r_i − u_i²/2) − ‖v − a w‖²/(2a) + a ‖w‖²/2,   v = Σ π_i u_i x_i

(Boyd and Vandenberghe, 2004, section 5.5). For the concomitant scale, u is σ times a vector
whose elements are at most ε in absolute value and have a weighted mean square of at most 1, and
the term −u_i²/2 is absent. The first u is the vector of clipped residuals of the fit, modified
to satisfy these conditions. If the bound from this u is not close enough to F(0), a primal-dual
interior-point method computes better u and d, which either certify the fit or give a lower
objective. All quantities are changes relative to the fit, which avoids cancellation.

Without a penalty, d is restricted to directions in which the features are more than 64 times as
large as the rounding errors of their stored values.
"""

from typing import NamedTuple

import numpy as np

LONG = np.longdouble
EPS = float(np.finfo(float).eps)
NORMAL_MAD = LONG("0.67448975019608174")
# The largest accepted excess of the objective over the minimum, relative to the minimum and in
# addition to rounding errors.
RTOL = 1e-10
# A column adds a direction if its component orthogonal to the earlier directions is more than
# CLEAR times as large as the rounding errors of this component.
CLEAR = 64
MAX_STEPS, MAX_SCALES = 80, 60


class Data(NamedTuple):
    """Rows of positive weight in extended precision; `eps` is the epsilon of the dtype of X."""

    X: np.ndarray
    y: np.ndarray
    share: np.ndarray
    fit_intercept: bool
    eps: float

    @classmethod
    def of(cls, X, y, weight, fit_intercept):
        """Return the data; X is an array or a sparse matrix of float32 or float64."""
        eps = float(np.finfo(X.dtype).eps)
        X = np.asarray(X.toarray() if hasattr(X, "toarray") else X, LONG)
        s = np.ones(len(y)) if weight is None else np.asarray(weight, float)
        share = (s[s > 0] / s.max()).astype(LONG)
        y = np.asarray(y, LONG)[s > 0]
        return cls(X[s > 0], y, share / share.sum(), fit_intercept, eps)


class Fit(NamedTuple):
    """The fit of one target. `epsilon` is None unless the scale is concomitant."""

    coef: np.ndarray
    intercept: float
    beta: float
    scale: float
    objective: float
    loss: str
    alpha: float
    epsilon: float | None = None

    @property
    def factor(self):
        """The documented objective divided by the objective written with the Huber loss."""
        if self.loss == "smooth_l1":
            return 1 / LONG(self.beta)
        return LONG(1) if self.epsilon is None else 1 / LONG(self.scale)


class Verdict(NamedTuple):
    """The documented objective at the fit, and bounds on its minimum and on rounding errors.

    `slack` bounds the rounding error of the reported objective, and `stored` bounds the effect
    of the rounding of the stored coefficients on the objective.
    """

    value: float
    lower: float
    upper: float
    slack: float
    stored: float
    rank: int


def judge(data, fit, rtol=RTOL):
    """Return a Verdict whose bounds are tight enough to detect a relative excess of `rtol`."""
    near = Neighbourhood(data, fit)
    value = near.documented(near.r, near.w, near.sigma)
    reported = LONG(fit.objective)
    slack, stored = near.rounding_of_objective()
    lower, upper = near.lower(np.clip(near.r, -near.beta, near.beta), near.sigma), value
    wanted = reported - rtol * reported - slack
    if lower < wanted:
        found_lower, found_upper = near.minimum(wanted)
        lower, upper = max(lower, found_lower), min(upper, found_upper)
    return Verdict(*map(float, (value, lower, upper, slack, stored)), near.directions.rank)


def is_unique(data, fit):
    """Return whether the rows with |r| < β determine the minimiser."""
    near = Neighbourhood(data, fit)
    inside = np.abs(near.r) < near.beta * (1 - LONG(1e-6))
    if fit.alpha:
        return bool(inside.any()) or not data.fit_intercept
    Q = np.float64(near.directions.Q[inside])
    rank = np.linalg.matrix_rank(Q, tol=1e-8) if Q.size else 0
    return rank == Q.shape[1]


class Neighbourhood:
    """The objective as a function of changes to a fit."""

    def __init__(self, data, fit):
        self.data, self.fit, self.w = data, fit, np.asarray(fit.coef, LONG)
        self.r = data.y - data.X @ self.w - LONG(fit.intercept)
        self.beta, self.sigma = LONG(fit.beta), LONG(fit.scale)
        self.directions = Directions(data)

    # The documented objective

    def documented(self, r, w, sigma):
        """Return the objective by the formula in the docstring of SmoothL1Regressor."""
        fit, share = self.fit, self.data.share
        penalty = LONG(fit.alpha) / 2 * (w @ w)
        if fit.epsilon is None:
            value = share @ huber(r, self.beta)
            return (value if fit.loss == "huber" else value / self.beta) + penalty
        value = sigma / 2 + share @ huber(r, fit.epsilon * sigma) / sigma
        return (value if fit.loss == "huber" else value / LONG(fit.epsilon)) + penalty

    def rounding_of_residuals(self):
        """Return two bounds on the rounding errors of the residuals.

        The first bound is for exact coefficients. The second bound includes the rounding of the
        stored coefficients. The rounding error of a sum of p terms is about √p times that of a
        single term (Higham and Mary, "A new approach to probabilistic rounding error analysis",
        SIAM J. Sci. Comput. 41, 2019).
        """
        data, w = self.data, np.abs(self.w)
        terms = max(2.0, np.sqrt(w.size))
        stored = np.abs(data.X) @ w
        size = np.abs(data.y - data.share @ data.y)
        size += np.abs(data.X - _centre(data, data.X)) @ w
        least = EPS**2 * (np.abs(data.y).max() or 1)
        exact = 32 * EPS * size + terms * EPS * (np.abs(data.y) + stored) + least
        of_coefficients = terms * data.eps * stored + 2 * EPS * abs(LONG(self.fit.intercept))
        return exact, exact + of_coefficients

    def rounding_of_objective(self):
        found, size = [], np.abs(self.r)
        value = self.documented(self.r, self.w, self.sigma)
        for error in self.rounding_of_residuals():
            floor = LONG(0)
            if self.fit.epsilon is not None:
                floor = weighted_median(error, self.data.share)
            moved = self.documented(size + error, self.w, self.sigma) - value
            found.append(moved + 8 * floor)
        slack, stored = found
        penalty = LONG(self.fit.alpha) * (self.w @ self.w)
        return slack, stored + self.data.eps * penalty

    # Bounds on the minimum

    def ridge(self, sigma):
        """Return a, the penalty parameter in the objective written with the Huber loss."""
        alpha, fit = LONG(self.fit.alpha), self.fit
        if fit.loss == "smooth_l1":
            return alpha * (self.beta if fit.epsilon is None else fit.epsilon * sigma)
        return alpha if fit.epsilon is None else alpha * sigma

    def lower(self, u, sigma):
        """Return the lower bound on the documented objective that u gives.

        u is first modified to satisfy the conditions in the module docstring.
        """
        data, fit, share = self.data, self.fit, self.data.share
        if not fit.alpha:
            Q = self.directions.Q
            for _ in range(2):
                u = u - Q @ (Q.T @ (share * u))
        elif data.fit_intercept:
            u = u - share @ u
        if fit.epsilon is None:
            u = u / max(LONG(1), np.abs(u).max() / self.beta)
            value, factor = share @ (u * self.r - u * u / 2), fit.factor
        else:
            u = u / sigma
            u = u / max(LONG(1), np.abs(u).max() / fit.epsilon, np.sqrt(share @ (u * u)))
            factor = LONG(1) if fit.loss == "huber" else 1 / LONG(fit.epsilon)
            value = share @ (u * self.r)
        value = factor * value
        if fit.alpha:
            alpha = LONG(fit.alpha)
            away = factor * ((share * u) @ data.X) - alpha * self.w
            value += alpha / 2 * (self.w @ self.w) - away @ away / (2 * alpha)
        return value

    def minimum(self, wanted):
        """Return bounds on the minimum; stop when the lower bound reaches `wanted`."""
        if self.fit.epsilon is None:
            return self._minimum_at(self.sigma, wanted)[:2]
        lower, upper = LONG(-np.inf), LONG(np.inf)
        sigma, low, high = self.sigma, LONG(0), LONG(np.inf)
        for k in range(MAX_SCALES):
            found_lower, found_upper, u, r, w = self._minimum_at(sigma, LONG(np.inf))
            lower = max(lower, found_lower)
            best = proposal_2(np.abs(r), self.data.share, self.fit.epsilon)
            if best > 0:
                found_upper = min(found_upper, self.documented(r, w, best))
            upper = min(upper, found_upper)
            if lower >= wanted or upper - lower <= 1e-12 * upper:
                break
            # The derivative with respect to σ of the minimum over w has the same sign as
            # 1 − Σ π u²/σ².
            size = np.sqrt(self.data.share @ (u * u))
            low, high = (low, sigma) if size < sigma else (sigma, high)
            sigma = size * (size / sigma)
            if (k % 2 or not low < sigma < high) and low and high < np.inf:
                sigma = np.sqrt(low * high)
            if not low < sigma < high:
                sigma = low * 16 if low else high / 16
        return lower, upper

    def _minimum_at(self, sigma, wanted):
        """Return bounds on the minimum at a fixed scale, and the best u, r and w.

        The interior-point method computes u and r.
        """
        fit, share = self.fit, self.data.share
        beta = self.beta if fit.epsilon is None else fit.epsilon * sigma
        a = self.ridge(sigma)
        Q, B = self.directions.with_ridge(a) if a else (self.directions.Q, None)
        c = np.sqrt(a) * self.w if a else None
        lower, upper, best_u, best = LONG(-np.inf), LONG(np.inf), None, None
        for u, d in InteriorPoint(self.r, Q, share, B, c, beta).points():
            r = self.r - Q @ d
            # Without a penalty, the objective depends on w only through r.
            w = self.w + (B @ d) / np.sqrt(a) if a else LONG(0) * self.w
            bound, value = self.lower(u, sigma), self.documented(r, w, sigma)
            if best_u is None or bound >= lower:
                lower, best_u = bound, u
            if best is None or value <= upper:
                upper, best = value, (r, w)
            if lower >= wanted or upper - lower <= 1e-12 * upper:
                break
        return lower, upper, best_u, *best


class Directions:
    """Orthonormal directions of the features in the inner product Σ π_i a_i b_i."""

    def __init__(self, data):
        self._data, self._root = data, np.sqrt(data.share)
        Z = data.X - _centre(data, data.X)
        self._size = np.sqrt(data.share @ (Z * Z))
        self._Z = Z / np.where(self._size > 0, self._size, 1)
        self._found = None

    @property
    def Q(self):
        """The coordinates of the rows along orthonormal directions that exceed rounding errors.

        With an intercept, the constant is one of the directions.
        """
        if self._found is None:
            self._found = self._certain()
        return self._found

    @property
    def rank(self):
        return self.Q.shape[1] - int(self._data.fit_intercept)

    def _certain(self):
        """Orthogonalise the columns by the Gram–Schmidt method.

        The next column is always the one that exceeds its rounding errors by the largest
        factor.
        """
        data, root = self._data, self._root[:, None]
        A = root * self._Z
        size = np.where(self._size > 0, self._size, 1)
        stored = data.eps * (root * np.abs(data.X) / size)
        basis = [self._root] if data.fit_intercept else []
        # Column j of `rest` is the linear combination of the columns of A whose coefficients
        # are in column j of `made`.
        rest, made = A.copy(), np.eye(A.shape[1], dtype=LONG)
        left = list(np.flatnonzero(self._size > 0))
        while left:
            rounding = np.sqrt(((stored @ np.abs(made[:, left])) ** 2).sum(axis=0))
            norms = np.sqrt((rest[:, left] ** 2).sum(axis=0))
            ratio = norms / np.maximum(rounding, 1e-300)
            k = int(np.argmax(ratio))
            if ratio[k] <= CLEAR:
                break
            j = left.pop(k)
            q = rest[:, j] / norms[k]
            for _ in range(2):
                for b in basis:
                    q = q - b * (b @ q)
            q = q / np.sqrt(q @ q)
            basis.append(q)
            part = q @ rest[:, left]
            made[:, left] -= np.outer(made[:, j] / norms[k], part)
            rest[:, left] -= np.outer(q, part)
        if not basis:
            return np.zeros((len(data.y), 0), LONG)
        return np.column_stack(basis) / root

    def with_ridge(self, a):
        """Return an orthonormal basis of the features, extended by √a times the identity.

        The basis is returned in two parts: for the rows, and for the coefficients.
        """
        data, p = self._data, self._Z.shape[1]
        Z = data.X - _centre(data, data.X)
        stack = np.vstack([self._root[:, None] * Z, np.sqrt(a) * np.eye(p, dtype=LONG)])
        intercept = np.append(self._root, np.zeros(p, LONG))
        basis = [intercept] if data.fit_intercept else []
        for j in np.argsort(-np.float64((stack**2).sum(axis=0))):
            q = stack[:, j] / np.sqrt(stack[:, j] @ stack[:, j])
            for _ in range(3):
                for b in basis:
                    q = q - b * (b @ q)
                q = q / np.sqrt(q @ q)
            basis.append(q)
        Q = np.column_stack(basis)
        n = len(data.y)
        return Q[:n] / self._root[:, None], Q[n:]


class InteriorPoint:
    """Mehrotra's method for minimising Σ π h_β(r − Qd) + ‖c + Bd‖²/2.

    The iterates approach solutions of r − Qd = u + p⁺ − p⁻ and p⁺ (β − u) = μ = p⁻ (β + u),
    where μ → 0. In the code, p⁺ is `above` and p⁻ is `below`. A step takes one factorisation
    and solves for two right-hand sides.
    """

    def __init__(self, r, Q, share, B, c, beta):
        self.unit = max(np.abs(r).max(), beta) or LONG(1)
        self.r, self.Q, self.share, self.B = r / self.unit, Q, share, B
        self.c, beta = None if c is None else c / self.unit, beta / self.unit
        self.d, self.u = np.zeros(Q.shape[1], LONG), np.zeros_like(r)
        start = max(share @ np.abs(self.r), beta / 100, LONG(1e-30))
        self.above, self.below = (np.maximum(sign * self.r, 0) + start for sign in (1, -1))
        # β − u and β + u are stored as separate variables, because subtraction would lose
        # digits.
        self.high, self.low = np.full_like(r, beta), np.full_like(r, beta)

    def points(self):
        """Yield dual and primal points (u, d) that approach the solution."""
        for _ in range(MAX_STEPS):
            yield self.u * self.unit, self.d * self.unit
            mu = self._mean_product(0, 0, 0, 0)
            if not mu > 0:
                return
            self._move(mu)

    def _mean_product(self, t, du, da, db):
        of_high = (self.above + t * da) * (self.high - t * du)
        return self.share @ (of_high + (self.below + t * db) * (self.low + t * du)) / 2

    def _move(self, mu):
        omega = 1 / (1 + self.above / self.high + self.below / self.low)
        H = (self.Q.T * (self.share * omega)) @ self.Q
        L = cholesky(H if self.B is None else H + self.B.T @ self.B)
        zero = LONG(0) * self.r
        _, du, da, db = self._step(L, omega, zero, zero)
        t = self._longest(du, da, db)
        target = mu * (self._mean_product(t, du, da, db) / mu) ** 3
        dd, du, da, db = self._step(L, omega, target + da * du, target - db * du)
        t = min(LONG(1), LONG("0.995") * self._longest(du, da, db))
        self.d, self.u = self.d + t * dd, self.u + t * du
        self.high, self.low = self.high - t * du, self.low + t * du
        self.above, self.below = self.above + t * da, self.below + t * db

    def _step(self, L, omega, of_above, of_below):
        """Return the changes of d, u, p⁺ and p⁻.

        After these changes, p⁺ (β − u) equals `of_above` and p⁻ (β + u) equals `of_below`, to
        first order.
        """
        above, below, high, low, Q = self.above, self.below, self.high, self.low, self.Q
        e = self.r - Q @ self.d - self.u - above + below
        g = e - (of_above / high - above) + (of_below / low - below)
        rhs = Q.T @ (self.share * (self.u + omega * g))
        if self.B is not None:
            rhs = rhs - self.B.T @ (self.c + self.B @ self.d)
        dd = solve(L, rhs)
        du = omega * (g - Q @ dd)
        da, db = (of_above + above * du) / high - above, (of_below - below * du) / low - below
        return dd, du, da, db

    def _longest(self, du, da, db):
        """Return the largest step length, at most 1, after which no variable is negative."""
        t = LONG(1)
        for value, change in (
            (self.above, da),
            (self.below, db),
            (self.high, -du),
            (self.low, du),
        ):
            falls = change < 0
            t = min(t, (-value[falls] / change[falls]).min(initial=LONG(np.inf)))
        return t


def cholesky(H):
    """Return the lower Cholesky factor; a pivot within rounding errors of 0 is set to 1e300."""
    L, k = H.copy(), len(H)
    for j in range(k):
        if L[j, j] > 1e-18 * H[j, j]:
            L[j:, j] /= np.sqrt(L[j, j])
        else:
            L[j:, j] = 0
            L[j, j] = 1e300
        L[j + 1 :, j + 1 :] -= np.outer(L[j + 1 :, j], L[j + 1 :, j])
    return L


def solve(L, b):
    """Return x with L Lᵀ x = b."""
    x = b.copy()
    for j in range(len(x)):
        x[j] /= L[j, j]
        x[j + 1 :] -= L[j + 1 :, j] * x[j]
    for j in range(len(x))[::-1]:
        x[j] = (x[j] - L[j + 1 :, j] @ x[j + 1 :]) / L[j, j]
    return x


# Scales ------------------------------------------------------------------------------------


def scale_bounds(data, fit):
    """Return a lower and an upper bound on the scale of the residuals, and a floor.

    The bounds allow for rounding errors of the residuals. A scale below the floor cannot be
    distinguished from zero.
    """
    near = Neighbourhood(data, fit)
    _, error = near.rounding_of_residuals()
    size, share = np.abs(near.r), data.share
    low, high = np.maximum(size - error, 0), size + error
    floor = 8 * weighted_median(error, share)
    if fit.epsilon is None:
        bounds = [weighted_median(v, share) / NORMAL_MAD for v in (low, high)]
    else:
        bounds = [proposal_2(v, share, LONG(fit.epsilon)) for v in (low, high)]
    return float(bounds[0]), float(bounds[1]), float(floor)


def weighted_median(values, share):
    """Return the weighted median; for integer weights, the median of the repeated values."""
    order = np.argsort(values)
    total = np.cumsum(share[order])
    lower = np.searchsorted(total, LONG("0.5") - 1e-12)
    upper = np.searchsorted(total, LONG("0.5") + 1e-12, side="right")
    return (values[order[lower]] + values[order[min(upper, len(order) - 1)]]) / 2


def proposal_2(size, share, epsilon):
    """Return the σ with Σ π min(r²/σ², ε²) = 1, or 0 (Huber's Proposal 2)."""
    order = np.argsort(size)[::-1]
    size, share = size[order], share[order]
    outside = np.append(LONG(0), np.cumsum(share))[:-1]
    inside = np.cumsum((share * size * size)[::-1])[::-1]
    # If the k rows with the largest |r| are outside (|r| > εσ) and the other rows inside, then
    # σ² = Σ_inside π r² / (1 − ε² Σ_outside π).
    denominator = 1 - LONG(epsilon) ** 2 * outside
    for k in np.flatnonzero(denominator > 0):
        sigma = np.sqrt(inside[k] / denominator[k])
        if size[k] <= epsilon * sigma:
            return sigma
    return LONG(0)


def huber(r, beta):
    size = np.abs(r)
    return np.where(size <= beta, size * size / 2, beta * (size - beta / 2))


def _centre(data, values):
    return data.share @ values if data.fit_intercept else LONG(0) * values[0]
