"""A device is used only if it works."""

from __future__ import annotations

import pytest
import torch

from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.inference import devices
from napari_fossiledit.models.inference.devices import pick_device


@pytest.fixture
def present(monkeypatch):
    """Let CUDA and MPS claim to be there; tell which of them compute."""
    working: set[str] = set()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(devices, "_computes", lambda device: str(device) in working)
    return working


@pytest.mark.parametrize(
    ("working", "wanted"),
    [(set(), "cpu"), ({"mps"}, "mps"), ({"cuda"}, "cuda"), ({"cuda", "mps"}, "cuda")],
)
def test_automatic_choice_falls_back(present, working, wanted):
    present |= working
    assert pick_device("auto").type == wanted


def test_named_device_that_does_not_work_is_an_error(present):
    with pytest.raises(FossilError, match=r"The device cuda cannot be used.*auto or cpu"):
        pick_device("cuda")
    present.add("cuda")
    assert pick_device("cuda").type == "cuda"


def test_broken_driver_is_noticed(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def broken(*_, **__):
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(torch, "ones", broken)
    assert pick_device("auto").type == "cpu"


def test_the_cpu_computes():
    assert devices._computes("cpu")
    assert pick_device("cpu") == torch.device("cpu")
