"""Instances as rows of the ledger and back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask, Origin, Part

COLUMNS = (
    "id, source, z, class, part, score, height, width, counts, texture, unsure, origin, "
    "specimen, parent"
)
PLACES = ", ".join("?" * len(COLUMNS.split(",")))

Row = tuple[Any, ...]


def to_rows(source: str, z: int, instances: Sequence[Instance], first_id: int) -> list[Row]:
    """Rows of `instances` with ids counted from `first_id`.

    A parent among the inputs is replaced by its new id; any other is taken for a stored row.

    Raises
    ------
    FossilError
        Where an instance belongs to another slice, or two share a provisional id.
    """
    ids = range(first_id, first_id + len(instances))
    given = [i.id for i in instances if i.id is not None]
    if len(set(given)) != len(given):
        raise FossilError(f"Two instances of slice {z} ({source}) have the same id")
    new_ids = {i.id: new for i, new in zip(instances, ids, strict=True) if i.id is not None}
    return [
        _to_row(
            new, source, z, i, new_ids.get(i.parent, i.parent) if i.parent is not None else None
        )
        for i, new in zip(instances, ids, strict=True)
    ]


def _to_row(new_id: int, source: str, z: int, item: Instance, parent: int | None) -> Row:
    if item.slice != z:
        raise FossilError(
            f"An instance of {source} belongs to another slice", expected=z, found=item.slice
        )
    return (
        new_id,
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
        parent,
    )


def from_row(row: Row) -> Instance:
    """Make the instance of a row (`COLUMNS`)."""
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


def now() -> str:
    """Tell the time as the ledger keeps it: ISO 8601, UTC, seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")
