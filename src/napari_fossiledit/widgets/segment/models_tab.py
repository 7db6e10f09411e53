"""The page *Models* of the dock *Segment*: checkpoints in and out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtpy.QtWidgets import QComboBox, QFormLayout, QVBoxLayout, QWidget

from napari_fossiledit.errors import FossilError
from napari_fossiledit.params.segment import ExportModelParams, ImportModelParams
from napari_fossiledit.widgets.common.forms import ParamsForm
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.model_choices import model_choices
from napari_fossiledit.widgets.common.notices import show_done
from napari_fossiledit.widgets.common.paths import Pick, ask_path
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import button, note, section
from napari_fossiledit.workflows.segment.model_files import export_model, import_model

HELP = (
    "Checkpoints of detectron2 (Mask R-CNN with a feature pyramid) become models of this project,"
    " and models and edits become such checkpoints. detectron2 need not be installed."
)
_KINDS = "Checkpoints (*.pth *.pkl);;All files (*)"
_DONE = {"Importing": "Imported", "Exporting": "Exported"}


class ModelsPage(QWidget):
    """Import a checkpoint as a model; export a model or edit as a checkpoint."""

    def __init__(self, session: Session, jobs: JobPanel) -> None:
        super().__init__()
        self.session, self.jobs = session, jobs
        self.importing = ParamsForm(ImportModelParams)
        self.exporting = ParamsForm(ExportModelParams)
        self.model = QComboBox()
        self.model.setToolTip("Model or edit to export; lite has no counterpart in detectron2.")
        self.model.setAccessibleName("Model to export")
        self.told = note("")
        self._lay_out()
        session.models_changed.connect(self._offer)

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.addWidget(note(HELP))
        self._lay_out_import(section(column, "Import"))
        self._lay_out_export(section(column, "Export"))
        column.addWidget(self.told)
        column.addStretch(1)

    def _lay_out_import(self, inside: QVBoxLayout) -> None:
        inside.addWidget(self.importing)
        inside.addWidget(
            button(
                "Import a model file ...",
                "Choose a .pth or .pkl file; the fields above say how to read it.",
                self.bring_in,
            )
        )

    def _lay_out_export(self, inside: QVBoxLayout) -> None:
        form = QFormLayout()
        form.addRow("Model", self.model)
        inside.addLayout(form)
        inside.addWidget(self.exporting)
        inside.addWidget(
            button(
                "Export for detectron2 ...",
                "Write the model as model_final.pth and config.yaml into a new folder.",
                self.take_out,
            )
        )

    def refresh(self) -> None:
        """Offer the models of the project that is open now."""
        self.told.setText("")
        self._offer()

    def _offer(self) -> None:
        chosen = self.model.currentText()
        self.model.clear()
        self.model.addItems(model_choices(self.session)())
        self.model.setCurrentIndex(max(self.model.findText(chosen), 0))

    def bring_in(self) -> None:
        """Let the user choose a checkpoint, and import it."""
        project = self.session.writable
        params = self.importing.read()
        chosen = ask_path(self, Pick.OPEN_FILE, "Import a model file", "", _KINDS)
        if chosen:
            self._start("Importing", import_model, project.path, Path(chosen), params)

    def take_out(self) -> None:
        """Let the user choose where, and export the model."""
        project, name, params = self.session.current, self.model.currentText(), self._cut()
        chosen = ask_path(self, Pick.FOLDER, f"Folder to put the model {name} into")
        if chosen:
            out = Path(chosen) / f"{name}-detectron2"
            self._start("Exporting", export_model, project.path, name, out, params)

    def _cut(self) -> ExportModelParams:
        if not self.model.currentText():
            raise FossilError("No model is chosen", advice="Train or import one first.")
        return self.exporting.read()

    def _start(self, title: str, function: Callable[..., object], *args: object) -> None:
        self.told.setText("")
        then = self.session.while_open(lambda result: self._on_done(title, result))
        self.jobs.start(title, function, *args, then=then)

    def _on_done(self, title: str, result: Any) -> None:
        """Tell what was assumed, which stays to be read."""
        done = f"{_DONE[title]} {result.name}"
        show_done(f"{done}.")
        self.told.setText("<br>".join([f"<b>{done}</b> ({result.folder})", *result.notes]))
        self.session.models_changed.emit()
