"""What the photographs behind the slices are, and which results were made from others.

A photograph can be replaced under its name. For each slice the ledger keeps the stamp of its files
(size and time) and a hash of its pixels, and for the results of each source the hash of what they
were made from. Only where the stamp is another one, pixels are read and compared; they, not the
file, are hashed, so that a copy in another format, or with other metadata, is the same photograph.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.project.database import Database
from napari_fossiledit.stacks import SectionStack
from napari_fossiledit.stacks.pixels import Pixels, content_hash

STACK, ORIGINAL = "", "original"
"""Places of photographs: what the project reads, and what its converted copy was made from."""

#: Begins what stands for a content that nobody has read yet.
_UNREAD = "unread "


@dataclass(frozen=True)
class Known:
    """What is known of the photograph of a slice.

    Attributes
    ----------
    stamp
        Size and time of its files when it was looked at.
    content
        Hash of its pixels; where it was not read yet, a word for what has this stamp.
    """

    stamp: str
    content: str

    @property
    def is_read(self) -> bool:
        """Return True where the pixels are known."""
        return not self.content.startswith(_UNREAD)


class ContentTable:
    """The part of the ledger that keeps photographs and what was made from them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def known(self, place: str) -> dict[int, Known]:
        """Return what is known of each slice."""
        rows = self._rows(
            "contents", "SELECT z, stamp, content FROM contents WHERE place = ?", place
        )
        return {z: Known(stamp, content) for z, stamp, content in rows}

    def note(self, place: str, found: Mapping[int, Known]) -> None:
        """Write what is known of slices, in one transaction.

        What was made from a photograph that had not been read is made from what it turns out to
        be. Results that are older than this table are taken to be made from what is there now.
        """
        with self._database.writing() as db:
            for z, new in found.items():
                query = "SELECT stamp, content FROM contents WHERE place = ? AND z = ?"
                there = db.execute(query, (place, z)).fetchone()
                old = None if there is None else Known(*there)
                row = (place, z, new.stamp, new.content)
                db.execute("INSERT OR REPLACE INTO contents VALUES (?, ?, ?, ?)", row)
                if old is None and place == STACK:
                    query = (
                        "INSERT OR IGNORE INTO made_from SELECT source, z, ? FROM done WHERE z = ?"
                    )
                    db.execute(query, (new.content, z))
                elif old is not None and old.stamp == new.stamp and not old.is_read:
                    query = "UPDATE made_from SET content = ? WHERE z = ? AND content = ?"
                    db.execute(query, (new.content, z, old.content))

    def made_from(self, result: str) -> dict[int, str]:
        """Return what the slices of a result, a source or a copy, were made from."""
        query = "SELECT z, content FROM made_from WHERE source = ?"
        return dict(self._rows("made_from", query, result))

    def set_made_from(self, result: str, contents: Mapping[int, str]) -> None:
        """Write what slices of a result were made from."""
        rows = [(result, z, content) for z, content in contents.items()]
        with self._database.writing() as db:
            db.executemany("INSERT OR REPLACE INTO made_from VALUES (?, ?, ?)", rows)

    def _rows(self, table: str, query: str, value: str) -> list[tuple[Any, ...]]:
        with self._database.reading() as db:
            # A ledger of an earlier version that is open for reading has no such tables.
            there = db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone()
            return db.execute(query, (value,)).fetchall() if there else []


def note_made(db: sqlite3.Connection, source: str, z: int, *, anew: bool, copied: str = "") -> None:
    """Write, in the transaction that stores it, what a slice of a source is made from.

    Parameters
    ----------
    anew
        Whether all of it is made, or confirmed, now; else what was noted before stays.
    copied
        Source that it is copied from, of the photograph that this was made from; empty: of the one
        that is there now.
    """
    how = "REPLACE" if anew else "IGNORE"
    table, column = ("made_from", "source") if copied else ("contents", "place")
    known = f"SELECT ?, z, content FROM {table} WHERE {column} = ? AND z = ?"
    db.execute(f"INSERT OR {how} INTO made_from {known}", (source, copied or STACK, z))


