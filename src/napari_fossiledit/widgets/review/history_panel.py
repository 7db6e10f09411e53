"""What was done to the masks: undo, redo, go there, named versions."""

from __future__ import annotations

from datetime import datetime

from qtpy.QtCore import Qt
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QComboBox, QLineEdit, QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.params.review import VersionsParams
from napari_fossiledit.widgets.canvas import correcting
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.notices import errors_shown, show_done
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import beside, button
from napari_fossiledit.workflows.review.journal import VersionsResult, versions

_SHOWN = 30


class HistoryPanel(QWidget):
    """The journal as a list, newest first, and the versions that were named."""

    def __init__(self, session: Session, jobs: JobPanel) -> None:
        super().__init__()
        self.session, self.jobs = session, jobs
        self.done = QListWidget()
        self.done.setToolTip("What was done, the newest first. Click to go there.")
        self.done.setAccessibleName("What was done")
        self.done.setFixedHeight(130)
        self.done.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.done.itemClicked.connect(self._go)
        self.done.itemActivated.connect(self._go)
        self.name = QLineEdit()
        self.name.setPlaceholderText("e.g. before the second look")
        self.name.setAccessibleName("Name of the version")
        self.versions = QComboBox()
        self.versions.setToolTip("Versions that you named.")
        self.versions.setAccessibleName("Versions")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(
            beside(
                button(
                    "Undo",
                    "Undo the last change of the masks, whatever it was and whenever.",
                    lambda: correcting.undo(session),
                    shortcut="Ctrl-Z",
                ),
                button(
                    "Redo",
                    "Redo what was undone last.",
                    lambda: correcting.redo(session),
                    shortcut="Ctrl-Shift-Z",
                ),
            )
        )
        column.addWidget(self.done)
        column.addWidget(self.name)
        column.addWidget(
            button(
                "Name the masks as they are now",
                "Keep this version, to bring it back whenever you like.",
                self.keep,
            )
        )
        column.addWidget(self.versions)
        self.back = button(
            "Bring this version back",
            "Have all masks as they were then. It can be undone.",
            self.restore,
        )
        column.addWidget(self.back)
        session.annotations_changed.connect(self.refresh)

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802
        """Read what was done while it was hidden."""
        super().showEvent(event)
        self.refresh()

    def refresh(self) -> None:
        """Read the journal, where it is in view."""
        project = self.session.project
        if project is None or not self.isVisible():
            return
        self.done.clear()
        for action in project.ledger.history(_SHOWN):
            word = "slice" if len(action.slices) == 1 else "slices"
            where = f", {word} {format_slices(action.slices)}" if action.slices else ""
            item = QListWidgetItem(f"{correcting.said(action.what)}{where}")
            item.setData(Qt.ItemDataRole.UserRole, action.slices[0] if action.slices else None)
            made = datetime.fromisoformat(action.made).astimezone()
            undone = "; undone" if action.undone else ""
            item.setToolTip(f"{item.text()}, {made:%d %B %Y, %H:%M}{undone}")
            if action.undone:
                item.setForeground(self.palette().placeholderText())
            self.done.addItem(item)
        chosen = self.versions.currentText()
        self.versions.clear()
        self.versions.addItems([v.name for v in project.ledger.versions() if v.changes is not None])
        self.versions.setCurrentText(chosen)
        self.versions.setEnabled(self.versions.count() > 0)
        self.back.setEnabled(self.versions.count() > 0)

    def keep(self) -> None:
        """Name the masks as they are now."""
        name = self.name.text().strip()
        if not name:
            raise FossilError("The version has no name", advice="Type one in the line above.")
        self._run(VersionsParams(name=name))

    def restore(self) -> None:
        """Bring the chosen version back."""
        self._run(VersionsParams(restore=self.versions.currentText()))

    def _run(self, params: VersionsParams) -> None:
        self.session.saving.emit()
        path = self.session.writable.path
        then = self.session.while_open(self._on_done)
        title = "Bringing a version back" if params.restore else "Naming a version"
        self.jobs.start(title, versions, path, params, in_process=False, then=then)

    def _on_done(self, result: VersionsResult) -> None:
        if result.restored is None:
            self.name.clear()
            show_done("The masks as they are now have a name.")
        else:
            correcting.reload(self.session)
            undo = correcting.undo_of_newest(self.session)
            changed = len(result.restored.slices)
            show_done(f"The version is back; {changed} slices changed by it.", undo)
        self.session.annotations_changed.emit()

    def _go(self, item: QListWidgetItem) -> None:
        z = item.data(Qt.ItemDataRole.UserRole)
        if z is not None:
            with errors_shown():
                self.session.go_to(int(z))
