"""Row diagnostics of a fit: residuals, weights, leverages and influences."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import _safe_indexing

from ._engines.base import FloatArray
from ._engines.threads import ThreadTeam, single_threaded_blas
from ._fitted_data import FittedData, fitted_data
from ._lazy_data import require_in_memory
from ._linearised import LinearisedFit
from ._model.loss import HUBER, Loss
from ._model.scale import mad
from ._unwrap import column, unwrap

if TYPE_CHECKING:
    import pandas

# Columns of the table, which are also attributes of ObservationTable.
COLUMNS = (
    "fitted",
    "residual",
    "standardized_residual",
    "weight",
    "leverage",
    "leave_one_out_residual",
    "cooks_distance",
    "outlier",
)
# Maximum number of rows in a printed table.
TEXT_ROWS = 10


def observation_table(
    estimator: Any, X: Any, y: Any, *, sample_weight: Any = None, target: int | None = None
) -> ObservationTable:
    r"""Return the residual, weight, leverage and influence of each row of a fit.

    With :math:`z = (1, x)`, residuals :math:`r_i`, sample weights :math:`s_i`,
    :math:`c_i = \psi(r_i)`, :math:`d_i = \psi'(r_i)` and
    :math:`A = \sum_i s_i d_i z_i z_i^\top` (plus the curvature of the penalty, if any), the
    leverage is

    .. math:: h_i = d_i q_i, \qquad q_i = s_i z_i^\top A^{-1} z_i.

    One Newton step after deleting row i changes the coefficients by :math:`-\delta_i`, which
    gives the leave-one-out residual and Cook's distance [1]_:

    .. math::

        \delta_i = \frac{s_i c_i A^{-1} z_i}{1 - h_i}, \qquad
        r_{(-i)} = r_i + \frac{c_i q_i}{1 - h_i}, \qquad
        D_i = \frac{\delta_i^\top V^{-1} \delta_i}{p}
            = \frac{m}{p v} \, \frac{s_i c_i^2 q_i}{(1 - h_i)^2}

    where p is the rank, :math:`V = v A^{-1} / m` is Huber's covariance,
    :math:`m = \sum_i s_i d_i / \sum_i s_i` and :math:`v = \sum_i s_i c_i^2 / (n - p)`. For a
    large threshold these quantities equal the least-squares diagnostics of R's ``plot(lm)`` and
    statsmodels' ``OLSInfluence``. A row whose absolute residual exceeds the threshold has
    leverage 0. Its influence is bounded in y, but grows with its distance in X from the other
    rows. With the bisquare of an :class:`~skrobust.MMRegressor`, such a row has no influence,
    and other rows with large residuals have negative leverages.

    Parameters
    ----------
    estimator : fitted estimator
        A :class:`~skrobust.SmoothL1Regressor`, :class:`~skrobust.SmoothL1RegressorCV` or
        :class:`~skrobust.MMRegressor`, or a pipeline, hyperparameter search or
        :class:`~sklearn.compose.TransformedTargetRegressor` that contains one of them. If the
        target is transformed, all values are in the units of the transformed target.

    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Training features.

    y : array-like of shape (n_samples,) or (n_samples, n_targets)
        Training targets.

    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights that were passed to ``fit``. Rows of weight zero have zero leverage and a
        Cook's distance of zero.

    target : int, default=None
        Index of the target; required if there are several targets.

    Returns
    -------
    table : ObservationTable
        Table with one entry per row of X; ``table.frame`` is a pandas DataFrame.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.

    TypeError
        If the estimator neither is nor contains a SmoothL1Regressor, SmoothL1RegressorCV or
        MMRegressor.

    ValueError
        If the data differ from the training data, if there are too few rows for the number of
        coefficients, if `target` is missing or out of range, or if the estimated scale is only
        rounding error because at least half of the rows are fitted exactly.

    Warns
    -----
    ConvergenceWarning
        If the fit stopped before it converged.

    See Also
    --------
    skrobust.displays.InfluenceDisplay : Plot of the leverages and leave-one-out residuals of
        this table.
    skrobust.displays.QQDisplay : Normal quantile plot of the residuals.

    Notes
    -----
    A row that alone determines a coefficient has leverage 1, an infinite leave-one-out residual
    and an infinite Cook's distance. If few residuals are within a small threshold,
    :math:`\psi'` is estimated from a wider window, as in :func:`coefficient_table`. With the
    bisquare, leverages above 0.99 are reduced to 0.99 in the Newton step.

    References
    ----------
    .. [1] R. D. Cook, "Detection of influential observation in linear regression",
           Technometrics 19, 1977.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skrobust import SmoothL1Regressor
    >>> from skrobust.inference import observation_table
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> table = observation_table(SmoothL1Regressor().fit(X, y), X, y)
    >>> table.frame[["weight", "leverage", "cooks_distance"]].round(3).head(2)
       weight  leverage  cooks_distance
    0     1.0     0.022           0.003
    1     1.0     0.024           0.000
    >>> int(table.outlier.sum())
    71
    """
    require_in_memory("observation_table", "inference", X=X, y=y, sample_weight=sample_weight)
    with single_threaded_blas(), ThreadTeam() as team:
        data = fitted_data(
            estimator, X, y, sample_weight, frequency=False, target=target, team=team
        )
        if data.fit.scale_is_rounding():
            raise ValueError(
                "Leverages and influences cannot be computed: the estimated scale is only "
                "rounding error, since at least half of the rows are fitted exactly. The "
                "attributes weights_ and outliers_ of the estimator are valid for such a fit."
            )
        rows = _Rows.of(data.fit)
    if data.positive is not None:
        absent = np.setdiff1d(np.arange(data.n_rows), data.positive)
        others = _Rows.without_weight(
            data,
            *_prediction(
                estimator, _safe_indexing(X, absent), _safe_indexing(y, absent), target
            ),
        )
        order = np.argsort(np.concatenate([data.positive, absent]), kind="stable")
        rows = _Rows(
            *[np.concatenate(parts)[order] for parts in zip(rows, others, strict=True)]
        )
    return _table(data, rows, X.index if hasattr(X, "iloc") else range(data.n_rows))


def _prediction(
    estimator: Any, X: Any, y: Any, target: int | None
) -> tuple[FloatArray, FloatArray]:
    """Return fitted values and residuals of rows, in the units of the regressor's target."""
    given = unwrap(estimator, X, y, target)
    fitted = column(given.regressor.predict(given.X), target, "predict(X)")
    return fitted, given.y - fitted


