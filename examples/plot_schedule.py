"""
What does a schedule of thresholds do?
======================================

It starts from the easy end: with a threshold that covers nearly all residuals the problem is
least squares, and each stage lowers the threshold and starts from the solution of the one
before. The last stage solves the problem that was asked for. Engel's households, a tenth of
whose expenditures are wrong, and a threshold of 100 francs.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import statsmodels.api as sm

from skrobust import SmoothL1Regressor

data = sm.datasets.engel.load_pandas().data
X, y = data[["income"]].to_numpy(), data["foodexp"].to_numpy(copy=True)
poor = np.flatnonzero(X[:, 0] < np.median(X))
wrong = np.random.default_rng(0).choice(poor, y.size // 10, replace=False)
y[wrong] += 2000

model = SmoothL1Regressor(100.0, beta_schedule="geometric").fit(X, y)

# %%
# ``history_`` has a row for each stage.

history = pd.DataFrame(model.history_)
history[["beta", "n_iter", "n_eval", "objective"]]

# %%
# The objective is convex, so the answer is the same without a schedule.

direct = SmoothL1Regressor(100.0).fit(X, y)
print(f"with a schedule {model.coef_[0]:.9f}, without {direct.coef_[0]:.9f}")
print(f"objectives      {model.objective_:.9f},        {direct.objective_:.9f}")

# %%
# The fit on its way: each stage is what ``SmoothL1Regressor(beta)`` gives at its threshold.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
left.plot(X[:, 0], y, ".", color="0.75")
left.plot(X[wrong, 0], y[wrong], "kx", ms=5)
ends = np.array([[300.0], [3000.0]])
shades = plt.get_cmap("viridis")(np.linspace(0.9, 0.1, len(history)))
for k, (beta, shade) in enumerate(zip(history["beta"], shades, strict=True), start=1):
    line = SmoothL1Regressor(beta).fit(X, y).predict(ends)
    left.plot(ends, line, color=shade, lw=2, label=f"stage {k}: β = {beta:.0f}")
    left.text(270, line[0], str(k), ha="right", va="center", color="0.3")
left.set(xlim=(150, 3000), ylim=(0, 3200), xlabel="income, francs", ylabel="food, francs")
left.legend(loc="upper right", frameon=False)

stages = np.arange(1, len(history) + 1)
bars = right.bar(stages, history["n_eval"], color=shades, edgecolor="k", lw=0.5)
right.bar_label(bars, padding=2)
right.set(xlabel="stage", ylabel="passes over X", title="The work of each stage")
right.margins(y=0.1)
plt.show()
