"""Choose where torch computes: the device that was chosen, or the first that works."""

from __future__ import annotations

import torch

from napari_fossiledit.errors import FossilError
from napari_fossiledit.params.segment import Device


def pick_device(wish: Device | str = Device.AUTO) -> torch.device:
    """Return a device that was tried and works.

    ``auto`` takes CUDA, then Apple's MPS, then the CPU, each only if a small convolution runs on
    it; a driver that is present but broken thus falls back instead of failing in mid-training.

    Raises
    ------
    FossilError
        Where a device was asked for by name and does not work.
    """
    device = Device(wish)
    if device is Device.AUTO:
        usable = (d for d in (Device.CUDA, Device.MPS) if _works(d))
        return torch.device(next(usable, Device.CPU))
    if not _works(device):
        raise FossilError(
            f"The device {device} cannot be used",
            expected="a device that torch can compute on",
            found=f"torch {torch.__version__} without a working {device}",
            advice="Choose auto or cpu.",
        )
    return torch.device(device)


def _works(device: Device) -> bool:
    if device is Device.CPU:
        return True
    backend = torch.cuda if device is Device.CUDA else torch.backends.mps
    return bool(backend.is_available()) and _computes(device)


def _computes(device: Device) -> bool:
    """Return whether a convolution runs there: a broken driver is available all the same."""
    try:
        one = torch.ones(1, 1, 3, 3, device=device)
        return bool(torch.nn.functional.conv2d(one, one).item() == one.numel())
    # A build without CUDA raises an AssertionError, a missing operation a NotImplementedError.
    except (RuntimeError, NotImplementedError, AssertionError):
        return False
