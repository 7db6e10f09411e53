"""Give items names, as one change of the annotations that can be undone, and exchange names."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.tables import require_table, write_table
from napari_fossiledit.files import explained, plain_name
from napari_fossiledit.masks import Instance, Part
from napari_fossiledit.morphospace.embedding import content_of
from napari_fossiledit.params.morphospace import NameParams, Naming, PointsParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import ANNOTATIONS, Ledger, Project
from napari_fossiledit.summary import Summary
from napari_fossiledit.workflows.annotate.corrections import counted, parse_ids
from napari_fossiledit.workflows.morphospace.points import Points, read_points

RUN = "morphospace name"
"""Kind of run under which the ledger notes where names came from."""


@dataclass(frozen=True)
class NameResult(Summary):
    """Names that were given.

    Attributes
    ----------
    naming
        What the names are: ``class`` or ``texture``; ``picture`` in a folder, whose files stay as
        they are.
    given
        How many items were given each name.
    reviewed
        Items that were left alone, as a person has found them right.
    unchanged
        Items that have the name already.
    rule
        Which items were meant.
    notes
        What was left out or assumed, in sentences.
    """

    naming: str
    given: Mapping[str, int]
    reviewed: int
    unchanged: int
    rule: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class NamesResult(Summary):
    """A table of names that was written: its file and number of rows."""

    file: Path
    rows: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Wanted:
    """Names by row of the embedding, where they come from, and how sure that is."""

    names: Mapping[int, str]
    rule: str
    confidence: Mapping[int, float | None]
    notes: tuple[str, ...] = ()
    #: Whether all sections of their specimens get the same name.
    whole: bool = False


def name(source: Path, params: NameParams, *, job: Job = QUIET) -> NameResult:
    """Give items of a project a class or a texture, as one action that can be undone.

    The run that the ledger notes with it has the model, its hash, the rule, and the confidence of
    each name. What a person has found right is left alone unless asked. Pictures of a folder keep
    their place; their names are noted with the embedding.

    Raises
    ------
    FossilError
        Where it is not clear what gets which name, or nothing may be changed.
    """
    points = read_points(source, params.embedding)
    wanted = _wanted(points, params)
    if not points.is_project:
        return _name_pictures(points, params, wanted)
    naming = params.naming or Naming(points.embedding.named_by or Naming.CLASS)
    embedding = points.embedding
    provenance = {
        "model": embedding.model,
        "model_hash": embedding.model_hash,
        "rule": wanted.rule,
    }
    with Project.open(source) as project:
        project.require_writable()
        ledger, given = project.ledger, params.model_dump(mode="json") | provenance
        # In one transaction: no name without where it came from.
        with ledger.transaction(), ledger.recorded(RUN, given) as record:
            changes = _Changes(points, wanted, ledger, naming)
            ids = changes.free(reviewed_too=params.reviewed_too)
            action = ledger.begin(
                f"name {counted([*ids])}: {wanted.rule}, {embedding.model}"
                f" {embedding.model_hash[:8]}"
            )
            for text in dict.fromkeys(ids.values()):
                those = [id_ for id_, own in ids.items() if own == text]
                texture, kind = (text, None) if naming is Naming.TEXTURE else (None, text)
                ledger.describe(those, texture=texture, class_name=kind, action=action)
            if naming is Naming.CLASS:
                ledger.set_specimens(ANNOTATIONS, changes.specimens(ids), action=action)
            record["action"] = action.id
            record["names"] = {str(k): [text, changes.confidence.get(k)] for k, text in ids.items()}
    return NameResult(
        str(naming),
        dict(Counter(ids.values())),
        changes.reviewed,
        changes.unchanged,
        wanted.rule,
        (*points.notes, *wanted.notes, *changes.notes),
    )


class _Changes:
    """What of the wanted names is to be written to the user's set, as it is now."""

    def __init__(self, points: Points, wanted: _Wanted, ledger: Ledger, naming: Naming) -> None:
        own = ledger.instances(ANNOTATIONS)
        self.every: dict[int | None, Instance] = {i.id: i for i in own}
        self.notes: list[str] = []
        self.reviewed = self.unchanged = 0
        self.naming = naming
        taken = ledger.taken_from([i.id for i in own if i.id is not None])
        copies = {t.prediction: id_ for id_, t in taken.items()}
        items = points.embedding.items
        for given in {*wanted.names.values()} if naming is Naming.CLASS else ():
            # Meshes and folders are called by it.
            plain_name(given, "a class")
        self.names: dict[int, str] = {}
        self.confidence: dict[int, float | None] = {}
        left = 0
        for row, given in wanted.names.items():
            # A prediction never changes; what was taken over of it does.
            meant = items[row]
            ids = [
                id_ if id_ in self.every else copies.get(id_)
                for id_ in meant.sections or (meant.instance or 0,)
            ]
            own = [self.every[id_] for id_ in ids if id_ is not None]
            if len(own) < len(ids) or content_of(*(i.mask for i in own)) != meant.content:
                left += 1
                continue
            self.names |= {i.id or 0: given for i in own}
            self.confidence |= {i.id or 0: wanted.confidence.get(row) for i in own}
        if left:
            self.notes.append(
                f"{left} items are predictions, which never change: take them over to name them."
            )
        if wanted.whole:
            # Also sections that are too small, or too new, to be in the embedding.
            kin = {_kin(self.every[id_]): given for id_, given in self.names.items()}
            for id_, item in self.every.items():
                if id_ is not None and item.part is Part.BODY and _kin(item) in kin:
                    self.names.setdefault(id_, kin[_kin(item)])

    def free(self, *, reviewed_too: bool) -> dict[int, str]:
        """Return the names that are new, by id; a fossil is locked together with its cavities."""
        locked = {i.family for i in self.every.values() if i.reviewed and not reviewed_too}
        found = {}
        for id_, given in self.names.items():
            item = self.every[id_]
            own = item.texture if self.naming is Naming.TEXTURE else item.class_name
            if own == given:
                self.unchanged += 1
            elif item.family in locked:
                self.reviewed += 1
            else:
                found[id_] = given
        if not found:
            raise FossilError(
                "No item gets another name",
                expected="annotations that have another name and that nobody has found right",
                found=f"{len(self.names)} annotations: {self.unchanged} have the name already,"
                f" {self.reviewed} are reviewed",
                advice=" ".join(self.notes),
            )
        return found

    def specimens(self, ids: Mapping[int, str]) -> dict[int, int | None]:
        """Return numbers of specimens that are free in the new class, by id, cavities included.

        Numbers begin anew in each class; sections of one specimen that get the same class stay one.
        """
        used = Counter[str]()
        for item in self.every.values():
            used[item.class_name] = max(used[item.class_name], item.specimen or 0)
        fresh: dict[tuple[str, tuple[str, int | None]], int] = {}
        numbers: dict[int, int | None] = {}
        stay = set()
        for id_, item in self.every.items():
            given = ids.get(item.family or 0)
            if id_ is None or item.specimen is None:
                continue
            if given is None:
                stay.add(_kin(item))
                continue
            if (given, _kin(item)) not in fresh:
                used[given] += 1
                fresh[given, _kin(item)] = used[given]
            numbers[id_] = fresh[given, _kin(item)]
        if parted := len({kin for _, kin in fresh} & stay):
            self.notes.append(
                f"{parted} specimens got another class in a part of their sections, which are a"
                " specimen of their own now."
            )
        return numbers


