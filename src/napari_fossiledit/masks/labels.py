"""Conversion of instances to a label image and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_fossiledit.masks.instance import Instance
from napari_fossiledit.masks.rle import Mask

Labels = NDArray[np.uint32]


def paint_labels(
    instances: Sequence[Instance], values: Sequence[int], shape: tuple[int, int]
) -> Labels:
    """Paint instances into one label image (y, x); the higher score lies on top.

    Of equal scores the smaller mask lies on top, so that a nested cavity stays visible.
    """
    labels = np.zeros(shape, dtype=np.uint32)
    order = sorted(zip(instances, values, strict=True), key=lambda p: (p[0].score, -p[0].mask.area))
    for instance, value in order:
        y0, x0, y1, x1 = instance.mask.box
        labels[y0:y1, x0:x1][instance.mask.crop()] = value
    return labels


def masks_of_labels(labels: NDArray[np.integer]) -> dict[int, Mask]:
    """Return the masks of all values but 0 in a label image (y, x), keyed by value."""
    painted = labels != 0
    # Sorting the painted pixels alone: most of a slice is rock.
    values, inverse = np.unique(labels[painted], return_inverse=True)
    compact = np.zeros(labels.shape, dtype=np.int32)
    compact[painted] = inverse + 1
    boxes: Iterable[tuple[slice, slice] | None] = ndimage.find_objects(compact)
    shape = (labels.shape[0], labels.shape[1])
    return {
        int(value): Mask.from_crop(compact[box] == index, (box[0].start, box[1].start), shape)
        for index, (value, box) in enumerate(zip(values, boxes, strict=True), 1)
        if box is not None
    }
