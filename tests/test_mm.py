"""`MMRegressor` compared with R's lmrob; estimating equations, equivariances and edge cases."""

import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.optimize import brentq
from scipy.stats import chi2, norm
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.multioutput import MultiOutputRegressor

from problems import Recorder, needs_callbacks
from skrobust import MMRegressor, SmoothL1Regressor
from skrobust._model.normal_constants import constant_of_breakdown, constant_of_efficiency

# Fits by R's robustbase. The sources of the data are given in the file.
REFERENCE = json.loads((Path(__file__).parent / "data" / "mm.json").read_text())
SETS = sorted(REFERENCE["sets"])
C_S, C_M = constant_of_breakdown(0.5), constant_of_efficiency(0.95)


def rho(u, c):
    return 1 - (1 - np.minimum(np.abs(u) / c, 1) ** 2) ** 3


def psi(u, c):
    return u * (1 - np.minimum(np.abs(u) / c, 1) ** 2) ** 2


def reference(name):
    d = REFERENCE["sets"][name]
    y = np.asarray(d["y"], float)
    return np.asarray(d["X"], float).reshape(y.size, -1), y, d


def fit(X, y, weight=None, **parameters):
    """Fit a model, and ignore the warning about few rows per coefficient."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There are only")
        return MMRegressor(**parameters).fit(X, y, sample_weight=weight)


def linear(coef, X):
    """Return the fitted values for coefficients (intercept, slopes) or for slopes only."""
    coef = np.asarray(coef, float)
    return X @ coef if coef.size == X.shape[1] else coef[0] + X @ coef[1:]


def data(n=60, p=3, outliers=0, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p))
    y = X @ np.arange(1.0, p + 1) + 0.5 + rng.normal(size=n)
    X[:outliers] += 10.0
    y[:outliers] -= 40.0
    return X, y


# Results of R ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", SETS)
def test_fits_are_those_of_lmrob(name, seed):
    X, y, expected = reference(name)
    model = fit(X, y, scale="s", random_state=seed)
    assert model.s_scale_ == pytest.approx(expected["S"]["scale"], rel=1e-7)
    assert model.scale_ == pytest.approx(expected["MM"]["scale"], rel=1e-7)
    s_fit = model.s_intercept_ + X @ model.s_coef_
    atol = 1e-6 * model.scale_
    assert_allclose(s_fit, linear(expected["S"]["coef"], X), atol=atol)
    assert_allclose(model.predict(X), linear(expected["MM"]["coef"], X), atol=atol)
    assert_allclose(model.weights_, expected["weights"], atol=1e-6)


@pytest.mark.parametrize("setting", ["25_95", "40_90", "50_85", "no_intercept"])
@pytest.mark.parametrize("name", sorted(REFERENCE["other_settings"]))
def test_fits_with_other_constants_are_those_of_lmrob(name, setting):
    X, y, _ = reference(name)
    key, parameters = "no_intercept", {"fit_intercept": False}
    if setting != "no_intercept":
        breakdown, efficiency = setting.split("_")
        key = f"breakdown_{breakdown}_efficiency_{efficiency}"
        parameters = {"breakdown": int(breakdown) / 100, "efficiency": int(efficiency) / 100}
    expected = REFERENCE["other_settings"][name][key]
    model = fit(X, y, scale="s", **parameters)
    assert model.s_scale_ == pytest.approx(expected["S"]["scale"], rel=1e-7)
    fitted = linear(expected["MM"]["coef"], X)
    assert_allclose(model.predict(X), fitted, atol=1e-6 * model.scale_)


# Equations ------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scale", ["s", "trimmed"])
@pytest.mark.parametrize("breakdown", [0.5, 0.25])
def test_the_equations_of_the_estimate_hold(scale, breakdown, weighted):
    X, y = data(80, 3, outliers=15)
    weight = np.random.default_rng(1).integers(1, 4, size=80).astype(float)
    s = weight if weighted else np.ones(80)
    model = fit(X, y, weight if weighted else None, scale=scale, breakdown=breakdown)
    c_s, k = constant_of_breakdown(breakdown), 4
    r_s = y - X @ model.s_coef_ - model.s_intercept_
    r = y - model.predict(X)
    target = breakdown * (s.sum() - k)
    root = brentq(lambda x: s @ rho(r_s / x, c_s) - target, 1e-3, 1e3, xtol=1e-14, rtol=1e-14)
    assert model.s_scale_ == pytest.approx(root, rel=1e-10)
    Z = np.column_stack([np.ones(80), X])
    for residual, sigma, c in ((r_s, model.s_scale_, c_s), (r, model.scale_, C_M)):
        u = psi(residual / sigma, c) * s
        assert np.abs(u @ Z).max() < 1e-6 * np.sqrt(u @ u)
    start, end = s @ rho(r_s / model.scale_, C_M), s @ rho(r / model.scale_, C_M)
    assert end <= start * (1 + 1e-12)
    least = model.s_scale_ * c_s / C_M
    assert least * (1 - 1e-12) <= model.scale_ <= model.s_scale_ * (1 + 1e-12)
    if scale == "s":
        assert model.scale_ == model.s_scale_
    assert_allclose(
        model.weights_, (1 - np.minimum(np.abs(r) / model.scale_ / C_M, 1) ** 2) ** 2
    )
    assert_array_equal(model.outliers_, np.abs(r) > norm.ppf(0.995) * model.scale_)


@pytest.mark.parametrize(("n", "p", "outliers"), [(25, 5, 0), (200, 3, 80), (60, 2, 5)])
def test_the_trimmed_scale_is_the_fixed_point_below_the_s_scale(n, p, outliers):
    X, y = data(n, p, outliers)
    model = fit(X, y)
    r, k = np.abs(y - X @ model.s_coef_ - model.s_intercept_), p + 1
    K = 2.5 * np.sqrt(1 + k / (n * 0.28682611517712))
    kappa = np.sqrt(1 - 2 * K * norm.pdf(K) / (2 * norm.cdf(K) - 1))
    s, least = model.s_scale_, model.s_scale_ * C_S / C_M
    for _ in range(1000):
        inside = r[r <= K * s]
        s = max(least, min(s, np.sqrt(inside @ inside / (inside.size - k)) / kappa))
    assert model.scale_ == pytest.approx(s, rel=1e-9)


def test_a_two_point_distribution_keeps_the_bound_of_the_trimmed_scale():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 2))
    y = rng.choice([-1.0, 1.0], size=100) + 0.2 * rng.normal(size=100)
    model = fit(X, y)
    assert model.s_scale_ * C_S / C_M <= model.scale_ <= model.s_scale_


# Equivariance and repetition ------------------------------------------------------------


@pytest.mark.parametrize("scale", ["s", "trimmed"])
def test_the_fit_is_equivariant(scale):
    X, y = data(50, 3, outliers=10)
    model = fit(X, y, scale=scale)
    A = np.array([[1.0, 0.5, 0.0], [0.0, 2.0, -1.0], [0.3, 0.0, 1.0]])
    atol = 1e-6 * model.scale_
    moved = fit(X @ A + [1.0, -2.0, 3.0], y, scale=scale)
    assert_allclose(moved.predict(X @ A + [1.0, -2.0, 3.0]), model.predict(X), atol=atol)
    moved = fit(X, 3.0 * y + X @ [1.0, 2.0, 3.0] + 7.0, scale=scale)
    expected = 3.0 * model.predict(X) + X @ [1.0, 2.0, 3.0] + 7.0
    assert_allclose(moved.predict(X), expected, atol=3 * atol)
    assert moved.scale_ == pytest.approx(3.0 * model.scale_, rel=1e-6)


@pytest.mark.parametrize(
    ("x_unit", "y_unit"), [(1e9, 1.0), (1e-9, 1.0), (1.0, 1e12), (1e-9, 1e-12)]
)
def test_units_do_not_change_the_fit(x_unit, y_unit):
    X, y = data(50, 3, outliers=10)
    model = fit(X, y)
    units = np.array([x_unit, 1.0, 1 / x_unit])
    other = fit(X * units, y * y_unit)
    assert_allclose(other.coef_ * units / y_unit, model.coef_, rtol=1e-7)
    assert other.scale_ / y_unit == pytest.approx(model.scale_, rel=1e-7)
    assert_array_equal(other.outliers_, model.outliers_)
    assert_array_equal(other.leverage_, model.leverage_)


def test_the_order_of_the_rows_and_repeats_do_not_matter_to_the_bit():
    X, y = data(80, 3, outliers=20)
    X, y = np.round(X, 1), np.round(y)
    model = fit(X, y)
    order = np.random.default_rng(0).permutation(80)
    permuted = fit(X[order], y[order])
    assert_array_equal(permuted.coef_, model.coef_)
    assert_array_equal(permuted.weights_, model.weights_[order])
    weight = np.random.default_rng(1).integers(0, 4, size=80)
    repeated = fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    weighted = fit(X, y, weight)
    assert_array_equal(repeated.coef_, weighted.coef_)
    assert repeated.intercept_ == weighted.intercept_
    assert_array_equal(repeated.weights_, np.repeat(weighted.weights_, weight))


def test_seeds_and_fits_without_random_starts_agree():
    X, y = data(100, 4, outliers=30)
    fits = [fit(X, y, random_state=seed) for seed in range(10)]
    fits += [fit(X, y, n_subsamples=0), fit(X, y, random_state=np.random.RandomState(1))]
    fits.append(fit(X, y, random_state=None))
    for other in fits[1:]:
        assert_allclose(other.coef_, fits[0].coef_, atol=1e-6)


def test_repeated_fits_are_equal_and_leave_the_global_generator_alone():
    X, y = data()
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = fit(X, y), fit(X, y)
    fit(X, y, random_state=None)
    assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert_array_equal(first.coef_, second.coef_)
    assert first.start_ in {"least_squares", "lad", "half_set", "sensitivity", "subset"}


def test_weights_are_numbers_of_rows():
    X, y = data(40, 2)
    weight = np.random.default_rng(0).uniform(0.5, 2.0, size=40)
    # Weights that sum to less than the number of rows are rescaled to sum to this number.
    small = fit(X, y, weight / 100)
    raised = fit(X, y, weight * 40 / weight.sum())
    assert_allclose(small.coef_, raised.coef_, rtol=1e-9)
    assert fit(X, y, 2 * np.ones(40)).s_scale_ != pytest.approx(fit(X, y).s_scale_, rel=1e-4)
    doubled = fit(np.vstack([X, X]), np.concatenate([y, y]))
    assert fit(X, y, 2 * np.ones(40)).s_scale_ == doubled.s_scale_


def test_rows_of_weight_zero_are_absent_but_have_weights():
    X, y = data(60, 3, outliers=10)
    weight = np.ones(60)
    weight[[0, 20, 30]] = 0.0
    model, reduced = fit(X, y, weight), fit(X[weight > 0], y[weight > 0])
    assert_array_equal(model.coef_, reduced.coef_)
    assert_array_equal(model.weights_[weight > 0], reduced.weights_)
    r = y - model.predict(X)
    expected = (1 - np.minimum(np.abs(r) / model.scale_ / C_M, 1) ** 2) ** 2
    assert_allclose(model.weights_, expected, atol=1e-9)
    assert model.outliers_[0]
    assert model.weights_[0] == 0.0


# Breakdown ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e3, 1e6, 1e12])
@pytest.mark.parametrize("in_x", [False, True])
def test_nearly_half_of_the_rows_may_be_anything(size, in_x):
    n, p = 60, 3
    X, y = data(n, p, seed=3)
    clean = fit(X, y)
    n_bad = (n - p - 1) // 2 - 1
    rng = np.random.default_rng(0)
    y[:n_bad] = size * (1 + 0.1 * rng.normal(size=n_bad))
    if in_x:
        X[:n_bad] = size * (1 + 0.1 * rng.normal(size=(n_bad, p)))
    model = fit(X, y)
    assert np.abs(model.coef_ - clean.coef_).max() < 1.0
    assert model.outliers_[:n_bad].all()
    assert not model.weights_[:n_bad].any()


@pytest.mark.parametrize(("p", "share"), [(2, 0.3), (10, 0.2), (50, 0.1)])
def test_a_tight_cluster_of_leverage_points_has_no_influence(p, share):
    rng = np.random.default_rng(p)
    n = 8 * p + 60
    X, y = rng.normal(size=(n, p)), rng.normal(size=n)
    m = int(share * n)
    X[:m] = 0.1 * rng.normal(size=(m, p))
    X[:m, 0] += 10.0
    # If the line to the cluster had a slope much smaller than 6, even the fit at the global
    # minimum of the scale would pass through the cluster.
    y[:m] = 10.0 * 6 + 0.1 * rng.normal(size=m)
    model = fit(X, y)
    assert (model.coef_**2).sum() < 4 * p / (n - m)
    assert model.outliers_[:m].all()
    assert model.leverage_[:m].all()


@pytest.mark.parametrize("kind", ["vertical", "leverage"])
def test_forty_percent_of_outliers_in_ten_dimensions(kind):
    rng = np.random.default_rng(0)
    n, p, m = 100, 10, 40
    X, y = rng.normal(size=(n, p)), rng.normal(size=n)
    if kind == "vertical":
        y[:m] += 20.0
    else:
        X[:m] *= 10.0
        y[:m] = X[:m] @ np.full(p, 3.0) + rng.normal(size=m)
    model = fit(X, y)
    assert (model.coef_**2).sum() < 1.0


def test_indicators_with_rare_levels():
    rng = np.random.default_rng(0)
    level = rng.choice(4, size=120, p=[0.6, 0.3, 0.08, 0.02])
    X = np.column_stack([rng.normal(size=120), *(level == j for j in (1, 2, 3))])
    y = X @ [1.0, 5.0, -5.0, 20.0] + 0.1 * rng.normal(size=120)
    y[:30] += 100.0
    model = fit(X, y)
    clean = LinearRegression().fit(X[30:], y[30:])
    if (level[30:] == 3).any():
        assert_allclose(model.coef_, clean.coef_, atol=0.2)


# Edge cases -----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(15, 30), (4, 3), (3, 3), (2, 5), (1, 1)])
def test_few_rows_are_interpolated_with_minimum_norm(shape):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=shape), rng.normal(size=shape[0])
    with pytest.warns(UserWarning, match="There are only"):
        model = MMRegressor().fit(X, y)
    assert_allclose(model.predict(X), y, atol=1e-10)
    assert_allclose(model.coef_, SmoothL1Regressor(beta=1.0).fit(X, y).coef_, atol=1e-8)
    assert model.scale_ == model.s_scale_ == 0.0
    assert_array_equal(model.weights_, 1.0)
    assert not model.outliers_.any()
    assert not model.leverage_.any()
    with pytest.raises(ValueError, match="robust distances do not exist"):
        model.robust_distances(X)


def test_repeated_rows_that_are_not_more_than_the_rank_are_interpolated():
    X = np.repeat([[0.0], [1.0]], 10, axis=0)
    model = fit(X, np.repeat([1.0, 3.0], 10))
    assert_allclose([model.intercept_, *model.coef_], [1.0, 2.0], atol=1e-14)
    assert model.scale_ == 0.0


def test_few_rows_per_coefficient_are_warned_of():
    X, y = data(19, 3)
    with pytest.warns(UserWarning, match=r"only 19 rows for 4 coefficients: at most 7.5 rows"):
        MMRegressor().fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MMRegressor().fit(*data(20, 3))


@pytest.mark.filterwarnings("error")
def test_constant_targets_and_exact_fits_need_no_warning():
    X, _ = data(40, 3)
    model = MMRegressor().fit(X, np.full(40, 7.25))
    assert_array_equal(model.coef_, 0.0)
    assert model.intercept_ == 7.25
    assert model.scale_ == model.s_scale_ == 0.0
    assert_array_equal(model.weights_, 1.0)
    model = MMRegressor().fit(X, X @ [1.0, 2.0, 3.0] + 4.0)
    assert_allclose(model.coef_, [1.0, 2.0, 3.0], rtol=1e-12)
    assert model.scale_ == 0.0
    assert_array_equal(model.weights_, 1.0)
    assert not model.outliers_.any()


@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_a_majority_that_is_fitted_exactly(shift):
    X, y = data(60, 3)
    X += shift
    y[:40] = X[:40] @ [1.0, 2.0, 3.0] + 4.0
    with pytest.warns(UserWarning, match=r"exact for a majority .* 20 of 60 rows"):
        model = MMRegressor().fit(X, y)
    assert_allclose(model.coef_, [1.0, 2.0, 3.0], rtol=1e-7)
    assert model.scale_ == model.s_scale_ == 0.0
    assert_array_equal(model.outliers_, np.arange(60) >= 40)
    assert_array_equal(model.weights_, 1.0 * (np.arange(60) < 40))


def test_a_target_with_ninety_percent_of_zeros():
    X, y = data(100, 2)
    y[:90] = 0.0
    with pytest.warns(UserWarning, match="10 of 100 rows"):
        model = MMRegressor().fit(X, y)
    assert_allclose(model.coef_, 0.0, atol=1e-14)
    assert model.outliers_.sum() == 10


def test_linearly_dependent_features():
    X, y = data(60, 3, outliers=10)
    model = fit(X, y)
    wide = np.column_stack([X, X[:, 0] + X[:, 1], np.full(60, 3.0)])
    other = fit(wide, y)
    assert_allclose(other.predict(wide), model.predict(X), atol=1e-7)
    assert other.s_scale_ == pytest.approx(model.s_scale_, rel=1e-9)
    assert other.scale_ == pytest.approx(model.scale_, rel=1e-7)
    assert other.coef_[-1] == 0.0
    assert_allclose(other.robust_distances(wide), model.robust_distances(X), rtol=1e-6)


def test_all_levels_of_a_factor():
    rng = np.random.default_rng(0)
    level = rng.integers(0, 3, size=90)
    X, y = np.eye(3)[level], level + rng.normal(size=90)
    y[:15] += 50.0
    full, reduced = fit(X, y), fit(X[:, 1:], y)
    assert_allclose(full.predict(X), reduced.predict(X[:, 1:]), atol=1e-7)
    assert full.s_scale_ == pytest.approx(reduced.s_scale_, rel=1e-9)
    assert full.scale_ == pytest.approx(reduced.scale_, rel=1e-7)


def test_one_huge_leverage_point_does_not_hide_the_other_rows():
    X, y = data(60, 3)
    clean = fit(X[1:], y[1:])
    X[0, 0] = 1e15
    model = fit(X, y)
    assert_allclose(model.coef_, clean.coef_, atol=0.2)
    assert model.leverage_[0]


@pytest.mark.parametrize("unit", [1e-5, 1.0, 1e5])
@pytest.mark.parametrize("value", [1e20, 1e90, 1e101, 1e200, 1e300])
def test_the_size_of_a_code_for_missing_values_has_no_effect(value, unit):
    X, y = data(100, 5)
    y *= unit
    y[:30] = 1e6 * unit
    expected = fit(X, y)
    y[:30] = value
    model = fit(X, y)
    assert_allclose(model.coef_, expected.coef_, rtol=1e-9)
    assert_allclose(model.scale_, expected.scale_, rtol=1e-9)


def test_codes_for_missing_values_in_every_third_row():
    X, y = data(30_000, 3)
    y[::3] = 1e6
    expected = fit(X, y)
    y[::3] = 1e20
    model = fit(X, y)
    assert_allclose(model.coef_, expected.coef_, rtol=1e-7)
    assert_allclose(model.scale_, expected.scale_, rtol=1e-7)


@pytest.mark.parametrize("value", [1e20, 1e100, 1e200, 1e307])
def test_codes_for_missing_values_do_not_hide_the_other_rows(value):
    X, y = data(100, 2)
    y[:30] = 1e6
    model = fit(X, y)
    y[:30] = value
    assert_allclose(fit(X, y).coef_, model.coef_, rtol=1e-9)
    X[0, 0] = value
    if value < 1e140:
        assert_allclose(fit(X, y).coef_, model.coef_, rtol=1e-6)
    else:
        with pytest.raises(ValueError, match=r"X contains a value that is .* remove or clip"):
            fit(X, y)


def test_ties_and_integers():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 4, size=(80, 2))
    y = X @ [1, 2] + rng.integers(-1, 2, size=80)
    y[:10] += 30
    model = fit(X, y)
    assert np.isfinite(model.coef_).all()
    assert_allclose(model.coef_, [1, 2], atol=0.5)
    assert model.outliers_[:10].all()


def test_max_iter_is_reached_with_a_warning_and_the_best_coefficients():
    X, y = data(60, 3, outliers=20)
    with pytest.warns(
        ConvergenceWarning, match=r"relative gradient norm is .*max_iter"
    ) as found:
        model = MMRegressor(max_iter=1, tol=0.0).fit(X, y)
    assert found[0].filename == __file__
    assert model.n_iter_ == 1
    assert_allclose(model.coef_, fit(X, y).coef_, atol=0.5)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"efficiency": 0.4}, "efficiency"),
        ({"efficiency": 0.995}, "efficiency"),
        ({"breakdown": 0.0}, "breakdown"),
        ({"breakdown": 0.6}, "breakdown"),
        ({"scale": "mad"}, "scale"),
        ({"n_subsamples": -1}, "n_subsamples"),
        ({"max_iter": 0}, "max_iter"),
        ({"tol": -1.0}, "tol"),
        ({"breakdown": 1e-300}, r"at least 0\.1194"),
        ({"breakdown": 0.1}, r"breakdown=0\.1 .*efficiency=0\.95.*at least 0\.1194"),
        ({"breakdown": 0.05, "efficiency": 0.99}, r"at least 0\.0570"),
    ],
)
def test_bad_parameters_are_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        MMRegressor(**parameters).fit(*data())


def test_targets_and_weights_that_are_refused():
    X, y = data()
    with pytest.raises(ValueError, match=r"2; use MultiOutputRegressor"):
        MMRegressor().fit(X, np.column_stack([y, y]))
    with pytest.warns(DataConversionWarning):
        column = MMRegressor().fit(X, y[:, None])
    assert_array_equal(column.coef_, fit(X, y).coef_)
    with pytest.raises(ValueError, match=r"ample.weight"):
        MMRegressor().fit(X, y, sample_weight=np.zeros(60))
    with pytest.raises(ValueError, match="Negative values"):
        MMRegressor().fit(X, y, sample_weight=-np.ones(60))
    with pytest.raises(ValueError, match="NaN"):
        MMRegressor().fit(np.where(X > 2, np.nan, X), y)
    with pytest.raises(NotFittedError):
        MMRegressor().robust_distances(X)
    several = MultiOutputRegressor(MMRegressor()).fit(X, np.column_stack([y, -y]))
    assert_allclose(several.predict(X)[:, 1], -several.predict(X)[:, 0], atol=1e-6)


def test_a_failed_refit_leaves_the_model():
    X, y = data()
    model = fit(X, y)
    with pytest.raises(ValueError, match="y must have one column"):
        model.fit(X[:, :2], np.column_stack([y, y]))
    assert model.n_features_in_ == 3
    model.predict(X)


@pytest.mark.parametrize("shift", [0, 1e5])
@pytest.mark.parametrize("seed", range(4))
def test_leverage_points_that_agree_with_the_fit_do_not_prevent_convergence(seed, shift):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(150, 4))
    X[:40] += shift
    X[40:60] -= 7 * shift
    y = X @ np.ones(4) + rng.normal(size=150)
    y[60:70] += 1e6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = MMRegressor().fit(X, y)
    assert_allclose(model.coef_, 1.0, atol=0.6)
    assert model.outliers_[60:70].all()


@pytest.mark.parametrize("n", [1_000, 20_000])
def test_all_levels_of_a_factor_with_a_rare_level(n):
    rng = np.random.default_rng(0)
    level = np.concatenate([np.zeros(6, int), rng.integers(1, 6, size=n - 6)])
    X, y = np.eye(6)[level], 10.0 * level + rng.normal(size=n)
    full, reduced = fit(X, y), fit(X[:, :-1], y)
    assert_allclose(full.coef_ + full.intercept_, 10.0 * np.arange(6), atol=1.5)
    assert full.s_scale_ == pytest.approx(reduced.s_scale_, rel=1e-9)


def test_tall_data_whose_columns_differ_in_a_few_rows_only():
    rng = np.random.default_rng(0)
    n = 20_000
    first = (rng.random(n) < 0.3).astype(float)
    second = first.copy()
    rows = rng.choice(n, 8, replace=False)
    second[rows] = 1.0 - second[rows]
    X = np.column_stack([rng.normal(size=(n, 2)), first, second])
    y = X @ [1.0, 2.0, 3.0, 50.0] + rng.normal(size=n)
    assert_allclose(fit(X, y).coef_, [1.0, 2.0, 3.0, 50.0], atol=3.0)


@pytest.mark.parametrize("seed", range(4))
def test_a_majority_of_discrete_rows_that_is_fitted_exactly(seed):
    X = np.random.default_rng(seed).integers(0, 3, size=(60, 2))
    y = X.sum(axis=1).astype(float)
    y[:28] += 3
    with pytest.warns(UserWarning, match="28 of 60 rows"):
        model = MMRegressor().fit(X, y)
    assert_allclose(model.coef_, 1.0, rtol=1e-12)
    assert model.scale_ == 0.0


@pytest.mark.parametrize(("n", "p", "breakdown"), [(100, 3, 0.5), (40, 1, 0.5), (51, 2, 0.25)])
def test_as_many_outliers_as_an_exact_fit_allows(n, p, breakdown):
    rng = np.random.default_rng(0)
    n_off = int(breakdown * (n - p - 1))
    X = rng.normal(size=(n, p))
    y = X @ np.arange(1.0, p + 1) + 0.7
    y[:n_off] += 5 + rng.normal(size=n_off)
    with pytest.warns(UserWarning, match=f"{n_off} of {n} rows"):
        model = MMRegressor(breakdown=breakdown).fit(X, y)
    assert model.scale_ == model.s_scale_ == 0.0
    assert_allclose(model.coef_, np.arange(1.0, p + 1), rtol=1e-10)


@pytest.mark.parametrize("tol", [0.0, 1e-16])
def test_a_tolerance_below_rounding_ends_at_rounding(tol):
    X, y = data()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = MMRegressor(tol=tol).fit(X, y)
    assert model.n_iter_ < 30
    assert_allclose(model.coef_, fit(X, y).coef_, rtol=1e-6)


def test_many_coefficients_per_row_converge():
    X = np.random.default_rng(0).normal(size=(600, 100))
    y = X[:, 0] + np.random.default_rng(1).normal(size=600)
    assert MMRegressor(n_subsamples=50).fit(X, y).n_iter_ < 50


# Large and sparse data ------------------------------------------------------------------


@pytest.fixture(scope="module")
def tall():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 5)) * [1.0, 10.0, 0.1, 1.0, 1.0]
    X[:, 4] = 0.0
    X[5_000:5_012, 4] = 1.0
    y = X @ [1.0, 0.1, 10.0, 0.0, 30.0] + rng.normal(size=20_000)
    X[:2_000, 0], y[:2_000] = 10.0, -50.0
    return X, y


def test_tall_data_are_fitted_from_a_sample_of_rows(tall):
    X, y = tall
    model = MMRegressor().fit(X, y)
    r_s, r = y - X @ model.s_coef_ - model.s_intercept_, y - model.predict(X)
    Z = np.column_stack([np.ones(len(y)), X / X.std(axis=0)])
    for residual, sigma, c in ((r_s, model.s_scale_, C_S), (r, model.scale_, C_M)):
        u = psi(residual / sigma, c)
        assert np.abs(u @ Z).max() < 1e-6 * np.sqrt(u @ u) * np.sqrt(len(y))
    assert (rho(r_s / model.s_scale_, C_S)).sum() == pytest.approx(0.5 * (len(y) - 6), rel=1e-9)
    # The last feature, an indicator of 12 rows, is constant in most samples.
    assert model.coef_[4] == pytest.approx(30.0, abs=3.0)
    assert model.outliers_[:2_000].all()
    assert model.leverage_[:2_000].all()
    for other in (MMRegressor(random_state=1), MMRegressor(n_subsamples=0)):
        assert_allclose(other.fit(X, y).coef_, model.coef_, atol=1e-6)
    order = np.random.default_rng(1).permutation(len(y))
    assert_allclose(MMRegressor().fit(X[order], y[order]).coef_, model.coef_, atol=1e-6)


@pytest.mark.parametrize("n", [200, 6_000])
def test_sparse_features_give_the_fit_of_dense_ones(n):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 8)) * (rng.random((n, 8)) < 0.4)
    y = X @ np.arange(8.0) + rng.normal(size=n)
    y[: n // 4] += 30.0
    dense, csr = fit(X, y), fit(sparse.csr_array(X), y)
    assert_allclose(csr.coef_, dense.coef_, atol=1e-6)
    assert csr.scale_ == pytest.approx(dense.scale_, rel=1e-6)
    assert_allclose(csr.predict(sparse.csr_matrix(X)), dense.predict(X), atol=1e-5)
    assert_array_equal(csr.outliers_, dense.outliers_)


def test_float32_features(tall):
    X, y = data(200, 3, outliers=40)
    model, single = fit(X, y), fit(X.astype(np.float32), y)
    assert single.coef_.dtype == np.float32
    assert single.s_coef_.dtype == np.float32
    assert isinstance(single.intercept_, float)
    assert_allclose(single.coef_, model.coef_, atol=1e-4)
    assert single.weights_.dtype == np.float64
    X, y = tall
    assert_allclose(
        MMRegressor().fit(X.astype(np.float32), y).coef_,
        MMRegressor().fit(X, y).coef_,
        atol=1e-3,
    )


def test_scales_of_float32_features_are_those_of_the_rounded_coefficients():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3)).astype(np.float32)
    y = 1e6 * X.astype(float).sum(axis=1) + rng.normal(size=80)
    model = fit(X, y)
    r = y - X.astype(float) @ model.s_coef_.astype(float) - model.s_intercept_
    equation = rho(r / model.s_scale_, C_S).sum()
    assert equation == pytest.approx(0.5 * 76, rel=1e-8)
    dependent = np.column_stack([X, X[:, 0] + X[:, 1]])
    distances = fit(dependent, y).robust_distances(dependent)
    assert_allclose(distances, model.robust_distances(X), rtol=1e-6)
    # In an exact fit, rows of zero weight are not outliers either.
    y = X.astype(float) @ [0.3, 0.7, 1.0] + 0.1
    assert not fit(X, y, np.arange(80) % 2).outliers_.any()


def test_fits_survive_pickling_and_cloning():
    X, y = data()
    model = pickle.loads(pickle.dumps(fit(X, y)))
    assert_array_equal(model.robust_distances(X), fit(X, y).robust_distances(X))
    assert clone(model).get_params() == model.get_params()


@needs_callbacks
def test_the_estimates_are_tasks_of_the_callbacks():
    X, y = data()
    recorder = Recorder()
    model = MMRegressor().set_callbacks(recorder).fit(X, y)
    assert_array_equal(model.coef_, fit(X, y).coef_)
    assert [task.task_name for task in recorder.begun[1:]] == ["S-estimate", "M-estimate"]
    assert len(recorder.ended) == 3
    stopped = MMRegressor().set_callbacks(Recorder(stop_after=1)).fit(X, y)
    assert_allclose(stopped.coef_, stopped.s_coef_, rtol=1e-14)


# Robust distances -----------------------------------------------------------------------


def test_clean_rows_rarely_are_leverage_points():
    X, y = data(2_000, 4)
    model = fit(X, y)
    assert 0.01 < model.leverage_.mean() < 0.045
    distances = model.robust_distances(X)
    assert np.median(distances**2) == pytest.approx(chi2.ppf(0.5, 4), rel=0.01)
    assert_array_equal(model.leverage_, distances > np.sqrt(chi2.ppf(0.975, 4)))
    moved = X * [1e6, 1.0, 1e-6, -1.0] + [1e3, -5.0, 0.0, 2.0]
    assert_allclose(fit(moved, y).robust_distances(moved), distances, rtol=1e-6)


@pytest.mark.parametrize("d", [2, 10, 20])
def test_a_cluster_does_not_mask_itself(d):
    rng = np.random.default_rng(d)
    X, y = rng.normal(size=(300, d)), rng.normal(size=300)
    X[:45] = 0.1 * rng.normal(size=(45, d)) + 4.0
    y[:45] += 30.0
    model = fit(X, y)
    assert model.leverage_[:45].all()
    assert model.leverage_[45:].mean() < 0.15


def test_indicators_have_no_distance():
    X, y = data(80, 2)
    rare = (np.arange(80) % 5 == 0).astype(float)
    model, with_indicator = fit(X, y), fit(np.column_stack([X, rare]), y)
    distances = with_indicator.robust_distances(np.column_stack([X, rare]))
    assert_allclose(distances, model.robust_distances(X), rtol=0.2)
    only = fit(rare[:, None], y)
    assert not only.leverage_.any()
    with pytest.raises(ValueError, match="more than half of the values of each feature"):
        only.robust_distances(rare[:, None])


def test_half_of_the_rows_on_a_line_have_no_distance():
    X, y = data(80, 2)
    X[:60, 1] = X[:60, 0]
    model = fit(X, y)
    assert not model.leverage_.any()
    with pytest.raises(ValueError, match="hyperplane"):
        model.robust_distances(X)
