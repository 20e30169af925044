"""Row vectors and X in blocks give the results of NumPy and of the engine in memory."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from block_engine import BlockEngine, split
from skrobust import SmoothL1Regressor, _training_data
from skrobust._engines import as_engine, block_line_search, order_statistics
from skrobust._engines.block_data import LocalBlocks
from skrobust._engines.threads import ThreadTeam
from skrobust._engines.vectors import BlockVector, StoredVector, constant
from skrobust._model.loss import BISQUARE, HUBER
from skrobust._reductions import (
    clipped_sums,
    gather,
    kth,
    line_minimum,
    median,
    rho_sums,
    share_outside,
    smallest,
)

# Row vectors -----------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["usual", "small"], autouse=True)
def limits(request):
    """Run each test also with limits so small that histograms replace most values."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "small":
            for name, value in {
                "MAX_VALUES_PER_BLOCK": 2,
                "BINS": 3,
                "PROBE_VALUES": 4,
            }.items():
                patch.setattr(order_statistics, name, value)
            for name, value in {"PROBE_ROWS": 4, "LENGTHS": 3, "MAX_ROWS_PER_BLOCK": 2}.items():
                patch.setattr(block_line_search, name, value)
        yield request.param


def in_blocks(ends, *columns):
    """Return arrays as row vectors in the same blocks, which end at the given rows."""
    n = columns[0].size
    ends = sorted({min(end, n) for end in ends} - {0, n})
    blocks = LocalBlocks(np.split(np.zeros((n, 1)), ends, axis=0), np.split(np.zeros(n), ends))
    return [
        BlockVector(blocks, StoredVector(np.split(column, ends)), column.dtype)
        for column in columns
    ]


# Most blocks have a single row if there are many ends.
ENDS = st.lists(st.integers(1, 60), max_size=40)
KINDS = {
    "ties": st.integers(-2, 2).map(float),
    "floats": st.floats(-100, 100),
    "all floats": st.floats(allow_nan=False, allow_infinity=False),
    "infinite": st.sampled_from([-np.inf, -1.0, 0.0, -0.0, 2.0, np.inf]),
    "sizes": st.tuples(st.sampled_from([-1, 1]), st.integers(-300, 300)).map(
        lambda v: v[0] * 10.0 ** v[1]
    ),
    "equal": st.just(0.1),
}
VALUES = st.sampled_from(sorted(KINDS)).flatmap(
    lambda kind: st.lists(KINDS[kind], min_size=1, max_size=60).map(np.array)
)
FINITE = st.sampled_from(["ties", "floats", "equal"]).flatmap(
    lambda kind: st.lists(KINDS[kind], min_size=1, max_size=60).map(np.array)
)


def random_weight(n, seed):
    """Return weights of widely different sizes, whose sums are exact."""
    rng = np.random.default_rng(seed)
    return 2.0 ** rng.integers(*[(0, 1), (0, 3), (-20, 20)][seed % 3], size=n)


def equals(found, expected):
    """Tell whether two numbers are equal, NaN included."""
    return np.array_equal(found, expected, equal_nan=True)


@given(VALUES, ENDS)
@example(np.array([1.0, 1.0, 5.0, 7.0]), [1, 2, 3])
def test_the_median_is_that_of_an_array(values, ends):
    (rows,) = in_blocks(ends, values)
    with np.errstate(all="ignore"):
        expected = median(values), median(values, absolute=True)
    assert equals(median(rows), expected[0])
    assert equals(median(rows, absolute=True), expected[1])


@given(VALUES, ENDS, st.integers(0, 8))
def test_the_weighted_median_is_that_of_an_array(values, ends, seed):
    weight = random_weight(values.size, seed)
    rows, s = in_blocks(ends, values, weight)
    with np.errstate(all="ignore"):
        assert equals(median(rows, s), median(values, weight))
        assert equals(median(rows, s, absolute=True), median(values, weight, absolute=True))


@given(VALUES, ENDS, st.integers(0, 8), st.booleans(), st.sampled_from(["right", 0.0, 3.0]))
def test_a_near_value_does_not_change_the_median(values, ends, seed, weighted, near):
    weight = random_weight(values.size, seed) if weighted else None
    rows, s = in_blocks(ends, values, values if weight is None else weight)
    with np.errstate(all="ignore"):
        expected = median(values, weight, None, True)
        near = expected if near == "right" else near
        assert equals(median(rows, s if weighted else None, near, True), expected)


@given(VALUES, ENDS, st.integers(0, 59))
def test_the_kth_value_is_that_of_the_sorted_values(values, ends, k):
    (rows,) = in_blocks(ends, values)
    k = k % values.size
    assert kth(rows, k) == np.sort(values)[k]


