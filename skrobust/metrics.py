"""Smooth L1 and Huber losses as regression metrics, with scikit-learn's conventions.

They score a model by the loss that it was fitted with, and work wherever scikit-learn
takes a metric: :func:`sklearn.metrics.make_scorer` turns each into a scorer.
"""

import warnings
from bisect import bisect_left
from collections.abc import Callable
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from .losses import as_float, huber, huber_gradient, smooth_l1

__all__ = ["d2_smooth_l1_score", "mean_huber_loss", "mean_smooth_l1_loss"]

_CONSTRAINTS = {
    "y_true": ["array-like"],
    "y_pred": ["array-like"],
    "sample_weight": ["array-like", None],
    "multioutput": [StrOptions({"raw_values", "uniform_average"}), "array-like"],
}
# closed="both" includes infinity, where the losses have their least-squares limit.
_THRESHOLD = [Interval(Real, 0, None, closed="both")]


@validate_params(_CONSTRAINTS | {"beta": _THRESHOLD}, prefer_skip_nested_validation=True)
def mean_smooth_l1_loss(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    multioutput: str | ArrayLike = "uniform_average",
    beta: float = 1.0,
) -> float | NDArray[np.float64]:
    r"""Mean Smooth L1 loss of predictions; the best value is 0.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_outputs)
        True targets. They and the predictions are compared in float64.

    y_pred : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Predicted targets.

    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the samples, ≥ 0 and not all 0. A common factor changes nothing.

    multioutput : {"raw_values", "uniform_average"} or array-like, default="uniform_average"
        How the losses of several outputs are returned: one by one, as their mean, or as
        their average with weights of shape (n_outputs,).

    beta : float, default=1.0
        Threshold β ≥ 0 in units of y. 0 gives the mean absolute error.

    Returns
    -------
    loss : float or ndarray of shape (n_outputs,)
        The loss in units of y; an array for ``multioutput="raw_values"``.

    Raises
    ------
    ValueError
        If the data is not finite or not made of real numbers, its shapes do not match, or a
        parameter is out of range.

    See Also
    --------
    mean_huber_loss : The same loss times its threshold.
    d2_smooth_l1_score : The share of this loss that a model explains.

    Notes
    -----
    With weights :math:`s_i` and :math:`\ell_\beta` of :func:`skrobust.losses.smooth_l1`,

    .. math:: \frac{1}{\sum_i s_i} \sum_i s_i\, \ell_\beta(y_i - \hat y_i)

    With every weight 1 this is PyTorch's ``SmoothL1Loss(beta=beta)`` of two vectors, the loss
    of [1]_.

    References
    ----------
    .. [1] R. Girshick, "Fast R-CNN", ICCV 2015, eq. (3). :arxiv:`1504.08083`

    Examples
    --------
    >>> from skrobust.metrics import mean_smooth_l1_loss
    >>> mean_smooth_l1_loss([3.0, -0.5, 2.0, 7.0], [2.5, 0.0, 2.0, 10.0], beta=2.0)
    0.53125

    As a scorer, negated because a higher score is the better one:

    >>> from sklearn.dummy import DummyRegressor
    >>> from sklearn.metrics import make_scorer
    >>> scorer = make_scorer(mean_smooth_l1_loss, greater_is_better=False, beta=2.0)
    >>> X, y = [[0.0], [0.0]], [-3.0, 3.0]
    >>> scorer(DummyRegressor().fit(X, y), X, y)
    -2.0
    """
    beta = as_float("beta", beta)
    return _mean_loss(smooth_l1, beta, y_true, y_pred, sample_weight, multioutput)


@validate_params(_CONSTRAINTS | {"delta": _THRESHOLD}, prefer_skip_nested_validation=True)
def mean_huber_loss(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    multioutput: str | ArrayLike = "uniform_average",
    delta: float = 1.0,
) -> float | NDArray[np.float64]:
    r"""Mean Huber loss of predictions; the best value is 0.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_outputs)
        True targets. They and the predictions are compared in float64.

    y_pred : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Predicted targets.

    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the samples, ≥ 0 and not all 0. A common factor changes nothing.

    multioutput : {"raw_values", "uniform_average"} or array-like, default="uniform_average"
        How the losses of several outputs are returned: one by one, as their mean, or as
        their average with weights of shape (n_outputs,).

    delta : float, default=1.0
        Threshold δ ≥ 0 in units of y. Infinity gives half the mean squared error.

    Returns
    -------
    loss : float or ndarray of shape (n_outputs,)
        The loss in squared units of y; an array for ``multioutput="raw_values"``.

    Raises
    ------
    ValueError
        If the data is not finite or not made of real numbers, its shapes do not match, or a
        parameter is out of range.

    See Also
    --------
    mean_smooth_l1_loss : The same loss divided by its threshold.

    Notes
    -----
    With weights :math:`s_i` and :math:`h_\delta` of :func:`skrobust.losses.huber`,

    .. math:: \frac{1}{\sum_i s_i} \sum_i s_i\, h_\delta(y_i - \hat y_i)

    With every weight 1 this is PyTorch's ``HuberLoss(delta=delta)`` and Keras'
    ``Huber(delta=delta)`` of two vectors, the loss of [1]_.

    References
    ----------
    .. [1] P. J. Huber, "Robust Estimation of a Location Parameter", Annals of
           Mathematical Statistics 35 (1964). :doi:`10.1214/aoms/1177703732`

    Examples
    --------
    >>> from skrobust.metrics import mean_huber_loss
    >>> mean_huber_loss([3.0, -0.5, 2.0, 7.0], [2.5, 0.0, 2.0, 10.0], delta=2.0)
    1.0625
    >>> y_true = [[0.0, 1.0], [0.0, 0.0]]
    >>> mean_huber_loss(y_true, [[1.0, 4.0], [1.0, 3.0]], multioutput="raw_values")
    array([0.5, 2.5])
    """
    delta = as_float("delta", delta)
    return _mean_loss(huber, delta, y_true, y_pred, sample_weight, multioutput)


