"""Coverage of 95 % confidence and prediction intervals: python -m benchmarks.coverage

The coverage is simulated for every kind of covariance in coefficient_table, for the default
intervals of RLM from statsmodels, for least squares, and for prediction intervals. The error
distributions satisfy the assumptions of some kinds of covariance and violate those of others.
The exit status is nonzero unless the coverage meets all limits on which the user guide relies.
The benchmark takes about half an hour with 1,000 replications.
"""

import argparse
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import statsmodels.api as sm
from scipy.stats import norm, t
from threadpoolctl import threadpool_limits

from skrobust import SmoothL1Regressor
from skrobust.inference import coefficient_table

from . import COLOURS, RESULTS, described, machine, table, timed, write

LEVEL, N_NEW, CHUNK = 0.95, 20, 10
SHAPES = [(30, 3), (100, 3), (1000, 3), (30, 10), (100, 10), (1000, 10)]
# Minimum number of rows per coefficient for which limit (a) of `bars` must be met. With fewer
# rows, the bootstrap is omitted, because it is slow: many resamples have hardly more distinct
# rows than coefficients.
ENOUGH_ROWS = 7

ROW_KINDS = {kind: {"covariance": kind} for kind in ["H1", "H2", "H3"]}
for scale in ["fixed", "joint"]:
    for kind in ["HC0", "HC1", "HC2", "HC3"]:
        ROW_KINDS[f"{kind} {scale}"] = {"covariance": kind, "scale": scale}
ROW_KINDS["HC2 Bell–McCaffrey"] = {"covariance": "HC2", "df": "bell-mccaffrey"}
CLUSTER_KINDS = {kind: {"covariance": kind} for kind in ["CR0", "CR1", "CR3"]}
RLM, BOOTSTRAP, LEAST_SQUARES = "statsmodels RLM", "bootstrap", "least squares HC3"
DEFAULTS = ["HC3 joint", "CR3"]  # default covariance without and with groups
KINDS = [RLM, *ROW_KINDS, *CLUSTER_KINDS, BOOTSTRAP, LEAST_SQUARES]
PREDICTION, SIMPLE_PREDICTION = "jackknife", "fit ± t √(MAD² + se²)"


class Sample(NamedTuple):
    X: np.ndarray
    y: np.ndarray
    groups: np.ndarray | None


def independent(draw):
    """Return a function that draws a Sample of independent rows with errors draw(rng, X)."""

    def sample(rng, n, p):
        X = features(rng, n, p)
        return Sample(X, draw(rng, X), None)

    return sample


def features(rng, n, p):
    X = rng.normal(size=(n, p))
    X[:, 1] = (rng.chisquare(2, n) - 2) / 2
    return X


def contaminated(rng, X):
    size = np.where(rng.random(len(X)) < 0.1, 10, 1)
    return size * rng.normal(size=len(X))


def in_clusters(rng, n, p):
    """Return a Sample whose rows form clusters.

    Half of the error variance and nearly all of the variance of x₁ are between clusters.
    """
    n_groups = 10 if n < 100 else 20
    groups = np.arange(n) % n_groups
    X = features(rng, n, p)
    X[:, 0] = rng.normal(size=n_groups)[groups] + 0.1 * X[:, 0]
    return Sample(X, rng.normal(size=n_groups)[groups] + rng.normal(size=n), groups)


CLUSTERED, LOGNORMAL = "clustered", "lognormal"
ERRORS = {
    "normal": independent(lambda rng, X: rng.normal(size=len(X))),
    "t(3)": independent(lambda rng, X: rng.standard_t(3, len(X))),
    "10 % × 10": independent(contaminated),
    "exp(.7 x₁) normal": independent(
        lambda rng, X: np.exp(0.7 * X[:, 0]) * rng.normal(size=len(X))
    ),
    "exp(.7 x₁) t(3)": independent(
        lambda rng, X: np.exp(0.7 * X[:, 0]) * rng.standard_t(3, len(X))
    ),
    LOGNORMAL: independent(lambda rng, X: rng.lognormal(size=len(X))),
    CLUSTERED: in_clusters,
}
CELLS = [(errors, n, p) for errors in ERRORS for n, p in SHAPES]


