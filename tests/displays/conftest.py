"""Data and fitted models for the tests of the displays; figures are closed after each test."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skrobust import MMRegressor, SmoothL1Regressor

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def data():
    """Return a dataframe, and a positive target that has a name and outliers."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(120, 3)) * [1, 10, 1e6], columns=["age", "bmi", "dose"])
    y = 50 + X["age"] + X["bmi"] / 5 + X["dose"] / 1e6 * 3 + rng.normal(size=120)
    y.iloc[:12] += 15
    return X, y.rename("price")


@pytest.fixture(scope="session")
def model(data):
    return SmoothL1Regressor().fit(*data)


@pytest.fixture(scope="session")
def mm(data):
    return MMRegressor().fit(*data)


@pytest.fixture(scope="session")
def exact():
    """Return a fit that is exact for most rows, and the data of this fit."""
    X = np.arange(40.0)[:, np.newaxis]
    y = 2 * X[:, 0] + 1
    y[:5] += 10
    with pytest.warns(UserWarning, match="exact for a majority"):
        return MMRegressor().fit(X, y), X, y


@pytest.fixture(scope="session")
def two_targets(data):
    X, y = data
    Y = np.column_stack([y, -2 * y])
    return X, Y, SmoothL1Regressor().fit(X, Y)


@pytest.fixture(scope="session")
def search(data):
    pipeline = make_pipeline(StandardScaler(), SmoothL1Regressor())
    grid = {"smoothl1regressor__beta": [100, 0.1, "auto", 1.0, 10]}
    return GridSearchCV(pipeline, grid, scoring="neg_mean_absolute_error").fit(*data)
