"""The Smooth L1 and Huber losses and their gradients, element by element.

These are the formulas that everything else minimises, written in NumPy for reading and
for reference: the compiled kernels are tested against them. With a threshold β > 0::

    smooth_l1:  ℓ_β(r) = r²/(2β) if |r| < β else |r| − β/2
    huber:      h_β(r) = r²/2    if |r| < β else β (|r| − β/2)      h_β = β ℓ_β
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["huber", "huber_gradient", "smooth_l1", "smooth_l1_gradient"]

Floats = NDArray[np.floating] | np.floating


# Rounding to 0 or inf is the right answer at the ends of the floating-point range, and
# 0/0 arises only in branches that are not taken: none of it is worth a warning.
@np.errstate(all="ignore")
def smooth_l1(residual: ArrayLike, beta: ArrayLike = 1.0) -> Floats:
    r"""Smooth L1 loss, the absolute value with its kink rounded off.

    Parameters
    ----------
    residual : array-like of real numbers
        Residuals r = y − prediction, of any shape. NaN gives NaN.

    beta : float or array-like of floats, default=1.0
        Threshold 0 ≤ β ≤ ∞ in units of the residual, broadcast against it.

    Returns
    -------
    loss : ndarray, or a NumPy scalar if both arguments are scalars
        The loss in units of the residual. It has the floating dtype of `residual`, or
        float64 where that is not floating.

    Raises
    ------
    ValueError
        If `beta` is negative or NaN, or the shapes do not broadcast.
    TypeError
        If either argument is not made of real numbers.

    See Also
    --------
    huber : β times this loss.

    Notes
    -----
    .. math::
        \ell_\beta(r) = \begin{cases}
            r^2 / (2\beta)   & \text{if } |r| < \beta \\
            |r| - \beta / 2  & \text{otherwise}
        \end{cases}

    as in PyTorch's ``SmoothL1Loss``; β = 1 is the loss of [1]_. As β → 0 it becomes the
    absolute value, which is what β = 0 gives; as β → ∞ it vanishes, and β = ∞ gives 0.

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
    residual, beta = _as_floating(residual, beta)
    size = np.abs(residual)
    return _steepness(size, beta) * _reach(size, beta)


@np.errstate(all="ignore")
def smooth_l1_gradient(residual: ArrayLike, beta: ArrayLike = 1.0) -> Floats:
    r"""Derivative of :func:`smooth_l1` with respect to the residual.

    Parameters
    ----------
    residual : array-like of real numbers
        Residuals r = y − prediction, of any shape. NaN gives NaN.

    beta : float or array-like of floats, default=1.0
        Threshold 0 ≤ β ≤ ∞ in units of the residual, broadcast against it.

    Returns
    -------
    gradient : ndarray, or a NumPy scalar if both arguments are scalars
        The derivative, without a unit, between −1 and 1. It has the floating dtype of
        `residual`, or float64 where that is not floating.

    Raises
    ------
    ValueError
        If `beta` is negative or NaN, or the shapes do not broadcast.
    TypeError
        If either argument is not made of real numbers.

    See Also
    --------
    huber_gradient : This gradient times β.

    Notes
    -----
    .. math::
        \ell_\beta'(r) = \begin{cases}
            r / \beta           & \text{if } |r| < \beta \\
            \operatorname{sign}(r)  & \text{otherwise}
        \end{cases}

    as in [1]_ for β = 1. At β = 0 the loss has a kink in r = 0; the subgradient given there
    is 0.

    References
    ----------
    .. [1] R. Girshick, "Fast R-CNN", ICCV 2015, eq. (3). :arxiv:`1504.08083`

    Examples
    --------
    >>> from skrobust.losses import smooth_l1_gradient
    >>> smooth_l1_gradient([-3.0, -1.0, 0.0, 1.0, 3.0], beta=2.0)
    array([-1. , -0.5,  0. ,  0.5,  1. ])
    """
    residual, beta = _as_floating(residual, beta)
    return np.sign(residual) * _steepness(np.abs(residual), beta)


