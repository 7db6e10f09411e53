"""Instances of every source, slice by slice, in one SQLite file.

Every method takes a source as its text, see `Source`.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Self

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask, Origin, Part, beside_reviewed, cut_at
from napari_fossiledit.masks.placed import moved, moved_probability
from napari_fossiledit.masks.probability import MASK_CUT, ProbabilityMask
from napari_fossiledit.masks.rle import measure
from napari_fossiledit.placement import Alignment, Placement
from napari_fossiledit.project.actions import (
    ALIGNMENT,
    AREA_COLUMNS,
    STATE_COLUMNS,
    TO_TRACE,
    Action,
    Actions,
    PastAction,
    Undone,
    Version,
    has,
    mark_moved,
)
from napari_fossiledit.project.contents import ContentTable, note_made
from napari_fossiledit.project.database import Database, now
from napari_fossiledit.project.places import PlaceTable
from napari_fossiledit.project.runs import REPAIR, DamagedError, RunBook
from napari_fossiledit.project.source import ANNOTATIONS, PASS, Source

#: The Labels layer paints ids as 32-bit integers.
LARGEST_ID = 2**31 - 1

COLUMNS = (
    "id, source, z, class, part, score, height, width, counts, texture, unsure, origin, "
    "specimen, parent, review, placed"
)
_COUNT = COLUMNS.count(",") + 1
WITH_PROBABILITY = f"{COLUMNS}, probability"
_WRITTEN = WITH_PROBABILITY.split(", ")
_INSERT = f"INSERT INTO instances ({WITH_PROBABILITY}) VALUES ({', '.join('?' * len(_WRITTEN))})"
_UPSERT = f"{_INSERT} ON CONFLICT (id) DO UPDATE SET " + ", ".join(
    f"{column} = excluded.{column}" for column in _WRITTEN[1:]
)

#: What a row and its entries in the indices take beside its masks.
_ROW_BYTES = 400

#: Nobody has so many instances: an id beyond was a value that a person painted.
_UNREASONABLE_ID = 2**30

#: What the column `review` holds of an instance that a person has found right.
REVIEWED = "accepted"

Row = tuple[Any, ...]


class _Unchanged(Enum):
    UNCHANGED = "unchanged"


UNCHANGED: Final = _Unchanged.UNCHANGED
"""Stands for a traced area that stays as it is."""


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


@dataclass(frozen=True)
class TakenOver:
    """What `Ledger.take_over` did to a slice.

    Attributes
    ----------
    ids
        Of the new instances.
    replaced
        How many instances of the user's set they replaced.
    untraced
        Whether the slice was traced before, wholly or in part.
    left_out
        How many were not taken, as a reviewed instance lies there.
    """

    ids: list[int]
    replaced: int
    untraced: bool
    left_out: int = 0


class TakenFrom(NamedTuple):
    """What an instance of the user's set was before it was taken over.

    Attributes
    ----------
    source, prediction
        The source, and the id there; it may be predicted anew since.
    score
        Confidence of the model.
    """

    source: str
    prediction: int
    score: float


class Failure(NamedTuple):
    """Why a slice could not be predicted.

    Attributes
    ----------
    attempts
        How often it was tried, in all runs.
    error
        What went wrong the last time, and what to do.
    at
        When that was, ISO 8601.
    """

    attempts: int
    error: str
    at: str


class Numbered(NamedTuple):
    """An instance that belongs to a specimen, without its mask."""

    id: int
    slice: int
    class_name: str
    specimen: int
    #: 1 where a person has found it, its body or one of its cavities right.
    reviewed: int


class Linked(NamedTuple):
    """What gave the instances of a class in a source their specimens.

    Attributes
    ----------
    linking
        Stands for the specimens of all instances that were linked together, also of other sources.
    slices
        Slices that the source was asked for.
    instances
        Stands for the instances that it had there.
    alignment
        Where the photographs lay, see `Alignment.text`; None: an earlier version did not note it.
    """

    linking: str
    slices: str
    instances: str
    alignment: str | None = None


class Ledger(RunBook):
    """Instances, traced areas, runs and the journal of changes.

    Threads may share it. Each ``store`` is one transaction: a killed process loses the slice it
    was at and nothing before.

    Parameters
    ----------
    path
        ``ledger.sqlite``; made where it is missing.
    read_only
        Change nothing; every method that writes then raises `FossilError`.
    shape
        (y, x) of a slice in pixels, which masks that are read have to have; None: any.

    Raises
    ------
    FossilError
        From every method, where the file is full, locked, damaged or of a newer version.
    """

    def __init__(
        self, path: Path, *, read_only: bool = False, shape: tuple[int, int] | None = None
    ) -> None:
        super().__init__(Database(path, read_only=read_only))
        self._shape = shape
        self._actions = Actions(self._database)
        self.contents = ContentTable(self._database)
        self.places = PlaceTable(self._database, self._actions)

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
        reviewed_too: bool = True,
        action: Action | None = None,
        placed: Placement | None = None,
    ) -> list[int]:
        """Store the instances of slice `z` and mark it finished, in one transaction.

        Predictions never change. A change of the user's set can be undone.

        Parameters
        ----------
        instances
            Their ids are provisional and serve only to tell parents: a parent is the provisional
            id of another input, or else the id of a stored row of the slice.
        replace
            Forget what the source had there before.
        part, class_name
            With `replace`, forget only bodies or only cavities, only one class; None: all.
        reviewed_too
            With `replace`, also forget what a person has found right.
        action
            Action of the user's set that this is a part of, from `begin`; None: one of its own.
        placed
            Where the photograph lay when they were made; None: where it lies now.

        Returns
        -------
        list of int
            New ids in the order of `instances`, never used before.
        """
        with self._writing(source, [z], action or Action("store")) as db:
            if replace:
                _remove(db, source, z, part, class_name, reviewed_too)
            note_made(db, source, z, anew=replace and part is None and class_name is None)
            db.execute("DELETE FROM failed WHERE source = ? AND z = ?", (source, z))
            return _add(db, source, z, instances, placed)

    def instances(
        self,
        source: str,
        *,
        slices: Iterable[int] | None = None,
        class_name: str | None = None,
        part: Part | None = None,
        min_score: float = 0.0,
        ids: Iterable[int] | None = None,
        mask_cut: float = MASK_CUT,
        with_probability: bool = False,
    ) -> list[Instance]:
        """Return the instances of a source, by slice and falling score.

        Parameters
        ----------
        slices, class_name, part, ids
            Keep only these; None keeps all.
        min_score
            Keep only scores >= this.
        mask_cut
            Probability from which on a pixel belongs to a mask; instances without such a pixel
            are left out. Masks that were drawn stay as they are.
        with_probability
            Also read what the masks were cut from, where the ledger holds it.

        Raises
        ------
        FossilError
            Where a row is damaged, or masks are to be cut elsewhere than at one half and
            predictions have no probabilities.
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
        with self._database.reading() as db:
            # It is many times as large as all the rest: read only where it is used.
            read = (mask_cut != MASK_CUT or with_probability) and self._database.keeps_probabilities
            columns = self._columns(WITH_PROBABILITY if read else COLUMNS)
            query = f"SELECT {columns} FROM instances WHERE {where} ORDER BY z, score DESC, id"
            rows = db.execute(query, values).fetchall()
            alignment = _alignment(db)
        instances = self._of_rows(rows)
        of = Source.parse(source)
        if of.model:
            instances = cut_at(instances, mask_cut, of.title)
        if not alignment.entries and not any(row[_COUNT - 1] for row in rows):
            return instances
        made_in = {row[0]: row[_COUNT - 1] for row in rows}
        return [_instance_brought(i, made_in[i.id], alignment.at(i.slice)) for i in instances]

    def _columns(self, columns: str) -> str:
        """Return columns as a ledger of an earlier version that is open for reading has them."""
        return columns if self._database.keeps_placements else columns.replace("placed", "''")

    def instance(self, row: Row) -> Instance:
        """Return the instance of a row, or raise a `DamagedError` that names it.

        Parameters
        ----------
        row
            `COLUMNS` or `WITH_PROBABILITY`.
        """
        return self._of_rows([row])[0]

    def _of_rows(self, rows: Sequence[Row]) -> list[Instance]:
        found: list[Instance] = []
        try:
            for row in rows:
                instance = _from_row(*row[:_COUNT])
                # Decoding one of any size may take any memory.
                if self._shape not in (None, instance.mask.shape):
                    raise ValueError(f"a mask of {instance.mask.shape}, slices are {self._shape}")
                if row[_COUNT:] not in ((), (None,)):
                    # Not kept with the row: it is many times as large.
                    probability = ProbabilityMask.from_bytes(row[_COUNT])
                    instance = replace(instance, probability=probability)
                found.append(instance)
        except (TypeError, ValueError, FossilError) as error:
            raise self._damaged(rows[len(found)], error) from error
        try:
            measure([i.mask for i in found])
        except FossilError:
            for row, instance in zip(rows, found, strict=True):
                try:
                    instance.mask.runs()
                except FossilError as error:
                    raise self._damaged(row, error) from error
            raise
        return found

    def _damaged(self, row: Row, error: Exception) -> DamagedError:
        return DamagedError(
            f"{self.path} holds a damaged instance, number {row[0]} of {row[1]}, in slice {row[2]}",
            found=str(error),
            advice=REPAIR,
        )

    def done(self, source: str) -> set[int]:
        """Return the slices the source has finished, also those where it found nothing."""
        # SQLite keeps any value in any column: what is no number is no slice.
        query = "SELECT z FROM done WHERE source = ? AND typeof(z) = 'integer'"
        return {z for (z,) in self._rows(query, source)}

    def is_done(self, source: str, z: int) -> bool:
        """Return whether the source has finished a slice, see `done`."""
        return bool(self._rows("SELECT 1 FROM done WHERE source = ? AND z = ?", source, z))

    def failed(self, source: str) -> dict[int, Failure]:
        """Return the slices that could not be predicted, and why."""
        query = "SELECT z, attempts, error, at FROM failed WHERE source = ? ORDER BY z"
        with self._database.reading() as db:
            # A ledger of an earlier version that is open for reading has no such table.
            rows = db.execute(query, (source,)) if has(db, "failed") else ()
            return {z: Failure(*row) for z, *row in rows}

    def note_failed(self, source: str, z: int, error: str) -> None:
        """Write that a slice could not be predicted; what the source held there before stays."""
        query = (
            "INSERT INTO failed VALUES (?, ?, 1, ?, ?) ON CONFLICT DO UPDATE SET "
            "attempts = attempts + 1, error = excluded.error, at = excluded.at"
        )
        with self._database.writing() as db:
            db.execute(query, (source, z, error, now()))

    def bytes_of(self, source: str, slices: Iterable[int]) -> int:
        """Return about how many bytes the instances of some slices take."""
        query = (
            "SELECT total(length(counts) + ifnull(length(probability), 0) + ?) FROM instances "
            "WHERE source = ? AND z IN (SELECT value FROM json_each(?))"
        )
        ((size,),) = self._rows(query, _ROW_BYTES, source, json.dumps(list(slices)))
        return int(size)

    def transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """Return a transaction: all that is written inside it happens, or nothing."""
        return self._database.writing()

    def free_ids(self) -> None:
        """Count ids from the largest reasonable one again, where one painted value used them up.

        Up to version 1 any value that a person painted became an id.
        """
        with self._database.writing() as db:
            query = "SELECT ifnull(max(id), 0) FROM instances WHERE id < ?"
            (largest,) = db.execute(query, (_UNREASONABLE_ID,)).fetchone()
            if _last_id(db) >= _UNREASONABLE_ID:
                _use_id(db, largest)

    def forget_blank(self, source: str) -> None:
        """Remove the instances of a source that have no pixel."""
        blank = [(i.id,) for i in self.instances(source) if not i.mask.area]
        with self._database.writing() as db:
            db.executemany("DELETE FROM instances WHERE id = ?", blank)

    def has_probabilities(self, source: str, z: int) -> bool:
        """Return whether the masks of a slice can be cut elsewhere than at one half."""
        query = "SELECT count(*), count(probability) FROM instances WHERE source = ? AND z = ?"
        with self._database.reading() as db:
            if not self._database.keeps_probabilities:
                return False
            count, known = db.execute(query, (source, z)).fetchone()
        return bool(count == known)

    def counts(
        self, source: str, part: Part = Part.BODY, *, min_score: float = 0.0
    ) -> dict[int, int]:
        """Count the instances in each finished slice; a body and its cavities are one.

        Parameters
        ----------
        part
            `Part.CAVITY`: count the cavities instead.
        min_score
            Count only scores >= this.
        """
        query = (
            "SELECT z, count(*) FROM instances WHERE source = ? AND part = ? AND score >= ?"
            " AND typeof(z) = 'integer' GROUP BY z"
        )
        rows = dict(self._rows(query, source, str(part), min_score))
        return dict.fromkeys(sorted(self.done(source)), 0) | rows

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
        there = self.counts(source) | self.counts(source, Part.CAVITY)
        slices = list(there) if slices is None else list(slices)
        pairs = [(source, int(z)) for z in slices]
        with self._writing(source, slices, Action("forget")) as db:
            for table in ("instances", "done", "made_from", "failed"):
                db.executemany(f"DELETE FROM {table} WHERE source = ? AND z = ?", pairs)

    def set_specimens(
        self,
        source: str,
        specimens: Mapping[int, int | None],
        *,
        guessed: bool = False,
        action: Action | None = None,
    ) -> None:
        """Write which specimen instances belong to, by instance id, in one transaction.

        Parameters
        ----------
        guessed
            True where linking found out, and may find out something else the next time.
        """
        rows = [(who, int(guessed), id_, source) for id_, who in specimens.items()]
        slices = self._slices_of(specimens) if source == ANNOTATIONS else ()
        columns = ("specimen", "guessed")
        with self._writing(source, slices, action or Action("link"), columns) as db:
            query = "UPDATE instances SET specimen = ?, guessed = ? WHERE id = ? AND source = ?"
            db.executemany(query, rows)

    def numbered(self, source: str) -> list[Numbered]:
        """Return the instances of a source that belong to a specimen, in stack order."""
        query = (
            "SELECT id, z, class, specimen, ifnull(parent, id) IN "
            "(SELECT ifnull(parent, id) FROM instances WHERE source = ? AND review = ?) "
            "FROM instances WHERE source = ? AND specimen IS NOT NULL ORDER BY z, id"
        )
        rows = self._rows(query, source, REVIEWED, source)
        return [Numbered(*row) for row in rows]

    def known_specimens(self, source: str, class_name: str) -> dict[int, int]:
        """Return the specimens of a class that a file told and linking must keep, by instance."""
        if not self.identified(source, class_name):
            return {}
        query = (
            "SELECT id, specimen FROM instances "
            "WHERE source = ? AND class = ? AND specimen IS NOT NULL AND NOT guessed"
        )
        return dict(self._rows(query, source, class_name))

    def describe(
        self,
        ids: Iterable[int],
        *,
        unsure: bool | None = None,
        texture: str | None = None,
        class_name: str | None = None,
        action: Action | None = None,
    ) -> None:
        """Change properties of instances; None leaves a property as it is.

        Cavities get the class of their body.
        """
        changes = {"unsure": unsure, "texture": texture, "class": class_name}
        changed = {k: v for k, v in changes.items() if v is not None}
        ids = {int(id_) for id_ in ids}
        if class_name is not None:
            query = "SELECT id FROM instances WHERE parent IN (SELECT value FROM json_each(?))"
            ids |= {id_ for (id_,) in self._rows(query, json.dumps(list(ids)))}
        self._update(ids, changed, action or Action("describe"))

    def set_reviewed(
        self, ids: Iterable[int], reviewed: bool = True, action: Action | None = None
    ) -> None:
        """Write whether a person has found instances right."""
        value = REVIEWED if reviewed else ""
        self._update(ids, {"review": value}, action or Action("review"))

    def _update(self, ids: Iterable[int], values: Mapping[str, Any], action: Action) -> None:
        if not values:
            return
        ids = [int(id_) for id_ in ids]
        columns = ", ".join(f"{column} = ?" for column in values)
        rows = [(*values.values(), id_) for id_ in ids]
        with self._writing(ANNOTATIONS, self._slices_of(ids), action, tuple(values)) as db:
            db.executemany(f"UPDATE instances SET {columns} WHERE id = ?", rows)

    def _slices_of(self, ids: Iterable[int]) -> list[int]:
        """Return the slices in which the user's set holds some of the instances."""
        query = (
            "SELECT DISTINCT z FROM instances "
            "WHERE +source = ? AND id IN (SELECT value FROM json_each(?))"
        )
        listed = json.dumps([int(id_) for id_ in ids])
        return [z for (z,) in self._rows(query, ANNOTATIONS, listed)]

    def _writing(
        self,
        source: str,
        slices: Iterable[int],
        action: Action,
        columns: Sequence[str] = STATE_COLUMNS,
    ) -> AbstractContextManager[sqlite3.Connection]:
        """Return one transaction, which the journal keeps where it changes the user's set."""
        if source == ANNOTATIONS:
            return self._actions.noting(slices, action, columns)
        return self._database.writing()

    def reviewed(self) -> dict[int, tuple[int, int]]:
        """Count the reviewed bodies and all bodies of the user's set, by slice."""
        query = (
            "SELECT z, sum(review = ?), count(*) FROM instances {} "
            "WHERE source = 'annotations' AND part = 'body' GROUP BY z"
        )
        with self._database.reading() as db:
            # SQLite would choose the index of all sources and read each row: four times as long.
            index = "instances_by_review"
            query = query.format(f"INDEXED BY {index}" if has(db, index) else "")
        rows = self._rows(query, REVIEWED)
        return {z: (done, every) for z, done, every in rows if isinstance(z, int)}

    def rejected(self, z: int) -> set[int]:
        """Return the ids of the predictions of a slice that a person has found wrong."""
        with self._database.reading() as db:
            if not has(db, "rejected"):
                return set()
            return {id_ for (id_,) in db.execute("SELECT id FROM rejected WHERE z = ?", (z,))}

    def reject(self, z: int, ids: Iterable[int], action: Action | None = None) -> None:
        """Write that predictions of slice `z` are wrong; they stay as they are."""
        with self._actions.noting([z], action or Action("reject")) as db:
            rows = [(id_, z) for id_ in ids]
            db.executemany("INSERT OR IGNORE INTO rejected VALUES (?, ?)", rows)

    def taken_from(self, ids: Iterable[int]) -> dict[int, TakenFrom]:
        """Return which predictions instances of the user's set were taken over from, by id."""
        query = (
            "SELECT id, source, prediction, score FROM taken_over "
            "WHERE id IN (SELECT value FROM json_each(?))"
        )
        with self._database.reading() as db:
            # A ledger of an earlier version that is open for reading has no such table.
            rows = db.execute(query, (json.dumps(list(ids)),)) if has(db, "taken_over") else ()
            return {id_: TakenFrom(*row) for id_, *row in rows}

    # ---------------------------------------------------------- the user's set

    def begin(self, what: str) -> Action:
        """Return an action that several changes can be a part of, to be undone as one.

        Nothing is written before something changes.
        """
        return Action(what)

    def reserve_id(self) -> int:
        """Return an id that no instance ever had and that nobody else is given; makes no row."""
        with self._database.writing() as db:
            (new,) = _new_ids(db, 1)
            _use_id(db, new)
        return new

    def edit(
        self,
        z: int,
        *,
        put: Sequence[Instance] = (),
        remove: Iterable[int] = (),
        what: str = "edit",
        action: Action | None = None,
        traced: Mask | Literal[_Unchanged.UNCHANGED] | None = UNCHANGED,
        clear_traced: bool = False,
    ) -> list[int]:
        """Change the user's set of slice `z` in one transaction that can be undone.

        Parameters
        ----------
        put
            Instances. One with the id of an instance of the set takes its place and keeps its
            review. One with an id from `reserve_id` is new and keeps that id. Any other id is
            provisional, as in `store`: the instance gets a new one.
        remove
            Ids of instances of the set; their cavities go with them.
        what
            What the user did, where no `action` is given.
        action
            Action that this is a part of, from `begin`.
        traced
            Part of the slice that is annotated completely; None: all of it.
        clear_traced
            Remove the traced area.

        Returns
        -------
        list of int
            Ids in the order of `put`.

        Raises
        ------
        FossilError
            Where an instance belongs to another slice, or the ledger cannot be written.
        """
        with self._actions.noting([z], action or Action(what)) as db:
            ids = _put(db, z, put, remove)
            if clear_traced:
                db.execute("DELETE FROM traced WHERE z = ?", (z,))
            elif traced is not UNCHANGED:
                _set_traced(db, z, traced)
        return ids

    def revise(
        self,
        z: int,
        change: Callable[[list[Instance]], tuple[Sequence[Instance], Iterable[int]]],
        *,
        what: str = "edit",
        action: Action | None = None,
    ) -> list[int]:
        """Change the user's set of slice `z` by what it holds now, whoever wrote that.

        Parameters
        ----------
        change
            Takes the instances of the slice and returns those to put and the ids of those to
            remove, as `edit` has them. It is called inside the transaction, so that nothing
            comes in between.
        what, action
            See `edit`.

        Returns
        -------
        list of int
            Ids in the order of what was put.
        """
        with self._actions.noting([z], action or Action(what)) as db:
            put, remove = change(self.instances(ANNOTATIONS, slices=[z]))
            return _put(db, z, put, remove)

    def take_over(
        self,
        z: int,
        instances: Sequence[Instance],
        source: str = "",
        *,
        class_name: str | None = None,
        overwrite: bool = False,
        reviewed_too: bool = False,
        action: Action | None = None,
    ) -> TakenOver | None:
        """Copy instances into the user's set of slice `z`, which then waits to be checked.

        Looking and writing are one transaction, so that two programs never do it twice.

        Parameters
        ----------
        instances
            Predictions as they are stored.
        source
            Where they are from: they stay made from the photograph that it was made from.
        class_name
            The only class that is taken over; None: all.
        overwrite
            Take the place of what the set holds of the class. The slice is then not traced any
            more: nobody has looked at it as it is.
        reviewed_too
            Also of what a person has found right; else that stays, and what lies on it is left
            out.

        Returns
        -------
        TakenOver or None
            None where the slice was kept: it is traced, or the set holds instances of the class.
        """
        with self._actions.noting([z], action or Action("take over")) as db:
            query = (
                "SELECT count(*) FROM instances "
                "WHERE source = ? AND z = ? AND class = ifnull(?, class)"
            )
            (there,) = db.execute(query, (ANNOTATIONS, z, class_name)).fetchone()
            (traced,) = db.execute("SELECT count(*) FROM traced WHERE z = ?", (z,)).fetchone()
            if (there or traced) and not overwrite:
                return None
            new = list(instances)
            if not reviewed_too:
                own = self.instances(ANNOTATIONS, slices=[z])
                new = beside_reviewed(new, own)
            removed = _remove(db, ANNOTATIONS, z, None, class_name, reviewed_too)
            db.execute("DELETE FROM traced WHERE z = ?", (z,))
            note_made(db, ANNOTATIONS, z, anew=class_name is None, copied=source)
            # Its number of a specimen means nothing among those of the user's set.
            ids = _add(db, ANNOTATIONS, z, [replace(i, score=1.0, specimen=None) for i in new])
            self.note_taken(source, dict(zip(ids, new, strict=True)))
            return TakenOver(ids, removed, bool(traced), len(instances) - len(new))

    def note_taken(self, source: str, predictions: Mapping[int, Instance]) -> None:
        """Write which predictions instances of the user's set were taken over from, by id."""
        rows = [(id_, source, i.id or 0, i.score) for id_, i in predictions.items()]
        with self._database.writing() as db:
            db.executemany("INSERT OR REPLACE INTO taken_over VALUES (?, ?, ?, ?)", rows)

    def name_version(self, name: str) -> None:
        """Name the state of the user's set at present, to be restored at any time."""
        self._actions.name_version(name)

    def versions(self) -> list[Version]:
        """Return the named versions of the user's set, newest first."""
        return self._actions.versions()

    def restore(self, name: str) -> Undone:
        """Bring the user's set back to a named version, as one new action."""
        return self._actions.restore(name)

    def undo(self) -> Undone | None:
        """Undo the newest action of the user's set; None where there is none left."""
        return self._actions.undo()

    def redo(self) -> Undone | None:
        """Redo the action that was undone last; None where something was done since then."""
        return self._actions.redo()

    def history(self, limit: int = 20) -> list[PastAction]:
        """Return the newest actions of the user's set, newest first."""
        return self._actions.history(limit)

    # ---------------------------------------------------------- traced areas

    def set_traced(self, z: int, area: Mask | None, action: Action | None = None) -> None:
        """Write which part of slice `z` is annotated completely; None: all of it."""
        self.edit(z, traced=area, what="trace", action=action)

    def add_traced(self, z: int, area: Mask | None, action: Action | None = None) -> None:
        """Add to the completely annotated part of slice `z`."""
        with self._actions.noting([z], action or Action("trace")) as db:
            row = db.execute(f"SELECT {AREA_COLUMNS} FROM traced WHERE z = ?", (z,)).fetchone()
            if row is not None and area is not None:
                before = self.area(z, *row)
                here = _alignment(db).at(z)
                area = None if before is None else _brought(before, row[3], here) | area
            _set_traced(db, z, area)
            db.execute("INSERT OR IGNORE INTO done (source, z) VALUES (?, ?)", (ANNOTATIONS, z))

    def traced(self) -> dict[int, Mask | None]:
        """Return the completely annotated part of each traced slice; None: all of it."""
        rows = self._rows(f"SELECT z, {self._columns(AREA_COLUMNS)} FROM traced ORDER BY z")
        alignment = self.alignment()
        areas = {z: (self.area(z, *code), code[-1]) for z, *code in rows}
        return {
            z: None if area is None else _brought(area, made_in, alignment.at(z))
            for z, (area, made_in) in areas.items()
        }

    def area(
        self, z: int, height: int, width: int, counts: bytes | None, placed: str
    ) -> Mask | None:
        """Return the traced area of a row as it was made, or raise a `DamagedError`."""
        if counts is None:
            return None
        area = Mask((height, width), counts)
        try:
            area.runs()
            Placement.parse(placed)
        except (TypeError, ValueError, FossilError) as error:
            raise DamagedError(
                f"{self.path} holds a damaged traced area of slice {z}",
                found=str(error),
                advice=REPAIR,
            ) from error
        return area

    def unset_traced(self, z: int, action: Action | None = None) -> None:
        """Remove the traced area of slice `z`; its instances stay."""
        self.edit(z, clear_traced=True, what="untrace", action=action)

    def to_trace(self) -> list[int]:
        """Return the slices that are marked to be traced, and are not yet."""
        return sorted(set(self.get_meta(TO_TRACE, [])) - self.traced().keys())

    def set_to_trace(self, slices: Iterable[int], action: Action | None = None) -> None:
        """Mark slices to be traced in place of all that are marked; it can be undone."""
        with self._actions.noting((), action or Action("mark to trace")) as db:
            row = (TO_TRACE, json.dumps(sorted({*slices})))
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", row)

    def alignment(self) -> Alignment:
        """Return where the photographs lie."""
        with self._database.reading() as db:
            return _alignment(db)

    def set_alignment(self, alignment: Alignment, action: Action | None = None) -> None:
        """Write where the photographs lie; it can be undone.

        What was drawn and predicted moves with them: each mask keeps where its photograph lay when
        it was made, and is moved from there when it is read.
        """
        with self._actions.noting((), action or Action("align")) as db:
            row = (ALIGNMENT, alignment.text())
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", row)
            mark_moved(db)

    def motions(self) -> dict[int, tuple[str, Placement | None]]:
        """Return what lays slices over the one before each, and what both photographs were."""
        with self._database.reading() as db:
            rows = db.execute("SELECT z, pair, motion FROM motions") if has(db, "motions") else ()
            return {z: (pair, None if m is None else Placement.parse(m)) for z, pair, m in rows}

    def note_motion(self, z: int, pair: str, motion: Placement | None) -> None:
        """Write what lays slice `z` over the one before; None: they have nothing in common."""
        text = None if motion is None else motion.text()
        with self._database.writing() as db:
            db.execute("INSERT OR REPLACE INTO motions VALUES (?, ?, ?)", (z, pair, text))

    def drawn(self) -> list[int]:
        """Return the slices that are traced, or hold a body of the user's set that tells something.

        An interpolated one does not before a person has found it right.
        """
        query = (
            "SELECT z FROM traced UNION SELECT z FROM instances WHERE source = ? "
            "AND part = 'body' AND (origin <> 'interpolated' OR review = ?) ORDER BY z"
        )
        return [z for (z,) in self._rows(query, ANNOTATIONS, REVIEWED)]

    def annotated(self) -> list[int]:
        """Return the slices that are traced, wholly or in part, or hold imported instances."""
        return sorted(set(self.traced()) | self.done(ANNOTATIONS))

    # ------------------------------------------------------------------ rest

    def identified(self, source: str, class_name: str = "") -> bool:
        """Return True where the specimens of a source came with a file and are not to be guessed.

        With a class: where those of that class are still the file's.
        """
        identified = bool(self.get_meta(f"identified:{source}", False))
        guessed = self.get_meta(f"guessed:{source}", [])
        return identified and class_name not in (guessed if isinstance(guessed, list) else [])

    def set_identified(self, source: str, identified: bool, action: Action | None = None) -> None:
        """Write whether the specimens of a source came with a file."""
        facts = {f"guessed:{source}": [], f"identified:{source}": identified}
        self._set_facts(source, facts, action)

    def set_guessed(self, source: str, class_name: str, action: Action | None = None) -> None:
        """Write that linking gave the specimens of one class; other classes stay as they are."""
        guessed = {*self.get_meta(f"guessed:{source}", []), class_name}
        self._set_facts(source, {f"guessed:{source}": sorted(guessed)}, action)

    def linked(self, source: str, class_name: str) -> Linked | None:
        """Return what gave the instances of a class their specimens; None: no linking did."""
        noted = self.get_meta(f"linked:{source}", {})
        match noted.get(class_name) if isinstance(noted, dict) else None:
            case [str(linking), str(slices), str(instances), *alignment]:
                return Linked(linking, slices, instances, *alignment[:1])
        return None

    def set_linked(
        self, source: str, class_name: str, linked: Linked, action: Action | None = None
    ) -> None:
        """Write what gave the instances of a class their specimens; undone with them."""
        noted = self.get_meta(f"linked:{source}", {})
        noted = noted if isinstance(noted, dict) else {}
        self._set_facts(source, {f"linked:{source}": noted | {class_name: list(linked)}}, action)

    def _set_facts(self, source: str, facts: Mapping[str, Any], action: Action | None) -> None:
        rows = [(key, json.dumps(value)) for key, value in facts.items()]
        with self._writing(source, (), action or Action("link")) as db:
            db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _last_id(db: sqlite3.Connection) -> int:
    """Return the largest id that a row ever had; a transaction keeps the next ones ours."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'instances'").fetchone()
    return int(row[0]) if row else 0


def _new_ids(db: sqlite3.Connection, count: int) -> list[int]:
    """Return ids that no row ever had."""
    first = _last_id(db) + 1
    if first + count > LARGEST_ID:
        raise FossilError("The ledger has no instance ids left", expected=f"up to {LARGEST_ID}")
    return list(range(first, first + count))


def _use_id(db: sqlite3.Connection, id_: int) -> None:
    """Let no row get an id up to `id_` by itself any more."""
    query = "UPDATE sqlite_sequence SET seq = ? WHERE name = 'instances'"
    if not db.execute(query, (id_,)).rowcount:
        db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('instances', ?)", (id_,))


def _ids_of(db: sqlite3.Connection, given: Sequence[int | None], stored: set[int]) -> list[int]:
    """Return the ids that instances of a slice get, see `Ledger.edit`.

    Parameters
    ----------
    stored
        Ids that the user's set has in the slice.
    """
    listed = json.dumps([id_ for id_ in given if id_ is not None])
    query = "SELECT id FROM instances WHERE id IN (SELECT value FROM json_each(?))"
    taken = {id_ for (id_,) in db.execute(query, (listed,))} - stored
    last = _last_id(db)
    kept = [
        id_ if id_ is not None and 0 < id_ <= last and id_ not in taken else None for id_ in given
    ]
    fresh = iter(_new_ids(db, kept.count(None)))
    return [next(fresh) if id_ is None else id_ for id_ in kept]


def _put(
    db: sqlite3.Connection, z: int, put: Sequence[Instance], remove: Iterable[int]
) -> list[int]:
    """Put instances into the user's set of a slice and remove others; see `Ledger.edit`."""
    query = "SELECT id FROM instances WHERE source = ? AND z = ?"
    stored = {id_ for (id_,) in db.execute(query, (ANNOTATIONS, z))}
    ids = _ids_of(db, [i.id for i in put], stored)
    rows = _to_rows(ANNOTATIONS, z, put, ids, _alignment(db).at(z))
    # Not REPLACE: that would delete the row, and its cavities with it.
    db.executemany(_UPSERT, rows)
    # Last: cavities go with their body unless they have another one, or none, by then.
    gone = [(int(id_),) for id_ in set(remove) & stored - set(ids)]
    db.executemany("DELETE FROM instances WHERE id = ?", gone)
    note_made(db, ANNOTATIONS, z, anew=False)
    db.execute("INSERT OR IGNORE INTO done (source, z) VALUES (?, ?)", (ANNOTATIONS, z))
    return ids


