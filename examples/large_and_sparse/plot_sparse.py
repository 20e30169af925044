"""
Sparse text counts
==================

:class:`~skrobust.SmoothL1Regressor` accepts CSR matrices without converting them to dense
arrays. This example simulates the counts of 2,000 words, whose frequencies follow Zipf's law,
in 20,000 documents. The score of a document depends on the counts of some of the words, and a
tenth of the scores are replaced by random numbers.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy import sparse
from sklearn.linear_model import Ridge
from sklearn.preprocessing import MaxAbsScaler

from skrobust import SmoothL1Regressor

rng = np.random.default_rng(0)
N_DOCUMENTS, N_WORDS, LENGTH = 20_000, 2_000, 40
frequency = 1 / np.arange(1, N_WORDS + 1)
words = rng.choice(N_WORDS, (N_DOCUMENTS, LENGTH), p=frequency / frequency.sum())
rows = np.repeat(np.arange(N_DOCUMENTS), LENGTH)
counts = sparse.csr_array(
    (np.ones(words.size), (rows, words.ravel())), shape=(N_DOCUMENTS, N_WORDS)
)
counts.sum_duplicates()
X = MaxAbsScaler().fit_transform(counts)
coef = np.where(rng.random(N_WORDS) < 0.2, rng.normal(size=N_WORDS), 0.0)
score = X @ coef + 0.2 * rng.normal(size=N_DOCUMENTS)
y = score.copy()
wrong = rng.random(N_DOCUMENTS) < 0.1
y[wrong] = rng.uniform(-20, 20, wrong.sum())
print(f"{X.shape[0]} × {X.shape[1]}, {X.nnz / np.prod(X.shape):.1%} nonzero entries")

# %%
# The penalties of the two models are comparable, because ``Ridge(alpha=a * n)`` for n rows is
# the limit of ``SmoothL1Regressor(loss="huber", alpha=a)`` as the threshold grows. Both models
# are fitted to the first half of the documents and evaluated on the uncorrupted scores of the
# second half.

half = N_DOCUMENTS // 2
alphas = np.geomspace(1e-6, 1, 13)
errors = {"Ridge": [], "SmoothL1Regressor": []}
for alpha in alphas:
    models = {
        "Ridge": Ridge(alpha * half, solver="sparse_cg"),
        "SmoothL1Regressor": SmoothL1Regressor(loss="huber", alpha=alpha, tol=1e-6),
    }
    for name, model in models.items():
        prediction = model.fit(X[:half], y[:half]).predict(X[half:])
        errors[name].append(np.abs(prediction - score[half:]).mean())

for name, found in errors.items():
    print(f"{name:18} mean |error| {min(found):.3f} at alpha = {alphas[np.argmin(found)]:.2g}")

# %%
# ``Ridge`` needs a strong penalty to reduce the variance caused by the corrupted scores, but
# this penalty also shrinks the coefficients of the relevant words. The robust fit needs a much
# weaker penalty.

figure, axes = plt.subplots(figsize=(6.4, 4.5), layout="constrained")
for name, colour, style in [
    ("Ridge", "#D55E00", "s--"),
    ("SmoothL1Regressor", "#009E73", "o-"),
]:
    axes.loglog(alphas, errors[name], style, color=colour, lw=2, label=name)
axes.set(xlabel="penalty alpha", ylabel="mean |error|, uncorrupted scores")
axes.set_yticks([0.2, 0.5, 1, 2], ["0.2", "0.5", "1", "2"])
axes.minorticks_off()
axes.legend(frameon=False)
plt.show()
