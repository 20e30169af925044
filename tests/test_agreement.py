"""Fit and scale made to agree: the acceleration. The search for the scale: test_scale."""

import numpy as np
from numpy.testing import assert_allclose

from skrobust._agreement import _Secants


def test_secants_of_a_linear_gradient_end_at_the_minimiser_that_moves_with_the_scale():
    # ∇F = H(θ − θ₀ − s d): three curvatures, each in two directions: that of the start and d.
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.normal(size=(30, 30)))[0]
    H = Q * np.repeat([0.7, 0.9, 1.1], 10) @ Q.T
    start, drift = rng.normal(size=(2, 30))
    secants, theta, s = _Secants(None), np.zeros(30), 1.0
    for move in range(8):
        gradient = H @ (theta - start - s * drift)
        secants.learn(theta, gradient, s)
        change = 0.5**move
        theta = theta + secants.step(change)
        s += change
    assert_allclose(theta, start + s * drift, rtol=1e-8)
    assert_allclose(secants.smallest_curvature(), 0.7, rtol=0.1)


def test_a_known_drift_leaves_nothing_to_the_moves():
    start, drift = np.random.default_rng(0).normal(size=(2, 5))
    secants = _Secants(drift)
    secants.learn(start + drift, np.zeros(5), 1.0)
    assert_allclose(start + drift + secants.step(0.3), start + 1.3 * drift, rtol=1e-14)


def test_moves_whose_squares_vanish_are_learnt_from():
    # As a ridge term that is huge beside the rest may leave them.
    secants, theta = _Secants(None), np.full(3, 1e-170)
    for _ in range(3):
        secants.learn(theta, 0.8 * theta, 0.0)
        theta = theta + secants.step(0.0)
    assert np.all(np.abs(theta) < 1e-180)
