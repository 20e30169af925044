"""The design matrix X as the algorithm sees it: an n × (1 + p) matrix Z = [1, z].

The features z_ij = (x_ij − centre_j) / scale_j are not stored, unless they are few. Whatever
touches X does so through the methods of `Design`: above all a `sweep` (residuals and gradient
in one pass), a `gram`, the column `moments` and the standardised `rows` of a selection. A new
engine is a new class with these.
"""

import copy
from abc import ABC, abstractmethod

import numpy as np
from scipy import sparse

from ._once import kernels

# Elements of X in a block: small enough for the L2 cache, whatever the layout. At least so many
# bytes of a column, where these lie one by one: of 5,000 columns shorter pieces take 2.5 times
# as long.
_BLOCK, _PIECE = 65_536, 512
# Bytes of rows that a Gram matrix may hold at a time, in each lane.
_GRAM_BYTES = 2**18
# A Gram matrix takes as long as a pass where there are this many features.
_PASSES = 20
# Gram matrices are added up in this many lanes, whatever the number of threads.
_LANES = 4
# A centre within a standard deviation costs x no digits that x − centre has (but those that the
# bulk of a column with rows of leverage may have), and passes over so many elements save time.
_NEAR, _LONG = 1.0, 50_000
# Fewer elements are standardised once and for all.
_ENOUGH = 4_000
# The squares of numbers below this, and their sums, are numbers.
_LARGEST = 1e140
_ONE = np.ones(1)


def as_design(X, team):
    """The engine for this X: the one line where engines are chosen."""
    return SparseDesign(X, team) if sparse.issparse(X) else DenseDesign(X, team)


