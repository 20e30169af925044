"""Engines hold X and perform the computations with it: passes, Gram matrices, moments, rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scipy.sparse import issparse

from .dense import DenseEngine
from .small import SMALL_MAX_ELEMENTS, SmallEngine
from .sparse import SparseEngine

if TYPE_CHECKING:
    from .base import Engine
    from .threads import ThreadTeam

__all__ = ["as_engine"]


def as_engine(X: Any, team: ThreadTeam) -> Engine:
    """Return the engine for this X. Engines are chosen here and nowhere else."""
    if issparse(X):
        return SparseEngine(X, team)
    return (SmallEngine if X.size <= SMALL_MAX_ELEMENTS else DenseEngine)(X, team)
