"""Robust regression on real data with wrong records: python examples/quickstart.py

Scikit-learn's diabetes data in its original units. Some training targets are corrupted as
happens in real records; three regressors are judged on held-out rows that are clean. It takes
some ten seconds. The picture needs matplotlib.
"""

import time
import warnings

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import HuberRegressor, LinearRegression
from sklearn.metrics import mean_absolute_error
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits  # scikit-learn brings it

from skrobust import SmoothL1Regressor

SEX, BMI, BLOOD_PRESSURE = 1, 2, 3
BETAS = [1, 3, 10, 30, 100, 300, 1000]  # in units of the target, which goes from 25 to 346
LEAST_SQUARES = "LinearRegression"
HUBER = "HuberRegressor, max_iter=10000"
SMOOTH_L1 = "SmoothL1Regressor, best beta"


def corrupt(y, seed):
    """8 % of the targets: half with a slipped digit (× 10), half in another unit (÷ 100).

    This was decided before any result was seen.
    """
    rows = np.random.default_rng(seed).permutation(len(y))[: round(0.08 * len(y))]
    y = y.copy()
    y[rows[::2]] *= 10
    y[rows[1::2]] /= 100
    return y, rows


def pipeline(*steps):
    """Sex is a category, coded as 1 and 2; the other columns stay in their own units."""
    encode = make_column_transformer(
        (OneHotEncoder(drop="if_binary"), [SEX]), remainder="passthrough"
    )
    return make_pipeline(encode, *steps)


def candidates(beta):
    """The pipelines to compare; HuberRegressor's also with what it needs to do well."""
    return {
        LEAST_SQUARES: pipeline(LinearRegression()),
        "HuberRegressor, as it comes": pipeline(HuberRegressor()),
        HUBER: pipeline(HuberRegressor(max_iter=10_000)),
        "  the same after StandardScaler": pipeline(
            StandardScaler(), HuberRegressor(max_iter=10_000)
        ),
        "SmoothL1Regressor, as it comes": pipeline(SmoothL1Regressor()),
        SMOOTH_L1: pipeline(SmoothL1Regressor(beta)),
    }


def fit(model, X, y):
    """Fit; return the last step's time (median of 5), iterations and convergence.

    BLAS is held to one thread, which is fastest for everybody with so few rows.
    """
    features, regressor, times = model[:-1].fit_transform(X), model[-1], []
    with threadpool_limits(1), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(5):
            start = time.perf_counter()
            regressor.fit(features, y)
            times.append(time.perf_counter() - start)
    warned = any(issubclass(w.category, ConvergenceWarning) for w in caught)
    iterates = hasattr(regressor, "n_iter_")
    return (
        f"{1e3 * np.median(times):.1f} ms",
        regressor.n_iter_ if iterates else "-",
        ("no, it warns" if warned else "yes") if iterates else "-",
    )


def compare(models, X_train, y_train, X_test, y_test):
    """Fit the models, print a row for each; return their errors on the clean rows."""
    print(f"   {'model':33}{'error':>7}{'time':>11}{'iterations':>13}   converged")
    errors = {}
    for name, model in models.items():
        seconds, n_iter, converged = fit(model, X_train, y_train)
        errors[name] = model.predict(X_test) - y_test
        error = np.abs(errors[name]).mean()
        print(f"   {name:33}{error:7.1f}{seconds:>11}{n_iter:>13}   {converged}", flush=True)
    return errors


def search(X, y, scoring, refit=True):
    """GridSearchCV over beta."""
    grid = {"smoothl1regressor__beta": BETAS}
    model = pipeline(SmoothL1Regressor())
    return GridSearchCV(model, grid, scoring=scoring, refit=refit).fit(X, y)


def compare_scorings(X, y, n_splits=20):
    """How often each score chooses each beta, and the error that comes of it."""
    chosen = {"neg_mean_absolute_error": [], "r2": []}
    errors = {scoring: [] for scoring in chosen}
    for seed in range(n_splits):
        X_train, X_test, right, y_test = train_test_split(
            X, y, test_size=0.3, random_state=seed
        )
        y_train, _ = corrupt(right, seed)
        results = search(X_train, y_train, list(chosen), refit=False).cv_results_
        for scoring in chosen:
            beta = BETAS[np.argmax(results[f"mean_test_{scoring}"])]
            model = pipeline(SmoothL1Regressor(beta)).fit(X_train, y_train)
            chosen[scoring].append(beta)
            errors[scoring].append(mean_absolute_error(y_test, model.predict(X_test)))
    print(f"   {'times that beta =':25}" + "".join(f"{b:6}" for b in BETAS) + "   mean error")
    for scoring, betas in chosen.items():
        counts = "".join(f"{betas.count(b) or '.':>6}" for b in BETAS)
        print(f"   {scoring:25}{counts}{np.mean(errors[scoring]):13.1f}")


