"""Fossils through several slices: copied on, interpolated, split and deleted as specimens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtWidgets import QLineEdit, QVBoxLayout, QWidget

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.masks import Part
from napari_fossiledit.params.review import InterpolateParams, SpecimensParams
from napari_fossiledit.widgets.canvas import correcting
from napari_fossiledit.widgets.canvas.project_view import attach
from napari_fossiledit.widgets.canvas.regions import show_outlines
from napari_fossiledit.widgets.canvas.shortcuts import COPYING
from napari_fossiledit.widgets.common.forms import ParamsForm
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.notices import counted, show_done
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import beside, button, note
from napari_fossiledit.widgets.review.queue_panel import keyed
from napari_fossiledit.workflows.review.through_z import (
    SpecimensResult,
    ThroughResult,
    interpolate,
    specimens,
)

HELP = (
    "Correct every few slices, then have the fossils between them interpolated. The preview "
    "outlines them and writes nothing."
)
_LABELS = {"slices": "Between slices", "class_name": "Class", "max_gap": "Longest gap"}
_HIDDEN = ("specimens", "least_area", "preview")


class ThroughPanel(QWidget):
    """What is done in several slices at once."""

    def __init__(self, session: Session, jobs: JobPanel) -> None:
        super().__init__()
        self.session, self.jobs = session, jobs
        self.form = ParamsForm(InterpolateParams, hidden=_HIDDEN, labels=_LABELS)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(beside(*(keyed(session, s) for s in COPYING)))
        column.addWidget(note(HELP))
        column.addWidget(self.form)
        column.addWidget(
            beside(
                button(
                    "Preview",
                    "Outline what would be drawn; step through the slices to see it.",
                    lambda: self.interpolate(preview=True),
                ),
                button(
                    "Interpolate",
                    "Draw the fossils between these slices; it can be undone as one step.",
                    lambda: self.interpolate(preview=False),
                ),
            )
        )
        self.other = QLineEdit()
        self.other.setPlaceholderText("number of another specimen")
        self.other.setAccessibleName("Number of another specimen")
        column.addWidget(
            beside(
                self.other,
                button(
                    "Join with it",
                    "Make the clicked specimen and that of this number one, in all slices.",
                    self.join,
                ),
            )
        )
        column.addWidget(
            beside(
                button(
                    "Split from here",
                    "Make the clicked specimen another one from this slice on.",
                    lambda: self._specimen(split_at=session.slice),
                ),
                button(
                    "Delete specimen",
                    "Delete the clicked specimen in all slices, but for masks found right.",
                    lambda: self._specimen(delete=True),
                ),
            )
        )

    def refresh(self) -> None:
        """Offer the classes of the project that is open now."""
        self.form.refresh()

    def interpolate(self, *, preview: bool) -> None:
        """Interpolate between the slices of the form, or show what that would draw."""
        params = self.form.read().model_copy(update={"preview": preview})
        title = "Previewing" if preview else "Interpolating"
        self._run(title, interpolate, params, self._on_interpolated)

    def join(self) -> None:
        """Make one specimen of the clicked one and that of the number."""
        if not self.other.text().strip().isdecimal():
            raise FossilError(
                "It is not told which specimen to join with",
                expected="the number of a specimen, as a click on one of its masks tells it",
                found=self.other.text() or "nothing",
            )
        self._specimen(merge=True)

    def _specimen(self, **what: Any) -> None:
        picked = attach(self.session).selection.picked
        if picked is None or not picked.is_own or picked.instance.specimen is None:
            raise FossilError(
                "No specimen is picked",
                expected="a mask of yours that belongs to one",
                advice="Click one; masks get their specimens by linking, on the page *Reef*.",
            )
        item = picked.instance
        numbers = (
            f"{item.specimen},{self.other.text().strip()}" if "merge" in what else item.specimen
        )
        params = SpecimensParams(specimens=str(numbers), class_name=item.class_name, **what)
        self._run("Changing the specimen", specimens, params, self._on_specimen)

    def _run(
        self, title: str, function: Callable[..., Any], params: object, then: Callable[[Any], None]
    ) -> None:
        self.session.saving.emit()
        path = self.session.writable.path
        self.jobs.start(
            title, function, path, params, in_process=False, then=self.session.while_open(then)
        )

    def _on_interpolated(self, result: ThroughResult) -> None:
        bodies = [i for i in result.sections if i.part is Part.BODY]
        where = f" in slices {format_slices(result.slices)}" if result.slices else ""
        left = [
            (result.there, "fossil", "there already"),
            (result.covered, "fossil", "under other ones"),
            (result.alone, "fossil", "without a partner in the next slice"),
            (len(result.long_gaps), "gap", "too long"),
            (len(result.kept), "slice", "traced or found right"),
        ]
        told = "; ".join(f"{counted(n, word)} {why}" for n, word, why in left if n)
        note_ = f" Left out: {told}." if told else ""
        if not result.written:
            show_outlines(self.session, [(i.slice, i.mask) for i in bodies])
            show_done(f"{counted(len(bodies), 'section')} would be drawn{where}.{note_}")
            return
        self._changed(f"{counted(len(bodies), 'section')} drawn{where}.{note_}")

    def _on_specimen(self, result: SpecimensResult) -> None:
        kept = f" {result.reviewed} found right stay." if result.reviewed else ""
        self._changed(
            f"{counted(result.instances, 'mask')} changed in slices "
            f"{format_slices(result.slices)}.{kept}"
        )

    def _changed(self, said: str) -> None:
        correcting.show_labels(self.session)
        correcting.reload(self.session)
        show_done(said, correcting.undo_of_newest(self.session))
        self.session.annotations_changed.emit()
        self.session.specimens_changed.emit()
