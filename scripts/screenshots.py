"""Open a project in the real window, go through all pages and tabs and save numbered pictures.

    xvfb-run -a -s "-screen 0 1600x1000x24" .venv/bin/python scripts/screenshots.py OUT [PROJECT]

Without a project, the pages are pictured as a new user sees them. With ``--tutorial``, the pictures
of the tutorial are made in OUT, of the sample reef or of a copy of PROJECT in the folder of its
photographs, which takes some minutes. Ends with 1 where a picture is empty: of one colour, or with
a page that shows nothing.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
from PIL import Image
from qtpy.QtCore import QEvent, QPoint
from qtpy.QtWidgets import QApplication, QScrollArea

from napari_fossiledit.params.reconstruct import LinkParams
from napari_fossiledit.project import ANNOTATIONS
from napari_fossiledit.widgets.canvas.layers import Role, find
from napari_fossiledit.widgets.canvas.project_view import attach
from napari_fossiledit.widgets.common.fold import Fold
from napari_fossiledit.widgets.common.session import Session, session_of
from napari_fossiledit.widgets.probe_edit.probe_edit_dock import TITLE as PROBE_EDIT
from napari_fossiledit.widgets.reef.reef_dock import TITLE as REEF
from napari_fossiledit.widgets.reef.reef_dock import ReefDock
from napari_fossiledit.widgets.review.review_dock import TITLE as REVIEW
from napari_fossiledit.widgets.segment.segment_dock import TITLE as SEGMENT
from napari_fossiledit.widgets.stack.stack_dock import TITLE as STACK
from napari_fossiledit.widgets.start.opening import show_dock
from napari_fossiledit.widgets.start.rail import PAGES, rail_of
from napari_fossiledit.widgets.start.start_dock import TITLE as START
from napari_fossiledit.widgets.start.window import open_window
from napari_fossiledit.workflows.reef import link

#: Fewer colours has no page that shows a word: smooth letters alone have more.
_FEWEST_COLOURS = 12
#: Of a picture of the tutorial, which travels with the program.
_COLOURS = 96


def settle(seconds: float = 0.6) -> None:
    """Let the window draw."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        # Only a running event loop does that by itself; else old widgets shine through.
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        time.sleep(0.02)


