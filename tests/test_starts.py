"""Starts for S-estimates: half-sets of rows, independent rows, and the best of many starts."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skrobust._half_sets import ellipsoid, half_sets, nearest_half
from skrobust._model.normal_constants import constant_of_breakdown
from skrobust._model.scale import MScale
from skrobust._starts import StartProblem, best_starts, independent_rows

C_S = constant_of_breakdown(0.5)


def problem(n=60, k=3, seed=0, outliers=0):
    rng = np.random.default_rng(seed)
    Z = np.column_stack([np.ones(n), rng.normal(size=(n, k - 1))])
    y = Z @ np.arange(1.0, k + 1) + rng.normal(size=n)
    y[:outliers] += 50.0
    weight = rng.integers(1, 4, size=n).astype(float)
    return StartProblem(Z, y, weight, np.eye(k)[0], C_S, 0.5 * (weight.sum() - k))


def test_steps_are_weighted_least_squares_with_and_without_the_table_of_products(monkeypatch):
    first = problem()
    monkeypatch.setattr("skrobust._starts.PRODUCTS_MAX_ELEMENTS", 0)
    second = problem()
    weights = np.random.default_rng(1).random((4, 60))
    for fits in (first.weighted_fits(weights), second.weighted_fits(weights)):
        for theta, w in zip(fits, weights, strict=True):
            root = np.sqrt(w)
            expected = np.linalg.lstsq(root[:, None] * first.Z, root * first.y)[0]
            assert_allclose(theta, expected, rtol=1e-9)


def test_weights_of_zero_give_no_step():
    assert_array_equal(problem().weighted_fits(np.zeros((1, 60))), 0.0)


def test_scales_of_a_batch_are_m_scales():
    given = problem(outliers=10)
    thetas = np.random.default_rng(2).normal(size=(50, 3))
    _, scales = given.improved(thetas, 0, centred=False)
    estimator = MScale(C_S, given.target)
    for theta, scale in zip(thetas, scales, strict=True):
        expected = estimator.estimate(given.y - given.Z @ theta, given.weight)
        assert scale == pytest.approx(expected, rel=1e-5)


def test_each_step_lowers_the_scale_and_the_intercept_is_moved_to_the_majority():
    given = problem(outliers=20)
    thetas = np.random.default_rng(3).normal(size=(20, 3))
    scales = [given.improved(thetas, n, centred=True)[1] for n in (0, 2, 10)]
    assert (scales[1] <= scales[0] * (1 + 1e-6)).mean() > 0.9
    assert (scales[2] <= scales[1] * (1 + 1e-6)).mean() > 0.9
    shifted = thetas + np.array([1e3, 0.0, 0.0])
    assert_allclose(given.improved(shifted, 0, centred=True)[1], scales[0], rtol=1e-6)


def test_the_scale_of_a_candidate_that_fits_the_majority_exactly_is_zero():
    given = problem()
    theta = np.array([1.0, 2.0, 3.0])
    given.y[:50] = given.Z[:50] @ theta
    given.y[50:] += 7.0
    given.weight[:] = 1.0
    given.target = 0.5 * 57
    exact = given.residuals(theta[None])
    exact[:, :50] = 0.0
    assert_array_equal(given.m_scales(exact, np.zeros(1)), 0.0)


def test_rows_that_depend_on_earlier_ones_are_skipped():
    rng = np.random.default_rng(0)
    level = np.repeat([0, 1, 2], [50, 8, 2])
    Z = np.column_stack([np.ones(60), level == 1, level == 2, rng.normal(size=60)])
    rows = independent_rows(Z, rng.random((200, 60)))
    assert len(rows) == 200
    assert (np.linalg.matrix_rank(Z[rows]) == 4).all()
    # Independent rows are selected in the order of the random numbers.
    times = rng.random((1, 60))
    chosen, expected = independent_rows(Z, times)[0], []
    for row in np.argsort(times[0]):
        if np.linalg.matrix_rank(Z[[*expected, row]]) == len(expected) + 1:
            expected.append(row)
    assert_array_equal(chosen, expected[:4])


def test_subsets_without_enough_independent_rows_are_left_out():
    Z = np.ones((20, 2))
    assert independent_rows(Z, np.random.default_rng(0).random((5, 20))).shape == (0, 2)


def test_the_best_starts_are_different_and_sorted():
    given = problem(outliers=25)
    starts = best_starts(given, 100, 5, np.random.default_rng(0))
    scales = [start.scale for start in starts]
    assert scales == sorted(scales)
    assert 1 <= len(starts) <= 5
    for i, start in enumerate(starts):
        for other in starts[:i]:
            assert np.linalg.norm(start.theta - other.theta) > 1e-2 * start.scale
    assert_allclose(starts[0].theta, [1.0, 2.0, 3.0], atol=1.0)


@pytest.mark.parametrize("weighted", [False, True])
def test_half_sets_hold_half_of_the_weight_and_are_concentrated(weighted):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 3)) @ np.diag([1.0, 2.0, 0.5])
    features[:60] += 20.0
    weight = rng.integers(1, 4, size=200).astype(float) if weighted else np.ones(200)
    found = half_sets(features, weight, ridge=0.0)
    assert found
    shapes = [ellipsoid(features[rows], weight[rows], 0.0) for rows in found]
    assert [s.log_determinant for s in shapes] == sorted(s.log_determinant for s in shapes)
    for rows, shape in zip(found, shapes, strict=True):
        assert 0.5 * weight.sum() <= weight[rows].sum() <= 0.5 * weight.sum() + 3
        # A further concentration step does not lower the determinant of the covariance.
        further = nearest_half(shape.squared_distances(features), weight)
        again = ellipsoid(features[further], weight[further], 0.0)
        assert again.log_determinant >= shape.log_determinant - 1e-8
    assert not (found[0] < 60).any()


def test_an_ellipsoid_is_the_weighted_mean_and_covariance():
    rng = np.random.default_rng(0)
    features, weight = rng.normal(size=(50, 3)) * [1e9, 1.0, 1e-9], rng.random(50)
    shape = ellipsoid(features, weight, 0.0)
    covariance = np.cov(features.T, aweights=weight, ddof=0)
    assert_allclose(shape.root @ shape.root.T, covariance, rtol=1e-9)
    assert shape.log_determinant == pytest.approx(np.linalg.slogdet(covariance)[1], rel=1e-9)
    expected = [d @ np.linalg.solve(covariance, d) for d in features - shape.centre]
    assert_allclose(shape.squared_distances(features), expected, rtol=1e-6)


def test_half_of_the_rows_on_a_plane_have_no_ellipsoid_unless_it_is_regularised():
    features = np.random.default_rng(0).normal(size=(60, 2))
    features[:, 1] = features[:, 0]
    weight = np.ones(60)
    assert half_sets(features, weight, ridge=0.0) == []
    assert half_sets(features, weight, ridge=1e-2)
