"""Progress, time left and a way to stop, for the job of one page."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.progress import Progress, nothing
from napari_fossiledit.widgets.common.job_runner import (
    JobRunner,
    JobSpec,
    progress_text,
    time_text,
)
from napari_fossiledit.widgets.common.notices import show_error

#: So long the outcome of a job is told.
_SHOWN_MS = 8000


class JobPanel(QWidget):
    """Shows the one job of a page and starts it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.runner = JobRunner(self)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.text = QLabel("")
        self.text.setWordWrap(True)
        self.button = QPushButton("Cancel")
        self.pause = QPushButton("Pause")
        self.pause.setToolTip("Let the job wait: the processor is free, and nothing is lost.")
        self.pause.setCheckable(True)
        self._clock = QTimer(self)
        self._clock.setInterval(1000)
        self._fading = QTimer(self)
        self._fading.setSingleShot(True)
        self._fading.setInterval(_SHOWN_MS)
        self._began, self._whole, self._resumes = 0.0, False, False
        self._latest = self._told = ""
        row = QHBoxLayout()
        row.addWidget(self.bar, 1)
        row.addWidget(self.pause)
        row.addWidget(self.button)
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 4, 8, 0)
        column.addLayout(row)
        column.addWidget(self.text)
        self.bar.hide()
        self.button.hide()
        self.pause.hide()
        self.text.hide()
        self.runner.started.connect(self._on_started)
        self.runner.progressed.connect(self._on_progress)
        self.runner.done.connect(self._on_done)
        self.runner.failed.connect(self._on_failed)
        self.runner.stopped.connect(self._on_stopped)
        self.button.clicked.connect(self._on_cancel)
        self.pause.toggled.connect(self._on_pause)
        self._clock.timeout.connect(self._show_time)
        self._fading.timeout.connect(self.forget)

    def start(
        self,
        title: str,
        function: Callable[..., Any],
        *args: Any,
        in_process: bool = True,
        loads_first: bool = False,
        whole: bool = False,
        pausable: bool = False,
        focus: Callable[[], int | None] = nothing,
        then: Callable[[Any], None] | None = None,
    ) -> bool:
        """Start a workflow; show a message where one is still running.

        Parameters
        ----------
        in_process, loads_first, whole, pausable, focus
            See `JobSpec`.
        then
            Gets the result, in the window's thread.

        Returns
        -------
        bool
            Whether it was started.
        """
        try:
            job = JobSpec(title, function, args, in_process, loads_first, whole, pausable, focus)
            self.runner.start(job, then)
        except FossilError as error:
            show_error(error)
            return False
        return True

    def say(self, text: str) -> None:
        """Show a line below the bar; nothing where it is empty."""
        self._fading.stop()
        self.text.setText(text)
        self.text.setVisible(bool(text))

    def forget(self) -> None:
        """Take the outcome of a job that is over away: it was read, or its page is left."""
        if not self.runner.is_running:
            self.say("")

    def _on_started(self, job: JobSpec) -> None:
        self._began, self._whole, self._resumes = time.monotonic(), job.whole, job.pausable
        self._latest = self._told = ""
        self.pause.setChecked(False)
        self.pause.setEnabled(True)
        self.pause.setVisible(job.pausable)
        left = "it leaves no file" if job.whole else "what it finished before is kept"
        self.button.setToolTip(f"Stop the job; {left}.")
        self.bar.setRange(0, 0)
        self.bar.show()
        self.button.setEnabled(True)
        self.button.show()
        self.say(f"{job.title}: starting ...")
        self._clock.start()

    def _on_progress(self, progress: Progress) -> None:
        if self.runner.is_cancelling:
            return
        self.bar.setRange(0, progress.total)
        self.bar.setValue(progress.done)
        self._told = progress.said or self._told
        self._latest = progress_text(progress)
        self._show_latest()

    def _show_latest(self) -> None:
        if self.runner.is_paused:
            # What was on its way may still arrive.
            self.say(f"Paused. {self._latest}")
            return
        self.say("\n".join(filter(None, (self._told, self._latest))) or "Going on ...")

    def _show_time(self) -> None:
        """Show the time that went by until the first report arrives."""
        if self.runner.job is not None and not self._latest and not self.runner.is_cancelling:
            elapsed = time_text(time.monotonic() - self._began)
            self.say(f"{self.runner.job.title}: starting ... {elapsed}")

    def _on_cancel(self) -> None:
        self.runner.cancel()
        self.button.setEnabled(False)
        self.pause.setEnabled(False)
        self.bar.setRange(0, 0)
        self.say(
            f"Stopping; {'no file is left' if self._whole else 'what is finished is kept'} ..."
        )

    def _on_pause(self, wait: bool) -> None:
        self.runner.pause(wait)
        self.pause.setText("Go on" if wait else "Pause")
        if self.runner.is_running and not self.runner.is_cancelling:
            self._show_latest()

    def _on_done(self, _: object) -> None:
        self.say(f"Done in {time_text(time.monotonic() - self._began)}.")
        self._fading.start()

    def _on_failed(self, error: FossilError) -> None:
        if isinstance(error, CancelledError):
            left = "No file was written." if self._whole else "What was finished before is kept."
            go_on = " Start it again to go on from there." if self._resumes else ""
            self.say(f"Stopped. {left}{go_on}")
            return
        self.say(str(error))
        show_error(error)

    def _on_stopped(self) -> None:
        self._clock.stop()
        self.bar.hide()
        self.button.hide()
        self.pause.hide()
