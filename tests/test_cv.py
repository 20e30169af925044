"""SmoothL1RegressorCV gives the same results as GridSearchCV and follows its conventions.

GridSearchCV over beta is also tested here, with every joblib backend.
"""

import io
import pickle
import tracemalloc
import warnings

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.stats import sem
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import get_scorer, make_scorer, mean_absolute_error
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneOut,
    RepeatedKFold,
    ShuffleSplit,
    TimeSeriesSplit,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, SplineTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

import skrobust._cv
from problems import needs_callbacks, sklearn_callback
from skrobust import SmoothL1Regressor, SmoothL1RegressorCV

BETAS = [0.1, 0.5, 2.0, 10.0]
MAE = "neg_mean_absolute_error"
FITTED = ["coef_", "intercept_", "beta_", "scale_", "n_iter_", "objective_", "optimality_"]
FITTED += ["outliers_", "weights_", "history_"]


def make(n=200, p=4, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) * np.geomspace(0.1, 10, p) + 1.0
    y = X @ np.linspace(2, -1, p) + 3 + rng.standard_t(2, n)
    y[:: max(1, n // 10)] += 30 * X[:: max(1, n // 10), 0]
    return X, y


X, Y = make()
WEIGHT = np.random.default_rng(9).integers(0, 4, len(Y)).astype(float)
TARGETS = np.column_stack([Y, np.sin(Y), 1e3 * Y**2])
GROUPS = np.random.default_rng(8).integers(0, 6, len(Y))


@pytest.mark.slow
@parametrize_with_checks(
    [
        SmoothL1RegressorCV(),
        # To save time, searches with other parameters have only a few thresholds and folds.
        SmoothL1RegressorCV([0.1, 1.0, "auto"], alphas=[0.01, 0.1], loss="huber", cv=3),
        SmoothL1RegressorCV(3, scale="mad", scoring="r2", cv=2),
        SmoothL1RegressorCV(3, scale="concomitant", cv=2),
        SmoothL1RegressorCV(3, fit_intercept=False, alphas=[0.1], cv=2, n_jobs=2),
    ]
)
def test_estimator_checks(estimator, check):
    check(estimator)


# Some of scikit-learn's checks use folds with no more rows than features. With the smallest
# penalties, fits nearly interpolate these folds and need not converge.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.slow
@parametrize_with_checks(
    [
        SmoothL1RegressorCV(2, alphas=3, l1_ratio=[0.5, 1.0], loss="huber", cv=2),
        SmoothL1RegressorCV(
            [1.0], alphas=2, l1_ratio=[1.0, 0.5], scale="mad", positive=True, cv=2
        ),
        SmoothL1RegressorCV([1.35], alphas=3, l1_ratio=1, scale="concomitant", cv=2),
    ]
)
def test_estimator_checks_of_sparse_searches(estimator, check):
    check(estimator)


# The search ----------------------------------------------------------------------------


def assert_same_search(model, X, y, scoring=MAE, rtol=1e-7, **fit_params):
    """Assert that GridSearchCV gives the same results with the same grid, splits and scorer."""
    params = model.get_params()
    grid = {"alpha": list(params.pop("alphas")), "beta": list(params.pop("betas"))}
    cv, _ = params.pop("cv"), params.pop("scoring")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        del params["n_jobs"], params["refit"]
        search = GridSearchCV(SmoothL1Regressor(**params), grid, cv=cv, scoring=scoring)
        search.fit(X, y, **fit_params)
        model.fit(X, y, **fit_params)
    assert list(search.cv_results_["params"]) == model.cv_results_["params"]
    for name, there in search.cv_results_.items():
        if "test_score" in name and "rank" not in name:
            scale = 1.0 if "std" not in name else np.abs(search.best_score_)
            here = model.cv_results_[name]
            assert_allclose(here, there, rtol=rtol, atol=rtol * scale * ("std" in name))
    mean = search.cv_results_["mean_test_score"]
    assert_allclose(mean[model.best_index_], mean.max(), rtol=rtol)
    return search


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"betas": [0.5, "auto", 5.0]},
        {"alphas": [0.0, 0.1, 10.0], "loss": "huber"},
        {"alphas": [1e-3, 0.1]},
        {"scale": "mad"},
        {"scale": "mad", "alphas": [0.1], "loss": "huber"},
        {"scale": "mad", "alphas": [0.1]},
        {"scale": "concomitant", "betas": [1.1, 1.35, "auto", 3.0]},
        {"scale": "concomitant", "betas": [1.1, 3.0], "alphas": [0.1], "loss": "huber"},
    ],
)
def test_scores_are_those_of_grid_search(options, fit_intercept):
    model = SmoothL1RegressorCV(fit_intercept=fit_intercept, **{"betas": BETAS} | options)
    assert_same_search(model, X, Y)


@pytest.mark.parametrize(
    "cv",
    [
        2,
        KFold(4, shuffle=True, random_state=0),
        ShuffleSplit(3, test_size=0.3, random_state=0),
        ShuffleSplit(3, train_size=0.1, random_state=0),
        RepeatedKFold(n_splits=3, n_repeats=2, random_state=0),
        TimeSeriesSplit(4),
        [(np.arange(150), np.arange(150, 200)), (list(range(50, 200)), list(range(50)))],
        [(np.arange(200) % 3 > 0, np.arange(200) % 3 == 0)],
    ],
)
def test_any_way_of_splitting(cv):
    assert_same_search(SmoothL1RegressorCV(BETAS, cv=cv), X, Y)


