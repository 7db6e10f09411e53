"""Turn what the network found in each tile into the instances of a slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from napari_fossiledit.geometry import Box
from napari_fossiledit.masks import Instance, Origin
from napari_fossiledit.masks.rle import union
from napari_fossiledit.models.inference.merging import TileMask, merge, touches_border
from napari_fossiledit.models.inference.pasting import paste
from napari_fossiledit.models.network.heads import Target


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
    """Merge the detections of all tiles and paste them one by one, best score first."""
    groups = [[d] for d in detections]
    if len({d.tile for d in detections}) > 1:
        masks = [_in_slice(d, place) for d in detections]
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
            instances.append(Instance(slice_index, name, mask, score=score, origin=Origin.MODEL))
    return sorted(instances, key=lambda instance: -instance.score)


def _in_slice(detection: Detection, place: Placing) -> TileMask:
    crop = paste(detection.mask, detection.box, place.working, exact=place.exact)
    cut = touches_border(crop, detection.tile, place.working)
    return TileMask(detection.tile, crop, detection.score, detection.label, cut)
