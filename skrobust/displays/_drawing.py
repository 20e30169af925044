"""Drawing functions of the displays: axes, styles, legends and the selection of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D

# Keyword arguments for a function of matplotlib.
Kwargs: TypeAlias = Mapping[str, Any]

# The colours of Okabe and Ito, which readers with colour vision deficiency can distinguish,
# without their yellow, which is too pale on white. Blue and vermillion, which differ most, come
# first.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
# Lines also differ in markers and dashes, so that no distinction depends on colour alone.
MARKERS = ["o", "s", "^", "D", "v", "P"]
DASHES = ["-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (8, 3))]
# A grey that is visible on light and on dark backgrounds.
GREY = "0.5"

# Marker areas in square points: the total area of all markers, and the bounds for one marker.
TOTAL_MARKER_AREA, MIN_MARKER_AREA, MAX_MARKER_AREA = 5000, 8, 24
# Minimum fraction of the markers that is reserved for rows beyond the threshold.
MIN_BEYOND_FRACTION = 0.25
# One of so many of these markers is placed on the rows with the largest residuals.
MARKERS_PER_EXTREME_ROW = 100


def check_matplotlib(caller: str) -> None:
    """Raise an ImportError with the name of the caller if matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{caller} requires matplotlib. You can install it with `pip install matplotlib`."
        ) from error


def axes(ax: Axes | None, height: float = 4.8) -> Axes:
    """Return the given axes, or those of a new figure that has room for a legend."""
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes

    if ax is None:
        return plt.subplots(figsize=(8, height), layout="constrained")[1]
    if not isinstance(ax, Axes):
        raise TypeError(f"ax must be matplotlib Axes or None, got {type(ax).__name__}.")
    return ax


def scatter(
    ax: Axes, x: ArrayLike, y: ArrayLike, kwargs: Kwargs | None, **defaults: Any
) -> PathCollection:
    """Draw markers; `kwargs` take precedence over the defaults, under any alias."""
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.collections import PathCollection

    normalized = normalize_kwargs(dict(kwargs or {}), PathCollection)
    if "c" in normalized:  # a parameter of `scatter`, which is no alias of "color"
        defaults.pop("color")
    return ax.scatter(x, y, **(defaults | normalized))


def line(
    ax: Axes, x: ArrayLike, y: ArrayLike, kwargs: Kwargs | None, **defaults: Any
) -> Line2D:
    """Draw a line; `kwargs` take precedence over the defaults, under any alias."""
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    return ax.plot(x, y, **(defaults | normalize_kwargs(dict(kwargs or {}), Line2D)))[0]


def line_style(i: int) -> dict[str, Any]:
    """Return colour, marker and dashes of line i; 36 lines differ in markers or dashes."""
    cycle = i // len(COLOURS)
    return {
        "color": COLOURS[i % len(COLOURS)],
        "marker": MARKERS[(i + cycle) % len(MARKERS)],
        "linestyle": DASHES[(i + 2 * cycle) % len(DASHES)],
    }


def legend(ax: Axes, handles: Sequence[Artist] | None = None) -> Legend:
    """Draw a legend of `handles`, or of all labelled artists, to the right of the axes."""
    return ax.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0,
        frameon=False,
    )


def marker_area(n_markers: int) -> float:
    """Return the area of one marker in square points, which decreases with their number."""
    area = TOTAL_MARKER_AREA / max(n_markers, 1)
    return float(np.clip(area, MIN_MARKER_AREA, MAX_MARKER_AREA))


def check_max_markers(max_markers: int) -> int:
    """Return `max_markers` as an int; raise a ValueError unless it is a positive integer."""
    if not isinstance(max_markers, Integral) or int(max_markers) < 1:
        raise ValueError(f"max_markers must be a positive integer, got {max_markers!r}.")
    return int(max_markers)


def sample(rows: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    """Return a random sample of `size` rows, or all rows if there are fewer.

    The seed is fixed, so that repeated calls return the same rows. The rows are not selected
    with a regular stride, because it could coincide with a period of the data.
    """
    if len(rows) <= size:
        return rows
    return np.sort(np.random.default_rng(0).choice(rows, size, replace=False))


def thin(
    abs_residuals: NDArray[np.floating], is_beyond: NDArray[np.bool_], max_markers: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Select at most `max_markers` rows within and beyond the threshold to draw.

    A quarter of the markers is reserved for rows beyond it, or a larger fraction if these are a
    larger fraction of the rows: a few of them are then drawn completely, and many are drawn in
    proportion. If not all of them can be drawn, one in a hundred of their markers shows the
    rows with the largest residuals and the others are a random sample. The largest residuals
    alone would suggest a gap just beyond the threshold.
    """
    within, beyond = np.flatnonzero(~is_beyond), np.flatnonzero(is_beyond)
    beyond_fraction = max(MIN_BEYOND_FRACTION, len(beyond) / len(abs_residuals))
    max_beyond = max(1, round(max_markers * beyond_fraction))
    if len(abs_residuals) > max_markers and len(beyond) > max_beyond:
        n_extreme = -(-max_beyond // MARKERS_PER_EXTREME_ROW)
        by_residual = beyond[np.argsort(abs_residuals[beyond])]
        extreme, moderate = by_residual[-n_extreme:], by_residual[:-n_extreme]
        sampled = sample(moderate, max_beyond - n_extreme)
        beyond = np.sort(np.concatenate([extreme, sampled]))
    return sample(within, max_markers - len(beyond)), beyond


def count_label(n_rows: int, noun: str, n_drawn: int, suffix: str = "") -> str:
    """Return a legend label such as "1,234 rows above", with the number of drawn rows.

    The plural `noun` loses its "s" for a single row. The number of drawn rows is only added if
    not all rows are drawn.
    """
    noun = noun if n_rows != 1 else noun.removesuffix("s")
    label = f"{n_rows:,} {noun}{suffix}"
    return f"{label}\n({n_drawn:,} drawn)" if n_drawn < n_rows else label


def check_positive(value: float, name: str) -> float:
    """Return `value` as a float; raise a ValueError unless it is positive and finite."""
    if not isinstance(value, Real) or not 0 < float(value) < np.inf:
        raise ValueError(f"{name} must be a positive finite number, got {value!r}.")
    return float(value)
