"""Open checkpoints of detectron2 without running what is in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained
from napari_fossiledit.models.detectron2.restricted_pickle import (
    UNREADABLE,
    forbidden,
    in_short,
    read_pickle,
)
from napari_fossiledit.models.files.places import CHECKPOINTS

OURS = "napari_fossiledit"
"""Key of a checkpoint under which we keep what detectron2 has no place for."""

_BROKEN: tuple[type[Exception], ...] = (OSError, *UNREADABLE)

# How torch names what it would not call.
_CALLED = re.compile(r"GLOBAL ([\w.]+)")


@dataclass(frozen=True)
class Checkpoint:
    """Content of a file of weights.

    Attributes
    ----------
    state
        Weights by name of the layer.
    ours
        What `write_detectron2` put beside them, if anything.
    where
        Path of the file, for messages.
    """

    state: dict[str, Tensor]
    ours: Mapping[str, Any]
    where: str


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a ``.pth`` file of torch or a ``.pkl`` file of detectron2's model zoo.

    Raises
    ------
    FossilError
        Where the file is missing, truncated, holds no weights, or code.
    """
    with explained(path, "Reading"):
        if path.is_dir() or not path.stat().st_size:
            raise _no_file(path)
    whole = read_pickle(path) if path.suffix == ".pkl" else _torch_file(path)
    content = whole if isinstance(whole, Mapping) else {}
    inner = content.get("model", whole)
    if not isinstance(inner, Mapping) or not inner:
        raise _no_weights(path, type(inner).__name__)
    state: dict[str, Tensor] = {}
    for name, value in inner.items():
        if isinstance(value, Tensor):
            state[str(name)] = value
        elif isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "fiub":
            state[str(name)] = torch.from_numpy(np.array(value, order="C"))
        else:
            raise _no_weights(path, f"{name}: {type(value).__name__}")
    ours = content.get(OURS)
    return Checkpoint(state, ours if isinstance(ours, Mapping) else {}, str(path))


def _no_file(path: Path) -> FossilError:
    """Build the error for a folder, naming what to choose in it, or for an empty file."""
    expected = f"a checkpoint file ({' or '.join(CHECKPOINTS)})"
    if not path.is_dir():
        advice = "It may be truncated: copy it again."
        return FossilError(
            f"{path} cannot be read", expected=expected, found="0 bytes", advice=advice
        )
    files = sorted(p.name for p in path.iterdir() if p.suffix in CHECKPOINTS)
    return FossilError(
        f"{path} cannot be read: it is a folder",
        expected=expected,
        found=f"a folder with {', '.join(files[:5]) or 'no such file'}",
        advice="Choose the file itself.",
    )


def _torch_file(path: Path) -> Any:
    """Read a torch file without running any code that may be in it."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except _BROKEN as error:
        called = _CALLED.search(str(error))
        if called:
            raise forbidden(path, f"a call of {called[1]}") from error
        # torch's advice to run what is in the file is not passed on.
        text = str(error).rpartition("WeightsUnpickler error: ")[2].strip()
        line = in_short(text.splitlines()[0]) if text else type(error).__name__
        raise FossilError(
            f"{path} cannot be read",
            expected="a torch file that holds weights only",
            found=f"{path.stat().st_size} bytes ({line})",
            advice="It may be truncated: copy it again, or save the state dictionary alone.",
        ) from error


def _no_weights(path: Path, found: str) -> FossilError:
    return FossilError(
        f"{path} holds no state dictionary",
        expected="names of layers with their weights",
        found=found,
        advice="Choose a checkpoint of detectron2 or torchvision.",
    )
