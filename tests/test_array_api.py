"""scikit-learn's array API dispatch, in a process in which SciPy supports the array API.

SciPy supports it only if the environment variable SCIPY_ARRAY_API is set before SciPy is
imported.
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
        mm = MMRegressor(n_subsamples=50).fit(*strict)
        distances = mm.robust_distances(strict[0])
        assert distances.__array_namespace__() is xp
        expected_mm = MMRegressor(n_subsamples=50).fit(X, y)
        assert (np.asarray(distances) == expected_mm.robust_distances(X)).all()
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
            shares = {"multioutput": xp.asarray([0.25, 0.75])}
            assert metric(two, 2 * two, **shares) == metric(two, 2 * two)
        """
    )


@needs_dispatch
def test_paths_inference_and_displays_accept_arrays_of_other_libraries():
    run(
        """
        import matplotlib
        import sklearn.preprocessing
        from sklearn.pipeline import make_pipeline

        from skrobust import duality_gap, smooth_l1_path
        from skrobust.displays import (
            DiagnosticsDisplay,
            FitDisplay,
            PathDisplay,
            ResidualsDisplay,
        )
        from skrobust.inference import coefficient_table, observation_table

        matplotlib.use("Agg")
        path = smooth_l1_path(*strict, betas=[1.0, 2.0], sample_weight=strict[1] ** 2)
        expected = smooth_l1_path(X, y, betas=[1.0, 2.0], sample_weight=y**2)
        for found, value in zip(path, expected, strict=True):
            assert found.__array_namespace__() is xp
            assert (np.asarray(found) == value).all()

        weight = np.arange(40.0) % 3
        given = {"sample_weight": xp.asarray(weight)}
        for model in (SmoothL1Regressor(), MMRegressor(n_subsamples=50)):
            of_numpy = sklearn.clone(model).fit(X, y, sample_weight=weight)
            model.fit(*strict, **given)
            table = coefficient_table(model, *strict, **given)
            same = coefficient_table(of_numpy, X, y, sample_weight=weight)
            assert (table.std_err == same.std_err).all()
            rows = observation_table(model, *strict, **given)
            others = observation_table(of_numpy, X, y, sample_weight=weight)
            assert (rows.cooks_distance == others.cooks_distance).all()
            display = DiagnosticsDisplay.from_estimator(model, *strict, **given)
            assert (display.residuals.y_pred == of_numpy.predict(X)).all()
            display = ResidualsDisplay.from_predictions(
                strict[1], model.predict(strict[0]), beta=1.0
            )
            assert (display.y_pred == of_numpy.predict(X)).all()
            display = FitDisplay.from_estimator(model, *strict, feature=0)
            of_numpy = FitDisplay.from_estimator(of_numpy, X, y, feature=0)
            assert list(map(list, display.curves.values())) == list(
                map(list, of_numpy.curves.values())
            )
        scaled = make_pipeline(sklearn.preprocessing.MaxAbsScaler(), SmoothL1Regressor())
        PathDisplay.from_estimator(scaled.fit(*strict), *strict, betas=[1.0, 2.0])
        display = FitDisplay.from_estimator(scaled, *strict, feature=0)
        same = FitDisplay.from_estimator(sklearn.clone(scaled).fit(X, y), X, y, feature=0)
        (curve,), (expected,) = display.curves.values(), same.curves.values()
        assert np.allclose(curve, expected)
        # The tables also accept NumPy arrays if the dispatch is off.
        model = SmoothL1Regressor().fit(*strict)
        assert duality_gap(model, *strict) == duality_gap(SmoothL1Regressor().fit(X, y), X, y)
        with sklearn.config_context(array_api_dispatch=False):
            table = coefficient_table(model, X, y)
        assert (table.coef == coefficient_table(model, *strict).coef).all()
        """
    )


class TensorOn:
    """A stub for a tensor on a device whose memory the CPU cannot read."""

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


@needs_dispatch
def test_r2_of_tensors_with_a_gradient_is_a_float():
    pytest.importorskip("torch")
    run(
        """
        import warnings

        import torch

        tensors = [torch.asarray(each, requires_grad=True) for each in (X, y, y**2)]
        for model in (SmoothL1Regressor(), SmoothL1RegressorCV(betas=3)):
            expected = sklearn.clone(model).fit(X, y, y**2).score(X, y, y**2)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                found = model.fit(*tensors).score(*tensors)
            assert isinstance(found, float)
            assert found == pytest.approx(expected, rel=1e-12)
        """
    )


def test_a_tensor_with_a_gradient_is_detached(monkeypatch):
    class Tensor:
        shape, requires_grad, detached = (3,), True, False

        def __dlpack_device__(self):
            return 1, 0

        def __dlpack__(self):
            raise AssertionError("Tensors that require a gradient cannot be exported.")

        def detach(self):
            return np.arange(3.0)

    monkeypatch.setattr(_array_api, "HAS_DISPATCH", True)
    monkeypatch.setattr(_array_api, "get_config", lambda: {"array_api_dispatch": True})
    monkeypatch.setattr(_array_api, "move_to", lambda array, xp, device: array, raising=False)
    (_, found), _ = _array_api.as_numpy(X=np.ones((3, 1)), y=Tensor())
    assert found.tolist() == [0.0, 1.0, 2.0]
