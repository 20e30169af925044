"""Anderson acceleration: the memory of past steps, and joint updates of θ and the scale."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skrobust._model.scale import AUTO_CONCOMITANT, AUTO_MAD, Concomitant, Mad
from skrobust._solvers.anderson import AndersonMemory, anderson
from skrobust._solvers.newton import newton, suboptimality
from skrobust._solvers.result import Status
from skrobust._solvers.scale_fixed_point import Sensitivity

# The memory ------------------------------------------------------------------------------


def test_a_linear_gradient_leads_to_the_minimiser_that_moves_with_the_scale():
    # At scale s, the gradient is H(θ − θ₀ − s dθ/ds), where H has three distinct eigenvalues,
    # and θ₀ and dθ/ds have components in all three eigenspaces.
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.normal(size=(30, 30)))[0]
    H = Q * np.repeat([0.7, 0.9, 1.1], 10) @ Q.T
    start, dtheta_ds = rng.normal(size=(2, 30))
    memory, theta, s = AndersonMemory(None), np.zeros(30), 1.0
    for move in range(8):
        gradient = H @ (theta - start - s * dtheta_ds)
        memory.update(theta, gradient, s)
        ds = 0.5**move
        theta = theta + memory.step(ds)
        s += ds
    assert_allclose(theta, start + s * dtheta_ds, rtol=1e-8)
    assert_allclose(memory.smallest_curvature(), 0.7, rtol=0.1)


def test_at_the_minimiser_the_step_is_the_known_derivative_times_the_change_of_the_scale():
    start, dtheta_ds = np.random.default_rng(0).normal(size=(2, 5))
    memory = AndersonMemory(dtheta_ds)
    memory.update(start + dtheta_ds, np.zeros(5), 1.0)
    expected = start + 1.3 * dtheta_ds
    assert_allclose(start + dtheta_ds + memory.step(0.3), expected, rtol=1e-14)


def test_moves_whose_squares_vanish_are_used():
    # Steps of the order of 1e-170 can occur if the penalty is much larger than the loss.
    memory, theta = AndersonMemory(None), np.full(3, 1e-170)
    for _ in range(3):
        memory.update(theta, 0.8 * theta, 0.0)
        theta = theta + memory.step(0.0)
    assert np.all(np.abs(theta) < 1e-180)


# The acceleration ------------------------------------------------------------------------


def whitened_problem(make_objective, weighted=False, n=5_000):
    """Return an objective for which the least-squares whitening is accurate."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 6)) @ rng.normal(size=(6, 6))
    y = X @ rng.normal(size=6) + rng.standard_t(3, size=n)
    weight = rng.uniform(0.1, 1, size=n) if weighted else None
    return make_objective(X, y, weight)


def near_start(objective, threshold):
    """Return a point about as close to the minimiser as a fit to a sample would be."""
    theta = newton(objective.at_threshold(threshold), np.zeros(7), 1e-10, 100).point.theta
    return theta + 0.1 * np.random.default_rng(1).normal(size=theta.size)


@pytest.mark.parametrize("weighted", [False, True])
def test_at_a_fixed_threshold_it_converges_to_the_minimiser(make_objective, weighted):
    objective = whitened_problem(make_objective, weighted).at_threshold(1.0)
    expected = newton(objective, np.zeros(7), 1e-12, 100).point
    start, before = near_start(objective, 1.0), objective.n_passes
    result = anderson(None, objective, start, np.nan, 1e-8, 100, Sensitivity(), 3)
    solution = result.solution
    assert solution.converged
    assert result.improved
    assert solution.passes == {"anderson": objective.n_passes - before}
    assert solution.n_iter <= solution.passes["anderson"]
    assert_allclose(solution.point.theta, expected.theta, atol=1e-8)
    assert solution.point.value == pytest.approx(expected.value, rel=1e-12)
    assert result.lowest_value == pytest.approx(expected.value, rel=1e-12)
    lowest = objective.evaluate(result.lowest_theta)
    assert lowest.value == result.lowest_value
    above = suboptimality(objective, solution)
    assert 0 <= above <= 1e-12 * solution.point.value


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("estimator", [Mad(AUTO_MAD), Concomitant(AUTO_CONCOMITANT)])
def test_fit_and_scale_agree_at_the_end(make_objective, weighted, estimator):
    objective = whitened_problem(make_objective, weighted)
    start, before = near_start(objective, 1.5), objective.n_passes
    result = anderson(estimator, objective, start, 1.1, 1e-8, 100, Sensitivity(), 3)
    assert result.solution.converged
    assert result.solution.passes == {"anderson": objective.n_passes - before}
    at_scale = objective.at_threshold(estimator.threshold(result.scale))
    point = at_scale.evaluate(result.solution.point.theta)
    assert point.relative_gradient <= 1e-8
    scale = estimator.estimate(point.residual, objective.linear.data.weight)
    assert scale == pytest.approx(result.scale, rel=1e-7)


def test_it_ends_where_the_error_is_not_halved(make_objective):
    # At a threshold of 1e-3, the whitening is inaccurate and the gradient decreases slowly.
    objective = whitened_problem(make_objective)
    start = near_start(objective, 1.0)
    narrow = objective.at_threshold(1e-3)
    result = anderson(None, narrow, start, np.nan, 1e-12, 100, Sensitivity(), 3)
    assert not result.solution.converged
    assert result.solution.status is Status.MAX_ITER
    assert result.solution.newton_step is None
    assert result.solution.n_iter < 100
    assert result.lowest_value <= narrow.evaluate(start).value


@pytest.mark.parametrize("max_iter", [1, 2, 3])
def test_iterations_are_no_more_than_max_iter(make_objective, max_iter):
    objective = whitened_problem(make_objective)
    start = near_start(objective, 1.0)
    result = anderson(None, objective, start, np.nan, 0.0, max_iter, Sensitivity(), 3)
    assert result.solution.n_iter == max_iter
    assert not result.solution.converged
