"""The metrics: formulas, equality with scikit-learn in limiting cases, accuracy."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize_scalar
from scipy.sparse import csr_array
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.linear_model import LinearRegression
from sklearn.metrics import (
    d2_absolute_error_score,
    make_scorer,
    mean_absolute_error,
    mean_squared_error,
    r2_score,
)
from sklearn.model_selection import cross_val_score

from skrobust.losses import huber, smooth_l1
from skrobust.metrics import d2_smooth_l1_score, mean_huber_loss, mean_smooth_l1_loss

METRICS = [mean_smooth_l1_loss, mean_huber_loss, d2_smooth_l1_score]
D2_OF = d2_smooth_l1_score  # a short name


def threshold(metric, value):
    """Return the threshold as a keyword argument: `delta` for the Huber loss, else `beta`."""
    return {"delta" if metric is mean_huber_loss else "beta": value}


def targets(n_samples=60, n_outputs=None, seed=0):
    """Return heavy-tailed targets, noisy predictions and positive weights."""
    rng = np.random.default_rng(seed)
    shape = n_samples if n_outputs is None else (n_samples, n_outputs)
    y = rng.standard_t(2, size=shape)
    return y, y + rng.normal(scale=0.5, size=shape), rng.uniform(0.1, 2, size=n_samples)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0, 50.0, np.inf])
def test_mean_losses_equal_their_formulas(value):
    y, prediction, weights = targets()
    for metric, loss in [(mean_smooth_l1_loss, smooth_l1), (mean_huber_loss, huber)]:
        losses = loss(y - prediction, value)
        keyword = threshold(metric, value)
        assert_allclose(metric(y, prediction, **keyword), losses.mean(), rtol=1e-14)
        assert_allclose(
            metric(y, prediction, sample_weight=weights, **keyword),
            weights @ losses / weights.sum(),
            rtol=1e-14,
        )


def test_thresholds_are_one_by_default():
    y, prediction, _ = targets()
    for metric in METRICS:
        assert metric(y, prediction) == metric(y, prediction, **threshold(metric, 1))


@pytest.mark.parametrize("beta", [0, 1e-13])
@pytest.mark.parametrize("n_outputs", [None, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_small_threshold_gives_the_absolute_error_metrics(beta, n_outputs, weighted):
    y, prediction, weights = targets(n_outputs=n_outputs)
    keywords = {"sample_weight": weights if weighted else None, "multioutput": "raw_values"}
    assert_allclose(
        mean_smooth_l1_loss(y, prediction, beta=beta, **keywords),
        mean_absolute_error(y, prediction, **keywords),
        rtol=1e-12,
    )
    assert_allclose(
        D2_OF(y, prediction, beta=beta, **keywords),
        d2_absolute_error_score(y, prediction, **keywords),
        rtol=1e-12,
    )


@pytest.mark.parametrize("beta", [1e3, 1e14, 1e300, np.inf])
@pytest.mark.parametrize("n_outputs", [None, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_large_threshold_gives_the_squared_error_metrics(beta, n_outputs, weighted):
    y, prediction, weights = targets(n_outputs=n_outputs)
    keywords = {"sample_weight": weights if weighted else None, "multioutput": "raw_values"}
    assert_allclose(
        mean_huber_loss(y, prediction, delta=beta, **keywords),
        mean_squared_error(y, prediction, **keywords) / 2,
        rtol=1e-12,
    )
    assert_allclose(
        D2_OF(y, prediction, beta=beta, **keywords),
        r2_score(y, prediction, **keywords),
        rtol=1e-12,
    )


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("value", [0.0, 0.2, 1.0, np.inf])
def test_integer_weights_equal_repeated_rows(metric, value):
    y, prediction, _ = targets()
    repeats = np.random.default_rng(1).integers(0, 4, size=len(y))
    keyword = threshold(metric, value)
    assert_allclose(
        metric(y, prediction, sample_weight=repeats, **keyword),
        metric(np.repeat(y, repeats), np.repeat(prediction, repeats), **keyword),
        rtol=1e-13,
    )


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("factor", [1e-310, 1e-9, 0.1, 5e307])
def test_common_factor_of_the_weights_changes_nothing(metric, factor):
    y, prediction, weights = targets()
    weights = np.round(weights, 1) + 1  # up to 3; multiplied by 5e307, their sum overflows
    assert_allclose(
        metric(y, prediction, sample_weight=factor * weights),
        metric(y, prediction, sample_weight=weights),
        rtol=1e-12,
    )


@pytest.mark.parametrize("metric", [mean_smooth_l1_loss, mean_huber_loss])
def test_loss_beyond_the_range_of_floats_is_infinite_without_a_warning(metric):
    assert metric([1e308, 1.0], [-1e308, 1.0]) == np.inf


@pytest.mark.parametrize("metric", METRICS)
def test_row_of_weight_zero_is_ignored_whatever_its_values(metric):
    y, prediction, weights = targets()
    wild = metric(np.r_[y, 1e300], np.r_[prediction, -1e300], sample_weight=np.r_[weights, 0.0])
    assert wild == metric(y, prediction, sample_weight=weights)


@pytest.mark.parametrize("metric", METRICS)
def test_outputs_are_scored_one_by_one_and_averaged_as_asked(metric):
    y, prediction, weights = targets(n_outputs=3)
    raw = metric(y, prediction, sample_weight=weights, multioutput="raw_values")
    single = [
        metric(y[:, j], prediction[:, j], sample_weight=weights) for j in range(y.shape[1])
    ]
    assert_allclose(raw, single, rtol=1e-14)
    mean = metric(y, prediction, sample_weight=weights)
    assert_allclose(mean, raw.mean(), rtol=1e-14)
    average = metric(y, prediction, sample_weight=weights, multioutput=[3, 0, 1])
    assert_allclose(average, (3 * raw[0] + raw[2]) / 4, rtol=1e-14)
    assert type(mean) is type(average) is float


@pytest.mark.parametrize("metric", METRICS)
def test_vector_and_column_are_the_same_targets(metric):
    y, prediction, _ = targets()
    expected = metric(y, prediction)
    assert metric(y[:, None], prediction) == expected
    assert metric(y.tolist(), prediction[:, None]) == expected
    raw = metric(y, prediction, multioutput="raw_values")
    assert_array_equal(raw, [expected])


@pytest.mark.parametrize("metric", METRICS)
def test_float32_and_integer_data_are_compared_in_float64(metric):
    y, prediction, _ = targets()
    y, prediction = (10 * y).astype(np.int32), prediction.astype(np.float32)
    expected = metric(y.astype(np.float64), prediction.astype(np.float64))
    assert metric(y, prediction) == expected


@pytest.mark.parametrize(
    ("metric", "sign"),
    [(mean_smooth_l1_loss, -1), (mean_huber_loss, -1), (d2_smooth_l1_score, 1)],
)
def test_scorer_works_in_cross_validation(metric, sign):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 2))
    y = X @ [1.0, -2.0] + rng.standard_t(2, size=40)
    keyword = threshold(metric, 2.0)
    scorer = make_scorer(metric, greater_is_better=sign > 0, **keyword)
    scores = cross_val_score(LinearRegression(), X, y, scoring=scorer, cv=4)
    first = np.arange(10)
    rest = np.arange(10, 40)
    prediction = LinearRegression().fit(X[rest], y[rest]).predict(X[first])
    assert scores.shape == (4,)
    assert_allclose(scores[0], sign * metric(y[first], prediction, **keyword), rtol=1e-10)


# --- D² ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("relative_beta", [1e-12, 1e-3, 0.5, 2.0, 1e12])
@pytest.mark.parametrize("weighted", [False, True])
def test_null_model_is_the_best_constant(scale, relative_beta, weighted):
    y, _, weights = targets()
    y, beta = scale * y, scale * relative_beta
    weights = weights if weighted else np.ones(len(y))

    def scores(constants):
        # Every column of `targets` is y; each is predicted by one of the constants.
        predictions = np.tile(constants, (len(y), 1))
        targets = np.tile(y[:, None], len(constants))
        keywords = {"sample_weight": weights, "beta": beta, "multioutput": "raw_values"}
        return D2_OF(targets, predictions, **keywords)

    # No constant prediction scores above 0, and the constant that SciPy finds scores 0. Since
    # SciPy's tolerance is absolute, the search uses units in which y is about 1.
    found = minimize_scalar(
        lambda constant: weights @ smooth_l1(y / scale - constant, relative_beta),
        bounds=(y.min() / scale, y.max() / scale),
        options={"xatol": 1e-12},
    )
    best = np.full(len(y), scale * found.x)
    assert_allclose(D2_OF(y, best, sample_weight=weights, beta=beta), 0, atol=1e-9)
    constants = np.r_[np.linspace(y.min(), y.max(), 101), y, y - beta, y + beta]
    assert scores(constants).max() <= 1e-14


def exact_d2(y, prediction, weights, beta):
    """Return D² in rational arithmetic.

    The null model is the zero of the slope of its loss, which is linear between breakpoints.
    """
    y, prediction, weights = (
        [Fraction(float(v)) for v in values] for values in (y, prediction, weights)
    )
    beta = Fraction(float(beta))

    def total(residuals):
        return sum(
            w * (r * r / (2 * beta) if abs(r) < beta else abs(r) - beta / 2)
            for w, r in zip(weights, residuals, strict=True)
        )

    def slope(c):
        return sum(w * max(min(c - v, beta), -beta) for w, v in zip(weights, y, strict=True))

    points = sorted({v + s for v in y for s in (-beta, beta)})
    left, right = next((a, b) for a, b in pairwise(points) if slope(b) >= 0)
    location = right - (right - left) * slope(right) / (slope(right) - slope(left))
    null = total([v - location for v in y])
    return 1 - total([v - p for v, p in zip(y, prediction, strict=True)]) / null


@pytest.mark.parametrize("relative_beta", [1e-30, 1e-16, 1e-12, 1e-3, 0.3, 1, 3, 1e3, 1e12])
@pytest.mark.parametrize("offset", [0.0, 1e9])
@pytest.mark.parametrize("kind", ["continuous", "ties", "one value and outliers"])
def test_score_is_exact_to_rounding(relative_beta, offset, kind):
    rng = np.random.default_rng(0)
    for _ in range(10):
        y = rng.standard_t(1, size=9)
        if kind == "ties":
            y = np.round(y)
        elif kind == "one value and outliers":
            y[:6], y[6:] = 0.7, 1e12 * y[6:]
        y = y + offset
        prediction = y + rng.normal(size=9)
        weights = rng.integers(1, 4, size=9) + rng.choice([0.0, 0.1])
        score = D2_OF(y, prediction, sample_weight=weights, beta=relative_beta)
        exact = float(exact_d2(y, prediction, weights, relative_beta))
        assert_allclose(score, exact, rtol=0, atol=4e-15 * max(1, abs(exact)))


@pytest.mark.parametrize("scale", [1e-310, 1e-300, 1e-9, 1e9, 1e300])
@pytest.mark.parametrize("beta", [0.0, 1e-8, 1.0, 1e8, np.inf])
def test_score_has_no_unit(scale, beta):
    y, prediction, weights = targets()
    # Multiples of 2⁻¹⁰ keep enough digits where floats are subnormal.
    y, prediction = (np.round(v * 1024) / 1024 for v in (y, prediction))
    expected = D2_OF(y, prediction, sample_weight=weights, beta=beta)
    with np.errstate(over="ignore"):
        beta = np.float64(beta) * scale
    scaled = D2_OF(y * scale, prediction * scale, sample_weight=weights, beta=beta)
    assert_allclose(scaled, expected, rtol=1e-7 if scale < 1e-300 else 1e-13)


@pytest.mark.parametrize("beta", [0.0, 1e-3, 1.0, 1e6, np.inf])
def test_score_does_not_see_an_offset(beta):
    y, prediction, weights = targets()
    # Adding 1e9 to multiples of 2⁻²⁰ is exact.
    y, prediction = (np.round(v * 2**20) / 2**20 for v in (y, prediction))
    assert_allclose(
        D2_OF(y + 1e9, prediction + 1e9, sample_weight=weights, beta=beta),
        D2_OF(y, prediction, sample_weight=weights, beta=beta),
        rtol=1e-13,
    )


@pytest.mark.parametrize("beta", [0.0, 0.5, 1e9, np.inf])
@pytest.mark.parametrize("value", [0.0, -3.0, 0.1, 1e300, 1e-310])
def test_constant_targets_score_one_if_perfect_and_zero_otherwise(beta, value):
    y = np.full(5, value)
    assert D2_OF(y, y, beta=beta) == 1.0
    assert D2_OF(y, np.r_[y[1:], 7.0], beta=beta) == 0.0
    assert d2_absolute_error_score(y, np.r_[y[1:], 7.0]) == 0.0  # as in scikit-learn


@pytest.mark.parametrize("multioutput", ["raw_values", "uniform_average"])
def test_fewer_than_two_samples_give_nan_and_a_warning(multioutput):
    with pytest.warns(UndefinedMetricWarning, match="fewer than two samples"):
        assert np.isnan(D2_OF([1.0], [2.0], multioutput=multioutput))
    with pytest.warns(UndefinedMetricWarning, match="fewer than two samples"):
        assert np.isnan(D2_OF([1.0, 2.0], [2.0, 2.0], sample_weight=[1.0, 0.0]))


@pytest.mark.parametrize("beta", [0.0, 1.0, np.inf])
def test_very_wrong_predictions_have_a_negative_score_without_a_warning(beta):
    assert D2_OF([1.0, 2.0, 4.0], [1e308, -1e308, 0.0], beta=beta) < -1e300


# --- Invalid input ----------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("value", [-1.5, np.nan, "a", None, [1.0]])
def test_bad_threshold_is_refused_by_name_and_value(metric, value):
    ((name, _),) = threshold(metric, value).items()
    with pytest.raises(ValueError, match=f"'{name}' parameter") as caught:
        metric([1.0, 2.0], [1.0, 2.0], **{name: value})
    assert f"Got {value!r} instead" in str(caught.value)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"y_true": [1.0, np.nan]}, "Input y_true contains NaN"),
        ({"y_pred": [1.0, np.inf]}, "Input y_pred contains infinity"),
        ({"y_true": 1.0}, "'y_true' parameter"),
        ({"y_pred": csr_array([[1.0], [2.0]])}, "'y_pred' parameter"),
        ({"y_pred": [1.0, 2.0, 3.0]}, r"y_true and y_pred .* shapes \(2, 1\) and \(3, 1\)"),
        ({"y_pred": [[1.0, 2.0]] * 2}, r"y_true and y_pred .* shapes \(2, 1\) and \(2, 2\)"),
        ({"sample_weight": 2.0}, "'sample_weight' parameter"),
        ({"sample_weight": [1.0, np.nan]}, "Input sample_weight contains NaN"),
        ({"sample_weight": [1.0, -2.0]}, "sample_weight must be ≥ 0, got -2.0"),
        ({"sample_weight": [0.0, 0.0]}, "sample_weight must contain at least one positive"),
        ({"sample_weight": [1.0]}, r"sample_weight must have shape \(2,\), got \(1,\)"),
        ({"sample_weight": [[1.0], [1.0]]}, r"sample_weight must have shape \(2,\)"),
        ({"multioutput": "variance_weighted"}, "'multioutput' parameter"),
        ({"multioutput": None}, "'multioutput' parameter"),
        ({"multioutput": [1.0]}, r"if there is only one output, got multioutput=\[1.0\]"),
    ],
)
def test_bad_data_and_options_are_refused_by_name(metric, keywords, message):
    arguments = {"y_true": [1.0, 2.0], "y_pred": [1.5, 2.0]} | keywords
    with pytest.raises(ValueError, match=message):
        metric(**arguments)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], r"multioutput must have shape \(2,\), got \(1,\)"),
        ([1.0, -1.0], "multioutput must be ≥ 0, got -1.0"),
        ([0.0, 0.0], "multioutput must contain at least one positive"),
        ([1.0, np.nan], "Input multioutput contains NaN"),
    ],
)
def test_bad_output_weights_are_refused_by_name(metric, weights, message):
    y, prediction, _ = targets(n_outputs=2)
    with pytest.raises(ValueError, match=message):
        metric(y, prediction, multioutput=weights)
