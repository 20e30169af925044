"""Regression metrics for the Smooth L1 and Huber losses, following scikit-learn's conventions.

The metrics evaluate a model by the loss that it was fitted to minimise. They can be used
wherever scikit-learn accepts a metric; :func:`sklearn.metrics.make_scorer` turns them into
scorers.
"""

import warnings
from bisect import bisect_left
from collections.abc import Callable
from functools import wraps
from numbers import Real
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from ._array_api import through_numpy
from ._lazy_data import require_in_memory
from .losses import ArrayOrScalar, as_float, huber, huber_gradient, smooth_l1

__all__ = ["d2_smooth_l1_score", "mean_huber_loss", "mean_smooth_l1_loss"]

Floats: TypeAlias = NDArray[np.float64]
_Metric = TypeVar("_Metric", bound=Callable[..., Any])

_COMMON_CONSTRAINTS = {
    "y_true": ["array-like"],
    "y_pred": ["array-like"],
    "sample_weight": ["array-like", None],
    "multioutput": [StrOptions({"raw_values", "uniform_average"}), "array-like"],
}
# An infinite threshold is allowed; the metrics then equal their limits for β → ∞.
_THRESHOLD_CONSTRAINT = [Interval(Real, 0, None, closed="both")]


def _validate_parameters(threshold_name: str) -> Callable[[_Metric], _Metric]:
    """Return a decorator that validates the parameters of a metric."""
    validate: Callable[[_Metric], _Metric] = validate_params(
        {**_COMMON_CONSTRAINTS, threshold_name: _THRESHOLD_CONSTRAINT},
        prefer_skip_nested_validation=True,
    )

    def decorator(metric: _Metric) -> _Metric:
        validated = validate(metric)

        @through_numpy("y_true", "y_pred", "sample_weight", "multioutput")
        @wraps(validated)
        def in_memory(*args: Any, **kwargs: Any) -> Any:
            data = dict(zip(("y_true", "y_pred"), args, strict=False)) | kwargs
            require_in_memory(metric.__name__, "metric", **data)
            return validated(*args, **kwargs)

        return cast(_Metric, in_memory)

    return decorator


@_validate_parameters("beta")
def mean_smooth_l1_loss(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    multioutput: str | ArrayLike = "uniform_average",
    beta: float = 1.0,
) -> float | Floats:
    r"""Mean Smooth L1 loss; the best possible value is 0.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_outputs)
        True targets. Targets and predictions are converted to float64.

    y_pred : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Predicted targets.

    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights, non-negative and not all zero. Rescaling all weights has no effect.

    multioutput : {"raw_values", "uniform_average"} or array-like, default="uniform_average"
        How the losses of several outputs are aggregated: "raw_values" returns one loss per
        output, "uniform_average" returns their mean, and an array of shape (n_outputs,) gives
        the weights of a weighted mean.

    beta : float, default=1.0
        Threshold β ≥ 0 in the units of y. With ``beta=0`` the loss is the mean absolute error.

    Returns
    -------
    loss : float or ndarray of shape (n_outputs,)
        Loss in the units of y; a float64 array if ``multioutput="raw_values"``.

    Raises
    ------
    ValueError
        If the data contain NaN, infinity or values that are not real numbers, if their
        shapes do not match, or if a parameter is out of range.

    See Also
    --------
    mean_huber_loss : This loss multiplied by its threshold.
    d2_smooth_l1_score : Fraction of this loss explained by a model.

    Notes
    -----
    With sample weights :math:`s_i` and the loss :math:`\ell_\beta` of
    :func:`skrobust.losses.smooth_l1`, the metric is

    .. math:: \frac{1}{\sum_i s_i} \sum_i s_i\, \ell_\beta(y_i - \hat y_i)

    Without sample weights and for a single output, this metric equals PyTorch's
    ``SmoothL1Loss(beta=beta)``; with β = 1 it is the mean of the loss in [1]_.

    References
    ----------
    .. [1] R. Girshick, "Fast R-CNN", ICCV 2015, eq. (3). :arxiv:`1504.08083`

    Examples
    --------
    >>> from skrobust.metrics import mean_smooth_l1_loss
    >>> mean_smooth_l1_loss([3.0, -0.5, 2.0, 7.0], [2.5, 0.0, 2.0, 10.0], beta=2.0)
    0.53125

    In a scorer the loss is negated, because higher scores are better:

    >>> from sklearn.dummy import DummyRegressor
    >>> from sklearn.metrics import make_scorer
    >>> scorer = make_scorer(mean_smooth_l1_loss, greater_is_better=False, beta=2.0)
    >>> X, y = [[0.0], [0.0]], [-3.0, 3.0]
    >>> scorer(DummyRegressor().fit(X, y), X, y)
    -2.0
    """
    beta = as_float("beta", beta)
    return _mean_loss(smooth_l1, beta, y_true, y_pred, sample_weight, multioutput)


