"""Writing files so that a crash, a full disk or a killed process harms nothing."""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import chain, count
from pathlib import Path
from typing import IO, Any

import psutil

from napari_fossiledit.errors import FossilError

# Temporary files and folders carry the process that writes them: .NAME.HOST-PID-START.RANDOM.part
_TEMPORARY = re.compile(r"\..+\.([0-9a-f]{8}-\d+-\d+)\.[^.]+\.part")
# The clock that start times are taken from may be set while a process runs.
_CLOCK_S = 60
_LONGEST_NAME = 64
PLAIN_NAME = (
    f'a name of 1 to {_LONGEST_NAME} characters without / \\ : * ? " < > |, not beginning with a'
    " dot or one of = + - @ and not ending with a dot"
)
_NOT_PLAIN = frozenset('/\\:*?"<>|')
# Spreadsheets take a cell that begins so for a formula, and programs a name with - for an option.
_FORMULA = "=+-@"
# Windows gives these to devices, whatever their suffix.
_DEVICES = {"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10))}
_ADVICE = {
    errno.ENAMETOOLONG: "Choose a shorter name.",
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
        raise os_error(error, f"{doing} {path} failed") from error


def os_error(error: OSError, what: str) -> FossilError:
    """Return an error that says in words what the operating system refused, and a remedy."""
    advice = _ADVICE.get(error.errno or 0, "Nothing saved before was changed.")
    return FossilError(f"{what}: {error.strerror or error}", advice=advice)


def write_whole(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one step: a temporary file, fsync, rename.

    Raises
    ------
    FossilError
        Where the file cannot be written; the old content is then untouched.
    """
    with replacing(path) as stream:
        stream.write(data)


def write_all(contents: Mapping[Path, bytes]) -> None:
    """Replace several files, all of them or none: no file takes its place before all are on disk.

    Raises
    ------
    FossilError
        Where one cannot be written; the old content of all is then untouched.
    """
    with ExitStack() as stack:
        for path, data in contents.items():
            if path.is_dir():
                raise FossilError(f"{path} cannot be written", expected="a file", found="a folder")
            stream = stack.enter_context(replacing(path))
            stream.write(data)
            # What is still in memory would meet a full disk while others are renamed.
            stream.flush()
            os.fsync(stream.fileno())


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
        remove_leftovers(path.parent)
        # In the same folder: only within a file system is a rename one step.
        handle, name = tempfile.mkstemp(".part", _temporary_prefix(path), path.parent)
        # By its name: tifffile asks a stream for it.
        os.close(handle)
        temporary = Path(name)
        try:
            with temporary.open("wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            # mkstemp gives files to their owner alone.
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder to write into; it becomes `folder` at the end, or disappears.

    Raises
    ------
    FossilError
        Where it cannot be written, or `folder` is there by then and not empty.
    """
    with explained(folder, "Making"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder.parent)
        hidden = Path(tempfile.mkdtemp(".part", _temporary_prefix(folder), folder.parent))
    try:
        # mkdtemp gives folders to their owner alone.
        hidden.chmod(0o755)
        # Also what libraries write, which know nothing of words.
        with explained(folder, "Writing"):
            yield hidden
            if os.name == "nt" and folder.is_dir():
                folder.rmdir()
            hidden.rename(folder)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files and folders of processes that have ended without doing so."""
    try:
        left = [entry for entry in os.scandir(folder) if entry.name.endswith(".part")]
    except OSError:
        return
    for entry in left:
        match = _TEMPORARY.fullmatch(entry.name)
        if match is None or is_alive(match[1]):
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            Path(entry.path).unlink(missing_ok=True)


def _temporary_prefix(path: Path) -> str:
    """Return how the temporary name of a file or folder begins."""
    # The name is a help for people alone, and must not grow beyond what a file system takes.
    return f".{path.name[:40]}.{this_process()}."


def this_process() -> str:
    """Return the identity of this process: host, number, and when it started."""
    return _identity(os.getpid())


@functools.cache
def _identity(pid: int) -> str:
    host = zlib.crc32(platform.node().encode())
    return f"{host:08x}-{pid}-{int(psutil.Process(pid).create_time())}"


def is_alive(identity: str) -> bool:
    """Return False where the process of an identity has ended.

    True where it ran on another host, of which nothing is known.
    """
    host, pid, start = identity.split("-")
    if host != this_process().split("-", maxsplit=1)[0]:
        return True
    try:
        since = float(psutil.Process(int(pid)).create_time())
        return abs(since - int(start)) <= _CLOCK_S
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON in one step (see `write_whole`)."""
    write_whole(path, encode_json(value))


def encode_json(value: Any) -> bytes:
    """Return `value` as the content of a file of indented JSON."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    # File names need not be Unicode; what no encoding has is kept as an escape.
    ascii_alone = any("\ud800" <= character <= "\udfff" for character in text)
    text = json.dumps(value, indent=2) if ascii_alone else text
    return (text + "\n").encode()


def read_json(path: Path, what: str, advice: str = "") -> Any:
    """Read JSON; a `FossilError` names the file and what is wrong with it.

    Parameters
    ----------
    what
        What the file should be, for the message, e.g. "a COCO annotation file".
    advice
        What to do where it is damaged.
    """
    with explained(path, "Reading"):
        data = path.read_bytes()
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FossilError(
            f"{path} cannot be read", expected=what, found=str(error), advice=advice
        ) from error


def file_digest(path: Path, method: str) -> str:
    """Return the digest of a file as hexadecimal digits."""
    with explained(path, "Reading"), path.open("rb") as stream:
        # Against damage, not against forgery.
        made = hashlib.file_digest(stream, lambda: hashlib.new(method, usedforsecurity=False))
    return made.hexdigest()


def is_plain(name: str) -> bool:
    """Return True for a name that files on every system, predictions and tables can have."""
    sound = name.isprintable() and not set(name) & _NOT_PLAIN
    fits = 0 < len(name) <= _LONGEST_NAME and name == name.strip(" .").lstrip(_FORMULA)
    return sound and fits and name.split(".", maxsplit=1)[0].lower() not in _DEVICES


def made_plain(names: Collection[str]) -> dict[str, str]:
    """Return foreign names with plain ones for them, all different.

    Plain names stay; else ``_`` takes the place of what may not be there.
    """
    plain = {name: name for name in names if is_plain(name)}
    for name in names:
        kept = "".join(c if c.isprintable() and c not in _NOT_PLAIN else "_" for c in name)
        # An underscore in front makes any name plain.
        kept = kept.strip(" .").lstrip(_FORMULA + " .")[: _LONGEST_NAME - 4].rstrip(" .")
        kept = kept if is_plain(kept) else f"_{kept}"
        choices = chain([kept], (f"{kept}_{n}" for n in count(2)))
        if name not in plain:
            plain[name] = next(c for c in choices if c not in plain.values())
    return plain


def plain_name(name: str, what: str) -> str:
    """Return `name`, checked to be a plain one.

    Parameters
    ----------
    what
        What is to have it, e.g. "a model".

    Raises
    ------
    FossilError
        Where no file can have that name on every system.
    """
    if not is_plain(name):
        found = repr(name) if len(name) <= _LONGEST_NAME else f"{len(name)} characters"
        raise FossilError(f"The name of {what} cannot be used", expected=PLAIN_NAME, found=found)
    return name


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
        remove_leftovers(folder)
        names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else ["a file"]
        if names and folder.exists():
            raise FossilError(
                f"{folder} cannot take {what}",
                expected="a new or empty folder",
                found=", ".join(names[:3]) + (", ..." if len(names) > 3 else ""),
                advice="Choose another folder; nothing was changed.",
            )
