"""
Robustness weights and agreement with R's rlm
=============================================

By default, :class:`~skrobust.SmoothL1Regressor` computes the same fit as R's ``rlm`` and
statsmodels' ``RLM``: all three minimise the Huber loss, with a threshold of 1.345 times the
normalised MAD of the residuals. This example compares ``SmoothL1Regressor`` with ``RLM`` on
Brownlee's stackloss data, which cover 21 days of operation of a plant that oxidises ammonia to
nitric acid, and plots the robustness weights.
"""

import matplotlib.pyplot as plt
import numpy as np
import statsmodels.api as sm

from skrobust import SmoothL1Regressor

data = sm.datasets.stackloss.load_pandas()
X, y = data.exog, data.endog
model = SmoothL1Regressor().fit(X, y)
rlm = sm.RLM(y, sm.add_constant(X), M=sm.robust.norms.HuberT(1.345))
rlm = rlm.fit(tol=1e-10, maxiter=1000)

print(f"{'':18}{'SmoothL1Regressor':>18}{'RLM':>12}")
values = [*model.coef_, model.intercept_, model.scale_]
rlm_values = [*rlm.params[X.columns], rlm.params["const"], rlm.scale]
names = [*X.columns, "intercept", "scale"]
for name, value, other in zip(names, values, rlm_values, strict=True):
    print(f"{name:18}{value:18.6f}{other:12.6f}")

# %%
# Robustness weights
# ------------------
# The fit equals a weighted least-squares fit in which a row has weight 1 if its absolute
# residual \|r\| is at most β, and weight β/\|r\| otherwise. ``RLM`` stores the same weights in
# its attribute ``weights``. Days 21, 4 and 3 have the smallest weights. Rousseeuw and Leroy
# ("Robust Regression and Outlier Detection", 1987) also identify day 1 as an outlier, using
# estimators with a high breakdown point. The days marked in ``outliers_`` have absolute
# residuals above the threshold and are downweighted. A mark alone does not show that the record
# is wrong.

residual = (y - model.predict(X)).to_numpy()
weight = np.minimum(1, model.beta_ / np.abs(residual))
difference = np.abs(weight - rlm.weights).max()
print(f"largest difference from the weights of RLM: {difference:.1e}")
print("days beyond the threshold:", np.flatnonzero(model.outliers_) + 1)

# %%

figure, axes = plt.subplots(figsize=(6.4, 4.5), layout="constrained")
low = model.outliers_
axes.axvspan(-model.beta_, model.beta_, color="0.93")
axes.text(0, 0.05, "within β", ha="center")
axes.plot(residual[~low], weight[~low], "o", color="#0072B2", label="weight 1")
axes.plot(residual[low], weight[low], "^", color="#D55E00", ms=9, label="downweighted")
r = np.linspace(-10, 10, 401)
axes.plot(r, np.minimum(1, model.beta_ / np.maximum(np.abs(r), 1e-9)), color="0.4", zorder=0)
for day in np.flatnonzero(low):
    place = (residual[day], weight[day])
    shift = (10, 4 if residual[day] > 0 else -12)  # moves the label off the curve
    axes.annotate(f"day {day + 1}", place, shift, textcoords="offset points")
axes.set(xlabel="residual", ylabel="robustness weight", ylim=(0, 1.1))
axes.legend(loc="center", frameon=False)
plt.show()
