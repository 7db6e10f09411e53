"""How long a stroke of the brush and a step to another slice hold up the window.

    xvfb-run -s '-screen 0 1600x1000x24' python benchmarks/brush.py [--instances 500]

A real window, and slices of 4809 x 3173 pixels. The old way, a zarr array of labels that napari
paints into, stands beside instances of the ledger that are painted when they are shown. Each figure
is the median of some runs, in seconds of the window's thread; drawing on the screen, which needs
no graphics card here, is a column of its own.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import napari
import numpy as np
import zarr
from napari.layers import Labels
from qtpy.QtWidgets import QApplication

from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.masks.labels import paint_masks
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.stacks.blank import BlankStack
from napari_fossiledit.widgets.canvas import correcting
from napari_fossiledit.widgets.canvas.flat import FlatArray
from napari_fossiledit.widgets.canvas.layers import Role, find, in_3d
from napari_fossiledit.widgets.canvas.project_view import open_project
from napari_fossiledit.widgets.common.session import session_of

SHAPE = (3, 3173, 4809)
#: Pixels between two positions of the mouse that the window gets to know.
_MOVE = 12
#: Longer strokes take the old way minutes.
_MINUTES = ("outline of radius 300", "stroke across the slice")
Path2D = list[tuple[float, float]]


def blob(radius: int, y: int, x: int) -> Mask:
    """Return a wavy disk."""
    dy, dx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    edge = radius * (0.85 + 0.15 * np.sin(9 * np.arctan2(dy, dx)))
    return Mask.from_crop(np.hypot(dy, dx) < edge, (y, x), SHAPE[1:])


def blobs(count: int, z: int) -> list[Instance]:
    """Return instances that overlap here and there."""
    random = np.random.default_rng(z)
    made = []
    for _ in range(count):
        radius = int(random.integers(40, 110))
        y, x = (int(random.integers(0, n - 2 * radius)) for n in SHAPE[1:])
        made.append(Instance(z, "archaeocyathid", blob(radius, y, x)))
    return made


def line(length: int, y: float = 1500, x: float = 60) -> Path2D:
    """Return positions of the mouse along a wavy line."""
    return [(y + 40 * np.sin(d / 90), x + d) for d in range(0, length, _MOVE)]


def outline(radius: int) -> Path2D:
    """Return positions of the mouse around a circle."""
    angles = np.arange(0, 2 * np.pi, _MOVE / radius)
    return [(1500 + radius * np.sin(a), 2400 + radius * np.cos(a)) for a in angles]


def stroke(layer: Labels, z: int, path: Path2D) -> None:
    """Paint along a path as napari's brush does between pressing and releasing the button."""
    scaled = [np.array((z, *point)) for point in path]
    with layer.block_history():
        for last, here in zip([scaled[0], *scaled], scaled, strict=False):
            layer._draw(layer.selected_label, last, here)


def timed(*calls: Callable[[], object]) -> list[float]:
    """Return the seconds of each call."""
    taken = []
    for call in calls:
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return taken


def medians(runs: list[list[float]]) -> str:
    """Return the median of each column, as cells of a table."""
    return " | ".join(f"{statistics.median(column):.3f}" for column in zip(*runs, strict=True))


def main() -> None:
    """Print a table for both ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=500)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    viewer = napari.Viewer()
    viewer.window.resize(1500, 900)

    def draw() -> None:
        QApplication.processEvents()

    print("| way | action | of the program | saved | on the screen |\n|---|---|---|---|---|")

    def report(way: str, layer: Labels, new: Callable[[], int], save: Callable[[], object]) -> None:
        layer.brush_size, layer.mode = 10, "paint"
        viewer.layers.selection = {layer}
        shown = [
            timed(partial(viewer.dims.set_point, 0, z), save, draw) for z in (2, 1) * args.runs
        ]
        print(f"| {way} | another slice, {args.instances} instances | {medians(shown[1::2])} |")
        ways = {
            "stroke of 600 pixels": lambda n: line(600, 900 + 60 * n),
            "outline of radius 300": lambda n: outline(300 + 20 * n),
            "stroke across the slice": lambda n: line(4700, 2100 + 60 * n),
        }
        for name, path in ways.items():
            if way == "zarr" and name in _MINUTES:
                continue
            runs = []
            for n in range(args.runs):
                layer.selected_label = new()
                runs.append(timed(partial(stroke, layer, 1, path(n)), save, draw))
            print(f"| {way} | {name} | {medians(runs)} |", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "toy.fossil"
        stack = BlankStack.of_shape(Path(folder) / "blank", SHAPE)
        with Project.create(path, stack, NewParams(pixel_size=1, slice_spacing=1)) as project:
            for z in (0, 1):
                project.ledger.store(ANNOTATIONS, z, blobs(args.instances, z))

        old = zarr.create_array(
            Path(folder) / "labels.zarr", shape=SHAPE, chunks=(1, 512, 512), dtype=np.uint32
        )
        for z in (0, 1):
            masks = [i.mask for i in blobs(args.instances, z)]
            old[z] = paint_masks(masks, range(1, len(masks) + 1), SHAPE[1:])
        ids = iter(range(100_000, 200_000))
        layer = Labels(FlatArray(old, in_3d(viewer)))
        viewer.add_layer(layer)

        report("zarr", layer, lambda: next(ids), lambda: None)
        viewer.layers.clear()

        session = session_of(viewer)
        open_project(session, path)
        image = find(viewer, Role.IMAGE)
        if image is not None:
            image.visible = False
        report(
            "instances",
            correcting.edit(session),
            partial(correcting.new_instance, session),
            partial(correcting.save, session),
        )
        session.close()
    viewer.close()


if __name__ == "__main__":
    main()
