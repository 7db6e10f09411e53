"""Changes of the user's instances in the order they were made, each with its inverse.

A change is written in the transaction that makes it, as what differs between the state of a slice
before and after: a killed program leaves both, or neither.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.project.contents import restore_made
from napari_fossiledit.project.database import Database, now
from napari_fossiledit.project.source import ANNOTATIONS

#: Bytes of inverses that are kept, and actions that are kept however large they are.
KEPT_BYTES, KEPT_ACTIONS = 200_000_000, 50
#: Looking at the sizes costs some milliseconds with thousands of strokes.
_PRUNED_EVERY = 16
_COMPRESSION = 1

#: All columns of an instance but its id, its source and its slice.
STATE_COLUMNS = (
    "class",
    "part",
    "score",
    "height",
    "width",
    "counts",
    "texture",
    "unsure",
    "origin",
    "specimen",
    "parent",
    "review",
    "guessed",
)
#: Facts that say whose the specimens of the user's set are; they change with an import.
_FACTS = tuple(f"{fact}:{ANNOTATIONS}" for fact in ("identified", "guessed", "linked"))

Rows = dict[int, dict[str, Any]]
#: Values of the columns of a row, by id.
Values = dict[int, tuple[Any, ...]]


@dataclass
class Action:
    """A change of any number of slices that is undone as one, see `Ledger.begin`.

    Attributes
    ----------
    what
        What is done, for the user.
    id
        Number in the journal; None until something changed.
    """

    what: str
    id: int | None = None


@dataclass(frozen=True)
class Undone:
    """An action that was undone or redone, and the slices that changed by it."""

    what: str
    slices: tuple[int, ...]


@dataclass(frozen=True)
class PastAction:
    """An action of the journal.

    Attributes
    ----------
    id
        Its number.
    what, made
        What was done, and when (ISO 8601, UTC).
    slices
        Slices that it changed, ascending.
    undone
        Whether it is undone at present and can be redone.
    """

    id: int
    what: str
    made: str
    slices: tuple[int, ...]
    undone: bool


@dataclass
class _State:
    """What the user's set holds of one slice; of facts that concern no slice where `z` is None."""

    z: int | None
    rows: Values = field(default_factory=dict)
    #: Columns of the table `traced` (height, width, counts); None where nothing is traced.
    traced: list[Any] | None = None
    done: bool = False
    #: Hash of the photograph; None where none is noted.
    made_from: str | None = None
    facts: dict[str, str | None] = field(default_factory=dict)


