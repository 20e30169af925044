"""
Displays of a fitted model
==========================

The displays of :mod:`skrobust.displays` follow the conventions of scikit-learn's displays: the
class method ``from_estimator`` draws the plot and returns an object whose attributes are the
artists of the plot. This example shows displays of fits to scikit-learn's diabetes data, in
which the target of every eighth record is multiplied by ten.
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
# A row whose absolute residual \|r\| exceeds the threshold β has the robustness weight β/\|r\|,
# and the other rows have the weight 1. If some residuals are much larger than the other
# residuals, the axis of the residuals is logarithmic outside the band \|r\| ≤ β. The rows with
# the largest residuals are labelled.

figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.5), layout="constrained")
ResidualsDisplay.from_estimator(model, X, y, ax=left)
WeightsDisplay.from_estimator(model, X, y, ax=right)
plt.show()

# sphinx_gallery_thumbnail_number = 2

# %%
# Four diagnostic plots
# ---------------------
# The same rows are labelled in all four plots: the rows with the largest residuals and the rows
# with the largest Cook's distances.

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
# averaged over the values of the other features in the rows. Each row is drawn at the value of
# the curve plus its residual, so that a smooth curve through the rows shows the form of the
# effect.

FitDisplay.from_estimator(model, X, y, feature="bmi", partial_residuals=True)
plt.show()

# %%
# Coefficients and score along β
# ------------------------------
# The first plot shows the coefficients as functions of β, from median regression (small β) to
# least squares (large β). The second plot shows the cross-validated error of each threshold.
# Where the band reaches the grey line, which marks the best score, the difference between the
# scores of this threshold and of the best threshold may be due to chance. The ring marks the
# threshold that the :doc:`rule of one standard error </user_guide/choosing_beta>` selects.

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
