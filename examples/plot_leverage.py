"""
What does robust regression not protect from?
=============================================

Rows that are far out in X. An outlier in y has a large residual, and the loss sees it. A
leverage point draws the fit to itself until its residual is small, and then no loss that is
a function of the residual alone knows that anything is wrong. Engel's households once more:
the same seven of 235 get a wrong number, first in what they spent, then in what they earned.
"""

import matplotlib.pyplot as plt
import numpy as np
import statsmodels.api as sm
from sklearn.linear_model import LinearRegression, RANSACRegressor, TheilSenRegressor

from skrobust import SmoothL1Regressor

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
}

# %%
# The slope with nothing wrong, and with either mistake.

ends = np.array([[0.0], [20_000.0]])
lines = {}
print(f"{'':18}{'nothing wrong':>16}" + "".join(f"{case:>16}" for case in cases))
for name, model in models.items():
    slopes = []
    for case, (x, y) in {"": (income, food), **cases}.items():
        lines[name, case] = model.fit(x[:, np.newaxis], y).predict(ends)
        slopes.append(np.diff(lines[name, case]).item() / 20_000)
    print(f"{name:18}" + "".join(f"{slope:16.3f}" for slope in slopes))

# %%
# The wrong expenditures move the slope of ``SmoothL1Regressor`` by less than a hundredth. The
# wrong incomes leave it no better off than least squares. If X may have wrong rows, use
# scikit-learn's ``RANSACRegressor`` or ``TheilSenRegressor``, or look at X first: leverage
# shows without any fit.

STYLES = [("#D55E00", "--"), ("#009E73", "-"), ("#CC79A7", "-."), ("#0072B2", ":")]
figure, panels = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
for axes, (case, (x, y)) in zip(panels, cases.items(), strict=True):
    right = np.setdiff1d(np.arange(x.size), rows)
    axes.plot(x[right], y[right], ".", color="0.7", label="right households")
    axes.plot(x[rows], y[rows], "kx", ms=7, label="wrong households")
    for name, (colour, dashes) in zip(models, STYLES, strict=True):
        axes.plot(ends, lines[name, case], color=colour, ls=dashes, lw=2, label=name)
    axes.set(title=f"seven households: {case}", xlabel="income, francs")
    axes.set(xlim=(0, 1.05 * x.max()), ylim=(0, 1.05 * y.max()))
panels[0].set_ylabel("food, francs")
figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
plt.show()
