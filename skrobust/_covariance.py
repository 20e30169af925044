"""Covariance matrices of the coefficients of a linearised fit.

All sandwich covariances are V = Σ δδᵀ with influences δ = A⁻¹u, where the matrix A and the
scores u are defined in `_linearised`. The kinds differ in the scores: HC0 and HC1 use the row
scores, HC2 and HC3 correct them for leverage, CR0 and CR1 sum them over clusters, and CR3
corrects these sums for the leverages of the clusters. HAC adds the products of each row's score
with the scores of preceding rows. If the scale is estimated, its score g is stacked below u:

    (δθ, δσ) = J⁻¹(u, g),   J = [[A, a], [bᵀ, e]]

Here a is the negative derivative of Σ u − S α̃ Dθ with respect to σ, and b and e are the
negative derivatives of Σ g with respect to θ and σ. In coordinates in which A is the identity,
δθ = u + a (bᵀu − g) / (e − bᵀa). This is a linear map T of the stacked score (u, g), and
therefore V = T (Σ (u, g)(u, g)ᵀ) Tᵀ.

References: Huber and Ronchetti, "Robust Statistics", 2009, section 7.6 (H1 to H3); White,
Econometrica 48, 1980 (HC0); MacKinnon and White, J. Econometrics 29, 1985 (HC1 to HC3); Liang
and Zeger, Biometrika 73, 1986 (CR0, CR1); MacKinnon, Nielsen and Webb, J. Econometrics 232,
2023 (CR3); Newey and West, Econometrica 55, 1987 (HAC).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, lapack

from ._engines.base import FloatArray
from ._linearised import MIN_REMAINING, LinearisedFit
from ._reductions import RowVector

HUBER_KINDS = ("H1", "H2", "H3")
ROW_KINDS = ("HC0", "HC1", "HC2", "HC3")
CLUSTER_KINDS = ("CR0", "CR1", "CR3")
KINDS = (*HUBER_KINDS, *ROW_KINDS, *CLUSTER_KINDS, "HAC")
# Power of 1/(1 − h) that multiplies the score of a row with leverage h.
LEVERAGE_POWER = {"HC2": 0.5, "HC3": 1.0}
# The scale is treated as fixed if (e − bᵀa) / e is less than this.
MIN_SCALE_PIVOT = 0.1
# The sum over clusters is computed as this number of partial sums.
CLUSTER_SUMS = 16


class Clusters(NamedTuple):
    """The cluster index of each row, the number of clusters, and the cluster labels."""

    code: NDArray[np.intp]
    n: int
    labels: Any = ()


class Covariance(NamedTuple):
    """The covariance matrix V of (b, v) in the coordinates of the linearised fit.

    `scale_kind` is "joint" if V includes the uncertainty of the scale, and "fixed" otherwise.
    `lost` contains the directions that are determined by a single row or cluster, and
    `lost_rows` the indices of the rows concerned. The leave-one-out residuals are None for
    kinds that do not use leverages.
    """

    V: FloatArray
    scale_kind: str
    lost: FloatArray
    lost_rows: NDArray[np.intp]
    left_out_residual: RowVector | None


class _ScaleScores(NamedTuple):
    """The terms g, a, b and e − bᵀa of the stacked equations, in whitened coordinates.

    `g` contains the scores of one copy of each row, and `pivot` is e − bᵀa.
    """

    g: RowVector
    a: FloatArray
    b: FloatArray
    pivot: float


def scale_scores(fit: LinearisedFit) -> _ScaleScores | None:
    """Return the terms of the stacked equations, or None if the scale is treated as fixed.

    An estimated scale is treated as fixed if the stacked equations are nearly singular.
    """
    if fit.loss.estimator is None:
        return None
    a, equation = fit.scale_slope(), fit.scale_equation()
    if equation is None:
        return None
    g, b, e = equation
    a, b = fit.root.T @ a, fit.root.T @ b
    pivot = e - float(b @ a)
    if not pivot >= MIN_SCALE_PIVOT * e:
        return None
    return _ScaleScores(fit.times_copy(g), a, b, pivot)


def covariance(
    fit: LinearisedFit,
    kind: str,
    joint: bool,
    clusters: Clusters | None = None,
    lags: int | None = None,
) -> Covariance:
    """Return the covariance matrix of the given kind.

    With `joint`, the matrix includes the uncertainty of an estimated scale.
    """
    if kind in HUBER_KINDS:
        V = fit.root @ _huber(fit, kind) @ fit.root.T
        return Covariance(V, "fixed", np.zeros((V.shape[0], 0)), np.zeros(0, np.intp), None)
    scale = scale_scores(fit) if joint else None
    if kind in ROW_KINDS:
        moments, lost, lost_rows, left_out = _row_moments(fit, kind, scale)
    elif kind == "HAC":
        moments, left_out = _hac_moments(fit, scale, lags), None
        lost, lost_rows = np.zeros((fit.n_variables, 0)), np.zeros(0, np.intp)
    else:
        assert clusters is not None
        moments, lost, lost_rows, left_out = _cluster_moments(fit, kind, scale, clusters)
    n, p = fit.n, fit.rank
    if kind in ("HC1", "HAC"):
        moments *= n / (n - p)
    T = _influence_map(fit, scale)
    V = fit.root @ (T @ moments @ T.T) @ fit.root.T
    return Covariance(
        V, "fixed" if scale is None else "joint", fit.root @ lost, lost_rows, left_out
    )


def _influence_map(fit: LinearisedFit, scale: _ScaleScores | None) -> FloatArray:
    """Return the matrix T that maps (u, g) to δθ, in whitened coordinates."""
    k = fit.n_variables
    if scale is None:
        return np.eye(k)
    direction = scale.a / scale.pivot
    return np.column_stack([np.eye(k) + np.outer(direction, scale.b), -direction])


# Huber's kinds ---------------------------------------------------------------------------


def _huber(fit: LinearisedFit, kind: str) -> FloatArray:
    """Return H1, H2 or H3 in whitened coordinates, with the weights rescaled to sum to n."""
    n, p = fit.n, fit.rank
    ones = np.ones_like(fit.residual)
    s = fit.times_weight(ones) * (n / fit.total)
    d = fit.psi_deriv
    m = float((s * d).sum()) / n
    K = 1.0 + p / n * (float((s * d**2).sum()) / n - m**2) / m**2
    v = float((s * fit.psi**2).sum()) / (n - p)
    G = fit.gram(s)
    if kind == "H1":
        bread = np.linalg.inv(G) / m
        H1: FloatArray = K**2 * v * bread @ _squared_gram(fit, s, G) @ bread
        return H1
    bread = np.linalg.inv(fit.gram(s * d))
    H2: FloatArray = K * v / m * bread
    H3: FloatArray = v / K * bread @ _squared_gram(fit, s, G) @ bread
    return H2 if kind == "H2" else H3


def _squared_gram(fit: LinearisedFit, s: RowVector, G: FloatArray) -> FloatArray:
    """Return Σ s² zzᵀ for importance weights, and G = Σ s zzᵀ for frequency weights."""
    return G if fit.weight_of_copy is None else fit.gram(s**2)


# Rows ------------------------------------------------------------------------------------


def _row_moments(
    fit: LinearisedFit, kind: str, scale: _ScaleScores | None
) -> tuple[FloatArray, FloatArray, NDArray[np.intp], RowVector | None]:
    """Return the moments Σ (u, g)(u, g)ᵀ over rows.

    Also return the directions that are determined by a single row, the indices of the rows
    concerned, and the leave-one-out residuals.
    """
    factor = fit.times_copy(fit.psi)
    lost_rows, left_out = np.zeros(0, np.intp), None
    power = LEVERAGE_POWER.get(kind)
    g = None if scale is None else scale.g
    if power is not None:
        left_out = fit.quadratic_form()
        remaining, lost_rows = fit.remaining_curvature(left_out)
        remaining[lost_rows] = np.inf
        left_out *= fit.psi
        left_out /= remaining
        left_out += fit.residual
        left_out[lost_rows] = np.inf
        remaining **= -power
        factor = np.multiply(factor, remaining, out=remaining)
        if g is not None:
            g[lost_rows] = 0.0
    moments = fit.gram(fit.times_copies(factor**2))
    if g is not None:
        cross = fit.root.T @ fit.sum_features(fit.times_copies(factor * g))
        moments = _stacked(moments, cross, float(fit.times_copies(g**2).sum()))
    lost = fit.root.T @ fit.engine.rows(lost_rows).T
    return moments, lost, lost_rows, left_out


def _stacked(moments: FloatArray, cross: FloatArray, square: float) -> FloatArray:
    return np.block([[moments, cross[:, None]], [cross[None, :], np.array([[square]])]])


# Clusters --------------------------------------------------------------------------------


class _ClusterSums(NamedTuple):
    """Σ (U, g)(U, g)ᵀ over some clusters, where (U, g) is the sum of the scores in a cluster.

    `lost` contains the directions that are determined by a single cluster, and `lost_rows` the
    rows of the clusters concerned.
    """

    moments: FloatArray
    lost: list[FloatArray]
    lost_rows: list[NDArray[np.intp]]


def _cluster_moments(
    fit: LinearisedFit, kind: str, scale: _ScaleScores | None, clusters: Clusters
) -> tuple[FloatArray, FloatArray, NDArray[np.intp], RowVector | None]:
    """Return the moments Σ (U, g)(U, g)ᵀ over clusters, computed in chunks of clusters.

    (U, g) is the sum of the scores (u, g) in a cluster. Also return the directions that are
    determined by a single cluster, the rows of the clusters concerned, and the leave-one-out
    residuals of CR3.
    """
    k, G = fit.n_variables, clusters.n
    g: FloatArray = np.zeros(G)
    if scale is not None:
        g += np.bincount(clusters.code, fit.times_copies(scale.g), minlength=G)
    left_out = fit.residual.copy() if kind == "CR3" else None
    factor = fit.times_weight(fit.psi)
    curvature = fit.times_weight(fit.psi_deriv) if kind == "CR3" else None
    chunks = _chunks_of_clusters(
        clusters, max(part.stop - part.start for part in fit.engine.blocks())
    )
    # With a fixed number of partial sums, the result does not depend on the number of threads.
    every = [_ClusterSums(np.zeros((k + 1, k + 1)), [], []) for _ in range(CLUSTER_SUMS)]

    def compute(first: int, step: int) -> None:
        for i in range(first, CLUSTER_SUMS, step):
            for numbers, rows in chunks[i::CLUSTER_SUMS]:
                part = _chunk_sums(fit, numbers, rows, factor, curvature, g, left_out)
                every[i].moments[:] += part.moments
                every[i].lost.extend(part.lost)
                every[i].lost_rows.extend(part.lost_rows)

    fit.engine.run(compute)
    moments = np.add.reduce([part.moments for part in every])
    if kind == "CR1":
        moments *= G / (G - 1) * (fit.n - 1) / (fit.n - fit.rank)
    elif kind == "CR3":
        moments *= (G - 1) / G
    if scale is None:
        moments = moments[:k, :k]
    lost = [directions for part in every for directions in part.lost]
    lost_rows = [rows for part in every for rows in part.lost_rows]
    directions = np.hstack([np.zeros((k, 0)), *lost])
    return moments, directions, np.concatenate([np.zeros(0, np.intp), *lost_rows]), left_out


def _chunks_of_clusters(
    clusters: Clusters, size: int
) -> list[tuple[NDArray[np.intp], list[NDArray[np.intp]]]]:
    """Divide the clusters into chunks of about `size` rows.

    For each chunk, return the indices of its clusters and a list of their row indices, with one
    array per cluster.
    """
    order = np.argsort(clusters.code, kind="stable")
    ends = np.cumsum(np.bincount(clusters.code, minlength=clusters.n))
    rows = np.split(order, ends[:-1])
    chunk_of = (ends - 1) // size
    first = np.flatnonzero(np.diff(chunk_of, prepend=-1))
    bounds = [*first.tolist(), clusters.n]
    return [(np.arange(a, b), rows[a:b]) for a, b in pairwise(bounds)]


def _chunk_sums(
    fit: LinearisedFit,
    numbers: NDArray[np.intp],
    rows: list[NDArray[np.intp]],
    factor: RowVector,
    curvature: RowVector | None,
    g: FloatArray,
    left_out: RowVector | None,
) -> _ClusterSums:
    """Return the _ClusterSums for one chunk of clusters.

    If the curvatures s d are given, the scores are corrected as in CR3, and the leave-one-out
    residuals are written to `left_out`.
    """
    every = np.concatenate(rows)
    starts = np.cumsum([0, *(part.size for part in rows)])
    Z = fit.engine.rows(every)
    U = np.add.reduceat(factor[every, None] * Z, starts[:-1], axis=0) @ fit.root
    lost: list[FloatArray] = []
    lost_rows: list[NDArray[np.intp]] = []
    scores_of_scale = g[numbers]
    if curvature is not None and left_out is not None:
        for i, part in enumerate(rows):
            Z_part = Z[starts[i] : starts[i + 1]]
            U[i], null = _without_cluster(fit, Z_part, curvature[part], U[i])
            left_out[part] += Z_part @ (fit.root @ U[i])
            if null.shape[1]:
                lost.append(null)
                lost_rows.append(part)
                scores_of_scale[i] = 0.0
                left_out[part] = np.inf
    stacked = np.column_stack([U, scores_of_scale])
    return _ClusterSums(stacked.T @ stacked, lost, lost_rows)


def _without_cluster(
    fit: LinearisedFit, Z: FloatArray, curvature: FloatArray, U: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return (I − QᵀQ)⁺U for Q = √(s d) ZL, and a basis of the null space of I − QᵀQ.

    Z contains the rows of one cluster, and U is the sum of their scores. I − QᵀQ is the
    curvature A without the terms of the cluster, in whitened coordinates. If the cluster has
    fewer rows than there are coefficients and no negative d, the smaller matrix QQᵀ is used,
    since (I − QᵀQ)⁻¹ = I + Qᵀ(I − QQᵀ)⁻¹Q. In QᵀQ, the terms of rows with negative d are
    subtracted.
    """
    is_negative = curvature < 0
    small = Z.shape[0] < fit.n_variables and not is_negative.any()
    Z = np.sqrt(np.abs(curvature))[:, None] * Z
    Q = Z @ fit.root if small else np.zeros((0, 0))
    if small:
        product = Q @ Q.T
    else:
        signed = np.where(is_negative[:, None], -Z, Z) if is_negative.any() else Z
        product = fit.root.T @ (Z.T @ signed) @ fit.root
    L, info = lapack.dpotrf(np.eye(product.shape[0]) - product, lower=1)
    if not info and L.diagonal().min() ** 2 > MIN_REMAINING:
        if small:
            return U + Q.T @ lapack.dpotrs(L, Q @ U, lower=1)[0], np.zeros((U.size, 0))
        return lapack.dpotrs(L, U, lower=1)[0], np.zeros((U.size, 0))
    share, V = eigh(product)
    alone = 1.0 - share < MIN_REMAINING
    kept, remaining = V[:, ~alone], 1.0 - share[~alone]
    if not small:
        return kept @ ((kept.T @ U) / remaining), V[:, alone]
    null = Q.T @ V[:, alone]
    U = U + Q.T @ (kept @ ((kept.T @ (Q @ U)) / remaining))
    return U - null @ (null.T @ U), null


