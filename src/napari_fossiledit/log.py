"""One log file for all that the program does, where a user can find it after something failed."""

from __future__ import annotations

import logging
import sys
import warnings
from logging.handlers import RotatingFileHandler
from pathlib import Path

from platformdirs import user_cache_path

#: Three files of a megabyte hold some weeks of work and can be sent by mail.
_BYTES, _KEPT = 1_000_000, 2
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

    A cache folder that cannot be written to costs the log and nothing else.
    """
    logger = logging.getLogger("napari_fossiledit")
    if logger.handlers:
        return
    logger.setLevel(logging.DEBUG)
    handlers: list[logging.Handler] = []
    try:
        log_file().parent.mkdir(parents=True, exist_ok=True)
        file = RotatingFileHandler(
            log_file(), maxBytes=_BYTES, backupCount=_KEPT, encoding="utf-8", delay=True
        )
        # File names that are no text in UTF-8 must not stop the log.
        file.errors = "backslashreplace"
        handlers.append(file)
    except OSError as error:
        warnings.warn(f"There is no log: {error}", stacklevel=2)
    if verbose:
        handlers.append(logging.StreamHandler(sys.stderr))
    for handler in handlers:
        handler.setFormatter(logging.Formatter(_FORMAT))
        logger.addHandler(handler)
    # A full disk while a line is logged is no reason to print a traceback of its own.
    logging.raiseExceptions = False
