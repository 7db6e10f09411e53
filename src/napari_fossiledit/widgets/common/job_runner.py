"""Between a running workflow and the window: a thread that waits, signals that tell."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QObject, Signal
from superqt.utils import FunctionWorker, create_worker

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.jobs import Tickets, run_in_process
from napari_fossiledit.jobs.process import unexpected
from napari_fossiledit.progress import Job, Progress

#: Figures of a report that fit into the one line below a progress bar.
_TOLD = ("loss", "validation")


@dataclass(frozen=True)
class Outcome:
    """What a job came to: a result or an error, never an exception in a worker.

    superqt keeps a ``RuntimeError`` of a worker to itself (torch's lack of memory is one), so none
    may leave the function that the worker runs.
    """

    ticket: int
    result: Any = None
    error: FossilError | None = None


@dataclass(frozen=True)
class JobSpec:
    """A workflow to run.

    Attributes
    ----------
    title
        What it does, for the user, e.g. ``"Training"``.
    function, args
        A module-level function that takes `args`, ``job``.
    in_process
        Whether it runs in a spawned process, as everything must that is long or touches torch.
    """

    title: str
    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    in_process: bool = True


class JobRunner(QObject):
    """Runs one job at a time away from the window's thread.

    Signals
    -------
    started(JobSpec), progressed(Progress), done(object), failed(FossilError), stopped()
        ``stopped`` comes last, whatever the job came to.
    """

    started = Signal(object)
    progressed = Signal(object)
    done = Signal(object)
    failed = Signal(object)
    stopped = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.job: JobSpec | None = None
        self._tickets = Tickets()
        self._stop = threading.Event()
        self._then: Callable[[Any], None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether a job is under way."""
        return self.job is not None

    @property
    def is_cancelling(self) -> bool:
        """Whether the running job was asked to stop."""
        return self.is_running and self._stop.is_set()

    def start(self, job: JobSpec, then: Callable[[Any], None] | None = None) -> None:
        """Start a job; `then` gets its result in the window's thread.

        Raises
        ------
        FossilError
            Where another job is still running.
        """
        if self.job is not None:
            raise FossilError(
                f"{self.job.title} is still running",
                advice="Wait until it is done, or cancel it first.",
            )
        self.job, self._then, self._stop = job, then, threading.Event()
        ticket = self._tickets.draw()
        worker: FunctionWorker[Outcome] = create_worker(
            self._work, job, ticket, self._stop, _start_thread=False, _ignore_errors=True
        )
        worker.returned.connect(self._finish)
        self.started.emit(job)
        worker.start()

    def cancel(self) -> None:
        """Ask the running job to stop; what it finished before is kept."""
        self._stop.set()

    def abandon(self) -> None:
        """Ask the running job to stop and take no more notice of it."""
        self.cancel()
        self._tickets.draw()
        self.job = None

    def _work(self, job: JobSpec, ticket: int, stop: threading.Event) -> Outcome:
        """Run the job and catch whatever comes out of it (in the worker's thread)."""

        def report(progress: Progress) -> None:
            self._report(ticket, progress)

        try:
            return Outcome(ticket, _call(job, report, stop))
        except FossilError as error:
            return Outcome(ticket, error=error)
        # The border of the thread: whatever went wrong has to reach the user as a message.
        except Exception as error:  # noqa: BLE001
            return Outcome(ticket, error=unexpected(error))

    def _report(self, ticket: int, progress: Progress) -> None:
        if self._tickets.is_current(ticket):
            self.progressed.emit(progress)

    def _finish(self, outcome: Outcome) -> None:
        if not self._tickets.is_current(outcome.ticket):
            return
        self.job, then = None, self._then
        try:
            if outcome.error is not None:
                raise outcome.error
            if then is not None:
                then(outcome.result)
            self.done.emit(outcome.result)
        except FossilError as error:
            self.failed.emit(error)
        finally:
            self.stopped.emit()


def _call(job: JobSpec, report: Callable[[Progress], None], stop: threading.Event) -> Any:
    if job.in_process:
        return run_in_process(job.function, *job.args, job=Job(report, stop.is_set))
    return job.function(*job.args, job=Job(report, stop.is_set))


def time_text(seconds: float) -> str:
    """Show a time as minutes and seconds.

    Examples
    --------
    >>> time_text(80), time_text(3725)
    ('1:20', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def progress_text(progress: Progress) -> str:
    """Show a report in one line.

    Examples
    --------
    >>> progress_text(Progress(12, 64, "Predicting", 80))
    'Predicting: 12 of 64, 1:20 left'
    """
    parts = [f"{progress.done} of {progress.total}" if progress.total else f"{progress.done}"]
    if progress.eta_s is not None and progress.done < progress.total:
        parts.append(f"{time_text(progress.eta_s)} left")
    parts += [f"{k} {v:.3g}" for k, v in progress.values.items() if k in _TOLD]
    text = ", ".join(parts)
    return f"{progress.message}: {text}" if progress.message else text


def was_cancelled(error: FossilError) -> bool:
    """Whether the job stopped because the user asked for it."""
    return isinstance(error, CancelledError)
