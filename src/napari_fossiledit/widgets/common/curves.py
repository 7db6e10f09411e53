"""A small plot of curves that follows the theme of the window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

Point = tuple[float, float]

#: Okabe and Ito's colours, which people with any colour vision can tell apart, on a dark ground.
COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00")
_HEIGHT = 190
_FONT_SIZE = 8
_TICKS = 5
# A slider moves the mark up to sixty times a second, and one drawing takes some 50 ms.
_REDRAW_MS = 200


@dataclass(frozen=True)
class Curve:
    """A line through points.

    Attributes
    ----------
    name
        Its name in the legend.
    points
        (x, y) in rising order of x.
    dots
        Whether each point is marked.
    """

    name: str
    points: tuple[Point, ...]
    dots: bool = False


class CurvePlot(QWidget):
    """Curves over one axis.

    Parameters
    ----------
    x_label, y_label
        Names of the axes.
    empty
        Text to show while there is no curve.

    Attributes
    ----------
    canvas
        Matplotlib's canvas, None before the first curve.
    """

    def __init__(self, x_label: str, y_label: str, empty: str) -> None:
        super().__init__()
        self.x_label, self.y_label, self.empty = x_label, y_label, empty
        self.curves: tuple[Curve, ...] = ()
        self.marked: float | None = None
        self.canvas: Any = None
        self._redraw = QTimer(self)
        self._redraw.setSingleShot(True)
        self._redraw.setInterval(_REDRAW_MS)
        self._redraw.timeout.connect(self._draw)
        self._message = QLabel(empty)
        self._message.setWordWrap(True)
        self._message.setAlignment(Qt.AlignmentFlag.AlignCenter)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._message)
        self.setFixedHeight(_HEIGHT)
        self.setAccessibleName(f"{y_label} over {x_label}")

    def show_curves(self, curves: Sequence[Curve]) -> None:
        """Replace all curves; points that are not finite are left out."""
        finite = (
            Curve(c.name, tuple(p for p in c.points if all(map(math.isfinite, p))), c.dots)
            for c in curves
        )
        self.curves = tuple(curve for curve in finite if curve.points)
        ends = (f"{c.name} {c.points[-1][1]:.4g} at {c.points[-1][0]:.4g}" for c in self.curves)
        self.setAccessibleDescription(", ".join(ends) or self.empty)
        self._draw()

    def mark(self, x: float | None) -> None:
        """Draw an upright line at `x`; None: no line."""
        self.marked = x
        self._draw_soon()

    def changeEvent(self, event: QEvent | None) -> None:  # noqa: N802
        """Draw again in the colours of another theme."""
        super().changeEvent(event)
        if event is not None and event.type() == QEvent.Type.PaletteChange:
            self._draw_soon()

    def _draw_soon(self) -> None:
        if self.curves and not self._redraw.isActive():
            self._redraw.start()

    def _draw(self) -> None:
        self._message.setVisible(not self.curves)
        if self.curves and self.canvas is None:
            self._make_canvas()
        if self.canvas is not None:
            self.canvas.setVisible(bool(self.curves))
        if not self.curves:
            return
        ink = self.palette().color(self.foregroundRole()).name()
        figure = self.canvas.figure
        figure.clear()
        axes = figure.add_subplot()
        for index, curve in enumerate(self.curves):
            marker = "o" if curve.dots or len(curve.points) == 1 else ""
            colour = COLOURS[index % len(COLOURS)]
            x, y = zip(*curve.points, strict=True)
            axes.plot(x, y, color=colour, lw=1.5, marker=marker, ms=4, label=curve.name)
        axes.margins(x=0.02)
        low, high = axes.get_xlim()
        if self.marked is not None and low <= self.marked <= high:
            axes.axvline(self.marked, color=ink, lw=1, ls="--")
        axes.locator_params(nbins=_TICKS, steps=(1, 2, 5, 10))
        axes.tick_params(colors=ink, labelsize=_FONT_SIZE, length=0)
        axes.grid(axis="y", color=ink, alpha=0.25)
        axes.set_frame_on(False)
        axes.set_xlabel(self.x_label, color=ink, fontsize=_FONT_SIZE)
        figure.legend(
            loc="outside lower center",
            ncols=len(self.curves),
            frameon=False,
            fontsize=_FONT_SIZE,
            labelcolor="linecolor",
            markerscale=0,
            handlelength=0,
            handletextpad=0,
            columnspacing=1,
        )
        self.canvas.draw_idle()

    def _make_canvas(self) -> None:
        # Importing matplotlib takes half a second, and most sessions show no curve.
        from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
        from matplotlib.figure import Figure

        self.canvas = FigureCanvasQTAgg(Figure(facecolor="none", layout="constrained"))
        # Matplotlib paints its canvas white; the dock's own background is to shine through.
        self.canvas.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent, on=False)
        self.canvas.setStyleSheet("background: transparent")
        # The canvas swallows the mouse wheel, and the dock would not scroll over it.
        self.canvas.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        layout = self.layout()
        if layout is not None:
            layout.addWidget(self.canvas)
