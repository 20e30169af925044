"""Access to the regressor inside pipelines, searches and TransformedTargetRegressor.

A display needs the innermost regressor of an estimator, the data that this regressor receives,
and a single target.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.validation import check_is_fitted

from ._array_api import as_numpy, with_numpy_attributes

# Features in a form that estimators accept: an array, a dataframe or a sparse matrix.
MatrixLike: TypeAlias = ArrayLike | sparse.sparray | sparse.spmatrix


def inner_estimator(estimator: BaseEstimator) -> BaseEstimator | None:
    """Return the estimator that a fitted meta-estimator wraps, or None.

    The meta-estimators are pipelines, TransformedTargetRegressor and searches.
    """
    if isinstance(estimator, Pipeline):
        return estimator.steps[-1][1]
    if isinstance(estimator, TransformedTargetRegressor):
        return estimator.regressor_
    return getattr(estimator, "best_estimator_", None)


def innermost_estimator(estimator: BaseEstimator) -> BaseEstimator:
    """Return the estimator inside all meta-estimators, which must be fitted."""
    check_is_fitted(estimator)
    while (inner := inner_estimator(estimator)) is not None:
        estimator = inner
    return estimator


def find_estimator_with(
    estimator: BaseEstimator, attribute: str, *, advice: str
) -> BaseEstimator:
    """Return the outermost estimator that has the attribute, searching inwards.

    If there is none, raise a ValueError whose message ends with `advice`.
    """
    check_is_fitted(estimator)
    candidate: BaseEstimator | None = estimator
    while candidate is not None and not hasattr(candidate, attribute):
        candidate = inner_estimator(candidate)
    if candidate is None:
        raise ValueError(f"{type(estimator).__name__} has no attribute {attribute!r}; {advice}")
    return candidate


@dataclass(frozen=True)
class UnwrappedData:
    """The innermost regressor, and the data that its meta-estimators pass to it."""

    regressor: BaseEstimator
    X: MatrixLike
    y: NDArray[np.float64]
    target_name: str | None
    feature_names: list[str] | None


def unwrap(
    estimator: BaseEstimator, X: MatrixLike, y: ArrayLike, target: int | None = None
) -> UnwrappedData:
    """Return the innermost regressor of a fitted estimator, with X and one target.

    Inside a TransformedTargetRegressor, the target is transformed, because the threshold, the
    coefficients and the residuals of the regressor are in units of the transformed target.
    Arrays from other libraries are converted to NumPy arrays.
    """
    check_is_fitted(estimator)
    check_consistent_length(X, y)
    target_name, feature_names = target_name_of(y, target), column_names(X)
    (y,), _ = as_numpy(y=y)
    y_values = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
    regressor = estimator
    while (inner := inner_estimator(regressor)) is not None:
        if isinstance(regressor, Pipeline):
            for _, transformer in regressor.steps[:-1]:
                if transformer is not None and transformer != "passthrough":
                    X = transformer.transform(X)
                    feature_names = _feature_names_out(transformer, feature_names)
        elif isinstance(regressor, TransformedTargetRegressor):
            y_values = regressor.transformer_.transform(y_values.reshape(len(y_values), -1))
            target_name = _transformed_name(regressor, target_name)
        regressor = inner
    y_values = column(y_values, target, "y")
    # X is converted only after the transformations, because the transformers were fitted to
    # arrays from the library of X.
    (X,), _ = as_numpy(X=X)
    regressor = with_numpy_attributes(regressor)
    return UnwrappedData(regressor, X, y_values, target_name, feature_names)


def _transformed_name(regressor: TransformedTargetRegressor, target_name: str | None) -> str:
    """Return the name of a transformed target, such as "log(price)"."""
    function_name = getattr(regressor.func, "__name__", "")
    if function_name.isidentifier():  # false for a lambda
        return f"{function_name}({target_name or 'y'})"
    return f"transformed {target_name or 'y'}"


def column(values: ArrayLike, target: int | None, name: str) -> NDArray[np.float64]:
    """Return the column of one target as a float64 vector; `name` is for error messages."""
    (values,), _ = as_numpy(**{name: values})
    array: NDArray[np.float64] = check_array(
        values, ensure_2d=False, dtype=np.float64, input_name=name
    )
    columns = array.reshape(len(array), -1)
    n_targets = columns.shape[1] if array.ndim > 1 else 1
    if target is None and n_targets > 1:
        raise ValueError(
            f"{name} has {n_targets} targets; select one with target=0 to "
            f"target={n_targets - 1}."
        )
    check_target(target, n_targets)
    return columns[:, target or 0]


def value_of_target(values: ArrayLike, target: int | None) -> float:
    """Return the value of a fitted attribute, such as `beta_`, for one target."""
    return float(np.ravel(values)[target or 0])


def check_target(target: int | None, n_targets: int) -> None:
    """Raise a ValueError unless `target` is None or the index of a target."""
    if target is not None and (
        not isinstance(target, Integral) or not 0 <= int(target) < n_targets
    ):
        raise ValueError(
            f"target must be None or an integer in the range [0, {n_targets - 1}], got "
            f"{target!r}."
        )


def target_name_of(y: ArrayLike, target: int | None) -> str | None:
    """Return the name of a series or of the target's column in a dataframe; None if unnamed."""
    name = getattr(y, "name", None)
    columns = column_names(y)
    if columns is not None and (len(columns) == 1 or isinstance(target, Integral)):
        name = columns[min(target or 0, len(columns) - 1)]
    return None if name is None or name == "" else str(name)


def column_names(X: MatrixLike) -> list[str] | None:
    """Return the column names of a dataframe as strings, or None for an array."""
    columns: Sequence[Any] | None = getattr(X, "columns", None)
    return None if columns is None else [str(name) for name in columns]


def _feature_names_out(transformer: BaseEstimator, names: list[str] | None) -> list[str] | None:
    """Return the names of a transformer's output features, or None if it defines none."""
    try:
        return [str(name) for name in transformer.get_feature_names_out(names)]
    except AttributeError:  # the transformer, or one that it wraps, lacks the method
        return None
