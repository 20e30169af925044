"""
What does a fit look like?
==========================

The displays of :mod:`skrobust.displays` draw fitted estimators as scikit-learn's do: one call
to ``from_estimator``, and the artists as attributes to change. Here is each of them, on
scikit-learn's diabetes data with a slipped digit in every eighth record.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skrobust import SmoothL1Regressor, SmoothL1RegressorCV
from skrobust.displays import (
    ConvergenceDisplay,
    CVDisplay,
    FitDisplay,
    PathDisplay,
    ResidualsDisplay,
    WeightsDisplay,
)

X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
y = y.where(y.index % 8 != 0, 10 * y)
model = make_pipeline(StandardScaler(), SmoothL1Regressor(beta_schedule="geometric"))
model.fit(X, y)

# %%
# Which rows are outliers, and what do they count for?
# ----------------------------------------------------
# Residuals beyond the threshold count linearly: their weight is the threshold over their size.
# Far outliers would flatten the rest, so that outside the band the axis is then logarithmic.

figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.5), layout="constrained")
ResidualsDisplay.from_estimator(model, X, y, ax=left)
WeightsDisplay.from_estimator(model, X, y, ax=right)
plt.show()

# %%
# Which line goes through the data?
# ---------------------------------

bmi = X[["bmi"]]
lines = {
    "SmoothL1Regressor": SmoothL1Regressor().fit(bmi, y),
    "LinearRegression": LinearRegression().fit(bmi, y),
}
FitDisplay.from_estimator(lines, bmi, y)
plt.show()

# %%
# What does β do?
# ---------------
# The coefficients from least squares, on the right, to the median, and the score that
# cross-validation gives each threshold. Both choose for themselves what to fit.

search = SmoothL1RegressorCV().fit(X, y)
figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.5), layout="constrained")
PathDisplay.from_estimator(model, X, y, ax=left)
CVDisplay.from_estimator(search, score_name="Mean absolute error, negated", ax=right)
plt.show()

# %%
# How did it get there?
# ---------------------

ConvergenceDisplay.from_estimator(model)
plt.show()
