"""How many cases hypothesis tries, and the certificate that a fit is the optimum it says."""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from scipy.optimize import lsq_linear

# "short" is part of every run and always tries the same cases. The other is
# pytest tests/test_properties.py --hypothesis-profile=long
_EVERY = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("short", max_examples=60, derandomize=True, **_EVERY)
settings.register_profile("long", max_examples=3000, print_blob=True, **_EVERY)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))

EPS = np.finfo(float).eps


class Certificate:
    """What can be said of a fitted model of one target without the package's own code.

    The fit is the minimum if and only if Σ s_i u_i (1, x_i) = a S (0, w), u_i = clip(r_i, ±β).
    Residuals are known to a few roundings of the terms they are made of, and so u_i is known
    to lie in an interval. `distance` is the least length of the gradient with all u_i in
    theirs, in coordinates in which the quadratic model is the identity, over the root mean
    square of u. At a tiny threshold this is the optimality condition of a linear program.
    """

    def __init__(self, est, X, y, weight=None):
        X, y = np.asarray(X, np.longdouble), np.asarray(y, np.longdouble)
        s = np.ones(len(y)) if weight is None else np.asarray(weight, float)
        X, y, s = X[s > 0], y[s > 0], np.longdouble(s[s > 0] / s.max())
        w = np.asarray(est.coef_, np.longdouble)
        self.est, self.weight, self.coef = est, s, w
        fitted = X @ w + est.intercept_
        self.residual = y - fitted
        self.centre = (s @ X / s.sum()) * bool(est.fit_intercept)
        # The intercept is the difference of a location of y and one of X.
        moved = abs(est.intercept_) + np.median(np.abs(y)) * bool(est.fit_intercept)
        moved = np.abs(y) + moved + np.abs(self.centre) @ np.abs(w)
        eps = np.finfo(est.coef_.dtype).eps
        self.rounding = 32 * (EPS * moved + eps * (np.abs(X) @ np.abs(w)))
        self.beta = np.longdouble(est.beta_)
        self.ridge = np.longdouble(est.alpha) * self._ratio()
        self.X = X

    def _ratio(self):
        """The ridge term of the objective in the form mean h_β + a‖w‖²/2 is α times this."""
        est = self.est
        if est.loss == "smooth_l1":
            return self.beta
        return np.longdouble(est.scale_) if est.scale == "concomitant" else 1.0

    def objective(self):
        """The objective of the user guide, and how far rounding may move it."""
        est, r, s, beta = self.est, np.abs(self.residual), self.weight, self.beta

        def value(r):
            loss = np.where(r <= beta, r * r / (2 * beta), r - beta / 2)
            return (s * loss).sum() / s.sum()

        penalty = np.longdouble(est.alpha) / 2 * (self.coef**2).sum()
        found, error = value(r), value(r + self.rounding) - value(r)
        factor = beta if est.loss == "huber" else np.longdouble(1.0)
        if est.scale == "concomitant":
            factor = beta / est.scale_ if est.loss == "huber" else factor
            found += np.longdouble(est.scale_) ** 2 / (2 * beta)
        return found * factor + penalty, error * factor

    def scale_bounds(self):
        """What the estimated scale of residuals may be, as far as rounding leaves it open."""
        r, s, est = np.abs(self.residual), self.weight, self.est
        low, high = np.maximum(r - self.rounding, 0), r + self.rounding
        if est.scale != "concomitant":
            return _median(low, s) / 0.67448975, _median(high, s) / 0.67448975
        epsilon = self.beta / np.longdouble(est.scale_)
        return _proposal_2(low, s, epsilon), _proposal_2(high, s, epsilon)

    def distance(self):
        s, X = self.weight, self.X
        root = np.sqrt(s / s.sum())
        Z = X - self.centre
        scale = np.sqrt((root * root) @ (Z * Z))
        constant = scale <= 8 * EPS * np.abs(self.centre)
        if self.ridge == 0:
            Z, scale = Z[:, ~constant], scale[~constant]
        w = self.coef[~constant] if self.ridge == 0 else self.coef
        # A penalised column of no spread is all penalty.
        unit = np.sqrt(scale**2 + self.ridge)
        if self.est.fit_intercept:
            Z, unit = np.column_stack([np.ones(len(Z)), Z]), np.append(1.0, unit)
            w = np.append(0.0, w)
        ridge = np.full(w.size, np.sqrt(self.ridge))
        ridge[: int(self.est.fit_intercept)] = 0
        A = np.vstack([root[:, None] * Z / unit, np.diag(ridge / unit)]).astype(float)
        U, sigma, _ = np.linalg.svd(A, full_matrices=False)
        U = U[:, sigma > 1e-11 * sigma.max(initial=0.0)]
        if not U.size:
            return 0.0
        r, error, beta = self.residual, self.rounding, self.beta
        u = [np.clip(r + e, -beta, beta) * root for e in (0, -error, error)]
        size = np.sqrt((u[0] ** 2).sum()) or beta
        middle, low, high = (np.float64(part / size) for part in u)
        rest = np.float64(-ridge * w / size) @ U[len(r) :]
        slack = 8 * EPS * np.abs(np.float64(ridge * w / size)).sum()
        found = np.linalg.norm(middle @ U[: len(r)] + rest)
        free = low < high
        if found > 1e-7 + slack and free.any():
            target = -(rest + middle[~free] @ U[: len(r)][~free])
            bounds = low[free], high[free]
            best = lsq_linear(U[: len(r)][free].T, target, bounds, "bvls", 1e-18, max_iter=1000)
            found = np.sqrt(2 * best.cost)
            middle[free] = best.x
        self.dual = middle * size / root
        return max(0.0, float(found) - slack)

    def gap(self):
        """How far the objective is above its minimum at most, relative to it; α > 0.

        For any |u_i| ≤ β with Σ s_i u_i = 0 it is no more than, by duality and with v = Σ s u x/S,
        Σ s (h_β(r) − u r + u²/2) / S + a‖w − v/a‖²/2.
        """
        s, r, beta, total = self.weight, self.residual, self.beta, self.weight.sum()
        r_clipped, found = np.clip(r, -beta, beta), []
        for u in (r_clipped, np.clip(self.dual, -beta, beta)):
            u, excess = u.copy(), (s @ u) * bool(self.est.fit_intercept)
            # What is over is taken from the rows where it costs least.
            for i in np.argsort(np.abs(r)):
                moved = np.clip(u[i] - excess / s[i], -beta, beta)
                excess += s[i] * (moved - u[i])
                u[i] = moved
            own = r_clipped * (r - r_clipped / 2) - u * r + u * u / 2
            w = self.coef - (s * u) @ (self.X - self.centre) / total / self.ridge
            found.append(s @ own / total + self.ridge / 2 * (w * w).sum())
        loss = s @ (r_clipped * (r - r_clipped / 2)) / total
        return min(found) / (loss + self.ridge / 2 * (self.coef**2).sum())


def _median(values, weight):
    order = np.argsort(values)
    cumulated = np.cumsum(weight[order]) / weight.sum()
    near = 1e-12
    return (
        values[order[np.searchsorted(cumulated, 0.5 - near)]]
        + values[order[np.searchsorted(cumulated, 0.5 + near, side="right")]]
    ) / 2


def _proposal_2(size, weight, epsilon):
    """σ where Σ s min(r²/σ², ε²) = Σ s, by bisection; 0 where there is none."""
    low, high = np.longdouble(0), size.max()
    if weight[size > 0].sum() * epsilon**2 <= weight.sum() * (1 + 1e-12):
        return low
    for _ in range(200):
        middle = np.sqrt(low * high) if low else high / 2**32
        if weight @ np.minimum((size / middle) ** 2, epsilon**2) > weight.sum():
            low = middle
        else:
            high = middle
        if high <= low * (1 + 1e-15):
            break
    return low


@pytest.fixture(scope="session")
def certificate():
    return Certificate
