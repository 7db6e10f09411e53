"""How far surfaces are from the truth, and whether those of touching bodies share their face.

    python benchmarks/surfaces.py [FOLDER_OF_RLG136A]

Sphere, ellipsoid, torus, a leaning hollow cup and a Y-branch, 12 slice steps in radius (cup and
branch: 12 and 6 steps), sampled at 1, 3 and 7 pixels a slice step, beside plain marching cubes on
the voxels. Then two bodies that touch, with and without knowing of each other. Then the real
archaeocyaths, if their folder is named: the reference there is the area of the sections times the
slice step.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import manifold3d
import numpy as np
import tifffile
import trimesh
from manifold3d import CrossSection, Manifold
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

from napari_fossiledit.geometry import StackGeometry
from napari_fossiledit.masks import Mask
from napari_fossiledit.reef import Section, Surface, build_surface

Volume = NDArray[np.bool_]
Grid = list[NDArray[np.float64]]
R = 12.0
FINE = 512
"""Segments of a circle of the truth."""
RLG_STEP = 6.874
PIXEL_UM = 72.7
#: The middle of a shape lies off the grid.
OFFSETS = (0.37, 0.21, -0.13)


@dataclass(frozen=True)
class Shape:
    """A body in slice steps: whether points (x, y, z) are inside, and its surface."""

    name: str
    inside: Callable[[Any, Any, Any], Any]
    truth: Manifold


def ball(radius: float, scale: tuple[float, float, float] = (1, 1, 1)) -> Manifold:
    """Return an ellipsoid with fine faces."""
    solid = trimesh.creation.icosphere(subdivisions=6, radius=radius).apply_scale(scale)
    mesh = manifold3d.Mesh64(np.array(solid.vertices), np.array(solid.faces, dtype=np.uint64))
    return Manifold(mesh)


def capsule(start: NDArray[np.float64], end: NDArray[np.float64], radius: float) -> Manifold:
    """Return everything within `radius` of a line."""
    middle = Manifold.cylinder(float(np.linalg.norm(end - start)), radius, -1, FINE)
    way = (end - start) / np.linalg.norm(end - start)
    turned = np.eye(4)[:3]
    turned[:, :3] = trimesh.geometry.align_vectors((0, 0, 1), way)[:3, :3]
    ends = [ball(radius).translate(p) for p in (start, end)]
    return middle.transform(turned).translate(start) + ends[0] + ends[1]


def along(start: NDArray[np.float64], end: NDArray[np.float64], *p: Any) -> Any:
    """Return the distance of points from a line."""
    way, at = end - start, [v - s for v, s in zip(p, start, strict=True)]
    t = np.clip(sum(a * w for a, w in zip(at, way, strict=True)) / (way @ way), 0, 1)
    return np.sqrt(sum((a - t * w) ** 2 for a, w in zip(at, way, strict=True)))


def shapes() -> list[Shape]:
    """Return the bodies with their truth."""
    tube = CrossSection.circle(R / 2, FINE).translate((1.6 * R, 0))
    lean, wall = math.radians(20), R / 6
    # A round wall along a profile (radius, z).
    profile = [(0.0, -R), (0.4 * R, -R), (0.85 * R, R)]

    def cup(x: Any, y: Any, z: Any) -> Any:
        x, z = math.cos(lean) * x - math.sin(lean) * z, math.sin(lean) * x + math.cos(lean) * z
        at = (np.hypot(x, y), z)
        return np.min([along(*map(np.array, p), *at) for p in pairwise(profile)], axis=0) <= wall

    discs = [CrossSection.circle(wall, FINE).translate(p) for p in profile]
    walls = [CrossSection.batch_hull(list(pair)) for pair in pairwise(discs)]
    foot, fork = np.array([0.0, 0, -2 * R]), np.zeros(3)
    tips = [np.array([s * R, 0.3 * R, 1.6 * R]) for s in (-1, 1)]
    limbs = [(foot, fork), (fork, tips[0]), (fork, tips[1])]
    limb = R / 2
    branches = [capsule(a, b, limb) for a, b in limbs]
    return [
        Shape("sphere", lambda x, y, z: x**2 + y**2 + z**2 <= R**2, ball(R)),
        Shape(
            "ellipsoid",
            lambda x, y, z: (x / 1.5) ** 2 + (y / 1.2) ** 2 + z**2 <= R**2,
            ball(R, (1.5, 1.2, 1)),
        ),
        Shape(
            "torus",
            lambda x, y, z: (np.hypot(x, y) - 1.6 * R) ** 2 + z**2 <= (R / 2) ** 2,
            tube.revolve(FINE),
        ),
        # Lean is about y.
        Shape("hollow cup", cup, (walls[0] + walls[1]).revolve(FINE).rotate((0, 20, 0))),
        Shape(
            "Y-branch",
            lambda x, y, z: np.min([along(a, b, x, y, z) for a, b in limbs], axis=0) <= limb,
            branches[0] + branches[1] + branches[2],
        ),
    ]


def grid(truth: Manifold, step: float) -> Grid:
    """Coordinates (z, y, x) in slice steps of the nodes around a body, `step` pixels a step."""
    low, high = np.array(truth.bounding_box()).reshape(2, 3)
    axes = []
    for axis, each, offset in zip((2, 1, 0), (1, 1 / step, 1 / step), OFFSETS, strict=True):
        first, last = math.floor(low[axis] / each) - 2, math.ceil(high[axis] / each) + 3
        axes.append((np.arange(first, last) + offset) * each)
    return list(np.meshgrid(*axes, indexing="ij", sparse=True))


def sections(body: Volume, cavity: Volume | None = None) -> list[Section]:
    """Sections of a volume, as masks."""
    found = []
    for z in np.flatnonzero(body.any(axis=(1, 2))).tolist():
        inner = None if cavity is None else Mask.from_array(cavity[z] & body[z])
        found.append(Section(z, Mask.from_array(body[z]), inner))
    return found


def plain(volume: Volume, step: float) -> trimesh.Trimesh:
    """Marching cubes at one half on the padded voxels."""
    padded = np.pad(volume, 1).astype(np.float32)
    vertices, faces, _, _ = marching_cubes(
        padded, 0.5, spacing=(step, 1, 1), gradient_direction="descent"
    )
    return trimesh.Trimesh(vertices[:, ::-1], faces, process=False)


def hausdorff(one: trimesh.Trimesh, other: trimesh.Trimesh) -> float:
    """Largest distance of a point of either surface from the other, from 300 000 points each."""
    clouds = [trimesh.sample.sample_surface(m, 300_000, seed=0)[0] for m in (one, other)]
    pairs = (clouds, clouds[::-1])
    return max(float(cKDTree(b).query(a[::10])[0].max()) for a, b in pairs)


def solid(surface: Manifold) -> trimesh.Trimesh:
    """Return a mesh as trimesh has it."""
    mesh = surface.to_mesh64()
    return trimesh.Trimesh(mesh.vert_properties[:, :3], mesh.tri_verts, process=False)


def analytic() -> Iterator[str]:
    """Rows of the table of bodies whose truth is known."""
    yield "| shape | V | S | Hausdorff, steps | closed | plain V | plain S | plain Hausdorff | s |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for step in (1, 3, 7):
        for shape in shapes():
            z, y, x = grid(shape.truth, step)
            inside = shape.inside(x, y, z)
            start = time.process_time()
            ours = build_surface(sections(inside), StackGeometry(1 / step, 1.0))
            seconds = time.process_time() - start
            truth, corner = solid(shape.truth), [v.ravel()[0] for v in (x, y, z)]
            other = plain(inside, step).apply_scale(1 / step)
            # Padding by a voxel, a slice step along z.
            other.apply_translation(np.array(corner) - [1 / step, 1 / step, 1])
            mesh = ours.solid.copy().apply_translation(corner)
            yield (
                f"| {shape.name} {step}:1 | {ours.volume_um3 / truth.volume - 1:+.2%} "
                f"| {ours.area_um2 / truth.area - 1:+.2%} | {hausdorff(mesh, truth):.2f} "
                f"| {ours.closed and mesh.is_watertight} | {other.volume / truth.volume - 1:+.2%} "
                f"| {other.area / truth.area - 1:+.2%} | {hausdorff(other, truth):.2f} "
                f"| {seconds:.1f} |"
            )


def touching() -> Iterator[str]:
    """Rows of the table of two bodies that touch."""
    yield "| bodies | overlap | gap | volumes | overlap alone | gap alone |"
    yield "|---|---|---|---|---|---|"
    line = [np.array([s * R, 0, -1.6 * R]) for s in (-1, 1)]
    tops = [np.array([s * 0.45 * R, 0, 1.6 * R]) for s in (-1, 1)]
    grown = [capsule(a, b, R / 2) for a, b in zip(line, tops, strict=True)]
    bodies: list[tuple[str, Manifold, Callable[[Any, Any, Any], Any]]] = [
        ("ball cut by a plane", ball(R), lambda x, y, z: 0.5 * x + 0.3 * y + z - 0.1 * R),
        (
            "grown together obliquely",
            grown[0] + grown[1],
            lambda x, y, z: along(line[0], tops[0], x, y, z) - along(line[1], tops[1], x, y, z),
        ),
    ]
    for step in (1, 3, 7):
        for name, truth, side in bodies:
            z, y, x = grid(truth, step)
            whole = (
                x**2 + y**2 + z**2 <= R**2
                if name.startswith("ball")
                else np.min([along(a, b, x, y, z) for a, b in zip(line, tops, strict=True)], axis=0)
                <= R / 2
            )
            halves = [sections(whole & (side(x, y, z) < 0)), sections(whole & (side(x, y, z) >= 0))]
            geometry = StackGeometry(1 / step, 1.0)
            union = build_surface(sections(whole), geometry)
            figures = []
            for known in (True, False):
                pair = [
                    build_surface(h, geometry, near=[other] if known else [])
                    for h, other in zip(halves, halves[::-1], strict=True)
                ]
                figures.append((*overlap_and_gap(union, *pair), pair))
            (over, gap, pair), (over_alone, gap_alone, _) = figures
            volumes = " ".join(f"{p.volume_um3 / p.contour_volume_um3 - 1:+.2%}" for p in pair)
            yield (
                f"| {name} {step}:1 | {over:.3%} | {gap:.3%} | {volumes} "
                f"| {over_alone:.3%} | {gap_alone:.3%} |"
            )


def overlap_and_gap(union: Surface, one: Surface, other: Surface) -> tuple[float, float]:
    """Return the volumes that two meshes share, and that both lack, as shares of the smaller.

    What is looked for is a gap between them: the union of both is compared well inside the mesh of
    the whole, a slice step below its surface.
    """
    smaller = min(one.volume_um3, other.volume_um3)
    normals = np.asarray(union.solid.vertex_normals)[:, ::-1]
    inner = Surface(union.vertices - normals, union.faces, 0.0)
    gap = (inner.manifold - one.manifold - other.manifold).volume()
    return (one.manifold ^ other.manifold).volume() / smaller, gap / smaller


def individuals(folder: Path) -> Iterator[str]:
    """Rows of the table of real archaeocyaths."""
    yield "| rlg136a | mm3 | V | mm2 | closed | plain V | plain mm2 | closed |"
    yield "|---|---|---|---|---|---|---|---|"
    outer = tifffile.imread(folder / "rlg136a_outer_labels_zyx.tif")
    inner = tifffile.imread(folder / "rlg136a_inner_labels_zyx.tif")
    geometry = StackGeometry(PIXEL_UM, PIXEL_UM * RLG_STEP)
    for value in range(1, int(outer.max()) + 1):
        where = np.nonzero(outer == value)
        box = tuple(slice(int(i.min()), int(i.max()) + 1) for i in where)
        body, cavity = outer[box] == value, inner[box] == value
        for what, hollow in (("body", None), ("wall", cavity)):
            ours = build_surface(sections(body, hollow), geometry)
            other = plain(body if hollow is None else body & ~hollow, RLG_STEP)
            contours = ours.contour_volume_um3
            yield (
                f"| {value} {what} | {contours / 1e9:.1f} | {ours.volume_um3 / contours - 1:+.2%} "
                f"| {ours.area_um2 / 1e6:.0f} | {ours.closed} "
                f"| {other.volume * PIXEL_UM**3 / contours - 1:+.2%} "
                f"| {other.area * PIXEL_UM**2 / 1e6:.0f} | {other.is_watertight} |"
            )


def main() -> None:
    """Print the tables."""
    tables = [analytic(), touching()]
    if len(sys.argv) > 1:
        tables.append(individuals(Path(sys.argv[1])))
    for table in tables:
        for row in table:
            print(row, flush=True)
        print()


if __name__ == "__main__":
    main()
