"""The edits of a project, ``edits/NAME/``: weights to add, and the record of each.

Bytes in, bytes out: nothing here knows what a network is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import (
    appearing,
    explained,
    inside,
    plain_name,
    require_writable,
    write_json,
    write_whole,
)
from napari_fossiledit.project.edit_record import (
    EditRecord,
    EditState,
    read_record,
    validated,
)

DELTA_FILE, RECORD_FILE = "delta.safetensors", "edit.json"
LONGEST_CHAIN = 100
"""Most edits on top of each other; parents that go in a circle end here."""

__all__ = ["DELTA_FILE", "LONGEST_CHAIN", "RECORD_FILE", "EditRecord", "EditState", "EditStore"]


class EditStore:
    """Edits on disk.

    The weights of an edit never change once they are saved, and an edit appears as a whole or not
    at all: its folder is written under a hidden name and renamed in one step, which also settles
    who is first where two processes save the same name.

    Parameters
    ----------
    project
        The project folder.
    read_only
        Refuse changes.
    """

    def __init__(self, project: Path, *, read_only: bool = False) -> None:
        self.project, self.read_only = project, read_only

    @property
    def folder(self) -> Path:
        """Where the edits are; not there before the first one.

        Raises
        ------
        FossilError
            Where it is a link that leads out of the project.
        """
        inside(self.project, "edits")
        return self.project / "edits"

    def place(self, name: str) -> Path:
        """Return the folder of an edit, whether it is there or not.

        Raises
        ------
        FossilError
            Where the name is no plain name, or the folder a link that leads elsewhere.
        """
        return inside(self.folder, plain_name(name, "an edit"))

    # --------------------------------------------------------------- reading

    def names(self) -> list[str]:
        """Return the names of the edits, damaged ones too."""
        files = self.folder.glob(f"*/{RECORD_FILE}")
        return sorted(f.parent.name for f in files if not f.parent.name.startswith("."))

    def read(self, name: str) -> EditRecord:
        """Read the record of an edit.

        Raises
        ------
        FossilError
            Where there is no such edit, or its record is damaged.
        """
        file = self.place(name) / RECORD_FILE
        if not file.is_file():
            raise FossilError(
                f"There is no edit {name!r} in {self.project}",
                expected=f"one of {', '.join(self.names())}" if self.names() else "an edit",
                advice="" if self.names() else "Make one first.",
            )
        return read_record(file)

    def delta(self, name: str) -> bytes:
        """Read the weights of an edit.

        Raises
        ------
        FossilError
            Where they are missing, or not the ones that were saved.
        """
        file, record = self.place(name) / DELTA_FILE, self.read(name)
        with explained(file, "Reading"):
            data = file.read_bytes()
        if _digest(data) != record.delta_hash:
            raise FossilError(
                f"{file} is truncated or was changed",
                expected=f"the weights with SHA-256 {record.delta_hash[:12] or 'that was noted'}",
                found=f"{len(data)} bytes with {_digest(data)[:12]}",
                advice="Take another copy of it, or make the edit again.",
            )
        return data

    def children(self, name: str) -> list[str]:
        """Return the names of the edits made on top of a model or edit, but for damaged ones."""
        return [r.name for r in self.sound() if r.parent == name]

    def sound(self) -> Iterator[EditRecord]:
        """Read all records but the damaged ones."""
        for name in self.names():
            record = self.look(name)
            if isinstance(record, EditRecord):
                yield record

    def look(self, name: str) -> EditRecord | FossilError:
        """Read a record, or return what is wrong with it."""
        try:
            return self.read(name)
        except FossilError as error:
            return error

    def descendants(self, name: str) -> list[str]:
        """Return the names of the edits on top of an edit, and of those on top of them."""
        records, below, new = list(self.sound()), list[str](), [name]
        while new:
            parents, new = new, []
            for record in records:
                if record.parent in parents and record.name not in (*below, name):
                    below.append(record.name)
                    new.append(record.name)
        return below

    def lineage(self, name: str) -> tuple[EditRecord, ...]:
        """Read the records from the edit next to the model at the root up to the edit `name`.

        Raises
        ------
        FossilError
            Where one is damaged, or the parents go in a circle.
        """
        records = [self.read(name)]
        while records[-1].parent in self.names():
            parent = records[-1].parent
            if parent in {r.name for r in records} or len(records) >= LONGEST_CHAIN:
                raise FossilError(
                    f"The parents of the edit {name!r} never end",
                    expected="a model at the root",
                    found=" <- ".join([*(r.name for r in records[:5]), parent]),
                    advice=f"{RECORD_FILE} of one of them was changed: take another copy of it.",
                )
            records.append(self.read(parent))
        return tuple(reversed(records))

    # --------------------------------------------------------------- writing

    def save(self, record: EditRecord, delta: bytes) -> EditRecord:
        """Save a new edit and return its record as it was saved.

        Raises
        ------
        FossilError
            Where a model or an edit has the name already, or the disk is full; nothing is then
            left behind.
        """
        require_writable(self.project, read_only=self.read_only)
        self.require_free(record.name)
        whole = record.model_copy(update={"delta_hash": _digest(delta)})
        final = self.place(record.name)
        with explained(final, "Saving"):
            try:
                with appearing(final) as written:
                    write_whole(written / DELTA_FILE, delta)
                    write_json(written / RECORD_FILE, whole.model_dump(mode="json"))
            except FossilError:
                # The file system refuses where another process was first.
                self.require_free(record.name)
                raise
        return whole

    def update(self, name: str, **changes: Any) -> EditRecord:
        """Change fields of a record, such as ``state``, and write it whole.

        Raises
        ------
        FossilError
            Where a value cannot be used or the file cannot be written; the old record then stays.
        """
        require_writable(self.project, read_only=self.read_only)
        file = self.place(name) / RECORD_FILE
        record = validated(file, self.read(name).model_dump() | changes)
        write_json(file, record.model_dump(mode="json"))
        return record

    def require_free(self, name: str) -> None:
        """Check that no model and no edit of the project has a name.

        Raises
        ------
        FossilError
            Where the name is taken, or is no plain name.
        """
        model = self.project / "models" / plain_name(name, "an edit")
        for what, place in (("a model", model), ("an edit", self.folder / name)):
            if place.exists():
                raise FossilError(
                    f"The project has {what} {name!r} already",
                    expected="a new name",
                    found=str(place),
                    advice="Choose another name; the old one stays as it is.",
                )


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
