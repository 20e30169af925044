"""Fits on a Dask cluster and to a memory-mapped array: python -m benchmarks.scaleout

The cluster consists of two workers on this machine, which have one thread each and hold the
data. The fits on the cluster run in turn with two kinds of fits to the same rows, which use two
threads: to arrays in memory, and to a memory-mapped array in the page cache. The benchmark also
counts the rounds over the blocks, kills a worker in the middle of a fit, and measures the peak
memory during a fit to the memory-mapped array in a separate process. LinearRegression from
dask-ml is omitted if dask-ml is not installed.

The benchmark requires Linux, 5 GB of memory and 1 GB of disk space. It writes scaleout.md to
benchmarks/results/. The exit status is nonzero unless all limits are met. With --quick, it uses
a tenth of the rows and writes nothing. It times neither fits to arrays larger than memory nor
reads of uncached data from disk.
"""

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import dask
import dask.array as da
import numpy as np
from distributed import Client, LocalCluster, wait

from skrobust import SmoothL1Regressor

from . import RESULTS, described, in_seconds, in_turn, machine, say, table, timed, write

N_ROWS, N_FEATURES, N_BLOCKS = 2_000_000, 50, 10
N_WORKERS = 2
# For the time per round: two numbers of blocks, and the number of rows per block. With so few
# rows, nearly all of this time is overhead.
SMALL_BLOCKS, SMALL_ROWS = (2, 64), 1_000
MODES = {
    "default": {},
    "fixed threshold": {"beta": 1.345},
    "concomitant": {"beta": 1.35, "scale": "concomitant"},
}
HEAVY = "heavy tails"
MEMORY, MAP, CLUSTER, DASK_ML = "memory", "map", "cluster", "dask-ml"
SCHEDULE = [4, 2, 1]

_PEAK = """
import json, sys, threading, time
import numpy as np
from skrobust import SmoothL1Regressor

def anonymous():
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith("RssAnon"))
    return 1024 * int(line.split()[1])

X, y = (np.load(name, mmap_mode="r") for name in ("X.npy", "y.npy"))
SmoothL1Regressor().fit(X[:20_000], y[:20_000])  # compiles the kernels
y = np.array(y)
if sys.argv[1] == "memory":
    X = np.array(X)
before, peak, done = anonymous(), 0, threading.Event()

def watch():
    global peak
    while not done.wait(0.001):
        peak = max(peak, anonymous())

watcher = threading.Thread(target=watch)
watcher.start()
SmoothL1Regressor().fit(X, y)
done.set()
watcher.join()
print(json.dumps([peak - before, peak]))
"""


class Bar(NamedTuple):
    """An upper limit on a quantity."""

    what: str
    most: float


OVER_MEMORY = Bar("cluster, time over memory", 1.5)
OVER_DASK_ML = Bar("cluster, time over dask-ml's least squares", 1 / 5)
MAP_OVER_MEMORY = Bar("map, time over memory", 1.5)
ROUNDS = Bar("rounds", 16)
BEYOND_PASSES = Bar("rounds beyond passes", 6)
BEYOND_PASSES_HEAVY = Bar("rounds beyond passes", 10)
MAP_MEMORY = Bar("map, peak memory over X", 0.2)


class KillWorker:
    """A callback that kills a worker after the first stage of a fit."""

    def __init__(self, client):
        self._process = next(iter(client.run(os.getpid).values()))

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        if self._process is not None:
            os.kill(self._process, signal.SIGKILL)
            self._process = None

    def teardown(self, estimator, context):
        pass


def write_rows(folder, n):
    """Write X and y to files, slice by slice; a twentieth of the values of y are outliers."""
    rng = np.random.default_rng(0)
    options = {"mode": "w+", "dtype": np.float64}
    X = np.lib.format.open_memmap(folder / "X.npy", shape=(n, N_FEATURES), **options)
    y = np.lib.format.open_memmap(folder / "y.npy", shape=(n,), **options)
    for rows in slices(n):
        X[rows] = rng.normal(size=X[rows].shape)
        y[rows] = X[rows].sum(axis=1) + rng.normal(size=y[rows].size)
        y[rows][::20] += 100
    X.flush()
    y.flush()


def slices(n, n_blocks=N_BLOCKS):
    ends = np.linspace(0, n, n_blocks + 1).astype(int).tolist()
    return [slice(start, end) for start, end in pairwise(ends)]