@given(VALUES, ENDS, st.integers(1, 60))
def test_the_smallest_values_are_found(values, ends, m):
    (rows,) = in_blocks(ends, values)
    found = smallest(rows, m)
    assert len(set(found)) == len(found) == min(m, values.size)
    assert_array_equal(np.sort(values[found]), np.sort(values)[:m])


@given(VALUES, ENDS, st.data())
def test_gathered_values_are_those_at_the_index(values, ends, data):
    n = values.size
    (rows,) = in_blocks(ends, values)
    positions = st.lists(st.integers(0, n - 1), max_size=9).map(
        lambda i: np.array(i, dtype=int)
    )
    mask = st.lists(st.booleans(), min_size=n, max_size=n).map(np.array)
    index = data.draw(st.one_of(st.slices(n), positions, mask))
    found = gather(rows, index)
    assert isinstance(found, np.ndarray)
    assert_array_equal(found, values[index])


def test_a_gathered_position_beyond_the_rows_is_an_error():
    (rows,) = in_blocks([2], np.arange(4.0))
    for index in ([4], [0, 9], [-1]):
        with pytest.raises(IndexError):
            gather(rows, np.array(index))


@given(FINITE, ENDS, st.integers(0, 8), st.booleans(), st.sampled_from([0.0, 0.1, 1.5, np.inf]))
def test_sums_are_those_of_an_array(values, ends, seed, weighted, end):
    weight = random_weight(values.size, seed) if weighted else None
    rows, s = in_blocks(ends, values, values if weight is None else weight)
    s = s if weighted else None
    assert_allclose(clipped_sums(rows, s, end), clipped_sums(values, weight, end), rtol=1e-13)
    outside = np.average(np.abs(values) > end, weights=weight)
    assert_allclose(share_outside(rows, s, end), (outside, 0.0), rtol=1e-13)
    for loss in (HUBER, BISQUARE) if end else ():
        expected = rho_sums(values, weight, loss, min(end, 1e3))
        assert_allclose(rho_sums(rows, s, loss, min(end, 1e3)), expected, rtol=1e-13)


@given(FINITE, ENDS, st.integers(0, 8), st.booleans(), st.sampled_from([1e-3, 1.0, 30.0]))
def test_the_minimum_along_a_line_is_that_of_an_array(values, ends, seed, weighted, threshold):
    rng = np.random.default_rng(seed)
    n = values.size
    weight = random_weight(n, seed) if weighted else None
    change = rng.integers(-2, 3, size=n).astype(float) if seed % 2 else rng.normal(size=n)
    total = float(n if weight is None else weight.sum())
    penalty = (-0.01, 0.02) if seed % 4 > 1 else (0.0, 0.0)

    def value(t):
        rho = HUBER.rho(values + t * change, threshold)
        return np.average(rho, weights=weight) + penalty[0] * t + 0.5 * penalty[1] * t * t

    if value(1e-7) > value(0.0):
        change, penalty = -change, (-penalty[0], penalty[1])
    rows, moved, s = in_blocks(ends, values, change, values if weight is None else weight)
    arguments = threshold, total, penalty
    found = line_minimum(rows, moved, s if weighted else None, *arguments)
    expected = line_minimum(values, change, weight, *arguments)
    assert found >= 0
    lowest = value(expected)
    if lowest < value(0.0):
        assert value(found) <= lowest + 1e-13 * (1.0 + value(0.0))


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_blocks", [1, 7, 300])
def test_many_values_are_ranked_by_histograms(absolute, weighted, n_blocks):
    rng = np.random.default_rng(0)
    values = rng.standard_cauchy(60_001) ** 3 + 1e6
    values[:20_000] = np.round(values[:20_000])
    weight = rng.integers(1, 5, size=values.size).astype(float) if weighted else None
    ends = np.linspace(0, values.size, n_blocks + 1).astype(int)
    rows, s = in_blocks(ends, values, values if weight is None else weight)
    s = s if weighted else None
    expected = median(values, weight, None, absolute)
    assert median(rows, s, None, absolute) == expected
    assert median(rows, s, 1.05 * expected, absolute) == expected
    assert kth(rows, 59_000) == np.sort(values)[59_000]


def test_a_rank_takes_few_rounds(limits):
    rng = np.random.default_rng(0)
    for values in (rng.normal(size=200_000), np.exp(9 * rng.normal(size=200_000))):
        (rows,) = in_blocks(range(0, 200_000, 50_000), values)
        median(rows, absolute=True)
        first = rows.blocks.n_rounds
        median(rows, near=median(values), absolute=False)
        if limits == "usual":
            assert first <= 3
            assert rows.blocks.n_rounds - first <= 2


# Expressions -----------------------------------------------------------------------------

