"""Support for scikit-learn's array API dispatch through conversion to and from NumPy arrays.

Arrays from other libraries are converted to NumPy arrays, without a copy if they are in CPU
memory (DLPack), and results are converted back to the array library of X. The conversion
requires scikit-learn 1.9 or newer and ``sklearn.config_context(array_api_dispatch=True)``.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
from scipy.sparse import issparse
from sklearn import get_config

try:
    from sklearn.utils._array_api import (
        check_same_namespace,
        get_namespace_and_device,
        move_to,
    )

    HAS_DISPATCH = True
except ImportError:
    HAS_DISPATCH = False

    def check_same_namespace(X: Any, estimator: Any, *, attribute: str, method: str) -> None:
        """Accept any X, because older versions of scikit-learn have no array API dispatch."""


__all__ = [
    "HAS_DISPATCH",
    "as_numpy",
    "check_same_namespace",
    "through_numpy",
    "with_numpy_attributes",
]

Function = TypeVar("Function", bound=Callable[..., Any])
# Device types of the DLPack standard whose memory the CPU can read.
CPU_DEVICES = {1, 3}


def as_numpy(**data: Any) -> tuple[list[Any], Callable[[Any], Any]]:
    """Return the values of `data` as NumPy arrays, and a function that converts results back.

    The keys of `data` are parameter names for error messages. Values that are not arrays from
    another library are returned unchanged. The returned function converts a NumPy array, or the
    arrays in a dict, to the library and device of the first value of `data`; it leaves all
    other results unchanged.
    """
    values = list(data.values())
    if not _is_dispatched():
        return values, lambda result: result
    arrays = [_on_cpu(name, value) for name, value in data.items()]
    if not _is_foreign(values[0]):
        return arrays, lambda result: result
    xp, _, device = get_namespace_and_device(values[0])

    def back(result: Any) -> Any:
        if isinstance(result, dict):
            return {name: back(value) for name, value in result.items()}
        if not _is_numeric(result):
            return result
        return move_to(np.asarray(result), xp=xp, device=device)

    return arrays, back


def with_numpy_attributes(estimator: Any) -> Any:
    """Return a copy of a fitted estimator whose array attributes are NumPy arrays.

    If no attribute is an array from another library, the estimator itself is returned.
    """
    foreign = {name: value for name, value in vars(estimator).items() if _is_foreign(value)}
    if not foreign:
        return estimator
    converted = copy(estimator)
    for name, value in foreign.items():
        array = _on_cpu(name, value) if _is_dispatched() else np.asarray(value)
        vars(converted)[name] = array
    return converted


def through_numpy(*names: str) -> Callable[[Function], Function]:
    """Return a decorator that applies `as_numpy` to array parameters and converts results back.

    `names` are the names of the array parameters, which must come first in the signature of the
    function.
    """

    def decorator(function: Function) -> Function:
        @wraps(function)
        def converted(*args: Any, **kwargs: Any) -> Any:
            named = {name: kwargs[name] for name in names if name in kwargs}
            arrays = dict(zip(names, args, strict=False)) | named
            values, convert = as_numpy(**arrays)
            n = min(len(args), len(names))
            kwargs |= dict(zip(named, values[n:], strict=True))
            return convert(function(*values[:n], *args[n:], **kwargs))

        return cast(Function, converted)

    return decorator


def _is_dispatched() -> bool:
    return HAS_DISPATCH and bool(get_config()["array_api_dispatch"])


def _is_foreign(value: Any) -> bool:
    """Return whether a value is an array from a library other than NumPy and SciPy."""
    is_array = hasattr(value, "__dlpack__") and hasattr(value, "shape")
    return is_array and not (isinstance(value, np.ndarray | np.generic) or issparse(value))


def _is_numeric(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf"


def _on_cpu(name: str, value: Any) -> Any:
    """Return an array from another library as a NumPy array that shares its memory.

    Other values are returned unchanged.
    """
    if not _is_foreign(value):
        return value
    if getattr(value, "requires_grad", False):
        value = value.detach()
    try:
        device, _ = value.__dlpack_device__()
    except (AttributeError, BufferError, ValueError):
        # The library does not report the device. `move_to` raises an error if the CPU cannot
        # read the memory.
        device = 1
    if device not in CPU_DEVICES:
        raise ValueError(
            f"{name} is on the device {value.device}, but skrobust computes on the CPU. Move "
            f"{name} to the CPU first, for example with {name}.cpu()."
        )
    return move_to(value, xp=np, device="cpu")