def _remove(
    db: sqlite3.Connection,
    source: str,
    z: int,
    part: Part | None,
    class_name: str | None,
    reviewed_too: bool,
) -> int:
    """Remove instances of a source in a slice, of every part and class where None; count them."""
    # A body and its cavities stay together.
    where = (
        "WHERE source = ? AND z = ? AND part = ifnull(?, part) AND class = ifnull(?, class) "
        "AND (? OR ifnull(parent, id) NOT IN "
        "(SELECT ifnull(parent, id) FROM instances WHERE source = ? AND z = ? AND review = ?))"
    )
    values = (source, z, part and str(part), class_name, reviewed_too, source, z, REVIEWED)
    # Cavities that go with their body are not in the number of deleted rows.
    (count,) = db.execute(f"SELECT count(*) FROM instances {where}", values).fetchone()
    db.execute(f"DELETE FROM instances {where}", values)
    return int(count)


def _add(
    db: sqlite3.Connection,
    source: str,
    z: int,
    instances: Sequence[Instance],
    placed: Placement | None = None,
) -> list[int]:
    """Add instances with new ids and mark the slice finished."""
    here = _alignment(db).at(z) if placed is None else placed
    rows = _to_rows(source, z, instances, _new_ids(db, len(instances)), here)
    db.executemany(_INSERT, rows)
    db.execute("INSERT OR IGNORE INTO done (source, z) VALUES (?, ?)", (source, z))
    return [row[0] for row in rows]