EXPRESSIONS = {
    "arithmetic": lambda a, b: 2.0 * np.abs(a) - b / 4 + a * b - (1 - a),
    "clip": lambda a, b: np.clip(a, -1.5, 1.5) + np.minimum(a, b),
    "mask": lambda a, b: (np.abs(a) > 1) & ~(b < 0) | (a == b),
    "mask as number": lambda a, b: ((a > b).astype(float) + 1) * a,
    "mask times number": lambda a, b: 1.0 - (a > b),
    "power and square root": lambda a, b: np.sqrt(a**2 + 1.0),
    "division by zero": lambda a, b: a / (b - b),
    "zeros": lambda a, b: np.zeros_like(a) + b * np.ones_like(b),
    "a number": lambda a, b: np.zeros_like(a),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
@given(FINITE, ENDS)
def test_an_expression_has_the_values_of_arrays(name, values, ends):
    other = values[::-1].copy() + 0.5
    a, b = in_blocks(ends, values, other)
    expression = EXPRESSIONS[name]
    with np.errstate(all="ignore"):
        expected = expression(values, other)
    found = expression(a, b)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert_array_equal(gather(found, slice(None)), expected)
    # The operands keep their values.
    assert_array_equal(gather(a, slice(None)), values)


@given(FINITE, ENDS, st.integers(0, 8))
def test_reductions_are_those_of_an_array(values, ends, seed):
    weight = random_weight(values.size, seed)
    a, s = in_blocks(ends, values, weight)
    assert_allclose(a.sum(), values.sum(), atol=1e-11)
    assert_allclose(a.mean(), values.mean(), atol=1e-12)
    assert (a.min(), a.max()) == (values.min(), values.max())
    assert_allclose(s @ a, weight @ values, rtol=1e-12, atol=1e-9)
    assert_allclose(np.average(a, weights=s), np.average(values, weights=weight), atol=1e-12)
    assert_allclose(np.average(a), values.mean(), atol=1e-12)
    for mask, expected in ((a > 0, values > 0), (a <= 2, values <= 2)):
        assert mask.any() is bool(expected.any())
        assert mask.all() is bool(expected.all())
        assert np.count_nonzero(mask) == np.count_nonzero(expected)
        assert mask.sum() == expected.sum()
        assert_allclose(s @ mask, weight @ expected, rtol=1e-12)


def test_operations_in_place_leave_other_names_of_the_values_alone():
    values = np.array([1.0, -2.0, 3.0])
    (a,) = in_blocks([1], values)
    b = a.astype(np.float64)
    c = np.empty_like(a)
    b *= 2.0
    np.subtract(a, b, out=c)
    b -= 1.0
    assert_array_equal(gather(a, slice(None)), values)
    assert_array_equal(gather(b, slice(None)), 2 * values - 1)
    assert_array_equal(gather(c, slice(None)), -values)


def test_a_minimum_of_a_vector_with_nan_is_nan():
    for values in ([np.nan, 1.0, 2.0], [1.0, np.nan, 2.0], [1.0, 2.0, np.nan]):
        (a,) = in_blocks([1, 2], np.array(values))
        assert np.isnan([a.min(), a.max(), a.sum(), a.mean()]).all()


@pytest.mark.parametrize("unit", [1.0, 2.0**1000])
def test_known_figures_of_y_are_those_of_its_values(unit):
    y = unit * np.array([3.0, -5.0, 11.0, 1e7])
    (rows,) = LocalBlocks([np.zeros((2, 1))] * 2, np.split(y, 2)).targets
    for c in (2.0, unit):
        for vector, values in ((rows / c, y / c), (rows / c - 0.5, y / c - 0.5)):
            assert (vector.min(), vector.max()) == (values.min(), values.max())
            assert_allclose(vector.sum(), values.sum(), rtol=1e-14)
    negative = rows / -2.0
    assert (negative.min(), negative.max()) == ((y / -2).min(), (y / -2).max())


@pytest.mark.parametrize(
    "call",
    [
        np.asarray,
        np.array,
        np.median,
        np.sort,
        np.percentile,
        lambda a: np.concatenate([a, a]),
        lambda a: np.cumsum(a),
        lambda a: np.add.reduce(a),
        lambda a: np.add.outer(a, a),
        lambda a: np.divmod(a, 2.0),
        lambda a: np.add(a, 1.0, where=[True]),
        lambda a: a + np.ones(4),
        lambda a: np.ones(4) @ a,
        lambda a: np.ones((2, 4)) @ a,
        lambda a: a[:2],
        lambda a: list(a),
        lambda a: float(a),
        lambda a: a.astype(np.float32),
        lambda a: a.astype(int),
        lambda a: a + 1j,
        lambda a: np.add(np.ones(4), 1.0, out=a),
        lambda a: np.add(a, 1.0, out=np.ones(4)),
        lambda a: np.ones(4).__iadd__(a),
        bool,
    ],
)
def test_what_is_not_implemented_raises_a_type_error(call):
    (a,) = in_blocks([1, 3], np.arange(4.0))
    with pytest.raises(TypeError):
        call(a)
