"""Attributions of one number to the pixels that it was computed from.

Gradients (Simonyan et al. 2013), SmoothGrad (Smilkov et al. 2017), integrated gradients
(Sundararajan et al. 2017) and Grad-CAM (Selvaraju et al. 2017). One image goes through the network
at a time, whatever the number of steps: the memory is that of one gradient and a few images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_fossiledit.models.network.mask_rcnn import record_activations

Number = Callable[[Tensor], Tensor]
"""Takes pixels (1, C, Y, X) and gives a tensor of one value."""

Step = Callable[[], None]
"""Called before each gradient, to report and to stop there."""

_LOOSE = 0.1
"""Share of the whole change that the errors of all steps may add up to before some are halved."""
_DEEPEST = 5
"""Times that one step is halved at most."""


def unhurried() -> None:
    """Do nothing between gradients; the default `Step`."""


def gradient(number: Number, pixels: Tensor) -> Tensor:
    """Return the derivative of a number by each pixel, of the shape of `pixels`."""
    return _on_the_way(number, pixels, 1.0).slope


class _Place(NamedTuple):
    """A place on the way from zeros (0) to the image (1)."""

    share: float
    value: float
    slope: Tensor


def _on_the_way(number: Number, pixels: Tensor, share: float) -> _Place:
    leaf = (pixels * share).detach().requires_grad_()
    with torch.enable_grad():
        value = number(leaf)
        (slope,) = torch.autograd.grad(value, leaf)
    return _Place(share, value.item(), slope)


def smoothgrad(
    number: Number,
    pixels: Tensor,
    *,
    samples: int,
    noise: float,
    seed: int,
    step: Step = unhurried,
) -> Tensor:
    """Return the mean gradient over `samples` images with Gaussian noise of deviation `noise`."""
    draw, total = torch.Generator().manual_seed(seed), torch.zeros_like(pixels)
    for _ in range(samples):
        step()
        total += gradient(
            number, pixels + noise * torch.randn(pixels.shape, generator=draw).to(pixels)
        )
    return total / samples


def integrated(number: Number, pixels: Tensor, *, steps: int, step: Step = unhurried) -> Tensor:
    """Return what each pixel contributes to the number on the way from an image of zeros.

    All pixels together should give the number minus that of zeros. The trapezoids of a step miss
    what the number changes by where the network has many kinks, mostly near the zeros: such a step
    is halved, until twice as many gradients are computed as there are `steps`.
    """
    left_over = steps

    def at(share: float) -> _Place:
        step()
        return _on_the_way(number, pixels, share)

    def between(left: _Place, right: _Place, deep: int = 0) -> Tensor:
        nonlocal left_over
        mean = (left.slope + right.slope) * ((right.share - left.share) / 2)
        error = float((mean * pixels).sum()) - (right.value - left.value)
        if abs(error) <= allowed or deep == _DEEPEST or not left_over:
            return mean
        left_over -= 1
        middle = at((left.share + right.share) / 2)
        return between(left, middle, deep + 1) + between(middle, right, deep + 1)

    last, here = at(1.0), at(0.0)
    allowed = abs(last.value - here.value) * _LOOSE / steps
    total = torch.zeros_like(pixels)
    for n in range(1, steps + 1):
        there = last if n == steps else at(n / steps)
        total += between(here, there)
        here = there
    return pixels * total


def grad_cam(number: Number, pixels: Tensor, layers: Sequence[nn.Module]) -> Tensor:
    """Return where the maps of layers speak for a number: (1, 1, Y, X), not below 0.

    The channels of a map are weighted by their mean gradient; what they add up to is stretched to
    the pixels, and summed over layers. A region is pooled from one level of a pyramid: those of one
    instance are 0 on all others.
    """
    leaf = pixels.detach().requires_grad_()
    with torch.enable_grad(), record_activations(layers) as recorded:
        value = number(leaf)
        maps = [output for _, output in recorded]
        slopes = torch.autograd.grad(value, maps, allow_unused=True)
    total = pixels.new_zeros(1, 1, *pixels.shape[-2:])
    for slope, values in zip(slopes, maps, strict=True):
        if slope is not None:
            weight = slope.mean((2, 3), keepdim=True)
            small = (weight * values.detach()).sum(1, keepdim=True).relu()
            total += functional.interpolate(small, size=pixels.shape[-2:], mode="bilinear")
    return total
