"""Where napari keeps things, before and since 0.9."""

from __future__ import annotations

from typing import Any

import napari
from napari.components import Camera
from napari.layers import Labels


def camera_of(viewer: napari.Viewer) -> Camera:
    """Return the viewer's camera."""
    camera: Camera = getattr(viewer, "scene", viewer).camera
    return camera


def scale_bar_of(viewer: napari.Viewer) -> Any:
    """Return the viewer's scale bar."""
    canvas = getattr(viewer, "canvas", None)
    return viewer.scale_bar if canvas is None else canvas.overlays.scale_bar


def refresh_box(layer: Labels, box: tuple[int, int, int, int]) -> None:
    """Show a part (y0, x0, y1, x1) of the slice again that has changed in a layer's data.

    The whole slice would take 25 ms per million pixels. napari does this after each stamp of a
    brush, but has no public way to ask for it.
    """
    part = tuple(slice(*ends) for ends in zip(box[:2], box[2:], strict=True))
    shown = getattr(getattr(layer, "_slice", None), "image", None)
    plain = tuple(getattr(layer, "_slice_input", layer).displayed) == (1, 2)
    if shown is None or not plain or layer.contour or shown.raw.shape != layer.data.shape[1:]:
        layer.refresh(extent=False)
        return
    shown.view[part] = layer.colormap._data_to_texture(shown.raw[part])
    layer._updated_slice = (slice(0, 1), *part)
    layer._partial_labels_refresh()
