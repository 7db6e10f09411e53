"""Places of a slice where a mask may be wrong, and how many pixels of it are likely to be.

What speaks against a mask is counted in pixels: the part of its area that the model was not sure
of, that does not lie on the sections below and above, that other masks cover too. So is what may be
missing: a section that is there below and above, a prediction that nobody took over. The weights
that make expected errors of these counts are a fit to sample reefs whose truth is known
(`WEIGHTS`, docs/benchmarks/review.md).

What touches is looked at together: overlapping candidates are one place.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import DisjointSet

from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.masks.rle import intersections, iou_matrix

Box = tuple[int, int, int, int]


class Doubt(StrEnum):
    """What speaks most against a place."""

    SCORE = "low score"
    JUMP = "unlike its neighbours"
    ALONE = "alone"
    OVERLAP = "overlap"
    FRAGMENT = "fragment"
    GAP = "gap"
    LEFT_OUT = "left out"
    UNREVIEWED = "unreviewed"
    LINK = "same specimen"


WEIGHTS = {
    Doubt.SCORE: 0.7,
    Doubt.JUMP: 0.41,
    Doubt.ALONE: 0.18,
    Doubt.OVERLAP: 0.37,
    Doubt.GAP: 0.26,
    Doubt.LEFT_OUT: 0.63,
}
"""Wrong pixels for each pixel that is counted; least squares without negative ones, six reefs."""
_SUPPORTED = 0.23
"""Added for each pixel of a prediction that continues a section below or above."""

_SAME = 0.1
"""IoU from which on two sections of neighbouring slices can be of one specimen."""
_GAP = 0.15
"""IoU of the sections below and above from which on one is expected in between."""
_LOWEST_SCORE = 0.05
"""Of predictions that are worth a look; what lies below is all but never a fossil."""
_FRAGMENT = 0.05
"""Share of the median area below which a section is a fragment."""
_NEARLY_NONE = 0.02
"""Share of its area below which nothing speaks against a mask but that nobody has looked at it."""


@dataclass(frozen=True)
class Place:
    """Masks of a slice that should be looked at together.

    Attributes
    ----------
    slice
        Index of the slice.
    doubt
        What speaks most against them.
    against
        How many pixels are expected to be wrong by each doubt.
    box
        Corners (y0, x0, y1, x1) in pixels, half open.
    ids
        Instances of the slice that are in doubt, the most doubtful first.
    predictions
        Predictions that may have been left out, the likeliest first.
    missing
        Instances of the slice below whose specimen may be missing here.
    before
        Instance of an earlier slice that the first of `ids` may not be the same specimen as.
    """

    slice: int
    doubt: Doubt
    against: tuple[tuple[Doubt, float], ...]
    box: Box
    ids: tuple[int, ...] = ()
    predictions: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()
    before: tuple[int, ...] = ()

    @property
    def pixels(self) -> float:
        """How many pixels are expected to be wrong."""
        return sum(pixels for _, pixels in self.against)


@dataclass(frozen=True)
class Neighbours:
    """Bodies of the nearest slices below and above; None where there is no such slice."""

    below: Sequence[Instance] | None
    above: Sequence[Instance] | None


@dataclass
class _Candidate:
    """A mask with what speaks against it, in pixels that are expected to be wrong."""

    mask: Mask
    against: dict[Doubt, float]
    field: str
    id: int


def find_places(
    z: int,
    own: Sequence[Instance],
    near: Neighbours,
    *,
    scores: Mapping[int, float],
    predictions: Sequence[Instance] = (),
    denied: Collection[int] = (),
) -> list[Place]:
    """Return the places of a slice that are worth a look, those with most at stake first.

    Parameters
    ----------
    own
        The instances of the slice. Those that are reviewed are right.
    scores
        Confidence of the model in those that it found, by id; 1 of all others.
    predictions
        What the model found and was not taken over.
    denied
        Ids of `predictions` that are wrong, and of instances below that do not go on.
    """
    bodies = [i for i in own if i.part is Part.BODY]
    found = [
        *_own(bodies, near, scores),
        *_gaps(bodies, near, denied),
        *_left_out(bodies, near, predictions, denied),
    ]
    masks = [c.mask for c in found]
    groups = DisjointSet(range(len(found)))
    for n, m in zip(*np.nonzero(np.triu(intersections(masks, masks), 1)), strict=True):
        groups.merge(int(n), int(m))
    places = [_place(z, [found[n] for n in sorted(group)]) for group in groups.subsets()]
    return sorted(places, key=lambda place: -place.pixels)


def _place(z: int, group: Sequence[_Candidate]) -> Place:
    total: dict[Doubt, float] = {}
    for each in group:
        for doubt, pixels in each.against.items():
            total[doubt] = total.get(doubt, 0.0) + pixels
    ids: dict[str, list[int]] = {"ids": [], "predictions": [], "missing": []}
    for each in sorted(group, key=lambda each: -sum(each.against.values())):
        ids[each.field].append(each.id)
    boxes = np.array([each.mask.box for each in group])
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    return Place(
        z,
        max(total, key=lambda doubt: total[doubt]),
        tuple(total.items()),
        (int(low[0]), int(low[1]), int(high[0]), int(high[1])),
        **{name: tuple(listed) for name, listed in ids.items()},
    )


def _own(
    bodies: Sequence[Instance], near: Neighbours, scores: Mapping[int, float]
) -> list[_Candidate]:
    masks = [i.mask for i in bodies]
    areas = np.array([m.area for m in masks], dtype=float)
    best = [_best(masks, side) for side in (near.below, near.above) if side is not None]
    # Of the sides on which a section goes on; and on how many of them it does not.
    agreement = np.array(best).reshape(len(best), len(masks))
    continued = agreement > _SAME
    sides = continued.sum(axis=0)
    mean = np.where(continued, agreement, 0).sum(axis=0) / np.maximum(sides, 1)
    covered = intersections(masks, masks).sum(axis=1) - areas
    typical = float(np.median(areas)) if masks else 0.0
    found = []
    for n, body in enumerate(bodies):
        if body.reviewed or body.id is None:
            continue
        counted = {
            Doubt.SCORE: areas[n] * (1 - scores.get(body.id, 1.0)),
            Doubt.JUMP: areas[n] * (1 - mean[n]) * bool(sides[n]),
            Doubt.ALONE: areas[n] * (1 - sides[n] / len(best)) if best else 0.0,
            Doubt.OVERLAP: min(covered[n], areas[n]),
        }
        against = {doubt: WEIGHTS[doubt] * pixels for doubt, pixels in counted.items()}
        pixels = sum(against.values())
        if areas[n] < _FRAGMENT * typical:
            against = {Doubt.FRAGMENT: pixels}
        elif pixels < _NEARLY_NONE * areas[n]:
            against = {Doubt.UNREVIEWED: pixels}
        found.append(_Candidate(body.mask, against, "ids", body.id))
    return found


def _gaps(
    bodies: Sequence[Instance], near: Neighbours, denied: Collection[int]
) -> list[_Candidate]:
    """Find sections below that go on above, but not in this slice."""
    if not near.below or not near.above:
        return []
    below, above = ([i.mask for i in each] for each in (near.below, near.above))
    through = iou_matrix(below, above)
    reached = [_best(side, bodies) > _SAME for side in (below, above)]
    found = []
    for n, body in enumerate(near.below):
        m = int(through[n].argmax())
        if through[n, m] < _GAP or reached[0][n] or reached[1][m] or body.id in denied:
            continue
        pixels = (below[n].area + above[m].area) / 2
        against = {Doubt.GAP: WEIGHTS[Doubt.GAP] * pixels}
        if body.id is not None:
            found.append(_Candidate(below[n] | above[m], against, "missing", body.id))
    return found


def _left_out(
    bodies: Sequence[Instance],
    near: Neighbours,
    predictions: Sequence[Instance],
    denied: Collection[int],
) -> list[_Candidate]:
    """Find predictions beside the masks that are there; of similar ones the most certain.

    What is like one that is denied is denied with it.
    """
    likely = [
        p
        for p in sorted(predictions, key=lambda p: -p.score)
        if p.part is Part.BODY and p.score >= _LOWEST_SCORE and p.mask.area and p.id is not None
    ]
    masks = [p.mask for p in likely]
    areas = np.array([m.area for m in masks])
    covered = intersections(masks, [i.mask for i in bodies]).max(axis=1, initial=0) > areas / 2
    alike = iou_matrix(masks, masks) > 0.3
    supported = np.zeros(len(masks))
    for side in (near.below, near.above):
        supported = np.maximum(supported, _best(masks, side or ()))
    found: list[_Candidate] = []
    kept = [n for n, p in enumerate(likely) if p.id in denied]
    for n, prediction in enumerate(likely):
        if covered[n] or alike[n, kept].any():
            continue
        kept.append(n)
        weight = WEIGHTS[Doubt.LEFT_OUT] * prediction.score
        weight += _SUPPORTED * bool(supported[n] > 2 * _SAME)
        against = {Doubt.LEFT_OUT: weight * float(areas[n])}
        found.append(_Candidate(masks[n], against, "predictions", prediction.id or 0))
    return found


def _best(masks: Sequence[Mask], others: Sequence[Instance]) -> NDArray[np.float64]:
    """Return the largest IoU of each mask with one of some bodies."""
    best: NDArray[np.float64] = iou_matrix(masks, [i.mask for i in others]).max(1, initial=0.0)
    return best
