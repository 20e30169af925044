"""Mathematical properties of fits, on problems that hypothesis generates.

X has at least one row and one column, in units from 1e-150 to 1e150. Columns may be dependent
or constant. There are ties, exact fits and up to 49 % of outliers. More cases are tried by
pytest tests/test_properties.py --hypothesis-profile=long
"""

import warnings
from typing import NamedTuple

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, event, given
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from skrobust import SmoothL1Regressor
from skrobust._engines import as_engine, dense, threads
from skrobust._engines import sparse as sparse_engine
from skrobust._engines.threads import ThreadTeam
from skrobust._model.linear_loss import LinearLoss, RegressionData
from skrobust._model.loss import HUBER
from skrobust._model.penalty import Ridge
from skrobust._model.whitening import Whitened
from skrobust._sampling import whiten, whole_problem
from skrobust._solvers import choose


class Problem(NamedTuple):
    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None
    params: dict


MAGNITUDES = [1.0, 1e-3, 1e9, 1e-150, 1e150]


def _features(draw, rng, n, p):
    kind = draw(st.sampled_from(["normal", "integers", "drawn", "heavy", "levels"]))
    if kind == "drawn":
        values = st.lists(st.integers(-4, 4), min_size=n * p, max_size=n * p)
        X = np.array(draw(values), float).reshape(n, p)
    else:
        X = {
            "normal": lambda: rng.normal(size=(n, p)) + rng.normal(size=(n, 1)),
            "integers": lambda: rng.integers(-2, 3, size=(n, p)).astype(float),
            "heavy": lambda: rng.standard_cauchy(size=(n, p)),
            "levels": lambda: np.eye(p)[rng.integers(p, size=n)],
        }[kind]()
    special = draw(st.sampled_from([None, None, "duplicate", "constant", "near", "sum"]))
    if special and p > 1:
        last = {
            "duplicate": lambda: X[:, 0] * 3,
            "constant": lambda: np.full(n, 7.0),
            "near": lambda: X[:, 0] + 1e-5 * X[:, 1],
            "sum": lambda: X[:, :-1].sum(axis=1),
        }[special]()
        X[:, -1] = last
    return X


@st.composite
def data(draw, max_n=40, max_p=6):
    """Draw X, and y, a linear function of X plus errors; some errors are large and positive."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, p = draw(st.integers(1, max_n)), draw(st.integers(1, max_p))
    X = _features(draw, rng, n, p)
    y = X @ rng.integers(-3, 4, size=p) + draw(st.sampled_from([0.0, 1.0, 1e4]))
    error = draw(st.sampled_from(["none", "normal", "normal", "cauchy", "ties", "few"]))
    y = (
        y
        + {
            "none": lambda: 0.0,
            "normal": lambda: rng.normal(size=n),
            "cauchy": lambda: rng.standard_cauchy(size=n),
            "ties": lambda: rng.integers(-1, 2, size=n),
            "few": lambda: rng.normal(size=n) * (rng.random(n) < 0.3),
        }[error]()
    )
    share = draw(st.sampled_from([0.0, 0.0, 0.1, 0.3, 0.49]))
    y[: int(share * n)] += draw(st.sampled_from([10.0, 1e3, 1e6]))
    return X, y


@st.composite
def modes(draw):
    """Draw parameters, with beta and alpha for X and y of the order of 1."""
    loss = draw(st.sampled_from(["smooth_l1", "huber"]))
    scale = draw(st.sampled_from([None, None, "mad", "concomitant"]))
    if scale == "concomitant":
        beta = draw(st.sampled_from(["auto", 1.01, 1.35, 5.0]))
    else:
        beta = draw(st.sampled_from(["auto", 1e-8, 1e-3, 0.1, 1.0, 10.0, 1e6]))
    return {
        "beta": beta,
        "loss": loss,
        "scale": scale,
        "alpha": draw(st.sampled_from([0.0, 0.0, 1e-6, 0.1, 1e3])),
        "fit_intercept": draw(st.sampled_from([True, True, False])),
        "beta_schedule": draw(st.sampled_from([None, None, "geometric", [10, 1]])),
    }


@st.composite
def weights(draw, n):
    kind = draw(st.sampled_from([None, None, "integers", "uniform", "heavy"]))
    if kind is None:
        return None
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weight = {
        "integers": lambda: rng.integers(0, 4, size=n).astype(float),
        "uniform": lambda: rng.uniform(0.1, 1.0, size=n),
        "heavy": lambda: rng.pareto(1.0, size=n) + 1e-6,
    }[kind]()
    weight[0] = max(weight[0], 1.0)
    return weight


@st.composite
def problems(draw, units=True, **size):
    X, y = draw(data(**size))
    params = draw(modes())
    weight = draw(weights(n=len(y)))
    if units:
        of_y = draw(st.sampled_from(MAGNITUDES))
        of_X = [draw(st.sampled_from(MAGNITUDES)) for _ in range(X.shape[1])]
        # Without this limit w would overflow, which raises an error.
        of_y = min(of_y, 1e290 * min(of_X))
        if params["alpha"]:
            # Without these limits w² or the product αβ would overflow or underflow.
            of_X = of_y = np.clip(of_y, 1e-100, 1e100)
            square = params["loss"] == "huber" and params["scale"] != "concomitant"
            params["alpha"] *= of_y * (of_y if square else 1.0)
        X, y = X * of_X, y * of_y
        if isinstance(params["beta"], float) and params["scale"] is None:
            params["beta"] = params["beta"] * of_y
    return Problem(X, y, weight, params)


def fitted(X, y, weight, params):
    """Return the model, and whether it was reported as converged."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        warnings.simplefilter("always", ConvergenceWarning)
        est = SmoothL1Regressor(**params).fit(X, y, weight)
    return est, not caught


