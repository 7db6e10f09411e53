"""Open a project in the real window, go through all pages and tabs and save numbered pictures.

    xvfb-run -a -s "-screen 0 1600x1000x24" .venv/bin/python scripts/screenshots.py OUT [PROJECT]

Without a project, the pages are pictured as a new user sees them. Ends with 1 where a picture is
empty: of one colour, or with a page that shows nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import napari
import numpy as np
from qtpy.QtWidgets import QApplication

from napari_fossiledit.params.reconstruct import LinkParams
from napari_fossiledit.project import ANNOTATIONS
from napari_fossiledit.widgets.common.session import Session, session_of
from napari_fossiledit.widgets.reef.reef_dock import TITLE as REEF
from napari_fossiledit.widgets.reef.reef_dock import ReefDock
from napari_fossiledit.widgets.start.opening import show_dock
from napari_fossiledit.widgets.start.rail import PAGES, rail_of
from napari_fossiledit.widgets.start.window import open_window
from napari_fossiledit.workflows.reef import link

#: Fewer colours has no page that shows a word: smooth letters alone have more.
_FEWEST_COLOURS = 12


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
    """Saves numbered pictures of the window, and notes which of them are empty."""

    def __init__(self, viewer: napari.Viewer, folder: Path) -> None:
        self.viewer, self.folder = viewer, folder
        self.count, self.empty = 0, list[Path]()
        folder.mkdir(parents=True, exist_ok=True)

    def shoot(self, name: str, *, canvas_only: bool = False) -> None:
        """Save a picture of the window."""
        settle()
        self.count += 1
        plain = "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")
        path = self.folder / f"{self.count:02}-{plain}.png"
        shown = self.viewer.screenshot(str(path), canvas_only=canvas_only, flash=False)
        dock = rail_of(self.viewer).grab().toImage()
        colours = len(np.unique(shown.reshape(-1, shown.shape[-1]), axis=0))
        inks = {dock.pixel(x, y) for x in range(70, dock.width(), 2) for y in range(dock.height())}
        if colours < _FEWEST_COLOURS or len(inks) < _FEWEST_COLOURS:
            self.empty.append(path)
        print(path)


def picture_pages(session: Session, camera: Camera) -> None:
    """Every page, and every tab of a page that has some."""
    for title in PAGES:
        tabs = getattr(show_dock(session, title), "tabs", None)
        if tabs is None or session.project is None:
            camera.shoot(title)
            continue
        for tab in range(tabs.count()):
            tabs.setCurrentIndex(tab)
            camera.shoot(f"{title} {tabs.tabText(tab)}")


def picture_reef(session: Session, camera: Camera, source: str) -> None:
    """Specimens in 3D, linked anew from `source`."""
    project = session.current
    if not project.read_only:
        link.run(project.path, LinkParams(source=source))
    dock = show_dock(session, REEF)
    if not isinstance(dock, ReefDock):
        return
    dock.show_in_3d()
    wait_until(lambda: not dock.jobs.runner.is_running)
    settle(3)
    camera.shoot("reef in 3D")
    camera.shoot("reef in 3D, canvas", canvas_only=True)
    if dock.table.rows.rows:
        dock.table.selectRow(0)
        camera.shoot("reef in 3D, one fossil")
    session.viewer.dims.ndisplay = 2
    camera.shoot("back on slices")


def main() -> int:
    """Read the command line and picture everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("project", type=Path, nargs="?")
    parser.add_argument("--source", default=ANNOTATIONS, help="what to link and show in 3D")
    parser.add_argument("--slice", type=int, help="slice to show")
    parser.add_argument("--size", default="1500x950", help="of the window, in pixels")
    parser.add_argument("--theme", choices=("dark", "light"), default="dark")
    parser.add_argument("--pages-only", action="store_true", help="no pictures in 3D")
    chosen = parser.parse_args()
    viewer = open_window(chosen.project)
    viewer.theme = chosen.theme
    viewer.window.resize(*map(int, chosen.size.split("x")))
    session = session_of(viewer)
    if chosen.slice is not None:
        session.go_to(chosen.slice)
    settle(2)
    viewer.reset_view()
    camera = Camera(viewer, chosen.out)
    picture_pages(session, camera)
    if chosen.project is not None and not chosen.pages_only:
        picture_reef(session, camera, chosen.source)
    viewer.close()
    for path in camera.empty:
        print(f"empty: {path}", file=sys.stderr)
    return 1 if camera.empty else 0


if __name__ == "__main__":
    sys.exit(main())
