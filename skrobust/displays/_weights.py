"""Display of the robustness weights of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from .._mm import MMRegressor
from .._model.loss import BISQUARE, HUBER, Loss
from .._model.normal_constants import constant_of_efficiency
from ._drawing import GREY, check_positive
from ._rows import RowsDisplay, scale_of
from ._statsmodels import StatsmodelsRegressor

if TYPE_CHECKING:
    from matplotlib.lines import Line2D

# Number of points on the weight curve for residuals of each sign.
N_WEIGHT_CURVE_POINTS = 200
# Smallest absolute residual on the curve of bisquare weights, relative to the rejection point.
FIRST_BISQUARE_POINT = 0.01


class WeightsDisplay(RowsDisplay):
    r"""Robustness weights :math:`\min(1, \beta/|r|)` against the residuals r.

    A fit with the Smooth L1 or Huber loss is a weighted least-squares fit with these weights.
    The weight is 1 if the absolute residual is at most the threshold β, and otherwise decreases
    as the absolute residual increases. By default, the rows with the smallest weights are
    labelled. For an :class:`~skrobust.MMRegressor`, the weights are :math:`(1 - (r/c)^2)_+^2`,
    which decrease from 1 at r = 0 to 0 at :math:`|r| = c` and remain 0 beyond.

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

    rejection_point : float, default=None
        Absolute residual c, in units of y, beyond which the weight of an
        :class:`~skrobust.MMRegressor` is 0. By default, the weights of the Smooth L1 and Huber
        losses are drawn.

    Attributes
    ----------
    scatter_ : matplotlib PathCollection
        Markers of the rows whose absolute residuals are at most the threshold. With the Smooth
        L1 and Huber losses, these rows have weight 1.

    outlier_scatter_ : matplotlib PathCollection
        Markers of the rows whose absolute residuals exceed the threshold.

    line_ : matplotlib Line2D
        Curve of the weight as a function of the residual.

    threshold_lines_ : list of matplotlib Line2D
        Vertical lines at −β and β.

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

    Notes
    -----
    The weight of a row with residual r is :math:`\ell'(r)/r` up to a constant factor, where
    :math:`\ell` is the loss [1]_. The weight does not include `sample_weight`, which is a
    separate factor in the weighted least-squares fit. At most `max_markers` rows, selected as
    in :class:`ResidualsDisplay`, and the labelled rows are drawn.

    References
    ----------
    .. [1] P. W. Holland and R. E. Welsch, "Robust regression using iteratively reweighted
           least-squares", Communications in Statistics A6, 1977.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skrobust import SmoothL1Regressor
    >>> from skrobust.displays import WeightsDisplay
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> model = SmoothL1Regressor().fit(X, y)
    >>> display = WeightsDisplay.from_estimator(model, X, y)
    >>> round(float(display.outlier_scatter_.get_offsets()[:, 1].min()), 2)
    0.47
    """

    _residual_axis = "x"

    def __init__(
        self,
        *,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        beta: float,
        names: Sequence[Any] | None = None,
        target_name: str | None = None,
        rejection_point: float | None = None,
    ) -> None:
        super().__init__(
            y_true=y_true, y_pred=y_pred, beta=beta, names=names, target_name=target_name
        )
        self.rejection_point = rejection_point

    @staticmethod
    def _parameters_of(regressor: BaseEstimator) -> dict[str, Any]:
        if isinstance(regressor, StatsmodelsRegressor):
            return {"rejection_point": regressor.rejection_point}
        if not isinstance(regressor, MMRegressor):
            return {}
        factor = constant_of_efficiency(float(regressor.efficiency))
        return {"rejection_point": factor * scale_of(regressor)}

    def _draw_background(
        self, residuals: NDArray[np.floating], beta: float
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        loss: Loss = HUBER
        label, start, end = "min(1, β/|r|)", beta, beta
        if self.rejection_point is not None:
            end = check_positive(self.rejection_point, "rejection_point")
            loss, label = BISQUARE, f"(1 − (r/c)²)², c = {end:.4g}"
            start = FIRST_BISQUARE_POINT * end
        # The points of the curve are spaced geometrically because residuals may have any
        # magnitude.
        negative_end = max(2 * end, -residuals.min())
        positive_end = max(2 * end, residuals.max())
        negative = -np.geomspace(start, negative_end, N_WEIGHT_CURVE_POINTS)[::-1]
        positive = np.geomspace(start, positive_end, N_WEIGHT_CURVE_POINTS)
        curve_residuals = np.concatenate([negative, positive])
        self.line_: Line2D = self.ax_.plot(
            curve_residuals, loss.weights(curve_residuals, end), color=GREY, lw=1, label=label
        )[0]
        self.threshold_lines_ = [
            self.ax_.axvline(threshold, color=GREY, ls=":", lw=1, zorder=0.5)
            for threshold in (-beta, beta)
        ]
        self.threshold_lines_[1].set_label(f"±β = ±{beta:.4g}")
        self.ax_.set(ylabel="Weight", ylim=(-0.03, 1.05))
        return residuals, loss.weights(residuals.astype(float), end)
