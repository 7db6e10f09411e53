"""Numbers that tell a fresh result from a stale one."""

from __future__ import annotations

import threading


class Tickets:
    """Hands out generation numbers, so that the result of an overtaken job is dropped.

    Examples
    --------
    >>> tickets = Tickets()
    >>> first, second = tickets.draw(), tickets.draw()
    >>> tickets.is_current(first), tickets.is_current(second)
    (False, True)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest = 0

    def draw(self) -> int:
        """Take a new number; all earlier ones become stale."""
        with self._lock:
            self._latest += 1
            return self._latest

    def is_current(self, ticket: int) -> bool:
        """Return whether no newer number was drawn since."""
        with self._lock:
            return ticket == self._latest
