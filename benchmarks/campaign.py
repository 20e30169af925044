"""Random fits, checked by an independent judge: python -m benchmarks.campaign

Each problem is drawn with its own seed. The problems differ in shape, units, error tails, ties,
outliers, rows that can be fitted exactly, storage of X, weights and all parameters. Some
problems have columns that are collinear, constant or far from zero. Every fit that is reported
as converged is checked: the objective is compared with certified bounds on the minimum
(`judge`), the reported scale with that computed from the residuals, and the number of passes
with a multiple of `max_iter`. No fit may raise an exception or issue a warning other than
ConvergenceWarning. Paths and cross-validation results are compared with single fits. Each
violation is reported as a flag; `--one 123` prints the flags of problem 123. The benchmark
takes about 20 minutes on two idle cores.
"""

import argparse
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold

from skrobust import SmoothL1Regressor, SmoothL1RegressorCV, smooth_l1_path

from . import RESULTS, described, machine, table, write
from .judge import RTOL, Data, Fit, is_unique, judge, scale_bounds

ERRORS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
CONVERGED = {"gradient within tol", "gradient within rounding", "objective within rounding"}
# Relative tolerances for the scale and for the cross-validation score of a fold.
SCALE_RTOL, SCORE_RTOL = 1e-6, 1e-6
# A fit may take PASSES_PER_ITERATION passes over X per iteration, and OTHER_PASSES more per
# stage, for the starting point (least squares may take a hundred L-BFGS iterations) and for the
# bound on the suboptimality.
PASSES_PER_ITERATION, OTHER_PASSES = 4, 250


class Problem(NamedTuple):
    """Data and parameters of a problem.

    `call`, a key of `_CALLS`, determines how the problem is fitted. `kinds` describes the
    problem in the results table.
    """

    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None
    params: dict
    call: str
    kinds: tuple


class Flag(NamedTuple):
    """The name of a violated requirement, and the numbers that show the violation."""

    name: str
    detail: str


# Problems ----------------------------------------------------------------------------------


def draw(seed, number):
    """Return problem `number` of the campaign with the given seed."""
    rng = np.random.default_rng([seed, number])
    shape, n, p = _shape(rng)
    form = _choice(rng, C=4, F=2, strided=1, float32=2, CSR=2, CSR_full=1)
    if shape == "many sparse features":
        form = "CSR"
    if shape == "tall":
        form = "F" if form == "F" else "C"
    X, traits = _features(rng, n, p, form)
    call = _choice(rng, single=16, targets=2, path=2, CV=1)
    if shape in ("tall", "many sparse features") or n < 8:
        call = "single"
    k = int(rng.integers(2, 4)) if call == "targets" else 1
    drawn = [_target(rng, X) for _ in range(k)]
    y = drawn[0][0] if k == 1 else np.column_stack([target for target, _ in drawn])
    weight, weighting = _weight(rng, n)
    params = _parameters(rng, X, y, call)
    kinds = [f"shape: {shape}", f"X: {form.replace('_', ' with ')}", f"fit: {call}"]
    kinds += [f"features: {trait}" for trait in traits]
    kinds += sorted({f"errors: {error}" for _, error in drawn})
    scale = params["scale"] or ("mad" if params.get("beta") == "auto" else "fixed")
    kinds.append(f"threshold: {scale}{', penalty' * bool(params['alpha'])}")
    kinds.append(f"weights: {weighting}")
    kinds += ["schedule"] * bool(params.get("beta_schedule"))
    kinds += ["few iterations"] * (params["max_iter"] < 1000)
    return Problem(_formed(X, form), y, weight, params, call, tuple(kinds))


def _choice(rng, **odds):
    p = np.array(list(odds.values()), float)
    return str(rng.choice(list(odds), p=p / p.sum()))


def _shape(rng):
    shape = _choice(rng, few=20, usual=70, wide=10, tall=0.05, sparse=0.2)
    p = 1 + int(29 * rng.random() ** 2)
    if shape == "few":
        return "up to 10 rows", int(rng.integers(2, 11)), p
    if shape == "wide":
        n = int(rng.integers(2, 40))
        return "more columns than rows", n, n + int(rng.integers(1, 30))
    if shape == "tall":
        return "tall", int(rng.integers(400_000, 500_000)), 5
    if shape == "sparse":
        return "many sparse features", int(rng.integers(210, 400)), int(rng.integers(200, 210))
    return "11 to 200 rows", int(rng.integers(11, 201)), p


