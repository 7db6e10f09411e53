"""Name items by those that have a name, or answer *unknown*.

Confidence and refusal are chosen on held-out items: of every group (specimen or picture) either all
items are fitted or none, and where vectors were learned from names, those are learned without the
held-out items as well. Confidence is a softmax with one temperature (Guo et al. 2017). An item is
unknown where it looks farther from the mean of every class than all but a chosen share of held-out
items of fitted classes do, so that the share of known items that are refused is known beforehand.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.params.morphospace import ClassifyParams, Method

Floats = NDArray[np.float64]
Vectors = NDArray[np.floating[Any]]

_FOLDS = 5
_NO_DISTANCE = 1e-6
"""Cosine distances of float32 vectors that are the same come out up to here."""
_SHARPNESS = 10.0
"""Weight of the cosine similarity to a centroid before calibration, which then finds the best."""
_PENALTY = 10.0
"""scikit-learn's C: vectors of length 1 are small, its default of 1 hardly tells classes apart."""
_SHRUNK = 0.3
"""How little the spread inside classes is trusted where strangeness is measured. Fusulinids, pairs
of genera held back (development folds): area under ROC .72 and .74 by folder and initial; .69 and
.71 by the five nearest instead, .60 and .58 by those of learned points, .60 and .62 by relative
Mahalanobis distance. Shrinkage of .1 to .6 is alike."""
_AXES = 128
"""Directions of that spread which are measured, the widest; in all others it is taken as even."""

# Of vectors: scores of classes (n, classes), whose softmax is a probability.
_Scores = Callable[[Vectors], Floats]
# Of looks (n, q): distances (n,) from what is known.
_Distance = Callable[[Vectors], Floats]

Learn = Callable[[NDArray[np.intp]], Vectors]
"""Learns vectors from some rows, and returns those of all rows."""


@dataclass(frozen=True)
class Answers:
    """What a classifier says of items.

    Attributes
    ----------
    best
        The class that fits best, also of items that fit none.
    confidence
        (n,) calibrated probability of that class, were the item of one of the known classes.
    strangeness
        (n,) distance from what is known, as a multiple of the largest that is not refused.
    """

    best: tuple[str, ...]
    confidence: Floats
    strangeness: Floats

    @property
    def names(self) -> tuple[str | None, ...]:
        """The class of each item; None for unknown."""
        return tuple(
            best if strange <= 1 else None
            for best, strange in zip(self.best, self.strangeness, strict=True)
        )


@dataclass(frozen=True)
class Classifier:
    """Names items by those it was fitted to.

    Attributes
    ----------
    classes
        Names that it may give, ascending.
    temperature
        By which scores are divided; 1 where no held-out item could choose it.
    threshold
        Largest distance that is not refused; infinite where no held-out item could choose it.
    held_out
        Answers for the items it was fitted to, each by a classifier that has not seen its group; of
        an item whose class was not fitted then, too, so that its answer should be unknown, as it is
        of items that no classifier could judge.
    notes
        What was assumed, in sentences.
    """

    classes: tuple[str, ...]
    temperature: float
    threshold: float
    held_out: Answers
    notes: tuple[str, ...]
    _scores: _Scores
    _distance: _Distance

    def predict(self, vectors: Vectors, looks: Vectors | None = None) -> Answers:
        """Return the answers for vectors (n, d) of the same model and looks (n, q), see `fit`."""
        distances = self._distance(vectors if looks is None else looks)
        scores = self._scores(vectors)
        return _answers(scores, distances, self.classes, self.temperature, self.threshold)


