"""Solving for an edit directly: ridge in closed form, least absolute deviations by ADMM.

With A, R, w as in `system` and C the Gram matrix of what must not change:

    ridge:  D = argmin  sum w |A D - R|^2 + lambda tr(D' C D) = (A'wA + lambda C)^-1 A'wR
    L1:     D = argmin  sum w |A D - R|_1 + rho lambda / 2 tr(D' C D)

lambda is the pull. The second is split as Z = A D - R and solved by the alternating direction
method of multipliers (Boyd et al. 2011, section 6.1), over-relaxed: with the penalty rho w at each
position the quadratic step has the matrix A'wA + lambda C too, so one factor serves all iterations;
Z is a soft threshold at 1 / rho.

rho is a share of the mean deviation without an edit. That makes both steps matter for weak and for
strong pulls alike, gives the pull the same meaning for both solvers (a deviation of 1 / rho costs
about the same in both sums), and keeps the problem independent of the iterations. Where nearly
every position can be fitted a rho that follows the deviations of the ridge edit fails: it grows
without bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional, grad

from napari_fossiledit.editing.examples import Example
from napari_fossiledit.editing.system import System, flattened, kernel
from napari_fossiledit.errors import FossilError
from napari_fossiledit.progress import QUIET, Job

_JITTER = 1e-7
"""Share of the trace that products in single precision cannot tell from 0."""

_TINY = 1e-30
"""Keeps quotients finite where all keys are 0."""

_RELAXATION = 1.6
"""Boyd et al. 2011, section 3.4.3, advise 1.5 to 1.8."""

_THRESHOLD = 0.3
"""1 / rho as share of the mean deviation without an edit."""

_SETTLED, _WINDOW, _FEWEST = 4e-3, 3, 6
"""ADMM has arrived where the best objective of some iterations ago was hardly worse.

