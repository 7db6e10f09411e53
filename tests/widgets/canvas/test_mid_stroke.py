"""A window that ends in mid-stroke, the mouse still pressed: nothing of a stroke, or all of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_fossiledit.masks.labels import paint_masks
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.widgets.canvas import correcting
from napari_fossiledit.widgets.canvas.project_view import open_project
from napari_fossiledit.widgets.common.session import session_of
from tests.widgets.conftest import SHAPE, settled

SLICE = 3


def stroke(path: Path, end: str) -> None:
    """Paint a stroke with the mouse in a window, and another one that is never let go."""
    from qtpy.QtCore import QPoint, Qt
    from qtpy.QtTest import QTest

    from napari_fossiledit.widgets.start.window import open_window

    viewer = open_window()
    session = session_of(viewer)
    open_project(session, path)
    session.go_to(SLICE)
    settled(session)
    QTest.qWait(300)
    layer = correcting.edit(session)
    layer.selected_label = max(i.id or 0 for i in session.current.instances(ANNOTATIONS, SLICE))
    layer.brush_size, layer.mode = 5, "paint"
    canvas = viewer.window._qt_viewer.canvas.native
    middle = canvas.rect().center()

    def press(y: int) -> None:
        QTest.mousePress(canvas, Qt.MouseButton.LeftButton, pos=middle + QPoint(-60, y))
        for x in range(-60, 60, 6):
            QTest.mouseMove(canvas, middle + QPoint(x, y))
            QTest.qWait(5)

    press(0)
    QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=middle + QPoint(60, 0))
    QTest.qWait(100)
    np.save(path.parent / "first.npy", layer.data[SLICE])
    press(60)
    np.save(path.parent / "second.npy", layer.data[SLICE])
    if end == "killed":
        os.kill(os.getpid(), 9)
    viewer.window._qt_window.close()


def painted(project: Project) -> np.ndarray:
    instances = project.ledger.instances(ANNOTATIONS, slices=[SLICE])
    return paint_masks([i.mask for i in instances], [i.id for i in instances], SHAPE[1:])


@pytest.mark.parametrize(("end", "code", "kept"), [("closed", 0, True), ("killed", -9, False)])
def test_a_window_that_ends_in_mid_stroke_keeps_the_stroke_whole_or_not_at_all(
    viewer, project_path, end, code, kept
):
    with Project.open(project_path) as project:
        before = painted(project)
    command = [sys.executable, __file__, str(project_path), end]
    path = os.pathsep.join(p for p in sys.path if p)
    ended = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, timeout=300, check=False
    )
    assert ended.returncode == code
    first, second = (np.load(project_path.parent / f"{n}.npy") for n in ("first", "second"))
    assert (before != first).sum() > 20
    assert (first != second).sum() > 20
    session = session_of(viewer)
    open_project(session, project_path)
    for state in (second, first, before) if kept else (first, before):
        np.testing.assert_array_equal(painted(session.current), state)
        np.testing.assert_array_equal(
            np.asarray(correcting.show_labels(session).data[SLICE]), state
        )
        if state is not before:
            correcting.undo(session)
    session.close()
    viewer.layers.clear()


if __name__ == "__main__":
    stroke(Path(sys.argv[1]), sys.argv[2])
