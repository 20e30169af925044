"""Fit small and large data with the installed wheel; to be run outside the checkout."""

import sys
from importlib import metadata
from pathlib import Path

import numpy as np

import skrobust

package = Path(skrobust.__file__).parent
assert package.is_relative_to(sys.prefix), package
assert (package / "py.typed").is_file()
assert metadata.version("skrobust") == skrobust.__version__

rng = np.random.default_rng(0)
coef = np.array([1.0, -2.0, 3.0])
# The small data are fitted with NumPy, the large data with compiled kernels.
for n_samples in [200, 20_000]:
    X = rng.normal(size=(n_samples, 3))
    y = X @ coef + rng.normal(size=n_samples)
    y[::20] += 1e3
    model = skrobust.SmoothL1Regressor().fit(X, y)
    assert np.abs(model.coef_ - coef).max() < 0.5, model.coef_
    print(f"{n_samples} rows: {model.coef_.round(2)}")
print(f"skrobust {skrobust.__version__} from {package}")
