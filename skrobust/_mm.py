"""The MM-estimator."""

from __future__ import annotations

import warnings
from functools import partial
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import ndtri
from sklearn.base import _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from ._array_api import as_numpy
from ._base import LinearRegressor
from ._callbacks import N_WRAPPERS, with_callbacks
from ._engines import as_engine
from ._engines.base import FloatArray
from ._engines.threads import ThreadTeam, single_threaded_blas
from ._lazy_data import require_in_memory
from ._mm_fit import MMResult, MMSpec, fit_mm, uses_all_rows
from ._model.loss import BISQUARE
from ._model.normal_constants import (
    constant_of_breakdown,
    constant_of_efficiency,
    mean_rho,
)
from ._model.scale import RESIDUAL_ROUNDING
from ._robust_distance import RobustDistance
from ._validation import check_data, drop_zero_weight, finite_weight

# Threshold of `outliers_`, as a multiple of `scale_`. The absolute value of a normal residual
# exceeds this threshold with probability 0.01.
OUTLIER_END = float(ndtri(0.995))
# With fewer rows per coefficient, the fit is unreliable and `fit` issues a warning.
RELIABLE_ROWS_PER_COEFFICIENT = 5
# Robust distances are computed in blocks of rows of X with about this number of elements each.
BLOCK_ELEMENTS = 2**14


