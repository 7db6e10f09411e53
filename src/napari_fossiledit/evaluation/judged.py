"""Reduction of a slice to what counts: which truths, predictions and pixels are judged.

The rules, in this order:

1. A slice is judged inside its traced area and the chosen region only.
2. A truth that is marked unsure, or that lies outside that area with half its pixels or more, is
   left out. Other truths are cut to the area.
3. The pixels of what was left out do not count, except where they also belong to a truth that
   counts. Unsure instances of other classes are left out alike: it is not known what they are.
4. Of the predictions of all classes the best `max_detections` are kept, highest scores first; then
   those of the judged class.
5. A prediction with half its pixels or more where nothing counts is left out; the others are cut
   to the pixels that count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.geometry import Region
from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.masks.rle import intersections, union

MAX_DETECTIONS = 100
"""Most detections a slice, detectron2's ``TEST.DETECTIONS_PER_IMAGE``."""

LEFT_OUT_SHARE = 0.5
"""A mask with this share of its pixels or more where nothing counts is left out."""


@dataclass(frozen=True)
class JudgedSlice:
    """Truths and predictions of one slice and one class, reduced to what counts.

    Attributes
    ----------
    slice
        Index of the slice.
    shape
        Height and width (y, x) of the slice in pixels.
    truths
        Bodies of the class that count, masks cut to the pixels that count.
    predictions
        Predicted bodies of the class that count, cut alike, highest score first.
    others
        Union of the annotated bodies of each other class, by class, without unsure ones.
    left_out
        Numbers of truths and of predictions that were left out.
    """

    slice: int
    shape: tuple[int, int]
    truths: tuple[Instance, ...]
    predictions: tuple[Instance, ...]
    others: dict[str, Mask]
    left_out: tuple[int, int] = (0, 0)

    @cached_property
    def shared(self) -> NDArray[np.int64]:
        """Pixels shared by each pair, array (predictions, truths)."""
        return intersections(_masks(self.predictions), _masks(self.truths))

    @cached_property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each pair, array (predictions, truths)."""
        # No mask is empty: `judge` drops those.
        total = self.areas[:, None] + _areas(self.truths)[None, :] - self.shared
        return self.shared.astype(np.float64) / total

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """Pixels of each prediction."""
        return _areas(self.predictions)

    @cached_property
    def truth(self) -> Mask:
        """Union of all truths."""
        return union(_masks(self.truths), self.shape)

    @cached_property
    def on_truth(self) -> NDArray[np.int64]:
        """Pixels of each prediction that lie on any truth."""
        return intersections(_masks(self.predictions), [self.truth])[:, 0]

    def above(self, score: float) -> int:
        """Count the predictions of at least `score`; they are the first ones."""
        return sum(p.score >= score for p in self.predictions)


def judge(
    z: int,
    shape: tuple[int, int],
    annotations: Sequence[Instance],
    predictions: Sequence[Instance],
    *,
    class_name: str,
    area: Mask | None = None,
    max_detections: int = MAX_DETECTIONS,
) -> JudgedSlice:
    """Reduce a slice to what counts, by the rules of this module.

    Parameters
    ----------
    annotations
        Everything annotated in the slice: all classes, unsure ones, cavities (which are ignored:
        a body is all within the outer wall).
    predictions
        Everything predicted in it.
    area
        Where the slice is traced completely and to be judged; None: everywhere.
    """
    bodies = [a for a in annotations if a.part is Part.BODY]
    ours = [b for b in bodies if b.class_name == class_name and not b.unsure]
    truths, dropped = _split(ours, area)
    ignored = [*dropped, *(b for b in bodies if b.unsure)]
    counted = _counted(shape, area, truths, ignored)
    # The best of all classes first, as detectron2 does, then those of the class.
    best = sorted((p for p in predictions if p.part is Part.BODY), key=lambda p: -p.score)
    kept, lost = _split([p for p in best[:max_detections] if p.class_name == class_name], counted)
    others: dict[str, list[Mask]] = {}
    for body in bodies:
        if body.class_name != class_name and not body.unsure:
            others.setdefault(body.class_name, []).append(_cut(body, counted).mask)
    return JudgedSlice(
        z,
        shape,
        tuple(_cut(t, area) for t in truths),
        tuple(_cut(p, counted) for p in kept),
        {name: union(others[name], shape) for name in sorted(others)},
        (len(dropped) + sum(b.unsure and b.class_name == class_name for b in bodies), len(lost)),
    )


def judged_area(shape: tuple[int, int], traced: Mask | None, region: Region) -> Mask | None:
    """Return where traced area and region overlap; None where that is the whole slice."""
    if region == Region():
        return traced
    inside = np.zeros(shape, dtype=np.bool_)
    inside[region.slices(shape)] = True
    mask = Mask.from_array(inside)
    return mask if traced is None else mask & traced


def _split(
    instances: Sequence[Instance], counted: Mask | None
) -> tuple[list[Instance], list[Instance]]:
    """Those that mostly count, and those that do not (empty masks among them)."""
    masks = _masks(instances)
    areas = _areas(instances)
    inside = areas if counted is None else intersections(masks, [counted])[:, 0]
    keep = areas - inside < LEFT_OUT_SHARE * areas
    pairs = list(zip(instances, keep, strict=True))
    return [i for i, k in pairs if k], [i for i, k in pairs if not k]


def _counted(
    shape: tuple[int, int],
    area: Mask | None,
    truths: Sequence[Instance],
    ignored: Sequence[Instance],
) -> Mask | None:
    """Pixels that count; None where all do."""
    if not ignored:
        return area
    # Where a truth that counts overlaps an unsure mask, its pixels do count.
    lost = union(_masks(ignored), shape).to_array() & ~union(_masks(truths), shape).to_array()
    inside = ~lost if area is None else area.to_array() & ~lost
    return Mask.from_array(inside)


def _cut(instance: Instance, counted: Mask | None) -> Instance:
    return instance if counted is None else replace(instance, mask=instance.mask & counted)


def _masks(instances: Iterable[Instance]) -> list[Mask]:
    return [i.mask for i in instances]


def _areas(instances: Sequence[Instance]) -> NDArray[np.int64]:
    return np.array([i.mask.area for i in instances], dtype=np.int64)
