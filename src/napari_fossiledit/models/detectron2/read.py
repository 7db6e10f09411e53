"""detectron2's Mask R-CNNs on a feature pyramid, read into the very same network of torchvision.

Read are ``.pth`` files of its checkpointer and ``.pkl`` files of its model zoo, of ResNet-50 and
-101 and ResNeXt-101 (32x8d), with or without the configuration that belongs to them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_fossiledit.models.detectron2.classes import Classes, named_classes
from napari_fossiledit.models.detectron2.config import (
    DEFAULTS,
    X101,
    Config,
    check_config,
    read_config,
)
from napari_fossiledit.models.detectron2.file import Checkpoint, read_checkpoint
from napari_fossiledit.models.detectron2.layers import Layers, find_layers, to_ours
from napari_fossiledit.models.detectron2.settings import (
    check_agreement,
    cut_of,
    preprocessing_of,
    spec_of,
)
from napari_fossiledit.models.files.checkpoint import ModelRecord, fill, parse_record
from napari_fossiledit.models.inference.devices import pick_device
from napari_fossiledit.models.inference.preprocessing import Preprocessing
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
from napari_fossiledit.models.network.spec import NetworkSpec
from napari_fossiledit.params.segment import Architecture, Device

CONFIG = "config.yaml"
RECORD, ROWS = "record", "background"
"""Below `OURS` in a checkpoint: our record of the model, and rows that detectron2 does not have."""


@dataclass(frozen=True)
class Imported:
    """A model of detectron2.

    Attributes
    ----------
    spec, preprocessing
        What network it is and what images it expects.
    weights
        By our names.
    notes
        What was not in the files and had to be assumed, in sentences for the user.
    score_threshold, max_detections
        At which detectron2 would cut its detections.
    """

    spec: NetworkSpec
    preprocessing: Preprocessing
    weights: Mapping[str, Tensor]
    notes: tuple[str, ...]
    score_threshold: float
    max_detections: int
    where: str

    def segmenter(self, device: Device | str = Device.AUTO) -> MaskRcnnSegmenter:
        """Build the model."""
        network = MaskRcnn(self.spec)
        fill(network, self.weights, self.where)
        return MaskRcnnSegmenter(network, self.preprocessing, pick_device(device))


def read_detectron2(path: Path, *, config: Path | None = None, classes: Classes = None) -> Imported:
    """Read a model of detectron2.

    Parameters
    ----------
    path
        ``.pth`` file of detectron2's checkpointer or ``.pkl`` file of its model zoo.
    config
        Its configuration; None: ``config.yaml`` beside it, or else the model zoo's for this
        network.
    classes
        A name for each class in order, or number and name of those to keep; None: those that the
        file names (if it was written here), COCO's for 80 classes, numbers else.

    Raises
    ------
    FossilError
        Where a file is missing, truncated or holds code; where the network is none that can be run
        here; where configuration, weights and names of classes do not belong together.
    """
    return import_checkpoint(read_checkpoint(path), config=config, classes=classes)


def import_checkpoint(
    checkpoint: Checkpoint, *, config: Path | None = None, classes: Classes = None
) -> Imported:
    """Do as `read_detectron2` with a file that was opened already."""
    layers = find_layers(checkpoint.state, checkpoint.where)
    record = _own_record(checkpoint)
    if record is not None and config is None:
        return _own(checkpoint, record, layers, classes)
    values, notes = _configuration(checkpoint, layers, config)
    where = str(config or checkpoint.where)
    named = named_classes(classes or _own_names(record), layers.classes, checkpoint.where)
    spec = spec_of(values, layers, named, where)
    found = preprocessing_of(values, where)
    cut = cut_of(values, where)
    weights, more = _weights(checkpoint, spec)
    return Imported(spec, found, weights, (*notes, *more), *cut, checkpoint.where)


def known_classes(checkpoint: Checkpoint) -> tuple[int, tuple[str, ...]]:
    """Tell the number of classes of a checkpoint, and their names where it holds them.

    Raises
    ------
    FossilError
        Where the network is none that can be run here.
    """
    count = find_layers(checkpoint.state, checkpoint.where).classes
    return count, _own_names(_own_record(checkpoint)) or ()


def _own_names(record: ModelRecord | None) -> tuple[str, ...] | None:
    return None if record is None else record.network.classes


def _own_record(checkpoint: Checkpoint) -> ModelRecord | None:
    text = checkpoint.ours.get(RECORD)
    if not isinstance(text, str):
        return None
    try:
        values = json.loads(text)
    except ValueError:
        return None
    return parse_record(values, f"The record in {checkpoint.where}")


def _own(checkpoint: Checkpoint, record: ModelRecord, layers: Layers, classes: Classes) -> Imported:
    """Take a model that was written here for what it was."""
    named = named_classes(classes or record.network.classes, layers.classes, checkpoint.where)
    spec = record.network.model_copy(update={"classes": named})
    weights, notes = _weights(checkpoint, spec)
    about = "The checkpoint was written by this program and tells its settings itself."
    return Imported(
        spec, record.preprocessing, weights, (about, *notes), 0.0, 100, checkpoint.where
    )


def _configuration(
    checkpoint: Checkpoint, layers: Layers, path: Path | None
) -> tuple[Config, list[str]]:
    """Find the configuration of a checkpoint, complete, and say where it is from."""
    beside = Path(checkpoint.where).parent / CONFIG
    chosen = path or (beside if beside.is_file() else None)
    if chosen is None:
        return _assumed(checkpoint, layers)
    said, missing = read_config(chosen)
    notes = [] if path else [f"The configuration is {beside}."]
    notes += [
        f"{chosen} builds on {b}, which is not there; the usual values hold." for b in missing
    ]
    check_config(said, str(chosen))
    values = {**DEFAULTS, **said}
    check_agreement(values, layers, str(chosen), checkpoint.where)
    return values, notes


def _assumed(checkpoint: Checkpoint, layers: Layers) -> tuple[Config, list[str]]:
    values = {**DEFAULTS, **(X101 if layers.architecture is Architecture.X101 else {})}
    for key, name in (("MODEL.PIXEL_MEAN", "pixel_mean"), ("MODEL.PIXEL_STD", "pixel_std")):
        if name in checkpoint.state:
            values[key] = checkpoint.state[name].flatten().tolist()
    place = "first 1 x 1" if values["MODEL.RESNETS.STRIDE_IN_1X1"] else "3 x 3"
    note = (
        f"No configuration was given. Assumed are the model zoo's values for {layers.architecture}:"
        f" colours {values['INPUT.FORMAT']} with mean {values['MODEL.PIXEL_MEAN']} and deviation"
        f" {values['MODEL.PIXEL_STD']}, strides in the {place} convolutions, short edge"
        f" {values['INPUT.MIN_SIZE_TEST']} and long edge at most {values['INPUT.MAX_SIZE_TEST']}."
    )
    return values, [note]


def _weights(
    checkpoint: Checkpoint, spec: NetworkSpec
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Weights by our names, and what was not in the file."""
    with torch.device("meta"):
        names = list(MaskRcnn(spec).state_dict())
    weights, filled = to_ours(checkpoint.state, names, checkpoint.where)
    weights.update(_background(checkpoint.ours, weights))
    if not filled:
        return weights, ()
    return weights, (f"{len(filled)} normalisation statistics were not saved: 0 and 1.",)


def _background(ours: Mapping[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put back the rows that detectron2 has no place for, where the file was written here."""
    rows = ours.get(ROWS)
    found = rows if isinstance(rows, Mapping) else {}
    return {
        name: torch.cat([value, weights[name][len(value) :]])
        for name, value in found.items()
        if isinstance(value, Tensor) and name in weights
    }
