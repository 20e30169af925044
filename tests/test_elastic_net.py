"""`SmoothL1Regressor` with `l1_ratio`, `positive` and `penalty_weights`."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.optimize import linprog
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_linnerud
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet, QuantileRegressor, Ridge
from threadpoolctl import threadpool_limits

from problems import weighted_mad
from skrobust import SmoothL1Regressor

# Minimisers found by the solver Clarabel and refined by an exact solve on the active set. Each
# "alpha" is a fraction of alpha_max.
REFERENCE = json.loads((Path(__file__).parent / "data" / "penalties.json").read_text())["cases"]
LASSO = {"l1_ratio": 1.0, "tol": 1e-10}
# Parameters for each form of the objective, with penalties at which some coefficients are zero.
MODES = {
    "huber": {"beta": 1.0, "loss": "huber", "alpha": 0.1},
    "smooth_l1": {"beta": 0.5, "alpha": 0.15},
    "elastic net": {"beta": 1.0, "loss": "huber", "alpha": 0.2, "l1_ratio": 0.5},
    "no intercept": {"beta": 1.0, "alpha": 0.1, "fit_intercept": False},
    "positive": {"beta": 1.0, "alpha": 0.02, "positive": True},
    "positive ridge": {"beta": 1.0, "alpha": 0.1, "l1_ratio": 0.0, "positive": True},
    "nonnegative": {"beta": 1.0, "alpha": 0.0, "positive": True},
    "mad": {"loss": "huber", "alpha": 0.1},
    "smooth_l1 mad": {"alpha": 0.1},
    "concomitant": {"scale": "concomitant", "loss": "huber", "alpha": 0.1},
    "smooth_l1 concomitant": {"scale": "concomitant", "alpha": 0.06, "l1_ratio": 0.7},
}
in_every_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
CONVEX = {name: m for name, m in MODES.items() if "beta" in m or "scale" in m}
in_convex_modes = pytest.mark.parametrize("mode", CONVEX.values(), ids=CONVEX)


def standardised(X):
    return (X - X.mean(0)) / X.std(0)


def diabetes():
    X, y = load_diabetes(return_X_y=True, scaled=False)
    y[::15] += 500
    return standardised(X), y


def diabetes_wide():
    X, y = load_diabetes(return_X_y=True, scaled=False)
    X, y = standardised(X)[:40], y[:40].copy()
    y[::8] += 400
    # Feature 1 has two values. Its square is therefore a linear function of it and is left out.
    pairs = np.stack(np.triu_indices(10), axis=1)
    i, j = pairs[(pairs != 1).any(axis=1)].T
    X = np.column_stack([X, X[:, i] * X[:, j]])
    return standardised(X[:, X.std(0) > 1e-8]), y


def cancer():
    X, _ = load_breast_cancer(return_X_y=True)
    y = X[:, 3] / 100
    y[::10] -= 20
    return standardised(np.delete(X, 3, 1)), y


def linnerud():
    bunch = load_linnerud()
    return np.column_stack([bunch.data[:, 1:], bunch.target]), bunch.data[:, 0].copy()


SETS = {f.__name__: f() for f in (diabetes, diabetes_wide, cancer, linnerud)}


def problem(case):
    """Return X, y, sample weights and parameters of a reference case."""
    X, y = SETS[case["data"]]
    parameters = {key: case[key] for key in ("loss", "beta", "alpha", "l1_ratio")}
    options = ("scale", "positive", "fit_intercept")
    parameters |= {key: case[key] for key in options if key in case}
    if case["penalty_weights"]:
        q = 0.5 + 0.5 * (np.arange(X.shape[1]) % 3)
        q[0], q[-1] = 0.0, np.inf
        parameters["penalty_weights"] = q
    weight = 1.0 + np.arange(len(y)) % 3 if case["sample_weight"] else None
    return X, y, weight, parameters


def data(n=60, p=6, seed=0):
    """Return correlated features in equal units, and y with an outlier in every fifth row."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p))
    X[:, 1:] += 0.5 * X[:, :-1]
    coef = np.zeros(p)
    coef[:3] = [1.5, -1.0, 0.7]
    y = X @ coef + 2.0 + 0.5 * rng.normal(size=n)
    y[::5] += 8.0
    return X, y


X, Y = data()
WEIGHT = np.random.default_rng(1).integers(1, 4, size=len(Y)).astype(float)


def fit(mode, X=X, y=Y, weight=None, **parameters):
    return SmoothL1Regressor(**{**LASSO, **mode, **parameters}).fit(X, y, sample_weight=weight)


def unconverged(*args, **parameters):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fit(*args, **parameters)


def loss_gradient(model, X=X, y=Y, weight=None):
    """Return (1/S) Σ s ψ(r) (1, x), the negative gradient of the documented data term."""
    r = y - X @ model.coef_ - model.intercept_
    c = np.clip(r, -model.beta_, model.beta_)
    if model.scale == "concomitant":
        c = c / model.scale_
        c /= 1.0 if model.loss == "huber" else model.beta_ / model.scale_
    elif model.loss == "smooth_l1":
        c = c / model.beta_
    s = np.ones(len(y)) if weight is None else weight
    return (s * c) @ np.column_stack([np.ones(len(y)), X]) / s.sum()


