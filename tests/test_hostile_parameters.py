"""Invalid and extreme values of every parameter of all public functions and classes.

Each call either raises an error that names the parameter or returns finite values, and NumPy
never warns.
"""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from skrobust import SmoothL1Regressor, losses, metrics, schedules

pytestmark = pytest.mark.slow

X = np.random.default_rng(0).normal(size=(50, 3))
Y = X @ [1.0, 2.0, 3.0] + np.random.default_rng(1).standard_t(3, 50)
HOSTILE = [True, False, np.True_, np.float64(2), np.float32(2), np.int64(2), np.float16(2)]
HOSTILE += [np.longdouble(2), np.longdouble("1e4000"), np.array(2.0), np.array([2.0]), "2"]
HOSTILE += [b"2", None, np.nan, np.inf, -np.inf, -1, 0, -0.0, 1e308, 1e-308, 5e-324]
HOSTILE += [10**400, -(10**400), 1j, [], {}, object(), float, np.datetime64("2020-01-01")]
HOSTILE += [np.ma.masked, lambda: 0]
hostile = pytest.mark.parametrize("value", HOSTILE, ids=[type(v).__name__ for v in HOSTILE])

ESTIMATOR = list(SmoothL1Regressor().get_params())
CALLS = {
    f"SmoothL1Regressor {name}": (lambda v, n=name: SmoothL1Regressor(**{n: v}).fit(X, Y), name)
    for name in ESTIMATOR
}
CALLS["concomitant alpha"] = (
    lambda v: SmoothL1Regressor(scale="concomitant", alpha=v).fit(X, Y),
    "alpha",
)
CALLS["concomitant beta"] = (
    lambda v: SmoothL1Regressor(v, scale="concomitant").fit(X, Y),
    "beta",
)
for name in losses.__all__:
    function = getattr(losses, name)
    CALLS[f"{name} beta"] = (lambda v, f=function: f(1.0, v), "beta")
    CALLS[f"{name} residual"] = (lambda v, f=function: f(v, 1.0), "residual")
for name in metrics.__all__:
    function, threshold = getattr(metrics, name), "delta" if "huber" in name else "beta"
    for argument in (threshold, "multioutput"):
        CALLS[f"{name} {argument}"] = (
            lambda v, f=function, a=argument: f(Y, Y + 1, **{a: v}),
            argument,
        )
for name in ("geometric", "linear", "cosine"):
    function = getattr(schedules, name)
    CALLS[f"{name} start"] = (function, "start")
    CALLS[f"{name} n_stages"] = (lambda v, f=function: f(10.0, v), "n_stages")
CALLS["check_schedule"] = (schedules.check_schedule, "beta_schedule")
# Keys of the calls for which NaN or infinity is the correct result at some parameter values.
LIMITS = [f"{name} residual" for name in losses.__all__]


@hostile
@pytest.mark.parametrize("call", CALLS)
def test_an_error_names_the_parameter_or_the_answer_is_finite(call, value):
    function, name = CALLS[call]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            answer = function(value)
        except (ValueError, TypeError) as error:
            message = str(error)
        else:
            message = None
    if message is not None:
        # For an enormous number of stages, NumPy raises an error that does not name n_stages.
        assert name in message or (name == "n_stages" and value == 10**400)
        return
    answer = getattr(answer, "coef_", answer)
    if answer is not None and call not in LIMITS:
        assert np.isfinite(answer).all()


@pytest.mark.parametrize("argument", ["y_true", "y_pred", "sample_weight"])
@hostile
@pytest.mark.parametrize("name", metrics.__all__)
def test_data_of_metrics_that_are_no_data_are_an_error(name, value, argument):
    if argument == "sample_weight" and value is None:
        return
    data = {"y_true": Y, "y_pred": Y, "sample_weight": None} | {argument: value}
    with pytest.raises((ValueError, TypeError)):
        getattr(metrics, name)(**data)


@hostile
@pytest.mark.parametrize("argument", ["X", "y"])
def test_data_that_are_no_data_are_an_error(argument, value):
    # NumPy raises an error for a number beyond the range of float64.
    with pytest.raises((ValueError, TypeError, OverflowError, RuntimeWarning)):
        SmoothL1Regressor().fit(**{"X": X, "y": Y} | {argument: value})
