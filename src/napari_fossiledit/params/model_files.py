"""Parameters of bringing models in and out."""

from __future__ import annotations

from pydantic import Field

from napari_fossiledit.params.base import Params


class ImportModelParams(Params):
    """How a checkpoint of detectron2 becomes a model of the project."""

    name: str = Field(
        "", max_length=64, description="Name of the new model; empty: that of the file."
    )
    classes: str = Field(
        "",
        description="Which class is which, in the model's order, - for those to leave out, "
        "e.g. archaeocyathid,- or 0=archaeocyathid.",
    )
    config: str = Field(
        "",
        description="Its configuration (.yaml); empty: config.yaml beside it, or the usual one.",
    )
    scale: float = Field(
        0.0,
        ge=0,
        le=4,
        description="Network pixels per pixel of this stack; 0: slices are resized as the "
        "configuration says, whatever their size.",
    )


class ExportModelParams(Params):
    """What a configuration for detectron2 says beside the model."""

    score: float = Field(0.0, ge=0, le=1, description="Least score of a detection; 0 keeps all.")
    max_detections: int = Field(100, ge=1, le=2000, description="Most detections of a slice.")
