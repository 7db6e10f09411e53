"""The points of a project or a folder of pictures as they are now, and what was said of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import read_json, write_json
from napari_fossiledit.masks import Instance
from napari_fossiledit.morphospace.crops import content_of_picture
from napari_fossiledit.morphospace.embedding import Embedding, Item, content_of
from napari_fossiledit.morphospace.maps import Map
from napari_fossiledit.project import Project
from napari_fossiledit.stacks.decode import read_image
from napari_fossiledit.workflows.morphospace.sources import is_project

_EMBED = "Make it again with `fossiledit morphospace embed`."
#: Columns of the table that come from what was said of items.
SAID = ("given", "class", "confidence", "cluster")


@dataclass
class Points:
    """The points of an embedding that are still what they were, and what was said of them.

    Attributes
    ----------
    embedding
        Items with the names and specimens that they have now.
    folder
        Where results lie.
    name
        Of the embedding.
    is_project
        Whether the items are instances of a project.
    notes
        What was left out or assumed, in sentences.
    said
        What classifiers, clusters and people said: values by column, by key of an item.
    made
        How that came about, by command.
    """

    embedding: Embedding
    folder: Path
    name: str
    is_project: bool
    notes: tuple[str, ...]
    said: dict[str, dict[str, Any]] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)

    def path(self, what: str) -> Path:
        """Return the file of a result."""
        return self.folder / f"{self.name}-{what}"

    def say(
        self, command: str, how: Mapping[str, Any], columns: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Write what a command says of items, by column and key; it forgets what it said before."""
        for row in self.said.values():
            for column in columns:
                row.pop(column, None)
        for column, values in columns.items():
            for key, value in values.items():
                if value is not None:
                    self.said.setdefault(key, {})[column] = value
        self.made[command] = dict(how)
        content = {
            "model_hash": self.embedding.model_hash,
            "made": self.made,
            "items": {key: row for key, row in self.said.items() if row},
        }
        write_json(self.path("said.json"), content)

    def column(self, name: str) -> list[Any]:
        """Return what was said of each item, in the order of the embedding."""
        return [self.said.get(item.key, {}).get(name) for item in self.embedding.items]

    def map(self) -> Map | None:
        """Return the map, None where there is none of this model."""
        path = self.path("map.npz")
        found = Map.load(path) if path.exists() else None
        return found if found and found.model_hash == self.embedding.model_hash else None

    def table(self, *, with_map: bool = True) -> dict[str, list[Any]]:
        """Return a column for each property of the items: the ``features`` of a napari layer.

        ``label`` is the id of an instance, which the Labels layer paints, or the row from 1 on;
        ``x`` and ``y`` are of the map, and without it None.
        """
        items = self.embedding.items
        made = self.map() if with_map else None
        rows = [None] * len(items) if made is None else made.rows_of(self.embedding)
        places = [(None, None) if made is None or r is None else made.points[r] for r in rows]
        return {
            "label": [item.instance or n for n, item in enumerate(items, 1)],
            "key": [item.key for item in items],
            "slice": [item.slice for item in items],
            "specimen": [item.specimen for item in items],
            "name": [item.name for item in items],
            "x": [None if x is None else float(x) for x, _ in places],
            "y": [None if y is None else float(y) for _, y in places],
            **{column: self.column(column) for column in SAID[1:]},
        }

    def rows(self, text: str) -> list[int]:
        """Return the rows of items as a user names them: ids of instances, or keys.

        Raises
        ------
        FossilError
            Where there is no such item.
        """
        at = {item.key: row for row, item in enumerate(self.embedding.items)}
        by_id = {str(i.instance): row for row, i in enumerate(self.embedding.items) if i.instance}
        # A picture may have a comma in its name.
        asked = [text] if text in at else [p.strip() for p in text.split(",") if p.strip()]
        missing = [part for part in asked if part not in by_id and part not in at]
        if missing or not asked:
            raise FossilError(
                f"The embedding {self.name} has no item {', '.join(missing)}"
                if missing
                else "No item is named",
                expected=f"ids or keys, e.g. {self.embedding.items[0].key}",
                advice="What was drawn since it was made is not in it." if missing else "",
            )
        return list(dict.fromkeys(by_id[p] if p in by_id else at[p] for p in asked))


def results_folder(source: Path) -> Path:
    """Return where the results of a project or a folder of pictures lie.

    Raises
    ------
    FossilError
        Where it is no folder.
    """
    if is_project(source):
        return source / "morphospace"
    if not source.is_dir():
        raise FossilError(
            f"{source} is no source of pictures",
            expected="a project, or a folder of pictures",
            found="a file" if source.exists() else "nothing of that name",
        )
    # Beside it: a second look must not take results for pictures.
    whole = source.resolve()
    return whole.with_name(f"{whole.name}-morphospace")


