"""Operations on vectors and X in blocks of rows agree with NumPy and the in-memory engines."""

import pickle

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

import block_engine
from block_engine import BlockEngine
from skrobust import SmoothL1Regressor, _training_data
from skrobust._engines import as_engine, block_line_search, order_statistics
from skrobust._engines.block_data import LocalBlocks
from skrobust._engines.threads import ThreadTeam
from skrobust._engines.vectors import Block, BlockVector, StoredVector, run_task
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


@pytest.fixture(scope="module", params=["usual", "small"])
def limits(request):
    """Run a test with default limits on the size of a block's results and with small limits.

    With small limits, medians and line searches need several rounds of tasks on the blocks.
    """
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
    """Return the arrays as row vectors with the same blocks, which end at the given rows."""
    n = columns[0].size
    ends = sorted({min(end, n) for end in ends} - {0, n})
    blocks = LocalBlocks(np.split(np.zeros((n, 1)), ends, axis=0), np.split(np.zeros(n), ends))
    return [
        BlockVector(blocks, StoredVector(np.split(column, ends)), column.dtype)
        for column in columns
    ]


# Rows at which blocks end. If there are many ends, most blocks have a single row.
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
    """Return weights that may vary widely in size but whose sums have no rounding error."""
    rng = np.random.default_rng(seed)
    return 2.0 ** rng.integers(*[(0, 1), (0, 3), (-20, 20)][seed % 3], size=n)


def equals(found, expected):
    """Return whether two numbers are equal, where NaN equals NaN."""
    return np.array_equal(found, expected, equal_nan=True)


@pytest.mark.usefixtures("limits")
@given(VALUES, ENDS)
@example(np.array([1.0, 1.0, 5.0, 7.0]), [1, 2, 3])
def test_the_median_is_that_of_an_array(values, ends):
    (rows,) = in_blocks(ends, values)
    with np.errstate(all="ignore"):
        expected = median(values), median(values, absolute=True)
    assert equals(median(rows), expected[0])
    assert equals(median(rows, absolute=True), expected[1])


@pytest.mark.usefixtures("limits")
@given(VALUES, ENDS, st.integers(0, 8))
def test_the_weighted_median_is_that_of_an_array(values, ends, seed):
    weight = random_weight(values.size, seed)
    rows, s = in_blocks(ends, values, weight)
    with np.errstate(all="ignore"):
        assert equals(median(rows, s), median(values, weight))
        assert equals(median(rows, s, absolute=True), median(values, weight, absolute=True))


@pytest.mark.usefixtures("limits")
@given(VALUES, ENDS, st.integers(0, 8), st.booleans(), st.sampled_from(["right", 0.0, 3.0]))
def test_a_near_value_does_not_change_the_median(values, ends, seed, weighted, near):
    weight = random_weight(values.size, seed) if weighted else None
    rows, s = in_blocks(ends, values, values if weight is None else weight)
    with np.errstate(all="ignore"):
        expected = median(values, weight, None, True)
        near = expected if near == "right" else near
        assert equals(median(rows, s if weighted else None, near, True), expected)


@pytest.mark.usefixtures("limits")
@given(VALUES, ENDS, st.integers(0, 59))
def test_the_kth_value_is_that_of_the_sorted_values(values, ends, k):
    (rows,) = in_blocks(ends, values)
    k = k % values.size
    assert kth(rows, k) == np.sort(values)[k]


@pytest.mark.usefixtures("limits")
@given(VALUES, ENDS, st.integers(1, 60))
def test_the_smallest_values_are_found(values, ends, m):
    (rows,) = in_blocks(ends, values)
    found = smallest(rows, m)
    assert len(set(found)) == len(found) == min(m, values.size)
    assert_array_equal(np.sort(values[found]), np.sort(values)[:m])


@pytest.mark.usefixtures("limits")
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


@pytest.mark.usefixtures("limits")
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


