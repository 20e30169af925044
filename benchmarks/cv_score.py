"""Scores for the selection of β by cross-validation: python -m benchmarks.cv_score

The outliers in the validation folds should not determine the threshold. Data sets with known
coefficients are contaminated, and each score selects one of 20 thresholds with 5 folds. The
cost of a selection is the error of the selected fit to all rows divided by that of the best fit
on the grid, which is unknown in practice. The default, which involves no selection, is
included. The benchmark takes a minute and writes cv_score.md and cv_score.png into
benchmarks/results/.
"""

import argparse
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from skrobust import SmoothL1Regressor, smooth_l1_path
from skrobust.losses import smooth_l1

from . import COLOURS, RESULTS, Progress, described, machine, table, write

SHAPES = {(100, 10): 24, (200, 5): 24, (1000, 5): 12}  # rows, columns: replications
N_BETAS, N_FOLDS = 20, 5
LAWS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "Laplace": lambda rng, n: rng.laplace(size=n),
    "t(2)": lambda rng, n: rng.standard_t(2, size=n),
    "exponential": lambda rng, n: rng.exponential(size=n) - np.log(2),
}


def wider(X, error, rows, rng):
    error[rows] *= 10


def far_above(X, error, rows, rng):
    error[rows] += 100 * rng.random(rows.size)


def above_on_one_side(X, error, rows, rng):
    """Add 10 mostly in rows with a large first feature, which changes the slope as well."""
    order = np.argsort(X[:, 0] + rng.normal(size=len(X)))
    error[order[len(X) - rows.size :]] += 10


CONTAMINATIONS = {
    "none": (None, 0.0),
    "10 % ten times as wide": (wider, 0.1),
    "30 % ten times as wide": (wider, 0.3),
    "10 % up to 100 above": (far_above, 0.1),
    "25 % up to 100 above": (far_above, 0.25),
    "5 % 10 above where x is large": (above_on_one_side, 0.05),
    "10 % 10 above where x is large": (above_on_one_side, 0.1),
    "20 % 10 above where x is large": (above_on_one_side, 0.2),
    "30 % 10 above where x is large": (above_on_one_side, 0.3),
}


