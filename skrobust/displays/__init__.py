"""Displays of robust fits, with scikit-learn's conventions; matplotlib is imported to draw.

A display holds what it shows and draws it with ``plot(ax=None)``, which returns the display
with the artists as attributes. ``from_estimator`` and ``from_predictions`` make a display and
draw it. Legends stand right of the axes, where they hide nothing: a figure of your own makes
room for them with ``layout="constrained"``.
"""

from ._convergence import ConvergenceDisplay
from ._cv import CVDisplay
from ._fit import FitDisplay
from ._path import PathDisplay
from ._residuals import ResidualsDisplay, WeightsDisplay

__all__ = [
    "CVDisplay",
    "ConvergenceDisplay",
    "FitDisplay",
    "PathDisplay",
    "ResidualsDisplay",
    "WeightsDisplay",
]
