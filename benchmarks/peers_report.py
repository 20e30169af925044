"""The bars of the design, the tables and the pictures of benchmarks.peers."""

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

# Above the minimum by this much, relatively, is another answer.
WRONG = 1e-5
# Memory is not compared with X of fewer rows than this.
SMALL = 1_000


# The end of a fit that raised an error.
FAILED = "failed"
# The memory that a wide sparse fit may take beside three times X: vectors of n + p numbers, and
# a square matrix of the size of the smaller of n and p where this is not larger than GRAM.
VECTORS, GRAM = 30, 2_000


class Bar(NamedTuple):
    """A number to reach: the largest over pairs of rows (one, the other) of a quantity.

    Rows are (scenario, label); without another the quantity itself is measured.
    """

    what: str
    bar: float
    hope: float
    pairs: list
    quantity: str = "time"


def _rows(scenario, *labels):
    """One row over the other."""
    return tuple((scenario, label) for label in labels)


def _variants(scenario, variants, base, kinds=(FIXED,)):
    return [_rows(scenario, f"{k}, {v}", f"{k}, {base}") for k in kinds for v in variants]


_EVEN = ["light", "unequal scales", "correlated"]
_TAILS = ["leverage points", "rare levels", "t(1.5)"]
# Dense, and 1,000 rows a feature or more.
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
BARS = [
    Bar("fixed β in X @ w, 500,000 × 100", 12, 8, [(("tall", FIXED),)], "products"),
    Bar("fixed β in X @ w, 100,000 × 50", 15, 9, [(("medium", FIXED),)], "products"),
    Bar("fixed β over Ridge(cholesky), 500,000 × 100", 0.45, 0.3,
        [_rows("tall", FIXED, RIDGE)]),
    Bar("fixed β over Ridge(cholesky), 100,000 × 50", 0.8, 0.5,
        [_rows("medium", FIXED, RIDGE)]),
    Bar("fixed β over Ridge(cholesky), 20,000 × 1,000", 1.3, 1.0,
        [_rows("wide", FIXED, RIDGE)]),
    Bar("concomitant over HuberRegressor, 500,000 × 100", 1 / 14, 1 / 25,
        [_rows("tall", CONCOMITANT, HUBER)]),
    Bar("concomitant over HuberRegressor, 100,000 × 50", 1 / 8, 1 / 15,
        [_rows("medium", CONCOMITANT, HUBER)]),
    Bar("passes, fixed β, whatever scales and correlations, 500,000 × 100", 10, 6,
        [(("tall hard", f"{FIXED}, {c}"),) for c in _EVEN], "passes"),
    Bar("passes, leverage or rare levels over light tails", 3, 1.25,
        _variants("tall hard", _TAILS[:2], "light"), "passes"),
    Bar("passes, t(1.5) over light tails", 3, 1.5,
        _variants("tall hard", _TAILS[2:], "light"), "passes"),
    Bar('"auto" over fixed β, 500,000 × 100', 1.5, 1.2, [_rows("tall", AUTO, FIXED)]),
    Bar('"auto" over fixed β, 100,000 × 50', 1.5, 1.2, [_rows("medium", AUTO, FIXED)]),
    Bar('"auto" over fixed β, 20,000 × 1,000', 1.5, 1.2, [_rows("wide", AUTO, FIXED)]),
    Bar("weights over none, 200,000 × 50", 1.3, 1.0, _variants("weights", ["weights"], "none")),
    Bar("column-major over row-major, 200,000 × 50", 1.4, 1.0,
        _variants("layout", ["Fortran"], "C")),
    Bar("DataFrame over row-major, 200,000 × 50", 1.4, 1.0,
        _variants("layout", ["DataFrame"], "C")),
    Bar("float32 over float64, 200,000 × 50", 0.85, 0.6,
        _variants("dtype", ["float32"], "float64")),
    Bar("β = 1e-6 σ over QuantileRegressor, 20,000 × 50", 1 / 1000, 1 / 1000,
        [_rows("small beta", TINY, QUANTILE)]),
    Bar("β = 1e-6 σ over the interior point of pinball-qr, 20,000 × 50", 1 / 5, 1 / 20,
        [_rows("small beta", TINY, PINBALL)]),
    Bar("β = 1e-6 σ, objective above LAD", 1e-7, 1e-8, [(("small beta", TINY),)], "excess"),
    Bar("sparse concomitant over HuberRegressor, 100,000 × 2,000 at 1 %", 1 / 8, 1 / 16,
        [_rows("sparse", CONCOMITANT, HUBER)]),
    Bar("sparse concomitant in X @ w and X.T @ r, 100,000 × 2,000 at 1 %", 30, 20,
        [(("sparse", CONCOMITANT),)], "pairs of products"),
    *(Bar(f"sparse concomitant over 100 iterations of HuberRegressor, {n:,} × {p:,}", 1.0, 0.2,
          [_rows(name, CONCOMITANT, HUBER) for name in sparse_wide_names(n, p)])
      for n, p, _ in SPARSE_WIDE_SHAPES),
    Bar("sparse fixed β and auto over the same, all four shapes", 1.0, 0.2,
        [_rows(name, kind, HUBER) for name in _WIDE for kind in (FIXED, AUTO)]),
    Bar("objective above best less HuberRegressor's, all four shapes", 1e-8, 0.0,
        [_rows(name, CONCOMITANT, HUBER) for name in _WIDE], "excess"),
    Bar("memory over what is allowed, all four shapes", 1.0, 0.5,
        [((name, kind),) for name in _WIDE for kind in (FIXED, AUTO, CONCOMITANT)],
        "allowance"),
    Bar("concomitant over HuberRegressor, 200 × 5", 1.0, 0.6,
        [_rows("small", CONCOMITANT, HUBER)]),
    Bar('"auto" over HuberRegressor, 200 × 5', 1.0, 0.5, [_rows("small", AUTO, HUBER)]),
    Bar("memory beyond X, of its bytes, n ≥ 1000 p", 0.10, 0.02,
        [(row,) for row in _TALL], "memory"),
]
# fmt: on
# What a time is divided by.
UNITS = {
    "time": lambda row: 1.0,
    "products": lambda row: row["X @ w"],
    "pairs of products": lambda row: row["X @ w"] + row["X.T @ r"],
}


