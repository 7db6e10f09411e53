"""The tab *Models* of the dock *Segment*: checkpoints in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtWidgets import QComboBox, QFormLayout, QVBoxLayout, QWidget

from napari_fossiledit.errors import FossilError
from napari_fossiledit.params.segment import ExportModelParams, FetchParams, ImportModelParams
from napari_fossiledit.widgets.common.forms import ParamsForm
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.model_choices import model_choices
from napari_fossiledit.widgets.common.notices import show_done
from napari_fossiledit.widgets.common.paths import Pick, ask_path
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import button, note, section
from napari_fossiledit.workflows.segment import fetch
from napari_fossiledit.workflows.segment.model_files import export_model, import_model

HELP = (
    "Checkpoints of detectron2 (Mask R-CNN with a feature pyramid) become models of this project,"
    " and models and edits become such checkpoints. detectron2 need not be installed."
)
_FILE_TYPES = "Checkpoints (*.pth *.pkl);;All files (*)"


class ModelsTab(QWidget):
    """Import a checkpoint as a model; export a model or edit as a checkpoint."""

    def __init__(self, session: Session, jobs: JobPanel) -> None:
        super().__init__()
        self.session, self.jobs = session, jobs
        self.importing = ParamsForm(ImportModelParams)
        self.exporting = ParamsForm(ExportModelParams)
        self.fetching = ParamsForm(FetchParams)
        self.about = note("")
        self.model = QComboBox()
        self.model.setToolTip("Model or edit to export; lite has no counterpart in detectron2.")
        self.model.setAccessibleName("Model to export")
        self.outcome = note("")
        column = QVBoxLayout(self)
        column.addWidget(note(HELP))
        inside = section(column, "Import")
        inside.addWidget(self.importing)
        inside.addWidget(
            button(
                "Import a model file ...",
                "Choose a .pth or .pkl file; the fields above say how to read it.",
                self.bring_in,
            )
        )
        inside = section(column, "Export")
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
        inside = section(column, "Weights to start a training from")
        inside.addWidget(self.fetching)
        inside.addWidget(self.about)
        inside.addWidget(
            button(
                "Fetch",
                "Fetch the weights from their maker into the cache, once; Cancel keeps the part.",
                self.fetch,
            )
        )
        column.addWidget(self.outcome)
        column.addStretch(1)
        session.models_changed.connect(self._offer_models)
        self.fetching.changed.connect(self._tell_about)
        self._tell_about()

    def refresh(self) -> None:
        """Offer the models of the project that is open now."""
        self.outcome.setText("")
        self._offer_models()

    def _offer_models(self) -> None:
        chosen = self.model.currentText()
        self.model.clear()
        self.model.addItems(model_choices(self.session)())
        self.model.setCurrentIndex(max(self.model.findText(chosen), 0))

    def _tell_about(self) -> None:
        self.about.setText(fetch.about(self.fetching.read().name))

    def fetch(self) -> None:
        """Fetch the chosen weights; the size stands above the button."""
        self.outcome.setText("")
        then = self.session.while_open(lambda result: self._show("Fetched", result))
        self.jobs.start("Fetching", fetch.run, self.fetching.read(), then=then)

    def bring_in(self) -> None:
        """Ask for a checkpoint and import it."""
        project = self.session.writable
        params = self.importing.read()
        chosen = ask_path(self, Pick.OPEN_FILE, "Import a model file", "", _FILE_TYPES)
        if chosen:
            self.outcome.setText("")
            then = self.session.while_open(lambda result: self._show("Imported", result))
            self.jobs.start(
                "Importing", import_model, project.path, Path(chosen), params, then=then
            )

    def take_out(self) -> None:
        """Ask for a folder and export the model into a new folder inside it."""
        project, name = self.session.current, self.model.currentText()
        if not name:
            raise FossilError("No model is chosen", advice="Train or import one first.")
        params = self.exporting.read()
        chosen = ask_path(self, Pick.FOLDER, f"Folder to put the model {name} into")
        if chosen:
            self.outcome.setText("")
            out = Path(chosen) / f"{name}-detectron2"
            then = self.session.while_open(lambda result: self._show("Exported", result))
            self.jobs.start("Exporting", export_model, project.path, name, out, params, then=then)

    def _show(self, what: str, result: Any) -> None:
        show_done(f"{what} {result.model}.")
        # What was assumed about a checkpoint stays to be read after the message is gone.
        done = f"<b>{what} {result.model}</b> ({result.folder})"
        self.outcome.setText("<br>".join([done, *result.notes]))
        self.session.models_changed.emit()
