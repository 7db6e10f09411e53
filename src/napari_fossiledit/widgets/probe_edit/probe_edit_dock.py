"""The dock *Probe & Edit*, told as a story: what is wrong, mend it, judge."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import napari
from napari.layers import Layer
from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import QFormLayout

from napari_fossiledit.jobs import WarmProcess
from napari_fossiledit.widgets.canvas.layers import Role, find, remove
from napari_fossiledit.widgets.common.fold import Fold
from napari_fossiledit.widgets.common.notices import errors_shown
from napari_fossiledit.widgets.dock import Dock
from napari_fossiledit.widgets.probe_edit.history import History
from napari_fossiledit.widgets.probe_edit.judge import Judge
from napari_fossiledit.widgets.probe_edit.mend import Mend
from napari_fossiledit.widgets.probe_edit.model_picker import ModelPicker
from napari_fossiledit.widgets.probe_edit.perturbation import Perturbation
from napari_fossiledit.widgets.probe_edit.repair import Repair
from napari_fossiledit.widgets.probe_edit.what_is_wrong import WhatIsWrong
from napari_fossiledit.widgets.probe_edit.what_it_sees import WhatItSees
from napari_fossiledit.workflows.probe.result import ProbeResult

TITLE = "Probe & Edit"
EMPTY = (
    "<b>No project is open.</b><br>Here you see what misleads a model, and correct it without "
    'training it again. Open a project on the page "Start here" first.'
)


class ProbeEditDock(Dock):
    """Find out what is wrong, mend it, judge; repair one place; all edits there were."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer, TITLE, EMPTY)
        self.warm = WarmProcess()
        session, jobs, warm = self.session, self.jobs, self.warm
        self.model = ModelPicker(session)
        self.perturbation = Perturbation(session, jobs, warm, self.model)
        self.wrong = WhatIsWrong(session, jobs, self.model, self.perturbation)
        self.mend = Mend(session, jobs, self.model, self.perturbation)
        self.judge = Judge(session, jobs, warm)
        self.repair = Repair(session, jobs, self.model)
        self.sees = WhatItSees(session, jobs, self.model)
        self.history = History(session, jobs)
        # Regions that were drawn, while the page is left.
        self._drawn: Layer | None = None
        self.steps = {
            content: Fold(title, content, tip=tip, bold=True)
            for title, tip, content in (
                ("1  What is wrong?", "Find out what misleads the model most.", self.wrong),
                ("2  Mend it", "Teach the model with a few slices.", self.mend),
                ("3  Judge", "Keep the edit, or roll it back.", self.judge),
                ("Repair one place", "Show a wrong mask or a missed fossil.", self.repair),
                ("What the model looks at", "See what counts for a mask.", self.sees),
                ("History", "All models and edits.", self.history),
            )
        }
        row = QFormLayout()
        row.addRow("Model", self.model)
        self.column.addLayout(row)
        for step in self.steps.values():
            self.column.addWidget(step)
            step.opened.connect(self._on_opened)
        session.preview_requested.connect(self.perturbation.toggle)
        session.swap_requested.connect(self.judge.strength.toggle)
        self.wrong.used.connect(self._on_used)
        self.mend.mended.connect(lambda result: self._judge(result.name, result.report))
        self.repair.mended.connect(lambda result: self._judge(result.edit, result.report))
        self.history.chosen.connect(self._on_chosen)
        # The process ends with the dock; nothing may wait for it in the window's thread. A method
        # of the dock would not be called any more once it is destroyed.
        self.destroyed.connect(_closing(warm))
        self._on_project()

    def refresh(self) -> None:
        """Show the project that is open now."""
        if self.session.project is None:
            _closing(self.warm)()
        self._drawn = None
        self.model.refresh()
        parts = (self.perturbation, self.wrong, self.mend, self.repair, self.sees, self.history)
        for content in parts:
            content.refresh()
        self._judge("")

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802
        """Show the drawn regions again."""
        super().showEvent(event)
        if self._drawn is not None and self.session.project is not None:
            self.session.viewer.add_layer(self._drawn)
        self._drawn = None

    def hideEvent(self, event: QHideEvent | None) -> None:  # noqa: N802
        """Take the temporary layers away when the page is left."""
        super().hideEvent(event)
        # A window that is minimised hides the page too, and will show it again.
        if event is None or event.spontaneous() or self.session.project is None:
            return
        viewer = self.session.viewer
        self.repair.forget()
        self.sees.forget()
        self.perturbation.mud.pointer.stop()
        self.perturbation.live.setChecked(False)
        self.judge.strength.live.setChecked(False)
        self._drawn = find(viewer, Role.REGIONS)
        remove(viewer, Role.OUTLINE, Role.REGIONS)

    def _judge(self, name: str, report: Path | None = None) -> None:
        """Open the step that judges with an edit; where `name` is empty, the first step."""
        remove(self.session.viewer, Role.OUTLINE)
        step = self.steps[self.judge]
        step.head.setEnabled(bool(name))
        step.head.setToolTip("" if name else "Mend the model first, or choose an edit below.")
        (step if name else self.steps[self.wrong]).open()
        self.judge.show_edit(name, report)

    def _on_opened(self, opened: Fold) -> None:
        for step in self.steps.values():
            if step is not opened:
                step.shut()

    def _on_used(self, result: ProbeResult) -> None:
        self.mend.use(result)
        self.steps[self.mend].open()

    def _on_chosen(self, edit: str) -> None:
        with errors_shown():
            self.mend.show_edit(edit)
            self._judge(edit)


def _closing(warm: WarmProcess) -> Callable[..., None]:
    """Return a function that ends a process without waiting for it."""

    def close(*_: object) -> None:
        if warm.is_alive:
            threading.Thread(target=warm.close, name="fossiledit-closing", daemon=True).start()

    return close