@pytest.mark.slow
def test_leave_one_out():
    rows = slice(0, 40)
    assert_same_search(SmoothL1RegressorCV(BETAS, cv=LeaveOneOut()), X[rows], Y[rows])


@pytest.mark.parametrize(
    "scoring",
    [
        "r2",
        "neg_median_absolute_error",
        make_scorer(mean_absolute_error),
        lambda m, X, y: m.beta,
    ],
)
def test_any_scorer(scoring):
    assert_same_search(SmoothL1RegressorCV(BETAS, scoring=scoring), X, Y, scoring)


@pytest.mark.parametrize(
    "form",
    [
        np.asfortranarray,
        np.float32,
        sparse.csr_array,
        sparse.csc_matrix,
        pd.DataFrame,
        lambda X: pl.DataFrame(X, schema=list("abcd")),
        lambda X: X.tolist(),
        lambda X: np.lib.stride_tricks.as_strided(X, writeable=False),
    ],
)
def test_forms_of_x(form):
    data = form(X)
    rtol = 1e-5 if getattr(data, "dtype", None) == np.float32 else 1e-7
    model = SmoothL1RegressorCV(BETAS)
    assert_same_search(model, data, Y, rtol=rtol)
    assert model.predict(data).shape == Y.shape


@pytest.mark.parametrize("options", [{}, {"scale": "mad"}])
def test_targets_share_one_threshold(options):
    model = SmoothL1RegressorCV(BETAS, **options)
    assert_same_search(model, X, TARGETS)
    assert model.coef_.shape == (3, 4)
    assert model.predict(X).shape == TARGETS.shape
    assert model.fit(X, Y[:, None]).coef_.shape == (1, 4)


@pytest.mark.parametrize("options", [{}, {"alphas": [0.1], "loss": "huber"}])
@pytest.mark.parametrize(
    "kind", ["level of one fold", "constant", "dependent", "wide", "leverage"]
)
def test_folds_in_which_columns_are_dependent(kind, options):
    X, y = make(p=6)
    if kind == "level of one fold":
        X[:, 1] = np.arange(len(y)) == 7
        X[:, 2] = 1e6 + (np.arange(len(y)) < 3)
    elif kind == "constant":
        X[:, 1] = 5.0
    elif kind == "dependent":
        X[:, 1] = 2 * X[:, 0] - X[:, 2]
    elif kind == "wide":
        X, y = make(n=40, p=50)
    else:
        X[::50] *= 1e4
    assert_same_search(SmoothL1RegressorCV(BETAS[1:], **options), X, y, rtol=1e-6)


def test_one_hot_levels_and_splines():
    level = OneHotEncoder(sparse_output=False).fit_transform(
        (np.arange(200) ** 2 % 13)[:, None]
    )
    features = np.hstack([level, SplineTransformer().fit_transform(X)])
    assert_same_search(SmoothL1RegressorCV(BETAS), features, Y, rtol=1e-6)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_units_change_nothing(unit):
    model = SmoothL1RegressorCV(7).fit(X, Y)
    other = SmoothL1RegressorCV(7).fit(X * [1.0, unit, 1.0, 1.0] + 1e3, unit * Y)
    assert other.best_index_ == model.best_index_
    assert_allclose(other.beta_, unit * model.beta_)
    for name in ("mean_test_score", "param_beta"):
        assert_allclose(other.cv_results_[name], unit * model.cv_results_[name])


def test_default_score_is_the_mean_absolute_error():
    for y in (Y, TARGETS):
        default = SmoothL1RegressorCV(BETAS).fit(X, y, WEIGHT)
        named = SmoothL1RegressorCV(BETAS, scoring=MAE).fit(X, y, WEIGHT)
        for name in ("mean_test_score", "split3_test_score"):
            assert_allclose(default.cv_results_[name], named.cv_results_[name], rtol=1e-12)


def test_an_outlier_in_a_validation_fold_does_not_choose():
    X, y = make(400)
    clean = SmoothL1RegressorCV(10).fit(X, y)
    y[17] = 1e9
    spoiled = SmoothL1RegressorCV(clean.cv_results_["param_beta"]).fit(X, y)
    assert spoiled.best_index_ == clean.best_index_
    # With squared errors, the outlier changes which threshold is selected.
    squared = [
        SmoothL1RegressorCV(clean.cv_results_["param_beta"], scoring="r2").fit(X, y).best_index_
    ]
    assert squared[0] != clean.best_index_


