"""Grids of thresholds and penalties: checked, chosen from the data, fitted point by point."""

import warnings
from functools import cache, partial
from numbers import Real

import numpy as np
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from ._design import as_design
from ._follow import along
from ._problem import Survey, pose
from ._regressor import _check_weight
from ._scale import AUTO_CONCOMITANT, AUTO_MAD, mad, weighted_median

# A grid that is chosen here goes from a tenth of the threshold of "auto", where the fit is
# nearly one of least absolute deviations, upwards, by equal steps on both sides: to about ten
# times that, where it is one of least squares but for gross outliers.
_SPAN = 10.0
# Residuals below this part of y are those of an exact fit, and say nothing of a threshold.
_EXACT = 1e-11


def check_data(check, X, y, sample_weight):
    """X, y and weights for a fit of all points, checked by one of scikit-learn's functions."""
    if sparse.issparse(y):
        raise TypeError("y is a sparse matrix; pass a dense array, such as y.toarray().")
    options = {"accept_sparse": "csr", "multi_output": True, "y_numeric": True}
    X, y = check(X, y, dtype=[np.float64, np.float32], **options)
    return X, y, _check_weight(sample_weight, X)


def check_grid(name, values, zero=True, word=None):
    """The values as a list of floats, in which a word may stand."""
    values = list(values)
    if not values:
        raise ValueError(f"{name} is empty; give at least one value.")
    for i, value in enumerate(values):
        if word is not None and isinstance(value, str) and value == word:
            continue
        number = float(value) if isinstance(value, Real) else np.nan
        if not (0 < number < np.inf or (zero and number == 0)):
            allowed = f"a finite number {'≥' if zero else '>'} 0"
            allowed += f" or {word!r}" if word else ""
            raise ValueError(f"{name}[{i}] must be {allowed}, got {value!r}.")
        values[i] = number
    return values


def default_betas(n, model, X, y, weight):
    """n thresholds that rise geometrically, with that of "auto" at place n // 2.

    They are in the units of `model.scale`; with None in those of y, from the residuals of
    the model at its penalty, averaged over the targets.
    """
    steps = _SPAN ** ((np.arange(n) - n // 2) / max(n // 2, 1))
    if model.scale == "concomitant":
        return 1.0 + (AUTO_CONCOMITANT - 1.0) * steps
    if model.scale == "mad":
        return AUTO_MAD * steps
    scales = np.ravel(clone(model).fit(X, y, weight).scale_)
    columns = zip(y.reshape(y.shape[0], -1).T.astype(np.float64), scales, strict=True)
    sizes = [_size(column, scale, weight) for column, scale in columns]
    return AUTO_MAD * np.exp(np.mean(np.log(sizes))) * steps


def _size(y, scale, weight):
    """The scale of the residuals or, if the fit is exact, that of y."""
    left = y - weighted_median(y, weight)
    mean = np.average(np.abs(left), weights=weight)
    sizes = (scale, mad(left, weight), mean)
    return next((size for size in sizes if size > _EXACT * mean > 0), 1.0)


def fits(team, X, y, weight, fit_intercept, tasks):
    """Minimise at every task; yields its index and a Stage for each target.

    Rows of weight zero take no part. As long as they are the fewer, X is not copied.
    """
    if weight is not None and np.count_nonzero(weight) < weight.size / 2:
        X, y, weight = _positive(X, y, weight)
    whole = pose(as_design(X, team), weight, fit_intercept)

    @cache
    def others():
        if weight is None or weight.all():
            return Survey(as_design(X, team), weight, fit_intercept), slice(None)
        X_used, _, part = _positive(X, y, weight)
        return Survey(as_design(X_used, team), part, fit_intercept), weight > 0

    def instead(target):
        survey, rows = others()
        return survey, target[rows]

    targets = np.ascontiguousarray(y.reshape(y.shape[0], -1).T, dtype=np.float64)
    walks = [along(whole, target, tasks, partial(instead, target)) for target in targets]
    for found in zip(*walks, strict=True):
        yield found[0][0], [stage for _, stage in found]


def _positive(X, y, weight):
    """The rows of positive weight, and None for weights that are all the same."""
    rows = np.flatnonzero(weight)
    weight = weight[rows]
    return X[rows], y[rows], None if np.ptp(weight) == 0 else weight


def warn_unless_converged(name, found, tol, max_iter, stacklevel):
    """One warning for all the fits of a grid, given the Stage of each."""
    missed = [stage for stage in found if not stage.converged]
    if missed:
        worst = max(missed, key=lambda stage: stage.norm)
        warnings.warn(
            f"{len(missed)} of {len(found)} fits of {name} did not converge ({worst.message}): "
            f"the whitened gradient norm is up to {worst.norm:.2g}, tol={tol:.2g}. Increase "
            f"max_iter (now {max_iter}) or tol, or try larger betas or alphas.",
            ConvergenceWarning,
            stacklevel=stacklevel,
        )
