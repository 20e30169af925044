"""Fits to Dask collections with Dask schedulers that run in this process."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from problems import Recorder, needs_callbacks
from skrobust import SmoothL1Regressor, _solvers

dd = pytest.importorskip("dask.dataframe")

import dask  # noqa: E402
import dask.array as da  # noqa: E402
import pandas as pd  # noqa: E402

REFERENCE = json.loads((Path(__file__).parent / "data" / "scaleout.json").read_text())["cases"]
# Block sizes. One block is empty, and another has a single row.
BLOCKS = (40, 1, 0, 99, 60)
N, P = sum(BLOCKS), 4
MODES = {
    "default": {},
    "fixed": {"beta": 1.0},
    "tiny beta": {"beta": 1e-6},
    "ridge": {"loss": "huber", "alpha": 0.1},
    "smooth L1 with ridge": {"alpha": 0.1},
    "concomitant": {"scale": "concomitant", "loss": "huber"},
    "concomitant with ridge": {"scale": "concomitant", "alpha": 0.1},
    "schedule": {"beta_schedule": [50, 10, 2, 1]},
    "geometric": {"beta": 1.0, "beta_schedule": "geometric"},
    "no intercept": {"fit_intercept": False},
    "lbfgs": {"solver": "lbfgs", "tol": 1e-10},
    "newton": {"solver": "newton", "beta": 0.1},
    "penalty weights": {"alpha": 0.1, "penalty_weights": [1.0, 0.0, np.inf, 2.0]},
    "no penalty on some features": {"alpha": 5.0, "penalty_weights": [1.0, 0.0, 1.0, 0.0]},
    "features left out": {"penalty_weights": [1.0, 1.0, np.inf, 1.0]},
}


@pytest.fixture(autouse=True)
def _synchronous():
    with dask.config.set(scheduler="synchronous"):
        yield


def problem(n_targets=None, seed=0, n=N):
    """Return X, y and weights."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, P)) @ rng.normal(size=(P, P)) + 3.0
    y = X @ rng.normal(size=(P, n_targets or 1)) + rng.standard_t(2, size=(n, n_targets or 1))
    return X, y if n_targets else y[:, 0], rng.uniform(0.1, 1.0, size=n)


def array(values, blocks=BLOCKS):
    """Return a Dask Array with the given blocks of rows."""
    values = np.asarray(values)
    return da.from_array(values, chunks=(blocks, *((m,) for m in values.shape[1:])))


def arrays(*values, blocks=BLOCKS):
    return [None if value is None else array(value, blocks) for value in values]


def assert_same_fit(model, expected, X, y, rtol=1e-8):
    """Assert that a model fitted to Dask collections agrees with one fitted in memory."""
    X = X.toarray() if sparse.issparse(X) else np.asarray(X, dtype=float)
    # Coefficients of float32 data are rounded to float32.
    rtol = max(rtol, 4 * float(np.finfo(expected.coef_.dtype).eps))
    # Without division by this unit, the squares of extreme values would overflow or underflow.
    unit = np.abs(X).max(axis=0)
    scale = unit * np.maximum((X / unit).std(axis=0), 1e-12)
    size = np.abs(expected.coef_ * scale).max()
    assert model.coef_.dtype == expected.coef_.dtype
    assert_allclose(model.coef_ * scale, expected.coef_ * scale, rtol=0, atol=rtol * size)
    moved = np.abs(expected.intercept_) + np.abs(expected.coef_) @ np.abs(X.mean(axis=0))
    assert (np.abs(model.intercept_ - expected.intercept_) <= rtol * moved).all()
    for name in ("beta_", "scale_", "objective_"):
        assert_allclose(getattr(model, name), getattr(expected, name), rtol=rtol, err_msg=name)
    assert set(vars(model)) == set(vars(expected))
    for name, value in vars(expected).items():
        if name.endswith("_") and name not in ("outliers_", "weights_"):
            assert type(getattr(model, name)) is type(value), name
            assert np.shape(getattr(model, name)) == np.shape(value), name
    assert model.rank_ == expected.rank_
    outliers = model.outliers_.compute()
    assert outliers.dtype == bool
    assert outliers.shape == np.shape(y)
    assert_array_equal(outliers.sum(axis=0), expected.outliers_.sum(axis=0))
    for k, (stage, same) in enumerate(zip(model.history_, expected.history_, strict=True)):
        assert stage["target"] == same["target"]
        assert_allclose(stage["beta"], same["beta"], rtol=rtol)
        assert set(stage) == {*same, "n_rounds"}
        assert all(type(stage[name]) is type(same[name]) for name in same)
        assert type(stage["n_rounds"]) is int
        assert stage["n_rounds"] >= stage["n_eval"] or k
    assert total(model, "n_rounds") >= total(model, "n_eval")


