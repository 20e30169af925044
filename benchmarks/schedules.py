"""Cost and benefit of a schedule of thresholds: python -m benchmarks.schedules

The same problems are fitted without a schedule and with each named schedule, for several first
thresholds and numbers of stages. The problems differ in β/σ, in the number of rows per column
and in the share of outliers. The benchmark counts evaluations (passes over X), whose number is
the same on every machine, and compares the objective with the lowest value that any of the fits
reached. It also compares the CPU times of linear programming and of a fit with a small
threshold, because other programs have little effect on CPU times. The benchmark takes two
minutes and writes schedules.md and schedules.png to benchmarks/results/.
"""

import argparse
import time
import warnings
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.stats import gmean
from sklearn.linear_model import QuantileRegressor

from skrobust import SmoothL1Regressor
from skrobust.schedules import N_STAGES, cosine, geometric, linear

from . import COLOURS, RESULTS, Progress, described, in_seconds, machine, table, write

P = 20
RATIOS, CONTAMINATIONS = [2, 10, 100, 1000], [0.0, 0.2, 0.4]
BETAS = [10.0**-k for k in range(8)]
NAMES = {"geometric": geometric, "linear": linear, "cosine": cosine}
# Shares of the least-squares residuals below the first threshold, and numbers of stages.
STARTS, STAGES = [0.5, 0.9, 0.99, 1.0], [2, 3, 4, 5, 10]
SMALL_BETA = 1e-6
SIZES = [(1_000, 50), (5_000, 20), (20_000, 5), (20_000, 20), (20_000, 50)]
NONE, MARKERS = "none", ["o", "s", "^", "D"]


class Run(NamedTuple):
    """The number of evaluations of a fit, its objective, and whether it converged."""

    n_eval: int
    objective: float
    converged: bool


def make(n, p, contamination, seed=0):
    """Return normal columns, and y with errors of variance 1 and outliers raised by 10–100."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p))
    y = X @ rng.normal(size=p) + rng.normal(size=n)
    outlier = rng.random(n) < contamination
    y[outlier] += rng.uniform(10, 100, outlier.sum())
    return X, y


def fit(X, y, beta, schedule=None):
    """Return the fitted model, and whether the fit issued no warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = SmoothL1Regressor(beta, beta_schedule=schedule).fit(X, y)
    return model, not caught


def run(X, y, beta, schedule=None):
    model, converged = fit(X, y, beta, schedule)
    return Run(sum(row["n_eval"] for row in model.history_), model.objective_, converged)


def all_runs(X, y, beta):
    """Fit a problem without and with schedules; return a dict of Runs.

    The keys are "none", the names of schedules, and (name, start, number of stages), where
    start is the share of the least-squares residuals below the first threshold.
    """
    design = np.column_stack([np.ones(len(y)), X])
    size = np.abs(y - design @ np.linalg.lstsq(design, y)[0])
    found = {NONE: run(X, y, beta)}
    found |= {name: run(X, y, beta, name) for name in NAMES}
    for name, start, stages in product(NAMES, STARTS, STAGES):
        schedule = NAMES[name](np.quantile(size, start) / beta, stages)
        found[name, start, stages] = run(X, y, beta, schedule)
    return found


def trial(progress):
    """Return the runs of each problem; the keys are (n/p, contamination, β/σ)."""
    found = {}
    for ratio, contamination in product(RATIOS, CONTAMINATIONS):
        progress(f"n/p = {ratio:,}, {contamination:.0%} contaminated")
        X, y = make(ratio * P, P, contamination)
        for beta in BETAS:
            progress.detail(f"β/σ = {beta:.0e}")
            found[ratio, contamination, beta] = all_runs(X, y, beta)
    return found


def evaluations(found, name, ratio=None, beta=None):
    """Return the geometric mean, over the problems, of the evaluations with key `name`.

    If `ratio` or `beta` is given, only the problems with this n/p or β/σ are included.
    """
    return gmean(
        [
            tried[name].n_eval
            for (r, _, b), tried in found.items()
            if ratio in (None, r) and beta in (None, b)
        ]
    )


def excess(found, name):
    """Return the largest excess of the objective over the lowest of all runs, as a fraction."""
    return max(
        tried[name].objective / min(other.objective for other in tried.values()) - 1
        for tried in found.values()
    )


def named_table(found):
    names = [NONE, *NAMES]
    rows = [
        [f"{beta:.0e}", *(f"{evaluations(found, name, beta=beta):.0f}" for name in names)]
        for beta in BETAS
    ]
    for ratio in RATIOS:
        means = (f"{evaluations(found, name, ratio):.0f}" for name in names)
        rows.append([f"n/p = {ratio:,}", *means])
    most = (max(tried[name].n_eval for tried in found.values()) for name in names)
    rows.append(["maximum", *map(str, most)])
    fewest = (
        f"{np.mean([tried[name].n_eval < tried[NONE].n_eval for tried in found.values()]):.0%}"
        for name in names
    )
    rows.append(["fewer than without a schedule, share of problems", *fewest])
    rows.append(["largest excess", *(f"{excess(found, name):.0e}" for name in names)])
    return table(["β/σ", *names], rows)


