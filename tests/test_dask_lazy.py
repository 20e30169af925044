"""Dask collections outside `fit`: lazy predictions, scores, refused calls, and pickles.

The data are small, and all computations run in this process.
"""

import pickle
import sys
from ast import literal_eval
from contextlib import contextmanager
from copy import copy
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError, UndefinedMetricWarning
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import programs
from skrobust import (
    MMRegressor,
    SmoothL1Regressor,
    SmoothL1RegressorCV,
    displays,
    duality_gap,
    losses,
    metrics,
    smooth_l1_path,
)
from skrobust._lazy_data import require_in_memory
from skrobust.inference import coefficient_table, observation_table

dd = pytest.importorskip("dask.dataframe")

import dask  # noqa: E402
import dask.array as da  # noqa: E402
import pandas as pd  # noqa: E402

from skrobust._engines import dask as dask_engine  # noqa: E402

N, P = 60, 3
CHUNKS = (17, 1, 0, 23, 19)


@pytest.fixture(autouse=True)
def _synchronous():
    with dask.config.set(scheduler="synchronous"):
        yield


@contextmanager
def no_computation():
    """Make any Dask computation raise an error."""

    def refuse(*args, **kwargs):
        raise AssertionError("Dask computes")

    with dask.config.set(scheduler=refuse):
        yield


