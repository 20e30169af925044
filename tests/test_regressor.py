"""SmoothL1Regressor: each parameter, attribute and decision of its contract.

The objective is evaluated here anew from `skrobust.losses` and compared with solvers that
share no code with ours; degenerate data come last.
"""

import contextlib
import pickle
import re
import tracemalloc
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.optimize import least_squares
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, QuantileRegressor, Ridge
from sklearn.metrics import get_scorer, make_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info, threadpool_limits

import skrobust._regressor
from skrobust import SmoothL1Regressor
from skrobust.losses import huber, smooth_l1
from skrobust.metrics import mean_smooth_l1_loss

try:
    from sklearn import callback as sklearn_callback
except ImportError:
    sklearn_callback = None

needs_callbacks = pytest.mark.skipif(
    sklearn_callback is None, reason="scikit-learn before 1.9 has no callbacks"
)

EPS = np.finfo(float).eps
NORMAL_MAD = 0.6744897501960817
LOSSES = ["smooth_l1", "huber"]
SCALES = [
    {},
    {"beta": 1.7},
    {"beta": 0.6, "scale": "mad"},
    {"scale": "concomitant"},
    {"beta": 1.35, "scale": "concomitant"},
]
FITTED = ["coef_", "intercept_", "beta_", "scale_", "n_iter_", "objective_", "optimality_"]
FITTED += ["outliers_", "history_", "n_features_in_"]


def make(n=100, p=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) * np.geomspace(0.1, 10, p) + 1.0
    y = X @ np.linspace(2, -1, p) + 3 + rng.standard_t(2, n)
    y[: n // 10] += 30
    return X, y


X, Y = make()
WEIGHT = np.random.default_rng(9).integers(1, 5, len(Y)).astype(float)
TARGETS = np.column_stack([Y, np.sin(Y), 1e3 * Y**2])


def residual(est, X=X, y=Y):
    return y - X @ est.coef_ - est.intercept_


def weighted_mad(r, weight=None):
    """Of integer weights, by repeating the residuals."""
    rows = (
        np.arange(len(r))
        if weight is None
        else np.repeat(np.arange(len(r)), weight.astype(int))
    )
    return np.median(np.abs(r[rows])) / NORMAL_MAD


def concomitant(r, sigma, epsilon, loss, weight=None):
    z = np.abs(r) / sigma
    H = np.where(z <= epsilon, z**2, 2 * epsilon * z - epsilon**2)
    value = np.average(sigma + H * sigma, weights=weight) / 2
    return value if loss == "huber" else value / epsilon


def documented_objective(est, X=X, y=Y, weight=None):
    """The formula of the docstring at the fitted attributes."""
    r = residual(est, X, y)
    if est.scale == "concomitant":
        epsilon = 1.5960 if est.beta == "auto" else est.beta
        value = concomitant(r, est.scale_, epsilon, est.loss, weight)
    else:
        loss = huber if est.loss == "huber" else smooth_l1
        value = np.average(loss(r, est.beta_), weights=weight)
    return value + est.alpha / 2 * est.coef_ @ est.coef_


# The threshold and the scale -----------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 0.3])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize(
    ("beta", "scale", "factor", "kind"),
    [
        (1.7, None, None, "fixed"),
        (1.7, "mad", 1.7, "mad"),
        (1.7, "concomitant", 1.7, "concomitant"),
        ("auto", None, 1.345, "mad"),
        ("auto", "mad", 1.345, "mad"),
        ("auto", "concomitant", 1.5960, "concomitant"),
    ],
)
def test_threshold_and_scale_are_those_of_the_table(
    beta, scale, factor, kind, weight, loss, alpha
):
    est = SmoothL1Regressor(beta, scale=scale, loss=loss, alpha=alpha).fit(X, Y, weight)
    r = residual(est)
    if kind == "fixed":
        assert (est.beta_, est.scale_) == (1.7, 1.0)
        return
    assert_allclose(est.beta_, factor * est.scale_, rtol=1e-15)
    if kind == "mad":
        assert_allclose(est.scale_, weighted_mad(r, weight), rtol=1e-7)
        # ... and the coefficients minimise the objective at that threshold.
        fixed = SmoothL1Regressor(est.beta_, loss=loss, alpha=alpha).fit(X, Y, weight)
        assert_allclose(est.coef_, fixed.coef_, rtol=1e-7)
        assert_allclose(est.intercept_, fixed.intercept_, rtol=1e-7)
    else:
        s = np.ones(len(Y)) if weight is None else weight
        inside = np.minimum((r / est.scale_) ** 2, factor**2)
        assert_allclose(np.average(inside, weights=s), 1.0, rtol=1e-7)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("alpha", [0.0, 0.2])
def test_concomitant_scale_and_coefficients_minimise_their_joint_objective(alpha, loss):
    est = SmoothL1Regressor(1.5, scale="concomitant", alpha=alpha, loss=loss)
    est.fit(X, Y, WEIGHT)

    def objective(change):
        w, b, s = est.coef_ + change[:-2], est.intercept_ + change[-2], est.scale_ + change[-1]
        value = concomitant(Y - X @ w - b, s, 1.5, loss, WEIGHT)
        return value + alpha / 2 * w @ w

    least = objective(np.zeros(5))
    assert_allclose(est.objective_, least, rtol=1e-12)
    rng = np.random.default_rng(0)
    for size in [1e-1, 1e-3, 1e-4]:
        # A minimum: up in every direction, and by the square of the step.
        steps = size * rng.normal(size=(50, 5))
        rises = np.array([objective(step) for step in steps]) - least
        assert rises.min() > 0
        assert rises.max() < 1e3 * size**2


def some_with_several_fixed_points(seed):
    rng = np.random.default_rng(seed)
    n, p = int(rng.integers(8, 25)), int(rng.integers(1, 4))
    X = rng.normal(size=(n, p))
    return X, X.sum(axis=1) + rng.standard_t(1.5, n)


@pytest.mark.parametrize("seed", [41, 74, 429, 517, 701, 754, 786, 1431])
def test_of_several_fixed_points_of_the_mad_the_one_below_least_squares_is_meant(seed):
    # As rlm does: scale, fit at that scale, scale of that fit, and so on. These are the
    # problems with several fixed points among 1,500 random ones.
    X, y = some_with_several_fixed_points(seed)
    scale, previous = weighted_mad(residual(LinearRegression().fit(X, y), X, y)), 0.0
    while abs(scale - previous) > 1e-12 * scale:
        previous = scale
        fit = SmoothL1Regressor(1.345 * scale).fit(X, y)
        scale = weighted_mad(residual(fit, X, y))
    assert_allclose(SmoothL1Regressor().fit(X, y).scale_, scale, rtol=1e-7)
    warm = SmoothL1Regressor(warm_start=True)
    for factor in [0.05, 0.5, 2.0]:
        warm.set_params(beta=factor * scale).fit(X, y)
        assert_allclose(warm.set_params(beta="auto").fit(X, y).scale_, scale, rtol=1e-7)
    staged = SmoothL1Regressor(beta_schedule="geometric").fit(X, y)
    assert_allclose(staged.scale_, scale, rtol=1e-7)


def test_auto_with_and_without_mad_is_the_same_fit():
    one, other = SmoothL1Regressor().fit(X, Y), SmoothL1Regressor(scale="mad").fit(X, Y)
    assert_array_equal(one.coef_, other.coef_)
    assert (one.beta_, one.scale_) == (other.beta_, other.scale_)


# The objective and the way to its minimum ----------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("mode", [*SCALES, {"beta": 1e-4}, {"beta": 1e5}])
def test_objective_is_the_documented_formula(mode, intercept, weight, alpha, loss):
    est = SmoothL1Regressor(loss=loss, alpha=alpha, fit_intercept=intercept, **mode)
    est.fit(X, Y, weight)
    assert_allclose(est.objective_, documented_objective(est, weight=weight), rtol=1e-12)
    size = np.abs(residual(est))
    # Where the intercept is anywhere between two rows, one may be at the threshold.
    told = np.abs(size - est.beta_) > 1e-14
    assert_array_equal(est.outliers_[told], size[told] > est.beta_)
    assert np.count_nonzero(told) >= size.size - 1
    assert intercept or est.intercept_ == 0.0


