"""Output of the command line: results to stdout, progress and errors to stderr."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.progress import Cancel, Progress

#: Seconds between two lines where there is no terminal: in a log every line stays.
_QUIET_S = 5.0
#: A longer text in a list is a sentence.
_LONGEST_WORD = 40


class ProgressPrinter:
    """Prints progress to stderr: one rewritten line on a terminal, a line now and then in a log."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._printed = 0.0
        self._message = ""

    def __call__(self, progress: Progress) -> None:
        """Show one report where it is due."""
        if progress.said:
            start = "\r\x1b[2K" if self._terminal else ""
            tell(f"{start}{progress.said}\n")
        now = time.monotonic()
        finished = progress.total > 0 and progress.done >= progress.total
        due = now - self._printed >= (0.1 if self._terminal else _QUIET_S)
        if not (due or finished or progress.message != self._message):
            return
        self._printed, self._message = now, progress.message
        end = "\n" if finished or not self._terminal else ""
        start = "\r\x1b[2K" if self._terminal else ""
        tell(f"{start}{progress_text(progress)}{end}")


def tell(text: str) -> None:
    """Write to stderr; no work ends where that takes nothing more.

    Ctrl-C ends what reads it, too, and a disk may be full.
    """
    # RuntimeError: Ctrl-C came while another text was being written, and has one of its own.
    with suppress(OSError, RuntimeError):
        sys.stderr.write(text)
        sys.stderr.flush()


def progress_text(progress: Progress) -> str:
    """One line of progress, e.g. ``Predicting 12 of 64, 1:20 left (loss 0.31)``."""
    text = progress.message or "Working"
    if progress.total:
        text += f" {progress.done} of {progress.total}"
    if progress.eta_s is not None and progress.done < progress.total:
        minutes, seconds = divmod(round(progress.eta_s), 60)
        text += f", {minutes}:{seconds:02d} left"
    if progress.values:
        text += " (" + ", ".join(f"{k} {v:.4g}" for k, v in progress.values.items()) + ")"
    return text


@contextmanager
def interruptible() -> Iterator[Cancel]:
    """Let the first Ctrl-C ask the job to stop and keep its work, and the second one break it."""
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        tell("\nStopping; finished work is kept. Press Ctrl-C again to break off.\n")

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)


def print_result(summary: Mapping[str, Any], as_json: bool) -> None:
    """Print the result of a command to stdout."""
    if as_json:
        # ASCII alone: a file name may hold what the encoding of the terminal does not.
        sys.stdout.write(json.dumps(summary, allow_nan=False) + "\n")
    else:
        sys.stdout.write("\n".join(_lines(summary)) + "\n")
    sys.stdout.flush()


def print_error(error: FossilError, as_json: bool) -> None:
    """Print an error to stderr, and for programs as JSON to stdout."""
    tell(f"fossiledit: {error}\n")
    if as_json:
        # The error may be that stdout takes nothing more: stderr shows it then.
        with suppress(OSError):
            print_result({"error": error_fields(error)}, as_json=True)


def error_fields(error: FossilError) -> dict[str, Any]:
    """Return the fields of an error as JSON-able values."""
    return {k: getattr(error, k) for k in ("message", "expected", "found", "advice")}


def _lines(value: Any, indent: str = "") -> Iterator[str]:
    """Lay nested results out as indented lines, short lists on one of them."""
    pairs = value.items() if isinstance(value, Mapping) else (("-", v) for v in value)
    for key, item in pairs:
        label = key if key == "-" else f"{key}:"
        if _is_nested(item):
            yield f"{indent}{label}"
            yield from _lines(item, indent + "  ")
        else:
            yield f"{indent}{label} {_text(item)}"


def _is_nested(item: Any) -> bool:
    if isinstance(item, Mapping):
        return bool(item)
    if not isinstance(item, Sequence) or isinstance(item, str):
        return False
    # Sentences have commas of their own: each on a line.
    return any(
        isinstance(v, Mapping | list | tuple) or (isinstance(v, str) and len(v) > _LONGEST_WORD)
        for v in item
    )


def _text(item: Any) -> str:
    if item is None:
        return "-"
    if isinstance(item, float):
        return f"{item:.4g}" if abs(item) < 1e6 else f"{item:.4e}"
    if isinstance(item, Sequence) and not isinstance(item, str):
        return ", ".join(_text(v) for v in item) or "none"
    return "{}" if isinstance(item, Mapping) else str(item)
