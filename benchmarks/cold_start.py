"""Time of the first import and the first fit in a process: python -m benchmarks.cold_start

The benchmark also measures how long a fit takes to end after an interrupt. The test suite does
not measure these times, but checks which modules are imported, which functions are compiled,
and that no pass over the data follows an interrupt.

All times are medians of five runs in fresh processes without a cache of compiled functions. The
benchmark takes three minutes and writes cold_start.md to benchmarks/results/. With `--runs 1`,
it takes one minute and writes nothing.
"""

import argparse
import json
import subprocess
import sys

import numpy as np

from . import RESULTS, Progress, described, machine, table, write

# Parts of the scripts that run in fresh processes. A script assigns its results to `found`,
# which _PRINT prints.
_PREPARE = """
import json, sys, time
import numpy as np
from scipy import sparse

def clock(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start

rng = np.random.default_rng(0)
n, p = {shape}
X = rng.normal(size=(n, p))
X[rng.random(X.shape) < {zeros}] = 0.0
y = X @ np.arange(1.0, p + 1) + rng.normal(size=n)
read_only = X.copy()
read_only.flags.writeable = False
CSR64 = sparse.csr_array(X)
CSR64.indices, CSR64.indptr = CSR64.indices.astype(np.int64), CSR64.indptr.astype(np.int64)
inputs = {{
    "C": X, "F": np.asfortranarray(X), "strided": np.repeat(X, 2, axis=1)[:, ::2],
    "float32": X.astype(np.float32), "CSR": sparse.csr_array(X), "CSR, int64": CSR64,
    "read-only": read_only, "rows of C": np.repeat(X, 2, axis=0)[::2],
    "rows of F": np.asfortranarray(np.vstack([X, X]))[:n],
}}
"""
_IMPORT = """
import json, time
start = time.perf_counter()
import sklearn.linear_model
middle = time.perf_counter()
import skrobust
found = dict(linear_model=middle - start, skrobust=time.perf_counter() - middle)
"""
_FIRST = """
from sklearn.linear_model import HuberRegressor
from skrobust import MMRegressor, SmoothL1Regressor
X = inputs[{kind!r}]
found = dict(first=clock(lambda: {estimator}.fit(X, y)),
             again=clock(lambda: {estimator}.fit(X, y)),
             numba="numba" in sys.modules)
"""
# Compilations are counted with Numba's event recorder.
_SECOND = """
from numba.core import event
from skrobust import SmoothL1Regressor
SmoothL1Regressor().fit(X, y)
Z = inputs[{kind!r}]
with event.install_recorder("numba:compile") as recorder:
    first = clock(lambda: SmoothL1Regressor().fit(Z, y))
compiled = sum(e.is_start for _, e in recorder.buffer)
again = min(clock(lambda: SmoothL1Regressor().fit(Z, y)) for _ in range(3))
found = dict(extra=first - again, compiled=compiled)
"""
# A fit with 500 stages, which never reaches its tolerance of 0, is interrupted after delays of
# different lengths.
_INTERRUPT = """
import os, signal, threading
from skrobust import SmoothL1Regressor

est = SmoothL1Regressor().fit(X, y)
est.set_params(beta=1.0, tol=0.0, beta_schedule=np.geomspace(1e4, 1, 500))
sent, times = [], []

def interrupt():
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)

for delay in [0.02, 0.1, 0.25, 0.4]:
    timer = threading.Timer(delay, interrupt)
    timer.start()
    try:
        est.fit(X, y)
    except KeyboardInterrupt:
        times.append(time.perf_counter() - sent[-1])
    timer.join()
found = dict(longest=max(times))
"""
_PRINT = "print(json.dumps(found))"
SHAPES = {"200 × 5": (200, 5), "100,000 × 20": (100_000, 20)}
KINDS = ["C", "F", "strided", "float32", "CSR", "CSR, int64"]
DEFAULT = "SmoothL1Regressor()"
WITH_C = ["SmoothL1Regressor(1.345)", "HuberRegressor()"]
# Sparse data with about 60 nonzeros per row, and two estimators with the same penalty.
SPARSE_WIDE = "2,000 × 4,000", (2_000, 4_000)
WITH_SPARSE_WIDE = [
    'SmoothL1Regressor(loss="huber", alpha=1 / 2000)',
    "HuberRegressor(alpha=1.0)",
]
# Target and stretch target, in seconds, for the first fit of a model with default parameters to
# a C-contiguous array.
TARGETS = {"200 × 5": (0.2, 0.05), "100,000 × 20": (2.0, 1.0)}
INTERRUPTED_SHAPE = (60_000, 40)
SECOND_KINDS = [*KINDS[1:], "read-only", "rows of C", "rows of F"]


