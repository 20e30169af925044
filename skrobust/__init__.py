"""Robust linear regression with Smooth L1 and Huber losses, for scikit-learn."""

from . import losses, metrics, schedules
from ._regressor import SmoothL1Regressor

__version__ = "0.1.0"

__all__ = ["SmoothL1Regressor", "losses", "metrics", "schedules"]
