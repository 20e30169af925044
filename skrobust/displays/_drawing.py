"""Drawing functions shared by the displays: axes, styles, legends and row selection."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
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
    from matplotlib.text import Annotation

    # A single Axes, or several Axes in a list, tuple or array.
    PanelAxes: TypeAlias = Axes | list[Axes] | tuple[Axes, ...] | NDArray[np.object_]
else:
    PanelAxes = Any

# Keyword arguments for a matplotlib function.
Kwargs: TypeAlias = Mapping[str, Any]

# The Okabe-Ito palette without black and without yellow, which is too pale on white. Readers
# with colour vision deficiency can distinguish its colours. Blue and vermillion come first
# because they differ most.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
# Lines also differ in markers and dashes, so no distinction depends on colour alone.
MARKERS = ["o", "s", "^", "D", "v", "P"]
DASHES = ["-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (8, 3))]
# Bars also differ in hatch patterns.
HATCHES = ["", "//", "..", "xx", "\\\\", "--"]
# A grey that is visible on light and on dark backgrounds.
GREY = "0.5"

# Areas in square points: of all markers together, and the minimum and maximum of one marker.
TOTAL_MARKER_AREA, MIN_MARKER_AREA, MAX_MARKER_AREA = 5000, 8, 24
# Minimum fraction of the markers reserved for rows whose absolute residuals exceed the
# threshold.
MIN_BEYOND_FRACTION = 0.25
# If not all rows whose absolute residuals exceed the threshold can be drawn, one in this many
# of their markers shows a row with one of the largest absolute residuals.
MARKERS_PER_EXTREME_ROW = 100
# Default number of labelled rows.
N_LABELLED = 5
# Candidate positions of a row label: horizontal and vertical offsets from the marker in points.
# The first four are next to the marker, the others one or two text lines further away.
LABEL_OFFSETS = [(dx, sign * dy) for dy in (3, 13, 23) for sign in (1, -1) for dx in (5, -5)]
# Candidate positions of a legend within the axes.
CORNERS = ("upper right", "upper left", "lower right", "lower left")
EDGES = ("center right", "center left", "lower center", "upper center")
# Font sizes of a legend within the axes, in the order in which they are tried.
LEGEND_SIZES = (None, "small", "x-small")
# The vertical axis is extended for a legend if the legend height plus LEGEND_MARGIN (in points)
# is less than MAX_LEGEND_HEIGHT times the height of the axes.
MAX_LEGEND_HEIGHT, LEGEND_MARGIN = 0.35, 18


def check_matplotlib(caller: str) -> None:
    """Raise an ImportError with the name of the caller if matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{caller} requires matplotlib. You can install it with `pip install matplotlib`."
        ) from error


def axes(ax: Axes | None, height: float = 4.8) -> Axes:
    """Return the given axes or, if `ax` is None, the axes of a new figure.

    `height` is the height of a new figure in inches.
    """
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes

    if ax is None:
        return plt.subplots(figsize=(6.4, height), layout="constrained")[1]
    if not isinstance(ax, Axes):
        raise TypeError(f"ax must be matplotlib Axes or None, got {type(ax).__name__}.")
    return ax


def panel_axes(
    ax: PanelAxes | None, shape: tuple[int, int], figsize: tuple[float, float]
) -> NDArray[np.object_]:
    """Return a grid of axes.

    If `ax` is None, the axes belong to a new figure. A single Axes is replaced by a grid of new
    axes in the same position. Several Axes are returned as an array with the given shape.
    """
    import matplotlib.pyplot as plt

    if isinstance(ax, (list, tuple, np.ndarray)):
        panels: Any = np.array(ax, dtype=object)
        if panels.shape != shape and panels.shape != shape[shape[0] == 1 :]:
            expected = " × ".join(str(n) for n in shape if n > 1)
            raise ValueError(
                f"ax must be one Axes or an array of {expected} Axes, got shape {panels.shape}."
            )
        for panel in panels.flat:
            axes(panel)
        grid: NDArray[np.object_] = np.reshape(panels, shape)
    elif ax is None:
        figure = plt.figure(figsize=figsize, layout="constrained")
        grid = figure.subplots(*shape, squeeze=False)
    else:
        subplot_spec = axes(ax).get_subplotspec()
        if subplot_spec is None:
            raise ValueError(
                "ax must be part of a grid of subplots, such as the axes that plt.subplots "
                "returns, or an array of Axes."
            )
        ax.set_axis_off()
        grid = subplot_spec.subgridspec(*shape).subplots(squeeze=False)
    return grid


