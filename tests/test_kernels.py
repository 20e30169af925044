"""The compiled passes compute the formulas of `skrobust.losses`, for every layout of X.

The references are computed in extended precision, and each sum may be wrong by 1e-14 of the
sum of its terms' magnitudes: what a float64 sum in any order can keep, and no more.
"""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import sparse

from skrobust import _kernels, losses

LAYOUTS = ["C", "F", "A"]
DTYPES = [np.float64, np.float32]
INDEX_DTYPES = [np.int32, np.int64]
ROUNDING = 1e-14
# Features of a row of float64 that is taken with three others, and with one.
NARROW, WIDE = _kernels._NARROW // 8, _kernels._NARROW // 8 + 1


class Case:
    """Data of a pass: n rows, p features, and blocks of `size` rows."""

    def __init__(self, n=37, p=5, size=8, dtype=np.float64, beta=0.7, weighted=True, seed=0):
        rng = np.random.default_rng(seed)
        self.X = (3 + rng.normal(size=(n, p)) * np.logspace(-2, 2, p)).astype(dtype)
        self.X[rng.random((n, p)) < 0.3] = 0
        self.centre = rng.normal(size=p)
        self.w = rng.normal(size=p) / np.logspace(-2, 2, p)
        self.b = 0.3
        self.y = self.X @ self.w + rng.standard_t(2, size=n)
        self.weight = rng.uniform(0, 2, size=n) if weighted else np.ones(1)
        self.beta = beta
        self.size = size
        self.n_blocks = -(-n // size)

    def of(self, X):
        """The same with this part of X."""
        n, p = X.shape
        self.X, self.centre, self.w = X, self.centre[:p], self.w[:p]
        self.y, self.weight, self.n_blocks = self.y[:n], self.weight[:n], -(-n // self.size)
        return self

    def outputs(self):
        """Where a pass writes, full of NaN so that nothing left out goes unseen."""
        n, p = self.X.shape
        return np.full(n, np.nan), np.full((self.n_blocks, p + 3), np.nan)

    def dense(self, layout, steps=1, centred=True):
        """Residuals and sums of each block, from `steps` calls as threads make them."""
        residual, sums = self.outputs()
        X = laid_out(self.X, layout)
        run = _kernels.dense_pass(X, layout_of(X), centred)
        centre = self.centre if centred else None
        fixed = (X, centre, self.w, self.b, self.y, self.weight, self.beta)
        for first in range(steps):
            run(*fixed, residual, sums, first, steps, self.size)
        return residual, sums

    def sparse(self, index_dtype=np.int32, steps=1, X=None):
        """The same from a CSR matrix, which the kernel does not centre."""
        residual, sums = self.outputs()
        X = sparse.csr_array(self.X) if X is None else X
        indices, indptr = X.indices.astype(index_dtype), X.indptr.astype(index_dtype)
        run = _kernels.sparse_pass(X.data.dtype, np.dtype(index_dtype))
        fixed = (X.data, indices, indptr, self.w, self.b, self.y, self.weight, self.beta)
        for first in range(steps):
            run(*fixed, residual, sums, first, steps, self.size)
        return residual, sums

    def check(self, residual, sums, centred=True):
        """Compare with the formulas, in extended precision."""
        wide = np.longdouble
        n = self.X.shape[0]
        X = self.X.astype(wide) - (self.centre if centred else 0)
        s = np.broadcast_to(self.weight, n).astype(wide)
        r = self.y.astype(wide) - self.b - X @ self.w.astype(wide)
        size = np.abs(self.y) + abs(self.b) + np.abs(X) @ np.abs(self.w)
        assert np.all(np.abs(residual - r) <= ROUNDING * size)

        c, h = losses.huber_gradient(r, self.beta), losses.huber(r, self.beta)
        # The rounding of r is all of that of c inside the threshold, none of it outside.
        bound = np.where(np.abs(r) < 1.001 * self.beta, size, self.beta)
        rows = np.column_stack([(s * c)[:, None] * X, s * c, s * h, s * c**2])
        limits = np.column_stack(
            [(s * bound)[:, None] * np.abs(X), s * bound, s * bound * size, s * bound**2]
        )
        starts = np.arange(0, n, self.size)
        expected = np.add.reduceat(rows, starts)
        limit = np.add.reduceat(limits, starts)
        assert np.all(np.abs(sums - expected) <= ROUNDING * limit)


def laid_out(X, layout):
    """X in this memory layout; "A" has gaps between rows and between columns."""
    if layout == "A":
        gaps = np.full((2 * X.shape[0], 3 * X.shape[1]), np.nan, dtype=X.dtype)
        view = gaps[::-2, 1::3]
        view[...] = X
        return view
    return np.array(X, order=layout)


def layout_of(X):
    """The layout that Numba sees: a single row or column is "C" in every order."""
    return "C" if X.flags.c_contiguous else "F" if X.flags.f_contiguous else "A"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("beta", [0.7, 1e-9, 1e9, np.inf])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("centred", [True, False])
def test_dense_pass_is_the_formula(layout, dtype, beta, weighted, centred):
    case = Case(dtype=dtype, beta=beta, weighted=weighted)
    case.check(*case.dense(layout, centred=centred), centred)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("index_dtype", INDEX_DTYPES)
@pytest.mark.parametrize("beta", [0.7, np.inf])
@pytest.mark.parametrize("weighted", [True, False])
def test_sparse_pass_is_the_formula_without_a_centre(dtype, index_dtype, beta, weighted):
    case = Case(dtype=dtype, beta=beta, weighted=weighted)
    case.check(*case.sparse(index_dtype), centred=False)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 36])
