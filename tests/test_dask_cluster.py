"""Fits on a Dask cluster: reproducibility, keys left on the scheduler, and lost workers.

The tests share a cluster of two worker processes. Each test has a time limit, since a bug might
make a fit wait forever.
"""

import _thread
import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import sparse

import programs
from problems import Recorder, needs_callbacks
from skrobust import SmoothL1Regressor

distributed = pytest.importorskip("distributed")

import dask  # noqa: E402
import dask.array as da  # noqa: E402
import dask.dataframe as dd  # noqa: E402
import pandas as pd  # noqa: E402

import skrobust._engines.cluster  # noqa: E402
from skrobust._engines.dask_blocks import DaskBlocks  # noqa: E402

pytestmark = [
    # Dask warns about scratch directories on slow machines, and about the size of the task
    # graph if it contains the data.
    pytest.mark.filterwarnings("ignore:Creating scratch directories:UserWarning"),
    pytest.mark.filterwarnings("ignore:Sending large graph:UserWarning"),
    # Older versions of Dask warn if a single-machine scheduler is used while a client exists.
    pytest.mark.filterwarnings("ignore:Running on a single-machine scheduler:UserWarning"),
]

SECONDS = 120
N, P = 600, 3
CHUNKS = (200, 1, 150, 249)
STAGES = {"beta_schedule": [9, 3, 1]}


# Clusters and limits ---------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _time_limit():
    """Make a test fail after a time limit, even if it is waiting for a lock."""

    def end(*args):
        pytest.fail(f"the test took longer than {SECONDS} seconds")

    earlier = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, earlier)


@pytest.fixture(autouse=True)
def _default_scheduler():
    """Restore the default scheduler, since a client closed during a fit does not restore it."""
    with dask.config.set(scheduler=None):
        yield


@pytest.fixture(scope="module")
def cluster():
    options = {"dashboard_address": ":0", "worker_dashboard_address": None}
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, **options) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    """Yield a client of the two-worker cluster; assert that no keys are left after the test."""
    with distributed.Client(cluster) as client:
        client.wait_for_workers(2)
        yield client
        assert_no_key_left(cluster)


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def assert_no_key_left(cluster):
    """Assert that no keys are left on the scheduler after at most ten seconds."""
    with contextlib.suppress(AssertionError):
        wait_until(lambda: not cluster.scheduler.tasks, 10)
    assert list(cluster.scheduler.tasks) == []


def kill_workers(client, n):
    """Kill n worker processes and wait until the scheduler notices the loss."""
    pids = client.run(os.getpid)
    killed = list(pids)[:n]
    for address in killed:
        os.kill(pids[address], signal.SIGKILL)
    wait_until(lambda: not set(killed) & set(client.nthreads()))


class AfterStage(Recorder):
    """A callback that calls `functions[k]`, if it exists, after stage k."""

    def __init__(self, functions):
        super().__init__()
        self.functions = functions

    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
        self.ended.append(context)
        function = self.functions.get(len(self.ended))
        if function is not None:
            function()
        return False


# Data ------------------------------------------------------------------------------------


