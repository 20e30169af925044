"""Sparse fits compared with skglm and scikit-learn's Lasso: python -m benchmarks.penalties

The Huber loss at β = 1.345 is minimised with an L1 penalty, which is a given fraction of the
smallest penalty for which all coefficients are zero. The features are correlated, few of them
have an effect, and a tenth of the rows are outliers in y. All fits run in turn in one thread.
SmoothL1Regressor has `tol=1e-8`, and skglm has the largest tolerance for which the relative
duality gap is at most 1e-8. Lasso minimises squared errors; its penalty is the same fraction of
the corresponding smallest penalty for squared errors. The benchmark takes about ten minutes and
writes penalties.md to benchmarks/results/. skglm is omitted if it is not installed. `--quick`
uses a tenth of the rows and features and writes nothing.
"""

import argparse
import os
import time
import warnings
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso, lasso_path
from threadpoolctl import threadpool_limits

from skrobust import SmoothL1Regressor, smooth_l1_path

from . import RESULTS, described, in_seconds, in_turn, machine, say, table, write

try:
    from skglm import GeneralizedLinearEstimator
    from skglm.datafits import Huber
    from skglm.penalties import L1
    from skglm.solvers import AndersonCD
except ImportError:
    GeneralizedLinearEstimator = None

BETA, GAP, CORRELATION = 1.345, 1e-8, 0.5
OURS, SKGLM, LASSO = "SmoothL1Regressor", "skglm", "Lasso"
LARGEST_SECONDS = 120.0


class Case(NamedTuple):
    """The shape of X, the number of features with an effect, and a penalty.

    The penalty is `fraction` times the "largest penalty", which is the smallest one for which
    all coefficients are zero. If `n_alphas` is positive, a path of `n_alphas` penalties is
    computed, from the largest penalty to the penalty of the case. `limits` contains upper
    limits on the time of SmoothL1Regressor divided by that of another estimator.
    """

    n: int
    p: int
    n_true: int
    fraction: float
    limits: dict
    n_alphas: int = 0

    def __str__(self):
        what = f"path of {self.n_alphas} to" if self.n_alphas else "at"
        return f"{self.n:,} × {self.p:,}, {what} {self.fraction:g} of the largest"


CASES = [
    Case(1_000, 10_000, 50, 0.1, {SKGLM: 1.0}),
    Case(20_000, 1_000, 50, 0.1, {SKGLM: 1.0, LASSO: 1.5}),
    Case(20_000, 1_000, 50, 0.01, {SKGLM: 1.0}),
    Case(100_000, 50, 10, 0.1, {SKGLM: 1.0, LASSO: 1.5}),
    Case(20_000, 1_000, 50, 0.01, {LASSO: 1.5}, 100),
    Case(1_000, 10_000, 50, 0.15, {LASSO: 1.0}, 30),
]


