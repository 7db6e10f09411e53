"""The tab *Train* of the dock *Segment*."""

from __future__ import annotations

from enum import Enum
from typing import Any

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.params.segment import FirstLayer, InputMode, TrainParams
from napari_fossiledit.widgets.common.forms import ParamsForm
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.model_choices import only_installed_backends
from napari_fossiledit.widgets.common.notices import counted, show_result
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import button, note
from napari_fossiledit.workflows.segment import train

_LABELS = {
    "name": "Name of the model",
    "architecture": "Size of the model",
    "slices": "Slices to learn from",
    "validation": "Slices to check on",
    "classes": "Kinds of fossils",
    "region": "Part of the slices",
    "init": "Start from",
    "input": "What the model sees",
    "reach": "Neighbouring slices",
    "start": "Start of the first layer",
    "z_flip": "Turn windows round",
    "hold_back": "Training held back",
    "max_minutes": "At most (minutes)",
    "max_steps": "At most (steps)",
    "scale": "Size of a pixel",
    "crop": "Cut-out (pixels)",
    "batch": "Cut-outs a step",
    "learning_rate": "Learning rate",
    "seed": "Random number",
    "device": "Compute on",
    "backend": "Compute with",
    "precision": "Precision",
}
_WORDS: dict[Enum, str] = {
    InputMode.RGB: "the slice alone (rgb)",
    InputMode.GREY_WINDOW: "neighbours, in grey (grey-window)",
    InputMode.RGB_WINDOW: "neighbours, in colour (rgb-window)",
    FirstLayer.PRETRAINED: "as it was (pretrained)",
    FirstLayer.UNIFORM: "all channels alike (uniform)",
    FirstLayer.UNIFORM_Z: "all slices alike (uniform-z)",
    FirstLayer.SYMMETRIC: "before and after alike (symmetric)",
    FirstLayer.RANDOM: "by chance (random)",
}
_SHOWN = ("name", "architecture", "slices", "max_minutes")


class TrainTab(QWidget):
    """Train a model on the slices that are traced."""

    def __init__(self, session: Session, jobs: JobPanel) -> None:
        super().__init__()
        self.session, self.jobs = session, jobs
        # What was filled in last: where the user wrote something else, that stays.
        self._filled = ""
        advanced = [name for name in TrainParams.model_fields if name not in _SHOWN]
        self.form = only_installed_backends(
            ParamsForm(TrainParams, advanced=advanced, labels=_LABELS, words=_WORDS)
        )
        column = QVBoxLayout(self)
        column.addWidget(
            note("Train a model on a few slices on which every fossil is traced; six are enough.")
        )
        column.addWidget(self.form)
        column.addWidget(
            button(
                "Use all traced slices",
                "Fill in all traced slices but the pinned ones, which only judge.",
                self._fill,
            )
        )
        tip = "Train in the background; Cancel keeps the best model so far."
        column.addWidget(button("Train", tip, self.train))
        column.addStretch(1)

    def refresh(self) -> None:
        """Fill in the traced slices of the project that is open now."""
        written = self.form.rows["slices"].value
        if self.session.project is not None and written in ("", self._filled):
            self._fill()

    def _fill(self) -> None:
        self._filled = self._traced()
        self.form.fill(slices=self._filled)

    def _traced(self) -> str:
        project = self.session.current
        pinned = project.settings.pinned_slices
        return format_slices([z for z in project.ledger.traced() if z not in pinned])

    def train(self) -> None:
        """Start training in a separate process."""
        project = self.session.writable
        params = self.form.read()
        if not params.slices:
            self.form.complain({"slices": "Enter the traced slices to train on."})
            raise FossilError(
                "There are no slices to train on",
                advice='Trace slices, or import annotations on the page "Stack".',
            )
        self.jobs.start(
            "Training", train.run, project.path, params, loads_first=True, then=self._on_done
        )

    def _on_done(self, result: Any) -> None:
        how = f"{counted(len(result.slices), 'slice')} in {result.minutes:.0f} minutes"
        show_result(f"The model {result.name} has learned from {how}.", result)
        self.session.models_changed.emit()
