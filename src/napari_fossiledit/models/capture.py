"""Keys and values of the pyramid's output convolutions for a slice at working scale.

A key is what goes into one of the four 3 x 3 convolutions, a value what comes out of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from napari_fossiledit.models.maskrcnn import MaskRcnnSegmenter
from napari_fossiledit.models.segmenter import Image


@dataclass(frozen=True)
class Captured:
    """Input and output of one convolution.

    Attributes
    ----------
    key, value
        (1, C, y, x) float32 at the stride of the level, zero-padded area included.
    stride
        Network pixels per step of the map.
    """

    key: Tensor
    value: Tensor
    stride: int


@contextmanager
def traced(layers: Sequence[nn.Module]) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Collect input and output of `layers`, in the order they run, inside a ``with`` block.

    The hooks are gone when the block is left, by an error too.
    """
    taken: list[tuple[Tensor, Tensor]] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        taken.append((inputs[0].detach(), output.detach()))

    with ExitStack() as hooks:
        for layer in layers:
            hooks.callback(layer.register_forward_hook(keep).remove)
        yield taken


def capture(
    segmenter: MaskRcnnSegmenter, image: Image, *, pixel_size_um: float | None = None
) -> list[Captured]:
    """Run the backbone on one slice and return keys and values, finest level first.

    Parameters
    ----------
    image
        Slice (y, x) or (y, x, 3); brought to the working scale as for prediction.
    pixel_size_um
        Pixel size of the slice; None: that of the training slices.
    """
    rgb = segmenter.preprocessing.prepare(image, pixel_size_um)
    pixels = segmenter.preprocessing.normalise(rgb).to(segmenter.device)
    with torch.no_grad(), traced(segmenter.outputs) as taken:
        segmenter.network.backbone(pixels)
    levels = sorted(taken, key=lambda pair: -pair[0].shape[-1])
    return [Captured(key, value, pixels.shape[-1] // key.shape[-1]) for key, value in levels]