def measured(bar, results):
    """The worst over the pairs, of medians and of the fastest runs; None if it was not run."""
    found = {(name, row["label"]): row for name, rows in results.items() for row in rows}
    pairs = [[found.get(row) for row in pair] for pair in bar.pairs]
    if not all(map(all, pairs)):
        return {"measured": None, "fastest": None}

    def worst(time):
        compared = [compare(bar.quantity, time, *pair) for pair in pairs]
        return max((value for value in compared if value is not None), default=None)

    fastest = worst("fastest") if bar.quantity in UNITS else None
    return {"measured": worst("median"), "fastest": fastest}


def compare(quantity, time, row, other=None):
    """A quantity of one row, over or above that of the other; None if the other has none."""
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
    """A dict for each bar of a scenario that was run."""
    found = [
        {"what": bar.what, "bar": bar.bar, "hope": bar.hope, "unit": bar.quantity}
        | measured(bar, results)
        for bar in BARS
        if any(row[0] in results for pair in bar.pairs for row in pair)
    ]
    for name, seconds in (first_fit or {}).items():
        bar, hope = cold_start.BARS[name]
        found.append(
            {"what": f"first fit in a fresh process, {name}", "bar": bar, "hope": hope}
            | {"unit": "seconds", "measured": seconds, "fastest": None}
        )
    return [bar | {"verdict": verdict(bar)} for bar in found]


def verdict(bar):
    """Whether a bar is held, by the medians and by the fastest runs."""
    if bar["measured"] is None:
        return "not measured"
    worst = max(bar["measured"], bar["fastest"] or 0.0)
    if worst > bar["bar"]:
        return "NOT HELD"
    return "held, the hope too" if worst <= bar["hope"] else "held"


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


def bars_table(bars):
    rows = []
    for bar in bars:
        values = [bar[name] for name in ("measured", "fastest", "bar", "hope")]
        figures = ["" if value is None else FORMATS[bar["unit"]](value) for value in values]
        rows.append([bar["what"], *figures, bar["verdict"]])
    return table(["what", "measured", "of fastest runs", "bar", "hope", "held?"], rows)


def scenario_table(rows):
    """Times over that of the first row, which is SmoothL1, and over that of one X @ w."""
    header = ["", "median", "fastest", "runs", "ratio", "in X @ w", "above best", "passes"]
    base = None if rows[0]["stopped"] else rows[0]["median"]
    return table([*header, "memory", "of X"], [scenario_cells(row, base) for row in rows])


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


