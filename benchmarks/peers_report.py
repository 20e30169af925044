"""Performance targets, tables and figure of the report of benchmarks.peers."""

import math
from typing import NamedTuple

import numpy as np

from . import COLOURS, cold_start, described, in_seconds, table
from .scenarios import (
    AUTO,
    BETA,
    COLUMNS,
    CONCOMITANT,
    EPSILON,
    FIXED,
    HUBER,
    LINEAR,
    PINBALL,
    QUANTILE,
    RIDGE,
    RIDGE_CG,
    RLM_,
    SGD,
    SKGLM,
    SPARSE_WIDE_SHAPES,
    TINY,
    sparse_wide_names,
)

# A solution with a larger relative excess of the objective is not regarded as the minimiser.
WRONG = 1e-5
# The memory relative to X is stated only for at least this many rows.
SMALL = 1_000
# Text reported for a fit that raised an error.
FAILED = "failed"
# Text reported for a target that is not met.
MISSED = "MISSED"
# Memory that a fit to wide sparse X may use in addition to three times the size of X: VECTORS
# vectors of n + p numbers and, if m = min(n, p) is at most GRAM, an m × m matrix.
VECTORS, GRAM = 30, 2_000


class Target(NamedTuple):
    """An upper limit on a quantity, and a stretch target.

    For each pair of rows of the report, the quantity of the first row is divided by that of the
    second row, or the difference is taken if the quantity is "excess". If a pair has a single
    row, the quantity of this row is used. The largest value over the pairs is compared with the
    limit. A row is given as (scenario, label).
    """

    what: str
    target: float
    stretch: float
    pairs: list
    quantity: str = "time"


def _rows(scenario, *labels):
    """Return the (scenario, label) tuples of rows of a scenario."""
    return tuple((scenario, label) for label in labels)


def _variants(scenario, variants, base, kinds=(FIXED,)):
    return [_rows(scenario, f"{k}, {v}", f"{k}, {base}") for k in kinds for v in variants]


