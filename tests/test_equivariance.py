"""Fits do not depend on units or the form of X, and weights are equivalent to repeated rows.

`Fit` transforms the solution of a changed problem back to the original units, so that every
test compares two fits in the same units. The data lie on a dyadic grid, so that adding 1e8 or
1e9 is exact and all differences are due to the algorithm.
"""

import functools
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from problems import grid
from skrobust import SmoothL1Regressor

# test_properties.py tests the same properties on problems that hypothesis generates.
pytestmark = pytest.mark.slow

N, P = 120, 4

# Each mode is a set of parameters that exercises one branch of the code. The values of alpha
# refer to the unscaled data X and Y, which are defined below.
PLAIN = {
    "beta": {"beta": 1.0},
    "beta=1e-2": {"beta": 1e-2},
    "beta=1e-6": {"beta": 1e-6},
    "beta=1e6": {"beta": 1e6},
    "beta-huber": {"beta": 0.5, "loss": "huber"},
    "auto": {},
    "auto-huber": {"loss": "huber"},
    "mad": {"beta": 0.7, "scale": "mad"},
    "concomitant": {"scale": "concomitant"},
    "concomitant-huber": {"beta": 1.35, "scale": "concomitant", "loss": "huber"},
    "stages": {"beta": 0.5, "beta_schedule": [50, 10, 2, 1]},
    "auto-geometric": {"beta_schedule": "geometric"},
    "concomitant-linear": {"scale": "concomitant", "beta_schedule": "linear"},
}
PENALISED = {
    "ridge": {"beta": 1.0, "loss": "huber", "alpha": 0.3},
    "ridge-auto": {"loss": "huber", "alpha": 0.3},
    "ridge-mad-stages": {"beta": 2.0, "scale": "mad", "loss": "huber", "alpha": 0.05}
    | {"beta_schedule": [8, 2, 1]},
    "ridge-smooth": {"beta": 1.0, "alpha": 0.3},
    "ridge-smooth-auto": {"alpha": 0.3},
    "ridge-concomitant": {"scale": "concomitant", "loss": "huber", "alpha": 0.3},
}
MODES = PLAIN | PENALISED
FEW = ["beta", "beta=1e-2", "auto", "mad", "concomitant", "ridge"]


