"""A workflow in a spawned process: a core stays free for the window, and only the child dies.

Linux answers memory exhaustion by killing a process, not by an exception; in a child of its own
that costs the job and nothing else.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from typing import Any, TypeVar

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.log import start_logging, unexpected
from napari_fossiledit.progress import QUIET, Job, OnProgress, Progress

T = TypeVar("T")

#: What tells torch in how many threads it computes; where both are there it takes the second one.
THREAD_LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Wishes:
    """What the caller wants of a child while it works.

    Attributes
    ----------
    stop, pause
        Set where it is to end, or to wait.
    focus
        Slice that is to come first, -1: any.
    """

    stop: Event
    pause: Event
    focus: Synchronized[int]

    def follow(self, job: Job) -> None:
        """Pass on what the user wants now."""
        if job.paused() != self.pause.is_set():
            (self.pause.set if job.paused() else self.pause.clear)()
        near = job.focus()
        self.focus.value = -1 if near is None else near

    def job(self, on_progress: OnProgress) -> Job:
        """Return the job in the child."""

        def focus() -> int | None:
            near = int(self.focus.value)
            return None if near < 0 else near

        return Job(on_progress, self.stop.is_set, self.pause.is_set, focus)


class MessageKind(Enum):
    """Kinds of messages that a child sends."""

    PROGRESS = auto()
    RESULT = auto()
    ERROR = auto()


Message = tuple[MessageKind, Any]

#: How often a waiting caller looks whether the user asked to stop.
_POLL_S = 0.1
#: Time in which a child that was asked to stop may save what it finished.
_CANCEL_GRACE_S = 60.0
#: The same for a child that loads a model: it holds nothing yet, and does not look.
_LOADING_GRACE_S = 0.5
#: `main_left_out` changes a module that all threads share.
_starting = threading.Lock()


def run_in_process(
    function: Callable[..., T],
    *args: Any,
    job: Job = QUIET,
    threads: int | None = None,
    loads_first: bool = False,
) -> T:
    """Call a workflow in a spawned process and wait for its result.

    Parameters
    ----------
    function
        A module-level function that takes `args`, ``job``.
    threads
        Computing threads of the child; None leaves one core to the caller.
    loads_first
        Whether nothing is lost where it ends before its first report: until then Cancel ends it at
        once.

    Raises
    ------
    FossilError
        The child's own, or another one where the child died or failed unexpectedly.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    wishes = Wishes(context.Event(), context.Event(), context.Value("q", -1))
    count = threads or spare_cores()
    child = context.Process(
        target=_child,
        args=(sender, wishes, count, function, args),
        name="fossiledit-job",
        daemon=True,
    )
    with main_left_out(function):
        child.start()
    sender.close()
    try:
        grace = _LOADING_GRACE_S if loads_first else _CANCEL_GRACE_S
        kind, value = listen(child, receiver, wishes, job, grace)
    finally:
        wishes.stop.set()
        end(child)
        receiver.close()
    if kind is MessageKind.ERROR:
        raise value
    result: T = value
    return result


@contextmanager
def main_left_out(function: Callable[..., Any]) -> Iterator[None]:
    """Keep a child from importing the script that runs this program.

    Spawning imports it again, and a script without a guard would open its window a second time
    in the child. A workflow is found by its module and needs no script.
    """
    if function.__module__ == "__main__":
        yield
        return
    main = vars(sys.modules["__main__"])
    with _starting:
        kept: dict[str, Any] = {k: main[k] for k in ("__file__", "__spec__") if k in main}
        main.pop("__file__", None)
        main["__spec__"] = None
        try:
            yield
        finally:
            main.update(kept)


def listen(
    child: BaseProcess,
    receiver: Connection,
    wishes: Wishes,
    job: Job,
    first_grace: float = _CANCEL_GRACE_S,
) -> Message:
    """Pass a child's reports on until it sends its result or its error; return that.

    Parameters
    ----------
    first_grace
        Seconds after which a child that was asked to stop is killed before its first report.

    Raises
    ------
    FossilError
        Where the child died, or had to be killed because it did not stop when it was asked to.
    """
    asked_at, grace = float("inf"), first_grace
    while True:
        wishes.follow(job)
        if job.cancelled() and not wishes.stop.is_set():
            wishes.stop.set()
            asked_at = time.monotonic()
        if time.monotonic() - asked_at > grace:
            child.kill()
            raise CancelledError("The job was ended", advice="What was finished before is kept.")
        if not receiver.poll(_POLL_S):
            continue
        try:
            kind, value = receiver.recv()
        # OSError: the child died in the middle of a message.
        except (EOFError, OSError):
            child.join()
            # Linux kills a process that runs out of memory: the usual reason.
            raise FossilError(
                "The process of the job ended before it was done",
                expected="exit code 0",
                found=f"exit code {child.exitcode}",
                advice=(
                    "Most likely the memory ran out: close other programs or choose smaller tiles."
                    " Finished slices are saved; start again to go on."
                ),
            ) from None
        if kind is not MessageKind.PROGRESS:
            return kind, value
        grace = _CANCEL_GRACE_S
        job.on_progress(value)


def end(child: BaseProcess) -> None:
    """Give the child time to save what it holds, then end it."""
    child.join(_CANCEL_GRACE_S)
    if child.is_alive():
        child.kill()
        child.join()


def _child(
    sender: Connection, wishes: Wishes, threads: int, function: Callable[..., Any], args: Any
) -> None:
    limit_threads(threads)
    start_logging()
    answer(sender, wishes, function, args)


def spare_cores() -> int:
    """Count the cores but the one that stays with the window."""
    return max(1, (os.cpu_count() or 2) - 1)


def limit_threads(threads: int) -> None:
    """Set how many threads this process computes in, before a library is imported."""
    os.environ.update(dict.fromkeys(THREAD_LIMITS, str(threads)))
    # Threads that wait by spinning would take the core from the window all the same.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def answer(sender: Connection, wishes: Wishes, function: Callable[..., Any], args: Any) -> None:
    """Call a workflow in the child and send its reports, then its result or its error."""

    def report(progress: Progress) -> None:
        sender.send((MessageKind.PROGRESS, progress))

    try:
        sender.send((MessageKind.RESULT, function(*args, job=wishes.job(report))))
    except FossilError as error:
        sender.send((MessageKind.ERROR, error))
    # The process boundary: whatever went wrong has to reach the user as a message.
    except BaseException as error:  # noqa: BLE001
        sender.send((MessageKind.ERROR, unexpected(error)))
