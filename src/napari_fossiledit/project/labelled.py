"""What the corrected labels show, as instances."""

from __future__ import annotations

from dataclasses import replace

from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.masks.labels import masks_of_labels
from napari_fossiledit.project.labels import LabelVolume
from napari_fossiledit.project.ledger import Ledger
from napari_fossiledit.project.source import LABELS


def labelled_instances(
    ledger: Ledger, labels: LabelVolume, z: int, default_class: str
) -> list[Instance]:
    """Instances that ``labels.zarr`` shows in slice `z`.

    Geometry is from the voxels, all else from the ledger's rows. A body is given back what its
    own cavities cover, because a voxel holds one value only.

    Parameters
    ----------
    default_class
        Class of values that a person painted without asking for an id.
    """
    masks = masks_of_labels(labels.read(z))
    rows = {i.id: i for i in ledger.instances(LABELS, ids=masks)}
    found = [
        replace(rows[value], mask=mask, slice=z)
        if value in rows
        else Instance(z, default_class, mask, id=value)
        for value, mask in masks.items()
    ]
    return _with_whole_bodies(found)


def _with_whole_bodies(found: list[Instance]) -> list[Instance]:
    """Add cavities to the bodies they lie in; cavities of bodies that are gone stand alone."""
    there = {i.id for i in found}
    cavities: dict[int, list[Mask]] = {}
    for item in found:
        if item.part is Part.CAVITY and item.parent in there and item.parent is not None:
            cavities.setdefault(item.parent, []).append(item.mask)
    return [_whole(i, cavities.get(i.id or 0, []), there) for i in found]


def _whole(item: Instance, cavities: list[Mask], there: set[int | None]) -> Instance:
    mask = item.mask
    for cavity in cavities:
        mask = mask | cavity
    return replace(item, mask=mask, parent=item.parent if item.parent in there else None)