# Time ------------------------------------------------------------------------------------


def default_lags(n: float) -> int:
    """Return the number of lags ⌊4 (n/100)^(2/9)⌋ proposed by Newey and West.

    Reference: Review of Economic Studies 61, 1994.
    """
    return int(4.0 * (n / 100.0) ** (2.0 / 9.0))


def _hac_moments(
    fit: LinearisedFit, scale: _ScaleScores | None, lags: int | None
) -> FloatArray:
    """Return Γ₀ + Σ_l (1 − l/(L+1)) (Γ_l + Γ_lᵀ), computed in blocks of rows.

    Γ_l is the sum over all rows of the outer product of the score (u, g) of a row and that of
    the row l places before it; L is the number of lags.
    """
    n_lags = default_lags(fit.n) if lags is None else lags
    k = fit.n_variables + (scale is not None)
    moments, before = np.zeros((k, k)), np.zeros((0, k))
    factor = fit.times_weight(fit.psi)
    for part in fit.engine.blocks():
        scores = factor[part, None] * (fit.engine.rows(part) @ fit.root)
        if scale is not None:
            scores = np.column_stack([scores, scale.g[part]])
        both = np.vstack([before, scores])
        n_before = before.shape[0]
        moments += scores.T @ scores
        for lag in range(1, min(n_lags, both.shape[0] - 1) + 1):
            later = both[max(lag, n_before) :]
            earlier = both[max(lag, n_before) - lag : both.shape[0] - lag]
            product = (1.0 - lag / (n_lags + 1.0)) * (later.T @ earlier)
            moments += product + product.T
        before = both[-n_lags:] if n_lags else before
    return moments