@validate_params(_CONSTRAINTS | {"beta": _THRESHOLD}, prefer_skip_nested_validation=True)
def d2_smooth_l1_score(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    multioutput: str | ArrayLike = "uniform_average",
    beta: float = 1.0,
) -> float | NDArray[np.float64]:
    r"""D², the fraction of the Smooth L1 loss explained; the best value is 1.

    The best constant prediction scores 0 and a model that is worse scores less. It is also
    the fraction of the Huber loss explained, since the factor β cancels.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_outputs)
        True targets. They and the predictions are compared in float64.

    y_pred : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Predicted targets.

    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the samples, ≥ 0 and not all 0. A common factor changes nothing.

    multioutput : {"raw_values", "uniform_average"} or array-like, default="uniform_average"
        How the scores of several outputs are returned: one by one, as their mean, or as
        their average with weights of shape (n_outputs,).

    beta : float, default=1.0
        Threshold β ≥ 0 in units of y. 0 gives
        :func:`~sklearn.metrics.d2_absolute_error_score`, infinity
        :func:`~sklearn.metrics.r2_score`.

    Returns
    -------
    score : float or ndarray of shape (n_outputs,)
        The score, without a unit; an array for ``multioutput="raw_values"``. NaN for
        fewer than two samples of positive weight. If `y_true` is constant, 1 for perfect
        predictions and 0 for all others, as in scikit-learn.

    Raises
    ------
    ValueError
        If the data is not finite or not made of real numbers, its shapes do not match, or a
        parameter is out of range.

    Warns
    -----
    UndefinedMetricWarning
        If there are fewer than two samples of positive weight.

    See Also
    --------
    mean_smooth_l1_loss : The loss of which this is a fraction.

    Notes
    -----
    With weights :math:`s_i` and :math:`\ell_\beta` of :func:`skrobust.losses.smooth_l1`,

    .. math::
        D^2 = 1 - \frac{\sum_i s_i\, \ell_\beta(y_i - \hat y_i)}
                        {\min_c \sum_i s_i\, \ell_\beta(y_i - c)}

    which is [1]_ with this loss. The minimising constant c is the Huber location of y at
    a fixed threshold; it is exact to rounding, whatever the units.

    References
    ----------
    .. [1] T. Hastie, R. Tibshirani and M. Wainwright, "Statistical Learning with
           Sparsity", 2015, eq. (3.11). https://hastie.su.domains/StatLearnSparsity/

    Examples
    --------
    >>> from skrobust.metrics import d2_smooth_l1_score
    >>> y_true = [1.0, 2.0, 3.0]
    >>> d2_smooth_l1_score(y_true, [1.0, 2.0, 3.0])
    1.0
    >>> d2_smooth_l1_score(y_true, [2.0, 2.0, 2.0])
    0.0
    >>> d2_smooth_l1_score(y_true, [1.0, 2.5, 3.0])
    0.875
    """
    targets, predictions, weights, multioutput = _check_targets(
        y_true, y_pred, sample_weight, multioutput
    )
    if len(targets) < 2:
        message = "D² is not well-defined with fewer than two samples."
        warnings.warn(message, UndefinedMetricWarning, stacklevel=3)
        return float("nan")
    beta = as_float("beta", beta)
    columns = zip(targets.T, predictions.T, strict=True)
    with np.errstate(over="ignore"):
        scores = np.array([_d2(true, pred, weights, beta) for true, pred in columns])
    return _combine(scores, multioutput)


def _mean_loss(
    loss: Callable, threshold: float, y_true, y_pred, sample_weight, multioutput
) -> float | NDArray[np.float64]:
    """Return the weighted mean of an elementwise loss, averaged over outputs as asked."""
    y_true, y_pred, weights, multioutput = _check_targets(
        y_true, y_pred, sample_weight, multioutput
    )
    with np.errstate(over="ignore"):  # a loss beyond the range of floats is inf
        losses = np.average(loss(y_true - y_pred, threshold), weights=weights, axis=0)
    return _combine(losses, multioutput)


