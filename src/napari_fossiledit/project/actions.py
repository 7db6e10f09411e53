"""Changes of the user's instances, each with its inverse, and named versions of all of them.

A change is written in the transaction that makes it, as what differs between the state of a slice
before and after: a killed program leaves both, or neither. Actions form a tree: what was undone
before something else was done is left behind as a branch, from where a version can bring it back.
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
from napari_fossiledit.project.runs import REPAIR
from napari_fossiledit.project.source import ANNOTATIONS

#: Bytes of inverses that are kept, and actions that are kept however large they are.
KEPT_BYTES, KEPT_ACTIONS = 2_000_000_000, 50
#: Looking at the sizes costs some milliseconds with thousands of strokes.
_PRUNED_EVERY = 16
#: Values of `actions.undone`.
_DONE, _UNDONE, _LEFT_BEHIND = 0, 1, 2
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
    "placed",
)
AREA_COLUMNS = "height, width, counts, placed"
"""Columns of a traced area."""

TO_TRACE = "to_trace"
"""Fact of the ledger: slices that a person means to trace."""

ALIGNMENT = "alignment"
"""Fact of the ledger: where the photographs lie."""

DOUBTS = "doubtful_links"
"""Fact of the ledger: links that linking was unsure of, by class."""

#: Facts that are undone: whose the specimens of the user's set are (an import changes them), which
#: of their links are doubtful, which slices are to be traced, and where the photographs lie.
_FACTS = (
    *(f"{fact}:{ANNOTATIONS}" for fact in ("identified", "guessed", "linked")),
    DOUBTS,
    TO_TRACE,
    ALIGNMENT,
)

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


@dataclass(frozen=True)
class Version:
    """A state of the user's set that a person has named.

    Attributes
    ----------
    name, made
        What it is called, and when it was named (ISO 8601, UTC).
    changes
        Actions between it and the state at present, on the way back and forth; None where the
        journal has forgotten some of them.
    """

    name: str
    made: str
    changes: int | None


@dataclass
class _State:
    """What the user's set holds of one slice; of facts that concern no slice where `z` is None."""

    z: int | None
    rows: Values = field(default_factory=dict)
    #: Columns of the table `traced` (height, width, counts, placed); None where nothing is traced.
    traced: list[Any] | None = None
    done: bool = False
    #: Hash of the photograph; None where none is noted.
    made_from: str | None = None
    #: Ids of predictions.
    rejected: list[int] = field(default_factory=list)
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
        number, begun, size = action.id, False, 0
        with self._database.writing() as db:
            before = [_facts(db), *(_state(db, z, columns) for z in listed)]
            yield db
            after = [_facts(db), *(_state(db, z, columns) for z in listed)]
            for old, new in zip(before, after, strict=True):
                if old == new:
                    continue
                if not begun:
                    number, begun = _begun(db, action), True
                packed = [_packed(*pair, columns) for pair in ((old, new), (new, old))]
                values = (number, new.z, *packed)
                db.execute(
                    "INSERT INTO action_slices (action, z, before, after) VALUES (?, ?, ?, ?)",
                    values,
                )
                size += sum(map(len, packed))
            if begun:
                db.execute("UPDATE actions SET size = size + ? WHERE id = ?", (size, number))
        # Only now: the number of a transaction that failed is given again.
        action.id = number

    def undo(self) -> Undone | None:
        """Undo the newest action that is not undone; None where there is none."""
        return self._move(f"SELECT max(id) FROM actions WHERE undone = {_DONE}", back=True)

    def redo(self) -> Undone | None:
        """Redo the action that was undone last; None where there is none."""
        return self._move(f"SELECT min(id) FROM actions WHERE undone = {_UNDONE}", back=False)

    def _move(self, chosen: str, *, back: bool) -> Undone | None:
        with self._database.writing() as db:
            (number,) = db.execute(chosen).fetchone()
            if number is None:
                return None
            what, slices = self._played(db, number, back=back)
            undone = _UNDONE if back else _DONE
            db.execute("UPDATE actions SET undone = ? WHERE id = ?", (undone, number))
        return Undone(what, tuple(sorted(slices)))

    def _played(self, db: sqlite3.Connection, number: int, *, back: bool) -> tuple[str, set[int]]:
        """Bring the slices of an action to what they were before it, or after it."""
        query = "SELECT what, size FROM actions WHERE id = ?"
        what, size = db.execute(query, (number,)).fetchone()
        order = "DESC" if back else "ASC"
        query = f"SELECT z, before, after FROM action_slices WHERE action = ? ORDER BY id {order}"
        slices = set()
        for z, before, after in db.execute(query, (number,)).fetchall():
            try:
                here, there = (after, before) if back else (before, after)
                _apply(db, z, unpacked(here), unpacked(there))
                size -= len(before) + len(after)
            except (ValueError, KeyError, TypeError, AttributeError, zlib.error) as error:
                raise FossilError(
                    f"{self._database.path} holds a damaged action: {what}, slice {z}",
                    found=str(error),
                    advice=f"Nothing was changed. {REPAIR}",
                ) from error
            slices |= set() if z is None else {z}
        if size:
            raise FossilError(
                f"{self._database.path} holds a damaged action: {what}",
                found=f"{size} bytes less than were written",
                advice=f"Nothing was changed. {REPAIR}",
            )
        return what, slices

    def history(self, limit: int) -> list[PastAction]:
        """Return the newest actions, newest first; none of a ledger before version 2."""
        query = (
            f"SELECT id, what, made, undone FROM actions WHERE undone <> {_LEFT_BEHIND} "
            "ORDER BY id DESC LIMIT ?"
        )
        of_slices = "SELECT DISTINCT z FROM action_slices WHERE action = ? AND z >= 0 ORDER BY z"
        with self._database.reading() as db:
            if not has(db, "actions"):
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

    # -------------------------------------------------------------- versions

    def name_version(self, name: str) -> None:
        """Name the state at present, to be restored at any time.

        Raises
        ------
        FossilError
            Where the name is empty or taken.
        """
        if not name.strip():
            raise FossilError("A version needs a name", expected="e.g. before the second look")
        with self._database.writing() as db:
            if db.execute("SELECT 1 FROM versions WHERE name = ?", (name,)).fetchone():
                raise FossilError(f"There is a version {name!r} already", advice="Choose another.")
            db.execute("INSERT INTO versions VALUES (?, ?, ?)", (name, _head(db), now()))

    def versions(self) -> list[Version]:
        """Return the named versions, newest first; none of a ledger before version 4."""
        with self._database.reading() as db:
            if not has(db, "versions"):
                return []
            rows = db.execute("SELECT name, made, action FROM versions ORDER BY made DESC, name")
            return [
                Version(
                    name, made, None if (way := _way(db, action)) is None else sum(map(len, way))
                )
                for name, made, action in rows.fetchall()
            ]

    def restore(self, name: str) -> Undone:
        """Bring the user's set back to a named version, as one new action.

        Raises
        ------
        FossilError
            Where there is no such version, or the journal does not reach it any more.
        """
        with self._database.writing() as db:
            found = db.execute("SELECT action FROM versions WHERE name = ?", (name,)).fetchone()
            if found is None:
                names = [n for (n,) in db.execute("SELECT name FROM versions ORDER BY name")]
                raise FossilError(
                    f"There is no version {name!r}", expected=", ".join(names) or "none is named"
                )
            way = _way(db, found[0])
            if way is None:
                raise FossilError(
                    f"The version {name!r} cannot be restored any more",
                    found="actions between it and now that the journal has forgotten",
                    expected=f"changes of at most {KEPT_BYTES / 1e9:g} GB since then",
                )
            back, forth = way
            listed = json.dumps([*back, *forth])
            query = (
                "SELECT DISTINCT z FROM action_slices "
                "WHERE z >= 0 AND action IN (SELECT value FROM json_each(?))"
            )
            slices = [z for (z,) in db.execute(query, (listed,))]
            what = f"restore version {name}"
            with self.noting(slices, Action(what)):
                for number in back:
                    self._played(db, number, back=True)
                for number in forth:
                    self._played(db, number, back=False)
        return Undone(what, tuple(sorted(slices)))


