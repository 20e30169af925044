"""Choice of the engine for an in-memory X by its type and size."""

from __future__ import annotations

from typing import Any

from scipy.sparse import issparse

from .base import Engine
from .dense import DenseEngine
from .small import SMALL_MAX_ELEMENTS, SmallEngine
from .sparse import SparseEngine
from .threads import ThreadTeam


def engine_in_memory(X: Any, team: ThreadTeam) -> Engine:
    """Return the engine for an array or CSR matrix."""
    if issparse(X):
        return SparseEngine(X, team)
    return (SmallEngine if X.size <= SMALL_MAX_ELEMENTS else DenseEngine)(X, team)
