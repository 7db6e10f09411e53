"""Charts for reports, as PNG."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.exchange.pages.pictures import specimen_colours

Points = Sequence[tuple[float, float]]

_SIZE = (7.6, 3.1)
_HEIGHTS = (2.6, 6.0)
_DPI = 130
# Values that differ by such a factor crowd at one end of an even scale.
_WIDE = 30
# The colours of templates/style.css.
INK, _LINE, _GREY = "#6f655f", "#ddd5cf", "#bdb3ac"
_COLOURS = ("#8c4a35", "#1f6f8b", "#c98a2b", "#4d7c4a", "#7a5a92", "#2b2522")


def line_chart(
    curves: Mapping[str, Points],
    x: str,
    y: str,
    *,
    logarithmic: bool = False,
    mark: float | None = None,
    bands: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> bytes:
    """Draw curves over one another as a PNG.

    Parameters
    ----------
    curves
        Points (x, y) in rising x, by their names in the legend.
    x, y
        Labels of the axes.
    logarithmic
        Whether y has a logarithmic scale.
    mark
        Place of a vertical line: the value that was chosen.
    bands
        Intervals (low, high) about the points of some curves.
    """
    axes = _axes(_SIZE, xlabel=x, ylabel=y)
    for number, (name, points) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        marker = "o" if len(points) < 12 else ""
        axes.plot(*zip(*points, strict=True), color=colour, marker=marker, ms=4, label=name)
        if bands and name in bands:
            places = [point[0] for point in points]
            axes.fill_between(places, *zip(*bands[name], strict=True), color=colour, alpha=0.15)
    if mark is not None:
        axes.axvline(mark, color=INK, lw=1, ls="--")
    whole = all(float(point[0]).is_integer() for points in curves.values() for point in points)
    axes.xaxis.get_major_locator().set_params(integer=whole)
    if logarithmic:
        axes.set_yscale("log")
    axes.grid(color=_LINE, lw=0.6)
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _png(axes)


def scatter_chart(points: NDArray[np.float64], values: Sequence[str | float | None]) -> bytes:
    """Draw points (n, 2) of a map as a PNG, with a colour for each text or a scale of numbers.

    Parameters
    ----------
    values
        Of each point; None is grey and lies below the others.
    """
    span = np.ptp(points, axis=0)
    # The legend takes a quarter of the width.
    height = 0.75 * _SIZE[0] * span[1] / max(span[0], 1e-9)
    axes = _axes((_SIZE[0], float(np.clip(height, *_HEIGHTS))))
    known = np.array([value is not None for value in values], dtype=bool)
    axes.scatter(*points[~known].T, s=9, color=_GREY, label="none" if (~known).any() else None)
    told = [value for value in values if value is not None]
    if all(isinstance(value, str) for value in told):
        texts, of = np.unique(np.array(told, dtype=str), return_inverse=True)
        count = np.bincount(of, minlength=len(texts))
        for number, colour in enumerate(specimen_colours(len(texts))):
            there = points[known][of == number]
            label = f"{texts[number]} ({count[number]})"
            axes.scatter(*there.T, s=9, color=colour, label=label)
    else:
        shown = axes.scatter(*points[known].T, s=9, c=np.array(told, dtype=float), cmap="viridis")
        axes.figure.colorbar(shown, ax=axes, shrink=0.6)
    # Distances mean something, places along the axes do not.
    axes.set(aspect="equal", xticks=[], yticks=[])
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _png(axes)


def histogram(values: Sequence[float], x: str, y: str) -> bytes:
    """Draw how often values above 0 occur as a PNG, on a logarithmic scale where they differ much.

    Parameters
    ----------
    x, y
        Labels of the axes.
    """
    axes = _axes(_SIZE, xlabel=x, ylabel=y)
    low, high = min(values), max(values)
    bins: Any = min(max(5, round(2 * len(values) ** (1 / 3))), 40)
    if high > _WIDE * low > 0:
        bins = np.geomspace(low, high, bins + 1)
        axes.set_xscale("log")
    axes.hist(values, bins=bins, color=_COLOURS[0], edgecolor="white")
    axes.yaxis.get_major_locator().set_params(integer=True)
    return _png(axes)


def drawn(draw: Callable[[Any], None]) -> bytes:
    """Return a PNG of what `draw` draws into a figure of matplotlib."""
    figure = blank_figure(_SIZE)
    draw(figure)
    return _saved(figure)


def blank_figure(size: tuple[float, float]) -> Any:
    """Return a figure of matplotlib of a size in inches, which needs no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _axes(size: tuple[float, float], **labels: str) -> Any:
    return blank_figure(size).add_subplot(**labels)


def _png(axes: Any) -> bytes:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_LINE)
    axes.tick_params(colors=INK, labelsize=9)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=INK, fontsize=10)
    return _saved(axes.figure)


def _saved(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=_DPI)
    return buffer.getvalue()
