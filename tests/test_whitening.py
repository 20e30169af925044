"""In whitened coordinates, the Hessian of the quadratic model is the identity.

The rows Z = [1, z] are scaled such that ZᵀZ is a mean over the rows. With H = ZᵀZ + diag(0, λ)
for penalties λ, the transform M satisfies MᵀHM = I, and its columns span all coefficients
(b, v) that the data and penalty distinguish.
"""

from fractions import Fraction

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.linalg import hilbert, null_space, subspace_angles

from skrobust._engines import as_engine
from skrobust._engines.sparse import SparseEngine
from skrobust._engines.threads import ThreadTeam
from skrobust._model.whitening import (
    Whitened,
    Whitening,
    inverse_cholesky,
    rewhiten,
    whiten_columns,
    whiten_gram,
    whiten_rows,
)
from skrobust._sampling import whiten, whole_problem
from skrobust._solvers import choose

EPS = np.finfo(float).eps


def rows_of(X, fit_intercept=True):
    """Return the rows [1, z]/√n of standardised X, centred if there is an intercept."""
    z = X - X.mean(axis=0) * fit_intercept
    size = np.sqrt((z**2).mean(axis=0))
    z /= np.where(size > 0, size, 1.0)
    return np.column_stack([np.ones(len(X)), z]) / np.sqrt(len(X))


def model_of(Z, penalty):
    return Z.T @ Z + np.diag(np.concatenate([[0.0], penalty]))


def rounding_of(Z):
    """Return the rounding error of Z relative to its largest singular value."""
    return max(Z.shape) * EPS


def rank_deficient(rng, n=50, p=7, rank=4):
    return rng.normal(size=(n, rank)) @ rng.normal(size=(rank, p))


def assert_whitens(M, H, atol=1e-9):
    assert_allclose(M.T @ H @ M, np.eye(M.shape[1]), atol=atol)


def assert_same_span(A, B, atol=1e-7):
    assert A.shape[1] == B.shape[1]
    assert_allclose(subspace_angles(A, B), 0, atol=atol)


# Cholesky --------------------------------------------------------------------------------


@pytest.mark.parametrize("units", [np.ones(6), 10.0 ** np.array([-140, 0, 140, -9, 9, 3])])
def test_inverse_cholesky_makes_the_identity_in_any_units(units):
    A = np.random.default_rng(0).normal(size=(20, 6))
    H = (A.T @ A) * units * units[:, None]
    M = inverse_cholesky(H) * units[:, None]
    assert_allclose(M.T @ (A.T @ A) @ M, np.eye(6), atol=1e-12)
    assert_array_equal(M, np.triu(M))


@pytest.mark.parametrize(
    "H",
    [
        np.ones((3, 3)),
        np.diag([1.0, 0.0]),
        np.diag([1.0, -1.0]),
        np.array([[1.0, 2.0], [2.0, 1.0]]),
        hilbert(12),
        np.full((2, 2), np.nan),
    ],
)
def test_inverse_cholesky_declines_what_is_singular_to_half_the_digits(H):
    assert inverse_cholesky(H) is None


def test_inverse_cholesky_of_nothing_is_nothing():
    assert inverse_cholesky(np.zeros((0, 0))).shape == (0, 0)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 1e6])
def test_gram_is_whitened_with_and_without_a_penalty(fit_intercept, alpha):
    rng = np.random.default_rng(0)
    Z = rows_of(rng.normal(size=(50, 5)) @ rng.normal(size=(5, 5)))
    penalty = alpha * np.logspace(-3, 3, 5)
    M, _ = whiten_gram(Z.T @ Z, penalty, fit_intercept)
    assert_whitens(M, model_of(Z, penalty))
    assert M.shape == (6, 5 + fit_intercept)
    assert np.any(M[0] != 0) == fit_intercept


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_gram_gives_a_constant_feature_no_coordinate_unless_penalised(fit_intercept):
    rng = np.random.default_rng(0)
    Z = rows_of(rng.normal(size=(50, 4)))
    Z[:, 2] = 0.0
    G = Z.T @ Z
    M, _ = whiten_gram(G, np.zeros(4), fit_intercept)
    assert M.shape == (5, 3 + fit_intercept)
    assert_array_equal(M[2], 0)
    assert_whitens(M, model_of(Z, np.zeros(4)))
    penalty = np.array([1.0, 1e-3, 1.0, 1.0])
    M, _ = whiten_gram(G, penalty, fit_intercept)
    assert M.shape == (5, 4 + fit_intercept)
    assert_whitens(M, model_of(Z, penalty))


def test_gram_of_dependent_features_is_declined():
    Z = rows_of(rank_deficient(np.random.default_rng(0)))
    assert whiten_gram(Z.T @ Z, np.zeros(7), True) is None
    assert whiten_gram(Z.T @ Z, np.full(7, 0.1), True) is not None


