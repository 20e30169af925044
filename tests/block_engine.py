"""The block engine for an in-memory X that is split into eight blocks of unequal size.

One of the blocks has a single row, and another is empty.
"""

from itertools import pairwise

import numpy as np
from scipy import sparse

from skrobust._engines import blocks
from skrobust._engines.block_data import LocalBlocks
from skrobust._engines.vectors import BlockVector, StoredVector

# Block ends as fractions of the number of rows. `split` adds a block with a single row and an
# empty block.
ENDS = (0.1, 0.3, 0.35, 0.7, 0.9)


def split(rows):
    """Split an array or sparse matrix into blocks of rows."""
    n = rows.shape[0]
    ends = sorted({min(n, 1), *(int(part * n) for part in ENDS)})
    ends = [0, *ends, ends[-1], n]
    return [rows[first:last] for first, last in pairwise(ends)]


class BlockEngine(blocks.BlockEngine):
    """The block engine for an in-memory X, which `split` divides into blocks."""

    def __init__(self, X, team):
        if sparse.issparse(X):
            X = X.tocsr()
        super().__init__(LocalBlocks(split(X), split(np.zeros(X.shape[0]))), team)

    def row_vector(self, values):
        parts = [np.ascontiguousarray(part) for part in split(values) if part.size]
        return BlockVector(self._blocks, StoredVector(parts), values.dtype)