@pytest.mark.parametrize("p", [0, 1, 2, 3, 4, 5, 6, 7, 8, 17, NARROW, WIDE])
@pytest.mark.parametrize("size", [4, 8, 100])
def test_any_number_of_rows_and_features_fills_every_block(n, p, size):
    case = Case(n=n, p=p, size=size)
    for layout in LAYOUTS:
        case.check(*case.dense(layout))
    if p:
        case.check(*case.sparse(), centred=False)


@pytest.mark.parametrize("together", [2, 4])
@pytest.mark.parametrize("part", [np.s_[:, :], np.s_[:, 1:-1], np.s_[::-1], np.s_[:, ::2]])
def test_rows_are_fetched_ahead(monkeypatch, part, together):
    # The loops as Python runs them, which need not be large.
    addresses: list = []
    monkeypatch.setattr(_kernels, "_LARGE", 0)
    monkeypatch.setattr(_kernels, "_prefetch", addresses.append)
    case = Case(n=40, p=52, size=20)
    case = case.of(case.X[part])
    fixed = (case.X, case.centre, case.w, case.b, case.y, case.weight, case.beta)
    residual, sums = case.outputs()
    _kernels._rows_pass(together)(*fixed, residual, sums, 0, 1, case.size)
    case.check(residual, sums)
    (n, p), (width, item) = case.X.shape, case.X.strides
    rows = np.arange(n) + _kernels._AHEAD // (8 * p)
    lines = np.arange(0, 8 * p, _kernels._CACHE_LINE)
    expected = case.X.ctypes.data + rows[:, None] * width + lines
    # Elements that are not side by side are not fetched.
    assert sorted(addresses) == (sorted(expected.ravel()) if item == 8 else [])