@given(problems())
def test_what_is_reported_as_converged_is_the_optimum(certificate, problem):
    est, converged = fitted(*problem)
    event(f"converged: {converged}")
    found = certificate(est, problem.X, problem.y, problem.weight)
    value, error = found.objective()
    assert est.beta_ > 0
    assert 0 <= est.optimality_ <= 1
    with np.errstate(over="ignore"):  # the Huber loss may be as large as y²
        assert est.objective_ == pytest.approx(float(value), 1e-9, float(2 * error) + 1e-323)
    if not converged:
        return
    # With distant outliers or a large penalty, the rounding error of the objective may be
    # larger than any decrease of the objective.
    if found.distance() > 1e-7:
        assert found.descent() <= 1e-12 + 2 * error / value
    if est.scale or est.beta == "auto":
        low, high = found.scale_bounds()
        # A scale at the rounding floor may be larger than the scale of the residuals, and is
        # less accurate than other scales.
        floor = found.rounding.max() or 1e-31
        assert low * (1 - 1e-7) - floor <= est.scale_ <= max(high * (1 + 1e-7), 4 * floor)


@pytest.mark.slow
@given(problems(units=False, max_n=30), st.integers(0, 2**32 - 1))
def test_the_certificate_refuses_what_is_moved_from_the_optimum(certificate, problem, seed):
    X, y, weight, params = problem
    assume(params["alpha"] == 0 and np.ptp(X[:, 0]) > 0 and (weight is None or weight.all()))
    est, converged = fitted(X, y, weight, params)
    found = certificate(est, X, y, weight)
    step = np.random.default_rng(seed).choice([-1e-3, 1e-3]) * np.abs(found.residual).max()
    assume(converged and step)
    value, error = found.objective()
    est.coef_ = est.coef_ + step * np.eye(X.shape[1])[0]
    found = certificate(est, X, y, weight)
    moved, _ = found.objective()
    # If the minimiser is not unique, the moved coefficients may be another minimiser.
    assume(moved - value > 1e-6 * value + 10 * error)
    assert found.distance() > 1e-7
    assert found.descent() > 1e-12 + 2 * error / moved


# Units, weights and forms ------------------------------------------------------------------


def assert_same(certificate, problem, one, other):
    """Assert that the objectives of two fits are equal."""
    X, y, weight, _ = problem
    _, error = certificate(one, X, y, weight).objective()
    with np.errstate(over="ignore"):
        error = float(4 * error) + 1e-323
    assert other.objective_ == pytest.approx(one.objective_, rel=1e-8, abs=error)


