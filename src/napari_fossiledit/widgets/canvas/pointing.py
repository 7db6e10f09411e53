"""One click on the canvas, as slice and pixel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_fossiledit.widgets.canvas.layers import Role, find
from napari_fossiledit.widgets.common.compat import camera_of, canvas_size
from napari_fossiledit.widgets.common.session import Session

# Shares of the canvas: of what is looked at, the smallest and largest that need no zoom, and the
# one that zooming gives it.
_SMALLEST, _LARGEST, _FITTING = 0.1, 0.5, 0.25


class Pointer(QObject):
    """Waits for one click on the slice; dragging moves the view as ever.

    Signals
    -------
    clicked(int, int, int)
        Slice, x and y of the pixel, which may lie outside the slice.
    active(bool)
        Whether it waits.
    """

    clicked = Signal(int, int, int)
    active = Signal(bool)

    def __init__(self, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self._waits = False
        session.project_changed.connect(self.stop)

    @property
    def is_active(self) -> bool:
        """True while it waits for a click."""
        return self._waits

    def start(self) -> None:
        """Wait for a click."""
        viewer = self.session.viewer
        self.stop()
        # With a layer of labels or shapes selected, the click would draw.
        image = find(viewer, Role.IMAGE)
        if image is not None:
            viewer.layers.selection = {image}
        self._waits = True
        viewer.mouse_drag_callbacks.append(self._on_press)
        viewer.cursor.style = "cross"
        self.active.emit(True)

    def stop(self) -> None:
        """Stop waiting."""
        if not self._waits:
            return
        self._waits = False
        viewer = self.session.viewer
        viewer.mouse_drag_callbacks.remove(self._on_press)
        viewer.cursor.style = "standard"
        self.active.emit(False)

    def _on_press(self, _: Any, event: Any) -> Iterator[None]:
        """Distinguish a click from a drag: napari resumes this at each move until the release."""
        place, dragged = tuple(event.position), False
        yield
        while event.type == "mouse_move":
            dragged = True
            yield
        if not dragged and self._waits:
            self.point(place)

    def point(self, place: tuple[float, ...]) -> None:
        """Handle a click at a place of the world, (z, y, x) in um."""
        self.stop()
        project = self.session.project
        if project is not None:
            scaled = np.divide(place[-3:], project.geometry.voxel_size.zyx)
            _, y, x = (int(v) for v in np.floor(scaled + 0.5))
            self.clicked.emit(self.session.slice, x, y)


def look_at(
    session: Session, z: int, box: tuple[int, int, int, int], *, fitting: bool = False
) -> None:
    """Show slice `z` with the middle of a box (y0, x0, y1, x1) in the middle of the canvas.

    Parameters
    ----------
    fitting
        Zoom where the box would take less than a tenth or more than half of the canvas.
    """
    session.go_to(z)
    _, y_um, x_um = session.current.geometry.voxel_size.zyx
    camera = camera_of(session.viewer)
    middle = ((box[0] + box[2] - 1) / 2 * y_um, (box[1] + box[3] - 1) / 2 * x_um)
    camera.center = (*camera.center[:-2], *middle)
    if fitting:
        size = max((box[2] - box[0]) * y_um, (box[3] - box[1]) * x_um)
        share = size * camera.zoom / min(canvas_size(session.viewer))
        if not _SMALLEST < share < _LARGEST:
            camera.zoom *= _FITTING / share
