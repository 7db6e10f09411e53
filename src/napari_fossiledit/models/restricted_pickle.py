"""Reading pickles of weights without running anything that is in them.

A pickle is a program: it names functions and calls them. Here it may name only what puts an array,
a tensor or an ordered dictionary together; anything else ends the reading.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained

_EXPECTED = "names of layers with arrays, and nothing that runs"
_BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    ImportError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)


class _ForbiddenError(Exception):
    """The pickle names something that is not on the list."""


def _latin(text: str, encoding: str) -> bytes:
    """Stand in for ``codecs.encode``, as which Python 3 writes bytes in old pickles."""
    if encoding not in ("latin1", "latin-1"):
        raise _ForbiddenError(f"_codecs.encode to {encoding}")
    return text.encode("latin-1")


def _storage(data: bytes) -> Any:
    """Stand in for torch's own function, which would unpickle freely."""
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    """Stand in for torch's own function, without its hooks."""
    found: Tensor = torch._utils._rebuild_tensor(storage, offset, tuple(size), tuple(stride))
    return found


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _latin,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
}
# numpy's own functions, under the names of all its versions.
for _name, _function in {
    "multiarray._reconstruct": np.empty(0).__reduce__()[0],
    "multiarray.scalar": np.float32(0).__reduce__()[0],
    "numeric._frombuffer": np.empty(0).__reduce_ex__(5)[0],
}.items():
    for _package in ("numpy.core", "numpy._core"):
        _module, _, _attribute = f"{_package}.{_name}".rpartition(".")
        _ALLOWED[_module, _attribute] = _function


class _Reader(pickle.Unpickler):
    """Unpickler that knows the names of `_ALLOWED` only."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise _ForbiddenError(f"{module}.{name}")
        return _ALLOWED[module, name]


def forbidden(path: Path, name: str) -> FossilError:
    """Make the error that tells of a file with code in it, which calls `name`."""
    return FossilError(
        f"{path} holds more than weights and was not opened",
        expected=_EXPECTED,
        found=f"a call of {name}",
        advice="Nothing of it has run. Take the file from its maker again.",
    )


def read_pickle(path: Path) -> Any:
    """Read a pickle of dictionaries, lists, numbers, text, numpy arrays and tensors.

    Raises
    ------
    FossilError
        Where the file is missing, truncated, no pickle, or names anything else; nothing of that
        has run then.
    """
    with explained(path, "Reading"), path.open("rb") as stream:
        try:
            return _Reader(stream, encoding="latin1").load()
        except _ForbiddenError as error:
            raise forbidden(path, str(error)) from error
        except _BROKEN as error:
            raise FossilError(
                f"{path} cannot be read",
                expected=f"a complete pickle: {_EXPECTED}",
                found=f"{path.stat().st_size} bytes ({str(error) or type(error).__name__})",
                advice="It may be truncated: copy it again.",
            ) from error
