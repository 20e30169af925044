"""An engine that holds X as blocks of rows in one process, and its row vectors.

It shows that solvers, scales and stages use an engine and its row vectors only through the
documented operations. One of the blocks has a single row, and one has no row.
"""

import copy

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from scipy.linalg import qr

from skrobust import _reductions
from skrobust._engines.base import Engine
from skrobust._engines.dense import DenseEngine

# The ends of the seven blocks, as fractions of the rows; one block is empty.
ENDS = (0.1, 0.1, 0.3, 0.35, 0.7, 0.9)


class RowBlocks(NDArrayOperatorsMixin):
    """A row vector: a list of arrays, one for each block."""

    def __init__(self, parts):
        self.parts = list(parts)

    size = property(lambda self: sum(part.size for part in self.parts))
    dtype = property(lambda self: self.parts[0].dtype)

    def __array__(self, *args, **kwargs):
        raise TypeError("a row vector of blocks must not be gathered by mistake")

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        if method != "__call__":
            return NotImplemented
        n = len(self.parts)

        def part_of(value, k):
            return value.parts[k] if isinstance(value, RowBlocks) else value

        results = []
        for k in range(n):
            arguments = [part_of(value, k) for value in inputs]
            options = {name: part_of(value, k) for name, value in kwargs.items()}
            if out is not None:
                options["out"] = tuple(part_of(value, k) for value in out)
            results.append(ufunc(*arguments, **options))
        if ufunc is np.matmul:
            return sum(results)
        return out[0] if out is not None else RowBlocks(results)

    def __array_function__(self, function, types, args, kwargs):
        if function not in FUNCTIONS:
            return NotImplemented
        return FUNCTIONS[function](*args, **kwargs)

    def map(self, function):
        return RowBlocks(function(part) for part in self.parts)

    def astype(self, dtype, copy=True):
        return self.map(lambda part: part.astype(dtype, copy=copy))

    def nonempty(self):
        return [part for part in self.parts if part.size]

    def sum(self):
        return sum(part.sum() for part in self.parts)

    def mean(self):
        return self.sum() / self.size

    def min(self):
        return min(part.min() for part in self.nonempty())

    def max(self):
        return max(part.max() for part in self.nonempty())

    def all(self):
        return all(part.all() for part in self.parts)

    def any(self):
        return any(part.any() for part in self.parts)


def _average(values, weights=None):
    return values.mean() if weights is None else (values @ weights) / weights.sum()


FUNCTIONS = {
    np.count_nonzero: lambda rows: sum(np.count_nonzero(part) for part in rows.parts),
    np.average: _average,
    np.zeros_like: lambda rows: rows.map(np.zeros_like),
    np.ones_like: lambda rows: rows.map(np.ones_like),
    np.empty_like: lambda rows: rows.map(np.empty_like),
    np.clip: lambda rows, low, high: rows.map(lambda part: np.clip(part, low, high)),
}


def whole(rows):
    """Return a row vector as one array."""
    return None if rows is None else np.concatenate(rows.parts)


def _register(function, compute):
    function.register(RowBlocks, compute)


_register(
    _reductions.median,
    lambda rows, weight=None, near=None, absolute=False: _reductions.median(
        whole(rows), whole(weight), near, absolute
    ),
)
_register(_reductions.kth, lambda rows, k: _reductions.kth(whole(rows), k))
_register(_reductions.gather, lambda rows, index: whole(rows)[index])
_register(_reductions.smallest, lambda rows, m: _reductions.smallest(whole(rows), m))
_register(
    _reductions.clipped_sums,
    lambda rows, weight, end: _reductions.clipped_sums(whole(rows), whole(weight), end),
)
_register(
    _reductions.line_minimum,
    lambda residual, change, weight, *rest: _reductions.line_minimum(
        whole(residual), whole(change), whole(weight), *rest
    ),
)


class BlockEngine(Engine):
    """X as seven uneven blocks of rows, each a dense engine."""

    gram_max_features = DenseEngine.gram_max_features
    can_sample = True
    in_memory = False

    def __init__(self, X, team):
        super().__init__(X, team, X.shape[0])
        del self._X
        n = X.shape[0]
        self._ends = sorted({min(n, 1), *(int(part * n) for part in ENDS)})
        self._ends = sorted([*self._ends, self._ends[-1]])
        self._blocks = [DenseEngine(part, team) for part in np.split(X, self._ends)]

    n_elements = property(lambda self: self.n * self.p)

    def _map(self, change):
        engine = copy.copy(self)
        engine._blocks = [change(block) for block in self._blocks]
        return engine

    def with_standardisation(self, centre, scale):
        engine = self._map(lambda block: block.with_standardisation(centre, scale))
        engine.centre, engine.scale = centre, scale
        return engine

    def rescaled(self):
        engine = self._map(lambda block: block.rescaled())
        engine.unit = self.unit * 2.0**64
        return engine

    def zeros(self):
        return RowBlocks(block.zeros() for block in self._blocks)

    def row_vector(self, values):
        return RowBlocks(np.ascontiguousarray(part) for part in np.split(values, self._ends))

    def _parts_of(self, rows):
        return [None] * len(self._blocks) if rows is None else rows.parts

    def loss_gradient(self, coef, y, weight, loss, threshold, out=None):
        self._passes[0] += 1
        parts = zip(
            self._blocks, y.parts, self._parts_of(weight), self._parts_of(out), strict=True
        )
        found = [
            block.loss_gradient(coef, y_part, s_part, loss, threshold, out_part)
            for block, y_part, s_part, out_part in parts
        ]
        return RowBlocks(residual for residual, _ in found), sum(sums for _, sums in found)

    def _sum(self, weight, function):
        pairs = zip(self._blocks, self._parts_of(weight), strict=True)
        return sum(function(block, part) for block, part in pairs if block.n)

    def gram(self, weight=None):
        return self._sum(weight, lambda block, part: block.gram(part))

    def transformed_gram(self, weight, transform):
        return self._sum(weight, lambda block, part: block.transformed_gram(part, transform))

    def root(self, weight=None):
        total = self.n if weight is None else weight.sum()
        roots = []
        for block, part in zip(self._blocks, self._parts_of(weight), strict=True):
            block_total = block.n if part is None else part.sum()
            if block.n and block_total:
                roots.append(block.root(part) * np.sqrt(block_total / total))
        return qr(np.vstack(roots), mode="r")[0][: self.p + 1]

    def _in_memory(self):
        X = np.concatenate([block._X for block in self._blocks])
        engine = DenseEngine(X, self._team).with_standardisation(self.centre, self.scale)
        engine.unit = self.unit
        return engine

    def moments(self, weight, index):
        return self._in_memory().moments(whole(weight), index)

    def extreme_moments(self, weight, columns):
        return self._in_memory().extreme_moments(whole(weight), columns)

    def abs_dot(self, coef):
        return RowBlocks(
            block.abs_dot(coef) if block.n else np.zeros(0) for block in self._blocks
        )

    def rows(self, index):
        return self._in_memory().rows(index)

    def take(self, index):
        return self._in_memory().take(index)

    def row_norms_squared(self):
        return RowBlocks(block.row_norms_squared() for block in self._blocks)

    def row_norm_sample(self, weight, m, rng):
        return self._in_memory().row_norm_sample(whole(weight), m, rng)

    def check_finite(self):
        self._in_memory().check_finite()
