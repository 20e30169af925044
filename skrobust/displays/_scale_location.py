"""Display of the square roots of the absolute residuals against the fitted values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ._drawing import COLOURS
from ._rows import TrendDisplay, set_symlog_scale

if TYPE_CHECKING:
    from matplotlib.lines import Line2D


class ScaleLocationDisplay(TrendDisplay):
    r"""Square roots of the absolute residuals against fitted values.

    A smooth curve that rises or falls suggests heteroscedastic errors. The square roots are
    less skewed than the absolute residuals themselves [1]_.

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

    threshold_line_ : matplotlib Line2D
        Horizontal line at the square root of β.

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
    ResidualsDisplay : Signed residuals against fitted values.
    DiagnosticsDisplay : This display and three others in one figure.

    Notes
    -----
    The residuals are in units of y, as in R's ``plot(lmrob)``, whereas R's ``plot(lm)`` shows
    residuals divided by their standard errors.

    References
    ----------
    .. [1] J. M. Chambers, W. S. Cleveland, B. Kleiner and P. A. Tukey, "Graphical Methods for
           Data Analysis", Wadsworth, 1983.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skrobust import SmoothL1Regressor
    >>> from skrobust.displays import ScaleLocationDisplay
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> model = SmoothL1Regressor().fit(X, y)
    >>> display = ScaleLocationDisplay.from_estimator(model, X, y)
    >>> x, curve = display.smooth_.get_data()
    >>> bool(curve[0] < curve[-1])  # the spread increases with the fitted value
    True
    """

    _residual_axis = "y"

    def _on_axis(self, abs_residuals: Any) -> Any:
        return np.sqrt(abs_residuals)

    def _draw_background(
        self, residuals: NDArray[np.floating], beta: float
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        self.threshold_line_: Line2D = self.ax_.axhline(
            np.sqrt(beta), color=COLOURS[5], ls=":", lw=1.5, zorder=0.5, label=f"β = {beta:.4g}"
        )
        self.ax_.set_xlabel(self._label("Fitted values"))
        return np.asarray(self.y_pred), np.sqrt(np.abs(residuals))

    def _set_residual_axis(
        self, scale: Literal["linear", "symlog"], residuals: NDArray[np.floating], beta: float
    ) -> None:
        label = self._label("√|Residuals|")
        if scale == "symlog":
            label += " (logarithmic beyond √β)"
            set_symlog_scale(self.ax_, "y", np.sqrt(beta), np.sqrt(np.abs(residuals)), "√β")
        self.ax_.set_ylabel(label)
        self.ax_.set_ylim(bottom=0)
