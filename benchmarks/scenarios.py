"""Estimators, data and scenarios that benchmarks.peers compares, also for other benchmarks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.linear_model import (
    HuberRegressor,
    LinearRegression,
    QuantileRegressor,
    Ridge,
    SGDRegressor,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skrobust import SmoothL1Regressor

try:
    import statsmodels.api as sm
except ImportError:
    sm = None
try:
    from skglm import GeneralizedLinearEstimator
    from skglm.datafits import Huber
    from skglm.penalties import L1
    from skglm.solvers import AndersonCD
except ImportError:
    GeneralizedLinearEstimator = None

# The errors have variance 1, but for a tenth that is 10 times as large.
BETA, EPSILON, SMALL_BETA = 1.345, 1.35, 1e-6


class RLM(BaseEstimator):
    """statsmodels' RLM, with the norm and the scale that are its defaults."""

    def fit(self, X, y):
        model = sm.RLM(y, sm.add_constant(X, has_constant="add"), M=sm.robust.norms.HuberT())
        found = model.fit(maxiter=1000)
        self.intercept_, self.coef_ = found.params[0], found.params[1:]
        self.scale_, self.n_iter_ = found.scale, len(found.fit_history["params"]) - 1
        return self


def _sgd():
    return make_pipeline(
        StandardScaler(with_mean=False),
        SGDRegressor(loss="huber", epsilon=BETA, penalty=None, random_state=0),
    )


def _skglm():
    # Without a penalty all features are in the working set from the start.
    solver = AndersonCD(p0=10_000, fit_intercept=True)
    return GeneralizedLinearEstimator(Huber(BETA), L1(0.0), solver)


class Kind(NamedTuple):
    """An estimator and what it minimises: a key of GOALS, or None for least squares."""

    make: Callable
    goal: str | None


OURS = "SmoothL1"
FIXED, AUTO, CONCOMITANT = f"{OURS}(β)", f"{OURS}()", f"{OURS}(ε, concomitant)"
TINY, TINY_SCHEDULE = f"{OURS}(1e-6)", f'{OURS}(1e-6, "geometric")'
HUBER, SGD, SKGLM, RLM_, QUANTILE = "HuberRegressor", "SGD(huber)", "skglm", "RLM", "Quantile"
RIDGE, LINEAR = "Ridge(cholesky)", "LinearRegression"
KINDS = {
    FIXED: Kind(lambda: SmoothL1Regressor(BETA), "huber"),
    SKGLM: Kind(_skglm, "huber"),
    SGD: Kind(_sgd, "huber"),
    AUTO: Kind(SmoothL1Regressor, "mad"),
    RLM_: Kind(RLM, "mad"),
    CONCOMITANT: Kind(lambda: SmoothL1Regressor(EPSILON, scale="concomitant"), "concomitant"),
    HUBER: Kind(
        lambda: HuberRegressor(epsilon=EPSILON, alpha=0.0, max_iter=1000), "concomitant"
    ),
    TINY: Kind(lambda: SmoothL1Regressor(SMALL_BETA), "absolute"),
    TINY_SCHEDULE: Kind(
        lambda: SmoothL1Regressor(SMALL_BETA, beta_schedule="geometric"), "absolute"
    ),
    QUANTILE: Kind(lambda: QuantileRegressor(alpha=0.0), "absolute"),
    RIDGE: Kind(lambda: Ridge(solver="cholesky"), None),
    LINEAR: Kind(LinearRegression, None),
}
MISSING = {RLM_: sm is None, SKGLM: GeneralizedLinearEstimator is None}
# Compiled at the first fit, which is not counted; and whose memory tracemalloc does not see.
COMPILED, UNSEEN = (OURS, SKGLM), (QUANTILE,)
ALL = [FIXED, SKGLM, SGD, AUTO, RLM_, CONCOMITANT, HUBER, RIDGE, LINEAR]
FAST = [name for name in ALL if name != RLM_]


class Data(NamedTuple):
    """A regression problem, and the features and weights in the form that is passed to fit."""

    X: Any
    y: np.ndarray
    weight: np.ndarray | None = None


class Entry(NamedTuple):
    """A row of a scenario: an estimator, or that with a variant of the data."""

    label: str
    kind: str
    data: Data


def entries(kinds, data, variant=""):
    """A row for each estimator that is installed."""
    suffix = f", {variant}" if variant else ""
    return [Entry(kind + suffix, kind, data) for kind in kinds if not MISSING.get(kind)]


def normal(rng, n, p):
    """Independent normal columns of variance 1."""
    return rng.normal(size=(n, p))


def unequal(rng, n, p):
    """Columns with scales from 1 to 1000."""
    return normal(rng, n, p) * np.geomspace(1, 1000, p)


def correlated(rng, n, p):
    """Columns with a correlation of .99 between any two."""
    X = normal(rng, n, p)
    X += 10 * rng.normal(size=(n, 1))
    return X


def leverage(rng, n, p):
    """Twenty rows that are 1e4 times as far out as the others."""
    X = normal(rng, n, p)
    X[rng.choice(n, 20, replace=False)] *= 1e4
    return X