The objective does not fall in every iteration, and in the first ones it may rise: a single small
change says nothing.
"""


@dataclass(frozen=True)
class Factor:
    """A'wA + lambda C, ready to be solved.

    Attributes
    ----------
    lower, hold
        The Cholesky factor of the sum, and lambda C; (9 C, 9 C) float64.
    """

    lower: Tensor
    hold: Tensor

    @classmethod
    def of(cls, gram: Tensor, keep: Tensor, pull: float) -> Factor:
        """Factorise for one strength of the pull.

        Parameters
        ----------
        gram, keep
            A'wA and C; `keep` is brought to the trace of `gram` first, so that `pull` has no unit.

        Raises
        ------
        FossilError
            Where the keys are too large or too small to be summed.
        """
        hold = pull * _steadied(keep * (gram.trace() / keep.trace().clamp_min(_TINY)))
        matrix = _steadied(gram) + hold
        lower, failed = torch.linalg.cholesky_ex(matrix)
        if failed or not lower.isfinite().all():
            raise FossilError(
                "The keys of the edit cannot be used",
                expected="numbers whose squares can be summed",
                found=f"a mean square of {float(matrix.diagonal().mean()):.3g}",
                advice="The weights of the model are damaged: train it again, or take another one.",
            )
        return cls(lower, hold)

    def solve(self, right: Tensor) -> Tensor:
        """Multiply the inverse with (9 C, O) on any device; in double precision on the CPU."""
        solved = torch.cholesky_solve(right.cpu().double(), self.lower)
        return solved.to(right.dtype).to(right.device)


def _steadied(matrix: Tensor) -> Tensor:
    """Add `_JITTER` to the diagonal, so that a factor exists.

    Channels that are 0 everywhere are common after a ReLU.
    """
    floor = _JITTER * matrix.trace().clamp_min(_TINY)
    return matrix + floor * torch.eye(len(matrix), dtype=matrix.dtype)


def ridge(system: System, factor: Factor) -> Tensor:
    """Solve least squares in closed form: edit (O, C, 3, 3) float32."""
    return kernel(factor.solve(system.cross)).float()


def loss(examples: Sequence[Example], delta: Tensor | None) -> float:
    """Compute the weighted mean |A D - R| over positions and channels; D is 0 where None."""
    return _mean_size(examples, [_offset(e, delta) for e in examples])


def _offset(example: Example, delta: Tensor | None) -> Tensor:
    """Compute A D - R of one slice, or R without an edit."""
    if delta is None:
        return example.residual
    gained = functional.conv2d(example.key, delta.to(example.key.device), padding=1)
    return gained.sub_(example.target).add_(example.value)


def _mean_size(examples: Sequence[Example], offsets: Sequence[Tensor]) -> float:
    """Compute the weighted mean size; summed in double precision, which not every device has."""
    total = 0.0
    for example, off in zip(examples, offsets, strict=True):
        size = torch.linalg.vector_norm(off, 1, dim=1, keepdim=True)
        if example.weight is not None:
            size = size * example.weight
        total += float(size.cpu().double().sum())
    return total / sum(off.numel() for off in offsets)


class LeastDeviations:
    """Least absolute deviations by ADMM, one iteration at a time.

    What is held of a slice are A D - R and the sum of Z and the scaled dual variable U; as Z is the
    soft threshold of that sum, U is the sum cut off at +- 1 / rho.

    Parameters
    ----------
    examples
        Keys and residuals of one level.
    factor
        Of the same level.
    start
        First guess, e.g. the ridge edit.

    Attributes
    ----------
    delta, best
        The edit of the last iteration and the one of the least objective, (O, C, 3, 3).
    objective
        What is minimised, at `delta`, as a mean like `loss`: deviations and the pull.
    curve
        (iteration, loss) pairs, the start as iteration 0.
    """

    def __init__(self, examples: Sequence[Example], factor: Factor, start: Tensor) -> None:
        self.examples, self._factor = examples, factor
        device = examples[0].key.device
        self._hold = factor.hold.float().to(device)
        self.delta = self.best = start.to(device)
        self._threshold = max(_THRESHOLD * loss(examples, None), _TINY)
        self._off = [_offset(e, self.delta) for e in examples]
        self._sum = [off.clone() for off in self._off]
        self.curve: list[tuple[int, float]] = []
        self.objective = self._judged()
        self._least, self._best_at = [self.objective], 0

    def step(self) -> None:
        """Do one iteration."""
        right = -self._pulled
        for example, off, total in zip(self.examples, self._off, self._sum, strict=True):
            # Asked of the quadratic step: Z - U - (A D - R), what is still missing. Solving for the
            # change alone keeps single precision products from drowning weak directions.
            missing = off.neg_().add_(total).sub_(self._dual(total), alpha=2)
            right += flattened(_adjoint(example, missing, self.delta.shape))
        self._off.clear()
        self.delta = self.delta + kernel(self._factor.solve(right))
        for example, total in zip(self.examples, self._sum, strict=True):
            off = _offset(example, self.delta)
            total.lerp_(self._dual(total).add_(off), _RELAXATION)
            self._off.append(off)
        self.objective = self._judged()
        if self.objective < self._least[-1]:
            self.best, self._best_at = self.delta, len(self.curve) - 1
        self._least.append(min(self.objective, self._least[-1]))

    @property
    def best_loss(self) -> float:
        """`loss` of `best`."""
        return self.curve[self._best_at][1]

    def _dual(self, total: Tensor) -> Tensor:
        """Return U, of the sum Z + U."""
        return total.clamp(-self._threshold, self._threshold)

    def _judged(self) -> float:
        """Return the objective, and add the loss to the curve."""
        mean = _mean_size(self.examples, self._off)
        self.curve.append((len(self.curve), mean))
        flat = flattened(self.delta)
        self._pulled = self._hold @ flat
        pulled = float((flat * self._pulled).sum())
        return mean + pulled / (2 * self._threshold * sum(off.numel() for off in self._off))

    def run(self, iterations: int, *, job: Job = QUIET) -> None:
        """Iterate until the objective settles; `best` holds where it was cancelled, too."""
        for iteration in range(1, iterations + 1):
            job.check("The edit")
            self.step()
            job.report(iteration, iterations, "", loss=self.curve[-1][1])
            least = self._least
            if len(least) > _FEWEST and least[-1 - _WINDOW] <= (1 + _SETTLED) * least[-1]:
                break


def _adjoint(example: Example, values: Tensor, shape: torch.Size) -> Tensor:
    """Apply A'w to an output, which is overwritten: the weight gradient of the convolution."""
    if example.weight is not None:
        values.mul_(example.weight)
    weight: Tensor = grad.conv2d_weight(example.key, list(shape), values, padding=1)
    return weight