def _kin(item: Instance) -> tuple[str, int | None]:
    """Return which specimen an instance is of: numbers begin anew in each class."""
    return item.class_name, item.specimen


def _wanted(points: Points, params: NameParams) -> _Wanted:
    ways = {
        "items": bool(params.items),
        "specimens": bool(params.specimens),
        "a cluster": params.cluster is not None,
        "a confidence": params.confidence > 0,
        "a file": params.file is not None,
    }
    asked = [way for way, given in ways.items() if given]
    itself = params.confidence > 0 or params.file is not None
    if len(asked) != 1 or bool(params.name.strip()) == itself:
        raise FossilError(
            "It is not clear what gets which name",
            expected="a name and either items, specimens or a cluster; or without a name a"
            " confidence or a file",
            found=f"{params.name!r} for {' and '.join(asked) or 'nothing'}",
        )
    items = points.embedding.items
    if params.file is not None:
        return _from_file(points, params.file)
    if params.confidence:
        sure = points.column("confidence")
        names = {
            n: answer
            for n, answer in enumerate(points.column("class"))
            if answer is not None and items[n].name is None and sure[n] >= params.confidence
        }
        how = points.made.get("classify", {}).get("method", "classifier")
        rule, rows = f"{how}, confidence from {params.confidence:g}", [*names]
    else:
        if params.items:
            rows, rule = points.rows(params.items), "chosen"
        elif params.specimens:
            numbers = parse_ids(params.specimens)
            rows = [n for n, item in enumerate(items) if item.specimen in numbers]
            rule = f"specimens {params.specimens}"
            if len({items[n].group for n in rows}) > len(numbers):
                raise FossilError(
                    "Specimens of several classes have these numbers",
                    expected="numbers of one class",
                    found=", ".join(sorted({items[n].group for n in rows})),
                    advice="Name their items.",
                )
        else:
            of = points.column("cluster")
            rows = [n for n, number in enumerate(of) if number == params.cluster]
            rule = f"cluster {params.cluster}"
        names, sure = dict.fromkeys(rows, params.name.strip()), [None] * len(items)
    if not names:
        raise FossilError(
            "There is nothing to name",
            expected="items of the embedding",
            found=f"none for {rule}",
            advice="Classify or cluster first." if not params.specimens else "",
        )
    return _Wanted(names, rule, {n: sure[n] for n in rows}, whole=bool(params.specimens))


