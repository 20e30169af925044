"""The pairs bootstrap: the model is refitted to rows of (X, y) drawn with replacement.

Each fit to a resample is a replicate. Most replicates converge in a few Newton steps from the
original fit, and these steps are computed for a batch of replicates at once. Each row of X is
represented by its coordinates q in the row space. The row weights of the batch form a matrix
with one replicate per row, in which the weights of rows with |r| > β are set to zero. The
product of this matrix and the matrix of the products q_i q_j of the coordinates of each row of
X gives the Hessians of all replicates. If the scale is estimated, the equation to solve is
u(θ, σ(θ)) = 0, where u is the sum of the scores and σ(θ) is the scale of the residuals. In the
notation of `_covariance`, the Jacobian of −u is A − a bᵀ/e. Replicates for which Newton's
method does not converge are fitted individually.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from ._covariance import MIN_SCALE_PIVOT, Clusters
from ._engines.base import FloatArray
from ._engines.threads import single_threaded_blas
from ._fit import fit_stages
from ._linearised import LinearisedFit
from ._model.scale import NORMAL_MAD, Mad, ScaleEstimator
from ._sampling import Problem, RowSampler
from ._solvers import choose
from ._spec import FitSpec

# Tolerance for the norm of the whitened gradient of a replicate, relative to the root mean
# square of ψ at the original fit. In units of the standard errors, a converged replicate is
# within about √n times this tolerance of the minimiser.
TOL = 2e-8
# Maximum numbers of Newton steps in a batch and of iterations in an individual fit.
NEWTON_MAX_STEPS, OWN_MAX_ITER = 20, 10_000
# Maximum number of elements in the matrix of the products q_i q_j. If the matrix would be
# larger, each replicate is fitted individually.
MAX_PRODUCTS = 2**21
# Maximum numbers of elements in the weight matrix of a batch, which should stay in the cache,
# and in the Hessians of a batch.
BATCH_ELEMENTS, MAX_HESSIAN_ELEMENTS = 2**16, 2**19
# A replicate is known to have full rank if all squared Cholesky pivots of its Hessian at the
# original fit, in whitened coordinates and divided by the total weight, exceed PROVEN_PIVOT. It
# is rank-deficient if a squared pivot of its Gram matrix, normalised in the same way, is at
# most MIN_PIVOT.
PROVEN_PIVOT, MIN_PIVOT = 1e-6, 1e-10
# If the gradient norm after a step exceeds this fraction of the norm before the step, the next
# step uses Huber's weights.
MAX_REMAINING_GRADIENT = 0.8
# Multiple of the total weight that is added to the diagonal of a Hessian, which might otherwise
# become singular during the iteration.
HESSIAN_RIDGE = 1e-12
# Several scales of a replicate may each equal the MAD of the residuals of the fit with that
# scale. A scale within this factor of the scale of the original fit is accepted.
NEAR_SCALE_FACTOR = 2.0
# The median of |r| is sought within a relative distance of its last estimate: FIRST_REACH / √n
# in the first step, and in later steps the last relative change of the median, but at least
# MIN_REACH / n. If the median is farther away, the distance is multiplied by WIDER_REACH.
FIRST_REACH, MIN_REACH, WIDER_REACH = 1.5, 12.0, 8.0
# First step, counted from 0, in which the slope of a MAD is computed from the rows that
# determine the median of |r|.
LOCAL_SLOPE_STEP = 1

Draw = Callable[[int], FloatArray]


class Replicates(NamedTuple):
    """Intercept and coefficients (b, v) of the standardised features, one replicate per row.

    The target is in the units of `TargetUnits`. A row is NaN if its replicate did not converge
    or has a lower rank than the original fit. `n_failed` is the number of such rows.
    """

    coef: FloatArray
    n_failed: int


def bootstrap_replicates(
    fit: LinearisedFit,
    n_resamples: int,
    *,
    joint: bool,
    clusters: Clusters | None,
    random_state: object,
) -> Replicates:
    """Return the coefficients of fits to rows, or clusters, drawn with replacement.

    With `joint`, each replicate re-estimates the scale if the original fit estimated it.
    Otherwise all replicates use the threshold of the original fit.
    """
    draw = weight_sampler(fit, clusters, generator(random_state))
    estimator = fit.loss.estimator if joint else None
    k = fit.row_space.shape[1]
    batched = fit.engine.n * k * (k + 1) // 2 <= MAX_PRODUCTS
    size = max(1, min(BATCH_ELEMENTS // fit.engine.n, MAX_HESSIAN_ELEMENTS // max(k, 1) ** 2))
    coef = np.full((n_resamples, fit.coef.size), np.nan)
    # If a Newton step overflows, the replicate is fitted individually.
    with single_threaded_blas(), np.errstate(all="ignore"):
        newton = _BatchNewton(fit, estimator) if batched else None
        fit_alone = _OwnFit(fit, estimator)
        for start in range(0, n_resamples, size):
            out = coef[start : start + size]
            weight = draw(out.shape[0])
            left = np.arange(out.shape[0])
            if newton is not None:
                out[:], left = newton.minimise(weight)
            for index in left:
                out[index] = fit_alone(weight[index])
    return Replicates(coef, int(np.isnan(coef[:, 0]).sum()))


# Weights ---------------------------------------------------------------------------------


def generator(random_state: object) -> np.random.Generator:
    """Return a new random generator.

    Its seed is drawn from NumPy's global random state only if `random_state` is that state.
    """
    if random_state is None:
        return np.random.default_rng()
    words = check_random_state(random_state).randint(2**32, size=4, dtype=np.uint32)
    return np.random.default_rng(words)


def weight_sampler(
    fit: LinearisedFit, clusters: Clusters | None, rng: np.random.Generator
) -> Draw:
    """Return a function that draws the row weights for a given number of replicates."""
    if clusters is None and fit.copies is not None:
        n, share = round(fit.total), fit.copies / fit.total
        return lambda m: rng.multinomial(n, share, size=m).astype(float)
    n_units = fit.engine.n if clusters is None else clusters.n

    def draw(m: int) -> FloatArray:
        drawn = rng.integers(n_units, size=(m, n_units))
        drawn += n_units * np.arange(m)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=m * n_units).reshape(m, n_units)
        if clusters is not None:
            counts = counts[:, clusters.code]
        weight: FloatArray = np.multiply(counts, 1.0 if fit.weight is None else fit.weight)
        return weight

    return draw


# One replicate ---------------------------------------------------------------------------


class _OwnFit:
    """Fit of one replicate, given the weights of its rows."""

    def __init__(self, fit: LinearisedFit, estimator: ScaleEstimator | None) -> None:
        self.fit = fit
        self.plan = choose(fit.engine, "auto")
        self.y = fit.units.y_for(
            Problem(fit.engine, fit.weight, fit.fit_intercept, self.plan.whiten_by)
        )
        per_threshold = estimator is not None and fit.loss.penalty_moves_with_scale
        alpha = fit.loss.penalty / (fit.beta if per_threshold else 1.0)
        self.spec = FitSpec(
            beta=fit.beta if estimator is None else np.nan,
            scale=estimator,
            alpha=alpha,
            alpha_per_threshold=per_threshold,
            loss="huber",
            schedule=None,
            tol=TOL,
            max_iter=OWN_MAX_ITER,
        )

    def __call__(self, weight: FloatArray) -> FloatArray:
        """Return (b, v), or NaN if the fit does not converge or is rank-deficient."""
        fit = self.fit
        sampler = RowSampler(fit.engine, weight, fit.fit_intercept, self.plan)
        (result,) = fit_stages(sampler, self.y, self.spec)
        full_rank = fit.penalty.any() or result.n_variables >= fit.row_space.shape[1]
        if not (result.converged and full_rank):
            return np.full(fit.coef.size, np.nan)
        units = fit.units
        intercept = units.shift + units.unit * result.intercept
        data = np.concatenate([[intercept], units.unit * result.coef])
        return units.from_data(data, fit.engine)


# Many replicates -------------------------------------------------------------------------


class _State(NamedTuple):
    """State of the replicates that have not converged, with one replicate per row.

    `weight` contains the row weights, and `total` is their sum. `theta` is the difference from
    the original fit in coordinates of the row space, `slope` is −dσ/dθ, `reach` is the relative
    distance from the current scale within which the next scale is sought, and `gradient` is the
    norm of the gradient.
    """

    replicate: NDArray[np.intp]
    weight: FloatArray
    total: FloatArray
    theta: FloatArray
    scale: FloatArray
    slope: FloatArray
    reach: FloatArray
    gradient: FloatArray

    def of(self, kept: NDArray[np.bool_]) -> _State:
        return _State(*(values[kept] for values in self))  # type: ignore[arg-type]


class _BatchNewton:
    """Newton's method for many replicates at once, starting from the original fit."""

    def __init__(self, fit: LinearisedFit, estimator: ScaleEstimator | None) -> None:
        self.fit, self.estimator = fit, estimator
        self.M = M = fit.row_space
        self.k = k = M.shape[1]
        Q = np.concatenate([fit.engine.rows(part) @ M for part in fit.engine.blocks()])
        i, j = np.triu_indices(k)
        self.Q, self.products = Q, Q[:, i] * Q[:, j]
        # Index of each entry of a symmetric matrix in the vector of its upper triangle.
        self.full = np.empty((k, k), dtype=np.intp)
        self.full[i, j] = self.full[j, i] = np.arange(i.size)
        self.penalty = M.T @ (fit.penalty[:, None] * M)
        self.penalty_gradient = M.T @ (fit.penalty * fit.coef)
        self.moves = estimator is not None and fit.loss.penalty_moves_with_scale
        squares = float(fit.times_weight(fit.psi**2).sum())
        self.gtol = TOL * float(np.sqrt(squares / fit.total))
        self.g, self.slope, self.e = np.zeros(fit.engine.n), np.zeros(k), 1.0
        if estimator is not None:
            self.g, b, e = estimator.scores(fit.residual, fit.scale, fit.n)
            self.e = float(fit.times_weight(e).sum()) / fit.total
            # All replicates start with the slope −dσ/dθ of the original fit, because their
            # slopes differ little from it.
            self.slope = (fit.times_weight(b) @ Q) / (self.e * fit.total)

    def minimise(self, weight: FloatArray) -> tuple[FloatArray, NDArray[np.intp]]:
        """Return (b, v) of each replicate, and the indices of those to be fitted individually.

        Rank-deficient replicates are not fitted individually; their (b, v) are NaN.
        """
        fit = self.fit
        coef = np.full((weight.shape[0], fit.coef.size), np.nan)
        now, not_known = self._first_step(weight)
        for step in range(NEWTON_MAX_STEPS if now.replicate.size else 0):
            r = fit.residual - now.theta @ self.Q.T
            now, beta, settled = self._with_scale(now, r, step >= LOCAL_SLOPE_STEP)
            psi = np.clip(r, -beta[:, None], beta[:, None])
            u = (now.weight * psi) @ self.Q - self._shrinkage(now)
            norm = np.sqrt(np.einsum("ij,ij->i", u, u)) / now.total
            stalls = norm > MAX_REMAINING_GRADIENT * now.gradient
            now = now._replace(gradient=norm)
            done = settled & (norm <= self.gtol)
            if done.any():
                coef[now.replicate[done]] = fit.coef + now.theta[done] @ self.M.T
                not_known[now.replicate[done & self._may_be_another_scale(now)]] = True
                now, r, psi, u = now.of(~done), r[~done], psi[~done], u[~done]
                stalls = stalls[~done]
            if not now.replicate.size:
                break
            inner = now.weight * (psi == r)
            curvature = inner
            if stalls.any():
                # With Huber's weights β/max(|r|, β) for ψ′, the quadratic model majorises the
                # loss, so a step at a fixed scale does not increase the objective.
                end = beta[~done][stalls, None]
                curvature = inner.copy()
                curvature[stalls] = (
                    now.weight[stalls] * end / np.maximum(np.abs(r[stalls]), end)
                )
            H = self._hessian(curvature @ self.products, now)
            outside = None
            if self.estimator is not None:
                outside = (u + self._shrinkage(now) - (inner * r) @ self.Q) / now.scale[:, None]
            now = now._replace(theta=now.theta + self._step(now, H, u, outside)[0])
        not_known[now.replicate] = True
        return coef, np.flatnonzero(not_known)

    def _first_step(self, weight: FloatArray) -> tuple[_State, NDArray[np.bool_]]:
        """Take a Newton step, and return the state of the replicates proven to have full rank.

        Also return a mask of the replicates to be fitted individually. This first step uses
        the residuals of the original fit, so all sums over the rows are linear in the weights.
        """
        fit, m = self.fit, weight.shape[0]
        inside = np.abs(fit.residual) <= fit.beta
        now = _State(
            np.arange(m),
            weight,
            weight.sum(axis=1),
            np.zeros((m, self.k)),
            np.full(m, fit.scale),
            np.tile(self.slope, (m, 1)),
            np.full(m, FIRST_REACH / np.sqrt(fit.n)),
            np.full(m, np.inf),
        )
        H = self._hessian((weight * inside) @ self.products, now)
        proven = _well_conditioned(H, PROVEN_PIVOT * now.total)
        not_known = np.zeros(m, dtype=bool)
        if not proven.all():
            other = now.of(~proven)
            gram = self._hessian(other.weight @ self.products, other)
            not_known[~proven] = _well_conditioned(gram, MIN_PIVOT * other.total)
            now, H = now.of(proven), H[proven]
        u = now.weight @ (fit.psi[:, None] * self.Q) - self._shrinkage(now)
        outside, gap = None, np.zeros(1)
        if self.estimator is not None:
            sign = (self.estimator.factor * np.sign(fit.residual)) * ~inside
            outside = now.weight @ (sign[:, None] * self.Q)
            gap = now.weight @ self.g / (self.e * now.total)
        step, scale_step = self._step(now, H, u, outside, gap)
        scale = now.scale * np.exp(scale_step / now.scale)
        return now._replace(theta=step, scale=scale), not_known

    def _with_scale(
        self, now: _State, r: FloatArray, local: bool
    ) -> tuple[_State, FloatArray, NDArray[np.bool_] | bool]:
        """Return the state with new scales, the new thresholds, and a mask of converged scales.

        A concomitant scale is updated by one Newton step, and a MAD is computed exactly. With
        `local`, the slope of the MAD is computed from the rows that determine the median of
        |r|.
        """
        if self.estimator is None:
            return now, np.full(now.total.size, self.fit.beta), True
        settled: NDArray[np.bool_] | bool = True
        if isinstance(self.estimator, Mad):
            scale, rows = _mads(np.abs(r), now)
            if local:
                slope = np.zeros_like(now.theta)
                for middle in rows:
                    sign = np.sign(r[np.arange(middle.size), middle])
                    slope += sign[:, None] * self.Q[middle]
                now = now._replace(slope=slope / (2.0 * NORMAL_MAD))
        else:
            scale = _concomitant_step(self.estimator.factor, np.abs(r), now)
            settled = np.abs(scale - now.scale) <= TOL * scale
        reach = np.maximum(np.abs(scale / now.scale - 1.0), MIN_REACH / self.fit.n)
        return now._replace(scale=scale, reach=reach), self.estimator.factor * scale, settled

    def _may_be_another_scale(self, now: _State) -> NDArray[np.bool_]:
        """Return a mask of the replicates whose individual fit may select a different scale.

        If there are few rows or most rows are fitted exactly, several scales may each equal the
        MAD of the residuals of the fit with that scale. An individual fit selects the first
        such scale below the scale of the least-squares residuals.
        """
        factor = now.scale / self.fit.scale
        far = (factor < 1.0 / NEAR_SCALE_FACTOR) | (factor > NEAR_SCALE_FACTOR)
        return far & isinstance(self.estimator, Mad)

    def _penalty_weight(self, now: _State) -> FloatArray:
        """Return the total weight S of each replicate.

        If the penalty depends on the scale, S is multiplied by the ratio of the replicate's
        scale to that of the original fit.
        """
        return now.total * (now.scale / self.fit.scale) if self.moves else now.total

    def _shrinkage(self, now: _State) -> FloatArray:
        """Return S α̃ Dθ of each replicate: the gradient of the penalty, multiplied by S."""
        gradient = self.penalty_gradient + now.theta @ self.penalty
        shrinkage: FloatArray = self._penalty_weight(now)[:, None] * gradient
        return shrinkage

    def _hessian(self, sums: FloatArray, now: _State) -> FloatArray:
        """Return Σ w qqᵀ + S α̃ D of each replicate, given the sums Σ w q_i q_j."""
        H: FloatArray = sums[:, self.full]
        H += self._penalty_weight(now)[:, None, None] * self.penalty
        diagonal = np.arange(self.k)
        H[:, diagonal, diagonal] += HESSIAN_RIDGE * now.total[:, None]
        return H

    def _step(
        self,
        now: _State,
        H: FloatArray,
        u: FloatArray,
        outside: FloatArray | None,
        gap: FloatArray | float = 0.0,
    ) -> tuple[FloatArray, FloatArray]:
        """Return the Newton steps of θ and of the scale.

        `outside` is None if the scale is not estimated; otherwise it is Σ s k sign(r) q over
        the rows with |r| > kσ, where kσ is the threshold. `gap` is the Newton step of the scale
        at fixed θ.
        """
        if outside is None:
            return _solve(H, u[:, :, None])[:, :, 0], np.zeros(len(u))
        a = -outside
        if self.moves:
            a += self._shrinkage(now) / now.scale[:, None]
        solved = _solve(H, np.stack([u, a], axis=2))
        step, along = solved[:, :, 0], solved[:, :, 1]
        pivot: FloatArray = 1.0 - np.einsum("ij,ij->i", along, now.slope)
        scale_step: FloatArray = gap - np.einsum("ij,ij->i", step, now.slope)
        scale_step = scale_step / np.maximum(pivot, MIN_SCALE_PIVOT)
        step -= along * scale_step[:, None]
        return step, scale_step