def objective(model, X=X, y=Y, weight=None):
    """Return the documented objective at the fitted attributes."""
    r, beta = np.abs(y - X @ model.coef_ - model.intercept_), model.beta_
    value = np.average(np.where(r <= beta, r * r / 2, beta * (r - beta / 2)), weights=weight)
    if model.scale == "concomitant":
        value = value / model.scale_ + model.scale_ / 2
        value /= 1.0 if model.loss == "huber" else beta / model.scale_
    elif model.loss == "smooth_l1":
        value /= beta
    q = model.penalty_weights
    q = np.ones(X.shape[1]) if q is None else np.where(np.isinf(q), 0.0, q)
    w, rho = model.coef_, model.l1_ratio
    return value + model.alpha * q @ (rho * np.abs(w) + (1 - rho) / 2 * w**2)


def violation(model, X=X, y=Y, weight=None):
    """Return the largest violation of the optimality conditions of the documented objective."""
    q = np.ones(X.shape[1]) if model.penalty_weights is None else model.penalty_weights
    kept, w = np.isfinite(q), model.coef_
    v = loss_gradient(model, X, y, weight)
    q = np.where(kept, q, 0.0)
    slope = model.alpha * model.l1_ratio * q
    v, intercept = v[1:] - model.alpha * (1 - model.l1_ratio) * q * w, v[0]
    at_zero = np.maximum((v if model.positive else np.abs(v)) - slope, 0.0)
    found = np.where(w == 0, at_zero, np.abs(v - slope * np.sign(w)))[kept]
    return max(found.max(initial=0.0), abs(intercept) if model.fit_intercept else 0.0)


# The reference --------------------------------------------------------------------------


@pytest.mark.parametrize("index", range(len(REFERENCE)))
def test_fits_are_those_of_an_interior_point_method(index):
    case = REFERENCE[index]
    X, y, weight, parameters = problem(case)
    model = SmoothL1Regressor(**parameters, tol=1e-10).fit(X, y, sample_weight=weight)
    expected, unit = np.array(case["coef"]), X.std(0)
    assert model.objective_ == pytest.approx(case["objective"], rel=1e-9)
    largest = np.abs(expected * unit).max()
    assert_allclose(model.coef_ * unit, expected * unit, rtol=0, atol=1e-5 * largest)
    assert_array_equal(model.coef_ == 0, expected == 0)
    assert model.beta_ == pytest.approx(case["threshold"], rel=1e-7)
    if case.get("scale"):
        assert model.scale_ == pytest.approx(case["sigma"], rel=1e-7)
    assert 0 <= model.optimality_ <= 1e-10


BELOW_ALPHA_MAX = [
    i for i, c in enumerate(REFERENCE) if c["alpha_max"] and c.get("scale") != "mad"
]


@pytest.mark.parametrize("index", BELOW_ALPHA_MAX)
def test_one_coefficient_becomes_nonzero_just_below_alpha_max(index):
    case = REFERENCE[index]
    X, y, weight, parameters = problem(case)
    q = parameters.get("penalty_weights", np.ones(X.shape[1]))
    for factor, more in ((1 + 1e-9, 0), (10.0, 0), (0.9999, 1)):
        parameters["alpha"] = factor * case["alpha_max"]
        model = SmoothL1Regressor(**parameters, tol=1e-12).fit(X, y, sample_weight=weight)
        assert np.count_nonzero(model.coef_[q > 0]) == more
        if not more and not (q == 0).any():
            assert model.intercept_ == pytest.approx(case["null_intercept"], rel=1e-9)


@pytest.mark.parametrize("factor", [1 + 1e-9, 3.0, 100.0])
@pytest.mark.parametrize(
    "index", [i for i, c in enumerate(REFERENCE) if c.get("scale") == "mad"]
)
def test_the_null_model_is_the_fixed_point_of_the_mad_above_alpha_max(index, factor):
    case = REFERENCE[index]
    X, y, weight, parameters = problem(case)
    parameters["alpha"] = factor * case["alpha_max"]
    model = SmoothL1Regressor(**parameters, tol=1e-10).fit(X, y, sample_weight=weight)
    assert_array_equal(model.coef_, 0.0)
    assert model.intercept_ == pytest.approx(case["null_intercept"], rel=1e-7)
    assert model.scale_ == pytest.approx(case["null_scale"], rel=1e-7)


# Optimality -----------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@in_every_mode
def test_the_fit_satisfies_the_optimality_conditions(mode, weight):
    model = fit(mode, weight=weight)
    assert violation(model, weight=weight) < 1e-9
    assert model.objective_ == pytest.approx(objective(model, weight=weight), rel=1e-12)
    assert 0 <= model.optimality_ <= 1e-10
    assert 0 < np.count_nonzero(model.coef_) < 6 or mode.get("l1_ratio") == 0.0
    assert not np.signbit(model.coef_[model.coef_ == 0]).any()
    if mode.get("positive"):
        assert (model.coef_ >= 0).all()
        assert (model.coef_ == 0).any()
    r = Y - model.predict(X)
    if model.scale == "concomitant":
        z = np.clip(r / model.scale_, -model.beta_ / model.scale_, model.beta_ / model.scale_)
        assert np.average(z * z, weights=weight) == pytest.approx(1, rel=1e-8)
    elif model.beta == "auto":
        assert model.scale_ == pytest.approx(weighted_mad(r, weight), rel=1e-8)


