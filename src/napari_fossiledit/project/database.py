"""One SQLite file: how it is opened, and what its errors mean to the user."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock

import psutil

from napari_fossiledit.errors import FossilError
from napari_fossiledit.project.schema import LEDGER_VERSION, SCHEMA

_BUSY_S = 30.0
_NETWORK = ("9p", "afs", "cifs", "fuse.sshfs", "ncpfs", "nfs", "nfs4", "smb3", "smbfs", "webdav")
_ADVICE = {
    sqlite3.SQLITE_FULL: "The disk is full: free some space and run the command again.",
    sqlite3.SQLITE_BUSY: "Another program is writing to the project: wait for it or close it.",
    sqlite3.SQLITE_READONLY: "Copy the project to a place you may write to.",
    sqlite3.SQLITE_CANTOPEN: "Check that the folder exists and that you may write to it.",
    sqlite3.SQLITE_NOTADB: "The file is damaged: bring it back from a copy of the project.",
    sqlite3.SQLITE_CORRUPT: "The file is damaged: bring it back from a copy of the project.",
}


@contextmanager
def explained_sql(path: Path, doing: str) -> Iterator[None]:
    """Turn a database error into a `FossilError` that names the file and the remedy."""
    try:
        yield
    except (sqlite3.Error, OverflowError) as error:
        # The low byte is the primary code, the rest tells the exact place in SQLite.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
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
            self._connection = self._opened()

    def _opened(self) -> sqlite3.Connection:
        connection = _connect_read_only(self.path) if self.read_only else _connect(self.path)
        try:
            self._check_version(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_version(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > LEDGER_VERSION:
            raise FossilError(
                f"{self.path} was made by a newer version of napari-fossiledit",
                expected=f"ledger version up to {LEDGER_VERSION}",
                found=version,
                advice="Update napari-fossiledit.",
            )
        if version == 0:
            connection.executescript(SCHEMA)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give the connection to statements that change nothing."""
        with self._lock, explained_sql(self.path, "Reading"):
            yield self._connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Give the connection inside one transaction: all of it happens, or nothing."""
        self.require_writable()
        with self._lock, explained_sql(self.path, "Writing"):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back already where the disk is full.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def require_writable(self) -> None:
        """Refuse to change a project that was opened read-only."""
        if self.read_only:
            raise FossilError(
                f"{self.path} is open for reading only",
                advice="Copy the project to a place you may write to.",
            )

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

    Beside a WAL database SQLite needs files of its own, even to read. Where it cannot make them
    nobody else is writing either, and ``immutable`` does without.
    """
    if not path.exists():
        empty = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        empty.executescript(SCHEMA)
        return empty
    connection = _by_uri(path, "mode=ro")
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        return _by_uri(path, "immutable=1")
    return connection


def _by_uri(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.resolve().as_uri()}?{mode}",
        uri=True,
        timeout=_BUSY_S,
        isolation_level=None,
        check_same_thread=False,
    )


def on_network(path: Path) -> bool:
    """Tell whether a file lies on a network drive, where SQLite's WAL is not safe."""
    place = path.resolve()
    if str(place).startswith("\\\\"):
        return True
    holding = [p for p in psutil.disk_partitions(all=True) if place.is_relative_to(p.mountpoint)]
    if not holding:
        return False
    nearest = max(holding, key=lambda p: len(p.mountpoint))
    return nearest.fstype.lower() in _NETWORK or "remote" in nearest.opts.split(",")
