"""Displays of robust fits, following the conventions of scikit-learn's displays.

A display stores the data shown in a figure. Its ``plot(ax=None)`` method draws the data and
returns the display, whose attributes then include the matplotlib artists. The class methods
``from_estimator`` and ``from_predictions`` create a display and draw it. A legend never hides
data: if it does not fit within the axes, it is placed outside them. matplotlib is imported only
when a display is drawn.
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
