"""Each engine agrees with NumPy on the matrix [1, (X − centre) / scale]."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from skrobust import losses
from skrobust._engines import as_engine, base, dense, threads
from skrobust._engines import sparse as sparse_engine
from skrobust._engines.dense import DenseEngine
from skrobust._engines.small import SMALL_MAX_ELEMENTS, SmallEngine
from skrobust._engines.sparse import SparseEngine
from skrobust._engines.threads import ThreadTeam
from skrobust._model.loss import HUBER
from skrobust._model.penalty import Ridge
from skrobust._sampling import RowSampler
from skrobust._solvers import choose

DENSE_KINDS = ["C", "F", "strided", "float32"]
KINDS = [*DENSE_KINDS, "small", "csr", "csr64", "csr float32"]
N, P = 83, 4


def data(n=N, p=P, seed=0):
    """Return columns with different units and locations; about 30 % of the values are zero."""
    rng = np.random.default_rng(seed)
    X = np.linspace(-3, 5, p) + rng.normal(size=(n, p)) * np.logspace(-1, 1, p)
    X[rng.random((n, p)) < 0.3] = 0.0
    # All values are exactly representable in float32.
    return X.astype(np.float32).astype(np.float64), rng


def as_kind(X, kind):
    """Convert X to one of the memory layouts, dtypes and index dtypes."""
    if kind == "strided":
        return np.repeat(X, 2, axis=1)[:, ::2]
    if kind in ("C", "F"):
        return np.array(X, order=kind)
    if kind == "small":
        return X
    if kind == "float32":
        return X.astype(np.float32)
    S = sparse.csr_array(X)
    if kind == "csr64":
        S.indices, S.indptr = S.indices.astype(np.int64), S.indptr.astype(np.int64)
    return S.astype(np.float32) if kind == "csr float32" else S


def raw_engine(X, kind="C", team=None):
    """Return the engine, without standardisation, for X in the given form."""
    engines = {"small": SmallEngine, "csr": SparseEngine}
    make = engines.get(kind.split()[0].removesuffix("64"), DenseEngine)
    return make(as_kind(X, kind), ThreadTeam() if team is None else team)


def make_engine(X, kind="C", centre=None, scale=None, team=None):
    p = X.shape[1]
    return raw_engine(X, kind, team).with_standardisation(
        np.linspace(-2, 4, p) if centre is None else centre,
        np.logspace(-1, 1, p) if scale is None else scale,
    )


def standardised(engine, X):
    return np.column_stack([np.ones(len(X)), (X - engine.centre) / engine.scale])


def random_weights(rng, n=N):
    return np.where(rng.random(n) < 0.2, 0.0, rng.uniform(size=n))


def loss_gradient(engine, coef, y, weight=None, threshold=np.inf, out=None):
    """Return the residuals and sums of a pass, by default for least squares (threshold ∞)."""
    return engine.loss_gradient(coef, y, weight, HUBER, threshold, out)


def problem_of(X, kind, weight, fit_intercept):
    """Return the standardised problem that a fit creates from X."""
    engine = raw_engine(X, kind)
    return RowSampler(engine, weight, fit_intercept, choose(engine, "auto")).problem


@pytest.fixture
def small_tasks(monkeypatch):
    """Limit tasks to 256 rows, the least allowed, so that Gram matrices are sums of parts."""
    for module in (base, dense):
        monkeypatch.setattr(module, "TASK_BYTES", 1)


# Which engine ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_engine_is_chosen_by_the_type_and_the_size_of_x(kind):
    large = np.ones((SMALL_MAX_ELEMENTS // P + 1, P))
    few, many = (as_engine(as_kind(A, kind), ThreadTeam()) for A in (large[:-1], large))
    assert type(few) is (SparseEngine if "csr" in kind else SmallEngine)
    assert type(many) is (SparseEngine if "csr" in kind else DenseEngine)
    X, _ = data()
    engine = as_engine(as_kind(X, kind), ThreadTeam())
    assert (engine.n, engine.p) == (N, P)
    assert engine.n_elements == (np.count_nonzero(X) if "csr" in kind else X.size)
    assert engine.dtype == (np.float32 if "float32" in kind else np.float64)
    assert engine.n_passes == 0


# Rows, passes and Gram matrices ----------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_standardised_whatever_selects_them(kind):
    X, rng = data()
    engine = make_engine(X, kind)
    Z = standardised(engine, X)
    mask = rng.random(N) < 0.5
    for index in (slice(None), slice(5, 11), np.array([7, 3, 3]), mask, np.empty(0, int)):
        rows = engine.rows(index)
        assert_allclose(rows, Z[index], rtol=1e-14, atol=1e-14)
        assert rows.dtype == np.float64


@pytest.mark.parametrize("kind", KINDS)
def test_columns_are_standardised_and_written_where_they_belong(kind):
    X, _ = data()
    engine = make_engine(X, kind)
    Z = standardised(engine, X)[:, 1:]
    for index in (np.array([2, 0]), np.arange(P), np.empty(0, int)):
        assert_allclose(engine.columns(index), Z[:, index], rtol=1e-14, atol=1e-14)
        out = np.full((index.size, N), np.nan).T
        engine.columns(index, out=out)
        assert_allclose(out, Z[:, index], rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("centre_free", [False, True])
def test_rows_are_combined_in_one_pass(monkeypatch, kind, centre_free):
    monkeypatch.setattr(dense, "CENTRE_FREE_MIN_ELEMENTS", 0 if centre_free else np.inf)
    monkeypatch.setattr(dense, "CENTRE_FREE_MAX_SHIFT", 1e3)
    X, rng = data()
    c = rng.normal(size=N)
    engine = make_engine(X, kind, X.mean(0), X.std(0))
    expected = c @ standardised(engine, X)
    assert_allclose(engine.row_combination(c, HUBER), expected, rtol=1e-12, atol=1e-12)
    assert engine.n_passes == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("threshold", [0.5, np.inf])
@pytest.mark.parametrize("block", [16, 65_536])
def test_a_pass_returns_residuals_and_their_sums(monkeypatch, kind, weighted, threshold, block):
    monkeypatch.setattr(dense, "BLOCK_ELEMENTS", block)
    monkeypatch.setattr(dense, "MIN_COLUMN_BYTES", 128)
    monkeypatch.setattr(sparse_engine, "BLOCK_ELEMENTS", block)
    X, rng = data()
    engine = make_engine(X, kind)
    y, coef = rng.normal(size=N), rng.normal(size=P + 1)
    weight = random_weights(rng) if weighted else None
    residual, sums = engine.loss_gradient(coef, y, weight, HUBER, threshold)

    Z, s = standardised(engine, X), np.ones(N) if weight is None else weight
    r = y - Z @ coef
    psi = losses.huber_gradient(r, threshold)
    assert_allclose(residual, r, rtol=1e-13, atol=1e-13)
    expected = np.concatenate([Z.T @ (s * psi), [s @ losses.huber(r, threshold), s @ psi**2]])
    assert_allclose(sums, expected, rtol=1e-13, atol=1e-12)
    assert engine.n_passes == 1
    assert (engine.n_blocks > 2) == (block == 16)


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        *(
            ("C", part)
            for part in (np.s_[7:-9], np.s_[:, 2:-1], np.s_[::3, 4:], np.s_[::2, :1])
        ),
        *(
            ("F", part)
            for part in (np.s_[7:-9], np.s_[:, 2:-1], np.s_[5:, ::3], np.s_[:5, ::2])
        ),
    ],
)
def test_a_part_of_an_array_gives_the_bits_of_its_copy(monkeypatch, kind, part):
    # X is a part of a column-major array if, for example, the rows of a fold are selected from
    # a data frame. The elements outside the part are NaN, so any use of them would change the
    # results.
    monkeypatch.setattr(dense, "BLOCK_ELEMENTS", 64)
    X, rng = data(N, 9)
    whole = np.full(X.shape, np.nan, order=kind)
    whole[part] = X[part]
    view = whole[part]
    n, p = view.shape
    coef, y, weight = rng.normal(size=p + 1), rng.normal(size=n), random_weights(rng, n)
    found = []
    for array in (view, view.copy(order=kind)):
        engine = DenseEngine(array, ThreadTeam())
        assert engine._layout == kind
        engine = engine.with_standardisation(np.ones(p), np.full(p, 2.0))
        found.append(loss_gradient(engine, coef, y, weight, 0.5))
    for a, b in zip(*found, strict=True):
        assert_array_equal(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pass_writes_into_the_array_it_is_given(kind):
    X, rng = data()
    engine, y, out = make_engine(X, kind), rng.normal(size=N), np.full(N, np.nan)
    residual, _ = loss_gradient(engine, np.ones(P + 1), y, out=out)
    assert residual is out
    assert_array_equal(out, loss_gradient(engine, np.ones(P + 1), y)[0])


@pytest.mark.parametrize("kind", ["C", "csr"])
def test_a_feature_of_infinite_scale_takes_no_part(kind):
    X, rng = data()
    scale = np.array([1.0, np.inf, 2.0, 0.5])
    engine, y = make_engine(X, kind, scale=scale), rng.normal(size=N)
    coef = rng.normal(size=P + 1)
    residual, sums = loss_gradient(engine, coef, y)
    coef[2] = 1e6
    assert_array_equal(loss_gradient(engine, coef, y)[0], residual)
    assert sums[2] == 0
    assert_array_equal(engine.rows(slice(None))[:, 2], 0)
    assert_array_equal(engine.gram()[2], 0)
    assert Ridge.of_strength(1.0, engine).hessian_diagonal(coef)[2] == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("transformed", [False, True])
@pytest.mark.parametrize("n", [1, 200, 1500])
@pytest.mark.usefixtures("small_tasks")
def test_gram_is_the_weighted_cross_product(kind, weighted, transformed, n):
    # The 1,500 rows form six tasks of at most 256 rows, whose results are added to four partial
    # sums.
    X, rng = data(n)
    engine = make_engine(X, kind)
    weight = random_weights(rng, n) if weighted else None
    M = rng.normal(size=(P + 1, 3)) if transformed else None
    Z = standardised(engine, X) @ (np.eye(P + 1) if M is None else M)
    s = np.ones(n) if weight is None else weight
    expected = Z.T @ (s[:, None] * Z)
    size = np.sqrt(np.outer(np.diagonal(expected), np.diagonal(expected)))
    G = engine.gram(weight) if M is None else engine.transformed_gram(weight, M)
    assert np.all(np.abs(G - expected) <= 1e-13 * size + 1e-300)


@pytest.mark.slow
@pytest.mark.parametrize("kind", DENSE_KINDS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("distance", [0.0, 0.9, 1.1, 1e4])
def test_a_centre_near_zero_goes_through_algebra_without_loss(
    monkeypatch, kind, weighted, distance
):
    monkeypatch.setattr(dense, "CENTRE_FREE_MIN_ELEMENTS", 0)
    n, rng = 1_500, np.random.default_rng(0)
    X = (rng.normal(size=(n, P)) + distance).astype(np.float32).astype(np.float64)
    # The last feature is constant. Its scale is infinite, so its centre divided by its scale is
    # zero, whatever the centre.
    X[:, -1] = 7.0
    scale = np.append(np.ones(P - 1), np.inf)
    engine = make_engine(X, kind, np.append(np.full(P - 1, distance), 7.0), scale)
    assert (engine._kernel_centre is None) == (distance < 1)
    weight = random_weights(rng, n) if weighted else None
    s = np.ones(n) if weight is None else weight
    Z, y, coef = standardised(engine, X), rng.normal(size=n), rng.normal(size=P + 1)
    assert_allclose(engine.gram(weight), Z.T @ (s[:, None] * Z), rtol=1e-13, atol=1e-13 * n)
    residual, sums = loss_gradient(engine, coef, y, weight)
    assert_allclose(residual, y - Z @ coef, rtol=0, atol=1e-14)
    assert_allclose(sums[: P + 1], (s * (y - Z @ coef)) @ Z, rtol=0, atol=1e-13 * n)


@pytest.mark.parametrize("kind", ["C", "csr"])
@pytest.mark.parametrize("k", [P + 1, 2])
def test_gram_of_no_rows_is_zero(kind, k):
    engine = make_engine(data()[0], kind)
    none = np.zeros(N)
    assert_array_equal(engine.gram(none), np.zeros((P + 1, P + 1)))
    assert_array_equal(engine.transformed_gram(none, np.ones((P + 1, k))), np.zeros((k, k)))


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.usefixtures("small_tasks")
def test_gram_has_the_same_bits_in_any_number_of_threads(monkeypatch, size):
    monkeypatch.setattr(threads, "n_threads", lambda: size)
    monkeypatch.setattr(threads, "MIN_ELEMENTS_PER_EXTRA_THREAD", 0)
    X, rng = data(2_500)
    weight = rng.uniform(size=2_500)
    expected = make_engine(X).gram(weight)
    with ThreadTeam() as team:
        assert_array_equal(make_engine(X, team=team).gram(weight), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", [1, P + 1, P + 2, 200])
def test_root_is_a_root_of_the_weighted_mean_of_cross_products(kind, weighted, n):
    X, rng = data(n)
    engine = make_engine(X, kind)
    weight = rng.uniform(0.1, 1.0, size=n) if weighted else None
    R = engine.root(weight)
    assert R.shape == (min(n, P + 1), P + 1)
    Z = standardised(engine, X)
    s = np.ones(n) if weight is None else weight
    expected = Z.T @ (s[:, None] * Z) / s.sum()
    assert_allclose(R.T @ R, expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["C", "F", "csr"])
def test_root_keeps_a_singular_value_that_the_gram_matrix_has_lost(kind):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2))
    X[:, 1] = X[:, 0] + 1e-10 * X[:, 1]
    engine = make_engine(X, kind, np.zeros(2), np.ones(2))
    smallest = np.linalg.svd(standardised(engine, X) / np.sqrt(300), compute_uv=False)[-1]
    assert np.linalg.svd(engine.root(), compute_uv=False)[-1] == pytest.approx(
        smallest, rel=1e-4
    )


@pytest.mark.parametrize("kind", ["C", "csr"])
@pytest.mark.usefixtures("small_tasks")
def test_abs_dot_bounds_every_prediction(kind):
    X, rng = data(700)
    engine, coef = make_engine(X, kind), rng.uniform(size=P + 1)
    expected = np.abs(standardised(engine, X)) @ coef
    assert_allclose(engine.abs_dot(coef), expected, rtol=1e-13)


@pytest.mark.parametrize("kind", DENSE_KINDS)
def test_take_is_the_same_engine_of_fewer_rows(kind):
    X, rng = data()
    engine, rows = make_engine(X, kind), np.array([2, 3, 50, 71])
    part, y, coef = engine.take(rows), rng.normal(size=N), rng.normal(size=P + 1)
    assert_allclose(
        loss_gradient(part, coef, y[rows])[0], loss_gradient(engine, coef, y)[0][rows], 1e-12
    )
    assert part.dtype == engine.dtype
    # The sample is contiguous and has the layout of X, so both use the same kernel.
    assert part._X.flags.forc
    assert part._layout == engine._layout


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_sparse_agrees_with_dense_as_far_as_the_offset_leaves_digits(offset):
    # Unless a sparse column is centred in a copy, its centre is subtracted from sums. For a
    # column with mean μ and standard deviation σ, this amplifies rounding errors by μ/σ in a
    # sum and by (μ/σ)² in the Gram matrix.
    X, rng = data()
    X = X + offset * np.array([1.0, 0.0, -1.0, 1.0])
    centre, scale = X.mean(axis=0), X.std(axis=0)
    array, csr = (make_engine(X, kind, centre, scale) for kind in ("C", "csr"))
    y, coef, weight = rng.normal(size=N), rng.normal(size=P + 1), random_weights(rng)
    lost = 1e-14 * max(1.0, (np.abs(centre) / scale).max())
    passes = [loss_gradient(engine, coef, y, weight, 0.5) for engine in (array, csr)]
    for a, b in zip(*passes, strict=True):
        assert_allclose(b, a, rtol=0, atol=lost * N)
    lost *= max(1.0, (np.abs(centre) / scale).max())
    assert_allclose(csr.gram(weight), array.gram(weight), rtol=0, atol=lost * N)


@pytest.mark.parametrize("types", [(np.int32, np.int64), (np.int64, np.int32)])
def test_the_two_index_arrays_of_a_sparse_matrix_may_have_different_types(types):
    # SciPy creates both index arrays with the same dtype but allows either to be changed later.
    X, rng = data()
    engine, y, coef = make_engine(X), rng.normal(size=N), rng.normal(size=P + 1)
    S = sparse.csr_array(X)
    S.indices, S.indptr = S.indices.astype(types[0]), S.indptr.astype(types[1])
    mixed = as_engine(S, ThreadTeam()).with_standardisation(engine.centre, engine.scale)
    sums = loss_gradient(engine, coef, y)[1]
    assert_allclose(loss_gradient(mixed, coef, y)[1], sums, rtol=1e-12, atol=1e-12)


def test_sparse_blocks_are_few():
    # A pass computes p sums for each block. The total number of these sums must be small
    # relative to the number of stored elements of X.
    X = sparse.random_array((40_000, 300), density=0.3, rng=np.random.default_rng(0)).tocsr()
    engine = as_engine(X, ThreadTeam())
    assert isinstance(engine, SparseEngine)
    assert 1 < engine.n_blocks <= 17
    assert engine.n_blocks * (engine.p + 3) < 0.01 * X.nnz


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_pieces_of_many_columns_are_not_short(dtype):
    X = np.zeros((1000, 5000), dtype=dtype, order="F")
    assert as_engine(X, ThreadTeam()).block * X.itemsize == 512
    assert as_engine(np.ascontiguousarray(X), ThreadTeam()).block == 16


# Row vectors -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_row_vectors_in_memory_are_arrays_of_float64(kind):
    X, rng = data()
    engine, values = raw_engine(X, kind), rng.normal(size=N)
    zeros = engine.zeros()
    assert zeros.dtype == np.float64
    assert_array_equal(zeros, np.zeros(N))
    # Each call of `zeros` allocates new memory, because callers write to the array.
    assert not np.shares_memory(zeros, engine.zeros())
    assert_array_equal(engine.row_vector(values), values)


# Moments ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
def test_moments_are_the_weighted_mean_and_deviation(monkeypatch, kind, weighted):
    monkeypatch.setattr(dense, "BLOCK_ELEMENTS", 16)
    monkeypatch.setattr(sparse_engine, "BLOCK_ELEMENTS", 16)
    X, rng = data()
    weight = random_weights(rng) if weighted else None
    mean, std = raw_engine(X, kind).moments(weight, np.arange(0, N, 3))
    centre = np.average(X, axis=0, weights=weight)
    deviation = np.sqrt(np.average((X - centre) ** 2, axis=0, weights=weight))
    rtol = 1e-6 if kind == "csr float32" else 1e-13
    assert_allclose(mean, centre, rtol=rtol, atol=rtol * deviation.max())
    assert_allclose(std, deviation, rtol=rtol)
    assert mean.dtype == std.dtype == np.float64


@pytest.mark.parametrize("kind", DENSE_KINDS)
@pytest.mark.usefixtures("small_tasks")
def test_row_norms_are_the_lengths_of_standardised_rows(kind):
    X, _ = data()
    engine = make_engine(X, kind)
    expected = (standardised(engine, X)[:, 1:] ** 2).sum(axis=1)
    assert_allclose(engine.row_norms_squared(), expected, rtol=1e-13)


@pytest.mark.parametrize("offset", [1e4, 1e8])
def test_moments_of_a_column_far_from_zero_keep_their_digits(offset):
    rng = np.random.default_rng(0)
    noise = np.round(rng.normal(size=(3000, 2)) * 2**20) / 2**20
    X = noise + offset
    assert_array_equal(X - offset, noise)
    mean, std = raw_engine(X).moments(None, np.arange(1000))
    assert_allclose(std, noise.std(axis=0), rtol=1e-12)
    assert_allclose(mean, offset + noise.mean(axis=0), rtol=4e-16)


@pytest.mark.parametrize("constant", [0.0, 1.0, -1e8, 1e-30])
def test_moments_of_a_column_that_the_probe_finds_constant(constant):
    X, _ = data(2000)
    X[:, 1] = constant
    rare = np.array([1500, 1900])
    X[rare, 1] += max(1.0, abs(constant))
    mean, std = raw_engine(X).moments(None, np.arange(1000))
    assert_allclose(std, X.std(axis=0), rtol=1e-12)
    assert_allclose(mean, X.mean(axis=0), rtol=1e-12)


@pytest.mark.parametrize("kind", ["C", "F", "csr"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_scales_are_found_where_squares_overflow_or_vanish(kind, fit_intercept):
    X, rng = data(1_000, 5)
    units = 10.0 ** np.array([300, -300, 160, -160, 0])
    weight = rng.uniform(size=1_000)
    usual = problem_of(X, kind, weight, fit_intercept).engine
    extreme = problem_of(X * units, kind, weight, fit_intercept)
    assert_allclose(extreme.engine.scale, usual.scale * units, rtol=1e-9)
    assert_allclose(extreme.engine.centre, usual.centre * units, rtol=1e-9)
    usual_gram = usual.gram(weight) / weight.sum()
    assert_allclose(extreme.gram, usual_gram, rtol=1e-8, atol=1e-8)
    penalty = Ridge.of_strength(1.0, extreme.engine)
    assert np.isfinite(penalty.hessian_diagonal(np.zeros(6))).all()


@pytest.mark.parametrize("kind", ["C", "float32", "csr"])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e9])
def test_a_constant_column_has_an_infinite_scale_and_others_have_not(kind, value):
    X, rng = data(500)
    X[:, 2] = value
    for weight in (None, rng.uniform(size=500)):
        engine = problem_of(X, kind, weight, True).engine
        assert_array_equal(np.isinf(engine.scale), [False, False, True, False])


@pytest.mark.parametrize("kind", ["C", "csr"])
def test_without_an_intercept_nothing_is_centred(kind):
    X, _ = data()
    engine = problem_of(X, kind, None, False).engine
    assert_array_equal(engine.centre, 0)
    assert_allclose(engine.scale, np.sqrt((X**2).mean(axis=0)), rtol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_standardised_features_have_mean_zero_and_variance_one(kind):
    X, rng = data()
    weight = random_weights(rng) + 0.1
    problem = problem_of(X, kind, weight, True)
    rtol = 1e-6 if kind == "csr float32" else 1e-13
    assert_allclose(np.diagonal(problem.gram), 1, rtol=rtol)
    assert_allclose(problem.gram[0, 1:], 0, atol=rtol)


@pytest.mark.parametrize("kind", ["C", "F", "strided", "float32", "csr", "csr64"])
def test_x_is_never_copied_nor_written(kind):
    X, rng = data()
    given = as_kind(X, kind)
    engine = as_engine(given, ThreadTeam())
    assert engine._X is given
    kept = given.copy()
    engine = RowSampler(engine, None, True, choose(engine, "auto")).problem.engine
    assert engine._X is given
    loss_gradient(engine, np.ones(P + 1), rng.normal(size=N), None, 0.5)
    engine.gram()
    assert (kept != engine._X).sum() == 0


# Another standardisation or unit of the same X -------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_all_standardisations_of_one_x_count_their_passes_together(kind):
    X, rng = data()
    engine, y = raw_engine(X, kind), rng.normal(size=N)
    standard, rescaled = make_engine(X, kind), engine.rescaled()
    other = engine.with_standardisation(standard.centre, standard.scale)
    for k, one in enumerate([engine, other, rescaled, rescaled.rescaled()], start=1):
        loss_gradient(one, np.ones(P + 1), y)
        assert [e.n_passes for e in (engine, other, rescaled)] == [k] * 3
    # An engine created separately for the same X counts its passes separately.
    assert standard.n_passes == 0


@pytest.mark.parametrize("kind", KINDS)
def test_rescaled_is_x_in_a_larger_unit(kind):
    X, rng = data()
    engine, y, coef = raw_engine(X, kind), rng.normal(size=N), rng.normal(size=P + 1)
    twice = engine.rescaled().rescaled()
    # X is divided by 2⁶⁴ twice, without rounding errors.
    assert twice.unit == 2.0**128
    assert twice.dtype == engine.dtype
    in_unit = np.append(coef[0], coef[1:] * twice.unit)
    if engine.dtype == np.float64:
        assert_array_equal(twice.rows(slice(None))[:, 1:] * twice.unit, X)
        residual, _ = loss_gradient(engine, coef, y)
        # The copy of a strided X has a different layout, so terms are added in a different
        # order and rounding errors differ.
        assert_allclose(loss_gradient(twice, in_unit, y)[0], residual, 1e-13, 1e-13)
    # Whatever the unit of the engine, the penalty applies to coefficients in the units of X.
    penalties = [Ridge.of_strength(0.5, e).hessian_diagonal(coef) for e in (engine, twice)]
    assert_allclose(penalties[1] * twice.unit**2, penalties[0], rtol=1e-14)


@pytest.mark.parametrize("kind", ["C", "F", "csr"])
def test_x_whose_sums_overflow_is_rescaled_by_the_fit(kind):
    X, _ = data(1_000)
    huge = X * 2.0**1018
    with np.errstate(over="ignore"):
        assert not np.isfinite(huge.sum(axis=0)).all()
    usual = problem_of(X, kind, None, True).engine
    engine = problem_of(huge, kind, None, True).engine
    assert engine.unit > 1.0
    ratio = 2.0**1018 / engine.unit
    assert_allclose(engine.scale, usual.scale * ratio, rtol=1e-12)
    assert_allclose(engine.centre, usual.centre * ratio, rtol=1e-12, atol=1e-12 * ratio)


@pytest.mark.parametrize("kind", ["C", "F", "float32", "csr"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_check_finite_raises_for_nan_and_infinity_only(kind, bad):
    X, _ = data()
    raw_engine(X, kind).check_finite()
    X[7, 2] = bad
    with pytest.raises(ValueError, match="X contains"):
        raw_engine(X, kind).check_finite()


# Samples of rows -------------------------------------------------------------------------


def probabilities(engine, weight, m):
    """Return the inclusion probability min(1, c s (1 + ‖z‖²)) of each row z of weight s."""
    size = (engine.rows(slice(None)) ** 2).sum(axis=1) * (1.0 if weight is None else weight)
    low, high = 0.0, 1e6 * m / size.max()
    for _ in range(200):
        factor = (low + high) / 2
        low, high = (factor, high) if np.minimum(factor * size, 1).sum() < m else (low, factor)
    return np.minimum(factor * size, 1.0)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_row_norm_sample_draws_rows_by_their_norms(weighted):
    X, rng = data(600)
    X[:3] *= 1e3  # high-leverage rows, which are drawn with certainty
    engine = make_engine(X, centre=np.zeros(P))
    weight = rng.uniform(0.5, 1.0, size=600) if weighted else None
    s = np.ones(600) if weight is None else weight
    expected = probabilities(engine, weight, 60)
    draws = 400
    drawn, sizes = np.zeros(600), []
    for _ in range(draws):
        rows, row_weight = engine.row_norm_sample(weight, 60, rng)
        assert np.all(np.diff(rows) > 0)
        # The weight of a row in the sample is its weight in the data divided by its inclusion
        # probability.
        assert_allclose(row_weight, s[rows] / expected[rows], rtol=1e-6)
        drawn[rows] += 1
        sizes.append(rows.size)
    assert_array_equal(drawn[:3], draws)
    error = np.sqrt(draws * expected * (1 - expected))
    assert np.all(np.abs(drawn - draws * expected) <= 5 * error + 1e-9)
    assert np.mean(sizes) == pytest.approx(60, abs=5 * np.std(sizes) / np.sqrt(draws))


def test_the_gram_matrix_of_a_row_norm_sample_is_close_to_that_of_all_rows():
    # The features have infinite variance, so a few rows dominate the Gram matrix.
    rng = np.random.default_rng(0)
    X = rng.standard_t(1.2, size=(20_000, P))
    engine = make_engine(X, centre=np.zeros(P), scale=X.std(axis=0))
    whole = engine.gram()
    unit = 1 / np.sqrt(np.diagonal(whole))
    differences = []
    for _ in range(20):
        rows, weight = engine.row_norm_sample(None, 1_000, rng)
        part = engine.take(rows).gram(weight)
        differences.append(np.abs((part - whole) * unit * unit[:, None]).max())
    assert max(differences) < 0.15
    rows = rng.choice(20_000, 1_000, replace=False)
    uniform = 20 * engine.take(rows).gram()
    assert np.abs((uniform - whole) * unit * unit[:, None]).max() > 0.5


def test_rows_of_weight_zero_are_not_drawn():
    X, rng = data(600)
    weight = rng.integers(0, 2, size=600).astype(float)
    rows, row_weight = make_engine(X).row_norm_sample(weight, 100, rng)
    assert rows.size > 0
    assert weight[rows].all()
    assert np.all(row_weight >= 1.0)


@pytest.mark.parametrize("kind", ["csr", "csr64"])
def test_a_sparse_engine_has_no_samples_and_says_so(kind):
    engine = make_engine(data()[0], kind)
    assert not engine.can_sample
    for call in (lambda: engine.take(slice(3)), engine.row_norms_squared):
        with pytest.raises(NotImplementedError):
            call()
