"""The longest freezes of the window on a user's whole way, and what ran meanwhile.

As a script, for a project of one's own (it is changed: copy it first)::

    xvfb-run -a python -m tests.widgets.heartbeat NAME.fossil [SLICES]
"""

from __future__ import annotations

import faulthandler
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import napari
from qtpy.QtCore import QEventLoop, QObject, QPoint, Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

_BEAT_MS = 10
#: From here on it is looked at what runs.
_SUSPECT_S = 0.1
#: A job of a step that takes longer has failed, also on a busy machine.
_JOB_S = 1200.0
_OURS = "napari_fossiledit"


@dataclass(frozen=True)
class Gap:
    """The longest time in a step in which the window's thread answered to nothing.

    Attributes
    ----------
    step
        What the user did.
    wall_s
        How long, by the clock: on a busy machine most of it is waiting for a core.
    cpu_s
        The most that the thread computed in one gap of the step; the same gap on an idle machine.
    frames
        Where it was most of the time in that one: our function, and the innermost one.
    """

    step: str
    wall_s: float
    cpu_s: float
    frames: str

    @property
    def row(self) -> str:
        """The gap as a row of a table in Markdown."""
        return f"| {self.step} | {self.wall_s:.2f} | {self.cpu_s:.2f} | {self.frames} |"


