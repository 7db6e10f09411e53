"""Closed surfaces of specimens, in um.

The surface is the zero level of a smooth field, found by scikit-image's marching cubes (Lewiner et
al. 2003). Each section stands for half a slice step on either side of its slice,
so the volume of the rock between the surfaces is known: area times step. What smoothing and
interpolation took from it is given back by moving the surface along its normals, by a fraction of
a pixel.

In each slice the field is the signed distance to the outline in pixels, positive inside; between
two slices it runs straight, which interpolates the shape (Raya and Udupa 1990, IEEE Transactions
on Medical Imaging 9, 32-42). Three things are done for sections of ground rock:

* A part that ends (it overlaps nothing in the next slice) ends half a step beyond its last
  section, and so does a hole or cavity; far outlines elsewhere in the slice do not draw it in.
* Distances are cut off at one slice step, so that surfaces flatter than 45 degrees become
  terraces half-way between slices instead of long ramps, which would eat thin slanting walls.
* A Gaussian of one pixel takes the staircase of the pixels off the outline. It never turns a
  pixel: inside stays inside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import fast_simplification
import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import brentq
from skimage.measure import block_reduce, marching_cubes

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import Box, StackGeometry, ZDirection
from napari_fossiledit.reef.sections import Section, bounding_box, volume_um3

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]

SMOOTHING_SIGMA = 1.0
"""Standard deviation in pixels of the Gaussian along the outline."""

LEAST_DISTANCE = 0.1
"""Least distance in pixels that is left of a pixel's own side."""

VOXEL_BUDGET = 24_000_000
"""Most voxels of the field of one specimen, 4 bytes each."""

MOST_MOVE = 1.0
"""Farthest the surface is moved to keep its volume, in pixels."""

#: Empty blocks around the specimen, so that its field is negative on its border.
_MARGIN = 3
#: Error of the enclosed volume that is left, as a share of it.
_TOLERANCE = 1e-4
#: How often the number of faces is doubled before a surface is left as it is.
_ROUNDS = 4


