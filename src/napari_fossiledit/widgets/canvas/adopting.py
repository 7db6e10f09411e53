"""A project that was dropped on the window: the docks take it over from the layers read of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import QTimer

from napari_fossiledit.widgets.canvas.readers import PROJECT
from napari_fossiledit.widgets.common.notices import told
from napari_fossiledit.widgets.common.session import Session


def adopt(session: Session, layer: Any) -> None:
    """Open the project a layer was read from, where none is open.

    It happens once napari has added all layers of the drop: those are replaced by the session's.
    """
    if session.project is None and PROJECT in layer.metadata:
        QTimer.singleShot(0, lambda: _open(session, layer.metadata[PROJECT]))


def _open(session: Session, path: str) -> None:
    if session.project is not None:
        return
    layers = session.viewer.layers
    for layer in [lay for lay in layers if lay.metadata.get(PROJECT) == path]:
        layers.remove(layer)
    with told():
        session.open(Path(path))
