"""How a long computation reports where it is and learns that it should stop.

Core functions take a `Job` of two callables, never a Qt signal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

from napari_fossiledit.errors import CancelledError

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """One report of a running job.

    Attributes
    ----------
    done, total
        Units of work finished and in all; ``total`` 0 means unknown.
    message
        What is being done, for the user.
    eta_s
        Estimated seconds to the end, or None where nothing is known yet.
    values
        Figures to plot or print, such as ``{"loss": 0.31}``.
    """

    done: int
    total: int
    message: str = ""
    eta_s: float | None = None
    values: dict[str, float] = field(default_factory=dict)


OnProgress = Callable[[Progress], None]
Cancel = Callable[[], bool]


def silent(_: Progress) -> None:
    """Ignore a report; the default callback."""


def never() -> bool:
    """Return False: nobody asked to stop."""
    return False


def check(cancel: Cancel, what: str = "The job") -> None:
    """Raise `CancelledError` where the user asked to stop."""
    if cancel():
        raise CancelledError(f"{what} was cancelled", advice="What was finished before is kept.")


@dataclass(frozen=True)
class Job:
    """Callbacks of a long computation to whoever started it.

    Every workflow takes one as ``job``; a callable alone, `Cancel`, is handed to a computation
    that is too short to report.

    Attributes
    ----------
    on_progress
        Gets each report.
    cancelled
        Returns True once the user asked to stop.
    """

    on_progress: OnProgress = silent
    cancelled: Cancel = never

    def report(self, done: int, total: int, message: str = "", **values: float) -> None:
        """Report that `done` of `total` units are finished."""
        self.on_progress(Progress(done, total, message, values=values))

    def check(self, what: str = "The job") -> None:
        """Raise `CancelledError` where the user asked to stop."""
        check(self.cancelled, what)

    def clock(self, total: int, message: str = "") -> Clock:
        """Return a clock that reports with an estimate of the time left."""
        return Clock(total, self.on_progress, message)

    def tracked(self, items: Iterable[T], total: int, message: str) -> Iterator[T]:
        """Yield `items`, reporting each finished one and stopping where the user asks."""
        clock = self.clock(total, message)
        clock.tick(0)
        for done, item in enumerate(items, 1):
            self.check(message)
            yield item
            clock.tick(done)

    def renamed(self, message: str) -> Job:
        """Return the same job under one message, whatever the computation calls its steps."""
        return Job(lambda p: self.on_progress(replace(p, message=message)), self.cancelled)


class Clock:
    """Turns counts into reports with an estimate of the time left."""

    def __init__(self, total: int, on_progress: OnProgress = silent, message: str = "") -> None:
        self.total, self.message, self._report = total, message, on_progress
        self._start = time.monotonic()

    def tick(self, done: int, message: str | None = None, **values: float) -> None:
        """Report that `done` of `total` units are finished."""
        elapsed = time.monotonic() - self._start
        eta = elapsed / done * (self.total - done) if done else None
        self._report(Progress(done, self.total, message or self.message, eta, values))


QUIET = Job()
"""Reports to nobody and is never cancelled: the default of every workflow."""
