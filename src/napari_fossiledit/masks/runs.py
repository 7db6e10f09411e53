"""COCO's compressed run lengths, decoded with every check that pycocotools leaves out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError

Runs = NDArray[np.int64]

_FIRST, _MORE, _SIGN, _BITS = 48, 0x20, 0x10, 5
#: 2**60 pixels in one run: what no slice has, and int64 holds.
_MOST_DIGITS = 12


def run_lengths(counts: bytes) -> Runs:
    """Decode a compressed run-length code to its run lengths, background first.

    Each number is written in digits of five bits, lowest first, as ASCII from ``"0"`` on; from the
    fourth number on it is the difference to the last but one (pycocotools, ``maskApi.c``).

    Raises
    ------
    FossilError
        Where the text is no such code. pycocotools itself would read beyond its end.
    """
    digits = np.frombuffer(counts, dtype=np.uint8).astype(np.int64) - _FIRST
    if digits.size == 0 or digits.min() < 0 or digits.max() > 2 * _MORE - 1:
        raise _broken("a character that is no digit" if digits.size else "nothing")
    last = np.flatnonzero((digits & _MORE) == 0)
    if last.size == 0 or last[-1] != digits.size - 1:
        raise _broken("a code that breaks off")
    first = np.concatenate(([0], last[:-1] + 1))
    if int((last - first).max()) >= _MOST_DIGITS:
        raise _broken("a number that is too long")
    return _undifferenced(_numbers(digits, first, last))


def _numbers(digits: Runs, first: Runs, last: Runs) -> Runs:
    """Put the digits of each number together, two's complement where the sign bit is set."""
    place = np.arange(digits.size) - np.repeat(first, last - first + 1)
    values = np.add.reduceat((digits & (_MORE - 1)) << (_BITS * place), first)
    negative = (digits[last] & _SIGN) != 0
    return np.where(negative, values - (1 << (_BITS * (last - first + 1))), values)


def _undifferenced(values: Runs) -> Runs:
    runs = values.copy()
    runs[1::2] = np.cumsum(values[1::2])
    runs[2::2] = np.cumsum(values[2::2])
    return runs


def _broken(found: str) -> FossilError:
    return FossilError(
        "A run-length code is broken", expected="COCO compressed run lengths", found=found
    )
