"""How far surfaces are from the truth, beside plain marching cubes on the voxels.

    python benchmarks/surface_accuracy.py [FOLDER_OF_RLG136A]

First sphere, ellipsoid and torus with a radius of 12 slice steps (the torus: of its tube), then
the real archaeocyaths, if their folder is named: the reference there is the area of the sections
times the slice step.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tifffile
import trimesh
from numpy.typing import NDArray
from skimage.measure import marching_cubes

from napari_fossiledit.geometry import StackGeometry
from napari_fossiledit.masks import Mask
from napari_fossiledit.reef import Section, build_surface

Volume = NDArray[np.bool_]
STEPS = 12
RLG_STEP = 6.874
PIXEL_UM = 72.7


def grid(half: tuple[float, float, float], step: float) -> list[NDArray[np.float64]]:
    """Coordinates in pixels; the middle of the shape lies off the grid."""
    sizes = [math.ceil(h / s) + 2 for h, s in zip(half, (step, 1, 1), strict=True)]
    axes = [(np.arange(-n, n + 1) + o) for n, o in zip(sizes, (0.37, 0.21, -0.13), strict=True)]
    axes[0] = axes[0] * step
    return list(np.meshgrid(*axes, indexing="ij", sparse=True))


def sphere(step: float) -> tuple[Volume, float, float]:
    """Voxels, volume and area of a sphere in pixels."""
    r = STEPS * step
    z, y, x = grid((r, r, r), step)
    return z**2 + y**2 + x**2 <= r**2, 4 / 3 * math.pi * r**3, 4 * math.pi * r**2


def ellipsoid(step: float) -> tuple[Volume, float, float]:
    """Voxels, volume and area (from a fine mesh) of an ellipsoid in pixels."""
    a, b, c = STEPS * step, 1.5 * STEPS * step, 1.2 * STEPS * step
    z, y, x = grid((a, b, c), step)
    fine = trimesh.creation.icosphere(subdivisions=6).apply_scale((a, b, c))
    inside = (z / a) ** 2 + (y / b) ** 2 + (x / c) ** 2 <= 1
    return inside, 4 / 3 * math.pi * a * b * c, float(fine.area)


def torus(step: float) -> tuple[Volume, float, float]:
    """Voxels, volume and area of a lying torus in pixels."""
    r, ring = STEPS * step, 2.2 * STEPS * step
    z, y, x = grid((r, ring + r, ring + r), step)
    inside = (np.hypot(y, x) - ring) ** 2 + z**2 <= r**2
    return inside, 2 * math.pi**2 * ring * r**2, 4 * math.pi**2 * ring * r


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


def shapes() -> Iterator[str]:
    """Rows of the table of analytic shapes."""
    makers: tuple[Callable[[float], tuple[Volume, float, float]], ...] = (sphere, ellipsoid, torus)
    for step in (1.0, 7.0):
        for make in makers:
            inside, volume, area = make(step)
            start = time.perf_counter()
            ours = build_surface(sections(inside), StackGeometry(1.0, step))
            seconds = time.perf_counter() - start
            other = plain(inside, step)
            yield (
                f"| {make.__name__} {step:.0f}:1 | {inside.sum() * step / volume - 1:+.2%} "
                f"| {ours.volume_um3 / volume - 1:+.2%} | {ours.area_um2 / area - 1:+.2%} "
                f"| {ours.closed} | {other.volume / volume - 1:+.2%} "
                f"| {other.area / area - 1:+.2%} | {other.is_watertight} | {seconds:.1f} |"
            )


def individuals(folder: Path) -> Iterator[str]:
    """Rows of the table of real archaeocyaths."""
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
    print("| shape | voxels V | V | S | closed | plain V | plain S | closed | s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in shapes():
        print(row, flush=True)
    if len(sys.argv) > 1:
        print("\n| rlg136a | mm3 | V | mm2 | closed | plain V | plain mm2 | closed |")
        print("|---|---|---|---|---|---|---|---|")
        for row in individuals(Path(sys.argv[1])):
            print(row, flush=True)


if __name__ == "__main__":
    main()
