"""All figures of an evaluation: detection, pixels, COCO's AP, the paper's protocol."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from napari_fossiledit.evaluation.judged import MAX_DETECTIONS, JudgedSlice
from napari_fossiledit.evaluation.numbers import harmonic, ratio
from napari_fossiledit.evaluation.protocol import ProtocolResult, protocol
from napari_fossiledit.masks import Instance
from napari_fossiledit.masks.rle import union
from napari_fossiledit.summary import Summary

#: The only category that COCO is given: all figures are those of one class.
_CATEGORY = 1


# ------------------------------------------------------- found, invented and lost


@dataclass(frozen=True)
class DetectionResult:
    """Counts of a one-to-one matching.

    Attributes
    ----------
    found
        IoU of each matched pair.
    invented
        Predictions left without a truth (false positives).
    lost
        Truths left without a prediction (false negatives).
    """

    found: tuple[float, ...]
    invented: int
    lost: int

    @property
    def precision(self) -> float | None:
        """Share of the predictions that are matched; None where there is no prediction."""
        return ratio(len(self.found), len(self.found) + self.invented)

    @property
    def recall(self) -> float | None:
        """Share of the truths that are matched; None where there is no truth."""
        return ratio(len(self.found), len(self.found) + self.lost)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall."""
        return harmonic(self.precision, self.recall)

    @property
    def mean_iou(self) -> float | None:
        """Mean IoU of the matched pairs."""
        return ratio(sum(self.found), len(self.found))

    def summary(self) -> dict[str, object]:
        """Return the figures for JSON; None where undefined."""
        return {
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            "mean_iou": self.mean_iou,
            "found": len(self.found),
            "invented": self.invented,
            "lost": self.lost,
        }


def detection(
    slices: Iterable[JudgedSlice], *, score: float = 0.5, least_iou: float = 0.5
) -> DetectionResult:
    """Match predictions with truths one to one, as COCO does: the highest score chooses first.

    Parameters
    ----------
    score
        Predictions below it are ignored.
    least_iou
        A prediction takes the free truth of the highest IoU, if that is at least this.
    """
    ious: list[float] = []
    invented = lost = 0
    for judged in slices:
        used = judged.above(score)
        pairs = greedy_pairs(judged.iou[:used], least_iou)
        ious += [float(judged.iou[row, column]) for row, column in pairs]
        invented += used - len(pairs)
        lost += len(judged.truths) - len(pairs)
    return DetectionResult(tuple(ious), invented, lost)


def greedy_pairs(iou: NDArray[np.float64], least_iou: float) -> list[tuple[int, int]]:
    """Return pairs (row, column) in which each row in turn takes the best free column.

    Parameters
    ----------
    iou
        Array (predictions, truths), predictions by falling score.
    """
    free = iou.copy()
    pairs: list[tuple[int, int]] = []
    for row in range(iou.shape[0] if iou.shape[1] else 0):
        column = int(free[row].argmax())
        if free[row, column] >= least_iou:
            pairs.append((row, column))
            free[:, column] = -1.0
    return pairs


# ----------------------------------------------------------------- pixels


@dataclass(frozen=True)
class PixelResult:
    """Pixel counts over any number of slices.

    Attributes
    ----------
    predicted, true, shared
        Pixels of the union of all predictions, of all truths, and of both.
    invented_on
        Predicted pixels that are not true, by the other annotated class they lie on. Annotations
        may overlap (a calcimicrobe lies on the rock face), so the counts need not add up.
    """

    predicted: int = 0
    true: int = 0
    shared: int = 0
    invented_on: dict[str, int] = field(default_factory=dict)

    @property
    def invented(self) -> int:
        """Predicted pixels that are not true."""
        return self.predicted - self.shared

    @property
    def precision(self) -> float | None:
        """Share of the predicted pixels that are true; None where nothing is predicted."""
        return ratio(self.shared, self.predicted)

    @property
    def recall(self) -> float | None:
        """Share of the true pixels that are predicted; None where nothing is true."""
        return ratio(self.shared, self.true)

    @property
    def interclass(self) -> dict[str, float | None]:
        """Share of the invented pixels that lie on each other annotated class."""
        return {name: ratio(count, self.invented) for name, count in self.invented_on.items()}

    def summary(self) -> dict[str, object]:
        """Return the figures for JSON; None where undefined."""
        return {
            "precision": self.precision,
            "recall": self.recall,
            "predicted": self.predicted,
            "true": self.true,
            "invented": self.invented,
            "invented_share_on": self.interclass,
        }