@st.composite
def regular(draw):
    """Draw problems with a unique minimiser, and a unique fixed point of the MAD."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    p = draw(st.integers(1, 5))
    n = draw(st.integers(8 * p + 4, 60))
    X = np.round(rng.normal(size=(n, p)) * 2**20) / 2**20
    y = X @ rng.integers(-3, 4, size=p) + rng.standard_t(draw(st.sampled_from([2, 5])), n)
    y[: n // draw(st.sampled_from([10, 20, 99]))] += draw(st.sampled_from([10.0, 1e6]))
    y = np.round(y * 2**20) / 2**20
    params = draw(modes())
    if isinstance(params["beta"], float):
        # If no row is inside the threshold, the minimiser may not be unique.
        params["beta"] = max(params["beta"], 1.01)
    return Problem(X, y, draw(weights(n=n)), params)


@given(regular(), st.data())
def test_units_and_order_do_not_matter(certificate, problem, data):
    X, y, weight, params = problem
    assume(params["alpha"] == 0)
    base, converged = fitted(*problem)
    assume(converged)
    of_y = data.draw(st.sampled_from(MAGNITUDES))
    of_X = np.array([data.draw(st.sampled_from(MAGNITUDES)) for _ in range(X.shape[1])])
    added = data.draw(st.sampled_from([0.0, 1.0, 4.0])) * np.ones(X.shape[1])
    shift = data.draw(st.sampled_from([0.0, 64.0, 1e6])) if params["fit_intercept"] else 0.0
    order = np.random.default_rng(0).permutation(len(y))
    columns = data.draw(st.permutations(range(X.shape[1])))
    if params["scale"] is None and params["beta"] != "auto":
        params = params | {"beta": params["beta"] * of_y}
    moved = ((X + shift) * of_X)[order][:, columns]
    weight = None if weight is None else weight[order]
    est, _ = fitted(moved, ((y + X @ added) * of_y)[order], weight, params)
    back = np.empty_like(base.coef_)
    back[columns] = est.coef_ * (of_X[columns] / of_y)
    size = 1e-6 * (1 + np.abs(base.coef_).max()) * (1 + shift / 1e4)
    assert_allclose(back - added, base.coef_, rtol=0, atol=size)
    # The accuracy of the scale is limited by the rounding errors of the features, multiplied by
    # the coefficients. These errors are large if the features are far from zero.
    stored = 8 * np.finfo(float).eps * np.abs(back) @ (np.abs(X).max(axis=0) + shift)
    assert est.beta_ / of_y == pytest.approx(base.beta_, rel=1e-6, abs=max(1e-12, stored))
    # For some minimisers a residual is exactly at the threshold; such rows are not compared.
    found = certificate(base, X, y)
    from_threshold = np.abs(np.abs(found.residual) - base.beta_)
    clear = (from_threshold > 1e-6 * base.beta_ + found.rounding)[order]
    assert_array_equal(est.outliers_[clear], base.outliers_[order][clear])


@given(problems(units=False), st.integers(0, 2**32 - 1))
def test_integer_weights_are_repeated_rows(certificate, problem, seed):
    X, y, _, params = problem
    assume(params["scale"] != "mad" and params["beta"] != "auto")
    times = np.random.default_rng(seed).integers(0, 4, size=len(y))
    assume(times.any())
    one, converged = fitted(X, y, times, params)
    rows = np.repeat(np.arange(len(y)), times)
    other, also = fitted(X[rows], y[rows], None, params)
    if converged and also:
        assert_same(certificate, problem._replace(weight=times), one, other)


@given(regular(), st.integers(0, 2**32 - 1))
def test_weights_are_repeated_rows_and_their_unit_is_irrelevant_to_a_scale(problem, seed):
    X, y, _, params = problem
    times = np.random.default_rng(seed).integers(1, 4, size=len(y))
    rows = np.repeat(np.arange(len(y)), times)
    # If ε is near 1, the scale is a thousand times less accurate than the coefficients.
    params = {**params, "tol": 1e-11}
    one, _ = fitted(X, y, times * 0.1, params)
    other, _ = fitted(X[rows], y[rows], None, params)
    assert_allclose(one.coef_, other.coef_, rtol=0, atol=1e-6 * (1 + np.abs(one.coef_).max()))
    assert one.scale_ == pytest.approx(other.scale_, rel=1e-6)


FORMS = {
    "F": np.asfortranarray,
    "strided": lambda X: np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3],
    "backwards": lambda X: np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1],
    "csr": sparse.csr_array,
    "csc": sparse.csc_array,
    "coo": sparse.coo_array,
}


@given(problems(units=False), st.sampled_from(sorted(FORMS)))
def test_the_form_of_X_does_not_matter(certificate, problem, form):
    X, y, weight, params = problem
    assume(params["scale"] != "mad" and params["beta"] != "auto")
    one, converged = fitted(*problem)
    other, also = fitted(FORMS[form](X), y, weight, params)
    if converged and also:
        assert_same(certificate, problem, one, other)


@given(regular(), st.sampled_from(sorted(FORMS)))
def test_the_form_of_X_does_not_matter_to_a_scale(problem, form):
    X, y, weight, params = problem
    one, _ = fitted(*problem)
    other, _ = fitted(FORMS[form](X), y, weight, params)
    assert_allclose(one.coef_, other.coef_, rtol=0, atol=1e-7 * (1 + np.abs(one.coef_).max()))
    assert one.scale_ == pytest.approx(other.scale_, rel=1e-7)


@given(regular())
def test_a_fit_in_float32_is_close_to_that_of_the_same_numbers_in_float64(problem):
    X, y, weight, params = problem
    X = X.astype(np.float32)
    one, _ = fitted(X.astype(float), y, weight, params)
    other, _ = fitted(X, y, weight, params)
    assert other.coef_.dtype == np.float32
    size = np.abs(one.coef_).max()
    assert_allclose(other.coef_, one.coef_, rtol=0, atol=3e-7 * size)
    assert other.beta_ == pytest.approx(one.beta_, rel=1e-7)


@pytest.mark.slow
@given(problems(max_n=40), st.integers(2, 5), st.integers(4, 12))
def test_threads_change_no_bit_and_blocks_change_little(certificate, problem, n_threads, rows):
    # Blocks have a few rows, and even a small fit processes them in threads.
    X, y, weight, params = problem
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "MIN_ELEMENTS_PER_EXTRA_THREAD", 0)
        found = []
        for size, block in ((1, 65_536), (1, rows * X.shape[1]), (n_threads, None)):
            if block is not None:
                patch.setattr(dense, "BLOCK_ELEMENTS", block)
                patch.setattr(sparse_engine, "BLOCK_ELEMENTS", block)
                patch.setattr(dense, "MIN_COLUMN_BYTES", 128)
            patch.setattr(threads, "n_threads", lambda size=size: size)
            found.append(fitted(X, y, weight, params))
    (whole, converged), (one, also), (several, _) = found
    assert_array_equal(one.coef_, several.coef_)
    assert one.intercept_ == several.intercept_
    if converged and also and params["scale"] != "mad" and params["beta"] != "auto":
        assert_same(certificate, problem, whole, one)


# The objective ---------------------------------------------------------------------------


@st.composite
def objectives(draw, fixed_penalty=True):
    """Draw an objective, a point θ, which may be zero, and a random number generator.

    Without `fixed_penalty`, a penalty is always multiplied by the threshold.
    """
    X, y = draw(data())
    weight = draw(weights(n=len(y)))
    if weight is not None:
        X, y, weight = X[weight > 0], y[weight > 0], weight[weight > 0]
    penalties = [(0.0, False), (0.3, False), (0.5, True)]
    alpha, per_threshold = draw(
        st.sampled_from(penalties if fixed_penalty else [penalties[0], penalties[2]])
    )
    beta = draw(st.sampled_from([1e-2, 1.0, 30.0]))
    engine = as_engine(sparse.csr_array(X) if draw(st.booleans()) else X, ThreadTeam())
    fit_intercept = draw(st.booleans())
    problem = whole_problem(engine, weight, fit_intercept, choose(engine, "auto"))
    observed = RegressionData.of(problem.engine, y, weight, fit_intercept, problem.gram)
    penalty = Ridge.of_strength(alpha, problem.engine) if alpha else None
    linear = LinearLoss(observed, HUBER, penalty, beta, per_threshold)
    curvature = np.zeros(X.shape[1])
    if penalty is not None:
        curvature = linear.penalty.hessian_diagonal(np.zeros(X.shape[1] + 1))[1:]
    objective = Whitened(linear, whiten(problem, curvature))
    assume(objective.n_variables)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    theta = rng.normal(size=objective.n_variables)
    return objective, theta * draw(st.sampled_from([0.0, 1.0, 10.0])), rng


@given(objectives(), st.sampled_from([None, -1.0, 1.0]))
def test_gradient_is_the_derivative_of_the_value(problem, kink):
    objective, theta, rng = problem
    if kink:
        # A residual is at the threshold, up to rounding.
        residual = objective.at_threshold(1.0).evaluate(theta).residual
        objective = objective.at_threshold(np.abs(residual).min() or objective.threshold)
    point = objective.evaluate(theta)
    step = rng.normal(size=theta.size)
    step /= np.linalg.norm(step)
    h = 1e-4 * max(1.0, point.psi_rms)
    ahead, behind = (objective.evaluate(theta + t * step).value for t in (h, -h))
    # The curvature along a unit step is at most one, and changes by less than one at a kink.
    rounding = 1e-15 * objective.linear.data.y.size * point.value / h
    assert abs((ahead - behind) / (2 * h) - step @ point.gradient) <= 2 * h + rounding


@given(objectives(fixed_penalty=False))
def test_the_concomitant_objective_is_jointly_convex(problem):
    objective, theta, rng = problem
    epsilon = 1.0 + objective.threshold

    def value(theta, sigma):
        beta = epsilon * sigma
        return objective.at_threshold(beta).evaluate(theta).value / beta + sigma / (2 * epsilon)

    ends = [(theta, 10.0 ** rng.uniform(-3, 3))]
    ends.append((theta + rng.normal(size=theta.size) * 10.0 ** rng.uniform(-2, 2), 10.0))
    (a, s), (b, t) = ends
    for part in (0.1, 0.5, 0.9):
        between = value(part * a + (1 - part) * b, part * s + (1 - part) * t)
        chord = part * value(a, s) + (1 - part) * value(b, t)
        assert between <= chord * (1 + 1e-12)


@given(problems(units=False), st.integers(0, 2**32 - 1))
def test_no_other_coefficients_and_scale_have_a_lower_concomitant_objective(problem, seed):
    X, y, weight, params = problem
    params = params | {"scale": "concomitant", "loss": "huber", "beta": 1.35}
    est, converged = fitted(X, y, weight, params)
    assume(converged)
    rng = np.random.default_rng(seed)
    s = np.ones(len(y)) if weight is None else weight

    def value(w, b, sigma):
        z = np.abs(y - X @ w - b) / sigma
        loss = np.where(z <= 1.35, z**2, 2 * 1.35 * z - 1.35**2)
        return np.average(sigma * (1 + loss), weights=s) / 2 + est.alpha / 2 * (w @ w)

    for size in 10.0 ** np.arange(-6, 2):
        w = est.coef_ + size * rng.normal(size=est.coef_.size)
        b = est.intercept_ + size * rng.normal() * est.fit_intercept
        sigma = est.scale_ * np.exp(size * rng.normal())
        size = 1e-13 * np.abs(y).max()
        assert est.objective_ <= value(w, b, max(sigma, 1e-14)) * (1 + 1e-10) + size


@given(
    problems(units=False), st.sampled_from(["geometric", "linear", "cosine", [50, 10, 2, 1]])
)
def test_a_schedule_ends_at_the_minimum_without_a_schedule(certificate, problem, schedule):
    X, y, weight, params = problem
    assume(params["scale"] != "mad" and params["beta"] != "auto")
    one, converged = fitted(X, y, weight, params | {"beta_schedule": None})
    other, also = fitted(X, y, weight, params | {"beta_schedule": schedule})
    if converged and also:
        assert_same(certificate, problem, one, other)


@given(regular(), st.sampled_from(["geometric", "linear", "cosine", [50, 10, 2, 1]]))
def test_a_schedule_changes_neither_coefficients_nor_scale(problem, schedule):
    X, y, weight, params = problem
    one, _ = fitted(X, y, weight, params | {"beta_schedule": None})
    other, _ = fitted(X, y, weight, params | {"beta_schedule": schedule})
    assert_allclose(one.coef_, other.coef_, rtol=0, atol=1e-6 * (1 + np.abs(one.coef_).max()))
    assert one.scale_ == pytest.approx(other.scale_, rel=1e-6)
