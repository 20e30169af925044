"""Correct digits on ill-conditioned least-squares problems: python -m benchmarks.digits

The problems are NIST's linear regression data sets with certified coefficients
(https://www.itl.nist.gov/div898/strd), and problems with polynomials, a Hilbert matrix and
timestamps, whose coefficients are computed in exact arithmetic. Of the NIST data sets, Longley
is taken from statsmodels, Filip is in filip.csv, and the others are computed from their
formulas. SmoothL1Regressor has a threshold above all residuals, and HuberRegressor has a large
epsilon, so that both minimise the sum of squares. The number of digits is −log10 of the largest
relative error of a coefficient. The benchmark takes a second.
"""

import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy.linalg import hilbert
from sklearn.linear_model import HuberRegressor, LinearRegression

from skrobust import SmoothL1Regressor

# Deviations of y from the polynomial in Wampler3, 4 and 5, up to a factor. They are orthogonal
# to all polynomials of degree at most 5.
_DEVIATIONS = np.array([759, -2048, 2048, -2048, 2523, -2048, 2048, -2048, 1838, -2048, 2048])
_DEVIATIONS = np.concatenate([_DEVIATIONS, _DEVIATIONS[-2::-1]])


def _wampler(factor, base=1.0):
    x = np.arange(21.0)
    powers = np.vander(x, 6, increasing=True)
    certified = base ** np.arange(6)
    return powers[:, 1:], powers @ certified + factor * _DEVIATIONS, certified


def _longley():
    from statsmodels.datasets import longley

    data = longley.load_pandas()
    certified = [-3482258.63459582, 15.0618722713733, -0.0358191792925910, -2.02022980381683]
    certified += [-1.03322686717359, -0.0511041056535807, 1829.15146461355]
    return data.exog.to_numpy(), data.endog.to_numpy(), np.array(certified)


def _filip():
    y, x = np.loadtxt(Path(__file__).with_name("filip.csv"), delimiter=",", unpack=True)
    certified = [-1467.48961422980, -2772.17959193342, -2316.37108160893, -1127.97394098372]
    certified += [-354.478233703349, -75.1242017393757, -10.8753180355343, -1.06221498588947]
    certified += [-0.0670191154593408, -0.00246781078275479, -0.0000402962525080404]
    return np.vander(x, 11, increasing=True)[:, 1:], y, np.array(certified)


def _exact(X, y, intercept=True):
    """Return the least-squares coefficients, computed in rational arithmetic."""
    rows = [[Fraction(1)] * intercept + [Fraction(v) for v in row] for row in X.tolist()]
    y, k = [Fraction(v) for v in y.tolist()], len(rows[0])
    A = [
        [sum(r[i] * r[j] for r in rows) for j in range(k)]
        + [sum(r[i] * v for r, v in zip(rows, y, strict=True))]
        for i in range(k)
    ]
    for i in range(k):
        A[i] = [v / A[i][i] for v in A[i]]
        for j in range(k):
            if j != i:
                A[j] = [a - A[j][i] * b for a, b in zip(A[j], A[i], strict=True)]
    return np.array([float(row[-1]) for row in A])


def _solved(X, seed=0):
    y = X @ np.ones(X.shape[1]) + np.random.default_rng(seed).normal(size=len(X))
    return X, y, _exact(X, y)


def _timestamps():
    t = 1.7e12 + np.arange(300) * 8.64e7
    y = 2.0 + 1e-9 * (t - t[0]) + np.random.default_rng(0).normal(size=t.size)
    return t[:, None], y, _exact(t[:, None], y)


def _no_intercept(x, y):
    X, y = np.array(x, float)[:, None], np.array(y, float)
    return X, y, _exact(X, y, intercept=False)


# Functions without arguments that return X, y and the true least-squares coefficients. The
# first coefficient is the intercept if there is one.
PROBLEMS = {
    "Longley": _longley,
    "Filip": _filip,
    "Wampler1": lambda: _wampler(0),
    "Wampler2": lambda: _wampler(0, 0.1),
    "Wampler3": lambda: _wampler(1),
    "Wampler4": lambda: _wampler(100),
    "Wampler5": lambda: _wampler(10_000),
    "NoInt1": lambda: _no_intercept(range(60, 71), range(130, 141)),
    "NoInt2": lambda: _no_intercept([4, 5, 6], [3, 4, 4]),
    "Hilbert 10 × 6": lambda: _solved(hilbert(10)[:, :6]),
    "x, …, x⁸ on 0, …, 39": lambda: _solved(np.vander(np.arange(40.0), 9)[:, :-1]),
    "x, …, x⁹ on 0 … 1": lambda: _solved(np.vander(np.linspace(0, 1, 60), 10)[:, :-1]),
    "timestamps in ms": _timestamps,
}

# Functions that return an estimator, given y.
ESTIMATORS = {
    "SmoothL1Regressor": lambda y: SmoothL1Regressor(1e6 * np.abs(y).max()),
    "LinearRegression": lambda y: LinearRegression(),
    "HuberRegressor": lambda y: HuberRegressor(epsilon=1e6, alpha=0.0, max_iter=10_000),
}


def digits(estimator, X, y, certified):
    """Return −log10 of the largest relative error of a coefficient, clipped to [0, 16].

    The result is 0 if the fit raises a ValueError.
    """
    estimator.set_params(fit_intercept=len(certified) > X.shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            estimator.fit(X, y)
        except ValueError:
            return 0.0
    found = np.append(estimator.intercept_, estimator.coef_)[-len(certified) :]
    error = np.abs(found / certified - 1).max()
    return min(16.0, max(0.0, -np.log10(max(error, 1e-16))))


def main():
    # These imports are local, because the tests load this file by its path, outside the
    # package.
    from . import RESULTS, described, machine, table, write

    facts, rows = machine(), []
    for name, problem in PROBLEMS.items():
        X, y, certified = problem()
        found = [digits(make(y), X, y, certified) for make in ESTIMATORS.values()]
        rows.append([name, *(f"{value:.1f}" for value in found)])
    heading = "# Correct digits of the worst coefficient\n\n`python -m benchmarks.digits`: "
    text = heading + described(facts) + "\n\n" + table(["", *ESTIMATORS], rows)
    print(text)
    write(RESULTS, "digits.md", text)


if __name__ == "__main__":
    main()
