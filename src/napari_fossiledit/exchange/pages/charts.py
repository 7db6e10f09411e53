"""Line charts for reports, as PNG."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Points = Sequence[tuple[float, float]]

_SIZE = (7.6, 3.1)
_DPI = 130
# The colours of templates/style.css.
INK, _LINE = "#6f655f", "#ddd5cf"
_COLOURS = ("#8c4a35", "#1f6f8b", "#c98a2b", "#4d7c4a", "#7a5a92", "#2b2522")


def line_chart(
    curves: Mapping[str, Points],
    x: str,
    y: str,
    *,
    logarithmic: bool = False,
    mark: float | None = None,
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
    """

    def draw(figure: Any) -> None:
        axes = figure.add_subplot(xlabel=x, ylabel=y)
        for number, (name, points) in enumerate(curves.items()):
            colour = _COLOURS[number % len(_COLOURS)]
            marker = "o" if len(points) < 12 else ""
            axes.plot(*zip(*points, strict=True), color=colour, marker=marker, ms=4, label=name)
        if mark is not None:
            axes.axvline(mark, color=INK, lw=1, ls="--")
        whole = all(float(point[0]).is_integer() for points in curves.values() for point in points)
        axes.xaxis.get_major_locator().set_params(integer=whole)
        if logarithmic:
            axes.set_yscale("log")
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(_LINE)
        axes.tick_params(colors=INK, labelsize=9)
        axes.grid(color=_LINE, lw=0.6)
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set(color=INK, fontsize=10)
        axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))

    return drawn(draw)


def drawn(draw: Callable[[Any], None]) -> bytes:
    """Return a PNG of what `draw` draws into a figure of matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=_DPI)
    return buffer.getvalue()