@pytest.mark.usefixtures("limits")
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


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_blocks", [1, 50])
def test_many_values_are_ranked_by_histograms(absolute, weighted, n_blocks):
    rng = np.random.default_rng(0)
    values = rng.standard_cauchy(30_001) ** 3 + 1e6
    values[:10_000] = np.round(values[:10_000])
    weight = rng.integers(1, 5, size=values.size).astype(float) if weighted else None
    ends = np.linspace(0, values.size, n_blocks + 1).astype(int)
    rows, s = in_blocks(ends, values, values if weight is None else weight)
    s = s if weighted else None
    expected = median(values, weight, None, absolute)
    assert median(rows, s, None, absolute) == expected
    assert median(rows, s, 1.05 * expected, absolute) == expected
    assert kth(rows, 29_000) == np.sort(values)[29_000]


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
@settings(max_examples=20)
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
    # The operands of the expressions remain unchanged.
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


# The engine ------------------------------------------------------------------------------

N, P = 230, 4
LAYOUTS = ["dense", "small", "float32", "csr"]


def features(layout, n=N):
    """Return columns with different units and locations; about 30 % of the values are zero."""
    rng = np.random.default_rng(0)
    n = 6_000 if layout == "dense" else n
    X = np.linspace(-3, 5, P) + rng.normal(size=(n, P)) * np.logspace(-1, 1, P)
    X[rng.random((n, P)) < 0.3] = 0.0
    X = X.astype(np.float32)
    if layout == "float32":
        return X
    X = X.astype(np.float64)
    return sparse.csr_array(X) if layout == "csr" else X


CENTRE, SCALE = np.linspace(-2, 4, P), np.logspace(-1, 1, P)


def both_engines(X, variant):
    """Return the in-memory engine and the block engine with the same standardisation."""
    engines = [make(X, ThreadTeam()) for make in (as_engine, BlockEngine)]
    if variant == "rescaled":
        engines = [engine.rescaled() for engine in engines]
    elif variant == "without":
        engines = [engine.without(np.arange(P) == 1) for engine in engines]
    unit = engines[0].unit
    return [engine.with_standardisation(CENTRE / unit, SCALE / unit) for engine in engines]


def some_weight(n, kind):
    """Return None, positive weights, or weights that are zero in the first blocks."""
    rng = np.random.default_rng(1)
    if kind == "none":
        return None
    weight = rng.uniform(0.1, 1.0, size=n)
    return weight * (np.arange(n) > 0.4 * n) if kind == "zero" else weight


def assert_close(found, expected, rtol=1e-12):
    expected = np.asarray(expected)
    assert_allclose(found, expected, rtol=0, atol=rtol * np.abs(expected).max())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["none", "weights", "zero"])
@pytest.mark.parametrize("variant", ["plain", "rescaled", "without"])
def test_the_engine_of_blocks_computes_what_that_of_an_array_does(layout, kind, variant):
    X = features(layout)
    (array, blocks), rng = both_engines(X, variant), np.random.default_rng(2)
    n = X.shape[0]
    weight = some_weight(n, kind)
    s = None if weight is None else blocks.row_vector(weight)
    y, coef, M = rng.normal(size=n), rng.normal(size=P + 1), rng.normal(size=(P + 1, 2))
    for threshold in (0.7, np.inf):
        r, sums = blocks.loss_gradient(coef, blocks.row_vector(y), s, HUBER, threshold)
        r_array, sums_array = array.loss_gradient(coef, y, weight, HUBER, threshold)
        assert_close(gather(r, slice(None)), r_array)
        assert_close(sums, sums_array)
        # Besides the residuals, a pass returns sums, and the values near the previous median.
        # The next median is computed from these sums and values.
        for _ in range(2):
            expected = median(r_array, weight, None, True)
            assert_allclose(median(r, s, None, True), expected, rtol=1e-12)
            expected = clipped_sums(r_array, weight, threshold)
            assert_allclose(clipped_sums(r, s, threshold), expected, rtol=1e-12)
            r, _ = blocks.loss_gradient(1.001 * coef, blocks.row_vector(y), s, HUBER, threshold)
            r_array, _ = array.loss_gradient(1.001 * coef, y, weight, HUBER, threshold)
    assert_close(blocks.gram(s), array.gram(weight))
    assert_close(blocks.transformed_gram(s, M), array.transformed_gram(weight, M))
    R, R_array = blocks.root(s), array.root(weight)
    assert_close(R.T @ R, R_array.T @ R_array)
    size = np.abs(coef)
    assert_close(gather(blocks.abs_dot(size), slice(None)), array.abs_dot(size))
    assert_close(gather(blocks.squared_norms(M), slice(None)), array.squared_norms(M))
    for index in (slice(None, None, 7), np.array([5, 0, 9, 5]), np.arange(n) % 3 == 0):
        assert_close(blocks.rows(index), array.rows(index))
    index = np.array([7, 3, 100])
    part, part_of_array = blocks.take(index), array.rows(index)
    assert part.unit == blocks.unit
    assert_close(part.rows(slice(None)), part_of_array)
    assert (blocks.n, blocks.p, blocks.dtype) == (array.n, array.p, array.dtype)
    assert blocks.n_elements == array.n_elements
    assert blocks.n_passes == array.n_passes
    assert_array_equal(gather(blocks.zeros(), slice(None)), np.zeros(n))


