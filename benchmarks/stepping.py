"""How long the window takes to show the next slice of a converted stack, and its memory meanwhile.

    xvfb-run -s '-screen 0 1600x1000x24' python -m benchmarks.stepping PHOTOGRAPH PROJECT [STEPS]

40 links to PHOTOGRAPH become a project, which is converted. Each slice gets the predictions of the
first source of PROJECT, of the slice that has most; those with scores of at least 0.5 are its
annotations as well. Both are on show while the key Right is pressed from the first slice to the
last, each shown for the first time; then it goes back and forth until STEPS are taken. A step ends
when the canvas was drawn with the next slice in all layers; between two, 0.1 s pass.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from benchmarks.conversion import made, ours
from benchmarks.review_tools import require
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.widgets.canvas.correcting import show_labels
from napari_fossiledit.widgets.canvas.layers import Role, find, show_predictions
from napari_fossiledit.widgets.common.session import session_of
from napari_fossiledit.widgets.start.window import open_window
from tests.widgets.heartbeat import settle, wait_until

SLICES, SCORE, REST_S = 40, 0.5, 0.1


def filled(photograph: Path, like: Path, folder: Path) -> tuple[Path, str, int]:
    """Make the converted project; return it, the source and the instances of a slice."""
    path = made(photograph, folder / "s", SLICES)
    with Project.open(like, read_only=True) as found:
        source = found.ledger.predictions()[0].name
        per_slice = [[*found.ledger.instances(source, slices=[z])] for z in range(found.shape[0])]
    most = [replace(i, id=None) for i in max(per_slice, key=len)]
    with Project.open(path) as project:
        for z in range(SLICES):
            here = [replace(i, slice=z) for i in most]
            project.ledger.store(source, z, here)
            project.ledger.store(ANNOTATIONS, z, [i for i in here if (i.score or 0) >= SCORE])
    ours(path, 0)
    return path, source, len(most)


def main() -> None:
    """Step, and print the table."""
    photograph, like = map(Path, sys.argv[1:3])
    steps = int(sys.argv[3]) if len(sys.argv) > 3 else 300
    application = QApplication.instance() or QApplication(sys.argv)
    with tempfile.TemporaryDirectory() as name:
        path, source, count = filled(photograph, like, Path(name))
        viewer = open_window(path)
        viewer.window.resize(1500, 950)
        session = session_of(viewer)
        wait_until(lambda: not session.is_settling)
        show_predictions(session, source, SCORE)
        show_labels(session)
        session.go_to(0)
        settle(3)
        layers = [find(viewer, r) for r in (Role.IMAGE, Role.PREDICTIONS, Role.LABELS)]
        require(all(layer is not None and layer.visible for layer in layers), "a layer is hidden")
        canvas, drawn = viewer.window._qt_viewer.canvas, 0

        def count_drawn(_: object) -> None:
            nonlocal drawn
            drawn += 1

        canvas._scene_canvas.events.draw.connect(count_drawn, position="last")
        canvas.native.setFocus()

        def step(z: int) -> tuple[float, float]:
            settle(REST_S)
            before, start, computed = drawn, time.perf_counter(), time.thread_time()
            QTest.keyClick(
                canvas.native, Qt.Key.Key_Right if z > session.slice else Qt.Key.Key_Left
            )
            while drawn == before or not all(layer.loaded for layer in layers):
                application.processEvents()
            took = time.perf_counter() - start, time.thread_time() - computed
            require(session.slice == z, "the key did nothing")
            return took

        process = psutil.Process()
        forth, back = [*range(1, SLICES)], [*range(SLICES - 2, -1, -1)]
        way = [*forth, *((back + forth) * steps)][:steps]
        times, memory = [], []
        for n, z in enumerate(way, 1):
            times.append(step(z))
            if n in {SLICES - 1, steps} or n % 50 == 0:
                memory.append(f"{n}: {process.memory_info().rss / 1e6:.0f}")
        viewer.close()
    print(f"{SLICES} slices, {count} predictions each, load {os.getloadavg()[0]:.1f}\n")
    print("| slices shown | median s | 90 % | computed in the window's thread, median s |")
    print("|---|---|---|---|")
    for what, part in (
        ("to slices not seen before", times[: SLICES - 1]),
        ("to slices seen before", times[SLICES - 1 :]),
    ):
        seconds, cpu = np.array(part).T
        row = f"{np.median(seconds):.3f} | {np.percentile(seconds, 90):.3f} | {np.median(cpu):.3f}"
        print(f"| {what}, {len(part)} | {row} |")
    print(f"\nMemory in MB after so many steps: {', '.join(memory)}")


if __name__ == "__main__":
    main()
