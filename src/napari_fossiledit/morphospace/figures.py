"""How good points are: naming, grouping, finding alike ones, and knowing what is none of these.

What scikit-learn has is scikit-learn's: accuracy, F1, confusion, normalised mutual information,
area under the ROC curve. The others are a few lines each, from their definitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import t as student

from napari_fossiledit.errors import FossilError
from napari_fossiledit.summary import Summary

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Naming(Summary):
    """How well items were named.

    Attributes
    ----------
    accuracy, macro_f1
        Share named right; mean over the classes of the harmonic mean of precision and recall.
    classes
        All names, sorted.
    confusion
        Items by true class (row) and given name (column), in the order of `classes`.
    """

    accuracy: float
    macro_f1: float
    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]


def naming(truth: Sequence[str], given: Sequence[str]) -> Naming:
    """Compare given names with the true ones."""
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

    classes = sorted({*truth, *given})
    # A name that none has counts as a class of F1 0, as scikit-learn counts it.
    f1 = f1_score(truth, given, labels=classes, average="macro", zero_division=0)
    counts = confusion_matrix(truth, given, labels=classes)
    rows = tuple(tuple(int(n) for n in row) for row in counts)
    return Naming(float(accuracy_score(truth, given)), float(f1), tuple(classes), rows)


def clustering_accuracy(truth: Sequence[str], clusters: ArrayLike) -> float:
    """Return the share of items in the cluster of their class, each class with one cluster.

    Classes and clusters are assigned to each other as is best for the share (Hungarian method).
    """
    from sklearn.metrics.cluster import contingency_matrix

    together = contingency_matrix(truth, clusters)
    rows, columns = linear_sum_assignment(together, maximize=True)
    return float(together[rows, columns].sum() / together.sum())


def mutual_information(truth: Sequence[str], clusters: ArrayLike) -> float:
    """Return the mutual information of classes and clusters over the mean of their entropies."""
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(truth, clusters))


def recall_at(
    vectors: Floats,
    labels: Sequence[object],
    ks: Sequence[int] = (1,),
    *,
    comparable: NDArray[np.bool_] | None = None,
) -> dict[int, float]:
    """Return by k the share of items with one of their own label among the k nearest others.

    Parameters
    ----------
    vectors
        (n, d) of length 1; nearest is the largest scalar product.
    comparable
        (n, n) True where the row may find the column, e.g. sections of other slices alone; all by
        default. An item that could find none of its label is not counted.

    Raises
    ------
    FossilError
        Where no item could find one.
    """
    kinds = np.unique(np.asarray([str(label) for label in labels]), return_inverse=True)[1]
    allowed = np.ones((len(kinds), len(kinds)), bool) if comparable is None else comparable.copy()
    np.fill_diagonal(allowed, val=False)
    same = (kinds[:, None] == kinds) & allowed
    asked = same.any(axis=1)
    if not asked.any():
        raise FossilError(
            "Recall is not defined",
            expected="at least two items of one name that may be compared",
            found="none",
        )
    likeness = np.where(allowed, vectors @ vectors.T, -np.inf)[asked]
    order = np.argsort(-likeness, axis=1, kind="stable")[:, : max(ks)]
    hits = np.take_along_axis(same[asked], order, axis=1)
    return {k: float(hits[:, :k].any(axis=1).mean()) for k in ks}


@dataclass(frozen=True)
class OpenSet(Summary):
    """How well items of unknown classes are told from those of known ones.

    Attributes
    ----------
    auroc
        Probability that a known item is taken for more familiar than an unknown one.
    fpr95
        Share of the unknown that pass a threshold which 95 % of the known pass.
    """

    auroc: float
    fpr95: float


def open_set(known: Floats, unknown: Floats) -> OpenSet:
    """Judge how familiar items of known and of unknown classes were found: (n,) and (m,)."""
    from sklearn.metrics import roc_auc_score, roc_curve

    truth = np.r_[np.ones(len(known)), np.zeros(len(unknown))]
    scores = np.r_[known, unknown]
    passed, kept, _ = roc_curve(truth, scores, drop_intermediate=False)
    # The first threshold, from strict to lax, that at least 95 % of the known pass.
    first = int(np.argmax(kept >= 0.95 - 1e-12))
    return OpenSet(float(roc_auc_score(truth, scores)), float(passed[first]))


@dataclass(frozen=True)
class Interval(Summary):
    """A mean, and between what limits it is by 95 % confidence."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def corrected_interval(
    differences: ArrayLike, test_share: float, confidence: float = 0.95
) -> Interval:
    """Return the mean of figures of repeated folds and its interval.

    Trainings of overlapping folds are not independent: the variance of the mean is not s^2 / n but
    s^2 (1 / n + test / train) (Nadeau and Bengio 2003, Inference for the generalization error).

    Parameters
    ----------
    differences
        (n,) figures, or differences of figures of two methods, one of each fold of each repeat.
    test_share
        Share of the items that each fold tests on, e.g. 1 / 5.
    """
    values = np.asarray(differences, np.float64)
    factor = 1 / len(values) + test_share / (1 - test_share)
    error = np.sqrt(values.var(ddof=1) * factor) if len(values) > 1 else np.inf
    reach = float(student.ppf(0.5 + confidence / 2, max(len(values) - 1, 1)) * error)
    mean = float(values.mean())
    return Interval(mean, mean - reach, mean + reach)


def over_pairs(values: ArrayLike, pairs: Sequence[tuple[str, ...]], seed: int) -> Interval:
    """Return the mean of figures of pairs of classes and its percentile bootstrap interval.

    Classes are drawn, not pairs: pairs that share a class are not independent. A pair counts as
    often as both of its classes were drawn together (Snijders and Borgatti 1999, Non-parametric
    standard errors and tests for network statistics), one of a class with itself not at all.

    Parameters
    ----------
    values, pairs
        (n,) figures and the two classes of each.
    """
    figures = np.asarray(values, np.float64)
    classes, flat = np.unique(np.asarray(pairs), return_inverse=True)
    first, second = flat.reshape(-1, 2).T
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(classes), np.full(len(classes), 1 / len(classes)), size=2000)
    weights = drawn[:, first] * drawn[:, second]
    total = weights.sum(axis=1)
    means = (weights @ figures)[total > 0] / total[total > 0]
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(float(figures.mean()), float(low), float(high))
