"""Closed surfaces of specimens, in um.

The surface is the zero level of a smooth field on the nodes of the slices' pixels (`field`), found
by dual marching cubes (`lattice`). Each section stands for half a slice step on either side of its
slice, so the volume of the rock between the surfaces is known: area times thickness. What smoothing
and interpolation took from it is given back by moving the surface along its normals, by a fraction
of a pixel.

In each slice the field is the signed distance to the outline in pixels, positive inside; between
two slices it runs straight, which interpolates the shape (Raya and Udupa 1990, IEEE Transactions
on Medical Imaging 9, 32-42). Four things are done for sections of ground rock:

* A part that ends (it overlaps nothing in the next slice) ends half a step beyond its last
  section, and so does a hole or cavity; far outlines elsewhere in the slice do not draw it in.
* Distances are cut off at one slice step, so that surfaces flatter than 45 degrees become
  terraces half-way between slices instead of long ramps, which would eat thin slanting walls.
* The staircase of the pixels is smoothed off the outline over a pixel. It never turns a pixel:
  inside stays inside.
* Where others are near, a specimen is what lies inside all of them together and on its own side:
  its field is half of what it has more than the next of the others, and at most that of the union.
  Two specimens that touch have the same face from both sides, and the move that keeps the volume
  leaves such faces where they are.

A specimen is worked on in slabs of slices, each in a box of its own, so that time and memory are
those of its surface and not of the box around a long, leaning specimen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import fast_simplification
import manifold3d
import numpy as np
import trimesh
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import Box, StackGeometry, ZDirection
from napari_fossiledit.masks.rle import overlap, stacked
from napari_fossiledit.reef.field import MARGIN, smoothed
from napari_fossiledit.reef.lattice import crossings, parted, shares
from napari_fossiledit.reef.sections import Section, volume_um3

Points = NDArray[np.float64]
Faces = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

LEAST_DISTANCE = 0.1
"""Least distance in pixels that is left of a pixel's own side."""

MOST_MOVE = 1.0
"""Farthest the surface is moved to keep its volume, in pixels."""

_THIN = 0.3
"""Field in pixels up to which a part is thin. With 0.1 bodies of a few pixels lose up to a fifth of
their volume, with 1 the surface of a torus cut seven times as coarsely in z is 3 % too large."""

NEAR = 4
"""Pixels within which another specimen has a say in where the surface of this one runs."""

#: Voxels of a slab: its arrays stay within the cache of a processor. Fewer slices than `_THICK`
#: would be read twice too often, and more voxels than `_MOST` fill the memory.
_SLAB, _THICK, _MOST = 300_000, 16, 24_000_000
_FAR = 2**31
#: Error of the enclosed volume that is left, as a share of it.
_TOLERANCE = 1e-4
#: How often the number of faces is doubled before a surface is left as it is.
_ROUNDS = 4


@dataclass(frozen=True)
class Surface:
    """A triangle mesh, closed unless it is open where the block of rock ends.

    Attributes
    ----------
    vertices
        Array (n, 3) of float64, (z, y, x) in um, in the frame of the stack: the centre of pixel
        (0, 0) in slice 0 is the origin and z counts with the slices.
    faces
        Array (m, 3) of vertex indices, counter-clockwise from outside in the frame (x, y, z).
    contour_volume_um3
        Volume of the sections: area times thickness, summed.
    open
        Whether faces at the sides of the block were left off.
    """

    vertices: Points
    faces: Faces
    contour_volume_um3: float
    open: bool = False

    @cached_property
    def solid(self) -> Any:
        """The mesh as trimesh has it, vertices (x, y, z)."""
        return trimesh.Trimesh(self.vertices[:, ::-1], self.faces, process=False)

    @cached_property
    def manifold(self) -> Any:
        """The mesh as manifold3d has it, vertices (x, y, z); its `status` says what is wrong."""
        mesh = manifold3d.Mesh64(
            np.ascontiguousarray(self.vertices[:, ::-1]), self.faces.astype(np.uint64)
        )
        return manifold3d.Manifold(mesh)

    def in_rock(self, direction: ZDirection) -> Surface:
        """Return the surface mirrored along z where slices count out of the rock.

        In the frame of the stack such a fossil is its own mirror image. Its faces are turned over,
        because a mirror turns them inward.
        """
        if direction is ZDirection.INTO:
            return self
        vertices = self.vertices * np.array([-1.0, 1.0, 1.0])
        return replace(self, vertices=vertices, faces=np.ascontiguousarray(self.faces[:, ::-1]))

    @cached_property
    def closed(self) -> bool:
        """True where each edge joins exactly two faces that agree on which side is outside."""
        start, end = (self.faces[:, order].ravel() for order in ([0, 1, 2], [1, 2, 0]))
        forth, back = start < end, start > end
        ways = (
            np.sort(start[forth] * len(self.vertices) + end[forth]),
            np.sort(end[back] * len(self.vertices) + start[back]),
        )
        return bool(ways[0].size and np.array_equal(*ways) and (ways[0][1:] != ways[0][:-1]).all())

    @property
    def sound(self) -> bool:
        """True where manifold3d takes the mesh for an oriented manifold."""
        return bool(self.manifold.status() == manifold3d.Error.NoError)

    @cached_property
    def volume_um3(self) -> float:
        """Enclosed volume, positive where the faces look outward; of an open one the sections'."""
        if self.open:
            return self.contour_volume_um3
        # A triangle is a quadrilateral with two corners in one place.
        return _volume(self.vertices - self.vertices.mean(axis=0), self.faces[:, [0, 1, 2, 2]])

    @cached_property
    def area_um2(self) -> float:
        """Area of the surface, that of cavities included where they were cut out."""
        a, b, c = (self.vertices[self.faces[:, n]] for n in range(3))
        return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()) / 2


