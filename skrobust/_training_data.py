"""The training data of a fit: an engine for the validated X, and vectors of y and weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import validate_data

from ._engines import as_engine
from ._engines.base import Engine, FloatArray
from ._engines.threads import ThreadTeam
from ._fit import StageResult
from ._reductions import RowVector, gather
from ._validation import WeightedRows, check_data, drop_zero_weight


class OpenData(NamedTuple):
    """The engine for X, and the weights and targets, all restricted to rows of positive weight.

    `weight` is None if all weights are equal. `targets` yields, for each target, a vector with
    one element per row.
    """

    engine: Engine
    weight: RowVector | None
    targets: Iterator[RowVector]


class TrainingData(Protocol):
    """X, y and sample weights of a fit, in memory or as Dask collections."""

    n_features: int
    dtype: np.dtype[Any]
    y: Any

    def loaded(self, team: ThreadTeam) -> Any:
        """Return a context manager that yields an `OpenData`."""

    def keep_weights(self, target: int, result: StageResult) -> None:
        """Store the weights ψ(r)/r of a target, from its last stage, for `row_attributes`."""

    def row_attributes(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """Return `weights_` and `outliers_`, given the other fitted attributes."""


class ArrayData:
    """Data in memory: X as an array or CSR matrix, y and sample weights as arrays."""

    def __init__(self, estimator: Any, X: Any, y: Any, sample_weight: Any) -> None:
        # X is not checked for NaN and infinity here. The fit detects them, because they make
        # the sums of its first pass non-finite.
        check = partial(validate_data, estimator)
        with np.errstate(invalid="ignore"):
            self._X, self.y, self._weight = check_data(
                check, X, y, sample_weight, ensure_all_finite=False
            )
        self.n_features, self.dtype = self._X.shape[1], self._X.dtype
        self._name = type(estimator).__name__
        # Targets are converted to float64 if the kernels do not accept their dtype.
        columns = self.y if self.y.dtype.kind in "fiu" else self.y.astype(np.float64)
        self._columns: NDArray[Any] = columns.reshape(columns.shape[0], -1).T

    @contextmanager
    def loaded(self, team: ThreadTeam) -> Iterator[OpenData]:
        rows = self._rows = drop_zero_weight(self._X, self._weight, self._name)
        engine = as_engine(rows.X, team)
        weight = None if rows.weight is None else engine.row_vector(rows.weight)
        targets = (
            engine.row_vector(y if rows.positive is None else y[rows.positive])
            for y in self._columns
        )
        yield OpenData(engine, weight, targets)

    def keep_weights(self, target: int, result: StageResult) -> None:
        weights = _all_weights(result, self._X, self._columns[target], self._rows)
        if self.y.ndim == 1:
            self._weights = weights
            return
        if not target:
            self._weights = np.empty(self.y.shape)
        self._weights[:, target] = weights

    def row_attributes(self, attributes: dict[str, Any]) -> dict[str, Any]:
        return {"weights_": self._weights, "outliers_": self._weights < 1.0}


def _all_weights(
    result: StageResult, X: Any, y: NDArray[Any], rows: WeightedRows
) -> FloatArray:
    """Return ψ(r)/r for all rows, given the result for the rows of positive weight."""
    weights_used: FloatArray = gather(result.weights, slice(None))
    if rows.positive is None:
        return weights_used
    weights = np.empty(y.shape[0])
    weights[rows.positive] = weights_used
    # The fitted values of rows of weight zero may overflow.
    with np.errstate(over="ignore", invalid="ignore"):
        fitted = safe_sparse_dot(X[rows.zero], result.coef) + result.intercept
        size = np.nan_to_num(np.abs(y[rows.zero] - fitted), nan=np.inf, posinf=np.inf)
        weights[rows.zero] = result.beta / np.maximum(size, result.beta)
    return weights
