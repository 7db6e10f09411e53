"""How probable each pixel of an instance is, so that where its mask ends can be chosen later.

A network gives 28 x 28 probabilities inside a box for each detection. They are kept in 8 bits and
pasted into pixels of the slice when they are cut; work and memory are those of the boxes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.masks.rle import Mask, union

MASK_CUT = 0.5
"""Probability at which a mask ends, of torchvision and detectron2 alike."""

_VERSION = 1
# Box x0, y0, x1, y1, rows and columns of the grid, whether it is pasted exactly.
_PIECE = struct.Struct("<4fHHB")
#: Of all pieces of an instance, which bounds what a damaged file can take.
_MOST_BYTES = 64_000_000
#: Pixels: no box of a slice reaches beyond.
_FARTHEST = 1e9
_COMPRESSION = 1

Axis = tuple[int, NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Piece:
    """Probabilities of one detection inside its box.

    Attributes
    ----------
    box
        x0, y0, x1, y1 in pixels of the slice.
    grid
        (h, w) uint8, 255 for certainty; stretched over the box.
    exact
        Pasted at fractions of a pixel as detectron2 does, else with the box rounded to whole pixels
        as torchvision does. An exact grid whose box has one pixel for each of its values, beginning
        at whole pixels, is pasted as it is.
    """

    box: tuple[float, float, float, float]
    grid: NDArray[np.uint8]
    exact: bool = False


@dataclass(frozen=True, eq=False)
class ProbabilityMask:
    """The probabilities of an instance: one piece, or those of each tile that saw a part of it."""

    pieces: tuple[Piece, ...]

    def cut(self, at: float, shape: tuple[int, int]) -> Mask:
        """Return the pixels of a slice of `shape` (y, x) that are more probable than `at`.

        At one half the same but for a few pixels of the border as the mask that was stored, which
        was cut before the probabilities were rounded to 8 bits.
        """
        masks = [Mask.from_crop(pixels, origin, shape) for pixels, origin in self.crops(at, shape)]
        return masks[0] if len(masks) == 1 else union(masks, shape)

    def crops(
        self, at: float, shape: tuple[int, int], step: int = 1
    ) -> Iterator[tuple[NDArray[np.bool_], tuple[int, int]]]:
        """Yield for each piece the pixels more probable than `at`, and where they begin (y, x).

        Parameters
        ----------
        step
            See `values`.
        """
        for piece in self.pieces:
            pixels, origin = values(piece, shape, step)
            # detectron2 keeps pixels of exactly the threshold, torchvision does not.
            yield (pixels >= at if piece.exact else pixels > at), origin

    def to_bytes(self) -> bytes:
        """Return it as it is kept in a file: a byte of version, and zlib of the pieces.

        Of pieces too large for that every second pixel is kept, or every fourth and so on: a cut
        then ends a pixel off. The mask of the instance is kept whole beside it.
        """
        pieces = self.pieces
        while sum(_PIECE.size + p.grid.size for p in pieces) >= _MOST_BYTES:
            pieces = tuple(replace(p, grid=p.grid[::2, ::2]) for p in pieces)
        parts = [
            _PIECE.pack(*p.box, *p.grid.shape, p.exact) + np.ascontiguousarray(p.grid).tobytes()
            for p in pieces
        ]
        return bytes([_VERSION]) + zlib.compress(b"".join(parts), _COMPRESSION)

    @classmethod
    def from_bytes(cls, data: bytes) -> ProbabilityMask:
        """Read what `to_bytes` returned.

        Raises
        ------
        ValueError
            Where it is anything else.
        """
        if type(data) is not bytes or data[:1] != bytes([_VERSION]):
            raise ValueError("mask probabilities of no known version")
        reader = zlib.decompressobj()
        try:
            content = reader.decompress(data[1:], _MOST_BYTES)
        except zlib.error as error:
            raise ValueError(f"damaged mask probabilities: {error}") from error
        if not reader.eof or reader.unused_data:
            raise ValueError("mask probabilities that break off or go on")
        pieces, at = [], 0
        while at < len(content):
            if len(content) - at < _PIECE.size:
                raise ValueError("mask probabilities that break off")
            *box, rows, columns, exact = _PIECE.unpack_from(content, at)
            at += _PIECE.size
            end = at + rows * columns
            # Also where a side is not a number.
            placed = all(abs(side) < _FARTHEST for side in box)
            if at == end or end > len(content) or not placed:
                raise ValueError(f"mask probabilities {rows} x {columns} in the box {box}")
            grid = np.frombuffer(content[at:end], np.uint8).reshape(rows, columns)
            pieces.append(Piece((box[0], box[1], box[2], box[3]), grid, bool(exact)))
            at = end
        if not pieces:
            raise ValueError("mask probabilities without any")
        return cls(tuple(pieces))


def values(
    piece: Piece, shape: tuple[int, int], step: int = 1
) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """Paste a piece into a slice of `shape` (y, x).

    Parameters
    ----------
    step
        Compute every `step`-th pixel of every `step`-th row of the slice only.

    Returns
    -------
    pixels
        Probabilities (y, x) of the pixels around the box that lie in the slice.
    origin
        Where they begin (y, x), in steps.
    """
    # In float32 as the network's own pasting, so that edges fall on the same pixels.
    x0, y0, x1, y1 = (np.float32(v) for v in piece.box)
    height, width = piece.grid.shape
    place = _exact if piece.exact else _rounded
    top, down = place(y0, y1, height, shape[0], step)
    left, right = place(x0, x1, width, shape[1], step)
    # With a rim of zeros: outside its box a detection has no pixel.
    grid = np.zeros((height + 2, width + 2), dtype=np.float32)
    np.divide(piece.grid, np.float32(255), out=grid[1:-1, 1:-1])
    return _interpolated(_interpolated(grid, down).T, right).T, (top, left)


def _interpolated(grid: NDArray[np.float32], at: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return rows of a grid at fractions of a row."""
    lines = np.minimum(at.astype(np.intp), len(grid) - 2)
    share = at - lines
    if not share.any():
        return grid[lines]
    # A matrix with two numbers in a row is multiplied faster than rows are picked and mixed.
    weights = np.zeros((len(at), len(grid)), dtype=np.float32)
    rows = np.arange(len(at))
    weights[rows, lines], weights[rows, lines + 1] = 1 - share, share
    return weights @ grid


