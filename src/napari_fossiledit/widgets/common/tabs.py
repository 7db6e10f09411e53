"""Tabs whose content is as high as the page on show, not as the highest of all."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QTabBar, QVBoxLayout, QWidget


class Pages(QWidget):
    """Pages below a bar of tabs; inside a scroll area none of them scrolls into emptiness.

    The methods are called as those of a ``QTabWidget``, which is as high as its highest page.

    Signals
    -------
    currentChanged(int)
        Another page is on show.
    """

    currentChanged = Signal(int)  # noqa: N815

    def __init__(self) -> None:
        super().__init__()
        self.bar = QTabBar()
        self.bar.setDocumentMode(True)
        self.bar.setDrawBase(False)
        self.bar.setExpanding(False)
        self._pages: list[QWidget] = []
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.addWidget(self.bar)
        self.bar.currentChanged.connect(self._on_tab)

    def addTab(self, page: QWidget, title: str) -> None:  # noqa: N802
        """Add a page."""
        page.setVisible(not self._pages)
        self._pages.append(page)
        self._column.addWidget(page)
        self.bar.addTab(title)

    def count(self) -> int:
        """Count the pages."""
        return len(self._pages)

    def tabText(self, index: int) -> str:  # noqa: N802
        """Title of a page."""
        return str(self.bar.tabText(index))

    def currentWidget(self) -> QWidget:  # noqa: N802
        """Page on show."""
        return self._pages[self.bar.currentIndex()]

    def setCurrentIndex(self, index: int) -> None:  # noqa: N802
        """Show a page by its place."""
        self.bar.setCurrentIndex(index)

    def setCurrentWidget(self, page: QWidget) -> None:  # noqa: N802
        """Show a page."""
        self.bar.setCurrentIndex(self._pages.index(page))

    def _on_tab(self, index: int) -> None:
        for place, page in enumerate(self._pages):
            page.setVisible(place == index)
        self.currentChanged.emit(index)
