"""MM-estimates for clean and contaminated data: python -m benchmarks.high_breakdown

The default of the parameter `scale` of MMRegressor is based on this simulation. A cell of the
simulation combines a shape of X, a distribution of the data and a contamination. The default
value "trimmed" must meet two requirements: in clean cells with at least five rows per column,
its efficiency is at most 0.01 below that of "s", and in all cells its error is at most 5 %
larger than that of "s". A cell counts against "trimmed" if a requirement is violated by more
than two standard errors of the paired difference.

All estimators are fitted to the same data. Both MM-estimates start from the S-estimate of the
same fit of MMRegressor. The MM-estimate with "s" is computed here by reweighted least squares,
which saves a second search for the S-estimate; in the first replications of each cell it is
compared with MMRegressor(scale="s"). The S-estimate starts from 100 random subsets instead of
500, which saves half of the time.

The benchmark writes high_breakdown.md, high_breakdown_cells.md and high_breakdown.json to
benchmarks/results/ after every hundred replications, and finally the figure
docs/_static/high_breakdown.png. It takes forty minutes on two cores. With --quick, it takes two
minutes and writes nothing. With --picture, it only draws the figure, which takes a minute.
"""

import argparse
import json
import warnings
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from joblib import Parallel, delayed
from sklearn.linear_model import HuberRegressor, LinearRegression, RANSACRegressor
from threadpoolctl import threadpool_limits

from skrobust import MMRegressor, SmoothL1Regressor
from skrobust._model.normal_constants import constant_of_efficiency

from . import COLOURS, RESULTS, Progress, described, machine, table, write

PICTURE = Path(__file__).parents[1] / "docs" / "_static" / "high_breakdown.png"
TRIMMED, S, SMOOTH_L1, LEAST_SQUARES, RANSAC = NAMES = [
    'MM "trimmed"',
    'MM "s"',
    "SmoothL1",
    "least squares",
    "RANSAC",
]
SEED, N_SUBSAMPLES, CHUNK, ROUND, N_EXTENSIONS = 20_261, 100, 50, 100, 3
# RANSAC takes longer than all other estimators together and therefore runs only in the first
# N_RANSAC replications of the cells with the shape COMPLETE. The fits with "s" are checked in
# the first N_CHECKED replications of each cell.
N_RANSAC, N_CHECKED = 50, 3
M_CONSTANT = constant_of_efficiency(0.95)
IRLS_STEPS, IRLS_TOL = 500, 1e-9

SHAPES = [(25, 5), (50, 3), (50, 10), (100, 10), (100, 20), (200, 3), (200, 20), (400, 20)]
FEW_ROWS = [(40, 10), (60, 20)]
# The shape of X for which all combinations of contamination and share are simulated.
COMPLETE = (50, 3)
RULE_ROWS, EFFICIENCY_LIMIT, ERROR_LIMIT, WANTED_ACCURACY = 5, 0.01, 1.05, 0.005
NORMAL, CAUCHY, T3_AND_FACTOR = "normal", "Cauchy", "t(3) columns and a factor"
LAWS = {
    NORMAL: lambda rng, n: rng.normal(size=n),
    "uniform": lambda rng, n: rng.uniform(-1, 1, n),
    "Laplace": lambda rng, n: rng.laplace(size=n),
    "t(3)": lambda rng, n: rng.standard_t(3, n),
    CAUCHY: lambda rng, n: rng.standard_cauchy(n),
    "lognormal": lambda rng, n: rng.lognormal(size=n) - np.exp(0.5),
    "two-point": lambda rng, n: rng.choice([-1.0, 1.0], n) + 0.2 * rng.normal(size=n),
}
SHARES = [0.05, 0.1, 0.2, 0.3, 0.4]


def one_sided(X, y, rng, distance):
    y += distance


def symmetric(X, y, rng, distance):
    y += distance * rng.choice([-1, 1], y.size)


def cluster(X, y, rng, slope):
    """Move the given rows to a cluster at 10 in the first column, on a line with this slope."""
    X[:] = 0.1 * rng.normal(size=X.shape)
    X[:, 0] += 10
    y[:] = slope * 10 + 0.1 * rng.normal(size=y.size)