@pytest.mark.parametrize("weights", [None, [0.0, 1.0, 2.0, np.inf, 0.5, 0.0]])
@in_every_mode
def test_the_fit_with_penalty_weights_satisfies_the_optimality_conditions(mode, weights):
    model = fit(mode, penalty_weights=weights, weight=WEIGHT)
    assert violation(model, weight=WEIGHT) < 1e-9
    assert model.objective_ == pytest.approx(objective(model, weight=WEIGHT), rel=1e-12)
    assert 0 <= model.optimality_ <= 1e-10
    if weights is not None:
        assert model.coef_[3] == 0.0
        assert model.penalty_weights is weights


@pytest.mark.parametrize("max_iter", [1, 2, 3, 5])
@in_convex_modes
def test_the_gap_of_a_stopped_fit_is_a_bound(mode, max_iter):
    X, y = data(80, 40)
    least = fit(mode, X, y)
    model = unconverged(mode, X, y, max_iter=max_iter)
    above = 1 - least.objective_ / model.objective_
    assert above - 1e-13 <= model.optimality_ <= 1
    assert model.objective_ == pytest.approx(objective(model, X, y), rel=1e-12)
    null = fit(mode, X, y, penalty_weights=np.full(40, np.inf))
    if model.scale is None:
        assert model.objective_ <= null.objective_ * (1 + 1e-14)


@pytest.mark.parametrize("max_iter", [1, 2, 3, 10])
@pytest.mark.parametrize("start", [1e-3, 1.0, 1e3, -1e7])
@pytest.mark.parametrize("schedule", [None, [30.0, 1.0]])
@pytest.mark.parametrize(
    "mode",
    [m for m in CONVEX.values() if "scale" not in m]
    + [{"beta": 1e-3, "alpha": 0.1}, {"beta": 1e-7, "alpha": 0.1, "positive": True}],
)
def test_a_stopped_fit_from_anywhere_is_not_above_the_null_model(
    mode, schedule, start, max_iter
):
    X, y = data(80, 40)
    null = fit(mode, X, y, penalty_weights=np.full(40, np.inf))
    model = SmoothL1Regressor(
        **{**LASSO, **mode}, beta_schedule=schedule, max_iter=max_iter, warm_start=True
    )
    model.coef_ = start * np.random.default_rng(0).normal(size=40)
    model.intercept_ = start
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
    assert model.objective_ <= null.objective_ * (1 + 1e-14)
    assert model.objective_ == pytest.approx(objective(model, X, y), rel=1e-12)
    least = fit(mode, X, y).objective_
    assert 1 - least / model.objective_ - 1e-13 <= model.optimality_ <= 1


@pytest.mark.parametrize("max_iter", [1, 2, 3])
def test_a_stopped_warm_start_is_within_the_constraints(max_iter):
    X, y = data(50, 20)
    y = X[:, :3] @ [3.0, -2.0, 1.0]
    for limits in ({"positive": True}, {"penalty_weights": np.r_[1, np.inf, np.ones(18)]}):
        model = SmoothL1Regressor(
            1.0, **LASSO, alpha=1e-3, **limits, max_iter=max_iter, warm_start=True
        )
        model.coef_, model.intercept_ = np.r_[3.0, -2.0, 1.0, np.zeros(17)], 0.0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X, y)
        assert model.coef_[1] == 0.0
        assert "penalty_weights" in limits or (model.coef_ >= 0).all()