@_validate_parameters("delta")
def mean_huber_loss(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    multioutput: str | ArrayLike = "uniform_average",
    delta: float = 1.0,
) -> float | Floats:
    r"""Mean Huber loss; the best possible value is 0.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_outputs)
        True targets. Targets and predictions are converted to float64.

    y_pred : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Predicted targets.

    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights, non-negative and not all zero. Rescaling all weights has no effect.

    multioutput : {"raw_values", "uniform_average"} or array-like, default="uniform_average"
        How the losses of several outputs are aggregated: "raw_values" returns one loss per
        output, "uniform_average" returns their mean, and an array of shape (n_outputs,) gives
        the weights of a weighted mean.

    delta : float, default=1.0
        Threshold δ ≥ 0 in the units of y. With ``delta=float("inf")`` the loss is half the mean
        squared error.

    Returns
    -------
    loss : float or ndarray of shape (n_outputs,)
        Loss in squared units of y; a float64 array if ``multioutput="raw_values"``.

    Raises
    ------
    ValueError
        If the data contain NaN, infinity or values that are not real numbers, if their
        shapes do not match, or if a parameter is out of range.

    See Also
    --------
    mean_smooth_l1_loss : This loss divided by its threshold.
    d2_smooth_l1_score : Fraction of this loss explained by a model.

    Notes
    -----
    With sample weights :math:`s_i` and the loss :math:`h_\delta` of
    :func:`skrobust.losses.huber`, the metric is

    .. math:: \frac{1}{\sum_i s_i} \sum_i s_i\, h_\delta(y_i - \hat y_i)

    Without sample weights and for a single output, this metric equals PyTorch's
    ``HuberLoss(delta=delta)`` and Keras' ``Huber(delta=delta)``. It is the mean of the loss in
    [1]_.

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


@_validate_parameters("beta")
def d2_smooth_l1_score(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    multioutput: str | ArrayLike = "uniform_average",
    beta: float = 1.0,
) -> float | Floats:
    r"""D² score, the fraction of the Smooth L1 loss explained; the best possible value is 1.

    A model that always predicts the best constant scores 0, and a worse model scores below 0.
    D² is the same for the Huber loss, because the factor β cancels.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,) or (n_samples, n_outputs)
        True targets. Targets and predictions are converted to float64.

    y_pred : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Predicted targets.

    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights, non-negative and not all zero. Rescaling all weights has no effect.

    multioutput : {"raw_values", "uniform_average"} or array-like, default="uniform_average"
        How the scores of several outputs are aggregated: "raw_values" returns one score per
        output, "uniform_average" returns their mean, and an array of shape (n_outputs,) gives
        the weights of a weighted mean.

    beta : float, default=1.0
        Threshold β ≥ 0 in the units of y. With ``beta=0`` the score is
        :func:`~sklearn.metrics.d2_absolute_error_score`, and with ``beta=float("inf")`` it is
        :func:`~sklearn.metrics.r2_score`.

    Returns
    -------
    score : float or ndarray of shape (n_outputs,)
        Dimensionless score; a float64 array if ``multioutput="raw_values"``. The score is NaN
        with fewer than two samples of positive weight. If `y_true` is constant, the score is 1
        for perfect predictions and 0 otherwise, as in scikit-learn.

    Raises
    ------
    ValueError
        If the data contain NaN, infinity or values that are not real numbers, if their
        shapes do not match, or if a parameter is out of range.

    Warns
    -----
    UndefinedMetricWarning
        If there are fewer than two samples of positive weight.

    See Also
    --------
    mean_smooth_l1_loss : The loss on which the score is based.
    sklearn.metrics.d2_absolute_error_score : The limit for small thresholds.
    sklearn.metrics.r2_score : The limit for large thresholds.

    Notes
    -----
    With sample weights :math:`s_i` and the loss :math:`\ell_\beta` of
    :func:`skrobust.losses.smooth_l1`, the score is

    .. math::
        D^2 = 1 - \frac{\sum_i s_i\, \ell_\beta(y_i - \hat y_i)}
                        {\min_c \sum_i s_i\, \ell_\beta(y_i - c)}

    This is the definition of [1]_ applied to the Smooth L1 loss. The minimising constant c is
    Huber's M-estimate of the location of y with a fixed threshold; it is computed to within
    rounding error, whatever the units of y.

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
    data = _check_data(y_true, y_pred, sample_weight, multioutput)
    if len(data.y_true) < 2:
        message = "D² is not well-defined with fewer than two samples."
        warnings.warn(message, UndefinedMetricWarning, stacklevel=4)
        return float("nan")
    threshold = as_float("beta", beta)
    outputs = zip(data.y_true.T, data.y_pred.T, strict=True)
    with np.errstate(over="ignore"):
        scores = [_d2(y, prediction, data.weights, threshold) for y, prediction in outputs]
    return _aggregate(np.array(scores), data.multioutput)


