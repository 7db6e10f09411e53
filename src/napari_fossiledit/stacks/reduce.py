"""Reduced copies of a stack: a view of the whole that fits into memory and onto a graphics card."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.stacks.cache import SliceCache
from napari_fossiledit.stacks.pixels import Pixels, area_mean
from napari_fossiledit.stacks.section import SectionStack, as_dask

if TYPE_CHECKING:
    import dask.array as da

#: Edge of a 3D texture that every graphics card of the last decade takes.
TEXTURE_EDGE = 2048
#: Most bytes of a copy for 3D display.
BUDGET_BYTES = 256 * 1024**2
_OVERVIEW_EDGE = 256
# napari reads an overview while the window stands still, so it is made from few slices.
_OVERVIEW_SLICES = 100
# Up to that size a stack may be handed to the graphics card as it is.
_SMALL_BYTES = 64 * 1024**2


class Reduced(NamedTuple):
    """A reduced copy of a stack.

    Attributes
    ----------
    array
        (z, y, x) or (z, y, x, 3).
    factors
        Voxels of the stack for one of the copy, along z, y and x. Within a slice a pixel is the
        mean of the square it stands for; along z the middle slice stands for its neighbours,
        so voxel k of an axis of factor f lies at k f + (f - 1) / 2 in voxels of the stack
        (at k f + (f - 1) // 2 along z).
    """

    array: NDArray[Any]
    factors: tuple[int, int, int]


class ReducedStack:
    """A stack at lower resolution, reduced one slice at a time when it is read.

    Parameters
    ----------
    longest
        Most voxels along any axis.
    budget_bytes
        Most bytes of the whole copy.
    slices
        Most slices, which are the ones that are read; by default `longest`.
    """

    def __init__(
        self,
        stack: SectionStack,
        *,
        longest: int = 512,
        budget_bytes: int = BUDGET_BYTES,
        slices: int | None = None,
    ) -> None:
        self._stack = stack
        self._levels = stack.levels()
        depth, y, x = reduction_factors(
            stack.shape, longest, budget_bytes // stack.dtype.itemsize, len(self._levels) > 1
        )
        self.factors = (max(depth, math.ceil(len(stack) / (slices or longest))), y, x)
        self.shape = (*_divided(stack.shape[:3], self.factors), *stack.shape[3:])
        self.dtype = stack.dtype
        self._cache = SliceCache(budget_bytes)

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, z: int) -> Pixels:
        """Return slice `z` of the copy, (y, x) or (y, x, 3)."""
        kept = self._cache.get(z)
        if kept is None:
            kept = self._reduced(z)
            self._cache.put(z, kept)
        return kept

    def lazy(self) -> da.Array:
        """Wrap the copy (z, y, x[, 3]) in a dask array of one chunk a slice."""
        return as_dask(self)

    def _reduced(self, z: int) -> Pixels:
        """Reduce the middle slice of those that `z` stands for, from the coarsest fit level."""
        depth, across, _ = self.factors
        middle = min(z * depth + (depth - 1) // 2, len(self._stack) - 1)
        fitting = [k for k in range(1, len(self._levels)) if self._fits(k)]
        if not fitting:
            return area_mean(self._stack.read(middle), across)
        level: Pixels = np.asarray(self._levels[fitting[-1]][middle])
        return area_mean(level, across >> fitting[-1])

    def _fits(self, k: int) -> bool:
        """Return whether stored level `k` halves y and x k times, keeps z, and is fine enough."""
        halved = _divided(self._stack.shape[:3], (1, 2**k, 2**k))
        stored: tuple[int, ...] = self._levels[k].shape[:3]
        return 2**k <= self.factors[1] and stored == halved


def reduction_factors(
    shape: tuple[int, ...], longest: int, budget: int, powers: bool = False
) -> tuple[int, int, int]:
    """Return how many voxels to merge along z, y and x so that a copy fits.

    Parameters
    ----------
    shape
        (z, y, x) or (z, y, x, 3).
    longest
        Most voxels along any axis of the copy.
    budget
        Most numbers in the copy.
    powers
        Whether y and x are halved a whole number of times, as stored pyramids are.
    """
    while True:
        depth, across = math.ceil(shape[0] / longest), math.ceil(max(shape[1:3]) / longest)
        across = 1 << (across - 1).bit_length() if powers else across
        factors = (depth, across, across)
        if longest == 1 or math.prod(_divided(shape[:3], factors)) * math.prod(shape[3:]) <= budget:
            return factors
        longest = max(1, longest * 9 // 10)


def _divided(shape: tuple[int, ...], factors: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(-(-size // factor) for size, factor in zip(shape, factors, strict=True))


def reduced(
    stack: SectionStack,
    *,
    longest: int = 512,
    budget_bytes: int = BUDGET_BYTES,
    job: Job = QUIET,
) -> Reduced:
    """Compute a reduced copy of a whole stack, for display in 3D.

    Parameters
    ----------
    longest
        Most voxels along any axis; `TEXTURE_EDGE` is the most that can be shown.
    budget_bytes
        Most bytes of the copy.

    Raises
    ------
    CancelledError
        Where the user asked to stop.
    FossilError
        Where a slice cannot be read.
    """
    source = ReducedStack(stack, longest=min(longest, TEXTURE_EDGE), budget_bytes=budget_bytes)
    copy = np.empty(source.shape, dtype=source.dtype)
    slices = job.tracked(range(len(source)), len(source), "Reducing the stack")
    for z in slices:
        copy[z] = source.read(z)
    return Reduced(copy, source.factors)


def display_levels(stack: SectionStack) -> list[da.Array]:
    """Return the resolutions for napari, finest first; one alone where the stack is small.

    napari's 3D view loads all of the coarsest level, so a large stack gets a small overview as
    its last one. In 2D that is shown only where the slice is smaller than 256 pixels on screen.
    """
    levels = stack.levels()
    last = levels[-1]
    if last.nbytes <= _SMALL_BYTES and max(last.shape[:3]) <= TEXTURE_EDGE:
        return levels
    overview = ReducedStack(stack, longest=_OVERVIEW_EDGE, slices=_OVERVIEW_SLICES)
    return [*levels, overview.lazy()]