def true_intercepts():
    """Return the true intercepts of the Huber fit and of least squares for lognormal errors.

    All true slopes are zero, without loss of generality, because the estimators are
    equivariant.
    """
    lognormal = np.exp(norm.ppf((np.arange(1_000_000) + 0.5) / 1_000_000))
    fit = SmoothL1Regressor().fit(np.zeros((lognormal.size, 1)), lognormal)
    return float(fit.intercept_), float(np.exp(0.5))


def intervals(sample, kinds, bootstrap):
    """Return the fitted model, a dict of the intervals of each kind in KINDS, and a table.

    The table is the coefficient table with the default covariance, from which prediction
    intervals are computed.
    """
    X, y, groups = sample
    fit = SmoothL1Regressor().fit(X, y)
    tables = {kind: coefficient_table(fit, X, y, **ROW_KINDS[kind]) for kind in ROW_KINDS}
    if groups is not None:
        for kind, options in CLUSTER_KINDS.items():
            tables[kind] = coefficient_table(fit, X, y, groups=groups, **options)
    if bootstrap:
        tables[BOOTSTRAP] = coefficient_table(
            fit, X, y, covariance="bootstrap", groups=groups, random_state=0
        )
    least_squares = SmoothL1Regressor(beta=1e6 * np.std(y)).fit(X, y)
    tables[LEAST_SQUARES] = coefficient_table(least_squares, X, y)
    found = {kind: table.conf_int(LEVEL) for kind, table in tables.items()}
    if RLM in kinds:
        found[RLM] = sm.RLM(y, sm.add_constant(X)).fit().conf_int(1 - LEVEL)
    return fit, found, tables[DEFAULTS[groups is not None]]


def prediction_intervals(fit, default, X):
    """Return a dict of prediction intervals, computed from a table and by a simple formula.

    The formula combines the scale and the standard error of the fitted value.
    """
    fitted, lower, upper = default.predict(X, LEVEL).T
    mean_error = (upper - lower) / 2 / t.ppf((1 + LEVEL) / 2, default.df)
    reach = t.ppf((1 + LEVEL) / 2, default.df) * np.hypot(fit.scale_, mean_error)
    return {
        PREDICTION: default.predict_interval(X, LEVEL)[:, 1:],
        SIMPLE_PREDICTION: np.column_stack([fitted - reach, fitted + reach]),
    }


def simulate(cell, seeds, truths, n_bootstrap):
    """Return a dict that maps each kind of interval to its outcomes in the given replications.

    The outcomes form an array of shape (replications, 2, number of intervals); see `outcome`.
    """
    errors, n, p = CELLS[cell]
    found = {}
    kinds = [kind for kind in KINDS if kind != RLM or n <= 100]
    with threadpool_limits(1), warnings.catch_warnings():
        # Warnings about the scale and about unavailable standard errors are expected.
        warnings.simplefilter("ignore")
        for seed in seeds:
            rng = np.random.default_rng([cell, seed])
            sample, new = ERRORS[errors](rng, n, p), ERRORS[errors](rng, N_NEW, p)
            bootstrap = seed < n_bootstrap and n <= 100 and n / (p + 1) >= ENOUGH_ROWS
            fit, every, default = intervals(sample, kinds, bootstrap)
            for kind, ends in every.items():
                truth = np.zeros(p + 1)
                if errors == LOGNORMAL:
                    truth[0] = truths[kind == LEAST_SQUARES]
                found.setdefault(kind, []).append(outcome(ends, truth))
            for kind, ends in prediction_intervals(fit, default, new.X).items():
                found.setdefault(kind, []).append(outcome(ends, new.y))
    return {kind: np.array(outcomes) for kind, outcomes in found.items()}


def outcome(ends, truth):
    """Return an array of two rows: whether each interval covers the truth, and its half-width.

    An interval whose ends are NaN does not cover the truth.
    """
    lower, upper = ends.T
    return np.array([(lower <= truth) & (truth <= upper), (upper - lower) / 2])