def rare_levels(rng, n, p):
    """Half of the columns indicators of levels, from 3 rows to a twentieth of all."""
    X = normal(rng, n, p)
    count = np.geomspace(3, n / 20, p // 2).astype(int)
    level = np.repeat(np.arange(p // 2), count)
    rows = rng.permutation(n)[: level.size]
    X[:, : p // 2] = 0.0
    X[rows, level] = 1.0
    return X


def heavy_tailed(rng, n, p):
    """Columns with Student's t(1.5) distribution."""
    return rng.standard_t(1.5, size=(n, p))


COLUMNS = {
    "light": normal,
    "unequal scales": unequal,
    "correlated": correlated,
    "leverage points": leverage,
    "rare levels": rare_levels,
    "t(1.5)": heavy_tailed,
}


def make(columns, n, p, n_targets=None, seed=0):
    """Data whose columns explain much of y, in whichever units they come."""
    rng = np.random.default_rng(seed)
    X = columns(rng, int(n), p)
    shape = (X.shape[0],) if n_targets is None else (X.shape[0], n_targets)
    scale = np.sqrt(np.mean(X**2, axis=0))
    coef = (rng.normal(size=(p, *shape[1:])).T / scale).T
    error = rng.normal(size=shape)
    error[rng.random(shape) < 0.1] *= 10
    return Data(X, 3.0 + X @ coef + error)


def make_sparse(n, p, density, seed=0):
    """A CSR matrix with normal entries where it is not zero."""
    rng = np.random.default_rng(seed)
    X = sparse.random_array(
        (n, p), density=density, format="csr", rng=rng, data_sampler=rng.standard_normal
    )
    error = rng.normal(size=n)
    error[rng.random(n) < 0.1] *= 10
    return Data(X, 3.0 + X @ rng.normal(size=p) + error)


def dtypes(data):
    single = Data(data.X.astype(np.float32), data.y.astype(np.float32))
    return {"float64": data, "float32": single}


def layouts(data):
    frame = pd.DataFrame({f"x{j}": column for j, column in enumerate(data.X.T)})
    forms = {"C": data.X, "Fortran": np.asfortranarray(data.X), "DataFrame": frame}
    return {name: data._replace(X=X) for name, X in forms.items()}


def weights(data):
    weight = np.random.default_rng(1).uniform(0.5, 2.0, size=data.y.size)
    return {"none": data, "weights": data._replace(weight=weight)}


def targets(data):
    return {"one": data._replace(y=data.y[:, 0].copy()), "four": data}


class Scenario(NamedTuple):
    """A title, and the rows for a share of the number of rows of X."""

    title: str
    rows: Callable


def hard(columns):
    """One kind of columns for all estimators."""
    return Scenario(
        f"20,000 × 50, {columns}",
        lambda share: entries(ALL, make(COLUMNS[columns], share * 20_000, 50)),
    )


def varied(variants, n, p, n_targets=None):
    """Two of ours and ridge regression on each variant of the same data."""
    return lambda share: [
        entry
        for name, data in variants(make(normal, share * n, p, n_targets)).items()
        for entry in entries([FIXED, AUTO, RIDGE], data, name)
    ]


def tall_hard(share):
    """Two of ours and ridge regression on each kind of columns."""
    return [
        entry
        for name, columns in COLUMNS.items()
        for entry in entries([FIXED, AUTO, RIDGE], make(columns, share * 500_000, 100), name)
    ]


SCENARIOS = {
    "small": Scenario("200 × 5", lambda share: entries(ALL, make(normal, 200, 5))),
    "medium": Scenario(
        "100,000 × 50", lambda share: entries(FAST, make(normal, share * 100_000, 50))
    ),
    "tall": Scenario(
        "500,000 × 100", lambda share: entries(FAST, make(normal, share * 500_000, 100))
    ),
    "wide": Scenario(
        "20,000 × 1,000", lambda share: entries(FAST, make(normal, share * 20_000, 1_000))
    ),
    **{name: hard(name) for name in list(COLUMNS)[1:]},
    "tall hard": Scenario("500,000 × 100, all kinds of columns", tall_hard),
    "sparse": Scenario(
        "100,000 × 2,000, 1 % not zero",
        lambda share: entries(
            [FIXED, SKGLM, SGD, AUTO, CONCOMITANT, HUBER],
            make_sparse(int(share * 100_000), 2_000, 0.01),
        ),
    ),
    "dtype": Scenario("200,000 × 50, float32 and float64", varied(dtypes, 200_000, 50)),
    "layout": Scenario("200,000 × 50, layouts", varied(layouts, 200_000, 50)),
    "weights": Scenario("200,000 × 50, weights and none", varied(weights, 200_000, 50)),
    "targets": Scenario("100,000 × 50, targets", varied(targets, 100_000, 50, 4)),
    "small beta": Scenario(
        "20,000 × 50, β = 1e-6 σ",
        lambda share: entries(
            [TINY, TINY_SCHEDULE, QUANTILE], make(normal, share * 20_000, 50)
        ),
    ),
}
