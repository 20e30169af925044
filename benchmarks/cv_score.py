"""Scores for the selection of β by cross-validation: python -m benchmarks.cv_score

Outliers in the validation folds should not determine the threshold. Data sets with known
coefficients are contaminated, and each score selects one of 20 thresholds with 5 folds. The
cost of a selection is the error of the coefficients at the selected threshold divided by the
smallest error on the grid; in practice, both errors are unknown. The comparison includes
`beta="auto"`, which involves no selection, and the one-standard-error rule with the mean
absolute error. Two further tables compare this rule with the selection of the best mean score:
by number of rows, and for the selection of an L1 penalty. The benchmark takes six minutes and
writes cv_score.md and cv_score.png to benchmarks/results/.
"""

import argparse
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from skrobust import SmoothL1Regressor, SmoothL1RegressorCV, smooth_l1_path
from skrobust._cv import one_standard_error_index, paired_standard_errors
from skrobust.losses import smooth_l1

from . import COLOURS, RESULTS, Progress, described, machine, table, write

# Number of replications for each number of rows and columns.
SHAPES = {(50, 5): 16, (100, 10): 16, (200, 5): 16, (500, 10): 12, (2000, 5): 6}
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
    """Add 10 to errors, mostly in rows with a large first feature, which biases its slope."""
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
    """Return the mean of all values except the largest quarter."""
    return np.sort(size, axis=0)[: -(len(size) // 4)].mean(axis=0)


# A score is the negative mean, over the folds, of a function with two arguments: the absolute
# residuals of the validation rows, of shape (rows, thresholds), and the scale of the default
# fit.
SCORES = {
    "mean square (r2)": lambda size, scale: (size**2).mean(axis=0),
    "mean absolute": lambda size, scale: size.mean(axis=0),
    "median absolute": lambda size, scale: np.median(size, axis=0),
    "trimmed mean absolute": trimmed,
    "smooth L1 at 1.345 MADs (d2)": lambda size, scale: smooth_l1(size, 1.345 * scale).mean(0),
}
ABSOLUTE, ONE_SE = "mean absolute", "mean absolute, one standard error"
AUTO = 'no selection: beta="auto"'
NAMES = [*SCORES, ONE_SE, AUTO]

# For the selection of an L1 penalty: numbers of rows, number of columns, number of nonzero
# coefficients, threshold, and number of penalties.
N_PENALISED, P_PENALISED, N_NONZERO, BETA, N_ALPHAS = (100, 300), 30, 5, 1.345, 20
DATA_PENALISED = {
    "normal": ("normal", "none"),
    "t(2)": ("t(2)", "none"),
    "normal, 10 % ten times as wide": ("normal", "10 % ten times as wide"),
}
REPLICATIONS_PENALISED = 24


def make(rng, n, p, law, contamination):
    """Return X and y; the true coefficients are zero, so the estimates equal their errors."""
    X, error = rng.normal(size=(n, p)), LAWS[law](rng, n)
    change, share = CONTAMINATIONS[contamination]
    if change:
        change(X, error, rng.permutation(n)[: round(share * n)], rng)
    return X, error


def prices(rng, n, p, law, contamination):
    """Return the cost of each method in `NAMES`, for one data set."""
    X, y = make(rng, n, p, law, contamination)
    auto = SmoothL1Regressor().fit(X, y)
    fold = rng.permutation(np.arange(n) % N_FOLDS)
    path = smooth_l1_path(X, y, betas=N_BETAS)
    scores = {name: np.empty((N_FOLDS, N_BETAS)) for name in SCORES}
    for k in range(N_FOLDS):
        train, test = fold != k, fold == k
        part = smooth_l1_path(X[train], y[train], betas=path.grid)
        size = np.abs(y[test, None] - X[test] @ part.coefs - part.intercepts)
        for name, score in SCORES.items():
            scores[name][k] = -score(size, auto.scale_)
    # For a skewed distribution, the intercept depends on the threshold and is therefore not
    # compared.
    with_intercept = law != "exponential"

    def error(coef, intercept):
        return np.sqrt((coef**2).sum(axis=0) + with_intercept * intercept**2)

    errors = error(path.coefs, path.intercepts)
    found = {name: errors[np.argmax(score.mean(axis=0))] for name, score in scores.items()}
    found[ONE_SE] = errors[within_one_standard_error(scores[ABSOLUTE], path.grid)]
    found[AUTO] = error(auto.coef_, auto.intercept_)
    return [value / errors.min() for value in found.values()]


def within_one_standard_error(scores, betas):
    """Return the index of the threshold that the one-standard-error rule selects."""
    mean = scores.mean(axis=0)
    results = {
        "param_beta": betas,
        "param_alpha": np.zeros(N_BETAS),
        "mean_test_score": mean,
        "se_test_difference": paired_standard_errors(scores, np.argmax(mean)),
    }
    return one_standard_error_index(results, betas[N_BETAS // 2], None)


def repeated(share):
    """Return a list that contains the shape of X for each replication."""
    return [shape for shape, n in SHAPES.items() for _ in range(max(1, round(share * n)))]


def simulate(share, progress):
    """Return a dict of the logarithms of the costs, with one array per contamination.

    Each array has the shape (error distributions, replications, methods), in the order of
    `LAWS`, `repeated(share)` and `NAMES`. For each shape of X, the seeds of the replications
    are 0, 1, ….
    """
    shapes = repeated(share)
    seeds = [shapes[:i].count(shape) for i, shape in enumerate(shapes)]
    found = {}
    for contamination in CONTAMINATIONS:
        progress(contamination)
        found[contamination] = [
            [
                prices(np.random.default_rng(seed), *shape, law, contamination)
                for shape, seed in zip(shapes, seeds, strict=True)
            ]
            for law in LAWS
        ]
    return {name: np.log(values) for name, values in found.items()}


def penalised(n, law, contamination, seed):
    """Return the excess risk and number of nonzero coefficients for both selection rules."""
    X, error = make(np.random.default_rng(seed), n, P_PENALISED, law, contamination)
    truth = np.where(np.arange(P_PENALISED) < N_NONZERO, 1.0, 0.0)
    search = SmoothL1RegressorCV([BETA], alphas=N_ALPHAS, l1_ratio=1.0, loss="huber")
    found = []
    for rule in ("best", "one_standard_error"):
        model = search.set_params(refit=rule).fit(X, X @ truth + error)
        risk = ((model.coef_ - truth) ** 2).sum() + model.intercept_**2
        found.append((risk, np.count_nonzero(model.coef_)))
    return found


def simulate_penalties(share, progress):
    """Return a dict of the results of `penalised` for each kind of data and number of rows.

    The arrays have the shape (replications, selection rules, 2).
    """
    found = {}
    for name, (law, contamination) in DATA_PENALISED.items():
        progress(f"L1 penalty, {name}")
        for n in N_PENALISED:
            seeds = range(round(share * REPLICATIONS_PENALISED))
            values = [penalised(n, law, contamination, seed) for seed in seeds]
            found[f"{name}, {n} rows"] = np.array(values)
    return found


def with_error(log_ratios):
    """Return the geometric mean of ratios and its standard error, as text.

    The logarithms are first averaged over all axes except the last, because the data sets along
    these axes have the same features and are not independent.
    """
    log_ratios = log_ratios.reshape(-1, log_ratios.shape[-1]).mean(axis=0)
    mean = np.exp(log_ratios.mean())
    return f"{mean:.2f} ± {mean * log_ratios.std(ddof=1) / np.sqrt(log_ratios.size):.2f}"


def risk_table(found, share):
    """Return a table of the risk of the one-standard-error rule over that of the best score."""
    shapes = repeated(share)
    best, rule = NAMES.index(ABSOLUTE), NAMES.index(ONE_SE)
    # The excess risk is the square of the error, so its logarithm is multiplied by 2.
    ratios = {
        name: 2 * (values[..., rule] - values[..., best]) for name, values in found.items()
    }
    clean = ratios.pop("none")
    lines = {f"none, {law}": clean[[i]] for i, law in enumerate(LAWS)} | ratios
    columns = {f"{n} × {p}": [shape == (n, p) for shape in shapes] for n, p in SHAPES}
    columns["all"] = [True] * len(shapes)
    rows = [
        [name, *(with_error(values[:, rows]) for rows in columns.values())]
        for name, values in lines.items()
    ]
    every = np.concatenate([clean, *ratios.values()])
    rows.append(["**all**", *(with_error(every[:, rows]) for rows in columns.values())])
    return table(["contamination", *columns], rows)


def penalty_table(found):
    rows = []
    for name, values in found.items():
        ratio = with_error(np.log(values[:, 1, 0] / values[:, 0, 0]))
        counts = values[:, :, 1].mean(axis=0)
        rows.append([name, ratio, *(f"{count:.1f}" for count in counts)])
    return table(["data", "risk", "nonzero, best", "nonzero, one standard error"], rows)


def summary(found):
    """Return the geometric mean, ninth decile and worst combination of each score's cost.

    The last is the largest geometric mean for a contamination and an error distribution.
    """
    cells = np.array([values.mean(axis=1) for values in found.values()])
    whole = np.concatenate([values.reshape(-1, values.shape[-1]) for values in found.values()])
    return np.exp([whole.mean(axis=0), np.quantile(whole, 0.9, axis=0), cells.max(axis=(0, 1))])


def report(found, penalties, share, facts):
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
            "Each value is the error of the coefficients (and of the intercept, except for "
            "the exponential distribution) at the selected threshold, divided by the smallest "
            "error on the grid; the best possible value is 1. The values are geometric "
            f"means over the distributions {', '.join(LAWS)}, the shapes {shapes} and the "
            f"replications, with {N_FOLDS} folds and {N_BETAS} thresholds. The worst "
            "combination is the largest geometric mean for a contamination and a distribution.",
            table(["contamination", *NAMES], rows),
            "**One standard error or the best mean score.** The excess prediction risk is the "
            "square of the error above. The following table shows the risk with "
            '`refit="one_standard_error"` divided by the risk with `refit="best"`, both with '
            "the mean absolute error, as geometric mean ± standard error over the "
            "replications. If the ratio is below 1, the one-standard-error rule is better.",
            risk_table(found, share),
            "The next table shows the risk ratio and the mean numbers of nonzero "
            f"coefficients when one of {N_ALPHAS} L1 penalties is selected at β = {BETA}, "
            f"with {P_PENALISED} features, of which {N_NONZERO} have coefficient 1.",
            penalty_table(penalties),
        ]
    )


def draw(found, path):
    """Draw the cost of each score as a marker, with one row of markers per contamination."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots()
    for line, values in enumerate(found.values()):
        axes.axhspan(line - 0.4, line + 0.4, color="0.96", zorder=0)
        for k, value in enumerate(np.exp(values.mean(axis=(0, 1)))):
            offset = 0.1 * (k - len(SCORES) / 2)
            axes.plot(value, line + offset, "osD^vPX"[k], color=COLOURS[(k + 2) % 7], ms=8)
    for k, name in enumerate(NAMES):
        axes.plot([], [], "osD^vPX"[k], color=COLOURS[(k + 2) % 7], ms=8, label=name)
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
    share = 0.25 if arguments.quick else 1.0
    facts, progress = machine(), Progress(len(CONTAMINATIONS) + len(DATA_PENALISED))
    with threadpool_limits(1):  # one thread is fastest for small problems
        found = simulate(share, progress)
        penalties = simulate_penalties(share, progress)
    progress.end()
    text = report(found, penalties, share, facts)
    print(text)
    if output:
        write(output, "cv_score.md", text)
        draw(found, output / "cv_score.png")


if __name__ == "__main__":
    main()
