"""The last few slices that were read, bounded in bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict

from napari_fossiledit.stacks.pixels import Pixels

#: Five RGB slices of 15 Mpx, so that stepping back and forth decodes nothing twice.
DEFAULT_CACHE_BYTES = 256 * 1024**2


class SliceCache:
    """Least recently used slices of one stack; safe to use from several threads.

    Parameters
    ----------
    budget_bytes
        Most bytes kept. A slice that is larger is not kept at all.
    """

    def __init__(self, budget_bytes: int = DEFAULT_CACHE_BYTES) -> None:
        self.budget_bytes = budget_bytes
        self._bytes = 0
        self._slices: OrderedDict[int, Pixels] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes of pixels that are kept now."""
        return self._bytes

    def get(self, z: int) -> Pixels | None:
        """Return slice `z`, or None where it is not kept."""
        with self._lock:
            if z in self._slices:
                self._slices.move_to_end(z)
            return self._slices.get(z)

    def put(self, z: int, pixels: Pixels) -> None:
        """Keep slice `z`, dropping the least recently used ones."""
        with self._lock:
            self._drop(z)
            if pixels.nbytes > self.budget_bytes:
                return
            while self._bytes + pixels.nbytes > self.budget_bytes:
                self._drop(next(iter(self._slices)))
            self._slices[z] = pixels
            self._bytes += pixels.nbytes

    def clear(self) -> None:
        """Forget every slice."""
        with self._lock:
            self._slices.clear()
            self._bytes = 0

    def _drop(self, z: int) -> None:
        dropped = self._slices.pop(z, None)
        self._bytes -= 0 if dropped is None else dropped.nbytes
