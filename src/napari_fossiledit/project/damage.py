"""Rows of a ledger that cannot be read: found, restored from the journal, or cleared."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from napari_fossiledit.project.actions import AREA_COLUMNS, unpacked
from napari_fossiledit.project.ledger import WITH_PROBABILITY, Ledger
from napari_fossiledit.project.runs import DamagedError
from napari_fossiledit.project.source import ANNOTATIONS, Source
from napari_fossiledit.summary import Summary

RESTORED, CLEARED, LEFT = "restored", "cleared", "left"


@dataclass(frozen=True)
class Damage(Summary):
    """A row that cannot be read.

    Attributes
    ----------
    what
        Instance, traced area, action, fact, run, or the file itself.
    where
        Source and number, key or kind.
    slice
        None where it concerns none.
    problem
        What is wrong.
    outcome
        Restored from the journal, cleared, or left as it is.
    """

    what: str
    where: str
    slice: int | None
    problem: str
    outcome: str = LEFT


def repair_ledger(ledger: Ledger, *, clear: bool) -> list[Damage]:
    """Find damaged rows, restore those that the journal holds, and clear the others where asked.

    Clearing an annotation takes the mark from its slice that it is traced, and forgets the actions
    up to the last one on that slice; clearing a prediction
    forgets its slice, so that it is predicted anew. Clearing an action also forgets those before
    it, which could be undone only after it.
    """
    with ledger.transaction() as db:
        return [
            *_index(db),
            *_instances(ledger, db, clear),
            *_traced(ledger, db, clear),
            *_actions(db, clear),
            *_texts(db, "fact", "meta", ("key", "value"), clear),
            *_texts(db, "run", "runs", ("id", "params", "summary"), clear),
        ]


def _index(db: sqlite3.Connection) -> Iterator[Damage]:
    """Look whether SQLite itself finds the file in order; indices can be made anew."""
    problems = _integrity(db)
    if problems != ["ok"]:
        db.execute("REINDEX")
        outcome = RESTORED if _integrity(db) == ["ok"] else LEFT
        yield Damage("file", "ledger.sqlite", None, "; ".join(problems[:3]), outcome)


def _integrity(db: sqlite3.Connection) -> list[str]:
    return [str(line) for (line,) in db.execute("PRAGMA integrity_check(20)")]


def _instances(ledger: Ledger, db: sqlite3.Connection, clear: bool) -> Iterator[Damage]:
    rows = db.execute(f"SELECT {WITH_PROBABILITY} FROM instances ORDER BY source, z, id").fetchall()
    for row in rows:
        id_, source, z = row[:3]
        if problem := _problem(ledger, row):
            outcome = LEFT
            if source == ANNOTATIONS and _restored(ledger, db, id_):
                outcome = RESTORED
            elif clear:
                _clear(db, id_, source, z)
                outcome = CLEARED
            where = f"{source}, number {id_}"
            yield Damage("instance", where, z if isinstance(z, int) else None, problem, outcome)


def _problem(ledger: Ledger, row: tuple[Any, ...]) -> str:
    """Return what is wrong with the row of an instance, empty where nothing is."""
    try:
        ledger.instance(row)
    except DamagedError as error:
        return error.found or str(error)
    return ""


def _restored(ledger: Ledger, db: sqlite3.Connection, id_: int) -> bool:
    """Write what the journal says of an instance; False where that does not mend it."""
    known: dict[str, Any] = {}
    for after in _present(db, None):
        known |= after["rows"].get(id_, {})
    if not known:
        return False
    columns = ", ".join(f"{column} = ?" for column in known)
    db.execute(
        f"UPDATE instances SET {columns}, probability = NULL WHERE id = ?", (*known.values(), id_)
    )
    row = db.execute(f"SELECT {WITH_PROBABILITY} FROM instances WHERE id = ?", (id_,)).fetchone()
    return not _problem(ledger, row)


def _present(db: sqlite3.Connection, z: int | None) -> Iterator[dict[str, Any]]:
    """Read what actions left behind, oldest first, those that are undone not; None: all slices."""
    query = (
        "SELECT after FROM action_slices s JOIN actions a ON a.id = s.action "
        "WHERE NOT undone AND z IS NOT NULL AND z = ifnull(?, z) ORDER BY s.id"
    )
    for (blob,) in db.execute(query, (z,)).fetchall():
        try:
            yield unpacked(blob)
        except (ValueError, KeyError, TypeError, AttributeError, zlib.error):
            continue


def _clear(db: sqlite3.Connection, id_: int, source: str, z: Any) -> None:
    if Source.parse(source).model:
        for table in ("instances", "done"):
            db.execute(f"DELETE FROM {table} WHERE source = ? AND z = ?", (source, z))
    db.execute("DELETE FROM instances WHERE id = ?", (id_,))
    if source == ANNOTATIONS:
        db.execute("DELETE FROM traced WHERE z = ?", (z,))
        # They could not be undone any more, and would keep those before them from being undone.
        last = "SELECT ifnull(max(action), 0) FROM action_slices WHERE z = ?"
        db.execute(f"DELETE FROM actions WHERE id <= ({last})", (z,))


def _traced(ledger: Ledger, db: sqlite3.Connection, clear: bool) -> Iterator[Damage]:
    for z, *code in db.execute(f"SELECT z, {AREA_COLUMNS} FROM traced").fetchall():
        try:
            ledger.area(z, *code)
        except DamagedError as error:
            states = [after["traced"] for after in _present(db, z) if "traced" in after]
            outcome = LEFT
            if states and states[-1] is not None and _is_area(ledger, z, states[-1]):
                query = (
                    "UPDATE traced SET height = ?, width = ?, counts = ?, placed = ? WHERE z = ?"
                )
                db.execute(query, (*states[-1], z))
                outcome = RESTORED
            elif clear:
                db.execute("DELETE FROM traced WHERE z = ?", (z,))
                outcome = CLEARED
            yield Damage("traced area", ANNOTATIONS, z, error.found or str(error), outcome)


def _is_area(ledger: Ledger, z: int, code: list[Any]) -> bool:
    try:
        ledger.area(z, *code)
    except DamagedError:
        return False
    return True


def _actions(db: sqlite3.Connection, clear: bool) -> Iterator[Damage]:
    query = (
        "SELECT a.id, what, z, before, after FROM action_slices s JOIN actions a ON a.id = s.action"
    )
    found = set[int]()
    for number, what, z, *blobs in db.execute(query).fetchall():
        try:
            for blob in blobs:
                unpacked(blob)
        except (ValueError, KeyError, TypeError, AttributeError, zlib.error) as error:
            found.add(number)
            outcome = CLEARED if clear else LEFT
            yield Damage("action", f"{what}, number {number}", z, str(error), outcome)
    query = (
        "SELECT id, what FROM actions WHERE size <> (SELECT ifnull(sum(length(before) + "
        "length(after)), 0) FROM action_slices WHERE action = actions.id)"
    )
    for number, what in db.execute(query).fetchall():
        if number not in found:
            found.add(number)
            outcome = CLEARED if clear else LEFT
            yield Damage("action", f"{what}, number {number}", None, "a part is missing", outcome)
    if clear:
        db.execute("DELETE FROM actions WHERE id <= ?", (max(found, default=0),))


def _texts(
    db: sqlite3.Connection, what: str, table: str, columns: tuple[str, ...], clear: bool
) -> Iterator[Damage]:
    """Look at texts of JSON; the first column is the key."""
    for key, *texts in db.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall():
        try:
            for text in texts:
                json.loads(text)
        except (ValueError, TypeError) as error:
            if clear:
                db.execute(f"DELETE FROM {table} WHERE {columns[0]} = ?", (key,))
            yield Damage(what, str(key), None, str(error), CLEARED if clear else LEFT)
