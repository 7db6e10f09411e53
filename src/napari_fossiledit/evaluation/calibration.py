"""Scores that are probabilities: of detections that score 0.8, eight in ten are fossils.

For each class a logistic regression gives the probability that a detection is a fossil, from three
things that every prediction knows: its score, how sure the model is of the pixels inside its mask,
and how far it covers the same ground as one that scores better. With the score alone this is
Platt's scaling (1999), which ranks detections as before; the other two put doubles and blurred
masks behind the rest. Before it has seen anything the regression returns the scores as they are,
and a ridge keeps it near them where little was traced.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.optimize import minimize
from scipy.special import expit, logit

from napari_fossiledit.evaluation.figures import greedy_pairs
from napari_fossiledit.evaluation.judged import JudgedSlice
from napari_fossiledit.evaluation.numbers import Floats, Spread, ratio, spread
from napari_fossiledit.masks import Instance
from napari_fossiledit.masks.probability import MASK_CUT
from napari_fossiledit.masks.rle import intersections
from napari_fossiledit.summary import Summary

LEAST_IOU = 0.5
"""Least IoU with a traced instance of a detection that is right, as in the detection figures."""
SCORE = 0.5
"""Score from which on the detections of today are compared, as in the detection figures."""
BINS = 10
"""Bins of equal width of a reliability diagram (Guo et al. 2017)."""
_RIDGE = 1.0
"""Weight of a squared coefficient of standardised features. Of 0.3, 1, 3 and 10 it did best on
sample reefs with one or two traced slices; with six all were alike."""
_SURE = 1e-6
"""Scores are cut here before their logit is taken."""


def features(found: Sequence[Instance]) -> Floats:
    """Return what the probability of each detection of one class in one slice depends on.

    Returns
    -------
    (n, 3): logit of the score; mean probability of the pixels inside the mask; share of the smaller
    mask that it has in common with a better scored one, times the score of that (the largest).
    """
    scores = np.array([i.score for i in found], dtype=np.float64)
    masks = [i.mask for i in found]
    areas = np.array([m.area for m in masks], dtype=np.float64)
    share = intersections(masks, masks) / np.minimum(areas[:, None], areas[None])
    better = scores[None] * (scores[None] > scores[:, None])
    double = (share * better).max(axis=1, initial=0.0)
    odds = logit(scores.clip(_SURE, 1 - _SURE))
    return np.stack([odds, [_sureness(i) for i in found], double], axis=1)


def _sureness(instance: Instance) -> float:
    if instance.probability is None:
        return MASK_CUT
    grid = np.concatenate([p.grid.ravel() for p in instance.probability.pieces]) / 255
    inside = grid[grid > MASK_CUT]
    return float(inside.mean()) if inside.size else MASK_CUT


class Regression(BaseModel):
    """Probability of a detection of one class: the logistic function of a weighted sum."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    bias: float
    score: float
    sureness: float
    double: float

    def probability(self, values: Floats) -> Floats:
        """Return the probability for each row of `features`."""
        weights = np.array([self.score, self.sureness, self.double])
        return np.asarray(expit(values @ weights + self.bias), dtype=np.float64)


def fit(values: Floats, right: NDArray[np.bool_]) -> Regression:
    """Fit the regression of one class.

    Parameters
    ----------
    values
        (n, 3) as `features` gives them.
    right
        (n,) whether the detection is a fossil.
    """
    mean, deviation = values.mean(axis=0), values.std(axis=0) + _SURE
    inputs = np.column_stack([np.ones(len(values)), (values - mean) / deviation])

    def loss(weights: Floats) -> tuple[float, Floats]:
        # Beginning at the score: with weights of 0 the logit is that of the score.
        total = values[:, 0] + inputs @ weights
        cost = np.logaddexp(0, total) - right * total
        slope = inputs.T @ (expit(total) - right) + _RIDGE * weights
        return float(cost.sum() + _RIDGE / 2 * weights @ weights), slope

    weights = minimize(loss, np.zeros(inputs.shape[1]), jac=True, method="L-BFGS-B").x
    slopes = weights[1:] / deviation
    bias = weights[0] - slopes @ mean
    return Regression(bias=bias, score=1 + slopes[0], sureness=slopes[1], double=slopes[2])


def held_out(values: Floats, right: NDArray[np.bool_], folds: NDArray[np.intp]) -> Floats:
    """Return the probability of each detection by a regression that did not see its fold."""
    told = np.empty(len(values))
    for fold in np.unique(folds):
        others = folds != fold
        told[~others] = fit(values[others], right[others]).probability(values[~others])
    return told


