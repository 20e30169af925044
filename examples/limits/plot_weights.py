"""
Sample weights and unequal variances
====================================

A sample weight of 3 is equivalent to repeating the row three times. It does not express the
error variance of the row. If the error variances differ, a single threshold does not suit all
rows. Dividing each row by the standard deviation of its error makes the errors comparable. This
example illustrates weights and unequal variances with Engel's household data, in which the
variance of the food expenditure grows with income.
"""

import matplotlib.pyplot as plt
import numpy as np
import statsmodels.api as sm

from skrobust import SmoothL1Regressor

data = sm.datasets.engel.load_pandas().data
income, food = data["income"].to_numpy(), data["foodexp"].to_numpy()
X = income[:, np.newaxis]

# %%
# Incomes are rounded to multiples of 100 and expenditures to multiples of 50, so that some
# households have the same income and expenditure. A fit to the distinct pairs of income and
# expenditure, weighted by their counts, equals the fit to all households.

pairs = np.column_stack([100 * np.round(income / 100), 50 * np.round(food / 50)])
distinct, count = np.unique(pairs, axis=0, return_counts=True)
every = SmoothL1Regressor().fit(pairs[:, :1], pairs[:, 1])
fewer = SmoothL1Regressor().fit(distinct[:, :1], distinct[:, 1], sample_weight=count)
print(f"{len(pairs)} rows: slope {every.coef_[0]:.10f}, scale {every.scale_:.8f}")
print(f"{len(distinct)} rows: slope {fewer.coef_[0]:.10f}, scale {fewer.scale_:.8f}")

# %%
# Unequal variances
# -----------------
# With a single threshold, most households beyond the threshold have high incomes, because the
# errors grow with income. Dividing the model food = a + b·income by the income gives
# food/income = b + a·(1/income). The errors of this regression have similar variances, and its
# intercept is the slope b.

original = SmoothL1Regressor().fit(X, food)
divided = SmoothL1Regressor().fit(1 / X, food / income)
print(f"original:          slope {original.coef_[0]:.3f}, intercept {original.intercept_:.0f}")
print(f"divided by income: slope {divided.intercept_:.3f}, intercept {divided.coef_[0]:.0f}")

x = np.linspace(300, 5000, 50)
fits = {
    "Original rows": (original.predict(x[:, np.newaxis]), original.beta_ + 0 * x, original),
    "Each row divided by its income": (
        x * divided.predict(1 / x[:, np.newaxis]),
        x * divided.beta_,
        divided,
    ),
}
for title, (line, width, model) in fits.items():
    figure, axes = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
    out = model.outliers_
    axes.fill_between(x, line - width, line + width, color="0.92")
    axes.plot(x, line, color="#009E73", lw=2, label="SmoothL1Regressor and its threshold")
    axes.plot(income[~out], food[~out], ".", color="#0072B2", label="within the threshold")
    axes.plot(income[out], food[out], "^", color="#D55E00", ms=5, label="beyond the threshold")
    high = income > np.median(income)
    shares = (
        f"{out[high].mean():.0%} of the higher, {out[~high].mean():.0%} of the lower incomes"
    )
    axes.set_title(f"{title}\nbeyond the threshold: {shares}")
    axes.set(xlabel="income, francs", xscale="log", yscale="log", ylim=(150, 3500))
    axes.set_ylabel("food, francs")
    axes.set_xticks([500, 1000, 2000, 5000], ["500", "1000", "2000", "5000"])
    axes.set_yticks([200, 500, 1000, 2000], ["200", "500", "1000", "2000"])
    axes.minorticks_off()
    axes.legend(loc="upper left", frameon=False)
plt.show()