def spread(X, y, rng, slope):
    """Multiply all features by ten, and change y so that all slopes increase by `slope`."""
    X *= 10
    y += slope * X.sum(axis=1)


CONTAMINATIONS = {
    **{f"vertical, {d} sd, one-sided": partial(one_sided, distance=d) for d in (3, 5, 10, 20)},
    **{f"vertical, {d} sd, symmetric": partial(symmetric, distance=d) for d in (3, 5, 10, 20)},
    **{f"cluster, slope {slope}": partial(cluster, slope=slope) for slope in (1, 3, 6)},
    **{f"spread leverage, slope {slope}": partial(spread, slope=slope) for slope in (1, 3)},
}


class Cell(NamedTuple):
    """The shape and distribution of the data. In contaminated cells, the errors are normal."""

    n: int
    p: int
    features: str
    law: str
    contamination: str | None = None
    share: float = 0.0

    def draw(self, rng):
        X = normal_features(rng, self.n, self.p)
        if self.features == T3_AND_FACTOR:
            X = t3_and_factor(rng, self.n, self.p)
        y = LAWS[self.law](rng, self.n)
        if self.contamination:
            m = round(self.share * self.n)
            CONTAMINATIONS[self.contamination](X[:m], y[:m], rng)
        return X, y

    @property
    def n_counted(self):
        """The number of parameters whose squared errors are summed.

        The intercept is included if the contamination is one-sided, because only then is the
        intercept biased.
        """
        return self.p + ("one-sided" in (self.contamination or ""))

    @property
    def decides(self):
        return self.contamination is None and self.n >= RULE_ROWS * self.p

    def __str__(self):
        parts = [f"{self.n} × {self.p}", self.contamination or f"{self.law} errors"]
        parts += [f"{100 * self.share:.0f} %"] if self.contamination else []
        parts += [self.features] if self.features != NORMAL else []
        return ", ".join(parts)


def normal_features(rng, n, p):
    return rng.normal(size=(n, p))


def t3_and_factor(rng, n, p):
    """Return t(3) columns and two indicator columns of a factor with unequal frequencies."""
    level = rng.choice(3, n, p=[0.6, 0.3, 0.1])
    return np.column_stack([rng.standard_t(3, (n, p - 2)), level == 1, level == 2])


def all_cells():
    """Return the cells of the simulation.

    All combinations of contamination and share are simulated for the shape COMPLETE. For the
    other shapes, each contamination (or every other one, if there are 20 columns) is simulated
    with one share. For shapes with fewer than 20 columns, cells with many distant outliers are
    added. These outliers inflate the S-scale and have weight zero with either scale, so "s" is
    more efficient than "trimmed".
    """
    shapes = SHAPES + FEW_ROWS
    cells = [Cell(*shape, NORMAL, law) for shape, law in product(shapes, LAWS)]
    kinds, n_shares = list(CONTAMINATIONS), len(SHARES)
    for s, shape in enumerate(shapes):
        for (i, kind), (j, share) in product(enumerate(kinds), enumerate(SHARES)):
            chosen = (i + s) % n_shares == j and (shape[1] < 20 or (i + s) % 2 == 0)
            chosen |= shape[1] < 20 and "20 sd" in kind and share >= 0.3
            if chosen or shape == COMPLETE:
                cells.append(Cell(*shape, NORMAL, NORMAL, kind, share))
    for shape in [(50, 5), (100, 10)]:
        cells += [Cell(*shape, T3_AND_FACTOR, law) for law in [NORMAL, "t(3)", "lognormal"]]
        cells += [
            Cell(*shape, T3_AND_FACTOR, NORMAL, kinds[i], share)
            for i, share in [(1, 0.2), (2, 0.4), (5, 0.1), (10, 0.1), (12, 0.3)]
        ]
    return cells


# Simulation ----------------------------------------------------------------------------


