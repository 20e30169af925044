"""Standard errors, tests, and confidence and prediction intervals for fitted estimators."""

from __future__ import annotations

import copy
import warnings
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from ._bootstrap import bootstrap_replicates
from ._coefficient_table import (
    CoefficientTable,
    LeftOut,
    Standardised,
    WaldTest,
    intercept_name,
)
from ._covariance import (
    CLUSTER_KINDS,
    HUBER_KINDS,
    KINDS,
    Clusters,
    Covariance,
    bell_mccaffrey,
    default_lags,
)
from ._covariance import (
    covariance as covariance_of,
)
from ._engines.base import FloatArray
from ._engines.sparse import SparseEngine
from ._engines.threads import ThreadTeam, single_threaded_blas
from ._fitted_data import FittedData, fitted_data, user_stacklevel
from ._lazy_data import require_in_memory
from ._linearised import LinearisedFit
from ._observation_table import ObservationTable, observation_table

# Kinds of covariance that require row or cluster leverages, and the maximum number of features
# for which these kinds are available if X is sparse.
LEVERAGE_KINDS, LEVERAGE_MAX_FEATURES = ("HC2", "HC3", "CR3"), 5_000

__all__ = [
    "CoefficientTable",
    "ObservationTable",
    "WaldTest",
    "coefficient_table",
    "observation_table",
]


