"""The scale of the residuals: the normalised MAD, the concomitant scale and the M-scale.

Each of these scales is a function σ̂(r) of the residuals. If the scale is estimated, the
threshold is β·s, where s equals the scale of the residuals of the fit with this threshold.
`_solvers.scale_fixed_point` and `_solvers.anderson` solve this fixed-point equation.
`_solvers.redescending` finds S-estimates, which minimise the M-scale.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from .._engines.base import FloatArray
from .._reductions import (
    RowVector,
    clipped_sums,
    gather,
    median,
    rho_sums,
    share_outside,
)
from .linear_loss import Evaluation
from .loss import BISQUARE
from .normal_constants import normal_efficiency
from .whitening import Whitened

_EPS = float(np.finfo(float).eps)
# The median of |r| for standard normal residuals r.
NORMAL_MAD = float(ndtri(0.75))
# Thresholds at which the coefficients are 95 % efficient under normal errors, in units of the
# normalised MAD (Holland and Welsch, 1977) and of the concomitant σ̂. With the threshold
# AUTO_CONCOMITANT, σ̂ estimates 0.843 σ.
AUTO_MAD = 1.345
AUTO_CONCOMITANT = 1.5960
# Smallest threshold, in the target's own units. A smaller threshold would give the same fit,
# and its square would underflow.
MIN_THRESHOLD = 1e-100
# Number of rows from which a first estimate of the concomitant scale is computed.
SCALE_PROBE_ROWS = 2_000
# Maximum number of rows for which the concomitant scale is computed by sorting, which is then
# faster than Newton's method.
SORT_MAX_ROWS = 4_000
# A Newton step from an approximate scale uses an estimate of the fraction of rows with |r| > εσ̂
# if the resulting relative error of the step is below WARM_STEP_RTOL, and otherwise the exact
# fraction. A step that uses the estimate is discarded if it changes the scale by a factor of
# WARM_MAX_FACTOR or more.
WARM_MAX_FACTOR, WARM_STEP_RTOL = 2.0, 0.1
# A first estimate of the scale, relative to the largest absolute residual, is used only if it
# exceeds this value, so that its square does not underflow.
MIN_RELATIVE_SCALE = 1e-150
# Bound on the rounding error of a residual, relative to the sum of |y| and the absolute terms
# of the linear predictor.
RESIDUAL_ROUNDING = 32 * _EPS
# Number of random rows from which the centre and the size of y are computed, approximately.
SIZE_PROBE_ROWS = 10_000
# Values of y whose distance from the centre exceeds this multiple of the size of y are regarded
# as extreme.
MAX_DEVIATION_FROM_CENTRE = 1e9
# An absolute residual within this relative distance of the median is regarded as equal to the
# median.
MEDIAN_RTOL = 1e-6
# Standard deviation of the normal kernel of a density estimate, in units of σ n^(−1/5).
KERNEL_WIDTH = 1.06
# Relative tolerance of an M-scale, and maximum number of Newton iterations. Each iteration
# changes log s by at most MAX_LOG_STEP.
M_SCALE_RTOL, M_SCALE_MAX_ITER, MAX_LOG_STEP = 4 * _EPS, 200, 2.0
# The trimmed scale is computed from residuals of at most TRIMMED_END standard deviations, a
# limit that is increased if there are few rows per coefficient. The iteration ends when the
# scale decreases by less than the fraction TRIMMED_RTOL.
TRIMMED_END, TRIMMED_RTOL = 2.5, 1e-12
# A bound on the absolute values of most elements of the standardised features.
TYPICAL_MAX_Z = 30


class WarmScale(NamedTuple):
    """An approximate scale, and the root mean square of ψ(r) at the corresponding threshold."""

    scale: float
    psi_rms: float


class ScaleEstimator(ABC):
    """An estimator of the scale of the residuals; the threshold is `factor` times the scale."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    @abstractmethod
    def estimate(
        self, residual: RowVector, weight: RowVector | None, warm: WarmScale | None = None
    ) -> float:
        """Return the scale of the residuals.

        If `warm` is given, the result may be the approximation after a single Newton step from
        `warm.scale`. This step is zero if `warm.scale` is already the scale of the residuals.
        """

    @abstractmethod
    def scores(
        self, residual: RowVector, scale: float, n: float
    ) -> tuple[RowVector, RowVector, RowVector]:
        """Return g, b = ∂g/∂r and e = −∂g/∂σ for each row, where the scale σ solves Σ s g = 0.

        With r = y − z·θ, where z contains the features of a row, b z = −∂g/∂θ. `n` is the
        number of observations.
        """

    def threshold(self, scale: float) -> float:
        return max(self.factor * scale, MIN_THRESHOLD)

    def scale(self, objective: Whitened, point: Evaluation, near: float | None = None) -> float:
        """Return the scale of the residuals at a point, but at least the rounding floor.

        `near` is None, or an approximate scale that corresponds to the threshold of the
        objective.
        """
        warm = None if near is None else WarmScale(near, point.psi_rms)
        scale = self.estimate(point.residual, objective.linear.data.weight, warm)
        if scale < rounding_floor_bound(objective, point.theta):
            scale = max(scale, rounding_floor(objective, point.theta)[1])
        return scale