def m_estimate(A, y, theta, scale):
    """Return the bisquare M-estimate that reweighted least squares reaches from `theta`.

    A contains the features and a column of ones.
    """
    end = M_CONSTANT * scale
    for _ in range(IRLS_STEPS):
        residual = y - A @ theta
        weight = (1 - np.minimum((residual / end) ** 2, 1)) ** 2
        G, gradient = (A.T * weight) @ A, A.T @ (weight * residual)
        try:
            step = np.linalg.solve(G, gradient)
        except np.linalg.LinAlgError:  # a level of the factor has no row with positive weight
            step = np.linalg.lstsq(G, gradient)[0]
        theta = theta + step
        if np.linalg.norm(step) <= IRLS_TOL * scale:
            break
    return theta


def parameters(estimator):
    return np.r_[estimator.coef_, estimator.intercept_]


def ransac(X, y):
    """Return slopes and intercept of a RANSAC fit, or NaN if it finds no consensus set."""
    try:
        fit = RANSACRegressor(random_state=0).fit(X, y)
    except ValueError:
        return np.full(X.shape[1] + 1, np.nan)
    return parameters(fit.estimator_)


def estimates(X, y, seed):
    """Return slopes and intercept of each estimator, and a check of the MM-estimate with "s".

    The check consists of two numbers: the largest difference of its fitted values from those of
    MMRegressor(scale="s"), relative to the scale of that fit, and the ratio of the S-scales of
    the two fits of MMRegressor. The first number is NaN if the S-estimates differ, and both are
    NaN if the replication is not checked.
    """
    A = np.column_stack([X, np.ones(len(y))])
    trimmed = MMRegressor(n_subsamples=N_SUBSAMPLES).fit(X, y)
    s_estimate = np.r_[trimmed.s_coef_, trimmed.s_intercept_]
    found = {
        TRIMMED: parameters(trimmed),
        S: m_estimate(A, y, s_estimate, trimmed.s_scale_),
        SMOOTH_L1: parameters(SmoothL1Regressor().fit(X, y)),
        LEAST_SQUARES: np.linalg.lstsq(A, y)[0],
        RANSAC: np.full(A.shape[1], np.nan),
    }
    if seed < N_RANSAC and X.shape == COMPLETE:
        found[RANSAC] = ransac(X, y)
    distance, scale_ratio = np.nan, np.nan
    if seed < N_CHECKED:
        default = MMRegressor(scale="s").fit(X, y)
        scale_ratio = trimmed.s_scale_ / default.s_scale_
        if abs(scale_ratio - 1) < 1e-6:  # the same S-estimate
            distance = np.abs(A @ (parameters(default) - found[S])).max() / default.scale_
    return found, (distance, scale_ratio)


def simulate(index, cell, seeds):
    """Return the squared errors, of shape (replications, estimators), and the checks."""
    errors, checks = [], []
    with threadpool_limits(1), warnings.catch_warnings():
        # MMRegressor warns if there are few rows per column.
        warnings.simplefilter("ignore", UserWarning)
        for seed in seeds:
            X, y = cell.draw(np.random.default_rng([SEED, index, seed]))
            found, check = estimates(X, y, seed)
            errors.append([(found[name][: cell.n_counted] ** 2).sum() for name in NAMES])
            checks.append(check)
    return np.array(errors), np.array(checks)


class Simulation:
    """The squared errors of all replications simulated so far, for each cell."""

    def __init__(self, cells):
        self.cells = cells
        self.errors = {cell: np.empty((0, len(NAMES))) for cell in cells}
        self.checks = np.empty((0, 2))

    def extend(self, cells, n_replications, pool):
        """Add replications to some cells.

        The results do not depend on the number of processes.
        """
        tasks = []
        for cell in cells:
            start = len(self.errors[cell])
            end = start + n_replications
            chunks = [range(k, min(k + CHUNK, end)) for k in range(start, end, CHUNK)]
            tasks += [(self.cells.index(cell), cell, chunk) for chunk in chunks]
        parts = pool(delayed(simulate)(*task) for task in tasks)
        for (_, cell, _), (errors, checks) in zip(tasks, parts, strict=True):
            self.errors[cell] = np.concatenate([self.errors[cell], errors])
            self.checks = np.concatenate([self.checks, checks[np.isfinite(checks[:, 1])]])

    def results(self):
        return {cell: Result.of(cell, errors) for cell, errors in self.errors.items()}


