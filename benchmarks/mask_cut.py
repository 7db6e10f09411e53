"""How long the slider of the mask cut holds up the window, and what probabilities take on disk.

    xvfb-run -s '-screen 0 1600x1000x24' python benchmarks/mask_cut.py [--instances 300]

A real window, a slice of 4809 x 3173 pixels, instances as large as those of `brush.py`. Seconds of
the window's thread from the slider's signal until the slice is painted again, and until it is drawn
(no graphics card is needed here), on the wall and of the processor: medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import napari
import numpy as np
from brush import SHAPE
from qtpy.QtWidgets import QApplication

from napari_fossiledit.masks import Instance, Origin
from napari_fossiledit.masks.probability import Piece, ProbabilityMask
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import Project
from napari_fossiledit.stacks.blank import BlankStack
from napari_fossiledit.widgets.canvas.layers import Role, find
from napari_fossiledit.widgets.canvas.project_view import open_project
from napari_fossiledit.widgets.common.session import session_of
from napari_fossiledit.widgets.segment.score_picker import ScorePicker

_SOURCE = "model:toy:0123456789ab"


def predictions(count: int) -> list[Instance]:
    """Return instances with soft, wavy borders."""
    random = np.random.default_rng(0)
    dy, dx = np.mgrid[-1:1:28j, -1:1:28j]
    away = np.hypot(dy, dx) + 0.1 * np.sin(9 * np.arctan2(dy, dx))
    made = []
    for _ in range(count):
        radius = int(random.integers(40, 110))
        y, x = (int(random.integers(0, n - 2 * radius)) for n in SHAPE[1:])
        soft = 255 / (1 + np.exp(random.uniform(10, 30) * (away - 0.8)))
        box = (float(x), float(y), float(x + 2 * radius), float(y + 2 * radius))
        kept = ProbabilityMask((Piece(box, np.rint(soft).astype(np.uint8)),))
        mask, score = kept.cut(0.5, SHAPE[1:]), float(random.random())
        made.append(Instance(0, "a", mask, score=score, origin=Origin.MODEL, probability=kept))
    return made


def main() -> None:
    """Print a row for the mask cut and one for the score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=300)
    args = parser.parse_args()
    viewer = napari.Viewer()
    viewer.window.resize(1500, 900)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "toy.fossil"
        stack = BlankStack.of_shape(Path(folder) / "blank", SHAPE)
        with Project.create(path, stack, NewParams(pixel_size=1, slice_spacing=1)) as project:
            found = predictions(args.instances)
            project.ledger.store(_SOURCE, 0, found)
        sizes = [len(i.probability.to_bytes()) for i in found if i.probability is not None]
        masks = [len(i.mask.counts) for i in found]
        print(
            f"{args.instances} instances: {sum(sizes):,} bytes of probabilities"
            f" ({statistics.mean(sizes):.0f} each), {sum(masks):,} bytes of masks"
        )
        session = session_of(viewer)
        open_project(session, path)
        image = find(viewer, Role.IMAGE)
        if image is not None:
            image.visible = False
        picker = ScorePicker(session)
        picker.refresh()
        viewer.dims.set_point(0, 0)
        QApplication.processEvents()
        print("| slider | painted | drawn | painted, processor | drawn, processor |")
        print("|---|---|---|---|---|")
        for name, slider in (("mask cut", picker.cut), ("score", picker.slider)):
            slider.setValue(0.52)
            rows = []
            for value in np.linspace(0.3, 0.8, 11):
                start, busy = time.perf_counter(), time.process_time()
                slider.setValue(round(float(value), 2))
                painted = time.perf_counter() - start, time.process_time() - busy
                QApplication.processEvents()
                drawn = time.perf_counter() - start, time.process_time() - busy
                rows.append((painted[0], drawn[0], painted[1], drawn[1]))
            medians = [f"{statistics.median(c):.3f}" for c in zip(*rows, strict=True)]
            print(f"| {name} | {' | '.join(medians)} |", flush=True)
        session.close()
    viewer.close()


if __name__ == "__main__":
    main()
