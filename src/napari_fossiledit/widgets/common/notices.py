"""Messages to the user: napari's notifications, with advice, never a traceback."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from napari.utils.notifications import show_info, show_warning

from napari_fossiledit.errors import FossilError


def show_error(error: FossilError) -> None:
    """Show and log an error with what was expected, what was found and what to do next."""
    logging.getLogger(__name__).warning("%s", error)
    show_warning(str(error))


def show_done(text: str) -> None:
    """Show that something is done."""
    show_info(text)


def show_notes(result: object) -> None:
    """Show the notes that a result holds beside its figures, if any."""
    for note in getattr(result, "notes", ()):
        show_info(note)


@contextmanager
def errors_shown() -> Iterator[None]:
    """Show a `FossilError` of the block to the user and go on."""
    try:
        yield
    except FossilError as error:
        show_error(error)


def summary_text(done: str, result: object) -> str:
    """Return one line about a result: `done` and the plain values of its summary."""
    summary = result.summary() if hasattr(result, "summary") else {}
    values = [
        f"{name.replace('_', ' ')} {value}"
        for name, value in summary.items()
        if isinstance(value, int | float | str) and not isinstance(value, bool) and value != ""
    ]
    return f"{done}: {', '.join(values)}." if values else f"{done}."