class Result(NamedTuple):
    """Mean squared errors, and the paired comparison of "trimmed" and "s".

    `ratio` is the error of "trimmed" divided by that of "s", and `difference` is the efficiency
    of "trimmed" minus that of "s".
    """

    n_replications: int
    errors: dict
    efficiencies: dict
    ratio: float
    ratio_error: float
    difference: float
    difference_error: float

    @classmethod
    def of(cls, cell, errors):
        """Return the result of a cell, given the errors of shape (replications, estimators).

        The standard errors of functions of means are computed to first order. With Cauchy
        errors, the squared error of least squares has no expectation, so the efficiencies are
        relative to "s".
        """
        n = len(errors)
        trimmed, s, _, base, _ = errors.T
        base = s if cell.law == CAUCHY else base
        T, R = trimmed.mean(), trimmed.mean() / s.mean()
        ratio_error = np.std(trimmed - R * s) / s.mean() / np.sqrt(n)
        of_trimmed, of_s = base.mean() / T, base.mean() / s.mean()
        influence = (base - of_trimmed * trimmed) / T - (base - of_s * s) / s.mean()
        means, efficiencies = {}, {}
        for name, column in zip(NAMES, errors.T, strict=True):
            ran = np.isfinite(column)
            if ran.any():
                means[name] = float(column[ran].mean())
                efficiencies[name] = float(base[ran].mean() / means[name])
        return cls(
            n,
            means,
            efficiencies,
            float(R),
            float(ratio_error),
            float(of_trimmed - of_s),
            float(np.std(influence) / np.sqrt(n)),
        )

    @property
    def is_accurate(self):
        """Whether the standard error of the difference in efficiency is small enough.

        If the efficiency of "s" exceeds 1, the standard error is divided by this efficiency.
        """
        return 2 * self.difference_error < WANTED_ACCURACY * max(1, self.efficiencies[S])


def counts_against(cell, result):
    """Return whether a cell counts against "trimmed"."""
    loss = -result.difference - EFFICIENCY_LIMIT
    inefficient = cell.decides and loss > 2 * result.difference_error
    return bool(inefficient or result.ratio - ERROR_LIMIT > 2 * result.ratio_error)


def is_near(cell, result):
    """Return whether a cell violates a requirement by at most two standard errors."""
    beyond = result.ratio > ERROR_LIMIT
    beyond |= cell.decides and result.difference < -EFFICIENCY_LIMIT
    return bool(beyond and not counts_against(cell, result))


# Report --------------------------------------------------------------------------------


def clean_table(results, figure):
    """Return a table of the clean cells with normal features."""
    rows = []
    for shape in SHAPES + FEW_ROWS:
        cells = [Cell(*shape, NORMAL, law) for law in LAWS]
        rows.append([f"{shape[0]} × {shape[1]}", *(figure(results[cell]) for cell in cells)])
    return table(["", *LAWS], rows)


def contaminated_table(results):
    rows = []
    for kind in CONTAMINATIONS:
        cells = [results[Cell(*COMPLETE, NORMAL, NORMAL, kind, share)] for share in SHARES]
        rows.append([kind, *(f"{c.ratio:.2f} ± {c.ratio_error:.2f}" for c in cells)])
    return table(["", *(f"{100 * share:.0f} %" for share in SHARES)], rows)


def errors_table(results):
    """Return a table of mean squared errors for the shape COMPLETE with 30 % outliers."""
    rows = []
    for kind in CONTAMINATIONS:
        errors = results[Cell(*COMPLETE, NORMAL, NORMAL, kind, 0.3)].errors
        rows.append([kind, *(f"{errors[name]:.3g}" for name in NAMES)])
    return table(["", *NAMES], rows)


def outcome(results):
    """Return sentences about the cells that violate a requirement."""
    against = [shown(*item) for item in results.items() if counts_against(*item)]
    near = [shown(*item) for item in results.items() if is_near(*item)]
    if against:
        text = f'{len(against)} cells count against "trimmed": {"; ".join(against)}.'
    else:
        text = 'No cell counts against "trimmed".'
    if near:
        text += f" Violations by at most two standard errors: {'; '.join(near)}."
    return text


