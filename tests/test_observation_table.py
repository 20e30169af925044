"""observation_table: residuals, weights, leverage and influence of the rows."""

import pickle
import tracemalloc

import numpy as np
import pandas as pd
import polars as pl
import pytest
import statsmodels.api as sm
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skrobust import SmoothL1Regressor, SmoothL1RegressorCV
from skrobust._observation_table import COLUMNS, observation_table

RNG = np.random.default_rng(0)
N = 80
X = RNG.normal(size=(N, 3)) * [1, 10, 100] + [5, 0, -30]
Y = X @ [1.0, 0.2, 0.03] + 4 + RNG.standard_t(3, N)
Y[:6] += 15
WEIGHT = RNG.uniform(0.2, 3.0, N)


def values(table, names=COLUMNS):
    return np.column_stack([getattr(table, name) for name in names]).astype(float)


@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_a_large_threshold_gives_the_influences_of_least_squares(weight):
    est = SmoothL1Regressor(1e7).fit(X, Y, weight)
    table = observation_table(est, X, Y, sample_weight=weight)
    root = np.sqrt(np.ones(N) if weight is None else weight)
    Z = sm.add_constant(X)
    influence = sm.OLS(root * Y, root[:, None] * Z).fit().get_influence()
    assert_allclose(table.leverage, influence.hat_matrix_diag, rtol=1e-8)
    assert_allclose(table.cooks_distance, influence.cooks_distance[0], rtol=1e-8)
    assert_allclose(root * table.leave_one_out_residual, influence.resid_press, rtol=1e-8)


@pytest.mark.parametrize("mode", [{}, {"scale": "concomitant"}, {"beta": 2.0}, {"alpha": 0.1}])
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_the_values_are_those_of_the_formulas(mode, weight):
    est = SmoothL1Regressor(**mode).fit(X, Y, weight)
    table = observation_table(est, X, Y, sample_weight=weight)
    s = np.ones(N) if weight is None else weight
    Z, r = np.column_stack([np.ones(N), X]), Y - est.predict(X)
    c, d = np.clip(r, -est.beta_, est.beta_), (np.abs(r) < est.beta_).astype(float)
    M = Z.T @ (Z * (s * d)[:, None])
    A = M + s.sum() * est.alpha * est.beta_ * np.diag([0, 1, 1, 1])
    p = np.trace(np.linalg.solve(A, M))
    m, v = (s * d).sum() / s.sum(), (s * c**2).sum() / (N - p)
    V_inv = m / v * A
    for i, z in enumerate(Z):
        q = s[i] * z @ np.linalg.solve(A, z)
        h = d[i] * q
        delta = np.linalg.solve(A, s[i] * c[i] * z) / (1 - h)
        assert_allclose(table.leverage[i], h, rtol=1e-7)
        left_out = r[i] + z @ delta
        assert_allclose(table.leave_one_out_residual[i], left_out, rtol=1e-6, atol=1e-8)
        cook = delta @ V_inv @ delta / p
        assert_allclose(table.cooks_distance[i], cook, rtol=1e-5, atol=1e-12)
    assert_allclose(table.fitted, est.predict(X), rtol=1e-12)
    assert_allclose(table.residual, r, rtol=1e-9, atol=1e-11)
    assert_allclose(table.weight, est.weights_, rtol=1e-7)
    assert_array_equal(table.outlier, est.outliers_)
    if est.scale_ != 1:
        assert_allclose(table.standardized_residual, r / est.scale_, rtol=1e-7, atol=1e-9)
    elif weight is None:
        mad = np.median(np.abs(r)) / 0.6744897501960817
        assert_allclose(table.standardized_residual, r / mad, rtol=1e-7, atol=1e-9)


def test_a_row_left_out_leaves_the_residual_of_a_fit_without_it():
    est = SmoothL1Regressor(2.0).fit(X, Y)
    table = observation_table(est, X, Y)
    n_exact = 0
    for i in range(N):
        rest = np.arange(N) != i
        other = SmoothL1Regressor(2.0).fit(X[rest], Y[rest])
        if (other.outliers_ == est.outliers_[rest]).all():
            # Without row i, the objective is quadratic between the minimisers with and without
            # this row.
            residual = Y[i] - other.predict(X[i : i + 1])[0]
            assert_allclose(table.leave_one_out_residual[i], residual, rtol=1e-6)
            n_exact += 1
    assert n_exact > N / 2


