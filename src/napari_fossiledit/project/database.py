"""One SQLite file: how it is opened, and what its errors mean to the user."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import RLock

import psutil

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import require_writable

LEDGER_VERSION = 5
PROBABILITIES_SINCE, PLACED_SINCE = 3, 5
QUEUED = "queue"
"""Fact of the ledger: the predictions among which the queue looks for missing fossils."""

# `instances.id` is AUTOINCREMENT: an id never means another instance, also after a deletion.
# `probability` is last, so that what reads the others never reads its pages. `placed`: where the
# photograph lay when this was made (`placement.py`), empty: as it was taken.
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS instances (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    source TEXT NOT NULL,
    z INTEGER NOT NULL CHECK (z >= 0),
    class TEXT NOT NULL,
    part TEXT NOT NULL,
    score REAL NOT NULL,
    height INTEGER NOT NULL,
    width INTEGER NOT NULL,
    counts BLOB NOT NULL,
    texture TEXT NOT NULL DEFAULT '',
    unsure INTEGER NOT NULL DEFAULT 0,
    origin TEXT NOT NULL,
    specimen INTEGER,
    parent INTEGER REFERENCES instances (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    review TEXT NOT NULL DEFAULT '',
    guessed INTEGER NOT NULL DEFAULT 0,
    placed TEXT NOT NULL DEFAULT '',
    probability BLOB
);
CREATE INDEX IF NOT EXISTS instances_by_slice ON instances (source, z, score DESC, id);
CREATE INDEX IF NOT EXISTS instances_by_parent ON instances (parent) WHERE parent IS NOT NULL;
CREATE INDEX IF NOT EXISTS instances_by_review ON instances (z, review)
    WHERE source = 'annotations' AND part = 'body';
CREATE TABLE IF NOT EXISTS done (
    source TEXT NOT NULL,
    z INTEGER NOT NULL,
    PRIMARY KEY (source, z)
) WITHOUT ROWID;
-- Slices that could not be predicted, until they are.
CREATE TABLE IF NOT EXISTS failed (
    source TEXT NOT NULL,
    z INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    error TEXT NOT NULL,
    at TEXT NOT NULL,
    PRIMARY KEY (source, z)
) WITHOUT ROWID;
-- No counts: the whole slice is traced.
CREATE TABLE IF NOT EXISTS traced (
    z INTEGER PRIMARY KEY,
    height INTEGER,
    width INTEGER,
    counts BLOB,
    placed TEXT NOT NULL DEFAULT ''
);
-- Photographs of slices, and what results were made from (`contents.py`).
CREATE TABLE IF NOT EXISTS contents (
    place TEXT NOT NULL,
    z INTEGER NOT NULL,
    stamp TEXT NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (place, z)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS made_from (
    source TEXT NOT NULL,
    z INTEGER NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (source, z)
) WITHOUT ROWID;
-- What lays a slice over the one before, with hashes of both photographs. Null: nothing was found.
CREATE TABLE IF NOT EXISTS motions (z INTEGER PRIMARY KEY, pair TEXT NOT NULL, motion TEXT);
-- Predictions that a person has found wrong.
CREATE TABLE IF NOT EXISTS rejected (id INTEGER PRIMARY KEY, z INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS rejected_by_slice ON rejected (z);
-- Places that are worth a look (`places.py`), and slices of which they have to be found anew.
CREATE TABLE IF NOT EXISTS places (
    z INTEGER NOT NULL,
    doubt TEXT NOT NULL,
    pixels REAL NOT NULL,
    place TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS places_by_pixels ON places (pixels);
CREATE INDEX IF NOT EXISTS places_by_doubt ON places (doubt, pixels);
CREATE INDEX IF NOT EXISTS places_by_slice ON places (z);
CREATE TABLE IF NOT EXISTS changed (z PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    params TEXT NOT NULL,
    status TEXT NOT NULL,
    started TEXT NOT NULL,
    ended TEXT,
    summary TEXT NOT NULL DEFAULT '{{}}'
);
-- `undone`: 0 done, 1 undone and next to be redone, 2 left behind by an action that was made after
-- undoing. `parent`: action on top of which it was made, 0 for none. `size`: its bytes below.
CREATE TABLE IF NOT EXISTS actions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    what TEXT NOT NULL,
    made TEXT NOT NULL,
    undone INTEGER NOT NULL DEFAULT 0,
    parent INTEGER NOT NULL DEFAULT 0,
    size INTEGER NOT NULL DEFAULT 0
);
-- `action`: the last one that was done when the version was named, 0 for none.
CREATE TABLE IF NOT EXISTS versions (
    name TEXT PRIMARY KEY,
    action INTEGER NOT NULL,
    made TEXT NOT NULL
) WITHOUT ROWID;
-- Which prediction an instance of the user's set was taken over from. Ids are never used again, so
-- that this stays true, also while the instance is deleted.
CREATE TABLE IF NOT EXISTS taken_over (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    prediction INTEGER NOT NULL,
    score REAL NOT NULL
);
-- What a slice held before and after an action, where they differ: zlib of JSON (`actions.py`). No
-- slice: facts of the whole project.
CREATE TABLE IF NOT EXISTS action_slices (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    action INTEGER NOT NULL REFERENCES actions (id) ON DELETE CASCADE,
    z INTEGER,
    before BLOB NOT NULL,
    after BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS action_slices_by_action ON action_slices (action);
PRAGMA user_version = {LEDGER_VERSION};
"""


