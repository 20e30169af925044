"""`coefficient_table` compared with R, statsmodels, definitions and simulations; edge cases."""

import json
import pickle
import re
import warnings
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import sparse, stats
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skrobust import SmoothL1Regressor, SmoothL1RegressorCV
from skrobust._covariance import Clusters, covariance, scale_scores
from skrobust._engines import as_engine
from skrobust._engines.threads import ThreadTeam
from skrobust._linearised import FittedLoss, LinearisedFit
from skrobust._model.scale import Concomitant
from skrobust.inference import coefficient_table, observation_table

REFERENCE = json.loads((Path(__file__).parent / "data" / "inference.json").read_text())
LEAST_SQUARES = 1e7
ROW_KINDS = ["HC0", "HC1", "HC2", "HC3"]
CLUSTER_KINDS = ["CR0", "CR1", "CR3"]
ALL_KINDS = ["H1", "H2", "H3", *ROW_KINDS, *CLUSTER_KINDS, "HAC"]
SCALES = [{}, {"scale": "concomitant"}, {"beta": 1.0}]


def data(n=80, p=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) * [1.0, 10.0, 0.1][:p] + [0.0, 5.0, 1.0][:p]
    y = X @ [1.0, 0.2, -3.0][:p] + (1 + 0.5 * np.abs(X[:, 0])) * rng.standard_t(3, size=n)
    return X, y


def options(kind, n):
    return {"covariance": kind} | ({"groups": np.arange(n) % 13} if kind[:2] == "CR" else {})


def reference(name):
    d = REFERENCE["data"][name]
    y = np.asarray(d["y"], float)
    return d, np.asarray(d["X"], float).reshape(y.size, -1), y


def at(X, y, coef, beta, weight=None, frequency=False, scale=1.0, estimator=None):
    """Return a fit linearised at the given coefficients."""
    loss = FittedLoss(beta, scale, estimator, 0.0, False)
    engine = as_engine(np.ascontiguousarray(X), ThreadTeam())
    return LinearisedFit(engine, y, weight, frequency, loss, np.asarray(coef, float), True)


def std_err(fit, kind, groups=None, lags=None):
    clusters = None
    if groups is not None:
        labels, code = np.unique(groups, return_inverse=True)
        clusters = Clusters(code, labels.size)
    V = covariance(fit, kind, False, clusters, lags).V
    return np.sqrt(np.diagonal(fit.to_data @ V @ fit.to_data.T))


def errors_of(expected):
    expected = np.asarray(expected)
    return np.sqrt(np.diagonal(expected)) if expected.ndim == 2 else expected


# Results of other packages --------------------------------------------------------------


@pytest.mark.parametrize("name", REFERENCE["data"])
@pytest.mark.parametrize("kind", ["H1", *ROW_KINDS, "HAC"])
def test_least_squares_as_in_sandwich(name, kind):
    d, X, y = reference(name)
    model = SmoothL1Regressor(LEAST_SQUARES).fit(X, y)
    lags = {"lags": 2} if kind == "HAC" else {}
    table = coefficient_table(model, X, y, covariance=kind, **lags)
    names = {"H1": "vcov", "HAC": "HAC2"}
    assert_allclose(table.coef, d["lm"]["coef"], rtol=1e-8)
    assert_allclose(table.std_err, errors_of(d["lm"][names.get(kind, kind)]), rtol=1e-8)
    assert table.kind == kind


@pytest.mark.parametrize("name", ["stackloss", "warpbreaks"])
@pytest.mark.parametrize("kind", CLUSTER_KINDS)
def test_clusters_as_in_vcovcl(name, kind):
    d, X, y = reference(name)
    model = SmoothL1Regressor(LEAST_SQUARES).fit(X, y)
    table = coefficient_table(model, X, y, covariance=kind, groups=d["groups"])
    assert_allclose(table.std_err, errors_of(d["clusters"]["lm"][kind]), rtol=1e-8)
    assert table.n_groups == len(set(d["groups"]))
    assert table.df == table.n_groups - 1
    if kind != "CR3":
        rlm = at(X, y, d["rlm"]["coef"], 1.345 * d["rlm"]["s"])
        expected = errors_of(d["clusters"]["rlm"][kind])
        assert_allclose(std_err(rlm, kind, d["groups"]), expected, rtol=1e-10)


@pytest.mark.parametrize("name", REFERENCE["data"])
def test_rlm_as_in_sandwich(name):
    d, X, y = reference(name)
    rlm = at(X, y, d["rlm"]["coef"], 1.345 * d["rlm"]["s"])
    assert_allclose(std_err(rlm, "HC0"), errors_of(d["rlm"]["sandwich"]), rtol=1e-10)
    model = SmoothL1Regressor(tol=1e-12).fit(X, y)
    table = coefficient_table(model, X, y, covariance="HC0", scale="fixed")
    assert_allclose(table.std_err, errors_of(d["rlm"]["sandwich"]), rtol=1e-3)


@pytest.mark.parametrize("name", REFERENCE["data"])
@pytest.mark.parametrize("kind", ["H1", "H2", "H3"])
def test_statsmodels(name, kind):
    d, X, y = reference(name)
    expected = d["statsmodels"][kind]
    model = SmoothL1Regressor(tol=1e-12).fit(X, y)
    table = coefficient_table(model, X, y, covariance=kind, df="normal")
    assert_allclose(table.coef, d["statsmodels"]["params"], rtol=1e-7)
    assert_allclose(table.std_err, expected["bse"], rtol=1e-8)
    assert_allclose(table.covariance, expected["cov"], rtol=1e-7, atol=1e-12)
    assert_allclose(table.p_value, expected["pvalues"], rtol=1e-6)
    assert_allclose(table.conf_int(), expected["conf_int"], rtol=1e-7)
    assert (table.kind, table.scale, table.df) == (kind, "fixed", np.inf)


@pytest.mark.parametrize("kind", ROW_KINDS)
def test_importance_weights_as_in_weighted_lm(kind):
    _, X, y = reference("stackloss")
    d = REFERENCE["weighted_lm_stackloss"]
    model = SmoothL1Regressor(LEAST_SQUARES).fit(X, y, sample_weight=d["weights"])
    table = coefficient_table(model, X, y, sample_weight=d["weights"], covariance=kind)
    assert_allclose(table.std_err, errors_of(d[kind]), rtol=1e-8)


def test_frequencies_as_in_rlm_of_repeated_rows():
    _, X, y = reference("stackloss")
    d = REFERENCE["repeated_rows_stackloss"]
    fit = at(X, y, d["coef"], 1.345 * d["s"], np.asarray(d["repeats"], float), True)
    assert_allclose(std_err(fit, "HC0"), errors_of(d["sandwich"]), rtol=1e-10)


