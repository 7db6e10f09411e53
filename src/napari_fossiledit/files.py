"""Writing files so that a crash, a full disk or a killed process harms nothing."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from napari_fossiledit.errors import FossilError

_ADVICE = {
    errno.ENOSPC: "The disk is full: free some space and run the command again.",
    errno.EDQUOT: "The disk quota is used up: free some space and run the command again.",
    errno.EROFS: "The folder is read-only: copy the project to a place you may write to.",
    errno.EACCES: "You may not write there: copy the project to a place you may write to.",
    errno.EPERM: "You may not write there: copy the project to a place you may write to.",
}


@contextmanager
def explained(path: Path, doing: str) -> Iterator[None]:
    """Turn an operating system error into a `FossilError` that names the file and a remedy."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "Nothing saved before was changed.")
        raise FossilError(
            f"{doing} {path} failed: {error.strerror or error}", advice=advice
        ) from error


def write_whole(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one step: a temporary file, fsync, rename.

    Raises
    ------
    FossilError
        Where the file cannot be written; the old content is then untouched.
    """
    with replacing(path) as stream:
        stream.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Write `path` in pieces; it takes the place of the old file at the end, or not at all.

    Raises
    ------
    FossilError
        Where the file cannot be written; the old content is then untouched.
    """
    with explained(path, "Writing"):
        path.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder: only within a file system is a rename one step.
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            # mkstemp gives files to their owner alone.
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON in one step (see `write_whole`)."""
    write_whole(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path, what: str) -> Any:
    """Read JSON; a `FossilError` names the file and what is wrong with it.

    Parameters
    ----------
    what
        What the file should be, for the message, e.g. "a COCO annotation file".
    """
    with explained(path, "Reading"):
        data = path.read_bytes()
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FossilError(f"{path} cannot be read", expected=what, found=str(error)) from error


def inside(folder: Path, name: str) -> Path:
    """Resolve `name` below `folder`, checked not to lead out of it.

    Raises
    ------
    FossilError
        Where the name is empty, absolute, or leads out of the folder.
    """
    root = folder.resolve()
    # pathlib raises ValueError for a NUL character.
    path = root if "\0" in name else (folder / name).resolve()
    if not name or path == root or not path.is_relative_to(root):
        raise FossilError(f"The name {name!r} leads out of {folder}", expected="a plain name")
    return path


def require_writable(path: Path, *, read_only: bool) -> None:
    """Raise `FossilError` where what lies at `path` was opened for reading only."""
    if read_only:
        raise FossilError(
            f"{path} is open for reading only",
            advice="Copy the project to a place you may write to.",
        )


def require_empty(folder: Path, what: str) -> None:
    """Check that a folder is new or empty.

    Parameters
    ----------
    what
        What is to be written there, e.g. "a model".

    Raises
    ------
    FossilError
        Where `folder` is a file, or a folder that is not empty.
    """
    with explained(folder, "Looking at"):
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise FossilError(
                f"{folder} cannot take {what}", expected="a new or empty folder", found="files"
            )