# Rows ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize(("n", "p"), [(50, 5), (5, 5), (4, 9), (1, 3), (2, 1)])
def test_rows_without_a_penalty_span_their_row_space(fit_intercept, n, p):
    Z = rows_of(np.random.default_rng(0).normal(size=(n, p)))
    M, condition = whiten_rows(
        Z, np.zeros(p), fit_intercept, rounding_of(Z), np.zeros(Z.shape[1] - 1)
    )
    kept = Z[:, 0 if fit_intercept else 1 :]
    assert M.shape == (p + 1, np.linalg.matrix_rank(kept))
    assert_whitens(M, Z.T @ Z)
    if not fit_intercept:
        assert_array_equal(M[0], 0)
    if M.shape[1]:
        sigma = np.linalg.svd(kept, compute_uv=False)
        assert condition == pytest.approx(sigma[0] / sigma[M.shape[1] - 1], rel=1e-6)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize(("n", "p", "rank"), [(50, 7, 4), (6, 20, 3), (200, 3, 1)])
def test_rows_of_dependent_features_have_no_component_in_the_null_space(
    fit_intercept, n, p, rank
):
    Z = rows_of(rank_deficient(np.random.default_rng(0), n, p, rank))
    M, _ = whiten_rows(Z, np.zeros(p), fit_intercept, rounding_of(Z), np.zeros(Z.shape[1] - 1))
    assert M.shape[1] == rank + fit_intercept
    assert_whitens(M, Z.T @ Z)
    null = null_space(Z[:, 1:], rcond=1e-10)
    assert null.shape[1] == p - rank
    assert_allclose(null.T @ M[1:], 0, atol=1e-10 * np.abs(M).max())
    if fit_intercept:  # z is centred, so the intercept is a direction of its own
        assert_allclose(
            np.linalg.lstsq(M, np.eye(p + 1)[0])[0] @ M.T, np.eye(p + 1)[0], atol=1e-9
        )


def test_what_rounding_of_the_data_made_of_dependent_columns_is_not_a_direction():
    # The columns are equal except that 1e8 is added to the second, which causes rounding errors
    # of up to 1e-8 in its values.
    rng = np.random.default_rng(0)
    x = rng.normal(size=100)
    X = np.column_stack([x, x + 1e8, rng.normal(size=100)])
    Z, rounding = rows_of(X), 4 * 1e8 * EPS
    assert (
        whiten_rows(Z, np.zeros(3), True, rounding_of(Z), np.zeros(Z.shape[1] - 1))[0].shape[1]
        == 4
    )
    M, _ = whiten_rows(Z, np.zeros(3), True, rounding_of(Z), np.full(3, rounding))
    assert M.shape[1] == 3
    assert_whitens(M, Z.T @ Z)
    assert_allclose(M[1], M[2], rtol=0, atol=1e-6)


def test_rows_whiten_an_ill_conditioned_design_that_the_gram_cannot():
    # The singular values range from 1 to 1e-10. The smallest singular value of the Gram matrix
    # would be below eps.
    X = np.vstack([hilbert(8), -hilbert(8)]) * 4
    Z = np.column_stack([np.full(16, 0.25), X / 4])
    assert whiten_gram(Z.T @ Z, np.zeros(8), True) is None
    M, condition = whiten_rows(Z, np.zeros(8), True, rounding_of(Z), np.zeros(Z.shape[1] - 1))
    assert M.shape == (9, 9)
    Q = Z @ M
    assert_allclose(Q.T @ Q, np.eye(9), atol=EPS * 1e2 * condition)
    assert condition == pytest.approx(np.linalg.cond(Z), rel=1e-3)


