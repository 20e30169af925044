"""Robust linear regression for scikit-learn: Smooth L1 and Huber losses, MM-estimation."""

from importlib import import_module

from . import losses, metrics, schedules
from ._cv import SmoothL1RegressorCV
from ._duality_gap import duality_gap
from ._mm import MMRegressor
from ._path import smooth_l1_path
from ._regressor import SmoothL1Regressor

__version__ = "0.1.0"

__all__ = [
    "MMRegressor",
    "SmoothL1Regressor",
    "SmoothL1RegressorCV",
    "displays",
    "duality_gap",
    "inference",
    "losses",
    "metrics",
    "schedules",
    "smooth_l1_path",
]


def __getattr__(name):
    # These modules are imported on first use to keep the import of the package fast.
    if name in ("displays", "inference"):
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
