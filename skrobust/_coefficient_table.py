"""The result of `skrobust.inference.coefficient_table`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import chi2, norm
from scipy.stats import f as f_distribution
from scipy.stats import t as t_distribution
from sklearn.utils.validation import validate_data

from ._engines.base import FloatArray
from ._lazy_data import require_in_memory

if TYPE_CHECKING:
    import pandas

# The printed table shows all coefficients if there are at most TEXT_MAX_ROWS of them, and
# otherwise the first and last TEXT_END_ROWS.
TEXT_MAX_ROWS, TEXT_END_ROWS = 40, 20
# Number of rows of X standardised at a time.
PREDICT_BLOCK_ROWS = 4_096
# A linear combination of the coefficients has no standard error if, relative to its norm, its
# component outside the row space is at least ESTIMABLE_TOL or its component along undetermined
# directions is at least COMPONENT_TOL.
ESTIMABLE_TOL, COMPONENT_TOL = 1e-7, 1e-7
# Bound on the relative rounding error of a sum of weights and of (n + 1) · level.
ROUNDING = 1e-12


class WaldTest(NamedTuple):
    """Statistic, p-value and degrees of freedom of a Wald test.

    Parameters
    ----------
    statistic : float
        F statistic: the Wald statistic divided by the number of restrictions.

    p_value : float
        Probability of a larger statistic under the null hypothesis.

    df_num, df_denom : float
        Numerator and denominator degrees of freedom of the F distribution; `df_denom` is inf if
        the table uses the normal distribution.

    Examples
    --------
    >>> from skrobust.inference import WaldTest
    >>> WaldTest(4.0, 0.02, 2, 97.0).p_value
    0.02
    """

    statistic: float
    p_value: float
    df_num: int
    df_denom: float


class Standardised(NamedTuple):
    """The fit in terms of standardised features, used to avoid cancellation in variances.

    (b, v) are the intercept and the coefficients of the standardised features z. Predictions
    are `offset` + Z (b, v), where Z has the rows (1, z). The covariance of (b, v) is
    `unit`² `V`, and the matrix `to_data` converts (b, v) to the coefficients of the table. The
    columns of `basis` form an orthonormal basis of the row space, and those of `undetermined`
    an orthonormal basis of the directions without a standard error. `replicates` contains
    (b, v) for each bootstrap replicate, and is None for other kinds of covariance.
    """

    centre: FloatArray
    scale: FloatArray
    V: FloatArray | None
    unit: float
    to_data: FloatArray
    basis: FloatArray
    undetermined: FloatArray
    offset: float
    replicates: FloatArray | None

    def rows(self, X: Any) -> FloatArray:
        dense = X.toarray() if sparse.issparse(X) else np.asarray(X)
        Z = np.ones((dense.shape[0], self.scale.size + 1))
        Z[:, 1:] = (dense - self.centre) / self.scale
        return Z

    def is_determined(self, combinations: FloatArray) -> NDArray[np.bool_]:
        """Return a mask of the linear combinations of (b, v) that have a standard error.

        `combinations` has one linear combination per row.
        """
        length = np.linalg.norm(combinations, axis=1, keepdims=True)
        unit = np.divide(
            combinations, length, out=np.zeros_like(combinations), where=length > 0
        )
        inside = unit @ self.basis
        outside = np.linalg.norm(unit - inside @ self.basis.T, axis=1)
        along = np.linalg.norm(unit @ self.undetermined, axis=1)
        determined: NDArray[np.bool_] = (outside < ESTIMABLE_TOL) & (along < COMPONENT_TOL)
        return determined


class LeftOut(NamedTuple):
    """Leave-one-out residuals in increasing order, and the cumulative weights of their rows.

    `cumulated_weight` is None if all weights are 1.
    """

    residual: FloatArray
    cumulated_weight: FloatArray | None

    @classmethod
    def of(cls, residual: FloatArray, weight: FloatArray | None) -> LeftOut:
        if weight is None:
            return cls(np.sort(residual), None)
        order = np.argsort(residual)
        return cls(residual[order], np.cumsum(weight[order]))

    def quantiles(self, n: int, level: float, symmetric: bool) -> tuple[float, float]:
        """Return the ends of an interval that contains a new residual with probability `level`.

        `n` is the number of observations. If `symmetric` is True, the ends are ± the `level`
        quantile of the absolute residuals. Otherwise the upper end is the (1 + `level`)/2
        quantile of the residuals, and the lower end is minus the same quantile of the negated
        residuals. The q-quantile is the smallest residual for which the residuals up to and
        including it have at least the fraction q · (n + 1)/n of the total weight; without
        weights, it is the ⌈(n + 1) · q⌉-th smallest residual.
        """
        share = level if symmetric else (1.0 + level) / 2.0
        # The factor 1 − ROUNDING allows for rounding errors in `share` and in sums of weights.
        wanted = (n + 1.0) * share * (1.0 - ROUNDING)
        if wanted > n:
            needed = int(np.ceil(share / (1.0 - share) * (1.0 - ROUNDING)))
            raise ValueError(
                f"a level of {100 * level:g} % needs at least {needed} rows, got {n}."
            )
        residual, cumulated = self
        if cumulated is None:
            cumulated = np.arange(1.0, residual.size + 1.0)
        weight, fraction = np.diff(cumulated, prepend=0.0), wanted / n
        if symmetric:
            size = np.abs(residual)
            order = np.argsort(size, kind="stable")
            reach = _quantile(size[order], weight[order], fraction)
            return -reach, reach
        return (
            -_quantile(-residual[::-1], weight[::-1], fraction),
            _quantile(residual, weight, fraction),
        )


def _quantile(values: FloatArray, weight: FloatArray, fraction: float) -> float:
    """Return a weighted quantile of `values`, which must be in increasing order."""
    cumulated = np.cumsum(weight)
    return float(values[np.searchsorted(cumulated, fraction * cumulated[-1])])


@dataclass(frozen=True, eq=False, repr=False)
class CoefficientTable:
    """Coefficients with standard errors, tests and confidence intervals.

    The table is returned by :func:`coefficient_table`. The only values that it stores for
    individual rows are the leave-one-out residuals and their weights. In the shapes below, p
    counts all coefficients, including the intercept and those without a standard error.

    Attributes
    ----------
    names : list of str
        "intercept" if the model has an intercept, followed by the names of the features on
        which the regressor was fitted. If a feature is named "intercept", the intercept is
        named "(intercept)", with more parentheses if necessary.

    coef, std_err, statistic, p_value : ndarray of shape (p,)
        Coefficients, their standard errors, the ratios of the two, and two-sided p-values; NaN
        for coefficients that the data do not determine.

    covariance : ndarray of shape (p, p) or None
        Covariance matrix of the coefficients; None for the bootstrap. Each entry has the units
        of y² divided by the units of its two features.

    df : float or ndarray of shape (p,)
        Degrees of freedom of the t distribution; inf for the normal distribution.

    kind : str
        Kind of covariance, such as "HC3".

    scale : {"joint", "fixed"}
        "joint" if the standard errors include the uncertainty of the scale, otherwise "fixed".

    n_samples : int
        Number of rows with positive weight or, with frequency weights, their sum.

    n_groups : int or None
        Number of groups; None if the rows are not grouped.

    rank : int or float
        Rank of the design matrix, including the intercept; with a penalty, the effective number
        of coefficients. Unless the rows are grouped, the default degrees of freedom are
        `n_samples` minus `rank`.

    feature_scale : ndarray of shape (p,)
        Weighted standard deviations of the features; 0 for the intercept.

    replicates : ndarray of shape (n_resamples, p) or None
        Coefficients of the bootstrap replicates; None for other kinds of covariance.

    title, footer : str
        First and last lines of the printed table: a description of the fit, and the assumptions
        of the confidence intervals.

    penalized : bool
        Whether the fit is penalised. If so, tests are not available.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust import SmoothL1Regressor
    >>> from skrobust.inference import coefficient_table
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2))
    >>> y = X @ [3.0, 0.0] + rng.standard_t(3, size=200)
    >>> table = coefficient_table(SmoothL1Regressor().fit(X, y), X, y)
    >>> table.conf_int().round(1)
    array([[-0.2,  0.2],
           [ 2.8,  3.1],
           [-0.2,  0.2]])
    """

    names: list[str]
    coef: FloatArray
    std_err: FloatArray
    covariance: FloatArray | None
    df: float | FloatArray
    kind: str
    scale: str
    n_samples: int
    n_groups: int | None
    rank: float
    feature_scale: FloatArray
    replicates: FloatArray | None
    title: str
    footer: str
    penalized: bool = False
    # All coefficients of the fit, including those that are NaN in `coef`, because `wald_test`
    # can test estimable combinations of them.
    _fitted_coef: FloatArray = field(default_factory=lambda: np.zeros(0), repr=False)
    _fit_intercept: bool = field(default=True, repr=False)
    _standardised: Standardised | None = field(default=None, repr=False)
    _left_out: LeftOut | None = field(default=None, repr=False)
    _regressor: Any = field(default=None, repr=False)
    _transformers: tuple[Any, ...] = field(default=(), repr=False)
    _target: int = field(default=0, repr=False)

    # Coefficients ------------------------------------------------------------------------

    @property
    def statistic(self) -> FloatArray:
        """Coefficients divided by their standard errors; NaN for a penalised fit."""
        if self.penalized:
            return np.full(self.coef.shape, np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            statistic: FloatArray = self.coef / self.std_err
            return statistic

    @property
    def p_value(self) -> FloatArray:
        """Two-sided p-values of the coefficients; NaN for a penalised fit."""
        if self.replicates is not None and not self.penalized:
            kept = self._kept_replicates()
            below, above = (kept <= 0).sum(axis=0), (kept >= 0).sum(axis=0)
            p = np.minimum(2.0 * (1.0 + np.minimum(below, above)) / (kept.shape[0] + 1.0), 1.0)
        else:
            p = 2.0 * self._distribution.sf(np.abs(self.statistic))
        p_value: FloatArray = np.where(np.isnan(self.std_err), np.nan, p)
        return p_value

    @property
    def frame(self) -> pandas.DataFrame:
        """The table as a pandas DataFrame, with 95 % confidence intervals."""
        import pandas

        lower, upper = self.conf_int().T
        columns = {
            "coef": self.coef,
            "std_err": self.std_err,
            "t": self.statistic,
            "p_value": self.p_value,
            "lower": lower,
            "upper": upper,
        }
        return pandas.DataFrame(columns, index=self.names)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def _distribution(self) -> Any:
        """The reference distribution of the statistics, which is normal if df is infinite."""
        return norm if np.ndim(self.df) == 0 and np.isinf(self.df) else t_distribution(self.df)

    def _kept_replicates(self) -> FloatArray:
        """Return the replicates that did not fail."""
        assert self.replicates is not None
        kept: FloatArray = self.replicates[~np.isnan(self.replicates).all(axis=1)]
        return kept

    def conf_int(self, level: float = 0.95) -> FloatArray:
        """Return confidence intervals for the coefficients.

        Parameters
        ----------
        level : float, default=0.95
            Confidence level, between 0 and 1.

        Returns
        -------
        intervals : ndarray of shape (p, 2)
            Lower and upper limits, in the units of the coefficients.

        Raises
        ------
        ValueError
            If `level` is not between 0 and 1.
        """
        check_level(level)
        if self.replicates is not None:
            ends = [(1.0 - level) / 2.0, (1.0 + level) / 2.0]
            intervals = np.quantile(self._kept_replicates(), ends, axis=0).T
            intervals[np.isnan(self.std_err)] = np.nan
            percentiles: FloatArray = intervals
            return percentiles
        reach = self._distribution.ppf((1.0 + level) / 2.0) * self.std_err
        return np.column_stack([self.coef - reach, self.coef + reach])

    # Tests -------------------------------------------------------------------------------

    def wald_test(
        self,
        features: Sequence[str] | None = None,
        *,
        R: Any = None,
        values: Any = 0.0,
    ) -> WaldTest:
        r"""Test q linear restrictions Rθ = v on the coefficients θ.

        .. math:: F = (Rθ - v)^\top (R V R^\top)^{-1} (Rθ - v) / q

        where V is the covariance matrix of the coefficients. The statistic is compared with the
        F(q, df) distribution, or with χ²(q)/q if df is infinite.

        Parameters
        ----------
        features : list of str, default=None
            Names of the coefficients to compare with `values`.

        R : array-like of shape (q, p), default=None
            Restriction matrix, of full row rank. Exactly one of `features` and `R` must be
            given.

        values : float or array-like of shape (q,), default=0.0
            The values v of the null hypothesis Rθ = v.

        Returns
        -------
        test : WaldTest
            Named tuple (statistic, p_value, df_num, df_denom).

        Raises
        ------
        ValueError
            If a parameter is invalid, if the data do not determine the tested combinations of
            coefficients, if the fit is penalised, or if the kind of covariance is "bootstrap".
        """
        if self.penalized:
            raise ValueError(
                "wald_test cannot be used: the coefficients are penalized (alpha > 0), so "
                "their estimates are biased."
            )
        if self.replicates is not None:
            raise ValueError(
                "wald_test cannot be used with covariance='bootstrap', which gives no "
                "covariance matrix; use covariance='HC3'."
            )
        R = self._restrictions(features, R)
        q = R.shape[0]
        difference = R @ self._fitted_coef - _checked_values(values, q)
        df = self._test_df(R)
        assert self._standardised is not None
        assert self._standardised.V is not None
        combinations = R @ self._standardised.to_data
        absent = ~self._standardised.to_data.any(axis=1)
        if R[:, absent].any() or not self._standardised.is_determined(combinations).all():
            raise ValueError(
                "wald_test cannot be used because the data do not determine the tested "
                "combinations of coefficients. Drop linearly dependent columns or test "
                "estimable combinations."
            )
        if self.n_groups is not None and q > self.n_groups - 1:
            return WaldTest(np.nan, np.nan, q, df)
        RVR = combinations @ self._standardised.V @ combinations.T
        unit = 1.0 / np.sqrt(np.diagonal(RVR))
        correlation = RVR * unit * unit[:, None]
        z = unit * (difference / self._standardised.unit)
        F = float(z @ np.linalg.solve(correlation, z)) / q
        p = chi2.sf(q * F, q) if np.isinf(df) else f_distribution.sf(F, q, df)
        return WaldTest(F, float(p), q, df)

    def _restrictions(self, features: Sequence[str] | None, R: Any) -> FloatArray:
        if (features is None) == (R is None):
            given = "neither" if R is None else "both"
            raise ValueError(f"exactly one of features and R must be given, got {given}.")
        p = len(self)
        if features is not None:
            features = [features] if isinstance(features, str) else list(features)
            unknown = [name for name in features if name not in self.names]
            if unknown or not features:
                raise ValueError(
                    f"features must be one or more of the names {self.names}, got {features}."
                )
            repeated = [name for name in features if self.names.count(name) > 1]
            if repeated:
                raise ValueError(
                    "features must be names that occur only once in the table, got "
                    f"{repeated}; use R to test these coefficients."
                )
            R = np.eye(p)[[self.names.index(name) for name in features]]
        R = np.atleast_2d(np.asarray(R, dtype=np.float64))
        if R.ndim != 2 or R.shape[1] != p or not np.isfinite(R).all():
            raise ValueError(f"R must be finite and have shape (q, {p}), got shape {R.shape}.")
        unit = np.abs(R).max(axis=0)
        scaled = R / np.where(unit > 0, unit, 1.0)
        if np.linalg.matrix_rank(scaled) < R.shape[0]:
            raise ValueError(
                f"R must have full row rank, got {R.shape[0]} rows of rank "
                f"{np.linalg.matrix_rank(scaled)}."
            )
        restrictions: FloatArray = R
        return restrictions

    def _test_df(self, R: FloatArray) -> float:
        if np.ndim(self.df) == 0:
            return float(self.df)
        tested = np.flatnonzero(R.any(axis=0))
        if R.shape[0] > 1 or tested.size != 1:
            raise ValueError(
                "wald_test can test only one coefficient if df='bell-mccaffrey', got "
                f"{R.shape[0]} restrictions on {tested.size} coefficients."
            )
        return float(np.asarray(self.df)[tested[0]])

    # Predictions -------------------------------------------------------------------------

    def predict(self, X: Any, level: float = 0.95) -> FloatArray:
        """Return predicted means with confidence intervals.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (m, n_features)
            Rows with the features on which the estimator was fitted.

        level : float, default=0.95
            Confidence level of the intervals.

        Returns
        -------
        prediction : ndarray of shape (m, 3)
            Prediction, lower limit and upper limit for each row, in the units of the target to
            which the regressor was fitted.

        Raises
        ------
        ValueError
            If `level` is not between 0 and 1, or if X contains NaN or infinity or has the wrong
            number of features.

        Warns
        -----
        UserWarning
            If the intervals of some rows are NaN because the training data do not determine
            their predictions.
        """
        check_level(level)
        X = self._features("predict", X)
        result = np.column_stack([self._fitted(X)] * 3)
        assert self._standardised is not None
        n_unknown = 0
        for start in range(0, X.shape[0], PREDICT_BLOCK_ROWS):
            part = slice(start, start + PREDICT_BLOCK_ROWS)
            Z = self._standardised.rows(X[part])
            if not self._fit_intercept:
                Z[:, 0] = 0.0
            known = self._standardised.is_determined(Z)
            result[part, 1:] = self._mean_interval(Z, result[part, 0], level)
            result[part, 1:][~known] = np.nan
            n_unknown += int(np.count_nonzero(~known))
        if n_unknown:
            warnings.warn(
                f"The intervals of {n_unknown} rows of X are NaN, because these rows are "
                "outside the row space of the training data or have a component along a "
                "direction without a standard error.",
                UserWarning,
                stacklevel=2,
            )
        return result

    def _mean_interval(self, Z: FloatArray, fit: FloatArray, level: float) -> FloatArray:
        assert self._standardised is not None
        if self._standardised.replicates is not None:
            means = self._standardised.replicates @ Z.T + self._standardised.offset
            shares = [(1.0 - level) / 2.0, (1.0 + level) / 2.0]
            interval: FloatArray = np.quantile(means, shares, axis=0).T
            return interval
        V = self._standardised.V
        assert V is not None
        variance = np.maximum(((Z @ V) * Z).sum(axis=1), 0.0)
        std_err = self._standardised.unit * np.sqrt(variance)
        df = np.inf if np.ndim(self.df) == 0 and np.isinf(self.df) else self.df
        if np.ndim(df):
            df = self.n_samples - self.rank
        quantile = norm.ppf if np.isinf(df) else t_distribution(df).ppf
        reach = quantile((1.0 + level) / 2.0) * std_err
        ends: FloatArray = np.column_stack([fit - reach, fit + reach])
        return ends

    def predict_interval(
        self, X: Any, level: float = 0.95, *, symmetric: bool = True
    ) -> FloatArray:
        r"""Return predictions with prediction intervals for new observations.

        The limits are the prediction ± the ⌈(n + 1) · level⌉-th smallest absolute leave-one-out
        residual (the jackknife), where n is the number of rows. With sample weights that sum to
        S, the half-width is the smallest absolute residual for which the rows with absolute
        residuals up to and including it have a total weight of at least level · S(n + 1)/n. The
        coverage is `level` on average over the distribution of X, but not for each value of X.
        The coverage also holds for data with outliers if these are as frequent among the new
        observations as in the training data.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (m, n_features)
            Rows with the features on which the estimator was fitted.

        level : float, default=0.95
            Coverage probability of the intervals.

        symmetric : bool, default=True
            If False, the limits are the prediction plus the k-th smallest and the prediction
            plus the k-th largest leave-one-out residual, where k = ⌊(n + 1)(1 − level)/2⌋. Such
            intervals are suitable for skewed errors.

        Returns
        -------
        prediction : ndarray of shape (m, 3)
            Prediction, lower limit and upper limit for each row, in the units of the target to
            which the regressor was fitted.

        Raises
        ------
        ValueError
            If the kind of covariance is not HC2, HC3 or CR3, if `level` is not between 0 and 1,
            or if the fit has too few rows for this level.
        """
        check_level(level)
        if self._left_out is None:
            raise ValueError(
                "predict_interval requires leave-one-out residuals, which are available only "
                f"for covariance='HC2', 'HC3' and 'CR3', got {self.kind!r}."
            )
        fit = self._fitted(self._features("predict_interval", X))
        lower, upper = self._left_out.quantiles(self.n_samples, level, symmetric)
        interval: FloatArray = np.column_stack([fit, fit + lower, fit + upper])
        return interval

    def _features(self, method: str, X: Any) -> Any:
        """Return X transformed by the preceding steps and validated for the regressor."""
        require_in_memory(f"CoefficientTable.{method}", "rows", X=X)
        for transformer in self._transformers:
            X = transformer.transform(X)
        return validate_data(
            self._regressor, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False
        )

    def _fitted(self, X: Any) -> FloatArray:
        coef = np.atleast_2d(self._regressor.coef_)[self._target].astype(np.float64)
        fitted: FloatArray = X @ coef + float(
            np.ravel(self._regressor.intercept_)[self._target]
        )
        return fitted

    # Text --------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        rows = self._cells()
        widths = [max(len(row[j]) for row in rows) for j in range(len(rows[0]))]
        lines = []
        for row in rows:
            cells = [row[0].ljust(widths[0])]
            cells += [
                cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)
            ]
            lines.append("  ".join(cells).rstrip())
        return "\n".join([self.title, *lines, *self._omitted(), self.footer])

    def _repr_html_(self) -> str:
        head, *rows = self._cells()
        cells = "".join(f"<th>{escape(name)}</th>" for name in head)
        body = "".join(
            f"<tr><th>{escape(row[0])}</th>"
            + "".join(f"<td style='text-align: right'>{escape(cell)}</td>" for cell in row[1:])
            + "</tr>"
            for row in rows
        )
        below = "<br>".join(escape(line) for line in [*self._omitted(), self.footer])
        return (
            f"<table><caption style='text-align: left'>{escape(self.title)}</caption>"
            f"<thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table><p>{below}</p>"
        )

    def _shown(self) -> list[int]:
        p = len(self)
        if p <= TEXT_MAX_ROWS:
            return list(range(p))
        return [*range(TEXT_END_ROWS), *range(p - TEXT_END_ROWS, p)]

    def _omitted(self) -> list[str]:
        hidden = len(self) - len(self._shown())
        if not hidden:
            return []
        return [f"The middle {hidden} of {len(self)} coefficients are not shown; see frame."]

    def _cells(self) -> list[list[str]]:
        statistic, p_value, intervals = self.statistic, self.p_value, self.conf_int()
        header = ["", "coef", "std_err", "t", "p_value", "[95 %", "interval]"]
        rows = [header]
        for i in self._shown():
            decimals = _decimals(self.std_err[i], self.coef[i])
            numbers = [self.coef[i], self.std_err[i], *intervals[i]]
            coef, std_err, lower, upper = (_number(x, decimals) for x in numbers)
            t, p = _number(statistic[i], 2), f"{p_value[i]:.3g}"
            rows.append([self.names[i], coef, std_err, t, p, lower, upper])
        return rows


def _checked_values(values: Any, q: int) -> FloatArray:
    given = np.asarray(values)
    if given.dtype.kind not in "iuf" or given.shape not in ((), (q,)):
        raise ValueError(f"values must be a number or have shape ({q},), got {values!r}.")
    if not np.isfinite(given).all():
        raise ValueError(f"values must be finite, got {values!r}.")
    return given.astype(np.float64)


def intercept_name(features: Sequence[str]) -> str:
    """Return "intercept", enclosed in parentheses until no feature has the same name."""
    name = "intercept"
    while name in features:
        name = f"({name})"
    return name


def check_level(level: Any) -> None:
    """Raise a ValueError unless the confidence level is a number between 0 and 1."""
    if not isinstance(level, Real) or not 0.0 < float(level) < 1.0:
        raise ValueError(f"level must be in the range (0, 1), got {level!r}.")


def _decimals(std_err: float, coef: float) -> int | None:
    """Return the number of decimal places for four significant digits of the standard error.

    If there is no standard error, the coefficient is used. None means scientific notation.
    """
    size = next((x for x in (std_err, abs(coef)) if np.isfinite(x) and x > 0), 1.0)
    decimals = 3 - int(np.floor(np.log10(size)))
    return max(decimals, 0) if -6 <= decimals <= 9 else None


def _number(value: float, decimals: int | None) -> str:
    if decimals is None or abs(value) >= 1e12:
        return f"{value:.3e}"
    return f"{value:.{decimals}f}"
