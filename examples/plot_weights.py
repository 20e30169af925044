"""
What do weights do, and what do they not?
=========================================

A weight counts rows: weight 3 is the same as the row three times, to the last digits. It does
not say how noisy a row is. Where the noise differs from row to row, one threshold cannot fit
all, and dividing each row by its noise is what helps. Engel's households again, whose
expenditures scatter the more the larger the income is.
"""

import matplotlib.pyplot as plt
import numpy as np
import statsmodels.api as sm

from skrobust import SmoothL1Regressor

data = sm.datasets.engel.load_pandas().data
income, food = data["income"].to_numpy(), data["foodexp"].to_numpy()
X = income[:, np.newaxis]

# %%
# Incomes to the nearest hundred and food to the nearest fifty, so that households repeat: the
# distinct ones with their numbers as weights give what all of them give.

pairs = np.column_stack([100 * np.round(income / 100), 50 * np.round(food / 50)])
distinct, count = np.unique(pairs, axis=0, return_counts=True)
every = SmoothL1Regressor().fit(pairs[:, :1], pairs[:, 1])
fewer = SmoothL1Regressor().fit(distinct[:, :1], distinct[:, 1], sample_weight=count)
print(f"{len(pairs)} rows: slope {every.coef_[0]:.10f}, scale {every.scale_:.8f}")
print(f"{len(distinct)} rows: slope {fewer.coef_[0]:.10f}, scale {fewer.scale_:.8f}")

# %%
# Equal noise is assumed
# ----------------------
# One threshold for all marks the rich as outliers, since their ordinary scatter is larger.
# The model food = a + b·income, divided by the income, is food/income = b + a·(1/income): a
# regression whose errors are alike. Its intercept is the slope that we want.

as_is = SmoothL1Regressor().fit(X, food)
divided = SmoothL1Regressor().fit(1 / X, food / income)
print(f"as it is:          slope {as_is.coef_[0]:.3f}, intercept {as_is.intercept_:.0f}")
print(f"divided by income: slope {divided.intercept_:.3f}, intercept {divided.coef_[0]:.0f}")

figure, panels = plt.subplots(1, 2, figsize=(10, 4.4), sharey=True, layout="constrained")
x = np.linspace(300, 5000, 50)
fits = {
    "as it is": (as_is.predict(x[:, np.newaxis]), as_is.beta_ + 0 * x, as_is),
    "each row divided by its income": (
        x * divided.predict(1 / x[:, np.newaxis]),
        x * divided.beta_,
        divided,
    ),
}
for axes, (title, (line, width, model)) in zip(panels, fits.items(), strict=True):
    out = model.outliers_
    axes.fill_between(x, line - width, line + width, color="0.92")
    axes.plot(x, line, color="#009E73", lw=2, label="SmoothL1Regressor and its threshold")
    axes.plot(income[~out], food[~out], ".", color="#0072B2", label="within")
    axes.plot(income[out], food[out], "^", color="#D55E00", ms=5, label="beyond")
    rich = income > np.median(income)
    share = f"beyond: {out[rich].mean():.0%} of the richer half, {out[~rich].mean():.0%} of the"
    axes.set_title(f"{title}\n{share} poorer")
    axes.set(xlabel="income, francs", xscale="log", yscale="log", ylim=(150, 3500))
    axes.set_xticks([500, 1000, 2000, 5000], ["500", "1000", "2000", "5000"])
    axes.set_yticks([200, 500, 1000, 2000], ["200", "500", "1000", "2000"])
    axes.minorticks_off()
panels[0].set_ylabel("food, francs")
panels[0].legend(loc="upper left", frameon=False)
plt.show()
