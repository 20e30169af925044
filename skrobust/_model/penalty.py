"""Penalties on the standardised coefficients v; the intercept b is not penalised."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from .._engines.base import Engine, FloatArray

# Maximum of the factors of |v_j| and of v_j²/2 in a penalty. A coefficient with the maximum
# factor is zero, and larger factors could overflow.
MAX_CURVATURE = 1e300


class Penalty(ABC):
    """A penalty P(v) on the standardised coefficients v."""

    # Whether P is quadratic. If so, a piecewise quadratic loss gives a piecewise quadratic
    # objective.
    is_quadratic: bool

    @abstractmethod
    def value(self, coef: FloatArray) -> float:
        """Return P at coef = (b, v)."""

    @abstractmethod
    def gradient(self, coef: FloatArray) -> FloatArray:
        """Return ∇P at coef = (b, v), an array of shape (p + 1,)."""

    def subgradient(self, coef: FloatArray, gradient: FloatArray) -> FloatArray:
        """Return the minimum-norm subgradient of the objective at `coef`.

        `gradient` is the gradient of the mean loss. The subgradient is zero if and only if
        `coef` is a minimiser.
        """
        return gradient + self.gradient(coef)

    @abstractmethod
    def hessian_diagonal(self, coef: FloatArray) -> FloatArray:
        """Return the p + 1 diagonal elements of ∇²P. The off-diagonal elements are zero."""

    @abstractmethod
    def scaled(self, factor: float) -> Penalty:
        """Return the penalty factor · P."""


class Ridge(Penalty):
    """The penalty ½ Σ_j d_j v_j².

    With d_j = α / scale_j² the penalty is α/2 ‖w‖², where w_j = v_j / scale_j is the
    coefficient of the unstandardised feature j.

    Parameters
    ----------
    diagonal : ndarray of shape (p + 1,)
        The element 0 for the intercept, followed by the curvatures d_j.
    """

    is_quadratic = True

    def __init__(self, diagonal: FloatArray) -> None:
        self._diagonal = diagonal

    @classmethod
    def of_strength(
        cls, alpha: float, engine: Engine, weights: FloatArray | None = None
    ) -> Ridge:
        """Return the penalty α/2 Σ_j q_j w_j² as a function of the standardised coefficients.

        The w_j are the coefficients of the unstandardised features, `alpha` is α, and `weights`
        contains the q_j, which are 1 by default.
        """
        with np.errstate(over="ignore"):
            strength = alpha if weights is None else alpha * weights
            # The square root of α is divided by the scale, since 1/scale² may overflow even if
            # α/scale² does not.
            curvature = (np.sqrt(strength) / engine.scale / engine.unit) ** 2
        return cls(np.concatenate([[0.0], np.minimum(curvature, MAX_CURVATURE)]))

    def value(self, coef: FloatArray) -> float:
        return 0.5 * float((self._diagonal * coef) @ coef)

    def gradient(self, coef: FloatArray) -> FloatArray:
        return self._diagonal * coef

    def hessian_diagonal(self, coef: FloatArray) -> FloatArray:
        return self._diagonal

    def scaled(self, factor: float) -> Ridge:
        positive = self._diagonal > 0
        with np.errstate(over="ignore"):
            # Zeros remain zero, so the intercept is not penalised even if `factor` is infinite.
            diagonal = np.multiply(
                factor, self._diagonal, out=np.zeros_like(self._diagonal), where=positive
            )
        return Ridge(np.minimum(diagonal, MAX_CURVATURE))


class ElasticNet(Penalty):
    """The penalty Σ_j (λ_j |v_j| + ½ d_j v_j²) with the bounds v_j ≥ l_j, where l_j is 0 or −∞.

    Parameters
    ----------
    slope, diagonal, lower : ndarrays of shape (p + 1,)
        The values of λ_j, d_j and l_j. The first elements, for the intercept, are 0, 0 and −∞.
    """

    is_quadratic = False

    def __init__(self, slope: FloatArray, diagonal: FloatArray, lower: FloatArray) -> None:
        self.slope, self.diagonal, self.lower = slope, diagonal, lower

    @classmethod
    def of_strength(
        cls,
        l1: float,
        l2: float,
        weights: FloatArray | None,
        positive: bool,
        engine: Engine,
    ) -> ElasticNet:
        """Return Σ_j q_j (l1 |w_j| + l2/2 w_j²) as a function of the standardised coefficients.

        The w_j are the coefficients of the unstandardised features; if `positive` is True, they
        are bounded below by 0. `weights` contains the q_j, which are 1 by default.
        """
        q = np.ones(engine.p) if weights is None else weights
        unit = 1.0 / engine.scale / engine.unit
        with np.errstate(over="ignore"):
            slope = np.minimum(l1 * q * unit, MAX_CURVATURE)
            curvature = np.minimum((np.sqrt(l2 * q) * unit) ** 2, MAX_CURVATURE)
        lower = np.full(engine.p, 0.0 if positive else -np.inf)
        return cls(
            *(
                np.concatenate([[e], part])
                for e, part in ((0.0, slope), (0.0, curvature), (-np.inf, lower))
            )
        )

    @classmethod
    def of_ridge(cls, ridge: Penalty) -> ElasticNet:
        """Return the given quadratic penalty as an ElasticNet."""
        diagonal = ridge.hessian_diagonal(np.zeros(0))
        return cls(np.zeros_like(diagonal), diagonal, np.full_like(diagonal, -np.inf))

    def value(self, coef: FloatArray) -> float:
        return float(self.slope @ np.abs(coef) + 0.5 * (self.diagonal * coef) @ coef)

    def gradient(self, coef: FloatArray) -> FloatArray:
        return self.slope * np.sign(coef) + self.diagonal * coef

    def subgradient(self, coef: FloatArray, gradient: FloatArray) -> FloatArray:
        at_zero = np.copysign(np.maximum(np.abs(gradient) - self.slope, 0.0), gradient)
        total = np.where(coef == 0, at_zero, gradient + self.gradient(coef))
        # A coefficient at its lower bound violates the optimality conditions only if the
        # objective decreases when the coefficient increases.
        at_bound = np.minimum(gradient + self.slope, 0.0)
        return np.where(coef <= self.lower, at_bound, total)

    def hessian_diagonal(self, coef: FloatArray) -> FloatArray:
        return self.diagonal

    def scaled(self, factor: float) -> ElasticNet:
        with np.errstate(over="ignore", invalid="ignore"):
            slope = np.where(
                self.slope > 0, np.minimum(factor * self.slope, MAX_CURVATURE), 0.0
            )
            diagonal = np.where(
                self.diagonal > 0, np.minimum(factor * self.diagonal, MAX_CURVATURE), 0.0
            )
        return ElasticNet(slope, diagonal, self.lower)

    def unpenalised(
        self, varying: NDArray[np.bool_]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return two masks of unpenalised features, each of shape (p + 1,).

        The first mask selects the features with a lower bound, and the second mask those
        without a bound. `varying` is a mask, of shape (p,), of the features that are not
        constant.
        """
        unpenalised = np.concatenate([[False], varying]) & (self.slope + self.diagonal == 0)
        bounded = self.lower == 0
        return unpenalised & bounded, unpenalised & ~bounded

    def dual_scale(self, slope: FloatArray) -> float:
        """Return the largest t ≤ 1 for which t · slope is dual feasible.

        `slope` is (1/S) Σ s u z for a dual variable u. It is dual feasible if each feature with
        λ_j > 0 and d_j = 0 satisfies slope_j ≤ λ_j and, unless its coefficient has a lower
        bound, slope_j ≥ −λ_j.
        """
        size = self.limited_part(slope)
        exceeds = (self.diagonal == 0) & (self.slope > 0) & (size > self.slope)
        return float((self.slope[exceeds] / size[exceeds]).min(initial=1.0))

    def fenchel_gap(self, coef: FloatArray, slope: FloatArray) -> float:
        """Return P(v) − slope·v + P*(slope), where P* is the conjugate function of P.

        `slope` must be dual feasible. The result is non-negative.
        """
        excess = np.maximum(self.limited_part(slope) - self.slope, 0.0)
        quadratic = self.diagonal > 0
        conjugate = 0.5 * excess[quadratic] ** 2 / self.diagonal[quadratic]
        penalised = quadratic | (self.slope > 0)
        product = float(slope[penalised] @ coef[penalised])
        return self.value(coef) - product + float(conjugate.sum())

    def limited_part(self, slope: FloatArray) -> FloatArray:
        """Return |slope_j| for each feature j, or slope_j if its coefficient has a lower bound.

        If v_j = 0, the optimality conditions require that this quantity be at most λ_j.
        """
        return np.where(self.lower == 0, slope, np.abs(slope))