def mark_moved(db: sqlite3.Connection) -> None:
    """Write that all places are to be found anew: they are where the masks lay before."""
    mark_changed(db, [z for (z,) in db.execute("SELECT DISTINCT z FROM places").fetchall()])


def mark_changed(db: sqlite3.Connection, slices: Iterable[int]) -> None:
    """Have the places of slices found anew, besides those that are noted already."""
    query = "INSERT INTO changed SELECT ?1 WHERE ?1 NOT IN (SELECT z FROM changed)"
    db.executemany(query, [(z,) for z in slices])


def has(db: sqlite3.Connection, table: str) -> bool:
    """Return False for a ledger of an earlier version that is open for reading only."""
    query = "SELECT 1 FROM sqlite_master WHERE name = ?"
    return db.execute(query, (table,)).fetchone() is not None


def _head(db: sqlite3.Connection) -> int:
    """Return the action that was done last and is not undone, 0 for none."""
    query = f"SELECT ifnull(max(id), 0) FROM actions WHERE undone = {_DONE}"
    return int(db.execute(query).fetchone()[0])


def _way(db: sqlite3.Connection, action: int) -> tuple[list[int], list[int]] | None:
    """Return the actions to undo, then those to redo, from the state at present to that after one.

    None where the journal has forgotten actions in between.
    """
    parents = dict(db.execute("SELECT id, parent FROM actions").fetchall())

    def line(number: int) -> list[int]:
        # The last one was made on top of what is forgotten, or of nothing.
        found = [number]
        while found[-1] in parents:
            found.append(parents[found[-1]])
        return found

    here, there = line(_head(db)), line(action)
    known = set(here)
    common = next((number for number in there if number in known), None)
    if common is None:
        return None
    return here[: here.index(common)], there[: there.index(common)][::-1]


