"""Judge how well an embedding does on specimens and classes that it has not seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import write_json
from napari_fossiledit.morphospace.crops import Picture
from napari_fossiledit.morphospace.embedding import Item
from napari_fossiledit.morphospace.figures import Interval, Naming, over_pairs
from napari_fossiledit.morphospace.judging import (
    OnUnseen,
    Way,
    cross_validated,
    on_unseen,
)
from napari_fossiledit.morphospace.splits import (
    Indices,
    joined,
    near_duplicates,
    require_classes,
    without_pairs,
)
from napari_fossiledit.params.morphospace import JudgeParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.summary import Summary
from napari_fossiledit.workflows.morphospace.points import results_folder
from napari_fossiledit.workflows.morphospace.sources import opened
from napari_fossiledit.workflows.morphospace.train import Named, find_model, naming_notes

if TYPE_CHECKING:
    from napari_fossiledit.morphospace.model import Model, Record


@dataclass(frozen=True)
class JudgeResult(Summary):
    """Figures of a training on a source.

    Attributes
    ----------
    accuracy, macro_f1, recall
        Of held-out specimens, over the folds of all repeats.
    confidence, refused
        What the classifier says of its answers in the mean, and the share it calls unknown, though
        all are of known classes.
    naming
        What was named what.
    unseen
        Mean figures over the pairs of classes that were left out, with intervals over classes.
    duplicates
        Pairs of pictures that are all but the same; they were kept in one part.
    notes
        What was assumed or left out, in sentences.
    """

    accuracy: Interval
    macro_f1: Interval
    confidence: Interval | None
    refused: Interval | None
    recall: dict[int, Interval]
    naming: Naming
    unseen: dict[str, Interval]
    pairs: tuple[OnUnseen, ...]
    duplicates: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """Return the figures without those of each pair, which the report holds."""
        return {k: v for k, v in super().summary().items() if k != "pairs"}


def evaluate(source: Path, params: JudgeParams, *, job: Job = QUIET) -> JudgeResult:
    """Train on parts of the named specimens and judge on the others; nothing trained is kept.

    No specimen, and no picture that is all but the same as another, is in both. Names, *unknown*
    and clusters are those that `classify` and `cluster` give by default. A saved model is judged on
    what it has not learned from: then each part is named by the others, without a training.

    Raises
    ------
    FossilError
        Where fewer than two classes are named, or none has two specimens.
    """
    if params.fine_tune:
        raise FossilError(
            "Fine-tuning cannot be judged here: it would train a network for each part",
            expected="a training of the head alone",
            advice="Leave --fine-tune out.",
        )
    with opened(source, params) as specimens:
        named = Named.of(specimens)
        require_classes(named.items, "Judging")
        notes = [*specimens.notes, *naming_notes(specimens.items)]
        items = named.hashed()
        pairs = near_duplicates(items)
        duplicates = tuple((items[a].key, items[b].key) for a, b in pairs)
        items = joined(items, pairs)
        model, kept = None, [True] * len(items)
        if params.model:
            model = find_model(source, params.model, params.edge)
            kept = _not_learned(items, model.record, notes)
            items = tuple(compress(items, kept))
        counts = require_classes(items, "Judging")
        folds = min(params.folds, max(counts.values()))
        if folds < 2:
            raise FossilError(
                "Nothing can be judged: no class has two specimens or pictures",
                expected="two or more of some class",
                found=", ".join(f"{name} {n}" for name, n in counts.items()),
            )
        if folds < params.folds:
            notes.append(f"Judged on {folds} parts: no class has more specimens or pictures.")
        pictures = compress(named.pictures(), kept)
        way = _way(model, items, pictures, params, job)
    seeds = range(params.seed, params.seed + params.repeats)
    crossed = cross_validated(items, way, count=folds, seeds=seeds, job=job)
    learned = () if model is None else model.record.classes
    found = _unseen(items, learned, way, params, job) if params.unseen else ()
    if params.unseen and not found:
        notes.append(
            "No pair of classes was left out: that takes two specimens of each of the pair, and two"
            " other classes, one of five specimens; a saved model must have learned neither of it."
        )
    result = JudgeResult(
        crossed.accuracy,
        crossed.macro_f1,
        crossed.confidence,
        crossed.refused,
        crossed.recall,
        crossed.naming,
        averaged(found, params.seed) if found else {},
        found,
        duplicates,
        tuple(notes),
    )
    pairs_of = [pair.summary() for pair in found]
    report = result.summary() | {"pairs": pairs_of, "settings": params.model_dump(mode="json")}
    write_json(results_folder(source) / f"{params.name}-evaluation.json", report)
    return result


def _not_learned(items: Sequence[Item], record: Record, notes: list[str]) -> list[bool]:
    """Return which items a model has learned nothing from, and note how many are left out."""
    contents = set(record.items.values())
    learned = {item.group for item in items if item.content in contents}
    known = [Item("", "learned", picture=look) for look in record.pictures]
    pairs = near_duplicates([*items, *known])
    alike = {items[a].group for a, b in pairs if b >= len(items)}
    kept = [item.group not in learned | alike for item in items]
    if gone := kept.count(False):
        notes.append(
            f"{gone} of {len(items)} are left out: the model learned from them, from other sections"
            " of their specimens, or from pictures that are all but the same."
        )
    if not record.pictures:
        notes.append("The model does not say what it learned from looked like: copies may be left.")
    return kept


def _way(
    model: Model | None,
    items: Sequence[Item],
    pictures: Iterable[Picture],
    params: JudgeParams,
    job: Job,
) -> Way:
    """Return how points are made: by a saved model, or by one that is trained on some rows."""
    from napari_fossiledit.models.inference.devices import pick_device
    from napari_fossiledit.morphospace.backbones import VIEWS, open_backbone
    from napari_fossiledit.morphospace.metric import fit_head, learned_from, points_of, unit
    from napari_fossiledit.morphospace.model import described

    device = pick_device(params.device)
    if model is not None:
        points, looks = model.points(pictures, len(items), device, job)
        return Way(lambda _: points, unit(looks))
    looked = described(
        open_backbone(params.backbone, params.weights, params.edge),
        pictures,
        outline=params.outline,
        copies=range(params.copies),
        total=len(items),
        device=device,
        job=job,
    )
    names = [str(item.name) for item in items]
    upright = looked[:, :VIEWS].mean(axis=1)

    def learn(rows: Indices) -> np.ndarray:
        job.check("Judging")
        return points_of(fit_head(looked[rows], [names[r] for r in rows], params), upright)

    def again(rows: Indices, among: Indices) -> np.ndarray:
        return learned_from(upright[rows], [names[r] for r in rows], params, among)

    return Way(learn, unit(upright), again)


def _unseen(
    items: Sequence[Item], learned: Sequence[str], way: Way, params: JudgeParams, job: Job
) -> tuple[OnUnseen, ...]:
    """Judge each pair of classes without which the points can be made."""
    counts = require_classes(items, "Judging")
    # Unknown is told from held-out known ones: that takes some of two classes.
    left = [
        pair
        for pair, _ in without_pairs(items)
        if _enough(counts, pair) and not {*pair} & {*learned}
    ]
    tracked = job.tracked(left, len(left), "Leaving classes out")
    return tuple(on_unseen(items, pair, way, seed=params.seed) for pair in tracked)


def _enough(counts: Counter[str], pair: tuple[str, str]) -> bool:
    rest = [n for name, n in counts.items() if name not in pair]
    return len(rest) > 1 and max(rest) >= 5 and min(counts[name] for name in pair) > 1


def averaged(pairs: Sequence[OnUnseen], seed: int) -> dict[str, Interval]:
    """Return the means of the figures over pairs of classes, with bootstrap intervals."""
    figures = ("clustering", "mutual", "recall", "auroc", "fpr95")
    of = [pair.classes for pair in pairs]
    return {
        name: over_pairs([float(getattr(pair, name)) for pair in pairs], of, seed)
        for name in figures
    }