def total(model, name):
    return sum(stage[name] for stage in model.history_)


class Counts:
    """A counter of Dask computations and of reads of blocks of X."""

    def __init__(self):
        self.executions = self.reads = 0

    def get(self, dsk, keys, **options):
        self.executions += 1
        return dask.get(dsk, keys, **options)

    def read(self, block):
        self.reads += 1
        return block


def check(X, y, weight=None, blocks=BLOCKS, rtol=1e-8, **parameters):
    """Fit arrays in memory and in blocks, and assert that the two models agree."""
    expected, counts = SmoothL1Regressor(**parameters).fit(X, y, weight), Counts()
    data = arrays(X, y, weight, blocks=blocks)
    with dask.config.set(scheduler=counts.get):
        model = SmoothL1Regressor(**parameters).fit(*data)
    assert total(model, "n_rounds") <= counts.executions <= total(model, "n_rounds") + 1
    assert_same_fit(model, expected, X, y, rtol)
    return model


# Results ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REFERENCE)
def test_a_fit_has_the_answer_of_other_libraries(name):
    case = REFERENCE[name]
    X, y, blocks = np.array(case["X"]), np.array(case["y"]), tuple(case["blocks"])
    weight = None if case["weight"] is None else np.array(case["weight"])
    model = SmoothL1Regressor(**case["params"])
    model.fit(*arrays(X, y, weight, blocks=blocks))
    scale, coef = X.std(axis=0), np.array(case["coef"])
    size = np.abs(coef * scale).max()
    assert_allclose(model.coef_ * scale, coef * scale, rtol=0, atol=case["tol"] * size)
    moved = abs(case["intercept"]) + np.abs(coef) @ np.abs(X.mean(axis=0))
    assert abs(model.intercept_ - case["intercept"]) <= case["tol"] * moved
    assert_allclose(model.beta_, case["beta"], rtol=case["tol"])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("weighted", [False, True])
def test_every_mode_gives_the_fit_in_memory(mode, weighted):
    X, y, weight = problem()
    check(X, y, weight if weighted else None, **MODES[mode])


@pytest.mark.parametrize("mode", MODES)
def test_rows_of_weight_zero_count_as_absent(mode):
    X, y, weight = problem()
    # Two blocks have no rows with positive weight.
    weight[::3] = weight[40] = 0.0
    weight[140:] = 0.0
    y[weight == 0] += 100.0
    model = check(X, y, weight, **MODES[mode])
    used = weight > 0
    absent = SmoothL1Regressor(**MODES[mode]).fit(X[used], y[used], weight[used])
    assert_allclose(model.coef_, absent.coef_, rtol=0, atol=1e-8 * np.abs(absent.coef_).max())


@pytest.mark.parametrize(
    ("mode", "weighted"),
    [("default", True), ("fixed", False), ("concomitant", True), ("schedule", False)],
)
def test_several_targets_give_the_fits_in_memory(mode, weighted):
    X, y, weight = problem(n_targets=3)
    check(X, y, weight if weighted else None, **MODES[mode])


def test_one_target_in_a_column_keeps_its_axis():
    X, y, _ = problem(n_targets=1)
    assert check(X, y).coef_.shape == (1, P)


@pytest.mark.parametrize("mode", ["default", "fixed", "concomitant", "no intercept"])
def test_float32_gives_the_fit_in_memory(mode):
    X, y, weight = problem()
    model = check(X.astype(np.float32), y.astype(np.float32), weight, **MODES[mode])
    assert model.coef_.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint8, bool, np.float16])
def test_other_numbers_are_converted_as_in_memory(dtype):
    X, y, _ = problem()
    X = (X > 3) if dtype is bool else np.round(np.abs(X))
    check(X.astype(dtype), np.round(y).astype(int), np.arange(N) % 3 + 1)