# Results ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"betas": BETAS},
        {"betas": ["auto", 100.0]},
        {"betas": BETAS, "scale": "mad"},
        {"betas": [1.2, 2.0], "scale": "concomitant"},
        {"betas": BETAS, "alphas": [0.1, 0.01], "loss": "huber"},
        {"betas": 5, "refit": "one_standard_error"},
    ],
)
@pytest.mark.parametrize("y", [Y, TARGETS], ids=["1 target", "3 targets"])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_the_refit_is_that_of_the_regressor(options, y, weight):
    model = SmoothL1RegressorCV(**options).fit(X, y, weight)
    shared = {name: options[name] for name in ("loss", "scale") if name in options}
    alone = SmoothL1Regressor(**model.best_params_, **shared).fit(X, y, weight)
    for name in FITTED:
        assert_array_equal(getattr(model, name), getattr(alone, name))
    assert_array_equal(model.predict(X), alone.predict(X))
    assert model.alpha_ == model.best_params_["alpha"]
    if not model.scale and y.ndim == 1:
        # beta_ is in the units of y and can serve as the threshold of a single fit.
        fixed = SmoothL1Regressor(model.beta_, alpha=model.alpha_, loss=model.loss)
        assert_allclose(fixed.fit(X, y, weight).coef_, model.coef_, rtol=1e-7)


def test_cv_results_read_as_a_frame():
    model = SmoothL1RegressorCV([2.0, "auto", 0.5], alphas=[0.1, 0.0], cv=3).fit(X, Y)
    frame = pd.DataFrame(model.cv_results_)
    assert frame.shape == (6, 10)
    assert list(frame["param_beta"]) == [2.0, "auto", 0.5] * 2
    assert list(frame["param_alpha"]) == [0.1] * 3 + [0.0] * 3
    assert all(isinstance(value, np.ndarray | list) for value in model.cv_results_.values())
    splits = frame[[f"split{k}_test_score" for k in range(3)]]
    assert_allclose(frame["mean_test_score"], splits.mean(axis=1))
    assert_allclose(frame["std_test_score"], splits.std(axis=1, ddof=0))
    assert_array_equal(frame["rank_test_score"], frame["mean_test_score"].rank(ascending=False))
    assert frame["rank_test_score"][model.best_index_] == 1
    assert model.best_score_ == frame["mean_test_score"].max()
    assert frame["params"][model.best_index_] == model.best_params_
    assert model.n_splits_ == 3
    numbers = SmoothL1RegressorCV(BETAS).fit(X, Y).cv_results_["param_beta"]
    assert numbers.dtype == float


def test_the_order_of_the_grid_is_kept_and_changes_nothing():
    rng = np.random.default_rng(0)
    up = SmoothL1RegressorCV(np.sort(BETAS), alphas=[0.0, 0.1], loss="huber").fit(X, Y)
    betas, alphas = rng.permutation(BETAS), [0.1, 0.0]
    mixed = SmoothL1RegressorCV(betas, alphas=alphas, loss="huber").fit(X, Y)
    assert mixed.best_params_ == up.best_params_
    key = ["param_alpha", "param_beta"]
    frames = [
        pd.DataFrame(m.cv_results_).sort_values(key, ignore_index=True) for m in (up, mixed)
    ]
    assert_array_equal(frames[0]["mean_test_score"], frames[1]["mean_test_score"])
    assert_array_equal(mixed.cv_results_["param_beta"], [*betas, *betas])


def test_a_number_of_betas_includes_that_of_auto():
    model = SmoothL1RegressorCV(9, cv=2).fit(X, Y)
    betas = model.cv_results_["param_beta"]
    assert_allclose(betas[4], SmoothL1Regressor().fit(X, Y).beta_)
    assert_allclose(betas[[0, -1]] / betas[4], [0.1, 10.0])


def test_names_of_features_are_kept_checked_and_forgotten():
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = SmoothL1RegressorCV(BETAS).fit(frame, Y)
    assert list(model.feature_names_in_) == list("abcd")
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[list("dcba")])
    assert not hasattr(model.fit(X, Y), "feature_names_in_")


def test_parameters_are_kept_and_models_can_be_cloned_and_pickled():
    model = SmoothL1RegressorCV(np.array(BETAS), alphas=(0.1,), loss="huber", cv=3)
    before = model.get_params()
    model.fit(X, Y)
    assert all(model.get_params()[name] is value for name, value in before.items())
    assert not hasattr(clone(model), "coef_")
    assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), model.predict(X))


def test_it_can_be_nested_and_stand_in_a_pipeline():
    pipeline = make_pipeline(SplineTransformer(), SmoothL1RegressorCV(5, cv=3))
    assert np.isfinite(cross_val_score(pipeline, X, Y, scoring=MAE, cv=3)).all()
    search = GridSearchCV(pipeline, {"smoothl1regressorcv__loss": ["huber", "smooth_l1"]}, cv=2)
    assert search.fit(X, Y).best_estimator_[-1].n_splits_ == 3


# The rule that selects the parameters ---------------------------------------------------

FOLDS = [
    (np.setdiff1d(np.arange(200), test), test) for test in np.split(np.arange(60), [10, 30])
]


