"""The engine for a small dense X, which uses NumPy and compiles nothing."""

from __future__ import annotations

from typing import Self

import numpy as np

from .base import CompiledLoss, FloatArray, RowVector
from .dense import DenseEngine

# Maximum number of elements of X for this engine. Up to this size, two
# matrix-vector products take no longer than one pass of the compiled kernel, and Numba need not
# be imported.
SMALL_MAX_ELEMENTS = 20_000


class SmallEngine(DenseEngine):
    """A small dense X, whose standardised rows are stored."""

    def with_standardisation(self, centre: FloatArray, scale: FloatArray) -> Self:
        engine = super().with_standardisation(centre, scale)
        if engine._standardised is None:
            engine._standardised = engine.rows(slice(None))
        return engine

    def loss_gradient(
        self,
        coef: FloatArray,
        y: RowVector,
        weight: RowVector | None,
        loss: CompiledLoss,
        threshold: float,
        out: RowVector | None = None,
    ) -> tuple[RowVector, FloatArray]:
        self._passes[0] += 1
        Z = self.rows(slice(None)) if self._standardised is None else self._standardised
        residual = np.subtract(y, Z @ coef, out=out)
        rho, psi = loss.rho_and_psi(residual, threshold)
        weighted_psi = psi if weight is None else weight * psi
        sums = np.empty(self.p + 3)
        np.matmul(weighted_psi, Z, out=sums[:-2])
        sums[-2] = rho.sum() if weight is None else weight @ rho
        sums[-1] = weighted_psi @ psi
        return residual, sums

    def row_combination(self, c: RowVector, loss: CompiledLoss) -> FloatArray:
        self._passes[0] += 1
        Z = self.rows(slice(None)) if self._standardised is None else self._standardised
        sums: FloatArray = c @ Z
        return sums
