"""The compiled loops; this is the only module that imports Numba.

All kernels for X perform the same kind of pass over the rows. A pass writes the residuals r and
returns, for each block of rows, the sums

    Σ s_i ψ_i x̃_i,    Σ s_i ψ_i,    Σ s_i ρ_i,    Σ s_i ψ_i²

where x̃_i = x_i − μ is a centred row, r_i = y_i − b − x̃_i·w is its residual, s_i is its weight,
and ρ_i and ψ_i are the loss and its derivative at r_i. The loss is a scalar function,
(r, threshold) ↦ (ρ, ψ), which is compiled into the loops on first use.

With the Huber loss and an infinite threshold, a pass computes the least-squares gradient. If y
and b are also 0, and rows with residuals beyond the threshold of the fit are given weight 0,
the first sum is a Hessian-vector product up to sign. If instead b and w are 0 and the weights
are 1, the first sum is X̃ᵀy. The division into blocks depends only on the shape of X, and the
sums of the blocks are added in order. The results are therefore bit-for-bit identical for any
number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from .compile import compile_once

# The flags allow LLVM to vectorise a sum, but not to assume that NaN and infinity are absent.
_FASTMATH = {"reassoc", "contract", "arcp", "nsz"}
# Number of bytes by which prefetching runs ahead of the computation. With 100 features, a pass
# takes 0.6 to 1.0 times as long as without prefetching; the gain increases with memory speed.
# An X smaller than PREFETCH_MIN_X_BYTES resides in a cache. Prefetching saves no time for rows
# shorter than PREFETCH_MIN_ROW_BYTES or longer than PREFETCH_MAX_ROW_BYTES.
PREFETCH_BYTES, PREFETCH_MIN_X_BYTES = 8_192, 4_000_000
PREFETCH_MIN_ROW_BYTES, PREFETCH_MAX_ROW_BYTES = 128, 2_048
_CACHE_LINE_BYTES = 64
# Rows of at most this many bytes are processed four at a time, which takes 0.7 to 1.05 times as
# long as two at a time. For longer rows, four at a time takes up to 1.3 times as long.
FOUR_ROWS_MAX_BYTES = 400

RhoPsi = Callable[[float, float], tuple[float, float]]


def _jit(function: Callable[..., Any], *arguments: Any) -> Any:
    """Compile a function for one signature; no call with other types compiles it again."""
    compiler = numba.njit(
        types.void(*arguments), nogil=True, fastmath=_FASTMATH, error_model="numpy"
    )
    return compiler(function)


def _array(dtype: Any, ndim: int, layout: Any = "C") -> Any:
    # A function that declares a read-only array also accepts a writable array, but not vice
    # versa. Arrays passed by pandas and joblib may be read-only.
    return types.Array(dtype, ndim, layout, readonly=True)


def _common_signature() -> tuple[Any, ...]:
    vector = _array(types.float64, 1)
    out = types.Array(types.float64, 1, "C"), types.Array(types.float64, 2, "C")
    integers = types.intp, types.intp, types.intp
    return (vector, types.float64, vector, vector, types.float64, *out, *integers)


def dense_pass(rho_psi: RhoPsi, X: Any, layout: str, centred: bool) -> Any:
    """Return the pass for a loss and a dense array with the dtype of X and the given layout.

    The layout is "C", "F" or "A" (any strides). The pass reads as many rows as there are
    residuals and as many columns as there are coefficients; X may have more rows or columns.
    `centred` tells whether μ is subtracted; if not, the compiler removes the code that uses μ.
    """
    together = 4 if X.shape[1] * X.itemsize <= FOUR_ROWS_MAX_BYTES else 2
    return _dense_pass(rho_psi, X.dtype, layout, centred, None if layout == "F" else together)


@compile_once
def _dense_pass(
    rho_psi: RhoPsi, dtype: Any, layout: str, centred: bool, together: int | None
) -> Any:
    function = _columns_pass(rho_psi) if together is None else _rows_pass(rho_psi, together)
    X = _array(numba.from_dtype(dtype), 2, layout)
    centre = _array(types.float64, 1) if centred else types.none
    return _jit(function, X, centre, *_common_signature())


@compile_once
def sparse_pass(rho_psi: RhoPsi, dtype: Any, index_dtype: Any) -> Any:
    """Return the pass for a loss and a CSR X of the given dtypes, which does not subtract μ."""
    index = _array(numba.from_dtype(index_dtype), 1)
    data = _array(numba.from_dtype(dtype), 1)
    return _jit(_sparse_pass(rho_psi), data, index, index, *_common_signature())


def _fetch_line(typing_context: Any, address: Any) -> Any:
    """Prefetch a cache line with an LLVM instruction that Numba does not expose."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer, integer = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, integer, integer, integer])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
        # Prefetch for reading (0), into all levels (3) of the data cache (1).
        mode = integer(0), integer(3), integer(1)
        builder.call(prefetch, [builder.inttoptr(arguments[0], pointer), *mode])
        return context.get_dummy_value()

    return types.void(types.intp), generate


