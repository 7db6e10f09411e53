"""Solve one level of the pyramid with any solver, with or without a limit of the rank.

An edit of low rank moves in the directions of the keys that it is about, and in no other. The keys'
channels are whitened with their second moment S (ZCA), the directions in which the whitened keys of
the edit are largest are found and mapped back by S^-1/2 (Santurkar et al. 2021, section 3; Bau et
al. 2020, section 3.3). A key counts by how much its output has to change, so the directions are
those of what the edit is about. The problem is then solved in them alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from napari_fossiledit.editing.adam import descend
from napari_fossiledit.editing.direct import Factor, LeastDeviations, loss, ridge
from napari_fossiledit.editing.examples import Example, residual_alone
from napari_fossiledit.editing.system import accumulate
from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.params.editing import SolveParams, Solver
from napari_fossiledit.progress import Job

Curve = list[tuple[int, float]]

_FLOOR = 1e-5
"""Share of the largest second moment that smaller ones are raised to before they are whitened."""


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
        solved = _descended(examples, weight, bias, params, job)
    else:
        if keep is not None and turn is not None:
            # C in the directions that the edit may use.
            wide = torch.kron(turn.double().cpu().contiguous(), torch.eye(9, dtype=torch.float64))
            keep = wide.T @ keep @ wide
        solved = _direct(examples, keep, params, job)
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
    bias = None if bias is None else bias.detach()
    descent = descend(examples, weight, bias, params, job=job)
    if descent.cancelled and not (params.keep_partial and descent.curve):
        job.check("The edit")
    delta = descent.weight - weight
    return Solved(delta, before, loss(examples, delta), descent.curve, descent.cancelled)


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
    # ADMM holds three maps of every slice: what is not needed any more makes room.
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


# ------------------------------------------------------------------------ low rank


def directions(examples: Sequence[Example], rank: int) -> Tensor:
    """Find the main directions of the keys of an edit.

    Parameters
    ----------
    rank
        How many, at most as many as there are channels.

    Returns
    -------
    Tensor
        (C, rank) float32 with orthonormal columns.

    Raises
    ------
    FossilError
        Where the keys have fewer channels.
    """
    channels = examples[0].key.shape[1]
    if rank > channels:
        raise FossilError(
            "The rank of the edit is too large", expected=f"at most {channels} channels", found=rank
        )
    every = _moment(examples, weighted=False)
    values, vectors = torch.linalg.eigh(every)
    floor = _FLOOR * values[-1].clamp_min(1e-30)
    half = (vectors / values.clamp_min(floor).sqrt()) @ vectors.T
    changed = half @ _moment(examples, weighted=True) @ half
    top = torch.linalg.eigh(changed)[1][:, -rank:]
    basis: Tensor = torch.linalg.qr(half @ top)[0]
    return basis.float()


def _moment(examples: Sequence[Example], *, weighted: bool) -> Tensor:
    """Compute the second moment of the keys over channels, (C, C) float64 on the CPU."""
    channels = examples[0].key.shape[1]
    total = torch.zeros(channels, channels, dtype=torch.float64)
    for example in examples:
        keys = example.key[0].flatten(1)
        other = keys
        if weighted:
            size = example.residual[0].abs().mean(0)
            if example.weight is not None:
                size = size * example.weight[0, 0]
            other = keys * size.flatten()
        total += (other @ keys.T).cpu()
    return (total + total.T) / 2


def reduced(example: Example, turn: Tensor) -> Example:
    """Express the keys in `turn` (C, rank), and ask for the change of the output alone."""
    key = torch.einsum("bcyx,cr->bryx", example.key, turn.to(example.key.device))
    return replace(residual_alone(example), key=key)


def expanded(delta: Tensor, turn: Tensor) -> Tensor:
    """Turn weights over directions (O, rank, 3, 3) into weights over channels (O, C, 3, 3)."""
    return torch.einsum("oryx,cr->ocyx", delta, turn.to(delta.device))
