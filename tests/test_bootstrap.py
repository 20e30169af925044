"""The bootstrap, which fits replicates in batches, agrees with separate fits."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import sparse

import skrobust._bootstrap as bootstrap
from skrobust import SmoothL1Regressor
from skrobust._bootstrap import bootstrap_replicates, generator, weight_sampler
from skrobust._covariance import Clusters
from skrobust._engines import as_engine
from skrobust._engines.threads import ThreadTeam
from skrobust._linearised import FittedLoss, LinearisedFit

N_RESAMPLES = 60


def linearised(model, X, y, weight=None, frequency=False):
    coef = np.append(model.intercept_, model.coef_).astype(float)
    loss = FittedLoss.of(model, 0)
    engine = as_engine(X, ThreadTeam())
    return LinearisedFit(engine, y, weight, frequency, loss, coef, model.fit_intercept)


def replicates_of(fit, *, joint=True, clusters=None, n_resamples=N_RESAMPLES, random_state=0):
    """Return (b, w) of all replicates in the data's units, and the number of failed fits."""
    result = bootstrap_replicates(
        fit, n_resamples, joint=joint, clusters=clusters, random_state=random_state
    )
    coef = [fit.units.to_data(row, fit.engine) for row in result.coef]
    return np.array(coef), result.n_failed


def loop_of_fits(model, fit, X, y, *, joint=True, clusters=None):
    """Return (b, w) of separate fits with the sample weights drawn by the bootstrap."""
    params = model.get_params() | {"tol": 1e-11, "max_iter": 10_000}
    if not joint:
        fixed = {"beta": fit.loss.beta, "scale": None, "loss": "huber"}
        params |= fixed | {"alpha": fit.loss.penalty}
    weights = weight_sampler(fit, clusters, generator(0))(N_RESAMPLES)
    fits = [SmoothL1Regressor(**params).fit(X, y, sample_weight=s) for s in weights]
    return np.array([np.append(one.intercept_, one.coef_) for one in fits])


def assert_equal_to_loop(
    model, X, y, *, weight=None, frequency=False, joint=True, clusters=None
):
    fit = linearised(model.fit(X, y, sample_weight=weight), X, y, weight, frequency)
    batch, n_failed = replicates_of(fit, joint=joint, clusters=clusters)
    loop = loop_of_fits(model, fit, X, y, joint=joint, clusters=clusters)
    assert n_failed == 0
    std_err = loop.std(axis=0)
    std_err[std_err == 0] = 1.0
    assert np.abs((batch - loop) / std_err).max() < 1e-5


def problem(n=200, p=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) * 10.0 ** np.arange(p) + 5.0
    errors = rng.standard_t(3, n) + rng.exponential(2.0, n)
    return X, X @ (1.0 / 10.0 ** np.arange(p)) + errors


MODELS = {
    "fixed": SmoothL1Regressor(beta=1.5),
    "auto": SmoothL1Regressor(),
    "mad": SmoothL1Regressor(beta=0.8, scale="mad"),
    "concomitant": SmoothL1Regressor(scale="concomitant"),
    "least squares": SmoothL1Regressor(beta=1e7),
    "no intercept": SmoothL1Regressor(fit_intercept=False),
    "smooth l1 penalty": SmoothL1Regressor(alpha=0.3),
    "huber penalty": SmoothL1Regressor(alpha=0.3, loss="huber"),
    "concomitant penalty": SmoothL1Regressor(alpha=0.3, loss="huber", scale="concomitant"),
    "tiny threshold": SmoothL1Regressor(beta=1e-3, scale="mad"),
}


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_replicates_are_those_of_a_loop_of_fits(name, joint):
    X, y = problem()
    assert_equal_to_loop(MODELS[name], X, y, joint=joint)


@pytest.mark.parametrize("name", ["fixed", "auto", "concomitant"])
@pytest.mark.parametrize("n", [12, 13, 30])
def test_replicates_of_few_rows_are_those_of_a_loop_of_fits(name, n):
    X, y = problem(n, 2)
    assert_equal_to_loop(MODELS[name], X, y)