@pytest.mark.parametrize("schedule", [None, [30.0, 5.0, 1.0]])
@pytest.mark.parametrize("max_iter", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("mode", [*MODES.values(), {"beta": 1e-7, "alpha": 0.1}])
def test_the_number_of_iterations_is_at_most_max_iter(mode, max_iter, schedule):
    X, y = data(80, 40)
    model = unconverged(mode, X, y, max_iter=max_iter, beta_schedule=schedule)
    assert 1 <= model.n_iter_ <= max_iter


@in_every_mode
def test_a_tolerance_of_zero_ends_at_rounding_without_a_warning(mode):
    model, other = fit(mode, tol=0.0), fit(mode)
    assert model.optimality_ < 1e-13
    assert_allclose(model.coef_, other.coef_, atol=1e-8)


def test_a_stopped_fit_warns_with_the_relative_gap():
    with pytest.warns(ConvergenceWarning, match="gap") as caught:
        model = fit(MODES["huber"], *data(80, 40), max_iter=2)
    assert len(caught) == 1
    assert f"{model.optimality_:.2g}" in str(caught[0].message)


def test_the_history_counts_the_nonzero_coefficients():
    model = fit(MODES["huber"], beta_schedule=[100.0, 10.0, 1.0])
    assert len(model.history_) == 3
    assert model.history_[-1]["n_active"] == np.count_nonzero(model.coef_) == 3
    ridge = SmoothL1Regressor(beta=1.0, alpha=0.1).fit(X, Y)
    assert ridge.history_[0]["n_active"] == 6


# Limits and equivalences ----------------------------------------------------------------


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("l1_ratio", [1.0, 0.3])
@pytest.mark.parametrize("shape", [(60, 6), (20, 50)])
def test_the_limit_of_large_thresholds_is_the_elastic_net(shape, l1_ratio, positive):
    X, y = data(*shape)
    parameters = {"alpha": 0.15, "l1_ratio": l1_ratio, "positive": positive}
    model = SmoothL1Regressor(beta=1e6, loss="huber", tol=1e-10, **parameters).fit(X, y)
    other = ElasticNet(tol=1e-12, max_iter=100_000, **parameters).fit(X, y)
    assert_allclose(model.coef_, other.coef_, atol=1e-7)
    assert model.intercept_ == pytest.approx(other.intercept_, abs=1e-7)


@pytest.mark.parametrize("positive", [False, True])
def test_the_limit_of_large_thresholds_without_l1_part_is_ridge(positive):
    model = fit({"beta": 1e6, "loss": "huber", "alpha": 0.1, "l1_ratio": 0}, positive=positive)
    other = Ridge(0.1 * len(Y), positive=positive, tol=1e-12).fit(X, Y)
    assert_allclose(model.coef_, other.coef_, atol=1e-6)


def test_the_limit_of_small_thresholds_is_the_lasso_of_least_absolute_deviations():
    alpha = 0.2
    model = SmoothL1Regressor(beta=1e-7, alpha=alpha, l1_ratio=1.0).fit(X, Y)
    other = QuantileRegressor(quantile=0.5, alpha=alpha / 2).fit(X, Y)
    assert_allclose(model.coef_, other.coef_, atol=1e-5)
    assert_array_equal(model.coef_ == 0, other.coef_ == 0)


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("alpha", [0.3, 0.1, 0.03, 0.01])
@pytest.mark.parametrize("shape", [(100, 40), (60, 55), (40, 100)])
@pytest.mark.parametrize("weighted", [False, True])
def test_small_thresholds_reach_the_minimum_in_few_iterations(shape, alpha, positive, weighted):
    X, y = data(*shape)
    weight = np.random.default_rng(1).integers(0, 3, len(y)).astype(float) if weighted else None
    mode = {"beta": 1e-7, "alpha": alpha, "positive": positive}
    model = fit(mode, X, y, weight)
    assert model.optimality_ <= 1e-10
    assert model.n_iter_ <= 150
    assert model.objective_ == pytest.approx(
        least_absolute_deviations(X, y, weight, alpha, positive), rel=1e-6
    )


@pytest.mark.parametrize(
    "penalty", [{"l1_ratio": 0.5}, {"penalty_weights": [0, 0, 1, 1, 2, 9]}]
)
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("beta", [1e-3, 1e-5, 1e-9])
def test_small_thresholds_with_any_penalty(beta, positive, penalty):
    mode = {"beta": beta, "alpha": 0.2, "positive": positive, **penalty}
    model = fit(mode)
    assert model.optimality_ <= 1e-10
    assert model.objective_ == pytest.approx(objective(model), rel=1e-12)


def least_absolute_deviations(X, y, weight, alpha, positive):
    """Return min Σ s|r| / S + α Σ|w|, by linear programming in the parts b±, w±, r± ≥ 0."""
    n, p = X.shape
    s = np.full(n, 1 / n) if weight is None else weight / weight.sum()
    costs = np.concatenate([[0, 0], np.full(2 * p, alpha), s, s])
    costs[2 + p : 2 + 2 * p] = 1e6 if positive else alpha
    one = np.ones((n, 1))
    A = np.hstack([one, -one, X, -X, np.eye(n), -np.eye(n)])
    return linprog(costs, A_eq=A, b_eq=y).fun


@pytest.mark.parametrize("scale", [None, "mad", "concomitant"])
def test_smooth_l1_is_the_huber_loss_divided_by_the_threshold(scale):
    mode = {"beta": 1.3, "scale": scale, "alpha": 0.06}
    model = fit(mode, l1_ratio=0.6)
    divisor = 1.3 if scale == "concomitant" else model.beta_
    other = fit(
        {"beta": 1.3, "loss": "huber", "alpha": 0.06 * divisor}, scale=scale, l1_ratio=0.6
    )
    assert_allclose(model.coef_, other.coef_, atol=1e-7)
    assert model.objective_ * divisor == pytest.approx(other.objective_, rel=1e-8)


@pytest.mark.parametrize("mode", [{"beta": 1.0}, {}, {"scale": "concomitant"}])
@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_ones_as_penalty_weights_and_a_ratio_without_a_penalty_change_no_bit(mode, alpha):
    plain = SmoothL1Regressor(**mode, alpha=alpha).fit(X, Y)
    ones = SmoothL1Regressor(**mode, alpha=alpha, penalty_weights=np.ones(6)).fit(X, Y)
    models = [ones]
    if not alpha:
        models.append(SmoothL1Regressor(**mode, l1_ratio=0.7).fit(X, Y))
        models.append(SmoothL1Regressor(**mode, penalty_weights=[0, 1, 2, 3, 4, 5]).fit(X, Y))
    for model in models:
        assert_array_equal(model.coef_, plain.coef_)
        for name in ("intercept_", "objective_", "optimality_", "scale_", "n_iter_"):
            assert getattr(model, name) == getattr(plain, name)


@in_every_mode
def test_ones_as_penalty_weights_change_no_bit_of_a_sparse_fit(mode):
    model, plain = fit(mode, penalty_weights=np.ones(6)), fit(mode)
    assert_array_equal(model.coef_, plain.coef_)
    assert model.objective_ == plain.objective_


# `MODES`, and modes with alpha = 0 or l1_ratio = 0.
ANY = {**MODES, "none": {"beta": 1.0, "l1_ratio": 0.0}, "mad none": {"l1_ratio": 0.0}}
ANY["ridge"] = {"beta": 1.0, "alpha": 0.2, "l1_ratio": 0.0}
ANY["ridge concomitant"] = {"scale": "concomitant", "alpha": 0.2, "l1_ratio": 0.0}
in_any_mode = pytest.mark.parametrize("mode", ANY.values(), ids=ANY)


@in_any_mode
def test_an_infinite_weight_drops_the_feature(mode):
    q = np.array([1.0, np.inf, 1.0, 0.5, np.inf, 1.0])
    model = fit(mode, penalty_weights=q)
    kept = np.isfinite(q)
    other = fit(mode, X[:, kept], penalty_weights=q[kept])
    assert_array_equal(model.coef_[~kept], 0.0)
    assert_allclose(model.coef_[kept], other.coef_, atol=1e-8)
    assert model.objective_ == pytest.approx(other.objective_, rel=1e-9)
    assert model.optimality_ <= 1e-10


@pytest.mark.parametrize("mode", [m for k, m in ANY.items() if "positive" not in m])
def test_infinite_weights_of_all_features_leave_the_intercept(mode):
    model = fit(mode, penalty_weights=np.full(6, np.inf))
    other = fit({**mode, "alpha": 1e6, "l1_ratio": 1.0})
    assert_array_equal(model.coef_, 0.0)
    assert_array_equal(other.coef_, 0.0)
    assert model.intercept_ == pytest.approx(other.intercept_, abs=1e-8)
    assert model.scale_ == pytest.approx(other.scale_, rel=1e-8)


@pytest.mark.parametrize("l1_ratio", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("mode", [{"beta": 1.0}, {}, {"scale": "concomitant"}])
def test_a_weight_of_zero_at_a_huge_penalty_is_the_fit_of_that_feature_alone(mode, l1_ratio):
    q = [0.0, 1.0, 1.0, 0.0, 1.0, 1.0]
    model = fit(mode, loss="huber", alpha=1e9, l1_ratio=l1_ratio, penalty_weights=q)
    other = fit(mode, X[:, [0, 3]], loss="huber")
    assert_allclose(model.coef_[[0, 3]], other.coef_, atol=1e-6)
    assert_allclose(model.coef_[[1, 2, 4, 5]], 0.0, atol=1e-7)
    assert model.scale_ == pytest.approx(other.scale_, rel=1e-6)


@pytest.mark.parametrize("l1_ratio", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("mode", [{"beta": 1.0}, {}, {"scale": "concomitant"}])
def test_without_any_penalised_feature_alpha_has_no_effect(mode, l1_ratio):
    model = fit(mode, alpha=5.0, l1_ratio=l1_ratio, penalty_weights=np.zeros(6))
    other = fit(mode)
    assert_allclose(model.coef_, other.coef_, atol=1e-7)
    assert model.objective_ == pytest.approx(other.objective_, rel=1e-9)
    assert model.scale_ == pytest.approx(other.scale_, rel=1e-7)


# Equivariance ---------------------------------------------------------------------------


@pytest.mark.parametrize(("l1_ratio", "power"), [(1.0, 1), (0.0, 2)])
@pytest.mark.parametrize("mode", [{"beta": 1.0}, {}, {"scale": "concomitant"}])
def test_penalty_weights_compensate_for_other_units_of_the_features(mode, l1_ratio, power):
    unit = np.array([1.0, 1e-3, 50.0, 1e4, 0.2, 1.0])
    model = fit(mode, alpha=0.1, l1_ratio=l1_ratio)
    other = fit(mode, X * unit, alpha=0.1, l1_ratio=l1_ratio, penalty_weights=unit**power)
    assert_allclose(other.coef_ * unit, model.coef_, atol=1e-7)
    assert other.objective_ == pytest.approx(model.objective_, rel=1e-9)


@pytest.mark.parametrize("t", [1e-6, 1e8])
@in_every_mode
def test_another_unit_of_the_target_moves_the_penalty(mode, t):
    """With suitable alpha and l1_ratio, multiplying y by t multiplies the coefficients by t.

    The data term is multiplied by t² for the Huber loss without a concomitant scale, and by t
    otherwise.
    """
    mode = {"l1_ratio": 1.0, **mode}
    alpha, rho, positive = mode["alpha"], mode["l1_ratio"], mode.get("positive")
    per_threshold = mode.get("loss") != "huber" or mode.get("scale") == "concomitant"
    l1 = alpha * rho * (1.0 if per_threshold else t)
    l2 = alpha * (1 - rho) / (t if per_threshold else 1.0)
    scaled = {**mode, "alpha": l1 + l2, "l1_ratio": l1 / (l1 + l2) if l1 + l2 else 1.0}
    if isinstance(mode.get("beta"), float):
        scaled["beta"] = t * mode["beta"]
    model, other = fit(mode), fit(scaled, y=t * Y)
    assert_allclose(other.coef_ / t, model.coef_, atol=1e-7)
    assert_array_equal(other.coef_ == 0, model.coef_ == 0)
    assert other.scale_ == pytest.approx(
        model.scale_ * (t if model.scale_ != 1 else 1), rel=1e-7
    )
    assert positive is None or (other.coef_ >= 0).all()


@in_every_mode
def test_constants_added_to_columns_and_target_move_the_intercept(mode):
    if not mode.get("fit_intercept", True):
        pytest.skip("there is no intercept")
    shift = np.array([1.0, -3.0, 100.0, 1e3, 0.0, 7.0])
    model, other = fit(mode), fit(mode, X + shift, Y + 50.0)
    assert_allclose(other.coef_, model.coef_, atol=1e-7)
    expected = model.intercept_ + 50.0 - shift @ model.coef_
    assert other.intercept_ == pytest.approx(expected, abs=1e-5)


# Data and options -----------------------------------------------------------------------


@in_every_mode
def test_weights_are_repeated_rows_and_rows_of_weight_zero_are_absent(mode):
    weight = WEIGHT.copy()
    weight[::7] = 0.0
    rows = np.repeat(np.arange(len(Y)), weight.astype(int))
    model, other = fit(mode, weight=weight), fit(mode, X[rows], Y[rows])
    assert_allclose(model.coef_, other.coef_, atol=1e-8)
    assert_array_equal(model.coef_ == 0, other.coef_ == 0)
    assert model.objective_ == pytest.approx(other.objective_, rel=1e-10)
    assert model.weights_.shape == Y.shape
    shuffled = np.random.default_rng(0).permutation(len(Y))
    other = fit(mode, X[shuffled], Y[shuffled], weight[shuffled])
    assert_allclose(model.coef_, other.coef_, atol=1e-8)


@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.csc_matrix])
@in_every_mode
def test_sparse_features_are_dense_ones(mode, kind):
    rng = np.random.default_rng(0)
    X, y = data(80, 8)
    X = np.where(rng.random(X.shape) < 0.4, X, 0.0)
    model, other = fit(mode, X, y), fit(mode, kind(X), y)
    assert_allclose(other.coef_, model.coef_, atol=1e-8)
    assert_array_equal(other.coef_ == 0, model.coef_ == 0)
    assert other.objective_ == pytest.approx(model.objective_, rel=1e-10)


@pytest.mark.parametrize("mode", [{"beta": 1.0}, {"scale": "concomitant"}])
def test_wide_sparse_features_are_dense_ones(mode):
    X, y = data(60, 300)
    X[np.random.default_rng(0).random(X.shape) < 0.7] = 0.0
    model = fit(mode, X, y, alpha=0.1)
    other = fit(mode, sparse.csr_array(X), y, alpha=0.1)
    assert 0 < np.count_nonzero(model.coef_) < 60
    assert_allclose(other.coef_, model.coef_, atol=1e-7)
    assert_array_equal(other.coef_ == 0, model.coef_ == 0)


@in_every_mode
def test_float32_features_give_nearly_the_same_coefficients(mode):
    X32 = X.astype(np.float32)
    model, other = fit(mode, X32), fit(mode, X32.astype(float))
    assert model.coef_.dtype == np.float32
    assert_allclose(model.coef_, other.coef_, rtol=1e-6)
    assert_array_equal(model.coef_ == 0, other.coef_ == 0)
    assert not np.signbit(model.coef_[model.coef_ == 0]).any()


@in_every_mode
def test_several_targets_are_single_fits(mode):
    targets = np.column_stack([Y, np.roll(Y, 3), 3.0 - Y])
    model = fit(mode, y=targets, weight=WEIGHT)
    assert model.coef_.shape == (3, 6)
    for k in range(3):
        single = fit(mode, y=targets[:, k], weight=WEIGHT)
        assert_array_equal(model.coef_[k], single.coef_)
        for name in ("intercept_", "beta_", "objective_", "optimality_", "n_iter_"):
            assert getattr(model, name)[k] == getattr(single, name)


@pytest.mark.parametrize("start", ["null", "solution", "far", "negative"])
@in_convex_modes
def test_a_warm_start_from_anywhere_ends_at_the_same_fit(mode, start):
    cold = fit(mode)
    model = SmoothL1Regressor(**{**LASSO, **mode}, warm_start=True)
    coef = {"null": np.zeros(6), "solution": cold.coef_, "far": np.full(6, 100.0)}
    model.coef_ = coef.get(start, -np.ones(6))
    model.intercept_ = cold.intercept_ if start == "solution" else -3.0
    model.fit(X, Y)
    assert_allclose(model.coef_, cold.coef_, atol=1e-8)
    assert_array_equal(model.coef_ == 0, cold.coef_ == 0)
    assert model.scale is not None or start != "solution" or model.n_iter_ <= 10


@pytest.mark.parametrize("schedule", ["geometric", [10.0, 3.0, 1.0]])
@in_convex_modes
def test_a_schedule_ends_at_the_same_fit(mode, schedule):
    model, other = fit(mode), fit(mode, beta_schedule=schedule)
    assert len(other.history_) > 1
    assert_allclose(other.coef_, model.coef_, atol=1e-7)
    assert_array_equal(other.coef_ == 0, model.coef_ == 0)


@pytest.mark.parametrize("solver", ["lbfgs", "newton"])
def test_the_solver_has_no_effect(solver):
    model, other = fit(MODES["huber"]), fit(MODES["huber"], solver=solver)
    assert_array_equal(other.coef_, model.coef_)


@in_every_mode
def test_the_number_of_threads_changes_no_bit(mode, monkeypatch):
    X, y = data(200, 10)
    model = fit(mode, X, y)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with threadpool_limits(1):
        one = fit(mode, X, y)
    assert_array_equal(one.coef_, model.coef_)
    assert one.objective_ == model.objective_


def test_parameters_are_kept_as_given():
    weights = [1, 2.0, np.inf]
    model = SmoothL1Regressor(l1_ratio=1, positive=True, penalty_weights=weights)
    assert model.get_params()["penalty_weights"] is weights
    assert clone(model).get_params()["penalty_weights"] == weights
    before = np.array([1.0, 2.0, np.inf])
    model.set_params(penalty_weights=before).fit(X[:, :3], Y)
    assert_array_equal(before, [1.0, 2.0, np.inf])


# Edge cases -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters",
    [{"l1_ratio": value} for value in (-0.1, 1.1, np.nan, "0.5", None)] + [{"positive": 2}],
)
def test_parameters_out_of_range_are_refused(parameters):
    with pytest.raises(ValueError, match=f"The '{next(iter(parameters))}' parameter"):
        SmoothL1Regressor(**parameters).fit(X, Y)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(3), "penalty_weights has 3 values, X has 6 features"),
        ([1, 1, -2.5, 1, 1, 1], r"penalty_weights\[2\].*-2\.5"),
        ([1, 1, 1, np.nan, 1, 1], r"penalty_weights\[3\].*nan"),
        ([1, 1, 1, -np.inf, 1, 1], r"penalty_weights\[3\].*-inf"),
        (np.ones((6, 1)), "penalty_weights"),
        (["a"] * 6, "penalty_weights"),
        (["1"] * 6, "penalty_weights"),
        (np.full(6, 1j), "penalty_weights"),
        (1.0, "penalty_weights"),
    ],
)
@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_wrong_penalty_weights_are_refused(weights, message, alpha):
    with pytest.raises((ValueError, TypeError), match=message):
        SmoothL1Regressor(alpha=alpha, l1_ratio=0.5, penalty_weights=weights).fit(X, Y)


