"""The mathematics, on problems that hypothesis makes up: from 1 × 1, in units from 1e-150 to
1e150, with dependent and constant columns, ties, exact fits and up to 49 % of outliers.

The cases of a longer run: pytest tests/test_properties.py --hypothesis-profile=long
"""

import warnings
from typing import NamedTuple

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, event, given, target
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from skrobust import SmoothL1Regressor, _design, _threads
from skrobust._objective import LinearObjective
from skrobust._problem import Survey, whiten
from skrobust._threads import Team


class Problem(NamedTuple):
    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None
    params: dict


MAGNITUDES = [1.0, 1e-3, 1e9, 1e-150, 1e150]


def _features(draw, rng, n, p):
    kind = draw(st.sampled_from(["normal", "integers", "drawn", "heavy", "levels"]))
    if kind == "drawn":
        values = st.lists(st.integers(-4, 4), min_size=n * p, max_size=n * p)
        X = np.array(draw(values), float).reshape(n, p)
    else:
        X = {
            "normal": lambda: rng.normal(size=(n, p)) + rng.normal(size=(n, 1)),
            "integers": lambda: rng.integers(-2, 3, size=(n, p)).astype(float),
            "heavy": lambda: rng.standard_cauchy(size=(n, p)),
            "levels": lambda: np.eye(p)[rng.integers(p, size=n)],
        }[kind]()
    special = draw(st.sampled_from([None, None, "duplicate", "constant", "near", "sum"]))
    if special and p > 1:
        last = {
            "duplicate": lambda: X[:, 0] * 3,
            "constant": lambda: np.full(n, 7.0),
            "near": lambda: X[:, 0] + 1e-5 * X[:, 1],
            "sum": lambda: X[:, :-1].sum(axis=1),
        }[special]()
        X[:, -1] = last
    return X


@st.composite
def data(draw, max_n=40, max_p=6):
    """X, y: a linear function of X and errors, some of them large and on one side."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, p = draw(st.integers(1, max_n)), draw(st.integers(1, max_p))
    X = _features(draw, rng, n, p)
    y = X @ rng.integers(-3, 4, size=p) + draw(st.sampled_from([0.0, 1.0, 1e4]))
    error = draw(st.sampled_from(["none", "normal", "normal", "cauchy", "ties", "few"]))
    y = y + {
        "none": lambda: 0.0,
        "normal": lambda: rng.normal(size=n),
        "cauchy": lambda: rng.standard_cauchy(size=n),
        "ties": lambda: rng.integers(-1, 2, size=n),
        "few": lambda: rng.normal(size=n) * (rng.random(n) < 0.3),
    }[error]()
    share = draw(st.sampled_from([0.0, 0.0, 0.1, 0.3, 0.49]))
    y[: int(share * n)] += draw(st.sampled_from([10.0, 1e3, 1e6]))
    return X, y


@st.composite
def modes(draw):
    """Parameters that need no unit, but for beta, and alpha for X and y of the order of 1."""
    loss = draw(st.sampled_from(["smooth_l1", "huber"]))
    scale = draw(st.sampled_from([None, None, "mad", "concomitant"]))
    if scale == "concomitant":
        beta = draw(st.sampled_from(["auto", 1.01, 1.35, 5.0]))
    else:
        beta = draw(st.sampled_from(["auto", 1e-8, 1e-3, 0.1, 1.0, 10.0, 1e6]))
    return {
        "beta": beta,
        "loss": loss,
        "scale": scale,
        "alpha": draw(st.sampled_from([0.0, 0.0, 1e-6, 0.1, 1e3])),
        "fit_intercept": draw(st.sampled_from([True, True, False])),
        "beta_schedule": draw(st.sampled_from([None, None, "geometric", [10, 1]])),
    }


@st.composite
def weights(draw, n):
    kind = draw(st.sampled_from([None, None, "integers", "uniform", "heavy"]))
    if kind is None:
        return None
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weight = {
        "integers": lambda: rng.integers(0, 4, size=n).astype(float),
        "uniform": lambda: rng.uniform(0.1, 1.0, size=n),
        "heavy": lambda: rng.pareto(1.0, size=n) + 1e-6,
    }[kind]()
    weight[0] = max(weight[0], 1.0)
    return weight


@st.composite
def problems(draw, units=True, **size):
    X, y = draw(data(**size))
    params = draw(modes())
    weight = draw(weights(n=len(y)))
    if units:
        of_y = draw(st.sampled_from(MAGNITUDES))
        of_X = [draw(st.sampled_from(MAGNITUDES)) for _ in range(X.shape[1])]
        if params["alpha"]:
            # Else w is beyond what the penalty can square, or αβ is no normal number.
            of_X = of_y = np.clip(of_y, 1e-100, 1e100)
            square = params["loss"] == "huber" and params["scale"] != "concomitant"
            params["alpha"] *= of_y * (of_y if square else 1.0)
        X, y = X * of_X, y * of_y
        if isinstance(params["beta"], float) and params["scale"] is None:
            params["beta"] = params["beta"] * of_y
    return Problem(X, y, weight, params)


def fitted(X, y, weight, params):
    """The model, and whether it was reported as converged."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        warnings.simplefilter("always", ConvergenceWarning)
        est = SmoothL1Regressor(**params).fit(X, y, weight)
    return est, not caught


@given(problems())
def test_what_is_reported_as_converged_is_the_optimum(certificate, problem):
    est, converged = fitted(*problem)
    event(f"converged: {converged}")
    found = certificate(est, problem.X, problem.y, problem.weight)
    value, error = found.objective()
    assert est.beta_ > 0
    assert 0 <= est.optimality_ <= 1
    with np.errstate(over="ignore"):  # as large as y² with the Huber loss
        assert est.objective_ == pytest.approx(float(value), 1e-9, float(2 * error) + 1e-323)
    if not converged:
        return
    # A penalty may hold coefficients that no residual and no objective can tell.
    if found.distance() > 1e-7:
        assert est.alpha
        assert found.gap() <= 1e-10 + 2 * error / value
    if est.scale or est.beta == "auto":
        low, high = found.scale_bounds()
        # Held at the floor, the scale is above.
        high = max(high, 4 * found.rounding.max() or 1e-31)
        assert low * (1 - 1e-7) <= est.scale_ <= high * (1 + 1e-7)
