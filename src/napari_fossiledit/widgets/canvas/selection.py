"""A click on a mask picks it: what it is, and what can be done with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Labels
from qtpy.QtCore import QObject, Signal
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask, Origin, Part
from napari_fossiledit.params.review import (
    CopyParams,
    CorrectParams,
    DescribeParams,
    ProposeParams,
    ReshapeParams,
    SplitParams,
    Tool,
)
from napari_fossiledit.perturb.mud import ROCK_CLASS
from napari_fossiledit.project import ANNOTATIONS, Source
from napari_fossiledit.widgets.canvas import correcting
from napari_fossiledit.widgets.canvas.colours import colours_of
from napari_fossiledit.widgets.canvas.layers import ROLE, SOURCE, Role, find, prediction_array
from napari_fossiledit.widgets.canvas.pointing import Pointer
from napari_fossiledit.widgets.canvas.scale_bar import TwoPoints
from napari_fossiledit.widgets.common.compat import text_overlay_of
from napari_fossiledit.widgets.common.job_runner import JobRunner, JobSpec
from napari_fossiledit.widgets.common.notices import errors_shown, show_done, show_error
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.workflows.annotate.corrections import CorrectResult, correct
from napari_fossiledit.workflows.review.shapes import (
    SAME_BOX,
    ProposeResult,
    ShapeResult,
    box_iou,
    describe,
    propose,
    reshape,
    split,
)
from napari_fossiledit.workflows.review.through_z import ThroughResult, copy

# A hand that clicks moves the mouse by a few pixels of the screen.
_STILL = 4.0
_MERGE = "MERGE. Click the other mask."
_UNCHANGED = "Nothing had to be changed."
#: In pixels: smooth, grow and shrink.
_BY = 2.0
_ORIGINS = {
    Origin.MODEL: "taken over from a prediction",
    Origin.HUMAN: "drawn by hand",
    Origin.IMPORTED: "imported",
    Origin.INTERPOLATED: "interpolated between slices",
}


@dataclass(frozen=True)
class Picked:
    """The mask that was clicked.

    Attributes
    ----------
    source
        Whose it is; `ANNOTATIONS` where it is the user's own.
    """

    source: str
    instance: Instance

    @property
    def is_own(self) -> bool:
        """Whether it belongs to the user's set."""
        return self.source == ANNOTATIONS

    def text(self, pixel_um: tuple[float, float]) -> str:
        """Return what it is in a line: class, size, score and origin.

        Parameters
        ----------
        pixel_um
            Height and width (y, x) of a pixel in um.
        """
        item = self.instance
        area = item.mask.area * pixel_um[0] * pixel_um[1]
        parts = [
            item.class_name,
            f"{area / 1e6:.3g} mm²",
            f"longest diameter {longest_um(item.mask, pixel_um):,.0f} um",
        ]
        if self.is_own:
            parts.append(_ORIGINS[item.origin])
        else:
            parts += [f"score {item.score:.2f}", f"found by {Source.parse(self.source).title}"]
        if item.specimen is not None:
            parts.append(f"specimen {item.specimen}")
        return ", ".join(parts)


def longest_um(mask: Mask, pixel_um: tuple[float, float]) -> float:
    """Return the largest distance between two points of a mask in um.

    Parameters
    ----------
    pixel_um
        Height and width (y, x) of a pixel in um.
    """
    crop = mask.crop()
    rows = np.flatnonzero(crop.any(axis=1))
    if not rows.size:
        return 0.0
    left = crop[rows].argmax(axis=1)
    right = crop.shape[1] - crop[rows][:, ::-1].argmax(axis=1)
    # Corners of the pixels, not their centres.
    corners = [(rows + dy, x) for dy in (0, 1) for x in (left, right)]
    points = np.concatenate([np.stack(c, axis=1) for c in corners]) * np.array(pixel_um)
    try:
        points = points[ConvexHull(points).vertices]
    except QhullError:
        points = np.unique(points, axis=0)
    return float(pdist(points).max())