def shown(cell, result):
    """Return a cell and its comparison as text, with the efficiency for clean cells only."""
    ratio = f"ratio of the errors {result.ratio:.3f} ± {result.ratio_error:.3f}"
    if cell.contamination:
        return f"{cell} ({ratio})"
    efficiency = (
        f"efficiency {result.efficiencies[TRIMMED]:.3f}, difference {result.difference:+.3f}"
    )
    return f"{cell} ({efficiency} ± {result.difference_error:.3f}; {ratio})"


def report(simulation, facts):
    results = simulation.results()
    counts = [result.n_replications for result in results.values()]
    decided = [r for c, r in results.items() if c.decides]
    contaminated = [r for c, r in results.items() if c.contamination]
    gains = [r.ratio for r in contaminated]
    distances, scale_ratios = simulation.checks.T
    n, p = COMPLETE
    return "\n\n".join(
        [
            "# Efficiency and resistance of MM-estimates",
            f"`python -m benchmarks.high_breakdown`, {len(results)} cells with "
            f"{min(counts)} to {max(counts)} replications: {described(facts)}",
            f"## Which scale is the default\n\n{outcome(results)} In the {len(decided)} clean "
            f"cells with at least {RULE_ROWS} rows per column, the efficiency of "
            '"trimmed" minus that of "s" is between '
            f"{min(r.difference for r in decided):+.3f} and "
            f"{max(r.difference for r in decided):+.3f}. In the {len(contaminated)} "
            'contaminated cells, the error of "trimmed" divided by that of "s" is between '
            f"{min(gains):.2g} and {max(gains):.3f}, with a geometric mean of "
            f"{np.exp(np.log(gains).mean()):.2f}.",
            '## Efficiency of MM "trimmed"\n\nThe efficiency is the mean squared error of the '
            "least-squares coefficients divided by that of the estimator's coefficients. With "
            'Cauchy errors, MM "s" takes the place of least squares.',
            clean_table(results, lambda r: f"{r.efficiencies[TRIMMED]:.2f}"),
            '## Efficiency of MM "trimmed" minus that of MM "s"',
            clean_table(results, lambda r: f"{r.difference:+.3f} ± {r.difference_error:.3f}"),
            "## Efficiency of SmoothL1Regressor()",
            clean_table(results, lambda r: f"{r.efficiencies[SMOOTH_L1]:.2f}"),
            f'## Error of MM "trimmed" / error of MM "s" by the share of outliers, {n} × {p}',
            contaminated_table(results),
            f"## Mean squared errors with 30 % outliers, {n} × {p}",
            errors_table(results),
            "The numbers after ± are standard errors of the paired comparison. All cells are "
            "in `benchmarks/results/high_breakdown_cells.md`. RANSAC has "
            f"{N_RANSAC} replications. The S-estimate starts from {N_SUBSAMPLES} random "
            "subsets. With 500 subsets, the S-scale was smaller by a relative difference of "
            f"more than 1e-6 in {np.sum(scale_ratios > 1 + 1e-6)} of "
            f"{len(scale_ratios)} fits, and larger in {np.sum(scale_ratios < 1 - 1e-6)}. "
            'The fitted values of MMRegressor(scale="s") from the same S-estimate differed '
            f"from those used here by at most {np.nanmax(distances):.0e}, relative to the "
            "scale.",
        ]
    )


def cells_report(results):
    rows = [
        [
            str(cell),
            r.n_replications,
            *(f"{r.errors[name]:.3g}" if name in r.errors else "–" for name in NAMES),
            f"{r.ratio:.3f} ± {r.ratio_error:.3f}",
            "–" if cell.contamination else f"{r.difference:+.3f} ± {r.difference_error:.3f}",
        ]
        for cell, r in results.items()
    ]
    header = ["", "replications", *NAMES, "ratio of the errors", "difference of efficiency"]
    return "# Mean squared errors of all cells\n\n" + table(header, rows)


def save(simulation, facts):
    results = simulation.results()
    write(RESULTS, "high_breakdown.md", report(simulation, facts))
    write(RESULTS, "high_breakdown_cells.md", cells_report(results))
    cells = [cell._asdict() | result._asdict() for cell, result in results.items()]
    text = json.dumps({"machine": facts, "cells": cells}, indent=1)
    write(RESULTS, "high_breakdown.json", text)


