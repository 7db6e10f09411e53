"""One feature vector for each slice: what distances between slices are computed from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from napari_fossiledit.models.inference.assembly import tile_boxes
from napari_fossiledit.models.inference.preprocessing import Image, Preprocessing, Resize
from napari_fossiledit.models.inference.protocol import Segmenter
from napari_fossiledit.models.network.backbones import LEVELS, LiteBody
from napari_fossiledit.progress import Cancel, check, never

Features = NDArray[np.float32]


class Extractor(Protocol):
    """What makes a feature vector of a slice (or window of slices, see `Segmenter.predict`)."""

    def features(
        self, image: Image, *, pixel_size_um: float | None = None, cancel: Cancel = never
    ) -> Features:
        """Return the vector (q,) of a slice (y, x) or (y, x, 3)."""


class PyramidFeatures:
    """Standard deviations of the channels of all four levels of a model's pyramid.

    How far the answers of a channel spread over the slice goes better with the quality of the model
    than their mean, which is mostly the look of the ground: docs/benchmarks/agenda.md.

    A slice that is larger than a tile of the model is seen in parts, so that memory does not grow
    with it; every position of a map counts once, but for where parts overlap.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter

    def features(
        self, image: Image, *, pixel_size_um: float | None = None, cancel: Cancel = never
    ) -> Features:
        """Return the vector (q,) of a slice, the finest level first."""
        # By level, over the parts: positions, and (2, C) sums of values and of their squares.
        counts, sums = np.zeros(len(LEVELS)), [np.zeros((2, 1)) for _ in LEVELS]
        for part in self._parts(image, pixel_size_um):
            check(cancel, "The features of a slice")
            levels = self._segmenter.capture(part, pixel_size_um=pixel_size_um)
            for n, level in enumerate(levels):
                # Without the zeros that pad it. In float32 the difference of squares has no digits.
                inside = level.value[0, :, : level.inside[0], : level.inside[1]]
                values = inside.cpu().flatten(1).double()
                counts[n] += values.shape[1]
                sums[n] = sums[n] + torch.stack([values.sum(1), (values**2).sum(1)]).numpy()
        deviations = []
        for count, (total, squares) in zip(counts, sums, strict=True):
            variance = squares / count - (total / count) ** 2
            deviations.append(np.sqrt(variance.clip(min=0)))
        return np.concatenate(deviations).astype(np.float32)

    def _parts(self, image: Image, pixel_size_um: float | None) -> Iterator[Image]:
        settings, shape = self._segmenter.preprocessing, (image.shape[0], image.shape[1])
        if settings.resize is Resize.SHORT_EDGE:
            # The scale of a part would be another one, and the whole is small.
            yield image
            return
        edge = max(int(settings.tile / settings.working_scale(shape, pixel_size_um)), 1)
        for y0, x0, y1, x1 in tile_boxes(shape, edge, 0):
            yield image[y0:y1, x0:x1]


class ImageNetFeatures:
    """Means of the channels of EfficientNet-Lite0 as ImageNet left it, at four strides.

    It has seen photographs of everything, and no fossil. Slices are brought to one short edge, as
    in the paper: 448 pixels.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        self._body = LiteBody(pretrained=True).to(self._device).eval()
        self._preprocessing = Preprocessing(resize=Resize.SHORT_EDGE, short_edge=448)

    @torch.inference_mode()
    def features(
        self, image: Image, *, pixel_size_um: float | None = None, cancel: Cancel = never
    ) -> Features:
        """Return the vector (496,) of a slice; its pixel size does not count."""
        check(cancel, "The features of a slice")
        # Of 16 bit only the used range is looked at.
        if image.dtype == np.uint16:
            low, high = np.percentile(image, (0.1, 99.9))
            settings = self._preprocessing.model_copy(update={"shown": (float(low), float(high))})
        else:
            settings = self._preprocessing
        rgb = settings.prepare(image)
        maps = self._body(settings.normalise(rgb).to(self._device)).values()
        means = []
        for level, stride in zip(maps, (4, 8, 16, 32), strict=True):
            # Without the zeros that pad it.
            rows, columns = (-(-size // stride) for size in rgb.shape[:2])
            means.append(level[0, :, :rows, :columns].mean(dim=(1, 2)))
        return np.asarray(torch.cat(means).cpu().numpy(), np.float32)
