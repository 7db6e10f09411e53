"""List items that are most alike, like no other, or sections of the same specimen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_fossiledit.morphospace import alike
from napari_fossiledit.params.morphospace import OutlierParams, SectionsParams, SimilarParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.summary import Summary
from napari_fossiledit.workflows.morphospace.points import Points, read_points


@dataclass(frozen=True)
class Listed(Summary):
    """Items or pairs of items, best first.

    Attributes
    ----------
    embedding
        Name of the embedding.
    rows
        What was found.
    notes
        What was left out or assumed, in sentences.
    """

    embedding: str
    rows: Sequence[Mapping[str, Any]]
    notes: tuple[str, ...]


def similar(source: Path, params: SimilarParams, *, job: Job = QUIET) -> Listed:
    """List the items that look most like some others.

    Raises
    ------
    FossilError
        Where there is no such item.
    """
    points = read_points(source, params.embedding)
    rows = points.rows(params.items)
    job.check()
    found = alike.most_similar(
        points.embedding, rows, params.count, same_group=params.same_specimen
    )
    listed = [_described(points, row) | {"similarity": likeness} for row, likeness in found]
    return Listed(params.embedding, listed, points.notes)


def outliers(source: Path, params: OutlierParams, *, job: Job = QUIET) -> Listed:
    """List the items that are like no other, or like those of another name, and say why.

    Raises
    ------
    FossilError
        Where all items are of one specimen.
    """
    points = read_points(source, params.embedding)
    job.check()
    found = alike.outliers(points.embedding, neighbours=params.neighbours, count=params.count)
    listed = [
        _described(points, o.row) | {"distance": o.distance, "why": " ".join(o.reasons)}
        for o in found
    ]
    return Listed(params.embedding, listed, points.notes)


def sections(source: Path, params: SectionsParams, *, job: Job = QUIET) -> Listed:
    """List pairs of instances in different slices that may be of the same specimen.

    Nothing is linked by it: places in the slices are not compared.

    Raises
    ------
    FossilError
        Where the items do not come from different slices.
    """
    points = read_points(source, params.embedding)
    job.check()
    found = alike.across_slices(points.embedding, reach=params.reach, least=params.least)
    listed = [
        {
            "key": points.embedding.items[pair.rows[0]].key,
            "other": points.embedding.items[pair.rows[1]].key,
            "similarity": pair.similarity,
            "linked": pair.linked,
        }
        for pair in found[: params.count]
    ]
    notes = points.notes
    if len(found) > params.count:
        notes = (*notes, f"{len(found)} pairs were found; the first {params.count} are listed.")
    return Listed(params.embedding, listed, notes)


def _described(points: Points, row: int) -> dict[str, Any]:
    """Return what an item is, for a list."""
    item = points.embedding.items[row]
    found = {"key": item.key, "name": item.name}
    return found | ({"specimen": item.specimen} if points.is_project else {})
