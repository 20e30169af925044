"""Efficiency under normal errors: python -m benchmarks.efficiency

The efficiency of an estimator is the variance of least squares, which is optimal for normal
errors, divided by the variance of the estimator. It is simulated for HuberRegressor with its
default epsilon and for SmoothL1Regressor with its default threshold and either scale, for many
and for few rows per column, and compared with asymptotic theory. The benchmark takes about half
a minute.
"""

import argparse

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm
from sklearn.linear_model import HuberRegressor
from threadpoolctl import threadpool_limits

from skrobust import SmoothL1Regressor

from . import say, timed

ESTIMATORS = {
    "HuberRegressor(epsilon=1.35)": HuberRegressor(alpha=0.0, max_iter=1000),
    'SmoothL1Regressor(scale="concomitant")': SmoothL1Regressor(scale="concomitant"),
    "SmoothL1Regressor()": SmoothL1Regressor(),
}
EPSILON, EPSILON_AUTO, MADS_AUTO = 1.35, 1.5960, 1.345
SHAPES = [(2000, 10), (200, 20), (100, 20), (50, 20)]
HEADER = f"{'':40}{'scale/sigma':>12}{'threshold/sigma':>17}{'efficiency':>13}"


def mean_clipped_square(c):
    """Return E min(z², c²) for standard normal z."""
    return 1 - 2 * norm.sf(c) - 2 * c * norm.pdf(c) + 2 * c**2 * norm.sf(c)


def asymptotic_efficiency(c):
    """Return (E ψ')² / E ψ² for Huber's ψ, normal errors and the threshold c in units of σ."""
    return (1 - 2 * norm.sf(c)) ** 2 / mean_clipped_square(c)


def concomitant_scale(epsilon):
    """Return the limit of σ̂ / σ for N(0, σ²) errors, where σ̂ is the concomitant scale.

    The derivative of the objective with respect to σ̂ is zero if E min(r² / σ̂², ε²) = 1. Hence
    σ̂ < σ for every finite ε.
    """
    return brentq(lambda s: mean_clipped_square(epsilon * s) / s**2 - 1, 0.01, 1)


def print_theory():
    print("Asymptotic theory (infinitely many rows per column)\n")
    print(HEADER)
    scales = concomitant_scale(EPSILON), concomitant_scale(EPSILON_AUTO), 1.0
    factors = EPSILON, EPSILON_AUTO, MADS_AUTO
    for name, scale, factor in zip(ESTIMATORS, scales, factors, strict=True):
        print_row(name, scale, factor * scale, asymptotic_efficiency(factor * scale))


def print_row(name, scale, threshold, efficiency, error=None):
    plus_minus = "" if error is None else f" ± {error:.3f}"
    print(f"{name:40}{scale:12.3f}{threshold:17.3f}{efficiency:13.3f}{plus_minus}")


def simulate(n, p, n_replications, seed=0):
    """Return the squared errors of least squares and the results of each estimator.

    The results are the squared error, the scale and the threshold in each replication.
    """
    rng = np.random.default_rng(seed)
    least_squares = np.empty(n_replications)
    results = {name: np.empty((n_replications, 3)) for name in ESTIMATORS}
    for i in range(n_replications):
        # The true coefficients are zero, without loss of generality, because the estimators are
        # equivariant. The estimates then equal their errors.
        X, y = rng.normal(size=(n, p)), rng.normal(size=n)
        centred = X - X.mean(axis=0)
        least_squares[i] = np.sum(np.linalg.lstsq(centred, y, rcond=None)[0] ** 2)
        for name, estimator in ESTIMATORS.items():
            estimator.fit(X, y)
            threshold = getattr(estimator, "beta_", EPSILON * estimator.scale_)
            squared_error = np.sum(estimator.coef_**2)
            results[name][i] = squared_error, estimator.scale_, threshold
    return least_squares, results


def print_simulation(n, p, n_replications):
    say(f"\nn/p = {n / p:g} (n = {n}, p = {p}), {n_replications} replications ... ")
    (least_squares, results), seconds = timed(simulate, n, p, n_replications)
    print(f"{seconds:.0f} s\n\n{HEADER}")
    for name, result in results.items():
        squared_error, scale, threshold = result.T
        efficiency = least_squares.mean() / squared_error.mean()
        # The standard error of a ratio of means, to first order.
        spread = np.std(least_squares - efficiency * squared_error)
        error = spread / squared_error.mean() / np.sqrt(n_replications)
        print_row(name, scale.mean(), threshold.mean(), efficiency, error)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replications", type=int, default=1000)
    n_replications = parser.parse_args().replications
    print_theory()
    with threadpool_limits(1):  # one thread is fastest for small problems
        for n, p in SHAPES:
            print_simulation(n, p, n_replications)
    print("\n± is one standard error of the simulation.")


if __name__ == "__main__":
    main()
