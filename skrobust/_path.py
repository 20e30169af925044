"""smooth_l1_path: the coefficients along thresholds or penalties."""

from functools import partial
from numbers import Integral
from typing import NamedTuple

import numpy as np
from sklearn.utils._param_validation import Interval, validate_params
from sklearn.utils.validation import check_X_y

from ._grid import check_data, check_grid, default_betas, fits, warn_unless_converged
from ._regressor import SmoothL1Regressor
from ._threads import Team, single_threaded_blas

_SHARED = ("beta", "loss", "scale", "alpha", "fit_intercept", "max_iter", "tol")


class Path(NamedTuple):
    """What `smooth_l1_path` returns; a tuple, as the paths of scikit-learn are."""

    grid: np.ndarray
    coefs: np.ndarray
    intercepts: np.ndarray
    objectives: np.ndarray
    n_iters: np.ndarray


@validate_params(
    {
        # X and y are checked with the names of the parameters in the messages below.
        "betas": [Interval(Integral, 1, None, closed="left"), "array-like", None],
        "alphas": ["array-like", None],
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
    loss="smooth_l1",
    scale=None,
    fit_intercept=True,
    sample_weight=None,
    max_iter=1000,
    tol=1e-8,
):
    """Minimise the Smooth L1 or Huber objective along thresholds or penalties.

    The objective is that of :class:`SmoothL1Regressor`. Each fit is as exact as one on its
    own; it starts from the one before, and on tall X costs about one pass over X. Only very
    wide X (sparse from 200 columns on, dense of rank above 2,000) is fitted point by point.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Features; float64, float32 and CSR are used as they are.

    y : array-like of shape (n_samples,) or (n_samples, n_targets)
        Targets; each column has a path of its own.

    betas : int or array-like of shape (n_points,), default=None
        The thresholds to go along, in any order, or their number: then they are chosen
        as those of :class:`SmoothL1RegressorCV`. 20 if neither `betas` nor `alphas` is
        given.

    alphas : array-like of shape (n_points,), default=None
        The penalties to go along, in any order, instead of thresholds.

    beta : float or "auto", default="auto"
        The threshold along `alphas`.

    alpha : float, default=0.0
        The penalty along `betas`. The data term of loss="smooth_l1" shrinks as beta grows,
        so that a penalty of the same alpha takes over: with ``alpha > 0`` use
        loss="huber".

    loss : {"smooth_l1", "huber"}, default="smooth_l1"
        As in :class:`SmoothL1Regressor`.

    scale : {"mad", "concomitant"} or None, default=None
        The unit of the thresholds, as in :class:`SmoothL1Regressor`: None for that of y.

    fit_intercept : bool, default=True
        Whether to fit an intercept.

    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weights.

    max_iter : int, default=1000
        Most iterations of each fit.

    tol : float, default=1e-8
        Where each fit stops, as in :class:`SmoothL1Regressor`.

    Returns
    -------
    grid : ndarray of shape (n_points,)
        The thresholds or penalties, largest first.

    coefs : ndarray of shape (n_features, n_points) or (n_targets, n_features, n_points)
        Coefficients along the path, of the dtype of X.

    intercepts : ndarray of shape (n_points,) or (n_targets, n_points)
        Intercepts, float64.

    objectives : ndarray of shape (n_points,) or (n_targets, n_points)
        The minimum of the objective, penalty included.

    n_iters : ndarray of shape (n_points,) or (n_targets, n_points)
        Iterations of each fit. The five are also attributes of the tuple.

    Raises
    ------
    ValueError
        If both `betas` and `alphas` are given, a value of theirs is out of its range (also
        ``beta <= 1`` with scale="concomitant"), the data are not finite, a weight is negative
        or none is positive.

    TypeError
        If y is sparse.

    Warns
    -----
    ConvergenceWarning
        If fits did not reach `tol`.

    See Also
    --------
    SmoothL1RegressorCV : The point of a grid with the best score.
    sklearn.linear_model.lasso_path : The path of another penalty.

    Notes
    -----
    As a threshold in units of y falls, the minimiser moves along straight pieces, from one
    threshold at which a row comes to it to the next [1]_. The fit at the next point of the grid
    starts where the piece leads.

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
    if betas is not None and alphas is not None:
        raise ValueError(
            "betas and alphas are both given; give one of them, and the other as a single "
            "number, beta or alpha."
        )
    common = {"loss": loss, "scale": scale, "fit_intercept": fit_intercept}
    common |= {"max_iter": max_iter, "tol": tol}
    model = SmoothL1Regressor(alpha=alpha, **common)
    check = partial(check_X_y, estimator="smooth_l1_path")
    X, y, weight = check_data(check, X, y, sample_weight)
    if alphas is not None:
        grid = sorted(check_grid("alphas", alphas), reverse=True)
        points = [(beta, value) for value in grid]
    else:
        if betas is None or isinstance(betas, Integral):
            betas = default_betas(20 if betas is None else betas, model, X, y, weight)
        grid = sorted(check_grid("betas", betas, zero=False), reverse=True)
        points = [(value, alpha) for value in grid]
    models = [SmoothL1Regressor(beta, alpha=alpha, **common) for beta, alpha in points]
    tasks = [model._task() for model in models]
    with single_threaded_blas(), Team() as team:
        found = dict(fits(team, X, y, weight, fit_intercept, tasks))
    stages = [stage for i in range(len(grid)) for stage in found[i]]
    warn_unless_converged("smooth_l1_path", stages, tol, max_iter, stacklevel=4)

    def along(value):
        values = [[value(i, stage) for stage in found[i]] for i in range(len(grid))]
        per_target = np.moveaxis(np.array(values), 0, -1)
        return per_target[0] if y.ndim == 1 else per_target

    return Path(
        np.array(grid),
        along(lambda i, stage: stage.coef).astype(X.dtype),
        along(lambda i, stage: stage.intercept),
        along(lambda i, stage: models[i]._value(stage, tasks[i])[0]),
        along(lambda i, stage: max(1, stage.n_iter)),
    )
