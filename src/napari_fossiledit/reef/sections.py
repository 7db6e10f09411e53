"""The sections of one specimen, slice by slice: bodies, and the cavities nested in them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_fossiledit.geometry import Box, StackGeometry
from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.masks.rle import intersections, union

REACH = 1
"""Slices that a branch may be missing in, as a specimen may when it is linked."""


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

    @cached_property
    def inside(self) -> NDArray[np.bool_]:
        """The body in its own box, decoded once."""
        return self.body.crop()

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


def without_cracks(sections: Iterable[Section], width: float) -> list[Section]:
    """Close cracks in the bodies, up to a width in pixels; cavities stay as they are."""
    half = math.ceil(width / 2)
    y, x = np.ogrid[-half : half + 1, -half : half + 1]
    disk = y**2 + x**2 <= (width / 2) ** 2
    closed = []
    for section in sections:
        y0, x0, _, _ = section.body.box
        pixels = ndimage.binary_closing(np.pad(section.inside, half), disk)
        body = Mask.from_crop(pixels, (y0 - half, x0 - half), section.body.shape)
        closed.append(replace(section, body=body))
    return closed


@dataclass(frozen=True)
class Piece:
    """A connected part of a specimen in one slice: a node of its graph.

    Attributes
    ----------
    slice
        Index of the slice.
    body
        Everything within the outer wall.
    inside
        The body in its own box.
    """

    slice: int
    body: Mask
    inside: NDArray[np.bool_] = field(repr=False, compare=False)


def pieces_of(sections: Iterable[Section]) -> list[Piece]:
    """Divide sections into their connected pieces, diagonal neighbours included."""
    pieces = []
    for section in sections:
        body = section.body
        y0, x0, _, _ = body.box
        labels, count = ndimage.label(section.inside, np.ones((3, 3)))
        if count == 1:
            pieces.append(Piece(section.slice, body, section.inside))
            continue
        for n, box in enumerate(ndimage.find_objects(labels), 1):
            inside = labels[box] == n
            origin = (y0 + box[0].start, x0 + box[1].start)
            mask = Mask.from_crop(inside, origin, body.shape)
            pieces.append(Piece(section.slice, mask, inside))
    return pieces


def graph(
    sections: Iterable[Section], *, reach: int = REACH
) -> tuple[list[Piece], NDArray[np.int64]]:
    """Return the pieces of a specimen, and which of them go on in which.

    Parameters
    ----------
    sections
        Sections of one specimen in stack order.
    reach
        Most slices with sections that a piece may be missing in before it goes on.

    Returns
    -------
    pieces
        In stack order.
    edges
        Array (n, 2) of indices, the piece in the lower slice first: two pieces of neighbouring
        slices with sections that share a pixel; a piece that nothing goes on in and one that goes
        on nothing also where they share a pixel over a slice or two in which the branch is missing.
    """
    pieces = pieces_of(sections)
    slices = np.array([p.slice for p in pieces], dtype=np.int64)
    starts = np.flatnonzero(np.diff(slices, prepend=-1)).tolist()
    levels = [range(a, b) for a, b in zip(starts, [*starts[1:], len(pieces)], strict=True)]
    edges: list[tuple[int, int]] = []
    ended, begun = set(range(len(pieces))), set(range(len(pieces)))
    for back in range(1, reach + 2):
        found = []
        for before, level in zip(levels, levels[back:], strict=False):
            low = [n for n in before if back == 1 or n in ended]
            high = [n for n in level if back == 1 or n in begun]
            shared = intersections([pieces[n].body for n in low], [pieces[n].body for n in high])
            found += [(low[i], high[j]) for i, j in np.argwhere(shared).tolist()]
        edges += found
        ended -= {a for a, _ in found}
        begun -= {b for _, b in found}
    return pieces, np.array(sorted(edges), dtype=np.int64).reshape(-1, 2)


def bounding_box(sections: Iterable[Section]) -> Box:
    """Return the smallest box (y0, x0, y1, x1) in pixels around all bodies, half open."""
    boxes = np.array([s.body.box for s in sections])
    y0, x0 = boxes[:, :2].min(axis=0)
    y1, x1 = boxes[:, 2:].max(axis=0)
    return int(y0), int(x0), int(y1), int(x1)


def volume_um3(areas: Iterable[tuple[int, int]], geometry: StackGeometry) -> float:
    """Compute the volume of sections, (slice, area in pixels) each.

    A section stands for half a step on either side.
    """
    total = sum(area * geometry.thickness_um(z) for z, area in areas)
    return total * geometry.pixel_size_um**2
