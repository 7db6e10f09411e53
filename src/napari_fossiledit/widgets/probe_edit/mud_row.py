"""The mud colour of the project: shown, picked from the slice, forgotten."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_fossiledit.widgets.canvas.pointing import Pointer
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.notices import errors_shown, show_done, summary_text
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import beside, button
from napari_fossiledit.workflows.shared import perturbed_slices as perturbing

_MEASURED = "No mud colour was picked: it is measured on each slice."
_PICK, _STOP = "Pick from slice", "Click on mud ..."


class MudRow(QWidget):
    """A swatch and an eyedropper."""

    def __init__(self, session: Session, jobs: JobPanel) -> None:
        super().__init__()
        self.session, self.jobs = session, jobs
        self.pointer = Pointer(session, self)
        self.swatch = QFrame()
        self.swatch.setFixedSize(34, 34)
        self.swatch.setAccessibleName("Mud colour")
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.pick = button(
            _PICK, "Click on the canvas where the slice shows plain red mud.", self.toggle
        )
        self.forget = button("Forget", "Measure the mud on each slice instead.", self.clear)
        self._lay_out()
        self.pointer.clicked.connect(self._on_click)
        self.pointer.active.connect(self._on_active)

    def _lay_out(self) -> None:
        row = QHBoxLayout()
        row.addWidget(self.swatch)
        row.addWidget(self.text, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(row)
        column.addWidget(beside(self.pick, self.forget))

    def refresh(self) -> None:
        """Show the colour that the project holds."""
        project = self.session.project
        colour = None if project is None else project.settings.mud_colour
        self.forget.setEnabled(colour is not None)
        if project is None or colour is None:
            self.swatch.setStyleSheet("border: 1px dashed gray;")
            self.text.setText(_MEASURED)
            return
        full = 255 if project.settings.stack.dtype == "uint8" else 65535
        shown = ", ".join(str(value * 255 // full) for value in colour)
        self.swatch.setStyleSheet(f"background: rgb({shown}); border: 1px solid gray;")
        picked_on = perturbing.mud_picked_on(project)
        where = "" if picked_on is None else f", picked on slice {picked_on}"
        self.text.setText(f"{', '.join(map(str, colour))}{where}")

    def toggle(self) -> None:
        """Wait for a click on the canvas, or no longer."""
        if self.pointer.is_active:
            self.pointer.stop()
            return
        self.session.writable  # noqa: B018 # refuses a read-only project
        self.pointer.start()

    def clear(self) -> None:
        """Forget the picked colour."""
        self.session.writable.update(mud_colour=None)
        self.refresh()
        self.session.mud_changed.emit()

    def _on_active(self, waits: bool) -> None:
        self.pick.setText(_STOP if waits else _PICK)

    def _on_click(self, *place: int) -> None:
        with errors_shown():
            self.take(*place)

    def take(self, z: int, x: int, y: int) -> None:
        """Take the colour of a pixel for the mud colour."""
        path = self.session.writable.path
        then = self.session.while_open(self._on_picked)
        pick = perturbing.pick_mud
        self.jobs.start("Picking the mud colour", pick, path, z, x, y, in_process=False, then=then)

    def _on_picked(self, result: Any) -> None:
        # The colour was written through another opened project: read it from the file.
        self.session.writable.update()
        self.refresh()
        show_done(summary_text("Picked", result))
        self.session.mud_changed.emit()
