"""Instances found, invented and lost at one IoU and one score threshold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.evaluation.judged import JudgedSlice
from napari_fossiledit.evaluation.numbers import harmonic, ratio


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
        """Figures for JSON; None where undefined."""
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
    return added(_slice_result(s, score, least_iou) for s in slices)


def added(parts: Iterable[DetectionResult]) -> DetectionResult:
    """Add up the results of several slices."""
    results = list(parts)
    found = tuple(iou for r in results for iou in r.found)
    return DetectionResult(found, sum(r.invented for r in results), sum(r.lost for r in results))


def _slice_result(judged: JudgedSlice, score: float, least_iou: float) -> DetectionResult:
    used = judged.above(score)
    pairs = greedy_pairs(judged.iou[:used], least_iou)
    found = tuple(float(judged.iou[p, t]) for p, t in pairs)
    return DetectionResult(found, used - len(pairs), len(judged.truths) - len(pairs))


def greedy_pairs(iou: NDArray[np.float64], least_iou: float) -> list[tuple[int, int]]:
    """Pairs (row, column) in which each row in turn takes the best free column.

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
