"""What a window needs later, loaded by a thread while the user looks at it."""

from __future__ import annotations

import functools
import gc
import importlib
import logging
import threading
from typing import Any

import pint
from pint.registry import LazyRegistry
from qtpy.QtCore import QCoreApplication, QTimer
from vispy.visuals.line.dash_atlas import DashAtlas

_log = logging.getLogger(__name__)

# napari imports them with the first layer of a kind: 0.2 to 0.6 s each, in the window's thread.
_LATER = (
    "pandas",
    "dask.array",
    "skimage.measure",
    "skimage.transform",
    "napari._qt.layer_controls.qt_layer_controls_container",
    "napari._vispy.layers.labels",
    "napari._vispy.layers.surface",
    "napari._vispy.overlays.labels_polygon",
    "napari_fossiledit.stacks.ome_zarr",
)
_POLL_MS = 100


@functools.cache
def prewarm() -> None:
    """Import in a thread what layers need, once; then take all that is loaded out of the garbage.

    napari collects garbage whenever a layer is removed, and searches every object of every library
    each time: 0.4 s for one layer.
    """
    thread = threading.Thread(target=_load, name="fossiledit-prewarm", daemon=True)
    # A timer without an event loop would never fire.
    timer = QTimer(QCoreApplication.instance())
    timer.setInterval(_POLL_MS)

    def look() -> None:
        if not thread.is_alive():
            timer.stop()
            gc.freeze()

    timer.timeout.connect(look)
    thread.start()
    timer.start()


def _load() -> None:
    _read_units()
    for name in _LATER:
        try:
            importlib.import_module(name)
        # Other versions of napari have other modules: then they are imported where they are used.
        except ImportError as error:
            _log.debug("%s is not loaded beforehand: %s", name, error)
    # vispy keeps the dash patterns of lines, which take it 0.1 s; each layer of masks has lines.
    DashAtlas()


def _read_units(shared: Any = pint.application_registry) -> None:
    """Read pint's definitions of units, 0.3 s, which napari would read with the first layer.

    Into a registry of its own, put in place once it is whole: a thread that asks the one that is
    being read finds it half read. Where one was asked already, units of two would not mix.
    """
    registry: Any = pint.UnitRegistry()
    if isinstance(shared.get(), LazyRegistry):
        shared.set(registry)