def scorer_of(table):
    """Return a scorer that looks up, in a table, the score of a model on a fold.

    The keys of the table are thresholds or tuples of parameters. A fold of `FOLDS` is
    identified by its size.
    """

    def score(model, X, y):
        keys = (
            model.beta,
            (model.beta, model.alpha),
            (model.beta, model.l1_ratio, model.alpha),
        )
        return next(table[key] for key in keys if key in table)[len(y) // 10 - 1]

    return score


def selected(table, **options):
    """Return the parameters that the one-standard-error rule selects for the given scores."""
    model = SmoothL1RegressorCV(
        scoring=scorer_of(table), cv=FOLDS, refit="one_standard_error", **options
    )
    return model.fit(X, Y).best_params_


def test_standard_errors_are_those_of_the_differences_within_folds():
    results = SmoothL1RegressorCV(BETAS).fit(X, Y).cv_results_
    scores = np.array([results[f"split{k}_test_score"] for k in range(5)])
    best = np.argmax(results["mean_test_score"])
    assert_allclose(results["se_test_difference"], sem(scores[:, [best]] - scores))
    assert results["se_test_difference"][best] == 0
    single = SmoothL1RegressorCV(BETAS, cv=FOLDS[:1]).fit(X, Y)
    assert np.isnan(single.cv_results_["se_test_difference"]).all()


def test_a_difficult_fold_changes_no_standard_error():
    def difficult(model, X, y):
        return -mean_absolute_error(y, model.predict(X)) - 1e3 * (len(y) == 20)

    plain, shifted = (
        SmoothL1RegressorCV(5, cv=FOLDS, scoring=scoring, refit="one_standard_error").fit(X, Y)
        for scoring in (MAE, difficult)
    )
    name = "se_test_difference"
    assert_allclose(shifted.cv_results_[name], plain.cv_results_[name], atol=1e-10)
    assert shifted.best_index_ == plain.best_index_
    assert shifted.cv_results_["std_test_score"].min() > 100


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        # In the first two cases, the mean score for beta="auto" is 0.2 below that for beta=0.5;
        # the standard errors of this difference are 0.32 and 0.
        ({0.5: [1, 1, 1], "auto": [1.3, 0.2, 0.9], 50.0: [0, 0, 0]}, "auto"),
        ({0.5: [1, 1, 1], "auto": [0.8, 0.8, 0.8], 50.0: [0, 0, 0]}, 0.5),
        ({0.5: [1, 1, 1], "auto": [0.8, 0.8, 0.8], 50.0: [1.3, 0.2, 0.9]}, 0.5),
        ({0.5: [1, 1, 1], 2.0: [1.3, 0.2, 0.9], 50.0: [1.3, 0.3, 0.9]}, 2.0),
        ({0.5: [1, 1, 1], 2.0: [1, 1, 0.9], 50.0: [-np.inf, 2, 2]}, 2.0),
        ({0.5: [-np.inf, 1, 1], 2.0: [-np.inf, 1, 1]}, 0.5),
        ({0.5: [1, 1, 1], 2.0: [1, 1, 1]}, 2.0),
    ],
)
def test_the_threshold_closest_to_auto_within_one_standard_error(table, expected):
    assert 1.5 < SmoothL1Regressor().fit(X, Y).beta_ < 5
    assert selected(table, betas=list(table))["beta"] == expected


@pytest.mark.parametrize(
    ("scale", "betas"), [("mad", [0.1345, 13.45]), ("concomitant", [1.0596, 6.96])]
)
def test_the_score_decides_between_two_thresholds_equally_close_to_auto(scale, betas):
    noisy = [1.3, 0.2, 1.2]
    for better in betas:
        table = {beta: [1.3, 0.2, 1.1] for beta in betas} | {better: noisy}
        table[1e3] = [1.0, 1.0, 1.0]
        assert selected(table, betas=list(table), scale=scale)["beta"] == better


def test_penalties_are_compared_at_the_same_threshold():
    best, close, far = [1.0, 1.0, 1.0], [1.3, 0.2, 0.9], [0.0, 0.0, 0.0]
    table = {(0.5, 0.1): best, (0.5, 1.0): close, (0.5, 10.0): far}
    table |= {(2.0, 0.1): close, (2.0, 1.0): far, (2.0, 10.0): far}
    options = {"betas": [0.5, 2.0], "alphas": [1.0, 0.1, 10.0], "loss": "huber"}
    assert selected(table, **options) == {"beta": 2.0, "alpha": 0.1}
    table[2.0, 0.1] = far
    assert selected(table, **options) == {"beta": 0.5, "alpha": 1.0}


def test_the_largest_l1_ratio_and_then_the_largest_alpha():
    best, close, far = [1.0, 1.0, 1.0], [1.3, 0.2, 0.9], [0.0, 0.0, 0.0]
    table = {(2.0, 0.5, 0.1): best, (2.0, 0.5, 1.0): close}
    table |= {(2.0, 0.9, 0.01): close, (2.0, 0.9, 0.1): close, (2.0, 0.9, 1.0): far}
    table[2.0, 0.5, 0.01] = far
    options = {"l1_ratio": [0.5, 0.9], "alphas": [0.01, 0.1, 1.0], "loss": "huber"}
    found = selected(table, betas=[2.0], **options)
    assert found == {"beta": 2.0, "alpha": 0.1, "l1_ratio": 0.9}


@pytest.mark.parametrize("scale", [None, "mad", "concomitant"])
def test_a_default_grid_has_auto_in_its_middle(scale):
    rng = np.random.default_rng(0)
    y = X @ [1.0, 2.0, 3.0, 4.0] + rng.normal(size=200)
    model = SmoothL1RegressorCV(8, scale=scale, refit="one_standard_error").fit(X, y)
    results = model.cv_results_
    assert results["rank_test_score"][4] > 1
    assert model.best_index_ == 4
    assert model.best_score_ == results["mean_test_score"][4] < results["mean_test_score"].max()
    assert_allclose(model.coef_, SmoothL1Regressor(scale=scale).fit(X, y).coef_, rtol=1e-6)


