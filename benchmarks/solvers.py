"""Comparison of the three solvers: python -m benchmarks.solvers

The solvers run in turn, for several shapes of X and several thresholds. The table shows the
median time of each solver relative to solver="auto", and the number of passes over X that each
algorithm takes. All three solvers reach the same objective; the last column shows the largest
relative difference between their objectives. The benchmark takes about three minutes and writes
solvers.md to benchmarks/results/.
"""

import argparse
import warnings

import numpy as np

from skrobust import SmoothL1Regressor

from . import RESULTS, described, in_turn, machine, say, table, write

SOLVERS = ["auto", "lbfgs", "newton"]
SHAPES = [(200, 5), (100, 40), (1_000, 300), (20_000, 50), (100_000, 50), (5_000, 500)]
MODES = {
    "β = 1.345": {"beta": 1.345},
    "auto": {},
    "concomitant": {"scale": "concomitant"},
    "β = 1e-6": {"beta": 1e-6},
}


def data(n, p):
    """Return correlated features, and y with heavy-tailed errors and 10 % outliers."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, p)) + 0.5 * rng.normal(size=(n, 1))
    y = X.sum(axis=1) + rng.standard_t(3, size=n)
    y[: n // 10] += 10.0
    return X, y


def row(n, p, name, parameters, seconds):
    """Return a row of the table: times, passes, and the difference between the objectives."""
    X, y = data(n, p)
    models = {solver: SmoothL1Regressor(**parameters, solver=solver) for solver in SOLVERS}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        times = in_turn(
            {solver: lambda m=model: m.fit(X, y) for solver, model in models.items()},
            seconds,
            least=3,
        )
    medians = {solver: float(np.median(found)) for solver, found in times.items()}
    cells = [f"{n:,} × {p}", name, f"{1e3 * medians['auto']:.1f} ms"]
    for solver, model in models.items():
        passes = ", ".join(f"{k} {v}" for k, v in model.history_[-1]["algorithms"].items())
        ratio = "" if solver == "auto" else f"{medians[solver] / medians['auto']:.2f}: "
        cells.append(ratio + passes)
    objectives = np.array([model.objective_ for model in models.values()])
    return [*cells, f"{np.ptp(objectives) / objectives.min():.0e}"]


def main():
    """Measure all shapes and kinds of threshold, and write results/solvers.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each solver and row")
    seconds = parser.parse_args().seconds
    facts, rows = machine(), []
    for n, p in SHAPES:
        for name, parameters in MODES.items():
            rows.append(row(n, p, name, parameters, seconds))
            say(".")
    header = ["shape", "threshold", "time", "auto: passes", "lbfgs", "newton", "objectives"]
    intro = (
        'The table shows the time of solver="auto", the times of the other solvers relative to '
        "it, and the number of passes over X that each algorithm takes. The last column shows "
        "the largest relative difference between the three objectives."
    )
    title = "# The three solvers\n\n`python -m benchmarks.solvers`: "
    text = "\n\n".join([title + described(facts), intro, table(header, rows)])
    print("\n" + text)
    write(RESULTS, "solvers.md", text)


if __name__ == "__main__":
    main()
