"""Recognise that memory ran out, on any device."""

from __future__ import annotations

import psutil
import torch

from napari_fossiledit.errors import FossilError

SMALLEST_BLOCK = 64
"""Positions below which a block is not halved any more."""

_SIGNS = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on the CPU or on a GPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(sign in str(error).lower() for sign in _SIGNS)


def ran_out(what: str) -> FossilError:
    """Return the error to raise where memory did not suffice even for `what`."""
    return FossilError(
        f"The memory does not suffice for {what}",
        advice="Close other programs, edit fewer slices or levels at once, or choose device cpu.",
    )


_FEWER = "Edit fewer slices or levels at once, or close other programs."


def require_memory(need: int, what: str, device: torch.device, advice: str = _FEWER) -> int:
    """Raise where something would not fit into the free memory of the computer.

    Parameters
    ----------
    need
        Bytes.
    device
        Only that of the CPU is checked: on others smaller blocks are tried where it runs out.

    Returns
    -------
    int
        `need`.

    Raises
    ------
    FossilError
        Where less is free.
    """
    free = psutil.virtual_memory().available
    if device.type == "cpu" and need > free:
        raise FossilError(
            f"The memory does not suffice for {what}",
            expected=f"{need / 2**30:.1f} GB free",
            found=f"{free / 2**30:.1f} GB",
            advice=advice,
        )
    return need
