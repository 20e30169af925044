"""Paths and searches with an L1 penalty, and the default penalty grids."""

import inspect
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNetCV
from sklearn.model_selection import GridSearchCV

from skrobust import SmoothL1Regressor, SmoothL1RegressorCV, smooth_l1_path
from test_elastic_net import MODES, REFERENCE, WEIGHT, X, Y, data, loss_gradient, problem

RESOLUTION = np.finfo(float).resolution
Q = np.array([0.0, 1.0, 2.0, np.inf, 0.5, 1.0])
SCALES = {
    "fixed": {"beta": 1.0, "loss": "huber"},
    "smooth_l1": {"beta": 0.5},
    "mad": {"loss": "huber"},
    "smooth_l1 mad": {},
    "concomitant": {"scale": "concomitant", "loss": "huber"},
    "smooth_l1 concomitant": {"scale": "concomitant", "beta": 1.3},
}
at_every_scale = pytest.mark.parametrize("mode", SCALES.values(), ids=SCALES)
PENALTIES = {
    "lasso": {"l1_ratio": 1.0},
    "elastic net": {"l1_ratio": 0.4},
    "positive": {"l1_ratio": 1.0, "positive": True},
    "weights": {"l1_ratio": 0.7, "penalty_weights": Q},
    "positive weights": {"l1_ratio": 1.0, "positive": True, "penalty_weights": Q},
}
with_every_penalty = pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)


def null_model(X=X, y=Y, weight=None, **parameters):
    """Return the null model, a mask of the penalised features, and the penalty weights."""
    q = parameters.pop("penalty_weights", None)
    q = np.ones(X.shape[1]) if q is None else q
    only_free = np.where(q == 0, 0.0, np.inf)
    model = SmoothL1Regressor(
        **parameters, alpha=1.0, penalty_weights=only_free, tol=1e-12
    ).fit(X, y, sample_weight=weight)
    return model, (q > 0) & np.isfinite(q), q


def largest_penalty(X=X, y=Y, weight=None, **parameters):
    """Return alpha_max, computed from the gradient of the loss at the null model."""
    model, penalised, q = null_model(X, y, weight, **parameters)
    v = loss_gradient(model, X, y, weight)[1:]
    v = np.maximum(v, 0.0) if parameters.get("positive") else np.abs(v)
    return (v[penalised] / (parameters["l1_ratio"] * q[penalised])).max()


# Paths ----------------------------------------------------------------------------------


def assert_points_are_single_fits(path, name, weight=None, **parameters):
    for i, value in enumerate(path.grid):
        model = SmoothL1Regressor(**{**parameters, name: value}, tol=1e-10)
        model.fit(X, Y, sample_weight=weight)
        assert_allclose(path.coefs[:, i], model.coef_, atol=1e-7)
        assert_array_equal(path.coefs[:, i] == 0, model.coef_ == 0)
        assert path.intercepts[i] == pytest.approx(model.intercept_, abs=1e-7)
        assert path.objectives[i] == pytest.approx(model.objective_, rel=1e-9)


@pytest.mark.parametrize("weight", [None, WEIGHT * (np.arange(60) % 9 > 0)], ids=["", "w"])
@with_every_penalty
@at_every_scale
def test_each_point_along_alphas_is_a_single_fit(mode, penalty, weight):
    parameters = {**mode, **penalty}
    path = smooth_l1_path(X, Y, alphas=5, sample_weight=weight, tol=1e-10, **parameters)
    n_nonzero = np.count_nonzero(path.coefs, axis=0)
    assert n_nonzero[0] == ("penalty_weights" in penalty)
    assert n_nonzero[-1] > 1
    assert_points_are_single_fits(path, "alpha", weight, **parameters)


@with_every_penalty
@pytest.mark.parametrize("scale", [None, "mad", "concomitant"])
def test_each_point_along_betas_is_a_single_fit(scale, penalty):
    parameters = {"scale": scale, "loss": "huber", "alpha": 0.1, **penalty}
    path = smooth_l1_path(X, Y, betas=[1.1, 1.345, 2.0, 10.0], tol=1e-10, **parameters)
    assert_points_are_single_fits(path, "beta", **parameters)


