"""COCO average precision, computed by faster-coco-eval on run-length codes in memory.

The library logs where pycocotools prints, so nothing reaches the standard output.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from napari_fossiledit.evaluation.judged import MAX_DETECTIONS, JudgedSlice
from napari_fossiledit.masks import Instance

_CATEGORY = 1


@dataclass(frozen=True)
class AveragePrecision:
    """COCO's AP over IoU 0.50 to 0.95, at 0.50 and at 0.75; None where there is no truth."""

    ap: float | None = None
    ap50: float | None = None
    ap75: float | None = None

    def summary(self) -> dict[str, object]:
        """Figures for JSON; None where undefined."""
        return {"ap": self.ap, "ap50": self.ap50, "ap75": self.ap75}


def average_precision(
    slices: Iterable[JudgedSlice], *, max_detections: int = MAX_DETECTIONS
) -> AveragePrecision:
    """Score slices by COCO's mask AP, all areas.

    Truths and predictions that do not count were taken away before (see `judge`).
    """
    judged = list(slices)
    truths = [_record(t, n) for n, s in enumerate(judged, 1) for t in s.truths]
    if not truths:
        return AveragePrecision()
    found = [_record(p, n) for n, s in enumerate(judged, 1) for p in s.predictions]
    if not found:
        return AveragePrecision(0.0, 0.0, 0.0)
    return _evaluate(_dataset(judged, truths), found, max_detections)


def _evaluate(
    dataset: dict[str, Any], found: list[dict[str, Any]], max_detections: int
) -> AveragePrecision:
    truth = COCO(dataset)
    evaluation = COCOeval_faster(truth, truth.loadRes(found), "segm")
    evaluation.params.maxDets = [max_detections]
    evaluation.params.areaRng = evaluation.params.areaRng[:1]
    evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
    evaluation.evaluate()
    evaluation.accumulate()
    # Axes: IoU threshold (0.50, 0.55 ... 0.95), recall, class, area range, most detections.
    precision = np.asarray(evaluation.eval["precision"])[:, :, 0, 0, 0]
    return AveragePrecision(
        float(precision.mean()), float(precision[0].mean()), float(precision[5].mean())
    )


def _dataset(judged: Sequence[JudgedSlice], truths: list[dict[str, Any]]) -> dict[str, Any]:
    """All slices as one COCO dictionary, images numbered from 1."""
    images = [{"id": n, "height": s.shape[0], "width": s.shape[1]} for n, s in enumerate(judged, 1)]
    numbered = [{**t, "id": n} for n, t in enumerate(truths, 1)]
    category = {"id": _CATEGORY, "name": "fossil"}
    return {"images": images, "annotations": numbered, "categories": [category]}


def _record(instance: Instance, image: int) -> dict[str, Any]:
    """One annotation or result; pycocotools' boxes are (x, y, width, height)."""
    y0, x0, y1, x1 = instance.mask.box
    return {
        "image_id": image,
        "category_id": _CATEGORY,
        "segmentation": {"size": list(instance.mask.shape), "counts": instance.mask.counts},
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": instance.mask.area,
        "iscrowd": 0,
        "score": instance.score,
    }
