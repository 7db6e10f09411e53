"""The page *Predict* of the dock *Segment*."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_fossiledit.geometry import format_slices, parse_slices
from napari_fossiledit.params.segment import PredictParams
from napari_fossiledit.widgets.common.forms import ParamsForm
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.model_choices import (
    FIELD,
    model_choices,
    only_installed_backends,
)
from napari_fossiledit.widgets.common.notices import show_done, show_notes, summary_text
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import beside, button, note
from napari_fossiledit.workflows.segment import predict


class PredictPage(QWidget):
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
            advanced=(
                *("tiles", "max_detections", "score_floor", "device", FIELD, "engine"),
                *("neighbour_weight", "neighbour_direction", "neighbour_score"),
            ),
            choices={"model": model_choices(session)},
        )
        only_installed_backends(self.form)
        column = QVBoxLayout(self)
        column.addWidget(
            note("Find fossils with a model. Slices that are done already are not computed again.")
        )
        column.addWidget(self.form)
        column.addWidget(
            beside(
                button("This slice", "Predict the slice on show only.", self._this),
                button("Traced slices", "Predict what can be evaluated.", self._traced),
                button("All", "Predict the whole stack.", self._all),
            )
        )
        self.start = button(
            "Predict", "Predict in the background; finished slices are kept.", self.predict
        )
        column.addWidget(self.start)
        column.addStretch(1)
        session.models_changed.connect(self.form.refresh)

    def refresh(self) -> None:
        """Offer the models of the project that is open now."""
        self.form.refresh()

    def _this(self) -> None:
        self.form.fill(slices=str(self.session.slice))

    def _traced(self) -> None:
        self.form.fill(slices=format_slices(list(self.session.current.ledger.traced())))

    def _all(self) -> None:
        self.form.fill(slices="all")

    def predict(self) -> None:
        """Start predicting in a process of its own."""
        project = self.session.writable
        params = self.form.read()
        parse_slices(params.slices, project.shape[0])
        then = self.session.while_open(self._on_done)
        self.jobs.start("Predicting", predict.run, project.path, params, then=then)

    def _on_done(self, result: Any) -> None:
        show_done(summary_text("Predicted", result))
        show_notes(result)
        self.predicted.emit(result.source)
