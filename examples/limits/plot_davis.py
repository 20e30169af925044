"""
A swapped height and weight: one high-leverage record
=====================================================

Davis (1990) measured the weight and height of people who exercise regularly. In the record of
one woman the two numbers are swapped: 166 kg and 57 cm. The other heights lie between 148 and
178 cm, so this record has very high leverage in a regression of weight on height. This example
shows the effect of the record on least squares and on fits with a Huber loss, and shows that an
MM-estimator resists the record.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import (
    HuberRegressor,
    LinearRegression,
    QuantileRegressor,
    TheilSenRegressor,
)

from skrobust import MMRegressor, SmoothL1Regressor
from skrobust.displays import DiagnosticsDisplay

# %%
# The data
# --------
# The data are the measured weights (kg) and heights (cm) of the 112 women. The two columns are
# taken from C. Davis, "Body image and weight preoccupation: a comparison between exercising and
# non-exercising women", Appetite 15, 13–21, 1990. They are published as the data set ``Davis``
# of the R package carData (J. Fox, S. Weisberg and B. Price; licence GPL, version 2 or later).
# Nothing else from carData is reproduced.

records = np.fromstring(
    """
    58 161   53 161   59 157   166 57   51 161   64 168   52 163   65 166
    62 168   61 175   61 170   54 171   50 166   63 169   58 166   39 157
    71 166   52 164   68 169   56 166   54 164   63 163   54 160   49 161
    54 174   75 162   56 165   66 170   78 173   60 162   64 165   64 164
    52 158   62 175   55 165   56 163   50 166   50 171   50 160   63 160
    61 165   53 169   60 167   56 170   53 165   57 163   57 162   56 161
    56 165   50 169   52 159   55 155   55 164   47 163   45 163   62 175
    53 164   52 152   57 167   64 166   59 166   55 174   76 167   62 168
    68 178   55 165   52 169   47 153   45 157   68 171   44 157   62 166
    56 160   50 148   53 162   64 172   62 167   52 163   53 165   54 176
    64 171   55 160   55 165   59 157   70 173   57 168   47 162   47 150
    55 162   48 163   59 170   58 169   57 167   51 163   54 161   53 162
    59 172   59 159   63 170   66 166   53 158   54 163   60 174   43 154
    63 165   56 162   60 172   58 169   50 158   59 164   51 156   62 164
    """,
    sep=" ",
).reshape(-1, 2)
weight, height = records.T
swapped = int(height.argmin())
print(f"record {swapped}: weight {weight[swapped]:.0f} kg, height {height[swapped]:.0f} cm")

# %%
# Leverage
# --------
# The leverage of a row is the corresponding diagonal element of the hat matrix. It depends only
# on the features and lies between 0 and 1. The mean leverage is the number of coefficients
# divided by the number of rows. A common rule is to inspect rows whose leverage exceeds twice
# the mean.

design = np.column_stack([np.ones_like(height), height])
leverage = (np.linalg.qr(design)[0] ** 2).sum(axis=1)
print(f"mean leverage {leverage.mean():.3f}, of the swapped record {leverage[swapped]:.3f}")

# %%
# Six regressors
# --------------
# Each regressor is fitted to the data with the swapped record and to the corrected data.

corrected_weight, corrected_height = weight.copy(), height.copy()
corrected_weight[swapped], corrected_height[swapped] = height[swapped], weight[swapped]
models = {
    "LinearRegression": LinearRegression(),
    "HuberRegressor": HuberRegressor(),
    "QuantileRegressor": QuantileRegressor(alpha=0),
    "SmoothL1Regressor": SmoothL1Regressor(),
    "TheilSenRegressor": TheilSenRegressor(random_state=0),
    "MMRegressor": MMRegressor(),
}
print(f"{'slope, kg per cm':20}{'corrected':>10}{'swapped':>10}")
for name, model in models.items():
    before = model.fit(corrected_height[:, np.newaxis], corrected_weight).coef_[0]
    after = model.fit(height[:, np.newaxis], weight).coef_[0]
    print(f"{name:20}{before:10.3f}{after:10.3f}")

# %%
# The least-squares slope becomes negative. The three fits whose loss grows linearly
# (``HuberRegressor``, ``QuantileRegressor`` and ``SmoothL1Regressor``) have positive slopes,
# which are 30 % to 50 % smaller than for the corrected data. The influence of a row on a fit is
# the product of two factors, one of which depends on the residual and the other on the
# features. The Huber loss bounds only the first factor. The height of 57 cm is 19 standard
# deviations below the mean of the other heights, so the row has a large effect although its
# robustness weight is small. The slope of ``TheilSenRegressor`` is 5 % smaller than for the
# corrected data. The slope of ``MMRegressor`` hardly changes, because the bisquare loss gives
# the record zero weight.

robust = models["SmoothL1Regressor"]
residual = weight - robust.predict(height[:, np.newaxis])
row_weight = min(1.0, robust.beta_ / abs(residual[swapped]))
print(f"robustness weight of the swapped record: {row_weight:.3f}")
print(f"marked in outliers_: {bool(robust.outliers_[swapped])}")

# %%
# The record is marked in ``outliers_`` because its residual is also large. This is not true of
# every leverage point, because some attract the fit so strongly that their residuals are small.
# Check the leverage of the rows before the fit, or inspect ``leverage_`` of ``MMRegressor``. In
# these data the remedy is to correct the record.
#
# :class:`~skrobust.displays.DiagnosticsDisplay` labels the record in each of its four panels.
# In the fourth panel the record, with a leverage of 0.8, is the only row beyond the contours of
# Cook's distance.

DiagnosticsDisplay.from_estimator(robust, height[:, np.newaxis], weight, target_name="weight")
plt.show()

# %%
# With ``MMRegressor`` the fourth panel is the outlier map, in which the record is the only bad
# leverage point.

mm = models["MMRegressor"]
print(f"weight of the swapped record with MMRegressor: {mm.weights_[swapped]:.3f}")
print(f"marked in leverage_: {bool(mm.leverage_[swapped])}")
DiagnosticsDisplay.from_estimator(mm, height[:, np.newaxis], weight, target_name="weight")
plt.show()

# %%
# The figure shows three of the fitted lines and the ``SmoothL1Regressor`` line for the
# corrected data.

STYLES = {
    "LinearRegression": ("#D55E00", "--"),
    "HuberRegressor": ("#0072B2", ":"),
    "SmoothL1Regressor": ("#009E73", "-"),
}
figure, axes = plt.subplots(figsize=(6.4, 4.5), layout="constrained")
axes.plot(height, weight, ".", color="0.6", label="women")
axes.plot(height[swapped], weight[swapped], "kx", ms=10, mew=2, label="swapped record")
ends = np.array([[50.0], [180.0]])
for name, (colour, dashes) in STYLES.items():
    model = models[name]
    label = f"{name}: {model.coef_[0]:.2f} kg/cm"
    axes.plot(ends, model.predict(ends), color=colour, ls=dashes, lw=2, label=label)
corrected = SmoothL1Regressor().fit(corrected_height[:, np.newaxis], corrected_weight)
label = f"corrected data: {corrected.coef_[0]:.2f} kg/cm"
axes.plot(ends, corrected.predict(ends), color="k", lw=1, label=label)
axes.set(xlabel="height, cm", ylabel="weight, kg", ylim=(-20, 190))
axes.legend(loc="upper right", frameon=False)
plt.show()
