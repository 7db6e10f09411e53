"""Write our Mask R-CNNs as checkpoints of detectron2, with the configuration it needs."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import write_whole
from napari_fossiledit.models.detectron2.config import Config, config_of, nested
from napari_fossiledit.models.detectron2.file import OURS
from napari_fossiledit.models.detectron2.layers import WIDTH, theirs, to_theirs, unused_rows
from napari_fossiledit.models.detectron2.read import CONFIG, RECORD, ROWS
from napari_fossiledit.models.files.checkpoint import ModelRecord
from napari_fossiledit.models.inference.preprocessing import Preprocessing, Resize
from napari_fossiledit.models.inference.protocol import Segmenter
from napari_fossiledit.models.network.spec import LEFT_OUT, NetworkSpec
from napari_fossiledit.params.segment import Architecture

CHECKPOINT = "model_final.pth"
# Of the configurations of detectron2 0.6, which guesses the version of a file without one.
_CONFIG_VERSION = 2


@dataclass(frozen=True)
class DetectionLimits:
    """At what detectron2 is to cut its detections: least score, most in an image."""

    score: float = 0.0
    count: int = 100


def write_detectron2(
    segmenter: Segmenter,
    folder: Path,
    *,
    name: str = "The model",
    limits: DetectionLimits | None = None,
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
    content, config = to_detectron2(segmenter, name=name, limits=limits or DetectionLimits())
    notes = differences(segmenter.spec, segmenter.preprocessing)
    # In memory first: on a full disk torch's own writer fails with an error that does not say so.
    packed = io.BytesIO()
    torch.save(content, packed)
    write_whole(folder / CHECKPOINT, packed.getvalue())
    # A configuration has no key for names of classes, nor for what detectron2 does differently.
    names = ", ".join(f"{n}={name}" for n, name in enumerate(segmenter.classes))
    head = "".join(f"# {' '.join(line.split())}\n" for line in (f"Classes: {names}", *notes))
    body = yaml.safe_dump({**nested(config), "VERSION": _CONFIG_VERSION}, sort_keys=True)
    write_whole(folder / CONFIG, (head + body).encode())
    return notes


def to_detectron2(
    segmenter: Segmenter, *, name: str = "The model", limits: DetectionLimits | None = None
) -> tuple[dict[str, Any], Config]:
    """Return the content of a checkpoint of a model, and its flat configuration.

    Raises
    ------
    FossilError
        Where detectron2 has no such network.
    """
    spec = segmenter.spec
    _require_known(spec, name)
    seen = segmenter.preprocessing.window
    if seen.reach:
        raise FossilError(
            f"{name} cannot be written for detectron2",
            expected="a model that sees the colours of one slice",
            found=f"one that sees {seen.slices} slices at once ({seen.mode})",
            advice="Train a model with --input rgb, or compute with the backend twin.",
        )
    state = {n: v.detach().cpu() for n, v in segmenter.weights().items()}
    record = ModelRecord(
        network=spec, preprocessing=segmenter.preprocessing, model_hash=segmenter.model_hash
    )
    content = {
        "model": {theirs(n): to_theirs(n, v).contiguous() for n, v in state.items()},
        OURS: {RECORD: record.model_dump_json(), ROWS: unused_rows(state)},
    }
    limits = limits or DetectionLimits()
    config = {
        **config_of(spec, segmenter.preprocessing),
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": limits.score,
        "TEST.DETECTIONS_PER_IMAGE": limits.count,
    }
    return content, config


def _require_known(spec: NetworkSpec, name: str) -> None:
    """Raise `FossilError` for a network that detectron2 does not have."""
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
    if (spec.proposal_convolutions, spec.box_convolutions) != (1, 0):
        raise FossilError(
            f"{name} has heads that detectron2's models do not have",
            expected="one convolution in the proposal network and none in the box head",
            found=f"{spec.proposal_convolutions} and {spec.box_convolutions}, as in torchvision's"
            " Mask R-CNN of version 2",
            advice="Train a model that starts from torchvision-r50 or detectron2's weights.",
        )
    if spec.mask_levels:
        raise FossilError(
            f"{name} holds an edit of the masks alone, which detectron2 has no place for",
            expected="edits of scope all",
            found=f"maps of their own for masks on levels {spec.mask_levels}",
            advice="Make the edit with --scope all, or export the model that it was made from.",
        )


def differences(spec: NetworkSpec, preprocessing: Preprocessing) -> tuple[str, ...]:
    """Return what detectron2 does differently with the same weights, in sentences."""
    notes = []
    if not spec.exact_anchors:
        notes.append(
            "The model's anchors are rounded to whole pixels; detectron2's are not, so that boxes"
            " differ by fractions of a pixel."
        )
    if LEFT_OUT in spec.classes:
        notes.append("detectron2 also shows the classes that are left out here.")
    if preprocessing.resize is Resize.SCALE:
        edge = preprocessing.tile
        notes.append(
            f"Slices of more than about {edge} pixels enter the model in tiles of {edge};"
            " detectron2 takes them whole."
        )
    if preprocessing.resize is Resize.SCALE and preprocessing.scale != 1:
        notes.append(
            f"The model takes slices scaled by {preprocessing.scale:g}; detectron2 has no such"
            " setting. Scale them before: config.yaml turns its own resizing off."
        )
    if (preprocessing.low, preprocessing.high) != (0.0, 255.0):
        notes.append(
            f"The model shows values from {preprocessing.low:g} to {preprocessing.high:g} as 0 to"
            " 255; give detectron2 images converted so."
        )
    return tuple(notes)