class Calibration(BaseModel):
    """Regressions of a model.

    Attributes
    ----------
    model_hash
        The model whose scores they were fitted to.
    classes
        Regressions by class.
    off
        By class whose scores stay as they are, why.
    slices
        Traced slices that were fitted to.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    version: int = 1
    model_hash: str
    classes: dict[str, Regression]
    off: dict[str, str]
    slices: tuple[int, ...]

    @property
    def hash(self) -> str:
        """Hex digest of all that scores depend on."""
        text = self.model_dump_json(include={"version", "model_hash", "classes"})
        return hashlib.sha256(text.encode()).hexdigest()

    def applied(self, found: Iterable[Instance]) -> list[Instance]:
        """Return the detections of a slice with probabilities as scores, highest first."""
        by_class: dict[str, list[Instance]] = {}
        for instance in found:
            by_class.setdefault(instance.class_name, []).append(instance)
        for name, regression in self.classes.items():
            if ours := by_class.get(name):
                told = regression.probability(features(ours)).tolist()
                by_class[name] = [replace(i, score=p) for i, p in zip(ours, told, strict=True)]
        return sorted((i for some in by_class.values() for i in some), key=lambda i: -i.score)


# ------------------------------------------------------------------ figures


@dataclass(frozen=True)
class Reliability(Summary):
    """How far scores are probabilities.

    Attributes
    ----------
    bins
        Mean score, share that is right, and number of the detections of each bin that has any.
    error
        Expected calibration error: mean distance of the two, weighted by number.
    log_loss
        Mean over detections of minus the logarithm of the probability of what is true.
    precision
        Detection precision at the recall that the model's own scores have from 0.5 on.
    score
        Score from which on detections have that recall.
    """

    bins: tuple[tuple[float, float, int], ...]
    error: float
    log_loss: float
    precision: float | None
    score: float | None

    def summary(self) -> dict[str, Any]:
        """Return the figures for JSON, without the points of the diagram."""
        return {name: value for name, value in super().summary().items() if name != "bins"}


@dataclass(frozen=True)
class ScoreFigures(Summary):
    """Scores of a model as they are and as probabilities, on traced instances.

    Attributes
    ----------
    right, false
        Numbers of detections.
    recall
        Detection recall of the model's own scores from 0.5 on.
    before, after
        Figures of the scores as they are and of the probabilities.
    gain
        What the log loss falls by, over detections.
    """

    right: int
    false: int
    recall: float | None
    before: Reliability
    after: Reliability
    gain: Spread


def right_ones(judged: JudgedSlice) -> NDArray[np.bool_]:
    """Return which predictions have a truth to themselves; the highest score chooses first."""
    right = np.zeros(len(judged.predictions), dtype=np.bool_)
    right[[row for row, _ in greedy_pairs(judged.iou, LEAST_IOU)]] = True
    return right


def compare_scores(slices: Sequence[JudgedSlice], told: Sequence[Floats]) -> ScoreFigures:
    """Compare the scores of predictions with probabilities for the same predictions.

    Parameters
    ----------
    told
        Probability of each prediction, an array a slice.
    """
    own = [np.array([p.score for p in s.predictions], dtype=np.float64) for s in slices]
    right = np.concatenate([right_ones(s) for s in slices])
    truths = sum(len(s.truths) for s in slices)
    before, after = np.concatenate(own), np.concatenate(told)
    found = int(right[before >= SCORE].sum())
    gains = _log_losses(before, right) - _log_losses(after, right)
    return ScoreFigures(
        int(right.sum()),
        int((~right).sum()),
        ratio(found, truths),
        _reliability(before, right, *_precision(slices, own, found)),
        _reliability(after, right, *_precision(slices, told, found)),
        spread(gains.tolist(), seed=0),
    )


def _log_losses(scores: Floats, right: NDArray[np.bool_]) -> Floats:
    scores = scores.clip(_SURE, 1 - _SURE)
    return -np.log(np.where(right, scores, 1 - scores))


def _precision(
    slices: Sequence[JudgedSlice], scores: Sequence[Floats], found: int
) -> tuple[float | None, float | None]:
    """Return the precision of the best scored predictions that find so many truths, and the score.

    Both are None where they never find so many, or none is to be found.
    """
    right = []
    for judged, own in zip(slices, scores, strict=True):
        order = np.argsort(-own, kind="stable")
        hit = np.zeros(len(own), dtype=np.bool_)
        hit[[order[row] for row, _ in greedy_pairs(judged.iou[order], LEAST_IOU)]] = True
        right.append(hit)
    all_scores, all_right = np.concatenate(scores), np.concatenate(right)
    order = np.argsort(-all_scores, kind="stable")
    hits = np.cumsum(all_right[order])
    count = int(np.searchsorted(hits, found)) + 1
    if not found or count > len(hits):
        return None, None
    return found / count, float(all_scores[order[count - 1]])


def _reliability(
    scores: Floats, right: NDArray[np.bool_], precision: float | None, score: float | None
) -> Reliability:
    number = np.minimum((scores * BINS).astype(np.intp), BINS - 1)
    bins = tuple(
        (float(scores[inside].mean()), float(right[inside].mean()), int(inside.sum()))
        for inside in (number == n for n in range(BINS))
        if inside.any()
    )
    error = sum(abs(mean - share) * count for mean, share, count in bins) / len(scores)
    return Reliability(bins, error, float(_log_losses(scores, right).mean()), precision, score)