@pytest.mark.parametrize("as_matrix", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("kind", ["none", "weights", "zero"])
def test_moments_of_constant_and_far_columns_are_exact(as_matrix, kind):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, 6))
    X[:, 1], X[:, 2], X[:, 3] = 0.1, 1e8, 1e8 + X[:, 3]
    X[:, 4] *= 1e-130
    X[:, 5] = np.arange(N) < 0.3 * N
    weight = some_weight(N, kind)
    s = np.ones(N) if weight is None else weight
    exact = X.astype(np.longdouble)
    mean = s @ exact / s.sum()
    std = np.sqrt(s @ (exact - mean) ** 2 / s.sum())
    blocks = BlockEngine(as_matrix(X), ThreadTeam())
    s = None if weight is None else blocks.row_vector(weight)
    found = blocks.moments(s, slice(None))
    constant = np.array([False, True, True, False, False, kind == "zero"])
    assert_allclose(found[0], mean.astype(float), rtol=1e-14, atol=1e-15)
    assert_allclose(found[1][~constant], std[~constant].astype(float), rtol=1e-7)
    eps = np.finfo(float).eps
    assert (found[1][constant] <= 8 * eps * np.abs(found[0][constant])).all()


@pytest.mark.parametrize("as_matrix", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("kind", ["none", "weights", "zero"])
def test_moments_of_extreme_columns_are_those_of_an_array(as_matrix, kind):
    X = np.random.default_rng(0).normal(size=(N, 5)) + 3.0
    X = as_matrix(X * [1.0, 1e160, 1e-160, 0.0, 1e-320])
    weight = some_weight(N, kind)
    columns = np.array([1, 2, 3, 4])
    blocks = BlockEngine(X, ThreadTeam())
    s = None if weight is None else blocks.row_vector(weight)
    array = as_engine(X, ThreadTeam())
    mean, std = array.extreme_moments(weight, columns)
    found = blocks.extreme_moments(s, columns)
    assert_allclose(found, (mean, std), rtol=1e-10)
    with np.errstate(all="ignore"):
        _, usual = blocks.moments(s, slice(None))
    assert not ((usual[columns] > 1e-140) & (usual[columns] < 1e140)).any()
    rescaled = blocks.rescaled().extreme_moments(s, np.array([1]))
    assert_allclose(np.ravel(rescaled), [mean[0] * 2.0**-64, std[0] * 2.0**-64], rtol=1e-10)


def test_sums_of_huge_columns_overflow_unless_they_are_rescaled():
    X = np.random.default_rng(0).normal(size=(N, 2)) * [1.0, 1e307] + [0.0, 1e308]
    engine = BlockEngine(X, ThreadTeam())
    with np.errstate(all="ignore"):
        mean, _ = engine.moments(None, slice(None))
        assert not np.isfinite(mean[1])
        rescaled = engine.rescaled()
        mean, _ = rescaled.moments(None, slice(None))
    assert_allclose(mean * rescaled.unit, X.mean(axis=0, dtype=np.longdouble), rtol=1e-12)


@pytest.mark.parametrize("kind", ["none", "weights", "zero"])
def test_the_root_keeps_the_digits_that_a_gram_matrix_loses(kind):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, P))
    X[:, 1] = X[:, 0] + 1e-11 * X[:, 1]
    X[:, 2] = X[:, 3]
    weight = some_weight(N, kind)
    blocks = BlockEngine(X, ThreadTeam())
    s = None if weight is None else blocks.row_vector(weight)
    root = np.sqrt(np.full(N, 1 / N) if weight is None else weight / weight.sum())
    expected = np.linalg.svd(root[:, None] * np.c_[np.ones(N), X], compute_uv=False)
    found = np.linalg.svd(blocks.root(s), compute_uv=False)
    assert blocks.root(s).shape == (P + 1, P + 1)
    assert_allclose(found, expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["none", "weights"])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_the_part_orthogonal_to_features_is_that_of_an_array(layout, kind, fit_intercept):
    X = features(layout)
    if layout == "small":
        X[:, 2] = 3.0 * X[:, 0]
    array, blocks = both_engines(X, "plain")
    n = X.shape[0]
    weight, y = some_weight(n, kind), np.random.default_rng(2).normal(size=n) + 1.0
    s = None if weight is None else blocks.row_vector(weight)
    index = np.array([0, 2])
    found = blocks.orthogonal_part(blocks.row_vector(y), s, index, fit_intercept, HUBER)
    expected = array.orthogonal_part(y, weight, index, fit_intercept, HUBER)
    assert_close(gather(found, slice(None)), expected)
    Z = array.rows(slice(None))[:, [0, 1, 3] if fit_intercept else [1, 3]]
    product = (expected if weight is None else weight * expected) @ Z
    assert np.abs(product).max() <= 1e-11 * n