def make(n=N, p=P, seed=0):
    """Return correlated features, and y with heavy-tailed errors of order one and outliers."""
    rng = np.random.default_rng(seed)
    X = grid(rng.normal(size=(n, p)) + rng.normal(size=(n, 1)) + np.arange(p))
    y = X @ np.linspace(-1, 2, p) + 3 + rng.standard_t(2, n)
    y[rng.choice(n, n // 15, replace=False)] += 40
    return X, grid(y)


X, Y = make()
MIXED = np.array([1e9, 1e-9, 3.0, 1e-4])


def model(mode, intercept=True, **changes):
    return SmoothL1Regressor(fit_intercept=intercept, **MODES[mode] | changes)


class Fit:
    """A fit to X' = X · unit + shift and y' = y · y_unit + y_shift, in the units of X and y."""

    def __init__(self, est, X, y, weight=None, unit=1.0, shift=0.0, y_unit=1.0, y_shift=0.0):
        est.fit(X, y, sample_weight=weight)
        self.est = est
        slopes = est.coef_ * (np.zeros(X.shape[1]) + shift)
        self.coef = est.coef_ * unit / y_unit
        self.intercept = (est.intercept_ + slopes.sum() - y_shift) / y_unit
        self.beta, self.scale = est.beta_ / y_unit, est.scale_
        if est.beta == "auto" or est.scale is not None:
            self.scale = est.scale_ / y_unit
        squared = est.loss == "huber" and est.scale is None
        squared |= est.loss == "huber" and est.scale == "mad"
        self.objective = est.objective_ / y_unit / (y_unit if squared else 1.0)
        # Errors of a minimiser change the objective only to second order. With the MAD the
        # scale does not minimise the objective, so that this does not apply.
        resolved = est.scale == "mad" or (est.scale is None and est.beta == "auto")
        self.accuracy = 1e-7 if resolved else 1e-10
        # The accuracy of the intercept is limited by the rounding errors of the terms of which
        # it is the sum.
        held = abs(est.intercept_) + np.abs(slopes).sum() + abs(y_shift)
        self.rounding = 4 * np.finfo(float).eps * held / y_unit

    def assert_same(self, other, rows=slice(None), other_rows=slice(None), atol=1e-7):
        assert_allclose(self.coef, other.coef, rtol=0, atol=atol)
        held = max(self.rounding, other.rounding)
        assert_allclose(self.intercept, other.intercept, rtol=0, atol=atol + held)
        assert_allclose(self.beta, other.beta, rtol=atol)
        assert_allclose(self.scale, other.scale, rtol=atol)
        assert_allclose(self.objective, other.objective, rtol=self.accuracy)
        assert_array_equal(self.est.outliers_[rows], other.est.outliers_[other_rows])


@functools.cache
def base_fit(mode, intercept=True):
    return Fit(model(mode, intercept), X, Y)


def rescaled(mode, unit):
    """Return the parameters of the same problem in another unit of y.

    For loss="huber" without a concomitant scale, data term and penalty have the same unit.
    Otherwise the data term is proportional to y and the penalty to y², so that alpha must be
    changed.
    """
    params = dict(MODES[mode])
    if params.get("scale") is None and "beta" in params:
        params["beta"] *= unit
    equivariant = params.get("loss") == "huber" and params.get("scale") != "concomitant"
    if params.get("alpha") and not equivariant:
        params["alpha"] /= unit
    return params


# Units and origins ---------------------------------------------------------------------


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("unit", [1e9, 1e-9, MIXED], ids=["1e9", "1e-9", "mixed"])
@pytest.mark.parametrize("mode", PLAIN)
def test_units_of_columns_do_not_matter(mode, unit, intercept):
    base = base_fit(mode, intercept)
    Fit(model(mode, intercept), X * unit, Y, unit=unit).assert_same(base)


@pytest.mark.parametrize("shift", [1e8, [-1e8, 0.0, 1e8, 1e4]], ids=["1e8", "mixed"])
@pytest.mark.parametrize("mode", MODES)
def test_origins_of_columns_do_not_matter(mode, shift):
    moved = Fit(model(mode), X + shift, Y, shift=np.array(shift))
    moved.assert_same(base_fit(mode))


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("unit", [1e9, 1e-9])
@pytest.mark.parametrize("mode", MODES)
def test_unit_of_y_does_not_matter(mode, unit, intercept):
    scaled = SmoothL1Regressor(fit_intercept=intercept, **rescaled(mode, unit))
    Fit(scaled, X, Y * unit, y_unit=unit).assert_same(base_fit(mode, intercept))


@pytest.mark.parametrize("mode", MODES)
def test_origin_of_y_does_not_matter(mode):
    for shift in [1e9, -1e9]:
        Fit(model(mode), X, Y + shift, y_shift=shift).assert_same(base_fit(mode))


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("slope", [1.0, 2.0**12])
@pytest.mark.parametrize("mode", PLAIN)
def test_linear_function_of_X_added_to_y_is_added_to_the_fit(mode, slope, intercept):
    moved = Fit(model(mode, intercept), X, Y + slope * (X @ [1, -2, 0, 4]))
    moved.coef -= slope * np.array([1, -2, 0, 4])
    moved.assert_same(base_fit(mode, intercept))


@pytest.mark.parametrize("mode", PLAIN)
def test_all_changes_of_units_at_once(mode):
    # The units of y and X are powers of two, so that the shifts are exact.
    unit, shift = 2.0 ** np.array([30, -30, 2, -13]), 1e8
    y_unit, y_shift = 2.0**-10, 1e6
    order = np.random.default_rng(1).permutation(N)
    moved = Fit(
        SmoothL1Regressor(**rescaled(mode, y_unit)),
        (X[order] + shift) * unit,
        Y[order] * y_unit + y_shift,
        unit=unit,
        shift=shift * unit,
        y_unit=y_unit,
        y_shift=y_shift,
    )
    moved.assert_same(base_fit(mode), other_rows=order)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_order_of_rows_does_not_matter(mode, intercept):
    order = np.random.default_rng(2).permutation(N)
    shuffled = Fit(model(mode, intercept), X[order], Y[order])
    shuffled.assert_same(base_fit(mode, intercept), other_rows=order)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_order_of_columns_does_not_matter(mode, intercept):
    order = [2, 0, 3, 1]
    shuffled = Fit(model(mode, intercept), X[:, order], Y)
    shuffled.coef = shuffled.coef[np.argsort(order)]
    shuffled.assert_same(base_fit(mode, intercept))


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_sign_of_y_and_of_columns_does_not_matter(mode, intercept):
    sign = np.array([1.0, -1.0, -1.0, 1.0])
    flipped = Fit(model(mode, intercept), -X * sign, -Y)
    flipped.coef *= sign
    flipped.intercept *= -1
    flipped.assert_same(base_fit(mode, intercept))


@pytest.mark.parametrize("unit", [1e150, 1e-150])
@pytest.mark.parametrize("of", ["X", "one column", "y"])
@pytest.mark.parametrize("mode", FEW[:-1])
def test_units_at_the_ends_of_the_range_do_not_matter(mode, of, unit):
    base = base_fit(mode)
    if of == "y":
        scaled = SmoothL1Regressor(**rescaled(mode, unit))
        Fit(scaled, X, Y * unit, y_unit=unit).assert_same(base)
    else:
        units = unit if of == "X" else np.array([1.0, unit, 1.0, 1.0])
        Fit(model(mode), X * units, Y, unit=units).assert_same(base)


def test_objective_is_the_same_where_the_minimiser_is_not_unique():
    # In any units, every intercept between the two distant clusters is a minimiser.
    y = np.repeat([0.0, 100.0], 20) + np.tile(np.arange(4.0), 10)
    x = np.tile([-1.0, 1.0], 20)[:, None]
    base = SmoothL1Regressor(beta=1.0).fit(x, y)
    for unit, y_unit in [(1e9, 1.0), (1e-9, 1e9), (1.0, 1e-9)]:
        est = SmoothL1Regressor(beta=y_unit).fit(x * unit, y * y_unit)
        assert_allclose(est.objective_ / y_unit, base.objective_, rtol=1e-10)
    again = SmoothL1Regressor(beta=1.0).fit(x, y)
    assert (again.coef_, again.intercept_) == (base.coef_, base.intercept_)


# Weights -------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.1, 1e-300, 3, 1e300])
@pytest.mark.parametrize("mode", MODES)
def test_equal_weights_have_no_effect(mode, factor):
    Fit(model(mode), X, Y, np.full(N, factor)).assert_same(base_fit(mode))


@pytest.mark.parametrize("factor", [0.1, 1e-300, 1e300])
@pytest.mark.parametrize("mode", MODES)
def test_common_factor_of_the_weights_changes_nothing(mode, factor):
    weight = np.random.default_rng(3).integers(1, 6, N).astype(float)
    Fit(model(mode), X, Y, factor * weight).assert_same(Fit(model(mode), X, Y, weight))


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_integer_weights_are_repeated_rows(mode, intercept):
    # There are so few rows that the median is often the mean of two residuals.
    for seed in range(4):
        weight = np.random.default_rng(seed).integers(0, 5, N)
        rows = np.repeat(np.arange(N), weight)
        weighted = Fit(model(mode, intercept), X, Y, weight)
        repeated = Fit(model(mode, intercept), X[rows], Y[rows])
        weighted.assert_same(repeated, rows=rows)


@pytest.mark.parametrize("huge", [1.0, 1e6, 1e300])
@pytest.mark.parametrize("to_format", [np.asarray, sparse.csr_array], ids=["dense", "csr"])
@pytest.mark.parametrize("mode", MODES)
def test_rows_of_weight_zero_are_as_if_absent(mode, to_format, huge):
    rng = np.random.default_rng(4)
    weight = rng.uniform(0.2, 3, N)
    absent = rng.choice(N, 30, replace=False)
    weight[absent] = 0
    kept = np.flatnonzero(weight)
    X_more, y_more = X.copy(), Y.copy()
    X_more[absent] *= -huge
    y_more[absent] = huge
    more = Fit(model(mode), to_format(X_more), y_more, weight)
    more.assert_same(Fit(model(mode), to_format(X[kept]), Y[kept], weight[kept]), rows=kept)
    residual = np.abs(y_more - more.est.predict(X_more))
    assert_array_equal(more.est.outliers_, residual > more.est.beta_)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("to_format", [np.asarray, sparse.csr_array], ids=["dense", "csr"])
def test_rows_of_weight_zero_are_searched_for_nan(to_format, bad):
    weight = np.arange(N) % 3.0
    X_bad, y_bad = X.copy(), Y.copy()
    X_bad[0, 1] = y_bad[3] = bad
    with pytest.raises(ValueError, match=r"Input X contains (NaN|infinity)"):
        SmoothL1Regressor().fit(to_format(X_bad), Y, weight)
    with pytest.raises(ValueError, match=r"Input y contains (NaN|infinity)"):
        SmoothL1Regressor().fit(to_format(X), y_bad, weight)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, bool, object, list, pd.Series])
