"""SmoothL1Regressor: invalid parameters and data, and the resulting error messages."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn import config_context

from problems import TARGETS, WEIGHT, X, Y, plain_and_weighted
from skrobust import SmoothL1Regressor

BAD_NUMBERS = [-1, -1e-9, np.nan, np.inf, -np.inf, "1", None, [1.0], 1j]
BAD_SCHEDULES = [[np.inf, 1], [[2, 1]], [2, 1, 1], [2, -1], 3.0, True, ["2", "1"], {"a": 1}, 1j]
BAD_PARAMETERS = {
    "beta": [*BAD_NUMBERS, 0, 0.0, "automatic", ""],
    "loss": ["squared", "", None, 1, ["huber"]],
    "scale": ["MAD", "", 1.0, True, ["mad"]],
    "alpha": [*BAD_NUMBERS, "auto"],
    "fit_intercept": ["yes", None, 2, 1.0],
    "beta_schedule": [
        *BAD_SCHEDULES,
        "exponential",
        "",
        [],
        [2, 3, 1],
        [3, 2],
        [2, 1, 0.5],
        [np.nan, 1],
    ],
    "max_iter": [0, -1, 1.5, np.nan, np.inf, None, "many", [1]],
    "tol": [*BAD_NUMBERS, "small"],
    "warm_start": ["yes", None, 2],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in BAD_PARAMETERS.items() for value in values],
)
def test_bad_parameter_is_named_with_its_value(name, value):
    est = SmoothL1Regressor(**{name: value})
    with pytest.raises((ValueError, TypeError)) as caught:
        est.fit(X, Y)
    message = str(caught.value)
    assert name in message
    assert repr(value) in message or str(value) in message
    assert not hasattr(est, "coef_")


@pytest.mark.parametrize("beta", [1, 1.0, 0.5, np.float32(1), 1e-9])
def test_concomitant_scale_needs_beta_above_one(beta):
    est = SmoothL1Regressor(beta, scale="concomitant")
    with pytest.raises(ValueError, match=r"beta must be above 1.*'concomitant'") as caught:
        est.fit(X, Y)
    assert repr(beta) in str(caught.value)
    SmoothL1Regressor(1 + 1e-3, scale="concomitant").fit(X, Y)


@plain_and_weighted
@pytest.mark.parametrize("kind", ["C", "F", "float32", "csr", "pandas", "large", "constant"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("params", [{}, {"beta": 1.0}, {"scale": "concomitant"}])
def test_non_finite_X_is_refused(params, bad, kind, weight):
    X_bad, y, weight = X.copy(), Y, weight
    if kind == "large":  # so large that the fit starts from a sample
        X_bad = np.tile(X, (800, 10))
        y, weight = np.tile(Y, 800), None if weight is None else np.tile(weight, 800)
    X_bad[-1, -1] = bad
    if kind == "constant":
        X_bad[:-1, -1] = 0.0
    form = {"csr": sparse.csr_array, "pandas": pd.DataFrame, "F": np.asfortranarray}
    X_bad = X_bad.astype(np.float32) if kind == "float32" else form.get(kind, np.asarray)(X_bad)
    what = "NaN" if np.isnan(bad) else "infinity"
    with pytest.raises(ValueError, match=f"Input X contains {what}"):
        SmoothL1Regressor(**params).fit(X_bad, y, weight)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_y_and_weights_are_refused(bad):
    y, weight, targets = Y.copy(), WEIGHT.copy(), TARGETS.copy()
    y[3] = weight[3] = targets[3, 1] = bad
    what = "NaN" if np.isnan(bad) else "infinity"
    for wrong in [y, targets]:
        with pytest.raises(ValueError, match=f"Input y contains {what}"):
            SmoothL1Regressor().fit(X, wrong)
    with pytest.raises(ValueError, match=f"Input sample_weight contains {what}"):
        SmoothL1Regressor().fit(X, Y, weight)
    with pytest.raises(ValueError, match=r"sample_weight contains NaN or inf|Negative"):
        SmoothL1Regressor().fit(X, Y, bad)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"sample_weight": -WEIGHT}, "sample_weight"),
        ({"sample_weight": np.where(np.arange(100) == 7, -1e-9, 1.0)}, "sample_weight"),
        ({"sample_weight": np.zeros(100)}, "[Ss]ample.weight"),
        ({"sample_weight": 0.0}, "[Ss]ample.weight"),
        ({"sample_weight": np.ones(99)}, "sample_weight.shape == \\(99,\\)"),
        ({"sample_weight": np.ones((100, 1))}, "[Ss]ample.weights? must be 1D"),
        ({"sample_weight": ["heavy"] * 100}, "could not convert|string"),
        ({"y": sparse.csr_array(Y[:, None])}, "y must be dense, got a sparse matrix"),
        ({"y": sparse.csc_matrix(Y[:, None])}, "y must be dense, got a sparse matrix"),
        ({"y": Y[:-1]}, r"inconsistent numbers of samples: \[100, 99\]"),
        ({"y": Y[:, None, None]}, "[Dd]im"),
        ({"y": None}, "requires y"),
        ({"y": Y * 1j}, "[Cc]omplex"),
        ({"y": ["a"] * 100}, "could not convert|string"),
        ({"y": 3.0}, "y|array"),
        ({"X": X * 1j}, "[Cc]omplex"),
        ({"X": sparse.csr_array(X * 1j)}, "[Cc]omplex"),
        ({"X": X[:, 0]}, "Expected 2D array, got 1D"),
        ({"X": X[:, :, None]}, "dim 3"),
        ({"X": X[:, :0]}, r"0 feature\(s\)"),
        ({"X": X[:0], "y": Y[:0]}, r"0 sample\(s\)"),
        ({"X": X.astype(str).astype(object) + "x"}, "could not convert"),
    ],
)
def test_bad_data_are_refused_by_name(change, match):
    data = {"X": X, "y": Y} | change
    est = SmoothL1Regressor()
    with pytest.raises((ValueError, TypeError), match=match):
        est.fit(**data)
    assert not hasattr(est, "coef_")


def test_global_random_state_is_untouched():
    np.random.seed(0)  # noqa: NPY002
    before = pickle.dumps(np.random.get_state())  # noqa: NPY002
    X = np.random.default_rng(0).normal(size=(50_000, 40))
    SmoothL1Regressor().fit(X, X[:, 0])
    assert pickle.dumps(np.random.get_state()) == before  # noqa: NPY002


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_non_finite_value_in_tall_X_is_refused_without_a_warning(value):
    X = np.random.default_rng(0).normal(size=(60_000, 40))
    X[7, 3] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="Input X contains"):
            SmoothL1Regressor().fit(X, X[:, 0])


def test_nan_is_refused_even_if_finite_data_are_assumed():
    with config_context(assume_finite=True), pytest.raises(ValueError, match="X contains NaN"):
        SmoothL1Regressor().fit(np.where(np.arange(X.size).reshape(X.shape), X, np.nan), Y)
