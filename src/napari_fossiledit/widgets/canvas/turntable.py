"""What the canvas shows in 3D as a picture, and one turn of it as a movie."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from qtpy.QtCore import QObject, QTimer

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import write_whole
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.widgets.common.compat import camera_of
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.session import Session

Frame = NDArray[np.uint8]

#: Pictures of a turn, the time that each is shown (ms), and their longest edge in pixels.
FRAMES, SHOWN_MS, LONGEST = 72, 60, 800
# Pictures that wait for the thread that writes them: a large canvas has 6 MB.
_WAITING = 3
# Between two pictures the window answers.
_BREATH_MS = 5


class Turntable(QObject):
    """Takes pictures of the canvas, one each time that the window has answered.

    Parameters
    ----------
    jobs
        Shows how far it is, and stops it.
    """

    def __init__(self, session: Session, jobs: JobPanel, parent: QObject) -> None:
        super().__init__(parent)
        self.session, self.jobs = session, jobs
        self._frames: Queue[Frame] = Queue(_WAITING)
        self._taken, self._count = 0, 0
        self._from: tuple[Any, ...] = ()
        self._timer = QTimer(self)
        self._timer.setInterval(_BREATH_MS)
        self._timer.timeout.connect(self._take)

    def start(self, file: Path, then: Callable[[Path], None]) -> None:
        """Write the canvas into a PNG file, or one turn of it into a GIF file.

        Raises
        ------
        FossilError
            Where the canvas shows slices, or the file is of another kind.
        """
        if self.session.viewer.dims.ndisplay != 3:
            raise FossilError("Nothing is shown in 3D", advice='Press "Show in 3D" first.')
        if file.suffix.lower() not in (".png", ".gif"):
            raise FossilError(
                f"Pictures cannot be written to {file}",
                expected="a picture (.png) or a movie (.gif)",
                found=file.suffix or "no extension",
                advice="Give the file another name.",
            )
        count = 1 if file.suffix.lower() == ".png" else FRAMES
        frames: Queue[Frame] = Queue(_WAITING)
        title = "Writing the picture" if count == 1 else "Turning the fossils"
        args = frames, count, file
        if self.jobs.start(title, write, *args, in_process=False, whole=True, then=then):
            camera = camera_of(self.session.viewer)
            self._frames, self._taken, self._count = frames, 0, count
            self._from = camera.view_direction, camera.up_direction, camera.angles
            self._timer.start()

    def _take(self) -> None:
        try:
            self._take_next()
        except (RuntimeError, FossilError):
            # The window was closed, and Qt has deleted its canvas.
            self._timer.stop()
            self.jobs.runner.cancel()

    def _take_next(self) -> None:
        """Turn the camera and take one picture, unless those before it still wait."""
        viewer, runner = self.session.viewer, self.jobs.runner
        camera = camera_of(viewer)
        if viewer.dims.ndisplay != 3:
            runner.cancel()
        if self._taken == self._count or not runner.is_running or runner.is_cancelling:
            self._timer.stop()
            if viewer.dims.ndisplay == 3:
                camera.angles = self._from[2]
            return
        if self._frames.full():
            return
        look, up = (np.array(way) for way in self._from[:2])
        if self._taken:
            turn = turning(int(np.abs(up).argmax()), 2 * math.pi * self._taken / self._count)
            camera.set_view_direction(tuple(turn @ look), tuple(turn @ up))
        self._frames.put(viewer.screenshot(canvas_only=True, flash=False)[..., :3])
        self._taken += 1


def turning(axis: int, angle: float) -> NDArray[np.float64]:
    """Return the matrix that turns around one of three axes, in radians."""
    one, other = (n for n in range(3) if n != axis)
    matrix = np.eye(3)
    matrix[one, one] = matrix[other, other] = math.cos(angle)
    matrix[one, other], matrix[other, one] = -math.sin(angle), math.sin(angle)
    return matrix


def write(frames: Queue[Frame], count: int, file: Path, *, job: Job = QUIET) -> Path:
    """Write pictures as they come into one file, whole or not at all; return it."""
    pictures: list[Image.Image] = []
    clock = job.clock(count, "Taking pictures")
    while len(pictures) < count:
        job.check("Taking pictures")
        try:
            picture = Image.fromarray(frames.get(timeout=0.1))
        except Empty:
            continue
        if count > 1:
            picture.thumbnail((LONGEST, LONGEST))
            picture = picture.quantize(dither=Image.Dither.NONE)
        pictures.append(picture)
        clock.tick(len(pictures))
    written, (first, *others) = io.BytesIO(), pictures
    options = {"save_all": True, "append_images": others, "duration": SHOWN_MS, "loop": 0}
    first.save(written, "GIF" if others else "PNG", **(options if others else {}))
    job.check("Writing the movie")
    write_whole(file, written.getvalue())
    return file
