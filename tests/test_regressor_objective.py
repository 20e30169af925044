"""SmoothL1Regressor: the objective and its minimum, by formulas and independent solvers."""

import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import least_squares
from sklearn.linear_model import LinearRegression, QuantileRegressor, Ridge

from problems import (
    LOSSES,
    SCALES,
    X,
    Y,
    documented_objective,
    plain_and_weighted,
    residual,
    stopped,
)
from skrobust import SmoothL1Regressor


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("alpha", [0.0, 0.5])
@plain_and_weighted
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("mode", [*SCALES, {"beta": 1e-4}, {"beta": 1e5}])
def test_objective_is_the_documented_formula(mode, intercept, weight, alpha, loss):
    est = SmoothL1Regressor(loss=loss, alpha=alpha, fit_intercept=intercept, **mode)
    est.fit(X, Y, weight)
    assert_allclose(est.objective_, documented_objective(est, weight=weight), rtol=1e-12)
    size = np.abs(residual(est))
    # If the optimal intercept is not unique, one residual may lie at the threshold.
    distinct = np.abs(size - est.beta_) > 1e-14
    assert_array_equal(est.outliers_[distinct], size[distinct] > est.beta_)
    assert np.count_nonzero(distinct) >= size.size - 1
    assert intercept or est.intercept_ == 0.0


def independent_minimum(X, y, beta, alpha=0.0, weight=None, intercept=True):
    """Return the minimum of the Huber objective found by scipy.optimize.least_squares."""
    n, p = X.shape
    s = np.ones(n) if weight is None else weight
    A = np.column_stack([np.ones(n), X] if intercept else [X])
    first = A.shape[1] - p
    ridge = np.sqrt(alpha * s.sum()) * np.eye(A.shape[1])[first:]
    stacked, target = np.vstack([A, ridge]), np.concatenate([y, np.zeros(p)])

    def rho(z):
        """Return the loss at z = r²: the Huber loss for data rows, z for penalty rows."""
        root = np.sqrt(np.maximum(z, 1.0))
        inside = (z <= 1) | (np.arange(n + p) >= n)
        value = np.where(inside, z, 2 * root - 1)
        first, second = np.where(inside, 1, 1 / root), np.where(inside, 0, -0.5 / root**3)
        return np.concatenate([s, np.ones(p)]) * np.array([value, first, second])

    start = np.linalg.lstsq(stacked, target)[0]
    found = least_squares(
        lambda w: stacked @ w - target,
        start,
        jac=lambda w: stacked.copy(),  # SciPy 1.15 overwrites it
        loss=rho,
        f_scale=beta,
        x_scale="jac",
        ftol=3e-16,
        xtol=3e-16,
        gtol=1e-15,
        max_nfev=5000,
    )
    return found.cost / s.sum()


@pytest.mark.parametrize("seed", range(50))
def test_objective_is_that_of_an_independent_solver(seed):
    rng = np.random.default_rng(seed)
    p = int(rng.integers(1, 7))
    n, beta = int(rng.integers(p + 3, 90)), 10 ** rng.uniform(-1.5, 1.5)
    X = rng.normal(size=(n, p)) * 10 ** rng.uniform(-1, 1, p) + rng.normal(size=p)
    y = X @ rng.normal(size=p) + rng.standard_t(1.5, n)
    intercept, alpha = seed % 3 > 0, 0.3 * (seed % 4 == 1)
    weight = rng.uniform(0.1, 4, n) if seed % 2 else None
    expected = independent_minimum(X, y, beta, alpha, weight, intercept)
    est = SmoothL1Regressor(beta, loss="huber", alpha=alpha, fit_intercept=intercept)
    est.fit(X, y, weight)
    assert_allclose(est.objective_, expected, rtol=1e-10)
    smooth = SmoothL1Regressor(beta, alpha=alpha / beta, fit_intercept=intercept)
    smooth.fit(X, y, weight)
    assert_allclose(beta * smooth.objective_, expected, rtol=1e-10)
    assert_allclose(smooth.coef_, est.coef_, rtol=1e-7, atol=1e-9)


@plain_and_weighted
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("beta", [1e-4, 1e-7, 1e-10])
def test_small_threshold_is_least_absolute_deviations(beta, intercept, weight):
    lad = QuantileRegressor(
        quantile=0.5, alpha=0.0, solver="highs", fit_intercept=intercept
    ).fit(X, Y, sample_weight=weight)
    least = np.average(np.abs(residual(lad)), weights=weight)
    est = SmoothL1Regressor(beta, fit_intercept=intercept).fit(X, Y, weight)
    # 0 ≤ |r| − ℓ_β(r) ≤ β/2, so the two minima are within β/2.
    assert least - beta / 2 - 1e-12 <= est.objective_ <= least + 1e-12
    assert np.average(np.abs(residual(est)), weights=weight) <= least + beta / 2 + 1e-12


