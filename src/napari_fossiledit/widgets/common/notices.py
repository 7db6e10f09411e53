"""How the window tells what happened: napari's notifications, with advice, never a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from napari.utils.notifications import show_info, show_warning

from napari_fossiledit.errors import FossilError


def show_error(error: FossilError) -> None:
    """Show an error with what was expected, what was found and what to do next."""
    show_warning(str(error))


def show_done(text: str) -> None:
    """Tell that something is done."""
    show_info(text)


def show_notes(result: object) -> None:
    """Tell what a workflow notes for the user beside its figures, if it does."""
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
    """Tell in one line what a workflow came to, from the plain values of its summary."""
    summary = result.summary() if hasattr(result, "summary") else {}
    told_values = [f"{k.replace('_', ' ')} {v}" for k, v in summary.items() if _is_plain(v)]
    return f"{done}: {', '.join(told_values)}." if told_values else f"{done}."


def _is_plain(value: object) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)