def test_rows_of_zero_weight_influence_nothing():
    weight = WEIGHT.copy()
    weight[::7] = 0
    used = weight > 0
    est = SmoothL1Regressor().fit(X, Y, weight)
    table = observation_table(est, X, Y, sample_weight=weight)
    without = observation_table(est, X[used], Y[used], sample_weight=weight[used])
    assert_allclose(values(table)[used], values(without), rtol=1e-12)
    assert_array_equal(table.leverage[~used], 0)
    assert_array_equal(table.cooks_distance[~used], 0)
    assert_allclose(table.residual[~used], (Y - est.predict(X))[~used])
    assert_array_equal(table.leave_one_out_residual[~used], table.residual[~used])
    assert_allclose(table.weight, est.weights_, rtol=1e-7)


@pytest.mark.parametrize("factor", [2.0**-200, 3.0, 1e150])
def test_units_of_y_move_only_what_is_in_units_of_y(factor):
    table = observation_table(SmoothL1Regressor().fit(X, Y), X, Y)
    other = observation_table(SmoothL1Regressor().fit(X, factor * Y), X, factor * Y)
    in_units = ["fitted", "residual", "leave_one_out_residual"]
    same = [name for name in COLUMNS if name not in in_units]
    assert_allclose(values(other, same), values(table, same), rtol=1e-6, atol=1e-9)
    expected = values(table, in_units) * factor
    assert_allclose(values(other, in_units), expected, rtol=1e-6, atol=1e-9 * factor)


def test_an_offset_of_the_features_changes_nothing():
    table = observation_table(SmoothL1Regressor().fit(X, Y), X, Y)
    far = X + 1e6
    other = observation_table(SmoothL1Regressor().fit(far, Y), far, Y)
    assert_allclose(values(other), values(table), rtol=1e-6, atol=1e-8)


def test_a_row_that_alone_determines_a_coefficient_is_infinitely_influential():
    dummy = np.zeros(N)
    dummy[3] = 1.0
    wide = np.column_stack([X, dummy])
    # The dummy variable makes the fit of row 3 exact.
    est = SmoothL1Regressor(5.0).fit(wide, Y)
    table = observation_table(est, wide, Y)
    assert_allclose(table.leverage[3], 1)
    assert table.cooks_distance[3] == table.leave_one_out_residual[3] == np.inf
    rest = np.arange(N) != 3
    alone = SmoothL1Regressor(5.0).fit(X[rest], Y[rest])
    assert_allclose(
        table.leverage[rest], observation_table(alone, X[rest], Y[rest]).leverage, rtol=1e-6
    )
    assert np.isfinite(values(table)[rest]).all()
    assert str(table).splitlines()[2].split()[0] == "3"


# Containers ------------------------------------------------------------------------------


def test_the_frame_has_the_labels_of_the_rows():
    labels = [f"row {i}" for i in range(N)]
    frame = pd.DataFrame(X, columns=["a", "b", "c"], index=labels)
    weight = np.where(np.arange(N) == 5, 0.0, 1.0)
    est = SmoothL1Regressor().fit(frame, Y, weight)
    table = observation_table(est, frame, Y, sample_weight=weight)
    assert list(table.frame.index) == labels
    assert list(table.frame.columns) == list(COLUMNS)
    assert_array_equal(table.frame.to_numpy().astype(float), values(table))
    assert table.frame["outlier"].dtype == bool
    assert len(table) == N


@pytest.mark.parametrize(
    "form", [np.asfortranarray, np.ndarray.tolist, sparse.csr_array, pl.from_numpy]
)
def test_other_containers_have_the_same_values(form):
    expected = observation_table(SmoothL1Regressor().fit(X, Y), X, Y)
    given = form(X)
    table = observation_table(SmoothL1Regressor().fit(given, Y), given, Y)
    assert_allclose(values(table), values(expected), rtol=1e-6, atol=1e-9)
    assert list(table.frame.index) == list(range(N))


def test_float32_features_are_summed_in_float64():
    single = X.astype(np.float32)
    table = observation_table(SmoothL1Regressor().fit(single, Y), single, Y)
    double = single.astype(float)
    expected = observation_table(SmoothL1Regressor().fit(double, Y), double, Y)
    assert_allclose(table.cooks_distance, expected.cooks_distance, rtol=1e-3, atol=1e-6)
    assert values(table).dtype == np.float64


def test_wrapped_estimators_are_those_inside():
    target, weight = np.exp(Y / 10), np.where(np.arange(N) % 5 == 0, 0.0, 1.0)
    direct = SmoothL1Regressor().fit(StandardScaler().fit_transform(X), np.log(target), weight)
    scaled = StandardScaler().fit_transform(X)
    expected = observation_table(direct, scaled, np.log(target), sample_weight=weight)
    wrapped = TransformedTargetRegressor(
        make_pipeline(StandardScaler(), SmoothL1Regressor()), func=np.log, inverse_func=np.exp
    )
    wrapped.fit(X, target, smoothl1regressor__sample_weight=weight)
    table = observation_table(wrapped, X, target, sample_weight=weight)
    assert_allclose(values(table), values(expected), rtol=1e-6, atol=1e-9)
    assert "transformed" in str(table)
    search = GridSearchCV(SmoothL1Regressor(), {"beta": [1.0, 2.0]}, cv=3).fit(X, Y)
    alone = observation_table(search.best_estimator_, X, Y)
    assert_array_equal(values(observation_table(search, X, Y)), values(alone))
    cv = SmoothL1RegressorCV([1.0, 2.0], cv=3).fit(X, Y)
    assert_allclose(observation_table(cv, X, Y).weight, cv.weights_, rtol=1e-7)


