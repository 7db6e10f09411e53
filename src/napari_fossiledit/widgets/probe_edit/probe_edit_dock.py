"""The dock *Probe & Edit*: find where a model is wrong, edit it, keep the edit or roll back."""

from __future__ import annotations

import threading
from collections.abc import Callable

import napari
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QScrollArea

from napari_fossiledit.jobs import WarmProcess
from napari_fossiledit.widgets.common.notices import errors_shown
from napari_fossiledit.widgets.common.tabs import Tabs
from napari_fossiledit.widgets.dock import Dock
from napari_fossiledit.widgets.probe_edit.edit_tab import EditTab
from napari_fossiledit.widgets.probe_edit.history_tab import HistoryTab
from napari_fossiledit.widgets.probe_edit.perturb_tab import PerturbTab
from napari_fossiledit.widgets.probe_edit.probe_tab import ProbeTab
from napari_fossiledit.widgets.probe_edit.repair_tab import RepairTab

TITLE = "Probe & Edit"
EMPTY = (
    "<b>No project is open.</b><br>Here you see what misleads a model, and correct it without "
    'training it again. Open a project in the dock "Start here" first.'
)


class ProbeEditDock(Dock):
    """Perturb, probe, edit, history and repair."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer, TITLE, EMPTY)
        self.warm = WarmProcess()
        session, jobs, warm = self.session, self.jobs, self.warm
        self.perturb = PerturbTab(session, jobs, warm)
        self.probe = ProbeTab(session, jobs, self.perturb)
        self.edit = EditTab(session, jobs, warm, self.perturb)
        self.history = HistoryTab(session, jobs)
        self.repair = RepairTab(session, jobs, warm)
        self.tab_of: dict[str, PerturbTab | ProbeTab | EditTab | HistoryTab | RepairTab] = {
            "Perturb": self.perturb,
            "Probe": self.probe,
            "Edit": self.edit,
            "History": self.history,
            "Repair": self.repair,
        }
        self.tabs = Tabs()
        for title, tab in self.tab_of.items():
            self.tabs.addTab(tab, title)
        self.column.addWidget(self.tabs)
        self.tabs.currentChanged.connect(self._on_tab)
        session.preview_requested.connect(self.perturb.toggle)
        session.swap_requested.connect(self._on_swap)
        self.history.chosen.connect(self._on_chosen)
        # The process ends with the dock; nothing may wait for it in the window's thread. A method
        # of the dock would not be called any more once it is destroyed.
        self.destroyed.connect(_closing(warm))
        self._on_project()

    def refresh(self) -> None:
        """Show the project that is open now."""
        if self.session.project is None:
            _closing(self.warm)()
        for tab in self.tab_of.values():
            tab.refresh()

    def _on_tab(self) -> None:
        """Show the top of another tab: it need not be as high as the one before."""
        for area in self.findChildren(
            QScrollArea, options=Qt.FindChildOption.FindDirectChildrenOnly
        ):
            area.ensureVisible(0, 0)

    def _on_chosen(self, edit: str) -> None:
        with errors_shown():
            self.edit.show_edit(edit)
        self.tabs.setCurrentWidget(self.edit)

    def _on_swap(self) -> None:
        """Swap the slice before the edit and with it: of the repair where that is looked at."""
        tab = self.repair if self.tabs.currentWidget() is self.repair else self.edit
        tab.verdict.strength.toggle()


def _closing(warm: WarmProcess) -> Callable[..., None]:
    """Return a function that ends a process without waiting for it."""

    def close(*_: object) -> None:
        if warm.is_alive:
            threading.Thread(target=warm.close, name="fossiledit-closing", daemon=True).start()

    return close
