"""Time of the first use in a fresh process."""

import subprocess
import sys

_FIRST_FIT = """
import numpy as np
from skrobust import SmoothL1Regressor
rng = np.random.default_rng(0)
X = rng.normal(size=(200, 5))
SmoothL1Regressor().fit(X, X[:, 0])
"""


class Start:
    """Time of the import, and of a process with a first fit, including compilation."""

    def timeraw_import(self):
        return "import skrobust", "import sklearn.linear_model"

    def time_process_to_first_fit(self):
        subprocess.run([sys.executable, "-c", _FIRST_FIT], check=True)

    time_process_to_first_fit.number = 1
    time_process_to_first_fit.repeat = 3