@in_any_mode
def test_constant_columns_have_the_coefficient_zero(mode):
    if not mode.get("fit_intercept", True):
        pytest.skip("a constant column has an effect without an intercept")
    wider = np.column_stack([X[:, :2], np.full(len(Y), 7.3), X[:, 2:], np.zeros(len(Y))])
    model, other = fit(mode), fit(mode, wider)
    assert_array_equal(other.coef_[[2, 7]], 0.0)
    assert_allclose(np.delete(other.coef_, [2, 7]), model.coef_, atol=1e-8)


@in_convex_modes
def test_duplicated_columns_share_a_coefficient(mode):
    model, other = fit(mode), fit(mode, np.column_stack([X, X[:, 0]]))
    shared = other.coef_[0] + other.coef_[6]
    if mode.get("l1_ratio", 1.0) == 1.0:
        assert shared == pytest.approx(model.coef_[0], abs=1e-6)
        assert_allclose(other.coef_[1:6], model.coef_[1:], atol=1e-6)
        assert other.objective_ == pytest.approx(model.objective_, rel=1e-9)
    else:
        assert other.coef_[0] == pytest.approx(other.coef_[6], abs=1e-6)


@pytest.mark.parametrize("l1_ratio", [0.5, 1.0])
def test_unpenalised_features_that_are_dependent_have_the_minimum_norm(l1_ratio):
    wider, q = np.column_stack([X, X[:, 0]]), [0, 1, 1, 1, 1, 1, 0]
    mode = {"beta": 1.0, "alpha": 0.1, "l1_ratio": l1_ratio}
    model = fit(mode, penalty_weights=q[:6])
    other = fit(mode, wider, penalty_weights=q)
    assert_allclose(other.coef_[1:6], model.coef_[1:], atol=1e-6)
    assert_allclose(other.coef_[[0, 6]], model.coef_[0] / 2, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, -3.5, 1e8])