def scatter(
    ax: Axes, x: ArrayLike, y: ArrayLike, kwargs: Kwargs | None, **defaults: Any
) -> PathCollection:
    """Draw and return markers.

    Each entry of `kwargs` overrides the corresponding default, even if its key is an alias such
    as "lw" for "linewidth".
    """
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.collections import PathCollection

    normalized = normalize_kwargs(dict(kwargs or {}), PathCollection)
    if "c" in normalized:  # a parameter of `scatter` that is not an alias of "color"
        defaults.pop("color")
    return ax.scatter(x, y, **(defaults | normalized))


def line(
    ax: Axes, x: ArrayLike, y: ArrayLike, kwargs: Kwargs | None, **defaults: Any
) -> Line2D:
    """Draw and return a line; `kwargs` overrides the defaults, as in `scatter`."""
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    return ax.plot(x, y, **(defaults | normalize_kwargs(dict(kwargs or {}), Line2D)))[0]


def line_style(i: int) -> dict[str, Any]:
    """Return the colour, marker and dashes of line i.

    Any two of the first 36 lines differ in their markers or their dashes.
    """
    cycle = i // len(COLOURS)
    return {
        "color": COLOURS[i % len(COLOURS)],
        "marker": MARKERS[(i + cycle) % len(MARKERS)],
        "linestyle": DASHES[(i + 2 * cycle) % len(DASHES)],
    }


def legend(ax: Axes, handles: Any = None) -> Legend:
    """Draw and return a legend that hides no data.

    It lists the artists in `handles` or, if None, all labelled artists. The legend is placed at
    a corner or edge of the axes where there is space. If there is none, the vertical axis is
    extended to make space above the data. If the extension would be too large even with a
    smaller font, the legend is placed to the right of the axes.
    """
    if handles is None:
        handles = ax.get_legend_handles_labels()[0]
    apply_layout(ax)

    def draw(**style: Any) -> Legend:
        return ax.legend(handles=handles, frameon=False, **style)

    for size in LEGEND_SIZES:
        drawn = _legend_within(ax, partial(draw, fontsize=size), len(handles))
        if drawn is not None:
            return drawn
    return draw(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)


def _legend_within(ax: Axes, draw: Callable[..., Legend], n_handles: int) -> Legend | None:
    """Draw and return a legend within the axes, or return None if there is no space.

    `draw` is a function that draws a legend, given its location and number of columns. The
    vertical axis is extended if necessary.
    """
    for corner in (*CORNERS, *EDGES):
        drawn = draw(loc=corner)
        if _is_free(ax, drawn):
            return drawn
    limits, margin = ax.get_ylim(), LEGEND_MARGIN / 72 * ax.figure.dpi
    for n_columns in range(n_handles, 0, -1):
        drawn = draw(loc="upper center", ncols=n_columns)
        height = (drawn.get_window_extent().height + margin) / ax.bbox.height
        if height < MAX_LEGEND_HEIGHT:
            _extend_upwards(ax, height)
            if _is_free(ax, drawn):
                return drawn
            ax.set_ylim(limits)
    return None


def apply_layout(ax: Axes) -> None:
    """Let matplotlib compute the limits and position of the axes.

    Pixel positions are valid only after this computation.
    """
    ax.get_xlim()  # matplotlib computes the limits of both axes on demand
    figure: Any = ax.get_figure(root=True)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)


def _extend_upwards(ax: Axes, fraction: float) -> None:
    """Extend the vertical axis upwards.

    `fraction` is the added length divided by the new length of the axis.
    """
    transform = ax.yaxis.get_transform()
    low, high = transform.transform(ax.get_ylim())
    end = high + (high - low) * fraction / (1 - fraction)
    ax.set_ylim(top=float(transform.inverted().transform(end)))