def in_fresh_processes(script, n_runs):
    """Run a script in `n_runs` processes; return the median of each value that it measures."""
    found = []
    for _ in range(n_runs):
        command = [sys.executable, "-c", script + _PRINT]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found.append(json.loads(output))
    return {name: float(np.median([f[name] for f in found])) for name in found[0]}


def prepared(shape, kind="C"):
    zeros = max(0.9, 1 - 60 / shape[1]) if kind.startswith("CSR") else 0.0
    return _PREPARE.format(shape=shape, zeros=zeros)


def first_fit(shape, kind, estimator=DEFAULT, n_runs=5):
    script = prepared(shape, kind) + _FIRST.format(kind=kind, estimator=estimator)
    return in_fresh_processes(script, n_runs)


def first_fits(n_runs=5):
    """Return the time of the first fit for each shape, in seconds, including compilation."""
    return {
        name: first_fit(shape, "C", n_runs=n_runs)["first"] for name, shape in SHAPES.items()
    }


def first_fit_cases():
    """Yield the data name, the shape, the kind of input and the estimator of each table row."""
    for name, shape in SHAPES.items():
        yield from ((name, shape, kind, DEFAULT) for kind in KINDS)
        yield from ((name, shape, "C", estimator) for estimator in WITH_C)
    yield from ((*SPARSE_WIDE, "CSR", estimator) for estimator in WITH_SPARSE_WIDE)


def targets_table(seconds):
    """Return a table of first-fit times and their targets."""
    rows = []
    for name, (target, stretch) in TARGETS.items():
        met = "met" if seconds[name] <= target else "MISSED"
        rows.append([name, f"{seconds[name]:.3f} s", f"{target} s", f"{stretch} s", met])
    return table(["first fit", "measured", "target", "stretch target", "result"], rows)


def second_kind(shape, kind, n_runs):
    """Return the extra time and the number of compilations of the first fit to another input.

    The process has already fitted a model to a C-contiguous array. The extra time is the time
    of the first fit to the input of the given kind minus that of later fits to it.
    """
    return in_fresh_processes(prepared(shape, kind) + _SECOND.format(kind=kind), n_runs)


def interrupted(shape, n_runs=5):
    """Return the longest time from an interrupt to the end of the fit, in seconds."""
    return in_fresh_processes(prepared(shape) + _INTERRUPT, n_runs)["longest"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    n_runs = parser.parse_args().runs
    facts = machine()
    cases = list(first_fit_cases())
    progress = Progress(2 + len(cases) + len(SHAPES) * len(SECOND_KINDS))
    progress("import")
    imports = in_fresh_processes(_IMPORT, n_runs)
    first, second, seconds = [], [], {}
    for name, shape, kind, estimator in cases:
        progress(f"first fit, {name}, {kind}, {estimator}")
        found = first_fit(shape, kind, estimator, n_runs)
        times = [f"{found[key]:.3f} s" for key in ("first", "again")]
        first.append([f"{name}, {kind}", estimator, *times, "yes" if found["numba"] else "no"])
        if (kind, estimator) == ("C", DEFAULT):
            seconds[name] = found["first"]
    for name, shape in SHAPES.items():
        for kind in SECOND_KINDS:
            progress(f"second kind, {name}, {kind}")
            found = second_kind(shape, kind, n_runs)
            second.append(
                [f"{name}, {kind}", f"{found['extra']:.3f} s", int(found["compiled"])]
            )
    progress("interrupt")
    interrupt = interrupted(INTERRUPTED_SHAPE, n_runs)
    progress.end()
    text = "\n\n".join(
        [
            "# Cold start",
            "`python -m benchmarks.cold_start`: " + described(facts),
            f"All times are medians of {n_runs} runs in fresh processes without a cache of "
            "compiled functions. The table shows the targets for the first fit. In addition, "
            "the import after `sklearn.linear_model` should take at most 0.1 s, the first fit "
            "to a second kind of input should take at most 0.7 s longer than later fits, a "
            "read-only array should require no compilation, and an interrupted fit should end "
            "within 1 s.",
            targets_table(seconds),
            "## Import",
            table(
                ["", "time"],
                [
                    ["sklearn.linear_model", f"{imports['linear_model']:.3f} s"],
                    ["skrobust, after sklearn.linear_model", f"{imports['skrobust']:.3f} s"],
                ],
            ),
            "## First fit, including compilation and the import of Numba",
            table(["", "estimator", "first fit", "second fit", "imports Numba"], first),
            "## First fit to a second kind of input, after a fit to a float64 array in C order",
            table(["", "additional time", "compiled functions"], second),
            "## Interrupting a fit whose kernels are compiled",
            table(
                ["", "time from interrupt to end"],
                [["60,000 × 40, C", f"{interrupt:.3f} s"]],
            ),
        ]
    )
    print(text)
    if n_runs > 1:
        write(RESULTS, "cold_start.md", text)


if __name__ == "__main__":
    main()