def fit(
    vectors: Vectors,
    names: Sequence[str],
    groups: Sequence[str],
    params: ClassifyParams | None = None,
    *,
    looks: Vectors | None = None,
    learn: Learn | None = None,
) -> Classifier:
    """Return a classifier that was fitted to named items and calibrated on held-out ones of them.

    Parameters
    ----------
    vectors
        (n, d), L2-normalised.
    names, groups
        Class, and specimen or picture, of each.
    looks
        (n, q) vectors of which no name was learned, L2-normalised: their distances decide about
        unknown. `vectors` where left out.
    learn
        Learns `vectors` from some rows of these items, where they were learned from the names.

    Raises
    ------
    FossilError
        Where there are not two classes.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    params = params or ClassifyParams()
    looks = vectors if looks is None else looks
    classes, of = np.unique(np.asarray(names, dtype=object), return_inverse=True)
    if len(classes) < 2:
        raise FossilError(
            "There is nothing to tell apart",
            expected="named items of at least two classes",
            found=f"only {classes[0]!r}" if len(classes) else "no named item",
            advice="Name some items first, e.g. a cluster or what is most alike.",
        )
    notes = []
    if params.method is Method.KNN and len(of) <= params.neighbours:
        notes.append(
            f"Asked {len(of) - 1} neighbours instead of {params.neighbours}: no more are named."
        )
    members = [
        len({g for g, c in zip(groups, of, strict=True) if c == k}) for k in range(len(classes))
    ]
    if alone := [str(c) for c, count in zip(classes, members, strict=True) if count == 1]:
        notes.append(
            f"Of {', '.join(alone)} there is one specimen or picture only: no held-out one says how"
            " well the class is told from others."
        )
    fitted = partial(_fitted, params, len(classes))
    logits, distances = np.zeros((len(of), len(classes))), np.full(len(of), np.inf)
    judged = np.zeros(len(of), dtype=bool)
    folds = min(_FOLDS, len(set(groups)), int(np.bincount(of).max()))
    if folds > 1:
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=params.seed)
        with warnings.catch_warnings():
            # Of classes with fewer items than folds, which the notes tell of in words.
            warnings.simplefilter("ignore", UserWarning)
            splits = list(splitter.split(vectors, of, groups))
        for train, test in splits:
            known = np.unique(of[train])
            if len(known) > 1:
                seen = vectors if learn is None else learn(train)
                logits[test] = fitted(seen[train], of[train])(seen[test])
                distances[test] = _mahalanobis(looks[train], of[train])(looks[test])
                judged[test] = np.isin(of[test], known)
    temperature, threshold = 1.0, np.inf
    if judged.any():
        temperature = _temperature(logits[judged], of[judged])
        cut = np.quantile(distances[judged], 1 - params.refused, method="higher")
        threshold = max(float(cut), _NO_DISTANCE)
    else:
        notes.append("Too few items to hold some out: confidence is rough, and none is unknown.")
    listed = tuple(map(str, classes))
    held_out = _answers(logits, distances, listed, temperature, threshold)
    told = fitted(vectors, of), _mahalanobis(looks, of)
    return Classifier(listed, temperature, threshold, held_out, tuple(notes), *told)


def _answers(
    logits: Floats,
    distances: Floats,
    classes: tuple[str, ...],
    temperature: float,
    threshold: float,
) -> Answers:
    from scipy.special import softmax

    best = tuple(classes[k] for k in logits.argmax(axis=1))
    # Infinitely far away is what no fold could judge, also where nothing is refused.
    strange = np.full(len(best), np.inf)
    np.divide(distances, threshold, out=strange, where=np.isfinite(distances))
    return Answers(best, softmax(logits / temperature, axis=1).max(axis=1), strange)


def _temperature(logits: Floats, of: NDArray[np.intp]) -> float:
    """Return the temperature at which the classes that items are of have the best likelihood."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(scaled[np.arange(len(of)), of].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-4, 4), method="bounded").x))


def _mahalanobis(looks: Vectors, of: NDArray[np.intp]) -> _Distance:
    """Return what measures how far looks are from the nearest mean of a class.

    In units of the spread inside classes, which is pooled and shrunk towards the same in all
    directions. Without any spread all but the means are far away.
    """
    from sklearn.utils.extmath import randomized_svd

    known, rows = np.unique(of, return_inverse=True)
    means = np.stack([looks[of == k].mean(axis=0) for k in known])
    inside = looks - means[rows]
    even = max(float((inside**2).sum()) / len(inside) / min(inside.shape), _NO_DISTANCE**2)
    _, sizes, axes = randomized_svd(inside, min(_AXES, *inside.shape), random_state=0)
    spread = (1 - _SHRUNK) * sizes**2 / len(inside)
    # Along these axes as in all others, times what makes them narrower.
    scale = np.sqrt(_SHRUNK * even / (spread + _SHRUNK * even)) - 1

    def whitened(points: Vectors) -> Floats:
        points = (points - means[0]).astype(np.float64)
        turned = points + (points @ axes.T) * scale @ axes
        return np.asarray(turned / np.sqrt(_SHRUNK * even))

    centres = whitened(means)

    def distance(new: Vectors) -> Floats:
        from scipy.spatial.distance import cdist

        return np.asarray(cdist(whitened(new), centres).min(axis=1))

    return distance


def _fitted(
    params: ClassifyParams, classes: int, vectors: Vectors, of: NDArray[np.intp]
) -> _Scores:
    """Return what scores vectors by those of known class; a class without any scores -inf."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    known = np.unique(of)
    if params.method is Method.CENTROIDS:
        centroids = np.stack([vectors[of == k].mean(axis=0) for k in known])
        centroids /= np.maximum(np.linalg.norm(centroids, axis=1, keepdims=True), _NO_DISTANCE)

        def scores(new: Vectors) -> Floats:
            return np.asarray(_SHARPNESS * (new @ centroids.T), dtype=np.float64)
    elif params.method is Method.LOGISTIC:
        linear = LogisticRegression(C=_PENALTY, class_weight="balanced", max_iter=1000)
        scores = linear.fit(vectors, of).predict_log_proba
    else:
        # Never the item itself: those that are asked about are not among those that were fitted.
        count = min(params.neighbours, len(of))
        # By similarity: it decides between equal numbers, and one that is almost the same does
        # not outvote all others, as by scikit-learn's inverse distance.
        near = KNeighborsClassifier(count, weights=lambda d: 2 - d, metric="cosine")
        near.fit(vectors, of)

        def scores(new: Vectors) -> Floats:
            # One vote more, shared by all: no class is impossible for want of a neighbour.
            votes = near.predict_proba(new) * count + 1 / len(known)
            return np.asarray(np.log(votes / (count + 1)))

    def among_all(new: Vectors) -> Floats:
        whole = np.full((len(new), classes), -np.inf)
        whole[:, known] = scores(new)
        return whole

    return among_all