# Definitions ----------------------------------------------------------------------------


def test_hc3_of_least_squares_is_the_jackknife():
    X, y = data(40)
    table = coefficient_table(SmoothL1Regressor(LEAST_SQUARES).fit(X, y), X, y)
    left_out = []
    for i in range(40):
        kept = np.arange(40) != i
        model = LinearRegression().fit(X[kept], y[kept])
        left_out.append([model.intercept_, *model.coef_])
    difference = np.array(left_out) - table.coef
    assert_allclose(table.covariance, difference.T @ difference, rtol=1e-7)


@pytest.mark.parametrize("parameters", SCALES)
@pytest.mark.parametrize("scale", ["joint", "fixed"])
def test_singleton_clusters_are_rows(parameters, scale):
    X, y = data()
    model = SmoothL1Regressor(**parameters).fit(X, y)
    clusters = coefficient_table(
        model, X, y, groups=[f"row {i}" for i in range(80)], scale=scale
    )
    rows = coefficient_table(model, X, y, scale=scale)
    assert_allclose(clusters.covariance, rows.covariance * 79 / 80, rtol=1e-8)


@pytest.mark.parametrize("kind", ALL_KINDS[:-1])
@pytest.mark.parametrize("parameters", SCALES)
def test_frequencies_are_repeated_rows(kind, parameters):
    X, y = data()
    times = np.random.default_rng(0).integers(0, 4, 80)
    repeated = np.repeat(np.arange(80), times)
    weighted = SmoothL1Regressor(**parameters, tol=1e-11).fit(X, y, sample_weight=times)
    model = SmoothL1Regressor(**parameters, tol=1e-11).fit(X[repeated], y[repeated])
    keywords = options(kind, 80)
    table = coefficient_table(
        weighted, X, y, sample_weight=times, weights="frequency", **keywords
    )
    if "groups" in keywords:
        keywords["groups"] = keywords["groups"][repeated]
    expected = coefficient_table(model, X[repeated], y[repeated], **keywords)
    assert table.n_samples == repeated.size
    assert_allclose(table.std_err, expected.std_err, rtol=1e-6)
    assert_allclose(table.p_value, expected.p_value, rtol=1e-4)
    if kind in ("HC2", "HC3", "CR3"):
        for symmetric, level in product((True, False), (0.3, 0.5, 0.8, 0.95)):
            intervals = table.predict_interval(X[:4], level, symmetric=symmetric)
            others = expected.predict_interval(X[:4], level, symmetric=symmetric)
            assert_allclose(intervals, others, rtol=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in ALL_KINDS if kind != "H2"])
def test_a_common_factor_of_importance_weights_changes_nothing(kind):
    X, y = data()
    weight = np.random.default_rng(1).uniform(0.2, 2, 80)
    model = SmoothL1Regressor().fit(X, y, sample_weight=weight)
    tables = [
        coefficient_table(model, X, y, sample_weight=w, **options(kind, 80))
        for w in (weight, 1e3 * weight)
    ]
    assert_allclose(tables[0].covariance, tables[1].covariance, rtol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_joint_covariance_solves_the_stacked_equations(weighted):
    # The Jacobian J of the scores for the coefficients and the concomitant scale is computed by
    # finite differences.
    X, y = data(60)
    y = y + np.random.default_rng(2).exponential(size=60)
    s = np.random.default_rng(3).uniform(0.5, 2, 60) if weighted else np.ones(60)
    model = SmoothL1Regressor(1.5, scale="concomitant", tol=1e-12).fit(X, y, sample_weight=s)
    Z = np.column_stack([np.ones(60), X])
    parameters = np.array([model.intercept_, *model.coef_, model.scale_])

    def scores(parameters):
        sigma = parameters[-1]
        c = np.clip(y - Z @ parameters[:-1], -1.5 * sigma, 1.5 * sigma)
        return np.column_stack([s[:, None] * c[:, None] * Z, s * (c**2 - sigma**2)])

    J = np.empty((5, 5))
    for j in range(5):
        step = 1e-6 * np.eye(5)[j]
        change = scores(parameters + step) - scores(parameters - step)
        J[:, j] = -change.sum(axis=0) / 2e-6
    influence = np.linalg.solve(J, scores(parameters).T)[:4]
    table = coefficient_table(model, X, y, sample_weight=s, covariance="HC0")
    assert table.scale == "joint"
    assert_allclose(table.covariance, influence @ influence.T, rtol=1e-5)


def test_the_scores_of_the_scale_vanish_at_the_fit():
    X, y = data()
    for parameters in SCALES[:2]:
        model = SmoothL1Regressor(**parameters, tol=1e-12).fit(X, y)
        loss = FittedLoss.of(model, 0)
        coef = np.array([model.intercept_, *model.coef_])
        fit = LinearisedFit(as_engine(X, ThreadTeam()), y, None, False, loss, coef, True)
        total = abs(float(scale_scores(fit).g.sum()))
        # With the MAD, the numbers of rows above and below the median differ by at most one.
        allowed = 1e-6 * fit.scale**2 * 80 if isinstance(loss.estimator, Concomitant) else 0.5
        assert total <= allowed


def test_joint_is_fixed_where_no_row_is_outside():
    X, y = data()
    y = X @ [1.0, 0.2, -3.0] + np.random.default_rng(0).uniform(-1, 1, 80)
    model = SmoothL1Regressor(3.0, scale="mad").fit(X, y)
    assert not model.outliers_.any()
    joint, fixed = (
        coefficient_table(model, X, y, scale=scale).covariance for scale in ("joint", "fixed")
    )
    assert_allclose(joint, fixed, rtol=1e-12)


def test_the_joint_intercept_is_wider_where_errors_are_skewed():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 2))
    y = X.sum(axis=1) + rng.lognormal(size=400)
    model = SmoothL1Regressor().fit(X, y)
    joint = coefficient_table(model, X, y)
    fixed = coefficient_table(model, X, y, scale="fixed")
    assert joint.std_err[0] > 1.1 * fixed.std_err[0]
    assert_allclose(joint.std_err[1:], fixed.std_err[1:], rtol=0.02)


@pytest.mark.slow
def test_a_small_threshold_has_the_asymptotic_variance_of_the_median():
    rng = np.random.default_rng(0)
    y = rng.normal(size=40_000)
    X = rng.normal(size=(40_000, 1))
    table = coefficient_table(SmoothL1Regressor(1e-6).fit(X, y), X, y, covariance="HC0")
    # The window of the density estimate contains 2,300 rows, so its standard error is 2 %.
    assert_allclose(table.std_err, np.sqrt(np.pi / 2 / 40_000), rtol=0.06)