def _exact(low: np.float32, high: np.float32, cells: int, length: int, step: int) -> Axis:
    """Look up where in the grid, with its rim, the centre of each pixel falls.

    Returns
    -------
    The first pixel, in steps, and the line of the grid at each pixel.
    """
    first = int(np.floor(low)) - 1
    last = int(np.ceil(high)) + 1 if high > low else first
    pixels = _pixels(first, last, length, step)
    size = max(float(high - low), 1e-9)
    return _lines(pixels, (pixels + 0.5 - float(low)) / size * cells + 0.5, cells, step)


def _rounded(low: np.float32, high: np.float32, cells: int, length: int, step: int) -> Axis:
    """Look up where in the grid pixels fall once it, with its rim, fills whole pixels."""
    centre, half = (low + high) / 2, (high - low) / 2 * np.float32((cells + 2) / cells)
    start, end = int(centre - half), int(centre + half)
    size = max(end - start + 1, 1)
    pixels = _pixels(start, start + size, length, step)
    return _lines(pixels, (pixels - start + 0.5) * ((cells + 2) / size) - 0.5, cells, step)


def _pixels(first: int, last: int, length: int, step: int) -> NDArray[np.int64]:
    """Return the pixels of [first, last) that lie in the slice and on a step."""
    first = min(max(first, 0), length)
    return np.arange(-(-first // step) * step, min(last, length), step)


def _lines(pixels: NDArray[np.int64], at: NDArray[np.floating[Any]], cells: int, step: int) -> Axis:
    # Rounded so that whole pixels stay whole.
    at = np.clip(at.astype(np.float64), 0, cells + 1).round(6)
    return (int(pixels[0]) // step if len(pixels) else 0), at