class _Rows(NamedTuple):
    """Vectors with one entry per row, in the units of the regressor's target.

    `potential` is the leverage that a row would have if its residual were zero, `left_out` is
    the leave-one-out residual, and `cook` is Cook's distance.
    """

    fitted: FloatArray
    residual: FloatArray
    potential: FloatArray
    leverage: FloatArray
    left_out: FloatArray
    cook: FloatArray

    @classmethod
    def of(cls, fit: LinearisedFit) -> _Rows:
        unit, zeros = fit.units.unit, np.zeros(fit.engine.n)
        minus_fitted, _ = fit.engine.loss_gradient(fit.coef, zeros, None, HUBER, np.inf)
        q = fit.quadratic_form()
        h = fit.psi_deriv * q
        remaining, alone = fit.remaining_curvature(q)
        remaining[alone] = np.nan
        # If the residual of row i were zero, d_i would be `slope`, also in the matrix A.
        potential = fit.slope * q / (1.0 + (fit.slope - fit.psi_deriv) * q)
        change = q / remaining
        change *= fit.psi
        cook = fit.times_weight(change * fit.psi) / remaining
        cook *= cook_factor(fit)
        change += fit.residual
        cook[alone] = change[alone] = np.inf
        shift = fit.units.shift
        fitted = shift - unit * minus_fitted
        return cls(fitted, unit * fit.residual, potential, h, unit * change, cook)

    @classmethod
    def without_weight(
        cls, data: FittedData, fitted: FloatArray, residual: FloatArray
    ) -> _Rows:
        zeros = np.zeros(residual.size)
        return cls(fitted, residual, zeros, zeros, residual, zeros)


def cook_factor(fit: LinearisedFit) -> float:
    """Return m/(p v), the factor of s c² q/(1 − h)² in Cook's distance; NaN if all c are 0.

    The symbols are those of `observation_table`.
    """
    m: float = fit.times_weight(fit.psi_deriv).sum() / fit.total
    v: float = fit.times_weight(fit.psi**2).sum() / (fit.n - fit.rank)
    return m / (fit.rank * v) if fit.rank * v > 0 else np.nan


def _table(data: FittedData, rows: _Rows, index: Any) -> ObservationTable:
    fit = data.fit
    unit, beta = fit.units.unit, fit.loss.beta
    if fit.loss.estimator is None:
        scale = unit * mad(fit.residual, fit.weight)
    else:
        scale = fit.loss.scale
    weight = fit.loss.rho.weights(rows.residual, beta)
    with np.errstate(divide="ignore", invalid="ignore"):
        # The scale is zero if most residuals are zero.
        standardized = rows.residual / scale
    mean_weight = fit.total / fit.n
    return ObservationTable(
        fitted=rows.fitted,
        residual=rows.residual,
        standardized_residual=standardized,
        weight=weight,
        leverage=rows.leverage,
        leave_one_out_residual=rows.left_out,
        cooks_distance=rows.cook,
        outlier=np.abs(rows.residual) > data.description.outlier_end,
        index=index,
        title=data.title(),
        beta=beta,
        scale=scale,
        _potential=rows.potential,
        _cook_factor=mean_weight * cook_factor(fit) / unit**2,
        _psi_deriv=fit.slope,
        _rho=fit.loss.rho,
        _target_name=data.target_name,
    )


