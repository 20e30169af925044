"""Error messages for invalid input, unfitted estimators and a missing matplotlib."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline

import skrobust
from artists import Searched
from skrobust import MMRegressor, SmoothL1Regressor
from skrobust.displays import (
    CoefficientsDisplay,
    ConvergenceDisplay,
    CVDisplay,
    DiagnosticsDisplay,
    FitDisplay,
    InfluenceDisplay,
    OutlierMapDisplay,
    PathDisplay,
    QQDisplay,
    ResidualsDisplay,
    ScaleLocationDisplay,
    WeightsDisplay,
)

REGRESSOR = SmoothL1Regressor()
V = np.arange(5.0)
RESULTS = {"param_beta": [1.0], "mean_test_score": [1.0], "std_test_score": [0.0]}


def residuals(**changes):
    return ResidualsDisplay(**({"y_true": V, "y_pred": V, "beta": 1.0} | changes))


def fits(**changes):
    arrays = {"x": V, "y": V, "grid": V, "curves": {"a": V}}
    return FitDisplay(**(arrays | changes))


def coefficients(**changes):
    arrays = {"names": list("abcde"), "coef": V, "lower": V - 1, "upper": V + 1}
    return CoefficientsDisplay(**(arrays | changes))


def influence(**changes):
    arrays = {"leverage": V / 9, "residual": V, "cooks_distance": V, "outlier": V > 3}
    return InfluenceDisplay(**(arrays | {"beta": 1.0, "cook_factor": 1.0} | changes))


def outlier_map(**changes):
    arrays = {"robust_distances": V, "standardized_residuals": V}
    return OutlierMapDisplay(
        **(arrays | {"distance_cutoff": 1.0, "residual_cutoff": 1.0} | changes)
    )


ERRORS = {
    "beta negative": (
        lambda m, X, y, Y: residuals(beta=-1.0).plot(),
        "beta must be .* got -1.0",
    ),
    "beta a word": (lambda m, X, y, Y: residuals(beta="auto").plot(), "beta must be .*'auto'"),
    "lengths": (
        lambda m, X, y, Y: residuals(y_pred=V[:3]).plot(),
        r"y_true and y_pred .* got the shapes \(5,\) and \(3,\)",
    ),
    "matrices": (
        lambda m, X, y, Y: residuals(y_true=Y, y_pred=Y).plot(),
        "non-empty vectors of the same length",
    ),
    "markers": (
        lambda m, X, y, Y: residuals().plot(max_markers=0),
        "max_markers must be a positive integer, got 0",
    ),
    "axis": (
        lambda m, X, y, Y: residuals().plot(residual_axis="log"),
        "residual_axis must be 'auto', 'linear' or 'symlog', got 'log'",
    ),
    "no threshold": (
        lambda m, X, y, Y: ResidualsDisplay.from_estimator(LinearRegression().fit(X, y), X, y),
        "LinearRegression has no attribute 'beta_'; pass beta",
    ),
    "no threshold inside": (
        lambda m, X, y, Y: WeightsDisplay.from_estimator(
            MultiOutputRegressor(REGRESSOR).fit(X, Y), X, Y, target=0
        ),
        "MultiOutputRegressor has no attribute 'beta_'; pass beta",
    ),
    "rows": (
        lambda m, X, y, Y: ResidualsDisplay.from_estimator(m, X, y[:-1]),
        "inconsistent numbers of samples",
    ),
    "nan": (
        lambda m, X, y, Y: ResidualsDisplay.from_predictions([np.nan], [1.0], beta=1),
        "Input y_true contains NaN",
    ),
    "target missing": (
        lambda m, X, y, Y: ResidualsDisplay.from_estimator(clone(m).fit(X, Y), X, Y),
        "y has 2 targets; select one with target=0 to target=1",
    ),
    "target too large": (
        lambda m, X, y, Y: ResidualsDisplay.from_estimator(clone(m).fit(X, Y), X, Y, target=2),
        r"target must be .* in the range \[0, 1\], got 2",
    ),
    "target of one": (
        lambda m, X, y, Y: ResidualsDisplay.from_estimator(m, X, y, target=1),
        r"target must be .* in the range \[0, 0\], got 1",
    ),
    "feature missing": (
        lambda m, X, y, Y: FitDisplay.from_estimator(m, X, y),
        "feature must select one of the 3 features .* or a column name of X, got None",
    ),
    "feature unknown": (
        lambda m, X, y, Y: FitDisplay.from_estimator(m, X, y, feature="weight"),
        "feature must select .* got 'weight'",
    ),
    "words": (
        lambda m, X, y, Y: FitDisplay.from_estimator(m, X.assign(k="a"), y, feature="k"),
        "Feature 'k' must consist of finite numbers: could not convert string to float: 'a'",
    ),
    "one dimension": (
        lambda m, X, y, Y: FitDisplay.from_estimator(m, V, V),
        r"X must have two dimensions, got 1; use X.reshape\(-1, 1\)",
    ),
    "grid": (
        lambda m, X, y, Y: FitDisplay.from_estimator(m, X, y, feature=0, grid_resolution=1),
        "grid_resolution must be an integer of at least 2, got 1",
    ),
    "alike": (
        lambda m, X, y, Y: FitDisplay.from_estimator([m, m], X, y, feature=0),
        r"Two estimators have the representation SmoothL1Regressor\(\); pass a dict",
    ),
    "no estimator": (
        lambda m, X, y, Y: FitDisplay.from_estimator([], X, y, feature=0),
        "estimator must contain at least one",
    ),
    "grid falls": (
        lambda m, X, y, Y: fits(grid=-V).plot(),
        "grid must be a non-decreasing vector",
    ),
    "curve": (lambda m, X, y, Y: fits(curves={"a": V[:2]}).plot(), r"curves\['a'\] must have"),
    "x and y": (lambda m, X, y, Y: fits(y=V[:2]).plot(), r"x and y must .* \(5,\) and \(2,\)"),
    "line": (
        lambda m, X, y, Y: fits().plot(line_kwargs={"b": {}}),
        r"Each key of line_kwargs must be one of the curve names \['a'\], got 'b'",
    ),
    "path of another": (
        lambda m, X, y, Y: PathDisplay.from_estimator(LinearRegression().fit(X, y), X, y),
        "estimator must be a SmoothL1Regressor or .* wraps one, got LinearRegression",
    ),
    "no betas": (
        lambda m, X, y, Y: PathDisplay.from_estimator(m, X, y, betas=0),
        "The 'betas' parameter of smooth_l1_path must be an int .* Got 0",
    ),
    "betas of a fit": (
        lambda m, X, y, Y: PathDisplay.from_estimator(m, X, y, betas=["auto"]),
        r"betas must be a non-empty vector of positive finite numbers, got \['auto'\]",
    ),
    "betas": (
        lambda m, X, y, Y: PathDisplay(betas=[0, 1], coefs=[[1, 2]]).plot(),
        r"betas must be a non-empty vector of positive finite numbers, got \[0, 1\]",
    ),
    "coefs": (
        lambda m, X, y, Y: PathDisplay(betas=[1, 2, 3], coefs=[[1, 2]]).plot(),
        r"coefs must have shape \(n_features, 3\), .* got \(1, 2\)",
    ),
    "names": (
        lambda m, X, y, Y: PathDisplay(betas=[1], coefs=[[1]], feature_names=["a", "b"]).plot(),
        r"feature_names must have one entry for each of the 1 rows of coefs, got shape \(2,\)",
    ),
    "labelled": (
        lambda m, X, y, Y: PathDisplay(betas=[1], coefs=[[1]]).plot(n_labelled=-1),
        "n_labelled must be an integer of at least 0, got -1",
    ),
    "no search": (
        lambda m, X, y, Y: CVDisplay.from_estimator(m),
        "SmoothL1Regressor has no attribute 'cv_results_'; pass a fitted search over beta",
    ),
    "no beta": (
        lambda m, X, y, Y: CVDisplay.from_estimator(Searched({"param_alpha": [1]})),
        r"cv_results_ must have exactly one parameter beta, .* got \['param_alpha'\]",
    ),
    "metric": (
        lambda m, X, y, Y: CVDisplay.from_estimator(Searched(RESULTS), metric="r2"),
        r"metric must be one of \['score'\], got 'r2'",
    ),
    "refit no metric": (
        lambda m, X, y, Y: CVDisplay.from_estimator(
            Searched(RESULTS | {"mean_test_r2": [1.0]}, refit=False)
        ),
        r"metric must be one of \['score', 'r2'\], got None",
    ),
    "scores": (
        lambda m, X, y, Y: CVDisplay(betas=[1, 2], mean_scores=[1]).plot(),
        r"mean_scores must have one entry for each of the 2 betas, got shape \(1,\)",
    ),
    "beta of a search": (
        lambda m, X, y, Y: CVDisplay(betas=[-1.0], mean_scores=[1]).plot(),
        "Each of betas must be a positive finite number, got -1.0",
    ),
    "all failed": (
        lambda m, X, y, Y: CVDisplay(betas=[1.0], mean_scores=[np.nan]).plot(),
        "mean_scores must contain a value that is not NaN",
    ),
    "best": (
        lambda m, X, y, Y: CVDisplay(betas=[1.0], mean_scores=[1.0], best_index=3).plot(),
        r"best_index must be in the range \[0, 0\], got 3",
    ),
    "one standard error": (
        lambda m, X, y, Y: CVDisplay(
            betas=[1.0], mean_scores=[1.0], one_standard_error_index=-1
        ).plot(),
        r"one_standard_error_index must be in the range \[0, 0\], got -1",
    ),
    "standard errors": (
        lambda m, X, y, Y: CVDisplay(
            betas=[1.0], mean_scores=[1.0], standard_errors=[0.0, 0.0]
        ).plot(),
        r"standard_errors must have one entry for each of the 1 betas, got shape \(2,\)",
    ),
    "threshold of auto": (
        lambda m, X, y, Y: CVDisplay(betas=[1.0], mean_scores=[1.0], auto_beta=0.0).plot(),
        "auto_beta must be a positive finite number, got 0.0",
    ),
    "coefficient missing": (
        lambda m, X, y, Y: coefficients(lower=V[:3]).plot(),
        r"lower must have one entry for each of the 5 names, got shape \(3,\)",
    ),
    "level": (
        lambda m, X, y, Y: coefficients(level=95).plot(),
        r"level must be in the range \(0, 1\), got 95",
    ),
    "features": (
        lambda m, X, y, Y: coefficients().plot(max_features=0),
        "max_features must be a positive integer, got 0",
    ),
    "order": (
        lambda m, X, y, Y: coefficients().plot(order="size"),
        "order must be 'magnitude' or 'given', got 'size'",
    ),
    "reference": (
        lambda m, X, y, Y: coefficients().plot(reference=np.inf),
        "reference must be a finite number or None, got inf",
    ),
    "groups": (
        lambda m, X, y, Y: CoefficientsDisplay.from_estimator(m, X, y, covariance="CR3"),
        "groups",
    ),
    "influence lengths": (
        lambda m, X, y, Y: influence(outlier=V[:2] > 0).plot(),
        r"leverage and outlier must be vectors .* \(5,\) and \(2,\)",
    ),
    "labels": (
        lambda m, X, y, Y: influence().plot(labelled=-1),
        "labelled must be a non-negative number of rows .* got -1",
    ),
    "labelled positions": (
        lambda m, X, y, Y: residuals().plot(labelled=[5]),
        r"vector of row positions in the range \[0, 4\], got \[5\]",
    ),
    "labelled names": (
        lambda m, X, y, Y: residuals().plot(labelled=["a"]),
        r"labelled must be a non-negative number of rows .* got \['a'\]",
    ),
    "names of rows": (
        lambda m, X, y, Y: residuals(names=["a"]).plot(),
        "names must have one entry for each of the 5 rows, got 1",
    ),
    "names of the map": (
        lambda m, X, y, Y: outlier_map(names=["a"]).plot(),
        "names must have one entry for each of the 5 rows, got 1",
    ),
    "partial residuals": (
        lambda m, X, y, Y: FitDisplay.from_estimator(
            {"a": m, "b": m}, X, y, feature=0, partial_residuals=True
        ),
        "partial_residuals=True requires one estimator, got 2",
    ),
    "four axes": (
        lambda m, X, y, Y: DiagnosticsDisplay.from_estimator(m, X, y, ax=plt.subplots(2)[1]),
        r"ax must be one Axes or an array of 2 × 2 Axes, got shape \(2,\)",
    ),
    "diagnostics without a threshold": (
        lambda m, X, y, Y: DiagnosticsDisplay.from_estimator(
            LinearRegression().fit(X, y), X, y
        ),
        "LinearRegression has no attribute 'beta_'; pass beta",
    ),
    "contours": (
        lambda m, X, y, Y: influence().plot(levels=[0]),
        "Each entry of levels must be a positive finite number, got 0",
    ),
    "influence beta": (
        lambda m, X, y, Y: influence(beta=0).plot(),
        "beta must be a positive finite number, got 0",
    ),
    "influence of other data": (
        lambda m, X, y, Y: InfluenceDisplay.from_estimator(m, X, y[::-1]),
        "not those of the fit",
    ),
    "map lengths": (
        lambda m, X, y, Y: outlier_map(standardized_residuals=V[:2]).plot(),
        r"robust_distances and standardized_residuals must be .* \(5,\) and \(2,\)",
    ),
    "map of matrices": (
        lambda m, X, y, Y: outlier_map(robust_distances=Y, standardized_residuals=Y).quadrants,
        "must be vectors of the same length",
    ),
    "map nan": (
        lambda m, X, y, Y: outlier_map(robust_distances=np.full(5, np.nan)).plot(),
        "Input robust_distances contains NaN",
    ),
    "map cutoff of distances": (
        lambda m, X, y, Y: outlier_map(distance_cutoff=0).plot(),
        "distance_cutoff must be a positive finite number, got 0",
    ),
    "map cutoff of residuals": (
        lambda m, X, y, Y: outlier_map(residual_cutoff=np.inf).quadrants,
        "residual_cutoff must be a positive finite number, got inf",
    ),
    "map markers": (
        lambda m, X, y, Y: outlier_map().plot(max_markers=1.5),
        "max_markers must be a positive integer, got 1.5",
    ),
    "no distances": (
        lambda m, X, y, Y: OutlierMapDisplay.from_estimator(m, X, y),
        "SmoothL1Regressor has no robust distances; pass an MMRegressor",
    ),
    "no distances inside": (
        lambda m, X, y, Y: OutlierMapDisplay.from_estimator(
            MultiOutputRegressor(MMRegressor()).fit(X, Y), X, Y
        ),
        "MultiOutputRegressor has no robust distances; pass an MMRegressor",
    ),
    "no distances of indicators": (
        lambda m, X, y, Y: OutlierMapDisplay.from_estimator(
            MMRegressor().fit(X[["age"]] > 1, y), X[["age"]] > 1, y
        ),
        "robust distances do not exist: more than half of the values of each feature are equal",
    ),
    "quantiles": (
        lambda m, X, y, Y: QQDisplay(y_true=V, y_pred=V, beta=-1).plot(),
        "beta must be a positive finite number, got -1",
    ),
    "no stages": (
        lambda m, X, y, Y: ConvergenceDisplay.from_estimator(LinearRegression().fit(X, y)),
        "LinearRegression has no attribute 'history_'; pass a SmoothL1Regressor",
    ),
    "empty history": (
        lambda m, X, y, Y: ConvergenceDisplay(history=[]).plot(),
        "history must be a list of dicts, .* got no stages",
    ),
    "key": (
        lambda m, X, y, Y: ConvergenceDisplay(history=[{"beta": 1}]).plot(),
        r"got stages without the keys \['algorithms', 'gradient_norm', 'message'\]",
    ),
    "stages of which": (
        lambda m, X, y, Y: ConvergenceDisplay.from_estimator(clone(m).fit(X, Y)),
        "SmoothL1Regressor was fitted to 2 targets; select one with target=0",
    ),
    "two axes": (
        lambda m, X, y, Y: ConvergenceDisplay.from_estimator(m, ax=plt.subplots(3)[1]),
        r"ax must be one Axes or an array of 2 Axes, got shape \(3,\)",
    ),
    "axes without a grid": (
        lambda m, X, y, Y: ConvergenceDisplay.from_estimator(
            m, ax=plt.figure().add_axes((0, 0, 1, 1))
        ),
        "ax must be part of a grid",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_bad_input_is_a_value_error_that_says_what_to_do(case, data, model):
    X, y = data
    call, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        call(model, X, y, np.column_stack([y, y]))


def test_axes_of_another_kind_and_sparse_fits_are_type_errors(data, model):
    with pytest.raises(TypeError, match="ax must be matplotlib Axes or None, got str"):
        residuals().plot(ax="left")
    X = sparse.csr_matrix(V[:, None])
    with pytest.raises(
        TypeError, match=r"X must be dense, got a sparse matrix; .* X.toarray\(\)"
    ):
        FitDisplay.from_estimator(SmoothL1Regressor().fit(X, V), X, V)


@pytest.mark.parametrize("wrap", [clone, make_pipeline, TransformedTargetRegressor])
def test_an_estimator_that_is_not_fitted(data, wrap):
    X, y = data
    unfitted = wrap(SmoothL1Regressor())
    calls = [
        lambda: ResidualsDisplay.from_estimator(unfitted, X, y),
        lambda: WeightsDisplay.from_estimator(unfitted, X, y),
        lambda: FitDisplay.from_estimator(unfitted, X, y, feature=0),
        lambda: FitDisplay.from_estimator({"a": unfitted}, X, y, feature=0),
        lambda: PathDisplay.from_estimator(unfitted, X, y),
        lambda: CVDisplay.from_estimator(unfitted),
        lambda: CoefficientsDisplay.from_estimator(unfitted, X, y),
        lambda: InfluenceDisplay.from_estimator(unfitted, X, y),
        lambda: OutlierMapDisplay.from_estimator(unfitted, X, y),
        lambda: QQDisplay.from_estimator(unfitted, X, y),
        lambda: ScaleLocationDisplay.from_estimator(unfitted, X, y),
        lambda: DiagnosticsDisplay.from_estimator(unfitted, X, y),
        lambda: ConvergenceDisplay.from_estimator(unfitted),
    ]
    for call in calls:
        with pytest.raises(NotFittedError, match="is not fitted yet"):
            call()
    assert plt.get_fignums() == []


def test_without_matplotlib_each_method_says_what_to_install(data, model, monkeypatch):
    X, y = data
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    stages = ConvergenceDisplay(history=model.history_)
    calls = {
        "ResidualsDisplay.from_estimator": lambda m: m(model, X, y),
        "WeightsDisplay.from_predictions": lambda m: m(y, y, beta=1),
        "FitDisplay.from_estimator": lambda m: m(model, X, y, feature=0),
        "PathDisplay.from_estimator": lambda m: m(model, X, y),
        "CVDisplay.from_estimator": lambda m: m(model),
        "ConvergenceDisplay.from_estimator": lambda m: m(model),
        "CoefficientsDisplay.from_estimator": lambda m: m(model, X, y),
        "CoefficientsDisplay.from_table": lambda m: m(None),
        "CoefficientsDisplay.plot": lambda m: m(coefficients()),
        "InfluenceDisplay.from_estimator": lambda m: m(model, X, y),
        "InfluenceDisplay.from_table": lambda m: m(None),
        "InfluenceDisplay.plot": lambda m: m(influence()),
        "OutlierMapDisplay.from_estimator": lambda m: m(model, X, y),
        "OutlierMapDisplay.plot": lambda m: m(outlier_map()),
        "QQDisplay.from_estimator": lambda m: m(model, X, y),
        "ScaleLocationDisplay.from_estimator": lambda m: m(model, X, y),
        "DiagnosticsDisplay.from_estimator": lambda m: m(model, X, y),
        "DiagnosticsDisplay.plot": lambda m: m(None),
        "ResidualsDisplay.plot": lambda m: m(residuals()),
        "FitDisplay.plot": lambda m: m(fits()),
        "PathDisplay.plot": lambda m: m(PathDisplay(betas=[1], coefs=[[1]])),
        "CVDisplay.plot": lambda m: m(CVDisplay(betas=[1], mean_scores=[1])),
        "ConvergenceDisplay.plot": lambda m: m(stages),
    }
    for name, call in calls.items():
        display, method = name.split(".")
        message = f"{name} requires matplotlib. You can install .*pip install matplotlib"
        with pytest.raises(ImportError, match=message):
            call(getattr(getattr(skrobust.displays, display), method))
