"""SmoothL1Regressor: interrupted fits and callbacks."""

import contextlib
import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.model_selection import GridSearchCV
from threadpoolctl import threadpool_info, threadpool_limits

import skrobust._regressor
import skrobust._training_data
from problems import (
    SCALES,
    TARGETS,
    Recorder,
    X,
    Y,
    needs_callbacks,
    one_and_three_targets,
    plain_and_weighted,
    residual,
    sklearn_callback,
)
from skrobust import SmoothL1Regressor

# Names of functions that perform steps of a fit. Tests replace these functions, in the modules
# that call them, with functions that fail.
SAMPLING, STAGES, ENGINE = "RowSampler", "fit_stages", "as_engine"


def replace_step(monkeypatch, step, replacement):
    module = skrobust._training_data if step == ENGINE else skrobust._regressor
    monkeypatch.setattr(module, step, replacement)


def blas_threads():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def state(est):
    return {name: pickle.dumps(value) for name, value in vars(est).items()}


def interrupted(*args, **kwargs):
    yield from ()
    raise KeyboardInterrupt


@one_and_three_targets
@pytest.mark.parametrize("where", [SAMPLING, STAGES, ENGINE, "second target"])
def test_interrupted_refit_leaves_the_old_model_unchanged(monkeypatch, where, y):
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    est = SmoothL1Regressor(warm_start=True).fit(frame, Y)
    before, predicted = state(est), est.predict(frame)
    real, calls = getattr(skrobust._regressor, STAGES), []

    def second(*args, **kwargs):
        calls.append(args)
        return real(*args, **kwargs) if len(calls) == 1 else interrupted()

    def at_once(*args, **kwargs):
        raise KeyboardInterrupt

    if where == "second target":
        y = TARGETS
        replace_step(monkeypatch, STAGES, second)
    else:
        replace_step(monkeypatch, where, interrupted if where == STAGES else at_once)
    with pytest.raises(KeyboardInterrupt):
        est.fit(frame.iloc[:, :2], y)
    assert state(est) == before
    assert_array_equal(est.predict(frame), predicted)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_refit_that_is_refused_leaves_the_old_model_unchanged(bad):
    est = SmoothL1Regressor().fit(X, Y)
    before = state(est)
    X_bad = X[:, :2].copy()
    X_bad[5, 1] = bad
    with pytest.raises(ValueError, match="Input X contains"):
        est.fit(X_bad, Y)
    assert state(est) == before


@needs_callbacks
@one_and_three_targets
@pytest.mark.parametrize(
    ("schedule", "n_stages"), [(None, 1), ([9, 3, 1], 3), ("geometric", 4)]
)
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array, pd.DataFrame])
def test_each_stage_is_a_task_of_the_callbacks(form, schedule, n_stages, y):
    recorder = Recorder()
    est = SmoothL1Regressor(beta_schedule=schedule).set_callbacks(recorder)
    est.fit(form(X), y)
    n_targets = 1 if y.ndim == 1 else y.shape[1]
    assert len(recorder.begun) == len(recorder.ended) == 1 + len(est.history_)
    # A named schedule has fewer stages if the threshold is large.
    assert len(est.history_) == n_targets * n_stages or (y.ndim == 2 and n_stages == 4)
    assert recorder.begun[0] is recorder.ended[-1] is recorder.root
    assert recorder.root.max_subtasks == n_targets * n_stages
    assert recorder.torn_down == 1
    assert all(prediction.shape == y.shape for prediction in recorder.predictions)
    assert_allclose(recorder.predictions[-1], est.predict(form(X)), rtol=1e-12)
    bare = SmoothL1Regressor(beta_schedule=schedule).fit(form(X), y)
    assert_array_equal(est.coef_, bare.coef_)
    pickle.dumps(est.set_callbacks())


@needs_callbacks
@pytest.mark.parametrize("mode", SCALES)
def test_callback_that_returns_true_stops_the_fit_there(mode):
    est = SmoothL1Regressor(beta_schedule=[9, 3, 1], **mode)
    est.set_callbacks(Recorder(stop_after=2)).fit(X, Y)
    assert len(est.history_) == 2
    last = est.history_[-1]
    assert (last["beta"], last["scale"]) == (est.beta_, est.scale_)
    assert_array_equal(est.outliers_, np.abs(residual(est)) > est.beta_)
    weights = np.minimum(1, est.beta_ / np.abs(residual(est)))
    assert_allclose(est.weights_, weights, rtol=1e-12)
    at_beta = SmoothL1Regressor(est.beta_).fit(X, Y)
    assert_allclose(est.coef_, at_beta.coef_, rtol=1e-7)
    assert last["objective"] == est.objective_


@needs_callbacks
@pytest.mark.parametrize("at", ["begin", "end"])
@pytest.mark.parametrize("error", [RuntimeError("from the callback"), KeyboardInterrupt()])
def test_callback_that_raises_ends_the_fit_and_leaves_the_old_model_unchanged(error, at):
    est = SmoothL1Regressor().fit(X, Y)
    before = state(est)
    recorder = Recorder(error=error, at=at)
    est.set_callbacks(recorder)
    with pytest.raises(type(error)):
        est.fit(X[:, :2], TARGETS)
    assert recorder.torn_down == 1
    assert state(est.set_callbacks()) == before


@pytest.mark.parametrize("error", [RuntimeError(), KeyboardInterrupt()])
@pytest.mark.parametrize(
    "where", ["nowhere", SAMPLING, STAGES, pytest.param("callback", marks=needs_callbacks)]
)
def test_blas_has_its_threads_again_after_every_fit(monkeypatch, where, error):
    est, seen = SmoothL1Regressor(), []

    def failing(*args, **kwargs):
        seen.extend(blas_threads())
        raise error

    if where == "callback":
        est.set_callbacks(Recorder(error=error))
    elif where != "nowhere":
        replace_step(monkeypatch, where, failing)
    with threadpool_limits(2, user_api="blas"):
        threads = blas_threads()
        with contextlib.nullcontext() if where == "nowhere" else pytest.raises(type(error)):
            est.fit(X, Y)
        assert blas_threads() == threads
    assert set(seen) <= {1}


@needs_callbacks
@plain_and_weighted
def test_scoring_monitor_scores_each_stage(weight):
    monitor = sklearn_callback.ScoringMonitor(scoring="r2")
    est = SmoothL1Regressor(beta_schedule=[9, 3, 1]).set_callbacks(monitor)
    est.fit(X, Y, weight)
    frame = monitor.get_logs().data_as_pandas
    stages = frame[frame.task_name == "beta stage"]
    assert len(stages) == 3
    assert_allclose(stages.r2.iloc[-1], est.score(X, Y, weight), rtol=1e-9)


@needs_callbacks
def test_progress_bar_shows_the_stages_and_a_search(capsys):
    pytest.importorskip("rich.progress")
    est = SmoothL1Regressor(beta_schedule="geometric")
    est.set_callbacks(sklearn_callback.ProgressBar()).fit(X, TARGETS)
    assert "SmoothL1Regressor" in capsys.readouterr().out
    search = GridSearchCV(SmoothL1Regressor(), {"beta": [0.1, 1.0]}, cv=2)
    search.set_callbacks(sklearn_callback.ProgressBar(max_propagation_depth=2)).fit(X, Y)
    assert "100%" in capsys.readouterr().out
