"""Data that are not in memory: Dask collections and polars LazyFrames.

Dask and polars are not imported here, because objects of a library can exist only if the
library has already been imported.
"""

from __future__ import annotations

import sys
from typing import Any

# Advice in the error message of `require_in_memory`, for each kind of function.
ADVICE = {
    "search": "search with a sample of rows, or fit SmoothL1Regressor for each beta on the "
    "Dask collections",
    "MM": "fit a sample of rows, such as X.sample(...).compute(), or fit SmoothL1Regressor on "
    "the Dask collections",
    "L1 or positive": "fit a sample of rows, such as X.sample(...).compute(), or fit "
    "SmoothL1Regressor with a ridge penalty on the Dask collections",
    "display": "pass a sample of rows, such as X.sample(...).compute()",
    "inference": "infer from a sample of rows with a model that is fitted to this sample, or "
    "call compute() on all data if they fit into memory",
    "duality gap": "call compute() on all data of the fit if they fit into memory",
    "metric": "call compute() on both y_true and y_pred, or average the losses by blocks",
    "loss": "apply it to each block, by residual.map_blocks({caller}, beta=...), or by "
    "map_partitions for a Series",
    "rows": "apply it to each block of rows, by map_blocks or map_partitions",
}


def is_dask(data: Any) -> bool:
    """Return whether the data are a Dask collection."""
    is_collection = getattr(sys.modules.get("dask"), "is_dask_collection", None)
    return is_collection is not None and bool(is_collection(data))


def require_in_memory(caller: str, kind: str, /, **data: Any) -> None:
    """Raise a TypeError if any of the named data are not in memory.

    `caller` is the public function that was called, and `kind` a key of ADVICE.
    """
    _refuse_lazy_frames(caller, data)
    for name, value in data.items():
        if is_dask(value):
            raise TypeError(
                f"{caller} takes data in memory; {ADVICE[kind].format(caller=caller)}. "
                f"{name} is a Dask {type(value).__name__}."
            )


def all_dask(caller: str, /, **data: Any) -> bool:
    """Return whether the named data are Dask collections; raise a TypeError if only some are.

    Data that are None are ignored.
    """
    _refuse_lazy_frames(caller, data)
    present = {name: value for name, value in data.items() if value is not None}
    others = [name for name, value in present.items() if not is_dask(value)]
    if others and len(others) < len(present):
        kind = type(present[others[0]])
        raise TypeError(
            f"{caller} needs all data as Dask collections or all data in memory, but "
            f"{others[0]} is a {kind.__module__}.{kind.__qualname__} and "
            f"{next(name for name in present if name not in others)} a Dask collection. If a "
            f"previous step of a pipeline has loaded {others[0]} into memory, use a "
            "transformer that keeps Dask collections."
        )
    return bool(present) and not others


def _refuse_lazy_frames(caller: str, data: dict[str, Any]) -> None:
    lazy_frame = getattr(sys.modules.get("polars"), "LazyFrame", ())
    for name, value in data.items():
        if isinstance(value, lazy_frame):
            raise TypeError(
                f"{caller} takes data in memory, but {name} is a polars LazyFrame; call "
                "collect() first."
            )
