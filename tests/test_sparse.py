"""Wide sparse X is scaled without a Gram matrix, and the fit equals the fit to dense X."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

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
        # The median of y over a level with an even number of rows is not unique, and neither is
        # the minimiser of the objective.
        return
    assert_allclose(est.coef_ * spread, dense.coef_ * spread, rtol=0, atol=2e-6 * size)
    assert_allclose(est.predict(X), dense.predict(X), rtol=0, atol=1e-6 * size)


def scaled_only(kind, n=3_000, p=250):
    """Return sparse features, which the whitening only scales, and a heavy-tailed target."""
    rng = np.random.default_rng(0)
    X = sparse.random_array((n, p), density=0.03, rng=rng, format="csc")
    if kind == "power law":
        # The number of stored elements decreases from column to column, as in word counts.
        keep = rng.random((n, p)) < 30.0 / np.arange(1, p + 1)
        X = sparse.csc_array(X * keep)
    elif kind == "duplicates":
        X = sparse.hstack([X[:, : p // 2], X[:, : p - p // 2]], format="csc")
    elif kind == "correlated":
        X = sparse.csc_array(X + 0.9 * X[:, np.roll(np.arange(p), 1)])
    elif kind == "leverage":
        X = sparse.csr_array(X)
        X[:3] *= 1e3
    elif kind == "one-hot":
        X = sparse.csr_array(np.eye(p)[rng.integers(0, p, n)])
    X = sparse.csr_array(X)
    y = X @ rng.normal(size=p) + rng.standard_t(2, size=n)
    if kind == "exact":
        y[: 2 * n // 3] = (X @ np.ones(p))[: 2 * n // 3]
    elif kind == "one side":
        y[: n // 4] += 30.0
    return X, y


@pytest.mark.parametrize(
    "kind",
    [
        "random",
        "power law",
        "duplicates",
        "correlated",
        "leverage",
        "one-hot",
        "exact",
        "one side",
    ],
)
@pytest.mark.parametrize(
    "mode",
    [
        {},
        {"beta": 1.0},
        {"beta": 1e-3},
        {"scale": "concomitant"},
        {"loss": "huber", "alpha": 0.01},
    ],
)
def test_features_that_are_only_scaled_have_the_fit_of_newtons_method(kind, mode):
    X, y = scaled_only(kind)
    model = SmoothL1Regressor(**mode).fit(X, y)
    expected = SmoothL1Regressor(**mode, solver="newton").fit(X, y)
    assert "anderson" in model.history_[-1]["algorithms"]
    assert_allclose(model.scale_, expected.scale_, rtol=1e-6)
    assert_allclose(model.objective_, expected.objective_, rtol=1e-6)
    assert_allclose(model.predict(X), expected.predict(X), rtol=0, atol=1e-5 * np.std(y))
    passes = [sum(stage["n_eval"] for stage in m.history_) for m in (model, expected)]
    assert passes[0] <= passes[1] + 10


@pytest.mark.parametrize("max_iter", [300, 1000])
def test_conjugate_gradients_that_are_slow_count_as_iterations(max_iter):
    # In an earlier version, each step spent 22 passes on conjugate gradients before forming the
    # Hessian.
    rng = np.random.default_rng(0)
    X = rng.standard_t(1.5, size=(324, 204)) * (rng.random((324, 204)) < 0.05)
    y = X.sum(axis=1) + rng.normal(size=324)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        est = SmoothL1Regressor(max_iter=max_iter).fit(sparse.csr_array(X), y)
    assert est.n_iter_ <= max_iter
    algorithms = est.history_[-1]["algorithms"]
    assert algorithms["newton"] <= 2 * max_iter + 60