def test_one_standard_error_requires_two_folds():
    model = SmoothL1RegressorCV(BETAS, cv=FOLDS[:1], refit="one_standard_error")
    with pytest.raises(ValueError, match="requires at least two splits, got one from cv="):
        model.fit(X, Y)


def second_best(results):
    return np.argsort(results["rank_test_score"])[1]


def test_a_callable_selects_as_in_grid_search():
    model = SmoothL1RegressorCV(BETAS, alphas=[0.0, 0.1], refit=second_best).fit(X, Y)
    grid = {"alpha": [0.0, 0.1], "beta": BETAS}
    search = GridSearchCV(SmoothL1Regressor(), grid, scoring=MAE, refit=second_best).fit(X, Y)
    assert type(model.best_index_) is int
    assert model.best_index_ == search.best_index_
    assert model.best_params_ == search.best_params_
    assert model.best_score_ == np.sort(model.cv_results_["mean_test_score"])[-2]
    assert_allclose(model.coef_, search.best_estimator_.coef_, rtol=1e-7)


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        (4, IndexError, r"index in the range \[0, 3\], got 4 from <function"),
        (-1, IndexError, r"index in the range \[0, 3\], got -1 from <function"),
        (1.0, TypeError, "must return an integer, got 1.0 from <function"),
        (None, TypeError, "must return an integer, got None from <function"),
    ],
)
def test_a_callable_must_return_an_index(index, error, message):
    model = SmoothL1RegressorCV(BETAS, refit=lambda results: index)
    with pytest.raises(error, match=message):
        model.fit(X, Y)
    assert not hasattr(model, "coef_")


# Work ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("order", ["C", "F"])
def test_folds_need_no_copies_of_x(order):
    X, y = make(100_000, 60)
    X = np.asarray(X, order=order)
    betas = SmoothL1Regressor().fit(X[:1000], y[:1000]).beta_ * np.geomspace(0.1, 10, 20)
    rows = np.arange(len(y), dtype=np.int32)
    model = SmoothL1RegressorCV(betas, cv=[(rows[20_000:], rows[:20_000])])
    model.fit(X, y)
    tracemalloc.start()
    model.fit(X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Copies of the validation rows and of the rows near a threshold take a fifth and a tenth of
    # the memory of X, and a vector with one number per row takes a sixtieth.
    assert peak < 0.65 * X.nbytes


@pytest.mark.slow
@pytest.mark.parametrize("prefer", ["threads", "processes"])
def test_jobs_change_no_bit(prefer):
    model = SmoothL1RegressorCV(BETAS, alphas=[0.0, 0.1], loss="huber").fit(X, Y)
    with joblib.parallel_config("threading" if prefer == "threads" else "loky"):
        other = SmoothL1RegressorCV(BETAS, alphas=[0.0, 0.1], loss="huber", n_jobs=2).fit(X, Y)
    for name, column in model.cv_results_.items():
        assert_array_equal(other.cv_results_[name], column)


# Old versions of Polars warn about forks, as does Python 3.12 or later while threads run.
BACKENDS = ["sequential", "threading", "loky", "multiprocessing"]
may_fork = pytest.mark.filterwarnings(r"ignore:.*fork\(\)")


@pytest.mark.slow
@may_fork
@pytest.mark.parametrize("backend", BACKENDS)
def test_grid_search_over_beta_in_every_backend(backend):
    pipeline = make_pipeline(SplineTransformer(), SmoothL1Regressor(loss="huber", alpha=0.1))
    grid = {"smoothl1regressor__beta": [*BETAS, "auto"]}
    expected = GridSearchCV(pipeline, grid, scoring=MAE).fit(X, Y)
    with joblib.parallel_config(backend):
        search = GridSearchCV(pipeline, grid, scoring=MAE, n_jobs=2).fit(X, Y)
    there = expected.cv_results_["mean_test_score"]
    assert_allclose(search.cv_results_["mean_test_score"], there, rtol=1e-12)
    assert search.best_params_ == expected.best_params_


@pytest.mark.slow
@may_fork
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_search_itself_in_every_backend(backend):
    expected = SmoothL1RegressorCV(BETAS).fit(X, Y)
    with joblib.parallel_config(backend):
        model = SmoothL1RegressorCV(BETAS, n_jobs=2).fit(X, Y)
        nested = GridSearchCV(
            SmoothL1RegressorCV(BETAS, cv=2), {"alphas": [[0.0], [0.1]]}, cv=2
        )
        nested.fit(X, Y)
    for name in ("mean_test_score", "split4_test_score"):
        assert_array_equal(model.cv_results_[name], expected.cv_results_[name])


# Weights and metadata ------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{"betas": BETAS}, {"betas": 5}, {"betas": BETAS, "scale": "mad"}]
)
def test_weights_are_repeats(options):
    fold = np.arange(len(Y)) % 4
    rows = np.repeat(np.arange(len(Y)), WEIGHT.astype(int))

    def split(of):
        return [(np.flatnonzero(of != k), np.flatnonzero(of == k)) for k in range(4)]

    weighted = SmoothL1RegressorCV(cv=split(fold), **options).fit(X, Y, WEIGHT)
    repeated = SmoothL1RegressorCV(cv=split(fold[rows]), **options).fit(X[rows], Y[rows])
    scaled = SmoothL1RegressorCV(cv=split(fold), **options).fit(X, Y, 1e5 * WEIGHT)
    for other in (repeated, scaled):
        for name in ("mean_test_score", "param_beta"):
            here = weighted.cv_results_[name]
            assert_allclose(other.cv_results_[name], here, rtol=1e-7)
        assert_allclose(other.coef_, weighted.coef_, rtol=1e-7)


