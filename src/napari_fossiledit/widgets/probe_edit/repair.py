"""The step *Repair*: show one wrong place, and have the model mended for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance
from napari_fossiledit.masks.probability import MASK_CUT
from napari_fossiledit.params.editing import RepairParams
from napari_fossiledit.widgets.canvas import regions
from napari_fossiledit.widgets.canvas.layers import (
    Role,
    find,
    prediction_array,
    remove,
    shown_source,
)
from napari_fossiledit.widgets.canvas.pointing import Pointer
from napari_fossiledit.widgets.common.forms import ParamsForm
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.notices import show_done, show_error
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import button, note
from napari_fossiledit.widgets.probe_edit.mend import LEARNING
from napari_fossiledit.widgets.probe_edit.model_picker import ModelPicker
from napari_fossiledit.workflows.repair import run as repair
from napari_fossiledit.workflows.repair.proposal import find_case
from napari_fossiledit.workflows.repair.result import RepairResult
from napari_fossiledit.workflows.shared.sources import predictions_on

HELP = (
    "Show one wrong place on the slice. The program looks for the cause, mends the model and judges"
    " that. Then you keep it or roll it back."
)
_LABELS = {
    "towards_texture": "Also try texture",
    "joint": "Most other slices",
    "solver": "How it learns",
    "strengths": "Strengths to try",
    "tolerance": "Accepted loss",
    "mask_cut": "Masks end at",
    "tuning": "Choose strength on",
    "pinned": "Judge on",
    "name": "Name of the edit",
    "device": "Computed on",
}
_CLICK, _STOP = "Click a wrong mask", "Click on it ..."
_NOT_CHOSEN = "Nothing is chosen yet: click a wrong mask, or outline a fossil that was missed."
# Where no predictions are shown, a click means an instance that would be shown: the slider of
# scores in the dock Segment begins there.
DEFAULT_SCORE = 0.5


@dataclass(frozen=True)
class RepairTarget:
    """The place to repair: a mask that should not be there, or a fossil that was missed.

    Attributes
    ----------
    slice
        Index of the slice.
    instance
        Id of the wrong prediction in the ledger, None where a fossil is missing.
    outline
        Region of the missing fossil; empty where a mask is wrong.
    text
        Description for the user.
    """

    slice: int
    instance: int | None
    outline: str
    text: str


def instance_at(instances: Sequence[Instance], x: int, y: int) -> Instance | None:
    """Return the instance of the highest score at a pixel, None where there is none."""
    # Of equal scores the smallest: it may lie inside the others.
    for instance in sorted(instances, key=lambda i: (-i.score, i.mask.area)):
        y0, x0, y1, x1 = instance.mask.box
        if y0 <= y < y1 and x0 <= x < x1 and instance.mask.crop((y, x, y + 1, x + 1))[0, 0]:
            return instance
    return None


def source_on(session: Session, model: str, z: int) -> str:
    """Return the predictions of a model on a slice, those on show where it has several."""
    return predictions_on(session.current, model, z, shown_source(session))


class Repair(QWidget):
    """Choose a wrong place, and edit the model for it.

    Signals
    -------
    mended(object)
        The edit was computed and judged: its result.
    """

    mended = Signal(object)

    def __init__(self, session: Session, jobs: JobPanel, model: ModelPicker) -> None:
        super().__init__()
        self.session, self.jobs, self.picker = session, jobs, model
        self.target: RepairTarget | None = None
        hidden = ("model", "slice", "instance", "outline")
        rest = [n for n in RepairParams.model_fields if n not in hidden]
        self.form = ParamsForm(
            RepairParams, hidden=hidden, advanced=rest, labels=_LABELS, words=LEARNING
        )
        self.pointer = Pointer(session, self)
        self.chosen = note(_NOT_CHOSEN)
        self.click_button = button(
            _CLICK, "Then click on a mask that should not be there.", self.click
        )
        self.repair_button = button(
            "Repair",
            "Look for the cause, edit the model and judge the edit, in the background.",
            self.repair,
        )
        column = QVBoxLayout(self)
        column.addWidget(note(HELP))
        column.addWidget(self.click_button)
        tip = "Draw around a fossil that was not found."
        column.addWidget(button("Outline a missed fossil", tip, self.outline))
        column.addWidget(self.chosen)
        column.addWidget(self.repair_button)
        column.addWidget(self.form)
        self.pointer.clicked.connect(self._on_click)
        self.pointer.active.connect(
            lambda waits: self.click_button.setText(_STOP if waits else _CLICK)
        )
        # Of another model another mask is wrong.
        model.currentIndexChanged.connect(self.forget)

    def refresh(self) -> None:
        """Show the project that is open now."""
        self.form.refresh()
        self.forget()

    def forget(self) -> None:
        """Take the chosen place back."""
        self.pointer.stop()
        self._choose(None)

    @property
    def model(self) -> str:
        """Name of the model to repair."""
        return self.picker.name

    # ---------------------------------------------------------------- what is wrong

    def click(self) -> None:
        """Start to wait for a click on a wrong mask, or stop."""
        if self.pointer.is_active:
            self.pointer.stop()
            return
        # Raises before the click where there is nothing to click on.
        source_on(self.session, self.model, self.session.slice)
        self.pointer.start()

    def point(self, z: int, x: int, y: int) -> None:
        """Choose the mask at a pixel as the wrong one.

        Raises
        ------
        FossilError
            Where the model found nothing there.
        """
        layer = find(self.session.viewer, Role.PREDICTIONS)
        score, cut = DEFAULT_SCORE, MASK_CUT
        project, source = self.session.current, source_on(self.session, self.model, z)
        if layer is not None:
            array = prediction_array(layer)
            score = array.score
            if project.ledger.has_probabilities(source, z):
                cut = array.mask_cut
        # What is clicked on, and repaired, is the mask as it is shown.
        self.form.fill(mask_cut=cut)
        instances = project.instances(source, z, min_score=score, mask_cut=cut)
        hit = instance_at(instances, x, y)
        if hit is None:
            raise FossilError(
                f"{self.model} found nothing there on slice {z}",
                expected="a click on a mask",
                advice="Outline the fossil instead, if it was missed.",
            )
        regions.show_outline(self.session, z, hit.mask)
        # Raises before a job starts where the tracing says that the mask is right.
        params = RepairParams(model=self.model, slice=z, instance=hit.id, mask_cut=cut)
        find_case(project, params, self.model, source)
        text = f"{hit.class_name} of {hit.mask.area} pixels, score {hit.score:.2f}"
        self._choose(
            RepairTarget(z, hit.id, "", f"Slice {z}: the outlined mask is wrong ({text}).")
        )

    def _on_click(self, z: int, x: int, y: int) -> None:
        self._choose(None)
        try:
            self.point(z, x, y)
        except FossilError as error:
            self.chosen.setText(str(error))
            show_error(error)

    def outline(self) -> None:
        """Select the tool to draw around a missed fossil."""
        remove(self.session.viewer, Role.OUTLINE)
        self._choose(None)
        layer = regions.draw(self.session, Role.OUTLINE, "Polygon")
        layer.events.data.connect(self._on_outline)

    def _on_outline(self, event: object) -> None:
        # napari also reports each move of a corner that is being dragged: wait for the end.
        if str(getattr(event, "action", "")) not in ("added", "changed", "removed"):
            return
        z = self.session.slice
        drawn = regions.drawn_regions(self.session, z, Role.OUTLINE)
        if drawn:
            text = f"Slice {z}: a fossil that was missed, outlined."
            self._choose(RepairTarget(z, None, drawn[-1].region, text))

    def _choose(self, target: RepairTarget | None) -> None:
        self.target = target
        self.chosen.setText(_NOT_CHOSEN if target is None else target.text)
        self.repair_button.setEnabled(target is not None)

    # ---------------------------------------------------------------------- repairing

    def repair(self) -> None:
        """Start the repair in a separate process."""
        project, target = self.session.writable, self.target
        if target is None:
            raise FossilError("Nothing is chosen to repair", advice=_NOT_CHOSEN)
        place = {"slice": target.slice, "instance": target.instance, "outline": target.outline}
        self.form.fix(model=self.model, **place)
        params = self.form.read()
        then = self.session.while_open(self._show)
        self.jobs.start("Repairing", repair.run, project.path, params, loads_first=True, then=then)

    def _show(self, result: RepairResult) -> None:
        show_done(result.verdict)
        self.session.models_changed.emit()
        self.session.edits_changed.emit()
        self.session.predictions_changed.emit()
        # Last: where another model is chosen by now, the place is forgotten.
        self.chosen.setText(result.misled_by)
        self.mended.emit(result)