_fetch: Callable[..., Any] = intrinsic(_fetch_line)


def _prefetch(address: int) -> None:
    """Prefetch the cache line at an address; without compilation, do nothing."""


@overload(_prefetch)
def _compiled_prefetch(address):
    return lambda address: _fetch(address)


def _compiled_loss(rho_psi: RhoPsi) -> Any:
    return numba.njit(fastmath=_FASTMATH, error_model="numpy")(rho_psi)


def _row_function(rho_psi: RhoPsi) -> Any:
    """Return the function that stores r_i and returns s_i ρ_i, ψ_i and s_i ψ_i."""
    loss = _compiled_loss(rho_psi)

    def row(i, fitted, b, y, weight, stride, threshold, residual):
        r = y[i] - b - fitted
        residual[i] = r
        rho, psi = loss(r, threshold)
        s = weight[i * stride]
        return s * rho, psi, s * psi

    return numba.njit(fastmath=_FASTMATH, error_model="numpy")(row)


def _rows_pass(rho_psi: RhoPsi, together: int) -> Callable[..., None]:
    """Return the pass over a dense X that processes `together` (two or four) rows at a time."""
    row = _row_function(rho_psi)

    def rows_pass(X, centre, w, b, y, weight, threshold, residual, sums, first, step, size):
        """Process the blocks with indices first, first + step, …"""
        n, p = residual.shape[0], w.shape[0]
        common = b, y, weight, 1 if weight.shape[0] == n else 0, threshold, residual
        width, length = X.strides[0], p * X.itemsize
        contiguous = X.strides[1] == X.itemsize
        if (
            n * length < PREFETCH_MIN_X_BYTES
            or not PREFETCH_MIN_ROW_BYTES <= length <= PREFETCH_MAX_ROW_BYTES
            or not contiguous
        ):
            length = 0
        ahead = X.ctypes.data + PREFETCH_BYTES // max(length, 1) * width
        for k in range(first, sums.shape[0], step):
            grad = sums[k]
            grad[:] = 0.0
            total = 0.0
            value = 0.0
            square = 0.0
            stop = min(n, (k + 1) * size)
            i = k * size
            while i + together <= stop:
                for line in range(
                    ahead + i * width, ahead + i * width + length, _CACHE_LINE_BYTES
                ):
                    _prefetch(line)
                    _prefetch(line + width)
                    if together == 4:
                        _prefetch(line + 2 * width)
                        _prefetch(line + 3 * width)
                a0 = a1 = a2 = a3 = 0.0
                for j in range(p):
                    m = 0.0 if centre is None else centre[j]
                    wj = w[j]
                    a0 += (X[i, j] - m) * wj
                    a1 += (X[i + 1, j] - m) * wj
                    if together == 4:
                        a2 += (X[i + 2, j] - m) * wj
                        a3 += (X[i + 3, j] - m) * wj
                v0, psi0, d0 = row(i, a0, *common)
                v1, psi1, d1 = row(i + 1, a1, *common)
                total += d0 + d1
                value += v0 + v1
                square += d0 * psi0 + d1 * psi1
                d2 = d3 = 0.0
                if together == 4:
                    v2, psi2, d2 = row(i + 2, a2, *common)
                    v3, psi3, d3 = row(i + 3, a3, *common)
                    total += d2 + d3
                    value += v2 + v3
                    square += d2 * psi2 + d3 * psi3
                for j in range(p):
                    m = 0.0 if centre is None else centre[j]
                    part = d0 * (X[i, j] - m) + d1 * (X[i + 1, j] - m)
                    if together == 4:
                        part += d2 * (X[i + 2, j] - m) + d3 * (X[i + 3, j] - m)
                    grad[j] += part
                i += together
            while i < stop:
                a0 = 0.0
                for j in range(p):
                    m = 0.0 if centre is None else centre[j]
                    a0 += (X[i, j] - m) * w[j]
                v0, psi0, d0 = row(i, a0, *common)
                total += d0
                value += v0
                square += d0 * psi0
                for j in range(p):
                    m = 0.0 if centre is None else centre[j]
                    grad[j] += d0 * (X[i, j] - m)
                i += 1
            grad[p] = total
            grad[p + 1] = value
            grad[p + 2] = square

    return rows_pass


