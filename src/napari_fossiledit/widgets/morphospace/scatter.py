"""Points in a plane that are chosen with the mouse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import (
    QColor,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPixmap,
    QPolygonF,
)
from qtpy.QtWidgets import QSizePolicy, QWidget

Rows = NDArray[np.intp]

# In pixels: a point, the room around all of them, how near a click has to be, and how far a mouse
# moves that only clicks.
_POINT, _MARGIN, _NEAR, _STILL = 7.0, 12, 12.0, 4.0
_STAMP = 9
_LEAST, _RATIO = 220, 0.8
# Opacity of points that are not chosen: while others are, and else.
_PALE, _FULL = 0.25, 0.85


class Scatter(QWidget):
    """A point for each item; a drag around points chooses them.

    Points are painted once into a picture; what moves with the mouse is painted over it.

    Signals
    -------
    lassoed(object)
        Rows (n,) of the points that were drawn around, and with Shift those chosen before; none
        after Escape, or a click beside all points.
    clicked(int)
        The row of the point that was clicked.
    hovered(int)
        The row of the point under the mouse, -1 where there is none.
    """

    lassoed = Signal(object)
    clicked = Signal(int)
    hovered = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.places = np.zeros((0, 2))
        self.chosen = np.zeros(0, np.bool_)
        self._kinds: Rows = np.zeros(0, np.intp)
        self._palette: Sequence[QColor] = ()
        self._ring = self._under = -1
        self._lasso = QPolygonF()
        self._picture: QPixmap | None = None
        self._shown: tuple[QImage | None, str] = (None, "")
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self.setMinimumHeight(_LEAST)

    def heightForWidth(self, width: int) -> int:  # noqa: N802
        """Return the height of the map in a wider or narrower page."""
        return max(_LEAST, round(width * _RATIO))

    def sizeHint(self) -> QSize:  # noqa: N802
        """Return the size in the narrowest page."""
        return QSize(300, self.heightForWidth(300))

    def show_points(self, places: NDArray[np.floating[Any]]) -> None:
        """Show points at places (n, 2), all in one colour; none of them is chosen."""
        self.places = np.asarray(places, np.float64)
        self.chosen = np.zeros(len(places), np.bool_)
        self._ring = self._under = -1
        self.colour(np.zeros(len(places), np.intp), [QColor("grey")])

    def colour(self, kinds: Rows, palette: Sequence[QColor]) -> None:
        """Paint the points in other colours: `kinds` (n,) are indices of the palette."""
        self._kinds, self._palette, self._picture = kinds, palette, None
        self.update()

    def choose(self, rows: Rows) -> None:
        """Show these points as chosen, the others pale; none: all as they are."""
        self.chosen[:] = False
        self.chosen[rows] = True
        self._picture = None
        self.update()

    def ring(self, row: int) -> None:
        """Draw a ring around a point; -1: around none."""
        self._ring = row
        self.update()

    def tell(self, picture: QImage | None, text: str) -> None:
        """Show a picture and a line of text at the point under the mouse."""
        self._shown = picture, text
        self.update()

    def on_screen(self) -> NDArray[np.float64]:
        """Return where the points are painted, (n, 2) as (x, y) in pixels of the widget."""
        if not len(self.places):
            return self.places
        low, high = self.places.min(axis=0), self.places.max(axis=0)
        size = np.array([self.width(), self.height()], np.float64)
        # One scale for both: distances on the map mean something.
        scale = float(((size - 2 * _MARGIN) / np.maximum(high - low, 1e-9)).min())
        away = (self.places - (low + high) / 2) * scale
        found: NDArray[np.float64] = size / 2 + away * (1, -1)
        return found

    # ------------------------------------------------------------------ mouse

    def _nearest(self, place: QPointF) -> int:
        away = np.hypot(*(self.on_screen() - (place.x(), place.y())).T)
        return int(away.argmin()) if len(away) and away.min() <= _NEAR else -1

    def mousePressEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802
        """Begin a line around points."""
        if event is not None and event.button() == Qt.MouseButton.LeftButton:
            self._lasso = QPolygonF([event.position()])

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802
        """Draw the line on, or look what is under the mouse."""
        if event is None:
            return
        if self._lasso:
            self._lasso.append(event.position())
            self.update()
        elif (row := self._nearest(event.position())) != self._under:
            self._point_at(row)

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802
        """Choose what was drawn around, or the point that was clicked."""
        if event is None or not self._lasso:
            return
        lasso, self._lasso = self._lasso, QPolygonF()
        self.update()
        size = lasso.boundingRect().size()
        if max(size.width(), size.height()) > _STILL:
            inside = self._inside(lasso)
            if event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
                inside |= self.chosen
            self.lassoed.emit(np.flatnonzero(inside))
        elif (row := self._nearest(event.position())) >= 0:
            self.clicked.emit(row)
        else:
            self.lassoed.emit(np.zeros(0, np.intp))

    def _inside(self, lasso: QPolygonF) -> NDArray[np.bool_]:
        # A picture of what is inside: to ask the polygon for each of 5 000 points takes 30 ms.
        drawn = QImage(self.size(), QImage.Format.Format_RGB32)
        drawn.fill(Qt.GlobalColor.black)
        painter = QPainter(drawn)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(Qt.GlobalColor.white)
        painter.drawPolygon(lasso)
        painter.end()
        places = self.on_screen().astype(int).tolist()
        return np.array([drawn.pixel(x, y) & 1 for x, y in places], np.bool_)

    def leaveEvent(self, event: QEvent | None) -> None:  # noqa: N802
        """Tell that the mouse is on no point any more."""
        super().leaveEvent(event)
        self._point_at(-1)

    def _point_at(self, row: int) -> None:
        self._under, self._shown = row, (None, "")
        self.update()
        self.hovered.emit(row)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:  # noqa: N802
        """Choose nothing with Escape."""
        if event is not None and event.key() == Qt.Key.Key_Escape:
            self._lasso = QPolygonF()
            self.lassoed.emit(np.zeros(0, np.intp))
        else:
            super().keyPressEvent(event)

    # --------------------------------------------------------------- painting

    def resizeEvent(self, event: Any) -> None:  # noqa: N802
        """Paint the points anew."""
        super().resizeEvent(event)
        self._picture = None

    def changeEvent(self, event: QEvent | None) -> None:  # noqa: N802
        """Paint the points anew in another theme."""
        super().changeEvent(event)
        self._picture = None

    def paintEvent(self, _: QPaintEvent | None) -> None:  # noqa: N802
        """Paint the points, and over them the ring, the line and what is under the mouse."""
        if self._picture is None:
            self._picture = self._points()
        painter = QPainter(self)
        painter.drawPixmap(0, 0, self._picture)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ink = self.palette().text().color()
        places = self.on_screen()
        for row, width in ((self._ring, 2.5), (self._under, 1.2)):
            if 0 <= row < len(places):
                painter.setPen(QPen(ink, width))
                painter.drawEllipse(QPointF(*places[row]), _POINT, _POINT)
        if self._lasso:
            painter.setPen(QPen(ink, 1.2, Qt.PenStyle.DashLine))
            painter.drawPolygon(self._lasso)
        elif 0 <= self._under < len(places) and self._shown[1]:
            self._paint_shown(painter, places[self._under])

    def _points(self) -> QPixmap:
        ratio = self.devicePixelRatioF()
        picture = QPixmap(self.size() * ratio)
        picture.setDevicePixelRatio(ratio)
        picture.fill(self.palette().base().color())
        painter = QPainter(picture)
        places, any_chosen = self.on_screen() - _STAMP / 2, bool(self.chosen.any())
        # The chosen ones last: they lie on top.
        for rows, opacity in ((~self.chosen, _PALE if any_chosen else _FULL), (self.chosen, 1.0)):
            painter.setOpacity(opacity)
            for kind, colour in enumerate(self._palette):
                # Stamps take a third of the time of as many circles.
                stamp = _stamp(colour, ratio)
                for x, y in places[rows & (self._kinds == kind)].tolist():
                    painter.drawPixmap(QPointF(x, y), stamp)
        painter.end()
        return picture

    def _paint_shown(self, painter: QPainter, place: NDArray[np.float64]) -> None:
        """Paint a picture and a text beside a place, inside of the widget."""
        picture, text = self._shown
        lines = text.split("\n")
        metrics = painter.fontMetrics()
        width = max(map(metrics.horizontalAdvance, lines))
        height = metrics.height() * len(lines)
        side = picture.width() if picture is not None else 0
        box = QRectF(0, 0, max(width, side) + 8, height + side + 8)
        x, y = place.tolist()
        left = x + _POINT + 4 if x < self.width() / 2 else x - _POINT - 4 - box.width()
        # Over the point rather than cut off, in a narrow page.
        box.moveLeft(max(min(left, self.width() - box.width() - 2), 2))
        box.moveTop(max(min(y - box.height() / 2, self.height() - box.height() - 2), 2))
        painter.setPen(QPen(self.palette().text().color(), 1))
        painter.setBrush(self.palette().window())
        painter.drawRect(box)
        inside = box.adjusted(4, 4, -4, -4)
        if picture is not None:
            painter.drawImage(inside.topLeft(), picture)
        painter.drawText(inside.adjusted(0, side, 0, 0), Qt.AlignmentFlag.AlignLeft, text)


def _stamp(colour: QColor, ratio: float) -> QPixmap:
    stamp = QPixmap(QSize(_STAMP, _STAMP) * ratio)
    stamp.setDevicePixelRatio(ratio)
    stamp.fill(Qt.GlobalColor.transparent)
    painter = QPainter(stamp)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(colour)
    painter.drawEllipse(QPointF(_STAMP / 2, _STAMP / 2), _POINT / 2, _POINT / 2)
    painter.end()
    return stamp
