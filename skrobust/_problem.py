"""The problem that all targets share: units of the features, Gram matrix, sample, whitening."""

from typing import NamedTuple

import numpy as np
from sklearn.utils import assert_all_finite

from ._design import Design
from ._whitening import square_root, whiten_columns, whiten_gram, whiten_rows

_EPS = np.finfo(float).eps
# Tall X is sampled: this many rows a feature, from this many rows a feature and elements on.
_SAMPLE = 200
_TALL = 400
_MANY_ELEMENTS = 2_000_000
# Beyond this many rows, where features are more, an n × n matrix costs too much.
_MAX_WHITENED = 5_000
# Beyond this many elements singular values are those of the Gram matrix, of half the digits.
_MANY_ROWS = 20_000_000


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


def pose(design, weight, fit_intercept):
    """Choose the units of the features and the regime; one or two passes over X."""
    rng = np.random.default_rng(0)
    n, p = design.n, design.p
    probe = np.sort(rng.choice(n, min(n, 1000), replace=False, shuffle=False))
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        mean, std, score = design.moments(weight, probe)
    if not np.isfinite(mean).all():
        with np.errstate(invalid="ignore", over="ignore"):
            assert_all_finite(design.X, input_name="X", estimator_name="SmoothL1Regressor")
        if not np.isfinite(abs(design.X).max()):
            # Unseen above where scikit-learn is told to assume that there are none.
            raise ValueError("X contains NaN or infinity.")
        return pose(design.shrunk(), weight, fit_intercept)
    # Squares overflow from 1e154 on and vanish below 1e-154.
    extreme = np.flatnonzero(~((std > 1e-140) & (std < 1e140)))
    if extreme.size:
        mean[extreme], std[extreme] = design.extreme_moments(weight, extreme)
    if not fit_intercept:
        mean, std = np.zeros(p), np.hypot(mean, std)
    # The reciprocals of what is smaller overflow.
    constant = (std <= 8 * _EPS * np.abs(mean)) | (std < np.finfo(float).tiny)
    design.standardise(mean, np.where(constant, np.inf, std))
    whole = Problem(design, weight, fit_intercept)
    if score is None or n < _TALL * p or design.n_elements < _MANY_ELEMENTS:
        return with_gram(whole)
    rows, share = _sample_rows(score, weight, _SAMPLE * p, rng)
    del score
    sample = with_gram(Problem(design.take(rows), share, fit_intercept, rows=rows))
    return whole._replace(sample=sample._replace(design=None))


def with_gram(problem):
    """With the Gram matrix where it is smaller than X and affordable, and no sample."""
    design, weight = problem.design, problem.weight
    if not design.p < min(design.n, design.widest):
        return problem
    total = design.n if weight is None else weight.sum()
    return problem._replace(gram=design.gram(weight) / total, sample=None)


def _sample_rows(score, weight, m, rng):
    """Rows and weights: a quarter those of most leverage, the others at random.

    At random alone, a few rows far out would be missed and their directions stay unwhitened.
    """
    n = score.size
    leverage = score if weight is None else weight**2 * np.maximum(score, 1.0)
    drawn = rng.choice(n, m - m // 4, replace=False, shuffle=False)
    # About twice as many as wanted are above this quantile of the random rows.
    cut = np.quantile(leverage[drawn], 1.0 - 2.0 * (m // 4) / n)
    top = np.flatnonzero(leverage >= cut)
    if top.size > m // 4:
        top = top[np.argpartition(leverage[top], -(m // 4))[-(m // 4) :]]
    is_top = np.zeros(n, dtype=bool)
    is_top[top] = True
    drawn = drawn[~is_top[drawn]]
    rows = np.concatenate([top, drawn])
    share = np.ones(rows.size) if weight is None else weight[rows]
    rest = n - top.size if weight is None else weight.sum() - share[: top.size].sum()
    share[top.size :] *= rest / share[top.size :].sum()
    order = np.argsort(rows)
    return rows[order], share[order]


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
        if design.n * design.p > _MANY_ROWS:
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