def _is_free(ax: Axes, artist: Artist) -> bool:
    """Return whether an artist within the axes hides no other artist, except the background.

    The background consists of the artists with a zorder below 1.
    """
    box = artist.get_window_extent()
    if box.width > ax.bbox.width or box.height > ax.bbox.height:
        return False
    foreground = [each for each in ax.get_children() if each.get_zorder() >= 1]
    points: list[Any] = [np.empty((0, 2))]
    paths: list[Any] = []
    for each in ax.collections:
        if each in foreground and each.get_offset_transform() is ax.transData:  # markers
            points.append(ax.transData.transform(each.get_offsets()))
        elif each in foreground:
            paths += [each.get_transform().transform_path(path) for path in each.get_paths()]
    outlines: list[Any] = [*ax.lines, *ax.patches]
    for outline in outlines:
        if outline in foreground:
            paths.append(outline.get_transform().transform_path(outline.get_path()))
    points += [path.vertices for path in paths]
    return not (
        box.count_contains(np.concatenate(points))
        or any(path.intersects_bbox(box, filled=False) for path in paths)
        or any(box.overlaps(text.get_window_extent()) for text in ax.texts)
    )


def draw_rows(
    ax: Axes,
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    drawn: tuple[NDArray[np.intp], NDArray[np.intp]],
    labels: tuple[str, str],
    kwargs: tuple[Kwargs | None, Kwargs | None],
) -> tuple[PathCollection, PathCollection]:
    """Draw rows as dots or, if their residuals exceed a threshold, as crosses; return both.

    The first entry of each pair is for the dots and the second for the crosses. `drawn` gives
    the positions of the rows to draw, `labels` their legend labels and `kwargs` the keyword
    arguments passed to `scatter`.
    """
    (within, beyond), area = drawn, marker_area(sum(map(len, drawn)))
    dots: dict[str, Any] = {"s": area, "alpha": 0.6, "linewidth": 0.5}
    crosses: dict[str, Any] = {"s": 1.5 * area, "marker": "x", "linewidth": 1}
    return (
        scatter(ax, x[within], y[within], kwargs[0], color=COLOURS[0], label=labels[0], **dots),
        scatter(
            ax, x[beyond], y[beyond], kwargs[1], color=COLOURS[1], label=labels[1], **crosses
        ),
    )


def labelled_rows(
    labelled: int | ArrayLike, extremeness: NDArray[np.floating]
) -> NDArray[np.intp]:
    """Validate the parameter `labelled` and return the positions of the rows to label.

    An integer k selects the k rows with the largest values of `extremeness`.
    """
    if isinstance(labelled, Integral) and labelled >= 0:
        return np.argsort(-extremeness, kind="stable")[: int(labelled)]
    rows, n_rows = np.asarray(labelled), len(extremeness)
    if rows.shape == (0,):
        return rows.astype(np.intp)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or rows.min() < 0 or rows.max() >= n_rows:
        raise ValueError(
            "labelled must be a non-negative number of rows or a vector of row positions in "
            f"the range [0, {n_rows - 1}], got {labelled!r}."
        )
    return np.unique(rows).astype(np.intp)


def row_labels(names: Sequence[Any] | None, rows: NDArray[np.intp]) -> list[str]:
    """Return the names of the given rows as text, or the row numbers if `names` is None.

    The levels of a MultiIndex are separated by commas. A time of 00:00:00 after a date is
    omitted.
    """
    if names is None:
        return [str(row) for row in rows.tolist()]
    # Names in a pandas Series are selected by position, not by index label.
    values = getattr(names, "iloc", names)
    labels = []
    for row in rows.tolist():
        levels = values[row] if isinstance(values[row], tuple) else (values[row],)
        labels.append(
            ", ".join(re.sub(r" 00:00:00(?=$|[+-])", "", str(level)) for level in levels)
        )
    return labels