@in_any_mode
def test_a_constant_target_is_the_intercept(mode, value):
    if not mode.get("fit_intercept", True):
        value = 0.0
    model = fit(mode, y=np.full(len(Y), value))
    assert_array_equal(model.coef_, 0.0)
    assert model.intercept_ == value
    assert model.optimality_ == (0.0 if model.objective_ == 0 else pytest.approx(0, abs=1e-10))


@pytest.mark.parametrize("n", [1, 2, 3])
@in_any_mode
def test_few_rows_have_finite_fits(mode, n):
    model = unconverged(mode, X[:n], Y[:n])
    for name in ("coef_", "intercept_", "scale_", "beta_", "objective_", "optimality_"):
        assert np.isfinite(getattr(model, name)).all()
    if n == 1 and model.fit_intercept:
        assert_array_equal(model.coef_, 0.0)
        assert model.intercept_ == Y[0]


@pytest.mark.parametrize("shape", [(15, 40), (60, 12)])
def test_a_nonnegative_fit_that_is_not_unique_is_the_same_for_weights_and_repeats(shape):
    X, y = data(*shape)
    X = np.column_stack([X, X[:, :4] + X[:, 1:5]])
    weight = np.random.default_rng(0).integers(1, 4, size=len(y)).astype(float)
    rows = np.repeat(np.arange(len(y)), weight.astype(int))
    mode = MODES["nonnegative"]
    model, other = fit(mode, X, y, weight), fit(mode, X[rows], y[rows])
    assert_allclose(other.coef_, model.coef_, atol=1e-8)
    order = np.random.default_rng(1).permutation(len(y))
    other = fit(mode, X[order], y[order], weight[order])
    assert_allclose(other.coef_, model.coef_, atol=1e-8)
    assert violation(model, X, y, weight) < 1e-9


