"""The protocol of the model-editing paper (section "Results", and its authors' public code).

Each true instance g is matched with the predicted mask p of the highest IoU, whatever else that
mask matches. With U the union of all truths of the class in the slice:

    recall = |p & g| / |g|      IoU = |p & g| / |p | g|      precision = |p & U| / |p|

Mean and population standard deviation go over the instances with IoU > 0 only, so they hide
how many were lost: the numbers matched and missed and the means over all truths (a missed
one counts 0) stand beside them. Precision uses U, as the authors' code does, because a mask that
runs on into the next archaeocyathid adds no foreign pixel to the 3D model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from napari_fossiledit.evaluation.judged import JudgedSlice
from napari_fossiledit.evaluation.numbers import Spread, spread


@dataclass(frozen=True)
class TruthScore:
    """Agreement of one true instance with the predictions.

    Attributes
    ----------
    slice, id, texture
        Of the true instance.
    area
        Its pixels that count.
    recall, iou, precision
        Of the matched prediction, all 0 where none overlaps.
    score
        Confidence of the matched prediction, None where none overlaps.
    """

    slice: int
    id: int | None
    texture: str
    area: int
    recall: float = 0.0
    iou: float = 0.0
    precision: float = 0.0
    score: float | None = None

    @property
    def matched(self) -> bool:
        """True where any prediction overlaps the instance."""
        return self.iou > 0


@dataclass(frozen=True)
class ProtocolResult:
    """Figures of the paper's protocol over any number of slices.

    Attributes
    ----------
    truths
        One score for each true instance.
    predictions
        Number of predictions that were judged.
    spurious
        Predictions that overlap no true instance at all.
    seed
        Seed of the bootstrap intervals.
    """

    truths: tuple[TruthScore, ...]
    predictions: int = 0
    spurious: int = 0
    seed: int = 0

    @property
    def matched(self) -> int:
        """Number of true instances with IoU > 0."""
        return sum(t.matched for t in self.truths)

    @property
    def missed(self) -> int:
        """Number of true instances that no prediction overlaps."""
        return len(self.truths) - self.matched

    @property
    def precision(self) -> Spread:
        """Over matched instances."""
        return self._spread("precision")

    @property
    def recall(self) -> Spread:
        """Over matched instances."""
        return self._spread("recall")

    @property
    def iou(self) -> Spread:
        """Over matched instances."""
        return self._spread("iou")

    @property
    def recall_all(self) -> Spread:
        """Over all true instances, a missed one counting 0."""
        return self._spread("recall", matched=False)

    @property
    def iou_all(self) -> Spread:
        """Over all true instances, a missed one counting 0."""
        return self._spread("iou", matched=False)

    def _spread(self, name: str, *, matched: bool = True) -> Spread:
        chosen = [t for t in self.truths if t.matched or not matched]
        return spread([float(getattr(t, name)) for t in chosen], seed=self.seed)

    def only(self, texture: str) -> ProtocolResult:
        """Keep the truths of one texture; predictions have none, so their counts are 0."""
        return ProtocolResult(tuple(t for t in self.truths if t.texture == texture), seed=self.seed)

    def summary(self) -> dict[str, object]:
        """Figures for JSON; None where undefined."""
        return {
            "precision": self.precision.summary(),
            "recall": self.recall.summary(),
            "iou": self.iou.summary(),
            "recall_all": self.recall_all.summary(),
            "iou_all": self.iou_all.summary(),
            "truths": len(self.truths),
            "matched": self.matched,
            "missed": self.missed,
            "predictions": self.predictions,
            "spurious": self.spurious,
        }


def protocol(slices: Iterable[JudgedSlice], *, score: float = 0.0, seed: int = 0) -> ProtocolResult:
    """Score slices by the paper's protocol.

    Parameters
    ----------
    score
        Predictions below it are ignored; the paper takes all (0).
    """
    return pooled([_slice_result(s, score) for s in slices], seed=seed)


def pooled(parts: Sequence[ProtocolResult], *, seed: int = 0) -> ProtocolResult:
    """Join the results of several slices to one over all their instances."""
    return ProtocolResult(
        tuple(t for p in parts for t in p.truths),
        sum(p.predictions for p in parts),
        sum(p.spurious for p in parts),
        seed,
    )


def _slice_result(judged: JudgedSlice, least_score: float) -> ProtocolResult:
    used = judged.above(least_score)
    iou = judged.iou[:used]
    best = iou.argmax(axis=0) if used else np.zeros(len(judged.truths), dtype=np.intp)
    truths = []
    for index, (truth, row) in enumerate(zip(judged.truths, best.tolist(), strict=True)):
        area = truth.mask.area
        score = TruthScore(judged.slice, truth.id, truth.texture, area)
        shared = int(judged.shared[row, index]) if used else 0
        if shared:
            score = replace(
                score,
                recall=shared / area,
                iou=float(judged.iou[row, index]),
                precision=float(judged.on_truth[row] / judged.areas[row]),
                score=judged.predictions[row].score,
            )
        truths.append(score)
    spurious = int((judged.shared[:used].sum(axis=1) == 0).sum())
    return ProtocolResult(tuple(truths), used, spurious)
