"""Inference for MMRegressor compared with R, statsmodels and definitions."""

import inspect
import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.stats import norm
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skrobust import MMRegressor
from skrobust.displays import InfluenceDisplay
from skrobust.inference import coefficient_table, observation_table

DATA = Path(__file__).parent / "data"
# Covariances of lmrob (R 4.2.2, robustbase 0.95-0), computed by mm_inference.R: "avar1" is
# .vcov.avar1, and "w" is .vcov.w with Huber's correction and without weights in XᵀX.
REFERENCE = json.loads((DATA / "mm_inference.json").read_text())
SETS = json.loads((DATA / "mm.json").read_text())["sets"]
C_S, C_M = 1.547644980928226, 4.685064948543457
ROW_KINDS = ["HC0", "HC1", "HC2", "HC3"]
CLUSTER_KINDS = ["CR0", "CR1", "CR3"]
ALL_KINDS = ["H1", "H2", "H3", *ROW_KINDS, *CLUSTER_KINDS, "HAC"]


def data(n=80, p=3, seed=0, outliers=8):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) * [1.0, 10.0, 0.1][:p] + [0.0, 5.0, 1.0][:p]
    y = X @ [1.0, 0.2, -3.0][:p] + (1 + 0.5 * np.abs(X[:, 0])) * rng.standard_t(3, size=n)
    y[:outliers] += 20.0
    X[: outliers // 2, 0] += 8.0
    return X, y + rng.exponential(size=n)


def fit(X, y, weight=None, **parameters):
    return MMRegressor(tol=1e-12, **parameters).fit(X, y, sample_weight=weight)


def options(kind, n):
    return {"covariance": kind} | ({"groups": np.arange(n) % 13} if kind[:2] == "CR" else {})


def z(u, c):
    return np.minimum(np.abs(u) / c, 1.0)


def rho(u, c):
    return 1.0 - (1.0 - z(u, c) ** 2) ** 3


def psi(u, c):
    return u * (1.0 - z(u, c) ** 2) ** 2


def psi_deriv(u, c):
    return (1.0 - z(u, c) ** 2) * (1.0 - 5.0 * z(u, c) ** 2)


def design(X):
    return np.column_stack([np.ones(len(X)), X])


def coefs(model):
    theta = np.concatenate([[model.intercept_], model.coef_])
    return theta, np.concatenate([[model.s_intercept_], model.s_coef_])


def bread(model, X, y, s=1.0):
    Z, theta = design(X), coefs(model)[0]
    d = psi_deriv((y - Z @ theta) / model.scale_, C_M)
    return Z.T @ (Z * (s * d)[:, None])


# Results of other packages --------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:There are only 38 rows for 10 coefficients")
@pytest.mark.parametrize("name", [name for name in REFERENCE if name != "meta"])
def test_covariances_of_lmrob(name):
    expected, y = REFERENCE[name], np.asarray(SETS[name]["y"], float)
    X = np.asarray(SETS[name]["X"], float).reshape(y.size, -1)
    model = fit(X, y, scale="s")
    (n, p), sigma = design(X).shape, model.scale_
    Z, (theta, s_theta) = design(X), coefs(model)
    assert_allclose(theta, expected["coef"], rtol=1e-7)
    # The fourth term of .vcov.avar1 is mean(ρ²) − b². This is not the variance of ρ, since the
    # mean of ρ is b (1 − p/n).
    u, u_s = (y - Z @ theta) / sigma, (y - Z @ s_theta) / sigma
    slope = 6.0 * np.mean(psi(u_s, C_S) * u_s) / C_S**2
    a = np.linalg.solve(bread(model, X, y), Z.T @ (psi_deriv(u, C_M) * u)) * sigma / slope
    variance = 0.25 * (1.0 - (1.0 - p / n) ** 2) / n
    joint = coefficient_table(model, X, y, covariance="HC0").covariance
    H1 = coefficient_table(model, X, y, covariance="H1").covariance
    for V, R in ((joint - variance * np.outer(a, a), expected["avar1"]), (H1, expected["w"])):
        unit = np.sqrt(np.diagonal(R))
        assert_allclose(V / np.outer(unit, unit), R / np.outer(unit, unit), atol=1e-8)


@pytest.mark.skipif(
    "start_scale" not in inspect.signature(sm.RLM.fit).parameters,
    reason="RLM of statsmodels before 0.15 cannot start from a given scale",
)
@pytest.mark.parametrize("kind", ["H1", "H2", "H3"])
def test_huber_kinds_are_those_of_statsmodels(kind):
    X, y = data()
    model = fit(X, y)
    rlm = sm.RLM(y, design(X), M=sm.robust.norms.TukeyBiweight(C_M))
    theta = coefs(model)[0]
    result = rlm.fit(
        scale_est=lambda residual: model.scale_,
        update_scale=False,
        start_params=theta,
        start_scale=model.scale_,
        cov=kind,
        tol=1e-12,
    )
    assert_allclose(result.params, theta, rtol=1e-8)
    table = coefficient_table(model, X, y, covariance=kind, df="normal")
    assert_allclose(table.std_err, result.bse, rtol=1e-8)


# Definitions ----------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scale", ["s", "trimmed"])
def test_joint_covariance_solves_the_stacked_equations(scale, weighted):
    # The Jacobian J of the scores of θ_S, σ_S, the trimmed scale and θ is computed by finite
    # differences. The indicator in the score of the trimmed scale is smoothed with a normal
    # kernel.
    X, y = data(100)
    s = np.random.default_rng(1).uniform(0.5, 2.0, 100) if weighted else np.ones(100)
    model = fit(X, y, s if weighted else None, scale=scale)
    Z, (n, k) = design(X), design(X).shape
    theta, s_theta = coefs(model)
    total = max(s.sum(), n)
    K = 2.5 * np.sqrt(1 + k / (total * 0.28682611517712))
    kappa = np.sqrt(1 - 2 * K * norm.pdf(K) / (2 * norm.cdf(K) - 1))
    sigma = model.scale_
    width = 1.06 * sigma * n**-0.2
    inside = np.abs(y - Z @ s_theta) <= K * sigma
    jump = (K**2 - kappa**2) * sigma**2

    def smoothed(r, t):
        change = norm.cdf((K * t - r) / width) - norm.cdf((-K * t - r) / width)
        polynomial = inside * (r**2 - kappa**2 * t**2) + kappa**2 * t**2 * k / total
        return polynomial + jump * change

    def scores(x):
        s_coef, s_scale, t, coef = x[:k], x[k], x[k + 1], x[k + 2 :]
        r_s, r = y - Z @ s_coef, y - Z @ coef
        g = t - s_scale if scale == "s" else smoothed(r_s, t)
        columns = [
            psi(r_s / s_scale, C_S)[:, None] * Z,
            rho(r_s / s_scale, C_S) - 0.5 * (1 - k / total),
            np.broadcast_to(g, n),
            psi(r / t, C_M)[:, None] * Z,
        ]
        return s[:, None] * np.column_stack(columns)

    x = np.concatenate([s_theta, [model.s_scale_, sigma], theta])
    J = np.empty((x.size, x.size))
    for j in range(x.size):
        step = 1e-6 * max(1.0, abs(x[j])) * np.eye(x.size)[j]
        J[:, j] = (scores(x - step) - scores(x + step)).sum(axis=0) / (2 * step[j])
    U = scores(x)
    if scale == "trimmed":
        assert model.s_scale_ * C_S / C_M < model.scale_ < model.s_scale_
        change = norm.cdf((K * sigma - y + Z @ s_theta) / width)
        change -= norm.cdf((-K * sigma - y + Z @ s_theta) / width)
        U[:, k + 1] -= s * jump * change
    assert_allclose(U.sum(axis=0), 0, atol=1e-6)
    influence = np.linalg.solve(J, U.T)[k + 2 :]
    table = coefficient_table(model, X, y, sample_weight=s, covariance="HC0")
    assert table.scale == "joint"
    assert_allclose(table.covariance, influence @ influence.T, rtol=1e-5, atol=1e-9)
    fixed = coefficient_table(model, X, y, sample_weight=s, covariance="HC0", scale="fixed")
    assert np.abs(fixed.std_err[0] / table.std_err[0] - 1) > 1e-3


def test_the_trimmed_scale_at_its_bound_is_a_multiple_of_the_s_scale():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(60, 2))
    y = rng.normal(size=60)
    y[:25] += rng.exponential(size=25) * 50 + 30
    model = fit(X, y)
    factor = C_S / C_M
    assert model.scale_ == pytest.approx(factor * model.s_scale_, rel=1e-12)
    Z, (theta, s_theta) = design(X), coefs(model)
    u, u_s = (y - Z @ theta) / model.scale_, (y - Z @ s_theta) / model.s_scale_
    e = 6 / C_S**2 * np.sum(psi(u_s, C_S) * u_s) / model.s_scale_
    on_scale = factor * (rho(u_s, C_S) - 0.5 * (1 - 3 / 60)) / e
    a, A = Z.T @ (psi_deriv(u, C_M) * u), bread(model, X, y)
    h = psi_deriv(u, C_M) * np.einsum("ij,jk,ik->i", Z, np.linalg.inv(A), Z)
    for kind, factor in (("HC0", 1.0), ("HC3", 1 / (1 - h))):
        scores = Z.T * (factor * model.scale_ * psi(u, C_M)) - np.outer(a, on_scale)
        influence = np.linalg.solve(A, scores)
        table = coefficient_table(model, X, y, covariance=kind)
        assert_allclose(table.covariance, influence @ influence.T, rtol=1e-7)
        assert table.scale == "joint"