def build_surface(
    sections: Sequence[Section],
    geometry: StackGeometry,
    *,
    cavities: bool = True,
    near: Sequence[Sequence[Section]] = (),
    open_at: tuple[int, int, int] | None = None,
) -> Surface:
    """Build the surface of a specimen.

    Parameters
    ----------
    sections
        Sections of the specimen in stack order. Where a slice between them is missing, the
        surface is closed half a step beyond the section before and begins anew.
    cavities
        Cut the cavities out of the bodies.
    near
        Sections of other specimens that may touch this one.
    open_at
        Shape (z, y, x) of the stack: no faces where the specimen is cut by its sides. None: all
        surfaces are closed.

    Raises
    ------
    FossilError
        Where there is nothing to mesh.
    """
    areas = [(s.slice, s.body.area - (s.cavity_area if cavities else 0)) for s in sections]
    if not any(area for _, area in areas):
        raise FossilError("A specimen has no pixel", expected="at least one section")
    mesh = _Mesh(geometry, open_at)
    limit = max(geometry.slice_spacing_um / geometry.pixel_size_um, 2.0)
    for anew, slab in _slabs(sections, cavities, near, math.ceil(limit)):
        mesh.add(slab, limit, anew=anew)
    return mesh.surface(volume_um3(areas, geometry))


@dataclass(frozen=True)
class _Slab:
    """Masks of some slices of a specimen, with one slice more at either end.

    Attributes
    ----------
    first
        Slice of the first mask.
    origin
        Row and column of pixel (0, 0) of the masks.
    inside
        Array (z, y, x) of 0 and 1, `MARGIN` pixels of 0 around.
    others
        The same of other specimens; empty where none is near.
    """

    first: int
    origin: tuple[int, int]
    inside: Bytes
    others: tuple[Bytes, ...]

    def field(self, limit: float) -> tuple[Bytes, Floats, NDArray[np.bool_], Bytes]:
        """Return masks and field of the inner nodes, where parts end, and the pixels of others."""
        # Smoothing took two pixels off.
        inner = (slice(1, -1), slice(2, -2), slice(2, -2))
        inside, (values, ended) = self.inside[inner], smoothed(self.inside, limit)
        taken = np.zeros_like(inside)
        if self.others:
            rest = np.full_like(values, -limit)
            for other in self.others:
                theirs, _ = smoothed(other, limit)
                # A pixel of two specimens goes to the one that has more of what is around it.
                inside = inside & ~(other[inner] & (theirs > values))
                taken |= other[inner]
                np.maximum(rest, theirs, out=rest)
            # Inside of all of them together, and on this one's side of the others.
            everything = np.bitwise_or.reduce([self.inside, *self.others])
            around, _ = smoothed(everything, limit)
            values = np.minimum(around, (values - rest) * np.float32(0.5))
        # Inside stays inside, however thin it is.
        sides = np.maximum(values, LEAST_DISTANCE), np.minimum(values, -LEAST_DISTANCE)
        values = np.where(inside, *sides).astype(np.float32, copy=False)
        return inside, values, ended, taken & ~inside


