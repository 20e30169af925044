"""Penalties on the standardised coefficients (b, v); the intercept b is not penalised."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from .._engines.base import Engine, FloatArray

# Largest second derivative. It keeps the coefficient at zero, and a larger one could overflow.
MAX_CURVATURE = 1e300


class Penalty(ABC):
    """A penalty P(v), in standardised coefficients."""

    # Whether P is quadratic, so that the objective is piecewise quadratic if the loss is.
    is_quadratic: bool

    @abstractmethod
    def value(self, coef: FloatArray) -> float:
        """Return P at coef = (b, v)."""

    @abstractmethod
    def gradient(self, coef: FloatArray) -> FloatArray:
        """Return ∇P, of shape (p + 1,)."""

    @abstractmethod
    def hessian_diagonal(self, coef: FloatArray) -> FloatArray:
        """Return the diagonal of ∇²P, of shape (p + 1,); all other entries are zero."""

    @abstractmethod
    def scaled(self, factor: float) -> Penalty:
        """Return the penalty factor · P."""


class Ridge(Penalty):
    """½ Σ_j d_j v_j², d = (0, α / scale²): α/2 ‖w‖² for the coefficients w = v / scale.

    Parameters
    ----------
    diagonal : ndarray of shape (p + 1,), whose first entry, that of the intercept, is zero
    """

    is_quadratic = True

    def __init__(self, diagonal: FloatArray) -> None:
        self._diagonal = diagonal

    @classmethod
    def of_strength(cls, alpha: float, engine: Engine) -> Ridge:
        """Return α/2 ‖w‖² in the standardised coefficients of an engine."""
        with np.errstate(over="ignore"):
            # 1/scale² may overflow where α/scale² does not.
            curvature = (np.sqrt(alpha) / engine.scale / engine.unit) ** 2
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
            # An infinite factor leaves the intercept free.
            diagonal = np.multiply(
                factor, self._diagonal, out=np.zeros_like(self._diagonal), where=positive
            )
        return Ridge(np.minimum(diagonal, MAX_CURVATURE))