_EVEN = ["light", "unequal scales", "correlated"]
_TAILS = ["leverage points", "rare levels", "t(1.5)"]
# Rows of the report with dense X that has at least 1,000 rows per feature.
_TALL = [
    *((s, k) for s in ("medium", "tall") for k in (FIXED, AUTO, CONCOMITANT)),
    *(("tall hard", f"{k}, {c}") for k in (FIXED, AUTO) for c in COLUMNS),
    *(("dtype", f"{k}, {v}") for k in (FIXED, AUTO) for v in ("float32", "float64")),
    *(("layout", f"{k}, {v}") for k in (FIXED, AUTO) for v in ("C", "Fortran", "DataFrame")),
    *(("weights", f"{k}, {v}") for k in (FIXED, AUTO) for v in ("none", "weights")),
    *(("targets", f"{k}, {v}") for k in (FIXED, AUTO) for v in ("one", "four")),
]
_WIDE = [name for shape in SPARSE_WIDE_SHAPES for name in sparse_wide_names(*shape)]
# fmt: off
TARGETS = [
    Target("fixed β in X @ w, 500,000 × 100", 12, 8, [(("tall", FIXED),)], "products"),
    Target("fixed β in X @ w, 100,000 × 50", 15, 9, [(("medium", FIXED),)], "products"),
    Target("fixed β over Ridge(cholesky), 500,000 × 100", 0.45, 0.3,
        [_rows("tall", FIXED, RIDGE)]),
    Target("fixed β over Ridge(cholesky), 100,000 × 50", 0.8, 0.5,
        [_rows("medium", FIXED, RIDGE)]),
    Target("fixed β over Ridge(cholesky), 20,000 × 1,000", 1.3, 1.0,
        [_rows("wide", FIXED, RIDGE)]),
    Target("concomitant over HuberRegressor, 500,000 × 100", 1 / 14, 1 / 25,
        [_rows("tall", CONCOMITANT, HUBER)]),
    Target("concomitant over HuberRegressor, 100,000 × 50", 1 / 8, 1 / 15,
        [_rows("medium", CONCOMITANT, HUBER)]),
    Target("passes, fixed β, any scales and correlations, 500,000 × 100", 10, 6,
        [(("tall hard", f"{FIXED}, {c}"),) for c in _EVEN], "passes"),
    Target("passes, leverage or rare levels over light tails", 3, 1.25,
        _variants("tall hard", _TAILS[:2], "light"), "passes"),
    Target("passes, t(1.5) over light tails", 3, 1.5,
        _variants("tall hard", _TAILS[2:], "light"), "passes"),
    Target('"auto" over fixed β, 500,000 × 100', 1.5, 1.2, [_rows("tall", AUTO, FIXED)]),
    Target('"auto" over fixed β, 100,000 × 50', 1.5, 1.2, [_rows("medium", AUTO, FIXED)]),
    Target('"auto" over fixed β, 20,000 × 1,000', 1.5, 1.2, [_rows("wide", AUTO, FIXED)]),
    Target("weights over none, 200,000 × 50", 1.3, 1.0,
        _variants("weights", ["weights"], "none")),
    Target("column-major over row-major, 200,000 × 50", 1.4, 1.0,
        _variants("layout", ["Fortran"], "C")),
    Target("DataFrame over row-major, 200,000 × 50", 1.4, 1.0,
        _variants("layout", ["DataFrame"], "C")),
    Target("float32 over float64, 200,000 × 50", 0.85, 0.6,
        _variants("dtype", ["float32"], "float64")),
    Target("β = 1e-6 σ over QuantileRegressor, 20,000 × 50", 1 / 1000, 1 / 1000,
        [_rows("small beta", TINY, QUANTILE)]),
    Target("β = 1e-6 σ over the interior point of pinball-qr, 20,000 × 50", 1 / 5, 1 / 20,
        [_rows("small beta", TINY, PINBALL)]),
    Target("β = 1e-6 σ, objective above LAD", 1e-7, 1e-8, [(("small beta", TINY),)], "excess"),
    Target("sparse concomitant over HuberRegressor, 100,000 × 2,000 at 1 %", 1 / 8, 1 / 16,
        [_rows("sparse", CONCOMITANT, HUBER)]),
    Target("sparse concomitant in X @ w and X.T @ r, 100,000 × 2,000 at 1 %", 30, 20,
        [(("sparse", CONCOMITANT),)], "pairs of products"),
    *(Target(f"sparse concomitant over 100 iterations of HuberRegressor, {n:,} × {p:,}", 1.0,
          0.2, [_rows(name, CONCOMITANT, HUBER) for name in sparse_wide_names(n, p)])
      for n, p, _ in SPARSE_WIDE_SHAPES),
    Target("sparse fixed β and auto over HuberRegressor, four wide shapes", 1.0, 0.2,
        [_rows(name, kind, HUBER) for name in _WIDE for kind in (FIXED, AUTO)]),
    Target("excess of the objective minus that of HuberRegressor, four wide shapes", 1e-8, 0.0,
        [_rows(name, CONCOMITANT, HUBER) for name in _WIDE], "excess"),
    Target("memory over the allowed memory, four wide shapes", 1.0, 0.5,
        [((name, kind),) for name in _WIDE for kind in (FIXED, AUTO, CONCOMITANT)],
        "allowance"),
    Target("concomitant over HuberRegressor, 200 × 5", 1.0, 0.6,
        [_rows("small", CONCOMITANT, HUBER)]),
    Target('"auto" over HuberRegressor, 200 × 5', 1.0, 0.5, [_rows("small", AUTO, HUBER)]),
    Target("memory in addition to X, relative to X, n ≥ 1000 p", 0.10, 0.02,
        [(row,) for row in _TALL], "memory"),
]
# fmt: on
# The unit in which the time of a row is expressed, for each quantity that is a time.
UNITS = {
    "time": lambda row: 1.0,
    "products": lambda row: row["X @ w"],
    "pairs of products": lambda row: row["X @ w"] + row["X.T @ r"],
}


