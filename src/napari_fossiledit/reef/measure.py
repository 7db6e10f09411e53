"""Measurements of a specimen: one row of the table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull
from skimage.measure import perimeter_crofton

from napari_fossiledit.geometry import StackGeometry
from napari_fossiledit.masks import Instance, Part
from napari_fossiledit.params.reconstruct import OrientParams
from napari_fossiledit.reef.centre_lines import CentreLines, centre_lines
from napari_fossiledit.reef.orientation import azimuth_and_inclination, field_frame
from napari_fossiledit.reef.sections import Section, bounding_box, sections_of, volume_um3
from napari_fossiledit.reef.surface import Surface
from napari_fossiledit.reef.volume_error import SegmentationError, volume_interval_um3

FloatArray = NDArray[np.float64]
Triple = tuple[float, float, float]

LYING = 65.0, 1.5
"""A specimen whose axis leans more degrees from the normal of the slices, and which is that many
times as long as thick, lies in the slices: they cut it lengthwise, and show no centre line."""


_FIRST, _LAST = "first slice", "last slice"


@dataclass(frozen=True)
class Block:
    """The block that a stack was ground from.

    Attributes
    ----------
    shape
        Slices, rows and columns of the stack.
    orientation
        How it was cut and how its bedding lay; None where nobody has said.
    looked_at
        Slices that were annotated or predicted; None: all.
    segmentation
        Error of the masks, see `volume_interval_um3`; None where it is not known.
    """

    shape: tuple[int, int, int]
    orientation: OrientParams | None = None
    looked_at: frozenset[int] | None = None
    segmentation: SegmentationError | None = None

    def holds(self, z: int) -> bool:
        """Return whether a slice was looked at."""
        looked_at = range(self.shape[0]) if self.looked_at is None else self.looked_at
        return z in looked_at


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
    volume_low_um3, volume_high_um3
        Interval that holds the volume with a probability of 95 %, see `volume_error`: of the slice
        step, and of the masks where their error is known. None where a single section is all that
        the stack shows.
    cavity_volume_um3
        The central cavities in it.
    mesh_volume_um3, surface_um2
        Volume and area of the closed mesh, cavities cut out where that was asked for.
    mesh_closed
        True where the mesh is closed.
    hull_volume_um3, surface_per_hull_volume_per_um
        The convex hull of the mesh, and the surface divided by its volume.
    wall_thickness_mean_um, wall_thickness_median_um
        Of the sections with a cavity, weighted by the area of the wall; see `wall_thickness_um`.
    footprint_um2
        Its shadow on the bedding, or on the slice where the block has no orientation.
    length_um, height_um
        Extent along its longest axis, and across the bedding (or the slices).
    azimuth_deg, inclination_deg, lean_deg, elongation
        Direction of its longest axis (see `azimuth_and_inclination`), its angle with the normal of
        the slices, and how many times as long as thick it is, by its second moments.
    lies_in_slices
        See `LYING`; the next five are then not known.
    branches, branch_points, centre_line_um, radius_um
        Of its centre lines; the radius is the mean of the usual ones weighted by length.
    branch_angle_deg
        Mean angle of the branches that part.
    touching_um2, touches
        Area shared with other specimens, and which; None where that was not looked at.
    cut_by
        Sides of the stack that it reaches, or slices beside it that were never looked at: there it
        may go on. Where the rock itself ends in a photograph is not known. Empty: complete.
    centroid_um
        Centre of everything within the outer wall.
    box_low_um, box_high_um
        Corners of the box around its voxels.
    texture
        Texture of most of its area; empty where unknown.
    lines
        Centre lines, not in the table.

    Volumes and surface are None where slices between the first and the last were never looked at.
    """

    specimen: int
    class_name: str
    slices: int
    first_slice: int
    last_slice: int
    sections: int
    volume_um3: float | None
    volume_low_um3: float | None
    volume_high_um3: float | None
    cavity_volume_um3: float | None
    mesh_volume_um3: float | None
    surface_um2: float | None
    mesh_closed: bool | None
    hull_volume_um3: float | None
    surface_per_hull_volume_per_um: float | None
    wall_thickness_mean_um: float | None
    wall_thickness_median_um: float | None
    footprint_um2: float
    length_um: float | None
    height_um: float | None
    azimuth_deg: float
    inclination_deg: float
    lean_deg: float
    elongation: float
    lies_in_slices: bool
    branches: int | None
    branch_points: int | None
    branch_angle_deg: float | None
    centre_line_um: float | None
    radius_um: float | None
    cut_by: str
    centroid_um: Triple
    box_low_um: Triple
    box_high_um: Triple
    texture: str
    touching_um2: float | None = None
    touches: str = ""
    lines: CentreLines = field(default=CentreLines((), ()), repr=False, compare=False)

    def record(self) -> dict[str, Any]:
        """Return flat values for a table, the unit in each name."""
        values = dict(self.__dict__)
        del values["lines"]
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
    block: Block | None = None,
    sections: Sequence[Section] | None = None,
) -> SpecimenRow:
    """Measure one specimen.

    Parameters
    ----------
    instances
        All bodies and cavities of the specimen.
    surface
        Its surface (see `build_surface`); None where slices between its sections were never looked
        at, and it has no volume that is known.
    block
        The stack it is in; None where nothing is known of it.
    sections
        Of the instances, where something was done to them; None: as they are.
    """
    sections = sections_of(instances) if sections is None else sections
    low, high = _box(sections, geometry)
    volume = cavities = hull = length = height = interval = None
    cut_by = [] if block is None else _cut_by(sections, block)
    frame = field_frame(block.orientation if block else None, geometry.z_direction)
    centroid, axis, elongation = _moments(sections, geometry)
    if surface is not None:
        volume = volume_um3(((s.slice, s.body.area) for s in sections), geometry)
        cavities = volume_um3(((s.slice, s.cavity_area) for s in sections), geometry)
        interval = _interval(sections, geometry, block, cut_by)
        hull = _hull_volume_um3(surface, geometry)
        length, height = (float(np.ptp(surface.vertices @ way)) for way in (axis, frame[0]))
    azimuth, inclination = azimuth_and_inclination(frame @ axis)
    lean = math.degrees(math.acos(min(1.0, abs(float(axis[0])))))
    lies = lean > LYING[0] and elongation > LYING[1]
    lines = CentreLines((), ()) if lies else centre_lines(sections, geometry)
    angles = [a for p in lines.branch_points for a in p.angles_deg if not math.isnan(a)]
    walls = wall_thickness_um(sections, lines, geometry)
    return SpecimenRow(
        specimen=specimen,
        class_name=_majority(instances, "class_name"),
        slices=len(sections),
        first_slice=sections[0].slice,
        last_slice=sections[-1].slice,
        sections=sum(s.parts for s in sections),
        volume_um3=volume,
        volume_low_um3=None if interval is None else interval[0],
        volume_high_um3=None if interval is None else interval[1],
        cavity_volume_um3=cavities,
        mesh_volume_um3=None if surface is None else surface.volume_um3,
        surface_um2=None if surface is None else surface.area_um2,
        mesh_closed=None if surface is None else surface.closed,
        hull_volume_um3=hull,
        surface_per_hull_volume_per_um=None if not surface or not hull else surface.area_um2 / hull,
        wall_thickness_mean_um=None if walls is None else walls[0],
        wall_thickness_median_um=None if walls is None else walls[1],
        footprint_um2=_footprint_um2(sections, geometry, frame),
        length_um=length,
        height_um=height,
        azimuth_deg=float(azimuth[0]),
        inclination_deg=float(inclination[0]),
        lean_deg=lean,
        elongation=elongation,
        lies_in_slices=lies,
        branches=None if lies else len(lines.branches),
        branch_points=None if lies else len(lines.branch_points),
        branch_angle_deg=float(np.mean(angles)) if angles else None,
        centre_line_um=None if lies else lines.length_um,
        radius_um=None if lies else lines.radius_um,
        cut_by=", ".join(cut_by),
        centroid_um=_triple(centroid * (geometry.handedness, 1, 1)),
        box_low_um=low,
        box_high_um=high,
        texture=_majority(instances, "texture"),
        lines=lines,
    )


