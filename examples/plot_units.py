"""
Do the units of the features matter?
====================================

Without a penalty they should not: blood pressure in other units has a coefficient in other
units, and everything else is as before. That is so on paper for every regressor; here is what
the computer makes of it. Scikit-learn's diabetes data in its original units, one column
multiplied by a power of ten.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import HuberRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skrobust import SmoothL1Regressor

X, y = load_diabetes(return_X_y=True, scaled=False)
BLOOD_PRESSURE = 3

# %%
# Both minimise the same objective, so that one answer is right for all: ``epsilon=1.35`` is
# ``beta=1.35, scale="concomitant"``. As the reference stands ``HuberRegressor`` behind a
# ``StandardScaler``. (Its ``alpha`` is zero, since a penalty does have a unit.)

scaled = make_pipeline(StandardScaler(), HuberRegressor(alpha=0, max_iter=10_000, tol=1e-9))
reference = scaled.fit(X, y).predict(X)
models = {
    "HuberRegressor": HuberRegressor(alpha=0, max_iter=10_000),
    "SmoothL1Regressor": SmoothL1Regressor(1.35, loss="huber", scale="concomitant"),
}
powers = np.arange(-12, 13)
off = {name: [] for name in models}
warned = dict.fromkeys(models, 0)
for power in powers:
    unit = np.ones(X.shape[1])
    unit[BLOOD_PRESSURE] = 10.0**power
    for name, model in models.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            prediction = model.fit(X * unit, y).predict(X * unit)
        off[name].append(np.abs(prediction - reference).mean())
        warned[name] += any(w.category is ConvergenceWarning for w in caught)

for name in models:
    print(f"{name:18} off by {min(off[name]):.1g} to {max(off[name]):.1g}, ", end="")
    print(f"warned in {warned[name]} of {len(powers)} cases")

# %%
# ``HuberRegressor`` is near only where the unit happens to suit it, and warns nowhere. It needs
# a scaler before it, always. (``SmoothL1Regressor`` is as near to the reference as the
# reference is to the minimum.)

figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
for name, colour, style in [
    ("HuberRegressor", "#0072B2", "s:"),
    ("SmoothL1Regressor", "#009E73", "o-"),
]:
    axes.semilogy(10.0**powers, off[name], style, color=colour, label=name)
axes.set_xscale("log")
axes.set_xlabel("unit of blood pressure: the column is multiplied by")
axes.set_ylabel("mean |difference| from the right prediction")
axes.axhline(y.std(), color="0.5", lw=1)
axes.text(1e-12, y.std() * 1.4, "standard deviation of the target", color="0.3")
axes.set_ylim(top=2e3)
axes.legend(loc="center right", frameon=False)
plt.show()
