"""Opening docks and windows, for the dock *Start here* and for the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import napari
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QDockWidget

from napari_fossiledit.widgets.canvas.project_view import open_project
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import Dock
from napari_fossiledit.widgets.probe_edit.probe_edit_dock import TITLE as PROBE_EDIT
from napari_fossiledit.widgets.probe_edit.probe_edit_dock import ProbeEditDock
from napari_fossiledit.widgets.reef.reef_dock import TITLE as REEF
from napari_fossiledit.widgets.reef.reef_dock import ReefDock
from napari_fossiledit.widgets.segment.segment_dock import TITLE as SEGMENT
from napari_fossiledit.widgets.segment.segment_dock import SegmentDock
from napari_fossiledit.widgets.stack.stack_dock import TITLE as STACK
from napari_fossiledit.widgets.stack.stack_dock import StackDock

_DOCKS: dict[str, Callable[[napari.Viewer], Dock]] = {
    STACK: StackDock,
    SEGMENT: SegmentDock,
    PROBE_EDIT: ProbeEditDock,
    REEF: ReefDock,
}


def show_dock(session: Session, title: str) -> Dock:
    """Bring a dock of the plugin to the front, making it where it is not there yet."""
    found = session.docks.get(title)
    if found is None:
        found = _DOCKS[title](session.viewer)
    # The x of a frame takes the frame away and leaves the dock alive.
    if dock_frame(found) is None:
        session.viewer.window.add_dock_widget(found, name=title, area="right", tabify=True)
    frame = dock_frame(found)
    if frame is not None:
        frame.show()
        frame.raise_()
    return found


def dock_frame(dock: Dock) -> QDockWidget | None:
    """Return the movable frame around a dock, None where it has none yet."""
    parent = dock.parent()
    while parent is not None and not isinstance(parent, QDockWidget):
        parent = parent.parent()
    return parent


def open_window(path: Path | None = None) -> napari.Viewer:
    """Open a window with the docks of the plugin, and a project in it.

    Raises
    ------
    FossilError
        Where `path` is no project.
    """
    from napari_fossiledit.widgets.start.start_dock import TITLE, StartHere

    viewer = napari.Viewer()
    start = StartHere(viewer)
    viewer.window.add_dock_widget(start, name=TITLE, area="right")
    if path is not None:
        open_project(start.session, path)
        for title in _DOCKS:
            show_dock(start.session, title)
        # The docks take their room from the canvas once the window is laid out.
        QTimer.singleShot(0, viewer.reset_view)
    return viewer
