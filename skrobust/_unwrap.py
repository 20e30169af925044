"""What displays read off a fitted estimator, whatever it is wrapped in, and off its data."""

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.validation import check_is_fitted


def _inside(estimator):
    """The estimator inside a pipeline, a transformed target or a search; else None."""
    if isinstance(estimator, Pipeline):
        return estimator.steps[-1][1]
    if isinstance(estimator, TransformedTargetRegressor):
        return estimator.regressor_
    return getattr(estimator, "best_estimator_", None)


def innermost(estimator):
    """The regressor at the heart of a fitted estimator."""
    check_is_fitted(estimator)
    while (inside := _inside(estimator)) is not None:
        estimator = inside
    return estimator


def holder(estimator, attribute, advice):
    """The outermost estimator that has an attribute, from `estimator` inwards."""
    check_is_fitted(estimator)
    found = estimator
    while found is not None and not hasattr(found, attribute):
        found = _inside(found)
    if found is None:
        raise ValueError(f"{type(estimator).__name__} has no {attribute}: {advice}")
    return found


@dataclass(frozen=True)
class Seen:
    """A regressor and the data as it sees them, behind the transformers around it."""

    regressor: Any
    X: Any
    y: Any
    target_name: str | None
    feature_names: list[str] | None


def seen(estimator, X, y, target=None):
    """The innermost regressor of a fitted estimator, with X and one target in its units.

    Behind a TransformedTargetRegressor y is transformed, since β, coefficients and the
    residuals that they came from are in those units.
    """
    check_is_fitted(estimator)
    check_consistent_length(X, y)
    name, names = target_name_of(y, target), columns_of(X)
    y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
    outside, regressor = None, estimator
    while regressor is not None:
        outside, regressor = regressor, _inside(regressor)
        if isinstance(outside, Pipeline):
            for _, step in outside.steps[:-1]:
                if step is not None and step != "passthrough":
                    X = step.transform(X)
                    names = _names_out(step, names)
        elif isinstance(outside, TransformedTargetRegressor):
            y = outside.transformer_.transform(y.reshape(len(y), -1))
            function = getattr(outside.func, "__name__", "")
            named = function.isidentifier()  # a lambda is not
            name = f"{function}({name or 'y'})" if named else f"transformed {name or 'y'}"
    return Seen(outside, X, column(y, target, "y"), name, names)


def column(values, target, name):
    """One target of `values` as a float64 vector."""
    values = check_array(values, ensure_2d=False, dtype=np.float64, input_name=name)
    return values.reshape(len(values), -1)[:, _index(values.shape[1:], target, name)]


def of_target(values, target):
    """The value of one target of a fitted attribute such as `beta_`."""
    return np.ravel(values)[target or 0]


def _index(shape, target, name):
    n_targets = shape[0] if shape else 1
    if target is None and n_targets > 1:
        raise ValueError(
            f"{name} has {n_targets} targets; say which one to show with target=0 to "
            f"target={n_targets - 1}."
        )
    check_target(target, n_targets)
    return target or 0


def check_target(target, n_targets):
    """Raise a ValueError unless `target` is None or the index of a target."""
    if target is not None and (
        not isinstance(target, Integral) or not 0 <= int(target) < n_targets
    ):
        raise ValueError(
            "target must be an integer from 0 to below the number of targets, "
            f"{n_targets}; got {target!r}."
        )


def target_name_of(y, target):
    """The name of a Series or of a column of a frame; None without one."""
    name = getattr(y, "name", None)
    columns = columns_of(y)
    if columns is not None and (len(columns) == 1 or isinstance(target, Integral)):
        name = columns[min(target or 0, len(columns) - 1)]
    return None if name is None or name == "" else str(name)


def columns_of(X):
    """The names of a frame's columns; None for arrays."""
    columns = getattr(X, "columns", None)
    return None if columns is None else [str(c) for c in columns]


def _names_out(step, names):
    """The names of the features that a transformer makes, where it says so."""
    try:
        return [str(name) for name in step.get_feature_names_out(names)]
    except AttributeError:  # a transformer, or one inside it, has no such method
        return None
