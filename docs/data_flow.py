"""Draw the figure of the data flow in the design notes: python docs/data_flow.py"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

TARGET = Path(__file__).parent / "_static" / "data_flow.png"
# Column, row, title and description of each box.
BOXES = {
    "estimator": (0, 3, "SmoothL1Regressor.fit", "validation → FitSpec"),
    "choose": (0, 2, "choose", "→ Plan"),
    "fit": (0, 1, "fit_stages", "units of y, start, stages"),
    "attributes": (0, 0, "attributes", "StageResult → units of the data"),
    "engine": (1, 3, "Engine", "X: pass, Gram matrix, rows"),
    "linear": (1, 2, "LinearLoss", "F(b, v): loss, penalty, threshold"),
    "whitened": (1, 1, "Whitened", "F(Mθ)"),
    "kernel": (2, 3, "kernel", "one pass over X"),
    "scale": (2, 2, "ScaleEstimator", "threshold of a scale"),
    "solver": (2, 1, "solver", "(objective, start, tol, max_iter)"),
    "solution": (2, 0, "Solution", "evaluation, status, passes"),
}
ARROWS = [
    ("estimator", "engine"),
    ("estimator", "choose"),
    ("choose", "fit"),
    ("engine", "kernel"),
    ("engine", "linear"),
    ("fit", "whitened"),
    ("linear", "whitened"),
    ("whitened", "solver"),
    ("scale", "solver"),
    ("solver", "solution"),
    ("solution", "attributes"),
]
WIDTH, HEIGHT = 2.5, 0.62


def main() -> None:
    """Draw the boxes and the arrows between them."""
    figure, ax = plt.subplots(figsize=(9, 4.2), layout="constrained")
    centres = {name: (3.3 * column, 1.1 * row) for name, (column, row, *_) in BOXES.items()}
    for name, (_, _, title, text) in BOXES.items():
        x, y = centres[name]
        corner = x - WIDTH / 2, y - HEIGHT / 2
        ax.add_patch(plt.Rectangle(corner, WIDTH, HEIGHT, fc="#eef4fa", ec="#0072B2", lw=1.2))
        ax.text(x, y + 0.1, title, ha="center", va="center", fontsize=10, weight="bold")
        ax.text(x, y - 0.15, text, ha="center", va="center", fontsize=8)
    for start, end in ARROWS:
        (x0, y0), (x1, y1) = centres[start], centres[end]
        if x0 == x1:
            ends = (x0, y0 - HEIGHT / 2), (x1, y1 + HEIGHT / 2)
        else:
            side = WIDTH / 2 if x1 > x0 else -WIDTH / 2
            ends = (x0 + side, y0), (x1 - side, y1)
        style = {"arrowstyle": "-|>", "color": "#333333", "lw": 1.2}
        ax.annotate("", xy=ends[1], xytext=ends[0], arrowprops=style)
    ax.set_xlim(-1.4, 8.0)
    ax.set_ylim(-0.45, 3.75)
    ax.axis("off")
    figure.savefig(TARGET, dpi=120, facecolor="white")


if __name__ == "__main__":
    main()