@pytest.mark.parametrize("weighted", [False, True])
def test_fixed_covariances_are_those_of_the_definitions(weighted):
    X, y = data()
    s = np.random.default_rng(1).uniform(0.5, 2.0, 80) if weighted else np.ones(80)
    model = fit(X, y, s if weighted else None)
    Z, A = design(X), bread(model, X, y, s)
    r = y - Z @ coefs(model)[0]
    c, d = model.scale_ * psi(r / model.scale_, C_M), psi_deriv(r / model.scale_, C_M)
    assert (d < -0.05).any()
    h = s * d * np.einsum("ij,jk,ik->i", Z, np.linalg.inv(A), Z)
    u = (s * c)[:, None] * Z
    code = np.arange(80) % 13
    clusters = np.array([u[code == g].sum(axis=0) for g in range(13)])
    corrected = []
    for g in range(13):
        part = Z[code == g]
        left = A - part.T @ (part * (s * d)[code == g][:, None])
        corrected.append(A @ np.linalg.solve(left, clusters[g]))
    middles = {
        "HC0": u,
        "HC1": u * np.sqrt(80 / 76),
        "HC2": u / np.sqrt(1 - h)[:, None],
        "HC3": u / (1 - h)[:, None],
        "CR0": clusters,
        "CR1": clusters * np.sqrt(13 / 12 * 79 / 76),
        "CR3": np.array(corrected) * np.sqrt(12 / 13),
    }
    for kind, scores in middles.items():
        influence = np.linalg.solve(A, scores.T)
        table = coefficient_table(
            model, X, y, sample_weight=s, scale="fixed", **options(kind, 80)
        )
        assert_allclose(table.covariance, influence @ influence.T, rtol=1e-8)
    middle = u.T @ u
    for lag in (1, 2):
        product = (1 - lag / 3) * u[lag:].T @ u[:-lag]
        middle += product + product.T
    table = coefficient_table(
        model, X, y, sample_weight=s, scale="fixed", covariance="HAC", lags=2
    )
    expected = 80 / 76 * np.linalg.solve(A, np.linalg.solve(A, middle).T)
    assert_allclose(table.covariance, expected, rtol=1e-8)


