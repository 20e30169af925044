"""
Sparse regularisation paths with wrong targets
==============================================

With an L1 penalty many coefficients are exactly zero; how many depends on the strength of the
penalty. This example shows the coefficients as functions of the penalty, with the squared loss
and with the Huber loss, for data in which 5 of 40 features have an effect and 10 % of the
targets are wrong.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import lasso_path

from skrobust import smooth_l1_path

rng = np.random.default_rng(0)
n, p = 100, 40
coef = np.zeros(p)
coef[:5] = [3.0, -2.0, 2.0, -1.5, 1.0]
X = rng.normal(size=(n, p))
y = X @ coef + rng.normal(size=n)
y[:10] += 40.0

# %%
# Both paths begin at the smallest penalty for which all coefficients are zero.

alphas, lasso, _ = lasso_path(X - X.mean(axis=0), y - y.mean(), eps=0.01)
path = smooth_l1_path(X, y, alphas=60, beta=1.345, loss="huber", l1_ratio=1.0)

# %%
# The wrong targets influence the lasso so strongly that features without an effect enter the
# model together with the five relevant features. The Huber loss limits the influence of the
# wrong targets, so the five relevant features (in colour) enter first.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
panels = [
    ("Lasso", alphas, lasso),
    ('SmoothL1Regressor, loss="huber", l1_ratio=1', path.grid, path.coefs),
]
for ax, (title, penalties, coefs) in zip(axes, panels, strict=True):
    share = penalties / penalties[0]
    ax.plot(share, coefs[5:].T, color="0.75", linewidth=0.8)
    for j in range(5):
        (line,) = ax.plot(share, coefs[j], linewidth=2)
        ax.axhline(coef[j], color=line.get_color(), linewidth=0.6, linestyle=":")
    ax.set(xscale="log", xlim=(1, 0.01), title=title)
    ax.set_xlabel("penalty relative to the smallest with all coefficients zero")
axes[0].set_ylabel("coefficient (dotted: true value)")

# %%
# The code prints the number of features in the model when the last relevant feature enters.

for name, coefs in (("Lasso", lasso), ("Huber loss", path.coefs)):
    complete = np.flatnonzero((coefs[:5] != 0).all(axis=0))
    first = complete[0] if complete.size else -1
    print(f"{name:10}  {np.count_nonzero(coefs[:, first])} features")

plt.show()