def test_type_of_the_weights_does_not_matter(dtype):
    weight = np.arange(N) % 2
    other = dtype(weight) if dtype in (list, pd.Series) else weight.astype(dtype)
    Fit(model("auto"), X, Y, other).assert_same(Fit(model("auto"), X, Y, weight.astype(float)))


# Forms of X ----------------------------------------------------------------------------


def strided(X):
    every = np.full((2 * X.shape[0], 3 * X.shape[1]), np.nan, dtype=X.dtype)
    every[::2, ::3] = X
    return every[::2, ::3]


def backwards(X):
    return np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1]


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


def csr_with_long_indices(X):
    matrix = sparse.csr_array(X)
    matrix.indices, matrix.indptr = matrix.indices.astype("i8"), matrix.indptr.astype("i8")
    return matrix


DENSE = {
    "F": np.asfortranarray,
    "strided": strided,
    "backwards": backwards,
    "read-only": read_only,
    "read-only-F": lambda X: read_only(X.T).T,
    "big-endian": lambda X: X.astype(X.dtype.newbyteorder(">")),
    "pandas": pd.DataFrame,
    "polars": lambda X: pl.DataFrame(X, schema=[f"x{j}" for j in range(X.shape[1])]),
    "list": lambda X: X.tolist(),
    "object": lambda X: X.astype(object),
}
SPARSE = {
    "csr": sparse.csr_array,
    "csr-matrix": sparse.csr_matrix,
    "csr-int64": csr_with_long_indices,
    "csc": sparse.csc_array,
    "coo": sparse.coo_array,
}