def _there(row: str) -> tuple[str, ...]:
    return (f"SELECT {row}.z AS near",)


def _near(row: str) -> tuple[str, ...]:
    return (*_there(row), f"SELECT {row}.z - 1", f"SELECT {row}.z + 1")


_QUEUED = (
    "(SELECT iif(json_valid(value), json_extract(value, '$'), '') "
    f"FROM meta WHERE key = '{QUEUED}')"
)

# Whatever changes the user's set or the predictions that it is compared with, a stroke or an undo
# of another program, a slice whose places are not those of its masks any more is noted with it.
TRIGGERS = tuple(
    f"CREATE TRIGGER IF NOT EXISTS {name} AFTER {event} {when} "
    # Not OR IGNORE: the statement that fires a trigger decides about conflicts inside it.
    f"BEGIN INSERT INTO changed SELECT near FROM ({' UNION '.join(slices)}) "
    "WHERE near NOT IN (SELECT z FROM changed); END"
    for name, event, when, slices in (
        (
            "set_update",
            "UPDATE OF counts, class, part ON instances",
            "WHEN NEW.source = 'annotations' AND (NEW.counts, NEW.class, NEW.part) "
            "<> (OLD.counts, OLD.class, OLD.part)",
            _near("NEW"),
        ),
        (
            "set_review",
            "UPDATE OF review ON instances",
            "WHEN NEW.source = 'annotations'",
            _there("NEW"),
        ),
        (
            # Whose a section is was decided, or is open again; linking alone changes no guess.
            "set_decided",
            "UPDATE OF guessed ON instances",
            "WHEN NEW.source = 'annotations' AND OLD.specimen IS NOT NULL "
            "AND NEW.guessed <> OLD.guessed",
            _there("NEW"),
        ),
        *(
            (f"{name}_{event.lower()}", f"{event} ON {table}", when.format(row), slices(row))
            for name, table, when, slices in (
                ("set", "instances", "WHEN {}.source = 'annotations'", _near),
                ("predicted", "instances", f"WHEN {{}}.source = {_QUEUED}", _there),
                ("rejected", "rejected", "", _there),
                # Whether a neighbour goes on is known where it is traced.
                ("traced", "traced", "", _near),
            )
            for event, row in (("INSERT", "NEW"), ("DELETE", "OLD"))
        ),
    )
)

# Seconds that a writer waits for another process.
_BUSY_S = 30.0
# On these the shared memory that SQLite's WAL needs is not shared between machines.
_NETWORK = ("9p", "afs", "cifs", "fuse.sshfs", "ncpfs", "nfs", "nfs4", "smb3", "smbfs", "webdav")
_ADVICE = {
    sqlite3.SQLITE_FULL: "The disk is full: free some space and run the command again.",
    # Also where a full disk has no room for the files that are beside an open ledger.
    sqlite3.SQLITE_IOERR: "See that the disk is there and not full, and run the command again.",
    sqlite3.SQLITE_BUSY: "Another program is writing to the project: wait for it or close it.",
    sqlite3.SQLITE_READONLY: "Copy the project to a place you may write to.",
    sqlite3.SQLITE_CANTOPEN: "Check that the folder exists and that you may write to it.",
    sqlite3.SQLITE_NOTADB: "The file is damaged: bring it back from a copy of the project.",
    sqlite3.SQLITE_CORRUPT: "The file is damaged: bring it back from a copy of the project.",
}


