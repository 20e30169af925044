"""SmoothL1Regressor as a scikit-learn estimator: parameters, pipelines, metadata routing."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.metrics import get_scorer, make_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from problems import FITTED, WEIGHT, X, Y, one_and_three_targets
from skrobust import SmoothL1Regressor
from skrobust.metrics import mean_smooth_l1_loss


def test_parameters_and_defaults_are_the_documented_ones():
    expected = {
        "beta": "auto",
        "loss": "smooth_l1",
        "scale": None,
        "alpha": 0.0,
        "l1_ratio": 0.0,
        "positive": False,
        "penalty_weights": None,
        "fit_intercept": True,
        "beta_schedule": None,
        "solver": "auto",
        "max_iter": 1000,
        "tol": 1e-8,
        "warm_start": False,
    }
    assert SmoothL1Regressor().get_params() == expected
    assert SmoothL1Regressor(2.0).beta == 2.0
    with pytest.raises(TypeError):
        SmoothL1Regressor(2.0, "huber")


def test_fit_leaves_the_parameters_as_given_and_clone_forgets_the_fit():
    schedule = [4, 1]
    est = SmoothL1Regressor(np.float32(2), alpha=1, beta_schedule=schedule)
    before = est.get_params()
    est.fit(X, Y)
    assert all(est.get_params()[name] is value for name, value in before.items())
    assert schedule == [4, 1]
    copy = clone(est)
    assert copy.get_params() == before
    assert not [name for name in vars(copy) if name.endswith("_")]


@one_and_three_targets
def test_pickle_keeps_the_fit(y):
    est = SmoothL1Regressor(beta_schedule="linear").fit(X, y)
    copy = pickle.loads(pickle.dumps(est))
    for name in FITTED:
        assert_array_equal(getattr(copy, name), getattr(est, name), err_msg=name)
    assert_array_equal(copy.predict(X), est.predict(X))


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_names_of_features_are_kept_and_checked(frame):
    names = ["a", "b", "c"]
    data = frame(dict(zip(names, X.T, strict=True)))
    est = SmoothL1Regressor().fit(data, Y)
    assert_array_equal(est.feature_names_in_, names)
    assert est.n_features_in_ == 3
    assert_allclose(est.predict(data), SmoothL1Regressor().fit(X, Y).predict(X), rtol=1e-9)
    with pytest.raises(ValueError, match="feature names"):
        est.predict(data[["c", "b", "a"]])
    est.fit(X, Y)
    assert not hasattr(est, "feature_names_in_")


@pytest.mark.parametrize("convert", [pd.Series, pd.DataFrame, pl.Series, list])
def test_y_may_be_a_series_or_a_frame(convert):
    est = SmoothL1Regressor().fit(X, convert(Y))
    assert_array_equal(np.ravel(est.coef_), SmoothL1Regressor().fit(X, Y).coef_)


def test_grid_search_over_the_threshold_in_a_pipeline():
    pipeline = make_pipeline(StandardScaler(), SmoothL1Regressor(loss="huber", alpha=0.01))
    betas = [1e-2, 1.0, 1e6]
    scoring = make_scorer(mean_smooth_l1_loss, beta=1e-3, greater_is_better=False)
    search = GridSearchCV(pipeline, {"smoothl1regressor__beta": betas}, scoring=scoring, cv=4)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4))
    y = X @ [1, 2, 3, 4] + rng.standard_t(3, 200)
    y[X[:, 0] > 1] += 100
    search.fit(X, y)
    assert search.best_params_["smoothl1regressor__beta"] < 1e6
    assert search.best_estimator_[-1].beta_ in betas[:2]
    losses = -search.cv_results_["mean_test_score"]
    assert losses[2] > 1.05 * losses[:2].max()


def test_sample_weight_reaches_the_fit_through_metadata_routing():
    with config_context(enable_metadata_routing=True):
        est = SmoothL1Regressor().set_fit_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=True), est)
        direct = SmoothL1Regressor().fit(X, Y, WEIGHT)
        routed = pipeline.fit(X, Y, sample_weight=WEIGHT)
        assert_allclose(routed.predict(X), direct.predict(X), rtol=1e-7)
        scoring = get_scorer("neg_mean_absolute_error").set_score_request(sample_weight=True)
        grid = {"smoothl1regressor__beta": [0.1, 1.0]}
        search = GridSearchCV(pipeline, grid, cv=3, scoring=scoring)
        search.fit(X, Y, sample_weight=WEIGHT)
        best = clone(direct).set_params(beta=search.best_estimator_[-1].beta)
        assert_allclose(search.predict(X), best.fit(X, Y, WEIGHT).predict(X), rtol=1e-7)
    plain = make_pipeline(StandardScaler(), SmoothL1Regressor())
    plain.fit(X, Y, smoothl1regressor__sample_weight=WEIGHT)
    assert_allclose(plain.predict(X), direct.predict(X), rtol=1e-7)
