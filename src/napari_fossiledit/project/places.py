"""The queue of places that are worth a look, kept beside the masks that they are about.

SQLite itself notes each slice whose masks, reviews or marks change (`database.TRIGGERS`); its
places are found anew before the next one is asked for.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from napari_fossiledit.project.actions import DOUBTS, Action, Actions, has, mark_changed
from napari_fossiledit.project.database import TRIGGERS, Database
from napari_fossiledit.selection import Doubt, Place

Link = tuple[int, int, int, float]


class PlaceTable:
    """The part of the ledger that keeps places."""

    def __init__(self, database: Database, actions: Actions) -> None:
        self._database = database
        self._actions = actions

    def mark(self, slices: Iterable[int]) -> None:
        """Have the places of slices found anew, and forget those of all others."""
        with self._database.writing() as db:
            for table in ("places", "changed"):
                db.execute(f"DELETE FROM {table}")
            db.executemany("INSERT INTO changed VALUES (?)", [(z,) for z in slices])

    def changed(self) -> list[int]:
        """Return the slices whose places have to be found anew."""
        with self._database.reading() as db:
            if not has(db, "changed"):
                return []
            query = "SELECT z FROM changed WHERE typeof(z) = 'integer' ORDER BY z"
            return [z for (z,) in db.execute(query)]

    def store(self, z: int, places: Sequence[Place]) -> None:
        """Write the places of a slice, in one transaction."""
        rows = [(z, str(p.doubt), p.pixels, json.dumps(asdict(p))) for p in places]
        with self._database.writing() as db:
            for table in ("places", "changed"):
                db.execute(f"DELETE FROM {table} WHERE z = ?", (z,))
            db.executemany("INSERT INTO places VALUES (?, ?, ?, ?)", rows)

    def doubt(self, class_name: str, links: Sequence[Link], action: Action) -> None:
        """Write which links of a class should be looked at, in place of earlier ones.

        They are undone with the linking that they are doubts of.

        Parameters
        ----------
        links
            Slice of the later section, ids of the earlier and the later one, pixels at stake.
        """
        with self._actions.noting((), action) as db:
            # A ledger of this version that is older than doubtful links lacks a trigger for them.
            for statement in TRIGGERS:
                db.execute(statement)
            every = self._doubts(db)
            mark_changed(db, {z for z, *_ in [*every.get(class_name, []), *links]})
            row = (DOUBTS, json.dumps(every | {class_name: links}))
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", row)

    def doubts(self) -> dict[int, list[tuple[str, Link]]]:
        """Return the links that should be looked at and their classes, by the later slice."""
        with self._database.reading() as db:
            every = self._doubts(db)
        found: dict[int, list[tuple[str, Link]]] = {}
        for name, links in every.items():
            for link in links:
                found.setdefault(link[0], []).append((name, link))
        return found

    @staticmethod
    def _doubts(db: sqlite3.Connection) -> dict[str, list[Link]]:
        row = db.execute("SELECT value FROM meta WHERE key = ?", (DOUBTS,)).fetchone()
        return {} if row is None else dict(json.loads(row[0]))

    def best(
        self, limit: int, *, skip: int = 0, doubt: str = "", z: int | None = None
    ) -> list[Place]:
        """Return the places with most pixels at stake, best first.

        Parameters
        ----------
        skip
            How many of the best are passed over.
        doubt, z
            Only places of this kind, of this slice.
        """
        query = (
            "SELECT place FROM places WHERE (? = '' OR doubt = ?) AND (? IS NULL OR z = ?) "
            "ORDER BY pixels DESC LIMIT ? OFFSET ?"
        )
        with self._database.reading() as db:
            if not has(db, "places"):
                return []
            rows = db.execute(query, (doubt, doubt, z, z, limit, skip)).fetchall()
        return [_place(json.loads(text)) for (text,) in rows]

    def counts(self) -> dict[Doubt, tuple[int, float]]:
        """Return how many places of each kind there are, and the pixels at stake in them."""
        query = "SELECT doubt, count(*), sum(pixels) FROM places GROUP BY doubt"
        with self._database.reading() as db:
            rows = db.execute(query).fetchall() if has(db, "places") else []
        return {Doubt(doubt): (count, pixels) for doubt, count, pixels in rows}


def _place(values: dict[str, Any]) -> Place:
    """Return a place as `PlaceTable.store` wrote it: JSON has lists alone, and no enumerations."""
    lists = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
    against = tuple((Doubt(doubt), pixels) for doubt, pixels in values["against"])
    return Place(**(lists | {"doubt": Doubt(values["doubt"]), "against": against}))
