"""The result of a solver."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from .._engines.base import FloatArray
from .._model.linear_loss import Evaluation


class Status(Enum):
    """The reason why a minimisation ended; the values are the messages in `history_`."""

    GRADIENT_WITHIN_TOL = "gradient within tol"
    GRADIENT_WITHIN_ROUNDING = "gradient within rounding"
    OBJECTIVE_WITHIN_ROUNDING = "objective within rounding"
    STALLED = "no further descent"
    MAX_ITER = "max_iter reached"
    SCALE_NOT_CONVERGED = "the scale did not converge"

    @property
    def converged(self) -> bool:
        return self in _CONVERGED

    @property
    def within_rounding(self) -> bool:
        return self in _WITHIN_ROUNDING


_WITHIN_ROUNDING = {Status.GRADIENT_WITHIN_ROUNDING, Status.OBJECTIVE_WITHIN_ROUNDING}
_CONVERGED = {Status.GRADIENT_WITHIN_TOL, *_WITHIN_ROUNDING}


class NewtonStep(NamedTuple):
    """A Newton step −H⁻¹g for the gradient g and the Hessian H.

    `decrement` is the function g ↦ gᵀH⁻¹g / 2, the predicted decrease of the objective.
    `n_iter` is the number of iterations as which the step is counted. `damped` is True if a
    multiple of the identity matrix was added to H.
    """

    direction: FloatArray
    n_iter: int
    decrement: Callable[[FloatArray], float]
    damped: bool = False


class Solution(NamedTuple):
    """The result of a minimisation, converged or not.

    `newton_step` is the last Newton step, or None if it is unknown. `passes` maps each
    algorithm that ran to its number of passes over X.
    """

    point: Evaluation
    n_iter: int
    status: Status
    newton_step: NewtonStep | None
    passes: dict[str, int]

    @property
    def converged(self) -> bool:
        return self.status.converged


def add_passes(total: dict[str, int], more: dict[str, int]) -> None:
    """Add each algorithm's number of passes in `more` to `total`, in place."""
    for name, n in more.items():
        total[name] = total.get(name, 0) + n
