"""Run a workflow away from the window's thread; progress and result arrive as signals."""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QObject, QThreadPool, Signal
from superqt.utils import FunctionWorker, create_worker

from napari_fossiledit.errors import FossilError
from napari_fossiledit.jobs import Tickets, run_in_process
from napari_fossiledit.log import unexpected
from napari_fossiledit.progress import Job, Progress, nothing

_log = logging.getLogger(__name__)

#: So long a program that ends waits for jobs, and then for those whose processes it has ended.
_END_MS, _KILLED_MS = 4000, 1500


def _wait_for_jobs() -> None:
    """Let jobs store what they are at: PyQt aborts a program whose threads outlive its objects."""
    pool = QThreadPool.globalInstance()
    if pool is None or pool.waitForDone(_END_MS):
        return
    for child in multiprocessing.active_children():
        child.kill()
    pool.waitForDone(_KILLED_MS)


# Called before what Qt registered when it was imported.
atexit.register(_wait_for_jobs)

#: Figures of a report that fit into the one line below a progress bar.
_SHOWN_VALUES = ("loss", "validation")
#: The same, with their names behind the number.
_COUNTED = ("slices a minute", "failed")


@dataclass(frozen=True)
class JobOutcome:
    """Result or error of a job.

    An error is a value here: superqt swallows a ``RuntimeError`` of a worker (torch's lack of
    memory is one), and then neither ``errored`` nor ``finished`` is emitted.
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
        Module-level function, called with `args` and the keyword ``job``.
    in_process
        Whether it runs in a spawned process, as everything must that is long or touches torch.
    loads_first
        See `run_in_process`.
    whole
        Whether it leaves nothing where it is stopped.
    pausable
        Whether it can wait, and goes on from where it was, also where it is started anew.
    focus
        Returns the slice that is to come first, from any thread.
    """

    title: str
    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    in_process: bool = True
    loads_first: bool = False
    whole: bool = False
    pausable: bool = False
    focus: Callable[[], int | None] = nothing


class JobRunner(QObject):
    """Runs one job at a time away from the window's thread.

    Signals
    -------
    started(JobSpec), progressed(Progress), done(object), failed(FossilError), stopped()
        ``stopped`` comes last, after success, failure and cancelling.
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
        self._stop, self._pause = threading.Event(), threading.Event()
        self._then: Callable[[Any], None] | None = None

    @property
    def is_running(self) -> bool:
        """True while a job runs."""
        return self.job is not None

    @property
    def is_cancelling(self) -> bool:
        """True once the running job was cancelled."""
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
        self._pause = threading.Event()
        _log.info("%s: %s %s", job.title, job.function.__qualname__, job.args)
        ticket = self._tickets.draw()
        # Started only after the signal is connected: a quick job would be over before. The worker
        # ignores errors, as `_work` turns them into values.
        worker: FunctionWorker[JobOutcome] = create_worker(
            self._work,
            job,
            ticket,
            (self._stop, self._pause),
            _start_thread=False,
            _ignore_errors=True,
        )
        worker.returned.connect(self._finish)
        self.started.emit(job)
        worker.start()

    @property
    def is_paused(self) -> bool:
        """True while the running job is to wait."""
        return self.is_running and self._pause.is_set()

    def pause(self, wait: bool) -> None:
        """Request the running job to wait, or to go on; what it is at, it finishes."""
        (self._pause.set if wait else self._pause.clear)()

    def cancel(self) -> None:
        """Request the running job to stop; what it finished before is kept."""
        self._stop.set()

    def abandon(self) -> None:
        """Request the running job to stop; its reports and its result are dropped."""
        self.cancel()
        self._tickets.draw()
        self.job = self._then = None

    def _work(
        self, spec: JobSpec, ticket: int, asked: tuple[threading.Event, threading.Event]
    ) -> JobOutcome:
        """Run a job in the worker's thread; return its result or any error."""

        def report(progress: Progress) -> None:
            if self._tickets.is_current(ticket):
                self.progressed.emit(progress)

        stop, pause = asked
        job = Job(report, stop.is_set, pause.is_set, spec.focus)
        try:
            if spec.in_process:
                result = run_in_process(
                    spec.function, *spec.args, job=job, loads_first=spec.loads_first
                )
                return JobOutcome(ticket, result)
            return JobOutcome(ticket, spec.function(*spec.args, job=job))
        except FossilError as error:
            return JobOutcome(ticket, error=error)
        # The border of the thread: whatever went wrong has to reach the user as a message.
        except Exception as error:  # noqa: BLE001
            return JobOutcome(ticket, error=unexpected(error))

    def _finish(self, outcome: JobOutcome) -> None:
        if not self._tickets.is_current(outcome.ticket):
            return
        # What `then` belongs to must not be kept by a job that is over.
        self.job, then, self._then = None, self._then, None
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


def time_text(seconds: float) -> str:
    """Return a time as minutes and seconds.

    Examples
    --------
    >>> time_text(80), time_text(3725)
    ('1:20', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def progress_text(progress: Progress) -> str:
    """Return a report in one line.

    Examples
    --------
    >>> progress_text(Progress(12, 64, "Predicting", 80))
    'Predicting: 12 of 64, 1:20 left'
    """
    parts = (
        [f"{progress.done} of {progress.total}"] if progress.total else [str(progress.done or "")]
    )
    if progress.eta_s is not None and progress.done < progress.total:
        parts.append(f"{time_text(progress.eta_s)} left")
    parts += [f"{k} {v:.3g}" for k, v in progress.values.items() if k in _SHOWN_VALUES]
    parts += [f"{v:.3g} {k}" for k, v in progress.values.items() if k in _COUNTED]
    return ": ".join(filter(None, (progress.message, ", ".join(filter(None, parts)))))
