"""The Gram matrix of unfolded keys from products of shifted maps.

Where all positions count alike, an entry of A'A is the sum of one channel times another one shifted
against it by the difference of two taps of the convolution. There are 25 such shifts, 13 without
their mirror images, instead of 45 pairs of taps, and no key is unfolded. At the edges a tap leaves
out a row or a column that another one takes; those are subtracted.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

_RUN = 16384
"""Positions in a product: sums of more would lose digits in single precision."""

_TAPS = tuple(product(range(3), range(3)))
_SHIFTS = tuple(s for s in product(range(3), range(-2, 3)) if s >= (0, 0))


def shifted_gram(key: Tensor, first: int, last: int) -> Tensor:
    """Sum A'A over the rows `first` to `last` of a map.

    Parameters
    ----------
    key
        (1, C, y, x).

    Returns
    -------
    Tensor
        (9 C, 9 C) float64 on the CPU, in the order of `torch.nn.functional.unfold`.
    """
    window = windowed(key, first, last)[0]
    channels = len(window)
    whole = {shift: _product(window, shift) for shift in _SHIFTS}
    gram = torch.empty(channels, 9, channels, 9, dtype=torch.float64)
    for a, tap in enumerate(_TAPS):
        for b, other in enumerate(_TAPS[: a + 1]):
            shift = (tap[0] - other[0], tap[1] - other[1])
            block = whole[shift] - _left_out(window, other, shift)
            gram[:, b, :, a] = block
            gram[:, a, :, b] = block.T
    return gram.reshape(9 * channels, 9 * channels)


def windowed(key: Tensor, first: int, last: int) -> Tensor:
    """Rows `first` to `last` with one row and column around, 0 outside the map: (1, C, y, x)."""
    height = key.shape[-2]
    part = key[:, :, max(0, first - 1) : min(height, last + 1)]
    return functional.pad(part, (1, 1, int(first == 0), int(last == height)))


def _product(window: Tensor, shift: tuple[int, int]) -> Tensor:
    """Sum each channel times each other one that lies `shift` ahead, (C, C) float64.

    On the flattened map a shift is an offset: what runs over the end of a row meets the two columns
    of zeros between the rows.
    """
    flat = window.flatten(1)
    offset = shift[0] * window.shape[-1] + shift[1]
    back, ahead = (flat[:, -min(offset, 0) :], flat[:, max(offset, 0) :])
    count = min(back.shape[1], ahead.shape[1])
    total = torch.zeros(len(window), len(window), dtype=torch.float64)
    for at in range(0, count, _RUN):
        end = min(count, at + _RUN)
        total += (back[:, at:end] @ ahead[:, at:end].T).cpu()
    return total


def _left_out(window: Tensor, tap: tuple[int, int], shift: tuple[int, int]) -> Tensor:
    """Sum over the positions of the window that a tap does not take."""
    height, width = window.shape[1] - 2, window.shape[2] - 2
    rows = [r for r in range(height + 2) if not tap[0] <= r < tap[0] + height]
    columns = [c for c in (1, width) if not tap[1] <= c < tap[1] + width]
    total = torch.zeros(len(window), len(window), dtype=torch.float64)
    for row in rows:
        total += _strip(window, shift, slice(row, row + 1), slice(None))
    for column in dict.fromkeys(columns):
        total += _strip(window, shift, slice(None), slice(column, column + 1))
        for row in rows:
            total -= _strip(window, shift, slice(row, row + 1), slice(column, column + 1))
    return total


def _strip(window: Tensor, shift: tuple[int, int], rows: slice, columns: slice) -> Tensor:
    """`_product` over a row, a column or a corner of the window."""
    height, width = window.shape[1:]
    y, x = torch.arange(height)[rows], torch.arange(width)[columns]
    y, x = y[y + shift[0] < height], x[(x + shift[1] >= 0) & (x + shift[1] < width)]
    here = window[:, y[:, None], x].flatten(1)
    there = window[:, (y + shift[0])[:, None], x + shift[1]].flatten(1)
    return (here @ there.T).cpu().double()
