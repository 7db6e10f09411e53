"""A list, in a folder of the user's, of the files that were written there.

A later run removes those of them that are no longer true, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Final

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained, read_json, write_json
from napari_fossiledit.stacks.listing import enumerated

LIST: Final = "fossiledit-files.json"
_KIND: Final = "files that fossiledit wrote into this folder"


@dataclass(frozen=True)
class Cleared:
    """What became of the files of an earlier run.

    Attributes
    ----------
    removed
        Names of the files that were removed.
    warnings
        Which files were left, and why.
    """

    removed: tuple[str, ...]
    warnings: tuple[str, ...]


class WrittenFiles:
    """The files that runs have written into a folder, with the project that they are of.

    Parameters
    ----------
    folder
        The folder.
    project
        The project that files are now written of.
    """

    def __init__(self, folder: Path, project: Path) -> None:
        self._folder, self._project = folder, str(project.resolve())
        self._problem = ""
        self._before = self._read()

    def announce(self, names: list[str]) -> None:
        """Note files that are about to be written, so that those of a killed run are known too."""
        there = {n: self._before.get(n, {}) | {"project": self._project} for n in names}
        self._write(self._before | there)

    def clear(self, names: list[str], replaced: Callable[[str], bool]) -> Cleared:
        """Remove files of earlier runs of this project that are not among the new ones.

        Parameters
        ----------
        names
            Files that were written now.
        replaced
            Whether the new files take the place of a file of that name.
        """
        old = {n: e for n, e in self._before.items() if n not in names}
        old = {n: e for n, e in old.items() if (self._folder / n).is_file()}
        ours = {n: e for n, e in old.items() if e.get("project") == self._project}
        outdated = {n: e for n, e in ours.items() if replaced(n)}
        # Of a run that was broken off the state is not known.
        changed = [n for n, e in outdated.items() if e.get("state") not in (None, self._state(n))]
        removed = sorted(outdated.keys() - {*changed})
        for name in removed:
            with explained(self._folder / name, "Removing"):
                (self._folder / name).unlink()
        entries = {n: {"project": self._project, "state": self._state(n)} for n in names}
        self._write({n: e for n, e in old.items() if n not in removed} | entries)
        left = {
            "changed since": changed,
            "of another format": [n for n in ours if n not in outdated],
            "of another project": [n for n in old if n not in ours],
        }
        said = f"{self._folder} still holds files of an earlier run"
        warnings = [
            f"{said}, {why}: {enumerated(sorted(those))}." for why, those in left.items() if those
        ]
        return Cleared(tuple(removed), (*filter(None, [self._problem]), *warnings))

    def _state(self, name: str) -> list[int]:
        with explained(self._folder / name, "Looking at"):
            found = (self._folder / name).stat()
        return [found.st_size, found.st_mtime_ns]

    def _read(self) -> dict[str, dict[str, Any]]:
        path = self._folder / LIST
        if not path.exists():
            return {}
        try:
            content = read_json(path, _KIND)
        except FossilError:
            content = None
        files = content.get("files") if isinstance(content, dict) else None
        if not isinstance(files, dict):
            self._problem = f"{path} cannot be read: files of earlier runs were left."
            return {}
        # The list is a file like any other: nothing outside of the folder is touched by it.
        return {n: e for n, e in files.items() if PurePath(n).name == n and isinstance(e, dict)}

    def _write(self, files: Mapping[str, Mapping[str, Any]]) -> None:
        path = self._folder / LIST
        if files:
            write_json(path, {"kind": _KIND, "files": files})
        else:
            with explained(path, "Removing"):
                path.unlink(missing_ok=True)
