"""SmoothL1Regressor on degenerate data: exact fits, constants, dependent columns, ties."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import QuantileRegressor

from problems import (
    DEGENERATE_MODES,
    EPS,
    LOSSES,
    OF_SCALE,
    WEIGHT,
    X,
    Y,
    assert_sane,
    documented_objective,
    grid,
    in_modes,
    plain_and_weighted,
    residual,
    weighted_mad,
)
from skrobust import SmoothL1Regressor


@plain_and_weighted
@pytest.mark.parametrize("shift", [0.0, 1e7])
@pytest.mark.parametrize("y_shift", [0.0, 1e9])
@in_modes(DEGENERATE_MODES)
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
        # The scale is the rounding floor, which depends on rounding errors of y − ȳ, y and X.
        stored = EPS * np.abs(X_far).max(axis=0) @ np.abs(est.coef_)
        assert est.scale_ <= 1e3 * EPS * np.ptp(y) + 4 * EPS * np.abs(y).max() + 4 * stored


@plain_and_weighted
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("value", [0.0, 0.1, -5.0, 1e9, 1e-200])
@in_modes(DEGENERATE_MODES)
def test_constant_y_is_its_value(mode, value, intercept, weight):
    X_with_one = X if intercept else np.hstack([X, np.ones((len(Y), 1))])
    est = SmoothL1Regressor(fit_intercept=intercept, **mode)
    est.fit(X_with_one, np.full(len(Y), value), weight)
    assert_sane(est)
    assert_allclose(est.predict(X_with_one), value, rtol=1e-12)
    assert_allclose(est.coef_[:3], 0, atol=1e-12 * abs(value))
    # A fixed threshold may be below the rounding error of y, but an estimated one must not be.
    assert est.beta_ <= 100 * EPS * abs(value) or not est.outliers_.any()
    assert mode not in OF_SCALE or not est.outliers_.any()


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -1e9, 1e-9])
@pytest.mark.parametrize("to_format", [np.asarray, sparse.csr_array], ids=["dense", "csr"])
@pytest.mark.parametrize("alpha", [0.0, 0.1])
@in_modes(DEGENERATE_MODES)
def test_constant_column_has_no_coefficient(mode, alpha, to_format, value):
    more = np.insert(X, 1, value, axis=1)
    est = SmoothL1Regressor(alpha=alpha, **mode).fit(to_format(more), Y, WEIGHT)
    base = SmoothL1Regressor(alpha=alpha, **mode).fit(X, Y, WEIGHT)
    assert est.coef_[1] == 0
    assert_allclose(np.delete(est.coef_, 1), base.coef_, rtol=1e-7)
    assert_allclose(est.intercept_, base.intercept_, rtol=1e-7)
    assert_allclose(est.scale_, base.scale_, rtol=1e-7)


@in_modes(DEGENERATE_MODES)
def test_constant_column_is_the_intercept_where_there_is_none(mode):
    est = SmoothL1Regressor(fit_intercept=False, **mode).fit(np.insert(X, 0, 2.0, axis=1), Y)
    base = SmoothL1Regressor(**mode).fit(X, Y)
    assert_allclose(est.coef_[1:], base.coef_, rtol=1e-7)
    assert_allclose(2 * est.coef_[0], base.intercept_, rtol=1e-7)


@pytest.mark.parametrize("unit", [1.0, 3.0, -1e6, 1e-7])
@pytest.mark.parametrize("intercept", [True, False])
@plain_and_weighted
@in_modes(DEGENERATE_MODES)
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
    """Return a rank-deficient X whose columns have different units and means."""
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
@in_modes(DEGENERATE_MODES)
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
    if mode != {"beta": 1e-6}:  # at this threshold the minimiser may not be unique
        size = np.abs(standard).max()
        assert_allclose(repeated.coef_ * deviation, standard, rtol=0, atol=1e-7 * size)


@pytest.mark.parametrize("to_format", [np.asarray, sparse.csr_array], ids=["dense", "csr"])
@pytest.mark.parametrize("alpha", [0.0, 0.1])
@in_modes(DEGENERATE_MODES)
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
@in_modes(DEGENERATE_MODES)
def test_one_row_is_fitted_by_the_intercept(mode, y, alpha):
    est = SmoothL1Regressor(alpha=alpha, **mode).fit([[1.0, 20.0]], [y])
    assert_array_equal(est.coef_, 0)
    assert_allclose(est.intercept_, y, rtol=1e-14)
    assert not est.outliers_.any()
    assert_sane(est)


@in_modes(DEGENERATE_MODES)
def test_one_row_without_an_intercept_is_fitted_in_columns_divided_by_their_size(mode):
    est = SmoothL1Regressor(fit_intercept=False, **mode).fit([[1.0, -20.0]], [3.0])
    assert_allclose(est.coef_ * [1.0, -20.0], 1.5, rtol=1e-9)
    assert not est.outliers_.any()
    assert_sane(est)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("shape", [(10, 10), (10, 30), (2, 3)])
@in_modes(DEGENERATE_MODES)
def test_wide_X_without_a_penalty_is_fitted_exactly(mode, shape, intercept):
    rng = np.random.default_rng(4)
    X = rng.normal(size=shape) * np.geomspace(1e-3, 1e3, shape[1])
    y = rng.normal(size=shape[0]) + 5
    est = SmoothL1Regressor(fit_intercept=intercept, **mode).fit(X, y)
    assert_allclose(est.predict(X), y, rtol=1e-9)
    assert not est.outliers_.any()
    assert_sane(est)


@plain_and_weighted
@pytest.mark.parametrize("y_shift", [0.0, 1e9])
@in_modes([*OF_SCALE, {"beta": 1e-9}, {"beta": 1e-12}])
def test_line_through_four_fifths_of_the_rows_is_recovered(mode, y_shift, weight):
    base = grid(X)
    y = base @ [2.0, -1.0, 0.5] + y_shift
    y_line = y.copy()
    off = np.arange(len(Y)) % 5 == 0
    y[off] += grid(10 + 5 * np.random.default_rng(5).normal(size=off.sum()))
    est = SmoothL1Regressor(**mode).fit(base, y, weight)
    assert_sane(est)
    # Rows on the line have residuals as large as rounding errors, including those of y.
    held = 1e-9 + 4 * EPS * y_shift
    assert_allclose((est.coef_ - [2.0, -1.0, 0.5]) * base.std(axis=0), 0, atol=held)
    assert_allclose(est.intercept_ + est.coef_ @ base[0], y_line[0], rtol=0, atol=4 * held)
    if mode in OF_SCALE:
        assert_array_equal(est.outliers_, off)


@in_modes(OF_SCALE)
def test_rows_on_a_line_to_rounding_are_no_outliers_however_large(mode):
    # The rounding errors of y differ between rows by factors of up to 1e9. The scale is their
    # median.
    x = np.geomspace(1e-3, 1e6, 200) * np.where(np.arange(200) % 2, 1.0, -1.0)
    y = 1.1 * x + 0.3
    off = np.arange(200) % 10 == 0
    y[off] += 1e3
    est = SmoothL1Regressor(**mode).fit(x[:, None], y)
    assert_allclose(est.coef_, 1.1, rtol=1e-12)
    assert_array_equal(est.outliers_, off)


@pytest.mark.parametrize("kind", ["counts", "zero-inflated", "binary", "rounded"])
@pytest.mark.parametrize("intercept", [True, False])
@in_modes(DEGENERATE_MODES)
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
        # The scale is at least the rounding error of y − ȳ, even for rows in which y and the
        # fit are zero.
        assert est.scale_ > 16 * EPS * np.abs(y - y.mean()).min()
    r = residual(est, X, y)
    assert_allclose(est.objective_, documented_objective(est, X, y), rtol=1e-9)
    if mode in OF_SCALE and est.scale != "concomitant":
        assert_allclose(est.scale_, weighted_mad(r), rtol=1e-7, atol=1e-13)
    if est.beta_ < 1e-5:
        lad = QuantileRegressor(quantile=0.5, alpha=0, fit_intercept=intercept).fit(X, y)
        least = np.abs(residual(lad, X, y)).mean()
        assert np.abs(r).mean() <= least + est.beta_ / 2 + 1e-12


@pytest.mark.slow
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
@in_modes([*OF_SCALE, {"beta": 1e-7}])
def test_polynomial_through_nine_tenths_of_the_rows_is_recovered(mode, seed):
    # X has a condition number of 1e6, and most residuals are rounding errors.
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


@in_modes(OF_SCALE)
def test_a_small_group_is_fitted_although_most_rows_are_fitted_exactly(mode):
    # The scale of the least-squares residuals is already zero. The fit to the second group is
    # then far from the median of the group, and all absolute residuals of the group exceed the
    # threshold.
    X = np.eye(2)[[0] * 6 + [1] * 3]
    y = np.array([4.0] * 6 + [1.0, 1.0, 6.45])
    est = SmoothL1Regressor(**mode).fit(X, y)
    assert_allclose(est.predict(X), [4.0] * 6 + [1.0] * 3, rtol=1e-12)
    assert_array_equal(est.outliers_, y > 5)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("mode", [{}, {"beta": 2.0, "scale": "mad"}, {"scale": "concomitant"}])
def test_small_penalty_changes_little_where_most_of_y_is_zero(mode, intercept, loss):
    # The scale of y is zero, but that of the residuals is not.
    X = np.random.default_rng(7).normal(size=(40, 2))
    y = np.where(np.arange(40) < 34, 0.0, 5.0)
    X[:, 0] += y
    params = {"loss": loss, "fit_intercept": intercept, **mode}
    free = SmoothL1Regressor(**params).fit(X, y)
    est = SmoothL1Regressor(alpha=1e-9, **params).fit(X, y)
    assert free.scale_ > 0.05
    assert_allclose(est.coef_, free.coef_, rtol=1e-6)
    assert_allclose(est.scale_, free.scale_, rtol=1e-6)


def test_the_scale_is_at_its_floor_where_most_of_y_is_zero():
    X = np.random.default_rng(7).normal(size=(100, 2))
    y = np.where(np.arange(100) < 90, 0.0, 5.0)
    est = SmoothL1Regressor().fit(X, y)
    assert 0 < est.scale_ < 1e-12
    assert_array_equal(est.outliers_, y > 0)
    assert_allclose(est.predict(X), 0, atol=1e-12)


@pytest.mark.parametrize("value", [1e15, 1e20, 3.4e38, -1e50])
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"scale": "concomitant"},
        {"solver": "newton"},
        {"fit_intercept": False},
        {"loss": "huber", "alpha": 0.1},
        {"loss": "huber", "scale": "mad", "alpha": 0.05, "l1_ratio": 1},
        {"beta_schedule": "geometric"},
    ],
    ids=str,
)
def test_the_size_of_a_sentinel_value_in_y_has_no_effect(parameters, value):
    # A residual beyond the threshold contributes only its sign to the gradient. The rounding
    # error of the sentinel values must not be attributed to the residuals of the other rows.
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 5))
    y = X @ np.arange(1.0, 6) + 5 + rng.normal(size=300)
    y[:20] = np.copysign(1e6, value)
    expected = SmoothL1Regressor(**parameters).fit(X, y)
    y[:20] = value
    model = SmoothL1Regressor(**parameters).fit(X, y)
    assert_allclose(model.coef_, expected.coef_, rtol=1e-7)
    assert_allclose(model.scale_, expected.scale_, rtol=1e-7)
    assert_array_equal(model.outliers_, expected.outliers_)


@pytest.mark.parametrize("seed", range(12))
def test_a_fit_with_a_sentinel_value_and_few_rows_is_right_or_warns(seed):
    rng = np.random.default_rng(seed)
    p = int(rng.integers(3, 30))
    X = rng.normal(size=(5 * p // 2 + 2, p))
    y = X @ rng.normal(size=p) + rng.standard_t(3, size=len(X))
    y[0] = 1e7
    expected = SmoothL1Regressor().fit(X, y)
    y[0] = 1e20
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model = SmoothL1Regressor().fit(X, y)
    if not caught:
        assert_allclose(model.coef_, expected.coef_, atol=1e-5 * expected.scale_)


@pytest.mark.parametrize("n_other", [1, 3])
def test_nearly_all_of_many_targets_are_equal(n_other):
    # The sample of rows from which the size of y is computed contains only equal values.
    X = np.random.default_rng(0).normal(size=(100_000, 2))
    y = np.zeros(100_000)
    y[7 : 7 + n_other] = 1.0
    model = SmoothL1Regressor().fit(X, y)
    assert_array_equal(model.outliers_, y > 0)
    assert 0 < model.scale_ < 1e-15


@pytest.mark.parametrize("n", [30_000, 300_000])
def test_sentinel_values_in_every_third_row(n):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 10))
    y = X @ np.arange(1.0, 11) + rng.normal(size=n)
    sign = np.where(np.arange(n) % 2, -1.0, 1.0)
    y[::3] = 1e6 * sign[::3]
    expected = SmoothL1Regressor().fit(X, y)
    y[::3] = 1e20 * sign[::3]
    model = SmoothL1Regressor().fit(X, y)
    assert_allclose(model.coef_, expected.coef_, rtol=1e-7)
    assert_allclose(model.scale_, expected.scale_, rtol=1e-7)


def test_every_third_value_of_y_may_be_an_outlier():
    # The location of y is computed from a sample. If the sampled rows were equally spaced, all
    # of them could be outliers.
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30_000, 3))
    y = X @ [1.0, 2.0, 3.0] + 5 + rng.normal(size=30_000)
    y[::3] = 1e20
    order = rng.permutation(30_000)
    est = SmoothL1Regressor(1.0).fit(X, y)
    other = SmoothL1Regressor(1.0).fit(X[order], y[order])
    assert_allclose(est.coef_, other.coef_, rtol=1e-10)
    assert_allclose(est.coef_, [1, 2, 3], atol=0.05)
