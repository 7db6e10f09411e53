"""Read detectron2's Mask R-CNNs on a feature pyramid into the very same network of torchvision.

Read are ``.pth`` files of its checkpointer and ``.pkl`` files of its model zoo, of ResNet-50 and
-101 and ResNeXt-101 (32x8d), with or without the configuration that belongs to them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from napari_fossiledit.models.detectron2.classes import Classes, named_classes
from napari_fossiledit.models.detectron2.config import (
    DEFAULTS,
    X101,
    Config,
    check_agreement,
    check_config,
    cut_of,
    preprocessing_of,
    read_config,
    spec_of,
)
from napari_fossiledit.models.detectron2.file import Checkpoint, read_checkpoint
from napari_fossiledit.models.detectron2.layers import Layers, find_layers, to_ours
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
    """Read a checkpoint that was opened already; see `read_detectron2`."""
    layers = find_layers(checkpoint.state, checkpoint.where)
    record = _own_record(checkpoint)
    names = classes or (None if record is None else record.network.classes)
    if record is not None and config is None:
        # A model that was written here is what it was, whatever lies beside it.
        named = named_classes(names, layers.classes, checkpoint.where)
        spec = record.network.model_copy(update={"classes": named})
        preprocessing, cut = record.preprocessing, (0.0, 100)
        notes = ["The checkpoint was written by this program and holds its own settings."]
    else:
        values, notes = _configuration(checkpoint, layers, config)
        named = named_classes(names, layers.classes, checkpoint.where)
        where = str(config or checkpoint.where)
        spec = spec_of(values, layers, named, where)
        preprocessing, cut = preprocessing_of(values, where), cut_of(values, where)
    weights, more = _weights(checkpoint, spec)
    return Imported(spec, preprocessing, weights, (*notes, *more), *cut, checkpoint.where)


def known_classes(checkpoint: Checkpoint) -> tuple[int, tuple[str, ...]]:
    """Return the number of classes of a checkpoint, and their names where it holds them.

    Raises
    ------
    FossilError
        Where the network is none that can be run here.
    """
    count = find_layers(checkpoint.state, checkpoint.where).classes
    record = _own_record(checkpoint)
    return count, () if record is None else record.network.classes


def _own_record(checkpoint: Checkpoint) -> ModelRecord | None:
    """Return our record in a checkpoint that was written here."""
    text = checkpoint.ours.get(RECORD)
    if not isinstance(text, str):
        return None
    try:
        values = json.loads(text)
    except ValueError:
        return None
    return parse_record(values, f"The record in {checkpoint.where}")


def _configuration(
    checkpoint: Checkpoint, layers: Layers, path: Path | None
) -> tuple[Config, list[str]]:
    """Return the complete configuration of a checkpoint, with notes on where it is from."""
    beside = Path(checkpoint.where).parent / CONFIG
    chosen = path or (beside if beside.is_file() else None)
    if chosen is None:
        return _assumed(checkpoint, layers)
    given, missing = read_config(chosen)
    notes = [] if path else [f"The configuration is {beside}."]
    notes += [
        f"{chosen} builds on {b}, which is not there; the usual values hold." for b in missing
    ]
    check_config(given, str(chosen))
    values = {**DEFAULTS, **given}
    check_agreement(values, layers, str(chosen), checkpoint.where)
    return values, notes


def _assumed(checkpoint: Checkpoint, layers: Layers) -> tuple[Config, list[str]]:
    """Return the model zoo's configuration, for a checkpoint without one."""
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
    """Return weights by our names, and notes on what was not in the file."""
    with torch.device("meta"):
        names = list(MaskRcnn(spec).state_dict())
    weights, filled = to_ours(checkpoint.state, names, checkpoint.where)
    # Rows that detectron2 has no place for, where the file was written here.
    rows = checkpoint.ours.get(ROWS)
    for name, value in rows.items() if isinstance(rows, Mapping) else ():
        if isinstance(value, Tensor) and name in weights:
            weights[name] = torch.cat([value, weights[name][len(value) :]])
    if not filled:
        return weights, ()
    return weights, (f"{len(filled)} normalisation statistics were not saved: 0 and 1.",)
