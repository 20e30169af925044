"""
The effect of a single outlier
==============================

Engel's data set, which is included in statsmodels, contains the annual income and food
expenditure of 235 Belgian households in 1857. The slope of a regression of food expenditure on
income is the share of an additional franc of income that is spent on food. This example shows
how the slope changes if the expenditure of one household is wrong.
"""

import matplotlib.pyplot as plt
import numpy as np
import statsmodels.api as sm
from sklearn.linear_model import LinearRegression

from skrobust import SmoothL1Regressor

data = sm.datasets.engel.load_pandas().data
X, y = data[["income"]].to_numpy(), data["foodexp"].to_numpy()
row = int(np.argsort(X[:, 0])[-10])  # the household with the tenth-largest income
print(f"income {X[row, 0]:.0f}, food {y[row]:.0f} francs")

# %%
# The expenditure of this household is multiplied by factors from 0.1 to 1000, and two models
# are fitted for each factor. The least-squares slope grows without bound. The slope of
# :class:`~skrobust.SmoothL1Regressor` remains constant once the residual of the household
# exceeds the threshold, because the influence of the household is then constant.

factors = np.geomspace(0.1, 1000, 41)
models = {"LinearRegression": LinearRegression(), "SmoothL1Regressor": SmoothL1Regressor()}
slopes = {name: [] for name in models}
for factor in factors:
    wrong = y.copy()
    wrong[row] *= factor
    for name, model in models.items():
        slopes[name].append(model.fit(X, wrong).coef_[0])

for name, found in slopes.items():
    print(f"{name:18} slope from {min(found):.3f} to {max(found):.3f}")

# %%
# The first figure shows the two fits if the recorded expenditure of the household is ten times
# the true value.

STYLES = {"LinearRegression": ("#D55E00", "--"), "SmoothL1Regressor": ("#009E73", "-")}
wrong = y.copy()
wrong[row] *= 10
ends = np.array([[0.0], [5000.0]])
figure, axes = plt.subplots(figsize=(6.4, 4.5), layout="constrained")
axes.plot(X[:, 0], y, ".", color="0.6", label="households")
axes.annotate(
    f"recorded as\n{wrong[row]:.0f} francs",
    (X[row, 0], y[row]),
    (1000, 2300),
    ha="center",
    arrowprops={"arrowstyle": "->", "shrinkB": 6},
)
for name, model in models.items():
    colour, dashes = STYLES[name]
    line = model.fit(X, wrong).predict(ends)
    axes.plot(ends, line, color=colour, ls=dashes, lw=2, label=name)
axes.set(ylim=(0, 3200), xlabel="income, francs per year", ylabel="food, francs per year")
axes.legend(loc="lower right", frameon=False)
plt.show()

# %%
# The second figure shows the slopes as functions of the factor.

figure, axes = plt.subplots(figsize=(6.4, 4.5), layout="constrained")
for name, (colour, dashes) in STYLES.items():
    axes.semilogx(factors, slopes[name], color=colour, ls=dashes, lw=2, label=name)
axes.axvline(1, color="0.6", lw=1)
axes.text(1.15, 0.06, "true value", color="0.3")
axes.set(xlabel="factor of the expenditure", ylabel="slope", ylim=(0, 4))
axes.legend(loc="upper left", frameon=False)
plt.show()
