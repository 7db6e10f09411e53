"""Judge a way to make points, on items it has not seen and on classes it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.morphospace.embedding import Item
from napari_fossiledit.morphospace.figures import (
    Interval,
    Naming,
    clustering_accuracy,
    corrected_interval,
    mutual_information,
    naming,
    open_set,
    recall_at,
)
from napari_fossiledit.morphospace.splits import Indices, folds, require_classes
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.summary import Summary

Floats = NDArray[np.floating]

Embed = Callable[[Indices], Floats]
"""Learns from some rows and returns the points (n, d), of length 1, of all rows."""

KS = (1, 5)
"""How many nearest items recall looks at."""
NEIGHBOURS = 5
"""Known items that familiarity asks."""
COMPONENTS = 5
"""Principal components of unseen items that are clustered: more hold what no class differs by."""


def by_means(known: Floats, names: Sequence[str], asked: Floats) -> list[str]:
    """Name points (m, d) by the most similar mean of named points (n, d) of a class."""
    classes, labels = np.unique(np.asarray(names), return_inverse=True)
    means = np.stack([known[labels == c].mean(axis=0) for c in range(len(classes))])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    return [str(c) for c in classes[(asked @ means.T).argmax(axis=1)]]


@dataclass(frozen=True)
class CrossValidated(Summary):
    """Figures over the folds of all repeats, with intervals that know that folds overlap.

    Attributes
    ----------
    accuracy, macro_f1
        Of test items, named by the nearest mean of a class.
    recall
        By k: share of test items with one of their class among the k nearest training items.
    naming
        Of the items of all repeats together.
    fold_accuracy, fold_f1
        Of each fold, to compare two ways on the same folds.
    """

    accuracy: Interval
    macro_f1: Interval
    recall: dict[int, Interval]
    naming: Naming
    fold_accuracy: tuple[float, ...]
    fold_f1: tuple[float, ...]


def cross_validated(
    items: Sequence[Item],
    embed: Embed,
    *,
    count: int,
    seeds: Sequence[int],
    namer: Callable[[Floats, Sequence[str], Floats], Sequence[str]] = by_means,
    job: Job = QUIET,
) -> CrossValidated:
    """Train and judge on `count` folds of named items, once for each seed.

    Parameters
    ----------
    namer
        Names points by named ones; takes those points, their names, and the points asked about.
    """
    names = np.array([str(item.name) for item in items])
    truth: list[str] = []
    given: list[str] = []
    accuracy, f1, hits = [], [], []
    splits = [split for seed in seeds for split in folds(items, count, seed)]
    for train, test in job.tracked(splits, len(splits), "Judging fold"):
        points = embed(train)
        named = list(namer(points[train], names[train].tolist(), points[test]))
        judged = naming(names[test].tolist(), named)
        accuracy.append(judged.accuracy)
        f1.append(judged.macro_f1)
        nearest = np.argsort(-(points[test] @ points[train].T), axis=1)[:, : max(KS)]
        same = names[train][nearest] == names[test][:, None]
        hits.append([same[:, :k].any(axis=1).mean() for k in KS])
        truth += names[test].tolist()
        given += named
    share = 1 / count
    recall = np.array(hits)
    return CrossValidated(
        corrected_interval(accuracy, share),
        corrected_interval(f1, share),
        {k: corrected_interval(recall[:, n], share) for n, k in enumerate(KS)},
        naming(truth, given),
        tuple(accuracy),
        tuple(f1),
    )


@dataclass(frozen=True)
class OnUnseen(Summary):
    """Figures on classes left out of the training.

    Attributes
    ----------
    classes
        Those left out.
    clustering, mutual
        Clustering accuracy and normalised mutual information of as many clusters as classes.
    recall
        Share of the unseen whose nearest unseen item of another group is of their class; None for
        one class.
    auroc, fpr95
        How well the unseen are told from held-out items of the classes trained on.
    """

    classes: tuple[str, ...]
    clustering: float | None
    mutual: float | None
    recall: float | None
    auroc: float
    fpr95: float


def on_unseen(
    items: Sequence[Item],
    unseen: Sequence[str],
    embed: Embed,
    *,
    seed: int = 0,
) -> OnUnseen:
    """Train without some classes, and judge on them.

    Raises
    ------
    FossilError
        Where fewer than two classes are left.
    """
    names = np.array([str(item.name) for item in items])
    strange = np.isin(names, unseen)
    rest, new = np.flatnonzero(~strange), np.flatnonzero(strange)
    kept = [items[int(n)] for n in rest]
    require_classes(kept, "Training without some classes")
    clustering = mutual = recall = None
    if len(unseen) > 1:
        points = embed(rest)[new]
        truth = names[new].tolist()
        found = clustered(points, len(unseen))
        clustering, mutual = clustering_accuracy(truth, found), mutual_information(truth, found)
        groups = np.array([item.group for item in items])[new]
        recall = recall_at(points, truth, comparable=groups[:, None] != groups)[1]
    judged = []
    for train, test in folds(kept, 5, seed):
        points = embed(rest[train])
        familiar = familiarity(points[rest[train]], names[rest[train]].tolist(), points)
        judged.append(open_set(familiar[rest[test]], familiar[new]))
    return OnUnseen(
        tuple(unseen),
        clustering,
        mutual,
        recall,
        float(np.mean([j.auroc for j in judged])),
        float(np.mean([j.fpr95 for j in judged])),
    )


def familiarity(known: Floats, names: Sequence[str], asked: Floats) -> Floats:
    """Return how like the nearest known points each point is: (m,) mean cosine similarity."""
    likeness = asked @ known.T
    k = min(NEIGHBOURS, len(known))
    return np.asarray(np.partition(likeness, -k, axis=1)[:, -k:].mean(axis=1))


def clustered(points: Floats, clusters: int) -> NDArray[np.intp]:
    """Return clusters (n,) of points (n, d): Ward's, of the first principal components."""
    from sklearn.cluster import AgglomerativeClustering

    centred = points - points.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    ward = AgglomerativeClustering(clusters, linkage="ward")
    return np.asarray(ward.fit_predict(centred @ axes[:COMPONENTS].T))