@validate_params(
    {
        "covariance": [StrOptions({"auto", "bootstrap", *KINDS})],
        "groups": ["array-like", None],
        "weights": [StrOptions({"importance", "frequency"})],
        "scale": [StrOptions({"joint", "fixed"})],
        "df": [
            StrOptions({"auto", "normal", "bell-mccaffrey"}),
            Interval(Real, 0, None, closed="neither"),
        ],
        "lags": [Interval(Integral, 0, None, closed="left"), None],
        "n_resamples": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def coefficient_table(
    estimator,
    X,
    y,
    *,
    sample_weight=None,
    covariance="auto",
    groups=None,
    weights="importance",
    scale="joint",
    df="auto",
    target=None,
    lags=None,
    n_resamples=999,
    random_state=None,
):
    r"""Return a table of coefficients, standard errors and tests for a fitted estimator.

    Without `groups`, the default covariance is HC3, which assumes independent rows and allows
    for heteroscedastic errors:

    .. math:: V = A^{-1} \sum_i \frac{s_i^2 ψ(r_i)^2}{(1 - h_i)^2} z_i z_i^\top A^{-1},
        \qquad A = \sum_i s_i ψ'(r_i) z_i z_i^\top + S \tilde α D

    where z = (1, x), r are the residuals, ψ is the derivative of the loss, s are the sample
    weights, S is their sum, h are the leverages, and S α̃ D is the curvature of the ridge
    penalty, if any [1]_ [2]_. If the threshold is a multiple of an estimated scale, the
    standard errors by default include the uncertainty of the scale. The user guide describes
    the other kinds of covariance.

    Parameters
    ----------
    estimator : estimator
        A fitted :class:`~skrobust.SmoothL1Regressor`, :class:`~skrobust.SmoothL1RegressorCV` or
        :class:`~skrobust.MMRegressor`, or a pipeline, hyperparameter search or
        :class:`~sklearn.compose.TransformedTargetRegressor` that contains one of them.

    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Training features.

    y : array-like of shape (n_samples,) or (n_samples, n_targets)
        Training targets.

    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights that were passed to ``fit``.

    covariance : str, default="auto"
        Kind of covariance:

        - "auto": "HC3", or "CR3" if `groups` is given.
        - "HC0", "HC1", "HC2", "HC3": independent rows, whose errors may be heteroscedastic.
        - "H1", "H2", "H3": Huber's covariances, as in statsmodels, for independent rows with
          identically distributed errors.
        - "CR0", "CR1", "CR3": independent clusters given by `groups`.
        - "HAC": rows in time order, each correlated with the `lags` rows before it.
        - "bootstrap": resampling of rows, or of whole groups if `groups` is given. It is not
          available for an MMRegressor.

    groups : array-like of shape (n_samples,), default=None
        Cluster label of each row.

    weights : {"importance", "frequency"}, default="importance"
        Meaning of `sample_weight`: the importance of each row, or the number of identical rows
        that each row represents.

    scale : {"joint", "fixed"}, default="joint"
        "joint" includes the uncertainty of an estimated scale; "fixed" treats the scale as
        known. Both give the same table if the threshold is fixed or `covariance` is "H1", "H2"
        or "H3". For an MMRegressor, "joint" also includes the uncertainty of the S-estimate, on
        which the scale depends [4]_.

    df : {"auto", "normal", "bell-mccaffrey"} or float, default="auto"
        Degrees of freedom of the t distribution. "auto" uses the number of clusters minus one
        if `groups` is given, and otherwise n − p, where n is the number of rows and p is the
        rank of the design matrix, including the intercept. "normal" uses the normal
        distribution. "bell-mccaffrey" computes separate degrees of freedom for each coefficient
        [3]_ and requires ``covariance="HC2"`` and ``groups=None``.

    target : int, default=None
        Index of the target; required if there are several targets.

    lags : int, default=None
        Number of lags for "HAC"; None means ⌊4 (n/100)^(2/9)⌋ for n rows.

    n_resamples : int, default=999
        Number of bootstrap resamples.

    random_state : int, RandomState instance or None, default=None
        Seed for the bootstrap resampling.

    Returns
    -------
    table : CoefficientTable
        Table with one entry per coefficient; ``table.frame`` is a pandas DataFrame.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.

    TypeError
        If the estimator neither is nor contains a regressor of this package.

    ValueError
        If the data differ from the training data, if there are too few rows, if the parameters
        are incompatible with each other or with the data, or if the estimated scale is only
        rounding error because at least half of the rows are fitted exactly.

    Warns
    -----
    UserWarning
        If some coefficients have no standard error, if the coefficients are penalised, if more
        than 1 % of the bootstrap resamples are discarded, or if the uncertainty of the scale is
        not included because the joint equations for the coefficients and the scale are nearly
        singular.

    ConvergenceWarning
        If the fit stopped before it converged.

    Notes
    -----
    A threshold or penalty selected by cross-validation, whether by
    :class:`~skrobust.SmoothL1RegressorCV` or by a hyperparameter search, is treated as given:
    the standard errors do not include the uncertainty of the selection.

    References
    ----------
    .. [1] P. J. Huber, "The behavior of maximum likelihood estimates under nonstandard
           conditions", Proc. Fifth Berkeley Symposium 1, 1967.
    .. [2] J. G. MacKinnon and H. White, "Some heteroskedasticity-consistent covariance matrix
           estimators with improved finite sample properties", J. Econometrics 29, 1985.
    .. [3] R. M. Bell and D. F. McCaffrey, "Bias reduction in standard errors for linear
           regression with multi-stage samples", Survey Methodology 28, 2002.
    .. [4] C. Croux, G. Dhaene and D. Hoorelbeke, "Robust standard errors for robust
           estimators", DTEW Research Report 0367, K.U. Leuven, 2003.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skrobust import SmoothL1Regressor
    >>> from skrobust.inference import coefficient_table
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    >>> X = X[["bmi", "bp"]]
    >>> print(coefficient_table(SmoothL1Regressor().fit(X, y), X, y))
    Huber fit, 1.345 MAD: n = 442, p = 3, 16 % of the rows beyond β = 86.14
                  coef  std_err       t   p_value    [95 %  interval]
    intercept  -211.76    18.61  -11.38  1.79e-26  -248.33    -175.19
    bmi         8.6389   0.7924   10.90  1.18e-24   7.0815    10.1963
    bp          1.4282   0.2603    5.49  6.96e-08   0.9165     1.9399
    HC3: independent rows, any variances; joint with the MAD; t with 439 degrees of freedom
    """
    data_of_call = {"X": X, "y": y, "sample_weight": sample_weight, "groups": groups}
    require_in_memory("coefficient_table", "inference", **data_of_call)
    kind, frequency = covariance, weights == "frequency"
    if kind == "auto":
        kind = "HC3" if groups is None else "CR3"
    _check_options(kind, groups, df, lags, frequency, sample_weight)
    with single_threaded_blas(), ThreadTeam() as team:
        data = fitted_data(
            estimator, X, y, sample_weight, frequency=frequency, target=target, team=team
        )
        clusters = _clusters(groups, data, kind)
        _check_kind(data.fit, kind)
        if kind == "bootstrap":
            return _bootstrap_table(
                data, scale == "joint", clusters, df, n_resamples, random_state
            )
        return _sandwich_table(data, kind, scale == "joint", clusters, lags, df)


# Checks ----------------------------------------------------------------------------------


def _check_options(
    kind: str, groups: Any, df: Any, lags: Any, frequency: bool, sample_weight: Any
) -> None:
    if kind in CLUSTER_KINDS and groups is None:
        raise ValueError(
            f"covariance={kind!r} requires groups (the cluster label of each row), got None."
        )
    if groups is not None and kind not in (*CLUSTER_KINDS, "bootstrap"):
        raise ValueError(
            "covariance must be 'CR0', 'CR1', 'CR3' or 'bootstrap' if groups is given, got "
            f"{kind!r}."
        )
    if lags is not None and kind != "HAC":
        raise ValueError(
            f"lags must be None unless covariance='HAC', got lags={lags!r} with "
            f"covariance={kind!r}."
        )
    if isinstance(df, bool):
        # scikit-learn's checks accept a bool as a number.
        raise ValueError(
            f"df must be 'auto', 'normal', 'bell-mccaffrey' or a positive number, got {df!r}."
        )
    if df == "bell-mccaffrey" and (kind != "HC2" or groups is not None):
        raise ValueError(
            "df='bell-mccaffrey' requires covariance='HC2' and groups=None, got "
            f"covariance={kind!r}."
        )
    if kind == "HAC" and frequency and sample_weight is not None:
        raise ValueError(
            "covariance='HAC' requires rows in time order, but with weights='frequency' a row "
            "represents observations at several times. Repeat the rows instead of passing "
            "frequency weights."
        )


def _clusters(groups: Any, data: FittedData, kind: str) -> Clusters | None:
    """Return the clusters of the rows with positive weight."""
    if groups is None:
        return None
    labels = np.asarray(groups)
    if labels.dtype.kind not in "biu":
        # In an array of strings, a missing label would become a string such as "None".
        labels = np.asarray(groups, dtype=object)
    if labels.shape != (data.n_rows,):
        raise ValueError(
            f"groups must have shape ({data.n_rows},), with one label per row, for "
            f"covariance={kind!r}, got shape {labels.shape}."
        )
    if data.positive is not None:
        labels = labels[data.positive]
    if labels.dtype == object:
        number: dict[Any, int] = {}
        code = np.array([number.setdefault(label, len(number)) for label in labels.tolist()])
        distinct: Any = list(number)
        if any(_is_missing(label) for label in distinct):
            raise ValueError(
                f"groups contains missing labels, but covariance={kind!r} requires a label for "
                "each row."
            )
    else:
        distinct, code = np.unique(labels, return_inverse=True)
    if len(distinct) == 1:
        raise ValueError(
            f"groups must have at least two different labels for covariance={kind!r}, got "
            "only one."
        )
    return Clusters(code, len(distinct), distinct)


def _is_missing(label: Any) -> bool:
    """Return whether a label is None or a value that does not equal itself, such as NaN."""
    differs = label is None or label != label
    return bool(differs) if isinstance(differs, bool | np.bool_) else True


def _check_kind(fit: LinearisedFit, kind: str) -> None:
    if kind == "bootstrap" and not fit.loss.rho.is_convex:
        raise ValueError(
            "covariance='bootstrap' is not available for MMRegressor: the objective of each "
            "resample has several minima and would require a separate search for starting "
            "points, and outliers may form the majority of a resample. Use 'HC3', or 'CR3' "
            "with groups."
        )
    if kind != "bootstrap" and fit.scale_is_rounding():
        raise ValueError(
            "The estimated scale is only rounding error, since at least half of the rows are "
            f"fitted exactly. covariance must be 'bootstrap' for such a fit, got {kind!r}."
        )
    is_sparse = isinstance(fit.engine, SparseEngine)
    if is_sparse and kind in LEVERAGE_KINDS and fit.engine.p > LEVERAGE_MAX_FEATURES:
        raise ValueError(
            f"covariance={kind!r} requires leverages, which take too long to compute for a "
            f"sparse X with {fit.engine.p} features; use 'HC1', or 'CR1' with groups."
        )
    if kind == "H2" and fit.weight_of_copy is not None:
        raise ValueError(
            "covariance='H2' is not defined for importance weights that differ between rows; "
            "use 'H1', 'H3' or 'HC3'."
        )


# Tables ----------------------------------------------------------------------------------


def _sandwich_table(
    data: FittedData,
    kind: str,
    joint: bool,
    clusters: Clusters | None,
    lags: int | None,
    df: Any,
) -> CoefficientTable:
    fit = data.fit
    result = covariance_of(fit, kind, joint, clusters, lags)
    if (
        joint
        and result.scale_kind == "fixed"
        and fit.loss.estimator
        and kind not in HUBER_KINDS
    ):
        warnings.warn(
            "The uncertainty of the scale is not included, because the joint equations for the "
            "coefficients and the scale are nearly singular; the table is computed with "
            "scale='fixed'.",
            UserWarning,
            stacklevel=user_stacklevel(),
        )
    _warn_of_penalty(fit)
    unit, back = fit.units.unit, fit.to_data / fit.units.unit
    size = np.abs(back).max(axis=1)
    size[size == 0] = 1.0
    back = back / size[:, None]
    V = back @ result.V @ back.T
    lost = fit.depends_on(result.lost) & ~fit.inestimable
    _warn_of_lost(data, lost, fit.undetermined & ~fit.inestimable, result, clusters)
    missing = fit.inestimable | fit.undetermined | lost
    V[missing], V[:, missing] = np.nan, np.nan
    directions = np.hstack([fit.without_curvature, result.lost])
    standardised = _standardised(fit, result.V, directions, None)
    degrees: Any = _degrees_of_freedom(fit, df, clusters)
    left_out = None
    if result.left_out_residual is not None:
        left_out = LeftOut.of(fit.units.unit * result.left_out_residual, fit.weight)
    first = 0 if fit.fit_intercept else 1
    V = V[first:, first:]
    size = size[first:]
    std_err = unit * (size * np.sqrt(np.diagonal(V)))
    if np.ndim(degrees):
        degrees = degrees[first:]
    with np.errstate(over="ignore"):
        V = (unit * size)[:, None] * V * (unit * size)
    return _table(
        data,
        std_err,
        V,
        degrees,
        kind,
        result.scale_kind,
        clusters,
        standardised,
        left_out=left_out,
        lags=lags,
    )


def _bootstrap_table(
    data: FittedData,
    joint: bool,
    clusters: Clusters | None,
    df: Any,
    n_resamples: int,
    random_state: Any,
) -> CoefficientTable:
    fit = data.fit
    _warn_of_penalty(fit)
    joint = joint and fit.loss.estimator is not None
    result = bootstrap_replicates(
        fit, n_resamples, joint=joint, clusters=clusters, random_state=random_state
    )
    if result.n_failed > 0.01 * n_resamples:
        warnings.warn(
            f"{result.n_failed} of {n_resamples} resamples were discarded, because their "
            "design matrix is rank-deficient or their fit did not converge.",
            UserWarning,
            stacklevel=user_stacklevel(),
        )
    shift = np.zeros(fit.engine.p + 1)
    shift[0] = fit.units.shift if fit.fit_intercept else 0.0
    replicates = result.coef @ fit.to_data.T + shift
    replicates[:, fit.inestimable] = np.nan
    kept = ~np.isnan(result.coef).any(axis=1)
    if not kept.any():
        raise ValueError(
            f"All {n_resamples} resamples were discarded, because their design matrix is "
            "rank-deficient or their fit did not converge. Increase n_resamples, or use "
            "covariance='HC3'."
        )
    lower, upper = np.quantile(replicates[kept], [0.25, 0.75], axis=0)
    standardised = _standardised(
        fit, None, fit.without_curvature[:, :0], fit.units.unit * result.coef[kept]
    )
    first = 0 if fit.fit_intercept else 1
    return _table(
        data,
        ((upper - lower) / 1.349)[first:],
        None,
        _degrees_of_freedom(fit, df, clusters),
        "bootstrap",
        "joint" if joint else "fixed",
        clusters,
        standardised,
        replicates=replicates[:, first:],
    )


def _table(
    data: FittedData,
    std_err: FloatArray,
    V: FloatArray | None,
    df: Any,
    kind: str,
    scale: str,
    clusters: Clusters | None,
    standardised: Standardised,
    *,
    left_out: LeftOut | None = None,
    replicates: FloatArray | None = None,
    lags: int | None = None,
) -> CoefficientTable:
    fit, regressor = data.fit, data.regressor
    coef = np.atleast_2d(regressor.coef_)[data.target].astype(np.float64)
    names, feature_scale = list(data.names), fit.feature_scale()
    constant = ~np.isfinite(fit.engine.scale)
    missing = fit.inestimable[1:] & ~constant
    if fit.fit_intercept:
        intercept = float(np.ravel(regressor.intercept_)[data.target])
        coef = np.concatenate([[intercept], coef])
        missing = np.concatenate([fit.inestimable[:1], missing])
        names.insert(0, intercept_name(names))
        feature_scale = np.concatenate([[0.0], feature_scale])
    n_groups = None if clusters is None else clusters.n
    rank = fit.rank if fit.penalty.any() else round(fit.rank)
    return CoefficientTable(
        names=names,
        coef=np.where(missing, np.nan, coef),
        std_err=std_err,
        covariance=V,
        df=df,
        kind=kind,
        scale=scale,
        n_samples=round(fit.n),
        n_groups=n_groups,
        rank=rank,
        feature_scale=feature_scale,
        replicates=replicates,
        title=data.title(),
        footer=_footer(data, kind, scale, df, n_groups, lags, replicates),
        penalized=bool(fit.penalty.any()),
        _fitted_coef=coef,
        _fit_intercept=fit.fit_intercept,
        _standardised=standardised,
        _left_out=left_out,
        # Copies keep the table unchanged if the estimator is fitted again.
        _regressor=_without_rows(regressor),
        _transformers=tuple(copy.copy(step) for step in data.transformers),
        _target=data.target,
    )


def _without_rows(regressor: Any) -> Any:
    """Return a copy of a fitted regressor without its large attributes."""
    kept = copy.copy(regressor)
    for name in ("weights_", "outliers_", "leverage_", "history_", "cv_results_"):
        vars(kept).pop(name, None)
    return kept


def _standardised(
    fit: LinearisedFit,
    V: FloatArray | None,
    undetermined: FloatArray,
    replicates: FloatArray | None,
) -> Standardised:
    """Return the quantities that predictions and tests need, in units of y."""
    unit, first = fit.units.unit, 0 if fit.fit_intercept else 1
    return Standardised(
        centre=fit.engine.centre * fit.engine.unit,
        scale=fit.engine.scale * fit.engine.unit,
        V=V,
        unit=unit,
        to_data=fit.to_data[first:] / unit,
        basis=_orthonormal(fit.row_space),
        undetermined=_orthonormal(undetermined),
        offset=fit.units.shift if fit.fit_intercept else 0.0,
        replicates=replicates,
    )


def _orthonormal(directions: FloatArray) -> FloatArray:
    if not directions.shape[1]:
        return directions
    Q, R, _ = qr(directions, mode="economic", pivoting=True)
    size = np.abs(np.diagonal(R))
    basis: FloatArray = Q[:, : int(np.count_nonzero(size > 1e-12 * size[0]))]
    return basis


def _degrees_of_freedom(fit: LinearisedFit, df: Any, clusters: Clusters | None) -> Any:
    if df == "normal":
        return np.inf
    if df == "bell-mccaffrey":
        return bell_mccaffrey(fit)
    if df == "auto":
        return fit.n - fit.rank if clusters is None else float(clusters.n - 1)
    return float(df)


# Warnings and text -----------------------------------------------------------------------


def _warn_of_penalty(fit: LinearisedFit) -> None:
    if fit.penalty.any():
        warnings.warn(
            "The coefficients are penalized (alpha > 0): the intervals are for the expected "
            "values of the penalized estimates, not for the true coefficients.",
            UserWarning,
            stacklevel=user_stacklevel(),
        )


def _warn_of_lost(
    data: FittedData,
    lost: NDArray[np.bool_],
    undetermined: NDArray[np.bool_],
    result: Covariance,
    clusters: Clusters | None,
) -> None:
    names = [intercept_name(data.names), *data.names]
    if undetermined.any():
        which = [names[j] for j in np.flatnonzero(undetermined)]
        warnings.warn(
            "A combination of the coefficients is determined only by rows with residuals "
            f"beyond the threshold, so the coefficients {which} have no standard error.",
            UserWarning,
            stacklevel=user_stacklevel(),
        )
    if result.lost_rows.size:
        which = [names[j] for j in np.flatnonzero(lost)]
        if clusters is None:
            what, alone = "Rows", result.lost_rows
            labels = data.labels if data.labels is not None else np.arange(data.fit.engine.n)
        else:
            what, alone = "Groups", np.unique(clusters.code[result.lost_rows])
            labels = clusters.labels
        shown = [str(labels[i]) for i in alone[:10]]
        warnings.warn(
            f"{what} {shown} alone determine a combination of the coefficients, so the "
            f"coefficients {which} have no standard error.",
            UserWarning,
            stacklevel=user_stacklevel(),
        )


ASSUMPTIONS = {
    "H": "independent rows, identically distributed errors",
    "HC": "independent rows, any variances",
    "CR": "{n_groups} independent clusters",
    "HAC": "rows in time order, correlated over {lags} lags",
    "bootstrap": "{n_resamples} resamples of {what}",
}


def _footer(
    data: FittedData,
    kind: str,
    scale: str,
    df: Any,
    n_groups: int | None,
    lags: int | None,
    replicates: FloatArray | None,
) -> str:
    family = kind if kind in ASSUMPTIONS else kind.rstrip("0123")
    assumption = ASSUMPTIONS[family].format(
        n_groups=n_groups,
        lags=default_lags(data.fit.n) if lags is None else lags,
        n_resamples=0 if replicates is None else len(replicates),
        what="rows" if n_groups is None else f"{n_groups} groups",
    )
    name = data.description.scale_name
    about = "threshold fixed"
    if name is not None:
        about = f"joint with the {name}" if scale == "joint" else f"{name} taken as fixed"
    if replicates is not None:
        return f"{kind}: {assumption}; {about}; percentile intervals"
    if np.ndim(df):
        distribution = "t with Bell-McCaffrey degrees of freedom"
    else:
        distribution = "normal" if np.isinf(df) else f"t with {df:.4g} degrees of freedom"
    tests = "; no tests, since the coefficients are penalised" if data.fit.penalty.any() else ""
    return f"{kind}: {assumption}; {about}; {distribution}{tests}"
