"""The same truths judged twice: gains and losses by an edit or a perturbation.

Each interval comes from a paired bootstrap over the true instances (Efron and Tibshirani 1993,
chapter 8): one draw of truths serves before and after, so that hard and easy instances cancel.
An interval above 0 is a gain that the choice of these truths does not explain. Strength and score
of an edit are chosen by the same figures, on tuning slices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_fossiledit.errors import FossilError
from napari_fossiledit.evaluation.judged import JudgedSlice
from napari_fossiledit.evaluation.numbers import (
    Floats,
    Spread,
    Statistic,
    resampled,
    weighted_mean,
)
from napari_fossiledit.evaluation.protocol import ProtocolResult, protocol

MEASURES = ("precision", "recall", "iou")
"""Figures of the paper's protocol."""

MATCHED_SHARE = 0.03
"""Share of the matched instances that an edit may lose."""

_WORDS = {
    "precision": "Precision",
    "recall": "Recall",
    "iou": "IoU",
    "recall_all": "Recall over all truths",
    "iou_all": "IoU over all truths",
}
#: A mean that fell by exactly the tolerance is accepted, whatever its last digit says.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Comparison:
    """Figures before and after over the same true instances.

    Attributes
    ----------
    before, after
        By the paper's protocol.
    deltas
        After minus before: its value, its standard error (as ``std``) and its 95 % interval.
        ``precision``, ``recall``, ``iou``: of the means over matched instances, which the paper
        gives, each over its own matched ones. ``precision_both``, ...: over those matched both
        times. ``recall_all``, ``iou_all``: over all truths, a missed one counting 0.
        ``matched``: of the number matched.
    """

    before: ProtocolResult
    after: ProtocolResult
    deltas: dict[str, Spread]

    def rose(self, name: str) -> bool:
        """Return whether the interval of a difference lies above 0."""
        interval = self.deltas[name].interval
        return interval is not None and interval[0] > 0

    def fell(self, name: str) -> bool:
        """Return whether the interval of a difference lies below 0."""
        interval = self.deltas[name].interval
        return interval is not None and interval[1] < 0

    def only(self, texture: str) -> Comparison:
        """Compare the truths of one texture."""
        return compare_results(self.before.only(texture), self.after.only(texture))

    @property
    def textures(self) -> dict[str, Comparison]:
        """The same for each texture; empty where no texture is noted at all."""
        names = sorted({t.texture for t in self.before.truths})
        return {} if names in ([], [""]) else {n or "unknown": self.only(n) for n in names}

    def summary(self) -> dict[str, object]:
        """Return the figures for JSON; None where undefined."""
        return {**self._figures(), "textures": {n: c._figures() for n, c in self.textures.items()}}

    def _figures(self) -> dict[str, object]:
        return {
            "before": self.before.summary(),
            "after": self.after.summary(),
            "deltas": {name: value.summary() for name, value in self.deltas.items()},
        }


def compare(
    before: Sequence[JudgedSlice],
    after: Sequence[JudgedSlice],
    *,
    score_before: float = 0.0,
    score_after: float = 0.0,
    seed: int = 0,
) -> Comparison:
    """Judge the same slices before and after by the paper's protocol.

    Parameters
    ----------
    score_before, score_after
        Predictions below these are ignored; the paper takes all (0).
    seed
        Seed of all bootstrap intervals.

    Raises
    ------
    FossilError
        Where the two do not judge the same truths.
    """
    return compare_results(
        protocol(before, score=score_before, seed=seed),
        protocol(after, score=score_after, seed=seed),
    )


