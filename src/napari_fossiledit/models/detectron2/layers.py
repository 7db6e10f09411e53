"""Layers of a Mask R-CNN with a feature pyramid, here and in detectron2.

Both compute the same network. They differ in names, and in the place of the background: the first
output here (as in torchvision), the last score and nothing else in detectron2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_fossiledit.errors import FossilError
from napari_fossiledit.params.segment import Architecture

State = Mapping[str, Tensor]

_FIXED = {
    "backbone.body.conv1": "backbone.bottom_up.stem.conv1",
    "backbone.body.bn1": "backbone.bottom_up.stem.conv1.norm",
    "rpn.head.conv.0.0": "proposal_generator.rpn_head.conv",
    "rpn.head.cls_logits": "proposal_generator.rpn_head.objectness_logits",
    "rpn.head.bbox_pred": "proposal_generator.rpn_head.anchor_deltas",
    "roi_heads.box_head.fc6": "roi_heads.box_head.fc1",
    "roi_heads.box_head.fc7": "roi_heads.box_head.fc2",
    "roi_heads.box_predictor.cls_score": "roi_heads.box_predictor.cls_score",
    "roi_heads.box_predictor.bbox_pred": "roi_heads.box_predictor.bbox_pred",
    "roi_heads.mask_predictor.conv5_mask": "roi_heads.mask_head.deconv",
    "roi_heads.mask_predictor.mask_fcn_logits": "roi_heads.mask_head.predictor",
}
_BLOCK = re.compile(r"backbone\.body\.layer(\d)\.(\d+)\.(?:(conv|bn)(\d)|downsample\.(\d))")
_PYRAMID = re.compile(r"backbone\.fpn\.(inner|layer)_blocks\.(\d)\.0")
_MASK = re.compile(r"roi_heads\.mask_head\.(\d)\.0")
_PYRAMID_PARTS = {"inner": "lateral", "layer": "output"}

SCORES = "roi_heads.box_predictor.cls_score"
BOXES = "roi_heads.box_predictor.bbox_pred"
MASKS = "roi_heads.mask_predictor.mask_fcn_logits"
# Of the background, before those of the classes: four offsets and one mask.
_UNUSED_ROWS = {BOXES: 4, MASKS: 1}


def theirs(name: str) -> str:
    """Return detectron2's name of one of our weights, e.g. ``backbone.fpn_output2.weight``."""
    layer, _, kind = name.rpartition(".")
    if layer in _FIXED:
        return f"{_FIXED[layer]}.{kind}"
    if match := _BLOCK.fullmatch(layer):
        stage, block, part, number, skipped = match.groups()
        convolution = f"conv{number}" if skipped is None else "shortcut"
        norm = ".norm" if part == "bn" or skipped == "1" else ""
        return f"backbone.bottom_up.res{int(stage) + 1}.{block}.{convolution}{norm}.{kind}"
    if match := _PYRAMID.fullmatch(layer):
        return f"backbone.fpn_{_PYRAMID_PARTS[match[1]]}{int(match[2]) + 2}.{kind}"
    if match := _MASK.fullmatch(layer):
        return f"roi_heads.mask_head.mask_fcn{int(match[1]) + 1}.{kind}"
    raise KeyError(layer)


def from_theirs(name: str, value: Tensor) -> Tensor:
    """Return a layer of detectron2 with the background first.

    Parameters
    ----------
    name
        Our name of the layer.
    """
    layer = name.rpartition(".")[0]
    if layer == SCORES:
        return torch.cat([value[-1:], value[:-1]])
    if layer in _UNUSED_ROWS:
        return torch.cat([value.new_zeros(_UNUSED_ROWS[layer], *value.shape[1:]), value])
    return value


def to_theirs(name: str, value: Tensor) -> Tensor:
    """Return a layer with the background last, or without it (the inverse of `from_theirs`)."""
    layer = name.rpartition(".")[0]
    if layer == SCORES:
        return torch.cat([value[1:], value[:1]])
    if layer in _UNUSED_ROWS:
        return value[_UNUSED_ROWS[layer] :].clone()
    return value


def unused_rows(state: State) -> dict[str, Tensor]:
    """Return the rows that detectron2 has no place for: boxes and masks of the background."""
    rows = {n: _UNUSED_ROWS.get(n.rpartition(".")[0], 0) for n in state}
    return {name: state[name][:count].clone() for name, count in rows.items() if count}


# ------------------------------------------------------------------ what network a file holds

WIDTH = 256
"""Channels of detectron2's feature pyramid."""

_EXPECTED = "a Mask R-CNN on a ResNet-50, ResNet-101 or ResNeXt-101 (32x8d) with a feature pyramid"
# Beginnings of names that only other kinds of network have.
_KINDS = (
    ("head.", "RetinaNet"),
    ("backbone.stem.", "a ResNet without a feature pyramid (C4 or DC5)"),
    ("roi_heads.box_head.0.", "Cascade R-CNN"),
    ("roi_heads.keypoint_head.", "Keypoint R-CNN"),
    ("sem_seg_head.", "Panoptic FPN"),
    ("res2_0_branch2a_w", "an ImageNet backbone or a Detectron 1 model"),
    ("transformer.", "a transformer"),
)
# Layers that each kind of network has, and what it is where one is missing.
_NEEDED = (
    ("backbone.bottom_up.stem.conv1.weight", "no ResNet of detectron2"),
    ("backbone.fpn_output2.weight", "no feature pyramid from stride 4 on"),
    ("proposal_generator.rpn_head.conv.weight", "no proposal network"),
    ("roi_heads.box_head.fc2.weight", "no box head of two layers"),
    ("roi_heads.mask_head.mask_fcn4.weight", "Faster R-CNN: no masks"),
    ("roi_heads.mask_head.predictor.weight", "Faster R-CNN: no masks"),
)
# By the blocks of the four stages.
_DEPTHS: dict[tuple[int, ...], str] = {(3, 4, 6, 3): "50", (3, 4, 23, 3): "101"}
# By depth, and outputs and inputs of the first 3 x 3 convolution: those of X-101 are in groups.
_NETWORKS = {
    ("50", 64, 64): Architecture.R50,
    ("101", 64, 64): Architecture.R101,
    ("101", 256, 8): Architecture.X101,
}
# Normalisation of colours, which detectron2 saves among the weights.
_NO_WEIGHTS = ("pixel_mean", "pixel_std")
_STATISTICS = {"running_mean": torch.zeros, "running_var": torch.ones}


