"""Choose a path by a line with a button for the file dialog, and open a report in the browser."""

from __future__ import annotations

from enum import Enum, auto
from pathlib import Path

from qtpy.QtCore import QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QPushButton, QWidget

from napari_fossiledit.errors import FossilError


class Pick(Enum):
    """Kind of path that the file dialog offers."""

    FOLDER = auto()
    OPEN_FILE = auto()
    SAVE_FILE = auto()


def ask_path(parent: QWidget, pick: Pick, title: str, start: str = "", kinds: str = "") -> str:
    """Open the file dialog; return the chosen path, empty where the user cancelled."""
    if pick is Pick.FOLDER:
        return str(QFileDialog.getExistingDirectory(parent, title, start))
    if pick is Pick.OPEN_FILE:
        return str(QFileDialog.getOpenFileName(parent, title, start, kinds)[0])
    return str(QFileDialog.getSaveFileName(parent, title, start, kinds)[0])


class PathRow(QWidget):
    """A path to type, paste or choose.

    Parameters
    ----------
    what
        What the path is, for the dialog's title and for messages, e.g. ``"photographs"``.
    kinds
        Qt's filter of file names, e.g. ``"COCO (*.json)"``.
    """

    changed = Signal(str)

    def __init__(self, what: str, pick: Pick, tip: str = "", kinds: str = "") -> None:
        super().__init__()
        self.what, self._pick, self._kinds = what, pick, kinds
        self.line = QLineEdit()
        self.line.setToolTip(tip)
        self.line.setAccessibleName(what)
        self.button = QPushButton("...")
        self.button.setToolTip(f"Choose the {what}")
        self.button.setAccessibleName(f"Choose the {what}")
        self.button.setMaximumWidth(36)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.line, 1)
        row.addWidget(self.button)
        self.button.clicked.connect(self.browse)
        self.line.editingFinished.connect(self._emit)

    @property
    def text(self) -> str:
        """Text of the line."""
        return self.line.text().strip()

    @text.setter
    def text(self, text: str) -> None:
        self.line.setText(text)

    def path(self) -> Path:
        """Return the path.

        Raises
        ------
        FossilError
            Where the line is empty.
        """
        if not self.text:
            raise FossilError(
                f"The {self.what} is missing", advice="Choose it with the button beside the line."
            )
        return Path(self.text).expanduser()

    def browse(self) -> None:
        """Open the file dialog and take its choice."""
        chosen = ask_path(self, self._pick, f"Choose the {self.what}", self.text, self._kinds)
        if chosen:
            self.text = chosen
            self._emit()

    def _emit(self) -> None:
        self.changed.emit(self.text)


class ReportButton(QPushButton):
    """Opens the latest report in the browser; enabled once there is one.

    Attributes
    ----------
    report
        HTML file or picture, None where there is none yet.
    """

    def __init__(self) -> None:
        super().__init__("Open the report")
        self.setToolTip("Open the report in the browser; its file stays in the project folder.")
        self.report: Path | None = None
        self.setEnabled(False)
        self.clicked.connect(self.open)

    def take(self, report: Path | None) -> None:
        """Open this report from now on."""
        self.report = report
        self.setEnabled(report is not None)

    def open(self) -> None:
        """Open the report in the browser."""
        if self.report is not None:
            open_report(self.report)


def open_report(file: Path) -> None:
    """Open an HTML file in the browser."""
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(file)))