# Degrees of freedom ----------------------------------------------------------------------


def bell_mccaffrey(fit: LinearisedFit) -> FloatArray:
    """Return the degrees of freedom of each coefficient with HC2 (Bell and McCaffrey, 2002).

    Let a be the row of A⁻¹ for a coefficient. The degrees of freedom of the coefficient are
    (Σ w(1 − h̃))² / (Σ w²(1 − 2h̃) + tr N²), where h̃ are the least-squares leverages,
    w = (zᵀa)² / (1 − h̃) and N = Zᵀ diag(w) Z (ZᵀZ)⁻¹.
    """
    engine = fit.engine
    copies = fit.times_copies(np.ones(engine.n))
    G = np.linalg.inv(fit.gram(copies))
    h = engine.squared_norms(fit.root @ np.linalg.cholesky(G))
    remaining = np.maximum(1.0 - h, MIN_REMAINING)
    df = np.empty(engine.p + 1)
    size = np.abs(fit.to_data).max(axis=1)
    # Each row of A⁻¹ may be rescaled, because this does not change the degrees of freedom.
    for j, row in enumerate(fit.to_data / np.where(size > 0, size, 1.0)[:, None]):
        if not size[j] or fit.inestimable[j]:
            df[j] = np.nan
            continue
        w = engine.squared_norms((fit.root @ (fit.root.T @ row))[:, None]) / remaining
        N = fit.gram(copies * w) @ G
        sum_of_squares = float((copies * w**2 * (1.0 - 2.0 * h)).sum()) + float((N * N.T).sum())
        with np.errstate(invalid="ignore", divide="ignore"):
            df[j] = float((copies * w * remaining).sum()) ** 2 / sum_of_squares
    return df
