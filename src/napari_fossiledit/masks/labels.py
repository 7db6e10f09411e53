"""Conversion of instances to a label image and back."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_fossiledit.masks.instance import Instance, Part
from napari_fossiledit.masks.rle import Mask, Pieces

Labels = NDArray[np.uint32]

#: So many pixels are painted at once: their places take 50 MB.
_AT_ONCE = 2_000_000


def paint_order(instances: Iterable[Instance]) -> list[Instance]:
    """Sort instances as they are painted, the lowest first; the higher score lies on top.

    Of equal scores the smaller mask lies on top, so that a nested cavity stays visible, and a
    cavity also where it fills its body.
    """
    return sorted(instances, key=lambda i: (i.score, -i.mask.area, i.part is Part.CAVITY))


def paint_masks(
    masks: Sequence[Mask],
    values: Sequence[int],
    shape: tuple[int, int],
    dtype: type[np.unsignedinteger[Any]] = np.uint32,
    step: int = 1,
) -> NDArray[Any]:
    """Paint masks into one label image (y, x), later ones over earlier ones.

    Decoded all at once, and pixel by pixel: several times as fast as painting a crop of each.

    Parameters
    ----------
    shape
        (y, x) of the slice in pixels.
    step
        Paint every `step`-th pixel of every `step`-th row only.
    """
    labels = np.zeros([-(-length // step) for length in shape], dtype=dtype)
    if not masks:
        return labels
    flat, width = labels.reshape(-1), labels.shape[1]
    pieces = Pieces.of(masks)
    low, high = (-(-rows // step) for rows in (pieces.low, pieces.high))
    chosen = np.flatnonzero((pieces.column % step == 0) & (low < high))
    lengths = (high - low)[chosen]
    first = low[chosen] * width + pieces.column[chosen] // step
    value = np.asarray(values, dtype=dtype)[pieces.mask[chosen]]
    ends = np.cumsum(lengths)
    for part in _parts(ends):
        many = lengths[part]
        before = np.cumsum(many) - many
        down = np.arange(int(many.sum())) - np.repeat(before, many)
        # The last one of those that share a pixel stays: numpy assigns along one axis in order.
        flat[np.repeat(first[part], many) + width * down] = np.repeat(value[part], many)
    return labels


def _parts(ends: NDArray[np.int64]) -> list[slice]:
    """Return parts of pieces that hold so few pixels that their places take little memory."""
    cuts = np.searchsorted(ends, np.arange(_AT_ONCE, ends[-1], _AT_ONCE)) if ends.size else ()
    bounds = [0, *np.unique(cuts).tolist(), ends.size]
    return [slice(a, b) for a, b in itertools.pairwise(bounds) if a < b]


def paint_box(
    masks: Sequence[Mask], values: Iterable[int], box: tuple[int, int, int, int]
) -> Labels:
    """Paint what lies inside `box` (y0, x0, y1, x1), as `paint_masks` does."""
    y0, x0, y1, x1 = box
    labels = np.zeros((y1 - y0, x1 - x0), dtype=np.uint32)
    for mask, value in zip(masks, values, strict=True):
        top, left, foot, right = mask.box
        part = (max(top, y0), max(left, x0), min(foot, y1), min(right, x1))
        if part[0] < part[2] and part[1] < part[3]:
            inside = labels[part[0] - y0 : part[2] - y0, part[1] - x0 : part[3] - x0]
            inside[mask.crop(part)] = value
    return labels


def masks_of_labels(
    labels: NDArray[np.integer],
    origin: tuple[int, int] = (0, 0),
    shape: tuple[int, int] | None = None,
) -> dict[int, Mask]:
    """Return the masks of all values but 0 in a label image (y, x), keyed by value.

    Parameters
    ----------
    origin, shape
        Where the image lies (y, x) in a slice of this shape; None: it is a whole slice.
    """
    painted = labels != 0
    # Sorting the painted pixels alone: most of a slice is rock.
    values, inverse = np.unique(labels[painted], return_inverse=True)
    compact = np.zeros(labels.shape, dtype=np.int32)
    compact[painted] = inverse + 1
    boxes: Iterable[tuple[slice, slice] | None] = ndimage.find_objects(compact)
    y, x = origin
    shape = shape or (labels.shape[0], labels.shape[1])
    return {
        int(value): Mask.from_crop(
            compact[box] == index, (y + box[0].start, x + box[1].start), shape
        )
        for index, (value, box) in enumerate(zip(values, boxes, strict=True), 1)
        if box is not None
    }