@pytest.mark.parametrize(
    ("kind", "mode", "dtype"),
    [
        (sparse.csr_array, "default", np.float64),
        (sparse.csr_array, "concomitant", np.float64),
        (sparse.csr_array, "ridge", np.float64),
        (sparse.csr_array, "no intercept", np.float32),
        (sparse.csr_matrix, "fixed", np.float64),
        (sparse.csc_array, "fixed", np.float32),
    ],
)
def test_sparse_blocks_give_the_fit_in_memory(kind, mode, dtype):
    X, y, weight = problem()
    X = (X * (np.random.default_rng(1).random(X.shape) < 0.4)).astype(dtype)
    weight[5:9] = 0.0
    expected = SmoothL1Regressor(**MODES[mode]).fit(sparse.csr_array(X), y, weight)
    blocks = array(X).map_blocks(kind)
    model = SmoothL1Regressor(**MODES[mode]).fit(blocks, *arrays(y, weight))
    assert_same_fit(model, expected, X, y)


def test_sparse_blocks_that_are_described_as_dense_give_the_same_fit():
    X, y, _ = problem()
    parts = np.split(X, np.cumsum(BLOCKS)[:-1])
    blocks = [
        da.from_delayed(dask.delayed(sparse.csr_array)(part), part.shape, float)
        for part in parts
        if part.size
    ]
    model = SmoothL1Regressor().fit(da.concatenate(blocks), array(y, (40, 1, 99, 60)))
    assert_same_fit(model, SmoothL1Regressor().fit(X, y), X, y)


@pytest.mark.parametrize(
    "blocks", [(30,), (12,) + (1,) * 18, (0, 30), (29, 1), (0, 0, 1, 29, 0)]
)
@pytest.mark.parametrize("mode", ["default", "concomitant", "fixed"])
def test_any_blocks_give_the_fit_in_memory(blocks, mode):
    check(*problem(n=30), blocks=blocks, **MODES[mode])


@pytest.mark.parametrize("mode", ["default", "fixed"])
def test_columns_split_over_chunks_are_joined(mode):
    X, y, weight = problem()
    split = array(X).rechunk({1: (1, 2, 1)})
    model = SmoothL1Regressor(**MODES[mode]).fit(split, *arrays(y, weight))
    assert_same_fit(model, SmoothL1Regressor(**MODES[mode]).fit(X, y, weight), X, y)
    targets = np.c_[y, -y]
    model.fit(split, array(targets).rechunk({1: 1}), array(weight))
    assert_same_fit(model, SmoothL1Regressor(**MODES[mode]).fit(X, targets, weight), X, targets)


@pytest.mark.parametrize("mode", ["default", "concomitant", "schedule"])
@pytest.mark.parametrize("weighted", [False, True])
def test_unknown_numbers_of_rows_are_found(mode, weighted):
    X, y, weight = problem()
    kept = array(y) > -1e9
    data = [data[kept] for data in arrays(X, y, weight if weighted else y)]
    assert np.isnan(data[0].shape[0])
    data[2] = data[2] if weighted else None
    model = SmoothL1Regressor(**MODES[mode]).fit(*data)
    expected = SmoothL1Regressor(**MODES[mode]).fit(X, y, weight if weighted else None)
    assert_same_fit(model, expected, X, y)


@pytest.mark.parametrize("scheduler", ["threads", dask.get])
def test_other_schedulers_give_the_same_bits(scheduler):
    data = arrays(*problem())
    expected = SmoothL1Regressor().fit(*data)
    with dask.config.set(scheduler=scheduler):
        model = SmoothL1Regressor().fit(*data)
    assert_array_equal(model.coef_, expected.coef_)
    assert (model.intercept_, model.beta_) == (expected.intercept_, expected.beta_)
    assert model.history_ == expected.history_


def test_two_fits_at_once_are_independent():
    data = arrays(*problem())
    models = [SmoothL1Regressor(**MODES[mode]) for mode in ("default", "concomitant") * 2]
    expected = [clone(model).fit(*data) for model in models]
    with dask.config.set(scheduler="threads"), ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda model: model.fit(*data), models))
    for model, same in zip(models, expected, strict=True):
        assert_array_equal(model.coef_, same.coef_)
        assert model.history_ == same.history_


# Frames ----------------------------------------------------------------------------------


def frames(X, y, weight, n_partitions=4, dtype=None):
    """Return X, y and weights as columns of one Dask DataFrame, and X as a pandas DataFrame."""
    frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])])
    frame = frame if dtype is None else frame.astype(dtype)
    names = list(frame)
    whole = dd.from_pandas(frame.assign(y=y, s=weight), npartitions=n_partitions)
    return whole[names], whole["y"], whole["s"], frame


