"""
Standard errors under heteroscedasticity
========================================

The households in Engel's data (1857) spend between 240 and 2,030 Belgian francs a year on food,
and the spread around the regression line grows with income. The standard errors of statsmodels'
``RLM`` and R's ``rlm`` assume that the error distribution does not depend on the features. This
example compares the standard errors of ``RLM`` with the default standard errors of
:func:`~skrobust.inference.coefficient_table`.
"""

import matplotlib.pyplot as plt
import numpy as np
import statsmodels.api as sm
from sklearn.datasets import load_diabetes

from skrobust import SmoothL1Regressor
from skrobust.displays import CoefficientsDisplay
from skrobust.inference import coefficient_table

engel = sm.datasets.engel.load_pandas().data
X, y = engel[["income"]], engel["foodexp"]
model = SmoothL1Regressor().fit(X, y)

# %%
# Kinds of standard errors
# ------------------------
# The covariance H1, which assumes identically distributed errors, is the default of ``RLM``, so
# the first two standard errors printed are equal up to the tolerance of ``RLM``. HC3, the
# default of this package, allows each row to have a different error variance.

rlm = sm.RLM(y, sm.add_constant(X)).fit(tol=1e-10, maxiter=1000)
print(f"{'RLM':11}{rlm.bse['income']:.5f}")
for kind in ["H1", "HC3", "bootstrap"]:
    table = coefficient_table(model, X, y, covariance=kind, random_state=0)
    print(f"{kind:11}{table.frame.loc['income', 'std_err']:.5f}")

# %%
# The HC3 standard error of the slope is three times the H1 standard error. The bootstrap, which
# makes no assumption about the variances, agrees with HC3. The following table shows HC3
# standard errors.

table = coefficient_table(model, X, y)
print(table)

# %%
# Intervals for the mean and for a new household
# ----------------------------------------------
# The band shows the confidence interval for the mean expenditure with HC3, and the dashed lines
# show the interval with H1. The dotted lines show the prediction interval for a new household,
# which has the same width for all incomes. It covers 95 % of all households, but less than 95 %
# of those with high incomes.

income = X.sample(0).reindex(range(200))
income["income"] = np.linspace(X["income"].min(), X["income"].max(), 200)
fit, lower, upper = table.predict(income).T
h1 = coefficient_table(model, X, y, covariance="H1").predict(income)
new = table.predict_interval(income)

figure, ax = plt.subplots(layout="constrained")
ax.plot(X["income"], y, ".", color="0.6", label="household")
ax.plot(income["income"], fit, color="#0072B2", label="fit")
ax.fill_between(
    income["income"], lower, upper, color="#0072B2", alpha=0.3, linewidth=0, label="mean, HC3"
)
ax.plot(income["income"], h1[:, 1:], "--", color="#D55E00", label=["mean, H1", None])
ax.plot(income["income"], new[:, 1:], ":", color="black", label=["new household", None])
ax.set(xlabel="Income [francs]", ylabel="Food expenditure [francs]")
ax.legend()
plt.show()

# %%
# Many coefficients
# -----------------
# A forest plot shows the coefficients of a larger model, fitted to scikit-learn's diabetes
# data. Each coefficient is multiplied by the standard deviation of its feature. A marker is
# filled if the confidence interval excludes zero.

X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
table = coefficient_table(SmoothL1Regressor().fit(X, y), X, y)
CoefficientsDisplay.from_table(table, target_name="disease progression")
plt.show()
