"""Stand-ins for what a pickle of weights calls: they make arrays and tensors and nothing else.

numpy's and torch's own trust the file. A pickle may call them with anything, and after that set
the state of whatever they returned: a dtype whose flags say that its bytes are no addresses makes
numpy follow them. So a pickle gets no object of numpy or torch into its hands, only these; their
values are taken out when it has ended.
"""

from __future__ import annotations

import io
import math
import pickletools
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_PLAIN = re.compile("[<>|=]?(f[248]|[iu][1248]|b1)")
_ORDERS = ("<", ">", "|", "=")
_LATIN = ("latin1", "latin-1")

# Arrays cannot take more than the file; text that stands for bytes is held a second time, and
# tensors are copied out of their storage.
_COPIES = 4
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
        """All that a pickle may name, by module and name."""
        known: dict[tuple[str, str], Fixed] = {
            ("collections", "OrderedDict"): Function(Dictionary),
            ("_codecs", "encode"): Function(self._latin),
            ("numpy", "ndarray"): _NDARRAY,
            ("numpy", "dtype"): Function(_Dtype),
            ("torch.storage", "_load_from_bytes"): Function(self._storage),
            ("torch._utils", "_rebuild_tensor_v2"): Function(self._tensor),
        }
        for package in ("numpy.core", "numpy._core"):
            known[f"{package}.multiarray", "_reconstruct"] = Function(self._reconstruct)
            known[f"{package}.multiarray", "scalar"] = Function(self._scalar)
            known[f"{package}.numeric", "_frombuffer"] = Function(self._frombuffer)
        return known

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
        _check_storage(data)
        found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if not isinstance(found, torch.storage.TypedStorage):
            raise TypeError(f"a storage of type {type(found).__name__}")
        return Fixed(torch.empty(0, dtype=found.dtype).set_(found._untyped_storage))

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Fixed:
        """``torch._utils._rebuild_tensor_v2``, without its hooks."""
        flat = storage.value if isinstance(storage, Fixed) else None
        if not isinstance(flat, Tensor):
            raise TypeError(f"a tensor of {type(storage).__name__}")
        sizes, (first,) = _sizes(size), _sizes((offset,))
        self._take(math.prod(sizes) * flat.element_size())
        # Refuses what does not lie within the storage.
        return Fixed(flat.flatten().as_strided(sizes, _sizes(stride), first).clone())


def _sizes(values: Any) -> tuple[int, ...]:
    """Return a shape, strides or axes as they are, if they are such."""
    if not isinstance(values, tuple | list) or len(values) > _DIMENSIONS:
        raise TypeError(f"a shape of type {type(values).__name__}, or of many dimensions")
    if any(type(v) is not int or not 0 <= v < _LONGEST for v in values):
        raise ValueError("a shape that does not consist of lengths")
    return tuple(values)


def _check_storage(data: Any) -> None:
    """Raise where a storage is none, or its pickles are longer than any storage needs."""
    stream = io.BytesIO(data)
    for _ in range(_STORAGE_PICKLES):
        for step, _opcode in enumerate(pickletools.genops(stream)):
            if step > _STORAGE_STEPS:
                raise ValueError("a storage of another kind than torch's")
