"""Minima of quadratics with an L1 penalty and bounds, checked by trying all sign patterns."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from skrobust._solvers.l1_quadratic import minimise_l1_quadratic, violation


def value(H, g, x, slope):
    return 0.5 * x @ H @ x - g @ x + slope @ np.abs(x)


def brute_force(H, g, slope, lower):
    """Return the minimum over all sign patterns, each of which gives a linear system."""
    best = 0.0
    for pattern in itertools.product([-1, 0, 1], repeat=len(g)):
        sign = np.array(pattern)
        free = sign != 0
        x = np.zeros(len(g))
        x[free] = np.linalg.lstsq(H[np.ix_(free, free)], (g - slope * sign)[free])[0]
        # A coefficient without a penalty or bound may have any sign.
        fits = (x * sign >= 0) | ((slope == 0) & np.isneginf(lower))
        if fits.all() and (x >= lower).all():
            best = min(best, value(H, g, x, slope))
    return best


def programme(seed, k, rank):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(rank, k))
    H, g = A.T @ A, A.T @ rng.normal(size=rank)
    slope = rng.choice([0.0, 0.1, 0.5, 2.0], size=k)
    lower = rng.choice([0.0, -np.inf], size=k)
    start = np.maximum(rng.normal(size=k) * rng.integers(0, 2, size=k), lower)
    return H, g, start, slope, lower


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 8))
def test_the_minimum_is_the_best_over_all_signs(seed, k, rank):
    H, g, start, slope, lower = programme(seed, k, rank)
    before = start.copy()
    # The solver increases the diagonal of a singular Hessian.
    H += 1e-10 * np.eye(k)
    x = minimise_l1_quadratic(H, g, start, slope, lower, 1e-12)
    assert (x >= lower).all()
    lowest = brute_force(H, g, slope, lower)
    assert value(H, g, x, slope) == pytest.approx(lowest, rel=1e-7, abs=1e-9)
    assert_array_equal(start, before)
    if rank >= k:
        bad = violation(g - H @ x, x, slope, lower)
        assert bad.max() <= 1e-9 * max(1.0, np.abs(g).max())


def test_the_violation_is_the_distance_from_the_subdifferential():
    q = np.array([0.5, 1.5, -1.5, 1.0, 0.3, -2.0, 2.0, 1.0])
    x = np.array([0.0, 0.0, 0.0, 2.0, -1.0, 0.0, 0.0, 3.0])
    slope = np.ones(8)
    lower = np.array([-np.inf] * 5 + [0.0] * 3)
    expected = [0.0, 0.5, 0.5, 0.0, 1.3, 0.0, 1.0, 0.0]
    assert_allclose(violation(q, x, slope, lower), expected)


def test_a_diagonal_programme_is_soft_thresholding():
    h, g = np.array([1.0, 2.0, 0.5, 1.0]), np.array([3.0, -3.0, 0.4, -5.0])
    slope, lower = np.full(4, 0.5), np.array([-np.inf, -np.inf, -np.inf, 0.0])
    x = minimise_l1_quadratic(np.diag(h), g, np.zeros(4), slope, lower, 1e-14)
    assert_allclose(x, [2.5, -1.25, 0.0, 0.0], rtol=1e-14)


def test_a_coordinate_without_curvature_and_slope_stays_where_it_is():
    H = np.diag([2.0, 0.0, 1.0])
    g, slope = np.array([4.0, 0.0, 3.0]), np.array([0.0, 1.0, 1.0])
    x = minimise_l1_quadratic(H, g, np.zeros(3), slope, np.full(3, -np.inf), 1e-12)
    assert_array_equal(x, [2.0, 0.0, 2.0])


def test_duplicated_coordinates_share_the_value():
    H = np.ones((2, 2)) + 1e-10 * np.eye(2)
    x = minimise_l1_quadratic(
        H, np.full(2, 3.0), np.zeros(2), np.ones(2), np.full(2, -np.inf), 1e-12
    )
    assert x.sum() == pytest.approx(2.0, rel=1e-9)


@pytest.mark.parametrize("size", [5e-324, 1e-310, 1e-200])
def test_denormal_values_keep_their_signs(size):
    """Products of numbers this small underflow to zero, which hides their signs."""
    H = np.array([[2.0, 0.5], [0.5, 1.0]])
    g, slope, lower = np.array([3.0, -1.0]), np.full(2, 0.2), np.full(2, -np.inf)
    start = np.array([-size, size])
    x = minimise_l1_quadratic(H, g, start, slope, lower, 1e-14)
    plain = minimise_l1_quadratic(H, g, np.zeros(2), slope, lower, 1e-14)
    assert_allclose(x, plain, rtol=1e-12)
    tiny = minimise_l1_quadratic(H, g * size, np.zeros(2), slope * size, lower, 0.0)
    assert_array_equal(np.sign(tiny), np.sign(plain))
    assert np.isfinite(tiny).all()


def test_the_work_is_bounded_for_any_tolerance():
    H, g, start, slope, lower = programme(3, 6, 2)
    x = minimise_l1_quadratic(H, g, start, slope, lower, 0.0)
    assert value(H, g, x, slope) <= value(H, g, start, slope)
    assert (x >= lower).all()


def test_no_coordinates_are_a_minimum():
    empty = np.zeros(0)
    assert minimise_l1_quadratic(np.zeros((0, 0)), empty, empty, empty, empty, 0.0).size == 0
