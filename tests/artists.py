"""Functions that read a display's Matplotlib artists, and a stub for a fitted search."""

import numpy as np
from sklearn.base import BaseEstimator


def scatter_of(display):
    """Return the marker positions of all rows, including the outliers."""
    parts = [display.scatter_, display.outlier_scatter_]
    return np.vstack([part.get_offsets().data for part in parts])


def legend_of(display):
    return [text.get_text() for text in display.legend_.get_texts()]


def sorted_rows(points):
    return points[np.lexsort(np.transpose(points))]


class Searched(BaseEstimator):
    """An estimator with the given `cv_results_` and other fitted attributes."""

    def __init__(self, results, **attributes):
        vars(self).update(attributes, cv_results_=results)

    def fit(self):
        pass
