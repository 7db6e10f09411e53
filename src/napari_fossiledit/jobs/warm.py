"""A spawned process that stays, so that what it loaded is there for the next call."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from napari_fossiledit.jobs.process import (
    MessageKind,
    Wishes,
    answer,
    end,
    limit_threads,
    listen,
    main_left_out,
    spare_cores,
)
from napari_fossiledit.log import start_logging, unexpected
from napari_fossiledit.progress import QUIET, Job, check

T = TypeVar("T")

#: How often a call that waits for its turn looks whether it is still wanted.
_WAIT_S = 0.05


@dataclass(frozen=True)
class _Child:
    """A living child, the line to it, and what is wanted of its call."""

    process: BaseProcess
    line: Connection
    wishes: Wishes


class WarmProcess:
    """Calls workflows in one spawned process that lives on from call to call.

    Starting Python and torch and reading a model takes seconds, applying an edit to it and
    predicting a slice takes much less: a slider needs a process that keeps what it loaded (a
    workflow keeps it in its own module). The first call starts the process; after a death the next
    call starts another one. Threads may share it: one call runs at a time, the others wait.

    Parameters
    ----------
    threads
        Computing threads of the child; None leaves one core to the caller.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads or spare_cores()
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._closing = threading.Event()

    @property
    def is_alive(self) -> bool:
        """True while the process is there."""
        child = self._child
        return child is not None and child.process.is_alive()

    def call(
        self,
        function: Callable[..., T],
        *args: Any,
        job: Job = QUIET,
    ) -> T:
        """Call a workflow in the process and wait for its result.

        Parameters
        ----------
        function
            A module-level function that takes `args`, ``job``.

        Raises
        ------
        FossilError
            The workflow's own, or another one where the process died or failed unexpectedly.
        CancelledError
            Where the user asked to stop, also while another call was still running.
        """

        def unwanted() -> bool:
            return job.cancelled() or self._closing.is_set()

        while not self._lock.acquire(timeout=_WAIT_S):
            check(unwanted)
        try:
            check(unwanted)
            kind, value = self._exchange(function, args, replace(job, cancelled=unwanted))
        finally:
            self._lock.release()
        if kind is MessageKind.ERROR:
            raise value
        result: T = value
        return result

    def close(self) -> None:
        """Cancel what runs and end the process; a later call starts another one."""
        self._closing.set()
        with self._lock:
            self._end_child()
            self._closing.clear()

    def _exchange(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        job: Job,
    ) -> tuple[MessageKind, Any]:
        if self._child is None or not self._child.process.is_alive():
            self._end_child()
            self._child = _started(function, self._threads)
        child, answered = self._child, False
        child.wishes.stop.clear()
        try:
            # Where the child just died `listen` raises, with the exit code.
            with suppress(ConnectionError):
                child.line.send((function, args))
            last = listen(child.process, child.line, child.wishes, job)
            answered = True
            return last
        finally:
            # A child that died, or is still busy with what nobody listens to, is of no more use.
            if not answered:
                self._end_child()

    def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.wishes.stop.set()
            child.line.close()
            end(child.process)


def _started(function: Callable[..., Any], threads: int) -> _Child:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    wishes = Wishes(context.Event(), context.Event(), context.Value("q", -1))
    process = context.Process(
        target=_serve, args=(theirs, wishes, threads), name="fossiledit-warm", daemon=True
    )
    with main_left_out(function):
        process.start()
    theirs.close()
    return _Child(process, ours, wishes)


def _serve(line: Connection, wishes: Wishes, threads: int) -> None:
    """Answer calls in the child until the line is closed."""
    limit_threads(threads)
    start_logging()
    while True:
        try:
            function, args = line.recv()
        except (EOFError, OSError):
            return
        # What cannot be unpickled, such as a module that fails to import.
        except Exception as error:  # noqa: BLE001
            line.send((MessageKind.ERROR, unexpected(error)))
            continue
        try:
            answer(line, wishes, function, args)
        except OSError:
            return
