"""A stack whose photographs are laid over each other as they are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.placement import Alignment, Placement, placed, source_part
from napari_fossiledit.stacks.pixels import Pixels
from napari_fossiledit.stacks.section import SectionStack, SuggestedGeometry

if TYPE_CHECKING:
    import dask.array as da


class PlacedStack(SectionStack):
    """The slices of another stack in the common frame; those that lie as they are cost nothing.

    Parameters
    ----------
    raw
        The photographs.
    alignment
        Returns where they lie now: it may be another place at each reading.
    """

    def __init__(self, raw: SectionStack, alignment: Callable[[], Alignment]) -> None:
        super().__init__(raw.record())
        self._raw, self._alignment = raw, alignment
        self._cached: dict[int, Placement] = {}

    def read(self, z: int) -> Pixels:
        """Read slice `z` as it lies in the common frame; see `SectionStack.read`."""
        here = self._alignment().at(z)
        if here.is_none:
            return self._raw.read(z)
        pixels = self.cache.get(z) if self._cached.get(z) == here else None
        if pixels is None:
            pixels = placed(self._raw.read(z), here, self._size)
            pixels.setflags(write=False)
            self._cached[z] = here
            self.cache.put(z, pixels)
        return pixels

    def stamp(self, z: int) -> str:
        """Return size and time of the files that hold slice `z`, wherever it lies."""
        return self._raw.stamp(z)

    def levels(self) -> list[da.Array]:
        """Return the stored resolutions, finest first; each part that is asked for is placed."""
        import dask.array as da

        levels = self._raw.levels()
        if not self._alignment().entries:
            return levels
        # A level that mixes slices mixes what is placed apart.
        flat = [level for level in levels if level.shape[0] == len(self)]
        views = (_PlacedLevel(level, self._size, self._alignment) for level in flat)
        return [
            da.from_array(view, chunks=view.raw.chunks, name=False, meta=view.raw._meta)
            for view in views
        ]

    def suggested_geometry(self) -> SuggestedGeometry | None:
        """Return the voxel size that the photographs state."""
        return self._raw.suggested_geometry()

    def warnings(self) -> list[str]:
        """Return what is odd about the photographs."""
        return self._raw.warnings()

    def close(self) -> None:
        """Close the photographs."""
        super().close()
        self._raw.close()

    @property
    def _size(self) -> tuple[int, int]:
        return (self.shape[1], self.shape[2])

    def _decode(self, z: int) -> Pixels:
        return self.read(z)


class _PlacedLevel:
    """A resolution (z, y, x[, 3]) of a stack as dask indexes it: chunk by chunk."""

    def __init__(
        self, raw: da.Array, size: tuple[int, int], alignment: Callable[[], Alignment]
    ) -> None:
        self.raw, self._size, self._alignment = raw, size, alignment
        self.shape, self.dtype, self.ndim = raw.shape, raw.dtype, raw.ndim
        ratio = np.array(size) / raw.shape[1:3]
        halved = 2 ** np.rint(np.log2(ratio))
        # A size that was halved was rounded; other programs reduce by other numbers.
        self._factor = np.where(abs(size / halved - raw.shape[1:3]) < 1, halved, ratio)

    def __getitem__(self, key: tuple[Any, ...]) -> NDArray[Any]:
        slices, rows, columns, *colours = key
        if not isinstance(slices, slice):
            one = self[slice(slices, slices + 1), rows, columns, *colours]
            return np.squeeze(one, axis=0)
        count, height, width = self.shape[:3]
        part = (slice(*rows.indices(height)), slice(*columns.indices(width)))
        chosen = range(*slices.indices(count))
        each: NDArray[Any] = np.stack([self._plane(z, part) for z in chosen])
        return each[(..., *colours)]

    def _plane(self, z: int, part: tuple[slice, slice]) -> NDArray[Any]:
        here = self._alignment().at(z)
        if here.is_none:
            return np.asarray(self.raw[z, part[0], part[1]])
        rows, columns = source_part(here, self._size, part, self._factor, self.shape[1:3])
        image = np.asarray(self.raw[z, rows, columns])
        origin = (rows.start, columns.start)
        return placed(image, here, self._size, part, factor=self._factor, origin=origin)
