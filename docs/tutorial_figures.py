"""Run the code of docs/tutorial.md and draw its figures: python docs/tutorial_figures.py"""

import doctest
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from skrobust import SmoothL1Regressor
from skrobust.displays import ResidualsDisplay

DOCS = Path(__file__).parent
AIRPORTS = {"JFK": "Kennedy", "LGA": "LaGuardia"}
# Labels of the records that the page discusses: text, offset from the marker in points, and
# horizontal alignment.
LABELS = {
    "2013-02-12 03:00": ("12 February, 03:00: 1,048 mph", (-8, -3), "right"),
    "2013-01-31 06:00": ("31 January, 06:00: storm", (-8, -3), "right"),
    "2013-01-30 20:00": ("30 January, 20:00: calm air?", (-8, -5), "right"),
}


def draw_slopes(page):
    """Return a figure of the slopes with (dot) and without (circle) the impossible record."""
    names = list(page["effects"])[::-1]
    figure, all_axes = plt.subplots(1, 2, figsize=(8, 2.4), sharey=True, layout="constrained")
    for i, (axes, airport) in enumerate(zip(all_axes, AIRPORTS.values(), strict=True)):
        for row, name in enumerate(names):
            dirty, clean = (slopes[i] for slopes in page["effects"][name])
            axes.plot([dirty, clean], [row, row], color="0.6", zorder=1)
            axes.plot(clean, row, "o", ms=11, mfc="white", mec="#0072B2", mew=2)
            axes.plot(dirty, row, "o", ms=5, color="#D55E00")
        axes.set(xlim=(0.33, 0.48), ylim=(-0.6, 2.6))
        axes.set_xlabel(f"slope for {airport} (mph per mph)")
        axes.set_xticks([0.35, 0.4, 0.45])
        axes.set_yticks(range(3), names)
        axes.spines[["top", "right"]].set_visible(False)
    circle, dot = all_axes[0].lines[1:3]
    labels = ["without the impossible record", "all rows"]
    figure.legend([circle, dot], labels, loc="outside upper center", ncols=2, frameon=False)
    return figure


def draw_residuals(page):
    """Return a figure of the residuals, with labels for the records that the page discusses."""
    figure, axes = plt.subplots(figsize=(8, 4.8), layout="constrained")
    ResidualsDisplay.from_estimator(page["model"], page["X"], page["y"], ax=axes, labelled=0)
    for time, (text, shift, ha) in LABELS.items():
        row = page["hours"].loc[time]
        place = (row["fitted"], row["EWR"] - row["fitted"])
        axes.annotate(text, place, shift, textcoords="offset points", ha=ha)
    axes.set(xlabel="fitted wind speed at Newark (mph)", ylabel="residual (mph)")
    return figure


def draw_beta(page):
    """Return a figure of the slopes against β, from median regression to least squares."""
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    betas = np.geomspace(0.1, 1e4, 101)
    models = [page["make_model"](SmoothL1Regressor(beta)) for beta in betas]
    coefs = np.array([m.fit(page["X"], page["y"])[-1].coef_[:2] for m in models])
    styles = zip(AIRPORTS.values(), coefs.T, ("#0072B2", "#D55E00"), ("-", "--"), strict=True)
    for airport, slope, colour, dashes in styles:
        axes.semilogx(betas, slope, color=colour, ls=dashes, lw=2)
        axes.annotate(airport, (betas[0], slope[0] + 0.01), color=colour)
    selected, default = page["search"][-1].beta_, page["regressor"].beta_
    axes.axvline(default, color="0.4", lw=1)
    axes.axvline(selected, color="0.4", lw=1, ls=":")
    axes.annotate(f" default, {default:.1f} mph", (default, 0.31))
    axes.annotate(f"selected, {selected:.1f} mph ", (selected, 0.31), ha="right")
    axes.annotate("least squares", (betas[-1], 0.405), ha="right", color="0.4")
    axes.set(xlabel="β (mph)", ylabel="slope (mph per mph)", ylim=(0.3, 0.47))
    axes.set_yticks([0.3, 0.35, 0.4, 0.45])
    axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    page = {}
    exec(doctest.script_from_examples(text), page)
    for draw in (draw_slopes, draw_residuals, draw_beta):
        name = draw.__name__.replace("draw", "tutorial")
        draw(page).savefig(DOCS / "_static" / f"{name}.png", dpi=150)