def _from_file(points: Points, path: Path) -> _Wanted:
    with explained(path, "Reading"):
        data = path.read_bytes()
    try:
        rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise FossilError(
            f"{path} cannot be read", expected="a table (CSV, UTF-8)", found=str(error)
        ) from error
    if not rows or not {"key", "name"} <= rows[0].keys():
        raise FossilError(
            f"{path} is no table of names",
            expected="the columns key and name, as `fossiledit morphospace names` writes them",
            found=", ".join(map(str, rows[0])) if rows else "no row",
        )
    at = {item.key: row for row, item in enumerate(points.embedding.items)}
    given = {_text(row["key"]): row for row in rows if _text(row["name"])}
    names = {at[key]: _text(row["name"]) for key, row in given.items() if key in at}
    if not names:
        raise FossilError(
            f"{path} names nothing of the embedding {points.name}",
            expected=f"keys such as {points.embedding.items[0].key}",
            found=next(iter(given), "no name"),
        )
    notes = []
    if missing := len(given) - len(names):
        notes.append(f"{missing} rows of {path.name} name what is not in the embedding.")
    sure: dict[int, float | None] = {}
    for key, row in given.items():
        if key in at:
            try:
                sure[at[key]] = float(row.get("confidence") or "")
            except ValueError:
                sure[at[key]] = None
    return _Wanted(names, f"file {path.name}", sure, tuple(notes))


def _text(cell: str | None) -> str:
    """Return a text without the mark that keeps a spreadsheet from taking it for a formula."""
    text = (cell or "").strip()
    return text[1:] if text[:1] == "'" and text[1:2] in ("=", "+", "-", "@") else text


def _name_pictures(points: Points, params: NameParams, wanted: _Wanted) -> NameResult:
    items = points.embedding.items
    new = {items[n].key: given for n, given in wanted.names.items() if items[n].name != given}
    old = {key: row["given"] for key, row in points.said.items() if "given" in row}
    points.say(
        "name",
        params.model_dump(mode="json") | {"rule": wanted.rule},
        {"given": old | new},
    )
    return NameResult(
        "picture",
        dict(Counter(new.values())),
        0,
        len(wanted.names) - len(new),
        wanted.rule,
        (*points.notes, *wanted.notes, "The pictures stay in their folders."),
    )


def export_names(source: Path, out: Path, params: PointsParams, *, job: Job = QUIET) -> NamesResult:
    """Write the name of each item, or what the classifier says of it, as CSV or JSON.

    A confidence and a model tell what a classifier said; names that a person gave have none. Items
    that neither has named have an empty name, to be filled in; `name` reads the CSV back.

    Raises
    ------
    FossilError
        Where the file cannot be written.
    """
    require_table(out)
    points = read_points(source, params.embedding)
    if points.is_project:
        with Project.open(source, read_only=True) as project:
            project.require_not_a_part(out)
    answers, sure = points.column("class"), points.column("confidence")
    rows: list[dict[str, Any]] = []
    for n, item in enumerate(points.embedding.items):
        told = item.name is None and answers[n] is not None
        row = {
            "key": item.key,
            "slice": item.slice,
            "specimen": item.specimen,
            "name": answers[n] if told else item.name or "",
            "confidence": sure[n] if told else None,
            "model": f"{points.embedding.model} {points.embedding.model_hash[:12]}" if told else "",
        }
        rows.append(row)
    write_table(rows, out)
    return NamesResult(out, len(rows), points.notes)
