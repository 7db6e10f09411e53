"""How the quality of a model falls with the distance of slices from those it learned from.

After Achara and Pandey (2023), sections 3.3 and 4.2: the F-score of pixels at the score threshold
that is best over all slices (ODS), of each slice and of the near and far parts of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from napari_fossiledit.evaluation.figures import PixelResult, pixels
from napari_fossiledit.evaluation.judged import JudgedSlice
from napari_fossiledit.evaluation.numbers import Floats, Spread, harmonic, resampled
from napari_fossiledit.summary import Summary

THRESHOLDS = tuple(round(0.05 * n, 2) for n in range(20))
"""Scores that are tried as the threshold."""

FLAT = 0.3
"""Size of a rank correlation up to which it is taken for none: a tenth of the variance of ranks."""

FEWEST = 6
"""Slices below which a rank correlation says nothing: of 5, 1 order in 60 is as good as perfect."""


@dataclass(frozen=True)
class Quality:
    """F-scores of slices at one threshold.

    Attributes
    ----------
    threshold
        Score from which on predictions count: that of the best F-score over all slices.
    overall
        F-score over the pixels of all slices; None where there is neither truth nor prediction.
    slices, f_scores
        The slices that have an F-score, and these.
    """

    threshold: float
    overall: float | None
    slices: tuple[int, ...]
    f_scores: tuple[float, ...]


class PixelCounts:
    """Pixels of slices that are predicted, true and both, at each of `THRESHOLDS`."""

    def __init__(self) -> None:
        self._counts: dict[int, list[PixelResult]] = {}

    def add(self, judged: JudgedSlice) -> None:
        """Count those of one slice; its masks need not be kept."""
        self._counts[judged.slice] = [pixels([judged], score=score) for score in THRESHOLDS]

    def quality(self) -> Quality:
        """Choose the threshold over all slices and return their F-scores."""
        columns = range(len(THRESHOLDS))
        overall = [f_score([each[n] for each in self._counts.values()]) for n in columns]
        best = max(columns, key=lambda n: overall[n] or 0.0)
        scores = {z: f_score([each[best]]) for z, each in self._counts.items()}
        known = {z: f for z, f in sorted(scores.items()) if f is not None}
        return Quality(THRESHOLDS[best], overall[best], tuple(known), tuple(known.values()))


def f_score(counts: Sequence[PixelResult]) -> float | None:
    """Compute F over the pixels of slices; None where nothing is true and nothing predicted."""
    predicted, true, shared = (
        sum(getattr(c, name) for c in counts) for name in ("predicted", "true", "shared")
    )
    if not predicted and not true:
        return None
    # Without a prediction precision is not defined, but nothing was found: F is 0.
    return harmonic(shared / predicted if predicted else 0.0, shared / true if true else 0.0)


@dataclass(frozen=True)
class Part(Summary):
    """Slices of one part of the range of distances.

    Attributes
    ----------
    name
        Which, as share of the slices from the nearest on.
    f_score
        Mean of their F-scores.
    distance, deviation
        Mean and standard deviation of their scaled distances.
    """

    name: str
    f_score: float
    distance: float
    deviation: float


@dataclass(frozen=True)
class Relation(Summary):
    """How the F-score of slices goes with their distance.

    Attributes
    ----------
    slices
        Number of slices.
    spearman
        Rank correlation with its 95 % bootstrap interval over slices; without a value where there
        are too few slices, or all have the same distance or F-score.
    parts
        Near and far half, near and far third, as in the paper's Tables 3 to 5.
    verdict
        What follows, in words.
    """

    slices: int
    spearman: Spread
    parts: tuple[Part, ...]
    verdict: str

    @property
    def flat(self) -> bool:
        """Whether it is known that quality hardly goes with distance."""
        return _is_flat(self.spearman)


def relation(scaled: Floats, f_scores: Floats, seed: int = 0) -> Relation:
    """Relate F-scores of slices with their distances.

    Parameters
    ----------
    scaled, f_scores
        (m,) distances, 0 to 1, and F-scores of the same slices.
    seed
        Of the bootstrap.
    """
    count = len(f_scores)
    if count < FEWEST:
        said = f"{count} slices are too few to tell: at least {FEWEST} have to be traced."
        return Relation(count, Spread(None, None), (), said)
    order = np.argsort(scaled, kind="stable")
    half, third = count // 2, count // 3
    ranges = {
        "nearest half": order[:half],
        "farthest half": order[half:],
        "nearest third": order[:third],
        "farthest third": order[count - third :],
    }
    parts = tuple(
        Part(n, *map(float, (f_scores[i].mean(), scaled[i].mean(), scaled[i].std())))
        for n, i in ranges.items()
    )
    rho = resampled(lambda draw: spearman(scaled[draw], f_scores[draw]), count, seed)
    return Relation(count, rho, parts, _verdict(rho, parts, count))


def spearman(left: NDArray[Any], right: NDArray[Any]) -> Floats:
    """Compute Spearman's rank correlation along the last axis; NaN where all values are equal."""
    ranks = [rankdata(values, axis=-1) for values in (left, right)]
    a, b = (r - r.mean(axis=-1, keepdims=True) for r in ranks)
    size = np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1))
    found = np.full(size.shape, np.nan)
    np.divide((a * b).sum(axis=-1), size, out=found, where=size > 0)
    return found


def _is_flat(rho: Spread) -> bool:
    """Return whether the interval holds 0, and nothing beyond `FLAT`."""
    return rho.interval is not None and -FLAT <= rho.interval[0] <= 0 <= rho.interval[1] <= FLAT


def _verdict(rho: Spread, parts: Sequence[Part], count: int) -> str:
    near, far = (p.f_score for p in parts[:2])
    figures = f"mean F {near:.2f} in the nearer half of the slices, {far:.2f} in the farther one"
    if rho.mean is None or rho.interval is None:
        return f"All slices have the same distance or F-score ({figures})."
    low, high = rho.interval
    if high < 0:
        return f"Quality falls with distance ({figures}): tracing far slices is worth its time."
    if low > 0:
        return (
            f"Quality rises with distance ({figures}): this distance does not tell where the model "
            "fails; choose evenly spaced slices."
        )
    if _is_flat(rho):
        return (
            f"Flat ({figures}): the model does as well on far slices as on near ones, so distance "
            "is no reason to trace more."
        )
    return (
        f"Not decided ({figures}): the rank correlation of {count} slices may be anything from "
        f"{low:+.2f} to {high:+.2f}; trace more slices to tell."
    )
