"""Starting points of an S-estimate, whose objective has several local minima.

No single kind of starting point leads to the lowest minimum for all data, so several are used:

- least squares and least absolute deviations (LAD) on all rows;
- least squares and LAD on each half-set of the rows (`_half_sets`), for data with clusters of
  leverage points;
- least squares without the rows that are extreme in a principal sensitivity component (Peña and
  Yohai, "A fast procedure for outlier diagnostics in large regression problems", JASA 94,
  1999);
- exact fits to k random rows, where k is the number of coefficients. Rows that are linearly
  dependent on rows drawn earlier are skipped so that indicator features do not lead to singular
  systems (Koller and Stahel, "Nonsingular subsampling for regression S estimators with
  categorical predictors", Computational Statistics 32, 2017).

Each candidate is improved by a few steps of iteratively reweighted least squares, with one
update of the scale per step (Salibián-Barrera and Yohai, "A fast algorithm for S-regression
estimates", JCGS 15, 2006). The steps of a batch of candidates are computed together by matrix
products.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, lapack, solve_triangular

from ._engines.base import FloatArray
from ._half_sets import half_sets
from ._model.scale import NORMAL_MAD, m_scale_root

# Maximum numbers of elements in the residual matrix of a batch of candidates, and in the array
# of the pairwise products of the features in each row.
BATCH_ELEMENTS = 2**16
PRODUCTS_MAX_ELEMENTS = 2**18
# Numbers of reweighting steps for fits to random subsets and for all other candidates.
SUBSET_STEPS, DETERMINISTIC_STEPS = 2, 10
# Number of random subsets in a group. In every second group, the rows of the first half-set are
# drawn before all other rows.
SUBSET_GROUP = 100
# A row is treated as linearly dependent on earlier rows if its component orthogonal to them is
# at most this fraction of its norm.
MIN_INDEPENDENT_PART = 1e-8
# If the first k random rows are linearly dependent, independent rows are sought among the first
# k times this number of random rows and, if this search fails, among all rows.
SUBSET_ROWS_PER_COEFFICIENT = 8
# Number of reweighting steps of an approximate LAD fit, and lower bound on the absolute
# residuals in the weights 1/|r|, as a fraction of the median absolute residual.
LAD_STEPS, LAD_MIN_RESIDUAL = 15, 1e-4
# Maximum number of rounds of the search by sensitivity components, and maximum number k of
# coefficients for which this search is used. Each round takes about k³ operations.
SENSITIVITY_ROUNDS, SENSITIVITY_MAX_COEFFICIENTS = 10, 201
# Each new round of the search by sensitivity components uses the rows whose absolute residuals
# from the best fit so far are at most SENSITIVITY_END times the scale of that fit. The search
# ends if a round lowers the scale by less than the fraction SENSITIVITY_RTOL.
SENSITIVITY_END, SENSITIVITY_RTOL = 2.0, 1e-6
# Upper bound on the leverage of a row in the divisor 1 − leverage.
MAX_LEVERAGE = 1.0 - 1e-8
# Fraction of the mean variance of the features that is added to the variance of each feature
# when the half-sets are computed.
HALF_SET_RIDGE = 1e-2
# Fraction of the mean diagonal element that is added to the diagonal of the Gram matrix of a
# reweighting step to keep it nonsingular, and relative tolerance of the M-scales of candidates.
STEP_RIDGE, SCALE_RTOL = 1e-12, 1e-6
# Two candidates are treated as equal if the norm of the difference between their coefficients,
# in whitened coordinates, is at most this fraction of the scale.
SAME_START_RTOL = 1e-2
# Relative tolerance, for rounding errors, in comparisons of sums of weights.
HALF_RTOL = 1e-12
# Lower bound on scales that are used as divisors.
_SMALLEST = 1e-150


class Start(NamedTuple):
    """A starting point: its coefficients, the M-scale of its residuals, and its kind."""

    theta: FloatArray
    scale: float
    kind: str


class StartProblem:
    """The in-memory data of an S-estimate: rows, target values, weights and the M-scale.

    Parameters
    ----------
    Z : ndarray of shape (m, k)
        The rows in whitened coordinates.
    y, weight : ndarrays of shape (m,)
        The target values and the weights of the rows.
    intercept : ndarray of shape (k,) or None
        The vector e for which all elements of Ze are 1, or None if there is no intercept.
    constant, target : float
        The parameters of the `MScale`.
    """

    def __init__(
        self,
        Z: FloatArray,
        y: FloatArray,
        weight: FloatArray,
        intercept: FloatArray | None,
        constant: float,
        target: float,
    ) -> None:
        self.Z, self.y, self.weight, self.intercept = Z, y, weight, intercept
        self.constant, self.target = constant, target
        self.m, self.k = Z.shape
        self.equal_weights = bool(np.ptp(weight) == 0)
        self._products: FloatArray | None = None
        if self.m * self.k**2 <= PRODUCTS_MAX_ELEMENTS:
            self._products = np.einsum("ij,il->ijl", Z, Z).reshape(self.m, -1)

    def residuals(self, thetas: FloatArray) -> FloatArray:
        """Return the residuals of all m rows for each candidate, of shape (n_candidates, m)."""
        R = thetas @ self.Z.T
        return np.subtract(self.y, R, out=R)

    def weighted_steps(self, weights: FloatArray, residuals: FloatArray) -> FloatArray:
        """Return, for each candidate, the step from it to its weighted least-squares fit.

        `weights`, `residuals` and the result have one row per candidate.
        """
        gradient = (weights * residuals) @ self.Z
        if self._products is not None:
            G = (weights @ self._products).reshape(-1, self.k, self.k)
        else:
            # NumPy multiplies a matrix by its own transpose in half the time that it takes for
            # a general product.
            roots = (np.sqrt(w)[:, None] * self.Z for w in weights)
            G = np.stack([root.T @ root for root in roots])
        diagonal = np.einsum("ijj->ij", G)
        ridge = STEP_RIDGE * diagonal.mean(axis=1)
        diagonal += np.where(ridge > 0, ridge, 1.0)[:, None]
        return _solved(G, gradient)

    def weighted_fits(self, weights: FloatArray) -> FloatArray:
        """Return the weighted least-squares fit for each row of `weights`."""
        zero = np.zeros((len(weights), self.k))
        return self.weighted_steps(weights, self.residuals(zero))

    def squared_ratios(self, residuals: FloatArray, scales: FloatArray) -> FloatArray:
        """Return min((r/(c s))², 1) for each residual r, where s is the scale of the candidate.

        c is `constant`, and `residuals` has one row per candidate.
        """
        with np.errstate(over="ignore"):
            z = residuals / (self.constant * np.maximum(scales, _SMALLEST))[:, None]
            z *= z
        return np.minimum(z, 1.0, out=z)

    def m_scales(self, residuals: FloatArray, near: FloatArray) -> FloatArray:
        """Return the M-scale of the residuals of each candidate.

        An M-scale is 0 if too few residuals are nonzero. `near` contains initial values of the
        scales.
        """

        def sums(s: FloatArray) -> tuple[FloatArray, FloatArray]:
            z2 = self.squared_ratios(residuals, s)
            inside = 1.0 - z2
            square = inside * inside
            slope = 6.0 * (z2 * square) @ self.weight
            return (1.0 - square * inside) @ self.weight, slope

        exact = (residuals != 0) @ self.weight <= self.target
        start = np.where(near > 0, near, np.abs(residuals).max(axis=1))
        scales = m_scale_root(sums, np.where(exact, 1.0, start), self.target, SCALE_RTOL)
        return np.where(exact, 0.0, scales)

    def improved(
        self, thetas: FloatArray, n_steps: int, *, centred: bool
    ) -> tuple[FloatArray, FloatArray]:
        """Return the candidates after `n_steps` reweighting steps, and their M-scales.

        If `centred` is True, the intercept of each candidate is first shifted by the midpoint
        of the shortest half of its residuals.
        """
        size = max(1, BATCH_ELEMENTS // self.m)
        parts = [
            self._improved_batch(thetas[i : i + size], n_steps, centred)
            for i in range(0, len(thetas), size)
        ]
        return np.concatenate([t for t, _ in parts]), np.concatenate([s for _, s in parts])

    def _improved_batch(
        self, thetas: FloatArray, n_steps: int, centred: bool
    ) -> tuple[FloatArray, FloatArray]:
        residuals = self.residuals(thetas)
        if centred and self.intercept is not None:
            middle = self._middle_of_shortest_half(residuals)
            thetas = thetas + middle[:, None] * self.intercept
            residuals -= middle[:, None]
        scales = self.median_scales(residuals)
        for _ in range(n_steps):
            inside = 1.0 - self.squared_ratios(residuals, scales)
            weights = inside * inside
            rho = (1.0 - weights * inside) @ self.weight
            scales = scales * np.sqrt(rho / self.target)
            inside = 1.0 - self.squared_ratios(residuals, scales)
            weights = inside * inside * self.weight
            thetas = thetas + self.weighted_steps(weights, residuals)
            residuals = self.residuals(thetas)
        return thetas, self.m_scales(residuals, self.median_scales(residuals))

    def median_scales(self, residuals: FloatArray) -> FloatArray:
        """Return the normalised weighted median of the absolute residuals of each candidate."""
        size = np.abs(residuals)
        if self.equal_weights:
            middle = self.m // 2
            median: FloatArray = np.partition(size, middle, axis=1)[:, middle]
        else:
            order = np.argsort(size, axis=1)
            above = np.cumsum(self.weight[order], axis=1) > 0.5 * self.weight.sum()
            first = np.take_along_axis(order, above.argmax(axis=1)[:, None], axis=1)
            median = np.take_along_axis(size, first, axis=1)[:, 0]
        return median / NORMAL_MAD

    def _middle_of_shortest_half(self, residuals: FloatArray) -> FloatArray:
        """Return, for each candidate, the midpoint of the shortest half of its residuals.

        The shortest half is the shortest interval in which the residuals have a total weight of
        at least (S + k)/2, where S is the total weight and k the number of coefficients.
        """
        rows = np.arange(len(residuals))
        if self.equal_weights:
            h = min(self.m, (self.m + self.k + 1) // 2)
            ordered = np.sort(residuals, axis=1)
            first = np.argmin(ordered[:, h - 1 :] - ordered[:, : self.m - h + 1], axis=1)
            ends: FloatArray = ordered[rows, first] + ordered[rows, first + h - 1]
            return 0.5 * ends
        total = self.weight.sum()
        half = min(total, 0.5 * (total + self.k))
        middle = np.empty(len(residuals))
        for i, residual in enumerate(residuals):
            order = np.argsort(residual)
            r, before = residual[order], np.cumsum(self.weight[order])
            start = before - self.weight[order]
            last = np.searchsorted(before, start + half * (1.0 - HALF_RTOL))
            inside = last < r.size
            first = np.flatnonzero(inside)[np.argmin(r[last[inside]] - r[inside])]
            middle[i] = 0.5 * (r[first] + r[last[first]])
        return middle


def best_starts(
    problem: StartProblem, n_subsamples: int, n_kept: int, rng: np.random.Generator
) -> list[Start]:
    """Return up to `n_kept` distinct candidates with the smallest M-scales, sorted by M-scale.

    `n_subsamples` is the number of candidates that are fits to random subsets of rows.
    """
    halves = _feature_half_sets(problem)
    groups = [_deterministic_starts(problem, halves)]
    if n_subsamples:
        thetas = np.concatenate(list(_subset_fits(problem, halves, n_subsamples, rng)))
        thetas, scales = problem.improved(thetas, SUBSET_STEPS, centred=True)
        groups.append((thetas, scales, ["subset"] * len(scales)))
    thetas = np.concatenate([group[0] for group in groups])
    scales = np.concatenate([group[1] for group in groups])
    kinds = [kind for group in groups for kind in group[2]]
    kept: list[Start] = []
    for i in np.argsort(scales, kind="stable"):
        theta, scale = thetas[i], float(scales[i])
        if all(_differ(theta, other, scale) for other in kept):
            kept.append(Start(theta, scale, kinds[i]))
        if len(kept) == n_kept:
            break
    return kept


def _differ(theta: FloatArray, other: Start, scale: float) -> bool:
    return bool(np.linalg.norm(theta - other.theta) > SAME_START_RTOL * scale)


def _solved(matrices: FloatArray, right_sides: FloatArray) -> FloatArray:
    """Return the solution of the linear system of each matrix and right-hand side.

    If any of the systems is singular, the minimum-norm solutions of all systems are returned.
    """
    columns = right_sides[:, :, None]
    try:
        solutions = np.linalg.solve(matrices, columns)
    except np.linalg.LinAlgError:
        solutions = np.linalg.pinv(matrices) @ columns
    return solutions[:, :, 0].astype(np.float64)


# Deterministic starts --------------------------------------------------------------------


def _feature_half_sets(problem: StartProblem) -> list[NDArray[np.intp]]:
    features = problem.Z
    if problem.intercept is not None:
        # Projecting the rows onto the directions orthogonal to their mean removes the constant
        # column.
        mean = problem.weight @ problem.Z
        features = problem.Z @ np.linalg.svd(mean[None])[2][1:].T
    if not features.shape[1]:
        return []
    return half_sets(features, problem.weight, HALF_SET_RIDGE)


def _deterministic_starts(
    problem: StartProblem, halves: list[NDArray[np.intp]]
) -> tuple[FloatArray, FloatArray, list[str]]:
    """Return the deterministic candidates after reweighting, their M-scales and their kinds."""
    subsets = [np.arange(problem.m), *halves]
    weights = np.concatenate([_weights_of(problem, rows[None]) for rows in subsets])
    least_squares = problem.weighted_fits(weights)
    thetas = [least_squares, _lad_fits(problem, weights, least_squares)]
    kinds = ["least_squares", *["half_set"] * len(halves)]
    kinds += ["lad", *["half_set"] * len(halves)]
    if problem.k <= SENSITIVITY_MAX_COEFFICIENTS:
        found = _sensitivity_fits(problem)
        thetas.append(found)
        kinds += ["sensitivity"] * len(found)
    improved, scales = problem.improved(
        np.concatenate(thetas), DETERMINISTIC_STEPS, centred=True
    )
    return improved, scales, kinds


def _lad_fits(problem: StartProblem, weights: FloatArray, thetas: FloatArray) -> FloatArray:
    """Return approximate weighted LAD fits, computed by iteratively reweighted least squares.

    The iteration starts from `thetas`. `weights` has one row per fit.
    """
    for _ in range(LAD_STEPS):
        residuals = problem.residuals(thetas)
        size = np.abs(residuals)
        median = np.median(size, axis=1, keepdims=True)
        least = LAD_MIN_RESIDUAL * np.where(median > 0, median, 1.0)
        thetas = thetas + problem.weighted_steps(weights / np.maximum(size, least), residuals)
    return thetas


def _sensitivity_fits(problem: StartProblem) -> FloatArray:
    """Return, for each round of the search by sensitivity components, the best fit so far.

    A sensitivity component is a principal component of the changes in the fitted values that
    are caused by leaving out single rows. In each round, the model is fitted several times,
    each time without the rows that are extreme in one component. The next round uses only the
    rows with small residuals from the best fit so far.
    """
    rows, scale = np.arange(problem.m), np.inf
    found: list[FloatArray] = []
    theta: FloatArray | None = None
    for _ in range(SENSITIVITY_ROUNDS):
        candidates = _fits_without_extremes(problem, rows)
        if candidates is None:
            break
        candidates, scales = problem.improved(candidates, 0, centred=False)
        best, last = int(np.argmin(scales)), scale
        if scales[best] < scale:
            scale, theta = float(scales[best]), candidates[best]
        assert theta is not None
        found.append(theta)
        if not scale > 0 or scale > last * (1.0 - SENSITIVITY_RTOL):
            break
        residual = problem.residuals(theta[None])[0]
        near = np.flatnonzero(np.abs(residual) <= SENSITIVITY_END * scale)
        if near.size <= 2 * problem.k or np.array_equal(near, rows):
            break
        rows = near
    return np.array(found).reshape(-1, problem.k)


def _fits_without_extremes(problem: StartProblem, rows: NDArray[np.intp]) -> FloatArray | None:
    """Return the fit to all given rows, and fits without the rows extreme in a component.

    For each sensitivity component there are three fits: without the half of the rows with the
    smallest values of the component, without the half with the largest values, and without the
    half with the largest absolute values. The result is None if the rows do not determine the
    coefficients.
    """
    y, root_weight = problem.y[rows], np.sqrt(problem.weight[rows])
    A = problem.Z[rows]
    A *= root_weight[:, None]
    root, info = lapack.dpotrf(A.T @ A, lower=1, clean=1)
    if info:
        return None
    # The columns of Q are an orthonormal basis of the column space of A, the weighted features.
    Q = solve_triangular(root, A.T, lower=True, overwrite_b=True, check_finite=False).T
    del A
    residual = root_weight * y - Q @ (Q.T @ (root_weight * y))
    change = residual / (1.0 - np.minimum(np.einsum("ij,ij->i", Q, Q), MAX_LEVERAGE))
    components = Q @ eigh(Q.T @ (Q * (change * change)[:, None]))[1]
    components /= root_weight[:, None]
    del Q
    half = (len(rows) + 1) // 2
    fits = [problem.weighted_fits(_weights_of(problem, rows[None]))]
    size = max(1, BATCH_ELEMENTS // (3 * problem.m))
    for i in range(0, problem.k, size):
        part = components[:, i : i + size]
        order, by_size = (np.argsort(c, axis=0).T for c in (part, np.abs(part)))
        kept = [order[:, len(rows) - half :], order[:, :half], by_size[:, :half]]
        fits += [problem.weighted_fits(_weights_of(problem, rows[k])) for k in kept]
    return np.concatenate(fits)


def _weights_of(problem: StartProblem, subsets: NDArray[np.intp]) -> FloatArray:
    """Return, for each subset, the weights of all rows, which are zero outside the subset.

    Each row of `subsets` contains the indices of the rows in a subset.
    """
    weights = np.zeros((len(subsets), problem.m))
    np.put_along_axis(weights, subsets, problem.weight[subsets], axis=1)
    return weights


# Random starts ---------------------------------------------------------------------------


def _subset_fits(
    problem: StartProblem,
    halves: list[NDArray[np.intp]],
    n_subsamples: int,
    rng: np.random.Generator,
) -> Iterator[FloatArray]:
    """Yield arrays of exact fits to random subsets of k linearly independent rows."""
    outside = np.ones(problem.m, dtype=bool)
    if halves:
        outside[halves[0]] = False
    for group, first in enumerate(range(0, n_subsamples, SUBSET_GROUP)):
        n = min(SUBSET_GROUP, n_subsamples - first)
        # Sorting the rows by these random times is equivalent to drawing them without
        # replacement with probabilities proportional to their weights.
        times = rng.exponential(size=(n, problem.m)) / problem.weight
        if halves and group % 2:
            times[:, outside] += times.max()
        rows = independent_rows(problem.Z, times)
        # The rows of a subset are linearly independent, so the systems are nonsingular.
        size = max(1, BATCH_ELEMENTS // problem.k**2)
        for i in range(0, len(rows), size):
            part = rows[i : i + size]
            Z, y = problem.Z[part], problem.y[part]
            # The rows are divided by their norms because rows of very different norms would
            # make the systems ill-conditioned.
            length = np.linalg.norm(Z, axis=2)
            yield _solved(Z / length[:, :, None], y / length)


def independent_rows(Z: FloatArray, times: FloatArray) -> NDArray[np.intp]:
    """Return, for each row of `times`, the indices of the first k independent rows of Z.

    Each row of `times` has one random time per row of Z, and the rows of Z are taken in
    increasing order of these times. A row of `times` is left out of the result if Z has fewer
    than k linearly independent rows.
    """
    m, k = Z.shape
    found = np.full((len(times), k), -1)
    remaining = np.arange(len(times))
    for length in (k, SUBSET_ROWS_PER_COEFFICIENT * k, m):
        length = min(length, m)
        size = max(1, BATCH_ELEMENTS // (length * k))
        for i in range(0, remaining.size, size):
            part = remaining[i : i + size]
            found[part] = _pivot_rows(Z, _first_rows(times[part], length))
        remaining = np.flatnonzero(found[:, -1] < 0)
        if not remaining.size or length == m:
            break
    return found[found[:, -1] >= 0]


def _first_rows(times: FloatArray, length: int) -> NDArray[np.intp]:
    """Return the indices of the `length` smallest times in each row, in order of time."""
    if length < times.shape[1]:
        part = np.argpartition(times, length - 1, axis=1)[:, :length]
        return np.take_along_axis(
            part, np.argsort(np.take_along_axis(times, part, axis=1), axis=1), axis=1
        )
    return np.argsort(times, axis=1)


def _pivot_rows(Z: FloatArray, order: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return, for each row of `order`, the first k rows that are linearly independent.

    `order` and the result contain indices of rows of Z. If a row of `order` contains fewer than
    k linearly independent rows, the corresponding row of the result contains only −1.
    """
    k = Z.shape[1]
    A = Z[order]
    least = MIN_INDEPENDENT_PART * np.linalg.norm(A, axis=2)
    subsets = np.arange(len(order))
    pivots, complete = np.empty((len(order), k), dtype=np.intp), np.ones(len(order), dtype=bool)
    for j in range(k):
        size = np.linalg.norm(A, axis=2)
        independent = size > least
        first = independent.argmax(axis=1)
        complete &= independent[subsets, first]
        pivots[:, j] = order[subsets, first]
        length = size[subsets, first]
        q = A[subsets, first] / np.where(length > 0, length, 1.0)[:, None]
        A -= (A @ q[:, :, None]) * q[:, None, :]
    pivots[~complete] = -1
    return pivots