def _d2(y_true: np.ndarray, y_pred: np.ndarray, weights: np.ndarray, beta: float) -> float:
    """Return the score of one output."""
    if np.array_equal(y_true, y_pred):
        return 1.0
    # The score has no unit, so it may be computed in any: in this one, an exact power of
    # 2, the largest target is about 1. No square of it can over- or underflow, and a
    # threshold or a prediction that becomes 0 or inf was as good as that before.
    unit = np.frexp(np.abs(y_true).max())[1]
    y_true, y_pred, beta = (np.ldexp(a, -unit) for a in (y_true, y_pred, beta))

    # The ratio of these losses, β, cancels in the score; each is well scaled on its side.
    loss = smooth_l1 if beta < 1 else huber
    error = np.sum(weights * loss(y_true - y_pred, beta))
    null_error = np.sum(weights * loss(_centred(y_true, weights, beta), beta))
    return 1.0 - error / null_error if null_error > 0 else 0.0


def _centred(y: np.ndarray, weights: np.ndarray, beta: float) -> np.ndarray:
    """Return y minus the constant of least Smooth L1 loss, for positive weights.

    The slope of the total loss in the constant c, Σ s_i h'_β(c − y_i), never decreases and
    is linear between the points y_i ± β. Bisection over these, sorted, finds the two
    between which it crosses 0, and linear interpolation the root.
    """
    # An offset of y, however large, then costs no digits.
    y = y - np.median(y)
    # Above the range of y every residual is inside the threshold, and y ± β would only
    # lose the digits of y. Below 1e-150 (y is about 1) nothing changes down to β = 0,
    # where the slope in use here, of β times the loss, would vanish.
    beta = np.clip(beta, 1e-150, np.ptp(y))

    def slope(constant: float) -> float:
        return np.sum(weights * huber_gradient(constant - y, beta))

    def total_loss(constant: float) -> float:
        return np.sum(weights * smooth_l1(constant - y, beta))

    # Rounded sums of non-decreasing terms are non-decreasing as well: bisection is safe.
    points = np.sort(np.concatenate([y - beta, y + beta]))
    right = bisect_left(points, 0.0, key=slope)
    low, high = points[max(right - 1, 0)], points[right]
    slope_low, slope_high = slope(low), slope(high)
    root = high
    if slope_low < 0 < slope_high:
        root -= (high - low) * (slope_high / (slope_high - slope_low))
    # For a β so small that y ± β rounds to y, the slope jumps at the points instead, and
    # the minimum is at one of them.
    return y - min((root, low, high), key=total_loss)


def _check_targets(y_true, y_pred, sample_weight, multioutput):
    """Return targets and predictions of shape (n_samples, n_outputs), weights, multioutput.

    Rows of weight 0 are checked and then left out. scikit-learn's own `_check_reg_targets`
    is private and has another signature in each version.
    """
    y_true, y_pred = (
        check_array(y, ensure_2d=False, dtype=np.float64, input_name=name)
        for name, y in (("y_true", y_true), ("y_pred", y_pred))
    )
    n_samples = len(y_true)
    y_true, y_pred = y_true.reshape(n_samples, -1), y_pred.reshape(len(y_pred), -1)
    if y_true.shape != y_pred.shape:
        raise ValueError(
            "y_true and y_pred must have the same numbers of samples and outputs, got "
            f"{y_true.shape} and {y_pred.shape}"
        )
    if sample_weight is None:
        weights = np.ones(n_samples)
    else:
        weights = _check_weights(sample_weight, "sample_weight", n_samples)
    if not isinstance(multioutput, str):
        n_outputs = y_true.shape[1]
        if n_outputs == 1:
            raise ValueError(
                f"multioutput={multioutput!r} weights several outputs, but there is one"
            )
        multioutput = _check_weights(multioutput, "multioutput", n_outputs)
    present = weights > 0
    return y_true[present], y_pred[present], weights[present], multioutput


def _check_weights(weights, name: str, size: int) -> np.ndarray:
    """Return weights with a largest value in [0.5, 1): a common factor changes nothing."""
    weights = check_array(weights, ensure_2d=False, dtype=np.float64, input_name=name)
    if weights.shape != (size,):
        raise ValueError(f"{name} must have shape ({size},), got {weights.shape}")
    if weights.min() < 0:
        raise ValueError(f"{name} must be ≥ 0, got {weights.min()}")
    if weights.max() == 0:
        raise ValueError(f"{name} must not be all 0, got {weights!r}")
    # A power of 2 is exact, and no weight is then too large or too small to be summed.
    return np.ldexp(weights, -np.frexp(weights.max())[1])


def _combine(values: np.ndarray, multioutput) -> float | NDArray[np.float64]:
    """Return the values of all outputs or, as a float, their average."""
    if isinstance(multioutput, str):
        return values if multioutput == "raw_values" else float(np.mean(values))
    return float(np.average(values, weights=multioutput))
