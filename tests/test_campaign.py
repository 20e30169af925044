"""A short campaign of random fits, and the function `judge`, which checks each fit.

``python -m benchmarks.campaign`` runs the long campaign.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import least_squares

from skrobust import SmoothL1Regressor
from skrobust.losses import huber

# The benchmarks directory is part of the repository but not of the package.
_FOLDER = Path(__file__).parents[1] / "benchmarks"
_SPEC = importlib.util.spec_from_file_location(
    "benchmarks", _FOLDER / "__init__.py", submodule_search_locations=[str(_FOLDER)]
)
sys.modules["benchmarks"] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(sys.modules["benchmarks"])

from benchmarks import campaign  # noqa: E402
from benchmarks.judge import Data, Fit, judge  # noqa: E402

pytestmark = pytest.mark.skipif(
    np.finfo(np.longdouble).eps > 1e-18, reason="the judge needs extended precision"
)


@pytest.mark.parametrize("block", range(10))
def test_no_fit_of_a_short_campaign_is_flagged(block):
    flagged = {}
    for number in range(30 * block, 30 * block + 30):
        *_, flags = campaign.verdict(number, seed=0)
        if flags:
            flagged[number] = flags
    assert not flagged


MODES = [
    {"beta": 0.5},
    {"beta": 1e-6},
    {"beta": 0.5, "alpha": 0.1},
    {"beta": 0.5, "loss": "huber", "alpha": 1e-6},
    {"scale": "mad"},
    {"scale": "concomitant"},
    {"scale": "concomitant", "loss": "huber", "alpha": 0.1},
]


def problem(mode, form="C", weight=None):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4)) + rng.normal(size=(60, 1))
    y = X @ [1.0, 2.0, 0.0, -1.0] + rng.standard_t(2, size=60)
    params = SmoothL1Regressor(**mode).get_params()
    return campaign.Problem(X, y, weight, params, "single", ())


def flags(problem, est, warned=False):
    return {flag.name for flag in campaign._estimator_flags(problem, est, warned)[1]}


@pytest.mark.parametrize("mode", MODES)
def test_the_judge_refuses_what_is_moved_from_the_minimum(mode):
    given = problem(mode)
    est = SmoothL1Regressor(**mode).fit(given.X, given.y)
    assert not flags(given, est)
    est.coef_ = est.coef_ + 1e-3 * np.eye(4)[0]
    assert "reported objective" in flags(given, est)
    data = Data.of(given.X, given.y, None, True)
    fit = campaign._fit_of(est, given.params, 0)
    est.objective_ = judge(data, fit).value
    assert {"above the minimum", "optimality"} <= flags(given, est)


@pytest.mark.parametrize("mode", MODES[4:])
@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_the_judge_refuses_a_scale_that_is_not_that_of_the_residuals(mode, factor):
    given = problem(mode)
    est = SmoothL1Regressor(**mode).fit(given.X, given.y)
    at_fixed = SmoothL1Regressor(
        est.beta_ * factor, loss=est.loss, alpha=est.alpha if est.scale == "mad" else 0.0
    ).fit(given.X, given.y)
    for name in ("coef_", "intercept_"):
        setattr(est, name, getattr(at_fixed, name))
    est.beta_, est.scale_ = est.beta_ * factor, est.scale_ * factor
    assert "scale" in flags(given, est)


def test_the_judge_refuses_passes_iterations_and_a_verdict_that_is_not_one():
    given = problem({"beta": 0.5})
    est = SmoothL1Regressor(0.5).fit(given.X, given.y)
    est.max_iter = 1
    est.history_[-1]["n_eval"] = 300
    assert flags(given, est, warned=True) >= {"passes", "iterations", "verdict"}


def test_an_error_is_a_flag():
    given = problem({"beta": 0.5})
    _, found = campaign.flags_of(given._replace(y=given.y[:-1]))
    assert [flag.name for flag in found] == ["error"]


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_the_bounds_of_the_judge_enclose_the_minimum_of_scipy(beta):
    X, y, *_ = problem({})
    A = np.column_stack([np.ones(60), X])
    options = {"loss": "huber", "f_scale": beta, "xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
    found = least_squares(lambda w: A @ w - y, np.zeros(5), **options).x
    value = huber(A @ found - y, beta).mean()
    # The interior-point method of `judge` finds the minimum even from this distant start.
    start = Fit(np.zeros(4), 0.0, beta, 1.0, huber(y, beta).mean(), "huber", 0.0)
    verdict = judge(Data.of(X, y, None, True), start)
    assert verdict.lower <= verdict.upper <= value * (1 + 1e-12)
    assert verdict.lower == pytest.approx(value, rel=1e-9)
