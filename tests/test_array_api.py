"""scikit-learn's array API dispatch, in a process in which SciPy supports it.

The environment variable SCIPY_ARRAY_API must be set before SciPy is imported.
"""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from skrobust import SmoothL1Regressor, _array_api

needs_dispatch = pytest.mark.skipif(
    not _array_api.HAS_DISPATCH, reason="requires the array API checks of scikit-learn 1.9"
)
HEADER = """
import array_api_strict as xp
import numpy as np
import pytest
import sklearn
from sklearn.utils import estimator_checks as checks
from sklearn.utils._array_api import (
    move_to,
    yield_mixed_namespace_input_permutations,
    yield_namespace_device_dtype_combinations,
)

from skrobust import MMRegressor, SmoothL1Regressor, SmoothL1RegressorCV

sklearn.set_config(array_api_dispatch=True)
rng = np.random.default_rng(0)
X = rng.normal(size=(40, 3))
y = X @ [1.0, 2.0, 3.0] + rng.standard_t(2, size=40)
strict = [xp.asarray(X), xp.asarray(y)]


def skips(check, *args, **kwargs):
    # The checks skip a namespace that is not installed.
    try:
        check(*args, **kwargs)
    except checks.SkipTest:
        return True
    return False

"""


def run(code):
    pytest.importorskip("array_api_strict")
    environment = os.environ | {"SCIPY_ARRAY_API": "1"}
    source = HEADER + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", source],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@needs_dispatch
@pytest.mark.parametrize(
    "estimator",
    [
        "SmoothL1Regressor()",
        "SmoothL1Regressor(scale='concomitant', alpha=0.1, l1_ratio=0.5)",
        "MMRegressor(n_subsamples=50)",
        "SmoothL1RegressorCV(betas=3, cv=2)",
    ],
)
def test_the_checks_of_scikit_learn_pass_with_values_and_weights(estimator):
    run(
        f"""
        est = {estimator}
        name, ran = type(est).__name__, set()
        for namespace, device, dtype in yield_namespace_device_dtype_combinations():
            options = dict(array_namespace=namespace, device_name=device, dtype_name=dtype)
            for weighted in (False, True):
                options |= dict(check_values=True, check_sample_weight=weighted)
                if not skips(checks.check_array_api_input, name, est, **options):
                    ran.add((namespace, device))
        assert {{n for n, _ in ran}} >= {{"numpy", "array_api_strict"}}
        assert len(ran) >= 3
        for other, first, _ in yield_mixed_namespace_input_permutations():
            skips(
                checks.check_array_api_mixed_inputs,
                name,
                est,
                other_ns_and_device=other,
                X_ns_and_device=first,
            )
        checks.check_array_api_same_namespace(name, est, array_namespace="array_api_strict")
        """
    )


@needs_dispatch
def test_arrays_enter_and_leave_in_the_library_of_x():
    run(
        """
        from skrobust.losses import huber, smooth_l1_gradient
        from skrobust.metrics import d2_smooth_l1_score, mean_huber_loss

        expected = SmoothL1Regressor().fit(X, y)
        model = SmoothL1Regressor().fit(*strict)
        for name in ("coef_", "weights_", "outliers_"):
            found = getattr(model, name)
            assert found.__array_namespace__() is xp, name
            assert (move_to(found, xp=np, device="cpu") == getattr(expected, name)).all()
        assert isinstance(model.intercept_, float)
        # A model of tensors also predicts NumPy arrays if the dispatch is off.
        with sklearn.config_context(array_api_dispatch=False):
            assert (model.predict(X) == expected.predict(X)).all()
        two = xp.stack([strict[1], -strict[1]], axis=1)
        several = SmoothL1Regressor().fit(strict[0], two)
        for name in ("intercept_", "beta_", "scale_", "objective_"):
            assert getattr(several, name).__array_namespace__() is xp, name

        residual = strict[1] - model.predict(strict[0])
        for loss in (huber, smooth_l1_gradient):
            assert loss(residual, 0.5).__array_namespace__() is xp
            assert loss(residual=residual, beta=0.5).dtype == xp.float64
        for metric in (mean_huber_loss, d2_smooth_l1_score):
            value = metric(strict[1], model.predict(strict[0]))
            assert value == metric(y, expected.predict(X))
            weights = {"sample_weight": strict[1] ** 2}
            weighted = metric(strict[1], model.predict(strict[0]), **weights)
            assert isinstance(weighted, float)
        """
    )


class TensorOn:
    """A tensor on a device that the CPU cannot read."""

    shape, device = (3,), "cuda:0"

    def __dlpack_device__(self):
        return 2, 0

    def __dlpack__(self):
        raise AssertionError("The data must not be read.")


def test_a_tensor_on_another_device_is_an_error_that_names_it(monkeypatch):
    monkeypatch.setattr(_array_api, "HAS_DISPATCH", True)
    monkeypatch.setattr(_array_api, "get_config", lambda: {"array_api_dispatch": True})
    with pytest.raises(ValueError, match=r"y is on the device cuda:0.*y\.cpu\(\)"):
        SmoothL1Regressor().fit(np.ones((3, 1)), TensorOn())


def test_a_tensor_with_a_gradient_is_detached(monkeypatch):
    class Tensor:
        shape, requires_grad, detached = (3,), True, False

        def __dlpack_device__(self):
            return 1, 0

        def __dlpack__(self):
            raise AssertionError("A tensor with a gradient has no view.")

        def detach(self):
            return np.arange(3.0)

    monkeypatch.setattr(_array_api, "HAS_DISPATCH", True)
    monkeypatch.setattr(_array_api, "get_config", lambda: {"array_api_dispatch": True})
    monkeypatch.setattr(_array_api, "move_to", lambda array, xp, device: array, raising=False)
    (_, found), _ = _array_api.as_numpy(X=np.ones((3, 1)), y=Tensor())
    assert found.tolist() == [0.0, 1.0, 2.0]