def test_bell_mccaffrey_of_two_groups():
    n1, n2 = 7, 12
    X = np.repeat([[0.0], [1.0]], [n1, n2], axis=0)
    y = np.random.default_rng(0).normal(size=n1 + n2)
    model = SmoothL1Regressor(LEAST_SQUARES).fit(X, y)
    table = coefficient_table(model, X, y, covariance="HC2", df="bell-mccaffrey")
    expected = (1 / n1 + 1 / n2) ** 2 / (1 / (n1**2 * (n1 - 1)) + 1 / (n2**2 * (n2 - 1)))
    assert_allclose(table.df[1], expected, rtol=1e-9)
    with pytest.raises(ValueError, match="one coefficient"):
        table.wald_test(["intercept", "x0"])
    assert table.wald_test(["x0"]).df_denom == table.df[1]


def test_prediction_intervals_are_those_of_left_out_rows():
    X, y = data(40)
    table = coefficient_table(SmoothL1Regressor(LEAST_SQUARES).fit(X, y), X, y)
    residual = []
    for i in range(40):
        kept = np.arange(40) != i
        fitted = LinearRegression().fit(X[kept], y[kept]).predict(X[[i]])
        residual.append(y[i] - fitted[0])
    fit, lower, upper = table.predict_interval(X[:1], 0.9)[0]
    k = int(np.ceil(41 * 0.9))
    assert_allclose([fit - lower, upper - fit], np.sort(np.abs(residual))[k - 1], rtol=1e-7)
    fit, lower, upper = table.predict_interval(X[:1], 0.9, symmetric=False)[0]
    k = int(np.floor(41 * 0.05))
    ordered = np.sort(residual)
    assert_allclose([lower - fit, upper - fit], [ordered[k - 1], ordered[-k]], rtol=1e-7)


def test_cluster_intervals_leave_out_whole_clusters():
    X, y = data(40)
    groups = np.arange(40) // 4
    model = SmoothL1Regressor(LEAST_SQUARES).fit(X, y)
    table = coefficient_table(model, X, y, groups=groups)
    residual = np.empty(40)
    for g in range(10):
        out = groups == g
        residual[out] = y[out] - LinearRegression().fit(X[~out], y[~out]).predict(X[out])
    assert_allclose(table._left_out.residual, np.sort(residual), rtol=1e-7)


@pytest.mark.parametrize("level", [0.2, 0.5, 0.8, 0.9])
def test_prediction_intervals_of_importance_weights_are_weighted_quantiles(level):
    X, y = data(40)
    weight = np.random.default_rng(0).uniform(0.2, 3, size=40)
    model = SmoothL1Regressor().fit(X, y, sample_weight=weight)
    table = coefficient_table(model, X, y, sample_weight=weight)
    residual = observation_table(model, X, y, sample_weight=weight).leave_one_out_residual

    def smallest(values, share):
        enough = share * weight.sum() * 41 / 40
        return min(value for value in values if weight[values <= value].sum() >= enough)

    fit, lower, upper = table.predict_interval(X[:1], level)[0]
    expected = smallest(np.abs(residual), level)
    assert_allclose([fit - lower, upper - fit], expected, rtol=1e-8)
    fit, lower, upper = table.predict_interval(X[:1], level, symmetric=False)[0]
    share = (1 + level) / 2
    expected = [smallest(-residual, share), smallest(residual, share)]
    assert_allclose([fit - lower, upper - fit], expected, rtol=1e-8)


def test_wald_test_of_one_coefficient_is_its_t_test_squared():
    X, y = data()
    table = coefficient_table(SmoothL1Regressor().fit(X, y), X, y)
    test = table.wald_test(["x1"])
    assert_allclose(test.statistic, table.statistic[2] ** 2, rtol=1e-9)
    assert_allclose(test.p_value, table.p_value[2], rtol=1e-8)
    R, v = np.array([[0, 1.0, 2, 0], [0, 0, 1, -1]]), np.array([0.5, 3.0])
    d = R @ table.coef - v
    F = d @ np.linalg.solve(R @ table.covariance @ R.T, d) / 2
    test = table.wald_test(R=R, values=v)
    assert_allclose(test.statistic, F, rtol=1e-8)
    assert_allclose(test.p_value, stats.f.sf(F, 2, table.df), rtol=1e-8)
    normal = coefficient_table(SmoothL1Regressor().fit(X, y), X, y, df="normal")
    test = normal.wald_test(R=R, values=v)
    assert_allclose(test.p_value, stats.chi2.sf(2 * F, 2), rtol=1e-8)
    assert test.df_denom == np.inf


def test_predict_is_the_fit_with_the_interval_of_its_mean():
    X, y = data()
    model = SmoothL1Regressor().fit(X, y)
    table = coefficient_table(model, X, y)
    prediction = table.predict(X[:7], level=0.8)
    assert_allclose(prediction[:, 0], model.predict(X[:7]))
    Z = np.column_stack([np.ones(7), X[:7]])
    error = np.sqrt(np.einsum("ij,jk,ik->i", Z, table.covariance, Z))
    reach = stats.t.ppf(0.9, table.df) * error
    assert_allclose(prediction[:, 2] - prediction[:, 0], reach, rtol=1e-8)
    assert_allclose(prediction[:, 0] - prediction[:, 1], reach, rtol=1e-8)


def test_p_values_of_large_statistics_are_not_zero():
    X, y = data()
    table = coefficient_table(SmoothL1Regressor().fit(X, y), X, y, df="normal")
    assert 0 < stats.norm.sf(30) < 1e-190
    far = coefficient_table(SmoothL1Regressor().fit(X, y + 20 * X[:, 1]), X, y + 20 * X[:, 1])
    assert 0 < far.p_value[2] < 1e-60
    assert (table.p_value >= 0).all()


# Equivariance ---------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(
    kind=st.sampled_from(ALL_KINDS),
    parameters=st.sampled_from(SCALES[:2]),
    exponents=st.tuples(*[st.integers(-9, 9)] * 3),
    y_unit=st.sampled_from([1e-6, 1e-2, 1e4, 1e9]),
    seed=st.integers(0, 100),
)
def test_units(kind, parameters, exponents, y_unit, seed):
    X, y = data(seed=seed)
    D = 10.0 ** np.array(exponents)
    tables = []
    for features, target in ((X, y), (X * D, y * y_unit)):
        model = SmoothL1Regressor(**parameters, tol=1e-11).fit(features, target)
        tables.append(coefficient_table(model, features, target, **options(kind, 80)))
    unit = y_unit / np.concatenate([[1.0], D])
    assert_allclose(tables[1].std_err, tables[0].std_err * unit, rtol=1e-6)


