"""The tab *Predict* of the dock *Segment*."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_fossiledit.geometry import format_slices, parse_slices
from napari_fossiledit.params.segment import PredictParams
from napari_fossiledit.widgets.common.forms import ParamsForm
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.model_choices import model_choices, only_installed_backends
from napari_fossiledit.widgets.common.notices import show_done, show_notes, summary_text
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import beside, button, note
from napari_fossiledit.workflows.segment import predict

HELP = "Find fossils with a model. Slices that are predicted already are not computed again."
_SHOWN = ("model", "slices", "views")
_LABELS = {
    "again": "Predict anew",
    "tiles": "Divide into tiles",
    "max_detections": "Most detections",
    "score_floor": "Lowest score kept",
    "views": "Views of each slice",
    "views_find": "All views find",
    "neighbour_weight": "Weight of neighbours",
    "neighbour_direction": "Neighbours",
    "neighbour_score": "Score of neighbours",
}


class PredictTab(QWidget):
    """Find fossils with a model on one slice, some slices or all.

    Signals
    -------
    predicted(str)
        Name of the source whose predictions are new.
    """

    predicted = Signal(str)

    def __init__(self, session: Session, jobs: JobPanel) -> None:
        super().__init__()
        self.session, self.jobs = session, jobs
        self.form = ParamsForm(
            PredictParams,
            advanced=[name for name in PredictParams.model_fields if name not in _SHOWN],
            choices={"model": model_choices(session)},
            labels=_LABELS,
        )
        only_installed_backends(self.form)
        fill = self.form.fill
        column = QVBoxLayout(self)
        column.addWidget(note(HELP))
        column.addWidget(self.form)
        column.addWidget(
            beside(
                button(
                    "This slice",
                    "Predict only the slice that is shown.",
                    lambda: fill(slices=str(session.slice)),
                ),
                button(
                    "Traced slices",
                    "Predict the slices on which a model can be judged.",
                    lambda: fill(slices=format_slices(list(session.current.ledger.traced()))),
                ),
                button("All", "Predict the whole stack.", lambda: fill(slices="all")),
            )
        )
        tip = "Predict in the background; finished slices are kept."
        column.addWidget(button("Predict", tip, self.predict))
        column.addStretch(1)
        session.models_changed.connect(self.form.refresh)

    def refresh(self) -> None:
        """Offer the models of the project that is open now."""
        self.form.refresh()

    def predict(self) -> None:
        """Start predicting in a separate process."""
        project = self.session.writable
        params = self.form.read()
        # The workflow reads the slices too: here a typing error is reported without a process.
        parse_slices(params.slices, project.shape[0])
        then = self.session.while_open(self._on_done)
        self.jobs.start("Predicting", predict.run, project.path, params, then=then)

    def _on_done(self, result: Any) -> None:
        show_done(summary_text("Predicted", result))
        show_notes(result)
        self.predicted.emit(result.source)