class _MetricData(NamedTuple):
    """Validated arguments of a metric, without the rows of weight zero."""

    y_true: Floats  # of shape (n_samples, n_outputs)
    y_pred: Floats
    weights: Floats  # of shape (n_samples,)
    multioutput: str | Floats


def _mean_loss(
    loss: Callable[[Floats, float], ArrayOrScalar],
    threshold: float,
    y_true: ArrayLike,
    y_pred: ArrayLike,
    sample_weight: ArrayLike | None,
    multioutput: str | ArrayLike,
) -> float | Floats:
    """Return the weighted mean of an elementwise loss, aggregated over the outputs."""
    data = _check_data(y_true, y_pred, sample_weight, multioutput)
    with np.errstate(over="ignore"):  # a loss that overflows float64 is infinite
        losses = loss(data.y_true - data.y_pred, threshold)
        mean_losses: Floats = np.average(losses, weights=data.weights, axis=0)
    return _aggregate(mean_losses, data.multioutput)


def _d2(y_true: Floats, y_pred: Floats, weights: Floats, beta: float) -> float:
    """Return D² for one output."""
    if np.array_equal(y_true, y_pred):
        return 1.0
    # D² is dimensionless and can be computed in any units of y. Division by a power of 2 is
    # exact and brings the largest |y| close to 1, so that its square neither overflows nor
    # underflows. A threshold or prediction that becomes 0 or infinite in these units is so
    # extreme that the score is not affected.
    exponent = np.frexp(np.abs(y_true).max())[1]
    y_true, y_pred = np.ldexp(y_true, -exponent), np.ldexp(y_pred, -exponent)
    threshold = float(np.ldexp(beta, -exponent))

    # The two losses differ by the factor β, which cancels in D². The Smooth L1 loss is well
    # scaled for small thresholds, and the Huber loss for large ones.
    loss = smooth_l1 if threshold < 1 else huber
    error = float(np.sum(weights * loss(y_true - y_pred, threshold)))
    deviations = _deviations_from_best_constant(y_true, weights, threshold)
    null_error = float(np.sum(weights * loss(deviations, threshold)))
    return 1.0 - error / null_error if null_error > 0 else 0.0