def _slabs(
    sections: Sequence[Section], cavities: bool, near: Sequence[Sequence[Section]], reach: int
) -> Iterator[tuple[bool, _Slab]]:
    """Divide a specimen into slabs, with whether one begins anew.

    If it does not, its first layer of cells is the last of the slab before. An empty slice lies
    before each run of sections, and one behind it.
    """
    own = {s.slice: s for s in sections}
    others = [{s.slice: s for s in other} for other in near]
    margin = MARGIN + (reach if others else 0)
    slices = np.array(list(own))
    # Lower sides with the other sign: a box around others has the largest of each.
    boxes = np.full((int(slices[-1] - slices[0]) + 5, 4), -_FAR)
    boxes[slices - slices[0] + 2] = np.array([s.body.box for s in sections]) * (-1, -1, 1, 1)

    def around(first: int, last: int) -> NDArray[np.int64]:
        rows = boxes[first - slices[0] + 2 : last - slices[0] + 3]
        return np.asarray(rows.max(axis=0, initial=-_FAR))

    for run in np.split(slices, np.flatnonzero(np.diff(slices) > 1) + 1):
        low, end = int(run[0]) - 1, int(run[-1]) + 1
        while True:
            high, box = low + 1, around(low - 1, low + 2)
            while high < end:
                wider = np.maximum(box, around(high + 2, high + 2))
                voxels = (high + 4 - low) * (wider[0] + wider[2]) * (wider[1] + wider[3])
                nodes = high + 1 - low
                if nodes > 3 and (voxels > _MOST or (voxels > _SLAB and nodes > _THICK)):
                    break
                high, box = high + 1, wider
            y0, x0, y1, x1 = (box * (-1, -1, 1, 1)).tolist()
            box_of = (y0, x0, y1, x1)
            yield low < run[0], _slab(low - 1, high + 1, box_of, margin, own, others, cavities)
            if high == end:
                break
            low = high - 1


def _slab(
    first: int,
    last: int,
    box: Box,
    margin: int,
    own: Mapping[int, Section],
    others: Sequence[Mapping[int, Section]],
    cavities: bool,
) -> _Slab:
    """Paint the masks of the slices from `first` to `last` around a box."""
    y0, x0, y1, x1 = grown = (
        box[0] - margin, box[1] - margin, box[2] + margin, box[3] + margin
    )  # fmt: skip
    shape = (last + 1 - first, y1 - y0, x1 - x0)

    def painted(specimen: Mapping[int, Section]) -> Bytes | None:
        there = [specimen[z] for z in range(first, last + 1) if z in specimen]
        there = [s for s in there if overlap(s.body.box, grown)]
        if not there:
            return None
        masks = np.zeros(shape, np.uint8)
        masks[[s.slice - first for s in there]] = stacked([s.body for s in there], grown)
        hollow = [(s.slice - first, s.cavity) for s in there if cavities and s.cavity is not None]
        if hollow:
            slices, inner = zip(*hollow, strict=True)
            masks[list(slices)] &= ~stacked(inner, grown)
        return masks

    inside = painted(own)
    found = tuple(m for m in map(painted, others) if m is not None)
    return _Slab(first, (y0, x0), np.zeros(shape, np.uint8) if inside is None else inside, found)