# Picture -------------------------------------------------------------------------------

PICTURE_SHAPE, PICTURE_SHARES, PICTURE_REPLICATIONS = (200, 5), np.arange(0, 0.49, 0.04), 20
PICTURE_ESTIMATORS = {
    "LinearRegression": LinearRegression,
    "HuberRegressor": partial(HuberRegressor, alpha=0.0, max_iter=1000),
    "RANSACRegressor": partial(RANSACRegressor, random_state=0),
    "SmoothL1Regressor": SmoothL1Regressor,
    "MMRegressor": MMRegressor,
}
MARKS = {
    "LinearRegression": ("0.6", "^"),
    "HuberRegressor": (COLOURS[3], "v"),
    "RANSACRegressor": (COLOURS[2], "D"),
    "SmoothL1Regressor": (COLOURS[1], "s"),
    "MMRegressor": (COLOURS[0], "o"),
}
PANELS = {
    "Outliers in y: 10 standard deviations above the model": "vertical, 10 sd, one-sided",
    "Leverage points: a cluster at distance 10": "cluster, slope 6",
}


def picture_errors(contamination, share, seed):
    """Return, for each estimator, the norm of the error of its parameters."""
    n, p = PICTURE_SHAPE
    cell = Cell(n, p, NORMAL, NORMAL, contamination, share)
    X, y = cell.draw(np.random.default_rng([SEED, seed]))
    found = []
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # HuberRegressor warns
        for make in PICTURE_ESTIMATORS.values():
            fit = make().fit(X, y)
            found.append(np.linalg.norm(parameters(getattr(fit, "estimator_", fit))))
    return found


def draw(pool, path):
    """Draw the median error of each estimator against the share of outliers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.4), layout="constrained")
    panels = figure.subplots(1, len(PANELS), sharey=True)
    for axes, (title, contamination) in zip(panels, PANELS.items(), strict=True):
        tasks = product([contamination], PICTURE_SHARES, range(PICTURE_REPLICATIONS))
        errors = np.array(pool(delayed(picture_errors)(*task) for task in tasks))
        shape = len(PICTURE_SHARES), PICTURE_REPLICATIONS, len(PICTURE_ESTIMATORS)
        medians = np.median(errors.reshape(shape), axis=1)
        for name, values in zip(PICTURE_ESTIMATORS, medians.T, strict=True):
            colour, marker = MARKS[name]
            axes.semilogy(
                100 * PICTURE_SHARES, values, marker + "-", color=colour, ms=5, label=name
            )
        axes.set_title(title, fontsize=11)
        axes.set_xlabel("outliers [% of the rows]")
        axes.grid(color="0.92")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("error of the parameters, median")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    figure.savefig(path, dpi=130)
    print(f"wrote {path.name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few replications")
    parser.add_argument("--replications", type=int, default=500)
    parser.add_argument("--picture", action="store_true", help="only draw the picture")
    options = parser.parse_args()
    facts, cells = machine(), all_cells()
    pool = Parallel(n_jobs=2)
    if options.picture:
        draw(pool, PICTURE)
        return
    n_replications = 6 if options.quick else options.replications
    simulation = Simulation(cells)
    progress = Progress(-(-n_replications // ROUND))
    for start in range(0, n_replications, ROUND):
        progress(f"replications from {start}")
        simulation.extend(cells, min(ROUND, n_replications - start), pool)
        if not options.quick:
            save(simulation, facts)
    progress.end()
    if options.quick:
        print(report(simulation, facts))
        return
    add_replications(simulation, n_replications, pool)
    save(simulation, facts)
    draw(pool, PICTURE)


def add_replications(simulation, n_replications, pool):
    """Add replications to clean cells until their standard errors are small enough.

    At most three times `n_replications` are added to a cell.
    """
    for _ in range(N_EXTENSIONS):
        inaccurate = [
            cell
            for cell, result in simulation.results().items()
            if cell.decides and not result.is_accurate
        ]
        print(f"{len(inaccurate)} cells need more replications", flush=True)
        simulation.extend(inaccurate, n_replications, pool)


if __name__ == "__main__":
    main()
