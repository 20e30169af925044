"""Results and times with one and with two threads: python -m benchmarks.threads

The results must be bit-for-bit identical. Fits with one thread and with two threads run in
separate processes, because BLAS reads OMP_NUM_THREADS when it is loaded. The processes run in
turn. The benchmark takes four minutes and writes threads.md to benchmarks/results/.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys

import numpy as np
from sklearn.linear_model import Ridge

from skrobust import SmoothL1Regressor

from . import RESULTS, Progress, described, in_seconds, in_turn, machine, table, write
from .scenarios import BETA, EPSILON, Data, make, make_sparse, normal

N_RUNS, N_PROCESSES = 7, 2
THREADS = [1, 2]


def float32(data):
    return Data(data.X.astype(np.float32), data.y)


def columns(data):
    return Data(np.asfortranarray(data.X), data.y)


CASES = {
    "100,000 × 50, fixed β": lambda: (SmoothL1Regressor(BETA), make(normal, 100_000, 50)),
    "100,000 × 50, auto": lambda: (SmoothL1Regressor(), make(normal, 100_000, 50)),
    "100,000 × 50, concomitant": lambda: (
        SmoothL1Regressor(EPSILON, scale="concomitant"),
        make(normal, 100_000, 50),
    ),
    "100,000 × 50, auto, float32": lambda: (
        SmoothL1Regressor(),
        float32(make(normal, 100_000, 50)),
    ),
    "100,000 × 50, auto, Fortran": lambda: (
        SmoothL1Regressor(),
        columns(make(normal, 100_000, 50)),
    ),
    "500,000 × 100, fixed β": lambda: (SmoothL1Regressor(BETA), make(normal, 500_000, 100)),
    "500,000 × 100, auto": lambda: (SmoothL1Regressor(), make(normal, 500_000, 100)),
    "20,000 × 1,000, auto": lambda: (SmoothL1Regressor(), make(normal, 20_000, 1_000)),
    "50,000 × 1,000 at 1 %, auto": lambda: (
        SmoothL1Regressor(),
        make_sparse(50_000, 1_000, 0.01),
    ),
    "500,000 × 100, Ridge(cholesky)": lambda: (
        Ridge(solver="cholesky"),
        make(normal, 500_000, 100),
    ),
}


def measure(case):
    """Return a hash of the coefficients, and the fit times, in the current process."""
    estimator, data = CASES[case]()
    estimator.fit(data.X, data.y)
    answer = np.r_[estimator.intercept_, estimator.coef_].astype(float)
    task = {case: lambda: estimator.fit(data.X, data.y)}
    times = in_turn(task, seconds=60, most=N_RUNS, long=60)[case]
    return {"bits": hashlib.sha256(answer.tobytes()).hexdigest(), "times": times}


def in_process(case, n_threads):
    environment = os.environ | {"OMP_NUM_THREADS": str(n_threads)}
    command = [sys.executable, "-m", "benchmarks.threads", "--case", case]
    output = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment
    ).stdout
    return json.loads(output)


def compare(case):
    """Return the row of the table for a case."""
    found = {n: [] for n in THREADS}
    for _ in range(N_PROCESSES):
        for n in THREADS:
            found[n].append(in_process(case, n))
    one, two = (np.concatenate([f["times"] for f in found[n]]) for n in THREADS)
    bits = {f["bits"] for runs in found.values() for f in runs}
    return [
        case,
        in_seconds(np.median(one)),
        in_seconds(np.median(two)),
        f"{np.median(one) / np.median(two):.2f}",
        f"{one.min() / two.min():.2f}",
        "yes" if len(bits) == 1 else "NO",
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    case = parser.parse_args().case
    if case:
        print(json.dumps(measure(case)))
        return
    facts = machine()
    progress = Progress(len(CASES))
    rows = []
    for name in CASES:
        progress(name)
        rows.append(compare(name))
    progress.end()
    header = ["", "1 thread", "2 threads", "speed-up", "of fastest runs", "identical"]
    text = "\n\n".join(
        [
            "# Threads",
            "`python -m benchmarks.threads`: " + described(facts),
            f"The times are medians of {N_RUNS} fits in each of {N_PROCESSES} processes for "
            "each value of `OMP_NUM_THREADS`, 1 and 2; the processes run in turn. The last "
            "column states whether intercepts and coefficients are bit-for-bit identical.",
            table(header, rows),
        ]
    )
    print(text)
    write(RESULTS, "threads.md", text)


if __name__ == "__main__":
    main()