@dataclass(frozen=True)
class Surface:
    """A closed triangle mesh.

    Attributes
    ----------
    vertices
        Array (n, 3) of float64, (z, y, x) in um, in the frame of the stack: the centre of pixel
        (0, 0) in slice 0 is the origin and z counts with the slices.
    faces
        Array (m, 3) of vertex indices, counter-clockwise from outside in the frame (x, y, z).
    contour_volume_um3
        Volume of the sections: area times slice step, summed.
    reduced_by
        Edge in pixels of the blocks that were averaged to stay within the voxel budget.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    contour_volume_um3: float
    reduced_by: int = 1

    @cached_property
    def solid(self) -> Any:
        """The mesh as trimesh has it, vertices (x, y, z)."""
        return trimesh.Trimesh(self.vertices[:, ::-1], self.faces, process=False)

    def in_rock(self, direction: ZDirection) -> Surface:
        """Return the surface mirrored along z where slices count out of the rock.

        In the frame of the stack such a fossil is its own mirror image. Its faces are turned over,
        because a mirror turns them inward.
        """
        if direction is ZDirection.INTO:
            return self
        vertices = self.vertices * np.array([-1.0, 1.0, 1.0])
        return replace(self, vertices=vertices, faces=np.ascontiguousarray(self.faces[:, ::-1]))

    @property
    def closed(self) -> bool:
        """True where each edge joins exactly two faces that agree on which side is outside."""
        return bool(self.solid.is_watertight and self.solid.is_winding_consistent)

    @property
    def volume_um3(self) -> float:
        """Enclosed volume, positive where the faces look outward."""
        return float(self.solid.volume)

    @property
    def area_um2(self) -> float:
        """Area of the surface, that of cavities included where they were cut out."""
        return float(self.solid.area)


def build_surface(
    sections: Sequence[Section],
    geometry: StackGeometry,
    *,
    cavities: bool = True,
    budget: int = VOXEL_BUDGET,
) -> Surface:
    """Build the closed surface of a specimen.

    Parameters
    ----------
    sections
        Sections of the specimen in stack order. Where a slice between them is missing, the
        surface is closed half a step beyond the section before and begins anew.
    cavities
        Cut the cavities out of the bodies.
    budget
        Most voxels of the specimen's box; larger ones are reduced in the plane of the slices.

    Raises
    ------
    FossilError
        Where there is nothing to mesh.
    """
    areas = [s.body.area - (s.cavity_area if cavities else 0) for s in sections]
    if not any(areas):
        raise FossilError("A specimen has no pixel", expected="at least one section")
    box = bounding_box(sections)
    factor = reduction(sections, budget)
    distances = _distances(sections, box, factor, cavities=cavities)
    # Between two slices the cut-off of distances is the step of this specimen's slices.
    steps = geometry.z_um(sections[-1].slice + 0.5) - geometry.z_um(sections[0].slice - 0.5)
    step = steps / (len(distances) * geometry.pixel_size_um * factor)
    field = specimen_field(distances, max(step, 2.0))
    vertices, faces = _isosurface(field, sections[0].slice, box, factor, geometry)
    volume = volume_um3(zip((s.slice for s in sections), areas, strict=True), geometry)
    reach = MOST_MOVE * factor * geometry.pixel_size_um
    return Surface(_inflated(vertices, faces, volume, reach), faces, volume, factor)


def reduction(sections: Sequence[Section], budget: int = VOXEL_BUDGET) -> int:
    """Return the edge in pixels of the blocks that bring a specimen within the budget, >= 1."""
    y0, x0, y1, x1 = bounding_box(sections)
    # The slices of the specimen, and an empty one at either end (see `specimen_field`).
    voxels = (y1 - y0) * (x1 - x0) * (sections[-1].slice - sections[0].slice + 3)
    return max(1, math.ceil(math.sqrt(voxels / budget)))


def _distances(
    sections: Sequence[Section], box: Box, factor: int, *, cavities: bool
) -> list[FloatArray]:
    """Signed distances of all slices from the first to the last section, margin added.

    The unit is a block of `factor` pixels.
    """
    by_slice = {s.slice: s for s in sections}
    margin = factor * _MARGIN
    height, width = (
        factor * math.ceil((box[n + 2] - box[n]) / factor) + 2 * margin for n in (0, 1)
    )
    empty = np.full((height // factor, width // factor), -np.inf, dtype=np.float32)
    distances = []
    for z in range(sections[0].slice, sections[-1].slice + 1):
        if z not in by_slice:
            distances.append(empty)
            continue
        mask = np.zeros((height, width), dtype=np.bool_)
        pixels = by_slice[z].pixels(box, cavities=cavities)
        mask[margin : margin + pixels.shape[0], margin : margin + pixels.shape[1]] = pixels
        distance = signed_distance(mask)
        if factor > 1:
            distance = block_reduce(distance, (factor, factor), np.mean) / np.float32(factor)
        distances.append(distance)
    return distances


def _isosurface(
    field: FloatArray, first: int, box: Box, factor: int, geometry: StackGeometry
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vertices (z, y, x) in um and faces of the zero level."""
    pixel = geometry.pixel_size_um
    spacing = (1.0, pixel * factor, pixel * factor)
    vertices, faces, _, _ = marching_cubes(
        field, 0.0, spacing=spacing, gradient_direction="descent"
    )
    # Node 0 is the empty slice before the first; a block's centre lies (factor - 1) / 2 pixels in.
    inset = (factor - 1) / 2 - factor * _MARGIN
    placed = vertices.astype(np.float64)
    nodes = [geometry.z_um(first - 1 + k) for k in range(len(field))]
    placed[:, 0] = np.interp(placed[:, 0], np.arange(len(field)), nodes)
    placed[:, 1] += (box[0] + inset) * pixel
    placed[:, 2] += (box[1] + inset) * pixel
    triangles = faces.astype(np.int64)
    # Where a tunnel ends on the side of a cube, marching cubes puts pairs of faces that lie on each
    # other back to back; they enclose nothing and leave edges with four faces.
    pairs = trimesh.grouping.group_rows(np.sort(triangles, axis=1), require_count=2)
    if len(pairs):
        triangles = np.delete(triangles, pairs.ravel(), axis=0)
    return placed, triangles


