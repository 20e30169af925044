"""Estimators, data and scenarios for benchmarks.peers and other benchmarks."""

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
    from pinball import QuantileRegressor as InteriorPoint
except ImportError:
    InteriorPoint = None
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

# The threshold of SmoothL1Regressor, epsilon of HuberRegressor, and a small threshold. In all
# scenarios, the errors have variance 1, and a tenth of them are multiplied by 10.
BETA, EPSILON, SMALL_BETA = 1.345, 1.35, 1e-6


class RLM(BaseEstimator):
    """statsmodels' RLM with its default norm and scale, as a scikit-learn estimator."""

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
    # Without a penalty, all features are in the working set from the start.
    solver = AndersonCD(p0=10_000, fit_intercept=True)
    return GeneralizedLinearEstimator(Huber(BETA), L1(0.0), solver)


def _ours(data, *args, **kwargs):
    """Return a SmoothL1Regressor with the same penalty as HuberRegressor(alpha=data.alpha)."""
    if data.alpha:
        kwargs |= {"loss": "huber", "alpha": data.alpha / data.y.size}
    return SmoothL1Regressor(*args, **kwargs)


def _huber(data):
    # The limit of 100 iterations is HuberRegressor's default.
    max_iter = 100 if data.is_wide_sparse else 1000
    return HuberRegressor(epsilon=EPSILON, alpha=data.alpha, max_iter=max_iter)


class Kind(NamedTuple):
    """A function that returns an estimator for data, and the name of its objective.

    The name is None for least squares.
    """

    make: Callable
    goal: str | None


OURS = "SmoothL1"
FIXED, AUTO, CONCOMITANT = f"{OURS}(β)", f"{OURS}()", f"{OURS}(ε, concomitant)"
TINY, TINY_SCHEDULE = f"{OURS}(1e-6)", f'{OURS}(1e-6, "geometric")'
HUBER, SGD, SKGLM, RLM_, QUANTILE = "HuberRegressor", "SGD(huber)", "skglm", "RLM", "Quantile"
PINBALL = "pinball-qr"
RIDGE, RIDGE_CG, LINEAR = "Ridge(cholesky)", "Ridge(sparse_cg)", "LinearRegression"
KINDS = {
    FIXED: Kind(lambda data: _ours(data, BETA), "huber"),
    SKGLM: Kind(lambda data: _skglm(), "huber"),
    SGD: Kind(lambda data: _sgd(), "huber"),
    AUTO: Kind(_ours, "mad"),
    RLM_: Kind(lambda data: RLM(), "mad"),
    CONCOMITANT: Kind(lambda data: _ours(data, EPSILON, scale="concomitant"), "concomitant"),
    HUBER: Kind(_huber, "concomitant"),
    TINY: Kind(lambda data: _ours(data, SMALL_BETA), "absolute"),
    TINY_SCHEDULE: Kind(
        lambda data: _ours(data, SMALL_BETA, beta_schedule="geometric"), "absolute"
    ),
    QUANTILE: Kind(lambda data: QuantileRegressor(alpha=0.0), "absolute"),
    PINBALL: Kind(lambda data: InteriorPoint(tau=0.5, method="fn"), "absolute"),
    RIDGE: Kind(lambda data: Ridge(solver="cholesky"), None),
    RIDGE_CG: Kind(lambda data: Ridge(data.alpha, solver="sparse_cg"), None),
    LINEAR: Kind(lambda data: LinearRegression(), None),
}
MISSING = {
    RLM_: sm is None,
    SKGLM: GeneralizedLinearEstimator is None,
    PINBALL: InteriorPoint is None,
}
# The first fit of an estimator whose name starts with an element of COMPILED compiles functions
# and is not measured. tracemalloc cannot measure the memory of the estimators in UNSEEN.
COMPILED, UNSEEN = (OURS, SKGLM), (QUANTILE, PINBALL)
ALL = [FIXED, SKGLM, SGD, AUTO, RLM_, CONCOMITANT, HUBER, RIDGE, LINEAR]
FAST = [name for name in ALL if name != RLM_]
SPARSE_WIDE = [CONCOMITANT, HUBER, FIXED, AUTO, RIDGE_CG]


class Data(NamedTuple):
    """A regression problem, with the data that are passed to `fit`.

    `alpha` is the penalty of HuberRegressor, which adds alpha ‖w‖² to the sum of the losses.
    """

    X: Any
    y: np.ndarray
    weight: np.ndarray | None = None
    alpha: float = 0.0

    @property
    def is_wide_sparse(self):
        """Whether X is sparse with more than half as many columns as rows."""
        return sparse.issparse(self.X) and self.X.shape[0] < 2 * self.X.shape[1]


class Entry(NamedTuple):
    """A row in the table of a scenario: its label, a kind of estimator, and the data."""

    label: str
    kind: str
    data: Data


def entries(kinds, data, variant=""):
    """Return an Entry for each kind of estimator that is installed."""
    suffix = f", {variant}" if variant else ""
    return [Entry(kind + suffix, kind, data) for kind in kinds if not MISSING.get(kind)]


def normal(rng, n, p):
    """Return independent normal columns of variance 1."""
    return rng.normal(size=(n, p))


