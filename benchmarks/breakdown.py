"""Breakdown of the fits under contamination: python -m benchmarks.breakdown

The first table is for outliers in y that are all on the same side of the model. With default
parameters, SmoothL1Regressor breaks down when between 30 and 33 % of the rows are outliers. RLM
from statsmodels, which has the same estimating equations and also starts from least squares,
breaks down in the same range. SmoothL1Regressor tolerates more outliers with about half of the
default threshold, with a threshold selected by cross-validation, or with a fixed threshold that
is known beforehand. The second table is for outliers in X (leverage points), of which no Huber
fit tolerates many. MMRegressor tolerates the outliers in both tables. The benchmark takes a
minute and requires statsmodels.
"""

import numpy as np
import statsmodels.api as sm
from sklearn.linear_model import LinearRegression
from threadpoolctl import threadpool_limits

from skrobust import MMRegressor, SmoothL1Regressor, SmoothL1RegressorCV

N, P, REPLICATIONS = 500, 5, 20
COEF, INTERCEPT = np.arange(1.0, P + 1), 10.0


def rlm(X, y):
    """Return the intercept and coefficients of statsmodels' RLM, iterated to convergence."""
    model = sm.RLM(y, sm.add_constant(X, has_constant="add"), M=sm.robust.norms.HuberT())
    return model.fit(maxiter=1000, tol=1e-9).params


def fitted(estimator):
    """Return a function that fits an estimator and returns its intercept and coefficients."""

    def fit(X, y):
        estimator.fit(X, y)
        return np.r_[estimator.intercept_, estimator.coef_]

    return fit


FITS = {
    "least squares": fitted(LinearRegression()),
    "RLM": rlm,
    "SmoothL1()": fitted(SmoothL1Regressor()),
    "SmoothL1(0.7, mad)": fitted(SmoothL1Regressor(0.7, scale="mad")),
    "SmoothL1(beta=1.345)": fitted(SmoothL1Regressor(1.345)),
    "SmoothL1RegressorCV()": fitted(SmoothL1RegressorCV()),
    "MMRegressor()": fitted(MMRegressor()),
}


def outliers_in_y(n_outliers, rng):
    """Return X and y with errors of variance 1; 100 is added to `n_outliers` values of y."""
    X = rng.normal(size=(N, P))
    y = INTERCEPT + X @ COEF + rng.normal(size=N)
    y[:n_outliers] += 100
    return X, y


def outliers_in_X(n_outliers, rng):
    """Return X and y, with outliers whose last feature is large and has the opposite slope."""
    X = rng.normal(size=(N, P))
    X[:n_outliers, -1] += 20
    y = INTERCEPT + X @ COEF + rng.normal(size=N)
    y[:n_outliers] -= 2 * COEF[-1] * X[:n_outliers, -1]
    return X, y


def print_table(title, make, percentages):
    print(f"\n{title}: largest absolute error of a coefficient or the intercept\n")
    print("outliers" + "".join(f"{name:>22}" for name in FITS))
    truth = np.r_[INTERCEPT, COEF]
    for percentage in percentages:
        errors = {name: [] for name in FITS}
        for seed in range(REPLICATIONS):
            X, y = make(round(percentage / 100 * N), np.random.default_rng(seed))
            for name, fit in FITS.items():
                errors[name].append(np.abs(fit(X, y) - truth).max())
        figures = "".join(f"{np.median(e):22.2f}" for e in errors.values())
        print(f"{percentage:6} %{figures}", flush=True)


def main():
    print(f"{N} rows, {P} columns, errors of variance 1; median of {REPLICATIONS} data sets")
    with threadpool_limits(1):  # one thread is fastest for small problems
        percentages = [0, 5, 10, 20, 25, 28, 29, 30, 31, 32, 33, 34, 35, 40]
        print_table("Outliers in y, 100 above the model", outliers_in_y, percentages)
        print_table("Outliers in X, slope -5, not 5", outliers_in_X, [0, 0.4, 1, 2, 3, 5, 10])


if __name__ == "__main__":
    main()
