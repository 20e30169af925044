"""The compiled passes compute the formulas of the losses, for every layout of X.

The references are computed in extended precision. The error of each sum may be at most 1e-14
times the sum of the absolute values of its terms. A float64 sum meets this bound whatever the
order of the terms.
"""

import math

import numpy as np
import pytest
from numba.core import event
from numpy.testing import assert_array_equal
from scipy import sparse

from programs import heavy_tailed
from skrobust import SmoothL1Regressor, losses
from skrobust._engines import kernels
from skrobust._model.loss import HUBER

pytestmark = pytest.mark.slow

LAYOUTS = ["C", "F", "A"]
DTYPES = [np.float64, np.float32]
INDEX_DTYPES = [np.int32, np.int64]
ROUNDING = 1e-14
# The largest number of float64 features for which rows are processed four at a time, and the
# smallest number for which they are processed two at a time.
NARROW, WIDE = kernels.FOUR_ROWS_MAX_BYTES // 8, kernels.FOUR_ROWS_MAX_BYTES // 8 + 1


def log_cosh(r, threshold):
    """Return β² log cosh(r/β) and its derivative, for scalars."""
    z = abs(r) / threshold
    rho = threshold**2 * (z + math.log1p(math.exp(-2.0 * z)) - math.log(2.0))
    return rho, threshold * math.tanh(r / threshold)


def exact_log_cosh(r, threshold):
    """Return the results of `log_cosh` for an array r, in the precision of r."""
    z = r / threshold
    rho = threshold**2 * (np.logaddexp(z, -z) - np.log(np.longdouble(2)))
    return rho, threshold * np.tanh(z)


