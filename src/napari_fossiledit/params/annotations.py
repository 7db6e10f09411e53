"""Parameters of bringing traced slices in and out, and of correcting them by hand."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import Field

from napari_fossiledit.params.base import Params


class OutlinePart(StrEnum):
    """Extent of the masks of a file; ``auto`` reads it from the file."""

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
    texture: str = Field("", description="Texture of the instances where the file has none.")
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
    """Which instances are painted into the labels that are corrected by hand."""

    source: str = Field("annotations", description="annotations, or the source of predictions.")
    slices: str = Field("all", description="Slices to fill, e.g. 0,2,4-9.")
    class_name: str = Field("", description="Fill in only this class; empty: all.")
    score: float = Field(0.5, ge=0, le=1, description="Score threshold of predictions.")
    overwrite: bool = Field(False, description="Fill slices again that already hold labels.")


class TraceParams(Params):
    """Which corrected slices become annotations."""

    slices: str = Field("", description="Slices that are completely traced, e.g. 0,2,4-9.")
    region: str = Field("", description="Part that is completely traced, x0:x1,y0:y1; empty: all.")
