"""smooth_l1_path: the coefficients at a sequence of thresholds or penalties."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, validate_params
from sklearn.utils.validation import check_X_y

from ._array_api import as_numpy
from ._attributes import documented_objective
from ._engines.threads import ThreadTeam, single_threaded_blas
from ._fit import StageResult
from ._grid import (
    LARGEST_PENALTY_TOL,
    Convergence,
    alpha_grid,
    check_grid,
    default_betas,
    fit_grid,
    warn_unless_converged,
)
from ._lazy_data import require_in_memory
from ._regressor import SmoothL1Regressor
from ._spec import fit_spec
from ._validation import check_data, check_penalty_weights, excluded_features

_PENALTY = ("alpha", "l1_ratio", "positive", "penalty_weights")
_SHARED = ("beta", "loss", "scale", *_PENALTY, "fit_intercept", "solver", "max_iter", "tol")


class Path(NamedTuple):
    """Result of `smooth_l1_path`: the grid, and four arrays of results at the grid points."""

    grid: np.ndarray
    coefs: np.ndarray
    intercepts: np.ndarray
    objectives: np.ndarray
    n_iters: np.ndarray


@validate_params(
    {
        # X and y are not listed: they are validated in the function, whose error messages name
        # them.
        "betas": [Interval(Integral, 1, None, closed="left"), "array-like", None],
        "alphas": [Interval(Integral, 1, None, closed="left"), "array-like", None],
        "sample_weight": ["array-like", None],
        **{name: SmoothL1Regressor._parameter_constraints[name] for name in _SHARED},
    },
    prefer_skip_nested_validation=True,
)
def smooth_l1_path(
    X,
    y,
    *,
    betas=None,
    alphas=None,
    beta="auto",
    alpha=0.0,
    l1_ratio=0.0,
    positive=False,
    penalty_weights=None,
    loss="smooth_l1",
    scale=None,
    fit_intercept=True,
    sample_weight=None,
    solver="auto",
    max_iter=1000,
    tol=1e-8,
):
    """Compute the coefficients at a sequence of thresholds or penalties.

    Each fit minimises the objective of :class:`SmoothL1Regressor`. It starts from the previous
    solution, takes about one pass over X if X has many more rows than columns, and reaches the
    same tolerance as a fit of :class:`SmoothL1Regressor`. If X is very wide (sparse with at
    least 200 columns, or dense with a rank above 2,000), each fit takes more passes. Fits
    with neither an L1 penalty nor ``positive=True`` do not use the previous solution on a path
    over `alphas`. Such fits also do not use it if X is sparse and very wide, or dense with more
    than 5,000 rows and at least 5,000 columns.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Training data. Arrays and CSR matrices of dtype float64 or float32 are not converted.

    y : array-like of shape (n_samples,) or (n_samples, n_targets)
        Target values. The path of each target is computed independently.

    betas : int or array-like of shape (n_points,), default=None
        Thresholds at which to compute the path, in any order, or the number of thresholds in a
        default grid. The default grid contains the threshold of ``beta="auto"`` and is
        geometrically spaced from a tenth of this threshold to about ten times this threshold.
        With ``scale="concomitant"``, the excesses of the thresholds over 1 are spaced in this
        way instead. If neither `betas` nor `alphas` is given, the grid has 20 thresholds.

    alphas : int or array-like of shape (n_points,), default=None
        Values of `alpha` at which to compute the path, in any order, or the number of values in
        a default grid. `alphas` and `betas` cannot be combined. The default grid requires
        ``l1_ratio > 0``. It is geometrically spaced from the smallest `alpha` for which all
        penalised coefficients are zero down to 0.001 times this value (0.01 times this value if
        there are more features than rows).

    beta : float or "auto", default="auto"
        Threshold at which the loss changes from quadratic to linear, for a path over `alphas`.

    alpha : float, default=0.0
        Constant that multiplies the penalty on the coefficients, for a path over `betas`. Must
        be non-negative; ``alpha=0`` means no penalty. Use ``loss="huber"`` with a penalty: with
        "smooth_l1", as beta increases, the loss decreases and the penalty does not, so the
        penalty dominates the objective at large thresholds.

    l1_ratio : float, default=0.0
        Elastic-net mixing parameter, between 0 and 1, as in :class:`SmoothL1Regressor`.

    positive : bool, default=False
        Whether to constrain the coefficients to be non-negative.

    penalty_weights : array-like of shape (n_features,), default=None
        Factor that multiplies the penalty of each feature, as in :class:`SmoothL1Regressor`.

    loss : {"smooth_l1", "huber"}, default="smooth_l1"
        Loss function, as in :class:`SmoothL1Regressor`.

    scale : {"mad", "concomitant"} or None, default=None
        Estimator of the residual scale, which is the unit of the thresholds, as in
        :class:`SmoothL1Regressor`. With None, the thresholds are in units of y.

    fit_intercept : bool, default=True
        Whether to fit an intercept. If False, no intercept is used and the data are expected to
        be centred.

    sample_weight : array-like of shape (n_samples,), default=None
        Weight of each row. Weights must be non-negative and not all zero. If None, all rows
        have the same weight.

    solver : {"auto", "lbfgs", "newton"}, default="auto"
        Algorithm that minimises the objective, as in :class:`SmoothL1Regressor`. With "auto",
        each fit reuses sums over the rows that were computed for the previous fit. With "lbfgs"
        and "newton", each fit uses only the previous solution, as its starting point.

    max_iter : int, default=1000
        Maximum number of iterations of each fit.

    tol : float, default=1e-8
        Tolerance for the stopping criterion, as in :class:`SmoothL1Regressor`.

    Returns
    -------
    grid : ndarray of shape (n_points,)
        Thresholds or penalties in decreasing order.

    coefs : ndarray of shape (n_features, n_points) or (n_targets, n_features, n_points)
        Coefficients at each point of the path, in the dtype of X.

    intercepts : ndarray of shape (n_points,) or (n_targets, n_points)
        Intercept at each point of the path, in float64.

    objectives : ndarray of shape (n_points,) or (n_targets, n_points)
        Value of the objective at each point of the path, including the penalty.

    n_iters : ndarray of shape (n_points,) or (n_targets, n_points)
        Number of iterations of each fit, at least 1. The five arrays are returned as a named
        tuple.

    Raises
    ------
    ValueError
        If both `betas` and `alphas` are given; if a threshold or a penalty is out of range,
        such as ``beta <= 1`` with ``scale="concomitant"``; if the data contain NaN or infinity;
        or if a weight is negative or all weights are zero.

    TypeError
        If y is sparse.

    Warns
    -----
    ConvergenceWarning
        If any fit does not reach `tol`.

    See Also
    --------
    SmoothL1RegressorCV : Selection of the threshold by cross-validation.
    sklearn.linear_model.lasso_path : Regularisation path of the lasso.

    Notes
    -----
    Without a penalty, the minimiser is a piecewise linear function of the threshold, with a
    breakpoint at each threshold that equals the absolute residual of a row [1]_. The fit at
    each grid point starts from a linear extrapolation of the previous minimiser.

    References
    ----------
    .. [1] K. Madsen and H. B. Nielsen, "A finite smoothing algorithm for linear l1
           estimation", SIAM Journal on Optimization 3, 1993.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust import smooth_l1_path
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2))
    >>> y = X @ [3.0, 2.0] + rng.normal(size=200)
    >>> y[:20] += 100 * X[:20, 0]
    >>> path = smooth_l1_path(X, y, betas=[1, 10, 100])
    >>> path.grid
    array([100.,  10.,   1.])
    >>> path.coefs.round(1)
    array([[8.7, 3.7, 3. ],
           [4.4, 2.3, 2.1]])
    """
    require_in_memory("smooth_l1_path", "search", X=X, y=y, sample_weight=sample_weight)
    if betas is not None and alphas is not None:
        raise ValueError(
            "Only one of betas and alphas can be given, got both; pass the parameter that is "
            "fixed along the path as a single number, beta or alpha."
        )
    common = {"loss": loss, "scale": scale, "fit_intercept": fit_intercept}
    common |= {"solver": solver, "max_iter": max_iter, "tol": tol}
    common |= {
        "l1_ratio": l1_ratio,
        "positive": positive,
        "penalty_weights": penalty_weights,
    }
    model = SmoothL1Regressor(alpha=alpha, **common)
    (X, y, sample_weight), convert = as_numpy(X=X, y=y, sample_weight=sample_weight)
    check = partial(check_X_y, estimator="smooth_l1_path")
    X, y, weight = check_data(check, X, y, sample_weight)
    weights_of_penalty = check_penalty_weights(penalty_weights, X.shape[1])
    is_default_grid = isinstance(alphas, Integral)
    if is_default_grid:
        alphas = alpha_grid(int(alphas), SmoothL1Regressor(beta, **common), X, y, weight)
    if alphas is not None:
        grid = sorted(check_grid("alphas", alphas), reverse=True)
        points = [(beta, value) for value in grid]
    else:
        if betas is None or isinstance(betas, Integral):
            betas = default_betas(20 if betas is None else int(betas), model, X, y, weight)
        grid = sorted(check_grid("betas", betas, zero=False), reverse=True)
        points = [(value, alpha) for value in grid]
    models = [SmoothL1Regressor(beta, alpha=alpha, **common) for beta, alpha in points]
    specs = [fit_spec(model).with_penalty_weights(weights_of_penalty) for model in models]
    if is_default_grid:
        specs[0] = specs[0]._replace(tol=min(tol, LARGEST_PENALTY_TOL))
    excluded = excluded_features(weights_of_penalty)
    with single_threaded_blas(), ThreadTeam() as team:
        results = dict(fit_grid(team, X, y, weight, fit_intercept, specs, solver, excluded))
    reached = [
        Convergence.of(result, spec) for i, spec in enumerate(specs) for result in results[i]
    ]
    if is_default_grid:
        # The fits at the first grid point use a smaller tolerance than `tol`, but also count
        # as converged if their relative gap is at most `tol`.
        n_targets = len(results[0])
        reached[:n_targets] = [first.within(tol) for first in reached[:n_targets]]
    warn_unless_converged("smooth_l1_path", reached, tol, max_iter, stacklevel=4)

    def along_path(value: Callable[[int, StageResult], Any]) -> NDArray[Any]:
        values = [[value(i, result) for result in results[i]] for i in range(len(grid))]
        per_target = np.moveaxis(np.array(values), 0, -1)
        return per_target[0] if y.ndim == 1 else per_target

    arrays = (
        np.array(grid),
        along_path(lambda i, result: result.coef).astype(X.dtype),
        along_path(lambda i, result: result.intercept),
        along_path(lambda i, result: documented_objective(result, specs[i])[0]),
        along_path(lambda i, result: max(1, result.n_iter)),
    )
    return Path(*map(convert, arrays))
