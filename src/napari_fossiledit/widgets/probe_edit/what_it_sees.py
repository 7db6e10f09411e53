"""The step *What it looks at*: which pixels of which slices speak for a mask."""

from __future__ import annotations

from enum import Enum

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_fossiledit.errors import FossilError
from napari_fossiledit.evaluation.numbers import percent
from napari_fossiledit.params.saliency import Method, Said, SaliencyParams
from napari_fossiledit.widgets.canvas import regions
from napari_fossiledit.widgets.canvas.layers import Role, find, prediction_array, remove
from napari_fossiledit.widgets.canvas.pointing import Pointer
from napari_fossiledit.widgets.canvas.saliency import show_saliency
from napari_fossiledit.widgets.common.forms import ParamsForm
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.notices import errors_shown
from napari_fossiledit.widgets.common.paths import ReportButton
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import beside, button, note
from napari_fossiledit.widgets.probe_edit.model_picker import ModelPicker
from napari_fossiledit.widgets.probe_edit.repair import DEFAULT_SCORE, instance_at, source_on
from napari_fossiledit.workflows.saliency import look
from napari_fossiledit.workflows.saliency.look import SaliencyResult

HELP = (
    "See which pixels make the model sure of a fossil, or draw its outline as it does, also on the"
    " slices before and after where it sees them."
)
_LABELS = {
    "method": "How it is computed",
    "of": "What is explained",
    "class_name": "Kind of fossil",
    "score": "Least score",
    "steps": "Steps from grey",
    "samples": "Noisy copies",
    "noise": "Noise",
    "tile": "Largest piece (pixels)",
    "seed": "Random number",
    "device": "Computed on",
}
_WORDS: dict[Enum, str] = {
    Method.GRADIENT: "slope alone (gradient)",
    Method.INPUT_X_GRADIENT: "quick (input-x-gradient)",
    Method.SMOOTHGRAD: "smoothed (smoothgrad)",
    Method.INTEGRATED: "slow (integrated-gradients)",
    Method.GRAD_CAM: "coarse (grad-cam)",
    Said.CLASS: "its kind (class)",
    Said.MASK: "its outline (mask)",
}
_CLICK, _STOP = "Of one mask ...", "Click a mask ..."


class WhatItSees(QWidget):
    """Ask a model what it looks at, and show it over the slices."""

    def __init__(self, session: Session, jobs: JobPanel, model: ModelPicker) -> None:
        super().__init__()
        self.session, self.jobs, self.picker = session, jobs, model
        hidden = ("model", "z", "instance")
        rest = [n for n in SaliencyParams.model_fields if n not in (*hidden, "of", "method")]
        self.form = ParamsForm(
            SaliencyParams, hidden=hidden, advanced=rest, labels=_LABELS, words=_WORDS
        )
        self.pointer = Pointer(session, self)
        tip = "Then click a mask: what does the model look at to find it?"
        self.click_button = button(_CLICK, tip, self.click)
        self.legend = note("")
        self.report = ReportButton()
        self.clear_button = button("Clear", "Take the layers away again.", self.forget)
        column = QVBoxLayout(self)
        column.addWidget(note(HELP))
        column.addWidget(self.form)
        tip = "What does the model look at for all that it finds on this slice?"
        column.addWidget(beside(self.click_button, button("Of this slice", tip, self.look)))
        column.addWidget(self.legend)
        column.addWidget(self.report)
        column.addWidget(self.clear_button)
        self.pointer.clicked.connect(self._on_click)
        self.pointer.active.connect(
            lambda waits: self.click_button.setText(_STOP if waits else _CLICK)
        )
        # Another model looks elsewhere.
        model.currentIndexChanged.connect(self.forget)
        self.forget()

    def refresh(self) -> None:
        """Show the project that is open now."""
        self.form.refresh()
        self.forget()

    def forget(self) -> None:
        """Take what is shown away."""
        self.pointer.stop()
        remove(self.session.viewer, Role.SALIENCY, Role.OUTLINE)
        for widget in (self.legend, self.report, self.clear_button):
            widget.hide()

    def click(self) -> None:
        """Start to wait for a click on a mask, or stop."""
        if self.pointer.is_active:
            self.pointer.stop()
            return
        # Raises before the click where there is nothing to click on.
        source_on(self.session, self.picker.name, self.session.slice)
        self.pointer.start()

    def _on_click(self, z: int, x: int, y: int) -> None:
        with errors_shown():
            layer = find(self.session.viewer, Role.PREDICTIONS)
            score = DEFAULT_SCORE if layer is None else prediction_array(layer).score
            source = source_on(self.session, self.picker.name, z)
            found = self.session.current.instances(source, z, min_score=score)
            hit = instance_at(found, x, y)
            if hit is None:
                raise FossilError(
                    f"{self.picker.name} found nothing there on slice {z}",
                    expected="a click on a mask",
                )
            regions.show_outline(self.session, z, hit.mask)
            self.look(hit.id or 0)

    def look(self, instance: int = 0) -> None:
        """Compute in a separate process what the model looks at; 0: for all on the slice."""
        path = self.session.writable.path
        self.form.fix(model=self.picker.name, z=self.session.slice, instance=instance)
        params = self.form.read()
        then = self.session.while_open(self._on_looked)
        title = "Looking at what the model looks at"
        self.jobs.start(title, look.run, path, params, loads_first=True, then=then)

    def _on_looked(self, result: SaliencyResult) -> None:
        self.session.predictions_changed.emit()
        show_saliency(self.session, result)
        self.legend.setText(legend(result))
        self.report.take(result.folder / look.PICTURE)
        for widget in (self.legend, self.report, self.clear_button):
            widget.show()


def legend(result: SaliencyResult) -> str:
    """Say in words what the layers show."""
    count = len(result.instances)
    what = "one mask" if count == 1 else f"{count} masks"
    said = "the outline" if result.of is Said.MASK else "the kind"
    words = [f"<b>Bright is what counts most for {said} of {what} on slice {result.slice}.</b>"]
    if len(result.shares) > 1:
        parts = [
            f"{percent(share)} on slice {z}"
            for z, share in zip(result.near, result.shares, strict=True)
        ]
        words.append(f"Of all that counts: {', '.join(parts)}. Each slice shows its own.")
    words += result.notes
    return " ".join(words)
