"""FitSpec: the objective and the tolerance specified by the parameters of an estimator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._model.scale import AUTO_CONCOMITANT, AUTO_MAD, Concomitant, Mad, ScaleEstimator
from .losses import as_float
from .schedules import check_schedule

FloatArray = NDArray[np.float64]
Schedule = Callable[[float], NDArray[np.float64]] | Sequence[float] | NDArray[np.float64] | None


class FitSpec(NamedTuple):
    """The objective, the tolerance and the maximum number of iterations of a fit.

    The threshold is `beta`, in units of y, if `scale` is None. Otherwise the threshold is a
    multiple of the estimated scale, and `beta` is NaN. The penalty is added to the Huber loss
    divided by β if `alpha_per_threshold` is True, and to the Huber loss otherwise. `loss` names
    the loss of the reported objective.
    """

    beta: float
    scale: ScaleEstimator | None
    alpha: float
    alpha_per_threshold: bool
    loss: str
    schedule: Schedule
    tol: float
    max_iter: int
    l1_ratio: float = 0.0
    positive: bool = False
    penalty_weights: FloatArray | None = None

    @property
    def is_composite(self) -> bool:
        """Whether the objective has an L1 penalty or bounds on the coefficients."""
        return self.positive or (self.alpha > 0 and self.l1_ratio > 0)

    def with_penalty_weights(self, weights: FloatArray | None) -> FitSpec:
        """Return the spec with the given, validated penalty weights.

        Infinite penalty weights are replaced by zero, because the fit excludes the features
        that have them.
        """
        if weights is None:
            return self
        finite = np.where(np.isfinite(weights), weights, 0.0)
        return self._replace(penalty_weights=None if (finite == 1.0).all() else finite)


def fit_spec(model: Any) -> FitSpec:
    """Check that the parameters of an estimator are compatible, and return its FitSpec."""
    beta = model.beta
    if beta != "auto":
        as_float("beta", beta)
        if beta == 0:
            raise ValueError(
                f"beta must be positive, got {beta!r}. For least absolute deviations use a "
                "beta far below the absolute residuals, such as beta=1e-6 with scale='mad'."
            )
    alpha, tol = as_float("alpha", model.alpha), as_float("tol", model.tol)
    per_threshold = model.loss == "smooth_l1"
    scale: ScaleEstimator | None = None
    if model.scale == "concomitant":
        if beta != "auto" and beta <= 1:
            raise ValueError(
                f"beta must be above 1 with scale='concomitant', got {beta!r}: the estimated "
                "scale would be 0. Use scale='mad' for a smaller threshold."
            )
        scale = Concomitant(AUTO_CONCOMITANT if beta == "auto" else float(beta))
        if not per_threshold:
            # With the concomitant scale, the objective for loss="huber" is ε times the
            # objective for loss="smooth_l1" with β = εσ and the penalty α/ε.
            alpha, per_threshold = alpha / scale.factor, True
    elif model.scale == "mad" or beta == "auto":
        scale = Mad(AUTO_MAD if beta == "auto" else float(beta))
    return FitSpec(
        beta=float(beta) if scale is None else np.nan,
        scale=scale,
        alpha=alpha,
        alpha_per_threshold=per_threshold,
        loss=model.loss,
        schedule=check_schedule(getattr(model, "beta_schedule", None)),
        tol=tol,
        max_iter=int(model.max_iter),
        l1_ratio=float(model.l1_ratio),
        positive=bool(model.positive),
    )
