"""Operations on vectors of one number per row: medians, sums, selection, line minimum."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skrobust import _reductions
from skrobust._reductions import (
    BLOCK_ROWS,
    LINE_SEARCH_PROBE_ROWS,
    MAX_STEP_LENGTH,
    blocks,
    clipped_sums,
    gather,
    kth,
    line_minimum,
    median,
    smallest,
)

# Median ----------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.0, 0.1, 1 / 3, 1e-200, 7e200])
def test_integer_weights_mean_repeated_values(factor):
    # With so few rows and such small weights, the smaller values often have exactly half of the
    # total weight.
    rng = np.random.default_rng(0)
    tied = 0
    for _ in range(500):
        n = rng.integers(1, 12)
        values, weight = rng.integers(-4, 5, size=n) * 0.7, rng.integers(0, 4, size=n)
        if weight.sum() == 0:
            continue
        expected = np.median(np.repeat(values, weight))
        assert median(values, factor * weight) == expected
        tied += expected not in values
    assert tied > 20


@pytest.mark.parametrize(
    ("values", "weight", "expected"),
    [
        ([3.0], [2.0], 3.0),
        ([1.0, 2.0], [1.0, 1.0], 1.5),
        ([1.0, 2.0], [1.0, 1.0 + 1e-6], 2.0),
        ([3.0, 1.0, 2.0], [2.0, 1.0, 1.0], 2.5),
        ([1.0, 2.0, 9.0], [1.0, 0.0, 1.0], 5.0),
        ([1.0, 2.0, 9.0], [0.0, 1.0, 0.0], 2.0),
        ([0.0, 1.0, 9.0], [0.0, 1.0, 1.0], 5.0),
        ([1.0, 9.0, 10.0], [1.0, 1.0, 0.0], 5.0),
        ([1.0, 2.0, 3.0], [0.3, 0.1, 0.2], 1.5),  # .3 + .1 + .2 = .6 only up to rounding
    ],
)
def test_half_of_the_weight_is_shared_by_the_neighbours(values, weight, expected):
    assert median(np.array(values), np.array(weight)) == expected


@pytest.mark.slow
@pytest.mark.parametrize("n", [10**6, 10**6 + 1])
@pytest.mark.parametrize("constant", [0.1, 1 / 3])
def test_a_million_constant_weights_have_no_effect(n, constant):
    # Sums of half a million weights have rounding errors of 2e-11, which must not break ties.
    values = np.random.default_rng(0).normal(size=n)
    assert median(values, np.full(n, constant)) == np.median(values)


@pytest.mark.parametrize("pattern", [[0.1, 0.3], [1 / 3, 1.0]])
def test_a_million_unequal_weights_of_which_half_is_met_exactly(pattern):
    # Both weights occur equally often below and above zero.
    size = np.random.default_rng(0).uniform(0.5, 1, size=500_000)
    values, weight = np.concatenate([-size, size]), np.tile(pattern, 500_000)
    expected = 0.5 * (size.min() - size.min())
    assert median(values, weight) == expected


def test_a_tie_is_not_seen_where_a_small_weight_decides():
    values, weight = np.arange(10_000.0), np.ones(10_000)
    weight[0] += 1e-6
    assert median(values, weight) == 4999.0
    weight[0], weight[-1] = 1.0, 1.0 + 1e-6
    assert median(values, weight) == 5000.0


def test_the_order_of_the_values_does_not_matter():
    rng = np.random.default_rng(0)
    values, weight = rng.normal(size=101), rng.uniform(size=101)
    expected = median(values, weight)
    kept = values.copy()
    for _ in range(10):
        order = rng.permutation(101)
        assert median(values[order], weight[order]) == expected
    assert_allclose(values, kept, rtol=0)


def test_a_median_of_no_numbers_is_nan():
    # All residuals can become NaN if another thread writes NaN to X during a fit.
    assert np.isnan(median(np.full(50_000, np.nan)))
    assert np.isnan(median(np.full(50_000, np.nan), near=1.0))


@pytest.mark.parametrize("n", [1, 2, 101, 100_000])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("absolute", [False, True])
def test_a_near_value_does_not_change_the_median(n, weighted, absolute):
    rng = np.random.default_rng(0)
    values = rng.normal(1.0, 1.0, size=n)
    weight = rng.uniform(0.1, 1, size=n) if weighted else None
    kept = values.copy()
    expected = median(np.abs(values) if absolute else values, weight)
    assert median(values, weight, None, absolute) == expected
    for near in (expected, 0.99 * expected, 1.03 * expected, -expected, 0.0, 1e9):
        assert median(values, weight, near, absolute) == expected
    assert_array_equal(values, kept)


# Values at an index ----------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 10, 1_000])
def test_the_kth_value_is_that_of_the_sorted_values(n):
    values = np.random.default_rng(0).integers(-9, 9, size=n).astype(float)
    kept = values.copy()
    for k in {0, n // 3, n // 2, n - 1}:
        found = kth(values, k)
        assert found == np.sort(values)[k]
        assert type(found) is float
    assert_array_equal(values, kept)


@pytest.mark.parametrize(
    "index",
    [
        slice(None),
        slice(None, None, 3),
        np.array([7, 0, 7]),
        np.arange(20) % 3 == 1,
        np.array([], dtype=int),
    ],
)
def test_gathered_values_are_those_at_the_index(index):
    values = np.random.default_rng(0).normal(size=20)
    assert_array_equal(gather(values, index), np.array(list(values))[index])


@pytest.mark.parametrize("n", [1, 5, 1_000])
@pytest.mark.parametrize("ties", [False, True])
def test_the_smallest_values_are_found(n, ties):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 4, size=n).astype(float) if ties else rng.normal(size=n)
    kept = values.copy()
    for m in {1, n // 2, n - 1, n, n + 3} - {0}:
        positions = smallest(values, m)
        assert len(set(positions)) == min(m, n)
        assert_array_equal(np.sort(values[positions]), np.sort(values)[:m])
    assert_array_equal(values, kept)


# Sums ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 10, BLOCK_ROWS, 2 * BLOCK_ROWS + 7])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("end", [0.0, 0.7, 2.0, np.inf])
def test_clipped_sums_are_the_formulas(n, weighted, end):
    rng = np.random.default_rng(0)
    r = np.round(rng.standard_t(2, size=n), 1)  # some values are exactly ±end
    weight = rng.uniform(size=n) if weighted else None
    s = np.ones(n) if weight is None else weight
    outside, squares = clipped_sums(r, weight, end)
    assert outside == pytest.approx(s[np.abs(r) > end].sum(), rel=1e-13)
    assert squares == pytest.approx((s * r**2)[np.abs(r) <= end].sum(), rel=1e-13)


def test_blocks_are_all_rows_in_order():
    for n in (0, 1, BLOCK_ROWS, BLOCK_ROWS + 1, 3 * BLOCK_ROWS - 1):
        parts = [np.arange(n)[part] for part in blocks(n)]
        assert all(part.size <= BLOCK_ROWS for part in parts)
        assert_array_equal(np.concatenate([[], *parts]), np.arange(n))


# Minimum along a line --------------------------------------------------------------------


def line_slope(t, r, change, weight, beta, penalty_slope):
    """Return the derivative of the mean Huber loss plus penalty at step length t."""
    s = np.ones(r.size) if weight is None else weight
    constant, rate = penalty_slope
    clipped = np.clip(r + t * change, -beta, beta)
    return (s * change) @ clipped / s.sum() + constant + rate * t


def minimum_by_all_breakpoints(r, change, weight, beta, penalty_slope):
    """Return the first zero of the slope, which is linear between the breakpoints."""
    with np.errstate(divide="ignore", invalid="ignore"):
        lengths = np.concatenate([(end - r) / change for end in (-beta, beta)])
    ends = [0.0, *np.unique(lengths[(lengths > 0) & np.isfinite(lengths)])]
    ends.append(2 * ends[-1] + 1.0)
    slopes = [line_slope(t, r, change, weight, beta, penalty_slope) for t in ends]
    if slopes[0] >= 0:
        return 0.0
    if slopes[-1] < 0:
        # Beyond the last breakpoint, only the penalty changes the slope.
        return ends[-1] - slopes[-1] / penalty_slope[1]
    k = next(i for i, slope in enumerate(slopes) if slope >= 0)
    (low, high), (a, b) = ends[k - 1 : k + 1], slopes[k - 1 : k + 1]
    return low - a * (high - low) / (b - a)


def line_problem(seed, n=30, weighted=False):
    """Return residuals, changes that bring most residuals closer to zero, and weights."""
    rng = np.random.default_rng(seed)
    r = rng.standard_t(2, size=n)
    change = -r * rng.uniform(0, 1, size=n) + 0.3 * rng.normal(size=n)
    change[0] = 0.0
    return r, change, rng.uniform(0.1, 1, size=n) if weighted else None


@pytest.mark.parametrize("beta", [1e-6, 0.05, 1.0, 1e3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("penalty_slope", [(0.0, 0.0), (0.02, 0.1), (-0.3, 2.0)])
def test_the_minimum_along_a_line_is_that_of_brute_force(beta, weighted, penalty_slope):
    for seed in range(20):
        r, change, weight = line_problem(seed, weighted=weighted)
        total = 30.0 if weight is None else weight.sum()
        copies = r.copy(), change.copy()
        length = line_minimum(r, change, weight, beta, total, penalty_slope)
        expected = minimum_by_all_breakpoints(r, change, weight, beta, penalty_slope)
        assert length == pytest.approx(expected, rel=1e-9)
        assert_array_equal((r, change), copies)


@pytest.mark.parametrize("unit", [1e-9, 1e-3, 1e6])
def test_the_length_is_inversely_proportional_to_the_direction(unit):
    r, change, _ = line_problem(0)
    expected = line_minimum(r, change, None, 0.5, 30.0, (0.0, 0.0))
    length = line_minimum(r, unit * change, None, 0.5, 30.0, (0.0, 0.0))
    assert length == pytest.approx(expected / unit, rel=1e-9)


@pytest.mark.parametrize("beta", [1e-6, 0.05, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("probe_rows", [1, 7, 100])
def test_the_minimum_does_not_depend_on_the_probed_rows(
    monkeypatch, beta, weighted, probe_rows
):
    for seed in range(20):
        r, change, weight = line_problem(seed, 100, weighted)
        total = 100.0 if weight is None else weight.sum()
        arguments = r, change, weight, beta, total, (0.01, 0.1)
        monkeypatch.setattr(_reductions, "LINE_SEARCH_PROBE_ROWS", probe_rows)
        length = line_minimum(*arguments)
        monkeypatch.setattr(_reductions, "LINE_SEARCH_PROBE_ROWS", LINE_SEARCH_PROBE_ROWS)
        assert length == pytest.approx(line_minimum(*arguments), rel=1e-12)


def test_the_slope_is_linear_between_the_lengths_where_a_row_reaches_the_threshold():
    # This verifies `line_slope`, on which `minimum_by_all_breakpoints` relies, and the
    # convexity of the objective along the line.
    r, change, weight = line_problem(0, weighted=True)
    with np.errstate(divide="ignore"):
        lengths = np.sort(np.concatenate([(end - r) / change for end in (-0.5, 0.5)]))
    lengths = lengths[np.isfinite(lengths) & (np.abs(lengths) < 10)]

    def slope(t):
        return line_slope(t, r, change, weight, 0.5, (0.1, 0.2))

    for low, high in itertools.pairwise(lengths):
        assert slope(0.5 * (low + high)) == pytest.approx(0.5 * (slope(low) + slope(high)))
        assert slope(low) <= slope(high)


def test_the_length_is_zero_where_the_direction_ascends():
    r = np.array([1.0, -2.0, 3.0])
    assert line_minimum(r, r, None, 1.0, 3.0, (0.0, 0.0)) == 0.0
    assert line_minimum(r, -r, None, 1.0, 3.0, (10.0, 0.0)) == 0.0


def test_a_direction_that_changes_nothing_has_a_finite_length():
    for penalty_slope in ((0.0, 0.0), (-1.0, 2.0)):
        length = line_minimum(np.ones(3), np.zeros(3), None, 1.0, 3.0, penalty_slope)
        assert 0 <= length <= MAX_STEP_LENGTH
    assert_allclose(length, 0.5)


# Other row vectors -----------------------------------------------------------------------


class Rows:
    """A row vector of an engine outside the package."""


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (median, ()),
        (kth, (0,)),
        (gather, (slice(None),)),
        (smallest, (1,)),
        (clipped_sums, (None, 1.0)),
        (line_minimum, (Rows(), None, 1.0, 1.0, (0.0, 0.0))),
    ],
)
@pytest.mark.parametrize("rows", [Rows(), [1.0, 2.0]])
def test_a_class_that_is_not_registered_is_named(function, arguments, rows):
    message = f"no implementation of {function.__name__} found for {type(rows).__name__}"
    with pytest.raises(TypeError, match=message):
        function(rows, *arguments)


def test_a_registered_class_is_used():
    class Other(Rows):
        pass

    median.register(Other, lambda rows, weight=None, near=None, absolute=False: 3.0)
    assert median(Other()) == 3.0
    with pytest.raises(TypeError, match="median"):
        median(Rows())
