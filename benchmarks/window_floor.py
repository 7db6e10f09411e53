"""What napari alone takes for the steps that freeze our window: photographs, masks, 3D, no plugin.

xvfb-run -s '-screen 0 1600x1000x24' python benchmarks/window_floor.py HEIGHT WIDTH
"""

from __future__ import annotations

import sys

import napari
import numpy as np
from qtpy.QtWidgets import QApplication

# The same modules are loaded as where the plugin opens a window.
import napari_fossiledit.widgets.start.window  # noqa: F401
from tests.widgets.heartbeat import Heartbeat, settle

_SCALE, _SLICES = (500.0, 72.7, 72.7), 6


def steps(beat: Heartbeat, height: int, width: int) -> None:
    """Go through the steps with arrays in memory, so that nothing is read or painted."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 255, (_SLICES, height // 16 + 1, width // 16 + 1, 3), np.uint8)
    photographs = coarse.repeat(16, 1).repeat(16, 2)[:, :height, :width]
    masks = np.zeros(photographs.shape[:3], np.uint32)
    masks[:, height // 4 : height // 2, width // 4 : width // 2] = 3
    triangle = np.array([[0, 0, 0], [0, 9e4, 9e4], [2e3, 0, 5e4]]), np.array([[0, 1, 2]])
    with beat.step("open the window"):
        viewer = napari.Viewer()
        viewer.window.resize(1500, 950)
    settle(3)
    with beat.step("add the photographs"):
        viewer.add_image(photographs, rgb=True, scale=_SCALE)
    with beat.step("add a layer of masks, the first"):
        viewer.add_labels(masks, scale=_SCALE)
    with beat.step("add another"):
        viewer.add_labels(masks.copy(), scale=_SCALE)
    with beat.step("move through the slices"):
        for z in range(_SLICES):
            viewer.dims.set_point(0, z * _SCALE[0])
            settle(0.1)
    for layer in viewer.layers:
        layer.visible = False
    settle()
    with beat.step("turn to 3D"):
        viewer.dims.ndisplay = 3
    with beat.step("add a surface"):
        surface = viewer.add_surface(triangle)
    with beat.step("remove it, back to the photographs"):
        viewer.layers.remove(surface)
        viewer.dims.ndisplay = 2
        viewer.layers[0].visible = True
    with beat.step("remove three layers"):
        viewer.layers.clear()
    with beat.step("add the photographs again"):
        viewer.add_image(photographs, rgb=True, scale=_SCALE)
    with beat.step("close the window"):
        viewer.close()


if __name__ == "__main__":
    application = QApplication.instance() or QApplication(sys.argv)
    heart = Heartbeat()
    try:
        steps(heart, *map(int, sys.argv[1:3]))
    finally:
        heart.stop()
        sys.stdout.write(f"{heart.table}\n")
