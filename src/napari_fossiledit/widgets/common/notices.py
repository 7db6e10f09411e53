"""Messages to the user: sentences with advice and what can be done, never a traceback."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import QObject, Signal

from napari_fossiledit.errors import FossilError


@dataclass
class Message:
    """What was said to the user.

    Attributes
    ----------
    action
        Word of a button, such as "Undo", and what it does.
    is_shown
        Set by whoever shows the message.
    """

    text: str
    is_error: bool = False
    action: tuple[str, Callable[[], object]] | None = None
    time: datetime = field(default_factory=datetime.now)
    is_shown: bool = False


class Voice(QObject):
    """Hands each message to the windows, and keeps it."""

    said = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[Message] = []

    def say(self, message: Message) -> None:
        """Show a message in the window; as a note of napari where our dock is not in view."""
        self.messages.append(message)
        self.said.emit(message)
        if not message.is_shown:
            (show_warning if message.is_error else show_info)(message.text)


VOICE = Voice()


def show_error(error: FossilError) -> None:
    """Show and log an error with what was expected, what was found and what to do next."""
    logging.getLogger(__name__).warning("%s", error)
    VOICE.say(Message(str(error), is_error=True))


def show_done(text: str, action: tuple[str, Callable[[], object]] | None = None) -> None:
    """Show that something is done, and a button where something can be done about it."""
    VOICE.say(Message(text, action=action))


def show_result(
    text: str, result: object, action: tuple[str, Callable[[], object]] | None = None
) -> None:
    """Show that something is done, and below it the notes that its result holds, if any."""
    show_done("\n".join((text, *getattr(result, "notes", ()))), action)


@contextmanager
def errors_shown() -> Iterator[None]:
    """Show a `FossilError` of the block to the user and go on."""
    try:
        yield
    except FossilError as error:
        show_error(error)


def counted(number: int, word: str) -> str:
    """Return a number and its word, in the plural where it is not one.

    Examples
    --------
    >>> counted(1, "fossil"), counted(23, "slice")
    ('1 fossil', '23 slices')
    """
    return f"{number} {word}{'s' if number != 1 else ''}"
