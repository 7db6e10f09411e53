"""Measure the pixel size on a scale bar in the photograph."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtGui import QHideEvent
from qtpy.QtWidgets import QComboBox, QLineEdit, QVBoxLayout, QWidget

from napari_fossiledit.widgets.canvas.scale_bar import TwoPoints
from napari_fossiledit.widgets.common.forms import number_of
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import beside, button, note

_UM = {"mm": 1000.0, "um": 1.0, "cm": 10000.0}
_SAID = (
    "Click one end of the scale bar in the photograph. The wheel zooms, dragging moves.",
    "Now click the other end.",
)


class ScaleBarPanel(QWidget):
    """Two clicks on the ends of the scale bar and its length give the size of a pixel.

    Signals
    -------
    measured(float)
        The pixel size in um.
    """

    measured = Signal(float)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.points = TwoPoints(session, self)
        self.points.marked.connect(self._on_marked)
        self._pixels = 0.0
        self.starter = button(
            "Measure a scale bar in the photograph",
            "Click its two ends, and type how long it is.",
            self.points.start,
        )
        self.said, self.length, self.unit = note(""), QLineEdit(), QComboBox()
        self.length.setPlaceholderText("its length, e.g. 10")
        self.length.setAccessibleName("Length of the scale bar")
        self.unit.addItems(list(_UM))
        self.unit.setAccessibleName("Unit of the length")
        self.row = beside(self.length, self.unit)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (self.starter, self.said, self.row):
            column.addWidget(widget)
        self.length.textChanged.connect(self._give)
        self.unit.currentTextChanged.connect(self._give)
        session.project_changed.connect(self.stop)
        self.stop()

    def stop(self) -> None:
        """Take the marks off the photograph and ask nothing any more."""
        self.points.stop()
        self.said.hide()
        self.row.hide()

    def hideEvent(self, event: QHideEvent | None) -> None:  # noqa: N802
        """Stop once the page is left."""
        super().hideEvent(event)
        self.stop()

    def _on_marked(self, ends: int, pixels: float) -> None:
        self._pixels = pixels
        told = f"The line is {pixels:.1f} pixels long. How long is the scale bar?"
        self.said.setText(told if ends == 2 else _SAID[ends])
        self.said.show()
        self.row.setVisible(ends == 2)
        if ends == 2:
            self.length.setFocus()
            self._give()

    def _give(self) -> None:
        length = number_of(self.length.text())
        if isinstance(length, float) and length > 0 and self._pixels > 0:
            self.measured.emit(length * _UM[self.unit.currentText()] / self._pixels)


class ScaleBarCheck(QWidget):
    """Compares the pixel size of the project with a scale bar in its photographs."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.bar, self.verdict = ScaleBarPanel(session), note("")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.bar)
        column.addWidget(self.verdict)
        self.bar.measured.connect(self._compare)
        session.project_changed.connect(self._forget)

    def _forget(self) -> None:
        self.verdict.setText("")

    def _compare(self, measured: float) -> None:
        ours = self.session.current.geometry.pixel_size_um
        self.verdict.setText(
            f"A pixel is {measured:.4g} um by the scale bar and {ours:.4g} um in the project: "
            f"{measured / ours - 1:+.1%}. The size is fixed with the project; make a new one "
            "where it is wrong."
        )
