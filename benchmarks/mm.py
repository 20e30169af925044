"""Cost of an MM-estimate compared with lmrob and RLMDetSMM: python -m benchmarks.mm

MMRegressor, lmrob from R's robustbase and RLMDetSMM from statsmodels are fitted to the same
data in turn, each with its defaults. The times compared are CPU times, summed over all threads,
because other programs have little effect on them. lmrob is omitted if Rscript does not find
robustbase, and RLMDetSMM is omitted if the installed statsmodels does not have it. The time of
the first fit in a process is compared with that of SmoothL1Regressor, and the peak memory with
the size of X.

The benchmark takes five minutes and writes mm.md to benchmarks/results/. The exit status is
nonzero unless all limits are met. With --quick, it takes one minute, skips the lmrob fit to the
largest data set, and writes nothing.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from skrobust import MMRegressor, SmoothL1Regressor

from . import RESULTS, described, in_seconds, in_turn, machine, say, table, write
from .cold_start import SHAPES, first_fit
from .inference import memory_share

SMALL, TALL, LARGEST = (50, 3), (100_000, 50), (500_000, 20)
MM, LMROB, RLM, SMOOTH_L1 = "MMRegressor", "lmrob", "RLMDetSMM", "SmoothL1Regressor"
ROUNDS, N_FITS, N_TALL_FITS, N_FIRST = 11, 20, 5, 5
# Each input line contains a file name, the numbers of rows and columns of the data in this
# file, and the number of fits. The script prints the CPU time per fit in seconds.
_R = """
suppressMessages(library(robustbase))
input <- file("stdin", "r")
cat(as.character(packageVersion("robustbase")), "\\n")
while (length(line <- readLines(input, 1)) > 0) {
  task <- strsplit(line, " ")[[1]]
  size <- as.integer(task[2:4])
  data <- matrix(readBin(task[1], "double", size[1] * size[2]), size[1])
  X <- data[, -1]
  y <- data[, 1]
  set.seed(1)
  start <- proc.time()
  for (i in seq_len(size[3])) suppressWarnings(lmrob(y ~ X))
  cat(sum((proc.time() - start)[1:2]) / size[3], "\\n")
  flush(stdout())
}
"""


class Data(NamedTuple):
    X: np.ndarray
    y: np.ndarray


class Bar(NamedTuple):
    """An upper limit on a quantity, and a stretch target."""

    what: str
    unit: str
    most: float
    hope: float


OVER_LMROB = Bar("50 × 3, time over lmrob", "", 3, 1)
OVER_RLM = Bar("50 × 3, time over RLMDetSMM", "", 1 / 5, 1 / 100)
TALL_OVER_LMROB = Bar("100,000 × 50, 10 % cluster, time over lmrob", "", 1 / 10, 1 / 30)
FIRST_FIT = Bar("first fit in a process, minus that of SmoothL1Regressor", " s", 1.5, 0.7)
MEMORY = Bar("memory beyond X", " % of X", 10, 2)


def with_cluster(shape, seed=0):
    """Return data in which a tenth of the rows form a cluster of leverage points."""
    rng = np.random.default_rng(seed)
    n, p = shape
    X = rng.normal(size=shape)
    y = X.sum(axis=1) + rng.normal(size=n)
    m = n // 10
    X[:m] = 0.1 * rng.normal(size=(m, p))
    X[:m, 0] += 10
    y[:m] = 60 + 0.1 * rng.normal(size=m)
    return Data(X, y)


class Lmrob:
    """An R process that runs lmrob."""

    def __init__(self, process, folder):
        self._process, self._folder = process, Path(folder)
        self.version = self._answer().strip()

    def seconds(self, data, n_fits):
        path = self._folder / "data"
        np.column_stack([data.y, data.X]).ravel(order="F").tofile(path)
        n, p = data.X.shape
        self._process.stdin.write(f"{path} {n} {p + 1} {n_fits}\n")
        self._process.stdin.flush()
        return float(self._answer())

    def _answer(self):
        return self._process.stdout.readline()


def start_lmrob(stack):
    """Return an R process that ends when `stack` is closed, or None without robustbase."""
    rscript = shutil.which("Rscript")
    test = [rscript, "-e", "library(robustbase)"]
    if rscript is None or subprocess.run(test, capture_output=True, check=False).returncode:
        return None
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = stack.enter_context(subprocess.Popen([rscript, "-e", _R], **pipes))
    return Lmrob(process, folder)


def rlm_fit():
    """Return a function that fits RLMDetSMM, or None if it is not available."""
    try:
        from statsmodels.robust import RLMDetSMM
    except ImportError:
        return None
    return lambda data: RLMDetSMM(data.y, np.column_stack([np.ones(len(data.y)), data.X])).fit()


def processor_seconds(fit, data, n_fits):
    """Return the mean CPU time of a fit in seconds."""
    start = time.process_time()
    for _ in range(n_fits):
        fit(data)
    return (time.process_time() - start) / n_fits


def mm_fit(data):
    return MMRegressor().fit(data.X, data.y)


def small_times(lmrob, rlm):
    """Return the CPU times of the estimators, run in turn, for data sets of shape SMALL."""
    times = {MM: [], LMROB: [], RLM: []}
    mm_fit(with_cluster(SMALL))
    for seed in range(ROUNDS):
        data = with_cluster(SMALL, seed)
        times[MM].append(processor_seconds(mm_fit, data, N_FITS))
        if lmrob:
            times[LMROB].append(lmrob.seconds(data, N_FITS))
        if rlm:
            times[RLM].append(processor_seconds(rlm, data, 1))
    return times


def tall_times(lmrob):
    data = with_cluster(TALL)
    mm_fit(data)
    times = {MM: [processor_seconds(mm_fit, data, 1) for _ in range(N_TALL_FITS)]}
    times[LMROB] = [lmrob.seconds(data, 1)] if lmrob else []
    return times


def first_fits(n_runs):
    """Return the median time of the first fit in a process, by shape and estimator."""
    found = {}
    for name, shape in SHAPES.items():
        for _ in range(n_runs):
            for estimator in [SMOOTH_L1, MM]:
                seconds = first_fit(shape, "C", f"{estimator}()", n_runs=1)["first"]
                found.setdefault((name, estimator), []).append(seconds)
    return {key: float(np.median(seconds)) for key, seconds in found.items()}


def memory(shape):
    """Return the peak memory that MMRegressor and SmoothL1Regressor allocate, in % of X."""
    data = with_cluster(shape)
    mm_fit(data)
    smooth_l1 = memory_share(lambda: SmoothL1Regressor().fit(data.X, data.y), data)
    return 100 * memory_share(lambda: mm_fit(data), data), 100 * smooth_l1


def wall_times():
    """Return the elapsed times of MMRegressor and SmoothL1Regressor for the tall shape."""
    data = with_cluster(TALL)
    return in_turn(
        {
            MM: lambda: mm_fit(data),
            SMOOTH_L1: lambda: SmoothL1Regressor().fit(data.X, data.y),
        },
        seconds=10,
    )


def ratio(times, name):
    return np.median(times[MM]) / np.median(times[name])


def times_text(times):
    """Return the median times of the programs that ran, as text."""
    ran = {name: found for name, found in times.items() if found}
    return ", ".join(f"{name} {in_seconds(np.median(t))}" for name, t in ran.items())


def measure(lmrob, rlm, quick):
    """Return the limits with the measured values, and sentences about the measurements."""
    say("50 × 3 ... ")
    with threadpool_limits(1):
        small = small_times(lmrob, rlm)
    print(times_text(small))
    say("100,000 × 50 ... ")
    tall = tall_times(None if quick else lmrob)
    print(times_text(tall))
    wall = wall_times()
    first = first_fits(1 if quick else N_FIRST)
    measured = []
    if lmrob:
        measured.append((OVER_LMROB, ratio(small, LMROB)))
    if rlm:
        measured.append((OVER_RLM, ratio(small, RLM)))
    if tall[LMROB]:
        measured.append((TALL_OVER_LMROB, ratio(tall, LMROB)))
    for name in SHAPES:
        bar = FIRST_FIT._replace(what=f"{FIRST_FIT.what}, {name}")
        measured.append((bar, first[name, MM] - first[name, SMOOTH_L1]))
    sentences = [
        f"CPU times at 50 × 3: {times_text(small)}.",
        f"CPU times at 100,000 × 50: {times_text(tall)}; elapsed times: {times_text(wall)}.",
        "First fits in a process: "
        + "; ".join(f"{name}, {est} {in_seconds(s)}" for (name, est), s in first.items())
        + ".",
    ]
    for shape in [TALL, LARGEST]:
        size, of_smooth_l1 = memory(shape)
        name = f"{shape[0]:,} × {shape[1]}"
        measured.append((MEMORY._replace(what=f"{MEMORY.what}, {name}"), size))
        sentences.append(
            f"Peak memory of SmoothL1Regressor beyond X at {name}: {of_smooth_l1:.1f} % of X."
        )
    return measured, sentences


def row(bar, value):
    holds = "yes" if value <= bar.most else "**no**"
    numbers = [f"{number:.3g}{bar.unit}" for number in (value, bar.most, bar.hope)]
    return [bar.what, *numbers, holds]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="without lmrob for many rows")
    quick = parser.parse_args().quick
    facts = machine()
    with ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # RLMDetSMM issues warnings about division by zero
        lmrob, rlm = start_lmrob(stack), rlm_fit()
        measured, sentences = measure(lmrob, rlm, quick)
        version = f"robustbase {lmrob.version}" if lmrob else "no robustbase"
    text = "\n\n".join(
        [
            "# Cost of an MM-estimate",
            f"`python -m benchmarks.mm`: {described(facts)[:-1]}, {version}.",
            f"The times are medians; the programs run in turn. {' '.join(sentences)}",
            table(
                ["", "measured", "at most", "stretch target", "holds"],
                [row(bar, value) for bar, value in measured],
            ),
        ]
    )
    print(text)
    if not quick:
        write(RESULTS, "mm.md", text)
    sys.exit(not all(value <= bar.most for bar, value in measured))


if __name__ == "__main__":
    main()
