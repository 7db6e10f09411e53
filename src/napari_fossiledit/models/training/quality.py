"""One figure that chooses the best checkpoint: panoptic quality on the validation part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.masks.rle import intersections, iou_matrix

_MOSTLY = 0.5


def panoptic_quality(
    truth: Sequence[Instance], found: Sequence[Instance], ignore: Mask | None, score: float = 0.5
) -> float:
    """Sum of matched IoU over matches and half of what was missed or made up, 0 to 1.

    Kirillov et al. 2019 (Panoptic Segmentation), section 4: a pair of one class matches where its
    IoU exceeds one half. Overlapping predictions match greedily by score. Predictions below `score`
    or mostly in the ignored area do not count. Nothing to find and nothing found gives 1.
    """
    kept = [i for i in found if i.score >= score and not _outside(i.mask, ignore)]
    matched = _matched(truth, sorted(kept, key=lambda i: -i.score))
    total = (len(truth) + len(kept)) / 2
    return float(sum(matched)) / total if total else 1.0


def _outside(mask: Mask, ignore: Mask | None) -> bool:
    if ignore is None:
        return False
    return bool(intersections([mask], [ignore])[0, 0] > _MOSTLY * mask.area)


def _matched(truth: Sequence[Instance], found: Sequence[Instance]) -> list[float]:
    """IoU of each matched pair."""
    if not truth or not found:
        return []
    iou = iou_matrix([i.mask for i in found], [i.mask for i in truth])
    same = [[f.class_name == t.class_name for t in truth] for f in found]
    iou = np.where(np.array(same), iou, 0.0)
    matched = []
    for row in range(len(found)):
        best = int(iou[row].argmax())
        if iou[row, best] > 0.5:
            matched.append(float(iou[row, best]))
            iou[:, best] = 0.0
    return matched
