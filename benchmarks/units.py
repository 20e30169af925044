"""Coefficients of fits to columns in different units: python -m benchmarks.units

Three estimators are fitted to the same columns in different units: HuberRegressor,
SmoothL1Regressor with the same (concomitant) objective, and SmoothL1Regressor with its
defaults. For some units, HuberRegressor silently returns wrong coefficients. The benchmark
takes a few seconds.
"""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import HuberRegressor

from skrobust import SmoothL1Regressor

COEF = np.array([1.0, 2.0, 3.0])
ESTIMATORS = {
    "HuberRegressor(alpha=0)": HuberRegressor(alpha=0.0),
    'SmoothL1Regressor(1.35, scale="concomitant")': SmoothL1Regressor(
        1.35, scale="concomitant"
    ),
    "SmoothL1Regressor()": SmoothL1Regressor(),
}


def main():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 3))
    y = X @ COEF + rng.normal(scale=0.1, size=1000)
    y[:50] += 100
    print(
        "The true coefficients are 1, 2 and 3. There are 1,000 rows with errors of standard "
        "deviation 0.1, and 100 is added to y in 5 % of the rows."
    )
    cases = {
        "original": (X, 1.0),
        "last column times 1e6": (X * [1, 1, 1e6], np.array([1, 1, 1e6])),
        "last column times 1e-6": (X * [1, 1, 1e-6], np.array([1, 1, 1e-6])),
        "1e4 added to all columns": (X + 1e4, 1.0),
        "1e8 added to all columns": (X + 1e8, 1.0),
    }
    for case, (features, unit) in cases.items():
        print(f"\nColumns: {case}\n")
        print(f"  {'':44}{'coefficients × unit':>28}{'iterations':>12}  converged")
        for name, estimator in ESTIMATORS.items():
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                estimator.fit(features, y)
            warned = any(issubclass(w.category, ConvergenceWarning) for w in caught)
            coef = "".join(
                f"{c:9.2g}" if abs(c) < 0.001 else f"{c:9.3f}" for c in estimator.coef_ * unit
            )
            converged = "no (warning)" if warned else "yes"
            print(f"  {name:44}{coef}{estimator.n_iter_:13}  {converged}", flush=True)


if __name__ == "__main__":
    main()