class Case:
    """Data for a pass: n rows, p features, and blocks of `size` rows."""

    rho_psi = staticmethod(HUBER.rho_psi)

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
        """Replace X by a part of X, shorten the other data accordingly, and return the case."""
        n, p = X.shape
        self.X, self.centre, self.w = X, self.centre[:p], self.w[:p]
        self.y, self.weight, self.n_blocks = self.y[:n], self.weight[:n], -(-n // self.size)
        return self

    def outputs(self):
        """Return arrays of NaN for a pass to fill; any NaN that remains reveals an omission."""
        n, p = self.X.shape
        return np.full(n, np.nan), np.full((self.n_blocks, p + 3), np.nan)

    def dense(self, layout, steps=1, centred=True):
        """Return the residuals of the rows and the sums of the blocks.

        Each of `steps` calls processes every `steps`-th block, as one of `steps` threads would.
        """
        residual, sums = self.outputs()
        X = laid_out(self.X, layout)
        run = kernels.dense_pass(self.rho_psi, X, layout_of(X), centred)
        centre = self.centre if centred else None
        fixed = (X, centre, self.w, self.b, self.y, self.weight, self.beta)
        for first in range(steps):
            run(*fixed, residual, sums, first, steps, self.size)
        return residual, sums

    def sparse(self, index_dtype=np.int32, steps=1, X=None):
        """Return the residuals and sums for a CSR matrix, which the kernel does not centre."""
        residual, sums = self.outputs()
        X = sparse.csr_array(self.X) if X is None else X
        indices, indptr = X.indices.astype(index_dtype), X.indptr.astype(index_dtype)
        run = kernels.sparse_pass(self.rho_psi, X.data.dtype, np.dtype(index_dtype))
        fixed = (X.data, indices, indptr, self.w, self.b, self.y, self.weight, self.beta)
        for first in range(steps):
            run(*fixed, residual, sums, first, steps, self.size)
        return residual, sums

    def losses(self, r, size):
        """Return ρ, ψ and the rounding error of ψ; `size` is the rounding error of r."""
        # If |r| < β, ψ has the rounding error of r, otherwise that of β.
        bound = np.where(np.abs(r) < 1.001 * self.beta, size, self.beta)
        return losses.huber(r, self.beta), losses.huber_gradient(r, self.beta), bound

    def check(self, residual, sums, centred=True):
        """Compare residuals and sums with the formulas in extended precision."""
        wide = np.longdouble
        n = self.X.shape[0]
        X = self.X.astype(wide) - (self.centre if centred else 0)
        s = np.broadcast_to(self.weight, n).astype(wide)
        r = self.y.astype(wide) - self.b - X @ self.w.astype(wide)
        size = np.abs(self.y) + abs(self.b) + np.abs(X) @ np.abs(self.w)
        assert np.all(np.abs(residual - r) <= ROUNDING * size)

        rho, psi, bound = self.losses(r, size)
        rows = np.column_stack([(s * psi)[:, None] * X, s * psi, s * rho, s * psi**2])
        limits = np.column_stack(
            [(s * bound)[:, None] * np.abs(X), s * bound, s * bound * size, s * bound**2]
        )
        starts = np.arange(0, n, self.size)
        expected = np.add.reduceat(rows, starts)
        limit = np.add.reduceat(limits, starts)
        assert np.all(np.abs(sums - expected) <= ROUNDING * limit)


class LogCoshCase(Case):
    """Data for a pass with the log-cosh loss, which is smooth."""

    rho_psi = staticmethod(log_cosh)

    def losses(self, r, size):
        return *exact_log_cosh(r, self.beta), size + self.beta


def laid_out(X, layout):
    """Return X in a memory layout; layout "A" has gaps between rows and between columns."""
    if layout == "A":
        gaps = np.full((2 * X.shape[0], 3 * X.shape[1]), np.nan, dtype=X.dtype)
        view = gaps[::-2, 1::3]
        view[...] = X
        return view
    return np.array(X, order=layout)


def layout_of(X):
    """Return the layout as Numba sees it; a single row or column always has layout "C"."""
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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("beta", [0.7, 1e3])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("centred", [True, False])
def test_dense_pass_of_another_loss_is_its_formula(layout, dtype, beta, weighted, centred):
    case = LogCoshCase(dtype=dtype, beta=beta, weighted=weighted)
    case.check(*case.dense(layout, centred=centred), centred)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("index_dtype", INDEX_DTYPES)
@pytest.mark.parametrize("beta", [0.7, 1e3])
@pytest.mark.parametrize("weighted", [True, False])
def test_sparse_pass_of_another_loss_is_its_formula(dtype, index_dtype, beta, weighted):
    case = LogCoshCase(dtype=dtype, beta=beta, weighted=weighted)
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
def test_rows_are_prefetched(monkeypatch, part, together):
    # The loops run uncompiled, and the minimum size for prefetching is set to zero.
    addresses: list = []
    monkeypatch.setattr(kernels, "PREFETCH_MIN_X_BYTES", 0)
    monkeypatch.setattr(kernels, "_prefetch", addresses.append)
    case = Case(n=40, p=52, size=20)
    case = case.of(case.X[part])
    fixed = (case.X, case.centre, case.w, case.b, case.y, case.weight, case.beta)
    residual, sums = case.outputs()
    run = kernels._rows_pass(case.rho_psi, together)
    run(*fixed, residual, sums, 0, 1, case.size)
    case.check(residual, sums)
    (n, p), (width, item) = case.X.shape, case.X.strides
    rows = np.arange(n) + kernels.PREFETCH_BYTES // (8 * p)
    lines = np.arange(0, 8 * p, kernels._CACHE_LINE_BYTES)
    expected = case.X.ctypes.data + rows[:, None] * width + lines
    # Rows whose elements are not contiguous are not prefetched.
    assert sorted(addresses) == (sorted(expected.ravel()) if item == 8 else [])


@pytest.mark.parametrize("p", [20, WIDE])
@pytest.mark.parametrize("part", [np.s_[:, :], np.s_[:, 1:], np.s_[::3], np.s_[::-1]])
def test_compiled_prefetching_of_large_arrays_does_no_harm(part, p):
    # X is large enough for prefetching, but beyond the last row there is nothing to prefetch.
    case = Case(n=4 * kernels.PREFETCH_MIN_X_BYTES // (8 * p), p=p + 1, size=4096)
    case = case.of(case.X[part])
    run = kernels.dense_pass(case.rho_psi, case.X, "A", True)
    residual, sums = case.outputs()
    fixed = (case.X, case.centre, case.w, case.b, case.y, case.weight, case.beta)
    for first in range(2):
        run(*fixed, residual, sums, first, 2, case.size)
    case.check(residual, sums)


@pytest.mark.parametrize("steps", [2, 3, 7])
def test_bits_do_not_depend_on_which_thread_processes_a_block(steps):
    case = Case(n=101)
    for layout in LAYOUTS:
        for one, many in zip(case.dense(layout), case.dense(layout, steps), strict=True):
            assert_array_equal(one, many)
    for one, many in zip(case.sparse(), case.sparse(steps=steps), strict=True):
        assert_array_equal(one, many)


def test_the_sum_of_squares_of_psi_is_the_derivative_in_the_threshold():
    # ∂/∂β Σ s ρ/β = −Σ s ψ² / (2β²) for the Huber loss, by central differences.
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
def test_a_value_that_is_not_finite_shows_in_the_sums(layout, bad):
    # Row 0 is processed together with other rows, row 6 alone.
    for row in (0, 6):
        case = Case(n=7)
        case.X[row, 2] = bad
        residual, sums = case.dense(layout)
        assert not np.isfinite(residual[row])
        assert not np.isfinite(sums[0, -2])
        assert np.isfinite(np.delete(residual, row)).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_column_of_large_offset_keeps_its_digits(layout):
    # The values 2²⁷ + noise and their differences from the centre have no rounding errors.
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
    kernel = kernels.dense_pass(case.rho_psi, case.X, layout, True)
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
    kernel = kernels.sparse_pass(case.rho_psi, X.data.dtype, np.dtype(index_dtype))
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
        lambda rho_psi: kernels.dense_pass(rho_psi, np.zeros((2, 3)), "C", True),
        lambda rho_psi: kernels.sparse_pass(rho_psi, np.dtype(float), np.dtype(np.int32)),
    ],
)
@pytest.mark.parametrize("rho_psi", [HUBER.rho_psi, log_cosh])
def test_a_kernel_is_made_once_for_a_type_and_never_compiled_on_a_call(make, rho_psi):
    kernel = make(rho_psi)
    assert make(rho_psi) is kernel
    assert len(kernel.signatures) == 1
    # Arguments of types other than those declared raise an error and do not trigger another
    # compilation.
    with pytest.raises(TypeError):
        kernel(*[np.zeros(1, dtype=complex)] * len(kernel.signatures[0]))
    assert len(kernel.signatures) == 1


