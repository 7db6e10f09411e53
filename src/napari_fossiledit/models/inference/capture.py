"""Keys and values of the pyramid's output convolutions for a slice at working scale.

A key is what goes into one of the four 3 x 3 convolutions, a value what comes out of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from napari_fossiledit.models.inference.protocol import Image
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.backbones import LEVELS
from napari_fossiledit.models.network.hooks import traced


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


def capture(
    segmenter: MaskRcnnSegmenter,
    image: Image,
    *,
    pixel_size_um: float | None = None,
    masks: bool = False,
) -> list[Captured]:
    """Run the backbone on one slice and return keys and values, finest level first.

    Parameters
    ----------
    image
        Slice (y, x) or (y, x, 3); brought to the working scale as for prediction.
    pixel_size_um
        Pixel size of the slice; None: that of the training slices.
    masks
        Take the values that masks are drawn from, which differ where the masks alone were edited.
    """
    rgb = segmenter.preprocessing.prepare(image, pixel_size_um)
    pixels = segmenter.preprocessing.normalise(rgb).to(segmenter.device)
    with torch.no_grad(), traced(segmenter.outputs) as taken:
        maps = segmenter.network.maps(pixels)
    levels = sorted(taken, key=lambda pair: -pair[0].shape[-1])
    if masks:
        levels = [(key, maps.drawing[n]) for n, (key, _) in zip(LEVELS, levels, strict=True)]
    return [Captured(key, value, pixels.shape[-1] // key.shape[-1]) for key, value in levels]