def exact_solution(A, b):
    """Solve a small linear system in rational arithmetic."""
    rows = [[*map(Fraction, row), Fraction(y)] for row, y in zip(A, b, strict=True)]
    for i in range(len(rows)):
        pivot = next(k for k in range(i, len(rows)) if rows[k][i])
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [x / rows[i][i] for x in rows[i]]
        for k in range(len(rows)):
            if k != i:
                rows[k] = [x - rows[k][i] * y for x, y in zip(rows[k], rows[i], strict=True)]
    return [row[-1] for row in rows]


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize(("n", "p"), [(9, 3), (6, 6), (3, 4), (5, 12), (2, 30), (1, 3)])
@pytest.mark.parametrize("alpha", [1e-12, 1e-3, 1.0, 1e9])
@pytest.mark.parametrize("unit", [[1.0], [1e-3, 1.0, 1e3]])
def test_rows_with_a_penalty_reach_the_ridge_solution(fit_intercept, n, p, alpha, unit):
    # The problem is to minimise ½‖t − Z(b, v)‖² + ½ Σ λ_j v_j². The residual r satisfies
    # v_j = z_j·r / λ_j and 1·r = 0, a linear system for (r, b), solved in exact arithmetic.
    rng = np.random.default_rng(1)
    Z = rows_of(rng.normal(size=(n, p)), fit_intercept)
    penalty = alpha * np.resize(unit, p) ** -2.0
    target = rng.normal(size=n)
    M, _ = whiten_rows(Z, penalty, fit_intercept, rounding_of(Z), np.zeros(Z.shape[1] - 1))
    assert_whitens(M, model_of(Z, penalty), atol=1e-11)
    found = M @ (M.T @ (Z.T @ target))

    exact = np.vectorize(Fraction, otypes=[object])(Z)
    exact_penalty = [Fraction(a) for a in penalty]
    z, one = exact[:, 1:], exact[:, :1]
    system = np.eye(n, dtype=int) + (z / exact_penalty) @ z.T
    if fit_intercept:
        system = np.block([[system, one], [one.T, np.zeros((1, 1), dtype=int)]])
    solution = exact_solution(system, [*target, 0.0][: len(system)])
    v = (np.array(solution[:n]) @ z / exact_penalty).astype(float)
    b = float(solution[n]) if fit_intercept else 0.0
    assert_allclose(found[0], b, rtol=0, atol=1e-12 * np.abs(target).max())
    size = np.sqrt(penalty)  # errors are weighted by the square roots of the penalties
    assert_allclose(size * found[1:], size * v, rtol=0, atol=1e-9 * (size * np.abs(v)).max())


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_a_constant_feature_is_left_out_of_the_rows(fit_intercept):
    rng = np.random.default_rng(0)
    for n in (30, 3):
        Z = rows_of(rng.normal(size=(n, 5)))
        Z[:, 3] = 0.0
        for penalty in (np.zeros(5), np.array([0.1, 0.1, 0.0, 0.1, 0.1])):
            M, _ = whiten_rows(
                Z, penalty, fit_intercept, rounding_of(Z), np.zeros(Z.shape[1] - 1)
            )
            assert_allclose(M[3], 0, atol=1e-13)
            assert_whitens(M, model_of(Z, penalty), atol=1e-10)


def test_a_design_that_is_all_constant_leaves_the_intercept_or_nothing():
    Z = np.zeros((4, 3))
    Z[:, 0] = 0.5
    for penalty in (np.zeros(2), np.array([0.0, 0.0])):
        M, condition = whiten_rows(Z, penalty, True, rounding_of(Z), np.zeros(Z.shape[1] - 1))
        assert_allclose(np.abs(M), [[1.0], [0.0], [0.0]], atol=1e-15)
        assert condition == 1
        assert whiten_rows(Z, penalty, False, rounding_of(Z), np.zeros(Z.shape[1] - 1))[
            0
        ].shape == (3, 0)


# The choice of the algorithm -------------------------------------------------------------


def problem_of(X, weight=None, fit_intercept=True):
    engine = as_engine(X, ThreadTeam())
    return whole_problem(engine, weight, fit_intercept, choose(engine, "auto"))


def no_penalty(problem):
    return np.zeros(problem.engine.p)


def mean_square(problem):
    Z = problem.engine.rows(slice(None))
    return Z.T @ Z / len(Z)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize("weighted", [True, False])
def test_gram_and_rows_whiten_the_weighted_model_and_span_the_same(
    fit_intercept, alpha, weighted
):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4)) * [1, 1e-3, 1e3, 1] + [0, 5, -1, 1]
    weight = rng.uniform(0.1, 1, size=60) if weighted else None
    problem = problem_of(X, weight, fit_intercept)
    penalty = alpha / problem.engine.scale**2
    by_gram = whiten(problem, penalty).transform
    by_rows = whiten(problem._replace(gram=None), penalty).transform
    Z = problem.engine.rows(slice(None))
    s = np.ones(60) if weight is None else weight
    H = Z.T @ (s[:, None] * Z) / s.sum()
    H += np.diag(np.concatenate([[0.0], penalty]))
    assert_whitens(by_gram, H)
    assert_whitens(by_rows, H)
    assert_same_span(by_gram, by_rows)


@pytest.mark.parametrize("kind", [np.array, sparse.csr_array])
def test_dependent_features_are_whitened_by_the_rows(kind):
    X = rank_deficient(np.random.default_rng(0))
    problem = problem_of(kind(X))
    assert problem.gram is not None
    M = whiten(problem, no_penalty(problem)).transform
    assert M.shape == (8, 5)
    Z = problem.engine.rows(slice(None)) / np.sqrt(50)
    assert_whitens(M, Z.T @ Z)


