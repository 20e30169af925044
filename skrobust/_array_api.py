"""scikit-learn's array API dispatch: arrays of other libraries are used as NumPy arrays.

The computation is that of NumPy arrays. Arrays in the memory of the CPU are not copied
(DLPack), and arrays that are returned belong to the library of X. This takes effect under
``sklearn.config_context(array_api_dispatch=True)`` with scikit-learn 1.9 or newer.
"""

from __future__ import annotations

from collections.abc import Callable
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
        """Accept any X, since older versions of scikit-learn are not supported."""


__all__ = ["HAS_DISPATCH", "as_numpy", "check_same_namespace", "through_numpy"]

Function = TypeVar("Function", bound=Callable[..., Any])
# Types of devices of the DLPack standard whose memory the CPU can read.
CPU_DEVICES = {1, 3}


def as_numpy(**data: Any) -> tuple[list[Any], Callable[[Any], Any]]:
    """Return data as NumPy arrays, and a function that converts results.

    `data` maps the names of parameters to arrays. The function converts an array or the
    arrays in a dict to the library and the device of the first of the data, and leaves
    everything else unchanged. Data that are not arrays of another library are returned
    unchanged.
    """
    values = list(data.values())
    if not (HAS_DISPATCH and get_config()["array_api_dispatch"]):
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


def through_numpy(*names: str) -> Callable[[Function], Function]:
    """Return a decorator that converts the first parameters and the result of a function.

    `names` contains the names of the parameters that are arrays.
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


def _is_foreign(value: Any) -> bool:
    """Tell whether a value is an array of a library other than NumPy."""
    is_array = hasattr(value, "__dlpack__") and hasattr(value, "shape")
    return is_array and not (isinstance(value, np.ndarray | np.generic) or issparse(value))


def _is_numeric(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf"


def _on_cpu(name: str, value: Any) -> Any:
    """Return an array as a NumPy array that shares its memory."""
    if not _is_foreign(value):
        return value
    if getattr(value, "requires_grad", False):
        value = value.detach()
    try:
        device, _ = value.__dlpack_device__()
    except (AttributeError, BufferError, ValueError):
        # The library does not name the device; the conversion below fails if the CPU cannot
        # read it.
        device = 1
    if device not in CPU_DEVICES:
        raise ValueError(
            f"{name} is on the device {value.device}, and skrobust computes on the CPU. Move "
            f"{name} to the CPU first, such as by {name}.cpu()."
        )
    return move_to(value, xp=np, device="cpu")
