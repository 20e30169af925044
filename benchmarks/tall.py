"""Fit time for many rows compared with least squares: python -m benchmarks.tall

SmoothL1Regressor (with a fixed threshold, with its defaults, and with the concomitant scale),
Ridge(solver="cholesky") and LinearRegression are fitted in turn to the same data in one
process, so that other programs affect all of the times. The columns have equal scales in the
first part, and scales from 1 to 1000 in the second part. In the first part, HuberRegressor is
fitted once and compared with the concomitant fit, which has the same objective. The benchmark
takes one to two minutes and uses three times as much memory as X, whose size is 400 MB by
default.

The benchmark should be run on an idle machine. If other programs run, BLAS threads wait for
each other, which slows down least squares more than SmoothL1Regressor. The printed times of the
individual runs show whether this happened.
"""

import argparse
import os

import numpy as np
from sklearn.linear_model import HuberRegressor, LinearRegression, Ridge

from skrobust import SmoothL1Regressor

from . import say, timed

CONCOMITANT = "SmoothL1(1.35, concomitant)"


def make_data(n_rows, n_features, seed=0):
    """Return normal columns, and y with errors of which a tenth are multiplied by 10."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, n_features))
    error = rng.normal(size=n_rows)
    error[rng.random(n_rows) < 0.1] *= 10
    return X, X @ rng.normal(size=n_features) + error


def candidates():
    return {
        "Ridge(cholesky)": Ridge(solver="cholesky"),
        "LinearRegression": LinearRegression(),
        "SmoothL1(beta=1.345)": SmoothL1Regressor(1.345),
        "SmoothL1(), beta auto": SmoothL1Regressor(),
        CONCOMITANT: SmoothL1Regressor(1.35, scale="concomitant", loss="huber"),
    }


def fit_in_turn(X, y, n_runs):
    """Fit the estimators in turn, several times; return the estimators and their times."""
    estimators = candidates()
    times = {name: [] for name in estimators}
    for run in range(n_runs):
        say(f"  run {run + 1} of {n_runs}, in the order of the table:")
        for name, estimator in estimators.items():
            _, seconds = timed(estimator.fit, X, y)
            times[name].append(seconds)
            say(f" {seconds:.3f}")
        print(" s")
    return estimators, times


def print_table(estimators, times):
    """Print a table; ratios of medians and of fastest runs differ if the machine was busy."""
    ridge, least_squares = list(times.values())[:2]
    say(f"\n  {'':28}{'median':>8}{'/Ridge':>8}{'/Linear':>8}{'fastest':>10}{'/Ridge':>8}")
    print(f"{'passes':>8}{'suboptimality':>15}")
    for name, estimator in estimators.items():
        median, fastest = np.median(times[name]), min(times[name])
        say(f"  {name:28}{median:8.3f}{median / np.median(ridge):8.2f}")
        say(f"{median / np.median(least_squares):8.2f}")
        say(f"{fastest:10.3f}{fastest / min(ridge):8.2f}")
        if isinstance(estimator, SmoothL1Regressor):
            passes = sum(stage["n_eval"] for stage in estimator.history_)
            say(f"{passes:8}{estimator.optimality_:15.0e}")
        print()
    print()


def huber_regressor(X, y, concomitant, ours):
    """Fit HuberRegressor to well-scaled columns, with the objective of `concomitant`."""
    say("HuberRegressor(alpha=0, max_iter=1000), the same objective ... ")
    huber, seconds = timed(HuberRegressor(alpha=0.0, max_iter=1000).fit, X, y)
    difference = np.abs(huber.coef_ - concomitant.coef_).max()
    print(f"{seconds:.2f} s, {huber.n_iter_} iterations")
    print(f"  {seconds / ours:.0f} times the median of {CONCOMITANT};", end=" ")
    print(f"the coefficients differ by at most {difference:.0e}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--features", type=int, default=100)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="without HuberRegressor")
    arguments = parser.parse_args()

    print(f"{arguments.rows:,} rows × {arguments.features} features")
    if hasattr(os, "getloadavg"):  # not on Windows
        print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} before the start")
    X, y = make_data(arguments.rows, arguments.features)
    say("First fits to some of the rows, which compile the kernels and are not compared ... ")
    _, seconds = timed(lambda: [e.fit(X[:20_000], y[:20_000]) for e in candidates().values()])
    print(f"{seconds:.1f} s\n")

    print("Columns of equal scales")
    estimators, times = fit_in_turn(X, y, arguments.runs)
    print_table(estimators, times)
    if not arguments.quick:
        huber_regressor(X, y, estimators[CONCOMITANT], np.median(times[CONCOMITANT]))

    print("Columns with scales from 1 to 1000")
    X *= np.geomspace(1, 1000, arguments.features)
    unequal, unequal_times = fit_in_turn(X, y, arguments.runs)
    print_table(unequal, unequal_times)
    print("  Ratio of medians (of fastest runs), unequal scales / equal scales")
    for name, equal in times.items():
        medians = np.median(unequal_times[name]) / np.median(equal)
        print(f"  {name:28}{medians:8.2f}  ({min(unequal_times[name]) / min(equal):.2f})")


if __name__ == "__main__":
    main()
