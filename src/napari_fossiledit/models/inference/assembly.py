"""Divide a large slice into overlapping tiles, and turn what is found in each into its instances.

A detection that touches an inner border of its tile is a fragment: the object may go on behind the
border, and its mask is less to be trusted. Two detections of different tiles are the same object
when they agree where both tiles look: cut to the area the tiles share, their masks have an IoU of
at least one half, or a fragment lies for the most part inside a whole one. Then

* of two whole ones the better scored stays;
* a whole one beats a fragment;
* two fragments are parts of an object that no tile saw completely: their union stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from napari_fossiledit.geometry import Box
from napari_fossiledit.masks import Instance, Origin
from napari_fossiledit.masks.probability import Piece, ProbabilityMask
from napari_fossiledit.masks.rle import union
from napari_fossiledit.models.inference.pasting import Crop, paste, shared_box
from napari_fossiledit.models.network.heads import Target

AGREEMENT = 0.5
"""Least IoU of two masks in the area that their tiles share, to be of one object."""
CONTAINED = 0.7
"""Least share of a fragment that lies inside a whole mask, to be of the same object."""
_REACH = 3
"""Pixels from an inner border of a tile within which a mask counts as cut by it."""


def tile_boxes(shape: tuple[int, int], tile: int, overlap: int) -> list[Box]:
    """Cover a slice with equal tiles that overlap by at least `overlap` pixels.

    Parameters
    ----------
    shape
        Height and width (y, x).
    tile
        Edge of a tile; a slice that is smaller along an axis is covered by one.

    Returns
    -------
    list of (y0, x0, y1, x1), row by row
    """

    def starts(length: int) -> list[int]:
        """Return even starts, the last of which makes the last tile end at the end."""
        if length <= tile:
            return [0]
        least = min(overlap, tile // 2)
        count = math.ceil((length - least) / (tile - least))
        return [round(i * (length - tile) / (count - 1)) for i in range(count)]

    height, width = (min(length, tile) for length in shape)
    return [(y, x, y + height, x + width) for y in starts(shape[0]) for x in starts(shape[1])]


def inner_sides(tile: Box, shape: tuple[int, int]) -> tuple[bool, bool, bool, bool]:
    """Return which sides (top, left, foot, right) of a tile are no sides of the slice."""
    return (tile[0] > 0, tile[1] > 0, tile[2] < shape[0], tile[3] < shape[1])


@dataclass(frozen=True)
class TileMask:
    """A detection of one tile, in pixels of the whole slice at working scale."""

    tile: Box
    crop: Crop
    score: float
    label: int
    cut: bool


def touches_border(crop: Crop, tile: Box, shape: tuple[int, int]) -> bool:
    """Return whether a mask reaches an inner border of its tile, so that it may go on behind it."""
    rows, columns = np.nonzero(crop.pixels)
    if not len(rows):
        return False
    top, left = rows.min() + crop.origin[0], columns.min() + crop.origin[1]
    foot, right = rows.max() + crop.origin[0] + 1, columns.max() + crop.origin[1] + 1
    room = (top - tile[0], left - tile[1], tile[2] - foot, tile[3] - right)
    inner = inner_sides(tile, shape)
    return any(i and gap < _REACH for i, gap in zip(inner, room, strict=True))


def merge(masks: Sequence[TileMask]) -> list[list[int]]:
    """Group detections to instances.

    Returns
    -------
    list of lists of indices into `masks`; the masks of a list are to be united, its first member
    has the best score. Dropped doubles are in no list.
    """
    near = _near(masks)
    group_of: dict[int, list[int]] = {}
    # Whole ones first and best first, so that a later one only joins or is dropped.
    for index in sorted(range(len(masks)), key=lambda i: (masks[i].cut, -masks[i].score)):
        rivals = [k for k in np.flatnonzero(near[index]).tolist() if k in group_of]
        same = [group_of[k] for k in rivals if agree(masks[index], masks[k])]
        if not same:
            group_of[index] = [index]
        elif masks[index].cut and all(masks[g[0]].cut for g in same):
            joined = sorted({index}.union(*same), key=lambda k: -masks[k].score)
            group_of.update(dict.fromkeys(joined, joined))
    return [group for index, group in group_of.items() if group[0] == index]


def _near(masks: Sequence[TileMask]) -> NDArray[np.bool_]:
    """Return which pairs come from different tiles, are of one class and overlap in their boxes."""
    boxes = np.array([m.crop.box for m in masks], dtype=np.int64).reshape(-1, 4)
    tiles = np.array([m.tile for m in masks], dtype=np.int64).reshape(-1, 4)
    labels = np.array([m.label for m in masks])
    apart = (boxes[:, None, :2] >= boxes[None, :, 2:]).any(-1)
    same_tile = (tiles[:, None] == tiles[None]).all(-1)
    alike = labels[:, None] == labels[None]
    rivals: NDArray[np.bool_] = alike & ~same_tile & ~apart & ~apart.T
    return rivals


def agree(a: TileMask, b: TileMask) -> bool:
    """Return whether two detections of different tiles show the same object."""
    area = shared_box(a.tile, b.tile)
    if area is None:
        return False
    in_a, in_b = a.crop.within(area), b.crop.within(area)
    # A sum of bool is ten times slower, and was half of what pasting took.
    left, right, both = (int(np.count_nonzero(m)) for m in (in_a, in_b, in_a & in_b))
    if both == 0:
        return False
    if a.cut != b.cut and both >= CONTAINED * (left if a.cut else right):
        return True
    return both >= AGREEMENT * (left + right - both)


@dataclass(frozen=True)
class Detection:
    """One object that the network found in one tile.

    Attributes
    ----------
    tile
        (y0, x0, y1, x1) at working scale.
    box
        (4,) x0, y0, x1, y1 in the slice at working scale.
    mask
        (M, M) probabilities inside the box.
    label
        Number of the class from 1.
    """

    tile: Box
    box: Tensor
    mask: Tensor
    score: float
    label: int


@dataclass(frozen=True)
class Placing:
    """Height and width (y, x) of a slice at working scale and in its own pixels.

    Attributes
    ----------
    exact
        Masks are pasted at fractions of a pixel; see `paste`.
    """

    working: tuple[int, int]
    own: tuple[int, int]
    exact: bool = False

    def to_own(self, box: Tensor) -> Tensor:
        """Turn a box x0, y0, x1, y1 at working scale into the slice's own pixels."""
        y, x = (o / w for o, w in zip(self.own, self.working, strict=True))
        return box * box.new_tensor([x, y, x, y])