def read_rows(path, rows):
    return np.array(np.load(path, mmap_mode="r")[rows])


def file_blocks(path, n):
    """Return a Dask Array whose blocks the workers read from a file."""
    width = np.load(path, mmap_mode="r").shape[1:]
    read = dask.delayed(read_rows, pure=True)
    blocks = [
        da.from_delayed(read(str(path), rows), (rows.stop - rows.start, *width), np.float64)
        for rows in slices(n)
    ]
    return da.concatenate(blocks)


def persisted(*arrays):
    arrays = dask.persist(*arrays)
    wait(arrays)
    return arrays


def dask_ml_fit():
    """Return a function that fits least squares with dask-ml, or None without dask-ml."""
    try:
        from dask_ml.linear_model import LinearRegression
    except ImportError:
        return None
    return lambda X, y: LinearRegression(solver="lbfgs").fit(X, y)


def fit(X, y, **options):
    return SmoothL1Regressor(**options).fit(X, y)


def rounds_of(model):
    return sum(stage["n_rounds"] for stage in model.history_)


def passes_of(model):
    return sum(stage["n_eval"] for stage in model.history_)


def times_in_turn(folder, X, y, seconds):
    """Return a dict of median fit times for rows in memory, in a file and on the workers."""
    mapped = np.load(folder / "X.npy", mmap_mode="r")
    array, target = np.array(mapped), np.load(folder / "y.npy")
    least_squares = dask_ml_fit()
    tasks = {
        MEMORY: lambda: fit(array, target),
        MAP: lambda: fit(mapped, target),
        CLUSTER: lambda: fit(X, y),
    }
    for task in tasks.values():
        task()  # compiles the kernels in each process
    if least_squares:
        tasks[DASK_ML] = lambda: least_squares(X, y)
    found = in_turn(tasks, seconds, long=60)
    return {name: float(np.median(times)) for name, times in found.items()}


def random_blocks(n, p, n_blocks, heavy=False):
    """Return random X and y as Dask Arrays with `n_blocks` blocks."""
    rng = da.random.default_rng(0)
    chunk = -(-n // n_blocks)
    size, chunks = (n, p), (chunk, p)
    X = (
        rng.standard_t(1.5, size, chunks=chunks)
        if heavy
        else rng.normal(size=size, chunks=chunks)
    )
    return X, X.sum(axis=1) + rng.standard_t(2, n, chunks=chunk)


def round_times():
    """Return a dict of the time per round, in seconds, for each number of small blocks."""
    found = {}
    for n_blocks in SMALL_BLOCKS:
        X, y = persisted(*random_blocks(n_blocks * SMALL_ROWS, 5, n_blocks))
        rounds = rounds_of(fit(X, y))
        times = in_turn({"fit": lambda X=X, y=y: fit(X, y)}, seconds=5, long=60)["fit"]
        found[n_blocks] = float(np.median(times)) / rounds
    return found


def counted_rounds(n):
    """Return a dict of fitted models, whose numbers of rounds are reported."""
    X, y = persisted(*random_blocks(n, 20, 8))
    models = {name: fit(X, y, **options) for name, options in MODES.items()}
    X, y = persisted(*random_blocks(n, 20, 8, heavy=True))
    models[HEAVY] = fit(X, y)
    return models


def killed_worker(client, X, y):
    """Return the fit times without and with a lost worker, and whether both fits agree."""
    model = SmoothL1Regressor(beta_schedule=SCHEDULE)
    _, without = timed(model.fit, X, y)
    coef = model.coef_
    model.set_callbacks(KillWorker(client))
    _, with_loss = timed(model.fit, X, y)
    return without, with_loss, bool(np.array_equal(coef, model.coef_))


def peak_memory(folder):
    """Return the increase and the peak of the anonymous memory, for X mapped and in memory."""
    found = {}
    for kind in (MAP, MEMORY):
        command = [sys.executable, "-c", _PEAK, kind]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=True
        )
        found[kind] = json.loads(done.stdout)
    return found


@contextmanager
def cluster():
    """Start a cluster and yield its client; the cluster is closed when the context exits."""
    options = {"dashboard_address": None, "silence_logs": logging.CRITICAL}
    with (
        LocalCluster(N_WORKERS, threads_per_worker=1, memory_limit=None, **options) as workers,
        Client(workers) as client,
    ):
        yield client


