"""scikit-learn's estimator checks, with default and with other parameters."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from skrobust import SmoothL1Regressor

MODES = [
    SmoothL1Regressor(beta=1.0),
    SmoothL1Regressor(beta=0.01),
    SmoothL1Regressor(beta=1.0, loss="huber"),
    SmoothL1Regressor(loss="huber"),
    SmoothL1Regressor(beta=1.5, scale="mad"),
    SmoothL1Regressor(scale="concomitant"),
    SmoothL1Regressor(beta=1.35, scale="concomitant", loss="huber"),
    SmoothL1Regressor(alpha=0.1),
    SmoothL1Regressor(alpha=0.1, loss="huber"),
    SmoothL1Regressor(alpha=0.1, loss="huber", scale="concomitant"),
    SmoothL1Regressor(fit_intercept=False),
    SmoothL1Regressor(beta_schedule="geometric"),
    SmoothL1Regressor(beta=1.0, beta_schedule=[50, 10, 2, 1]),
    SmoothL1Regressor(warm_start=True),
    SmoothL1Regressor(beta=1.0, alpha=0.01, l1_ratio=0.5),
    SmoothL1Regressor(alpha=0.1, l1_ratio=1.0, loss="huber"),
    SmoothL1Regressor(alpha=0.1, l1_ratio=1.0),
    SmoothL1Regressor(alpha=0.2, l1_ratio=1.0, scale="concomitant"),
    SmoothL1Regressor(beta=1.0, positive=True),
    SmoothL1Regressor(alpha=0.1, l1_ratio=0.5, positive=True),
    SmoothL1Regressor(beta=1.0, alpha=0.1, l1_ratio=1.0, warm_start=True),
    SmoothL1Regressor(alpha=0.1, l1_ratio=1.0, scale="concomitant"),
    SmoothL1Regressor(alpha=0.1, l1_ratio=1.0, scale="concomitant", loss="huber"),
    SmoothL1Regressor(beta=1.5, alpha=0.1, l1_ratio=1.0, scale="mad"),
    SmoothL1Regressor(beta=1.0, alpha=0.1, l1_ratio=1.0, positive=True),
    SmoothL1Regressor(alpha=0.1, l1_ratio=1.0, scale="concomitant", positive=True),
]


@parametrize_with_checks([SmoothL1Regressor()])
def test_estimator_checks_pass_at_the_defaults(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(MODES)
def test_estimator_checks_pass_in_every_mode(estimator, check):
    check(estimator)
