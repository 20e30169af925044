"""The duality gap bounds the suboptimality of any coefficients, even with an L1 penalty."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

from skrobust import SmoothL1Regressor, duality_gap

PENALTIES = [
    {"l1_ratio": 1.0},
    {"l1_ratio": 0.4},
    {"l1_ratio": 1.0, "positive": True},
    {"l1_ratio": 0.0, "positive": True},
    {"l1_ratio": 0.0},
    {"alpha": 0.0, "positive": True},
]
SCALES = [
    {"beta": 1.0},
    {"beta": 0.05},
    {"beta": 2.0, "scale": "mad"},
    {"scale": "concomitant"},
    {"beta": 1.2, "scale": "concomitant", "loss": "huber"},
    {"beta": 1.0, "loss": "huber", "fit_intercept": False},
]


# For |r| below such a small threshold, rounding errors of the residuals r affect ψ(r).
SMALL = [{"beta": 1e-7}, {"beta": 1e-12, "loss": "huber"}]


def objective(model, X, y, weight):
    """Return the documented objective at the attributes `coef_`, `scale_` and `beta_`."""
    r, beta, w = np.abs(y - X @ model.coef_ - model.intercept_), model.beta_, model.coef_
    value = np.average(np.where(r <= beta, r * r / 2, beta * (r - beta / 2)), weights=weight)
    if model.scale == "concomitant":
        value = value / model.scale_ + model.scale_ / 2
        value /= 1.0 if model.loss == "huber" else beta / model.scale_
    elif model.loss == "smooth_l1":
        value /= beta
    q = np.ones(len(w)) if model.penalty_weights is None else model.penalty_weights
    q = np.where(np.isinf(q), 0.0, q)
    rho = model.l1_ratio
    return value + model.alpha * q @ (rho * np.abs(w) + (1 - rho) / 2 * w**2)


@given(
    seed=st.integers(0, 10**6),
    penalty=st.sampled_from(PENALTIES),
    scale=st.sampled_from(SCALES + SMALL),
    shape=st.sampled_from([(40, 4), (30, 12), (12, 20)]),
    size=st.sampled_from([1e-8, 1e-3, 0.1, 10.0]),
    weighted=st.booleans(),
    uneven=st.booleans(),
)
def test_the_gap_of_any_coefficients_is_a_bound(
    seed, penalty, scale, shape, size, weighted, uneven
):
    rng = np.random.default_rng(seed)
    n, p = shape
    X = rng.normal(size=shape) * 10.0 ** rng.integers(-1, 2, size=p)
    y = X[:, 0] / X[:, 0].std() + rng.standard_t(1.5, size=n)
    weight = rng.uniform(0.1, 1.0, size=n) if weighted else None
    # Few features are unpenalised, since many unpenalised features would interpolate wide data.
    q = rng.choice([0.0, 0.5, 1.0, 2.0, np.inf], p=[0.1, 0.2, 0.4, 0.2, 0.1], size=p)
    parameters = {"alpha": 10.0 ** rng.uniform(-2, 0), **scale, **penalty}
    model = SmoothL1Regressor(**parameters, penalty_weights=q if uneven else None, tol=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y, sample_weight=weight)
    lowest = objective(model, X, y, weight)
    assert -1e-12 <= duality_gap(model, X, y, sample_weight=weight) <= 1
    coef = model.coef_
    moved = coef + size * rng.normal(size=p) / X.std(0)
    moved *= rng.random(p) < 0.8
    if model.penalty_weights is not None:
        moved[np.isinf(model.penalty_weights)] = 0.0
    model.coef_ = np.maximum(moved, 0.0) if model.positive else moved
    if model.fit_intercept:
        model.intercept_ += size * rng.normal()
    if model.scale == "concomitant":
        factor = np.exp(size * rng.normal() / 10)
        model.scale_, model.beta_ = factor * model.scale_, factor * model.beta_
    value = objective(model, X, y, weight)
    gap = duality_gap(model, X, y, sample_weight=weight)
    assert gap <= 1
    # The tolerance is the rounding error of the two objective values.
    assert gap * value >= value - lowest - 1e-11 * max(value, lowest)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("scale", SCALES + SMALL)
def test_the_gap_of_a_fit_that_converged_is_small(scale, penalty):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 8))
    y = X[:, 0] - X[:, 1] + rng.standard_t(2, size=50)
    q = np.array([1.0, 0.0, 1.0, 2.0, np.inf, 0.5, 1.0, 1.0])
    for weights in (None, q):
        parameters = {"alpha": 0.05, **scale, **penalty, "penalty_weights": weights}
        model = SmoothL1Regressor(**parameters).fit(X, y)
        gap = duality_gap(model, X, y)
        assert gap <= 1e-8
        assert model.optimality_ == pytest.approx(gap, abs=1e-8 if scale in SMALL else 1e-12)
