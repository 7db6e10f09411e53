"""Two clicks on a photograph: a scale bar that is measured, a line, a box."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from napari.layers import Image, Points
from qtpy.QtCore import QObject, Signal

from napari_fossiledit.errors import FossilError
from napari_fossiledit.widgets.canvas.layers import Role, find
from napari_fossiledit.widgets.common.compat import camera_of
from napari_fossiledit.widgets.common.session import Session

# In pixels of the screen.
_CROSS = 14


class TwoPoints(QObject):
    """Waits for two clicks on the photograph; dragging moves the view and the wheel zooms as ever.

    Parameters
    ----------
    name
        What is marked, for the list of layers.

    Signals
    -------
    marked(int, float)
        How many ends are marked, and their distance in pixels of the photograph.

    Attributes
    ----------
    ends
        The marked places (y, x) in pixels of the photograph.
    """

    marked = Signal(int, float)

    def __init__(
        self, session: Session, parent: QObject | None = None, *, name: str = "Scale bar"
    ) -> None:
        super().__init__(parent)
        self.session, self._name = session, name
        self.ends: list[tuple[float, float]] = []
        self._photograph: Image | None = None
        self._crosses: Points | None = None

    def start(self) -> None:
        """Wait for the two clicks.

        Raises
        ------
        FossilError
            Where no photograph is on show.
        """
        self.stop(hidden=True)
        viewer = self.session.viewer
        viewer.dims.ndisplay = 2
        layer = find(viewer, Role.IMAGE)
        images = [each for each in viewer.layers if isinstance(each, Image) and each.visible]
        self._photograph = layer if isinstance(layer, Image) else next(iter(images), None)
        if self._photograph is None:
            raise FossilError("No photograph is on show", advice="Choose the photographs first.")
        # With another layer selected, the click might draw.
        viewer.layers.selection = {self._photograph}
        viewer.mouse_drag_callbacks.append(self._on_press)
        viewer.cursor.style = "cross"
        self.marked.emit(0, 0.0)

    @property
    def is_active(self) -> bool:
        """True while it waits for a click."""
        return self._photograph is not None

    def stop(self, *, hidden: bool = False) -> None:
        """Stop waiting, and take the marks away.

        Parameters
        ----------
        hidden
            Keep their layer: as one comes or goes, napari reads the slices of all layers again.
        """
        viewer, self.ends = self.session.viewer, []
        if self._on_press in viewer.mouse_drag_callbacks:
            viewer.mouse_drag_callbacks.remove(self._on_press)
            viewer.cursor.style = "standard"
        self._photograph = None
        if self._crosses is not None and self._crosses in viewer.layers:
            if hidden:
                self._crosses.visible = False
                return
            viewer.layers.remove(self._crosses)
        self._crosses = None

    def _on_press(self, _: Any, event: Any) -> Iterator[None]:
        place, dragged = tuple(event.position), False
        yield
        while event.type == "mouse_move":
            dragged = True
            yield
        if not dragged:
            self.point(place)

    def point(self, place: tuple[float, ...]) -> None:
        """Mark an end at a place of the world; a third one begins anew."""
        image = self._photograph
        if image is None:
            return
        y, x = image.world_to_data(place[-image.ndim :])[-2:]
        self.ends = [*(self.ends if len(self.ends) < 2 else []), (float(y), float(x))]
        self._show(image)
        length = math.dist(*self.ends) if len(self.ends) == 2 else 0.0
        self.marked.emit(len(self.ends), length)

    def _show(self, image: Image) -> None:
        viewer = self.session.viewer
        if self._crosses is None or self._crosses not in viewer.layers:
            options = {"scale": image.scale[-2:], "units": image.units[-2:]}
            self._crosses = Points(
                ndim=2, name=self._name, symbol="cross", face_color="#f0e442", **options
            )
            viewer.add_layer(self._crosses)
        self._crosses.visible = True
        self._crosses.data = np.array(self.ends)
        self._crosses.size = _CROSS / (camera_of(viewer).zoom * image.scale[-1])
        viewer.layers.selection = {image}
