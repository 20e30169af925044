"""
Residuals of a blockwise fit
============================

:class:`~skrobust.SmoothL1Regressor` can be fitted to Dask collections, which are loaded in
blocks of rows and need not fit into memory. This example fits half a million rows in ten
blocks, on local threads, and plots the distribution of the residuals without loading all of
them into memory. With a ``dask.distributed`` client the same code runs on a cluster
(:doc:`/user_guide/out_of_memory`).
"""

import dask.array as da
import matplotlib.pyplot as plt
import numpy as np

from skrobust import SmoothL1Regressor

# %%
# A sensor measures a target with normal errors of standard deviation 0.5. In 8 % of the rows
# the reported value is too large by about 6. The blocks are generated on demand. Functions such
# as ``dask.array.from_npy_stack`` create Dask arrays whose blocks are read from files.

N_SAMPLES, N_FEATURES, CHUNK = 500_000, 8, 50_000
rng = da.random.default_rng(0)
X = rng.normal(size=(N_SAMPLES, N_FEATURES), chunks=(CHUNK, N_FEATURES))
coef = np.linspace(-2, 2, N_FEATURES)
is_wrong = rng.random(N_SAMPLES, chunks=CHUNK) < 0.08
noise = rng.normal(scale=0.5, size=N_SAMPLES, chunks=CHUNK)
y = X @ coef + noise + da.where(is_wrong, 6.0 + 2 * noise, 0.0)

model = SmoothL1Regressor().fit(X, y)
passes, rounds = (model.history_[-1][name] for name in ("n_eval", "n_rounds"))
print(f"largest error of a coefficient: {np.abs(model.coef_ - coef).max():.4f}")
print(f"{passes} passes over X in {rounds} rounds over the blocks")

# %%
# ``predict`` returns a lazy array. ``dask.array.histogram`` bins the residuals of each block
# and adds the counts, so only the counts are kept in memory. Rows whose absolute residual is at
# most ``beta_``, the threshold, have robustness weight 1. The influence of the other rows,
# which include nearly all rows with wrong values, is limited.

residual = y - model.predict(X)
counts, edges = da.histogram(residual, bins=120, range=(-3, 12))
wrong_counts, _ = da.histogram(residual[is_wrong], bins=edges)
counts, wrong_counts, outside, found = da.compute(
    counts, wrong_counts, model.outliers_.mean(), model.outliers_[is_wrong].mean()
)
print(f"beyond the threshold: {outside:.1%} of all rows, {found:.1%} of the wrong rows")

figure, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
ax.stairs(counts, edges, color="#0072B2", lw=1.5, label="all rows")
ax.stairs(wrong_counts, edges, fill=True, color="#D55E00", alpha=0.6, label="wrong rows")
for sign in (-1, 1):
    label = r"threshold $\pm\beta$" if sign > 0 else None
    ax.axvline(sign * model.beta_, color="black", ls="--", lw=1.2, label=label)
ax.set(xlabel="residual", ylabel="rows", yscale="log", xlim=(-3, 12))
ax.legend(frameon=False)
plt.show()
