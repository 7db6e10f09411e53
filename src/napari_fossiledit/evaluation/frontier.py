"""A gain at equal recall: against the unedited model with its masks cut tighter.

Cutting the mask probabilities higher than at one half costs nothing and trades recall for
precision, and so does a score threshold. Whatever claims to draw better masks therefore is
compared with the model it began from, at the cut that gives the same recall over all truths. A gain
that is left is one that no threshold gives.

The recall falls with the cut. Between two cuts that were tried, all figures are interpolated
linearly in recall. Each draw of the bootstrap finds its own place between them: the interval holds
the uncertainty of the comparison too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.evaluation.numbers import Floats, Spread, ratio, resampled, weighted_mean
from napari_fossiledit.evaluation.protocol import ProtocolResult

CUTS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98)
"""Cuts at which the unedited model is judged."""

MEASURES = ("precision", "iou", "iou_all", "matched")
"""What is compared at equal recall."""


@dataclass(frozen=True)
class EqualRecall:
    """Figures at the same recall over all truths, of two ways to get masks.

    Attributes
    ----------
    recall_all
        The recall over all truths that both have.
    cut, score
        Mask cut and score threshold at which the unedited model has it.
    before, after
        `MEASURES` of the unedited model there, and of what is compared with it; the precision and
        IoU over matched truths, ``matched`` as a number.
    gains
        After minus before, with 95 % intervals of a bootstrap over the truths.
    iou_gain
        The gain in IoU over all truths over the cut that gives the unedited model its highest one,
        whatever the recall there. A mask that is drawn too wide has a recall that the unedited
        model reaches only where its own masks are too wide: at equal recall both are bad.
    within
        False where the unedited model reaches no such recall at any cut that was tried: `before`
        is then its nearest one.
    predictions, spurious
        Number of predictions for each truth, and of those among them that touch no truth, before
        and after: doubled detections raise the other figures for nothing.
    """

    recall_all: float
    cut: float
    score: float
    before: dict[str, float | None]
    after: dict[str, float | None]
    gains: dict[str, Spread]
    iou_gain: Spread
    within: bool
    predictions: tuple[float | None, float | None]
    spurious: tuple[int, int]

    @property
    def gain(self) -> Spread:
        """Gain in IoU over all truths at equal recall.

        Where the model before reaches that recall at no cut, it is over the cut that gives it its
        highest IoU.
        """
        return self.gains["iou_all"] if self.within else self.iou_gain

    @property
    def better(self) -> bool:
        """True where the interval of the gain in precision lies above 0."""
        interval = self.gains["precision"].interval
        return interval is not None and interval[0] > 0

    @property
    def words(self) -> str:
        """The verdict in a sentence."""
        gain = self.gains["precision"]
        if gain.mean is None:
            return "Nothing is matched: there is nothing to compare at equal recall."
        text = f"precision {gain.mean:+.3f}"
        if gain.interval is not None:
            text += " (95 % interval {:+.3f} to {:+.3f})".format(*gain.interval)
        text += f" against the unedited model with its masks cut at {self.cut:.2f}"
        if self.score:
            text += f" from a score of {self.score:.2f}"
        text += ", which has the same recall" if self.within else ", the nearest recall it reaches"
        if self.better:
            return f"At equal recall better: {text}."
        worse = gain.interval is not None and gain.interval[1] < 0
        return f"{'Worse' if worse else 'No better'} than a moved mask cut: {text}."

    def summary(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        return {
            "recall_all": self.recall_all,
            "cut": self.cut,
            "score": self.score,
            "before": self.before,
            "after": self.after,
            "gains": {name: gain.summary() for name, gain in self.gains.items()},
            "iou_all_over_best_cut": self.iou_gain.summary(),
            "within": self.within,
            "predictions_per_truth": list(self.predictions),
            "spurious": list(self.spurious),
            "better": self.better,
        }


def at_equal_recall(
    before: Mapping[tuple[float, float], ProtocolResult], after: ProtocolResult
) -> EqualRecall:
    """Compare with the unedited model at the cut and score that give the same recall.

    Parameters
    ----------
    before
        The unedited model by cut and score threshold. Of several scores the one counts that has
        the highest precision at that recall: the comparison is with the best that thresholds give.
    after
        What is compared with it, over the same truths.

    Raises
    ------
    FossilError
        Where the two do not judge the same truths, or no cut is given.
    """
    truths = [(t.slice, t.id) for t in after.truths]
    for (cut, _), result in before.items():
        # A truth is the same whatever was predicted.
        if [(t.slice, t.id) for t in result.truths] != truths:
            raise FossilError(
                f"The unedited model is not judged on the same instances at the cut {cut:g}",
                expected=f"{len(truths)} true instances",
                found=f"{len(result.truths)}",
                advice="Judge both on the same slices, area and class.",
            )
    if not before:
        raise FossilError("The unedited model is judged at no cut", expected="one cut or more")
    curves = [_Curve(before, score) for score in sorted({score for _, score in before})]
    whole = np.arange(len(truths))[None]
    reached = _table(after)
    goal = reached["recall_all"][whole].mean(axis=-1) if truths else np.zeros(1)

    def precision(curve: _Curve) -> tuple[bool, float]:
        value = float(curve.at(goal, whole, "precision")[0]) if truths else 0.0
        return curve.within(float(goal[0]), whole), -1.0 if np.isnan(value) else value

    # One that reaches the recall at all comes first.
    curve = max(curves, key=precision)

    def of_after(name: str, draw: NDArray[np.intp]) -> Floats:
        return _statistic(reached, name, draw)

    def gain(name: str) -> Spread:
        def statistic(draw: NDArray[np.intp]) -> Floats:
            goals = reached["recall_all"][draw].mean(axis=-1)
            return of_after(name, draw) - curve.at(goals, draw, name)

        return resampled(statistic, len(truths), after.seed)

    tables = [_table(result) for result in before.values()]

    def over_best(draw: NDArray[np.intp]) -> Floats:
        best = np.max([_statistic(table, "iou_all", draw) for table in tables], axis=0)
        return np.asarray(of_after("iou_all", draw) - best, dtype=np.float64)

    place = curve.place(goal, whole) if truths else np.zeros(1)
    nearest = curve.results[round(float(place[0]))]
    return EqualRecall(
        recall_all=float(goal[0]),
        cut=float(np.interp(place[0], np.arange(len(curve.cuts)), curve.cuts)),
        score=curve.score,
        before={n: _known(curve.at(goal, whole, n)) if truths else None for n in MEASURES},
        after={n: _known(of_after(n, whole)) if truths else None for n in MEASURES},
        gains={name: gain(name) for name in MEASURES},
        iou_gain=resampled(over_best, len(truths), after.seed),
        within=curve.within(float(goal[0]), whole) if truths else True,
        predictions=(
            ratio(nearest.predictions, len(truths)),
            ratio(after.predictions, len(truths)),
        ),
        spurious=(nearest.spurious, after.spurious),
    )


class _Curve:
    """The unedited model at one score threshold over rising cuts."""

    def __init__(self, before: Mapping[tuple[float, float], ProtocolResult], score: float) -> None:
        chosen = sorted((cut, result) for (cut, s), result in before.items() if s == score)
        self.score = score
        self.cuts = [cut for cut, _ in chosen]
        self.results = [result for _, result in chosen]
        self._tables = [_table(result) for result in self.results]

    def _recalls(self, draw: NDArray[np.intp]) -> Floats:
        """Return the recall over all truths, (cuts, draws); it never rises with the cut."""
        recalls = np.stack([t["recall_all"][draw].mean(axis=-1) for t in self._tables])
        # At another cut another prediction may fit a truth best: without this it can rise a little.
        return np.minimum.accumulate(recalls, axis=0)

    def within(self, goal: float, draw: NDArray[np.intp]) -> bool:
        """Return whether the model has that recall at some cut between those tried."""
        if not draw.size:
            return True
        recalls = self._recalls(draw)[:, 0]
        return bool(recalls[-1] <= goal <= recalls[0])

    def place(self, goals: Floats, draw: NDArray[np.intp]) -> Floats:
        """Return between which cuts a recall lies, as a fractional index for each draw."""
        recalls = self._recalls(draw)
        last = len(self.cuts) - 1
        # The first cut whose recall is below the goal, and the one before it.
        above = np.clip((recalls >= goals).sum(axis=0) - 1, 0, last)
        below = np.minimum(above + 1, last)
        columns = np.arange(len(goals))
        high, low = recalls[above, columns], recalls[below, columns]
        step = np.zeros(len(goals))
        np.divide(high - goals, high - low, out=step, where=high > low)
        return np.asarray(above + np.clip(step, 0, 1), dtype=np.float64)

    def at(self, goals: Floats, draw: NDArray[np.intp], name: str) -> Floats:
        """Interpolate a measure to the recalls `goals` (draws,)."""
        place = self.place(goals, draw)
        values = np.stack([_statistic(t, name, draw) for t in self._tables])
        low = np.floor(place).astype(np.intp)
        high = np.minimum(low + 1, len(self.cuts) - 1)
        columns, share = np.arange(len(goals)), place - low
        first, second = values[low, columns], values[high, columns]
        # Where nothing is matched beyond a cut there is nothing to lean towards.
        return np.where(share > 0, first * (1 - share) + second * share, first)


def _table(result: ProtocolResult) -> dict[str, Floats]:
    """Return the scores of all truths as arrays."""
    truths: Sequence[Any] = result.truths
    return {
        "precision": np.array([t.precision for t in truths], dtype=np.float64),
        "iou": np.array([t.iou for t in truths], dtype=np.float64),
        "recall_all": np.array([t.recall for t in truths], dtype=np.float64),
        "matched": np.array([t.matched for t in truths], dtype=np.float64),
    }


def _statistic(table: dict[str, Floats], name: str, draw: NDArray[np.intp]) -> Floats:
    """Return one of `MEASURES` for each draw of truths."""
    if name == "matched":
        return np.asarray(table["matched"][draw].sum(axis=-1), dtype=np.float64)
    if name == "iou_all":
        return np.asarray(table["iou"][draw].mean(axis=-1), dtype=np.float64)
    return weighted_mean(table[name][draw], table["matched"][draw])


def _known(values: Floats) -> float | None:
    """Return the only value, None where it is undefined."""
    return None if np.isnan(values[0]) else float(values[0])