def _set_traced(db: sqlite3.Connection, z: int, area: Mask | None) -> None:
    code = (None, None, None) if area is None else (*area.shape, area.counts)
    row = (z, *code, _alignment(db).at(z).text())
    db.execute("INSERT OR REPLACE INTO traced VALUES (?, ?, ?, ?, ?)", row)
    # Who marks a slice as traced has looked at it.
    note_made(db, ANNOTATIONS, z, anew=True)


_AS_TAKEN: ContextVar[bool] = ContextVar("as_taken", default=False)


@contextmanager
def as_taken() -> Iterator[None]:
    """Read and write, in this thread, as if all photographs lay as they were taken.

    For files of other programs, which know the photographs alone.
    """
    token = _AS_TAKEN.set(True)
    try:
        yield
    finally:
        _AS_TAKEN.reset(token)


def _alignment(db: sqlite3.Connection) -> Alignment:
    if _AS_TAKEN.get() or not has(db, "meta"):
        return Alignment()
    row = db.execute("SELECT value FROM meta WHERE key = ?", (ALIGNMENT,)).fetchone()
    return Alignment.parse(str(row[0])) if row else Alignment()


def _brought(mask: Mask, made_in: str, here: Placement) -> Mask:
    """Return a mask where its photograph lies now; it was made where that lay then."""
    then = Placement.parse(made_in)
    return mask if then == here else moved(mask, here.after(then.inverse))


