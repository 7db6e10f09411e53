"""Correcting labels by hand: painting goes straight to ``labels.zarr``, napari's undo applies."""

from __future__ import annotations

import numpy as np
from napari.layers import Labels

from napari_fossiledit.errors import FossilError
from napari_fossiledit.widgets.canvas.layers import Role, find, label_data, show_labels
from napari_fossiledit.widgets.common.session import Session


def edit(session: Session) -> Labels:
    """Show the layer of the labels and select it, so that napari's tools work on it."""
    layer = show_labels(session)
    layer.visible = True
    session.viewer.layers.selection = {layer}
    return layer


def new_instance(session: Session) -> int:
    """Make an instance in the shown slice and ready the brush for it; return its id."""
    project = session.writable
    layer = edit(session)
    value = project.ledger.reserve_id()
    layer.selected_label = value
    layer.mode = "paint"
    return value


def value_under_cursor(session: Session, layer: Labels) -> int:
    """Return the label under the mouse, 0 where there is none."""
    value = layer.get_value(session.viewer.cursor.position, world=True)
    return int(value or 0)


def delete(session: Session, value: int) -> int:
    """Remove a label from the shown slice, so that Ctrl-Z brings it back; return its pixels.

    Raises
    ------
    FossilError
        Where the label is not on the slice.
    """
    session.current.require_writable()
    layer, z = edit(session), session.slice
    rows, columns = np.nonzero(np.asarray(layer.data[z]) == value)
    if value == 0 or rows.size == 0:
        raise FossilError(
            "There is no instance under the cursor",
            advice="Point at an instance of the Labels layer, then press the key.",
        )
    # Through napari and not by an assignment to the array: its undo then knows of it.
    layer.data_setitem((np.full_like(rows, z), rows, columns), 0)
    return int(rows.size)


def delete_under_cursor(session: Session) -> int:
    """Remove the instance under the mouse from the shown slice; return its pixels."""
    return delete(session, value_under_cursor(session, edit(session)))


def reload(session: Session) -> None:
    """Read the labels again after a workflow has written them; napari's undo starts anew."""
    layer = find(session.viewer, Role.LABELS)
    if isinstance(layer, Labels):
        layer.data = label_data(session)
