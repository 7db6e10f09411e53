"""The docks of the plugin, opened by title."""

from __future__ import annotations

from collections.abc import Callable

import napari

from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import Dock, dock_frame
from napari_fossiledit.widgets.probe_edit.probe_edit_dock import TITLE as PROBE_EDIT
from napari_fossiledit.widgets.probe_edit.probe_edit_dock import ProbeEditDock
from napari_fossiledit.widgets.reef.reef_dock import TITLE as REEF
from napari_fossiledit.widgets.reef.reef_dock import ReefDock
from napari_fossiledit.widgets.segment.segment_dock import TITLE as SEGMENT
from napari_fossiledit.widgets.segment.segment_dock import SegmentDock
from napari_fossiledit.widgets.stack.stack_dock import TITLE as STACK
from napari_fossiledit.widgets.stack.stack_dock import StackDock

#: Docks by title, in the order in which a new window shows them.
DOCKS: dict[str, Callable[[napari.Viewer], Dock]] = {
    STACK: StackDock,
    SEGMENT: SegmentDock,
    PROBE_EDIT: ProbeEditDock,
    REEF: ReefDock,
}


def show_dock(session: Session, title: str) -> Dock:
    """Bring a dock of the plugin to the front; make it where there is none yet."""
    dock = session.docks.get(title)
    if dock is None:
        dock = DOCKS[title](session.viewer)
    # The x of a frame takes the frame away and leaves the dock alive.
    if dock_frame(dock) is None:
        session.viewer.window.add_dock_widget(dock, name=title, area="right", tabify=True)
    frame = dock_frame(dock)
    if frame is not None:
        frame.show()
        frame.raise_()
    return dock