def pseudo_huber(r, threshold):
    """Return the pseudo-Huber loss, which no other test uses, and its derivative."""
    root = math.sqrt(1.0 + (r / threshold) ** 2)
    return threshold**2 * (root - 1.0), r / root


def n_compilations(run):
    """Return the number of times that `run` compiles the pseudo-Huber loss, and its result."""
    with event.install_recorder("numba:compile") as recorder:
        result = run()
    compiled = [e.data["dispatcher"].py_func for _, e in recorder.buffer if e.is_start]
    return compiled.count(pseudo_huber), result


@pytest.mark.parametrize("shape", [(60_000, 40), (400_000, 5)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_rows_and_the_sample_are_passed_to_one_kernel(monkeypatch, shape, layout):
    # Compiling a second kernel would make the first fit a second slower.
    X, y = heavy_tailed(*shape)
    kernel, sizes = kernels.dense_pass, set()

    def recorded(*key):
        run = kernel(*key)
        sizes.add((run, key[1].shape[0]))
        return run

    monkeypatch.setattr(kernels, "dense_pass", recorded)
    SmoothL1Regressor().fit(laid_out(X, layout), y)
    used, n_rows = map(set, zip(*sizes, strict=True))
    assert len(n_rows) > 1
    assert len(used) == 1


def test_a_loss_is_compiled_once_for_each_layout_and_dtype_and_not_before_its_use():
    X = np.ones((6, 3))
    dense = [(X.astype(dtype), layout, True) for dtype in DTYPES for layout in LAYOUTS]
    sparse = [(np.dtype(dtype), np.dtype(i)) for dtype in DTYPES for i in INDEX_DTYPES]
    asked = [(kernels.dense_pass, *key) for key in dense]
    asked += [(kernels.sparse_pass, *key) for key in sparse]
    made = set()
    for make, *key in asked:
        n, other = n_compilations(lambda make=make, key=key: make(HUBER.rho_psi, *key))
        assert n == 0
        n, kernel = n_compilations(lambda make=make, key=key: make(pseudo_huber, *key))
        assert n == 1
        n, again = n_compilations(lambda make=make, key=key: make(pseudo_huber, *key))
        assert n == 0
        assert again is kernel is not other
        made.add(kernel)
    assert len(made) == len(asked)


def test_one_kernel_is_for_all_rows_of_few_bytes():
    narrow = kernels.dense_pass(HUBER.rho_psi, np.zeros((1, 1)), "C", True)
    assert kernels.dense_pass(HUBER.rho_psi, np.zeros((1, NARROW)), "C", True) is narrow
    assert kernels.dense_pass(HUBER.rho_psi, np.zeros((1, WIDE)), "C", True) is not narrow


@pytest.mark.parametrize("p", [NARROW, WIDE])
def test_the_compiler_keeps_the_prefetch_of_a_kernel(p):
    run = kernels.dense_pass(HUBER.rho_psi, np.zeros((1, p)), "C", False)
    assert all("@llvm.prefetch" in code for code in run.inspect_llvm().values())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_kernel_releases_the_interpreter(layout):
    options = kernels.dense_pass(HUBER.rho_psi, np.zeros((2, 2)), layout, True).targetoptions
    assert options["nogil"]
    assert not options.get("parallel", False)
