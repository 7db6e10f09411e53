"""Files of detectron2: a checkpoint with the weights, opened without running what is in it."""

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
from napari_fossiledit.models.detectron2.restricted_pickle import forbidden, read_pickle
from napari_fossiledit.models.detectron2.unreadable import UNREADABLE, in_short
from napari_fossiledit.models.files.places import CHECKPOINTS

OURS = "napari_fossiledit"
"""Key of a checkpoint under which we keep what detectron2 has no place for."""

_BROKEN: tuple[type[Exception], ...] = (OSError, *UNREADABLE)

# How torch names what it would not call.
_CALLED = re.compile(r"GLOBAL ([\w.]+)")


@dataclass(frozen=True)
class Checkpoint:
    """What a file of weights holds.

    Attributes
    ----------
    state
        Weights by name of the layer.
    ours
        What `detectron2_write` put beside them, if anything.
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
    found = read_pickle(path) if path.suffix == ".pkl" else _torch_file(path)
    content = found if isinstance(found, Mapping) else {}
    inner = content.get("model", found)
    if not isinstance(inner, Mapping) or not inner:
        raise _no_weights(path, type(inner).__name__)
    ours = content.get(OURS)
    return Checkpoint(_tensors(inner, path), ours if isinstance(ours, Mapping) else {}, str(path))


def _no_file(path: Path) -> FossilError:
    """Make the error for a folder, naming what to choose in it, or for an empty file."""
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
        raise FossilError(
            f"{path} cannot be read",
            expected="a torch file that holds weights only",
            found=f"{path.stat().st_size} bytes ({_first_line(error)})",
            advice="It may be truncated: copy it again, or save the state dictionary alone.",
        ) from error


def _first_line(error: Exception) -> str:
    """Shorten what torch says; its advice to run what is in the file is not passed on."""
    text = str(error).rpartition("WeightsUnpickler error: ")[2].strip()
    return in_short(text.splitlines()[0]) if text else type(error).__name__


def _tensors(values: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    """Turn arrays into tensors; refuse anything that is neither."""
    out: dict[str, Tensor] = {}
    for name, value in values.items():
        tensor = _tensor(value)
        if tensor is None:
            raise _no_weights(path, f"{name}: {type(value).__name__}")
        out[str(name)] = tensor
    return out


def _tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "fiub":
        return torch.from_numpy(np.array(value, order="C"))
    return None


def _no_weights(path: Path, found: str) -> FossilError:
    return FossilError(
        f"{path} holds no state dictionary",
        expected="names of layers with their weights",
        found=found,
        advice="Choose a checkpoint of detectron2 or torchvision.",
    )
