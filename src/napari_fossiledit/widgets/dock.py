"""Base of all pages (a scroll area, the session, a job panel), and their sections and buttons."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import napari
from qtpy.QtCore import QLocale, Qt
from qtpy.QtGui import QDoubleValidator, QResizeEvent
from qtpy.QtWidgets import (
    QFrame,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)
from superqt import QLabeledDoubleSlider

from napari_fossiledit.widgets.canvas.project_view import attach
from napari_fossiledit.widgets.common.fold import Fold
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.notices import errors_shown
from napari_fossiledit.widgets.common.session import Session, session_of

#: In pixels: the widest content (312), a scroll bar, margins.
WIDTH = 336


class Dock(QWidget):
    """A page of the plugin's dock: its content scrolls, its job panel stays below.

    Parameters
    ----------
    title
        Title of the page.
    empty
        Text while no project is open: what the page is for and what to do next.

    Attributes
    ----------
    empty_column, column, always
        Layouts of widgets that show without a project, with one, and in either case.
    """

    def __init__(self, viewer: napari.Viewer, title: str, empty: str) -> None:
        super().__init__()
        self.session: Session = session_of(viewer)
        self.title = title
        self.session.docks[title] = self
        # A dock is made with what it shows; another project comes in a step of its own.
        self._is_made = False
        attach(self.session)
        self.jobs = JobPanel(self)
        self.jobs.runner.started.connect(self.session.saving)
        self.empty = QWidget()
        self.empty_column = QVBoxLayout(self.empty)
        self.empty_column.setContentsMargins(0, 0, 0, 0)
        self.empty_column.addWidget(note(empty))
        self.content = QWidget()
        self.column = QVBoxLayout(self.content)
        self.always = QVBoxLayout()
        self.column.setContentsMargins(0, 0, 0, 0)
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.addWidget(self.empty)
        column.addWidget(self.content)
        column.addLayout(self.always)
        column.addStretch(1)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(inside)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(2, 2, 2, 2)
        outer.addWidget(area, 1)
        self._scrolled, self._left_at, self._path = area.verticalScrollBar(), 0, Path()
        outer.addWidget(self.jobs)
        self.setMinimumWidth(WIDTH)
        self.session.project_changed.connect(self._on_project)

    def _on_project(self) -> None:
        is_open = self.session.project is not None
        if not is_open and self._scrolled is not None:
            self._left_at = self._scrolled.value()
        self.empty.setVisible(not is_open)
        self.content.setVisible(is_open)
        if is_open and self._is_made:
            self.session.soon(self._refresh)
        else:
            self._refresh()
        self._is_made = True

    def _refresh(self) -> None:
        with errors_shown():
            self.refresh()
        project = self.session.project
        if project is None:
            return
        if project.path == self._path and self._scrolled is not None:
            # Opened anew, as after slices were moved: whoever works below goes on there.
            self.session.soon(partial(self._scrolled.setValue, self._left_at))
        self._path = project.path

    def refresh(self) -> None:
        """Show the project that is open now; called after one was opened or closed."""


class Note(QLabel):
    """A paragraph that wraps and asks for the height of all its lines.

    Layouts inside of layouts ask for the height of a single line, and cut off what is below.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)

    def setText(self, text: str | None) -> None:  # noqa: N802
        """Show another text."""
        super().setText(text)
        self._fit()

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802
        """Set the height that the new width needs."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        # heightForWidth never goes below the minimum that was set before.
        self.setMinimumHeight(0)
        self.setMinimumHeight(self.heightForWidth(self.width()) if self.text() else 0)


def note(text: str) -> QLabel:
    """Return a paragraph of text that wraps."""
    return Note(text)


def section(column: QVBoxLayout, title: str) -> QVBoxLayout:
    """Add a titled box to a column and return the column inside it."""
    box = QGroupBox(title)
    inside = QVBoxLayout(box)
    inside.setContentsMargins(6, 6, 6, 6)
    column.addWidget(box)
    return inside


def beside(*widgets: QWidget) -> QWidget:
    """Return a row of widgets of equal width."""
    made = QWidget()
    row = QHBoxLayout(made)
    row.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        row.addWidget(widget, 1)
    return made


def fold(column: QVBoxLayout, title: str) -> QVBoxLayout:
    """Add a box that folds away to a column, folded, and return the column inside it."""
    inside = QWidget()
    made = QVBoxLayout(inside)
    made.setContentsMargins(4, 0, 0, 0)
    column.addWidget(Fold(title, inside))
    return made


class _PointOrComma(QDoubleValidator):
    """Takes a decimal comma for a point.

    By the system's language Qt takes either for a mark of thousands: 0,25 would become 1.
    """

    def __init__(self, parent: QLineEdit) -> None:
        super().__init__(parent)
        self.setLocale(QLocale.c())

    def validate(self, text: str | None, at: int) -> tuple[QDoubleValidator.State, str, int]:
        return super().validate((text or "").replace(",", "."), at)


def slider(value: float, tip: str) -> QLabeledDoubleSlider:
    """Return a slider from 0 to 1; its number can be typed with a decimal point or comma."""
    made = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
    made.setRange(0, 1)
    made.setDecimals(2)
    made.setValue(value)
    made.setToolTip(tip)
    for number in made.findChildren(QLineEdit):
        number.setValidator(_PointOrComma(number))
    return made


def button(text: str, tip: str, action: Callable[[], object], *, shortcut: str = "") -> QPushButton:
    """Return a button whose errors become messages.

    Parameters
    ----------
    shortcut
        Key that does the same in the canvas; named in the tooltip.
    """
    made = QPushButton(text)
    made.setToolTip(f"{tip} ({shortcut})" if shortcut else tip)

    def clicked() -> None:
        with errors_shown():
            action()

    made.clicked.connect(clicked)
    return made
