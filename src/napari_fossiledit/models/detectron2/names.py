"""Names of the layers of a Mask R-CNN with a feature pyramid, here and in detectron2.

Both compute the same network. They differ in names, and in the place of the background: the first
output here (as in torchvision), the last score and nothing else in detectron2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

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
_KINDS = {"inner": "lateral", "layer": "output"}

SCORES = "roi_heads.box_predictor.cls_score"
BOXES = "roi_heads.box_predictor.bbox_pred"
MASKS = "roi_heads.mask_predictor.mask_fcn_logits"
_UNUSED_ROWS = {BOXES: 4, MASKS: 1}


def theirs(name: str) -> str:
    """Name of one of our layers in detectron2, e.g. ``backbone.fpn_output2.weight``."""
    layer, _, kind = name.rpartition(".")
    return f"{_layer(layer)}.{kind}"


def _layer(layer: str) -> str:
    if layer in _FIXED:
        return _FIXED[layer]
    if found := _BLOCK.fullmatch(layer):
        return _block(found)
    if found := _PYRAMID.fullmatch(layer):
        return f"backbone.fpn_{_KINDS[found[1]]}{int(found[2]) + 2}"
    if found := _MASK.fullmatch(layer):
        return f"roi_heads.mask_head.mask_fcn{int(found[1]) + 1}"
    raise KeyError(layer)


def _block(found: re.Match[str]) -> str:
    stage, block, kind, number, skipped = found.groups()
    place = f"backbone.bottom_up.res{int(stage) + 1}.{block}"
    if skipped is not None:
        return f"{place}.shortcut" + (".norm" if skipped == "1" else "")
    return f"{place}.conv{number}" + (".norm" if kind == "bn" else "")


def from_theirs(name: str, value: Tensor) -> Tensor:
    """Put the background first in a layer that detectron2 calls by another name.

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
    """Put the background last, or leave it out (the inverse of `from_theirs`)."""
    layer = name.rpartition(".")[0]
    if layer == SCORES:
        return torch.cat([value[1:], value[:1]])
    if layer in _UNUSED_ROWS:
        return value[_UNUSED_ROWS[layer] :].clone()
    return value


def unused_rows(state: State) -> dict[str, Tensor]:
    """Take out the rows that detectron2 has no place for: boxes and masks of the background."""
    rows = {n: _UNUSED_ROWS.get(n.rpartition(".")[0], 0) for n in state}
    return {name: state[name][:count].clone() for name, count in rows.items() if count}