@at_every_scale
def test_a_path_may_contain_the_fit_without_a_penalty(mode):
    penalty = {"l1_ratio": 1.0, "penalty_weights": Q}
    path = smooth_l1_path(X, Y, alphas=[0.1, 0.0], tol=1e-10, **mode, **penalty)
    assert_array_equal(path.grid, [0.1, 0.0])
    assert_points_are_single_fits(path, "alpha", **mode, **penalty)


def test_targets_have_sparse_paths_of_their_own():
    targets = np.column_stack([Y, np.roll(Y, 3)])
    options = {"alphas": [0.2, 0.05], "beta": 1.0, "l1_ratio": 1.0}
    path = smooth_l1_path(X, targets, **options)
    for k in range(2):
        alone = smooth_l1_path(X, targets[:, k], **options)
        assert_array_equal(path.coefs[k], alone.coefs)
        assert_array_equal(path.objectives[k], alone.objectives)


# The largest penalty --------------------------------------------------------------------


@pytest.mark.parametrize("index", [i for i, c in enumerate(REFERENCE) if c["alpha_max"]])
def test_the_grid_begins_at_the_penalty_of_the_reference(index):
    case = REFERENCE[index]
    X, y, weight, parameters = problem(case)
    parameters.pop("alpha")
    grid = smooth_l1_path(X, y, alphas=1, sample_weight=weight, **parameters).grid
    assert_allclose(grid, [case["alpha_max"]], rtol=1e-9)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["", "w"])
@with_every_penalty
@at_every_scale
def test_the_largest_penalty_gives_the_null_model(mode, penalty, weight):
    parameters = {**mode, **penalty}
    largest = largest_penalty(weight=weight, **parameters)
    path = smooth_l1_path(X, Y, alphas=3, sample_weight=weight, tol=1e-10, **parameters)
    assert_allclose(path.grid, largest * np.geomspace(1, 1e-3, 3), rtol=1e-9)
    null, penalised, _ = null_model(weight=weight, **parameters)
    for factor in (1 + 1e-9, 3.0, 1e6):
        model = SmoothL1Regressor(**parameters, alpha=factor * largest, tol=1e-12)
        model.fit(X, Y, sample_weight=weight)
        assert_array_equal(model.coef_[penalised], 0.0)
        assert_allclose(model.coef_, null.coef_, atol=1e-7)
        assert model.intercept_ == pytest.approx(null.intercept_, rel=1e-7)
        assert model.scale_ == pytest.approx(null.scale_, rel=1e-7)


@with_every_penalty
@at_every_scale
def test_the_largest_penalty_is_accurate_for_other_types_and_ranges_of_the_features(
    mode, penalty
):
    q = penalty.get("penalty_weights", np.ones(6))

    def grid(X, penalty_weights=q, **parameters):
        options = {**mode, **penalty, "penalty_weights": penalty_weights, **parameters}
        path = smooth_l1_path(X, Y, alphas=1, tol=1e-10, **options)
        assert np.count_nonzero(path.coefs[:, 0]) == np.count_nonzero(q == 0)
        return path.grid

    expected = grid(X)
    rounded = X.astype(np.float32)
    assert_allclose(grid(rounded), grid(rounded.astype(float)), rtol=1e-12)
    # The residuals of the null model inherit the rounding errors of the unpenalised features.
    # With a shift of 1e8, these errors would exceed the tolerance.
    shift = 1e5 if (q == 0).any() else 1e8
    assert_allclose(grid(X + shift), grid((X + shift) - shift), rtol=1e-10)
    constant = np.full(len(Y), 1e13)
    assert_allclose(grid(np.column_stack([X, constant]), np.r_[q, 1.0]), expected, rtol=1e-12)


