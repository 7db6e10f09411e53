"""A small plot of curves, drawn by Qt itself: it is there at once and follows the theme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

Point = tuple[float, float]
Span = tuple[float, float]

#: Okabe and Ito's colours, which people with any colour vision can tell apart, on a dark ground.
COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00")
_MARGIN = {"left": 48, "right": 10, "top": 10, "bottom": 54}
_TICKS = 4
_FAINT = 60


@dataclass(frozen=True)
class Curve:
    """A line through points.

    Attributes
    ----------
    name
        What the legend calls it.
    points
        (x, y) in rising order of x.
    dots
        Whether each point is marked.
    """

    name: str
    points: tuple[Point, ...]
    dots: bool = False


def span_of(values: Sequence[float]) -> Span:
    """Lowest and highest value, a little apart where they are the same.

    Examples
    --------
    >>> span_of([1.0, 3.0]), span_of([2.0])
    ((1.0, 3.0), (1.5, 2.5))
    """
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def ticks_of(span: Span, count: int = _TICKS) -> list[float]:
    """Round numbers inside a span, about `count` of them.

    Examples
    --------
    >>> ticks_of((0.0, 1.0))
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    rough = (span[1] - span[0]) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((1, 2, 5, 10), key=lambda n: abs(n * power - rough)) * power
    first, last = math.ceil(span[0] / step - 1e-9), math.floor(span[1] / step + 1e-9)
    return [round(n * step, 10) for n in range(first, last + 1)]


def tick_text(value: float) -> str:
    """Show a number below an axis.

    Examples
    --------
    >>> tick_text(0.25), tick_text(20000.0), tick_text(0.0)
    ('0.25', '20k', '0')
    """
    if value and abs(value) >= 10_000:
        return f"{value / 1000:.4g}k"
    return f"{value:.4g}"


class CurvePlot(QWidget):
    """Curves over one axis.

    Parameters
    ----------
    x_label, y_label
        Names of the axes.
    empty
        What to say while there is no curve.
    """

    def __init__(self, x_label: str, y_label: str, empty: str) -> None:
        super().__init__()
        self.x_label, self.y_label, self.empty = x_label, y_label, empty
        self.curves: tuple[Curve, ...] = ()
        self.marked: float | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMinimumHeight(self.sizeHint().height())
        self.setAccessibleName(f"{y_label} over {x_label}")

    def sizeHint(self) -> QSize:  # noqa: N802
        """Take the width of a dock."""
        return QSize(280, 190)

    def show_curves(self, curves: Sequence[Curve]) -> None:
        """Replace all curves; points that are no numbers are left out."""
        kept = [Curve(c.name, tuple(p for p in c.points if _sound(p)), c.dots) for c in curves]
        self.curves = tuple(c for c in kept if c.points)
        told = (f"{c.name} {c.points[-1][1]:.4g} at {c.points[-1][0]:.4g}" for c in self.curves)
        self.setAccessibleDescription(", ".join(told) or self.empty)
        self.update()

    def mark(self, x: float | None) -> None:
        """Draw an upright line at a place of the axis; None: no line."""
        self.marked = x
        self.update()

    def paintEvent(self, _: QPaintEvent | None) -> None:  # noqa: N802
        """Draw axes, curves and legend."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(self._ink())
        if not self.curves:
            wrap = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter.drawText(QRectF(self.rect()).adjusted(8, 8, -8, -8), int(wrap), self.empty)
            return
        frame = _Frame(self)
        self._draw_axes(painter, frame)
        for index, curve in enumerate(self.curves):
            _draw_curve(painter, frame, curve, colour_of(index))
        self._draw_mark(painter, frame)
        self._draw_legend(painter)

    def _ink(self, alpha: int = 255) -> QColor:
        ink = QColor(self.palette().color(self.foregroundRole()))
        ink.setAlpha(alpha)
        return ink

    def _draw_axes(self, painter: QPainter, frame: _Frame) -> None:
        area, small = frame.area, self.fontMetrics().height()
        for value in ticks_of(frame.x):
            place = QRectF(frame.at((value, 0)).x() - 30, area.bottom() + 2, 60, small)
            painter.drawText(place, int(Qt.AlignmentFlag.AlignHCenter), tick_text(value))
        for value in ticks_of(frame.y):
            height = frame.at((0, value)).y()
            painter.setPen(self._ink(_FAINT))
            painter.drawLine(QPointF(area.left(), height), QPointF(area.right(), height))
            painter.setPen(self._ink())
            place = QRectF(0, height - small / 2, area.left() - 4, small)
            painter.drawText(place, int(Qt.AlignmentFlag.AlignRight), tick_text(value))
        below = QRectF(area.left(), area.bottom() + small, area.width(), small + 2)
        painter.drawText(below, int(Qt.AlignmentFlag.AlignHCenter), self.x_label)

    def _draw_mark(self, painter: QPainter, frame: _Frame) -> None:
        if self.marked is None or not frame.x[0] <= self.marked <= frame.x[1]:
            return
        x = frame.at((self.marked, 0)).x()
        painter.setPen(QPen(self._ink(), 1, Qt.PenStyle.DashLine))
        painter.drawLine(QPointF(x, frame.area.top()), QPointF(x, frame.area.bottom()))

    def _draw_legend(self, painter: QPainter) -> None:
        """Write the names below the axis, each in its colour."""
        metrics, gap = self.fontMetrics(), 12
        widths = [metrics.horizontalAdvance(c.name) for c in self.curves]
        x = max(2.0, (self.width() - sum(widths) - gap * (len(widths) - 1)) / 2)
        for index, (curve, width) in enumerate(zip(self.curves, widths, strict=True)):
            painter.setPen(colour_of(index))
            painter.drawText(QPointF(x, self.height() - metrics.descent() - 2), curve.name)
            x += width + gap


class _Frame:
    """Where the curves of a plot are drawn, and how its values become places."""

    def __init__(self, plot: CurvePlot) -> None:
        room = QRectF(plot.rect())
        edges = (_MARGIN["left"], _MARGIN["top"], -_MARGIN["right"], -_MARGIN["bottom"])
        self.area = room.adjusted(*edges)
        points = [p for curve in plot.curves for p in curve.points]
        self.x = span_of([x for x, _ in points])
        low, high = span_of([y for _, y in points])
        self.y = (low - (high - low) * 0.05, high + (high - low) * 0.05)

    def at(self, point: Point) -> QPointF:
        """Place of a point in the widget."""
        across = (point[0] - self.x[0]) / (self.x[1] - self.x[0])
        up = (point[1] - self.y[0]) / (self.y[1] - self.y[0])
        area = self.area
        return QPointF(area.left() + across * area.width(), area.bottom() - up * area.height())


def colour_of(index: int) -> QColor:
    """Colour of a curve by its place."""
    return QColor(COLOURS[index % len(COLOURS)])


def _draw_curve(painter: QPainter, frame: _Frame, curve: Curve, colour: QColor) -> None:
    places = [frame.at(point) for point in curve.points]
    painter.setPen(QPen(colour, 2))
    painter.drawPolyline(QPolygonF(places))
    if curve.dots or len(places) == 1:
        painter.setBrush(colour)
        for place in places:
            painter.drawEllipse(place, 3, 3)
        painter.setBrush(Qt.BrushStyle.NoBrush)


def _sound(point: Point) -> bool:
    return math.isfinite(point[0]) and math.isfinite(point[1])
