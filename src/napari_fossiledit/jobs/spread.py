"""The same work on many items: in threads of this process, or in processes on one or more machines.

Items are handed out one by one as places become free, so that the caller may change its mind about
their order, and what is held in memory never grows with their number. Only the caller writes what
is one for all, such as the ledger; a worker writes whole chunks and files of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

from napari_fossiledit.errors import FossilError
from napari_fossiledit.log import unexpected
from napari_fossiledit.progress import QUIET, Job

T = TypeVar("T")
R = TypeVar("R")

#: How often it is looked whether the user asked to stop.
_POLL_S = 0.1


@dataclass(frozen=True)
class Spread:
    """Where work is done.

    Attributes
    ----------
    workers
        Processes on this machine; 0: threads of this process.
    scheduler
        Address of a scheduler of dask that is there already, such as ``tcp://host:8786``.
    threads
        Items at once in each process, so that one is read while another one is computed.
    """

    workers: int = 0
    scheduler: str = ""
    threads: int = 2


@dataclass(frozen=True)
class Outcome(Generic[T, R]):
    """What became of an item: its value, or why there is none."""

    item: T
    value: R | None = None
    error: FossilError | None = None

    def result(self) -> R:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # None may be what was computed


def spread(
    make: Callable[..., Callable[[T], R]],
    args: tuple[Any, ...],
    items: Iterable[T],
    *,
    how: Spread,
    job: Job = QUIET,
) -> Iterator[Outcome[T, R]]:
    """Do the same work on each item; yield the outcomes as they come, in no certain order.

    Parameters
    ----------
    make
        A module-level function that is called once in each process with `args`, and returns what
        handles an item: a function that several threads call at once. What it opens stays open
        until the run ends.
    items
        Asked for the next one when a place is free.

    Raises
    ------
    FossilError
        Where `make` raises it.
    CancelledError
        Where the user asked to stop; what runs is let go, and its outcome dropped.
    """
    if how.workers or how.scheduler:
        raise FossilError("Work in other processes is not there yet", advice="Use workers 0.")
    yield from _in_threads(make(*args), iter(items), how.threads, job)


def _in_threads(
    handle: Callable[[T], R], items: Iterator[T], threads: int, job: Job
) -> Iterator[Outcome[T, R]]:
    pool = ThreadPoolExecutor(threads, thread_name_prefix="fossiledit-spread")
    running: set[Future[Outcome[T, R]]] = set()
    try:
        while True:
            job.check()
            # One more than are worked on waits, so that no thread does.
            for item in islice(items, threads + 1 - len(running)):
                running.add(pool.submit(_outcome, handle, item))
            if not running:
                return
            done, running = wait(running, _POLL_S, FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        # Not waited for: a slice takes many seconds, and the user asked to stop now.
        pool.shutdown(wait=False, cancel_futures=True)


def _outcome(handle: Callable[[T], R], item: T) -> Outcome[T, R]:
    try:
        return Outcome(item, handle(item))
    except FossilError as error:
        return Outcome(item, error=error)
    # The end of a thread, or of a process: whatever went wrong has to reach the caller.
    except Exception as error:  # noqa: BLE001
        return Outcome(item, error=unexpected(error))