@pytest.mark.parametrize("scale", ["joint", "fixed"])
def test_singleton_clusters_are_rows(scale):
    X, y = data()
    model = fit(X, y)
    clusters = coefficient_table(model, X, y, groups=np.arange(80), scale=scale)
    rows = coefficient_table(model, X, y, scale=scale)
    assert_allclose(clusters.covariance, rows.covariance * 79 / 80, rtol=1e-8)


@pytest.mark.parametrize("kind", ALL_KINDS[:-1])
@pytest.mark.parametrize("scale", ["s", "trimmed"])
def test_frequencies_are_repeated_rows(kind, scale):
    X, y = data()
    times = np.random.default_rng(0).integers(0, 4, 80)
    repeated = np.repeat(np.arange(80), times)
    weighted, model = fit(X, y, times, scale=scale), fit(X[repeated], y[repeated], scale=scale)
    keywords = options(kind, 80)
    table = coefficient_table(
        weighted, X, y, sample_weight=times, weights="frequency", **keywords
    )
    if "groups" in keywords:
        keywords["groups"] = keywords["groups"][repeated]
    expected = coefficient_table(model, X[repeated], y[repeated], **keywords)
    assert table.n_samples == repeated.size
    assert_allclose(table.std_err, expected.std_err, rtol=1e-7)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_values_of_rows_are_those_of_the_formulas(weighted):
    X, y = data()
    s = np.random.default_rng(1).integers(0, 3, 80).astype(float) if weighted else np.ones(80)
    model = fit(X, y, s if weighted else None)
    table = observation_table(model, X, y, sample_weight=s)
    Z, A = design(X), bread(model, X, y, s)
    r = y - Z @ coefs(model)[0]
    c, d = model.scale_ * psi(r / model.scale_, C_M), psi_deriv(r / model.scale_, C_M)
    q = s * np.einsum("ij,jk,ik->i", Z, np.linalg.inv(A), Z)
    n = np.count_nonzero(s)
    factor = (s @ d) / s.sum() / 4 / ((s @ c**2) / (n - 4)) / s.max()
    assert_allclose(table.fitted, model.predict(X))
    assert_allclose(table.standardized_residual, r / model.scale_, rtol=1e-8)
    assert_allclose(table.weight, model.weights_, rtol=1e-8, atol=1e-12)
    assert_array_equal(table.outlier, model.outliers_)
    assert_allclose(table.leverage, d * q, rtol=1e-7, atol=1e-12)
    left_out = r + c * q / (1 - d * q)
    assert_allclose(table.leave_one_out_residual, left_out, rtol=1e-7, atol=1e-9)
    cook = factor * s.max() * s * c**2 * q / (1 - d * q) ** 2
    assert_allclose(table.cooks_distance, cook, rtol=1e-7, atol=1e-12)
    assert (table.leverage < -0.01).any()


