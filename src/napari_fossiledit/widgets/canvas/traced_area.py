"""The traced area of a slice, drawn as shapes."""

from __future__ import annotations

import numpy as np
from napari.layers import Shapes
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Mask
from napari_fossiledit.widgets.canvas.layers import Role, find, placed
from napari_fossiledit.widgets.common.session import Session

_NAME = "Traced area"
_KINDS = ("rectangle", "polygon", "ellipse")


def draw(session: Session) -> Shapes:
    """Let the user draw rectangles or polygons on the slice; return their layer."""
    project, viewer = session.writable, session.viewer
    layer = find(viewer, Role.AREA)
    if not isinstance(layer, Shapes):
        layer = Shapes(
            ndim=3,
            name=_NAME,
            face_color="transparent",
            edge_color="yellow",
            edge_width=2,
            **placed(project, Role.AREA),
        )
        viewer.add_layer(layer)
    viewer.layers.selection = {layer}
    layer.mode = "add_rectangle"
    return layer


def drawn(session: Session, z: int) -> Mask:
    """Return what is drawn on slice `z`, as the union of its shapes.

    Raises
    ------
    FossilError
        Where nothing is drawn there.
    """
    layer = find(session.viewer, Role.AREA)
    masks = _masks(layer, z, session.current.slice_shape) if isinstance(layer, Shapes) else None
    if masks is None or not masks.any():
        raise FossilError(
            f"No area is drawn on slice {z}",
            expected="a rectangle or polygon",
            advice='Press "Draw area" and draw around the part that is completely annotated.',
        )
    return Mask.from_array(masks)


def _masks(layer: Shapes, z: int, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    wanted = [
        i
        for i, (corners, kind) in enumerate(zip(layer.data, layer.shape_type, strict=True))
        if kind in _KINDS and np.all(np.round(corners[:, 0]) == z)
    ]
    if not wanted:
        return None
    # napari rasterises all shapes of a layer; only those of this slice are asked for.
    flat = Shapes(
        [layer.data[i][:, 1:] for i in wanted],
        shape_type=[layer.shape_type[i] for i in wanted],
    )
    masks: NDArray[np.bool_] = np.asarray(flat.to_masks(shape), dtype=np.bool_)
    return np.asarray(masks.any(axis=0))