def test_one_of_several_targets():
    both = np.column_stack([Y, -2 * Y[::-1]])
    est = SmoothL1Regressor().fit(X, both)
    for j in range(2):
        alone = SmoothL1Regressor().fit(X, both[:, j])
        expected = observation_table(alone, X, both[:, j])
        table = observation_table(est, X, both, target=j)
        assert_allclose(values(table), values(expected), rtol=1e-6, atol=1e-9)
    with pytest.raises(ValueError, match="y has 2 targets; select one"):
        observation_table(est, X, both)


# Text ------------------------------------------------------------------------------------


def test_the_text_shows_the_ten_rows_of_largest_influence():
    frame = pd.DataFrame(X, columns=list("abc"), index=[f"<row {i}>" for i in range(N)])
    table = observation_table(SmoothL1Regressor().fit(frame, Y), frame, Y)
    title, header, *rows, footer = str(table).splitlines()
    share = round(100 * table.outlier.mean())
    assert title == (
        f"Huber fit, 1.345 MAD: n = 80, p = 4, {share} % of the rows beyond β = "
        f"{table.beta:.4g}"
    )
    assert header.split() == list(COLUMNS)
    largest = table.frame["cooks_distance"].nlargest(10)
    assert [row[: row.index(">") + 1].strip() for row in rows] == list(largest.index)
    assert footer == "The 10 of 80 rows with the largest Cook's distance; see frame."
    html = table._repr_html_()
    assert html.count("<tr>") == 11
    assert f"<th>{largest.index[0].replace('<', '&lt;').replace('>', '&gt;')}</th>" in html
    assert "<row" not in html
    again = pickle.loads(pickle.dumps(table))
    assert str(again) == str(table) == repr(table)


def test_a_few_rows_are_all_shown():
    X, y = load_diabetes(return_X_y=True)
    X, y = X[:8, :2], y[:8]
    text = str(observation_table(SmoothL1Regressor(1e5).fit(X, y), X, y))
    assert text.endswith("The 8 of 8 rows with the largest Cook's distance; see frame.")


# Errors ----------------------------------------------------------------------------------


def test_other_data_and_estimators_are_refused():
    est = SmoothL1Regressor().fit(X, Y)
    with pytest.raises(ValueError, match="not those of the fit"):
        observation_table(est, X, Y, sample_weight=WEIGHT)
    with pytest.raises(ValueError, match="not those of the fit"):
        observation_table(est, X, Y[::-1])
    with pytest.raises(NotFittedError):
        observation_table(SmoothL1Regressor(), X, Y)
    with pytest.raises(TypeError, match="SmoothL1Regressor"):
        observation_table(LinearRegression().fit(X, Y), X, Y)
    few = SmoothL1Regressor(10.0).fit(X[:4], Y[:4])
    with pytest.raises(ValueError, match="more rows"):
        observation_table(few, X[:4], Y[:4])


@pytest.mark.filterwarnings("ignore:The fit stopped early")
def test_a_scale_of_rounding_is_refused():
    exact = X @ [1.0, 2.0, 3.0]
    exact[:5] += [1, 2, 3, 4, 5]
    est = SmoothL1Regressor().fit(X, exact)
    with pytest.raises(ValueError, match="weights_ and outliers_"):
        observation_table(est, X, exact)


def test_a_fit_that_stopped_early_is_a_warning():
    with pytest.warns(ConvergenceWarning):
        est = SmoothL1Regressor(max_iter=1, solver="lbfgs", scale="concomitant").fit(X, Y)
    with pytest.warns(ConvergenceWarning, match="stopped early") as caught:
        table = observation_table(est, X, Y)
    assert [warning.filename for warning in caught] == [__file__]
    assert np.isfinite(values(table)).all()


@pytest.mark.slow
def test_no_copy_of_x_is_made():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100_000, 100))
    y = X.sum(axis=1) + rng.standard_t(2, size=len(X))
    est = SmoothL1Regressor().fit(X, y)
    tracemalloc.start()
    observation_table(est, X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A vector with one entry per row takes a hundredth of the memory of X, and the table has
    # eight.
    assert peak < 0.3 * X.nbytes
