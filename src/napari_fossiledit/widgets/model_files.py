"""Models in and out of the open project, below the page *Predict* of the dock *Segment*."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_fossiledit.params.model_files import ExportModelParams, ImportModelParams
from napari_fossiledit.widgets.dock import button, note
from napari_fossiledit.widgets.forms import ParamsForm
from napari_fossiledit.widgets.job_panel import JobPanel
from napari_fossiledit.widgets.notices import show_done
from napari_fossiledit.widgets.paths import Pick, ask_path
from napari_fossiledit.widgets.session import Session
from napari_fossiledit.workflows.model_files import export_model, import_model

HELP = (
    "Checkpoints of detectron2 (Mask R-CNN with a feature pyramid) become models of this project,"
    " and models and edits become such checkpoints. detectron2 need not be installed."
)
_KINDS = "Checkpoints (*.pth *.pkl);;All files (*)"


class ModelFiles(QWidget):
    """Import a checkpoint as a model; export the model that is chosen.

    Parameters
    ----------
    chosen
        Gives the name of the model to export.
    """

    def __init__(self, session: Session, jobs: JobPanel, chosen: Callable[[], str]) -> None:
        super().__init__()
        self.session, self.jobs, self._chosen = session, jobs, chosen
        self.importing = ParamsForm(ImportModelParams)
        self.exporting = ParamsForm(ExportModelParams)
        self.told = note("")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(note(HELP))
        column.addWidget(self.importing)
        column.addWidget(
            button(
                "Import a model file ...",
                "Choose a .pth or .pkl file; the fields above say how to read it.",
                self.bring_in,
            )
        )
        column.addWidget(self.exporting)
        column.addWidget(
            button(
                "Export for detectron2 ...",
                "Write the model or edit that is chosen above as model_final.pth and config.yaml.",
                self.take_out,
            )
        )
        column.addWidget(self.told)
        session.project_changed.connect(lambda: self.told.setText(""))

    def bring_in(self) -> None:
        """Let the user choose a checkpoint, and import it."""
        project = self.session.writable
        params = self.importing.read()
        chosen = ask_path(self, Pick.OPEN_FILE, "Import a model file", "", _KINDS)
        if chosen:
            self._start("Importing", import_model, project.path, Path(chosen), params)

    def take_out(self) -> None:
        """Let the user choose where, and export the model."""
        project, name, params = self.session.current, self._chosen(), self.exporting.read()
        chosen = ask_path(self, Pick.FOLDER, f"Folder to put the model {name} into")
        if chosen:
            out = Path(chosen) / f"{name}-detectron2"
            self._start("Exporting", export_model, project.path, name, out, params)

    def _start(self, title: str, function: Callable[..., object], *args: object) -> None:
        self.told.setText("")
        then = self.session.while_open(lambda result: self._on_done(title, result))
        self.jobs.start(title, function, *args, then=then)

    def _on_done(self, title: str, result: Any) -> None:
        """Tell what was assumed, which stays to be read."""
        done = f"{title.removesuffix('ing')}ed {result.name}"
        show_done(f"{done}.")
        self.told.setText("<br>".join([f"<b>{done}</b> ({result.folder})", *result.notes]))
        self.session.models_changed.emit()