@with_every_penalty
@at_every_scale
def test_the_largest_penalty_does_not_depend_on_the_number_of_iterations(mode, penalty):
    options = {**mode, **penalty, "alphas": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        few = smooth_l1_path(X, Y, max_iter=1, **options).grid
    assert_array_equal(few, smooth_l1_path(X, Y, **options).grid)


@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
@pytest.mark.parametrize("mode", [m for k, m in SCALES.items() if "mad" not in k])
def test_one_more_coefficient_is_nonzero_just_below_the_largest_penalty(mode, penalty):
    parameters = {**mode, **penalty}
    _, penalised, _ = null_model(**parameters)
    alpha = 0.9999 * largest_penalty(**parameters)
    model = SmoothL1Regressor(**parameters, alpha=alpha, tol=1e-12).fit(X, Y)
    assert np.count_nonzero(model.coef_[penalised]) == 1


@pytest.mark.parametrize("unit", [1e-6, 1e9])
@pytest.mark.parametrize("mode", [{}, {"scale": "concomitant", "loss": "huber"}])
def test_the_grid_does_not_depend_on_the_unit_of_the_target(mode, unit):
    grids = [smooth_l1_path(X, y, alphas=2, l1_ratio=1.0, **mode).grid for y in (Y, unit * Y)]
    assert_allclose(grids[1], grids[0], rtol=1e-9)


def test_the_grid_is_wider_with_fewer_features_than_rows_of_positive_weight():
    wide, y = data(20, 30)
    weight = np.ones(60)
    weight[5:] = 0.0
    for part, target, w, smallest in [
        (X, Y, None, 1e-3),
        (X[:6], Y[:6], None, 1e-3),
        (wide, y, None, 1e-2),
        (X, Y, weight, 1e-2),
    ]:
        path = smooth_l1_path(part, target, alphas=2, beta=1.0, l1_ratio=1, sample_weight=w)
        assert path.grid[1] == pytest.approx(smallest * path.grid[0], rel=1e-12)


def test_the_grid_of_several_targets_begins_at_the_largest_penalty():
    targets = np.column_stack([Y, 0.1 * np.roll(Y, 3), 0.0 * Y])
    options = {"beta": 1.0, "l1_ratio": 1.0, "loss": "huber"}
    grid = smooth_l1_path(X, targets, alphas=2, **options).grid
    single = [largest_penalty(y=y, **options) for y in targets.T[:2]]
    assert single[0] != pytest.approx(single[1])
    assert grid[0] == pytest.approx(max(single), rel=1e-9)


@pytest.mark.parametrize("mode", [{"beta": 1.0}, {}, {"scale": "concomitant"}])
def test_a_constant_target_has_a_grid_of_the_smallest_number(mode):
    path = smooth_l1_path(X, np.full(60, 3.0), alphas=4, l1_ratio=1.0, **mode)
    assert_array_equal(path.grid, RESOLUTION)
    assert_array_equal(path.coefs, 0.0)
    assert_array_equal(path.intercepts, 3.0)


@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.csc_matrix])
@at_every_scale
def test_the_grid_of_sparse_features_is_that_of_dense_ones(mode, kind):
    Z = np.where(np.random.default_rng(0).random(X.shape) < 0.5, X, 0.0)
    options = {"alphas": 3, "l1_ratio": 0.5, "penalty_weights": Q, **mode}
    dense, other = smooth_l1_path(Z, Y, **options), smooth_l1_path(kind(Z), Y, **options)
    assert_allclose(other.grid, dense.grid, rtol=1e-9)
    assert_allclose(other.coefs, dense.coefs, atol=1e-6)


def test_the_limit_of_large_thresholds_has_the_grid_of_the_elastic_net():
    path = smooth_l1_path(X, Y, alphas=7, beta=1e6, loss="huber", l1_ratio=0.5)
    # Before version 1.7 of scikit-learn, the parameter for the number of penalties has another
    # name.
    names = inspect.signature(ElasticNetCV).parameters
    number = "n_alphas" if names["alphas"].default is None else "alphas"
    other = ElasticNetCV(l1_ratio=0.5, cv=2, **{number: 7}).fit(X, Y)
    assert_allclose(path.grid, other.alphas_, rtol=1e-9)


