"""Wide sparse X is only scaled, without a Gram matrix: the fit is that of dense X."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import sparse

from skrobust import SmoothL1Regressor
from skrobust._engines.sparse import SparseEngine

MODES = [
    {"beta": 1.0},
    {"beta": 1e-3},
    {},
    {"scale": "concomitant"},
    {"beta": 0.5, "beta_schedule": "geometric"},
]


def columns(kind, rng):
    X = rng.normal(size=(400, 12)) * (rng.uniform(size=(400, 12)) < 0.3)
    if kind == "one-hot":
        X = np.eye(12)[rng.integers(0, 12, 400)]
    elif kind == "nearly dependent":
        X[:, 1] = X[:, 0] * (1 + 1e-3 * rng.normal(size=400))
    elif kind == "units":
        X = X * np.logspace(-6, 6, 12)
    elif kind == "dependent":
        X[:, -1] = X[:, 0] - 3 * X[:, 1]
    return X


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "one-hot", "nearly dependent", "units", "dependent"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("alpha", [0.0, 1e-4])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_without_a_gram_matrix_the_fit_is_that_of_dense_x(
    monkeypatch, kind, mode, alpha, fit_intercept
):
    rng = np.random.default_rng(0)
    X = columns(kind, rng)
    y = X @ (rng.normal(size=12) / (X.std(axis=0) + 1e-300)) + rng.standard_t(2, 400)
    params = mode | {"alpha": alpha, "loss": "huber", "fit_intercept": fit_intercept}
    dense = SmoothL1Regressor(**params).fit(X, y)
    monkeypatch.setattr(SparseEngine, "gram_max_features", 0)
    est = SmoothL1Regressor(**params).fit(sparse.csr_array(X), y)
    spread = X.std(axis=0) if fit_intercept else np.sqrt((X**2).mean(axis=0))
    size = np.abs(dense.coef_ * spread).max()
    assert_allclose(est.objective_, dense.objective_, rtol=1e-7)
    assert_allclose(est.scale_, dense.scale_, rtol=1e-7)
    if kind == "one-hot" and mode.get("beta") == 1e-3:
        # A level with an even number of rows has no unique median, and the loss no unique
        # minimiser.
        return
    assert_allclose(est.coef_ * spread, dense.coef_ * spread, rtol=0, atol=2e-6 * size)
    assert_allclose(est.predict(X), dense.predict(X), rtol=0, atol=1e-6 * size)