@pytest.mark.parametrize(
    ("mode", "dtype"),
    [
        ("default", None),
        ("concomitant", None),
        ("schedule", None),
        ("default", "float32"),
        ("fixed", "Float64"),
        ("fixed", {"x0": "Int64", "x1": "float32"}),
        ("fixed", {"x0": "bool", "x1": "int8", "x2": "boolean"}),
        ("fixed", {"x3": "double[pyarrow]"}),
    ],
)
def test_frames_give_the_fit_in_memory(mode, dtype):
    X, y, weight = problem()
    X[:, :3] = np.round(X[:, :3]) % 2 if isinstance(dtype, dict) else X[:, :3]
    dX, dy, ds, frame = frames(X, y, weight, dtype=dtype)
    expected = SmoothL1Regressor(**MODES[mode]).fit(frame, y, weight)
    model = SmoothL1Regressor(**MODES[mode]).fit(dX, dy, ds)
    assert_same_fit(model, expected, frame.to_numpy(float), y)
    assert_array_equal(model.feature_names_in_, frame.columns)


def test_a_frame_of_targets_gives_the_fits_in_memory():
    X, y, _ = problem(n_targets=2)
    whole = dd.from_pandas(pd.DataFrame(np.c_[X, y], columns=list("abcdyz")), npartitions=3)
    model = SmoothL1Regressor().fit(whole[list("abcd")], whole[["y", "z"]])
    expected = SmoothL1Regressor().fit(pd.DataFrame(X, columns=list("abcd")), y)
    assert_same_fit(model, expected, X, y)


def test_a_frame_beside_arrays_of_its_partitions_gives_the_fit_in_memory():
    X, y, _ = problem()
    dX, _, _, frame = frames(X, y, y, n_partitions=2)
    sizes = tuple(dX.map_partitions(len).compute())
    model = SmoothL1Regressor().fit(dX, array(y, sizes))
    assert_same_fit(model, SmoothL1Regressor().fit(frame, y), X, y)


@pytest.mark.skipif(
    "tune" not in dask.config.get("optimization", {}),
    reason="this version of Dask always chooses partitions by the columns that are read",
)
# Dask uses a deprecated keyword argument of pandas.
@pytest.mark.filterwarnings("ignore:The inplace keyword")
def test_columns_of_one_parquet_file_have_the_same_blocks(tmp_path):
    X, y, weight = problem(n=400)
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame(X, columns=list("abcd"))
    dd.from_pandas(frame.assign(y=y, s=weight), npartitions=5).to_parquet(tmp_path)
    whole = dd.read_parquet(tmp_path)
    model = SmoothL1Regressor().fit(whole[list(frame)], whole["y"], whole["s"])
    assert_same_fit(model, SmoothL1Regressor().fit(frame, y, weight), X, y)


# Hostile data ----------------------------------------------------------------------------

