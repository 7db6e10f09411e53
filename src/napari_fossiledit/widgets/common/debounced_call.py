"""A call in the warm process that waits until its inputs rest; only the newest one counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtWidgets import QCheckBox

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.jobs import WarmProcess
from napari_fossiledit.widgets.common.job_runner import JobRunner, JobSpec

#: How long the inputs (a slider, the shown slice) have to rest before anything is computed.
DELAY_MS = 150


class DebouncedCall(QObject):
    """Runs the newest of the requested calls, and drops the results of all earlier ones.

    Signals
    -------
    answered(object), failed(FossilError)
        Result or error of the newest call.
    busy(bool)
        Whether a result is still to come.
    """

    answered = Signal(object)
    failed = Signal(object)
    busy = Signal(bool)

    def __init__(
        self, warm: WarmProcess, parent: QObject | None = None, delay_ms: int = DELAY_MS
    ) -> None:
        super().__init__(parent)
        self._warm = warm
        self._pending: JobSpec | None = None
        self._runner = JobRunner(self)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(delay_ms)
        self._timer.timeout.connect(self._start_pending)
        self._runner.failed.connect(self._on_failed)
        self._runner.stopped.connect(self._on_stopped)

    @property
    def is_busy(self) -> bool:
        """True while a result is still to come."""
        return self._pending is not None or self._runner.is_running

    def request(self, title: str, function: Callable[..., Any], *args: Any) -> None:
        """Run this call once the delay has passed; cancel any call before."""
        self._pending = JobSpec(title, self._warm.call, (function, *args), in_process=False)
        self._runner.cancel()
        self._timer.start()
        self.busy.emit(True)

    def drop(self) -> None:
        """Cancel the newest call as well; its result is dropped."""
        self._timer.stop()
        self._pending = None
        self._runner.abandon()
        self.busy.emit(False)

    def follow(self, switch: QCheckBox, ask: Callable[[], None], hide: Callable[[], None]) -> None:
        """Call `ask` when a switch goes on; drop the newest call and `hide` when it goes off."""

        def toggled(on: bool) -> None:
            if on:
                ask()
            else:
                self.drop()
                hide()

        switch.toggled.connect(toggled)

    def _start_pending(self) -> None:
        if self._pending is not None and not self._runner.is_running:
            job, self._pending = self._pending, None
            self._runner.start(job, self._on_result)

    def _on_result(self, result: Any) -> None:
        if self._pending is None:
            self.answered.emit(result)

    def _on_failed(self, error: FossilError) -> None:
        if self._pending is None and not isinstance(error, CancelledError):
            self.failed.emit(error)

    def _on_stopped(self) -> None:
        # While the timer runs, another request may still replace the pending one.
        if not self._timer.isActive():
            self._start_pending()
        self.busy.emit(self.is_busy)
