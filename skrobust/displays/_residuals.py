"""Display of residuals against fitted values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ._drawing import COLOURS, GREY
from ._rows import TrendDisplay

if TYPE_CHECKING:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle


class ResidualsDisplay(TrendDisplay):
    """Residuals against fitted values, with the band ±β and the rows beyond it marked.

    For a well-specified model, the residuals scatter around zero with the same spread at all
    fitted values, and most of them are within the band ±β. A smooth curve that departs from
    zero suggests that the model lacks a term, and a funnel shape suggests heteroscedastic
    errors. Rows beyond the band are downweighted in the fit but not necessarily erroneous: with
    normal errors and the default threshold, 18 % of the rows of clean data are beyond it.

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

    band_ : matplotlib Rectangle
        Band of residuals between −β and β.

    line_ : matplotlib Line2D
        Horizontal line at a residual of zero.

    smooth_ : matplotlib Line2D or None
        Smooth curve; None if ``smooth=False``.

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
    WeightsDisplay : Robustness weights against residuals.
    sklearn.metrics.PredictionErrorDisplay : Residuals or targets against predictions, without a
        threshold.

    Notes
    -----
    If there are more than `max_markers` rows, a random sample with a fixed seed is drawn, but
    the legend counts all rows. A quarter of the markers are reserved for rows beyond the
    threshold (absolute residual greater than β), so all of these rows are drawn if there are
    few. If more than a quarter of the rows are beyond the threshold, the rows within and beyond
    it are drawn in proportion to their numbers. If not all rows beyond the threshold can be
    drawn, one in a hundred of their markers shows a row with one of the largest absolute
    residuals, and the others show a random sample of the remaining ones. The display uses
    markers rather than hexagonal bins because a single distant row would put all other rows
    into one bin.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skrobust import SmoothL1Regressor
    >>> from skrobust.displays import ResidualsDisplay
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> model = SmoothL1Regressor().fit(X, y)
    >>> display = ResidualsDisplay.from_estimator(model, X, y)
    >>> [text.get_text() for text in display.legend_.get_texts()]
    ['|residual| ≤ β = 75.26', '371 within β', '71 beyond β', 'smooth curve']
    >>> display.figure_.savefig("residuals.png")  # doctest: +SKIP
    """

    _residual_axis = "y"

    def _draw_background(
        self, residuals: NDArray[np.floating], beta: float
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        self.band_: Rectangle = self.ax_.axhspan(
            -beta, beta, color=COLOURS[5], alpha=0.25, lw=0, zorder=0.5
        )
        self.band_.set_label(f"|residual| ≤ β = {beta:.4g}")
        self.line_: Line2D = self.ax_.axhline(0, color=GREY, lw=1, zorder=0.6)
        self.ax_.set_xlabel(self._label("Fitted values"))
        return np.asarray(self.y_pred), residuals
