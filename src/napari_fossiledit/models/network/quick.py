"""The same network with less work for a CPU, where no gradients are recorded, in float32.

Elsewhere all is computed as torch does it. Names, weights and hash of a network stay the same.
"""

from __future__ import annotations

from typing import cast

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional as F


def quicken(network: nn.Module) -> None:
    """Let the convolutions of a network compute quickly."""
    for module in network.modules():
        if type(module) is Conv2dSame:
            module.__class__ = _Same
        elif type(module) is nn.Conv2d and module.kernel_size == (1, 1):
            module.__class__ = _Pointwise


def apart(conv: nn.Conv2d, x: Tensor) -> tuple[int, ...]:
    """Return how far apart the pixels of the kernel of a convolution are on a map (N, C, Y, X).

    In a single thread torch computes kernels of one pixel by slower code of its own, whose sums
    are others; dilated ones are left to oneDNN, and to a single pixel that means nothing.
    """
    return (2, 2) if conv.kernel_size == (1, 1) and _quick(x) else conv.dilation


def _quick(x: Tensor) -> bool:
    kind = x.device.type
    return kind == "cpu" and not torch.is_grad_enabled() and not torch.is_autocast_enabled(kind)


class _Pointwise(nn.Conv2d):
    """A convolution of one pixel."""

    def forward(self, input: Tensor) -> Tensor:
        """Compute a map (N, C, Y, X)."""
        return F.conv2d(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            apart(self, input),
            self.groups,
        )


class _Same(Conv2dSame):
    """A convolution of stride 2 on maps of even size, which timm pads as TensorFlow does.

    That is by one pixel more at the foot and at the right, for which the map is copied. Weights of
    zero at the head and at the left do the same.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Compute a map (N, C, Y, X)."""
        if not _quick(x):
            return cast("Tensor", Conv2dSame.forward(self, x))
        weight = F.pad(self.weight, (1, 0, 1, 0)).contiguous(memory_format=torch.channels_last)
        pad = [size // 2 for size in self.kernel_size]
        return F.conv2d(x, weight, self.bias, self.stride, pad, self.dilation, self.groups)