def rounding_floor(objective: Whitened, theta: FloatArray) -> tuple[RowVector, float]:
    """Return a bound on the rounding error of each residual, and the rounding floor of a scale.

    A residual is the difference between y and the linear predictor. It contains the rounding
    errors of this difference and of the stored values of y and the features. The rounding floor
    is the median of the bounds. A smaller scale is attributed to rounding errors.
    """
    data = objective.linear.data
    y, weight = data.y, data.weight
    # The location is the mean of y, without the effect of extreme values such as 1e20.
    centre, end = centre_and_size(y, weight)
    end *= MAX_DEVIATION_FROM_CENTRE
    location = np.average(np.minimum(np.maximum(y, centre - end), centre + end), weights=weight)
    size = np.abs(y - location) + objective.abs_linear_predictor(theta)
    rounding = RESIDUAL_ROUNDING * size + _EPS * np.abs(y + data.y_shift)
    rounding = rounding + _stored_rounding(objective, theta)
    return rounding, median(rounding, weight) or _EPS**2


def centre_and_size(y: RowVector, weight: RowVector | None = None) -> tuple[float, float]:
    """Return the median m of y, and the median of the nonzero values of |y − m|.

    For many rows, the medians are computed from a random sample of the rows. If all values in
    the sample are equal, the largest |y − m| takes the place of the second median. Rows of
    weight zero have no effect, except on this largest value.
    """
    some: slice | NDArray[np.intp] = slice(None)
    if y.size > SIZE_PROBE_ROWS:
        some = np.sort(np.random.default_rng(0).integers(y.size, size=SIZE_PROBE_ROWS))
    probe = gather(y, some)
    probe_weight = None if weight is None else gather(weight, some)
    centre = median(probe, probe_weight)
    size = np.abs(probe - centre)
    varies = size > 0 if probe_weight is None else (size > 0) & (probe_weight > 0)
    if not varies.any():
        return centre, float(np.abs(y - centre).max())
    return centre, median(size[varies], None if probe_weight is None else probe_weight[varies])


def rounding_floor_bound(objective: Whitened, theta: FloatArray) -> float:
    """Return an upper bound on the rounding floor, computed without a pass over X."""
    size = 1.0 + abs(objective.linear.data.y_shift)
    size += TYPICAL_MAX_Z * float(np.abs(objective.coef(theta)).sum())
    return RESIDUAL_ROUNDING * size + _stored_rounding(objective, theta)


