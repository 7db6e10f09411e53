"""Fetch a published file: whole or not at all, continued where it was cut."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained, file_digest
from napari_fossiledit.progress import QUIET, Job, Progress

if TYPE_CHECKING:
    from requests import Response

MB = 10**6

_PIECE = 1 << 16
# Seconds to connect, and between two pieces.
_PATIENCE = (10, 30)
# Share by which a size that nobody publishes to the byte may be off.
_TOLERANCE = 0.02
_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+)")
_BY_FILE = "Or fetch the file elsewhere, e.g. in a browser, and give its path."


def download(url: str, path: Path, size: int, digest: str, job: Job = QUIET) -> str:
    """Fetch a file and return its SHA-256; `path` appears only once the file is whole and checked.

    What was received before a cut or a cancel stays beside it (``NAME.part``) and is continued.

    Parameters
    ----------
    size
        About, in bytes; the server says it exactly.
    digest
        Method and first digits that the whole file must have, e.g. ``sha256:bf2d0c1e``.

    Raises
    ------
    FossilError
        Where the server cannot be reached, breaks off or has another file, another process fetches
        the same one, or the disk is full.
    CancelledError
        Where the user asked to stop.
    """
    part = path.with_name(f"{path.name}.part")
    with explained(path, "Writing"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # The lock file stays: removing it could take the lock of a process just opening it.
            with FileLock(f"{path}.lock", timeout=0):
                _receive(url, part, size, job)
                found = _checked(part, url, digest)
                part.replace(path)
        except Timeout:
            raise FossilError(
                f"{path} is being fetched by another process", advice="Wait for it to end."
            ) from None
    return found


def _receive(url: str, part: Path, size: int, job: Job) -> None:
    """Bring `part` to its full length."""
    # Only here: half a program would wait for what most users never need.
    import requests

    had = part.stat().st_size if part.exists() else 0
    # Compressed pieces could be neither counted nor continued. The names of published files carry
    # their checksum, so that a part always belongs to the file of today.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={had}-"} if had else {})
    try:
        with requests.get(url, headers=headers, stream=True, timeout=_PATIENCE) as answer:
            start, total = _span(answer)
            if had and answer.status_code == requests.codes.requested_range_not_satisfiable:
                if had != total:
                    part.unlink()
                    _receive(url, part, size, job)
                return
            if not answer.ok:
                raise FossilError(
                    f"{url} cannot be fetched",
                    expected="the file",
                    found=f"{answer.status_code} {answer.reason}",
                    advice=f"Its maker may have moved it: try later. {_BY_FILE}",
                )
            if start > had:
                # As some proxies do. Between the part and the rest would be a hole.
                if not had:
                    raise _unreachable(url, part, f"an answer that begins at byte {start}")
                part.unlink()
                _receive(url, part, size, job)
                return
            if total is not None:
                _require_size(url, total, size)
            _require_space(part, (total or size) - start)
            done = _append(answer, part, start, total or size, job)
    except requests.RequestException as error:
        raise _unreachable(url, part, str(error)) from error
    # Of a file whose length was not told, the digest says whether it is whole.
    if done < size * (1 - _TOLERANCE) if total is None else done != total:
        raise _unreachable(url, part, f"{done} of {total or f'about {size}'} bytes")


def _span(answer: Response) -> tuple[int, int | None]:
    """Return where the body of an answer begins in the file, and the length of the file if told."""
    match = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if match:
        return int(match[1] or 0), int(match[2])
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _append(answer: Response, part: Path, start: int, total: int, job: Job) -> int:
    """Write the body of an answer behind the first `start` bytes, and return the length."""
    message, began, done = f"Fetching {part.stem} (MB)", time.monotonic(), start
    with part.open("ab") as stream:
        # Anything else begins elsewhere: a server that knows no ranges sends all again.
        if stream.tell() != start:
            stream.truncate(start)
        shown = -1
        for piece in answer.iter_content(_PIECE):
            job.check("The download")
            stream.write(piece)
            done += len(piece)
            if done // MB > shown:
                shown = done // MB
                left = (time.monotonic() - began) / (done - start) * (total - done)
                job.on_progress(Progress(shown, -(-total // MB), message, left))
        stream.flush()
        os.fsync(stream.fileno())
    return done


def _unreachable(url: str, part: Path, found: str) -> FossilError:
    kept = part.stat().st_size if part.exists() else 0
    again = f"Run it again to go on after the {kept / MB:.1f} MB that are kept. " if kept else ""
    return FossilError(
        f"{url} could not be {'fetched to its end' if kept else 'reached'}",
        expected="a connection to the internet",
        found=found,
        advice=f"{again or 'Connect this computer and run it again. '}{_BY_FILE}",
    )


def _require_size(url: str, total: int, size: int) -> None:
    if abs(total - size) > size * _TOLERANCE:
        raise FossilError(
            f"{url} is not the file that was published",
            expected=f"about {size} bytes",
            found=f"{total} bytes",
            advice=f"A network that asks for a login answers so. {_BY_FILE}",
        )


def _require_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise FossilError(
            f"The disk of {part.parent} is too full",
            expected=f"{needed / MB:.0f} MB",
            found=f"{free / MB:.0f} MB free",
            advice="Free some space and run it again.",
        )


def _checked(part: Path, url: str, digest: str) -> str:
    """Return the SHA-256 of a file; remove it where it is not the published one."""
    method, _, first = digest.partition(":")
    found, sha256 = file_digest(part, method), file_digest(part, "sha256")
    if found.startswith(first):
        return sha256
    part.unlink()
    raise FossilError(
        f"What {url} sent is not the file that was published",
        expected=f"{method} {first}...",
        found=found,
        advice=f"It was removed: run it again. {_BY_FILE}",
    )
