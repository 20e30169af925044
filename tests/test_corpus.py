"""About 140 fits to well-conditioned data, with various parameters, agree with recorded values.

The last digits of sums depend on the versions of BLAS and the compiler. Results of Newton's
method are accurate to within rounding error, those of Anderson acceleration, which is used for
tall data, to within `tol`, and those for float32 data to within float32 precision.
"""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

import corpus
import skrobust

FITS = json.loads(corpus.RECORDED.read_text())
PROBLEMS = {problem[0]: problem for problem in corpus.problems() if problem[0] in FITS}


@pytest.mark.parametrize("name", FITS)
def test_the_fit_is_the_recorded_one(name):
    values = corpus.fitted(skrobust, PROBLEMS[name])
    kind = name.split(" / ")[0]
    rtol = 1e-7 if kind.startswith("tall") or kind == "float32" else 1e-10
    for attribute, expected in FITS[name].items():
        size = np.abs(expected).max()
        if attribute == "intercept":
            # The intercept is a difference of terms as large as y, so its error is measured
            # relative to the size of y.
            size = max(size, np.abs(PROBLEMS[name][2]).max())
        assert_allclose(
            values[attribute], expected, rtol=0, atol=rtol * size, err_msg=attribute
        )
