"""Time to compute standard errors, relative to the fit time: python -m benchmarks.inference

Calls of coefficient_table and fits with default parameters are timed in turn. The bootstrap and
the fits with which it is compared run in one thread. Their CPU times are measured, because
other programs have little effect on CPU times. The benchmark takes three minutes and writes
inference.md to benchmarks/results/. The exit status is nonzero unless all limits are met.
"""

import sys
import time
import tracemalloc
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from skrobust import SmoothL1Regressor
from skrobust.inference import coefficient_table

from . import RESULTS, described, in_seconds, in_turn, machine, say, table, write
from .scenarios import make, normal

TALL, SHORT, RESAMPLED = (500_000, 100), (200, 5), (1_000, 10)
N_GROUPS, MEMORY_BAR, N_BOOTSTRAPS, N_FITS = 1_000, 0.10, 7, 50
BOOTSTRAP = "bootstrap of 999"


class Bar(NamedTuple):
    """An upper limit on the time to compute a table, relative to the time of a fit."""

    shape: tuple[int, int]
    name: str
    most: float
    options: dict


BARS = [
    Bar(TALL, "H1", 1.5, {"covariance": "H1"}),
    Bar(TALL, "HC1", 2.0, {"covariance": "HC1"}),
    Bar(TALL, "HC3", 4.0, {"covariance": "HC3"}),
    Bar(TALL, "CR1", 2.5, {"covariance": "CR1"}),
    Bar(TALL, "CR3", 5.0, {"covariance": "CR3"}),
    Bar(SHORT, "HC3", 1.0, {"covariance": "HC3"}),
    *(
        Bar(RESAMPLED, f"{BOOTSTRAP}, {s}", 60.0, {"covariance": "bootstrap", "scale": s})
        for s in ["fixed", "joint"]
    ),
]


def tasks_of(shape):
    """Return the tasks to time for a shape of X (a fit and the tables), and the data."""
    data = make(normal, *shape)
    fitted = SmoothL1Regressor().fit(data.X, data.y)
    groups = np.arange(shape[0]) % N_GROUPS
    tasks = {"fit": lambda: SmoothL1Regressor().fit(data.X, data.y)}
    for bar in BARS:
        if bar.shape != shape:
            continue
        options = bar.options | ({"groups": groups} if bar.name.startswith("CR") else {})
        tasks[bar.name] = lambda options=options: coefficient_table(
            fitted, data.X, data.y, random_state=0, **options
        )
    return tasks, data


def processor_times(tasks):
    """Return the CPU times of fits and of tables; N_FITS fits are timed before each table."""
    times = {name: [] for name in tasks}
    with threadpool_limits(1):
        for name, task in tasks.items():
            task()
            for _ in range(0 if name == "fit" else N_BOOTSTRAPS):
                for run, count in [("fit", N_FITS), (name, 1)]:
                    start = time.process_time()
                    for _ in range(count):
                        tasks[run]()
                    times[run].append((time.process_time() - start) / count)
    return times


def memory_share(task, data):
    """Return the peak memory that a task allocates, divided by the size of X."""
    tracemalloc.start()
    try:
        task()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak / data.X.nbytes


def measure(shape):
    """Return the median time, time ratio and memory ratio of each task of a shape.

    The time is in seconds. The ratios are relative to the time of a fit and to the size of X.
    """
    say(f"{shape[0]:,} × {shape[1]} ... ")
    tasks, data = tasks_of(shape)
    if shape == RESAMPLED:
        times = processor_times(tasks)
    else:
        times = in_turn(tasks, seconds=10, least=9, long=60)
    medians = {name: float(np.median(found)) for name, found in times.items()}
    for name, seconds in medians.items():
        say(f"{name} {in_seconds(seconds)}, ")
    print()
    return {
        name: (seconds, seconds / medians["fit"], memory_share(tasks[name], data))
        for name, seconds in medians.items()
    }


def judged(bar, result):
    """Return a row of the report, and whether the limit is met.

    The memory is limited only for HC and CR with the tall shape.
    """
    _, cost, memory = result
    tall = bar.shape == TALL and bar.name != "H1"
    holds = cost <= bar.most and (memory <= MEMORY_BAR or not tall)
    print(f"{bar.shape}, {bar.name}: {cost:.2f} of {bar.most:g}, {'' if holds else 'NOT '}held")
    shape = f"{bar.shape[0]:,} × {bar.shape[1]}"
    memory = f"{100 * memory:.1f} %" if bar.shape == TALL else "–"
    cells = [in_seconds(result[0]), f"{cost:.2f}", f"{bar.most:g}", memory]
    return [shape, bar.name, *cells, "yes" if holds else "**no**"], holds


def main():
    results = {shape: measure(shape) for shape in [TALL, SHORT, RESAMPLED]}
    rows, held = [], []
    for bar in BARS:
        row, holds = judged(bar, results[bar.shape][bar.name])
        rows.append(row)
        held.append(holds)
    fits = [
        f"{in_seconds(result['fit'][0])} at {shape[0]:,} × {shape[1]}"
        for shape, result in results.items()
    ]
    text = [
        "# Cost of standard errors\n",
        f"`python -m benchmarks.inference`: {described(machine())}\n",
        'The times are medians; the tasks run in turn in one process. "fits" is the time '
        f"divided by that of a default fit. A fit takes {', '.join(fits)}. CR has "
        f"{N_GROUPS:,} clusters. For the bootstrap, CPU times are compared. The memory is the "
        "peak allocated memory divided by the size of X; its limit is "
        f"{100 * MEMORY_BAR:.0f} % for HC and CR.\n",
        table(["", "", "time", "fits", "at most", "memory", "holds"], rows),
    ]
    write(RESULTS, "inference.md", "\n".join(text))
    sys.exit(not all(held))


if __name__ == "__main__":
    main()
