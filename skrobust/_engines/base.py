"""The engine interface: computations with Z, a column of ones and the standardised features.

The matrix Z = [1, z] has shape (n, 1 + p). The standardised features z_ij = (x_ij − centre_j) /
scale_j are stored only if X is small. All operations on X are methods of `Engine`. To add an
engine, subclass `Engine` and extend `as_engine`. An engine may use its own class for row
vectors, which hold one number per row (see `_reductions`).
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr
from sklearn.utils import assert_all_finite
from sklearn.utils.extmath import safe_sparse_dot

if TYPE_CHECKING:
    from collections.abc import Callable

    from .threads import ThreadTeam

RowVector = Any
FloatArray = NDArray[np.float64]
RowIndex = slice | NDArray[Any]

# Squares of numbers whose absolute values are below this bound, and sums of such squares, do
# not overflow.
MAX_SQUARABLE = 1e140
# Estimator name in error messages about the data.
_ESTIMATOR = "SmoothL1Regressor"
# Minimum number of rows of Z processed by each step of the QR decomposition in `root`.
ROOT_BLOCK_ROWS = 4_096
# Number of bytes of standardised rows that a task holds at a time.
TASK_BYTES = 2**18


class CompiledLoss(Protocol):
    """The attributes of a loss that an engine uses.

    An engine either compiles the scalar function `rho_psi` or evaluates `rho_and_psi` on row
    vectors.
    """

    @property
    def rho_psi(self) -> Callable[[float, float], tuple[float, float]]: ...

    def rho_and_psi(self, r: RowVector, threshold: float) -> tuple[RowVector, RowVector]: ...


class Engine(ABC):
    """X, divided into blocks of rows, and the standardisation of its columns.

    Parameters
    ----------
    X : ndarray, CSR matrix or Blocks of shape (n, p)
        Features in float64 or float32.
    team : ThreadTeam
        Threads that run the passes over X.
    block : int
        Number of rows per block, rounded down to a multiple of 4.

    Attributes
    ----------
    n, p, n_elements : int
        Numbers of rows, features and stored elements of X.
    dtype : numpy.dtype
        The dtype of X.
    eps : float
        Machine epsilon of the arithmetic used.
    n_passes : int
        Number of passes over X so far, including those of engines with other standardisations.
    centre, scale : ndarray of shape (p,)
        Centre and scale of each feature. A constant feature has scale inf, which makes z_ij 0.
    unit : float
        The power of two by which X was divided to avoid overflow; see `rescaled`.
    """

    n: int
    p: int
    # Number of features at which computing a Gram matrix takes as long as the passes over X
    # that it saves.
    gram_max_features: int
    # Number of times that the engine waited for results from blocks; zero for X in memory.
    n_rounds = 0
    # Whether row vectors are ndarrays, as `PathNewton` requires.
    in_memory = True
    # Whether rows can be sampled; this requires `take` and `row_norms_squared`.
    can_sample = False
    eps = float(np.finfo(float).eps)

    def __init__(self, X: Any, team: ThreadTeam, block: int) -> None:
        self._X = X
        self._team = team
        self.n, self.p = X.shape
        self.dtype = X.dtype
        self.block = max(4, block - block % 4)
        self.n_blocks = max(1, -(-self.n // self.block))
        self.centre: FloatArray = np.zeros(self.p)
        self.scale: FloatArray = np.ones(self.p)
        self.unit = 1.0
        # Mask of the excluded features, whose scale is always inf; None if none is excluded.
        self._excluded: NDArray[np.bool_] | None = None
        # Number of passes over X, in a list that engines with other standardisations share.
        self._passes = [0]

    @property
    @abstractmethod
    def n_elements(self) -> int:
        """Number of stored elements of X."""

    @property
    def n_passes(self) -> int:
        return self._passes[0]

    def with_standardisation(self, centre: FloatArray, scale: FloatArray) -> Self:
        """Return an engine for the same X with another centre and scale."""
        engine = copy.copy(self)
        if self._excluded is not None:
            scale = np.where(self._excluded, np.inf, scale)
        engine.centre, engine.scale = centre, scale
        return engine

    def without(self, excluded: NDArray[np.bool_]) -> Self:
        """Return an engine that treats the excluded features as constant."""
        engine = copy.copy(self)
        engine._excluded = excluded
        return engine

    def rescaled(self) -> Self:
        """Return an engine for X / 2**64, which is used if sums over X overflow."""
        engine = type(self)(self._X * 2.0**-64, self._team)  # type: ignore[call-arg]
        engine.unit, engine._passes = self.unit * 2.0**64, self._passes
        engine._excluded = self._excluded
        return engine

    def zeros(self) -> RowVector:
        """Return a row vector of zeros."""
        return np.zeros(self.n)

    def row_vector(self, values: Any) -> RowVector:
        """Convert an array with one value per row to a row vector of this engine."""
        return values

    @abstractmethod
    def loss_gradient(
        self,
        coef: FloatArray,
        y: RowVector,
        weight: RowVector | None,
        loss: CompiledLoss,
        threshold: float,
        out: RowVector | None = None,
    ) -> tuple[RowVector, FloatArray]:
        """Return the residuals r = y − b − z·v at coef = (b, v), and sums over the rows.

        The sums are the array (Σ s ψ, Σ s ψ z, Σ s ρ, Σ s ψ²) of shape (p + 3,), where s is the
        weight and ρ and ψ = ρ′ are the loss and its derivative at r. The residuals are written
        to `out` if it is given. The method makes one pass over X.
        """

    def abs_dot(self, coef: FloatArray) -> RowVector:
        """Return the row vector |Z| coef, computed in blocks of rows."""
        return np.concatenate([np.abs(self.rows(part)) @ coef for part in self.blocks()])

    def squared_norms(self, transform: FloatArray) -> RowVector:
        """Return the squared norm of each row of ZM, where M is `transform`."""
        norms, parts = np.empty(self.n), self.blocks()

        def compute(first: int, step: int) -> None:
            for part in parts[first::step]:
                Q = self.rows(part) @ transform
                np.einsum("ij,ij->i", Q, Q, out=norms[part])

        self.run(compute)
        return norms

    def run(self, task: Callable[[int, int], None]) -> None:
        """Run task(first, step) for first = 0 … step − 1, each in one of `step` threads."""
        self._team.run(task, self.n * self.p)

    def blocks(self) -> list[slice]:
        """Return slices that divide the rows into blocks small enough for the cache."""
        size = max(256, TASK_BYTES // (8 * (self.p + 1)))
        return [slice(i, min(i + size, self.n)) for i in range(0, self.n, size)]

    @abstractmethod
    def rows(self, index: RowIndex) -> FloatArray:
        """Return the standardised rows [1, z] selected by an index, as an ndarray."""

    def columns(self, index: NDArray[np.intp], out: FloatArray | None = None) -> FloatArray:
        """Return m standardised columns z_j, selected by an index, as an array of shape (n, m).

        The columns are written to `out` if it is given.
        """
        raise NotImplementedError

    def row_combination(self, c: RowVector, loss: CompiledLoss) -> FloatArray:
        """Return Σ c (1, z) over all rows, an array of shape (p + 1,), in one pass over X.

        By default, the result is computed as Σ ψ(r) (1, z) with the residuals r = c and an
        infinite threshold, at which `loss` must satisfy ψ(r) = r.
        """
        zero = np.zeros(self.p + 1)
        sums: FloatArray = self.loss_gradient(zero, c, None, loss, np.inf)[1][:-2]
        return sums

    def orthogonal_part(
        self,
        rows: RowVector,
        weight: RowVector | None,
        features: NDArray[np.intp],
        fit_intercept: bool,
        loss: CompiledLoss,
    ) -> RowVector:
        """Return a row vector minus its weighted projection onto the intercept and features.

        An engine that does not implement `columns` computes the projection from passes with
        `loss` at an infinite threshold.
        """
        A = self.columns(features)
        if fit_intercept:
            A = np.column_stack([np.ones(len(A)), A])
        root = np.ones(len(A)) if weight is None else np.sqrt(weight)
        return rows - A @ np.linalg.lstsq(root[:, None] * A, root * rows)[0]

    @abstractmethod
    def gram(self, weight: RowVector | None = None) -> FloatArray:
        """Return the Gram matrix Σ s (1, z)(1, z)ᵀ over the rows with positive weight s."""

    def transformed_gram(self, weight: RowVector | None, transform: FloatArray) -> FloatArray:
        """Return MᵀGM, where G is the Gram matrix that `gram` returns and M is `transform`.

        A dense engine multiplies the rows of Z by `transform` before it sums their products,
        which is more accurate than multiplying the Gram matrix by `transform`.
        """
        return transform.T @ self.gram(weight) @ transform

    def root(self, weight: RowVector | None = None) -> FloatArray:
        """Return R with RᵀR = G / Σ s, without the rounding errors of the Gram matrix G.

        Let A be Z with each row multiplied by √(s / Σ s), where s is its weight. R is the
        triangular factor of a QR decomposition of A or, if A has at most p + 1 rows, A itself.
        """
        unit = np.sqrt(self.n if weight is None else weight.sum())
        size = max(ROOT_BLOCK_ROWS, 4 * (self.p + 1))
        R = np.empty((0, self.p + 1))
        for start in range(0, self.n, size):
            part = slice(start, start + size)
            Z = self.rows(part)
            if weight is not None:
                Z *= np.sqrt(weight[part])[:, None]
            Z /= unit
            R = np.vstack([R, Z]) if R.size else Z
            if R.shape[0] > self.p + 1:
                R = qr(R, mode="r", overwrite_a=True, check_finite=False)[0][: self.p + 1]
        return R

    @abstractmethod
    def moments(
        self, weight: RowVector | None, index: RowIndex
    ) -> tuple[FloatArray, FloatArray]:
        """Return the weighted mean and standard deviation of each column.

        The mean of a column that contains NaN or infinity is not finite. `index` selects rows
        from which an engine may compute a preliminary estimate of the mean.
        """

    @abstractmethod
    def extreme_moments(
        self, weight: RowVector | None, columns: NDArray[np.intp]
    ) -> tuple[FloatArray, FloatArray]:
        """Return the weighted moments of columns whose squared values overflow or underflow."""

    def take(self, index: RowIndex) -> Engine:
        """Return an in-memory engine for the rows selected by an index."""
        raise NotImplementedError

    def row_norms_squared(self) -> RowVector:
        """Return the sum Σ_j z_ij² for each row i."""
        raise NotImplementedError

    def row_norm_sample(
        self, weight: RowVector | None, m: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.intp], FloatArray]:
        """Draw about m rows with probabilities that increase with the norm of z_i.

        Returns the indices of the drawn rows and, for each of them, its weight divided by the
        probability of drawing it. The weighted Gram matrix of the drawn rows approximates that
        of all rows, even if the features are heavy-tailed (M. W. Mahoney, "Randomized
        algorithms for matrices and data", 2011, section 4).
        """
        probability = self.row_norms_squared() + 1.0
        if weight is not None:
            probability *= weight
        probability *= m / probability.sum()
        # Probabilities above one are replaced by one, and the others are increased so that the
        # sum of all probabilities remains m.
        for _ in range(10):
            certain = probability >= 1.0
            factor = (m - certain.sum()) / probability[~certain].sum()
            probability *= np.where(certain, 1.0, factor)
        rows = np.flatnonzero(rng.random(self.n) < probability)
        weight_of_rows = 1.0 if weight is None else weight[rows]
        return rows, weight_of_rows / np.minimum(probability[rows], 1.0)

    def check_finite(self) -> None:
        """Raise scikit-learn's ValueError if X contains NaN or infinity."""
        with np.errstate(invalid="ignore", over="ignore"):
            assert_all_finite(self._X, input_name="X", estimator_name=_ESTIMATOR)
        if not np.isfinite(abs(self._X).max()):
            # `assert_all_finite` does nothing if scikit-learn's `assume_finite` option is set.
            raise ValueError("X contains NaN or infinity.")


def standardised_sums(
    raw: FloatArray, centre: FloatArray, scale: FloatArray, subtracted: bool
) -> FloatArray:
    """Convert the sums that a kernel returns to those that `Engine.loss_gradient` returns.

    The kernel returns `raw` = (Σ s ψ x̃, Σ s ψ, Σ s ρ, Σ s ψ²), where x̃ is x − centre if
    `subtracted` is True, and x otherwise.
    """
    p = centre.size
    if not subtracted:
        raw[:p] -= raw[p] * centre
    sums = np.empty(p + 3)
    sums[0] = raw[p]
    sums[1 : p + 1] = raw[:p] / scale
    sums[p + 1 :] = raw[p + 1 :]
    return sums


def has_finite_squares(std: FloatArray) -> NDArray[np.bool_]:
    """Return a mask of the values of `std` whose squares neither overflow nor underflow."""
    result: NDArray[np.bool_] = (std > 1e-140) & (std < MAX_SQUARABLE)
    return result


def centred_gram(
    centre: FloatArray, total: float, sums: FloatArray, products: FloatArray
) -> FloatArray:
    """Return Σ s (1, x − centre)(1, x − centre)ᵀ from Σ s, Σ s x and Σ s xxᵀ."""
    G = np.empty((sums.size + 1, sums.size + 1))
    G[0, 0], G[1:, 1:] = total, products
    G[0, 1:] = G[1:, 0] = sums - total * centre
    if centre.any():
        cross = sums[:, None] * centre
        G[1:, 1:] += total * centre * centre[:, None] - cross - cross.T
    return G


def weighted_moments(
    X: NDArray[Any], weight: FloatArray | None
) -> tuple[FloatArray, FloatArray]:
    """Return the weighted mean and standard deviation of each column of a small dense X."""
    X = X.astype(np.float64, copy=False)
    mean = np.average(X, axis=0, weights=weight)
    deviation = X - mean
    correction = np.average(deviation, axis=0, weights=weight)
    deviation -= correction
    return mean + correction, np.sqrt(np.average(deviation**2, axis=0, weights=weight))


def linear_prediction(X: Any, coef: NDArray[Any], intercept: Any) -> NDArray[Any]:
    """Return the predictions of a linear model with one or more targets."""
    prediction = safe_sparse_dot(X, coef.T, dense_output=True) + intercept
    result: NDArray[Any] = prediction.astype(np.result_type(X.dtype, coef.dtype), copy=False)
    return result
