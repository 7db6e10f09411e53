"""One log file for all that the program does, where a user can find it after something failed."""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from itertools import pairwise
from pathlib import Path

from platformdirs import user_cache_path

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import os_error

#: Three files of a megabyte hold some weeks of work and can be sent by mail.
_BYTES, _KEPT = 1_000_000, 3
#: A text field takes longer than a tenth of a second to show more.
_SHOWN = 200_000
_FORMAT = "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"


def log_file() -> Path:
    """Return the file that the program logs to, in the user's cache folder."""
    return user_cache_path("fossiledit", appauthor=False) / "fossiledit.log"


def read_log() -> str:
    """Return the end of the log, some thousand lines; empty where there is none."""
    try:
        with log_file().open("rb") as stream:
            stream.seek(max(0, stream.seek(0, 2) - _SHOWN))
            return stream.read().decode("utf-8", "replace")
    except OSError:
        return ""


def start_logging(*, verbose: bool = False) -> None:
    """Log this process to `log_file`, and to stderr where asked; a second call changes nothing.

    Warnings go to stderr in any case: they say what the user should know and no result holds.

    A cache folder that cannot be written to costs the log and nothing else.
    """
    logger = logging.getLogger("napari_fossiledit")
    if logger.handlers:
        return
    logger.setLevel(logging.DEBUG)
    handlers: list[logging.Handler] = []
    try:
        log_file().parent.mkdir(parents=True, exist_ok=True)
        _rotate(log_file())
        # File names that are no text in UTF-8 must not stop the log.
        handlers.append(
            logging.FileHandler(log_file(), encoding="utf-8", errors="backslashreplace", delay=True)
        )
    except OSError as error:
        warnings.warn(f"There is no log: {error}", stacklevel=2)
    shown = logging.StreamHandler(sys.stderr)
    handlers.append(shown)
    for handler in handlers:
        handler.setFormatter(logging.Formatter(_FORMAT))
        logger.addHandler(handler)
    if not verbose:
        shown.setFormatter(logging.Formatter("fossiledit: %(message)s"))
        # Errors are printed as results are; the log has their traceback.
        shown.addFilter(lambda record: record.levelno == logging.WARNING)
    # A full disk while a line is logged is no reason to print a traceback of its own.
    logging.raiseExceptions = False


def _rotate(file: Path) -> None:
    """Make room for a new log where the file is full.

    Only when a process starts, and by renaming: the window, its jobs and commands append to one
    file, and a handler that rotates while others write loses their lines.
    """
    if file.exists() and file.stat().st_size > _BYTES:
        names = [file, *(file.with_name(f"{file.name}.{n}") for n in range(1, _KEPT))]
        for newer, older in reversed(list(pairwise(names))):
            if newer.exists():
                newer.replace(older)


def unexpected(error: BaseException) -> FossilError:
    """Log any other exception, and return one that shows the user what happened and where."""
    logging.getLogger(__name__).error("Unexpected error", exc_info=error)
    last = traceback.extract_tb(error.__traceback__)[-1:]
    place = f" ({Path(last[0].filename).name}:{last[0].lineno})" if last else ""
    # torch raises RuntimeError where memory runs out.
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return FossilError(
            f"The memory ran out{place}",
            advice=f"Choose smaller tiles, or a smaller model. The log {log_file()} has more.",
        )
    if isinstance(error, OSError) and error.errno and error.filename:
        return os_error(error, f"Using {error.filename} failed")
    text = str(error) or type(error).__name__
    return FossilError(
        f"An unexpected error stopped the job: {type(error).__name__}: {text}{place}",
        advice=f"Nothing saved before was changed; please report it with the log {log_file()}.",
    )
