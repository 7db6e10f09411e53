"""Where the overlapping tiles of a large slice lie."""

from __future__ import annotations

import math

from napari_fossiledit.geometry import Box


def tile_boxes(shape: tuple[int, int], tile: int, overlap: int) -> list[Box]:
    """Cover a slice with equal tiles that overlap by at least `overlap` pixels.

    Parameters
    ----------
    shape
        Height and width (y, x).
    tile
        Edge of a tile; a slice that is smaller along an axis is covered by one.

    Returns
    -------
    list of (y0, x0, y1, x1), row by row
    """
    rows, columns = (_starts(length, tile, min(overlap, tile // 2)) for length in shape)
    height, width = (min(length, tile) for length in shape)
    return [(y, x, y + height, x + width) for y in rows for x in columns]


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """Even starts, so that the last tile ends at the end."""
    if length <= tile:
        return [0]
    count = math.ceil((length - overlap) / (tile - overlap))
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def inner_sides(tile: Box, shape: tuple[int, int]) -> tuple[bool, bool, bool, bool]:
    """Tell which sides (top, left, foot, right) of a tile are no sides of the slice."""
    return (tile[0] > 0, tile[1] > 0, tile[2] < shape[0], tile[3] < shape[1])