def test_columns_that_differ_by_rounding_only_are_one_direction():
    # The tolerance is the rounding error of the second column, 1e8 · eps, relative to its
    # spread.
    rng = np.random.default_rng(0)
    x = rng.normal(size=100)
    problem = problem_of(np.column_stack([x, x + 1e8, rng.normal(size=100)]))
    M = whiten(problem, no_penalty(problem)).transform
    assert M.shape == (4, 3)
    assert_whitens(M, mean_square(problem), atol=1e-7)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize(("n", "p"), [(9, 20), (5, 5)])
def test_with_no_more_rows_than_features_there_is_no_gram_matrix(fit_intercept, n, p):
    X = np.random.default_rng(0).normal(size=(n, p))
    problem = problem_of(X, None, fit_intercept)
    assert problem.gram is None
    M = whiten(problem, no_penalty(problem)).transform
    assert M.shape[1] == n
    assert_whitens(M, mean_square(problem))


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_rows_of_weight_zero_have_no_influence(fit_intercept):
    # Only 3 of the 9 rows have positive weight, so 3 directions can be distinguished.
    rng = np.random.default_rng(0)
    X, weight = rng.normal(size=(9, 6)), np.repeat([1.0, 0.0], [3, 6])
    few = problem_of(X[:3], np.ones(3), fit_intercept)
    kept = whiten(few, no_penalty(few)).transform
    assert kept.shape[1] == 3
    assert_whitens(kept, mean_square(few))
    problem = problem_of(X, weight, fit_intercept)
    M = whiten(problem, no_penalty(problem)).transform
    assert_same_span(M, kept)


@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_beyond_the_size_of_a_dense_matrix_the_transform_is_diagonal(
    monkeypatch, alpha, fit_intercept
):
    monkeypatch.setattr(SparseEngine, "gram_max_features", 3)
    X = np.random.default_rng(0).normal(size=(60, 5)) * np.logspace(-2, 2, 5)
    problem = problem_of(sparse.csr_array(X), None, fit_intercept)
    assert problem.gram is None
    penalty = alpha / problem.engine.scale**2
    whitening = whiten(problem, penalty)
    M = whitening.transform
    assert sparse.issparse(M)
    assert M.nnz == M.shape[1] == 5 + fit_intercept
    H = mean_square(problem) + np.diag(np.append(0.0, penalty))
    assert_allclose(np.diagonal(M.T @ H @ M), 1, rtol=1e-12)
    assert_array_equal(whitening.dense_transform(), M.toarray())


# Columns, roots and new whitenings -------------------------------------------------------


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_whitened_columns_have_unit_length_with_their_penalty(fit_intercept):
    penalty = np.array([0.0, 1.0, 3.0])
    M, condition = whiten_columns(penalty, fit_intercept)
    H = np.diag(np.append(1.0, 1.0 + penalty))
    assert_whitens(M, H, atol=1e-15)
    assert M.shape == (4, 3 + fit_intercept)
    assert condition == 1


def test_a_new_whitening_makes_the_hessian_the_identity(make_objective):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3))
    objective = make_objective(X, X[:, 0] + rng.standard_t(2, size=80), alpha=0.1)
    row_weight = rng.uniform(size=80)
    theta = rng.normal(size=4)
    whitening, T = rewhiten(objective, theta, row_weight)
    assert_whitens(T, objective.hessian(theta, row_weight), atol=1e-12)
    other = Whitened(objective.linear, whitening)
    H = other.hessian(np.linalg.solve(T, theta), row_weight)
    assert_allclose(H, np.eye(4), atol=1e-12)


def test_there_is_no_new_whitening_where_rows_do_not_span_all_directions(make_objective):
    X = np.random.default_rng(0).normal(size=(80, 3))
    objective = make_objective(X, X[:, 0])
    few = np.arange(80) < 3
    whitening, T = rewhiten(objective, np.zeros(4), few.astype(float))
    assert T is None
    assert_array_equal(whitening.transform, objective.whitening.transform)


def test_coordinates_are_those_of_the_nearest_coefficients():
    M = np.random.default_rng(0).normal(size=(6, 2))
    coef = np.random.default_rng(1).normal(size=6)
    # Each coefficient's difference is measured relative to the largest absolute entry in its
    # row of M.
    unit = 1.0 / np.abs(M).max(axis=1)
    expected = np.linalg.lstsq(unit[:, None] * M, unit * coef)[0]
    assert_allclose(Whitening(M, 1.0).coordinates(coef), expected, rtol=1e-12)
    assert Whitening(np.zeros((3, 0)), 1.0).coordinates(np.ones(3)).shape == (0,)
