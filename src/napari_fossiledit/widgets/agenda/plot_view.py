"""A plot of the agenda in the window: a click on it goes to a slice."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QRect, Qt, QTimer
from qtpy.QtGui import QImage, QMouseEvent, QPainter, QPaintEvent, QPen, QResizeEvent
from qtpy.QtWidgets import QWidget

from napari_fossiledit.widgets.common.job_runner import JobRunner, JobSpec
from napari_fossiledit.widgets.common.notices import show_error
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.workflows.agenda.plots import Drawing, Plot, render

_HEIGHT = 190
# A page that is being laid out changes its size several times.
_RESTED_MS = 80


class PlotView(QWidget):
    """Shows a plot, and in it the slice on show. Matplotlib takes 0.1 s to draw: in a thread.

    Attributes
    ----------
    plot, drawing
        What is drawn, and its picture once there is one; None: nothing yet.
    """

    def __init__(self, session: Session, name: str, empty: str) -> None:
        super().__init__()
        self.session, self.empty = session, empty
        self.plot: Plot | None = None
        self.drawing: Drawing | None = None
        self._runner = JobRunner(self)
        self._runner.failed.connect(show_error)
        self._resting = QTimer(self)
        self._resting.setSingleShot(True)
        self._resting.setInterval(_RESTED_MS)
        self._resting.timeout.connect(self._render)
        self.setFixedHeight(_HEIGHT)
        self.setAccessibleName(name)
        self.show_plot(None)
        session.slice_changed.connect(self.update)

    def show_plot(self, plot: Plot | None) -> None:
        """Show another plot; None: none."""
        self.plot = plot
        places = bool(plot and plot.places)
        self.setAccessibleDescription(plot.words if plot else self.empty)
        self.setToolTip("Click to go to the slice." if places else "")
        shape = Qt.CursorShape.PointingHandCursor if places else Qt.CursorShape.ArrowCursor
        self.setCursor(shape)
        if plot is None:
            self.drawing = None
            self._runner.abandon()
            self.update()
        else:
            self._resting.start()

    def _render(self) -> None:
        if self.plot is not None:
            ink = self.palette().color(self.foregroundRole()).name()
            size = (self.width(), self.height())
            args = (self.plot, size, ink, self.devicePixelRatioF())
            self._runner.abandon()
            self._runner.start(JobSpec("Drawing", render, args, in_process=False), self._take)

    def _take(self, drawing: Drawing) -> None:
        self.drawing = drawing
        self.update()

    def changeEvent(self, event: QEvent | None) -> None:  # noqa: N802
        """Draw again in the colours of another theme."""
        super().changeEvent(event)
        if event is not None and event.type() == QEvent.Type.PaletteChange:
            self._resting.start()

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802
        """Draw again in another size."""
        super().resizeEvent(event)
        self._resting.start()

    def paintEvent(self, _: QPaintEvent | None) -> None:  # noqa: N802
        """Paint the picture, and a line at the slice on show."""
        painter = QPainter(self)
        ink = self.palette().color(self.foregroundRole())
        painter.setPen(ink)
        if self.drawing is None:
            text = self.empty if self.plot is None else "Drawing ..."
            middle = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter.drawText(self.rect(), int(middle), text)
            return
        picture = self.drawing.picture
        height, width = picture.shape[:2]
        image = QImage(picture.tobytes(), width, height, 4 * width, QImage.Format.Format_RGBA8888)
        ratio = self.devicePixelRatioF()
        painter.drawImage(QRect(0, 0, round(width / ratio), round(height / ratio)), image)
        x = self.drawing.columns.get(self.session.slice)
        if x is not None:
            painter.setPen(QPen(ink, 1, Qt.PenStyle.DotLine))
            top, bottom = self.drawing.rows
            painter.drawLine(round(x), round(top), round(x), round(bottom))

    def mousePressEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802
        """Go to the slice that is nearest to the mouse."""
        if event is not None and self.drawing is not None and self.drawing.columns:
            x, columns = event.pos().x(), self.drawing.columns
            self.session.go_to(min(columns, key=lambda z: abs(columns[z] - x)))
