"""The linear problem of one level: Gram matrices, accumulated in blocks of positions.

The output of a 3 x 3 convolution is linear in its weights. With A the unfolded keys (positions x
9 C), R what the output has to gain and w the weights of the positions, all that least squares needs
are A'wA and A'wR; both add up over positions and over slices, so A is never held as a whole and a
joint edit of several slices is a sum.

Where all positions count alike, an entry of A'A is the sum of one channel times another one shifted
against it by the difference of two taps of the convolution. There are 25 such shifts, 13 without
their mirror images, instead of 45 pairs of taps, and no key is unfolded. At the edges a tap leaves
out a row or a column that another one takes; those are subtracted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional, grad

from napari_fossiledit.editing.examples import Example
from napari_fossiledit.editing.memory import SMALLEST_BLOCK, is_out_of_memory, ran_out
from napari_fossiledit.progress import Cancel, check, never

_PANELS = 6
"""Panels that a Gram matrix is computed in, of which only the part below the diagonal is needed."""

_RUN = 16384
"""Positions in a product: sums of more would lose digits in single precision."""

_TAPS = tuple(product(range(3), range(3)))
_SHIFTS = tuple(s for s in product(range(3), range(-2, 3)) if s >= (0, 0))


@dataclass
class System:
    """Sums over positions.

    Attributes
    ----------
    gram
        A'wA, (9 C, 9 C) float64 on the CPU.
    cross
        A'wR, (9 C, O) float64 on the CPU.
    positions
        How many positions were summed.
    """

    gram: Tensor
    cross: Tensor
    positions: int = 0

    @classmethod
    def empty(cls, inputs: int, outputs: int) -> System:
        """Make sums of nothing for a convolution of `inputs` to `outputs` channels."""
        size = 9 * inputs
        return cls(
            torch.zeros(size, size, dtype=torch.float64),
            torch.zeros(size, outputs, dtype=torch.float64),
        )

    def add(self, example: Example, block: int, cancel: Cancel = never) -> None:
        """Add the positions of one slice; halve the block where memory runs out.

        A slice whose target is its very value asks for no change and adds to `gram` alone.

        Raises
        ------
        FossilError
            Where not even the smallest block fits into memory.
        """
        below = torch.zeros_like(self.gram)
        start = 0
        while start < example.positions:
            check(cancel, "The edit")
            try:
                gram, cross, count = _sums(example, start, block)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if block <= SMALLEST_BLOCK:
                    raise ran_out("the smallest block of positions") from error
                block = max(SMALLEST_BLOCK, block // 2)
                continue
            below += gram.cpu()
            if cross is not None:
                self.cross += cross.cpu()
            start += count
        self.gram += below.tril() + below.tril(-1).T
        self.positions += example.positions


def accumulate(
    examples: Iterable[Example], inputs: int, outputs: int, block: int, cancel: Cancel = never
) -> System:
    """Sum over several slices."""
    system = System.empty(inputs, outputs)
    for example in examples:
        system.add(example, block, cancel)
    return system


def _sums(example: Example, start: int, block: int) -> tuple[Tensor, Tensor | None, int]:
    """Sum over one block of whole rows, beginning at position `start`."""
    key = example.key
    height, width = key.shape[-2:]
    # What is not unfolded may have nine times as many positions; for a small map it does not pay.
    shifted = example.weight is None and example.positions > block
    rows = max(1, (9 * block if shifted else block) // width)
    first = start // width
    last = min(height, first + rows)
    count = (last - first) * width
    gain = None
    if example.target is not example.value:
        gain = example.target[:, :, first:last] - example.value[:, :, first:last]
    if shifted:
        gram = shifted_gram(key, first, last)
        if gain is None:
            return gram, None, count
        shape = [gain.shape[1], key.shape[1], 3, 3]
        slope = grad.conv2d_weight(windowed(key, first, last), shape, gain)
        return gram, flattened(slope), count
    # Products in single precision, sums in double (the caller's).
    keys = unfolded(key, first, last)
    weighted = keys
    if example.weight is not None:
        weighted = keys * example.weight[0, 0, first:last].reshape(-1, 1)
    cross = None if gain is None else weighted.T @ gain[0].flatten(1).T
    # K'wK below its diagonal, panel by panel: it is symmetric, so the rest is known.
    size = keys.shape[1]
    gram = keys.new_zeros(size, size)
    edge = -(-size // _PANELS)
    for at in range(0, size, edge):
        gram[at:, at : at + edge] = weighted[:, at:].T @ keys[:, at : at + edge]
    return gram, cross, count


def unfolded(key: Tensor, first: int, last: int) -> Tensor:
    """Return the rows of A for the rows `first` to `last` of a map: (positions, 9 C)."""
    return functional.unfold(windowed(key, first, last), 3)[0].T


def kernel(flat: Tensor) -> Tensor:
    """Turn (9 C, O) into convolution weights (O, C, 3, 3)."""
    return flat.T.reshape(flat.shape[1], -1, 3, 3).contiguous()


def flattened(delta: Tensor) -> Tensor:
    """Turn convolution weights (O, C, 3, 3) into (9 C, O); the inverse of `kernel`."""
    return delta.flatten(1).T


# ------------------------------------------------------- without unfolding


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
    """Return rows `first` to `last` and one row and column around, 0 outside: (1, C, y, x)."""
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
    """Compute `_product` over a row, a column or a corner of the window."""
    height, width = window.shape[1:]
    y, x = torch.arange(height)[rows], torch.arange(width)[columns]
    y, x = y[y + shift[0] < height], x[(x + shift[1] >= 0) & (x + shift[1] < width)]
    here = window[:, y[:, None], x].flatten(1)
    there = window[:, (y + shift[0])[:, None], x + shift[1]].flatten(1)
    return (here @ there.T).cpu().double()
