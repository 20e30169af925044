"""The artists of a display, and the results of a search without a fit."""

import numpy as np
from sklearn.base import BaseEstimator


def scatter_of(display):
    """Return all markers of a display of rows, of those within the threshold and beyond it."""
    parts = [display.scatter_, display.outlier_scatter_]
    return np.vstack([part.get_offsets().data for part in parts])


def legend_of(display):
    return [text.get_text() for text in display.legend_.get_texts()]


def sorted_rows(points):
    return points[np.lexsort(np.transpose(points))]


class Searched(BaseEstimator):
    """A fitted estimator with results of a search."""

    def __init__(self, results, **attributes):
        vars(self).update(attributes, cv_results_=results)

    def fit(self):
        pass
