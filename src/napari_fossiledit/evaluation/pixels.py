"""Pixels of the class found and invented, and on what the invented ones lie."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from napari_fossiledit.evaluation.judged import JudgedSlice
from napari_fossiledit.evaluation.numbers import ratio
from napari_fossiledit.masks import Mask
from napari_fossiledit.masks.rle import union


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
        """Figures for JSON; None where undefined."""
        return {
            "precision": self.precision,
            "recall": self.recall,
            "predicted": self.predicted,
            "true": self.true,
            "invented": self.invented,
            "invented_share_on": self.interclass,
        }


def pixels(slices: Iterable[JudgedSlice], *, score: float = 0.5) -> PixelResult:
    """Compare the union of the predictions from `score` up with the union of the truths."""
    return added(_slice_result(s, score) for s in slices)


def added(parts: Iterable[PixelResult]) -> PixelResult:
    """Add up the counts of several slices."""
    results = list(parts)
    names = sorted({name for r in results for name in r.invented_on})
    return PixelResult(
        sum(r.predicted for r in results),
        sum(r.true for r in results),
        sum(r.shared for r in results),
        {name: sum(r.invented_on.get(name, 0) for r in results) for name in names},
    )


def _slice_result(judged: JudgedSlice, score: float) -> PixelResult:
    predicted = union((p.mask for p in judged.predictions[: judged.above(score)]), judged.shape)
    shared = predicted & judged.truth
    on = {name: _invented_on(predicted, shared, mask) for name, mask in judged.others.items()}
    return PixelResult(predicted.area, judged.truth.area, shared.area, on)


def _invented_on(predicted: Mask, shared: Mask, other: Mask) -> int:
    """Pixels predicted on the other class, without those that are true all the same."""
    return (predicted & other).area - (shared & other).area
