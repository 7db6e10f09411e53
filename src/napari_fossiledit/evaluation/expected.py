"""The F-score that a slice can be expected to have before anybody traces it, with a 90 % interval.

A linear model of logit F is fitted by ridge regression, and a conformal interval laid around it:

- *traced slices* of the rock itself, nine or more: jackknife+ (Barber, Candes, Ramdas, Tibshirani
  2021). Their slices stand for the others as far as they were not chosen for being special.
- *sample reefs* in several looks, where there are fewer. A rock is then one more stack: slices of
  one stack are alike, so that stacks count and not slices (hierarchical conformal prediction, Lee,
  Barber, Willett 2023). Whether a real rock is like a sample reef nobody can know.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from napari_fossiledit.evaluation.numbers import Floats

LEVEL = 0.9
"""Share of F-scores that should lie within their interval."""

FEWEST = 9
"""Traced slices from which on there is an interval of `LEVEL`: the 9th of 10 ranks is the last."""

PREDICTORS = ("distance", "score")
"""Columns: logarithm of the relative distance, and mean score of the predictions. What was tried
beside them gained next to nothing: docs/benchmarks/agenda.md."""

TABLE = Path(__file__).parent / "expected.json"
_PENALTY = 3.0
"""Of the ridge, in slices: as much as so many slices speak for a coefficient that is known."""
_SEEN = 0.1
"""Score from which on a prediction counts; below it there are as many as the network may give."""
_LEAST = 0.02
"""F is taken no nearer to 0 or 1, where its logit would be infinite: an interval that reaches there
reaches 0 or 1."""


@dataclass(frozen=True)
class Known:
    """Slices whose F-score is known.

    Attributes
    ----------
    predictors
        (n, k) values of `PREDICTORS`.
    f_scores
        (n,) F-scores of their pixels.
    reefs, stacks
        (n,) number of the reef that each is of, and of the reef in one look, from 0 on.
    """

    predictors: Floats
    f_scores: Floats
    reefs: NDArray[np.intp]
    stacks: NDArray[np.intp]


@dataclass(frozen=True)
class Reference:
    """Slices of sample reefs, and what else was found out once.

    Attributes
    ----------
    known
        The slices.
    learned
        Features (n, q) of the slices that a shipped model learned from, by its hash.
    """

    known: Known
    learned: dict[str, Floats]


@cache
def reference() -> Reference:
    """Read the slices of sample reefs that come with the package."""
    read: dict[str, Any] = json.loads(TABLE.read_text())
    rows = read["slices"]
    known = Known(
        np.array([[row[name] for name in PREDICTORS] for row in rows]),
        np.array([row["f_score"] for row in rows]),
        np.array([row["reef"] for row in rows]),
        np.array([row["stack"] for row in rows]),
    )
    learned = {model: np.array(features) for model, features in read["learned"].items()}
    return Reference(known, learned)


def relative(distances: Floats, learned: Floats) -> Floats:
    """Return mean distances from training slices (n, q) as shares of the length of their mean.

    Feature spaces of different models have different units; this has none, and exists where a model
    learned from one slice, of which the spread among training slices would tell nothing.
    """
    return np.asarray(distances / np.linalg.norm(learned.mean(axis=0)))


def predictors_of(distance: float, scores: Sequence[float]) -> tuple[float, float]:
    """Return `PREDICTORS` of a slice.

    Parameters
    ----------
    distance
        Its relative distance; NaN: not known.
    scores
        Of all its predictions.
    """
    seen = [score for score in scores if score >= _SEEN]
    # The same slice may be measured from itself.
    return float(np.log(max(distance, 1e-3))), float(np.mean(seen)) if seen else _SEEN


@dataclass(frozen=True)
class Expected:
    """F-scores to be expected.

    Attributes
    ----------
    f_scores, lows, highs
        (m,) of each slice, and the ends of its interval.
    stack
        Mean over the slices, and the ends of its interval.
    beyond
        (m,) whether a slice is farther, or has lower scores, than any that is known of.
    """

    f_scores: Floats
    lows: Floats
    highs: Floats
    stack: tuple[float, float, float]
    beyond: NDArray[np.bool_]


def from_reefs(known: Known, predictors: Floats) -> Expected:
    """Expect F-scores of slices of a new stack.

    Parameters
    ----------
    known
        Slices of other reefs.
    predictors
        (m, k) values of the new slices; a column that is not known is NaN and left out.
    """
    usable = ~np.isnan(predictors).any(axis=0)
    x, new = known.predictors[:, usable], predictors[:, usable]
    truth = _logit(known.f_scores)
    left_out = np.empty_like(truth)
    for reef in np.unique(known.reefs):
        inside = known.reefs == reef
        left_out[inside] = _Ridge.fit(x[~inside], truth[~inside]).of(x[inside])
    wrong = truth - left_out
    middle = _Ridge.fit(x, truth).of(new)
    # Every stack counts the same, and one more for the new one, whose error may be any.
    sizes = np.bincount(known.stacks)
    share = 1 / (len(sizes) + 1)
    half = _quantile(np.abs(wrong), share / sizes[known.stacks])
    means = np.bincount(known.stacks, wrong) / sizes
    stack = _quantile(np.abs(means), np.full(len(sizes), share))
    mean = float(_logit(_share(middle).mean()))
    beyond = (predictors[:, 0] > known.predictors[:, 0].max()) | (
        predictors[:, 1] < known.predictors[:, 1].min()
    )
    # No error was ever measured there: it may be as bad as can be.
    low = float(_share(mean - stack)) * float(1 - beyond.mean())
    return Expected(
        _share(middle),
        np.where(beyond, 0.0, _end(middle - half)),
        _end(middle + half),
        (float(_share(mean)), low, float(_share(mean + stack))),
        beyond,
    )


def from_traced(known: Known, predictors: Floats, traced: Floats, f_scores: Floats) -> Expected:
    """Expect F-scores of slices of a rock of which some are traced.

    Parameters
    ----------
    known
        Slices of sample reefs: coefficients are near theirs as long as few slices are traced.
    predictors, traced
        (m, k) values of the new slices, (n, k) of the traced ones.
    f_scores
        (n,) F-scores of the traced ones.
    """
    usable = ~np.isnan(np.concatenate([predictors, traced])).any(axis=0)
    new, x, truth = predictors[:, usable], traced[:, usable], _logit(f_scores)
    before = _Ridge.fit(known.predictors[:, usable], _logit(known.f_scores))
    count = len(truth)
    fits = [before.refit(np.delete(x, n, 0), np.delete(truth, n)) for n in range(count)]
    wrong = np.array([abs(truth[n] - fit.of(x[n : n + 1])[0]) for n, fit in enumerate(fits)])
    each = np.stack([fit.of(new) for fit in fits])
    rank = int(np.ceil(LEVEL * (count + 1)))
    lows = np.sort(each - wrong[:, None], axis=0)[count - rank]
    highs = np.sort(each + wrong[:, None], axis=0)[rank - 1]
    means = _share(before.refit(x, truth).of(new))
    # Of so few slices the deviation is not known well: Student's t.
    error = float(t.ppf((1 + LEVEL) / 2, count - 1) * np.std(f_scores, ddof=1)) / np.sqrt(count)
    mean = float(means.mean())
    ends = (max(mean - error, 0.0), min(mean + error, 1.0))
    return Expected(means, _end(lows), _end(highs), (mean, *ends), np.zeros(len(means), dtype=bool))


@dataclass(frozen=True)
class _Ridge:
    """A linear model of standardised predictors."""

    centre: Floats
    scale: Floats
    base: float
    slopes: Floats

    @classmethod
    def fit(cls, x: Floats, y: Floats) -> _Ridge:
        scale = x.std(axis=0)
        start = cls(x.mean(axis=0), np.where(scale > 0, scale, 1), 0.0, np.zeros(x.shape[1]))
        return start.refit(x, y)

    def refit(self, x: Floats, y: Floats) -> _Ridge:
        """Fit to other slices; the slopes stay near those there are, the base is free."""
        z = (x - self.centre) / self.scale
        rest = y - z @ self.slopes
        centred = z - z.mean(axis=0)
        gram = centred.T @ centred + _PENALTY * np.eye(z.shape[1])
        change = np.linalg.solve(gram, centred.T @ (rest - rest.mean()))
        base = float(rest.mean() - z.mean(axis=0) @ change)
        return _Ridge(self.centre, self.scale, base, self.slopes + change)

    def of(self, x: Floats) -> Floats:
        return np.asarray((x - self.centre) / self.scale @ self.slopes + self.base)


def _quantile(values: Floats, weights: Floats) -> float:
    """Return the value up to which `LEVEL` of the weight lies; infinite where there is less."""
    order = np.argsort(values)
    reached = np.flatnonzero(np.cumsum(weights[order]) >= LEVEL - 1e-9)
    return float(values[order[reached[0]]]) if len(reached) else np.inf


def _logit(f_scores: Any) -> Any:
    inside = np.clip(f_scores, _LEAST, 1 - _LEAST)
    return np.log(inside / (1 - inside))


def _share(logits: Any) -> Any:
    return 1 / (1 + np.exp(-np.asarray(logits)))


def _end(logits: Any) -> Any:
    """Return ends of intervals: 0 and 1 beyond what `_logit` tells apart."""
    ends, least = _share(logits), _LEAST + 1e-9
    return np.where(ends <= least, 0.0, np.where(ends >= 1 - least, 1.0, ends))