def test_the_root_of_few_rows_is_these_rows():
    X = np.random.default_rng(0).normal(size=(8, 20))
    root = BlockEngine(X, ThreadTeam()).root()
    assert root.shape == (8, 21)
    Z = np.c_[np.ones(8), X]
    assert_allclose(root.T @ root, Z.T @ Z / 8, atol=1e-14)


@pytest.mark.parametrize("layout", ["dense", "float32"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_row_norm_sample_is_unbiased_with_heavy_tails(layout, weighted):
    X = features(layout, 2_000)
    n, m = X.shape[0], 400
    X *= np.random.default_rng(3).standard_cauchy(size=(n, 1)).astype(X.dtype)
    weight = 10.0 ** np.random.default_rng(4).uniform(-9, 0, size=n) if weighted else None
    engine = BlockEngine(X, ThreadTeam())
    engine = engine.with_standardisation(np.zeros(P), X.std(axis=0, dtype=float))
    s = None if weight is None else engine.row_vector(weight)
    Z = engine.rows(slice(None))
    given = np.ones(n) if weight is None else weight
    rng, sizes, grams = np.random.default_rng(0), [], []
    for _ in range(60):
        rows, row_weight = engine.row_norm_sample(s, m, rng)
        assert (np.diff(rows) > 0).all()
        assert (row_weight >= given[rows] * (1 - 1e-12)).all()
        sizes.append(rows.size)
        grams.append(np.einsum("i,ij,ik->jk", row_weight, Z[rows], Z[rows]))
        # The row with the largest weighted norm is drawn with probability one.
        largest = np.argmax(given * (Z * Z).sum(axis=1))
        assert row_weight[rows == largest] == given[largest]
    assert_allclose(np.mean(sizes), m, rtol=0.05)
    grams, expected = np.array(grams), np.einsum("i,ij,ik->jk", given, Z, Z)
    error = grams.std(axis=0) / np.sqrt(60)
    assert (np.abs(grams.mean(axis=0) - expected) <= 4.5 * error + 1e-12).all()
    # The Gram matrix varies much less from sample to sample than for uniform samples.
    unit = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert (np.std(grams, axis=0) / unit).max() < 0.2


@pytest.mark.parametrize("as_matrix", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_error_about_x_names_the_block(as_matrix, value):
    X = np.random.default_rng(0).normal(size=(20, 2))
    BlockEngine(as_matrix(X), ThreadTeam()).check_finite()
    X[10, 1] = value
    # The blocks end before rows 1, 2, 6, 7, 14, 18, 18 and 20.
    with pytest.raises(ValueError, match=r"X contains NaN or infinity.*\(rows 7 to 13\)"):
        BlockEngine(as_matrix(X), ThreadTeam()).check_finite()


class ShuffledBlocks(LocalBlocks):
    """Blocks whose tasks run in random order."""

    def execute(self, task, stored, expressions, arguments, *, with_X, keep):
        order = np.random.default_rng(self.n_rounds).permutation(len(self.sizes))
        sizes, X = self.sizes, self._X
        results = [None] * len(sizes)
        for k in order:
            block = Block(X[k] if with_X else None, int(k), sizes[k])
            parts = [vector.parts[k] for vector in stored]
            results[k] = run_task(task, block, parts, expressions, arguments)
        if keep:
            return [small for small, _ in results], [kept for _, kept in results]
        return results, None


MODES = [
    {},
    {"beta": 1.0},
    {"beta": 1e-6},
    {"loss": "huber", "alpha": 0.1},
    {"scale": "concomitant"},
    {"beta_schedule": [10, 2, 1]},
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tall", [False, True])
def test_the_order_of_the_tasks_does_not_change_a_bit(monkeypatch, mode, tall):
    if tall:
        monkeypatch.setattr("skrobust._solvers.TALL_MIN_ELEMENTS", 0)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3_000, 4)) @ rng.normal(size=(4, 4)) + 3.0
    X[:20] *= 100.0
    y, weight = X.sum(axis=1) + rng.standard_t(2, size=3_000), rng.uniform(0.1, 1, size=3_000)
    monkeypatch.setattr(_training_data, "as_engine", BlockEngine)
    models = []
    for kind in (LocalBlocks, ShuffledBlocks):
        monkeypatch.setattr(block_engine, "LocalBlocks", kind)
        models.append(SmoothL1Regressor(**mode).fit(X, y, weight))
    assert_array_equal(models[0].coef_, models[1].coef_)
    for name in ("intercept_", "beta_", "objective_", "optimality_"):
        assert getattr(models[0], name) == getattr(models[1], name)
    assert_array_equal(models[0].weights_, models[1].weights_)
    assert models[0].history_ == models[1].history_


class MeasuredBlocks(LocalBlocks):
    """Blocks that record the largest total size of a round's results, excluding samples."""

    largest = 0

    def execute(self, task, stored, expressions, arguments, *, with_X, keep):
        results, kept = super().execute(
            task, stored, expressions, arguments, with_X=with_X, keep=keep
        )
        if task.__name__ not in ("_take", "_drawn"):
            n_bytes = sum(len(pickle.dumps(result)) for result in results)
            MeasuredBlocks.largest = max(MeasuredBlocks.largest, n_bytes)
        return results, kept


@pytest.mark.parametrize("mode", [{}, {"scale": "concomitant"}, {"beta": 1e-3}])
@pytest.mark.parametrize("heavy", [False, True])
def test_a_round_returns_few_bytes(monkeypatch, mode, heavy):
    monkeypatch.setattr("skrobust._solvers.TALL_MIN_ELEMENTS", 0)
    monkeypatch.setattr(_training_data, "as_engine", BlockEngine)
    monkeypatch.setattr(block_engine, "LocalBlocks", MeasuredBlocks)
    monkeypatch.setattr(MeasuredBlocks, "largest", 0)
    rng = np.random.default_rng(0)
    n, p, n_blocks = 60_000, 2, 8
    X, weight = rng.normal(size=(n, p)), rng.uniform(0.1, 1, size=n)
    if heavy:
        X *= rng.standard_cauchy(size=(n, 1))
    y = X.sum(axis=1) + rng.standard_t(2, size=n)
    SmoothL1Regressor(**mode).fit(X, y, weight)
    assert MeasuredBlocks.largest <= n_blocks * (8 * (p + 2) ** 2 + 2**15) + 2**18
