"""How long a stroke, a tool or a step of the review takes until it is on the screen.

    xvfb-run -s '-screen 0 1600x1000x24' python -m benchmarks.review_tools [--work FOLDER]

A project of 200 slices of 4809 x 3173 pixels (one photograph under 200 names), 300 masks on each,
their predictions beside them, a queue, and a journal of some thousand actions; a real window, real
events of mouse and keys. The time runs from the release of the mouse or the press of the key until
the texture of the layer shows the change and the window has answered to all events. Beside it: how
much the window's thread computed in that time, and its longest gap, by the clock and computed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from benchmarks.brush import SHAPE, blob, blobs
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.params.review import QueueParams
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import ANNOTATIONS, Project, Source
from napari_fossiledit.stacks import open_stack
from napari_fossiledit.widgets.canvas.layers import Role, find
from napari_fossiledit.widgets.canvas.project_view import attach, open_project
from napari_fossiledit.widgets.common.compat import camera_of
from napari_fossiledit.widgets.common.session import session_of
from napari_fossiledit.widgets.review.review_dock import TITLE
from napari_fossiledit.widgets.start.opening import show_dock
from napari_fossiledit.widgets.start.rail import rail_of
from napari_fossiledit.widgets.start.window import open_window
from napari_fossiledit.workflows.review.queue import build
from tests.widgets.heartbeat import Heartbeat, settle, wait_until
from tests.widgets.user import User

SLICES, MASKS, ACTIONS = 200, 300, 3000
#: The slice that is worked on.
Z = 100
#: Neighbouring slices hold the same fossils.
_ALIKE = 20
_FREE = (1300, 1900, 1700, 3100)  # y0, y1, x0, x1
_CONTROL = Qt.KeyboardModifier.ControlModifier
_SHIFT = Qt.KeyboardModifier.ShiftModifier


def ring(y: int, x: int) -> Mask:
    """Return a body with a hole of 20 pixels in its middle."""
    crop = blob(70, 0, 0).crop().copy()
    crop[crop.shape[0] // 2 - 10 :, :][:20, crop.shape[1] // 2 - 10 :][:, :20] = False
    return Mask.from_crop(crop, (y, x), SHAPE[1:])


def make(folder: Path, runs: int) -> Path:
    """Make the project; bodies that are worked on lie in a row in the middle of slice `Z`."""
    photographs = folder / "photographs"
    photographs.mkdir()
    random = np.random.default_rng(0)
    coarse = random.integers(80, 160, (SHAPE[1] // 16 + 1, SHAPE[2] // 16 + 1, 3), np.uint8)
    pixels = coarse.repeat(16, 0).repeat(16, 1)[: SHAPE[1], : SHAPE[2]]
    Image.fromarray(pixels).save(folder / "photograph.tif", compression="tiff_lzw")
    for z in range(SLICES):
        (photographs / f"{z:03}.tif").symlink_to(folder / "photograph.tif")
    path, predicted = folder / "reef.fossil", str(Source("model", "reef-lite", "0" * 12))
    layouts = [blobs(MASKS, n) for n in range(SLICES // _ALIKE)]
    params = NewParams(pixel_size=72.7, slice_spacing=500)
    y0, y1, x0, x1 = _FREE
    with Project.create(path, open_stack(photographs), params) as project:
        ledger = project.ledger
        for z in range(SLICES):
            masks = [replace(i, slice=z) for i in layouts[z // _ALIKE]]
            ledger.store(predicted, z, [replace(i, score=0.9) for i in masks])
            if z == Z:
                masks = [
                    i
                    for i in masks
                    if not (
                        y0 - 10 < i.mask.box[2]
                        and i.mask.box[0] < y1 + 10
                        and x0 - 10 < i.mask.box[3]
                        and i.mask.box[1] < x1 + 10
                    )
                ]
                masks += [
                    Instance(z, "archaeocyathid", made)
                    for n in range(runs)
                    for made in (
                        ring(y0 + 20, x0 + 20 + n * 160),
                        blob(60, y0 + 180, x0 + 20 + n * 160),
                        blob(60, y0 + 320, x0 + 20 + n * 160),
                        blob(60, y0 + 440, x0 + 20 + n * 160),
                    )
                ]
            with ledger.transaction():
                ledger.store(ANNOTATIONS, z, masks)
        stored = {z: ledger.instances(ANNOTATIONS, slices=[z]) for z in range(0, SLICES, _ALIKE)}
        corner = np.ones((8, 8), np.bool_)
        for n in range(ACTIONS):
            z = n % (SLICES // _ALIKE) * _ALIKE
            if z != Z:
                item = stored[z][n % len(stored[z])]
                patch = Mask.from_crop(corner, item.mask.box[:2], SHAPE[1:])
                ledger.edit(z, put=[replace(item, mask=item.mask | patch)], what="paint")
    build(path, QueueParams())
    return path


def require(truth: object, what: str) -> None:
    """End where the window did not do what it should."""
    if not truth:
        raise RuntimeError(what)


@dataclass(frozen=True)
class Timed:
    """Seconds of one action: until it was shown, computed, and its longest gap."""

    shown: float
    computed: float
    gap: float
    gap_computed: float


class Bench:
    """A user whose actions are timed."""

    def __init__(self, viewer: Any, beat: Heartbeat) -> None:
        self.user, self.beat, self.session = User(viewer, (1500, 950)), beat, session_of(viewer)
        self.times: dict[str, list[Timed]] = defaultdict(list)

    def value(self, y: float, x: float) -> int:
        """Return the id that it shows there."""
        layer: Any = find(self.session.viewer, Role.LABELS)
        return int(layer._slice.image.raw[round(y), round(x)])

    def timed(self, what: str, act: Callable[[], object], done: Callable[[], Any]) -> None:
        """Do something and wait until `done`; keep the time."""
        settle(0.4)
        require(not done(), f"{what}: nothing to be done")
        with self.beat.step(what):
            start, computed = time.perf_counter(), time.thread_time()
            act()
            while not done():
                require(time.perf_counter() - start < 60, f"{what} did not end")
                QApplication.processEvents()
                time.sleep(0.001)
            QApplication.processEvents()
            took = time.perf_counter() - start, time.thread_time() - computed
            # What follows from it may hold up the window, too.
            settle(0.8)
        gap = self.beat.gaps[-1]
        self.times[what].append(Timed(*took, gap.wall_s, gap.cpu_s))

    def key(self, key: Qt.Key, modifier: Any = Qt.KeyboardModifier.NoModifier) -> None:
        """Press a key over the canvas."""
        self.user.canvas.setFocus()
        QTest.keyClick(self.user.canvas, key, modifier)

    def press(self, y: float, x: float) -> None:
        """Click a pixel of the slice, without waiting for what comes of it."""
        QTest.mouseClick(
            self.user.canvas,
            Qt.MouseButton.LeftButton,
            Qt.KeyboardModifier.NoModifier,
            self.user.place(y, x),
        )

    def pick(self, y: float, x: float) -> None:
        """Click a mask."""
        self.key(Qt.Key.Key_Escape)
        self.user.clicks(y, x)
        require(attach(self.session).selection.picked is not None, "nothing is picked")

    def idle(self) -> None:
        """Wait until nothing runs any more."""
        view = attach(self.session)
        wait_until(lambda: not (view.selection._runner.is_running or view.queue._runner.is_running))
        settle(0.3)

    def stroke(self, y: float, x: float) -> None:
        """Paint 300 pixels; the time runs from the release of the mouse."""
        user, ledger = self.user, self.session.current.ledger
        self.key(Qt.Key.Key_N)
        settle(0.3)
        find(self.session.viewer, Role.LABELS).brush_size = 10
        places = [user.place(y + d, x) for d in range(0, 301, 12)]
        newest = ledger.history(1)[0].id
        QTest.mouseMove(user.canvas, places[0])
        settle(0.05)
        left = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        with self.beat.step("stroke"):
            QTest.mousePress(user.canvas, *left, places[0])
            for place in places[1:]:
                QTest.mouseMove(user.canvas, place)
                settle(0.015)
        gap = self.beat.gaps[-1]
        self.times["stroke, while drawn"].append(Timed(0, 0, gap.wall_s, gap.cpu_s))
        self.timed(
            "stroke, let go",
            lambda: QTest.mouseRelease(user.canvas, *left, places[-1]),
            lambda: ledger.history(1)[0].id > newest,
        )
        self.timed(
            "undo of a stroke",
            lambda: self.key(Qt.Key.Key_Z, _CONTROL),
            lambda: not self.value(y + 150, x),
        )
        find(self.session.viewer, Role.LABELS).mode = "pan_zoom"

    def run(self, n: int) -> None:
        """Do everything once, in the part of the slice that belongs to this run."""
        y0, x = _FREE[0], _FREE[2] + 20 + n * 160
        camera = camera_of(self.session.viewer)
        self.session.go_to(Z)
        settle(0.6)
        _, y_um, x_um = self.session.current.geometry.voxel_size.zyx
        camera.center = (*camera.center[:-2], (y0 + 300) * y_um, (x + 100) * x_um)
        camera.zoom = 0.9 / x_um
        settle(0.6)
        self.stroke(y0 + 2, _FREE[2] + 5 + n * 160)
        # The ring's hole.
        y, m = y0 + 20 + 70, x + 70
        self.pick(y - 30, m)
        self.timed(
            "fill holes", lambda: self.key(Qt.Key.Key_F, _SHIFT), lambda: self.value(y, m) > 0
        )
        self.idle()
        undo = Qt.Key.Key_Z
        self.timed("undo", lambda: self.key(undo, _CONTROL), lambda: not self.value(y, m))
        self.timed("redo", lambda: self.key(undo, _CONTROL | _SHIFT), lambda: self.value(y, m))
        y, m = y0 + 180 + 60, x + 60
        for what, key, ends in (
            ("split along a line", Qt.Key.Key_S, ((y, m - 70), (y, m + 70))),
            ("split between two clicks", Qt.Key.Key_D, ((y - 30, m), (y + 30, m))),
        ):
            self.pick(y - 20, m)
            self.key(key)
            settle(0.3)
            self.user.clicks(*ends[0])
            self.timed(
                what,
                lambda ends=ends: self.press(*ends[1]),
                lambda: self.value(y - 30, m) != self.value(y + 30, m),
            )
            self.idle()
            self.key(undo, _CONTROL)
            settle(0.5)
        y = y0 + 320 + 60
        self.pick(y - 10, m)
        self.key(Qt.Key.Key_U)
        settle(0.3)
        self.timed(
            "merge",
            lambda: self.press(y + 120, m),
            lambda: self.value(y - 10, m) == self.value(y + 120, m),
        )
        self.idle()
        queue = attach(self.session).queue
        self.key(Qt.Key.Key_Escape)
        shown = queue.result
        self.timed(
            "next in the queue",
            lambda: self.key(Qt.Key.Key_J),
            lambda: queue.result is not shown and find(self.session.viewer, Role.OUTLINE),
        )
        self.idle()

    @property
    def table(self) -> str:
        """Medians and maxima in Markdown."""
        head = (
            "| action | shown, median | largest | computed, median | longest gap, median | largest "
            "| most computed in a gap, median | largest |"
        )
        rows = []
        for what, times in self.times.items():
            columns = zip(*(vars(t).values() for t in times), strict=True)
            shown, computed, gap, in_gap = (list(column) for column in columns)
            figures = [
                *(f(shown) for f in (statistics.median, max)),
                statistics.median(computed),
                *(f(values) for values in (gap, in_gap) for f in (statistics.median, max)),
            ]
            rows.append(f"| {what} | {' | '.join(f'{v:.3f}' for v in figures)} |")
        return "\n".join([head, "|---" * 8 + "|", *rows])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--work", type=Path, help="keep the project here, to run again")
    parser.add_argument("--made", action="store_true", help="make the project only")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.work or Path(scratch)
        path = folder / "reef.fossil"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            make(folder, args.runs)
        if args.made:
            return
        viewer = open_window()
        beat = Heartbeat()
        bench = Bench(viewer, beat)
        try:
            open_project(bench.session, path)
            # Each page that was seen once hears of each change.
            for title in [*rail_of(viewer).buttons, TITLE]:
                show_dock(bench.session, title)
                settle(1)
            wait_until(lambda: not bench.session.is_settling)
            bench.session.go_to(Z)
            settle(2)
            for n in range(args.runs):
                bench.run(n)
        finally:
            beat.stop()
            print(bench.table)
            worst = sorted(beat.gaps, key=lambda g: -g.cpu_s)[:12]
            print("\n".join(g.row for g in worst))
            viewer.close()


if __name__ == "__main__":
    main()
