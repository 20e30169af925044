"""
The effect of the threshold β
=============================

If the threshold β is large, every residual is penalised quadratically, and the fit is a
least-squares fit. If β is small, nearly every residual is penalised by its absolute value, and
the fit estimates the conditional median. This example shows how the slope of a fit to Engel's
household data changes between these two limits.
"""

import matplotlib.pyplot as plt
import numpy as np
import statsmodels.api as sm
from sklearn.linear_model import LinearRegression, QuantileRegressor

from skrobust import SmoothL1Regressor

data = sm.datasets.engel.load_pandas().data
X, y = data[["income"]], data["foodexp"]

# %%
# With a warm start, each fit starts from the solution for the previous threshold.

betas = np.geomspace(3000, 0.1, 60)
model = SmoothL1Regressor(loss="huber", warm_start=True)
slopes, shares = [], []
for beta in betas:
    model.set_params(beta=beta).fit(X, y)
    slopes.append(model.coef_[0])
    shares.append(model.outliers_.mean())

squares = LinearRegression().fit(X, y).coef_[0]
median = QuantileRegressor(quantile=0.5, alpha=0).fit(X, y).coef_[0]
auto = SmoothL1Regressor().fit(X, y)
print(f"least squares          {squares:.4f}   β = {betas[0]:.0f}: {slopes[0]:.4f}")
print(f"median regression      {median:.4f}   β = {betas[-1]:.1f}: {slopes[-1]:.4f}")
print(f'beta="auto"            {auto.coef_[0]:.4f}   β = {auto.beta_:.1f}')

# %%
# With normal errors, the default has 95 % of the efficiency of least squares, and 18 % of the
# absolute residuals exceed the default threshold. In these data, 20 % exceed it.

figure, (top, bottom) = plt.subplots(
    2, 1, figsize=(6.4, 5), sharex=True, layout="constrained", height_ratios=[2, 1]
)
top.semilogx(betas, slopes, color="#009E73", lw=2, label="SmoothL1Regressor(beta=β)")
top.axhline(squares, color="#D55E00", ls="--", label="LinearRegression")
top.axhline(median, color="#0072B2", ls=":", lw=2, label="QuantileRegressor, median")
top.plot(auto.beta_, auto.coef_[0], "ko", ms=8, label='beta="auto"')
top.set_ylabel("slope")
top.legend(frameon=False)
bottom.semilogx(betas, shares, color="#009E73", lw=2)
bottom.plot(auto.beta_, auto.outliers_.mean(), "ko", ms=8)
bottom.set(ylim=(0, 1), ylabel="fraction of rows\nbeyond β", xlabel="threshold β, francs")
plt.show()
