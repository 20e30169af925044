"""Smooth L1 and Huber losses and their derivatives, evaluated elementwise with NumPy.

These functions are the reference implementation against which the compiled kernels of the
estimators are tested. For a residual r and a threshold β > 0::

    smooth_l1:  ℓ_β(r) = r²/(2β) if |r| < β else |r| − β/2
    huber:      h_β(r) = r²/2    if |r| < β else β (|r| − β/2)      h_β = β ℓ_β
"""

import math
from typing import SupportsFloat, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._array_api import through_numpy
from ._lazy_data import require_in_memory

__all__ = ["huber", "huber_gradient", "smooth_l1", "smooth_l1_gradient"]

# The results are arrays for array arguments and NumPy scalars for scalar arguments.
ArrayOrScalar: TypeAlias = NDArray[np.floating] | np.floating


# NumPy's floating-point warnings are disabled: rounding to 0 or infinity at the limits of the
# floating-point range gives the correct result, and 0/0 occurs only in branches that `np.where`
# does not select.
@through_numpy("residual", "beta")
@np.errstate(all="ignore")
def smooth_l1(residual: ArrayLike, beta: ArrayLike = 1.0) -> ArrayOrScalar:
    r"""Smooth L1 loss: quadratic near zero and linear beyond the threshold.

    Parameters
    ----------
    residual : array-like of real numbers
        Residuals r = y − prediction, of any shape. NaN residuals give NaN.

    beta : float or array-like of floats, default=1.0
        Threshold 0 ≤ β ≤ ∞ in the units of the residual, broadcast against `residual`.

    Returns
    -------
    loss : ndarray, or a NumPy scalar if both arguments are scalars
        Loss in the units of the residual. The dtype is that of `residual` if it is
        floating-point, and float64 otherwise.

    Raises
    ------
    ValueError
        If `beta` is negative or NaN, or if the shapes cannot be broadcast.
    TypeError
        If `residual` or `beta` does not consist of real numbers.

    See Also
    --------
    huber : This loss multiplied by β.
    smooth_l1_gradient : The derivative of this loss.

    Notes
    -----
    .. math::
        \ell_\beta(r) = \begin{cases}
            r^2 / (2\beta)   & \text{if } |r| < \beta \\
            |r| - \beta / 2  & \text{otherwise}
        \end{cases}

    This is PyTorch's ``SmoothL1Loss``; with β = 1 it is the loss in [1]_. As β → 0 the loss
    tends to the absolute value, which is returned for β = 0. As β → ∞ the loss tends to 0,
    which is returned for β = ∞.

    References
    ----------
    .. [1] R. Girshick, "Fast R-CNN", ICCV 2015, eq. (3). :arxiv:`1504.08083`

    Examples
    --------
    >>> from skrobust.losses import smooth_l1
    >>> smooth_l1([-3.0, -1.0, 0.0, 1.0, 3.0], beta=2.0)
    array([2.  , 0.25, 0.  , 0.25, 2.  ])
    >>> float(smooth_l1(-3.0, beta=0.0))
    3.0
    """
    r, threshold = _check_loss_arguments("smooth_l1", residual, beta)
    abs_r = np.abs(r)
    loss: ArrayOrScalar = _abs_slope(abs_r, threshold) * _loss_over_slope(abs_r, threshold)
    return loss