def _deviations_from_best_constant(y: Floats, weights: Floats, beta: float) -> Floats:
    """Return y − c for the constant c that minimises the Smooth L1 loss of y − c.

    The weights must be positive. The derivative of the total Huber loss with respect to c,
    Σ s_i h'_β(c − y_i), is non-decreasing, and linear between the breakpoints y_i ± β.
    Bisection over the sorted breakpoints finds the pair between which the derivative changes
    sign, and linear interpolation between the two gives the root.
    """
    # Centring first keeps the result accurate if the mean of y is large.
    y = y - np.median(y)
    # Clipping β does not change the minimiser. If β exceeds the range of y, all residuals are
    # within the threshold, and a larger β would only increase the rounding error of y ± β. If β
    # is below 1e-150, the minimiser is that for β = 0 (the largest |y| is about 1), but the
    # derivative of the Huber loss, which is used here, would vanish.
    beta = float(np.clip(beta, 1e-150, np.ptp(y)))

    def derivative(constant: float) -> float:
        return float(np.sum(weights * huber_gradient(constant - y, beta)))

    def total_loss(constant: float) -> float:
        return float(np.sum(weights * smooth_l1(constant - y, beta)))

    # Rounding preserves monotonicity, so bisection on the computed derivative is safe.
    breakpoints = np.sort(np.concatenate([y - beta, y + beta]))
    upper_index = bisect_left(breakpoints, 0.0, key=derivative)
    lower, upper = breakpoints[max(upper_index - 1, 0)], breakpoints[upper_index]
    derivative_lower, derivative_upper = derivative(lower), derivative(upper)
    root = upper
    if derivative_lower < 0 < derivative_upper:
        fraction = derivative_upper / (derivative_upper - derivative_lower)
        root -= (upper - lower) * fraction
    # If β is so small that y ± β rounds to y, the derivative jumps at the breakpoints, and the
    # minimum is at one of them.
    best_constant = float(min((root, lower, upper), key=total_loss))
    return y - best_constant


def _check_data(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    sample_weight: ArrayLike | None,
    multioutput: str | ArrayLike,
) -> _MetricData:
    """Return the validated arguments of a metric, without the rows of weight zero.

    The function with which scikit-learn validates these arguments is private, and its signature
    differs between versions.
    """
    options = {"ensure_2d": False, "dtype": np.float64}
    targets: Floats = check_array(y_true, input_name="y_true", **options)
    predictions: Floats = check_array(y_pred, input_name="y_pred", **options)
    targets = targets.reshape(len(targets), -1)
    predictions = predictions.reshape(len(predictions), -1)
    if targets.shape != predictions.shape:
        raise ValueError(
            "y_true and y_pred must have the same number of samples and outputs, got "
            f"shapes {targets.shape} and {predictions.shape}"
        )
    n_samples, n_outputs = targets.shape
    if sample_weight is None:
        weights = np.ones(n_samples)
    else:
        weights = _check_weights(sample_weight, "sample_weight", n_samples)
    if not isinstance(multioutput, str):
        if n_outputs == 1:
            raise ValueError(
                "multioutput must not be an array of weights if there is only one output, got "
                f"multioutput={multioutput!r}"
            )
        multioutput = _check_weights(multioutput, "multioutput", n_outputs)
    has_weight = weights > 0
    return _MetricData(
        targets[has_weight], predictions[has_weight], weights[has_weight], multioutput
    )


def _check_weights(weights: ArrayLike, name: str, size: int) -> Floats:
    """Return the validated weights, rescaled so that the largest weight is in [0.5, 1)."""
    array: Floats = check_array(weights, ensure_2d=False, dtype=np.float64, input_name=name)
    if array.shape != (size,):
        raise ValueError(f"{name} must have shape ({size},), got {array.shape}")
    if array.min() < 0:
        raise ValueError(f"{name} must be ≥ 0, got {array.min()}")
    if array.max() == 0:
        raise ValueError(f"{name} must contain at least one positive value, got only zeros")
    # Rescaling by a power of 2 is exact and prevents the sum of the weights from overflowing or
    # underflowing.
    rescaled: Floats = np.ldexp(array, -np.frexp(array.max())[1])
    return rescaled


def _aggregate(values: Floats, multioutput: str | Floats) -> float | Floats:
    """Return the values of all outputs, or their average as a float."""
    if isinstance(multioutput, str):
        return values if multioutput == "raw_values" else float(np.mean(values))
    return float(np.average(values, weights=multioutput))
