"""Parameters of bringing traced slices in and out, and of correcting them by hand."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import Field

from napari_fossiledit.params.base import Params


class OutlinePart(StrEnum):
    """What the masks of a file cover; ``auto`` reads it from the file."""

    AUTO = "auto"
    BODY = "body"
    CAVITY = "cavity"


class ImportParams(Params):
    """How a file with traced slices is read."""

    file: Path = Field(
        description="COCO (.json), label images (folder, .tif, .png), outlines (.mat)."
    )
    class_name: str = Field(
        "",
        description="Import only this class; where the file has no class of that name, assign it.",
    )
    slices: str = Field(
        "",
        description="Slices to import, e.g. 0,2,4-9; images that no name matches are laid on them.",
    )
    texture: str = Field("", description="Texture of the instances where the file tells none.")
    unsure: bool = Field(False, description="Mark all as unsure: they count for nothing.")
    part: OutlinePart = Field(OutlinePart.AUTO, description="What the masks of the file cover.")


class ExportParams(Params):
    """Which instances are written to a COCO file."""

    file: Path = Field(description="COCO file to write.")
    source: str = Field(
        "annotations", description="annotations, labels, or the name of a prediction's source."
    )
    slices: str = Field("all", description="Slices to export, e.g. 0,2,4-9.")
    class_name: str = Field("", description="Export only this class; empty: all.")
    score: float = Field(0.0, ge=0, le=1, description="Score threshold of predictions.")


class FillParams(Params):
    """Which instances are copied into the user's set, to be corrected there."""

    source: str = Field(
        "", description="Source, or name of a model; empty: predictions of the model in use."
    )
    slices: str = Field("all", description="Slices to take over, e.g. 0,2,4-9.")
    class_name: str = Field("", description="Take over only this class; empty: all.")
    score: float = Field(0.5, ge=0, le=1, description="Score threshold of predictions.")
    overwrite: bool = Field(
        False, description="Replace what the slices hold; they are then not traced any more."
    )


class TraceParams(Params):
    """Which slices or parts of them are annotated completely."""

    slices: str = Field("", description="Slices that are completely traced, e.g. 0,2,4-9.")
    region: str = Field("", description="Part that is completely traced, x0:x1,y0:y1; empty: all.")


class UntraceParams(Params):
    """Which slices are not annotated completely after all."""

    slices: str = Field("", description="Slices that are not traced, e.g. 0,2,4-9.")


class HistoryParams(Params):
    """How much of the history of the annotations is listed."""

    limit: int = Field(20, ge=1, le=10_000, description="Most actions to list, newest first.")