def problem(n_targets=None, dtype=float):
    """Return X and y with outliers."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(N, P))
    y = X @ rng.normal(size=(P, n_targets or 1)) + rng.standard_t(2, size=(N, n_targets or 1))
    y[:6] += 30
    return X.astype(dtype), (y if n_targets else y[:, 0]).astype(dtype)


def array(values, chunks=CHUNKS):
    """Return an array whose blocks of rows have the given sizes."""
    values = np.asarray(values)
    return da.from_array(values, chunks=(chunks, *((m,) for m in values.shape[1:])))


def unknown(values):
    """Return an array with the same blocks as `array`, but with sizes unknown to Dask."""
    values = array(values)
    return values[da.ones(N, chunks=(CHUNKS,)) > 0]


def sparse_array(X, split=False):
    X = array(X)
    X = X.rechunk({1: 2}) if split else X
    return X.map_blocks(sparse.csr_array, meta=sparse.csr_array((0, 0)))


def frame(values, **options):
    kind = pd.Series if np.ndim(values) == 1 else pd.DataFrame
    data = values if isinstance(values, pd.DataFrame) else kind(values, **options)
    return dd.from_pandas(data, npartitions=4)


def like(X_lazy):
    """Return a function that creates collections with the same blocks as X."""
    if not isinstance(X_lazy, da.Array):
        return frame
    return partial(array, chunks=(N,) if X_lazy.numblocks[0] == 1 else CHUNKS)


def mixed_columns():
    X, _ = problem()
    columns = {"a": X[:, 0].astype(np.float32), "b": (10 * X[:, 1]).astype(int)}
    return pd.DataFrame(columns | {"c": X[:, 2] > 0})


# Predictions -----------------------------------------------------------------------------

X64, Y64 = problem()
INPUTS = {
    "array": (X64, array),
    "split columns": (X64, lambda X: array(X).rechunk({1: 2})),
    "one block": (X64, lambda X: array(X, (N,))),
    "unknown sizes": (X64, unknown),
    "unknown sizes, split columns": (X64, lambda X: unknown(X).rechunk({1: 1})),
    "float32": (X64.astype(np.float32), array),
    "integers": ((10 * X64).astype(np.int32), array),
    "bool": (X64 > 0, array),
    "sparse": (X64, sparse_array),
    "sparse, split columns": (X64, lambda X: sparse_array(X, split=True)),
    "frame": (X64, frame),
    "frame of float32": (X64.astype(np.float32), frame),
    "mixed columns": (mixed_columns(), frame),
}
inputs = pytest.mark.parametrize(("X", "lazy"), INPUTS.values(), ids=INPUTS)


@inputs
@pytest.mark.parametrize(
    ("n_targets", "dtype"), [(None, float), (None, np.float32), (1, float), (2, np.float32)]
)
def test_lazy_predictions_are_those_in_memory(X, lazy, n_targets, dtype):
    X_fit, y = problem(dtype=dtype)[0], problem(n_targets)[1]
    if isinstance(X, pd.DataFrame):
        X_fit = pd.DataFrame(X_fit, columns=X.columns)
    model = SmoothL1Regressor().fit(X_fit, y)
    expected = model.predict(X)
    with no_computation():
        X_lazy = lazy(X)
        predicted = model.predict(X_lazy)
    computed = predicted.compute()
    assert np.asarray(computed).dtype == expected.dtype
    rounding = 16 * np.finfo(expected.dtype).eps * np.abs(expected).max()
    assert_allclose(computed, expected, rtol=0, atol=rounding)
    if isinstance(X_lazy, da.Array):
        assert isinstance(predicted, da.Array)
        assert predicted.dtype == expected.dtype
        assert_array_equal(predicted.chunks[0], X_lazy.chunks[0])
        assert predicted.chunks[1:] == (() if n_targets is None else ((n_targets,),))
    else:
        assert_array_equal(computed.index, X_lazy.index.compute())
        assert predicted.divisions == X_lazy.divisions
        if n_targets is None:
            assert predicted.dtype == expected.dtype
        else:
            assert list(predicted.columns) == list(range(n_targets))
            assert set(predicted.dtypes) == {expected.dtype}


@pytest.mark.parametrize(
    "estimator", [SmoothL1RegressorCV(betas=[1.0, 2.0]), MMRegressor(n_subsamples=50)]
)
def test_all_estimators_predict_and_score_lazily(estimator):
    model = estimator.fit(X64, Y64)
    assert_allclose(model.predict(array(X64)).compute(), model.predict(X64), rtol=1e-14)
    assert model.score(array(X64), array(Y64)) == pytest.approx(
        model.score(X64, Y64), abs=1e-12
    )


def test_the_index_of_a_frame_is_kept():
    index = pd.Index([f"row {i:02d}" for i in range(N)], name="label")
    X = frame(X64, index=index, columns=list("abc"))
    model = SmoothL1Regressor().fit(X.compute(), Y64)
    with no_computation():
        predicted = model.predict(X)
    X = X.compute()
    assert X.index.name == "label"
    pd.testing.assert_series_equal(
        predicted.compute(), pd.Series(model.predict(X), index=X.index)
    )


def test_values_are_checked_when_predictions_are_computed():
    X = X64.copy()
    X[5, 1] = np.nan
    predicted = SmoothL1Regressor().fit(X64, Y64).predict(array(X))
    with pytest.raises(ValueError, match=r"Input X contains NaN"):
        predicted.compute()


def test_a_pipeline_that_keeps_collections_predicts_lazily():
    model = make_pipeline(FunctionTransformer(lambda X: 2 * X), SmoothL1Regressor())
    model.fit(X64, Y64)
    with no_computation():
        predicted = model.predict(array(X64))
    assert_allclose(predicted.compute(), model.predict(X64), rtol=1e-13)


# Checks without computation --------------------------------------------------------------


def message_of(call, *args, error=ValueError):
    with pytest.raises(error) as raised, no_computation():
        call(*args)
    return str(raised.value)


@pytest.mark.parametrize("lazy", [array, frame])
@pytest.mark.parametrize("p", [2, 4])
def test_another_number_of_features_is_an_error_at_once(lazy, p):
    model = SmoothL1Regressor().fit(X64, Y64)
    X = np.ones((N, p))
    message = message_of(model.predict, lazy(X))
    assert message == message_of(model.predict, X)
    assert (
        message
        == f"X has {p} features, but SmoothL1Regressor is expecting 3 features as input."
    )


def test_other_feature_names_are_an_error_at_once():
    model = SmoothL1Regressor().fit(pd.DataFrame(X64, columns=list("abc")), Y64)
    X = pd.DataFrame(X64, columns=list("abd"))
    message = message_of(model.predict, frame(X))
    assert message == message_of(model.predict, X)
    assert "feature names" in message


def test_missing_feature_names_give_the_warning_of_memory_once():
    model = SmoothL1Regressor().fit(pd.DataFrame(X64, columns=list("abc")), Y64)
    with pytest.warns(UserWarning, match="X does not have valid feature names") as record:
        predicted = model.predict(array(X64))
    assert len(record) == 1
    predicted.compute()


def test_additional_feature_names_give_the_warning_of_memory_once():
    model = SmoothL1Regressor().fit(X64, Y64)
    with pytest.warns(UserWarning, match="X has feature names, but") as record:
        predicted = model.predict(frame(X64, columns=list("abc")))
    assert len(record) == 1
    predicted.compute()


@pytest.mark.parametrize(
    ("lazy", "error", "message"),
    [
        (lambda: array(Y64), ValueError, "Expected 2D array, got 1D array"),
        (lambda: frame(Y64), ValueError, "Expected 2D array, got 1D array"),
        (lambda: array(X64 + 1j), TypeError, "X must consist of real numbers.*complex128"),
        (lambda: array(X64.astype(str)), TypeError, "X must consist of real numbers.*<U"),
        (
            lambda: frame(mixed_columns().assign(b="text")),
            TypeError,
            "X must consist of real numbers, but its column 'b'",
        ),
        (
            lambda: frame(mixed_columns().astype({"c": "category"})),
            TypeError,
            "its column 'c' has the dtype category",
        ),
        (lambda: dask.delayed(X64), TypeError, "must be a Dask Array.*got Delayed"),
        (
            lambda: array(X64)[:, da.ones(P, chunks=P) > 0],
            ValueError,
            "unknown number of columns",
        ),
    ],
)
def test_other_unusable_features_are_an_error_at_once(lazy, error, message):
    model = SmoothL1Regressor().fit(X64, Y64)
    X = lazy()
    with pytest.raises(error, match=message), no_computation():
        model.predict(X)


@pytest.mark.parametrize("method", ["predict", "score"])
def test_a_model_must_be_fitted(method):
    data = (array(X64),) if method == "predict" else (array(X64), array(Y64))
    with pytest.raises(NotFittedError):
        getattr(SmoothL1Regressor(), method)(*data)


# Scores ----------------------------------------------------------------------------------

WEIGHT = np.random.default_rng(0).integers(0, 4, size=N) / 2
# Row 17 is the only row of the second block.
WEIGHT[17] = 0.0


@inputs
@pytest.mark.parametrize(
    ("n_targets", "weight"), [(None, None), (None, WEIGHT), (1, None), (2, WEIGHT)]
)
def test_scores_are_those_of_r2_score(X, lazy, n_targets, weight):
    y = problem(n_targets)[1]
    model = SmoothL1Regressor().fit(X, y)
    X_lazy = lazy(X)
    rows = like(X_lazy)
    expected = r2_score(y, model.predict(X), sample_weight=weight)
    weight_lazy = None if weight is None else rows(weight)
    score = model.score(X_lazy, rows(y), weight_lazy)
    assert isinstance(score, float)
    assert score == pytest.approx(expected, abs=1e-9)


def test_targets_split_over_chunks_are_scored():
    y = problem(2)[1]
    model = SmoothL1Regressor().fit(X64, y)
    score = model.score(array(X64), array(y).rechunk({1: 1}))
    assert score == pytest.approx(model.score(X64, y), abs=1e-12)


def test_a_frame_is_scored_against_an_array_with_the_same_blocks():
    model = SmoothL1Regressor().fit(X64, Y64)
    X = frame(X64)
    sizes = tuple(X.map_partitions(len).compute())
    score = model.score(X, array(Y64, sizes), array(WEIGHT, sizes))
    assert score == pytest.approx(model.score(X64, Y64, WEIGHT), abs=1e-12)


def test_a_shift_of_the_target_costs_no_digits():
    y = Y64 + 1e8
    model = SmoothL1Regressor().fit(X64, y)
    exact = r2_score(y - 1e8, model.predict(X64) - 1e8)
    assert model.score(array(X64), array(y)) == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("value", [0.1, 1e8 + 0.1])
@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("exact", [False, True])
def test_constant_targets_are_scored_as_by_r2_score(value, weight, exact):
    model = copy(MODEL)
    model.coef_, model.intercept_ = np.zeros(P), value if exact else value + 1
    lazy = None if weight is None else array(weight)
    score = model.score(array(X64), array(np.full(N, value)), lazy)
    assert score == (1.0 if exact else 0.0)


def test_a_constant_target_counts_in_the_average_over_targets():
    y = problem(2)[1]
    y[:, 0] = 4.0
    model = SmoothL1Regressor().fit(X64, y)
    model.intercept_[0] += 1
    expected = r2_score(y, model.predict(X64))
    assert model.score(array(X64), array(y)) == pytest.approx(expected, abs=1e-12)


def test_the_score_of_one_row_is_not_defined():
    model = SmoothL1Regressor().fit(X64, Y64)
    with pytest.warns(UndefinedMetricWarning, match="less than two samples"):
        score = model.score(array(X64[:1], (0, 1)), array(Y64[:1], (0, 1)))
    assert np.isnan(score)


def test_a_score_computes_once_and_gathers_no_rows():
    rounds = []

    def scheduler(graph, keys, **kwargs):
        results = dask.get(graph, keys, **kwargs)
        rounds.append(pickle.dumps(results))
        return results

    n = 50_000
    X = da.random.default_rng(0).normal(size=(n, P), chunks=(n // 5, P))
    model = SmoothL1Regressor().fit(X64, Y64)
    with dask.config.set(scheduler=scheduler):
        model.score(X, X.sum(axis=1))
    assert len(rounds) == 1
    assert len(rounds[0]) < 10_000


def with_value(values, i, value):
    changed = values.copy()
    changed[i] = value
    return changed


ONES = np.ones(N)
FAULTS = {
    "NaN in y": (
        with_value(Y64, 40, np.nan),
        ONES,
        r"Input y contains NaN or infinity, in block 3 \(rows 18 to 40\)",
    ),
    "infinity in y": (
        with_value(Y64, 0, -np.inf),
        ONES,
        r"Input y contains NaN or infinity, in block 0 \(rows 0 to 16\)",
    ),
    "NaN in weights": (
        Y64,
        with_value(ONES, 17, np.nan),
        r"Input sample_weight contains NaN or infinity, in block 1 \(rows 17 to 17\)",
    ),
    "negative weight": (
        Y64,
        with_value(ONES, 59, -1.0),
        r"Input sample_weight contains negative values, in block 4 \(rows 41 to 59\)",
    ),
    "weights of zero": (
        Y64,
        0 * ONES,
        "sample_weight must contain at least one positive value, got only zeros",
    ),
}


@pytest.mark.parametrize(("y", "weight", "message"), FAULTS.values(), ids=FAULTS)
def test_faults_of_the_data_of_a_score_are_named(y, weight, message):
    model = SmoothL1Regressor().fit(X64, Y64)
    with pytest.raises(ValueError, match=message):
        model.score(array(X64), array(y), array(weight))


def test_a_score_needs_rows():
    model = SmoothL1Regressor().fit(X64, Y64)
    with pytest.raises(ValueError, match=r"Found array with 0 sample\(s\)"):
        model.score(array(X64[:0], (0, 0)), array(Y64[:0], (0, 0)))


SAME_ROWS = "need the same rows in each block"


@pytest.mark.parametrize(
    ("y", "weight", "messages"),
    [
        (
            array(Y64, (30, 30)),
            None,
            ["X has 5 blocks of rows and y has 2", r"y.rechunk\(\{0: X.chunks\[0\]\}\)"],
        ),
        (
            array(Y64),
            array(ONES, (N,)),
            ["and sample_weight has 1", r"sample_weight.rechunk\(\{0: X.chunks\[0\]\}\)"],
        ),
        (
            array(Y64, (17, 2, 0, 22, 19)),
            None,
            ["X and y need", "block 1 has 1 rows of X and 2 of y", "y.rechunk"],
        ),
        (array(problem(2)[1]), None, ["y has 2 targets, but the model was fitted to 1"]),
        (array(Y64), array(np.ones((N, 1))), ["sample_weight must be one-dimensional"]),
    ],
)
def test_blocks_that_do_not_match_are_an_error_at_once(y, weight, messages):
    model = SmoothL1Regressor().fit(X64, Y64)
    message = message_of(model.score, array(X64), y, weight)
    for part in messages:
        with pytest.raises(ValueError, match=part):
            raise ValueError(message)


def test_blocks_of_unknown_sizes_that_do_not_match_are_an_error():
    model = SmoothL1Regressor().fit(X64, Y64)
    with pytest.raises(ValueError, match="block 0 has 17 rows of X and 16 of y"):
        model.score(unknown(X64), array(Y64, (16, 2, 0, 23, 19)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((X64, array(Y64)), r"score needs all data as Dask.*X is a numpy.ndarray and y a Dask"),
        ((array(X64), Y64), "y is a numpy.ndarray and X a Dask collection"),
        ((array(X64), array(Y64), ONES), "sample_weight is a numpy.ndarray and X a Dask"),
        ((pd.DataFrame(X64), array(Y64)), r"X is a pandas\..*DataFrame"),
    ],
)
def test_data_of_which_only_some_are_dask_collections_are_refused(data, message):
    model = SmoothL1Regressor().fit(X64, Y64)
    assert "pipeline" in message_of(model.score, *data, error=TypeError)
    with pytest.raises(TypeError, match=message):
        model.score(*data)


# Outliers and robustness weights ---------------------------------------------------------


@inputs
@pytest.mark.parametrize("n_targets", [None, 1, 2])
def test_lazy_outliers_and_weights_are_those_in_memory(X, lazy, n_targets):
    y = problem(n_targets)[1]
    model = SmoothL1Regressor().fit(X, y)
    X_lazy = lazy(X)
    y_lazy = like(X_lazy)(y)
    with no_computation():
        outliers = dask_engine.outliers(model, X_lazy, y_lazy)
        weights = dask_engine.robustness_weights(model, X_lazy, y_lazy)
    assert isinstance(outliers, da.Array)
    assert outliers.dtype == bool
    assert outliers.ndim == y.ndim
    assert_array_equal(outliers.compute(), model.outliers_)
    # `weights_` was computed before the coefficients were rounded to float32.
    rtol = 1e-5 if model.coef_.dtype == np.float32 else 1e-12
    assert_allclose(weights.compute(), model.weights_, rtol=rtol)


def test_columns_of_one_file_have_the_same_blocks(tmp_path):
    # Dask merges partitions if few columns of a file are read; how many it merges depends on
    # the columns.
    X, y = problem()
    columns = {f"x{j}": X[:, j] for j in range(P)} | {"y": y}
    columns |= {f"other{j}": np.arange(N) for j in range(8)}
    for k, rows in enumerate(np.array_split(np.arange(N), 12)):
        pd.DataFrame(columns).iloc[rows].to_parquet(tmp_path / f"part{k:02d}.parquet")
    table = dd.read_parquet(tmp_path)
    if dask.config.get("optimization.tune", None) is None:
        # If Dask has no setting that prevents merging, the table must be persisted.
        table = table.persist()
    X_lazy, y_lazy = table[["x0", "x1", "x2"]], table["y"]
    model = SmoothL1Regressor().fit(X_lazy.compute(), y_lazy.compute())
    outliers = dask_engine.outliers(model, X_lazy, y_lazy)
    assert outliers.npartitions == 12
    assert_array_equal(outliers.compute(), model.outliers_)
    score = model.score(X_lazy, y_lazy)
    assert score == pytest.approx(model.score(X_lazy.compute(), y_lazy.compute()), abs=1e-12)


# Refusals --------------------------------------------------------------------------------

MODEL = SmoothL1Regressor().fit(X64, Y64)
MM_MODEL = MMRegressor(n_subsamples=50).fit(X64, Y64)
SEARCH = (
    "takes data in memory; search with a sample of rows, or fit SmoothL1Regressor for each "
    "beta on the Dask collections"
)
SAMPLE = r"pass a sample of rows, such as X\.sample\(\.\.\.\)\.compute\(\)"
INFER = r"infer from a sample of rows.*compute\(\)"
BY_BLOCKS = r"call compute\(\) on both y_true and y_pred, or average the losses by blocks"
# Calls that are refused for Dask collections: the public name, a function that makes the call
# with X, y and weights, and a pattern for the advice in the error message.
REFUSED = [
    ("SmoothL1RegressorCV", lambda X, y, s: SmoothL1RegressorCV().fit(X, y, s), SEARCH),
    ("smooth_l1_path", lambda X, y, s: smooth_l1_path(X, y, sample_weight=s), SEARCH),
    ("MMRegressor", lambda X, y, s: MMRegressor().fit(X, y, s), "fit a sample of rows"),
    (
        "MMRegressor.robust_distances",
        lambda X, y, s: MM_MODEL.robust_distances(X),
        "map_blocks or map_partitions",
    ),
    ("duality_gap", lambda X, y, s: duality_gap(MODEL, X, y, sample_weight=s), "compute"),
    (
        "coefficient_table",
        lambda X, y, s: coefficient_table(MODEL, X, y, sample_weight=s),
        INFER,
    ),
    (
        "observation_table",
        lambda X, y, s: observation_table(MODEL, X, y, sample_weight=s),
        INFER,
    ),
    *[
        (
            f"CoefficientTable.{method}",
            lambda X, y, s, method=method: getattr(TABLE, method)(X),
            "map_blocks or map_partitions",
        )
        for method in ("predict", "predict_interval")
    ],
    *[
        (
            name,
            lambda X, y, s, name=name: getattr(metrics, name)(y, y, sample_weight=s),
            BY_BLOCKS,
        )
        for name in metrics.__all__
    ],
    *[
        (
            name,
            lambda X, y, s, name=name: getattr(losses, name)(y, beta=2.0),
            rf"residual\.map_blocks\({name}, beta=\.\.\.\)",
        )
        for name in losses.__all__
    ],
    *[
        (
            f"{name}.from_estimator",
            lambda X, y, s, name=name, model=model: getattr(displays, name).from_estimator(
                model, X, y
            ),
            SAMPLE,
        )
        for name, model in {
            "CoefficientsDisplay": MODEL,
            "DiagnosticsDisplay": MODEL,
            "FitDisplay": MODEL,
            "InfluenceDisplay": MODEL,
            "OutlierMapDisplay": MM_MODEL,
            "PathDisplay": MODEL,
            "QQDisplay": MODEL,
            "ResidualsDisplay": MODEL,
            "ScaleLocationDisplay": MODEL,
            "WeightsDisplay": MODEL,
        }.items()
    ],
    (
        "ResidualsDisplay.from_predictions",
        lambda X, y, s: displays.ResidualsDisplay.from_predictions(y, y, beta=1.0),
        SAMPLE,
    ),
]
TABLE = coefficient_table(MODEL, X64, Y64)
refused = pytest.mark.parametrize(
    ("name", "call", "advice"), REFUSED, ids=[name for name, _, _ in REFUSED]
)


@refused
@pytest.mark.parametrize("lazy", [array, frame])
def test_functions_for_data_in_memory_refuse_dask_collections_at_once(name, call, advice, lazy):
    X, y, weight = lazy(X64), lazy(Y64), lazy(WEIGHT)
    message = message_of(call, X, y, weight, error=TypeError)
    assert message.startswith(f"{name} takes data in memory; ")
    assert "is a Dask" in message
    with pytest.raises(TypeError, match=advice):
        call(X, y, weight)


@pytest.mark.parametrize(
    "call", [call for name, call, _ in REFUSED if "Display" not in name][:3]
)
def test_weights_alone_are_refused_as_well(call):
    message = message_of(call, X64, Y64, array(WEIGHT), error=TypeError)
    assert message.endswith("sample_weight is a Dask Array.")


def test_groups_are_refused_as_well():
    with pytest.raises(TypeError, match="groups is a Dask Array"), no_computation():
        coefficient_table(MODEL, X64, Y64, groups=array(np.arange(N) % 7))
    with pytest.raises(TypeError, match=r"SmoothL1RegressorCV.*groups is a Dask Array"):
        SmoothL1RegressorCV().fit(X64, Y64, groups=array(np.arange(N) % 7))


def test_l1_penalties_have_an_advice_as_well():
    # Only the message is tested here; test_dask_fit.py tests that such fits are refused.
    with pytest.raises(
        TypeError, match=r"positive=True takes data.*fit a sample of rows.*Dask"
    ):
        require_in_memory(
            "SmoothL1Regressor with positive=True", "L1 or positive", X=array(X64)
        )


class LazyFrame:
    """A stub for polars.LazyFrame, so that polars need not be installed."""


@refused
def test_lazy_frames_of_polars_are_refused(monkeypatch, name, call, advice):
    monkeypatch.setitem(sys.modules, "polars", SimpleNamespace(LazyFrame=LazyFrame))
    lazy = LazyFrame()
    with pytest.raises(TypeError, match=rf"{name}.*polars LazyFrame; call collect\(\) first"):
        call(lazy, lazy, None)


@pytest.mark.parametrize("method", ["predict", "score"])
def test_predictions_of_lazy_frames_are_refused(monkeypatch, method):
    monkeypatch.setitem(sys.modules, "polars", SimpleNamespace(LazyFrame=LazyFrame))
    data = [LazyFrame()] if method == "predict" else [LazyFrame(), Y64]
    with pytest.raises(
        TypeError, match=rf"Regressor\.{method} .*X is a polars LazyFrame; call coll"
    ):
        getattr(MODEL, method)(*data)


@pytest.mark.parametrize("name", losses.__all__)
def test_losses_apply_to_blocks(name):
    loss = getattr(losses, name)
    with no_computation():
        lazy = array(Y64).map_blocks(loss, beta=2.0)
        partitions = frame(Y64).map_partitions(loss, beta=2.0, meta=(None, float))
    assert lazy.dtype == float
    assert_array_equal(lazy.compute(), loss(Y64, beta=2.0))
    assert_array_equal(partitions.compute(), loss(Y64, beta=2.0))


# Pickles and imports ---------------------------------------------------------------------


def fitted_lazily():
    """Return a model whose `outliers_` and `weights_` are lazy, as after a fit to Dask data."""
    model = SmoothL1Regressor().fit(X64, Y64)
    lazy = model, array(X64), array(Y64)
    model.outliers_ = dask_engine.outliers(*lazy)
    model.weights_ = dask_engine.robustness_weights(*lazy)
    return model


def test_a_pickle_has_no_lazy_attributes_and_the_model_keeps_them():
    model = fitted_lazily()
    loaded = pickle.loads(pickle.dumps(model))
    assert isinstance(model.outliers_, da.Array)
    assert vars(model).keys() - vars(loaded).keys() == {"outliers_", "weights_"}
    assert not hasattr(loaded, "outliers_")
    assert_array_equal(loaded.predict(X64), model.predict(X64))


def test_a_missing_lazy_attribute_is_an_error_with_the_formula():
    loaded = pickle.loads(pickle.dumps(fitted_lazily()))
    for name in ("outliers_", "weights_"):
        with pytest.raises(AttributeError, match=f"{name} is not stored.*Dask") as raised:
            getattr(loaded, name)
        formula = str(raised.value).rpartition("data: ")[2]
        names = {"numpy": np, "model": loaded, "X": array(X64), "y": array(Y64)}
        value = eval(formula, names)
        assert isinstance(value, da.Array)
        assert_allclose(value, getattr(MODEL, name), rtol=1e-12)


def test_other_missing_attributes_have_the_message_of_python():
    for model in (SmoothL1Regressor(), clone(MODEL)):
        with pytest.raises(
            AttributeError, match=r"^'SmoothL1Regressor' object has no attribute"
        ):
            model.outliers_  # noqa: B018
    with pytest.raises(AttributeError, match="object has no attribute 'missing'"):
        MODEL.missing  # noqa: B018


def test_a_pickle_keeps_the_arrays_of_a_fit_in_memory():
    loaded = pickle.loads(pickle.dumps(MODEL))
    assert_array_equal(loaded.outliers_, MODEL.outliers_)
    assert_array_equal(loaded.weights_, MODEL.weights_)


WITHOUT_DASK = """
import pickle
import numpy as np