def is_at_rounding_floor(objective: Whitened, theta: FloatArray, scale: float) -> bool:
    """Return whether a scale is at most the rounding floor, and therefore not an estimate.

    The comparison allows for rounding errors from a change of units, which may have increased
    the scale.
    """
    scale *= 1.0 - 4.0 * _EPS
    if scale > rounding_floor_bound(objective, theta):
        return False
    return scale <= rounding_floor(objective, theta)[1]


def _stored_rounding(objective: Whitened, theta: FloatArray) -> float:
    """Return ε Σ_j |μ_j w_j|, the rounding error that the stored features cause in a residual.

    ε is the machine epsilon, μ_j is the mean of a feature, and w_j is its coefficient.
    """
    engine = objective.engine
    shift = np.abs(engine.centre / engine.scale) @ np.abs(objective.coef(theta)[1:])
    return _EPS * float(shift)


def null_scale(estimator: ScaleEstimator, y: RowVector, weight: RowVector | None) -> float:
    """Return a positive scale of y, the residuals of the model whose coefficients are all zero.

    If the estimated scale is 0, it is replaced by the mean of |y| or, if all y are 0, by the
    machine epsilon.
    """
    return estimator.estimate(y, weight) or float(np.abs(y).mean()) or _EPS


class Mad(ScaleEstimator):
    """The median of |r| divided by Φ⁻¹(3/4), which estimates σ for residuals from N(0, σ²)."""

    def estimate(
        self, residual: RowVector, weight: RowVector | None, warm: WarmScale | None = None
    ) -> float:
        return mad(residual, weight, None if warm is None else warm.scale)

    def scores(
        self, residual: RowVector, scale: float, n: float
    ) -> tuple[RowVector, RowVector, RowVector]:
        """Return g = ½ − 1[|r| ≤ qσ], where q = Φ⁻¹(¾), and estimates of ∂g/∂r and −∂g/∂σ.

        The indicator function is not differentiable at ±qσ. Its contribution to the derivatives
        of Σ s g is estimated from the density of r at ±qσ, with a normal kernel of standard
        deviation 1.06 σ n^(−1/5) (Silverman, "Density Estimation for Statistics and Data
        Analysis", 1986, section 3.4).
        """
        end = NORMAL_MAD * scale
        upper, lower = _density_terms(residual, end, scale, n)
        # The absolute residual of a row may equal the median to within rounding errors and the
        # tolerance of the fit.
        g = 0.5 - (np.abs(residual) <= (1.0 + MEDIAN_RTOL) * end)
        slope = upper - lower
        upper += lower
        upper *= NORMAL_MAD
        return g, slope, upper


def _density_terms(
    residual: RowVector, end: float, scale: float, n: float
) -> tuple[RowVector, RowVector]:
    """Return the contributions of each row to kernel estimates of the density of r at ±`end`.

    The first array is for `end` and the second for −`end`. The bandwidth is that for `n`
    observations with the given scale.
    """
    width = KERNEL_WIDTH * scale * n**-0.2
    unit = 1.0 / (np.sqrt(2.0 * np.pi) * width)

    def density(shift: float) -> RowVector:
        at = residual + shift
        at /= width
        at *= at
        at *= -0.5
        at = np.exp(at, out=at)
        at *= unit
        return at

    return density(-end), density(end)


def mad(
    residual: RowVector, weight: RowVector | None = None, near: float | None = None
) -> float:
    """Return the median of |r| divided by Φ⁻¹(3/4); `near` is an approximation to it."""
    expected = None if near is None else near * NORMAL_MAD
    return median(residual, weight, expected, absolute=True) / NORMAL_MAD


