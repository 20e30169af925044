"""Data, sets of parameters (modes) and formulas shared by several test files.

The objective is computed by the documented formulas, with the losses in `skrobust.losses`.
"""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from skrobust import SmoothL1Regressor
from skrobust.losses import huber, smooth_l1

try:
    from sklearn import callback as sklearn_callback
except ImportError:
    sklearn_callback = None

needs_callbacks = pytest.mark.skipif(
    sklearn_callback is None, reason="scikit-learn before 1.9 has no callbacks"
)

EPS = np.finfo(float).eps
NORMAL_MAD = 0.6744897501960817
LOSSES = ["smooth_l1", "huber"]
SCALES = [
    {},
    {"beta": 1.7},
    {"beta": 0.6, "scale": "mad"},
    {"scale": "concomitant"},
    {"beta": 1.35, "scale": "concomitant"},
]
FITTED = ["coef_", "intercept_", "beta_", "scale_", "n_iter_", "objective_", "optimality_"]
FITTED += ["outliers_", "weights_", "history_", "n_features_in_"]


class Recorder:
    """A callback that records its calls and can stop the fit or raise an exception."""

    def __init__(self, stop_after=None, error=None, at="end"):
        self.stop_after, self.error, self.at = stop_after, error, at
        self.begun, self.ended, self.predictions, self.torn_down = [], [], [], 0

    def setup(self, estimator, context):
        self.root = context

    def teardown(self, estimator, context):
        self.torn_down += 1

    def on_fit_task_begin(self, estimator, context):
        self.begun.append(context)
        if self.error and self.at == "begin" and context.parent is not None:
            raise self.error

    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
        self.ended.append(context)
        if context.parent is not None:
            self.predictions.append(fitted_estimator.predict(X))
            if self.error:
                raise self.error
            return len(self.predictions) == self.stop_after
        return False


def make(n=100, p=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) * np.geomspace(0.1, 10, p) + 1.0
    y = X @ np.linspace(2, -1, p) + 3 + rng.standard_t(2, n)
    y[: n // 10] += 30
    return X, y


X, Y = make()
WEIGHT = np.random.default_rng(9).integers(1, 5, len(Y)).astype(float)
TARGETS = np.column_stack([Y, np.sin(Y), 1e3 * Y**2])


def residual(est, X=X, y=Y):
    return y - X @ est.coef_ - est.intercept_


def weighted_mad(r, weight=None):
    """Return the normalised MAD of residuals that are repeated according to integer weights."""
    rows = (
        np.arange(len(r))
        if weight is None
        else np.repeat(np.arange(len(r)), weight.astype(int))
    )
    return np.median(np.abs(r[rows])) / NORMAL_MAD


def concomitant(r, sigma, epsilon, loss, weight=None):
    z = np.abs(r) / sigma
    H = np.where(z <= epsilon, z**2, 2 * epsilon * z - epsilon**2)
    value = np.average(sigma + H * sigma, weights=weight) / 2
    return value if loss == "huber" else value / epsilon


def documented_objective(est, X=X, y=Y, weight=None):
    """Return the objective by the formula in the estimator's docstring."""
    r = residual(est, X, y)
    if est.scale == "concomitant":
        epsilon = 1.5960 if est.beta == "auto" else est.beta
        value = concomitant(r, est.scale_, epsilon, est.loss, weight)
    else:
        loss = huber if est.loss == "huber" else smooth_l1
        value = np.average(loss(r, est.beta_), weights=weight)
    return value + est.alpha / 2 * est.coef_ @ est.coef_


def stopped(max_iter, **params):
    """Return a fit with at most `max_iter` iterations, and ignore any ConvergenceWarning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return SmoothL1Regressor(max_iter=max_iter, **params).fit(X, Y)


plain_and_weighted = pytest.mark.parametrize(
    "weight", [None, WEIGHT], ids=["plain", "weighted"]
)
one_and_three_targets = pytest.mark.parametrize(
    "y", [Y, TARGETS], ids=["1 target", "3 targets"]
)

DEGENERATE_MODES = [
    {},
    {"loss": "huber"},
    {"beta": 1.0},
    {"beta": 1e-6},
    {"beta": 1e6},
    {"beta": 0.5, "scale": "mad"},
    {"scale": "concomitant"},
    {"beta": 1.35, "scale": "concomitant", "loss": "huber"},
    {"beta_schedule": "geometric"},
    {"beta_schedule": [10, 3, 1]},
    {"scale": "concomitant", "beta_schedule": "cosine"},
    {"beta": 1.0, "beta_schedule": "linear"},
]
OF_SCALE = [mode for mode in DEGENERATE_MODES if mode.get("beta", 0) == 0 or "scale" in mode]
# Sets of parameters whose tests are not marked as slow.
QUICK_MODES = [{}, {"beta": 1e-6}, {"scale": "concomitant"}]


def in_modes(modes):
    """Parametrise a test over sets of parameters, and mark all but `QUICK_MODES` as slow."""
    slow = pytest.mark.slow
    modes = [m if m in QUICK_MODES else pytest.param(m, marks=slow) for m in modes]
    return pytest.mark.parametrize("mode", modes)


def grid(values):
    """Round the values to multiples of 2⁻²⁰, to which 1e9 can be added exactly."""
    return np.round(values * 2**20) / 2**20


def assert_sane(est):
    """Assert that all attributes are finite and that the threshold and scale are positive."""
    for name in ["coef_", "intercept_", "beta_", "scale_", "objective_", "optimality_"]:
        assert np.all(np.isfinite(getattr(est, name))), name
    assert np.all(est.beta_ > 0)
    assert np.all(est.scale_ > 0)
    assert np.all(est.optimality_ >= 0)
