"""The solver for benchopt minimises the objective of HuberRegressor."""

import importlib.util
import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.linear_model import HuberRegressor

FILE = Path(__file__).parents[1] / "benchmarks" / "benchopt" / "skrobust.py"


@pytest.fixture
def solver(monkeypatch):
    # Stubs for the two names that the solver imports from benchopt.
    benchopt = ModuleType("benchopt")
    benchopt.BaseSolver, benchopt.safe_import_context = object, nullcontext
    monkeypatch.setitem(sys.modules, "benchopt", benchopt)
    spec = importlib.util.spec_from_file_location("benchopt_solver", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Solver()


@pytest.mark.parametrize("lmbd", [0.0, 1.0, 100.0])
def test_the_solver_minimises_the_objective_of_huber_regressor(solver, lmbd):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    y = X @ [1.0, 2.0, 3.0] + rng.standard_t(2, size=200)
    expected = HuberRegressor(epsilon=1.35, alpha=lmbd, tol=1e-10, max_iter=1000).fit(X, y)
    solver.set_objective(X, y, lmbd, 1.35)
    solver.run(0)
    solver.run(1000)
    found = solver.get_result()
    reference = [expected.intercept_, expected.scale_, *expected.coef_]
    assert_allclose(found, reference, rtol=1e-4, atol=1e-5)