def fit_form(mode, X_form, intercept=True):
    est = model(mode, intercept)
    with warnings.catch_warnings():
        # A dataframe has feature names, which are not tested here.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        est.fit(X_form, Y)
    return est


def assert_same_model(est, base, rtol=1e-7):
    for name in ["coef_", "intercept_", "beta_", "scale_"]:
        assert_allclose(getattr(est, name), getattr(base, name), rtol=rtol, err_msg=name)
    assert_allclose(est.objective_, base.objective_, rtol=1e-9)
    assert_array_equal(est.outliers_, base.outliers_)


@pytest.mark.parametrize("form", DENSE | SPARSE)
@pytest.mark.parametrize("mode", FEW)
def test_form_of_X_does_not_matter(mode, form):
    assert_same_model(fit_form(mode, (DENSE | SPARSE)[form](X)), fit_form(mode, X))


@pytest.mark.parametrize("form", ["csr", "csc"])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_sparse_X_is_dense_X_with_zeros(mode, intercept, form):
    thin = np.where(np.random.default_rng(5).uniform(size=X.shape) < 0.6, 0.0, X)
    dense, other = model(mode, intercept), model(mode, intercept)
    assert_same_model(other.fit(SPARSE[form](thin), Y), dense.fit(thin, Y))


@pytest.mark.parametrize("form", ["F", "strided", "read-only", "pandas", "csr"])
@pytest.mark.parametrize("mode", FEW)
def test_float32_is_the_same_numbers_in_float64(mode, form):
    # The values of X, multiples of 2⁻²⁰, have more bits than float32 and are rounded.
    single = X.astype(np.float32)
    est = fit_form(mode, (DENSE | SPARSE)[form](single))
    assert est.coef_.dtype == np.float32
    base = fit_form(mode, single.astype(np.float64))
    est.coef_ = est.coef_.astype(float)
    assert_same_model(est, base, rtol=2e-7)
    # The intercept is computed from the rounded coefficients.
    mean = np.append(1.0, single.mean(axis=0, dtype=float))
    at_mean = [mean @ np.append(fit.intercept_, fit.coef_) for fit in (est, base)]
    assert_allclose(at_mean[0], at_mean[1], rtol=1e-9)


