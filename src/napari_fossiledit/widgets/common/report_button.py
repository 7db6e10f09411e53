"""A button that opens a report in the browser."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QPushButton


class ReportButton(QPushButton):
    """Opens the latest report in the browser; enabled once there is one.

    Attributes
    ----------
    report
        HTML file of the report, None where there is none yet.
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
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.report)))
