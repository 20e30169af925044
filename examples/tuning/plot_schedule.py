"""
Decreasing the threshold in stages
==================================

With ``beta_schedule`` a fit consists of several stages. The first threshold exceeds nearly all
residuals, so the solution of the first stage is close to a least-squares fit. Each later stage
has a smaller threshold and starts from the solution of the previous stage. The last stage has
the requested threshold. This example uses a threshold of 100 francs and Engel's household data,
with a tenth of the expenditures increased by 2000 francs.
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
# ``history_`` has one entry for each stage.

history = pd.DataFrame(model.history_)
history[["beta", "n_iter", "n_eval", "objective"]]

# %%
# The objective is convex, so the solution is the same without a schedule.

direct = SmoothL1Regressor(100.0).fit(X, y)
print(f"with a schedule {model.coef_[0]:.9f}, without {direct.coef_[0]:.9f}")
print(f"objectives      {model.objective_:.9f},        {direct.objective_:.9f}")

# %%
# The solution of each stage equals that of ``SmoothL1Regressor(beta)`` with the threshold of
# the stage as ``beta``. These fits are shown in the figure.

figure, axes = plt.subplots(figsize=(6.4, 4.5), layout="constrained")
axes.plot(X[:, 0], y, ".", color="0.75")
axes.plot(X[wrong, 0], y[wrong], "kx", ms=5)
ends = np.array([[300.0], [3000.0]])
shades = plt.get_cmap("viridis")(np.linspace(0.9, 0.1, len(history)))
for k, (beta, shade) in enumerate(zip(history["beta"], shades, strict=True), start=1):
    line = SmoothL1Regressor(beta).fit(X, y).predict(ends)
    axes.plot(ends, line, color=shade, lw=2, label=f"stage {k}: β = {beta:.0f}")
    axes.text(270, line[0], str(k), ha="right", va="center", color="0.3")
axes.set(xlim=(150, 3000), ylim=(0, 3200), xlabel="income, francs", ylabel="food, francs")
axes.legend(loc="upper right", frameon=False)
plt.show()

# %%
# The bars show the number of passes over X in each stage.

stages = np.arange(1, len(history) + 1)
figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
bars = axes.bar(stages, history["n_eval"], color=shades, edgecolor="k", lw=0.5)
axes.bar_label(bars, padding=2)
axes.set(xlabel="stage", ylabel="passes over X")
axes.margins(y=0.1)
plt.show()
