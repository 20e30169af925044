"""Conversion of fit results to the fitted attributes of an estimator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ._fit import StageResult
from ._model.scale import Concomitant
from ._spec import FitSpec


def documented_objective(result: StageResult, spec: FitSpec) -> tuple[float, float]:
    """Return the objective as the estimator defines it, and its estimated suboptimality."""
    value, factor = result.value, 1.0
    if isinstance(spec.scale, Concomitant):
        epsilon = spec.scale.factor
        value += 0.5 * result.scale / epsilon
        factor = epsilon if spec.loss == "huber" else 1.0
    elif spec.loss == "huber":
        factor = result.beta
    return factor * value, factor * result.suboptimality


def relative_suboptimality(result: StageResult, spec: FitSpec) -> float:
    """Return the estimated suboptimality divided by the objective, capped at 1."""
    value, above = documented_objective(result, spec)
    return min(above / value, 1.0) if value else 0.0


def fitted_attributes(
    results: Sequence[Sequence[StageResult]], spec: FitSpec, one_target: bool, dtype: Any
) -> dict[str, Any]:
    """Return the fitted attributes, given the stage results of each target.

    Raise a ValueError if the coefficients are too large for the dtype of X.
    """
    last = [stages[-1] for stages in results]
    values: dict[str, list[Any]] = {
        "intercept_": [result.intercept for result in last],
        "beta_": [result.beta for result in last],
        "scale_": [result.scale for result in last],
        "n_iter_": [max(1, sum(stage.n_iter for stage in stages)) for stages in results],
        "objective_": [documented_objective(result, spec)[0] for result in last],
        "optimality_": [relative_suboptimality(result, spec) for result in last],
    }
    with np.errstate(over="ignore"):
        coef = np.array([result.coef for result in last]).astype(dtype)
    if not np.isfinite(coef).all():
        raise ValueError(
            f"coef_ has values too large for {dtype}; rescale X or y, or pass X as float64."
        )
    attributes: dict[str, Any] = {
        name: value[0] if one_target else np.array(value) for name, value in values.items()
    }
    attributes["coef_"] = coef[0] if one_target else coef
    # In a fit to blocks of rows, the `n_rounds` of a result counts the rounds since the start
    # of the fit, whereas the history contains the number of rounds in each stage.
    stages_done = [stage.n_rounds for stages in results for stage in stages]
    rounds = iter(np.diff([0, *stages_done]).tolist())
    attributes["history_"] = [
        {
            "target": j,
            "beta": stage.beta,
            "scale": stage.scale,
            "n_iter": stage.n_iter,
            "n_eval": stage.n_eval,
            "objective": documented_objective(stage, spec)[0],
            "gradient_norm": stage.relative_gradient,
            "message": stage.message,
            "algorithms": stage.algorithms,
            "n_active": int(np.count_nonzero(stage.coef)),
        }
        | ({"n_rounds": next(rounds)} if stages_done[-1] else {})
        for j, stages in enumerate(results)
        for stage in stages
    ]
    return attributes
