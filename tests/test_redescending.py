"""Minimisation of the bisquare loss at a fixed scale and of the M-scale."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skrobust._model.linear_loss import LinearLoss
from skrobust._model.loss import BISQUARE
from skrobust._model.normal_constants import (
    constant_of_breakdown,
    constant_of_efficiency,
    mean_rho,
    normal_efficiency,
)
from skrobust._model.scale import MScale, trimmed_scale
from skrobust._model.whitening import Whitened
from skrobust._solvers import choose
from skrobust._solvers.redescending import minimise_m_scale, redescending
from skrobust._solvers.result import Status


@pytest.fixture
def bisquare(make_objective):
    """Return a function that returns the whitened bisquare objective, X and y."""

    def make(n=80, weight=None, threshold=4.685, outliers=0, fit_intercept=True):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(n, 3)) @ np.diag([1.0, 5.0, 0.1])
        y = X @ [1.0, 0.2, -3.0] + 0.7 + rng.normal(size=n)
        y[:outliers] += 15.0
        huber = make_objective(X, y, weight, fit_intercept=fit_intercept)
        linear = LinearLoss(huber.linear.data, BISQUARE, None, threshold)
        return Whitened(linear, huber.whitening), X, y

    return make


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_minimum_is_the_fixed_point_of_reweighted_least_squares(
    bisquare, weighted, fit_intercept
):
    weight = np.random.default_rng(1).random(80) if weighted else None
    objective, X, y = bisquare(weight=weight, outliers=10, fit_intercept=fit_intercept)
    solution = redescending(objective, np.zeros(objective.n_variables), 1e-10, 200)
    assert solution.converged
    Z = np.column_stack([np.ones(80), X]) if fit_intercept else X
    s = np.ones(80) if weight is None else weight
    r = solution.point.residual
    root = np.sqrt(s * BISQUARE.weights(r, objective.threshold))
    theta = np.linalg.lstsq(root[:, None] * Z, root * y)[0]
    assert_allclose(y - Z @ theta, r, atol=1e-7)


def test_every_iteration_descends_and_the_iterations_are_limited(bisquare):
    objective, *_ = bisquare(outliers=30)
    start = np.full(objective.n_variables, 3.0)
    values = [objective.evaluate(start).value]
    for n in range(1, 12):
        solution = redescending(objective, start, 1e-10, n)
        assert solution.n_iter <= n
        values.append(solution.point.value)
    assert np.all(np.diff(values) <= 1e-12 * values[0])
    assert redescending(objective, start, 0.0, 2).status is Status.MAX_ITER


def test_the_m_scale_descends_to_a_stationary_point_that_solves_its_equation(bisquare):
    objective, X, y = bisquare(outliers=20)
    c, target = constant_of_breakdown(0.5), 0.5 * (80 - 4)
    estimator = MScale(c, target)
    start = np.zeros(objective.n_variables)
    solution, scale = minimise_m_scale(estimator, objective, start, 1e-9, 200)
    assert solution.converged
    r = solution.point.residual
    u = np.minimum(np.abs(r) / scale / c, 1)
    assert (1 - (1 - u**2) ** 3).sum() == pytest.approx(target, rel=1e-12)
    assert scale <= estimator.estimate(objective.evaluate(start).residual, None)
    # The solution is a local minimum of the scale, which is not lower at nearby coefficients.
    Z = np.column_stack([np.ones(80), X])
    theta = np.linalg.lstsq(Z, y - r)[0]
    rng = np.random.default_rng(2)
    for _ in range(20):
        moved = y - Z @ (theta + 1e-3 * rng.normal(size=4))
        assert estimator.estimate(moved, None) >= scale * (1 - 1e-12)


def test_a_majority_of_exact_rows_has_scale_zero(bisquare):
    objective, X, y = bisquare()
    y[:50] = X[:50] @ [1.0, 0.2, -3.0] + 0.7
    data = objective.linear.data._replace(y=y)
    objective = Whitened(LinearLoss(data, BISQUARE, None, 1.0), objective.whitening)
    coef = np.linalg.lstsq(np.column_stack([np.ones(50), X[:50]]), y[:50])[0]
    engine = data.engine
    standardised = np.concatenate(
        [[coef[0] + coef[1:] @ engine.centre], coef[1:] * engine.scale]
    )
    theta = objective.whitening.coordinates(standardised)
    estimator = MScale(constant_of_breakdown(0.5), 0.5 * 76)
    solution, scale = minimise_m_scale(estimator, objective, theta, 1e-8, 50)
    assert scale == 0.0
    assert solution.n_iter == 0


def test_choose_takes_this_solver_for_a_loss_that_is_not_convex(bisquare):
    engine = bisquare()[0].engine
    assert choose(engine, "auto", loss=BISQUARE).minimiser is redescending
    assert choose(engine, "auto").minimiser is not redescending


# Constants and scales -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("breakdown", "constant"),
    [(0.5, 1.547644980928226), (0.4, 1.987965447241535), (0.25, 2.937014555142456)],
)
def test_constants_of_the_breakdown_point(breakdown, constant):
    assert constant_of_breakdown(breakdown) == pytest.approx(constant, abs=1e-13)
    assert mean_rho(constant) == pytest.approx(breakdown, abs=1e-14)


@pytest.mark.parametrize(
    ("efficiency", "constant"),
    [
        (0.85, 3.443689784727679),
        (0.9, 3.882661576246453),
        (0.95, 4.685064948543457),
        (0.99, 7.041391632166575),
    ],
)
def test_constants_of_the_efficiency(efficiency, constant):
    assert constant_of_efficiency(efficiency) == pytest.approx(constant, abs=1e-13)
    assert normal_efficiency(constant) == pytest.approx(efficiency, abs=1e-14)


def test_the_expectations_are_those_of_numerical_integration():
    u = np.linspace(-12, 12, 400_001)
    density = np.exp(-0.5 * u * u) / np.sqrt(2 * np.pi)
    step = u[1] - u[0]
    for c in (1.3, 1.5476, 4.685, 9.0):
        rho = BISQUARE.rho(u, c) * 6 / c**2
        assert mean_rho(c) == pytest.approx((rho * density).sum() * step, rel=1e-8)
        slope = (BISQUARE.psi_deriv(u, c) * density).sum() * step
        square = (BISQUARE.psi(u, c) ** 2 * density).sum() * step
        assert normal_efficiency(c) == pytest.approx(slope**2 / square, rel=1e-8)


@pytest.mark.parametrize("start", [1e-6, 1.0, 1e9])
def test_the_m_scale_does_not_depend_on_its_start(start):
    rng = np.random.default_rng(0)
    residual, weight = rng.standard_cauchy(size=500), rng.random(500)
    estimator = MScale(1.5476, 0.5 * weight.sum())
    from_start = estimator.estimate(residual * start, weight) / start
    assert from_start == pytest.approx(estimator.estimate(residual, weight), rel=1e-13)
    tied = np.concatenate([np.zeros(300), residual[:200]])
    assert MScale(1.5476, 250.0).estimate(tied, None) == 0.0
    assert MScale(1.5476, 190.0).estimate(tied, None) > 0.0


def test_the_trimmed_scale_ends_at_its_bounds():
    rng = np.random.default_rng(0)
    residual = rng.normal(size=400)
    parameters = {"n": 400.0, "k": 4, "s_constant": 1.547644980928226}
    assert trimmed_scale(residual, None, 3.0, 2.0, **parameters) == 2.0
    assert trimmed_scale(residual, None, 0.3, 0.1, **parameters) == 0.3
    free = trimmed_scale(residual, None, 1.5, 0.5, **parameters)
    assert free == pytest.approx(1.0, abs=0.1)
    # Almost no residual is small enough to enter the trimmed scale, so the upper bound is
    # returned.
    assert trimmed_scale(residual, None, 1e-9, 1e-10, **parameters) == 1e-9
