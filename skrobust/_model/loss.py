"""The losses ρ of a residual r at a threshold, under the names that statsmodels uses.

A loss is ρ, ψ = ρ′, ψ′ and the weights ψ(r)/r as functions of row vectors, and (ρ, ψ) as a
function of scalars, which an engine compiles into its loops. Numba is not imported here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from .._reductions import RowVector


class Loss(ABC):
    """An even loss with ρ(0) = 0."""

    # Newton's method with an exact line search, the continuation in the threshold, the vertex
    # of the least absolute deviations and the sums along a grid need both properties, and the
    # pieces must be those of the Huber loss.
    is_convex: bool
    is_piecewise_quadratic: bool
    # The pair (ρ, ψ) as a function of the numbers r and threshold.
    rho_psi: Callable[[float, float], tuple[float, float]]

    @abstractmethod
    def rho(self, r: RowVector, threshold: float) -> RowVector:
        """Return the loss of each residual."""

    @abstractmethod
    def psi(self, r: RowVector, threshold: float) -> RowVector:
        """Return the derivative of the loss at each residual."""

    def rho_and_psi(self, r: RowVector, threshold: float) -> tuple[RowVector, RowVector]:
        """Return the loss and its derivative, which may share their work."""
        return self.rho(r, threshold), self.psi(r, threshold)

    @abstractmethod
    def psi_deriv(self, r: RowVector, threshold: float) -> RowVector:
        """Return the second derivative at each residual; boolean if it is 0 or 1 everywhere."""

    def windowed_psi_deriv(self, r: RowVector, threshold: float, window: float) -> RowVector:
        """Return ψ′ or, if ψ′ is a step function, an estimate from residuals within a window.

        The window is at least as wide as the threshold.
        """
        return self.psi_deriv(r, threshold)

    @abstractmethod
    def weights(
        self, r: RowVector, threshold: float, out: RowVector | None = None
    ) -> RowVector:
        """Return ψ(r)/r, in [0, 1].

        If `out` is given, the result is written to it; `out` may be r.
        """


def _huber_rho_psi(r: float, threshold: float) -> tuple[float, float]:
    c = min(max(r, -threshold), threshold)
    return c * (r - 0.5 * c), c


class Huber(Loss):
    """The Huber loss: r²/2 where |r| ≤ β, otherwise β(|r| − β/2).

    With the clipped residual c = clip(r, −β, β) it is c(r − c/2), and its derivative is c. The
    Smooth L1 loss is the Huber loss divided by β; β = ∞ is least squares.
    """

    is_convex = True
    is_piecewise_quadratic = True
    rho_psi = staticmethod(_huber_rho_psi)

    def rho(self, r: RowVector, threshold: float) -> RowVector:
        return self.rho_and_psi(r, threshold)[0]

    def psi(self, r: RowVector, threshold: float) -> RowVector:
        return np.minimum(np.maximum(r, -threshold), threshold)

    def rho_and_psi(self, r: RowVector, threshold: float) -> tuple[RowVector, RowVector]:
        c = self.psi(r, threshold)
        return c * (r - 0.5 * c), c

    def psi_deriv(self, r: RowVector, threshold: float) -> RowVector:
        return np.abs(r) <= threshold

    def windowed_psi_deriv(self, r: RowVector, threshold: float, window: float) -> RowVector:
        return (threshold / window) * (np.abs(r) < window)

    def weights(
        self, r: RowVector, threshold: float, out: RowVector | None = None
    ) -> RowVector:
        # An infinite threshold divided by itself is not a number.
        threshold = min(threshold, float(np.finfo(float).max))
        size = np.abs(r, out=out)
        size = np.maximum(size, threshold, out=size)
        return np.divide(threshold, size, out=size)


def _bisquare_rho_psi(r: float, threshold: float) -> tuple[float, float]:
    c = min(max(r, -threshold), threshold)
    z2 = (c / threshold) * (c / threshold)
    inside = 1.0 - z2
    return 0.5 * c * c * (1.0 - z2 + z2 * z2 / 3.0), c * inside * inside


class Bisquare(Loss):
    """Tukey's bisquare: k²/6 (1 − (1 − z²)³), z = min(|r|/k, 1), for a threshold k.

    ψ = r(1 − z²)² has slope 1 at zero and is zero beyond the threshold, so that far outliers
    have no influence; the objective has several local minima.
    """

    is_convex = False
    is_piecewise_quadratic = False
    rho_psi = staticmethod(_bisquare_rho_psi)

    def rho(self, r: RowVector, threshold: float) -> RowVector:
        z2 = _squared_ratio(r, threshold)
        # In this form the loss of a small residual is accurate.
        rho = (z2 - 3.0) * z2 + 3.0
        rho *= z2
        rho *= threshold / 6.0 * threshold
        return rho

    def psi(self, r: RowVector, threshold: float) -> RowVector:
        return r * self.weights(r, threshold)

    def psi_deriv(self, r: RowVector, threshold: float) -> RowVector:
        """Return (1 − z²)(1 − 5z²), which is negative for |r| > k/√5."""
        z2 = _squared_ratio(r, threshold)
        deriv = 5.0 * z2
        deriv -= 1.0
        z2 -= 1.0
        deriv *= z2
        return deriv

    def weights(
        self, r: RowVector, threshold: float, out: RowVector | None = None
    ) -> RowVector:
        weights = _squared_ratio(r, threshold, out)
        weights -= 1.0
        weights *= weights
        return weights


def _squared_ratio(r: RowVector, threshold: float, out: RowVector | None = None) -> RowVector:
    """Return z² with z = min(|r|/k, 1)."""
    z = np.abs(r, out=out)
    z /= threshold
    z = np.minimum(z, 1.0, out=z)
    z *= z
    return z


HUBER = Huber()
BISQUARE = Bisquare()