def test_integer_and_boolean_X_are_their_numbers():
    counts = np.round(X).astype(np.int64)
    for mode in FEW:
        assert_same_model(fit_form(mode, counts), fit_form(mode, counts.astype(float)))
        some = fit_form(mode, counts > 1)
        assert_same_model(some, fit_form(mode, (counts > 1).astype(float)))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_memory_map_is_read_as_an_array(tmp_path, dtype, order):
    single = X.astype(dtype)
    mapped = np.memmap(tmp_path / "X", dtype, "w+", shape=X.shape, order=order)
    mapped[:] = single
    mapped.flush()
    mapped = np.memmap(tmp_path / "X", dtype, "r", shape=X.shape, order=order)
    for mode in FEW:
        assert_same_model(fit_form(mode, mapped), fit_form(mode, single))


@pytest.mark.parametrize("form", ["F", "read-only", "strided", "pandas", "csr"])
def test_fit_leaves_its_input_alone(form):
    X_form = (DENSE | SPARSE)[form](X)
    y, weight = Y.copy(), np.arange(N) % 4.0
    SmoothL1Regressor(alpha=0.1).fit(X_form, y, weight)
    after = X_form.toarray() if form == "csr" else np.asarray(X_form)
    assert_array_equal(after, X)
    assert_array_equal(y, Y)
    assert_array_equal(weight, np.arange(N) % 4.0)


# Different ways to the same solution ---------------------------------------------------


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("schedule", ["geometric", "linear", "cosine", [1], [50, 10, 2, 1]])
@pytest.mark.parametrize("mode", [*FEW, "ridge-smooth-auto", "ridge-concomitant"])
def test_schedule_ends_where_no_schedule_does(mode, schedule, intercept):
    staged = Fit(model(mode, intercept, beta_schedule=schedule), X, Y)
    staged.assert_same(base_fit(mode, intercept))


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_warm_start_ends_where_a_cold_start_does(mode, intercept):
    est = model(mode, intercept, warm_start=True)
    cold = base_fit(mode, intercept)
    far = 1e3 * np.sin(np.arange(N)) - 1e6 * X[:, 0] + 500.0
    est.fit(X, far)
    Fit(est, X, Y).assert_same(cold)
    Fit(est, X, Y).assert_same(cold)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_several_targets_are_fitted_one_by_one(mode, weighted):
    weight = np.arange(N) % 3.0 if weighted else None
    targets = np.column_stack([Y, np.abs(Y) * 1e3 + 1e5, np.sin(10 * Y) - X[:, 0]])
    together = model(mode).fit(X, targets, weight)
    for j, y in enumerate(targets.T):
        alone = model(mode).fit(X, y, weight)
        for name in ["coef_", "intercept_", "beta_", "scale_", "objective_", "n_iter_"]:
            value = getattr(together, name)[j]
            assert_allclose(value, getattr(alone, name), rtol=1e-9, err_msg=name)
        assert_array_equal(together.outliers_[:, j], alone.outliers_)


