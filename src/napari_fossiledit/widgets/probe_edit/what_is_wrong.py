"""The step *What is wrong?*: one button that probes, one sentence, and the places to look at."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import QGridLayout, QToolButton, QVBoxLayout, QWidget

from napari_fossiledit.params.perturb import PerturbParams, Preset
from napari_fossiledit.params.probe import ALL, ProbeParams
from napari_fossiledit.widgets.canvas.pointing import look_at
from napari_fossiledit.widgets.canvas.regions import show_outline
from napari_fossiledit.widgets.common.forms import ParamsForm
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.model_choices import Choice
from napari_fossiledit.widgets.common.notices import errors_shown
from napari_fossiledit.widgets.common.paths import ReportButton
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import button, fold, note
from napari_fossiledit.widgets.probe_edit.model_picker import ModelPicker
from napari_fossiledit.widgets.probe_edit.perturbation import CHOICES, Perturbation
from napari_fossiledit.workflows.probe import run as probe
from napari_fossiledit.workflows.probe.places import WrongPlace
from napari_fossiledit.workflows.probe.result import ProbeResult

HELP = (
    "The model looks at traced slices as they are and changed, such as with all fossils hidden. "
    "What it then finds tells what misleads it."
)
NOTHING_TRACED = (
    "No slice is traced yet, so nobody can tell right from wrong. Trace one slice completely first."
)
_LABELS = {
    "slices": "Slices",
    "presets": "Changes",
    "score": "Least score for figures",
    "detection_score": "Least score of a find",
    "mask_cut": "Masks end at",
    "device": "Computed on",
}
_COLUMNS, _PICTURE, _RIM = 3, 76, 10


_WIDE = 250
_PRESETS = (
    Choice.named(ALL, "The four that tell most"),
    *(Choice.named(preset.value, CHOICES[preset]) for preset in Preset),
)


class WhatIsWrong(QWidget):
    """Probe a model, read what misleads it most, look at the places.

    Signals
    -------
    used(object)
        The user wants to mend what this result says.
    """

    used = Signal(object)

    def __init__(
        self, session: Session, jobs: JobPanel, model: ModelPicker, perturbation: Perturbation
    ) -> None:
        super().__init__()
        self.session, self.jobs, self.model, self.perturbation = session, jobs, model, perturbation
        self.result: ProbeResult | None = None
        self.form = ParamsForm(
            ProbeParams,
            hidden=("model", *PerturbParams.model_fields),
            choices={"presets": lambda: list(_PRESETS)},
            labels=_LABELS,
        )
        # Its words are long: it gets a line of its own.
        self.form.rows["presets"].native.setMinimumWidth(_WIDE)
        self.start = button(
            "Find what is wrong",
            "Show the model some traced slices as they are and changed, in the background.",
            self.probe,
        )
        self.why_not, self.answer = note(""), note("")
        self.places = QWidget()
        self.grid = QGridLayout(self.places)
        self.grid.setContentsMargins(0, 0, 0, 0)
        self.grid.setHorizontalSpacing(2)
        self.use = button(
            "Use this",
            "Fill in the next step with a proposal for what was found here.",
            lambda: self.used.emit(self.result),
        )
        self.report = ReportButton()
        column = QVBoxLayout(self)
        column.addWidget(note(HELP))
        column.addWidget(self.start)
        column.addWidget(self.why_not)
        column.addWidget(self.answer)
        column.addWidget(self.places)
        column.addWidget(self.use)
        inside = fold(column, "More settings and the report")
        inside.addWidget(self.form)
        inside.addWidget(self.report)
        session.annotations_changed.connect(self._check)

    def refresh(self) -> None:
        """Show the project that is open now, without a result."""
        self.form.refresh()
        self._show(None)
        self._check()

    def probe(self) -> None:
        """Start probing in a separate process."""
        path = self.session.writable.path
        # With the steps that the user wrote whatever preset is chosen: the presets to probe, of
        # which custom is one, are chosen here.
        values = {**self.perturbation.values(), "steps": self.perturbation.steps.steps}
        self.form.fix(**values, model=self.model.name)
        then = self.session.while_open(self._on_probed)
        params = self.form.read()
        title = "Looking for what is wrong"
        self.jobs.start(title, probe.run, path, params, loads_first=True, then=then)

    def look_at(self, place: WrongPlace) -> None:
        """Show the slice of a place with it outlined in the middle of the canvas."""
        look_at(self.session, place.instance.slice, place.instance.mask.box)
        show_outline(self.session, place.instance.slice, place.instance.mask)

    def _check(self) -> None:
        project = self.session.project
        is_traced = project is not None and bool(project.ledger.traced())
        self.start.setEnabled(is_traced)
        self.why_not.setText("" if is_traced else NOTHING_TRACED)
        self.why_not.setVisible(not is_traced)

    def _on_probed(self, result: ProbeResult) -> None:
        self._show(result)
        self.session.predictions_changed.emit()

    def _show(self, result: ProbeResult | None) -> None:
        self.result = result
        self.answer.setText(f"<b>{result.sentence}</b>" if result else "")
        for widget in (self.answer, self.places, self.use):
            widget.setVisible(result is not None)
        self.report.take(result.report if result else None)
        self._show_places(result.places if result else ())

    def _show_places(self, places: Sequence[WrongPlace]) -> None:
        while (item := self.grid.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.hide()
                widget.deleteLater()
        for number, place in enumerate(places):
            shown = QToolButton()
            shown.setIcon(_icon(place))
            shown.setIconSize(QSize(_PICTURE, _PICTURE))
            # Three side by side in the narrowest page: of a longer name the end is in the tooltip.
            shown.setStyleSheet("font-size: 11px;")
            shown.ensurePolished()
            words = shown.fontMetrics().elidedText(
                place.words, Qt.TextElideMode.ElideRight, _PICTURE
            )
            shown.setText(f"{words}\nslice {place.instance.slice}")
            shown.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
            # A page that is too short would else take the words away.
            shown.setFixedSize(_PICTURE + _RIM, shown.sizeHint().height())
            shown.setToolTip(f"{place.sentence} Click to go there.")
            shown.setAccessibleName(place.sentence)
            shown.clicked.connect(partial(self._on_place, place))
            self.grid.addWidget(shown, *divmod(number, _COLUMNS))

    def _on_place(self, place: WrongPlace, _: bool = False) -> None:
        with errors_shown():
            self.look_at(place)


def _icon(place: WrongPlace) -> QIcon:
    height, width, _ = place.picture.shape
    image = QImage(place.picture.tobytes(), width, height, width * 3, QImage.Format.Format_RGB888)
    # Icons are only ever made smaller. The scaled image owns its pixels.
    whole, smooth = Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
    return QIcon(QPixmap.fromImage(image.scaled(2 * _PICTURE, 2 * _PICTURE, whole, smooth)))