def located(output: Target, tile: Box) -> list[Detection]:
    """Return the output of the network for a tile as detections at their place in the slice."""
    boxes = output["boxes"] + output["boxes"].new_tensor([tile[1], tile[0], tile[1], tile[0]])
    values = zip(boxes, output["masks"], output["scores"], output["labels"], strict=True)
    return [Detection(tile, b, m, float(s), int(label)) for b, m, s, label in values]


def instances_of(
    detections: Sequence[Detection], place: Placing, classes: Sequence[str], slice_index: int
) -> list[Instance]:
    """Merge the detections of all tiles and paste them one by one, best score first.

    The masks are cut from the probabilities as the network gives them; those that stay with the
    instances are rounded to 8 bits.
    """
    groups = [[d] for d in detections]
    if len({d.tile for d in detections}) > 1:
        masks = []
        for d in detections:
            crop = paste(d.mask, d.box, place.working, exact=place.exact)
            cut = touches_border(crop, d.tile, place.working)
            masks.append(TileMask(d.tile, crop, d.score, d.label, cut))
        groups = [[detections[k] for k in group] for group in merge(masks)]
    instances = []
    for group in groups:
        parts = [
            paste(d.mask, place.to_own(d.box), place.own, exact=place.exact).to_mask(place.own)
            for d in group
        ]
        mask = parts[0] if len(parts) == 1 else union(parts, place.own)
        if mask.area > 0:
            name, score = classes[group[0].label - 1], group[0].score
            kept = ProbabilityMask(tuple(_piece(d, place) for d in group))
            instances.append(
                Instance(
                    slice_index,
                    name,
                    mask,
                    score=score,
                    origin=Origin.MODEL,
                    probability=kept,
                )
            )
    return sorted(instances, key=lambda instance: -instance.score)


def _piece(detection: Detection, place: Placing) -> Piece:
    x0, y0, x1, y1 = place.to_own(detection.box).tolist()
    grid = (detection.mask.float().clamp(0, 1) * 255).round().byte().cpu().numpy()
    return Piece((x0, y0, x1, y1), grid, place.exact)
