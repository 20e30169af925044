"""A column far from zero does not reduce the rank of the other columns.

Whether a direction is due to rounding depends only on the rounding errors of the columns that
contribute to it. The reference is least squares or ridge regression on centred columns by QR in
extended precision, since the thresholds of the fits exceed all residuals.
"""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import sparse

import skrobust._solvers
from skrobust import SmoothL1Regressor

FAR = {np.float64: 1.7e9, np.float32: 101_325.0}
CLOSE = {np.float64: 1e-7, np.float32: 1e-3}


def extended_lstsq(A, b):
    """Return the least-squares solution by reorthogonalised Gram–Schmidt in long double."""
    Q, R = A.copy(), np.zeros((A.shape[1],) * 2, np.longdouble)
    for j in range(A.shape[1]):
        for _ in range(2):
            part = Q[:, :j].T @ Q[:, j]
            R[:j, j] += part
            Q[:, j] -= Q[:, :j] @ part
        R[j, j] = np.sqrt(Q[:, j] @ Q[:, j])
        Q[:, j] /= R[j, j]
    x, rhs = np.zeros(A.shape[1], np.longdouble), Q.T @ b
    for j in reversed(range(A.shape[1])):
        x[j] = (rhs[j] - R[j, j + 1 :] @ x[j + 1 :]) / R[j, j]
    return x


def reference(X, y, weight, alpha):
    """Return the fitted values of ridge regression with mean squared error, in long double."""
    X, y = X.astype(np.longdouble), y.astype(np.longdouble)
    s = np.ones(len(y), np.longdouble) if weight is None else weight.astype(np.longdouble)
    s = s / s.sum()
    mean, y_mean = s @ X, s @ y
    root = np.sqrt(s)[:, None]
    penalty = np.sqrt(np.longdouble(alpha)) * np.eye(X.shape[1], dtype=np.longdouble)
    A = np.vstack([root * (X - mean), penalty])
    b = np.concatenate([root[:, 0] * (y - y_mean), np.zeros(X.shape[1], np.longdouble)])
    return np.float64((X - mean) @ extended_lstsq(A, b) + y_mean)


def data(dtype, collinear, n=500):
    rng = np.random.default_rng(0)
    a = rng.normal(size=n)
    base = np.column_stack([a, a + CLOSE[dtype] * rng.normal(size=n), rng.normal(size=n)])
    base = base[:, [0, 2, 1]] if collinear else base[:, [0, 2]]
    X = np.column_stack([base, FAR[dtype] + 3 * rng.normal(size=n)]).astype(dtype)
    Z = X.astype(float)
    y = Z[:, 0] + Z[:, 1] + 0.1 * (Z[:, -1] - FAR[dtype]) + rng.normal(size=n)
    if collinear:
        y += 3 * (Z[:, 2] - Z[:, 0]) / CLOSE[dtype]
    return X, y, rng


