"""Correcting the user's instances by hand: each stroke in the Labels layer is saved at once."""

from __future__ import annotations

import weakref
from collections.abc import Callable

from napari.layers import Labels
from qtpy.QtCore import QTimer

from napari_fossiledit.errors import FossilError
from napari_fossiledit.project import ANNOTATIONS, Ledger, Undone
from napari_fossiledit.widgets.canvas.colours import colours_of
from napari_fossiledit.widgets.canvas.flat import FlatArray
from napari_fossiledit.widgets.canvas.layers import (
    Role,
    add,
    describe,
    find,
    mask_layer,
    set_editable,
    shown_source,
)
from napari_fossiledit.widgets.canvas.slice_view import SliceView
from napari_fossiledit.widgets.common.compat import refresh_box
from napari_fossiledit.widgets.common.notices import errors_shown, show_done, show_error
from napari_fossiledit.widgets.common.session import Session

# Modes of napari in which the selected label is painted.
_PAINTING = ("paint", "fill", "polygon")


def show_labels(session: Session) -> Labels:
    """Show the user's instances as a layer to paint into; return it."""
    project, viewer = session.current, session.viewer
    existing = find(viewer, Role.LABELS)
    if isinstance(existing, Labels):
        return existing
    # napari keeps the functions as long as the window: they must not keep the session alive.
    live = weakref.ref(session)

    def class_name() -> str:
        chosen = getattr(live(), "paint_class", "")
        return chosen or project.settings.classes[0]

    def on_paint(_: object) -> None:
        # napari emits this before it writes a polygon, and after it wrote a stroke.
        QTimer.singleShot(0, lambda: _save_quietly(live()))

    def on_dimensions(_: object) -> None:
        if layer.n_edit_dimensions != 2:
            layer.n_edit_dimensions = 2
            show_done("Instances belong to one slice: only the slice on show is painted.")

    def on_mode(_: object) -> None:
        # Not before: an id that is taken at each opening would be a change of the project.
        if layer.mode in _PAINTING and layer.selected_label == 0:
            layer.selected_label = view.reserve()

    view = SliceView(project.ledger, project.shape, class_name, colours_of(session).tint)
    layer = mask_layer(session, view, Role.LABELS, "Labels")
    set_editable(layer, editable=not project.read_only)
    # napari starts with 1, which is the id of something else as soon as anything is stored.
    layer.selected_label = 0
    layer.events.mode.connect(on_mode)
    layer.events.paint.connect(on_paint)
    layer.events.n_edit_dimensions.connect(on_dimensions)
    add(viewer, layer)
    _refresh(session, layer, view)
    return layer


def slice_view(session: Session) -> SliceView | None:
    """Return the data of the Labels layer, None where it is not shown."""
    layer = find(session.viewer, Role.LABELS)
    array = layer.data.array if layer and isinstance(layer.data, FlatArray) else None
    return array if isinstance(array, SliceView) else None


def edit(session: Session) -> Labels:
    """Show the Labels layer and select it, so that napari's tools work on it."""
    layer = show_labels(session)
    # Either would put the brush away, also where nothing changes.
    if not layer.visible:
        layer.visible = True
    if session.viewer.layers.selection != {layer}:
        session.viewer.layers.selection = {layer}
    reload(session)
    shown = find(session.viewer, Role.PREDICTIONS)
    if shown is not None and shown_source(session) == ANNOTATIONS:
        # The same instances, without what is being painted.
        shown.visible = False
    return layer


def save(session: Session) -> None:
    """Write what was painted to the ledger.

    Raises
    ------
    FossilError
        Where the ledger cannot be written; what was painted is kept, and saved the next time.
    """
    layer, view = find(session.viewer, Role.LABELS), slice_view(session)
    if not isinstance(layer, Labels) or view is None or session.project is None:
        return
    ids = view.save()
    if layer.selected_label in ids:
        layer.selected_label = ids[layer.selected_label]
    _refresh(session, layer, view)


def _save_quietly(session: Session | None) -> None:
    if session is not None:
        with errors_shown():
            save(session)


