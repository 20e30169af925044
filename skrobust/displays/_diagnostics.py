"""Display of four diagnostic plots of a fit in one figure."""

from __future__ import annotations

from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from .._cv import SmoothL1RegressorCV
from .._lazy_data import require_in_memory
from .._mm import MMRegressor
from .._observation_table import observation_table
from .._regressor import SmoothL1Regressor
from .._unwrap import MatrixLike, innermost_estimator
from ._drawing import PanelAxes, check_matplotlib, labelled_rows, panel_axes
from ._influence import InfluenceDisplay
from ._outlier_map import OutlierMapDisplay
from ._qq import QQDisplay
from ._residuals import ResidualsDisplay
from ._scale_location import ScaleLocationDisplay
from ._statsmodels import as_estimator
from ._weights import WeightsDisplay

# Type of the display in the fourth panel.
FourthDisplay: TypeAlias = InfluenceDisplay | OutlierMapDisplay | WeightsDisplay

# Default number of rows labelled by each criterion: the largest absolute residuals and the
# largest Cook's distances.
N_DIAGNOSTIC_LABELS = 3
# Width and height of a new figure in inches.
FIGURE_SIZE = (10, 8)


class DiagnosticsDisplay:
    """Four diagnostic plots of a fit in one figure.

    The panels show the residuals against the fitted values, a normal quantile-quantile (Q-Q)
    plot of the residuals, the square roots of the absolute residuals against the fitted values,
    and the influence of each row on the fit. The panels correspond to those of R's
    ``plot(lm)``. For an :class:`~skrobust.MMRegressor`, the fourth panel is an outlier map, as
    in R's ``plot(lmrob)``. If the `MMRegressor` has no robust distances, for example because
    all features are indicators, or if the regressor is from another package, the fourth panel
    shows the robustness weights.

    The same rows are labelled in all panels: those with the largest absolute residuals and, for
    a Huber fit, those with the largest Cook's distances. A leverage point that attracts the fit
    may have a small residual, but is labelled because of its large Cook's distance.

    Parameters
    ----------
    residuals : ResidualsDisplay
        Plot of the residuals against the fitted values.

    quantiles : QQDisplay
        Normal Q-Q plot of the residuals.

    scale_location : ScaleLocationDisplay
        Plot of the square roots of the absolute residuals against the fitted values.

    influence : InfluenceDisplay, OutlierMapDisplay or WeightsDisplay
        Display in the fourth panel.

    Attributes
    ----------
    residuals, quantiles, scale_location, influence : displays
        Displays in the panels, which store the matplotlib artists as attributes.

    labelled_ : ndarray
        Positions in y of the labelled rows.

    ax_ : ndarray of shape (2, 2) of matplotlib Axes
        Axes of the panels.

    figure_ : matplotlib Figure
        Figure that contains the axes.

    See Also
    --------
    ResidualsDisplay : The first panel alone.
    QQDisplay : The second panel alone.
    ScaleLocationDisplay : The third panel alone.
    InfluenceDisplay : The fourth panel alone, for a Huber fit.
    OutlierMapDisplay : The fourth panel alone, for an MM-estimate.
    skrobust.inference.observation_table : Table of the diagnostics of each row.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skrobust import SmoothL1Regressor
    >>> from skrobust.displays import DiagnosticsDisplay
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> y[7] += 1000
    >>> model = SmoothL1Regressor().fit(X, y)
    >>> display = DiagnosticsDisplay.from_estimator(model, X, y, labelled=1)
    >>> [label.get_text() for label in display.influence.labels_]
    ['7', '169']
    """

    def __init__(
        self,
        *,
        residuals: ResidualsDisplay,
        quantiles: QQDisplay,
        scale_location: ScaleLocationDisplay,
        influence: FourthDisplay,
    ) -> None:
        self.residuals = residuals
        self.quantiles = quantiles
        self.scale_location = scale_location
        self.influence = influence

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: MatrixLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        beta: float | None = None,
        target: int | None = None,
        target_name: str | None = None,
        ax: PanelAxes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the diagnostic plots of a fitted estimator.

        Parameters
        ----------
        estimator : fitted estimator
            A :class:`~skrobust.SmoothL1Regressor`, :class:`~skrobust.SmoothL1RegressorCV` or
            :class:`~skrobust.MMRegressor`, a pipeline, a hyperparameter search or a
            :class:`~sklearn.compose.TransformedTargetRegressor` that contains one, or a
            regressor from another package that :class:`WeightsDisplay` accepts.

        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training features. If X is a pandas DataFrame, its index supplies the row labels.

        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Training targets.

        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights used in the fit, on which leverages and Cook's distances depend.

        beta : float, default=None
            Threshold in units of y. Rows whose absolute residuals exceed it are drawn as
            crosses. The default is that of :class:`ResidualsDisplay`.

        target : int, default=None
            Index of the target to show; required if there are several targets.

        target_name : str, default=None
            Name of the target in the axis labels. By default, the name of y is used if it has
            one.

        ax : matplotlib Axes or array of Axes of shape (2, 2), default=None
            Axes to draw on, as described in `plot`.

        **kwargs : dict
            Additional keyword arguments passed to `plot`.

        Returns
        -------
        display : DiagnosticsDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        NotFittedError
            If the estimator is not fitted.

        ValueError
            If the data differ from the training data, `beta` is required but not given, a Huber
            fit does not have more rows than coefficients, or a parameter is out of range.
        """
        caller = "DiagnosticsDisplay.from_estimator"
        check_matplotlib(caller)
        require_in_memory(caller, "display", X=X, y=y, sample_weight=sample_weight)
        estimator = as_estimator(estimator)
        regressor = innermost_estimator(estimator)
        rows = estimator, X, y, beta, target, target_name
        influence: FourthDisplay
        if isinstance(regressor, MMRegressor) and regressor._has_distances():
            influence = OutlierMapDisplay._undrawn(estimator, X, y, target_name)
        elif isinstance(regressor, (SmoothL1Regressor, SmoothL1RegressorCV)):
            table = observation_table(
                estimator, X, y, sample_weight=sample_weight, target=target
            )
            influence = InfluenceDisplay._undrawn(table, target_name)
        else:
            influence = WeightsDisplay._undrawn(*rows)
        display = cls(
            residuals=ResidualsDisplay._undrawn(*rows),
            quantiles=QQDisplay._undrawn(*rows),
            scale_location=ScaleLocationDisplay._undrawn(*rows),
            influence=influence,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(
        self,
        ax: PanelAxes | None = None,
        *,
        labelled: int | ArrayLike = N_DIAGNOSTIC_LABELS,
        smooth: bool = True,
        max_markers: int = 2_000,
    ) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes of shape (2, 2), default=None
            Four Axes to draw on, or a single Axes to be replaced by four Axes in the same
            position. If None, a new figure is created.

        labelled : int or array-like of int, default=3
            Rows to label. If an integer k, the k rows with the largest absolute residuals and,
            for a Huber fit, the k rows with the largest Cook's distances are labelled. If an
            array, it gives the positions in y of the rows to label.

        smooth : bool, default=True
            Whether to draw a robust smooth curve (lowess) through the rows in each of the two
            panels that show fitted values.

        max_markers : int, default=2000
            Maximum number of rows to draw in each panel, not counting the labelled rows. An
            outlier map may show more, because it always shows all leverage points and outliers.

        Returns
        -------
        self : DiagnosticsDisplay
            The display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        ValueError
            If a parameter is out of range, or `ax` has the wrong shape or is not part of a grid
            of subplots.

        TypeError
            If `ax` is neither a matplotlib Axes nor an array of matplotlib Axes.
        """
        check_matplotlib("DiagnosticsDisplay.plot")
        residuals = np.asarray(self.residuals.y_true) - np.asarray(self.residuals.y_pred)
        self.labelled_ = labelled_rows(labelled, np.abs(residuals))
        if isinstance(self.influence, InfluenceDisplay):
            distances = np.nan_to_num(np.asarray(self.influence.cooks_distance, dtype=float))
            influential = labelled_rows(labelled, distances)
            self.labelled_ = np.union1d(self.labelled_, influential)
        self.ax_ = panel_axes(ax, (2, 2), FIGURE_SIZE)
        self.figure_ = self.ax_[0, 0].figure
        common: dict[str, Any] = {"labelled": self.labelled_, "max_markers": max_markers}
        first, second, third, fourth = self.ax_.ravel().tolist()
        self.residuals.plot(first, smooth=smooth, **common)
        self.quantiles.plot(second, legend=False, **common)
        self.scale_location.plot(third, smooth=smooth, legend=False, **common)
        self.influence.plot(
            fourth, legend=isinstance(self.influence, InfluenceDisplay), **common
        )
        return self
