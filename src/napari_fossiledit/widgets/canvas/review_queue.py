"""The place of the queue on show: gone to, outlined, decided about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Mask
from napari_fossiledit.params.review import CorrectParams, NextParams, SameParams
from napari_fossiledit.project import ANNOTATIONS
from napari_fossiledit.selection import Doubt, Place
from napari_fossiledit.widgets.canvas import correcting
from napari_fossiledit.widgets.canvas.layers import Role, remove
from napari_fossiledit.widgets.canvas.pointing import look_at
from napari_fossiledit.widgets.canvas.regions import show_outlines
from napari_fossiledit.widgets.canvas.selection import Selection
from napari_fossiledit.widgets.common.job_runner import JobRunner, JobSpec
from napari_fossiledit.widgets.common.notices import counted, show_done, show_error
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.workflows.annotate.corrections import correct
from napari_fossiledit.workflows.review import through_z
from napari_fossiledit.workflows.review.queue import PlaceToSee, QueueResult, next_place
from napari_fossiledit.workflows.review.through_z import SpecimensResult

WORDS = {
    Doubt.SCORE: "the model was not sure of it",
    Doubt.JUMP: "it is unlike the slices below and above",
    Doubt.ALONE: "it does not go on in the slices below or above",
    Doubt.OVERLAP: "masks overlap",
    Doubt.FRAGMENT: "it is very small",
    Doubt.GAP: "a fossil that is below and above is missing here",
    Doubt.LEFT_OUT: "the model found something that is not among your masks",
    Doubt.UNREVIEWED: "nothing speaks against it, but nobody has looked at it",
    Doubt.LINK: "it may be another specimen than before, where it is outlined too",
}


_ANSWERS = {
    Doubt.LEFT_OUT: ("A fossil", "No fossil"),
    Doubt.GAP: ("Nothing is missing", ""),
    Doubt.LINK: ("One specimen", "Two specimens"),
}


class ReviewQueue(QObject):
    """Goes from one doubtful place to the next.

    Signals
    -------
    changed
        Another place is shown, or none.

    Attributes
    ----------
    result
        The place on show and the state of the review; None before the first one was asked for.
    doubt
        The kind of doubt that is asked for; empty: any.
    """

    changed = Signal()

    def __init__(self, session: Session, selection: Selection) -> None:
        super().__init__(session)
        self.session, self.selection = session, selection
        self.result: QueueResult | None = None
        self.doubt = ""
        self._passed = 0
        self._runner = JobRunner(self)
        self._runner.failed.connect(show_error)
        session.project_changed.connect(self.leave)

    @property
    def shown(self) -> PlaceToSee | None:
        """The place on show, if there is one."""
        return self.result.places[0] if self.result is not None and self.result.places else None

    @property
    def text(self) -> str:
        """Where the place on show is and why it is one, as rich text."""
        if self.result is None:
            return ""
        if self.shown is None:
            kind = f" of the kind '{self.doubt}'" if self.doubt else ""
            return f"<b>No place{kind} is left to look at.</b>"
        place = self.shown.place
        volume = self.shown.volume_um3 / 1e9
        return (
            f"<b>Slice {place.slice}: {WORDS[place.doubt]}.</b><br>"
            f"About {volume:.2g} mm³ may be wrong here."
        )

    def leave(self) -> None:
        """Show no place any more."""
        self.result, self._passed = None, 0
        if self.session.project is not None:
            remove(self.session.viewer, Role.OUTLINE)
        self.changed.emit()

    def step(self, steps: int = 1) -> None:
        """Go to the next place, or to the one before."""
        if not self._runner.is_running:
            self._passed = max(self._passed + (steps if self.result is not None else 0), 0)
            self.go()

    def choose(self, doubt: str) -> None:
        """Go to the best place of one kind of doubt; empty: of any."""
        self.doubt, self._passed = doubt, 0
        self.go()

    def go(self) -> None:
        """Ask for the place anew, and show it."""
        params = NextParams(skip=self._passed, doubt=self.doubt)
        self._run("Looking for the next place", next_place, params, self._show)

    @property
    def answers(self) -> tuple[str, str]:
        """Words for what is right and what is wrong; empty where there is nothing to be wrong."""
        doubt = None if self.shown is None else self.shown.place.doubt
        return _ANSWERS.get(doubt or Doubt.UNREVIEWED, ("Right", "Wrong"))

    def accept(self) -> None:
        """Say that the clicked mask, or what is outlined, is right."""
        picked = self.selection.picked
        if picked is not None:
            item = picked.instance
            # Once more takes the mark away, so that the mask can be changed.
            self._decide(
                item.slice, picked.source, accept=[item.id or 0], reviewed=not item.reviewed
            )
            return
        shown = self._needed()
        place = shown.place
        if place.doubt is Doubt.LINK:
            self._same(place, same=True)
        elif place.doubt is Doubt.LEFT_OUT:
            self._decide(place.slice, shown.source, accept=place.predictions[:1])
        else:
            # Beside masks that are right, nothing is missing.
            wrong = [*place.missing, *place.predictions]
            self._decide(place.slice, shown.source, accept=place.ids, reject=wrong)

    def reject(self) -> None:
        """Say that the clicked mask, or what is outlined, is wrong."""
        picked = self.selection.picked
        if picked is not None:
            self._decide(picked.instance.slice, picked.source, reject=[picked.instance.id or 0])
            return
        shown = self._needed()
        place = shown.place
        if place.doubt is Doubt.GAP:
            raise FossilError(
                "There is no mask here that could be wrong",
                advice="Draw the fossil that is missing, or say that nothing is missing (A).",
            )
        if place.doubt is Doubt.LINK:
            self._same(place, same=False)
            return
        wrong = place.predictions if place.doubt is Doubt.LEFT_OUT else place.ids
        self._decide(place.slice, shown.source, reject=wrong)

    def _same(self, place: Place, *, same: bool) -> None:
        params = SameParams(before=place.before[0], after=place.ids[0], same=same)
        self._run("Keeping the decision", through_z.same, params, self._on_same)

    def _needed(self) -> PlaceToSee:
        if self.shown is None:
            raise FossilError("No mask is picked", advice="Click one, or go to the next place (J).")
        return self.shown

    def accept_slice(self) -> None:
        """Say that all masks of the slice on show are right."""
        z = self.session.slice
        self._run(
            "Keeping the slice", correct, CorrectParams(slice=z, accept="all"), self._on_decided
        )

    def _decide(
        self, z: int, source: str, *, accept: Any = (), reject: Any = (), reviewed: bool = True
    ) -> None:
        params = CorrectParams(
            slice=z,
            accept=",".join(map(str, accept)),
            reject=",".join(map(str, reject)),
            source="" if source == ANNOTATIONS else source,
            reviewed=reviewed,
        )
        self._run("Keeping the decision", correct, params, self._on_decided)

    def _run(
        self, title: str, function: Callable[..., Any], params: object, then: Callable[[Any], None]
    ) -> None:
        if self._runner.is_running:
            # A key that is held down, or pressed before the last one was answered.
            return
        project = self.session.writable
        self.session.saving.emit()
        job = JobSpec(title, function, (project.path, params), in_process=False)
        self._runner.start(job, self.session.while_open(then))

    def _on_decided(self, result: Any) -> None:
        correcting.reload(self.session)
        self.selection.clear()
        said = f"{counted(len(result.accepted), 'mask')} found right"
        if result.accepted and not result.reviewed:
            said = f"{counted(len(result.accepted), 'mask')} can be changed again"
        if gone := len(result.deleted) + len(result.rejected):
            said = f"{counted(gone, 'mask')} found wrong"
        show_done(f"{said} on slice {result.slice}.", correcting.undo_of_newest(self.session))
        self.session.annotations_changed.emit()
        if self.result is not None:
            self.go()

    def _on_same(self, result: SpecimensResult) -> None:
        numbers = " and ".join(map(str, result.specimens))
        noun = "specimens" if len(result.specimens) > 1 else "specimen"
        show_done(f"Kept as {noun} {numbers}.", correcting.undo_of_newest(self.session))
        self.session.annotations_changed.emit()
        if self.result is not None:
            self.go()

    def _show(self, result: QueueResult) -> None:
        self.result = result
        if not result.places and self._passed:
            # Behind the last one: the first that was passed over.
            self._passed = 0
            self.go()
            return
        if self.shown is None:
            remove(self.session.viewer, Role.OUTLINE)
        else:
            place = self.shown.place
            self.selection.clear()
            look_at(self.session, place.slice, place.box, fitting=True)
            show_outlines(self.session, self._doubtful(self.shown), place.box)
        self.changed.emit()

    def _doubtful(self, shown: PlaceToSee) -> list[tuple[int, Mask]]:
        """Return what is in doubt at a place, each mask with the slice that it is outlined on."""
        place, ledger = shown.place, self.session.current.ledger
        ids = {Doubt.LEFT_OUT: place.predictions[:1], Doubt.GAP: place.missing}.get(
            place.doubt, place.ids + place.before
        )
        return [
            (place.slice, instance.mask)
            for source in (ANNOTATIONS, shown.source)
            if source
            for instance in ledger.instances(source, ids=ids)
        ]