def simulate_all(n_replications, n_bootstrap):
    """Simulate all cells in two processes; return {cell: {kind of interval: outcomes}}.

    The outcomes do not depend on the number of processes.
    """
    truths = true_intercepts()
    bounds = [*range(0, n_replications, CHUNK), n_replications]
    chunks = [range(*pair) for pair in pairwise(bounds)]
    results = {}
    with ProcessPoolExecutor(2) as pool:
        jobs = {
            cell: [pool.submit(simulate, i, chunk, truths, n_bootstrap) for chunk in chunks]
            for i, cell in enumerate(CELLS)
        }
        for cell, parts in jobs.items():
            parts = [part.result() for part in parts]
            kinds = dict.fromkeys(kind for part in parts for kind in part)
            results[cell] = {
                kind: np.concatenate([part[kind] for part in parts if kind in part])
                for kind in kinds
            }
            default = Coverage.of(results[cell][DEFAULTS[cell[0] == CLUSTERED]])
            print(f"{cell[0]:20} n = {cell[1]:4}, {cell[2]:2} slopes: {default}", flush=True)
    return results


class Coverage(NamedTuple):
    """Percentages of intervals that cover the truth, and the median half-width for slopes."""

    slopes: float
    x1: float
    intercept: float
    half_width: float

    @classmethod
    def of(cls, outcomes):
        covered, widths = 100 * outcomes[:, 0], outcomes[:, 1]
        return cls(
            covered[:, 1:].mean(),
            covered[:, 1].mean(),
            covered[:, 0].mean(),
            np.nanmedian(widths[:, 1:]),
        )

    def __str__(self):
        return f"{self.slopes:.0f} {self.x1:.0f} {self.intercept:.0f} ({self.half_width:.2g})"


def bars(found):
    """Return the text of each limit, whether it is met, and the range of the coverage."""
    plain = [c for c in CELLS if c[0] != CLUSTERED and c[1] / (c[2] + 1) >= ENOUGH_ROWS]
    skewed = [c for c in CELLS if c[0] == LOGNORMAL and c[1] >= 100]
    clustered = [c for c in CELLS if c[0] == CLUSTERED]
    slopes = {c: found[c]["HC3 joint"].slopes for c in plain}
    intercepts = {c: found[c]["HC3 joint"].intercept for c in skewed}
    x1 = {c: found[c]["CR3"].x1 for c in clustered}
    return [
        bar("(a) HC3 joint covers the slopes in 93 to 98 %, n/p ≥ 7", slopes, 93, 98),
        bar("(b) HC3 joint covers the intercept in ≥ 91 %, skewed, n ≥ 100", intercepts, 91),
        bar("(c) CR3 covers x₁ in ≥ 90 %, clustered", x1, 90),
    ]


def bar(text, values, lowest, highest=100.0):
    low, high = min(values, key=values.get), max(values, key=values.get)
    holds = lowest <= values[low] and values[high] <= highest
    ends = [f"{values[cell]:.1f} ({cell[0]}, {cell[1]} × {cell[2]})" for cell in (low, high)]
    return text, holds, " to ".join(ends)


def summary(found):
    """Return a table of the range of the coverage over the cells with enough rows, by kind."""
    rows = []
    for kind in KINDS:
        row = [kind]
        for clustered in [False, True]:
            cells = [
                found[c][kind]
                for c in CELLS
                if (c[0] == CLUSTERED) == clustered
                and c[1] / (c[2] + 1) >= ENOUGH_ROWS
                and kind in found[c]
            ]
            for part in ["slopes", "x1", "intercept"]:
                values = [getattr(cell, part) for cell in cells]
                row.append(f"{min(values):.0f}–{max(values):.0f}" if values else "–")
        rows.append(row)
    header = ["", "slopes", "x₁", "intercept", *[f"clustered: {s}" for s in ("slopes", "x₁")]]
    return table([*header, "intercept"], rows)


