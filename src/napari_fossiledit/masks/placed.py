"""Masks that were made in one frame, as they lie in another one."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.masks.probability import Piece, ProbabilityMask, values
from napari_fossiledit.masks.rle import Mask
from napari_fossiledit.placement import Placement


# The same few slices are read again and again while somebody works on them.
@lru_cache(maxsize=4096)
def moved(mask: Mask, motion: Placement) -> Mask:
    """Return a mask after a motion: each pixel is what lay nearest to where it came from.

    Work and memory are those of its box. What leaves the slice is cut off.
    """
    if motion.is_none or not mask.area:
        return mask
    origin = mask.box[:2]
    if motion.whole is not None:
        there = (origin[0] + motion.whole[0], origin[1] + motion.whole[1])
        return Mask.from_crop(mask.crop(), there, mask.shape)
    crop, origin = _nearest(mask.crop().view(np.uint8), origin, motion, mask.shape)
    return Mask.from_crop(crop.view(bool), origin, mask.shape)


def moved_probability(
    probability: ProbabilityMask, motion: Placement, shape: tuple[int, int]
) -> ProbabilityMask:
    """Return the probabilities in a slice of `shape` after a motion, as `moved` does with masks."""
    pieces = []
    for piece in probability.pieces:
        pixels, origin = values(piece, shape)
        grid = np.rint(pixels * 255).astype(np.uint8)
        grid, (y, x) = _nearest(grid, origin, motion, shape)
        pieces.append(Piece((x, y, x + grid.shape[1], y + grid.shape[0]), grid, exact=True))
    return ProbabilityMask(tuple(pieces))


def _nearest(
    crop: NDArray[Any], origin: tuple[int, int], motion: Placement, shape: tuple[int, int]
) -> tuple[NDArray[Any], tuple[int, int]]:
    """Return a part of a slice after a motion, and where it begins; at least one pixel of it."""
    from scipy.ndimage import affine_transform

    edges = np.array([origin, np.add(origin, crop.shape) - 1], float)
    there = motion.points(np.array([[y, x] for y in edges[:, 0] for x in edges[:, 1]]), shape)
    # A slice that moved far away leaves nothing to look at.
    low = np.clip(np.floor(there.min(axis=0)).astype(int) - 1, 0, np.array(shape) - 1)
    high = np.clip(np.ceil(there.max(axis=0)).astype(int) + 2, low + 1, shape)
    # With a rim: a pixel reaches half a pixel beyond its centre.
    offset = motion.inverse.points(low[np.newaxis].astype(float), shape)[0] - origin + 1
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    out = affine_transform(np.pad(crop, 1), motion.matrix.T, offset, size, order=0)
    return out, (int(low[0]), int(low[1]))
