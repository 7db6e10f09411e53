"""What the reading of a damaged or malicious file ends with, and how little of it is told."""

from __future__ import annotations

import pickle
import struct

UNREADABLE: tuple[type[Exception], ...] = (
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OverflowError,
    RuntimeError,
    SystemError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
)
"""What the readers of pickle, torch and yaml let through where the bytes are not theirs."""

_MOST = 200


def in_short(what: object) -> str:
    """Put what comes out of a file on one line of at most 200 characters."""
    line = " ".join(str(what).split())
    return line if len(line) <= _MOST else f"{line[:_MOST]} ..."


def reason(error: Exception) -> str:
    """Say in short what an error says, or else its name."""
    return in_short(error) or type(error).__name__