def restore_made(db: sqlite3.Connection, source: str, z: int | None, content: str | None) -> None:
    """Write what a slice of a source was made from, as it was noted once; None: nothing was."""
    db.execute("DELETE FROM made_from WHERE source = ? AND z = ?", (source, z))
    if content is not None:
        # It may have been read since then.
        known = "SELECT content FROM contents WHERE place = ? AND z = ? AND stamp = ?"
        query = f"INSERT INTO made_from VALUES (?, ?, ifnull(({known}), ?))"
        stamp = content.removeprefix(_UNREAD) if content.startswith(_UNREAD) else ""
        db.execute(query, (source, z, STACK, z, stamp, content))


class Contents:
    """The photographs at one place, as they are now.

    Parameters
    ----------
    table
        Where what is found is kept; a read-only project forgets it.
    stack
        The photographs as they were taken.
    shown
        The same as `read` returns them: placed over each other.
    """

    def __init__(
        self,
        table: ContentTable,
        stack: SectionStack,
        *,
        read_only: bool,
        place: str = STACK,
        shown: SectionStack | None = None,
    ) -> None:
        self._table, self._stack, self._place = table, stack, place
        self._shown = stack if shown is None else shown
        self._read_only = read_only
        self._known = table.known(place)

    def check(
        self,
        slices: Iterable[int] | None = None,
        *,
        seconds: float = math.inf,
        read_new: bool = False,
    ) -> list[int]:
        """Look which photographs are others than before.

        Parameters
        ----------
        slices
            None: all.
        seconds
            How long pixels may be read and compared.
        read_new
            Whether also photographs that were never read are read.

        Returns
        -------
        list of int
            Slices with files of another size or time for which that was too short.
        """
        until, left = time.monotonic() + seconds, list[int]()
        found: dict[int, Known] = {}
        chosen = range(len(self._stack)) if slices is None else sorted(set(slices))
        stamps = {z: self._stack.stamp(z) for z in chosen}
        try:
            for z in sorted(filter(stamps.get, stamps), key=lambda z: z not in self._known):
                old, stamp = self._known.get(z), stamps[z]
                if old is not None and old.stamp == stamp and (old.is_read or not read_new):
                    continue
                if (old is not None or read_new) and time.monotonic() < until:
                    found[z] = Known(stamp, self._content(z, old))
                elif old is None:
                    found[z] = Known(stamp, f"{_UNREAD}{stamp}")
                elif old.stamp != stamp:
                    left.append(z)
        finally:
            self._note(found)
        return sorted(left)

    def read(self, z: int, *, placed: bool = True) -> Pixels:
        """Read slice `z` where it lies, or as it was taken, and note what it is."""
        stamp, old = self._stack.stamp(z), self._known.get(z)
        if stamp and not (old is not None and old.stamp == stamp and old.is_read):
            if old is not None and old.stamp != stamp:
                self._shown.close()
            self.seen(z, stamp, content_hash(self._stack.read(z)))
        return (self._shown if placed else self._stack).read(z)

    def seen(self, z: int, stamp: str, content: str) -> None:
        """Note what slice `z` is, where somebody else has read it."""
        if self._known.get(z) != Known(stamp, content):
            self._note({z: Known(stamp, content)})

    def of(self, z: int) -> str:
        """Return what slice `z` was when it was looked at last; empty where it never was."""
        known = self._known.get(z)
        return "" if known is None else known.content

    def stale(self, result: str) -> list[int]:
        """Return the slices of a result that were made from other photographs, see `check`."""
        made = self._table.made_from(result)
        return sorted(z for z, content in made.items() if self.of(z) not in ("", content))

    @property
    def stack(self) -> SectionStack:
        """The photographs."""
        return self._stack

    @property
    def path(self) -> Path:
        """Where they are."""
        return self._stack.path

    @property
    def known(self) -> Mapping[int, Known]:
        """Return what is known of each slice."""
        return self._known

    def take_over(self, other: Contents) -> None:
        """Note that here lie the very same pixels as at another place."""
        self._note({z: Known(self._stack.stamp(z), k.content) for z, k in other.known.items()})

    def close(self) -> None:
        """Close the files of the photographs."""
        self._shown.close()

    def _content(self, z: int, old: Known | None) -> str:
        if old is not None:
            self._shown.close()
        try:
            return content_hash(self._stack.read(z))
        except FossilError:
            return "cannot be read"

    def _note(self, found: Mapping[int, Known]) -> None:
        self._known |= found
        if found and not self._read_only:
            self._table.note(self._place, found)
