"""The same work on many items: in threads of this process, or in processes on one or more machines.

Items are handed out one by one as places become free, so that the caller may change its mind about
their order, and what is held in memory never grows with their number. Only the caller writes what
is one for all, such as the ledger; a worker writes whole chunks and files of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from napari_fossiledit.errors import FossilError
from napari_fossiledit.log import unexpected
from napari_fossiledit.progress import QUIET, Job, check

T = TypeVar("T")
R = TypeVar("R")

#: How often it is looked whether the user asked to stop.
POLL_S = 0.1
#: An item whose workers ended so often is given with nothing beside it ...
_SUSPECT = 2
#: ... and is the reason where so many end all the same.
ENDED_ALONE = 3
#: So many of these with nothing done before: no item is the reason.
_GUILTY = 3


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
        Items at once in each process, so that one is read while another one is computed. Workers
        of a scheduler have the threads that they were started with.
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


class WorkerEndedError(FossilError):
    """The process that had an item ended, `times` of them one after the other."""

    times = 1


class Crew(Protocol[T, R]):
    """Those who do the work."""

    def places(self) -> int:
        """Return how many items may be on their way at once."""

    def submit(self, item: T) -> Future[Outcome[T, R]]:
        """Begin with an item."""

    def fetch(self, done: Future[Outcome[T, R]]) -> Outcome[T, R]:
        """Return the outcome, or raise `WorkerEndedError`."""

    def close(self) -> None:
        """Let go of what runs."""


def spread(
    make: Callable[..., Callable[[T], R]],
    args: tuple[Any, ...],
    items: Iterable[T],
    *,
    how: Spread,
    job: Job = QUIET,
) -> Generator[Outcome[T, R], None, None]:
    """Do the same work on each item; yield the outcomes as they come, in no certain order.

    Whoever does not take them all closes the generator, which lets go of what runs.

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
        Where `make` raises it, a scheduler cannot be reached or is lost, or workers end with
        whatever item is given to them.
    CancelledError
        Where the user asked to stop; what runs is let go, and its outcome dropped. Where the user
        asked to wait, it is done and yielded, and nothing is begun.
    """
    crew: Crew[T, R]
    if how.workers or how.scheduler:
        # Brings dask along, which takes a second to import and may not be there.
        from napari_fossiledit.jobs.cluster import Workers

        crew = Workers(make, args, how, job)
    else:
        crew = _Threads(make(*args), how.threads)
    with closing(crew):
        yield from _blamed(_handed_out(crew, iter(items), job))


@dataclass
class _Try(Generic[T]):
    """An item on its way, and how many workers ended that had it: in all, and it alone."""

    item: T
    ended: int = 0
    alone: int = 0

    @property
    def suspect(self) -> bool:
        return self.ended >= _SUSPECT


def _handed_out(crew: Crew[T, R], items: Iterator[T], job: Job) -> Iterator[Outcome[T, R]]:
    """Give out the items, anew where the worker ended: all that it had fail, and one may be guilty.

    Which one shows when it is given alone.
    """
    running: dict[Future[Outcome[T, R]], _Try[T]] = {}
    again: deque[_Try[T]] = deque()
    new = map(_Try, items)
    while True:
        check(job.cancelled)
        # Asked once: between two answers the user may have gone on, and all would end here.
        paused = job.paused()
        free = 0 if paused else crew.places() - len(running)
        while free > 0 and not any(t.suspect for t in running.values()):
            if again and again[0].suspect and running:
                break
            tried = again.popleft() if again else next(new, None)
            if tried is None:
                break
            running[crew.submit(tried.item)] = tried
            free -= 1
        if not running:
            if paused:
                # What was on its way is there now.
                job.check()
                continue
            return
        done, _ = wait(running, POLL_S, FIRST_COMPLETED)
        for future in done:
            tried = running.pop(future)
            try:
                outcome = crew.fetch(future)
            except WorkerEndedError as error:
                tried.alone += error.times * tried.suspect
                tried.ended += 1
                if tried.alone < ENDED_ALONE:
                    # Those that are to be alone wait until the others are done.
                    (again.append if tried.suspect else again.appendleft)(tried)
                    continue
                outcome = Outcome(tried.item, error=error)
            yield outcome


def _blamed(outcomes: Iterator[Outcome[T, R]]) -> Iterator[Outcome[T, R]]:
    """Hold back items that ended their workers until another one is done.

    Where none can be, they are not the reason, and going on would start workers for hours.
    """
    held: list[Outcome[T, R]] = []
    done_any = False
    for outcome in outcomes:
        if isinstance(outcome.error, WorkerEndedError):
            held.append(outcome)
            if len(held) == _GUILTY and not done_any:
                outcome.error.message = "Each process ended, whatever it was given to compute"
                raise outcome.error
        else:
            done_any = done_any or outcome.error is None
            yield outcome
        if done_any:
            yield from held
            held.clear()
    yield from held


class _Threads(Generic[T, R]):
    """Threads of this process."""

    def __init__(self, handle: Callable[[T], R], threads: int) -> None:
        self._handle, self._count = handle, threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="fossiledit-spread")

    def places(self) -> int:
        # One more than are worked on waits, so that no thread does.
        return self._count + 1

    def submit(self, item: T) -> Future[Outcome[T, R]]:
        return self._pool.submit(outcome_of, self._handle, item)

    def fetch(self, done: Future[Outcome[T, R]]) -> Outcome[T, R]:
        return done.result()

    def close(self) -> None:
        # Not waited for: a slice takes many seconds, and the user asked to stop now.
        self._pool.shutdown(wait=False, cancel_futures=True)


def outcome_of(handle: Callable[[T], R], item: T) -> Outcome[T, R]:
    """Handle an item and return what became of it, whatever happens."""
    try:
        return Outcome(item, handle(item))
    except FossilError as error:
        return Outcome(item, error=error)
    # The end of a thread, or of a process: whatever went wrong has to reach the caller.
    except Exception as error:  # noqa: BLE001
        return Outcome(item, error=unexpected(error))
