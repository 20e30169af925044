"""The problem that all targets share: units of the features, Gram matrix, sample, whitening."""

from typing import NamedTuple

import numpy as np
from sklearn.utils import assert_all_finite

from ._design import Design, ordinary, weighted_moments
from ._whitening import square_root, whiten_columns, whiten_gram, whiten_rows

_EPS = np.finfo(float).eps
# X of n ≥ _TALL p rows and _MANY_ELEMENTS elements is sampled: n / _SHARE rows, but at least
# _FEWEST p and at most _SAMPLE p.
_SHARE = 18
_FEWEST, _SAMPLE = 50, 250
_TALL = 400
_MANY_ELEMENTS = 2_000_000
# Rows that tell about where and how wide the columns are.
_PROBE = 1_000
# Beyond this many rows, where features are more, an n × n matrix costs too much.
_MAX_WHITENED = 5_000
# Beyond this many elements singular values are those of the Gram matrix, of half the digits.
_MAX_VALUES = 20_000_000


class Problem(NamedTuple):
    """The design and weights that all targets share; `gram` is the weighted mean of ZᵀZ.

    A `sample` is a smaller problem of the same kind, made of some `rows`. Its design is
    taken when a target starts, and not kept.
    """

    design: Design | None
    weight: np.ndarray | None
    fit_intercept: bool
    gram: np.ndarray | None = None
    sample: "Problem | None" = None
    rows: np.ndarray | None = None


class Survey:
    """The problem as far as the data are known; `refine` looks more closely.

    Tall X is first sampled at random, which may miss rare levels and rows of leverage; then
    by leverage, known from two passes; at last the Gram matrix of all rows is formed, as it is
    at once for other X.
    """

    def __init__(self, design, weight, fit_intercept):
        self._problems = _problems(design, weight, fit_intercept)
        self._sample = None
        self.refine()

    def refine(self):
        """Go on to the next problem; the last has no sample."""
        self.problem, self._sample, self.at_random = next(self._problems)

    def sample(self):
        """The sample with its design, which is kept for one target only."""
        sample, self._sample = self._sample, None
        if sample is None:
            whole, sample = self.problem.design, self.problem.sample
            sample = sample._replace(design=whole.take(sample.rows))
        return sample