NOTES = f"""Time is of one `fit`, all in one process, the rows of a table in turn; the ratio is
over its first row. "In X @ w" is the time over that of one such product with the same X, the
limit of any machine. "> 15 s" is a fit that was ended then; its memory is the peak until then.

"Above best" is the relative excess of the objective over the lowest that any row of the same
objective reached, or that one more Newton step from there reached: 0e+00 is the minimum, and
above {WRONG:.0e} it is another answer. Where an objective is below 1e-6 of the mean absolute
deviation of y, because all rows can be met, the excess is over that much.

{FIXED}, {SKGLM} (its Huber datafit, coordinate descent without a penalty) and {SGD} minimise
Huber's loss at β = {BETA}; {AUTO} and statsmodels' {RLM_} with the threshold at 1.345 MADs of
the residuals; {CONCOMITANT} and {HUBER}(alpha=0, max_iter=1000) the joint objective with
ε = {EPSILON}. Where a title names α, it is that of {HUBER}, which takes its default of 100
iterations there; ours is α / n with loss="huber". {SGD} gets scaled columns. Ridge and
LinearRegression are least squares, whose price is the measure.

Passes are those of the solver over all rows of X. Column moments, one or two where a sample at
random does not do, and Gram matrices of all rows are not counted. Memory is the peak beyond the
input that tracemalloc sees, in a run of its own, and "of X" that over the bytes of X; what
HiGHS and BLAS take it does not see. A wide sparse fit is allowed three times the bytes of X,
{VECTORS} vectors of n + p numbers and, where the smaller of n and p is {GRAM:,} or less, a
square matrix of that size.

A bar is held if it is by the medians and by the fastest runs."""


def report(record):
    """The Markdown file, from what the JSON file holds."""
    where = "`python -m benchmarks.peers`: " + described(record["machine"])
    parts = ["# Comparison with peers", where + record["rows"]]
    parts += ["## Bars", bars_table(record["bars"]), "## Scenarios", NOTES]
    for name, rows in record["scenarios"].items():
        parts += [f"### {record['titles'][name]}", scenario_table(rows)]
    return "\n\n".join(parts)


# One colour and marker for an estimator.
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
    """Times of all estimators by scenario, and the bars, both on logarithmic axes."""
    import matplotlib.pyplot as plt

    figure, (upper, lower) = plt.subplots(2, 1, figsize=(11, 22), layout="constrained")
    draw_times(upper, record)
    draw_bars(lower, record["bars"])
    for axes in (upper, lower):
        axes.set_ylim(len(axes.get_yticks()) - 0.4, -0.6)
        axes.set_xscale("log")
        axes.grid(axis="x", color="0.9")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def draw_times(axes, record):
    """A line for each scenario with a rival of the same objective."""
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
    axes.plot([], [], "o", color="0.4", markerfacecolor="white", label="hollow: another answer")
    axes.set_yticks(range(len(compared)), compared)
    axes.set_xlabel("seconds for one fit, median, or where it was ended")
    axes.set_title("Time of a fit")


def draw_bars(axes, bars):
    """Measured (or of the fastest runs, if more) and hoped for, over the bar."""
    for line, bar in enumerate(bars):
        if bar["measured"] is None:
            continue
        missed = bar["verdict"] == "NOT HELD"
        colour = COLOURS[2] if missed else COLOURS[1]
        share = max(bar["measured"], bar["fastest"] or 0.0) / bar["bar"]
        share = min(max(share, 3e-3), 1e3)  # of what a picture can show
        axes.plot([share, 1], [line, line], color=colour, alpha=0.4)
        axes.plot(share, line, "X" if missed else "o", color=colour, markersize=9)
        axes.plot(max(bar["hope"] / bar["bar"], 3e-3), line, "|", color="0.4", markersize=14)
    axes.axvline(1, color="black")
    axes.plot([], [], "o", color=COLOURS[1], label="measured, held")
    axes.plot([], [], "X", color=COLOURS[2], label="measured, not held")
    axes.plot([], [], "|", color="0.4", markersize=14, label="hope")
    axes.set_yticks(range(len(bars)), [bar["what"] for bar in bars])
    axes.set_xlabel("measured over the bar (less is better)")
    axes.set_title("Bars of the design")
