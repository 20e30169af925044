"""The search for a scale equal to that of the residuals of the fit at this scale."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skrobust._model.scale import (
    AUTO_CONCOMITANT,
    AUTO_MAD,
    Concomitant,
    Mad,
    ScaleEstimator,
)
from skrobust._solvers.lbfgs import lbfgs, lbfgs_then_newton
from skrobust._solvers.newton import newton
from skrobust._solvers.result import Status
from skrobust._solvers.scale_fixed_point import (
    MAX_ROUNDS,
    SECANT_MAX_STRIDE,
    Sensitivity,
    _SafeguardedSecant,
    scale_fixed_point,
)

ESTIMATORS = [Mad(AUTO_MAD), Mad(0.5), Concomitant(AUTO_CONCOMITANT), Concomitant(1.35)]


def problem(make_objective, n=200, weighted=False):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 4))
    y = X @ [1.0, 2.0, 3.0, 4.0] + rng.standard_t(2, size=n)
    weight = rng.uniform(0.1, 1, size=n) if weighted else None
    return make_objective(X, y, weight)


def least_squares_start(estimator, objective):
    point = newton(objective.at_threshold(np.inf), np.zeros(5), 1e-10, 100).point
    return point.theta, estimator.scale(objective, point)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("minimiser", [lbfgs, newton, lbfgs_then_newton])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_scale_is_that_of_the_residuals_at_its_threshold(
    make_objective, estimator, minimiser, weighted
):
    objective = problem(make_objective, weighted=weighted)
    start, before = least_squares_start(estimator, objective), objective.n_passes
    solution, scale, sensitivity = scale_fixed_point(
        estimator, objective, minimiser, *start, 1e-8, 500
    )
    assert solution.converged
    assert sum(solution.passes.values()) == objective.n_passes - before
    at_scale = objective.at_threshold(estimator.threshold(scale))
    point = at_scale.evaluate(solution.point.theta)
    assert point.relative_gradient <= 1e-8
    estimate = estimator.estimate(point.residual, objective.linear.data.weight)
    assert estimate == pytest.approx(scale, rel=1e-8)
    assert scale < start[1]
    # dθ/ds and dφ/ds are approximated by finite differences, with a change in the scale so
    # small that no absolute residual crosses the threshold.
    ahead = objective.at_threshold(estimator.threshold(scale * (1 + 1e-4)))
    end = newton(ahead, point.theta, 1e-12, 100).point
    dtheta_ds = (end.theta - point.theta) / (1e-4 * scale)
    size = np.linalg.norm(dtheta_ds)
    assert_allclose(sensitivity.dtheta_ds, dtheta_ds, rtol=0, atol=1e-2 * size)
    change = estimator.estimate(end.residual, objective.linear.data.weight) - estimate
    assert sensitivity.contraction == pytest.approx(change / (1e-4 * scale), abs=1e-2)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_start_at_the_fixed_point_takes_one_pass(make_objective, estimator):
    objective = problem(make_objective)
    theta, scale = least_squares_start(estimator, objective)
    solution, scale, _ = scale_fixed_point(
        estimator, objective, newton, theta, scale, 1e-9, 500
    )
    before = objective.n_passes
    again, same, _ = scale_fixed_point(
        estimator, objective, newton, solution.point.theta, scale, 1e-7, 500
    )
    assert again.converged
    assert again.n_iter == 0
    assert objective.n_passes == before + 1
    assert same == scale


@pytest.mark.parametrize("max_iter", [0, 1, 2, 3, 5])
def test_iterations_are_no_more_than_max_iter(make_objective, max_iter):
    estimator, objective = Mad(AUTO_MAD), problem(make_objective)
    start = least_squares_start(estimator, objective)
    solution, _, _ = scale_fixed_point(estimator, objective, newton, *start, 1e-12, max_iter)
    assert solution.n_iter <= max_iter
    assert not solution.converged


class Alternating(ScaleEstimator):
    """A scale without a fixed point: the estimates alternate between 1 and 2."""

    def __init__(self):
        super().__init__(1.0)
        self.n_estimates = 0

    def estimate(self, residual, weight, warm=None):
        self.n_estimates += 1
        return 1.0 + self.n_estimates % 2

    def scores(self, residual, scale, n):
        raise NotImplementedError


def test_a_scale_without_a_fixed_point_is_reported(make_objective):
    estimator, objective = Alternating(), problem(make_objective)
    solution, _, _ = scale_fixed_point(
        estimator, objective, newton, np.zeros(5), 3.0, 1e-8, 10_000
    )
    assert solution.status is Status.SCALE_NOT_CONVERGED
    assert not solution.converged
    assert estimator.n_estimates <= 2 * MAX_ROUNDS


def test_the_smallest_residuals_are_not_taken_for_a_scale_below_rounding(make_objective):
    # The scale of an exact fit is the rounding floor, which is positive.
    X = np.random.default_rng(0).normal(size=(60, 4))
    objective = make_objective(X, X @ [1.0, 2.0, 3.0, 4.0])
    solution, scale, _ = scale_fixed_point(
        Mad(AUTO_MAD), objective, newton, np.zeros(5), 1.0, 1e-8, 500
    )
    assert solution.converged
    assert 0 < scale < 1e-12
    assert np.abs(solution.point.residual).max() < 1e-12


# Sensitivity and secant steps ------------------------------------------------------------


def test_a_sensitivity_in_other_coordinates():
    sensitivity = Sensitivity(0.3, True, np.array([1.0, 2.0]))
    other = sensitivity.transformed(lambda vector: 2.0 * vector)
    assert other[:2] == (0.3, True)
    assert_allclose(other.dtheta_ds, [2.0, 4.0])
    assert Sensitivity(0.3).transformed(lambda vector: 2.0 * vector) == Sensitivity(0.3)


def test_secant_steps_find_the_fixed_point_of_an_affine_function():
    search, s = _SafeguardedSecant(Sensitivity()), 10.0
    for _ in range(4):
        phi = 0.6 * s + 1.0
        search.update(s, phi, np.array([3.0 * s]), 0.0)
        s = search.propose(s, phi, 1e-12)
    assert s == pytest.approx(2.5, rel=1e-12)
    assert search.sensitivity.contraction == pytest.approx(0.6)
    assert search.sensitivity.is_affine
    assert_allclose(search.sensitivity.dtheta_ds, [3.0])


def test_a_secant_step_is_at_most_a_few_times_the_gap():
    search = _SafeguardedSecant(Sensitivity(contraction=0.97))
    search.update(1.0, 0.9, np.zeros(1), 0.0)
    proposed = search.propose(1.0, 0.9, 1e-12)
    assert proposed == pytest.approx(1.0 / (1.0 + SECANT_MAX_STRIDE * 0.1))


def test_a_proposal_outside_the_bracket_is_replaced_by_the_geometric_mean():
    search = _SafeguardedSecant(Sensitivity())
    search.update(4.0, 3.0, np.zeros(1), 0.0)
    search.update(1.0, 2.0, np.zeros(1), 0.0)
    search.sensitivity = Sensitivity()
    assert search.propose(1.0, 5.0, 1e-12) == pytest.approx(2.0)
    search.sensitivity = Sensitivity(0.99, True)
    assert search.propose(1.0, 2.0, 1e-12) == pytest.approx(2.0)