def test_the_leave_one_out_residual_is_that_of_a_fit_without_the_row():
    X, y = data(200, seed=3)
    model = fit(X, y, scale="s")
    left_out = observation_table(model, X, y).leave_one_out_residual
    exact = np.empty(20)
    for i in range(20):
        kept = np.arange(200) != i
        exact[i] = y[i] - fit(X[kept], y[kept], scale="s").predict(X[[i]])[0]
    residual = (y - model.predict(X))[:20]
    assert np.abs(left_out[:20] - exact).max() < 0.2 * np.abs(residual - exact).max()


# Data and units -------------------------------------------------------------------------


def test_the_table_does_not_depend_on_units_and_far_leverage_points():
    X, y = data()
    model = fit(X, y)
    table = coefficient_table(model, X, y)
    unit = np.array([1e9, 1e-9, 3.0])
    scaled = coefficient_table(fit(X * unit, y * 1e12), X * unit, y * 1e12)
    expected = 1e12 * table.std_err / np.concatenate([[1.0], unit])
    assert_allclose(scaled.std_err, expected, rtol=1e-7)
    assert (model.weights_[:4] == 0).all()
    far = X.copy()
    far[:4, 0] = 1e15
    y_far = np.where(np.arange(80) < 4, -1e15, y)
    other = fit(far, y_far)
    assert_allclose(other.coef_, model.coef_, rtol=1e-7)
    for kind in ("HC0", "HC3", "CR3"):
        near, away = (
            coefficient_table(m, x, target, **options(kind, 80))
            for m, x, target in ((model, X, y), (other, far, y_far))
        )
        assert_allclose(away.std_err, near.std_err, rtol=1e-6)
    assert_allclose(away.feature_scale, near.feature_scale, rtol=1e-6)
    y_far[20] += 0.1
    with pytest.raises(ValueError, match="not those of the fit: the gradient"):
        coefficient_table(other, far, y_far)