def _features(rng, n, p, form):
    """Return float64 features, exact in the dtype of X, and the names of their traits."""
    kind = _choice(rng, normal=4, integers=2, heavy=2, levels=1)
    X = {
        "normal": lambda: rng.normal(size=(n, p)) + rng.integers(2) * rng.normal(size=(n, 1)),
        "integers": lambda: rng.integers(-2, 3, size=(n, p)).astype(float),
        "heavy": lambda: rng.standard_t(1.5, size=(n, p)),
        "levels": lambda: np.eye(p)[rng.integers(p, size=n)],
    }[kind]()
    traits = [kind]
    sparsified = form == "CSR"
    if sparsified:
        X *= rng.random((n, p)) < (10 / p if p >= 200 else rng.uniform(0.05, 0.7))
    if p > 1 and rng.random() < 0.15:
        traits.append("constant")
        X[:, rng.integers(p)] = rng.normal()
    if p > 2 and rng.random() < 0.25:
        traits.append("collinear")
        near = 0.0 if rng.random() < 0.4 else 10.0 ** rng.uniform(-10, -2)
        j, k, m = rng.permutation(p)[:3]
        X[:, j] = rng.normal() * X[:, k] + rng.integers(2) * X[:, m]
        X[:, j] += near * rng.normal(size=n)
    units = _choice(rng, one=4, common=3, own=3)
    if units != "one":
        traits.append("units")
        X = X * 10.0 ** rng.uniform(-8, 8, size=1 if units == "common" else p)
    if rng.random() < 0.25:
        traits.append("far")
        far = rng.random(p) < rng.choice([0.2, 1.0])
        X[:, far] += X[:, far].std(axis=0) * 10.0 ** rng.uniform(2, 9, size=int(far.sum()))
    return (X.astype(np.float32).astype(float) if form == "float32" else X), traits


def _formed(X, form):
    n, p = X.shape
    if form == "CSR_full":
        rows = np.arange(n + 1) * p
        return sparse.csr_array((X.ravel(), np.tile(np.arange(p), n), rows), shape=(n, p))
    return {
        "C": np.ascontiguousarray,
        "F": np.asfortranarray,
        "strided": lambda X: np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3],
        "float32": lambda X: X.astype(np.float32),
        "CSR": sparse.csr_array,
    }[form](X)


def _target(rng, X):
    """Return a target (a linear function of X plus errors) and the kind of its errors."""
    n, p = X.shape
    spread = X.std(axis=0)
    w = rng.integers(-3, 4, size=p) / np.where(spread > 0, spread, 1.0)
    y = X @ w if rng.random() < 0.5 else (X - X.mean(axis=0)) @ w
    kind = _choice(rng, normal=4, heavy=2, cauchy=2, none=1, ties=2, exact=2, integers=1)
    y = (
        y
        + {
            "normal": lambda: rng.normal(size=n),
            "heavy": lambda: rng.standard_t(2, size=n),
            "cauchy": lambda: rng.standard_cauchy(size=n),
            "none": lambda: 0.0,
            "ties": lambda: rng.integers(-1, 2, size=n),
            "exact": lambda: rng.normal(size=n) * (rng.random(n) > rng.uniform(0.4, 0.95)),
            "integers": lambda: rng.normal(size=n),
        }[kind]()
    )
    if rng.random() < 0.4:
        y[: int(rng.uniform(0, 0.49) * n)] += 10.0 ** rng.uniform(1, 6)
    if kind == "integers":
        return np.round(y), kind
    if rng.random() < 0.3:
        y = y + 10.0 ** rng.uniform(0, 8)
    return y * (10.0 ** rng.uniform(-8, 8) if rng.random() < 0.5 else 1.0), kind


def _weight(rng, n):
    kind = _choice(rng, none=5, integers=2, uniform=1, pareto=1)
    if kind == "none":
        return None, kind
    weight = {
        "integers": lambda: rng.integers(0, 4, size=n).astype(float),
        "uniform": lambda: rng.uniform(0.1, 1.0, size=n) * (rng.random(n) < 0.8),
        "pareto": lambda: rng.pareto(1.0, size=n) + 1e-6,
    }[kind]()
    weight[rng.integers(n)] = 1.0
    return weight, kind