def label_rows(
    ax: Axes, points: NDArray[np.floating], names: Sequence[str]
) -> list[Annotation]:
    """Label each point where the label has the fewest overlaps, and return the labels.

    The position of each label is chosen from LABEL_OFFSETS. Overlaps with other texts and with
    the edges of the axes count more than overlaps with markers.
    """
    apply_layout(ax)
    labels: list[Annotation] = []
    markers = [np.asarray(each.get_offsets()) for each in ax.collections]
    pixels = ax.transData.transform(np.concatenate([np.empty((0, 2)), *markers]))
    middle = ax.transAxes.transform((0.5, 0.5))[0]
    for point, name in zip(points, names, strict=True):
        texts = [text.get_window_extent() for text in ax.texts]
        towards_middle = -1 if ax.transData.transform(point)[0] > middle else 1
        candidates = []
        for dx, dy in LABEL_OFFSETS:
            label = ax.annotate(
                name,
                point,
                xytext=(towards_middle * dx, dy),
                textcoords="offset points",
                ha="left" if towards_middle * dx > 0 else "right",
                va="bottom" if dy > 0 else "top",
                fontsize="small",
                parse_math=False,
            )
            box = label.get_window_extent()
            is_inside = ax.bbox.contains(*box.p0) and ax.bbox.contains(*box.p1)
            hidden_texts = box.count_overlaps(texts) + (not is_inside)
            hidden = hidden_texts, box.count_contains(pixels)
            candidates.append((hidden, label))
            label.remove()
            if hidden == (0, 0):
                break
        label = min(candidates, key=lambda candidate: candidate[0])[1]
        ax.add_artist(label)
        labels.append(label)
    return labels


def marker_area(n_markers: int) -> float:
    """Return the area of a marker in square points; it decreases as `n_markers` increases."""
    area = TOTAL_MARKER_AREA / max(n_markers, 1)
    return float(np.clip(area, MIN_MARKER_AREA, MAX_MARKER_AREA))


def check_max_markers(max_markers: int) -> int:
    """Return `max_markers` as an int; raise a ValueError unless it is a positive integer."""
    if not isinstance(max_markers, Integral) or int(max_markers) < 1:
        raise ValueError(f"max_markers must be a positive integer, got {max_markers!r}.")
    return int(max_markers)


def check_names(names: Sequence[Any] | None, n_rows: int) -> None:
    """Raise a ValueError unless `names` is None or has one entry for each row."""
    if names is not None and len(names) != n_rows:
        raise ValueError(
            f"names must have one entry for each of the {n_rows} rows, got {len(names)}."
        )


def sample(rows: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    """Return a random sample of `size` rows, or all rows if there are at most `size`.

    The seed is fixed, so repeated calls return the same rows. The rows are not taken at regular
    intervals because these could coincide with a period in the order of the rows.
    """
    if len(rows) <= size:
        return rows
    return np.sort(np.random.default_rng(0).choice(rows, size, replace=False))


def thin(
    abs_residuals: NDArray[np.floating],
    is_beyond: NDArray[np.bool_],
    max_markers: int,
    required: NDArray[np.intp],
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Select the rows to draw; return the positions of those within and beyond the threshold.

    A row is beyond the threshold if its absolute residual exceeds it. At most `max_markers`
    rows are selected, and the rows in `required` are added.

    A quarter of the markers are reserved for rows beyond the threshold, or a larger fraction if
    more than a quarter of all rows are beyond it. If not all rows beyond the threshold can be
    drawn, one in a hundred of their markers shows a row with one of the largest absolute
    residuals, and the others show a random sample of the remaining rows beyond it. If only the
    largest residuals were drawn, there would seem to be no rows just beyond the threshold.
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
    within = sample(within, max_markers - len(beyond))
    return (
        np.union1d(within, required[~is_beyond[required]]),
        np.union1d(beyond, required[is_beyond[required]]),
    )


def count_label(n_rows: int, noun: str, n_drawn: int, suffix: str = "") -> str:
    """Return a legend label such as "1,234 rows above".

    If not all rows are drawn, the number drawn is added on a second line. For a single row, a
    final "s" is removed from `noun`.
    """
    noun = noun if n_rows != 1 else noun.removesuffix("s")
    label = f"{n_rows:,} {noun}{suffix}"
    return f"{label}\n({n_drawn:,} drawn)" if n_drawn < n_rows else label


def check_positive(value: float, name: str) -> float:
    """Return `value` as a float; raise a ValueError unless it is positive and finite."""
    if not isinstance(value, Real) or not 0 < float(value) < np.inf:
        raise ValueError(f"{name} must be a positive finite number, got {value!r}.")
    return float(value)
