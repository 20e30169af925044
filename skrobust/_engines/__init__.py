"""Engines hold X and compute what needs all of it: a pass, a Gram matrix, moments, rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scipy.sparse import issparse

from .dense import DenseEngine
from .sparse import SparseEngine

if TYPE_CHECKING:
    from .base import Engine
    from .threads import ThreadTeam

__all__ = ["as_engine"]


def as_engine(X: Any, team: ThreadTeam) -> Engine:
    """Return the engine for this X. Engines are chosen here and nowhere else."""
    return SparseEngine(X, team) if issparse(X) else DenseEngine(X, team)