# Tall data, which are first fitted on a sample of rows ------------------------------------

TALL_N, TALL_P = 60_000, 40


@pytest.fixture(scope="module")
def tall():
    return make(TALL_N, TALL_P)


@pytest.fixture(scope="module")
def tall_fit(tall):
    return {mode: Fit(model(mode), *tall) for mode in ["beta", "auto", "concomitant"]}


@pytest.mark.parametrize("mode", ["beta", "auto", "concomitant"])
def test_units_of_tall_data_do_not_matter(tall, tall_fit, mode):
    X, y = tall
    unit, shift = 2.0 ** np.resize([30, -30, 2, -13], TALL_P), 1e8
    moved = Fit(
        SmoothL1Regressor(**rescaled(mode, 2.0**-10)),
        (X + shift) * unit,
        y * 2.0**-10 + 1e6,
        unit=unit,
        shift=shift * unit,
        y_unit=2.0**-10,
        y_shift=1e6,
    )
    moved.assert_same(tall_fit[mode])


@pytest.mark.parametrize("mode", ["beta", "auto", "concomitant"])
def test_order_of_the_rows_of_tall_data_does_not_matter(tall, tall_fit, mode):
    # If the rows are permuted, another sample of rows is drawn.
    X, y = tall
    order = np.random.default_rng(6).permutation(TALL_N)
    Fit(model(mode), X[order], y[order]).assert_same(tall_fit[mode], other_rows=order)


@pytest.mark.parametrize("factor", [0.1, 1e-300])
def test_equal_weights_of_tall_data_have_no_effect(tall, tall_fit, factor):
    weight = np.full(TALL_N, factor)
    Fit(model("auto"), *tall, weight).assert_same(tall_fit["auto"])


@pytest.mark.parametrize("mode", ["auto", "concomitant"])
def test_integer_weights_of_tall_data_are_repeated_rows(tall, mode):
    X, y = tall
    weight = np.random.default_rng(7).integers(0, 4, TALL_N)
    rows = np.repeat(np.arange(TALL_N), weight)
    Fit(model(mode), X, y, weight).assert_same(Fit(model(mode), X[rows], y[rows]), rows=rows)


def test_column_major_tall_data_do_not_matter(tall, tall_fit):
    X, y = tall
    Fit(model("auto"), np.asfortranarray(X), y).assert_same(tall_fit["auto"])


@pytest.mark.parametrize("form", ["F", "strided", "csr"])
def test_form_of_data_for_several_threads_does_not_matter(tall, form):
    X, y = (part[:15_000] for part in tall)
    other = Fit(model("auto"), (DENSE | SPARSE)[form](X), y)
    other.assert_same(Fit(model("auto"), X, y))


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.1, 0.1), (1.0, 3.0), (0.1, 0.3)])
def test_tie_of_the_median_survives_the_rounding_of_a_sum_of_weights(weights):
    # The residuals are ±1 in rows with half of the total weight, and ±2 in the remaining rows.
    # The median of |r| is the mean of 1 and 2, unless rounding errors in the sums of 1e6
    # weights break the tie.
    n = 1_000_000
    y = np.tile([1.0, 2.0, -1.0, -2.0], n // 4)
    x = np.where(np.arange(n) % 8 < 4, 1.0, -1.0)
    weight = np.where(x > 0, *weights)
    est = SmoothL1Regressor(beta=10.0, scale="mad").fit(x[:, None], y, weight)
    assert_allclose(est.scale_, 1.5 / 0.6744897501960817, rtol=1e-12)
