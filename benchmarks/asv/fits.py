"""Fits to data of typical sizes. `setup` generates the data and compiles the kernels."""

import numpy as np
from scipy import sparse

from skrobust import SmoothL1Regressor, smooth_l1_path


def _data(n, p, n_targets=None):
    """Return normal features, and y, for which a tenth of the errors are multiplied by 10."""
    rng = np.random.default_rng(0)
    shape = (n,) if n_targets is None else (n, n_targets)
    X = rng.normal(size=(n, p))
    error = rng.normal(size=shape)
    error[rng.random(shape) < 0.1] *= 10
    return X, X @ rng.normal(size=(p, *shape[1:])) + error


def _sparse_model(n, p):
    """Return correlated features, 10 of which have an effect, and y with 10 % outliers."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, p))
    X[:, 1:] += 0.5 * X[:, :-1]
    y = X[:, :10].sum(axis=1) + rng.normal(size=n)
    y[rng.random(n) < 0.1] += 50
    return X, y


def _sparse_data(n, p):
    rng = np.random.default_rng(0)
    X = sparse.random_array(
        (n, p), density=0.01, format="csr", rng=rng, data_sampler=rng.standard_normal
    )
    return X, X @ rng.normal(size=p) + rng.normal(size=n)


_LASSO = {"beta": 1.345, "loss": "huber", "l1_ratio": 1.0}
_CASES = {
    "small": (lambda: _data(200, 5), {"beta": 1.345}),
    "small auto": (lambda: _data(200, 5), {}),
    "medium": (lambda: _data(100_000, 50), {"beta": 1.345}),
    "medium auto": (lambda: _data(100_000, 50), {}),
    "medium concomitant": (lambda: _data(100_000, 50), {"scale": "concomitant"}),
    "wide": (lambda: _data(5_000, 500), {"beta": 1.345}),
    "sparse": (lambda: _sparse_data(50_000, 500), {"beta": 1.345}),
    "small beta": (lambda: _data(5_000, 20), {"beta": 1e-6}),
    "four targets": (lambda: _data(50_000, 50, 4), {}),
    "lasso wide": (lambda: _sparse_model(500, 2_000), {**_LASSO, "alpha": 0.1}),
    "lasso medium": (lambda: _sparse_model(20_000, 200), {**_LASSO, "alpha": 0.03}),
    "lasso concomitant": (
        lambda: _sparse_model(500, 500),
        {"alpha": 0.1, "l1_ratio": 1.0, "scale": "concomitant"},
    ),
    "positive": (lambda: _sparse_model(20_000, 50), {"beta": 1.345, "positive": True}),
}


class Fit:
    """A fit; `track_passes` counts the passes of the solver over X."""

    params = list(_CASES)
    param_names = ["case"]

    def setup(self, case):
        make, self.parameters = _CASES[case]
        self.X, self.y = make()
        self.time_fit(case)

    def time_fit(self, case):
        SmoothL1Regressor(**self.parameters).fit(self.X, self.y)

    def peakmem_fit(self, case):
        self.time_fit(case)

    def track_passes(self, case):
        model = SmoothL1Regressor(**self.parameters).fit(self.X, self.y)
        return sum(stage["n_eval"] for stage in model.history_)

    track_passes.unit = "passes"


class SparsePath:
    """A path of 20 L1 penalties, from the largest one to a fifth of it."""

    def setup(self):
        self.X, self.y = _sparse_model(500, 2_000)
        largest = smooth_l1_path(self.X, self.y, alphas=1, **_LASSO).grid[0]
        self.alphas = np.geomspace(largest, 0.2 * largest, 20)
        self.time_path()

    def time_path(self):
        smooth_l1_path(self.X, self.y, alphas=self.alphas, **_LASSO)
