"""Hypothesis profiles, a certificate of optimality, and a factory for objectives."""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from scipy import sparse
from scipy.optimize import lsq_linear

import skrobust._training_data
from block_engine import BlockEngine
from skrobust._engines import as_engine
from skrobust._engines.threads import ThreadTeam
from skrobust._model.linear_loss import LinearLoss, RegressionData
from skrobust._model.loss import HUBER
from skrobust._model.penalty import Ridge
from skrobust._model.whitening import Whitened
from skrobust._sampling import whiten, whole_problem
from skrobust._solvers import choose

# The default profile, "short", always tries the same cases. The "long" profile tries more
# cases, which differ between runs:
# pytest tests/test_properties.py --hypothesis-profile=long
_EVERY = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("short", max_examples=60, derandomize=True, **_EVERY)
settings.register_profile("long", max_examples=2000, print_blob=True, **_EVERY)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))

pytest.register_assert_rewrite("problems")

EPS = np.finfo(float).eps


class Certificate:
    """Checks of a fitted single-target model that do not use the package's code.

    The coefficients (b, w) minimise the mean Huber loss + a‖w‖²/2 if and only if
    Σ s_i u_i (1, x_i) = a S (0, w), where u_i = clip(r_i, ±β), s_i are the sample weights, and
    S is their sum. Since the residuals are known up to the rounding errors of their terms, each
    u_i lies in a known interval. `distance` is the smallest norm of the gradient over these
    intervals, divided by the weighted root mean square of u. The norm is taken in coordinates
    in which the penalised least-squares Hessian is the identity. Without a penalty, the
    condition above tends to the optimality condition for median regression as the threshold
    tends to zero.
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
        # The intercept is a location of y minus the linear predictor at a location of X, and
        # has the rounding errors of both.
        moved = abs(est.intercept_) + np.median(np.abs(y)) * bool(est.fit_intercept)
        moved = np.abs(y) + moved + np.abs(self.centre) @ np.abs(w)
        eps = np.finfo(est.coef_.dtype).eps
        self.rounding = 32 * (EPS * moved + eps * (np.abs(X) @ np.abs(w)))
        self.beta = np.longdouble(est.beta_)
        self.ridge = np.longdouble(est.alpha) * self._ratio()
        self.X = X

    def _ratio(self):
        """Return a / alpha, where a/2 ‖w‖² is the penalty added to the mean Huber loss."""
        est = self.est
        if est.loss == "smooth_l1":
            return self.beta
        return np.longdouble(est.scale_) if est.scale == "concomitant" else 1.0

    def objective(self):
        """Return the documented objective and a bound on its rounding error."""
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
        """Return lower and upper bounds on the scale, given the rounding errors of r."""
        r, s, est = np.abs(self.residual), self.weight, self.est
        low, high = np.maximum(r - self.rounding, 0), r + self.rounding
        if est.scale != "concomitant":
            return _median(low, s) / 0.67448975, _median(high, s) / 0.67448975
        epsilon = self.beta / np.longdouble(est.scale_)
        return _proposal_2(low, s, epsilon), _proposal_2(high, s, epsilon)

    def _whitened(self):
        """Return an orthonormal basis of the column space of the stacked data and penalty rows.

        Also return the square roots of the normalised weights, the diagonal of the penalty
        rows, the coefficients, the centred columns, and the changes in the coefficients along
        the basis vectors. Without a penalty, columns that are constant up to rounding are left
        out.
        """
        s, intercept = self.weight, int(self.est.fit_intercept)
        root = np.sqrt(s / s.sum())
        Z = self.X - self.centre
        scale = np.sqrt((root * root) @ (Z * Z))
        w = self.coef
        if self.ridge == 0:
            kept = scale > 8 * EPS * np.abs(self.centre)
            Z, scale, w = Z[:, kept], scale[kept], w[kept]
        # For a constant column, whose scale is 0, the penalty alone determines the column's
        # unit.
        unit = np.sqrt(scale**2 + self.ridge)
        ridge = np.full(w.size, np.sqrt(self.ridge))
        if intercept:
            Z, unit = np.column_stack([np.ones(len(Z)), Z]), np.append(1.0, unit)
            w, ridge = np.append(0.0, w), np.append(0.0, ridge)
        A = np.vstack([root[:, None] * Z / unit, np.diag(ridge / unit)])
        U, sigma, V = np.linalg.svd(A.astype(float), full_matrices=False)
        kept = sigma > 1e-11 * sigma.max(initial=0.0)
        steps = V[kept].T / sigma[kept] / unit[:, None]
        return U[:, kept], root, ridge, w, Z, steps

    def distance(self):
        U, root, ridge, w, *_ = self._whitened()
        n, r, error, beta = len(root), self.residual, self.rounding, self.beta
        if not U.size:
            return 0.0
        u = [np.clip(r + e, -beta, beta) * root for e in (0, -error, error)]
        size = np.sqrt((u[0] ** 2).sum()) or beta
        middle, low, high = (np.float64(part / size) for part in u)
        rest = np.float64(-ridge * w / size) @ U[n:]
        slack = 8 * EPS * np.abs(np.float64(ridge * w / size)).sum()
        found = np.linalg.norm(middle @ U[:n] + rest)
        free = low < high
        if found > 1e-7 + slack and free.any():
            wanted = -(rest + middle[~free] @ U[:n][~free])
            best = lsq_linear(
                U[:n][free].T, wanted, (low[free], high[free]), "bvls", 1e-18, max_iter=1000
            )
            found = np.sqrt(2 * best.cost)
        return max(0.0, float(found) - slack)

    def descent(self):
        """Return the largest relative decrease in the objective along a few directions.

        The directions are the gradient, the whitened axes, and directions that change none or
        only one of the residuals between −β and β. At a vertex, where at least as many
        residuals are zero as there are coefficients, one of the directions that change a single
        residual is a descent direction unless the vertex is the minimum.
        """
        U, root, ridge, w, Z, steps = self._whitened()
        r, beta = self.residual, self.beta
        gradient = (np.clip(r, -beta, beta) * root) @ U[: len(r)] - (ridge * w) @ U[len(r) :]
        inside = np.flatnonzero(np.abs(r) <= beta + self.rounding)
        moves = np.float64(Z @ steps)
        flat = []
        for left_out in [None, *inside[:12]]:
            V = np.linalg.svd(moves[inside[inside != left_out]])[2]
            flat.append(V[-1])
        directions = np.vstack([np.eye(U.shape[1]), gradient, *flat])

        def value(r, w):
            size = np.minimum(np.abs(r), beta)
            loss = size * (np.abs(r) - size / 2)
            return (root * root) @ loss + ((ridge * w) ** 2).sum() / 2

        start, lengths = value(r, w), np.logspace(-16, 2, 55) * np.sqrt(np.mean(r * r))
        lowest = start
        for direction in directions / np.linalg.norm(directions, axis=1)[:, None]:
            step = steps @ direction
            change = Z @ step
            for t in [*lengths, *-lengths]:
                lowest = min(lowest, value(r - t * change, w + t * step))
        return float((start - lowest) / start) if start else 0.0


def _median(values, weight):
    order = np.argsort(values)
    cumulated = np.cumsum(weight[order]) / weight.sum()
    near = 1e-12
    return (
        values[order[np.searchsorted(cumulated, 0.5 - near)]]
        + values[order[np.searchsorted(cumulated, 0.5 + near, side="right")]]
    ) / 2


def _proposal_2(size, weight, epsilon):
    """Return the solution σ of Σ s min(r²/σ², ε²) = Σ s, or 0 if there is none."""
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


def _make_objective(
    X, y, weight=None, *, alpha=0.0, per_threshold=False, threshold=1.0, fit_intercept=True
):
    """Return the mean Huber loss plus a ridge penalty, as a function of whitened coordinates θ.

    The whitening is computed for least squares on all rows. The penalty is alpha/2 ‖w‖²,
    multiplied by the threshold if `per_threshold` is True. Unlike in a fit, y is not rescaled.
    """
    engine = as_engine(X, ThreadTeam())
    problem = whole_problem(engine, weight, fit_intercept, choose(engine, "auto"))
    data = RegressionData.of(problem.engine, y, weight, fit_intercept, problem.gram)
    penalty = Ridge.of_strength(alpha, problem.engine) if alpha else None
    linear = LinearLoss(data, HUBER, penalty, threshold, per_threshold)
    diagonal = np.zeros(problem.engine.p + 1)
    if linear.penalty is not None:
        diagonal = linear.penalty.hessian_diagonal(diagonal)
    return Whitened(linear, whiten(problem, diagonal[1:]))


@pytest.fixture(scope="session")
def make_objective():
    return _make_objective


@pytest.fixture(params=["array", pytest.param("blocks", marks=pytest.mark.slow)])
def each_engine(request, monkeypatch):
    """Run a test twice, with a dense X in a single array and with the same X in blocks."""
    if request.param == "blocks":

        def as_engine(X, team):
            return engine_of(X, team) if sparse.issparse(X) else BlockEngine(X, team)

        engine_of = skrobust._training_data.as_engine
        monkeypatch.setattr(skrobust._training_data, "as_engine", as_engine)
