"""Reading pickles of weights without running anything that is in them.

A pickle is a program: it names functions, calls them and sets the state of what they return. Here
it may name only the stand-ins of `pickled_arrays`; anything else ends the reading.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, ClassVar

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained
from napari_fossiledit.models.detectron2.pickled_arrays import (
    ArrayMaker,
    Dictionary,
    Fixed,
    ForbiddenError,
    Function,
)
from napari_fossiledit.models.detectron2.unreadable import UNREADABLE, in_short, reason

_EXPECTED = "names of layers with arrays, and nothing that runs"

# A checkpoint with its optimiser has some thousand values, five deep.
_MOST_VALUES, _DEEPEST, _LONGEST_INT = 1_000_000, 32, 64

# What dictionaries, lists, numbers, text, bytes and the stand-ins are written with. Not: instances
# of classes, sets, persistent and extended names, buffers outside of the file.
_STEPS = (
    "PROTO FRAME STOP MARK POP POP_MARK PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET "
    "NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT "
    "STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 "
    "BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS "
    "SETITEM SETITEMS GLOBAL STACK_GLOBAL REDUCE BUILD"
)


class _Reader(pickle._Unpickler):
    """Unpickler that knows the names of `ArrayMaker` only.

    Of the two unpicklers of the standard library it is the one in Python: the other reserves
    memory for whatever number a file gives to a value, and ends with the process for some files.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        code: step
        for code, step in pickle._Unpickler.dispatch.items()
        if code in {getattr(pickle, name)[0] for name in _STEPS.split()}
    }

    def __init__(self, stream: IO[bytes], size: int) -> None:
        super().__init__(stream, encoding="latin1")
        self._known = ArrayMaker(size).functions()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._known:
            raise ForbiddenError(f"a call of {module}.{name}")
        return self._known[module, name]

    def _empty(self: Any) -> None:
        self.append(Dictionary())

    def _filled(self: Any) -> None:
        items = self.pop_mark()
        self.append(Dictionary(zip(items[::2], items[1::2], strict=True)))

    dispatch[pickle.EMPTY_DICT[0]] = _empty
    dispatch[pickle.DICT[0]] = _filled
    # As bytes: an array of bytes is filled with zeros first, of whatever length the file names.
    dispatch[pickle.BYTEARRAY8[0]] = dispatch[pickle.BINBYTES8[0]]


class _Values:
    """Takes plain values out of what a pickle made."""

    def __init__(self) -> None:
        self._left = _MOST_VALUES

    def plain(self, value: Any, depth: int = 0) -> Any:
        """Return `value` with its arrays and tensors, as a copy of its lists and dictionaries."""
        self._left -= 1
        if self._left < 0 or depth > _DEEPEST:
            raise ValueError(f"more than {_MOST_VALUES} values, or more than {_DEEPEST} deep")
        if isinstance(value, dict):
            return {_leaf(k): self.plain(v, depth + 1) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self.plain(v, depth + 1) for v in value)
        return _leaf(value)


def _leaf(value: Any) -> Any:
    if isinstance(value, Fixed) and not isinstance(value, Function) and value.value is not None:
        return value.value
    if isinstance(value, int) and value.bit_length() > _LONGEST_INT:
        raise ValueError(f"a number of more than {_LONGEST_INT} bits")
    if value is None or isinstance(value, str | int | float | bytes):
        return value
    raise ForbiddenError(f"a value that is none: {type(value).__name__}")


def forbidden(path: Path, what: str) -> FossilError:
    """Make the error that tells of a file with code in it, e.g. ``a call of os.mkdir``."""
    return FossilError(
        f"{path} holds more than weights and was not opened",
        expected=_EXPECTED,
        found=in_short(what),
        advice="Nothing of it has run. Take the file from its maker again.",
    )


def read_pickle(path: Path) -> Any:
    """Read a pickle of dictionaries, lists, numbers, text, numpy arrays and tensors.

    Raises
    ------
    FossilError
        Where the file is missing, truncated, no pickle, or names anything else; nothing of that
        has run then. Also where it makes more than it has bytes for.
    """
    with explained(path, "Reading"), path.open("rb") as stream:
        size = path.stat().st_size
        try:
            return _Values().plain(_Reader(stream, size).load())
        except ForbiddenError as error:
            raise forbidden(path, str(error)) from error
        except UNREADABLE as error:
            raise FossilError(
                f"{path} cannot be read",
                expected=f"a complete pickle: {_EXPECTED}",
                found=f"{size} bytes ({reason(error)})",
                advice="It may be truncated: copy it again.",
            ) from error