@np.errstate(all="ignore")
def huber(residual: ArrayLike, beta: ArrayLike = 1.0) -> Floats:
    r"""Huber loss, half the square with its tails straightened.

    Parameters
    ----------
    residual : array-like of real numbers
        Residuals r = y − prediction, of any shape. NaN gives NaN.

    beta : float or array-like of floats, default=1.0
        Threshold 0 ≤ β ≤ ∞ in units of the residual, broadcast against it; other libraries
        call it delta.

    Returns
    -------
    loss : ndarray, or a NumPy scalar if both arguments are scalars
        The loss in squared units of the residual. It has the floating dtype of
        `residual`, or float64 where that is not floating.

    Raises
    ------
    ValueError
        If `beta` is negative or NaN, or the shapes do not broadcast.
    TypeError
        If either argument is not made of real numbers.

    See Also
    --------
    smooth_l1 : This loss divided by β.
    scipy.special.huber : The same function as ``huber(delta, r)``.

    Notes
    -----
    .. math::
        h_\beta(r) = \begin{cases}
            r^2 / 2                    & \text{if } |r| < \beta \\
            \beta (|r| - \beta / 2)  & \text{otherwise}
        \end{cases}

    as in [1]_, PyTorch's ``HuberLoss`` and Keras' ``Huber``. β = ∞ gives r²/2 and β = 0
    gives 0.

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
    residual, beta = _as_floating(residual, beta)
    size = np.abs(residual)
    return np.minimum(size, beta) * _reach(size, beta)


@np.errstate(all="ignore")
def huber_gradient(residual: ArrayLike, beta: ArrayLike = 1.0) -> Floats:
    r"""Derivative of :func:`huber` with respect to the residual.

    Parameters
    ----------
    residual : array-like of real numbers
        Residuals r = y − prediction, of any shape. NaN gives NaN.

    beta : float or array-like of floats, default=1.0
        Threshold 0 ≤ β ≤ ∞ in units of the residual, broadcast against it.

    Returns
    -------
    gradient : ndarray, or a NumPy scalar if both arguments are scalars
        The derivative in units of the residual, between −β and β. It has the floating
        dtype of `residual`, or float64 where that is not floating.

    Raises
    ------
    ValueError
        If `beta` is negative or NaN, or the shapes do not broadcast.
    TypeError
        If either argument is not made of real numbers.

    See Also
    --------
    smooth_l1_gradient : This gradient divided by β.

    Notes
    -----
    .. math:: h_\beta'(r) = \min(\max(r, -\beta), \beta)

    Huber's ψ [1]_.

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
    residual, beta = _as_floating(residual, beta)
    return np.clip(residual, -beta, beta)


def as_float(name: str, value) -> float:
    """Return a checked real number as a float; integers and long doubles may be larger."""
    try:
        number = float(value)
    except OverflowError:
        number = np.inf
    if np.isinf(number) and value != number:
        raise ValueError(f"{name} is too large for float64, got {name}={value!r}")
    return number


def _as_floating(residual: ArrayLike, beta: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Check both and return them as arrays of one floating dtype, the residual's."""
    residual, beta = np.asarray(residual), np.asarray(beta)
    for name, values in (("residual", residual), ("beta", beta)):
        if values.dtype.kind not in "fiub":
            raise TypeError(f"{name} must be made of real numbers, got {values!r}")
    allowed = beta >= 0  # written so that NaN is not allowed
    if not np.all(allowed):
        raise ValueError(f"beta must be ≥ 0 and not NaN, got beta={beta[~allowed][0]}")
    dtype = residual.dtype if residual.dtype.kind == "f" else np.dtype(np.float64)
    return residual.astype(dtype, copy=False), beta.astype(dtype, copy=False)


def _steepness(size: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Return min(|r|, β)/β, the absolute slope of Smooth L1 at `size` = |r|.

    A ratio of at most 1, so that neither r² nor a division by a tiny β can overflow.
    """
    inside = np.minimum(size, beta)
    return np.where(inside == beta, 1.0, inside / beta)


def _reach(size: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Return |r|/2 if |r| < β else |r| − β/2: always the larger of the two.

    fmax, because an infinite residual has an infinite loss at β = ∞ as well, where
    |r| − β/2 is ∞ − ∞.
    """
    return np.fmax(size - beta / 2, size / 2)
