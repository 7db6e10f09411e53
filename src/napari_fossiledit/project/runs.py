"""The part of the ledger that remembers what was done, and single facts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.files import is_alive, this_process
from napari_fossiledit.project.database import Database, now

REPAIR = "Run 'fossiledit repair-project' on the project: it restores what the journal still holds."
_PROCESS = "process"


class DamagedError(FossilError):
    """A row of the ledger that cannot be read; other rows can."""


@dataclass(frozen=True)
class Run:
    """One thing that was done to a project.

    Attributes
    ----------
    id
        Number of the run, never reused.
    kind
        E.g. ``"train"``.
    params, summary
        Parameters and result, JSON values.
    status
        ``"running"``, ``"interrupted"`` (its process was killed), ``"done"``, ``"failed"``, ...
    started, ended
        ISO 8601 in UTC; ``ended`` is None while it runs.
    """

    id: int
    kind: str
    params: dict[str, Any]
    status: str
    started: str
    ended: str | None
    summary: dict[str, Any]


def _as_it_is(run: Run) -> Run:
    """Return a run, interrupted where its process is not there any more."""
    if run.status != "running":
        return run
    process = run.summary.get(_PROCESS)
    # Versions that did not write the process cannot be running on a ledger of this one.
    alive = isinstance(process, str) and is_alive(process)
    return replace(run, status="running" if alive else "interrupted", summary={})


class RunBook:
    """Runs and single facts of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._database.reading() as db:
            return db.execute(query, values).fetchall()

    def begin_run(self, kind: str, params: dict[str, Any]) -> int:
        """Write that something starts, and return its number."""
        query = (
            "INSERT INTO runs (kind, params, status, started, summary)"
            " VALUES (?, ?, 'running', ?, ?)"
        )
        # Until there is a summary: which process would have to be alive.
        summary = json.dumps({_PROCESS: this_process()})
        with self._database.writing() as db:
            cursor = db.execute(query, (kind, json.dumps(params), now(), summary))
        return int(cursor.lastrowid or 0)

    def end_run(self, run: int, status: str, summary: dict[str, Any]) -> None:
        """Write how a run ended."""
        query = "UPDATE runs SET status = ?, ended = ?, summary = ? WHERE id = ?"
        with self._database.writing() as db:
            db.execute(query, (status, now(), json.dumps(summary), run))

    @contextmanager
    def recorded(self, kind: str, params: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Write the start and the end of what happens inside, also where it fails.

        Yields
        ------
        dict
            To be filled with the summary.
        """
        run, summary = self.begin_run(kind, params), dict[str, Any]()
        try:
            yield summary
        except BaseException as error:
            status = "cancelled" if isinstance(error, CancelledError) else "failed"
            self.end_run(run, status, {"error": str(error)})
            raise
        self.end_run(run, "done", summary)

    def runs(self) -> list[Run]:
        """Return all runs, oldest first."""
        query = "SELECT id, kind, params, status, started, ended, summary FROM runs ORDER BY id"
        return [
            _as_it_is(Run(id_, kind, _values(params), status, started, ended, _values(summary)))
            for id_, kind, params, status, started, ended, summary in self._rows(query)
        ]

    def get_meta(self, key: str, default: Any = None) -> Any:
        """Return the value of a fact, `default` where there is none."""
        rows = self._rows("SELECT value FROM meta WHERE key = ?", key)
        try:
            return json.loads(rows[0][0]) if rows else default
        except (TypeError, ValueError) as error:
            raise DamagedError(
                f"{self._database.path} holds a damaged fact: {key}",
                found=str(error),
                advice=REPAIR,
            ) from error

    def set_meta(self, key: str, value: Any) -> None:
        """Write a fact: any JSON value under a key."""
        with self._database.writing() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))


def _values(text: Any) -> dict[str, Any]:
    """Return the values of a run; a damaged record must not keep anybody from working."""
    try:
        values = json.loads(text)
    except (TypeError, ValueError):
        values = None
    return values if isinstance(values, dict) else {"damaged": str(text)}
