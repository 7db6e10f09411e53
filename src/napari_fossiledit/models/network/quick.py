"""The same network with less work for a CPU, where no gradients are recorded, in float32.

Elsewhere all is computed as torch does it. Names, weights and hash of a network stay the same.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d


def quicken(network: nn.Module) -> None:
    """Let a network whose normalisations are all frozen compute quickly.

    A normalisation that follows a convolution, as in EfficientNet-Lite, goes into its weights: each
    map is read and written once less.
    """
    layers = list(network.modules())
    for before, norm in pairwise(layers):
        if isinstance(norm, nn.BatchNorm2d):
            become(before, _Normed)
            # Not as a part of it, which would give its weights a second name.
            before.__dict__["norm"] = norm
            become(norm, _Done)
    for module in layers:
        if type(module) is nn.Conv2d and module.kernel_size == (1, 1):
            module.__class__ = _Pointwise


def unfold(network: nn.Module) -> None:
    """Let the normalisations of a network do their own work again: in bfloat16 that is closer."""
    for module in network.modules():
        if isinstance(module, _Normed | _Done):
            module.__class__ = type(module).__bases__[1]


def become(module: nn.Module, kind: type) -> None:
    """Change how a module computes; names, weights and with them the hash stay the same."""
    was = type(module)
    module.__class__ = type(was.__name__, (kind, was), {})


def quick(x: Tensor) -> bool:
    """Return whether a map is computed on a CPU, without gradients and in float32."""
    kind = x.device.type
    return kind == "cpu" and not torch.is_grad_enabled() and not torch.is_autocast_enabled(kind)


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d | FrozenBatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return weights and bias of a convolution that does a frozen normalisation too."""
    mean, variance = cast("Tensor", norm.running_mean), cast("Tensor", norm.running_var)
    scale = norm.weight * (variance + norm.eps).rsqrt()
    return conv.weight * scale[:, None, None, None], norm.bias - mean * scale


def convolved(
    conv: nn.Conv2d,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    pad: str | tuple[int, ...] | None = None,
) -> Tensor:
    """Convolve a map (N, C, Y, X) as `conv` does, with other weights.

    Kernels of one pixel are computed by oneDNN whatever the number of threads, so that sums do not
    depend on it. In a single thread torch takes its own code for them, but not for dilated ones,
    and to a single pixel that means nothing.
    """
    apart = (2, 2) if conv.kernel_size == (1, 1) and quick(x) else conv.dilation
    return F.conv2d(x, weight, bias, conv.stride, pad or conv.padding, apart, conv.groups)


class _Pointwise(nn.Conv2d):
    """A convolution of one pixel."""

    def forward(self, input: Tensor) -> Tensor:
        """Compute a map (N, C, Y, X) of the same size."""
        return convolved(self, input, self.weight, self.bias)


class _Normed(nn.Conv2d):
    """A convolution that does the normalisation after it."""

    norm: nn.BatchNorm2d

    def forward(self, input: Tensor) -> Tensor:
        """Compute a map (N, C, Y, X)."""
        if not quick(input):
            return super().forward(input)
        weight, bias = folded(self, self.norm)
        pad = None
        if isinstance(self, Conv2dSame):
            # It pads a copy of maps, whose sizes are even, by one pixel more at the foot and the
            # right. So do weights of zero at the head and the left.
            pad = (self.kernel_size[0] // 2, self.kernel_size[1] // 2)
            weight = F.pad(weight, (1, 0, 1, 0)).contiguous(memory_format=torch.channels_last)
        return convolved(self, input, weight, bias, pad)


class _Done(nn.BatchNorm2d):
    """What is left of a normalisation that the convolution before it does: timm's activation."""

    act: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        """Compute a map (N, C, Y, X)."""
        return cast("Tensor", self.act(input)) if quick(input) else super().forward(input)
