"""Choosing strength and score of an edit on tuning slices, by the paper's protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.evaluation import JudgedSlice
from napari_fossiledit.evaluation.protocol import ProtocolResult, protocol

MATCHED_SHARE = 0.03
"""Share of the matched instances that an edit may lose."""

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
        """Tell the trial as JSON-able values."""
        names = ("precision", "recall", "iou", "recall_all", "iou_all")
        means = {name: getattr(self.figures, name).mean for name in names}
        return {
            "strength": self.strength,
            "score": self.score,
            **means,
            "matched": self.figures.matched,
            "truths": len(self.figures.truths),
            "accepted": self.accepted,
        }


def numbers(text: str, what: str, low: float, high: float) -> tuple[float, ...]:
    """Read ``"0.25,0.5,1"``.

    Raises
    ------
    FossilError
        Where a part is no number between `low` and `high`, or there is none.
    """
    try:
        found = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        found = ()
    if not found or not all(low <= value <= high for value in found):
        raise FossilError(
            f"The {what} cannot be read",
            expected=f"numbers from {low:g} to {high:g}, such as 0.25,0.5,1",
            found=repr(text),
        )
    return found


def trials(
    unedited: Sequence[JudgedSlice],
    judged: Mapping[float, Sequence[JudgedSlice]],
    scores: Sequence[float],
    tolerance: float,
) -> Iterator[Trial]:
    """Try every strength with every score.

    Parameters
    ----------
    unedited
        The tuning slices judged with the parent, threshold 0.
    judged
        The same slices by strength.
    tolerance
        A mean may fall by this much.
    """
    base = protocol(unedited)
    for strength, slices in judged.items():
        for score in scores:
            figures = protocol(slices, score=score)
            yield Trial(strength, score, figures, _accepted(base, figures, tolerance))


def _accepted(before: ProtocolResult, after: ProtocolResult, tolerance: float) -> bool:
    means = ("recall", "iou", "recall_all", "iou_all")
    fell = any(_mean(before, name) - _mean(after, name) > tolerance + _ROUNDING for name in means)
    return not fell and before.matched - after.matched <= MATCHED_SHARE * before.matched


def _mean(figures: ProtocolResult, name: str) -> float:
    mean: float | None = getattr(figures, name).mean
    return mean or 0.0


def best(tried: Sequence[Trial]) -> Trial:
    """Pick the highest precision of the accepted trials; if none is, the mildest one."""
    accepted = [t for t in tried if t.accepted]
    if accepted:
        return max(accepted, key=lambda t: (_mean(t.figures, "precision"), -t.strength))
    return min(tried, key=lambda t: (t.strength, t.score))
