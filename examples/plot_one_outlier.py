"""
What does one wrong number do?
==============================

Engel's 235 Belgian households of 1857: what they earned and what they spent on food, as
statsmodels ships it. One household's expenditure is written down wrongly. What does that do
to the slope, the share of an additional franc that goes into food?
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
# Multiply that one number by 1/10 … 1000 and fit again. The slope of least squares follows it
# without limit. That of :class:`~skrobust.SmoothL1Regressor` stops moving once the row is
# beyond the threshold: it then pulls with the same force, however far off it is.

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
# Left: the two fits when the decimal point has slipped by one digit.

STYLES = {"LinearRegression": ("#D55E00", "--"), "SmoothL1Regressor": ("#009E73", "-")}
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
wrong = y.copy()
wrong[row] *= 10
left.plot(X[:, 0], y, ".", color="0.6", label="households")
left.annotate(
    f"this one was\nwritten as {wrong[row]:.0f}",
    (X[row, 0], y[row]),
    (1000, 2300),
    ha="center",
    arrowprops={"arrowstyle": "->", "shrinkB": 6},
)
ends = np.array([[0.0], [5000.0]])
for name, model in models.items():
    colour, dashes = STYLES[name]
    line = model.fit(X, wrong).predict(ends)
    left.plot(ends, line, color=colour, ls=dashes, lw=2, label=name)
    right.semilogx(factors, slopes[name], color=colour, ls=dashes, lw=2, label=name)
left.set(ylim=(0, 3200), xlabel="income, francs a year", ylabel="food, francs a year")
left.legend(loc="lower right", frameon=False)
right.axvline(1, color="0.6", lw=1)
right.text(1.15, 0.06, "as recorded", color="0.3")
right.set(xlabel="the one number is multiplied by", ylabel="slope", ylim=(0, 4))
right.legend(loc="upper left", frameon=False)
plt.show()