@dataclass(frozen=True)
class Layers:
    """Sizes of a network, read off its layers.

    Attributes
    ----------
    classes
        Number of classes, without the background.
    ratios
        Anchors on each position.
    """

    architecture: Architecture
    classes: int
    box_width: int
    mask_channels: int
    ratios: int


def is_detectron2(names: Iterable[str]) -> bool:
    """Return whether layers have detectron2's names, of whatever network."""
    heads = ("backbone.bottom_up.", "backbone.fpn_", "backbone.stem.", "proposal_generator.")
    return any(name.startswith(heads) for name in names)


def find_layers(state: State, where: str) -> Layers:
    """Recognise the network from the layers of a checkpoint.

    Raises
    ------
    FossilError
        Where it is none that can be run here, saying what it is.
    """
    named = [kind for start, kind in _KINDS if any(n.startswith(start) for n in state)]
    lacking = [f"{what} ({name} is missing)" for name, what in _NEEDED if name not in state]
    if named or lacking:
        raise _refusal(where, "; ".join([*named, *lacking][:2]))
    width = len(state["backbone.fpn_output2.weight"])
    if width != WIDTH:
        raise FossilError(
            f"The feature pyramid of {where} has another width",
            expected=f"{WIDTH} channels (backbone.fpn_output2.weight)",
            found=f"{width} channels",
            advice="Only detectron2's usual width can be run here.",
        )
    classes = len(state["roi_heads.box_predictor.cls_score.weight"]) - 1
    boxes = len(state["roi_heads.box_predictor.bbox_pred.weight"])
    masks = len(state["roi_heads.mask_head.predictor.weight"])
    if (boxes, masks) != (4 * classes, classes):
        raise FossilError(
            f"{where} has other boxes or masks than its {classes} classes need",
            expected=f"{4 * classes} box and {classes} mask outputs",
            found=f"{boxes} and {masks}",
            advice="Boxes or masks that do not depend on the class (CLS_AGNOSTIC) cannot be run.",
        )
    return Layers(
        _architecture(state, where),
        classes,
        len(state["roi_heads.box_head.fc1.weight"]),
        len(state["roi_heads.mask_head.mask_fcn1.weight"]),
        len(state["proposal_generator.rpn_head.objectness_logits.weight"]),
    )


def _refusal(where: str, found: str) -> FossilError:
    return FossilError(
        f"{where} holds a network that cannot be run here",
        expected=_EXPECTED,
        found=found,
        advice="Choose a checkpoint of mask_rcnn_R_50_FPN, mask_rcnn_R_101_FPN or "
        "mask_rcnn_X_101_32x8d_FPN.",
    )


def _architecture(state: State, where: str) -> Architecture:
    stages = [f"backbone.bottom_up.res{i}." for i in (2, 3, 4, 5)]
    blocks = tuple(
        len({n.removeprefix(stage).split(".")[0] for n in state if n.startswith(stage)})
        for stage in stages
    )
    first = state.get("backbone.bottom_up.res2.0.conv2.weight")
    size = (0, 0) if first is None or first.ndim != 4 else (first.shape[0], first.shape[1])
    architecture = _NETWORKS.get((_DEPTHS.get(blocks, ""), *size))
    if architecture is None:
        raise _refusal(where, f"stages of {blocks} blocks, the first {size[0]} x {size[1]} wide")
    return architecture


def to_ours(
    state: State, own_names: Iterable[str], where: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Rename the layers of a checkpoint and put the background first.

    Parameters
    ----------
    own_names
        Our names of all layers.

    Returns
    -------
    weights
        By our names.
    filled
        Normalisation statistics that the file does not hold: mean 0 and variance 1, as detectron2
        takes them.

    Raises
    ------
    FossilError
        Naming a layer that is missing or that nothing here needs.
    """
    names = {name: theirs(name) for name in own_names}
    expected = {*names.values(), *_NO_WEIGHTS}
    unknown = sorted(
        n
        for n in state
        if n not in expected
        and "anchor_generator.cell_anchors" not in n
        and not n.endswith("num_batches_tracked")
    )
    if unknown:
        raise _refusal(where, f"{len(unknown)} more layers, e.g. {unknown[0]}")
    weights, filled = dict[str, Tensor](), []
    for ours, name in names.items():
        if name in state:
            weights[ours] = from_theirs(ours, state[name])
            continue
        layer, _, kind = name.rpartition(".")
        weight = state.get(f"{layer}.weight")
        if kind not in _STATISTICS or weight is None:
            raise _refusal(where, f"no layer {name}")
        weights[ours] = _STATISTICS[kind](weight.shape[0])
        filled.append(name)
    return weights, tuple(filled)
