"""Time, accuracy, passes and memory against other libraries: python -m benchmarks.peers

In one process, the estimators of a scenario in turn, the median of several runs. A faster wrong
answer is not faster: each row says how far the objective is above the best that is known, which
is the lowest of all estimators with that objective, after one more Newton step in NumPy. At
the end stand the bars of the design, each with what was measured.

The whole takes eleven minutes and 5 GB, and writes peers.md, peers.json and peers.png into
benchmarks/results/; `--quick` takes a tenth of the rows and, like `--only`, writes nothing
unless told where. Believe it on a quiet machine only.
"""

import argparse
import json
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.linalg import LinAlgError, solve

from . import RESULTS, Progress, cold_start, in_turn, machine, write
from .peers_report import draw, judged, report, scenario_table
from .scenarios import BETA, COMPILED, EPSILON, KINDS, MISSING, SCENARIOS, UNSEEN

# Each estimator of a scenario gets about this long, and --quick a tenth.
SECONDS = 2.5


def run(rows_of, share, seconds, detail):
    """The rows of a scenario: for each entry what was measured, as a dict."""
    detail("making data")
    todo = rows_of(share)
    fitted, rows = {}, []
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")  # not converged: the objective says it
        for entry in todo:
            detail(entry.label)
            if entry.kind.startswith(COMPILED):
                fit(entry)
            rows.append(
                {"label": entry.label, "kind": entry.kind, "n": entry.data.X.shape[0]}
                | {"p": entry.data.X.shape[1], "memory": memory_beyond(entry)}
            )
        detail("in turn")

        def keep(entry):
            fitted[entry.label] = fit(entry)

        tasks = {entry.label: lambda entry=entry: keep(entry) for entry in todo}
        times = in_turn(tasks, seconds, least=1 if share < 1 else 5)
        above = excesses(todo, fitted)
    for row in rows:
        label = row["label"]
        row |= {"times": times[label], "excess": above.get(label)}
        row |= {"passes": passes(fitted[label]), "iterations": iterations(fitted[label])}
        row |= {"median": float(np.median(row["times"])), "fastest": min(row["times"])}
    return rows


def fit(entry):
    X, y, weight = entry.data
    estimator = KINDS[entry.kind].make()
    return estimator.fit(X, y) if weight is None else estimator.fit(X, y, sample_weight=weight)


def memory_beyond(entry):
    """Peak of what a fit allocates, in bytes: over those of a dense X, its share."""
    if entry.kind in UNSEEN:
        return None
    tracemalloc.start()
    try:
        fit(entry)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    X = entry.data.X
    share = None if sparse.issparse(X) else peak / np.asarray(X).nbytes
    return {"bytes": peak, "share": share}


def passes(estimator):
    """Passes over X in the solver, of a target on average; those of column moments are more."""
    history = getattr(estimator, "history_", None)
    if history is None:
        return None
    return sum(stage["n_eval"] for stage in history) / (1 + history[-1]["target"])


def iterations(estimator):
    last = estimator[-1] if hasattr(estimator, "steps") else estimator
    found = getattr(last, "n_iter_", None)
    return None if found is None else int(np.max(found))


# The threshold, from the scale that was found and from the threshold of SmoothL1().
THRESHOLDS = {
    "huber": lambda scale, auto: BETA,
    "mad": lambda scale, auto: auto,
    "concomitant": lambda scale, auto: EPSILON * scale,
    "absolute": lambda scale, auto: 0.0,
}


def excesses(todo, fitted):
    """How far each objective is above the best known, relatively."""
    values, best = {}, {}
    for entry in todo:
        goal = KINDS[entry.kind].goal
        if goal is None or entry.data.y.ndim > 1:
            continue
        key = goal, id(entry.data)
        first = next(e for e in todo if KINDS[e.kind].goal == goal and e.data is entry.data)
        coef, scale = coefficients(fitted[entry.label])
        threshold = THRESHOLDS[goal](scale, getattr(fitted[first.label], "beta_", None))
        values[entry.label] = key, objective(entry.data, coef, threshold, goal)
        further = newton_step(entry.data, coef, threshold)
        reached = [values[entry.label][1], objective(entry.data, further, threshold, goal)]
        best[key] = min(best.get(key, np.inf), *reached)
    return {label: float(value / best[key] - 1) for label, (key, value) in values.items()}


