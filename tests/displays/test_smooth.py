"""The smooth curves of displays: lowess."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from statsmodels.nonparametric.smoothers_lowess import lowess as lowess_of_statsmodels

from skrobust.displays._smooth import lowess


@pytest.mark.parametrize("seed", range(5))
def test_the_curve_is_that_of_statsmodels(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=90)
    y = np.sin(2 * x) + 0.2 * rng.standard_t(2, size=90)
    grid, curve = lowess(x, y)
    expected = lowess_of_statsmodels(y, x, frac=2 / 3, it=3, delta=0)
    assert_allclose(grid, expected[:, 0])
    # statsmodels replaces weights that are close to 0 or 1 by 0 or 1.
    assert_allclose(curve, expected[:, 1], atol=2e-3)


def test_a_line_is_reproduced_in_spite_of_outliers():
    x = np.linspace(-3, 5, 500)
    y = 2 * x + 1
    y[::7] += 1e6
    grid, curve = lowess(x, y)
    assert len(grid) == 100
    assert_allclose(curve, 2 * grid + 1, atol=1e-6)


def test_equal_abscissae_have_the_mean_of_their_ordinates():
    grid, curve = lowess(
        np.array([1.0, 1.0, 1.0, 1.0, 9.0]), np.array([0.0, 2.0, 1.0, 1.0, 5.0])
    )
    assert_allclose(grid, [1, 9])
    assert_allclose(curve[0], 1.0)
    grid, curve = lowess(np.full(7, 3.0), np.arange(7.0))
    assert_allclose([grid, curve], [[3], [3]])


def test_a_single_point_is_its_own_curve():
    grid, curve = lowess(np.array([2.0]), np.array([7.0]))
    assert_allclose([grid, curve], [[2], [7]])


def test_the_curve_moves_and_scales_with_the_data():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=300), rng.standard_cauchy(size=300)
    grid, curve = lowess(x, y)
    moved_grid, moved = lowess(1e6 + 1e-3 * x, 1e5 * y - 3)
    assert_allclose(moved_grid, 1e6 + 1e-3 * grid)
    assert_allclose(moved, 1e5 * curve - 3, rtol=1e-3, atol=1)