@pytest.mark.parametrize("p", [20, WIDE])
@pytest.mark.parametrize("part", [np.s_[:, :], np.s_[:, 1:], np.s_[::3], np.s_[::-1]])
def test_compiled_fetches_of_large_arrays_do_no_harm(part, p):
    # As many bytes as it takes; beyond the last row there is nothing to fetch.
    case = Case(n=4 * _kernels._LARGE // (8 * p), p=p + 1, size=4096)
    case = case.of(case.X[part])
    run = _kernels.dense_pass(case.X, "A", True)
    residual, sums = case.outputs()
    fixed = (case.X, case.centre, case.w, case.b, case.y, case.weight, case.beta)
    for first in range(2):
        run(*fixed, residual, sums, first, 2, case.size)
    case.check(residual, sums)


@pytest.mark.parametrize("steps", [2, 3, 7])
def test_bits_do_not_depend_on_how_blocks_are_shared_out(steps):
    case = Case(n=101)
    for layout in LAYOUTS:
        for one, many in zip(case.dense(layout), case.dense(layout, steps), strict=True):
            assert_array_equal(one, many)
    for one, many in zip(case.sparse(), case.sparse(steps=steps), strict=True):
        assert_array_equal(one, many)


def test_sum_over_clipped_squares_is_the_derivative_in_the_threshold():
    # ∂/∂β Σ s h_β(r)/β = −Σ s c² / (2β²), by central differences of the loss sums.
    case, step = Case(weighted=True), 1e-5
    derivative = -case.dense("C")[1][:, -1].sum() / (2 * case.beta**2)

    def smooth_l1(beta):
        case.beta = beta
        return case.dense("C")[1][:, -2].sum() / beta

    beta = case.beta
    difference = (smooth_l1(beta + step) - smooth_l1(beta - step)) / (2 * step)
    assert difference == pytest.approx(derivative, rel=1e-8)


def test_residuals_at_the_threshold_and_zero_are_on_the_right_side():
    case = Case(n=6, p=1, weighted=False)
    case.beta, case.b, case.w[:] = 0.5, 0.0, 0.0
    case.y = np.array([0.5, -0.5, np.nextafter(0.5, 1), np.nextafter(-0.5, -1), 0.0, -0.0])
    case.size = 4
    case.n_blocks = 2
    for layout in LAYOUTS:
        case.check(*case.dense(layout))


def test_with_weights_as_a_mask_the_least_squares_pass_is_a_hessian_vector_product():
    case = Case()
    inside = np.abs(case.dense("C")[0]) <= case.beta
    d, case.w = case.w, np.linspace(-1, 1, case.w.size)
    X = case.X - case.centre
    expected = -X.T @ (inside * case.weight * (X @ case.w))
    case.weight, case.beta, case.b = inside * case.weight, np.inf, 0.0
    case.y = np.zeros_like(case.y)
    np.testing.assert_allclose(case.dense("C")[1][:, : d.size].sum(axis=0), expected, 1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_seen_in_the_sums(layout, bad):
    for row in (0, 6):  # among four rows at a time, and in the tail
        case = Case(n=7)
        case.X[row, 2] = bad
        residual, sums = case.dense(layout)
        assert not np.isfinite(residual[row])
        assert not np.isfinite(sums[0, -2])
        assert np.isfinite(np.delete(residual, row)).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_column_of_large_offset_keeps_its_digits(layout):
    # x = 1e8 + noise is exact here to 1e-8; subtracting the centre first loses no more.
    rng = np.random.default_rng(0)
    z = np.round(rng.normal(size=(40, 3)) * 2**20) / 2**20
    case = Case(n=40, p=3)
    case.centre[:] = 0.0
    case.X = z
    near = case.dense(layout)
    case.centre, case.X = np.full(3, 2.0**27), z + 2.0**27
    for a, b in zip(near, case.dense(layout), strict=True):
        assert_array_equal(a, b)


@pytest.mark.parametrize("index_dtype", INDEX_DTYPES)
def test_sparse_rows_may_be_empty_unsorted_and_repeat_a_column(index_dtype):
    case = Case(n=4, p=3, size=4)
    data = np.array([1.0, 2.0, 3.0, -1.0, 0.5])
    indices = np.array([2, 0, 1, 1, 2], dtype=index_dtype)
    X = sparse.csr_array((data, indices, [0, 2, 2, 4, 5]), shape=(4, 3))
    case.X = X.toarray()
    case.check(*case.sparse(index_dtype, X=X), centred=False)


# Compilation -----------------------------------------------------------------------------


def read_only(array):
    copy = array.copy(order="K")
    copy.flags.writeable = False
    return copy


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_read_only_and_writable_dense_arrays_share_one_compilation(layout, dtype):
    case = Case(dtype=dtype)
    writable = case.dense(layout)
    kernel = _kernels.dense_pass(case.X, layout, True)
    X = laid_out(case.X, layout)
    X.flags.writeable = False
    residual, sums = case.outputs()
    fixed = [read_only(a) for a in (case.centre, case.w, case.y, case.weight)]
    centre, w, y, weight = fixed
    kernel(X, centre, w, case.b, y, weight, case.beta, residual, sums, 0, 1, case.size)
    for a, b in zip(writable, (residual, sums), strict=True):
        assert_array_equal(a, b)
    assert len(kernel.signatures) == 1


@pytest.mark.parametrize("index_dtype", INDEX_DTYPES)
def test_read_only_and_writable_sparse_arrays_share_one_compilation(index_dtype):
    case = Case()
    writable = case.sparse(index_dtype)
    X = sparse.csr_array(case.X)
    X.data = read_only(X.data)
    kernel = _kernels.sparse_pass(X.data.dtype, np.dtype(index_dtype))
    residual, sums = case.outputs()
    parts = [read_only(a.astype(index_dtype)) for a in (X.indices, X.indptr)]
    vectors = [read_only(a) for a in (case.w, case.y, case.weight)]
    w, y, weight = vectors
    kernel(X.data, *parts, w, case.b, y, weight, case.beta, residual, sums, 0, 1, case.size)
    for a, b in zip(writable, (residual, sums), strict=True):
        assert_array_equal(a, b)
    assert len(kernel.signatures) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: _kernels.dense_pass(np.zeros((2, 3)), "C", True),
        lambda: _kernels.sparse_pass(np.zeros(1).dtype, np.dtype(np.int32)),
    ],
)
def test_a_kernel_is_made_once_for_a_type_and_never_compiled_on_a_call(make):
    kernel = make()
    assert make() is kernel
    assert len(kernel.signatures) == 1
    # A type that was not declared is an error, not another second of compilation.
    with pytest.raises(TypeError):
        kernel(*[np.zeros(1, dtype=complex)] * len(kernel.signatures[0]))
    assert len(kernel.signatures) == 1


def test_one_kernel_is_for_all_rows_of_few_bytes():
    narrow = _kernels.dense_pass(np.zeros((1, 1)), "C", True)
    assert _kernels.dense_pass(np.zeros((1, NARROW)), "C", True) is narrow
    assert _kernels.dense_pass(np.zeros((1, WIDE)), "C", True) is not narrow


@pytest.mark.parametrize("p", [NARROW, WIDE])
def test_a_kernel_has_the_prefetch_not_compiled_away(p):
    run = _kernels.dense_pass(np.zeros((1, p)), "C", False)
    assert all("@llvm.prefetch" in code for code in run.inspect_llvm().values())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_kernel_releases_the_interpreter(layout):
    options = _kernels.dense_pass(np.zeros((2, 2)), layout, True).targetoptions
    assert options["nogil"]
    assert not options.get("parallel", False)
