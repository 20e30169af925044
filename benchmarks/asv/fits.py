"""Fits of typical sizes. The data are generated and the kernels compiled in `setup`."""

import numpy as np
from scipy import sparse

from skrobust import SmoothL1Regressor


def _data(n, p, n_targets=None):
    """Return normal features, and errors of which a tenth are 10 times as large."""
    rng = np.random.default_rng(0)
    shape = (n,) if n_targets is None else (n, n_targets)
    X = rng.normal(size=(n, p))
    error = rng.normal(size=shape)
    error[rng.random(shape) < 0.1] *= 10
    return X, X @ rng.normal(size=(p, *shape[1:])) + error


def _sparse_data(n, p):
    rng = np.random.default_rng(0)
    X = sparse.random_array(
        (n, p), density=0.01, format="csr", rng=rng, data_sampler=rng.standard_normal
    )
    return X, X @ rng.normal(size=p) + rng.normal(size=n)


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
