"""The tab *Predict* of the dock *Segment*."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_fossiledit.geometry import format_slices, parse_slices
from napari_fossiledit.params.segment import CalibrateParams, PredictParams, RefineParams
from napari_fossiledit.progress import Progress
from napari_fossiledit.widgets.common.forms import ParamsForm
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.model_choices import (
    FollowedModel,
    model_choices,
    only_installed_backends,
)
from napari_fossiledit.widgets.common.notices import counted, show_result
from napari_fossiledit.widgets.common.paths import open_report
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import beside, button, note
from napari_fossiledit.workflows.segment import calibrate, predict, refine

HELP = "Find fossils with a model. Slices that are predicted already are not computed again."
_UNFINISHED = "<b>The last prediction is not finished</b>: Predict goes on with it."
_HIDDEN = ("first", "estimate")
_SHOWN = ("model", "slices", "views", "refine", "calibrated")
#: So often slices that are finished while others are predicted are shown.
_SHOWN_EVERY_S = 3.0
#: What the slider of scores shows at first.
_SURE = 0.5
_LABELS = {
    "again": "Predict anew",
    "tiles": "In overlapping tiles",
    "max_detections": "Most detections",
    "score_floor": "Lowest score kept",
    "device": "Compute on",
    "backend": "Compute with",
    "engine": "Way to compute",
    "views": "Views of each slice",
    "views_find": "All views find",
    "refine": "Refine masks",
    "exclusive": "No shared pixels",
    "calibrated": "Scores are probabilities",
    "workers": "Processes",
    "scheduler": "Scheduler",
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
            advanced=[
                name for name in PredictParams.model_fields if name not in (*_SHOWN, *_HIDDEN)
            ],
            # The slice that is looked at comes first, and a long run says how long it takes.
            hidden=_HIDDEN,
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
        self.unfinished = note(_UNFINISHED)
        column.addWidget(self.unfinished)
        column.addWidget(button("Predict", tip, self.predict))
        tip = (
            "Fit a second stage to all traced slices but the pinned ones, some minutes: it draws"
            " the masks of the model again, pixel by pixel. Where it gains nothing it stays off."
        )
        fit_refiner = button("Fit a refiner", tip, self.refine)
        tip = (
            "Compare what the model finds with the traced slices, and make its scores the"
            " probability that a detection is a fossil; doubles fall behind. Where that gains"
            " nothing, scores stay as they are."
        )
        column.addWidget(beside(fit_refiner, button("Calibrate scores", tip, self.calibrate)))
        column.addStretch(1)
        self._near, self._shown_at = 0, 0.0
        session.slice_changed.connect(self._on_slice)
        jobs.runner.progressed.connect(self._on_progress)
        FollowedModel(self.form, session)

    def refresh(self) -> None:
        """Offer the models of the project that is open now, and to go on with what was stopped."""
        self.form.refresh()
        project = self.session.project
        runs = [] if project is None else project.ledger.runs()
        asked = [run for run in runs if run.kind == "predict"]
        goes_on = (
            bool(asked)
            and asked[-1].status not in ("done", "running")
            # Would begin from the start.
            and not asked[-1].params.get("again")
            and asked[-1].params.get("model") in model_choices(self.session)()
        )
        if goes_on:
            rows = self.form.rows
            self.form.fill(**{k: v for k, v in asked[-1].params.items() if k in rows})
        self.unfinished.setVisible(goes_on)

    def predict(self) -> None:
        """Start predicting in a separate process."""
        project = self.session.writable
        params = self.form.read()
        # The workflow reads the slices too: here a typing error is reported without a process.
        parse_slices(params.slices, project.shape[0])
        self._shown_at = 0.0
        self.unfinished.hide()
        self.jobs.start(
            "Predicting",
            predict.run,
            project.path,
            params,
            loads_first=True,
            pausable=True,
            # Read in the thread of the job.
            focus=lambda: self._near,
            then=self.session.while_open(self._on_done),
        )

    def _on_slice(self, z: int) -> None:
        self._near = z

    def _on_progress(self, progress: Progress) -> None:
        """Show what is there already: the slice that is looked at at once, others now and then."""
        if progress.finished is None or self.session.project is None:
            return
        source, z = progress.finished
        now = time.monotonic()
        if z != self.session.slice and now - self._shown_at < _SHOWN_EVERY_S:
            return
        if self._shown_at == 0.0:
            self.predicted.emit(source)
        else:
            self.session.predictions_changed.emit()
        self._shown_at = now

    def refine(self) -> None:
        """Start fitting a refiner of the chosen model in a separate process."""
        params = RefineParams(model=self.form.read().model)
        then = self.session.while_open(self._on_fitted)
        self.jobs.start("Refining", refine.run, self.session.writable.path, params, then=then)

    def _on_fitted(self, result: Any) -> None:
        off = "".join(f" It is off for {name}: {why}." for name, why in result.off.items())
        show_result(f"A refiner of {result.model} is fitted.{off}", result)
        self.form.fill(refine=bool(result.gains))

    def calibrate(self) -> None:
        """Start calibrating the scores of the chosen model in a separate process."""
        params = CalibrateParams(model=self.form.read().model)
        then = self.session.while_open(self._on_calibrated)
        project = self.session.writable.path
        self.jobs.start("Calibrating", calibrate.run, project, params, then=then)

    def _on_calibrated(self, result: Any) -> None:
        text = f"The scores of {result.model} are compared with what is traced."
        show_result(text, result, ("Open report", partial(open_report, result.report)))
        self.form.fill(calibrated=bool(result.calibration.classes))

    def _on_done(self, result: Any) -> None:
        where = (
            f"slice {result.slices[0]}"
            if len(result.slices) == 1
            else counted(len(result.slices), "slice")
        )
        counts = self.session.current.ledger.counts(result.source, min_score=_SURE)
        sure = sum(counts.get(z, 0) for z in result.slices)
        there = "" if result.predicted else " They were there already."
        text = (
            f"{result.model} found {counted(sure, 'fossil')} on {where}, and "
            f"{result.instances - sure} doubtful ones (score below {_SURE:g}).{there}"
        )
        show_result(text, result)
        self.predicted.emit(result.source)