@pytest.mark.parametrize("loss", LOSSES)
@plain_and_weighted
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("beta", [1e5, 1e15, 1e200])
def test_large_threshold_is_least_squares(beta, intercept, weight, loss):
    expected = LinearRegression(fit_intercept=intercept).fit(X, Y, weight)
    est = SmoothL1Regressor(beta, loss=loss, fit_intercept=intercept).fit(X, Y, weight)
    assert_allclose(est.coef_, expected.coef_, rtol=1e-9)
    assert_allclose(est.intercept_, expected.intercept_, rtol=1e-9)
    assert not est.outliers_.any()


@pytest.mark.parametrize("unit", ["equal", "wild"])
@pytest.mark.parametrize("shape", [(100, 3), (30, 30), (20, 60), (3, 5), (1, 4)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("alpha", [1e-6, 0.3, 1e4])
def test_large_threshold_with_a_penalty_is_ridge(alpha, intercept, weighted, shape, unit):
    n, p = shape
    rng = np.random.default_rng(n)
    X = rng.normal(size=shape) + 1.0
    if unit == "wild":
        X *= 10.0 ** rng.integers(-4, 5, p)
    y = X[:, 0] / X[:, 0].std() + rng.normal(size=n) + 5 if n > 1 else np.array([2.0])
    weight = rng.uniform(0.2, 3, n) if weighted else np.ones(n)
    est = SmoothL1Regressor(1e6, loss="huber", alpha=alpha, fit_intercept=intercept)
    est.fit(X, y, weight)

    # scikit-learn's Ridge is inaccurate if the features have very different units. The solution
    # of the augmented system, with columns scaled to unit length, is accurate.
    s = weight / weight.sum()
    centre, level = (s @ X, s @ y) if intercept else (np.zeros(p), 0.0)
    Z = np.sqrt(s)[:, None] * (X - centre)
    rows = np.vstack([Z, np.sqrt(alpha) * np.eye(p)])
    length = np.linalg.norm(rows, axis=0)
    target = np.concatenate([np.sqrt(s) * (y - level), np.zeros(p)])
    w = np.linalg.lstsq(rows / length, target, rcond=1e-16)[0] / length
    assert_allclose(est.coef_ * length, w * length, rtol=0, atol=1e-8)
    assert_allclose(est.predict(X), X @ w + level - centre @ w, rtol=0, atol=1e-7)
    if unit == "equal":
        ridge = Ridge(alpha=alpha * weight.sum(), fit_intercept=intercept, solver="svd")
        ridge.fit(X, y, weight)
        assert_allclose(est.coef_, ridge.coef_, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("shape", [(20, 25), (15, 15), (8, 30)])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize(("beta", "alpha"), [(1e-3, 1e-3), (0.1, 0.3)])
def test_wide_X_with_a_penalty_has_the_independent_minimum(beta, alpha, intercept, shape):
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=shape), rng.standard_t(1.5, shape[0])
    expected = independent_minimum(X, y, beta, alpha, None, intercept)
    est = SmoothL1Regressor(beta, loss="huber", alpha=alpha, fit_intercept=intercept).fit(X, y)
    assert est.outliers_.any()
    assert_allclose(est.objective_, expected, rtol=1e-10)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("params", [{"beta": 0.1}, {"beta": 1.0}, {"beta": 1.0, "alpha": 0.1}])
def test_optimality_tells_how_far_the_objective_is_from_its_minimum(params, loss):
    best = SmoothL1Regressor(loss=loss, tol=0, **params).fit(X, Y)
    assert 0 <= best.optimality_ <= 1e-12
    checked = 0
    for max_iter in range(1, 15):
        est = stopped(max_iter, loss=loss, **params)
        above = 1 - best.objective_ / est.objective_
        # The duality gap is an upper bound on the suboptimality. Near the minimum, the gap is
        # proportional to the gradient, and the suboptimality to its square.
        assert above - 1e-14 <= est.optimality_ <= 30 * np.sqrt(max(above, 1e-12))
        checked += above > 1e-9
    assert checked >= 2


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"scale": "concomitant"}])
def test_wide_X_takes_no_matrix_of_its_columns(options):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 2_000))
    y = X[:, :5].sum(axis=1) + rng.standard_t(2, size=50)
    est = SmoothL1Regressor(**options).fit(X, y)  # compiles the kernels
    tracemalloc.start()
    est.fit(X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * X.nbytes  # a 2,000 × 2,000 matrix is 40 times as large as X