def compare_results(before: ProtocolResult, after: ProtocolResult) -> Comparison:
    """Compare two results over the same truths, in the same order."""
    old, new = ([(t.slice, t.id, t.area) for t in r.truths] for r in (before, after))
    if old != new:
        raise FossilError(
            "Before and after do not judge the same instances",
            expected=f"{len(old)} true instances of slices {sorted({t[0] for t in old})}",
            found=f"{len(new)} of slices {sorted({t[0] for t in new})}",
            advice="Judge both on the same slices, area and class.",
        )
    # A draw takes the same truths from both, so that only the change varies.
    names = (*MEASURES, "matched")
    first, second = (
        {name: np.array([float(getattr(t, name)) for t in r.truths]) for name in names}
        for r in (before, after)
    )
    was, now = first["matched"], second["matched"]
    every = np.ones(len(old))

    def over_matched(name: str) -> Statistic:
        """Difference of the means over the instances matched before and over those after."""
        a, b = first[name], second[name]
        return lambda draw: weighted_mean(b[draw], now[draw]) - weighted_mean(a[draw], was[draw])

    def over(weights: Floats, name: str) -> Statistic:
        """Mean difference over the instances that have a weight."""
        change = second[name] - first[name]
        return lambda draw: weighted_mean(change[draw], weights[draw])

    statistics: dict[str, Statistic] = {
        **{name: over_matched(name) for name in MEASURES},
        **{f"{name}_both": over(was * now, name) for name in MEASURES},
        "recall_all": over(every, "recall"),
        "iou_all": over(every, "iou"),
        "matched": lambda draw: (now - was)[draw].sum(axis=-1),
    }
    deltas = {n: resampled(s, len(old), before.seed) for n, s in statistics.items()}
    return Comparison(before, after, deltas)


def worse(
    comparison: Comparison, tolerance: float = 0.02, matched_share: float = MATCHED_SHARE
) -> list[str]:
    """Return sentences that name the figures which got worse.

    Parameters
    ----------
    tolerance
        A mean may fall by this much.
    matched_share
        The number of matched instances may fall by this share of what it was.

    Returns
    -------
    list of str
        One sentence each; empty where nothing got worse.
    """
    sentences = []
    for name, word in _WORDS.items():
        delta = comparison.deltas[name]
        old, new = (getattr(r, name).mean for r in (comparison.before, comparison.after))
        if old is not None and new is None:
            sentences.append(
                f"{word} fell from {old:.3f} to nothing: no instance is matched any more."
            )
        elif delta.mean is not None and delta.mean < -tolerance - _ROUNDING:
            fall = f"{word} fell from {old:.3f} to {new:.3f} ({delta.mean:+.3f}"
            if delta.interval is not None:
                low, high = delta.interval
                fall += f", 95 % interval {low:+.3f} to {high:+.3f}"
            sentences.append(f"{fall}).")
    before, after = comparison.before.matched, comparison.after.matched
    if before - after > matched_share * before + _ROUNDING:
        total = len(comparison.before.truths)
        sentences.append(f"Matched instances fell from {before} to {after} of {total}.")
    return sentences


# ------------------------------------------------------- choosing the strength


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
        # Without the edit there is one trial: every other one is compared with it.
        for score in scores if strength else ():
            figures = protocol(slices, score=score)
            lost = base.matched - figures.matched
            accepted = lost <= MATCHED_SHARE * base.matched and not any(
                _mean_of(base, name) - _mean_of(figures, name) > tolerance + _ROUNDING
                for name in ("recall", "iou", "recall_all", "iou_all")
            )
            results.append(Trial(strength, score, figures, accepted))
    return tuple(results)


def best_trial(tried: Sequence[Trial]) -> Trial:
    """Return the accepted trial of the highest precision; if none is accepted, the mildest one.

    Recall cannot be paid for precision: an edit that drops poor detections would raise the means
    over matched instances by dropping them, which those over all truths and the number matched
    show (see `trials`).
    """
    accepted = [t for t in tried if t.accepted]
    if accepted:
        return max(accepted, key=lambda t: (_mean_of(t.figures, "precision"), -t.strength))
    return min(tried, key=lambda t: (t.strength, t.score))


def _mean_of(figures: ProtocolResult, name: str) -> float:
    mean: float | None = getattr(figures, name).mean
    return mean or 0.0
