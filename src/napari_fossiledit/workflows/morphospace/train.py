"""Learn an embedding, and compute the points of specimens with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import plain_name, require_empty
from napari_fossiledit.morphospace.crops import EDGE, Picture
from napari_fossiledit.morphospace.embedding import Embedding, Item
from napari_fossiledit.morphospace.splits import near_duplicates, picture_hash, require_classes
from napari_fossiledit.params.morphospace import EmbedParams, MetricParams, Per
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.summary import Summary
from napari_fossiledit.workflows.morphospace.points import results_folder
from napari_fossiledit.workflows.morphospace.sources import Specimens, is_project, opened

if TYPE_CHECKING:
    from napari_fossiledit.morphospace.model import Model

MODELS = "models"
"""Folder of the models, in that of the results."""

_SHOWN = 5
_LEARNED = ("shrinkage", "share", "dimensions")
"""Settings that the closed form of a training depends on."""


@dataclass(frozen=True)
class TrainResult(Summary):
    """A model and what it learned from.

    Attributes
    ----------
    model, model_hash, folder
        Its name, digest and place.
    items
        Pictures it learned from.
    classes
        Number of pictures of each class.
    notes
        What was assumed or left out, in sentences.
    """

    model: str
    model_hash: str
    folder: Path
    items: int
    classes: dict[str, int]
    notes: tuple[str, ...]


def train(source: Path, params: MetricParams, *, job: Job = QUIET) -> TrainResult:
    """Learn an embedding from the named specimens of a project or a folder of pictures.

    Raises
    ------
    FossilError
        Where fewer than two classes are named, the backbone is not known or has no weights, or
        there is a model of that name.
    """
    folder = model_folder(source, params.name)
    require_empty(folder, "a model")
    with opened(source, params) as specimens:
        named = Named.of(specimens)
        notes = [*specimens.notes, *naming_notes(specimens.items)]
        # Before torch is loaded: it takes seconds.
        require_classes(named.items, "Training")
        from napari_fossiledit.models.inference.devices import pick_device
        from napari_fossiledit.morphospace.backbones import open_backbone
        from napari_fossiledit.morphospace.training import train as learn

        backbone = open_backbone(params.backbone, params.weights, params.edge)
        device = pick_device(params.device)
        items = named.hashed()
        model = learn(backbone, items, named.pictures, params, device, job)
        notes += [*duplicate_notes(items), *model.record.notes]
    model = replace(model, record=model.record.model_copy(update={"notes": tuple(notes)}))
    record = model.save(folder)
    classes = Counter(str(item.name) for item in named.items)
    return TrainResult(
        params.name, record.model_hash, folder, len(named.items), dict(classes), tuple(notes)
    )


def model_folder(source: Path, name: str) -> Path:
    """Return the folder of a model, whether it is there or not."""
    return results_folder(source) / MODELS / plain_name(name, "a model")


@dataclass(frozen=True)
class Named:
    """The specimens with a name."""

    specimens: Specimens
    items: tuple[Item, ...]

    @classmethod
    def of(cls, specimens: Specimens) -> Named:
        """Choose them."""
        return cls(specimens, tuple(i for i in specimens.items if i.name is not None))

    def pictures(self) -> Iterator[Picture]:
        """Read their pictures."""
        pairs = zip(self.specimens.items, self.specimens.pictures(EDGE), strict=True)
        return (picture for item, picture in pairs if item.name is not None)

    def hashed(self) -> tuple[Item, ...]:
        """Return the items with what they look like."""
        pairs = zip(self.items, self.pictures(), strict=True)
        return tuple(replace(item, picture=picture_hash(picture)) for item, picture in pairs)


def naming_notes(items: Sequence[Item]) -> Iterator[str]:
    """Yield what is odd about the names of items, in sentences."""
    if unnamed := sum(item.name is None for item in items):
        yield f"{unnamed} of {len(items)} have no name and are not learned from."
    groups = {(item.name, item.group) for item in items if item.name is not None}
    counts = Counter(name for name, _ in groups)
    if alone := sorted(str(name) for name, n in counts.items() if n == 1):
        yield (
            f"Of {', '.join(alone)} there is one specimen or picture only: it can be learned, but"
            " not judged."
        )


def duplicate_notes(items: Sequence[Item]) -> Iterator[str]:
    """Yield a note where pictures of different groups are all but the same."""
    if pairs := near_duplicates(items):
        shown = ", ".join(f"{items[a].key} = {items[b].key}" for a, b in pairs[:_SHOWN])
        more = f" and {len(pairs) - _SHOWN} more" if len(pairs) > _SHOWN else ""
        yield f"Pictures that are all but the same, though of different groups: {shown}{more}."


SECTION_EDGE = 224
"""Edge of sections of a project without a trained model: they are small, and thousands."""


def find_model(source: Path, text: str, edge: int = 0) -> Model:
    """Return the model that a user means: its name, a folder, or the untrained one.

    Parameters
    ----------
    edge
        Of the pictures that the untrained one looks at; 0: by what they are.

    Raises
    ------
    FossilError
        Where there is none.
    """
    from napari_fossiledit.morphospace.backbones import open_backbone
    from napari_fossiledit.morphospace.model import IMAGENET, RECORD, Model

    if text in ("", IMAGENET):
        usual = SECTION_EDGE if is_project(source) else EDGE
        return Model.untrained(open_backbone(edge=edge or usual))
    if (Path(text) / RECORD).is_file():
        return Model.load(Path(text))
    models = results_folder(source) / MODELS
    if not (models / text / RECORD).is_file():
        names = sorted(p.parent.name for p in models.glob(f"*/{RECORD}"))
        raise FossilError(
            f"There is no model {text!r} of {source}",
            expected=f"one of {', '.join([IMAGENET, *names])}, or the folder of a model",
            advice="Train one with `fossiledit morphospace train`.",
        )
    return Model.load(models / text)


def embed(source: Path, params: EmbedParams, *, job: Job = QUIET) -> Embedding:
    """Compute the points of all specimens, and write them beside the source.

    Raises
    ------
    FossilError
        Where there are no specimens, no such model, or the name is that of a map; where a point for
        each specimen is asked for, and none is linked.
    """
    if params.embedding.endswith("-map"):
        raise FossilError(
            "An embedding cannot have this name: the file would be that of a map",
            expected="a name that does not end in -map",
            found=params.embedding,
        )
    path = results_folder(source) / f"{params.embedding}.npz"
    with opened(source, params) as specimens:
        if params.per is Per.SPECIMEN and all(i.specimen is None for i in specimens.items):
            raise FossilError(
                "No specimen is linked yet",
                expected="sections that are linked to specimens",
                found=f"{len(specimens.items)} sections or pictures of none",
                advice="Link them with `fossiledit link`, or embed with --per section.",
            )
        from napari_fossiledit.models.inference.devices import pick_device

        model = find_model(source, params.model, params.edge)
        device = pick_device(params.device)
        hashes: list[str] = []

        def hashed() -> Iterator[Picture]:
            for picture in specimens.pictures(EDGE):
                hashes.append(picture_hash(picture))
                yield picture

        vectors, looks = model.points(hashed(), len(specimens.items), device, job)
        items = tuple(replace(i, picture=h) for i, h in zip(specimens.items, hashes, strict=True))
        named_by = str(params.named_by) if is_project(source) else ""
        notes = specimens.notes
    if model.head is None:
        notes += ("Features of a network that saw ImageNet: nothing was learned from these.",)
    learned = {}
    if {item.content for item in items} & set(model.record.items.values()):
        learned = {name: model.record.settings[name] for name in _LEARNED}
        if model.record.fine_tuned:
            notes += (
                "The network itself was trained on some of these: what classify says of its own"
                " accuracy, confidence and unknown is too good. Judge it on others, with"
                " `fossiledit morphospace evaluate --model`.",
            )
    record = model.record.name, model.hash
    found = Embedding(
        vectors,
        items,
        *record,
        notes,
        named_by,
        learned,
        looks.astype(np.float16) if model.head else None,
    )
    if params.per is Per.SPECIMEN:
        found = found.by_specimen()
    found.save(path)
    return found


def train_and_embed(
    source: Path, params: MetricParams, points: EmbedParams, *, job: Job = QUIET
) -> Embedding:
    """Learn an embedding, and compute the points of all specimens with it; both say their notes."""
    made = train(source, params, job=job)
    found = embed(source, points.model_copy(update={"model": made.model}), job=job)
    return replace(found, notes=tuple(dict.fromkeys((*made.notes, *found.notes))))
