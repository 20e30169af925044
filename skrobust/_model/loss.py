"""Loss functions ρ(r) with a threshold; their methods are named as in statsmodels.

A `Loss` has methods that return ρ, ψ = ρ′, ψ′ and the weights ψ(r)/r for row vectors, and a
scalar function that returns (ρ, ψ). An engine compiles this function into its loops, so this
module does not import Numba.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from .._reductions import RowVector


class Loss(ABC):
    """An even loss function ρ with ρ(0) = 0."""

    # If both attributes are True, the loss must be the Huber loss or consist of the same
    # quadratic and linear pieces. The exact line search, the continuation in the threshold, the
    # least-absolute-deviations vertex and the sums along a grid require such a loss.
    is_convex: bool
    is_piecewise_quadratic: bool
    # The function that returns (ρ, ψ) for two scalars, the residual r and the threshold.
    rho_psi: Callable[[float, float], tuple[float, float]]

    @abstractmethod
    def rho(self, r: RowVector, threshold: float) -> RowVector:
        """Return the loss of each residual."""

    @abstractmethod
    def psi(self, r: RowVector, threshold: float) -> RowVector:
        """Return the derivative of the loss at each residual."""

    def rho_and_psi(self, r: RowVector, threshold: float) -> tuple[RowVector, RowVector]:
        """Return the loss and its derivative at each residual.

        A subclass may override this method to compute common terms only once.
        """
        return self.rho(r, threshold), self.psi(r, threshold)

    @abstractmethod
    def psi_deriv(self, r: RowVector, threshold: float) -> RowVector:
        """Return the second derivative of the loss at each residual.

        The array is boolean if the second derivative takes only the values 0 and 1.
        """

    def windowed_psi_deriv(self, r: RowVector, threshold: float, window: float) -> RowVector:
        """Return ψ′ at each residual or, for the Huber loss, (β/w) 1[|r| < w].

        `window` is w and must be at least β. The mean of (β/w) 1[|r| < w] is similar to that of
        ψ′ = 1[|r| < β] but depends on at least as many residuals.
        """
        return self.psi_deriv(r, threshold)

    @abstractmethod
    def weights(
        self, r: RowVector, threshold: float, out: RowVector | None = None
    ) -> RowVector:
        """Return the weight ψ(r)/r of each residual, a number between 0 and 1.

        If `out` is given, the weights are written to `out`, which may be the same array as `r`.
        """


def _huber_rho_psi(r: float, threshold: float) -> tuple[float, float]:
    c = min(max(r, -threshold), threshold)
    return c * (r - 0.5 * c), c


class Huber(Loss):
    """The Huber loss: r²/2 for |r| ≤ β, and β(|r| − β/2) for |r| > β.

    The loss is equal to c(r − c/2), where c = clip(r, −β, β), and its derivative is c. The
    smooth L1 loss is the Huber loss divided by β. With β = ∞, the Huber loss is half the
    squared error, r²/2.
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
        # An infinite threshold is replaced by the largest finite number, since ∞/∞ would be
        # NaN.
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
    """Tukey's bisquare loss: k²/6 (1 − (1 − z²)³) with z = min(|r|/k, 1) and the threshold k.

    The derivative ψ = r(1 − z²)² has slope 1 at zero. For |r| ≥ k, the derivative is zero, so
    residuals beyond the threshold have no influence. The objective may have several local
    minima.
    """

    is_convex = False
    is_piecewise_quadratic = False
    rho_psi = staticmethod(_bisquare_rho_psi)

    def rho(self, r: RowVector, threshold: float) -> RowVector:
        z2 = _squared_ratio(r, threshold)
        # The polynomial in z² is accurate for small residuals, without cancellation.
        rho = (z2 - 3.0) * z2 + 3.0
        rho *= z2
        rho *= threshold / 6.0 * threshold
        return rho

    def psi(self, r: RowVector, threshold: float) -> RowVector:
        return r * self.weights(r, threshold)

    def psi_deriv(self, r: RowVector, threshold: float) -> RowVector:
        """Return (1 − z²)(1 − 5z²), which is negative for k/√5 < |r| < k."""
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
    """Return z² for each residual, where z = min(|r|/k, 1) and k is the threshold."""
    z = np.abs(r, out=out)
    z /= threshold
    z = np.minimum(z, 1.0, out=z)
    z *= z
    return z


HUBER = Huber()
BISQUARE = Bisquare()
