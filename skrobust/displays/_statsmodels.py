"""Adapter with which the displays use statsmodels results like a fitted regressor.

This module does not import statsmodels.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin

from .._mm import OUTLIER_END


class StatsmodelsRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Results of a statsmodels linear model, with the methods of a fitted regressor.

    Parameters
    ----------
    results : statsmodels results
        Results of a linear model, such as ``RLM(y, X).fit()``.
    """

    def __init__(self, results: Any) -> None:
        self.results = results

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, X: Any, y: Any) -> StatsmodelsRegressor:
        """Return the regressor unchanged; scikit-learn requires a `fit` method."""
        return self

    @property
    def name(self) -> str:
        return type(self.results.model).__name__

    def predict(self, X: Any) -> NDArray[np.float64]:
        return np.asarray(self.results.predict(X), dtype=float)

    def has_norm(self, name: str) -> bool:
        """Return whether the results are those of an ``RLM`` with the norm called `name`."""
        norms = sys.modules.get("statsmodels.robust.norms")
        return norms is not None and isinstance(
            getattr(self.results.model, "M", None), getattr(norms, name)
        )

    @property
    def beta_(self) -> float:
        scale = float(self.results.scale)
        if self.has_norm("HuberT"):
            return float(self.results.model.M.t) * scale
        if self.has_norm("TukeyBiweight"):
            return OUTLIER_END * scale
        raise AttributeError(f"The results of {self.name} have no threshold.")

    @property
    def rejection_point(self) -> float | None:
        """Absolute residual beyond which the bisquare weight is 0; None for other models."""
        if self.has_norm("TukeyBiweight"):
            return float(self.results.model.M.c * self.results.scale)
        norm = getattr(self.results.model, "M", None)
        if norm is not None and not self.has_norm("HuberT"):
            raise ValueError(
                "WeightsDisplay draws the weights of the norms HuberT and TukeyBiweight, not "
                f"those of {type(norm).__name__}."
            )
        return None


def as_estimator(model: Any) -> Any:
    """Return a StatsmodelsRegressor for statsmodels results, and other objects unchanged."""
    wrapper = sys.modules.get("statsmodels.base.wrapper")
    if wrapper is not None and isinstance(model, wrapper.ResultsWrapper):
        return StatsmodelsRegressor(model)
    return model