HOSTILE = {
    "huge": lambda X: X * [1e150, 1.0, 1e-150, 1e160],
    "near the largest number": lambda X: X * [1e305, 1.0, 1.0, 1.0],
    "far": lambda X: X + np.array([1e8, 0.0, -1e8, 1e6]),
    "constant": lambda X: X * [1.0, 0.0, 1.0, 1.0] + [0.0, 0.1, 0.0, 0.0],
    "indicator of one block": lambda X: np.where(
        np.arange(4) == 2, (np.arange(N) < 41)[:, None], X
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize(
    ("mode", "weighted"),
    [("default", True), ("fixed", False), ("concomitant", True), ("no intercept", False)],
)
def test_hostile_features_give_the_fit_in_memory(kind, mode, weighted):
    X, y, weight = problem()
    # Both the fit in memory and the fit to blocks leave out rows of zero weight.
    weight[:5] = 0.0
    check(HOSTILE[kind](X), y, weight if weighted else None, rtol=1e-7, **MODES[mode])


@pytest.mark.parametrize("unit", [1e-300, 1e-150, 1e150, 1e300])
@pytest.mark.parametrize("mode", ["default", "concomitant"])
def test_any_unit_of_y_gives_the_fit_in_memory(unit, mode):
    X, y, weight = problem()
    check(X, y / np.abs(y).max() * unit, 1e300 * weight, **MODES[mode])


@pytest.mark.parametrize("mode", ["default", "fixed", "concomitant", "ridge"])
@pytest.mark.parametrize("kind", ["dependent", "wide"])
def test_rank_deficient_data_give_the_predictions_in_memory(mode, kind):
    X, y, _ = problem()
    X = np.c_[X, X[:, 0] + X[:, 1]] if kind == "dependent" else X[:3]
    y, blocks = (y, BLOCKS) if kind == "dependent" else (y[:3], (1, 0, 2))
    expected = SmoothL1Regressor(**MODES[mode]).fit(X, y)
    model = SmoothL1Regressor(**MODES[mode]).fit(*arrays(X, y, blocks=blocks))
    assert model.rank_ == expected.rank_ < X.shape[1] or kind == "wide"
    size = np.abs(y).max()
    assert_allclose(model.predict(X), expected.predict(X), rtol=0, atol=1e-8 * size)
    if kind == "dependent":
        assert_same_fit(model, expected, X, y)


@pytest.mark.parametrize("mode", ["default", "fixed", "concomitant"])
def test_an_exact_fit_of_most_rows_is_found(mode):
    X, y, _ = problem()
    y[:140] = X[:140] @ np.arange(1.0, 5.0) + 7.0
    expected = SmoothL1Regressor(**MODES[mode]).fit(X, y)
    model = SmoothL1Regressor(**MODES[mode]).fit(*arrays(X, y))
    assert_allclose(model.coef_, expected.coef_, rtol=1e-8)
    assert_array_equal(model.outliers_.compute(), expected.outliers_)


def test_a_constant_target_gives_the_fit_in_memory():
    X, _, weight = problem()
    check(X, np.full(N, 3.5), weight)


def test_weights_that_are_all_equal_have_no_effect():
    X, y, _ = problem()
    data = arrays(X, y)
    model = SmoothL1Regressor().fit(*data, array(np.full(N, 0.3)))
    assert_array_equal(model.coef_, SmoothL1Regressor().fit(*data).coef_)


def test_weights_of_widely_different_sizes_give_the_fit_in_memory():
    X, y, _ = problem()
    weight = 10.0 ** np.random.default_rng(0).uniform(-12, 0, size=N)
    # Weights this small are lost to rounding when they are added to the other weights, but one
    # block has no other weights.
    weight[40:60] = 1e-320
    weight[41:] *= 1e3
    check(X, y, weight, rtol=1e-7)


# Warm start, callbacks, failures ---------------------------------------------------------


@pytest.mark.parametrize("mode", ["default", "fixed", "concomitant", "schedule"])
def test_a_warm_start_is_used(mode):
    X, y, weight = problem()
    data = arrays(X, y, weight)
    model = SmoothL1Regressor(warm_start=True, **MODES[mode]).fit(X, y, weight)
    expected = SmoothL1Regressor(warm_start=True, **MODES[mode]).fit(X, y, weight)
    first = SmoothL1Regressor(**MODES[mode]).fit(*data)
    assert_same_fit(model.fit(*data), expected.fit(X, y, weight), X, y)
    if mode == "fixed":
        assert total(model, "n_eval") < total(first, "n_eval")
    # A model fitted to blocks can warm-start a fit in memory.
    model.fit(X, y, weight)
    assert isinstance(model.outliers_, np.ndarray)
    assert not any("n_rounds" in stage for stage in model.history_)


@needs_callbacks
def test_callbacks_receive_each_stage_once():
    class DataRecorder(Recorder):
        def on_fit_task_end(self, estimator, context, *, X=None, y=None, fitted_estimator=None):
            data.append((X, y))
            return super().on_fit_task_end(
                estimator, context, X=X, fitted_estimator=fitted_estimator
            )

    X, y, _ = problem()
    dX, dy = arrays(X, y)
    recorders, data = [Recorder(), DataRecorder()], []
    for recorder, (features, target) in zip(recorders, ((X, y), (dX, dy)), strict=True):
        model = SmoothL1Regressor(beta_schedule=[10, 2, 1]).set_callbacks(recorder)
        model.fit(features, target)
    assert len(recorders[1].begun) == len(recorders[0].begun) == len(data) == 4
    assert all(X is dX and y is dy for X, y in data)
    for expected, prediction in zip(*(r.predictions for r in recorders), strict=True):
        assert_allclose(prediction.compute(), expected, rtol=1e-7)
    stopping = Recorder(stop_after=1)
    model = SmoothL1Regressor(beta_schedule=[10, 2, 1]).set_callbacks(stopping).fit(dX, dy)
    assert len(model.history_) == 1
    assert model.outliers_.compute().shape == y.shape


def test_a_fit_that_does_not_converge_warns_as_in_memory():
    X, y, _ = problem()
    model = SmoothL1Regressor(max_iter=1, tol=1e-12)
    with pytest.warns(ConvergenceWarning) as in_memory:
        model.fit(X, y)
    with pytest.warns(ConvergenceWarning) as in_blocks:
        model.fit(*arrays(X, y))
    texts = [str(found[0].message).split(":")[0] for found in (in_memory, in_blocks)]
    assert texts[0] == texts[1]
    assert in_blocks[0].filename == __file__


class OwnError(Exception):
    pass


@pytest.mark.parametrize("error", [OwnError, KeyboardInterrupt])
@pytest.mark.parametrize("n_calls", [0, 4, 12])
def test_an_error_in_a_block_is_passed_on_and_leaves_the_old_model(error, n_calls):
    X, y, _ = problem()
    model = SmoothL1Regressor().fit(X, y)
    kept, calls = dict(vars(model)), []

    def fail(block):
        calls.append(1)
        if len(calls) > n_calls:
            raise error("own message")
        return block

    broken = array(X).map_blocks(fail, meta=np.empty((0, 0)))
    with pytest.raises(error, match="own message"):
        model.fit(broken, array(y))
    assert vars(model) == kept


# Errors ----------------------------------------------------------------------------------


def with_value(values, row, value):
    values = values.copy()
    values[row] = value
    return values


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["X", "y", "sample_weight"])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("tall", [True, False])
def test_an_error_about_values_names_the_data_and_the_block(
    monkeypatch, value, name, known, tall
):
    monkeypatch.setattr(_solvers, "TALL_MIN_ELEMENTS", 0 if tall else 10**9)
    data = dict(zip(("X", "y", "sample_weight"), problem(), strict=True))
    model = SmoothL1Regressor().fit(**data)
    kept = dict(vars(model))
    data[name] = with_value(data[name], 57, value)
    data = {key: array(values) for key, values in data.items()}
    if not known:
        every = array(np.ones(N, dtype=bool))
        data = {key: values[every] for key, values in data.items()}
    message = rf"Input {name} contains NaN or infinity, in block 3 \(rows 41 to 139\)"
    with pytest.raises(ValueError, match=message):
        model.fit(**data)
    assert vars(model) == kept


@pytest.mark.parametrize("name", ["X", "y"])
@pytest.mark.parametrize("as_blocks", [np.asarray, sparse.csr_array])
def test_rows_of_weight_zero_are_checked_too(name, as_blocks):
    X, y, weight = problem()
    weight[57] = 0.0
    data = {"X": X, "y": y} | {name: with_value({"X": X, "y": y}[name], 57, np.nan)}
    data = {key: array(values) for key, values in data.items()}
    data["X"] = data["X"].map_blocks(as_blocks)
    message = rf"Input {name} contains NaN or infinity, in block 3 \(rows 41 to 139\)"
    with pytest.raises(ValueError, match=message):
        SmoothL1Regressor().fit(**data, sample_weight=array(weight))


def test_negative_weights_are_refused():
    X, y, weight = problem()
    message = r"sample_weight contains negative values, in block 3 \(rows 41 to 139\)"
    with pytest.raises(ValueError, match=message):
        SmoothL1Regressor().fit(*arrays(X, y, with_value(weight, 57, -1.0)))


def test_weights_that_are_all_zero_are_refused_as_in_memory():
    X, y, _ = problem()
    # For data in memory, the error is scikit-learn's if the installed version checks the
    # weights.
    message = "Sample weights must contain at least one non-zero number|got only zeros"
    for data in ((X, y, np.zeros(N)), arrays(X, y, np.zeros(N))):
        with pytest.raises(ValueError, match=message):
            SmoothL1Regressor().fit(*data)


@pytest.mark.parametrize("name", ["y", "sample_weight"])
def test_other_numbers_of_blocks_are_refused(name):
    data = dict(zip(("X", "y", "sample_weight"), problem(), strict=True))
    data = {key: array(values) for key, values in data.items()}
    data[name] = data[name].rechunk(100)
    with pytest.raises(ValueError) as error:
        SmoothL1Regressor().fit(**data)
    text = str(error.value)
    assert "5" in text
    assert "2" in text
    assert f"{name}.rechunk({{0: X.chunks[0]}})" in text


@pytest.mark.parametrize("name", ["y", "sample_weight"])
@pytest.mark.parametrize("known", [True, False])
def test_other_numbers_of_rows_in_a_block_are_refused(name, known):
    data = dict(zip(("X", "y", "sample_weight"), problem(), strict=True))
    blocks = (40, 1, 0, 99, 60)
    data = {key: array(values, blocks) for key, values in data.items()}
    data[name] = data[name].rechunk({0: (40, 1, 2, 97, 60)})
    if not known:
        data = {
            key: values[array(np.ones(N, dtype=bool), values.chunks[0])]
            for key, values in data.items()
        }
    with pytest.raises(ValueError) as error:
        SmoothL1Regressor().fit(**data)
    text = str(error.value)
    assert "block 2" in text
    assert " 0 " in text
    assert " 2 " in text
    assert name in text


@pytest.mark.parametrize("names", [("X",), ("y",), ("X", "y"), ("sample_weight",)])
def test_data_of_which_only_some_are_dask_collections_are_refused(names):
    data = dict(zip(("X", "y", "sample_weight"), problem(), strict=True))
    data |= {name: array(data[name]) for name in names}
    first = next(name for name in data if name not in names)
    with pytest.raises(TypeError, match=rf"{first} is a numpy"):
        SmoothL1Regressor().fit(**data)


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["a", "b"] * 10).astype(object),
        pd.Series(["a", "b"] * 10, dtype="string"),
        pd.Series(["a", "b"] * 10, dtype="category"),
        pd.Series(np.arange(20) + 1j),
        pd.Series(pd.date_range("2020-01-01", periods=20)),
    ],
)
def test_columns_that_are_no_real_numbers_are_refused_by_name(column):
    frame = pd.DataFrame({"a": np.arange(20) * 1.0, "colour": column})
    frame = dd.from_pandas(frame, npartitions=2)
    with pytest.raises((TypeError, ValueError), match="colour"):
        SmoothL1Regressor().fit(frame, frame["a"])