# The search -----------------------------------------------------------------------------


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["", "w"])
@pytest.mark.parametrize("scale", [None, "mad", "concomitant"])
def test_a_search_over_lists_is_that_of_grid_search(scale, weight, positive):
    lists = {"alpha": [0.0, 0.05, 0.2], "beta": [1.2, 3.0], "l1_ratio": [1.0, 0.0, 0.5]}
    shared = {"scale": scale, "loss": "huber", "positive": positive, "penalty_weights": Q}
    metadata = {} if weight is None else {"sample_weight": weight}
    model = SmoothL1RegressorCV(
        lists["beta"], alphas=lists["alpha"], l1_ratio=lists["l1_ratio"], cv=3, **shared
    ).fit(X, Y, **metadata)
    results = model.cv_results_
    ordered = [
        {"beta": beta, "alpha": alpha, "l1_ratio": ratio}
        for ratio in lists["l1_ratio"]
        for alpha in lists["alpha"]
        for beta in lists["beta"]
    ]
    assert results["params"] == ordered
    for name in ("beta", "alpha", "l1_ratio"):
        assert_array_equal(results[f"param_{name}"], [point[name] for point in ordered])
    scores = np.empty((3, len(ordered)))
    folds = np.array_split(np.arange(60), 3)
    for k, test in enumerate(folds):
        train = np.setdiff1d(np.arange(60), test)
        for i, point in enumerate(ordered):
            single = SmoothL1Regressor(**point, **shared)
            single.fit(X[train], Y[train], None if weight is None else weight[train])
            errors = np.abs(Y[test] - single.predict(X[test]))
            scores[k, i] = -np.average(errors, weights=None if weight is None else weight[test])
        assert_allclose(results[f"split{k}_test_score"], scores[k], rtol=1e-6)
    assert model.best_index_ == np.argmax(results["mean_test_score"])
    assert model.best_params_ == ordered[model.best_index_]
    assert model.l1_ratio_ == model.best_params_["l1_ratio"]
    assert model.alpha_ == model.best_params_["alpha"]
    best = SmoothL1Regressor(**model.best_params_, **shared).fit(X, Y, sample_weight=weight)
    assert_array_equal(model.coef_, best.coef_)
    if weight is None:
        search = GridSearchCV(
            SmoothL1Regressor(**shared), lists, cv=3, scoring="neg_mean_absolute_error"
        ).fit(X, Y)
        there = search.cv_results_
        order = [there["params"].index(point) for point in ordered]
        for name in ("split0_test_score", "mean_test_score", "std_test_score"):
            assert_allclose(results[name], there[name][order], rtol=1e-6, atol=1e-7)
        assert search.best_score_ == pytest.approx(model.best_score_, rel=1e-6)


def test_without_a_list_the_results_do_not_name_the_ratio():
    for ratio in (0.0, 0.5, 1):
        model = SmoothL1RegressorCV([1.0], alphas=[0.1, 0.3], l1_ratio=ratio, cv=2).fit(X, Y)
        assert isinstance(model.l1_ratio_, float)
        assert model.l1_ratio_ == ratio
        assert "param_l1_ratio" not in model.cv_results_
        assert set(model.best_params_) == {"beta", "alpha"}
    listed = SmoothL1RegressorCV([1.0], alphas=[0.1, 0.3], l1_ratio=[0.5], cv=2).fit(X, Y)
    assert listed.best_params_["l1_ratio"] == listed.l1_ratio_ == 0.5


def test_the_first_of_equal_points_is_selected():
    # These penalties make all coefficients zero and therefore all scores equal.
    model = SmoothL1RegressorCV([2.0], alphas=[1e6, 1e5], l1_ratio=[0.5, 1.0], cv=2).fit(X, Y)
    assert model.best_index_ == 0
    assert model.best_params_ == {"beta": 2.0, "alpha": 1e6, "l1_ratio": 0.5}


@with_every_penalty
@pytest.mark.parametrize("scale", [None, "mad", "concomitant"])
@pytest.mark.parametrize("loss", ["huber", "smooth_l1"])
def test_each_pair_of_threshold_and_ratio_has_its_own_grid(loss, scale, penalty):
    shared = {"loss": loss, "scale": scale, **penalty}
    shared.pop("l1_ratio")
    betas, ratios, m = [1.2, "auto", 4.0], [1.0, 0.3], 3
    model = SmoothL1RegressorCV(betas, alphas=m, l1_ratio=ratios, cv=2, **shared).fit(X, Y)
    results = model.cv_results_
    assert len(results["params"]) == m * len(betas) * len(ratios)
    for beta in betas:
        for ratio in ratios:
            chosen = (results["param_beta"] == beta) & (results["param_l1_ratio"] == ratio)
            largest = largest_penalty(beta=beta, **shared, l1_ratio=ratio)
            expected = largest * np.geomspace(1, 1e-3, m)
            assert_allclose(results["param_alpha"][chosen], expected, rtol=1e-9)


