"""The dock of the plugin, opened at a page."""

from __future__ import annotations

import napari
from qtpy.QtWidgets import QDockWidget

from napari_fossiledit.errors import FossilError
from napari_fossiledit.widgets.common.session import Session, session_of
from napari_fossiledit.widgets.dock import Dock
from napari_fossiledit.widgets.probe_edit.probe_edit_dock import TITLE as PROBE_EDIT
from napari_fossiledit.widgets.reef.reef_dock import TITLE as REEF
from napari_fossiledit.widgets.review.review_dock import TITLE as REVIEW
from napari_fossiledit.widgets.segment.segment_dock import TITLE as SEGMENT
from napari_fossiledit.widgets.start.rail import Rail, rail_of

# As napari names the dock that it makes from its menu: so both are the same one.
_NAME = "Fossil Edit (Fossil Edit)"


def fossil_edit() -> Rail:
    """Return the rail of the current viewer, for napari's menu.

    Raises
    ------
    FossilError
        Where there is no window.
    """
    viewer = napari.current_viewer()
    if viewer is None:
        raise FossilError("No window of napari is open", advice="Open one first.")
    return rail_of(viewer)


def show_dock(session: Session, title: str) -> Dock:
    """Bring a page of the plugin to the front; make it, and the dock, where there is none yet."""
    rail = rail_of(session.viewer)
    # The x of a frame takes the frame away and leaves the rail alive.
    if dock_frame(rail) is None:
        session.viewer.window.add_dock_widget(rail, name=_NAME, area="right", tabify=True)
    frame = dock_frame(rail)
    if frame is not None:
        frame.show()
        frame.raise_()
    return rail.show_page(title)


def dock_frame(rail: Rail) -> QDockWidget | None:
    """Return the movable frame around the rail, None where it has none yet."""
    parent = rail.parent()
    while parent is not None and not isinstance(parent, QDockWidget):
        parent = parent.parent()
    return parent


def open_segment(viewer: napari.Viewer) -> None:
    """Open the page *Segment*, for napari's menus of layers."""
    show_dock(session_of(viewer), SEGMENT)


def open_review(viewer: napari.Viewer) -> None:
    """Open the page *Review*."""
    show_dock(session_of(viewer), REVIEW)


def open_probe_edit(viewer: napari.Viewer) -> None:
    """Open the page *Probe & Edit*."""
    show_dock(session_of(viewer), PROBE_EDIT)


def open_reef(viewer: napari.Viewer) -> None:
    """Open the page *Reef*."""
    show_dock(session_of(viewer), REEF)
