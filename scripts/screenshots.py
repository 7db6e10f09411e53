"""Open a project in the real window, go through the docks and save pictures of them.

    xvfb-run -a -s "-screen 0 1600x1000x24" .venv/bin/python scripts/screenshots.py OUT [PROJECT]

Without a project, the docks are pictured as a new user sees them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import napari
from qtpy.QtWidgets import QApplication

from napari_fossiledit.params.reconstruct import LinkParams
from napari_fossiledit.project import ANNOTATIONS
from napari_fossiledit.widgets.common.session import Session, session_of
from napari_fossiledit.widgets.reef.reef_dock import ReefDock
from napari_fossiledit.widgets.segment.segment_dock import SegmentDock
from napari_fossiledit.widgets.start.opening import show_dock
from napari_fossiledit.widgets.start.start_dock import TITLE as START
from napari_fossiledit.widgets.start.window import open_window
from napari_fossiledit.workflows.reef import link

SIZE = (1500, 950)
DOCKS = (START, "Stack", "Segment", "Reef model")


def settle(seconds: float = 0.6) -> None:
    """Let the window draw."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.02)


def wait_until(done: Callable[[], bool], seconds: float = 300) -> None:
    """Let the window work until `done`, or give up."""
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        settle(0.1)


class Camera:
    """Saves numbered pictures of the window."""

    def __init__(self, viewer: napari.Viewer, folder: Path) -> None:
        self.viewer, self.folder = viewer, folder
        folder.mkdir(parents=True, exist_ok=True)

    def shoot(self, name: str, *, canvas_only: bool = False) -> None:
        """Save a picture of the window."""
        settle()
        path = self.folder / f"{name}.png"
        self.viewer.screenshot(str(path), canvas_only=canvas_only, flash=False)
        print(path)


def picture_docks(session: Session, camera: Camera) -> None:
    """Every dock, and every tab of the dock Segment."""
    for title in DOCKS:
        dock = show_dock(session, title)
        camera.shoot(title.lower().replace(" ", "-"))
        if isinstance(dock, SegmentDock):
            for tab in range(dock.tabs.count()):
                dock.tabs.setCurrentIndex(tab)
                camera.shoot(f"segment-{dock.tabs.tabText(tab).lower()}")


def picture_reef(session: Session, camera: Camera, source: str) -> None:
    """Specimens in 3D, linked anew from `source`."""
    project = session.current
    if not project.read_only:
        link.run(project.path, LinkParams(source=source))
    dock = show_dock(session, "Reef model")
    if not isinstance(dock, ReefDock):
        return
    dock.show_in_3d()
    wait_until(lambda: not dock.jobs.runner.is_running)
    settle(3)
    camera.shoot("reef-3d")
    camera.shoot("reef-3d-canvas", canvas_only=True)
    if dock.table.rows.rows:
        dock.table.selectRow(0)
        camera.shoot("reef-3d-one")
    session.viewer.dims.ndisplay = 2
    camera.shoot("back-on-slices")


def main() -> None:
    """Read the command line and picture everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("project", type=Path, nargs="?")
    parser.add_argument("--source", default=ANNOTATIONS, help="what to link and show in 3D")
    parser.add_argument("--slice", type=int, help="slice to show")
    chosen = parser.parse_args()
    viewer = open_window(chosen.project)
    viewer.window.resize(*SIZE)
    session = session_of(viewer)
    if chosen.slice is not None:
        session.go_to(chosen.slice)
    camera = Camera(viewer, chosen.out)
    picture_docks(session, camera)
    if chosen.project is not None:
        picture_reef(session, camera, chosen.source)
    viewer.close()


if __name__ == "__main__":
    main()
