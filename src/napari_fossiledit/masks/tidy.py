"""Tidy a mask: fill holes, smooth, grow, shrink, remove islands."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from napari_fossiledit.masks.instance import Instance
from napari_fossiledit.masks.rle import BoolArray, Mask, overlap, union


def fill_holes(mask: Mask) -> Mask:
    """Return a mask without holes; a bay that only the border of the slice closes is none."""
    return _mask(ndimage.binary_fill_holes(mask.crop()), mask, 0)


def smooth(mask: Mask, pixels: float) -> Mask:
    """Return a mask with a smooth outline and the same area.

    It is blurred with a deviation of `pixels` and cut where as many pixels are left as it had:
    corners are rounded, and what is much narrower than that vanishes.
    """
    reach = math.ceil(3 * pixels) + 1
    # Beyond the border of the slice it goes on as it is there.
    blurred = ndimage.gaussian_filter(_crop(mask, reach).astype(np.float32), pixels, mode="nearest")
    cut = np.partition(blurred.ravel(), -mask.area)[-mask.area]
    return _mask(blurred >= max(cut, 1e-6), mask, reach)


def grow(mask: Mask, pixels: float) -> Mask:
    """Return a mask that ends `pixels` farther out; negative: farther in.

    The border of the slice cuts the fossil and is no outline of it: it does not move.
    """
    if pixels < 0:
        # With a rim of what lies outside; none beyond the border of the slice.
        return _mask(ndimage.distance_transform_edt(_crop(mask, 1)) > -pixels, mask, 1)
    reach = math.ceil(pixels)
    return _mask(ndimage.distance_transform_edt(~_crop(mask, reach)) <= pixels, mask, reach)


def without_islands(mask: Mask, least: int = 0) -> Mask:
    """Return the parts of a mask of at least `least` pixels, or the largest alone where that is 0.

    Parts hang together by edges and corners of pixels.
    """
    numbers, _ = ndimage.label(mask.crop(), np.ones((3, 3)))
    areas = np.bincount(numbers.ravel())
    areas[0] = 0
    kept = areas >= least if least else np.arange(len(areas)) == areas.argmax()
    kept[0] = False
    return _mask(kept[numbers], mask, 0)


def settled(item: Instance, mask: Mask, instances: Sequence[Instance]) -> Mask:
    """Return the new mask of an instance so far as it takes nothing from others of its slice.

    A body and its cavities belong together: a body keeps its reviewed cavities, and a cavity stays
    in its body.
    """
    others = []
    for other in instances:
        if other.id is not None and other.id == item.parent:
            mask = mask & other.mask
        elif other.parent is not None and other.parent == item.id:
            mask = mask | other.mask if other.reviewed else mask
        elif other.id != item.id and overlap(other.mask.box, mask.box):
            others.append(other.mask)
    return mask - (union(others, mask.shape) - item.mask) if others else mask


def _window(mask: Mask, reach: int) -> tuple[int, int, int, int]:
    y0, x0, y1, x1 = mask.box
    height, width = mask.shape
    return (
        max(y0 - reach, 0),
        max(x0 - reach, 0),
        min(y1 + reach, height),
        min(x1 + reach, width),
    )


def _crop(mask: Mask, reach: int) -> BoolArray:
    return mask.crop(_window(mask, reach))


def _mask(crop: BoolArray, mask: Mask, reach: int) -> Mask:
    return Mask.from_crop(crop, _window(mask, reach)[:2], mask.shape)
