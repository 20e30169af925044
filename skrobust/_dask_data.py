"""Training data in Dask collections. This module is imported only for such data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from ._engines import as_engine
from ._engines.dask import check_blocks, check_features, outliers, robustness_weights, row_array
from ._engines.dask_blocks import DaskBlocks, current_client
from ._engines.threads import ThreadTeam
from ._fit import StageResult
from ._training_data import OpenData


class DaskData:
    """X, y and sample weights as Dask Arrays, Series or DataFrames."""

    def __init__(self, estimator: Any, X: Any, y: Any, sample_weight: Any) -> None:
        self.dtype = check_features(estimator, X, reset=True)
        self._X, self.y = X, y
        check_vector_shapes(y, sample_weight)
        arrays = {"X": row_array("X", X, self.dtype), "y": row_array("y", y)}
        if sample_weight is not None:
            arrays["sample_weight"] = row_array("sample_weight", sample_weight)
        check_blocks(arrays["X"], {name: arrays[name] for name in list(arrays)[1:]})
        self._arrays = arrays
        self.n_features = X.shape[1]

    @contextmanager
    def loaded(self, team: ThreadTeam) -> Iterator[OpenData]:
        blocks = self._blocks()
        try:
            engine = as_engine(blocks, team)
            yield OpenData(engine, blocks.weight, iter(blocks.targets))
        finally:
            blocks.close()

    def _blocks(self) -> DaskBlocks:
        """Return the blocks of rows for the current Dask client or the configured scheduler."""
        data, client = (self._arrays, self.n_features, self.dtype), current_client()
        if client is None:
            return DaskBlocks(*data)
        # Imported here, because `distributed` is an optional dependency.
        from ._engines.cluster import ClusterBlocks

        return ClusterBlocks(*data, client)

    def keep_weights(self, target: int, result: StageResult) -> None:
        """Do nothing, because the weights are computed lazily."""

    def row_attributes(self, attributes: dict[str, Any]) -> dict[str, Any]:
        # The attributes are lazy and may be computed long after the fit, so they refer to the
        # collections of the caller and not to the blocks of the fit, which are closed.
        model = SimpleNamespace(**attributes)
        return {
            "weights_": robustness_weights(model, self._X, self.y),
            "outliers_": outliers(model, self._X, self.y),
        }


def check_vector_shapes(y: Any, sample_weight: Any) -> None:
    """Raise a ValueError if y or the sample weights have an invalid shape."""
    if getattr(y, "ndim", 1) not in (1, 2) or (y.ndim == 2 and not y.shape[1] >= 1):
        raise ValueError(
            f"y must have shape (n_samples,) or (n_samples, n_targets), got {y.shape}. If the "
            "number of targets is unknown, call y.compute_chunk_sizes() first."
        )
    if sample_weight is not None and sample_weight.ndim != 1:
        raise ValueError("sample_weight must be one-dimensional.")
