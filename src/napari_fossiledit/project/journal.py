"""Labels that bulk changes overwrote, kept so that the changes can be taken back."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.project.database import Database, now

# Changes that can be taken back; older ones are forgotten, which bounds the ledger.
KEPT_CHANGES = 20
_COMPRESSION = 1

Labels = NDArray[np.uint32]


@dataclass(frozen=True)
class Overwritten:
    """The changed box of one slice.

    Attributes
    ----------
    z
        The slice.
    origin
        First row and column (y, x) of the box.
    before, after
        Labels (y, x) of the box before and after the change.
    """

    z: int
    origin: tuple[int, int]
    before: Labels
    after: Labels

    @property
    def box(self) -> tuple[slice, slice]:
        """Index of the box in the slice."""
        (y, x), (height, width) = self.origin, self.before.shape
        return slice(y, y + height), slice(x, x + width)

    @classmethod
    def of_slices(cls, z: int, before: Labels, after: Labels) -> Overwritten | None:
        """Compare two states (y, x) of a slice; None where they are equal."""
        rows, columns = np.nonzero(before != after)
        if not rows.size:
            return None
        y, x = int(rows.min()), int(columns.min())
        box = (slice(y, int(rows.max()) + 1), slice(x, int(columns.max()) + 1))
        return cls(z, (y, x), before[box].copy(), after[box].copy())

    def taken_back(self, current: Labels) -> Labels:
        """Box of the slice as it was before the change; what was painted since then stays."""
        ours = (current == self.after) & (self.before != self.after)
        return np.where(ours, self.before, current)


class Journal:
    """Bulk changes in the order they were made."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, what: str) -> int:
        """Start a change of any number of slices, and return its number."""
        with self._database.writing() as db:
            cursor = db.execute("INSERT INTO changes (what, made) VALUES (?, ?)", (what, now()))
            change = int(cursor.lastrowid or 0)
            db.execute(
                "DELETE FROM changes WHERE id NOT IN "
                "(SELECT id FROM changes ORDER BY id DESC LIMIT ?)",
                (KEPT_CHANGES,),
            )
        return change

    def note(self, change: int, item: Overwritten) -> None:
        """Store what a change is about to overwrite; call it before the voxels change."""
        states = np.stack([item.before, item.after]).astype("<u4").tobytes()
        values = (change, item.z, *item.origin, *item.before.shape)
        query = (
            "INSERT INTO overwritten (change, z, y0, x0, height, width, states) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)"
        )
        with self._database.writing() as db:
            db.execute(query, (*values, zlib.compress(states, _COMPRESSION)))

    def last(self) -> int | None:
        """Find the newest change that overwrote anything, None where there is none."""
        with self._database.reading() as db:
            (change,) = db.execute("SELECT max(change) FROM overwritten").fetchone()
        return None if change is None else int(change)

    def rows(self, change: int) -> list[int]:
        """Numbers of what a change overwrote, newest first; `load` reads one of them."""
        query = "SELECT id FROM overwritten WHERE change = ? ORDER BY id DESC"
        with self._database.reading() as db:
            return [row for (row,) in db.execute(query, (change,))]

    def load(self, row: int) -> Overwritten:
        """Read what was overwritten in one slice."""
        query = "SELECT z, y0, x0, height, width, states FROM overwritten WHERE id = ?"
        with self._database.reading() as db:
            z, y, x, height, width, states = db.execute(query, (row,)).fetchone()
        try:
            values = np.frombuffer(zlib.decompress(states), dtype="<u4").astype(np.uint32)
            before, after = values.reshape(2, height, width)
        except (ValueError, zlib.error) as error:
            raise FossilError(
                f"{self._database.path} holds a damaged journal of the labels", found=str(error)
            ) from error
        return Overwritten(z, (y, x), before, after)

    def forget(self, change: int) -> None:
        """Drop a change that was taken back."""
        with self._database.writing() as db:
            db.execute("DELETE FROM changes WHERE id = ?", (change,))