def objective(data, coef, threshold, goal):
    """Mean smooth L1 loss; the joint objective of HuberRegressor has σ / (2ε) as well."""
    residual = residuals(data, coef)
    size = np.abs(residual)
    with np.errstate(divide="ignore", invalid="ignore"):
        loss = np.where(size < threshold, residual**2 / (2 * threshold), size - threshold / 2)
    joint = threshold / (2 * EPSILON**2) if goal == "concomitant" else 0.0
    return float(np.average(loss, weights=data.weight)) + joint


def coefficients(estimator):
    """(b, w), and the scale if there is one."""
    if hasattr(estimator, "steps"):
        scaler, last = estimator[0], estimator[-1]
        return np.r_[last.intercept_, last.coef_ / scaler.scale_], None
    coef = np.asarray(estimator.coef_, dtype=float).ravel()
    return np.r_[estimator.intercept_, coef], getattr(estimator, "scale_", None)


def features(data):
    """X as an array of doubles, or a sparse one."""
    return data.X if sparse.issparse(data.X) else np.asarray(data.X, dtype=float)


def residuals(data, coef):
    return data.y - coef[0] - features(data) @ coef[1:]


def newton_step(data, coef, threshold):
    """(b, w) after one step, or as it was where too few rows are inside the threshold."""
    X, r = features(data), residuals(data, coef)
    weight = np.ones(r.size) if data.weight is None else data.weight
    inside = np.abs(r) <= threshold
    root = np.sqrt(weight[inside])[:, None]
    if sparse.issparse(X):
        Z = sparse.hstack([sparse.csr_array(root), X[inside].multiply(root)])
        H = (Z.T @ Z).toarray()
    else:
        Z = np.hstack([root, X[inside] * root])
        H = Z.T @ Z
    if not np.diagonal(H).all():
        return coef
    unit = 1 / np.sqrt(np.diagonal(H))
    force = weight * np.clip(r, -threshold, threshold)
    try:
        step = solve(H * unit * unit[:, None], unit * np.r_[force.sum(), X.T @ force])
    except LinAlgError:
        return coef
    return coef + unit * step


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    parser.add_argument("--only", metavar="NAME", choices=SCENARIOS, help=", ".join(SCENARIOS))
    parser.add_argument("--output", type=Path, metavar="DIR", help="where to write results")
    parser.add_argument(
        "--redraw", action="store_true", help="from peers.json, nothing measured"
    )
    arguments = parser.parse_args()
    whole = not arguments.quick and not arguments.only
    output = arguments.output or (RESULTS if whole else None)
    if arguments.redraw:
        record = json.loads((output / "peers.json").read_text(encoding="utf-8"))
    else:
        record = measure(arguments.quick, arguments.only, whole)
    text = report(record)
    print(text)
    if output:
        write(output, "peers.md", text)
        write(output, "peers.json", json.dumps(record, indent=1, ensure_ascii=False))
        draw(record, output / "peers.png")


def measure(quick, only, whole):
    """All that the reports are made of, as plain data."""
    for name in (name for name, missing in MISSING.items() if missing):
        print(f"{name} is not installed and left out")
    facts = machine()
    names = [only] if only else list(SCENARIOS)
    progress = Progress(len(names) + whole)
    share, seconds = (0.1, SECONDS / 10) if quick else (1.0, SECONDS)
    scenarios = {}
    for name in names:
        progress(name)
        scenarios[name] = run(SCENARIOS[name].rows, share, seconds, progress.detail)
        if not whole:
            print(scenario_table(scenarios[name]), flush=True)
    first_fit = None
    if whole:
        progress("first fit in a fresh process")
        first_fit = cold_start.first_fits()
    progress.end()
    titles = {name: SCENARIOS[name].title for name in names}
    bars = judged(scenarios, first_fit)
    return {
        "machine": facts,
        "rows": " **With a tenth of the rows only.**" if quick else "",
        "titles": titles,
        "scenarios": scenarios,
        "bars": bars,
    }


if __name__ == "__main__":
    main()
