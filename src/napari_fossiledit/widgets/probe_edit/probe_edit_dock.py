"""The dock *Probe & Edit*: find where a model is wrong, rewrite it, keep or roll back."""

from __future__ import annotations

import threading
from collections.abc import Callable

import napari
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QScrollArea, QWidget

from napari_fossiledit.jobs import WarmProcess
from napari_fossiledit.widgets.common.notices import errors_shown
from napari_fossiledit.widgets.common.tabs import Tabs
from napari_fossiledit.widgets.dock import Dock
from napari_fossiledit.widgets.probe_edit.edit_tab import EditPage
from napari_fossiledit.widgets.probe_edit.history_tab import HistoryPage
from napari_fossiledit.widgets.probe_edit.perturb_tab import PerturbPage
from napari_fossiledit.widgets.probe_edit.probe_tab import ProbePage
from napari_fossiledit.widgets.probe_edit.repair_tab import RepairPage
from napari_fossiledit.widgets.probe_edit.verdict import Verdict

TITLE = "Probe & Edit"
EMPTY = (
    "<b>No project is open.</b><br>Here you see what misleads a model, and rewrite it without "
    'training it again. Open a project in the dock "Start here" first.'
)


class ProbeEditDock(Dock):
    """Perturb, probe, edit, look back, repair."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer, TITLE, EMPTY)
        self.warm = WarmProcess()
        session, jobs, warm = self.session, self.jobs, self.warm
        self.perturb = PerturbPage(session, jobs, warm)
        self.probe = ProbePage(session, jobs, self.perturb)
        self.edit = EditPage(session, jobs, warm, self.perturb)
        self.history = HistoryPage(session, jobs)
        self.repair = RepairPage(session, jobs, warm)
        self.pages = Tabs()
        for title, page in self._pages().items():
            self.pages.addTab(page, title)
        self.column.addWidget(self.pages)
        self._connect()
        self._on_project()

    def _pages(self) -> dict[str, QWidget]:
        return {
            "Perturb": self.perturb,
            "Probe": self.probe,
            "Edit": self.edit,
            "History": self.history,
            "Repair": self.repair,
        }

    def _to_top(self) -> None:
        """Show another page from its top."""
        for area in self.findChildren(
            QScrollArea, options=Qt.FindChildOption.FindDirectChildrenOnly
        ):
            area.ensureVisible(0, 0)

    def _connect(self) -> None:
        self.pages.currentChanged.connect(self._to_top)
        self.session.preview_requested.connect(self.perturb.toggle)
        self.session.swap_requested.connect(self._swap)
        self.history.chosen.connect(self._look)
        # The process ends with the dock; nothing may wait for it in the window's thread.
        self.destroyed.connect(_closing(self.warm))

    def refresh(self) -> None:
        """Show the project that is open now."""
        if self.session.project is None:
            _closing(self.warm)()
        for page in (self.perturb, self.probe, self.edit, self.history, self.repair):
            page.refresh()

    def _look(self, edit: str) -> None:
        """Show an edit of the history on the page Edit."""
        with errors_shown():
            self.edit.show_edit(edit)
        self.pages.setCurrentWidget(self.edit)

    def _swap(self) -> None:
        """See the slice before the edit or with it, on the page that shows one."""
        self._verdict.strength.toggle()

    @property
    def _verdict(self) -> Verdict:
        page = self.pages.currentWidget()
        return self.repair.verdict if page is self.repair else self.edit.verdict


def _closing(warm: WarmProcess) -> Callable[..., None]:
    """Give a function that ends a process without waiting for it."""

    def close(*_: object) -> None:
        if warm.is_alive:
            threading.Thread(target=warm.close, name="fossiledit-closing", daemon=True).start()

    return close
