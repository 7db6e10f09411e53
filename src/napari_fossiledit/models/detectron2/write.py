"""Our Mask R-CNNs as checkpoints of detectron2, with the configuration it needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import replacing, write_whole
from napari_fossiledit.models.detectron2.config import Config, nested
from napari_fossiledit.models.detectron2.file import OURS
from napari_fossiledit.models.detectron2.layers import WIDTH
from napari_fossiledit.models.detectron2.names import theirs, to_theirs, unused_rows
from napari_fossiledit.models.detectron2.read import CONFIG, RECORD, ROWS
from napari_fossiledit.models.detectron2.settings import config_of
from napari_fossiledit.models.files.checkpoint import ModelRecord
from napari_fossiledit.models.inference.preprocessing import Preprocessing, Resize
from napari_fossiledit.models.inference.protocol import Segmenter
from napari_fossiledit.models.network.spec import LEFT_OUT, NetworkSpec
from napari_fossiledit.params.segment import Architecture

CHECKPOINT = "model_final.pth"
_CONFIG_VERSION = 2


@dataclass(frozen=True)
class Cut:
    """Where detectron2 is to cut its detections: least score, most in an image."""

    score: float = 0.0
    count: int = 100


def write_detectron2(
    segmenter: Segmenter, folder: Path, *, name: str = "The model", cut: Cut | None = None
) -> tuple[str, ...]:
    """Write a model as ``model_final.pth`` and ``config.yaml``, each in one step.

    detectron2 loads the file strictly. What it has no place for lies beside the weights in the same
    file, so that `read_detectron2` gives back the very same model.

    Parameters
    ----------
    name
        What messages call the model.

    Returns
    -------
    what detectron2 does differently with this model, in sentences for the user

    Raises
    ------
    FossilError
        Where detectron2 has no such network, or a file cannot be written.
    """
    content, config = to_detectron2(segmenter, name=name, cut=cut or Cut())
    notes = differences(segmenter.spec, segmenter.preprocessing)
    with replacing(folder / CHECKPOINT) as stream:
        torch.save(content, stream)
    write_whole(folder / CONFIG, _yaml(config, segmenter.classes, notes).encode())
    return notes


def _yaml(config: Config, classes: Sequence[str], notes: Sequence[str]) -> str:
    """Write a configuration, with comments on what it has no key for."""
    told = ", ".join(f"{n}={name}" for n, name in enumerate(classes))
    head = "".join(f"# {' '.join(line.split())}\n" for line in (f"Classes: {told}", *notes))
    return head + yaml.safe_dump({**nested(config), "VERSION": _CONFIG_VERSION}, sort_keys=True)


def to_detectron2(
    segmenter: Segmenter, *, name: str = "The model", cut: Cut | None = None
) -> tuple[dict[str, Any], Config]:
    """Turn a model into the content of a checkpoint and a flat configuration.

    Raises
    ------
    FossilError
        Where detectron2 has no such network.
    """
    spec = segmenter.spec
    _check(spec, name)
    state = {n: v.detach().cpu() for n, v in segmenter.weights().items()}
    record = ModelRecord(
        network=spec, preprocessing=segmenter.preprocessing, model_hash=segmenter.model_hash
    )
    content = {
        "model": {theirs(n): to_theirs(n, v).contiguous() for n, v in state.items()},
        OURS: {RECORD: record.model_dump_json(), ROWS: unused_rows(state)},
    }
    limits = cut or Cut()
    config = {
        **config_of(spec, segmenter.preprocessing),
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": limits.score,
        "TEST.DETECTIONS_PER_IMAGE": limits.count,
    }
    return content, config


def _check(spec: NetworkSpec, name: str) -> None:
    if spec.architecture is Architecture.LITE:
        raise FossilError(
            f"{name} cannot be written for detectron2",
            expected="a model of architecture r50, r101 or x101",
            found="lite, an EfficientNet that detectron2 does not have",
            advice="Train a model that starts from r50, r101 or x101 weights (--init).",
        )
    if spec.light_proposals or spec.channels != WIDTH:
        raise FossilError(
            f"{name} has a pyramid or proposal network that detectron2 does not have",
            expected=f"{WIDTH} channels and full convolutions",
            found=f"{spec.channels} channels, light proposals: {spec.light_proposals}",
        )
    if spec.mask_levels:
        raise FossilError(
            f"{name} holds an edit of the masks alone, which detectron2 has no place for",
            expected="edits of scope all",
            found=f"maps of their own for masks on levels {spec.mask_levels}",
            advice="Make the edit with --scope all, or export the model that it was made from.",
        )


def differences(spec: NetworkSpec, preprocessing: Preprocessing) -> tuple[str, ...]:
    """Tell what detectron2 does differently with the same weights."""
    notes = []
    if not spec.exact_anchors:
        notes.append(
            "The model's anchors are rounded to whole pixels; detectron2's are not, so that boxes"
            " differ by fractions of a pixel."
        )
    if LEFT_OUT in spec.classes:
        notes.append("detectron2 also shows the classes that are left out here.")
    return (*notes, *_other_images(preprocessing))


def _other_images(preprocessing: Preprocessing) -> Iterator[str]:
    """Tell what detectron2 must be given other images for."""
    if preprocessing.resize is Resize.SCALE:
        edge = preprocessing.tile
        yield (
            f"Slices of more than about {edge} pixels enter the model in tiles of {edge};"
            " detectron2 takes them whole."
        )
    if preprocessing.resize is Resize.SCALE and preprocessing.scale != 1:
        yield (
            f"The model takes slices scaled by {preprocessing.scale:g}; detectron2 cannot be told"
            " so. Scale them before: config.yaml turns its own resizing off."
        )
    if (preprocessing.low, preprocessing.high) != (0.0, 255.0):
        yield (
            f"The model shows values from {preprocessing.low:g} to {preprocessing.high:g} as 0 to"
            " 255; give detectron2 images converted so."
        )
