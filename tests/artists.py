"""Functions that read a display's artists, and a stub for a fitted hyperparameter search."""

import numpy as np
from sklearn.base import BaseEstimator


def scatter_of(display):
    """Return the marker positions of all rows, outliers last."""
    parts = [display.scatter_, display.outlier_scatter_]
    return np.vstack([part.get_offsets().data for part in parts])


def legend_of(display):
    return [text.get_text() for text in display.legend_.get_texts()]


def sorted_rows(points):
    return points[np.lexsort(np.transpose(points))]


class Searched(BaseEstimator):
    """A stub for a fitted search, with the given `cv_results_` and other attributes."""

    def __init__(self, results, **attributes):
        vars(self).update(attributes, cv_results_=results)

    def fit(self):
        pass
