"""Compute the layers of a network in bfloat16, where a processor is faster so.

Backbone, pyramid and the hidden layers of the heads take nearly all of the time. What ranks and
places proposals and boxes, and every loss, stays float32: bfloat16 has 8 bits, and thousands of
anchors would get equal scores. So do depthwise convolutions and their normalisation: the maps of
`lite` are then twice as close to those in float32 in the same time, and the backward pass of a
depthwise 5 x 5 convolution is five times slower in bfloat16 (oneDNN).
"""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.inference.protocol import Segmenter
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn

WORTH = 1.2
"""Gain of a convolution from which on bfloat16 is worth its rounding."""
_ROUNDS = 25
NO_GAIN = (
    "Mixed precision was asked for, but this device is not faster so: computed in float32 as ever."
)

_HALVED = (
    "backbone",
    "rpn.head",
    "roi_heads.box_head",
    "roi_heads.mask_head",
    "roi_heads.mask_predictor",
)
_WHOLE = ("rpn.head.cls_logits", "rpn.head.bbox_pred")


def gains(device: torch.device) -> bool:
    """Return whether bfloat16 is worth its rounding on a device."""
    return gain(device.type) >= WORTH


@cache
def gain(kind: str) -> float:
    """Measure how many times faster a convolution is in bfloat16; 0 where the device lacks it.

    Takes less than half a second, once in a process. CUDA is believed what it says of itself.
    """
    if kind == "cuda":
        return 2.0 if torch.cuda.is_bf16_supported(including_emulation=False) else 0.0
    # Without the instructions, torch computes bfloat16 by a loop that takes minutes.
    if kind != "cpu" or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return 0.0
    images = torch.ones(1, 128, 16, 16).to(memory_format=torch.channels_last)
    weight = torch.ones(128, 128, 3, 3)
    kinds = [(images.to(t), weight.to(t)) for t in (torch.float32, torch.bfloat16)]
    best = [float("inf")] * 2
    threads = torch.get_num_threads()
    # Threads that wait for each other tell nothing on a busy machine.
    torch.set_num_threads(1)
    with torch.inference_mode():
        # By turns, and the least of each; a millisecond passes undisturbed on a busy machine, too.
        for _ in range(_ROUNDS):
            for k, pair in enumerate(kinds):
                began = time.perf_counter()
                nn.functional.conv2d(*pair, padding=1)
                best[k] = min(best[k], time.perf_counter() - began)
    torch.set_num_threads(threads)
    return best[0] / max(best[1], 1e-9)


def halved(network: MaskRcnn) -> MaskRcnn:
    """Return the same network computed in bfloat16; all weights are the very same tensors."""
    made = network.sharing()
    for name in _HALVED:
        _become(made.get_submodule(name), _Halved)
    for module in made.mask_outputs.values():
        _become(module, _Halved)
    for name in _WHOLE:
        _become(made.get_submodule(name), _Whole)
    for module in list(made.modules()):
        if isinstance(module, nn.BatchNorm2d):
            _become(module, _Norm)
        elif isinstance(module, nn.Conv2d) and module.groups == module.in_channels:
            _become(module, _Whole)
    return made


def mixed(segmenter: Segmenter, first: int = 0) -> Segmenter:
    """Return the same model whose views from number `first` (0 or 1) on are computed in bfloat16.

    Raises
    ------
    FossilError
        Where the model is not computed by this program.
    """
    network = getattr(segmenter, "network", segmenter)
    if not isinstance(network, MaskRcnn):
        raise FossilError(
            "Mixed precision cannot be used here",
            expected="a model that this program computes",
            found=type(network).__name__,
            advice="Choose the precision full.",
        )
    half = halved(network)
    made = MaskRcnnSegmenter(network if first else half, segmenter.preprocessing, segmenter.device)
    made.further = half
    # The weights are the same: no need to hash them again.
    made.model_hash = segmenter.model_hash
    return made


def _become(module: nn.Module, kind: type) -> None:
    """Change how a module computes; names, weights and with them the hash stay the same."""
    was = type(module)
    module.__class__ = type(was.__name__, (kind, was), {})


def _autocast(module: nn.Module, *, enabled: bool) -> torch.autocast:
    kind = next(module.parameters()).device.type
    return torch.autocast(kind, torch.bfloat16, enabled=enabled)


def _floats(output: Any) -> Any:
    """Return tensors in lists, tuples or dictionaries as float32."""
    if isinstance(output, Tensor):
        return output.float()
    if isinstance(output, dict):
        return {name: _floats(value) for name, value in output.items()}
    return type(output)(map(_floats, output))


class _Halved(nn.Module):
    """Computes in bfloat16, and gives float32."""

    def forward(self, *inputs: Any) -> Any:
        with _autocast(self, enabled=True):
            output = super().forward(*inputs)
        return _floats(output)


class _Whole(nn.Module):
    """Computes in float32 within a part that does not."""

    def forward(self, images: Tensor) -> Any:
        with _autocast(self, enabled=False):
            return super().forward(images.float())


class _Norm(_Whole):
    """Computes in float32, but not where something is learned: that takes a tenth of a step."""

    def forward(self, images: Tensor) -> Any:
        if torch.is_grad_enabled():
            return super(_Whole, self).forward(images)
        return super().forward(images)