def _solve(H: FloatArray, right: FloatArray) -> FloatArray:
    """Return the solution of Hx = `right` for each replicate, or NaN if H is singular."""
    try:
        return np.asarray(np.linalg.solve(H, right), dtype=np.float64)
    except np.linalg.LinAlgError:
        if len(H) == 1:
            return np.full(right.shape, np.nan)
        half = len(H) // 2
        return np.concatenate([_solve(H[:half], right[:half]), _solve(H[half:], right[half:])])


def _well_conditioned(H: FloatArray, min_pivot: FloatArray) -> NDArray[np.bool_]:
    """Return a mask of the matrices whose squared Cholesky pivots all exceed `min_pivot`."""
    try:
        L = np.linalg.cholesky(H)
    except np.linalg.LinAlgError:
        if len(H) == 1:
            return np.zeros(1, dtype=bool)
        half = len(H) // 2
        parts = (slice(half), slice(half, None))
        return np.concatenate([_well_conditioned(H[part], min_pivot[part]) for part in parts])
    pivots = np.diagonal(L, axis1=1, axis2=2) ** 2
    above: NDArray[np.bool_] = pivots.min(axis=1, initial=np.inf) > min_pivot
    return above


# Scales of many replicates ---------------------------------------------------------------


def _mads(size: FloatArray, now: _State) -> tuple[FloatArray, list[NDArray[np.intp]]]:
    """Return the normalised weighted medians of |r|, and the two rows that give each median.

    For each replicate, only the values in a window around the median implied by its current
    scale are sorted. If the new median is not in the window, the window is widened. If the
    values up to and including some value have half of the total weight, to within rounding
    error, the median is the mean of that value and the next, as in `_reductions.median`.
    """
    m, n = size.shape
    reach = now.reach[:, None]
    near = (now.scale * NORMAL_MAD)[:, None]
    below = size < near * (1.0 - reach)
    inside = size <= near * np.where(reach < 1.0, 1.0 + reach, np.inf)
    inside ^= below
    inside &= now.weight > 0
    row, column = np.divmod(np.flatnonzero(inside), n)
    # Each row holds the window of one replicate, padded with values of weight zero.
    count = np.bincount(row, minlength=m)
    place = np.arange(row.size) - (np.cumsum(count) - count)[row]
    shape = m, max(1, int(count.max()))
    values, weights, columns = np.full(shape, np.inf), np.zeros(shape), np.zeros(shape, np.intp)
    at = row, place
    values[at], weights[at], columns[at] = size[row, column], now.weight[row, column], column
    order = np.argsort(values, axis=1)
    cumulated = np.cumsum(np.take_along_axis(weights, order, 1), axis=1)
    weight_below = np.einsum("ij,ij->i", now.weight, below)
    cumulated += weight_below[:, None]
    half, slack = 0.5 * now.total, np.finfo(float).eps * n * now.total
    first = np.count_nonzero(cumulated < (half - slack)[:, None], axis=1)
    second = np.count_nonzero(cumulated <= (half + slack)[:, None], axis=1)
    every = np.arange(m)
    places = [order[every, np.minimum(k, shape[1] - 1)] for k in (first, second)]
    medians = 0.5 * (values[every, places[0]] + values[every, places[1]]) / NORMAL_MAD
    rows = [columns[every, each] for each in places]
    other = (weight_below >= half - slack) | (second >= count)
    other &= now.reach < 1.0
    if other.any():
        wider = now.of(other)._replace(reach=WIDER_REACH * now.reach[other])
        medians[other], other_rows = _mads(size[other], wider)
        for each, values_of_other in zip(rows, other_rows, strict=True):
            each[other] = values_of_other
    return medians, rows


def _concomitant_step(epsilon: float, size: FloatArray, now: _State) -> FloatArray:
    """Return each replicate's concomitant scale after a Newton step, as in `Concomitant`."""
    inner = now.weight * (size <= epsilon * now.scale[:, None])
    outside = now.total - inner.sum(axis=1)
    inner *= size
    squares = np.einsum("ij,ij->i", inner, size)
    remaining = now.total - epsilon * (epsilon * outside)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale: FloatArray = np.sqrt(squares / remaining)
    # If so many rows have |r| > εσ that the Newton step is undefined, the scale is doubled.
    return np.where(remaining > 0, scale, 2.0 * now.scale)
