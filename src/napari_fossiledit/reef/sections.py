"""The sections of one specimen, slice by slice: bodies, and the cavities nested in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.geometry import Box, StackGeometry
from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.masks.rle import union


@dataclass(frozen=True)
class Section:
    """All of a specimen in one slice.

    Attributes
    ----------
    slice
        Index of the slice.
    body
        Everything within the outer wall.
    cavity
        Its central cavities, cut to the body; None where there is none.
    parts
        Number of separate bodies: more than one where the specimen branches.
    """

    slice: int
    body: Mask
    cavity: Mask | None = None
    parts: int = 1

    @property
    def cavity_area(self) -> int:
        """Pixels of the cavities."""
        return 0 if self.cavity is None else self.cavity.area

    def pixels(self, box: Box, *, cavities: bool) -> NDArray[np.bool_]:
        """Decode the part inside `box` (y0, x0, y1, x1), with `cavities` cut out."""
        body = self.body.crop(box)
        if cavities and self.cavity is not None:
            body &= ~self.cavity.crop(box)
        return body


def sections_of(instances: Iterable[Instance]) -> list[Section]:
    """Gather the instances of one specimen into one section a slice, in stack order.

    Slices that hold a cavity but no body are left out: there is nothing to cut it from.
    """
    slices: dict[int, list[Instance]] = {}
    for instance in instances:
        slices.setdefault(instance.slice, []).append(instance)
    sections = []
    for z, members in sorted(slices.items()):
        shape = members[0].mask.shape
        bodies = [i.mask for i in members if i.part is Part.BODY]
        cavities = [i.mask for i in members if i.part is Part.CAVITY]
        body = union(bodies, shape)
        cavity = union(cavities, shape) & body if cavities else None
        if body.area:
            sections.append(Section(z, body, cavity, len(bodies)))
    return sections


def bounding_box(sections: Iterable[Section]) -> Box:
    """Return the smallest box (y0, x0, y1, x1) in pixels around all bodies, half open."""
    boxes = np.array([s.body.box for s in sections])
    y0, x0 = boxes[:, :2].min(axis=0)
    y1, x1 = boxes[:, 2:].max(axis=0)
    return int(y0), int(x0), int(y1), int(x1)


def volume_um3(areas: Iterable[int], geometry: StackGeometry) -> float:
    """Compute the volume of areas in pixels: a section stands for half a step on either side."""
    return sum(areas) * geometry.voxel_size.volume_um3
