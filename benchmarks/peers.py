"""Time, accuracy, passes and memory compared with other libraries: python -m benchmarks.peers

The estimators in a scenario run in turn in one process, and times are medians of several runs.
Because times are comparable only for correct solutions, each row states the relative excess of
the objective over the lowest value that any estimator with the same objective reached, with or
without one more Newton step in NumPy. A fit that exceeds the time limit of its scenario is
stopped and reported as such. The report begins with the performance targets and the measured
values.

The benchmark takes a quarter of an hour and 5 GB of memory, and writes peers.md, peers.json and
peers.png to benchmarks/results/. `--quick` uses a tenth of the rows. With `--quick` or
`--only`, nothing is written unless `--output` is given. The benchmark should be run on an idle
machine. skglm, pinball-qr and statsmodels are omitted if they are not installed.
"""

import argparse
import json
import signal
import tracemalloc
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from scipy.linalg import LinAlgError, solve
from scipy.sparse.linalg import LinearOperator, cg

from . import RESULTS, Progress, cold_start, in_turn, machine, write
from .peers_report import FAILED, draw, judged, report, scenario_table
from .scenarios import BETA, COMPILED, EPSILON, HUBER, KINDS, MISSING, SCENARIOS, UNSEEN

# Approximate total fit time of each estimator in a scenario, in seconds; --quick uses a tenth
# of it.
SECONDS = 2.0
# A fit is exact if its objective is below this fraction of the mean absolute deviation of y.
EXACT = 1e-6


class OutOfTime(BaseException):
    """Raised when a fit takes longer than the time limit."""


class Outcome(NamedTuple):
    """The fitted estimator, or the reason why no fit is available."""

    fitted: Any
    stopped: str | None = None


def run(scenario, share, seconds, detail):
    """Return the rows of a scenario: a dict of measurements for each entry."""
    detail("making data")
    todo = scenario.rows(share)
    outcomes, rows = {}, []
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")  # convergence is judged by the objective
        for entry in todo:
            detail(entry.label)
            outcomes[entry.label], memory = first_fits(entry, scenario.limit)
            n, p = entry.data.X.shape
            rows.append({"label": entry.label, "n": n, "p": p, "memory": memory})
        detail("in turn")

        def keep(entry):
            outcome = fit(entry, scenario.limit)
            if not outcomes[entry.label].stopped:
                outcomes[entry.label] = outcome

        running = [entry for entry in todo if not outcomes[entry.label].stopped]
        tasks = {entry.label: lambda entry=entry: keep(entry) for entry in running}
        times = in_turn(tasks, seconds, least=1 if share < 1 else 3, most=31)
        above = excesses(todo, {label: found.fitted for label, found in outcomes.items()})
        products = {id(entry.data): product_times(entry.data) for entry in todo}
    for entry, row in zip(todo, rows, strict=True):
        fitted, stopped = outcomes[entry.label]
        found = [] if stopped else times[entry.label]
        row |= {"times": found, "stopped": stopped, "excess": above.get(entry.label)}
        row |= {"passes": passes(fitted), "iterations": iterations(fitted)}
        row |= products[id(entry.data)]
        # A fit that was stopped at the limit is reported with the limit as its time.
        end = scenario.limit if stopped != FAILED else None
        row |= {"median": float(np.median(found)) if found else end}
        row |= {"fastest": min(found) if found else end}
    return rows


def first_fits(entry, limit):
    """Return the outcome of a first fit, and the peak memory of a fit without compilation."""
    outcome, memory = Outcome(None), None
    if entry.kind.startswith(COMPILED):
        outcome = fit(entry, limit)
    if entry.kind not in UNSEEN and not outcome.stopped:
        outcome, memory = memory_beyond(entry, limit)
    return outcome, memory


def fit(entry, limit):
    """Return the outcome of a fit within the time limit."""
    X, y, weight = entry.data[:3]
    estimator = KINDS[entry.kind].make(entry.data)
    weights = {} if weight is None else {"sample_weight": weight}
    try:
        with limited(limit):
            return Outcome(estimator.fit(X, y, **weights))
    except OutOfTime:
        return Outcome(None, f"> {limit:g} s")
    except ValueError:
        # HuberRegressor raises a ValueError if its line search finds no decrease.
        if entry.kind != HUBER:
            raise
        return Outcome(None, FAILED)