def _columns_pass(rho_psi: RhoPsi) -> Callable[..., None]:
    """Return the pass for a dense X stored column by column."""
    loss = _compiled_loss(rho_psi)

    def columns_pass(X, centre, w, b, y, weight, threshold, residual, sums, first, step, size):
        """Process blocks with indices first, first + step, …; each should fit in the cache."""
        n, p = residual.shape[0], w.shape[0]
        stride = 1 if weight.shape[0] == n else 0
        for k in range(first, sums.shape[0], step):
            grad = sums[k]
            start = k * size
            stop = min(n, start + size)
            r = residual[start:stop]
            for i in range(stop - start):
                r[i] = y[start + i] - b
            # Columns are processed four at a time, since one at a time takes 1.2 to 1.6 times
            # as long. The last group may repeat the last column with a coefficient of zero,
            # which is harmless: if that column is not finite, r and the sums are not finite in
            # any case.
            for j in range(0, p, 4):
                j1, j2, j3 = min(j + 1, p - 1), min(j + 2, p - 1), min(j + 3, p - 1)
                x0, x1 = X[start:stop, j], X[start:stop, j1]
                x2, x3 = X[start:stop, j2], X[start:stop, j3]
                w0 = w[j]
                w1 = w[j1] if j1 > j else 0.0
                w2 = w[j2] if j2 > j1 else 0.0
                w3 = w[j3] if j3 > j2 else 0.0
                m0 = m1 = m2 = m3 = 0.0
                if centre is not None:
                    m0, m1, m2, m3 = centre[j], centre[j1], centre[j2], centre[j3]
                for i in range(stop - start):
                    a = (x0[i] - m0) * w0 + (x1[i] - m1) * w1
                    r[i] -= a + (x2[i] - m2) * w2 + (x3[i] - m3) * w3
            total = 0.0
            value = 0.0
            square = 0.0
            d = np.empty(stop - start)
            for i in range(stop - start):
                rho, psi = loss(r[i], threshold)
                s = weight[(start + i) * stride]
                di = s * psi
                d[i] = di
                total += di
                value += s * rho
                square += di * psi
            for j in range(0, p, 4):
                j1, j2, j3 = min(j + 1, p - 1), min(j + 2, p - 1), min(j + 3, p - 1)
                x0, x1 = X[start:stop, j], X[start:stop, j1]
                x2, x3 = X[start:stop, j2], X[start:stop, j3]
                m0 = m1 = m2 = m3 = 0.0
                if centre is not None:
                    m0, m1, m2, m3 = centre[j], centre[j1], centre[j2], centre[j3]
                g0 = g1 = g2 = g3 = 0.0
                for i in range(stop - start):
                    di = d[i]
                    g0 += di * (x0[i] - m0)
                    g1 += di * (x1[i] - m1)
                    g2 += di * (x2[i] - m2)
                    g3 += di * (x3[i] - m3)
                grad[j], grad[j1], grad[j2], grad[j3] = g0, g1, g2, g3
            grad[p] = total
            grad[p + 1] = value
            grad[p + 2] = square

    return columns_pass


def _sparse_pass(rho_psi: RhoPsi) -> Callable[..., None]:
    """Return the pass for a CSR X. The caller corrects b and the gradient for μ."""
    row = _row_function(rho_psi)

    def sparse_pass(
        data, indices, indptr, w, b, y, weight, threshold, residual, sums, first, step, size
    ):
        """Process the blocks with indices first, first + step, …"""
        n = residual.shape[0]
        p = w.shape[0]
        common = b, y, weight, 1 if weight.shape[0] == n else 0, threshold, residual
        for k in range(first, sums.shape[0], step):
            grad = sums[k]
            grad[:] = 0.0
            total = 0.0
            value = 0.0
            square = 0.0
            for i in range(k * size, min(n, (k + 1) * size)):
                a = 0.0
                for t in range(indptr[i], indptr[i + 1]):
                    a += data[t] * w[indices[t]]
                v, psi, d = row(i, a, *common)
                total += d
                value += v
                square += d * psi
                if d != 0.0:
                    for t in range(indptr[i], indptr[i + 1]):
                        grad[indices[t]] += d * data[t]
            grad[p] = total
            grad[p + 1] = value
            grad[p + 2] = square

    return sparse_pass


@compile_once
def coordinate_descent() -> Any:
    """Return `_coordinate_descent`, compiled."""
    matrix = types.Array(types.float64, 2, "C")
    vector, writable = _array(types.float64, 1), types.Array(types.float64, 1, "C")
    return _jit(
        _coordinate_descent,
        matrix,
        writable,
        writable,
        vector,
        vector,
        types.intp,
        types.float64,
    )


def _coordinate_descent(H, q, x, slope, lower, n_cycles, tol):
    """Minimise ½ xᵀHx − gᵀx + Σ_j slope_j |x_j| subject to x ≥ lower by coordinate descent.

    x and q = g − Hx are updated in place. Zero coordinates with a positive slope are visited
    only in every fifth cycle and in the cycle that confirms convergence.
    """
    k = x.shape[0]
    every = True
    for cycle in range(n_cycles):
        largest = 0.0
        for j in range(k):
            h = H[j, j]
            old = x[j]
            if h <= 0.0 or (not every and old == 0.0 and slope[j] > 0.0):
                continue
            t = q[j] + h * old
            size = abs(t) - slope[j]
            new = 0.0
            if size > 0.0:
                new = size / h if t > 0.0 else -size / h
            new = max(new, lower[j])
            change = new - old
            if change != 0.0:
                x[j] = new
                for i in range(k):
                    q[i] -= change * H[j, i]
                largest = max(largest, abs(change) * np.sqrt(h))
        if largest <= tol:
            if every:
                return
            every = True
        else:
            every = cycle % 5 == 4