def _moments(
    sections: Sequence[Section], geometry: StackGeometry
) -> tuple[FloatArray, FloatArray, float]:
    """Return centroid (z, y, x) in um, unit vector of the longest axis, and elongation."""
    pixel = geometry.pixel_size_um
    weights, centres, spreads = [], [], []
    for section in sections:
        y0, x0, _, _ = section.body.box
        pixels = np.argwhere(section.inside) + np.array([y0, x0])
        low, high = (geometry.z_um(section.slice + half) for half in (-0.5, 0.5))
        thickness = high - low
        spread = np.zeros((3, 3))
        # A pixel is a square and a section a slab: each has a spread of its own.
        spread[0, 0] = thickness**2 / 12
        spread[1:, 1:] = (np.cov(pixels.T, bias=True) + np.eye(2) / 12) * pixel**2
        weights.append(len(pixels) * thickness)
        # The middle of the slab, which is not its slice where the steps are uneven.
        centres.append(((low + high) / 2, *(pixels.mean(axis=0) * pixel)))
        spreads.append(spread)
    centroid = np.average(centres, axis=0, weights=weights)
    away = np.array(centres) - centroid
    total = np.average(spreads, axis=0, weights=weights)
    total += np.einsum("n,ni,nj->ij", weights, away, away) / np.sum(weights)
    values, axes = np.linalg.eigh(total)
    thick = math.sqrt(float(values[0] + values[1]) / 2)
    return centroid, axes[:, 2], math.sqrt(values[2]) / thick