def test_dependent_columns_change_nothing_else():
    X, y = data()
    more = np.column_stack([X, 2 * X[:, 0] - X[:, 1], np.full(80, 7.0)])
    table = coefficient_table(fit(X, y), X, y)
    other = coefficient_table(fit(more, y), more, y)
    assert np.isnan(other.std_err[[1, 2, 4, 5]]).all()
    assert_allclose(other.std_err[[0, 3]], table.std_err[[0, 3]], rtol=1e-7)
    assert other.rank == 4


def test_wrappers_frames_sparse_and_float32():
    X, y = data()
    table = coefficient_table(fit(X, y), X, y)
    frame = pd.DataFrame(X, columns=list("abc"))
    assert coefficient_table(fit(frame, y), frame, y).names == ["intercept", "a", "b", "c"]
    for matrix in (sparse.csr_array(X), X.astype(np.float32), np.asfortranarray(X)):
        other = coefficient_table(fit(matrix, y), matrix, y)
        assert_allclose(other.std_err, table.std_err, rtol=1e-4)
    pipeline = make_pipeline(StandardScaler(), MMRegressor()).fit(X, y)
    assert_allclose(
        coefficient_table(pipeline, X, y).statistic[1:], table.statistic[1:], rtol=1e-6
    )
    target = TransformedTargetRegressor(
        MMRegressor(), func=np.negative, inverse_func=np.negative
    )
    assert_allclose(coefficient_table(target.fit(X, y), X, y).std_err, table.std_err, rtol=1e-6)


def test_a_table_keeps_no_rows_and_can_be_pickled():
    X, y = data(2000)
    model = fit(X, y)
    table = coefficient_table(model, X, y)
    copy = pickle.loads(pickle.dumps(table))
    assert str(copy) == str(table)
    assert_allclose(copy.predict(X[:3])[:, 0], model.predict(X[:3]))
    lower, upper = table.predict_interval(X)[:, 1:].T
    assert 0.93 < np.mean((lower < y) & (y < upper)) < 0.97
    assert table.wald_test(["x0", "x1", "x2"]).p_value < 1e-10
    # Of the table's arrays, only that of the leave-one-out residuals has one entry per row.
    assert len(pickle.dumps(table)) < 1.5 * 8 * 2000
    observations = observation_table(model, X, y)
    assert str(pickle.loads(pickle.dumps(observations))) == str(observations)


@pytest.mark.parametrize("scale", ["s", "trimmed"])
def test_text(scale):
    X, y = data()
    text = str(coefficient_table(fit(X, y, scale=scale), X, y))
    assert text.startswith("MM fit, 95 % efficiency: n = 80, p = 4, ")
    assert "% of the rows beyond 2.576 scales = " in text
    name = "S-scale" if scale == "s" else "trimmed scale"
    assert f"HC3: independent rows, any variances; joint with the {name}; t with" in text
    fixed = coefficient_table(fit(X, y, scale=scale), X, y, scale="fixed")
    assert f"{name} taken as fixed" in fixed.footer


# Errors ---------------------------------------------------------------------------------


