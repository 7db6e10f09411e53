"""How a long computation reports where it is and learns that it should stop.

Core functions take a `Job` of two callables, never a Qt signal.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
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
    said
        A sentence that stays in sight, such as how long it will take.
    finished
        What is there to be shown from now on: source and slice of a prediction.
    """

    done: int
    total: int
    message: str = ""
    eta_s: float | None = None
    values: dict[str, float] = field(default_factory=dict)
    said: str = ""
    finished: tuple[str, int] | None = None


OnProgress = Callable[[Progress], None]
Cancel = Callable[[], bool]

#: How often a job that pauses looks whether it is to go on.
_PAUSE_S = 0.1
#: The time left is told from so many of the last units: slices are not equally hard.
_RECENT = 30
_ENOUGH = 5


def silent(_: Progress) -> None:
    """Ignore a report; the default callback."""


def never() -> bool:
    """Return False: nobody asked to stop."""
    return False


def time_words(seconds: float) -> str:
    """Return a time in words.

    Examples
    --------
    >>> [time_words(s) for s in (20, 200, 4000, 40_000)]
    ['20 s', '3 min', '1 h 7 min', '11 h 7 min']
    """
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def nothing() -> None:
    """Return None: nobody looks at anything."""


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
    paused
        Returns True while the user wants it to wait.
    focus
        Returns the slice that the user looks at, which is to come first where that is possible.
    """

    on_progress: OnProgress = silent
    cancelled: Cancel = never
    paused: Cancel = never
    focus: Callable[[], int | None] = nothing

    def report(self, done: int, total: int, message: str = "", **values: float) -> None:
        """Report that `done` of `total` units are finished."""
        self.on_progress(Progress(done, total, message, values=values))

    def check(self, what: str = "The job") -> None:
        """Wait while the user wants that; raise `CancelledError` where asked to stop."""
        while self.paused() and not self.cancelled():
            time.sleep(_PAUSE_S)
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
        return replace(self, on_progress=lambda p: self.on_progress(replace(p, message=message)))


class Clock:
    """Turns counts into reports with an estimate of the time left."""

    def __init__(self, total: int, on_progress: OnProgress = silent, message: str = "") -> None:
        self.total, self.message, self._report = total, message, on_progress
        self._began = time.monotonic()
        self._ticks = deque([(self._began, 0)], maxlen=_RECENT + 1)

    @property
    def elapsed_s(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._began

    @property
    def unit_s(self) -> float | None:
        """Seconds for one unit at last; None where nothing is known yet.

        The longest wait is left out where there are some: it may have been a pause.
        """
        steps = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(self._ticks)]
        steps = sorted(step for step in steps if step[1] > 0)
        if len(steps) >= _ENOUGH:
            del steps[-1]
        return sum(s for s, _ in steps) / sum(n for _, n in steps) if steps else None

    def tick(
        self,
        done: int,
        message: str | None = None,
        *,
        finished: tuple[str, int] | None = None,
        said: str = "",
        **values: float,
    ) -> None:
        """Report that `done` of `total` units are finished."""
        if done > self._ticks[-1][1]:
            self._ticks.append((time.monotonic(), done))
        unit = self.unit_s
        eta = None if unit is None or not done else unit * (self.total - done)
        told = message or self.message
        self._report(Progress(done, self.total, told, eta, values, said, finished))


QUIET = Job()
"""Reports to nobody and is never cancelled: the default of every workflow."""
