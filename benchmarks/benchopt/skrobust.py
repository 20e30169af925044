"""A benchopt solver for https://github.com/benchopt/benchmark_huber_l2.

The file is to be copied to the folder `solvers/` of that benchmark. The benchmark minimises the
objective of HuberRegressor,

    Σ_i [σ + H_ε((y_i − x_i·w − b)/σ) σ] + λ ‖w‖²

over w, b and σ, where H_ε(z) = z² if |z| < ε and 2ε|z| − ε² otherwise. This is 2n times the
objective of ``SmoothL1Regressor(beta=ε, scale="concomitant", loss="huber", alpha=λ/n)``.
"""

import warnings

from benchopt import BaseSolver, safe_import_context

with safe_import_context() as import_ctx:
    import numpy as np
    from sklearn.exceptions import ConvergenceWarning

    from skrobust import SmoothL1Regressor


class Solver(BaseSolver):
    """SmoothL1Regressor, evaluated after increasing numbers of iterations."""

    name = "skrobust"
    sampling_strategy = "iteration"
    install_cmd = "conda"
    requirements = ("pip:skrobust",)
    references = (
        'P. J. Huber and E. M. Ronchetti, "Robust Statistics", 2nd ed., Wiley, 2009, '
        "sections 7.7 and 7.8",
    )

    def set_objective(self, X, y, lmbd, epsilon):
        """Store the data, and compile the kernels outside the measured time."""
        self.X, self.y = X, y
        self.model = SmoothL1Regressor(
            epsilon, scale="concomitant", loss="huber", alpha=lmbd / len(y), tol=0.0
        )
        self.run(1)

    def run(self, n_iter):
        """Fit with at most `n_iter` iterations, at least one."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.model.set_params(max_iter=max(1, n_iter)).fit(self.X, self.y)

    def get_result(self):
        """Return b, σ and w in one vector, as the objective of the benchmark expects."""
        return np.r_[self.model.intercept_, self.model.scale_, self.model.coef_]