class MMRegressor(LinearRegressor):
    r"""Linear regression that is robust to outliers in y and in X (MM-estimator).

    The effect of outliers of any kind, including leverage points, is bounded even if nearly
    half of the rows are outliers. By default, the coefficients are asymptotically 95 % as
    efficient as least squares under normal errors, and repeated fits to the same data
    give the same result, because the seed of the random starts is fixed.

    Let :math:`r_i` be the residuals, :math:`s_i` the sample weights, S their sum, k the rank of
    the features and the intercept, and :math:`\rho_c(u) = 1 - (1 - \min(|u|/c, 1)^2)^3` Tukey's
    bisquare. The fit has two steps:

    1. The S-estimate minimises the scale :math:`\hat\sigma_S`, which is the solution of
       :math:`\sum_i s_i\,\rho_{c_S}(r_i/\hat\sigma_S) = b\,(S - k)`, where b is the breakdown
       point [1]_.
    2. The MM-estimate is the local minimiser of :math:`\sum_i s_i\,\rho_{c_M}(r_i/\hat\sigma)`
       that is reached by descent from the S-estimate, with the scale :math:`\hat\sigma` held
       fixed [2]_.

    The constant :math:`c_S` is determined by `breakdown`, and :math:`c_M` by `efficiency`. The
    objective is not convex. The S-estimate is the best of the minima reached from several
    deterministic and random starts. This minimum is not guaranteed to be global.

    Read more in the :doc:`user guide </user_guide/robust_mm>`.

    Parameters
    ----------
    efficiency : float, default=0.95
        Asymptotic efficiency relative to least squares under normal errors, between 0.5 and
        0.99, which determines :math:`c_M`. A higher efficiency increases the bias caused by
        moderate outliers.

    breakdown : float, default=0.5
        Breakdown point of the S-estimate, in (0, 0.5], which determines :math:`c_S`. It must be
        large enough that the efficiency of the S-estimate does not exceed `efficiency`.

    scale : {"trimmed", "s"}, default="trimmed"
        Estimator of the residual scale :math:`\hat\sigma` of the second step.

        - "trimmed": the standard deviation of the S-estimate's residuals, excluding outliers.
          It is limited to the range from :math:`\hat\sigma_S\,c_S/c_M` to
          :math:`\hat\sigma_S`, which preserves the breakdown point. In a simulation, the
          efficiency on clean data with at least ten rows per feature was at most 0.012 lower
          than with "s". With 20 to 40 % outliers at 5 to 10 standard deviations, the mean
          squared error of the coefficients was as low as a third of that with "s".
        - "s": the scale :math:`\hat\sigma_S` of the S-estimate, as in R's ``lmrob``. Outliers
          inflate this scale, so moderate outliers keep a positive weight.

    n_subsamples : int, default=500
        Number of starts from random subsets of the rows, in addition to the deterministic
        starts. With ``n_subsamples=0``, the fit does not depend on `random_state`, unless there
        are so many rows that the starts use a sample (see Notes).

    fit_intercept : bool, default=True
        Whether to fit an intercept. If False, no intercept is used and the data are expected to
        be centred.

    max_iter : int, default=200
        Maximum number of iterations of the S-estimate and the M-estimate together, not counting
        the starts.

    tol : float, default=1e-8
        Tolerance for the stopping criterion. The solver stops when the norm of the gradient in
        whitened coordinates, divided by the root mean square of the derivatives of
        :math:`\rho_c` at the residuals, is at most `tol`.

    random_state : int, RandomState instance or None, default=0
        Seed for drawing the random subsets and, if the starts use a sample, the sample. Pass an
        int for reproducible fits. With None, the random numbers differ between calls of `fit`.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
        Coefficients of the MM-estimate, in the dtype of X.

    intercept_ : float
        Intercept of the MM-estimate; 0.0 if ``fit_intercept=False``.

    scale_, s_scale_ : float
        Scales :math:`\hat\sigma` and :math:`\hat\sigma_S`, in units of y. They are equal if
        ``scale="s"``. Both are zero if a majority of the rows is fitted exactly.

    s_coef_ : ndarray of shape (n_features,)
        Coefficients of the S-estimate.

    s_intercept_ : float
        Intercept of the S-estimate.

    weights_ : ndarray of shape (n_samples,)
        Robustness weight :math:`(1 - (r_i/(c_M\hat\sigma))^2)_+^2` of each row, between 0 and
        1, which does not include the sample weight. If the scale is zero, the weight is 1 for
        the rows that are fitted exactly and 0 for all others.

    outliers_ : ndarray of shape (n_samples,)
        Boolean mask of the rows with :math:`|r_i| > 2.576\,\hat\sigma`, which holds for 1 % of
        normal residuals. If the scale is zero, the mask is True for the rows that are not
        fitted exactly. An outlier in this sense is not necessarily an error in the data.

    leverage_ : ndarray of shape (n_samples,)
        Boolean mask of the rows whose robust distance exceeds the square root of the 97.5 %
        quantile of :math:`\chi^2` (see `robust_distances`). With normally distributed features,
        the mask is True for about 2.5 % of the rows if there are many rows per feature, and for
        about a quarter if there are only 8 rows per feature. All elements are False if robust
        distances cannot be computed.

    start_ : {"least_squares", "lad", "half_set", "sensitivity", "subset"}
        Kind of start that led to the S-estimate: a fit to all rows ("least_squares" or "lad"),
        to the half of the rows whose features are closest together ("half_set"), to all but the
        extreme rows of a principal sensitivity component ("sensitivity"), or to a random subset
        ("subset").

    n_iter_ : int
        Total number of iterations of the S-estimate and the M-estimate.

    n_features_in_ : int
        Number of features seen during `fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features seen during `fit`. Defined only if all feature names of X are
        strings.

    See Also
    --------
    SmoothL1Regressor : Regression with a convex objective and penalties, for data with less
        than about 30 % outliers in y and no leverage points.
    sklearn.linear_model.RANSACRegressor : Fits to random subsets, with a threshold for the
        residuals.
    sklearn.linear_model.TheilSenRegressor : Median of fits to random subsets.

    Notes
    -----
    An integer sample weight is equivalent to repeating the row. The sum S of the weights takes
    the place of the number of rows, so multiplying all weights by a constant changes the fit.
    If S is smaller than the number of rows with positive weight, the weights are rescaled to
    sum to this number.

    If the data have more than ``1.5 * m`` rows, where ``m = max(2000, 20 * n_features)``, the
    starts use a random sample of m rows. Otherwise the starts use all rows, and the result does
    not depend on the order of the rows. With more than 200 features, the starts from
    sensitivity components are omitted.

    With few rows per coefficient, the efficiency is lower than its asymptotic value. A cluster
    of outliers that can be fitted by a small change in the coefficients may attract the
    estimate, in which case `outliers_` is False for the rows of the cluster.

    If features are linearly dependent, the coefficients for standardised features have no
    component in the null space of these features. Each feature is centred at its median (with
    an intercept) and divided by its median absolute deviation, or by its root mean square
    deviation if more than half of its values are equal.

    References
    ----------
    .. [1] P. J. Rousseeuw and V. J. Yohai, "Robust regression by means of S-estimators", in
           "Robust and Nonlinear Time Series Analysis", Springer, 1984.
    .. [2] V. J. Yohai, "High breakdown-point and high efficiency robust estimates for
           regression", Annals of Statistics 15, 1987.
    .. [3] R. A. Maronna, R. D. Martin, V. J. Yohai and M. Salibián-Barrera, "Robust
           Statistics", 2nd ed., Wiley, 2019, chapter 5.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust import MMRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 1))
    >>> y = 2 * X[:, 0] + rng.normal(scale=0.1, size=100)
    >>> X[:40], y[:40] = 10.0, -5.0  # 40 % of the rows are one cluster of leverage points
    >>> model = MMRegressor().fit(X, y)
    >>> model.coef_.round(2)
    array([2.])
    >>> int(model.outliers_[:40].sum())
    40
    """

    _parameter_constraints: dict = {
        "efficiency": [Interval(Real, 0.5, 0.99, closed="both")],
        "breakdown": [Interval(Real, 0, 0.5, closed="right")],
        "scale": [StrOptions({"trimmed", "s"})],
        "n_subsamples": [Interval(Integral, 0, None, closed="left")],
        "fit_intercept": ["boolean"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        *,
        efficiency=0.95,
        breakdown=0.5,
        scale="trimmed",
        n_subsamples=500,
        fit_intercept=True,
        max_iter=200,
        tol=1e-8,
        random_state=0,
    ):
        self.efficiency = efficiency
        self.breakdown = breakdown
        self.scale = scale
        self.n_subsamples = n_subsamples
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data.

        y : array-like of shape (n_samples,)
            Target values. For several targets, use
            :class:`~sklearn.multioutput.MultiOutputRegressor`.

        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row. Weights must be non-negative and not all zero. If None, all rows
            have the same weight. An integer weight k is equivalent to repeating the row k
            times.

        Returns
        -------
        self : MMRegressor
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is out of range; if `breakdown` is too small for `efficiency`; if the
            data contain NaN or infinity; if y has several columns; if a weight is negative or
            all weights are zero; or if the coefficients are too large for the dtype of X.

        TypeError
            If y is sparse.

        Warns
        -----
        UserWarning
            If there are fewer than five rows per coefficient, or if a majority of the rows, but
            not all of them, are fitted exactly.

        DataConversionWarning
            If y has shape (n_samples, 1).

        ConvergenceWarning
            If the fit does not reach `tol`. The best coefficients found are kept.
        """
        name = type(self).__name__
        require_in_memory(name, "MM", X=X, y=y, sample_weight=sample_weight)
        spec = _spec(self)
        return self._set_fitted(partial(self._fit, spec=spec), X, y, sample_weight)

    def _fit(self, X_raw: Any, y_raw: Any, sample_weight: Any, spec: MMSpec) -> dict[str, Any]:
        """Return the fitted attributes not set by `validate_data`, and issue any warnings."""
        X, y, _ = check_data(partial(validate_data, self), X_raw, y_raw, None)
        weight = finite_weight(sample_weight, X)
        if y.ndim == 2 and y.shape[1] > 1:
            raise ValueError(
                f"y must have one column, got {y.shape[1]}; use MultiOutputRegressor("
                "MMRegressor()) from sklearn.multioutput for several targets."
            )
        y = column_or_1d(y, warn=True).astype(np.float64, copy=False)
        used = drop_zero_weight(X, weight, type(self).__name__)
        y_used, weight_used = y, weight
        if used.positive is not None:
            assert weight is not None
            y_used, weight_used = y[used.positive], weight[used.positive]
        if weight_used is not None:
            weight_used = weight_used * max(1.0, weight_used.size / weight_used.sum())
        callbacks = _Callbacks(self, X_raw, y, sample_weight)
        with single_threaded_blas(), ThreadTeam() as team:
            rows = _fit_rows(used.X, y_used, weight_used)
            result = fit_mm(
                as_engine(rows.X, team),
                rows.y,
                rows.weight,
                spec,
                _generator(self.random_state),
                team,
                callbacks.after_s,
            )
            attributes = self._attributes(result, X.dtype)
            attributes |= _row_attributes(result, rows, X, y, used.positive, used.zero, spec)
        callbacks.end(attributes)
        self._warn(result, rows, spec)
        return attributes

    def _attributes(self, result: MMResult, dtype: Any) -> dict[str, Any]:
        attributes: dict[str, Any] = {}
        for prefix, coef, intercept in (
            ("", result.coef, result.intercept),
            ("s_", result.s_coef, result.s_intercept),
        ):
            with np.errstate(over="ignore"):
                attributes[f"{prefix}coef_"] = coef.astype(dtype)
            if not np.isfinite(attributes[f"{prefix}coef_"]).all():
                raise ValueError(
                    f"coef_ has values too large for {dtype}; rescale X or y, or pass X as "
                    "float64."
                )
            attributes[f"{prefix}intercept_"] = intercept
        return attributes | {
            "scale_": result.scale,
            "s_scale_": result.s_scale,
            "start_": result.start,
            "n_iter_": result.n_iter,
            "_distance": _DataDistance.of_result(result),
        }

    def _warn(self, result: MMResult, rows: _FitRows, spec: MMSpec) -> None:
        S, k = rows.total, result.rank
        # The stack frames between the caller and the warning are `fit` with its wrappers,
        # `_set_fitted`, `_fit` and this method.
        stacklevel = 5 + N_WRAPPERS
        if RELIABLE_ROWS_PER_COEFFICIENT * k > S:
            warnings.warn(
                f"There are only {S:g} rows for {k} coefficients: at most "
                f"{max(S - k, 0) / 2:g} rows may be outliers, and the starts and the "
                "efficiency are unreliable with fewer than "
                f"{RELIABLE_ROWS_PER_COEFFICIENT} rows per coefficient. Use fewer features or "
                "more rows.",
                UserWarning,
                stacklevel=stacklevel,
            )
        if result.is_exact is not None and not result.is_exact.all():
            off = ~result.is_exact
            n_off = off.sum() if rows.weight is None else rows.weight @ off
            warnings.warn(
                f"The fit is exact for a majority of the rows, and the other {n_off:g} of "
                f"{S:g} rows are outliers with weight 0. The scale is 0. If this is not "
                "intended, check whether many values of y are equal.",
                UserWarning,
                stacklevel=stacklevel,
            )
        if not result.converged:
            warnings.warn(
                "MMRegressor did not converge: the relative gradient norm is "
                f"{result.relative_gradient:.2g} (tol={spec.tol:.2g}). The best coefficients "
                f"found are kept. Increase max_iter (currently {spec.max_iter}) or tol.",
                ConvergenceWarning,
                stacklevel=stacklevel,
            )

    def robust_distances(self, X):
        r"""Return the robust distance of each row of X from the centre of the training data.

        The distance is :math:`\sqrt{(x - m)^T C^{-1} (x - m)}`. The centre m and the covariance
        C are estimated from the training rows with positive `weights_` or, if the starts use a
        sample, from such rows of the sample. The estimation has two steps [1]_. The first step
        uses the half of the rows whose covariance has the smallest determinant. The second step
        uses all rows whose squared distance after the first step is at most the 97.5 % quantile
        of :math:`\chi^2_d`, where d is the number of features used. In both steps C is scaled
        so that the median squared distance equals the median of :math:`\chi^2_d`. Features in
        which more than half of the values are equal, such as indicators, and features that
        depend linearly on others are left out.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows for which to compute the distances.

        Returns
        -------
        distances : ndarray of shape (n_samples,)
            Distances, in float64. For normally distributed rows they approximately follow a
            :math:`\chi` distribution whose number of degrees of freedom is the number of
            features that are not left out.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.

        ValueError
            If the robust centre and covariance could not be computed from the training data:
            if all features are left out, if there are fewer than 2d + 2 distinct rows for the d
            remaining features, if d > 500, if half of the rows lie on a hyperplane, or if the
            number of rows does not exceed the number of coefficients.

        References
        ----------
        .. [1] P. J. Rousseeuw and K. Van Driessen, "A fast algorithm for the minimum covariance
               determinant estimator", Technometrics 41, 1999.
        """
        check_is_fitted(self)
        require_in_memory(f"{type(self).__name__}.robust_distances", "rows", X=X)
        (X,), convert = as_numpy(X=X)
        X = validate_data(
            self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False
        )
        if not self._has_distances():
            raise ValueError(
                f"robust distances do not exist: {self._distance.distance.reason}."
            )
        return convert(self._distance.of(X))

    def _has_distances(self) -> bool:
        return self._distance.distance.shape is not None


class _FitRows(NamedTuple):
    """The rows to which the model is fitted: sorted and distinct if the starts use all rows.

    For each data row of positive weight, `inverse` contains the index of the fitted row that is
    equal to it. `inverse` is None if the fitted rows are these data rows themselves.
    """

    X: Any
    y: FloatArray
    weight: FloatArray | None
    inverse: NDArray[np.intp] | None

    @property
    def total(self) -> float:
        return float(self.y.size if self.weight is None else self.weight.sum())


class _DataDistance(NamedTuple):
    """The centre, scales and shape for computing robust distances of rows of the original X."""

    centre: FloatArray
    scale: FloatArray
    distance: RobustDistance

    @classmethod
    def of_result(cls, result: MMResult) -> _DataDistance:
        columns, engine = result.distance.columns, result.engine
        return cls(engine.centre[columns], engine.scale[columns], result.distance)

    def of(self, X: Any) -> FloatArray:
        """Return the robust distance of each row of X."""
        columns, distances = self.distance.columns, np.empty(X.shape[0])
        size = max(1, BLOCK_ELEMENTS // X.shape[1])
        for start in range(0, X.shape[0], size):
            rows = slice(start, start + size)
            part = X[rows][:, columns]
            part = part.toarray() if sparse.issparse(part) else part
            distances[rows] = self.distance.of((part - self.centre) / self.scale)
        return distances


def _spec(model: MMRegressor) -> MMSpec:
    """Check that the parameters of an estimator are compatible, and return its MMSpec."""
    m_constant = constant_of_efficiency(float(model.efficiency))
    least = round(mean_rho(m_constant), 4)
    if model.breakdown < least:
        raise ValueError(
            f"breakdown={model.breakdown} is too small for efficiency={model.efficiency}: the "
            f"S-estimate is already more efficient. breakdown must be at least {least:.4f} for "
            "this efficiency."
        )
    # If `breakdown` equals `least`, which is rounded, the constant of the S-estimate could
    # slightly exceed `m_constant` without this limit.
    s_constant = min(constant_of_breakdown(float(model.breakdown)), m_constant)
    return MMSpec(
        s_constant,
        m_constant,
        float(model.breakdown),
        model.scale == "trimmed",
        model.n_subsamples,
        model.fit_intercept,
        model.max_iter,
        float(model.tol),
    )


def _generator(random_state: Any) -> np.random.Generator:
    """Return a generator seeded from `random_state`, without NumPy's global random state."""
    if isinstance(random_state, np.random.RandomState):
        random_state = random_state.randint(2**31)
    return np.random.default_rng(random_state)


def _fit_rows(X: Any, y: FloatArray, weight: FloatArray | None) -> _FitRows:
    """Return the rows to fit: sorted and without duplicates if the starts use all rows.

    The weights of duplicates are summed. The fit then depends neither on the order of the rows
    nor on whether a row is repeated or has a larger weight.
    """
    n, p = X.shape
    if not uses_all_rows(n, p):
        return _FitRows(X, y, weight, None)
    dense = X.toarray() if sparse.issparse(X) else X
    order = np.argsort(y, kind="stable")
    if (np.diff(y[order]) == 0).any():
        order = np.lexsort([*dense.T, y])
    dense, y = dense[order], y[order]
    is_new = np.ones(n, dtype=bool)
    is_new[1:] = (np.diff(y) != 0) | (dense[1:] != dense[:-1]).any(axis=1)
    inverse = np.empty(n, dtype=np.intp)
    inverse[order] = np.cumsum(is_new) - 1
    if weight is not None or not is_new.all():
        sums = np.ones(n) if weight is None else weight[order]
        weight = np.add.reduceat(sums, np.flatnonzero(is_new))
        if (weight == 1.0).all():
            weight = None
    return _FitRows(dense[is_new], y[is_new], weight, inverse)


def _row_attributes(
    result: MMResult,
    rows: _FitRows,
    X: Any,
    y: FloatArray,
    positive: NDArray[np.intp] | None,
    zero: NDArray[np.intp] | None,
    spec: MMSpec,
) -> dict[str, Any]:
    """Return `weights_`, `outliers_` and `leverage_` for all rows, also those of weight 0."""
    if result.is_exact is None:
        outliers = np.abs(result.residual) > OUTLIER_END * result.scale
    else:
        outliers = ~result.is_exact
    weights = result.weights
    if rows.inverse is not None:
        weights, outliers = weights[rows.inverse], outliers[rows.inverse]
    if positive is not None:
        assert zero is not None
        used, used_outliers = weights, outliers
        weights, outliers = np.empty(len(y)), np.empty(len(y), dtype=bool)
        weights[positive], outliers[positive] = used, used_outliers
        # The fitted values of rows of weight zero may overflow.
        with np.errstate(over="ignore", invalid="ignore"):
            rows_of_zero = X[zero].astype(np.float64)
            fitted = rows_of_zero @ result.coef + result.intercept
            size = np.nan_to_num(np.abs(y[zero] - fitted), nan=np.inf, posinf=np.inf)
            terms = abs(rows_of_zero) @ np.abs(result.coef) + abs(result.intercept)
        eps = np.finfo(X.dtype).eps / np.finfo(float).eps
        end = OUTLIER_END * result.scale or eps * RESIDUAL_ROUNDING * (np.abs(y[zero]) + terms)
        outliers[zero] = (size > end) & ~np.array(result.interpolates)
        weights[zero] = ~outliers[zero]
        if result.scale > 0:
            weights[zero] = BISQUARE.weights(size, spec.m_constant * result.scale)
    leverage = np.zeros(len(y), dtype=bool)
    distance = _DataDistance.of_result(result)
    if distance.distance.shape is not None:
        leverage = distance.of(X) > distance.distance.cutoff
    return {"weights_": weights, "outliers_": outliers, "leverage_": leverage}


class _Callbacks:
    """Informs scikit-learn's callbacks about the S-estimate and the M-estimate."""

    def __init__(
        self, estimator: MMRegressor, X: Any, y: FloatArray, sample_weight: Any
    ) -> None:
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._estimator, self._data = estimator, {"X": X, "y": y, "metadata": metadata}
        self._context = estimator._init_callback_context(max_subtasks=2)
        self._context.call_on_fit_task_begin(estimator=estimator, **self._data)
        self._begin("S-estimate")

    def _begin(self, name: str) -> None:
        self._task = self._context.subcontext(task_name=name)
        self._task.call_on_fit_task_begin(estimator=self._estimator, **self._data)

    def _end_task(self, coef: FloatArray, intercept: float) -> bool:
        """Report the end of the task, and return whether a callback asks the fit to stop."""
        stop: bool = self._task.call_on_fit_task_end(
            estimator=self._estimator,
            reconstruction_attributes=lambda: {"coef_": coef, "intercept_": intercept},
            **self._data,
        )
        return stop

    def after_s(self, coef: FloatArray, intercept: float) -> bool:
        """Report the end of the S-estimate and the beginning of the M-estimate.

        Return whether a callback asks the fit to stop.
        """
        stop = self._end_task(coef, intercept)
        self._begin("M-estimate")
        return stop

    def end(self, attributes: dict[str, Any]) -> None:
        self._end_task(attributes["coef_"], attributes["intercept_"])
        self._context.call_on_fit_task_end(
            estimator=self._estimator, reconstruction_attributes=attributes, **self._data
        )
