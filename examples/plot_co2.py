"""
A trend from records with wrong digits
======================================

The data, which are included in statsmodels, are weekly concentrations of carbon dioxide at
Mauna Loa from 1958 to 2001, in parts per million (ppm). In one in eight records since 1985 the
leading digit is changed (355 becomes 255). Three regressors with default parameters fit the
concentration as a linear function of time in years.

``python examples/plot_co2.py docs/_static/co2.png`` saves the figure for the README.
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
# The wrong records decrease the least-squares slope. ``HuberRegressor`` limits their influence,
# but its optimiser stops before it reaches the minimum, and no warning is issued. The optimiser
# takes steps in the units of the data, in which the problem is badly scaled: the years are near
# 1980 and the intercept is near −2300. ``SmoothL1Regressor`` standardises the features
# internally, and its slope is close to the slope fitted to the correct records.

X = year[:, np.newaxis]
models = [LinearRegression(), HuberRegressor(), SmoothL1Regressor()]
for model in models:
    slope = model.fit(X, y).coef_[0]
    print(f"{type(model).__name__:18} {slope:5.2f} ppm per year")
slope_right = LinearRegression().fit(X, right).coef_[0]
print(f"{'correct records':18} {slope_right:5.2f} ppm per year")

# %%
# The following constants define the style of each line: a colour, a dash pattern, and the
# vertical alignment of the label. The colours are from Okabe and Ito's palette, which
# colour-blind readers can distinguish.

LEAST_SQUARES = "#D55E00", (0, (6, 2)), "center"
HUBER = "#0072B2", (0, (1.5, 1.5)), "top"
SMOOTH_L1 = "#009E73", "-", "bottom"
figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
kept = np.setdiff1d(np.arange(y.size), wrong)
axes.plot(year[kept], y[kept], ".", color="0.72", ms=3)
axes.plot(year[wrong], y[wrong], "x", color="k", ms=5)
label = f"correct records,\n{slope_right:.2f} ppm per year"
axes.annotate(label, (1981, 354), ha="right", color="0.4")
axes.annotate("wrong records,\n100 ppm too low", (1984, 250), ha="right")
ends = np.array([[1958.0], [2002.0]])
for model, (colour, dashes, va) in zip(models, [LEAST_SQUARES, HUBER, SMOOTH_L1], strict=True):
    line = model.predict(ends)
    axes.plot(ends, line, color=colour, ls=dashes, lw=2.5)
    label = f"{type(model).__name__},\n{model.coef_[0]:.2f} ppm per year"
    axes.annotate(label, (2003, line[1]), va=va, color=colour, annotation_clip=False)
axes.set(xlabel="year", ylabel="CO₂ concentration (ppm)")
axes.set_title("CO₂ at Mauna Loa: trends fitted to records with wrong digits", loc="left")
axes.spines[["top", "right"]].set_visible(False)
if sys.argv[-1].endswith(".png"):
    figure.savefig(sys.argv[-1], dpi=150)
plt.show()