@through_numpy("residual", "beta")
@np.errstate(all="ignore")
def smooth_l1_gradient(residual: ArrayLike, beta: ArrayLike = 1.0) -> ArrayOrScalar:
    r"""Derivative of :func:`smooth_l1` with respect to the residual.

    Parameters
    ----------
    residual : array-like of real numbers
        Residuals r = y − prediction, of any shape. NaN residuals give NaN.

    beta : float or array-like of floats, default=1.0
        Threshold 0 ≤ β ≤ ∞ in the units of the residual, broadcast against `residual`.

    Returns
    -------
    gradient : ndarray, or a NumPy scalar if both arguments are scalars
        Dimensionless derivative, between −1 and 1. The dtype is that of `residual` if it is
        floating-point, and float64 otherwise.

    Raises
    ------
    ValueError
        If `beta` is negative or NaN, or if the shapes cannot be broadcast.
    TypeError
        If `residual` or `beta` does not consist of real numbers.

    See Also
    --------
    huber_gradient : This derivative multiplied by β.

    Notes
    -----
    .. math::
        \ell_\beta'(r) = \begin{cases}
            r / \beta           & \text{if } |r| < \beta \\
            \operatorname{sign}(r)  & \text{otherwise}
        \end{cases}

    With β = 1 this is the derivative of the loss in [1]_. With β = 0 the loss is not
    differentiable at r = 0, where the subgradient 0 is returned.

    References
    ----------
    .. [1] R. Girshick, "Fast R-CNN", ICCV 2015, eq. (3). :arxiv:`1504.08083`

    Examples
    --------
    >>> from skrobust.losses import smooth_l1_gradient
    >>> smooth_l1_gradient([-3.0, -1.0, 0.0, 1.0, 3.0], beta=2.0)
    array([-1. , -0.5,  0. ,  0.5,  1. ])
    """
    r, threshold = _check_loss_arguments("smooth_l1_gradient", residual, beta)
    gradient: ArrayOrScalar = np.sign(r) * _abs_slope(np.abs(r), threshold)
    return gradient


@through_numpy("residual", "beta")
@np.errstate(all="ignore")
def huber(residual: ArrayLike, beta: ArrayLike = 1.0) -> ArrayOrScalar:
    r"""Huber loss: quadratic (r²/2) near zero and linear beyond the threshold.

    Parameters
    ----------
    residual : array-like of real numbers
        Residuals r = y − prediction, of any shape. NaN residuals give NaN.

    beta : float or array-like of floats, default=1.0
        Threshold 0 ≤ β ≤ ∞ in the units of the residual, broadcast against `residual`. Other
        libraries call it delta.

    Returns
    -------
    loss : ndarray, or a NumPy scalar if both arguments are scalars
        Loss in squared units of the residual. The dtype is that of `residual` if it is
        floating-point, and float64 otherwise.

    Raises
    ------
    ValueError
        If `beta` is negative or NaN, or if the shapes cannot be broadcast.
    TypeError
        If `residual` or `beta` does not consist of real numbers.

    See Also
    --------
    smooth_l1 : This loss divided by β.
    huber_gradient : The derivative of this loss.
    scipy.special.huber : The same function, called as ``huber(delta, r)``.

    Notes
    -----
    .. math::
        h_\beta(r) = \begin{cases}
            r^2 / 2                    & \text{if } |r| < \beta \\
            \beta (|r| - \beta / 2)  & \text{otherwise}
        \end{cases}

    This loss was introduced in [1]_; it is called ``HuberLoss`` in PyTorch and ``Huber`` in
    Keras. It is r²/2 for β = ∞ and 0 for β = 0.

    References
    ----------
    .. [1] P. J. Huber, "Robust Estimation of a Location Parameter", Annals of
           Mathematical Statistics 35 (1964). :doi:`10.1214/aoms/1177703732`

    Examples
    --------
    >>> from skrobust.losses import huber
    >>> huber([-3.0, -1.0, 0.0, 1.0, 3.0], beta=2.0)
    array([4. , 0.5, 0. , 0.5, 4. ])
    """
    r, threshold = _check_loss_arguments("huber", residual, beta)
    abs_r = np.abs(r)
    loss: ArrayOrScalar = np.minimum(abs_r, threshold) * _loss_over_slope(abs_r, threshold)
    return loss