@pytest.mark.parametrize("alpha", [1e-3, 1e-6, 1e-12])
@pytest.mark.parametrize(
    "mode", [{}, {"loss": "huber"}, {"scale": "concomitant"}, {"beta": 1e-3}]
)
def test_an_exact_fit_of_wide_data_ends_with_at_most_one_warning(mode, alpha):
    X, y = data(20, 60)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = fit(mode, X, y, alpha=alpha, tol=1e-8)
    assert len(caught) <= 1
    assert all(w.category is ConvergenceWarning and "gap" in str(w.message) for w in caught)
    for name in ("coef_", "intercept_", "scale_", "objective_", "optimality_"):
        assert np.isfinite(getattr(model, name)).all()
    gap = f"duality gap is {model.optimality_:.2g} "
    assert gap in str(caught[0].message) if caught else model.optimality_ <= 1e-8


@pytest.mark.parametrize("shape", [(20, 60), (11, 10), (30, 80), (12, 12)])
@pytest.mark.parametrize("alpha", [1e-2, 1e-3, 1e-6])
@pytest.mark.parametrize("mode", [{}, {"loss": "huber"}, {"scale": "concomitant"}])
@pytest.mark.parametrize("positive", [False, True])
def test_a_fit_that_converges_at_the_rounding_floor_has_a_small_gap(
    mode, alpha, shape, positive
):
    X, y = data(*shape)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = fit(mode, X, y, alpha=alpha, positive=positive, tol=1e-8)
    assert len(caught) == (model.optimality_ > 1e-8)
    if alpha > 1e-6 or shape == (20, 60):
        # There is no warning, because the rounding errors of the residuals are small relative
        # to the penalty.
        assert not caught


