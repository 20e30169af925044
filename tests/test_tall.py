"""A fit to tall X starts from a sample but returns the fit to all rows."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning

from skrobust import SmoothL1Regressor, _solvers

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("each_engine")]

N = 6000
MODES = [
    {"beta": 1.0},
    {"beta": 1e-3},
    {},
    {"loss": "huber"},
    {"beta": 2.0, "scale": "mad"},
    {"scale": "concomitant"},
    {"beta": 1.35, "scale": "concomitant", "loss": "huber"},
    {"beta_schedule": "geometric"},
]


def columns(kind, p, rng):
    X = rng.normal(size=(N, p))
    if kind == "leverage":
        X[rng.choice(N, 5, replace=False)] *= 1e4
    elif kind == "rare level":
        X[:, 0] = 0.0
        X[rng.choice(N, 3, replace=False), 0] = 1.0
    elif kind == "heavy tails":
        X = rng.standard_t(1.2, size=(N, p))
    elif kind == "sorted":
        X = np.sort(X, axis=0)
    elif kind == "periodic":
        X[:, 0] = np.sin(np.arange(N) * 2 * np.pi / 8)
    elif kind == "dependent":
        X[:, -1] = 2 * X[:, 0] + 1
    elif kind == "zero":
        X[:] = 0.0
    return X


def fits(monkeypatch, X, y, weight=None, **params):
    """Return the fit that starts from a sample and the fit that does not."""
    found = []
    for many in (0, np.inf):
        monkeypatch.setattr(_solvers, "TALL_MIN_ELEMENTS", many)
        found.append(SmoothL1Regressor(**params).fit(X, y, sample_weight=weight))
    return found


def assert_same(sampled, whole):
    size = np.abs(whole.coef_).max() + 1e-300
    assert_allclose(sampled.coef_, whole.coef_, rtol=1e-7, atol=1e-7 * size)
    # With the MAD, the objective is not stationary in the scale, so `objective_` is less
    # accurate than with a concomitant scale or a fixed threshold.
    fixed = whole.scale == "concomitant" or (whole.beta != "auto" and whole.scale is None)
    assert_allclose(sampled.objective_, whole.objective_, rtol=1e-10 if fixed else 1e-7)
    assert_allclose(sampled.scale_, whole.scale_, rtol=1e-7)
    # If the fit starts from a sample, `optimality_` is a second-order estimate of the
    # suboptimality; otherwise it is a first-order bound.
    assert 0 <= sampled.optimality_ < 1e-8


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("alpha", [0.0, 1e-3, 10.0])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_penalties_and_modes(monkeypatch, mode, alpha, fit_intercept):
    rng = np.random.default_rng(0)
    X = columns("normal", 4, rng) * [1, 10, 0.1, 1] + [0, 5, 0, 0]
    y = X @ [1.0, 2.0, 3.0, 4.0] + rng.standard_t(2, N)
    assert_same(*fits(monkeypatch, X, y, alpha=alpha, fit_intercept=fit_intercept, **mode))


@pytest.mark.parametrize("p", [1, 2, 3, 8, 15])
@pytest.mark.parametrize("mode", MODES)
def test_few_and_many_features(monkeypatch, mode, p):
    rng = np.random.default_rng(p)
    X = columns("normal", p, rng)
    y = X.sum(axis=1) + rng.standard_t(2, N) + 50 * (rng.uniform(size=N) < 0.1)
    assert_same(*fits(monkeypatch, X, y, **mode))


@pytest.mark.parametrize(
    "kind",
    ["leverage", "rare level", "heavy tails", "sorted", "periodic", "dependent", "zero"],
)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ["C", "F"])
def test_columns_that_a_sample_may_misjudge(monkeypatch, mode, kind, order):
    rng = np.random.default_rng(1)
    X = np.asarray(columns(kind, 6, rng), order=order)
    y = X @ np.arange(6.0) + rng.standard_t(2, N)
    assert_same(*fits(monkeypatch, X, y, **mode))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("law", ["uniform", "heavy", "many zero"])
def test_weights(monkeypatch, mode, law):
    rng = np.random.default_rng(2)
    X = columns("normal", 5, rng)
    y = X.sum(axis=1) + rng.standard_t(2, N)
    weight = {
        "uniform": rng.uniform(size=N),
        "heavy": 1 + rng.pareto(1.5, size=N),
        "many zero": rng.integers(0, 3, N).astype(float),
    }[law]
    sampled, whole = fits(monkeypatch, X, y, weight, **mode)
    assert_same(sampled, whole)
    assert_array_equal(sampled.outliers_, whole.outliers_)


def test_passes_are_few(monkeypatch):
    rng = np.random.default_rng(3)
    X = columns("normal", 10, rng) * np.logspace(0, 3, 10)
    y = X.sum(axis=1) + rng.standard_t(2, N)
    for mode in ({"beta": 1.0}, {}, {"scale": "concomitant"}):
        sampled, _ = fits(monkeypatch, X, y, **mode)
        assert sum(stage["n_eval"] for stage in sampled.history_) <= 15


def tall(columns, seed=0):
    """Return data with continuous errors, so tall that fits start from a sample."""
    rng = np.random.default_rng(seed)
    X = columns(rng)
    return X, X.sum(axis=1) + rng.standard_t(3, X.shape[0])


@pytest.mark.parametrize("seed", range(3))
def test_integers_and_levels_whose_median_may_jump_are_fitted(seed):
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 2, (500_000, 4)).astype(float)
    for y in (rng.poisson(1, len(X)).astype(float), rng.choice([1.0, 2.0, 3.0, 4.0], len(X))):
        assert np.isfinite(SmoothL1Regressor().fit(X, y).coef_).all()


@pytest.mark.parametrize("unit", [1e-300, 1e-160, 1e160, 1e300])
def test_a_column_whose_squares_overflow_or_vanish(unit):
    X, y = tall(lambda rng: rng.normal(size=(200_000, 10)))
    whole = SmoothL1Regressor().fit(X, y).coef_
    X[:, 2] *= unit
    found = SmoothL1Regressor().fit(X, y).coef_
    found[2] *= unit
    assert_allclose(found, whole, rtol=1e-7)


@pytest.mark.parametrize("cell", [1e10, 1e100, 1e200])
@pytest.mark.parametrize("params", [{}, {"beta": 1.0}, {"scale": "concomitant"}])
def test_one_large_value_in_a_row_outside_the_sample(cell, params):
    X, y = tall(lambda rng: rng.normal(size=(200_000, 10)))
    X[12_345, 3] = cell
    found = SmoothL1Regressor(**params).fit(X, y)
    # The row with the large value determines the coefficient of feature 3 and does not
    # influence the other coefficients.
    assert abs(found.coef_[3]) < 1e-3
    assert_allclose(np.delete(found.coef_, 3), 1.0, atol=0.05)


@pytest.mark.parametrize("params", [{}, {"beta": 1.0}, {"scale": "concomitant"}])
def test_features_that_are_all_zero(params):
    _, y = tall(lambda rng: rng.normal(size=(200_000, 10)))
    found = SmoothL1Regressor(fit_intercept=False, **params).fit(np.zeros((y.size, 10)), y)
    assert_array_equal(found.coef_, 0.0)


def test_a_fit_that_ends_at_max_iter_returns_what_it_has_reached():
    X, y = tall(lambda rng: rng.normal(size=(200_000, 10)))
    best = SmoothL1Regressor().fit(X, y).coef_
    far = []
    for max_iter in (1, 2, 4):
        with pytest.warns(ConvergenceWarning):
            found = SmoothL1Regressor(max_iter=max_iter).fit(X, y)
        far.append(np.abs(found.coef_ - best).max())
    assert far[0] > 10 * far[1] > 100 * far[2]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", ["correlated", "heavy tails", "one side"])
def test_more_iterations_never_give_a_larger_objective(monkeypatch, kind):
    # With a small threshold, the fit restarts from one sample after another.
    monkeypatch.setattr(_solvers, "TALL_MIN_ELEMENTS", 0)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        X = columns(kind, 10, rng)
        X = np.cumsum(X, axis=1) if kind == "correlated" else X
        y = X.sum(axis=1) + rng.standard_t(1, size=N)
        y += 100 * (rng.random(N) < 0.3) * (kind == "one side")
        reached = [
            SmoothL1Regressor(beta=0.01, max_iter=k).fit(X, y).objective_ for k in range(1, 16)
        ]
        assert_allclose(reached, np.minimum.accumulate(reached), rtol=1e-13)


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_outliers_on_one_side_take_few_passes(share):
    # The minimiser θ depends on the scale s. Without the derivative dθ/ds, a fit took 32
    # passes.
    X, _ = tall(lambda rng: rng.normal(size=(200_000, 10)))
    rng = np.random.default_rng(1)
    error = rng.normal(size=len(X))
    error[rng.random(len(X)) < share] += 8
    y = 3 + X.sum(axis=1) + error
    fit = SmoothL1Regressor(beta=1.35, scale="concomitant").fit(X, y)
    assert sum(stage["n_eval"] for stage in fit.history_) <= 14
