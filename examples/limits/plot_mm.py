"""
MM-estimation: clusters of leverage points
==========================================

Rows with extreme features have high leverage. A cluster of such rows attracts any fit that
minimises a convex loss, so the residuals of these rows may be small.
:class:`~skrobust.MMRegressor` resists high-leverage rows as long as they make up less than half
of all rows. This example compares ``MMRegressor`` with three other estimators and shows the
outlier map of the MM-estimate.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import HuberRegressor, LinearRegression

from skrobust import MMRegressor, SmoothL1Regressor
from skrobust.displays import OutlierMapDisplay

# %%
# The data
# --------
# Most rows follow the model y = 1 + x with normal errors. A cluster of 30 of the 150 rows is
# far from this line at large values of x, a second cluster of 10 rows is on the line at even
# larger values of x, and 10 other rows have large errors.

rng = np.random.default_rng(0)
x = np.concatenate(
    [
        rng.normal(0, 1, 100),
        rng.normal(7, 0.3, 30),
        rng.normal(9, 0.3, 10),
        rng.normal(0, 1, 10),
    ]
)
y = 1 + x + rng.normal(0, 0.5, 150)
y[100:130] -= 9
y[140:] += 5
X = x[:, np.newaxis]

# %%
# Four fits
# ---------

models = {
    "LinearRegression": LinearRegression(),
    "HuberRegressor": HuberRegressor(),
    "SmoothL1Regressor": SmoothL1Regressor(),
    "MMRegressor": MMRegressor(),
}
for name, model in models.items():
    model.fit(X, y)
    print(f"{name:18} intercept {model.intercept_:6.2f}   slope {model.coef_[0]:6.2f}")

# %%
# Only the slope of ``MMRegressor`` is close to 1. The other lines pass between the first
# cluster and the majority of the rows.

ends = np.array([[-3.0], [10.5]])
STYLES = [("#D55E00", "--"), ("#CC79A7", "-."), ("#0072B2", ":"), ("#009E73", "-")]
figure, ax = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
ax.plot(x, y, ".", color="0.6")
for (name, model), (colour, dashes) in zip(models.items(), STYLES, strict=True):
    ax.plot(ends, model.predict(ends), color=colour, ls=dashes, lw=2.5, label=name)
ax.set(title="Four fits of data with two clusters", xlabel="x", ylabel="y")
figure.legend(loc="outside lower center", ncols=2, frameon=False)
plt.show()

# %%
# The outlier map
# ---------------
# :class:`~skrobust.displays.OutlierMapDisplay` plots the residuals, in units of the scale,
# against the robust distances of the features from their centre. The first cluster consists of
# bad leverage points. The second cluster consists of good leverage points, which reduce the
# variance of the slope. For normal data, 1 % of the residuals and 2.5 % of the distances exceed
# the cutoffs. In these data, two rows that follow the model have residuals just beyond the
# cutoff.

display = OutlierMapDisplay.from_estimator(models["MMRegressor"], X, y)
display.ax_.set_title("Outlier map of MMRegressor")
plt.show()

# %%
# The attribute ``quadrants`` classifies each row.

for kind, count in zip(*np.unique(display.quadrants, return_counts=True), strict=True):
    print(f"{kind:18}{count:4}")