class _Mesh:
    """The surface of a specimen, slab by slab."""

    def __init__(self, geometry: StackGeometry, block: tuple[int, int, int] | None) -> None:
        self._geometry, self._block = geometry, block
        self._points: list[Points] = []
        self._quads: list[Faces] = []
        # Of each quadrilateral: whether another specimen has it too; where it lies in a side of the
        # block, in nodes (not a number elsewhere), and along which axis.
        self._shared: list[NDArray[np.bool_]] = []
        self._sides: list[Floats] = []
        self._axes: list[NDArray[np.int64]] = []
        self._count = 0
        self._doubled = False
        self.lost: dict[int, int] = {}

    def add(self, slab: _Slab, limit: float, *, anew: bool) -> None:
        """Add the surface of a slab."""
        inside, values, ended, taken = slab.field(limit)
        found = crossings(inside)
        self._doubled |= found.doubled
        for z, lost in enumerate((slab.inside[1:-1, 2:-2, 2:-2] & ~inside).sum(axis=(1, 2))):
            self.lost[slab.first + 1 + z] = int(lost)
        flat, others = values.ravel(), taken.ravel()
        low, high = flat[found.low], flat[found.high]
        _, height, width = inside.shape
        # Node (z, y, x) of each crossing, and a 1 that counts them.
        layer, rest = np.divmod(found.low, height * width)
        nodes = np.stack([layer, *np.divmod(rest, width), np.ones_like(layer)], 1)
        places = nodes.astype(np.float32)
        along = 2 - found.axis
        part = low / (low - high)
        # A section stands for half a step to where nothing goes on, also where it is so thin that
        # smoothing leaves next to nothing of it. Faces of two specimens are where both fields say.
        free = (along == 0) & ~(others[found.low] | others[found.high]).astype(np.bool_)
        ends = free.nonzero()[0][ended.ravel()[found.low[free]]]
        part[ends[np.maximum(low, high)[ends] <= _THIN]] = 0.5
        places[np.arange(len(places)), along] += part
        sums = shares(found.quads, found.count + 1) @ places
        points = (sums[:-1, :3] / sums[:-1, 3:]).astype(np.float64)
        offset = np.array([slab.first + 1, slab.origin[0] + 2, slab.origin[1] + 2])
        seen = 0 if anew else found.first_layer
        self._points.append(points[seen:] + offset)
        # The other quadrilaterals have a vertex in a layer of another slab.
        upright = found.axis == 2
        mine = (layer < len(inside) - 1) & ((layer > 0) | (upright & anew))
        self._quads.append(found.quads[mine] + (self._count - seen))
        self._shared.append((others[found.low] | others[found.high])[mine] > 0)
        self._count += found.count - seen
        if self._block is None:
            return
        axes = along[mine].astype(np.int64)
        at = nodes[mine][np.arange(len(axes)), axes] + offset[axes]
        ends = np.array(self._block)[axes]
        side = np.where(at < 0, -0.5, np.where(at + 1 >= ends, ends - 0.5, np.nan))
        self._sides.append(side.astype(np.float32))
        self._axes.append(axes)

    def surface(self, volume: float) -> Surface:
        """Return the surface; what was lost to other specimens is taken off its volume."""
        geometry = self._geometry
        pixel = geometry.pixel_size_um
        lost = volume_um3(self.lost.items(), geometry)
        placed, quads = np.concatenate(self._points), np.concatenate(self._quads)
        capped = np.zeros(len(quads), dtype=np.bool_)
        if self._block is not None:
            sides = np.concatenate(self._sides)
            capped = ~np.isnan(sides)
            # So that the rim lies in the side of the block.
            axes = np.concatenate(self._axes)[capped, None]
            placed[quads[capped], axes] = sides[capped, None]
        slices = np.arange(math.floor(placed[:, 0].min()), math.ceil(placed[:, 0].max()) + 1)
        positions = [geometry.z_um(z) for z in slices.tolist()]
        placed = np.stack(
            [np.interp(placed[:, 0], slices, positions), *(placed[:, 1:].T * pixel)], axis=1
        )
        placed = _inflated(
            placed, quads, volume - lost, MOST_MOVE * pixel, np.concatenate(self._shared)
        )
        if capped.any():
            kept, quads = np.unique(quads[~capped], return_inverse=True)
            placed, quads = placed[kept], quads.reshape(-1, 4)
        faces = quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)
        if self._doubled:
            placed, faces = parted(placed, faces)
        return Surface(placed, faces, volume, bool(capped.any()))


def _volume(points: Points, quads: Faces) -> float:
    """Volume inside a closed mesh of quadrilaterals (n, 4) of points (z, y, x)."""
    a, b, c, d = (points[quads[:, n], ::-1] for n in range(4))
    return float(np.einsum("ij,ij->", a, np.cross(c, d - b))) / 6


def _inflated(
    points: Points, quads: Faces, volume: float, reach: float, shared: NDArray[np.bool_]
) -> Points:
    """Move points along their normals until the enclosed volume is `volume`.

    No point moves farther than `reach` in um, and inwards only a quarter of it, so that the
    thinnest part does not turn inside out. Points of shared quadrilaterals stay.
    """
    middle = points.mean(axis=0)
    here = points - middle
    a, b, c, d = (here[quads[:, n], ::-1] for n in range(4))
    across = np.cross(c - a, d - b)
    at = shares(quads, len(points))
    normals = np.asarray(at @ across)[:, ::-1]
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    normals[(at @ shared.astype(np.float32)) > 0] = 0
    area = float(np.linalg.norm(across[~shared], axis=1).sum()) / 2
    missing = volume - float(np.einsum("ij,ij->", a, np.cross(c, d - b))) / 6
    move, rate = 0.0, area
    # The volume is all but straight in the move: the secant needs a step or two.
    for _ in range(6):
        if abs(missing) <= _TOLERANCE * volume or rate <= 0:
            break
        further = float(np.clip(move + missing / rate, -reach / 4, reach))
        left = volume - _volume(here + further * normals, quads)
        if further == move:
            break
        rate, move, missing = (missing - left) / (further - move), further, left
    return points + move * normals


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
        if candidate.closed or surface.open:
            return candidate
        count *= 2
    return surface


def thinned(surface: Surface, max_error: float) -> Surface:
    """Leave off vertices as long as no point of the surface moves by `max_error` um or more."""
    if max_error <= 0 or surface.open or not surface.sound:
        return surface
    mesh = surface.manifold.simplify(max_error).to_mesh64()
    vertices = np.ascontiguousarray(mesh.vert_properties[:, 2::-1])
    return replace(surface, vertices=vertices, faces=mesh.tri_verts.astype(np.int64))
