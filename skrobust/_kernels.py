"""The compiled loops, and the only file that imports Numba.

One pass over the rows of X serves every purpose. With the centred row x̃_i = x_i − μ, the
residual r_i = y_i − b − x̃_i·w and the clipped residual c_i = clip(r_i, −β, β), the Huber
loss and its derivative are polynomials in r and c, without a branch:

    h_β(r) = c (r − c/2)        h_β'(r) = c

so a pass returns, for each block of rows,

    Σ s_i c_i x̃_i,    Σ s_i c_i,    Σ s_i c_i (r_i − c_i/2),    Σ s_i c_i²

and writes r. With β = inf the loss is least squares (c = r); with y = 0 and weights that
are zero outside the threshold the first sum is a Hessian-vector product; with w = 0 it is
X̃ᵀy. Blocks are fixed by the shape alone and summed in their order, so that the bits do not
depend on the number of threads.
"""

from collections.abc import Callable

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload, register_jitable

from ._once import once

# What lets LLVM vectorise a sum without declaring that NaN and inf do not occur.
_FASTMATH = {"reassoc", "contract", "arcp", "nsz"}
# Rows are fetched so many bytes ahead: at 100 features a pass takes .6 to 1.0 of the time, the
# less the faster the memory is. An X of fewer bytes is in a cache; shorter and longer rows
# gain nothing.
_AHEAD, _LARGE, _SHORT, _LONG = 8_192, 4_000_000, 128, 2_048
_CACHE_LINE = 64
# Rows of at most so many bytes are taken four at a time, which takes .7 to 1.05 of the time of
# two; with longer ones up to 1.3.
_NARROW = 400


def _jit(function, *arguments):
    """Compile for one signature, so that no other type can cause a second compilation."""
    compiler = numba.njit(
        types.void(*arguments), nogil=True, fastmath=_FASTMATH, error_model="numpy"
    )
    return compiler(function)


def _array(dtype, ndim, layout="C"):
    # A writable array may be passed where a read-only one is declared, not conversely:
    # pandas and joblib hand out read-only arrays, which would be compiled for anew.
    return types.Array(dtype, ndim, layout, readonly=True)


def _sweep_tail():
    vector = _array(types.float64, 1)
    out = types.Array(types.float64, 1, "C"), types.Array(types.float64, 2, "C")
    integers = types.intp, types.intp, types.intp
    return (vector, types.float64, vector, vector, types.float64, *out, *integers)


def dense_pass(X, layout, centred):
    """The pass for a dense X of this dtype and layout ("C", "F" or "A", any strides).

    `centred` says whether there is a μ. None in its place is known to the compiler, which
    leaves out what is done with it.
    """
    together = 4 if X.shape[1] * X.itemsize <= _NARROW else 2
    return _dense_pass(X.dtype, layout, centred, None if layout == "F" else together)


@once
def _dense_pass(dtype, layout, centred, together):
    function = _columns_pass if together is None else _rows_pass(together)
    X = _array(numba.from_dtype(dtype), 2, layout)
    return _jit(
        function, X, _array(types.float64, 1) if centred else types.none, *_sweep_tail()
    )


@once
def sparse_pass(dtype, index_dtype):
    """The pass for a CSR X with data and indices of these dtypes; it cannot centre."""
    index = _array(numba.from_dtype(index_dtype), 1)
    data = _array(numba.from_dtype(dtype), 1)
    return _jit(_sparse_pass, data, index, index, *_sweep_tail())


def _fetch_line(typing_context, address):
    """LLVM's prefetch of a cache line, for which Numba has no name."""

    def generate(context, builder, signature, arguments):
        pointer, integer = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, integer, integer, integer])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
        # To read, to be kept in all caches, data.
        how = integer(0), integer(3), integer(1)
        builder.call(prefetch, [builder.inttoptr(arguments[0], pointer), *how])
        return context.get_dummy_value()

    return types.void(types.intp), generate


_fetch: Callable = intrinsic(_fetch_line)


def _prefetch(address):
    """Ask for the cache line at an address; where nothing is compiled, nothing."""


