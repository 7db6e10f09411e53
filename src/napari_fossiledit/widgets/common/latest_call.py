"""Asking a warm process for what the user wants now, and for nothing that is overtaken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_fossiledit.errors import FossilError
from napari_fossiledit.jobs import WarmProcess
from napari_fossiledit.widgets.common.job_runner import JobRunner, JobSpec, was_cancelled

DELAY_MS = 150
"""How long a slider has to rest before anything is computed."""


class Latest(QObject):
    """Runs the newest of the calls asked for, once the user's hand rests.

    Signals
    -------
    answered(object), failed(FossilError)
        What the newest call came to; overtaken ones are dropped.
    busy(bool)
        Whether an answer is still to come.
    """

    answered = Signal(object)
    failed = Signal(object)
    busy = Signal(bool)

    def __init__(
        self, warm: WarmProcess, parent: QObject | None = None, delay_ms: int = DELAY_MS
    ) -> None:
        super().__init__(parent)
        self._warm = warm
        self._wish: JobSpec | None = None
        self._runner = JobRunner(self)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(delay_ms)
        self._timer.timeout.connect(self._go)
        self._runner.failed.connect(self._on_failed)
        self._runner.stopped.connect(self._on_stopped)

    @property
    def is_busy(self) -> bool:
        """Whether an answer is still to come."""
        return self._wish is not None or self._runner.is_running

    def ask(self, title: str, function: Callable[..., Any], *args: Any) -> None:
        """Want this call's result, and no longer that of any call before."""
        self._wish = JobSpec(title, self._warm.call, (function, *args), in_process=False)
        self._runner.cancel()
        self._timer.start()
        self.busy.emit(True)

    def forget(self) -> None:
        """Want nothing any more."""
        self._timer.stop()
        self._wish = None
        self._runner.abandon()
        self.busy.emit(False)

    def _go(self) -> None:
        if self._wish is not None and not self._runner.is_running:
            job, self._wish = self._wish, None
            self._runner.start(job, self._on_result)

    def _on_result(self, result: Any) -> None:
        if self._wish is None:
            self.answered.emit(result)

    def _on_failed(self, error: FossilError) -> None:
        if self._wish is None and not was_cancelled(error):
            self.failed.emit(error)

    def _on_stopped(self) -> None:
        if not self._timer.isActive():
            self._go()
        self.busy.emit(self.is_busy)