def measured(target, results):
    """Return the largest value over a target's pairs, for the medians and the fastest runs.

    Both values are None if a row is missing. The value for the fastest runs is also None if the
    quantity is not a time.
    """
    found = {(name, row["label"]): row for name, rows in results.items() for row in rows}
    pairs = [[found.get(row) for row in pair] for pair in target.pairs]
    if not all(map(all, pairs)):
        return {"measured": None, "fastest": None}

    def worst(time):
        compared = [compare(target.quantity, time, *pair) for pair in pairs]
        return max((value for value in compared if value is not None), default=None)

    fastest = worst("fastest") if target.quantity in UNITS else None
    return {"measured": worst("median"), "fastest": fastest}


def compare(quantity, time, row, other=None):
    """Return a quantity of a row, relative to the row `other` if it is given.

    The result is infinite if the fit was stopped, and None if `other` has no value.
    """
    if row["stopped"]:
        return math.inf
    value = amount(row, quantity, time)
    if other is None:
        return value
    reference = amount(other, quantity, time)
    if reference is None:
        return None
    return value - reference if quantity == "excess" else value / reference


def amount(row, quantity, time):
    if quantity in UNITS:
        return None if row[time] is None else row[time] / UNITS[quantity](row)
    if quantity == "memory":
        return row["memory"]["share"]
    if quantity == "allowance":
        size, shorter = row["n"] + row["p"], min(row["n"], row["p"])
        numbers = VECTORS * size + (shorter**2 if shorter <= GRAM else 0)
        bytes_, share = row["memory"]["bytes"], row["memory"]["share"]
        return bytes_ / (3 * bytes_ / share + 8 * numbers)
    return row[quantity]


def judged(results, first_fit):
    """Return a dict of results for each target that involves a scenario that was run.

    The list of dicts is the item "bars" of the JSON file. In each dict, "bar" is the target and
    "hope" is the stretch target.
    """
    found = [
        {"what": target.what, "bar": target.target, "hope": target.stretch}
        | {"unit": target.quantity}
        | measured(target, results)
        for target in TARGETS
        if any(row[0] in results for pair in target.pairs for row in pair)
    ]
    for name, seconds in (first_fit or {}).items():
        target, stretch = cold_start.TARGETS[name]
        found.append(
            {"what": f"first fit in a fresh process, {name}", "bar": target, "hope": stretch}
            | {"unit": "seconds", "measured": seconds, "fastest": None}
        )
    return found


def verdict(found):
    """Return text that states whether the medians and the fastest runs both meet a target."""
    if found["measured"] is None:
        return "not measured"
    worst = max(found["measured"], found["fastest"] or 0.0)
    if worst > found["bar"]:
        return MISSED
    return "met, with stretch target" if worst <= found["hope"] else "met"


FORMATS = {
    "time": lambda value: f"1/{1 / value:.3g}" if 0 < value < 0.15 else f"{value:.2f}",
    "products": lambda value: f"{value:.1f}",
    "pairs of products": lambda value: f"{value:.1f}",
    "passes": lambda value: f"{value:.3g}",
    "memory": lambda value: f"{100 * value:.3g} %",
    "allowance": lambda value: f"{value:.2f}",
    "excess": lambda value: f"{value:.1g}",
    "seconds": lambda value: f"{value:.2f} s",
}


def targets_table(targets):
    rows = []
    for found in targets:
        values = [found[name] for name in ("measured", "fastest", "bar", "hope")]
        figures = ["" if value is None else FORMATS[found["unit"]](value) for value in values]
        rows.append([found["what"], *figures, verdict(found)])
    header = ["quantity", "medians", "fastest runs", "target", "stretch target", "result"]
    return table(header, rows)


