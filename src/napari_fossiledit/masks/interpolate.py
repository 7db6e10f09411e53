"""Sections of a specimen in slices between those where it was drawn.

The signed distances to two outlines are blended (Raya and Udupa 1990, IEEE Transactions on Medical
Imaging 9, 32-42) after both sections were brought to the same place, size and stretch. The map
between them is the optimal one between two Gaussians that have their centroids and covariances
(Dowson and Landau 1982); at a part of the way it is applied in part. The blend is cut not at zero
but where it encloses the area that is expected there.

Centroid and area run half-way between straight lines and a curve: two parabolas through three
sections each, the two given ones and the next on either side, where there is one, blended
(Overhauser 1968; a Catmull-Rom spline for uneven steps). It is the area that runs smoothly through
z and not the diameter, which rises as a square root where a rounded body begins.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import krogh_interpolate

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks.rle import Mask

FloatArray = NDArray[np.float64]

#: Largest stretch of a section along an axis; beyond it outlines have little in common.
_MOST_STRETCH = 10.0
#: Weight of the parabolas beside straight lines. Sections of the sample reef follow them wholly, of
#: real archaeocyaths and chloroplasts hardly; one half costs neither more than 0.005 of IoU.
_CURVED = 0.5
#: Share of the smaller and of the larger of two areas between which an area is expected.
_AREA_RANGE = 0.5, 1.5


def interpolate(known: Mapping[int, Mask], slices: Iterable[int]) -> dict[int, Mask]:
    """Return the sections of a specimen between slices where they are known.

    Parameters
    ----------
    known
        Section by slice; no empty one. The outlines of the nearest slices are blended, the next
        ones on either side tell how place and size go on.
    slices
        Slices between the first and the last known one.

    Returns
    -------
    dict
        Section by slice; it may be empty of pixels where it lies outside the slice.

    Raises
    ------
    FossilError
        Where a slice does not lie between two known ones, or a known section is empty.
    """
    there = sorted(known)
    empty = [z for z in there if not known[z].area]
    if empty:
        raise FossilError(
            "Sections cannot be interpolated", expected="sections", found=f"none in {empty[0]}"
        )
    shapes = {z: _Shape.of(known[z]) for z in there}
    made = {}
    for z in slices:
        after = bisect_left(there, z)
        if not 0 < after < len(there) or there[after] == z:
            raise FossilError(
                f"Slice {z} cannot be interpolated",
                expected="a slice between two with a section",
                found=f"sections in {', '.join(map(str, there)) or 'none'}",
            )
        first, last = there[after - 1], there[after]
        place = _expected(shapes, first, last, z)
        part = (z - first) / (last - first)
        made[z] = _blend(shapes[first], shapes[last], part, place, known[first].shape)
    return made


@dataclass(frozen=True)
class _Shape:
    """A section in its own crop.

    Attributes
    ----------
    distance
        Signed distance to the outline in pixels, positive inside.
    centre, spread
        Centroid (y, x) in the crop, and covariance of the pixels.
    place
        Centroid (y, x) in the slice, and area.
    """

    distance: FloatArray
    centre: FloatArray
    spread: FloatArray
    place: FloatArray

    @classmethod
    def of(cls, mask: Mask) -> Self:
        """Measure a section."""
        y0, x0, y1, x1 = mask.box
        # Distances are also asked for outside, where the other section reaches further.
        margin = max(y1 - y0, x1 - x0) // 4 + 2
        inside = np.pad(mask.crop(), margin)
        outwards = ndimage.distance_transform_edt(~inside)
        distance = np.where(inside, ndimage.distance_transform_edt(inside) - 0.5, 0.5 - outwards)
        pixels = np.argwhere(inside)
        centre = pixels.mean(axis=0)
        # A pixel is a square, so that a line of pixels has a width.
        spread = np.cov((pixels - centre).T, bias=True) + np.eye(2) / 12
        place = np.array([*(centre + np.array(mask.box[:2]) - margin), len(pixels)])
        return cls(distance, centre, spread, place)

    def mapped(self, way: FloatArray, centre: FloatArray, shape: tuple[int, int]) -> FloatArray:
        """Return the distances after the map `way` about the centroid, which goes to `centre`."""
        back = np.linalg.inv(way)
        offset = self.centre - back @ centre
        moved = ndimage.affine_transform(
            self.distance, back, offset, output_shape=shape, order=1, mode="nearest"
        )
        return np.asarray(moved) * math.sqrt(np.linalg.det(way))


def _expected(shapes: Mapping[int, _Shape], before: int, after: int, z: int) -> FloatArray:
    """Return the centroid (y, x) and the area that are expected in slice `z`."""
    there = sorted(shapes)
    first, last = there.index(before), there.index(after)
    part = (z - before) / (after - before)
    # Parabolas through the next section before and through the next after; a line where none is.
    sides = [there[max(first - 1, 0) : last + 1], there[first : last + 2]]
    if first == 0:
        sides[0] = sides[1]
    if last == len(there) - 1:
        sides[1] = sides[0]
    left, right = (krogh_interpolate(s, [shapes[n].place for n in s], z) for s in sides)
    curved = (1 - part) * left + part * right
    straight = (1 - part) * shapes[before].place + part * shapes[after].place
    place = straight + _CURVED * (curved - straight)
    areas = shapes[before].place[2], shapes[after].place[2]
    place[2] = np.clip(place[2], _AREA_RANGE[0] * min(areas), _AREA_RANGE[1] * max(areas))
    return np.asarray(place)


def _blend(
    one: _Shape, other: _Shape, part: float, place: FloatArray, shape: tuple[int, int]
) -> Mask:
    """Return the section at a part of the way between two, with an expected centroid and area."""
    root = _power(one.spread, 0.5)
    back = _power(one.spread, -0.5)
    stretch, axes = np.linalg.eigh(back @ _power(root @ other.spread @ root, 0.5) @ back)
    stretch = np.clip(stretch, 1 / _MOST_STRETCH, _MOST_STRETCH)
    from_one = (axes * (1 - part + part * stretch)) @ axes.T
    from_other = (axes * ((1 - part) / stretch + part)) @ axes.T
    reach = [
        np.abs(way) @ (np.array(s.distance.shape) / 2)
        for s, way in ((one, from_one), (other, from_other))
    ]
    half = np.ceil(np.max(reach, axis=0)).astype(int) + 2
    # Within the slice: two long sections that lie across each other would take gigabytes.
    middle = np.floor(place[:2]).astype(int)
    origin = np.clip(middle - half, 0, shape)
    y1, x1 = np.clip(middle + half + 1, 0, shape)
    centre, crop = place[:2] - origin, (int(y1 - origin[0]), int(x1 - origin[1]))
    if 0 in crop:
        return Mask.empty(shape)
    field = (1 - part) * one.mapped(from_one, centre, crop)
    field += part * other.mapped(from_other, centre, crop)
    area = min(max(round(place[2]), 1), field.size)
    inside = field >= np.partition(field, -area, axis=None)[-area]
    return Mask.from_crop(inside, (int(origin[0]), int(origin[1])), shape)


def _power(matrix: FloatArray, exponent: float) -> FloatArray:
    """Return a power of a symmetric positive matrix."""
    values, axes = np.linalg.eigh(matrix)
    return np.asarray((axes * values**exponent) @ axes.T)
