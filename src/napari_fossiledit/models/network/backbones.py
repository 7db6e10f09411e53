"""Backbones with a feature pyramid: EfficientNet-Lite0 from timm, ResNe(X)ts from torchvision.

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
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from napari_fossiledit.models.network.imagenet import lite0_weights
from napari_fossiledit.models.network.spec import NetworkSpec
from napari_fossiledit.params.segment import Architecture

LEVELS = ("0", "1", "2", "3")
_LITE_CHANNELS = [24, 40, 112, 320]
_RESNET_CHANNELS = [256, 512, 1024, 2048]
_RESNET_STAGES = ("conv1", "layer1", "layer2", "layer3", "layer4")
_BLOCKS = {
    Architecture.R50: (3, 4, 6, 3),
    Architecture.R101: (3, 4, 23, 3),
    Architecture.X101: (3, 4, 23, 3),
}


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
        """Compute the pyramid; channels last where nothing is learned, see `lay_out`."""
        maps = self.body(images)
        if torch.is_grad_enabled():
            maps = {name: value.contiguous() for name, value in maps.items()}
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
    return Backbone(ResNetBody(spec), _RESNET_CHANNELS, spec.channels)


class FoldedBottleneck(resnet.Bottleneck):  # type: ignore[misc]  # torchvision is untyped
    """Bottleneck whose frozen normalisation goes into the weights of its convolutions.

    The same function; a forward pass reads and writes each map once instead of three times.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block (He et al. 2015, Deep residual learning, figure 5)."""
        found = _normed(self.conv1, self.bn1, x).relu_()
        found = _normed(self.conv2, self.bn2, found).relu_()
        found = _normed(self.conv3, self.bn3, found)
        skip = self.downsample
        skipped = x if skip is None else _normed(skip[0], skip[1], x)
        return found.add_(skipped).relu_()


class ResNetBody(nn.Module):
    """ResNet or ResNeXt with frozen batch normalisation, strides 4, 8, 16 and 32."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        wide = spec.architecture is Architecture.X101
        net = resnet.ResNet(
            FoldedBottleneck,
            list(_BLOCKS[spec.architecture]),
            groups=32 if wide else 1,
            width_per_group=8 if wide else 64,
            norm_layer=FrozenBatchNorm2d,
        )
        if spec.stride_in_1x1:
            _stride_first(net)
        self.conv1, self.bn1 = net.conv1, net.bn1
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            getattr(net, stage) for stage in _RESNET_STAGES[1:]
        )
        for stage in _RESNET_STAGES[: spec.frozen_stages]:
            getattr(self, stage).requires_grad_(False)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Compute the four feature maps, finest first."""
        found = _normed(self.conv1, self.bn1, images).relu_()
        found = nn.functional.max_pool2d(found, 3, 2, 1)
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            found = stage(found)
            maps.append(found)
        return OrderedDict(zip(LEVELS, maps, strict=True))


def _normed(conv: nn.Conv2d, norm: FrozenBatchNorm2d, x: Tensor) -> Tensor:
    """Convolve and normalise in one step: both are linear."""
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    weight, bias = conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale
    return nn.functional.conv2d(
        x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups
    )


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
    backbone.body.to(memory_format=torch.channels_last)