def read_points(source: Path, name: str) -> Points:
    """Return the points of an embedding that are still what they were when it was made.

    Instances that were changed since, and what was deleted, are left out; names and specimens are
    those of now. Pictures are read again where their files were touched since.

    Raises
    ------
    FossilError
        Where there is no such embedding, or nothing of it is left.
    """
    folder = results_folder(source)
    path = folder / f"{name}.npz"
    if not path.exists():
        raise FossilError(
            f"{source} has no embedding {name!r}",
            expected=", ".join(embeddings(folder)) or "none is made yet",
            advice="Make it with `fossiledit morphospace embed`.",
        )
    embedding = Embedding.load(path)
    of_project = is_project(source)
    said, made = _said(folder / f"{name}-said.json", embedding)
    notes = list(embedding.notes)
    if of_project:
        items = _instances_now(source, embedding, notes)
    else:
        given = {key: row["given"] for key, row in said.items() if "given" in row}
        made_at = _written(path)
        items = [
            replace(item, name=given.get(item.key, item.name))
            if _is_as_it_was(source / item.key, item, made_at)
            else None
            for item in embedding.items
        ]
        gone = sum(not (source / item.key).exists() for item in embedding.items)
        if gone:
            notes.append(f"{gone} pictures are not there any more: they are left out.")
        if changed := items.count(None) - gone:
            notes.append(
                f"{changed} pictures were changed since the embedding was made: they are left out."
                f" {_EMBED}"
            )
    kept = [n for n, item in enumerate(items) if item is not None]
    if not kept:
        raise FossilError(
            f"Nothing of the embedding {path} is left",
            expected="some of its instances or pictures as they were",
            found=" ".join(notes),
            advice=_EMBED,
        )
    now = replace(embedding.of(kept), items=tuple(item for item in items if item is not None))
    return Points(now, folder, name, of_project, tuple(notes), said, made)


def embeddings(folder: Path) -> list[str]:
    """Return the names of the embeddings in a folder of results."""
    files = folder.glob("*.npz") if folder.exists() else ()
    return sorted(f.stem for f in files if not f.stem.endswith("-map"))


def _said(path: Path, embedding: Embedding) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    if not path.exists():
        return {}, {}
    advice = "Remove it, with the names it gave to pictures, and classify or cluster again."
    content = read_json(path, "what was said of items", advice)
    try:
        said = {str(key): dict(row) for key, row in content["items"].items()}
        made, of_model = dict(content["made"]), content["model_hash"] == embedding.model_hash
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise FossilError(
            f"{path} cannot be read",
            expected="what was said of items",
            found=str(error),
            advice=advice,
        ) from error
    if not of_model:
        # Names that a person gave hold whatever the model.
        said = {key: {"given": row["given"]} for key, row in said.items() if "given" in row}
        made = {}
    return said, made


def _written(file: Path) -> float:
    """Return when a file was last written or put in its place, in seconds."""
    found = file.stat()
    return max(found.st_mtime, found.st_ctime)


def _is_as_it_was(file: Path, item: Item, made_at: float) -> bool:
    if not file.exists():
        return False
    # To read all pictures for each command would take long: those that nobody touched are the same.
    if not item.content or _written(file) < made_at:
        return True
    try:
        return content_of_picture(read_image(file)) == item.content
    except FossilError:
        return False


def _instances_now(source: Path, embedding: Embedding, notes: list[str]) -> list[Item | None]:
    ids = [id_ for item in embedding.items for id_ in _ids(item)]
    with Project.open(source, read_only=True) as project:
        ledger = project.ledger
        now = {i.id: i for s in ledger.sources() for i in ledger.instances(s.name, ids=ids)}
    items = [_as_it_is(item, now, embedding) for item in embedding.items]
    gone = sum(not {*_ids(item)} <= {*now} for item in embedding.items)
    if gone:
        notes.append(f"{gone} instances were deleted since the embedding was made: left out.")
    if changed := items.count(None) - gone:
        notes.append(
            f"{changed} masks were changed since the embedding was made: they are left out."
            f" {_EMBED}"
        )
    unlinked = all(item.specimen is None for item in items if item)
    if unlinked and not any("linked" in note for note in notes):
        notes.append(
            "No instance is linked: each section counts as a specimen, although several may be"
            " of one, so that figures look better than they are."
        )
    return items


def _ids(item: Item) -> tuple[int, ...]:
    return item.sections or (item.instance or 0,)


def _as_it_is(
    item: Item, instances: Mapping[int | None, Instance], embedding: Embedding
) -> Item | None:
    parts = [instances[id_] for id_ in _ids(item) if id_ in instances]
    # A specimen that was parted is another one.
    same = len({(part.class_name, part.specimen) for part in parts}) == 1
    if not same or content_of(*(part.mask for part in parts)) != item.content:
        return None
    now = parts[0]
    names = [p.texture if embedding.named_by == "texture" else p.class_name for p in parts]
    name = Counter(name for name in names if name).most_common(1)
    group = item.key if now.specimen is None else f"{now.class_name} {now.specimen}"
    return replace(item, name=name[0][0] if name else None, specimen=now.specimen, group=group)
