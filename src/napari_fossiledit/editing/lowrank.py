"""Edits of low rank: in the directions of the keys that an edit is about, and in no other.

The keys' channels are whitened with their second moment S (ZCA), the directions in which the
whitened keys of the edit are largest are found and mapped back by S^-1/2 (Santurkar et al. 2021,
section 3; Bau et al. 2020, section 3.3). A key counts by how much its output has to change, so the
directions are those of what the edit is about. The problem is then solved in them alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from napari_fossiledit.editing.examples import Example, residual_alone
from napari_fossiledit.errors import FossilError

_FLOOR = 1e-5


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
    """Second moment of the keys over channels, (C, C) float64 on the CPU."""
    channels = examples[0].key.shape[1]
    total = torch.zeros(channels, channels, dtype=torch.float64)
    for example in examples:
        keys = example.key[0].flatten(1)
        other = keys * _importance(example) if weighted else keys
        total += (other @ keys.T).cpu()
    return (total + total.T) / 2


def _importance(example: Example) -> Tensor:
    size = example.residual[0].abs().mean(0)
    if example.weight is not None:
        size = size * example.weight[0, 0]
    return size.flatten()


def reduced(example: Example, turn: Tensor) -> Example:
    """Express the keys in `turn` (C, rank), and ask for the change of the output alone."""
    key = torch.einsum("bcyx,cr->bryx", example.key, turn.to(example.key.device))
    return replace(residual_alone(example), key=key)


def expanded(delta: Tensor, turn: Tensor) -> Tensor:
    """Turn weights over directions (O, rank, 3, 3) into weights over channels (O, C, 3, 3)."""
    return torch.einsum("oryx,cr->ocyx", delta, turn.to(delta.device))
