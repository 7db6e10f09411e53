"""Instances of every source, slice by slice, in one SQLite file.

Every method takes a source as its text, see `Source`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask, Origin, Part
from napari_fossiledit.project.database import Database
from napari_fossiledit.project.journal import Journal
from napari_fossiledit.project.runs import RunBook
from napari_fossiledit.project.source import ANNOTATIONS, LABELS, PASS, Source

# `labels.zarr` is uint32 and napari paints any value the user types; half is kept free.
LARGEST_ID = 2**31 - 1

COLUMNS = (
    "id, source, z, class, part, score, height, width, counts, texture, unsure, origin, "
    "specimen, parent"
)
_PLACES = ", ".join("?" * len(COLUMNS.split(",")))

Row = tuple[Any, ...]


@dataclass(frozen=True)
class SourceInfo:
    """Counts of one source in the ledger.

    Attributes
    ----------
    name
        The source.
    slices, instances
        How many slices are finished and how many instances they hold.
    """

    name: str
    slices: int
    instances: int

    @property
    def source(self) -> Source:
        """The source as a value."""
        return Source.parse(self.name)


class Ledger(RunBook):
    """Instances, traced areas, runs and the journal of bulk changes.

    Threads may share it. Each ``store`` is one transaction: a killed process loses the slice it
    was at and nothing before.

    Parameters
    ----------
    path
        ``ledger.sqlite``; made where it is missing.
    read_only
        Change nothing; every method that writes then raises `FossilError`.

    Raises
    ------
    FossilError
        From every method, where the file is full, locked, damaged or of a newer version.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        super().__init__(Database(path, read_only=read_only))
        self.journal = Journal(self._database)

    @property
    def path(self) -> Path:
        """The file."""
        return self._database.path

    # ------------------------------------------------------------- instances

    def store(
        self,
        source: str,
        z: int,
        instances: Sequence[Instance],
        *,
        replace: bool = True,
        part: Part | None = None,
        class_name: str | None = None,
    ) -> list[int]:
        """Store the instances of slice `z` and mark it finished, in one transaction.

        Parameters
        ----------
        instances
            Their ids are provisional and serve only to tell parents: a parent is the provisional
            id of another input, or else the id of a stored row of the slice.
        replace
            Forget what the source had there before.
        part, class_name
            With `replace`, forget only bodies or only cavities, only one class; None: all.

        Returns
        -------
        list of int
            New ids in the order of `instances`, never used before.
        """
        with self._database.writing() as db:
            if replace:
                db.execute(
                    "DELETE FROM instances WHERE source = ? AND z = ? "
                    "AND part = ifnull(?, part) AND class = ifnull(?, class)",
                    (source, z, part and str(part), class_name),
                )
            rows = _to_rows(source, z, instances, _next_id(db))
            db.executemany(f"INSERT INTO instances ({COLUMNS}) VALUES ({_PLACES})", rows)
            db.execute("INSERT OR IGNORE INTO done (source, z) VALUES (?, ?)", (source, z))
        return [row[0] for row in rows]

    def instances(
        self,
        source: str,
        *,
        slices: Iterable[int] | None = None,
        class_name: str | None = None,
        part: Part | None = None,
        min_score: float = 0.0,
        ids: Iterable[int] | None = None,
    ) -> list[Instance]:
        """Return the instances of a source, by slice and falling score.

        Parameters
        ----------
        slices, class_name, part, ids
            Keep only these; None keeps all.
        min_score
            Keep only scores >= this.
        """
        # The plus keeps SQLite from walking the whole source where ids are given.
        where = f"{'' if ids is None else '+'}source = ? AND score >= ?"
        values: list[object] = [source, min_score]
        for column, value in (("class", class_name), ("part", part)):
            if value is not None:
                where, values = f"{where} AND {column} = ?", [*values, str(value)]
        for column, chosen in (("z", slices), ("id", ids)):
            if chosen is not None:
                listed = json.dumps([int(v) for v in chosen])
                where = f"{where} AND {column} IN (SELECT value FROM json_each(?))"
                values.append(listed)
        query = f"SELECT {COLUMNS} FROM instances WHERE {where} ORDER BY z, score DESC, id"
        with self._database.reading() as db:
            rows = db.execute(query, values).fetchall()
        try:
            return [_from_row(row) for row in rows]
        except (TypeError, ValueError) as error:
            raise FossilError(
                f"{self.path} holds an instance that cannot be read",
                found=str(error),
                advice="The file is damaged: bring it back from a copy of the project.",
            ) from error

    def done(self, source: str) -> set[int]:
        """Return the slices the source has finished, also those where it found nothing."""
        return {z for (z,) in self._rows("SELECT z FROM done WHERE source = ?", source)}

    def counts(self, source: str) -> dict[int, int]:
        """Count the instances in each finished slice."""
        query = "SELECT z, count(*) FROM instances WHERE source = ? GROUP BY z"
        return dict.fromkeys(sorted(self.done(source)), 0) | dict(self._rows(query, source))

    def sources(self) -> list[SourceInfo]:
        """List the sources that a user may mean, by name; those of passes are left out."""
        slices = dict(self._rows("SELECT source, count(*) FROM done GROUP BY source"))
        rows = dict(self._rows("SELECT source, count(*) FROM instances GROUP BY source"))
        names = sorted(n for n in slices.keys() | rows.keys() if Source.parse(n).kind != PASS)
        return [SourceInfo(n, slices.get(n, 0), rows.get(n, 0)) for n in names]

    def predictions(self, model: str = "") -> list[SourceInfo]:
        """List the predictions of a model, made with whatever settings; empty: of every model."""
        predictions = [s for s in self.sources() if s.source.is_prediction]
        return [s for s in predictions if model in ("", s.source.model)]

    def latest(self, model: str) -> str:
        """Return the predictions of a model that were asked for last, which its name stands for.

        Empty where none were; nothing may be left of them.
        """
        return str(self.get_meta(f"latest:{model}", ""))

    def set_latest(self, source: Source) -> None:
        """Write which predictions of a model were asked for last."""
        if self.latest(source.model) != str(source):
            self.set_meta(f"latest:{source.model}", str(source))

    def classes(self, source: str) -> list[str]:
        """Return the classes that occur in a source, by name."""
        query = "SELECT DISTINCT class FROM instances WHERE source = ? ORDER BY class"
        return [name for (name,) in self._rows(query, source)]

    def forget(self, source: str, slices: Iterable[int] | None = None) -> None:
        """Remove the instances of a source, everywhere or in some slices; their ids stay used."""
        with self._database.writing() as db:
            if slices is None:
                for table in ("instances", "done"):
                    db.execute(f"DELETE FROM {table} WHERE source = ?", (source,))
                return
            pairs = [(source, int(z)) for z in slices]
            for table in ("instances", "done"):
                db.executemany(f"DELETE FROM {table} WHERE source = ? AND z = ?", pairs)

    def set_specimens(self, source: str, specimens: Mapping[int, int | None]) -> None:
        """Write which specimen instances belong to, by instance id, in one transaction."""
        rows = [(who, id_, source) for id_, who in specimens.items()]
        with self._database.writing() as db:
            db.executemany("UPDATE instances SET specimen = ? WHERE id = ? AND source = ?", rows)

    def describe(
        self,
        ids: Iterable[int],
        *,
        unsure: bool | None = None,
        texture: str | None = None,
        class_name: str | None = None,
    ) -> None:
        """Change properties of instances; None leaves a property as it is."""
        changes = {"unsure": unsure, "texture": texture, "class": class_name}
        given = {k: v for k, v in changes.items() if v is not None}
        if not given:
            return
        columns = ", ".join(f"{column} = ?" for column in given)
        rows = [(*given.values(), int(id_)) for id_ in ids]
        with self._database.writing() as db:
            db.executemany(f"UPDATE instances SET {columns} WHERE id = ?", rows)

    def set_review(self, ids: Iterable[int], state: str) -> None:
        """Write what a person decided about instances, e.g. ``"accepted"``; empty takes it back."""
        rows = [(state, int(id_)) for id_ in ids]
        with self._database.writing() as db:
            db.executemany("UPDATE instances SET review = ? WHERE id = ?", rows)

    def reviews(self, source: str) -> dict[int, str]:
        """Return the decisions about instances of a source, by id, where there is one."""
        query = "SELECT id, review FROM instances WHERE source = ? AND review <> ''"
        return dict(self._rows(query, source))

    # ---------------------------------------------------------------- labels

    def new_instance(self, z: int, class_name: str, shape: tuple[int, int]) -> int:
        """Make an instance that is about to be painted into ``labels.zarr``.

        Returns
        -------
        int
            Its id, which is the value to paint.
        """
        blank = Instance(z, class_name, Mask.empty(shape), origin=Origin.HUMAN)
        return self.store(LABELS, z, [blank], replace=False)[0]

    def adopt(self, z: int, values: Iterable[int], class_name: str, shape: tuple[int, int]) -> None:
        """Write rows for label values that a person painted without asking for an id.

        Raises
        ------
        FossilError
            Where a value is so large that ids would run out, or is the id of an instance of
            another source.
        """
        painted = sorted({int(v) for v in values} - {0})
        if painted and painted[-1] > LARGEST_ID:
            raise FossilError(
                f"Slice {z} of the labels holds a value that is too large for an instance",
                expected=f"at most {LARGEST_ID}",
                found=painted[-1],
                advice="Paint that label with another value.",
            )
        blank = Instance(z, class_name, Mask.empty(shape), origin=Origin.HUMAN)
        rows = [_to_rows(LABELS, z, [blank], value)[0] for value in painted]
        with self._database.writing() as db:
            db.executemany(f"INSERT OR IGNORE INTO instances ({COLUMNS}) VALUES ({_PLACES})", rows)
            db.execute("INSERT OR IGNORE INTO done (source, z) VALUES (?, ?)", (LABELS, z))
            # Instances of another source would silently not be counted. Raised inside the
            # transaction, so that no row stays behind.
            query = (
                "SELECT id FROM instances WHERE id IN (SELECT value FROM json_each(?)) "
                "AND source != ?"
            )
            foreign = [row[0] for row in db.execute(query, (json.dumps(painted), LABELS))]
            if foreign:
                raise FossilError(
                    f"Slice {z} of the labels was painted with values that belong to other"
                    " instances",
                    expected="values from the button 'New instance'",
                    found=", ".join(str(value) for value in foreign[:5]),
                    advice="Press M for a new value and fill the painted instance with it.",
                )

    # ---------------------------------------------------------- traced areas

    def set_traced(self, z: int, area: Mask | None) -> None:
        """Write which part of slice `z` is annotated completely; None: all of it."""
        code = (None, None, None) if area is None else (*area.shape, area.counts)
        with self._database.writing() as db:
            db.execute("INSERT OR REPLACE INTO traced VALUES (?, ?, ?, ?)", (z, *code))

    def add_traced(self, z: int, area: Mask | None) -> None:
        """Add to the completely annotated part of slice `z`."""
        before = self.traced()
        if area is None or z not in before:
            self.set_traced(z, area)
        elif (old := before[z]) is not None:
            self.set_traced(z, old | area)

    def traced(self) -> dict[int, Mask | None]:
        """Return the completely annotated part of each traced slice; None: all of it."""
        rows = self._rows("SELECT z, height, width, counts FROM traced ORDER BY z")
        return {z: None if c is None else Mask((h, w), c) for z, h, w, c in rows}

    def unset_traced(self, z: int) -> None:
        """Remove the traced area of slice `z`."""
        with self._database.writing() as db:
            db.execute("DELETE FROM traced WHERE z = ?", (z,))

    def annotated(self) -> list[int]:
        """Return the slices that are traced, wholly or in part, or hold imported instances."""
        return sorted(set(self.traced()) | self.done(ANNOTATIONS))

    # ------------------------------------------------------------------ rest

    def identified(self, source: str, class_name: str = "") -> bool:
        """Return True where the specimens of a source came with a file and are not to be guessed.

        With a class: where those of that class are still the file's.
        """
        identified = bool(self.get_meta(f"identified:{source}", False))
        return identified and class_name not in self.get_meta(f"guessed:{source}", [])

    def set_identified(self, source: str, identified: bool) -> None:
        """Write whether the specimens of a source came with a file."""
        self.set_meta(f"guessed:{source}", [])
        self.set_meta(f"identified:{source}", identified)

    def set_guessed(self, source: str, class_name: str) -> None:
        """Write that linking gave the specimens of one class; other classes stay as they are."""
        guessed = {*self.get_meta(f"guessed:{source}", []), class_name}
        self.set_meta(f"guessed:{source}", sorted(guessed))

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _next_id(db: sqlite3.Connection) -> int:
    """First id that no row ever had; the transaction keeps it ours."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'instances'").fetchone()
    first = 1 + (row[0] if row else 0)
    if first > LARGEST_ID:
        raise FossilError("The ledger has no instance ids left", expected=f"up to {LARGEST_ID}")
    return int(first)


def _to_rows(source: str, z: int, instances: Sequence[Instance], first_id: int) -> list[Row]:
    """Return rows of `instances` with ids counted from `first_id`.

    A parent among the inputs is replaced by its new id; any other is taken for a stored row.
    """
    given = [i.id for i in instances if i.id is not None]
    if len(set(given)) != len(given):
        raise FossilError(f"Two instances of slice {z} ({source}) have the same id")
    new_ids = {i.id: new for new, i in enumerate(instances, first_id) if i.id is not None}
    rows: list[Row] = []
    for new, item in enumerate(instances, first_id):
        if item.slice != z:
            raise FossilError(
                f"An instance of {source} belongs to another slice", expected=z, found=item.slice
            )
        row = (
            new,
            source,
            z,
            item.class_name,
            str(item.part),
            float(item.score),
            int(item.mask.shape[0]),
            int(item.mask.shape[1]),
            item.mask.counts,
            item.texture,
            int(item.unsure),
            str(item.origin),
            None if item.specimen is None else int(item.specimen),
            None if item.parent is None else new_ids.get(item.parent, item.parent),
        )
        rows.append(row)
    return rows


def _from_row(row: Row) -> Instance:
    """Return the instance of a row (`COLUMNS`)."""
    (id_, _, z, name, part, score, height, width, counts, texture, unsure, origin, who, parent) = (
        row
    )
    return Instance(
        slice=z,
        class_name=name,
        mask=Mask((height, width), counts),
        score=score,
        part=Part(part),
        texture=texture,
        unsure=bool(unsure),
        origin=Origin(origin),
        specimen=who,
        id=id_,
        parent=parent,
    )