def test_complex_arrays_are_refused():
    X, y, _ = problem()
    for data in ((array(X + 1j), array(y)), (array(X), array(y + 1j))):
        with pytest.raises((TypeError, ValueError), match="complex"):
            SmoothL1Regressor().fit(*data)


def test_data_without_rows_are_refused_as_in_memory():
    X, y = np.empty((0, 2)), np.empty(0)
    for data in ((X, y), arrays(X, y, blocks=(0, 0))):
        with pytest.raises(ValueError, match=r"Found array with 0 sample\(s\)"):
            SmoothL1Regressor().fit(*data)


@pytest.mark.parametrize("name", ["X", "y", "sample_weight"])
def test_data_of_another_dimension_are_refused_as_in_memory(name):
    data = dict(zip(("X", "y", "sample_weight"), problem(), strict=True))
    data[name] = {
        "X": data["y"],
        "y": np.ones((N, 2, 2)),
        "sample_weight": np.ones((N, 2)),
    }[name]
    for given in (data, {key: array(values) for key, values in data.items()}):
        with pytest.raises(ValueError):
            SmoothL1Regressor().fit(**given)


@pytest.mark.parametrize("parameters", [{"alpha": 0.1, "l1_ratio": 0.5}, {"positive": True}])
def test_penalties_that_need_columns_are_refused(parameters):
    X, y, _ = problem()
    with pytest.raises(TypeError, match=r"(?s)in memory.*Dask"):
        SmoothL1Regressor(**parameters).fit(*arrays(X, y))