@st.composite
def fits(draw):
    """Return a function that computes the coefficient table of a drawn model, and X, y."""
    n = draw(st.integers(60, 63))
    X, y = data(n, seed=draw(st.integers(0, 1000)))
    kind, parameters = draw(st.sampled_from(ALL_KINDS)), draw(st.sampled_from(SCALES))
    keywords = options(kind, n) | {"scale": draw(st.sampled_from(["joint", "fixed"]))}
    # The covariance H2 is not available with unequal importance weights.
    weight = None
    if kind != "H2" and draw(st.booleans()):
        weight = np.random.default_rng(n).uniform(0.2, 2, n)

    def table_of(X, y, rows=slice(None)):
        s = None if weight is None else weight[rows]
        if "groups" in keywords:
            keywords["groups"] = (np.arange(n) % 13)[rows]
        model = SmoothL1Regressor(**parameters, tol=1e-11).fit(X, y, sample_weight=s)
        return coefficient_table(model, X, y, sample_weight=s, **keywords)

    return table_of, X, y


vectors = st.lists(st.floats(-10, 10), min_size=4, max_size=4).map(np.array)


def assert_same_table(table, coef, covariance):
    """Assert that coefficients and covariances agree, in units of the standard errors."""
    std_err = np.sqrt(np.diagonal(covariance))
    assert_allclose((table.coef - coef) / std_err, 0, atol=1e-6)
    assert_allclose((table.covariance - covariance) / np.outer(std_err, std_err), 0, atol=1e-6)


@given(fits(), vectors)
def test_a_linear_function_added_to_y_is_added_to_the_coefficients(fit, g):
    table_of, X, y = fit
    table = table_of(X, y)
    moved = table_of(X, y + g[0] + X @ g[1:])
    assert_same_table(moved, table.coef + g, table.covariance)


@given(fits(), st.integers(0, 1000), st.floats(0, 3))
def test_coefficients_of_combined_features(fit, seed, log_condition):
    table_of, X, y = fit
    rng = np.random.default_rng(seed)
    U, V = (np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in range(2))
    A = (U * 10.0 ** np.array([0, log_condition / 2, log_condition])) @ V
    B = np.eye(4)
    B[1:, 1:] = np.linalg.inv(A)
    table = table_of(X, y)
    assert_same_table(table_of(X @ A, y), B @ table.coef, B @ table.covariance @ B.T)


@given(fits(), st.integers(0, 1000))
def test_fits_of_rows_in_another_order(fit, seed):
    table_of, X, y = fit
    table = table_of(X, y)
    assume(table.kind != "HAC")
    rows = np.random.default_rng(seed).permutation(len(y))
    assert_same_table(table_of(X[rows], y[rows], rows), table.coef, table.covariance)


@given(
    st.sampled_from(ALL_KINDS[:-1]),
    st.sampled_from(SCALES),
    st.sampled_from(["joint", "fixed"]),
    st.integers(0, 1000),
    st.integers(2, 5),
)
def test_frequencies_of_any_rows_are_repeated_rows(kind, parameters, scale, seed, largest):
    X, y = data(60, seed=seed)
    times = np.random.default_rng(seed).integers(0, largest, 60)
    rows = np.repeat(np.arange(60), times)
    keywords = options(kind, 60) | {"scale": scale}
    weighted = SmoothL1Regressor(**parameters, tol=1e-11).fit(X, y, sample_weight=times)
    table = coefficient_table(
        weighted, X, y, sample_weight=times, weights="frequency", **keywords
    )
    model = SmoothL1Regressor(**parameters, tol=1e-11).fit(X[rows], y[rows])
    if "groups" in keywords:
        keywords["groups"] = keywords["groups"][rows]
    expected = coefficient_table(model, X[rows], y[rows], **keywords)
    assert_same_table(table, expected.coef, expected.covariance)
    assert (table.df, table.n_samples) == (expected.df, expected.n_samples)