@dataclass(frozen=True, eq=False, repr=False)
class ObservationTable:
    """Residual, weight, leverage and influence of each row of a fit.

    The table is returned by :func:`observation_table`, which documents the formulas.

    Attributes
    ----------
    fitted, residual : ndarray of shape (n_samples,)
        Fitted values, and y minus the fitted values.

    standardized_residual : ndarray of shape (n_samples,)
        Residuals divided by `scale`.

    weight : ndarray of shape (n_samples,)
        Robustness weights ψ(r)/r in [0, 1].

    leverage : ndarray of shape (n_samples,)
        Leverages h. A row whose residual is beyond the threshold has leverage 0, unless ψ′ is
        estimated from a wider window (see :func:`observation_table`). The leverages are between
        0 and 1, except for an MMRegressor.

    leave_one_out_residual : ndarray of shape (n_samples,)
        Residual of each row in a fit without that row, approximated by one Newton step.

    cooks_distance : ndarray of shape (n_samples,)
        Cook's distance of each row, computed from one Newton step.

    outlier : ndarray of bool of shape (n_samples,)
        True for rows whose absolute residual exceeds the threshold. Such rows are downweighted
        but not necessarily erroneous: with the default threshold, 18 % of the rows in clean
        data with normal errors are outliers in this sense. For an MMRegressor the array equals
        the attribute `outliers_`.

    index : pandas.Index or range
        Labels of the rows.

    title : str
        Description of the fit: the first line of the printed table.

    beta, scale : float
        Threshold and scale of the residuals. The scale is the estimated scale of the fit or,
        with a fixed threshold, the normalised MAD of the residuals.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust import SmoothL1Regressor
    >>> from skrobust.inference import observation_table
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(50, 2))
    >>> y = X @ [3.0, 1.0] + rng.normal(size=50)
    >>> y[7] += 30
    >>> table = observation_table(SmoothL1Regressor().fit(X, y), X, y)
    >>> int(np.argmin(table.weight))
    7
    """

    fitted: FloatArray
    residual: FloatArray
    standardized_residual: FloatArray
    weight: FloatArray
    leverage: FloatArray
    leave_one_out_residual: FloatArray
    cooks_distance: FloatArray
    outlier: NDArray[np.bool_]
    index: Any
    title: str
    beta: float
    scale: float
    _potential: FloatArray = field(repr=False)
    _cook_factor: float = field(repr=False)
    _psi_deriv: float = field(repr=False)
    _rho: Loss = field(repr=False)
    _target_name: str | None = field(repr=False)

    @property
    def frame(self) -> pandas.DataFrame:
        """The table as a pandas DataFrame, indexed by the labels of the rows."""
        import pandas

        columns = {name: getattr(self, name) for name in COLUMNS}
        return pandas.DataFrame(columns, index=self.index)

    def __len__(self) -> int:
        return len(self.residual)

    def __str__(self) -> str:
        header, *rows = self._cells()
        widths = [max(map(len, cells)) for cells in zip(header, *rows, strict=True)]
        lines = [
            "  ".join(cell.rjust(k) for cell, k in zip(row, widths, strict=True)).rstrip()
            for row in (header, *rows)
        ]
        return "\n".join([self.title, *lines, self._footer()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        header, *rows = self._cells()
        head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
        body = "".join(
            f"<tr><th>{escape(label)}</th>"
            + "".join(f"<td style='text-align: right'>{escape(cell)}</td>" for cell in cells)
            + "</tr>"
            for label, *cells in rows
        )
        return (
            f"<table><caption style='text-align: left'>{escape(self.title)}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
            f"<p>{escape(self._footer())}</p>"
        )

    def _footer(self) -> str:
        shown = min(TEXT_ROWS, len(self))
        return f"The {shown} of {len(self):,} rows with the largest Cook's distance; see frame."

    def _cells(self) -> list[list[str]]:
        """Return the header and the rows of the printed table, as strings."""
        rows = np.argsort(-self.cooks_distance, kind="stable")[:TEXT_ROWS]
        columns = [["", *(str(self.index[row]) for row in rows)]]
        for name in COLUMNS[:-1]:
            columns.append([name, *_formatted(getattr(self, name)[rows])])
        columns.append(["outlier", *("yes" if self.outlier[row] else "" for row in rows)])
        return [list(cells) for cells in zip(*columns, strict=True)]


def _formatted(values: FloatArray) -> list[str]:
    """Format all numbers with the same number of decimal places.

    The median absolute value is shown with four significant digits.
    """
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    digits = int(np.floor(np.log10(np.median(sizes)))) if sizes.size else 0
    if not -4 <= digits <= 9:
        return [f"{value:.3e}" for value in values]
    return [f"{value:.{max(3 - digits, 0)}f}" for value in values]