sys.modules["dask"] = None
with open({path!r}, "rb") as file:
    model = pickle.load(file)
X = np.linspace(-1, 1, 60).reshape(20, 3) ** 2
print(model.predict(X).tolist())
try:
    model.outliers_
except AttributeError as error:
    print(error)
print(model.fit(X, X.sum(axis=1) + np.sin(np.arange(20))).outliers_.shape)
"""

IN_MEMORY = """
import numpy as np
import skrobust
from skrobust import displays, inference, losses, metrics

X = np.linspace(-1, 1, 60).reshape(20, 3) ** 2
y = X @ [1, 2, 3] + np.sin(np.arange(20))
model = skrobust.SmoothL1Regressor(alpha=1).fit(X, y)
model.score(X, y), losses.huber(y), metrics.mean_huber_loss(y, model.predict(X))
print([name for name in sys.modules if name.partition(".")[0] in ("dask", "distributed")])
"""


@pytest.mark.slow
def test_a_model_loads_predicts_and_fits_where_dask_is_not_installed(tmp_path):
    model, path = fitted_lazily(), tmp_path / "model.pickle"
    path.write_bytes(pickle.dumps(model))
    lines = programs.run("import sys" + WITHOUT_DASK.format(path=str(path))).splitlines()
    X = np.linspace(-1, 1, 60).reshape(20, 3) ** 2
    assert_allclose(literal_eval(lines[0]), model.predict(X), rtol=1e-14)
    assert "abs(y - model.predict(X)) > model.beta_" in lines[1]
    assert lines[2] == "(20,)"


@pytest.mark.slow
def test_fits_in_memory_do_not_import_dask():
    assert programs.run("import sys" + IN_MEMORY) == "[]"


def test_the_score_names_the_block_of_a_feature_that_is_not_a_number():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    y = X.sum(axis=1)
    model = SmoothL1Regressor().fit(X, y)
    X[35, 1] = np.nan
    blocks = da.from_array(X, chunks=(10, -1)), da.from_array(y, chunks=10)
    with pytest.raises(ValueError, match=r"Input X contains NaN.*block 3 \(rows 30 to 39\)"):
        model.score(*blocks)