class Design(ABC):
    """What the engines share: blocks of rows, and the change of units."""

    # With so many features the Gram matrix costs more than the passes that it saves.
    widest: int
    # Whether `take` and `squares` are there.
    can_sample = False

    def __init__(self, X, team, block):
        self.X = X
        self.team = team
        self.n, self.p = X.shape
        self.n_elements = X.nnz if sparse.issparse(X) else X.size
        self.block = max(4, block - block % 4)
        self.n_blocks = -(-self.n // self.block)
        self.centre = np.zeros(self.p)
        self.scale = np.ones(self.p)
        self.unit = 1.0
        # What the loops over X subtract from a row, if anything: the centre or nothing.
        self.pivot: np.ndarray | None = None
        self.n_sweeps = 0

    def standardised(self, centre, scale):
        """The same in these units; a feature of scale inf is constant and becomes z = 0."""
        design = copy.copy(self)
        design.centre, design.scale = centre, scale
        return design

    def shrunk(self):
        """For an X whose sums overflow: a copy in a larger unit."""
        design = as_design(self.X * 2.0**-64, self.team)
        design.unit = 2.0**64
        return design

    def ridge(self, a):
        """∂²/∂v² of a ‖w‖²/2 for each feature, a / scale²; what is beyond 1e300 is as good."""
        with np.errstate(over="ignore"):
            # The root, since 1/scale² may be no number where this is one.
            return np.minimum((np.sqrt(a) / self.scale / self.unit) ** 2, 1e300)

    def sweep(self, coef, y, weight=None, beta=np.inf, residual=None):
        """One pass over X at coef = (b, v): residuals y − b − z·v and their sums.

        Returns the residuals and (Σ s c, Σ s c z, Σ s c (r − c/2), Σ s c²) as one vector of
        length p + 3, where c is the residual clipped at ±beta.
        """
        self.n_sweeps += 1
        residual = np.empty(self.n) if residual is None else residual
        weight = _ONE if weight is None else weight
        sums = np.empty((self.n_blocks, self.p + 3))
        w = coef[1:] / self.scale
        b = float(coef[0]) - (float(self.centre @ w) if self.pivot is None else 0.0)
        self._pass(w, b, y, weight, float(beta), residual, sums)
        raw = sums.sum(axis=0) if self.n_blocks > 1 else sums[0]
        if self.pivot is None:
            raw[: self.p] -= raw[self.p] * self.centre
        out = np.empty(self.p + 3)
        out[0] = raw[self.p]
        out[1 : self.p + 1] = raw[: self.p] / self.scale
        out[self.p + 1 :] = raw[self.p + 1 :]
        return residual, out

    def absolute(self, coef):
        """|Z| coef, in blocks."""
        return np.concatenate([np.abs(self.rows(part)) @ coef for part in self._parts()])

    def _parts(self):
        """Slices of rows, a few of which fit in the cache as temporaries."""
        size = max(256, _GRAM_BYTES // (8 * (self.p + 1)))
        return [slice(i, min(i + size, self.n)) for i in range(0, self.n, size)]

    @abstractmethod
    def _pass(self, w, b, y, weight, beta, residual, sums):
        """Fill residual and the sums of each block, in the units of X."""

    @abstractmethod
    def rows(self, index):
        """The standardised rows [1, z] of an index, a slice or a mask, as a new array."""

    @abstractmethod
    def gram(self, weight=None):
        """Σ s ZᵀZ over the rows of weight > 0."""

    def transformed_gram(self, weight, transform):
        """Mᵀ Σ s ZᵀZ M. `DenseDesign` makes it from ZM, with digits that ZᵀZ has lost."""
        return transform.T @ self.gram(weight) @ transform

    @abstractmethod
    def moments(self, weight, index):
        """Weighted mean and standard deviation of each column.

        NaN or inf in a column shows in its mean. `index` selects rows that may be looked at
        beforehand.
        """

    @abstractmethod
    def extreme_moments(self, weight, columns):
        """Mean and standard deviation of columns whose squares are no floats."""

    def take(self, index):
        """The same design of some rows, in memory."""
        raise NotImplementedError

    def squares(self):
        """Σ_j z_ij² of each row."""
        raise NotImplementedError


class DenseDesign(Design):
    """X as an array of float64 or float32, in any layout."""

    widest = 5_000
    can_sample = True

    def __init__(self, X, team):
        flags = X.flags
        self.layout = "C" if flags.c_contiguous else "F" if flags.f_contiguous else "A"
        least = _PIECE // X.itemsize if self.layout == "F" else 16
        super().__init__(X, team, max(least, _BLOCK // max(1, X.shape[1])))
        # Whether a Gram matrix is made from products of X, else from standardised rows; and
        # these where they are few.
        self._by_products = True
        self._few: np.ndarray | None = None

    def standardised(self, centre, scale):
        design = super().standardised(centre, scale)
        varying = np.isfinite(scale)
        near = np.abs(centre) <= np.where(varying, _NEAR * scale, _LARGEST)
        design.pivot = None if self.n_elements >= _LONG and near.all() else centre
        design._by_products = bool(ordinary(scale[varying]).all())
        design._few = design.rows(slice(None)) if self.n_elements < _ENOUGH else None
        return design

    def _pass(self, w, b, y, weight, beta, residual, sums):
        run = kernels().dense_pass(self.X, self.layout, self.pivot is not None)
        fixed = (self.X, self.pivot, w, b, y, weight, beta, residual, sums)
        self.team.run(lambda first, step: run(*fixed, first, step, self.block), self.n_elements)

    def rows(self, index):
        part = self.X[index]
        out = np.empty((part.shape[0], self.p + 1))
        out[:, 0] = 1.0
        np.subtract(part, self.centre, out=out[:, 1:])
        out[:, 1:] *= 1.0 / self.scale
        return out

    def gram(self, weight=None):
        if self._few is not None:
            Z = self._few if weight is None else np.sqrt(weight)[:, None] * self._few
            return Z.T @ Z
        if not self._by_products:
            return self._sums(self.rows, weight)[1]
        first, second = self._sums(self._deviations, weight)
        total = float(self.n) if weight is None else float(weight.sum())
        unit = 1.0 / self.scale
        second *= unit
        second *= unit[:, None]
        rest = self.centre if self.pivot is None else np.zeros(self.p)
        return _about(rest * unit, total, first * unit, second)

    def transformed_gram(self, weight, transform):
        return self._sums(lambda index: self.rows(index) @ transform, weight)[1]

    def _deviations(self, index):
        """Rows of X less the pivot, in float64."""
        x = self._raw(index).astype(np.float64, copy=False)
        return x if self.pivot is None else x - self.pivot

    def _raw(self, index):
        # Much faster than indexing, but it would copy another layout as a whole.
        fast = self.layout == "C" and not isinstance(index, slice)
        return self.X.take(index, axis=0) if fast else self.X[index]

    def _sums(self, features, weight):
        """Σ s f and Σ s ffᵀ, f = features(index), over the rows of weight > 0."""
        kept = None if weight is None or weight.all() else np.flatnonzero(weight)
        n = self.n if kept is None else kept.size
        ones = weight is None or np.count_nonzero(weight == 1.0) == n
        size = max(256, self.p, _GRAM_BYTES // (8 * (self.p + 1)))
        lanes: list = [None] * max(1, min(_LANES, -(-n // size)))

        def block(start):
            part = slice(start, start + size)
            index = part if kept is None else kept[part]
            f = features(index)
            if ones:
                return np.ones(f.shape[0]) @ f, f.T @ f
            root = np.sqrt(weight[index])
            f = f * root[:, None]
            return root @ f, f.T @ f

        def task(lane, step):
            for k in range(lane, len(lanes), step):
                first, second = block(k * size)
                for start in range((k + len(lanes)) * size, n, len(lanes) * size):
                    found = block(start)
                    first += found[0]
                    second += found[1]
                lanes[k] = first, second

        self.team.run(task, n * self.p**2 // _PASSES)
        return tuple(sum(sums[1:], sums[0]) for sums in zip(*lanes, strict=True))

    def moments(self, weight, index):
        # Sums of deviations from about the mean lose no digits.
        centre = self.X[index].mean(axis=0, dtype=float)
        parts = self._parts()
        sums = np.empty((len(parts), 2, self.p))

        def task(k):
            z = self.X[parts[k]] - centre
            s = np.ones(len(z)) if weight is None else weight[parts[k]]
            sums[k, 0] = s @ z
            z *= z
            sums[k, 1] = s @ z

        self._each(task, len(parts))
        total = float(self.n) if weight is None else weight.sum()
        first, second = sums.sum(axis=0) / total
        return centre + first, np.sqrt(np.maximum(second - first**2, 0.0))

    def squares(self):
        parts, inverse, one = self._parts(), 1.0 / self.scale, np.ones(self.p)
        out = np.empty(self.n)

        def task(k):
            z = self.X[parts[k]] - self.centre
            z *= inverse
            z *= z
            out[parts[k]] = z @ one

        self._each(task, len(parts))
        return out

    def _each(self, task, n):
        """Do a task for each of 0 … n − 1."""

        def some(first, step):
            # Threads do not inherit what their caller ignores.
            with np.errstate(invalid="ignore", over="ignore"):
                for k in range(first, n, step):
                    task(k)

        self.team.run(some, self.n_elements // 4)

    def extreme_moments(self, weight, columns):
        X = self.X[:, columns].astype(np.float64)
        unit = np.abs(X).max(axis=0, initial=0.0)
        unit[unit == 0] = 1.0
        mean, std = weighted_moments(X / unit, weight)
        return mean * unit, std * unit

    def take(self, index):
        design = DenseDesign(np.ascontiguousarray(self._raw(index)), self.team)
        design.unit = self.unit
        return design.standardised(self.centre, self.scale)


class SparseDesign(Design):
    """X as a CSR matrix; centring goes through algebra, since it would fill X."""

    widest = 200

    def __init__(self, X, team):
        # Few blocks: each carries a vector of p sums.
        super().__init__(X, team, -(-X.shape[0] // max(1, min(16, X.nnz // _BLOCK))))
        # SciPy makes the types of the two index arrays alike, but accepts others.
        index = np.result_type(X.indices, X.indptr)
        self._index = X.indices.astype(index, copy=False), X.indptr.astype(index, copy=False)

    def _pass(self, w, b, y, weight, beta, residual, sums):
        X = self.X
        run = kernels().sparse_pass(X.data.dtype, self._index[0].dtype)
        fixed = (X.data, *self._index, w, b, y, weight, beta, residual, sums)
        self.team.run(lambda first, step: run(*fixed, first, step, self.block), self.n_elements)

    def rows(self, index):
        part = self.X[index].toarray()
        out = np.empty((part.shape[0], self.p + 1))
        out[:, 0] = 1.0
        out[:, 1:] = (part - self.centre) / self.scale
        return out

    def gram(self, weight=None):
        weight = np.ones(self.n) if weight is None else weight
        kept = np.flatnonzero(weight)
        X = self.X[kept].astype(np.float64)
        root = np.sqrt(weight[kept])
        X.data *= np.repeat(root, np.diff(X.indptr)) / self.scale[X.indices]
        first, second = np.asarray(X.T @ root).ravel(), (X.T @ X).toarray()
        return _about(self.centre / self.scale, weight.sum(), first, second)

    def moments(self, weight, index):
        return self._moments(self.X, weight)

    def extreme_moments(self, weight, columns):
        X = self.X[:, columns].astype(np.float64)
        unit = abs(X).max(axis=0).toarray().ravel()
        unit[unit == 0] = 1.0
        X.data /= unit[X.indices]
        mean, std = self._moments(X, weight)
        return mean * unit, std * unit

    def _moments(self, X, weight):
        """Mean and standard deviation of the columns, zeros included."""
        s = np.ones(self.n) if weight is None else weight
        total = s.sum()

        def column_sums(data):
            return type(X)((data, X.indices, X.indptr), shape=X.shape).T @ s

        count = np.bincount(X.indices, minlength=X.shape[1])
        zeros = total - (count if weight is None else column_sums(np.ones(X.data.size)))
        zeros[count == self.n] = 0.0
        mean = column_sums(X.data) / total
        # The error of a long sum must not look like the spread of a constant column.
        left = X.data - mean[X.indices]
        mean += (column_sums(left) - zeros * mean) / total
        left = X.data - mean[X.indices]
        left *= left
        square = column_sums(left)
        return mean, np.sqrt((square + np.maximum(zeros, 0.0) * mean**2) / total)


def ordinary(std):
    """Where squares neither overflow, as from 1e154 on, nor vanish, as below 1e-154."""
    return (std > 1e-140) & (std < _LARGEST)


def _about(centre, total, first, second):
    """Σ s (1, x − centre)(1, x − centre)ᵀ from Σ s, Σ s x and Σ s xxᵀ."""
    G = np.empty((first.size + 1, first.size + 1))
    G[0, 0], G[1:, 1:] = total, second
    G[0, 1:] = G[1:, 0] = first - total * centre
    if centre.any():
        cross = first[:, None] * centre
        G[1:, 1:] += total * centre * centre[:, None] - cross - cross.T
    return G


def weighted_moments(X, weight):
    """Mean and standard deviation of the columns of a small dense X."""
    X = X.astype(np.float64, copy=False)
    mean = np.average(X, axis=0, weights=weight)
    deviation = X - mean
    correction = np.average(deviation, axis=0, weights=weight)
    deviation -= correction
    return mean + correction, np.sqrt(np.average(deviation**2, axis=0, weights=weight))
