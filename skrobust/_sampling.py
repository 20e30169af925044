"""Data shared by all targets: standardised features, Gram matrix, row sample and whitening."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._engines.base import Engine, FloatArray, has_finite_squares, weighted_moments
from ._model.whitening import (
    Whitening,
    whiten_columns,
    whiten_gram,
    whiten_rows,
)
from ._reductions import RowVector, gather
from ._solvers import Plan, Rows

_EPS = float(np.finfo(float).eps)
# A sample of the n rows of X has n / MIN_ROWS_PER_SAMPLED_ROW rows, but at least
# SAMPLE_MIN_PER_FEATURE and at most SAMPLE_MAX_PER_FEATURE rows per feature.
MIN_ROWS_PER_SAMPLED_ROW = 18
SAMPLE_MIN_PER_FEATURE, SAMPLE_MAX_PER_FEATURE = 50, 250
# Number of rows from which the column means and standard deviations are first estimated.
MOMENT_PROBE_ROWS = 1_000
# Bound on the rounding error of a stored column, in units of machine epsilon times the absolute
# mean of the column. In these units, the rounding error of a column that is a sum of other
# columns is below 1.
STORED_ROUNDING = 2.0


class Problem(NamedTuple):
    """The engine, weights and Gram matrix shared by all targets.

    `gram` is None if the whitening does not need the Gram matrix, and otherwise the weighted
    mean of (1, z)(1, z)ᵀ, where z contains the standardised features of a row. `sample` is None
    or the problem restricted to a sample of the rows, whose indices are in `sample.rows`.
    `sample.engine` is None; the engine is created when the fit of a target starts.
    """

    engine: Engine | None
    weight: RowVector | None
    fit_intercept: bool
    whiten_by: str
    gram: FloatArray | None = None
    sample: Problem | None = None
    rows: NDArray[np.intp] | None = None


class RowSampler:
    """Holds the current problem, which `next_level` replaces with one that uses more data.

    If X has many more rows than columns, there are three problems:

    1. The first has a uniform sample of the rows, in which rare levels of a categorical feature
       and high-leverage rows may be missing.
    2. The second has a sample of rows drawn with probabilities that increase with their norms.
       Computing the norms takes two passes over X.
    3. The last has no sample, but the Gram matrix of all rows.

    The first problem is omitted if `plan.rows` is `ROW_NORM_SAMPLE`. If `plan.rows` is `ALL`,
    there is only the last problem.
    """

    def __init__(
        self, engine: Engine, weight: RowVector | None, fit_intercept: bool, plan: Plan
    ) -> None:
        self.plan = plan
        self._levels = _levels(engine, weight, fit_intercept, plan)
        self._sample: Problem | None = None
        self.next_level()

    def next_level(self) -> None:
        """Replace the current problem with the next one; the last problem has no sample."""
        self.problem, self._sample, self.is_uniform = next(self._levels)

    def sample(self) -> Problem:
        """Return the sample of the current problem, with an engine for its rows."""
        sample, self._sample = self._sample, None
        if sample is None:
            whole, sample = self.problem.engine, self.problem.sample
            assert whole is not None
            assert sample is not None
            assert sample.rows is not None
            sample = sample._replace(engine=whole.take(sample.rows))
        return sample


def _levels(
    engine: Engine, weight: RowVector | None, fit_intercept: bool, plan: Plan
) -> Iterator[tuple[Problem, Problem | None, bool]]:
    """Yield each problem of a RowSampler, its sample, and whether the sample is uniform.

    The sample includes an engine. A problem that uses all rows has None as its sample.
    """
    if plan.rows is Rows.ALL:
        yield whole_problem(engine, weight, fit_intercept, plan), None, False
        return
    n, p = engine.n, engine.p
    rng = np.random.default_rng(0)
    m = _sample_size(n, p)
    if plan.rows is Rows.UNIFORM_SAMPLE:
        rows = np.sort(rng.choice(n, m, replace=False, shuffle=False))
        sample = engine.take(rows)
        weight_of_rows = None if weight is None else gather(weight, rows)
        probe = slice(None, None, max(1, m // MOMENT_PROBE_ROWS))
        with np.errstate(invalid="ignore", over="ignore"):
            mean, std = weighted_moments(
                sample.rows(probe)[:, 1:],
                None if weight_of_rows is None else weight_of_rows[probe],
            )
        del sample
        centre, scale = _centre_and_scale(mean, std, fit_intercept)
        if has_finite_squares(std).all() and np.isfinite(scale).all():
            standardised = engine.with_standardisation(centre, scale)
            problem = Problem(standardised, weight, fit_intercept, plan.whiten_by)
            yield *_with_sample(problem, rows, weight_of_rows), True
    problem = standardised_problem(engine, weight, fit_intercept, plan)
    assert problem.engine is not None
    rows, row_weight = problem.engine.row_norm_sample(weight, m, rng)
    if rows.size:
        yield *_with_sample(problem, rows, row_weight), False
    yield _with_gram(problem), None, False


def _sample_size(n: int, p: int) -> int:
    wanted = n // MIN_ROWS_PER_SAMPLED_ROW
    return min(n, int(np.clip(wanted, SAMPLE_MIN_PER_FEATURE * p, SAMPLE_MAX_PER_FEATURE * p)))


def uniform_sample(problem: Problem) -> Problem:
    """Return the problem restricted to a uniform sample of the rows with positive weight."""
    engine, weight = problem.engine, problem.weight
    assert engine is not None
    rows = np.arange(engine.n) if weight is None else np.flatnonzero(weight)
    m = min(rows.size, _sample_size(engine.n, engine.p))
    rows = np.sort(np.random.default_rng(0).choice(rows, m, replace=False, shuffle=False))
    weight_of_rows = None if weight is None else weight[rows]
    return problem._replace(engine=engine.take(rows), weight=weight_of_rows, rows=rows)


def whole_problem(
    engine: Engine, weight: RowVector | None, fit_intercept: bool, plan: Plan
) -> Problem:
    """Return the problem with all rows and standardised features.

    The problem contains its Gram matrix if the whitening uses that matrix.
    """
    return _with_gram(standardised_problem(engine, weight, fit_intercept, plan))


def standardised_problem(
    engine: Engine, weight: RowVector | None, fit_intercept: bool, plan: Plan
) -> Problem:
    """Return the problem with all rows and standardised features, but no Gram matrix.

    The means and standard deviations are computed from all rows. A ValueError is raised if X
    contains NaN or infinity.
    """
    probe: slice | NDArray[np.intp] = slice(None)
    if engine.n > MOMENT_PROBE_ROWS:
        probe = np.sort(np.random.default_rng(0).integers(engine.n, size=MOMENT_PROBE_ROWS))
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        mean, std = engine.moments(weight, probe)
    if not np.isfinite(mean).all():
        engine.check_finite()
        return standardised_problem(engine.rescaled(), weight, fit_intercept, plan)
    extreme = np.flatnonzero(~has_finite_squares(std))
    if extreme.size:
        mean[extreme], std[extreme] = engine.extreme_moments(weight, extreme)
    engine = engine.with_standardisation(*_centre_and_scale(mean, std, fit_intercept))
    return Problem(engine, weight, fit_intercept, plan.whiten_by)


def _centre_and_scale(
    mean: FloatArray, std: FloatArray, fit_intercept: bool
) -> tuple[FloatArray, FloatArray]:
    """Return the centre and the scale of each feature. The scale of a constant feature is inf.

    With an intercept, the centre is the mean and the scale is the standard deviation. Without
    an intercept, the centre is 0 and the scale is the root mean square.
    """
    if not fit_intercept:
        mean, std = np.zeros_like(mean), np.hypot(mean, std)
    # A standard deviation below `tiny` is treated as zero, because its reciprocal may overflow.
    constant = (std <= 8 * _EPS * np.abs(mean)) | (std < np.finfo(float).tiny)
    return mean, np.where(constant, np.inf, std)


def _with_sample(
    problem: Problem, rows: NDArray[np.intp], row_weight: FloatArray | None
) -> tuple[Problem, Problem]:
    """Return the problem with the given rows as its sample, and this sample with an engine."""
    assert problem.engine is not None
    part = Problem(
        problem.engine.take(rows), row_weight, problem.fit_intercept, "gram", rows=rows
    )
    sample = _with_gram(part)
    return problem._replace(sample=sample._replace(engine=None)), sample


def _with_gram(problem: Problem) -> Problem:
    """Return the problem, with its Gram matrix if the whitening uses it."""
    engine, weight = problem.engine, problem.weight
    assert engine is not None
    if problem.whiten_by != "gram":
        return problem
    total = engine.n if weight is None else weight.sum()
    return problem._replace(gram=engine.gram(weight) / total)


def whiten(problem: Problem, penalty: FloatArray) -> Whitening:
    """Return the whitening of the standardised features.

    If `problem.whiten_by` is "scaling", the whitening only scales the features. Otherwise it is
    computed from a Cholesky factor of the Gram matrix or, if that matrix is unavailable or
    ill-conditioned, from a singular value decomposition of the rows. `penalty` is the diagonal
    of the penalty's Hessian, without the intercept, of shape (p,).
    """
    engine, fit_intercept = problem.engine, problem.fit_intercept
    assert engine is not None
    if problem.whiten_by == "scaling":
        return whiten_columns(penalty, fit_intercept)
    if problem.gram is not None:
        whitening = whiten_gram(problem.gram, penalty, fit_intercept)
        if whitening is not None:
            return whitening
    varies = np.isfinite(engine.scale)
    shift = np.abs(np.where(varies, engine.centre, 0.0)) / engine.scale
    rounding = STORED_ROUNDING * float(np.finfo(engine.dtype).eps) * shift
    tol = max(engine.n, engine.p + 1) * _EPS
    return whiten_rows(engine.root(problem.weight), penalty, fit_intercept, tol, rounding)


def feature_rank(problem: Problem) -> int:
    """Return the numerical rank of the matrix of standardised features.

    If the whitening only scales the features, the result is an upper bound on the rank: the
    number of non-constant features or, if it is smaller, the number of rows, minus 1 if there
    is an intercept.
    """
    known = problem if problem.sample is None else problem.sample
    assert problem.engine is not None
    n, no_penalty = problem.engine.n, np.zeros(problem.engine.p)
    if problem.whiten_by == "scaling":
        n_varying = int(np.count_nonzero(np.isfinite(problem.engine.scale)))
        return min(n_varying, n - int(problem.fit_intercept))
    whitening = None
    if known.gram is not None:
        whitening = whiten_gram(known.gram, no_penalty, problem.fit_intercept)
    if whitening is None:
        whitening = whiten(problem._replace(gram=None), no_penalty)
    n_variables: int = whitening.transform.shape[1]
    return n_variables - int(problem.fit_intercept)