class Heartbeat(QObject):
    """Beats in the window's thread every 10 ms; another thread looks at what keeps it from it.

    Attributes
    ----------
    gaps
        Longest gap of each step, in the order of the steps.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gaps: list[Gap] = []
        self._thread = threading.get_ident()
        self._last, self._last_cpu = time.perf_counter(), time.thread_time()
        self._longest, self._seen = Gap("", 0, 0, ""), Counter[str]()
        self._over = threading.Event()
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._beat)
        self._timer.start(_BEAT_MS)
        threading.Thread(target=self._watch, daemon=True).start()

    def _beat(self) -> None:
        now, cpu = time.perf_counter(), time.thread_time()
        wall_s, cpu_s, before = now - self._last, cpu - self._last_cpu, self._longest
        frames = before.frames
        if cpu_s > before.cpu_s:
            frames = "; ".join(name for name, _ in self._seen.most_common(2))
        self._longest = Gap("", max(wall_s, before.wall_s), max(cpu_s, before.cpu_s), frames)
        self._seen.clear()
        self._last, self._last_cpu = now, cpu

    def _watch(self) -> None:
        # Following the frames of a running thread in Python crashes Python 3.11: faulthandler does
        # it in C, and writes a text.
        with tempfile.TemporaryFile("w+") as file:
            while not self._over.wait(_SUSPECT_S / 4):
                if time.perf_counter() - self._last > _SUSPECT_S:
                    file.seek(0)
                    file.truncate()
                    faulthandler.dump_traceback(file)
                    file.seek(0)
                    self._seen[self._culprit(file.read())] += 1

    def _culprit(self, dump: str) -> str:
        """Return the innermost function of the window's thread, and the innermost of ours."""
        of_thread = dump.split(f"0x{self._thread:016x}", 1)[-1].split("\n\n", maxsplit=1)[0]
        frames = re.findall(r'File "(.+)", line (\d+) in (.+)', of_thread)
        ours = [f for f in frames if _OURS in f[0]]
        return " < ".join(f"{Path(f[0]).stem}.{f[2]}:{f[1]}" for f in [*frames[:1], *ours[:1]])

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Do what a user does in the block; its longest gap becomes a row."""
        self._beat()
        self._longest = Gap("", 0, 0, "")
        yield
        settle()
        longest = self._longest
        self.gaps.append(Gap(title, longest.wall_s, longest.cpu_s, longest.frames))

    def stop(self) -> None:
        """Beat no more."""
        self._timer.stop()
        self._over.set()

    @property
    def table(self) -> str:
        """The gaps as a table in Markdown."""
        head = "| step | longest gap (s) | most computed in a gap (s) | where |\n|---|---|---|---|"
        return "\n".join([head, *(gap.row for gap in self.gaps)])


def settle(seconds: float = 0.3) -> None:
    """Let the window work, as long as napari's own timers need.

    Only a running loop deletes what is to be deleted later: old widgets would shine through.
    """
    loop = QEventLoop()
    QTimer.singleShot(round(seconds * 1000), loop.quit)
    loop.exec()


def wait_until(done: Callable[[], Any]) -> None:
    """Let the window work until something is true."""
    end = time.monotonic() + _JOB_S
    while not done():
        assert time.monotonic() < end, "the job of this step did not end"
        settle(0.05)


def whole_way(
    beat: Heartbeat, folder: Path, project: Path | None = None, slices: str = "all"
) -> None:
    """Take a user's way through the window, with the workflows and the model that users have.

    Parameters
    ----------
    folder
        Empty; the sample is made in it.
    project
        A project to take instead of the sample; it is changed.
    slices
        What is predicted.
    """
    from napari_fossiledit.project import ANNOTATIONS
    from napari_fossiledit.widgets.canvas import correcting
    from napari_fossiledit.widgets.canvas.before_after import BeforeAfter
    from napari_fossiledit.widgets.canvas.layers import Role, find
    from napari_fossiledit.widgets.canvas.project_view import open_project
    from napari_fossiledit.widgets.common.session import session_of
    from napari_fossiledit.widgets.probe_edit.probe_edit_dock import TITLE as PROBE_EDIT
    from napari_fossiledit.widgets.reef.reef_dock import TITLE as REEF
    from napari_fossiledit.widgets.review.review_dock import TITLE as REVIEW
    from napari_fossiledit.widgets.segment.segment_dock import TITLE as SEGMENT
    from napari_fossiledit.widgets.stack.stack_dock import TITLE as STACK
    from napari_fossiledit.widgets.start.opening import show_dock
    from napari_fossiledit.widgets.start.start_dock import TITLE as START
    from napari_fossiledit.widgets.start.window import open_window

    pages: dict[str, Any] = {}

    def idle() -> bool:
        running = any(dock.jobs.runner.is_running for dock in session.docks.values())
        return not running and not session.is_settling

    with beat.step("open the window"):
        viewer = open_window()
        viewer.window.resize(1500, 950)
        session = session_of(viewer)
    try:
        with beat.step("the first seconds"):
            settle(3)
        with beat.step("open the project" if project else "make and open the sample"):
            if project is None:
                session.docks[START].make_sample(folder / "sample-reef")
                wait_until(lambda: session.project is not None)
                wait_until(idle)
            else:
                open_project(session, project)
                wait_until(idle)
        for title in (SEGMENT, STACK, REVIEW, PROBE_EDIT, REEF):
            with beat.step(f"first look at {title}"):
                pages[title] = show_dock(session, title)
        segment, probing, reef = pages[SEGMENT], pages[PROBE_EDIT], pages[REEF]
        with beat.step("predict one slice"):
            show_dock(session, SEGMENT)
            session.go_to(1)
            segment.predict.form.fill(model="reef-lite", slices="1")
            segment.predict.predict()
            wait_until(idle)
        with beat.step("predict more slices"):
            segment.predict.form.fill(slices=slices)
            segment.predict.predict()
            wait_until(idle)
        with beat.step("move through the slices"):
            for z in range(6):
                session.go_to(z)
                settle(0.1)
        with beat.step("move the score"):
            for score in (0.3, 0.6, 0.5):
                segment.picker.slider.setValue(score)
                settle(0.05)
        with beat.step("take over"):
            session.go_to(2)
            show_dock(session, REVIEW).correct.fill("2")
            wait_until(idle)
        with beat.step("paint a stroke"):
            correcting.new_instance(session)
            _stroke(viewer)
        with beat.step("pick the annotations"):
            segment.picker.pick(ANNOTATIONS)
        with beat.step("pick the predictions"):
            segment.picker.pick(session.current.ledger.predictions()[0].name)
        with beat.step("perturb the slice"):
            show_dock(session, PROBE_EDIT)
            probing.perturbation.live.setChecked(True)
            wait_until(lambda: not probing.perturbation.debounced.is_busy)
        with beat.step("switch the perturbation"):
            form = probing.perturbation.form
            form.fill(preset="custom")
            settle()
            form.fill(preset="soften-background")
            wait_until(lambda: not probing.perturbation.debounced.is_busy)
            probing.perturbation.live.setChecked(False)
        with beat.step("before and after"):
            ledger = session.current.ledger
            found = tuple(ledger.instances(ledger.predictions()[0].name, slices=[session.slice]))
            both = BeforeAfter(session)
            both.show(session.slice, found, found[1:])
            wait_until(lambda: find(viewer, Role.BEFORE) is not None)
            for _ in range(3):
                both.toggle()
                settle(0.1)
            both.hide()
        with beat.step("link"):
            show_dock(session, REEF)
            reef.link()
            wait_until(idle)
        with beat.step("show in 3D"):
            reef.show_in_3d()
            wait_until(idle)
            wait_until(lambda: find(viewer, Role.REDUCED) is not None)
            settle(1)
        with beat.step("pick a row"):
            for row in (3, 1):
                reef.table.selectRow(row)
                settle(0.2)
        with beat.step("back to the slices"):
            viewer.dims.ndisplay = 2
        path = session.current.path
        with beat.step("close the project"):
            session.close()
        with beat.step("open it again"):
            open_project(session, path)
            wait_until(idle)
            settle(1)
    finally:
        with beat.step("close the window"):
            viewer.close()


def _stroke(viewer: napari.Viewer) -> None:
    canvas = viewer.window._qt_viewer.canvas.native
    middle = QPoint(canvas.width() // 2, canvas.height() // 2)
    QTest.mousePress(canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, middle)
    for n in range(1, 11):
        QTest.mouseMove(canvas, middle + QPoint(6 * n, 3 * n))
        settle(0.02)
    end = middle + QPoint(60, 30)
    QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, end)


if __name__ == "__main__":
    application = QApplication.instance() or QApplication(sys.argv)
    with tempfile.TemporaryDirectory() as place:
        heart = Heartbeat()
        try:
            whole_way(heart, Path(place), *map(Path, sys.argv[1:2]), *sys.argv[2:3])
        finally:
            heart.stop()
            sys.stdout.write(f"{heart.table}\n")
