"""Load and save models by path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained, read_json, write_json, write_whole
from napari_fossiledit.models.files.checkpoint import (
    ModelRecord,
    from_bytes,
    parse_record,
    to_bytes,
)
from napari_fossiledit.models.files.places import RECORD, WEIGHTS
from napari_fossiledit.models.inference.devices import pick_device
from napari_fossiledit.models.inference.protocol import Segmenter
from napari_fossiledit.params.segment import Device


def save_model(
    segmenter: Segmenter,
    folder: Path,
    *,
    half: bool = False,
    training: dict[str, Any] | None = None,
) -> ModelRecord:
    """Write ``weights.safetensors`` and then ``model.json`` into `folder`, each in one step."""
    weights, record = to_bytes(segmenter, half=half, training=training)
    write_whole(folder / WEIGHTS, weights)
    write_json(folder / RECORD, record.model_dump(mode="json"))
    return record


def read_record(folder: Path) -> ModelRecord:
    """Read ``model.json`` alone, without the weights."""
    path = folder / RECORD
    if not path.is_file():
        found = "no such folder"
        if folder.exists():
            names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else ["a file"]
            found = ", ".join(names[:5]) or "an empty folder"
        raise FossilError(
            f"{folder} holds no model",
            expected=f"{RECORD} and {WEIGHTS}",
            found=found,
            advice="Choose a model folder, or train one.",
        )
    return parse_record(read_json(path, "the record of a model"), str(path))


def load_model(path: Path, device: Device | str | torch.device = Device.AUTO) -> Segmenter:
    """Load a model from its folder or from one of its two files.

    Raises
    ------
    FossilError
        Where a file is missing, truncated, of another architecture or damaged.
    """
    folder = path.parent if path.name in (WEIGHTS, RECORD) else path
    record = read_record(folder)
    weights = folder / WEIGHTS
    with explained(weights, "Reading"):
        data = weights.read_bytes()
    where = device if isinstance(device, torch.device) else pick_device(device)
    return from_bytes(data, record, str(weights), where)
