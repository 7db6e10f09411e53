"""A part of the page with a title that opens and closes it."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QSizePolicy, QToolButton, QVBoxLayout, QWidget


class Step(QWidget):
    """A step of the story: its title, and below it what belongs to it while it is open.

    Signals
    -------
    opened(object)
        It was opened; this widget.

    Attributes
    ----------
    head
        The title, a button.
    content
        What belongs to the step.
    """

    opened = Signal(object)

    def __init__(self, title: str, tip: str, content: QWidget) -> None:
        super().__init__()
        self.content = content
        self.head = QToolButton()
        self.head.setText(title)
        self.head.setToolTip(tip)
        self.head.setCheckable(True)
        self.head.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.head.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.head.setStyleSheet("text-align: left; font-weight: bold;")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.head)
        column.addWidget(content)
        self.head.toggled.connect(self._show)
        self._show(False)

    def open(self) -> None:
        """Open the step."""
        self.head.setChecked(True)

    def close_step(self) -> None:
        """Close the step."""
        self.head.setChecked(False)

    def _show(self, is_open: bool) -> None:
        self.head.setArrowType(Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow)
        self.content.setVisible(is_open)
        if is_open:
            self.opened.emit(self)