def trimmed(size, scale):
    """Return the mean of all but the largest quarter."""
    return np.sort(size, axis=0)[: -(len(size) // 4)].mean(axis=0)


# Functions that are averaged over the folds, of the absolute residuals of the validation rows,
# of shape (rows, thresholds), and of the scale of the default fit.
SCORES = {
    "mean square (r2)": lambda size, scale: (size**2).mean(axis=0),
    "mean absolute": lambda size, scale: size.mean(axis=0),
    "median absolute": lambda size, scale: np.median(size, axis=0),
    "trimmed mean absolute": trimmed,
    "smooth L1 at 1.345 MADs (d2)": lambda size, scale: smooth_l1(size, 1.345 * scale).mean(0),
}
AUTO = 'no selection: beta="auto"'


def make(rng, n, p, law, contamination):
    """Return X and y for true coefficients of zero; those of a fit are its errors."""
    X, error = rng.normal(size=(n, p)), LAWS[law](rng, n)
    change, share = CONTAMINATIONS[contamination]
    if change:
        change(X, error, rng.permutation(n)[: round(share * n)], rng)
    return X, error


def prices(rng, n, p, law, contamination):
    """Return the error that each score leads to, divided by the smallest on the grid."""
    X, y = make(rng, n, p, law, contamination)
    auto = SmoothL1Regressor().fit(X, y)
    fold = rng.permutation(np.arange(n) % N_FOLDS)
    path = smooth_l1_path(X, y, betas=N_BETAS)
    totals = dict.fromkeys(SCORES, 0.0)
    for k in range(N_FOLDS):
        train, test = fold != k, fold == k
        part = smooth_l1_path(X[train], y[train], betas=path.grid)
        size = np.abs(y[test, None] - X[test] @ part.coefs - part.intercepts)
        for name, score in SCORES.items():
            totals[name] += score(size, auto.scale_)
    # With a skewed distribution the intercept depends on the threshold and is not compared.
    with_intercept = law != "exponential"

    def error(coef, intercept):
        return np.sqrt((coef**2).sum(axis=0) + with_intercept * intercept**2)

    errors = error(path.coefs, path.intercepts)
    found = {name: errors[np.argmin(total)] for name, total in totals.items()}
    found[AUTO] = error(auto.coef_, auto.intercept_)
    return [value / errors.min() for value in found.values()]


def simulate(share, progress):
    """Return the logarithms of costs (laws, replications, scores) for each contamination."""
    found = {}
    for contamination in CONTAMINATIONS:
        progress(contamination)
        found[contamination] = [
            [
                prices(rng, *shape, law, contamination)
                for shape, replications in SHAPES.items()
                for rng in map(np.random.default_rng, range(round(share * replications)))
            ]
            for law in LAWS
        ]
    return {name: np.log(values) for name, values in found.items()}


def summary(found):
    """Return geometric mean, ninth decile and worst combination for each score."""
    cells = np.array([values.mean(axis=1) for values in found.values()])
    whole = np.concatenate([values.reshape(-1, values.shape[-1]) for values in found.values()])
    return np.exp([whole.mean(axis=0), np.quantile(whole, 0.9, axis=0), cells.max(axis=(0, 1))])


def report(found, facts):
    names = [*SCORES, AUTO]
    shapes = ", ".join(f"{n} × {p}" for n, p in SHAPES)
    where = np.exp([values.mean(axis=(0, 1)) for values in found.values()])
    rows = [[name, *(f"{v:.2f}" for v in row)] for name, row in zip(found, where, strict=True)]
    titles = ["**geometric mean of all**", "ninth decile of all", "worst combination"]
    rows += [
        [name, *(f"{v:.2f}" for v in row)]
        for name, row in zip(titles, summary(found), strict=True)
    ]
    return "\n\n".join(
        [
            "# Comparison of scores for the selection of β",
            "`python -m benchmarks.cv_score`: " + described(facts),
            "Error of the coefficients (and of the intercept, except for the exponential "
            "distribution) of the fit with the selected threshold, divided by the smallest "
            "error on the grid; the best possible value is 1. The worst combination is that of "
            "a contamination and a distribution. Geometric means over the distributions "
            f"{', '.join(LAWS)}, the sizes {shapes} and replications, with {N_FOLDS} folds and "
            f"{N_BETAS} thresholds.",
            table(["contamination", *names], rows),
        ]
    )


def draw(found, path):
    """Draw a line for each contamination and a marker for each score."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots()
    for line, values in enumerate(found.values()):
        axes.axhspan(line - 0.4, line + 0.4, color="0.96", zorder=0)
        for k, value in enumerate(np.exp(values.mean(axis=(0, 1)))):
            offset = 0.1 * (k - len(SCORES) / 2)
            axes.plot(value, line + offset, "osD^vX"[k], color=COLOURS[(k + 2) % 6], ms=8)
    for k, name in enumerate([*SCORES, AUTO]):
        axes.plot([], [], "osD^vX"[k], color=COLOURS[(k + 2) % 6], ms=8, label=name)
    axes.set_yticks(range(len(found)), found)
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.set_xscale("log")
    ticks = [1, 1.1, 1.2, 1.5, 2, 3, 5, 10]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(axis="x", color="0.9")
    axes.set_xlabel("error of the selected fit / error of the best fit on the grid")
    axes.set_title("Cost of the selection of β by each score")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a quarter of the replications")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where to write results")
    arguments = parser.parse_args()
    output = arguments.output or (None if arguments.quick else RESULTS)
    facts, progress = machine(), Progress(len(CONTAMINATIONS))
    with threadpool_limits(1):  # fastest for problems this small
        found = simulate(0.25 if arguments.quick else 1.0, progress)
    progress.end()
    text = report(found, facts)
    print(text)
    if output:
        write(output, "cv_score.md", text)
        draw(found, output / "cv_score.png")


if __name__ == "__main__":
    main()
