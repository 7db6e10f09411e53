"""The linear problem of one level: Gram matrices, accumulated in blocks of positions.

The output of a 3 x 3 convolution is linear in its weights. With A the unfolded keys (positions x
9 C), R what the output has to gain and w the weights of the positions, all that least squares needs
are A'wA and A'wR; both add up over positions and over slices, so A is never held as a whole and a
joint edit of several slices is a sum.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional, grad

from napari_fossiledit.editing.examples import Example
from napari_fossiledit.editing.memory import SMALLEST_BLOCK, is_out_of_memory, ran_out
from napari_fossiledit.editing.shifts import shifted_gram, windowed
from napari_fossiledit.progress import Cancel, check, never

_PANELS = 6


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
                block = _smaller(block, error)
                continue
            below += gram.cpu()
            if cross is not None:
                self.cross += cross.cpu()
            start += count
        self.gram += below.tril() + below.tril(-1).T
        self.positions += example.positions


def _smaller(block: int, error: BaseException) -> int:
    if block <= SMALLEST_BLOCK:
        raise ran_out("the smallest block of positions") from error
    return max(SMALLEST_BLOCK, block // 2)


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
    height, width = example.key.shape[-2:]
    # What is not unfolded may have nine times as many positions; for a small map it does not pay.
    shifted = example.weight is None and example.positions > block
    rows = max(1, (9 * block if shifted else block) // width)
    first = start // width
    last = min(height, first + rows)
    wanted = None
    if example.target is not example.value:
        wanted = example.target[:, :, first:last] - example.value[:, :, first:last]
    count = (last - first) * width
    if shifted:
        return *_shifted(example.key, wanted, first, last), count
    weight = None if example.weight is None else example.weight[0, 0, first:last].reshape(-1, 1)
    return *_unfolded(unfolded(example.key, first, last), wanted, weight), count


def _shifted(
    key: Tensor, wanted: Tensor | None, first: int, last: int
) -> tuple[Tensor, Tensor | None]:
    """Sum where all positions count alike."""
    gram = shifted_gram(key, first, last)
    if wanted is None:
        return gram, None
    shape = [wanted.shape[1], key.shape[1], 3, 3]
    return gram, flattened(grad.conv2d_weight(windowed(key, first, last), shape, wanted))


def _unfolded(
    keys: Tensor, wanted: Tensor | None, weight: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Sum over unfolded keys: products in single, sums in double precision (the caller's)."""
    weighted = keys if weight is None else keys * weight
    cross = None if wanted is None else weighted.T @ wanted[0].flatten(1).T
    return _lower(weighted, keys), cross


def _lower(weighted: Tensor, keys: Tensor) -> Tensor:
    """Tell K'wK below its diagonal, panel by panel: it is symmetric, so the rest is known."""
    size = keys.shape[1]
    gram = keys.new_zeros(size, size)
    edge = -(-size // _PANELS)
    for at in range(0, size, edge):
        gram[at:, at : at + edge] = weighted[:, at:].T @ keys[:, at : at + edge]
    return gram


def unfolded(key: Tensor, first: int, last: int) -> Tensor:
    """Rows of A for the rows `first` to `last` of a map: (positions, 9 C), zero-padded."""
    return functional.unfold(windowed(key, first, last), 3)[0].T


def kernel(flat: Tensor) -> Tensor:
    """Turn (9 C, O) into convolution weights (O, C, 3, 3)."""
    return flat.T.reshape(flat.shape[1], -1, 3, 3).contiguous()


def flattened(delta: Tensor) -> Tensor:
    """Turn convolution weights (O, C, 3, 3) into (9 C, O); the inverse of `kernel`."""
    return delta.flatten(1).T
