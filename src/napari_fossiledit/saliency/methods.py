"""Attributions of one number to the pixels that it was computed from.

Gradients (Simonyan et al. 2013), SmoothGrad (Smilkov et al. 2017), integrated gradients
(Sundararajan et al. 2017) and Grad-CAM (Selvaraju et al. 2017). One image goes through the network
at a time, whatever the number of steps: the memory is that of one gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from napari_fossiledit.models.network.mask_rcnn import record_activations

Number = Callable[[Tensor], Tensor]
"""Takes pixels (1, C, Y, X) and gives a tensor of one value."""

Tracked = Callable[[Iterable[Tensor], int], Iterator[Tensor]]
"""Passes the images of a method on, to report and to stop between them."""


def unhurried(images: Iterable[Tensor], _: int) -> Iterator[Tensor]:
    """Pass images on; the default `Tracked`."""
    return iter(images)


def gradient(number: Number, pixels: Tensor) -> Tensor:
    """Return the derivative of a number by each pixel, of the shape of `pixels`."""
    leaf = pixels.detach().requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(number(leaf), leaf)
    return slope


def smoothgrad(
    number: Number,
    pixels: Tensor,
    *,
    samples: int,
    noise: float,
    seed: int,
    tracked: Tracked = unhurried,
) -> Tensor:
    """Return the mean gradient over `samples` images with Gaussian noise of deviation `noise`."""
    draw = torch.Generator().manual_seed(seed)

    def noisy() -> Iterator[Tensor]:
        for _ in range(samples):
            yield pixels + noise * torch.randn(pixels.shape, generator=draw).to(pixels)

    return _mean(number, tracked(noisy(), samples))


def integrated(
    number: Number, pixels: Tensor, *, steps: int, tracked: Tracked = unhurried
) -> Tensor:
    """Return what each pixel contributes to the number, on the way from an image of zeros.

    The sum over all pixels is the number minus that of zeros, up to the error of `steps` midpoints.
    """
    way = (pixels * ((n + 0.5) / steps) for n in range(steps))
    return pixels * _mean(number, tracked(way, steps))


def _mean(number: Number, images: Iterable[Tensor]) -> Tensor:
    total, count = torch.zeros(()), 0
    for count, image in enumerate(images, 1):  # noqa: B007 - the last one is their number
        total = gradient(number, image) + total
    return total / count


def grad_cam(number: Number, pixels: Tensor, layer: nn.Module) -> Tensor:
    """Return the positive part of a layer's map (1, 1, y, x), its channels weighted by gradient."""
    leaf = pixels.detach().requires_grad_()
    with torch.enable_grad(), record_activations([layer]) as recorded:
        value = number(leaf)
        ((_, activation),) = recorded
        (slope,) = torch.autograd.grad(value, activation)
    weight = slope.mean((2, 3), keepdim=True)
    return (weight * activation.detach()).sum(1, keepdim=True).relu()
