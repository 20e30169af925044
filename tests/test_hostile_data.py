"""Ill-conditioned, degenerate and heavy-tailed data.

A fit without a ConvergenceWarning minimises the objective.
"""

import importlib.util
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.linalg import hilbert
from sklearn.exceptions import ConvergenceWarning

from skrobust import SmoothL1Regressor

pytestmark = pytest.mark.usefixtures("each_engine")

# benchmarks/digits.py is not part of the package. It contains the problems and a function that
# counts correct digits.
_FILE = Path(__file__).parents[1] / "benchmarks" / "digits.py"
_SPEC = importlib.util.spec_from_file_location("digits", _FILE)
table = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(table)

MODES = [
    {},
    {"beta": 1.0},
    {"beta": 1e-6},
    {"beta": 1e6},
    {"scale": "concomitant"},
    {"beta": 1.0, "loss": "huber", "alpha": 1e-3},
]


def rng():
    return np.random.default_rng(0)


def milliseconds():
    t = 1.7e12 + np.arange(300) * 8.64e7
    return np.column_stack([t, np.sin(t / 1e9)])


def rare_levels():
    level = np.concatenate([np.zeros(280, int), np.ones(17, int), [2, 2, 3]])
    return np.eye(4)[level]


def constant_but_for_a_row():
    X = rng().normal(size=(100, 3))
    X[:, 1], X[7, 1] = 5.0, 5.0 + 1e-6
    return X


CORPUS = {
    "hilbert": lambda: hilbert(12)[:, :8],
    "vandermonde": lambda: np.vander(np.linspace(0, 1, 60), 12)[:, :-1],
    "large vandermonde": lambda: np.vander(np.arange(40.0), 9)[:, :-1],
    "filip": lambda: table.PROBLEMS["Filip"]()[0],
    "milliseconds": milliseconds,
    "rare levels": rare_levels,
    "constant but for a row": constant_but_for_a_row,
    "cauchy columns": lambda: rng().standard_cauchy(size=(200, 4)),
    "nearly equal": lambda: rng().normal(size=(80, 1)) + 1e-9 * rng().normal(size=(80, 3)),
    "of any size": lambda: rng().normal(size=(90, 5)) * [1e-150, 1e-9, 1.0, 1e9, 1e150],
    "leverage": lambda: np.vstack([rng().normal(size=(99, 3)), [1e8, -1e8, 1e8]]),
    "wide": lambda: rng().normal(size=(15, 40)),
}


def errors(kind, n):
    rng = np.random.default_rng(1)
    e = rng.standard_cauchy(n) if kind == "cauchy" else rng.normal(size=n)
    if kind == "one side":
        e[: int(0.4 * n)] += 100.0
    return rng.integers(-1, 2, n).astype(float) if kind == "ties" else e


@pytest.mark.slow
@pytest.mark.parametrize("params", MODES, ids=str)
@pytest.mark.parametrize("kind", ["normal", "cauchy", "one side", "ties"])
@pytest.mark.parametrize("name", CORPUS)
def test_what_is_reported_as_converged_is_the_optimum(certificate, name, kind, params):
    X = CORPUS[name]()
    size = np.abs(X).max(axis=0)
    if "alpha" in params:
        X = X / size
        size = 1.0
    y = X @ (np.ones(X.shape[1]) / size) + errors(kind, len(X))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        warnings.simplefilter("always", ConvergenceWarning)
        est = SmoothL1Regressor(**params).fit(X, y)
    # With nearly equal columns, terms with coefficients of 1e9 cancel, so the fit may not
    # converge.
    assert not caught or name == "nearly equal"
    found = certificate(est, X, y)
    value, error = found.objective()
    assert est.objective_ == pytest.approx(float(value), 1e-9, float(2 * error))
    assert found.distance() <= 1e-7 or found.descent() <= 1e-12 + 2 * error / value


@pytest.mark.parametrize("kind", ["cauchy", "one side"])
def test_the_law_is_found_under_errors_without_a_mean_and_many_outliers(kind):
    X = rng().normal(size=(2000, 3))
    est = SmoothL1Regressor(1.345).fit(X, X @ [1.0, -2.0, 3.0] + errors(kind, 2000))
    assert_allclose(est.coef_, [1.0, -2.0, 3.0], atol=0.15)


def test_the_default_breaks_down_at_forty_percent_on_one_side_as_documented():
    X = rng().normal(size=(500, 2))
    est = SmoothL1Regressor().fit(X, X @ [1.0, 2.0] + errors("one side", 500))
    assert est.intercept_ > 30
    assert not est.outliers_.any()


# The required number of correct digits: half a digit less than the smallest number found with
# OpenBLAS kernels for six processors and Numba code for three processors.
DIGITS = {
    "Longley": 11.0,
    "Filip": 6.2,
    "Wampler1": 8.4,
    "Wampler2": 12.5,
    "Wampler3": 5.7,
    "Wampler4": 5.8,
    "Wampler5": 5.1,
    "NoInt1": 15.1,
    "NoInt2": 15.1,
    "Hilbert 10 × 6": 6.8,
    "x, …, x⁸ on 0, …, 39": 1.9,
    "x, …, x⁹ on 0 … 1": 8.6,
    "timestamps in ms": 14.5,
}


@pytest.mark.parametrize("name", DIGITS)
def test_digits_are_those_of_the_table(name):
    X, y, certified = table.PROBLEMS[name]()
    found = {
        key: table.digits(make(y), X, y, certified) for key, make in table.ESTIMATORS.items()
    }
    assert found["SmoothL1Regressor"] >= DIGITS[name]
    assert found["SmoothL1Regressor"] >= found["HuberRegressor"]


def test_wampler_agrees_with_the_data_of_nist():
    X, y, _ = table.PROBLEMS["Wampler5"]()
    assert X[3].tolist() == [3, 9, 27, 81, 243]
    assert y[[0, 1, 8, 20]].tolist() == [7590001, -20479994, 18417449, 10958421]


def test_filip_agrees_with_the_data_of_nist():
    X, y, certified = table.PROBLEMS["Filip"]()
    powers = np.array([[Fraction(x) ** j for j in range(1, 11)] for x in X[:, 0]])
    assert_allclose(table._exact(powers, y), certified, rtol=1e-13)
    # Rounding the powers of x to float64 leaves 7.9 correct digits in the coefficients.
    assert np.abs(table._exact(X, y) / certified - 1).max() == pytest.approx(10**-7.9, 0.01)
