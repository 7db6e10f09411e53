"""What the map shows, read away from the window's thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.morphospace.crops import Picture, cut_out, in_8_bit
from napari_fossiledit.perturb.mud import ROCK_CLASS
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.morphospace.points import read_points
from napari_fossiledit.workflows.shared.specimens import SpecimenKey
from napari_fossiledit.workflows.shared.stack_values import StackValues

#: Edge in pixels of the picture of an item.
EDGE = 96


@dataclass(frozen=True)
class Mapped:
    """The items of a project that are on the map.

    Attributes
    ----------
    places
        (n, 2) on the map.
    instances, sources
        (n,) what they are, and whose.
    keys
        (n,) as workflows name them.
    columns
        (n,) values by heading, None where there is none; only headings that have a value.
    named_by
        What their names are: ``class`` or ``texture``.
    names
        Known ones of each kind.
    missing
        How many items are not on the map.
    notes
        What was left out or assumed, in sentences.
    """

    places: NDArray[np.float64]
    instances: tuple[Instance, ...]
    sources: tuple[str, ...]
    keys: tuple[str, ...]
    columns: Mapping[str, tuple[Any, ...]]
    named_by: str
    names: Mapping[str, tuple[str, ...]]
    missing: int
    notes: tuple[str, ...]

    def features(self, source: str) -> dict[int, dict[str, Any]]:
        """Return what the map says of the instances of a source, by id."""
        clusters = self.columns.get("Cluster", [None] * len(self.keys))
        named = zip(self.instances, self.sources, self.places.tolist(), clusters, strict=True)
        return {
            i.id or 0: {
                "label": i.id,
                "class": i.class_name,
                "texture": i.texture or None,
                "specimen": None if i.specimen is None else str(i.specimen),
                "slice": i.slice,
                "x": x,
                "y": y,
                "cluster": cluster,
            }
            for i, of, (x, y), cluster in named
            if of == source
        }


#: Before there is a map.
NOTHING = Mapped(np.zeros((0, 2)), (), (), (), {}, "", {"class": (), "texture": ()}, 0, ())


def read_mapped(path: Path, embedding: str, *, job: Job = QUIET) -> Mapped:
    """Read the points of a project, what was said of them, and their masks; none without a map."""
    points = read_points(path, embedding)
    job.check()
    table = points.table()
    with Project.open(path, read_only=True) as project:
        ledger = project.ledger
        ids = [item.instance or 0 for item in points.embedding.items]
        by_id = {
            i.id: (i, source.name)
            for source in ledger.sources()
            for i in ledger.instances(source.name, ids=ids)
        }
        classes = {*project.settings.classes, *(i.class_name for i, _ in by_id.values())}
        classes -= {ROCK_CLASS}
    textures = {i.texture for i, _ in by_id.values() if i.texture}
    there = [n for n, id_ in enumerate(ids) if id_ in by_id]
    rows = [n for n in there if table["x"][n] is not None]
    found = [by_id[ids[n]] for n in rows]
    columns: dict[str, list[Any]] = {
        "Class": [i.class_name for i, _ in found],
        "Texture": [i.texture or None for i, _ in found],
        "Specimen": [
            None if i.specimen is None else SpecimenKey(i.class_name, i.specimen) for i, _ in found
        ],
        "Slice": [i.slice for i, _ in found],
        "Cluster": [table["cluster"][n] for n in rows],
        "Classified as": [table["class"][n] for n in rows],
        "Confidence": [table["confidence"][n] for n in rows],
    }
    if any(value is not None for value in columns["Confidence"]):
        # Who was classified and is like no named one has a confidence, too.
        columns["Classified as"] = [
            "unknown" if name is None and sure is not None else name
            for name, sure in zip(columns["Classified as"], columns["Confidence"], strict=True)
        ]
    places = [(table["x"][n], table["y"][n]) for n in rows]
    return Mapped(
        np.array(places, np.float64).reshape(-1, 2),
        tuple(i for i, _ in found),
        tuple(source for _, source in found),
        tuple(table["key"][n] for n in rows),
        {
            heading: tuple(values)
            for heading, values in columns.items()
            if any(value is not None for value in values)
        },
        points.embedding.named_by,
        {"class": tuple(sorted(classes)), "texture": tuple(sorted(textures))},
        len(there) - len(rows),
        points.notes,
    )


def read_pictures(path: Path, z: int, masks: Sequence[Mask], *, job: Job = QUIET) -> list[Picture]:
    """Cut the masks out of a slice: pictures (`EDGE`, `EDGE`, 3)."""
    with Project.open(path, read_only=True) as project:
        image = in_8_bit(project.stack.read(z), StackValues(project).span)
    return [cut_out(image, mask, own_mean=True, edge=EDGE) for mask in masks]