def now() -> str:
    """Return the time as the project keeps it: ISO 8601, UTC, seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def explained_sql(path: Path, doing: str) -> Iterator[None]:
    """Turn a database error into a `FossilError` that names the file and the remedy."""
    try:
        yield
    except (sqlite3.Error, OverflowError, UnicodeDecodeError) as error:
        # SQLite names what is damaged, and a damaged name may be no text.
        damaged = sqlite3.SQLITE_CORRUPT if isinstance(error, UnicodeDecodeError) else 0
        # The low byte is the primary code, the rest tells the exact place in SQLite.
        code = getattr(error, "sqlite_errorcode", damaged) & 0xFF
        advice = _ADVICE.get(code, "Nothing saved before was changed.")
        raise FossilError(f"{doing} {path} failed: {error}", advice=advice) from error


class Database:
    """A SQLite connection that threads share under a lock.

    Every statement is short (one slice), so that a lock costs less than a connection a thread,
    and closing is certain. Other processes wait for each other through SQLite's own locks.

    Parameters
    ----------
    path
        The file; made where it is missing.
    read_only
        Change nothing; a missing file then reads as empty.
    """

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self.path, self.read_only = path, read_only
        self._lock = RLock()
        with explained_sql(path, "Opening"):
            self._connection = _connect_read_only(path) if read_only else _connect(path)
            # So that one damaged text does not keep all other rows from being read.
            self._connection.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
            try:
                self._check_version()
            except BaseException:
                self._connection.close()
                raise

    def _check_version(self) -> None:
        version = self._version()
        if version > LEDGER_VERSION:
            raise FossilError(
                f"{self.path} was made by a newer version of napari-fossiledit",
                expected=f"ledger version up to {LEDGER_VERSION}",
                found=version,
                advice="Update napari-fossiledit.",
            )
        if version < LEDGER_VERSION and not self.read_only:
            with self.writing() as db:
                self._upgrade(db)

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    @property
    def keeps_placements(self) -> bool:
        """Return False for a file of an earlier version that is open for reading only."""
        return self._version() >= PLACED_SINCE

    @property
    def keeps_probabilities(self) -> bool:
        """Return False for a file of an earlier version that is open for reading only."""
        return self._version() >= PROBABILITIES_SINCE

    def _upgrade(self, db: sqlite3.Connection) -> None:
        """Bring an older file to this version; another program may just have done so."""
        version = self._version()
        if version == 1:
            # Whether linking wrote the specimen, or a file or a person told it.
            db.execute("ALTER TABLE instances ADD COLUMN guessed INTEGER NOT NULL DEFAULT 0")
            # The journal of voxels that nobody paints any more.
            db.execute("DROP TABLE IF EXISTS overwritten")
            db.execute("DROP TABLE IF EXISTS changes")
        if 0 < version < PROBABILITIES_SINCE:
            # What older predictions were cut from is not known.
            db.execute("ALTER TABLE instances ADD COLUMN probability BLOB")
        if version in (2, 3):
            for column in ("parent", "size"):
                db.execute(f"ALTER TABLE actions ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")
            # Up to then an action that was made after undoing made forget what was undone.
            db.execute(
                "UPDATE actions SET parent = "
                "(SELECT ifnull(max(b.id), 0) FROM actions b WHERE b.id < actions.id), "
                "size = (SELECT ifnull(sum(length(before) + length(after)), 0) "
                "FROM action_slices s WHERE s.action = actions.id)"
            )
        if 0 < version < PLACED_SINCE:
            for table in ("instances", "traced"):
                # Up to then nothing was placed anywhere.
                there = {name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")}
                if there and "placed" not in there:
                    db.execute(f"ALTER TABLE {table} ADD COLUMN placed TEXT NOT NULL DEFAULT ''")
        for statement in (*filter(str.strip, SCHEMA.split(";")), *TRIGGERS):
            db.execute(statement)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection for statements that change nothing."""
        with self._lock, explained_sql(self.path, "Reading"):
            yield self._connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection inside one transaction: all of it happens, or nothing.

        A transaction inside another one is a part of that.
        """
        require_writable(self.path, read_only=self.read_only)
        # SQLite would go on writing into a file that nobody finds any more.
        if not self.path.exists():
            raise FossilError(
                f"The project {self.path.parent} was moved, renamed or removed while it was open",
                expected=f"a file {self.path.name} in it",
                found="nothing there",
                advice="Put it back where it was: what is not saved yet is kept until then.",
            )
        with self._lock, explained_sql(self.path, "Writing"):
            nested = self._connection.in_transaction
            if nested:
                yield self._connection
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back already where the disk is full.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file; what was written is complete without this."""
        with self._lock:
            self._connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute(f"PRAGMA journal_mode={'DELETE' if on_network(path) else 'WAL'}")
        # A finished slice outlives a power cut: one fsync each, against seconds of prediction.
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_read_only(path: Path) -> sqlite3.Connection:
    """Open for reading; a missing file reads as empty.

    So does one without tables, which a program leaves that is killed while it makes it. Beside a
    WAL database SQLite needs files of its own, even to read. Where it cannot make them nobody
    else is writing either, and ``immutable`` does without.
    """
    if path.exists():
        connection = _by_uri(path, "mode=ro")
        try:
            begun = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] > 0
        except sqlite3.OperationalError:
            connection.close()
            return _by_uri(path, "immutable=1")
        if begun:
            return connection
        connection.close()
    empty = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    empty.executescript(SCHEMA)
    return empty


def _by_uri(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.resolve().as_uri()}?{mode}",
        uri=True,
        timeout=_BUSY_S,
        isolation_level=None,
        check_same_thread=False,
    )


def on_network(path: Path) -> bool:
    """Return True where a file lies on a network drive, where SQLite's WAL is not safe."""
    place = path.resolve()
    if str(place).startswith("\\\\"):
        return True
    holding = [p for p in psutil.disk_partitions(all=True) if place.is_relative_to(p.mountpoint)]
    if not holding:
        return False
    nearest = max(holding, key=lambda p: len(p.mountpoint))
    return nearest.fstype.lower() in _NETWORK or "remote" in nearest.opts.split(",")
