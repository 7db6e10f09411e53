"""The same truths judged twice: what an edit or a perturbation gained and lost.

Each interval comes from a paired bootstrap over the true instances (Efron and Tibshirani 1993,
chapter 8): one draw of truths serves before and after, so that hard and easy instances cancel.
An interval above 0 is a gain that the choice of these truths does not explain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.evaluation.judged import JudgedSlice
from napari_fossiledit.evaluation.numbers import RESAMPLES, Spread
from napari_fossiledit.evaluation.protocol import ProtocolResult, TruthScore, protocol

MEASURES = ("precision", "recall", "iou")
"""Figures of the paper's protocol."""

_WORDS = {
    "precision": "Precision",
    "recall": "Recall",
    "iou": "IoU",
    "recall_all": "Recall over all truths",
    "iou_all": "IoU over all truths",
}
_ROUNDING = 1e-9

_Floats = NDArray[np.float64]
_Statistic = Callable[[NDArray[np.intp]], _Floats]


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
        tells, each over its own matched ones. ``precision_both``, ...: over those matched both
        times. ``recall_all``, ``iou_all``: over all truths, a missed one counting 0.
        ``matched``: of the number matched.
    """

    before: ProtocolResult
    after: ProtocolResult
    deltas: dict[str, Spread]

    def rose(self, name: str) -> bool:
        """Whether the interval of a difference lies above 0."""
        interval = self.deltas[name].interval
        return interval is not None and interval[0] > 0

    def fell(self, name: str) -> bool:
        """Whether the interval of a difference lies below 0."""
        interval = self.deltas[name].interval
        return interval is not None and interval[1] < 0

    def only(self, texture: str) -> Comparison:
        """Compare the truths of one texture."""
        return compared(self.before.only(texture), self.after.only(texture))

    @property
    def textures(self) -> dict[str, Comparison]:
        """The same for each texture; empty where no texture is noted at all."""
        names = sorted({t.texture for t in self.before.truths})
        return {} if names in ([], [""]) else {n or "unknown": self.only(n) for n in names}

    def summary(self) -> dict[str, object]:
        """Figures for JSON; None where undefined."""
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
    return compared(
        protocol(before, score=score_before, seed=seed),
        protocol(after, score=score_after, seed=seed),
    )


def compared(before: ProtocolResult, after: ProtocolResult) -> Comparison:
    """Compare two results over the same truths, in the same order."""
    old, new = ([(t.slice, t.id, t.area) for t in r.truths] for r in (before, after))
    if old != new:
        raise FossilError(
            "Before and after do not judge the same instances",
            expected=f"{len(old)} true instances of slices {sorted({t[0] for t in old})}",
            found=f"{len(new)} of slices {sorted({t[0] for t in new})}",
            advice="Judge both on the same slices, area and class.",
        )
    pair = _Pair(before, after)
    statistics: dict[str, _Statistic] = {
        **{name: pair.of_matched(name) for name in MEASURES},
        **{f"{name}_both": pair.of_both(name) for name in MEASURES},
        "recall_all": pair.of_all("recall"),
        "iou_all": pair.of_all("iou"),
        "matched": pair.of_count(),
    }
    deltas = {n: _resampled(s, len(old), before.seed) for n, s in statistics.items()}
    return Comparison(before, after, deltas)


def worse(
    comparison: Comparison, tolerance: float = 0.02, matched_share: float = 0.03
) -> list[str]:
    """Say in words what got worse.

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
    found = [_fall(comparison, name, tolerance) for name in _WORDS]
    before, after = comparison.before.matched, comparison.after.matched
    if before - after > matched_share * before + _ROUNDING:
        total = len(comparison.before.truths)
        found.append(f"Matched instances fell from {before} to {after} of {total}.")
    return [sentence for sentence in found if sentence]


def _fall(comparison: Comparison, name: str, tolerance: float) -> str:
    """Tell how far a mean fell; empty where it did not."""
    delta = comparison.deltas[name]
    old, new = (getattr(r, name).mean for r in (comparison.before, comparison.after))
    if old is not None and new is None:
        return f"{_WORDS[name]} fell from {old:.3f} to nothing: no instance is matched any more."
    if delta.mean is None or delta.mean >= -tolerance - _ROUNDING:
        return ""
    told = f"{_WORDS[name]} fell from {old:.3f} to {new:.3f} ({delta.mean:+.3f}"
    if delta.interval is None:
        return f"{told})."
    return f"{told}, 95 % interval {delta.interval[0]:+.3f} to {delta.interval[1]:+.3f})."


class _Pair:
    """Figures of the same truths before and after, and statistics of any draw of them.

    A statistic takes the drawn truths, indices (draws, truths), and gives one value a draw,
    NaN where it is undefined.
    """

    def __init__(self, before: ProtocolResult, after: ProtocolResult) -> None:
        self._before, self._after = before.truths, after.truths
        self._found = [_column(truths, "matched") for truths in (before.truths, after.truths)]

    def of_matched(self, name: str) -> _Statistic:
        """Difference of the means over the instances matched before and over those after."""
        old, new = self._columns(name)
        found_old, found_new = self._found
        return lambda draw: _mean(new[draw], found_new[draw]) - _mean(old[draw], found_old[draw])

    def of_both(self, name: str) -> _Statistic:
        """Mean difference over the instances matched before and after."""
        old, new = self._columns(name)
        both = self._found[0] * self._found[1]
        return lambda draw: _mean((new - old)[draw], both[draw])

    def of_all(self, name: str) -> _Statistic:
        """Mean difference over all truths."""
        old, new = self._columns(name)
        return lambda draw: _mean((new - old)[draw], np.ones(draw.shape))

    def of_count(self) -> _Statistic:
        """Difference of the numbers matched."""
        change = self._found[1] - self._found[0]
        return lambda draw: change[draw].sum(axis=-1)

    def _columns(self, name: str) -> tuple[_Floats, _Floats]:
        return _column(self._before, name), _column(self._after, name)


def _column(truths: Sequence[TruthScore], name: str) -> _Floats:
    return np.array([float(getattr(t, name)) for t in truths], dtype=np.float64)


def _mean(values: _Floats, weights: _Floats) -> _Floats:
    """Weighted mean along the last axis; NaN where nothing has a weight."""
    total = weights.sum(axis=-1)
    mean = np.full(total.shape, np.nan)
    np.divide((values * weights).sum(axis=-1), total, out=mean, where=total > 0)
    return mean


def _resampled(statistic: _Statistic, count: int, seed: int) -> Spread:
    """Value of a statistic over all truths, with standard error and interval of its bootstrap."""
    if not count:
        return Spread(None, None)
    value = float(statistic(np.arange(count)[None])[0])
    if np.isnan(value):
        return Spread(None, None)
    if count < 2:
        return Spread(value, None)
    draw = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))
    drawn = statistic(draw)
    drawn = drawn[~np.isnan(drawn)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Spread(value, float(drawn.std()), (float(low), float(high)))
