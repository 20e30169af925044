"""Robust regression on real data with wrong targets: python examples/quickstart.py

The data are scikit-learn's diabetes data, with features in their original units. Some training
targets contain errors of kinds that occur in real records. Three regressors are compared by
their prediction errors on a clean holdout set. The script takes about 20 seconds; the figure
that it saves requires matplotlib.
"""

import time
import warnings

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import HuberRegressor, LinearRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits  # a dependency of scikit-learn

from skrobust import SmoothL1Regressor

SEX, BMI, BLOOD_PRESSURE = 1, 2, 3
BETAS = [1, 3, 10, 30, 100, 300, 1000]  # in units of the target, which ranges from 25 to 346
LEAST_SQUARES = "LinearRegression"
HUBER = "HuberRegressor, max_iter=10000"
SMOOTH_L1 = "SmoothL1Regressor, best beta"
# The colours of Okabe and Ito, which colour-blind readers can distinguish.
COLOURS = {LEAST_SQUARES: "#D55E00", HUBER: "#0072B2", SMOOTH_L1: "#009E73"}

ACCURACY = """
   SmoothL1Regressor is as accurate as HuberRegressor with a scaler and enough iterations,
   but requires neither. Both are much more accurate than least squares, because their loss
   is robust. On other data, a search for beta or better features may improve the accuracy
   further; here the default is as accurate as the best beta.
"""
UNITS = """
   Without a scaler HuberRegressor stops before it reaches the minimum and does not warn. The
   results of SmoothL1Regressor do not depend on the unit. Since scikit-learn 1.9,
   LinearRegression neglects singular values of X below 1e-6 times the largest.
"""
SCORES = """
   The validation folds also contain wrong targets. With squared errors (r2, the default
   score) these targets determine the choice of beta. The mean absolute error is less
   sensitive to them.
"""


def corrupt(y, seed):
    """Return corrupted targets, and the indices of the corrupted rows.

    4 % of the targets are multiplied by 10 (decimal error) and 4 % are divided by 100 (wrong
    unit). These percentages and factors were chosen before any result was seen.
    """
    rows = np.random.default_rng(seed).permutation(len(y))[: round(0.08 * len(y))]
    y = y.copy()
    y[rows[::2]] *= 10
    y[rows[1::2]] /= 100
    return y, rows


def pipeline(*steps):
    """Return a pipeline that encodes sex (coded 1 or 2) and then applies the given steps."""
    sex = OneHotEncoder(drop="if_binary"), [SEX]
    return make_pipeline(make_column_transformer(sex, remainder="passthrough"), *steps)


def candidates(beta):
    """Return a dict of the named pipelines to compare; the last has the threshold `beta`."""
    return {
        LEAST_SQUARES: pipeline(LinearRegression()),
        "HuberRegressor, defaults": pipeline(HuberRegressor()),
        HUBER: pipeline(HuberRegressor(max_iter=10_000)),
        "  and a StandardScaler": pipeline(StandardScaler(), HuberRegressor(max_iter=10_000)),
        "SmoothL1Regressor, defaults": pipeline(SmoothL1Regressor()),
        SMOOTH_L1: pipeline(SmoothL1Regressor(beta)),
    }


def fit(model, X, y):
    """Fit a pipeline; return the fit time, iteration count and convergence of its regressor.

    The time is the median of 5 fits, in seconds. Convergence is given as text.

    BLAS is limited to one thread, because this is fastest for few rows.
    """
    features, regressor, times = model[:-1].fit_transform(X), model[-1], []
    with threadpool_limits(1), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(5):
            start = time.perf_counter()
            regressor.fit(features, y)
            times.append(time.perf_counter() - start)
    if not hasattr(regressor, "n_iter_"):
        return np.median(times), "-", "-"
    warned = any(issubclass(w.category, ConvergenceWarning) for w in caught)
    return np.median(times), regressor.n_iter_, "no (warning)" if warned else "yes"


def compare(models, X_train, y_train, X_test, y_test):
    """Fit the models, print a row for each model, and return their errors on clean rows."""
    print(f"   {'model':32}{'error':>7}{'time':>11}{'iterations':>13}   converged")
    errors = {}
    for name, model in models.items():
        seconds, n_iter, converged = fit(model, X_train, y_train)
        errors[name] = model.predict(X_test) - y_test
        figures = f"{np.abs(errors[name]).mean():7.1f}{1e3 * seconds:8.1f} ms{n_iter:>13}"
        print(f"   {name:32}{figures}   {converged}")
    return errors


def search(X, y, scoring, refit=True):
    """Return a fitted GridSearchCV over the thresholds `BETAS`."""
    model, grid = pipeline(SmoothL1Regressor()), {"smoothl1regressor__beta": BETAS}
    return GridSearchCV(model, grid, scoring=scoring, refit=refit).fit(X, y)