def test_weights_reach_the_scorer_and_groups_the_splitter():
    options = {"betas": BETAS, "cv": GroupKFold(3)}
    with config_context(enable_metadata_routing=True):
        scorer = get_scorer(MAE).set_score_request(sample_weight=True)
        model = SmoothL1RegressorCV(scoring=scorer, **options)
        model.fit(X, Y, sample_weight=WEIGHT, groups=GROUPS)
        default = SmoothL1RegressorCV(**options).fit(X, Y, sample_weight=WEIGHT, groups=GROUPS)
        regressor = SmoothL1Regressor().set_fit_request(sample_weight=True)
        search = GridSearchCV(regressor, {"beta": BETAS}, cv=GroupKFold(3), scoring=scorer)
        search.fit(X, Y, sample_weight=WEIGHT, groups=GROUPS)
        unweighted = get_scorer(MAE).set_score_request(sample_weight=False)
        plain = SmoothL1RegressorCV(scoring=unweighted, **options)
        plain.fit(X, Y, sample_weight=WEIGHT, groups=GROUPS)
        inside = make_pipeline(
            SmoothL1RegressorCV(**options).set_fit_request(sample_weight=True)
        )
        inside.fit(X, Y, sample_weight=WEIGHT, groups=GROUPS)
    expected = search.cv_results_["mean_test_score"]
    for found in (model, default, inside[-1]):
        assert_allclose(found.cv_results_["mean_test_score"], expected, rtol=1e-7)
    assert not np.allclose(plain.cv_results_["mean_test_score"], expected, rtol=1e-3)


def test_other_metadata_needs_routing():
    with pytest.raises(ValueError, match="enable_metadata_routing"):
        SmoothL1RegressorCV(cv=GroupKFold(3)).fit(X, Y, groups=GROUPS)


# Bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"betas": []}, "betas must contain at least one value"),
        ({"betas": [1.0, -2.0]}, r"betas\[1\] must be .* > 0 or 'auto', got -2.0"),
        ({"betas": [0.0]}, r"betas\[0\] .* got 0.0"),
        ({"betas": [1.0, np.nan]}, r"betas\[1\] .* got nan"),
        ({"betas": [np.inf, 1.0]}, r"betas\[0\] .* got inf"),
        ({"betas": ["auto", "mad"]}, r"betas\[1\] .* got 'mad'"),
        ({"betas": [None]}, r"betas\[0\] .* got None"),
        ({"betas": np.ones((2, 2))}, r"betas\[0\] must be"),
        ({"betas": 0}, "'betas' parameter"),
        ({"betas": "auto"}, "'betas' parameter"),
        ({"betas": 1.5}, "'betas' parameter"),
        ({"betas": [2.0, 0.5], "scale": "concomitant"}, "beta must be above 1"),
        ({"alphas": []}, "alphas must contain at least one value"),
        ({"alphas": [0.0, -1.0]}, r"alphas\[1\] must be a finite number ≥ 0, got -1.0"),
        ({"alphas": [np.inf]}, r"alphas\[0\] .* got inf"),
        ({"alphas": 0.1}, "'alphas' parameter"),
        ({"cv": 201}, r"at most n_samples=200, got 201 from cv=201"),
        ({"cv": 1}, "'cv' parameter"),
        ({"cv": []}, r"cv must yield at least one split, got none from \[\]"),
        ({"cv": [(np.arange(9), [])]}, r"Split 0 of cv=.* must have validation rows"),
        ({"cv": [([], np.arange(9))]}, r"Split 0 of cv=.* must have training rows"),
        ({"scoring": "mae"}, "scoring"),
        ({"scoring": ["r2"]}, "'scoring' parameter"),
        ({"refit": True}, "'refit' parameter"),
        ({"refit": MAE}, "'refit' parameter .*'one_standard_error'"),
        ({"n_jobs": 1.5}, "'n_jobs' parameter"),
    ],
)
def test_bad_parameters_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        SmoothL1RegressorCV(**{"betas": BETAS} | options).fit(X, Y)


def test_more_default_folds_than_rows():
    with pytest.raises(ValueError, match=r"at most n_samples=4, got 5 from cv=None"):
        SmoothL1RegressorCV(BETAS).fit(X[:4], Y[:4])


def test_a_fold_without_weight():
    weight = np.where(np.arange(200) < 40, 1.0, 0.0)
    with pytest.raises(ValueError, match="Split 0 of cv=None must have training rows"):
        SmoothL1RegressorCV(BETAS).fit(X, Y, weight)


