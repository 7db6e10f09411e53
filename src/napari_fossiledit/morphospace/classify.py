"""Name items by those that have a name, or answer *unknown*.

Confidence and refusal are chosen on held-out items: of every group (specimen or picture) either all
items are fitted or none. Confidence is a softmax with one temperature (Guo et al. 2017). An item is
unknown where it lies farther from what was fitted than all but a chosen share of held-out items of
fitted classes do, so that the share of known items that are refused is known beforehand.
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
from napari_fossiledit.params.morphospace import Method

Floats = NDArray[np.float64]
Vectors = NDArray[np.floating[Any]]

_FOLDS = 5
_NO_DISTANCE = 1e-6
"""Cosine distances of float32 vectors that are the same come out up to here."""
_SHARPNESS = 10.0
"""Weight of the cosine similarity to a centroid before calibration, which then finds the best."""
_PENALTY = 10.0
"""scikit-learn's C: vectors of length 1 are small, its default of 1 hardly tells classes apart."""

# Of vectors: scores of classes (n, classes), whose softmax is a probability, and distances (n,).
_Scores = Callable[[Vectors], tuple[Floats, Floats]]


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

    def predict(self, vectors: Vectors) -> Answers:
        """Return the answers for vectors (n, d) of the same model."""
        return _answers(*self._scores(vectors), self.classes, self.temperature, self.threshold)


def fit(
    vectors: Vectors,
    names: Sequence[str],
    groups: Sequence[str],
    *,
    method: Method = Method.KNN,
    neighbours: int = 5,
    refused: float = 0.05,
    seed: int = 0,
) -> Classifier:
    """Return a classifier that was fitted to named items and calibrated on held-out ones of them.

    Parameters
    ----------
    vectors
        (n, d), L2-normalised.
    names, groups
        Class, and specimen or picture, of each.
    neighbours
        Named items that k-NN asks, and whose mean cosine distance decides about unknown; the
        distance to the nearest centroid does where `method` is centroids.
    refused
        Share of items of known classes that may be called unknown.

    Raises
    ------
    FossilError
        Where there are not two classes.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    classes, of = np.unique(np.asarray(names, dtype=object), return_inverse=True)
    if len(classes) < 2:
        raise FossilError(
            "There is nothing to tell apart",
            expected="named items of at least two classes",
            found=f"only {classes[0]!r}" if len(classes) else "no named item",
            advice="Name some items first, e.g. a cluster or what is most alike.",
        )
    notes = []
    if len(of) <= neighbours:
        notes.append(f"Asked {len(of) - 1} neighbours instead of {neighbours}: no more are named.")
    members = [
        len({g for g, c in zip(groups, of, strict=True) if c == k}) for k in range(len(classes))
    ]
    if alone := [str(c) for c, count in zip(classes, members, strict=True) if count == 1]:
        notes.append(
            f"Of {', '.join(alone)} there is one specimen or picture only: no held-out one says how"
            " well the class is told from others."
        )
    fitted = partial(_fitted, method, len(classes), neighbours)
    logits, distances = np.zeros((len(of), len(classes))), np.full(len(of), np.inf)
    judged = np.zeros(len(of), dtype=bool)
    folds = min(_FOLDS, len(set(groups)), int(np.bincount(of).max()))
    if folds > 1:
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            # Of classes with fewer items than folds, which the notes tell of in words.
            warnings.simplefilter("ignore", UserWarning)
            splits = list(splitter.split(vectors, of, groups))
        for train, test in splits:
            known = np.unique(of[train])
            if len(known) > 1:
                logits[test], distances[test] = fitted(vectors[train], of[train])(vectors[test])
                judged[test] = np.isin(of[test], known)
    temperature, threshold = 1.0, np.inf
    if judged.any():
        temperature = _temperature(logits[judged], of[judged])
        cut = np.quantile(distances[judged], 1 - refused, method="higher")
        threshold = max(float(cut), _NO_DISTANCE)
    else:
        notes.append("Too few items to hold some out: confidence is rough, and none is unknown.")
    listed = tuple(map(str, classes))
    held_out = _answers(logits, distances, listed, temperature, threshold)
    return Classifier(listed, temperature, threshold, held_out, tuple(notes), fitted(vectors, of))


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


def _fitted(
    method: Method, classes: int, neighbours: int, vectors: Vectors, of: NDArray[np.intp]
) -> _Scores:
    """Return what scores vectors by those of known class; a class without any scores -inf."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    known = np.unique(of)

    def among_all(scores: Floats) -> Floats:
        whole = np.full((len(scores), classes), -np.inf)
        whole[:, known] = scores
        return whole

    if method is Method.CENTROIDS:
        centroids = np.stack([vectors[of == k].mean(axis=0) for k in known])
        centroids /= np.maximum(np.linalg.norm(centroids, axis=1, keepdims=True), _NO_DISTANCE)

        def by_centroid(new: Vectors) -> tuple[Floats, Floats]:
            similar = np.asarray(new @ centroids.T, dtype=np.float64)
            return among_all(_SHARPNESS * similar), 1 - similar.max(axis=1)

        return by_centroid
    # Never the item itself: those that are asked about are not among those that were fitted.
    count = min(neighbours, len(of))
    # By similarity: it decides between equal numbers, and one that is almost the same does not
    # outvote all others, as by scikit-learn's inverse distance.
    near = KNeighborsClassifier(count, weights=lambda d: 2 - d, metric="cosine").fit(vectors, of)
    linear = (
        LogisticRegression(C=_PENALTY, class_weight="balanced", max_iter=1000).fit(vectors, of)
        if method is Method.LOGISTIC
        else None
    )

    def by_neighbours(new: Vectors) -> tuple[Floats, Floats]:
        distances = np.asarray(near.kneighbors(new)[0].mean(axis=1), dtype=np.float64)
        if linear is not None:
            return among_all(linear.predict_log_proba(new)), distances
        # One vote more, shared by all classes: no class is impossible for want of a neighbour.
        votes = near.predict_proba(new) * count + 1 / len(known)
        return among_all(np.log(votes / (count + 1))), distances

    return by_neighbours
