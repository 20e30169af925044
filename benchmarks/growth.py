"""Fit time as a function of the shape of X: python -m benchmarks.growth

SmoothL1Regressor, with a fixed threshold and with its defaults, is compared with other
estimators. The estimators are fitted in turn. An estimator is omitted at sizes where a fit
would take more than 20 s. The reported exponent is the slope of log(time) against log(size)
over the three largest sizes. The benchmark takes five minutes and 2 GB of memory, and writes
growth.md and growth.png to benchmarks/results/.
"""

import argparse
from functools import partial

import numpy as np

from . import COLOURS, RESULTS, Progress, described, in_seconds, in_turn, machine, table, write
from .scenarios import AUTO, FIXED, HUBER, KINDS, LINEAR, RIDGE, make, normal

NAMES = [FIXED, AUTO, RIDGE, LINEAR, HUBER]
SECONDS, TOO_LONG = 1.5, 20.0
ROWS = [(n, 20) for n in (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)]
FEATURES = [(20_000, p) for p in (2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000)]
AXES = {
    "rows, 20 features": (ROWS, 0),
    "features, 20,000 rows": (FEATURES, 1),
}


def times_by_size(shapes, axis, progress):
    """Return the sizes at which each estimator ran, and its fastest time at each size."""
    found = {name: ([], []) for name in NAMES}
    for shape in shapes:
        progress(f"{shape[0]:,} × {shape[1]:,}")
        data = make(normal, *shape)
        tasks = {
            name: partial(KINDS[name].make(data).fit, data.X, data.y)
            for name in NAMES
            if expected(*found[name], shape[axis]) < TOO_LONG
        }
        for name in [FIXED, AUTO]:
            tasks[name]()  # compiles the kernels outside the measurement
        for name, times in in_turn(tasks, SECONDS).items():
            found[name][0].append(shape[axis])
            found[name][1].append(min(times))
    return found


def exponent(sizes, times):
    return float(np.polyfit(np.log(sizes[-3:]), np.log(times[-3:]), 1)[0])


def expected(sizes, times, size):
    """Return the time at `size`, extrapolated with an exponent of at least 1.

    The result is 0 if fewer than three times are known.
    """
    if len(sizes) < 3:
        return 0.0
    return times[-1] * (size / sizes[-1]) ** max(1.0, exponent(sizes, times))


def growth_table(shapes, axis, found):
    rows = [
        [f"{shape[axis]:,}", *(shown(found[name], shape[axis]) for name in NAMES)]
        for shape in shapes
    ]
    rows.append(["exponent", *(f"{exponent(*found[name]):.2f}" for name in NAMES)])
    return table(["", *NAMES], rows)


def shown(sizes_and_times, size):
    times = dict(zip(*sizes_and_times, strict=True))
    return in_seconds(times[size]) if size in times else "—"


def draw(results, path):
    """Draw the times against the sizes on logarithmic axes; the legend states the exponents."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(
        1, 2, figsize=(12, 5.5), sharey=True, layout="constrained", squeeze=True
    )
    for axes, (title, found) in zip(panels, results.items(), strict=True):
        for name, colour, marker in zip(NAMES, COLOURS, "oosD^", strict=False):
            sizes, times = found[name]
            label = f"{name}, exponent {exponent(sizes, times):.2f}"
            axes.loglog(sizes, times, f"{marker}-", color=colour, label=label)
        axes.set_xlabel(f"number of {title}")
        axes.grid(color="0.9")
        axes.legend(frameon=False)
    panels[0].set_ylabel("fit time in seconds, fastest run")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main():
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    facts = machine()
    progress = Progress(len(ROWS) + len(FEATURES))
    results, tables = {}, []
    for title, (shapes, axis) in AXES.items():
        results[title] = times_by_size(shapes, axis, progress)
        tables += [f"## Against {title}", growth_table(shapes, axis, results[title])]
    progress.end()
    text = "\n\n".join(
        [
            "# Growth of the fit time",
            "`python -m benchmarks.growth`: " + described(facts),
            "Each time is the fastest of several fits; the estimators run in turn. A dash "
            f"stands for fits that would take more than {TOO_LONG:.0f} s. The exponent is the "
            "slope of log(time) against log(size) over the three largest sizes.",
            *tables,
        ]
    )
    print(text)
    write(RESULTS, "growth.md", text)
    draw(results, RESULTS / "growth.png")


if __name__ == "__main__":
    main()