def unequal(rng, n, p):
    """Return normal columns with scales from 1 to 1000."""
    return normal(rng, n, p) * np.geomspace(1, 1000, p)


def correlated(rng, n, p):
    """Return normal columns with pairwise correlations of 0.99."""
    X = normal(rng, n, p)
    X += 10 * rng.normal(size=(n, 1))
    return X


def leverage(rng, n, p):
    """Return normal columns, with twenty rows multiplied by 1e4."""
    X = normal(rng, n, p)
    X[rng.choice(n, 20, replace=False)] *= 1e4
    return X


def rare_levels(rng, n, p):
    """Return columns, half of them normal, half indicators of levels with 3 to n / 20 rows."""
    X = normal(rng, n, p)
    count = np.geomspace(3, n / 20, p // 2).astype(int)
    level = np.repeat(np.arange(p // 2), count)
    rows = rng.permutation(n)[: level.size]
    X[:, : p // 2] = 0.0
    X[rows, level] = 1.0
    return X


def heavy_tailed(rng, n, p):
    """Return columns with Student's t(1.5) distribution."""
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
    """Return data in which each column explains about the same part of the variance of y."""
    rng = np.random.default_rng(seed)
    X = columns(rng, int(n), p)
    shape = (X.shape[0],) if n_targets is None else (X.shape[0], n_targets)
    scale = np.sqrt(np.mean(X**2, axis=0))
    coef = (rng.normal(size=(p, *shape[1:])).T / scale).T
    error = rng.normal(size=shape)
    error[rng.random(shape) < 0.1] *= 10
    return Data(X, 3.0 + X @ coef + error)


def make_sparse(n, p, density, stored="standard_normal", seed=0):
    """Return data with a CSR matrix; the method `stored` of `rng` draws its stored values."""
    rng = np.random.default_rng(seed)
    X = sparse.random_array(
        (n, p), density=density, format="csr", rng=rng, data_sampler=getattr(rng, stored)
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
    """A title, a function that returns the entries, and the time limit of a fit in seconds.

    The argument of the function is the fraction of the rows of X to use.
    """

    title: str
    rows: Callable
    limit: float = 20.0


def hard(columns):
    """Return a scenario with all estimators for the given kind of columns."""
    return Scenario(
        f"20,000 × 50, {columns}",
        lambda share: entries(ALL, make(COLUMNS[columns], share * 20_000, 50)),
    )


def varied(variants, n, p, n_targets=None):
    """Return a function that returns the entries for all variants of the data.

    The estimators are SmoothL1Regressor with a fixed and with the default threshold, and ridge
    regression.
    """
    return lambda share: [
        entry
        for name, data in variants(make(normal, share * n, p, n_targets)).items()
        for entry in entries([FIXED, AUTO, RIDGE], data, name)
    ]


def tall_hard(share):
    """Return entries with the estimators of `varied` for each kind of columns."""
    return [
        entry
        for name, columns in COLUMNS.items()
        for entry in entries([FIXED, AUTO, RIDGE], make(columns, share * 500_000, 100), name)
    ]


def sparse_wide(n, p, stored, alpha):
    """Return a scenario with non-negative sparse X, as for text or categorical features."""

    def rows(share):
        data = make_sparse(int(share * n), p, stored / p, "random")
        return entries(SPARSE_WIDE, data._replace(alpha=alpha))

    return Scenario(
        f"{n:,} × {p:,}, {stored} nonzeros per row, α = {alpha:g}", rows, limit=15.0
    )


# Numbers of rows, columns and nonzeros per row, and values of α. The second value of α is the
# default of HuberRegressor.
SPARSE_WIDE_SHAPES = [
    (2_000, 4_000, 60),
    (4_001, 4_000, 40),
    (2_000, 20_000, 60),
    (20_000, 50_000, 40),
]
PENALTIES = [1.0, 1e-4, 0.0]


def sparse_wide_names(n, p, *_):
    return [f"sparse {n:,} × {p:,}, α = {alpha:g}" for alpha in PENALTIES]


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
        "100,000 × 2,000, 1 % nonzeros",
        lambda share: entries(
            [FIXED, SKGLM, SGD, AUTO, CONCOMITANT, HUBER],
            make_sparse(int(share * 100_000), 2_000, 0.01),
        ),
    ),
    **{
        name: sparse_wide(*shape, alpha)
        for shape in SPARSE_WIDE_SHAPES
        for name, alpha in zip(sparse_wide_names(*shape), PENALTIES, strict=True)
    },
    "dtype": Scenario("200,000 × 50, float32 and float64", varied(dtypes, 200_000, 50)),
    "layout": Scenario("200,000 × 50, layouts", varied(layouts, 200_000, 50)),
    "weights": Scenario("200,000 × 50, weights and none", varied(weights, 200_000, 50)),
    "targets": Scenario("100,000 × 50, targets", varied(targets, 100_000, 50, 4)),
    "small beta": Scenario(
        "20,000 × 50, β = 1e-6 σ",
        lambda share: entries(
            [TINY, TINY_SCHEDULE, QUANTILE, PINBALL], make(normal, share * 20_000, 50)
        ),
        limit=60.0,
    ),
}
