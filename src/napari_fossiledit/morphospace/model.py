"""A model of the morphospace: pictures to points, with a record of what it learned from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import save
from torch import Tensor, nn

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import appearing, explained, read_json, require_empty, write_json
from napari_fossiledit.models.files.checkpoint import fill, read_tensors
from napari_fossiledit.morphospace.backbones import (
    LITE,
    VIEWS,
    Backbone,
    digest,
    features,
    foreign,
    lite,
)
from napari_fossiledit.morphospace.crops import Picture
from napari_fossiledit.morphospace.metric import Head, points_of, unit
from napari_fossiledit.morphospace.outlines import outline_numbers, silhouette
from napari_fossiledit.progress import QUIET, Job

IMAGENET = "imagenet"
"""Name of the model that was never trained: features as ImageNet left them."""

WEIGHTS, RECORD = "weights.safetensors", "model.json"
_VERSION = 1
_AGAIN = "Train it again: 'fossiledit morphospace train SOURCE'."


class Record(BaseModel):
    """What a model is and learned from.

    Attributes
    ----------
    backbone, edge, outline
        Network, edge of its pictures, and whether numbers for the outline take part.
    fine_tuned
        Whether the last stage of the backbone was trained, too.
    classes
        Names it learned to tell apart.
    items
        Content of each picture it learned from, by key; what has one of these is no test.
    pictures
        What they look like, as `splits.picture_hash` has it; nor is what looks all but the same.
    settings
        Parameters of the training.
    notes
        What was assumed or left out, in sentences.
    model_hash
        Digest of weights and structure.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = _VERSION
    name: str
    backbone: str
    edge: int
    outline: bool
    fine_tuned: bool = False
    classes: tuple[str, ...] = ()
    items: dict[str, str] = {}
    pictures: tuple[str, ...] = ()
    settings: dict[str, Any] = {}
    notes: tuple[str, ...] = ()
    model_hash: str = ""


@dataclass(frozen=True)
class Model:
    """Pictures to points of length 1.

    Attributes
    ----------
    head
        What was learned; None: the features themselves, brought to length 1.
    """

    record: Record
    backbone: Backbone
    head: Head | None = None

    @classmethod
    def untrained(cls, backbone: Backbone) -> Model:
        """Return the features of a backbone as a model."""
        name = IMAGENET if backbone.name == LITE else backbone.name
        record = Record(name=name, backbone=backbone.name, edge=backbone.edge, outline=False)
        return cls(record, backbone)

    @cached_property
    def hash(self) -> str:
        """Digest of all weights and of what else the points depend on."""
        structure = f"{_VERSION} {self.record.backbone} {self.backbone.edge} {self.record.outline}"
        parts = (self.backbone.early, self.backbone.late, *([self.head] if self.head else []))
        return digest(structure, *parts)

    def points(
        self,
        pictures: Iterable[Picture],
        total: int = 0,
        device: torch.device | str = "cpu",
        job: Job = QUIET,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the points of pictures, (n, d) of length 1, and the features, (n, q).

        `total` is the number of pictures, if known.
        """
        outline = self.record.outline
        found = described(
            self.backbone, pictures, outline=outline, total=total, device=device, job=job
        )
        if self.head is not None:
            return points_of(self.head, found), found
        return unit(found), found

    def save(self, folder: Path) -> Record:
        """Write weights and record into a new folder, whole or not at all.

        The weights of an untouched `lite` are not written: they are installed with the program.
        """
        record = self.record.model_copy(update={"model_hash": self.hash})
        require_empty(folder, "a model")
        with appearing(folder) as hidden:
            with explained(folder, "Writing"):
                (hidden / WEIGHTS).write_bytes(save(self._weights()))
            write_json(hidden / RECORD, record.model_dump(mode="json"))
        return record

    def _weights(self) -> dict[str, Tensor]:
        parts: dict[str, nn.Module] = {} if self.head is None else {"head": self.head}
        if self.record.backbone != LITE:
            parts["early"] = self.backbone.early
        elif self.record.fine_tuned:
            parts["late"] = self.backbone.late
        return {
            f"{part}.{name}": tensor.detach().cpu().contiguous()
            for part, module in parts.items()
            for name, tensor in module.state_dict().items()
        }

    @classmethod
    def load(cls, folder: Path) -> Model:
        """Read what `save` wrote.

        Raises
        ------
        FossilError
            Where it is missing, damaged, or its two files do not belong together.
        """
        record = read_record(folder)
        path = folder / WEIGHTS
        with explained(path, "Reading"):
            tensors = read_tensors(path.read_bytes(), str(path))
        if record.backbone == LITE:
            backbone = lite(record.edge)
            if record.fine_tuned:
                fill(backbone.late, _part(tensors, "late"), str(path))
        else:
            backbone = foreign(record.backbone, _part(tensors, "early"), str(path), record.edge)
        own = _part(tensors, "head")
        head = None
        if own:
            try:
                head = Head(own["unit"], own["mean"], own["weight"]).eval().requires_grad_(False)
            except KeyError as error:
                raise _mismatch(path, f"no {error} of the head") from error
        model = cls(record, backbone, head)
        if model.hash != record.model_hash:
            raise _mismatch(path, f"weights with hash {model.hash[:12]}")
        return model


def read_record(folder: Path) -> Record:
    """Read ``model.json`` alone.

    Raises
    ------
    FossilError
        Where there is none, or it cannot be read.
    """
    path = folder / RECORD
    if not path.is_file():
        raise FossilError(
            f"There is no model {folder.name!r}", expected=path, found="no such file", advice=_AGAIN
        )
    try:
        return Record.model_validate_json(json.dumps(read_json(path, "the record of a model")))
    except ValidationError as error:
        first = error.errors()[0]
        raise FossilError(
            f"{path} is not the record of a model",
            expected=f"fields of version {_VERSION}",
            found=f"{'.'.join(str(p) for p in first['loc'])}: {first['msg']}",
            advice=_AGAIN,
        ) from error


def _part(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    start = f"{part}."
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}


def _mismatch(path: Path, found: str) -> FossilError:
    return FossilError(
        f"{path} does not belong to its {RECORD}",
        expected="the weights that were saved with it",
        found=found,
        advice=f"One of the two was changed or copied alone. {_AGAIN}",
    )


def described(
    backbone: Backbone,
    pictures: Iterable[Picture],
    *,
    outline: bool,
    copies: Sequence[int] = (),
    total: int = 0,
    device: torch.device | str = "cpu",
    job: Job = QUIET,
) -> NDArray[np.float32]:
    """Return features of pictures and, if asked for, numbers of their outlines.

    Parameters
    ----------
    copies
        Numbers of changed copies, see `backbones.changed`: (n, v, q). Without them the features
        are averaged over the mirrored pictures: (n, q).
    total
        Number of pictures, for the reports; 0: unknown.
    """
    outlines = []

    def watched() -> Iterator[Picture]:
        for picture in job.tracked(pictures, total, "Looking at specimens"):
            if outline:
                outlines.append(outline_numbers(silhouette(picture)))
            yield picture

    found = features(backbone, watched(), copies or range(VIEWS), device)
    if outline:
        # The changes of a copy do not change what is measured of its outline.
        numbers = np.repeat(np.stack(outlines)[:, None], found.shape[1], axis=1)
        found = np.concatenate([found, numbers], axis=2)
    return found if copies else np.asarray(found.mean(axis=1))
