"""Folders of reports: whole, or not there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_fossiledit.files import appearing, explained

REPORT, OVERLAYS = "index.html", "overlays"


@contextmanager
def drafted(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder to write a report to; at the end it takes the place of `folder`.

    It has a folder for overlays. Where something fails, nothing of it is left, and an older report
    in `folder` stays.

    Raises
    ------
    FossilError
        Where the folder cannot be written.
    """
    with appearing(folder) as draft:
        with explained(draft, "Making"):
            (draft / OVERLAYS).mkdir()
        yield draft
        shutil.rmtree(folder, ignore_errors=True)
