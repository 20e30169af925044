"""Robust linear regression with Smooth L1 and Huber losses, for scikit-learn."""

from . import losses, metrics, schedules
from ._cv import SmoothL1RegressorCV
from ._path import smooth_l1_path
from ._regressor import SmoothL1Regressor

__version__ = "0.1.0"

__all__ = [
    "SmoothL1Regressor",
    "SmoothL1RegressorCV",
    "losses",
    "metrics",
    "schedules",
    "smooth_l1_path",
]
