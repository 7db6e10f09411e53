"""What linking, meshing and measuring cost, beside marching cubes in the box of each specimen.

    python benchmarks/reef_cost.py [SLICES [SPECIMENS]]
    python benchmarks/reef_cost.py engines

A synthetic reef of 3 000 slices of 800 x 1 200 pixels and 2 000 specimens: leaning tubes, every
second one hollow, some of which touch. Labels are made slice by slice and only their run lengths
are held. Times are those of the processor, one thread, without making the labels. Marching cubes
(scikit-image, on the 8-bit crop of each specimen) neither smooths, nor parts touching specimens,
nor keeps volumes; its time is given without and with decoding the masks into the crop.

``engines`` compares what finds a surface, all else left out, on a ball of 96 pixels: the lattice of
this program, scikit-image and, where it is installed, vtk.
"""

from __future__ import annotations

import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from skimage.measure import marching_cubes

from napari_fossiledit.geometry import StackGeometry
from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.reef import NEAR, build_surface, link, measure, sections_of
from napari_fossiledit.reef.lattice import crossings, shares
from napari_fossiledit.reef.sections import Section, bounding_box

SHAPE = (800, 1200)
GEOMETRY = StackGeometry(50.0, 50.0)
LENGTHS, RADII, LEAN = (100, 300), (8, 24), 0.5


def tubes(slices: int, count: int) -> Iterator[list[Instance]]:
    """Yield the instances of one slice after the other."""
    rng = np.random.default_rng(1)
    length = rng.integers(*LENGTHS, count)
    begin = rng.integers(0, max(1, slices - LENGTHS[0]), count)
    radius = rng.uniform(*RADII, count)
    place = rng.uniform((0, 0), SHAPE, (count, 2))
    lean = rng.uniform(-LEAN, LEAN, (count, 2))
    number = 0
    for z in range(slices):
        there = np.flatnonzero((begin <= z) & (z < begin + length))
        labels = np.zeros(SHAPE, dtype=np.int32)
        boxes = {}
        for n in there.tolist():
            part = (z - begin[n]) / length[n]
            r = radius[n] * (0.5 + 0.5 * part + 0.1 * np.sin(9 * part + n))
            y, x = place[n] + lean[n] * (z - begin[n])
            y0, x0 = max(0, int(y - r - 1)), max(0, int(x - r - 1))
            window = (slice(y0, max(y0, int(y + r + 2))), slice(x0, max(x0, int(x + r + 2))))
            crop = labels[window]
            if not crop.size:
                continue
            rows, columns = np.ogrid[y0 : y0 + crop.shape[0], x0 : x0 + crop.shape[1]]
            apart = np.hypot(rows - y, (columns - x) / 1.2)
            # Who came first keeps the pixel: the later one touches it.
            crop[(apart <= r / 1.2) & (crop == 0)] = n + 1
            boxes[n] = window, apart <= 0.4 * r
        found = []
        for n, (window, middle) in boxes.items():
            mask = labels[window] == n + 1
            if not mask.any():
                continue
            origin = (window[0].start, window[1].start)
            number += 1
            body = number
            found.append(Instance(z, "cup", Mask.from_crop(mask, origin, SHAPE), id=body))
            if n % 2 and (mask & middle).any():
                number += 1
                inner = Mask.from_crop(mask & middle, origin, SHAPE)
                found.append(Instance(z, "cup", inner, part=Part.CAVITY, parent=body, id=number))
        yield found


def touching(specimens: dict[int, list[Section]]) -> dict[int, list[int]]:
    """Return which specimens may touch, by the boxes of their sections."""
    boxes = defaultdict(list)
    for number, sections in specimens.items():
        for section in sections:
            boxes[section.slice].append((*section.body.box, number))
    found = defaultdict(set)
    for z in sorted(boxes):
        here = np.array(boxes[z])
        there = np.array([b for k in (z - 1, z, z + 1) for b in boxes.get(k, ())])
        near = np.ones((len(here), len(there)), dtype=np.bool_)
        for low, high in ((0, 2), (1, 3)):
            near &= here[:, None, low] < there[None, :, high] + NEAR
            near &= there[None, :, low] < here[:, None, high] + NEAR
        for i, j in np.argwhere(near).tolist():
            if here[i, 4] != there[j, 4]:
                found[int(here[i, 4])].add(int(there[j, 4]))
    return {k: sorted(v) for k, v in found.items()}


