"""
Leverage points: outliers in the features
=========================================

A Huber fit is robust to outliers in the target, because it bounds the influence of large
residuals. A row with extreme features has high leverage: it attracts the fit, so its residual
may be small. No fit that minimises a convex loss is robust to high-leverage rows, but an
MM-estimator is. This example multiplies either the food expenditures or the incomes of seven of
the 235 households in Engel's data by ten.
"""

import matplotlib.pyplot as plt
import numpy as np
import statsmodels.api as sm
from sklearn.linear_model import LinearRegression, RANSACRegressor, TheilSenRegressor

from skrobust import MMRegressor, SmoothL1Regressor

data = sm.datasets.engel.load_pandas().data
income, food = data["income"].to_numpy(), data["foodexp"].to_numpy()
rows = np.random.default_rng(0).choice(income.size, 7, replace=False)
wrong_food, wrong_income = food.copy(), income.copy()
wrong_food[rows] *= 10
wrong_income[rows] *= 10
cases = {"food × 10": (income, wrong_food), "income × 10": (wrong_income, food)}
models = {
    "LinearRegression": LinearRegression(),
    "SmoothL1Regressor": SmoothL1Regressor(),
    "RANSACRegressor": RANSACRegressor(random_state=0),
    "TheilSenRegressor": TheilSenRegressor(random_state=0),
    "MMRegressor": MMRegressor(),
}

# %%
# The table shows the slopes fitted to the original data and to the two corrupted data sets.

ends = np.array([[0.0], [20_000.0]])
lines = {}
print(f"{'':18}{'original data':>16}" + "".join(f"{case:>16}" for case in cases))
for name, model in models.items():
    slopes = []
    for case, (x, y) in {"": (income, food), **cases}.items():
        lines[name, case] = model.fit(x[:, np.newaxis], y).predict(ends)
        slopes.append(np.diff(lines[name, case]).item() / 20_000)
    print(f"{name:18}" + "".join(f"{slope:16.3f}" for slope in slopes))

# %%
# The corrupted expenditures change the slope of ``SmoothL1Regressor`` by less than 0.01. With
# the corrupted incomes its slope is as wrong as the least-squares slope. The slope of
# ``MMRegressor`` changes by less than 0.01 in both cases. If features may be corrupted, inspect
# the leverage before the fit, or use ``MMRegressor`` or scikit-learn's ``RANSACRegressor`` or
# ``TheilSenRegressor``. :doc:`/user_guide/robust_mm` explains when to use ``MMRegressor``.

STYLES = [
    ("#D55E00", "--"),
    ("#009E73", "-"),
    ("#CC79A7", "-."),
    ("#0072B2", ":"),
    ("k", (0, (6, 2))),
]
for case, (x, y) in cases.items():
    figure, axes = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
    unchanged = np.setdiff1d(np.arange(x.size), rows)
    axes.plot(x[unchanged], y[unchanged], ".", color="0.7", label="unchanged households")
    axes.plot(x[rows], y[rows], "kx", ms=7, label="corrupted households")
    for name, (colour, dashes) in zip(models, STYLES, strict=True):
        axes.plot(ends, lines[name, case], color=colour, ls=dashes, lw=2, label=name)
    axes.set(title=f"Seven households: {case}", xlabel="income, francs", ylabel="food, francs")
    axes.set(xlim=(0, 1.05 * x.max()), ylim=(0, 1.05 * y.max()))
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
plt.show()

# sphinx_gallery_thumbnail_number = 2
