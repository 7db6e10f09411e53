"""Solving one level: whichever solver, with or without a limit of the rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from napari_fossiledit.editing.adam import descend
from napari_fossiledit.editing.direct import Factor, LeastDeviations, loss, ridge
from napari_fossiledit.editing.examples import Example
from napari_fossiledit.editing.lowrank import directions, expanded, reduced
from napari_fossiledit.editing.system import accumulate
from napari_fossiledit.errors import CancelledError
from napari_fossiledit.params.editing import SolveParams, Solver
from napari_fossiledit.progress import Job

Curve = list[tuple[int, float]]


@dataclass(frozen=True)
class Solved:
    """Weights to add to one level.

    Attributes
    ----------
    delta
        (O, C, 3, 3) float32 on the CPU.
    before, after
        Weighted mean absolute deviation without and with them.
    curve
        (step, loss) pairs, without an edit at step 0; step 1 of the direct solvers is ridge.
    cancelled
        Whether it was broken off, and these are the best weights up to then.
    """

    delta: Tensor
    before: float
    after: float
    curve: Curve
    cancelled: bool = False


def solve_level(
    layer: nn.Conv2d,
    examples: Sequence[Example],
    keep: Tensor | None,
    params: SolveParams,
    job: Job,
) -> Solved:
    """Solve one level.

    Parameters
    ----------
    layer
        Its convolution; it is not changed.
    keep
        C, the Gram matrix of the keys whose output should stay; None: the weights are held.

    Raises
    ------
    FossilError
        Where the rank is larger than there are channels, or memory does not suffice.
    CancelledError
        Where it is cancelled and ``keep_partial`` is off, or nothing has been found yet.
    """
    weight, bias = layer.weight.detach(), layer.bias
    turn = directions(examples, params.rank) if params.rank else None
    if turn is not None:
        examples = [reduced(e, turn) for e in examples]
        weight, bias = weight.new_zeros(len(weight), params.rank, 3, 3), None
    if params.solver is Solver.ADAM:
        bias = None if bias is None else bias.detach()
        solved = _descended(examples, weight, bias, params, job)
    else:
        solved = _direct(examples, _hold(keep, turn), params, job)
    whole = solved.delta if turn is None else expanded(solved.delta, turn)
    return replace(solved, delta=whole.cpu())


def _descended(
    examples: Sequence[Example],
    weight: Tensor,
    bias: Tensor | None,
    params: SolveParams,
    job: Job,
) -> Solved:
    before = loss(examples, None)
    found = descend(examples, weight, bias, params, job=job)
    if found.cancelled and not (params.keep_partial and found.curve):
        job.check("The edit")
    delta = found.weight - weight
    return Solved(delta, before, loss(examples, delta), found.curve, found.cancelled)


def _direct(
    examples: Sequence[Example], keep: Tensor | None, params: SolveParams, job: Job
) -> Solved:
    before = loss(examples, None)
    inputs, outputs = examples[0].key.shape[1], examples[0].target.shape[1]
    system = accumulate(examples, inputs, outputs, params.block, job.cancelled)
    held = torch.eye(len(system.gram), dtype=torch.float64) if keep is None else keep
    factor = Factor.of(system.gram, held, params.pull)
    start = ridge(system, factor)
    if params.solver is Solver.RIDGE:
        after = loss(examples, start)
        return Solved(start, before, after, [(0, before), (1, after)])
    del system, held
    solver, cancelled = LeastDeviations(examples, factor, start), False
    try:
        solver.run(params.iterations, job=job)
    except CancelledError:
        if not params.keep_partial:
            raise
        cancelled = True
    curve = [(0, before), *((step + 1, value) for step, value in solver.curve)]
    return Solved(solver.best, before, solver.best_loss, curve, cancelled)


def _hold(keep: Tensor | None, turn: Tensor | None) -> Tensor | None:
    """C in the directions that an edit may use."""
    if keep is None or turn is None:
        return keep
    wide = torch.kron(turn.double().cpu().contiguous(), torch.eye(9, dtype=torch.float64))
    return wide.T @ keep @ wide