def _refresh(session: Session, layer: Labels, view: SliceView) -> None:
    """Show what the view has painted by itself, and name what lies under the cursor."""
    if not layer.visible:
        return
    # Before the box is taken: this paints another slice as a whole.
    shown = view.instances(session.slice)
    box = view.take_repainted()
    if box is not None:
        refresh_box(layer, box)
    for changed in colours_of(session).tint(session.slice, shown):
        refresh_box(layer, changed)
    describe(layer, shown)
    problem = view.take_problem()
    if problem is not None:
        show_error(problem)


def follow(session: Session) -> None:
    """Save strokes before anything else reads or leaves the slice, from now on."""

    def on_slice(_: int) -> None:
        view = slice_view(session)
        if view is None:
            return
        _save_quietly(session)
        if view.edited:
            # Not at each stroke: lists, counts and layers are made anew.
            view.edited = False
            session.annotations_changed.emit()

    session.saving.connect(lambda: _save_quietly(session))
    session.slice_changed.connect(on_slice)


def reload(session: Session) -> None:
    """Show what a workflow or another program has made of the slice on show."""
    layer, view = find(session.viewer, Role.LABELS), slice_view(session)
    if isinstance(layer, Labels) and view is not None:
        view.compare()
        _refresh(session, layer, view)


def new_instance(session: Session) -> int:
    """Ready the brush for a new instance; return the id that it will have."""
    session.current.require_writable()
    layer, view = edit(session), slice_view(session)
    if view is not None:
        layer.selected_label = view.reserve()
    layer.mode = "paint"
    return int(layer.selected_label)


def value_under_cursor(session: Session, layer: Labels) -> int:
    """Return the label under the mouse, 0 where there is none."""
    value = layer.get_value(session.viewer.cursor.position, world=True)
    return int(value or 0)


def delete(session: Session, value: int) -> int:
    """Remove an instance from the shown slice, with its cavities; return its pixels.

    Raises
    ------
    FossilError
        Where the slice has no such instance.
    """
    session.current.require_writable()
    layer, view, z = edit(session), slice_view(session), session.slice
    found = [i for i in view.instances(z) if i.id == value] if view is not None else []
    if view is None or not found:
        raise FossilError(
            "There is no instance under the cursor",
            advice="Point at an instance of the Labels layer, then press the key.",
        )
    view.remove(z, value)
    _refresh(session, layer, view)
    return found[0].mask.area


def delete_under_cursor(session: Session) -> int:
    """Remove the instance under the mouse from the shown slice; return its pixels."""
    return delete(session, value_under_cursor(session, edit(session)))


def undo(session: Session) -> None:
    """Undo the newest change of the user's instances, also one made before a restart."""
    _move(session, Ledger.undo, "undo")


def undo_of_newest(session: Session) -> tuple[str, Callable[[], None]] | None:
    """Return a button that undoes the newest change, for as long as it is the newest one."""
    project = session.current
    newest = next(iter(project.ledger.history(1)), None)
    if newest is None:
        return None

    def undo_it() -> None:
        save(session)
        if session.project is not project or project.ledger.history(1) != [newest]:
            raise FossilError(
                "Something else was changed since",
                advice="Ctrl-Z undoes one change after the other, the last one first.",
            )
        undo(session)

    return "Undo", undo_it


def redo(session: Session) -> None:
    """Redo the change that was undone last."""
    _move(session, Ledger.redo, "redo")


def _move(session: Session, move: Callable[[Ledger], Undone | None], word: str) -> None:
    ledger = session.writable.ledger
    save(session)
    moved = move(ledger)
    if moved is None:
        raise FossilError(f"There is nothing to {word}")
    if moved.slices and session.slice not in moved.slices:
        session.go_to(moved.slices[0])
    reload(session)
    session.annotations_changed.emit()
    where = f", slice {moved.slices[0]}" if len(moved.slices) == 1 else ""
    show_done(f"{word.capitalize()}: {said(moved.what)}{where}.")


def said(what: str) -> str:
    """Return the name of an action for the user, to whom that of a source means nothing."""
    return "take over predictions" if what.startswith("take over ") else what