def pixels(slices: Iterable[JudgedSlice], *, score: float = 0.5) -> PixelResult:
    """Compare the union of the predictions of at least `score` with the union of the truths."""
    predicted = true = shared = 0
    invented_on: Counter[str] = Counter()
    for judged in slices:
        finds = judged.predictions[: judged.above(score)]
        covered = union((find.mask for find in finds), judged.shape)
        right = covered & judged.truth
        predicted += covered.area
        true += judged.truth.area
        shared += right.area
        for name, other in judged.others.items():
            # Pixels on the other class, without those that are true all the same.
            invented_on[name] += (covered & other).area - (right & other).area
    return PixelResult(predicted, true, shared, dict(sorted(invented_on.items())))


# ------------------------------------------------------ average precision


@dataclass(frozen=True)
class AveragePrecision(Summary):
    """COCO's AP over IoU 0.50 to 0.95, at 0.50 and at 0.75; None where there is no truth."""

    ap: float | None = None
    ap50: float | None = None
    ap75: float | None = None


def average_precision(
    slices: Iterable[JudgedSlice], *, max_detections: int = MAX_DETECTIONS
) -> AveragePrecision:
    """Score slices by COCO's mask AP, all areas.

    Truths and predictions that do not count were taken away before (see `judge`).
    """
    judged = list(slices)
    images = [{"id": n, "height": s.shape[0], "width": s.shape[1]} for n, s in enumerate(judged, 1)]
    truths = [_record(t, n) for n, s in enumerate(judged, 1) for t in s.truths]
    finds = [_record(p, n) for n, s in enumerate(judged, 1) for p in s.predictions]
    if not truths:
        return AveragePrecision()
    if not finds:
        return AveragePrecision(0.0, 0.0, 0.0)
    # faster-coco-eval logs where pycocotools prints: nothing reaches the standard output.
    truth = COCO(
        {
            "images": images,
            "annotations": [{**t, "id": n} for n, t in enumerate(truths, 1)],
            "categories": [{"id": _CATEGORY, "name": "fossil"}],
        }
    )
    evaluation = COCOeval_faster(truth, truth.loadRes(finds), "segm")
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


# ------------------------------------------------------------ all together


@dataclass(frozen=True)
class Evaluation:
    """Figures of predictions against truths.

    Attributes
    ----------
    slices
        Indices of the slices that were judged.
    protocol
        The paper's protocol at `score`.
    textures
        The same for the truths of each texture; ``"unknown"`` where none is noted.
    detection, pixels
        At `detection_score`.
    ap
        COCO's average precision, over all scores.
    left_out
        Numbers of truths (unsure, or outside the area) and of predictions that were left out.
    score, detection_score
        The two thresholds.
    """

    slices: tuple[int, ...]
    protocol: ProtocolResult
    textures: dict[str, ProtocolResult]
    detection: DetectionResult
    pixels: PixelResult
    ap: AveragePrecision
    left_out: tuple[int, int]
    score: float
    detection_score: float

    def summary(self) -> dict[str, object]:
        """Return the figures for JSON; None where undefined, never NaN."""
        return {
            "slices": list(self.slices),
            "score": self.score,
            "detection_score": self.detection_score,
            "protocol": self.protocol.summary(),
            # Predictions have no texture, so that their counts would mean nothing.
            "textures": {
                name: {k: v for k, v in r.summary().items() if k not in ("predictions", "spurious")}
                for name, r in self.textures.items()
            },
            "detection": self.detection.summary(),
            "pixels": self.pixels.summary(),
            "coco": self.ap.summary(),
            "left_out": {"truths": self.left_out[0], "predictions": self.left_out[1]},
        }


def evaluate(
    slices: Iterable[JudgedSlice],
    *,
    score: float = 0.0,
    detection_score: float = 0.5,
    max_detections: int = MAX_DETECTIONS,
    seed: int = 0,
) -> Evaluation:
    """Compute all figures.

    Parameters
    ----------
    slices
        Slices reduced to what counts (see `judge`); of each only run-length codes are kept.
    score
        Threshold of the paper's protocol, 0 in the paper.
    detection_score
        Threshold of the detection and the pixel figures.
    max_detections
        Most predictions a slice, as given to `judge`.
    seed
        Seed of the bootstrap intervals.
    """
    judged = list(slices)
    paper = protocol(judged, score=score, seed=seed)
    return Evaluation(
        tuple(s.slice for s in judged),
        paper,
        by_texture(paper),
        detection(judged, score=detection_score),
        pixels(judged, score=detection_score),
        average_precision(judged, max_detections=max_detections),
        (sum(s.left_out[0] for s in judged), sum(s.left_out[1] for s in judged)),
        score,
        detection_score,
    )


def by_texture(result: ProtocolResult) -> dict[str, ProtocolResult]:
    """Split a result by the texture of its truths; empty where no texture is noted at all."""
    names = sorted({t.texture for t in result.truths})
    return {} if names in ([], [""]) else {n or "unknown": result.only(n) for n in names}
