"""The paper's solver: Adam on the mean absolute deviation, one convolution at a time.

Only the weight changes; the bias stays (section 4.2: L1 loss, learning rate 1e-4, 20 000 steps). On
a CPU the result depends on the seed and the number of threads alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from napari_fossiledit.editing.examples import Example
from napari_fossiledit.editing.memory import is_out_of_memory, ran_out
from napari_fossiledit.params.editing import SolveParams
from napari_fossiledit.progress import QUIET, Job

_POINTS = 400
"""Most points of a loss curve, which is stored with the edit."""


@dataclass
class Descent:
    """Weights that a descent found.

    Attributes
    ----------
    weight
        (O, C, 3, 3): the last weights, or the best ones where it was cancelled.
    curve
        (step, loss) pairs, the loss before the step.
    cancelled
        Whether it was broken off.
    """

    weight: Tensor
    curve: list[tuple[int, float]]
    cancelled: bool = False


def descend(
    examples: Sequence[Example],
    weight: Tensor,
    bias: Tensor | None,
    params: SolveParams,
    *,
    job: Job = QUIET,
) -> Descent:
    """Minimise the mean |conv(key; weight, bias) - target|.

    Parameters
    ----------
    examples
        Keys and targets of one level; the mean goes over the positions of all of them.
    weight, bias
        Where it starts; the bias is not changed.

    Raises
    ------
    FossilError
        Where not even a band of a few rows fits into memory.
    """
    free = weight.detach().clone().requires_grad_(True)
    optimiser = torch.optim.Adam([free], lr=params.learning_rate)
    objective = _Objective(examples, bias, params)
    curve: list[tuple[int, float]] = []
    best, least = free.detach().clone(), float("inf")
    every = max(1, params.adam_steps // _POINTS)
    for step in range(params.adam_steps):
        if job.cancelled():
            return Descent(best, curve, cancelled=True)
        optimiser.zero_grad()
        value = objective.backward(free)
        if value < least:
            best, least = best.copy_(free.detach()), value
        optimiser.step()
        if step % every == 0 or step == params.adam_steps - 1:
            curve.append((step, value))
        job.report(step + 1, params.adam_steps, loss=value)
    return Descent(free.detach(), curve)


class _Objective:
    """Loss and gradient, over all positions or over a random batch of them."""

    def __init__(
        self, examples: Sequence[Example], bias: Tensor | None, params: SolveParams
    ) -> None:
        self.examples, self.bias, self.batch = examples, bias, params.batch
        self._random = torch.Generator().manual_seed(params.seed)
        self._total = sum(e.target.numel() for e in examples)
        self._rows = max(e.key.shape[-2] for e in examples)
        padded = examples if self.batch else ()
        self._padded = [functional.pad(e.key[0], (1, 1, 1, 1)) for e in padded]

    def backward(self, weight: Tensor) -> float:
        """Add the gradient to `weight` and return the loss.

        All positions are taken at once, or in ever smaller bands of rows where memory runs out.
        """
        if self.batch:
            loss = self._batch_loss(weight)
            loss.backward()
            return float(loss.detach())
        while True:
            try:
                return self._bands(weight)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self._rows <= 1:
                    raise ran_out("a row of positions") from error
                self._rows = -(-self._rows // 2)
                weight.grad = None

    def _bands(self, weight: Tensor) -> float:
        total = 0.0
        for example in self.examples:
            for first in range(0, example.key.shape[-2], self._rows):
                loss = self._band_loss(example, weight, first) / self._total
                loss.backward()
                total += float(loss.detach())
        return total

    def _band_loss(self, example: Example, weight: Tensor, first: int) -> Tensor:
        """Sum over the rows from `first` on, with a row of margin for the convolution."""
        last = min(example.key.shape[-2], first + self._rows)
        low, high = max(0, first - 1), min(example.key.shape[-2], last + 1)
        output = functional.conv2d(example.key[:, :, low:high], weight, self.bias, padding=1)
        off = (output[:, :, first - low : last - low] - example.target[:, :, first:last]).abs()
        if example.weight is not None:
            off = off * example.weight[:, :, first:last]
        return off.sum()

    def _batch_loss(self, weight: Tensor) -> Tensor:
        """Mean over a random batch of positions, of each slice in proportion to its size."""
        positions = sum(e.positions for e in self.examples)
        losses = []
        for example, padded in zip(self.examples, self._padded, strict=True):
            count = max(1, round(self.batch * example.positions / positions))
            width, device = example.key.shape[-1], example.key.device
            # Drawn on the CPU: the same positions on every device.
            drawn = torch.randint(example.positions, (count,), generator=self._random).to(device)
            y, x = drawn // width, drawn % width
            steps = torch.arange(3, device=device)
            patches = padded[:, (y[:, None] + steps)[:, :, None], (x[:, None] + steps)[:, None, :]]
            output = torch.einsum("cnij,ocij->no", patches, weight)
            if self.bias is not None:
                output = output + self.bias
            off = (output - example.target[0, :, y, x].T).abs()
            if example.weight is not None:
                off = off * example.weight[0, 0, y, x, None]
            losses.append(off)
        return torch.stack([loss.sum() for loss in losses]).sum() / sum(
            loss.numel() for loss in losses
        )
