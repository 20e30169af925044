"""
Searching over β in a pipeline with a transformed target
========================================================

This example searches over β with :class:`~sklearn.model_selection.GridSearchCV` inside a
pipeline. The target of scikit-learn's diabetes data is positive and skewed, and is modelled on
a logarithmic scale. In 8 % of the training rows the decimal point of the target is misplaced by
one or two digits. The test rows are not corrupted.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer

from skrobust import SmoothL1Regressor

X, y = load_diabetes(return_X_y=True, scaled=False)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
rng = np.random.default_rng(0)
wrong = rng.permutation(len(y_train))[: round(0.08 * len(y_train))]
y_train[wrong] *= rng.choice([0.01, 0.1, 10, 100], wrong.size)

# %%
# A small penalty regularises the 50 spline features. The search uses ``loss="huber"``, because
# the data term of ``"smooth_l1"`` decreases as β grows, and the penalty would dominate the
# objective for large β. The threshold is a difference between logarithms of targets: β = 0.7
# corresponds to a factor of two.
#
# The validation folds also contain corrupted rows. Unlike R², the default score, the median
# absolute error is not sensitive to them.


def pipeline(regressor):
    steps = make_pipeline(SplineTransformer(n_knots=4, degree=2), regressor)
    return TransformedTargetRegressor(steps, func=np.log, inverse_func=np.exp)


betas = np.geomspace(0.01, 10, 13)
search = GridSearchCV(
    pipeline(SmoothL1Regressor(loss="huber", alpha=1e-3)),
    {"regressor__smoothl1regressor__beta": betas},
    scoring="neg_median_absolute_error",
)
search.fit(X_train, y_train)
best = search.best_params_["regressor__smoothl1regressor__beta"]
least_squares = pipeline(LinearRegression()).fit(X_train, y_train)
auto = pipeline(SmoothL1Regressor(loss="huber", alpha=1e-3)).fit(X_train, y_train)
models = {
    "LinearRegression": least_squares,
    "SmoothL1Regressor, β auto": auto,
    f"SmoothL1Regressor, β = {best:.2g}": search,
}
for name, model in models.items():
    error = mean_absolute_error(y_test, model.predict(X_test))
    print(f"{name:28} mean |error| on clean rows: {error:.1f}")

# %%
# In a notebook, the best estimator has the following HTML representation. The question mark
# next to ``SmoothL1Regressor`` links to its page in the API reference.

search.best_estimator_

# %%
# The median absolute error changes little around its minimum, so the choice of β is not
# critical. The default threshold is close to the best threshold and does not require a search.

scores = search.cv_results_
figure, axes = plt.subplots(figsize=(6.4, 4.5), layout="constrained")
for fold in range(5):
    label = "one fold" if fold == 0 else None
    axes.semilogx(betas, -scores[f"split{fold}_test_score"], color="0.8", lw=1, label=label)
axes.semilogx(betas, -scores["mean_test_score"], "o-", color="#009E73", lw=2, label="mean")
axes.axvline(best, color="0.3", ls="--", label=f"best β = {best:.2g}")
beta_auto = auto.regressor_[-1].beta_
axes.axvline(beta_auto, color="#0072B2", ls=":", lw=2, label=f"auto: β = {beta_auto:.2g}")
axes.set_xlabel("threshold β, units of log y")
axes.set_ylabel("median |error|, validation folds")
axes.legend(frameon=False)
plt.show()