@overload(_prefetch)
def _compiled_prefetch(address):
    return lambda address: _fetch(address)


@register_jitable
def _clipped(i, fitted, b, y, weight, stride, beta, residual):
    """r_i, which is kept, c_i, and s_i c_i."""
    r = y[i] - b - fitted
    residual[i] = r
    c = min(max(r, -beta), beta)
    return r, c, c * weight[i * stride]


def _rows_pass(together):
    """For a dense X that lies row by row, of which two or four rows are taken together."""

    def rows_pass(X, centre, w, b, y, weight, beta, residual, sums, first, step, size):
        """Blocks first, first + step, …"""
        n, p = X.shape
        rest = b, y, weight, 1 if weight.shape[0] == n else 0, beta, residual
        width, length = X.strides[0], p * X.itemsize
        contiguous = X.strides[1] == X.itemsize
        if n * length < _LARGE or not _SHORT <= length <= _LONG or not contiguous:
            length = 0
        ahead = X.ctypes.data + _AHEAD // max(length, 1) * width
        for k in range(first, sums.shape[0], step):
            grad = sums[k]
            grad[:] = 0.0
            total = 0.0
            value = 0.0
            square = 0.0
            stop = min(n, (k + 1) * size)
            i = k * size
            while i + together <= stop:
                for line in range(ahead + i * width, ahead + i * width + length, _CACHE_LINE):
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
                r0, c0, d0 = _clipped(i, a0, *rest)
                r1, c1, d1 = _clipped(i + 1, a1, *rest)
                total += d0 + d1
                value += d0 * (r0 - 0.5 * c0) + d1 * (r1 - 0.5 * c1)
                square += d0 * c0 + d1 * c1
                d2 = d3 = 0.0
                if together == 4:
                    r2, c2, d2 = _clipped(i + 2, a2, *rest)
                    r3, c3, d3 = _clipped(i + 3, a3, *rest)
                    total += d2 + d3
                    value += d2 * (r2 - 0.5 * c2) + d3 * (r3 - 0.5 * c3)
                    square += d2 * c2 + d3 * c3
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
                r0, c0, d0 = _clipped(i, a0, *rest)
                total += d0
                value += d0 * (r0 - 0.5 * c0)
                square += d0 * c0
                for j in range(p):
                    m = 0.0 if centre is None else centre[j]
                    grad[j] += d0 * (X[i, j] - m)
                i += 1
            grad[p] = total
            grad[p + 1] = value
            grad[p + 2] = square

    return rows_pass


def _columns_pass(X, centre, w, b, y, weight, beta, residual, sums, first, step, size):
    """The same for a dense X that lies column by column; a block should fit in cache."""
    n, p = X.shape
    stride = 1 if weight.shape[0] == n else 0
    for k in range(first, sums.shape[0], step):
        grad = sums[k]
        start = k * size
        stop = min(n, start + size)
        r = residual[start:stop]
        for i in range(stop - start):
            r[i] = y[start + i] - b
        # Four columns at a time, or else it takes 1.2 to 1.6 times as long. The last ones may
        # be the same column again, with a coefficient of zero (if x is finite: else r is no
        # number, which shows in the sums as well).
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
            ri = r[i]
            c = min(max(ri, -beta), beta)
            di = c * weight[(start + i) * stride]
            d[i] = di
            total += di
            value += di * (ri - 0.5 * c)
            square += di * c
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


def _sparse_pass(
    data, indices, indptr, w, b, y, weight, beta, residual, sums, first, step, size
):
    """The same for CSR, uncentred: the caller corrects b and the gradient for μ."""
    n = residual.shape[0]
    p = w.shape[0]
    rest = b, y, weight, 1 if weight.shape[0] == n else 0, beta, residual
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
            r, c, d = _clipped(i, a, *rest)
            total += d
            value += d * (r - 0.5 * c)
            square += d * c
            if d != 0.0:
                for t in range(indptr[i], indptr[i + 1]):
                    grad[indices[t]] += d * data[t]
        grad[p] = total
        grad[p + 1] = value
        grad[p + 2] = square
