"""From what the network found in each tile to the instances of a slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from napari_fossiledit.geometry import Box
from napari_fossiledit.masks import Instance, Mask, Origin
from napari_fossiledit.masks.rle import union
from napari_fossiledit.models.inference.merging import Found, merge, touches_border
from napari_fossiledit.models.inference.pasting import paste
from napari_fossiledit.models.network.heads import Target


@dataclass(frozen=True)
class Detection:
    """What the network says about one object of one tile.

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


def located(found: Target, tile: Box) -> list[Detection]:
    """Move the detections of a tile to their place in the slice."""
    boxes = found["boxes"] + found["boxes"].new_tensor([tile[1], tile[0], tile[1], tile[0]])
    values = zip(boxes, found["masks"], found["scores"], found["labels"], strict=True)
    return [Detection(tile, b, m, float(s), int(label)) for b, m, s, label in values]


def instances_of(
    found: Sequence[Detection], place: Placing, classes: Sequence[str], slice_index: int
) -> list[Instance]:
    """Merge the detections of all tiles and paste them one by one, best score first."""
    whole = [_instance(group, place, classes, slice_index) for group in _grouped(found, place)]
    kept = [instance for instance in whole if instance.mask.area > 0]
    return sorted(kept, key=lambda instance: -instance.score)


def _grouped(found: Sequence[Detection], place: Placing) -> list[list[Detection]]:
    if len({d.tile for d in found}) <= 1:
        return [[d] for d in found]
    seen = [_seen(d, place) for d in found]
    return [[found[k] for k in group] for group in merge(seen)]


def _seen(detection: Detection, place: Placing) -> Found:
    crop = paste(detection.mask, detection.box, place.working, exact=place.exact)
    cut = touches_border(crop, detection.tile, place.working)
    return Found(detection.tile, crop, detection.score, detection.label, cut)


def _instance(
    group: Sequence[Detection], place: Placing, classes: Sequence[str], slice_index: int
) -> Instance:
    parts = [_mask(detection, place) for detection in group]
    return Instance(
        slice=slice_index,
        class_name=classes[group[0].label - 1],
        mask=parts[0] if len(parts) == 1 else union(parts, place.own),
        score=group[0].score,
        origin=Origin.MODEL,
    )


def _mask(detection: Detection, place: Placing) -> Mask:
    box = place.to_own(detection.box)
    return paste(detection.mask, box, place.own, exact=place.exact).to_mask(place.own)