def numbers(n=N, p=P, n_targets=None):
    rng = np.random.default_rng(5)
    X = rng.normal(size=(n, p))
    y = X @ rng.normal(size=(p, n_targets or 1)) + rng.standard_t(2, size=(n, n_targets or 1))
    y[: n // 10] += 30
    return X, y if n_targets else y[:, 0]


def arrays(*values, chunks=CHUNKS):
    return [da.from_array(v, chunks=(chunks, *((m,) for m in v.shape[1:]))) for v in values]


def fit(X, y, weight=None, **params):
    return SmoothL1Regressor(**params).fit(X, y, weight)


def assert_same_bits(found, expected):
    for name in ("coef_", "intercept_", "beta_", "scale_", "objective_", "optimality_"):
        assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    assert len(found.history_) == len(expected.history_)


@pytest.fixture(scope="module")
def three_stages():
    """Return a three-stage fit, the reference for several tests."""
    with dask.config.set(scheduler="synchronous"):
        return fit(*arrays(*numbers()), **STAGES)


@pytest.fixture
def loads(tmp_path):
    """Return the path of a file to which a worker appends a byte whenever it loads a block."""
    path = tmp_path / "loads"
    path.touch()
    return path


def counted(array, loads, max_loads=np.inf):
    """Return an array that counts the loads of its blocks; loads beyond `max_loads` fail."""

    # The function is local and therefore pickled by value, since the workers cannot import this
    # module.
    def load(rows):
        with loads.open("ab", buffering=0) as file:
            file.write(b"x")
        if loads.stat().st_size > max_loads:
            raise ValueError("in a later pass")
        return rows

    return array.map_blocks(load, meta=array._meta)


def n_loads(loads):
    return loads.stat().st_size


@pytest.fixture
def little_memory(monkeypatch):
    """Set the workers' memory limits so low that no data are kept in memory."""
    limits = lambda client: [64, 64]  # noqa: E731
    monkeypatch.setattr(skrobust._engines.cluster, "memory_limits", limits)


# The same results ------------------------------------------------------------------------

MODES = {
    "default": {},
    "concomitant": {"scale": "concomitant"},
    "stages": {"beta": 1.0, "alpha": 0.1, **STAGES},
}


@pytest.mark.parametrize("mode", MODES)
def test_bits_do_not_depend_on_the_workers(client, mode):
    X, y = numbers(n_targets=2)
    weight = np.random.default_rng(0).integers(0, 3, N).astype(float)
    data = arrays(X, y if mode == "default" else y[:, 0], weight)
    found = fit(*data, **MODES[mode])
    with dask.config.set(scheduler="threads"):
        in_threads = fit(*data, **MODES[mode])
    with dask.config.set(scheduler="synchronous"):
        expected = fit(*data, **MODES[mode])
    assert_same_bits(found, expected)
    assert_same_bits(in_threads, expected)
    assert_array_equal(found.outliers_.compute(), expected.outliers_.compute())


# Most forms of X are slow to test, because workers compile the loss for each layout and dtype.
@pytest.mark.parametrize(
    "form",
    [
        "sparse",
        *(
            pytest.param(form, marks=pytest.mark.slow)
            for form in ("float32", "Fortran", "columns of a wider array")
        ),
    ],
)
def test_bits_of_tall_data_do_not_depend_on_the_workers(client, form):
    X, y = numbers(20_000, 5)
    X, y = arrays(X, y, chunks=(9_000, 1, 4_999, 6_000))
    change = {
        "float32": lambda rows: rows.astype(np.float32),
        "Fortran": np.asfortranarray,
        "columns of a wider array": lambda rows: np.hstack([rows, rows])[:, :5],
        "sparse": lambda rows: sparse.csr_array(rows * (rows > 0)),
    }[form]
    X = X.map_blocks(change, meta=change(np.ones((1, 5))))
    found = fit(X, y, beta=1.0)
    with dask.config.set(scheduler="synchronous"):
        assert_same_bits(found, fit(X, y, beta=1.0))


def cluster_in_this_process(n_threads):
    options = {"processes": False, "dashboard_address": ":0", "worker_dashboard_address": None}
    return distributed.LocalCluster(n_workers=1, threads_per_worker=n_threads, **options)


def test_bits_do_not_depend_on_the_number_of_workers_and_threads(three_stages):
    with cluster_in_this_process(3) as cluster, distributed.Client(cluster):
        assert_same_bits(fit(*arrays(*numbers()), **STAGES), three_stages)
        assert_no_key_left(cluster)


def test_persisted_data_unknown_chunks_and_frames(client, three_stages):
    X, y = numbers()
    persisted = client.persist(arrays(X, y))
    assert_same_bits(fit(*persisted, **STAGES), three_stages)
    unknown = [a[np.ones(N, bool)] for a in persisted]
    for a, known in zip(unknown, persisted, strict=True):
        a._chunks = ((np.nan,) * len(CHUNKS), *known.chunks[1:])
    assert_same_bits(fit(*unknown, **STAGES), three_stages)
    frame = pd.DataFrame(X, columns=list("abc")).assign(y=y)
    ends = np.cumsum(CHUNKS)
    parts = [frame.iloc[end - n : end] for n, end in zip(CHUNKS, ends, strict=True)]
    frame = dd.from_map(lambda k: parts[k], range(len(parts)), meta=frame.iloc[:0])
    frames = frame[list("abc")], frame["y"]
    found = fit(*frames, **STAGES)
    with dask.config.set(scheduler="synchronous"):
        assert_same_bits(found, fit(*frames, **STAGES))


def test_two_fits_at_once_are_independent(client):
    X, y = arrays(*numbers())
    betas, found = (0.5, 2.0), {}

    def fit_one(beta):
        found[beta] = fit(X, y, beta=beta)

    threads = [threading.Thread(target=fit_one, args=(beta,)) for beta in betas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with dask.config.set(scheduler="synchronous"):
        for beta in betas:
            assert_same_bits(found[beta], fit(X, y, beta=beta))


# Workers that compute, and blocks that are loaded ----------------------------------------


def test_scheduler_of_the_configuration_wins_over_a_client(client, cluster, three_stages):
    X, y = arrays(*numbers())
    before = cluster.scheduler.transition_counter
    with dask.config.set(scheduler="threads"):
        assert_same_bits(fit(X, y, **STAGES), three_stages)
    assert cluster.scheduler.transition_counter == before


def test_current_client_computes(client, cluster):
    X, y = arrays(*numbers())
    with (
        cluster_in_this_process(1) as other,
        distributed.Client(other, set_as_default=False) as current,
    ):
        before = cluster.scheduler.transition_counter
        with current.as_current():
            fit(X, y, beta=1.0)
        assert cluster.scheduler.transition_counter == before
        assert other.scheduler.transition_counter > 0


def test_data_that_X_and_y_share_are_loaded_once(client, loads):
    X, y = numbers()
    (base,) = arrays(np.column_stack([X, y, np.ones(N)]))
    base = counted(base, loads)
    fit(base[:, :P], base[:, P], base[:, P + 1])
    assert n_loads(loads) == len(CHUNKS)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("unknown", [False, True])
def test_data_larger_than_half_of_the_memory_are_read_in_each_pass(client, loads, unknown):
    n, p, n_blocks = 100_000, 20, 4
    rng = da.random.default_rng(0)
    X = counted(rng.normal(size=(n, p), chunks=(n // n_blocks, p)), loads)
    y = rng.standard_t(2, size=n, chunks=n // n_blocks)
    if unknown:
        X._chunks = ((np.nan,) * n_blocks, (p,))
    found = fit(X, y)
    n_eval = sum(stage["n_eval"] for stage in found.history_)
    assert n_eval < n_loads(loads) / n_blocks <= n_eval + 4
    with dask.config.set(scheduler="synchronous"):
        assert_same_bits(found, fit(X, y))


@pytest.mark.parametrize("n", [2_000, 200_000])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"beta": 1.0},
        {"beta": 1e-4},
        {"scale": "concomitant"},
        {"beta": 0.5, "scale": "mad"},
    ],
    ids=str,
)
def test_transfer_of_a_round_does_not_grow_with_the_rows(monkeypatch, n, params):
    p, rng = 10, np.random.default_rng(0)
    X = rng.standard_t(4, size=(n, p))
    y = X @ rng.normal(size=p) + rng.standard_t(2, size=n)
    execute, transfers = DaskBlocks.execute, []

    def measured(blocks, task, stored, expressions, arguments, **options):
        results, kept = execute(blocks, task, stored, expressions, arguments, **options)
        n_blocks = len(blocks.sizes)
        sent = n_blocks * len(pickle.dumps((expressions, arguments)))
        received = sum(len(pickle.dumps(result)) for result in results)
        transfers.append((task.__name__, n_blocks, max(sent, received)))
        return results, kept

    monkeypatch.setattr(DaskBlocks, "execute", measured)
    with dask.config.set(scheduler="synchronous"):
        fit(*arrays(X, y, rng.uniform(1, 2, size=n), chunks=(n // 4,) * 4), **params)
    assert transfers
    # At most two rounds gather a sample of rows, for which the limit below is larger.
    samples = [size for task, _, size in transfers if task == "_take"]
    assert len(samples) <= 2
    for task, n_blocks, size in transfers:
        limit = n_blocks * (8 * (p + 2) ** 2 + 32 * 1024) + 256 * 1024
        sample = 250 * p * 8 * (p + 4) if task == "_take" else 0
        assert size <= limit + sample, task


# What a fit leaves behind if it fails ----------------------------------------------------


def assert_fails_clean(cluster, error, est, *data):
    """Assert that a fit fails, does not change the fitted model, and leaves no keys.

    The scheduler must have no keys even while the exception is still referenced.
    """
    before = dict(vars(est))
    with pytest.raises(error) as caught:
        est.fit(*data)
    assert type(caught.value) is error
    assert_no_key_left(cluster)
    now = vars(est)
    assert now.keys() == before.keys()
    assert all(now[name] is before[name] for name in before)
    return caught.value


@pytest.fixture
def fitted():
    """Return a fitted model, which the tests refit to other data."""
    X, y = numbers(40, 2)
    return SmoothL1Regressor(beta=1.0).fit(X, y)


@pytest.mark.parametrize("name", ["X", "y", "weight"])
def test_invalid_data_leave_the_old_model_unchanged_and_no_key(client, cluster, fitted, name):
    X, y = numbers()
    data = {"X": X, "y": y, "weight": np.ones(N)}
    data[name][300] = np.nan
    error = assert_fails_clean(cluster, ValueError, fitted, *arrays(*data.values()))
    assert f"Input {'sample_weight' if name == 'weight' else name} contains NaN" in str(error)
    assert "block 2 (rows 201 to 350)" in str(error)


def test_exception_of_a_block_is_raised_at_once_and_unchanged(
    client, cluster, fitted, tmp_path
):
    X, y = arrays(*numbers())
    finish = tmp_path / "finish"

    def load(rows, block_info=None):
        import time

        # All blocks except the first fail, since the scheduler may have assigned any of them to
        # the worker that is busy with the first block.
        if block_info[0]["chunk-location"][0] > 0:
            raise OSError(17, "of the user", "file")
        end = time.monotonic() + 60
        while time.monotonic() < end and not finish.exists():
            time.sleep(0.1)
        return rows

    X = X.map_blocks(load, meta=X._meta)
    start = time.monotonic()
    try:
        error = assert_fails_clean(cluster, FileExistsError, fitted, X, y)
        assert error.args == (17, "of the user")
        assert error.filename == "file"
        assert time.monotonic() - start < 40
    finally:
        finish.touch()


@pytest.mark.usefixtures("little_memory")
def test_exception_of_a_block_in_a_later_pass_is_raised_unchanged(
    client, cluster, fitted, loads
):
    X, y = arrays(*numbers())
    X = counted(X, loads, max_loads=5 * len(CHUNKS))
    error = assert_fails_clean(cluster, ValueError, fitted, X, y)
    assert error.args == ("in a later pass",)


@needs_callbacks
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("in a callback")])
def test_exception_of_a_callback_leaves_no_key(client, cluster, fitted, error):
    recorder = Recorder(error=error)
    recorder.on_fit_task_end = partial(raise_after_stage, error)
    fitted.set_params(**STAGES).set_callbacks(recorder)
    raised = assert_fails_clean(cluster, type(error), fitted, *arrays(*numbers()))
    assert raised is error


def raise_after_stage(error, estimator, context, **data):
    if context.parent is not None:
        raise error


def test_interruption_of_a_round_leaves_no_key(client, cluster, fitted, loads):
    X, y = arrays(*numbers())

    def slow(rows):
        import time

        time.sleep(4)
        return rows

    def interrupt():
        wait_until(lambda: n_loads(loads))
        _thread.interrupt_main()

    X = counted(X, loads).map_blocks(slow, meta=X._meta)
    thread = threading.Thread(target=interrupt)
    thread.start()
    assert_fails_clean(cluster, KeyboardInterrupt, fitted, X, y)
    thread.join()


# Lost workers ----------------------------------------------------------------------------


def assert_recovers(functions, three_stages):
    """Assert that calling `functions[k]` after stage k does not change any bit of a fit."""
    callback = AfterStage(functions)
    est = SmoothL1Regressor(**STAGES).set_callbacks(callback).fit(*arrays(*numbers()))
    assert_same_bits(est, three_stages)
    assert len(callback.begun) == len(callback.ended) == 1 + len(STAGES["beta_schedule"])
    return est


@needs_callbacks
@pytest.mark.parametrize("times", [(1,), (1, 2)])
def test_fit_goes_on_after_workers_are_killed(client, three_stages, times):
    assert_recovers({k: partial(kill_workers, client, 1) for k in times}, three_stages)


@needs_callbacks
@pytest.mark.parametrize("memory", ["", "little_memory"])
def test_blocks_and_vectors_are_made_again_after_a_loss(
    client, cluster, three_stages, memory, request
):
    if memory:
        request.getfixturevalue(memory)
    lose_all = partial(lose_all_results, cluster, client)
    est = assert_recovers({1: lose_all, 2: lose_all}, three_stages)
    n_rounds = [stage["n_rounds"] for stage in est.history_]
    assert n_rounds[1] > three_stages.history_[1]["n_rounds"]


def lose_all_results(cluster, client):
    """Make the scheduler cancel all results, as if it could not recompute lost data."""

    def forget(dask_scheduler):
        keys = list(dask_scheduler.tasks)
        for name in list(dask_scheduler.clients):
            dask_scheduler.client_releases_keys(keys, name, stimulus_id="test")
        dask_scheduler.report({"op": "cancelled-keys", "keys": keys, "reason": "", "msg": ""})

    client.run_on_scheduler(forget)
    wait_until(lambda: not cluster.scheduler.tasks)


@needs_callbacks
def test_too_many_losses_end_the_fit(client, cluster, fitted):
    fitted.set_params(**STAGES)
    fitted.set_callbacks(AfterStage({1: partial(lose_all_results, cluster, client)}))
    with dask.config.set({"skrobust.max-recoveries": 0}):
        error = assert_fails_clean(cluster, RuntimeError, fitted, *arrays(*numbers()))
    assert "number of interruptions (1)" in str(error)
    assert "Workers lost during the fit: 0 of 2" in str(error)
    assert "workers left: 2" in str(error)


@needs_callbacks
def test_loss_of_data_that_were_only_scattered_ends_the_fit(client, cluster, fitted):
    X, y = numbers()
    futures = client.scatter([X[:300], X[300:]])
    blocks = [da.from_delayed(dask.delayed(f), (300, P), meta=X[:0]) for f in futures]
    data = [da.concatenate(blocks), *arrays(y, chunks=(300, 300))]
    del blocks
    fitted.set_params(**STAGES)
    fitted.set_callbacks(AfterStage({1: partial(kill_workers, client, 2)}))
    with pytest.raises(RuntimeError, match=r"(?s)lost during the fit: 2 of \d.*only scattered"):
        fitted.fit(*data)


@pytest.fixture
def by_hand(tmp_path):
    """Yield a client, the scheduler process, and a function that starts a worker process."""
    processes = []

    def start(kind, *args):
        command = [
            sys.executable,
            "-m",
            f"distributed.cli.dask_{kind}",
            *args,
            "--no-dashboard",
        ]
        paths = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": paths}
        with (tmp_path / f"{kind}{len(processes)}").open("w") as log:
            options = {"stdout": log, "stderr": log, "env": environment}
            processes.append(subprocess.Popen(command, **options))
        return processes[-1]

    file = str(tmp_path / "scheduler.json")
    scheduler = start("scheduler", "--port", "0", "--scheduler-file", file)
    worker = partial(start, "worker", "--scheduler-file", file, "--no-nanny", "--nthreads", "1")
    try:
        wait_until(Path(file).exists, SECONDS)
        with distributed.Client(scheduler_file=file) as client:
            yield client, scheduler, worker
    finally:
        for process in processes:
            process.kill()
            process.wait()


def kill(process):
    process.kill()
    process.wait()


@needs_callbacks
def test_workers_that_are_lost_for_good_and_a_scheduler_that_is_lost(
    by_hand, three_stages, fitted
):
    client, scheduler, worker = by_hand
    X, y = arrays(*numbers())
    # At first, the cluster has no worker.
    nothing = pytest.raises(RuntimeError, match=r"no worker for 0.5 seconds.*workers left: 0")
    with dask.config.set({"skrobust.round-timeout": 0.5}), nothing:
        fitted.fit(X, y)
    # Two workers join during the fit, and one of them is lost and not replaced.
    workers = [worker(), worker()]
    wait_for_two = partial(client.wait_for_workers, 2)
    kill_one = lambda: [wait_for_two(), kill(workers[0])]  # noqa: E731
    assert_recovers({1: kill_one}, three_stages)
    # The other worker is lost in the next fit.
    fitted.set_params(**STAGES).set_callbacks(AfterStage({1: partial(kill, workers[1])}))
    start = time.monotonic()
    lost = pytest.raises(RuntimeError, match=r"lost during the fit: 1 of 1; workers left: 0")
    with dask.config.set({"skrobust.round-timeout": 2}), lost:
        fitted.fit(X, y)
    assert time.monotonic() - start < 30
    # The scheduler is lost while a fit waits for workers.
    threading.Timer(1.0, scheduler.kill).start()
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="connection to the Dask scheduler was lost"):
        fitted.fit(X, y)
    assert time.monotonic() - start < 30


@needs_callbacks
def test_client_that_is_closed_between_two_rounds_ends_the_fit(fitted):
    with cluster_in_this_process(1) as cluster, distributed.Client(cluster) as client:
        fitted.set_params(**STAGES).set_callbacks(AfterStage({1: client.close}))
        assert_fails_clean(cluster, RuntimeError, fitted, *arrays(*numbers()))


MEMORY = f"""
{programs.PREAMBLE}
import re, threading, time
from pathlib import Path
import dask.array as da, distributed
from skrobust import SmoothL1Regressor

def anonymous():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\\s+(\\d+)", status)[1]) / 1024

if __name__ == "__main__":
    options = dict(n_workers=2, threads_per_worker=1, dashboard_address=":0")
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster):
        def data(n):
            rng = da.random.default_rng(0)
            X = rng.normal(size=(n, 2), chunks=(n // 8, 2))
            return X, X.sum(axis=1) + rng.standard_t(3, size=n, chunks=n // 8)
        SmoothL1Regressor().fit(*data(80_000))
        before, peak, done = anonymous(), [0.0], threading.Event()
        def watch():
            while not done.wait(0.01):
                peak[0] = max(peak[0], anonymous())
        thread = threading.Thread(target=watch)
        thread.start()
        SmoothL1Regressor().fit(*data(6_000_000))
        done.set()
        thread.join()
        print(peak[0] - before)
"""


@pytest.mark.slow
def test_memory_of_the_client_does_not_grow_with_the_rows(tmp_path):
    # The workers import the program, which is therefore a file with a main guard.
    path = tmp_path / "program.py"
    path.write_text(MEMORY)
    paths = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(path)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={**os.environ, "PYTHONPATH": paths},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    half_a_vector = 6_000_000 * 8 / 2 / 2**20
    assert float(done.stdout) < half_a_vector
