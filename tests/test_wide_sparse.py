"""Sparse X with more features than rows is never converted to a dense array."""

import tracemalloc
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import sparse
from sklearn.linear_model import HuberRegressor

from skrobust import SmoothL1Regressor
from skrobust._engines import as_engine
from skrobust._engines.sparse import SparseEngine
from skrobust._engines.threads import ThreadTeam

# A dense copy of X would exceed the size limit for computing singular values.
N, P = 150, 900


def wide_problem(n=N, p=P, per_row=30):
    rng = np.random.default_rng(0)
    X = sparse.random_array((n, p), density=per_row / p, format="csr", rng=rng)
    y = 3 * X[:, :50].sum(axis=1) + 0.1 * rng.normal(size=n)
    y[::12] += 20
    return X, y


@pytest.mark.parametrize("scale", [None, "mad", "concomitant"])
@pytest.mark.parametrize("loss", ["smooth_l1", "huber"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_the_fit_is_that_of_dense_data(scale, loss, fit_intercept):
    X, y = wide_problem()
    model = SmoothL1Regressor(
        1.35, loss=loss, scale=scale, alpha=1.0, fit_intercept=fit_intercept, tol=1e-10
    )
    dense = model.fit(X.toarray(), y)
    coef, intercept, beta = dense.coef_, dense.intercept_, dense.beta_
    model.fit(X, y)
    assert_allclose(model.beta_, beta, rtol=1e-7)
    assert_allclose(model.coef_, coef, rtol=1e-6, atol=1e-7 * np.abs(coef).max())
    assert_allclose(model.intercept_, intercept, rtol=1e-6, atol=1e-7 * np.abs(coef).max())


@pytest.mark.parametrize("scale", [None, "mad", "concomitant"])
def test_without_a_penalty_the_data_are_interpolated_with_minimum_norm(scale):
    X, y = wide_problem()
    model = SmoothL1Regressor(1.35, scale=scale)
    dense = model.fit(X.toarray(), y).coef_
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, y)
    assert_allclose(model.predict(X), y, atol=1e-10)
    assert_allclose(model.coef_, dense, atol=1e-8 * np.abs(dense).max())
    assert not model.outliers_.any()


@pytest.mark.parametrize(("n", "p"), [(1_000, 20_000), (4_001, 4_000)])
@pytest.mark.parametrize("alpha", [1e-3, 0.0])
def test_memory_grows_with_the_stored_elements(n, p, alpha):
    X, y = wide_problem(n, p, per_row=10)
    model = SmoothL1Regressor(1.0, alpha=alpha, max_iter=50)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X[:300], y[:300])  # compiles the kernels
        tracemalloc.start()
        model.fit(X, y)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    n_bytes = X.data.nbytes + X.indices.nbytes + X.indptr.nbytes
    assert peak < 3 * n_bytes + 8 * 100 * (n + p)


@pytest.mark.parametrize("alpha", [1.0, 1e-4])
def test_a_scale_that_tends_to_zero_leaves_no_worse_objective_than_huber_regressor(alpha):
    X, y = wide_problem(400, 4_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = HuberRegressor(alpha=alpha).fit(X, y)
        ours = SmoothL1Regressor(1.35, loss="huber", scale="concomitant", alpha=alpha / 400)
        ours.fit(X, y)

    def objective(model):
        z = np.abs((y - model.predict(X)) / model.scale_)
        rho = np.where(z <= 1.35, z**2, 2.7 * z - 1.35**2)
        return model.scale_ * (1 + rho).sum() + alpha * (model.coef_**2).sum()

    assert objective(ours) <= objective(theirs)


def test_duplicated_and_empty_columns_do_not_stop_the_fit():
    X, y = wide_problem()
    X = sparse.hstack([X, X[:, :100], sparse.csr_array((N, 20))], format="csr")
    model = SmoothL1Regressor(1.0, alpha=0.01).fit(X, y)
    assert_allclose(model.coef_[P : P + 100], model.coef_[:100], rtol=1e-6, atol=1e-9)
    assert (model.coef_[-20:] == 0).all()


@pytest.mark.parametrize("shift", [0.0, 3.0, 1e5])
def test_absolute_predictors_are_those_of_the_dense_rows(shift):
    X, _ = wide_problem(60, 80)
    X = sparse.hstack([X, shift + np.random.default_rng(1).normal(size=(60, 1))], format="csr")
    mean, std = X.toarray().mean(axis=0), X.toarray().std(axis=0)
    engine = as_engine(X, ThreadTeam()).with_standardisation(mean, std)
    coef = np.random.default_rng(2).random(82)
    assert isinstance(engine, SparseEngine)
    expected = np.abs(engine.rows(slice(None))) @ coef
    assert_allclose(engine.abs_dot(coef), expected, rtol=1e-12)
