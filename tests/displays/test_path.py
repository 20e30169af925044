"""PathDisplay: coefficients as functions of the threshold."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from artists import legend_of
from skrobust import SmoothL1Regressor, smooth_l1_path
from skrobust.displays import PathDisplay


def test_a_path_is_the_coefficients_of_fits_along_beta(data, model):
    X, y = data
    betas = [0.1, 5.0, 1.0]
    display = PathDisplay.from_estimator(model, X, y, betas=betas)
    ordered = np.sort(betas)
    coefs = np.transpose([SmoothL1Regressor(b).fit(X, y).coef_ for b in ordered])
    for j, line in enumerate(display.lines_):
        assert_array_equal(line.get_xdata(), ordered)
        assert_allclose(line.get_ydata(), coefs[j] * X.iloc[:, j].std(ddof=0), rtol=1e-6)
    assert set(legend_of(display)[:-1]) == set(X.columns)
    assert legend_of(display)[-1] == f"β = {model.beta_:.4g}"
    assert display.beta_line_.get_xdata()[0] == model.beta_
    assert display.ax_.get_xscale() == "log"
    raw = PathDisplay.from_estimator(model, X, y, betas=betas, standardize=False)
    assert_allclose(raw.lines_[2].get_ydata(), coefs[2], rtol=1e-6)
    assert raw.ax_.get_ylabel() == "Coefficient"


def test_the_estimator_of_a_path_is_not_changed(data):
    X, y = data
    fitted = SmoothL1Regressor(2.0).fit(X, y)
    before = fitted.coef_.copy(), fitted.get_params()
    PathDisplay.from_estimator(fitted, X, y, betas=3)
    assert_array_equal(fitted.coef_, before[0])
    assert fitted.get_params() == before[1]


@pytest.mark.parametrize(
    ("scale", "label"),
    [
        (None, "β"),
        ("mad", "β, in normalised MADs of the residuals"),
        ("concomitant", "β, in concomitant scales of the residuals"),
    ],
)
def test_a_number_of_betas_is_the_default_grid_of_the_path(data, scale, label):
    X, y = data
    fitted = SmoothL1Regressor(2.0, scale=scale).fit(X, y)
    display = PathDisplay.from_estimator(fitted, X, y, betas=5)
    x = display.lines_[0].get_xdata()
    assert len(x) == 5
    assert_allclose(x, smooth_l1_path(X, y, betas=5, scale=scale).grid[::-1])
    assert x[0] < 2.0 < x[-1]
    assert_allclose(display.beta_line_.get_xdata(), 2.0)
    assert display.ax_.get_xlabel() == label


def test_a_path_of_an_exact_fit_has_a_default_grid(data):
    X, y = data[0], 0 * data[1]
    display = PathDisplay.from_estimator(SmoothL1Regressor().fit(X, y), X, y, betas=3)
    for line in display.lines_:
        assert_array_equal(line.get_ydata(), np.zeros(3))


def test_weights_of_rows_enter_the_path(data, model):
    X, y = data
    weight = np.arange(len(y)) % 3
    display = PathDisplay.from_estimator(
        model, X, y, betas=[1.0], sample_weight=weight, standardize=False
    )
    expected = SmoothL1Regressor(1.0).fit(X, y, weight).coef_
    assert_allclose([line.get_ydata()[0] for line in display.lines_], expected, rtol=1e-6)


def test_a_path_behind_transformers(data):
    X, y = data
    inner = make_pipeline(StandardScaler(), SmoothL1Regressor())
    wrapped = TransformedTargetRegressor(inner, func=np.log, inverse_func=np.exp).fit(X, y)
    display = PathDisplay.from_estimator(wrapped, X, y, betas=[0.1])
    direct = SmoothL1Regressor(0.1).fit(StandardScaler().fit_transform(X), np.log(y))
    assert_allclose([line.get_ydata()[0] for line in display.lines_], direct.coef_, rtol=1e-6)
    assert set(legend_of(display)[:-1]) == set(X.columns)


def test_a_path_over_sparse_features(data):
    X, y = sparse.csr_matrix(data[0].to_numpy()), data[1]
    display = PathDisplay.from_estimator(SmoothL1Regressor().fit(X, y), X, y, betas=[1.0])
    expected = SmoothL1Regressor(1.0).fit(X, y).coef_ * data[0].std(ddof=0).to_numpy()
    assert_allclose([line.get_ydata()[0] for line in display.lines_], expected, rtol=1e-6)


def test_a_path_along_the_penalty_shows_the_numbers_of_nonzero_coefficients(data):
    X, y = data
    model = SmoothL1Regressor(loss="huber", alpha=0.1, l1_ratio=0.8).fit(X, y)
    display = PathDisplay.from_estimator(model, X, y, alphas=8, standardize=False)
    path = smooth_l1_path(X, y, alphas=8, loss="huber", l1_ratio=0.8)
    assert_allclose(display.betas, path.grid)
    assert_allclose(display.coefs, path.coefs)
    assert display.ax_.get_xlabel() == "α"
    assert display.beta_line_.get_label() == "α = 0.1"
    labels = [text.get_text() for text in display.count_axis_.get_xticklabels()]
    assert labels[-1] == "0"
    assert labels[0] == str(np.count_nonzero(path.coefs[:, -1]))
    along_beta = PathDisplay.from_estimator(model, X, y, betas=[1.0, 2.0], standardize=False)
    path = smooth_l1_path(X, y, betas=[1.0, 2.0], loss="huber", alpha=0.1, l1_ratio=0.8)
    assert_allclose(along_beta.coefs, path.coefs)
    dense = PathDisplay.from_estimator(SmoothL1Regressor().fit(X, y), X, y, betas=[1.0, 2.0])
    assert dense.count_axis_ is None


@pytest.mark.parametrize("alphas", [[0.1, 0.0], [], [-1.0], "a"])
def test_penalties_that_a_logarithmic_axis_cannot_show_are_refused_by_name(data, alphas):
    model = SmoothL1Regressor(loss="huber", alpha=0.1, l1_ratio=0.8).fit(*data)
    with pytest.raises(ValueError, match=r"alphas must be .* positive"):
        PathDisplay.from_estimator(model, *data, alphas=alphas)


def test_features_without_names_are_numbered(data):
    X, y = data
    nameless = make_pipeline(FunctionTransformer(np.asarray), SmoothL1Regressor()).fit(X, y)
    display = PathDisplay.from_estimator(nameless, X, y, betas=[1.0])
    assert set(legend_of(display)[:-1]) == {"x0", "x1", "x2"}


def test_the_legend_of_a_path_goes_down_as_its_lines_end():
    coefs = [[0, -1.0], [0, 3.0], [0, 2.0]]
    display = PathDisplay(betas=[1, 2], coefs=coefs, feature_names=list("abc")).plot()
    assert legend_of(display) == ["b", "c", "a"]
    assert display.beta_line_ is None


def test_the_largest_of_many_features_have_distinct_styles():
    coefs = np.outer(np.arange(1.0, 41), [1, 2])
    display = PathDisplay(betas=[1, 2], coefs=coefs).plot(n_labelled=3)
    assert legend_of(display) == ["x39", "x38", "x37", "37 others"]
    assert len(display.lines_) == 40
    assert {line.get_color() for line in display.lines_[:37]} == {"0.5"}
    assert len({line.get_color() for line in display.lines_[37:]}) == 3


def test_names_of_features_may_be_given(data):
    X, y = data
    model = SmoothL1Regressor().fit(X, y)
    names = ["age in years", "body mass index", "dose"]
    display = PathDisplay.from_estimator(model, X, y, betas=[1.0], feature_names=names)
    assert set(legend_of(display)[:-1]) == set(names)
    with pytest.raises(ValueError, match="feature_names must have one entry for each of the 3"):
        PathDisplay.from_estimator(model, X, y, betas=[1.0], feature_names=names[:2])