def engines() -> None:
    """Print how long a bare surface takes, the best of five."""
    z, y, x = np.ogrid[-55:55, -55:55, -55:55]
    inside = (z * z + y * y + x * x < 48**2).astype(np.uint8)

    def own() -> int:
        found = crossings(inside)
        nodes = np.stack(np.unravel_index(found.low, inside.shape), 1).astype(np.float32)
        _ = shares(found.quads, found.count + 1) @ nodes
        return 2 * len(found.quads)

    makers: dict[str, Callable[[], int]] = {
        "lattice": own,
        "scikit-image": lambda: len(marching_cubes(inside, 0.5)[1]),
    }
    if find_spec("vtk"):
        import vtk
        from vtk.util.numpy_support import numpy_to_vtk

        def filtered(name: str, values: Any, **options: tuple[Any, ...]) -> int:
            image, maker = vtk.vtkImageData(), getattr(vtk, name)()
            image.SetDimensions(values.shape[::-1])
            image.GetPointData().SetScalars(numpy_to_vtk(values.ravel()))
            maker.SetInputData(image)
            for option, value in options.items():
                getattr(maker, option)(*value)
            maker.Update()
            return int(maker.GetOutput().GetNumberOfPolys())

        for smooth in (True, False):
            makers[f"vtk surface nets, {'smoothed' if smooth else 'bare'}"] = partial(
                filtered, "vtkSurfaceNets3D", inside, SetValue=(0, 1), SetSmoothing=(smooth,)
            )
        floats = inside.astype(np.float32)
        options = {"SetValue": (0, 0.5), "SetComputeNormals": (False,)}
        makers["vtk flying edges"] = partial(filtered, "vtkFlyingEdges3D", floats, **options)
    for name, make in makers.items():
        times = []
        for _ in range(5):
            start = time.process_time()
            faces = make()
            times.append(time.process_time() - start)
        print(f"| {name} | {1000 * min(times):.1f} ms | {faces} |")


def main() -> None:
    """Print the table."""
    if sys.argv[1:] == ["engines"]:
        engines()
        return
    slices, count = (int(v) for v in (*sys.argv[1:], 3000, 2000)[:2])
    if len(sys.argv) == 2:
        count = slices * 2 // 3
    start = time.process_time()
    stack = list(tubes(slices, count))
    instances = sum(map(len, stack))
    seconds = {"labels": time.process_time() - start}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    start = time.process_time()
    numbers = link(stack).specimens
    seconds["link"] = time.process_time() - start

    start = time.process_time()
    members = defaultdict(list)
    for items in stack:
        for item in items:
            if (number := numbers.get(item.id)) is not None:
                members[number].append(item)
    specimens = {n: sections_of(items) for n, items in members.items()}
    near = touching(specimens)
    seconds["sections"] = time.process_time() - start

    seconds |= dict.fromkeys(("mesh", "measure", "decode", "marching cubes"), 0.0)
    faces = other_faces = closed = 0
    off = []
    for number, sections in specimens.items():
        clock = [time.process_time()]
        surface = build_surface(
            sections, GEOMETRY, near=[specimens[n] for n in near.get(number, ())]
        )
        clock.append(time.process_time())
        row = measure(number, members[number], GEOMETRY, surface)
        clock.append(time.process_time())
        box = bounding_box(sections)
        first = sections[0].slice
        crop = np.zeros(
            (sections[-1].slice - first + 3, box[2] - box[0] + 2, box[3] - box[1] + 2), np.uint8
        )
        for section in sections:
            crop[section.slice - first + 1, 1:-1, 1:-1] = section.pixels(box, cavities=True)
        clock.append(time.process_time())
        found = marching_cubes(crop, 0.5)
        clock.append(time.process_time())
        for what, took in zip(
            ("mesh", "measure", "decode", "marching cubes"), np.diff(clock), strict=True
        ):
            seconds[what] += float(took)
        faces += len(surface.faces)
        other_faces += len(found[1])
        closed += bool(row.mesh_closed)
        off.append(abs(surface.volume_um3 / surface.contour_volume_um3 - 1))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    ours = sum(seconds[w] for w in ("link", "sections", "mesh", "measure"))
    plain = seconds["marching cubes"]
    print(
        f"{slices} slices, {instances} instances, {len(specimens)} specimens ({len(near)} near"
        f" another), {closed} closed, {faces / 1e6:.1f} million faces (marching cubes"
        f" {other_faces / 1e6:.1f}); volume off by {np.median(off):.2e} (median),"
        f" {np.percentile(off, 99):.2e} (99 of 100)"
    )
    print(" | ".join(f"{what} {took:.1f} s" for what, took in seconds.items()))
    print(
        f"all {ours:.1f} s, {1000 * ours / slices:.1f} ms a slice; memory {peak:.2f} GB, of which"
        f" masks and libraries {before:.2f} GB"
    )
    print(
        f"marching cubes against meshing: {plain / seconds['mesh']:.2f} x, with decoding"
        f" {(plain + seconds['decode']) / seconds['mesh']:.2f} x"
    )


if __name__ == "__main__":
    main()
