"""Backbones with a feature pyramid: EfficientNet-Lite0 from timm, ResNets from torchvision.

All have exactly four pyramid output convolutions of 3 x 3 at the same place,
``backbone.fpn.layer_blocks.{0..3}.0``, for the strides 4, 8, 16 and 32.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

import timm
import torch
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from napari_fossiledit.models.imagenet import lite0_weights
from napari_fossiledit.models.spec import NetworkSpec
from napari_fossiledit.params.segment import Architecture

LEVELS = ("0", "1", "2", "3")
_LITE_CHANNELS = [24, 40, 112, 320]
_RESNET_CHANNELS = [256, 512, 1024, 2048]
_RESNET_STAGES = ("conv1", "layer1", "layer2", "layer3", "layer4")
_RESNETS = {Architecture.R50: resnet.resnet50, Architecture.R101: resnet.resnet101}


class Backbone(nn.Module):
    """Features at strides 4, 8, 16, 32 and a pooled 64, with equal channels.

    Input (N, 3, H, W) with H and W multiples of 32; output a dictionary of (N, C, H/s, W/s) with
    the keys ``"0"`` to ``"3"`` and ``"pool"``.
    """

    def __init__(self, body: nn.Module, widths: list[int], channels: int) -> None:
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramidNetwork(widths, channels, LastLevelMaxPool())
        self.out_channels = channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the pyramid."""
        maps = {name: value.contiguous() for name, value in self.body(images).items()}
        return cast("dict[str, Tensor]", self.fpn(maps))


class LiteBody(nn.Module):
    """EfficientNet-Lite0 (timm) with frozen batch normalisation, strides 4, 8, 16 and 32."""

    def __init__(self, pretrained: bool) -> None:
        super().__init__()
        self.net: nn.Module = timm.create_model(
            "tf_efficientnet_lite0", features_only=True, pretrained=False, out_indices=(1, 2, 3, 4)
        )
        if pretrained:
            known = lite0_weights()
            self.net.load_state_dict({k: known[k] for k in self.net.state_dict()})

    def train(self, mode: bool = True) -> LiteBody:
        """Switch the mode; the batch normalisation keeps its ImageNet statistics in both."""
        super().train(mode)
        for module in _norms(self):
            module.eval()
        return self

    def freeze(self, stages: int) -> None:
        """Keep the normalisation and the first `stages` (the stem is one) as they are."""
        fixed = ["conv_stem"] if stages else []
        fixed += [f"blocks.{i}." for i in range(stages - 1)]
        for name, parameter in self.net.named_parameters():
            parameter.requires_grad_(not name.startswith(tuple(fixed)))
        for module in _norms(self):
            module.requires_grad_(False)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Compute the four feature maps, finest first."""
        return OrderedDict(zip(LEVELS, self.net(images), strict=True))


def _norms(module: nn.Module) -> list[nn.Module]:
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def build_backbone(spec: NetworkSpec, *, pretrained: bool) -> Backbone:
    """Build the backbone of `spec`.

    Parameters
    ----------
    pretrained
        Load ImageNet weights; only ``lite`` has them at hand, ResNets start from a file.
    """
    if spec.architecture is Architecture.LITE:
        lite = LiteBody(pretrained)
        lite.freeze(spec.frozen_stages)
        return Backbone(lite, _LITE_CHANNELS, spec.channels)
    return Backbone(_resnet_body(spec), _RESNET_CHANNELS, spec.channels)


def _resnet_body(spec: NetworkSpec) -> nn.Module:
    net = _RESNETS[spec.architecture](weights=None, norm_layer=FrozenBatchNorm2d)
    if spec.stride_in_1x1:
        _stride_first(net)
    for stage in _RESNET_STAGES[: spec.frozen_stages]:
        getattr(net, stage).requires_grad_(False)
    layers = {f"layer{i + 1}": level for i, level in enumerate(LEVELS)}
    return cast("nn.Module", IntermediateLayerGetter(net, layers))


def _stride_first(net: nn.Module) -> None:
    """Move the stride of each stage from the 3 x 3 to the first 1 x 1 convolution."""
    for stage in _RESNET_STAGES[2:]:
        block = getattr(net, stage)[0]
        block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)


def pyramid_outputs(backbone: Backbone) -> list[nn.Conv2d]:
    """Return the four 3 x 3 output convolutions of the pyramid, finest first."""
    return [cast("nn.Conv2d", cast("nn.Sequential", b)[0]) for b in backbone.fpn.layer_blocks]


def lay_out(backbone: Backbone) -> None:
    """Choose the fastest memory layout of the weights on a CPU, which changes no value.

    Depthwise convolutions are five times faster with channels last, and the backward pass of the
    pyramid's 3 x 3 convolutions is three times faster with channels first (oneDNN, AVX2).
    """
    if isinstance(backbone.body, LiteBody):
        backbone.body.to(memory_format=torch.channels_last)
