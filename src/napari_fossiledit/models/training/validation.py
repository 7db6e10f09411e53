"""Judge checkpoints: the part of the traced slices that is not learned from, and its score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.masks.labels import masks_of_labels
from napari_fossiledit.masks.rle import intersections, iou_matrix
from napari_fossiledit.models.inference.preprocessing import Rgb
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.training.sampling import BoolArray, PreparedSlice

_BAND = 4
"""Part of a single slice that judges: one in so many."""
_MARGIN = 96
"""Network pixels of surroundings that are shown around what counts."""
_IGNORED_SHARE = 0.5
"""Share of an instance in the ignored area above which it does not count."""


@dataclass(frozen=True)
class Judged:
    """A piece of a slice at working scale with what should be found in it."""

    rgb: Rgb
    truth: tuple[Instance, ...]
    ignore: Mask

    @classmethod
    def of(cls, source: PreparedSlice, classes: Sequence[str]) -> Judged:
        """Return what counts of a slice, with some surroundings."""
        counts = ~source.ignore
        window = (slice(0, counts.shape[0]), slice(0, counts.shape[1]))
        if counts.any():
            used = (np.flatnonzero(counts.any(axis=a)) for a in (1, 0))
            rows, columns = (
                slice(max(int(u[0]) - _MARGIN, 0), min(int(u[-1]) + 1 + _MARGIN, length))
                for u, length in zip(used, counts.shape, strict=True)
            )
            window = (rows, columns)
        ignore = source.ignore[window]
        truth: list[Instance] = []
        for layer in source.layers:
            for number, mask in masks_of_labels(layer[window]).items():
                y0, x0, y1, x1 = mask.box
                ignored = float((mask.crop() & ignore[y0:y1, x0:x1]).sum())
                if ignored / mask.area <= _IGNORED_SHARE:
                    truth.append(Instance(0, classes[source.labels[number - 1] - 1], mask))
        return cls(source.rgb[window], tuple(truth), Mask.from_array(ignore))


def split(source: PreparedSlice) -> tuple[PreparedSlice, PreparedSlice]:
    """Return what is learned from of a single slice, and a quarter of it that judges.

    The quarter is the band across the longer side in which most instances have their centre, of
    equal ones the first.
    """
    axis = int(np.argmax(source.ignore.shape))
    length = source.ignore.shape[axis]
    centres = np.array([(b[axis] + b[axis + 2]) / 2 for b in source.boxes])
    counts = np.histogram(centres, bins=_BAND, range=(0, length))[0]
    band = int(counts.argmax())
    judged = np.zeros_like(source.ignore)
    edges = slice(band * length // _BAND, (band + 1) * length // _BAND)
    judged[edges if axis == 0 else (slice(None), edges)] = True
    return without(source, judged), replace(source, ignore=source.ignore | ~judged)


def without(source: PreparedSlice, area: BoolArray) -> PreparedSlice:
    """Return a slice without an area (y, x) and every instance that lies mostly in it."""
    # Ignored ground alone would not do: it keeps nothing from being a positive example.
    if not source.layers:
        return replace(source, ignore=source.ignore | area)
    count = len(source.labels) + 1
    inside, whole = (
        sum(np.bincount(layer[where].ravel(), minlength=count) for layer in source.layers)
        for where in (area, np.ones_like(area))
    )
    lost = np.asarray(2 * inside > whole)
    lost[0] = False
    kept = [n for n in range(1, count) if not lost[n]]
    renumbered = np.zeros(count, dtype=np.int32)
    renumbered[kept] = np.arange(1, len(kept) + 1)
    gone = np.any([lost[layer] for layer in source.layers], axis=0)
    return replace(
        source,
        layers=tuple(renumbered[layer] for layer in source.layers),
        labels=tuple(source.labels[n - 1] for n in kept),
        areas=tuple(source.areas[n - 1] for n in kept),
        boxes=tuple(source.boxes[n - 1] for n in kept),
        ignore=source.ignore | area | gone,
    )


def judge(segmenter: MaskRcnnSegmenter, pieces: Sequence[Judged]) -> float:
    """Compute the mean panoptic quality of a model over the pieces, 0 to 1."""
    scores = [
        panoptic_quality(piece.truth, segmenter.predict_prepared(piece.rgb), piece.ignore)
        for piece in pieces
    ]
    return float(np.mean(scores))


def panoptic_quality(
    truth: Sequence[Instance],
    predicted: Sequence[Instance],
    ignore: Mask | None,
    score: float = 0.5,
) -> float:
    """Sum of matched IoU over matches and half of what was missed or made up, 0 to 1.

    Kirillov et al. 2019 (Panoptic Segmentation), section 4: a pair of one class matches where its
    IoU exceeds one half. Overlapping predictions match greedily by score. Predictions below `score`
    or mostly in the ignored area do not count. Nothing to find and nothing found gives 1.
    """
    kept = [i for i in predicted if i.score >= score]
    if ignore is not None:
        kept = [
            i
            for i in kept
            if intersections([i.mask], [ignore])[0, 0] <= _IGNORED_SHARE * i.mask.area
        ]
    kept.sort(key=lambda i: -i.score)
    total = (len(truth) + len(kept)) / 2
    return float(sum(_matched(truth, kept))) / total if total else 1.0


def _matched(truth: Sequence[Instance], predicted: Sequence[Instance]) -> list[float]:
    """Return the IoU of each matched pair."""
    if not truth or not predicted:
        return []
    iou = iou_matrix([i.mask for i in predicted], [i.mask for i in truth])
    same = [[p.class_name == t.class_name for t in truth] for p in predicted]
    iou = np.where(np.array(same), iou, 0.0)
    matched = []
    for row in range(len(predicted)):
        best = int(iou[row].argmax())
        if iou[row, best] > 0.5:
            matched.append(float(iou[row, best]))
            iou[:, best] = 0.0
    return matched