def scenario_table(rows):
    """Return the table of a scenario; times are relative to the first row and to X @ w."""
    header = ["", "median", "fastest", "runs", "ratio", "/ X @ w", "excess", "passes"]
    base = None if rows[0]["stopped"] else rows[0]["median"]
    return table([*header, "memory", "/ X"], [scenario_cells(row, base) for row in rows])


def scenario_cells(row, base):
    bytes_, share = (row["memory"] or {"bytes": None, "share": None}).values()
    at_least = "> " if row["stopped"] else ""
    median, fastest = in_seconds(row["median"] or 0.0), in_seconds(row["fastest"] or 0.0)
    return [
        row["label"],
        row["stopped"] or median,
        "" if row["stopped"] else fastest,
        len(row["times"]),
        "" if None in (row["median"], base) else f"{at_least}{row['median'] / base:.3g}",
        "" if row["median"] is None else f"{at_least}{row['median'] / row['X @ w']:.3g}",
        "" if row["excess"] is None else f"{max(row['excess'], 0):.0e}",
        "" if row["passes"] is None else f"{row['passes']:.3g}",
        "" if bytes_ is None else f"{at_least}{bytes_ / 1e6:.3g} MB",
        "" if share is None or row["n"] < SMALL else f"{at_least}{share:.2g}",
    ]


NOTES = f"""Times are for one call of `fit`. All fits run in one process, and the rows of a
table run in turn. "Ratio" is the time divided by that of the first row. "/ X @ w" is the time
divided by that of the product X @ w on the same machine. "> 15 s" stands for a fit that was
stopped after this time; its memory is the peak until then.

"Excess" is the relative excess of the objective over the lowest value that any row with the
same objective reached, with or without one more Newton step. At the minimum it is 0e+00. If it
is above {WRONG:.0e}, the solution is not the minimiser. If an objective is below 1e-6 of the
mean absolute deviation of y, because all rows can be fitted exactly, the excess is relative to
1e-6 of this deviation.

{FIXED}, {SKGLM} (its Huber datafit, coordinate descent without a penalty) and {SGD} minimise
the Huber loss at β = {BETA}. {AUTO} and {RLM_} from statsmodels use a threshold of 1.345 MADs
of the residuals. {CONCOMITANT} and {HUBER}(alpha=0, max_iter=1000) minimise the concomitant
objective with ε = {EPSILON}. The α in a title is the penalty of {HUBER}, which then has its
default limit of 100 iterations; SmoothL1Regressor has the same objective with alpha = α / n and
loss="huber". {SGD} is fitted to scaled columns. Ridge and LinearRegression are least-squares
fits, whose times serve as a reference.

"Passes" is the number of passes of the solver over all rows of X. It excludes the passes for
the column moments (one or two, if a uniform sample of rows is not sufficient) and for Gram
matrices of all rows. "Memory" is the peak memory in addition to the input, measured by
tracemalloc in a separate run; "/ X" is the memory divided by the size of X. tracemalloc does
not measure the memory of HiGHS and BLAS. The allowed memory of a fit to wide sparse X is three
times the size of X, {VECTORS} vectors of n + p numbers and, if min(n, p) is at most {GRAM:,}, a
square matrix of order min(n, p).

In the table of targets, "a over b" is the time of a divided by the time of b, and "a in X @ w"
is the time of a divided by the time of the product. A target is met if both the medians and the
fastest runs meet it."""


def report(record):
    """Return the text of the Markdown file, given the contents of the JSON file."""
    where = "`python -m benchmarks.peers`: " + described(record["machine"])
    parts = ["# Comparison with peers", where + record["rows"]]
    parts += ["## Targets", targets_table(record["bars"]), "## Scenarios", NOTES]
    for name, rows in record["scenarios"].items():
        parts += [f"### {record['titles'][name]}", scenario_table(rows)]
    return "\n\n".join(parts)


