"""What the displays share in drawing: axes, styles, the legend, and which rows get a marker."""

from numbers import Integral, Real

import numpy as np

# Okabe and Ito's colours, which are told apart without colour vision too; their yellow is left
# out, which is too pale on white. Blue and vermillion first, which differ most.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
# Colour is never alone: lines that differ in colour differ in these too.
MARKERS = ["o", "s", "^", "D", "v", "P"]
DASHES = ["-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (8, 3))]
# Neutral on light and on dark backgrounds.
GREY = "0.5"


def check_matplotlib(caller):
    """Raise an ImportError that says what needs matplotlib and how to get it."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{caller} requires matplotlib. You can install it with `pip install matplotlib`."
        ) from error


def axes(ax):
    """The axes given, or those of a new figure that leaves room for a legend at the side."""
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes

    if ax is None:
        return plt.subplots(figsize=(8, 4.8), layout="constrained")[1]
    if not isinstance(ax, Axes):
        raise TypeError(f"ax must be matplotlib Axes or None, got {type(ax).__name__}.")
    return ax


def scatter(ax, x, y, given, **defaults):
    """A scatter with defaults overruled by what is given, under any alias ("c", "color")."""
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.collections import PathCollection

    given = normalize_kwargs(given or {}, PathCollection)
    if "c" in given:  # to matplotlib no alias, but a parameter of its own
        defaults.pop("color")
    return ax.scatter(x, y, **(defaults | given))


def line(ax, x, y, given, **defaults):
    """A line with defaults overruled by what is given."""
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    return ax.plot(x, y, **(defaults | normalize_kwargs(given or {}, Line2D)))[0]


def line_style(i):
    """Colour, marker and dashes of line i; 36 pairs of the last two before one repeats."""
    turn = i // len(COLOURS)
    return {
        "color": COLOURS[i % len(COLOURS)],
        "marker": MARKERS[(i + turn) % len(MARKERS)],
        "linestyle": DASHES[(i + 2 * turn) % len(DASHES)],
    }


def legend(ax, handles=None):
    """The legend, of all that has a label or of the handles given, right of the axes."""
    return ax.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0,
        frameon=False,
    )


def marker_area(n):
    """Large markers for few rows, small ones for many, in square points."""
    return float(np.clip(5000 / max(n, 1), 8, 24))


def check_max_markers(max_markers):
    """A positive integer as an int, or a ValueError."""
    if not isinstance(max_markers, Integral) or int(max_markers) < 1:
        raise ValueError(f"max_markers must be a positive integer, got {max_markers!r}.")
    return int(max_markers)


def sample(rows, size):
    """So many of the rows, or all if there are fewer; the same ones each time.

    At random, since a stride could have the period of the data.
    """
    if len(rows) <= size:
        return rows
    return np.sort(np.random.default_rng(0).choice(rows, size, replace=False))


def thin(distance, outlier, max_markers):
    """Which inliers and which outliers to draw, together at most `max_markers`.

    Outliers get a quarter of the markers, or more if they are more than a quarter of the
    rows, so that few are all drawn and many do not look like even more. If that is not enough
    those at the largest distance are drawn, one for each hundred markers, and a sample of
    the others: the largest alone would leave a gap between the threshold and them.
    """
    inliers, outliers = np.flatnonzero(~outlier), np.flatnonzero(outlier)
    share = len(outliers) / len(distance)
    room = max(1, round(max_markers * max(0.25, share)))
    if len(distance) > max_markers and len(outliers) > room:
        n_far = -(-room // 100)
        by_distance = outliers[np.argsort(distance[outliers])]
        far, others = by_distance[-n_far:], by_distance[:-n_far]
        outliers = np.sort(np.concatenate([far, sample(others, room - n_far)]))
    return sample(inliers, max_markers - len(outliers)), outliers


def count(n, noun, n_drawn, where=""):
    """A legend's "1,234 rows above", and how many of them are drawn if not all."""
    noun = noun if n != 1 else noun.removesuffix("s")
    return f"{n:,} {noun}{where}" + f"\n({n_drawn:,} drawn)" * (n_drawn < n)


def check_positive(value, name):
    """A positive finite number as a float, or a ValueError."""
    if not isinstance(value, Real) or not 0 < float(value) < np.inf:
        raise ValueError(f"{name} must be a positive finite number, got {value!r}.")
    return float(value)