def wall_thickness_um(
    sections: Sequence[Section], lines: CentreLines, geometry: StackGeometry
) -> tuple[float, float] | None:
    """Return mean and median thickness of the wall around the cavities; None without any.

    In a section it is the area of the wall divided by the mean of its outer and inner outline. A
    tube that leans shows a wall that is thicker to two of its sides: an ellipse has the outline of
    a circle of its short axis times a factor, which is known from the lean of the centre line.
    """
    cosines: dict[int, list[float]] = {}
    for branch in lines.branches:
        for z, way in zip(branch.slices.tolist(), branch.directions, strict=True):
            cosines.setdefault(z, []).append(float(way[0]))
    thicknesses, weights = [], []
    for section in sections:
        if section.cavity is None or not section.cavity.area:
            continue
        area = section.body.area - section.cavity_area
        around = _perimeter(section.inside) + _perimeter(section.cavity.crop())
        cosine = float(np.mean(cosines.get(section.slice, [1.0])))
        thicknesses.append(2 * area / around * cosine * _stretched(1 / cosine))
        weights.append(area * geometry.thickness_um(section.slice))
    if not any(weights):
        return None
    values = np.array(thicknesses) * geometry.pixel_size_um
    return float(np.average(values, weights=weights)), float(np.median(values))


def _stretched(aspect: float) -> float:
    """Outline of an ellipse, as a share of that of the circle of its short axis (Ramanujan)."""
    h = ((aspect - 1) / (aspect + 1)) ** 2
    return (aspect + 1) / 2 * (1 + 3 * h / (10 + math.sqrt(4 - 3 * h)))


def _perimeter(inside: NDArray[np.bool_]) -> float:
    """Length of the outline in pixels; holes in it count as outline."""
    return float(perimeter_crofton(np.pad(inside, 1), directions=4))


def _hull_volume_um3(surface: Surface, geometry: StackGeometry) -> float:
    """Volume of the convex hull.

    Of each row of vertices along x, and of each column along z, only the outermost two are asked:
    qhull takes longer than all other measurements.
    """
    points = surface.vertices
    steps = geometry.slice_spacing_um / 2, geometry.pixel_size_um, geometry.pixel_size_um
    z, y, x = np.rint(points / steps).astype(np.int64).T
    ends = [_outermost(z, y, points[:, 2]), _outermost(y, x, points[:, 0])]
    return float(ConvexHull(points[np.unique(np.concatenate(ends))]).volume)


def _outermost(
    one: NDArray[np.int64], other: NDArray[np.int64], values: FloatArray
) -> NDArray[np.intp]:
    """Return where the lowest and the highest value are of those that agree in both numbers."""
    order = np.lexsort((values, other, one))
    changed = (np.diff(one[order]) != 0) | (np.diff(other[order]) != 0)
    ends = np.concatenate([[True], changed]) | np.concatenate([changed, [True]])
    return np.asarray(order[ends])


def _footprint_um2(
    sections: Sequence[Section], geometry: StackGeometry, frame: FloatArray
) -> float:
    """Area of the shadow on the horizontal plane of a frame (up, north, east)."""
    pixel = geometry.pixel_size_um
    y0, x0, y1, x1 = bounding_box(sections)
    ends = geometry.z_um(sections[0].slice - 0.5), geometry.z_um(sections[-1].slice + 0.5)
    across = frame[1:] * (1.0 / pixel, 1.0, 1.0)
    corners = np.array([(z, y, x) for z in ends for y in (y0, y1) for x in (x0, x1)]) @ across.T
    low = corners.min(axis=0) - 2
    grid = np.zeros(np.ceil(np.ptp(corners, axis=0)).astype(int) + 5, dtype=np.bool_)
    # Each section is a slab, whose shadow is as much longer.
    drawn = np.abs(across[:, 0]).max() * max(geometry.thickness_um(s.slice) for s in sections)
    parts = np.linspace(-0.5, 0.5, 1 + math.ceil(drawn - 1e-6))
    for section in sections:
        top, left, _, _ = section.body.box
        rows, columns = np.nonzero(section.inside)
        place = np.stack([rows + top, columns + left], axis=1) @ across[:, 1:].T - low
        for part in parts:
            moved = place + geometry.z_um(section.slice + part) * across[:, 0]
            grid[tuple(np.rint(moved).astype(np.intp).T)] = True
    # Turned pixels leave holes between them.
    return float(ndimage.binary_closing(grid, np.ones((3, 3))).sum()) * pixel**2


def _cut_by(sections: Sequence[Section], block: Block) -> list[str]:
    y0, x0, y1, x1 = bounding_box(sections)
    _, height, width = block.shape
    sides = {
        _FIRST: not block.holds(sections[0].slice - 1),
        _LAST: not block.holds(sections[-1].slice + 1),
        "top": y0 == 0,
        "bottom": y1 == height,
        "left": x0 == 0,
        "right": x1 == width,
    }
    return [side for side, reached in sides.items() if reached]


def _interval(
    sections: Sequence[Section], geometry: StackGeometry, block: Block | None, cut_by: list[str]
) -> tuple[float, float] | None:
    slices = range(sections[0].slice, sections[-1].slice + 1)
    areas = {s.slice: s.body.area for s in sections}
    return volume_interval_um3(
        [areas.get(z, 0) for z in slices],
        [geometry.thickness_um(z) for z in slices],
        geometry.pixel_size_um,
        (_FIRST in cut_by, _LAST in cut_by),
        None if block is None else block.segmentation,
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
