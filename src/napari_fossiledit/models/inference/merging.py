"""Detections of overlapping tiles to instances of the slice, without seams and doubles.

A detection that touches an inner border of its tile is a fragment: the object may go on behind the
border, and its mask is less to be trusted. Two detections of different tiles are the same object
when they agree where both tiles look: cut to the area the tiles share, their masks have an IoU of
at least one half, or a fragment lies for the most part inside a whole one. Then

* of two whole ones the better scored stays;
* a whole one beats a fragment;
* two fragments are parts of an object that no tile saw completely: their union stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.geometry import Box
from napari_fossiledit.models.inference.pasting import Crop, shared_box
from napari_fossiledit.models.inference.tiling import inner_sides

AGREEMENT = 0.5
CONTAINED = 0.7
_REACH = 3


@dataclass(frozen=True)
class Found:
    """A detection of one tile, in pixels of the whole slice at working scale."""

    tile: Box
    crop: Crop
    score: float
    label: int
    cut: bool


def touches_border(crop: Crop, tile: Box, shape: tuple[int, int]) -> bool:
    """Tell whether a mask reaches an inner border of its tile, so that it may go on behind it."""
    rows, columns = np.nonzero(crop.pixels)
    if not len(rows):
        return False
    top, left = rows.min() + crop.origin[0], columns.min() + crop.origin[1]
    foot, right = rows.max() + crop.origin[0] + 1, columns.max() + crop.origin[1] + 1
    room = (top - tile[0], left - tile[1], tile[2] - foot, tile[3] - right)
    inner = inner_sides(tile, shape)
    return any(i and gap < _REACH for i, gap in zip(inner, room, strict=True))


def merge(found: Sequence[Found]) -> list[list[int]]:
    """Group detections to instances.

    Returns
    -------
    list of lists of indices into `found`; the masks of a list are to be united, its first member
    has the best score. Dropped doubles are in no list.
    """
    near = _near(found)
    group_of: dict[int, list[int]] = {}
    for index in sorted(range(len(found)), key=lambda i: (found[i].cut, -found[i].score)):
        rivals = [k for k in np.flatnonzero(near[index]).tolist() if k in group_of]
        same = [group_of[k] for k in rivals if agree(found[index], found[k])]
        if not same:
            group_of[index] = [index]
        elif found[index].cut and all(found[g[0]].cut for g in same):
            joined = sorted({index}.union(*same), key=lambda k: -found[k].score)
            group_of.update(dict.fromkeys(joined, joined))
    return [group for index, group in group_of.items() if group[0] == index]


def _near(found: Sequence[Found]) -> NDArray[np.bool_]:
    """Tell which pairs come from different tiles, are of one class and overlap in their boxes."""
    boxes = np.array([f.crop.box for f in found], dtype=np.int64).reshape(-1, 4)
    tiles = np.array([f.tile for f in found], dtype=np.int64).reshape(-1, 4)
    labels = np.array([f.label for f in found])
    apart = (boxes[:, None, :2] >= boxes[None, :, 2:]).any(-1)
    same_tile = (tiles[:, None] == tiles[None]).all(-1)
    alike = labels[:, None] == labels[None]
    rivals: NDArray[np.bool_] = alike & ~same_tile & ~apart & ~apart.T
    return rivals


def agree(a: Found, b: Found) -> bool:
    """Tell whether two detections of different tiles show the same object."""
    area = shared_box(a.tile, b.tile)
    if area is None:
        return False
    left, right, both = _overlap(a.crop, b.crop, area)
    if both == 0:
        return False
    if a.cut != b.cut and both >= CONTAINED * (left if a.cut else right):
        return True
    return both >= AGREEMENT * (left + right - both)


def _overlap(a: Crop, b: Crop, area: Box) -> tuple[int, int, int]:
    """Pixels of `a`, of `b` and of both inside `area`."""
    left, right = a.within(area), b.within(area)
    return int(left.sum()), int(right.sum()), int((left & right).sum())
