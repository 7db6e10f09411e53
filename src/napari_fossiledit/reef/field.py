"""The smooth field of a specimen: signed distances to its outlines, in pixels, positive inside."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

MARGIN = 3
"""Pixels around a specimen: two that smoothing takes off, and one that is outside."""

#: Largest distance that is told from farther ones, in pixels: its square twice is 16 bits.
_FARTHEST = 180
#: Pair sums along each axis, whose weights (1, 4, 6, 4, 1) / 16 have the variance of a Gaussian of
#: one pixel.
_SUMS = 4


def smoothed(inside: Bytes, limit: float) -> tuple[Floats, NDArray[np.bool_]]:
    """Compute the field on the inner slices of a stack of masks.

    Parameters
    ----------
    inside
        Array (z + 2, y, x) of 0 and 1: one slice more at either end.
    limit
        Where distances are cut off, in pixels.

    Returns
    -------
    array (z, y - 4, x - 4)
    array (z - 1, y - 4, x - 4)
        Where a part, or a hole, of one slice ends before the next.
    """
    distance = clipped_distance(inside, limit)
    values = distance[1:-1].copy()
    ended = np.zeros((len(values) - 1, *values.shape[1:]), dtype=np.bool_)
    # Drawn near to 0 where a part, or a hole, of a neighbour ends in this slice.
    for masks, draw in ((inside, np.maximum), (1 - inside, np.minimum)):
        ends = _ending(masks)
        for first, end in zip((2, 0), ends, strict=True):
            if end is not None:
                there = slice(first, first + len(values))
                here = end[there]
                values[here] = draw(values[here], -distance[there][here])
                ended |= here[:-1] if first else here[1:]
    for _ in range(_SUMS):
        values = values[:, 1:] + values[:, :-1]
    for _ in range(_SUMS):
        values = values[:, :, 1:] + values[:, :, :-1]
    values *= np.float32(1 / 4**_SUMS)
    return values, ended[:, 2:-2, 2:-2]


def clipped_distance(inside: Bytes, limit: float) -> Floats:
    """Compute distances to the outlines of masks (z, y, x), each slice by itself, up to a limit.

    An outline runs half-way between the centres of inside and outside pixels. Only as far as the
    limit is looked for the other side, in all slices at once: an exact transform without a limit
    takes ten times as long.
    """
    limit = min(limit, _FARTHEST - 1)
    radius = min(math.ceil(limit + 0.5), max(inside.shape[1:]))
    squares = _squared(1 - inside, radius) + _squared(inside, radius)
    table = np.sqrt(np.arange((radius + 1) ** 2 + radius**2 + 1, dtype=np.float32)) - 0.5
    distance: Floats = np.minimum(table, limit).astype(np.float32)[squares]
    return np.where(inside, distance, -distance)


def _squared(free: Bytes, radius: int) -> NDArray[np.uint16]:
    """Squared distance in pixels to the nearest pixel that is not free, if within `radius`."""
    steps = np.zeros_like(free)
    for _ in range(radius + 1):
        steps += free
        less = free.copy()
        less[..., 1:] &= free[..., :-1]
        less[..., :-1] &= free[..., 1:]
        free = less
    along = steps.astype(np.uint16) ** 2
    squares = along.copy()
    for dy in range(1, radius + 1):
        there = along + np.uint16(dy * dy)
        np.minimum(squares[:, dy:], there[:, :-dy], out=squares[:, dy:])
        np.minimum(squares[:, :-dy], there[:, dy:], out=squares[:, :-dy])
    return squares


def _ending(inside: Bytes) -> list[NDArray[np.bool_] | None]:
    """Parts of each slice that overlap nothing in the slice before, and in the one after.

    None where there is no such part beside an inner slice. Parts are told by their runs of pixels
    along x, of which there are far fewer than pixels.
    """
    count, layer, width = len(inside), inside[0].size, inside.shape[2]
    rows = inside.ravel().copy()
    # No run goes over the end of a row.
    rows[width - 1 :: width] = 0
    rows[0] = 0
    edges = np.flatnonzero(rows[1:] != rows[:-1]) + 1
    starts, ends = edges[::2], edges[1::2]
    first, last = _within(starts, ends, width)
    over = last - first
    above = np.repeat(np.arange(starts.size), over)
    below = np.arange(above.size) + np.repeat(last - np.cumsum(over), over)
    same = starts[above] // layer == starts[below] // layer
    links = coo_array((same, (above, below)), shape=(starts.size,) * 2)
    parts, part = connected_components(links, directed=False)
    z = starts // layer
    found: list[NDArray[np.bool_] | None] = []
    for step in (-1, 1):
        first, last = _within(starts, ends, step * layer)
        going_on = np.zeros(parts, dtype=np.bool_)
        going_on[part[(last > first) | ((z > count - 3) if step > 0 else (z < 2))]] = True
        ending = ~going_on[part]
        if not ending.any():
            found.append(None)
            continue
        change = np.zeros(inside.size, dtype=np.int8)
        change[starts[ending]] = 1
        change[ends[ending]] = -1
        found.append(np.cumsum(change, dtype=np.int8).view(np.bool_).reshape(inside.shape))
    return found


def _within(starts: Ints, ends: Ints, offset: int) -> tuple[Ints, Ints]:
    """First and one-past-last of the runs that each run overlaps once it is moved by `offset`."""
    return (
        np.searchsorted(ends, starts + offset, side="right"),
        np.searchsorted(starts, ends + offset, side="left"),
    )
