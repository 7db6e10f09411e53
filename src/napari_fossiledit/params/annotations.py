"""Parameters of bringing traced slices in and out, and of correcting them by hand."""

from __future__ import annotations

import unicodedata
from enum import StrEnum
from pathlib import Path

from pydantic import Field, field_validator

from napari_fossiledit.files import PLAIN_NAME, is_plain
from napari_fossiledit.params.base import MaskCut, Params
from napari_fossiledit.params.reconstruct import BEST_KNOWN


class OutlinePart(StrEnum):
    """Extent of the masks of a file; ``auto`` reads it from the file."""

    AUTO = "auto"
    BODY = "body"
    CAVITY = "cavity"


class Crowd(StrEnum):
    """What an annotation of a COCO file with ``iscrowd`` 1 is."""

    INSTANCES = "instances"
    UNSURE = "unsure"


class Holes(StrEnum):
    """What a polygon inside another one of the same annotation is; ``auto``: a hole."""

    AUTO = "auto"
    FILL = "fill"


class SplitParts(StrEnum):
    """What the connected parts of a value in a label image are; ``auto`` refuses masks."""

    AUTO = "auto"
    YES = "yes"
    NO = "no"


class Layout(StrEnum):
    """What a ``.json`` file is written for."""

    COCO = "coco"
    POLYGONS = "coco-polygons"
    LABEL_STUDIO = "label-studio"


class ImportParams(Params):
    """How a file with traced slices is read."""

    file: Path = Field(
        description="COCO or Label Studio (.json), label images (folder, .tif, .png, OME-Zarr), "
        "outlines (.mat)."
    )
    class_name: str = Field(
        "",
        description="Import only this class, or assign it where the file has a single other one; "
        "NEW=OLD imports the class OLD of the file as NEW.",
    )
    slices: str = Field(
        "",
        description="Slices to import, e.g. 0,2,4-9; images that no name matches are laid on them "
        "in the order given.",
    )
    texture: str = Field("", description="Texture of the instances where the file has none.")
    unsure: bool = Field(False, description="Mark all as unsure: they count for nothing.")
    part: OutlinePart = Field(OutlinePart.AUTO, description="What the masks of the file cover.")
    crowd: Crowd = Field(
        Crowd.INSTANCES,
        description="What COCO annotations with iscrowd 1 are: single instances, as CVAT writes "
        "painted masks, or crowds, which become unsure.",
    )
    holes: Holes = Field(
        Holes.AUTO,
        description="Polygons inside another one of their annotation: auto cuts holes, fill fills "
        "them.",
    )

    scale: bool = Field(
        False,
        description="Scale what was drawn on smaller or larger copies of the photographs, of the "
        "same proportions; else they are left out.",
    )
    replace_reviewed: bool = Field(
        False, description="Also replace masks that a person has found right."
    )
    split_parts: SplitParts = Field(
        SplitParts.AUTO,
        description="Label images: yes makes an instance of each connected part, no of each value; "
        "auto is no, but refuses masks of all fossils in one value.",
    )

    @field_validator("class_name")
    @classmethod
    def _readable(cls, value: str) -> str:
        """Return the text in the Unicode form of classes read from files."""
        new, equals, old = (part.strip() for part in value.partition("="))
        if equals and not (new and old):
            raise ValueError("a class, or NEW=OLD")
        if new and not is_plain(new):
            raise ValueError(f"{PLAIN_NAME}; NEW=OLD reads a class of another name")
        return unicodedata.normalize("NFC", value)

    @property
    def new_class(self) -> str:
        """The class that instances get, empty where the file decides."""
        return self.class_name.partition("=")[0].strip()

    @property
    def old_class(self) -> str:
        """The class of the file that is read under another name, empty for none."""
        return self.class_name.partition("=")[2].strip()


class ExportParams(Params):
    """Which instances are written to a COCO file or a label volume."""

    file: Path = Field(
        description="COCO file (.json) or label volume (.tif, .zarr, .nrrd, .nii.gz) to write."
    )
    source: str = Field(
        BEST_KNOWN,
        description="best-known (annotations where a slice has any, predictions of the model in"
        " use elsewhere), annotations, or the name of a model.",
    )
    slices: str = Field("all", description="Slices to export, e.g. 0,2,4-9.")
    class_name: str = Field("", description="Export only this class; empty: all.")
    score: float = Field(0.0, ge=0, le=1, description="Score threshold of predictions.")
    mask_cut: MaskCut = 0.5
    layout: Layout = Field(
        Layout.COCO,
        description="What a .json file is for: coco has run lengths, for CVAT and most programs; "
        "coco-polygons has outlines, for COCO Annotator; label-studio has tasks for Label Studio.",
    )
    check: bool = Field(
        True, description="Read the file back, and tell what of each instance it does not hold."
    )


class FillParams(Params):
    """Which instances are copied into the user's set, to be corrected there."""

    source: str = Field(
        "", description="Source, or name of a model; empty: predictions of the model in use."
    )
    slices: str = Field("all", description="Slices to take over, e.g. 0,2,4-9.")
    class_name: str = Field("", description="Take over only this class; empty: all.")
    score: float = Field(0.5, ge=0, le=1, description="Score threshold of predictions.")
    mask_cut: MaskCut = 0.5
    overwrite: bool = Field(
        False, description="Replace what the slices hold; they are then not traced any more."
    )
    replace_reviewed: bool = Field(
        False, description="With overwrite, also replace masks that a person has found right."
    )


class TraceParams(Params):
    """Which slices or parts of them are annotated completely."""

    slices: str = Field("", description="Slices that are completely traced, e.g. 0,2,4-9.")
    region: str = Field("", description="Part that is completely traced, x0:x1,y0:y1; empty: all.")


class UntraceParams(Params):
    """Which slices are not annotated completely after all."""

    slices: str = Field("", description="Slices that are not traced, e.g. 0,2,4-9.")