class Concomitant(ScaleEstimator):
    """The σ̂ that minimises Σ s [σ + H_ε(r/σ) σ], the solution of Σ s min(r²/σ², ε²) = Σ s.

    ε is the factor, and H_ε is twice the Huber loss with the threshold ε. As a function of
    u = 1/σ², the left-hand side of the equation is concave and piecewise linear. Newton's
    method approaches the root from below, without sorting the residuals. The last step is exact
    up to rounding errors, because it starts on the linear piece that contains the root.
    """

    def estimate(
        self, residual: RowVector, weight: RowVector | None, warm: WarmScale | None = None
    ) -> float:
        if warm is not None:
            return self._corrected(warm, residual, weight) or self.estimate(residual, weight)
        size = np.abs(residual)
        max_abs = float(size.max())
        if not max_abs:
            return 0.0
        size /= max_abs
        if size.size <= SORT_MAX_ROWS:
            every = slice(None)
            weights = None if weight is None else gather(weight, every)
            return max_abs * self._sorted_root(gather(size, every), weights)
        some = slice(None, None, size.size // SCALE_PROBE_ROWS)
        guess = self.estimate(
            gather(size, some), None if weight is None else gather(weight, some)
        )
        # The left-hand side of the equation is a concave function of u, so one Newton step from
        # any guess leads to a point at or below the root.
        u = self._newton_step(guess**-2.0, size, weight) if guess > MIN_RELATIVE_SCALE else 0.0
        while True:
            next_u = self._newton_step(u, size, weight)
            if not u < next_u < np.inf:
                u = max(u, next_u)
                return float(max_abs * u**-0.5) if u else np.nan
            u = next_u

    def scores(
        self, residual: RowVector, scale: float, n: float
    ) -> tuple[RowVector, RowVector, RowVector]:
        """Return g = c² − σ², ∂g/∂r and −∂g/∂σ for each row, where c is r clipped at ±εσ."""
        end = self.factor * scale
        outside = np.abs(residual) > end
        clipped = np.clip(residual, -end, end)
        e = 2.0 * scale * (1.0 - self.factor**2 * outside)
        return clipped**2 - scale**2, np.where(outside, 0.0, 2.0 * residual), e

    def _sorted_root(self, size: FloatArray, weight: FloatArray | None) -> float:
        """Return σ̂ for the absolute residuals `size`, from cumulative sums of sorted values."""
        epsilon = self.factor
        if weight is None:
            size, s = np.sort(size), np.ones(size.size)
        else:
            order = size.argsort()
            size, s = size[order], weight[order]
        squares = size * size
        inner = np.cumsum(s * squares)
        outside = np.cumsum(s[::-1])[::-1] - s
        total = float(outside[0] + s[0])
        # The value of Σ s min(r²/σ², ε²) / ε² at σ = |r_i|/ε, for each row i. Rows with
        # residual zero contribute nothing to the sum.
        reached = np.divide(inner, squares, out=np.zeros_like(inner), where=squares > 0)
        reached += outside
        k = int(np.count_nonzero(reached >= total / epsilon / epsilon)) - 1
        denominator = total - epsilon * (epsilon * float(outside[k])) if k >= 0 else 0.0
        return float(np.sqrt(inner[k] / denominator)) if denominator > 0 else 0.0

    def _corrected(
        self, warm: WarmScale, residual: RowVector, weight: RowVector | None
    ) -> float | None:
        """Return the scale after one Newton step from an approximate scale.

        The result is None if the step is too long. The step depends on `warm` and on the
        fraction of the rows with |r| > εσ. An estimate of this fraction suffices, because at
        the root the step is zero for any value of the fraction.
        """
        epsilon = self.factor
        outside, error = share_outside(residual, weight, epsilon * warm.scale)
        denominator = 1.0 - epsilon * (epsilon * outside)
        if epsilon * (epsilon * error) < WARM_STEP_RTOL * denominator:
            square = 1.0 + ((warm.psi_rms / warm.scale) ** 2 - 1.0) / denominator
            factor = float(np.sqrt(max(square, 0.0)))
            near = 1 / WARM_MAX_FACTOR < factor < WARM_MAX_FACTOR
            return warm.scale * factor if near else None
        u = self._newton_step(warm.scale**-2.0, residual, weight)
        return float(u**-0.5) if 0 < u < np.inf else None

    def _newton_step(self, u: float, residual: RowVector, weight: RowVector | None) -> float:
        """Return the root of the linear function that equals Σ s min(u r², ε²) − Σ s near u.

        The result is 0 if the root is not positive, and infinite if the function is constant.
        """
        epsilon = self.factor
        end = epsilon / np.sqrt(u) if u else np.inf
        total = float(residual.size) if weight is None else float(weight.sum())
        outside, squares = clipped_sums(residual, weight, end)
        denominator = total - epsilon * (epsilon * outside)
        if denominator <= 0:
            return 0.0
        return float(denominator / squares) if squares else np.inf


class MScale(ScaleEstimator):
    """The bisquare M-scale, which is the solution σ of Σ s_i ρ_c(r_i/σ) = target.

    ρ_c is the bisquare with threshold c = `factor` and supremum 1. For an S-estimate with
    breakdown point b and k coefficients, the target is b(S − k) with S = Σ s_i, and E ρ_c = b
    at the standard normal distribution (Rousseeuw and Yohai, "Robust regression by means of
    S-estimators", 1984).
    """

    def __init__(self, constant: float, target: float) -> None:
        super().__init__(constant)
        self.target = target

    def estimate(
        self, residual: RowVector, weight: RowVector | None, warm: WarmScale | None = None
    ) -> float:
        start = mad(residual, weight) if warm is None else warm.scale
        if not start > 0:
            size = np.abs(residual)
            nonzero = (size > 0).astype(float)
            n_nonzero = float((nonzero if weight is None else nonzero * weight).sum())
            if n_nonzero <= self.target:
                return 0.0
            start = float(size.max())

        def sums(s: FloatArray) -> tuple[FloatArray, FloatArray]:
            threshold = self.threshold(float(s[0]))
            # The supremum of the bisquare loss is threshold²/6.
            unit = 6.0 / threshold / threshold
            rho, slope = rho_sums(residual, weight, BISQUARE, threshold)
            return np.array([unit * rho]), np.array([unit * slope])

        return float(m_scale_root(sums, np.array([start]), self.target)[0])

    def scores(
        self, residual: RowVector, scale: float, n: float
    ) -> tuple[RowVector, RowVector, RowVector]:
        """Return g = ρ_c(r/σ) − target/n, ∂g/∂r and −∂g/∂σ for each row."""
        threshold = self.factor * scale
        rho, psi = BISQUARE.rho_and_psi(residual, threshold)
        unit = 6.0 / threshold / threshold
        rho *= unit
        rho -= self.target / n
        psi *= unit
        deriv = psi * residual
        deriv /= scale
        return rho, psi, deriv


def m_scale_root(
    sums: Callable[[FloatArray], tuple[FloatArray, FloatArray]],
    start: FloatArray,
    target: float,
    rtol: float = M_SCALE_RTOL,
) -> FloatArray:
    """Solve a(s) = target for s by Newton's method in log s, safeguarded by bisection.

    `sums` returns a(s), which decreases with s, and −da/d log s. Each element of the arrays is
    a separate equation.
    """
    s, low, high = start, np.zeros_like(start), np.full_like(start, np.inf)
    for _ in range(M_SCALE_MAX_ITER):
        value, slope = sums(s)
        excess = value - target
        low = np.where(excess > 0, np.maximum(low, s), low)
        high = np.where(excess > 0, high, np.minimum(high, s))
        with np.errstate(divide="ignore", invalid="ignore"):
            step = np.where(slope > 0, excess / slope, np.copysign(MAX_LOG_STEP, excess))
        following = s * np.exp(np.clip(step, -MAX_LOG_STEP, MAX_LOG_STEP))
        inside = (following > low) & (following < high)
        middle = np.where(np.isinf(high), 2.0 * s, 0.5 * (low + np.minimum(high, 2.0 * s)))
        found = np.abs(excess) <= rtol * target
        following = np.where(found, s, np.where(inside, following, middle))
        if (np.abs(following - s) <= rtol * s).all():
            return following
        s = following
    return s


def trimmed_scale(
    residual: RowVector,
    weight: RowVector | None,
    s_scale: float,
    least: float,
    n: float,
    k: int,
    s_constant: float,
) -> float:
    """Return the standard deviation of the residuals of an S-estimate, excluding outliers.

    The scale σ is the limit of the iteration σ ← √(Σ_in s_i r_i² / (Σ_in s_i − k)) / κ, which
    starts from the S-scale and decreases. The sums are over the residuals with |r| ≤ Kσ, and κ²
    is the variance of a standard normal variable truncated to ±K. The residuals of an
    S-estimate with efficiency e have a standard deviation √(1 + k/(n e)) times that of the
    errors, so K is 2.5 times this factor. If σ falls to `least`, the result is `least`. `n` is
    the total weight.
    """
    K, kappa = _trimming(n, k, s_constant)
    s = s_scale
    while True:
        outside, squares = clipped_sums(residual, weight, K * s)
        inside = n - outside - k
        if inside <= 0:
            return s_scale
        following = float(np.sqrt(squares / inside) / kappa)
        if following <= least:
            return least
        if following >= s * (1.0 - TRIMMED_RTOL):
            return s
        s = following


class TrimmedScores(NamedTuple):
    """The scores g of the trimmed scale σ, which solves Σ s g = 0, and their derivatives.

    `slope` contains ∂g/∂r. The difference `squares` − `density` is −Σ s ∂g/∂σ. The term
    `density` arises because the endpoints of the interval |r| ≤ Kσ used by `trimmed_scale`
    depend on σ.
    """

    g: RowVector
    slope: RowVector
    squares: float
    density: float


def trimmed_scores(
    residual: RowVector,
    weight: RowVector | None,
    scale: float,
    n: float,
    k: int,
    s_constant: float,
    n_rows: float,
) -> TrimmedScores:
    """Return the TrimmedScores with g = (r² − κ²σ²) 1[|r| ≤ Kσ] + κ²σ²k/n.

    The indicator function is not differentiable at ±Kσ. Its contribution to the derivatives is
    estimated from the density of the residuals at ±Kσ, as for the MAD of `n_rows` observations.
    """
    K, kappa = _trimming(n, k, s_constant)
    end, variance = K * scale, (kappa * scale) ** 2
    outside, _ = clipped_sums(residual, weight, end)
    total = float(residual.size if weight is None else weight.sum())
    upper, lower = _density_terms(residual, end, scale, n_rows)
    ends = [float(term.sum() if weight is None else weight @ term) for term in (upper, lower)]
    jump = end**2 - variance
    lower -= upper
    lower *= jump
    inside = np.abs(residual, out=upper) <= end
    lower += np.multiply(2.0 * inside, residual, out=upper)
    g = np.multiply(residual, residual, out=upper)
    g -= variance
    g *= inside
    g += variance * k / n
    within = total * (1.0 - k / n) - outside
    return TrimmedScores(g, lower, 2.0 * variance / scale * within, K * jump * sum(ends))


def _trimming(n: float, k: int, s_constant: float) -> tuple[float, float]:
    """Return K and κ of the trimmed scale, as defined in `trimmed_scale`."""
    K = TRIMMED_END * np.sqrt(1.0 + k / (n * normal_efficiency(s_constant)))
    # The variance of the truncated variable is the ratio of two truncated moments.
    kappa = np.sqrt(1.0 - 2.0 * K * _normal_density(K) / (2.0 * ndtr(K) - 1.0))
    return float(K), float(kappa)


def _normal_density(u: float) -> float:
    return float(np.exp(-0.5 * u * u) / np.sqrt(2.0 * np.pi))