def _parameters(rng, X, y, call):
    """Return parameters of SmoothL1Regressor, with beta and alpha in the units of the data."""
    loss, scale = str(rng.choice(["smooth_l1", "huber"])), None
    mode = _choice(rng, fixed=3, auto=2, mad=2, concomitant=3)
    unit = float(np.median(np.abs(y - np.median(y, axis=0)))) or 1.0
    beta = "auto"
    if mode == "fixed":
        beta = unit * 10.0 ** rng.uniform(-7, 2)
    elif mode == "mad":
        scale, beta = "mad", 10.0 ** rng.uniform(-4, 1.5)
    elif mode == "concomitant":
        scale = "concomitant"
        beta = "auto" if rng.random() < 0.5 else 1 + 10.0 ** rng.uniform(-2, 1)
    alpha = 0.0
    if rng.random() < 0.45:
        of_X = float(np.median(np.mean(X * X, axis=0))) or 1.0
        alpha = 10.0 ** rng.uniform(-8, 3) * of_X
        alpha /= 1.0 if loss == "huber" and scale is None else unit
    params = {
        "beta": beta,
        "loss": loss,
        "scale": scale,
        "alpha": alpha,
        "fit_intercept": bool(rng.random() < 0.75),
        "solver": _choice(rng, auto=8, newton=1, lbfgs=1),
        "max_iter": 1000 if rng.random() < 0.85 else int(rng.choice([1, 2, 5, 20, 100])),
    }
    schedule = _choice(rng, none=4, geometric=0.4, linear=0.2, cosine=0.2, stages=0.4)
    if call in ("single", "targets") and schedule != "none":
        params["beta_schedule"] = [10, 3, 1] if schedule == "stages" else schedule
    return params


# Verdicts ----------------------------------------------------------------------------------