def test_other_data_are_refused():
    X, y = data()
    weight = np.random.default_rng(0).uniform(0.5, 2.0, 80)
    model = fit(X, y)
    with pytest.raises(ValueError, match="not those of the fit: the gradient"):
        coefficient_table(model, X, y, sample_weight=weight)
    changed = y.copy()
    changed[20] += 0.1
    with pytest.raises(ValueError, match="not those of the fit: the gradient"):
        observation_table(model, X, changed)
    with pytest.raises(ValueError, match="it has 80 rows, got 79"):
        coefficient_table(model, X[1:], y[1:])


def test_a_fit_that_stopped_early_warns():
    X, y = data()
    with pytest.warns(ConvergenceWarning, match="MMRegressor did not converge"):
        model = MMRegressor(max_iter=1, n_subsamples=0).fit(X, y)
    with pytest.warns(ConvergenceWarning, match="stopped early"):
        coefficient_table(model, X, y)
    y[20] += 0.1
    with pytest.raises(ValueError, match="not those of the fit: the gradient"):
        coefficient_table(model, X, y)


@pytest.mark.parametrize("table", [coefficient_table, observation_table])
def test_an_exact_fit_has_no_standard_errors(table):
    X, _ = data()
    y = X @ [1.0, 2.0, 3.0]
    y[:10] += 5.0
    with pytest.warns(UserWarning, match="exact for a majority"):
        model = MMRegressor().fit(X, y)
    with pytest.raises(ValueError, match="scale_ is 0"):
        table(model, X, y)


def test_the_bootstrap_is_refused():
    X, y = data()
    with pytest.raises(ValueError, match="'bootstrap' is not available for MMRegressor"):
        coefficient_table(fit(X, y), X, y, covariance="bootstrap")


@pytest.mark.parametrize("size", [3.0, 30.0])
def test_a_bread_that_is_not_positive_definite_is_an_error(size):
    # The added feature is 1 in two rows, whose residuals are ±size times the scale, and 0
    # elsewhere. If its coefficient is 0, the gradient with respect to this coefficient is
    # zero and the curvature is negative or zero.
    X, y = data(outliers=0)
    model = fit(X, y)
    pair = np.zeros(82)
    pair[80:] = 1.0
    fitted = model.predict(X[:2])
    X = np.column_stack([np.vstack([X, X[:1], X[:1]]), pair])
    y = np.concatenate([y, fitted[0] + size * model.scale_ * np.array([1.0, -1.0])])
    model.coef_ = np.append(model.coef_, 0.0)
    model.s_coef_ = np.append(model.s_coef_, 0.0)
    model.n_features_in_ = 4
    r = (y - X @ model.coef_ - model.intercept_) / model.scale_
    model.weights_ = (1 - z(r, C_M) ** 2) ** 2
    with pytest.raises(ValueError, match=r"not positive definite in directions of .*'x3'"):
        coefficient_table(model, X, y)


def test_the_influence_display_is_refused():
    X, y = data()
    model = fit(X, y)
    with pytest.raises(ValueError, match="not for the bisquare of an MMRegressor"):
        InfluenceDisplay.from_estimator(model, X, y)
    with pytest.raises(ValueError, match="not for the bisquare of an MMRegressor"):
        InfluenceDisplay.from_table(observation_table(model, X, y))


# Coverage -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("errors", ["normal", "t3 with outliers"])
def test_intervals_cover_the_coefficients(errors):
    # The estimated coverage for 4 slopes in 400 replications has a standard error of about
    # 0.6 %.
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        X = rng.normal(size=(100, 4))
        y = rng.normal(size=100)
        if errors != "normal":
            y = rng.standard_t(3, size=100)
            y[:10] = 10.0
        model = MMRegressor(n_subsamples=100).fit(X, y)
        interval = coefficient_table(model, X, y).conf_int()[1:]
        covered.append((interval[:, 0] < 0) & (interval[:, 1] > 0))
    assert 0.93 <= np.mean(covered) <= 0.97