@pytest.mark.parametrize("name", ["auto", "concomitant"])
@pytest.mark.parametrize("frequency", [False, True])
def test_weighted_replicates_are_those_of_a_loop_of_fits(name, frequency):
    X, y = problem()
    weight = np.random.default_rng(1).integers(1, 5, size=len(y)).astype(float)
    if not frequency:
        weight *= 0.37
    assert_equal_to_loop(MODELS[name], X, y, weight=weight, frequency=frequency)


@pytest.mark.parametrize("joint", [False, True])
def test_replicates_of_clusters_are_those_of_a_loop_of_fits(joint):
    X, y = problem()
    clusters = Clusters(np.random.default_rng(2).integers(30, size=len(y)), 30)
    assert_equal_to_loop(MODELS["auto"], X, y, joint=joint, clusters=clusters)


@pytest.mark.parametrize("convert", [sparse.csr_matrix, lambda X: X.astype(np.float32)])
def test_replicates_of_other_matrices_are_those_of_a_loop_of_fits(convert):
    X, y = problem()
    assert_equal_to_loop(MODELS["auto"], convert(X), y)


def test_replicates_of_many_products_are_fits_of_their_own(monkeypatch):
    X, y = problem()
    monkeypatch.setattr(bootstrap, "MAX_PRODUCTS", 0)
    assert_equal_to_loop(MODELS["auto"], X, y)
    assert_equal_to_loop(MODELS["smooth l1 penalty"], X, y)


def test_steps_that_stall_go_on_with_hubers_weights(monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 25))
    y = X.sum(axis=1) + rng.standard_t(3, 100)
    fit = linearised(SmoothL1Regressor(beta=1.0).fit(X, y), X, y)
    alone = []
    fit_alone = bootstrap._OwnFit.__call__
    monkeypatch.setattr(
        bootstrap._OwnFit, "__call__", lambda self, s: alone.append(s) or fit_alone(self, s)
    )
    _, n_failed = replicates_of(fit)
    assert n_failed == 0
    assert len(alone) < 0.1 * N_RESAMPLES
    alone.clear()
    monkeypatch.setattr(bootstrap, "MAX_REMAINING_GRADIENT", np.inf)
    replicates_of(fit)
    assert len(alone) > 0.5 * N_RESAMPLES


def test_whole_clusters_are_drawn():
    X, y = problem(50)
    code = np.arange(50) % 5
    fit = linearised(SmoothL1Regressor().fit(X, y), X, y)
    weights = weight_sampler(fit, Clusters(code, 5), generator(0))(20)
    assert_array_equal(weights, weights[:, :5][:, code])
    assert_array_equal(weights[:, :5].sum(axis=1), 5)


@pytest.mark.parametrize("frequency", [False, True])
def test_weights_are_those_of_a_multinomial_distribution(frequency):
    X, y = problem(8, 1)
    s = np.arange(1.0, 9.0)
    fit = linearised(SmoothL1Regressor().fit(X, y, sample_weight=s), X, y, s, frequency)
    weights = weight_sampler(fit, None, generator(0))(20_000)
    # With importance weights, 8 rows are drawn, and a row of weight s that is drawn m times
    # gets weight m s. With frequency weights, 36 rows are drawn with probabilities proportional
    # to s.
    n, share = (36, s / 36) if frequency else (8, np.full(8, 1 / 8))
    counts = weights if frequency else weights / s
    assert_array_equal(counts.sum(axis=1), n)
    expected = n * (np.diag(share) - np.outer(share, share))
    np.testing.assert_allclose(np.cov(counts.T), expected, atol=0.15)
    np.testing.assert_allclose(counts.mean(axis=0), n * share, atol=0.08)


# Rank and convergence --------------------------------------------------------------------


def test_replicates_without_a_category_are_nan():
    rng = np.random.default_rng(0)
    category = np.arange(20) % 10
    X = np.column_stack([rng.normal(size=20), np.eye(10)[category][:, 1:]])
    y = X @ rng.normal(size=10) + rng.normal(size=20)
    model = SmoothL1Regressor(beta=1.0)
    fit = linearised(model.fit(X, y), X, y)
    batch, n_failed = replicates_of(fit)
    weights = weight_sampler(fit, None, generator(0))(N_RESAMPLES)
    Z = np.column_stack([np.ones(20), X])
    rank = np.array([np.linalg.matrix_rank(Z[s > 0]) for s in weights])
    assert 0 < n_failed == np.count_nonzero(rank < 11) < N_RESAMPLES
    assert_array_equal(np.isnan(batch).all(axis=1), rank < 11)
    loop = loop_of_fits(model, fit, X, y)
    full = rank == 11
    assert np.abs((batch - loop)[full] / loop[full].std(axis=0)).max() < 1e-5