@pytest.mark.parametrize("l1_ratio", [1.0, 0.5])
@pytest.mark.parametrize("alpha", [1e-11, 1e-15, 1e-300])
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("mode", [{"beta": 1.0}, {"loss": "huber"}, {"scale": "concomitant"}])
def test_a_penalty_below_rounding_has_no_effect(mode, positive, alpha, l1_ratio):
    parameters = {**mode, "positive": positive, "l1_ratio": l1_ratio}
    model, other = fit(parameters, alpha=alpha, tol=1e-8), fit(parameters, alpha=0.0)
    assert model.optimality_ <= 1e-8
    assert model.n_iter_ <= 200
    assert_allclose(model.coef_, other.coef_, atol=1e-7)
    assert model.objective_ == pytest.approx(other.objective_, rel=1e-8)


@pytest.mark.parametrize("scale", ["mad", "concomitant"])
@pytest.mark.parametrize("positive", [False, True])
def test_an_exact_fit_of_wide_data_has_the_least_sum_of_coefficients(scale, positive):
    """With a small penalty, the fit solves the basis-pursuit problem, a linear program."""
    X, y = data(20, 60)
    A = np.hstack([np.ones((20, 1)), -np.ones((20, 1)), X, *([] if positive else [-X])])
    costs = np.concatenate([[0.0, 0.0], np.ones(A.shape[1] - 2)])
    least = linprog(costs, A_eq=A, b_eq=y)
    model = fit({"scale": scale, "alpha": 1e-3, "positive": positive}, X, y, tol=1e-8)
    assert np.abs(y - model.predict(X)).max() < 1e-11
    assert np.abs(model.coef_).sum() == pytest.approx(least.fun, rel=1e-8)
    assert model.objective_ == pytest.approx(1e-3 * least.fun, rel=1e-8)
