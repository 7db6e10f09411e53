"""Split a mask along a line or between two clicks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.draw import line as pixels_between
from skimage.segmentation import watershed

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks.rle import BoolArray, Mask

Point = tuple[float, float]

_SLIVER = 0.005
"""Share of a mask below which a piece is where the hand trembled and no part."""
_MOST_PIXELS = 100_000
"""Of a mask that two clicks part: larger ones are looked at in fewer, larger pixels, in 0.1 s."""
_SCALE = 1.0
"""Deviation in pixels over which colours are smoothed before their gradient is taken."""
_DEPTH = 1 / 30
"""How much the depth inside the mask counts beside the gradient: it decides where the image does
not. Equal weights part touching fossils with an IoU of .78 in place of .83."""


def by_line(mask: Mask, line: Sequence[Point]) -> list[Mask]:
    """Return the parts that a line leaves of a mask, largest first.

    Only a line that crosses the mask from side to side parts it. The pixels below the line, and
    slivers beside it, go to the largest part that they touch.

    Parameters
    ----------
    line
        Points (y, x) in pixels of the slice, at least two.

    Raises
    ------
    FossilError
        Where the line leaves one part.
    """
    y0, x0, *_ = mask.box
    # With a rim, so that what lies beside the mask touches nothing of it.
    inside = np.pad(mask.crop(), 1)
    pieces = inside.copy()
    corners = [(math.floor(y) - y0 + 1, math.floor(x) - x0 + 1) for y, x in line]
    for start, end in pairwise(corners):
        rows, columns = pixels_between(*start, *end)
        there = (rows >= 0) & (rows < len(pieces)) & (columns >= 0)
        there &= columns < pieces.shape[1]
        pieces[rows[there], columns[there]] = False
    numbers, count = ndimage.label(pieces)
    areas = np.bincount(numbers.ravel(), minlength=count + 1)
    before, _ = ndimage.label(inside, np.ones((3, 3)))
    areas[0] = 0
    order = [n for n in np.argsort(-areas) if areas[n] >= max(_SLIVER * mask.area, 1)]
    first = {n: before.ravel()[np.argmax(numbers.ravel() == n)] for n in order}
    parted = [n for n in order if list(first.values()).count(first[n]) > 1]
    if not parted:
        raise FossilError(
            "The line does not part the mask",
            expected="a line across it, from outside to outside",
            found="a line beside it" if (pieces == inside).all() else "one part",
        )
    parts = np.zeros(inside.shape, dtype=np.int32)
    for rank, number in enumerate(parted, 1):
        parts[numbers == number] = rank
    return _masks(_completed(parts, inside), mask)


def by_clicks(mask: Mask, image: NDArray[np.generic], first: Point, second: Point) -> list[Mask]:
    """Return the two parts of a mask that two clicks lie in, that of the first click first.

    The border is where the image changes most between them (a watershed of its gradient), and
    where it does not change, where the mask is narrow.

    Parameters
    ----------
    image
        The slice (y, x) or (y, x, 3).
    first, second
        Points (y, x) in pixels of the slice.

    Raises
    ------
    FossilError
        Where a click lies outside the mask, or both in one place.
    """
    y0, x0, y1, x1 = mask.box
    inside = mask.crop()
    step = math.ceil(math.sqrt(mask.area / _MOST_PIXELS)) or 1
    seen = inside[::step, ::step]
    depth = ndimage.distance_transform_edt(np.pad(seen, 1))[1:-1, 1:-1]
    places = [(math.floor(y) - y0, math.floor(x) - x0) for y, x in (first, second)]
    for (y, x), point in zip(places, (first, second), strict=True):
        if not (0 <= y < y1 - y0 and 0 <= x < x1 - x0 and inside[y, x]):
            raise FossilError(
                "A click lies outside the mask",
                expected=f"a place in the mask, which lies in x {x0} to {x1}, y {y0} to {y1}",
                found=f"x {point[1]:g}, y {point[0]:g}",
            )
    last = (seen.shape[0] - 1, seen.shape[1] - 1)
    seeds = [(min(y // step, last[0]), min(x // step, last[1])) for y, x in places]
    if seeds[0] == seeds[1]:
        raise FossilError(
            "Both clicks lie in one place",
            expected="one in each of the two fossils",
            found=f"x {first[1]:g}, y {first[0]:g}",
        )
    # A disc says more than a pixel of where the fossil is; the discs never meet.
    apart = 0.4 * math.dist(*seeds)
    markers = np.zeros(seen.shape, dtype=np.int32)
    rows, columns = np.ogrid[: seen.shape[0], : seen.shape[1]]
    for number, (y, x) in enumerate(seeds, 1):
        radius = min(depth[y, x] / 2, apart)
        markers[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = number
    steep = gradient(image[y0:y1:step, x0:x1:step], _SCALE)
    steep /= np.percentile(steep[seen], 95) + 1e-6
    parts = watershed(steep - _DEPTH * depth / depth.max(), markers, mask=seen)
    if step > 1:
        wide = np.repeat(np.repeat(parts, step, axis=0), step, axis=1)
        parts = np.where(inside, wide[: inside.shape[0], : inside.shape[1]], 0)
    return _masks(np.pad(_completed(parts, inside), 1), mask)


def gradient(image: NDArray[np.generic], scale: float) -> NDArray[np.float32]:
    """Return how steep the steepest channel of an image (y, x) or (y, x, 3) is in each pixel."""
    channels = np.atleast_3d(image).astype(np.float32)
    steep = [ndimage.gaussian_gradient_magnitude(c, scale) for c in np.moveaxis(channels, -1, 0)]
    return np.asarray(np.max(steep, axis=0), dtype=np.float32)


def _completed(parts: NDArray[np.int32], inside: BoolArray) -> NDArray[np.int32]:
    """Give each piece of what is inside, and of no part yet, to the lowest part that it touches.

    What touches none goes to the nearest.
    """
    rest, count = ndimage.label(inside & (parts == 0), np.ones((3, 3)))
    if not count:
        return parts
    completed = parts.copy()
    none = parts.max() + 1
    lowest = ndimage.minimum_filter(np.where(parts, parts, none), 3, mode="nearest")
    touched = np.asarray(ndimage.minimum(lowest, rest, range(1, count + 1)), dtype=np.int32)
    own = rest > 0
    completed[own] = touched[rest[own] - 1]
    if (touched == none).any():
        at = ndimage.distance_transform_edt(parts == 0, return_distances=False, return_indices=True)
        far = completed == none
        completed[far] = parts[tuple(at)][far]
    return completed


def _masks(parts: NDArray[np.int32], mask: Mask) -> list[Mask]:
    """Return the masks of parts (with a rim of one pixel) in their order."""
    origin = (mask.box[0] - 1, mask.box[1] - 1)
    return [Mask.from_crop(parts == n, origin, mask.shape) for n in range(1, parts.max() + 1)]
