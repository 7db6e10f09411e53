"""Which model a user means, and under which name its predictions are kept."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.places import SHIPPED, shipped_models
from napari_fossiledit.params.segment import Device, PredictParams
from napari_fossiledit.project import Project

if TYPE_CHECKING:
    from napari_fossiledit.models.maskrcnn import MaskRcnnSegmenter


@dataclass(frozen=True)
class ModelRef:
    """A model on disk.

    Attributes
    ----------
    name
        What its predictions are called.
    folder
        Folder with ``model.json`` and the weights.
    """

    name: str
    folder: Path

    @property
    def model_hash(self) -> str:
        """Digest of the model, read from its record without loading the weights."""
        from napari_fossiledit.models.registry import read_record

        return read_record(self.folder).model_hash

    def load(self, device: Device = Device.AUTO) -> MaskRcnnSegmenter:
        """Load the model to a device; torch is imported here and not before."""
        from napari_fossiledit.models.devices import pick_device
        from napari_fossiledit.models.registry import load_model

        return load_model(self.folder, pick_device(device))


def find_model(project: Project | None, text: str) -> ModelRef:
    """Find a model by its name in the project, as a shipped one, or as a folder or file.

    Raises
    ------
    FossilError
        Where there is no such model.
    """
    if project is not None and text in project.models():
        return ModelRef(text, project.model_folder(text))
    if text in shipped_models():
        return ModelRef(text, SHIPPED / text)
    path = Path(text)
    if text and path.exists():
        folder = path if path.is_dir() else path.parent
        return ModelRef(folder.resolve().name, folder)
    names = [*(project.models() if project is not None else []), *shipped_models()]
    raise FossilError(
        f"There is no model {text!r}",
        expected=f"one of {', '.join(names)}, or a model folder",
        advice="Train one first, or use the shipped reef-lite.",
    )


def prediction_source(ref: ModelRef, model_hash: str, params: PredictParams) -> str:
    """Name the predictions of one model with one choice of options in the ledger.

    Other weights or options give another name, so that stored predictions never change.
    """
    options = f"{model_hash}:{params.tiles}:{params.max_detections}:{params.score_floor}"
    return f"model:{ref.name}:{hashlib.sha256(options.encode()).hexdigest()[:12]}"
