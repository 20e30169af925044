"""Displays of robust fits, with the conventions of scikit-learn's displays.

A display stores the data of a figure. Its method ``plot(ax=None)`` draws them and returns the
display, which then has the matplotlib artists as attributes. The class methods
``from_estimator`` and ``from_predictions`` create a display and draw it. Legends are placed to
the right of the axes, where they hide no data; pass ``layout="constrained"`` to a figure of
your own to reserve space for them. matplotlib is only imported when a display is drawn.
"""

from ._coefficients import CoefficientsDisplay
from ._convergence import ConvergenceDisplay
from ._cv import CVDisplay
from ._fit import FitDisplay
from ._influence import InfluenceDisplay
from ._outlier_map import OutlierMapDisplay
from ._path import PathDisplay
from ._qq import QQDisplay
from ._residuals import ResidualsDisplay, WeightsDisplay

__all__ = [
    "CVDisplay",
    "CoefficientsDisplay",
    "ConvergenceDisplay",
    "FitDisplay",
    "InfluenceDisplay",
    "OutlierMapDisplay",
    "PathDisplay",
    "QQDisplay",
    "ResidualsDisplay",
    "WeightsDisplay",
]
