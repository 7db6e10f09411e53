"""Judge a way to make points, on items it has not seen and on classes it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.morphospace.classify import Answers, fit
from napari_fossiledit.morphospace.cluster import cluster
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
from napari_fossiledit.params.morphospace import ClusterParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.summary import Summary

Floats = NDArray[np.floating]

KS = (1, 5)
"""How many nearest items recall looks at."""


@dataclass(frozen=True)
class Way:
    """How points are made.

    Attributes
    ----------
    embed
        Learns from some rows and returns the points (n, d), of length 1, of all rows.
    looks
        (n, q) of length 1, that no name was learned from; None: the points.
    again
        Learns as `embed` does, but quickly, for the items that a classifier holds out: of some
        rows, and of rows among these, the points of the former. None where nothing is learned.
    """

    embed: Callable[[Indices], Floats]
    looks: Floats | None = None
    again: Callable[[Indices, Indices], Floats] | None = None

    def answers(self, items: Sequence[Item], rows: Indices, points: Floats) -> Answers:
        """Return what `classify` answers for all points, where some rows have their names."""
        looks = points if self.looks is None else self.looks
        known = [items[int(row)] for row in rows]
        fitted = fit(
            points[rows],
            [str(item.name) for item in known],
            [item.group for item in known],
            looks=looks[rows],
            learn=partial(self.again, rows) if self.again else None,
        )
        return fitted.predict(points, looks)


@dataclass(frozen=True)
class CrossValidated(Summary):
    """Figures over the folds of all repeats, with intervals that know that folds overlap.

    Attributes
    ----------
    accuracy, macro_f1
        Of test items, by the class that `classify` finds best for each.
    confidence
        What it says of them in the mean: as much as the accuracy, if it is right about itself.
    refused
        Share of test items, all of a known class, that it calls unknown.
    recall
        By k: share of test items with one of their class among the k nearest training items.
    naming
        Of the items of all repeats together.
    fold_accuracy, fold_f1
        Of each fold, to compare two ways on the same folds.
    """

    accuracy: Interval
    macro_f1: Interval
    confidence: Interval | None
    refused: Interval | None
    recall: dict[int, Interval]
    naming: Naming
    fold_accuracy: tuple[float, ...]
    fold_f1: tuple[float, ...]


def cross_validated(
    items: Sequence[Item],
    way: Way,
    *,
    count: int,
    seeds: Sequence[int],
    namer: Callable[[Floats, Sequence[str], Floats], Sequence[str]] | None = None,
    job: Job = QUIET,
) -> CrossValidated:
    """Train and judge on `count` folds of named items, once for each seed.

    Parameters
    ----------
    namer
        Names points by named ones; takes those points, their names, and the points asked about.
        None: as `classify` does.
    """
    names = np.array([str(item.name) for item in items])
    truth: list[str] = []
    given: list[str] = []
    accuracy, f1, hits, sure, strange = [], [], [], [], []
    splits = [split for seed in seeds for split in folds(items, count, seed)]
    for train, test in job.tracked(splits, len(splits), "Judging fold"):
        points = way.embed(train)
        if namer is None:
            answers = way.answers(items, train, points)
            named = [answers.best[row] for row in test]
            sure.append(answers.confidence[test].mean())
            strange.append((answers.strangeness[test] > 1).mean())
        else:
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
        corrected_interval(sure, share) if sure else None,
        corrected_interval(strange, share) if strange else None,
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
    way: Way,
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
        points = way.embed(rest)[new]
        truth = names[new].tolist()
        found = cluster(points, ClusterParams(clusters=len(unseen))).labels
        clustering, mutual = clustering_accuracy(truth, found), mutual_information(truth, found)
        groups = np.array([item.group for item in items])[new]
        recall = recall_at(points, truth, comparable=groups[:, None] != groups)[1]
    judged = []
    for train, test in folds(kept, 5, seed):
        known = rest[train]
        answers = way.answers(items, known, way.embed(known))
        judged.append(open_set(-answers.strangeness[rest[test]], -answers.strangeness[new]))
    return OnUnseen(
        tuple(unseen),
        clustering,
        mutual,
        recall,
        float(np.mean([j.auroc for j in judged])),
        float(np.mean([j.fpr95 for j in judged])),
    )
