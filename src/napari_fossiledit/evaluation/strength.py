"""Choose strength and score of an edit on tuning slices, by the paper's protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from napari_fossiledit.evaluation.judged import JudgedSlice
from napari_fossiledit.evaluation.protocol import ProtocolResult, protocol

MATCHED_SHARE = 0.03
"""Share of the matched instances that an edit may lose."""

# A mean that fell by exactly the tolerance is accepted, whatever its last digit says.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Trial:
    """One strength and score, with the figures on the tuning slices.

    Attributes
    ----------
    accepted
        Whether recall, IoU and the number matched fall by no more than is accepted.
    """

    strength: float
    score: float
    figures: ProtocolResult
    accepted: bool

    def summary(self) -> dict[str, Any]:
        """Return the trial as JSON-able values; of each figure its mean."""
        names = ("precision", "recall", "iou", "recall_all", "iou_all")
        return {
            "strength": self.strength,
            "score": self.score,
            **{name: getattr(self.figures, name).mean for name in names},
            "matched": self.figures.matched,
            "truths": len(self.figures.truths),
            "accepted": self.accepted,
        }


def trials(
    judged: Mapping[float, Sequence[JudgedSlice]], scores: Sequence[float], tolerance: float
) -> tuple[Trial, ...]:
    """Score the model without the edit, and with it at every strength and score.

    Parameters
    ----------
    judged
        The tuning slices by strength; 0, the model without the edit, among them.
    scores
        Thresholds to try; the model without the edit is scored at 0 alone, as in the paper.
    tolerance
        A mean may fall by this much.
    """
    base = protocol(judged[0.0])
    results = [Trial(0.0, 0.0, base, accepted=True)]
    for strength, slices in judged.items():
        for score in scores if strength else ():
            figures = protocol(slices, score=score)
            lost = base.matched - figures.matched
            accepted = lost <= MATCHED_SHARE * base.matched and not any(
                _mean(base, name) - _mean(figures, name) > tolerance + _ROUNDING
                for name in ("recall", "iou", "recall_all", "iou_all")
            )
            results.append(Trial(strength, score, figures, accepted))
    return tuple(results)


def best_trial(tried: Sequence[Trial]) -> Trial:
    """Return the accepted trial of the highest precision; if none is accepted, the mildest one."""
    accepted = [t for t in tried if t.accepted]
    if accepted:
        return max(accepted, key=lambda t: (_mean(t.figures, "precision"), -t.strength))
    return min(tried, key=lambda t: (t.strength, t.score))


def _mean(figures: ProtocolResult, name: str) -> float:
    mean: float | None = getattr(figures, name).mean
    return mean or 0.0
