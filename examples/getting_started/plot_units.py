"""
Invariance to the units of the features
=======================================

Without a penalty, the predictions of a linear regression do not depend on the units of the
features: if a feature is multiplied by a factor, its coefficient is divided by the same factor.
Numerical implementations do not always preserve this invariance. This example multiplies one
column of scikit-learn's diabetes data by powers of ten and compares the predictions of
``HuberRegressor`` and :class:`~skrobust.SmoothL1Regressor`.
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
# Both models minimise the same objective: ``epsilon=1.35`` corresponds to ``beta=1.35`` with
# ``scale="concomitant"``. The reference predictions are those of ``HuberRegressor`` after a
# ``StandardScaler``. All models have ``alpha=0``, because the effect of a penalty would depend
# on the units.

scaled = make_pipeline(StandardScaler(), HuberRegressor(alpha=0, max_iter=10_000, tol=1e-9))
reference = scaled.fit(X, y).predict(X)
models = {
    "HuberRegressor": HuberRegressor(alpha=0, max_iter=10_000),
    "SmoothL1Regressor": SmoothL1Regressor(1.35, loss="huber", scale="concomitant"),
}
powers = np.arange(-12, 13)
difference = {name: [] for name in models}
warned = dict.fromkeys(models, 0)
for power in powers:
    unit = np.ones(X.shape[1])
    unit[BLOOD_PRESSURE] = 10.0**power
    for name, model in models.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            prediction = model.fit(X * unit, y).predict(X * unit)
        difference[name].append(np.abs(prediction - reference).mean())
        warned[name] += any(w.category is ConvergenceWarning for w in caught)

for name in models:
    low, high = min(difference[name]), max(difference[name])
    print(f"{name:18} mean difference {low:.1g} to {high:.1g}, ", end="")
    print(f"warnings in {warned[name]} of {len(powers)} cases")

# %%
# ``HuberRegressor`` is accurate only in a narrow range of units and does not warn outside this
# range. It should therefore always be used with a scaler. The predictions of
# ``SmoothL1Regressor`` differ from the reference by only about the numerical error of the
# reference.

figure, axes = plt.subplots(figsize=(6.4, 4.5), layout="constrained")
for name, colour, style in [
    ("HuberRegressor", "#0072B2", "s:"),
    ("SmoothL1Regressor", "#009E73", "o-"),
]:
    axes.semilogy(10.0**powers, difference[name], style, color=colour, label=name)
axes.set_xscale("log")
axes.set_xlabel("factor of the column of blood pressure")
axes.set_ylabel("mean |difference| from the reference")
axes.axhline(y.std(), color="0.5", lw=1)
axes.text(1e-12, y.std() * 1.4, "standard deviation of the target", color="0.3")
axes.set_ylim(top=2e3)
axes.legend(loc="center right", frameon=False)
plt.show()
