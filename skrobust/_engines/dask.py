"""Checks, predictions and scores for Dask collections.

This module is imported only if a Dask collection is passed to skrobust.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import dask
import dask.array as da
import numpy as np
from dask.utils import is_dataframe_like, is_series_like
from numpy.typing import NDArray
from scipy import sparse
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from .base import FloatArray, linear_prediction
from .block_data import unequal_rows

FLOAT_DTYPES = [np.float64, np.float32]

# Predictions, residuals and scores of a fitted model -------------------------------------


def predict(model: Any, X: Any) -> Any:
    """Return the predictions of a fitted linear model as a lazy collection."""
    dtype = np.result_type(check_features(model, X), model.coef_.dtype)
    return _prediction(X, model.coef_, model.intercept_, dtype)


def outliers(model: Any, X: Any, y: Any) -> da.Array:
    """Return a lazy array that is True where the absolute residual exceeds the threshold."""
    return _abs_residual(model, X, y) > model.beta_


def robustness_weights(model: Any, X: Any, y: Any) -> da.Array:
    """Return the weights min(1, β/|r|) of the rows as a lazy array."""
    return model.beta_ / np.maximum(_abs_residual(model, X, y), model.beta_)


def score(model: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
    """Return R², averaged over the targets, computed from sums over the blocks of rows."""
    dtype = np.result_type(check_features(model, X), model.coef_.dtype)
    fitted = model.coef_, model.intercept_, dtype
    # NaN in X propagates to the predictions, and `_block_sums` checks the predictions for NaN.
    prediction = row_array("X", _prediction(X, *fitted, ensure_all_finite=False))
    data = {"y": row_array("y", y)}
    if sample_weight is not None:
        data["sample_weight"] = row_array("sample_weight", sample_weight)
        if data["sample_weight"].ndim != 1:
            raise ValueError("sample_weight must be one-dimensional.")
    n_targets = [1 if a.ndim == 1 else a.shape[1] for a in (data["y"], prediction)]
    if n_targets[0] != n_targets[1]:
        raise ValueError(
            f"y has {n_targets[0]} targets, but the model was fitted to {n_targets[1]}."
        )
    check_blocks(prediction, data)
    # Without graph optimisation, a block that X and y share is computed only once.
    arrays = [prediction, *data.values()]
    blocks = [array.to_delayed(optimize_graph=False).ravel() for array in arrays]
    block_sums = dask.delayed(_block_sums, pure=False)
    tasks = [block_sums(k, *block) for k, block in enumerate(zip(*blocks, strict=True))]
    return _r2(dask.compute(*tasks))


def row_array(name: str, data: Any, dtype: Any = np.float64) -> da.Array:
    """Convert a collection to a numeric array whose chunks are blocks of complete rows."""
    check_numeric(name, data)
    if not isinstance(data, da.Array):
        # If `optimization.tune.active` were True, Dask would merge file partitions according to
        # the columns that are read, so X and y would have different blocks.
        with dask.config.set({"optimization.tune.active": False}):
            meta = np.empty(data._meta.shape, dtype)
            return data.map_partitions(_float_rows, dtype, meta=meta)
    return data.rechunk({1: -1}) if data.ndim == 2 and data.numblocks[1] > 1 else data


def check_numeric(name: str, data: Any) -> None:
    """Raise a TypeError unless the data are a Dask Array, DataFrame or Series of real dtype."""
    if is_dataframe_like(data):
        dtypes = {f"its column {column!r}": dtype for column, dtype in data.dtypes.items()}
    elif isinstance(data, da.Array) or is_series_like(data):
        dtypes = {"it": data.dtype}
    else:
        raise TypeError(
            f"{name} must be a Dask Array, DataFrame or Series, got {type(data).__name__}."
        )
    for where, dtype in dtypes.items():
        if getattr(dtype, "kind", "O") not in "fiub":
            raise TypeError(
                f"{name} must consist of real numbers, but {where} has the dtype {dtype}."
            )


def check_blocks(X: da.Array, others: dict[str, da.Array]) -> None:
    """Raise a ValueError if another array is known not to have the same blocks of rows as X."""
    for name, data in others.items():
        if data.numblocks[0] != X.numblocks[0]:
            raise ValueError(
                f"X has {X.numblocks[0]} blocks of rows and {name} has {data.numblocks[0]}; "
                f"they need the same rows in each block. Use {name}.rechunk({{0: X.chunks[0]}})"
                " for arrays, or take X and y from one frame df after df = df.persist()."
            )
        for k, (n, m) in enumerate(zip(X.chunks[0], data.chunks[0], strict=True)):
            if n != m and not np.isnan(n) and not np.isnan(m):
                raise unequal_rows(k, n, name, m)


def check_features(model: Any, X: Any, *, reset: bool = False) -> Any:
    """Check the names and number of features; return the dtype to which X is converted."""
    check_numeric("X", X)
    if X.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got {X.ndim}D array instead: X must have the shape "
            "(n_samples, n_features)."
        )
    no_rows = X._meta
    if isinstance(X, da.Array):
        if np.isnan(X.shape[1]):
            raise ValueError(
                "X has an unknown number of columns; call X.compute_chunk_sizes() first."
            )
        no_rows = np.empty((0, X.shape[1]), X.dtype)
    options = {"dtype": FLOAT_DTYPES, "ensure_min_samples": 0}
    return validate_data(model, no_rows, reset=reset, **options).dtype


def _prediction(
    X: Any, coef: NDArray[Any], intercept: Any, dtype: Any, ensure_all_finite: bool = True
) -> Any:
    """Return the predictions of a linear model as a lazy collection of the given dtype."""
    options = {"coef": coef, "intercept": intercept, "result_dtype": dtype}
    options["ensure_all_finite"] = ensure_all_finite
    if not isinstance(X, da.Array):
        meta = _predict_frame(X._meta, **options)
        return X.map_partitions(_predict_frame, meta=meta, **options)
    # The column chunks of a block are passed as a list, since Dask would copy them if it
    # concatenated them.
    index, targets = ("i", {}) if coef.ndim == 1 else ("ik", {"k": len(coef)})
    options |= {"meta": np.empty((0,) * coef.ndim, dtype), "new_axes": targets}
    return da.blockwise(_predict_parts, index, X, "ij", concatenate=False, **options)


def _abs_residual(model: Any, X: Any, y: Any) -> da.Array:
    """Return the absolute residuals in float64 as a lazy array."""
    coef = model.coef_.astype(np.float64)
    prediction = row_array("X", _prediction(X, coef, model.intercept_, np.float64))
    # The result has the block sizes of the first array, so an array with known sizes comes
    # first. With `align_arrays`, Dask would refuse to combine known and unknown sizes.
    arrays = sorted([row_array("y", y), prediction], key=lambda array: np.isnan(array.shape[0]))
    index = "ij"[: prediction.ndim]
    arguments = [argument for array in arrays for argument in (array, index)]
    meta = np.empty((0,) * prediction.ndim)
    return da.blockwise(_abs_difference, index, *arguments, meta=meta, align_arrays=False)


# Tasks on one block ----------------------------------------------------------------------


class _BlockSums(NamedTuple):
    """Weighted sums over the rows of a block; vectors have one element per target.

    `total` is the sum of the weights, and the weighted mean of y is `first` + `shift`.
    `squares` and `errors` are the weighted sums of squared deviations of y from its mean and
    from its prediction. `fault` is an error or a message about invalid data, or None. The task
    returns the fault instead of raising an error, so that the error raised later always
    describes the first invalid block.
    """

    n_rows: int
    fault: str | ValueError | None
    total: float = 0.0
    first: FloatArray = np.empty(0)
    shift: FloatArray = np.empty(0)
    squares: FloatArray = np.empty(0)
    errors: FloatArray = np.empty(0)


def _block_sums(
    k: int, prediction: NDArray[Any], y: NDArray[Any], weight: NDArray[Any] | None = None
) -> _BlockSums:
    """Return the sums over block k or, if its data are invalid, a _BlockSums with the fault."""
    n = prediction.shape[0]
    weight = np.ones(n) if weight is None else weight
    for name, data in (("y", y), ("sample_weight", weight)):
        if data.shape[0] != n:
            return _BlockSums(n, unequal_rows(k, n, name, data.shape[0]))
        if not np.isfinite(data).all():
            return _BlockSums(n, f"Input {name} contains NaN or infinity")
    if (weight < 0).any():
        return _BlockSums(n, "Input sample_weight contains negative values")
    if np.isnan(prediction).any():
        return _BlockSums(n, "Input X contains NaN or infinity")
    used = weight > 0
    if not used.any():
        return _BlockSums(n, None)
    weight = weight[used].astype(np.float64)
    y = (y if y.ndim == 2 else y[:, None])[used].astype(np.float64)
    prediction = (prediction if prediction.ndim == 2 else prediction[:, None])[used]
    total = float(weight.sum())
    # Deviations from the first row are exactly zero if y is constant.
    deviation = y - y[0]
    shift = weight @ deviation / total
    squares, errors = weight @ (deviation - shift) ** 2, weight @ (y - prediction) ** 2
    return _BlockSums(n, None, total, y[0], shift, squares, errors)


def _r2(blocks: tuple[_BlockSums, ...]) -> float:
    """Return R² from the sums of all blocks, following the conventions of `r2_score`.

    The sums of squares are combined by the formula for the variance of pooled samples.
    """
    n = 0
    for k, block in enumerate(blocks):
        if isinstance(block.fault, ValueError):
            raise block.fault
        if block.fault is not None:
            last = n + block.n_rows - 1
            raise ValueError(f"{block.fault}, in block {k} (rows {n} to {last}).")
        n += block.n_rows
    used = [block for block in blocks if block.total > 0]
    if not used:
        raise ValueError(
            "sample_weight must contain at least one positive value, got only zeros."
            if n
            else "Found array with 0 sample(s) while a minimum of 1 is required."
        )
    if n < 2:
        message = "R^2 score is not well-defined with less than two samples."
        warnings.warn(message, UndefinedMetricWarning, stacklevel=4)
        return float("nan")
    total = np.array([block.total for block in used])
    first, shift = (np.array([getattr(b, name) for b in used]) for name in ("first", "shift"))
    mean = (first - first[0]) + (shift - shift[0])
    centre = total @ mean / total.sum()
    squares = np.sum([block.squares for block in used], axis=0) + total @ (mean - centre) ** 2
    errors = np.sum([block.errors for block in used], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        r2 = np.where(squares == 0, 0.0, 1 - errors / squares)
    return float(np.where(errors == 0, 1.0, r2).mean())


def _predict_rows(
    rows: Any, coef: NDArray[Any], intercept: Any, result_dtype: Any, ensure_all_finite: bool
) -> NDArray[Any]:
    """Check the rows of a block in the same way as in-memory data; return their predictions."""
    options = {"dtype": FLOAT_DTYPES, "ensure_min_samples": 0, "input_name": "X"}
    options["ensure_all_finite"] = ensure_all_finite
    rows = check_array(rows, accept_sparse="csr", **options)
    return linear_prediction(rows, coef, intercept).astype(result_dtype, copy=False)


def _predict_parts(parts: list[Any], **options: Any) -> NDArray[Any]:
    """Return the predictions for a block whose columns may be split into several parts."""
    stack = sparse.hstack if sparse.issparse(parts[0]) else np.hstack
    return _predict_rows(parts[0] if len(parts) == 1 else stack(parts), **options)


def _predict_frame(frame: Any, **options: Any) -> Any:
    """Return the predictions for a frame as a Series or, with several targets, a DataFrame."""
    # pandas is imported here because only frames need it.
    import pandas

    prediction = _predict_rows(frame, **options)
    kind = pandas.Series if prediction.ndim == 1 else pandas.DataFrame
    return kind(prediction, index=frame.index)


def _abs_difference(a: NDArray[Any], b: NDArray[Any]) -> FloatArray:
    """Return |a − b|, computed in float64."""
    difference: FloatArray = np.abs(np.subtract(a, b, dtype=np.float64))
    return difference


def _float_rows(frame: Any, dtype: Any) -> NDArray[Any]:
    """Return the values of a frame or series, with NaN for missing values."""
    values: NDArray[Any] = frame.to_numpy(dtype=dtype, na_value=np.nan)
    return values