@pytest.mark.parametrize("alpha", [0.0, 1e-3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("collinear", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kind", ["array", "csr", "tall"])
def test_a_far_column_does_not_remove_directions_of_other_columns(
    monkeypatch, kind, dtype, collinear, weighted, alpha
):
    n = 4_000 if kind == "tall" else 500
    X, y, rng = data(dtype, collinear, n)
    weight = rng.uniform(0.1, 1.0, size=n) if weighted else None
    if kind == "tall":
        monkeypatch.setattr(skrobust._solvers, "TALL_MIN_ELEMENTS", 0)
    expected = reference(X, y, weight, alpha)
    beta = 2 * np.abs(y - expected).max()
    model = SmoothL1Regressor(beta, loss="huber", alpha=alpha)
    model.fit(sparse.csr_array(X) if kind == "csr" else X, y, weight)
    assert model.rank_ == X.shape[1]
    # For float32 data, the coefficients are rounded, so fitted values are not compared.
    if dtype == np.float64:
        fitted = X @ model.coef_ + model.intercept_
        size = np.abs(expected - y.mean()).max() + 1e-3 * np.abs(X @ model.coef_).max()
        assert_allclose(fitted, expected, rtol=0, atol=1e-6 * size)
    s = np.ones(n) if weight is None else weight
    least = np.average((y - expected) ** 2, weights=s) / 2
    assert model.objective_ <= 1.0001 * least + (alpha > 0) * model.objective_


@pytest.mark.parametrize("degree", [3, 4, 5, 6])
def test_powers_of_calendar_years_are_fitted_as_far_as_float64_holds_them(degree):
    year = np.linspace(1980, 2024, 200)
    X, y = np.vander(year, degree + 1, increasing=True)[:, 1:], np.sin((year - 2000) / 6)
    basis = np.polynomial.legendre.legvander((year - 2002) / 22, degree)
    best = basis @ np.linalg.lstsq(basis, y, rcond=None)[0]
    model = SmoothL1Regressor(1e6).fit(X, y)
    assert model.rank_ == degree
    # Each additional degree loses about two and a half digits to the rounding of the powers.
    assert np.abs(model.predict(X) - best).max() < 1e-8 * 10.0 ** (2.2 * (degree - 3))


def test_one_far_column_and_a_dummy_trap_leave_correlated_columns_alone():
    rng = np.random.default_rng(0)
    a = rng.normal(size=500)
    X = np.column_stack([a, a + 0.02 * rng.normal(size=500), rng.normal(size=500)])
    y = 50 * (X[:, 1] - X[:, 0]) + X[:, 2] + rng.normal(size=500)
    pressure = 101_325 + 3 * rng.normal(size=500)
    dummies = np.eye(2)[rng.integers(0, 2, 500)]
    X = np.column_stack([X, pressure, dummies])
    for dtype in (np.float64, np.float32):
        model = SmoothL1Regressor(1.0).fit(X.astype(dtype), y)
        assert model.rank_ == 5
        assert_allclose(model.coef_[:3], [-55.95, 55.92, 1.04], atol=0.02)


def test_a_far_column_in_float32_does_not_shrink_the_others_under_a_penalty():
    # The penalised minimiser is unique even if there are more features than rows.
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 100))
    y = X[:, 0] * 5 + 0.3 * rng.normal(size=50)
    X = np.column_stack([X, 1.7e9 + 3600 * rng.random(50)])
    models = [
        SmoothL1Regressor(1.0, loss="huber", alpha=0.1).fit(X.astype(dtype), y)
        for dtype in (np.float64, np.float32)
    ]
    assert_allclose(models[1].objective_, models[0].objective_, rtol=0.01)
    assert_allclose(models[1].coef_[:100], models[0].coef_[:100], atol=0.05)


@pytest.mark.parametrize("alpha", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["array", "csr"])
def test_rank_counts_the_directions_of_the_centred_features(kind, alpha):
    X = np.random.default_rng(0).normal(size=(60, 5))
    y = X.sum(axis=1) + np.random.default_rng(1).normal(size=60)
    ranks = {
        "independent": (X, 5),
        "sum": (np.column_stack([X, X[:, 0] + X[:, 1]]), 5),
        "constant": (np.column_stack([X, np.ones(60)]), 5),
        "both": (np.column_stack([X, X[:, 0] + X[:, 1], np.ones(60)]), 5),
        "wide": (np.random.default_rng(2).normal(size=(10, 30)), 9),
        "none": (np.ones((20, 2)), 0),
    }
    for A, rank in ranks.values():
        A_kind = sparse.csr_array(A) if kind == "csr" else A
        model = SmoothL1Regressor(1.0, alpha=alpha).fit(A_kind, y[: len(A)])
        assert model.rank_ == rank
        assert isinstance(model.rank_, int)
    A, rank = ranks["both"]
    many = SmoothL1Regressor(1.0, alpha=alpha).fit(A, np.column_stack([y, y]))
    assert many.rank_ == rank


@pytest.mark.parametrize("ratio", [1e6, 1e7, 1e8, 1e9])
@pytest.mark.parametrize("duplicates", [False, True])
def test_a_csr_column_far_from_zero_is_fitted_as_its_dense_form(ratio, duplicates):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x, d = ratio + rng.normal(size=60), (rng.random(60) < 0.3) * 1.0
        y = 2 * (x - ratio) + d + 0.1 * rng.normal(size=60)
        X = np.column_stack([d, x])
        csr = sparse.csr_array(X)
        if duplicates:
            # Each element of the second column is stored as two entries of half its value.
            rows = np.r_[np.flatnonzero(d), np.arange(60), np.arange(60)]
            columns = np.r_[np.zeros(int(d.sum()), int), np.ones(120, int)]
            values = np.r_[d[d > 0], x / 2, x / 2]
            order = np.argsort(rows, kind="stable")
            pointers = np.searchsorted(rows[order], np.arange(61))
            csr = sparse.csr_array((values[order], columns[order], pointers), shape=(60, 2))
        dense = SmoothL1Regressor(1.0).fit(X, y)
        model = SmoothL1Regressor(1.0).fit(csr, y)
        assert_allclose(model.objective_, dense.objective_, rtol=1e-9)
        assert_allclose(model.coef_, dense.coef_, rtol=1e-6)
        assert sum(stage["n_eval"] for stage in model.history_) < 40


@pytest.mark.parametrize("mode", [{}, {"scale": "concomitant"}, {"scale": "mad", "beta": 0.5}])
@pytest.mark.parametrize("shift", [1e3, 1e7, 1e10])
def test_rows_of_an_exact_fit_on_shifted_features_are_no_outliers(mode, shift):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3)) + shift
    y = X @ [1.0, 2.0, 3.0]
    model = SmoothL1Regressor(**mode).fit(X, y)
    assert not model.outliers_.any()
    y[:20] += 1.0
    model.fit(X, y)
    assert model.outliers_[:20].all()
    assert model.outliers_.sum() == 20


@pytest.mark.parametrize("offset", [3e6, 1e7, 3e7])
@pytest.mark.parametrize("n", [12, 60])
def test_a_column_known_to_few_digits_does_not_affect_the_other_columns(offset, n):
    # In float32, the rounding error of the last column is of the order of its standard
    # deviation. If X is rank-deficient, a direction that includes this column is dropped. In an
    # earlier version, the coefficients were orthogonal to this direction, and the objective was
    # up to 5 % larger than for a fit to the other columns.
    rng = np.random.default_rng(0)
    others = rng.normal(size=(n, 3))
    others = np.column_stack([others, 2 * others[:, 0]])
    coarse = others[:, :3].sum(axis=1) + offset
    X = np.column_stack([others, coarse]).astype(np.float32)
    y = others[:, :3] @ [3.0, 2.0, 1.0] + rng.standard_t(2, size=n)
    with_it = SmoothL1Regressor(1.0).fit(X, y)
    without_it = SmoothL1Regressor(1.0).fit(X[:, :4], y)
    assert with_it.rank_ == without_it.rank_ == 3
    assert with_it.objective_ <= without_it.objective_ * (1 + 1e-9)
