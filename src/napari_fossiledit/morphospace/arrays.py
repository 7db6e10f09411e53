"""Arrays with a JSON head in one ``.npz`` file, without pickle."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained, write_whole

_VERSION = 1
_DAMAGED = (EOFError, ValueError, KeyError, TypeError, AttributeError)


def write_arrays(path: Path, head: Mapping[str, Any], **arrays: NDArray[Any]) -> None:
    """Write arrays and a head, whole or not at all.

    Raises
    ------
    FossilError
        Where the file cannot be written; the old one is then untouched.
    """
    stream = io.BytesIO()
    text = json.dumps({"version": _VERSION, **head}).encode()
    np.savez(stream, head=np.frombuffer(text, np.uint8), **arrays)  # type: ignore[arg-type]  # all but allow_pickle are arrays
    write_whole(path, stream.getvalue())


@contextmanager
def reading(
    path: Path, what: str, again: str
) -> Iterator[tuple[Mapping[str, NDArray[Any]], dict[str, Any]]]:
    """Yield the arrays and the head of a file; what fails inside is an error of the file.

    Parameters
    ----------
    what
        What the file should be, for the message.
    again
        Command that makes it again.

    Raises
    ------
    FossilError
        Where the file is none, is damaged or of another version.
    """
    with explained(path, "Reading"):
        data = path.read_bytes()
    try:
        # Never pickled: a file of a stranger must not run code.
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            head = json.loads(arrays["head"].tobytes())
            if head.pop("version") != _VERSION:
                raise ValueError("another version")
            yield arrays, head
    except (*_DAMAGED, zipfile.BadZipFile) as error:
        raise FossilError(
            f"{path} cannot be read",
            expected=f"{what} (.npz, version {_VERSION})",
            found=str(error),
            advice=f"Make it again with `{again}`.",
        ) from error