def test_dependent_columns_do_not_change_what_is_estimable():
    X, y = problem()
    both = np.column_stack([X, 3.0 * X[:, 0] - X[:, 1]])
    model = SmoothL1Regressor()
    alone, _ = replicates_of(linearised(model.fit(X, y), X, y))
    fit = linearised(model.fit(both, y), both, y)
    batch, n_failed = replicates_of(fit)
    assert n_failed == 0
    fitted = alone[:, :1] + alone[:, 1:] @ X.T
    np.testing.assert_allclose(batch[:, :1] + batch[:, 1:] @ both.T, fitted, atol=1e-5)


@pytest.mark.parametrize("joint", [False, True])
def test_a_scale_at_its_floor_is_bootstrapped(joint):
    X, y = problem(60, 2)
    y[:45] = 1.0 + X[:45] @ [2.0, -1.0]
    model = SmoothL1Regressor()
    fit = linearised(model.fit(X, y), X, y)
    batch, n_failed = replicates_of(fit, joint=joint)
    assert n_failed == 0
    np.testing.assert_allclose(np.median(batch, axis=0), [1.0, 2.0, -1.0], rtol=1e-9)


def test_an_exact_fit_is_bootstrapped():
    X, _ = problem(40, 2)
    y = 1.0 + X @ [2.0, -1.0]
    batch, n_failed = replicates_of(linearised(SmoothL1Regressor().fit(X, y), X, y))
    assert n_failed == 0
    np.testing.assert_allclose(batch, np.tile([1.0, 2.0, -1.0], (N_RESAMPLES, 1)), rtol=1e-9)


def test_fits_that_do_not_converge_are_nan(monkeypatch):
    X, y = problem()
    monkeypatch.setattr(bootstrap, "NEWTON_MAX_STEPS", 0)
    monkeypatch.setattr(bootstrap, "OWN_MAX_ITER", 0)
    batch, n_failed = replicates_of(linearised(SmoothL1Regressor().fit(X, y), X, y))
    assert n_failed == N_RESAMPLES
    assert np.isnan(batch).all()


# Random numbers --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fixed", "auto", "concomitant"])
def test_the_size_of_a_batch_does_not_matter(name, monkeypatch):
    X, y = problem()
    fit = linearised(MODELS[name].fit(X, y), X, y)
    at_once, _ = replicates_of(fit)
    monkeypatch.setattr(bootstrap, "BATCH_ELEMENTS", 7 * len(y))
    in_parts, _ = replicates_of(fit)
    np.testing.assert_allclose(in_parts, at_once, rtol=1e-9)


def test_the_same_random_state_gives_the_same_bits(monkeypatch):
    X, y = problem()
    fit = linearised(SmoothL1Regressor().fit(X, y), X, y)
    first, _ = replicates_of(fit, random_state=3)
    second, _ = replicates_of(fit, random_state=np.random.RandomState(3))
    assert_array_equal(first, second)
    other, _ = replicates_of(fit, random_state=4)
    assert not np.isclose(first, other).all(axis=1).any()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert_array_equal(first, replicates_of(fit, random_state=3)[0])


@pytest.mark.parametrize("random_state", [None, 0])
def test_the_global_random_state_is_untouched(random_state):
    X, y = problem(30)
    fit = linearised(SmoothL1Regressor().fit(X, y), X, y)
    before = np.random.get_state()  # noqa: NPY002
    replicates_of(fit, random_state=random_state)
    after = np.random.get_state()  # noqa: NPY002
    assert_array_equal(before[1], after[1])
    assert before[2:] == after[2:]


def test_no_random_state_gives_other_replicates_each_time():
    X, y = problem(30)
    fit = linearised(SmoothL1Regressor().fit(X, y), X, y)
    assert (
        replicates_of(fit, random_state=None)[0] != replicates_of(fit, random_state=None)[0]
    ).any()