def _left(result: Any) -> list[int]:
    """Return the masks that a change of a slice leaves behind, the one to pick first."""
    match result:
        case CorrectResult():
            return [*result.accepted, *([] if result.merged is None else [result.merged])]
        case ShapeResult():
            return [*result.changed, *result.new]
        case ProposeResult():
            return [] if result.id is None else [result.id]
        case ThroughResult():
            return [i.id or 0 for i in result.sections if i.part is Part.BODY]
    return []


class Selection(QObject):
    """The mask that the user clicked, and what is done with it.

    Signals
    -------
    changed
        Another mask is picked, or none.

    Attributes
    ----------
    picked
        None where none is.
    merging
        Whether the next click picks what the mask is merged with.
    waiting
        What the next clicks on the slice are for; empty: for picking.
    """

    changed = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.session = session
        self.picked: Picked | None = None
        self.merging = False
        self.waiting = ""
        self._slice = session.slice
        self._then: Callable[[str], None] | None = None
        self._points = TwoPoints(session, self, name="Marked places")
        self._points.marked.connect(self._on_marked)
        self._runner = JobRunner(self)
        self._runner.failed.connect(show_error)
        session.viewer.mouse_drag_callbacks.append(self._on_press)
        session.slice_changed.connect(self._on_slice)
        session.project_changed.connect(self.clear)
        session.project_changed.connect(self.leave)
        session.annotations_changed.connect(self._look_again)

    def _on_slice(self, z: int) -> None:
        """Pick nothing on another slice; napari also tells of the same one, as a layer comes."""
        if z != self._slice:
            self._slice = z
            self.clear()
            self.stop()

    @property
    def text(self) -> str:
        """What is picked, in a line; empty where nothing is."""
        if self.picked is None or self.session.project is None:
            return ""
        _, y_um, x_um = self.session.project.geometry.voxel_size.zyx
        text, item = self.picked.text((y_um, x_um)), self.picked.instance
        if not self.picked.is_own:
            return text
        taken = self.session.project.ledger.taken_from([item.id or 0]).get(item.id or 0)
        if taken is not None:
            text += (
                f", found by {Source.parse(taken.source).title} with a score of {taken.score:.2f}"
            )
        return f"{text}, found right" if item.reviewed else text

    def clear(self) -> None:
        """Pick nothing."""
        if self.picked is not None or self.merging:
            self._take(None, None)

    def escape(self) -> None:
        """End a tool that waits for clicks; else pick and choose nothing."""
        if self.waiting:
            self.stop()
        elif self.merging:
            self.merging = False
            self._tell()
        else:
            self.clear()
            colours_of(self.session).choose(())

    def _look_again(self) -> None:
        """Pick nothing where the picked mask is gone or another one, as after undoing."""
        view, picked = correcting.slice_view(self.session), self.picked
        if picked is None or not picked.is_own or view is None:
            return
        if picked.instance not in view.instances(picked.instance.slice):
            self.clear()

    # ------------------------------------------------------------------ clicks

    def _on_press(self, viewer: Any, event: Any) -> Iterator[None]:
        """Distinguish a click from a drag: napari resumes this at each move until the release."""
        if not self._listens(viewer, event):
            return
        place, start, dragged = tuple(event.position), np.asarray(event.pos), False
        yield
        while event.type == "mouse_move":
            dragged |= bool(np.abs(np.asarray(event.pos) - start).max() > _STILL)
            yield
        if not dragged:
            with errors_shown():
                self.pick_at(place)

    def _listens(self, viewer: Any, event: Any) -> bool:
        """Return whether a click means a mask: nobody draws, and nobody waits for a place."""
        active = viewer.layers.selection.active
        mode = str(getattr(active, "mode", "pan_zoom"))
        waits = any(
            isinstance(getattr(callback, "__self__", None), Pointer | TwoPoints)
            for callback in viewer.mouse_drag_callbacks
        )
        return (
            self.session.project is not None
            and viewer.dims.ndisplay == 2
            and event.button == 1
            and not event.modifiers
            and mode == "pan_zoom"
            and not waits
        )

    def pick_at(self, place: tuple[float, ...]) -> None:
        """Pick the mask at a place of the world (z, y, x) in um, the user's first, or nothing."""
        # Of a mask and the prediction that it was taken over from, the one that can be changed.
        for role in (Role.LABELS, Role.PREDICTIONS):
            layer = find(self.session.viewer, role)
            if isinstance(layer, Labels) and layer.visible:
                value = int(layer.get_value(place, world=True) or 0)
                if value and self.pick(layer, value):
                    return
        self.clear()

    def pick(self, layer: Labels, id_: int) -> bool:
        """Pick an instance that a layer shows; merge it where the last one waits for that.

        Returns
        -------
        bool
            False where the layer shows no such instance; the rock face never is one, as it has no
            colour (see `Colours.tint`).
        """
        correcting.save(self.session)
        z, view = self.session.slice, correcting.slice_view(self.session)
        own = layer.metadata[ROLE] == Role.LABELS and view is not None
        shown = view.instances(z) if own and view else prediction_array(layer).painted(z).instances
        source = ANNOTATIONS if own else str(layer.metadata[SOURCE])
        seen = (i for i in shown if i.class_name != ROCK_CLASS)
        found = next((i for i in seen if i.id == id_), None)
        if found is None:
            return False
        first, merging = self.picked, self.merging
        self._take(Picked(source, found), layer)
        if merging and first is not None and first.instance.id != id_:
            self._merge(first, Picked(source, found))
        return True

    def _take(self, picked: Picked | None, layer: Labels | None) -> None:
        self.picked, self.merging = picked, False
        colours_of(self.session).pick(layer, picked.instance if picked else None)
        if picked is not None:
            self.session.viewer.status = self.text
        self._tell()

    # ----------------------------------------------------------------- actions

    def accept(self) -> None:
        """Take the picked prediction over."""
        picked = self._needed()
        if picked.is_own:
            raise FossilError("This mask is one of yours already")
        self._correct("Taking over", picked, accept=str(picked.instance.id), reviewed=False)

    def delete(self) -> None:
        """Delete the picked mask from the user's set."""
        picked = self._needed()
        if not picked.is_own:
            raise FossilError(
                "Predictions cannot be deleted",
                advice="Only what you take over counts. Raise the score to hide doubtful ones.",
            )
        self._correct("Deleting", picked, reject=str(picked.instance.id))

    def merge(self) -> None:
        """Wait for a click on the mask that the picked one is merged with."""
        self._needed()
        self.merging = True
        self._tell()

    def _merge(self, one: Picked, other: Picked) -> None:
        sources = {p.source for p in (one, other)} - {ANNOTATIONS}
        if len(sources) > 1:
            raise FossilError("Two predictions of different models cannot be merged")
        of = one if not one.is_own else other
        self._correct("Merging", of, merge=f"{one.instance.id},{other.instance.id}")

    # ------------------------------------------------------------------- tools

    def reshape(self, tool: Tool) -> None:
        """Tidy the picked mask."""
        picked = self._own()
        params = ReshapeParams(
            slice=picked.instance.slice, ids=str(picked.instance.id), tool=tool, pixels=_BY
        )
        self.act(f"{tool.value.capitalize()} a mask", reshape, params)

    def split(self, *, along_line: bool) -> None:
        """Wait for two clicks: the ends of a line across the picked mask, or one in each half."""
        picked = self._own()
        said = "Click two ends of a line." if along_line else "Click one fossil, then the other."

        def chosen(text: str) -> None:
            where = {"line": text} if along_line else {"clicks": text}
            params = SplitParams(slice=picked.instance.slice, id=picked.instance.id or 0, **where)
            self.act("Splitting", split, params)

        self._two_places(f"SPLIT. {said}", chosen)

    def propose(self) -> None:
        """Wait for two corners of a box around a fossil, and outline it."""
        z = self.session.slice

        def chosen(text: str) -> None:
            (x0, y0), (x1, y1) = (map(int, place.split(",")) for place in text.split(";"))
            x0, x1, y0, y1 = min(x0, x1), max(x0, x1) + 1, min(y0, y1), max(y0, y1) + 1
            there = self._mask_in((y0, x0, y1, x1))
            params = ProposeParams(
                slice=z,
                box=f"{x0}:{x1},{y0}:{y1}",
                id=there,
                write=True,
                class_name="" if there else self.session.paint_class,
            )
            self.act("Outlining", propose, params)

        self._two_places("BOX. Click two of its corners.", chosen)

    def _mask_in(self, box: tuple[int, int, int, int]) -> int:
        """Return the user's mask that a box was drawn around, which is drawn again; 0: none."""
        view = correcting.slice_view(self.session)
        bodies = [] if view is None else view.instances(self.session.slice)
        near = [(box_iou(i.mask.box, box), i.id or 0) for i in bodies if i.part is Part.BODY]
        share, id_ = max(near, default=(0.0, 0))
        return id_ if share > SAME_BOX else 0

    def _two_places(self, said: str, then: Callable[[str], None]) -> None:
        """Wait for two clicks on the slice; `then` gets them as ``"x,y;x,y"`` in pixels."""
        self.session.current.require_writable()
        self.waiting, self._then = said, then
        self._points.start()
        self._tell()

    def _on_marked(self, count: int, _: float) -> None:
        if count == 2 and self._then is not None:
            text = ";".join(f"{round(x)},{round(y)}" for y, x in self._points.ends)
            then, self._then = self._then, None
            self.stop()
            with errors_shown():
                then(text)

    def stop(self) -> None:
        """Wait for no click any more."""
        self.waiting, self._then = "", None
        if self._points.is_active:
            self._points.stop(hidden=True)
        self._tell()

    def leave(self) -> None:
        """Take everything that tools have put over the slice away."""
        self.stop()
        self._points.stop()

    def _tell(self) -> None:
        """Say over the canvas what the next click does, as long as it does something."""
        text = self.waiting or (_MERGE if self.merging else "")
        overlay = text_overlay_of(self.session.viewer)
        overlay.visible = bool(text)
        if text:
            overlay.text, overlay.font_size, overlay.position = (
                f"{text} (Esc ends it)",
                14,
                "top_center",
            )
            overlay.color, overlay.box_color = "black", "#f0e442"
        self.changed.emit()

    def describe(self, **what: Any) -> None:
        """Give the picked mask a class or a texture."""
        picked = self._own()
        item = picked.instance
        params = DescribeParams(slice=item.slice, ids=str(item.id), **what)
        self.act("Describing a mask", describe, params)

    def copy(self, to: str) -> None:
        """Copy the picked mask to the next or the previous slice, and go there."""
        picked = self._own()
        params = CopyParams(slice=picked.instance.slice, ids=str(picked.instance.id), to=to)
        self.act("Copying", copy, params)

    def act(self, title: str, function: Callable[..., object], params: object) -> None:
        """Run a tool on a slice in a thread, and pick what it made."""
        project = self.session.writable
        self.session.saving.emit()
        job = JobSpec(title, function, (project.path, params), in_process=False)
        then: Callable[[Any], None] = self.session.while_open(self._on_corrected)
        self._runner.start(job, then)

    def _own(self) -> Picked:
        """Return the picked mask of the user's, or say how to get one."""
        picked = self._needed()
        if not picked.is_own:
            raise FossilError(
                "This is a prediction, which stays as it is",
                advice="Take it over first (G), then change the mask.",
            )
        return picked

    def _needed(self) -> Picked:
        if self.picked is None:
            raise FossilError("No mask is picked", advice="Click one first.")
        return self.picked

    def _correct(self, title: str, picked: Picked, **what: Any) -> None:
        layer = find(self.session.viewer, Role.PREDICTIONS)
        params = CorrectParams(
            slice=picked.instance.slice,
            source="" if picked.is_own else picked.source,
            mask_cut=prediction_array(layer).mask_cut if layer and not picked.is_own else 0.5,
            **what,
        )
        self.act(title, correct, params)

    def _on_corrected(self, result: Any) -> None:
        layer = correcting.show_labels(self.session)
        correcting.reload(self.session)
        left = _left(result)
        if not left and not getattr(result, "deleted", ()):
            show_done(_UNCHANGED)
        self.clear()
        if isinstance(result, ThroughResult) and result.slices:
            self.session.go_to(result.slices[0])
            correcting.reload(self.session)
        if left:
            # napari draws the whole slice anew whenever this is set.
            if not layer.visible:
                layer.visible = True
            self.pick(layer, left[0])
        self.session.annotations_changed.emit()
