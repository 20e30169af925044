"""
Displays of a fitted model
==========================

The classes in :mod:`skrobust.displays` follow the conventions of scikit-learn's displays: the
class method ``from_estimator`` draws the plot and returns an object whose attributes are the
artists of the plot. This example shows displays of fits to scikit-learn's diabetes data, in
which every eighth target is multiplied by ten.
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
    DiagnosticsDisplay,
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
# Residuals and robustness weights
# --------------------------------
# A row whose absolute residual \|r\| exceeds the threshold β has robustness weight β/\|r\|; the
# other rows have weight 1. If some residuals are much larger than the others, the residual axis
# is logarithmic outside the band \|r\| ≤ β. The rows with the largest residuals are labelled.

figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.5), layout="constrained")
ResidualsDisplay.from_estimator(model, X, y, ax=left)
WeightsDisplay.from_estimator(model, X, y, ax=right)
plt.show()

# sphinx_gallery_thumbnail_number = 2

# %%
# Four diagnostic plots
# ---------------------
# The same rows are labelled in all four plots: those with the largest residuals and those with
# the largest values of Cook's distance.

DiagnosticsDisplay.from_estimator(model, X, y)
plt.show()

# %%
# The fitted line
# ---------------

bmi = X[["bmi"]]
lines = {
    "SmoothL1Regressor": SmoothL1Regressor().fit(bmi, y),
    "LinearRegression": LinearRegression().fit(bmi, y),
}
FitDisplay.from_estimator(lines, bmi, y)
plt.show()

# %%
# One of several features
# -----------------------
# If a model has several features, the curve shows the predictions as a function of one feature,
# averaged over the observed values of the other features. Each row is drawn at the value of the
# curve plus the residual of the row, so a smooth curve through the points shows the shape of
# the effect of the feature.

FitDisplay.from_estimator(model, X, y, feature="bmi", partial_residuals=True)
plt.show()

# %%
# Coefficients and scores as functions of β
# -----------------------------------------
# The first plot shows the coefficients as functions of β, from median regression (small β) to
# least squares (large β). The second plot shows the cross-validated error for each threshold.
# The band shows the standard error of the difference from the best score. Where it reaches the
# grey line, which marks the best score, the difference may be due to chance. The ring marks the
# threshold selected by the :doc:`one-standard-error rule </user_guide/choosing_beta>`.

search = SmoothL1RegressorCV().fit(X, y)
figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.5), layout="constrained")
PathDisplay.from_estimator(model, X, y, ax=left)
CVDisplay.from_estimator(search, negate_score=True, ax=right)
plt.show()

# %%
# Convergence
# -----------
# ``ConvergenceDisplay`` shows the number of passes over the data and the norm of the gradient
# in each stage of the fit.

ConvergenceDisplay.from_estimator(model)
plt.show()
