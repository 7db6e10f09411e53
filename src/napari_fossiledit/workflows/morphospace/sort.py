"""Say which class or cluster each item is of; nothing in the project is changed by it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from napari_fossiledit.morphospace.classify import fit
from napari_fossiledit.morphospace.cluster import cluster as clustered
from napari_fossiledit.morphospace.splits import joined, near_duplicates
from napari_fossiledit.params.morphospace import ClassifyParams, ClusterParams, MetricParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.summary import Summary
from napari_fossiledit.workflows.morphospace.points import read_points


@dataclass(frozen=True)
class ClassifyResult(Summary):
    """Answers of a classifier, which `Points` keeps.

    Attributes
    ----------
    embedding
        Name of the embedding.
    named
        Items that have a name.
    answers
        How many of the others were given each class.
    unknown
        How many of the others are like none.
    accuracy
        Share of the named items whose own name a classifier gave that had not seen their specimen
        or picture; unknown is wrong.
    differ
        Keys of named items for which it gave another name, the surest first, at most 20.
    file
        Where the answers are.
    notes
        What was left out or assumed, in sentences.
    """

    embedding: str
    named: int
    answers: Mapping[str, int]
    unknown: int
    accuracy: float
    differ: tuple[str, ...]
    file: Path
    notes: tuple[str, ...]


def classify(source: Path, params: ClassifyParams, *, job: Job = QUIET) -> ClassifyResult:
    """Say of each item which class it is of, or that it is like none.

    Items that have a name are answered by a classifier that has not seen their specimen.

    Raises
    ------
    FossilError
        Where there are not two classes with a name.
    """
    points = read_points(source, params.embedding)
    job.report(0, 2, "Fitting")
    embedding, items = points.embedding, points.embedding.items
    named = [n for n, item in enumerate(items) if item.name is not None]
    rest = [n for n, item in enumerate(items) if item.name is None]
    names = [str(items[n].name) for n in named]
    pairs = near_duplicates([items[n] for n in named])
    groups = [item.group for item in joined([items[n] for n in named], pairs)]
    notes = []
    if pairs:
        shown = ", ".join(f"{items[named[a]].key} = {items[named[b]].key}" for a, b in pairs[:5])
        notes.append(
            f"{len(pairs)} pairs of pictures are all but the same, and are held out together:"
            f" {shown}."
        )
    looks = learn = None
    if embedding.looks is not None:
        from napari_fossiledit.morphospace.metric import learned_from, unit

        looks = unit(embedding.looks)
        if embedding.learned:
            again = MetricParams.model_validate(embedding.learned)
            learn = partial(learned_from, embedding.looks[named], names, again)
            notes.append("Named items were judged after learning again without them.")
    classifier = fit(
        embedding.vectors[named],
        names,
        groups,
        params,
        looks=None if looks is None else looks[named],
        learn=learn,
    )
    notes += classifier.notes
    job.check("Classifying")
    job.report(1, 2, "Classifying")
    held_out = classifier.held_out
    answers = [(named, held_out)]
    if rest:
        asked = classifier.predict(embedding.vectors[rest], None if looks is None else looks[rest])
        answers.append((rest, asked))
    said = {
        items[n].key: (name, float(sure))
        for rows, answer in answers
        for n, name, sure in zip(rows, answer.names, answer.confidence, strict=True)
    }
    points.say(
        "classify",
        params.model_dump(mode="json") | {"notes": notes},
        {
            "class": {key: name for key, (name, _) in said.items()},
            "confidence": {key: sure for key, (_, sure) in said.items()},
        },
    )
    counts = Counter(said[items[n].key][0] for n in rest)
    right = [a == name for a, name in zip(held_out.names, names, strict=True)]
    surest = sorted(range(len(named)), key=lambda k: -held_out.confidence[k])
    differ = [items[named[k]].key for k in surest if held_out.names[k] not in (None, names[k])]
    job.report(2, 2, "Classifying")
    return ClassifyResult(
        params.embedding,
        len(named),
        {name: count for name, count in counts.most_common() if name is not None},
        counts[None],
        sum(right) / len(right),
        tuple(differ[:20]),
        points.path("said.json"),
        (*points.notes, *notes),
    )


@dataclass(frozen=True)
class ClusterResult(Summary):
    """Clusters of items, which `Points` keeps.

    Attributes
    ----------
    embedding
        Name of the embedding.
    sizes
        Items in each cluster, from cluster 0 on.
    in_none
        Items in no cluster.
    silhouette
        How well clusters are apart, -1 to 1; None of fewer than two.
    names
        The names that the items of each cluster have, most frequent first.
    file
        Where the answers are.
    notes
        What was left out or assumed, in sentences.
    """

    embedding: str
    sizes: tuple[int, ...]
    in_none: int
    silhouette: float | None
    names: tuple[Mapping[str, int], ...]
    file: Path
    notes: tuple[str, ...]


def cluster(source: Path, params: ClusterParams, *, job: Job = QUIET) -> ClusterResult:
    """Group items by their looks alone, whatever their names.

    Raises
    ------
    FossilError
        Where there are too few items.
    """
    points = read_points(source, params.embedding)
    job.check("Clustering")
    found = clustered(points.embedding.vectors, params)
    items = points.embedding.items
    numbers = {
        item.key: int(label) if label >= 0 else None
        for item, label in zip(items, found.labels, strict=True)
    }
    how = params.model_dump(mode="json") | {"notes": list(found.notes)}
    points.say("cluster", how, {"cluster": numbers})
    names = [
        Counter(i.name for i in items if i.name is not None and numbers[i.key] == label)
        for label in range(len(found.sizes))
    ]
    return ClusterResult(
        params.embedding,
        found.sizes,
        int((found.labels < 0).sum()),
        found.silhouette,
        tuple(dict(count.most_common()) for count in names),
        points.path("said.json"),
        (*points.notes, *found.notes),
    )
