"""Tabs whose content is as high as the tab on show, not as the highest of all."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QTabBar, QVBoxLayout, QWidget


class Tabs(QWidget):
    """A bar of tabs above the content of one of them.

    The methods are named as those of a ``QTabWidget``. That one asks for the height of its highest
    tab, so that inside a scroll area lower tabs would scroll into empty space.

    Signals
    -------
    currentChanged(int)
        Another tab is on show.
    """

    currentChanged = Signal(int)  # noqa: N815

    def __init__(self) -> None:
        super().__init__()
        self.bar = QTabBar()
        self.bar.setDocumentMode(True)
        self.bar.setDrawBase(False)
        self.bar.setExpanding(False)
        self._tabs: list[QWidget] = []
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.addWidget(self.bar)
        self.bar.currentChanged.connect(self._on_tab)

    def addTab(self, tab: QWidget, title: str) -> None:  # noqa: N802
        """Add a tab."""
        tab.setVisible(not self._tabs)
        self._tabs.append(tab)
        self._column.addWidget(tab)
        self.bar.addTab(title)

    def count(self) -> int:
        """Return the number of tabs."""
        return len(self._tabs)

    def tabText(self, index: int) -> str:  # noqa: N802
        """Return the title of a tab."""
        return str(self.bar.tabText(index))

    def currentWidget(self) -> QWidget:  # noqa: N802
        """Return the tab on show."""
        return self._tabs[self.bar.currentIndex()]

    def setCurrentIndex(self, index: int) -> None:  # noqa: N802
        """Show a tab by its index."""
        self.bar.setCurrentIndex(index)

    def setCurrentWidget(self, tab: QWidget) -> None:  # noqa: N802
        """Show a tab."""
        self.bar.setCurrentIndex(self._tabs.index(tab))

    def _on_tab(self, index: int) -> None:
        for place, tab in enumerate(self._tabs):
            tab.setVisible(place == index)
        self.currentChanged.emit(index)