def compare_scorings(X, y, n_splits):
    """Print how often each score selects each beta, and the mean error with these betas."""
    chosen = {"neg_mean_absolute_error": [], "r2": []}
    errors = {scoring: [] for scoring in chosen}
    for seed in range(n_splits):
        parts = train_test_split(X, y, test_size=0.3, random_state=seed)
        X_train, X_test, right, y_test = parts
        y_train, _ = corrupt(right, seed)
        scores = search(X_train, y_train, list(chosen), refit=False).cv_results_
        for scoring in chosen:
            beta = BETAS[np.argmax(scores[f"mean_test_{scoring}"])]
            model = pipeline(SmoothL1Regressor(beta)).fit(X_train, y_train)
            chosen[scoring].append(beta)
            errors[scoring].append(np.abs(model.predict(X_test) - y_test).mean())
    print(f"   {'beta':24}" + "".join(f"{b:6}" for b in BETAS) + "   mean error")
    for scoring, betas in chosen.items():
        counts = "".join(f"{betas.count(b) or '.':>6}" for b in BETAS)
        print(f"   {scoring:24}{counts}{np.mean(errors[scoring]):13.1f}")


def draw_fits(axes, models, X, y, wrong):
    """Plot the training rows and the mean predictions against the body mass index."""
    bmi, top = X[:, BMI], 450
    kept = np.setdiff1d(np.arange(len(y)), wrong)
    axes.plot(bmi[kept], y[kept], ".", color="0.7", ms=8, label="correct target")
    above, below = wrong[y[wrong] > top], wrong[y[wrong] <= top]
    axes.plot(bmi[below], y[below], "kx", label="wrong target")
    axes.plot(bmi[above], top + 0 * above, "k^", label=f"wrong target, above {top}")
    ends, is_bmi = [bmi.min(), bmi.max()], np.arange(X.shape[1]) == BMI
    for (name, colour), dashes in zip(COLOURS.items(), ["-", "-", (0, (2, 2))], strict=True):
        line = [models[name].predict(np.where(is_bmi, end, X)).mean() for end in ends]
        axes.plot(ends, line, ls=dashes, lw=3, color=colour, label=name)
    axes.set(xlabel="body mass index", ylabel="disease progression")
    axes.set_title("Training rows and mean predictions")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, frameon=False)


def draw_errors(axes, boxes):
    """Draw a box plot of errors on clean rows for each (name, colour, errors) in `boxes`."""
    for place, (name, colour, errors) in enumerate(boxes):
        label = f"{name}\nmean |error| {np.abs(errors).mean():.1f}"
        shape = {"positions": [-place], "widths": 0.6, "orientation": "horizontal"}
        colours = {"boxprops": {"facecolor": colour}, "medianprops": {"color": "k"}}
        axes.boxplot(errors, tick_labels=[label], patch_artist=True, **shape, **colours)
    axes.axvline(0, color="0.4", lw=1, zorder=0)
    axes.set(xlabel="prediction − target", title="Errors on the clean held-out rows")


def draw(models, X, y, wrong, errors, errors_unit, unharmed):
    """Draw the fits and their errors, and save the figure as quickstart.png."""
    from matplotlib.figure import Figure  # not pyplot, which may need a display

    boxes = [("LinearRegression, correct targets", "0.8", unharmed)]
    for name, colour in COLOURS.items():
        boxes.append((name, colour, errors[name]))
        boxes.append((f"{name}\nblood pressure × 1e6", colour, errors_unit[name]))
    figure = Figure(figsize=(13.5, 6), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_fits(left, models, X, y, wrong)
    draw_errors(right, boxes)
    figure.savefig("quickstart.png", dpi=130)


def main():
    X, y = load_diabetes(return_X_y=True, scaled=False)
    X_train, X_test, right, y_test = train_test_split(X, y, test_size=0.3, random_state=0)
    y_train, wrong = corrupt(right, seed=0)
    print(f"Diabetes data: {len(y_train)} training rows, of which {len(wrong)} have a wrong")
    print(f"target (× 10 or ÷ 100), and {len(y_test)} clean held-out rows.\n")

    print(f"GridSearchCV over {len(BETAS)} values of beta ... ", end="", flush=True)
    start = time.perf_counter()
    found = search(X_train, y_train, scoring="neg_mean_absolute_error")
    beta = found.best_params_["smoothl1regressor__beta"]
    print(f"{time.perf_counter() - start:.1f} s, best beta: {beta}\n")

    print("1. Fits to corrupted targets. Error: mean |prediction - target| on clean rows.\n")
    models = candidates(beta)
    errors = compare(models, X_train, y_train, X_test, y_test)
    unharmed = pipeline(LinearRegression()).fit(X_train, right).predict(X_test) - y_test
    print(f"\n   LinearRegression on the correct targets: {np.abs(unharmed).mean():.1f}.")
    print(ACCURACY)

    print("2. The same with one feature in another unit (blood pressure × 1e6)\n")
    unit = np.where(np.arange(X.shape[1]) == BLOOD_PRESSURE, 1e6, 1.0)
    errors_unit = compare(candidates(beta), X_train * unit, y_train, X_test * unit, y_test)
    print(UNITS)

    print("3. Which score should select beta? 20 random splits, a few seconds ...\n")
    compare_scorings(X, y, n_splits=20)
    print(SCORES)

    try:
        draw(models, X_train, y_train, wrong, errors, errors_unit, unharmed)
        print("The figure is in quickstart.png.")
    except ImportError:
        print('For a figure, run pip install ".[plot]", then run this script again.')


if __name__ == "__main__":
    main()