def test_a_grid_is_computed_from_all_rows_and_used_in_every_fold():
    model = SmoothL1RegressorCV([1.0], alphas=3, l1_ratio=1.0, cv=4).fit(X, Y)
    path = smooth_l1_path(X, Y, alphas=3, beta=1.0, l1_ratio=1.0)
    assert_array_equal(model.cv_results_["param_alpha"], path.grid)


@pytest.mark.parametrize("m", [1, 4, 5])
@pytest.mark.parametrize("shape", [(60, 6), (30, 50)])
def test_numbers_of_betas_and_alphas_use_the_fit_at_the_middle_penalty(shape, m):
    Z, y = data(*shape)
    options = {"loss": "huber", "penalty_weights": np.linspace(0.5, 2, shape[1])}
    with warnings.catch_warnings():
        # Fits that nearly interpolate the data need not converge.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = SmoothL1RegressorCV(3, alphas=m, l1_ratio=[0.5, 1.0], cv=2, **options)
        model.fit(Z, y)
        grid = smooth_l1_path(Z, y, alphas=m, l1_ratio=0.5, **options).grid
        middle = SmoothL1Regressor(alpha=grid[m // 2], l1_ratio=0.5, **options).fit(Z, y)
    betas = np.unique(model.cv_results_["param_beta"])
    assert_allclose(betas, 1.345 * middle.scale_ * np.array([0.1, 1.0, 10.0]), rtol=1e-6)


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_a_search_has_the_attributes_of_the_fit_that_it_selects(mode):
    parameters = {"l1_ratio": 1.0, **mode}
    beta, alpha = parameters.pop("beta", "auto"), parameters.pop("alpha")
    search = SmoothL1RegressorCV([beta], alphas=[alpha], cv=2, **parameters).fit(X, Y)
    model = SmoothL1Regressor(beta, alpha=alpha, **parameters).fit(X, Y)
    assert_array_equal(search.coef_, model.coef_)
    for name in ("intercept_", "objective_", "optimality_", "scale_"):
        assert getattr(search, name) == getattr(model, name)
    assert search.history_[0]["n_active"] == np.count_nonzero(search.coef_)


# Errors and warnings --------------------------------------------------------------------


def fit_path(**parameters):
    return smooth_l1_path(X, Y, **parameters)


def fit_search(**parameters):
    parameters["betas"] = [parameters.pop("beta", "auto")]
    return SmoothL1RegressorCV(cv=2, **parameters).fit(X, Y)


@pytest.mark.parametrize("fit", [fit_path, fit_search])
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"alphas": 3}, "l1_ratio.*no penalty makes all coefficients zero.*pass the penalties"),
        (
            {"alphas": 3, "l1_ratio": 1.0, "penalty_weights": [0, np.inf] * 3},
            "penalty_weights",
        ),
        ({"alphas": 3, "l1_ratio": 1.0, "penalty_weights": np.zeros(6)}, "penalty_weights"),
        (
            {"alphas": 3, "l1_ratio": 1, "penalty_weights": np.full(6, np.inf)},
            "penalty_weights",
        ),
        ({"alphas": 0, "l1_ratio": 1.0}, "alphas"),
        ({"alphas": [0.1, -1.0], "l1_ratio": 1.0}, r"alphas\[1\].*-1\.0"),
        ({"penalty_weights": np.ones(3)}, "^penalty_weights has 3 values"),
        ({"penalty_weights": [1, 1, 1, 1, np.nan, 1]}, r"penalty_weights\[4\].*nan"),
        ({"penalty_weights": [1, -0.5, 1, 1, 1, 1]}, r"penalty_weights\[1\].*-0\.5"),
        ({"penalty_weights": np.ones((6, 1))}, "penalty_weights"),
        ({"penalty_weights": ["a"] * 6}, "penalty_weights"),
        ({"l1_ratio": 1.5}, "l1_ratio"),
        ({"l1_ratio": np.nan}, "l1_ratio"),
        ({"l1_ratio": "0.5"}, "l1_ratio"),
        ({"positive": 2}, "The 'positive' parameter"),
    ],
)
def test_wrong_parameters_are_refused_by_name(fit, parameters, message):
    with pytest.raises((ValueError, TypeError), match=message):
        fit(**{"alphas": [0.1], **parameters})


