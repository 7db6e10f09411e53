"""Tabs that are as high as the page on show, not as the highest of all."""

from __future__ import annotations

from qtpy.QtCore import QSize
from qtpy.QtWidgets import QTabWidget


class Pages(QTabWidget):
    """Pages below a bar of tabs; inside a scroll area none of them scrolls into emptiness."""

    def __init__(self) -> None:
        super().__init__()
        self.setDocumentMode(True)
        self.currentChanged.connect(self.updateGeometry)

    def hasHeightForWidth(self) -> bool:  # noqa: N802
        """Say that text wraps on the pages."""
        return True

    def heightForWidth(self, width: int) -> int:  # noqa: N802
        """Ask for the height of the page on show, and of the tabs."""
        page, bar = self.currentWidget(), self.tabBar()
        if page is None or bar is None:
            return 0
        wraps = page.hasHeightForWidth()
        height = page.heightForWidth(width) if wraps else page.sizeHint().height()
        return height + bar.sizeHint().height()

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """Ask for no less than the page on show needs."""
        return QSize(super().minimumSizeHint().width(), self.heightForWidth(self.width()))

    def sizeHint(self) -> QSize:  # noqa: N802
        """Ask for what the page on show needs."""
        return QSize(super().sizeHint().width(), self.heightForWidth(self.width()))
