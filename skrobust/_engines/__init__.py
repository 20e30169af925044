"""Engines, which hold X and perform every computation on it: passes, Gram matrices, moments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# This import registers the line search for row vectors in blocks.
from . import block_line_search  # noqa: F401
from .blocks import BlockEngine
from .in_memory import engine_in_memory
from .vectors import Blocks

if TYPE_CHECKING:
    from .base import Engine
    from .threads import ThreadTeam

__all__ = ["as_engine"]


def as_engine(X: Any, team: ThreadTeam) -> Engine:
    """Return the engine for X. The rest of skrobust creates engines only with this function."""
    return BlockEngine(X, team) if isinstance(X, Blocks) else engine_in_memory(X, team)