def _problems(design, weight, fit_intercept):
    """What a Survey holds, one after the other.

    A problem, its sample with a design, and whether that was drawn at random.
    """
    n, p = design.n, design.p
    tall = design.can_sample and n >= _TALL * p and design.n_elements >= _MANY_ELEMENTS
    if tall:
        rng = np.random.default_rng(0)
        m = min(n, int(np.clip(n // _SHARE, _FEWEST * p, _SAMPLE * p)))
        rows = np.sort(rng.choice(n, m, replace=False, shuffle=False))
        share = None if weight is None else weight[rows]
        few = slice(None, None, max(1, m // _PROBE))
        with np.errstate(invalid="ignore", over="ignore"):
            mean, std = weighted_moments(
                design.take(rows[few]).X, None if share is None else share[few]
            )
        units = _units(mean, std, fit_intercept)
        if ordinary(std).all() and np.isfinite(units[1]).all():
            yield (
                *_sampled(design.standardised(*units), weight, fit_intercept, rows, share),
                True,
            )
    design = _measured(design, weight, fit_intercept)
    if tall:
        rows, share = _rows_of_leverage(design, weight, m, rng)
    if tall and rows.size:
        yield *_sampled(design, weight, fit_intercept, rows, share), False
    yield with_gram(Problem(design, weight, fit_intercept)), None, False


def pose(design, weight, fit_intercept):
    """The problem of all rows: their units and Gram matrix."""
    return with_gram(Problem(_measured(design, weight, fit_intercept), weight, fit_intercept))


def _measured(design, weight, fit_intercept):
    """The design in the units that all rows tell, where all are numbers."""
    probe: slice | np.ndarray = slice(None)
    if design.n > _PROBE:
        probe = np.sort(np.random.default_rng(0).integers(design.n, size=_PROBE))
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        mean, std = design.moments(weight, probe)
    if not np.isfinite(mean).all():
        with np.errstate(invalid="ignore", over="ignore"):
            assert_all_finite(design.X, input_name="X", estimator_name="SmoothL1Regressor")
        if not np.isfinite(abs(design.X).max()):
            # Unseen above where scikit-learn is told to assume that there are none.
            raise ValueError("X contains NaN or infinity.")
        return _measured(design.shrunk(), weight, fit_intercept)
    extreme = np.flatnonzero(~ordinary(std))
    if extreme.size:
        mean[extreme], std[extreme] = design.extreme_moments(weight, extreme)
    return design.standardised(*_units(mean, std, fit_intercept))


def _units(mean, std, fit_intercept):
    """Centre and scale of each feature; the scale is inf where it is constant."""
    if not fit_intercept:
        mean, std = np.zeros_like(mean), np.hypot(mean, std)
    # The reciprocals of what is smaller overflow.
    constant = (std <= 8 * _EPS * np.abs(mean)) | (std < np.finfo(float).tiny)
    return mean, np.where(constant, np.inf, std)


def _sampled(design, weight, fit_intercept, rows, share):
    """A problem with a sample of these rows, and the sample with its design."""
    sample = with_gram(Problem(design.take(rows), share, fit_intercept, rows=rows))
    return Problem(design, weight, fit_intercept, sample=sample._replace(design=None)), sample


def _rows_of_leverage(design, weight, m, rng):
    """About m rows and their weights: each drawn with a probability that grows with its share
    of the leverage, Σ_j z_ij², and weighted by the reciprocal.

    The Gram matrix of these rows is near that of all, whatever the tails of the features
    (M. W. Mahoney, "Randomized algorithms for matrices and data", 2011, section 4).
    """
    importance = design.squares() + 1.0
    if weight is not None:
        importance *= weight
    importance *= m / importance.sum()
    # What is certain to be drawn leaves the more for the others.
    for _ in range(10):
        certain = importance >= 1.0
        importance *= np.where(certain, 1.0, (m - certain.sum()) / importance[~certain].sum())
    rows = np.flatnonzero(rng.random(design.n) < importance)
    share = 1.0 if weight is None else weight[rows]
    return rows, share / np.minimum(importance[rows], 1.0)


def with_gram(problem):
    """With the Gram matrix where it is smaller than X and affordable."""
    design, weight = problem.design, problem.weight
    if not design.p < min(design.n, design.widest):
        return problem
    total = design.n if weight is None else weight.sum()
    return problem._replace(gram=design.gram(weight) / total)


def whiten(problem, a):
    """The whitening for ridge a, by Cholesky where that is safe, else by singular values."""
    design, weight = problem.design, problem.weight
    ridge = design.ridge(a)
    varying = np.isfinite(design.scale)
    rounding = np.abs(design.centre[varying]) / design.scale[varying]
    rounding = 4 * np.finfo(design.X.dtype).eps * rounding.max(initial=0.0)
    if problem.gram is not None:
        found = whiten_gram(problem.gram, ridge, problem.fit_intercept)
        if found is not None:
            return found
        if design.n * design.p > _MAX_VALUES:
            return whiten_rows(
                square_root(problem.gram), ridge, problem.fit_intercept, rounding
            )
    elif design.widest <= design.p < design.n or min(design.n, design.p) > _MAX_WHITENED:
        return whiten_columns(ridge, problem.fit_intercept)
    Z = design.rows(slice(None))
    if weight is not None:
        Z *= np.sqrt(weight)[:, None]
    Z /= np.sqrt(design.n if weight is None else weight.sum())
    return whiten_rows(Z, ridge, problem.fit_intercept, rounding)
