"""Displays of robust fits, with the conventions of scikit-learn's displays.

A display stores the data of a figure. Its method ``plot(ax=None)`` draws the data and returns
the display, which then has the matplotlib artists as attributes. The class methods
``from_estimator`` and ``from_predictions`` create a display and draw it. A legend never hides
data: a legend for which there is no space within the axes is placed outside the axes.
matplotlib is imported only when a display is drawn.
"""

from ._coefficients import CoefficientsDisplay
from ._convergence import ConvergenceDisplay
from ._cv import CVDisplay
from ._diagnostics import DiagnosticsDisplay
from ._fit import FitDisplay
from ._influence import InfluenceDisplay
from ._outlier_map import OutlierMapDisplay
from ._path import PathDisplay
from ._qq import QQDisplay
from ._residuals import ResidualsDisplay
from ._scale_location import ScaleLocationDisplay
from ._weights import WeightsDisplay

__all__ = [
    "CVDisplay",
    "CoefficientsDisplay",
    "ConvergenceDisplay",
    "DiagnosticsDisplay",
    "FitDisplay",
    "InfluenceDisplay",
    "OutlierMapDisplay",
    "PathDisplay",
    "QQDisplay",
    "ResidualsDisplay",
    "ScaleLocationDisplay",
    "WeightsDisplay",
]
