"""About 200 combinations of data and parameters, for comparing fits between versions.

``python tests/corpus.py`` fits the well-conditioned data and writes the coefficients, scales
and objectives to ``tests/data/corpus.json``. ``python tests/corpus.py OLD NEW`` compares
two importable packages, such as an older copy of skrobust and the current one, and prints the
fits that differ.
"""

import importlib
import itertools
import json
import sys
import warnings
from pathlib import Path

import numpy as np
from scipy import sparse

RECORDED = Path(__file__).parent / "data" / "corpus.json"
MODES = {
    "auto": {},
    "fixed": {"beta": 1.0},
    "huber": {"beta": 1.0, "loss": "huber"},
    "small": {"beta": 1e-6},
    "mad": {"beta": 0.7, "scale": "mad"},
    "concomitant": {"beta": 1.35, "scale": "concomitant"},
    "ridge": {"beta": 1.0, "alpha": 0.1},
    "ridge auto": {"alpha": 0.01},
    "ridge huber": {"alpha": 0.1, "loss": "huber"},
    "ridge concomitant": {"alpha": 0.1, "loss": "huber", "scale": "concomitant"},
    "no intercept": {"fit_intercept": False},
    "schedule": {"beta_schedule": [50, 10, 2, 1]},
    "geometric": {"beta": 1.0, "beta_schedule": "geometric"},
}
# Kinds of data whose condition number exceeds 1e6 or whose minimiser is not unique. With
# another BLAS, correct fits to such data may have different coefficients.
ILL_CONDITIONED = {"wide", "dependent", "near collinear", "ties", "units"}


def _signal(X, rng):
    return X @ (1.0 + np.arange(X.shape[1]) % 3) + rng.standard_t(2, size=X.shape[0])


def _data(kind, rng):
    """Return X, y and weights for the given kind of data."""
    shapes = {"tall": (60_000, 40), "wide": (20, 35), "tiny": (12, 2), "many": (300, 40)}
    n, p = shapes.get(kind.split()[0], (150, 5))
    X = rng.normal(size=(n, p))
    weight = None
    if kind == "units":
        X = X * np.logspace(-4, 4, p) + np.logspace(4, -4, p)
    elif kind == "dependent":
        X[:, -1] = X[:, 0] + X[:, 1]
    elif kind == "near collinear":
        X[:, -1] = X[:, 0] + 1e-7 * X[:, 1]
    elif kind == "csr":
        X[rng.random((n, p)) < 0.6] = 0.0
    elif kind == "leverage":
        X[:5] *= 1e3
    elif kind == "float32":
        X = X.astype(np.float32)
    elif kind == "tall cauchy":
        X = X * rng.standard_cauchy((n, 1))
    y = _signal(X.astype(float), rng)
    if kind == "ties":
        X, y = rng.integers(0, 2, (n, p)).astype(float), rng.integers(-2, 3, n).astype(float)
    if "one side" in kind:
        y[: n // 4] += 30.0
    if "weights" in kind:
        weight = rng.integers(0, 3, n).astype(float) + 0.5 * (kind == "tall weights")
    if kind == "csr":
        X = sparse.csr_array(X)
    if kind == "two targets":
        y = np.column_stack([y, 3.0 * y + X[:, 0]])
    return X, y, weight


def problems():
    """Yield the name, X, y, weights and parameters of each problem."""
    kinds = [
        "plain",
        "units",
        "dependent",
        "near collinear",
        "ties",
        "csr",
        "leverage",
        "weights",
    ]
    kinds += ["one side", "float32", "two targets", "wide", "tiny", "many"]
    tall = ["tall", "tall weights", "tall cauchy", "tall one side"]
    few = ["auto", "fixed", "small", "concomitant", "ridge concomitant", "schedule"]
    pairs = [*itertools.product(kinds, MODES), *itertools.product(tall, few)]
    for number, (kind, mode) in enumerate(pairs):
        X, y, weight = _data(kind, np.random.default_rng(number))
        yield f"{kind} / {mode}", X, y, weight, MODES[mode]


def fitted(package, problem):
    """Fit a problem, and return the attributes to be compared."""
    _, X, y, weight, parameters = problem
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = package.SmoothL1Regressor(**parameters).fit(X, y, weight)
    names = ["coef_", "intercept_", "scale_", "beta_", "objective_", "n_iter_", "outliers_"]
    values = {name.rstrip("_"): np.asarray(getattr(model, name)) for name in names}
    values["n_eval"] = np.asarray([stage["n_eval"] for stage in model.history_])
    return values


def relative_difference(a, b):
    """Return the largest absolute difference relative to the largest absolute value in `a`."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.shape != b.shape:
        return np.inf
    largest = np.abs(a).max(initial=0.0)
    difference = np.abs(a - b).max(initial=0.0)
    return float(difference / largest) if largest else float(difference)


def _compare(old, new):
    counts = {"same bits": 0, "other bits": 0}
    passes = [0, 0]
    for problem in problems():
        a, b = fitted(old, problem), fitted(new, problem)
        differing = [name for name in a if not np.array_equal(a[name], b[name])]
        passes[0] += a["n_eval"].sum()
        passes[1] += b["n_eval"].sum()
        counts["other bits" if differing else "same bits"] += 1
        if differing:
            worst = {name: f"{relative_difference(a[name], b[name]):.1e}" for name in differing}
            print(problem[0], worst, "passes", a["n_eval"].sum(), b["n_eval"].sum())
    print(counts, "passes", *passes)


def _record(package):
    values = {}
    for problem in problems():
        kind = problem[0].split(" / ")[0]
        if kind not in ILL_CONDITIONED:
            found = fitted(package, problem)
            kept = ["coef", "intercept", "scale", "beta", "objective"]
            values[problem[0]] = {name: found[name].tolist() for name in kept}
    RECORDED.parent.mkdir(exist_ok=True)
    lines = [f"{json.dumps(name)}: {json.dumps(fit)}" for name, fit in values.items()]
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    packages = [importlib.import_module(name) for name in sys.argv[1:]]
    if packages:
        _compare(*packages)
    else:
        _record(importlib.import_module("skrobust"))
