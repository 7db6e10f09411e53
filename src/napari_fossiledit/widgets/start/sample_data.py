"""The sample reef of napari's *File > Open Sample*, made slice by slice when it is looked at."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.params.sample import ReefParams
from napari_fossiledit.samples.reef import Reef, ReefSlice
from napari_fossiledit.stacks.section import as_dask
from napari_fossiledit.widgets.canvas.readers import LayerTuple, placed_in

#: Small enough to be made while the user waits; another seed than the shipped model's.
SAMPLE = ReefParams(slices=12, size=320, seed=7)


class _LazySlices:
    """One array of each slice of a reef, made when it is read."""

    def __init__(
        self, shape: tuple[int, ...], dtype: type[np.generic], read: Callable[[int], NDArray[Any]]
    ) -> None:
        self.shape, self.dtype, self._read = shape, np.dtype(dtype), read

    def read(self, z: int) -> NDArray[Any]:
        return self._read(z)


def open_sample_reef() -> list[LayerTuple]:
    """Return a small reef: photographs (z, y, x, 3) and the true labels of archaeocyathids."""
    reef = Reef(SAMPLE)

    @lru_cache(maxsize=SAMPLE.slices)
    def made(z: int) -> ReefSlice:
        return reef.slice(z)

    shape = SAMPLE.shape_zyx
    image = _LazySlices((*shape, 3), np.uint8, lambda z: made(z).rgb)
    truth = _LazySlices(shape, np.uint32, lambda z: made(z).specimens.astype(np.uint32))
    placed = placed_in(reef.geometry.voxel_size)
    return [
        (as_dask(image), {"name": "Sample reef", "rgb": True, **placed}, "image"),
        (as_dask(truth), {"name": "Archaeocyathids (truth)", "opacity": 0.5, **placed}, "labels"),
    ]