def wait_until(done: Callable[[], bool], seconds: float = 900) -> None:
    """Let the window work until `done`.

    Raises
    ------
    TimeoutError
        Where that takes too long.
    """
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise TimeoutError("the window did not get ready")
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

    def shoot_for_tutorial(self, name: str, height: int = 0) -> None:
        """Save a small picture by its name: what lies right of the layers, or `height` of the page.

        Parameters
        ----------
        height
            Of the page alone, in pixels; 0: page and canvas.
        """
        settle(1)
        path = self.folder / f"{name}.png"
        picture = Image.fromarray(self.viewer.screenshot(canvas_only=False, flash=False))
        rail = rail_of(self.viewer)
        corner = rail.mapTo(rail.window(), QPoint())
        left = self.viewer.window._qt_viewer.canvas.native.mapTo(rail.window(), QPoint()).x()
        box = (left, 0, picture.width, picture.height)
        if height:
            box = (corner.x(), corner.y(), picture.width, corner.y() + height)
        picture.convert("RGB").crop(box).quantize(_COLOURS).save(path, optimize=True)
        print(path, path.stat().st_size // 1024, "kB")


def picture_pages(session: Session, camera: Camera) -> None:
    """Every page, and every tab or step of a page that has some."""
    for title in PAGES:
        page: Any = show_dock(session, title)
        tabs, steps = getattr(page, "tabs", None), getattr(page, "steps", {})
        if session.project is None or not (tabs or steps):
            camera.shoot(title)
            continue
        for tab in range(tabs.count() if tabs else 0):
            tabs.setCurrentIndex(tab)
            camera.shoot(f"{title} {tabs.tabText(tab)}")
        for step in steps.values():
            step.open()
            camera.shoot(f"{title} {step.head.text()}")


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


class Tutorial:
    """Goes the way of the tutorial on the sample reef, and pictures its steps.

    Parameters
    ----------
    reef
        Folder of the sample reef; it is made where it is missing.
    """

    def __init__(self, session: Session, camera: Camera, reef: Path) -> None:
        self.session, self.shoot, self.reef = session, camera.shoot_for_tutorial, reef

    def picture(self) -> None:
        """Picture every step."""
        self.begin()
        self.find_fossils()
        self.mend()
        self.reconstruct()

    def page(self, title: str) -> Any:
        """Show a page."""
        return show_dock(self.session, title)

    def wait(self) -> None:
        """Let all jobs end."""
        settle(0.3)
        pages = rail_of(self.session.viewer).pages.values()
        wait_until(lambda: not any(each.jobs.runner.is_running for each in pages))
        wait_until(lambda: not self.session.is_settling)

    def begin(self) -> None:
        """Picture the window without a project, and the form of a new one."""
        self.shoot("start")
        if not self.reef.exists():
            self.page(START).make_sample(self.reef)
            self.wait()
            self.session.close()
        self.session.take_photographs(self.reef / "images")
        self.wait()
        self.page(STACK).new.form.fill(pixel_size=72.7, slice_spacing=500.0)
        self.shoot("new-project")

    def find_fossils(self) -> None:
        """Picture tracing, training, predicting and a mask that was clicked."""
        self.session.open(self.reef / "sample.fossil")
        self.wait()
        settle()
        self.session.viewer.reset_view()
        self.session.go_to(4)
        self.page(REVIEW)
        self.shoot("tracing")
        segment = self.page(SEGMENT)
        segment.tabs.setCurrentIndex(list(segment.tab_of).index("Train"))
        self.shoot("training")
        segment.tabs.setCurrentIndex(0)
        self.session.go_to(6)
        segment.predict.form.fill(slices="all")
        segment.predict.predict()
        self.wait()
        self.shoot("predicting")
        review = self.page(REVIEW)
        review.correct.fill("all")
        self.wait()
        review.queue.build()
        self.wait()
        queue = attach(self.session).queue
        wait_until(lambda: queue.shown is not None)
        self.shoot("review")
        queue.leave()

    def mend(self) -> None:
        """Picture what misleads the model, and the verdict on an edit."""
        page = self.page(PROBE_EDIT)
        page.wrong.start.click()
        self.wait()
        page.wrong.grid.itemAt(0).widget().click()
        self.shoot("what-is-wrong")
        page.wrong.use.click()
        page.mend.start.click()
        self.wait()
        wait_until(lambda: not page.judge.strength.debounced.is_busy)
        self.session.viewer.reset_view()
        step = page.steps[page.judge]
        for area in page.findChildren(QScrollArea):
            if area.isAncestorOf(step):
                area.verticalScrollBar().setValue(step.mapTo(area.widget(), QPoint()).y() - 8)
        self.shoot("judge")
        page.judge.back()
        self.wait()

    def reconstruct(self) -> None:
        """Picture the fossils in 3D, and what is exported of them."""
        page = self.page(REEF)
        page.link()
        self.wait()
        page.show_in_3d()
        self.wait()
        wait_until(lambda: find(self.session.viewer, Role.REDUCED) is not None)
        self.shoot("reef")
        for box in page.findChildren(Fold):
            if "Export" in box.head.text():
                box.open()
        settle()
        for area in page.findChildren(QScrollArea):
            area.verticalScrollBar().setValue(area.verticalScrollBar().maximum())
        self.shoot("export", height=700)


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
    parser.add_argument("--tutorial", action="store_true", help="the tutorial's pictures, by name")
    chosen = parser.parse_args()
    viewer = open_window(None if chosen.tutorial else chosen.project)
    viewer.theme = chosen.theme
    viewer.window.resize(*map(int, ("1280x800" if chosen.tutorial else chosen.size).split("x")))
    session = session_of(viewer)
    if chosen.slice is not None:
        session.go_to(chosen.slice)
    settle(2)
    viewer.reset_view()
    camera = Camera(viewer, chosen.out)
    if chosen.tutorial:
        with tempfile.TemporaryDirectory() as folder:
            reef = Path(folder) / "sample-reef"
            if chosen.project is not None:
                shutil.copytree(chosen.project.parent, reef)
            Tutorial(session, camera, reef).picture()
            session.close()
    else:
        picture_pages(session, camera)
        if chosen.project is not None and not chosen.pages_only:
            picture_reef(session, camera, chosen.source)
    viewer.close()
    for path in camera.empty:
        print(f"empty: {path}", file=sys.stderr)
    return 1 if camera.empty else 0


if __name__ == "__main__":
    sys.exit(main())