def _inflated(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], volume: float, reach: float
) -> NDArray[np.float64]:
    """Move vertices along their normals until the enclosed volume is `volume`.

    No vertex moves farther than `reach` in um, and inwards only a quarter of it, so that the
    thinnest part does not turn inside out.
    """
    solid = trimesh.Trimesh(vertices[:, ::-1], faces, process=False)
    normals = np.asarray(solid.vertex_normals)[:, ::-1]

    def missing(move: float) -> float:
        # The volume inside a closed mesh is the sum of its signed tetrahedra.
        a, b, c = ((vertices + move * normals)[faces[:, n], ::-1] for n in range(3))
        return volume - float(np.einsum("ij,ij->", a, np.cross(b, c))) / 6

    here = missing(0.0)
    if abs(here) <= _TOLERANCE * volume:
        return vertices
    farthest = reach if here > 0 else -reach / 4
    if here * missing(farthest) >= 0:
        return vertices + farthest * normals
    move = brentq(missing, 0.0, farthest, xtol=_TOLERANCE * reach)
    return vertices + float(move) * normals


def simplified(surface: Surface, max_faces: int) -> Surface:
    """Reduce a surface to about `max_faces` by quadric edge collapse (Garland, Heckbert 1997).

    Collapsing edges can tear thin walls. A result that is not closed is thrown away and tried
    again with twice the faces; where that never closes, the surface stays as it was.
    """
    count = max_faces
    for _ in range(_ROUNDS):
        if not 0 < count < len(surface.faces):
            break
        # Single precision inside the library: keep the numbers small.
        origin = surface.vertices.mean(axis=0)
        points, triangles = fast_simplification.simplify(
            (surface.vertices - origin).astype(np.float32),
            surface.faces.astype(np.int32),
            target_count=count,
        )
        candidate = replace(surface, vertices=points + origin, faces=triangles.astype(np.int64))
        if candidate.closed:
            return candidate
        count *= 2
    return surface


# ---------------------------------------------------------------- the smooth field


def signed_distance(mask: BoolArray) -> FloatArray:
    """Compute the distance in pixels to the outline of a mask (y, x), positive inside.

    The outline runs half-way between the centres of inside and outside pixels. Minus infinity
    everywhere where the mask is empty, infinity where it is full.
    """
    if mask.all() or not mask.any():
        return np.where(mask, np.inf, -np.inf).astype(np.float32)
    inside = ndimage.distance_transform_edt(mask)
    outside = ndimage.distance_transform_edt(~mask)
    distance: FloatArray = np.where(mask, inside - 0.5, 0.5 - outside).astype(np.float32)
    return distance


def specimen_field(distances: Sequence[FloatArray], limit: float) -> FloatArray:
    """Compute the field of a specimen on the nodes of the slices.

    Parameters
    ----------
    distances
        Signed distances (y, x) of consecutive slices in pixels, with room around the outline.
    limit
        Where distances are cut off: one slice step in pixels.

    Returns
    -------
    array (z + 2, y, x) of float32
        Negative on its whole border: one empty slice was added at either end.
    """
    empty = np.full_like(distances[0], -limit)
    field = np.stack([empty, *(np.clip(d, -limit, limit) for d in distances), empty])
    before = empty
    for k in range(len(field)):
        own = field[k].copy()
        after = field[k + 1] if k + 1 < len(field) else empty
        # Drawn near to 0 where a part, or a hole, of a neighbour ends in this slice.
        values = own.copy()
        for other in (before, after):
            solid = _ending(other > 0, own > 0)
            values[solid] = np.maximum(values[solid], -other[solid])
            hole = _ending(other <= 0, own <= 0)
            values[hole] = np.minimum(values[hole], -other[hole])
        smooth = ndimage.gaussian_filter(values, SMOOTHING_SIGMA, mode="nearest")
        # Inside stays inside, however thin it is.
        outside = np.minimum(smooth, -LEAST_DISTANCE)
        field[k] = np.where(values > 0, np.maximum(smooth, LEAST_DISTANCE), outside)
        before = own
    return field


def _ending(mask: BoolArray, neighbour: BoolArray) -> BoolArray:
    """Components of a mask that overlap nothing of the same mask in the neighbouring slice."""
    components, count = ndimage.label(mask)
    going_on = np.zeros(count + 1, dtype=np.bool_)
    going_on[components[neighbour]] = True
    going_on[0] = True
    ending: BoolArray = ~going_on[components]
    return ending
