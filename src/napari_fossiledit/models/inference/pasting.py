"""Paste 28 x 28 masks inside boxes into pixels of the slice, in the memory of the box alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from napari_fossiledit.geometry import Box
from napari_fossiledit.masks import Mask
from napari_fossiledit.masks.probability import MASK_CUT


@dataclass(frozen=True)
class Crop:
    """A mask with its place: `pixels` (y, x) bool begin at `origin` (y, x)."""

    pixels: NDArray[np.bool_]
    origin: tuple[int, int]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Its place as y0, x0, y1, x1, half open."""
        (y, x), (height, width) = self.origin, self.pixels.shape
        return (y, x, y + height, x + width)

    def within(self, box: tuple[int, int, int, int]) -> NDArray[np.bool_]:
        """Return the pixels in `box` (y0, x0, y1, x1); False where the crop does not reach."""
        out = np.zeros((max(box[2] - box[0], 0), max(box[3] - box[1], 0)), dtype=np.bool_)
        shared = shared_box(self.box, box)
        if shared is not None:
            here, there = (
                (
                    slice(shared[0] - origin[0], shared[2] - origin[0]),
                    slice(shared[1] - origin[1], shared[3] - origin[1]),
                )
                for origin in (box[:2], self.origin)
            )
            out[here] = self.pixels[there]
        return out

    def to_mask(self, shape: tuple[int, int]) -> Mask:
        """Encode as a mask of a slice of `shape` (y, x)."""
        return Mask.from_crop(self.pixels, self.origin, shape)


def shared_box(a: Box, b: Box) -> Box | None:
    """Return the intersection of two half-open boxes (y0, x0, y1, x1), None where it is empty."""
    y0, x0, y1, x1 = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    return (y0, x0, y1, x1) if y0 < y1 and x0 < x1 else None


def paste(mask: Tensor, box: Tensor, shape: tuple[int, int], *, exact: bool = False) -> Crop:
    """Paste a probability mask into its box and cut at one half.

    The same pixels as torchvision's ``paste_masks_in_image``, or with `exact` as detectron2's,
    which does not round the box; in the memory of the box.

    Parameters
    ----------
    mask
        (M, M) probabilities.
    box
        (4,) x0, y0, x1, y1 in pixels of the slice.
    shape
        Height and width (y, x) of the slice.
    """
    return _exact(mask, box, shape) if exact else _rounded(mask, box, shape)


def _exact(mask: Tensor, box: Tensor, shape: tuple[int, int]) -> Crop:
    """Look up the mask where each pixel's centre falls into it."""
    first = [max(int(v) - 1, 0) for v in box[:2].floor()]
    last = [min(int(v) + 1, n) for v, n in zip(box[2:].ceil(), reversed(shape), strict=True)]
    size = box[2:] - box[:2]
    if bool((size <= 0).any()) or any(a >= b for a, b in zip(first, last, strict=True)):
        return Crop(np.zeros((0, 0), dtype=np.bool_), (0, 0))
    x, y = (
        (torch.arange(a, b, dtype=torch.float32, device=box.device) + 0.5 - low) / length * 2 - 1
        for a, b, low, length in zip(first, last, box[:2], size, strict=True)
    )
    grid = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=2)
    values = F.grid_sample(mask.float()[None, None], grid[None], align_corners=False)[0, 0]
    # detectron2 keeps pixels of exactly one half, torchvision does not.
    return Crop((values >= MASK_CUT).cpu().numpy(), (first[1], first[0]))


def _rounded(mask: Tensor, box: Tensor, shape: tuple[int, int]) -> Crop:
    """Stretch the mask, with a rim of zeros, to whole pixels."""
    edge = mask.shape[-1]
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * ((edge + 2) / edge)
    x0, y0, x1, y1 = (int(v) for v in torch.cat([centre - half, centre + half]))
    size = (max(y1 - y0 + 1, 1), max(x1 - x0 + 1, 1))
    padded = F.pad(mask.float(), (1, 1, 1, 1))[None, None]
    full = F.interpolate(padded, size=size, mode="bilinear", align_corners=False)[0, 0]
    pixels = (full > MASK_CUT).cpu().numpy()
    y, x = max(y0, 0), max(x0, 0)
    return Crop(pixels[y - y0 : shape[0] - y0, x - x0 : shape[1] - x0], (y, x))
