"""Every engine answers as NumPy does on the standardised matrix [1, (X − centre) / scale]."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from skrobust import _design, _threads, losses
from skrobust._design import SparseDesign, as_design
from skrobust._problem import Survey
from skrobust._threads import Team

KINDS = ["C", "F", "strided", "float32", "csr", "csr64", "csr float32"]
N, P = 83, 4


def data(n=N, p=P, seed=0):
    """Columns of different units and places, a third of the entries zero."""
    rng = np.random.default_rng(seed)
    X = np.linspace(-3, 5, p) + rng.normal(size=(n, p)) * np.logspace(-1, 1, p)
    X[rng.random((n, p)) < 0.3] = 0.0
    return X.astype(np.float32).astype(np.float64), rng  # float32 holds these exactly


def as_kind(X, kind):
    if kind == "strided":
        return np.repeat(X, 2, axis=1)[:, ::2]
    if kind in ("C", "F"):
        return np.array(X, order=kind)
    if kind == "float32":
        return X.astype(np.float32)
    S = sparse.csr_array(X)
    if kind == "csr64":
        S.indices, S.indptr = S.indices.astype(np.int64), S.indptr.astype(np.int64)
    return S.astype(np.float32) if kind == "csr float32" else S


def design(X, kind="C", centre=None, scale=None):
    made = as_design(as_kind(X, kind), Team())
    p = X.shape[1]
    return made.standardised(
        np.linspace(-2, 4, p) if centre is None else centre,
        np.logspace(-1, 1, p) if scale is None else scale,
    )


def standardised(made, X):
    return np.column_stack([np.ones(len(X)), (X - made.centre) / made.scale])


def random_weights(rng, n=N):
    return np.where(rng.random(n) < 0.2, 0.0, rng.uniform(size=n))


# Rows, sweeps and Gram matrices ----------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_standardised_whatever_selects_them(kind):
    X, rng = data()
    made = design(X, kind)
    Z = standardised(made, X)
    mask = rng.random(N) < 0.5
    for index in (slice(None), slice(5, 11), np.array([7, 3, 3]), mask, np.empty(0, int)):
        rows = made.rows(index)
        assert_allclose(rows, Z[index], rtol=1e-14, atol=1e-14)
        assert rows.dtype == np.float64


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("beta", [0.5, np.inf])
@pytest.mark.parametrize("block", [16, 65_536])
def test_sweep_is_residuals_and_their_sums(monkeypatch, kind, weighted, beta, block):
    monkeypatch.setattr(_design, "_BLOCK", block)
    monkeypatch.setattr(_design, "_PIECE", 128)
    X, rng = data()
    made = design(X, kind)
    y, coef = rng.normal(size=N), rng.normal(size=P + 1)
    weight = random_weights(rng) if weighted else None
    residual, sums = made.sweep(coef, y, weight, beta)

    Z, s = standardised(made, X), np.ones(N) if weight is None else weight
    r = y - Z @ coef
    c = losses.huber_gradient(r, beta)
    assert_allclose(residual, r, rtol=1e-13, atol=1e-13)
    expected = np.concatenate([Z.T @ (s * c), [s @ losses.huber(r, beta), s @ c**2]])
    assert_allclose(sums, expected, rtol=1e-13, atol=1e-12)
    assert made.n_sweeps == 1


@pytest.mark.parametrize("kind", KINDS)
def test_sweep_writes_into_the_array_it_is_given(kind):
    X, rng = data()
    made, y, spare = design(X, kind), rng.normal(size=N), np.full(N, np.nan)
    residual, _ = made.sweep(np.ones(P + 1), y, residual=spare)
    assert residual is spare
    assert_array_equal(spare, made.sweep(np.ones(P + 1), y)[0])


@pytest.mark.parametrize("kind", ["C", "csr"])
def test_a_feature_of_infinite_scale_takes_no_part(kind):
    X, rng = data()
    scale = np.array([1.0, np.inf, 2.0, 0.5])
    made, y = design(X, kind, scale=scale), rng.normal(size=N)
    coef = rng.normal(size=P + 1)
    residual, sums = made.sweep(coef, y)
    coef[2] = 1e6
    assert_array_equal(made.sweep(coef, y)[0], residual)
    assert sums[2] == 0
    assert_array_equal(made.rows(slice(None))[:, 2], 0)
    assert_array_equal(made.gram()[2], 0)
    assert made.ridge(1.0)[1] == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("transformed", [False, True])
@pytest.mark.parametrize("n", [1, 200, 1500])
def test_gram_is_the_weighted_cross_product(monkeypatch, kind, weighted, transformed, n):
    monkeypatch.setattr(_design, "_GRAM_BYTES", 1)  # 256 rows at a time: six, in four lanes
    X, rng = data(n)
    made = design(X, kind)
    weight = random_weights(rng, n) if weighted else None
    M = rng.normal(size=(P + 1, 3)) if transformed else None
    Z = standardised(made, X) @ (np.eye(P + 1) if M is None else M)
    s = np.ones(n) if weight is None else weight
    expected = Z.T @ (s[:, None] * Z)
    size = np.sqrt(np.outer(np.diagonal(expected), np.diagonal(expected)))
    G = made.gram(weight) if M is None else made.transformed_gram(weight, M)
    assert np.all(np.abs(G - expected) <= 1e-13 * size + 1e-300)


@pytest.mark.parametrize("kind", ["C", "F", "strided", "float32"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("distance", [0.0, 0.9, 1.1, 1e4])
def test_a_centre_near_zero_goes_through_algebra_without_loss(
    monkeypatch, kind, weighted, distance
):
    monkeypatch.setattr(_design, "_LONG", 0)
    n, rng = 1_500, np.random.default_rng(0)
    X = (rng.normal(size=(n, P)) + distance).astype(np.float32).astype(np.float64)
    X[:, -1] = 7.0  # constant, and never far
    scale = np.append(np.ones(P - 1), np.inf)
    made = design(X, kind, np.append(np.full(P - 1, distance), 7.0), scale)
    assert (made.pivot is None) == (distance < 1)
    weight = random_weights(rng, n) if weighted else None
    s = np.ones(n) if weight is None else weight
    Z, y, coef = standardised(made, X), rng.normal(size=n), rng.normal(size=P + 1)
    assert_allclose(made.gram(weight), Z.T @ (s[:, None] * Z), rtol=1e-13, atol=1e-13 * n)
    residual, sums = made.sweep(coef, y, weight)
    assert_allclose(residual, y - Z @ coef, rtol=0, atol=1e-14)
    assert_allclose(sums[: P + 1], (s * (y - Z @ coef)) @ Z, rtol=0, atol=1e-13 * n)


@pytest.mark.parametrize("kind", ["C", "csr"])
@pytest.mark.parametrize("k", [P + 1, 2])
def test_gram_of_no_rows_is_zero(kind, k):
    made = design(data()[0], kind)
    none = np.zeros(N)
    assert_array_equal(made.gram(none), np.zeros((P + 1, P + 1)))
    assert_array_equal(made.transformed_gram(none, np.ones((P + 1, k))), np.zeros((k, k)))


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_gram_has_the_same_bits_in_any_number_of_threads(monkeypatch, size):
    monkeypatch.setattr(_design, "_GRAM_BYTES", 1)
    monkeypatch.setattr(_threads, "n_threads", lambda: size)
    monkeypatch.setattr(_threads, "_WORTH", 0)
    X, rng = data(2_500)
    weight = rng.uniform(size=2_500)
    expected = design(X).gram(weight)
    with Team() as team:
        made = design(X)
        made.team = team
        assert_array_equal(made.gram(weight), expected)


@pytest.mark.parametrize("kind", ["C", "csr"])
def test_absolute_bounds_every_prediction(monkeypatch, kind):
    monkeypatch.setattr(_design, "_GRAM_BYTES", 1)
    X, rng = data(700)
    made, coef = design(X, kind), rng.uniform(size=P + 1)
    assert_allclose(made.absolute(coef), np.abs(standardised(made, X)) @ coef, rtol=1e-13)


@pytest.mark.parametrize("kind", ["C", "F", "strided", "float32"])
def test_take_is_the_same_design_of_fewer_rows(kind):
    X, rng = data()
    made, rows = design(X, kind), np.array([2, 3, 50, 71])
    part, y, coef = made.take(rows), rng.normal(size=N), rng.normal(size=P + 1)
    assert_allclose(part.sweep(coef, y[rows])[0], made.sweep(coef, y)[0][rows], rtol=1e-12)
    assert part.X.dtype == made.X.dtype
    assert part.X.flags.c_contiguous


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_sparse_agrees_with_dense_as_far_as_the_offset_leaves_digits(offset):
    # Centring a stored column of mean μ and deviation σ through algebra costs μ/σ in the
    # sums and (μ/σ)² in the Gram matrix.
    X, rng = data()
    X = X + offset * np.array([1.0, 0.0, -1.0, 1.0])
    centre, scale = X.mean(axis=0), X.std(axis=0)
    dense, csr = (design(X, kind, centre, scale) for kind in ("C", "csr"))
    y, coef, weight = rng.normal(size=N), rng.normal(size=P + 1), random_weights(rng)
    lost = 1e-14 * max(1.0, (np.abs(centre) / scale).max())
    sweeps = [made.sweep(coef, y, weight, 0.5) for made in (dense, csr)]
    for a, b in zip(*sweeps, strict=True):
        assert_allclose(b, a, rtol=0, atol=lost * N)
    lost *= max(1.0, (np.abs(centre) / scale).max())
    assert_allclose(csr.gram(weight), dense.gram(weight), rtol=0, atol=lost * N)


@pytest.mark.parametrize("types", [(np.int32, np.int64), (np.int64, np.int32)])
def test_the_two_index_arrays_of_a_sparse_matrix_may_have_different_types(types):
    # SciPy makes them alike but accepts others that do not.
    X, rng = data()
    made, y, coef = design(X), rng.normal(size=N), rng.normal(size=P + 1)
    S = sparse.csr_array(X)
    S.indices, S.indptr = S.indices.astype(types[0]), S.indptr.astype(types[1])
    mixed = as_design(S, Team()).standardised(made.centre, made.scale)
    assert_allclose(mixed.sweep(coef, y)[1], made.sweep(coef, y)[1], rtol=1e-12, atol=1e-12)


def test_sparse_blocks_are_few():
    # Each block carries p sums, which must stay small beside the data.
    X = sparse.random_array((40_000, 300), density=0.3, rng=np.random.default_rng(0)).tocsr()
    made = as_design(X, Team())
    assert isinstance(made, SparseDesign)
    assert 1 < made.n_blocks <= 17
    assert made.n_blocks * (made.p + 3) < 0.01 * X.nnz


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_pieces_of_many_columns_are_not_short(dtype):
    X = np.zeros((1000, 5000), dtype=dtype, order="F")
    assert as_design(X, Team()).block * X.itemsize == 512
    assert as_design(np.ascontiguousarray(X), Team()).block == 16


# Moments ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
def test_moments_are_the_weighted_mean_and_deviation(monkeypatch, kind, weighted):
    monkeypatch.setattr(_design, "_BLOCK", 16)
    X, rng = data()
    weight = random_weights(rng) if weighted else None
    made = as_design(as_kind(X, kind), Team())
    mean, std = made.moments(weight, np.arange(0, N, 3))
    centre = np.average(X, axis=0, weights=weight)
    deviation = np.sqrt(np.average((X - centre) ** 2, axis=0, weights=weight))
    rtol = 1e-6 if kind == "csr float32" else 1e-13
    assert_allclose(mean, centre, rtol=rtol, atol=rtol * deviation.max())
    assert_allclose(std, deviation, rtol=rtol)
    assert mean.dtype == std.dtype == np.float64


@pytest.mark.parametrize("kind", ["C", "F", "strided", "float32"])
def test_squares_are_the_lengths_of_standardised_rows(monkeypatch, kind):
    monkeypatch.setattr(_design, "_GRAM_BYTES", 0)
    X, _ = data()
    made = design(X, kind)
    expected = (standardised(made, made.X.astype(float))[:, 1:] ** 2).sum(axis=1)
    assert_allclose(made.squares(), expected, rtol=1e-13)


@pytest.mark.parametrize("offset", [1e4, 1e8])
def test_moments_of_a_column_far_from_zero_keep_their_digits(offset):
    rng = np.random.default_rng(0)
    noise = np.round(rng.normal(size=(3000, 2)) * 2**20) / 2**20
    X = noise + offset
    assert_array_equal(X - offset, noise)
    mean, std = as_design(X, Team()).moments(None, np.arange(1000))
    assert_allclose(std, noise.std(axis=0), rtol=1e-12)
    assert_allclose(mean, offset + noise.mean(axis=0), rtol=4e-16)


@pytest.mark.parametrize("constant", [0.0, 1.0, -1e8, 1e-30])
def test_moments_of_a_column_that_the_probe_finds_constant(constant):
    X, _ = data(2000)
    X[:, 1] = constant
    rare = np.array([1500, 1900])
    X[rare, 1] += max(1.0, abs(constant))
    made = as_design(X, Team())
    mean, std = made.moments(None, np.arange(1000))
    assert_allclose(std, X.std(axis=0), rtol=1e-12)
    assert_allclose(mean, X.mean(axis=0), rtol=1e-12)


@pytest.mark.parametrize("kind", ["C", "F", "csr"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_units_are_found_where_squares_overflow_or_vanish(kind, fit_intercept):
    X, rng = data(1_000, 5)
    units = 10.0 ** np.array([300, -300, 160, -160, 0])
    weight = rng.uniform(size=1_000)
    usual = Survey(as_design(as_kind(X, kind), Team()), weight, fit_intercept).problem.design
    extreme = Survey(as_design(as_kind(X * units, kind), Team()), weight, fit_intercept).problem
    assert_allclose(extreme.design.scale, usual.scale * units, rtol=1e-9)
    assert_allclose(extreme.design.centre, usual.centre * units, rtol=1e-9)
    assert_allclose(extreme.gram, usual_gram(usual, weight), rtol=1e-8, atol=1e-8)
    assert np.isfinite(extreme.design.ridge(1.0)).all()


def usual_gram(made, weight):
    return made.gram(weight) / weight.sum()


@pytest.mark.parametrize("kind", ["C", "float32", "csr"])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e9])
def test_a_constant_column_has_no_unit_and_others_have(kind, value):
    X, rng = data(500)
    X[:, 2] = value
    for weight in (None, rng.uniform(size=500)):
        made = Survey(as_design(as_kind(X, kind), Team()), weight, True).problem.design
        assert_array_equal(np.isinf(made.scale), [False, False, True, False])


@pytest.mark.parametrize("kind", ["C", "csr"])
def test_without_an_intercept_nothing_is_centred(kind):
    X, _ = data()
    made = Survey(as_design(as_kind(X, kind), Team()), None, False).problem.design
    assert_array_equal(made.centre, 0)
    assert_allclose(made.scale, np.sqrt((X**2).mean(axis=0)), rtol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_posed_features_have_mean_zero_and_variance_one(kind):
    X, rng = data()
    weight = random_weights(rng) + 0.1
    problem = Survey(as_design(as_kind(X, kind), Team()), weight, True).problem
    rtol = 1e-6 if kind == "csr float32" else 1e-13
    assert_allclose(np.diagonal(problem.gram), 1, rtol=rtol)
    assert_allclose(problem.gram[0, 1:], 0, atol=rtol)


@pytest.mark.parametrize("kind", ["C", "F", "strided", "float32", "csr", "csr64"])
def test_x_is_never_copied_nor_written(kind):
    X, rng = data()
    given = as_kind(X, kind)
    made = as_design(given, Team())
    assert made.X is given
    kept = given.copy()
    made = Survey(made, None, True).problem.design
    made.sweep(np.ones(P + 1), rng.normal(size=N), None, 0.5)
    made.gram()
    assert (kept != made.X).sum() == 0
