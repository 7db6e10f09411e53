"""State dictionaries of torchvision's Mask R-CNNs (R-50 with a feature pyramid, v1 and v2).

The network here is the same but for normalisations outside of the ResNet, which version 2 has:
they are linear once their statistics are fixed, and go into the convolution before them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from napari_fossiledit.params.segment import Architecture

State = Mapping[str, Tensor]

# Names in torchvision's published files, which are older than its release 0.13.
_OLD_NAMES = (
    (re.compile(r"(fpn\.(?:inner|layer)_blocks\.\d)\.(?=weight|bias)"), r"\1.0."),
    (re.compile(r"rpn\.head\.conv\.(?=weight|bias)"), "rpn.head.conv.0.0."),
)
_OLD_MASK_LAYER = re.compile(r"mask_head\.mask_fcn(\d)\.")
# A convolution of version 2 and the normalisation behind it; the ResNet's have other names.
_NORMED = re.compile(r"((?:backbone\.fpn|roi_heads\.(?:box|mask)_head)\..*\d)\.1\.running_var")
_BODY_NORM = re.compile(r"(backbone\.body\..*)\.running_var")
_BLOCK = re.compile(r"backbone\.body\.layer3\.\d+\.conv1\.weight")
_EPSILON = 1e-5
"""What torchvision's normalisations add to each variance."""


def ours(state: State, *, epsilon: float = _EPSILON) -> dict[str, Tensor]:
    """Return the weights of the very same function under our names.

    Parameters
    ----------
    epsilon
        What the ResNet's frozen normalisations add to their variances.
    """
    weights = {_renamed(name): value for name, value in state.items()}
    for name in [n for n in weights if _NORMED.fullmatch(n)]:
        layer = name.removesuffix(".1.running_var")
        scale, bias, mean, variance = (
            weights.pop(f"{layer}.1.{kind}").double()
            for kind in ("weight", "bias", "running_mean", "running_var")
        )
        scale = scale / (variance + _EPSILON).sqrt()
        weight = weights[f"{layer}.0.weight"]
        weights[f"{layer}.0.weight"] = (weight * scale[:, None, None, None]).to(weight)
        weights[f"{layer}.0.bias"] = (bias - mean * scale).to(weight)
    if epsilon != _EPSILON:
        for match in filter(None, map(_BODY_NORM.fullmatch, list(weights))):
            # Variances may be far below our epsilon: a difference of both would have no digits.
            variance, scale = weights[match[0]].double(), weights[f"{match[1]}.weight"]
            weights[f"{match[1]}.weight"] = (scale / (variance + epsilon).sqrt()).to(scale)
            weights[match[0]] = torch.full_like(scale, 1 - _EPSILON)
    return weights


def choices_of(weights: State) -> dict[str, Any]:
    """Return in what the network of a state dictionary (our names) differs from the usual one.

    Returns
    -------
    fields of `NetworkSpec`; none where it is no ResNet
    """
    blocks = [n for n in weights if _BLOCK.fullmatch(n)]
    if not blocks:
        return {}
    wide = weights["backbone.body.layer1.0.conv2.weight"]
    deep = Architecture.R101 if wide.shape[0] == wide.shape[1] else Architecture.X101
    choices: dict[str, Any] = {"architecture": Architecture.R50 if len(blocks) == 6 else deep}
    if "roi_heads.box_head.0.0.weight" in weights:
        choices |= {
            "proposal_convolutions": _count(weights, "rpn.head.conv"),
            "box_convolutions": _count(weights, "roi_heads.box_head"),
        }
    return choices


def _count(weights: State, layer: str) -> int:
    return len([n for n in weights if re.fullmatch(re.escape(layer) + r"\.\d\.0\.weight", n)])


def _renamed(name: str) -> str:
    for old, new in _OLD_NAMES:
        name = old.sub(new, name)
    return _OLD_MASK_LAYER.sub(lambda found: f"mask_head.{int(found[1]) - 1}.0.", name)