def draw(models, X, y, wrong, boxes):
    """Left: the training rows and what was made of them. Right: errors on clean rows."""
    from matplotlib.figure import Figure  # not pyplot: no window, no display needed

    # Okabe and Ito's colours, told apart by colour-blind readers too.
    colours = {LEAST_SQUARES: "#D55E00", HUBER: "#0072B2", SMOOTH_L1: "#009E73"}
    figure = Figure(figsize=(13, 5.5), layout="constrained")
    left, right = figure.subplots(1, 2)

    top = 450
    above, below = wrong[y[wrong] > top], wrong[y[wrong] <= top]
    kept = np.setdiff1d(np.arange(len(y)), wrong)
    left.scatter(X[kept, BMI], y[kept], s=14, color="0.7", label="right record")
    left.scatter(X[below, BMI], y[below], s=36, color="k", marker="x", label="÷ 100")
    left.scatter(
        X[above, BMI],
        np.full(len(above), top),
        s=36,
        color="k",
        marker="^",
        label="× 10, further up",
    )
    bmi = np.array([X[:, BMI].min(), X[:, BMI].max()])
    for (name, colour), dashes in zip(colours.items(), ["-", "-", (0, (2, 2))], strict=True):
        line = []
        for value in bmi:
            at_value = X.copy()
            at_value[:, BMI] = value
            line.append(models[name].predict(at_value).mean())
        left.plot(bmi, line, ls=dashes, lw=3, color=colour, label=name)
    left.set(xlabel="body mass index", ylabel="disease progression")
    left.set_title("Training rows, and the mean prediction at each body mass index")
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, frameon=False)

    drawn = right.boxplot(
        [errors for _, _, errors in boxes],
        tick_labels=[f"{label}\nerror {np.abs(e).mean():.1f}" for label, _, e in boxes],
        orientation="horizontal",
        patch_artist=True,
        widths=0.6,
        medianprops={"color": "k"},
    )
    for patch, (_, name, _) in zip(drawn["boxes"], boxes, strict=True):
        patch.set_facecolor(colours.get(name, "0.8"))
    right.invert_yaxis()
    right.axvline(0, color="0.4", lw=1, zorder=0)
    right.set(xlabel="prediction - truth", title="Errors on the clean held-out rows")
    figure.savefig("quickstart.png", dpi=130)


def main():
    X, y = load_diabetes(return_X_y=True, scaled=False)
    X_train, X_test, right, y_test = train_test_split(X, y, test_size=0.3, random_state=0)
    y_train, wrong = corrupt(right, seed=0)
    print(f"Diabetes data in its own units: {len(y_train)} rows to train on, {len(wrong)} of")
    print(f"them with a wrong target (× 10 or ÷ 100), {len(y_test)} clean rows to judge by.\n")

    print("First fit, which compiles, once in a process ... ", end="", flush=True)
    start = time.perf_counter()
    SmoothL1Regressor().fit(X_train, y_train)
    print(f"{time.perf_counter() - start:.1f} s")

    print(f"GridSearchCV over {len(BETAS)} values of beta ... ", end="", flush=True)
    start = time.perf_counter()
    found = search(X_train, y_train, scoring="neg_mean_absolute_error")
    beta = found.best_params_["smoothl1regressor__beta"]
    print(f"{time.perf_counter() - start:.1f} s, best beta: {beta}\n")

    print("1. With wrong records. error: mean |prediction - truth| on the clean rows\n")
    models = candidates(beta)
    errors = compare(models, X_train, y_train, X_test, y_test)
    unharmed = pipeline(LinearRegression()).fit(X_train, right).predict(X_test) - y_test
    print(f"\n   With nothing wrong LinearRegression's is {np.abs(unharmed).mean():.1f}.")

    print("\n2. The same with one column in another unit (blood pressure × 1e6)\n")
    unit = np.ones(X.shape[1])
    unit[BLOOD_PRESSURE] = 1e6
    errors_unit = compare(candidates(beta), X_train * unit, y_train, X_test * unit, y_test)
    print("\n   HuberRegressor stops early and does not say so; it needs a scaler before it.")
    print("   LinearRegression takes the smaller columns for rounding errors (tol=1e-6).")

    print(
        "\n3. Why the search had scoring='neg_mean_absolute_error': there are wrong records in"
    )
    print("   the validation folds too. The default, r2, squares their errors, and then they")
    print("   choose beta. 20 random splits, each corrupted anew, take a few seconds ...\n")
    compare_scorings(X, y)

    boxes = [
        ("LinearRegression\nwith nothing wrong", "", unharmed),
        ("LinearRegression", LEAST_SQUARES, errors[LEAST_SQUARES]),
        ("HuberRegressor", HUBER, errors[HUBER]),
        ("HuberRegressor\nblood pressure × 1e6", HUBER, errors_unit[HUBER]),
        ("SmoothL1Regressor", SMOOTH_L1, errors[SMOOTH_L1]),
        ("SmoothL1Regressor\nblood pressure × 1e6", SMOOTH_L1, errors_unit[SMOOTH_L1]),
    ]
    try:
        draw(models, X_train, y_train, wrong, boxes)
        print("\nWhat the wrong records did to each: see the picture quickstart.png.")
    except ImportError:
        print('\nTo get a picture of this too: pip install ".[plot]", and run it again.')


if __name__ == "__main__":
    main()