# Rounds and reads ------------------------------------------------------------------------

TALL_N, TALL_P, TALL_BLOCKS = 40_000, 10, 8


def tall_data(kind):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(TALL_N, TALL_P)) @ rng.normal(size=(TALL_P, TALL_P)) + 3.0
    noise = rng.standard_t(3, size=TALL_N)
    if kind == "heavy tails":
        X *= rng.standard_cauchy(size=(TALL_N, 1))
    if kind == "leverage":
        X[: TALL_N // 200] *= 20.0
    y = X.sum(axis=1) + noise
    if kind == "one-sided outliers":
        y += 20.0 * (rng.random(TALL_N) < 0.2)
    if kind == "leverage":
        y[: TALL_N // 200] = 50.0 * rng.normal(size=TALL_N // 200)
    return X, y, rng.uniform(0.1, 1.0, size=TALL_N)


TALL_MODES = ["default", "fixed", "concomitant", "no intercept"]


@pytest.mark.parametrize(
    ("kind", "mode", "weighted"),
    [("plain", mode, weighted) for mode in TALL_MODES for weighted in (False, True)]
    + [
        (kind, mode, mode in ("default", "no intercept"))
        for kind in ("one-sided outliers", "heavy tails", "leverage")
        for mode in TALL_MODES
    ],
)
def test_tall_data_take_few_rounds_and_reads(monkeypatch, kind, mode, weighted):
    monkeypatch.setattr(_solvers, "TALL_MIN_ELEMENTS", 0)
    X, y, weight = tall_data(kind)
    weight = weight if weighted else None
    expected = SmoothL1Regressor(**MODES[mode]).fit(X, y, weight)
    counts, size = Counts(), TALL_N // TALL_BLOCKS
    dX, dy, ds = arrays(X, y, weight, blocks=(size,) * TALL_BLOCKS)
    dX = dX.map_blocks(counts.read, meta=np.empty((0, 0)))
    with dask.config.set(scheduler=counts.get):
        model = SmoothL1Regressor(**MODES[mode]).fit(dX, dy, ds)
    hard = kind in ("heavy tails", "leverage")
    n_rounds, n_eval = total(model, "n_rounds"), total(model, "n_eval")
    assert n_rounds <= n_eval + (10 if hard else 6)
    assert kind != "plain" or n_rounds <= 16
    assert counts.executions <= n_rounds + 1
    assert counts.reads <= (n_eval + 4) * TALL_BLOCKS
    assert_same_fit(model, expected, X, y, rtol=1e-7 if hard else 1e-8)


@pytest.mark.parametrize(
    "parameters", [{"solver": "newton"}, {"solver": "lbfgs"}, {"max_iter": 1}]
)
@pytest.mark.parametrize("as_blocks", [False, True])
def test_nan_outside_of_the_sample_of_rows_is_found(monkeypatch, parameters, as_blocks):
    monkeypatch.setattr(_solvers, "TALL_MIN_ELEMENTS", 0)
    X, y, _ = problem(n=4_000)
    sample = np.random.default_rng(0).choice(4_000, 1_000, replace=False, shuffle=False)
    X[np.setdiff1d(np.arange(2_000, 3_000), sample)[0], 1] = np.nan
    blocks = (1_000,) * 4
    data = (array(X, blocks), array(y, blocks)) if as_blocks else (X, y)
    message = r"X contains NaN or infinity, in block 2" if as_blocks else "X contains NaN"
    with pytest.raises(ValueError, match=message):
        SmoothL1Regressor(1.0, **parameters).fit(*data)


@pytest.mark.parametrize("shape", [(P, 30), (P, 50), (P + 1, 40)])
def test_blocks_of_another_shape_than_declared_are_refused(shape):
    X, y, _ = problem(n=80)
    wrong = np.ones(shape[::-1])
    parts = [
        da.from_delayed(dask.delayed(part), shape=(40, P), dtype=float)
        for part in (X[:40], wrong)
    ]
    message = "columns" if shape[0] > P else "block 1 has .* rows of X and 40 of y"
    with pytest.raises(ValueError, match=message):
        SmoothL1Regressor().fit(da.concatenate(parts), array(y, (40, 40)))


@pytest.mark.parametrize("name", ["X", "y"])
def test_blocks_that_are_complex_unlike_their_description_are_refused(name):
    X, y, _ = problem()
    data = {"X": array(X), "y": array(y)}
    meta = np.empty((0,) * data[name].ndim)
    data[name] = data[name].map_blocks(lambda block: block + 1j, dtype=float, meta=meta)
    with pytest.raises(TypeError, match=f"{name} must consist of real numbers"):
        SmoothL1Regressor().fit(**data)


def test_targets_of_an_impossible_shape_are_refused():
    X, y, _ = problem(n_targets=2)
    X, y = array(X), array(y)
    unknown = y[:, da.from_array(np.array([True, True]))]
    for targets in (y[:, :0], y[:, :, None], y[0, 0], unknown):
        with pytest.raises(ValueError, match="y must have shape"):
            SmoothL1Regressor().fit(X, targets)


@pytest.mark.parametrize("mode", ["default", "fixed", "concomitant"])
def test_data_of_half_a_million_elements_take_few_rounds(mode):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100_000, 5))
    y = X.sum(axis=1) + rng.standard_t(2, size=100_000)
    blocks = (20_000,) * 5
    model = SmoothL1Regressor(**MODES[mode]).fit(array(X, blocks), array(y, blocks))
    (stage,) = model.history_
    assert stage["n_rounds"] <= min(16, stage["n_eval"] + 6)
    expected = SmoothL1Regressor(**MODES[mode]).fit(X, y)
    assert_allclose(model.coef_, expected.coef_, rtol=1e-8)
    assert_allclose(model.beta_, expected.beta_, rtol=1e-8)