def _instance_brought(item: Instance, made_in: str, here: Placement) -> Instance:
    then = Placement.parse(made_in)
    if then == here:
        return item
    motion = here.after(then.inverse)
    told = item.probability
    if told is not None:
        told = moved_probability(told, motion, item.mask.shape)
    return replace(item, mask=moved(item.mask, motion), probability=told)


def _to_rows(
    source: str, z: int, instances: Sequence[Instance], ids: Sequence[int], placed: Placement
) -> list[Row]:
    """Return rows of `instances` (`WITH_PROBABILITY`) with their new ids.

    The user's set keeps no probabilities: what a person edits is the mask. A parent among the
    inputs is replaced by its new id; any other is taken for a stored row.
    """
    given = [i.id for i in instances if i.id is not None]
    if len(set(given)) != len(given):
        raise FossilError(f"Two instances of slice {z} ({source}) have the same id")
    new_ids = {i.id: new for new, i in zip(ids, instances, strict=True) if i.id is not None}
    rows: list[Row] = []
    for new, item in zip(ids, instances, strict=True):
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
            REVIEWED if item.reviewed else "",
            placed.text(),
            None
            if item.probability is None or source == ANNOTATIONS
            else item.probability.to_bytes(),
        )
        rows.append(row)
    return rows


# Each stroke reads all instances of its slice, whose masks are checked once. The last few slices
# are enough. 1.0 is no 1 here.
@lru_cache(maxsize=4096, typed=True)
def _from_row(*row: Any) -> Instance:
    """Return the instance of a row (`COLUMNS`); the same one for the same row.

    Raises
    ------
    TypeError, ValueError, FossilError
        Where a value is none that this program writes: SQLite keeps values of any type. Codes of
        masks are not looked at.
    """
    (id_, _, z, name, part, score, height, width, counts, texture, unsure, origin, who, parent,
     review, placed) = row  # fmt: skip
    whole = {"z": z, "height": height, "width": width, "unsure": unsure}
    given = {"specimen": who, "parent": parent}
    for word, value in (whole | {k: v for k, v in given.items() if v is not None}).items():
        if type(value) is not int:
            raise TypeError(f"{word} is {value!r}")
    for word, value in (("class", name), ("texture", texture)):
        if type(value) is not str:
            raise TypeError(f"{word} is {value!r}")
        # Bytes that are no text come from the file as lone surrogates.
        value.encode()
    if type(counts) is not bytes or not math.isfinite(score):
        raise TypeError(f"score is {score!r}, the mask {type(counts).__name__}")
    mask = Mask((height, width), counts)
    Placement.parse(placed)
    return Instance(
        slice=z,
        class_name=name,
        mask=mask,
        score=score,
        part=Part(part),
        texture=texture,
        unsure=bool(unsure),
        origin=Origin(origin),
        specimen=who,
        id=id_,
        parent=parent,
        reviewed=review == REVIEWED,
    )
