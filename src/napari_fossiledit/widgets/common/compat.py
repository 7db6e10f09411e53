"""Where napari keeps things, before and since 0.9."""

from __future__ import annotations

from typing import Any

import napari
from napari.components import Camera


def camera_of(viewer: napari.Viewer) -> Camera:
    """Return the viewer's camera."""
    camera: Camera = getattr(viewer, "scene", viewer).camera
    return camera


def scale_bar_of(viewer: napari.Viewer) -> Any:
    """Return the viewer's scale bar."""
    canvas = getattr(viewer, "canvas", None)
    return viewer.scale_bar if canvas is None else canvas.overlays.scale_bar