@through_numpy("residual", "beta")
@np.errstate(all="ignore")
def huber_gradient(residual: ArrayLike, beta: ArrayLike = 1.0) -> ArrayOrScalar:
    r"""Derivative of :func:`huber` with respect to the residual.

    Parameters
    ----------
    residual : array-like of real numbers
        Residuals r = y − prediction, of any shape. NaN residuals give NaN.

    beta : float or array-like of floats, default=1.0
        Threshold 0 ≤ β ≤ ∞ in the units of the residual, broadcast against `residual`.

    Returns
    -------
    gradient : ndarray, or a NumPy scalar if both arguments are scalars
        Derivative in the units of the residual, between −β and β. The dtype is that of
        `residual` if it is floating-point, and float64 otherwise.

    Raises
    ------
    ValueError
        If `beta` is negative or NaN, or if the shapes cannot be broadcast.
    TypeError
        If `residual` or `beta` does not consist of real numbers.

    See Also
    --------
    smooth_l1_gradient : This derivative divided by β.

    Notes
    -----
    .. math:: h_\beta'(r) = \min(\max(r, -\beta), \beta)

    This is Huber's ψ function [1]_.

    References
    ----------
    .. [1] P. J. Huber, "Robust Estimation of a Location Parameter", Annals of
           Mathematical Statistics 35 (1964). :doi:`10.1214/aoms/1177703732`

    Examples
    --------
    >>> from skrobust.losses import huber_gradient
    >>> huber_gradient([-3.0, -1.0, 0.0, 1.0, 3.0], beta=2.0)
    array([-2., -1.,  0.,  1.,  2.])
    """
    r, threshold = _check_loss_arguments("huber_gradient", residual, beta)
    gradient: ArrayOrScalar = np.clip(r, -threshold, threshold)
    return gradient


def as_float(name: str, value: SupportsFloat) -> float:
    """Return a real number as a float, or raise a ValueError if it overflows float64.

    Python integers and NumPy long doubles may exceed the largest float64. Infinity is accepted.
    """
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isinf(number) and value != number:
        raise ValueError(f"{name} must be within the range of float64, got {name}={value!r}")
    return number


def _check_loss_arguments(
    loss: str, residual: ArrayLike, beta: ArrayLike
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Validate residuals and thresholds and convert both to one floating-point dtype.

    The common dtype is that of `residual` if it is floating-point, and float64 otherwise.
    """
    require_in_memory(loss, "loss", residual=residual, beta=beta)
    residual_array, beta_array = np.asarray(residual), np.asarray(beta)
    for name, array in (("residual", residual_array), ("beta", beta_array)):
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{name} must consist of real numbers, got {array!r}")
    is_valid = beta_array >= 0  # False for NaN
    if not np.all(is_valid):
        invalid_value = beta_array[~is_valid][0]
        raise ValueError(f"beta must be ≥ 0 and not NaN, got beta={invalid_value}")
    is_floating = residual_array.dtype.kind == "f"
    dtype = residual_array.dtype if is_floating else np.dtype(np.float64)
    return residual_array.astype(dtype, copy=False), beta_array.astype(dtype, copy=False)


def _abs_slope(
    abs_residual: NDArray[np.floating], beta: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Return min(|r|, β)/β, the absolute value of the Smooth L1 derivative.

    The Smooth L1 loss is computed from the ratio min(|r|, β)/β, because r² may overflow.
    """
    clipped = np.minimum(abs_residual, beta)
    return np.where(clipped == beta, 1.0, clipped / beta)


def _loss_over_slope(
    abs_residual: NDArray[np.floating], beta: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Return the loss divided by its absolute derivative.

    The quotient is the same for the Smooth L1 and the Huber loss: |r|/2 if |r| < β and
    |r| − β/2 otherwise, and therefore always max(|r|/2, |r| − β/2). For an infinite residual
    with β = ∞, `np.fmax` ignores the NaN from ∞ − ∞, and the loss is infinite.
    """
    return np.fmax(abs_residual - beta / 2, abs_residual / 2)