@pytest.mark.parametrize("kind", [list, pl.Series, float])
def test_weights_of_any_kind_are_those_of_an_array(kind):
    weight = np.ones(len(Y)) if kind is float else np.arange(len(Y)) % 3 + 1.0
    given = 2.0 if kind is float else kind(weight)
    one = SmoothL1RegressorCV(BETAS).fit(X, Y, weight)
    other = SmoothL1RegressorCV(BETAS).fit(X, Y, given)
    assert_array_equal(other.coef_, one.coef_)
    scores = [model.cv_results_["mean_test_score"] for model in (one, other)]
    assert_allclose(scores[0], scores[1], rtol=1e-14)


def test_bad_data_are_refused():
    with pytest.raises(ValueError, match=r"(?s)NaN.*SmoothL1RegressorCV does not accept"):
        SmoothL1RegressorCV(BETAS).fit(np.where(X[3, 2] == X, np.nan, X), Y)
    with pytest.raises(ValueError, match="infinity"):
        SmoothL1RegressorCV(BETAS).fit(X, np.where(Y[3] == Y, np.inf, Y))
    with pytest.raises(TypeError, match="y must be dense, got a sparse matrix"):
        SmoothL1RegressorCV(BETAS).fit(X, sparse.csr_array(Y[:, None]))


class Unready(Exception):
    pass


def failing(model, X, y):
    if model.beta == 2.0:
        raise Unready("no")
    return 1.0


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_scorer_that_raises_says_where(n_jobs):
    model = SmoothL1RegressorCV(BETAS, scoring=failing, n_jobs=n_jobs)
    with pytest.raises(Unready, match="no") as caught:
        model.fit(X, Y)
    note = caught.value.__notes__[0]
    assert "scoring=<function failing" in note
    assert "beta=2.0" in note
    assert "in split " in note
    assert not hasattr(model, "coef_")


@pytest.mark.parametrize("score", [np.nan, None, "high", {"a": 1.0}, np.ones(2)])
def test_a_score_that_is_no_number(score):
    model = SmoothL1RegressorCV(BETAS, scoring=lambda model, X, y: score)
    with pytest.raises(ValueError, match=r"must be a number, got .* from scoring=.* split 0"):
        model.fit(X, Y)


def test_infinite_scores_are_allowed():
    def score(model, X, y):
        return 1.0 if model.beta == 2.0 else -np.inf

    assert SmoothL1RegressorCV(BETAS, scoring=score).fit(X, Y).beta_ == 2.0


@pytest.mark.filterwarnings("default")
def test_fits_that_do_not_converge_are_reported_in_one_warning():
    with pytest.warns(ConvergenceWarning) as caught:
        SmoothL1RegressorCV([1e-3, 100.0], max_iter=1, cv=2).fit(X, Y)
    told = [w for w in caught if "fits of SmoothL1RegressorCV" in str(w.message)]
    assert len(told) == 1
    assert str(told[0].message).startswith("3 of 5 fits")
    assert told[0].filename == __file__


@pytest.mark.parametrize(
    "kind", ["exact", "constant", "mostly zero", "two rows", "huge", "tiny"]
)
def test_data_in_which_there_is_little_to_choose(kind):
    x, y = X, Y
    if kind == "exact":
        y = X @ [1.0, 2.0, 3.0, 4.0]
    elif kind == "constant":
        y = np.full(200, 3.0)
    elif kind == "mostly zero":
        y = np.where(np.arange(200) % 3, 0.0, Y)
    elif kind == "two rows":
        x, y = X[:2], Y[:2]
    else:
        y = Y * (1e150 if kind == "huge" else 1e-150)
    model = SmoothL1RegressorCV(cv=2).fit(x, y)
    assert np.isfinite(model.predict(x)).all()
    assert np.isfinite(model.cv_results_["mean_test_score"]).all()


@pytest.mark.slow
def test_an_interrupted_refit_leaves_the_old_model_unchanged(monkeypatch):
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = SmoothL1RegressorCV(BETAS).fit(frame, Y)
    before = {name: pickle.dumps(value) for name, value in vars(model).items()}

    def interrupt(*args):
        raise KeyboardInterrupt

    for where in ("_fold", "_results"):
        monkeypatch.setattr(skrobust._cv, where, interrupt)
        with pytest.raises(KeyboardInterrupt):
            model.fit(X[:, :2], Y)
        assert before == {name: pickle.dumps(value) for name, value in vars(model).items()}
        monkeypatch.undo()


# Callbacks -------------------------------------------------------------------------------


@needs_callbacks
@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("y", [Y, TARGETS], ids=["1 target", "3 targets"])
def test_a_monitor_sees_every_point_of_every_fold(n_jobs, y):
    monitor = sklearn_callback.ScoringMonitor(scoring=MAE)
    model = SmoothL1RegressorCV(BETAS, cv=3, n_jobs=n_jobs).set_callbacks(monitor)
    model.fit(X, y, sample_weight=WEIGHT)
    rows = monitor.get_logs().data_as_pandas
    assert dict(rows["task_name"].value_counts()) == {"grid point": 12, "fit": 1}
    own = -mean_absolute_error(y, model.predict(X), sample_weight=WEIGHT)
    assert_allclose(rows[MAE][rows["task_name"] == "fit"], own)
    plain = SmoothL1RegressorCV(BETAS, cv=3).fit(X, y, sample_weight=WEIGHT)
    assert_array_equal(model.coef_, plain.coef_)


