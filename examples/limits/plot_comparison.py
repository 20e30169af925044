"""
Comparison of robust regressors
===============================

This example compares six robust regressors and least squares on clean data, on data with 10 %
outliers in the target, on data with 5 % outliers in the features, and on data with one feature
in another unit. In each case, 20 data sets of 200 rows and 5 features are generated. The error
of an estimator is the Euclidean distance between its coefficients and the true coefficients.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import (
    HuberRegressor,
    LinearRegression,
    QuantileRegressor,
    RANSACRegressor,
    TheilSenRegressor,
)

from skrobust import MMRegressor, SmoothL1Regressor

N, P, REPETITIONS = 200, 5, 20
UNIT = np.array([1, 1, 1, 1, 1e6])


def clean(X, y, rng):
    return X, y


def outliers_in_y(X, y, rng):
    y[rng.random(N) < 0.1] += 20
    return X, y


def outliers_in_X(X, y, rng):
    X[rng.random(N) < 0.05] *= 10
    return X, y


def other_units(X, y, rng):
    return X * UNIT, y


CASES = {
    "clean": clean,
    "10 % outliers in y": outliers_in_y,
    "5 % outliers in X": outliers_in_X,
    "a column × 1e6": other_units,
}
MODELS = {
    "LinearRegression": LinearRegression(),
    "HuberRegressor": HuberRegressor(),
    "QuantileRegressor": QuantileRegressor(alpha=0),
    "SmoothL1Regressor": SmoothL1Regressor(),
    "RANSACRegressor": RANSACRegressor(random_state=0),
    "TheilSenRegressor": TheilSenRegressor(random_state=0, max_subpopulation=1000),
    "MMRegressor": MMRegressor(),
}

# %%

error = {name: np.empty((len(CASES), REPETITIONS)) for name in MODELS}
for i, corrupt in enumerate(CASES.values()):
    unit = UNIT if corrupt is other_units else 1.0
    for k in range(REPETITIONS):
        rng = np.random.default_rng(k)
        X = rng.normal(size=(N, P))
        X, y = corrupt(X, X.sum(axis=1) + rng.normal(size=N), rng)
        for name, model in MODELS.items():
            fitted = model.fit(X, y)
            coef = getattr(fitted, "estimator_", fitted).coef_ * unit
            error[name][i, k] = np.linalg.norm(coef - 1)

middle = {name: np.median(found, axis=1) for name, found in error.items()}
print(f"{'':18}" + "".join(f"{case:>20}" for case in CASES))
for name, found in middle.items():
    print(f"{name:18}" + "".join(f"{e:20.3f}" for e in found))

# %%
# - **Clean data:** the errors of ``HuberRegressor``, ``SmoothL1Regressor`` and ``MMRegressor``
#   are close to that of least squares. The error of median regression (``QuantileRegressor``)
#   is somewhat larger, and that of ``RANSACRegressor``, which discards rows, is much larger.
# - **Outliers in y,** all too large by 20: all estimators except least squares have small
#   errors. With a larger fraction of outliers on one side, ``SmoothL1Regressor`` overestimates
#   the scale; :doc:`/user_guide/limits` shows at which fraction the fit breaks down.
# - **Outliers in X:** ``MMRegressor``, ``TheilSenRegressor`` and ``RANSACRegressor`` have the
#   smallest errors. With many features ``TheilSenRegressor`` is slow and less robust than in
#   this example, and with many outliers ``RANSACRegressor`` is unreliable.
#   :doc:`/user_guide/robust_mm` explains when to use ``MMRegressor``.
# - **Other units:** the coefficients of ``HuberRegressor`` are silently wrong. The coefficients
#   of ``LinearRegression`` and ``RANSACRegressor`` are also wrong: since scikit-learn 1.9,
#   ``LinearRegression`` neglects singular values below 1e-6 times the largest, and
#   ``RANSACRegressor`` uses ``LinearRegression`` for its fits.

COLOURS = ["#D55E00", "#0072B2", "#56B4E9", "#009E73", "#CC79A7", "#E69F00", "k"]
figure, axes = plt.subplots(figsize=(8, 4.8), layout="constrained")
for shift, name, colour, marker in zip(
    np.linspace(-0.3, 0.3, len(MODELS)), MODELS, COLOURS, "sD^ovPX", strict=True
):
    places = np.arange(len(CASES)) + shift
    axes.semilogy(places, middle[name], marker, color=colour, ms=9, label=name)
for edge in np.arange(len(CASES) - 1) + 0.5:
    axes.axvline(edge, color="0.85", zorder=0)
axes.set_xticks(np.arange(len(CASES)), CASES)
axes.set_yticks([0.2, 0.5, 1, 2], ["0.2", "0.5", "1", "2"])
axes.minorticks_off()
axes.tick_params(axis="x", length=0)
axes.set_ylabel("error of the coefficients")
figure.legend(loc="outside lower center", ncols=3, frameon=False)
plt.show()