def _begun(db: sqlite3.Connection, action: Action) -> int:
    """Return the number of an action that changes something now; what was undone is left behind.

    Where another program has acted in between, the rest is an action of its own: undoing goes
    strictly backwards. So it is where somebody has named a version in between, as that is meant.
    """
    newest, undone = db.execute(
        "SELECT id, undone FROM actions ORDER BY id DESC LIMIT 1"
    ).fetchone() or (None, _DONE)
    named = "SELECT 1 FROM versions WHERE action = ?"
    if (
        action.id is not None
        and (action.id, _DONE) == (newest, undone)
        and db.execute(named, (action.id,)).fetchone() is None
    ):
        return action.id
    db.execute(f"UPDATE actions SET undone = {_LEFT_BEHIND} WHERE undone = {_UNDONE}")
    cursor = db.execute(
        "INSERT INTO actions (what, made, parent) VALUES (?, ?, ?)",
        (action.what, now(), _head(db)),
    )
    number = int(cursor.lastrowid or 0)
    if number % _PRUNED_EVERY == 0:
        _prune(db)
    return number


def _prune(db: sqlite3.Connection) -> None:
    total = 0
    for kept, (number, size) in enumerate(
        db.execute("SELECT id, size FROM actions ORDER BY id DESC").fetchall()
    ):
        total += size
        if kept >= KEPT_ACTIONS and total > KEPT_BYTES:
            db.execute("DELETE FROM actions WHERE id <= ?", (number,))
            return


def _state(db: sqlite3.Connection, z: int, columns: Sequence[str]) -> _State:
    listed = ", ".join(("id", *columns))
    query = f"SELECT {listed} FROM instances WHERE source = ? AND z = ?"
    rows = {number: tuple(row) for number, *row in db.execute(query, (ANNOTATIONS, z))}
    traced = db.execute(f"SELECT {AREA_COLUMNS} FROM traced WHERE z = ?", (z,)).fetchone()
    done = db.execute("SELECT 1 FROM done WHERE source = ? AND z = ?", (ANNOTATIONS, z)).fetchone()
    query = "SELECT content FROM made_from WHERE source = ? AND z = ?"
    made = db.execute(query, (ANNOTATIONS, z)).fetchone()
    rejected = db.execute("SELECT id FROM rejected WHERE z = ? ORDER BY id", (z,)).fetchall()
    return _State(
        z,
        rows,
        None if traced is None else list(traced),
        done is not None,
        None if made is None else made[0],
        [id_ for (id_,) in rejected],
    )


def _facts(db: sqlite3.Connection) -> _State:
    query = f"SELECT key, value FROM meta WHERE key IN ({', '.join('?' * len(_FACTS))})"
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
    for name in ("traced", "done", "made_from", "rejected"):
        if getattr(state, name) != getattr(other, name):
            content[name] = getattr(state, name)
    if state.facts != other.facts:
        content["facts"] = dict(state.facts.items() - other.facts.items())
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
    if content.get("traced"):
        height, width, counts, *placed = content["traced"]
        # Before version 5 nothing was placed anywhere.
        code = None if counts is None else counts.encode("latin-1")
        content["traced"] = [height, width, code, *(placed or [""])]
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
            db.execute("INSERT INTO traced VALUES (?, ?, ?, ?, ?)", (z, *there["traced"]))
    if "done" in there:
        db.execute("DELETE FROM done WHERE source = ? AND z = ?", (ANNOTATIONS, z))
        if there["done"]:
            db.execute("INSERT INTO done (source, z) VALUES (?, ?)", (ANNOTATIONS, z))
    if "made_from" in there:
        restore_made(db, ANNOTATIONS, z, there["made_from"])
    if "rejected" in there:
        db.execute("DELETE FROM rejected WHERE z = ?", (z,))
        db.executemany(
            "INSERT INTO rejected VALUES (?, ?)", [(id_, z) for id_ in there["rejected"]]
        )
    for key, value in there.get("facts", {}).items():
        _apply_fact(db, key, here["facts"][key], value)


def _apply_fact(db: sqlite3.Connection, key: str, here: str | None, there: str | None) -> None:
    """Bring a fact from one value to the other; None: there is none."""
    if key == DOUBTS:
        links = [each for text in (here, there) if text for each in json.loads(text).values()]
        mark_changed(db, {z for each in links for z, *_ in each})
    if key == ALIGNMENT:
        mark_moved(db)
    db.execute("DELETE FROM meta WHERE key = ?", (key,))
    if there is not None:
        db.execute("INSERT INTO meta VALUES (?, ?)", (key, there))