# Colour and marker of each estimator.
STYLES = {
    FIXED: (COLOURS[0], "o"),
    AUTO: (COLOURS[1], "o"),
    CONCOMITANT: (COLOURS[2], "o"),
    RIDGE: (COLOURS[0], "|"),
    RIDGE_CG: (COLOURS[5], "|"),
    LINEAR: (COLOURS[4], "|"),
    HUBER: (COLOURS[2], "s"),
    RLM_: (COLOURS[1], "D"),
    SKGLM: (COLOURS[3], "^"),
    SGD: (COLOURS[5], "v"),
    QUANTILE: (COLOURS[6], "P"),
    PINBALL: (COLOURS[6], "X"),
    TINY: (COLOURS[6], "o"),
}


def draw(record, path):
    """Draw the times of the estimators in each scenario and, below them, the targets."""
    import matplotlib.pyplot as plt

    figure, (upper, lower) = plt.subplots(2, 1, figsize=(11, 22), layout="constrained")
    draw_times(upper, record)
    draw_targets(lower, record["bars"])
    for axes in (upper, lower):
        axes.set_ylim(len(axes.get_yticks()) - 0.4, -0.6)
        axes.set_xscale("log")
        axes.grid(axis="x", color="0.9")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def draw_times(axes, record):
    """Draw a line of markers for each scenario that has HuberRegressor or QuantileRegressor."""
    compared = {
        record["titles"][name]: rows
        for name, rows in record["scenarios"].items()
        if any(row["label"] in (HUBER, QUANTILE) for row in rows)
    }
    for line, rows in enumerate(compared.values()):
        axes.axhspan(line - 0.45, line + 0.45, color="0.96", zorder=0)
        rows = [row for row in rows if row["label"] in STYLES and row["median"] is not None]
        for offset, row in zip(np.linspace(-0.35, 0.35, len(rows)), rows, strict=True):
            colour, marker = STYLES[row["label"]]
            wrong = row["excess"] is not None and row["excess"] > WRONG
            face = "white" if wrong else colour
            mark = {"marker": marker, "color": colour, "markerfacecolor": face}
            axes.plot(row["median"], line + offset, markersize=8, markeredgewidth=2, **mark)
    for label, (colour, marker) in STYLES.items():
        axes.plot([], [], marker, color=colour, label=label, markersize=8, markeredgewidth=2)
    axes.plot(
        [], [], "o", color="0.4", markerfacecolor="white", label="hollow: not the minimiser"
    )
    axes.set_yticks(range(len(compared)), compared)
    axes.set_xlabel("median fit time in seconds, or the time limit")
    axes.set_title("Fit time")


def draw_targets(axes, targets):
    """Draw measured values and stretch targets, divided by the targets.

    The measured value is the larger of the values for the medians and for the fastest runs.
    """
    for line, found in enumerate(targets):
        if found["measured"] is None:
            continue
        missed = verdict(found) == MISSED
        colour = COLOURS[2] if missed else COLOURS[1]
        share = max(found["measured"], found["fastest"] or 0.0) / found["bar"]
        share = min(max(share, 3e-3), 1e3)  # limited to the range of the axis
        axes.plot([share, 1], [line, line], color=colour, alpha=0.4)
        axes.plot(share, line, "X" if missed else "o", color=colour, markersize=9)
        stretch = max(found["hope"] / found["bar"], 3e-3)
        axes.plot(stretch, line, "|", color="0.4", markersize=14)
    axes.axvline(1, color="black")
    axes.plot([], [], "o", color=COLOURS[1], label="measured, target met")
    axes.plot([], [], "X", color=COLOURS[2], label="measured, target missed")
    axes.plot([], [], "|", color="0.4", markersize=14, label="stretch target")
    axes.set_yticks(range(len(targets)), [found["what"] for found in targets])
    axes.set_xlabel("measured value / target (smaller is better)")
    axes.set_title("Performance targets")
