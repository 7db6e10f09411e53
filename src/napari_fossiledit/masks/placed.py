"""Masks that were made in one frame, as they lie in another one."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

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
    y0, x0, y1, x1 = mask.box
    crop = mask.crop()
    if motion.whole is not None:
        return Mask.from_crop(crop, (y0 + motion.whole[0], x0 + motion.whole[1]), mask.shape)
    corners = np.array([[y, x] for y in (y0, y1 - 1) for x in (x0, x1 - 1)], float)
    there = motion.points(corners, mask.shape)
    low = np.floor(there.min(axis=0)).astype(int) - 1
    high = np.ceil(there.max(axis=0)).astype(int) + 2
    # A slice that moved far away leaves nothing to look at.
    low, high = np.maximum(low, 0), np.minimum(high, mask.shape)
    if (high <= low).any():
        return Mask.empty(mask.shape)
    places = np.argwhere(np.ones(high - low, bool)) + low
    came = np.rint(motion.inverse.points(places.astype(float), mask.shape)).astype(int)
    came -= (y0, x0)
    inside = ((came >= 0) & (came < crop.shape)).all(axis=1)
    out = np.zeros(len(came), bool)
    out[inside] = crop[tuple(came[inside].T)]
    shape = (int(high[0] - low[0]), int(high[1] - low[1]))
    return Mask.from_crop(out.reshape(shape), (int(low[0]), int(low[1])), mask.shape)
