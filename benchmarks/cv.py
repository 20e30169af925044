"""Time to select β by cross-validation: python -m benchmarks.cv

SmoothL1RegressorCV with 20 thresholds and 5 folds is compared with GridSearchCV of
SmoothL1Regressor on the same grid, with GridSearchCV of HuberRegressor over 20 values of
epsilon, and with 20 fits of SmoothL1Regressor without cross-validation. All of these run in
turn in one process. The benchmark takes two minutes, mostly for HuberRegressor, and writes
cv.md to benchmarks/results/. It should be run on an idle machine.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.linear_model import HuberRegressor
from sklearn.model_selection import GridSearchCV

from skrobust import SmoothL1Regressor, SmoothL1RegressorCV

from . import RESULTS, Progress, described, in_seconds, in_turn, machine, table, write
from .tall import make_data

SHAPES = {"50,000 × 30": (50_000, 30), "500 × 10": (500, 10)}
# The grid of thresholds. In the data of benchmarks.tall, the errors have variance 1, and a
# tenth of them are multiplied by 10.
BETAS = 1.345 * np.geomspace(0.1, 10, 20)
EPSILONS = np.geomspace(1.05, 5, 20)
SCORING = "neg_mean_absolute_error"
OURS, TWO_JOBS, MADS = "SmoothL1RegressorCV", "the same, n_jobs=2", 'the same, scale="mad"'
GRID, GRID_MADS = "GridSearchCV(SmoothL1Regressor)", 'the same with scale="mad"'
FITS, HUBER = "20 × SmoothL1Regressor, no folds", "GridSearchCV(HuberRegressor)"
# Target and stretch target for the time of SmoothL1RegressorCV divided by that of another
# estimator.
TARGETS = {GRID: (1 / 5, None), HUBER: (1 / 40, None), FITS: (None, 1.0)}


def search(model, X, y, **grid):
    return GridSearchCV(model, grid, scoring=SCORING).fit(X, y)


def tasks(X, y):
    huber = HuberRegressor(alpha=0.0, max_iter=1000)
    mads = SmoothL1Regressor(scale="mad")
    return {
        OURS: partial(SmoothL1RegressorCV(BETAS).fit, X, y),
        TWO_JOBS: partial(SmoothL1RegressorCV(BETAS, n_jobs=2).fit, X, y),
        GRID: partial(search, SmoothL1Regressor(), X, y, beta=BETAS),
        FITS: lambda: [SmoothL1Regressor(beta).fit(X, y) for beta in BETAS],
        HUBER: partial(search, huber, X, y, epsilon=EPSILONS),
        MADS: partial(SmoothL1RegressorCV(BETAS, scale="mad").fit, X, y),
        GRID_MADS: partial(search, mads, X, y, beta=BETAS),
    }


def difference(X, y):
    """Return the largest relative difference between the mean scores of two searches.

    The searches are SmoothL1RegressorCV and GridSearchCV of SmoothL1Regressor.
    """
    ours = SmoothL1RegressorCV(BETAS).fit(X, y).cv_results_["mean_test_score"]
    theirs = search(SmoothL1Regressor(), X, y, beta=BETAS).cv_results_["mean_test_score"]
    return float(np.abs(ours / theirs - 1).max())


def section(title, times, apart):
    """Return the section of the report for one shape of X.

    The section lists the times, and the time of SmoothL1RegressorCV divided by that of each
    other estimator.
    """
    rows = []
    for name, runs in times.items():
        ours = MADS if name == GRID_MADS else OURS
        median = np.median(times[ours]) / np.median(runs)
        fastest = min(times[ours]) / min(runs)
        rows.append(
            [
                name,
                in_seconds(np.median(runs)),
                in_seconds(min(runs)),
                len(runs),
                *("" if name in (OURS, MADS) else f"1/{1 / r:.3g}" for r in (median, fastest)),
            ]
        )
    header = ["", "median", "fastest", "runs", "CV / this, medians", "CV / this, fastest"]
    note = (
        "The largest relative difference between the mean scores of SmoothL1RegressorCV and "
        f"GridSearchCV is {apart:.0e}."
    )
    return f"## {title}\n\n{table(header, rows)}\n\n{note}"


def targets_table(times):
    """Return a table of the ratios of the median and the fastest times, with their limits."""
    rows = []
    for name, (target, stretch) in TARGETS.items():
        ratios = [f(times[OURS]) / f(times[name]) for f in (np.median, min)]
        limit = stretch if target is None else target
        met = "yes" if max(ratios) <= limit else "NO"
        kind = "stretch target" if target is None else "target"
        figures = [f"1/{1 / ratio:.3g}" for ratio in ratios]
        rows.append([f"/ {name}", *figures, f"1/{1 / limit:g}", kind, met])
    return table(
        ["time of SmoothL1RegressorCV", "medians", "fastest", "limit", "", "met?"], rows
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="without HuberRegressor")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where to write results")
    arguments = parser.parse_args()
    output = arguments.output or (None if arguments.quick else RESULTS)
    facts, progress, found, parts = machine(), Progress(len(SHAPES)), {}, []
    for title, shape in SHAPES.items():
        progress(title)
        X, y = make_data(*shape)
        apart = difference(X, y)  # also compiles the kernels
        todo = tasks(X, y)
        if arguments.quick:
            del todo[HUBER]
        found[title] = in_turn(todo, seconds=4.0)
        parts.append(section(title, found[title], apart))
    progress.end()
    heading = "# Selection of β by cross-validation\n\n`python -m benchmarks.cv`: "
    intro = [
        heading + described(facts),
        f"Each selection compares {len(BETAS)} thresholds or values of epsilon by their mean "
        "absolute error in 5 folds and ends with a fit to all rows: 101 fits in total.",
    ]
    if not arguments.quick:
        intro += ["## Targets, 50,000 × 30", targets_table(found["50,000 × 30"])]
    text = "\n\n".join([*intro, *parts])
    print(text)
    if output:
        write(output, "cv.md", text)


if __name__ == "__main__":
    main()