def independent_minimum(X, y, beta, alpha=0.0, weight=None, intercept=True):
    """The huber objective at the minimum that scipy.optimize.least_squares finds."""
    n, p = X.shape
    s = np.ones(n) if weight is None else weight
    A = np.column_stack([np.ones(n), X] if intercept else [X])
    first = A.shape[1] - p
    ridge = np.sqrt(alpha * s.sum()) * np.eye(A.shape[1])[first:]
    stacked, target = np.vstack([A, ridge]), np.concatenate([y, np.zeros(p)])

    def rho(z):
        """Huber's function for the rows, weighted; the identity for the penalty."""
        root = np.sqrt(np.maximum(z, 1.0))
        inside = (z <= 1) | (np.arange(n + p) >= n)
        value = np.where(inside, z, 2 * root - 1)
        first, second = np.where(inside, 1, 1 / root), np.where(inside, 0, -0.5 / root**3)
        return np.concatenate([s, np.ones(p)]) * np.array([value, first, second])

    start = np.linalg.lstsq(stacked, target)[0]
    found = least_squares(
        lambda w: stacked @ w - target,
        start,
        jac=lambda w: stacked.copy(),  # SciPy 1.15 writes over it
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
def test_objective_is_an_independent_solvers(seed):
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


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
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
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
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

    # Ridge's own solution loses digits in wild units; the dual one of few rows does not,
    # nor does the augmented system with columns of length one.
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


def stopped(max_iter, **params):
    """A fit that may not converge."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return SmoothL1Regressor(max_iter=max_iter, **params).fit(X, Y)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("params", [{"beta": 0.1}, {"beta": 1.0}, {"beta": 1.0, "alpha": 0.1}])
def test_optimality_tells_how_far_the_objective_is_from_its_minimum(params, loss):
    best = SmoothL1Regressor(loss=loss, tol=0, **params).fit(X, Y)
    assert 0 <= best.optimality_ <= 1e-12
    checked = 0
    for max_iter in range(1, 15):
        est = stopped(max_iter, loss=loss, **params)
        above = est.objective_ / best.objective_ - 1
        if above > 1e-9:
            # An estimate from the local quadratic model: the right order of magnitude.
            assert above / 20 < est.optimality_ < above * 20
            checked += 1
        else:
            assert est.optimality_ < 1e-6
    assert checked >= 2


# Iterations, tolerance, history ----------------------------------------------------------


@pytest.mark.parametrize("schedule", [None, "geometric", [9, 3, 1]])
@pytest.mark.parametrize("mode", SCALES)
def test_too_few_iterations_give_one_warning_and_the_best_iterate(mode, schedule):
    params = mode | {"beta_schedule": schedule}
    enough = SmoothL1Regressor(**params).fit(X, Y)
    start = np.average(smooth_l1(Y - np.median(Y), enough.beta_))
    for max_iter in [1, 2, 3]:
        with pytest.warns(ConvergenceWarning) as caught:
            est = SmoothL1Regressor(max_iter=max_iter, **params).fit(X, Y)
        assert len(caught) == 1
        message = str(caught[0].message)
        assert re.search(rf"max_iter.*{max_iter}\b", message)
        assert re.search(r"gradient norm is \d.*tol=1e-08", message)
        assert "Increase max_iter" in message
        assert est.n_iter_ <= max_iter
        assert_allclose(est.objective_, documented_objective(est), rtol=1e-12)
        assert np.average(smooth_l1(residual(est), enough.beta_)) < start


@pytest.mark.parametrize("beta", [1e-2, 0.05, 1.0])
def test_more_iterations_are_never_worse(beta):
    objectives = [stopped(k, beta=beta).objective_ for k in range(1, 25)]
    assert objectives[0] > objectives[-1]
    # Where the threshold is lowered on the way, an iterate minimises another function,
    # which differs from this one by at most half of that threshold.
    slack = 1e-14 if beta == 1.0 else 0.1
    assert np.all(np.diff(objectives) <= slack)


def test_several_targets_that_do_not_converge_give_one_warning():
    with pytest.warns(ConvergenceWarning) as caught:
        SmoothL1Regressor(beta=0.01, max_iter=1).fit(X, TARGETS)
    assert len(caught) == 1


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("alpha", [0.0, 0.1])
@pytest.mark.parametrize("mode", [*SCALES, {"beta": 1e-5}])
def test_tol_zero_goes_down_to_rounding_without_a_warning(mode, alpha, loss):
    params = mode | {"alpha": alpha, "loss": loss}
    exact = SmoothL1Regressor(tol=0, **params).fit(X, Y)
    usual = SmoothL1Regressor(**params).fit(X, Y)
    assert_allclose(exact.coef_, usual.coef_, rtol=1e-7)
    assert exact.optimality_ < 1e-20
    rough = SmoothL1Regressor(tol=1e-2, **params).fit(X, Y)
    assert rough.n_iter_ <= usual.n_iter_ <= exact.n_iter_


@pytest.mark.parametrize("mode", SCALES)
@pytest.mark.parametrize("y", [Y, np.zeros(len(Y)), X @ [1.0, 2.0, 3.0]])
def test_n_iter_is_at_least_one_and_at_most_max_iter(mode, y):
    est = SmoothL1Regressor(warm_start=True, **mode).fit(X, y).fit(X, y)
    assert isinstance(est.n_iter_, (int, np.integer))
    assert 1 <= est.n_iter_ <= 1000


COLUMNS = ["target", "beta", "scale", "n_iter", "n_eval", "objective", "gradient_norm"]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("mode", SCALES)
def test_history_has_a_row_for_each_stage(mode, loss):
    multipliers = [50, 10, 2, 1]
    est = SmoothL1Regressor(loss=loss, beta_schedule=multipliers, **mode).fit(X, Y)
    frame = pd.DataFrame(est.history_)
    assert set(frame.columns) == {*COLUMNS, "message"}
    assert len(frame) == 4
    assert all(isinstance(message, str) and message for message in frame.message)
    factor = est.beta_ / est.scale_
    assert_allclose(frame.beta, multipliers * frame.scale * factor, rtol=1e-14)
    last = frame.iloc[-1]
    assert (last.beta, last.scale) == (est.beta_, est.scale_)
    assert last.objective == est.objective_
    assert frame.n_iter.sum() == est.n_iter_
    assert np.all(frame.n_eval >= 1)
    assert np.all(frame.gradient_norm <= 1e-8)
    if mode == SCALES[1]:
        assert_allclose(frame.beta, np.multiply(multipliers, 1.7), rtol=1e-15)
        assert_array_equal(frame.scale, 1.0)
        for stage in est.history_:
            alone = SmoothL1Regressor(stage["beta"], loss=loss).fit(X, Y)
            assert_allclose(stage["objective"], alone.objective_, rtol=1e-10)


def test_history_names_the_targets():
    est = SmoothL1Regressor(beta_schedule=[4, 1]).fit(X, TARGETS)
    frame = pd.DataFrame(est.history_)
    assert_array_equal(frame.target, [0, 0, 1, 1, 2, 2])
    for j, stages in frame.groupby("target"):
        assert stages.beta.iloc[-1] == est.beta_[j]
        assert max(1, stages.n_iter.sum()) == est.n_iter_[j]


@pytest.mark.parametrize("name", ["geometric", "linear", "cosine"])
@pytest.mark.parametrize("mode", SCALES)
def test_named_schedule_comes_down_from_nearly_all_residuals(name, mode):
    est = SmoothL1Regressor(beta_schedule=name, **mode).fit(X, Y)
    betas = np.array([stage["beta"] for stage in est.history_])
    assert len(betas) == 4
    assert np.all(np.diff(betas) < 0)
    assert betas[-1] == est.beta_
    least_squares_fit = LinearRegression().fit(X, Y)
    assert np.mean(np.abs(residual(least_squares_fit)) <= betas[0]) >= 0.95


def test_named_schedule_from_below_the_threshold_is_one_stage():
    est = SmoothL1Regressor(1e3, beta_schedule="geometric").fit(X, Y)
    assert [stage["beta"] for stage in est.history_] == [1e3]


@pytest.mark.parametrize("schedule", [[1], [1.0], np.array([1])])
def test_schedule_of_one_stage_is_no_schedule(schedule):
    est = SmoothL1Regressor(beta_schedule=schedule).fit(X, Y)
    assert_array_equal(est.coef_, SmoothL1Regressor().fit(X, Y).coef_)
    assert len(est.history_) == 1


# Warm start ------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.1, 1.7])
def test_warm_start_from_the_solution_needs_fewer_iterations(beta):
    # An estimated scale starts from least squares all the same.
    est = SmoothL1Regressor(beta, warm_start=True).fit(X, Y)
    cold = est.n_iter_
    est.fit(X, Y)
    assert est.n_iter_ < cold
    # Without it a refit is as cold as the first.
    est.set_params(warm_start=False).fit(X, Y)
    assert est.n_iter_ == cold


CHANGES = {
    "no intercept": ({"fit_intercept": False}, X, Y),
    "more features": ({}, np.hstack([X, X**2]), Y),
    "fewer features": ({}, X[:, :1], Y),
    "more targets": ({}, X, TARGETS),
    "one target, two-dimensional": ({}, X, Y[:, None]),
    "other rows": ({}, X[:50], Y[:50]),
    "other threshold": ({"beta": 0.2}, X, Y),
    "float32": ({}, X.astype(np.float32), Y),
    "sparse": ({}, sparse.csr_array(X), Y),
    "penalty": ({"alpha": 10.0}, X, Y),
    "duplicated column": ({}, X[:, [0, 1, 1]], Y),
}


@pytest.mark.parametrize("first_y", [Y, TARGETS], ids=["1 target", "3 targets"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("mode", SCALES[:4:2])
def test_warm_start_after_a_change_is_a_cold_fit(mode, change, first, first_y):
    params, X_new, y_new = CHANGES[change]
    est = SmoothL1Regressor(warm_start=True, fit_intercept=first, **mode).fit(X, first_y)
    est.set_params(**params).fit(X_new, y_new)
    cold = clone(est).fit(X_new, y_new)
    assert est.coef_.shape == cold.coef_.shape
    assert np.shape(est.intercept_) == np.shape(cold.intercept_)
    rtol = 1e-6 if change == "float32" else 1e-7
    assert_allclose(est.coef_, cold.coef_, rtol=rtol)
    assert_allclose(est.intercept_, cold.intercept_, rtol=1e-7)
    assert_allclose(est.scale_, cold.scale_, rtol=1e-7)
    assert est.fit_intercept or not np.any(est.intercept_)


# Shapes and types ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", SCALES)
def test_attributes_have_the_shape_of_y(mode):
    k = {"n_iter_": "i", "beta_": "f", "scale_": "f", "objective_": "f", "optimality_": "f"}
    for y in [Y, Y[:, None], TARGETS]:
        est = SmoothL1Regressor(**mode).fit(X, y)
        assert est.coef_.shape == (*y.shape[1:], 3)
        assert est.outliers_.shape == y.shape
        assert est.outliers_.dtype == bool
        assert est.predict(X).shape == y.shape
        assert est.predict(X[:1]).shape == (1, *y.shape[1:])
        for name, kind in {**k, "intercept_": "f"}.items():
            value = np.asarray(getattr(est, name))
            assert value.shape == y.shape[1:], name
            assert value.dtype.kind == kind, name
            assert y.ndim == 2 or np.isscalar(getattr(est, name)), name
        without = SmoothL1Regressor(fit_intercept=False, **mode).fit(X, y)
        assert_array_equal(without.intercept_, np.zeros(y.shape[1:]))


def test_one_column_of_y_is_the_fit_of_the_vector():
    flat, column = SmoothL1Regressor().fit(X, Y), SmoothL1Regressor().fit(X, Y[:, None])
    assert_array_equal(column.coef_[0], flat.coef_)
    assert_array_equal(column.predict(X)[:, 0], flat.predict(X))
    assert_array_equal(column.outliers_[:, 0], flat.outliers_)


@pytest.mark.parametrize("y", [Y, TARGETS], ids=["1 target", "3 targets"])
@pytest.mark.parametrize("to_format", [np.asarray, sparse.csr_array], ids=["dense", "csr"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.float16])
def test_dtypes_follow_X(dtype, to_format, y):
    if (dtype, to_format) == (np.float16, sparse.csr_array):
        pytest.skip("SciPy has no sparse float16")
    X_typed = to_format(X.astype(dtype))
    expected = np.float32 if dtype == np.float32 else np.float64
    est = SmoothL1Regressor().fit(X_typed, y.astype(np.float32))
    assert est.coef_.dtype == expected
    assert np.asarray(est.intercept_).dtype == np.float64
    assert est.predict(X_typed).dtype == expected
    assert est.predict(X).dtype == np.float64
    assert np.asarray(est.scale_).dtype == np.float64


def test_prediction_is_the_linear_model():
    est = SmoothL1Regressor().fit(X, TARGETS)
    expected = X @ est.coef_.T + est.intercept_
    assert_allclose(est.predict(X), expected, rtol=1e-13)
    assert_allclose(est.predict(sparse.csr_array(X)), expected, rtol=1e-13)


# A scikit-learn estimator ----------------------------------------------------------------


def test_parameters_and_defaults_are_those_of_the_contract():
    expected = {
        "beta": "auto",
        "loss": "smooth_l1",
        "scale": None,
        "alpha": 0.0,
        "fit_intercept": True,
        "beta_schedule": None,
        "max_iter": 1000,
        "tol": 1e-8,
        "warm_start": False,
    }
    assert SmoothL1Regressor().get_params() == expected
    assert SmoothL1Regressor(2.0).beta == 2.0
    with pytest.raises(TypeError):
        SmoothL1Regressor(2.0, "huber")


def test_fit_leaves_the_parameters_as_given_and_clone_forgets_the_fit():
    schedule = [4, 1]
    est = SmoothL1Regressor(np.float32(2), alpha=1, beta_schedule=schedule)
    before = est.get_params()
    est.fit(X, Y)
    assert all(est.get_params()[name] is value for name, value in before.items())
    assert schedule == [4, 1]
    copy = clone(est)
    assert copy.get_params() == before
    assert not [name for name in vars(copy) if name.endswith("_")]


@pytest.mark.parametrize("y", [Y, TARGETS], ids=["1 target", "3 targets"])
def test_pickle_keeps_the_fit(y):
    est = SmoothL1Regressor(beta_schedule="linear").fit(X, y)
    copy = pickle.loads(pickle.dumps(est))
    for name in FITTED:
        assert_array_equal(getattr(copy, name), getattr(est, name), err_msg=name)
    assert_array_equal(copy.predict(X), est.predict(X))


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_names_of_features_are_kept_and_checked(frame):
    names = ["a", "b", "c"]
    data = frame(dict(zip(names, X.T, strict=True)))
    est = SmoothL1Regressor().fit(data, Y)
    assert_array_equal(est.feature_names_in_, names)
    assert est.n_features_in_ == 3
    assert_allclose(est.predict(data), SmoothL1Regressor().fit(X, Y).predict(X), rtol=1e-9)
    with pytest.raises(ValueError, match="feature names"):
        est.predict(data[["c", "b", "a"]])
    est.fit(X, Y)
    assert not hasattr(est, "feature_names_in_")


@pytest.mark.parametrize("convert", [pd.Series, pd.DataFrame, pl.Series, list])
def test_y_may_be_a_series_or_a_frame(convert):
    est = SmoothL1Regressor().fit(X, convert(Y))
    assert_array_equal(np.ravel(est.coef_), SmoothL1Regressor().fit(X, Y).coef_)


def test_grid_search_over_the_threshold_in_a_pipeline():
    pipeline = make_pipeline(StandardScaler(), SmoothL1Regressor(loss="huber", alpha=0.01))
    betas = [1e-2, 1.0, 1e6]
    scoring = make_scorer(mean_smooth_l1_loss, beta=1e-3, greater_is_better=False)
    search = GridSearchCV(pipeline, {"smoothl1regressor__beta": betas}, scoring=scoring, cv=4)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4))
    y = X @ [1, 2, 3, 4] + rng.standard_t(3, 200)
    y[X[:, 0] > 1] += 100
    search.fit(X, y)
    assert search.best_params_["smoothl1regressor__beta"] < 1e6
    assert search.best_estimator_[-1].beta_ in betas[:2]
    losses = -search.cv_results_["mean_test_score"]
    assert losses[2] > 1.05 * losses[:2].max()


def test_sample_weight_reaches_the_fit_through_metadata_routing():
    with config_context(enable_metadata_routing=True):
        est = SmoothL1Regressor().set_fit_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=True), est)
        direct = SmoothL1Regressor().fit(X, Y, WEIGHT)
        routed = pipeline.fit(X, Y, sample_weight=WEIGHT)
        assert_allclose(routed.predict(X), direct.predict(X), rtol=1e-7)
        scoring = get_scorer("neg_mean_absolute_error").set_score_request(sample_weight=True)
        grid = {"smoothl1regressor__beta": [0.1, 1.0]}
        search = GridSearchCV(pipeline, grid, cv=3, scoring=scoring)
        search.fit(X, Y, sample_weight=WEIGHT)
        best = clone(direct).set_params(beta=search.best_estimator_[-1].beta)
        assert_allclose(search.predict(X), best.fit(X, Y, WEIGHT).predict(X), rtol=1e-7)
    plain = make_pipeline(StandardScaler(), SmoothL1Regressor())
    plain.fit(X, Y, smoothl1regressor__sample_weight=WEIGHT)
    assert_allclose(plain.predict(X), direct.predict(X), rtol=1e-7)


# Interruptions and callbacks -------------------------------------------------------------


def blas_threads():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def state(est):
    return {name: pickle.dumps(value) for name, value in vars(est).items()}


def interrupted(*args, **kwargs):
    yield from ()
    raise KeyboardInterrupt


@pytest.mark.parametrize("y", [Y, TARGETS], ids=["1 target", "3 targets"])
@pytest.mark.parametrize("where", ["Survey", "stages", "as_design", "second target"])
def test_interrupted_refit_leaves_the_old_model_whole(monkeypatch, where, y):
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    est = SmoothL1Regressor(warm_start=True).fit(frame, Y)
    before, predicted = state(est), est.predict(frame)
    real, calls = skrobust._regressor.stages, []

    def second(*args, **kwargs):
        calls.append(args)
        return real(*args, **kwargs) if len(calls) == 1 else interrupted()

    def at_once(*args, **kwargs):
        raise KeyboardInterrupt

    if where == "second target":
        y = TARGETS
        monkeypatch.setattr(skrobust._regressor, "stages", second)
    else:
        replacement = interrupted if where == "stages" else at_once
        monkeypatch.setattr(skrobust._regressor, where, replacement)
    with pytest.raises(KeyboardInterrupt):
        est.fit(frame.iloc[:, :2], y)
    assert state(est) == before
    assert_array_equal(est.predict(frame), predicted)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_refit_that_is_refused_leaves_the_old_model_whole(bad):
    est = SmoothL1Regressor().fit(X, Y)
    before = state(est)
    X_bad = X[:, :2].copy()
    X_bad[5, 1] = bad
    with pytest.raises(ValueError, match="Input X contains"):
        est.fit(X_bad, Y)
    assert state(est) == before


class Recorder:
    """A callback that remembers what it is told, and may stop the fit or raise."""

    def __init__(self, stop_after=None, error=None, at="end"):
        self.stop_after, self.error, self.at = stop_after, error, at
        self.begun, self.ended, self.predictions, self.torn_down = [], [], [], 0

    def setup(self, estimator, context):
        self.root = context

    def teardown(self, estimator, context):
        self.torn_down += 1

    def on_fit_task_begin(self, estimator, context):
        self.begun.append(context)
        if self.error and self.at == "begin" and context.parent is not None:
            raise self.error

    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
        self.ended.append(context)
        if context.parent is not None:
            self.predictions.append(fitted_estimator.predict(X))
            if self.error:
                raise self.error
            return len(self.predictions) == self.stop_after
        return False


@needs_callbacks
@pytest.mark.parametrize("y", [Y, TARGETS], ids=["1 target", "3 targets"])
@pytest.mark.parametrize(
    ("schedule", "n_stages"), [(None, 1), ([9, 3, 1], 3), ("geometric", 4)]
)
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array, pd.DataFrame])
def test_each_stage_is_a_task_of_the_callbacks(form, schedule, n_stages, y):
    recorder = Recorder()
    est = SmoothL1Regressor(beta_schedule=schedule).set_callbacks(recorder)
    est.fit(form(X), y)
    n_targets = 1 if y.ndim == 1 else y.shape[1]
    assert len(recorder.begun) == len(recorder.ended) == 1 + len(est.history_)
    # A named schedule has fewer stages where there is nothing to come down from.
    assert len(est.history_) == n_targets * n_stages or (y.ndim == 2 and n_stages == 4)
    assert recorder.begun[0] is recorder.ended[-1] is recorder.root
    assert recorder.root.max_subtasks == n_targets * n_stages
    assert recorder.torn_down == 1
    assert all(prediction.shape == y.shape for prediction in recorder.predictions)
    assert_allclose(recorder.predictions[-1], est.predict(form(X)), rtol=1e-12)
    bare = SmoothL1Regressor(beta_schedule=schedule).fit(form(X), y)
    assert_array_equal(est.coef_, bare.coef_)
    pickle.dumps(est.set_callbacks())


@needs_callbacks
@pytest.mark.parametrize("mode", SCALES)
def test_callback_that_returns_true_stops_the_fit_there(mode):
    est = SmoothL1Regressor(beta_schedule=[9, 3, 1], **mode)
    est.set_callbacks(Recorder(stop_after=2)).fit(X, Y)
    assert len(est.history_) == 2
    last = est.history_[-1]
    assert (last["beta"], last["scale"]) == (est.beta_, est.scale_)
    assert_array_equal(est.outliers_, np.abs(residual(est)) > est.beta_)
    at_beta = SmoothL1Regressor(est.beta_).fit(X, Y)
    assert_allclose(est.coef_, at_beta.coef_, rtol=1e-7)
    assert last["objective"] == est.objective_


@needs_callbacks
@pytest.mark.parametrize("at", ["begin", "end"])
@pytest.mark.parametrize("error", [RuntimeError("from the callback"), KeyboardInterrupt()])
def test_callback_that_raises_ends_the_fit_and_leaves_all_as_it_was(error, at):
    est = SmoothL1Regressor().fit(X, Y)
    before = state(est)
    recorder = Recorder(error=error, at=at)
    est.set_callbacks(recorder)
    with pytest.raises(type(error)):
        est.fit(X[:, :2], TARGETS)
    assert recorder.torn_down == 1
    assert state(est.set_callbacks()) == before


@pytest.mark.parametrize("error", [RuntimeError(), KeyboardInterrupt()])
@pytest.mark.parametrize(
    "where", ["nowhere", "Survey", "stages", pytest.param("callback", marks=needs_callbacks)]
)
def test_blas_has_its_threads_again_after_every_fit(monkeypatch, where, error):
    est, seen = SmoothL1Regressor(), []

    def failing(*args, **kwargs):
        seen.extend(blas_threads())
        raise error

    if where == "callback":
        est.set_callbacks(Recorder(error=error))
    elif where != "nowhere":
        monkeypatch.setattr(skrobust._regressor, where, failing)
    with threadpool_limits(2, user_api="blas"):
        threads = blas_threads()
        with contextlib.nullcontext() if where == "nowhere" else pytest.raises(type(error)):
            est.fit(X, Y)
        assert blas_threads() == threads
    assert set(seen) <= {1}


@needs_callbacks
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_scoring_monitor_scores_each_stage(weight):
    monitor = sklearn_callback.ScoringMonitor(scoring="r2")
    est = SmoothL1Regressor(beta_schedule=[9, 3, 1]).set_callbacks(monitor)
    est.fit(X, Y, weight)
    frame = monitor.get_logs().data_as_pandas
    stages = frame[frame.task_name == "beta stage"]
    assert len(stages) == 3
    assert_allclose(stages.r2.iloc[-1], est.score(X, Y, weight), rtol=1e-9)


@needs_callbacks
def test_progress_bar_shows_the_stages_and_a_search(capsys):
    pytest.importorskip("rich.progress")
    est = SmoothL1Regressor(beta_schedule="geometric")
    est.set_callbacks(sklearn_callback.ProgressBar()).fit(X, TARGETS)
    assert "SmoothL1Regressor" in capsys.readouterr().out
    search = GridSearchCV(SmoothL1Regressor(), {"beta": [0.1, 1.0]}, cv=2)
    search.set_callbacks(sklearn_callback.ProgressBar(max_propagation_depth=2)).fit(X, Y)
    assert "100%" in capsys.readouterr().out


# What is refused -------------------------------------------------------------------------

BAD_NUMBERS = [-1, -1e-9, np.nan, np.inf, -np.inf, "1", None, [1.0], 1j]
BAD_SCHEDULES = [[np.inf, 1], [[2, 1]], [2, 1, 1], [2, -1], 3.0, True, ["2", "1"], {"a": 1}, 1j]
BAD_PARAMETERS = {
    "beta": [*BAD_NUMBERS, 0, 0.0, "automatic", ""],
    "loss": ["squared", "", None, 1, ["huber"]],
    "scale": ["MAD", "", 1.0, True, ["mad"]],
    "alpha": [*BAD_NUMBERS, "auto"],
    "fit_intercept": ["yes", None, 2, 1.0],
    "beta_schedule": [
        *BAD_SCHEDULES,
        "exponential",
        "",
        [],
        [2, 3, 1],
        [3, 2],
        [2, 1, 0.5],
        [np.nan, 1],
    ],
    "max_iter": [0, -1, 1.5, np.nan, np.inf, None, "many", [1]],
    "tol": [*BAD_NUMBERS, "small"],
    "warm_start": ["yes", None, 2],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in BAD_PARAMETERS.items() for value in values],
)
def test_bad_parameter_is_named_with_its_value(name, value):
    est = SmoothL1Regressor(**{name: value})
    with pytest.raises((ValueError, TypeError)) as caught:
        est.fit(X, Y)
    message = str(caught.value)
    assert name in message
    assert repr(value) in message or str(value) in message
    assert not hasattr(est, "coef_")


@pytest.mark.parametrize("beta", [1, 1.0, 0.5, np.float32(1), 1e-9])
def test_concomitant_scale_needs_beta_above_one(beta):
    est = SmoothL1Regressor(beta, scale="concomitant")
    with pytest.raises(ValueError, match=r"beta must be above 1.*'concomitant'") as caught:
        est.fit(X, Y)
    assert repr(beta) in str(caught.value)
    SmoothL1Regressor(1 + 1e-3, scale="concomitant").fit(X, Y)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("kind", ["C", "F", "float32", "csr", "pandas", "large", "constant"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("params", [{}, {"beta": 1.0}, {"scale": "concomitant"}])
def test_non_finite_X_is_refused(params, bad, kind, weight):
    X_bad, y, weight = X.copy(), Y, weight
    if kind == "large":  # enough to be sampled
        X_bad = np.tile(X, (800, 10))
        y, weight = np.tile(Y, 800), None if weight is None else np.tile(weight, 800)
    X_bad[-1, -1] = bad
    if kind == "constant":
        X_bad[:-1, -1] = 0.0
    form = {"csr": sparse.csr_array, "pandas": pd.DataFrame, "F": np.asfortranarray}
    X_bad = X_bad.astype(np.float32) if kind == "float32" else form.get(kind, np.asarray)(X_bad)
    what = "NaN" if np.isnan(bad) else "infinity"
    with pytest.raises(ValueError, match=f"Input X contains {what}"):
        SmoothL1Regressor(**params).fit(X_bad, y, weight)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_y_and_weights_are_refused(bad):
    y, weight, targets = Y.copy(), WEIGHT.copy(), TARGETS.copy()
    y[3] = weight[3] = targets[3, 1] = bad
    what = "NaN" if np.isnan(bad) else "infinity"
    for wrong in [y, targets]:
        with pytest.raises(ValueError, match=f"Input y contains {what}"):
            SmoothL1Regressor().fit(X, wrong)
    with pytest.raises(ValueError, match=f"Input sample_weight contains {what}"):
        SmoothL1Regressor().fit(X, Y, weight)
    with pytest.raises(ValueError, match=r"sample_weight contains NaN or inf|Negative"):
        SmoothL1Regressor().fit(X, Y, bad)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"sample_weight": -WEIGHT}, "sample_weight"),
        ({"sample_weight": np.where(np.arange(100) == 7, -1e-9, 1.0)}, "sample_weight"),
        ({"sample_weight": np.zeros(100)}, "[Ss]ample.weight"),
        ({"sample_weight": 0.0}, "[Ss]ample.weight"),
        ({"sample_weight": np.ones(99)}, "sample_weight.shape == \\(99,\\)"),
        ({"sample_weight": np.ones((100, 1))}, "[Ss]ample.weights? must be 1D"),
        ({"sample_weight": ["heavy"] * 100}, "could not convert|string"),
        ({"y": sparse.csr_array(Y[:, None])}, "y is a sparse matrix"),
        ({"y": sparse.csc_matrix(Y[:, None])}, "y is a sparse matrix"),
        ({"y": Y[:-1]}, r"inconsistent numbers of samples: \[100, 99\]"),
        ({"y": Y[:, None, None]}, "[Dd]im"),
        ({"y": None}, "requires y"),
        ({"y": Y * 1j}, "[Cc]omplex"),
        ({"y": ["a"] * 100}, "could not convert|string"),
        ({"y": 3.0}, "y|array"),
        ({"X": X * 1j}, "[Cc]omplex"),
        ({"X": sparse.csr_array(X * 1j)}, "[Cc]omplex"),
        ({"X": X[:, 0]}, "Expected 2D array, got 1D"),
        ({"X": X[:, :, None]}, "dim 3"),
        ({"X": X[:, :0]}, r"0 feature\(s\)"),
        ({"X": X[:0], "y": Y[:0]}, r"0 sample\(s\)"),
        ({"X": X.astype(str).astype(object) + "x"}, "could not convert"),
    ],
)
def test_bad_data_are_refused_by_name(change, match):
    data = {"X": X, "y": Y} | change
    est = SmoothL1Regressor()
    with pytest.raises((ValueError, TypeError), match=match):
        est.fit(**data)
    assert not hasattr(est, "coef_")


def test_global_random_state_is_untouched():
    np.random.seed(0)  # noqa: NPY002
    before = pickle.dumps(np.random.get_state())  # noqa: NPY002
    X = np.random.default_rng(0).normal(size=(50_000, 40))
    SmoothL1Regressor().fit(X, X[:, 0])
    assert pickle.dumps(np.random.get_state()) == before  # noqa: NPY002


# Degenerate data -------------------------------------------------------------------------

DEGENERATE_MODES = [
    {},
    {"loss": "huber"},
    {"beta": 1.0},
    {"beta": 1e-6},
    {"beta": 1e6},
    {"beta": 0.5, "scale": "mad"},
    {"scale": "concomitant"},
    {"beta": 1.35, "scale": "concomitant", "loss": "huber"},
    {"beta_schedule": "geometric"},
    {"beta_schedule": [10, 3, 1]},
    {"scale": "concomitant", "beta_schedule": "cosine"},
    {"beta": 1.0, "beta_schedule": "linear"},
]
OF_SCALE = [mode for mode in DEGENERATE_MODES if mode.get("beta", 0) == 0 or "scale" in mode]


def grid(values):
    """Multiples of 2⁻²⁰, to which 1e9 can be added exactly."""
    return np.round(values * 2**20) / 2**20


def assert_sane(est):
    """Finite everywhere, with a threshold, and the objective that the formula gives."""
    for name in ["coef_", "intercept_", "beta_", "scale_", "objective_", "optimality_"]:
        assert np.all(np.isfinite(getattr(est, name))), name
    assert np.all(est.beta_ > 0)
    assert np.all(est.scale_ > 0)
    assert np.all(est.optimality_ >= 0)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("shift", [0.0, 1e7])
@pytest.mark.parametrize("y_shift", [0.0, 1e9])
@pytest.mark.parametrize("mode", DEGENERATE_MODES)
def test_exact_fit_is_found_and_has_no_outliers(mode, y_shift, shift, weight):
    base = grid(X)
    X_far = base + shift
    y = base @ [2.0, -1.0, 0.5] + y_shift
    est = SmoothL1Regressor(**mode).fit(X_far, y, weight)
    assert_sane(est)
    assert_allclose(est.coef_, [2.0, -1.0, 0.5], rtol=1e-9)
    level = est.intercept_ + est.coef_ @ X_far.mean(axis=0)
    held = 4 * EPS * (abs(y_shift) + abs(shift) * 4)
    assert_allclose(level, y.mean(), rtol=1e-12, atol=1e-9 + held)
    assert not est.outliers_.any()
    if mode in OF_SCALE:
        # The floor is rounding: of what varies, and of y where it is far from zero.
        assert est.scale_ <= 1e3 * EPS * np.ptp(y) + 4 * EPS * np.abs(y).max()


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("value", [0.0, 0.1, -5.0, 1e9, 1e-200])
@pytest.mark.parametrize("mode", DEGENERATE_MODES)
def test_constant_y_is_its_value(mode, value, intercept, weight):
    X_with_one = X if intercept else np.hstack([X, np.ones((len(Y), 1))])
    est = SmoothL1Regressor(fit_intercept=intercept, **mode)
    est.fit(X_with_one, np.full(len(Y), value), weight)
    assert_sane(est)
    assert_allclose(est.predict(X_with_one), value, rtol=1e-12)
    assert_allclose(est.coef_[:3], 0, atol=1e-12 * abs(value))
    # A fixed threshold may be below the rounding of y; one of ours may not.
    assert est.beta_ <= 100 * EPS * abs(value) or not est.outliers_.any()
    assert mode not in OF_SCALE or not est.outliers_.any()


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -1e9, 1e-9])
@pytest.mark.parametrize("to_format", [np.asarray, sparse.csr_array], ids=["dense", "csr"])
@pytest.mark.parametrize("alpha", [0.0, 0.1])
@pytest.mark.parametrize("mode", DEGENERATE_MODES)
def test_constant_column_has_no_coefficient(mode, alpha, to_format, value):
    more = np.insert(X, 1, value, axis=1)
    est = SmoothL1Regressor(alpha=alpha, **mode).fit(to_format(more), Y, WEIGHT)
    base = SmoothL1Regressor(alpha=alpha, **mode).fit(X, Y, WEIGHT)
    assert est.coef_[1] == 0
    assert_allclose(np.delete(est.coef_, 1), base.coef_, rtol=1e-7)
    assert_allclose(est.intercept_, base.intercept_, rtol=1e-7)
    assert_allclose(est.scale_, base.scale_, rtol=1e-7)


@pytest.mark.parametrize("mode", DEGENERATE_MODES)
def test_constant_column_is_the_intercept_where_there_is_none(mode):
    est = SmoothL1Regressor(fit_intercept=False, **mode).fit(np.insert(X, 0, 2.0, axis=1), Y)
    base = SmoothL1Regressor(**mode).fit(X, Y)
    assert_allclose(est.coef_[1:], base.coef_, rtol=1e-7)
    assert_allclose(2 * est.coef_[0], base.intercept_, rtol=1e-7)


@pytest.mark.parametrize("unit", [1.0, 3.0, -1e6, 1e-7])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("mode", DEGENERATE_MODES)
def test_duplicated_columns_share_the_coefficient_in_standardised_units(
    mode, weight, intercept, unit
):
    twice = np.column_stack([X[:, 0], X[:, 1], unit * X[:, 0]])
    est = SmoothL1Regressor(fit_intercept=intercept, **mode).fit(twice, Y, weight)
    once = SmoothL1Regressor(fit_intercept=intercept, **mode).fit(X[:, :2], Y, weight)
    expected = once.coef_ * [0.5, 1.0]
    assert_allclose(est.coef_[:2], expected, rtol=1e-7)
    assert_allclose(est.coef_[2] * unit, expected[0], rtol=1e-7)
    assert_allclose(est.intercept_, once.intercept_, rtol=1e-7, atol=1e-9)
    assert_allclose(est.objective_, once.objective_, rtol=1e-7)


def deficient(kind, rng):
    """X without full column rank, in units that are not the standardised ones."""
    n = 40
    X = rng.normal(size=(n, 6)) * np.geomspace(1e-3, 1e3, 6) + rng.normal(size=6)
    if kind == "dependent":
        X[:, 5] = X[:, 0] * 1e5 - X[:, 2] + 7.0
    elif kind == "one-hot":
        X[:, :4] = np.eye(4)[rng.integers(0, 4, n)]
    else:
        X = X[:5]
    return X


@pytest.mark.parametrize("kind", ["dependent", "one-hot", "wide"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mode", DEGENERATE_MODES)
def test_null_space_component_is_zero_in_standardised_units(mode, weighted, kind):
    rng = np.random.default_rng(3)
    X = deficient(kind, rng)
    y = rng.standard_t(2, len(X))
    weight = rng.integers(1, 4, len(X)).astype(float) if weighted else np.ones(len(X))
    est = SmoothL1Regressor(**mode).fit(X, y, weight)
    s = weight / weight.sum()
    centred = X - s @ X
    deviation = np.sqrt(s @ centred**2)
    _, sigma, Vt = np.linalg.svd(centred / deviation)
    null = Vt[np.count_nonzero(sigma > 1e-10 * sigma[0]) :]
    assert len(null) >= 1
    standard = est.coef_ * deviation
    assert_allclose(null @ standard, 0, atol=1e-8 * np.abs(standard).max())

    rows = np.repeat(np.arange(len(X)), weight.astype(int))
    repeated = SmoothL1Regressor(**mode).fit(X[rows], y[rows])
    assert_allclose(repeated.objective_, est.objective_, rtol=1e-7, atol=1e-12)
    if mode != {"beta": 1e-6}:  # where a median may lie anywhere between two rows
        size = np.abs(standard).max()
        assert_allclose(repeated.coef_ * deviation, standard, rtol=0, atol=1e-7 * size)


@pytest.mark.parametrize("to_format", [np.asarray, sparse.csr_array], ids=["dense", "csr"])
@pytest.mark.parametrize("alpha", [0.0, 0.1])
@pytest.mark.parametrize("mode", DEGENERATE_MODES)
def test_all_zero_X_leaves_the_location_of_y(mode, alpha, to_format):
    zero = to_format(np.zeros((len(Y), 2)))
    est = SmoothL1Regressor(alpha=alpha, **mode).fit(zero, Y, WEIGHT)
    assert_array_equal(est.coef_, 0)
    assert_sane(est)
    score = np.clip((Y - est.intercept_) / est.beta_, -1, 1)
    assert_allclose(np.average(score, weights=WEIGHT), 0, atol=1e-8)
    none = SmoothL1Regressor(alpha=alpha, fit_intercept=False, **mode).fit(zero, Y, WEIGHT)
    assert_array_equal(none.predict(zero), 0)
    assert_sane(none)


@pytest.mark.parametrize("alpha", [0.0, 0.1])
@pytest.mark.parametrize("y", [0.0, 3.0, -1e9])
@pytest.mark.parametrize("mode", DEGENERATE_MODES)
def test_one_row_is_fitted_by_the_intercept(mode, y, alpha):
    est = SmoothL1Regressor(alpha=alpha, **mode).fit([[1.0, 20.0]], [y])
    assert_array_equal(est.coef_, 0)
    assert_allclose(est.intercept_, y, rtol=1e-14)
    assert not est.outliers_.any()
    assert_sane(est)


@pytest.mark.parametrize("mode", DEGENERATE_MODES)
def test_one_row_without_an_intercept_is_fitted_in_columns_divided_by_their_size(mode):
    est = SmoothL1Regressor(fit_intercept=False, **mode).fit([[1.0, -20.0]], [3.0])
    assert_allclose(est.coef_ * [1.0, -20.0], 1.5, rtol=1e-9)
    assert not est.outliers_.any()
    assert_sane(est)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("shape", [(10, 10), (10, 30), (2, 3)])
@pytest.mark.parametrize("mode", DEGENERATE_MODES)
def test_wide_X_without_a_penalty_is_fitted_exactly(mode, shape, intercept):
    rng = np.random.default_rng(4)
    X = rng.normal(size=shape) * np.geomspace(1e-3, 1e3, shape[1])
    y = rng.normal(size=shape[0]) + 5
    est = SmoothL1Regressor(fit_intercept=intercept, **mode).fit(X, y)
    assert_allclose(est.predict(X), y, rtol=1e-9)
    assert not est.outliers_.any()
    assert_sane(est)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("y_shift", [0.0, 1e9])
@pytest.mark.parametrize("mode", [*OF_SCALE, {"beta": 1e-9}, {"beta": 1e-12}])
def test_line_through_four_fifths_of_the_rows_is_recovered(mode, y_shift, weight):
    base = grid(X)
    y = base @ [2.0, -1.0, 0.5] + y_shift
    y_line = y.copy()
    off = np.arange(len(Y)) % 5 == 0
    y[off] += grid(10 + 5 * np.random.default_rng(5).normal(size=off.sum()))
    est = SmoothL1Regressor(**mode).fit(base, y, weight)
    assert_sane(est)
    # Only rounding, also that of y, tells the rows on the line from the others.
    held = 1e-9 + 4 * EPS * y_shift
    assert_allclose((est.coef_ - [2.0, -1.0, 0.5]) * base.std(axis=0), 0, atol=held)
    assert_allclose(est.intercept_ + est.coef_ @ base[0], y_line[0], rtol=0, atol=4 * held)
    if mode in OF_SCALE:
        assert_array_equal(est.outliers_, off)


@pytest.mark.parametrize("mode", OF_SCALE)
def test_rows_on_a_line_to_rounding_are_no_outliers_however_large(mode):
    # The rounding of y differs by 1e9 between rows; the scale is that of the middle one.
    x = np.geomspace(1e-3, 1e6, 200) * np.where(np.arange(200) % 2, 1.0, -1.0)
    y = 1.1 * x + 0.3
    off = np.arange(200) % 10 == 0
    y[off] += 1e3
    est = SmoothL1Regressor(**mode).fit(x[:, None], y)
    assert_allclose(est.coef_, 1.1, rtol=1e-12)
    assert_array_equal(est.outliers_, off)


@pytest.mark.parametrize("kind", ["counts", "zero-inflated", "binary", "rounded"])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("mode", DEGENERATE_MODES)
def test_counts_and_other_ties_are_fitted(mode, intercept, kind):
    rng = np.random.default_rng(6)
    X = rng.normal(size=(150, 2))
    y = {
        "counts": rng.poisson(np.exp(0.3 * X[:, 0] - 1)),
        "zero-inflated": np.where(rng.uniform(size=150) < 0.7, 0.0, rng.gamma(2.0, size=150)),
        "binary": (rng.uniform(size=150) < 0.2).astype(float),
        "rounded": np.round(X[:, 0] + 0.3 * rng.normal(size=150)),
    }[kind]
    est = SmoothL1Regressor(fit_intercept=intercept, **mode).fit(X, y)
    assert_sane(est)
    if mode in OF_SCALE:
        # Held at the rounding of y − ȳ, even where y, the fit and their difference are zero.
        assert est.scale_ > 16 * EPS * np.abs(y - y.mean()).min()
    r = residual(est, X, y)
    assert_allclose(est.objective_, documented_objective(est, X, y), rtol=1e-9)
    if mode in OF_SCALE and est.scale != "concomitant":
        assert_allclose(est.scale_, weighted_mad(r), rtol=1e-7, atol=1e-13)
    if est.beta_ < 1e-5:
        lad = QuantileRegressor(quantile=0.5, alpha=0, fit_intercept=intercept).fit(X, y)
        least = np.abs(residual(lad, X, y)).mean()
        assert np.abs(r).mean() <= least + est.beta_ / 2 + 1e-12


@pytest.mark.parametrize("kind", ["one-hot", "counts"])
@pytest.mark.parametrize("of_y", ["four fifths exact", "rounded", "counts"])
@pytest.mark.parametrize("seed", range(20))
def test_small_tied_problems_have_a_scale_that_agrees_with_the_fit(seed, of_y, kind):
    rng = np.random.default_rng(seed)
    n, p = int(rng.integers(3, 40)), int(rng.integers(1, 6))
    X = np.eye(p)[rng.integers(0, p, n)] if kind == "one-hot" else rng.poisson(1.0, (n, p))
    plane = X @ np.arange(1.0, p + 1)
    y = {
        "four fifths exact": plane + 10 * (rng.uniform(size=n) < 0.2) * rng.normal(size=n),
        "rounded": np.round(plane + rng.normal(size=n)),
        "counts": rng.poisson(0.7, n).astype(float),
    }[of_y]
    lad = QuantileRegressor(quantile=0.5, alpha=0.0).fit(X, y)
    least = np.abs(residual(lad, X, y)).mean()
    for mode in [{}, {"beta": 2.0, "scale": "mad"}, {"scale": "concomitant"}]:
        est = SmoothL1Regressor(**mode).fit(X, y)
        assert_sane(est)
        assert_allclose(est.objective_, documented_objective(est, X, y), rtol=1e-9)
        floor = 100 * EPS * np.abs(y).max() + 1e-13
        if est.scale != "concomitant":
            assert_allclose(
                est.scale_, weighted_mad(residual(est, X, y)), rtol=1e-7, atol=floor
            )
        if est.scale_ < 1e-10:
            assert np.abs(residual(est, X, y)).mean() <= least + est.beta_ + 1e-11


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("mode", [*OF_SCALE, {"beta": 1e-7}])
def test_polynomial_through_nine_tenths_of_the_rows_is_recovered(mode, seed):
    # Badly conditioned (1e6), so that rounding is all that is left of most residuals.
    rng = np.random.default_rng(seed)
    X = np.vander(rng.uniform(size=40), 8)[:, :-1]
    off = rng.uniform(size=40) < 0.1
    y = X.sum(axis=1) + 10 * off * rng.normal(size=40)
    est = SmoothL1Regressor(**mode).fit(X, y)
    assert_allclose(est.predict(X)[~off], X.sum(axis=1)[~off], rtol=0, atol=1e-6)
    if mode in OF_SCALE:
        assert_array_equal(est.outliers_, off)


@pytest.mark.parametrize("seed", range(16))
@pytest.mark.parametrize("mode", [{}, {"loss": "huber"}, {"scale": "concomitant"}])
@pytest.mark.parametrize("alpha", [1e-2, 1.0])
def test_few_rows_and_a_penalty_give_a_minimum_without_a_warning(alpha, mode, seed):
    rng = np.random.default_rng(seed)
    n = 2 + seed % 5
    X, y = rng.normal(size=(n, n + 1 - seed % 3)), rng.normal(size=n)
    est = SmoothL1Regressor(alpha=alpha, **mode).fit(X, y)
    assert_sane(est)

    def objective(w, b):
        r = np.abs(y - X @ w - b)
        c = np.minimum(r, est.beta_)
        value = np.mean(c * (r - c / 2)) / est.beta_
        a = alpha / (1 if est.loss == "smooth_l1" else est.beta_)
        return value + a / 2 * w @ w

    least = objective(est.coef_, est.intercept_)
    for size in [1e-3, 1e-6]:
        for step in size * rng.normal(size=(20, X.shape[1] + 1)):
            assert objective(est.coef_ + step[1:], est.intercept_ + step[0]) >= least - 1e-13


@pytest.mark.parametrize("mode", OF_SCALE)
def test_small_group_among_exact_ones_is_fitted(mode):
    # The scale is zero at least squares already, where the second group is far from its
    # median and none of it inside the threshold.
    X = np.eye(2)[[0] * 6 + [1] * 3]
    y = np.array([4.0] * 6 + [1.0, 1.0, 6.45])
    est = SmoothL1Regressor(**mode).fit(X, y)
    assert_allclose(est.predict(X), [4.0] * 6 + [1.0] * 3, rtol=1e-12)
    assert_array_equal(est.outliers_, y > 5)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("mode", [{}, {"beta": 2.0, "scale": "mad"}, {"scale": "concomitant"}])
def test_small_penalty_changes_little_where_most_of_y_is_zero(mode, intercept, loss):
    # The scale of y itself is zero, that of the residuals is not.
    X = np.random.default_rng(7).normal(size=(40, 2))
    y = np.where(np.arange(40) < 34, 0.0, 5.0)
    X[:, 0] += y
    params = {"loss": loss, "fit_intercept": intercept, **mode}
    free = SmoothL1Regressor(**params).fit(X, y)
    est = SmoothL1Regressor(alpha=1e-9, **params).fit(X, y)
    assert free.scale_ > 0.05
    assert_allclose(est.coef_, free.coef_, rtol=1e-6)
    assert_allclose(est.scale_, free.scale_, rtol=1e-6)


def test_most_zeros_in_y_hold_the_scale_at_the_floor():
    X = np.random.default_rng(7).normal(size=(100, 2))
    y = np.where(np.arange(100) < 90, 0.0, 5.0)
    est = SmoothL1Regressor().fit(X, y)
    assert 0 < est.scale_ < 1e-12
    assert_array_equal(est.outliers_, y > 0)
    assert_allclose(est.predict(X), 0, atol=1e-12)


@pytest.mark.parametrize("large", [1e300, 1.7e308])
@pytest.mark.parametrize("of", ["X", "y", "both"])
@pytest.mark.parametrize("mode", [{}, {"scale": "concomitant"}])
def test_finite_data_whose_sums_overflow_are_fitted(mode, of, large):
    unit = large / np.abs(X).max() if of in ("X", "both") else 1.0
    y_unit = large / np.abs(Y).max() if of in ("y", "both") else 1.0
    est = SmoothL1Regressor(**mode).fit(X * unit, Y * y_unit)
    base = SmoothL1Regressor(**mode).fit(X, Y)
    assert_allclose(est.coef_ * unit / y_unit, base.coef_, rtol=1e-7)
    assert_allclose(est.scale_ / y_unit, base.scale_, rtol=1e-7)
    assert_array_equal(est.outliers_, base.outliers_)


# At the ends of the floating-point range --------------------------------------------------


@pytest.mark.parametrize("scale", [None, "mad"])
@pytest.mark.parametrize("beta", [1e-120, 1e-160, 1e-200, 5e-324])
def test_a_threshold_whose_square_vanishes_gives_least_absolute_deviations(beta, scale):
    lad = QuantileRegressor(quantile=0.5, alpha=0.0).fit(X, Y)
    est = SmoothL1Regressor(beta, scale=scale).fit(X, Y)
    assert_allclose(est.coef_, lad.coef_, rtol=1e-6)
    assert est.beta_ == beta * est.scale_
    assert_allclose(est.objective_, np.abs(Y - lad.predict(X)).mean(), rtol=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("mode", SCALES)
def test_an_enormous_penalty_leaves_a_location(mode, loss):
    for alpha in (1e150, 1e300, 1e308):
        est = SmoothL1Regressor(**mode | {"loss": loss, "alpha": alpha}).fit(X, Y)
        assert np.abs(est.coef_).max() < 1e-100
        location = SmoothL1Regressor(**mode | {"loss": loss}).fit(np.zeros((Y.size, 1)), Y)
        assert_allclose(est.intercept_, location.intercept_, rtol=1e-6)


def test_an_enormous_epsilon_is_least_squares():
    est = SmoothL1Regressor(1e155, scale="concomitant").fit(X, Y)
    assert_allclose(est.coef_, LinearRegression().fit(X, Y).coef_, rtol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_coefficients_beyond_the_dtype_are_refused(dtype):
    tiny, huge = (1e-30, 1e20) if dtype == np.float32 else (1e-300, 1e300)
    with pytest.raises(ValueError, match=f"coef_ has values too large for {dtype.__name__}"):
        SmoothL1Regressor().fit((X * tiny).astype(dtype), Y * huge)


def test_the_warning_points_at_the_call_of_fit():
    with pytest.warns(ConvergenceWarning) as caught:
        SmoothL1Regressor(max_iter=1).fit(X, Y)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("factor", [1e200, np.nan, np.inf])
def test_a_warm_start_from_nowhere_is_a_cold_start(factor):
    est = SmoothL1Regressor(beta=1.0, warm_start=True).fit(X, Y)
    coef = est.coef_.copy()
    est.coef_ = est.coef_ * factor
    assert_allclose(est.fit(X, Y).coef_, coef, rtol=1e-7)


def test_a_warm_start_where_nothing_can_be_fitted():
    est = SmoothL1Regressor(beta=1.0, fit_intercept=False, warm_start=True)
    for _ in range(2):
        assert_array_equal(est.fit(np.zeros((5, 3)), np.arange(5.0)).coef_, 0)


def test_nan_is_refused_also_where_none_is_assumed():
    with config_context(assume_finite=True), pytest.raises(ValueError, match="X contains NaN"):
        SmoothL1Regressor().fit(np.where(np.arange(X.size).reshape(X.shape), X, np.nan), Y)


# Found by tests/test_properties.py ----------------------------------------------------------


@pytest.mark.parametrize("unit", [1.0, 1e-151, 1e100])
def test_a_penalty_is_whole_where_the_square_of_a_unit_is_no_number(unit):
    base = SmoothL1Regressor(1.0, alpha=0.3, loss="huber").fit(X, Y)
    params = {"beta": unit, "alpha": 0.3 * unit**2, "loss": "huber"}
    est = SmoothL1Regressor(**params).fit(X * unit, Y * unit)
    assert_allclose(est.coef_, base.coef_, rtol=1e-7)


def test_a_row_of_weight_zero_may_be_beyond_all_numbers():
    rng = np.random.default_rng(0)
    far = rng.normal(size=(20, 2))
    y, weight = 1e150 * far @ [1.0, -1.0] + 1e149 * rng.normal(size=20), np.ones(20)
    far[0], weight[0] = [1e160, 1e160], 0
    est = SmoothL1Regressor().fit(far, y, weight)
    assert est.outliers_[0]


@pytest.mark.parametrize("seed", [722, 871, 1027])
def test_a_concomitant_scale_is_not_taken_for_zero_because_rows_are_exact(seed):
    """Near σ = 0 two of 30 rows are exact, more than 1 − 1/ε²; but the minimum is above."""
    rng, epsilon = np.random.default_rng(seed), 1.01
    x = rng.normal(size=(30, 1))
    y = -2 * x[:, 0] + rng.standard_t(2, 30)
    est = SmoothL1Regressor(epsilon, scale="concomitant").fit(x, y)
    for sigma in np.geomspace(1e-9, 1, 100):
        fixed = SmoothL1Regressor(epsilon * sigma).fit(x, y)
        assert est.objective_ <= (fixed.objective_ + sigma / (2 * epsilon)) * (1 + 1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_a_mad_far_below_least_squares_is_not_passed_by(seed):
    """One row is 1e6 off: φ is straight from 1e5 nearly down to its fixed point near 1."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(12, 1))
    y = x[:, 0] + rng.standard_t(2, 12)
    y[0] += 1e6
    est = SmoothL1Regressor(1.01, scale="mad", alpha=0.1).fit(x, y)
    assert est.scale_ == pytest.approx(weighted_mad(residual(est, x, y)), rel=1e-6)


def test_squares_of_residuals_may_vanish_where_an_exact_fit_leaves_any():
    group = np.array([0, 0, 3, 1, 2, 2, 2, 0, 1, 0, 1])
    groups = np.column_stack([np.eye(4)[group][:, :3], np.full(11, 7.0)])
    y = np.array([3.0, 0.0, -3.0, 0.0])[group]
    est = SmoothL1Regressor(fit_intercept=False).fit(groups, y)
    assert_allclose(est.coef_, [3, 0, -3, 0], atol=1e-14)
    assert not est.outliers_.any()


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_a_scale_that_does_not_settle_is_that_of_the_objective(monkeypatch, rounds):
    monkeypatch.setattr("skrobust._agreement._MAX_ROUNDS", rounds)
    with pytest.warns(ConvergenceWarning, match="the scale did not settle"):
        est = SmoothL1Regressor().fit(X, Y)
    loss = mean_smooth_l1_loss(Y, est.predict(X), beta=est.beta_)
    assert est.objective_ == pytest.approx(loss, rel=1e-12)


def test_bad_values_of_y_may_come_in_step():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30_000, 3))
    y = X @ [1.0, 2.0, 3.0] + 5 + rng.normal(size=30_000)
    y[::3] = 1e20
    order = rng.permutation(30_000)
    est = SmoothL1Regressor(1.0).fit(X, y)
    other = SmoothL1Regressor(1.0).fit(X[order], y[order])
    assert_allclose(est.coef_, other.coef_, rtol=1e-10)
    assert_allclose(est.coef_, [1, 2, 3], atol=0.05)


@pytest.mark.parametrize("options", [{}, {"scale": "concomitant"}])
def test_wide_x_takes_no_matrix_of_its_columns(options):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 2_000))
    y = X[:, :5].sum(axis=1) + rng.standard_t(2, size=50)
    est = SmoothL1Regressor(**options).fit(X, y)  # compiles
    tracemalloc.start()
    est.fit(X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * X.nbytes  # a 2,000 × 2,000 matrix is forty times X


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_in_tall_x_is_refused_without_a_warning(value):
    X = np.random.default_rng(0).normal(size=(60_000, 40))
    X[7, 3] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="Input X contains"):
            SmoothL1Regressor().fit(X, X[:, 0])
