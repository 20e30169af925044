"""Base class of the estimators: input tags, prediction, documentation links, callbacks."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ._array_api import HAS_DISPATCH, as_numpy, check_same_namespace
from ._callbacks import CallbackSupportMixin
from ._engines.base import linear_prediction
from ._lazy_data import all_dask

# Attributes that `validate_data` sets on the estimator.
_FEATURES = ("n_features_in_", "feature_names_in_")


class LinearRegressor(CallbackSupportMixin, RegressorMixin, BaseEstimator):
    """A linear model with `coef_` and `intercept_`."""

    _doc_link_module = "skrobust"

    @property
    def _doc_link_template(self) -> str:
        # If the template is empty, scikit-learn shows no link to the documentation.
        site = _documentation_url()
        return f"{site}/api/{{estimator_module}}.{{estimator_name}}.html" if site else ""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        if HAS_DISPATCH:
            tags.array_api_support = True
        return tags

    def _set_fitted(
        self, fit: Callable[..., dict[str, Any]], X: Any, y: Any, sample_weight: Any
    ) -> Self:
        """Set the attributes that `fit` returns; if `fit` fails, leave the model unchanged."""
        before = {name: vars(self)[name] for name in _FEATURES if name in vars(self)}
        data, convert = as_numpy(X=X, y=y, sample_weight=sample_weight)
        try:
            attributes = convert(fit(*data))
        except BaseException:
            for name in _FEATURES:
                self.__dict__.pop(name, None)
            self.__dict__.update(before)
            raise
        self.__dict__.update(attributes)
        return self

    def predict(self, X: Any) -> Any:
        """Predict with the linear model.

        Parameters
        ----------
        X : {array-like, sparse matrix, dask Array, dask DataFrame} of shape \
                (n_samples, n_features)
            Rows for which to predict the target.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
            Predicted values, in units of y. Their dtype is float32 if X and the coefficients
            are float32, and float64 otherwise. For Dask collections the predictions are lazy.
            If X is a dask Array, they are a dask Array with the same blocks of rows. If X is a
            DataFrame, they are a Series with the index of X or, for several targets, a
            DataFrame with the columns 0, 1, ….

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.

        ValueError
            If X contains NaN or infinity, or if the features of X differ from those seen during
            `fit`. The features of a Dask collection are checked immediately, its values only
            when the predictions are computed.

        TypeError
            If X is a Dask collection with a non-numeric dtype.
        """
        check_is_fitted(self)
        if all_dask(f"{type(self).__name__}.predict", X=X):
            # Imported here, because Dask is an optional dependency.
            from ._engines import dask

            return dask.predict(self, X)
        check_same_namespace(X, self, attribute="coef_", method="predict")
        fitted = {"coef_": self.coef_, "intercept_": self.intercept_}
        (X, coef, intercept), convert = as_numpy(X=X, **fitted)
        X = validate_data(
            self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False
        )
        return convert(linear_prediction(X, np.asarray(coef), np.asarray(intercept)))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the coefficient of determination R² of the predictions.

        Parameters
        ----------
        X : {array-like, sparse matrix, dask Array, dask DataFrame} of shape \
                (n_samples, n_features)
            Rows for which to predict the target.

        y : {array-like, dask Array, Series or DataFrame} of shape (n_samples,) or \
                (n_samples, n_targets)
            True values.

        sample_weight : {array-like, dask Array or Series} of shape (n_samples,), default=None
            Weight of each row. If None, all rows have the same weight.

        Returns
        -------
        score : float
            R², as computed by :func:`~sklearn.metrics.r2_score`, averaged over the targets. For
            Dask collections R² is computed from sums over the blocks of rows.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.

        ValueError
            If the data contain NaN or infinity, if their shapes do not match, or if the Dask
            collections are not divided into the same blocks of rows.

        TypeError
            If only some of the data are Dask collections.
        """
        check_is_fitted(self)
        caller = f"{type(self).__name__}.score"
        if all_dask(caller, X=X, y=y, sample_weight=sample_weight):
            # Imported here, because Dask is an optional dependency.
            from ._engines import dask

            return dask.score(self, X, y, sample_weight)
        # Imported here, because sklearn.metrics would slow down the import of skrobust.
        from sklearn.metrics import r2_score

        (y, y_pred, weight), _ = as_numpy(
            y=y, y_pred=self.predict(X), sample_weight=sample_weight
        )
        return float(r2_score(y, y_pred, sample_weight=weight))


def _documentation_url() -> str:
    """Return the "Documentation" URL from the package metadata, or "" if there is none."""
    try:
        package = metadata.metadata("skrobust")
    except metadata.PackageNotFoundError:
        return ""
    # Each entry has the form "label, URL".
    entries: list[str] = package.get_all("Project-URL") or []
    urls = dict(entry.split(", ", 1) for entry in entries)
    return urls.get("Documentation", "").rstrip("/")
