"""SmoothL1Regressor: iterations, tolerance, schedules and the history of a fit."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression

from problems import (
    LOSSES,
    SCALES,
    TARGETS,
    X,
    Y,
    concomitant,
    documented_objective,
    residual,
    stopped,
)
from skrobust import SmoothL1Regressor
from skrobust._fit import fit_stages
from skrobust.losses import smooth_l1
from skrobust.metrics import mean_huber_loss, mean_smooth_l1_loss

pytestmark = pytest.mark.usefixtures("each_engine")


@pytest.mark.parametrize("schedule", [None, "geometric", [9, 3, 1]])
@pytest.mark.parametrize("mode", SCALES)
def test_too_few_iterations_give_one_warning_and_the_best_iterate(mode, schedule):
    params = mode | {"beta_schedule": schedule}
    enough = SmoothL1Regressor(**params).fit(X, Y)
    start = np.average(smooth_l1(Y - np.median(Y), enough.beta_))
    for max_iter in [1, 2, 3]:
        with pytest.warns(ConvergenceWarning) as caught:
            est = SmoothL1Regressor(max_iter=max_iter, **params).fit(X, Y)
        assert len(caught) == 1
        message = str(caught[0].message)
        assert re.search(rf"max_iter.*{max_iter}\b", message)
        assert re.search(r"gradient norm is \d.*tol=1e-08", message)
        assert "Increase max_iter" in message
        assert est.n_iter_ <= max_iter
        assert_allclose(est.objective_, documented_objective(est), rtol=1e-12)
        assert np.average(smooth_l1(residual(est), enough.beta_)) < start


@pytest.mark.parametrize("beta", [1e-2, 0.05, 1.0])
def test_more_iterations_are_never_worse(beta):
    objectives = [stopped(k, beta=beta).objective_ for k in range(1, 25)]
    assert objectives[0] > objectives[-1]
    # While the threshold is lowered, iterates are minimisers at larger thresholds. Objectives
    # at two thresholds differ by at most half of the larger threshold.
    slack = 1e-14 if beta == 1.0 else 0.1
    assert np.all(np.diff(objectives) <= slack)


# Found by a random search: the second stage reached max_iter near an exact fit, and the third
# returned the coefficients of the second with the scale of the least-squares residuals.
TWO_ROWS = (
    np.array(
        [
            [0.173149318, 0.189299563, -10059.2205, 743354.558, 2.05e-7],
            [0.0924728739, -0.0879968642, -2998.2259, -261858.212, -1.23e-6],
        ]
    ),
    np.array([-10.19433162, 5.14222634]),
)


@pytest.mark.parametrize("data", [TWO_ROWS, (X, Y)], ids=["exact", "usual"])
@pytest.mark.parametrize("mode", [{"scale": "concomitant"}, {"beta": 1e-2}, {"beta": 1.7}])
@pytest.mark.parametrize("alpha", [0.0, 0.1])
@pytest.mark.parametrize("max_iter", [1, 2, 3, 7, 20, 1000])
def test_no_stage_ends_below_the_result(monkeypatch, data, mode, alpha, max_iter):
    stages = []

    def recorded(*args):
        for stage in fit_stages(*args):
            stages.append(stage)
            yield stage

    monkeypatch.setattr("skrobust._regressor.fit_stages", recorded)
    est = SmoothL1Regressor(
        loss="huber", alpha=alpha, beta_schedule=[10, 3, 1], max_iter=max_iter, **mode
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        est.fit(*data)
    for stage in stages:
        r = data[1] - data[0] @ stage.coef - stage.intercept
        values = [mean_huber_loss(r, np.zeros_like(r), delta=est.beta_)]
        if est.scale:
            scales = np.abs(r).max() * np.logspace(-9, 1, 200)
            values = [concomitant(r, sigma, 1.5960, "huber") for sigma in scales]
        penalty = alpha / 2 * stage.coef @ stage.coef
        assert est.objective_ <= (min(values) + penalty) * (1 + 1e-9) + 1e-10


def test_several_targets_that_do_not_converge_give_one_warning():
    with pytest.warns(ConvergenceWarning) as caught:
        SmoothL1Regressor(beta=0.01, max_iter=1).fit(X, TARGETS)
    assert len(caught) == 1


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("alpha", [0.0, 0.1])
@pytest.mark.parametrize("mode", [*SCALES, {"beta": 1e-5}])
def test_tol_zero_converges_to_rounding_error_without_a_warning(mode, alpha, loss):
    params = mode | {"alpha": alpha, "loss": loss}
    exact = SmoothL1Regressor(tol=0, **params).fit(X, Y)
    usual = SmoothL1Regressor(**params).fit(X, Y)
    assert_allclose(exact.coef_, usual.coef_, rtol=1e-7)
    assert 0 <= exact.optimality_ < 1e-10
    rough = SmoothL1Regressor(tol=1e-2, **params).fit(X, Y)
    assert rough.n_iter_ <= usual.n_iter_ <= exact.n_iter_


@pytest.mark.parametrize("mode", SCALES)
@pytest.mark.parametrize("y", [Y, np.zeros(len(Y)), X @ [1.0, 2.0, 3.0]])
def test_n_iter_is_at_least_one_and_at_most_max_iter(mode, y):
    est = SmoothL1Regressor(warm_start=True, **mode).fit(X, y).fit(X, y)
    assert isinstance(est.n_iter_, (int, np.integer))
    assert 1 <= est.n_iter_ <= 1000


COLUMNS = ["target", "beta", "scale", "n_iter", "n_eval", "objective", "gradient_norm"]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("mode", SCALES)
def test_history_has_a_row_for_each_stage(mode, loss):
    multipliers = [50, 10, 2, 1]
    est = SmoothL1Regressor(loss=loss, beta_schedule=multipliers, **mode).fit(X, Y)
    frame = pd.DataFrame(est.history_)
    # Only fits to blocks of rows have the column n_rounds.
    columns = set(frame.columns) - {"n_rounds"}
    assert columns == {*COLUMNS, "message", "algorithms", "n_active"}
    assert len(frame) == 4
    assert all(isinstance(message, str) and message for message in frame.message)
    factor = est.beta_ / est.scale_
    assert_allclose(frame.beta, multipliers * frame.scale * factor, rtol=1e-14)
    last = frame.iloc[-1]
    assert (last.beta, last.scale) == (est.beta_, est.scale_)
    assert last.objective == est.objective_
    assert frame.n_iter.sum() == est.n_iter_
    assert np.all(frame.n_eval >= 1)
    assert_array_equal(frame.n_eval, [sum(a.values()) for a in frame.algorithms])
    assert np.all(frame.gradient_norm <= 1e-8)
    if mode == SCALES[1]:
        assert_allclose(frame.beta, np.multiply(multipliers, 1.7), rtol=1e-15)
        assert_array_equal(frame.scale, 1.0)
        for stage in est.history_:
            alone = SmoothL1Regressor(stage["beta"], loss=loss).fit(X, Y)
            assert_allclose(stage["objective"], alone.objective_, rtol=1e-10)


def test_history_names_the_targets():
    est = SmoothL1Regressor(beta_schedule=[4, 1]).fit(X, TARGETS)
    frame = pd.DataFrame(est.history_)
    assert_array_equal(frame.target, [0, 0, 1, 1, 2, 2])
    for j, stages in frame.groupby("target"):
        assert stages.beta.iloc[-1] == est.beta_[j]
        assert max(1, stages.n_iter.sum()) == est.n_iter_[j]


@pytest.mark.parametrize("name", ["geometric", "linear", "cosine"])
@pytest.mark.parametrize("mode", SCALES)
def test_named_schedule_starts_with_nearly_all_residuals_inside_the_threshold(name, mode):
    est = SmoothL1Regressor(beta_schedule=name, **mode).fit(X, Y)
    betas = np.array([stage["beta"] for stage in est.history_])
    assert len(betas) == 4
    assert np.all(np.diff(betas) < 0)
    assert betas[-1] == est.beta_
    least_squares_fit = LinearRegression().fit(X, Y)
    assert np.mean(np.abs(residual(least_squares_fit)) <= betas[0]) >= 0.95


def test_named_schedule_from_below_the_threshold_is_one_stage():
    est = SmoothL1Regressor(1e3, beta_schedule="geometric").fit(X, Y)
    assert [stage["beta"] for stage in est.history_] == [1e3]


@pytest.mark.parametrize("schedule", [[1], [1.0], np.array([1])])
def test_schedule_of_one_stage_is_no_schedule(schedule):
    est = SmoothL1Regressor(beta_schedule=schedule).fit(X, Y)
    assert_array_equal(est.coef_, SmoothL1Regressor().fit(X, Y).coef_)
    assert len(est.history_) == 1


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_a_scale_that_does_not_converge_is_that_of_the_objective(monkeypatch, rounds):
    # Found by a random search: the reported scale was the next candidate, whereas the reported
    # objective was the value at the previous candidate.
    monkeypatch.setattr("skrobust._solvers.scale_fixed_point.MAX_ROUNDS", rounds)
    with pytest.warns(ConvergenceWarning, match="the scale did not converge"):
        est = SmoothL1Regressor().fit(X, Y)
    loss = mean_smooth_l1_loss(Y, est.predict(X), beta=est.beta_)
    assert est.objective_ == pytest.approx(loss, rel=1e-12)


def test_the_warning_points_at_the_call_of_fit():
    with pytest.warns(ConvergenceWarning) as caught:
        SmoothL1Regressor(max_iter=1).fit(X, Y)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(("n", "seed"), [(300, 25), (1000, 48), (1000, 81), (1000, 110)])
def test_newton_steps_within_rounding_do_not_cycle(n, seed):
    # In an earlier version, Newton's method alternated until max_iter between two points, one
    # with the lower value and the other with the smaller gradient.
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 1)) + 10.0 ** rng.integers(0, 7)
    est = SmoothL1Regressor(beta=1.0).fit(X, X.sum(axis=1) / X.std())
    assert est.history_[0]["n_eval"] < 100
