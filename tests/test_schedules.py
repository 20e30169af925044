"""The schedules: their ends, order and formulas, and invalid arguments."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skrobust.schedules import check_schedule, cosine, geometric, linear

SCHEDULES = [geometric, linear, cosine]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("start", [1 + 1e-9, 1.5, 3, np.float32(7.3), 50.0, 1e9, 1e300])
@pytest.mark.parametrize("n_stages", [2, 3, 5, 40])
def test_strictly_decreases_from_start_to_exactly_one(schedule, start, n_stages):
    multipliers = schedule(start, n_stages)
    assert multipliers.dtype == np.float64
    assert multipliers.shape == (n_stages,)
    assert multipliers[0] == start
    assert multipliers[-1] == 1.0
    assert np.all(multipliers[1:] < multipliers[:-1])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_there_are_four_stages_by_default(schedule):
    assert len(schedule(100.0)) == 4


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("start", [1.0, 1, 0.5, 0.0, -3.0])
def test_start_not_above_one_is_a_single_stage(schedule, start):
    assert_array_equal(schedule(start, 4), [1.0])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_one_stage_is_the_final_threshold(schedule):
    assert_array_equal(schedule(10.0, 1), [1.0])


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("ulps", [1, 2, 3, 7])
def test_stages_equal_to_rounding_are_dropped(schedule, ulps):
    # There are fewer than 20 floats between 1 and a start so close to 1.
    start = 1.0 + ulps * np.finfo(float).eps
    multipliers = schedule(start, 20)
    assert multipliers[0] == start
    assert multipliers[-1] == 1.0
    assert np.all(multipliers[1:] < multipliers[:-1])


def test_geometric_has_a_constant_ratio():
    multipliers = geometric(1e4, 9)
    assert_allclose(multipliers[:-1] / multipliers[1:], 10**0.5, rtol=1e-13)


def test_linear_has_a_constant_difference():
    assert_allclose(np.diff(linear(41.0, 9)), -5.0, rtol=1e-13)


def test_cosine_follows_half_a_period_of_a_cosine():
    steps = np.arange(8)
    expected = 1 + (20 - 1) * np.cos(np.pi * steps / 14) ** 2  # by the half-angle formula
    assert_allclose(cosine(20.0, 8), expected, rtol=1e-14)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("start", [np.nan, np.inf, -np.inf, "a", None, [2.0]])
def test_start_that_is_not_a_finite_number_is_refused(schedule, start):
    with pytest.raises(ValueError, match="start must be a finite number, got start="):
        schedule(start, 3)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("n_stages", [0, -1, 2.0, None, "3"])
def test_n_stages_that_is_not_a_positive_integer_is_refused(schedule, n_stages):
    with pytest.raises(ValueError, match=r"n_stages must be an integer .* got n_stages="):
        schedule(3.0, n_stages)


def test_check_resolves_none_and_names():
    assert check_schedule(None) is None
    assert check_schedule("geometric") is geometric
    assert check_schedule("linear") is linear
    assert check_schedule("cosine") is cosine


@pytest.mark.parametrize("given", [[50, 10, 2, 1], (3.0, 1.0), [1], np.array([2, 1], "f4")])
def test_check_returns_a_float64_copy_of_multipliers(given):
    multipliers = check_schedule(given)
    assert multipliers.dtype == np.float64
    assert_array_equal(multipliers, given)
    assert multipliers is not given


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_check_accepts_what_the_schedules_return(schedule):
    multipliers = schedule(123.0, 7)
    checked = check_schedule(multipliers)
    assert_array_equal(checked, multipliers)
    assert not np.shares_memory(checked, multipliers)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ([], "is empty"),
        ([3, 2, 2, 1], "is not strictly decreasing"),
        ([2, 3, 1], "is not strictly decreasing"),
        ([-1e308, 1e308, 1], "is not strictly decreasing"),
        ([3, 2], "ends in 2"),
        ([2, 1, 0.5], "ends in 0.5"),
        ([2, 1 + 1e-15], "ends in 1.000000000000001"),
        ([np.inf, 1], "contains NaN or infinity"),
        ([np.nan, 1], "contains NaN or infinity"),
        ([[2, 1]], "is not a one-dimensional sequence of numbers"),
        ([[2], [2, 1]], "is not a one-dimensional sequence of numbers"),
        (2.0, "is not a one-dimensional sequence of numbers"),
        ({2, 1}, "is not a one-dimensional sequence of numbers"),
        (["2", "1"], "is not a one-dimensional sequence of numbers"),
        ([2j, 1], "is not a one-dimensional sequence of numbers"),
        ([2.0, None, 1], "is not a one-dimensional sequence of numbers"),
        ([True], "is not a one-dimensional sequence of numbers"),
        (geometric, "is not a one-dimensional sequence of numbers"),
        ("Linear", "is not the name of a schedule"),
        ("", "is not the name of a schedule"),
    ],
)
def test_check_refuses_with_parameter_value_fault_and_remedy(given, fault):
    with pytest.raises(ValueError, match=r"^beta_schedule must be") as caught:
        check_schedule(given)
    message = str(caught.value)
    assert repr(given) in message
    assert fault in message
    for remedy in ["'geometric'", "'linear'", "'cosine'", "exactly 1", "[50, 10, 2, 1]"]:
        assert remedy in message
