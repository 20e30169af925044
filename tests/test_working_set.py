"""Sums over all rows, computed from the columns and rows of a working set; fits along grids."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import scale

from skrobust import SmoothL1Regressor, _fit, _solvers, smooth_l1_path
from skrobust._engines.dense import DenseEngine
from skrobust._engines.threads import ThreadTeam
from skrobust._model.linear_loss import RegressionData
from skrobust._sampling import uniform_sample
from skrobust._solvers import working_columns
from skrobust._solvers.near_rows import NearRows
from skrobust._solvers.working_columns import WorkingColumns

N, P, BETA = 90, 6, 1.0


def data(n=N, p=P, seed=0):
    rng = np.random.default_rng(seed)
    X = scale(rng.normal(size=(n, p)) + rng.normal(size=(n, 1)))
    return X, rng.normal(size=n) * 2.0, rng.uniform(0.5, 2.0, size=n)


def columns_of(X, y, weight=None, fit_intercept=True):
    engine = DenseEngine(X, ThreadTeam())
    return WorkingColumns(RegressionData.of(engine, y, weight, fit_intercept))


def assert_sums(columns, X, inside):
    """Assert that the columns and their Hessian equal those of X."""
    Z = np.column_stack([np.ones(len(X)), X])[:, columns.index]
    assert_array_equal(columns.Z, Z.T)
    assert_allclose(columns.H, (Z[inside].T * columns.s[inside]) @ Z[inside], atol=1e-13)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_the_hessian_follows_features_and_rows(weighted, fit_intercept, monkeypatch):
    monkeypatch.setattr(working_columns, "BLOCK_MIN_ROWS", 16)
    monkeypatch.setattr(working_columns, "BLOCK_ELEMENTS", 64)
    X, y, weight = data()
    columns = columns_of(X, y, weight if weighted else None, fit_intercept)
    rng = np.random.default_rng(1)
    inside = rng.random(N) < 0.5
    for new in ([3], [], [1, 3, 6], [2]):
        columns.add(np.array(new, dtype=int))
        columns.update(inside)
        assert_sums(columns, X, inside)
        for rows in rng.integers(N, size=(3, 4)):
            inside = inside.copy()
            inside[rows] = ~inside[rows]
            columns.update(inside)
            assert_sums(columns, X, inside)
    assert_array_equal(columns.index, [0, 3, 1, 6, 2] if fit_intercept else [3, 1, 6, 2])


class Line:
    """A step from a point, the sums at the point, and the formulas of the objective."""

    def __init__(self, every, seed=0, size=0.05, to_zero=False):
        X, self.y, weight = data(n=400, seed=seed)
        self.columns = columns_of(X, self.y, weight)
        self.columns.add(np.arange(1, P + 1))
        rng = np.random.default_rng(seed)
        self.Z, self.s = self.columns.Z.T, self.columns.s
        self.x = 0.2 * rng.normal(size=P + 1)
        self.slope = np.concatenate([[0.0], rng.uniform(size=P)])
        self.step = size * rng.normal(size=P + 1)
        if to_zero:
            self.step[1] = -self.x[1]
        residual = self.y - self.Z @ self.x
        self.columns.update(np.abs(residual) <= BETA)
        # An ascent direction is reversed, except where it makes a coefficient zero.
        q = self.loss_slope(self.x)
        if (self.slope * np.sign(self.x) - q) @ self.step > 0:
            self.step = np.where(self.step == -self.x, self.step, -self.step)
        self.q, self.curvature = q, self.columns.H @ self.step
        self.rows = NearRows(self.columns, residual, BETA, self.step, every)

    def loss_slope(self, x):
        """Return Σ s ψ z at coefficients x."""
        return (self.s * np.clip(self.y - self.Z @ x, -BETA, BETA)) @ self.Z

    def value(self, x):
        r = np.abs(self.y - self.Z @ x)
        rho = np.where(r <= BETA, 0.5 * r * r, BETA * (r - 0.5 * BETA))
        return self.s @ rho + self.slope @ np.abs(x)

    def minimum(self):
        return self.rows.line_minimum(self.x, self.step, self.q, self.curvature, self.slope)


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_sums_follow_the_rows_that_cross_the_threshold(seed, every):
    line = Line(every, seed)
    t = line.minimum()
    q = line.q - t * line.curvature + line.rows.move(t)
    x = line.x + t * line.step
    assert_allclose(q, line.loss_slope(x), atol=1e-13)
    inside = np.abs(line.y - line.Z @ x) <= BETA
    assert (inside != (np.abs(line.y - line.Z @ line.x) <= BETA)).any()
    assert_array_equal(line.columns.inside, inside)
    Z = line.Z[inside]
    assert_allclose(line.columns.H, (Z.T * line.s[inside]) @ Z, atol=1e-13)


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [0.01, 1.0])
def test_the_length_is_near_the_minimum_along_the_step(seed, every, size):
    line = Line(every, seed, size)
    t = line.minimum()
    assert 0.0 < t <= 1.0
    lengths = np.linspace(0.0, 1.0, 1001)
    values = [line.value(line.x + length * line.step) for length in lengths]
    start, lowest = values[0], min(values)
    assert line.value(line.x + t * line.step) <= start - 0.9 * (start - lowest)


def test_a_step_that_ends_where_a_coefficient_is_zero_is_taken_in_full():
    line = Line(every=False, to_zero=True)
    # The minimum of the smooth part along the step is beyond t = 1, where a coefficient becomes
    # zero. The large penalty on this coefficient keeps the minimum of the objective at t = 1.
    line.slope[1] = 10.0
    line.step[2:] = line.step[0] = 0.0
    line.curvature = line.columns.H @ line.step
    assert line.minimum() == 1.0


SETTINGS = {
    "huber": {"beta": 1.0, "loss": "huber"},
    "smooth_l1": {"beta": 0.5},
    "no intercept": {"beta": 1.0, "fit_intercept": False},
    "positive": {"beta": 1.0, "positive": True},
    "elastic net": {"beta": 1.0, "loss": "huber", "l1_ratio": 0.5},
    "mad": {"scale": "mad", "loss": "huber"},
    "concomitant": {"scale": "concomitant"},
}


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("shape", [(300, 40), (60, 90)])
def test_points_of_a_path_are_single_fits(setting, shape):
    rng = np.random.default_rng(0)
    X = rng.normal(size=shape)
    X[:, 1:] += 0.5 * X[:, :-1]
    y = X[:, :5].sum(axis=1) + 0.5 * rng.normal(size=shape[0])
    y[::10] += 10.0
    options = {"l1_ratio": 1.0, "tol": 1e-11, **setting}
    path = smooth_l1_path(X, y, alphas=[0.4, 0.35, 0.3, 0.2, 0.1], **options)
    for alpha, coef in zip(path.grid, path.coefs.T, strict=True):
        single = SmoothL1Regressor(alpha=alpha, **options).fit(X, y)
        assert_array_equal(coef == 0, single.coef_ == 0)
        assert_allclose(coef, single.coef_, atol=1e-8)


def test_a_point_of_a_fine_grid_takes_a_few_iterations():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 30))
    y = X[:, :5].sum(axis=1) + rng.normal(size=1000)
    path = smooth_l1_path(X, y, beta=1.0, loss="huber", l1_ratio=1.0, alphas=60)
    # n_iters counts Newton steps and passes. At the first point of the path, all coefficients
    # are zero.
    assert np.median(path.n_iters[1:]) <= 4


# A start from a sample -------------------------------------------------------------------


def tall():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 6))
    X[:, 4] = 0.0
    # This feature varies only in a few high-leverage rows.
    X[7::900, 4] = 100.0
    y = X[:, :3].sum(axis=1) + X[:, 4] + rng.normal(size=4000)
    y[::10] += 20.0
    return X, y


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "setting", [{}, {"positive": True}, {"fit_intercept": False}, {"l1_ratio": 0.5}]
)
def test_the_start_from_a_sample_has_no_effect_on_the_fit(setting, weighted, monkeypatch):
    X, y = tall()
    weight = np.arange(4000) % 4.0 if weighted else None
    model = SmoothL1Regressor(
        1.0, loss="huber", alpha=0.05, **{"l1_ratio": 1.0, "tol": 1e-11, **setting}
    )
    direct = clone(model).fit(X, y, weight)
    samples = []

    def recorded(problem):
        samples.append(uniform_sample(problem))
        return samples[-1]

    monkeypatch.setattr(_solvers, "TALL_MIN_ELEMENTS", 0)
    monkeypatch.setattr(_fit, "uniform_sample", recorded)
    sampled = clone(model).fit(X, y, weight)
    assert [sample.engine.n for sample in samples] == [300]
    assert_allclose(sampled.coef_, direct.coef_, atol=1e-8)
    assert_allclose(sampled.intercept_, direct.intercept_, atol=1e-8)


@pytest.mark.parametrize("max_iter", [1, 2])
def test_a_fit_that_is_stopped_after_a_sample_is_not_above_the_null_model(
    max_iter, monkeypatch
):
    monkeypatch.setattr(_solvers, "TALL_MIN_ELEMENTS", 0)
    X, y = tall()
    # The last feature equals y except in three rows outside the sample.
    sample = np.random.default_rng(0).choice(4000, 300, replace=False, shuffle=False)
    X[:, 5] = y
    X[np.setdiff1d(np.arange(4000), sample)[:3], 5] = 1e6
    model = SmoothL1Regressor(1.0, loss="huber", alpha=1e-3, l1_ratio=1.0, max_iter=max_iter)
    with pytest.warns(ConvergenceWarning, match="gap"):
        model.fit(X, y)
    null = SmoothL1Regressor(1.0, loss="huber", alpha=1e3, l1_ratio=1.0).fit(X, y)
    assert model.objective_ <= null.objective_ * (1 + 1e-3)


@pytest.mark.parametrize("fold", range(5))
def test_paths_near_interpolation_converge(fold):
    # With fewer rows than features, the step to the minimum of the loss over the rows with
    # |r| ≤ β may move a residual from above β to below −β, or vice versa.
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 300))
    y = X[:, :5] @ [3.0, -2.0, 2.0, -1.5, 1.0] + rng.normal(size=100)
    y[rng.permutation(100)[:10]] += 40
    left_out = slice(20 * fold, 20 * fold + 20)
    X, y = np.delete(X, left_out, axis=0), np.delete(y, left_out)
    parameters = {"loss": "huber", "beta": 1.345, "l1_ratio": 0.5}
    path = smooth_l1_path(X, y, alphas=20, **parameters)
    assert path.n_iters.max() <= 100
    for k in (5, 14, 19):
        single = SmoothL1Regressor(alpha=path.grid[k], **parameters).fit(X, y)
        assert_allclose(path.objectives[k], single.objective_, rtol=1e-8)
        assert single.optimality_ <= 1e-8