@pytest.mark.parametrize(
    ("ratios", "message"),
    [
        ([], "l1_ratio must contain at least one value"),
        ([0.5, 1.1], r"l1_ratio\[1\].*1\.1"),
        ([-0.1, 0.5], r"l1_ratio\[0\].*-0\.1"),
        ([0.5, np.nan], r"l1_ratio\[1\].*nan"),
        ([0.5, "1"], r"l1_ratio\[1\].*'1'"),
    ],
)
def test_wrong_lists_of_ratios_are_refused(ratios, message):
    with pytest.raises(ValueError, match=message):
        SmoothL1RegressorCV([1.0], alphas=[0.1], l1_ratio=ratios).fit(X, Y)


def test_a_list_that_contains_ridge_has_no_grid_of_penalties():
    model = SmoothL1RegressorCV([1.0], alphas=3, l1_ratio=[1.0, 0.0])
    with pytest.raises(ValueError, match=r"got l1_ratio=0\.0"):
        model.fit(X, Y)


@pytest.mark.parametrize("mode", [{"beta": 1.0}, {"scale": "concomitant"}, {}])
def test_points_that_do_not_converge_give_one_warning_with_the_gap(mode):
    wide, y = data(30, 60)
    options = {"alphas": [0.1, 0.05], "l1_ratio": 1.0, "max_iter": 2, **mode}
    with pytest.warns(ConvergenceWarning, match=r"duality gap is up to \d") as caught:
        smooth_l1_path(wide, y, **options)
    assert len(caught) == 1
    betas = [options.pop("beta", "auto")]
    with pytest.warns(ConvergenceWarning, match=r"duality gap is up to \d") as caught:
        SmoothL1RegressorCV(betas, cv=2, **options).fit(wide, y)
    assert len(caught) == 1


@pytest.mark.parametrize("seed", [4, 10, 11, 26])
def test_all_coefficients_at_the_largest_penalty_are_zero_with_an_estimated_scale(seed):
    # With the default tolerance for the scale, one coefficient would be small but not zero.
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(30, 6))
    y = X[:, :3].sum(axis=1) + rng.standard_t(2, size=30)
    path = smooth_l1_path(X, y, alphas=2, l1_ratio=1.0, scale="concomitant")
    assert_array_equal(path.coefs[:, 0], 0.0)
    assert path.coefs[:, 1].all()


def test_the_first_point_of_a_default_grid_need_not_reach_a_smaller_tolerance():
    # Because the features are far from zero, rounding errors keep the gap from being much
    # smaller than tol.
    rng = np.random.default_rng(11)
    n, p = int(rng.integers(20, 200)), int(rng.integers(2, 30))
    X = rng.normal(size=(n, p)) * 10.0 ** rng.integers(-3, 4, size=p)
    X += 10.0 ** rng.integers(0, 6, size=p) * rng.integers(0, 2, size=p)
    y = X[:, 0] / X[:, 0].std() + rng.standard_t(2, size=n)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        smooth_l1_path(X, y, alphas=4, l1_ratio=0.9, loss="huber", scale="concomitant")


@pytest.mark.parametrize("l1_ratio", [0.0, 0.5])
def test_huge_penalties_issue_no_warning(l1_ratio):
    model = SmoothL1Regressor(alpha=1e200, l1_ratio=l1_ratio, penalty_weights=Q * 1e200)
    assert_allclose(model.fit(X, Y).coef_[1:3], 0.0, atol=1e-100)


@pytest.mark.parametrize(
    "weights",
    [
        ["1"] * 6,
        np.array(["1"] * 6, dtype=object),
        [10**400] * 6,
        np.array(["2020"] * 6, dtype="M8[Y]"),
    ],
)
def test_penalty_weights_that_are_not_numbers_are_refused(weights):
    with pytest.raises(ValueError, match=r"^penalty_weights must be numbers"):
        SmoothL1Regressor(alpha=1.0, penalty_weights=weights).fit(X, Y)


@pytest.mark.parametrize("name", ["alphas", "betas"])
def test_a_grid_without_a_dimension_is_named(name):
    grid = {name: np.array(3)}
    message = rf"{name} must be an integer or have one dimension, got array\(3\)"
    with pytest.raises(ValueError, match=message):
        smooth_l1_path(X, Y, **grid)
    with pytest.raises(ValueError, match=message):
        SmoothL1RegressorCV(**grid).fit(X, Y)
