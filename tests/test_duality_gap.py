"""The duality gap bounds the suboptimality of any model, converged or not."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import sparse
from sklearn.exceptions import NotFittedError

import skrobust._solvers
from skrobust import SmoothL1Regressor, SmoothL1RegressorCV, duality_gap

MODES = [
    {"beta": 0.5},
    {"beta": 0.01},
    {"beta": 1.0, "loss": "huber", "alpha": 0.1},
    {"beta": 1.0, "alpha": 1e-4},
    {"beta": 1.0, "fit_intercept": False},
    {"beta": 1.0, "fit_intercept": False, "alpha": 0.1},
    {"scale": "concomitant"},
    {"scale": "concomitant", "loss": "huber", "alpha": 0.05},
    {"scale": "concomitant", "alpha": 0.05},
]


def data(seed):
    rng = np.random.default_rng(seed)
    n, p = rng.integers(8, 80), rng.integers(1, 8)
    X = rng.normal(size=(n, p)) * 10.0 ** rng.integers(-2, 3)
    weight = rng.uniform(0.1, 1.0, size=n) if seed % 2 else None
    return X, X.sum(axis=1) + rng.standard_t(1.5, size=n), weight


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(12))
def test_optimality_is_a_bound_wherever_a_fit_stops(mode, seed):
    X, y, weight = data(seed)
    least = SmoothL1Regressor(**mode, tol=0).fit(X, y, weight)
    assert least.optimality_ < 1e-8
    for max_iter in (1, 2, 3, 5, 8):
        model = SmoothL1Regressor(**mode, max_iter=max_iter).fit(X, y, weight)
        above = 1 - least.objective_ / model.objective_
        assert above - 1e-13 <= model.optimality_ <= 1


@pytest.mark.parametrize("mode", MODES)
def test_the_gap_of_any_coefficients_is_a_bound(mode):
    X, y, weight = data(1)
    model = SmoothL1Regressor(**mode).fit(X, y, weight)
    assert_allclose(duality_gap(model, X, y, sample_weight=weight), 0, atol=1e-8)
    least, rng = model.objective_, np.random.default_rng(0)
    s = weight / weight.sum()
    for size in (1e-6, 1e-3, 0.1, 10.0):
        moved = SmoothL1Regressor(**mode).fit(X, y, weight)
        moved.coef_ = model.coef_ * (1 + size * rng.normal(size=X.shape[1]))
        r = np.abs(y - X @ moved.coef_ - moved.intercept_)
        value = s @ np.where(r <= model.beta_, r * r / 2 / model.beta_, r - model.beta_ / 2)
        value += (model.scale == "concomitant") * model.scale_**2 / 2 / model.beta_
        factor = 1.0
        if model.loss == "huber":
            concomitant = model.scale == "concomitant"
            factor = model.beta_ / model.scale_ if concomitant else model.beta_
        value = factor * value + model.alpha / 2 * moved.coef_ @ moved.coef_
        gap = duality_gap(moved, X, y, sample_weight=weight)
        assert gap >= (value - least) / value - 1e-12


def test_optimality_of_tall_data_is_an_estimate_and_the_gap_can_be_computed(monkeypatch):
    monkeypatch.setattr(skrobust._solvers, "TALL_MIN_ELEMENTS", 0)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5_000, 3))
    y = X.sum(axis=1) + rng.standard_t(2, size=5_000)
    model = SmoothL1Regressor(beta=1.0).fit(X, y)
    assert model.optimality_ < 1e-12
    assert model.optimality_ <= duality_gap(model, X, y) + 1e-15 < 1e-7
    with pytest.warns(match="did not converge"):
        stopped = SmoothL1Regressor(beta=1.0, max_iter=2).fit(X, y)
    assert np.isnan(stopped.optimality_)
    above = 1 - model.objective_ / stopped.objective_
    assert above <= duality_gap(stopped, X, y) < 1


def test_several_targets_sparse_features_zero_weights_and_searches():
    rng = np.random.default_rng(0)
    X, weight = rng.normal(size=(100, 3)), rng.integers(0, 3, 100)
    Y = X @ rng.normal(size=(3, 2)) + rng.standard_t(2, size=(100, 2))
    model = SmoothL1Regressor().fit(X, Y, weight)
    assert duality_gap(model, X, Y, sample_weight=weight).shape == (2,)
    assert np.all(duality_gap(model, sparse.csr_array(X), Y, sample_weight=weight) < 1e-7)
    search = SmoothL1RegressorCV(betas=3, alphas=[0.1, 1.0], loss="huber").fit(X, Y[:, 0])
    assert duality_gap(search, X, Y[:, 0]) < 1e-7


def test_errors_name_what_does_not_fit():
    X, y, _ = data(0)
    model = SmoothL1Regressor(beta=1.0).fit(X, y)
    with pytest.raises(NotFittedError):
        duality_gap(SmoothL1Regressor(), X, y)
    with pytest.raises(
        ValueError, match=r"X has .* features, but the estimator was fitted with"
    ):
        duality_gap(model, np.column_stack([X, X]), y)
    with pytest.raises(ValueError, match="y has 2 targets, but the estimator was fitted to 1"):
        duality_gap(model, X, np.column_stack([y, y]))
    wide = sparse.random_array((400, 300), density=0.1, rng=np.random.default_rng(0)).tocsr()
    fitted = SmoothL1Regressor(1.0, alpha=1.0).fit(wide, np.arange(400.0))
    with pytest.raises(ValueError, match=r"Gram matrix of X, .* 300"):
        duality_gap(fitted, wide, np.arange(400.0))


@pytest.mark.parametrize(("alpha", "most"), [(1e-3, 2e-9), (1e-6, 2e-6)])
def test_a_scale_at_the_rounding_floor_is_not_a_variable_of_the_gap(alpha, most):
    # In an exact fit, the rounding errors of y determine the scale.
    X = np.random.default_rng(0).normal(size=(30, 2))
    y = 1e6 + X @ [1.0, 2.0]
    model = SmoothL1Regressor(scale="concomitant", alpha=alpha, l1_ratio=1.0).fit(X, y)
    assert duality_gap(model, X, y) <= most


def test_the_units_of_y_do_not_move_a_scale_above_the_rounding_floor():
    # With these data, the conversion of the scale to the units of y rounds it up.
    rng = np.random.default_rng(29)
    n, p = int(rng.integers(15, 80)), int(rng.integers(1, 5))
    X = rng.normal(size=(n, p))
    y = X @ rng.normal(size=p)
    model = SmoothL1Regressor(scale="concomitant", loss="huber").fit(X, y)
    assert duality_gap(model, X, y) < 0.1
