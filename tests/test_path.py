"""Each point of smooth_l1_path equals a single fit and takes about one pass over X."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, Ridge

import skrobust._grid
from block_engine import BlockEngine
from skrobust import SmoothL1Regressor, _solvers, smooth_l1_path

BETAS = np.geomspace(0.1, 30, 8)
MODES = [
    {},
    {"loss": "huber", "alpha": 0.1},
    {"alpha": 0.1},
    {"scale": "mad"},
    {"scale": "mad", "loss": "huber", "alpha": 0.1},
    {"scale": "mad", "alpha": 0.1},
    {"scale": "concomitant"},
    {"scale": "concomitant", "loss": "huber", "alpha": 0.1},
]
KINDS = ["normal", "offsets", "leverage", "rare level", "heavy tails", "dependent", "constant"]


def make(kind="normal", n=400, p=6, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p))
    if kind == "offsets":
        X = X * np.geomspace(1e-6, 1e6, p) + 1e6
    elif kind == "leverage":
        X[:5] *= 1e4
    elif kind == "rare level":
        X[:, 0] = 0.0
        X[:3, 0] = 1.0
    elif kind == "heavy tails":
        X = rng.standard_t(1.2, size=(n, p))
    elif kind == "dependent":
        X[:, -1] = 2 * X[:, 0] + 1
    elif kind == "constant":
        X[:, 1] = 7.0
    slopes = np.arange(p) / X.std(axis=0).clip(1e-300)
    y = X @ np.where(np.ptp(X, axis=0) > 0, slopes, 0.0) + rng.standard_t(2, n)
    y[::10] += 50
    return X, y


def grid_of(mode):
    return 1.0 + BETAS if mode.get("scale") == "concomitant" else BETAS


def assert_each_point_is_its_own_fit(path, X, y, name="beta", rtol=1e-7, weight=None, **mode):
    for i, value in enumerate(path.grid):
        alone = SmoothL1Regressor(**{name: value} | mode).fit(X, y, sample_weight=weight)
        exact = 1e-12 * np.abs(y).mean(axis=0)
        assert_allclose(path.objectives[..., i], alone.objective_, rtol=1e-7, atol=exact)
        size = np.abs(alone.coef_).max() + 1e-300
        along = path.coefs[..., i]
        assert_allclose(along, alone.coef_, rtol=rtol, atol=rtol * size)
        assert along.dtype == alone.coef_.dtype
        here = X @ along.T + path.intercepts[..., i]
        there = X @ alone.coef_.T + alone.intercept_
        assert_allclose(here, there, rtol=rtol, atol=rtol * np.abs(y).max())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_each_point_along_betas_is_the_fit_on_its_own(kind, mode):
    X, y = make(kind)
    path = smooth_l1_path(X, y, betas=grid_of(mode), **mode)
    assert_array_equal(path.grid, np.sort(grid_of(mode))[::-1])
    assert_each_point_is_its_own_fit(path, X, y, rtol=1e-6, **mode)


@pytest.mark.parametrize("mode", [{}, {"beta": 2.0}, {"beta": 2.0, "loss": "huber"}])
@pytest.mark.parametrize("kind", KINDS)
def test_each_point_along_alphas_is_the_fit_on_its_own(kind, mode):
    X, y = make(kind)
    alphas = [0.0, 10.0, 1e-3, 0.1]
    path = smooth_l1_path(X, y, alphas=alphas, **mode)
    assert_array_equal(path.grid, [10.0, 0.1, 1e-3, 0.0])
    assert_each_point_is_its_own_fit(path, X, y, "alpha", rtol=1e-6, **mode)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES[:3])
@pytest.mark.parametrize("shape", [(40, 60), (40, 39), (60, 40), (3, 2), (1, 1), (5, 1)])
def test_few_rows_where_the_minimiser_may_not_be_unique(shape, mode):
    X, y = make(n=shape[0], p=shape[1])
    path = smooth_l1_path(X, y, betas=BETAS, **mode)
    for beta, value in zip(path.grid, path.objectives, strict=True):
        alone = SmoothL1Regressor(beta, **mode).fit(X, y).objective_
        assert_allclose(value, alone, rtol=1e-9, atol=1e-12 * np.abs(y).mean())


@pytest.mark.parametrize("mode", [{}, {"loss": "huber", "alpha": 1.0}, {"scale": "mad"}])
@pytest.mark.parametrize("form", [np.asarray, np.asfortranarray, sparse.csr_array])
def test_forms_of_x(form, mode):
    X, y = make()
    X[X < 0.5] = 0.0
    path = smooth_l1_path(form(X), y, betas=BETAS, **mode)
    assert_each_point_is_its_own_fit(path, X, y, rtol=1e-6, **mode)


def test_wide_sparse_x_is_fitted_point_by_point():
    rng = np.random.default_rng(0)
    X = sparse.random_array((600, 250), density=0.05, rng=rng, format="csr")
    y = X @ rng.normal(size=250) + 0.1 * rng.standard_t(2, size=600)
    path = smooth_l1_path(X, y, betas=[0.1, 1.0], alpha=0.01, loss="huber")
    assert_each_point_is_its_own_fit(path, X, y, rtol=1e-6, alpha=0.01, loss="huber")


def test_float32_is_kept_and_as_accurate_as_a_fit():
    X, y = make()
    X = X.astype(np.float32)
    path = smooth_l1_path(X, y, betas=BETAS)
    assert path.coefs.dtype == np.float32
    assert path.intercepts.dtype == np.float64
    assert_each_point_is_its_own_fit(path, X, y, rtol=1e-6)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_frames(frame):
    X, y = make()
    columns = {f"x{j}": column for j, column in enumerate(X.T)}
    path = smooth_l1_path(frame(columns), y, betas=BETAS)
    assert_array_equal(path.coefs, smooth_l1_path(np.asfortranarray(X), y, betas=BETAS).coefs)


def test_tall_x_needs_no_sample(monkeypatch):
    monkeypatch.setattr(_solvers, "TALL_MIN_ELEMENTS", 0)
    X, y = make(n=6000, p=5)
    path = smooth_l1_path(X, y, betas=BETAS)
    assert_each_point_is_its_own_fit(path, X, y)


def test_a_point_costs_about_one_pass():
    X, y = make(n=2000, p=10)
    path = smooth_l1_path(X, y, betas=20)
    assert path.n_iters.sum() <= 22
    # A path over a single threshold takes no more passes than a single fit.
    assert smooth_l1_path(X, y, betas=[1e-2]).n_iters[0] <= 20


def test_targets_have_paths_of_their_own():
    X, y = make()
    targets = np.column_stack([y, np.sin(y), 1e6 * y**2])
    path = smooth_l1_path(X, targets, betas=BETAS, scale="mad")
    assert path.coefs.shape == (3, 6, len(BETAS))
    for field in path[2:]:
        assert field.shape == (3, len(BETAS))
    for j, target in enumerate(targets.T):
        alone = smooth_l1_path(X, target, betas=BETAS, scale="mad")
        assert_allclose(path.coefs[j], alone.coefs, rtol=1e-12)
        assert_allclose(path.objectives[j], alone.objectives, rtol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_integer_weights_are_repeated_rows_and_zeros_are_absent_rows(mode):
    X, y = make()
    weight = np.random.default_rng(1).integers(0, 4, len(y))
    many = weight.copy()
    many[100:] = 0
    for w in (weight, many):
        here = smooth_l1_path(X, y, betas=grid_of(mode), sample_weight=w, **mode)
        rows = np.repeat(np.arange(len(y)), w)
        there = smooth_l1_path(X[rows], y[rows], betas=grid_of(mode), **mode)
        assert_allclose(here.coefs, there.coefs, rtol=1e-7, atol=1e-7)
        assert_allclose(here.objectives, there.objectives, rtol=1e-7)


def test_without_an_intercept():
    X, y = make("offsets")
    path = smooth_l1_path(X, y, betas=BETAS, fit_intercept=False)
    assert_array_equal(path.intercepts, 0.0)
    assert_each_point_is_its_own_fit(path, X, y, rtol=1e-6, fit_intercept=False)


def test_features_that_are_all_zero():
    X, y = np.zeros((51, 2)), make(n=51)[1]
    for fit_intercept in (True, False):
        path = smooth_l1_path(X, y, betas=BETAS, fit_intercept=fit_intercept)
        assert_array_equal(path.coefs, 0.0)
        mode = {"fit_intercept": fit_intercept}
        assert_each_point_is_its_own_fit(path, X, y, **mode)


@pytest.mark.parametrize("scale", [None, "mad", "concomitant"])
def test_a_number_of_betas_is_spread_around_that_of_auto(scale):
    X, y = make()
    auto = SmoothL1Regressor(scale=scale).fit(X, y)
    unit = 1.0 if scale is None else auto.scale_
    for n in (1, 2, 7, 20):
        grid = smooth_l1_path(X, y, betas=n, scale=scale).grid
        assert grid.shape == (n,)
        assert np.abs(grid * unit / auto.beta_ - 1).min() < 1e-7
        lowest = 1.0 if scale == "concomitant" else 0.0
        excess = (grid - lowest) / (auto.beta_ / unit - lowest)
        assert 0.03 < excess.min() <= 1 <= excess.max() < 30
    assert_array_equal(smooth_l1_path(X, y, scale=scale).grid, grid)


@pytest.mark.parametrize("kind", ["exact", "mostly zero", "constant", "wide"])
def test_a_number_of_betas_where_the_residuals_have_no_scale(kind):
    X, y = make(n=40, p=60 if kind == "wide" else 6)
    y = {
        "exact": X @ np.ones(X.shape[1]),
        "mostly zero": np.where(np.arange(40) % 3, 0.0, y),
        "constant": np.full(40, 3.0),
        "wide": y,
    }[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        grid = smooth_l1_path(X, y, betas=5).grid
    size = np.abs(y - np.median(y)).mean() or 1.0
    assert np.all((grid > 1e-3 * size) & (grid < 1e3 * size))


def test_the_ends_are_least_squares_and_ridge():
    X, y = make()
    path = smooth_l1_path(X, y, betas=[1e6], loss="huber")
    assert_allclose(path.coefs[:, 0], LinearRegression().fit(X, y).coef_, rtol=1e-8)
    path = smooth_l1_path(X, y, alphas=[0.5], beta=1e6, loss="huber")
    assert_allclose(path.coefs[:, 0], Ridge(0.5 * len(y)).fit(X, y).coef_, rtol=1e-8)


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_outliers_of_any_size_and_units_of_y(unit):
    X, y = make()
    y[::7] = 1e12
    path = smooth_l1_path(X, unit * y, betas=unit * BETAS)
    assert_each_point_is_its_own_fit(path, X, unit * y, rtol=1e-5)


def test_thresholds_far_below_the_residuals():
    X, y = make(n=1000)
    path = smooth_l1_path(X, y, betas=np.geomspace(1e-6, 1, 13))
    assert_each_point_is_its_own_fit(path, X, y, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"betas": [1.0], "alphas": [0.0]}, "Only one of betas and alphas can be given"),
        ({"betas": []}, "betas must contain at least one value"),
        ({"alphas": []}, "alphas must contain at least one value"),
        ({"betas": [1.0, -2.0]}, r"betas\[1\] must be a finite number > 0, got -2.0"),
        ({"betas": [0]}, r"betas\[0\] must be a finite number > 0, got 0"),
        ({"betas": [1.0, np.nan]}, r"betas\[1\] .* got nan"),
        ({"betas": [1.0, np.inf]}, r"betas\[1\] .* got inf"),
        ({"betas": ["auto"]}, r"betas\[0\] .* got 'auto'"),
        ({"betas": np.ones((2, 2))}, r"betas\[0\] must be a finite number"),
        ({"betas": 0}, "'betas' parameter"),
        ({"betas": 2.5}, "'betas' parameter"),
        ({"alphas": [0.1, -1]}, r"alphas\[1\] must be a finite number ≥ 0, got -1"),
        ({"alphas": [None]}, r"alphas\[0\] .* got None"),
        ({"alphas": [0.1], "beta": -1.0}, "'beta' parameter"),
        ({"betas": [2.0, 0.5], "scale": "concomitant"}, "above 1"),
    ],
)
def test_bad_grids_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        smooth_l1_path(*make(), **options)


def test_bad_data_are_refused():
    X, y = make()
    with pytest.raises(ValueError, match=r"(?s)NaN.*smooth_l1_path does not accept"):
        smooth_l1_path(np.where(X[3, 2] == X, np.nan, X), y)
    with pytest.raises(ValueError, match="zero"):
        smooth_l1_path(X, y, sample_weight=0 * y)
    with pytest.raises(TypeError, match="y must be dense, got a sparse matrix"):
        smooth_l1_path(X, sparse.csr_array(y[:, None]))


def test_one_warning_says_how_many_did_not_converge():
    X, y = make()
    with pytest.warns(ConvergenceWarning, match=r"2 of 3 fits of smooth_l1_path") as caught:
        smooth_l1_path(X, y, betas=[1e9, 1e-2, 1e-3], max_iter=1)
    assert len(caught) == 1
    assert caught[0].filename == __file__


@pytest.mark.parametrize("kind", ["C", "F", "csr"])
def test_a_column_that_is_constant_on_the_rows_of_positive_weight_has_no_coefficient(kind):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3))
    X[:, 0] = np.arange(300) < 60
    y, weight = rng.standard_t(2, size=300), np.ones(300)
    weight[:100] = 0
    A = sparse.csr_array(X) if kind == "csr" else np.asarray(X, order=kind)
    assert smooth_l1_path(A, y, betas=[1.0], sample_weight=weight).coefs[0] == 0


def test_a_path_without_any_coordinate_is_zero():
    path = smooth_l1_path(
        np.zeros((3, 1)), np.arange(3.0), fit_intercept=False, alpha=10.0, betas=[1.0]
    )
    assert_array_equal(path.coefs, 0.0)


def test_a_path_on_blocks_of_rows_is_that_of_an_array(monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    y = X.sum(axis=1) + rng.standard_t(2, size=200)
    weight = rng.uniform(0.1, 1.0, size=200)
    expected = smooth_l1_path(X, y, betas=[0.1, 1.0, 10.0], sample_weight=weight)
    monkeypatch.setattr(skrobust._grid, "as_engine", BlockEngine)
    path = smooth_l1_path(X, y, betas=[0.1, 1.0, 10.0], sample_weight=weight)
    assert_allclose(path.coefs, expected.coefs, rtol=1e-9)