def flags_of(problem):
    """Fit a problem; return whether all fits converged, and the flags."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            checks = _CALLS[problem.call](problem)
        except ERRORS as error:
            return True, [Flag("error", f"{type(error).__name__}: {error}")]
    stray = [w for w in caught if not issubclass(w.category, ConvergenceWarning)]
    places = {f"{w.message} ({Path(w.filename).name}:{w.lineno})" for w in stray}
    flags = [Flag("warning", place) for place in sorted(places)]
    with np.errstate(all="ignore"):
        converged, found = checks(any(w.category is ConvergenceWarning for w in caught))
    return converged, flags + found


def _call_single(problem):
    """Fit the problem; return a function that checks the fit.

    The argument of this function is True if the fit issued a ConvergenceWarning.
    """
    est = SmoothL1Regressor(**problem.params)
    est.fit(problem.X, problem.y, problem.weight)
    return partial(_estimator_flags, problem, est)


def _estimator_flags(problem, est, warned, last=None):
    y = problem.y.reshape(len(problem.y), -1)
    flags, every = [], True
    for k in range(y.shape[1]):
        stages = [stage for stage in est.history_ if stage["target"] == k]
        converged = stages[-1]["message"] in CONVERGED
        every = every and converged
        fit = _fit_of(est, problem.params | (last or {}), k)
        flags += _objective_flags(problem, y[:, k], fit, converged, est, k)
        n_eval, n_iter = (sum(s[name] for s in stages) for name in ("n_eval", "n_iter"))
        if n_eval > PASSES_PER_ITERATION * est.max_iter + OTHER_PASSES * len(stages):
            flags.append(Flag("passes", f"{n_eval} at max_iter={est.max_iter}"))
        if n_iter > est.max_iter:
            flags.append(Flag("iterations", f"{n_iter} at max_iter={est.max_iter}"))
    if problem.call != "CV" and warned == every:
        flags.append(Flag("verdict", f"warned: {warned}, all stages converged: {every}"))
    return every and not warned, flags


def _fit_of(est, params, k):
    epsilon = None
    if params["scale"] == "concomitant":
        epsilon = 1.5960 if params["beta"] == "auto" else params["beta"]
    return Fit(
        np.atleast_2d(est.coef_)[k].astype(float),
        *(float(np.ravel(getattr(est, f"{name}_"))[k]) for name in ("intercept", "beta")),
        *(float(np.ravel(getattr(est, f"{name}_"))[k]) for name in ("scale", "objective")),
        params["loss"],
        params["alpha"],
        epsilon,
    )


def _objective_flags(problem, y, fit, converged, est=None, k=0, rtol=RTOL):
    data = Data.of(problem.X, y, problem.weight, problem.params["fit_intercept"])
    values = [*fit.coef, fit.intercept, fit.beta, fit.scale, fit.objective]
    if not np.isfinite(values).all():
        return [Flag("not finite", str(fit))]
    found = judge(data, fit, rtol)
    value, reported, flags = found.value, fit.objective, []
    if abs(value - reported) > max(rtol, 1e-9) * value + found.stored:
        flags.append(Flag("reported objective", f"{reported:.17g} is {value:.17g}"))
    excess = reported - found.upper - found.slack
    if converged and found.lower < reported - rtol * reported - found.slack:
        name = "above the minimum" if excess > rtol * reported else "unresolved"
        flags.append(
            Flag(
                name,
                f"{reported:.10g} ≥ {found.upper:.10g} ≥ {found.lower:.10g}; excess "
                f"{1 - found.upper / reported:.2g}, rounding {found.slack / value:.2g}",
            )
        )
    if est is None:
        return flags
    optimality = np.ravel(est.optimality_)[k]
    if excess > optimality * reported * (1 + 1e-6) + 1e-14 * reported:
        flags.append(Flag("optimality", f"{optimality:.2g} for {excess / reported:.2g}"))
    if not data.fit_intercept and fit.intercept:
        flags.append(Flag("intercept", str(fit.intercept)))
    if est.rank_ < found.rank:
        flags.append(Flag("rank", f"{est.rank_} for {found.rank}"))
    if problem.params["scale"] or problem.params["beta"] == "auto":
        low, high, floor = scale_bounds(data, fit)
        low, high = low * (1 - SCALE_RTOL), high * (1 + SCALE_RTOL)
        if converged and not low - floor <= fit.scale <= max(high, floor):
            detail = f"{fit.scale:.10g} outside [{low:.10g}, {high:.10g}], floor {floor:.2g}"
            flags.append(Flag("scale", detail))
    return flags


def _call_path(problem):
    """Compute a path; return a function that checks each of its fits."""
    params = dict(problem.params)
    rng = np.random.default_rng(problem.y.size)
    factors = np.sort(10.0 ** rng.uniform(-2, 1, size=4))
    if params["alpha"] and rng.random() < 0.5:
        name, grid, other = "alpha", params.pop("alpha") * factors, "alphas"
    elif params["beta"] == "auto":
        name, grid, other = "beta", ["auto"], None
        return _call_single(problem)
    else:
        beta = params.pop("beta")
        one = 1.0 if params["scale"] == "concomitant" else 0.0
        name, grid, other = "beta", one + (beta - one) * factors, "betas"
    path = smooth_l1_path(
        problem.X, problem.y, sample_weight=problem.weight, **{other: grid}, **params
    )

    def checks(warned):
        flags = []
        for j, value in enumerate(path.grid):
            at = problem._replace(params=problem.params | {name: float(value)})
            est = SmoothL1Regressor(**at.params)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                est.fit(at.X, at.y, at.weight)
            if warned or caught:
                continue
            point = _fit_of(est, at.params, 0)._replace(
                coef=path.coefs[:, j].astype(float),
                intercept=float(path.intercepts[j]),
                objective=float(path.objectives[j]),
            )
            flags += _point_flags(at, point, f"{name}={value}")
        return not warned, flags

    return checks


def _point_flags(problem, point, where):
    """Return the flags of a fit on a path.

    `point` combines the coefficients and the objective of this fit with the threshold and the
    scale of a single fit. `where` gives the name and value of the parameter that varies along
    the path. A scale that differs from the scale of the residuals is not flagged if the
    minimiser is not unique, because the MAD may then have several fixed points.
    """
    params, rtol = problem.params, RTOL
    if params["scale"] == "mad" or params["beta"] == "auto":
        data = Data.of(problem.X, problem.y, problem.weight, params["fit_intercept"])
        low, high, floor = scale_bounds(data, point)
        if high - low + floor > SCALE_RTOL * point.scale:
            return []  # Rounding errors are too large for a check.
        if not low * (1 - SCALE_RTOL) - floor <= point.scale <= high * (1 + SCALE_RTOL) + floor:
            if is_unique(data, point):
                return [Flag("path, scale", f"{where}: {low} … {high} for {point.scale}")]
            return []
        # The scale of the single fit equals that on the path only to within this tolerance.
        rtol = SCALE_RTOL
    found = _objective_flags(problem, problem.y, point, converged=True, rtol=rtol)
    return [Flag(f"path, {flag.name}", f"{where}: {flag.detail}") for flag in found]


def _call_cv(problem):
    """Fit SmoothL1RegressorCV; return a function that compares it with single fits."""
    params = dict(problem.params)
    alpha, beta = params.pop("alpha"), params.pop("beta")
    one = 1.0 if params["scale"] == "concomitant" else 0.0
    betas = [beta] if beta == "auto" else [float(one + (beta - one) * f) for f in (0.2, 1, 5)]
    alphas = [alpha, 10 * alpha] if alpha else [0.0]
    search = SmoothL1RegressorCV(betas, alphas=alphas, cv=KFold(3), **params)
    weight = problem.weight
    if weight is not None:
        weight = np.maximum(weight, 0.1)
    search.fit(problem.X, problem.y, weight)
    problem = problem._replace(weight=weight)

    def checks(warned):
        converged, flags = _estimator_flags(problem, search, warned, search.best_params_)
        at = problem.params | search.best_params_
        if not warned:
            for i, point in enumerate(search.cv_results_["params"]):
                flags += _score_flags(problem, at | point, search.cv_results_, i)
        return converged, flags

    problem = problem._replace(params=problem.params | search.best_params_)
    return checks


def _score_flags(problem, params, results, i):
    X, y, weight = problem.X, problem.y, problem.weight
    flags = []
    for k, (train, test) in enumerate(KFold(3).split(X)):
        of_train = None if weight is None else weight[train]
        of_test = None if weight is None else weight[test]
        est = SmoothL1Regressor(**params)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            est.fit(X[train], y[train], of_train)
        if caught:
            # The search may have converged in this fold although the single fit did not within
            # max_iter iterations.
            continue
        data = Data.of(X[train], y[train], of_train, params["fit_intercept"])
        if not is_unique(data, _fit_of(est, params, 0)):
            continue
        errors = np.abs(y[test] - est.predict(X[test]))
        score, found = -np.average(errors, weights=of_test), results[f"split{k}_test_score"][i]
        rounding = 1e-6 if X.dtype == np.float32 else 1e-12
        size = np.abs(y).max() + np.abs(X[test] @ est.coef_).max()
        if abs(score - found) > SCORE_RTOL * abs(score) + rounding * size:
            flags.append(Flag("score", f"{found:.10g} of fold {k} for {score:.10g}, {params}"))
    return flags


_CALLS = {
    "single": _call_single,
    "targets": _call_single,
    "path": _call_path,
    "CV": _call_cv,
}


# Results -----------------------------------------------------------------------------------


def verdict(number, seed):
    """Return the number and kinds of a problem, whether its fits converged, and its flags."""
    problem = draw(seed, number)
    converged, flags = flags_of(problem)
    return number, problem.kinds, converged, flags


def run(n, seed, jobs):
    """Yield the result of `verdict` for problems 0 … n − 1."""
    numbers = range(n)
    if jobs == 1:
        yield from map(partial(verdict, seed=seed), numbers)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(partial(verdict, seed=seed), numbers, chunksize=20)


def summary(verdicts):
    """Return a table of the numbers of problems by kind, and tables of the flags."""
    problems, unconverged, flagged = Counter(), Counter(), Counter()
    for _, kinds, converged, flags in verdicts:
        for kind in ("all", *kinds):
            problems[kind] += 1
            unconverged[kind] += not converged
            flagged[kind] += bool(flags)
    kinds = ["all", *sorted(kind for kind in problems if kind != "all")]
    rows = [(k, f"{problems[k]:,}", f"{unconverged[k]:,}", f"{flagged[k]:,}") for k in kinds]
    parts = [table(["kind", "problems", "did not converge", "flagged"], rows)]
    names = Counter(chain.from_iterable({f.name for f in flags} for *_, flags in verdicts))
    if names:
        parts.append(table(["flag", "problems"], names.most_common()))
        listed = [
            (number, flag.name, flag.detail)
            for number, _, _, flags in verdicts
            for flag in flags
        ]
        parts.append(table(["problem", "flag", "figures"], listed))
    return "\n\n".join(parts)


def main():
    """Run a campaign and write results/campaign.md, or print the flags of one problem."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--one", type=int, help="the number of a problem to show")
    args = parser.parse_args()
    if args.one is not None:
        problem = draw(args.seed, args.one)
        print(problem.X.shape, problem.params, *problem.kinds, sep="\n")
        for flag in flags_of(problem)[1]:
            print(*flag)
        return
    facts, verdicts = machine(), []
    for found in run(args.problems, args.seed, args.jobs):
        verdicts.append(found)
        if found[-1]:
            print(found[0], *found[-1], flush=True)
    title = (
        "# Random fits, checked by an independent judge\n\n"
        f"`python -m benchmarks.campaign --problems {args.problems} --seed {args.seed}`: "
    )
    text = "\n\n".join([title + described(facts), summary(verdicts)])
    print("\n" + text)
    write(RESULTS, "campaign.md", text)


if __name__ == "__main__":
    main()