@pytest.mark.parametrize("unit", [1e200, 1e-200])
def test_targets_near_the_range_of_float64(unit):
    X, y = data()
    model = SmoothL1Regressor().fit(X, unit * y)
    expected = coefficient_table(SmoothL1Regressor().fit(X, y), X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = coefficient_table(model, X, unit * y)
        test = table.wald_test(["x0", "x1"])
    assert_allclose(table.std_err, expected.std_err * unit, rtol=1e-6)
    assert_allclose(test.statistic, expected.wald_test(["x0", "x1"]).statistic, rtol=1e-6)
    assert_allclose(table.predict(X[:3]), expected.predict(X[:3]) * unit, rtol=1e-6)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_columns_far_from_zero(kind):
    X, y = data()
    near = coefficient_table(SmoothL1Regressor().fit(X, y), X, y, **options(kind, 80))
    far = X + 1e8
    X_held = far - 1e8
    table = coefficient_table(SmoothL1Regressor().fit(far, y), far, y, **options(kind, 80))
    model = SmoothL1Regressor().fit(X_held, y)
    held = coefficient_table(model, X_held, y, **options(kind, 80))
    assert_allclose(table.std_err[1:], held.std_err[1:], rtol=1e-5)
    assert_allclose(table.std_err[1:3], near.std_err[1:3], rtol=1e-4)
    assert_allclose(table.predict(far[:5]), held.predict(X_held[:5]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in ALL_KINDS if kind != "HAC"])
def test_order_of_rows(kind):
    X, y = data()
    order = np.random.default_rng(0).permutation(80)
    model = SmoothL1Regressor().fit(X, y)
    keywords = options(kind, 80)
    expected = coefficient_table(model, X, y, **keywords).covariance
    if "groups" in keywords:
        keywords["groups"] = keywords["groups"][order]
    table = coefficient_table(model, X[order], y[order], **keywords)
    assert_allclose(table.covariance, expected, rtol=1e-9)


# Forms of data --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("form", ["csr", "float32", "fortran"])
def test_forms_of_X(kind, form):
    X, y = data(200)
    X = np.where(np.abs(X) > 1, X, 0.0)
    make = {
        "csr": sparse.csr_array,
        "float32": lambda X: X.astype(np.float32),
        "fortran": np.asfortranarray,
    }[form]
    expected = coefficient_table(SmoothL1Regressor().fit(X, y), X, y, **options(kind, 200))
    model = SmoothL1Regressor().fit(make(X), y)
    table = coefficient_table(model, make(X), y, **options(kind, 200))
    assert table.covariance.dtype == np.float64
    tol = 1e-3 if form == "float32" else 1e-6
    assert_allclose(table.std_err, expected.std_err, rtol=tol)
    assert_allclose(table.predict(make(X[:5])), expected.predict(X[:5]), rtol=tol)


def test_wrappers_and_frames():
    pd = pytest.importorskip("pandas")
    X, y = data()
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    plain = coefficient_table(SmoothL1Regressor().fit(frame, y), frame, y)
    assert plain.names == ["intercept", "a", "b", "c"]
    assert list(plain.frame.index) == plain.names
    assert list(plain.frame.columns) == ["coef", "std_err", "t", "p_value", "lower", "upper"]
    assert_allclose(plain.frame[["lower", "upper"]], plain.conf_int())
    pipeline = make_pipeline(StandardScaler(), SmoothL1Regressor()).fit(frame, y)
    table = coefficient_table(pipeline, frame, y)
    assert table.names == plain.names
    assert_allclose(table.std_err[1:], plain.std_err[1:] * X.std(axis=0), rtol=1e-6)
    assert_allclose(table.feature_scale, [0, 1, 1, 1], atol=1e-12)
    assert_allclose(plain.feature_scale, [0, *X.std(axis=0)], rtol=1e-12)
    assert_allclose(table.predict(frame[:5]), plain.predict(frame[:5]), rtol=1e-6)
    assert "transformed" in str(table)
    assert "transformed" not in str(plain)
    search = GridSearchCV(SmoothL1Regressor(), {"alpha": [0.0]}).fit(frame, y)
    assert_allclose(coefficient_table(search, frame, y).covariance, plain.covariance)
    target = TransformedTargetRegressor(
        SmoothL1Regressor(), func=np.cbrt, inverse_func=lambda y: y**3
    )
    table = coefficient_table(target.fit(frame, y), frame, y)
    expected = coefficient_table(SmoothL1Regressor().fit(frame, np.cbrt(y)), frame, np.cbrt(y))
    assert_allclose(table.covariance, expected.covariance, rtol=1e-6)
    with pytest.raises(ValueError, match="feature names"):
        coefficient_table(SmoothL1Regressor().fit(frame, y), frame[["b", "a", "c"]], y)


def test_a_chosen_threshold():
    X, y = data(200)
    model = SmoothL1RegressorCV(betas=[0.5, 1.0, "auto"], cv=3).fit(X, y)
    table = coefficient_table(model, X, y)
    chosen = model.best_params_["beta"]
    alone = SmoothL1Regressor(chosen).fit(X, y)
    assert_allclose(table.std_err, coefficient_table(alone, X, y).std_err, rtol=1e-5)


def test_several_targets():
    X, y = data()
    Y = np.column_stack([y, 2 * y + X[:, 0]])
    model = SmoothL1Regressor().fit(X, Y)
    with pytest.raises(ValueError, match="2 targets"):
        coefficient_table(model, X, Y)
    for target in (0, 1):
        table = coefficient_table(model, X, Y, target=target)
        one = SmoothL1Regressor().fit(X, Y[:, target])
        expected = coefficient_table(one, X, Y[:, target])
        assert_allclose(table.covariance, expected.covariance, rtol=1e-6)


def test_no_intercept():
    X, y = data()
    model = SmoothL1Regressor(LEAST_SQUARES, fit_intercept=False).fit(X, y)
    table = coefficient_table(model, X, y, covariance="HC0")
    e = y - X @ model.coef_
    inverse = np.linalg.inv(X.T @ X)
    assert_allclose(table.covariance, inverse @ (X.T * e**2) @ X @ inverse, rtol=1e-8)
    assert table.names == ["x0", "x1", "x2"]
    assert_allclose(table.feature_scale, X.std(axis=0), rtol=1e-8)
    assert len(table) == table.rank == 3


def test_a_feature_called_intercept():
    pd = pytest.importorskip("pandas")
    X, y = data()
    frame = pd.DataFrame(X, columns=["intercept", "b", "c"])
    table = coefficient_table(SmoothL1Regressor().fit(frame, y), frame, y)
    assert table.names == ["(intercept)", "intercept", "b", "c"]
    frame.columns = ["intercept", "(intercept)", "c"]
    table = coefficient_table(SmoothL1Regressor().fit(frame, y), frame, y)
    assert table.names == ["((intercept))", "intercept", "(intercept)", "c"]
    assert table.frame.index.is_unique


def test_a_name_of_several_coefficients_is_not_tested():
    X, y = data()
    renamed = FunctionTransformer(feature_names_out=lambda transformer, names: ["a", "b", "b"])
    table = coefficient_table(make_pipeline(renamed, SmoothL1Regressor()).fit(X, y), X, y)
    assert table.names == ["intercept", "a", "b", "b"]
    assert table.wald_test(["a"]).p_value < 1
    with pytest.raises(ValueError, match=r"got \['b'\]; use R"):
        table.wald_test(["a", "b"])


@pytest.mark.parametrize("kind", ["HC3", "CR3"])
def test_rows_of_weight_zero_are_absent(kind):
    X, y = data()
    weight = np.ones(80)
    weight[::4] = 0
    model = SmoothL1Regressor().fit(X, y, sample_weight=weight)
    keywords = options(kind, 80)
    table = coefficient_table(model, X, y, sample_weight=weight, **keywords)
    kept = weight > 0
    if "groups" in keywords:
        keywords["groups"] = keywords["groups"][kept]
    expected = coefficient_table(model, X[kept], y[kept], **keywords)
    assert_allclose(table.covariance, expected.covariance, rtol=1e-10)
    assert table.n_samples == 60


def test_tables_can_be_pickled_and_hold_no_data():
    X, y = data(2_000)
    table = coefficient_table(SmoothL1Regressor().fit(X, y), X, y)
    again = pickle.loads(pickle.dumps(table))
    assert_allclose(again.predict(X[:3]), table.predict(X[:3]))
    assert_allclose(again.predict_interval(X[:3]), table.predict_interval(X[:3]))
    model_bytes = len(pickle.dumps(table._regressor))
    assert len(pickle.dumps(table)) < model_bytes + 2 * 8 * 2_000 + 5_000


def _stopped_early(X, y):
    with pytest.warns(ConvergenceWarning):
        return SmoothL1Regressor(max_iter=1, solver="lbfgs", scale="concomitant").fit(X, y)


@pytest.mark.parametrize(
    ("fit", "match"),
    [
        (_stopped_early, "stopped early"),
        (SmoothL1Regressor(alpha=0.5).fit, "penalized"),
        (SmoothL1Regressor(2.0).fit, "alone determine"),
    ],
)
def test_warnings_point_at_the_line_of_the_caller(fit, match):
    X, y = data()
    if match == "alone determine":
        X = np.column_stack([X, np.arange(80) == 0])
    model = fit(X, y)
    with pytest.warns(UserWarning, match=match) as caught:
        coefficient_table(model, X, y)
    assert [warning.filename for warning in caught] == [__file__]


# Edge cases -----------------------------------------------------------------------------


def test_data_that_are_not_those_of_the_fit():
    X, y = data()
    weight = np.random.default_rng(0).uniform(0.2, 2, 80)
    model = SmoothL1Regressor().fit(X, y, sample_weight=weight)
    with pytest.raises(ValueError, match="sample_weight"):
        coefficient_table(model, X, y)
    changed = y.copy()
    changed[3] += 1.0
    model = SmoothL1Regressor().fit(X, y)
    with pytest.raises(ValueError, match="not those of the fit"):
        coefficient_table(model, X, changed)


def test_a_fit_that_stopped_early_warns_and_has_a_table():
    X, y = data()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = SmoothL1Regressor(max_iter=1).fit(X, y)
    if model.history_[-1]["gradient_norm"] > 1e-5:
        with pytest.warns(ConvergenceWarning, match="stopped early"):
            table = coefficient_table(model, X, y)
        assert np.isfinite(table.std_err).all()


def test_estimators():
    X, y = data()
    with pytest.raises(NotFittedError):
        coefficient_table(SmoothL1Regressor(), X, y)
    with pytest.raises(TypeError, match="SmoothL1RegressorCV"):
        coefficient_table(LinearRegression().fit(X, y), X, y)


def test_too_few_rows():
    X, y = data(4)
    with pytest.raises(ValueError, match="more rows"):
        coefficient_table(SmoothL1Regressor(10.0).fit(X, y), X, y)


@pytest.mark.parametrize(
    ("keywords", "match"),
    [
        ({"covariance": "HC3", "groups": "labels"}, "groups"),
        ({"covariance": "HAC", "groups": "labels"}, "groups"),
        ({"covariance": "H1", "groups": "labels"}, "groups"),
        ({"covariance": "CR1"}, "groups"),
        ({"groups": np.zeros(80)}, "groups"),
        ({"groups": np.r_[np.nan, np.arange(79)]}, "groups"),
        ({"groups": [None, *"ab" * 39, "c"]}, "groups"),
        ({"groups": np.arange(79)}, "groups"),
        ({"covariance": "HC1", "lags": 2}, "lags"),
        ({"covariance": "HAC", "lags": -1}, "lags"),
        ({"df": "bell-mccaffrey"}, "bell-mccaffrey"),
        ({"df": 0}, "df"),
        ({"df": "t"}, "df"),
        ({"df": True}, "df must be 'auto', .* got True"),
        ({"covariance": "HC4"}, "covariance"),
        ({"weights": "analytic"}, "weights"),
        ({"scale": "both"}, "scale"),
        ({"covariance": "bootstrap", "n_resamples": 0}, "n_resamples"),
        ({"weights": "frequency", "sample_weight": np.full(80, 0.5)}, "frequency"),
        (
            {"weights": "frequency", "sample_weight": np.ones(80), "covariance": "HAC"},
            "frequency",
        ),
    ],
)
def test_invalid_parameters(keywords, match):
    X, y = data()
    model = SmoothL1Regressor().fit(X, y)
    if isinstance(keywords.get("groups"), str):
        keywords = keywords | {"groups": np.arange(80) % 5}
    with pytest.raises(ValueError, match=match):
        coefficient_table(model, X, y, **keywords)


def test_h2_has_no_form_with_unequal_importance_weights():
    X, y = data()
    weight = np.random.default_rng(0).uniform(0.5, 1.5, 80)
    model = SmoothL1Regressor().fit(X, y, sample_weight=weight)
    with pytest.raises(ValueError, match="'HC3'"):
        coefficient_table(model, X, y, sample_weight=weight, covariance="H2")


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5, 95, np.nan, "a", None, [0.9, 0.95]])
def test_levels(level):
    X, y = data()
    table = coefficient_table(SmoothL1Regressor().fit(X, y), X, y)
    message = f"level must be in the range (0, 1), got {level!r}."
    for method in (
        table.conf_int,
        lambda level: table.predict(X, level=level),
        lambda level: table.predict_interval(X, level=level),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            method(level)


@pytest.mark.parametrize(
    "values", [np.nan, [1.0, np.inf], [1.0], [1.0, 2.0, 3.0], np.eye(2), "a", ["a", "b"], None]
)
def test_values_of_a_hypothesis(values):
    X, y = data()
    table = coefficient_table(SmoothL1Regressor().fit(X, y), X, y)
    with pytest.raises(ValueError, match="values must be"):
        table.wald_test(["x0", "x1"], values=values)


def test_the_number_of_rows_is_an_integer():
    X, y = data()
    weight = np.arange(80) % 3 + 1.0
    model = SmoothL1Regressor().fit(X, y, sample_weight=weight)
    for meaning, n in (("importance", 80), ("frequency", weight.sum())):
        table = coefficient_table(model, X, y, sample_weight=weight, weights=meaning)
        assert isinstance(table.n_samples, int)
        assert table.n_samples == n


def test_restrictions():
    X, y = data()
    table = coefficient_table(SmoothL1Regressor().fit(X, y), X, y)
    with pytest.raises(ValueError, match="exactly one"):
        table.wald_test()
    with pytest.raises(ValueError, match="exactly one"):
        table.wald_test(["x0"], R=np.eye(4))
    with pytest.raises(ValueError, match="shape"):
        table.wald_test(R=np.eye(3))
    with pytest.raises(ValueError, match="full row rank"):
        table.wald_test(R=[[0, 1, 0, 0], [0, 2, 0, 0]])
    with pytest.raises(ValueError, match="names"):
        table.wald_test(["x7"])


def test_few_clusters():
    X, y = data()
    groups = np.arange(80) % 3
    table = coefficient_table(SmoothL1Regressor().fit(X, y), X, y, groups=groups)
    assert np.isfinite(table.p_value).all()
    assert np.isfinite(table.wald_test(["x0", "x1"]).p_value)
    assert np.isnan(table.wald_test(["x0", "x1", "x2"]).p_value)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_constant_column_is_absent(kind):
    X, y = data()
    wide = np.column_stack([X, np.full(80, 7.0)])
    table = coefficient_table(SmoothL1Regressor().fit(wide, y), wide, y, **options(kind, 80))
    expected = coefficient_table(SmoothL1Regressor().fit(X, y), X, y, **options(kind, 80))
    assert table.coef[4] == 0
    assert np.isnan(table.std_err[4])
    assert_allclose(table.std_err[:4], expected.std_err, rtol=1e-7)
    assert table.rank == 4


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_dependent_columns(kind):
    X, y = data()
    wide = np.column_stack([X, 3 * X[:, 0]])
    table = coefficient_table(SmoothL1Regressor().fit(wide, y), wide, y, **options(kind, 80))
    expected = coefficient_table(SmoothL1Regressor().fit(X, y), X, y, **options(kind, 80))
    assert np.isnan(table.coef[[1, 4]]).all()
    assert np.isnan(table.std_err[[1, 4]]).all()
    assert_allclose(table.std_err[[0, 2, 3]], expected.std_err[[0, 2, 3]], rtol=1e-6)
    assert (table.rank, table.df) == (4, expected.df)
    test, one = table.wald_test(R=[[0, 1.0, 0, 0, 3.0]]), expected.wald_test(["x0"])
    assert_allclose([test.statistic, test.p_value], [one.statistic, one.p_value], rtol=1e-5)
    with pytest.raises(ValueError, match="do not determine"):
        table.wald_test(["x0"])
    assert_allclose(table.predict(wide[:5]), expected.predict(X[:5]), rtol=1e-6)
    outside = wide[:2] + np.array([1.0, 0, 0, 0])
    with pytest.warns(UserWarning, match="row space"):
        prediction = table.predict(outside)
    assert np.isfinite(prediction[:, 0]).all()
    assert np.isnan(prediction[:, 1:]).all()


def test_a_direction_without_rows_inside():
    X, y = data()
    X = np.column_stack([X[:, 0], np.r_[np.ones(6), np.zeros(74)]])
    # The six rows in which the indicator is 1 lie so far above or below the fit that their
    # absolute residuals exceed the threshold.
    y[:6] = [100, 101, 102, -100, -101, -102]
    model = SmoothL1Regressor(1.0).fit(X, y)
    with pytest.warns(UserWarning, match=r"\['x1'\] have no standard error"):
        table = coefficient_table(model, X, y)
    assert np.isnan(table.std_err[2])
    assert np.isfinite(table.std_err[:2]).all()


def test_a_row_that_determines_a_coefficient_alone():
    pd = pytest.importorskip("pandas")
    X, y = data()
    frame = pd.DataFrame(X, columns=list("abc"), index=[f"row {i}" for i in range(80)])
    frame["alone"] = np.r_[1.0, np.zeros(79)]
    model = SmoothL1Regressor(2.0).fit(frame, y)
    with pytest.warns(UserWarning, match="row 0.*alone determine.*alone"):
        table = coefficient_table(model, frame, y)
    rest = SmoothL1Regressor(2.0).fit(X[1:], y[1:])
    expected = coefficient_table(rest, X[1:], y[1:])
    assert np.isnan(table.std_err[4])
    assert_allclose(table.std_err[:4], expected.std_err, rtol=1e-6)
    assert np.isinf(table._left_out.residual[-1])


@pytest.mark.parametrize("labels", [np.arange(10) + 2000, list("abcdefghij")])
def test_a_cluster_that_determines_a_coefficient_alone(labels):
    X, y = data()
    groups = np.arange(80) // 8
    X = np.column_stack([X, groups == 2])
    model = SmoothL1Regressor(5.0).fit(X, y)
    match = rf"Groups \['{labels[2]}'\] alone determine .*\['x3'\]"
    with pytest.warns(UserWarning, match=match):
        table = coefficient_table(model, X, y, groups=np.asarray(labels)[groups])
    assert np.isnan(table.std_err[4])
    assert np.isfinite(table.std_err[:4]).all()


def test_a_scale_at_its_floor():
    X, y = data()
    y = X @ [1.0, 2.0, 3.0]
    y[::5] += 10
    for parameters in SCALES[:1]:
        model = SmoothL1Regressor(**parameters).fit(X, y)
        for kind in ALL_KINDS:
            with pytest.raises(ValueError, match="bootstrap"):
                coefficient_table(model, X, y, **options(kind, 80))


@pytest.mark.parametrize("parameters", [{}, {"loss": "huber"}, {"scale": "concomitant"}])
def test_penalised_fits(parameters):
    X, y = data()
    model = SmoothL1Regressor(alpha=0.5, tol=1e-10, **parameters).fit(X, y)
    with pytest.warns(UserWarning, match="penalized"):
        table = coefficient_table(model, X, y)
    assert np.isfinite(table.conf_int()).all()
    assert np.isnan(table.statistic).all()
    assert np.isnan(table.p_value).all()
    assert table.footer.endswith("no tests, since the coefficients are penalised")
    assert 1 < table.rank < 4
    with pytest.raises(ValueError, match="penalized"):
        table.wald_test(["x0"])


def test_intervals_need_enough_rows():
    X, y = data(18)
    table = coefficient_table(SmoothL1Regressor().fit(X, y), X, y)
    with pytest.raises(ValueError, match="at least 19 rows"):
        table.predict_interval(X)
    with pytest.raises(ValueError, match="at least 39 rows"):
        table.predict_interval(X, symmetric=False)
    X, y = data(39)
    table = coefficient_table(SmoothL1Regressor().fit(X, y), X, y)
    assert np.isfinite(table.predict_interval(X, symmetric=False)).all()
    table = coefficient_table(SmoothL1Regressor().fit(X, y), X, y, covariance="HC1")
    with pytest.raises(ValueError, match="HC3"):
        table.predict_interval(X)


def test_small_thresholds_have_tables():
    X, y = data(120)
    for parameters in ({"beta": 1e-8, "scale": "mad"}, {"beta": 1e-12}, {"beta": 1e-6}):
        model = SmoothL1Regressor(**parameters).fit(X, y)
        assert np.isfinite(coefficient_table(model, X, y).std_err).all()
    model = SmoothL1Regressor(1e-6, scale="mad").fit(X, y)
    table = coefficient_table(
        model, X, y, covariance="bootstrap", n_resamples=50, random_state=0
    )
    assert np.isfinite(table.std_err).all()


def test_float32_features_far_from_zero():
    X, y = data(120)
    far = (X + 2_000).astype(np.float32)
    y = (far.astype(float) - 2_000) @ [1.0, 0.2, -3.0] + 0.1 * np.random.default_rng(0).normal(
        size=120
    )
    assert np.isfinite(coefficient_table(SmoothL1Regressor().fit(far, y), far, y).std_err).all()


def test_bell_mccaffrey_without_an_intercept_and_in_other_units():
    X, y = data()
    model = SmoothL1Regressor(LEAST_SQUARES, fit_intercept=False).fit(X, y)
    options = {"covariance": "HC2", "df": "bell-mccaffrey"}
    expected = coefficient_table(model, X, y, **options).df
    assert np.isfinite(expected).all()
    far = X * 1e100
    model = SmoothL1Regressor(LEAST_SQUARES, fit_intercept=False).fit(far, y)
    assert_allclose(coefficient_table(model, far, y, **options).df, expected, rtol=1e-6)


def test_a_table_does_not_change_when_the_estimator_is_fitted_again():
    X, y = data()
    model = make_pipeline(StandardScaler(), SmoothL1Regressor()).fit(X, y)
    table = coefficient_table(model, X, y)
    before = table.predict(X[:3])
    model.fit(10 * X, 100 * y)
    assert_allclose(table.predict(X[:3]), before)


@pytest.mark.parametrize(
    "labels",
    [["a", 1] * 40, list(np.arange(80) % 7), np.array(["a", "b"] * 40), [True, False] * 40],
)
def test_labels_of_any_kind(labels):
    X, y = data()
    model = SmoothL1Regressor().fit(X, y)
    code = [list(dict.fromkeys(labels)).index(label) for label in labels]
    table = coefficient_table(model, X, y, groups=labels)
    expected = coefficient_table(model, X, y, groups=code)
    assert_allclose(table.covariance, expected.covariance, rtol=1e-9)


def test_missing_labels():
    pd = pytest.importorskip("pandas")
    X, y = data()
    model = SmoothL1Regressor().fit(X, y)
    for labels in (
        pd.Series(["a", pd.NA] * 40, dtype="string"),
        ["a", "b", "c", np.nan] * 20,
        pd.Series(pd.to_datetime(["2020-01-01", None] * 40)),
    ):
        with pytest.raises(ValueError, match="groups contains missing"):
            coefficient_table(model, X, y, groups=labels)


def test_a_constant_column_cannot_be_tested():
    X, y = data()
    X = np.column_stack([X, np.full(80, 7.0)])
    table = coefficient_table(SmoothL1Regressor().fit(X, y), X, y)
    for R in ([[0, 0, 0, 0, 1.0]], [[0, 1.0, 0, 0, 1.0]]):
        with pytest.raises(ValueError, match="do not determine"):
            table.wald_test(R=R)


# Bootstrap ------------------------------------------------------------------------------


@pytest.mark.parametrize("parameters", SCALES)
def test_bootstrap(parameters):
    X, y = data(200)
    model = SmoothL1Regressor(**parameters).fit(X, y)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    table, again = (
        coefficient_table(model, X, y, covariance="bootstrap", n_resamples=400, random_state=0)
        for _ in range(2)
    )
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    assert (table.replicates == again.replicates).all()
    assert table.replicates.shape == (400, 4)
    sandwich = coefficient_table(model, X, y)
    assert_allclose(table.std_err, sandwich.std_err, rtol=0.25)
    lower, upper = np.quantile(table.replicates, [0.05, 0.95], axis=0)
    assert_allclose(table.conf_int(0.9), np.column_stack([lower, upper]))
    quartiles = np.quantile(table.replicates, [0.25, 0.75], axis=0)
    assert_allclose(table.std_err, (quartiles[1] - quartiles[0]) / 1.349)
    below = np.minimum((table.replicates <= 0).sum(0), (table.replicates >= 0).sum(0))
    assert_allclose(table.p_value, np.minimum(2 * (1 + below) / 401, 1))
    means = np.column_stack([np.ones(3), X[:3]]) @ table.replicates.T
    assert_allclose(table.predict(X[:3])[:, 1:], np.quantile(means, [0.025, 0.975], axis=1).T)
    assert table.covariance is None
    with pytest.raises(ValueError, match="HC3"):
        table.wald_test(["x0"])
    with pytest.raises(ValueError, match="HC3"):
        table.predict_interval(X)
    assert str(table).splitlines()[-1].startswith("bootstrap: 400 resamples of rows")


def test_bootstrap_of_groups_and_of_a_scale_at_its_floor():
    X, y = data(60)
    groups = np.arange(60) // 6
    model = SmoothL1Regressor().fit(X, y)
    table = coefficient_table(
        model, X, y, covariance="bootstrap", groups=groups, n_resamples=99, random_state=1
    )
    assert (table.n_groups, table.df) == (10, 9.0)
    assert np.isfinite(table.std_err).all()
    y = X @ [1.0, 2.0, 3.0]
    y[::5] += 10
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = SmoothL1Regressor().fit(X, y)
    table = coefficient_table(model, X, y, covariance="bootstrap", n_resamples=49)
    assert_allclose(table.coef, model_coefficients(model))


def model_coefficients(model):
    return np.concatenate([[model.intercept_], model.coef_])


def test_resamples_without_a_category_are_left_out():
    X, y = data(40)
    X = np.column_stack([X, np.arange(40) < 2])
    model = SmoothL1Regressor(LEAST_SQUARES).fit(X, y)
    with pytest.warns(UserWarning, match="of 200 resamples"):
        table = coefficient_table(
            model, X, y, covariance="bootstrap", n_resamples=200, random_state=0
        )
    failed = np.isnan(table.replicates).all(axis=1)
    assert 5 < failed.sum() < 60
    assert np.isfinite(table.conf_int()).all()


# Text -----------------------------------------------------------------------------------


def test_text():
    _, X, y = reference("engel")
    table = coefficient_table(SmoothL1Regressor().fit(X, y), X, y)
    first, *_, last = str(table).splitlines()
    assert first.startswith("Huber fit, 1.345 MAD: n = 235, p = 2, ")
    assert last == (
        "HC3: independent rows, any variances; joint with the MAD; "
        "t with 233 degrees of freedom"
    )
    html = table._repr_html_()
    assert html.startswith("<table>")
    assert html.count("<tr>") == 3


@pytest.mark.parametrize("size", [1e-9, 1e-3, 1.0, 1e4, 1e9])
def test_coefficients_without_a_standard_error_are_shown_with_four_digits(size):
    X, y = data()
    X = np.column_stack([X, (np.arange(80) == 0) / size, np.full(80, 7.0)])
    model = SmoothL1Regressor(2.0).fit(X, y)
    with pytest.warns(UserWarning, match="alone determine"):
        table = coefficient_table(model, X, y)
    lone, constant = (line.split() for line in str(table).splitlines()[-3:-1])
    assert np.isnan(table.std_err[4:]).all()
    assert_allclose(float(lone[1]), table.coef[4], rtol=1e-3)
    assert lone[2:] == ["nan"] * 5
    assert constant == ["x4", "0.000", *["nan"] * 5]


def test_names_are_escaped_and_long_tables_are_cut():
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(200, 60)), columns=["<b>", *map(str, range(59))])
    y = rng.normal(size=200)
    table = coefficient_table(SmoothL1Regressor().fit(X, y), X, y)
    assert "&lt;b&gt;" in table._repr_html_()
    assert "<b>" not in table._repr_html_()
    assert "21 of 61 coefficients" in str(table)
    assert len(table.frame) == 61
