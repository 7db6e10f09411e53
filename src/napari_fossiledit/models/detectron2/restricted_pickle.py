"""Reading pickles of weights without running anything that is in them.

A pickle is a program: it names functions, calls them and sets the state of what they return. Here
it may name only stand-ins that make arrays and tensors; anything else ends the reading.

numpy's and torch's own functions trust the file. A pickle may call them with anything, and after
that set the state of whatever they returned: a dtype whose flags say that its bytes are no
addresses makes numpy follow them. So a pickle gets no object of numpy or torch, only the
stand-ins; their values are taken out when it has ended.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained

# ------------------------------------------------------------------ messages about a bad file

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
"""Errors of the readers of pickle, torch and yaml for damaged or malicious bytes."""

_MOST_SHOWN = 200


def in_short(what: object) -> str:
    """Return what comes out of a file as one line of at most 200 characters."""
    line = " ".join(str(what).split())
    return line if len(line) <= _MOST_SHOWN else f"{line[:_MOST_SHOWN]} ..."


def reason(error: Exception) -> str:
    """Return the text of an error in short, or else its name."""
    return in_short(error) or type(error).__name__


# ------------------------------------------------------------------ stand-ins

# Types of arrays: floats, whole numbers and truth values of fixed sizes, no objects or records.
_PLAIN = re.compile("[<>|=]?(f[248]|[iu][1248]|b1)")
_ORDERS = ("<", ">", "|", "=")
_LATIN = ("latin1", "latin-1")

# Arrays cannot take more than the file; text that stands for bytes is held a second time, and
# tensors are copied out of their storage.
_COPIES = 4
# numpy before 2.0 has at most 32 axes.
_DIMENSIONS, _LONGEST = 32, 2**48
# A storage has five short pickles before its values.
_STORAGE_PICKLES, _STORAGE_STEPS = 5, 200


class ForbiddenError(Exception):
    """The pickle does what the reading of weights does not need; the text says what."""


class Fixed:
    """Something that a pickle may hold, but can neither change nor look into."""

    __slots__ = ("value",)
    value: Any

    def __init__(self, value: Any) -> None:
        object.__setattr__(self, "value", value)

    def __setattr__(self, name: str, value: Any) -> None:
        raise ForbiddenError(f"a change of the attribute {name}")

    def __setstate__(self, state: Any) -> None:
        raise ForbiddenError("a change of what is no array")


class Function(Fixed):
    """A function that the pickle may call."""

    __slots__ = ()

    def __call__(self, *arguments: Any) -> Any:
        """Call it."""
        return self.value(*arguments)


class Dictionary(dict[Any, Any]):
    """A dictionary with plain keys: a hash of deeply nested ones would overflow the stack."""

    __slots__ = ()

    def __init__(self, items: Iterable[Any] = ()) -> None:
        super().__init__()
        for key, value in items:
            self[key] = value

    def __setitem__(self, key: Any, value: Any) -> None:
        if not isinstance(key, str | int | float | bytes | None):
            raise TypeError(f"a key of type {type(key).__name__}")
        super().__setitem__(key, value)

    def __setstate__(self, state: Any) -> None:
        """Leave out the attributes that torch gives to state dictionaries."""


class _Dtype(Fixed):
    """``numpy.dtype`` of plain numbers."""

    __slots__ = ()
    value: np.dtype[Any]

    def __init__(self, name: Any, *_: Any) -> None:
        if not isinstance(name, str) or not _PLAIN.fullmatch(name):
            raise ForbiddenError(f"an array of type {name!r}")
        super().__init__(np.dtype(name))

    def __setstate__(self, state: Any) -> None:
        """Take the byte order, and nothing else, from version, order, parts, names, fields ..."""
        order, rest = state[1], state[2:5]
        if not isinstance(state, tuple) or order not in _ORDERS or rest != (None, None, None):
            raise ForbiddenError("an array of a type that is made of others")
        object.__setattr__(self, "value", self.value.newbyteorder(order))


class _Kind(Fixed):
    """``numpy.ndarray``: a name only."""

    __slots__ = ()


_NDARRAY = _Kind(None)


class _Array(Fixed):
    """An array whose values come later, as its state."""

    __slots__ = ("_maker",)
    _maker: ArrayMaker

    def __init__(self, maker: ArrayMaker) -> None:
        super().__init__(None)
        object.__setattr__(self, "_maker", maker)

    def __setstate__(self, state: Any) -> None:
        """Take version, shape, dtype, whether columns are first, and bytes."""
        _, shape, dtype, columns, data = state
        made = self._maker.array(data, dtype, shape, columns=bool(columns))
        object.__setattr__(self, "value", made)


class ArrayMaker:
    """The functions that one pickle may call, and how much they may make.

    Parameters
    ----------
    size
        Bytes of the file.
    """

    def __init__(self, size: int) -> None:
        self._left = _COPIES * size

    def functions(self) -> dict[tuple[str, str], Fixed]:
        """Return all that a pickle may name, by module and name."""
        made: dict[tuple[str, str], Fixed] = {
            ("collections", "OrderedDict"): Function(Dictionary),
            ("_codecs", "encode"): Function(self._latin),
            ("numpy", "ndarray"): _NDARRAY,
            ("numpy", "dtype"): Function(_Dtype),
            ("torch.storage", "_load_from_bytes"): Function(self._storage),
            ("torch._utils", "_rebuild_tensor_v2"): Function(self._tensor),
        }
        for package in ("numpy.core", "numpy._core"):
            made[f"{package}.multiarray", "_reconstruct"] = Function(self._reconstruct)
            made[f"{package}.multiarray", "scalar"] = Function(self._scalar)
            made[f"{package}.numeric", "_frombuffer"] = Function(self._frombuffer)
        return made

    def array(
        self, data: Any, dtype: Any, shape: Any, *, columns: bool = False
    ) -> NDArray[np.generic]:
        """Make an array of this machine's byte order out of a copy of `data`."""
        raw = data.encode("latin-1") if isinstance(data, str) else data
        if not isinstance(raw, bytes | bytearray) or not isinstance(dtype, _Dtype):
            raise TypeError(f"an array of {type(raw).__name__} and {type(dtype).__name__}")
        kind, sizes = dtype.value, _sizes(shape)
        if len(raw) != math.prod(sizes) * kind.itemsize:
            raise ValueError(f"{len(raw)} bytes for {kind} of shape {sizes}")
        self._take(len(raw))
        # numpy counts on bools to be 0 or 1.
        stored = np.dtype("u1") if kind.kind == "b" else kind
        values = np.frombuffer(raw, stored).astype(kind.newbyteorder("="))
        return values.reshape(sizes, order="F" if columns else "C")

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ValueError("more values than the file has room for")

    def _latin(self, text: Any, encoding: Any) -> bytes:
        """``codecs.encode``, as which Python 3 writes bytes in old pickles."""
        if not isinstance(text, str) or encoding not in _LATIN:
            raise ForbiddenError("a call of _codecs.encode for anything but latin-1")
        self._take(len(text))
        return text.encode("latin-1")

    def _reconstruct(self, kind: Any, *_: Any) -> _Array:
        if kind is not _NDARRAY:
            raise ForbiddenError("an array of a class of its own")
        return _Array(self)

    def _scalar(self, dtype: Any, data: Any) -> Fixed:
        return Fixed(self.array(data, dtype, ())[()])

    def _frombuffer(self, data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> Fixed:
        """``numpy.frombuffer`` with a shape, as which protocol 5 writes arrays."""
        made = self.array(data, dtype, shape, columns=order == "F")
        return Fixed(made if axes is None else made.transpose(_sizes(axes)))

    def _storage(self, data: Any) -> Fixed:
        """``torch.storage._load_from_bytes``, which would unpickle freely."""
        self._take(len(data))
        stream = io.BytesIO(data)
        for _ in range(_STORAGE_PICKLES):
            for step, _opcode in enumerate(pickletools.genops(stream)):
                if step > _STORAGE_STEPS:
                    raise ValueError("a storage of another kind than torch's")
        storage = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if not isinstance(storage, torch.storage.TypedStorage):
            raise TypeError(f"a storage of type {type(storage).__name__}")
        return Fixed(torch.empty(0, dtype=storage.dtype).set_(storage._untyped_storage))

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Fixed:
        """``torch._utils._rebuild_tensor_v2``, without its hooks."""
        flat = storage.value if isinstance(storage, Fixed) else None
        if not isinstance(flat, Tensor):
            raise TypeError(f"a tensor of {type(storage).__name__}")
        sizes, (first,) = _sizes(size), _sizes((offset,))
        self._take(math.prod(sizes) * flat.element_size())
        # as_strided raises where a tensor does not lie within the storage.
        return Fixed(flat.flatten().as_strided(sizes, _sizes(stride), first).clone())


def _sizes(values: Any) -> tuple[int, ...]:
    """Return a shape, strides or axes as they are, or raise where they are none."""
    if not isinstance(values, tuple | list) or len(values) > _DIMENSIONS:
        raise TypeError(f"a shape of type {type(values).__name__}, or of many dimensions")
    if any(type(v) is not int or not 0 <= v < _LONGEST for v in values):
        raise ValueError("a shape that does not consist of lengths")
    return tuple(values)


# ------------------------------------------------------------------ the reader

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
    """Unpickler that accepts the names of `ArrayMaker` only.

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
        self._allowed = ArrayMaker(size).functions()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._allowed:
            raise ForbiddenError(f"a call of {module}.{name}")
        return self._allowed[module, name]

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
    """Build the error for a file with code in it, e.g. ``a call of os.mkdir``."""
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