class Actions:
    """The journal of a ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def noting(
        self,
        slices: Iterable[int],
        action: Action,
        columns: Sequence[str] = STATE_COLUMNS,
    ) -> Iterator[sqlite3.Connection]:
        """Yield the connection inside one transaction, and write what changed to the journal.

        Parameters
        ----------
        slices
            Slices of the user's set that may change.
        columns
            Columns that may change; fewer cost less.
        """
        listed = sorted(set(slices))
        number, begun = action.id, False
        with self._database.writing() as db:
            before = [_facts(db), *(_state(db, z, columns) for z in listed)]
            yield db
            after = [_facts(db), *(_state(db, z, columns) for z in listed)]
            for old, new in zip(before, after, strict=True):
                if old == new:
                    continue
                if not begun:
                    number, begun = _begun(db, action), True
                packed = (_packed(*pair, columns) for pair in ((old, new), (new, old)))
                values = (number, new.z, *packed)
                db.execute(
                    "INSERT INTO action_slices (action, z, before, after) VALUES (?, ?, ?, ?)",
                    values,
                )
        # Only now: the number of a transaction that failed is given again.
        action.id = number

    def undo(self) -> Undone | None:
        """Undo the newest action that is not undone; None where there is none."""
        return self._move("SELECT max(id) FROM actions WHERE undone = 0", back=True)

    def redo(self) -> Undone | None:
        """Redo the action that was undone last; None where there is none."""
        return self._move("SELECT min(id) FROM actions WHERE undone = 1", back=False)

    def _move(self, chosen: str, *, back: bool) -> Undone | None:
        with self._database.writing() as db:
            (number,) = db.execute(chosen).fetchone()
            if number is None:
                return None
            (what,) = db.execute("SELECT what FROM actions WHERE id = ?", (number,)).fetchone()
            order = "DESC" if back else "ASC"
            query = (
                f"SELECT z, before, after FROM action_slices WHERE action = ? ORDER BY id {order}"
            )
            slices = set()
            for z, before, after in db.execute(query, (number,)).fetchall():
                try:
                    here, there = (after, before) if back else (before, after)
                    _apply(db, z, unpacked(here), unpacked(there))
                except (ValueError, KeyError, TypeError, AttributeError, zlib.error) as error:
                    raise FossilError(
                        f"{self._database.path} holds a damaged action: {what}, slice {z}",
                        found=str(error),
                        advice="Nothing was changed.",
                    ) from error
                slices |= set() if z is None else {z}
            db.execute("UPDATE actions SET undone = ? WHERE id = ?", (int(back), number))
        return Undone(what, tuple(sorted(slices)))

    def history(self, limit: int) -> list[PastAction]:
        """Return the newest actions, newest first; none of a ledger before version 2."""
        query = "SELECT id, what, made, undone FROM actions ORDER BY id DESC LIMIT ?"
        of_slices = "SELECT DISTINCT z FROM action_slices WHERE action = ? AND z >= 0 ORDER BY z"
        with self._database.reading() as db:
            if db.execute("PRAGMA user_version").fetchone()[0] < 2:
                return []
            return [
                PastAction(
                    number,
                    what,
                    made,
                    tuple(z for (z,) in db.execute(of_slices, (number,))),
                    bool(undone),
                )
                for number, what, made, undone in db.execute(query, (limit,)).fetchall()
            ]


def _begun(db: sqlite3.Connection, action: Action) -> int:
    """Return the number of an action that changes something now; what was undone is dropped.

    Where another program has acted in between, the rest is an action of its own: undoing goes
    strictly backwards.
    """
    db.execute("DELETE FROM actions WHERE undone = 1")
    (newest,) = db.execute("SELECT max(id) FROM actions").fetchone()
    if action.id is not None and action.id == newest:
        return action.id
    cursor = db.execute("INSERT INTO actions (what, made) VALUES (?, ?)", (action.what, now()))
    number = int(cursor.lastrowid or 0)
    if number % _PRUNED_EVERY == 0:
        _prune(db)
    return number


def _prune(db: sqlite3.Connection) -> None:
    query = (
        "SELECT a.id, ifnull(sum(length(before) + length(after)), 0) FROM actions a "
        "LEFT JOIN action_slices s ON s.action = a.id GROUP BY a.id ORDER BY a.id DESC"
    )
    total = 0
    for kept, (number, size) in enumerate(db.execute(query).fetchall()):
        total += size
        if kept >= KEPT_ACTIONS and total > KEPT_BYTES:
            db.execute("DELETE FROM actions WHERE id <= ?", (number,))
            return


def _state(db: sqlite3.Connection, z: int, columns: Sequence[str]) -> _State:
    listed = ", ".join(("id", *columns))
    query = f"SELECT {listed} FROM instances WHERE source = ? AND z = ?"
    rows = {number: tuple(row) for number, *row in db.execute(query, (ANNOTATIONS, z))}
    traced = db.execute("SELECT height, width, counts FROM traced WHERE z = ?", (z,)).fetchone()
    done = db.execute("SELECT 1 FROM done WHERE source = ? AND z = ?", (ANNOTATIONS, z)).fetchone()
    query = "SELECT content FROM made_from WHERE source = ? AND z = ?"
    made = db.execute(query, (ANNOTATIONS, z)).fetchone()
    return _State(
        z,
        rows,
        None if traced is None else list(traced),
        done is not None,
        None if made is None else made[0],
    )


def _facts(db: sqlite3.Connection) -> _State:
    query = "SELECT key, value FROM meta WHERE key IN (?, ?, ?)"
    found = dict(db.execute(query, _FACTS).fetchall())
    return _State(None, facts={key: found.get(key) for key in _FACTS})


def _packed(state: _State, other: _State, columns: Sequence[str]) -> bytes:
    """Pack what differs from another state: rows whole, or their columns where both have them."""
    rows: Rows = {}
    for number, row in state.rows.items():
        twin = other.rows.get(number)
        if row != twin:
            named = dict(zip(columns, row, strict=True))
            old = {} if twin is None else dict(zip(columns, twin, strict=True))
            rows[number] = {c: v for c, v in named.items() if twin is None or v != old[c]}
    content: dict[str, Any] = {"rows": rows}
    for name in ("traced", "done", "made_from", "facts"):
        if getattr(state, name) != getattr(other, name):
            content[name] = getattr(state, name)
    # Run-length codes are ASCII; latin-1 also keeps the bytes of a damaged one.
    text = json.dumps(content, default=lambda code: code.decode("latin-1"))
    return zlib.compress(text.encode(), _COMPRESSION)


def unpacked(blob: bytes) -> dict[str, Any]:
    """Return what a slice held where an action changed it: ``rows``, ``traced``, ...

    Raises
    ------
    ValueError, KeyError, TypeError, AttributeError, zlib.error
        Where the bytes are damaged.
    """
    content: dict[str, Any] = json.loads(zlib.decompress(blob))
    content["rows"] = {int(number): row for number, row in content["rows"].items()}
    for row in content["rows"].values():
        if not row.keys() <= set(STATE_COLUMNS):
            raise ValueError(f"columns {', '.join(row)}")
        if isinstance(row.get("counts"), str):
            row["counts"] = row["counts"].encode("latin-1")
    if content.get("traced") and content["traced"][2] is not None:
        content["traced"][2] = content["traced"][2].encode("latin-1")
    return content


def _apply(
    db: sqlite3.Connection, z: int | None, here: Mapping[str, Any], there: Mapping[str, Any]
) -> None:
    """Bring a slice from one state to the other."""
    wanted: Rows = there["rows"]
    for number, row in wanted.items():
        if number in here["rows"]:
            columns = ", ".join(f"{column} = ?" for column in row)
            query = f"UPDATE instances SET {columns} WHERE id = ? AND source = ?"
            found = db.execute(query, (*row.values(), number, ANNOTATIONS)).rowcount
            if not found:
                raise KeyError(f"no instance {number}")
        else:
            names = ("id", "source", "z", *row)
            places = ", ".join("?" * len(names))
            query = f"INSERT INTO instances ({', '.join(names)}) VALUES ({places})"
            db.execute(query, (number, ANNOTATIONS, z, *row.values()))
    # Last: cavities go with their body unless they have another one, or none, by then.
    gone = [(number, ANNOTATIONS) for number in here["rows"].keys() - wanted.keys()]
    db.executemany("DELETE FROM instances WHERE id = ? AND source = ?", gone)
    if "traced" in there:
        db.execute("DELETE FROM traced WHERE z = ?", (z,))
        if there["traced"] is not None:
            db.execute("INSERT INTO traced VALUES (?, ?, ?, ?)", (z, *there["traced"]))
    if "done" in there:
        db.execute("DELETE FROM done WHERE source = ? AND z = ?", (ANNOTATIONS, z))
        if there["done"]:
            db.execute("INSERT INTO done (source, z) VALUES (?, ?)", (ANNOTATIONS, z))
    if "made_from" in there:
        restore_made(db, ANNOTATIONS, z, there["made_from"])
    for key, value in there.get("facts", {}).items():
        db.execute("DELETE FROM meta WHERE key = ?", (key,))
        if value is not None:
            db.execute("INSERT INTO meta VALUES (?, ?)", (key, value))