@contextmanager
def limited(seconds):
    """Raise OutOfTime after `seconds`, or later if a compiled function has to return first."""

    def stop(*_):
        raise OutOfTime

    if not hasattr(signal, "setitimer"):  # on Windows
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    # The signal is repeated, because Python ignores an exception in a finaliser.
    signal.setitimer(signal.ITIMER_REAL, seconds, 5.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def memory_beyond(entry, limit):
    """Return the outcome of a fit and its peak memory, in bytes and relative to X."""
    tracemalloc.start()
    try:
        outcome = fit(entry, limit)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    X = entry.data.X
    parts = [X.data, X.indices, X.indptr] if sparse.issparse(X) else [np.asarray(X)]
    return outcome, {"bytes": peak, "share": peak / sum(part.nbytes for part in parts)}


def product_times(data):
    """Return the median times of the products X @ w and X.T @ r, in seconds."""
    X = data.X if sparse.issparse(data.X) else np.asarray(data.X)
    w, r = np.ones(X.shape[1], X.dtype), np.ones(X.shape[0], X.dtype)
    # Products with small X are repeated, because the resolution of the clock is limited.
    repeats = 1 + 1_000_000 // X.size
    tasks = {
        "X @ w": lambda: [X @ w for _ in range(repeats)],
        "X.T @ r": lambda: [X.T @ r for _ in range(repeats)],
    }
    times = in_turn(tasks, seconds=0.5, least=3, most=9)
    return {name: float(np.median(found)) / repeats for name, found in times.items()}


def passes(estimator):
    """Return the number of passes of the solver over X, averaged over the targets."""
    history = getattr(estimator, "history_", None)
    if history is None:
        return None
    return sum(stage["n_eval"] for stage in history) / (1 + history[-1]["target"])


def iterations(estimator):
    last = estimator[-1] if hasattr(estimator, "steps") else estimator
    found = getattr(last, "n_iter_", None)
    return None if found is None else int(np.max(found))


# For each objective, the threshold as a function of the estimated scale and of the threshold of
# SmoothL1().
THRESHOLDS = {
    "huber": lambda scale, auto: BETA,
    "mad": lambda scale, auto: auto,
    "concomitant": lambda scale, auto: EPSILON * scale,
    "absolute": lambda scale, auto: 0.0,
}


def excesses(todo, fitted):
    """Return the relative excess of each objective over the lowest known value."""
    values, best, least = {}, {}, {}
    for entry in todo:
        goal, data = KINDS[entry.kind].goal, entry.data
        first = next(e for e in todo if KINDS[e.kind].goal == goal and e.data is data)
        if goal is None or data.y.ndim > 1:
            continue
        # The first estimator with each objective is from this package. If its fit failed, the
        # minimum is not known.
        if fitted[entry.label] is None or fitted[first.label] is None:
            continue
        key = goal, id(data)
        coef, scale = coefficients(fitted[entry.label])
        threshold = THRESHOLDS[goal](scale, getattr(fitted[first.label], "beta_", None))
        values[entry.label] = key, objective(data, coef, threshold, goal)
        further = newton_step(data, coef, threshold, goal)
        reached = [values[entry.label][1], objective(data, further, threshold, goal)]
        best[key] = min(best.get(key, np.inf), *reached)
        # The objective of an exact fit is nearly zero. Its excess is therefore divided by a
        # fraction of the mean absolute deviation of y.
        null = np.mean(np.abs(data.y - np.median(data.y)))
        least[key] = max(best[key], EXACT * float(null))
    return {
        label: float((value - best[key]) / least[key]) for label, (key, value) in values.items()
    }


def objective(data, coef, threshold, goal):
    """Return the mean smooth L1 loss plus penalty, plus σ / (2ε) for a concomitant scale."""
    residual = residuals(data, coef)
    size = np.abs(residual)
    with np.errstate(divide="ignore", invalid="ignore"):
        loss = np.where(size < threshold, residual**2 / (2 * threshold), size - threshold / 2)
    joint = threshold / (2 * EPSILON**2) if goal == "concomitant" else 0.0
    square = penalty(data, threshold, goal) * float(coef[1:] @ coef[1:]) / 2
    return float(np.average(loss, weights=data.weight)) + joint + square


def penalty(data, threshold, goal):
    """Return the factor a of the penalty a ‖w‖²/2 that is added to the mean smooth L1 loss.

    The penalty of HuberRegressor is divided by the number of rows, and by the ratio of the
    objective with loss="huber" to the objective in this module: the threshold for the Huber
    loss, and ε for the concomitant objective.
    """
    if data.alpha == 0:
        return 0.0
    return data.alpha / (data.y.size * (EPSILON if goal == "concomitant" else threshold))


def coefficients(estimator):
    """Return the array (b, w), and the estimated scale if there is one."""
    if hasattr(estimator, "steps"):
        scaler, last = estimator[0], estimator[-1]
        return np.r_[last.intercept_, last.coef_ / scaler.scale_], None
    coef = np.asarray(estimator.coef_, dtype=float).ravel()
    return np.r_[estimator.intercept_, coef], getattr(estimator, "scale_", None)


def features(data):
    """Return X as a float64 array, or unchanged if it is sparse."""
    return data.X if sparse.issparse(data.X) else np.asarray(data.X, dtype=float)


def residuals(data, coef):
    return data.y - coef[0] - features(data) @ coef[1:]


def newton_step(data, coef, threshold, goal):
    """Return (b, w) after a Newton step, or unchanged if the Hessian is singular.

    The Hessian is singular if the residuals of too few rows are below the threshold.
    """
    X, r = features(data), residuals(data, coef)
    weight = np.ones(r.size) if data.weight is None else data.weight
    inside = np.abs(r) <= threshold
    root = np.sqrt(weight[inside])[:, None]
    ridge = np.full(coef.size, r.size * threshold * penalty(data, threshold, goal))
    ridge[0] = 0.0
    force = weight * np.clip(r, -threshold, threshold)
    force = np.r_[force.sum(), X.T @ force] - ridge * coef
    if sparse.issparse(X):
        Z = sparse.hstack([sparse.csr_array(root), X[inside].multiply(root)]).tocsr()
        return coef + sparse_step(Z, ridge, force)
    Z = np.hstack([root, X[inside] * root])
    H = Z.T @ Z + np.diag(ridge)
    if not np.diagonal(H).all():
        return coef
    unit = 1 / np.sqrt(np.diagonal(H))
    try:
        return coef + unit * solve(H * unit * unit[:, None], unit * force)
    except LinAlgError:
        return coef


def sparse_step(Z, ridge, force):
    """Return the Newton step, computed by conjugate gradients.

    Z contains the rows inside the threshold, multiplied by the square roots of their weights.
    The step is zero in columns that are zero in all these rows.
    """
    diagonal = Z.power(2).sum(axis=0) + ridge
    unit = np.divide(1.0, np.sqrt(diagonal), out=np.zeros(ridge.size), where=diagonal > 0)

    def product(v):
        return unit * (Z.T @ (Z @ (unit * v)) + ridge * unit * v)

    H = LinearOperator((ridge.size, ridge.size), matvec=product, dtype=float)
    step, _ = cg(H, unit * force, rtol=1e-13, maxiter=100)
    return unit * step


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    parser.add_argument(
        "--only", metavar="NAME", default="", help="part of a name: " + "; ".join(SCENARIOS)
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="where to write results")
    parser.add_argument(
        "--redraw", action="store_true", help="report from peers.json without measuring"
    )
    arguments = parser.parse_args()
    if not any(arguments.only in name for name in SCENARIOS):
        parser.error(f"--only must be part of the name of a scenario, got {arguments.only!r}")
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
    """Return all measurements of the report, as data that JSON can represent."""
    for name in (name for name, missing in MISSING.items() if missing):
        print(f"{name} is not installed and is omitted")
    facts = machine()
    names = [only] if only in SCENARIOS else [name for name in SCENARIOS if only in name]
    progress = Progress(len(names) + whole)
    share, seconds = (0.1, SECONDS / 10) if quick else (1.0, SECONDS)
    scenarios = {}
    for name in names:
        progress(name)
        scenarios[name] = run(SCENARIOS[name], share, seconds, progress.detail)
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
        "rows": " **Only a tenth of the rows was used.**" if quick else "",
        "titles": titles,
        "scenarios": scenarios,
        "bars": bars,
    }


if __name__ == "__main__":
    main()
