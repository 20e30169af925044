"""Normal quantile-quantile plot of the residuals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

from ._drawing import COLOURS, GREY
from ._rows import RowsDisplay

if TYPE_CHECKING:
    from matplotlib.lines import Line2D

# Number of points on the line through the quartiles, which is curved on a symlog axis.
N_LINE_POINTS = 400


class QQDisplay(RowsDisplay):
    r"""Normal quantile-quantile (Q-Q) plot of the residuals.

    With normal errors, the points scatter along the line through the quartiles. With
    heavy-tailed errors, they rise more steeply than the line at both ends. With skewed errors,
    they leave the line at one end or form a curve. The lines at the thresholds ±β show which
    part of the tails is downweighted.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True target values.

    y_pred : array-like of shape (n_samples,)
        Predicted target values.

    beta : float
        Threshold in units of y. Rows whose absolute residuals exceed it are drawn as crosses.

    names : sequence of shape (n_samples,), default=None
        Row labels. By default, the row numbers are used.

    target_name : str, default=None
        Name of the target in the axis labels.

    Attributes
    ----------
    scatter_ : matplotlib PathCollection
        Markers of the rows whose absolute residuals are at most the threshold.

    outlier_scatter_ : matplotlib PathCollection
        Markers of the rows whose absolute residuals exceed the threshold.

    line_ : matplotlib Line2D
        Line through the quartiles.

    threshold_lines_ : list of matplotlib Line2D
        Horizontal lines at −β and β.

    labels_ : list of matplotlib Annotation
        Labels of the rows selected by `labelled`.

    legend_ : matplotlib Legend or None
        Legend; None if ``legend=False``.

    ax_ : matplotlib Axes
        Axes of the display.

    figure_ : matplotlib Figure
        Figure that contains the axes.

    See Also
    --------
    ResidualsDisplay : Residuals against fitted values.
    InfluenceDisplay : Leave-one-out residuals against leverages.

    Notes
    -----
    The residual of rank i among n is drawn at the normal quantile
    :math:`\Phi^{-1}((i - 1/2)/n)` [1]_. Tied residuals are assigned the mean of their ranks. At
    most `max_markers` rows, selected as in :class:`ResidualsDisplay`, and the labelled rows are
    drawn.

    References
    ----------
    .. [1] J. M. Chambers, W. S. Cleveland, B. Kleiner and P. A. Tukey, "Graphical Methods for
           Data Analysis", Wadsworth, 1983.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skrobust import SmoothL1Regressor
    >>> from skrobust.displays import QQDisplay
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> model = SmoothL1Regressor().fit(X, y)
    >>> display = QQDisplay.from_estimator(model, X, y)
    >>> display.ax_.get_xlabel()
    'Quantiles of the normal distribution'
    """

    _residual_axis = "y"

    def _draw_background(
        self, residuals: NDArray[np.floating], beta: float
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        quantiles = ndtri((rankdata(residuals) - 0.5) / len(residuals))
        lower, upper = np.quantile(residuals, [0.25, 0.75])
        middle, slope = (lower + upper) / 2, (upper - lower) / (2 * ndtri(0.75))
        reach = max(1.0, np.abs(quantiles).max())
        x = np.linspace(-reach, reach, N_LINE_POINTS)
        self.line_: Line2D = self.ax_.plot(
            x, middle + slope * x, color=GREY, lw=1, label="line through the quartiles"
        )[0]
        self.threshold_lines_ = [
            self.ax_.axhline(threshold, color=COLOURS[5], ls=":", lw=1.5, zorder=0.5)
            for threshold in (-beta, beta)
        ]
        self.threshold_lines_[1].set_label(f"±β = ±{beta:.4g}")
        self.ax_.set_xlabel("Quantiles of the normal distribution")
        return quantiles, residuals
