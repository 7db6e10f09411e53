"""A part of a page with a title that opens and closes it."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QSizePolicy, QToolButton, QVBoxLayout, QWidget


class Fold(QWidget):
    """A title, and below it what belongs to it while it is open; closed at first.

    Signals
    -------
    opened(object)
        It was opened; this widget.

    Attributes
    ----------
    head
        The title, a button.
    content
        What belongs to it.
    """

    opened = Signal(object)

    def __init__(self, title: str, content: QWidget, *, tip: str = "", bold: bool = False) -> None:
        super().__init__()
        self.content = content
        self.head = QToolButton()
        self.head.setText(title)
        self.head.setToolTip(tip)
        self.head.setCheckable(True)
        self.head.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.head.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        weight = "bold" if bold else "normal"
        self.head.setStyleSheet(f"text-align: left; font-weight: {weight};")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.head)
        column.addWidget(content)
        self.head.toggled.connect(self._show)
        self._show(False)

    def open(self) -> None:
        """Open it."""
        self.head.setChecked(True)

    def shut(self) -> None:
        """Close it."""
        self.head.setChecked(False)

    def _show(self, is_open: bool) -> None:
        self.head.setArrowType(Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow)
        self.content.setVisible(is_open)
        if is_open:
            self.opened.emit(self)
