"""
Non-negative coefficients: a mixture and its spectrum
=====================================================

The spectrum of a mixture is the sum of the spectra of its components, weighted by their
concentrations, which cannot be negative. In this example a few channels of the spectrum contain
spikes, such as those that cosmic rays cause in Raman spectra. The concentrations are estimated
by non-negative least squares and by ``SmoothL1Regressor(positive=True)``, which limits the
influence of the spikes.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LinearRegression

from skrobust import SmoothL1Regressor

rng = np.random.default_rng(0)
channel = np.arange(400)


def band(centre, width):
    return np.exp(-0.5 * ((channel - centre) / width) ** 2)


# %%
# Each of the six reference spectra consists of two bands, and the spectra overlap. Three of the
# components are in the mixture.

centres = [(60, 210), (90, 300), (120, 240), (160, 330), (190, 270), (100, 350)]
references = np.column_stack([band(a, 25) + 0.6 * band(b, 30) for a, b in centres])
concentration = np.array([1.0, 0.0, 0.5, 0.0, 0.8, 0.0])
baseline = 0.3
spectrum = references @ concentration + baseline + rng.normal(scale=0.15, size=400)
spikes = rng.choice(400, size=20, replace=False)
spectrum[spikes] += rng.uniform(1, 6, size=20)

# %%
# With ``positive=True`` no penalty is required. The default threshold is estimated from the
# residuals. The intercept, which is the baseline of the spectrum, is not constrained.

models = {
    "least squares": LinearRegression(positive=True),
    "Smooth L1, not constrained": SmoothL1Regressor(),
    "Smooth L1, positive=True": SmoothL1Regressor(positive=True),
}
print(f"{'true concentrations':28}{concentration}")
for name, model in models.items():
    model.fit(references, spectrum)
    print(f"{name:28}{model.coef_.round(2) + 0.0}")

# %%
# The spikes distort the least-squares estimates: one component that is not in the mixture has a
# positive estimate. Without the constraint, ``SmoothL1Regressor`` estimates a slightly negative
# concentration for an absent component. With the constraint, coefficients at the bound are
# exactly zero.

colors = ["#D55E00", "#56B4E9", "#009E73"]
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
left.plot(channel, spectrum, ".", color="0.6", ms=4, label="spectrum with spikes")
for (name, model), color in zip(models.items(), colors, strict=True):
    if name != "Smooth L1, not constrained":
        left.plot(channel, model.predict(references), color=color, lw=1.5, label=name)
left.set(xlabel="channel", ylabel="intensity", ylim=(0, 4))
left.legend(frameon=False)
place = np.arange(6)
right.bar(place - 0.3, concentration, 0.2, color="black", label="true")
for k, ((name, model), color) in enumerate(zip(models.items(), colors, strict=True)):
    right.bar(place - 0.1 + 0.2 * k, model.coef_, 0.2, color=color, label=name)
right.axhline(0, color="black", lw=0.8)
right.set(xlabel="component", ylabel="concentration", xticks=place, ylim=(-0.2, 1.6))
right.legend(frameon=False)
plt.show()
