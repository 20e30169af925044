"""Functions for tests that run a program in a fresh interpreter, and for those programs.

A program starts with `PREAMBLE`, which imports this module as `programs`. To save time, this
module does not import pytest.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_info

from skrobust import SmoothL1Regressor

PREAMBLE = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import programs
"""


def run(program, *flags, timeout=300, cwd=None, **environment):
    """Return the output of a program in a fresh interpreter in which warnings are errors.

    Environment variables whose value is None are unset.
    """
    command = [sys.executable, "-W", "error", *flags, "-c", program]
    environment = {
        name: value for name, value in (os.environ | environment).items() if value is not None
    }
    options = {"capture_output": True, "text": True, "timeout": timeout, "check": False}
    done = subprocess.run(command, cwd=cwd, env=environment, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def heavy_tailed(n, p, seed=0):
    """Return correlated features and a target with heavy-tailed errors.

    BLAS is not used, because the last bits of its results may depend on the number of threads.
    """
    rng = np.random.default_rng(seed)
    X = np.cumsum(rng.normal(size=(n, p)), axis=1) / np.sqrt(np.arange(1, p + 1))
    X += rng.normal(size=p)
    return X, (X * rng.normal(size=p)).sum(axis=1) + rng.standard_t(2, size=n)


def digest(est):
    """Return a hash of the fitted attributes."""
    found = [est.coef_, est.intercept_, est.scale_, est.beta_, est.objective_, est.outliers_]
    parts = [np.ascontiguousarray(value).tobytes() for value in found]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def fitted(X, y, **options):
    return digest(SmoothL1Regressor(**options).fit(X, y))


def blas_threads():
    found = [lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"]
    return sorted(found)


SHAPES = {
    "tall": (60_000, 40),  # the fit starts from a sample
    "whole": (40_000, 30),  # the fit uses threads but no sample
    "gram": (1_500, 210),  # BLAS results depend on the number of threads
}
LAYOUTS = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "float32": lambda X: X.astype(np.float32),
    "csr": lambda X: sparse.csr_array(np.where(np.abs(X) > 0.7, X, 0.0)),
}
CASES = [
    ("tall", "C", {}),
    ("gram", "C", {"beta": 1.0, "alpha": 0.1}),
    ("dependent", "C", {"beta": 1.0}),
    ("whole", "csr", {}),
    ("tall", "F", {}),
    ("tall", "float32", {"scale": "concomitant"}),
    ("whole", "C", {"beta": 1e-3}),
]
# Fits with these parameters use the kernels compiled by a fit with default parameters.
SAME_KERNELS = [
    {"beta": 1.0},
    {"beta": 1e-9},
    {"loss": "huber", "scale": "concomitant"},
    {"alpha": 0.1, "fit_intercept": False},
]


def data(shape, layout):
    if shape == "dependent":  # the fit uses an eigenvalue or singular value decomposition
        X, y = heavy_tailed(600, 110)
        X = np.hstack([X, X + 1.0])
    else:
        X, y = heavy_tailed(*SHAPES[shape])
    return LAYOUTS[layout](X), y