class Problem:
    """The data of a case, and the largest penalties for the Huber loss and squared errors."""

    def __init__(self, case, share):
        n, p = int(case.n * share), max(case.n_true * 3, int(case.p * share))
        rng = np.random.default_rng(0)
        X = rng.normal(size=(n, p))
        for j in range(1, p):
            X[:, j] *= np.sqrt(1 - CORRELATION**2)
            X[:, j] += CORRELATION * X[:, j - 1]
        coef = np.zeros(p)
        coef[: 3 * case.n_true : 3] = 1.0
        y = X @ coef + rng.normal(size=n)
        y[: n // 10] += 20.0
        self.X, self.y = np.asfortranarray(X), y
        self.mean = X.mean(axis=0)
        centre = exact_intercept(y)
        c = np.clip(y - centre, -BETA, BETA)
        self.largest = float(np.abs(c @ (X - self.mean)).max()) / n
        self.largest_lasso = float(np.abs((y - y.mean()) @ (X - self.mean)).max()) / n

    def relative_gap(self, coef, alpha):
        """Return the relative duality gap of coefficients, with the optimal intercept."""
        r = self.y - self.X @ coef
        r = r - exact_intercept(r)
        c = np.clip(r, -BETA, BETA)
        value = c @ (r - 0.5 * c) / r.size + alpha * np.abs(coef).sum()
        largest = np.abs(c @ self.X - c.sum() * self.mean).max() / r.size
        u = min(1.0, alpha / largest) * c
        return (value - u @ (self.y - 0.5 * u) / r.size) / value


def exact_intercept(r):
    """Return the b with Σ clip(r − b, ±β) = 0, by Newton's method starting at the median."""
    b = float(np.median(r))
    for _ in range(100):
        total = np.clip(r - b, -BETA, BETA).sum()
        if abs(total) <= 1e-13 * r.size:
            break
        b += total / max(1, np.count_nonzero(np.abs(r - b) <= BETA))
    return b


def ours(problem, alpha, tol=GAP):
    model = SmoothL1Regressor(BETA, loss="huber", alpha=alpha, l1_ratio=1.0, tol=tol)
    return model.fit(problem.X, problem.y)


def skglm(problem, alpha, tol):
    solver = AndersonCD(tol=tol, fit_intercept=True, max_iter=200, max_epochs=50_000)
    model = GeneralizedLinearEstimator(Huber(BETA), L1(alpha), solver)
    return model.fit(problem.X, problem.y)


def skglm_tolerance(problem, alpha):
    """Return the largest tolerance for which skglm's duality gap is at most GAP, or None."""
    for power in range(4, 12):
        tol = alpha * 10.0**-power
        start = time.perf_counter()
        model = skglm(problem, alpha, tol)
        if problem.relative_gap(np.ravel(model.coef_), alpha) <= GAP:
            return tol
        if time.perf_counter() - start > LARGEST_SECONDS:
            return None
    return None


def tasks_of(case, problem):
    """Return the fits to time, and the duality gap and nonzero count of SmoothL1Regressor."""
    alpha, lasso_alpha = problem.largest * case.fraction, problem.largest_lasso * case.fraction
    X, y, tasks = problem.X, problem.y, {}
    if case.n_alphas:
        grid = np.geomspace(problem.largest, alpha, case.n_alphas)
        lasso_grid = np.geomspace(problem.largest_lasso, lasso_alpha, case.n_alphas)
        options = {"beta": BETA, "loss": "huber", "l1_ratio": 1.0, "tol": GAP}
        tasks[OURS] = lambda: smooth_l1_path(X, y, alphas=grid, **options)
        centred, target = np.asfortranarray(X - problem.mean), y - y.mean()
        tasks[LASSO] = lambda: lasso_path(
            centred, target, alphas=lasso_grid, tol=1e-8, max_iter=100_000
        )
        coefs = tasks[OURS]().coefs
        gap = max(problem.relative_gap(w, a) for w, a in zip(coefs.T, grid, strict=True))
        return tasks, gap, int(np.count_nonzero(coefs[:, -1]))
    tasks[OURS] = lambda: ours(problem, alpha)
    if SKGLM in case.limits and GeneralizedLinearEstimator is not None:
        tol = skglm_tolerance(problem, alpha)
        if tol is not None:
            tasks[SKGLM] = lambda: skglm(problem, alpha, tol)
    tasks[LASSO] = lambda: Lasso(lasso_alpha, tol=1e-8, max_iter=100_000).fit(X, y)
    coef = tasks[OURS]().coef_
    return tasks, problem.relative_gap(coef, alpha), int(np.count_nonzero(coef))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the data")
    arguments = parser.parse_args()
    os.environ["NUMBA_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    facts, rows = machine(), []
    warnings.simplefilter("ignore", ConvergenceWarning)
    with threadpool_limits(1):
        for case in CASES:
            say(f"{case} … ")
            problem = Problem(case, 0.1 if arguments.quick else 1.0)
            tasks, gap, n_nonzero = tasks_of(case, problem)
            times = in_turn(tasks, 10.0, least=3, most=7, long=30.0)
            median = {name: float(np.median(found)) for name, found in times.items()}
            cells = [str(case), n_nonzero, f"{gap:.0e}", in_seconds(median[OURS])]
            for name in (SKGLM, LASSO):
                if name not in median:
                    cells += ["–", ""]
                    continue
                ratio, limit = median[OURS] / median[name], case.limits.get(name)
                held = "" if limit is None else "yes" if ratio <= limit else "**no**"
                cells += [f"{in_seconds(median[name])} ({ratio:.2f})", held]
            rows.append(cells)
            print(*cells[1:])
    header = ["case", "nonzeros", "gap", OURS, "skglm (ratio)", "≤ 1"]
    header += ["Lasso (ratio)", "≤ 1.5, wide path ≤ 1"]
    text = (
        "# Sparse fits compared with skglm and Lasso\n\n"
        f"`python -m benchmarks.penalties`: {described(facts)}\n\n"
        "The times are medians; the fits run in turn in one thread. The gap is the relative "
        "duality gap of SmoothL1Regressor, or the largest one along a path, computed "
        "independently of the package. Lasso minimises squared errors, with the same fraction "
        "of its own largest penalty. The ratios in parentheses are the time of "
        "SmoothL1Regressor divided by that of the other estimator.\n\n" + table(header, rows)
    )
    print(text)
    if not arguments.quick:
        write(RESULTS, "penalties.md", text)


if __name__ == "__main__":
    main()
