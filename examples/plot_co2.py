"""
Can the calendar year be a feature?
===================================

Weekly carbon dioxide in the air over Mauna Loa from 1958 to 2001, as statsmodels ships it, in
parts per million against the year. In one of eight weeks since 1985 we mistype the leading
digit of the record (355 becomes 255). Three regressors get the year as it stands in the
calendar.

This is also the picture of the README: ``python examples/plot_co2.py docs/_static/co2.png``
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
import statsmodels.api as sm
from sklearn.linear_model import HuberRegressor, LinearRegression

from skrobust import SmoothL1Regressor

data = sm.datasets.co2.load_pandas().data.dropna()
year = (data.index.year + data.index.day_of_year / 365.25).to_numpy()
right = data["co2"].to_numpy()
late = np.flatnonzero(year > 1985)
wrong = np.random.default_rng(0).choice(late, late.size // 8, replace=False)
y = right.copy()
y[wrong] -= 100

# %%
# The outliers pull least squares down. ``HuberRegressor`` does not weigh them more than it
# should, but stops before it has found the slope, and says nothing: the optimiser takes steps
# in raw units, and an intercept of −2300 is far from a year of 1980. In whitened coordinates
# there is no near and far.

X = year[:, np.newaxis]
models = [LinearRegression(), HuberRegressor(), SmoothL1Regressor()]
for model in models:
    slope = model.fit(X, y).coef_[0]
    print(f"{type(model).__name__:18} {slope:5.2f} ppm a year")
print(f"{'nothing wrong':18} {LinearRegression().fit(X, right).coef_[0]:5.2f} ppm a year")

# %%
# Okabe and Ito's colours, and a dash pattern for each line.

STYLES = [("#D55E00", (0, (6, 2))), ("#0072B2", (0, (1.5, 1.5))), ("#009E73", "-")]
figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
kept = np.setdiff1d(np.arange(y.size), wrong)
axes.plot(year[kept], y[kept], ".", color="0.72", ms=3, label="right record")
axes.plot(year[wrong], y[wrong], "x", color="k", ms=5, label="wrong record, 100 too low")
ends = np.array([[1958.0], [2002.0]])
for model, (colour, dashes) in zip(models, STYLES, strict=True):
    label = f"{type(model).__name__}(): {model.coef_[0]:.2f} ppm a year"
    axes.plot(ends, model.predict(ends), color=colour, ls=dashes, lw=2.5, label=label)
axes.set(xlabel="year, as it is", ylabel="CO₂ over Mauna Loa, ppm")
axes.set_title("The same data, three regressors, no warning")
axes.legend(loc="center left", bbox_to_anchor=(0.01, 0.3), frameon=False)
axes.spines[["top", "right"]].set_visible(False)
if sys.argv[-1].endswith(".png"):
    figure.savefig(sys.argv[-1], dpi=110)
plt.show()