def variants_table(found):
    """Return a table of the evaluations, divided by those without a schedule."""
    base = evaluations(found, NONE)
    rows = [
        [
            f"{name}, {start:.0%} inside",
            *(f"{evaluations(found, (name, start, n)) / base:.2f}" for n in STAGES),
        ]
        for name, start in product(NAMES, STARTS)
    ]
    return table(["", *(f"{n} stages" for n in STAGES)], rows)


def cpu_seconds(function, *args):
    """Return the result of a function and the CPU time of all its threads."""
    start = time.process_time()
    result = function(*args)
    return result, time.process_time() - start


def lad_rows(progress):
    """Return table rows that compare linear programming and fits with a small threshold."""
    rows = []
    for n, p in SIZES:
        progress(f"linear programming, {n:,} × {p}")
        X, y = make(n, p, 0.2)
        quantile = QuantileRegressor(quantile=0.5, alpha=0.0, solver="highs")
        _, theirs = cpu_seconds(quantile.fit, X, y)
        runs = [cpu_seconds(fit, X, y, SMALL_BETA) for _ in range(3)]
        (model, converged), ours = runs[0][0], min(seconds for _, seconds in runs)
        least = np.abs(y - quantile.predict(X)).mean()
        above = np.abs(y - model.predict(X)).mean() / least - 1
        rows.append(
            [
                f"{n:,} × {p}",
                in_seconds(ours),
                in_seconds(theirs),
                f"{theirs / ours:.0f}",
                f"{above:.0e}",
                sum(row["n_eval"] for row in model.history_),
                "yes" if converged else "no (warning)",
            ]
        )
    return rows


def draw(found, path):
    """Draw the evaluations against β/σ, and their ratio to no schedule against the stages."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    right.axhline(1, color=COLOURS[0], linewidth=2.5, label="no schedule")
    for name, colour, marker in zip([NONE, *NAMES], COLOURS, MARKERS, strict=False):
        means = [evaluations(found, name, beta=beta) for beta in BETAS]
        style = {"color": colour, "marker": marker}
        label = "no schedule" if name == NONE else f'"{name}"'
        left.plot(BETAS, means, label=label, linewidth=2.5 if name == NONE else 1.5, **style)
        if name != NONE:
            base = evaluations(found, NONE)
            ratios = [evaluations(found, (name, 0.99, n)) / base for n in STAGES]
            right.plot(STAGES, ratios, label=f'"{name}"', **style)
    left.set_xscale("log")
    left.minorticks_off()
    left.invert_xaxis()
    left.set_ylim(bottom=0)
    left.set_xlabel("threshold β/σ, smaller to the right")
    left.set_ylabel("evaluations (passes over X)")
    left.set_title("Geometric mean over n/p and contamination")
    right.set_ylim(bottom=0)
    right.set_xticks(STAGES)
    right.set_xlabel("number of stages (99 % of residuals below the first threshold)")
    right.set_ylabel("evaluations / evaluations without a schedule")
    right.set_title("Geometric mean over all problems")
    for axes in (left, right):
        axes.grid(color="0.9")
        axes.legend(frameon=False, loc="best")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main():
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    facts = machine()
    progress = Progress(len(RATIOS) * len(CONTAMINATIONS) + len(SIZES))
    found = trial(progress)
    lad = lad_rows(progress)
    progress.end()
    failed = sum(not one.converged for tried in found.values() for one in tried.values())
    total = sum(map(len, found.values()))
    text = "\n\n".join(
        [
            "# Cost and benefit of schedules",
            "`python -m benchmarks.schedules`: " + described(facts),
            f"The data have {P} normal columns, errors with σ = 1, and outliers 10 to 100 "
            "above the model. The tables show numbers of evaluations (passes over X); means "
            "are geometric. The excess is the relative difference between the objective and "
            f"the lowest objective of any run. Of {total:,} fits, {failed} did not "
            "converge.",
            "## Named schedules",
            f"The schedules have {N_STAGES} stages. In the first stage, 99 % of the absolute "
            "least-squares residuals are below the threshold.",
            named_table(found),
            "## Starts and numbers of stages",
            "Evaluations divided by those without a schedule.",
            variants_table(found),
            "## Least absolute deviations",
            f"SmoothL1Regressor with β/σ = {SMALL_BETA:g} and no schedule is compared with "
            "`QuantileRegressor(quantile=0.5, alpha=0)` on data with 20 % outliers. The "
            "excess is the relative difference in the mean absolute residual. The times are "
            "CPU times of all threads: for one run of QuantileRegressor, and for the fastest "
            "of three runs of SmoothL1Regressor.",
            table(
                ["", "SmoothL1", "Quantile", "ratio", "excess", "evaluations", "converged"],
                lad,
            ),
        ]
    )
    print(text)
    write(RESULTS, "schedules.md", text)
    draw(found, RESULTS / "schedules.png")


if __name__ == "__main__":
    main()
