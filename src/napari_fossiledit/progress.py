"""How a long computation tells where it is and learns that it should stop.

Core functions take an ``OnProgress`` callback and a ``Cancel`` query, never a Qt signal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
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
    """Tell that nobody asked to stop; the default query."""
    return False


def check(cancel: Cancel, what: str = "The job") -> None:
    """Raise `CancelledError` where the user asked to stop."""
    if cancel():
        raise CancelledError(f"{what} was cancelled", advice="What was finished before is kept.")


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


def tracked(
    items: Iterable[T],
    total: int,
    message: str,
    on_progress: OnProgress = silent,
    cancel: Cancel = never,
) -> Iterator[T]:
    """Yield `items`, reporting each finished one and stopping where the user asks."""
    clock = Clock(total, on_progress, message)
    clock.tick(0)
    for done, item in enumerate(items, 1):
        check(cancel, message)
        yield item
        clock.tick(done)