def report(results, n_replications, n_bootstrap):
    found = {
        cell: {kind: Coverage.of(kinds[kind]) for kind in KINDS if kind in kinds}
        for cell, kinds in results.items()
    }
    judged = bars(found)
    shapes = [f"{n} × {p}" for n, p in SHAPES]
    text = [
        "# Coverage of 95 % intervals\n",
        f"`python -m benchmarks.coverage`, {n_replications} replications "
        f"({min(n_replications, n_bootstrap)} of the bootstrap, n ≤ 100, n/p ≥ {ENOUGH_ROWS}). "
        f"{described(machine())}\n",
        "The features are normal, except for the second, which is (χ²₂ − 2)/2. The "
        "intervals are t intervals, except for RLM, which uses the normal distribution, and "
        "for the bootstrap, which uses percentiles. The models have default parameters. HC2 "
        "with Bell and McCaffrey's degrees of freedom, CR and the bootstrap use the joint "
        "scale. In the clustered samples, the errors and x₁ are correlated within 10 (n = 30) "
        "or 20 clusters.\n",
        "## Limits of the coverage\n",
        table(
            ["", "holds", "from … to"],
            [[what, "yes" if holds else "**no**", ends] for what, holds, ends in judged],
        ),
        f"\n## Range over the samples with n/p ≥ {ENOUGH_ROWS}\n",
        "Lowest and highest coverage in per cent over the distributions and shapes.\n",
        summary(found),
        "\n## All samples\n",
        "Coverage in per cent: the mean over the slopes, for x₁ and for the intercept (median "
        "half width for the slopes). The columns are n × slopes.",
    ]
    for errors in ERRORS:
        rows = [
            [kind, *[str(found[errors, n, p].get(kind, "–")) for n, p in SHAPES]]
            for kind in KINDS
            if any(kind in found[errors, n, p] for n, p in SHAPES)
        ]
        text += [f"\n### {errors} errors\n", table(["", *shapes], rows)]
    text += [
        "\n## Prediction intervals\n",
        "Percentage of new rows that are covered (median half width). In clustered samples, "
        "the new rows belong to new clusters.\n",
        table(["", "", *shapes], prediction_rows(results)),
    ]
    return found, judged, "\n".join(text)


def prediction_rows(results):
    rows = []
    for kind in [PREDICTION, SIMPLE_PREDICTION]:
        for errors in ERRORS:
            cells = [results[errors, n, p][kind] for n, p in SHAPES]
            values = [f"{100 * c[:, 0].mean():.1f} ({np.median(c[:, 1]):.2g})" for c in cells]
            rows.append([kind, errors, *values])
    return rows


def draw(found, path):
    """Draw the coverage for the coefficient of x₁.

    This coefficient is shown because the error variance of some data sets depends on x₁, and x₁
    of others depends on the cluster.
    """
    figure, axes = plt.subplots(1, len(ERRORS), figsize=(14, 5), sharex=True, sharey=True)
    ns = sorted({n for n, _ in SHAPES})
    for ax, errors in zip(axes, ERRORS, strict=True):
        ax.axvline(100 * LEVEL, color="0.7", linewidth=0.8)
        for n, p in SHAPES:
            cell = found[errors, n, p]
            ax.plot(
                [max(cell[kind].x1, 40) for kind in cell],
                [KINDS.index(kind) for kind in cell],
                "o" if p == 3 else "d",
                color=COLOURS[1 + ns.index(n)],
                markersize=4,
                label=f"n = {n}, {p} slopes",
            )
        ax.set_title(errors, fontsize=9)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(KINDS)), KINDS)
    axes[0].invert_yaxis()
    axes[0].set_xlim(39, 101)
    figure.supxlabel("95 % intervals that contain the coefficient of x₁ [%]", fontsize=10)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="upper center", ncols=6)
    figure.tight_layout(rect=(0, 0, 1, 0.93))
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replications", type=int, default=1000)
    parser.add_argument("--bootstraps", type=int, default=200, help="at most --replications")
    options = parser.parse_args()
    counts = options.replications, options.bootstraps
    results, seconds = timed(simulate_all, *counts)
    found, judged, text = report(results, *counts)
    print(f"{seconds:.0f} s")
    write(RESULTS, "coverage.md", text)
    draw(found, RESULTS / "coverage.png")
    for what, holds, ends in judged:
        print(f"{what}: {'holds' if holds else 'DOES NOT HOLD'}, {ends}")
    sys.exit(not all(holds for _, holds, _ in judged))


if __name__ == "__main__":
    main()
