"""Measurements of a specimen: one row of the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.geometry import StackGeometry
from napari_fossiledit.masks import Instance, Part
from napari_fossiledit.reef.sections import Section, bounding_box, sections_of, volume_um3
from napari_fossiledit.reef.surface import Surface

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class SpecimenRow:
    """Measurements of one specimen. Positions are (z, y, x) in um, as in its mesh file.

    Attributes
    ----------
    specimen, class_name
        Identity and class.
    slices, first_slice, last_slice
        Number of slices it is in, and the first and last of them.
    sections
        Number of bodies, more than slices where it branches.
    volume_um3
        Everything within the outer wall: area of the sections times slice step.
    cavity_volume_um3
        The central cavities in it.
    mesh_volume_um3, surface_um2
        Volume and area of the closed mesh, cavities cut out where that was asked for.
    mesh_closed
        True where the mesh is closed.
    centroid_um
        Centre of everything within the outer wall.
    box_low_um, box_high_um
        Corners of the box around its voxels.
    texture
        Texture of most of its area; empty where unknown.

    Volumes and surface are None where slices between the first and the last were never looked at.
    """

    specimen: int
    class_name: str
    slices: int
    first_slice: int
    last_slice: int
    sections: int
    volume_um3: float | None
    cavity_volume_um3: float | None
    mesh_volume_um3: float | None
    surface_um2: float | None
    mesh_closed: bool | None
    centroid_um: Triple
    box_low_um: Triple
    box_high_um: Triple
    texture: str

    def record(self) -> dict[str, Any]:
        """Return flat values for a table, the unit in each name."""
        values = dict(self.__dict__)
        for name in ("centroid_um", "box_low_um", "box_high_um"):
            triple = values.pop(name)
            stem = name.removesuffix("_um")
            values |= {f"{stem}_{axis}_um": v for axis, v in zip("zyx", triple, strict=True)}
        # The texture comes last, after all figures.
        return values | {"texture": values.pop("texture")}


def measure(
    specimen: int,
    instances: Sequence[Instance],
    geometry: StackGeometry,
    surface: Surface | None,
) -> SpecimenRow:
    """Measure one specimen.

    Parameters
    ----------
    instances
        All bodies and cavities of the specimen.
    surface
        Its surface (see `build_surface`); None where slices between its sections were never looked
        at, and it has no volume that is known.
    """
    sections = sections_of(instances)
    low, high = _box(sections, geometry)
    volume = cavities = None
    if surface is not None:
        volume = volume_um3(((s.slice, s.body.area) for s in sections), geometry)
        cavities = volume_um3(((s.slice, s.cavity_area) for s in sections), geometry)
    centres = []
    for section in sections:
        rows, columns = np.nonzero(section.body.crop())
        y0, x0, _, _ = section.body.box
        centres.append((section.slice, float(rows.mean()) + y0, float(columns.mean()) + x0))
    areas = np.array([s.body.area for s in sections], dtype=np.float64)
    centroid = np.average(np.array(centres), axis=0, weights=areas)
    return SpecimenRow(
        specimen=specimen,
        class_name=_majority(instances, "class_name"),
        slices=len(sections),
        first_slice=sections[0].slice,
        last_slice=sections[-1].slice,
        sections=sum(s.parts for s in sections),
        volume_um3=volume,
        cavity_volume_um3=cavities,
        mesh_volume_um3=None if surface is None else surface.volume_um3,
        surface_um2=None if surface is None else surface.area_um2,
        mesh_closed=None if surface is None else surface.closed,
        centroid_um=_in_rock(centroid, geometry),
        box_low_um=low,
        box_high_um=high,
        texture=_majority(instances, "texture"),
    )


def _majority(instances: Sequence[Instance], name: str) -> str:
    """Value that most of the bodies' area has; empty values do not vote."""
    votes: Counter[str] = Counter()
    for instance in instances:
        value = str(getattr(instance, name))
        if instance.part is Part.BODY and value:
            votes[value] += instance.mask.area
    # Of equal votes the first in the alphabet, so that the table does not depend on order.
    return min(votes, key=lambda v: (-votes[v], v), default="")


def _box(sections: Sequence[Section], geometry: StackGeometry) -> tuple[Triple, Triple]:
    """Corners of the box around the voxels, which reach half a voxel beyond their centres."""
    y0, x0, y1, x1 = bounding_box(sections)
    one = _in_rock(np.array([sections[0].slice - 0.5, y0 - 0.5, x0 - 0.5]), geometry)
    other = _in_rock(np.array([sections[-1].slice + 0.5, y1 - 0.5, x1 - 0.5]), geometry)
    return _triple(np.minimum(one, other)), _triple(np.maximum(one, other))


def _in_rock(voxel: NDArray[np.float64], geometry: StackGeometry) -> Triple:
    """Position in um of a voxel (z, y, x), z mirrored where slices count out of the rock."""
    z, y, x = voxel.tolist()
    pixel = geometry.pixel_size_um
    return geometry.handedness * geometry.z_um(z), y * pixel, x * pixel


def _triple(values: NDArray[np.float64]) -> Triple:
    z, y, x = (float(v) for v in values)
    return z, y, x
