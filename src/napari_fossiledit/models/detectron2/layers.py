"""What network the layers of a detectron2 checkpoint make, and whether it can be run here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.detectron2.names import State, from_theirs, theirs
from napari_fossiledit.params.segment import Architecture

WIDTH = 256
"""Channels of detectron2's feature pyramid."""

_EXPECTED = "a Mask R-CNN on a ResNet-50, ResNet-101 or ResNeXt-101 (32x8d) with a feature pyramid"
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
_BLOCKS: dict[tuple[int, ...], str] = {(3, 4, 6, 3): "50", (3, 4, 23, 3): "101"}
_NETWORKS = {
    ("50", 64, 64): Architecture.R50,
    ("101", 64, 64): Architecture.R101,
    ("101", 256, 8): Architecture.X101,
}
_NO_WEIGHTS = ("pixel_mean", "pixel_std")
_STATISTICS = {"running_mean": torch.zeros, "running_var": torch.ones}


@dataclass(frozen=True)
class Layers:
    """Sizes of a network as its layers tell them.

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
    """Tell whether layers have detectron2's names, of whatever network."""
    heads = ("backbone.bottom_up.", "backbone.fpn_", "backbone.stem.", "proposal_generator.")
    return any(name.startswith(heads) for name in names)


def find_layers(state: State, where: str) -> Layers:
    """Find out the network from the layers of a checkpoint.

    Raises
    ------
    FossilError
        Where it is none that can be run here, saying what it is.
    """
    _refuse_others(state, where)
    classes = len(state["roi_heads.box_predictor.cls_score.weight"]) - 1
    _check_rows(state, classes, where)
    return Layers(
        _architecture(state, where),
        classes,
        len(state["roi_heads.box_head.fc1.weight"]),
        len(state["roi_heads.mask_head.mask_fcn1.weight"]),
        len(state["proposal_generator.rpn_head.objectness_logits.weight"]),
    )


def _refuse_others(state: State, where: str) -> None:
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


def _refusal(where: str, found: str) -> FossilError:
    return FossilError(
        f"{where} holds a network that cannot be run here",
        expected=_EXPECTED,
        found=found,
        advice="Choose a checkpoint of mask_rcnn_R_50_FPN, mask_rcnn_R_101_FPN or "
        "mask_rcnn_X_101_32x8d_FPN.",
    )


def _check_rows(state: State, classes: int, where: str) -> None:
    """Boxes and masks must be those of each class, not of all together."""
    boxes = len(state["roi_heads.box_predictor.bbox_pred.weight"])
    masks = len(state["roi_heads.mask_head.predictor.weight"])
    if (boxes, masks) != (4 * classes, classes):
        raise FossilError(
            f"{where} has other boxes or masks than its {classes} classes need",
            expected=f"{4 * classes} box and {classes} mask outputs",
            found=f"{boxes} and {masks}",
            advice="Boxes or masks that do not depend on the class (CLS_AGNOSTIC) cannot be run.",
        )


def _architecture(state: State, where: str) -> Architecture:
    blocks = tuple(_count(state, f"backbone.bottom_up.res{i}.") for i in (2, 3, 4, 5))
    first = state.get("backbone.bottom_up.res2.0.conv2.weight")
    size = (0, 0) if first is None or first.ndim != 4 else (first.shape[0], first.shape[1])
    found = _NETWORKS.get((_BLOCKS.get(blocks, ""), *size))
    if found is None:
        raise _refusal(where, f"stages of {blocks} blocks, the first {size[0]} x {size[1]} wide")
    return found


def _count(state: State, stage: str) -> int:
    return len({n[len(stage) :].split(".")[0] for n in state if n.startswith(stage)})


def to_ours(
    state: State, wanted: Iterable[str], where: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Rename the layers of a checkpoint and put the background first.

    Parameters
    ----------
    wanted
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
    names = {name: theirs(name) for name in wanted}
    _check_unknown(state, set(names.values()), where)
    filled = tuple(name for name in names.values() if name not in state)
    found = {
        n: from_theirs(n, state[t]) if t in state else _statistics(t, state, where)
        for n, t in names.items()
    }
    return found, filled


def _check_unknown(state: State, known: set[str], where: str) -> None:
    unknown = sorted(n for n in state if n not in known and not _no_layer(n))
    if unknown:
        raise _refusal(where, f"{len(unknown)} more layers, e.g. {unknown[0]}")


def _no_layer(name: str) -> bool:
    ends = ("num_batches_tracked",)
    return name in _NO_WEIGHTS or "anchor_generator.cell_anchors" in name or name.endswith(ends)


def _statistics(name: str, state: State, where: str) -> Tensor:
    """Statistics of a normalisation that was saved without them."""
    layer, _, kind = name.rpartition(".")
    weight = state.get(f"{layer}.weight")
    if kind not in _STATISTICS or weight is None:
        raise _refusal(where, f"no layer {name}")
    return _STATISTICS[kind](weight.shape[0])
