"""Validation of X, y, sample weights and penalty weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils import assert_all_finite
from sklearn.utils.validation import _check_sample_weight

FloatArray = NDArray[np.float64]


def check_data(
    check: Callable[..., tuple[Any, Any]], X: Any, y: Any, sample_weight: Any, **options: Any
) -> tuple[Any, NDArray[Any], FloatArray | None]:
    """Return the validated X, y and weights.

    `check` is the scikit-learn function that validates X and y.
    """
    if sparse.issparse(y):
        raise TypeError(
            "y must be dense, got a sparse matrix; pass a dense array, such as y.toarray()."
        )
    options |= {"accept_sparse": "csr", "multi_output": True, "y_numeric": True}
    X, y = check(X, y, dtype=[np.float64, np.float32], **options)
    if y.dtype.kind == "f":
        check_y_is_finite(y)
    return X, y, check_weight(sample_weight, X)


def check_y_is_finite(y: NDArray[Any]) -> None:
    """Raise a ValueError if y, converted to float64, contains NaN or infinity.

    scikit-learn does not check y if its option `assume_finite` is set, and accepts
    extended-precision values that are too large for float64.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(np.abs(y).max())
    if not total <= np.finfo(np.float64).max:
        raise ValueError("y contains NaN, infinity or a value too large for dtype('float64').")


def check_weight(sample_weight: Any, X: Any) -> FloatArray | None:
    """Return the validated weights divided by their maximum, or None if none are given."""
    weight = finite_weight(sample_weight, X)
    # The division is not in place, because the array may belong to the caller.
    return None if weight is None else weight / weight.max()


def finite_weight(sample_weight: Any, X: Any) -> FloatArray | None:
    """Return the validated weights, or None; raise a ValueError for invalid weights."""
    if sample_weight is None:
        return None
    weight: FloatArray = _check_sample_weight(
        sample_weight, X, dtype=np.float64, ensure_non_negative=True
    )
    largest = weight.max()
    if not np.isfinite(largest):
        # scikit-learn does not check whether a scalar weight is finite.
        raise ValueError("sample_weight contains NaN or infinity.")
    if not largest > 0:
        raise ValueError(
            "sample_weight must contain at least one positive value, got only zeros."
        )
    return weight


class WeightedRows(NamedTuple):
    """X and the weights of the rows of positive weight, and the indices of these rows.

    `weight` is None if all positive weights are equal. `positive` and `zero` are the indices of
    the rows of positive and of zero weight, or None if all weights are positive.
    """

    X: Any
    weight: FloatArray | None
    positive: NDArray[np.intp] | None
    zero: NDArray[np.intp] | None


def drop_zero_weight(X: Any, weight: FloatArray | None, estimator_name: str) -> WeightedRows:
    """Return the rows of positive weight.

    Raise a ValueError if X contains NaN or infinity in a row of weight zero.
    """
    if weight is None or weight.all():
        equal = weight is None or np.ptp(weight) == 0
        return WeightedRows(X, None if equal else weight, None, None)
    zero, positive = np.flatnonzero(weight == 0), np.flatnonzero(weight)
    assert_all_finite(X[zero], input_name="X", estimator_name=estimator_name)
    weight = weight[positive]
    return WeightedRows(X[positive], None if np.ptp(weight) == 0 else weight, positive, zero)


def check_penalty_weights(penalty_weights: Any, n_features: int) -> FloatArray | None:
    """Return the validated penalty weights of the features as float64, or None."""
    if penalty_weights is None:
        return None
    try:
        weights = np.asarray(penalty_weights)
        is_text = weights.dtype == object and any(
            isinstance(w, str | bytes) for w in weights.flat
        )
        if weights.dtype.kind not in "biufO" or is_text:
            raise TypeError(f"the dtype is {weights.dtype}")
        weights = weights.astype(np.float64)
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(
            f"penalty_weights must be numbers, got {penalty_weights!r}."
        ) from error
    if weights.ndim != 1:
        raise ValueError(f"penalty_weights must be one-dimensional, got shape {weights.shape}.")
    if weights.size != n_features:
        raise ValueError(
            f"penalty_weights has {weights.size} values, X has {n_features} features"
        )
    bad = np.flatnonzero(~(weights >= 0))
    if bad.size:
        raise ValueError(
            f"penalty_weights[{bad[0]}] must be non-negative or inf, got {weights[bad[0]]}."
        )
    return weights


def excluded_features(penalty_weights: FloatArray | None) -> NDArray[np.bool_] | None:
    """Return a mask of the features with infinite weight, or None if all weights are finite."""
    if penalty_weights is None or np.isfinite(penalty_weights).all():
        return None
    return np.isinf(penalty_weights)