@needs_callbacks
@pytest.mark.parametrize("model", [SmoothL1Regressor(), SmoothL1RegressorCV(BETAS, cv=2)])
def test_a_monitor_sees_the_names_of_the_features(model):
    # scikit-learn would warn if only one of the model and the data had feature names.
    monitor = sklearn_callback.ScoringMonitor(scoring=MAE)
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = clone(model).set_callbacks(monitor).fit(frame, Y)
    rows = monitor.get_logs().data_as_pandas
    own = -mean_absolute_error(Y, model.predict(frame))
    assert_allclose(rows[MAE][rows["task_name"] == "fit"], own)


@pytest.mark.slow
@needs_callbacks
@pytest.mark.parametrize("backend", ["sequential", "threading", "loky"])
@pytest.mark.parametrize("kind", ["regressor", "cv", "search of regressor", "search of cv"])
def test_progress_reaches_its_end(kind, backend, monkeypatch):
    # Make the terminal wide enough for the whole output.
    monkeypatch.setenv("COLUMNS", "160")
    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    bar = sklearn_callback.ProgressBar(max_propagation_depth=None)
    model = {
        "regressor": SmoothL1Regressor(beta_schedule=[9, 3, 1]),
        "cv": SmoothL1RegressorCV(BETAS, cv=3, n_jobs=2),
        "search of regressor": GridSearchCV(SmoothL1Regressor(), {"beta": BETAS}, n_jobs=2),
        "search of cv": GridSearchCV(
            SmoothL1RegressorCV(BETAS, cv=2), {"alphas": [[0.0], [0.1]]}, cv=2, n_jobs=2
        ),
    }[kind]
    with joblib.parallel_config(backend):
        model.set_callbacks(bar).fit(X, Y)
    lines = [line for line in out.getvalue().splitlines() if "%" in line]
    assert lines
    assert all("100%" in line for line in lines)
    if kind == "cv":
        assert sum("fold" in line for line in lines) == 3
        assert any("refit" in line for line in lines)


def test_metadata_routing_may_be_on_without_metadata():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    y = X.sum(axis=1) + rng.standard_t(3, 60)
    with config_context(enable_metadata_routing=True):
        found = SmoothL1RegressorCV([0.5, 1.0, 2.0], cv=3).fit(X, y)
        splits = KFold(3).split(X)
        weighted = SmoothL1RegressorCV([0.5, 1.0, 2.0], cv=splits)
        weighted.set_fit_request(sample_weight=True).fit(X, y, sample_weight=np.ones(60))
    assert found.beta_ == weighted.beta_


def test_rows_that_a_split_repeats_count_as_often():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 2))
    y = X.sum(axis=1) + rng.standard_t(3, 90)
    cv = [(np.r_[0:60, 0:60, 10:20], np.r_[60:90]), (np.r_[30:90, -20:0], np.r_[0:30])]
    betas = [0.5, 1.0, 2.0]
    ours = SmoothL1RegressorCV(betas, cv=cv).fit(X, y)
    score = "neg_mean_absolute_error"
    theirs = GridSearchCV(SmoothL1Regressor(), {"beta": betas}, cv=cv, scoring=score).fit(X, y)
    assert_allclose(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], rtol=1e-9
    )


def test_a_fold_without_weight_to_score_is_named():
    X, y, weight = np.eye(20, 2), np.arange(20.0), np.ones(20)
    weight[:4] = 0
    with pytest.raises(ValueError, match="Split 0 of cv=None must have validation rows"):
        SmoothL1RegressorCV([1.0, 2.0]).fit(X, y, sample_weight=weight)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_level_that_is_absent_from_a_fold_has_no_coefficient_in_it(order):
    # Because the rows are sorted by the level of a categorical feature, some training sets lack
    # a level.
    rng = np.random.default_rng(0)
    level = np.sort(rng.integers(0, 6, 300))
    X = np.asarray(np.column_stack([np.eye(6)[level], rng.normal(size=(300, 2))]), order=order)
    y = X @ rng.normal(size=8) + rng.standard_t(2, size=300)
    search = SmoothL1RegressorCV([0.3, 1.0]).fit(X, y)
    grid = GridSearchCV(
        SmoothL1Regressor(), {"beta": [0.3, 1.0]}, scoring="neg_mean_absolute_error"
    ).fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert_allclose(scores, grid.cv_results_["mean_test_score"], rtol=1e-7)


def test_a_fold_without_any_coordinate_is_scored():
    X = (np.arange(30) < 8).astype(float)[:, None]
    y = np.arange(30.0)
    search = SmoothL1RegressorCV([0.1, 1.0], alphas=[0, 0.1], fit_intercept=False, cv=3)
    assert np.isfinite(search.fit(X, y).cv_results_["mean_test_score"]).all()


def test_a_search_that_does_not_converge_warns_once():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 3))
    y = X.sum(axis=1) + rng.standard_t(2, size=100)
    with pytest.warns(ConvergenceWarning) as caught:
        SmoothL1RegressorCV(max_iter=1).fit(X, y)
    assert len(caught) == 1
    assert caught[0].filename == __file__
