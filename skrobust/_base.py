"""Base class of the estimators: input tags, prediction, documentation links, callbacks."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import check_is_fitted, validate_data

from ._callbacks import CallbackSupportMixin

# Attributes that validate_data sets on the estimator.
_FEATURES = ("n_features_in_", "feature_names_in_")


class LinearRegressor(CallbackSupportMixin, RegressorMixin, BaseEstimator):
    """A linear model with `coef_` and `intercept_`."""

    _doc_link_module = "skrobust"

    @property
    def _doc_link_template(self) -> str:
        # scikit-learn shows no link to the documentation if this is empty.
        site = _documentation_url()
        return f"{site}/api/{{estimator_module}}.{{estimator_name}}.html" if site else ""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _set_fitted(self, fit: Callable[[], dict[str, Any]]) -> Self:
        """Set the attributes that a fit returns; a fit that fails does not change the model."""
        before = {name: vars(self)[name] for name in _FEATURES if name in vars(self)}
        try:
            attributes = fit()
        except BaseException:
            for name in _FEATURES:
                self.__dict__.pop(name, None)
            self.__dict__.update(before)
            raise
        self.__dict__.update(attributes)
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict with the linear model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples to predict.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
            Predicted values, in units of y. Their dtype is float32 if X and the coefficients
            are float32, and float64 otherwise.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.

        ValueError
            If X contains NaN or infinity, or if its features differ from those of `fit`.
        """
        check_is_fitted(self)
        X = validate_data(
            self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False
        )
        return linear_prediction(self, X)


def linear_prediction(model: Any, X: Any) -> NDArray[Any]:
    """Return the predictions of a fitted linear model for an X that has been validated."""
    prediction = safe_sparse_dot(X, model.coef_.T, dense_output=True) + model.intercept_
    dtype = np.result_type(X.dtype, model.coef_.dtype)
    result: NDArray[Any] = prediction.astype(dtype, copy=False)
    return result


def _documentation_url() -> str:
    """Return the project URL "Documentation" of the package metadata, or ""."""
    try:
        package = metadata.metadata("skrobust")
    except metadata.PackageNotFoundError:
        return ""
    # Each entry has the form "label, URL".
    entries: list[str] = package.get_all("Project-URL") or []
    urls = dict(entry.split(", ", 1) for entry in entries)
    return urls.get("Documentation", "").rstrip("/")
