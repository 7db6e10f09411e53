"""Predictions as an array whose slices are painted from the ledger when they are shown."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.masks import Instance
from napari_fossiledit.masks.labels import paint_masks, paint_order
from napari_fossiledit.masks.probability import MASK_CUT

Labels = NDArray[np.uint32]
Ranks = NDArray[np.uint16]
ReadSlice = Callable[[int], list[Instance]]
Seen = Callable[[int, Sequence[Instance]], object]

# Where napari adds a layer it asks for the first slice and the one on show in turn; the next one is
# made ready meanwhile.
_KEPT = 3
# Larger slices are painted coarser: napari takes 12 ms per million label pixels to show another
# threshold.
_MOST_PIXELS = 4_000_000


@dataclass(frozen=True)
class PaintedSlice:
    """One slice with all its instances painted, whatever their score.

    Attributes
    ----------
    ranks
        Array (y, x): 0, or 1 + the position of the topmost instance in `instances`.
    instances
        Instances by falling score.
    """

    ranks: Ranks
    instances: tuple[Instance, ...]

    def above(self, score: float) -> Labels:
        """Return ids (y, x) of the instances with scores >= `score`, 0 elsewhere.

        Higher scores lie on top, so what a dropped instance covers has a lower score still: a
        look-up table is enough, and another threshold paints no mask again.
        """
        table = np.zeros(len(self.instances) + 1, dtype=np.uint32)
        for rank, instance in enumerate(self.instances, 1):
            table[rank] = (instance.id or 0) if instance.score >= score else 0
        return table[self.ranks]


def paint_slice(
    instances: Sequence[Instance], shape: tuple[int, int], step: int = 1
) -> PaintedSlice:
    """Paint the instances of one slice; the highest score lies on top.

    Parameters
    ----------
    shape
        (y, x) of the slice in pixels.
    step
        Paint every `step`-th pixel of every `step`-th row only.
    """
    ordered = paint_order(instances)[::-1]
    masks = [instance.mask for instance in reversed(ordered)]
    ranks = paint_masks(masks, range(len(ordered), 0, -1), shape, np.uint16, step)
    return PaintedSlice(ranks, tuple(ordered))


def paint_cut(
    instances: Sequence[Instance], shape: tuple[int, int], step: int, mask_cut: float
) -> PaintedSlice:
    """Paint instances as `paint_slice` does, with masks cut where `mask_cut` says.

    From the probabilities at once, at the painted pixels alone: a slider can follow. What has no
    probabilities keeps its mask.
    """
    ordered = paint_order(instances)[::-1]
    height, width = (-(-length // step) for length in shape)
    ranks = np.zeros((height, width), dtype=np.uint16)
    for rank in range(len(ordered), 0, -1):
        instance = ordered[rank - 1]
        if instance.probability is None:
            ranks[instance.mask.to_array()[::step, ::step]] = rank
            continue
        for pixels, (y, x) in instance.probability.crops(mask_cut, shape, step):
            ranks[y : y + pixels.shape[0], x : x + pixels.shape[1]][pixels] = rank
    return PaintedSlice(ranks, tuple(ordered))


def step_for(shape: tuple[int, int]) -> int:
    """Return the step that paints a slice of `shape` (y, x) quickly enough for a live slider."""
    return max(1, math.ceil(math.sqrt(shape[0] * shape[1] / _MOST_PIXELS)))


class PredictionArray:
    """Instance ids (z, y, x) uint32 of a source above a score, as napari's Labels layer reads them.

    A slice is painted when it is read, and those read last are kept.

    Parameters
    ----------
    read
        Returns the instances of a slice.
    shape
        (z, y, x) of the stack in voxels.
    score
        Instances below it are not shown.
    mask_cut
        Probability from which on a pixel belongs to a mask; another one than one half needs
        instances with their probabilities.
    seen
        Called with a slice and all its instances before they are shown.

    Attributes
    ----------
    step
        Pixels of the stack from one painted pixel to the next: large slices are painted coarser,
        so that a slider stays live; the masks in the ledger keep every pixel.
    shape
        (z, y, x) as painted.
    """

    dtype = np.dtype(np.uint32)
    ndim = 3

    def __init__(
        self,
        read: ReadSlice,
        shape: tuple[int, int, int],
        score: float = 0.5,
        mask_cut: float = MASK_CUT,
        seen: Seen = lambda _z, _instances: None,
    ) -> None:
        self.score, self.mask_cut, self.step = score, mask_cut, step_for(shape[1:])
        self.shape = (shape[0], -(-shape[1] // self.step), -(-shape[2] // self.step))
        self._slice_shape = shape[1:]
        self._read, self._seen = read, seen
        # napari may read from a thread of its own.
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, float], PaintedSlice] = OrderedDict()
        self._last: tuple[PaintedSlice, float, Labels] | None = None

    @property
    def size(self) -> int:
        """Number of voxels."""
        return int(np.prod(self.shape, dtype=np.int64))

    def painted(self, z: int) -> PaintedSlice:
        """Return slice `z`, painted now unless it was one of the last, cut alike."""
        with self._lock:
            cut = self.mask_cut
            if (z, cut) not in self._kept:
                instances = self._instances(z)
                self._seen(z, instances)
                self._kept[z, cut] = (
                    paint_slice(instances, self._slice_shape, self.step)
                    if cut == MASK_CUT
                    else paint_cut(instances, self._slice_shape, self.step, cut)
                )
            self._kept.move_to_end((z, cut))
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return self._kept[z, cut]

    def shown(self, z: int) -> Labels:
        """Return the ids (y, x) that slice `z` shows; those of the last one are kept."""
        painted, score = self.painted(z), self.score
        last = self._last
        if last is None or last[0] is not painted or last[1] != score:
            self._last = last = (painted, score, painted.above(score))
        return last[2]

    def _instances(self, z: int) -> Sequence[Instance]:
        """Return the instances of slice `z`, read again unless kept ones are all they have."""
        known = (p for (at, cut), p in self._kept.items() if at == z and cut != MASK_CUT)
        painted = next(known, None)
        return self._read(z) if painted is None else painted.instances

    def forget(self) -> None:
        """Drop the painted slices, after a change of the ledger."""
        with self._lock:
            self._kept.clear()

    def __getitem__(self, key: Any) -> Labels:
        parts = key if isinstance(key, tuple) else (key,)
        first, rest = (parts[0], parts[1:]) if parts else (slice(None), ())
        if isinstance(first, slice):
            planes = range(*first.indices(self.shape[0]))
            chosen = [self.shown(z)[rest] for z in planes]
            return np.stack(chosen) if chosen else np.zeros((0, *self.shape[1:]), np.uint32)
        z = int(np.asarray(first).item())
        return self.shown(z)[rest]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)
