"""Engines hold X and perform the computations with it: passes, Gram matrices, moments, rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# The line search registers itself for row vectors in blocks.
from . import block_line_search  # noqa: F401
from .blocks import BlockEngine
from .in_memory import engine_in_memory
from .vectors import Blocks

if TYPE_CHECKING:
    from .base import Engine
    from .threads import ThreadTeam

__all__ = ["as_engine"]


def as_engine(X: Any, team: ThreadTeam) -> Engine:
    """Return the engine for this X. Engines are chosen here and nowhere else."""
    return BlockEngine(X, team) if isinstance(X, Blocks) else engine_in_memory(X, team)