def measure(folder, n, n_counted, seconds):
    """Return limits with measured values, sentences about them, and whether two fits agree.

    The two fits are those without and with a lost worker.
    """
    shape = f"{n:,} × {N_FEATURES}"
    say(f"{shape} ... ")
    write_rows(folder, n)
    memory = peak_memory(folder)
    with cluster() as client:
        X, y = persisted(file_blocks(folder / "X.npy", n), file_blocks(folder / "y.npy", n))
        times = times_in_turn(folder, X, y, seconds)
        print(", ".join(f"{name} {in_seconds(t)}" for name, t in times.items()))
        say("a killed worker ... ")
        without, with_loss, same = killed_worker(client, X, y)
        print(f"{in_seconds(without)} without, {in_seconds(with_loss)} with")
        del X, y
        say("rounds ... ")
        models = counted_rounds(n_counted)
        of_round = round_times()
        print(", ".join(f"{name} {rounds_of(model)}" for name, model in models.items()))
    measured = [(OVER_MEMORY, times[CLUSTER] / times[MEMORY])]
    if DASK_ML in times:
        measured.append((OVER_DASK_ML, times[CLUSTER] / times[DASK_ML]))
    measured.append((MAP_OVER_MEMORY, times[MAP] / times[MEMORY]))
    for name, model in models.items():
        rounds, passes = rounds_of(model), passes_of(model)
        bar = BEYOND_PASSES_HEAVY if name == HEAVY else BEYOND_PASSES
        if name != HEAVY:
            measured.append((ROUNDS._replace(what=f"{ROUNDS.what}, {name}"), rounds))
        measured.append((bar._replace(what=f"{bar.what}, {name}"), rounds - passes))
    size = 8 * n * N_FEATURES
    measured.append((MAP_MEMORY, memory[MAP][0] / size))
    medians = "; ".join(f"{name} {in_seconds(t)}" for name, t in times.items())
    rounds = "; ".join(f"{k} blocks {in_seconds(s)}" for k, s in of_round.items())
    sentences = [
        f"Fits with default parameters to {shape}: {medians}. The fits in memory and from the "
        f"map, a memory-mapped array, use two threads. The cluster has {N_WORKERS} workers "
        f"with one thread each, which hold {N_BLOCKS} blocks.",
        f"The peak anonymous memory is {memory[MAP][1] / 2**20:.0f} MiB during a fit to the "
        f"memory-mapped array and {memory[MEMORY][1] / 2**20:.0f} MiB during a fit to arrays "
        f"in memory; the size of X is {size / 2**20:.0f} MiB.",
        f"A fit with the schedule {SCHEDULE} takes {in_seconds(without)}, and "
        f"{in_seconds(with_loss)} if one of the two workers is killed after the first stage. "
        f"The coefficients are {'identical' if same else 'DIFFERENT'}.",
        f"Time per round over blocks of {SMALL_ROWS:,} rows: {rounds}.",
        f"The numbers of rounds in the table are for fits to {n_counted:,} × 20 in 8 blocks.",
    ]
    return measured, sentences, same


def row(bar, value):
    holds = "yes" if value <= bar.most else "**no**"
    return [bar.what, *(f"{number:.3g}" for number in (value, bar.most)), holds]


def versions():
    names = ["dask", "distributed", *(["dask-ml"] if dask_ml_fit() else [])]
    found = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    return found if dask_ml_fit() else f"{found}, no dask-ml"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    quick = parser.parse_args().quick
    facts = machine()
    os.environ["OMP_NUM_THREADS"] = str(N_WORKERS)
    with tempfile.TemporaryDirectory() as folder:
        size = (N_ROWS // 10, 200_000, 5) if quick else (N_ROWS, 500_000, 60)
        measured, sentences, same = measure(Path(folder), *size)
    text = "\n\n".join(
        [
            "# Larger than memory, and on a cluster",
            f"`python -m benchmarks.scaleout`: {described(facts)[:-1]}, {versions()}.",
            f"The times are medians; the fits run in turn. {' '.join(sentences)}",
            table(["", "measured", "at most", "holds"], [row(*found) for found in measured]),
        ]
    )
    print(text)
    if not quick:
        write(RESULTS, "scaleout.md", text)
    sys.exit(not (same and all(value <= bar.most for bar, value in measured)))


if __name__ == "__main__":
    main()
